"""The last rung: the same tokens, each in little more than the time it takes to read the weights from memory once.

Three changes to parallel.py, which still does the first pass, over the prompt:

- Keys and values of earlier positions do not change, so they are kept (the KV cache), and a pass computes one position.
- One position is matrix times vector: each weight is used once, and memory, not arithmetic, sets the pace. So a
worker's share
  of a layer is cut such that it needs the others as seldom as possible: whole heads and whole hidden channels, with
  the columns of the next matrix that belong to them. Each worker's product is then a *partial sum* of the layer's
  output (the way Megatron-LM splits a transformer over machines, Shoeybi et al. 2019).
- So a layer needs two barriers, where the partial sums are added up, and a token 2 L + 1.

Letters (C, NH, hs, ...) are those of serial.py.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np

from lab import parallel
from lab.parallel import Workers, default_workers
from lab.serial import GPT2, GPT2_EOT, gpt2_allocate, sample_mult, softmax_forward
from lab.threadlib import Cond, Mutex


class Barrier:
    """A place where k threads wait for each other; the last to arrive performs `action` before anyone goes on.

    The mutex protects `arrived` and `round`; the condition waited for is that the round is over. Waiting for
    `arrived` to be k would be wrong: a quick thread may reset it, and be back, before a slow one has looked.
    """

    def __init__(self, k: int) -> None:
        self.k = k
        self.mutex = Mutex("barrier")
        self.round_over = Cond("round over")
        self.arrived = 0
        self.round = 0

    def wait(self, action: Callable[[], object]) -> None:
        """Return when all k threads are here and `action`, the same for all, has been done."""
        with self.mutex:
            self.arrived += 1
            if self.arrived == self.k:
                action()
                self.arrived = 0
                self.round += 1
                self.round_over.broadcast()
            else:
                this_round = self.round
                while self.round == this_round:
                    self.round_over.wait(self.mutex)


def shares(count: int, k: int, multiple: int = 1) -> list[slice]:
    """range(count) cut into exactly k slices of nearly equal length, some empty if count is small."""
    units = -(-count // multiple)
    edges = [min(count, units * i // k * multiple) for i in range(k + 1)]
    return [slice(edges[i], edges[i + 1]) for i in range(k)]


def matvec(weight: np.ndarray, x: np.ndarray, out: np.ndarray) -> None:
    """out (N) = weight (N,C) @ x (C), as memory is read fastest: einsum for whole rows, BLAS for parts of rows."""
    if weight.flags.c_contiguous:
        np.einsum("oc,c->o", weight, x, out=out)
    else:
        np.matmul(weight, x, out=out)


class Decoder:
    """One token after another on `parts` workers: the KV cache, and the vectors the workers share.

    keys and values (L,NH,n,hs); residual, normed (C); sums (parts,C), a row for each worker; logits and probs (Vp).
    """

    def __init__(self, model: GPT2, n: int, parts: int) -> None:
        config = model.config
        self.model, self.parts = model, parts
        self.L, self.NH, self.C = config.num_layers, config.num_heads, config.channels
        self.hs = self.C // self.NH
        self.keys = np.zeros((self.L, self.NH, n, self.hs), dtype=np.float32)
        self.values = np.zeros_like(self.keys)
        self.residual = np.zeros(self.C, dtype=np.float32)
        self.normed = np.zeros(self.C, dtype=np.float32)
        self.sums = np.zeros((parts, self.C), dtype=np.float32)
        self.logits = np.zeros(config.padded_vocab_size, dtype=np.float32)
        self.probs = np.zeros_like(self.logits)
        self.barrier = Barrier(parts)
        self.heads = shares(self.NH, parts)
        self.hidden = shares(4 * self.C, parts, 16)
        self.vocabulary = shares(config.padded_vocab_size, parts, 16)

    def fill_cache(self, T: int) -> None:
        """Take keys and values of the first T positions from the activations of a full forward pass."""
        _, keys, values = self.model.acts.qkv.reshape(self.L, T, 3, self.NH, self.hs).transpose(2, 0, 3, 1, 4)
        self.keys[:, :, :T], self.values[:, :, :T] = keys, values

    def start(self, token: int, t: int) -> None:
        """Before the workers: encode `token` at position t and normalise it for the first layer."""
        params = self.model.params
        np.add(params.wte[token], params.wpe[t], out=self.residual)
        self.normalise(params.ln1w[0], params.ln1b[0])

    def pass_share(self, part: int, t: int) -> None:
        """Worker `part`'s share of the pass for position t, from the first layer's input to its rows of the logits."""
        p, L = self.model.params, self.L
        for l in range(L):
            self.attention(part, l, t)
            self.barrier.wait(partial(self.add_up, p.attprojb[l], p.ln2w[l], p.ln2b[l]))
            self.feed_forward(part, l)
            after = (p.ln1w[l + 1], p.ln1b[l + 1]) if l + 1 < L else (p.lnfw, p.lnfb)
            self.barrier.wait(partial(self.add_up, p.fcprojb[l], *after))
        rows = self.vocabulary[part]
        matvec(p.wte[rows], self.normed, self.logits[rows])

    def attention(self, part: int, l: int, t: int) -> None:
        """Query, key, value and attention of this worker's heads at position t, then their part of the projection."""
        p, heads, hs, C = self.model.params, self.heads[part], self.hs, self.C
        columns = slice(heads.start * hs, heads.stop * hs)
        qkv = np.einsum("soc,c->so", p.qkvw[l].reshape(3, C, C)[:, columns], self.normed)
        qkv += p.qkvb[l].reshape(3, C)[:, columns]
        query, key, value = qkv.reshape(3, -1, hs)
        keys, values = self.keys[l, heads], self.values[l, heads]  # (heads,n,hs)
        keys[:, t], values[:, t] = key, value
        scores = np.matmul(keys[:, : t + 1], query[:, :, None])[..., 0]
        scores *= np.float32(1.0 / np.sqrt(hs))
        scores -= scores.max(axis=-1, keepdims=True, initial=-np.inf)
        np.exp(scores, out=scores)
        scores /= scores.sum(axis=-1, keepdims=True)
        mixed = np.matmul(scores[:, None], values[:, : t + 1])
        matvec(p.attprojw[l][:, columns], mixed.reshape(-1), self.sums[part])

    def feed_forward(self, part: int, l: int) -> None:
        """This worker's hidden channels, then their part of the layer's output."""
        p, hidden = self.model.params, self.hidden[part]
        h = np.empty(hidden.stop - hidden.start, dtype=np.float32)
        matvec(p.fcw[l, hidden], self.normed, h)
        h += p.fcb[l, hidden]
        activated = parallel.gelu_twice(h)
        activated *= np.float32(0.5)
        matvec(p.fcprojw[l][:, hidden], activated, self.sums[part])

    def add_up(self, bias: np.ndarray, weight: np.ndarray, shift: np.ndarray) -> None:
        """At the barrier: partial sums and bias join the residual stream, which is normalised for what follows."""
        for row in self.sums:
            self.residual += row
        self.residual += bias
        self.normalise(weight, shift)

    def normalise(self, weight: np.ndarray, bias: np.ndarray) -> None:
        """layernorm_forward of one position: residual -> normed."""
        x, out, C = self.residual, self.normed, np.float32(self.C)
        np.subtract(x, x.sum() / C, out=out)
        out *= np.float32(1.0) / np.sqrt(np.dot(out, out) / C + np.float32(1e-5))
        out *= weight
        out += bias


