"""The figures of bench/RESULTS.md: corolla beside llama.cpp's llama-bench, in interleaved rounds of one run.

    python3 bench/run.py [--quick] [--rounds N] [--model FILE] [--peer PATH]

Prints Markdown: machine, commit and command, then a table with both sides' medians and the median of the rounds' ratios. Before a
speed is quoted, the tokens of the chain are compared with those of one process. --quick runs tiny and needs no peer: it is there so
that this cannot rot.
"""

import argparse
import json
import os
import pathlib
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parent.parent
BIN = os.environ.get("COROLLA_BIN", str(ROOT / "build" / "corolla"))
PROMPT = "Write a short story about a flower that wanted to see the sea."


def output(*command, env=None):
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ, **(env or {})}, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


class Servers:
    """Servers on loopback, one per span; a context manager that stops them."""

    def __init__(self, model, spans, *flags):
        self.model, self.spans, self.flags = model, spans, flags
        self.processes, self.joins, self.ready_s = [], [], []

    def __enter__(self):
        self.home = tempfile.mkdtemp(prefix="corolla-bench-")
        for begin, end in self.spans:
            start = time.monotonic()
            process = subprocess.Popen(
                [BIN, "serve", self.model, "--blocks", f"{begin}:{end}", "--listen", "127.0.0.1:0", "--no-lan", *self.flags],
                stdout=subprocess.PIPE, text=True, env={**os.environ, "COROLLA_HOME": self.home})
            self.processes.append(process)
            join = process.stdout.readline().split()
            ready = process.stdout.readline().split()
            if join[:1] != ["join"] or ready[:1] != ["ready"]:
                self.__exit__()
                sys.exit("a server did not start")
            self.joins += ["--join", join[1]]
            self.ready_s.append(time.monotonic() - start)
        return self

    def __exit__(self, *_):
        for process in self.processes:
            process.send_signal(signal.SIGTERM)
        for process in self.processes:
            process.wait(timeout=20)
        shutil.rmtree(self.home)


def ours(model, size, *flags):
    """(prefill, decode) in tokens/s."""
    text = output(BIN, "bench", model, "--json", "--no-lan", "--repetitions", "1", "-p", str(size[0]), "-n", str(size[1]), *flags)
    figures = json.loads(text)
    return figures["prefill_tokens_per_s"], figures["decode_tokens_per_s"]


def theirs(peer, model, size, threads, fast):
    rows = json.loads(output(peer, "-m", model, "-t", str(threads), "-p", str(size[0]), "-n", str(size[1]), "-r", "1", "-o", "json",
                             "-fa", "1" if fast else "0", env={} if fast else {"GGML_CPU_TILED_MM": "0"}))
    speed = {("prefill" if row["n_gen"] == 0 else "decode"): row["avg_ts"] for row in rows}
    return speed["prefill"], speed["decode"]


def tokens(model, *flags):
    return json.loads(output(BIN, "run", model, "--json", "--no-lan", "--temp", "0", "-n", "32", "--chat", "-p", PROMPT, *flags))["tokens"]


def proportional(pid):
    """Kilobytes that the process has resident: all, and of them mapped from the model file."""
    whole = mapped = 0
    of_model = False
    for line in pathlib.Path(f"/proc/{pid}/smaps").read_text().splitlines():
        if re.match(r"[0-9a-f]+-[0-9a-f]+ ", line):
            of_model = line.endswith(".gguf")
        elif line.startswith("Rss:"):
            kb = int(line.split()[1])
            whole += kb
            mapped += kb if of_model else 0
    return whole, mapped


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Table:
    def __init__(self):
        self.rows = []

    def pair(self, what, goal, mine, peer):
        ratio = statistics.median(a / b for a, b in zip(mine, peer))
        self.rows.append((what, f"{statistics.median(mine):.1f} tok/s", f"{statistics.median(peer):.1f} tok/s", f"{ratio:.3f}", f">= {goal}",
                          "reached" if ratio >= goal else "not reached"))

    def single(self, what, value, goal, good):
        self.rows.append((what, value, "", "", goal, "reached" if good else "not reached"))

    def show(self):
        print("| what | corolla | llama.cpp | ratio | goal | |\n|---|---|---|---|---|---|")
        for row in self.rows:
            print("| " + " | ".join(row) + " |")


