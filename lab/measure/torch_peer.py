"""The same work in PyTorch, for bench.py: run by a Python that has PyTorch, which need not be the lab's.

    python lab/measure/torch_peer.py CHECKPOINT THREADS

Reads a line of JSON for each run, {"mode": "all" | "last" | "cache", "prompt": [...], "n": n}, and answers with one:
{"tokens": [...], "stamps": [...]}, the seconds from the start at which each token was there. Modes: without a cache,
computing all logits (as gpt.c does) or only the last ones; or with a KV cache. Written as one would in eager PyTorch.
"""
# pyright: reportMissingImports=false

import json
import os
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
from lab.checkpoint import carve, parameter_shapes, read_checkpoint
from lab.serial import sample_mult, softmax_forward

THREADS = int(sys.argv[2])
for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[variable] = str(THREADS)

import numpy as np  # noqa: E402
import torch  # noqa: E402
from torch.nn import functional as F  # noqa: E402

torch.set_num_threads(THREADS)
config, params_memory = read_checkpoint(sys.argv[1])
L, NH, C, V = config.num_layers, config.num_heads, config.channels, config.vocab_size
hs = C // NH
p = {name: torch.from_numpy(np.array(a)) for name, a in carve(params_memory, parameter_shapes(config)).items()}


def forward(tokens, past, keep, last_only):
    """tokens (T) that come after `past` positions in the lists `keep` of keys and values -> logits (T or 1,V)."""
    T = len(tokens)
    x = p["wte"][tokens] + p["wpe"][past : past + T]
    for l in range(L):
        qkv = F.linear(F.layer_norm(x, (C,), p["ln1w"][l], p["ln1b"][l]), p["qkvw"][l], p["qkvb"][l])
        q, k, v = qkv.view(T, 3, NH, hs).permute(1, 2, 0, 3)
        if keep is not None:
            keys, values = keep[l]
            keys[:, past : past + T], values[:, past : past + T] = k, v
            k, v = keys[:, : past + T], values[:, : past + T]
        y = F.scaled_dot_product_attention(q[None], k[None], v[None], is_causal=T > 1)[0]
        x = x + F.linear(y.transpose(0, 1).reshape(T, C), p["attprojw"][l], p["attprojb"][l])
        h = F.linear(F.layer_norm(x, (C,), p["ln2w"][l], p["ln2b"][l]), p["fcw"][l], p["fcb"][l])
        x = x + F.linear(F.gelu(h, approximate="tanh"), p["fcprojw"][l], p["fcprojb"][l])
    x = x[-1:] if last_only else x
    return F.linear(F.layer_norm(x, (C,), p["lnfw"], p["lnfb"]), p["wte"])


def sample(logits):
    """The next token: the softmax and the sampler of lab.serial, since another order of the sum gives other tokens."""
    row = logits[:V].numpy()
    probs = np.empty_like(row)
    softmax_forward(probs[None, None], row[None, None], 1, 1, V, V)
    return sample_mult(probs, V)


def generate(mode, prompt, n):
    """Yield the tokens."""
    tokens = torch.tensor(prompt)
    keep = [(torch.zeros(NH, n, hs), torch.zeros(NH, n, hs)) for _ in range(L)] if mode == "cache" else None
    past = 0
    for t in range(len(prompt), n):
        logits = forward(tokens[past:], past, keep, mode != "all")
        token = sample(logits[-1])
        tokens = torch.cat([tokens, torch.tensor([token])])
        past = t if mode == "cache" else 0
        yield token


print(json.dumps({"torch": torch.__version__, "threads": torch.get_num_threads()}), flush=True)
with torch.inference_mode():
    for line in sys.stdin:
        order = json.loads(line)
        begin, tokens, stamps = time.perf_counter(), [], []
        for token in generate(order["mode"], order["prompt"], order["n"]):
            tokens.append(token)
            stamps.append(time.perf_counter() - begin)
        print(json.dumps({"tokens": tokens, "stamps": stamps}), flush=True)
