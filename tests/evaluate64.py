"""GPT-2 in float64, written from the formulas and not from the lab: what all programs are compared with.

`zeroed` damages the evaluation as a wrong parallel program would: those channels of an operation's output stay 0.
"""

from dataclasses import dataclass

import numpy as np

from lab.checkpoint import Config, carve, parameter_shapes


@dataclass(frozen=True)
class Zeroed:
    """Output channels of one operation (qkv, atty, attproj, fch, fcproj, logits) in one layer that stay 0."""

    operation: str
    layer: int
    channels: slice


def evaluate(config: Config, params_memory: np.ndarray, tokens, zeroed: Zeroed | None = None) -> dict[str, np.ndarray]:
    """T tokens -> the activations in float64, layers stacked: qkv (L,T,3C), att (L,NH,T,T), logits (T,V) and others."""
    T, C, NH, V = len(tokens), config.channels, config.num_heads, config.vocab_size
    p = {name: tensor.astype(np.float64) for name, tensor in carve(params_memory, parameter_shapes(config)).items()}
    kept: dict[str, list[np.ndarray]] = {}

    def keep(name: str, layer: int, value: np.ndarray) -> np.ndarray:
        if zeroed and (zeroed.operation, zeroed.layer) == (name, layer):
            value[:, zeroed.channels] = 0.0
        kept.setdefault(name, []).append(value)
        return value

    x = p["wte"][list(tokens)] + p["wpe"][:T]
    for l in range(config.num_layers):
        qkv = keep("qkv", l, normalise(x, p["ln1w"][l], p["ln1b"][l]) @ p["qkvw"][l].T + p["qkvb"][l])
        q, k, v = (part.reshape(T, NH, C // NH).transpose(1, 0, 2) for part in np.split(qkv, 3, axis=1))
        scores = q @ k.transpose(0, 2, 1) / np.sqrt(C // NH) + np.triu(np.full((T, T), -np.inf), 1)
        att = softmax(scores)
        kept.setdefault("att", []).append(att)
        atty = keep("atty", l, (att @ v).transpose(1, 0, 2).reshape(T, C))
        x = x + keep("attproj", l, atty @ p["attprojw"][l].T + p["attprojb"][l])
        fch = keep("fch", l, normalise(x, p["ln2w"][l], p["ln2b"][l]) @ p["fcw"][l].T + p["fcb"][l])
        gelu = 0.5 * fch * (1 + np.tanh(np.sqrt(2 / np.pi) * (fch + 0.044715 * fch**3)))
        x = x + keep("fcproj", l, gelu @ p["fcprojw"][l].T + p["fcprojb"][l])
    logits = keep("logits", 0, normalise(x, p["lnfw"], p["lnfb"]) @ p["wte"][:V].T)
    kept["probs"] = [softmax(logits)]
    return {name: np.stack(values) if len(values) > 1 else values[0] for name, values in kept.items()}


def normalise(x: np.ndarray, weight: np.ndarray, bias: np.ndarray) -> np.ndarray:
    """Layer normalisation of the last axis."""
    centred = x - x.mean(axis=-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + 1e-5) * weight + bias


def softmax(x: np.ndarray) -> np.ndarray:
    """Softmax of the last axis."""
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def sampled(probs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """probs (T,V) -> for each position the token that the coin 0.5 picks, and the running sum's distance from 0.5."""
    sums = np.cumsum(probs, axis=-1)
    return (sums > 0.5).argmax(axis=-1), np.abs(sums - 0.5).min(axis=-1)


def generate64(config: Config, params_memory: np.ndarray, prompt, n: int) -> tuple[list[int], float]:
    """The tokens after `prompt` until n in all, and the smallest margin on the way."""
    tokens, margins = list(prompt), []
    while len(tokens) < n:
        picked, margin = sampled(evaluate(config, params_memory, tokens)["probs"][-1:])
        tokens.append(int(picked[0]))
        margins.append(float(margin[0]))
    return tokens[len(prompt) :], min(margins)


def notices(config: Config, params_memory: np.ndarray, prompt, tokens, damage: Zeroed) -> bool:
    """Whether the damaged program writes other tokens than these: it does as soon as one step differs."""
    sequence = [*prompt, *tokens]
    probs = evaluate(config, params_memory, sequence[:-1], damage)["probs"]
    return bool((sampled(probs)[0][len(prompt) - 1 :] != tokens).any())


def damages(config: Config) -> list[Zeroed]:
    """Each head; the last row of each block when 1 to 6 workers share an operation; the vocabulary's last row."""
    C, V, hs = config.channels, config.vocab_size, config.channels // config.num_heads
    found = [Zeroed("logits", 0, slice(V - 1, V))]
    for l in range(config.num_layers):
        found += [Zeroed("atty", l, slice(h * hs, (h + 1) * hs)) for h in range(config.num_heads)]
        for operation, rows in (("qkv", 3 * C), ("attproj", C), ("fch", 4 * C), ("fcproj", C)):
            ends = sorted({rows * block // k for k in range(1, 7) for block in range(1, k + 1)})
            found += [Zeroed(operation, l, slice(end - 1, end)) for end in ends]
    return found
