"""Faults of the network between real processes, and a server that slows down: the tokens stay the same, and only who is at fault is replaced.

Every server announces the address of a proxy, so that the client, the hop before and gossip all reach it through that."""

import os
import signal
import sys
import threading
import time
import unittest

import toxiproxy
from drive import Driven
from support import MAKE_MODEL, SLOWER, Case, Server, listener

DRIVE = os.path.join(os.path.dirname(MAKE_MODEL), "drive")
SPANS = ("0:2", "2:4", "4:6")
PROMPT, ROOM = 40, 400
HANG_MS = 1000 * SLOWER
PROGRAM = toxiproxy.find()


class Generation(Case):
    """A client whose tokens are compared with those of one process."""

    def client(self, model, codes=(), hang_ms=HANG_MS):
        client = Driven(DRIVE, model, codes, hang_ms, self.environment("client" if codes else "local"))
        self.addCleanup(client.close)
        return client

    def begin(self, model, servers, n_local):
        """A session through these, at the end of a prompt. Who is to stand by starts later, so that the chain is known."""
        local = self.client(model)
        local.do(f"open {PROMPT + n_local + 1}")
        local.do(f"prefill {PROMPT}")
        self.expected = local.do(f"decode {n_local}").tokens
        local.close()
        self.session = self.client(model, [s.code for s in servers])
        self.session.do(f"open {ROOM}")
        self.session.do(f"prefill {PROMPT}")
        self.n_tokens = 0

    def decode(self, n, on_token=None):
        """The next n tokens, which are right; what happened meanwhile."""
        return self.check(n, self.session.do(f"decode {n}", on_token))

    def check(self, n, answer):
        """That it waited is left out: on a slow machine it may take a while until a spare is known."""
        self.assertEqual(answer.tokens, self.expected[self.n_tokens:self.n_tokens + n])
        self.n_tokens += n
        return [e for e in answer.events if e.kind != "waiting"]

    def hops(self):
        self.session.do("hops")
        return self.session.hops


