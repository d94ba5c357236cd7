"""Given, and nobody need read it: products and GELU, each in the formulation that is quickest on this processor.

    matmul(weight, X, out)      out (N,T) = weight (N,C) @ X (C,T)
    matvec(weight, x, out)      out (N)   = weight (N,C) @ x (C)          (or a stack of both: (S,N), (S,N,C))
    gelu(x)                     the activation function, in place

weight is row-major, or columns of such a matrix: W[:, a:b]. X, out and x may be slices as well.

The same product can be asked of numpy in several ways, and which one is quick depends on the BLAS kernel that numpy's
library picks for the processor: on some AVX-512 processors it has a path for small products that does not copy the
weights, so a product is best done a few rows at a time; a row times a vector is quicker in some processors' "dot" than
in their "gemv", which reads several rows at once. So there is a small table of formulations, and the quickest of each
is found by a measurement of a few milliseconds when this module is imported: the idea of ATLAS (Whaley and Dongarra
1998) and FFTW (Frigo and Johnson 1998). The environment variable GPT_KERNELS fixes the choice, as
GPT_KERNELS=matmul:plain,long:plain,matvec:vecdot,columns:plain,
and choose() returns it in these words.
"""

import os
import time
from collections.abc import Callable
from itertools import cycle

import numpy as np

VARIABLE = "GPT_KERNELS"
CHANNELS, ROWS = 768, 512  # of the products that are measured
FEW = 48  # positions up to which a product counts as short: from there on copying the weights costs the less
CLEARLY = 1.1  # times as quick
PARTS = 16  # so many different ones: 25 MB of weights, which do not stay in a core's own cache
SMALL_PRODUCT = 1_000_000  # rows * C * T up to which OpenBLAS's SkylakeX kernel multiplies without copying the weights
GELU_SCALING_FACTOR = np.float32(np.sqrt(2.0 / np.pi))
Formulation = Callable[[np.ndarray, np.ndarray, np.ndarray], object]


def stacked(weight: np.ndarray, X: np.ndarray, out: np.ndarray) -> None:
    """matmul, as many rows at a time as make a small product: one numpy call multiplies a whole stack of them."""
    (N, C), T = weight.shape, X.shape[1]
    rows = SMALL_PRODUCT // max(1, C * T)
    if rows < 8:
        np.matmul(weight, X, out=out)
        return
    rows = min(128, 1 << (rows.bit_length() - 1))
    whole = N // rows * rows
    if whole:
        np.matmul(weight[:whole].reshape(-1, rows, C), X, out=out[:whole].reshape(-1, rows, T))
    if whole < N:
        np.matmul(weight[whole:], X, out=out[whole:])


def plain(weight: np.ndarray, X: np.ndarray, out: np.ndarray) -> None:
    """BLAS: gemm, or gemv if X is a vector."""
    np.matmul(weight, X, out=out)


def vecdot(weight: np.ndarray, x: np.ndarray, out: np.ndarray) -> None:
    """BLAS: a dot product for each row."""
    np.vecdot(weight, x, out=out)


def einsum(weight: np.ndarray, x: np.ndarray, out: np.ndarray) -> None:
    """numpy's own loops."""
    np.einsum("...oc,c->...o", weight, x, out=out)


VECTOR: dict[str, Formulation] = {"plain": plain, "vecdot": vecdot, "einsum": einsum}
TABLE: dict[str, dict[str, Formulation]] = {
    "matmul": {"plain": plain, "stacked": stacked},  # X has up to FEW columns
    "long": {"plain": plain, "stacked": stacked},  # or more
    "matvec": VECTOR,  # whole rows, one behind the other in memory
    "columns": VECTOR,  # matvec with columns of a larger matrix
}


