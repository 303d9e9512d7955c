"""How fast a swarm of real processes knows itself: nodes without a model (mesh_probe.c), as bench/swarm.py measures them."""

import pathlib
import sys
import unittest

from support import ASK, FOLDER, SLOWER

sys.path.insert(0, str(FOLDER.parent.parent / "bench"))
import swarm  # noqa: E402

PROBE = str(pathlib.Path(ASK).parent / "mesh_probe")
NODES = 30
SECONDS_MAX = 15 * SLOWER  # the goal is 3 s on a quiet machine, which bench/swarm.py tells


class Mesh(unittest.TestCase):
    def test_thirty_processes_that_join_by_one_code_soon_all_know_all(self):
        seconds = swarm.measure(PROBE, NODES, deadline=60 * SLOWER)
        print(f"{NODES} processes all knew all {seconds:.2f} s after the last was started", file=sys.stderr)
        self.assertLess(seconds, SECONDS_MAX)


if __name__ == "__main__":
    unittest.main()
