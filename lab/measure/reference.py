"""make reference: one run of every command on a quiet machine; the pictures and tables of profiles/reference, with
where they come from.

.venv/bin/python -m lab.measure.reference
"""

import contextlib
import io
import json
import os
import shutil
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from unittest.mock import patch

from rich.console import Console

from lab.command import Parser, quietly, some_path
from lab.files import PROFILES, ROOT, shown, write_json, write_text
from lab.measure import bench, plots, profile, report, scale, timeline
from lab.measure.load import load_now
from lab.measure.machine import summary
from lab.measure.runner import guarded, say

PERF = 'make profile ARGS="--profiler perf"'  # not every machine has perf
JOB = ["--prompt", "96", "-n", "99"]  # what the grade times: long prompts
Command = tuple[str, str, Callable[[list[str]], int], list[str]]
STAGES = "serial,solutions/stage3.py,solutions/stage4.py,parallel,cached"
STAGES_JOB = ["--prompt", "96", "-n", "100", "--engines", STAGES, "--workers", "1,2", "--rounds", "5"]
# What a student's copy has of two results names no function of the model answer.
PREDICTION = "prediction.json"  # of parallel.scale.json
STAGES_JSON = "stages.json"
ABOUT = {
    "serial.svg": "flame graph of the serial program (open it in a browser: it zooms and searches)",
    "parallel.svg": "flame graph of the parallel program",
    "parallel.timeline.png": "one forward pass on the workers",
    "parallel.speedup.png": "speedup: measured, predicted, possible",
    "parallel.operations.png": "seconds by operation",
    "parallel.roofline.png": "each operation against what memory and arithmetic allow",
}
DRAWN = [name for name in ABOUT if name.endswith(".png")]  # each beside an .svg
JSON = ("bench.json", "parallel.plots.json", "parallel.scale.json")


def asked(options: list[str]) -> str:
    """Options as make takes them."""
    return f'ARGS="{" ".join(options)}"'


def commands(out: Path) -> list[Command]:
    """(file for its output or "", as a student gives it, function, arguments), in order."""
    to, job = ["--out", str(out)], asked(JOB)
    return [
        ("serial.profile.txt", "make profile ARGS=--check", profile.main, ["--check", *to]),
        ("parallel.profile.txt", "make profile ENGINE=parallel", profile.main, ["--engine", "parallel", *to]),
        ("serial.perf.txt", PERF, profile.main, ["--profiler", "perf", *to]),
        ("parallel.timeline.txt", f"make timeline {job}", timeline.main, [*JOB, *to]),
        ("parallel.scale.txt", f"make scale {job}", scale.main, [*JOB, *to]),
        ("bench.txt", f"make bench {job}", bench.main, [*JOB, "--out", str(out / "bench.json")]),
        ("", f"make bench {asked(STAGES_JOB)}", bench.main, [*STAGES_JOB, "--out", str(out / STAGES_JSON)]),
        ("", f"make plots {job}", plots.main, [*JOB, *to]),
        ("", f"make report {job}", report.main, [*JOB, *to]),
    ]


@contextlib.contextmanager
def captured() -> Iterator[io.StringIO]:
    """Standard output as text of 100 columns, without colours; environment restored afterwards."""
    text = io.StringIO()
    with patch.dict(os.environ, COLUMNS="100", NO_COLOR="1"), contextlib.redirect_stdout(text):
        yield text


@guarded
def reference(out: Path, target: Path) -> int:
    """Run all, then replace what is in `target`. A failing command stops it, except perf. Raises ValueError."""
    outputs: dict[str, tuple[str, str]] = {}
    load = load_now(1.0)
    for name, spoken, command, arguments in commands(out):
        say(f"{spoken} ...")
        with captured() as text:
            status = command(arguments)
        if status != 0 and spoken != PERF:
            raise ValueError(f"{spoken} failed; {shown(target)} is as it was")
        if status == 0 and name:
            outputs[name] = (spoken, "\n".join(line.rstrip() for line in text.getvalue().splitlines()) + "\n")
    for name, (_, text) in outputs.items():
        write_text(target / name, text)
    for name in JSON:
        write_text(target / name, without_folders(out / name))
    for name in (*ABOUT, *(name.replace(".png", ".svg") for name in DRAWN)):
        shutil.copyfile(out / name, target / name)
    stages = json.loads(without_folders(out / STAGES_JSON))
    write_json(target / STAGES_JSON, {name: value for name, value in stages.items() if name != "overheads"})
    write_json(target / PREDICTION, curves(json.loads(without_folders(out / "parallel.scale.json"))))
    write_text(target / "README.md", readme(outputs, load))
    Console(highlight=False).print(f"Written: {shown(target)}")
    return 0


def without_folders(result: Path) -> str:
    """The text of a result, without the folders of this machine."""
    return result.read_text(encoding="utf-8").replace(f"{ROOT}{os.sep}", "")


def curves(scale: dict) -> dict:
    """What `make scale` has found, without the names of the program's regions."""
    rows = [
        {name: row[name] for name in ("k", "predicted", "limited", "times") if name in row} for row in scale["rows"]
    ]
    return {"rows": rows} | {name: scale[name] for name in ("engine", "model", "n", "capacity", "machine", "date")}


def readme(outputs: dict[str, tuple[str, str]], load: str) -> str:
    """The pictures and tables on one page, with machine, date and command."""
    lines = [
        "# One reference run",
        "",
        f"Machine: {summary()}.",
        f"Before the run: {load}. Date: {time.strftime('%Y-%m-%d')}.",
        "Made by `make reference`, which runs the commands below.",
        "",
        *(f"- [{name}]({name}): {about}" for name, about in ABOUT.items()),
        f"- [{STAGES_JSON}]({STAGES_JSON}): our answers of the stages, by `make bench {asked(STAGES_JOB)}`",
        *(f"\n## {spoken}\n\n```\n{text.rstrip()}\n```" for spoken, text in outputs.values()),
        f"\n## make plots {asked(JOB)}\n",
        *(f"![{ABOUT[name]}]({name})\n" for name in DRAWN),
    ]
    return "\n".join(lines)


def main(arguments: list[str] | None = None) -> int:
    """Run every measuring command and keep pictures and tables in profiles/reference."""
    parser = Parser(prog="python -m lab.measure.reference", description=main.__doc__)
    parser.add_argument("--out", type=some_path, default=PROFILES, help="folder for the results (default profiles/)")
    options = parser.parse_args(arguments)
    return reference(options.out, options.out / "reference")


if __name__ == "__main__":
    quietly(main, steady=True)
