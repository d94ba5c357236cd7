"""The same work in PyTorch, for bench.py: run by a Python that has PyTorch, which need not be the lab's.

    python lab/measure/torch_peer.py CHECKPOINT THREADS

Reads a line of JSON for each run, {"mode": "all" | "last" | "cache", "prompt": [...], "n": n}, and answers with one:
{"tokens": [...], "stamps": [...]}, the seconds from the start at which each token was there. Modes: without a cache,
computing all logits (as gpt.c does) or only the last ones; or with a KV cache. Written as one would in eager PyTorch.
"""
# pyright: reportMissingImports=false

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

import numpy as np
import torch

from lab.measure.contender import serve
from lab.serial import sample_mult, softmax_forward
from lab.torch_gpt2 import GPT2, Cache, flash

torch.set_num_threads(int(sys.argv[2]))
model = GPT2(sys.argv[1])
model.attention = flash


def sample(logits):
    """The next token: the softmax and the sampler of lab.serial, since another order of the sum gives other tokens."""
    row, V = logits.numpy(), model.config.vocab_size
    probs = np.empty_like(row)
    softmax_forward(probs[None, None], row[None, None], 1, 1, V, V)
    return sample_mult(probs, V)


def generate(mode, prompt, n):
    """Yield the tokens."""
    tokens, cache, past = torch.tensor(prompt), Cache(model, n), 0
    for t in range(len(prompt), n):
        if mode == "cache":
            logits, past = cache(tokens[None, past:], torch.arange(past, t)), t
        else:
            logits = model(tokens[None], last=mode == "last")[0, -1]
        token = sample(logits)
        tokens = torch.cat([tokens, torch.tensor([token])])
        yield token


with torch.inference_mode():
    serve(generate, torch=torch.__version__, threads=torch.get_num_threads())
