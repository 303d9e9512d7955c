"""A client that does what it is told, a command at a time, and says when each thing was done (drive.c): for tests and benchmarks."""

import collections
import subprocess

Hop = collections.namedtuple("Hop", "node begin end")
Event = collections.namedtuple("Event", "kind node begin end position pause_ms reason")


class Answer:
    """What came until a command was done: tokens and when each came, events, and compute_ms of the hops. Times in ms of the monotonic clock."""

    def __init__(self):
        self.tokens, self.at, self.events, self.compute_ms = [], [], [], []

    def __iadd__(self, more):
        self.tokens += more.tokens
        self.at += more.at
        self.events += more.events
        return self

    def gaps(self):
        return [b - a for a, b in zip(self.at, self.at[1:])]


class Driven:
    def __init__(self, program, model, codes=(), hang_ms=0, env=None, before=()):
        self.process = subprocess.Popen([*before, program, str(model), str(hang_ms), *codes], env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
                                        bufsize=1)
        self.hops = []

    def send(self, command):
        self.process.stdin.write(command + "\n")

    def receive(self, on_token=None):
        """on_token: called with the number of tokens of this answer so far."""
        answer, hops = Answer(), []
        for line in self.process.stdout:
            word, *rest = line.split()
            if word == "token":
                answer.tokens.append(int(rest[0]))
                answer.at.append(float(rest[1]))
                if on_token:
                    on_token(len(answer.tokens))
            elif word == "hop":
                hops.append(Hop(rest[0], int(rest[1]), int(rest[2])))
            elif word == "compute":
                answer.compute_ms = [int(us) / 1000 for us in rest]
            elif word == "event":
                answer.events.append(Event(rest[0], rest[1], *map(int, rest[2:5]), float(rest[5]), " ".join(rest[6:])))
            else:
                self.hops = hops or self.hops
                return answer
        raise AssertionError(f"the client ended with {self.process.wait()}")

    def do(self, command, on_token=None):
        self.send(command)
        return self.receive(on_token)

    def close(self):
        if self.process.returncode is None:
            self.process.communicate()
