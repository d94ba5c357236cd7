"""python -m grader.classroom: grade a class, on this machine or many, and see it."""

import argparse
import json
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from grader import grade
from grader.cases import CasesError
from grader.classroom import example, gradescope, handout, page, watch
from grader.classroom.collect import CollectError, clean_name, collect
from grader.classroom.exports import feedback, file_name, write_exports
from grader.classroom.gradebook import INCONCLUSIVE, NOT_GRADED, Gradebook, GradebookError, Record, Result
from grader.classroom.policy import Policy, Standing, read_policy, standings
from grader.classroom.proof import Proof
from grader.classroom.similar import similar
from grader.classroom.task import ClusterError, Settings, WrongProgram
from grader.points import PointsError, load
from grader.sandbox import BACKENDS, SandboxError, choose
from lab.command import INTERRUPTED, Parser, counted, in_one_line, quietly, some_path, whole_number
from lab.files import PROFILES, ROOT, WriteError, shown, write_text
from lab.models import ModelError, find, timing_model

OUT, DIST = PROFILES / "class", ROOT / "dist"
GIVEN = (example.STARTER,)  # what everybody starts from
ERRORS = (
    CollectError, GradebookError, ClusterError, WrongProgram, PointsError, CasesError, ModelError, SandboxError,
    WriteError, handout.HandoutError, grade.OptionError,
)  # fmt: skip


def build_parser() -> argparse.ArgumentParser:
    """The command line."""
    parser = Parser(prog="python -m grader.classroom", description=__doc__)
    verbs = parser.add_subparsers(dest="verb", required=True, parser_class=Parser)
    grading = add_grading(verbs)
    reporting = verbs.add_parser("report", help="write the report and the exports again")
    for verb in (grading, reporting):
        verb.add_argument("--out", type=some_path, default=OUT, help="gradebook and results (default profiles/class)")
        verb.add_argument("--policy", type=some_path, metavar="TOML", help="deadlines, lateness, best or latest")
        verb.add_argument("--title", default="The class", help="of the report (default: The class)")
    rehearsing = verbs.add_parser("example", help="write an example class, to rehearse with")
    rehearsing.add_argument("--out", type=some_path, default=DIST / "class", help="(default dist/class)")
    rehearsing.add_argument(
        "--size", type=whole_number(1), default=example.SIZE, help=f"how many (default {example.SIZE})"
    )
    giving = verbs.add_parser("handout", help="write what students get, and prove it in a fresh environment")
    giving.add_argument("--out", type=some_path, default=DIST, help="(default dist)")
    giving.add_argument("--model", help="for the timed proof (default: the 124M)")
    giving.add_argument(
        "--proof",
        choices=("all", "untimed", "none"),
        default="all",
        help="untimed: all but the speed; none: write it only (default all, some minutes)",
    )
    uploading = verbs.add_parser("gradescope", help="write the autograder's zip, to upload to Gradescope")
    uploading.add_argument("--out", type=some_path, default=DIST, help="(default dist)")
    uploading.add_argument("--seed", type=whole_number(0), help="of the hidden cases (default: a new one)")
    uploading.add_argument(
        "--points", type=some_path, metavar="TOML", help="another points table than grader/points.toml"
    )
    working = verbs.add_parser("worker", help="work for a scheduler on this host, until the scheduler ends")
    working.add_argument("scheduler", metavar="ADDRESS", help="tcp://host:8786")
    working.add_argument("--points", type=some_path, metavar="TOML", help="the points table of the run")
    return parser


def add_grading(verbs: argparse._SubParsersAction) -> argparse.ArgumentParser:
    """The verb that most options are for."""
    grading = verbs.add_parser("grade", help="grade a folder or zip of submissions; existing results are kept")
    grading.add_argument(
        "submissions", metavar="SUBMISSIONS", type=some_path, help="a folder or zip, as platforms export it"
    )
    grading.add_argument(
        "--scheduler", metavar="ADDRESS", help="a Dask scheduler, tcp://host:8786 (default: this machine)"
    )
    grading.add_argument("--again", action="store_true", help="grade everything again, even what has not changed")
    grading.add_argument("--watch", action="store_true", help="serve the report on this machine while grading runs")
    grading.add_argument(
        "--points", type=some_path, metavar="TOML", help="another points table than grader/points.toml"
    )
    grading.add_argument("--seed", type=whole_number(0), help="of the hidden cases (default: one the gradebook draws)")
    grading.add_argument(
        "--cases", type=some_path, metavar="JSON", help="hidden cases from a file; the same path on all hosts"
    )
    grading.add_argument("--model", help="for the timed runs (default: the 124M)")
    grading.add_argument("--stages", default=",".join(grade.STAGES), help="some of tokens,checks,timing (default all)")
    grading.add_argument("--backend", choices=BACKENDS, help="this sandbox and no other")
    grading.add_argument(
        "--timings", type=some_path, metavar="JSON", help="recorded timings instead of measuring: a rehearsal"
    )
    return grading


