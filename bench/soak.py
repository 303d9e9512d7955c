#!/usr/bin/env python3
"""Four clients generate while servers are killed and started at random; every answer is compared with that of one process.

    bench/soak.py --minutes 30 [--seed N]     (make soak)

Three servers stay and cover the model; three others, of random spans, come and go: a kill (SIGKILL, now and then SIGTERM or SIGSTOP) and a start take turns. Prints
a line per minute. Fails when an answer is wrong or missing, when nothing was ever recovered, or when the memory or the descriptors of those that stay grow.
"""

import argparse
import collections
import json
import os
import pathlib
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import machine
from processes import Corolla, Nodes, thirds

CLIENTS, MORTALS = 4, 3
EVENT_S = 3.0  # mean, between a kill and a start
SIGNALS = [signal.SIGKILL] * 4 + [signal.SIGTERM, signal.SIGSTOP]
SAMPLE_S = 5.0
GROWTH, GROWTH_BYTES = 0.05, 2 << 20  # of memory, from the first quarter to the last
GROWTH_DESCRIPTORS = 4
PROMPTS = pathlib.Path(__file__).parent.parent / "tests" / "support" / "prompts.txt"
MIB = 1 << 20


class Clients:
    """Threads that run one answer behind the other."""

    def __init__(self, args, folder, codes, expected):
        self.args, self.folder, self.expected = args, folder, expected
        self.flags = [word for code in codes for word in ("--join", code)]
        self.lock, self.end = threading.Lock(), threading.Event()
        self.answers, self.tokens, self.wrong, self.recoveries = 0, 0, [], collections.Counter()
        self.threads = [threading.Thread(target=self.run, args=(i,)) for i in range(CLIENTS)]

    def run(self, i):
        rng = random.Random(self.args.seed * 1000 + i)
        corolla = Corolla(self.args.bin, self.args.model, str(self.folder / f"client-{i}"))
        while not self.end.is_set():
            prompt = rng.choice(list(self.expected))
            command = corolla.command("run", *self.flags, "--threads", "1", "--temp", "0", "-n", str(self.args.tokens), "-p", prompt, "--json")
            done = subprocess.run(command, env=corolla.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, check=False)
            with self.lock:
                self.note(prompt, done)

    def note(self, prompt, done):
        answer = json.loads(done.stdout) if done.returncode == 0 else {"tokens": None, "recoveries": []}
        self.answers += 1
        self.tokens += len(answer["tokens"] or [])
        self.recoveries.update(r["reason"] for r in answer["recoveries"])
        if answer["tokens"] != self.expected[prompt]:
            self.wrong.append(f"{prompt[:40]}: {done.stderr.strip() or 'other tokens'}")
            print(f"wrong: {self.wrong[-1]}", flush=True)


class Chaos:
    """Kills and starts the mortal servers."""

    def __init__(self, args, nodes, spans):
        self.rng, self.nodes, self.spans = random.Random(args.seed), nodes, spans
        self.mortals, self.stopped, self.hits = [], [], collections.Counter()
        self.next = 0.0

    def turn(self):
        for process in self.stopped:
            process.kill()
        self.stopped = []
        if len(self.mortals) < MORTALS:
            self.mortals.append(self.nodes.add(self.rng.choice(self.spans)))
        else:
            process = self.mortals.pop(self.rng.randrange(MORTALS))
            number = self.rng.choice(SIGNALS)
            process.send_signal(number)
            self.hits[number.name] += 1
            if number == signal.SIGSTOP:
                self.stopped.append(process)
        self.next = time.monotonic() + (2 * EVENT_S if self.stopped else 0) + self.rng.expovariate(1 / EVENT_S)


def grown(before, after):
    """What became more of the servers' (memory, descriptors): lines of text."""
    out = []
    for i, ((m0, d0), (m1, d1)) in enumerate(zip(before, after), 1):
        print(f"server {i}: memory {m0 / MIB:.1f} -> {m1 / MIB:.1f} MiB, descriptors {d0:.0f} -> {d1:.0f}")
        if m1 > m0 * (1 + GROWTH) + GROWTH_BYTES:
            out.append(f"the memory of server {i} grew")
        if d1 > d0 + GROWTH_DESCRIPTORS:
            out.append(f"the descriptors of server {i} grew")
    return out


