#!/usr/bin/env python3
"""Decoding with thousands of tokens of context behind it, and long prompts through a chain: prints rows of bench/RESULTS.md.

    bench/long.py            8,000 tokens of context beside llama-bench; a prompt of 4,096 tokens through three servers beside three RPC servers
    bench/long.py --quick    the same code on tiny sizes and without a peer (a test)

Both sides run in turns, every figure is a median over the rounds, a ratio the median of the rounds' ratios (bench/llama.py).
"""

import pathlib
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import machine
from llama import Llama, RpcServers, compare, ours
from processes import Corolla, servers, thirds


def deep(args, folder, same):
    corolla = Corolla(args.bin, args.model, f"{folder}/home")
    for threads in args.threads:
        mine = lambda t=threads: corolla.bench(["--local", "--threads", str(t)], args.context, args.decode)["decode"]
        theirs = (lambda t=threads: same.bench(args.model, 0, args.decode, t, "-d", args.context)) if same else None
        compare(args.rounds, f"decode behind {args.context:,} tokens, --local / same flags, threads: {threads}", 0.97, mine, theirs)


def long_prompt(args, folder, same):
    chain = Corolla(args.bin, args.model, f"{folder}/chain")
    with servers(Corolla(args.bin, args.model, f"{folder}/server"), thirds(args.model)) as running:
        rpc = RpcServers(same) if same else None
        try:
            theirs = (lambda: same.bench(args.model, args.prefill, 0, 1, "--rpc", ",".join(rpc.at), "-ngl", 99)) if rpc else None
            compare(args.rounds, f"three servers / llama.cpp RPC, same flags: prefill of {args.prefill:,} tokens", 1.5,
                    lambda: ours(chain, 1, args.prefill, 0, *running.joins()), theirs)
        finally:
            if rpc:
                rpc.stop()


def main():
    parser = machine.arguments(__doc__, rounds=3)
    parser.add_argument("--threads", type=int, nargs="+", default=(1, 2), help="to decode with (1 and 2)")
    parser.add_argument("--only", choices=("chain", "deep"), help="one part")
    args = parser.parse_args()
    args.model = args.model or machine.output(["tools/model.sh"])
    args.context, args.decode, args.prefill = (100, 4, 64) if args.quick else (8000, 32, 4096)
    args.rounds = 1 if args.quick else args.rounds
    same = None if args.quick else Llama("same")
    print(f"`bench/long.py`, {machine.describe()}, medians of {args.rounds} rounds\n\n| what | corolla | peer | ratio | goal | reached |\n" + "| --- " * 6 + "|")
    with tempfile.TemporaryDirectory(prefix="corolla-bench-") as folder:
        if args.only != "deep":
            long_prompt(args, folder, same)
        if args.only != "chain":
            deep(args, folder, same)


if __name__ == "__main__":
    main()
