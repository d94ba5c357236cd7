"""The given program: GPT-2 inference on one thread, a port of gpt.c, function by function.

gpt.c is the forward half of llm.c. Read the two side by side: every function stands at its place, with its name, its
arguments in the same order, and its loops over b, t and h. Only the innermost loops, over channels (and over earlier
positions in attention), have become numpy operations on whole vectors.

    B     batch: sequences processed together (generate() uses 1)
    T     time: positions in a sequence            b, t, t2   counters of batch, position, earlier position
    C     channels: the length of a position's vector, 768 in GPT-2 124M
    OC    output channels of a matrix product
    L     layers, 12                               l          counter of layers
    NH    heads in attention, 12                   h          counter of heads
    hs    head size, C / NH
    V     vocabulary, 50257 tokens                 Vp         V padded for the GPU's sake, 50304
    maxT  the longest sequence, 1024

Where the time goes is for you to find out:  make profile
"""

import warnings
from collections.abc import Iterator, Sequence
from types import SimpleNamespace

import numpy as np

from lab.checkpoint import Config, carve, count_numbers, parameter_shapes, read_checkpoint

GPT2_EOT = 50256  # the end-of-text token, which also fills unused places

# ----------------------------------------------------------------------------------------------- all the layers' passes


def encoder_forward(out, inp, wte, wpe, B, T, C):
    """A token's vector plus its position's: out (B,T,C), inp (B,T) of token numbers, wte (V,C), wpe (maxT,C)."""
    for b in range(B):
        for t in range(T):
            out[b, t] = wte[inp[b, t]] + wpe[t]


def layernorm_forward(out, mean, rstd, inp, weight, bias, B, T, C):
    """Each position's vector to mean 0 and variance 1, then scaled and shifted.

    out and inp (B,T,C); mean and rstd (B,T), kept for the backward pass of training; weight and bias (C).
    """
    eps = np.float32(1e-5)
    for b in range(B):
        for t in range(T):
            x = inp[b, t]
            m = x.sum() / np.float32(C)
            xshift = x - m
            v = np.dot(xshift, xshift) / np.float32(C)
            s = np.float32(1.0) / np.sqrt(v + eps)
            out[b, t] = s * xshift * weight + bias
            mean[b, t] = m
            rstd[b, t] = s


def matmul_forward(out, inp, weight, bias, B, T, C, OC):
    """A fully connected layer: out (B,T,OC), inp (B,T,C), weight (OC,C), bias (OC) or None."""
    for b in range(B):
        for t in range(T):
            np.dot(weight, inp[b, t], out=out[b, t])
            if bias is not None:
                out[b, t] += bias


def attention_forward(out, preatt, att, inp, B, T, C, NH):
    """Each position looks back: a head mixes the values of positions t2 <= t by how well query t matches key t2.

    out (B,T,C); preatt and att (B,NH,T,T), the weights before and after the softmax; inp (B,T,3C) holds query, key,
    value.
    """
    hs = C // NH
    scale = np.float32(1.0 / np.sqrt(hs))
    for b in range(B):
        for t in range(T):
            for h in range(NH):
                query = inp[b, t, h * hs : (h + 1) * hs]
                keys = inp[b, : t + 1, C + h * hs : C + (h + 1) * hs]
                values = inp[b, : t + 1, 2 * C + h * hs : 2 * C + (h + 1) * hs]
                # pass 1: query dot key
                scores = preatt[b, h, t, : t + 1]
                np.dot(keys, query, out=scores)
                scores *= scale
                # pass 2 and 3: softmax; the future, t2 > t, gets weight 0
                weights = np.exp(scores - scores.max())
                weights /= weights.sum()
                att[b, h, t, : t + 1] = weights
                att[b, h, t, t + 1 :] = 0.0
                # pass 4: the weighted sum of the values
                np.dot(weights, values, out=out[b, t, h * hs : (h + 1) * hs])


GELU_SCALING_FACTOR = np.float32(np.sqrt(2.0 / np.pi))


def gelu_forward(out, inp, N):
    """The activation function, in its tanh approximation: out and inp are arrays of N numbers of any shape."""
    cube = np.float32(0.044715) * inp * inp * inp
    np.multiply(np.float32(0.5) * inp, np.float32(1.0) + np.tanh(GELU_SCALING_FACTOR * (inp + cube)), out=out)


