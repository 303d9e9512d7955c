#!/usr/bin/env bash
# Installs the system packages that are missing: deps.sh build, or deps.sh build test. Never asks a question.
# Each line of tools/packages/SYSTEM.txt is what a package is for (build, test, style) and its name. Debian 12 is tested; the lists
# of the other systems stand beside it, untested.
set -euo pipefail
cd "$(dirname "$0")"

say() { printf 'packages: %s\n' "$*" >&2; }

# Prints the system's list, the command that tells whether a package is there, and the one that installs.
system() {
  local id="" version=""
  if [ -r /etc/os-release ]; then
    # shellcheck disable=SC1091
    id=$(. /etc/os-release && echo "$ID")
    version=$(. /etc/os-release && echo "${VERSION_ID:-}")
  fi
  case "$id-$version" in
  debian-12*) echo "debian-12" ;;
  debian-* | ubuntu-* | raspbian-*) echo "debian-13" ;;
  fedora-*) echo "fedora" ;;
  arch-*) echo "arch" ;;
  *) if [ "$(uname)" = Darwin ]; then echo "homebrew"; else echo "unknown"; fi ;;
  esac
}

missing() { # of the packages in "$@"
  local p
  case "$name" in
  debian-*) for p in "$@"; do
    [ "$(dpkg-query -W -f '${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || echo "$p"
  done ;;
  fedora) for p in "$@"; do rpm -q "$p" >/dev/null 2>&1 || echo "$p"; done ;;
  arch) for p in "$@"; do pacman -Q "$p" >/dev/null 2>&1 || echo "$p"; done ;;
  homebrew) for p in "$@"; do brew list "$p" >/dev/null 2>&1 || echo "$p"; done ;;
  esac
}

name=$(system)
if [ "$name" = unknown ]; then
  say "unknown system: install what tools/packages/debian-12.txt names, by the names that your system has for it"
  exit 0
fi
wanted=$(for kind in "$@"; do sed -n "s/^$kind //p" "packages/$name.txt"; done)
# shellcheck disable=SC2086
lacking=$(missing $wanted | tr '\n' ' ')
[ -n "$lacking" ] || exit 0

case "$name" in
debian-*) update="apt-get update -q" install="apt-get install -y -q --no-install-recommends -o DPkg::Lock::Timeout=300 $lacking" ;;
fedora) update=true install="dnf install -y -q $lacking" ;;
arch) update=true install="pacman -S --noconfirm --needed $lacking" ;;
homebrew) update=true install="brew install -q $lacking" ;;
esac
say "installing: $lacking"
become=""
if [ "$name" != homebrew ] && [ "$(id -u)" -ne 0 ]; then
  if ! sudo -n true 2>/dev/null; then
    say "this needs root; run: sudo sh -c '$update && $install'"
    exit 1
  fi
  become="sudo -n"
fi
log=$(mktemp)
trap 'rm -f "$log"' EXIT
# Old lists may still do when the mirror cannot be asked, so a failing update alone is no failure.
# shellcheck disable=SC2086
if ! { $become $update || true; $become env DEBIAN_FRONTEND=noninteractive $install; } >"$log" 2>&1 </dev/null; then
  tail -n 20 "$log" >&2
  say "that failed; run it yourself: ${become:+sudo }$install"
  exit 1
fi
say "done"
