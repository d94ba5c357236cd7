"""What the experiments beside this file share: options, times of threads side by side, a table, a picture."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lab  # noqa: F401  (first: it holds numpy's BLAS to one thread)
from lab.measure import machine, style

Job = Callable[[], object]


def options(description: str, arguments: Sequence[str] | None) -> argparse.Namespace:
    """--quick: too short to believe, long enough to see that it works. --picture FOLDER: draw the picture there."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument(
        "--quick", action="store_true", help="a short run, to see that it works; do not believe its times"
    )
    parser.add_argument("--picture", type=Path, metavar="FOLDER", help="draw the picture into this folder")
    return parser.parse_args(arguments)


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


def finish(options: argparse.Namespace, draw: Callable[..., None], found: object) -> int:
    """Print which machine it was, and how busy; draw(folder, found) if a picture is wanted."""
    print(f"\n{machine.summary()}\n{machine.load_now()}")
    if options.picture:
        draw(options.picture, found)
    return 0


def figure(width: float, height: float, panels: int = 1) -> tuple[Any, Any]:
    """A figure and its axes, in the lab's style."""
    fig, axes = style.pyplot().subplots(1, panels, figsize=(width, height), layout="constrained")
    return fig, axes


def save(fig: Any, folder: Path, name: str) -> None:
    """Write FOLDER/NAME.svg (and PNG) and say so."""
    folder.mkdir(parents=True, exist_ok=True)
    png, svg = style.save(fig, folder / name)
    png.unlink()
    print(f"Written: {svg}")
