#!/usr/bin/env bash
# The main job before your eyes: run.sh MODEL SERVERS PROMPT starts servers on loopback, each with a part of the model's blocks,
# sends a prompt through the chain, and stops what it started.
set -euo pipefail
cd "$(dirname "$0")/.."

model=$1 servers=$2 prompt=$3
bin=${COROLLA_BIN:-build/corolla}
say() { if [ -t 2 ]; then printf '\033[2m%s\033[0m\n' "$*" >&2; else printf '%s\n' "$*" >&2; fi; }

[ -n "$model" ] || model=$(tools/model.sh)
home=$(mktemp -d)
pids=()
stop() {
  trap - EXIT INT TERM
  [ ${#pids[@]} -eq 0 ] || kill "${pids[@]}" 2>/dev/null || true
  wait 2>/dev/null || true
  rm -rf "$home"
}
trap stop EXIT
trap 'stop; exit 130' INT TERM
export COROLLA_HOME="$home"

about=$("$bin" inspect "$model" --json)
blocks=$(python3 -c 'import json, sys; print(json.loads(sys.argv[1])["blocks"])' "$about")
if [[ ! "$servers" =~ ^[0-9]{1,4}$ ]] || [ "$servers" -lt 1 ] || [ "$servers" -gt "$blocks" ]; then
  say "SERVERS=$servers is not between 1 and the model's $blocks blocks"
  exit 2
fi
say "starting $servers servers on this machine for the $blocks blocks of $(basename "$model")"
for ((i = 0; i < servers; i++)); do
  "$bin" serve "$model" --blocks "$((blocks * i / servers)):$((blocks * (i + 1) / servers))" --listen 127.0.0.1:0 --no-lan --threads 1 \
    >"$home/server-$i" 2>"$home/log-$i" &
  pids+=($!)
done
joins=()
for ((i = 0; i < servers; i++)); do
  until grep -q '^ready ' "$home/server-$i"; do
    if ! kill -0 "${pids[i]}" 2>/dev/null; then
      cat "$home/log-$i" >&2
      exit 1
    fi
    sleep 0.02
  done
  joins+=(--join "$(sed -n 's/^join //p' "$home/server-$i")")
  say "server $((i + 1)) of $servers is ready with blocks $(sed -n 's/^ready //p' "$home/server-$i")"
done
chat=()
if grep -qa tokenizer.chat_template < <(head -c 67108864 "$model"); then chat=(--chat); fi # else the prompt goes in as it is
"$bin" run "$model" "${joins[@]}" --no-lan ${chat[@]+"${chat[@]}"} --trace -n 120 --temp 0 -p "$prompt"
