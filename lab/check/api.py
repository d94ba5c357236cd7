"""The checks as functions, for programs; their results are plain data (lab.check.report.Findings). See lab.check for an
overview."""

from pathlib import Path
from typing import Any

from lab.check import explore as _explore
from lab.check import page as _page
from lab.check import replay as _replay
from lab.check.program import Program
from lab.check.report import Finding, Findings, ProgramError
from lab.check.schedule import parse_schedule
from lab.check.states import state_graph
from lab.check.strategies import Replay
from lab.check.trial import check_program

__all__ = [
    "Finding",
    "Findings",
    "ProgramError",
    "check_races",
    "explore_submission",
    "page",
    "replay",
    "run_checked",
    "scan",
    "trace",
]


def scan(program: str | Path) -> Findings:
    """Does the program import threads of another kind? Runs nothing."""
    loaded = Program(program)
    return Findings(loaded.name, "scan", findings=loaded.refused())


def explore_submission(
    program: str | Path,
    schedules: int = 2000,
    seed: int = 1,
    workers: int = 3,
    seconds: float | None = None,
    races: bool = True,
    strategy: str = "mix",
) -> Findings:
    """Run the program under many schedules, and a few times with tracked arrays; stops at the first schedule that
    fails."""
    return _explore.explore(Program(program), workers, _explore.Plan(schedules, seed, seconds, strategy, races=races))


def check_races(
    program: str | Path, schedules: int = 60, seed: int = 1, workers: int = 3, seconds: float | None = None
) -> Findings:
    """Look for races only."""
    return _explore.races(Program(program), workers, schedules, seed, seconds)


def replay(program: str | Path, schedule: str) -> Findings:
    """Run one schedule again."""
    return _replay.replay(Program(program), schedule)


def trace(program: str | Path, schedule: str, seconds: float = float("inf")) -> dict[str, Any]:
    """The schedule as plain data, step by step, to be shown: lab.check.trace says what it holds. The run ends after so
    many seconds at the latest."""
    return _replay.trace(Program(program), schedule, seconds)


def page(program: str | Path, schedule: str, finding: Finding | None = None) -> str:
    """The schedule as an HTML page to step through, whole in itself; with the state graph of a tiny program."""
    loaded, (setting, deviations) = Program(program), parse_schedule(schedule)
    run = _replay.trace(loaded, schedule)
    told = finding and {name: getattr(finding, name) for name in ("kind", "message", "detail", "where")}
    return _page.page(run, told or run["failure"], state_graph(loaded, setting, Replay(dict(deviations))))


def run_checked(program: str | Path, workers: int = 3, repeats: int = 3, seconds: float = 60.0) -> Findings:
    """Run the program with real threads in checked mode, in this process, for at most so many seconds."""
    return check_program(Program(program), workers, repeats, seconds)