# ------------------------------------------------------------------------------------------------------------ grading


def settings_of(options: argparse.Namespace) -> Settings:
    """With what to grade. Raises OptionError, PointsError, ModelError, SandboxError, CasesError."""
    stages = grade.stages_of(options.stages)
    if options.cases and not options.cases.is_file():
        raise CasesError(f"{options.cases}: no such file")
    if not options.scheduler:
        choose(options.backend, required=True)
    return Settings(
        load(options.points), options.seed or 0,
        options.cases.resolve() if options.cases else None, find(options.model) if options.model else None,
        options.backend, stages, recorded(options.timings),
    )  # fmt: skip


def recorded(path: Path | None) -> dict:
    """Timings to take instead of measuring, by SHA-256 of the file. Raises PointsError."""
    if path is None:
        return {}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise PointsError(f"{path}: {getattr(error, 'strerror', None) or 'not JSON'}") from None
    if not isinstance(found, dict):
        raise PointsError(f"{path}: expected an object: SHA-256 of a file -> its timing")
    return found


def grade_class(options: argparse.Namespace, console: Console) -> int:
    """Collect, grade, report. Raises ERRORS."""
    from grader.classroom import cluster  # Dask takes longer to load than all the rest, in every process that grades
    from grader.classroom.run import ClassRun, summary

    policy, settings = read_policy(options.policy), settings_of(options)
    found = collect(options.submissions)
    with Gradebook(options.out / "gradebook.sqlite") as book, book.reserved():
        if options.seed is None:
            settings = replace(settings, seed=book.seed())
        book.add(found)
        view = View(book, policy, options)
        with (
            view.serving(console) if options.watch else nullcontext(),
            cluster.connected(options.scheduler, settings.points.workers) as client,
        ):
            console.print(
                f"{counted(len(found), 'submission')} in {shown(options.submissions)}; gradebook {shown(book.path)}"
            )
            console.print(f"{hosts(len(cluster.threads(client)))}; {dashboard(client)}")
            try:
                run = ClassRun(book, client, settings)
                with progress(console, len(run.due(options.again))) as run.tell:
                    done = run.grade(options.again)
            except KeyboardInterrupt:
                console.print("interrupted: finished results are kept, the same command continues")
                return INTERRUPTED
        counts = summary(book.records())
        again = "; the same command retries the inconclusive ones" if counts[INCONCLUSIVE] else ""
        console.print(f"{done} graded now; " + ", ".join(f"{n} {what}" for what, n in counts.items() if n) + again)
        view.write(console)
    return 0


def hosts(count: int) -> str:
    """How many there are to grade on."""
    return f"grading on {counted(count, 'host')}" if count else "waiting for workers"


def dashboard(client: Any) -> str:
    """Where Dask shows what runs."""
    if find_spec("bokeh") is None:
        return "Dask's dashboard needs bokeh: .venv/bin/pip install -e '.[dashboard]'"
    return f"Dask's dashboard {client.dashboard_link}"