def matmul(weight: np.ndarray, X: np.ndarray, out: np.ndarray) -> None:
    """out (N,T) = weight (N,C) @ X (C,T)"""
    if X.shape[1] == 1:
        matvec(weight, X[:, 0], out[:, 0])
    else:
        _use["matmul" if X.shape[1] <= FEW else "long"](weight, X, out)


def matvec(weight: np.ndarray, x: np.ndarray, out: np.ndarray) -> None:
    """out (...,N) = weight (...,N,C) @ x (C)"""
    whole_rows = weight.strides[-2] == weight.shape[-1] * weight.itemsize
    _use["matvec" if whole_rows else "columns"](weight, x, out)


def gelu(x: np.ndarray) -> None:
    """x -> gelu(x) in its tanh approximation, in place: few passes over few arrays."""
    t = x * x
    t *= GELU_SCALING_FACTOR * np.float32(0.044715)
    t += GELU_SCALING_FACTOR
    t *= x
    np.tanh(t, out=t)
    t += np.float32(1.0)
    x *= np.float32(0.5)
    x *= t


# ----------------------------------------------------------------------------------------------------------- the choice


def choose() -> str:
    """The formulations in use, as GPT_KERNELS takes them."""
    return ",".join(f"{kernel}:{formulation.__name__}" for kernel, formulation in _use.items())


def parse(text: str) -> dict[str, Formulation]:
    """What GPT_KERNELS says; kernels it does not name are measured. Raises ValueError, one line."""
    found: dict[str, Formulation] = {}
    for part in filter(None, text.replace(" ", "").split(",")):
        kernel, _, name = part.partition(":")
        if name not in TABLE.get(kernel, {}):
            choices = "; ".join(f"{kernel}: {', '.join(table)}" for kernel, table in TABLE.items())
            raise ValueError(f"{VARIABLE}={text}: {part} is none of the formulations ({choices})")
        found[kernel] = TABLE[kernel][name]
    return found


def examples(kernel: str, memory: np.ndarray) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """What a kernel is measured with: GPT-2's shapes, cut so that a measurement takes little time.

    Weights come from memory, not from a cache, as they do when a model is larger than the caches: each example is
    another part of `memory`.
    """
    positions = {"matmul": (24,), "long": (96,)}.get(kernel, ())
    columns = slice(CHANNELS // 2 if kernel == "columns" else 0, CHANNELS)
    x, out = np.ones((CHANNELS, *positions), dtype=np.float32), np.empty((ROWS, *positions), dtype=np.float32)
    return [(memory[row : row + ROWS, columns], x[columns], out) for row in range(0, len(memory), ROWS)]


def quickest(formulations: dict[str, Formulation], tries: list[tuple[np.ndarray, ...]]) -> Formulation:
    """The formulation with the shortest time, each in its turn; its first one is to make all warm.

    The first of them stays unless another is quicker by CLEARLY: what is nearly equal would change from run to run.
    """
    times: dict[str, list[float]] = {name: [] for name in formulations}
    for example, name in zip(tries, cycle(formulations), strict=False):
        begin = time.perf_counter()
        formulations[name](*example)
        times[name].append(time.perf_counter() - begin)
    best = {name: min(found[1:]) for name, found in times.items()}
    first, winner = next(iter(best)), min(best, key=best.__getitem__)
    return formulations[winner if best[winner] * CLEARLY < best[first] else first]


def chosen() -> dict[str, Formulation]:
    """GPT_KERNELS, the rest by measurement."""
    use = parse(os.environ.get(VARIABLE, ""))
    measured = [kernel for kernel in TABLE if kernel not in use]
    if measured:
        memory = np.ones((PARTS * ROWS, CHANNELS), dtype=np.float32)
        for kernel in measured:
            rounds = len(VECTOR) if TABLE[kernel] is VECTOR else 1  # these are short: each sees all parts
            use[kernel] = quickest(TABLE[kernel], examples(kernel, memory) * rounds)
    return {kernel: use[kernel] for kernel in TABLE}


_use = chosen()
