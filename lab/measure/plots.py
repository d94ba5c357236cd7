"""make plots: three pictures, each as PNG and SVG.

    .venv/bin/python -m lab.measure.plots

    <engine>.speedup      speedup against workers: measured with intervals, ideal, Amdahl's law, capacity, prediction
    <engine>.operations   seconds by operation, the serial program beside the parallel one
    <engine>.roofline     what each operation computes a second, against what the machine's memory and arithmetic allow

Speedups come from <engine>.scale.json (make scale, which is run if it is missing) and, where there is one, bench.json
(make bench).
"""

import argparse
import json
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from rich.console import Console

from lab.checkpoint import Config, read_header
from lab.command import counted, quietly
from lab.files import shown, write_json
from lab.measure import beside, operations, scale, style
from lab.measure.capacity import Kernel, capacity
from lab.measure.freshness import about, as_written, digest, why_stale
from lab.measure.load import Load
from lab.measure.machine import bandwidth, cores, peak
from lab.measure.operations import Cost
from lab.measure.runner import Program, guarded, parsed, passed_on, program_of, program_parser, provenance, say
from lab.measure.stats import Estimate, estimate, ratios
from lab.measure.style import BLACK, BLUE, GREEN, GREY, ORANGE, OUTSIDE, SKY, UNTOLD, VERMILLION, looks, short

# -------------------------------------------------------------------------------------------------------------- speedup


class Speedups(NamedTuple):
    """Self-scaling T_1/T_k by number of workers: measured with intervals, predicted, and the machine's capacity."""

    measured: dict[int, Estimate]
    predicted: dict[int, float]
    limited: dict[int, float]  # with the memory ceiling
    capacity: dict[int, float]


def is_of(bench: dict, program: Program, prediction: dict) -> bool:
    """Whether bench.json has measured the program that was predicted, as it is now, on the same job."""
    try:
        job = (Path(bench["model"]).stem, bench["prompt_length"], bench["n"])
        same = job == (prediction["model"], len(program.prompt), prediction["n"])
        return same and bench["digests"][program.name] == digest(program.engine)
    except (LookupError, TypeError):  # another version's, or somebody has edited it
        return False


def speedups(prediction: dict, bench: dict | None, capacities: dict[int, float]) -> Speedups:
    """From <engine>.scale.json and bench.json, whose measurements go first."""
    rows = prediction["rows"]
    one = rows[0]
    measured = {
        row["k"]: estimate(ratios(one["times"], row["times"])) for row in rows if "times" in row and "times" in one
    }
    if bench:
        measured |= beside.curves(bench).get(prediction["engine"], {})
        capacities = capacities | beside.capacities(bench)
    return Speedups(
        measured,
        {row["k"]: one["predicted"] / row["predicted"] for row in rows if "predicted" in row},
        {row["k"]: one["limited"] / row["limited"] for row in rows if "limited" in row},
        capacities,
    )


def serial_fraction(measured: dict[int, float]) -> float | None:
    """The s from 0 to 1 for which Amdahl's law, T_k/T_1 = s + (1 - s)/k, fits best (least squares); None for k = 1."""
    ks = np.array([k for k in measured if k > 1], dtype=float)
    if ks.size == 0:
        return None
    gain = 1 - 1 / ks  # T_k/T_1 - 1/k = s (1 - 1/k)
    rest = np.array([1 / measured[int(k)] for k in ks]) - 1 / ks
    return float(np.clip(gain @ rest / (gain @ gain), 0, 1))


def draw_speedup(data: Speedups, title: str, note: str) -> Any:
    """Speedup against workers, both axes logarithmic."""
    figure, axes = style.pyplot().subplots(figsize=(7.6, 5.6))
    ks = np.array(sorted({*data.predicted, *data.measured}))
    top = 2 * max(*data.predicted.values(), *(e.high for e in data.measured.values()), *data.capacity.values(), 2.0)
    axes.plot(ks, ks, color=GREY, lw=1.2, ls=(0, (1, 1.5)), label="ideal: k")
    for label, line, look in (
        ("predicted, memory that never limits", data.predicted, {"color": SKY, "ls": "--", "marker": "v", "ms": 5}),
        ("predicted, this machine's memory", data.limited, {"color": BLUE, "marker": "s", "ms": 4.5}),
    ):
        if line:
            axes.plot(list(line), list(line.values()), label=label, **look)
    fraction = serial_fraction({k: e.median for k, e in data.measured.items()})
    if fraction is not None:
        label = f"Amdahl's law, serial {fraction:.0%} as measured: no lock, no memory"
        axes.plot(ks, 1 / (fraction + (1 - fraction) / ks), color=ORANGE, ls="-.", label=label)
    if data.capacity:
        gave = zip(*sorted(data.capacity.items()), strict=True)
        axes.plot(*gave, color=GREEN, marker="D", ms=6, mfc="white", label="capacity: what the cores gave")
    look = {"color": VERMILLION, "ms": 8, "capsize": 5, "lw": 2, "zorder": 5, "label": "measured, 95 % interval"}
    style.intervals(axes, data.measured, **look)
    lowest = min(*data.predicted.values(), *data.limited.values(), *(e.median for e in data.measured.values()), 1.0)
    logarithmic(axes, ks, min(0.5, 2.0 ** np.floor(np.log2(0.9 * lowest))), top)
    axes.set(xlabel="workers k", ylabel="speedup  $T_1 / T_k$")
    axes.grid(True)
    style.legend_below(axes, columns=2)
    return style.framed(figure, title, note=note)


