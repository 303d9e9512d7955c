"""Hostile peers against running servers: garbage, slow-loris, oversized frames, wrong keys. The server stays up, its memory stays
bounded, and a real session through it goes on with the right tokens."""

import os
import random
import struct
import sys
import threading
import unittest

from peer import (CREDIT, DATA, FIRST, GOODBYE, GOOD_HELLO, HELLO, INFO, INFO_GET, LAST, OPEN, PING, STEP, Peer, certificate, frame, preamble)
from support import SLOWER, Case, joins

PATIENCE = 90 * SLOWER  # longer than every deadline of the protocol; two of 15 s may follow each other
GROWTH_MAX = 64 << 20
QUEUE_MAX = 128 << 20  # a link's queue holds 96 MiB
BUSY, PEER_FAULT, TIMEOUT, VERSION_MISMATCH = 8, 15, 16, 19


class Hostile(Case):
    def setUp(self):
        super().setUp()
        self.model = self.tiny_model(arch="qwen3", type="q4_1", n_ctx=2048)
        self.expected = self.run_json(self.model, "the thing", "--local", n=400)["tokens"]
        self.servers = self.serve(self.model, "0:2", "2:5")
        self.address = self.servers[1].address()
        self.cert = certificate(self.folder)
        self.run_json(self.model, "warm up", *joins(self.servers))
        self.memory = self.servers[1].memory()

    def peer(self, **options):
        return Peer(self.address, self.cert, PATIENCE, **options)

    def attack(self, *attackers, growth_max=GROWTH_MAX):
        """Runs the attackers beside real sessions, at least one of each, and checks the servers afterwards."""
        failures = []

        def guard(attacker):
            try:
                attacker()
            except Exception as failure:  # noqa: BLE001: told below, in the test's own thread
                failures.append(f"{attacker.__name__}: {failure!r}")

        threads = [threading.Thread(target=guard, args=(a,)) for a in attackers]
        for thread in threads:
            thread.start()
        peak, rounds = 0, 0
        while rounds == 0 or any(t.is_alive() for t in threads):
            self.assertEqual(self.run_json(self.model, "the thing", *joins(self.servers), n=400)["tokens"], self.expected)
            peak, rounds = max(peak, self.servers[1].memory()), rounds + 1
        for thread in threads:
            thread.join()
        self.assertEqual(failures, [])
        print(f"memory grew by {(peak - self.memory) / 1e6:.1f} MB beside {rounds} sessions", file=sys.stderr)
        self.assertLess(peak - self.memory, growth_max * SLOWER, f"the server grew from {self.memory} to {peak} bytes")
        for server in self.servers:
            self.assertIsNone(server.process.poll(), server.log())
            self.assertEqual(server.stop(), 0, server.log())

    # ---- garbage ----

    def garbage_instead_of_tls(self):
        chance = random.Random(1)
        for data in (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"\x16\x03\x01\xff\xff" + b"\0" * 70000, chance.randbytes(1), chance.randbytes(100000)):
            with self.peer(tls=False) as peer:
                peer.send(data)
                assert peer.closed(), f"{data[:10]} was not cut off"

    def garbage_instead_of_frames(self):
        chance = random.Random(2)
        for _ in range(10):
            with self.peer() as peer:
                peer.send(chance.randbytes(5000))
                assert peer.read_goodbye() in (PEER_FAULT, None), "random frames"
            with self.peer().hello() as peer:
                peer.send(chance.randbytes(5000))
                assert peer.read_goodbye() in (PEER_FAULT, None), "random frames behind a HELLO"

    def frames_that_break_the_rules(self):
        first = preamble(INFO_GET, 0, 0)
        wrong = {
            "a frame before HELLO": frame(PING, b"12345678"),
            "two HELLOs": frame(HELLO, GOOD_HELLO) * 2,
            "an empty HELLO": frame(HELLO),
            "a HELLO that is no protobuf": frame(HELLO, b"\xff" * 40),
            "a HELLO of other versions": frame(HELLO, b"\x08\x63\x10\x64\x28\x01"),
            "a HELLO on a stream": frame(HELLO, GOOD_HELLO, stream=3),
        }
        behind = {
            "an unknown type": frame(99, b"x", stream=1),
            "an unknown flag": frame(DATA, first, flags=0x40 | FIRST | LAST, stream=1),
            "DATA on stream 0": frame(DATA, first, flags=FIRST | LAST),
            "a payload over the limit": frame(DATA, b"x" * 65535, flags=FIRST, stream=1),
            "an empty DATA": frame(DATA, b"", flags=FIRST, stream=1),
            "a PING of 9 bytes": frame(PING, b"123456789"),
            "no credit": frame(CREDIT, struct.pack("<I", 0), stream=1),
            "credit without end": frame(CREDIT, struct.pack("<I", 0xFFFFFFFF), stream=1) * 3,
            "a middle without a beginning": frame(DATA, b"x" * 100, stream=1),
            "a header over the limit": frame(DATA, preamble(OPEN, 65535, 0) + b"x" * 100, flags=FIRST, stream=1),
            "a body of 4 GiB": frame(DATA, preamble(STEP, 10, 0xFFFFFFFF) + b"x" * 100, flags=FIRST, stream=1),
            "a message that is longer than it says": frame(DATA, first + b"x", flags=FIRST | LAST, stream=1),
            "a message that is shorter than it says": frame(DATA, preamble(OPEN, 90, 0) + b"x", flags=FIRST | LAST, stream=1),
            "an OPEN that is no protobuf": frame(DATA, preamble(OPEN, 20, 0) + b"\xff" * 20, flags=FIRST | LAST, stream=1),
            "a STEP that is empty": frame(DATA, preamble(STEP, 0, 0), flags=FIRST | LAST, stream=1),
        }
        for what, data in [*wrong.items(), *((k, frame(HELLO, GOOD_HELLO) + v) for k, v in behind.items())]:
            with self.peer() as peer:
                peer.send(data)
                status = peer.read_goodbye()
                assert status == (VERSION_MISMATCH if "versions" in what else PEER_FAULT), f"{what}: goodbye with {status}"

    def a_message_of_an_unknown_kind(self):
        """Dropped, and the link goes on."""
        with self.peer().hello() as peer:
            peer.send(frame(DATA, preamble(4000, 3, 2) + b"abcde", flags=FIRST | LAST, stream=1))
            peer.send(frame(DATA, preamble(INFO_GET, 0, 0), flags=FIRST | LAST, stream=3))
            while True:
                got = peer.read_frame()
                assert got is not None and got[0] != GOODBYE, "an unknown kind of message ended the link"
                if got[0] == DATA:
                    assert struct.unpack_from("<H", got[3])[0] == INFO and got[2] == 3, got
                    break

    def test_garbage(self):
        self.attack(self.garbage_instead_of_tls, self.garbage_instead_of_frames, self.frames_that_break_the_rules, self.a_message_of_an_unknown_kind)

    # ---- memory ----

    def promises_of_big_bodies(self):
        """15 half-sent messages of 64 MiB, from a peer that answers every PING: nothing may be allocated for what did not come. The link
        ends when the message that was granted is late, or because others wait for what it holds, whichever comes first."""
        with self.peer().hello() as peer:
            for stream in range(1, 30, 2):
                peer.send(frame(DATA, preamble(STEP, 100, 64 << 20) + b"\x0a" * 50000, flags=FIRST, stream=stream))
            status = peer.read_goodbye()
            assert status in (TIMEOUT, BUSY), f"goodbye with {status}"

    def questions_without_reading_the_answers(self):
        question = frame(DATA, preamble(INFO_GET, 0, 0), flags=FIRST | LAST, stream=1)
        with self.peer().hello() as peer:
            peer.socket.settimeout(5)
            sent = 0
            while sent < 300000 and peer.send(question * 1000):
                sent += 1000

    def test_unread_answers(self):
        self.attack(self.questions_without_reading_the_answers, growth_max=QUEUE_MAX)

    # ---- slowness ----

    def slow_openings(self):
        """Each stops somewhere else on its way to a link."""
        peers = [self.peer(tls=False) for _ in range(20)]
        for peer in peers:
            peer.send(b"\x16\x03\x01\x02")  # the start of a ClientHello
        for data in (b"", frame(HELLO, GOOD_HELLO)[:9], frame(HELLO, GOOD_HELLO) + b"\x04\x01\xff") * 4:
            try:
                peer = self.peer()
            except OSError:
                continue  # refused: too many half-open ones from this address
            peer.send(data)
            peers.append(peer)
        for peer in peers:
            assert peer.closed(), "a slow peer was kept beyond every deadline"
            peer.socket.close()

    def a_message_without_an_end(self):
        """From a peer that answers every PING."""
        with self.peer().hello() as peer:
            peer.send(frame(DATA, preamble(STEP, 200, 4096) + b"x" * 20, flags=FIRST, stream=1))
            status = peer.read_goodbye()
            assert status == TIMEOUT, f"goodbye with {status}"

    def a_byte_at_a_time(self):
        data = b"\x16\x03\x01\x02\x00\x01" + os.urandom(500)
        with self.peer(tls=False) as peer:
            peer.socket.settimeout(0.2)
            for at in range(len(data)):
                if not peer.send(data[at:at + 1]):
                    return
                try:
                    if peer.socket.recv(1) == b"":
                        return
                except TimeoutError:
                    continue
                except OSError:
                    return
        raise AssertionError("100 s of single bytes were tolerated")

    def test_slowness(self):
        self.attack(self.slow_openings, self.a_message_without_an_end, self.a_byte_at_a_time, *[self.promises_of_big_bodies] * 6)

    # ---- keys ----

    def refused(self, cert, what, **options):
        """An accepted peer is greeted with HELLO at once."""
        try:
            with Peer(self.address, cert, PATIENCE, **options) as peer:
                got = peer.hello().read_frame()
                assert got is None or got[0] != HELLO, f"{what} was let in"
        except OSError:
            pass  # in the handshake already

    def other_kinds_of_keys(self):
        for kind in ("rsa:2048", "ec"):
            self.refused(certificate(self.folder, kind), kind)
        self.refused(None, "a peer without a certificate")

    def another_application(self):
        self.refused(self.cert, "a peer without ALPN", alpn=())
        self.refused(self.cert, "a web browser", alpn=("h2", "http/1.1"))

    def test_wrong_keys(self):
        self.attack(self.other_kinds_of_keys, self.another_application)

    def test_a_server_with_another_key_than_the_join_code_says_is_refused(self):
        stale = self.servers[1].code
        host, port = self.address
        self.assertEqual(self.servers[1].stop(), 0)
        impostor = self.serve(self.model, "2:5", flags=("--listen", f"{host}:{port}"), home="another")[0]
        self.assertNotEqual(impostor.code, stale)
        done = self.corolla("run", self.model, "-p", "x", "--join", self.servers[0].code, "--join", stale)
        self.assert_fails(done, str(port), "key")


if __name__ == "__main__":
    unittest.main()
