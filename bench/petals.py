#!/usr/bin/env python3
"""Three servers beside Petals 2.2 on three servers, the same model on the same machine: prints rows of bench/RESULTS.md.

    bench/petals.py --python VENV/bin/python     Petals is in that environment, with torch, transformers and gguf

Without --python nothing is measured, and the exit code is 77: Petals is 6 GB of packages of certain versions, and not installed by any script
here. It computes in F32 with one thread a server, from weights that are dequantised from the same file. Everything runs in a network namespace of its own, since Petals asks
the internet for its newest version; needs root.
"""

import os
import pathlib
import re
import socket
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import machine
from llama import compare, ours
from processes import Corolla, servers, thirds

SIDE = str(pathlib.Path(__file__).parent / "petals_side.py")


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


class Petals:
    def __init__(self, python, checkpoint, spans):
        self.environment = dict(os.environ, OMP_NUM_THREADS="1", HF_HUB_OFFLINE="1", PYTHONUNBUFFERED="1")
        self.processes, self.peer = [], None
        for begin, end in spans:
            self.start_server(python, checkpoint, f"{begin}:{end}")
        self.client = subprocess.Popen([python, SIDE, "client", checkpoint, self.peer], env=self.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                       stderr=subprocess.DEVNULL, text=True)
        self.processes.append(self.client)
        if self.client.stdout.readline().strip() != "ready":
            sys.exit("petals: its client did not start; no figure is told")

    def start_server(self, python, checkpoint, blocks):
        address = f"/ip4/127.0.0.1/tcp/{free_port()}"
        swarm = ["--initial_peers", self.peer] if self.peer else ["--new_swarm"]
        command = [python, "-m", "petals.cli.run_server", checkpoint, "--block_indices", blocks, "--device", "cpu", "--torch_dtype", "float32", "--throughput", "1",
                   "--dht_prefix", "bench", "--host_maddrs", address, "--announce_maddrs", address, "--no_auto_relay", "--skip_reachability_check",
                   "--balance_quality", "0", *swarm]
        process = subprocess.Popen(command, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.processes.append(process)
        for line in process.stdout:
            found = re.search(rf"{re.escape(address)}/p2p/\w+", line)
            self.peer = self.peer or (found and found.group())
            if "Started" in line:
                return
        sys.exit("petals: a server did not start; no figure is told")

    def ask(self, what, n):
        self.client.stdin.write(f"{what} {n}\n")
        self.client.stdin.flush()
        return float(self.client.stdout.readline())

    def stop(self):
        for process in reversed(self.processes):
            process.kill()
            process.wait()


def alone():
    """In a network namespace of its own from here on."""
    if os.environ.get("COROLLA_BENCH_ALONE"):
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
        return
    os.environ["COROLLA_BENCH_ALONE"] = "1"
    os.execvp("unshare", ["unshare", "--net", "--pid", "--fork", "--kill-child", sys.executable, *sys.argv])


def main():
    parser = machine.arguments(__doc__, rounds=3)
    parser.add_argument("--python", help="of the environment that has Petals")
    args = parser.parse_args()
    if not args.python:
        print("SKIPPED: Petals is not installed (--python); nothing was measured")
        sys.exit(77)
    args.model = args.model or machine.output(["tools/model.sh"])
    alone()
    print(f"`bench/petals.py`, {machine.describe()}, medians of {args.rounds} rounds\n\n| what | corolla | peer | ratio | goal | reached |\n" + "| --- " * 6 + "|")
    with tempfile.TemporaryDirectory(prefix="corolla-bench-") as folder:
        subprocess.run([args.python, SIDE, "checkpoint", args.model, f"{folder}/checkpoint"], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        spans = thirds(args.model)
        petals = Petals(args.python, f"{folder}/checkpoint", spans)
        chain = Corolla(args.bin, args.model, f"{folder}/chain")
        try:
            with servers(Corolla(args.bin, args.model, f"{folder}/server"), spans) as running:
                joins = running.joins()
                compare(args.rounds, "three servers / Petals on three servers: decode", 5, lambda: ours(chain, 1, 0, 32, *joins), lambda: petals.ask("decode", 32))
                compare(args.rounds, "the same: prefill of 512 tokens", 1, lambda: ours(chain, 1, 512, 0, *joins), lambda: petals.ask("prefill", 512))
        finally:
            petals.stop()


if __name__ == "__main__":
    main()
