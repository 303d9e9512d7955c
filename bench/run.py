#!/usr/bin/env python3
"""Speed, memory and idleness of corolla beside llama.cpp: prints the table of bench/RESULTS.md.

    bench/run.py             the figures (make bench FULL=1): needs a quiet machine and llama-bench, which bench/peers.sh builds
    bench/run.py --quick     the same code on tiny sizes and without a peer (make bench, and a test), so that it does not rot

Both sides run in turns (A B A B ...), every figure is a median over the rounds, and a ratio is the median of the rounds' ratios, so
that a slower minute of the machine hits both. Before any speed is told, the greedy tokens of every chain are compared with --local's.
"""

import argparse
import contextlib
import os
import pathlib
import signal
import statistics
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import gguf
import machine
from processes import Corolla, Peer, servers

PROMPT = "A corolla is all the petals of a flower together. The petals of a rose"
MIB = 1 << 20


class Table:
    """Rows of "what | corolla | peer | ratio | goal | reached"."""

    def __init__(self):
        self.rows = []

    def ratio(self, what, ours, theirs, goal):
        if not theirs:
            self.rows.append((what, f"{statistics.median(ours):.1f}", "not measured", "", f">= {goal:.2f}" if goal else "", ""))
            return
        ratio = statistics.median(a / b for a, b in zip(ours, theirs))
        reached = "" if goal is None else "yes" if ratio >= goal else "**no**"
        self.rows.append((what, f"{statistics.median(ours):.1f}", f"{statistics.median(theirs):.1f}", f"{ratio:.3f}",
                          "" if goal is None else f">= {goal:.2f}", reached))

    def limit(self, what, value, goal, unit):
        self.rows.append((what, f"{value:.2f} {unit}", "", "", f"<= {goal:.2f} {unit}", "yes" if value <= goal else "**no**"))

    def text(self):
        head = [("what", "corolla", "peer", "ratio", "goal", "reached"), ("---",) * 6]
        return "\n".join("| " + " | ".join(row) + " |" for row in head + self.rows)


def check_parity(corolla, chains, n):
    """The greedy tokens through every chain equal --local's; a speed of wrong tokens is none."""
    expected = corolla.tokens(["--local", "--threads", "1"], PROMPT, n)
    for name, joins in chains.items():
        if corolla.tokens(joins, PROMPT, n) != expected:
            sys.exit(f"bench: the greedy tokens through {name} are not those of --local; no speed is told")
    return f"{n} greedy tokens equal to --local through {', '.join(chains)}"


class Rounds:
    """Speeds of both sides by (chain, threads, fast) and kind."""

    def __init__(self, args, corolla, peer, chains):
        self.args, self.corolla, self.peer, self.chains = args, corolla, peer, chains
        self.ours, self.theirs = {}, {}

    def pair(self, turn, key, kind):
        """One side, then at once the other; who begins changes with the turn, so that a drift of the machine helps nobody."""
        chain, threads, fast = key
        sizes = (0, self.args.decode) if kind == "decode" else (self.args.prefill, 0)
        flags = self.chains.get(chain) or ["--local", "--threads", str(threads)] + ["--fast"] * fast
        sides = [(self.ours, lambda: self.corolla.bench(flags, *sizes))]
        if self.peer:
            sides.append((self.theirs, lambda: self.peer.bench(threads, fast, *sizes)))
        for store, measure in sides if turn % 2 == 0 else reversed(sides):
            store.setdefault((key, kind), []).append(measure()[kind])

    def run(self, turn, kind):
        for threads in self.args.threads:
            self.pair(turn, ("local", threads, False), kind)
            if kind == "prefill":
                self.pair(turn, ("local", threads, True), kind)
        for name in self.chains:
            self.pair(turn, (name, 1, False), kind)

    def fill(self, table):
        def row(what, key, kind, goal):
            if (key, kind) in self.ours:
                table.ratio(what, self.ours[key, kind], self.theirs.get((key, kind)), goal)

        plural = lambda n: f"{n} thread" + "s" * (n > 1)
        for threads in self.args.threads:
            row(f"decode, --local, {plural(threads)}, tok/s", ("local", threads, False), "decode", 0.97)
        row("decode, one server of 1 thread, tok/s", ("one server", 1, False), "decode", 0.95)
        row("decode, three servers of 1 thread, tok/s", ("three servers", 1, False), "decode", 0.90)
        for threads in self.args.threads:
            row(f"prefill {self.args.prefill}, --local, {plural(threads)}, tok/s", ("local", threads, False), "prefill", 0.95)
            row(f"prefill {self.args.prefill}, --local --fast, {plural(threads)}, tok/s", ("local", threads, True), "prefill", 0.95)
        row(f"prefill {self.args.prefill}, one server of 1 thread, tok/s", ("one server", 1, False), "prefill", None)
        row(f"prefill {self.args.prefill}, three servers of 1 thread, tok/s", ("three servers", 1, False), "prefill", None)


