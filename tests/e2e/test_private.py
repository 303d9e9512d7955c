"""A private swarm of real processes: who gets in, who does not and is told why, and who is put out."""

import json
import os
import pathlib
import re
import subprocess
import time
import unittest
import urllib.request

from support import COROLLA, DEADLINE, MAKE_MODEL, Case, Server, joins

FORGE = str(pathlib.Path(MAKE_MODEL).parent / "forge")


class Private(Case):
    def setUp(self):
        super().setUp()
        self.model = self.tiny_model()
        self.key("new-swarm")

    def key(self, *arguments, home="owner"):
        done = self.corolla("key", *arguments, home=home)
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout.strip()

    def owner(self, span="0:5"):
        """A server of the home that has the swarm's key."""
        return Server(self, self.model, "--blocks", span, home="owner").wait_ready()

    def member(self, span="2:5", home="second"):
        code = self.key("invite", "--role", "server")
        return Server(self, self.model, "--blocks", span, "--join", code, home=home).wait_ready()

    def run_client(self, *codes, home="client"):
        return self.corolla("run", self.model, "-p", "the thing", "-n", 8, "--temp", 0,
                            *(a for code in codes for a in ("--join", code)), home=home)

    def forge(self, signer, entry, role, seconds_ago):
        return subprocess.run([FORGE, str(signer), entry, str(role), str(seconds_ago)], capture_output=True, text=True, check=True).stdout.strip()

    def swarm_pem(self, home="owner"):
        return self.folder / home / "swarm.pem"

    def servers_seen(self, code, home="client"):
        """The nodes of `corolla swarm`, each with its span."""
        done = self.corolla("swarm", "--json", "--join", code, home=home)
        self.assertEqual(done.returncode, 0, done.stderr)
        return {s["node"]: (s["begin"], s["end"]) for line in done.stdout.splitlines() for s in json.loads(line)["servers"]}

    def node_of(self, home):
        return self.key("show", home=home)

    def assert_cut_off(self, server, home):
        """The server looks into its home once a second; until then the client is served, or has something else to say."""
        deadline = time.monotonic() + DEADLINE
        while "revoked" not in (done := self.run_client(server.code, home=home)).stderr.rpartition("corolla: ")[2] or done.returncode == 0:
            self.assertLess(time.monotonic(), deadline, f"the member was never cut off: {done}")
        self.assert_fails(self.run_client(server.code, home=home), "revoked")  # that one may have been cut off in the middle of its answer

    # ---- getting in

    def test_two_servers_and_a_client_by_invitation_say_what_one_machine_says(self):
        first = self.owner("0:2")
        second = self.member("2:5")
        invitation = self.key("invite")
        for codes in ((invitation, second.code), (first.code, second.code), (invitation, second.code)):  # the certificate stays
            result = self.run_json(self.model, "the thing", *(a for code in codes for a in ("--join", code)), home="client")
            self.assertEqual(result["tokens"], self.run_json(self.model, "the thing", "--local")["tokens"])
            self.assertEqual(len(result["hops"]), 2)

    def test_a_certificate_outlives_the_server_that_gave_it(self):
        first = self.owner("0:2")
        second = self.member("0:5")
        self.assertEqual(self.run_client(self.key("invite"), second.code).returncode, 0)
        first.stop()
        self.assertEqual(self.run_client(second.code).returncode, 0)

    def test_a_key_that_was_allowed_needs_no_invitation(self):
        server = self.owner()
        self.assert_fails(self.run_client(server.code), "private")
        node = self.key("show", home="client")
        self.key("allow", node)
        self.assertEqual(self.run_client(server.code).returncode, 0)
        self.assertEqual(self.key("allow"), f"{node} client -")

    def test_members_are_listed_with_role_and_end(self):
        server = self.owner()
        self.member()
        self.key("allow", "ab" * 32, "--role", "server", "--expires", "30d")
        lines = [line.split() for line in self.key("allow").splitlines()]
        self.assertEqual([(line[0], line[1], line[2] == "-") for line in lines],
                         [(self.key("show", home="second"), "server", True), ("ab" * 32, "server", False)])
        self.assertTrue(server.code)

    def test_the_key_of_the_swarm_may_lie_elsewhere(self):
        elsewhere = self.folder / "elsewhere.pem"
        self.swarm_pem().rename(elsewhere)
        server = Server(self, self.model, "--swarm-key", str(elsewhere), home="owner").wait_ready()
        self.assertEqual(self.run_client(self.key("invite", "--swarm-key", str(elsewhere))).returncode, 0)
        self.assertTrue(server.code)

    # ---- not getting in

    def test_nobody_gets_in_without_an_invitation(self):
        first, second = self.owner("0:2"), self.member("2:5")
        self.assert_fails(self.run_client(first.code, second.code, home="stranger"), "private", "invitation")
        server = Server(self, self.model, "--join", first.code, home="stranger")
        self.assertEqual(server.process.wait(DEADLINE), 1)
        self.assertIn("invitation", server.log())

    def test_an_open_node_and_a_private_one_refuse_to_meet(self):
        private, opened = self.owner(), self.serve(self.model, "0:5", home="open")[0]
        self.assertEqual(self.run_client(self.key("invite")).returncode, 0)
        self.assertEqual(self.run_client(opened.code, home="stranger").returncode, 0)  # which needs nothing
        private.stop()  # else the member finds it again, without its code
        self.assert_fails(self.run_client(opened.code), "private")  # a member at an open server

    def test_an_invitation_is_good_for_one_node(self):
        self.owner()
        invitation = self.key("invite")
        self.assertEqual(self.run_client(invitation).returncode, 0)
        self.assert_fails(self.run_client(invitation, home="another"), "used", "invitation")
        (self.folder / "client" / "membership").unlink()  # lost: the same node gets it again
        self.assertEqual(self.run_client(invitation).returncode, 0)

    def test_an_expired_invitation_is_refused_and_a_clock_10_minutes_off_does_not_matter(self):
        server = self.owner()
        self.assert_fails(self.run_client(self.forge(self.swarm_pem(), server.code, 1, 2 * 3600)), "expired")
        self.assertEqual(self.run_client(self.forge(self.swarm_pem(), server.code, 1, 600)).returncode, 0)

    def test_a_forged_invitation_is_refused(self):
        server = self.owner()
        self.key("new-swarm", home="forger")
        self.assert_fails(self.run_client(self.forge(self.swarm_pem("forger"), server.code, 2, -3600)), "forged")

    def test_a_client_s_invitation_does_not_make_a_server(self):
        self.owner("0:2")
        server = Server(self, self.model, "--join", self.key("invite", "--role", "client"), home="second")
        self.assertEqual(server.process.wait(DEADLINE), 1)
        self.assertIn("--role server", server.log())

    def test_an_invitation_says_which_node_takes_it(self):
        self.owner("0:2")
        second = self.member("0:5")
        code = self.forge(self.swarm_pem(), second.code, 1, -3600)  # it names a node without the key
        self.assert_fails(self.run_client(code, home="stranger"), "cannot take invitations")

    def test_a_home_is_of_one_swarm(self):
        self.owner()
        self.assertEqual(self.run_client(self.key("invite")).returncode, 0)
        self.key("new-swarm", home="other")
        other = Server(self, self.model, home="other").wait_ready()
        self.assert_fails(self.run_client(self.key("invite", home="other")), "another private swarm", "COROLLA_HOME")
        self.assertTrue(other.code)

    # ---- finding each other

    def three(self):
        """Servers that know one entry, and a client that knows nobody but that: half of the model is elsewhere."""
        entry = self.owner("0:2")
        second, third = self.member("2:5", home="second"), self.member("2:5", home="third")
        self.assertEqual(self.corolla("swarm", "--join", self.key("invite"), home="client").returncode, 0)
        nodes = {self.node_of("owner"): (0, 2), self.node_of("second"): (2, 5), self.node_of("third"): (2, 5)}
        self.wait_until("the client sees all three", lambda: self.servers_seen(entry.code) == nodes)
        return entry, second, third

    def test_members_find_each_other_and_a_client_uses_whom_it_was_not_told_of(self):
        entry, second, third = self.three()
        local = self.run_json(self.model, "the thing", "--local")["tokens"]
        result = self.run_json(self.model, "the thing", "--join", entry.code, home="client")
        self.assertEqual(result["tokens"], local)
        self.assertIn(result["hops"][1]["node"], (self.node_of("second"), self.node_of("third")))
        for server in (second, third):  # each knows the others, not only the entry
            self.wait_until("it knows all three", lambda s=server: len(self.servers_seen(s.code)) == 3)
        entry.stop()
        another = Server(self, self.model, "--blocks", "0:2", "--join", third.code, home="second").wait_ready()
        self.wait_until("the second home took over", lambda: any(node != self.node_of("owner") and span == (0, 2)
                                                                 for node, span in self.servers_seen(second.code).items()))
        self.assertEqual(self.run_json(self.model, "the thing", "--join", second.code, home="client")["tokens"], local)
        self.assertTrue(another.code)

    def test_a_revoked_server_disappears_and_is_not_used(self):
        entry, second, third = self.three()
        put_out = self.node_of("second")
        with subprocess.Popen([COROLLA, "swarm", "--no-lan", "--json", "--watch", "--join", entry.code], stdout=subprocess.PIPE, text=True,
                              env=self.environment("client")) as watch:
            try:
                self.assertIn(put_out, watch.stdout.readline())
                self.key("revoke", put_out)
                self.wait_until("it goes while a client looks", lambda: put_out not in watch.stdout.readline())
            finally:
                watch.kill()
        for server in (entry, third):
            self.wait_until("it is gone", lambda: put_out not in self.servers_seen(server.code))
            self.assertEqual(set(self.servers_seen(server.code)), {self.node_of("owner"), self.node_of("third")})
        result = self.run_json(self.model, "the thing", "--join", entry.code, home="client")
        self.assertEqual([hop["node"] for hop in result["hops"]], [self.node_of("owner"), self.node_of("third")])
        self.assertIsNone(second.process.poll())  # it runs, and would serve
        third.stop()
        self.assert_fails(self.corolla("run", self.model, "-p", "x", "--join", entry.code), "2:5")

    # ---- a name instead of a code

    def test_a_name_serves_members_and_brings_nobody_in(self):
        entry = self.owner("0:2")
        name = "%s:%d" % entry.address()
        self.assert_fails(self.run_client(name), "private", "invitation")
        self.assertFalse((self.folder / "client" / "membership").exists())
        stranger = Server(self, self.model, "--blocks", "2:5", "--join", name, home="stranger").wait_ready()  # alone, and told why
        self.wait_until("it is told why", lambda: "invitation" in stranger.log())
        self.member("2:5", home="second").stop()
        self.assertEqual(self.corolla("swarm", "--join", self.key("invite"), home="client").returncode, 0)
        second = Server(self, self.model, "--blocks", "2:5", "--join", name, home="second").wait_ready()
        self.wait_until("both are found by the name", lambda: len(self.servers_seen(name)) == 2)
        result = self.run_json(self.model, "the thing", "--join", name, home="client")
        self.assertEqual(result["tokens"], self.run_json(self.model, "the thing", "--local")["tokens"])
        self.assertTrue(second.code)

    # ---- what members share

    def rows_computed(self, server):
        url = re.search(r"^metrics at (http://127\.0\.0\.1:\d+/metrics)$", server.log(), re.M).group(1)
        with urllib.request.urlopen(url, timeout=DEADLINE) as page:
            return sum(float(line.split()[-1]) for line in page.read().decode().splitlines() if line.startswith("corolla_rows_total{"))

    def rows_of_a_second_member(self, *flags):
        """What a server computes for a client whose prompt another one had before."""
        server = Server(self, self.model, "--blocks", "0:5", "--metrics", "127.0.0.1:0", *flags, home="owner").wait_ready()
        prompt, rows = "the thing " * 70, []
        for home in ("client", "other"):
            answer = self.run_json(self.model, prompt, "--join", self.key("invite"), home=home)
            rows.append(self.rows_computed(server))
        self.assertEqual(answer["tokens"], self.run_json(self.model, prompt, "--local")["tokens"])
        server.stop()
        return rows[1] - rows[0], rows[0]

    def test_members_share_what_they_begin_with_when_the_server_says_so(self):
        second, first = self.rows_of_a_second_member("--share-prefixes")
        self.assertGreater(first, 128)
        self.assertLessEqual(second, first - 64)
        for home in ("client", "other"):
            (self.folder / home / "peers").unlink(missing_ok=True)
        second, first = self.rows_of_a_second_member()
        self.assertEqual(second, first)

    def test_an_open_swarm_shares_nothing_between_its_clients(self):
        (self.folder / "owner" / "swarm.pem").unlink()
        server = Server(self, self.model, "--share-prefixes", home="owner")
        self.assertNotEqual(server.process.wait(DEADLINE), 0)
        self.assertIn("private swarms only", server.log())

    # ---- getting out

    def test_a_revoked_member_is_cut_off_everywhere_and_stays_out(self):
        first, second = self.owner("0:2"), self.member("2:5")
        invitation = self.key("invite")
        self.assertEqual(self.run_client(invitation, second.code).returncode, 0)  # and links the servers with each other
        self.key("revoke", self.key("show", home="client")[:12])
        self.assert_cut_off(first, home="client")
        self.assert_cut_off(second, home="client")
        (self.folder / "client" / "membership").unlink()
        self.assert_fails(self.run_client(invitation), "revoked")
        self.assertEqual(self.run_client(self.key("invite"), second.code).returncode, 0)  # let in anew

    def test_a_running_chat_is_cut_off_when_its_node_is_revoked(self):
        server = self.owner()
        self.assertEqual(self.run_client(self.key("invite")).returncode, 0)
        with subprocess.Popen([COROLLA, "chat", str(self.model), "--join", server.code, "--threads", "1", "--temp", "0", "-n", "4", "--wait", "1"],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=self.environment("client")) as chat:
            try:
                chat.stdin.write(b"hello\n")
                chat.stdin.flush()
                self.assertTrue(os.read(chat.stdout.fileno(), 1))  # it answers
                self.key("revoke", self.key("show", home="client"))
                self.assert_cut_off(server, home="client")
                _, errors = chat.communicate(b"hello again\n", timeout=DEADLINE)
                self.assertIn("revoked", errors.decode())
            finally:
                chat.kill()

    def test_usage(self):
        for arguments in (("invite", "--expires", "soon"), ("invite", "--expires", "0d"), ("revoke",), ("invite", "--role", "king")):
            self.assertEqual(self.corolla("key", *arguments, home="owner").returncode, 2, arguments)
        self.assert_fails(self.corolla("key", "new-swarm", home="owner"), "exists")
        self.assert_fails(self.corolla("key", "invite", home="nobody"), "new-swarm")
        self.assert_fails(self.corolla("key", "invite", home="owner"), "--join")
        self.assert_fails(self.corolla("key", "revoke", "ab" * 32, home="owner"), "key allow")
        self.assert_fails(self.corolla("key", "allow", "abc", home="owner"), "64 hex digits")


if __name__ == "__main__":
    unittest.main()
