"""Reads the includes of the source tree and fails on one that goes the wrong way (docs/ARCHITECTURE.md, "Folders")."""

import pathlib
import re
import sys

# A folder may include itself, <corolla.h>, and these.
MAY_USE = {
    "base": set(),
    "crypto": {"base"},
    "wire": {"base", "crypto"},
    "kernel": set(),
    "model": {"base", "crypto", "kernel"},
    "text": {"base"},
    "net": {"base", "crypto", "wire"},
    "swarm": {"base", "crypto", "wire"},
    "mesh": {"base", "crypto", "wire", "swarm", "net"},
    "handle": {"base", "model", "text"},
    "node": {"base", "crypto", "wire", "swarm", "mesh", "model", "net", "handle"},
    "client": {"base", "crypto", "wire", "swarm", "mesh", "model", "text", "net", "handle"},
    "cli": set(),
}
# The outside libraries, and the only folders that may use them.
ONLY = {
    r"(ggml.*|gguf)\.h": {"kernel", "model"},
    r"llama.*\.h": {"text"},
    r"openssl/.*": {"crypto", "net"},
    r"uv\.h": {"net"},
    r".*\.pb-c\.h|protobuf-c/.*": {"wire"},
    r"jansson\.h": {"cli"},
}
INCLUDE = re.compile(r'^\s*#\s*include\s*(["<])([^">]+)[">]', re.M)


def faults(path, text):
    """The wrong includes of one file; path is relative to src/."""
    folder = path.split("/")[0]
    if folder not in MAY_USE:
        return [f"src/{path}: folder {folder} is not in the table of tests/layers.py"]
    found = []
    for quote, name in INCLUDE.findall(text):
        target = name.split("/")[0]
        outside = any(re.fullmatch(pattern, name) for pattern in ONLY)
        if ".." in name or (quote == '"' and target not in MAY_USE and not outside):
            found.append(f"src/{path}: {name} must be named from src/, as in \"base/err.h\"")
        if "/" in name and target in MAY_USE and target != folder and target not in MAY_USE[folder]:
            found.append(f"src/{path}: {folder} may not include {name}")
        for pattern, folders in ONLY.items():
            if re.fullmatch(pattern, name) and folder not in folders:
                found.append(f"src/{path}: only {', '.join(sorted(folders))} may include {name}")
    return found


def check_itself():
    """A check that cannot fail is none: these must be found, and these must not."""
    assert faults("base/err.c", '#include "net/net.h"\n')
    assert faults("node/node.c", '#include "client/peers.h"\n')
    assert faults("client/peers.c", '# include <uv.h>\n')
    assert faults("cli/run.c", '#include "base/err.h"\n')
    assert faults("net/link.c", '#include <ggml.h>\n')
    assert faults("base/err.c", '#include "../net/net.h"\n')
    assert faults("base/err.c", '#include "net.h"\n')
    assert faults("new/thing.c", "")
    assert not faults("net/link.c", '#include <uv.h>\n#include "base/err.h"\n#include <openssl/ssl.h>\n')


def main():
    check_itself()
    source = pathlib.Path(sys.argv[1]) / "src"
    files = sorted(p for p in source.rglob("*") if p.suffix in (".c", ".h"))
    wrong = [fault for p in files for fault in faults(p.relative_to(source).as_posix(), p.read_text(encoding="utf-8"))]
    print("\n".join(wrong) if wrong else f"{len(files)} files, all includes go the right way")
    return 1 if wrong or not files else 0


if __name__ == "__main__":
    sys.exit(main())
