# A thin front for people: CMake builds, tools/ fetches. Everything here asks no question and says what it does.
#
#   make               install what is missing, build build/corolla and build/libcorolla.so
#   make run           the main job: a real model through three servers on this machine
#                      make run PROMPT="..." SERVERS=5 MODEL=file.gguf
#   make demo-kill     a server dies in mid-answer, and the answer goes on
#   make test          everything that must hold, within 15 minutes beside the engine's build
#   make test-full     the same with the slow campaigns
#   make test-kill     every server of a chain killed at every position of an answer, of which make test has a sample
#   make bench         the benchmarks, small; make bench FULL=1 for the figures of bench/RESULTS.md
#   make soak          clients generate while servers are killed and started at random, for MINUTES=30
#   make crowd         sixteen clients of mixed behaviour on a chain: long prompts, abandoners, slow readers, garbage; for MINUTES=30
#   make -s model      fetch the default model and print its path
#   make install PREFIX=DIR, make format, make tidy, make clean

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := all
.PHONY: all deps build-test run demo-kill test test-full test-kill bench soak crowd model install format tidy clean

PREFIX ?= /usr/local
SERVERS ?= 3
PROMPT ?= What is a corolla? Answer in two sentences.
MODEL ?=
MINUTES ?= 30
# As they were typed: a prompt may hold quotes and dollars, which neither make nor the shell shall read.
export RUN_MODEL := $(value MODEL)
export RUN_SERVERS := $(value SERVERS)
export RUN_PROMPT := $(value PROMPT)

all: deps
	@tools/build.sh build

deps:
	@tools/deps.sh build

model: deps
	@tools/model.sh

run: all
	@tools/run.sh "$$RUN_MODEL" "$$RUN_SERVERS" "$$RUN_PROMPT"

demo-kill: all
	@tools/demo-kill.sh "$$RUN_MODEL"

test:
	@tools/deps.sh build test
	@tools/test.sh

test-full:
	@tools/deps.sh build test
	@tools/test.sh full

build-test:
	@tools/deps.sh build test
	@tools/build.sh build-test -DCOROLLA_TESTS=ON -DCOROLLA_WERROR=ON -DCOROLLA_TEST_MODEL="$$(tools/model.sh)"

test-kill: build-test
	@COROLLA_TEST_FULL=1 ctest --test-dir build-test -R recovery/test_kill --verbose

bench: all build-test
	@for part in run fair prefix llama long many block; do python3 bench/$$part.py $(if $(FULL),,--quick) || exit 1; done
	@python3 bench/larger.py $(if $(FULL),,--quick) || [ $$? = 77 ] # it says what it lacks
	@build-test/bench_idle "$$(tools/model.sh)" $(if $(FULL),1000 30,20 1)
	@build-test/bench_link $(if $(FULL),,50)

soak: all
	@python3 bench/soak.py --minutes "$(MINUTES)"

crowd: all
	@python3 bench/crowd.py --minutes "$(MINUTES)"

install: all
	@cmake --install build --prefix "$(PREFIX)"

format:
	@tools/deps.sh style
	@git ls-files '*.c' '*.h' | xargs clang-format -i --style=file

tidy: all
	@tools/deps.sh style
	@git ls-files 'src/*.c' | xargs clang-tidy -p build --quiet

clean:
	@rm -rf build build-test build-asan build-tsan build-fuzz build-default
