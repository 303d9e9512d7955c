#!/usr/bin/env python3
"""What it costs that servers die: prints the tables of bench/RESULTS.md, "What a failure costs".

    bench/recovery.py --only pause --positions 64 512    the pauses after SIGKILL, SIGSTOP and SIGTERM at these positions
    bench/recovery.py --only long                        1,024 tokens with a failure each 100, beside clients that cannot recover
    bench/recovery.py --only memory --beside PROGRAM     what a hop keeps for a long session, beside a client that does not ask for it
    bench/recovery.py --only ready --beside PROGRAM      decoding, the same
    bench/recovery.py --quick                            all of it, tiny (a test)

PROGRAM is tests/e2e/drive.c of a build in which chain_splice() (src/client/hops.c) sets keep = false.

Three spans with a server and a spare each, of one thread, every server a node of its own; who dies is replaced by a new node. The client is
tests/e2e/drive.c. Prefill is what the lost span's server itself said that it computed for the same positions in the same round, in chunks of 128 while
nobody else computed. A pause is the longest time between two tokens, so it has one normal token in it. All tokens are compared with the
undisturbed ones before anything is told.
"""

import argparse
import os
import pathlib
import signal
import statistics
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent))
sys.path.insert(0, str(pathlib.Path(__file__).parent.parent / "tests" / "e2e"))
import gguf
import machine
from drive import Driven
from processes import Nodes, thirds

SETTLE_S = 1.5  # until a new server is known to the client
HANG_MS = 4000  # the default of --hang-limit
PROMPT = 16  # tokens, of the long generation
KIB = 1024


def fail(why):
    sys.exit(f"recovery: {why}; no figure is told")


class Swarm(Nodes):
    """Servers of three spans, and the clients."""

    def __init__(self, args, folder):
        super().__init__(args.bin, args.model, folder)
        self.args, self.clients = args, []

    def client(self, program=None):
        environment = dict(os.environ, COROLLA_HOME=str(self.folder / f"client-{len(self.clients)}"))
        self.clients.append(Driven(program or self.args.client, self.args.model, self.living(), env=environment))
        return self.clients[-1]

    def add_spares(self):
        """Of each span one more. Behind the opening of a session, so that its chain is the first three."""
        for span in thirds(self.args.model):
            self.add(span)
        time.sleep(SETTLE_S)

    def hit(self, hop, number):
        self.by_node[hop.node].send_signal(number)

    def replace(self, hop):
        """A new server for the span of one that was hit, which is gone then; of which the hop may have used a part."""
        process = self.by_node[hop.node]
        process.kill()
        process.wait()
        self.add(self.spans[hop.node])

    def stop(self):
        for client in self.clients:
            client.close()
        super().stop()


class Table:
    def __init__(self, *head):
        self.rows = [head, ("---",) * len(head)]

    def add(self, *row):
        self.rows.append(tuple(f"{cell:.0f}" if isinstance(cell, float) else str(cell) for cell in row))

    def limit(self, *row, value, goal):
        self.add(*row, value, f"<= {goal:.0f}", "yes" if value <= goal else "**no**")

    def print(self):
        print("\n".join("| " + " | ".join(row) + " |" for row in self.rows) + "\n", flush=True)


def must_equal(tokens, expected, what):
    n = min(len(tokens), len(expected))
    if tokens[:n] != expected[:n]:
        fail(f"{what}: other tokens than undisturbed")


# ---- pauses at a position


