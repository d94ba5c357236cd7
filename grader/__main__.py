"""python -m grader [FILE]: is it the same program, does it scale, and if not, why."""

import argparse
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rich.console import Console

from grader import grade, report
from grader.cases import CasesError
from grader.points import PointsError, load
from grader.sandbox import BACKENDS, NEEDS_LINUX, SandboxError
from grader.verdict import Verdict
from lab.command import INTERRUPTED, Parser, in_one_line, quietly, shortened, some_path
from lab.files import PROFILES, WriteError, shown
from lab.models import ModelError, find


class FileError(Exception):
    """There is nothing to grade; one line."""


GRADER_ERRORS = (FileError, SandboxError, PointsError, CasesError, ModelError)
OWN = grade.LAB / "parallel.py"
OUT = PROFILES / "grade"
MOST_DIGITS = 1000  # of a seed; Python reads no more than 4300
METADATA = Path("/autograder/submission_metadata.json")  # where Gradescope says what was handed in before


def parser() -> argparse.ArgumentParser:
    """The command line."""
    p = Parser(
        prog="python -m grader", description=__doc__, epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    p.add_argument("file", nargs="?", type=some_path, default=OWN, help="the submission (default: lab/parallel.py)")
    p.add_argument(
        "--out", type=some_path, default=OUT, metavar="DIR",
        help="where results.json and report.html go (default: profiles/grade)",
    )  # fmt: skip
    p.add_argument("--points", type=some_path, metavar="TOML", help="another points table than grader/points.toml")
    p.add_argument(
        "--seed",
        help="of the hidden cases (default: $GRADER_SEED, else 1); other users can read the option, not the variable",
    )  # fmt: skip
    p.add_argument("--cases", type=some_path, metavar="JSON", help="hidden cases from a file instead of a seed")
    p.add_argument("--model", help="for the timed runs (default: gpt2_124M if it is there, else the synthetic 124M)")
    p.add_argument("--stages", default=",".join(grade.STAGES), help="some of tokens,checks,timing (default: all)")
    p.add_argument("--backend", choices=BACKENDS, help="this sandbox and no other (default: the best that works)")
    p.add_argument(
        "--require-sandbox", action=argparse.BooleanOptionalAction, default=None,
        help="refuse to run without one (default: for every file but lab/parallel.py)",
    )  # fmt: skip
    p.add_argument("--instructor", action="store_true", help="show the hidden cases that fail")
    p.add_argument("--exit-zero", action="store_true", help="exit with 0 once there is a grade, whatever it is")
    p.add_argument(
        "--metadata", type=some_path, default=METADATA, metavar="JSON",
        help=f"Gradescope's list of earlier scores, of which an inconclusive grade gets the best (default: {METADATA})",
    )  # fmt: skip
    p.add_argument("--quiet", action="store_true", help="no progress lines")
    return p


EPILOG = """\
exit code: 0 full marks, 1 less, 2 wrong use or nothing to grade with, 3 inconclusive: disturbed, run it again
the points and how they are measured: docs/grading.md
"""


@contextmanager
def progress_lines(console: Console, quiet: bool) -> Iterator[Callable[..., None]]:
    """What shows how far it is: a line for each step, and on a terminal its changing detail below."""
    if quiet:
        yield lambda line, detail="": None
        return
    latest = ""
    with console.status("") as status:

        def tell(line: str, detail: str = "") -> None:
            nonlocal latest
            if line != latest:
                console.print(f"  {line}", style="dim")
                latest = line
            status.update(detail or line)

        yield tell


@in_one_line("", WriteError, grade.OptionError, *GRADER_ERRORS, code=2)
def main(arguments: list[str] | None = None) -> int:
    """Grade, show, write; returns the exit code."""
    args = parser().parse_args(arguments)
    if sys.platform != "linux":
        raise SandboxError(NEEDS_LINUX)
    errors = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    args.stages, args.seed = grade.stages_of(args.stages), seed_of(args.seed)
    report.remove_older(args.out)
    try:
        verdict = grade_file(args, errors)
    except GRADER_ERRORS as error:
        with suppress(WriteError):
            report.write_failure(args.out, str(error))
        raise
    except KeyboardInterrupt:
        errors.print("stopped")
        return INTERRUPTED
    try:
        report.write(verdict, args.out, args.instructor, report.best_earlier_score(args.metadata))
    finally:  # a grade is not lost with a file that cannot be written
        report.show(verdict, Console(highlight=False, markup=False), args.instructor, shown(args.file))
    errors.print(f"  {shown(args.out / 'results.json')}  {shown(args.out / 'report.html')}", style="dim")
    return 0 if args.exit_zero else verdict.exit_code


def seed_of(given: str | None) -> int:
    """The seed of the hidden cases; out of the environment it is taken away. Raises OptionError."""
    in_environment = os.environ.pop("GRADER_SEED", "")  # so no submission inherits it
    seed = given or in_environment or "1"
    if not seed.isdecimal() or len(seed) > MOST_DIGITS:
        raise grade.OptionError(
            f"--seed {shortened(seed)}: must be an integer of 0 or more, of at most {MOST_DIGITS} digits"
        )
    return int(seed)


def grade_file(args: argparse.Namespace, errors: Console) -> Verdict:
    """The verdict on the file, with progress on the way. Raises GRADER_ERRORS."""
    if not args.file.is_file() and not args.file.is_symlink():
        other = "not an ordinary file" if args.file.exists() else "no such file"
        what = "a folder; name the file in it" if args.file.is_dir() else other
        raise FileError(f"{args.file}: {what}")
    errors.print(f"grading {shown(args.file)}")
    required = args.require_sandbox if args.require_sandbox is not None else args.file.resolve() != OWN.resolve()
    try:
        options = grade.Options(
            load(args.points), seed=args.seed, cases=args.cases, model=find(args.model) if args.model else None,
            stages=args.stages, backend=args.backend, require_sandbox=required,
        )  # fmt: skip
        with progress_lines(errors, args.quiet) as options.progress:
            return grade.grade(args.file, options)
    except SandboxError as error:
        hint = ". Without a sandbox: --no-require-sandbox" if required and str(error).startswith("no sandbox") else ""
        raise SandboxError(f"{error}{hint}") from None


if __name__ == "__main__":
    quietly(main, steady=True)
