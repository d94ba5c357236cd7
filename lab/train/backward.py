"""The backward pass: how the loss changes with every parameter, forward.py's functions in reverse.

Each function X_backward belongs to X_forward; dY stands for the derivative of the loss with respect to Y and has Y's
shape, so the shapes are those of serial.py. The same glossary holds: B, T, C, OC, L, NH, hs, V, Vp.

Two rules about what is written, where llm.c adds everywhere to arrays that it clears before each step:

    a gradient is written over, so nothing has to be cleared ...
    ... except where two paths meet, and there a docstring says "adds": the residual stream, and wte, which is both the
    first layer and the last

Every function works in float32 and float64; tests compare them with numerical derivatives in float64.
"""

from types import SimpleNamespace

import numpy as np

from lab.checkpoint import Config, carve, count_numbers, count_parameters, parameter_shapes
from lab.serial import GPT2
from lab.train.forward import GELU_SCALING_FACTOR, drop, heads
from lab.train.split import WorkersLike, blocks, split


def crossentropy_softmax_backward(dlogits, dlosses, probs, targets, B, T, V, Vp, workers=None):
    """Through the loss and the softmax at once: dlogits = (probs - 1 at the target) * dlosses.

    dlogits and probs (B,T,Vp), dlosses (B,T), targets (B,T). The padding, V to Vp, gets 0.
    """
    dx, p = dlogits.reshape(B * T, Vp), probs.reshape(B * T, Vp)
    d, chosen = dlosses.reshape(B * T), targets.reshape(B * T)

    def part(piece):
        for rows in blocks(piece, Vp):
            np.multiply(p[rows], d[rows, None], out=dx[rows])
            dx[np.arange(rows.start, rows.stop), chosen[rows]] -= d[rows]

    split(workers, part, B * T)


def matmul_backward(dinp, dweight, dbias, dout, inp, weight, B, T, C, OC, workers=None):
    """dinp and inp (B,T,C), dweight and weight (OC,C), dbias (OC) or None, dout (B,T,OC)."""
    x, dx, dy = inp.reshape(B * T, C), dinp.reshape(B * T, C), dout.reshape(B * T, OC)

    def of_weight(piece):
        np.matmul(dy[:, piece].T, x, out=dweight[piece])
        if dbias is not None:
            np.sum(dy[:, piece], axis=0, out=dbias[piece])

    if OC > 4 * B * T and C >= 256:  # with few positions the weights are what has to be read: read them once
        split(workers, lambda columns: np.matmul(dy, weight[:, columns], out=dx[:, columns]), C)
    else:
        split(workers, lambda rows: np.matmul(dy[rows], weight, out=dx[rows]), B * T)
    split(workers, of_weight, OC)


def layernorm_backward(dinp, dweight, dbias, dout, inp, weight, mean, rstd, B, T, C, workers=None):
    """Adds to dinp (B,T,C), which holds the residual stream's own gradient; docs/layernorm.md has the derivation.

    dout and inp (B,T,C), dweight, dbias and weight (C), mean and rstd (B,T).
    """
    x, dx, dy = inp.reshape(B * T, C), dinp.reshape(B * T, C), dout.reshape(B * T, C)
    m, s = mean.reshape(B * T), rstd.reshape(B * T)
    shares = {}  # each block's part of dweight and dbias, added up in order at the end

    def part(piece):
        for rows in blocks(piece, C):
            norm = x[rows] - m[rows, None]
            norm *= s[rows, None]
            shares[rows.start] = np.einsum("rc,rc->c", dy[rows], norm), dy[rows].sum(axis=0)
            dnorm = dy[rows] * weight
            projection = np.einsum("rc,rc->r", dnorm, norm) / C
            dnorm -= dnorm.mean(axis=1, keepdims=True)
            norm *= projection[:, None]
            dnorm -= norm
            dnorm *= s[rows, None]
            dx[rows] += dnorm

    split(workers, part, B * T)
    dweight[...] = sum(shares[start][0] for start in sorted(shares))
    dbias[...] = sum(shares[start][1] for start in sorted(shares))