def measure_memory(args, corolla, table):
    """Peak resident memory (mapped weights count) of a server with a third of the blocks, and of a client, behind real work."""
    sizes = gguf.sizes(args.model)
    end = max(1, sizes["n_blocks"] // 3)
    cache_tokens = max(1024, args.prefill + args.decode + 64)
    weights = sum(sizes["blocks"][:end])
    kv = cache_tokens * end * sizes["kv_bytes_per_block"]
    spans = [(0, end), (end, sizes["n_blocks"])]
    with servers(corolla, spans, ["--cache-tokens", str(cache_tokens)]) as running:
        joins = running.joins()
        client = corolla.bench_peak_memory(joins, args.prefill, args.decode)
        server = machine.peak_memory(running.pids[0])
    table.limit(f"memory of a server of {end} blocks ({weights / MIB:.1f} MiB weights + {kv / MIB:.1f} MiB KV + 40)", server / MIB,
                (weights + kv) / MIB + 40, "MiB")
    table.limit(f"memory of a client ({sizes['edges'] / MIB:.1f} MiB edges + 60)", client / MIB, sizes["edges"] / MIB + 60, "MiB")


def measure_idle(args, corolla, table):
    n_blocks = gguf.sizes(args.model)["n_blocks"]
    with servers(corolla, [(0, n_blocks)]) as running, corolla.idle_client(running.joins()):
        share = machine.cpu_share(running.pids[0], args.idle_seconds)
    table.limit(f"idle server, link open, {args.idle_seconds} s, % of a core", share * 100, 1, "%")


def measure_start(args, corolla, table):
    n_blocks = gguf.sizes(args.model)["n_blocks"]
    times = []
    for _ in range(args.rounds):
        with servers(corolla, [(0, max(1, n_blocks // 3))]) as running:
            times.append(running.ready_seconds)
    table.limit("start of a server of a third of the blocks until ready", statistics.median(times), 1, "s")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--bin", default="build/corolla", help="the program (build/corolla)")
    parser.add_argument("--model", help="a GGUF file (the default model)")
    parser.add_argument("--peer", help="llama-bench (built by bench/peers.sh)")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, no peer")
    parser.add_argument("--rounds", type=int, help="rounds of prefill, half of those of decode (5)")
    parser.add_argument("--only", choices=["decode", "prefill", "rest"], help="one part of the table")
    args = parser.parse_args()
    args.rounds = args.rounds or (1 if args.quick else 5)
    args.prefill, args.decode, args.idle_seconds = (32, 8, 1) if args.quick else (512, 128, 10)
    cores = len(os.sched_getaffinity(0))
    args.threads = [1] if args.quick or cores < 2 else [1, 2]
    args.model = args.model or machine.output(["tools/model.sh"])
    if not args.quick and not args.peer:
        args.peer = machine.output(["bench/peers.sh", "same"]) + "/llama-bench"
    return args


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers are stopped
    os.chdir(pathlib.Path(__file__).resolve().parent.parent)
    command = " ".join(["bench/run.py"] + sys.argv[1:])
    args = parse_arguments()
    table = Table()
    print(f"`{command}`, {machine.describe()}, {2 * args.rounds} rounds of decode, {args.rounds} of prefill, {pathlib.Path(args.model).name}\n", flush=True)
    with tempfile.TemporaryDirectory() as home, contextlib.ExitStack() as stack:
        corolla = Corolla(args.bin, args.model, home)
        kinds = [kind for kind in ("decode", "prefill") if args.only in (None, kind)]
        if kinds:
            n_blocks = gguf.sizes(args.model)["n_blocks"]
            one = stack.enter_context(servers(corolla, [(0, n_blocks)]))
            three = stack.enter_context(servers(corolla, [(n_blocks * i // 3, n_blocks * (i + 1) // 3) for i in range(3)]))
            chains = {"one server": one.joins(), "three servers": three.joins()}
            print("parity: " + check_parity(corolla, chains, args.decode) + "\n", flush=True)
            rounds = Rounds(args, corolla, Peer(args.peer, args.model) if args.peer else None, chains)
            for kind in kinds:
                n = args.rounds * (2 if kind == "decode" else 1)  # decoding is short and varies more
                for turn in range(n):
                    rounds.run(turn, kind)
                    print(f"bench: {kind}, round {turn + 1} of {n}", file=sys.stderr)
            rounds.fill(table)
            stack.close()
        if args.only in (None, "rest"):
            measure_memory(args, corolla, table)
            measure_idle(args, corolla, table)
            measure_start(args, corolla, table)
    print(table.text())


if __name__ == "__main__":
    main()
