"""The ladder as a table, as bars, and as points below the roofline."""

from collections.abc import Sequence
from math import hypot, log10
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.box import SIMPLE_HEAD
from rich.table import Column, Table

from lab.command import shortened
from lab.ladder.climb import Result
from lab.measure import style

OWN = "the lab's programs"

COLUMNS = {
    "training": ("ms/batch", "tokens/s", "x first", "x prev", "MFU", "GB", "off"),
    "generation": ("ms/token", "tokens/s", "x first", "x prev", "MBU", "GB", "off"),
}


def milliseconds(result: Result, report: dict) -> list[float]:
    """Of each step: for a batch, or for a generated token."""
    tokens = report["batch"] * report["seq"] if result.part == "training" else 1
    return [1000 * seconds * tokens for seconds in result.per_token()]


def utilisation(result: Result, report: dict) -> float:
    """Training: MFU, useful operations against the fastest measured product. Generation: bytes against bandwidth."""
    if result.part == "training":
        return report["flops_per_token"] * result.tokens_per_second / max(report["machine"]["peak"].values())
    return result.bytes / result.median / report["machine"]["bandwidth"]


def table(results: Sequence[Result], report: dict) -> Table:
    """One row for each rung of a part; a rung that was not measured says why in the notes below the table."""
    part = results[0].part
    numbers = [Column(heading, justify="right", no_wrap=True) for heading in COLUMNS[part]]
    made = Table(
        Column("rung", no_wrap=True), *numbers,
        title=part, title_justify="left", title_style="bold", box=SIMPLE_HEAD, padding=(0, 1, 0, 0),
    )  # fmt: skip
    for result in results:
        if result.status != "measured":
            made.add_row(result.title, result.status, *[""] * 6, style="dim" if result.status == "refused" else "red")
            continue
        low, middle, high = np.percentile(milliseconds(result, report), [25, 50, 75])
        made.add_row(
            result.title, f"{middle:.1f} ±{(high - low) / 2:.1f}", f"{result.tokens_per_second:,.0f}",
            f"{result.times_first:.2f}", f"{result.times_previous:.2f}", f"{utilisation(result, report):.0%}",
            f"{result.memory / 1e9:.2f}", f"{result.difference:.1g}" if result.difference else "0",
        )  # fmt: skip
    return made


def notes(results: Sequence[Result]) -> list[str]:
    """What the table has no room for."""
    lines = [f"{result.title}: {result.status}: {result.why}" for result in results if result.status != "measured"]
    slow = [result for result in results if result.first_step > 2.0]
    if slow:
        first = ", ".join(f"{result.title} {result.first_step:.0f} s" for result in slow)
        lines.append(f"first step, compiling included (not timed above): {first}")
    return lines


def explanation(report: dict) -> list[str]:
    """How to read the numbers."""
    peak = ", ".join(f"{name} {flops / 1e12:.2f}" for name, flops in report["machine"]["peak"].items())
    check = report["first_loss"]
    return [
        f"x first, x prev: how many times as fast as the first rung and as the rung before it ({report['ratios']})",
        f"MFU: (6 N + 12 L C T) operations a token against the fastest product measured in this run (TFLOP/s: {peak}); "
        "N counts all parameters but wpe",
        f"MBU: bytes that a token moves, counted, against the {report['machine']['bandwidth'] / 1e9:.0f} GB/s "
        "measured in this run",
        "off: largest difference from the first rung's losses, as a share of them; each rung has a tolerance",
        f"first loss {check['ladder']:.6f}, lab.train's {check['lab.train']:.6f}",
    ]


def draw_bars(results: Sequence[Result], report: dict, note: str) -> Any:
    """Milliseconds by rung, as bars; what was not measured says so in words."""

    def bar(result: Result) -> tuple[str, float, str, str]:
        """Its row of the picture."""
        if result.status != "measured":
            return result.title, 0.0, style.BLUE, f"{result.status}: {shortened(result.why, 80)}"
        value = float(np.median(milliseconds(result, report)))
        times = "" if result is results[0] else f", {result.times_first:.1f} x"
        return result.title, value, style.BLUE, f"{value:,.1f} ms{times}"

    figure, axes = style.pyplot().subplots(figsize=(8.2, 0.52 * len(results) + 1.5))
    unit = "milliseconds a batch" if results[0].part == "training" else "milliseconds a token"
    style.bars(axes, [bar(result) for result in results], unit)
    return style.framed(figure, f"The ladder, {results[0].part}: {report['title']}", note=note)


