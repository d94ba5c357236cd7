"""The rungs: each one change on top of those before it.

A rung is a function that changes a Training or a Generation before it is built. What it needs of the machine is a
function that says why it cannot be done here, or nothing. The tolerance says how far its losses may be from the first
rung's, as a share of them: a rung that changes the result has failed, however fast it is.
"""
# pyright: reportMissingImports=false

import os
import re
import shutil
import sys
import sysconfig
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import torch

from lab import torch_gpt2
from lab.ladder.work import Generation, Training

ROUNDINGS = 5  # units in the last place of a product's inputs that a loss may be off
FLOAT32, TENSOR_FLOAT32, BFLOAT16 = 1e-4, ROUNDINGS * 2**-11, ROUNDINGS * 2**-8  # float32: sums in another order
ACCUMULATED = 4  # batches


class Rung(NamedTuple):
    """One step of the ladder; `function`'s docstring is the reason why it helps."""

    key: str
    title: str
    part: str  # training or generation
    tolerance: float
    refused: Callable[[str], str]  # device -> why it cannot be done here, or ""
    function: Callable
    batches: int = 1  # for each update


RUNGS: list[Rung] = []


def ampere(device: str, what: str) -> str:
    """TF32 and BF16 products came with the Ampere generation (A100, RTX 30)."""
    if device == "cpu":
        return f"{what} is a number format of GPUs" if what == "TF32" else bf16_instructions(what)
    capability = torch.cuda.get_device_capability()
    this = ".".join(map(str, capability))
    return "" if capability >= (8, 0) else f"{what} came with Ampere (8.0); this GPU is a {this}"


def bf16_instructions(what: str) -> str:
    """Whether this processor multiplies bfloat16 numbers (AVX512_BF16, AMX, or Arm's BF16)."""
    cpuinfo = Path("/proc/cpuinfo")
    flags = cpuinfo.read_text() if cpuinfo.is_file() else ""
    found = re.search(r"\b(avx512_bf16|amx_bf16|bf16)\b", flags)
    return "" if found else f"this processor has no {what} products (AVX512_BF16, AMX or Arm BF16)"


def compiler(device: str) -> str:
    """torch.compile writes C++ for a CPU, for a GPU Triton and C that starts it; both include Python's header."""
    if device != "cpu" and not find_spec("triton"):
        return "torch.compile needs Triton here, and it is not installed"
    cpu = os.environ.get("CXX", "clang++" if sys.platform == "darwin" else "g++")
    names = [cpu] if device == "cpu" else [os.environ.get("CC", "gcc"), "clang"]
    if not any(shutil.which(name) for name in names):
        return f"torch.compile needs a C{'++' if device == 'cpu' else ''} compiler: sudo apt install g++"
    folders = sysconfig.get_path("include", "posix_prefix"), sysconfig.get_path("include")
    found = any(Path(folder, "Python.h").is_file() for folder in folders)
    return "" if found else "torch.compile needs Python's header file, Python.h: sudo apt install python3-dev"


def rung(
    part: str, title: str, tolerance: float, refused: Callable[[str], str] = lambda _: "", batches: int = 1
) -> Callable:
    """Registers a function as the next rung of a part."""

    def register(function: Callable) -> Callable:
        RUNGS.append(Rung(function.__name__, title, part, tolerance, refused, function, batches))
        return function

    return register


# ------------------------------------------------------------------------------------------------------------- training


@rung("training", "fp32 eager", 0.0)
def eager(step: Training) -> None:
    """PyTorch as it comes: every operation is a kernel that reads its inputs from memory and writes its output back."""


@rung("training", "TF32 matmul", TENSOR_FLOAT32, partial(ampere, what="TF32"))
def tf32(step: Training) -> None:
    """Tensor cores round the inputs of float32 products to 11 bits and multiply eight times as fast."""
    torch.set_float32_matmul_precision("high")


@rung("training", "BF16 autocast", BFLOAT16, partial(ampere, what="BF16"))
def bf16(step: Training) -> None:
    """Forward and loss in 16 bits: half the bytes to move, twice the products; weights and AdamW stay in float32."""
    step.autocast = lambda: torch.autocast(step.device, dtype=torch.bfloat16)


@rung("training", "torch.compile", FLOAT32, compiler)
def compiled(step: Training) -> None:
    """Neighbouring pointwise operations become one kernel: one trip through memory instead of one for each."""
    step.compile = torch.compile


@rung("training", "FlashAttention", FLOAT32)
def flash_attention(step: Training) -> None:
    """Attention tile by tile on the chip: the (T,T) matrices are never written to memory (Dao et al. 2022)."""
    step.model.attention = torch_gpt2.flash


@rung("training", "padded vocabulary", FLOAT32)
def padded_vocabulary(step: Training) -> None:
    """50257 -> 50304 = 393 * 128: no ragged last tile, so every product of the largest matrix takes the fast kernel."""
    step.model.pad_vocabulary()


@rung("training", "fused AdamW", FLOAT32)
def fused_adamw(step: Training) -> None:
    """The whole update in one pass over parameters, gradients and both moments."""
    step.optimizer = partial(torch.optim.AdamW, fused=True)


@rung("training", f"{ACCUMULATED} batches an update", FLOAT32, batches=ACCUMULATED)
def accumulation(step: Training) -> None:
    """Gradients of 4 batches add up before one update: a fixed batch on any GPU, and a quarter of AdamW's traffic."""
    step.accumulate = ACCUMULATED


# ----------------------------------------------------------------------------------------------------------- generation


@rung("generation", "no cache", 0.0)
def no_cache(step: Generation) -> None:
    """As in gpt.c: every position is computed anew for every token."""


@rung("generation", "KV cache", FLOAT32)
def kv_cache(step: Generation) -> None:
    """Keys and values are kept: one position a token. Now each weight is used once, and memory sets the pace."""
    step.cached = True


@rung("generation", "BF16 weights", BFLOAT16, partial(ampere, what="BF16"))
def bf16_weights(step: Generation) -> None:
    """Half the bytes of every weight, so twice as fast where memory sets the pace."""
    step.model.to(torch.bfloat16)


@rung("generation", "torch.compile", FLOAT32, compiler)
def cuda_graphs(step: Generation) -> None:
    """A token is hundreds of small kernels: record them once, then start all with one call (on a CPU: fused only)."""
    step.compile = partial(torch.compile, mode="reduce-overhead") if step.device == "cuda" else torch.compile