def draw_prediction(prediction: dict, data: Speedups) -> Any:
    """The same, titled with what <engine>.scale.json says of itself."""
    title, note = f"How it scales: {prediction['title']}", f"{prediction['machine']}; {prediction['date']}"
    return draw_speedup(data, title, note)


def logarithmic(axes: Any, ks: np.ndarray, bottom: float, top: float) -> None:
    """Base-2 axes with plain numbers at the ticks; speedups from `bottom`, a power of two, to `top`."""
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    for axis, first, last in ((axes.xaxis, 0, ks.max()), (axes.yaxis, int(np.log2(bottom)), top)):
        ticks = [2.0**p for p in range(first, 10) if 2.0**p <= last]
        axis.set_ticks(ticks, [f"{tick:g}" for tick in ticks])
    axes.minorticks_off()
    axes.set(xlim=(0.93, ks.max() * 1.08), ylim=(bottom, top))


# ------------------------------------------------------------------------------------------------- seconds by operation


def draw_operations(seconds: dict[str, dict[str, float]], title: str, note: str) -> Any:
    """One bar for the serial program, stacked by operation, and one for each number of workers, stacked by region."""
    figure, axes = style.pyplot().subplots(figsize=(8.6, 1.7 + 0.75 * len(seconds)))
    whole = {bar: sum(parts.values()) for bar, parts in seconds.items()}
    names = in_order(seconds)
    look = looks(names)
    for place, (bar, parts) in enumerate(seconds.items()):
        left = 0.0
        for name in names:
            value, (fill, hatch) = parts.get(name, 0.0), look[name]
            axes.barh(place, value, left=left, height=0.62, color=fill, hatch=hatch, edgecolor="white", lw=0.5)
            if value > 0.07 * max(whole.values()):
                axes.text(left + value / 2, place, f"{value / whole[bar]:.0%}", **style.label_on(fill))
            left += value
        axes.text(left + 0.008 * max(whole.values()), place, f"{left:.2f} s", va="center", fontsize=9.5, weight="bold")
    most = 1.09 * max(whole.values())
    style.named_rows(axes, [bar_name(bar) for bar in seconds], most, "seconds, as the main thread sees them")
    return style.framed(figure, title, [(short(name), *look[name]) for name in names], note)


def in_order(seconds: dict[str, dict[str, float]]) -> list[str]:
    """All names that took time: serial's operations and then the other's regions, the longest first; the rest last."""
    took = (
        name for parts in seconds.values() for name, value in sorted(parts.items(), key=lambda item: -item[1]) if value
    )
    return sorted(dict.fromkeys(took), key=lambda name: name in (OUTSIDE, UNTOLD))


def bar_name(bar: str) -> str:
    """ "serial" -> "serial", "1" -> "1 worker", "2" -> "2 workers" """
    return bar if not bar.isdigit() else counted(int(bar), "worker")


# ------------------------------------------------------------------------------------------------------------- roofline


class Roof(NamedTuple):
    """GB/s and GFLOP/s of a number of threads."""

    threads: int
    gigabytes: float
    gigaflops: float


class Point(NamedTuple):
    """An operation of one program: its cost and the seconds it took."""

    name: str
    program: str
    cost: Cost
    seconds: float


ALL = "all of a pass"


def points(seconds: dict[str, dict[str, float]], costs: dict[str, dict[str, Cost]]) -> list[Point]:
    """The operations that take 1 % of the serial program's time or more.

    Of a program whose regions have the names of operations, the same; of one that calls them otherwise, so that nobody
    knows what each of them computes, one point for all it does.
    """
    whole = sum(seconds["serial"].values())
    shown = {name for name, value in seconds["serial"].items() if value >= 0.01 * whole}
    found = []
    for program, parts in seconds.items():
        known = costs["serial" if program == "serial" else "parallel"]
        regions = parts.keys() - {OUTSIDE, UNTOLD}
        if regions and regions <= known.keys():
            names = [name for name in known if name in regions & shown and parts[name] > 0]
            found += [Point(name, program, known[name], parts[name]) for name in names]
        else:
            found.append(Point(ALL, program, sum(known.values(), Cost(0, 0)), sum(parts.values())))
    return found


