#!/usr/bin/env bash
# Configures (once) and builds a folder: build.sh FOLDER [CMake options ...]. Prints one line when there was something to do.
set -euo pipefail
cd "$(dirname "$0")/.."

folder=$1
shift
engine=$(tools/engine.sh)
wanted="$engine $*"
# Configure again only when the engine or the options changed: a second `make run` shall answer at once.
if [ ! -f "$folder/build.ninja" ] || [ "$(cat "$folder/.options" 2>/dev/null)" != "$wanted" ]; then
  printf 'build: configuring %s\n' "$folder" >&2
  log=$(mktemp)
  cmake -S . -B "$folder" -G Ninja -DCMAKE_PREFIX_PATH="$engine" -DCOROLLA_TESTS=OFF "$@" >"$log" 2>&1 || {
    cat "$log" >&2
    rm -f "$log"
    exit 1
  }
  rm -f "$log"
  printf '%s' "$wanted" >"$folder/.options"
fi
if ninja -C "$folder" -n 2>/dev/null | grep -q 'no work to do'; then exit 0; fi
printf 'build: compiling %s\n' "$folder" >&2
log=$(mktemp)
trap 'rm -f "$log"' EXIT
ninja -C "$folder" >"$log" 2>&1 || {
  grep -v '^\[' "$log" | head -n 60 >&2
  exit 1
}
