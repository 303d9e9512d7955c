#!/usr/bin/env python3
"""How long 30 real processes take until all know all, when they join by one code: swarm.py [--bin PROBE] [--runs 5] [--nodes 30].

Each is a node without a model (tests/e2e/mesh_probe.c) on 127.0.0.1 with a home of its own: links, TLS, gossip and dial-back are real. The
clock runs from the start of the last process until every one has said that it knows all. Prints the median of the runs, and each."""

import argparse
import os
import pathlib
import selectors
import statistics
import subprocess
import tempfile
import time

import machine

GOAL = 3.0  # s


class Swarm:
    """The processes; each printed line is stamped when it comes."""

    def __init__(self, probe, folder, nodes, deadline):
        self.deadline = time.monotonic() + deadline
        self.selector = selectors.DefaultSelector()
        self.processes, self.known, self.partial = [], [], []
        self.code = None
        try:
            self.start(probe, folder)
            while self.code is None:
                self.read()
            for _ in range(nodes - 1):
                self.start(probe, folder, self.code)
            begin = time.monotonic()
            while min(self.known) < nodes:
                self.read()
            self.seconds = time.monotonic() - begin
        finally:
            self.close()

    def start(self, probe, folder, *joins):
        home = pathlib.Path(folder) / str(len(self.processes))
        process = subprocess.Popen([probe, home, *joins], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.selector.register(process.stdout, selectors.EVENT_READ, len(self.processes))
        self.processes.append(process)
        self.known.append(1)
        self.partial.append(b"")

    def read(self):
        events = self.selector.select(max(0, self.deadline - time.monotonic()))
        if not events:
            raise SystemExit(f"not all knew all in time: {self.known}")
        for key, _ in events:
            data = os.read(key.fd, 4096)
            if not data:
                raise SystemExit("a node ended")
            *lines, self.partial[key.data] = (self.partial[key.data] + data).split(b"\n")
            for line in lines:
                word, value = line.decode().split()
                if word == "knows":
                    self.known[key.data] = int(value)
                else:
                    self.code = self.code or value

    def close(self):
        for process in self.processes:
            process.stdin.close()
        for process in self.processes:
            process.wait()
            process.stdout.close()
        self.selector.close()


def measure(probe, nodes, deadline=60):
    with tempfile.TemporaryDirectory(prefix="corolla-swarm-") as folder:
        return Swarm(probe, folder, nodes, deadline).seconds


def main():
    root = pathlib.Path(__file__).resolve().parent.parent
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bin", default=root / "build-test" / "tests" / "mesh_probe")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--nodes", type=int, default=30)
    args = parser.parse_args()
    print(f"`bench/swarm.py --runs {args.runs} --nodes {args.nodes}`, {machine.describe()}\n")
    runs = [measure(args.bin, args.nodes) for _ in range(args.runs)]
    median = statistics.median(runs)
    print("| what | corolla | goal | reached |\n| --- | --- | --- | --- |")
    print(f"| {args.nodes} processes join by one code, until all know all, s | {median:.2f} | < {GOAL:.0f} | {'yes' if median < GOAL else '**no**'} |")
    print(f"\nThe runs: {', '.join(f'{s:.2f}' for s in runs)}")


if __name__ == "__main__":
    main()
