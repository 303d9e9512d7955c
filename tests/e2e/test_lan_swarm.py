"""What a user does on a LAN, with nothing but the model: `corolla serve` on some machines, `corolla run` and `corolla swarm` on another. The
machines are network namespaces (lan.py); no address, no block number and no key is named anywhere."""

import json
import os
import subprocess
import unittest

from drive import Driven
from lan import LanCase
from support import COROLLA, DEADLINE, MAKE_MODEL, Case, Server

BLOCKS = 3
DRIVE = os.path.join(os.path.dirname(MAKE_MODEL), "drive")
SERVE = ("--num-blocks", "1", "--threads", "1")


class LanSwarm(LanCase, Case):
    def setUp(self):
        super().setUp()
        self.model = self.tiny_model(arch="llama", type="q8_0", n_blocks=BLOCKS)

    def hosts(self, n, switch="br0", ipv4=True, ipv6="fe80", lan=None, first=1):
        lan = lan or self.lan()
        hosts = [lan.host() for _ in range(n)]
        for i, host in enumerate(hosts, first):
            host.name = f"host{i}"  # its COROLLA_HOME as well
            host.plug(switch, f"10.77.0.{i}/24" if ipv4 else None, f"{ipv6}::{i}/64" if ipv6 else None)
        return hosts

    def start(self, host, *flags, home=None):
        return Server(self, self.model, *SERVE, *flags, home=home or host.name, command=host.command(COROLLA, "serve", self.model))

    def on(self, host, *arguments):
        done = subprocess.run(host.command(COROLLA, *arguments), capture_output=True, text=True, timeout=DEADLINE,
                              env=self.environment(f"{host.name}-client"))
        self.assertNotIn("Sanitizer", done.stderr)
        return done

    def tokens(self, host, *flags):
        done = self.on(host, "run", self.model, "-p", "the thing", "-n", "16", "--temp", "0", "--json", "--threads", "1", *flags)
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)["tokens"]

    def servers_seen(self, host):
        """Those that `corolla swarm` on the host shows; it fails where there is none."""
        done = self.on(host, "swarm", "--json")
        return [s for line in done.stdout.splitlines() for s in json.loads(line)["servers"]]

    def wait_seen(self, host, n):
        return self.wait_until(f"a view of {n} servers", lambda: (lambda seen: seen if len(seen) == n else None)(self.servers_seen(host)))

    def assert_a_model_is_covered_and_used(self, servers, client):
        for server in servers:
            server.wait_ready()
        self.wait_until("each block has its server", lambda: sorted((s["begin"], s["end"]) for s in self.servers_seen(client) if s["state"] == "online")
                        == [(b, b + 1) for b in range(BLOCKS)])
        self.assertEqual(self.tokens(client), self.tokens(client, "--local"))

    def test_three_servers_and_a_client_need_nothing_but_the_model(self):
        *hosts, client = self.hosts(BLOCKS + 1)
        self.assert_a_model_is_covered_and_used([self.start(host) for host in hosts], client)

    def test_ipv4_alone_does(self):
        *hosts, client = self.hosts(BLOCKS + 1, ipv6=None)
        self.assert_a_model_is_covered_and_used([self.start(host) for host in hosts], client)

    def test_ipv6_alone_does(self):
        *hosts, client = self.hosts(BLOCKS + 1, ipv4=False)
        for i, host in enumerate([*hosts, client], 1):
            host.ip("addr", "add", f"fd77::{i}/64", "dev", "eth0", "nodad")
        self.assert_a_model_is_covered_and_used([self.start(host) for host in hosts], client)

    def test_link_local_addresses_alone_do(self):
        *hosts, client = self.hosts(BLOCKS + 1, ipv4=False)
        self.assert_a_model_is_covered_and_used([self.start(host) for host in hosts], client)

    def test_two_servers_of_one_home_are_two(self):
        one, other, client = self.hosts(3)
        servers = [self.start(one), self.start(one), self.start(other)]
        self.assert_a_model_is_covered_and_used(servers, client)
        nodes = [s["node"] for s in self.servers_seen(client)]
        self.assertEqual(len(set(nodes)), 3)
        self.assertEqual(len({node.partition("/")[0][:16] for node in nodes}), 2, nodes)

    def test_bridges_without_a_connection_are_two_swarms(self):
        lan = self.lan("br0", "br1")
        here, client_here = self.hosts(2, "br0", lan=lan)
        there, client_there = self.hosts(2, "br1", lan=lan, first=3)
        all_blocks = ("--blocks", f"0:{BLOCKS}", "--threads", "1")
        servers = [Server(self, self.model, *all_blocks, home=h.name, command=h.command(COROLLA, "serve", self.model)) for h in (here, there)]
        for server in servers:
            server.wait_ready()
        (a,), (b,) = self.wait_seen(client_here, 1), self.wait_seen(client_there, 1)
        self.assertNotEqual(a["node"], b["node"])

    def test_no_lan_finds_nobody_and_says_what_to_do(self):
        host, client = self.hosts(2)
        self.start(host, "--num-blocks", str(BLOCKS)).wait_ready()
        self.assertEqual(len(self.wait_seen(client, 1)), 1)
        for command in (("run", self.model, "-p", "x"), ("swarm",)):
            done = subprocess.run(client.command(COROLLA, *command, "--no-lan"), capture_output=True, text=True, timeout=DEADLINE,
                                  env=self.environment("newcomer"))
            self.assert_fails(done, "no server", "--join")

    def driven(self, host, codes, name):
        client = Driven(DRIVE, self.model, codes, env=self.environment(name), before=host.command())
        self.addCleanup(client.close)
        for command in ("open 200", "prefill 16"):
            client.do(command)
        return client

    def test_two_servers_that_no_longer_reach_each_other_while_the_client_reaches_both(self):
        *hosts, client_host = self.hosts(5, ipv6=None)
        codes = []
        for host, block in zip(hosts, (0, 1, 1, 2)):
            server = Server(self, self.model, "--blocks", f"{block}:{block + 1}", *(f for code in codes for f in ("--join", code)), "--threads", "1",
                            home=host.name, command=host.command(COROLLA, "serve", self.model))
            codes.append(server.wait_ready().code)
        self.wait_seen(client_host, len(hosts))
        expected = self.driven(client_host, (), "alone").do("decode 40").tokens
        client = self.driven(client_host, codes, "client")
        keys = [subprocess.check_output([COROLLA, "key", "show"], text=True, env=self.environment(host.name)).strip() for host in hosts]
        first, middle, last = (hop.node for hop in client.hops)
        answer = client.do("decode 10")
        hosts[0].ip("route", "add", "blackhole", f"10.77.0.{keys.index(middle) + 1}")
        answer += client.do("decode 30")
        self.assertEqual(answer.tokens, expected)
        self.assertEqual([(e.kind, e.node, e.reason) for e in answer.events], [("recovered", middle, "connection")])
        client.do("hops")
        self.assertEqual([client.hops[0].node, client.hops[2].node], [first, last])


if __name__ == "__main__":
    unittest.main()
