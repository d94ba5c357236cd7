"""What the rungs change: a training step, and the generation of a token. Built once, then run many times."""
# pyright: reportMissingImports=false

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from itertools import cycle
from math import prod
from typing import Any

import numpy as np
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from lab.torch_gpt2 import GPT2, Cache

LEARNING_RATE = 1e-4  # llm.c's for fine-tuning


def batches(tokens: np.ndarray, B: int, T: int, device: str) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Inputs and targets (B,T) in the order of the tokens, again and again. Raises ValueError for too few."""
    piece = B * T
    starts = range(0, len(tokens) - piece, piece)
    if not len(starts):
        raise ValueError(f"{len(tokens)} tokens are too few for a batch of {B} sequences of {T}")
    for start in cycle(starts):
        window = torch.from_numpy(tokens[start : start + piece + 1].astype(np.int64)).to(device)
        yield window[:-1].view(B, T), window[1:].view(B, T)


def as_it_is(function: Callable) -> Callable:
    """What stands in the place of torch.compile until its rung."""
    return function


class Training:
    """A training step: `accumulate` batches forward and backward, then one update by AdamW."""

    def __init__(self, model: GPT2, tokens: np.ndarray, B: int, T: int, device: str) -> None:
        self.model, self.device = model, device
        self.tokens, self.B, self.T = tokens, B, T
        self.autocast: Callable[[], AbstractContextManager] = nullcontext
        self.compile: Callable = as_it_is
        self.optimizer: Callable = torch.optim.AdamW
        self.accumulate = 1

    def build(self) -> None:
        """Once all rungs have said what they change: from here on step() may be called."""
        self.batches = batches(self.tokens, self.B, self.T, self.device)
        self.adamw = self.optimizer(self.model.parameters(), lr=LEARNING_RATE, weight_decay=0.0)
        self.plain = self.model.loss
        self.function = self.compile(self.plain)

    def step(self) -> torch.Tensor:
        """One update; returns the mean loss before it, still on the device."""
        total = torch.zeros((), device=self.device)
        self.adamw.zero_grad(set_to_none=True)
        for _ in range(self.accumulate):
            inputs, targets = next(self.batches)
            with self.autocast():
                loss = self.function(inputs, targets) / self.accumulate
            loss.backward()
            total += loss.detach()
        self.adamw.step()
        return total

    @property
    def tokens_per_step(self) -> int:
        """Positions that one step trains on."""
        return self.B * self.T * self.accumulate

    def losses(self, count: int) -> list[float]:
        """The losses (nats) of the next `count` steps."""
        return [self.step().item() for _ in range(count)]


class Generation:
    """The next token after a prompt: with a cache or by computing every position anew."""

    def __init__(self, model: GPT2, tokens: np.ndarray, n: int, device: str) -> None:
        self.model, self.device, self.n = model, device, n
        self.tokens = torch.from_numpy(tokens[:n].astype(np.int64)).to(device)
        self.compile: Callable = as_it_is
        self.cached = False
        self.tokens_per_step = 1

    def build(self) -> None:
        """Once all rungs have said what they change: from here on step() may be called."""
        self.cache = Cache(self.model, self.n)
        self.plain = self.cache if self.cached else self.model
        self.function = self.compile(self.plain)
        self.positions = torch.arange(self.n, device=self.device)
        self.t = self.n // 2

    @torch.inference_mode()
    def step(self) -> torch.Tensor:
        """The token after the next position; the half of the window that is generated is gone through again and again.

        The sampler is gpt.c's, with coin 0.5; only the vocabulary's own tokens take part.
        """
        logits = self.at(self.t)
        cdf = torch.cumsum(torch.softmax(logits[: self.model.config.vocab_size], dim=0), dim=0)
        token = torch.searchsorted(cdf, 0.5, right=True)
        self.t = self.t + 1 if self.t + 1 < self.n else self.n // 2
        return token

    def at(self, t: int) -> torch.Tensor:
        """The logits (V) that follow tokens[0 ... t]."""
        if self.cached:
            return self.function(self.tokens[None, t : t + 1], self.positions[t : t + 1])
        return self.function(self.tokens[None, : t + 1])[0, -1].float()

    @torch.inference_mode()
    def losses(self, count: int) -> list[float]:
        """The mean loss (nats) of the window's own tokens, each predicted from those before it: always one number."""
        total = 0.0
        for t in range(self.n - 1):
            log_probabilities = torch.log_softmax(self.at(t)[: self.model.config.vocab_size], dim=0)
            total -= log_probabilities[self.tokens[t + 1]].item()
        return [total / (self.n - 1)]


# ---------------------------------------------------------------------------------------------------------------- cost

VIEWS = (
    *("view", "t", "transpose", "permute", "expand", "slice", "select", "unbind", "split", "unsqueeze"),
    *("detach", "alias"),
)


class Traffic(TorchDispatchMode):
    """Adds up the bytes of all tensors that operations read and write; `fused` leaves pointwise operations out."""

    def __init__(self, fused: bool) -> None:
        super().__init__()
        self.fused, self.bytes = fused, 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = function(*args, **(kwargs or {}))
        name = function._schema.name.removeprefix("aten::").lstrip("_").rstrip("_")
        pointwise = torch.Tag.pointwise in function.tags or name in ("to_copy", "copy", "fill", "zeros_like", "clone")
        if not (name in VIEWS or name.startswith("unsafe_view") or (self.fused and pointwise)):
            leaves = [leaf for leaf in tree_leaves((args, kwargs, result)) if isinstance(leaf, torch.Tensor)]
            self.bytes += sum(prod(leaf.shape) * leaf.element_size() for leaf in leaves)
        return result


def cost(work: Training | Generation) -> dict:
    """{"flops": of the products, "bytes": to and from memory} of one step, counted operation by operation as PyTorch
    dispatches them, not measured.

    Eager, every operation reads its inputs from memory and writes its outputs back. A compiled step fuses the pointwise
    operations into their neighbours, so only the others (products, attention, normalisations, gathers) are counted.

    The step runs uncompiled; it is one more step of the work.
    """
    fused = work.compile is not as_it_is
    kept, work.function = work.function, work.plain
    try:
        with FlopCounterMode(display=False) as flops, Traffic(fused) as traffic:
            work.step()
    finally:
        work.function = kept
    return {"flops": flops.get_total_flops(), "bytes": traffic.bytes}
