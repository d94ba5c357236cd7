"""The parallel program: the same tokens as serial.py, on k workers. This is the one file you hand in.

As it stands it is right, and serial: look for "Stage". The workers are to be static: generate() starts k threads at its
beginning and joins them at its end. Between the two they wait for tasks, which the main thread puts into a queue
(producer and consumers). One parallel operation is one *region*: its tasks are handed out, done in any order by any
worker, and the region is over when all are done, so the next one may read what they wrote.

No two tasks of a region may write to the same place: then the arrays need no lock. The queue does.

Letters (B, T, C ...) and shapes are those of serial.py.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np

from lab import machine
from lab.serial import (
    GPT2,
    GPT2_EOT,
    encoder_forward,
    gelu_forward,
    gpt2_allocate,
    layernorm_forward,
    residual_forward,
    sample_mult,
    softmax_forward,
)

# ---------------------------------------------------------------------------------------------------------- the workers


def default_workers() -> int:
    """GPT_WORKERS, else 4 or the number of cores this process may use if that is less."""
    return int(os.environ.get("GPT_WORKERS") or min(4, machine.count()))


class Workers:
    """k static worker threads and the queue that feeds them: made at the start, joined by close(), idle in between."""

    def __init__(self, k: int) -> None:
        # Stage 2, about 8 lines: make the queue, the mutex that protects it and what the threads wait for (a Cond or
        # Semaphores of lab.threadlib), then spawn k threads that run self.work.
        self.k = k

    def run(self, fn: Callable[[Any], object], tasks: Iterable[Any]) -> None:
        """Do fn(task) for all tasks, on the workers, in any order; return when all are done. For one caller."""
        # Stage 2, about 8 lines: put the tasks into the queue, wake the workers, wait until all tasks are done. Inside
        # `with region(fn):` of lab.threadlib the timeline shows it as one region.
        for task in tasks:
            fn(task)

    # Stage 2, about 15 lines: def work(self, number), which the threads run: take a task, do it with perform(fn, task)
    # of lab.threadlib, which tells the timeline, and report it, until closed.

    def close(self) -> None:
        """End the workers and wait for them. Nothing is lost: run() has returned, so the queue is empty."""
        # Stage 2, about 4 lines: tell the workers that no more will come, wake them, join them.

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


# ----------------------------------------------------------------------------------------------- all the layers' passes


def matmul_forward(workers, out, inp, weight, bias, B, T, C, OC):
    """A fully connected layer: out (B,T,OC), inp (B,T,C), weight (OC,C), bias (OC) or None."""
    # Stage 3, about 10 lines: a task for each of several blocks of output channels, in place of one task with all. (A
    # split over B, with one sequence, is none at all.) Let a task compute all positions in one product, inp @ weight.T.

    def block(columns: slice) -> None:
        for b in range(B):
            for t in range(T):
                y = out[b, t, columns]
                np.dot(weight[columns], inp[b, t], out=y)
                if bias is not None:
                    y += bias[columns]

    workers.run(block, [slice(0, OC)])


def attention_forward(workers, out, preatt, att, inp, B, T, C, NH):
    """Attention as in serial.py: out (B,T,C); preatt and att (B,NH,T,T); inp (B,T,3C) holds query, key, value."""
    hs = C // NH
    scale = np.float32(1.0 / np.sqrt(hs))
    # Stage 4, about 15 lines: a task for each of several groups of heads. Many short numpy operations keep the
    # interpreter lock busy: let one operation work on all positions of all heads of the group.

    def heads(group: slice) -> None:
        for b in range(B):
            for t in range(T):
                for h in range(NH)[group]:
                    query = inp[b, t, h * hs : (h + 1) * hs]
                    keys = inp[b, : t + 1, C + h * hs : C + (h + 1) * hs]
                    values = inp[b, : t + 1, 2 * C + h * hs : 2 * C + (h + 1) * hs]
                    scores = preatt[b, h, t, : t + 1]
                    np.dot(keys, query, out=scores)
                    scores *= scale
                    weights = np.exp(scores - scores.max())
                    weights /= weights.sum()
                    att[b, h, t, : t + 1] = weights
                    att[b, h, t, t + 1 :] = 0.0
                    np.dot(weights, values, out=out[b, t, h * hs : (h + 1) * hs])

    workers.run(heads, [slice(0, NH)])


# Stage 5, as many lines as you like: as near to k times as fast as the machine allows. `make timeline` shows who waits
# for what. Fewer and larger regions, and nothing of weight left to the main thread.


# ------------------------------------------------------------------------------------------------------ the GPT-2 model


def gpt2_forward(workers: Workers, model: GPT2, inputs: np.ndarray, B: int, T: int) -> None:
    """The forward pass of serial.py: inputs (B,T) of token numbers -> model.acts.

    Of the logits and probabilities only those of the last position are computed: generation reads no others. Raises
    ValueError for a token outside the vocabulary or a sequence longer than the model knows positions for.
    """
    config = model.config
    V, Vp, L, NH, C = config.vocab_size, config.padded_vocab_size, config.num_layers, config.num_heads, config.channels
    if not 0 < T <= config.max_seq_len:
        raise ValueError(f"{T} tokens: this model takes 1 to {config.max_seq_len}")
    for token in inputs.reshape(-1):
        if not 0 <= token < V:
            raise ValueError(f"token {token}: the vocabulary is 0 to {V - 1}")
    gpt2_allocate(model, B, T)
    p, acts = model.params, model.acts

    encoder_forward(acts.encoded, inputs, p.wte, p.wpe, B, T, C)
    residual = acts.encoded
    for l in range(L):
        ln1, qkv, atty, attproj = acts.ln1[l], acts.qkv[l], acts.atty[l], acts.attproj[l]
        ln2, fch, fch_gelu, fcproj = acts.ln2[l], acts.fch[l], acts.fch_gelu[l], acts.fcproj[l]
        residual2, residual3 = acts.residual2[l], acts.residual3[l]

        layernorm_forward(ln1, acts.ln1_mean[l], acts.ln1_rstd[l], residual, p.ln1w[l], p.ln1b[l], B, T, C)
        matmul_forward(workers, qkv, ln1, p.qkvw[l], p.qkvb[l], B, T, C, 3 * C)
        attention_forward(workers, atty, acts.preatt[l], acts.att[l], qkv, B, T, C, NH)
        matmul_forward(workers, attproj, atty, p.attprojw[l], p.attprojb[l], B, T, C, C)
        residual_forward(residual2, residual, attproj, B * T * C)
        layernorm_forward(ln2, acts.ln2_mean[l], acts.ln2_rstd[l], residual2, p.ln2w[l], p.ln2b[l], B, T, C)
        matmul_forward(workers, fch, ln2, p.fcw[l], p.fcb[l], B, T, C, 4 * C)
        gelu_forward(fch_gelu, fch, B * T * 4 * C)
        matmul_forward(workers, fcproj, fch_gelu, p.fcprojw[l], p.fcprojb[l], B, T, 4 * C, C)
        residual_forward(residual3, residual2, fcproj, B * T * C)
        residual = residual3
    layernorm_forward(acts.lnf, acts.lnf_mean, acts.lnf_rstd, residual, p.lnfw, p.lnfb, B, T, C)
    last = slice(T - 1, T)
    matmul_forward(workers, acts.logits[:, last], acts.lnf[:, last], p.wte, None, B, 1, C, Vp)
    softmax_forward(acts.probs[:, last], acts.logits[:, last], B, 1, V, Vp)


# -------------------------------------------------------------------------------------------------------- the main loop


def generate(model: GPT2, prompt: Sequence[int], n: int = 10, workers: int | None = None) -> Iterator[int]:
    """Yield each token as it is made, until prompt and generated tokens are n together; on `workers` workers.

    Raises ValueError as gpt2_forward() does.
    """
    tokens = np.full((1, n), GPT2_EOT, dtype=np.int32)
    tokens[0, : len(prompt)] = prompt
    gpt2_allocate(model, 1, max(n - 1, 1))  # memory for the longest pass, once
    with Workers(workers or default_workers()) as team:  # closed on every way out, also when the caller stops early
        for t in range(len(prompt), n):
            gpt2_forward(team, model, tokens[:, :t], 1, t)
            next_token = sample_mult(model.acts.probs[0, t - 1], model.config.vocab_size)
            tokens[0, t] = next_token
            yield next_token
