"""The answer of stage 3: matrix products are split over their output channels; attention stays one task.

    a region of                tasks are
    matmul_forward             blocks of output channels: rows of the weight matrix, columns of the output
    attention_forward          one, as in serial.py

No two tasks of a region write to the same place, so the arrays need no lock; the queue does.

Letters (B, T, C ...) and shapes are those of serial.py.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
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
from lab.threadlib import Mutex, Semaphore, join, perform, region, spawn

# ---------------------------------------------------------------------------------------------------------- the workers


def default_workers() -> int:
    """GPT_WORKERS, else 4 or the number of cores this process may use if that is less."""
    return int(os.environ.get("GPT_WORKERS") or min(4, machine.count()))


class Workers:
    """k static worker threads and the queue that feeds them: made at the start, joined by close(), idle in between."""

    def __init__(self, k: int) -> None:
        if not 1 <= k <= machine.MOST_WORKERS:
            raise ValueError(f"workers={k}: a number from 1 to {machine.MOST_WORKERS}")
        self.k = k
        # The mutex protects queue, busy and closed. A worker is busy from the V() of its semaphore until it has found
        # the queue empty. Each waits at a semaphore of its own, so nobody is woken who has nothing to do:
        #     starts[i]   worker i waits for a region, or the end: the count is 1 if it has been told so, else 0
        #     over        run() waits for the end of the region: the last busy worker makes it 1
        self.mutex = Mutex("queue")
        self.starts = [Semaphore(0, f"start {i}") for i in range(k)]
        self.over = Semaphore(0, "region over")
        self.queue: deque[tuple[Callable[[Any], object], Any]] = deque()
        self.busy = 0
        self.closed = False
        self.threads = [spawn(partial(self.work, start)) for start in self.starts]

    def run(self, fn: Callable[[Any], object], tasks: Iterable[Any]) -> None:
        """Do fn(task) for all tasks, on the workers, in any order; return when all are done. For one caller."""
        with region(fn):
            with self.mutex:
                self.queue.extend((fn, task) for task in tasks)
                needed = self.busy = min(self.k, len(self.queue))
            for start in self.starts[:needed]:
                start.V()
            if needed:
                self.over.P()

    def work(self, start: Semaphore, number: int) -> None:
        """A worker's life: wait for a region, perform tasks until none is left, say so if it is the last to do so."""
        while True:
            start.P()
            if self.closed:  # written before this worker's V(), and never again
                return
            while (job := self.take()) is not None:
                perform(*job)
            with self.mutex:
                self.busy -= 1
                last = self.busy == 0
            if last:
                self.over.V()

    def take(self) -> tuple[Callable[[Any], object], Any] | None:
        """The next function and task of the queue, if there is one."""
        with self.mutex:
            return self.queue.popleft() if self.queue else None

    def close(self) -> None:
        """End the workers and wait for them. Nothing is lost: run() has returned, so the queue is empty."""
        with self.mutex:
            self.closed = True
        for start in self.starts:
            start.V()
        join(*self.threads)

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


def blocks(count: int, k: int) -> list[slice]:
    """range(count) cut into at most k slices of nearly equal length, none of them empty."""
    k = min(k, count)
    return [slice(count * i // k, count * (i + 1) // k) for i in range(k)]


# ----------------------------------------------------------------------------------------------- all the layers' passes


def matmul_forward(workers, out, inp, weight, bias, B, T, C, OC):
    """A fully connected layer: out (B,T,OC), inp (B,T,C), weight (OC,C), bias (OC) or None."""
    x, y = inp.reshape(B * T, C), out.reshape(B * T, OC)

    def block(columns: slice) -> None:
        np.matmul(x, weight[columns].T, out=y[:, columns])
        if bias is not None:
            y[:, columns] += bias[columns]

    workers.run(block, blocks(OC, workers.k))


def attention_forward(workers, out, preatt, att, inp, B, T, C, NH):
    """Attention as in serial.py: out (B,T,C); preatt and att (B,NH,T,T); inp (B,T,3C) holds query, key, value."""
    hs = C // NH
    scale = np.float32(1.0 / np.sqrt(hs))

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
    """Yield each token as it is made, until prompt and generated tokens are n together; on `workers` workers."""
    tokens = np.full((1, n), GPT2_EOT, dtype=np.int32)
    tokens[0, : len(prompt)] = prompt
    gpt2_allocate(model, 1, max(n - 1, 1))  # memory for the longest pass, once
    with Workers(workers or default_workers()) as team:  # closed on every way out, also when the caller stops early
        for t in range(len(prompt), n):
            gpt2_forward(team, model, tokens[:, :t], 1, t)
            next_token = sample_mult(model.acts.probs[0, t - 1], model.config.vocab_size)
            tokens[0, t] = next_token
            yield next_token
