"""Nodes that look for each other on LANs of network namespaces (lan.py), with real sockets and real links (lan_probe.c)."""

import os
import pathlib
import queue
import struct
import subprocess
import threading
import time
import unittest

from lan import LanCase
from support import ASK, DEADLINE, SLOWER, Case

PROBE = str(pathlib.Path(ASK).parent / "lan_probe")
QUIET = 6 * SLOWER  # s: all three questions of a newcomer are over
JUNK = """
import os, random, socket, struct, sys
group, port, interface, kind = ("239.255.67.76", 31330, sys.argv[1], sys.argv[2])
out = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
out.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton(interface))
out6 = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
group6 = ("ff12::c001:1a", port, 0, socket.if_nametoindex("eth0"))
rng = random.Random(7)
good = b"corolla" + struct.pack("<BBBHI", 1, 1, 0, 9, 0) + bytes(32)
for i in range(10000):
    if kind == "names":  # well-formed, each of another node
        data = good[:16] + rng.randbytes(32)
    elif i % 3 == 0:
        data = rng.randbytes(rng.randrange(1400))
    elif i % 3 == 1:  # nearly right: the magic, and noise
        data = good[:7] + rng.randbytes(rng.randrange(300))
    else:  # right but for one byte of the head
        at = rng.choice([0, 3, 6, 7, 8, 9])
        data = good[:at] + bytes([good[at] ^ rng.randrange(2, 255)]) + good[at + 1:]
    out.sendto(data, (group, port))
    if i % 2:
        out6.sendto(data, group6)
"""

LISTEN = """
import socket, struct
join = socket.inet_aton("239.255.67.76") + socket.inet_aton("10.77.0.2")
join6 = socket.inet_pton(socket.AF_INET6, "ff12::c001:1a") + struct.pack("@I", socket.if_nametoindex("eth0"))
ip4 = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
ip4.bind(("239.255.67.76", 31330))
ip4.setsockopt(socket.IPPROTO_IP, socket.IP_ADD_MEMBERSHIP, join)
ip4.setsockopt(socket.IPPROTO_IP, 12, 1)  # IP_RECVTTL
ip6 = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
ip6.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
ip6.bind(("::", 31330))
ip6.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, join6)
ip6.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
print("listening", flush=True)
for s in (ip4, ip6):
    data, control, _, source = s.recvmsg(2000, 200)
    print(data.hex(), struct.unpack("@i", control[0][2])[0], source[0], flush=True)
"""


class Probe:
    """A node on a host. found and linked: what it has printed so far, by node."""

    def __init__(self, case, host, listen="[::]:0", *flags, before=()):
        self.case, self.host, self.found, self.linked, self.lines = case, host, {}, {}, queue.Queue()
        self.node = self.end = None
        self.entries = []
        home = case.folder / f"probe-{len(case.probes)}"
        self.errors = case.folder / f"probe-{len(case.probes)}.err"
        case.probes.append(self)
        with open(self.errors, "wb") as errors:
            self.process = subprocess.Popen(host.command(*before, PROBE, home, listen, *flags), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                            stderr=errors, text=True)
        self.reader = threading.Thread(target=self._read)
        self.reader.start()
        self.wait(lambda: self.node, "being ready")

    def _read(self):
        for line in self.process.stdout:
            self.lines.put(line)
        self.lines.put("")

    def look(self, seconds):
        """Takes one line, for which it waits so long. False: there was none."""
        try:
            line = self.lines.get(timeout=max(0, seconds))
        except queue.Empty:
            return False
        if not line:
            raise AssertionError(f"a probe ended: {self.log()}")
        what, node, *addresses = [*line.split(), ""]
        if what == "end":
            self.end = line[4:].strip()
        elif what == "entry":
            self.entries.append(node)
        elif what == "ready":
            self.node = node
        elif what == "found":
            self.found[node] = addresses[:-1]
        elif what == "linked":
            self.linked[node] = addresses[0]
        return True

    def wait(self, holds, what, seconds=DEADLINE):
        deadline = time.monotonic() + seconds
        while not holds():
            if not self.look(deadline - time.monotonic()) and not holds():
                raise AssertionError(f"no {what} within {seconds} s: found {self.found}, linked {self.linked}; {self.log()}")

    def wait_linked(self, *others):
        self.wait(lambda: all(o.node in self.linked for o in others), "links to all others")

    def listen_for(self, seconds):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            self.look(deadline - time.monotonic())

    def memory(self):
        for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("the probe is gone")

    def log(self):
        return self.errors.read_text(errors="replace")[-2000:]

    def stop(self):
        if not self.process.stdin.closed:
            self.process.stdin.close()
        code = self.process.wait(DEADLINE)
        self.reader.join()
        self.process.stdout.close()
        return code


