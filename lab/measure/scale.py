"""make scale: how would the program do on 64 cores? Computed from tasks that were recorded on one.

    .venv/bin/python -m lab.measure.scale --engine parallel

For each k the program splits its work for k workers, but only one task runs at a time: nobody is in its way, so task
times can be added up.

    work             all tasks and serial pieces together
    span             the serial pieces, and of each region its longest task: the time on infinitely many cores
    burdened span    the span, and for each region what synchronising k workers costs (measured)
    T_k              the recorded tasks handed to k workers in their order, each to whoever is free first. The
                     Python in a task, and taking it from the queue, need the interpreter lock, which one worker
                     has at a time.
    ceiling          no region is done before this machine's memory has delivered its weights

What it does not know: cores that get slower when all of them work, caches that are shared, and whoever else uses the
machine.
"""

import argparse
import heapq
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from rich.console import Console
from rich.table import Table

from lab.checkpoint import Config, read_header
from lab.command import Parser, quietly, whole_number
from lab.measure.files import shown, write_json
from lab.measure.machine import Load, bandwidth, caches, cores
from lab.measure.recording import Pass, Recording
from lab.measure.runner import (
    Program,
    check_tokens,
    guarded,
    program_arguments,
    program_of,
    provenance,
    run,
    say,
    serial_program,
)

COUNTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
ROUNDS = 5  # measured runs for each k
REPEATS = 3  # recordings of each up to FEW workers, of which the medians count
FEW = 8

# ------------------------------------------------------------------------------------------------------------ the model


class Step(NamedTuple):
    """One region of the model: seconds of each task in order, seconds of Python in each, bytes of weights it reads."""

    tasks: tuple[float, ...]
    python: float
    weights: float


@dataclass(frozen=True)
class Split:
    """The program split for k workers: the seconds of its serial pieces together, and its regions."""

    k: int
    serial: float
    steps: tuple[Step, ...]

    @property
    def work(self) -> float:
        """Seconds of everything."""
        return self.serial + sum(sum(step.tasks) for step in self.steps)

    @property
    def span(self) -> float:
        """Seconds on infinitely many cores, with synchronisation for nothing."""
        return self.serial + sum(max(step.tasks, default=0.0) for step in self.steps)


class Costs(NamedTuple):
    """Seconds of synchronisation: `region` for each region, `worker` for each hand-over of a task to a worker."""

    region: float
    worker: float

    def burden(self, k: int) -> float:
        """Of one region on k workers."""
        return self.region + self.worker * (k - 1)


def schedule(tasks: Sequence[float], python: float, k: int, costs: Costs) -> float:
    """Seconds until k workers have done the tasks, taken in order by whoever is free first.

    Taking a task (costs.worker) and its Python need the interpreter lock: one worker at a time.
    """
    free = [0.0] * k
    lock = end = 0.0
    for seconds in tasks:
        begin = max(heapq.heappop(free), lock)
        handed = begin + (costs.worker if k > 1 else 0.0)
        lock = handed + min(python, seconds)
        done = handed + seconds
        end = max(end, done)
        heapq.heappush(free, done)
    return end + costs.region


def predict(split: Split, costs: Costs, gigabytes: float | None = None) -> float:
    """T_k in seconds; with `gigabytes`, the memory bandwidth in GB/s, no region is faster than its weights arrive."""
    total = split.serial
    for step in split.steps:
        seconds = schedule(step.tasks, step.python, split.k, costs)
        total += max(seconds, step.weights / (gigabytes * 1e9)) if gigabytes else seconds
    return total


# ----------------------------------------------------------------------------------------------- from what was recorded


def split_of(recording: Recording, python: dict[str, float], config: Config) -> Split:
    """The model of a recorded run."""
    steps, serial = [], 0
    for one in recording.passes:
        serial += sum(end - begin for begin, end in one.serial())
        for region, weights in zip(one.regions, region_weights(one, config), strict=True):
            tasks = tuple(task.length / 1e9 for task in region.tasks)
            steps.append(Step(tasks, python.get(region.name, 0.0), weights))
    return Split(recording.workers, serial / 1e9, tuple(steps))


def merged(splits: Sequence[Split]) -> Split:
    """Splits for the same k as one: medians of each task and of the serial pieces, so that disturbances do not count.

    Raises ValueError if they differ in their tasks.
    """
    steps = []
    for same in zip(*(split.steps for split in splits), strict=True):
        tasks = tuple(statistics.median(times) for times in zip(*(step.tasks for step in same), strict=True))
        steps.append(same[0]._replace(tasks=tasks))
    return Split(splits[0].k, statistics.median(split.serial for split in splits), tuple(steps))


