"""How the lab's pictures look: the same fonts, sizes and line widths, readable in print; each is saved as PNG and SVG."""

import re
from pathlib import Path
from typing import Any

from lab.measure.files import replacing
from lab.measure.palette import INK

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
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    plt.rcdefaults()
    plt.rcParams.update(SETTINGS)
    return plt


def legend_above(figure: Any, items: list[tuple[str, str]]) -> None:
    """A legend of coloured squares in one line below the title."""
    from matplotlib.patches import Patch

    handles = [Patch(facecolor=fill, edgecolor="#999999", linewidth=0.5, label=label) for label, fill in items]
    figure.legend(handles=handles, loc="outside upper left", ncols=len(items), fontsize=8.5, handlelength=1.2)


def footnote(figure: Any, text: str) -> None:
    """Small print at the bottom: machine, load, date."""
    figure.supxlabel(text, fontsize=7.5, color="#666666", x=0.01, ha="left")


def save(figure: Any, stem: Path) -> list[Path]:
    """Write <stem>.png and <stem>.svg; returns their paths."""
    import matplotlib.pyplot as plt

    paths = []
    for suffix, options in ((".png", {"dpi": 160}), (".svg", {"metadata": {"Date": None}})):
        path = Path(f"{stem}{suffix}")
        with replacing(path) as partial:
            figure.savefig(partial, facecolor="white", **options)
            if suffix == ".svg":
                partial.write_text(tidy_svg(partial.read_text(encoding="utf-8")), encoding="utf-8")
        paths.append(path)
    plt.close(figure)
    return paths


def tidy_svg(text: str) -> str:
    """Without trailing blanks, which version control dislikes."""
    return re.sub(r"[ \t]+$", "", text, flags=re.MULTILINE)
