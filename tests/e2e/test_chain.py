"""Greedy tokens through chains of real servers equal those of one process, whatever the cuts and whoever else asks."""

import unittest

from support import SLOWER, Case, joins

TINY_CHAINS = (("0:5",), ("0:1", "1:5"), ("0:2", "2:3", "3:5"), ("0:1", "1:2", "2:3", "3:4", "4:5"))
REAL_CHAINS = (("0:30",), ("0:11", "11:30"), ("0:4", "4:19", "19:30"), ("0:3", "3:4", "4:15", "15:28", "28:30"))


class Chains(Case):
    def compare(self, model, chains, n):
        local = self.ask(model, n)
        self.assertEqual(len(local), 20)
        self.assertGreater(sum(map(len, local)), 15 * n)  # few may end early
        for spans in chains:
            servers = self.serve(model, *spans)
            for i, (ours, theirs) in enumerate(zip(self.ask(model, n, servers, workers=8), local)):
                self.assertEqual(ours, theirs, f"prompt {i} through {spans}")
            for server in servers:
                self.assertEqual(server.stop(), 0, server.log())

    def test_20_prompts_through_chains_of_a_tiny_qwen3_equal_local(self):
        self.compare(self.tiny_model(arch="qwen3", type="q4_1"), TINY_CHAINS, 64)

    def test_20_prompts_through_chains_of_a_tiny_llama_equal_local(self):
        self.compare(self.tiny_model(arch="llama", type="f32", rope="llama3", tied=1), TINY_CHAINS[2:3], 64)

    def test_20_prompts_through_chains_of_the_real_model_equal_local(self):
        if SLOWER > 1:  # the sanitizers' build repeats a part of it
            self.compare(self.real_model(), REAL_CHAINS[2:3], 8)
        else:
            self.compare(self.real_model(), REAL_CHAINS, 64)

    def test_overlapping_spans_are_cut_to_a_chain(self):
        model = self.tiny_model(arch="qwen2")
        local = self.run_json(model, "the thing", "--local")
        through = self.run_json(model, "the thing", *joins(self.serve(model, "0:3", "1:5")))
        self.assertEqual(through["tokens"], local["tokens"])
        self.assertEqual([h["begin"] for h in through["hops"]][0], 0)
        self.assertEqual([h["end"] for h in through["hops"]][-1], 5)

    def test_16_bit_wires_answer_and_say_that_they_are_not_exact(self):
        model = self.tiny_model()
        flags = joins(self.serve(model, "0:2", "2:5"))
        for wire in ("f16", "bf16"):
            result = self.run_json(model, "the thing", "--wire", wire, *flags)
            self.assertEqual(len(result["tokens"]), 32)
            self.assertFalse(result["exact"])
            refused = self.corolla("run", model, "-p", "x", "--wire", wire, "--exact", *flags)
            self.assert_fails(refused, "exact")


if __name__ == "__main__":
    unittest.main()
