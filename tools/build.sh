#!/usr/bin/env bash
# Configures (once) and builds a folder: build.sh FOLDER [CMake options ...]
set -euo pipefail
cd "$(dirname "$0")/.."

folder=$1
shift
engine=$(tools/engine.sh)
wanted="$engine $*"
log=$(mktemp)
trap 'rm -f "$log"' EXIT

# Configure again only when the engine or the options changed: a second `make run` shall answer at once.
if [ ! -f "$folder/build.ninja" ] || [ "$(cat "$folder/.options" 2>/dev/null)" != "$wanted" ]; then
  printf 'build: configuring %s\n' "$folder" >&2
  rm -f "$folder/CMakeCache.txt" # it remembers where the old engine was
  cmake -S . -B "$folder" -G Ninja -DCMAKE_PREFIX_PATH="$engine" -DCOROLLA_TESTS=OFF "$@" >"$log" 2>&1 || {
    cat "$log" >&2
    exit 1
  }
  printf '%s' "$wanted" >"$folder/.options"
fi
printf 'build: bringing %s up to date\n' "$folder" >&2
if [ -t 2 ]; then
  NINJA_STATUS='build: %f of %t ' ninja -C "$folder" >&2 # one line that counts up
  exit
fi
ninja -C "$folder" >"$log" 2>&1 || {
  grep -v '^\[' "$log" | head -n 60 >&2
  exit 1
}
