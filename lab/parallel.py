"""The parallel program: the same tokens as serial.py, on k workers. This is the one file you hand in.

The workers are static: generate() starts k threads at its beginning and joins them at its end. Between the two they
wait for tasks, which the main thread puts into a queue (producer and consumers). One parallel operation is one
*region*: its tasks are handed out, done in any order by any worker, and the region is over when all are done, so the
next one may read what they wrote.

A pass has two regions a layer, and one for the logits. To need no more, activations are kept channel by channel, (C,T),
so that every product is W @ X with a weight W as it stands in memory, and each worker has a *share* that it can compute
from the first product to the last without anything of the others':

    region                 a share is                and computes
    attention_forward      some of the heads         their q, k, v, their attention, their columns of attprojw
    feed_forward           some hidden channels      their rows of fcw, gelu, their columns of fcprojw
    logits_forward         some of the vocabulary    their rows of wte, for the last position

After the last layer's attention nothing but the last position is needed, so the rest of the pass has T = 1.

The last product of the first two gives a *partial sum* of the layer's output (the way Megatron-LM splits a transformer,
Shoeybi et al. 2019), and main adds them up between two regions. So no two tasks of a region write to the same place,
and the arrays need no lock; the queue does.

Letters are those of serial.py, but B is always 1 and left out, and arrays are transposed: residual (C,T), qkv (3C,T).
"""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np

from lab import kernels, machine
from lab.checkpoint import Config, carve, count_numbers
from lab.serial import GPT2, GPT2_EOT, sample_mult, softmax_forward
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


