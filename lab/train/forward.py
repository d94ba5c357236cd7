"""The forward pass of serial.py for training: the same functions, each doing a whole batch with few numpy operations.

Names, arguments and shapes are serial.py's (its glossary holds here too), with two additions: `workers` shares an
operation among threads, and crossentropy_forward measures the loss. A step of training needs B*T in the hundreds at
once, where one product of two matrices is many times faster than a product per position. All functions also work in
float64, which the tests of the derivatives use.
"""

from types import SimpleNamespace

import numpy as np

from lab.serial import GPT2, gpt2_allocate, residual_forward
from lab.train.split import WorkersLike, blocks, split

GELU_SCALING_FACTOR = float(np.sqrt(2.0 / np.pi))


def encoder_forward(out, inp, wte, wpe, B, T, C):
    """A token's vector plus its position's: out (B,T,C), inp (B,T) of token numbers, wte (V,C), wpe (maxT,C)."""
    np.take(wte, inp, axis=0, out=out)
    out += wpe[:T]


def layernorm_forward(out, mean, rstd, inp, weight, bias, B, T, C, workers=None):
    """Each position's vector to mean 0 and variance 1, then scaled and shifted.

    out and inp (B,T,C); mean and rstd (B,T), kept for the backward pass; weight and bias (C).
    """
    x, y, m, s = inp.reshape(B * T, C), out.reshape(B * T, C), mean.reshape(B * T), rstd.reshape(B * T)

    def part(piece):
        for rows in blocks(piece, C):
            np.mean(x[rows], axis=1, out=m[rows])
            block = x[rows] - m[rows, None]
            variance = np.einsum("rc,rc->r", block, block) / C
            np.divide(1.0, np.sqrt(variance + 1e-5), out=s[rows])
            block *= s[rows, None]
            block *= weight
            np.add(block, bias, out=y[rows])

    split(workers, part, B * T)


def matmul_forward(out, inp, weight, bias, B, T, C, OC, workers=None):
    """A fully connected layer: out (B,T,OC), inp (B,T,C), weight (OC,C), bias (OC) or None."""
    x, y = inp.reshape(B * T, C), out.reshape(B * T, OC)

    def columns(piece):  # of the output: each worker reads its own rows of the weights
        np.matmul(x, weight[piece].T, out=y[:, piece])
        if bias is not None:
            y[:, piece] += bias[piece]

    def rows(piece):  # of the output: each worker has its own positions
        np.matmul(x[piece], weight.T, out=y[piece])
        if bias is not None:
            y[piece] += bias

    if OC > B * T:
        split(workers, columns, OC)
    else:
        split(workers, rows, B * T)


