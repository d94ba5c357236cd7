"""make scale: how would the program do on 64 cores? Computed from tasks that were recorded on one.

    .venv/bin/python -m lab.measure.scale --engine parallel

For each k the program splits its work for k workers, but only one task runs at a time: nobody is in its way, so task
times can be added up.

    work             all tasks and serial pieces together
    span             the serial pieces, and of each region its longest task: the time on infinitely many cores
    burdened span    the span, and for each region what handing it to k workers costs
    T_k              what follows, added up:
      work / k       if that were all, k workers would be k times as fast
      main thread    the rest of the serial pieces, which nobody shares
      tasks          of each region, what the tasks, handed out in order, take longer than equal shares would:
                     there are fewer tasks than workers (no more than there are heads, say), or unequal ones
      lock           handing out the tasks and the Python in them, for which one thread at a time has the interpreter
                     lock; measured with k workers on a model with next to no arithmetic
      cores          cores are slower when others work beside them: by k / C_k, as far as this machine has cores
      memory         no region is done before this machine's memory has delivered the weights that are read in it

What it does not know: caches that are shared by more cores than this machine has, and whoever else uses the machine.
"""

import heapq
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from rich.console import Console
from rich.table import Column, Table

from lab.checkpoint import Config, read_header
from lab.command import counted, quietly, whole_number
from lab.files import shown, write_json
from lab.measure import runner
from lab.measure.capacity import Kernel, capacity
from lab.measure.freshness import about
from lab.measure.load import Load
from lab.measure.machine import bandwidth, caches, cores
from lab.measure.recording import Recording
from lab.measure.runner import Program, check_tokens, guarded, run, say, serial_tokens

COUNTS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64)
ROUNDS = 5  # measured runs for each k
REPEATS = 3  # recordings of each up to FEW workers, of which the medians count
FEW = 8

# ------------------------------------------------------------------------------------------------------------ the model


class Step(NamedTuple):
    """One region of the model: its name, seconds of each task in order, bytes of weights it reads."""

    name: str
    tasks: tuple[float, ...]
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


class Overhead(NamedTuple):
    """Seconds of a region in which nothing is computed, and of the Python in one of its tasks."""

    region: float
    task: float


class Machine(NamedTuple):
    """What the cores do to each other: C_k, and the GB/s that k of them read; {} for a model that fits the cache."""

    capacity: dict[int, float]
    gigabytes: dict[int, float]

    def slowdown(self, k: int) -> float:
        """How much longer a task takes when k - 1 others run; of more workers than cores, as with all cores."""
        k = min(k, max(self.capacity))
        return max(1.0, k / self.capacity[k])

    def seconds(self, weights: float, k: int) -> float:
        """How long that many bytes of weights take to come from memory; of more workers than cores, as with all."""
        return weights / (self.gigabytes[min(k, max(self.gigabytes))] * 1e9) if self.gigabytes else 0.0


CAUSES = ("main thread", "tasks", "lock", "cores", "memory")  # of what T_k is more than the work divided by k


def schedule(tasks: Sequence[float], k: int) -> float:
    """Seconds until k workers have done the tasks, taken in order by whoever is free first."""
    free = [0.0] * k
    for seconds in tasks:
        heapq.heappush(free, heapq.heappop(free) + seconds)
    return max(free)


def predict(split: Split, overheads: dict[str, Overhead], machine: Machine) -> dict[str, float]:
    """T_k in parts, in seconds: "work" (divided by k) and the CAUSES."""
    k = split.k
    parts: dict[str, float] = dict.fromkeys(("work", *CAUSES), 0.0)
    parts["work"] = split.serial / k
    parts["main thread"] = split.serial - split.serial / k
    other = Overhead(*map(statistics.median, zip(*overheads.values(), strict=True)))  # for a region of another name
    for step in split.steps:
        overhead = overheads.get(step.name, other)
        tasks = [max(0.0, seconds - overhead.task) for seconds in step.tasks]
        even, longest = sum(tasks) / k, schedule(tasks, k)
        slowed = longest * machine.slowdown(k)
        parts["work"] += even
        parts["tasks"] += longest - even
        parts["cores"] += slowed - longest
        parts["memory"] += max(0.0, machine.seconds(step.weights, k) - slowed)
        parts["lock"] += overhead.region
    return parts


