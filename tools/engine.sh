#!/usr/bin/env bash
# Finds or builds the tensor engine (ggml + libllama) and prints the prefix that CMake shall look in.
#
# COROLLA_ENGINE=DIR names an installed pair. Otherwise pip builds the pinned source package into the user's cache,
# in a folder keyed by version, hash and flags: a change of any of them rebuilds, a fresh clone does not. The build
# goes to a temporary folder that is renamed at the very end, so an interrupted build leaves nothing half-made.
# Messages go to stderr; stdout carries the prefix only.
set -euo pipefail

package=llama-cpp-python
version=0.3.36
sha256=832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e
# LLAMAFILE and OPENMP are off because they break exactness (docs/ARCHITECTURE.md, "Exactness").
flags="-DGGML_NATIVE=ON -DGGML_RPC=ON -DGGML_LLAMAFILE=OFF -DGGML_OPENMP=OFF -DLLAVA_BUILD=OFF ${COROLLA_ENGINE_FLAGS:-}"

say() { printf 'engine: %s\n' "$*" >&2; }

if [ -n "${COROLLA_ENGINE:-}" ]; then
  [ -f "$COROLLA_ENGINE/include/ggml.h" ] || {
    say "COROLLA_ENGINE=$COROLLA_ENGINE holds no include/ggml.h; name an installed prefix of ggml and libllama"
    exit 1
  }
  printf '%s\n' "$COROLLA_ENGINE"
  exit 0
fi

cache="${COROLLA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/corolla}/engine"
# Native code is for the processor that built it, so its features are part of the key as well.
cpu=$( (grep -m1 -E '^(flags|Features)' /proc/cpuinfo 2>/dev/null || sysctl -n machdep.cpu.features hw.optional 2>/dev/null || uname -m) | sort -u)
key="$version-$(printf '%s|%s|%s' "$sha256" "$flags" "$cpu" | sha256sum | cut -c1-16)"
prefix="$cache/$key"
mkdir -p "$cache"

exec 9>"$cache/lock"
flock -n 9 || { say "another build is running, waiting for it"; flock 9; }
if [ -f "$prefix/include/ggml.h" ]; then
  printf '%s\n' "$prefix"
  exit 0
fi

work="$cache/.building-$key"
rm -rf "$work"
mkdir -p "$work"
trap 'rm -rf "$work"' EXIT
printf '%s==%s --hash=sha256:%s\n' "$package" "$version" "$sha256" >"$work/requirements.txt"
say "building ggml and libllama from the pinned package (about 5 minutes on 2 cores, once per machine)"
log="$cache/build.log"
CMAKE_ARGS="$flags" python3 -m pip install --no-deps --no-binary "$package" --no-cache-dir --require-hashes \
  --disable-pip-version-check --target "$work/prefix" -r "$work/requirements.txt" >"$log" 2>&1 9>&- &
pid=$!
trap 'kill $pid 2>/dev/null || true; rm -rf "$work"' EXIT
start=$SECONDS
while kill -0 "$pid" 2>/dev/null; do
  sleep 1
  [ $(((SECONDS - start) % 15)) -ne 0 ] || say "building, $((SECONDS - start)) s"
done
wait "$pid" || {
  tail -n 25 "$log" >&2
  say "the build failed; the whole log is in $log"
  exit 1
}
mv "$work/prefix" "$prefix"
say "built in $((SECONDS - start)) s"
printf '%s\n' "$prefix"