class Pauses:
    """Rounds at one position: what is lost is computed anew each time, so that prefill and pause are of the same minute."""

    HOW = {signal.SIGKILL: "recovered", signal.SIGSTOP: "recovered", signal.SIGTERM: "moved"}

    def __init__(self, args, swarm, client, n):
        self.args, self.swarm, self.client, self.n = args, swarm, client, n
        self.results = {how: [] for how in self.HOW}  # (pause, normal token, prefill of the span), in ms
        self.undisturbed = None

    def round(self, turn):
        self.client.do("back 0")
        compute = self.client.do(f"prefill {self.n}").compute_ms
        normal = self.client.do(f"decode {self.args.tokens}")
        if self.undisturbed is None:
            self.undisturbed = normal.tokens
        must_equal(normal.tokens, self.undisturbed, "a repetition")
        for i, how in enumerate(self.HOW):
            self.client.do("hops")
            index = (turn + i) % 3
            self.one(how, self.client.hops[index], compute[index], statistics.median(normal.gaps()))

    def one(self, how, hop, prefill, normal):
        self.client.do(f"back {self.n}")
        answer = self.client.do(f"decode {self.args.tokens}", lambda n: self.swarm.hit(hop, how) if n == 4 else None)
        while how == signal.SIGTERM and not answer.events and len(answer.tokens) < 512:  # it works on until its sessions have left
            answer += self.client.do("decode 32")
        must_equal(answer.tokens, self.undisturbed, how.name)
        if [e.kind for e in answer.events] != [self.HOW[how]]:
            fail(f"{how.name} of blocks {hop.begin}:{hop.end} at {self.n} was answered by {answer.events}")
        self.results[how].append((max(answer.gaps()), normal, prefill))
        print(f"recovery: {how.name} at {self.n}, blocks {hop.begin}:{hop.end}: {max(answer.gaps()):.0f} ms, a token {normal:.0f}, prefill {prefill:.0f}; {answer.events[0].reason}",
              file=sys.stderr, flush=True)
        self.swarm.replace(hop)
        time.sleep(SETTLE_S)

    def fill(self, table):
        for how, allowed in ((signal.SIGKILL, 0), (signal.SIGSTOP, HANG_MS)):
            pause, _, prefill = (statistics.median(column) for column in zip(*self.results[how]))
            over = statistics.median(p - allowed - 100 - 1.3 * f for p, _, f in self.results[how])
            limit = ("4,000 + " if allowed else "") + "100 + 1.3 x prefill"
            table.add(f"{how.name} at {self.n}", pause, prefill, f"<= {limit} = {allowed + 100 + 1.3 * prefill:.0f}", "yes" if over <= 0 else "**no**")
        late = [pause - normal for pause, normal, _ in self.results[signal.SIGTERM]]
        normal = statistics.median(normal for _, normal, _ in self.results[signal.SIGTERM])
        prefill = statistics.median(prefill for _, _, prefill in self.results[signal.SIGTERM])
        ok = all(pause - n <= 2 * n + 200 for pause, n, _ in self.results[signal.SIGTERM])
        table.add(f"SIGTERM at {self.n}: the latest token of all rounds, beyond its normal time", max(late), prefill, f"<= 2 x {normal:.0f} + 200", "yes" if ok else "**no**")


def measure_pauses(args, swarm):
    table = Table("what", "ms", "prefill of the span, ms", "goal", "reached")
    client = swarm.client()
    client.do(f"open {max(args.positions) + args.tokens + 520}")
    swarm.add_spares()
    for n in args.positions:
        pauses = Pauses(args, swarm, client, n)
        for turn in range(args.rounds):
            pauses.round(turn)
        pauses.fill(table)
    print(f"Medians of {args.rounds} rounds, hops in turns; all tokens as undisturbed.\n")
    table.print()


# ---- a long generation