@contextmanager
def progress(console: Console, total: int) -> Iterator:
    """A bar with the time left; a line for each submission that is done."""
    with Progress(
        TextColumn("grading"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn(), console=console
    ) as bar:
        task = bar.add_task("grading", total=total)

        def tell(done: int, record: Record, result: Result) -> None:
            bar.update(task, completed=done)
            more = "" if result.score is None else f", {result.score:g} points"
            if result.status == NOT_GRADED:
                more = f": {result.report['output']}"
            bar.console.print(f"  {record.submission.name}: {result.status}{more}", style="dim", highlight=False)

        yield tell


class View:
    """What can be seen of a gradebook: the report and the feedback pages, now."""

    def __init__(self, book: Gradebook, policy: Policy, options: argparse.Namespace) -> None:
        self.book, self.policy, self.options = book, policy, options

    def standings(self) -> list[Standing]:
        """A line for each student."""
        return standings(self.book.records(), self.policy)

    def report(self, live: bool = False) -> str:
        """The class report."""
        lines = self.standings()
        programs = {s.student: s.record.submission.source for s in lines if s.record.submission.source}
        pairs = similar(programs, [path.read_bytes() for path in GIVEN if path.is_file()])
        return page.render(lines, pairs, self.options.title, live)

    def page(self, path: str) -> str | None:
        """For the server: the report, or a student's page."""
        if path == "":
            return self.report(live=True)
        students = {f"feedback/{file_name(s.student)}.html": s for s in self.standings()}
        return feedback(students[path]) if path in students else None

    @contextmanager
    def serving(self, console: Console) -> Iterator[None]:
        """Serve both while the block runs."""
        with watch.serving(self.page) as address:
            console.print(f"watch it at {address}")
            yield

    def write(self, console: Console) -> None:
        """report.html and the exports. Raises WriteError."""
        out, lines = self.options.out, self.standings()
        write_exports(lines, out)
        write_text(out / "report.html", self.report())
        console.print(f"{shown(out / 'report.html')}  {shown(out / 'grades.csv')}  results/  feedback/")
        if unknown := sorted(self.policy.extensions.keys() - {line.student for line in lines}):
            console.print(
                f"the policy extends the deadline for {', '.join(map(clean_name, unknown))}: nobody has such an id"
            )


def write_example(options: argparse.Namespace, console: Console) -> int:
    """Write the example class, and say how to grade it. Raises WriteError."""
    submissions, recorded_timings, policy, about = example.write(options.out, options.size)
    console.print(f"{options.size} submissions: {shown(submissions)}; what each one is: {shown(about)}")
    rehearsal, folder = f"--timings {shown(recorded_timings)} --policy {shown(policy)}", shown(submissions)
    console.print(f'grade them: make class SUBMISSIONS={folder} OUT=profiles/rehearsal ARGS="{rehearsal}"')
    return 0


def write_handout(options: argparse.Namespace, console: Console) -> int:
    """Write the handout, and try it. Raises HandoutError, ModelError, WriteError."""
    place, archive = handout.build(options.out)
    console.print(f"{shown(place)}  {shown(archive)}  SHA-256 {sha256(archive.read_bytes()).hexdigest()[:16]}")
    if options.proof != "none":
        model = timing_model(options.model) if options.proof == "all" else None
        with tempfile.TemporaryDirectory(prefix="handout-") as folder:
            Proof(archive, Path(folder), lambda line: console.print(f"  {line}", style="dim")).everything(model)
        console.print("proven: the starter is right and does not scale, every verb runs, a solution gets all points")
    return 0


def write_gradescope(options: argparse.Namespace, console: Console) -> int:
    """Write the autograder's zip. Raises HandoutError, PointsError, WriteError."""
    load(options.points)  # a wrong one shows here
    seed = secrets.randbelow(1 << 31) if options.seed is None else options.seed
    archive = gradescope.build(options.out, seed, options.points)
    console.print(f"{shown(archive)}, hidden cases of seed {seed}; how to upload it: docs/instructor.md")
    return 0


WRITERS = {"example": write_example, "handout": write_handout, "gradescope": write_gradescope}


@in_one_line("", *ERRORS, code=2)
def main(arguments: list[str] | None = None) -> int:
    """Run a verb; returns the exit code."""
    options = build_parser().parse_args(arguments)
    console = Console(stderr=True, highlight=False, markup=False, soft_wrap=True)
    if options.verb == "grade":
        return grade_class(options, console)
    if options.verb == "worker":
        from grader.classroom import cluster

        cluster.run_worker(options.scheduler, load(options.points).workers)
        return 0
    if options.verb in WRITERS:
        return WRITERS[options.verb](options, console)
    if not (options.out / "gradebook.sqlite").is_file():
        raise GradebookError(f"{options.out}: no gradebook here; grade a class first")
    with Gradebook(options.out / "gradebook.sqlite") as book:
        View(book, read_policy(options.policy), options).write(console)
    return 0


if __name__ == "__main__":
    quietly(main)
