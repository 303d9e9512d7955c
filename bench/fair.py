#!/usr/bin/env python3
"""How clients share one server: prints rows of bench/RESULTS.md.

    bench/fair.py            a client beside one with 50 sessions; tokens while somebody sends a prompt of 4,096 tokens; eight clients
    bench/fair.py --quick    the same code on tiny sizes (a test)

One server of all blocks, one thread. A client is `corolla bench`, a process with a home of its own.
"""

import json
import pathlib
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import gguf
import machine
from processes import Corolla, servers


class Clients:
    def __init__(self, args, folder, joins):
        self.args, self.folder, self.joins, self.n = args, folder, joins, 0

    def start(self, *flags):
        """A `corolla bench` that runs on, with a new home."""
        self.n += 1
        corolla = Corolla(self.args.bin, self.args.model, f"{self.folder}/client-{self.n}")
        return subprocess.Popen(corolla.command("bench", *self.joins, *flags, "--repetitions", "1", "--json"), env=corolla.environment, stdout=subprocess.PIPE)

    def decode(self, tokens):
        """One user's figures."""
        return result(self.start("-p", "0", "-n", str(tokens)))


def result(process):
    out, _ = process.communicate()
    if process.returncode:
        sys.exit(f"fair: a client ended with {process.returncode}; no figure is told")
    return json.loads(out)


def beside(clients, args, *flags):
    """One user's figures while another client does this."""
    other = clients.start(*flags)
    time.sleep(args.settle)
    figures = clients.decode(args.tokens)
    over = other.poll() is not None
    other.kill()
    other.communicate()
    if over:
        sys.exit("fair: the other client was over too early; no figure is told")
    return figures


def row(what, value, goal, reached):
    print(f"| {what} | {value} | {goal} | {'yes' if reached else '**no**'} |", flush=True)


def main():
    args = machine.arguments(__doc__).parse_args()
    args.model = args.model or machine.output(["tools/model.sh"])
    args.tokens, args.sessions, args.prompt, args.settle = (16, 6, 512, 1.0) if args.quick else (128, 50, 4096, 3.0)
    forever = "3500"
    whole = [(0, gguf.sizes(args.model)["n_blocks"])]
    print(f"`bench/fair.py`, {machine.describe()}, {pathlib.Path(args.model).name}\n\n| what | measured | goal | reached |\n" + "| --- " * 4 + "|")
    with tempfile.TemporaryDirectory(prefix="corolla-bench-") as folder:
        with servers(Corolla(args.bin, args.model, f"{folder}/server"), whole, ("--cache-tokens", "300000")) as running:
            clients = Clients(args, folder, running.joins())
            alone = clients.decode(args.tokens)
            crowd = beside(clients, args, "-p", "0", "-n", forever, "--users", str(args.sessions))
            share = crowd["decode_tokens_per_s"] / alone["decode_tokens_per_s"]
            row(f"speed of one user beside a client with {args.sessions} sessions / alone ({alone['decode_tokens_per_s']:.1f} tokens/s)", f"{share:.2f}", ">= 0.45", share >= 0.45)
            prompt = beside(clients, args, "-p", str(args.prompt), "-n", "0", "--users", "4")
            wait = prompt["decode_p99_ms"] / alone["decode_p50_ms"]
            row(f"p99 of a token while another sends prompts of {args.prompt:,} tokens / p50 in quiet ({alone['decode_p50_ms']:.2f} ms)", f"{wait:.2f}", "<= 2.5", wait <= 2.5)


if __name__ == "__main__":
    main()
