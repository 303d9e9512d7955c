"""What bench/petals.py runs with the Python of an environment that has Petals, never by hand.

    checkpoint FILE FOLDER     a GGUF file of the llama family as a transformers checkpoint in F32
    client FOLDER PEER         reads "prefill N" and "decode N" and answers each with tokens per second, through the swarm of that peer
"""

import json
import sys
import time

sys.path.pop(0)  # this folder has a gguf and a petals of its own


def checkpoint(file, folder):
    import gguf
    import torch
    import transformers

    reader = gguf.GGUFReader(file)

    def field(name):
        f = reader.fields[f"llama.{name}"]
        return f.parts[f.data[0]][0].item()

    heads, kv_heads = field("attention.head_count"), field("attention.head_count_kv")
    tensors = {}
    for t in reader.tensors:
        plain = torch.from_numpy(gguf.dequantize(t.data, t.tensor_type).copy()).reshape(tuple(int(n) for n in reversed(t.shape)))
        for part, n in (("attn_q.weight", heads), ("attn_k.weight", kv_heads)):
            if t.name.endswith(part):  # GGUF has the halves of a head interleaved
                plain = plain.reshape(n, plain.shape[0] // n // 2, 2, plain.shape[1]).swapaxes(1, 2).reshape(plain.shape)
        tensors[t.name] = plain
    names = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight", "output.weight": "lm_head.weight"}
    parts = {"attn_norm": "input_layernorm", "ffn_norm": "post_attention_layernorm", "attn_q": "self_attn.q_proj", "attn_k": "self_attn.k_proj",
             "attn_v": "self_attn.v_proj", "attn_output": "self_attn.o_proj", "ffn_gate": "mlp.gate_proj", "ffn_up": "mlp.up_proj", "ffn_down": "mlp.down_proj"}
    for i in range(field("block_count")):
        names.update({f"blk.{i}.{theirs}.weight": f"model.layers.{i}.{ours}.weight" for theirs, ours in parts.items()})
    vocab, width = tensors["token_embd.weight"].shape
    config = transformers.LlamaConfig(vocab_size=vocab, hidden_size=width, intermediate_size=field("feed_forward_length"), num_hidden_layers=field("block_count"),
                                      num_attention_heads=heads, num_key_value_heads=kv_heads, rms_norm_eps=field("attention.layer_norm_rms_epsilon"),
                                      rope_theta=field("rope.freq_base"), max_position_embeddings=field("context_length"))
    state = {names[name]: t for name, t in tensors.items() if name in names}
    state.setdefault("lm_head.weight", tensors["token_embd.weight"])
    model = transformers.LlamaForCausalLM(config)
    model.load_state_dict(state, strict=False)
    model.save_pretrained(folder, max_shard_size="200MB")
    print(json.dumps({"parameters": sum(t.numel() for t in state.values())}))


def client(folder, peer):
    import torch
    import petals

    torch.set_num_threads(1)
    model = petals.AutoDistributedModelForCausalLM.from_pretrained(folder, initial_peers=[peer], dht_prefix="bench", torch_dtype=torch.float32)
    print("ready", flush=True)
    for line in sys.stdin:
        what, n = line.split()
        n = int(n)
        with torch.inference_mode(), model.inference_session(max_length=n + 8):
            if what == "prefill":
                began = time.perf_counter()
                model.generate(torch.arange(1, n + 1)[None], max_new_tokens=1, do_sample=False)
            else:
                model.generate(torch.arange(1, 3)[None], max_new_tokens=1, do_sample=False)
                began = time.perf_counter()
                model.generate(max_new_tokens=n, do_sample=False)
            print(n / (time.perf_counter() - began), flush=True)


if __name__ == "__main__":
    {"checkpoint": checkpoint, "client": client}[sys.argv[1]](*sys.argv[2:])
