#!/usr/bin/env python3
"""32 users through a chain of three servers beside 32 users of llama.cpp's llama-server: prints rows of bench/RESULTS.md.

    bench/many.py            the figures; needs llama-server, which bench/peers.sh builds
    bench/many.py --quick    the same code on tiny sizes and without a peer (a test)

The chain has a thread a server, three in all, on however many cores there are; llama-server has as many threads as there are cores, at most
three, since more of them only wait for each other. All users answer at once, each so many tokens from a short prompt, greedily.
"""

import concurrent.futures
import contextlib
import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import machine
from llama import Llama, compare, ours
from processes import Corolla, servers, thirds

CONTEXT = 256  # of a user


class LlamaServer:
    """llama-server with a slot for each user."""

    def __init__(self, llama, model, users):
        self.users = users
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.at = f"http://127.0.0.1:{free.getsockname()[1]}"
        threads = str(min(3, len(os.sched_getaffinity(0))))
        self.process = subprocess.Popen([llama.folder / "llama-server", "-m", model, "--host", "127.0.0.1", "--port", self.at.rpartition(":")[2], "-t", threads,
                                         "-tb", threads, "-np", str(users), "-c", str(users * CONTEXT), "--no-webui"],
                                        env=llama.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while not self.answers():
            if time.monotonic() > deadline or self.process.poll() is not None:
                sys.exit("many: llama-server does not answer; no figure is told")
            time.sleep(0.1)

    def answers(self):
        with contextlib.suppress(OSError):
            return urllib.request.urlopen(f"{self.at}/health", timeout=1).status == 200
        return False

    def ask(self, tokens):
        body = {"prompt": "A corolla", "n_predict": tokens, "temperature": 0, "ignore_eos": True, "cache_prompt": False}
        request = urllib.request.Request(f"{self.at}/completion", json.dumps(body).encode(), {"Content-Type": "application/json"})
        with urllib.request.urlopen(request, timeout=600) as answer:
            return json.load(answer)["tokens_predicted"]

    def speed(self, tokens):
        """Tokens per second of all users together."""
        with concurrent.futures.ThreadPoolExecutor(self.users) as pool:
            began = time.monotonic()
            total = sum(pool.map(self.ask, [tokens] * self.users))
            return total / (time.monotonic() - began)

    def stop(self):
        self.process.kill()
        self.process.wait()


def main():
    args = machine.arguments(__doc__, rounds=3).parse_args()
    args.model = args.model or machine.output(["tools/model.sh"])
    users, tokens = (4, 4) if args.quick else (32, 64)
    print(f"`bench/many.py`, {machine.describe()}, medians of {args.rounds} rounds\n\n| what | corolla | peer | ratio | goal | reached |\n" + "| --- " * 6 + "|")
    with tempfile.TemporaryDirectory(prefix="corolla-bench-") as folder, contextlib.ExitStack() as stack:
        chain = Corolla(args.bin, args.model, f"{folder}/chain")
        running = stack.enter_context(servers(Corolla(args.bin, args.model, f"{folder}/server"), thirds(args.model), ("--cache-tokens", str(users * CONTEXT))))
        peer = None
        if not args.quick:
            peer = LlamaServer(Llama("usual"), args.model, users)
            stack.callback(peer.stop)
        compare(args.rounds, f"{users} users through three servers / llama-server, usual", 1.0, lambda: ours(chain, users, 0, tokens, *running.joins()),
                (lambda: peer.speed(tokens)) if peer else None)


if __name__ == "__main__":
    main()
