"""The parallel program: the same tokens as serial.py, on k workers. This is the one file you hand in.

The workers are static: generate() starts k threads at its beginning and joins them at its end. Between the two they
wait for tasks, which the main thread puts into a queue (producer and consumers). One parallel operation is one
*region*: its tasks are handed out, done in any order by any worker, and the region is over when all are done, so the
next one may read what they wrote.

    a region of                tasks are
    matmul_forward             blocks of output channels: rows of the weight matrix, columns of the output
    attention_forward          groups of heads

No two tasks of a region write to the same place, so the arrays need no lock; the queue does.

Letters (B, T, C ...) and shapes are those of serial.py.
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from lab.serial import GELU_SCALING_FACTOR, GPT2, GPT2_EOT, encoder_forward, gpt2_allocate, sample_mult, softmax_forward
from lab.threadlib import Mutex, Semaphore, join, perform, region, spawn

# BEGIN SOLUTION
BLOCK_BYTES = 16 << 20  # weights of one task at most: long enough to pay for the hand-over, short enough to even out
SMALL_PRODUCT = 1_000_000  # rows * C * T up to which BLAS multiplies without first copying the weights
REGION_PAYS = 64  # positions from which attention takes longer than handing it out does
# END SOLUTION

# ---------------------------------------------------------------------------------------------------------- the workers


def default_workers() -> int:
    """GPT_WORKERS, else 4 or the number of cores this process may use if that is less."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return int(os.environ.get("GPT_WORKERS") or min(4, cores))


class Workers:
    """k static worker threads and the queue that feeds them: made at the start, joined by close(), idle in between."""

    def __init__(self, k: int) -> None:
        self.k = k
        # BEGIN SOLUTION
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
        # END SOLUTION
        # BEGIN PROMPT
        # # Stage 2, about 8 lines: make the queue, its mutex and what the threads wait for, then spawn k threads that
        # # run self.work.
        # END PROMPT

    def run(self, fn: Callable[[Any], object], tasks: Iterable[Any]) -> None:
        """Do fn(task) for all tasks, on the workers, in any order; return when all are done. For one caller."""
        # BEGIN SOLUTION
        with region(fn):
            with self.mutex:
                self.queue.extend((fn, task) for task in tasks)
                needed = self.busy = min(self.k, len(self.queue))
            for start in self.starts[:needed]:
                start.V()
            if needed:
                self.over.P()
        # END SOLUTION
        # BEGIN PROMPT
        # # Stage 2, about 6 lines: put the tasks into the queue, wake the workers, wait until all tasks are done.
        # for task in tasks:
        #     fn(task)
        # END PROMPT

    # BEGIN SOLUTION
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

    # END SOLUTION
    # BEGIN PROMPT
    # # Stage 2, about 15 lines: def work(self, ..., number), which the threads run: take a task, do it, report it,
    # # until closed.
    #
    # END PROMPT
    def close(self) -> None:
        """End the workers and wait for them. Nothing is lost: run() has returned, so the queue is empty."""
        # BEGIN SOLUTION
        with self.mutex:
            self.closed = True
        for start in self.starts:
            start.V()
        join(*self.threads)
        # END SOLUTION
        # BEGIN PROMPT
        # # Stage 2, about 4 lines: tell the workers that no more will come, wake them, join them.
        # END PROMPT

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


