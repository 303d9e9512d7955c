"""LANs for tests, out of network namespaces: switches, and hosts that are plugged into them. Nothing of it touches the network of the
machine, and nothing can be left behind: a namespace lives as long as the process that holds it, and that ends with the test.

Needs iproute2, and root or the right to make user namespaces. Where it cannot be had, setUp skips the test and says so aloud; with
COROLLA_TEST_LAN=required it fails."""

import os
import shutil
import subprocess
import sys
import unittest


def unavailable():
    """Why there can be no LAN here, or None."""
    for tool in ("ip", "unshare", "nsenter"):
        if not shutil.which(tool):
            return f"{tool} is not installed (packages iproute2 and util-linux)"
    tried = subprocess.run(["unshare", *Lan.USER, "--net", "ip", "link", "add", "br0", "type", "bridge"], capture_output=True, text=True)
    return None if tried.returncode == 0 else f"no network namespaces: {tried.stderr.strip()}"


class Namespace:
    """A network namespace. enter is the beginning of a command line that runs inside."""

    def __init__(self, command):
        self.holder = subprocess.Popen([*command, "sh", "-c", "echo here; exec cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        if self.holder.stdout.readline() != b"here\n":
            raise AssertionError("a network namespace could not be made")
        user = ["--user", "--preserve-credentials"] if Lan.USER else []
        self.enter = ["nsenter", "--target", str(self.holder.pid), *user, "--net"]

    def ip(self, *arguments):
        subprocess.run([*self.enter, "ip", *map(str, arguments)], check=True)

    def close(self):
        self.holder.stdin.close()
        self.holder.stdout.close()
        self.holder.wait()


class Host(Namespace):
    """A machine that is not plugged in anywhere yet. command(...) is what runs a program on it."""

    def __init__(self, lan):
        super().__init__([*lan.core.enter, "unshare", "--net"])
        self.lan = lan
        self.ports = 0
        self.ip("link", "set", "lo", "up")

    def command(self, *arguments):
        return [*self.enter, *map(str, arguments)]

    def plug(self, switch, ipv4=None, ipv6=None):
        """A new interface, eth0 for the first; addresses with their prefix. Without ipv6 (link-local) it has no IPv6 at all."""
        port, name = f"p{self.holder.pid}x{self.ports}", f"eth{self.ports}"
        self.ports += 1
        self.lan.core.ip("link", "add", port, "type", "veth", "peer", "name", name, "netns", self.holder.pid)
        self.lan.core.ip("link", "set", port, "master", switch, "up")
        self.ip("link", "set", name, "addrgenmode", "none")
        self.ip("link", "set", name, "up")
        if ipv4:
            self.ip("addr", "add", ipv4, "dev", name)
        if ipv6:
            self.ip("addr", "add", ipv6, "dev", name, "nodad")
        return port

    def unplug(self, port):
        self.lan.core.ip("link", "set", port, "nomaster")


class Lan:
    """The switches, in a namespace of their own, and the hosts."""

    USER = [] if os.geteuid() == 0 else ["--user", "--map-root-user"]

    def __init__(self, switches=("br0",)):
        self.core = Namespace(["unshare", *self.USER, "--net"])
        self.hosts = []
        for switch in switches:
            self.core.ip("link", "add", switch, "type", "bridge")
            self.core.ip("link", "set", switch, "addrgenmode", "none")
            self.core.ip("link", "set", switch, "up")

    def host(self):
        self.hosts.append(Host(self))
        return self.hosts[-1]

    def close(self):
        for host in self.hosts:
            host.close()
        self.core.close()


class LanCase:
    """To be mixed into a TestCase: self.lan(...) makes one that ends with the test."""

    def setUp(self):
        why = unavailable()
        if why and os.environ.get("COROLLA_TEST_LAN") == "required":
            self.fail(why)
        if why:
            print(f"SKIPPED: {self.id()}: {why}", file=sys.stderr, flush=True)
            raise unittest.SkipTest(why)
        super().setUp()

    def lan(self, *switches):
        lan = Lan(switches or ("br0",))
        self.addCleanup(lan.close)
        return lan
