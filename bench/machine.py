"""What the benchmarks ask the machine: what it is, how much memory and processor time a process took (Linux)."""

import argparse
import os
import pathlib
import re
import subprocess
import time


def output(command):
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.strip()


def arguments(description, rounds=None, model=True):
    """The parser of what most benchmarks take."""
    parser = argparse.ArgumentParser(description=description.split("\n", maxsplit=1)[0])
    parser.add_argument("--bin", default="build/corolla", help="the program (build/corolla)")
    if model:
        parser.add_argument("--model", help="a GGUF file (the default model)")
    if rounds:
        parser.add_argument("--rounds", type=int, default=rounds, help=f"({rounds})")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, no peer")
    return parser


def describe():
    """The processor, its cores, how busy they were, and the commit."""
    info = pathlib.Path("/proc/cpuinfo").read_text(encoding="utf-8")
    model = re.search(r"model name\s*: (.*)", info)
    commit = output(["git", "rev-parse", "--short", "HEAD"])
    if output(["git", "status", "--porcelain", "--untracked-files=no"]):
        commit += " with changes"
    name = model.group(1) if model else os.uname().machine
    return f"{name}, {len(os.sched_getaffinity(0))} cores, load {os.getloadavg()[0]:.2f} at the start, commit {commit}"


def peak_memory(pid):
    """The highest resident size so far, in bytes; pages of mapped files count."""
    return memory(pid, "VmHWM")


def memory(pid, kind="VmRSS"):
    """Resident bytes; of the kind RssAnon those that are no mapped file."""
    status = pathlib.Path(f"/proc/{pid}/status").read_text(encoding="utf-8")
    return int(re.search(rf"{kind}:\s*(\d+) kB", status).group(1)) * 1024


def cpu_seconds(pid):
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def cpu_share(pid, seconds):
    """The share of one core that the process takes over so many seconds."""
    begin, start = cpu_seconds(pid), time.monotonic()
    time.sleep(seconds)
    return (cpu_seconds(pid) - begin) / (time.monotonic() - start)


def listening(pid):
    """The ports on which a process takes connections."""
    own = set()
    for entry in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        own.update(re.findall(r"socket:\[(\d+)\]", os.readlink(entry)))
    ports = []
    for line in pathlib.Path(f"/proc/{pid}/net/tcp").read_text(encoding="ascii").splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and fields[9] in own:
            ports.append(int(fields[1].partition(":")[2], 16))
    return ports
