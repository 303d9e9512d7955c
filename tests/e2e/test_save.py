"""A chat that was saved: resumed in a new process it goes on as if it had never been interrupted, and no file is ever lost."""

import json
import os
import signal
import subprocess
import unittest

from support import COROLLA, DEADLINE, Case, joins

QUESTIONS = ("hello", "what is the thing", "and the other one", "why", "go on then")
GREEDY = ("--temp", 0, "--seed", 1)  # so that files can be compared: a seed is saved in any case
DRAWN = ("--temp", 0.8, "--seed", 7, "--repeat-penalty", 1.3)


class Save(Case):
    def setUp(self):
        super().setUp()
        self.model = self.tiny_model(arch="qwen2", n_ctx=2048)
        self.local = ("--local", "--threads", 1)
        (self.folder / "letters").write_text("root ::= [a-z ]+")
        self.letters = (*DRAWN, "--grammar", self.folder / "letters")  # for who counts lines: no answer has a line end in it

    def path(self, name):
        return self.folder / f"{name}.json"

    def load(self, name):
        return json.loads(self.path(name).read_text())

    def chat(self, questions, *flags, where=None):
        done = self.corolla("chat", self.model, *(where or self.local), *flags, input="".join(q + "\n" for q in questions))
        self.assertEqual(done.returncode, 0, done.stderr)
        return done

    def assert_goes_on(self, flags, questions=QUESTIONS, where=None):
        """Resumed behind every turn, a chat has the text and the tokens of one process that was asked everything."""
        whole = self.chat(questions, *flags, "--save", self.path("whole"), where=where).stdout
        for k in range(len(questions)):
            part = self.path(f"part{k}")
            first = self.chat(questions[:k], *flags, "--save", part, where=where).stdout
            done = self.chat(questions[k:], "--resume", part, "--save", part, where=where)
            self.assertEqual((first + done.stdout, done.stderr.count("saved")), (whole, 0), f"resumed behind turn {k}")
            self.assertEqual(self.load(f"part{k}"), self.load("whole"))
        return self.load("whole")

    def test_a_resumed_chat_gives_the_same_next_tokens(self):
        for flags in (GREEDY, DRAWN):
            with self.subTest(flags=flags):
                self.assert_goes_on(("-n", 12, "--system", "be ünïque", *flags))
                for file in self.folder.glob("*.json"):
                    file.unlink()

    def test_it_does_so_through_servers(self):
        self.assert_goes_on(("-n", 12, *DRAWN), QUESTIONS[:3], where=joins(self.serve(self.model, "0:2", "2:5")))

    def test_it_does_so_where_old_turns_are_dropped_and_with_a_grammar_and_stops(self):
        flags = ("-n", 48, *self.letters, "--context", 256, "--stop", "zq", "--stop", "qz", "--chat-template", "chatml")
        saved = self.assert_goes_on(flags)
        self.assertLess(len(saved["messages"]), 2 * len(QUESTIONS))  # some were dropped
        self.assertEqual(saved["turns"], len(QUESTIONS))

    def test_a_chat_with_a_random_seed_keeps_it(self):
        flags = ("-n", 12, "--temp", 1.5)
        text = self.chat(QUESTIONS[:1], *flags, "--save", self.path("a")).stdout
        text += self.chat(QUESTIONS[1:], "--resume", self.path("a"), "--save", self.path("a")).stdout
        seed = self.load("a")["settings"]["--seed"]
        self.assertNotEqual(seed, 0)
        self.assertEqual(text, self.chat(QUESTIONS, *flags, "--seed", seed).stdout)
        self.assertNotEqual(text, self.chat(QUESTIONS, *flags, "--seed", seed % 1000 + 1).stdout)

    def test_turns_draw_anew(self):
        answers = self.chat(("hello", "/clear", "hello"), "-n", 12, "--temp", 1.5, "--seed", 3, "--save", self.path("a"))
        once = self.chat(("hello",), "-n", 12, "--temp", 1.5, "--seed", 3)
        self.assertTrue(answers.stdout.startswith(once.stdout))
        self.assertNotEqual(answers.stdout, 2 * once.stdout)

    def test_killed_at_any_moment_it_goes_on_behind_the_last_saved_turn(self):
        whole = self.chat(QUESTIONS, "-n", 12, *self.letters, "--save", self.path("whole")).stdout.encode()
        for k, read in enumerate((1, len(whole) // 3, whole.index(b"\n") + 1, len(whole) - 3, len(whole))):
            name = f"killed{k}"
            chat = self.start("-n", 12, *self.letters, "--save", self.path(name))
            self.say(chat, *QUESTIONS)
            self.assertEqual(chat.stdout.read(read), whole[:read])
            chat.kill()
            chat.communicate(timeout=DEADLINE)
            turns = self.load(name)["turns"]
            self.assertGreaterEqual(turns, whole[:read].count(b"\n") - 1)
            rest = self.chat(QUESTIONS[turns:], "--resume", self.path(name), "--save", self.path(name)).stdout
            self.assertTrue(whole.decode().endswith(rest))
            self.assertEqual(self.load(name), self.load("whole"))

    def start(self, *flags):
        chat = subprocess.Popen([COROLLA, "chat", str(self.model), "--no-lan", "--local", "--threads", "1", *map(str, flags)],
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=self.environment())
        self.addCleanup(chat.wait)
        self.addCleanup(chat.kill)
        return chat

    def say(self, chat, *lines):
        chat.stdin.write("".join(f"{line}\n" for line in lines).encode())
        chat.stdin.flush()

    def test_an_interrupted_answer_is_saved_and_the_chat_goes_on_from_it(self):
        self.model = self.tiny_model("long", arch="qwen2", n_ctx=65536)
        for number in (signal.SIGINT, signal.SIGTERM):
            name = f"signal{number}"
            chat = self.start("-n", 60000, "--context", 65536, *self.letters, "--save", self.path(name))
            self.say(chat, "hello")
            begin = chat.stdout.read(10)
            chat.send_signal(number)
            if number == signal.SIGINT:  # go on in this process, the state of now left in a file
                self.say(chat, f"/save {self.path('other')}", "again")
                chat.stdout.readline()  # the rest of the first answer
                second = chat.stdout.read(10)
                chat.send_signal(signal.SIGINT)
            out, errors = chat.communicate(timeout=DEADLINE)
            self.assertEqual(chat.returncode, 0, errors)
            saved = self.load(name)
            self.assertEqual((saved["turns"], len(saved["messages"])), (1, 2))
            self.assertTrue(saved["messages"][1]["content"].encode().startswith(begin))
            if number == signal.SIGINT:
                resumed = self.chat(("again",), "--resume", self.path(name), "-n", 32).stdout.encode()
                self.assertEqual(resumed[:len(second)], second)

    def test_commands_are_saved_too(self):
        self.chat(("hello", "/system be kind", "/clear", f"/save {self.path('b')}", "hello"), "-n", 4, *GREEDY, "--save", self.path("a"))
        first, second = self.load("a"), self.load("b")
        self.assertEqual([m["role"] for m in first["messages"]], ["system"])
        self.assertEqual([m["content"] for m in second["messages"][:2]], ["be kind", "hello"])
        self.assertEqual((first["turns"], second["turns"]), (1, 2))

    def test_flags_that_are_given_win_and_are_told(self):
        saved = self.path("a")
        self.chat(("hello",), "-n", 8, *DRAWN, "--system", "old", "--save", saved)
        told = self.chat(("why",), "--resume", saved, "--save", saved, "--temp", "0", "--seed", 7, "--system", "new", "--stop", "x").stderr
        for flag, times in (("--temp", 1), ("--seed", 0), ("--system", 1), ("--stop", 1), ("--top-k", 0)):
            self.assertEqual(told.count(f"({flag} "), times, told)
        after = self.load("a")
        self.assertEqual((after["settings"]["--temp"], after["settings"]["-n"], after["settings"]["--stop"]), (0, 8, ["x"]))
        self.assertEqual(after["messages"][0]["content"], "new")

    def test_no_file_is_overwritten_that_is_not_the_chat_s_own(self):
        other, chat = self.folder / "notes.txt", self.path("chat")
        other.write_text("precious")
        self.chat(("hello",), "-n", 4, "--save", chat)
        for path in (other, chat, self.folder):
            before = None if path.is_dir() else path.read_bytes()
            for flags in ((), ("--resume", chat)) if path != chat else ((),):
                done = self.corolla("chat", self.model, *self.local, *flags, "--save", path, input="hello\n")
                self.assert_fails(done, str(path), "--resume")
            done = self.corolla("chat", self.model, *self.local, "-n", 4, input=f"/save {path}\n")
            self.assert_fails(done, str(path))
            self.assertEqual(before, None if path.is_dir() else path.read_bytes())
        (self.folder / "empty").write_text("")
        self.chat(("hello",), "-n", 4, "--save", self.folder / "empty")
        self.assertEqual(self.load("chat")["messages"][0], json.loads((self.folder / "empty").read_text())["messages"][0])
        self.assert_fails(self.corolla("chat", self.model, *self.local, "--save", self.folder / "no" / "a", input="hello\n"), "cannot save")
        self.assertEqual(sorted(p.name for p in self.folder.iterdir() if p.is_file()), ["chat.json", "empty", "letters", "notes.txt", "tiny.gguf"])

    @unittest.skipUnless(os.path.exists("/dev/full"), "there is no /dev/full here")
    def test_a_file_of_another_model_or_of_nothing_is_refused(self):
        chat, bad = self.path("chat"), self.path("bad")
        self.chat(("hello",), "-n", 4, *GREEDY, "--save", chat)
        other = self.tiny_model("other", arch="qwen2", seed=2)
        before = chat.read_bytes()
        self.assert_fails(self.corolla("chat", other, *self.local, "--resume", chat, "--save", chat, input="x\n"), "another model", '"tiny"', "other")
        text = before.decode()
        for damaged, *words in (("", "line 1"), ("[]", "saved chat"), (text[:-20], "JSON"), (text.replace('"version": 1', '"version": 2'), "another version"),
                                (text.replace('"tokens": [', '"tokens": [99999999, '), "tokens"), (text.replace('"-n": 4', '"-n": 1e99'), "-n"),
                                (text.replace('"--temp": 0.0', '"--temp": "hot"'), "--temp"), ("[" * 100000, "JSON"),
                                (text.replace('"name": "tiny"', '"name": "\\u001b[2J"').replace('"id": "', '"id": "0'), "another model")):
            self.assertNotEqual(damaged, text)
            bad.write_text(damaged)
            done = self.corolla("chat", self.model, *self.local, "--resume", bad, "--save", bad, input="x\n")
            self.assert_fails(done, str(bad) if damaged else "", *words)
            self.assertNotIn("\x1b", done.stderr)
            self.assertEqual(bad.read_text(), damaged)
        os.truncate(bad, 1 << 30)
        self.assert_fails(self.corolla("chat", self.model, *self.local, "--resume", bad, input="x\n"), "bytes")
        for nothing in ("/dev/zero", "/dev/full", self.folder, self.folder / "none"):
            self.assert_fails(self.corolla("chat", self.model, *self.local, "--resume", nothing, input="x\n"), str(nothing))
        self.assertEqual(chat.read_bytes(), before)


if __name__ == "__main__":
    unittest.main()
