"""How fast does a core read numbers? It depends on where they are.

First the sum of the squares of an array that fits into a cache, or does not; then of every second, fourth ... number;
then of an array in pages of 4 KB, and in pages of 2 MB.
"""

import mmap
from collections.abc import Sequence
from typing import Any

import experiment
import numpy as np

from lab.measure import style

SIZES = [16, 64, 256, 1024, 4096, 16384, 65536, 262144]  # KB
STRIDES = [1, 2, 4, 8, 16, 32]  # numbers; 16 of them are a cache line of 64 bytes


def rates(kilobytes: int, total: int, repeats: int) -> tuple[float, float]:
    """GB/s of one thread and of two together, each reading an array of that size until `total` bytes are read."""
    arrays = [np.ones(kilobytes * 256, dtype=np.float32) for _ in range(2)]
    times = max(1, total // arrays[0].nbytes)
    jobs = [experiment.repeat(times, np.dot, array, array) for array in arrays]
    one, two = experiment.best([jobs[:1], jobs], repeats)
    read = times * arrays[0].nbytes / 1e9
    return read / one, 2 * read / two


def strided(step: int, count: int, repeats: int) -> float:
    """Nanoseconds a number, reading `count` of them, each `step` behind the one before, none of them in a cache."""
    view = np.ones(count * step, dtype=np.float32)[::step]
    return experiment.best([[experiment.repeat(1, np.add.reduce, view)]], repeats)[0] / count * 1e9


def by_pages(size: int, repeats: int) -> list[tuple[str, float, float]]:
    """For each size of pages the GB/s of one thread and of two together, each reading half of `size` bytes."""
    if not hasattr(mmap, "MADV_HUGEPAGE"):
        return []  # only Linux lets a program choose
    arrays = []
    for advice in (mmap.MADV_NOHUGEPAGE, mmap.MADV_HUGEPAGE):
        memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        memory.madvise(advice)
        arrays.append(np.frombuffer(memory, dtype=np.float32))
        arrays[-1][:] = 1
    jobs = [
        [experiment.repeat(1, np.dot, share, share) for share in np.array_split(array, threads)]
        for array in arrays
        for threads in (1, 2)
    ]
    small1, small2, large1, large2 = (size / 1e9 / seconds for seconds in experiment.best(jobs, repeats))
    return [("4 KB", small1, small2), ("2 MB", large1, large2)]


def measure(quick: bool) -> list[tuple[int, float, float]]:
    """For each size of an array the GB/s of one thread and of two together."""
    sizes, total, count, repeats = (SIZES[:3], 1 << 20, 1 << 14, 1) if quick else (SIZES, 1 << 29, 1 << 22, 5)
    found = [(size, *rates(size, total, repeats)) for size in sizes]
    rows = [(f"{size:,} KB", f"{one:.1f}", f"{two:.1f}", f"{two / one:.2f}") for size, one, two in found]
    experiment.table(["array", "1 thread, GB/s", "2 threads, GB/s", "ratio"], rows)
    print()
    steps = [(step, f"{strided(step, count, repeats):.2f} ns") for step in STRIDES]
    experiment.table(["every ...th number", "a number takes"], steps)
    if pages := by_pages(1 << 22 if quick else 1 << 28, repeats):
        print()
        rows = [(size, f"{one:.1f}", f"{two:.1f}") for size, one, two in pages]
        experiment.table(["pages of", "1 thread, GB/s", "2 threads, GB/s"], rows)
    return found


def draw(found: Sequence[tuple[int, float, float]]) -> Any:
    """Bandwidth against the size of the array, with the caches of this machine."""
    fig, axes = experiment.figure(6.4, 3.2)
    sizes, one, two = zip(*found, strict=True)
    axes.plot(sizes, one, "o-", color=style.BLUE, label="1 thread")
    axes.plot(sizes, two, "s-", color=style.VERMILLION, label="2 threads together")
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [f"{size} KB" if size < 1024 else f"{size // 1024} MB" for size in sizes], fontsize=8)
    axes.set(ylim=(0, max(*one, *two) * 1.15), xlabel="size of each thread's array", ylabel="GB/s")
    caches = experiment.machine.caches()
    caches.pop("L1i", None)  # of instructions
    for name, size in caches.items():
        axes.axvline(size / 1024, color=style.GREY, lw=1, ls=":")
        axes.text(size / 1024, max(*one, *two) * 1.1, f" {name}", color=style.GREY, fontsize=9)
    axes.legend()
    return fig


if __name__ == "__main__":
    experiment.main(__doc__, measure, draw)
