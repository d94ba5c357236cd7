"""The command line: python -m lab.check {check,explore,races,run} ..."""

from lab.check import environment  # isort: skip  (before anything that needs a library)

import argparse
import json
import runpy
import shlex
import sys
import time
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from lab import command, files
from lab.check import api, explore
from lab.check.checked import install
from lab.check.names import is_ours
from lab.check.program import Program, locate
from lab.check.replay import replay
from lab.check.report import Finding, Findings, ProgramError, show
from lab.check.schedule import FORMAT
from lab.check.supervise import supervised
from lab.command import Parser, counted, quietly, whole_number

positive, natural = whole_number(1), whole_number(0)
TERMINAL, ELSEWHERE = 0.2, 10.0  # seconds between two lines of progress

EXAMPLES = """examples:
  python -m lab.check explore lab.parallel --schedules 2000 --seed 1
  python -m lab.check explore mine.py --out failure.html
  python -m lab.check explore mine.py --replay v2k3:12=2,15=0 --out failure.html --picture failure.svg
  python -m lab.check races mine.py
  python -m lab.check check mine.py
  python -m lab.check run lab.gpt 818 262 --engine parallel

exit codes: 0 nothing found, 4 a thread error found, 2 the program cannot be checked, 1 it fails for another reason
how to read what is found: docs/failures.md"""


