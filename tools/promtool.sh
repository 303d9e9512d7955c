#!/usr/bin/env bash
# Finds or fetches promtool, which checks the text of --metrics (tests/e2e/test_seeing.py), and prints its path. It is taken out of Debian's
# package `prometheus`, which apt verifies, without installing that: nobody wants its service. Exit code 77: there is no apt.
set -euo pipefail

say() { printf 'promtool: %s\n' "$*" >&2; }

cache="${COROLLA_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/corolla}/promtool"
if ! command -v promtool; then
  if [ ! -x "$cache/promtool" ]; then
    command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || { say "no promtool, and no apt to fetch it"; exit 77; }
    mkdir -p "$cache"
    work=$(mktemp -d "$cache/.fetching-XXXXXX")
    trap 'rm -rf "$work"' EXIT
    say "fetching it, once per machine"
    (cd "$work" && apt-get -qq download prometheus >log 2>&1 && dpkg-deb -x prometheus_*.deb out) || {
      tail -n 5 "$work/log" >&2
      say "it cannot be fetched; try apt-get update"
      exit 1
    }
    mv "$work/out/usr/bin/promtool" "$cache/promtool"
  fi
  printf '%s\n' "$cache/promtool"
fi
