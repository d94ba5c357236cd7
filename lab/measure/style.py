"""How the lab's pictures look: the same fonts and line widths, readable in print; each is saved as PNG and SVG.

One colour for each operation of serial.py, the same in every picture, distinguishable for colour-blind readers (Okabe
and Ito, 2008).
"""

import itertools
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lab.files import replacing
from lab.measure.stats import Estimate

BLACK, ORANGE, SKY, GREEN = "#000000", "#E69F00", "#56B4E9", "#009E73"
YELLOW, BLUE, VERMILLION, PURPLE = "#F0E442", "#0072B2", "#D55E00", "#CC79A7"
GREY, INK = "#8C8C8C", "#222222"
OUTSIDE, UNTOLD = "outside regions", "not told"  # what the main thread does alone; time of which nothing is known

OPERATIONS = {  # operation: (colour, hatch of its areas, for black and white print)
    "matmul_forward": (BLUE, ""),
    "attention_forward": (VERMILLION, "//"),
    "layernorm_forward": (GREEN, "\\\\"),
    "gelu_forward": (ORANGE, ".."),
    "residual_forward": (SKY, "--"),
    "softmax_forward": (PURPLE, "xx"),
    "encoder_forward": (YELLOW, "++"),
}


def operation(name: str) -> str:
    """The operation of serial.py that a function is or is nested in: "matmul_forward.block" -> "matmul_forward".

    Any other name stays as it is.
    """
    outermost = name.split(".")[0]
    return outermost if outermost in OPERATIONS else name


def looks(names: Iterable[str]) -> dict[str, tuple[str, str]]:
    """{name: (colour, hatch)}: an operation of serial.py has its own; other names get those that are free, in order."""
    names = list(dict.fromkeys(names))
    own = {name: OPERATIONS[operation(name)] for name in names if operation(name) in OPERATIONS}
    taken = {fill for fill, _ in own.values()}
    free = [(fill, hatch) for fill, hatch in OPERATIONS.values() if fill not in taken and fill != YELLOW]
    look = itertools.cycle([*free, *((lighter(fill, 0.4), hatch) for fill, hatch in OPERATIONS.values())])
    for name in names:
        if name not in own:
            own[name] = next(look)
    return own | {OUTSIDE: ("#444444", ""), UNTOLD: (GREY, "")}


def ink(background: str) -> str:
    """Black or white, whichever can be read on the background (by its luminance, ITU-R BT.709)."""
    red, green, blue = (int(background[i : i + 2], 16) for i in (1, 3, 5))
    return INK if 0.2126 * red + 0.7152 * green + 0.0722 * blue > 120 else "#FFFFFF"


def lighter(background: str, part: float = 0.55) -> str:
    """The colour, mixed with white."""
    values = (int(background[i : i + 2], 16) for i in (1, 3, 5))
    return "#" + "".join(f"{round(value + (255 - value) * part):02X}" for value in values)


def short(name: str) -> str:
    """matmul_forward -> matmul"""
    return name.removesuffix("_forward")


SETTINGS = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "axes.titlesize": 10.5,
    "axes.labelsize": 10,
    "axes.edgecolor": "#666666",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": False,
    "grid.color": "#DDDDDD",
    "grid.linewidth": 0.7,
    "text.color": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "lines.linewidth": 2,
    "lines.markersize": 6,
    "legend.frameon": False,
    "figure.titlesize": 13,
    "hatch.linewidth": 0.6,
    "svg.fonttype": "path",
    "svg.hashsalt": "lab",  # the same picture is the same file
}


def pyplot() -> Any:
    """matplotlib.pyplot, without a display, in the lab's style."""
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # not that a home without rights has no room for its cache
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcdefaults()
    plt.style.use(SETTINGS)
    return plt


