"""make report: everything on one page, for handing in. One HTML file that needs no other file and no network.

    .venv/bin/python -m lab.measure.report

Takes the results that are in profiles/ and makes those that are missing; --fresh makes all of them anew.
"""

import argparse
import base64
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup
from rich.console import Console

from lab.command import quietly
from lab.measure import hotspots, plots, profile, scale, timeline
from lab.measure.files import shown, write_text
from lab.measure.machine import summary
from lab.measure.plots import load_json
from lab.measure.runner import Program, guarded, parsed, program_of, program_parser
from lab.measure.stats import Estimate

PICTURES = {  # key in the page: (end of the file's name, what it shows)
    "timeline": ("timeline.svg", "timeline of one forward pass: what each worker did when"),
    "speedup": ("speedup.svg", "speedup against workers: measured, ideal, Amdahl's law, capacity, prediction"),
    "operations": ("operations.svg", "seconds by operation, serial beside parallel"),
    "roofline": ("roofline.svg", "roofline: each operation against memory bandwidth and peak"),
}


def needed(program: Program, out: Path) -> list[tuple[Path, Callable[[list[str]], int], list[str]]]:
    """(file, command that makes it, its arguments), in the order to make them."""
    workers = ["--workers", str(program.workers)]
    return [
        (out / "serial.profile.json", profile.main, ["--engine", "serial"]),
        (out / f"{program.name}.profile.json", profile.main, ["--engine", program.engine, *workers]),
        (out / f"{program.name}.timeline.json", timeline.main, ["--engine", program.engine, *workers]),
        (out / f"{program.name}.scale.json", scale.main, ["--engine", program.engine]),
        (out / f"{program.name}.plots.json", plots.main, ["--engine", program.engine, *workers]),
    ]


def make_missing(program: Program, out: Path, fresh: bool, common: list[str]) -> None:
    """Run the commands whose files are missing, or all. Raises ValueError when one fails (it has said why)."""
    for file, command, arguments in needed(program, out):
        if (fresh or not file.is_file()) and command([*arguments, *common]) != 0:
            raise ValueError(f"no report: {shown(file)} could not be made")


# ------------------------------------------------------------------------------------------------------------- the page


def page(program: Program, out: Path, title: str) -> str:
    """The HTML text."""
    results = {file: load_json(file) for file, _, _ in needed(program, out)}
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
        result = load_json(out / f"{name}.profile.json")
        if result is None:
            continue
        rows = [hotspots.Row(**row) for row in result["rows"]]
        bounds = [
            {"if_free": hotspots.times(row.bound), "on_workers": hotspots.times(row.bound_on(hotspots.WORKERS))}
            for row in rows
        ]
        rounds = len(result["seconds"]["plain"])
        extra = {
            "rows": [row._asdict() | bound for row, bound in zip(rows, bounds, strict=True)],
            "sentence": hotspots.sentence(rows),
            "cost_sentence": profile.cost_sentence(Estimate(**result["cost"]), result["rate"], rounds),
            "svg": Markup((out / f"{name}.svg").read_text(encoding="utf-8")),
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


def report(options: argparse.Namespace) -> int:
    """Make what is missing, write the page."""
    program = program_of(options)
    common = [
        "-n",
        str(program.n),
        "--prompt",
        str(options.prompt),
        "--out",
        str(options.out),
        "--timeout",
        str(options.timeout),
    ]
    common += ["--model", options.model] if options.model else []
    make_missing(program, options.out, options.fresh, common)
    title = options.title or f"Where the time goes: serial and {program.name}, {program.model.stem}"
    file = write_text(options.out / "report.html", page(program, options.out, title))
    Console(highlight=False).print(
        f"Written: {shown(file)} ({file.stat().st_size / 1e6:.1f} MB, one file, opens in any browser)"
    )
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Put hot spots, flame graphs, timeline, scaling and roofline on one HTML page."""
    parser = program_parser("report", main.__doc__, engine="parallel", new=17)
    parser.add_argument("--fresh", action="store_true", help="measure everything anew")
    parser.add_argument("--title", help="heading of the page, for example with your name")
    options = parsed(parser, arguments)
    return guarded(lambda: report(options))


if __name__ == "__main__":
    sys.exit(quietly(main, steady=True))
