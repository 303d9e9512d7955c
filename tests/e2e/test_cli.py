"""What the command line promises: exit codes, one line per error, JSON, streams, signals, chat from a script."""

import json
import os
import pty
import random
import select
import signal
import subprocess
import time
import unittest

from support import COROLLA, DEADLINE, SLOWER, Case, Server, joins


class Run(Case):
    def test_json_has_every_field_of_the_contract(self):
        model = self.tiny_model()
        result = self.run_json(model, "the thing", *joins(self.serve(model, "0:2", "2:5")), n=20)
        self.assertEqual(set(result), {"prompt_tokens", "tokens", "text", "stop", "hops", "first_token_ms", "prefill_tokens_per_s",
                                       "decode_tokens_per_s", "recoveries", "exact"})
        self.assertTrue(all(isinstance(t, int) for t in result["prompt_tokens"] + result["tokens"]))
        self.assertEqual(len(result["tokens"]), 20)
        self.assertEqual((result["stop"], result["recoveries"], result["exact"]), ("length", [], True))
        self.assertEqual([(h["begin"], h["end"]) for h in result["hops"]], [(0, 2), (2, 5)])
        self.assertTrue(all(len(h["node"]) >= 64 for h in result["hops"]))
        self.assertGreater(result["first_token_ms"], 0)
        self.assertGreater(result["decode_tokens_per_s"], 0)

    def test_prompt_from_flag_file_and_stdin_are_the_same(self):
        model = self.tiny_model()
        prompt = "the quick ünïcode thing"
        (self.folder / "prompt").write_text(prompt)
        common = ("run", model, "--local", "--temp", 0, "-n", 16)
        outputs = {self.corolla(*common, "-p", prompt).stdout, self.corolla(*common, "-f", self.folder / "prompt").stdout,
                   self.corolla(*common, input=prompt).stdout}
        self.assertEqual(len(outputs), 1)
        self.assertNotEqual(outputs.pop(), "")

    def test_output_is_the_text_of_json_and_valid_utf8(self):
        model = self.tiny_model()  # random bytes: most are no UTF-8
        for prompt in ("a", "the", "xyz"):
            plain = subprocess.run([COROLLA, "run", str(model), "--no-lan", "--local", "--temp", "0", "-n", "48", "--threads", "1", "-p", prompt],
                                   capture_output=True, env=self.environment(), timeout=DEADLINE)
            self.assertEqual(plain.stdout.decode("utf-8"), self.run_json(model, prompt, "--local", n=48)["text"])

    def test_a_stop_text_ends_the_answer_and_is_not_part_of_it(self):
        model = self.tiny_model()
        text = self.run_json(model, "the thing", "--local")["text"]
        stop = text[len(text) // 2:len(text) // 2 + 2]
        result = self.run_json(model, "the thing", "--local", "--stop", stop)
        self.assertEqual((result["stop"], result["text"]), ("stop", text[:text.index(stop)]))

    def test_the_last_of_a_repeated_flag_wins_and_lists_keep_all(self):
        model = self.tiny_model()
        text = self.run_json(model, "the thing", "--local")["text"]
        self.assertEqual(len(self.run_json(model, "the thing", "--local", "-n", 3, "-n", 5)["tokens"]), 5)
        result = self.run_json(model, "the thing", "--local", "--stop", text[20:22], "--stop", text[10:12])
        self.assertEqual((result["stop"], result["text"]), ("stop", text[:min(text.index(text[20:22]), text.index(text[10:12]))]))

    def test_join_codes_come_from_the_environment_too(self):
        model = self.tiny_model()
        codes = [server.code for server in self.serve(model, "0:2", "2:5")]
        environment = {**self.environment("client"), "COROLLA_JOIN": ", ".join(codes)}
        for arguments, hops in (((), 2), (("--local",), 1)):  # --local goes before the environment
            done = subprocess.run([COROLLA, "run", str(model), "--no-lan", "-p", "x", "-n", "4", "--json", "--threads", "1", *arguments], capture_output=True,
                                  text=True, env=environment, timeout=DEADLINE)
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertEqual(len(json.loads(done.stdout)["hops"]), hops)

    def test_a_grammar_is_obeyed_and_a_bad_one_is_told_in_one_line(self):
        model = self.tiny_model()
        (self.folder / "good").write_text('root ::= [a-c]{1,8} "!"')
        (self.folder / "bad").write_text('root ::= [a-c]\nother ::= nobody\n' + "# and much more\n" * 100)
        for temp in (0, 1):
            done = self.corolla("run", model, "--local", "-p", "the", "-n", 64, "--temp", temp, "--grammar", self.folder / "good")
            self.assertEqual(done.returncode, 0, done.stderr)
            self.assertRegex(done.stdout, r"\A[abc]{1,8}!\Z")
        self.assert_fails(self.corolla("run", model, "--local", "-p", "the", "--grammar", self.folder / "bad"), "line 2", "nobody")

    @unittest.skipUnless(os.path.exists("/dev/full"), "there is no /dev/full here")
    def test_output_that_cannot_be_written_is_a_failure(self):
        model = self.tiny_model()
        for arguments in (("version",), ("run", str(model), "--local", "-p", "x", "-n", "4"), ("run", str(model), "--local", "-p", "x", "-n", "4", "--json")):
            with open("/dev/full", "wb") as full:
                done = subprocess.run([COROLLA, *arguments], stdout=full, stderr=subprocess.PIPE, text=True, env=self.environment(), timeout=DEADLINE)
            self.assertEqual((done.returncode, done.stderr.count("corolla: ")), (1, 1), done.stderr)

    def test_the_same_seed_draws_the_same_and_another_draws_other_tokens(self):
        model = self.tiny_model()
        draws = [self.corolla("run", model, "--local", "-p", "the", "-n", 24, "--temp", 1.5, "--seed", seed, "--json").stdout for seed in (5, 5, 6)]
        tokens = [json.loads(d)["tokens"] for d in draws]
        self.assertEqual(tokens[0], tokens[1])
        self.assertNotEqual(tokens[0], tokens[2])

    def test_more_threads_than_cores_are_warned_of(self):
        model, cores = self.tiny_model(n_blocks=1, n_embd=64, n_ff=64, head_dim=16), os.sysconf("SC_NPROCESSORS_ONLN")
        for threads, warnings in ((cores, 0), (cores + 1, 1)):
            done = self.corolla("run", model, "--local", "-p", "x", "-n", 1, "--threads", threads)
            self.assertEqual((done.returncode, done.stderr.count(f"threads={threads} cores={cores}")), (0, warnings), done.stderr)

    def test_interrupt_ends_the_answer_and_keeps_what_was_generated(self):
        model = self.tiny_model(n_ctx=65536, n_blocks=12)
        servers = self.serve(model, "0:12", flags=("--cache-tokens", "65536"))
        process = subprocess.Popen([COROLLA, "run", str(model), "--no-lan", "-p", "the thing", "-n", "60000", "--temp", "0", *joins(servers)],
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=self.environment("client"))
        first = process.stdout.read(10)  # it streams
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=DEADLINE)
        self.assertEqual((process.returncode, len(first)), (0, 10), errors)
        self.assertLess(len(out), 1 << 20)
        self.wait_until("the server freed the session", lambda: self.corolla("run", model, "-p", "again", "-n", 32, *joins(servers)).returncode == 0)

    def test_interrupted_json_says_so(self):
        model = self.tiny_model(n_ctx=65536, n_blocks=12)
        process = subprocess.Popen([COROLLA, "run", str(model), "--no-lan", "--local", "-p", "the thing", "-n", "60000", "--temp", "0", "--json", "--trace",
                                    "--threads", "1"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=self.environment("client"))
        process.stderr.readline()  # the route: it computes from here on
        process.send_signal(signal.SIGINT)
        out, errors = process.communicate(timeout=DEADLINE)
        self.assertEqual(process.returncode, 0, errors)
        self.assertEqual(json.loads(out)["stop"], "interrupted")

    def test_models_are_listed_and_others_refused_by_name(self):
        families = json.loads(self.corolla("models", "--json").stdout)
        table = self.corolla("models").stdout.splitlines()
        self.assertEqual([f["architecture"] for f in families], [line.split()[0] for line in table[1:]])
        for family in families:
            model = self.tiny_model(arch=family["architecture"])
            done = self.corolla("run", model, "--local", "-p", "the thing", "-n", 4, "--temp", 0, "--threads", 1)
            self.assertEqual((done.returncode, bool(done.stdout)), (0, True), family["architecture"] + done.stderr)
        foreign = bytearray(self.tiny_model(arch="llama").read_bytes())
        name = foreign.index(b"llama", foreign.index(b"general.architecture"))
        foreign[name:name + 5] = b"mamba"
        path = self.folder / "foreign.gguf"
        path.write_bytes(foreign)
        self.assert_fails(self.corolla("inspect", path), "mamba")

    def test_every_command_has_help_and_wrong_usage_exits_2(self):
        for command in ("serve", "run", "chat", "bench", "inspect", "models", "key"):
            done = self.corolla(command, "--help")
            self.assertEqual((done.returncode, done.stderr), (0, ""))
            self.assertIn("usage: corolla " + command, done.stdout)
        model = self.tiny_model()
        for wrong in (("nonsense",), ("run",), ("run", model, "--no-such-flag"), ("run", model, "--local", "-n", "-3"),
                      ("run", model, "--local", "--temp", "hot"), ("serve", model, "--blocks", "3:2"), ("serve", model, "--blocks", "0:6"),
                      ("run", model, "--local", "-p", "x", "--wire", "f8"), ("run", model, "--local", "-p", "x", "-f", "y"),
                      ("run", model, "--local", "-p", "x", "--system", "y"), ("run", model, "--local", "-p", "x", "--chat-template", "chatml"),
                      ("run", model, "--local", "--join", "x", "-p", "x"), ("run", model, "--local", "-p", "x", "--temp", "0x1"),
                      ("run", model, "--local", "-p", "x", "--temp", "nan"), ("run", model, "--local", "-p", "x", "--seed", "4294967296"),
                      ("run", model, "--local", "-p", "x", "--no-lan=yes"), ("run", model, "--local", "-p"), ("run", model, model, "--local"),
                      ("key", "lose"), ("serve", model, "--blocks", "0:1", "--num-blocks", "2"), ()):
            done = self.corolla(*wrong)
            self.assertEqual((done.returncode, done.stdout), (2, ""), wrong)
            self.assertNotEqual(done.stderr, "")


class Failures(Case):
    def test_a_gap_in_the_chain_is_named(self):
        model = self.tiny_model()
        servers = self.serve(model, "0:2", "4:5")
        self.assert_fails(self.corolla("run", model, "-p", "x", *joins(servers)), "2", "4")
        self.assert_fails(self.corolla("run", model, "-p", "x", *joins(servers[:1]), home="other"), "2", "5")

    def test_nobody_to_compute_is_told(self):
        self.assert_fails(self.corolla("run", self.tiny_model(), "-p", "x"), "no server was found", "--join")

    def test_another_model_is_told_from_a_dead_server(self):
        model, other = self.tiny_model(), self.tiny_model("other", seed=2)
        servers = self.serve(model, "0:5")
        self.assert_fails(self.corolla("run", other, "-p", "x", *joins(servers)), "model")
        self.assertEqual(servers[0].stop(), 0)
        self.assert_fails(self.corolla("run", model, "-p", "x", *joins(servers)), "127.0.0.1")

    def test_a_mistyped_join_code_is_told(self):
        model = self.tiny_model()
        code = self.serve(model, "0:5")[0].code
        for wrong in ("corolla1nonsense", "", code[:-1], code + "a", code[:20] + ("a" if code[20] != "a" else "b") + code[21:]):
            self.assert_fails(self.corolla("run", model, "-p", "x", "--join", wrong), "code")

    def test_a_full_cache_and_a_long_prompt_are_refused_and_the_server_goes_on(self):
        model = self.tiny_model()
        servers = self.serve(model, "0:5", flags=("--cache-tokens", "256"))
        self.assert_fails(self.corolla("run", model, "-p", "x", "-n", "400", *joins(servers)), "cache")
        self.assert_fails(self.corolla("run", model, "-p", "long " * 300, *joins(servers)), "512")
        self.assertEqual(len(self.run_json(model, "the", *joins(servers), n=8)["tokens"]), 8)

    def test_damaged_model_files_give_one_line(self):
        model = self.tiny_model(n_blocks=1, n_embd=64, n_ff=64, head_dim=16)
        good, bad, chance = model.read_bytes(), self.folder / "bad.gguf", random.Random(4)
        header = 16000
        cases = [good[:size] for size in (0, 3, 100, 5000, len(good) // 2, len(good) - 1)] + [b"\x7fELF" + good[4:], b"GGUF\0\0\0\3" + good[8:]]
        while len(cases) < 24:
            damaged = bytearray(good)
            for _ in range(8):
                damaged[chance.randrange(24 if len(cases) % 2 else header)] ^= 1 << chance.randrange(8)
            cases.append(bytes(damaged))
        refused = 0
        for damaged in cases:
            bad.write_bytes(damaged)
            done = self.corolla("run", bad, "--local", "-p", "x", "-n", 2)
            self.assertIn(done.returncode, (0, 1), f"a damaged file ended the program with {done.returncode}: {done.stderr}")
            if done.returncode:
                self.assert_fails(done)
                refused += 1
        self.assertGreaterEqual(refused, 18)
        self.assert_fails(self.corolla("run", self.folder / "nothing.gguf", "--local", "-p", "x"), "nothing.gguf")
        self.assert_fails(self.corolla("serve", bad), "bad.gguf") if refused else None
        self.assert_fails(self.corolla("inspect", "/etc/passwd"), "/etc/passwd")


class Serve(Case):
    def test_a_signal_ends_a_server_with_0(self):
        model = self.tiny_model()
        for number in (signal.SIGTERM, signal.SIGINT):
            server = self.serve(model, "1:3")[0]
            self.assertEqual(server.span, (1, 3))
            self.assertEqual(server.stop(number), 0, server.log())

    def test_a_signal_while_a_session_runs_ends_the_server_and_tells_the_client(self):
        model = self.tiny_model(n_ctx=65536)
        servers = self.serve(model, "0:2", "2:5", flags=("--cache-tokens", "65536"))
        client = subprocess.Popen([COROLLA, "run", str(model), "--no-lan", "-p", "the thing", "-n", "60000", "--temp", "0", "--wait", "1",
                                   *joins(servers)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=self.environment("client"))
        client.stdout.read(10)
        self.assertEqual(servers[1].stop(), 0, servers[1].log())  # it waits for a while, and nobody takes its place
        self.assertIn("leaving: 1 session goes on elsewhere", servers[1].log())
        _, errors = client.communicate(timeout=DEADLINE)
        self.assertEqual(client.returncode, 1, errors)
        self.assertIn("waiting for a server with blocks 2:5", errors.decode())
        self.assertEqual(errors.decode().count("corolla: "), 1, errors)
        self.assertEqual(servers[0].stop(), 0, servers[0].log())

    def test_a_second_signal_ends_a_server_that_waits_for_a_session(self):
        model = self.tiny_model(n_ctx=65536)
        server = self.serve(model, "0:5", flags=("--cache-tokens", "65536"))[0]
        client = subprocess.Popen([COROLLA, "run", str(model), "--no-lan", "-p", "the thing", "-n", "60000", "--temp", "0", *joins([server])],
                                  stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=self.environment("client"))
        client.stdout.read(10)
        server.process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + DEADLINE
        while "leaving: 1 session" not in server.log():
            self.assertLess(time.monotonic(), deadline, server.log())
            time.sleep(0.01)
        self.assertEqual(server.stop(), -signal.SIGTERM)
        client.kill()
        client.communicate()

    def test_servers_of_one_home_are_told_apart(self):
        model = self.tiny_model()
        servers = self.serve(model, "0:1", "1:3", "3:5")
        result = self.run_json(model, "the thing", *joins(servers), home="home")  # the client is of that home too
        nodes = [hop["node"] for hop in result["hops"]]
        self.assertEqual(len(set(nodes)), 3)
        self.assertEqual(len({node.partition("/")[0] for node in nodes}), 1)
        key = self.corolla("key", "show", home="home").stdout.strip()
        self.assertEqual(key, nodes[0].partition("/")[0])
        self.assertEqual(os.stat(self.folder / "home" / "identity.pem").st_mode & 0o777, 0o600)

    def test_an_idle_server_with_an_open_link_uses_no_cpu(self):
        if SLOWER > 1:
            self.skipTest("sanitizers have a cost of their own")
        model = self.tiny_model(n_ctx=2048)
        servers = self.serve(model, "0:5")
        chat = subprocess.Popen([COROLLA, "chat", str(model), "--no-lan", "-n", "4", *joins(servers)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                stderr=subprocess.DEVNULL, env=self.environment("client"))
        self.addCleanup(chat.wait)
        self.addCleanup(chat.kill)
        chat.stdin.write(b"hello\n")
        chat.stdin.flush()
        chat.stdout.readline()  # answered: the link is up and idle from here on
        used = []
        while len(used) < 3 and (not used or used[-1] > 0.04):  # a busy machine makes all work longer
            begin = servers[0].cpu_seconds()
            with self.assertRaises(subprocess.TimeoutExpired):
                chat.wait(4)  # the measure is over time: nothing else to wait for
            used.append(servers[0].cpu_seconds() - begin)
        self.assertLessEqual(used[-1], 0.04, used)
        chat.stdin.close()
        self.assertEqual(chat.wait(DEADLINE), 0)
        chat.stdout.close()

    def test_an_unwritable_home_and_a_taken_port_are_told(self):
        model = self.tiny_model()
        host, port = self.serve(model, "0:5")[0].address()
        self.assert_fails(self.corolla("serve", model, "--listen", f"{host}:{port}"), str(port))
        (self.folder / "file").write_text("")
        self.assert_fails(self.corolla("serve", model, "--listen", "127.0.0.1:0", home="file/home"), "file")

    def test_a_prefill_through_a_server_with_an_upload_limit_gives_the_same_tokens(self):
        model = self.tiny_model(n_ctx=1024)
        prompt = "the quick thing and another one " * 20
        local = self.run_json(model, prompt, "--local", n=16)
        limited = Server(self, model, "--blocks", "0:2", "--upload-limit", "200K").wait_ready()
        result = self.run_json(model, prompt, *joins([limited, *self.serve(model, "2:5")]), n=16)
        self.assertEqual(result["tokens"], local["tokens"])
        size = len(local["prompt_tokens"]) * 256 * 4  # the hidden states between the two servers
        self.assertGreater(result["first_token_ms"], 800 * (size - 100 * 1024) / (200 * 1024))  # a part goes at once
        self.assertEqual(limited.stop(), 0, limited.log())

    def test_an_upload_limit_that_is_none_is_refused(self):
        for rate in ("63K", "2T", "0", "fast"):
            self.assert_fails(self.corolla("serve", "model.gguf", "--upload-limit", rate), "--upload-limit", code=2)


class Config(Case):
    def write(self, text):
        path = self.folder / "serve.conf"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    def start(self, text):
        """A server that knows its model and its options from the file."""
        return Server(self, f"--config={self.write(text)}").wait_ready()

    def test_a_file_holds_the_options_of_a_server(self):
        model = self.tiny_model()
        others = self.serve(model, "2:3", "3:5")
        server = self.start(f"# my server\n\nmodel {model}\n blocks = 0:2 # the first\r\npublic-name=Rose  the #1\nfast\n"
                            f"join {others[0].code}\njoin {others[1].code}\n\tcache-tokens\t128")
        self.assertEqual(server.span, (0, 2))
        rows, deadline = [], time.monotonic() + DEADLINE
        while len(rows) < 3 and time.monotonic() < deadline:
            rows = json.loads(self.corolla("swarm", "--json", *joins([server])).stdout)["servers"]
        row = next(row for row in rows if row["begin"] == 0)
        self.assertEqual(len(rows), 3)  # both joins were followed
        self.assertEqual(row["name"], "Rose  the")
        self.assertLessEqual(row["cache_tokens_left"], 128)
        self.assertEqual(server.stop(), 0, server.log())

    def test_the_command_line_wins_wherever_the_file_is_named(self):
        model = self.tiny_model()
        text = f"model = nowhere.gguf\nmodel = {model}\nblocks 0:1\nblocks 1:2\nthreads 1\n"
        self.assertEqual(self.start(text).span, (1, 2))
        path = self.write(text.replace(str(model), "nowhere.gguf"))
        self.assertEqual(Server(self, model, "--blocks", "2:4", "--config", "none", f"--config={path}").wait_ready().span, (2, 4))

    def test_an_error_names_the_file_and_the_line(self):
        for text, line, *words in (("\nblock 0:1\n", 2, "--block"), ("# one\n#\nblocks 2\n", 3, "--blocks", "A:B"), ("fast yes", 1, "no value"),
                                   ("threads", 1, "--threads", "value"), ("model\n", 1, "model", "value"), ("--fast", 1, "dashes"),
                                   ("\n= 3", 2, "name"), ("config other", 1, "--config"), ("help", 1, "--help"), ("fast\nlisten \0", 2, "text"),
                                   ("listen \x1b[0m", 1, "text"), ("announce a:1\n" * 65, 65, "64")):
            done = self.corolla("serve", "--config", self.write(text), "m.gguf")
            self.assert_fails(done, f"serve.conf:{line}: ", *words, code=2)

    def test_a_file_that_cannot_be_one_is_refused(self):
        self.assert_fails(self.corolla("serve", "--config", "no/such"), "no/such")
        self.assert_fails(self.corolla("serve", "--config", self.folder), str(self.folder))
        self.assert_fails(self.corolla("serve", "--config", self.write("# long\n" * 10000)), "65536", code=2)
        self.assert_fails(self.corolla("serve", "--config", "/dev/zero"), "65536", code=2)
        self.assert_fails(self.corolla("serve", "--config", self.write("fast")), "MODEL", code=2)
        self.assert_fails(self.corolla("serve", "--config"), "--config", code=2)
        self.assert_fails(self.corolla("run", "m.gguf", "--config", self.write("fast")), "--config", code=2)


class Chat(Case):
    def test_a_script_of_lines_is_answered_turn_by_turn(self):
        model = self.tiny_model(arch="qwen2", n_ctx=2048)
        flags = joins(self.serve(model, "0:2", "2:5"))
        script = 'hello\n"""\ntwo\nlines\n"""\ngo on\\\nhere\n/clear\nhello\n/exit\nnever read\n'
        remote = self.corolla("chat", model, "-n", 8, "--temp", 0, *flags, input=script)
        local = self.corolla("chat", model, "-n", 8, "--temp", 0, "--local", input=script)
        self.assertEqual(remote.returncode, 0, remote.stderr)
        self.assertEqual(remote.stdout, local.stdout)
        answer = self.corolla("chat", model, "-n", 8, "--temp", 0, *flags, input="hello\n").stdout
        self.assertTrue(remote.stdout.startswith(answer))
        self.assertTrue(remote.stdout.endswith(answer))  # as if nothing had been said before /clear

    def test_interrupt_stops_the_answer_and_not_the_chat(self):
        model = self.tiny_model(arch="qwen2", n_ctx=65536, n_blocks=12)
        chat = subprocess.Popen([COROLLA, "chat", str(model), "--no-lan", "--local", "--threads", "1", "--temp", "0", "-n", "60000", "--context", "65000"],
                                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=self.environment())
        chat.stdin.write(b"hello\n")
        chat.stdin.flush()
        chat.stdout.read(10)
        chat.send_signal(signal.SIGINT)
        chat.stdin.write(b"/clear\nagain\n")
        chat.stdin.flush()
        chat.stdout.readline()  # the end of the first answer
        chat.stdout.read(10)  # the second one
        chat.send_signal(signal.SIGINT)
        _, errors = chat.communicate(b"/exit\n", timeout=DEADLINE)
        self.assertEqual(chat.returncode, 0, errors)

    def test_on_a_terminal_ctrl_c_stops_the_answer_and_ctrl_d_leaves(self):
        model = self.tiny_model(n_ctx=65536)
        process, terminal = pty.fork()
        if process == 0:
            os.execve(COROLLA, [COROLLA, "chat", str(model), "--no-lan", "--local", "--threads", "1", "--temp", "0", "-n", "60000", "--context", "65536"],
                      self.environment())
        self.addCleanup(os.close, terminal)
        seen = b""

        def wait_for(text):
            nonlocal seen
            deadline = time.monotonic() + DEADLINE
            while text not in seen:
                if not select.select([terminal], [], [], max(0, deadline - time.monotonic()))[0]:
                    os.kill(process, signal.SIGKILL)
                    os.waitpid(process, 0)
                    self.fail(f"no {text} came, but {seen}")
                seen += os.read(terminal, 4096)
            seen = seen[seen.index(text) + len(text):]

        wait_for(b"> ")
        os.write(terminal, b"half a line\x03")
        wait_for(b"leaves)")  # a hint
        wait_for(b"> ")
        os.write(terminal, b"\xff\n")
        wait_for(b"not UTF-8")  # and the chat goes on
        wait_for(b"> ")
        os.write(terminal, b"hello\n")
        wait_for(b"hello\r\n")  # the echo
        while not seen:
            seen += os.read(terminal, 1)  # the answer has begun
        os.write(terminal, b"\x03")
        wait_for(b"\r\n> ")
        os.write(terminal, b"\x04")
        try:
            while os.read(terminal, 4096):
                pass
        except OSError:
            pass  # how Linux says that the program closed the terminal
        self.assertEqual(os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]), 0)

    def test_the_system_message_changes_the_answer(self):
        model = self.tiny_model(arch="qwen2")
        answers = {self.corolla("chat", model, "--local", "-n", 12, "--temp", 0, *system, input="hello\n").stdout
                   for system in ((), ("--system", "be brief"), ("--system", "be long"))}
        self.assertEqual(len(answers), 3)

    def test_a_full_context_drops_old_turns_or_stops(self):
        model = self.tiny_model(arch="qwen2")
        script = "tell me something about the thing\n" * 12
        flags = ("--local", "-n", 16, "--temp", 0, "--context", 256)
        dropped = self.corolla("chat", model, *flags, "--context-policy", "drop", input=script)
        self.assertEqual(dropped.returncode, 0, dropped.stderr)
        self.assertIn("dropped", dropped.stderr)
        stopped = self.corolla("chat", model, *flags, "--context-policy", "stop", input=script)
        self.assertEqual(stopped.returncode, 1)
        self.assertIn("full", stopped.stderr)


class Bench(Case):
    def test_json_has_every_field_of_the_contract(self):
        model = self.tiny_model()
        for way in (("--local",), joins(self.serve(model, "0:2", "2:5"))):
            done = self.corolla("bench", model, "-p", 32, "-n", 16, "--json", *way)
            self.assertEqual(done.returncode, 0, done.stderr)
            result = json.loads(done.stdout)
            for field in ("prefill_tokens_per_s", "decode_tokens_per_s", "decode_p50_ms", "decode_p99_ms", "users", "threads"):
                self.assertGreater(result[field], 0, field)


if __name__ == "__main__":
    unittest.main()