def region_weights(one: Pass, config: Config) -> list[float]:
    """Bytes of weights that each region of a pass reads.

    A pass with 4 L + 1 matrix products has them in gpt.c's order; else all weights are spread as the work is.
    """
    C, L = config.channels, config.num_layers
    layer = [4 * C * width for width in (3 * C, C, 4 * C, 4 * C)]  # qkvw, attprojw, fcw, fcprojw
    products = layer * L + [4 * C * config.padded_vocab_size]  # and wte
    is_product = [region.name == "matmul_forward" for region in one.regions]
    if sum(is_product) == len(products):
        remaining = iter(products)
        return [next(remaining) if product else 0.0 for product in is_product]
    work = [region.work for region in one.regions]
    return [sum(products) * share / max(sum(work), 1) for share in work]


def measured_costs(recordings: Sequence[Recording], regions: dict[str, float]) -> Costs:
    """The fixed cost from the runs on one worker, what more workers add from regions of empty tasks."""
    extra = [region.length - region.work for recording in recordings for region in recording.regions]
    fixed = statistics.median(extra) / 1e9
    one = regions["1"]
    slopes = [(seconds - one) / (int(k) - 1) for k, seconds in regions.items() if int(k) > 1]
    return Costs(max(fixed, 0.0), max(statistics.median(slopes), 0.0) if slopes else 0.0)


def record_splits(program: Program, expected: list[int]) -> tuple[list[Recording], dict]:
    """The program split for each of COUNTS and recorded, and the costs measured. Raises ProgramError, ValueError."""
    counts = [*COUNTS, *[k for k in COUNTS if k <= FEW] * (REPEATS - 1)]
    report = run(program, "--record", *map(str, counts), "--alone", "--burden")
    for one in report["runs"]:
        check_tokens(program, one["tokens"], expected)
    recordings = [Recording(one) for one in report["runs"]]
    if not all(recording.regions for recording in recordings):
        raise ValueError(f"{program.name} told the recorder nothing: it has no regions (threadlib.region, perform)")
    if any(len(recording.pieces) > len(recording.tasks) for recording in recordings):
        reason = "its tasks wait for each other, and a prediction needs tasks that run to their end"
        raise ValueError(f"{program.name} cannot be recorded one task at a time: {reason}")
    return recordings, report["burden"]


def measure(program: Program, counts: Sequence[int], rounds: int, expected: list[int]) -> dict[int, list[float]]:
    """Seconds of plain runs for each k, in turn. Raises ProgramError."""
    times: dict[int, list[float]] = {k: [] for k in counts}
    for turn in range(rounds):
        for k in counts if turn % 2 == 0 else reversed(counts):
            report = run(replace(program, workers=k))
            check_tokens(program, report["tokens"], expected)
            times[k].append(report["seconds"])
    return times


# ---------------------------------------------------------------------------------------------------------- the command


def rows_of(
    splits: list[Split], costs: Costs, gigabytes: dict[int, float], times: dict[int, list[float]]
) -> list[dict]:
    """For each k: predicted seconds without and with the ceiling, the measured median, the relative error."""
    rows = []
    for split in splits:
        free = predict(split, costs)
        limited = predict(split, costs, gigabytes[min(split.k, max(gigabytes))]) if gigabytes else free
        row = {"k": split.k, "predicted": free, "limited": limited, "span": split.span}
        if split.k in times:
            row["times"] = times[split.k]
            row["measured"] = statistics.median(times[split.k])
            row["error"] = limited / row["measured"] - 1
        rows.append(row)
    return rows


def measured_counts() -> list[int]:
    """The numbers of workers that this machine has cores for: those of COUNTS."""
    return [k for k in COUNTS if k <= cores()]


def bandwidths(config: Config) -> dict[int, float]:
    """GB/s for 1, 2, ... all cores; {} for a model that fits the cache."""
    weights = 4 * config.channels * (12 * config.channels * config.num_layers + config.padded_vocab_size)
    if weights < 2 * caches().get("L3", 1 << 23):
        return {}
    best: dict[int, float] = {}
    for k in range(1, cores() + 1):
        best[k] = max(bandwidth(k), best.get(k - 1, 0.0))
    return best


