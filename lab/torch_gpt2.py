"""GPT-2 in PyTorch, from the lab's own checkpoints: what bench.py measures beside, and the rungs of the ladder change.

Names and shapes are those of lab/serial.py (its glossary holds here too): each line can be read beside its loop there.
"""
# pyright: reportMissingImports=false

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from lab.checkpoint import carve, parameter_shapes, read_checkpoint

WHOLE = ("wte", "wpe", "lnfw", "lnfb")  # the other tensors have one slice for each layer


def written_out(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """Causal attention as one writes it down, (T,T) matrices and all: q, k, v (B,NH,T,hs) -> (B,NH,T,hs)."""
    T, hs = q.shape[-2:]
    att = (q @ k.transpose(-2, -1)) * hs**-0.5
    future = torch.ones(T, T, dtype=torch.bool, device=q.device).triu(1)
    return F.softmax(att.masked_fill(future, float("-inf")), dim=-1) @ v


def flash(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """The same in one kernel that keeps a tile of it on the chip and never writes a (T,T) matrix to memory."""
    return F.scaled_dot_product_attention(q, k, v, is_causal=True)


class Module(nn.Module):
    """A module whose parameters and buffers have the names of a checkpoint's tensors, which no type checker knows."""

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...


class Layer(Module):
    """One of the L layers; its parameters have the names of the checkpoint's tensors."""

    def __init__(self, tensors: dict[str, np.ndarray]) -> None:
        super().__init__()
        for name, values in tensors.items():
            setattr(self, name, nn.Parameter(torch.from_numpy(np.array(values))))

    def qkv(self, x: torch.Tensor, NH: int) -> tuple[torch.Tensor, ...]:
        """Query, key and value of x (B,T,C), each (B,NH,T,hs)."""
        B, T, C = x.shape
        qkv = F.linear(F.layer_norm(x, (C,), self.ln1w, self.ln1b), self.qkvw, self.qkvb)
        return qkv.view(B, T, 3, NH, C // NH).permute(2, 0, 3, 1, 4).unbind()

    def rest(self, x: torch.Tensor, att: torch.Tensor) -> torch.Tensor:
        """What follows attention: x (B,T,C), att (B,NH,T,hs) -> (B,T,C)."""
        C = x.shape[-1]
        x = x + F.linear(att.transpose(1, 2).reshape(x.shape), self.attprojw, self.attprojb)
        h = F.linear(F.layer_norm(x, (C,), self.ln2w, self.ln2b), self.fcw, self.fcb)
        return x + F.linear(F.gelu(h, approximate="tanh"), self.fcprojw, self.fcprojb)


class GPT2(Module):
    """GPT-2 with the vocabulary as the tokenizer has it, not padded. Raises CheckpointError."""

    attention: Callable[..., torch.Tensor] = staticmethod(written_out)
    layers: Any  # an nn.ModuleList of Layer

    def __init__(self, checkpoint: str) -> None:
        super().__init__()
        self.config, memory = read_checkpoint(checkpoint)
        tensors = carve(memory, parameter_shapes(self.config))
        tensors["wte"] = tensors["wte"][: self.config.vocab_size]
        for name in WHOLE:
            setattr(self, name, nn.Parameter(torch.from_numpy(np.array(tensors[name]))))
        per_layer = [name for name in tensors if name not in WHOLE]
        self.layers = nn.ModuleList(
            Layer({name: tensors[name][l] for name in per_layer}) for l in range(self.config.num_layers)
        )
        self.register_buffer("padding", None)

    def pad_vocabulary(self) -> None:
        """Rows of zeros until the vocabulary is a multiple of 128; their logits are -inf, so they get probability 0."""
        V = self.config.vocab_size
        Vp = -(-V // 128) * 128
        self.wte = nn.Parameter(F.pad(self.wte.detach(), (0, 0, 0, Vp - V)))
        self.padding = torch.zeros(Vp, device=self.wte.device)
        self.padding[V:] = float("-inf")

    def logits(self, x: torch.Tensor) -> torch.Tensor:
        """x (B,T,C) -> (B,T,V), or (B,T,Vp) with a padded vocabulary."""
        padding = None if self.padding is None else self.padding.to(self.wte.dtype)
        return F.linear(F.layer_norm(x, x.shape[-1:], self.lnfw, self.lnfb), self.wte, padding)

    def encode(self, inputs: torch.Tensor, positions: torch.Tensor) -> torch.Tensor:
        """inputs (B,T), positions (T) -> (B,T,C)."""
        return self.wte[inputs] + self.wpe[positions]

    def forward(self, inputs: torch.Tensor, last: bool = False) -> torch.Tensor:
        """inputs (B,T) -> logits (B,T,V), or (B,1,V) for the last position alone."""
        x = self.encode(inputs, torch.arange(inputs.shape[1], device=inputs.device))
        for layer in self.layers:
            x = layer.rest(x, self.attention(*layer.qkv(x, self.config.num_heads)))
        return self.logits(x[:, -1:] if last else x)

    def loss(self, inputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """The mean loss in nats: inputs and targets (B,T)."""
        return F.cross_entropy(self(inputs).flatten(0, 1).float(), targets.flatten())


class Cache(Module):
    """Keys and values of up to n positions; their shapes and addresses stay, as CUDA graphs need it."""

    def __init__(self, model: GPT2, n: int) -> None:
        super().__init__()
        config, weight = model.config, model.wte
        shape = (config.num_layers, 1, config.num_heads, n, config.channels // config.num_heads)
        self.model = model
        for name in ("keys", "values"):
            self.register_buffer(name, torch.zeros(shape, dtype=weight.dtype, device=weight.device))
        self.register_buffer("places", torch.arange(n, device=weight.device))

    def forward(self, tokens: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """tokens (1,T) at positions t (T), all before them known -> logits (V) of the last."""
        model = self.model
        x = model.encode(tokens, t)
        seen = (self.places <= t[:, None])[None, None]
        for layer, keys, values in zip(model.layers, self.keys, self.values, strict=True):
            q, k, v = layer.qkv(x, model.config.num_heads)
            keys.index_copy_(2, t, k)
            values.index_copy_(2, t, v)
            x = layer.rest(x, F.scaled_dot_product_attention(q, keys, values, attn_mask=seen))
        return model.logits(x[:, -1:])[0, 0].float()
