#!/usr/bin/env bash
# Builds the peers of the benchmarks, llama.cpp's own programs, from the very package of the engine, and prints their folder.
#
#   peers.sh same     with the very flags of the engine
#   peers.sh usual    as llama.cpp comes: with llamafile's kernels and OpenMP (without the AMX kernels, for the reason in tools/engine.sh)
#
# Kept in the user's cache by version, hash and flags: 10 to 15 minutes on 2 cores, once. Messages go to stderr; an interrupted build leaves
# nothing half-made.
set -euo pipefail
cd "$(dirname "$0")/.."

programs="llama-bench llama-batched-bench llama-server ggml-rpc-server llama-quantize"

say() { printf 'peers: %s\n' "$*" >&2; }

read -r package version sha256 flags < <(tools/engine.sh --pin)
case "${1:-}" in
same) ;;
usual) flags="-DGGML_NATIVE=ON -DGGML_RPC=ON -DCMAKE_C_FLAGS=-U__AMX_INT8__ -DCMAKE_CXX_FLAGS=-U__AMX_INT8__" ;;
*)
  say "usage: peers.sh same|usual"
  exit 2
  ;;
esac
cache="${COROLLA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/corolla}/peers"
prefix="$cache/$version-$(printf '%s|%s|%s' "$sha256" "$flags" "$(uname -m)" | python3 -c \
  'import hashlib, sys; print(hashlib.sha256(sys.stdin.buffer.read()).hexdigest()[:16])')"
mkdir -p "$cache"
exec 9>"$cache/lock"
flock -n 9 || { say "another build is running, waiting for it"; flock 9; }
if [ -d "$prefix" ]; then
  printf '%s\n' "$prefix"
  exit 0
fi

work="$cache/.building"
rm -rf "$work"
mkdir -p "$work"
pid=""
trap '[ -z "$pid" ] || kill -- "-$pid" 2>/dev/null || true; rm -rf "$work"' EXIT
trap 'exit 130' INT TERM HUP
log="$cache/build.log"

build() {
  printf '%s==%s --hash=sha256:%s\n' "$package" "$version" "$sha256" >"$work/requirements.txt"
  # pip asks the package for its metadata; that needs its build backend, which pip fetches into an isolated environment.
  python3 -m pip download --no-deps --no-binary "$package" --no-cache-dir --require-hashes --disable-pip-version-check \
    --dest "$work" -r "$work/requirements.txt"
  tar -xzf "$work"/*.tar.gz -C "$work"
  # shellcheck disable=SC2086
  cmake -S "$work"/*/vendor/llama.cpp -B "$work/build" -G Ninja -DCMAKE_BUILD_TYPE=Release $flags -DBUILD_SHARED_LIBS=OFF -DGGML_CCACHE=OFF \
    -DLLAMA_CURL=OFF -DLLAMA_OPENSSL=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_SERVER=ON -DLLAMA_BUILD_UI=OFF \
    -DLLAMA_BUILD_MTMD=OFF
  # shellcheck disable=SC2086
  cmake --build "$work/build" --target $programs
}

say "building llama.cpp's programs from the engine's package (once per machine)"
set -m # a process group of its own, so that the trap reaches the compilers too
build >"$log" 2>&1 </dev/null 9>&- &
pid=$!
set +m
start=$SECONDS
while kill -0 "$pid" 2>/dev/null; do
  sleep 1
  [ $(((SECONDS - start) % 30)) -ne 0 ] || say "$((SECONDS - start)) s, $(grep -oE '^\[[0-9]+/[0-9]+\]' "$log" | tail -n 1)"
done
wait "$pid" || {
  tail -n 25 "$log" >&2
  say "the build failed; the whole log is in $log"
  exit 1
}
pid=""
mkdir "$work/prefix"
for program in $programs; do cp "$work/build/bin/$program" "$work/prefix/"; done
rm -rf "$prefix"
mv "$work/prefix" "$prefix"
say "built in $((SECONDS - start)) s"
printf '%s\n' "$prefix"