def speeds(table, args, size):
    """The paired rows. Within a round the two sides alternate, so that a slow minute of the machine hits both."""
    thirds = [(0, 10), (10, 20), (20, 30)]
    with Servers(args.model, [(0, 30)], "--threads", "1") as one, Servers(args.model, thirds, "--threads", "1") as three:
        alone = tokens(args.model, "--local", "--threads", "1")
        if tokens(args.model, *one.joins) != alone or tokens(args.model, *three.joins) != alone:
            sys.exit("the chain's tokens differ from those of one process: no speed is worth quoting")
        mine, peer = {}, {}
        for _ in range(args.rounds):
            for name, flags in (("t1", ("--local", "--threads", "1")), ("t2", ("--local", "--threads", "2")),
                                ("fast", ("--local", "--threads", "2", "--fast")), ("one", one.joins), ("three", three.joins)):
                mine.setdefault(name, []).append(ours(args.model, size, *flags))
                if args.peer:
                    threads = 2 if name in ("t2", "fast") else 1
                    peer.setdefault(name, []).append(theirs(args.peer, args.model, size, threads, name == "fast"))
    if not args.peer:
        return
    column = lambda side, name, i: [pair[i] for pair in side[name]]
    for what, goal, name, i in (("decode, --local, 1 thread", 0.97, "t1", 1), ("decode, --local, 2 threads", 0.97, "t2", 1),
                                ("decode through one server (1 thread)", 0.95, "one", 1),
                                ("decode through three servers, 1 thread each", 0.90, "three", 1),
                                ("prefill of 512, --local, 1 thread", 0.95, "t1", 0), ("prefill of 512, --local, 2 threads", 0.95, "t2", 0),
                                ("prefill of 512, --local --fast, 2 threads", 0.95, "fast", 0),
                                ("prefill of 512 through three servers", 0.95, "three", 0)):
        table.pair(what, goal, column(mine, name, i), column(peer, name, i))


def memory(table, model):
    with Servers(model, [(10, 20)], "--threads", "1") as middle, Servers(model, [(0, 10), (20, 30)], "--threads", "1") as rest:
        pid = middle.processes[0].pid
        client = subprocess.Popen([BIN, "chat", model, "--no-lan", "--temp", "0", "-n", "60", *middle.joins, *rest.joins], stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE, text=True)
        client.stdin.write(PROMPT + "\n")
        client.stdin.flush()
        client.stdout.readline()
        time.sleep(0.5)
        kv_kb = 4096 * 10 * 2 * 192 * 2 / 1024
        whole, mapped = proportional(pid)
        table.single("server with 10 blocks: memory beside its weights and KV", f"{(whole - mapped - kv_kb) / 1024:.1f} MiB", "<= 40 MiB",
                     whole - mapped - kv_kb <= 40 * 1024)
        whole, mapped = proportional(client.pid)
        table.single("client: memory beside its edges", f"{(whole - mapped) / 1024:.1f} MiB", "<= 60 MiB", whole - mapped <= 60 * 1024)
        before = cpu_seconds(pid)
        time.sleep(10)
        used = (cpu_seconds(pid) - before) / 10
        table.single("idle server, a link open: share of a core over 10 s", f"{100 * used:.2f} %", "< 1 %", used < 0.01)
        client.stdin.close()
        client.wait(timeout=20)
        ready = statistics.median(middle.ready_s + rest.ready_s)
        table.single("start of a server with 10 blocks until ready", f"{ready:.2f} s", "< 1 s", ready < 1)


def describe(args):
    cpu = next((line.split(":", 1)[1].strip() for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")), "?")
    commit = output("git", "-C", str(ROOT), "describe", "--always", "--dirty").strip()
    print(f"`python3 bench/run.py --rounds {args.rounds}` at {commit}, {cpu}, {os.cpu_count()} cores, {pathlib.Path(args.model).name}; "
          f"medians of {args.rounds} interleaved rounds, the ratio is the median of the rounds' ratios.\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--model")
    parser.add_argument("--peer", help="llama-bench; built by bench/peers.sh when not given")
    args = parser.parse_args()
    args.model = args.model or output(str(ROOT / "tools" / "model.sh")).strip()
    if args.quick:
        args.rounds = 1
    elif not args.peer:
        args.peer = output(str(ROOT / "bench" / "peers.sh")).strip()
    table = Table()
    describe(args)
    speeds(table, args, (32, 8) if args.quick else (512, 128))
    memory(table, args.model)
    table.show()


if __name__ == "__main__":
    main()