def busy_tasks(split: Split) -> int:
    """How many tasks a region has that do something to speak of: of the regions with the most work, the fewest."""
    heavy = [step for step in split.steps if sum(step.tasks) >= 0.1 * max(sum(other.tasks) for other in split.steps)]
    return min(sum(seconds > 0.1 * max(step.tasks) for seconds in step.tasks) for step in heavy)


def limit(split: Split, parts: dict[str, float], heads: int) -> str:
    """What keeps k workers most from being k times as fast, in a word or two; "" for one worker."""
    cause = max(CAUSES, key=lambda name: parts[name])
    if split.k == 1 or parts[cause] <= 0:
        return ""
    if cause != "tasks":
        return {"lock": "interpreter lock", "cores": "slower cores"}.get(cause, cause)
    tasks = busy_tasks(split)
    if tasks >= split.k:
        return "unequal tasks"
    return f"{tasks} heads" if tasks == heads else f"{tasks} tasks"


# ----------------------------------------------------------------------------------------------- from what was recorded


def split_of(recording: Recording, weights: Sequence[tuple[str, int]], config: Config) -> Split:
    """The model of a recorded run; `weights` as burden.weights() gives them."""
    steps = [
        Step(region.name, tuple(task.length / 1e9 for task in region.tasks), read)
        for region, read in zip(recording.regions, region_weights(recording, weights, config), strict=True)
    ]
    return Split(recording.workers, recording.outside(), tuple(steps))


def merged(splits: Sequence[Split]) -> Split:
    """Splits for the same k as one: medians of each task and of the serial pieces, so that disturbances do not count.

    Raises ValueError if they differ in their tasks.
    """
    steps = tuple(
        same[0]._replace(tasks=tuple(map(statistics.median, zip(*(step.tasks for step in same), strict=True))))
        for same in zip(*(split.steps for split in splits), strict=True)
    )
    return Split(splits[0].k, statistics.median(split.serial for split in splits), steps)


def weight_bytes(config: Config) -> int:
    """Of the matrices that a forward pass reads: those of the layers, and wte."""
    C = config.channels
    return 4 * C * (12 * C * config.num_layers + config.padded_vocab_size)


def region_weights(recording: Recording, weights: Sequence[tuple[str, int]], config: Config) -> list[float]:
    """Bytes of weights that each region reads: those that were noted. They are spread as the work is where the regions
    are others than those noted, or too little was noted (a program may keep its weights in another form)."""
    whole = weight_bytes(config) * len(recording.passes)
    regions = recording.regions
    noted = [float(read) for _, read in weights]
    if [region.name for region in regions] == [name for name, _ in weights] and sum(noted) > 0.5 * whole:
        return noted
    work = sum(region.work for region in regions)
    return [whole * region.work / max(work, 1) for region in regions]


def record_splits(program: Program, expected: list[int], config: Config) -> tuple[list[Split], dict]:
    """The program split for each of COUNTS, recorded; {k: {region: Overhead}}. Raises ProgramError, ValueError."""
    counts = [*COUNTS, *[k for k in COUNTS if k <= FEW] * (REPEATS - 1)]
    report = run(program, record=counts, alone=True)
    for one in report["runs"]:
        check_tokens(program, one["tokens"], expected)
    recordings = [Recording(one) for one in report["runs"]]
    if not all(recording.regions for recording in recordings):
        raise ValueError(f"{program.name} names no regions (threadlib.region and perform)")
    if any(len(recording.pieces) > len(recording.tasks) for recording in recordings):
        raise ValueError(f"the tasks of {program.name} wait for each other, and a prediction adds up tasks that do not")
    every = [split_of(recording, report["weights"], config) for recording in recordings]
    splits = [merged([split for split in every if split.k == k]) for k in COUNTS]
    overheads = {
        int(k): {
            name: Overhead(kinds["region"], kinds.get("task", 0.0))
            for name, kinds in names.items()
            if "region" in kinds  # not of tasks that belong to no region
        }
        for k, names in report["overheads"].items()
    }
    return splits, overheads


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
    splits: list[Split], overheads: dict[int, dict[str, Overhead]], machine: Machine, times: dict, heads: int
) -> list[dict]:
    """For each k: predicted seconds without and with the memory ceiling, in parts, what limits; the measured median,
    and the error relative to it."""
    rows = []
    for split in splits:
        parts = predict(split, overheads[split.k], machine)
        limited = sum(parts.values())
        row = {
            "k": split.k, "predicted": limited - parts["memory"], "limited": limited, "span": split.span,
            "parts": parts, "limit": limit(split, parts, heads),
        }  # fmt: skip
        if split.k in times:
            row |= measured_row(times[split.k])
            row["error"] = limited / row["measured"] - 1
        rows.append(row)
    return rows


