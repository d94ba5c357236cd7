"""make report: everything on one page, for handing in. One HTML file that needs no other file and no network.

    .venv/bin/python -m lab.measure.report

Takes the results that are in profiles/, and makes those anew that are missing, of another version of the program, of
another model or number of tokens, or of the day before; --fresh makes all of them.
"""

import base64
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from rich.console import Console

from lab.command import quietly
from lab.files import shown, write_text
from lab.measure import hotspots, plots, profile, scale, timeline
from lab.measure.freshness import as_written, why_stale
from lab.measure.machine import summary
from lab.measure.plots import load_json
from lab.measure.runner import Program, guarded, parsed, passed_on, program_of, program_parser, say, serial_program
from lab.measure.stats import Estimate

PICTURES = {  # key in the page: (end of the file's name, what it shows)
    "timeline": ("timeline.svg", "timeline of one forward pass: what each worker did when"),
    "speedup": ("speedup.svg", "speedup against workers: measured, ideal, Amdahl's law, capacity, prediction"),
    "operations": ("operations.svg", "seconds by operation, serial beside parallel"),
    "roofline": ("roofline.svg", "roofline: each operation against memory bandwidth and peak"),
}


class Part(NamedTuple):
    """A file of results, the program that they are of, the command that makes them, its arguments."""

    file: Path
    program: Program
    command: Callable[[list[str]], int]
    arguments: list[str]


def needed(program: Program, out: Path) -> list[Part]:
    """All parts, in the order to make them: a program that cannot run says so before anything else is measured."""
    serial, one = serial_program(program), replace(program, workers=1)
    workers = ["--workers", str(program.workers)]
    return [
        Part(out / f"{program.name}.profile.json", program, profile.main, ["--engine", program.engine, *workers]),
        Part(out / "serial.profile.json", serial, profile.main, ["--engine", "serial"]),
        Part(out / f"{program.name}.timeline.json", program, timeline.main, ["--engine", program.engine, *workers]),
        Part(out / f"{program.name}.scale.json", one, scale.main, ["--engine", program.engine]),
        Part(out / f"{program.name}.plots.json", program, plots.main, ["--engine", program.engine, *workers]),
    ]


def make_missing(program: Program, out: Path, fresh: bool, common: list[str]) -> None:
    """Run the commands whose files are missing or stale, or all. Raises ValueError when one fails (it has said why)."""
    again = False
    for part in needed(program, out):
        stale = "" if fresh else why_stale(part.file, part.program)
        again = again or bool(stale)  # the pictures are drawn from all that comes before them
        if stale:
            say(f"{shown(part.file)}: {stale}; measuring ...")
        if (fresh or stale or (again and part.command is plots.main)) and part.command([*part.arguments, *common]):
            raise ValueError(f"no report: {shown(part.file)} could not be made")


# ------------------------------------------------------------------------------------------------------------- the page


def page(program: Program, out: Path, title: str) -> str:
    """The HTML text."""
    results = {part.file: load_json(part.file) for part in needed(program, out)}
    timeline_, scale_ = (load_json(out / f"{program.name}.{kind}.json") for kind in ("timeline", "scale"))
    pictures = {key: out / f"{program.name}.{end}" for key, (end, _) in PICTURES.items()}
    pictures = {key: path for key, path in pictures.items() if path.is_file()}
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("report.html").render(
        title=title,
        machine=summary(),
        date=time.strftime("%Y-%m-%d %H:%M"),
        profiles=profiles(program, out),
        workers=hotspots.WORKERS,
        timeline=timeline_,
        scale=scale_ and scale_ | {"headline": scale.headline(scale_)},
        pictures=pictures,
        picture=lambda key: figure(pictures.get(key), PICTURES[key][1]),
        commands=[result["command"] for result in results.values() if result],
    )


def profiles(program: Program, out: Path) -> list[dict[str, Any]]:
    """The hot-spot tables with their flame graphs, serial first."""
    found = []
    for name in dict.fromkeys(["serial", program.name]):
        result, picture = load_json(out / f"{name}.profile.json"), out / f"{name}.svg"
        if result is None:
            continue
        rows = [hotspots.Row(**row) for row in result["rows"]]
        seconds = result["samples"] / result["rate"]
        bounds = [hotspots.promises(row, seconds) for row in rows]
        rounds = len(result["seconds"]["plain"])
        extra = {
            "rows": [row._asdict() | bound for row, bound in zip(rows, bounds, strict=True)],
            "sentence": hotspots.sentence(rows, seconds),
            "cost_sentence": profile.cost_sentence(Estimate(**result["cost"]), result["rate"], rounds),
            "svg": Markup(picture.read_text(encoding="utf-8") if picture.is_file() else ""),
        }
        found.append(result | extra)
    return found


def figure(path: Path | None, alternative: str) -> Markup:
    """A picture inside the page; nothing if there is none."""
    if path is None:
        return Markup("")
    data = base64.b64encode(path.read_bytes()).decode()
    return Markup('<figure><img alt="{}" src="data:image/svg+xml;base64,{}"></figure>').format(alternative, data)


# ---------------------------------------------------------------------------------------------------------- the command


@guarded
def main(arguments: list[str] | None = None) -> int:
    """Put hot spots, flame graphs, timeline, scaling and roofline on one HTML page."""
    parser = program_parser("report", main.__doc__, engine="parallel", new=17)
    parser.add_argument("--fresh", action="store_true", help="measure everything anew")
    parser.add_argument("--title", help="heading of the page, for example with your name")
    options = parsed(parser, arguments)
    program = program_of(options)
    say(f"report on {program.title}")
    make_missing(program, options.out, options.fresh, passed_on(options, program.n))
    title = options.title or f"Where the time goes: lab/serial.py and {program.file}, {program.model_name}"
    with as_written(options.out, "--fresh measures everything anew"):
        text = page(program, options.out, title)
    file = write_text(options.out / "report.html", text)
    Console(highlight=False).print(
        f"Written: {shown(file)} ({file.stat().st_size / 1e6:.1f} MB, one file, opens in any browser)"
    )
    return 0


if __name__ == "__main__":
    quietly(main, steady=True)