class Mark(NamedTuple):
    """A place below the roof: operations for each byte, operations a second (1e9)."""

    name: str
    part: str
    x: float
    y: float


def marks_of(results: Sequence[Result], chapters: dict[str, tuple[float, float, float]]) -> list[Mark]:
    """The measured rungs and the lab's own programs."""
    measured = [result for result in results if result.status == "measured" and result.bytes]
    marks = [Mark(r.title, r.part, r.flops / r.bytes, r.flops / r.median / 1e9) for r in measured]
    own = [Mark(name, OWN, flops / moved, flops / seconds / 1e9) for name, (flops, moved, seconds) in chapters.items()]
    return marks + own


def clusters(marks: Sequence[Mark]) -> list[list[int]]:
    """The marks' places in the list; those that would cover each other share a cluster."""
    found: dict[Mark, list[int]] = {}  # by the first of each
    for number, mark in enumerate(marks):
        covering = (
            one for one in found if one.part == mark.part and hypot(log10(one.x / mark.x), log10(one.y / mark.y)) < 0.06
        )
        found.setdefault(next(covering, mark), []).append(number)
    return list(found.values())


def draw_roofline(
    results: Sequence[Result], report: dict, chapters: dict[str, tuple[float, float, float]], note: str
) -> Any:
    """Operations a second against operations a byte, below the roofs measured in the same run; marks are numbered.

    chapters: the lab's own programs, name -> (operations, bytes, seconds) of what they generate.
    """
    figure, axes = style.pyplot().subplots(figsize=(9.6, 5.8))
    marks = marks_of(results, chapters)
    gigabytes = report["machine"]["bandwidth"] / 1e9
    roofs = [
        (f"{gigabytes:,.0f} GB/s, {name} products {flops / 1e9:,.0f} GFLOP/s", gigabytes, flops / 1e9)
        for name, flops in report["machine"]["peak"].items()
    ]
    limits = min(mark.x for mark in marks) / 4, max(mark.x for mark in marks) * 10
    style.roofs(axes, roofs, limits, min(mark.y for mark in marks), " moved (counted)")
    looks = {"training": ("o", style.BLUE), "generation": ("s", style.VERMILLION), OWN: ("^", style.BLACK)}
    labels: list[tuple[float, float]] = []  # where they stand, in points: none covers another
    for cluster in sorted(clusters(marks), key=lambda cluster: marks[cluster[0]].y):
        mark = marks[cluster[0]]
        shape, colour = looks[mark.part]
        axes.plot(mark.x, mark.y, shape, color=colour, ms=7, zorder=3)
        label = ", ".join(str(number + 1) for number in cluster)
        x, y = axes.transData.transform((mark.x, mark.y)) * 72 / figure.dpi
        rise = next(
            rise for rise in range(0, 200, 2) if all(abs(x - a) > 30 or abs(y + rise - b) > 10 for a, b in labels)
        )
        labels.append((x, y + rise))
        axes.annotate(label, (mark.x, mark.y), xytext=(7, rise), textcoords="offset points", fontsize=9, va="center")
    for part in dict.fromkeys(mark.part for mark in marks):
        axes.plot([], [], looks[part][0], color=looks[part][1], ls="", ms=7, label=part)
        for number, mark in enumerate(marks):
            if mark.part == part:
                axes.plot([], [], ls="", label=f"   {number + 1}  {mark.name}")
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8.5, handlelength=1.6)
    return style.framed(figure, f"Roofline of the ladder: {report['title']}", note=note)


def save_pictures(results: Sequence[Result], report: dict, folder: Path, chapters: dict, note: str) -> list[Path]:
    """training.png, generation.png, roofline.png and their .svg."""
    paths = []
    for part in dict.fromkeys(result.part for result in results):
        mine = [result for result in results if result.part == part]
        paths += style.save(draw_bars(mine, report, note), folder / part)
    if any(result.status == "measured" for result in results):
        paths += style.save(draw_roofline(results, report, chapters, note), folder / "roofline")
    return paths
