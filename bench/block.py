#!/usr/bin/env python3
"""One block of BLOOM-176B's size on this machine, and what a chain of 70 would do: prints rows of bench/RESULTS.md.

    bench/block.py            hidden 14,336, 112 heads of 128, random weights in Q4_0 (needs 6 GiB of memory, 2 GiB of disk, some minutes)
    bench/block.py --quick    the same code with a tiny block (a test)

BLOOM's own family is not in corolla yet. The block is one of Llama's family with as many weights: its feed-forward part has three matrices
of 14,336 x 38,240 where BLOOM's has two of 14,336 x 57,344.

A step of one token through SERVERS servers that hold 70 blocks together takes, with t for one block and rtt between two neighbours,

    70 t + (SERVERS + 1) / 2 rtt        each way is half a round trip: from the client through all servers and back

Petals published 0.83 steps/s over the internet with 14 servers and 10 GPUs (README of 2023, sequence length 128).
"""

import os
import pathlib
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import machine
from processes import Corolla

BLOCKS, SERVERS, PETALS = 70, 14, 0.83
FULL = {"n_embd": 14336, "n_head": 112, "n_head_kv": 112, "n_ff": 38240}
TINY = {"n_embd": 256, "n_head": 4, "n_head_kv": 4, "n_ff": 672}


def main():
    parser = machine.arguments(__doc__, model=False)
    parser.add_argument("--make-model", default="build-test/tests/make_model", help="the tests' make_model (build-test/tests/make_model)")
    args = parser.parse_args()
    shape = dict(TINY if args.quick else FULL, head_dim=64 if args.quick else 128, n_blocks=1, n_ctx=2048, type="q4_0", no_vocab=1)
    print(f"`bench/block.py`, {machine.describe()}\n\n| what | measured |\n| --- | --- |")
    with tempfile.TemporaryDirectory(prefix="corolla-bench-") as folder:
        file = str(pathlib.Path(folder, "block.gguf"))
        subprocess.run([args.make_model, file, *(f"{key}={value}" for key, value in shape.items())], check=True)
        corolla = Corolla(args.bin, file, f"{folder}/home")
        for threads in (1, 2):
            speeds = corolla.bench(["--local", "--threads", str(threads)], 128, 16)
            t = 1 / speeds["decode"]
            print(f"| one block, threads: {threads}: a token; a prompt of 128 | {t * 1000:.1f} ms; {128 / speeds['prefill']:.2f} s |", flush=True)
        peak = corolla.bench_peak_memory(["--local", "--threads", "2"], 128, 4)
        print(f"| file; peak memory with the KV of a session | {os.path.getsize(file) / 2**30:.2f}; {peak / 2**30:.2f} GiB |")
        for rtt in (0.0001, 0.01, 0.1):
            steps = 1 / (BLOCKS * t + (SERVERS + 1) / 2 * rtt)
            print(f"| expected of {BLOCKS} blocks on {SERVERS} such machines, {rtt * 1000:g} ms between them | {steps:.2f} steps/s (Petals' {PETALS}) |")


if __name__ == "__main__":
    main()
