#!/usr/bin/env bash
# A server dies in mid-answer and the answer goes on: demo-kill.sh MODEL starts a chain of three servers and a replica of each on loopback,
# streams an answer, kills the middle server of the chain (SIGKILL), and compares the answer with one that nothing disturbed.
set -euo pipefail
cd "$(dirname "$0")/.."

model=$1
prompt="Explain how bees find flowers, and why that matters to a garden."
seen=300 # bytes of the answer before the kill
# shellcheck source=tools/servers.sh
. tools/servers.sh

say "starting three servers for the $blocks blocks of $(basename "$model"), and a replica of each"
for replica in 1 2; do
  for part in 0 1 2; do start_server "$((blocks * part / 3)):$((blocks * (part + 1) / 3))"; done
done
wait_ready

ask=("$bin" run "$model" --no-lan ${chat[@]+"${chat[@]}"} -n 200 --temp 0 -p "$prompt")
say "asking: $prompt"
: >"$home/answer"
"${ask[@]}" "${joins[@]}" --trace 2> >(tee "$home/trace" >&2) | tee "$home/answer" &
answering=$!
until [ "$(wc -c <"$home/answer")" -ge "$seen" ] || ! kill -0 "$answering" 2>/dev/null; do sleep 0.01; done
node=$(sed -nE 's/^hop 2 of 3: .* on ([0-9a-f]+).*/\1/p' "$home/trace")
for ((i = 0; i < ${#pids[@]}; i++)); do
  [[ "${nodes[i]}" != "$node"* ]] || victim=$i
done
kill -KILL "${pids[victim]}"
printf '\n' >&2
say "*** killed server $((victim + 1)) with blocks ${spans[victim]} (kill -9 ${pids[victim]}); the answer goes on: ***"
wait "${pids[victim]}" 2>/dev/null || true
wait "$answering"
printf '\n' >&2

say "the same question in one process, where nothing is killed"
"${ask[@]}" --local --threads 1 >"$home/undisturbed"
if cmp -s "$home/answer" "$home/undisturbed" && grep -q '^recovered ' "$home/trace"; then
  say "both answers are the same, byte for byte: $(wc -c <"$home/answer") bytes, $(grep -c '^recovered ' "$home/trace") recovery"
else
  say "this must not happen: the answers differ, or there was nothing to recover from"
  exit 1
fi
