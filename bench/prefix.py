#!/usr/bin/env python3
"""The time to the first token of a second user with the same prompt, beside the first one's: prints a row of bench/RESULTS.md.

    bench/prefix.py            a prompt of 1,000 tokens through a server, and through a chain of three
    bench/prefix.py --quick    the same code on tiny sizes (a test)

Each pair has a prompt of its own. Both are processes of one identity, one after the other; the answers must be the same tokens.
"""

import pathlib
import statistics
import sys
import tempfile

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import gguf
import machine
from processes import Corolla, servers, thirds

WORDS = ("petal", "stem", "leaf", "root", "seed", "flower", "garden", "spring", "rain", "soil")


def prompt(n, number):
    """About n tokens, other ones for each number."""
    return " ".join(WORDS[(i * (number + 1) + i // 7 + number) % len(WORDS)] for i in range(n))


def main():
    parser = machine.arguments(__doc__, rounds=5)
    parser.add_argument("--tokens", type=int, default=1000, help="of the prompt, about (1000)")
    args = parser.parse_args()
    args.model = args.model or machine.output(["tools/model.sh"])
    if args.quick:
        args.tokens, args.rounds = 150, 1
    print(f"`bench/prefix.py`, {machine.describe()}, {pathlib.Path(args.model).name}, medians of {args.rounds} rounds\n")
    print("| chain | tokens | first user, ms | second user, ms | ratio | goal | reached |\n" + "| --- " * 7 + "|")
    whole = [(0, gguf.sizes(args.model)["n_blocks"])]
    for name, spans in (("one server", whole), ("three servers", thirds(args.model))):
        with tempfile.TemporaryDirectory(prefix="corolla-bench-") as folder:
            client, pairs = Corolla(args.bin, args.model, f"{folder}/client"), []
            with servers(Corolla(args.bin, args.model, f"{folder}/server"), spans) as running:
                for i in range(args.rounds):
                    pair = [client.json("run", *running.joins(), "--temp", "0", "-n", "4", "-p", prompt(args.tokens, i)) for _ in range(2)]
                    if pair[0]["tokens"] != pair[1]["tokens"]:
                        sys.exit("prefix: the second user got other tokens; no figure is told")
                    pairs.append(pair)
            times = [[answer["first_token_ms"] for answer in pair] for pair in pairs]
            ratio = statistics.median(b / a for a, b in times)
            first, second = (statistics.median(t[i] for t in times) for i in (0, 1))
            reached = "yes" if ratio <= 0.1 else "**no**"
            print(f"| {name} | {len(pairs[0][0]['prompt_tokens'])} | {first:.0f} | {second:.0f} | {ratio:.3f} | <= 0.1 | {reached} |", flush=True)


if __name__ == "__main__":
    main()
