"""Cases to try a student's file with, and how the first that fails is told: what was expected, what came, and for one
that the explorer runs its program and its schedule."""

import os
import re
import sys
import tempfile
import textwrap
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lab import threadlib
from lab.check import api
from lab.check.explore import Plan, explore
from lab.check.program import Program
from lab.check.report import Finding, Findings, ProgramError, show_finding
from lab.check.supervise import supervised
from lab.command import counted
from lab.files import WriteError, write_text

SCHEDULES, SECONDS = 150, 10.0  # for each explored case


@dataclass
class Failed(Exception):
    """A case that fails: what was expected, what came, and what else helps."""

    expected: str
    got: str
    finding: Finding | None = None
    program: str = ""  # the case, as the explorer ran it


BEFORE_MAIN = "\n\nimport numpy as np\nfrom lab.threadlib import Mutex, Semaphore, join, spawn, threads\n\n\n"
Case = tuple[str, Callable[[], None]]  # a title, and what raises Failed


@contextmanager
def with_main(file: Path, main: str) -> Iterator[Program]:
    """The student's program with `main` behind it, to be run by the explorer. Raises ProgramError."""
    if os.path.exists(file) and not os.path.isfile(file):
        raise ProgramError(f"{file}: not a regular file")
    try:
        source = file.read_bytes()  # in the coding that it names; what comes behind it is ASCII
    except OSError as error:
        raise ProgramError(f"{file}: {error.strerror}") from None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / file.name
        path.write_bytes(source.rstrip(b"\r\n") + f"{BEFORE_MAIN}{textwrap.dedent(main).strip()}\n".encode())
        try:
            program = Program(path)
        except ProgramError as error:
            raise ProgramError(str(error).replace(str(path), str(file))) from None
        program.entry, program.folder = "main", str(file.resolve().parent)
        yield program


def explore_case(file: Path, main: str, page: Path | None = None) -> None:
    """Explore the student's program with this main(). Raises Failed; first writes the page of what fails."""
    with with_main(file, main) as program:
        found = look(program, races=True)
        finding = next((finding for finding in found.findings if finding.schedule), None)
        if page is not None and finding is not None:
            try:
                write_text(page, api.page(program.path, finding.schedule, finding))
            except WriteError as error:  # a full disk: what was found is told all the same
                print(error, file=sys.stderr)
        case = textwrap.dedent(main).strip()
        judge(found, case, program.source.rstrip("\n").count("\n") - case.count("\n"))


def look(program: Program, races: bool = False) -> Findings:
    """Explore it for a while."""
    return explore(program, 2, Plan(SCHEDULES, seconds=SECONDS, races=races))


def judge(found: Findings, case: str, lines: int = 1 << 30) -> None:
    """Raises Failed for the first finding. Places in the case itself, behind so many lines of the student's, are called
    what they are."""
    if found.ok:
        return
    finding = found.findings[0]

    def renamed(match: re.Match[str]) -> str:
        place, line = match[1], int(match[2]) - lines
        if line < 1:
            return match[0]
        return f"line {line} of the case" if place != "line " else f"line {line}".ljust(len(match[0]))

    def in_case(text: str) -> str:
        return re.sub(r"([\w.-]+\.py:|\bline )(\d+)\b", renamed, text)

    finding.message, finding.detail = in_case(finding.message), in_case(finding.detail)
    finding.trace = [in_case(line) for line in finding.trace]
    told = re.search(r"expected (.*?), got (.*?)(?:;|$)", finding.message, re.DOTALL)
    if told and finding.kind == "assertion":
        raise Failed(told[1], told[2], finding, case)
    raise Failed("no thread error under any schedule", f"{finding.kind} under this one", finding, case)


def run_cases(cases: Iterable[Case], file: Path, out: Any, again: str = "") -> int:
    """Run them up to the first that fails, which is shown, and how to see its schedule again; returns the exit code."""
    passed = 0
    for title, run in cases:
        try:
            run()
        except Failed as failed:
            if passed:
                out.print(f"  [green]✓[/] {counted(passed, 'case')} passed")
            out.print(f"  [red]✗[/] {title}")
            out.print(f"      expected  {failed.expected}\n      got       {failed.got}", markup=False)
            explain(failed, out)
            if failed.finding is not None and again:
                out.print(again, markup=False)
            return 4 if failed.finding is not None and failed.finding.kind != "assertion" else 1
        except Exception as error:
            out.print(f"  [red]✗[/] {title}")
            tell_exception(error, file)
            return 1
        passed += 1
    out.print(f"  [green]✓[/] all {passed} cases passed")
    return 0


def in_time(run: Callable[[], int], seconds: float, file: Path, more: str = "") -> int:
    """The exit code of run(), which is stopped where it hangs; `more` is said behind what it then hung in."""
    outcome = supervised(run, seconds, os.path.realpath(file))
    if isinstance(outcome, Finding):
        print(f"  {outcome.kind}: {outcome.message}{more}", file=sys.stderr)
        return 4
    return outcome


def explain(failed: Failed, out: Any) -> None:
    """The case and the schedule under which it fails."""
    if failed.program:
        out.print("    the case:", markup=False)
        for number, line in enumerate(failed.program.splitlines(), 1):
            out.print(f"      {number:>2}  {line}", markup=False)
    if failed.finding is not None:
        failed.finding.schedule = ""
        show_finding(failed.finding, out, 30)


def tell_exception(error: BaseException, file: Path) -> None:
    """Its traceback, from the student's file on; a worker's own if it is one's."""
    error = error.__cause__ if isinstance(error, threadlib.WorkerFailed) and error.__cause__ else error
    frames = traceback.extract_tb(error.__traceback__)
    first = next((i for i, frame in enumerate(frames) if Path(frame.filename).name == file.name), 0)
    frames = [frame for frame in frames[first:] if Path(frame.filename).name not in ("stages.py", "cases.py")]
    lines = traceback.format_list(frames) + traceback.format_exception_only(error)
    print("".join(lines), end="", file=sys.stderr)
