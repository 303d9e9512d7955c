"""A swarm of real processes: it finds itself from one join code, spreads its blocks, survives its entry, and closes gaps."""

import json
import os
import signal
import subprocess
import time
import unittest

from support import COROLLA, DEADLINE, Case, Server

BLOCKS = 6


class Swarm(Case):
    def setUp(self):
        super().setUp()
        self.model = self.tiny_model(arch="llama", type="q8_0", n_blocks=BLOCKS)

    def start(self, *flags, home="home", join=()):
        """A server that chooses its blocks itself; not ready yet."""
        joins = [word for server in join for word in ("--join", server.code)]
        return Server(self, self.model, *joins, *flags, home=home)

    def look(self, *arguments, home="client", code=0):
        done = self.corolla("swarm", "--json", *arguments, home=home)
        self.assertEqual(done.returncode, code, done.stderr)
        return [json.loads(line) for line in done.stdout.splitlines()]

    def replicas(self, entry):
        seen = self.look("--join", entry.code)
        return seen[0]["replicas"]

    def tokens(self, *flags):
        return self.run_json(self.model, "the thing", *flags)["tokens"]

    def test_six_servers_cover_the_model_and_a_seventh_goes_where_it_is_thinnest(self):
        first = self.start("--num-blocks", "2").wait_ready()
        others = [self.start("--num-blocks", "2", home=f"home-{i}", join=[first]) for i in range(5)]
        for server in others:
            server.wait_ready()
        self.wait_until("two holders of each block in twelve places", lambda: self.replicas(first) == [2] * BLOCKS)
        self.assertEqual(self.tokens("--join", first.code), self.tokens("--local"))
        spans = {s["node"]: (s["begin"], s["end"]) for s in self.look("--join", first.code)[0]["servers"]}  # some may have moved
        self.assertEqual(sorted(spans.values()), [(0, 2), (0, 2), (2, 4), (2, 4), (4, 6), (4, 6)])
        nodes = [self.corolla("key", "show", home=f"home-{i}").stdout.strip() for i in range(5)]
        twin = next(i for i in range(5) if spans[nodes[i]] == (2, 4))
        others[twin].stop()
        self.wait_until("it is gone", lambda: self.replicas(first) == [2, 2, 1, 1, 2, 2])
        seventh = self.start("--num-blocks", "2", join=[first]).wait_ready()
        self.assertEqual(seventh.span, (2, 4))

    def test_a_neighbour_moves_into_a_gap(self):
        both = [self.start("--blocks", "0:3").wait_ready()]
        both.append(self.start("--blocks", "0:3", join=both).wait_ready())
        stay = self.start("--blocks", "3:6", join=both).wait_ready()
        mover = self.start("--num-blocks", "3", home="mover", join=both).wait_ready()
        self.assertEqual(mover.span, (3, 6))
        self.assertEqual(self.tokens("--join", stay.code), self.tokens("--local"))
        node = self.corolla("key", "show", home="mover").stdout.strip()
        for holder in both:
            holder.process.send_signal(signal.SIGKILL)
        self.wait_until("the neighbour moves", lambda: any(s["node"] == node and (s["begin"], s["end"]) == (0, 3) and s["state"] == "online"
                                                           for s in self.look("--join", stay.code)[0]["servers"]))
        self.assertEqual(self.tokens("--join", stay.code), self.tokens("--local"))

    def test_what_is_missing_is_named(self):
        server = self.start("--blocks", "0:4").wait_ready()
        seen = self.look("--join", server.code)
        self.assertEqual(seen[0]["replicas"], [1, 1, 1, 1, 0, 0])
        self.assertEqual(seen[0]["chain"], [])
        done = self.corolla("run", self.model, "-p", "x", "--join", server.code)
        self.assert_fails(done, "4:6")
        table = self.corolla("swarm", "--join", server.code, home="client").stdout
        self.assertIn("111100"[:4], table)
        self.assertIn("4:6", table)

    def test_the_swarm_outlives_its_entry_and_comes_back_without_a_code(self):
        entry = self.start("--blocks", "0:6", home="a").wait_ready()
        b = self.start("--blocks", "0:3", home="b", join=[entry]).wait_ready()
        c = self.start("--blocks", "3:6", home="c", join=[entry]).wait_ready()
        self.wait_until("all know all", lambda: len(self.look("--join", entry.code, home="client")[0]["servers"]) == 3)
        peers = self.folder / "client" / "peers"
        self.wait_until("peers are remembered", lambda: peers.exists() and len(peers.read_text().splitlines()) == 4)
        entry.process.send_signal(signal.SIGKILL)
        entry.process.wait()
        self.wait_until("those that are left know each other",
                        lambda: any(s["begin"] == 3 for s in self.look("--join", b.code, home=f"home-{time.monotonic_ns()}")[0]["servers"]))
        self.assertEqual(self.tokens("--join", b.code), self.tokens("--local"))
        self.assertEqual(self.run_json(self.model, "the thing", home="client")["tokens"], self.tokens("--local"))
        newcomer = self.start("--blocks", "0:6", home="client").wait_ready()  # no code: by the peers that its home remembers
        self.wait_until("it is known", lambda: any(s["begin"] == 0 and s["end"] == 6 and s["state"] == "online"
                                                   for s in self.look("--join", c.code, home="other")[0]["servers"]))
        self.assertEqual(newcomer.stop(), 0)

    def test_two_fine_tunes_with_one_name_never_mix(self):
        other = self.tiny_model("other", arch="llama", type="q8_0", n_blocks=BLOCKS, seed=2)
        a = self.start("--blocks", "0:6").wait_ready()
        b = Server(self, other, "--blocks", "0:6", "--join", a.code, home="b").wait_ready()
        seen = self.wait_until("both are seen", lambda: (lambda s: s if len(s) == 2 else None)(self.look("--join", a.code)))
        self.assertEqual(seen[0]["model"], seen[1]["model"])
        self.assertNotEqual(seen[0]["model_id"], seen[1]["model_id"])
        for model in (self.model, other):
            chain = self.run_json(model, "the thing", "--join", a.code)
            self.assertEqual(chain["tokens"], self.run_json(model, "the thing", "--local")["tokens"])
        self.assertNotEqual(self.run_json(self.model, "the thing", "--local")["tokens"], self.run_json(other, "the thing", "--local")["tokens"])
        b.stop()
        self.wait_until("the other is gone", lambda: len(self.look("--join", a.code)) == 1)
        self.assert_fails(self.corolla("run", other, "-p", "x", "--join", a.code), "another model")

    def test_an_owner_pauses_and_resumes(self):
        server = self.start("--blocks", "0:6").wait_ready()

        def state():
            return self.look("--join", server.code)[0]["servers"][0]["state"]

        server.process.send_signal(signal.SIGUSR1)
        self.wait_until("paused", lambda: state() == "draining")
        self.assert_fails(self.corolla("run", self.model, "-p", "x", "--join", server.code), "paused")
        server.process.send_signal(signal.SIGUSR2)
        self.wait_until("resumed", lambda: state() == "online")
        node = self.look("--join", server.code)[0]["servers"][0]["node"]
        stranger = self.corolla("swarm", "--pause", node[:12], "--join", server.code, home="client")
        self.assert_fails(stranger, "owner")
        owner = self.corolla("swarm", "--pause", node[:12], "--join", server.code, home="home")
        self.assertEqual(owner.returncode, 0, owner.stderr)
        self.wait_until("paused by its owner", lambda: state() == "draining")
        self.assertEqual(self.corolla("swarm", "--resume", node[:12], "--join", server.code, home="home").returncode, 0)
        self.assertEqual(self.tokens("--join", server.code), self.tokens("--local"))

    def test_memory_bounds_what_is_hosted(self):
        server = self.start("--memory", "70M", "--cache-tokens", "1024").wait_ready()
        begin, end = server.span
        self.assertGreater(end - begin, 0)
        self.assert_fails(self.corolla("serve", self.model, "--memory", "1M", "--listen", "127.0.0.1:0"), "memory")

    def test_watching(self):
        server = self.start("--blocks", "0:6").wait_ready()
        watch = subprocess.Popen([COROLLA, "swarm", "--no-lan", "--json", "--watch", "--join", server.code], stdout=subprocess.PIPE, text=True,
                                 env=self.environment("client"))
        try:
            for _ in range(2):
                self.assertEqual(json.loads(watch.stdout.readline())["replicas"], [1] * BLOCKS)
        finally:
            watch.send_signal(signal.SIGINT)
            watch.wait(DEADLINE)
            watch.stdout.close()


if __name__ == "__main__":
    unittest.main()