def attention_backward(dinp, dpreatt, datt, dout, inp, att, B, T, C, NH, workers=None):
    """dinp and inp (B,T,3C), dpreatt, datt and att (B,NH,T,T), dout (B,T,C)."""
    hs = C // NH
    query, key, value = heads(inp, C, NH)
    dquery, dkey, dvalue = heads(dinp, C, NH)
    dmixed = dout.reshape(B, T, NH, hs).transpose(0, 2, 1, 3)

    def sequences(piece):
        for b in range(piece.start, piece.stop):
            # pass 4, the sum of the values
            np.matmul(dmixed[b], value[b].transpose(0, 2, 1), out=datt[b])
            np.matmul(att[b].transpose(0, 2, 1), dmixed[b], out=dvalue[b])
            # pass 2 and 3, the softmax; its weight is 0 in the future
            of_row = np.einsum("hij,hij->hi", att[b], datt[b])
            np.subtract(datt[b], of_row[..., None], out=dpreatt[b])
            dpreatt[b] *= att[b]
            # pass 1, query dot key
            dpreatt[b] *= hs**-0.5
            np.matmul(dpreatt[b], key[b], out=dquery[b])
            np.matmul(dpreatt[b].transpose(0, 2, 1), query[b], out=dkey[b])
            dpreatt[b] *= hs**0.5

    split(workers, sequences, B)


def gelu_backward(dinp, inp, dout, N, workers=None):
    """dinp, inp and dout are arrays of N numbers of any shape; dinp may be dout."""
    x, dx, dy = inp.reshape(N), dinp.reshape(N), dout.reshape(N)

    def part(piece):
        for block in blocks(piece, 1):
            u = x[block]
            square = u * u
            tanh = square * (0.044715 * GELU_SCALING_FACTOR)
            tanh += GELU_SCALING_FACTOR
            tanh *= u
            np.tanh(tanh, out=tanh)
            square *= 3 * 0.044715 * GELU_SCALING_FACTOR  # becomes the derivative of what tanh is taken of
            square += GELU_SCALING_FACTOR
            square *= u
            slope = tanh * tanh
            np.subtract(1.0, slope, out=slope)
            slope *= square
            slope += tanh
            slope += 1.0
            slope *= 0.5
            np.multiply(slope, dy[block], out=dx[block])

    split(workers, part, N)


def encoder_backward(dwte, dwpe, dout, inp, B, T, C):
    """Adds to dwte (V,C), which holds the head's gradient by then; writes dwpe (maxT,C).

    dout (B,T,C), inp (B,T) of token numbers.
    """
    np.sum(dout, axis=0, out=dwpe[:T])
    dwpe[T:] = 0.0
    tokens, rows = inp.reshape(B * T), dout.reshape(B * T, C)
    order = np.argsort(tokens, kind="stable")  # equal tokens side by side, so that each one's rows are summed in one go
    distinct, starts = np.unique(tokens[order], return_index=True)
    dwte[distinct] += np.add.reduceat(rows[order], starts, axis=0)


# ----------------------------------------------------------------------------------------------------- the whole model


def gradient_shapes(config: Config, B: int, T: int) -> dict[str, tuple[int, ...]]:
    """The gradients of activations that are kept: of one layer at a time, the one before takes over its memory."""
    C, NH = config.channels, config.num_heads
    return {
        "residual": (B, T, C),
        "channels": (B, T, C),
        "qkv": (B, T, 3 * C),
        "preatt": (B, NH, T, T),
        "att": (B, NH, T, T),
        "fch": (B, T, 4 * C),
        "losses": (B, T),
    }


