"""Text from a model in training, by gpt.c's own way of sampling."""

from collections.abc import Sequence

import numpy as np

from lab.serial import GPT2, GPT2_EOT, sample_mult, softmax_forward
from lab.train.forward import gpt2_forward
from lab.train.split import WorkersLike


def sample(
    model: GPT2,
    prompt: Sequence[int],
    n: int,
    workers: WorkersLike | None = None,
    random: np.random.Generator | None = None,
) -> list[int]:
    """The tokens that follow `prompt` until both are n together, made like lab.serial.generate's.

    The coin is 0.5 each time, as in gpt.c, or thrown with `random`. A model without GPT-2's vocabulary takes tokens
    like any other.
    """
    V, tokens = model.config.vocab_size, np.zeros((1, n), dtype=np.int32)
    tokens[0, : len(prompt)] = prompt
    for t in range(len(prompt), n):
        gpt2_forward(model, tokens[:, :t], None, 1, t, workers)
        last = slice(t - 1, t)
        probs = model.acts.probs[:, last]
        softmax_forward(probs, model.acts.logits[:, last], 1, 1, V, model.config.padded_vocab_size)
        coin = 0.5 if random is None else float(random.random())
        tokens[0, t] = sample_mult(probs[0, 0], V, coin)
    return [int(token) for token in tokens[0, len(prompt) :]]


def sample_text(
    model: GPT2, n: int, workers: WorkersLike | None = None, random: np.random.Generator | None = None
) -> str:
    """n tokens from the beginning of a document, as text; as numbers, for a model without GPT-2's vocabulary."""
    n = min(n, model.config.max_seq_len)
    if model.config.vocab_size <= GPT2_EOT:
        return " ".join(str(token) for token in sample(model, [0], n, workers, random))
    from lab.tokenizer import decode

    return decode(sample(model, [GPT2_EOT], n, workers, random)).replace("<|endoftext|>", "")
