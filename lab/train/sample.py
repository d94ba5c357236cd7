"""Text from a model in training, by gpt.c's own way of sampling."""

from collections.abc import Sequence

import numpy as np

from lab.serial import GPT2, GPT2_EOT, sample_mult, softmax_forward
from lab.train.forward import gpt2_forward
from lab.train.split import WorkersLike


def probabilities_of(model: GPT2, tokens: Sequence[int], workers: WorkersLike | None = None) -> np.ndarray:
    """What follows `tokens`: the trainer's forward pass, quick at many positions, and gpt.c's softmax -> (V)."""
    V, T = model.config.vocab_size, len(tokens)
    gpt2_forward(model, np.array([tokens], dtype=np.int32), None, 1, T, workers)
    probs = model.acts.probs[:, T - 1 :]
    softmax_forward(probs, model.acts.logits[:, T - 1 :], 1, 1, V, model.config.padded_vocab_size)
    return probs[0, 0, :V]


def sample(model: GPT2, prompt: Sequence[int], n: int, workers: WorkersLike | None = None) -> list[int]:
    """The tokens that follow `prompt` until both are n together, made like lab.serial.generate's.

    A model without GPT-2's vocabulary takes tokens like any other.
    """
    tokens = list(prompt)
    while len(tokens) < n:
        tokens.append(sample_mult(probabilities_of(model, tokens, workers), model.config.vocab_size))
    return tokens[len(prompt) :]


def sample_text(model: GPT2, n: int, workers: WorkersLike | None = None) -> str:
    """n tokens from the beginning of a document, as text; as numbers, for a model without GPT-2's vocabulary."""
    n = min(n, model.config.max_seq_len)
    if model.config.vocab_size <= GPT2_EOT:
        return " ".join(str(token) for token in sample(model, [0], n, workers))
    from lab.tokenizer import decode

    return decode(sample(model, [GPT2_EOT], n, workers)).replace("<|endoftext|>", "")