class Watch:
    """Memory and descriptors of the servers that stay, sampled."""

    def __init__(self, pids):
        self.pids, self.samples = pids, []  # of (bytes of each, descriptors of each)

    def sample(self):
        self.samples.append(([machine.memory(pid) for pid in self.pids], [len(os.listdir(f"/proc/{pid}/fd")) for pid in self.pids]))

    def text(self):
        memory, descriptors = self.samples[-1]
        return f"memory {' '.join(f'{m / MIB:.1f}' for m in memory)} MiB, descriptors {' '.join(map(str, descriptors))}"

    def grown(self):
        """The same between the second quarter of the time and the last."""
        quarter = max(1, len(self.samples) // 4)
        parts = self.samples[quarter:2 * quarter], self.samples[-quarter:]
        return grown(*([[statistics.median(s[kind][i] for s in part) for kind in (0, 1)] for i in range(len(self.pids))] for part in parts))


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--bin", default="build/corolla", help="the program (build/corolla)")
    parser.add_argument("--model", help="a GGUF file (the default model)")
    parser.add_argument("--minutes", type=float, default=30)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30), help="(a random one)")
    parser.add_argument("--tokens", type=int, default=64, help="of an answer (64)")
    args = parser.parse_args()
    args.model = args.model or machine.output(["tools/model.sh"])
    return args


def soak(args, folder):
    alone = Corolla(args.bin, args.model, str(folder / "alone"))
    prompts = random.Random(args.seed).sample(PROMPTS.read_text(encoding="utf-8").splitlines(), 6)
    expected = {p: alone.tokens(["--local", "--threads", "1"], p, args.tokens) for p in prompts}
    nodes, spans = Nodes(args.bin, args.model, folder), thirds(args.model)
    clients = None
    try:
        stay = [nodes.add(span) for span in spans]
        clients, chaos, watch = Clients(args, folder, nodes.codes[:], expected), Chaos(args, nodes, spans), Watch([p.pid for p in stay])
        for thread in clients.threads:
            thread.start()
        begin = time.monotonic()
        run(args, begin, clients, chaos, watch)
    finally:
        if clients:
            clients.end.set()
            for thread in clients.threads:
                thread.join()
        nodes.stop()
    failures = [f"{len(clients.wrong)} answers were wrong"] * bool(clients.wrong) + watch.grown()
    if not clients.recoveries:
        failures.append("nothing was recovered")
    print(f"{clients.answers} answers, {len(clients.wrong)} wrong; {sum(clients.recoveries.values())} recoveries; {dict(chaos.hits)}")
    if failures:
        sys.exit("soak: " + "; ".join(failures))


def run(args, begin, clients, chaos, watch):
    minute, sample = 1, 0.0
    while (now := time.monotonic()) < begin + args.minutes * 60:
        if now >= chaos.next:
            chaos.turn()
        if now >= sample:
            watch.sample()
            sample = now + SAMPLE_S
        if now >= begin + minute * 60:
            with clients.lock:
                print(f"minute {minute}: {clients.answers} answers, {len(clients.wrong)} wrong, {clients.tokens} tokens; recovered: {dict(clients.recoveries)}; "
                      f"hit: {dict(chaos.hits)}; those that stay: {watch.text()}", flush=True)
            minute += 1
        time.sleep(0.05)  # between two looks


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers are stopped
    os.chdir(pathlib.Path(__file__).resolve().parent.parent)
    args = parse_arguments()
    print(f"`bench/soak.py --minutes {args.minutes:g} --seed {args.seed}`, {machine.describe()}, {pathlib.Path(args.model).name}\n", flush=True)
    with tempfile.TemporaryDirectory(prefix="corolla-soak-") as folder:
        soak(args, pathlib.Path(folder))


if __name__ == "__main__":
    main()