def parser() -> argparse.ArgumentParser:
    """All commands and options."""
    top = Parser(
        "python -m lab.check", description="Find what is wrong with a program's threads.", epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    commands = top.add_subparsers(dest="command", required=True, metavar="{check,explore,races,run}")
    check = commands.add_parser(
        "check", help="run with real threads; misuse, lock order and stalls are reported at once"
    )
    common(check, None)
    check.add_argument("--repeats", type=positive, default=3, help="runs (default 3)")
    explore = commands.add_parser("explore", help="run under many schedules, one thread at a time")
    common(explore, 2000)
    only_explore(explore)
    common(commands.add_parser("races", help="look for unordered accesses to arrays and variables"), 60)
    run = commands.add_parser("run", help="run any program as it is, with its own arguments, in checked mode")
    run.add_argument("program", metavar="PROGRAM", help="a .py file or a module like lab.gpt")
    run.add_argument("arguments", nargs=argparse.REMAINDER, metavar="...", help="the program's arguments")
    return top


def only_explore(explore: argparse.ArgumentParser) -> None:
    """The options of the explorer alone."""
    explore.add_argument(
        "--strategy",
        choices=("mix", "random", "pct", "pos", "weighted", "exhaustive"),
        default="mix",
        help="which thread runs next (default mix)",
    )
    explore.add_argument(
        "--preemptions", type=natural, default=2, help="most preemptions in a schedule, for exhaustive (default 2)"
    )
    explore.add_argument(
        "--switch",
        choices=("mix", "primitives", "statements", "expressions"),
        default="mix",
        help="where threads may switch (default mix)",
    )
    explore.add_argument(
        "--spurious",
        choices=("mix", "always", "never"),
        nargs="?",
        const="always",
        default="mix",
        help="let waits end without a signal, once per thread (default mix: in some schedules)",
    )
    explore.add_argument("--all", action="store_true", help="try all --schedules, even if none is new any more")
    explore.add_argument("--no-races", action="store_true", help="skip the race detector")
    explore.add_argument("--replay", metavar="SCHEDULE", help="run this one schedule and show its trace")
    explore.add_argument("--picture", metavar="FILE.svg", help="draw the failing schedule")
    explore.add_argument(
        "--out", type=Path, metavar="FILE.html", help="the failing schedule as a page to step through in a browser"
    )


def common(command: argparse.ArgumentParser, schedules: int | None) -> None:
    """The options of all checks of one program."""
    command.add_argument("program", metavar="PROGRAM", help="a .py file or a module like lab.parallel")
    command.add_argument("--workers", type=positive, default=3, metavar="K", help="workers of generate() (default 3)")
    command.add_argument("--json", action="store_true", help="one JSON object instead of text")
    if schedules is not None:
        command.add_argument(
            "--schedules",
            type=positive,
            default=schedules,
            metavar="N",
            help=f"schedules to try at most (default {schedules})",
        )
        command.add_argument("--seed", type=natural, default=1, help="random seed (default 1)")
    command.add_argument("--seconds", type=duration, default=60.0, help="stop after this many seconds (default 60)")


def duration(text: str) -> float:
    """An argument that is a number of seconds in which a schedule can end: else a right program looks endless."""
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0.5 <= seconds < 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds from 0.5 on")
    return seconds


def run_explore(options: argparse.Namespace) -> Findings:
    """lab.check explore"""
    program = Program(options.program)
    if options.out is not None:
        files.room_for_page(options.out)
    if options.replay is not None:
        result = replay(program, options.replay, options.picture, options.seconds)
    else:
        with ProgressLine(options.json) as progress:
            result = explore.explore(program, options.workers, plan(options, progress))
    if options.out is not None:
        result.notes.append(page_note(result, options))
    return result


class ProgressLine:
    """How far a search is, on standard error, after each schedule: one line that is written over, or a line now and
    then where there is no terminal."""

    def __init__(self, silent: bool) -> None:
        self.terminal = sys.stderr.isatty()
        self.due = float("inf") if silent else time.monotonic() + (1.0 if self.terminal else ELSEWHERE)
        self.width = 0

    def __enter__(self) -> Self:
        return self

    def __call__(self, result: Findings, most: int, deadline: float) -> None:
        """So many schedules of `most`; the time is over at `deadline` (time.monotonic())."""
        now = time.monotonic()
        if now < self.due:
            return
        left = f", {deadline - now:.0f} s left" if deadline < float("inf") else ""
        most = max(most, result.schedules)  # with those of the race detector there are more
        distinct = f", {result.distinct:,} of them distinct" if result.distinct else ""  # not counted by `races`
        text = f"{result.schedules:,} of {counted(most, 'schedule')}{distinct}{left}"
        if self.terminal:
            print("\r" + text.ljust(self.width), end="", file=sys.stderr, flush=True)
            self.width = len(text)
        else:
            print(text, file=sys.stderr, flush=True)
        self.due = now + (TERMINAL if self.terminal else ELSEWHERE)

    def __exit__(self, *exception: object) -> None:
        if self.width:  # nothing is left of the line
            print("\r" + " " * self.width + "\r", end="", file=sys.stderr, flush=True)


def plan(options: argparse.Namespace, progress: ProgressLine) -> explore.Plan:
    """What is asked for."""
    return explore.Plan(
        options.schedules,
        options.seed,
        options.seconds,
        options.strategy,
        options.preemptions,
        not options.no_races,
        options.switch,
        options.picture,
        options.spurious,
        not options.all,
        progress,
    )


def page_note(result: Findings, options: argparse.Namespace) -> str:
    """Write the page for the first finding that has a schedule, or for a right run; says where it is."""
    finding = next((finding for finding in result.findings if finding.schedule), None)
    if finding is None and result.findings:
        return f"no {options.out}: what was found needs no schedule"
    schedule = finding.schedule if finding is not None else options.replay or f"v{FORMAT}k{options.workers}:"
    files.write_text(options.out, api.page(options.program, schedule, finding))
    return f"step by step, in a browser: {files.shown(options.out)}"


def run_program(program: str, arguments: list[str]) -> None:
    """PROGRAM as if it had been given to python itself, in checked mode; a thread error ends the process with 4."""
    path, package = locate(program)
    runtime = install()
    sys.excepthook = show_exception
    sys.argv = [str(path), *arguments]
    if package:
        runpy.run_module(program, run_name="__main__", alter_sys=True)
    else:
        sys.path[0] = str(path.parent)
        runpy.run_path(str(path), run_name="__main__")
    if not runtime.spawned:
        print("checked mode: no thread was started, so nothing was checked", file=sys.stderr)


def show_exception(kind: type[BaseException], exception: BaseException, trace: TracebackType | None) -> None:
    """The traceback of an exception of the program, without the frames of the checker and of the thread library."""
    told = traceback.TracebackException(kind, exception, trace)
    part: traceback.TracebackException | None = told
    while part is not None:
        part.stack[:] = [one for one in part.stack if not is_ours(one.filename) and one.filename != command.__file__]
        part = part.__cause__ or part.__context__
    print(*told.format(), sep="", end="", file=sys.stderr)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns its exit code."""
    options = parser().parse_args(arguments)
    if options.command == "run":
        try:
            run_program(options.program, options.arguments)
        except ProgramError as error:
            print(files.printable(str(error)), file=sys.stderr)
            return 2
        return 0
    outcome = supervised(lambda: check(options), options.seconds, file_of(options.program))
    if isinstance(outcome, Finding):
        tell(options, Findings(options.program, options.command, options.workers, findings=[outcome]))
        return 4
    return outcome


def file_of(program: str) -> str:
    """The path of a program's file, "" if it has none."""
    try:
        return str(locate(program)[0])
    except ProgramError:
        return ""


def check(options: argparse.Namespace) -> int:
    """Run one check and tell its result; returns the exit code."""
    program, workers, seconds = options.program, options.workers, options.seconds
    try:
        if options.command == "check":
            result = api.run_checked(program, workers, options.repeats, seconds)
        elif options.command == "races":
            with ProgressLine(options.json) as progress:
                result = explore.races(Program(program), workers, options.schedules, options.seed, seconds, progress)
        else:
            result = run_explore(options)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except (ProgramError, files.WriteError) as error:
        result = Findings(options.program, "scan", findings=[Finding("refused", str(error), tool="scan")])
    tell(options, result)
    return result.exit_code


def tell(options: argparse.Namespace, result: Findings) -> None:
    """Print a result."""
    if options.json:
        print(json.dumps(result.to_json()))
    elif result.exit_code == 2:
        for finding in result.findings:
            print(files.printable(finding.message), file=sys.stderr)
    else:
        print(files.printable(options.program))
        show(result)
        advise(options, result)


def advise(options: argparse.Namespace, result: Findings) -> None:
    """How to see it again."""
    schedule = next((finding.schedule for finding in result.findings if finding.schedule), "")
    if schedule and not getattr(options, "replay", None) and not getattr(options, "out", None):
        words = [environment.python(), "-m", "lab.check", "explore", options.program, "--replay", schedule]
        print(f"again, step by step in a browser: {shlex.join(words)} --out failure.html")


if __name__ == "__main__":
    quietly(main, steady=True)
