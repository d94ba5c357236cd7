"""python -m grader.selftest: what the grader promises of timed runs, tried on the 124M.

reference   lab/parallel.py gets full marks, every time
busy        the same with another process that keeps one core busy: full marks or inconclusive, never a lost point
wrong       the submissions in tests/submissions that timing judges earn no scaling point, for the reason they state
"""

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from grader import grade, sandbox
from grader.verdict import FAILED, INCONCLUSIVE, Row, Verdict
from lab.command import quietly

SUBMISSIONS = grade.LAB.parent / "tests" / "submissions"
PARTS = ("reference", "busy", "wrong")


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        prog="python -m grader.selftest", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    p.add_argument("--times", type=int, default=20, help="how often the reference is graded (default: 20)")
    p.add_argument("--busy-times", type=int, default=3, help="how often beside a busy core (default: 3)")
    p.add_argument("--only", default=",".join(PARTS), help=f"some of {','.join(PARTS)} (default: all)")
    return p


def timed_submissions() -> list[Path]:
    """The wrong submissions and attacks whose verdict comes from timing."""
    files = sorted(SUBMISSIONS.glob("wrong/*.py")) + sorted(SUBMISSIONS.glob("attacks/*.py"))
    return [path for path in files if "# expect: scaling-2 " in path.read_text()]


def program(path: Path) -> str:
    """The whole submission."""
    text = path.read_text()
    return (SUBMISSIONS / "base.py").read_text() + "\n\n" + text if "# on: base" in text else text


@contextmanager
def busy_core() -> Iterator[None]:
    """Another process that keeps one core busy."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def lost_points(verdict: Verdict) -> list[Row]:
    """The rows that cost points; an inconclusive one does not."""
    return [row for row in verdict.rows if row.score < row.most and row.status != INCONCLUSIVE]


class SelfTest:
    """Grades, and counts what went against the promises."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.box = sandbox.choose(required=True)
        self.broken = 0

    def grade(self, path: Path, stages: tuple[str, ...] = grade.STAGES) -> Verdict:
        """One grading."""
        return grade.grade(path, grade.Options(sandbox=self.box, stages=stages))

    def say(self, kept: bool, name: str, verdict: Verdict) -> None:
        """One line of the protocol."""
        self.broken += not kept
        rows = [row for row in verdict.rows if row.name.startswith("scaling") and row.most] or verdict.rows[:1]
        lost = lost_points(verdict)
        mark = "ok    " if kept else "BROKEN"
        why = "; ".join(f"{row.title}: {row.reason}" for row in (lost or rows)[:2])
        self.console.print(
            f"{mark}  {name:24}  {verdict.score:5g}  {verdict.evidence.seconds:3.0f} s  {why}",
            soft_wrap=True,
        )

    def reference(self, times: int, name: str) -> None:
        """The reference, so many times; inconclusive only while a core is busy."""
        for number in range(times):
            begin = time.perf_counter()
            verdict = self.grade(grade.LAB / "parallel.py")
            kept = not lost_points(verdict) and (name == "busy" or verdict.exit_code == 0)
            if name == "reference" and time.perf_counter() - begin > 90:
                kept = False
            self.say(kept, f"{name} {number + 1}", verdict)

    def wrong(self) -> None:
        """Submissions that timing has to judge, timed for real."""
        for path in timed_submissions():
            with tempfile.TemporaryDirectory() as folder:
                submission = Path(folder) / "parallel.py"
                submission.write_text(program(path))
                verdict = self.grade(submission, ("tokens", "timing"))
            rows = [row for row in verdict.rows if row.name.startswith("scaling") and row.most]
            partial = "scaling-2 partial" in path.read_text()
            phrases = re.findall(r"# expect: scaling-2 \w+ \| ?(.*)", path.read_text())
            earned = sum(row.score for row in rows)
            kept = all(row.status == INCONCLUSIVE for row in rows) or (earned > 0) == partial
            if rows and rows[0].status == FAILED and not partial:
                kept = kept and all(phrase in rows[0].reason for phrase in phrases)
            self.say(kept, path.stem, verdict)


def main(arguments: list[str] | None = None) -> int:
    """Run the parts asked for; 0 if every promise was kept."""
    args = parser().parse_args(arguments)
    console = Console(highlight=False, markup=False)
    parts = args.only.split(",")
    if set(parts) - set(PARTS):
        Console(stderr=True).print(f"--only {args.only}: give some of {', '.join(PARTS)}")
        return 2
    test = SelfTest(console)
    console.print(f"{len(os.sched_getaffinity(0))} cores, sandbox: {test.box.backend}")
    if "reference" in parts:
        test.reference(args.times, "reference")
    if "busy" in parts:
        with busy_core():
            test.reference(args.busy_times, "busy")
    if "wrong" in parts:
        test.wrong()
    console.print(f"{test.broken} broken" if test.broken else "all promises kept")
    return 1 if test.broken else 0


if __name__ == "__main__":
    sys.exit(quietly(main, steady=True))
