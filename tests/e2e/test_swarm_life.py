"""What happens to servers in a swarm and what people name wrongly: entries by name, dead entries, wrong clocks, restarts, sleep."""

import glob
import json
import os
import signal
import socket
import subprocess
import sys
import time
import unittest

from support import DEADLINE, Case, Server

BLOCKS = 4
FAKETIME = "/usr/lib/*/faketime/libfaketimeMT.so.1"  # package libfaketime


class SwarmLife(Case):
    def setUp(self):
        super().setUp()
        self.model = self.tiny_model(arch="llama", type="q8_0", n_blocks=BLOCKS)

    def start(self, blocks, *join, flags=(), home="home", env=None):
        joins = [word for entry in join for word in ("--join", entry)]
        return Server(self, self.model, "--blocks", blocks, *joins, *flags, home=home, env=env)

    def name_of(self, server):
        return f"localhost:{server.address()[1]}"

    def dead_port(self):
        """A port of loopback at which nobody listens, for as long as the test holds it."""
        holder = socket.socket()
        self.addCleanup(holder.close)
        holder.bind(("127.0.0.1", 0))
        return holder.getsockname()[1]

    def swarm(self, *join, home="client"):
        done = self.corolla("swarm", "--json", *(word for entry in join for word in ("--join", entry)), home=home)
        self.assertEqual(done.returncode, 0, done.stderr)
        return [s for line in done.stdout.splitlines() for s in json.loads(line)["servers"]]

    def tokens(self, *join, home="client"):
        flags = [word for entry in join for word in ("--join", entry)]
        return self.run_json(self.model, "the thing", *flags, home=home)["tokens"]

    def local(self):
        return self.run_json(self.model, "the thing", "--local")["tokens"]

    def environment(self, home="home"):
        env = super().environment(home)
        if getattr(self, "join_environment", None):
            env["COROLLA_JOIN"] = self.join_environment
        return env

    # ---- entries by name

    def test_a_name_without_a_key_is_an_entry_for_every_command(self):
        first = self.start("0:2").wait_ready()
        name = self.name_of(first)
        self.start("2:4", name, home="b").wait_ready()
        self.wait_until("both are known", lambda: len(self.swarm(name)) == 2)
        self.assertEqual(self.tokens(name, home="new"), self.local())
        chat = self.corolla("chat", self.model, "-n", "4", "--temp", "0", "--join", name, input="the thing\n", home="newer")
        self.assertEqual(chat.returncode, 0, chat.stderr)

    def test_the_environment_mixes_names_and_codes(self):
        first, second = self.start("0:2").wait_ready(), self.start("2:4", home="b").wait_ready()  # they do not know each other
        self.join_environment = f"{self.name_of(first)}, {second.code}\n localhost:{self.dead_port()}"
        self.assertEqual(self.tokens(), self.local())
        self.join_environment = f"{first.code} {self.name_of(second)}"
        self.assertEqual(self.tokens(home="other"), self.local())

    def test_one_living_entry_among_dead_ones_is_enough(self):
        server = self.start("0:4").wait_ready()
        dead, gone = f"localhost:{self.dead_port()}", self.start("0:1", home="gone").wait_ready()
        gone.stop()
        for entries in ((dead, server.code), (gone.code, self.name_of(server)), ("no..name", dead, gone.code, self.name_of(server))):
            self.assertEqual(self.tokens(*entries, home=f"client-{len(entries)}-{entries[0][:3]}"), self.local())
        joined = self.start("0:4", dead, gone.code, self.name_of(server), home="b").wait_ready()
        self.wait_until("it joined", lambda: len(self.swarm(server.code)) == 2)
        self.wait_until("the name is told", lambda: joined.log().count(f'entry_failed why="cannot reach {dead}') == 1)

    def test_a_server_without_a_living_entry_says_so_and_serves(self):
        dead = f"localhost:{self.dead_port()}"
        server = self.start("0:4", dead).wait_ready()
        self.wait_until("the name is told", lambda: f'entry_failed why="cannot reach {dead}' in server.log())
        self.assertEqual(self.tokens(server.code), self.local())

    def test_dead_entries_are_told_with_what_became_of_them(self):
        port, gone = self.dead_port(), self.start("0:1", home="gone").wait_ready()
        _, gone_port = gone.address()
        gone.stop()
        for number, command in enumerate((("run", self.model, "-p", "x"), ("swarm",))):
            def fails(*entries, words, n=number):
                done = self.corolla(*command, *(word for e in entries for word in ("--join", e)), home=f"lost-{n}")
                self.assert_fails(done, *words)

            fails(f"localhost:{port}", words=(f"cannot reach localhost:{port}", f"127.0.0.1:{port}: connection refused"))
            fails("no..name:31330", words=("cannot reach no..name:31330",))
            fails(gone.code, words=(f"127.0.0.1:{gone_port}: connection refused",))
            both = (f"localhost:{port}", gone.code)
            fails(*both, words=(f"127.0.0.1:{port}: connection refused", f"127.0.0.1:{gone_port}: connection refused"))

    # ---- clocks, restarts, sleep

    def test_a_server_whose_clock_is_ten_minutes_off_works(self):
        library = next(iter(glob.glob(FAKETIME)), None)
        if not library:
            print(f"SKIPPED: {self.id()}: no {FAKETIME} (package libfaketime)", file=sys.stderr, flush=True)
            self.skipTest("libfaketime is not installed")
        if os.environ.get("COROLLA_SANITIZE"):
            self.skipTest("a sanitizer's runtime wants to be loaded before it")
        first = self.start("0:2").wait_ready()
        for name, offset in (("late", "-10m"), ("early", "+10m")):
            clock = {"LD_PRELOAD": library, "FAKETIME": offset, "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
            told = subprocess.run(["date", "+%s"], env={**os.environ, **clock}, capture_output=True, text=True, check=True).stdout
            self.assertGreater(abs(int(told) - time.time()), 500)
            server = self.start("2:4", first.code, home=name, env=clock).wait_ready()
            self.wait_until("it is known", lambda: len(self.swarm(first.code)) == 2)
            self.assertEqual(self.tokens(server.code, home=f"client-{name}"), self.local())
            server.stop()
            self.wait_until("it left", lambda: len(self.swarm(first.code)) == 1)

    def test_a_server_that_crashed_is_known_again_at_its_new_address(self):
        stays = self.start("0:2").wait_ready()
        crashes = self.start("2:4", stays.code, home="b").wait_ready()
        self.wait_until("both are known", lambda: len(self.swarm(stays.code)) == 2)
        node, port = next(s["node"] for s in self.swarm(stays.code) if s["begin"] == 2), crashes.address()[1]
        remembered = self.folder / "b" / "peers"
        self.wait_until("peers are remembered", remembered.exists)
        crashes.process.kill()
        crashes.process.wait()
        back = self.start("2:4", home="b").wait_ready()  # by the peers that it remembers
        self.assertNotEqual(back.address()[1], port)
        began = time.monotonic()
        self.wait_until("generation works", lambda: self.corolla("run", self.model, "-p", "the thing", "-n", "4", "--temp", "0",
                                                                 "--join", stays.code, home=f"c{time.monotonic_ns()}").returncode == 0)
        self.assertLess(time.monotonic() - began, DEADLINE / 4, "a new life is newer than the one that is suspected")
        self.assertEqual([s["node"] for s in self.swarm(stays.code) if s["begin"] == 2], [node])
        self.assertEqual(self.tokens(stays.code), self.local())

    def test_a_laptop_that_slept_comes_back_and_blames_nobody(self):
        first = self.start("0:2").wait_ready()
        sleeper = self.start("2:4", first.code, flags=("--log-level", "debug"), home="b")
        other = self.start("0:4", first.code, home="c").wait_ready()
        sleeper.wait_ready()
        self.wait_until("all three are known", lambda: len(self.swarm(first.code)) == 3)
        self.wait_until("to the sleeper as well", lambda: len(self.swarm(sleeper.code, home=f"c{time.monotonic_ns()}")) == 3)
        sleeper.process.send_signal(signal.SIGSTOP)
        time.sleep(8)  # what is tested: two silent periods after which links are lost
        sleeper.process.send_signal(signal.SIGCONT)

        def usable():
            seen = self.swarm(first.code)
            return len(seen) == 3 and all(s["state"] == "online" for s in seen)

        self.wait_until("it is back", usable)
        self.assertNotIn("record_suspected", sleeper.log())
        other.stop()
        # By clients that know nothing else: others see what any of the three servers knows.
        self.wait_until("the other left", lambda: [(s["begin"], s["end"], s["state"]) for s in self.swarm(first.code, home=f"c{time.monotonic_ns()}")]
                        == [(0, 2, "online"), (2, 4, "online")])
        self.assertEqual(self.tokens(first.code), self.local())


if __name__ == "__main__":
    unittest.main()
