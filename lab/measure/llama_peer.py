"""The same weights in llama.cpp, for bench.py: run by a Python that has llama-cpp-python and gguf.

    python lab/measure/llama_peer.py CHECKPOINT THREADS

Speaks as torch_peer.py does. The weights go into a temporary GGUF file as they are, in float32, and keys and values are
kept so; only GELU is llama.cpp's own, a table of 16-bit numbers, so that now and then a token comes out otherwise.
"""
# pyright: reportMissingImports=false

import sys
import tempfile
from functools import partial
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import gguf
import llama_cpp

from lab.measure.contender import serve
from lab.serial import gpt2_build_from_checkpoint, sample_mult, softmax_forward

THREADS = int(sys.argv[2])
OURS_TO_GGUF = {  # tensors of a layer: ours without "w" and "b" -> GGUF's without ".weight" and ".bias"
    "ln1": "attn_norm", "qkv": "attn_qkv", "attproj": "attn_output", "ln2": "ffn_norm", "fc": "ffn_up",
    "fcproj": "ffn_down",
}  # fmt: skip


def write_gguf(model, path):
    """Write the model as llama.cpp's "gpt2", without a tokenizer."""
    config, p = model.config, model.params
    V = config.vocab_size
    writer = gguf.GGUFWriter(path, "gpt2")
    writer.add_context_length(config.max_seq_len)
    writer.add_embedding_length(config.channels)
    writer.add_block_count(config.num_layers)
    writer.add_feed_forward_length(4 * config.channels)
    writer.add_head_count(config.num_heads)
    writer.add_layer_norm_eps(1e-5)
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_tokenizer_model("none")
    writer.add_vocab_size(V)
    tensors = {
        "token_embd.weight": p.wte[:V], "position_embd.weight": p.wpe, "output_norm.weight": p.lnfw,
        "output_norm.bias": p.lnfb,
    }  # fmt: skip
    for l in range(config.num_layers):
        for ours, theirs in OURS_TO_GGUF.items():
            tensors[f"blk.{l}.{theirs}.weight"] = getattr(p, f"{ours}w")[l]
            tensors[f"blk.{l}.{theirs}.bias"] = getattr(p, f"{ours}b")[l]
    for name, tensor in tensors.items():
        writer.add_tensor(name, np.ascontiguousarray(tensor))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def generate(llama, V, prompt, n, mode="cache"):
    """Yield the tokens, with keys and values kept: it has no other mode."""
    llama.reset()
    llama.eval(prompt)
    probs = np.empty((1, 1, V), dtype=np.float32)
    for t in range(len(prompt), n):
        logits = np.ctypeslib.as_array(llama_cpp.llama_get_logits_ith(llama.ctx, -1), shape=(V,))
        softmax_forward(probs, logits[None, None], 1, 1, V, V)
        token = sample_mult(probs[0, 0], V)
        yield token
        if t + 1 < n:
            llama.eval([token])


def main():
    """Load, say so, answer each line."""
    model = gpt2_build_from_checkpoint(sys.argv[1])
    V, f32 = model.config.vocab_size, int(gguf.GGMLQuantizationType.F32)
    with tempfile.TemporaryDirectory(prefix="lab-llama-") as folder:
        path = str(Path(folder) / "model.gguf")
        write_gguf(model, path)
        threads = {"n_threads": THREADS, "n_threads_batch": THREADS}
        llama = llama_cpp.Llama(
            path, n_ctx=model.config.max_seq_len, type_k=f32, type_v=f32, use_mmap=False, verbose=False, **threads
        )
    list(generate(llama, V, [0], 4))  # threads and pages as they will be
    serve(partial(generate, llama, V), llama=llama_cpp.__version__, threads=THREADS)


main()