def table(rows: list[dict]) -> Table:
    """Predictions beside measurements."""
    grid = Table(title="Prediction", title_justify="left", box=None, padding=(0, 2, 0, 0), pad_edge=False)
    grid.title_style = "bold"
    for heading in ("Workers", "T_k", "T_1/T_k", "with ceiling", "T_1/T_k", "Measured", "T_1/T_k", "Error"):
        grid.add_column(heading, justify="right", no_wrap=True)
    one = rows[0]
    for row in rows:
        cells = [str(row["k"])]
        for key in ("predicted", "limited", "measured"):
            cells += [f"{row[key]:.3f} s", f"{one[key] / row[key]:.2f}"] if key in row else ["", ""]
        grid.add_row(*cells, f"{row['error']:+.0%}" if "error" in row else "")
    return grid


def headline(result: dict) -> str:
    """Work, span, parallelism, burdened span, and the best prediction, in words."""
    work, span, burdened, k = result["work"], result["span"], result["burdened_span"], result["split"]
    best = min(result["rows"], key=lambda row: row["limited"])
    gain = result["rows"][0]["limited"] / best["limited"]
    return (
        f"Split for {k} workers: work {work:.3f} s, span {span:.3f} s, parallelism {work / span:.1f}. With "
        f"synchronisation the span is {burdened:.3f} s (burdened), so {k} workers gain at most {work / burdened:.1f}. "
        f"Best of the predictions: {best['k']} workers, {gain:.2f} times as fast as one."
    )


def scale(options: argparse.Namespace, arguments: list[str] | None) -> int:
    """Measure, record, predict, print."""
    console = Console(highlight=False)
    program = replace(program_of(options), workers=1)
    _, config = read_header(program.model)
    counts = measured_counts()
    say(f"{program.name}, {program.model.stem}, {program.n} tokens: {options.rounds} runs for each k of {counts} ...")
    with Load() as load:
        expected = run(serial_program(program))["tokens"]
        times = measure(program, counts, options.rounds, expected)
        say(f"recording it split for {COUNTS[0]} to {COUNTS[-1]} workers ...")
        recordings, burden = record_splits(program, expected)
        gigabytes = bandwidths(config)
    costs = measured_costs([one for one in recordings if one.workers == 1], burden["regions"])
    every = [split_of(recording, burden["bodies"], config) for recording in recordings]
    splits = [merged([split for split in every if split.k == k]) for k in COUNTS]
    finest = splits[-1]
    result = {
        "title": f"{program.name}, {program.model.stem}, {program.n} tokens",
        "engine": program.name,
        "model": program.model.stem,
        "n": program.n,
        "split": finest.k,
        "work": finest.work,
        "span": finest.span,
        "burdened_span": finest.span + len(finest.steps) * costs.burden(finest.k),
        "serial": finest.serial,
        "regions": len(finest.steps),
        "costs": costs._asdict(),
        "python": burden["bodies"],
        "bandwidth": gigabytes,
        "rows": rows_of(splits, costs, gigabytes, times),
        **provenance(arguments, "lab.measure.scale", load),
    }
    file = write_json(options.out / f"{program.name}.scale.json", result, indent=1)
    console.print(f"[bold]How it scales: {result['title']}")
    console.print()
    console.print(headline(result))
    microseconds = ", ".join(f"{name} {seconds * 1e6:.0f}" for name, seconds in burden["bodies"].items())
    console.print(
        f"Synchronisation: {costs.region * 1e6:.0f} µs a region and {costs.worker * 1e6:.1f} µs for each further "
        f"worker; Python in a task: {microseconds} µs."
    )
    if gigabytes:
        console.print("Memory: " + ", ".join(f"{gb:.0f} GB/s on {k}" for k, gb in gigabytes.items()) + ".")
    console.print()
    console.print(table(result["rows"]))
    console.print()
    console.print(f"Tokens equal to the serial program's. {str(load).capitalize()}. Written: {shown(file)}")
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Compute work, span, parallelism from tasks recorded one at a time, and predict the time on 1 to 64 workers."""
    parser = Parser(prog="python -m lab.measure.scale", description=main.__doc__)
    program_arguments(parser, engine="parallel", n=10)
    parser.add_argument(
        "--rounds", type=whole_number(1), default=ROUNDS, help=f"measured runs for each k (default {ROUNDS})"
    )
    options = parser.parse_args(arguments)
    return guarded(lambda: scale(options, arguments))


if __name__ == "__main__":
    sys.exit(quietly(main))
