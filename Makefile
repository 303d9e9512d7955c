# A thin front for people: CMake builds, tools/ fetches. Everything here asks no question and says what it does.
#
#   make               install what is missing, build build/corolla and build/libcorolla.so
#   make run           the main job: a real model through three servers on this machine
#                      make run PROMPT="..." SERVERS=5 MODEL=file.gguf
#   make test          everything that must hold, within 15 minutes beside the engine's build
#   make test-full     the same with the slow campaigns
#   make bench         the benchmarks, small; make bench FULL=1 for the figures of bench/RESULTS.md
#   make -s model      fetch the default model and print its path
#   make install PREFIX=DIR, make format, make tidy, make clean

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := all
.PHONY: all deps run test test-full bench model install format tidy clean

PREFIX ?= /usr/local
SERVERS ?= 3
PROMPT ?= What is a corolla? Answer in two sentences.
MODEL ?=

all: deps
	@tools/build.sh build

deps:
	@tools/deps.sh build

model: deps
	@tools/model.sh

run: all
	@tools/run.sh "$(MODEL)" "$(SERVERS)" "$(PROMPT)"

test:
	@tools/deps.sh build test
	@tools/test.sh

test-full:
	@tools/deps.sh build test
	@tools/test.sh full

bench: all
	@python3 bench/run.py $(if $(FULL),,--quick)

install: all
	@cmake --install build --prefix "$(PREFIX)"

format:
	@git ls-files '*.c' '*.h' | xargs clang-format -i

tidy: all
	@git ls-files 'src/*.c' | xargs clang-tidy -p build --quiet

clean:
	@rm -rf build build-asan build-tsan build-fuzz