def measured_row(times: list[float]) -> dict:
    """What was measured for one k."""
    return {"times": times, "measured": statistics.median(times)}


def measured_counts() -> list[int]:
    """The numbers of workers that this machine has cores for: those of COUNTS."""
    return [k for k in COUNTS if k <= cores()]


def measured_machine(config: Config, positions: int) -> Machine:
    """C_k and bandwidth for 1, 2, ... all cores; the bandwidth only for a model that fits no cache."""
    kernel = Kernel(positions, config)
    capacities, gigabytes = {1: 1.0}, {1: bandwidth(1)}
    for k in range(2, cores() + 1):
        capacities[k] = capacity(k, kernel)
        gigabytes[k] = max(bandwidth(k), gigabytes[k - 1])
    return Machine(capacities, gigabytes if weight_bytes(config) > 2 * caches().get("L3", 1 << 23) else {})


def table(rows: list[dict], width: int = 80) -> Table:
    """Predictions beside measurements, each as T_k and T_1/T_k; below 75 columns only the prediction with memory."""

    def number(heading: str) -> Column:
        return Column(heading, justify="right", no_wrap=True, min_width=max(len(heading), 2))

    headings = {"predicted": "T_k", "limited": "with memory", "measured": "Measured"}
    shown = {key: heading for key, heading in headings.items() if any(key in row for row in rows)}
    if width < 75 and "limited" in shown:
        del shown["predicted"]
    columns: list[Column | str] = [number(text) for heading in shown.values() for text in (heading, "T_1/T_k")]
    if "limited" in shown:
        columns += [number("Error"), "limited by"]
    grid = Table(number("k"), *columns, box=None, padding=(0, 1, 0, 0), pad_edge=False)
    one = rows[0]
    for row in rows:
        cells = [str(row["k"])]
        for key in shown:
            cells += [f"{row[key]:.3f} s", f"{one[key] / row[key]:.2f}"] if key in row else ["", ""]
        if "limited" in shown:
            cells += [f"{row['error']:+.0%}" if "error" in row else "", row["limit"]]
        grid.add_row(*cells)
    return grid


def headline(result: dict) -> str:
    """Work, span, parallelism, burdened span, the best prediction and what comes after it, in words."""
    if "work" not in result:
        return f"No prediction: {result['reason']}. Measured only."
    work, span, burdened, k = result["work"], result["span"], result["burdened_span"], result["split"]
    rows = result["rows"]
    best = min(rows, key=lambda row: row["limited"])
    gain = rows[0]["limited"] / best["limited"]
    return (
        f"Split for {k} workers: work {work:.3f} s, span {span:.3f} s, parallelism {work / span:.1f}. With "
        f"synchronisation the span is {burdened:.3f} s (burdened), so {k} workers gain at most {work / burdened:.1f}. "
        f"Best of the predictions: k = {best['k']}, {gain:.2f} times as fast as one. {fall(best, rows[-1])}"
    )


def fall(best: dict, last: dict) -> str:
    """Why the last of the predictions is slower than the best, in words; "" if it hardly is."""
    if last["limited"] < 1.03 * best["limited"]:
        return ""
    grown = {name: last["parts"][name] - best["parts"][name] for name in CAUSES}
    cause = max(grown, key=lambda name: grown[name])
    what = {
        "lock": "handing out tasks and the Python in them, under the interpreter lock",
        "main thread": "what the main thread does alone (starting threads, work between regions)",
        "tasks": "too few or unequal tasks",
        "cores": "cores that slow each other down",
        "memory": "waiting for memory",
    }[cause]
    before, after = best["parts"][cause], last["parts"][cause]
    return f"From there to {last['k']} it gets slower because of {what}: {before:.3f} s, then {after:.3f} s."


