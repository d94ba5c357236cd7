"""How far a token is from being another one: prompts that decide something about a program keep the margin.

The token is the first at which the running sum of the probabilities exceeds the coin, 0.5. Programs that add up the
same products in another order have logits that differ by about 1e-6, and running sums that differ as much. So no token
of a right program differs where the running sum stays MARGIN away from the coin, before it exceeds it and after.
"""

from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import replace
from types import SimpleNamespace

import numpy as np

from lab.serial import GPT2, sample_mult, softmax_forward

MARGIN = 2e-5


def margin(probabilities: np.ndarray) -> float:
    """The distance of the running sum from the coin just before the sampled token and just after; 0 if it gets nowhere.

    probabilities (V), float32, summed as lab.serial.sample_mult sums them.
    """
    cdf = np.cumsum(probabilities, dtype=np.float32)
    token = sample_mult(probabilities, len(probabilities))
    before = float(cdf[token - 1]) if token else 0.0
    found = min(0.5 - before, float(cdf[token]) - 0.5)
    return found if found > 0 else 0.0  # also for NaN


def in_double(model: GPT2) -> GPT2:
    """The same model, for logits_of: in float64."""
    double = GPT2(model.config, model.params_memory.astype(np.float64))
    double.acts_memory = np.zeros(4 * 1024 * 1024, dtype=np.float64)
    return double


def logits_of(double: GPT2, tokens: Sequence[int]) -> np.ndarray:
    """The logits of what follows `tokens`, by a model in_double -> (V), float64.

    Of a pass over a small model with GPT-2's vocabulary nearly all is logits, and only those of the last position are
    asked for. So the pass, the trainer's, which is quick at many positions, is made with a vocabulary of these tokens
    alone.
    """
    from lab.train.forward import gpt2_forward  # here: the sandbox that asks for a margin() need not have it

    V, T = double.config.vocab_size, len(tokens)
    few = copy(double)
    few.config = replace(double.config, vocab_size=T, padded_vocab_size=T)
    few.params = SimpleNamespace(**vars(double.params) | {"wte": double.params.wte[list(tokens)]})
    few.seq_len = 0  # its activations are of other shapes
    gpt2_forward(few, np.arange(T).reshape(1, T), None, 1, T)
    return np.dot(double.params.wte, few.acts.lnf[0, T - 1])[:V]


def probabilities_of(double: GPT2, tokens: Sequence[int]) -> np.ndarray:
    """What follows `tokens`: the logits of a model in_double, cast to float32, through lab.serial's softmax -> (V)."""
    logits = logits_of(double, tokens).astype(np.float32)
    probabilities, V = np.empty_like(logits), len(logits)
    softmax_forward(probabilities.reshape(1, 1, V), logits.reshape(1, 1, V), 1, 1, V, V)
    return probabilities


def other_sums(logits: np.ndarray) -> dict[str, int]:
    """The token that wins if the softmax adds its exponentials up otherwise than gpt.c, by the way of adding.

    logits (V), float32, of one position.
    """
    exponentials = np.exp(logits - logits.max())
    sums = {"in pairs": exponentials.sum(), "in float64": exponentials.sum(dtype=np.float64)}
    for k in (2, 3, 4, 7):
        parts = (np.cumsum(part, dtype=np.float32)[-1] for part in np.array_split(exponentials, k))
        sums[f"in {k} parts"] = sum(parts, start=np.float32(0))
    return {how: sample_mult(exponentials / np.float32(total), len(logits)) for how, total in sums.items()}


def safe_tokens(
    model: GPT2,
    prompt: Sequence[int],
    n: int,
    following: Callable[[GPT2, Sequence[int]], np.ndarray] = probabilities_of,
) -> tuple[int, ...]:
    """The tokens that follow `prompt` until there are n; () if one of them comes without the margin.

    following: what gives the probabilities; by default `model` is one in_double.
    """
    tokens = list(prompt)
    while len(tokens) < n:
        probabilities = following(model, tokens)
        if margin(probabilities) < MARGIN:
            return ()
        tokens.append(sample_mult(probabilities, len(probabilities)))
    return tuple(tokens[len(prompt) :])
