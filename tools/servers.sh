# Sourced by run.sh and demo-kill.sh: servers on loopback, each with a home of its own, that are gone when the script ends.
# shellcheck shell=bash
# Wants model; sets bin, blocks, home and chat. start_server and wait_ready fill pids, spans, joins and nodes.

bin=${COROLLA_BIN:-build/corolla}
say() { if [ -t 2 ]; then printf '\033[2m%s\033[0m\n' "$*" >&2; else printf '%s\n' "$*" >&2; fi; }

[ -n "$model" ] || model=$(tools/model.sh)
home=$(mktemp -d)
pids=() joins=() nodes=() spans=()
stop() {
  trap - EXIT INT TERM
  [ ${#pids[@]} -eq 0 ] || kill "${pids[@]}" 2>/dev/null || true
  wait 2>/dev/null || true
  rm -rf "$home"
}
trap stop EXIT
trap 'stop; exit 130' INT TERM
export COROLLA_HOME="$home/client"

about=$("$bin" inspect "$model" --json)
blocks=$(python3 -c 'import json, sys; print(json.loads(sys.argv[1])["blocks"])' "$about")

start_server() { # BEGIN:END
  local i=${#pids[@]}
  COROLLA_HOME="$home/$i" "$bin" serve "$model" --blocks "$1" --listen 127.0.0.1:0 --no-lan --threads 1 >"$home/server-$i" 2>"$home/log-$i" &
  pids+=($!)
  spans+=("$1")
}

wait_ready() { # all that were started
  local i
  for ((i = 0; i < ${#pids[@]}; i++)); do
    until grep -q '^ready ' "$home/server-$i"; do
      if ! kill -0 "${pids[i]}" 2>/dev/null; then
        cat "$home/log-$i" >&2
        exit 1
      fi
      sleep 0.02
    done
    joins+=(--join "$(sed -n 's/^join //p' "$home/server-$i")")
    nodes+=("$(COROLLA_HOME="$home/$i" "$bin" key show)")
    say "server $((i + 1)) of ${#pids[@]} is ready with blocks ${spans[i]}"
  done
}

chat=()
if grep -qa tokenizer.chat_template < <(head -c 67108864 "$model"); then chat=(--chat); fi # else the prompt goes in as it is