def generate(model: GPT2, prompt: Sequence[int], n: int = 10, workers: int | None = None) -> Iterator[int]:
    """Yield each token as it is made, until prompt and generated tokens are n together; on `workers` workers."""
    tokens = np.full((1, n), GPT2_EOT, dtype=np.int32)
    T, V, Vp = len(prompt), model.config.vocab_size, model.config.padded_vocab_size
    tokens[0, :T] = prompt
    if n <= T:
        return
    gpt2_allocate(model, 1, T)
    with Workers(workers or default_workers()) as team:
        # BEGIN SOLUTION
        parts = team.k  # all parts of a pass run at the same time, one on each worker, or the barrier would never open
        # END SOLUTION
        # BEGIN PROMPT
        # parts = 1  # Stage 5: once your workers run at the same time, a part for each of them
        # END PROMPT
        decoder = Decoder(model, n, parts)
        parallel.gpt2_forward(team, model, tokens[:, :T], 1, T)
        decoder.fill_cache(T)
        probs = model.acts.probs[0, T - 1]
        for t in range(T, n):
            next_token = sample_mult(probs, V)
            tokens[0, t] = next_token
            yield next_token
            if t + 1 < n:
                decoder.start(next_token, t)
                team.run(lambda part, t=t: decoder.pass_share(part, t), range(parts))
                probs = decoder.probs
                softmax_forward(probs[None, None], decoder.logits[None, None], 1, 1, V, Vp)