def prediction(program: Program, expected: list[int], times: dict[int, list[float]]) -> dict:
    """The part of the result that is computed from recorded tasks. Raises ProgramError; ValueError if it cannot be."""
    _, config = read_header(program.model)
    splits, overheads = record_splits(program, expected, config)
    machine = measured_machine(config, (len(program.prompt) + program.n) // 2)
    finest, names = splits[-1], overheads[splits[-1].k]
    parts = predict(finest, names, machine)
    return {
        "split": finest.k,
        "work": finest.work,
        "span": finest.span,
        "burdened_span": finest.span + parts["lock"],
        "serial": finest.serial,
        "regions": len(finest.steps),
        "overheads": {k: {name: one._asdict() for name, one in of.items()} for k, of in overheads.items()},
        "capacity": machine.capacity,
        "bandwidth": machine.gigabytes,
        "rows": rows_of(splits, overheads, machine, times, config.num_heads),
    }


def machine_lines(result: dict) -> Iterator[str]:
    """What synchronisation costs, and what the machine gives."""
    shown = [k for k in (1, 2, 8, max(result["overheads"])) if k in result["overheads"]]
    costs = "; ".join(
        f"{name} " + ", ".join(f"{result['overheads'][k][name]['region'] * 1e6:.0f}" for k in shown)
        for name in result["overheads"][shown[0]]
        if all(name in result["overheads"][k] for k in shown)
    )
    yield f"A region without arithmetic, in microseconds on {', '.join(map(str, shown))} workers: {costs}."
    if len(result["capacity"]) > 1:
        yield "Capacity: " + ", ".join(f"{c:.2f} on {k} cores" for k, c in result["capacity"].items() if k > 1) + "."
    if result["bandwidth"]:
        yield "Memory: " + ", ".join(f"{gb:.0f} GB/s on {k}" for k, gb in result["bandwidth"].items()) + "."


@guarded
def main(arguments: list[str] | None = None) -> int:
    """Compute work, span, parallelism from tasks recorded one at a time, and predict the time on 1 to 64 workers."""
    parser = runner.program_parser("scale", main.__doc__, engine="parallel", new=runner.NEW_TOKENS)
    parser.add_argument(
        "--rounds", type=whole_number(1), default=ROUNDS, help=f"measured runs for each k (default {ROUNDS})"
    )
    options = runner.parsed(parser, arguments)
    console = Console(highlight=False)
    program = replace(runner.program_of(options), workers=1)
    counts, belongs = measured_counts(), about(program)
    length = len(program.prompt)
    title = f"{program.file}, {program.model_name}, {length} tokens and {program.n - length} more"
    say(f"{title}: {counted(options.rounds, 'run')} for each k of {counts} ...")
    with Load() as load:
        expected = serial_tokens(program)
        times = measure(program, counts, options.rounds, expected)
        say(f"recording it split for {COUNTS[0]} to {COUNTS[-1]} workers ...")
        try:
            found = prediction(program, expected, times)
        except ValueError as error:
            found = {"reason": str(error), "rows": [{"k": k, **measured_row(times[k])} for k in counts]}
    result = {
        "title": title,
        "engine": program.name,
        "model": program.model_name,
        "n": program.n,
        **found,
        "about": belongs,
        **runner.provenance(arguments, "lab.measure.scale", load),
    }
    file = write_json(options.out / f"{program.name}.scale.json", result, indent=1)
    console.print(f"[bold]How it scales: {result['title']}\n")
    lines = machine_lines(result) if "work" in result else ()
    for line in (headline(result), *lines, "", table(result["rows"], console.width)):
        console.print(line)
    console.print(f"\nTokens equal to the serial program's. {str(load).capitalize()}. Written: {shown(file)}")
    return 0


if __name__ == "__main__":
    quietly(main, steady=True)
