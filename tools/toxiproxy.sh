#!/usr/bin/env bash
# Finds or builds Toxiproxy, a TCP proxy that injects faults (tests/e2e/test_faults.py), and prints the path of its server. It is built once
# into the user's cache; Go checks the module against its checksum database. Messages go to stderr. Exit code 77: there is no Go to build it.
set -euo pipefail

module=github.com/Shopify/toxiproxy/v2
version=v2.5.0

say() { printf 'toxiproxy: %s\n' "$*" >&2; }

cache="${COROLLA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/corolla}/toxiproxy"
server="$cache/$version/server"
mkdir -p "$cache"
if [ ! -x "$server" ]; then
  exec 9>"$cache/lock"
  flock -n 9 || { say "another process builds it, waiting"; flock 9; }
fi
if [ ! -x "$server" ]; then
  command -v go >/dev/null || { say "there is no Go; install it to run the tests with network faults"; exit 77; }
  work=$(mktemp -d "$cache/.building-XXXXXX")
  trap 'rm -rf "$work"' EXIT
  say "building $version, once per machine"
  GOBIN="$work" go install "$module/cmd/server@$version" >"$work/log" 2>&1 9>&- || {
    tail -n 15 "$work/log" >&2
    say "the build failed"
    exit 1
  }
  mkdir -p "$cache/$version"
  mv "$work/server" "$server"
fi
printf '%s\n' "$server"