def residual_forward(out, inp1, inp2, N):
    """out = inp1 + inp2, arrays of N numbers of any shape."""
    np.add(inp1, inp2, out=out)


def softmax_forward(probs, logits, B, T, V, Vp):
    """Logits to probabilities: both (B,T,Vp). Only the V real tokens take part; the padding gets probability 0.

    The exponentials are added one after the other in float32, as in gpt.c. With 50257 of them rounding makes the sum
    smaller by about a thousandth. A better sum, such as numpy's row.sum(), would move the coin to other tokens.
    """
    for b in range(B):
        for t in range(T):
            row = probs[b, t, :V]
            maxval = np.fmax.reduce(logits[b, t, :V], initial=np.float32(-10000.0))  # like C's >, fmax passes over NaN
            np.exp(logits[b, t, :V] - maxval, out=row)
            row /= np.cumsum(row, dtype=np.float32)[-1]
            probs[b, t, V:] = 0.0


# ------------------------------------------------------------------------------------------------------ the GPT-2 model


def activation_shapes(config: Config, B: int, T: int) -> dict[str, tuple[int, ...]]:
    """The 23 activation tensors of a forward pass over B sequences of T tokens, in gpt.c's order."""
    C, L, NH, Vp = config.channels, config.num_layers, config.num_heads, config.padded_vocab_size
    return {
        "encoded": (B, T, C),
        "ln1": (L, B, T, C),
        "ln1_mean": (L, B, T),
        "ln1_rstd": (L, B, T),
        "qkv": (L, B, T, 3 * C),
        "atty": (L, B, T, C),
        "preatt": (L, B, NH, T, T),
        "att": (L, B, NH, T, T),
        "attproj": (L, B, T, C),
        "residual2": (L, B, T, C),
        "ln2": (L, B, T, C),
        "ln2_mean": (L, B, T),
        "ln2_rstd": (L, B, T),
        "fch": (L, B, T, 4 * C),
        "fch_gelu": (L, B, T, 4 * C),
        "fcproj": (L, B, T, C),
        "residual3": (L, B, T, C),
        "lnf": (B, T, C),
        "lnf_mean": (B, T),
        "lnf_rstd": (B, T),
        "logits": (B, T, Vp),
        "probs": (B, T, Vp),
        "losses": (B, T),
    }


class GPT2:
    """A model: its parameters, and the activations of its latest forward pass, each in one flat float32 array.

    `params.wte`, `params.qkvw` ... and `acts.att`, `acts.fch` ... are views into the two arrays.
    """

    def __init__(self, config: Config, params_memory: np.ndarray) -> None:
        self.config = config
        self.params_memory = params_memory
        self.params = SimpleNamespace(**carve(params_memory, parameter_shapes(config)))
        self.acts_memory: np.ndarray = np.zeros(0, dtype=np.float32)
        self.acts = SimpleNamespace()
        self.batch_size = 0  # B and T of the activations
        self.seq_len = 0


def gpt2_build_from_checkpoint(checkpoint_path) -> GPT2:
    """Open a model. Raises lab.checkpoint.CheckpointError, one line, for a file that is not one."""
    config, params_memory = read_checkpoint(checkpoint_path)
    return GPT2(config, params_memory)


def gpt2_allocate(model: GPT2, B: int, T: int) -> None:
    """Point model.acts at activations for B sequences of T tokens, in the memory there is if that is large enough."""
    if (model.batch_size, model.seq_len) == (B, T):
        return
    shapes = activation_shapes(model.config, B, T)
    size = count_numbers(shapes)
    if model.acts_memory.size < size:
        model.acts_memory = np.zeros(size, dtype=np.float32)
    model.acts = SimpleNamespace(**carve(model.acts_memory, shapes))
    model.batch_size, model.seq_len = B, T


