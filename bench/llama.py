#!/usr/bin/env python3
"""corolla beside llama.cpp's other programs: prints rows of bench/RESULTS.md.

    bench/llama.py            eight users at once, prefill by weight type, three servers beside three of ggml's RPC servers
    bench/llama.py --quick    the same code on tiny sizes and without a peer (a test)

"same" is llama.cpp with corolla's build flags, "usual" as it comes (bench/peers.sh). Other weight types are made of the default model by
llama-quantize. Both sides run in turns, every figure is a median over the rounds, a ratio the median of the rounds' ratios.
"""

import json
import os
import pathlib
import re
import socket
import statistics
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import machine
from processes import Corolla, servers, thirds

TYPES = ("Q4_0", "Q8_0", "Q4_K_M")


class Llama:
    """llama.cpp's programs of one build."""

    def __init__(self, flavour):
        self.folder = pathlib.Path(machine.output(["bench/peers.sh", flavour]))
        self.programs = {}  # that run in the place of others
        self.usual = flavour == "usual"
        self.environment = dict(os.environ, GGML_CPU_TILED_MM="1" if self.usual else "0")

    def json(self, program, *flags):
        done = subprocess.run([self.programs.get(program, self.folder / program), *map(str, flags), "-fa", "1" if self.usual else "0"], env=self.environment, stdout=subprocess.PIPE,
                              stderr=subprocess.DEVNULL, text=True, check=True)
        return done.stdout

    def users(self, model, n, tokens):
        out = self.json("llama-batched-bench", "-m", model, "-c", 2048, "-npp", 1, "-ntg", tokens, "-npl", n, "-t", 2, "-tb", 2, "--output-format", "jsonl")
        return float(re.search(r'"speed_tg": *([0-9.]+)', out).group(1))

    def bench(self, model, prefill, decode, threads, *flags):
        out = self.json("llama-bench", "-m", model, "-p", prefill, "-n", decode, "-t", threads, "-r", 1, "-o", "json", *flags)
        return json.loads(out)[0]["avg_ts"]


def quantize(llama, model, folder):
    made = {"Q4_1": model}
    for name in TYPES:
        made[name] = str(pathlib.Path(folder) / f"{name}.gguf")
        subprocess.run([llama.folder / "llama-quantize", "--allow-requantize", model, made[name], name], check=True, stdout=subprocess.DEVNULL,
                       stderr=subprocess.DEVNULL)
    return made


def ours(corolla, users, prefill, decode, *flags):
    result = corolla.json("bench", *flags, "-p", str(prefill), "-n", str(decode), "--users", str(users), "--repetitions", "1")
    return result["prefill_tokens_per_s" if prefill else "decode_tokens_per_s"]


def compare(rounds, what, goal, mine, theirs):
    """theirs: None without a peer."""
    pairs = []
    for turn in range(rounds):
        sides = [mine, theirs or mine]
        first = [side() for side in (sides if turn % 2 == 0 else reversed(sides))]
        pairs.append(first if turn % 2 == 0 else first[::-1])
    ratio = statistics.median(a / b for a, b in pairs)
    a, b = (statistics.median(pair[i] for pair in pairs) for i in (0, 1))
    told = ("not measured", "", "") if not theirs else (f"{b:.0f}", f"{ratio:.2f}", "" if goal is None else "yes" if ratio >= goal else "**no**")
    print(f"| {what} | {a:.0f} | {told[0]} | {told[1]} | {'' if goal is None else f'>= {goal}'} | {told[2]} |", flush=True)


class RpcServers:
    """Three of ggml's, of one thread each."""

    def __init__(self, llama):
        self.processes, self.at = [], []
        for _ in range(3):
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                port = free.getsockname()[1]
            self.at.append(f"127.0.0.1:{port}")
            self.processes.append(subprocess.Popen([llama.folder / "ggml-rpc-server", "-H", "127.0.0.1", "-p", str(port), "-t", "1"], env=llama.environment,
                                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        for at in self.at:
            self.wait(at.split(":"))

    def wait(self, at):
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            try:
                socket.create_connection((at[0], int(at[1])), 1).close()
                return
            except OSError:
                time.sleep(0.05)
        sys.exit("llama: an RPC server does not answer; no figure is told")

    def stop(self):
        for process in self.processes:
            process.kill()
            process.wait()


def beside_rpc(args, folder, same):
    chain = Corolla(args.bin, args.model, f"{folder}/chain")
    with servers(Corolla(args.bin, args.model, f"{folder}/server"), thirds(args.model)) as running:
        rpc = RpcServers(same) if same else None
        try:
            for what, prefill, decode, goal in (("decode", 0, args.decode, 1.1), (f"prefill of {args.prefill} tokens", args.prefill, 0, 1.5)):
                theirs = (lambda p=prefill, d=decode: same.bench(args.model, p, d, 1, "--rpc", ",".join(rpc.at), "-ngl", 99)) if rpc else None
                compare(args.rounds, f"three servers / llama.cpp RPC, same flags: {what}", goal, lambda p=prefill, d=decode: ours(chain, 1, p, d, *running.joins()), theirs)
        finally:
            if rpc:
                rpc.stop()


def main():
    args = machine.arguments(__doc__, rounds=3).parse_args()
    args.model = args.model or machine.output(["tools/model.sh"])
    args.users, args.decode, args.prefill = 8, 32, 512
    if args.quick:
        args.users, args.decode, args.prefill, args.rounds = 3, 4, 32, 1
    same, usual = (None, None) if args.quick else (Llama("same"), Llama("usual"))
    print(f"`bench/llama.py`, {machine.describe()}, medians of {args.rounds} rounds, two threads a side\n\n| what | corolla | peer | ratio | goal | reached |\n" + "| --- " * 6 + "|")
    with tempfile.TemporaryDirectory(prefix="corolla-bench-") as folder:
        models = quantize(same, args.model, folder) if same else {"Q4_1": args.model}
        for name, model in models.items():
            corolla = Corolla(args.bin, model, f"{folder}/home")
            local = ("--local", "--threads", "2")
            for peer, flags, goal, mode in ((same, (), 1.0, "exact / same flags"), (usual, ("--fast",), 1.1, "--fast / usual")):
                theirs = (lambda p=peer, m=model: p.users(m, args.users, args.decode)) if peer else None
                compare(args.rounds, f"{args.users} users, {name}, {mode}", goal, lambda f=flags, c=corolla: ours(c, args.users, 0, args.decode, *local, *f), theirs)
            for peer, goal, mode in ((same, 1.0, "same flags"), (usual, 0.9, "usual")):
                theirs = (lambda p=peer, m=model: p.bench(m, args.prefill, 0, 2)) if peer else None
                compare(args.rounds, f"prefill of {args.prefill}, {name}, exact / {mode}", goal, lambda c=corolla: ours(c, 1, args.prefill, 0, *local), theirs)
        beside_rpc(args, folder, same)


if __name__ == "__main__":
    main()
