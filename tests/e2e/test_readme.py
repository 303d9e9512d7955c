"""What the README shows works: its C sample builds against the shared library and runs, and its main job answers."""

import os
import pathlib
import re
import subprocess
import tempfile
import unittest

from support import DEADLINE

ROOT = pathlib.Path(__file__).resolve().parents[2]
BIN = pathlib.Path(os.environ["COROLLA_BIN"])
MODEL = os.environ["COROLLA_TEST_MODEL"]


class Readme(unittest.TestCase):
    def test_the_c_sample_compiles_and_runs(self):
        if os.environ.get("COROLLA_SANITIZE"):
            self.skipTest("the sample is not built with the sanitizer of the library")
        sample = re.search(r"```c\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S).group(1)
        with tempfile.TemporaryDirectory() as folder:
            source, program = pathlib.Path(folder, "sample.c"), pathlib.Path(folder, "sample")
            source.write_text(sample, encoding="utf-8")
            subprocess.run(["cc", "-std=c99", "-Wall", "-Wextra", "-Werror", f"-I{ROOT}/include", str(source), "-o", str(program), f"-L{BIN.parent}",
                            "-lcorolla", f"-Wl,-rpath,{BIN.parent}", "-Wl,--allow-shlib-undefined"], check=True)
            done = subprocess.run([str(program), MODEL], capture_output=True, text=True, timeout=3 * DEADLINE, check=False)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertIn("20 tokens", done.stdout)

    def test_the_main_job_answers_and_stops_its_servers(self):
        done = subprocess.run([str(ROOT / "tools" / "run.sh"), MODEL, "3", "What is the capital of France?"], capture_output=True, text=True,
                              timeout=3 * DEADLINE, check=False, env={**os.environ, "COROLLA_BIN": str(BIN)})
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("Paris", done.stdout)
        for hop in ("hop 1 of 3: blocks 0:10", "hop 2 of 3: blocks 10:20", "hop 3 of 3: blocks 20:30"):
            self.assertIn(hop, done.stderr)

    def test_a_server_dies_in_mid_answer_and_the_answer_is_the_same(self):
        done = subprocess.run([str(ROOT / "tools" / "demo-kill.sh"), MODEL], capture_output=True, text=True, timeout=3 * DEADLINE, check=False,
                              env={**os.environ, "COROLLA_BIN": str(BIN)})
        self.assertEqual(done.returncode, 0, done.stderr)
        for words in ("*** killed server", "(crashed)", "both answers are the same, byte for byte"):
            self.assertIn(words, done.stderr)

    def test_what_the_main_job_cannot_do_is_told_in_one_line(self):
        for model, servers, code, words in (("no-such.gguf", "3", 1, "no-such.gguf"), (MODEL, "three", 2, "SERVERS=three"), (MODEL, "0", 2, "SERVERS=0"),
                                            (MODEL, "31", 2, "SERVERS=31")):
            done = subprocess.run([str(ROOT / "tools" / "run.sh"), model, servers, "x"], capture_output=True, text=True, timeout=3 * DEADLINE, check=False,
                                  env={**os.environ, "COROLLA_BIN": str(BIN)})
            self.assertEqual((done.returncode, done.stdout, done.stderr.count("\n")), (code, "", 1), done.stderr)
            self.assertIn(words, done.stderr)


if __name__ == "__main__":
    unittest.main()