class Long:
    """The same generation undisturbed, with failures, and with failures and clients that cannot recover: one feeds all its tokens to a new
    session, the other begins its answer anew."""

    def __init__(self, args, swarm):
        self.args, self.swarm = args, swarm
        self.client = swarm.client()
        self.client.do(f"open {PROMPT + args.long + 1}")
        swarm.add_spares()
        self.fails_at = range(args.each, args.long, args.each)

    def prefills(self):
        """What each hop computes up to the positions at which one fails, in ms."""
        self.client.do("back 0")
        sums, out = [0, 0, 0], []
        for at in self.fails_at:
            sums = [a + b for a, b in zip(sums, self.client.do(f"prefill {PROMPT + at}").compute_ms)]
            out.append(sums)
        return out

    def start(self):
        self.client.do("back 0")
        self.client.do(f"prefill {PROMPT}")

    def undisturbed(self):
        self.start()
        answer = self.client.do(f"decode {self.args.long}")
        return answer.tokens, (answer.at[-1] - answer.at[0]) / 1000

    def failing(self, again):
        """Kills a hop behind each piece; its replacement starts while the client goes on, or starts again."""
        self.start()
        first = self.client.do(f"decode {self.args.each}")
        tokens, begin, end, events = first.tokens, first.at[0], 0, []
        for i, at in enumerate(self.fails_at):
            self.client.do("hops")
            victim = self.client.hops[i % 3]
            self.swarm.hit(victim, signal.SIGKILL)
            piece = f"decode {min(self.args.each, self.args.long - at)}"
            self.client.send("again" if again else piece)
            self.swarm.replace(victim)
            answer = self.client.receive()
            if again:
                answer = self.client.do(piece)
            tokens, end, events = tokens + answer.tokens, answer.at[-1], events + answer.events
        return tokens, (end - begin) / 1000, events

    def restarting(self, limit_s):
        """Begins its answer anew after each failure; stops when it has taken limit_s, or has the whole answer. Its seconds, without the waits
        until a new server is known; its longest answer; how often it began."""
        self.start()
        spent, best, starts = 0.0, 0, 1
        while True:
            begin = time.monotonic()
            tokens = self.client.do(f"decode {self.args.each}").tokens
            best = max(best, len(tokens))
            must_equal(tokens, self.expected, "a client that begins its answer anew")
            self.client.do("hops")
            victim = self.client.hops[starts % 3]
            self.swarm.hit(victim, signal.SIGKILL)
            self.client.do(f"back {PROMPT}")
            self.client.do("again")
            spent += time.monotonic() - begin
            if spent >= limit_s or best == self.args.long:
                return spent, best, starts
            starts += 1
            self.swarm.replace(victim)
            time.sleep(SETTLE_S)


def measure_long(args, swarm):
    run = Long(args, swarm)
    prefills = run.prefills()
    expected, quiet = run.undisturbed()
    run.expected = expected
    tokens, ours, events = run.failing(again=False)
    must_equal(tokens, expected, "with failures")
    if [e.kind for e in events] != ["recovered"] * len(prefills):
        fail(f"{len(prefills)} failures were answered by {events}")
    time.sleep(SETTLE_S)
    tokens, again, events = run.failing(again=True)
    must_equal(tokens, expected, "a client that starts again")
    time.sleep(SETTLE_S)
    restarted, best, starts = run.restarting(5 * ours)
    limit = quiet + sum(0.1 + 1.3 * of_hops[i % 3] / 1000 for i, of_hops in enumerate(prefills))
    table = Table(f"{args.long:,} tokens, a failure each {args.each}", "s", "goal", "reached")
    table.add("undisturbed", f"{quiet:.1f}", "", "")
    table.add(f"with {len(prefills)} failures", f"{ours:.1f}", f"<= undisturbed + sum of (0.1 + 1.3 x prefill) = {limit:.1f}", "yes" if ours <= limit else "**no**")
    table.add("a client that opens a new session each time and feeds all so far", f"{again:.1f}", "", "")
    table.add("a client that begins its answer anew each time", f"> {restarted:.0f}: stopped, the longest of {starts} tries had {best} tokens",
              f">= 5 x ours = {5 * ours:.1f}", "yes" if restarted >= 5 * ours else "**no**")
    table.print()


# ---- memory, readiness


def session_memory(args, program):
    """Of new servers, at the end of their first session, in KiB: later ones use again what was freed."""
    with tempfile.TemporaryDirectory(prefix="corolla-recovery-") as folder:
        swarm = Swarm(args, folder)
        try:
            for span in thirds(args.model):
                swarm.add(span)
            client = swarm.client(program)
            client.do(f"open {args.memory + 64}")
            client.do(f"prefill {args.memory}")
            return [machine.memory(swarm.by_node[hop.node].pid, "RssAnon") / KIB for hop in client.hops]
        finally:
            swarm.stop()