class LanTest(LanCase, Case):
    def setUp(self):
        super().setUp()
        self.probes = []

    def probe(self, host, *arguments, **options):
        probe = Probe(self, host, *arguments, **options)
        self.addCleanup(probe.stop)
        return probe

    def tearDown(self):
        for probe in self.probes:
            self.assertEqual(probe.stop(), 0, probe.log())
            self.assertNotIn("Sanitizer", probe.log())
        super().tearDown()

    def hosts(self, n, switch="br0", ipv4=True, ipv6=True, lan=None, first=1):
        lan = lan or self.lan()
        hosts = [lan.host() for _ in range(n)]
        for i, host in enumerate(hosts, first):
            host.plug(switch, f"10.77.0.{i}/24" if ipv4 else None, f"fe80::{i}/64" if ipv6 else None)
        return hosts

    def all_link(self, probes):
        for probe in probes:
            others = [p for p in probes if p is not probe]
            probe.wait_linked(*others)
            self.assertNotIn(probe.node, probe.found)

    def test_four_hosts_find_each_other_over_ipv4(self):
        probes = [self.probe(host, "0.0.0.0:0") for host in self.hosts(4, ipv6=False)]
        self.all_link(probes)
        for probe in probes:
            self.assertTrue(all(a.startswith("10.77.0.") for addresses in probe.found.values() for a in addresses), probe.found)

    def test_four_hosts_find_each_other_over_ipv6_alone(self):
        probes = [self.probe(host, "[::]:0") for host in self.hosts(4, ipv4=False)]
        self.all_link(probes)
        for probe in probes:
            self.assertTrue(all("%eth0]:" in a for addresses in probe.found.values() for a in addresses), probe.found)

    def test_four_hosts_find_each_other_over_both(self):
        probes = [self.probe(host) for host in self.hosts(4)]
        self.all_link(probes)
        for probe in probes:  # both families are heard of each other, whichever was first
            probe.wait(lambda p=probe: all(len(p.found.get(o.node, ())) == 2 for o in probes if o is not p), "both addresses")

    def test_processes_of_one_machine_find_each_other_without_a_network(self):
        host = self.lan().host()
        self.all_link([self.probe(host, "127.0.0.1:0") for _ in range(3)])

    def test_processes_of_one_machine_find_each_other_over_its_network(self):
        (host,) = self.hosts(1)
        self.all_link([self.probe(host, "10.77.0.1:0") for _ in range(2)])

    def test_a_client_finds_and_is_not_found(self):
        one, other = self.hosts(2)
        server, client = self.probe(one), self.probe(other, "-")
        client.wait_linked(server)
        server.wait_linked(client)
        server.listen_for(QUIET)
        self.assertEqual(server.found, {})

    def test_a_listener_on_one_family_is_announced_on_that_one_only(self):
        one, other = self.hosts(2)
        server, client = self.probe(one, "0.0.0.0:0"), self.probe(other, "-")
        client.wait_linked(server)
        client.listen_for(QUIET)
        self.assertEqual(len(client.found[server.node]), 1)
        self.assertTrue(client.found[server.node][0].startswith("10.77.0.1:"), client.found)

    def test_a_node_that_does_not_look_is_not_found(self):
        hosts = self.hosts(3)
        off = self.probe(hosts[0], "[::]:0", "off")
        on = [self.probe(host) for host in hosts[1:]]
        self.all_link(on)
        for probe in on:
            probe.listen_for(QUIET)
            self.assertNotIn(off.node, probe.found)
        self.assertEqual(off.found, {})

    def test_bridges_without_a_connection_are_apart(self):
        lan = self.lan("br0", "br1")
        here = [self.probe(host) for host in self.hosts(2, "br0", lan=lan)]
        there = [self.probe(host) for host in self.hosts(2, "br1", lan=lan, first=3)]
        self.all_link(here)
        self.all_link(there)
        for probe in here + there:
            probe.listen_for(QUIET / 4)
            self.assertEqual(len(probe.found), 1, probe.found)

    def test_who_is_of_another_network_is_not_heard(self):
        lan = self.lan()
        one, stranger = lan.host(), lan.host()
        one.plug("br0", "10.77.0.1/24")
        stranger.plug("br0", "192.168.9.2/24")
        here, there = self.probe(one), self.probe(stranger)
        here.listen_for(QUIET)
        there.listen_for(0.1)
        self.assertEqual((here.found, there.found), ({}, {}))

    def test_nothing_passes_a_router(self):
        lan = self.lan("br0", "br1")
        router, (one,), (other,) = lan.host(), self.hosts(1, "br0", lan=lan), [lan.host()]
        other.plug("br1", "10.78.0.1/24", "fe80::1/64")
        router.plug("br0", "10.77.0.254/24", "fe80::fe/64")
        router.plug("br1", "10.78.0.254/24", "fe80::fe/64")
        here, between, there = self.probe(one), self.probe(router), self.probe(other)
        between.wait_linked(here, there)  # on both networks, it finds both
        here.wait_linked(between)
        there.wait_linked(between)
        here.listen_for(QUIET)
        there.listen_for(0.1)
        self.assertNotIn(there.node, here.found)
        self.assertNotIn(here.node, there.found)

    def overheard(self, *arguments):
        """(bytes, hop limit, source) of the first datagrams over IPv4 and IPv6 that a probe with these arguments sends, and the probe."""
        one, other = self.hosts(2)
        listener = subprocess.Popen(other.command("python3", "-c", LISTEN), stdout=subprocess.PIPE, text=True)
        self.addCleanup(listener.stdout.close)
        self.addCleanup(listener.wait)
        self.addCleanup(listener.kill)
        self.assertEqual(listener.stdout.readline(), "listening\n")
        probe = self.probe(one, *arguments)
        lines = [listener.stdout.readline().split() for _ in range(2)]
        return [(bytes.fromhex(data), int(limit), source) for data, limit, source in lines], probe

    def test_datagrams_are_as_documented_and_die_at_the_first_router(self):
        heard, probe = self.overheard("[::]:31337")
        for (data, limit, source), address in zip(heard, ("10.77.0.1", "fe80::1")):
            self.assertEqual(data, b"corolla\x01\x01\x00" + struct.pack("<HI", 31337, 0) + bytes.fromhex(probe.node))
            self.assertEqual(limit, 1)
            self.assertEqual(source, address)

    def test_a_client_does_not_say_who_it_is(self):
        heard, _ = self.overheard("-")
        for data, _, _ in heard:
            self.assertEqual(data, b"corolla\x01\x01" + bytes(39))

    @unittest.skipUnless(os.environ.get("COROLLA_TEST_FULL"), "takes two minutes")
    def test_an_interface_that_comes_later_is_taken_up(self):
        lan = self.lan()
        late, (other,) = lan.host(), self.hosts(1, lan=lan)
        probes = [self.probe(late), self.probe(other)]
        late.plug("br0", "10.77.0.9/24", "fe80::9/64")
        for probe, peer in (probes, probes[::-1]):
            probe.wait(lambda p=probe, o=peer: o.node in p.linked and o.node in p.found, "peer", 90 * SLOWER)

    @unittest.skipUnless(os.environ.get("COROLLA_TEST_FULL"), "takes two minutes")
    def test_parts_that_were_apart_find_each_other(self):
        lan = self.lan("br0", "br1")
        here, there = self.hosts(1, "br0", lan=lan), self.hosts(1, "br1", lan=lan, first=2)
        probes = [self.probe(here[0]), self.probe(there[0])]
        probes[0].listen_for(QUIET)  # their questions are over
        lan.core.ip("link", "add", "c0", "type", "veth", "peer", "name", "c1")
        for cable, switch in (("c0", "br0"), ("c1", "br1")):
            lan.core.ip("link", "set", cable, "master", switch, "up")
        for probe, peer in (probes, probes[::-1]):
            probe.wait(lambda p=probe, o=peer: o.node in p.linked and o.node in p.found, "peer", 90 * SLOWER)

    def junk(self, host, kind):
        subprocess.run(host.command("python3", "-c", JUNK, "10.77.0.3", kind), check=True)

    def test_ten_thousand_datagrams_of_junk_change_nothing(self):
        one, two, hostile, four = self.hosts(4)
        probes = [self.probe(one), self.probe(two)]
        self.all_link(probes)
        before = [p.memory() for p in probes]
        self.junk(hostile, "noise")
        newcomer = self.probe(four)
        self.all_link([*probes, newcomer])
        for probe, bytes_before in zip(probes, before):
            probe.wait(lambda p=probe: newcomer.node in p.found, "newcomer")
            self.assertEqual(len(probe.found), 2, probe.found)
            self.assertLess(probe.memory() - bytes_before, (2 << 20) * SLOWER)

    def test_ten_thousand_made_up_nodes_take_little_and_hide_nobody(self):
        one, two, hostile, four = self.hosts(4)
        probes = [self.probe(one), self.probe(two)]
        self.all_link(probes)
        before = [p.memory() for p in probes]
        self.junk(hostile, "names")
        newcomer = self.probe(four)
        self.all_link([*probes, newcomer])
        for probe, bytes_before in zip(probes, before):
            self.assertLessEqual(len(probe.found), 2 + 2 * 64, len(probe.found))
            self.assertLess(probe.memory() - bytes_before, (4 << 20) * SLOWER)

    def entry_probe(self, host, addresses, name="entry.example:31330"):
        """A client that dials the name, whose addresses are these: its /etc/hosts is a file of ours, in a mount namespace of its own."""
        hosts = self.folder / f"hosts-{len(self.probes)}"
        hosts.write_text("".join(f"{address} entry.example\n" for address in addresses))
        switch = self.folder / "nsswitch.conf"
        switch.write_text("hosts: files\n")
        script = 'mount --bind "$1" /etc/hosts; [ ! -e /etc/nsswitch.conf ] || mount --bind "$2" /etc/nsswitch.conf; shift 2; exec "$@"'
        return self.probe(host, "-", "off", name, before=["unshare", "--mount", "sh", "-euc", script, "sh", hosts, switch])

    def test_a_name_leads_to_the_entry_nodes_behind_it(self):
        hosts = self.hosts(7)
        servers = [self.probe(host, "[::]:31330", "off") for host in hosts[:5]]
        nodes = {s.node for s in servers}
        few = self.entry_probe(hosts[5], ["10.77.0.99", "10.77.0.1", "10.77.0.2", "10.77.0.6"])  # nobody, two nodes, refused
        few.wait(lambda: len(few.entries) == 2, "both entry nodes")
        self.assertEqual(set(few.entries), {servers[0].node, servers[1].node})
        few.wait(lambda: few.end is not None, "end of the dial")
        self.assertEqual(few.end, "")
        many = self.entry_probe(hosts[6], [f"10.77.0.{i}" for i in range(1, 6)])
        many.wait(lambda: many.end is not None, "end of the dial")
        self.assertEqual(many.end, "")
        self.assertEqual(len(set(many.entries)), 3)
        self.assertLess(set(many.entries), nodes)

    def test_a_name_of_which_no_entry_answers_says_what_was_tried(self):
        (host,) = self.hosts(1)
        client = self.entry_probe(host, ["10.77.0.1", "10.77.0.50"])
        client.wait(lambda: client.end is not None, "end of the dial")
        for word in ("cannot reach entry.example:31330", "10.77.0.1:31330: connection refused", "10.77.0.50:31330: "):
            self.assertIn(word, client.end)
        nowhere = self.entry_probe(host, [])
        nowhere.wait(lambda: nowhere.end is not None, "end of the dial")
        self.assertIn("entry.example:31330: ", nowhere.end)


if __name__ == "__main__":
    unittest.main()