# BEGIN SOLUTION
def blocks(count: int, pieces: int, multiple: int = 1) -> list[slice]:
    """Cut range(count) into at most `pieces` slices of nearly equal length, all but the last in multiples."""
    units = -(-count // multiple)
    pieces = max(1, min(pieces, units))
    edges = [min(count, units * i // pieces * multiple) for i in range(pieces + 1)]
    return [slice(edges[i], edges[i + 1]) for i in range(pieces)]


def row_blocks(weight: np.ndarray, k: int, multiple: int) -> list[slice]:
    """The tasks of a matrix product: blocks of rows of `weight`, as many for each of k workers."""
    rounds = -(-weight.nbytes // (k * BLOCK_BYTES))
    return blocks(weight.shape[0], k * rounds, multiple)


# END SOLUTION
# ----------------------------------------------------------------------------------------------- all the layers' passes


def layernorm_forward(out, mean, rstd, inp, weight, bias, B, T, C):
    """As in serial.py, for all positions at once: out and inp (B,T,C); mean and rstd (B,T); weight and bias (C)."""
    np.add.reduce(inp, axis=-1, out=mean)
    mean /= np.float32(C)
    np.subtract(inp, mean[..., None], out=out)
    np.vecdot(out, out, out=rstd)  # C times the variance
    rstd /= np.float32(C)
    rstd += np.float32(1e-5)
    np.divide(np.float32(1.0), np.sqrt(rstd), out=rstd)
    out *= rstd[..., None]
    out *= weight
    out += bias


# BEGIN SOLUTION
def stacked_rows(C: int, BT: int) -> int:
    """How many rows of weights to multiply at a time, so that each product is small enough for BLAS's quick path."""
    rows = SMALL_PRODUCT // (C * BT)
    return min(128, 1 << (rows.bit_length() - 1)) if rows >= 8 else 256


def transposed(x):
    """x (BT,C) -> (C,BT), eight positions at a time: more, C numbers apart, would fight for one place in the cache."""
    xT = np.empty(x.shape[::-1], dtype=np.float32)
    for t in range(0, len(x), 8):
        xT[:, t : t + 8] = x[t : t + 8].T
    return xT


def product(weight, xT, rows):
    """weight (N,C) @ xT (C,BT) -> (N,BT), `rows` rows at a time, each block used for all positions while in the cache.

    One numpy call does many small products, without the interpreter lock from the first to the last.
    """
    (N, C), BT = weight.shape, xT.shape[1]
    y = np.empty((N, BT), dtype=np.float32)
    if BT == 1:  # matrix times vector: einsum reads memory faster than BLAS does
        np.einsum("oc,c->o", weight, xT[:, 0], out=y[:, 0])
        return y
    whole = N // rows * rows
    if whole:
        np.matmul(weight[:whole].reshape(-1, rows, C), xT, out=y[:whole].reshape(-1, rows, BT))
    if whole < N:
        np.matmul(weight[whole:], xT, out=y[whole:])
    return y


# END SOLUTION
def matmul_forward(workers, out, inp, weight, bias, B, T, C, OC, after=None):
    """A fully connected layer: out (B,T,OC), inp (B,T,C), weight (OC,C), bias (OC) or None.

    after(columns, y), if given, is called for each finished slice of output channels: what follows the product point by
    point. y (len(columns),B*T) are the same numbers, channel by channel and close together, for it to use up.
    """
    # BEGIN SOLUTION
    xT = transposed(inp.reshape(B * T, C))
    rows = stacked_rows(C, B * T)

    def block(columns: slice) -> None:
        y = product(weight[columns], xT, rows)
        if bias is not None:
            y += bias[columns, None]
        out[:, :, columns] = y.T.reshape(B, T, -1)
        if after is not None:
            after(columns, y)

    workers.run(block, row_blocks(weight, workers.k, rows))
    # END SOLUTION
    # BEGIN PROMPT
    # # Stage 3, about 10 lines: let the workers do it, split over the output channels. Which split is none at
    # # all?
    # for b in range(B):
    #     for t in range(T):
    #         np.dot(weight, inp[b, t], out=out[b, t])
    #         if bias is not None:
    #             out[b, t] += bias
    # if after is not None:
    #     after(slice(0, OC), np.array(out.reshape(B * T, OC).T))
    # END PROMPT


def attention_forward(workers, out, preatt, att, inp, B, T, C, NH):
    """Attention as in serial.py: out (B,T,C); preatt and att (B,NH,T,T); inp (B,T,3C) holds query, key, value."""
    # BEGIN SOLUTION
    hs = C // NH
    scale = np.float32(1.0 / np.sqrt(hs))
    future = np.arange(T) > np.arange(T)[:, None]  # where t2 > t
    query, key, value = inp.reshape(B, T, 3, NH, hs).transpose(2, 0, 3, 1, 4)  # each (B,NH,T,hs)
    heads_out = out.reshape(B, T, NH, hs).transpose(0, 2, 1, 3)

    def heads(group: slice) -> None:
        scores, weights = preatt[:, group], att[:, group]
        np.matmul(query[:, group], key[:, group].swapaxes(-1, -2), out=scores)
        scores *= scale
        np.copyto(weights, scores)
        np.copyto(weights, -np.inf, where=future)
        weights -= weights.max(axis=-1, keepdims=True)
        np.exp(weights, out=weights)
        weights /= weights.sum(axis=-1, keepdims=True)
        heads_out[:, group] = np.matmul(weights, value[:, group])

    if T < REGION_PAYS:
        heads(slice(0, NH))
    else:
        workers.run(heads, blocks(NH, workers.k))
    # END SOLUTION
    # BEGIN PROMPT
    # # Stage 4, about 15 lines: let the workers do it, split over the heads. Fewer and longer numpy operations hold the
    # # lock less.
    # hs = C // NH
    # scale = np.float32(1.0 / np.sqrt(hs))
    # for b in range(B):
    #     for t in range(T):
    #         for h in range(NH):
    #             query = inp[b, t, h * hs : (h + 1) * hs]
    #             keys = inp[b, : t + 1, C + h * hs : C + (h + 1) * hs]
    #             values = inp[b, : t + 1, 2 * C + h * hs : 2 * C + (h + 1) * hs]
    #             scores = preatt[b, h, t, : t + 1]
    #             np.dot(keys, query, out=scores)
    #             scores *= scale
    #             weights = np.exp(scores - scores.max())
    #             weights /= weights.sum()
    #             att[b, h, t, : t + 1] = weights
    #             att[b, h, t, t + 1 :] = 0.0
    #             np.dot(weights, values, out=out[b, t, h * hs : (h + 1) * hs])
    # END PROMPT


def gelu_forward(out, columns, y):
    """The activation function of serial.py for some channels: out (B,T,4C), y (len(columns),B*T)."""
    g = gelu_twice(y)
    g *= np.float32(0.5)
    out[..., columns] = g.T.reshape(*out.shape[:-1], -1)


def gelu_twice(x):
    """2 gelu(x), of the shape of x: few passes, all in the same memory."""
    t = x * x
    t *= GELU_SCALING_FACTOR * np.float32(0.044715)
    t += GELU_SCALING_FACTOR
    t *= x
    np.tanh(t, out=t)
    t += np.float32(1.0)
    t *= x
    return t


def residual_forward(out, inp, columns, y):
    """out = inp + what y holds, for some channels: out and inp (B,T,C); y (len(columns),B*T)."""
    np.add(inp[..., columns], y.T.reshape(*out.shape[:-1], -1), out=out[..., columns])


# ------------------------------------------------------------------------------------------------------ the GPT-2 model


def gpt2_forward(workers: Workers, model: GPT2, inputs: np.ndarray, B: int, T: int) -> None:
    """The forward pass of serial.py: inputs (B,T) of token numbers -> model.acts.

    Of the logits and probabilities only those of the last position are computed: generation reads no others. GELU and
    the residual additions ride on the tasks of the product before them.
    """
    config = model.config
    V, Vp, L, NH, C = config.vocab_size, config.padded_vocab_size, config.num_layers, config.num_heads, config.channels
    gpt2_allocate(model, B, T)
    params, acts = model.params, model.acts

    encoder_forward(acts.encoded, inputs, params.wte, params.wpe, B, T, C)
    residual = acts.encoded
    for l in range(L):
        ln1, qkv, atty, attproj = acts.ln1[l], acts.qkv[l], acts.atty[l], acts.attproj[l]
        ln2, fch, fch_gelu, fcproj = acts.ln2[l], acts.fch[l], acts.fch_gelu[l], acts.fcproj[l]
        residual2, residual3 = acts.residual2[l], acts.residual3[l]

        layernorm_forward(ln1, acts.ln1_mean[l], acts.ln1_rstd[l], residual, params.ln1w[l], params.ln1b[l], B, T, C)
        matmul_forward(workers, qkv, ln1, params.qkvw[l], params.qkvb[l], B, T, C, 3 * C)
        attention_forward(workers, atty, acts.preatt[l], acts.att[l], qkv, B, T, C, NH)
        add = partial(residual_forward, residual2, residual)
        matmul_forward(workers, attproj, atty, params.attprojw[l], params.attprojb[l], B, T, C, C, add)
        layernorm_forward(ln2, acts.ln2_mean[l], acts.ln2_rstd[l], residual2, params.ln2w[l], params.ln2b[l], B, T, C)
        activate = partial(gelu_forward, fch_gelu)
        matmul_forward(workers, fch, ln2, params.fcw[l], params.fcb[l], B, T, C, 4 * C, activate)
        add = partial(residual_forward, residual3, residual2)
        matmul_forward(workers, fcproj, fch_gelu, params.fcprojw[l], params.fcprojb[l], B, T, 4 * C, C, add)
        residual = residual3
    layernorm_forward(acts.lnf, acts.lnf_mean, acts.lnf_rstd, residual, params.lnfw, params.lnfb, B, T, C)
    last = slice(T - 1, T)
    matmul_forward(workers, acts.logits[:, last], acts.lnf[:, last], params.wte, None, B, 1, C, Vp)
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
