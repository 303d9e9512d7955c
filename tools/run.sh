#!/usr/bin/env bash
# The main job before your eyes: run.sh MODEL SERVERS PROMPT starts servers on loopback, each with a part of the model's blocks,
# sends a prompt through the chain, and stops what it started.
set -euo pipefail
cd "$(dirname "$0")/.."

model=$1 servers=$2 prompt=$3
# shellcheck source=tools/servers.sh
. tools/servers.sh

if [[ ! "$servers" =~ ^[0-9]{1,4}$ ]] || [ "$servers" -lt 1 ] || [ "$servers" -gt "$blocks" ]; then
  say "SERVERS=$servers is not between 1 and the model's $blocks blocks"
  exit 2
fi
say "starting $servers servers on this machine for the $blocks blocks of $(basename "$model")"
for ((i = 0; i < servers; i++)); do start_server "$((blocks * i / servers)):$((blocks * (i + 1) / servers))"; done
wait_ready
"$bin" run "$model" "${joins[@]}" --no-lan ${chat[@]+"${chat[@]}"} --trace -n 120 --temp 0 -p "$prompt"
