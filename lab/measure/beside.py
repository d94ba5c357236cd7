"""Several programs in one picture: their times beside each other and how each scales, from results of make bench."""

from collections.abc import Mapping
from itertools import cycle
from typing import Any

import numpy as np

from lab.command import counted
from lab.measure import style
from lab.measure.stats import Estimate

LOOKS = (style.SKY, style.BLUE, style.ORANGE, style.PURPLE, style.YELLOW)


def curves(bench: dict[str, Any]) -> dict[str, dict[int, Estimate]]:
    """{engine: {k: E_k}} of a bench.json, for the engines that were measured on one worker and on more."""
    found: dict[str, dict[int, Estimate]] = {}
    for entry in bench["contenders"]:
        if entry["E"]:
            found.setdefault(entry["engine"], {1: Estimate(1.0, 1.0, 1.0)})[entry["k"]] = Estimate(**entry["E"])
    return found


def capacities(bench: dict[str, Any]) -> dict[int, float]:
    """{k: the median of C_k} of a bench.json."""
    return {1: 1.0} | {int(k): float(np.median(values)) for k, values in bench["capacity"].items()}


def milliseconds(bench: dict[str, Any]) -> dict[str, dict[int, float]]:
    """{engine: {k: milliseconds a token, prompt included in the first}} of a bench.json, medians."""
    made = bench["n"] - bench["prompt_length"]
    found: dict[str, dict[int, float]] = {}
    for entry in bench["contenders"]:
        found.setdefault(entry["engine"], {})[entry["k"]] = 1e3 * float(np.median(entry["seconds"])) / made
    return found


def draw_scaling(
    measured: Mapping[str, Mapping[int, Estimate]], capacity: Mapping[int, float], title: str, note: str = ""
) -> Any:
    """E_k = T_1/T_k against k: a line with 95 % intervals for each program, the one called "yours" on top of the rest,
    between the capacity of the machine and the ideal."""
    figure, axes = style.pyplot().subplots(figsize=(8.2, 4.8))
    ks = sorted({k for line in measured.values() for k in line} | set(capacity))
    axes.plot(ks, ks, color=style.GREY, lw=1.2, ls=(0, (1, 1.5)), label="ideal: k")
    gave = zip(*sorted(capacity.items()), strict=True)
    axes.plot(*gave, color=style.GREEN, marker="D", ms=6, mfc="white", label="capacity C_k: what the cores gave")
    fills = cycle(LOOKS)
    for name, line in measured.items():
        look = {"color": style.VERMILLION, "lw": 3, "zorder": 5} if name == "yours" else {"color": next(fills), "lw": 2}
        style.intervals(axes, line, ms=7, capsize=4, label=name, **look)
    axes.set_xticks(ks, [str(k) for k in ks])
    axes.set(xlabel="workers k", ylabel="self-scaling  $E_k = T_1 / T_k$")
    axes.grid(True)
    style.legend_below(axes, columns=3)
    return style.framed(figure, title, note=note)


def draw_times(times: Mapping[str, Mapping[int, float]], title: str, note: str = "") -> Any:
    """Milliseconds a token: a bar for each program and number of workers."""
    bars = [
        (f"{name}, {counted(k, 'worker')}" if len(line) > 1 or k > 1 else name, line[k], fill, f"{line[k]:,.0f} ms")
        for (name, line), fill in zip(times.items(), cycle((style.GREY, *LOOKS)), strict=False)
        for k in sorted(line)
    ]
    figure, axes = style.pyplot().subplots(figsize=(8.6, 1.5 + 0.36 * len(bars)))
    style.bars(axes, bars, "milliseconds a token")
    return style.framed(figure, title, note=note)
