#!/usr/bin/env bash
# All tests: test.sh [full]. One normal build, one with the address and undefined sanitizers, one with the thread sanitizer over
# net, node and client, and the fuzz targets. A part that fails does not stop the others; the last line counts all of them.
set -euo pipefail
cd "$(dirname "$0")/.."

full=${1:-}
[ -z "$full" ] || export COROLLA_TEST_FULL=1
model=$(tools/model.sh)
tools/toxiproxy.sh >/dev/null || [ $? -eq 77 ] # without Go those tests are skipped, and say so
places=$((2 * $(getconf _NPROCESSORS_ONLN))) # two for each core (tests/CMakeLists.txt)
export CTEST_OUTPUT_ON_FAILURE=1
unset COROLLA_JOIN COROLLA_HOME # no test shall see what this user has set up
passed=0 failed=0 broken=""
# The thread sanitizer of gcc 12 does not start where the kernel shuffles addresses further than it knows.
still=""
! setarch -R true 2>/dev/null || still="setarch -R"

part() { # NAME FOLDER "CMAKE OPTIONS" CTEST_ARGS...
  local name=$1 folder=$2 options=$3 summary
  shift 3
  printf '== %s (%d s so far)\n' "$name" "$SECONDS"
  # shellcheck disable=SC2086
  if ! tools/build.sh "$folder" -DCOROLLA_TESTS=ON -DCOROLLA_WERROR=ON -DCOROLLA_TEST_MODEL="$model" $options; then
    rm -f "$folder/ctest.log"
    broken="$broken $folder"
    failed=$((failed + 1))
    return
  fi
  # shellcheck disable=SC2086
  $still ctest --test-dir "$folder" --no-tests=error "$@" 2>&1 | tee "$folder/ctest.log" || broken="$broken $folder"
  # "97% tests passed, 1 tests failed out of 38"; without that line ctest itself failed, which counts as one.
  summary=$(sed -nE 's/.*tests passed, ([0-9]+) tests failed out of ([0-9]+).*/\1 \2/p' "$folder/ctest.log")
  summary=${summary:-1 1}
  failed=$((failed + ${summary% *}))
  passed=$((passed + ${summary#* } - ${summary% *}))
}

seconds=5
# More than a minute each of waiting for timers; what they run, unit and recovery tests run as well.
slow='-E e2e/test_(lan|faults)$'
[ -z "$full" ] || { seconds=300 slow=""; }
part "tests" build-test "" -j "$places"
# shellcheck disable=SC2086
part "address and undefined sanitizers" build-asan "-DCOROLLA_SANITIZE=address" -L 'unit|parity|recovery|e2e|small' $slow -j "$places"
# test_net_stream computes much and has no threads.
part "thread sanitizer" build-tsan "-DCOROLLA_SANITIZE=thread" -R 'test_(net|node|remote|session|identity|membership|kill)' -E test_net_stream -j "$places"
part "fuzzing" build-fuzz "-DCOROLLA_FUZZ=ON -DCMAKE_C_COMPILER=clang -DCMAKE_CXX_COMPILER=clang++ -DCOROLLA_FUZZ_SECONDS=$seconds" -L fuzz -j "$places"

printf '== all parts took %d s\n' "$SECONDS"
for folder in $broken; do
  printf '== failed in %s:\n' "$folder"
  if [ -f "$folder/ctest.log" ]; then sed -n '/The following tests FAILED/,$p' "$folder/ctest.log"; else echo "it does not build, see above"; fi
done
printf '%d passed, %d failed\n' "$passed" "$failed"
[ -z "$broken" ]
