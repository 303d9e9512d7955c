#!/usr/bin/env python3
"""A model of twice the memory that a process may have: prints a row of bench/RESULTS.md.

    bench/larger.py            llama.cpp, which reads the file again and again, beside three servers that each hold a third of it
    bench/larger.py --quick    the same code on a tiny model, without limits and without a peer (a test)

Each process is in a memory cgroup of its own (version 1 or 2) with half of the file's size. Where they cannot be made, which needs root,
nothing is measured, and the exit code is 77. The weights are random, in Q4_1, which no side keeps in another form than the file's. Each
side has a copy of the file, dropped from the page cache before, so that its pages count in the group that reads them.
"""

import contextlib
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import machine
from llama import Llama, compare, ours
from processes import Corolla, Servers, thirds

FULL = {"n_embd": 2048, "n_head": 16, "n_head_kv": 16, "n_ff": 5632, "head_dim": 128, "n_blocks": 24}
TINY = {"n_embd": 256, "n_head": 4, "n_head_kv": 4, "n_ff": 672, "head_dim": 64, "n_blocks": 3}


def group_parent():
    """Where memory groups are made, and the name of the file of their limit."""
    for line in pathlib.Path("/proc/self/cgroup").read_text(encoding="utf-8").splitlines():
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            return pathlib.Path("/sys/fs/cgroup/memory" + path), "memory.limit_in_bytes"
    return pathlib.Path("/sys/fs/cgroup"), "memory.max"


@contextlib.contextmanager
def limited(folder, name, program, size):
    """A program like this one, in a group of its own with so much memory. size 0: without."""
    if size == 0:
        yield program
        return
    parent, limit = group_parent()
    group = parent / f"corolla-bench-{os.getpid()}-{name}"
    wrapper = pathlib.Path(folder, f"limited-{name}")
    try:
        group.mkdir()
        (group / limit).write_text(str(size), encoding="utf-8")
    except OSError as error:
        print(f"SKIPPED: no memory cgroups here ({error}); nothing was measured")
        sys.exit(77)
    wrapper.write_text(f'#!/bin/sh\necho $$ > "{group}/cgroup.procs"\nexec "{os.path.abspath(program)}" "$@"\n', encoding="utf-8")
    wrapper.chmod(0o755)
    try:
        yield str(wrapper)
    finally:
        group.rmdir()  # who was in it has been stopped


def drop(file):
    """Its pages leave the page cache."""
    with open(file, "rb") as f:
        os.fsync(f.fileno())
        os.posix_fadvise(f.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


@contextlib.contextmanager
def chain(args, folder, model, size):
    with contextlib.ExitStack() as stack:
        running = Servers()
        for index, span in enumerate(thirds(model)):
            program = stack.enter_context(limited(folder, f"server-{index}", args.bin, size))
            running.start(Corolla(program, model, f"{folder}/home-{index}"), span, ("--cache-tokens", "512", "--threads", "2"))  # one server computes at a time
            stack.callback(running.stop)  # before its group is removed
        yield running


def main():
    parser = machine.arguments(__doc__, rounds=3, model=False)
    parser.add_argument("--make-model", default="build-test/tests/make_model", help="the tests' make_model (build-test/tests/make_model)")
    args = parser.parse_args()
    print(f"`bench/larger.py`, {machine.describe()}, medians of {args.rounds} rounds\n\n| what | corolla | peer | ratio | goal | reached |\n" + "| --- " * 6 + "|")
    with tempfile.TemporaryDirectory(prefix="corolla-bench-", dir=".") as folder, contextlib.ExitStack() as stack:
        mine, theirs = f"{folder}/mine.gguf", f"{folder}/theirs.gguf"
        subprocess.run([args.make_model, mine, "type=q4_1", *(f"{key}={value}" for key, value in (TINY if args.quick else FULL).items())], check=True)
        shutil.copyfile(mine, theirs)
        size = 0 if args.quick else os.path.getsize(mine) // 2
        drop(mine)
        drop(theirs)
        running = stack.enter_context(chain(args, folder, mine, size))
        client = Corolla(args.bin, mine, f"{folder}/client")
        peer = None
        if not args.quick:
            peer = Llama("usual")
            program = stack.enter_context(limited(folder, "llama", peer.folder / "llama-bench", size))
            peer.programs["llama-bench"] = program
        what = f"decode of a model of {os.path.getsize(mine) / 2**20:.0f} MiB, {size / 2**20:.0f} MiB of memory a process: three servers / llama.cpp"
        compare(args.rounds, what, 5, lambda: ours(client, 1, 0, 16, *running.joins()), (lambda: peer.bench(theirs, 0, 4, 2)) if peer else None)


if __name__ == "__main__":
    main()
