"""python -m tests.grader_selftest: what the grader promises of timed runs, tried on the 124M.

reference   lab/parallel.py gets full marks, every time, within 90 seconds
stages      serial's loops split among the workers, the answers of stages 3, 4 and 5: each earns more than the last
busy        the reference beside a process that keeps one core busy: full marks or inconclusive, never a lost point
places      umask 077, no bubblewrap, one core, an ASCII terminal, a full temporary folder, two at once, stopped by
            signals (tests/grader_environments.py): each with its right outcome, and nothing left behind
wrong       the programs in grader/examples that timing judges earn no point for threads and speed, each within 240
            seconds
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console

from grader import grade, sandbox
from grader.examples import ATTACKS, LOOPS_SPLIT, WRONG, program
from grader.verdict import INCONCLUSIVE, Row, Verdict
from lab.command import quietly
from tests.grader_environments import ENVIRONMENTS, Unable

ROOT = grade.LAB.parent
STAGES = {  # what a student may hand in on the way, the best last
    "serial's loops, split": LOOPS_SPLIT,
    "stage 3": ROOT / "solutions" / "stage3.py",
    "stage 4": ROOT / "solutions" / "stage4.py",
    "stage 5": grade.LAB / "parallel.py",
}
PARTS = ("places", "reference", "stages", "busy", "wrong")
SOON, AT_LAST = 90, 240  # seconds in which the reference is graded, and any right program


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = argparse.ArgumentParser(
        prog="python -m tests.grader_selftest",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("--times", type=int, default=20, help="how often the reference is graded (default: 20)")
    p.add_argument("--busy-times", type=int, default=3, help="how often beside a busy core (default: 3)")
    p.add_argument("--only", default=",".join(PARTS), help=f"some of {','.join(PARTS)} (default: all)")
    return p


def timed_submissions() -> list[Path]:
    """The wrong submissions and attacks whose verdict comes from timing."""
    return [path for path in (*WRONG, *ATTACKS) if "# expect: threads-2 " in path.read_text()]


@contextmanager
def busy_core() -> Iterator[None]:
    """Another process that keeps one core busy."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def timed_rows(verdict: Verdict) -> list[Row]:
    """What was earned for threads and speed, or why not."""
    return [row for row in verdict.rows if row.name.startswith(("threads", "speed")) and row.most]


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
        """One grading of a whole submission."""
        with tempfile.TemporaryDirectory() as folder:
            submission = Path(folder) / "parallel.py"
            submission.write_text(program(path))
            return grade.grade(submission, grade.Options(sandbox=self.box, stages=stages))

    def say(self, kept: bool, name: str, verdict: Verdict) -> None:
        """One line of the protocol: what it earned, and why not more."""
        self.broken += not kept
        rows = timed_rows(verdict)
        earned = " ".join(f"{row.title} {'?' if row.status == INCONCLUSIVE else f'{row.score:g}'}" for row in rows)
        why = "; ".join(f"{row.title}: {row.reason}" for row in (lost_points(verdict) or rows)[:2])
        mark = "ok    " if kept else "BROKEN"
        seconds = verdict.evidence.seconds
        self.console.print(f"{mark}  {name:24}  {verdict.score:5g}  {seconds:3.0f} s  {earned}  {why}", soft_wrap=True)

    def reference(self, times: int, name: str) -> None:
        """The reference, so many times; inconclusive only while a core is busy."""
        for number in range(times):
            verdict = self.grade(grade.LAB / "parallel.py")
            kept = not lost_points(verdict) and verdict.evidence.seconds < SOON
            self.say(kept and (name == "busy" or verdict.exit_code == 0), f"{name} {number + 1}", verdict)

    def stages(self) -> None:
        """Each stage earns more than the one before, and the explanation shows in which row."""
        best = -1.0
        for name, path in STAGES.items():
            verdict = self.grade(path, ("tokens", "timing"))
            kept = verdict.score > best and not verdict.inconclusive and verdict.evidence.seconds < AT_LAST
            best = max(best, verdict.score)
            self.say(kept, name, verdict)

    def places(self) -> None:
        """The grader in every other environment that can be made here."""
        for name, tried in ENVIRONMENTS.items():
            with tempfile.TemporaryDirectory() as folder:
                os.chmod(folder, 0o755)
                try:
                    problem = tried(Path(folder))
                    mark = "BROKEN" if problem else "ok    "
                except Unable as why:
                    problem, mark = str(why), "-     "
            self.broken += mark == "BROKEN"
            self.console.print(f"{mark}  {name:24}  {problem}".rstrip(), soft_wrap=True)

    def wrong(self) -> None:
        """Submissions that timing has to judge, timed for real."""
        for path in timed_submissions():
            verdict = self.grade(path, ("tokens", "timing"))
            rows = timed_rows(verdict)
            partial = "threads-2 partial" in path.read_text()
            kept = all(row.status == INCONCLUSIVE for row in rows) or (sum(row.score for row in rows) > 0) == partial
            self.say(kept and verdict.evidence.seconds < AT_LAST, path.stem, verdict)


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
    if "places" in parts:
        test.places()
    if "reference" in parts:
        test.reference(args.times, "reference")
    if "stages" in parts:
        test.stages()
    if "busy" in parts:
        with busy_core():
            test.reference(args.busy_times, "busy")
    if "wrong" in parts:
        test.wrong()
    console.print(f"{test.broken} broken" if test.broken else "all promises kept")
    return 1 if test.broken else 0


if __name__ == "__main__":
    sys.exit(quietly(main, steady=True))