def shares(count: int, k: int, multiple: int = 1) -> list[slice]:
    """range(count) cut into at most k slices of nearly equal length, none of them empty; cuts are at multiples."""
    units = -(-count // multiple)
    k = min(k, units)
    edges = [min(count, units * i // k * multiple) for i in range(k + 1)]
    return [slice(edges[i], edges[i + 1]) for i in range(k)]


# ------------------------------------------------------------------------------------------------- the arrays of a pass


def activation_shapes(config: Config, T: int, k: int, layers: int) -> dict[str, tuple[int, ...]]:
    """The arrays of a pass over T positions on k workers; `layers` of them have a qkv of their own."""
    C, NH, Vp = config.channels, config.num_heads, config.padded_vocab_size
    return {
        "residual": (C, T),
        "normed": (C, T),  # what the next region begins with
        "qkv": (layers, 3, C, T),
        "att": (NH, T, T),  # how much t looks at t2, at [h, t2, t]
        "atty": (C, T),
        "fch": (4 * C, T),
        "sums": (k, C, T),  # a partial sum for each share
        "parts": (k, C, T),  # what is added to it next
        "logits": (1, 1, Vp),
        "probs": (1, 1, Vp),
    }


class Pass:
    """The shares of k workers, and the memory of a pass over up to `longest` positions.

    keep: every layer's query, key and value are still there after the pass, in acts.qkv (L,3,C,T).
    """

    def __init__(self, model: GPT2, longest: int, k: int, keep: bool = False) -> None:
        self.config, self.params, self.k = model.config, model.params, k
        config = model.config
        self.layers = config.num_layers if keep else 1
        self.memory = np.zeros(count_numbers(activation_shapes(config, longest, k, self.layers)), dtype=np.float32)
        shapes = activation_shapes(config, 1, k, 1)
        self.last = SimpleNamespace(**carve(np.zeros(count_numbers(shapes), dtype=np.float32), shapes))
        self.heads = shares(config.num_heads, k)
        self.hidden = shares(4 * config.channels, k, 16)
        self.vocabulary = shares(config.padded_vocab_size, k, 16)

    def begin(self, T: int) -> SimpleNamespace:
        """The arrays of a pass over T positions, one behind the other in the memory."""
        self.acts = SimpleNamespace(**carve(self.memory, activation_shapes(self.config, T, self.k, self.layers)))
        return self.acts

    def narrow(self) -> SimpleNamespace:
        """The arrays of a pass over one position, which continues with the last of the others."""
        self.last.residual[:, 0] = self.acts.residual[:, -1]
        return self.last


# ----------------------------------------------------------------------------------------------- all the layers' passes


def layernorm_forward(out, inp, weight, bias):
    """As in serial.py, for all positions at once: out and inp (C,T); weight and bias (C)."""
    C = len(inp)
    averaging = np.full(C, 1.0 / C, dtype=np.float32)  # its product with an array is the mean over channels
    np.subtract(inp, averaging @ inp, out=out)
    variance = averaging @ (out * out)
    out *= np.float32(1.0) / np.sqrt(variance + np.float32(1e-5))
    out *= weight[:, None]
    out += bias[:, None]


def attention_forward(workers, acts, heads, qkv, qkvw, qkvb, attprojw):
    """Region: sums[i] (C,T) = what the heads of share i add to the residual stream, from normed (C,T); qkv (3,C,T)."""
    (C, T), (NH, _, _) = acts.normed.shape, acts.att.shape
    hs = C // NH
    scale = np.float32(1.0 / np.sqrt(hs))
    future = np.arange(T)[:, None] > np.arange(T)  # where t2 > t

    def share(i: int) -> None:
        channels = slice(heads[i].start * hs, heads[i].stop * hs)
        mine = qkv[:, channels]
        for weight, one in zip(qkvw.reshape(3, C, C)[:, channels], mine, strict=True):
            kernels.matmul(weight, acts.normed, one)
        mine += qkvb.reshape(3, C)[:, channels, None]
        query, key, value = mine.reshape(3, -1, hs, T)
        att, atty = acts.att[heads[i]], acts.atty[channels]
        query *= scale
        np.matmul(key.swapaxes(1, 2), query, out=att)
        np.copyto(att, -np.inf, where=future)
        att -= att.max(axis=1, keepdims=True)
        np.exp(att, out=att)
        mixed = atty.reshape(-1, hs, T)
        np.matmul(value, att, out=mixed)
        mixed /= att.sum(axis=1, keepdims=True)  # after the product: hs numbers to divide, not T
        kernels.matmul(attprojw[:, channels], atty, acts.sums[i])

    workers.run(share, range(len(heads)))


def feed_forward(workers, acts, hidden, fcw, fcb, fcprojw):
    """Region: sums[i] (C,T) = what the hidden channels of share i add to the residual stream, from normed (C,T).

    A share is done in blocks of C channels, whose activations are still in the core's cache for the second product.
    """
    C = len(acts.normed)

    def share(i: int) -> None:
        total = acts.sums[i]
        for start in range(hidden[i].start, hidden[i].stop, C):
            block = slice(start, min(start + C, hidden[i].stop))
            h = acts.fch[block]
            kernels.matmul(fcw[block], acts.normed, h)
            h += fcb[block, None]
            kernels.gelu(h)
            if start == hidden[i].start:
                kernels.matmul(fcprojw[:, block], h, total)
            else:
                kernels.matmul(fcprojw[:, block], h, acts.parts[i])
                total += acts.parts[i]

    workers.run(share, range(len(hidden)))


def logits_forward(workers, acts, vocabulary, wte):
    """Region: the logits of the last position, each share some of the tokens."""
    last = np.ascontiguousarray(acts.normed[:, -1])

    def share(rows: slice) -> None:
        kernels.matvec(wte[rows], last, acts.logits[0, 0, rows])

    workers.run(share, vocabulary)


def residual_forward(residual, sums, bias):
    """residual (C,T) += the partial sums (k,C,T) and the bias (C) of the products they come from."""
    for one in sums:
        residual += one
    residual += bias[:, None]


# ------------------------------------------------------------------------------------------------------ the GPT-2 model


def gpt2_forward(workers: Workers, one: Pass, tokens: np.ndarray) -> np.ndarray:
    """The forward pass: tokens (T) -> the next token's probabilities (V).

    Raises ValueError for a token outside the vocabulary or a sequence longer than the model knows positions for.
    """
    config, p, T = one.config, one.params, len(tokens)
    V, Vp, L = config.vocab_size, config.padded_vocab_size, config.num_layers
    if not 0 < T <= config.max_seq_len:
        raise ValueError(f"{T} tokens: this model takes 1 to {config.max_seq_len}")
    for token in tokens:
        if not 0 <= token < V:
            raise ValueError(f"token {token}: the vocabulary is 0 to {V - 1}")
    acts = one.begin(T)

    np.add(p.wte[tokens].T, p.wpe[:T].T, out=acts.residual)
    for l in range(L):
        layernorm_forward(acts.normed, acts.residual, p.ln1w[l], p.ln1b[l])
        qkv = acts.qkv[l % one.layers]
        attention_forward(workers, acts, one.heads, qkv, p.qkvw[l], p.qkvb[l], p.attprojw[l])
        residual_forward(acts.residual, acts.sums[: len(one.heads)], p.attprojb[l])
        if l == L - 1:  # only attention reads other positions, and no attention is left
            acts = one.narrow()
        layernorm_forward(acts.normed, acts.residual, p.ln2w[l], p.ln2b[l])
        feed_forward(workers, acts, one.hidden, p.fcw[l], p.fcb[l], p.fcprojw[l])
        residual_forward(acts.residual, acts.sums[: len(one.hidden)], p.fcprojb[l])
    layernorm_forward(acts.normed, acts.residual, p.lnfw, p.lnfb)
    logits_forward(workers, acts, one.vocabulary, p.wte)
    softmax_forward(acts.probs, acts.logits, 1, 1, V, Vp)
    return acts.probs[0, 0]


# -------------------------------------------------------------------------------------------------------- the main loop


def generate(model: GPT2, prompt: Sequence[int], n: int = 10, workers: int | None = None) -> Iterator[int]:
    """Yield each token as it is made, until prompt and generated tokens are n together; on `workers` workers.

    Raises ValueError as gpt2_forward() does.
    """
    tokens = np.full(n, GPT2_EOT, dtype=np.int32)
    tokens[: len(prompt)] = prompt
    with Workers(workers or default_workers()) as team:  # closed on every way out, also when the caller stops early
        one = Pass(model, n - 1, team.k)
        for t in range(len(prompt), n):
            tokens[t] = sample_mult(gpt2_forward(team, one, tokens[:t]), model.config.vocab_size)
            yield int(tokens[t])
