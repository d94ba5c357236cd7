"""make profile: where the time goes, from samples.

    .venv/bin/python -m lab.measure.profile --engine serial

Runs the program in turn without and with the profiler: without, to know what sampling costs; with, to see the stacks.
All tokens are compared with the serial program's. Then it writes <engine>.speedscope.json, .collapsed.txt, .svg and
.profile.json, and prints the hot-spot table. Files are written at the very end: a program that crashes, hangs or errs
leaves none.
"""

import argparse
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from lab.command import quietly, whole_number
from lab.files import shown, write_json, write_text
from lab.measure import flamegraph, hotspots, runner, samples
from lab.measure.freshness import about
from lab.measure.load import Load
from lab.measure.runner import Program, ToolError, check_tokens, guarded, run, say, serial_tokens
from lab.measure.samples import Sample
from lab.measure.stats import Estimate, estimate, ratios

BUDGET = 40.0  # seconds for the rounds: the whole command is to be done within a minute
MOST_ROUNDS = 6
CURE = {
    "linux": "in a container: docker run --cap-add SYS_PTRACE; else: sudo sysctl kernel.yama.ptrace_scope=0",
    "darwin": "on macOS py-spy needs sudo",
}

# ------------------------------------------------------------------------------------------------------------ observing


def find_pyspy() -> str | None:
    """py-spy of this virtual environment, or of the PATH."""
    beside = Path(sys.executable).with_name("py-spy")
    return str(beside) if beside.is_file() else shutil.which("py-spy")


def sample_pyspy(program: Program, rate: int, **wanted: Any) -> tuple[dict, list[Sample]]:
    """One run under py-spy, with what else is wanted of target.py. Raises ToolError if py-spy fails, ProgramError."""
    pyspy = find_pyspy()
    if pyspy is None:
        raise ToolError("py-spy is not installed (pip install py-spy)")
    with tempfile.TemporaryDirectory(prefix="lab-pyspy-") as folder:
        output = Path(folder) / "pyspy.json"
        under = [pyspy, "record", "--full-filenames", "-r", str(rate), "-f", "speedscope", "-o", str(output), "--"]
        report = run(program, under, **wanted)
        try:
            return report, samples.from_speedscope(output)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ToolError(f"py-spy wrote no usable file: {error}") from None


def sample_builtin(program: Program, rate: int, **wanted: Any) -> tuple[dict, list[Sample]]:
    """One run with our own sampler inside. Raises ProgramError."""
    report = run(program, sampler=rate, **wanted)
    return report, samples.from_sampler(report["samples"])


SAMPLERS = {"py-spy": sample_pyspy, "builtin": sample_builtin}


def working_sampler(wanted: str, program: Program, rate: int) -> tuple[str, dict, list[Sample]]:
    """A first sampled run, with py-spy if it can, else with our own sampler, and one line that says why."""
    try:
        return wanted, *SAMPLERS[wanted](program, rate)
    except ToolError as error:
        cure = CURE.get(sys.platform, "")
        say(f"py-spy cannot be used here ({error}). {cure.capitalize()}. Using the built-in sampler instead.")
        return "builtin", *sample_builtin(program, rate)


def observe(program: Program, wanted: str, rate: int, rounds: int | None) -> dict:
    """Plain and sampled runs in turn. Returns sampler, samples, plain and sampled seconds. Raises ProgramError."""
    expected = serial_tokens(program) if not program.is_serial else None
    plain, sampled, seen = [], [], []
    sampler = wanted
    while True:
        say(f"round {len(plain) + 1}{f' of {rounds}' if rounds else ''}")
        for turn in ("plain", "sampled") if len(plain) % 2 == 0 else ("sampled", "plain"):
            if turn == "plain":
                report = run(program)
                plain.append(report["seconds"])
            else:
                sampler, report, new = working_sampler(sampler, program, rate)
                sampled.append(report["seconds"])
                seen += new
            expected = expected or report["tokens"]
            check_tokens(program, report["tokens"], expected)
        rounds = rounds or max(1, min(MOST_ROUNDS, int(BUDGET / (2.5 + plain[0] + sampled[0]))))
        if len(plain) >= rounds:
            return {"sampler": sampler, "samples": seen, "plain": plain, "sampled": sampled}


class Agreement(NamedTuple):
    """A function's share of the same run, sampled and counted, between 0 and 1."""

    name: str
    sampled: float
    counted: float


def agreement(program: Program, sampler: str, rate: int) -> list[Agreement]:
    """One run of the serial program, sampled while a clock around each function counts its time.

    Raises ProgramError, ToolError; ValueError without samples.
    """
    report, seen = SAMPLERS[sampler](program, rate, count=True)
    active, _ = samples.split_waiting(samples.generation_only(seen))
    shares = {row.name: row.self_share for row in hotspots.hot_spots(active, most=20)}
    whole = report["count"].pop("whole")
    counted = {name: seconds / whole for name, seconds in report["count"].items()}
    rows = [Agreement(name, shares.get(name, 0.0), share) for name, share in counted.items() if share >= hotspots.LEAST]
    return sorted(rows, key=lambda row: -row.counted)


