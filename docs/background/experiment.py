"""What the experiments beside this file share: the command line, times of threads side by side, a table, a picture."""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lab  # noqa: F401  (first: it holds numpy's BLAS to one thread)
from lab.measure import machine, style

Job = Callable[[], object]


def main(description: str, measure: Callable[[bool], Any], draw: Callable[[Any], Any]) -> None:
    """The command line: measure(quick) prints its tables, and draw() makes the picture of what it returns."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="a short run, to see that it works; do not believe its times"
    )
    parser.add_argument("--picture", type=Path, metavar="FOLDER", help="draw the picture into this folder")
    options = parser.parse_args()
    found = measure(options.quick)
    print(f"\n{machine.summary()}\n{machine.load_now()}")
    if options.picture:
        options.picture.mkdir(parents=True, exist_ok=True)
        png, svg = style.save(draw(found), options.picture / Path(sys.argv[0]).stem)
        png.unlink()
        print(f"Written: {svg}")


def best(jobs: Sequence[Sequence[Job]], repeats: int) -> list[float]:
    """For each group of jobs, run side by side on a thread each: the shortest of `repeats` times, in seconds.

    The groups take turns, so that what disturbs the machine disturbs all of them.
    """
    rounds = [[machine.seconds_together(list(group)) for group in jobs] for _ in range(repeats)]
    return [min(times) for times in zip(*rounds, strict=True)]


def repeat(times: int, function: Callable[..., object], *arguments: object, **keywords: object) -> Job:
    """A job that calls function(*arguments) so often."""

    def job() -> None:
        for _ in range(times):
            function(*arguments, **keywords)

    return job


def table(heads: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print it, every column as wide as it needs."""
    lines = [list(heads), *([str(cell) for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    for line in lines:
        print("  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)))


def figure(width: float, height: float, panels: int = 1) -> tuple[Any, Any]:
    """A figure and its axes, in the lab's style."""
    return style.pyplot().subplots(1, panels, figsize=(width, height), layout="constrained")
