"""Toxiproxy: TCP proxies in front of servers, whose faults are switched on and off by its HTTP interface."""

import json
import os
import pathlib
import subprocess
import urllib.request

TOOL = pathlib.Path(__file__).resolve().parents[2] / "tools" / "toxiproxy.sh"
NO_GO = 77
BOTH = ("upstream", "downstream")  # to the server; from it


def find():
    """The program; None: there is no Go to build it."""
    environment = {k: v for k, v in os.environ.items() if k != "COROLLA_CACHE"}
    done = subprocess.run([TOOL], env=environment, stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode == NO_GO:
        return None
    done.check_returncode()
    return done.stdout.strip()


class Toxiproxy:
    def __init__(self, program, log):
        with open(log, "wb") as out:
            self.process = subprocess.Popen([program, "-host", "127.0.0.1", "-port", "0"], stdout=out, stderr=out)
        self.address = None  # of its interface: (host, port)

    def call(self, method, path, body=None):
        request = urllib.request.Request("http://{}:{}{}".format(*self.address, path), method=method,
                                         data=None if body is None else json.dumps(body).encode())
        with urllib.request.urlopen(request, timeout=10) as response:
            return json.loads(response.read() or "null")

    def reset(self):
        """All proxies are on, and without faults."""
        self.call("POST", "/reset")

    def close(self):
        self.process.kill()
        self.process.wait()


class Proxy:
    """In front of one server."""

    def __init__(self, toxiproxy, name):
        self.toxiproxy, self.path = toxiproxy, f"/proxies/{name}"
        made = toxiproxy.call("POST", "/proxies", {"name": name, "listen": "127.0.0.1:0", "upstream": "127.0.0.1:9", "enabled": True})
        self.listen = made["listen"]

    def point_to(self, address):
        self.toxiproxy.call("POST", self.path, {"listen": self.listen, "upstream": "{}:{}".format(*address), "enabled": True})

    def enable(self, on):
        """Off: its connections end, and new ones are refused."""
        self.toxiproxy.call("POST", self.path, {"enabled": on})

    def add(self, kind, streams=BOTH, **attributes):
        for stream in streams:
            self.toxiproxy.call("POST", f"{self.path}/toxics", {"type": kind, "stream": stream, "attributes": attributes})
