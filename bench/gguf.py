"""The sizes of a GGUF file's parts, for the memory goals: bytes of each block, of the edges, of one position's KV in a block."""

import os
import re
import struct

SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
STRING, ARRAY = 8, 9


class Reader:
    def __init__(self, stream):
        self.stream = stream

    def number(self, code):
        return struct.unpack("<" + code, self.stream.read(struct.calcsize("<" + code)))[0]

    def text(self):
        return self.stream.read(self.number("Q")).decode("utf-8", "replace")

    def value(self, kind):
        if kind == STRING:
            return self.text()
        if kind == ARRAY:
            inner, count = self.number("I"), self.number("Q")
            return [self.value(inner) for _ in range(count)]
        return self.number(SCALARS[kind])


def sizes(path):
    with open(path, "rb") as stream:
        reader = Reader(stream)
        if stream.read(4) != b"GGUF" or reader.number("I") < 2:
            raise ValueError(f"{path} is not a GGUF file")
        n_tensors, n_keys = reader.number("Q"), reader.number("Q")
        keys = {}
        for _ in range(n_keys):
            name = reader.text()
            keys[name] = reader.value(reader.number("I"))
        tensors = []
        for _ in range(n_tensors):
            name = reader.text()
            stream.read(8 * reader.number("I") + 4)
            tensors.append((reader.number("Q"), name))
        alignment = keys.get("general.alignment", 32)
        data = -(-stream.tell() // alignment) * alignment
    return split(keys, tensors, os.path.getsize(path) - data)


def split(keys, tensors, data_size):
    """A tensor reaches to the next one, so that no table of types is needed here."""
    tensors.sort()
    ends = [offset for offset, _ in tensors[1:]] + [data_size]
    arch = keys["general.architecture"]
    n_blocks = keys[f"{arch}.block_count"]
    n_head = keys[f"{arch}.attention.head_count"]
    head_dim = keys.get(f"{arch}.attention.key_length", keys[f"{arch}.embedding_length"] // n_head)
    n_head_kv = keys.get(f"{arch}.attention.head_count_kv", n_head)
    blocks, edges = [0] * n_blocks, 0
    for (offset, name), end in zip(tensors, ends):
        block = re.match(r"blk\.(\d+)\.", name)
        if block:
            blocks[int(block.group(1))] += end - offset
        else:
            edges += end - offset
    # K and V as F16.
    return {"n_blocks": n_blocks, "blocks": blocks, "edges": edges, "kv_bytes_per_block": 2 * 2 * n_head_kv * head_dim,
            "n_embd": keys[f"{arch}.embedding_length"]}