def gpt2_forward(model: GPT2, inputs: np.ndarray, B: int, T: int) -> None:
    """The forward pass: inputs (B,T) of token numbers -> model.acts, with the next token's probabilities in acts.probs.

    Raises ValueError for a token outside the vocabulary or a sequence longer than the model knows positions for.
    """
    config = model.config
    V, Vp, L, NH, C = config.vocab_size, config.padded_vocab_size, config.num_layers, config.num_heads, config.channels
    if not 0 < T <= config.max_seq_len:
        raise ValueError(f"{T} tokens: this model takes 1 to {config.max_seq_len}")
    for token in inputs.reshape(-1):
        if not 0 <= token < V:
            raise ValueError(f"token {token}: the vocabulary is 0 to {V - 1}")
    gpt2_allocate(model, B, T)
    params, acts = model.params, model.acts

    encoder_forward(acts.encoded, inputs, params.wte, params.wpe, B, T, C)  # encoding goes into residual[0]
    residual = acts.encoded
    for l in range(L):
        layernorm_forward(
            acts.ln1[l], acts.ln1_mean[l], acts.ln1_rstd[l], residual, params.ln1w[l], params.ln1b[l], B, T, C
        )
        matmul_forward(acts.qkv[l], acts.ln1[l], params.qkvw[l], params.qkvb[l], B, T, C, 3 * C)
        attention_forward(acts.atty[l], acts.preatt[l], acts.att[l], acts.qkv[l], B, T, C, NH)
        matmul_forward(acts.attproj[l], acts.atty[l], params.attprojw[l], params.attprojb[l], B, T, C, C)
        residual_forward(acts.residual2[l], residual, acts.attproj[l], B * T * C)
        layernorm_forward(
            acts.ln2[l], acts.ln2_mean[l], acts.ln2_rstd[l], acts.residual2[l], params.ln2w[l], params.ln2b[l], B, T, C
        )
        matmul_forward(acts.fch[l], acts.ln2[l], params.fcw[l], params.fcb[l], B, T, C, 4 * C)
        gelu_forward(acts.fch_gelu[l], acts.fch[l], B * T * 4 * C)
        matmul_forward(acts.fcproj[l], acts.fch_gelu[l], params.fcprojw[l], params.fcprojb[l], B, T, 4 * C, C)
        residual_forward(acts.residual3[l], acts.residual2[l], acts.fcproj[l], B * T * C)
        residual = acts.residual3[l]
    layernorm_forward(acts.lnf, acts.lnf_mean, acts.lnf_rstd, residual, params.lnfw, params.lnfb, B, T, C)
    matmul_forward(acts.logits, acts.lnf, params.wte, None, B, T, C, Vp)
    softmax_forward(acts.probs, acts.logits, B, T, V, Vp)


# -------------------------------------------------------------------------------------------------------- the sampler


def sample_mult(probabilities: np.ndarray, n: int, coin: float = 0.5) -> int:
    """The first of n tokens at which the running float32 sum of the probabilities, in order, exceeds coin.

    gpt.c's coin is always 0.5, so that the same prompt gives the same tokens. Rounding can leave the whole sum at or
    below the coin: then it is the last token. It is the last one, too, if the probabilities are NaN, as those of a
    broken model are: no sum exceeds the coin. A warning says so.
    """
    cdf = np.cumsum(probabilities[:n], dtype=np.float32)
    if np.isnan(cdf[-1]):
        warnings.warn("the model's probabilities are NaN: its tokens mean nothing", RuntimeWarning, stacklevel=2)
    exceeds = cdf > np.float32(coin)
    token = int(exceeds.argmax())
    return token if exceeds[token] else n - 1


# -------------------------------------------------------------------------------------------------------- the main loop


def generate(model: GPT2, prompt: Sequence[int], n: int = 10) -> Iterator[int]:
    """Yield each token as it is made, until prompt and generated tokens are n together.

    Like gpt.c, it runs the whole sequence through the model again for each token. Raises ValueError as gpt2_forward()
    does.
    """
    tokens = np.full((1, n), GPT2_EOT, dtype=np.int32)
    tokens[0, : len(prompt)] = prompt
    gpt2_allocate(model, 1, max(n - 1, 1))  # memory for the longest pass, once
    for t in range(len(prompt), n):
        gpt2_forward(model, tokens[:, :t], 1, t)
        next_token = sample_mult(model.acts.probs[0, t - 1], model.config.vocab_size)
        tokens[0, t] = next_token
        yield next_token