@unittest.skipUnless(PROGRAM, "there is no Go to build Toxiproxy")
class Network(Generation):
    def setUp(self):
        super().setUp()
        self.model = self.tiny_model(arch="llama", type="q8_0", n_blocks=6, n_ctx=512)
        self.toxiproxy = toxiproxy.Toxiproxy(PROGRAM, self.folder / "toxiproxy.log")
        self.addCleanup(self.toxiproxy.close)
        self.toxiproxy.address = self.wait_until("Toxiproxy listens", lambda: listener(self.toxiproxy.process.pid))
        self.proxies = {}  # by node

    def start(self):
        """A server of each span behind a proxy, ready, a node of its own that knows the others."""
        for span in SPANS:
            home = f"home-{len(self.servers)}"
            proxy = toxiproxy.Proxy(self.toxiproxy, home)
            joins = [word for s in self.servers[:1] for word in ("--join", s.code)]
            server = Server(self, self.model, "--blocks", span, "--announce", proxy.listen, *joins, home=home)
            proxy.point_to(self.wait_until("it listens", lambda: listener(server.process.pid)))
            server.wait_ready()
            self.proxies[self.corolla("key", "show", home=home).stdout.strip()] = proxy

    def begin_with_spares(self, n_local):
        self.start()
        self.begin(self.model, self.servers, n_local)
        self.start()
        self.wait_until("all are known", lambda: '"replicas":[2,2,2,2,2,2]' in
                        self.corolla("swarm", "--json", "--join", self.servers[0].code, home="view").stdout.replace(" ", ""))

    def replaced(self, index, reason, fault):
        """In the middle of a generation one hop gets a fault: it alone is replaced, for this reason."""
        before = self.hops()
        events = self.decode(16, lambda n: fault(self.proxies[before[index].node]) if n == 8 else None)
        events = events or self.wait_until("the fault is noticed", lambda: self.decode(1))  # by a heartbeat, between two tokens
        after = self.hops()
        self.assertEqual([(e.kind, e.node, e.reason) for e in events], [("recovered", before[index].node, reason)])
        self.assertNotEqual(before[index], after[index], events)  # others stay, but for when nobody else could be had at once
        return events[0]

    def test_a_cut_connection_of_each_hop(self):
        self.begin_with_spares(300)
        for index in (0, 1, 2):
            self.replaced(index, "crashed", lambda p: p.enable(False))
        self.assertEqual(self.decode(32), [])

    def test_a_stalled_connection_hangs(self):
        self.begin_with_spares(200)
        event = self.replaced(1, "hung", lambda p: p.add("timeout", timeout=0))
        self.assertLess(event.pause_ms, HANG_MS * 2)
        self.assertEqual(self.decode(32), [])

    def test_half_open_connections_hang(self):
        """What is sent arrives, answers do not; and the other way around."""
        self.begin_with_spares(300)
        self.replaced(0, "hung", lambda p: p.add("timeout", ["downstream"], timeout=0))
        self.replaced(2, "hung", lambda p: p.add("timeout", ["upstream"], timeout=0))
        self.assertEqual(self.decode(32), [])

    def test_connections_that_are_reset(self):
        self.begin_with_spares(300)
        for index in (0, 1, 2):
            self.replaced(index, "crashed", lambda p: p.add("reset_peer", timeout=0))
        self.assertEqual(self.decode(32), [])

    def test_one_byte_at_a_time(self):
        self.goes_on("slicer", 32, average_size=1, size_variation=0, delay=0)

    def test_200_ms_of_latency(self):
        self.goes_on("latency", 6, latency=200)

    def test_1_mbit_per_second(self):
        self.goes_on("bandwidth", 64, rate=125)

    def goes_on(self, kind, n, **attributes):
        """A bad network is no fault: nobody is replaced, whether a session begins on it or gets into it."""
        self.begin_with_spares(2 * n)
        before = self.hops()
        self.assertEqual(self.decode(n), [])
        for proxy in self.proxies.values():
            proxy.add(kind, **attributes)
        self.assertEqual(self.decode(n), [])
        self.assertEqual(self.hops(), before)
        self.session.close()
        self.begin(self.model, self.servers, n)
        self.assertEqual(self.decode(n), [])

    def test_all_connections_are_cut_for_five_seconds(self):
        self.own_network(lambda p: p.enable(False))

    def test_all_connections_are_silent_for_five_seconds(self):
        self.own_network(lambda p: p.add("timeout", timeout=0))

    def own_network(self, cut):
        """The session goes on where it was, and nobody is replaced."""
        self.begin_with_spares(200)
        before = self.hops()
        chain = {h.node for h in before}
        self.session.send("decode 64")
        for node in sorted(self.proxies, key=lambda node: node in chain):  # spares first: who is cut last could replace who is cut first
            cut(self.proxies[node])
        time.sleep(5)  # what is tested
        self.toxiproxy.reset()
        events = self.check(64, self.session.receive()) + self.decode(16)  # the cut may have come behind the 64
        self.assertEqual({(e.kind, e.reason) for e in events}, {("recovered", "own network")}, events)
        self.assertEqual(sorted(e.node for e in events), sorted(h.node for h in before))
        self.assertEqual(self.hops(), before)


class Slow(Generation):
    def start(self, model, span):
        joins = [word for s in self.servers[:1] for word in ("--join", s.code)]
        return Server(self, model, "--blocks", span, *joins, home=f"home-{len(self.servers)}").wait_ready()

    def test_a_server_that_became_twenty_times_slower_is_left_for_a_fast_one(self):
        model = self.real_model()
        for span in ("0:10", "10:20", "20:30"):
            self.start(model, span)
        self.begin(model, self.servers, 200)
        self.assertEqual(self.decode(8), [])
        before, slow = self.hops(), self.servers[1].process
        self.start(model, "10:20")
        with Slowed(slow):
            events = []
            while not events and self.n_tokens < 192:
                events = self.decode(8)
        self.assertEqual([(e.kind, e.node, e.reason) for e in events], [("moved", before[1].node, "too slow")])
        after = self.hops()
        self.assertEqual([before[0], before[2]], [after[0], after[2]])
        self.assertEqual(self.decode(8), [])


class Slowed:
    """A process of which 2 ms of each 40 run."""

    def __init__(self, process):
        self.process, self.end = process, threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self):
        while not self.end.is_set():
            self.process.send_signal(signal.SIGSTOP)
            self.end.wait(0.038)
            self.process.send_signal(signal.SIGCONT)
            time.sleep(0.002)

    def __enter__(self):
        self.thread.start()

    def __exit__(self, *_):
        self.end.set()
        self.thread.join()


if not PROGRAM:
    print("SKIPPED: faults of the network: there is no Go to build Toxiproxy", file=sys.stderr, flush=True)

if __name__ == "__main__":
    unittest.main()
