"""Real processes for end-to-end tests: servers, clients, tiny models, each test in folders of its own.

Servers print "join CODE" and "ready A:B" when they can be used; that is what tests wait for, within a deadline, never for time.
Whatever a test started is stopped when it ends; only own children are signalled.
"""

import hashlib
import json
import os
import pathlib
import selectors
import shutil
import signal
import subprocess
import tempfile
import time
import unittest

FOLDER = pathlib.Path(__file__).resolve().parent
PROMPTS = FOLDER.parent / "support" / "prompts.txt"
COROLLA = os.environ.get("COROLLA_BIN", str(FOLDER.parent.parent / "build" / "corolla"))
MAKE_MODEL = os.environ.get("COROLLA_MAKE_MODEL", str(pathlib.Path(COROLLA).parent / "tests" / "make_model"))
ASK = str(pathlib.Path(MAKE_MODEL).parent / "ask")
REAL_MODEL = os.environ.get("COROLLA_TEST_MODEL", "")
SLOWER = int(os.environ.get("COROLLA_TEST_SLOWER", "1"))  # sanitizers
DEADLINE = 60 * SLOWER
ON_NETWORK = ("serve", "run", "chat", "bench", "swarm")  # tests stay on loopback: these look at the LAN otherwise
COMPUTING = ("run", "chat", "bench")  # and on one core

os.dup2(os.open(os.devnull, os.O_RDONLY), 0)  # no child waits for the input of whoever runs the tests


def listener(pid):
    """(host, port) at which a process listens on IPv4, as the system sees it; None: at none."""
    inodes = set()
    for fd in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        try:
            target = os.readlink(fd)
        except OSError:
            continue
        if target.startswith("socket:["):
            inodes.add(target[8:-1])
    for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and fields[9] in inodes:
            return "127.0.0.1", int(fields[1].split(":")[1], 16)
    return None


class Server:
    """One `corolla serve`."""

    def __init__(self, case, model, *flags, home="home", env=None, command=None):
        """env: beside the usual one. command: what runs in the place of `corolla serve MODEL` on loopback without a LAN."""
        self.errors = case.folder / f"server-{len(case.servers)}.err"
        self.code = self.span = None
        command = command or [COROLLA, "serve", str(model), "--listen", "127.0.0.1:0", "--threads", "1", "--no-lan"]
        with open(self.errors, "wb") as errors:
            self.process = subprocess.Popen([*command, *flags], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors,
                                            env={**case.environment(home), **(env or {})})
        case.servers.append(self)

    def wait_ready(self):
        deadline, text = time.monotonic() + DEADLINE, b""
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            while self.span is None:
                if not selector.select(max(0, deadline - time.monotonic())):
                    raise AssertionError(f"a server was not ready within {DEADLINE} s: {self.log()}")
                chunk = os.read(self.process.stdout.fileno(), 4096)
                if not chunk:
                    raise AssertionError(f"a server ended with {self.process.wait()}: {self.log()}")
                text += chunk
                for line in text.decode().split("\n")[:-1]:
                    word, _, rest = line.partition(" ")
                    if word == "join":
                        self.code = rest
                    elif word == "ready":
                        self.span = tuple(int(n) for n in rest.split(":"))
        return self

    def log(self):
        return self.errors.read_text(errors="replace")[-2000:]

    def address(self):
        """(host, port) of its listener, as the system sees it."""
        found = listener(self.process.pid)
        if not found:
            raise AssertionError("the server does not listen")
        return found

    def memory(self):
        """Resident bytes."""
        for line in pathlib.Path(f"/proc/{self.process.pid}/status").read_text().splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        raise AssertionError("the server is gone")

    def cpu_seconds(self):
        fields = pathlib.Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self, number=signal.SIGTERM):
        """Signals the server and returns its exit code."""
        self.process.send_signal(number)
        return self.process.wait(DEADLINE)

    def clean_up(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stdout.close()


class Case(unittest.TestCase):
    maxDiff = 2000

    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="corolla-e2e-"))
        self.servers = []
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.addCleanup(self._clean_up)

    def _clean_up(self):
        for server in self.servers:
            server.clean_up()
            if "Sanitizer" in server.log():
                self.fail(server.log())

    def environment(self, home="home"):
        env = {k: v for k, v in os.environ.items() if k != "COROLLA_JOIN"}
        env["COROLLA_HOME"] = str(self.folder / home)
        env["COROLLA_CACHE"] = str(self.folder / "cache")
        return env

    def tiny_model(self, name="tiny", **options):
        path = self.folder / f"{name}.gguf"
        subprocess.run([MAKE_MODEL, str(path), *(f"{k}={v}" for k, v in options.items())], check=True)
        return path

    def real_model(self):
        if not REAL_MODEL:
            self.fail("COROLLA_TEST_MODEL names no model (make -s model prints one)")
        return REAL_MODEL

    def serve(self, model, *spans, flags=(), home="home"):
        """Servers of these spans, all ready; returns their join codes' flags for a client."""
        servers = [Server(self, model, "--blocks", span, *flags, home=home) for span in spans]
        return [s.wait_ready() for s in servers]

    def corolla(self, *arguments, input="", home="client", timeout=DEADLINE):
        """Runs a client to its end; the result has returncode, stdout and stderr."""
        arguments = list(map(str, arguments))
        if arguments and arguments[0] in ON_NETWORK:
            arguments.insert(1, "--no-lan")
        if arguments and arguments[0] in COMPUTING:
            arguments[1:1] = ["--threads", "1"]  # what comes behind it wins
        done = subprocess.run([COROLLA, *arguments], input=input, capture_output=True, text=True, errors="replace",
                              env=self.environment(home), timeout=timeout)
        self.assertNotIn("Sanitizer", done.stderr)
        return done

    def run_json(self, model, prompt, *arguments, n=32, home=None):
        home = home or self.chain_home([code for word, code in zip(arguments, arguments[1:]) if word == "--join"])
        done = self.corolla("run", model, "-p", prompt, "-n", n, "--temp", 0, "--json", *arguments, home=home)
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)

    def chain_home(self, codes):
        """A home of a client for just these servers: another one would remember the servers of other chains and take them."""
        return "client-" + hashlib.sha256(" ".join(codes).encode()).hexdigest()[:12]

    def ask(self, model, n, servers=(), workers=1):
        """The greedy tokens of all prompts in PROMPTS: a list per prompt."""
        done = subprocess.run([ASK, str(model), str(PROMPTS), str(n), str(workers), *(s.code for s in servers)], capture_output=True, text=True,
                              env=self.environment(self.chain_home([s.code for s in servers])), timeout=3 * DEADLINE)
        self.assertEqual(done.returncode, 0, done.stderr)
        return [[int(t) for t in line.split()] for line in done.stdout.splitlines()]

    def wait_until(self, what, check):
        """What check() returns, as soon as it is true."""
        deadline = time.monotonic() + DEADLINE
        while not (seen := check()):
            self.assertLess(time.monotonic(), deadline, f"{what} did not happen within {DEADLINE} s; last seen: {seen}")
            time.sleep(0.1)  # between two looks
        return seen

    def assert_fails(self, done, *words, code=1):
        """The program ended with the code and one line that has all the words."""
        self.assertEqual(done.returncode, code, done.stderr)
        lines = [line for line in done.stderr.splitlines() if line.startswith("corolla: ")]
        self.assertEqual(len(lines), 1, done.stderr)
        self.assertEqual(done.stdout, "")
        for word in words:
            self.assertIn(word.lower(), lines[0].lower())


def joins(servers):
    return [argument for s in servers for argument in ("--join", s.code)]
