"""The last rung: the same tokens, each in little more than the time it takes to read the weights from memory once.

Two changes to parallel.py, which still does the first pass, over the prompt, and whose shares and partial sums these
are:

- Keys and values of earlier positions do not change, so they are kept (the KV cache), and a pass computes one position.
- One position is matrix times vector: each weight is used once, memory sets the pace, and a layer takes half a
  millisecond. So a token is one region, in which the workers wait for each other at barriers, two a layer: whoever
  comes last adds the partial sums up, and nobody has to wake the main thread.

Letters (C, NH, hs, ...) are those of serial.py.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import NamedTuple

import numpy as np

from lab import kernels
from lab.parallel import Pass, Workers, default_workers, gpt2_forward, shares
from lab.serial import GPT2, sample_mult, softmax_forward
from lab.threadlib import Mutex, Semaphore


class Barrier:
    """A place where k threads wait for each other; the last to arrive performs `action` before anyone goes on.

    The mutex protects `arrived`. The others wait at a turnstile until the last one lets k - 1 through. Rounds use two
    turnstiles in turn: with one, a quick thread, back for the next round, could slip through in place of a slow one
    that has arrived but not yet reached its P().
    """

    def __init__(self, k: int) -> None:
        self.k = k
        self.mutex = Mutex("barrier")
        self.turnstile, self.next = Semaphore(0, "turnstile"), Semaphore(0, "other turnstile")
        self.arrived = 0

    def wait(self, action: Callable[[], object]) -> None:
        """Return when all k threads are here and `action`, the same for all, has been done."""
        with self.mutex:
            turnstile = self.turnstile
            self.arrived += 1
            last = self.arrived == self.k
            if last:
                action()
                self.arrived = 0
                self.turnstile, self.next = self.next, turnstile
        if not last:
            turnstile.P()
            return
        for _ in range(self.k - 1):
            turnstile.V()

    def open(self, rounds: int) -> None:
        """Let everybody pass so many rounds: whom Ctrl-C kept from being woken, nobody need wait for."""
        for _ in range(self.k * rounds):
            self.turnstile.V()
            self.next.V()


class Share(NamedTuple):
    """What one worker needs of one layer: views of the weights of its H heads and of its N hidden channels."""

    qkvw: np.ndarray  # (3,H*hs,C)
    qkvb: np.ndarray  # (3,H*hs)
    attprojw: np.ndarray  # (C,H*hs), columns
    cache: np.ndarray  # (2,H,n,hs), keys and values of the positions so far
    fcw: np.ndarray  # (N,C)
    fcb: np.ndarray  # (N)
    fcprojw: np.ndarray  # (C,N), columns


class Decoder:
    """One token after another on `parts` workers: the KV cache, and the vectors the workers share.

    cache (L,2,NH,n,hs); residual, normed (C); sums (parts,C), a row for each worker; logits and probs (Vp). With more
    workers than heads, some have an empty share of the heads, and so on: all meet at the barriers.
    """

    def __init__(self, model: GPT2, n: int, parts: int) -> None:
        config = model.config
        self.model, self.barrier = model, Barrier(parts)
        L, NH, C = config.num_layers, config.num_heads, config.channels
        self.hs = C // NH
        self.scale = 1.0 / math.sqrt(self.hs)
        self.cache = np.zeros((L, 2, NH, n, self.hs), dtype=np.float32)
        self.residual = np.zeros(C, dtype=np.float32)
        self.normed = np.zeros(C, dtype=np.float32)
        self.sums = np.zeros((parts, C), dtype=np.float32)
        self.averaging = np.full(C, 1.0 / C, dtype=np.float32)  # its dot product with a vector is the vector's mean
        self.logits = np.zeros(config.padded_vocab_size, dtype=np.float32)
        self.probs = np.zeros_like(self.logits)
        heads, hidden, self.vocabulary = (
            [*found, *[slice(0, 0)] * (parts - len(found))]
            for found in (shares(NH, parts), shares(4 * C, parts, 16), shares(config.padded_vocab_size, parts, 16))
        )
        self.shares = [[self.share(l, heads[part], hidden[part]) for l in range(L)] for part in range(parts)]

    def share(self, l: int, heads: slice, hidden: slice) -> Share:
        """The views of layer `l` for a worker with these heads and these hidden channels."""
        p, C = self.model.params, self.residual.size
        mine = slice(heads.start * self.hs, heads.stop * self.hs)
        qkvw, qkvb = p.qkvw[l].reshape(3, C, C)[:, mine], p.qkvb[l].reshape(3, C)[:, mine]
        fcw, fcb, fcprojw = p.fcw[l, hidden], p.fcb[l, hidden], p.fcprojw[l][:, hidden]
        return Share(qkvw, qkvb, p.attprojw[l][:, mine], self.cache[l, :, heads], fcw, fcb, fcprojw)

    def fill_cache(self, qkv: np.ndarray) -> None:
        """Take keys and values of the prompt from a full forward pass: qkv (L,3,C,T)."""
        L, _, NH, _, hs = self.cache.shape
        T = qkv.shape[-1]
        self.cache[:, :, :, :T] = qkv[:, 1:].reshape(L, 2, NH, hs, T).swapaxes(-1, -2)

    def start(self, token: int, t: int) -> None:
        """Before the workers: encode `token` at position t and normalise it for the first layer. Raises ValueError."""
        params, longest = self.model.params, self.model.config.max_seq_len
        if t >= longest:
            raise ValueError(f"{t + 1} tokens: this model takes 1 to {longest}")
        np.add(params.wte[token], params.wpe[t], out=self.residual)
        self.normalise(params.ln1w[0], params.ln1b[0])

    def pass_share(self, part: int, t: int) -> None:
        """Worker `part`'s share of the pass for position t, from the first layer's input to its rows of the logits."""
        p, sums = self.model.params, self.sums[part]
        after = [*zip(p.ln1w[1:], p.ln1b[1:], strict=True), (p.lnfw, p.lnfb)]  # what follows each layer
        for l, share in enumerate(self.shares[part]):
            self.attention(share, t, sums)
            self.barrier.wait(partial(self.add_up, p.attprojb[l], p.ln2w[l], p.ln2b[l]))
            self.feed_forward(share, sums)
            self.barrier.wait(partial(self.add_up, p.fcprojb[l], *after[l]))
        rows = self.vocabulary[part]
        kernels.matvec(p.wte[rows], self.normed, self.logits[rows])

    def attention(self, share: Share, t: int, sums: np.ndarray) -> None:
        """Query, key, value and attention of a worker's heads at position t, then their part of the projection."""
        qkv = np.empty(share.qkvb.shape, dtype=np.float32)
        kernels.matvec(share.qkvw, self.normed, qkv)
        qkv += share.qkvb
        qkv = qkv.reshape(3, -1, self.hs)
        query, share.cache[:, :, t] = qkv[0], qkv[1:]
        query *= self.scale
        keys, values = share.cache[:, :, : t + 1]
        scores = np.matmul(keys, query[:, :, None])[..., 0]
        scores -= scores.max(axis=-1, keepdims=True, initial=-np.inf)
        np.exp(scores, out=scores)
        mixed = np.matmul(scores[:, None], values)[:, 0]
        mixed /= np.add.reduce(scores, axis=-1, keepdims=True)
        kernels.matvec(share.attprojw, mixed.reshape(-1), sums)

    def feed_forward(self, share: Share, sums: np.ndarray) -> None:
        """A worker's hidden channels, then their part of the layer's output."""
        h = np.empty(share.fcb.shape, dtype=np.float32)
        kernels.matvec(share.fcw, self.normed, h)
        h += share.fcb
        kernels.gelu(h)
        kernels.matvec(share.fcprojw, h, sums)

    def add_up(self, bias: np.ndarray, weight: np.ndarray, shift: np.ndarray) -> None:
        """At the barrier: partial sums and bias join the residual stream, which is normalised for what follows."""
        for row in self.sums:
            self.residual += row
        self.residual += bias
        self.normalise(weight, shift)

    def normalise(self, weight: np.ndarray, bias: np.ndarray) -> None:
        """layernorm_forward of one position: residual -> normed."""
        out, C = self.normed, self.normed.size
        np.subtract(self.residual, np.dot(self.residual, self.averaging), out=out)
        out *= 1.0 / math.sqrt(float(np.dot(out, out)) / C + 1e-5)
        out *= weight
        out += bias


def generate(model: GPT2, prompt: Sequence[int], n: int = 10, workers: int | None = None) -> Iterator[int]:
    """Yield each token as it is made, until prompt and generated tokens are n together; on `workers` workers.

    Raises ValueError as gpt2_forward() does.
    """
    T, V, Vp = len(prompt), model.config.vocab_size, model.config.padded_vocab_size
    if n <= T:
        return
    with Workers(workers or default_workers()) as team:
        first = Pass(model, T, team.k, keep=True)
        probs = gpt2_forward(team, first, np.array(prompt, dtype=np.int32))
        decoder = Decoder(model, n, team.k)
        decoder.fill_cache(first.acts.qkv)
        for t in range(T, n):
            next_token = sample_mult(probs, V)
            yield next_token
            if t + 1 < n:
                decoder.start(next_token, t)
                # all parts run at the same time, one on each worker, or the barriers would never open
                try:
                    team.run(lambda part, t=t: decoder.pass_share(part, t), range(team.k))
                except BaseException:
                    decoder.barrier.open(2 * model.config.num_layers)
                    raise
                softmax_forward(decoder.probs[None, None], decoder.logits[None, None], 1, 1, V, Vp)
                probs = decoder.probs
