#!/usr/bin/env python3
"""Sixteen clients of mixed behaviour on a chain of three servers: good ones, long prompts, abandoners, slow readers, and garbage.

    bench/crowd.py --minutes 10 [--seed N]     (make crowd)
    bench/crowd.py --quick                     a few seconds, once (a test)

The answers of the good ones are compared with those of one process. Prints a line per minute. The crowd comes twice, each time for half of the
minutes, and each time the servers are left alone until they have given up what they keep for a while. Fails when an answer is
wrong or missing, when a server ends, when a session is left after a crowd has gone, or when a server has more memory or descriptors at rest
after the second crowd than after the first.
"""

import collections
import os
import pathlib
import random
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import machine
from processes import Corolla, Servers, thirds
from soak import MIB, PROMPTS, grown

LONG_PROMPT, USERS = 2000, 12
FLAGS = ("--cache-tokens", "131072", "--client-share", "8")  # so that those who abandon their sessions fill up only their own share
LEFT_S = 40  # in which what abandoned clients held must be gone: a lease, and some
PREFIX_S = 600 + LEFT_S  # the same of prefixes, which servers keep for ten minutes
BUFFERS_S = 15  # ... and of buffers for messages


class Crowd:
    """Threads that behave in their way again and again."""

    def __init__(self, args, folder, running, expected, turn):
        self.args, self.folder, self.running, self.expected = args, folder, running, expected
        self.lock, self.end = threading.Lock(), threading.Event()
        self.done, self.wrong = collections.Counter(), []
        ways = [self.good] * 5 + [self.long] * 2 + [self.abandon] * 3 + [self.read_slowly] * 3 + [self.send_garbage] * 3
        self.threads = [threading.Thread(target=self.run, args=(i + turn * 100, way)) for i, way in enumerate(ways)]

    def run(self, i, way):
        rng, corolla = random.Random(self.args.seed * 1000 + i), Corolla(self.args.bin, self.args.model, str(self.folder / f"client-{i % 100}"))
        while not self.end.is_set():
            way(rng, corolla)
            with self.lock:
                self.done[way.__name__] += 1

    def start(self, corolla, name, *flags):
        command = corolla.command(name, *self.running.joins(), *flags)
        return subprocess.Popen(command, env=corolla.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)

    def must_end_well(self, process, what):
        _, errors = process.communicate()
        if process.returncode:
            with self.lock:
                self.wrong.append(f"{what}: {errors.decode(errors='replace').strip()}")

    def good(self, rng, corolla):
        prompt = rng.choice(list(self.expected))
        try:
            tokens = corolla.tokens([*self.running.joins(), "--threads", "1"], prompt, self.args.tokens)
        except subprocess.CalledProcessError as error:
            tokens = error
        if tokens != self.expected[prompt]:
            with self.lock:
                self.wrong.append(f"{prompt[:40]}: {tokens}")

    def long(self, _, corolla):
        self.must_end_well(self.start(corolla, "bench", "-p", str(LONG_PROMPT), "-n", "4", "--repetitions", "1"), "a long prompt")

    def abandon(self, rng, corolla):
        """Killed in the middle of whatever it does."""
        process = self.start(corolla, "bench", "-p", "300", "-n", "400", "--users", str(rng.randint(1, USERS)), "--repetitions", "1")
        self.end.wait(rng.uniform(0.05, 2.5))
        process.kill()
        process.communicate()

    def read_slowly(self, rng, corolla):
        """Sends much and then takes nothing for a while, now and then for ever."""
        process = self.start(corolla, "bench", "-p", "200", "-n", "60", "--users", str(USERS), "--repetitions", "1")
        self.end.wait(rng.uniform(0.5, 1.5))
        process.send_signal(signal.SIGSTOP)
        self.end.wait(rng.uniform(1, 8))
        if rng.random() < 0.3:
            process.kill()
        process.send_signal(signal.SIGCONT)
        process.communicate()

    def send_garbage(self, rng, _):
        code = rng.choice(self.running.addresses)
        kind = rng.choice(("noise", "silence", "half a handshake", "a stranger's TLS"))
        try:
            with socket.create_connection(code, 5) as link:
                if kind == "noise":
                    link.sendall(rng.randbytes(rng.randint(1, 100000)))
                elif kind == "half a handshake":
                    link.sendall(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + rng.randbytes(rng.randint(1, 500)))
                elif kind == "a stranger's TLS":
                    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
                    with context.wrap_socket(link) as wrapped:
                        wrapped.sendall(rng.randbytes(rng.randint(1, 100000)))
                self.end.wait(rng.uniform(0, 3))
        except OSError:
            pass  # the server ended it
        self.end.wait(0.05)


