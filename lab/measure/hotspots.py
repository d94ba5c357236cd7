"""The hot-spot table: which functions the time is in, at which line, and what that promises to whoever makes them
faster."""

from collections import defaultdict
from functools import partial
from typing import NamedTuple

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table
from rich.text import Text

from lab.measure.samples import Frame, Sample

ENOUGH = 1.0  # seconds of samples, below which nothing is promised
LEAST = 0.005  # functions with a smaller share are left out
WORKERS = 4  # for how many workers the bound is shown
BAR = 8  # characters of a full bar


class Row(NamedTuple):
    """A function's shares of all samples, between 0 and 1, and its hottest line with that line's share."""

    name: str
    file: str
    self_share: float
    total_share: float
    line: int
    line_share: float
    source: str

    def bound(self, factor: float = float("inf")) -> str:
        """The speedup of the whole if this function ran `factor` times as fast, or took no time: "8.1x", "> 100x"."""
        speedup = amdahl(self.self_share, factor)
        return f"{speedup:.1f}x" if speedup < 99.95 else "> 100x"


def amdahl(share: float, factor: float) -> float:
    """The speedup of a program of which `share` becomes `factor` times as fast, and the rest stays."""
    rest = 1 - share + share / factor
    return 1 / rest if rest > 0 else float("inf")


def hot_spots(samples: list[Sample], most: int = 10) -> list[Row]:
    """The lab's functions with the largest self time; what they call in numpy and Python's library counts as their own.

    Raises ValueError without samples.
    """
    if not samples:
        raise ValueError("no samples: the run was too short for this rate; give it more tokens (-n) or a larger model")
    whole = sum(sample.seconds for sample in samples)
    own: defaultdict[tuple[str, str], float] = defaultdict(float)
    total: defaultdict[tuple[str, str], float] = defaultdict(float)
    lines: defaultdict[Frame, float] = defaultdict(float)
    for sample in samples:
        ours = [frame for frame in sample.stack if frame.is_ours] or list(sample.stack)
        own[ours[-1].name, ours[-1].file] += sample.seconds
        lines[ours[-1]] += sample.seconds
        for function in {(frame.name, frame.file) for frame in ours}:
            total[function] += sample.seconds
    rows = []
    for (name, file), seconds in sorted(own.items(), key=lambda item: -item[1])[:most]:
        if seconds / whole < LEAST:
            break
        line = max((frame for frame in lines if (frame.name, frame.file) == (name, file)), key=lambda f: lines[f])
        hottest = lines[line] / whole
        rows.append(Row(name, line.base, seconds / whole, total[name, file] / whole, line.line, hottest, line.source))
    return rows


def promises(row: Row, seconds: float) -> dict[str, str]:
    """{"if_free", "on_workers"}: the bounds of a row; none for less than a second of samples."""
    bounds = {"if_free": row.bound(), "on_workers": row.bound(WORKERS)}
    return bounds if seconds >= ENOUGH else dict.fromkeys(bounds, "")


def table(rows: list[Row], seconds: float, title: str | None = None, width: int = 80) -> Table:
    """The rows from `seconds` of samples; with bars and lines of source where there is room for them."""
    room = width >= 76
    number = partial(Column, justify="right", no_wrap=True)
    grid = wide_table(
        title,
        Column("Function", no_wrap=room, overflow="ellipsis", min_width=8),
        number("Self"),
        *bar_column(width),
        number("Total"),
        Column("Hottest line", no_wrap=True, overflow="ellipsis", ratio=1 if room else None),
        number("If free"),
        number(f"On {WORKERS}"),
    )
    for place, row in enumerate(rows):
        grid.add_row(
            Text(row.name, style="bold" if place < 2 else "", no_wrap=True),
            f"{row.self_share:.1%}",
            *(Text(bar(row.self_share), style="yellow" if place < 2 else "blue") for _ in bar_column(width)),
            f"{row.total_share:.1%}",
            Text.assemble((f"{row.file}:{row.line}", "cyan"), f" {row.source}" if room else ""),
            *promises(row, seconds).values(),
        )
    return grid


def wide_table(title: str | None, *columns: Column) -> Table:
    """A table without lines, as wide as the terminal."""
    return Table(
        *columns, title=title, title_justify="left", title_style="bold", box=None, padding=(0, 1), pad_edge=False,
        expand=True,
    )  # fmt: skip


def bar_column(width: int) -> list[Column]:
    """The column of bars, where the terminal has room for one."""
    return [Column("", no_wrap=True, width=BAR)] if width >= 96 else []


def bar(share: float) -> str:
    """A bar of block characters, BAR long for a share of 1."""
    eighths = round(share * BAR * 8)
    return "█" * (eighths // 8) + ("", *"▏▎▍▌▋▊▉")[eighths % 8]


def sentence(rows: list[Row], seconds: float) -> str:
    """What the first row promises, in words; of less than a second of samples, that they promise nothing."""
    if seconds < ENOUGH:
        return (
            f"Only {seconds:.2f} s of samples: the table means little. Let it run longer, with more tokens "
            "(-n) or a larger model."
        )
    first = rows[0]
    return (
        f"If {first.name} were free, the whole would be at most {first.bound()} as fast; "
        f"on {WORKERS} workers, which share its work evenly, at most {first.bound(WORKERS)} (Amdahl's law)."
    )


def show(console: Console, rows: list[Row], title: str, seconds: float) -> None:
    """Print the table and the sentence about `seconds` of samples."""
    console.print(table(rows, seconds, title, console.width))
    console.print("\n" + escape(sentence(rows, seconds)))
