#!/usr/bin/env bash
# Finds or builds the tensor engine (ggml + libllama) and prints the prefix that CMake shall look in.
#
#   COROLLA_ENGINE=DIR      an installed pair of the user's own, of whatever version and flags
#   CMAKE_PREFIX_PATH       is searched for an installed pair of the pinned versions
#   else                    pip builds the pinned source package into the user's cache, in a folder keyed by version, hash,
#                           flags and processor: a change of any of them rebuilds, a fresh clone on the same machine does not.
#
# The build goes to a temporary folder that is renamed at the very end, so an interrupted one leaves nothing half-made.
# Messages go to stderr; stdout carries the prefix only. engine.sh --pin prints package, version, hash and flags instead, for bench/peers.sh.
set -euo pipefail

package=llama-cpp-python
version=0.3.36
sha256=832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e
ggml_version=0.25.3 # what the package brings
llama_version=0.5.0
# LLAMAFILE and OPENMP are off because they break exactness (docs/ARCHITECTURE.md, "Exactness"). The AMX kernels are left out since gcc 12 drops
# most of the tile configuration that they load (its _tile_loadconfig() names 8 of 64 bytes as input), and they crash.
flags="-DGGML_NATIVE=ON -DGGML_RPC=ON -DGGML_LLAMAFILE=OFF -DGGML_OPENMP=OFF -DLLAVA_BUILD=OFF -DCMAKE_C_FLAGS=-U__AMX_INT8__ -DCMAKE_CXX_FLAGS=-U__AMX_INT8__ ${COROLLA_ENGINE_FLAGS:-}"

say() { printf 'engine: %s\n' "$*" >&2; }
sha256_of_stdin() { if command -v sha256sum >/dev/null; then sha256sum; else shasum -a 256; fi | cut -c1-16; }

if [ "${1:-}" = --pin ]; then
  printf '%s %s %s %s\n' "$package" "$version" "$sha256" "$flags"
  exit 0
fi

if [ -n "${COROLLA_ENGINE:-}" ]; then
  [ -f "$COROLLA_ENGINE/include/ggml.h" ] || {
    say "COROLLA_ENGINE=$COROLLA_ENGINE holds no include/ggml.h; name an installed prefix of ggml and libllama"
    exit 1
  }
  printf '%s\n' "$COROLLA_ENGINE"
  exit 0
fi

IFS=: read -ra places <<<"${CMAKE_PREFIX_PATH:-}"
for place in ${places[@]+"${places[@]}"}; do
  if grep -qsF "$ggml_version" "$place"/lib*/cmake/ggml/ggml-{config,version}.cmake &&
    grep -qsF "$llama_version" "$place"/lib*/cmake/llama/llama-{config,version}.cmake; then
    printf '%s\n' "$place"
    exit 0
  fi
done

cache="${COROLLA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/corolla}/engine"
# Native code is for the processor that built it, so its features are part of the key as well.
cpu=$( (grep -m1 -E '^(flags|Features)' /proc/cpuinfo 2>/dev/null || sysctl -n machdep.cpu.features hw.optional 2>/dev/null || uname -m) | sort -u)
key="$version-$(printf '%s|%s|%s' "$sha256" "$flags" "$cpu" | sha256_of_stdin)"
prefix="$cache/$key"
found() {
  if [ -f "$prefix/include/ggml.h" ]; then
    printf '%s\n' "$prefix"
    exit 0
  fi
}
found

mkdir -p "$cache"
exec 9>"$cache/lock"
flock -n 9 || { say "another build is running, waiting for it"; flock 9; }
found

work="$cache/.building-$key"
log="$cache/build.log"
pid=""
clean_up() {
  [ -z "$pid" ] || kill -- "-$pid" 2>/dev/null || true # pip with its compilers
  rm -rf "$work"
}
trap clean_up EXIT
trap 'exit 130' INT TERM HUP
rm -rf "$work"
mkdir -p "$work"
printf '%s==%s --hash=sha256:%s\n' "$package" "$version" "$sha256" >"$work/requirements.txt"
say "building ggml and libllama from the pinned package (about 5 minutes on 2 cores, once per machine)"
set -m # a process group of its own, so that clean_up reaches the compilers too
CMAKE_ARGS="$flags" PIP_USER=0 python3 -m pip install --no-deps --no-binary "$package" --no-cache-dir --require-hashes \
  --disable-pip-version-check --target "$work/prefix" -r "$work/requirements.txt" >"$log" 2>&1 </dev/null 9>&- &
pid=$!
set +m
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
pid=""
[ -f "$work/prefix/include/ggml.h" ] || {
  say "the package was built but holds no include/ggml.h; the log is in $log"
  exit 1
}
rm -rf "$prefix"
mv "$work/prefix" "$prefix"
say "built in $((SECONDS - start)) s"
printf '%s\n' "$prefix"
