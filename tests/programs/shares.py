"""A right submission that keeps its activations channel by channel, leaves model.acts alone and has names of its own.

Two regions a layer, `mix` (a share of the heads) and `think` (a share of the hidden channels), whose partial sums the
main thread adds up; and one, `guess`, for the logits of the last position.
"""

from collections import deque
from functools import partial

import numpy as np

from lab.serial import sample_mult, softmax_forward
from lab.threadlib import Cond, Mutex, join, perform, region, spawn


class Crew:
    """k threads that do fn(task) for all tasks."""

    def __init__(self, k):
        self.k, self.mutex, self.changed = k, Mutex("list"), Cond("list changed")
        self.todo, self.open, self.ended = deque(), 0, False
        self.hands = [spawn(partial(self.live, "hand")) for _ in range(k)]

    def live(self, what, number):
        while True:
            with self.mutex:
                while not self.todo and not self.ended:
                    self.changed.wait(self.mutex)
                if not self.todo:
                    return
                fn, task = self.todo.popleft()
            perform(fn, task)
            with self.mutex:
                self.open -= 1
                self.changed.broadcast()

    def share_out(self, fn, tasks):
        with region(fn), self.mutex:
            self.todo.extend((fn, task) for task in tasks)
            self.open += len(tasks)
            self.changed.broadcast()
            while self.open:
                self.changed.wait(self.mutex)

    def stop(self):
        with self.mutex:
            self.ended = True
            self.changed.broadcast()
        join(*self.hands)


def parts(count, k):
    k = min(count, k)
    return [slice(count * i // k, count * (i + 1) // k) for i in range(k)]


def normalise(x, weight, bias):
    x = x - x.mean(axis=0)
    return x / np.sqrt((x * x).mean(axis=0) + 1e-5) * weight[:, None] + bias[:, None]


def one_pass(crew, model, tokens):
    """tokens -> logits (Vp) after the last of them; everything in between is (channels, positions)."""
    p, config, T = model.params, model.config, len(tokens)
    C, NH = config.channels, config.num_heads
    hs = C // NH
    x = (p.wte[tokens] + p.wpe[:T]).T
    for l in range(config.num_layers):
        heads, hidden = parts(NH, crew.k), parts(4 * C, crew.k)
        sums = np.zeros((len(heads), C, T), dtype=np.float32)
        normed = normalise(x, p.ln1w[l], p.ln1b[l])

        def mix(number, l=l, heads=heads, sums=sums, normed=normed):
            mine = slice(heads[number].start * hs, heads[number].stop * hs)
            weights, biases = p.qkvw[l].reshape(3, C, C)[:, mine], p.qkvb[l].reshape(3, C, 1)[:, mine]
            q, k, v = (np.matmul(weights, normed) + biases).reshape(3, -1, hs, T)
            scores = np.matmul(q.swapaxes(1, 2), k) / np.float32(np.sqrt(hs))
            scores = np.where(np.tri(T, dtype=bool), scores, np.float32(-np.inf))
            scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
            scores /= scores.sum(axis=-1, keepdims=True)
            np.matmul(p.attprojw[l][:, mine], np.matmul(v, scores.swapaxes(1, 2)).reshape(-1, T), out=sums[number])

        crew.share_out(mix, range(len(heads)))
        x = x + sums.sum(axis=0) + p.attprojb[l][:, None]
        sums = np.zeros((len(hidden), C, T), dtype=np.float32)
        normed = normalise(x, p.ln2w[l], p.ln2b[l])

        def think(number, l=l, hidden=hidden, sums=sums, normed=normed):
            h = p.fcw[l][hidden[number]] @ normed + p.fcb[l][hidden[number]][:, None]
            h = np.float32(0.5) * h * (1 + np.tanh(np.float32(np.sqrt(2 / np.pi)) * (h + np.float32(0.044715) * h**3)))
            np.matmul(p.fcprojw[l][:, hidden[number]], h, out=sums[number])

        crew.share_out(think, range(len(hidden)))
        x = x + sums.sum(axis=0) + p.fcprojb[l][:, None]
    last = normalise(x, p.lnfw, p.lnfb)[:, -1]
    logits = np.empty(config.padded_vocab_size, dtype=np.float32)

    def guess(rows):
        np.matmul(p.wte[rows], last, out=logits[rows])

    crew.share_out(guess, parts(config.padded_vocab_size, crew.k))
    return logits


def generate(model, prompt, n=10, workers=None):
    V, Vp = model.config.vocab_size, model.config.padded_vocab_size
    tokens, probs = list(prompt), np.empty((1, 1, Vp), dtype=np.float32)
    crew = Crew(workers or 2)
    try:
        while len(tokens) < n:
            logits = one_pass(crew, model, tokens)
            softmax_forward(probs, logits[None, None], 1, 1, V, Vp)
            tokens.append(sample_mult(probs[0, 0], V))
            yield tokens[-1]
    finally:
        crew.stop()
