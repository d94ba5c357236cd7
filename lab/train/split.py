"""Sharing one operation among workers: an index range is cut into pieces, and a function is done for each piece."""

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from itertools import pairwise
from typing import Protocol

from lab.engines import why_not_loaded

BLOCK = 1 << 17  # numbers in a block of an element-by-element operation: its temporaries, 512 KB, stay in the cache


class WorkersLike(Protocol):
    """What is needed of lab.parallel.Workers."""

    k: int

    def run(self, fn: Callable, tasks: list) -> object:
        """fn(task) for every task; returns when all are done."""


@contextmanager
def team(k: int) -> Iterator[WorkersLike | None]:
    """`k` workers of lab.parallel inside the with block.

    None, which is one thread, for k = 1; also, with a line on stderr that says why, where lab.parallel does not load.
    """
    make = load_workers() if k > 1 else None
    with make(k) if make else nullcontext() as workers:
        yield workers


def load_workers() -> type | None:
    """lab.parallel.Workers, or None and a line on stderr."""
    try:
        return importlib.import_module("lab.parallel").Workers
    except (Exception, SystemExit) as error:  # it is the students' file: anything may be wrong with it
        missing = isinstance(error, ModuleNotFoundError) and error.name == "lab.parallel"
        reason = "there is no lab/parallel.py" if missing else f"lab/parallel.py: {why_not_loaded(error)}"
        print(f"on one thread: {reason}", file=sys.stderr)
        return None


def split(workers: WorkersLike | None, fn: Callable[[slice], object], n: int) -> None:
    """fn(piece) for slices that cover range(n): the whole range at once without workers, else one piece for each.

    The pieces of one call must write to different places; then the order they run in does not matter.
    """
    if workers is None or workers.k == 1 or n < 2 * workers.k:
        fn(slice(0, n))
        return
    cuts = [n * i // workers.k for i in range(workers.k + 1)]
    workers.run(fn, [slice(start, stop) for start, stop in pairwise(cuts)])


def blocks(piece: slice, width: int) -> Iterator[slice]:
    """`piece`, a range of rows of `width` numbers each, in consecutive blocks of about BLOCK numbers.

    To be looped over within one call: a loop keeps its temporaries until the next block has its own, where a call for
    each block would return their pages to the system every time.
    """
    rows = max(1, BLOCK // max(width, 1))
    for start in range(piece.start, piece.stop, rows):
        yield slice(start, min(start + rows, piece.stop))