def framed(figure: Any, title: str, items: Sequence[tuple[str, str, str]] = (), note: str = "") -> Any:
    """The figure with its title, below that a legend of (label, colour, hatch) squares, and small print at the bottom
    (machine, load, date); makes room for all."""
    from matplotlib.patches import Patch

    height = figure.get_figheight()
    letters = max((len(label) for label, _, _ in items), default=0) + 6
    width = max(1, min(8, int(14.5 * figure.get_figwidth() / letters)))
    rows = -(-len(items) // width)
    plain = {"parse_math": False}  # names of files and regions come from people: a dollar sign is one
    figure.text(0.02, 1 - 0.13 / height, title, va="top", ha="left", fontsize=12.5, weight="bold", **plain)
    if items:
        handles = [Patch(facecolor=fill, hatch=hatch, label=label, **edge(fill)) for label, fill, hatch in items]
        place = {"loc": "upper left", "bbox_to_anchor": (0.012, 1 - 0.36 / height)}
        legend = figure.legend(handles=handles, ncols=width, fontsize=8.5, handlelength=1.6, columnspacing=1.4, **place)
        for text in legend.get_texts():
            text.set(**plain)
    figure.set_layout_engine("constrained", rect=(0, 0.22 / height, 1, 1 - (0.67 + 0.22 * rows) / height))
    size = min(7.5, 1.62 * 72 * figure.get_figwidth() / max(len(note), 1))
    figure.text(0.02, 0.07 / height, note, fontsize=size, color="#666666", ha="left", va="bottom")
    return figure


def legend_below(axes: Any, columns: int) -> None:
    """The legend below the axes: inside, it would cover some program's curve."""
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=columns, fontsize=8.5)


def edge(fill: str) -> dict[str, Any]:
    """The edge of a square in a legend: white, but grey around a white one, which could not be seen."""
    return {"edgecolor": GREY, "lw": 0.8} if fill.upper() == "#FFFFFF" else {"edgecolor": "white", "lw": 0}


def label_on(background: str) -> dict[str, Any]:
    """How to write into an area of that colour, so that it can be read over its hatch."""
    box = {"boxstyle": "round,pad=0.18", "facecolor": background, "edgecolor": "none"}
    return {"ha": "center", "va": "center", "fontsize": 8.5, "color": ink(background), "bbox": box}


def intervals(axes: Any, estimates: Mapping[int, Estimate], **look: Any) -> None:
    """Medians with their intervals, each at its number."""
    at = sorted(estimates)
    found = [estimates[k] for k in at]
    bars = [[one.median - one.low for one in found], [one.high - one.median for one in found]]
    axes.errorbar(at, [one.median for one in found], yerr=bars, marker="o", **look)


def named_rows(axes: Any, names: Sequence[str], most: float, unit: str) -> None:
    """Axes of horizontal bars, the first one on top: the name of each, and numbers up to `most`."""
    axes.set_yticks(range(len(names)), names, parse_math=False)
    axes.invert_yaxis()
    axes.set(xlim=(0, most), xlabel=unit)
    axes.tick_params(axis="y", length=0)


def bars(axes: Any, rows: Sequence[tuple[str, float, str, str]], unit: str) -> None:
    """A horizontal bar for each (name, value, colour, text behind it), the first one on top; none for 0, only text."""
    most = max(value for _, value, _, _ in rows) or 1.0
    for place, (_, value, fill, text) in enumerate(rows):
        axes.barh(place, value, height=0.7, color=fill)
        axes.text(value + 0.01 * most, place, text, va="center", fontsize=9, color=INK if value else GREY)
    named_rows(axes, [name for name, _, _, _ in rows], 1.25 * most, unit)


def roofs(
    axes: Any, limits: Sequence[tuple[str, float, float]], x: tuple[float, float], lowest: float, of_bytes: str
) -> None:
    """The axes of a roofline: its roofs (label, GB/s, GFLOP/s) over intensities between x, plain numbers at the powers
    of ten; `lowest` GFLOP/s are still seen, and `of_bytes` says which bytes count."""
    intensity = np.geomspace(*x, 200)
    for (label, gigabytes, gigaflops), line in zip(limits, ("-", "--"), strict=False):
        axes.plot(intensity, np.minimum(intensity * gigabytes, gigaflops), line, color=INK, lw=1.6, label=label)
    y = lowest / 3, 2 * max(gigaflops for _, _, gigaflops in limits)
    label = f"arithmetic intensity: operations for each byte{of_bytes}"
    axes.set(xscale="log", yscale="log", xlim=x, ylim=y, xlabel=label, ylabel="GFLOP/s")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_formatter("{x:g}")
    axes.grid(True)


def save(figure: Any, stem: Path) -> list[Path]:
    """Write <stem>.png and <stem>.svg; returns their paths."""
    import matplotlib.pyplot as plt

    paths = []
    for suffix, options in ((".png", {"dpi": 160}), (".svg", {"metadata": {"Date": None}})):
        path = Path(f"{stem}{suffix}")
        with replacing(path) as partial:
            figure.savefig(partial, facecolor="white", **options)
            if suffix == ".svg":
                text = re.sub(r"[ \t]+$", "", partial.read_text(encoding="utf-8"), flags=re.MULTILINE)
                partial.write_text(text, encoding="utf-8")  # version control dislikes trailing blanks
        paths.append(path)
    plt.close(figure)
    return paths
