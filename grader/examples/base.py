"""A right submission, short and plain: what most files in wrong/ and attacks/ stand on.

A file there that says `# on: base` is put below this one, and redefines what it wants to get wrong; what stands here
it still finds as right_generate, right_forward and so on.
"""

import numpy as np
from lab.serial import (
    GPT2_EOT,
    encoder_forward,
    gelu_forward,
    gpt2_allocate,
    residual_forward,
    sample_mult,
)
from lab.threadlib import Mutex, Semaphore, join, perform, region, spawn


class Workers:
    """k static workers; worker number i does the tasks i-1, i-1+k, i-1+2k ... of every region."""

    def __init__(self, k):
        self.k, self.fn, self.tasks, self.end = k, None, [], False
        self.start = [Semaphore(0, f"start {i}") for i in range(k)]
        self.done = Semaphore(0, "done")
        self.threads = [spawn(self.work) for _ in range(k)]

    def work(self, number):
        while True:
            self.start[number - 1].P()
            if self.end:
                return
            for task in self.share(number):
                perform(self.fn, task)
            self.done.V()

    def share(self, number):
        return self.tasks[number - 1 :: self.k]

    def run(self, fn, tasks):
        with region(fn):
            self.begin(fn, tasks)
            for _ in self.start:
                self.done.P()

    def begin(self, fn, tasks):
        self.fn, self.tasks = fn, list(tasks)
        for semaphore in self.start:
            semaphore.V()

    def close(self):
        self.end = True
        for semaphore in self.start:
            semaphore.V()
        join(*self.threads)


def split(count, k):
    """range(count) in k slices."""
    return [slice(count * i // k, count * (i + 1) // k) for i in range(k)]


def product(weight, bias, rows, columns):
    """Some output channels of all positions: (rows,T) of weight (OC,C), bias (OC) or None, columns (C,T)."""
    block = weight[rows] @ columns
    if bias is not None:
        block += bias[rows, None]
    return block


def matmul(workers, out, inp, weight, bias):
    """out (T,OC), inp (T,C), weight (OC,C): split over OC."""
    columns = np.ascontiguousarray(inp.T)

    def matmul_block(rows):
        out[:, rows] = product(weight, bias, rows, columns).T

    workers.run(matmul_block, split(weight.shape[0], workers.k))


def attention(workers, out, preatt, att, inp, NH):
    """out (T,C), preatt and att (NH,T,T), inp (T,3C): split over heads."""
    T, C = out.shape
    hs = C // NH
    future = np.triu(np.full((T, T), -np.inf, dtype=np.float32), k=1)

    def attention_heads(heads):
        for h in range(heads.start, heads.stop):
            query, key, value = (inp[:, i * C + h * hs : i * C + (h + 1) * hs] for i in range(3))
            preatt[h] = query @ key.T / np.float32(np.sqrt(hs))
            weights = np.exp(preatt[h] + future - (preatt[h] + future).max(axis=-1, keepdims=True))
            att[h] = weights / weights.sum(axis=-1, keepdims=True)
            out[:, h * hs : (h + 1) * hs] = att[h] @ value

    workers.run(attention_heads, split(NH, workers.k))


def layernorm(out, inp, weight, bias):
    """out and inp (T,C), all positions at once; weight and bias (C)."""
    shifted = inp - inp.mean(axis=-1, keepdims=True)
    variance = (shifted * shifted).mean(axis=-1, keepdims=True)
    out[:] = shifted / np.sqrt(variance + np.float32(1e-5)) * weight + bias


def softmax(probs, logits, V):
    """probs and logits (Vp): the V real tokens only."""
    probs[:V] = np.exp(logits[:V] - logits[:V].max())
    probs[:V] /= np.cumsum(probs[:V], dtype=np.float32)[-1]
    probs[V:] = 0


def forward(workers, model, tokens, T):
    config, p, a = model.config, model.params, model.acts
    C, NH, V = config.channels, config.num_heads, config.vocab_size
    gpt2_allocate(model, 1, T)
    a = model.acts
    encoder_forward(a.encoded, tokens, p.wte, p.wpe, 1, T, C)
    residual = a.encoded
    for l in range(config.num_layers):
        layernorm(a.ln1[l, 0], residual[0], p.ln1w[l], p.ln1b[l])
        matmul(workers, a.qkv[l, 0], a.ln1[l, 0], p.qkvw[l], p.qkvb[l])
        attention(workers, a.atty[l, 0], a.preatt[l, 0], a.att[l, 0], a.qkv[l, 0], NH)
        matmul(workers, a.attproj[l, 0], a.atty[l, 0], p.attprojw[l], p.attprojb[l])
        residual_forward(a.residual2[l], residual, a.attproj[l], T * C)
        layernorm(a.ln2[l, 0], a.residual2[l, 0], p.ln2w[l], p.ln2b[l])
        matmul(workers, a.fch[l, 0], a.ln2[l, 0], p.fcw[l], p.fcb[l])
        gelu_forward(a.fch_gelu[l], a.fch[l], T * 4 * C)
        matmul(workers, a.fcproj[l, 0], a.fch_gelu[l, 0], p.fcprojw[l], p.fcprojb[l])
        residual_forward(a.residual3[l], a.residual2[l], a.fcproj[l], T * C)
        residual = a.residual3[l]
    layernorm(a.lnf[0], residual[0], p.lnfw, p.lnfb)
    matmul(workers, a.logits[0, T - 1 :], a.lnf[0, T - 1 :], p.wte, None)
    softmax(a.probs[0, T - 1], a.logits[0, T - 1], V)
    return a.probs[0, T - 1]


def sample(probs, V):
    return sample_mult(probs, V)


def tokens_of(team, model, prompt, n):
    tokens = np.full((1, n), GPT2_EOT, dtype=np.int32)
    tokens[0, : len(prompt)] = prompt
    gpt2_allocate(model, 1, n - 1)
    for t in range(len(prompt), n):
        tokens[0, t] = sample(forward(team, model, tokens[:, :t], t), model.config.vocab_size)
        yield int(tokens[0, t])


def generate(model, prompt, n, workers):
    team = Workers(workers)
    try:
        yield from tokens_of(team, model, prompt, n)
    finally:
        team.close()


right_split, right_matmul, right_attention = split, matmul, attention
right_forward, right_generate, right_run = forward, generate, Workers.run