class Gradients:
    """All gradients of a model: of the parameters, one flat array in checkpoint order, and of the activations, another.

    `params.wte`, `acts.qkv` ... are views. The gradient of the logits has no memory of its own: it takes that of
    acts.logits.
    """

    def __init__(self, config: Config) -> None:
        self.config = config
        self.params_memory = np.zeros(count_parameters(config), dtype=np.float32)
        self.params = SimpleNamespace(**carve(self.params_memory, parameter_shapes(config)))
        self.acts_memory = np.zeros(0, dtype=np.float32)
        self.acts = SimpleNamespace()

    def allocate(self, B: int, T: int) -> None:
        """Point acts at gradients for B sequences of T tokens, in the memory there is if that is large enough."""
        shapes = gradient_shapes(self.config, B, T)
        if self.acts_memory.size < (size := count_numbers(shapes)):
            self.acts_memory = np.zeros(size, dtype=np.float32)
        self.acts = SimpleNamespace(**carve(self.acts_memory, shapes))


def gpt2_backward(
    model: GPT2,
    grads: Gradients,
    inputs: np.ndarray,
    targets: np.ndarray,
    workers: WorkersLike | None = None,
    masks: SimpleNamespace | None = None,
) -> None:
    """After gpt2_forward of inputs and targets (B,T), with the same masks: the mean loss's gradients into `grads`.

    Destroys acts.logits; everything else of the forward pass stays.
    """
    config, B, T = model.config, model.batch_size, model.seq_len
    V, Vp, C = config.vocab_size, config.padded_vocab_size, config.channels
    grads.allocate(B, T)
    p, a, dp, d = model.params, model.acts, grads.params, grads.acts
    d.losses[...] = 1.0 / (B * T)  # the loss is the mean over all positions
    dlogits = a.logits
    crossentropy_softmax_backward(dlogits, d.losses, a.probs, targets, B, T, V, Vp, workers)
    matmul_backward(d.channels, dp.wte, None, dlogits, a.lnf, p.wte, B, T, C, Vp, workers)
    d.residual[...] = 0.0
    layernorm_backward(
        d.residual, dp.lnfw, dp.lnfb, d.channels, a.residual3[-1], p.lnfw, a.lnf_mean, a.lnf_rstd, B, T, C, workers
    )
    for l in reversed(range(config.num_layers)):
        layer_backward(model, grads, l, workers, masks)
    drop(d.residual, masks and masks.encoded)
    encoder_backward(dp.wte, dp.wpe, d.residual, inputs, B, T, C)


def layer_backward(model, grads, l, workers, masks):
    """Layer l: the residual stream's gradient, of residual3[l], then of residual2[l], becomes that of what came in."""
    p, a, dp, d = model.params, model.acts, grads.params, grads.acts
    B, T, C, NH = model.batch_size, model.seq_len, model.config.channels, model.config.num_heads
    residual = a.residual3[l - 1] if l else a.encoded
    dbranch = d.residual if masks is None else d.residual * masks.fcproj[l]
    matmul_backward(d.fch, dp.fcprojw[l], dp.fcprojb[l], dbranch, a.fch_gelu[l], p.fcprojw[l], B, T, 4 * C, C, workers)
    gelu_backward(d.fch, a.fch[l], d.fch, B * T * 4 * C, workers)
    matmul_backward(d.channels, dp.fcw[l], dp.fcb[l], d.fch, a.ln2[l], p.fcw[l], B, T, C, 4 * C, workers)
    layernorm_backward(
        d.residual, dp.ln2w[l], dp.ln2b[l], d.channels, a.residual2[l], p.ln2w[l], a.ln2_mean[l], a.ln2_rstd[l],
        B, T, C, workers,
    )  # fmt: skip
    dbranch = d.residual if masks is None else d.residual * masks.attproj[l]
    matmul_backward(d.channels, dp.attprojw[l], dp.attprojb[l], dbranch, a.atty[l], p.attprojw[l], B, T, C, C, workers)
    attention_backward(d.qkv, d.preatt, d.att, d.channels, a.qkv[l], a.att[l], B, T, C, NH, workers)
    matmul_backward(d.channels, dp.qkvw[l], dp.qkvb[l], d.qkv, a.ln1[l], p.qkvw[l], B, T, C, 3 * C, workers)
    layernorm_backward(
        d.residual, dp.ln1w[l], dp.ln1b[l], d.channels, residual, p.ln1w[l], a.ln1_mean[l], a.ln1_rstd[l],
        B, T, C, workers,
    )  # fmt: skip