class Watched(Servers):
    """Servers of a chain, whose metrics can be asked for."""

    def __init__(self, args, folder):
        super().__init__()
        self.metrics, self.addresses = [], []
        for index, span in enumerate(thirds(args.model)):
            with socket.socket() as free:
                free.bind(("127.0.0.1", 0))
                self.metrics.append(f"127.0.0.1:{free.getsockname()[1]}")
            with open(folder / f"server-{index}.log", "wb") as errors:
                self.start(Corolla(args.bin, args.model, str(folder / f"server-{index}")), span, (*FLAGS, "--metrics", self.metrics[-1]), errors)
            self.addresses += [("127.0.0.1", port) for port in machine.listening(self.pids[-1]) if not self.metrics[-1].endswith(f":{port}")]

    def dead(self):
        return [i for i, process in enumerate(self.processes, 1) if process.poll() is not None]

    def text(self):
        return "memory " + " ".join(f"{machine.memory(pid) / MIB:.1f}" for pid in self.pids) + " MiB"

    def value(self, index, name):
        with urllib.request.urlopen(f"http://{self.metrics[index]}/metrics", timeout=10) as answer:
            for line in answer.read().decode().splitlines():
                if line.startswith(name + " "):
                    return float(line.rpartition(" ")[2])
        sys.exit(f"crowd: there is no {name} among the metrics")


def gone(running, gauge, within):
    """Whether a gauge of all servers comes to nothing, within so many seconds."""
    deadline = time.monotonic() + within
    while time.monotonic() < deadline:
        if all(running.value(i, gauge) == 0 for i in range(3)):
            return True
        time.sleep(0.5)
    return False


def at_rest(running):
    """Memory and descriptors of the servers, when they keep nothing."""
    return [(machine.memory(pid), len(os.listdir(f"/proc/{pid}/fd"))) for pid in running.pids]


def let_in(people, running, begin, minutes):
    """The crowd, for so long; a line per minute."""
    for thread in people.threads:
        thread.start()
    end, minute = time.monotonic() + minutes * 60, (time.monotonic() - begin) // 60 + 1
    try:
        while (now := time.monotonic()) < end and not running.dead():
            if now >= begin + minute * 60:
                with people.lock:
                    print(f"minute {minute:.0f}: {dict(people.done)}, {len(people.wrong)} wrong; {running.text()}", flush=True)
                minute += 1
            time.sleep(0.1)
    finally:
        people.end.set()
        for thread in people.threads:
            thread.join()


def crowd(args, folder):
    alone = Corolla(args.bin, args.model, str(folder / "alone"))
    prompts = random.Random(args.seed).sample(PROMPTS.read_text(encoding="utf-8").splitlines(), 6)
    expected = {p: alone.tokens(["--local", "--threads", "1"], p, args.tokens) for p in prompts}
    running, failures, rests, begin = Watched(args, folder), [], [], time.monotonic()
    halves = 1 if args.quick else 2
    try:
        for half in range(halves):
            people = Crowd(args, folder, running, expected, half)
            let_in(people, running, begin, args.minutes / halves)
            failures += [f"server {i} ended" for i in running.dead()]
            if people.wrong:
                failures.append(f"{len(people.wrong)} answers were wrong or missing, the first: {people.wrong[0]}")
            if not people.done["good"]:
                failures.append("nobody was answered")
            print(f"seed {args.seed}, half {half + 1}: {dict(people.done)}, {len(people.wrong)} wrong", flush=True)
            if not running.dead() and not gone(running, "corolla_sessions", LEFT_S):
                failures.append("sessions are left of clients that went away")
            if not args.quick and not running.dead() and not gone(running, "corolla_prefixes", PREFIX_S):
                failures.append("prefixes are kept for longer than their age")
            if not args.quick:
                time.sleep(BUFFERS_S)
            rests.append(at_rest(running) if not running.dead() else [])
    finally:
        running.stop()
    failures += grown(*rests) if halves == 2 else []
    if failures:
        sys.exit("crowd: " + "; ".join(failures))


def main():
    parser = machine.arguments(__doc__)
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 30), help="(a random one)")
    parser.add_argument("--tokens", type=int, default=48, help="of an answer (48)")
    args = parser.parse_args()
    args.model = args.model or machine.output(["tools/model.sh"])
    if args.quick:
        args.minutes = 0.15
    print(f"`bench/crowd.py --minutes {args.minutes:g}`, {machine.describe()}")
    with tempfile.TemporaryDirectory(prefix="corolla-bench-") as folder:
        crowd(args, pathlib.Path(folder))


if __name__ == "__main__":
    main()
