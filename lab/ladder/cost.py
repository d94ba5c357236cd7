"""What a step computes and moves: counted operation by operation as PyTorch dispatches them, not measured.

Eager, every operation reads its inputs from memory and writes its outputs back. A compiled step fuses the pointwise
operations into their neighbours, so only the others (products, attention, normalisations, gathers) are counted there.
"""
# pyright: reportMissingImports=false

from math import prod
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode

from lab.ladder.work import as_it_is

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


def cost(work: Any) -> dict:
    """{"flops": of the products, "bytes": to and from memory} of one step of a Training or Generation.

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