def measure_memory(args, _):
    without, kept = session_memory(args, args.beside), session_memory(args, args.client)
    ideal = args.memory * gguf.sizes(args.model)["n_embd"] * 4 / KIB
    table = Table(f"private memory of a server with a session of {args.memory:,} positions, KiB", "without", "with OPEN.keep", "more", "goal", "reached")
    for i, what in enumerate(("hop 1", "hop 2", "hop 3, which has nothing to keep")):
        table.limit(what, without[i], kept[i], value=kept[i] - without[i], goal=1.1 * ideal)
    table.print()
    print(f"tokens x n_embd x 4 = {ideal:.0f} KiB\n")


def measure_ready(args, swarm):
    """Both clients have a session on the same chain and decode in turns, A B B A, so that who comes second pays nothing."""
    clients = [swarm.client(), swarm.client(args.beside)]
    for client in clients:
        client.do(f"open {PROMPT + (2 * args.pairs + 1) * args.tokens}")
        client.do(f"prefill {PROMPT}")
        client.do(f"decode {args.tokens}")
    ratios, tokens = [], [[], []]
    for _ in range(args.pairs):
        ms = [0, 0]
        for i in (0, 1, 1, 0):
            answer = clients[i].do(f"decode {args.tokens}")
            tokens[i] += answer.tokens
            ms[i] += answer.at[-1] - answer.at[0]
        ratios.append(ms[0] / ms[1])
    must_equal(tokens[0], tokens[1], "keeping nothing")
    ratios.sort()
    cost, quarter = 100 * (statistics.median(ratios) - 1), len(ratios) // 4
    table = Table(f"{len(ratios)} rounds of 4 x {args.tokens} tokens", "%", "goal", "reached")
    table.add(f"time of a token with OPEN.keep beyond that without, the median (quartiles {100 * (ratios[quarter] - 1):.1f} to {100 * (ratios[-quarter - 1] - 1):.1f})",
              f"{cost:.2f}", "< 2", "yes" if cost < 2 else "**no**")
    table.print()


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--bin", default="build-test/corolla", help="the program")
    parser.add_argument("--client", help="drive (beside the program)")
    parser.add_argument("--model", help="a GGUF file (the default model)")
    parser.add_argument("--only", choices=["pause", "long", "memory", "ready"], help="one part")
    parser.add_argument("--positions", type=int, nargs="+", default=[64, 512, 2048], help="of the pauses (64 512 2048)")
    parser.add_argument("--rounds", type=int, default=5, help="of the pauses (5)")
    parser.add_argument("--beside", help="a drive whose sessions do not set OPEN.keep")
    parser.add_argument("--quick", action="store_true", help="tiny sizes")
    args = parser.parse_args()
    args.tokens, args.long, args.each, args.memory, args.pairs = (8, 24, 8, 384, 3) if args.quick else (32, 1024, 100, 4096, 40)
    if args.quick:
        args.positions, args.rounds = [64], 1
    args.client = args.client or str(pathlib.Path(args.bin).parent / "tests" / "drive")
    args.beside = args.beside or (args.client if args.quick else None)
    args.model = args.model or machine.output(["tools/model.sh"])
    return args


def main():
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers are stopped
    os.chdir(pathlib.Path(__file__).resolve().parent.parent)
    command = " ".join(["bench/recovery.py"] + sys.argv[1:])
    args = parse_arguments()
    parts = {"pause": measure_pauses, "long": measure_long, "memory": measure_memory, "ready": measure_ready}
    print(f"`{command}`, {machine.describe()}, {pathlib.Path(args.model).name}\n", flush=True)
    for name, measure in parts.items():
        if args.only not in (None, name) or (name in ("memory", "ready") and not args.beside):
            continue
        with tempfile.TemporaryDirectory(prefix="corolla-recovery-") as folder:
            swarm = Swarm(args, folder)
            try:
                for span in thirds(args.model):
                    swarm.add(span)
                measure(args, swarm)
            finally:
                swarm.stop()


if __name__ == "__main__":
    main()
