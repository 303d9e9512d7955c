#!/usr/bin/env bash
# All tests: test.sh [full]. One normal build, one with the address and undefined sanitizers, one with the thread sanitizer over
# net, node and client, and the fuzz targets. Stops at the first part that fails.
set -euo pipefail
cd "$(dirname "$0")/.."

full=${1:-}
model=$(tools/model.sh)
jobs=$(getconf _NPROCESSORS_ONLN)
export CTEST_OUTPUT_ON_FAILURE=1
started=$SECONDS

part() { # NAME FOLDER "CMAKE OPTIONS" CTEST_ARGS...
  local name=$1 folder=$2 options=$3
  shift 3
  printf '== %s (%d s so far)\n' "$name" $((SECONDS - started))
  # shellcheck disable=SC2086
  tools/build.sh "$folder" -DCOROLLA_TESTS=ON -DCOROLLA_WERROR=ON -DCOROLLA_TEST_MODEL="$model" $options
  ctest --test-dir "$folder" --no-tests=error "$@"
}

seconds=8
[ -z "$full" ] || seconds=300
part "tests" build-test "" -j "$jobs"
part "address and undefined sanitizers" build-asan "-DCOROLLA_SANITIZE=address" -L 'unit|parity|e2e' -j "$jobs"
part "thread sanitizer" build-tsan "-DCOROLLA_SANITIZE=thread" -R 'test_(net|node|remote|session|identity)' -j "$jobs"
part "fuzzing" build-fuzz "-DCOROLLA_FUZZ=ON -DCMAKE_C_COMPILER=clang -DCMAKE_CXX_COMPILER=clang++ -DCOROLLA_FUZZ_SECONDS=$seconds" -L fuzz -j "$jobs"
printf '== all tests passed in %d s\n' $((SECONDS - started))
