"""One schedule again: what happened in it, in words, as a picture, or step by step as plain data."""

import time
from pathlib import Path
from typing import Any

from lab.check import picture
from lab.check.causes import tell
from lab.check.explorer import Explorer, Run, prepared
from lab.check.hunt import race_findings
from lab.check.program import Program
from lab.check.report import Findings
from lab.check.schedule import FORMAT, format_of, parse_schedule
from lab.check.strategies import Replay
from lab.check.trace import trace_of, whole_snapshot
from lab.command import counted


def replay(program: Program, schedule: str, picture_file: str | None = None, seconds: float = float("inf")) -> Findings:
    """Run one schedule, with everything on record. Raises ProgramError for what is not a schedule."""
    setting, deviations = parse_schedule(schedule)
    result = Findings(program.name, "explore", setting.workers, findings=program.refused())
    if result.findings:
        return result
    begin = time.monotonic()
    with prepared(program):
        explorer = Explorer(program, setting.workers, begin + seconds)
        strategy = Replay(dict(deviations))
        run = explorer.again(setting, strategy, traced=True, tracked=True, blamed=True)
    result.schedules = result.distinct = 1
    result.depth = run.scheduler.decisions
    if run.failure is not None:
        result.findings.append(tell(explorer, run))
    else:
        result.findings += race_findings([(race, schedule) for race in run.seen.races.values()], 0)
    for finding in result.findings:
        finding.schedule, finding.preemptions = setting.string(run.scheduler.deviations), run.scheduler.preemptions
        finding.trace = picture.lines(run.scheduler)
    result.notes += doubts(run, strategy, schedule)
    if picture_file:
        kind = result.findings[0].kind if result.findings else "no failure"
        picture.write_svg(
            Path(picture_file), run.scheduler, f"{program.name}: {kind}", setting.string(run.scheduler.deviations)
        )
    if not result.findings:
        result.notes.append("this schedule runs without a failure")
    result.seconds = time.monotonic() - begin
    return result


def doubts(run: Run, strategy: Replay, schedule: str) -> list[str]:
    """Why this may not be the run that the schedule was written down from."""
    notes = []
    if strategy.impossible:
        notes.append(
            f"at decision {strategy.impossible[0]} the schedule names a thread that cannot run there: it was made "
            "for another version of the program"
        )
    elif strategy.unreached():
        notes.append(
            f"the run was over after {counted(run.scheduler.decisions, 'decision')}, without having come to "
            f"{counted(strategy.unreached(), 'decision')} of the schedule"
        )
    if format_of(schedule) < FORMAT and (notes or run.failure is None):
        notes.append(
            f"it is of format {format_of(schedule)}: since format {FORMAT} sleeping, and loops that go round for long, "
            "let others run at other places, so it may mean something else now"
        )
    return notes


def trace(program: Program, schedule: str, seconds: float = float("inf")) -> dict[str, Any]:
    """A schedule as plain data, to be stepped through; see lab.check.trace. Raises ProgramError."""
    setting, deviations = parse_schedule(schedule)
    with prepared(program):
        explorer = Explorer(program, setting.workers, time.monotonic() + seconds)
        run = explorer.again(setting, Replay(dict(deviations)), traced=True, watch=whole_snapshot)
        failure = tell(explorer, run) if run.failure is not None else None
    return trace_of(run, program, failure)