def draw_roofline(roofs: list[Roof], found: list[Point], title: str, note: str) -> Any:
    """Achieved GFLOP/s against arithmetic intensity, both logarithmic, below the machine's roofs."""
    figure, axes = style.pyplot().subplots(figsize=(8.2, 5.8))
    achieved = [(point, point.cost.flops / point.seconds / 1e9) for point in found]
    labelled = [
        (f"roof of {counted(k, 'thread')}: {gigabytes:.0f} GB/s, {flops:.0f} GFLOP/s", gigabytes, flops)
        for k, gigabytes, flops in roofs
    ]
    lowest = min(rate for _, rate in achieved)
    style.roofs(axes, labelled, (0.1, 60.0), lowest, ", every number moved once")
    markers = dict(zip(dict.fromkeys(point.program for point in found), "os^Dv", strict=False))
    places: dict[str, tuple[float, float]] = {}  # of each name, the lowest
    look = looks(point.name for point in found)
    for point, rate in achieved:
        place = point.cost.intensity, rate
        places[point.name] = min(places.get(point.name, place), place, key=lambda place: place[1])
        colour = look[point.name][0]
        fill = colour if point.program != "serial" else "white"
        axes.plot(*place, markers[point.program], ms=9, mfc=fill, mec=colour, mew=2.2, zorder=3)
    for name, place in places.items():
        axes.annotate(short(name), place, xytext=(0, -17), textcoords="offset points", fontsize=9, ha="center")
    for program, marker in markers.items():
        fill = "white" if program == "serial" else BLACK
        axes.plot([], [], marker, ms=8, mfc=fill, mec=BLACK, mew=1.6, ls="", label=bar_name(program))
    axes.legend(loc="upper left", fontsize=8.5)
    return style.framed(figure, title, note=note)


# ---------------------------------------------------------------------------------------------------------- the command


def load_json(path: Path) -> dict | None:
    """The contents, None if there is no such file. Raises ValueError, one line, for one that is not JSON."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (ValueError, RecursionError):
        raise ValueError(f"{path}: not a JSON file; remove it and try again") from None


def prediction_for(program: Program, options: argparse.Namespace) -> dict:
    """<engine>.scale.json, made if it is missing or stale. Raises ProgramError."""
    path = options.out / f"{program.name}.scale.json"
    if stale := why_stale(path, replace(program, workers=1), any_n=options.n is None):
        say(f"{shown(path)}: {stale}; make scale ...")
        if scale.main(["--engine", options.engine, *passed_on(options, options.n)]) != 0:
            raise ValueError(f"make scale failed, so there is no {shown(path)} to draw")
    return load_json(path) or {}


def measure_operations(program: Program, config: Config) -> tuple[dict, dict, list[Roof]]:
    """Seconds by operation, costs by operation, roofs. Raises ProgramError."""
    counts = sorted({1, min(program.workers, max(2, cores()))})
    seconds = operations.measure(program, counts)
    prompt = len(program.prompt)
    costs = {
        "serial": operations.generation_costs(config, prompt, program.n, last_only=False),
        "parallel": operations.generation_costs(config, prompt, program.n, last_only=True),
    }
    roofs = [Roof(k, bandwidth(k), peak(k)) for k in sorted({1, cores()})]
    return seconds, costs, roofs


@guarded
def main(arguments: list[str] | None = None) -> int:
    """Draw speedup, seconds by operation and the roofline."""
    options = parsed(program_parser("plots", main.__doc__, engine="parallel", new=17), arguments)
    program = program_of(options)
    _, config = read_header(program.model)
    belongs = about(program)
    prediction = prediction_for(program, options)
    foreseen, benched = options.out / f"{program.name}.scale.json", options.out / "bench.json"
    bench = load_json(benched)
    if bench and not is_of(bench, program, prediction):
        say(f"{shown(benched)}: measured with another program, model or n; left out")
        bench = None
    for path, more in [(foreseen, None), (benched, bench)][: 2 if bench else 1]:
        with as_written(path, "remove it and try again"):  # what cannot be drawn is known before anything is measured
            draw_prediction(prediction, speedups(prediction, more, {1: 1.0}))
    say(f"measuring each operation: {program.title} ...")
    with Load() as load:
        seconds, costs, roofs = measure_operations(program, config)
        kernel = Kernel()
        capacities = {1: 1.0} | {k: capacity(k, kernel) for k in scale.measured_counts() if k > 1}
    data = speedups(prediction, bench, capacities)
    origin = provenance(arguments, "lab.measure.plots", load)
    result = {
        "seconds": seconds, "roofs": [roof._asdict() for roof in roofs], "capacity": data.capacity, "about": belongs,
        **origin,
    }  # fmt: skip
    stem = str(options.out / program.name)
    note = f"{origin['machine']}; {load}; {origin['date']}"
    job = f"{program.model_name}, {program.n} tokens"
    pictures = {
        "speedup": draw_prediction(prediction, data),
        "operations": draw_operations(seconds, f"Where the time goes: serial and {program.file}, {job}", note),
        "roofline": draw_roofline(roofs, points(seconds, costs), f"Roofline: serial and {program.file}, {job}", note),
    }
    files = [path for name, figure in pictures.items() for path in style.save(figure, Path(f"{stem}.{name}"))]
    files.append(write_json(Path(f"{stem}.plots.json"), result, indent=1))
    Console(highlight=False).print("Written: " + ", ".join(shown(path) for path in files))
    return 0


if __name__ == "__main__":
    quietly(main, steady=True)