def agreement_sentence(rows: list[Agreement]) -> str:
    """How far sampling and counting are apart, in words."""
    points = max(100 * abs(row.sampled - row.counted) for row in rows)
    parts = ", ".join(f"{row.name} {row.sampled:.1%} / {row.counted:.1%}" for row in rows[:4])
    return f"Sampled / counted, in one more run: {parts}; at most {points:.1f} points apart."


# ------------------------------------------------------------------------------------------------------------ reporting


def cost_sentence(cost: Estimate, rate: int, rounds: int) -> str:
    """What sampling cost, in words."""
    interval = f", 95 % interval {cost.low - 1:+.0%} to {cost.high - 1:+.0%}" if rounds > 1 else ""
    word = "rounds" if rounds > 1 else "round"
    if cost.median <= 1:  # the machine varies by more than that
        return f"What {rate} samples a second cost is not measurable now ({rounds} {word} without and with{interval})"
    return f"{rate} samples a second cost {cost.median - 1:+.1%} ({rounds} {word} without and with{interval})"


def write_files(out: Path, name: str, title: str, active: list[Sample], result: dict) -> list[Path]:
    """The four files of a profile; all texts are made before the first is written."""
    stacks = samples.collapsed(active)
    note = f"{sum(stacks.values())} samples by {result['sampler']}; {result['machine']}; {result['date']}"
    picture = flamegraph.svg(stacks, f"Where the time goes: {title}", note)
    return [
        write_json(out / f"{name}.speedscope.json", samples.speedscope(active, title)),
        write_text(out / f"{name}.collapsed.txt", samples.collapsed_text(stacks)),
        write_text(out / f"{name}.svg", picture),
        write_json(out / f"{name}.profile.json", result, indent=1),
    ]


@guarded
def profile(options: argparse.Namespace, arguments: list[str] | None) -> int:
    """Observe, write, print."""
    console = Console(highlight=False)
    program = runner.program_of(options)
    say(f"running {program.title}, with and without the sampler ...")
    belongs = about(program)
    with Load() as load:
        seen = observe(program, options.profiler, options.rate, options.rounds)
    active, waiting = samples.split_waiting(samples.generation_only(seen["samples"]))
    rows = hotspots.hot_spots(active)
    cost = estimate(ratios(seen["sampled"], seen["plain"]))
    result = {
        "title": program.title, "engine": program.name, "model": program.model_name, "n": program.n,
        "workers": program.workers, "prompt": len(program.prompt), "sampler": seen["sampler"], "rate": options.rate,
        "samples": len(active), "waiting": len(waiting),
        "seconds": {"plain": seen["plain"], "sampled": seen["sampled"]}, "cost": cost._asdict(),
        "rows": [row._asdict() for row in rows], "about": belongs,
        **runner.provenance(arguments, "lab.measure.profile", load),
    }  # fmt: skip
    compared = agreement(program, seen["sampler"], options.rate) if options.check else []
    files = write_files(options.out, program.name, program.title, active, result)
    hotspots.show(console, rows, f"Where the time goes: {program.title}", len(active) / options.rate)
    if waiting:
        share = len(waiting) / (len(active) + len(waiting))
        console.print(f"Left out: samples of threads that wait, {share:.0%}. What they wait for: make timeline")
    console.print(
        f"\n{len(active)} samples by {seen['sampler']}. {cost_sentence(cost, options.rate, len(seen['plain']))}."
    )
    if compared:
        console.print(agreement_sentence(compared))
    console.print(f"Tokens equal to the serial program's in all runs. {str(load).capitalize()}.")
    console.print("Written: " + ", ".join(shown(path) for path in files), soft_wrap=False)
    console.print("Open the .svg in a browser, the .speedscope.json at speedscope.app", style="dim")
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Sample a program and print its hot-spot table; write a flame graph, collapsed stacks and a speedscope file."""
    parser = runner.program_parser("profile", main.__doc__, engine="serial", new=17)
    parser.add_argument("--rate", type=whole_number(1), help="samples a second (default 100; for perf 499)")
    parser.add_argument(
        "--profiler",
        choices=["py-spy", "builtin", "perf"],
        default="py-spy",
        help="py-spy from outside; our own sampler inside the process; perf: the view below numpy (default py-spy)",
    )
    parser.add_argument(
        "--rounds", type=whole_number(1), help="runs without and with the profiler (default: up to a minute of them)"
    )
    parser.add_argument("--check", action="store_true", help="one more run: compare with exact counting (serial only)")
    options = runner.parsed(parser, arguments)
    if options.check and options.engine != "serial":
        parser.error("--check: only the serial program can be counted exactly")
    options.rate = options.rate or (499 if options.profiler == "perf" else 100)
    if options.profiler == "perf":
        from lab.measure import perf

        return perf.view(options, arguments)
    return profile(options, arguments)


if __name__ == "__main__":
    quietly(main, steady=True)
