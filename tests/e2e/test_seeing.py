"""What an owner and a user see: the figures of --metrics, the status line on a terminal, and where tokens' time went (--trace)."""

import os
import pathlib
import pty
import re
import select
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request

from support import COROLLA, DEADLINE, Case, joins

PROMTOOL = pathlib.Path(__file__).resolve().parents[2] / "tools" / "promtool.sh"
NO_APT = 77


def fetch(url, method="GET", data=None):
    with urllib.request.urlopen(urllib.request.Request(url, method=method, data=data), timeout=DEADLINE) as answer:
        return answer.read().decode(), answer.headers["Content-Type"]


def figures(text):
    return {name: float(value) for name, value in (line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#"))}


class Metrics(Case):
    def setUp(self):
        super().setUp()
        self.model = self.tiny_model()
        self.servers_ready = self.serve(self.model, "0:5", flags=("--metrics", "127.0.0.1:0", "--cache-tokens", "256"))
        self.url = re.search(r"^metrics at (http://127\.0\.0\.1:\d+/metrics)$", self.servers_ready[0].log(), re.M).group(1)

    def figures(self):
        text, kind = fetch(self.url)
        self.assertTrue(kind.startswith("text/plain; version=0.0.4"), kind)
        return figures(text)

    def test_what_was_done_is_counted(self):
        before = self.figures()
        self.run_json(self.model, "the " * 60, *joins(self.servers_ready), n=16)
        after = self.figures()
        grown = {name: after[name] - before[name] for name in after}
        self.assertEqual(grown["corolla_sessions_opened_total"], 1)
        self.assertEqual(grown['corolla_rows_total{kind="decode"}'], 15)
        self.assertGreaterEqual(grown['corolla_rows_total{kind="prefill"}'], 60)
        self.assertGreater(grown["corolla_received_bytes_total"], 0)
        self.assertGreater(grown["corolla_sent_bytes_total"], 0)
        for histogram in ("turn_seconds", "turn_sessions", "queue_seconds"):
            self.assertEqual(grown[f"corolla_{histogram}_count"], 15)
            self.assertEqual(grown[f'corolla_{histogram}_bucket{{le="+Inf"}}'], 15)
        self.assertEqual(grown["corolla_turn_sessions_sum"], 15)
        self.assertGreater(grown["corolla_turn_seconds_sum"], 0)
        self.assertEqual([after["corolla_blocks"], after["corolla_cache_tokens"], after["corolla_cache_tokens_left"]], [5, 256, 256])

    def test_promtool_finds_nothing_to_say(self):
        environment = {k: v for k, v in os.environ.items() if k != "COROLLA_CACHE"}
        tool = subprocess.run([PROMTOOL], env=environment, stdout=subprocess.PIPE, text=True, check=False)
        if tool.returncode == NO_APT:
            print(f"SKIPPED: {self.id()}: there is no promtool", file=sys.stderr, flush=True)
            self.skipTest("there is no promtool")
        self.assertEqual(tool.returncode, 0)
        checked = subprocess.run([tool.stdout.strip(), "check", "metrics"], input=fetch(self.url)[0], capture_output=True, text=True, check=False)
        self.assertEqual((checked.returncode, checked.stdout, checked.stderr), (0, "", ""))

    def test_other_requests_are_refused_and_hurt_nobody(self):
        for url, method, data, code in ((self.url + "x", "GET", None, 404), (self.url[:-len("metrics")], "GET", None, 404),
                                        (self.url, "POST", b"x" * 100000, None), (self.url, "DELETE", None, 405)):
            with self.assertRaises((urllib.error.URLError, ConnectionError)) as refused:
                fetch(url, method, data)
            if code:
                self.assertEqual(refused.exception.code, code)
        address = ("127.0.0.1", int(self.url.split(":")[2].split("/")[0]))
        half = []
        for i in range(40):
            s = socket.create_connection(address, DEADLINE)
            self.addCleanup(s.close)
            try:
                s.sendall(b"GET /metrics HTTP/1.1\r\nX: " + b"y" * (200 if i % 2 else 60000))
            except ConnectionError:
                pass
            half.append(s)
        self.run_json(self.model, "the", *joins(self.servers_ready), n=4)  # serving goes on
        for s in half:
            s.close()
        self.wait_until("an answer", self.answers)

    def answers(self):
        try:
            return self.figures()
        except (urllib.error.URLError, ConnectionError):
            return None

    def test_an_address_that_cannot_be_is_told(self):
        taken = self.url.split("/")[2]
        for at, why in (("nonsense", "HOST:PORT"), ("127.0.0.1:99999999", "HOST:PORT"), (taken, "in use")):
            done = self.corolla("serve", self.model, "--listen", "127.0.0.1:0", "--blocks", "0:5", "--metrics", at, home="other")
            self.assert_fails(done, "--metrics", why)


class Seen(Case):
    def test_the_status_line_stays_below_and_goes_at_the_end(self):
        model = self.tiny_model()
        ours, theirs = pty.openpty()
        self.addCleanup(os.close, ours)
        server = subprocess.Popen([COROLLA, "serve", model, "--listen", "127.0.0.1:0", "--threads", "1", "--no-lan", "--blocks", "0:5"], stdin=subprocess.DEVNULL,
                                  stdout=subprocess.PIPE, stderr=theirs, env=self.environment())
        os.close(theirs)
        self.addCleanup(server.stdout.close)
        self.addCleanup(server.wait)
        self.addCleanup(server.kill)
        seen = self.read_until(ours, b"", rb"\r\x1b\[K0 sessions, 0 clients: decode 0\.0, prefill 0 tok/s, batch 0\.0, queue 0, KV 0 %")
        server.send_signal(10)
        seen = self.read_until(ours, seen, rb"\r\x1b\[Kpaused: no new sessions until SIGUSR2\r?\n\r\x1b\[K0 sessions")
        server.terminate()
        self.assertEqual(server.wait(DEADLINE), 0)
        seen = self.read_until(ours, seen, None)
        self.assertTrue(seen.endswith(b"\r\x1b[K"), seen[-200:])

    def read_until(self, terminal, seen, pattern):
        """pattern None: to the end."""
        deadline = time.monotonic() + DEADLINE
        while pattern is None or not re.search(pattern, seen):
            if not select.select([terminal], [], [], max(0, deadline - time.monotonic()))[0]:
                raise AssertionError(f"not on the terminal: {pattern} in {seen[-500:]}")
            try:
                more = os.read(terminal, 4096)
            except OSError:  # the other end is closed
                more = b""
            if not more:
                self.assertIsNone(pattern, seen[-500:])
                return seen
            seen += more
        return seen

    def test_trace_tells_where_the_time_of_tokens_went(self):
        model = self.tiny_model()
        servers = self.serve(model, "0:2", "2:5")
        done = self.corolla("run", model, "-p", "the", "-n", 20, "--temp", 0, "--trace", *joins(servers))
        self.assertEqual(done.returncode, 0, done.stderr)
        lines = done.stderr.splitlines()
        at = lines.index("where the time of a token went, in ms, over 18 tokens:")
        table = {line[:28].strip(): [float(n) for n in line[28:].split()] for line in lines[at + 3:]}
        self.assertEqual(list(table), ["hop 1", "hop 2", "network, and what is between", "this process", "whole"])
        self.assertEqual([len(row) for row in table.values()], [4, 4, 2, 2, 2])
        parts = table["hop 1"][0] + table["hop 1"][2] + table["hop 2"][0] + table["hop 2"][2] + table["network, and what is between"][0] + table["this process"][0]
        self.assertAlmostEqual(parts, table["whole"][0], delta=0.5 * table["whole"][0])