def heads(qkv, C, NH):
    """Views of query, key and value in (B,T,3C), each (B,NH,T,hs)."""
    B, T, _ = qkv.shape
    parts = qkv.reshape(B, T, 3, NH, C // NH)
    return (parts[:, :, i].transpose(0, 2, 1, 3) for i in range(3))


def attention_forward(out, preatt, att, inp, B, T, C, NH, workers=None):
    """Each position looks back: out (B,T,C); preatt and att (B,NH,T,T), before and after the softmax; inp (B,T,3C)."""
    hs = C // NH
    query, key, value = heads(inp, C, NH)
    mixed = out.reshape(B, T, NH, hs).transpose(0, 2, 1, 3)
    future = np.triu(np.full((T, T), -np.inf, dtype=inp.dtype), 1)  # t2 > t gets weight 0

    def sequences(piece):
        for b in range(piece.start, piece.stop):
            np.matmul(query[b], key[b].transpose(0, 2, 1), out=preatt[b])
            preatt[b] *= hs**-0.5
            weights = np.add(preatt[b], future, out=att[b])
            weights -= weights.max(axis=-1, keepdims=True)
            np.exp(weights, out=weights)
            weights /= weights.sum(axis=-1, keepdims=True)
            np.matmul(weights, value[b], out=mixed[b])

    split(workers, sequences, B)


def gelu_forward(out, inp, N, workers=None):
    """The activation function, in its tanh approximation: out and inp are arrays of N numbers of any shape."""
    x, y = inp.reshape(N), out.reshape(N)

    def part(piece):
        for block in blocks(piece, 1):
            u = x[block]
            inner = u * u
            inner *= 0.044715 * GELU_SCALING_FACTOR
            inner += GELU_SCALING_FACTOR
            inner *= u
            np.tanh(inner, out=inner)
            inner += 1.0
            inner *= 0.5
            np.multiply(inner, u, out=y[block])

    split(workers, part, N)


def softmax_forward(probs, logits, B, T, V, Vp, workers=None):
    """Logits to probabilities: both (B,T,Vp). Only the V real tokens take part; the padding gets probability 0."""
    x, y = logits.reshape(B * T, Vp), probs.reshape(B * T, Vp)

    def part(piece):
        for rows in blocks(piece, Vp):
            row = np.subtract(x[rows, :V], x[rows, :V].max(axis=1, keepdims=True), out=y[rows, :V])
            np.exp(row, out=row)
            row *= 1.0 / row.sum(axis=1, keepdims=True)
            y[rows, V:] = 0.0

    split(workers, part, B * T)


def crossentropy_forward(losses, probs, targets, B, T, Vp):
    """losses (B,T), in nats: minus the logarithm of the probability that was given to the target.

    probs (B,T,Vp), targets (B,T) of token numbers.
    A probability too small for the number format counts as the smallest there is, so that a loss is never infinite.
    """
    chosen = np.take_along_axis(probs.reshape(B, T, Vp), targets[..., None].astype(np.intp), axis=2)[..., 0]
    np.maximum(chosen, np.finfo(probs.dtype).tiny, out=chosen)
    np.negative(np.log(chosen), out=losses)


def check_tokens(tokens: np.ndarray, V: int) -> None:
    """Raise ValueError, naming it, for a token outside the vocabulary."""
    outside = tokens[(tokens < 0) | (tokens >= V)]
    if outside.size:
        raise ValueError(f"token {outside[0]}: the vocabulary is 0 to {V - 1}")


def gpt2_forward(
    model: GPT2,
    inputs: np.ndarray,
    targets: np.ndarray | None,
    B: int,
    T: int,
    workers: WorkersLike | None = None,
    head_bias: np.ndarray | None = None,
    masks: SimpleNamespace | None = None,
) -> float:
    """inputs (B,T) -> model.acts; with targets (B,T) also acts.losses, and the mean loss is returned (without, nan).

    head_bias (Vp) is added to the logits (vocabulary.py has a use for it). masks are dropout's: encoded (B,T,C),
    attproj and fcproj (L,B,T,C). Raises ValueError for a token outside the vocabulary or a sequence longer than the
    model knows positions for.
    """
    config = model.config
    V, Vp, C = config.vocab_size, config.padded_vocab_size, config.channels
    if not 0 < T <= config.max_seq_len:
        raise ValueError(f"{T} tokens: this model takes 1 to {config.max_seq_len}")
    check_tokens(inputs, V)
    gpt2_allocate(model, B, T)
    p, a = model.params, model.acts
    encoder_forward(a.encoded, inputs, p.wte, p.wpe, B, T, C)
    drop(a.encoded, masks and masks.encoded)
    residual = a.encoded
    for l in range(config.num_layers):
        residual = layer_forward(model, l, residual, workers, masks)
    layernorm_forward(a.lnf, a.lnf_mean, a.lnf_rstd, residual, p.lnfw, p.lnfb, B, T, C, workers)
    matmul_forward(a.logits, a.lnf, p.wte, head_bias, B, T, C, Vp, workers)
    softmax_forward(a.probs, a.logits, B, T, V, Vp, workers)
    if targets is None:
        return float("nan")
    check_tokens(targets, V)
    crossentropy_forward(a.losses, a.probs, targets, B, T, Vp)
    return float(a.losses.mean())


def layer_forward(model, l, residual, workers, masks):
    """Layer l: what comes in, residual (B,T,C), goes on to the next as residual3[l], which is returned."""
    p, a, B, T = model.params, model.acts, model.batch_size, model.seq_len
    C = model.config.channels
    N = B * T * C
    layernorm_forward(a.ln1[l], a.ln1_mean[l], a.ln1_rstd[l], residual, p.ln1w[l], p.ln1b[l], B, T, C, workers)
    matmul_forward(a.qkv[l], a.ln1[l], p.qkvw[l], p.qkvb[l], B, T, C, 3 * C, workers)
    attention_forward(a.atty[l], a.preatt[l], a.att[l], a.qkv[l], B, T, C, model.config.num_heads, workers)
    matmul_forward(a.attproj[l], a.atty[l], p.attprojw[l], p.attprojb[l], B, T, C, C, workers)
    drop(a.attproj[l], masks and masks.attproj[l])
    residual_forward(a.residual2[l], residual, a.attproj[l], N)
    layernorm_forward(a.ln2[l], a.ln2_mean[l], a.ln2_rstd[l], a.residual2[l], p.ln2w[l], p.ln2b[l], B, T, C, workers)
    matmul_forward(a.fch[l], a.ln2[l], p.fcw[l], p.fcb[l], B, T, C, 4 * C, workers)
    gelu_forward(a.fch_gelu[l], a.fch[l], 4 * N, workers)
    matmul_forward(a.fcproj[l], a.fch_gelu[l], p.fcprojw[l], p.fcprojb[l], B, T, 4 * C, C, workers)
    drop(a.fcproj[l], masks and masks.fcproj[l])
    residual_forward(a.residual3[l], a.residual2[l], a.fcproj[l], N)
    return a.residual3[l]


def drop(values: np.ndarray, mask: np.ndarray | None) -> None:
    """Dropout, in place: a mask is 0 where a number is left out and 1/(1-p) where it stays; None drops nothing."""
    if mask is not None:
        values *= mask
