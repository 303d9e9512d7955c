"""The programs that the benchmarks run: corolla's servers and clients, and llama-bench."""

import contextlib
import hashlib
import json
import os
import pathlib
import signal
import subprocess
import time

import gguf


class Corolla:
    """The program, a model, and a home of its own, so that the user's identity is left alone."""

    def __init__(self, program, model, home):
        self.program, self.model = program, model
        self.environment = dict(os.environ, COROLLA_HOME=home)
        self.environment.pop("COROLLA_JOIN", None)

    def command(self, name, *flags):
        return [self.program, name, self.model, "--no-lan", *flags]

    def client(self, flags):
        """A client's environment: a home for each set of servers, so that it remembers none of another chain."""
        chain = hashlib.sha256(" ".join(flags[i + 1] for i, flag in enumerate(flags) if flag == "--join").encode()).hexdigest()[:12]
        return dict(self.environment, COROLLA_HOME=str(pathlib.Path(self.environment["COROLLA_HOME"], chain)))

    def json(self, name, *flags):
        done = subprocess.run(self.command(name, *flags, "--json"), env=self.client(flags), stdout=subprocess.PIPE, check=True)
        return json.loads(done.stdout)

    def tokens(self, chain, prompt, n):
        return self.json("run", *chain, "--temp", "0", "-n", str(n), "-p", prompt)["tokens"]

    def bench(self, chain, prefill, decode):
        result = self.json("bench", *chain, "-p", str(prefill), "-n", str(decode), "--repetitions", "1")
        return {"prefill": result["prefill_tokens_per_s"], "decode": result["decode_tokens_per_s"]}  # 0 where nothing was asked

    def bench_peak_memory(self, chain, prefill, decode):
        """The peak resident bytes of a client that does a benchmark's work."""
        flags = ["-p", str(prefill), "-n", str(decode), "--repetitions", "1", "--json"]
        process = subprocess.Popen(self.command("bench", *chain, *flags), env=self.client(chain), stdout=subprocess.DEVNULL)
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            raise RuntimeError(f"corolla bench failed with {process.returncode}")
        return usage.ru_maxrss * 1024

    @contextlib.contextmanager
    def idle_client(self, chain):
        """A chat that had its first answer and now waits for input, with its links open."""
        process = subprocess.Popen(self.command("chat", *chain, "-n", "1"), env=self.client(chain), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                   stderr=subprocess.DEVNULL)
        try:
            process.stdin.write(b"Hello\n")
            process.stdin.flush()
            if not process.stdout.read(1):
                raise RuntimeError("corolla chat ended without an answer")
            yield process
        finally:
            process.kill()
            process.communicate()


class Servers:
    def __init__(self):
        self.processes, self.codes, self.ready_seconds = [], [], 0.0

    @property
    def pids(self):
        return [process.pid for process in self.processes]

    def joins(self):
        return [word for code in self.codes for word in ("--join", code)]

    def start(self, corolla, span, flags, errors=None):
        began = time.monotonic()
        command = corolla.command("serve", "--blocks", f"{span[0]}:{span[1]}", "--listen", "127.0.0.1:0", "--threads", "1", *flags)
        process = subprocess.Popen(command, env=corolla.environment, stdout=subprocess.PIPE, stderr=errors, text=True)
        self.processes.append(process)
        for line in process.stdout:
            word, _, rest = line.strip().partition(" ")
            if word == "join":
                self.codes.append(rest)
            if word == "ready":
                self.ready_seconds = time.monotonic() - began
                return
        raise RuntimeError(f"corolla serve ended with {process.wait()} before it was ready")

    def stop(self):
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            process.stdout.close()


class Nodes(Servers):
    """Servers that come and go, each with a home of its own."""

    def __init__(self, program, model, folder):
        super().__init__()
        self.program, self.model, self.folder, self.by_node = program, model, pathlib.Path(folder), {}
        self.spans = {}  # of the servers, by node, like the processes

    def living(self):
        """The join codes of those that run."""
        return [code for process, code in zip(self.processes, self.codes) if process.poll() is None]

    def add(self, span):
        """Ready when it returns its process."""
        name = f"server-{len(self.processes)}"
        corolla = Corolla(self.program, self.model, str(self.folder / name))
        with open(self.folder / f"{name}.log", "wb") as errors:
            self.start(corolla, span, [word for code in self.living() for word in ("--join", code)], errors)
        node = subprocess.run([self.program, "key", "show"], env=corolla.environment, stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
        self.by_node[node] = self.processes[-1]
        self.spans[node] = span
        return self.processes[-1]

    def stop(self):
        for process in self.processes:
            process.send_signal(signal.SIGCONT)
        super().stop()


def thirds(model):
    n = gguf.sizes(model)["n_blocks"]
    return [(n * i // 3, n * (i + 1) // 3) for i in range(3)]


@contextlib.contextmanager
def servers(corolla, spans, flags=()):
    """Servers of one thread each, ready, stopped at the end."""
    running = Servers()
    try:
        for span in spans:
            running.start(corolla, span, flags)
        yield running
    finally:
        running.stop()


class Peer:
    """llama-bench, with the settings that corolla has: exact ones, or with fast the usual ones."""

    def __init__(self, program, model):
        self.program, self.model = str(pathlib.Path(program).resolve()), model

    def bench(self, threads, fast, prefill, decode):
        environment = dict(os.environ, GGML_CPU_TILED_MM="1" if fast else "0")
        flags = ["-t", str(threads), "-fa", "1" if fast else "0", "-p", str(prefill), "-n", str(decode), "-r", "1", "-o", "json"]
        done = subprocess.run([self.program, "-m", self.model, *flags], env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
        rows = json.loads(done.stdout)
        return {"prefill" if row["n_prompt"] else "decode": row["avg_ts"] for row in rows}
