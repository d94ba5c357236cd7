"""From a file to a verdict: all stages in order, each keeping what the ones before it found."""

import os
import secrets
import shutil
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from errno import EACCES, EDQUOT, ENOSPC, EROFS
from pathlib import Path

from grader import cases, explain, sandbox, scaling, threads, timing
from grader.access import open_to_all
from grader.cases import CasesError, CaseSet
from grader.child import Patience
from grader.correctness import Conditions, Correctness, pass_alone, run_cases
from grader.evidence import Evidence, Verdict
from grader.inside import look_inside
from grader.points import Points, load
from grader.sandbox import Limits, Sandbox, SandboxError
from grader.submission import BadSubmission, read_submission
from grader.verdict import judge, printable_lines
from grader.workspace import temporary_folder
from lab import models
from lab.models import ModelError

LAB = Path(models.__file__).parent
INSIDE = ("harness.py", "confine.py", "examiner.py", "shares.py")  # of the grader, what runs in the sandbox
GIVEN = (  # of the lab: what a submission may import, and what these and the harness need
    *("__init__.py", "checkpoint.py", "threadlib.py", "serial.py", "kernels.py"),
    *("machine.py", "measure/__init__.py", "measure/recorder.py"),
)
STAGES = ("tokens", "checks", "timing")
NOT_ASKED = "not asked for (--stages)"


class OptionError(Exception):
    """An option that cannot be; one line."""


def stages_of(text: str) -> tuple[str, ...]:
    """The stages of --stages, which commas part. Raises OptionError."""
    stages = tuple(part for part in text.split(",") if part)
    if not stages or set(stages) - set(STAGES):
        raise OptionError(f"--stages {text}: give some of {', '.join(STAGES)}")
    return stages


@dataclass
class Options:
    """How to grade."""

    points: Points | None = None
    seed: int = 1  # of the hidden cases
    cases: Path | None = None  # an instructor's file, in place of the seed
    model: Path | None = None  # for the timed runs
    stages: tuple[str, ...] = STAGES
    sandbox: Sandbox | None = None
    backend: str | None = None
    require_sandbox: bool = False
    limits: Limits = field(default_factory=Limits)
    patience: Patience = field(default_factory=Patience)
    budget: float = timing.BUDGET
    progress: Callable[..., None] = lambda *_: None  # called with a line, and perhaps a detail that soon changes
    check_seconds: float = threads.SECONDS
    sets: list[CaseSet] | None = None  # made before, the public ones first; for grading many files
    earlier: timing.Timing | None = None  # of the same file on this machine and model: its rounds count as well
    recorded: timing.Timing | None = None  # taken in place of timed runs: for rehearsals


def grade(path: str | os.PathLike, options: Options | None = None, evidence: Evidence | None = None) -> Verdict:
    """Grade one file; `evidence` is that of an earlier verdict on it: stages that are not asked for now are taken from
    there. Raises SandboxError (also for a disk that is full), PointsError, CasesError, ModelError: never for what is in
    the file. Should the grader itself fail, the verdict says so, and counts what came before.
    """
    options = options or Options()
    begin = time.perf_counter()
    found = Evidence(printable_lines(Path(path).name), options.points or load(), limits=options.limits)
    try:
        submission = read_submission(path)
    except BadSubmission as bad:
        found.bad = str(bad)
        return judge(found)
    except Exception as error:
        found.fault = fault_line(error)
        return judge(found)
    if evidence is not None and evidence.source == submission.source:
        found = replace(evidence, name=found.name, points=found.points, limits=found.limits)
    found.source, found.imports, found.threads = submission.source, submission.imports, submission.threads
    box = options.sandbox or sandbox.choose(options.backend, options.require_sandbox)
    found.sandbox, found.lacks = box.backend, box.lacks
    try:
        with temporary_folder() as name:
            run_stages(found, box, Path(name), options)
    except OSError as error:
        raise SandboxError(no_room(error)) from None
    except (SandboxError, CasesError, ModelError):
        raise
    except Exception as error:  # whatever a submission did to get here, what happened is said
        found.fault = fault_line(error)
        found.untimed = found.untimed or "the grader failed before"
    found.seconds += time.perf_counter() - begin
    return judge(found)


def no_room(error: OSError) -> str:
    """Why the grader's own files cannot be written or read."""
    where = f" {error.filename}" if error.filename else ""
    hint = "; TMPDIR=FOLDER names another place for them" if error.errno in (ENOSPC, EDQUOT, EROFS, EACCES) else ""
    return f"the grader's temporary files{where}: {error.strerror or error}{hint}"


def fault_line(error: Exception) -> str:
    """A fault of the grader's own: what, and where."""
    frames = traceback.extract_tb(error.__traceback__)
    where = next((f"{Path(f.filename).name}:{f.lineno}" for f in frames[::-1] if "grader" in f.filename), "")
    return f"the grader itself failed: {type(error).__name__}: {str(error)[:200]} ({where}). Please report it"


def run_stages(evidence: Evidence, box: Sandbox, folder: Path, options: Options) -> None:
    """Tokens, checks, timing."""
    tree = build_tree(folder / "lab", GIVEN, evidence.source)
    if "tokens" in options.stages:
        run_tokens(evidence, box, tree, folder, options)
    if "checks" in options.stages and evidence.correctness.start is None:
        options.progress("thread checks: exploring schedules")
        checking = build_tree(folder / "check", (*GIVEN, *files_of("check")), evidence.source)
        evidence.findings = threads.explore(box, checking, seconds=options.check_seconds)
    if "timing" not in options.stages:
        evidence.untimed = NOT_ASKED
    elif evidence.right or not evidence.correctness.outcomes:
        run_timing(evidence, box, tree, folder, options)


def run_tokens(evidence: Evidence, box: Sandbox, tree: Path, folder: Path, options: Options) -> None:
    """The cases, and who does the work."""
    sets = [replace(s, model=box.readable(s.model, folder)) for s in options.sets or case_sets(folder, options)]
    conditions = Conditions(box, tree, options.limits, options.patience)
    evidence.correctness = run_cases(conditions, sets, options.progress)
    evidence.notes = explain_tokens(evidence.correctness, sets, conditions)
    if not evidence.right:
        return
    options.progress("who does the work")
    for watched in cases.inside_cases(folder, sets[0]):
        model, case = box.readable(watched.model, folder), watched.cases[0]
        evidence.inside = look_inside(
            box, tree, model, case.prompt, case.tokens[0], case.workers, limits=options.limits,
            patience=options.patience,
        )  # fmt: skip
        if not evidence.inside.problem:
            return


def run_timing(evidence: Evidence, box: Sandbox, tree: Path, folder: Path, options: Options) -> None:
    """The timed rounds, and what is looked at after them; or a recorded timing in their place."""
    if options.recorded is not None:
        evidence.timing = options.recorded
        return
    model = box.readable(options.model or models.timing_model(), folder)
    watch = timing.Stopwatch(box, trusted_tree(folder / "trusted"), tree, model)
    seed = secrets.randbits(32)
    evidence.timing = timing.measure(watch, evidence.points, seed, options.progress, options.budget, options.earlier)
    prove_work(evidence, watch)
    explain_speed(evidence, watch, seed)


def case_sets(folder: Path, options: Options) -> list[CaseSet]:
    """The public and the hidden cases, their models in `folder`. Raises CasesError."""
    public = [cases.public_cases(folder), cases.wide_cases(folder, cases.PUBLIC_SEED, hidden=False)]
    if options.cases:
        return [*public, cases.instructor_cases(folder, options.cases)]
    return [*public, cases.hidden_cases(folder, options.seed), cases.wide_cases(folder, options.seed, hidden=True)]


def build_tree(folder: Path, files: tuple[str, ...], source: str | None) -> Path:
    """The given part of the lab, the harness and the submission as lab/parallel.py, in a folder that others can
    read.
    """
    for file in files:
        target = folder / "lab" / file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(LAB / file, target)
    for file in INSIDE:
        shutil.copyfile(Path(__file__).with_name(file), folder / file)
    if source is not None:
        (folder / "lab" / "parallel.py").write_text(source, encoding="utf-8")
    open_to_all(folder)
    return folder


def trusted_tree(folder: Path) -> Path:
    """The lab for the grader's own timed programs."""
    return build_tree(folder, (*GIVEN, *files_of("measure"), *files_of("train"), "models.py"), None)


def files_of(package: str) -> tuple[str, ...]:
    """lab.check or lab.measure, with what they share; no solution is among them."""
    own = (str(path.relative_to(LAB)) for path in sorted((LAB / package).glob("*.py")))
    return ("command.py", "engines.py", "files.py", "margin.py", *own)


def explain_tokens(correctness: Correctness, sets: list[CaseSet], conditions: Conditions) -> list[str]:
    """For the first public case with a wrong token: the order of a sum that explains it, that its pass alone is right,
    or the first tensor that differs and both running sums.
    """
    whole = [o for o in correctness.of(hidden=False) if o.end == "done" and not o.equal]
    if not whole or whole[0].run is None:
        return []
    case, tokens, expected = whole[0].case, whole[0].run.tokens, list(whole[0].case.tokens)
    step = next((i for i, (a, b) in enumerate(zip(tokens, expected, strict=False)) if a != b), None)
    if step is None:
        return []
    public = next(case_set for case_set in sets if case in case_set.cases)
    prompt = [*case.prompt, *expected[:step]]
    if order := explain.order_of_sum(public.model, prompt, expected[step], tokens[step]):
        return [order]
    alone, found = pass_alone(conditions, public.model, case, step)
    difference = explain.first_difference(public.model, prompt, found) if found else ""
    if alone == [expected[step]] and not difference.startswith(explain.DIFFERS):
        return [explain.ALONE]
    if found is None:
        return []
    sums = explain.distributions(public.model, prompt, expected[step], tokens[step], found)
    return [note for note in (difference, sums) if note]


def prove_work(evidence: Evidence, watch: timing.Stopwatch) -> None:
    """Look inside wherever points depend on it."""
    evidence.estimate()
    for k, found in evidence.scaling.items():
        if evidence.proven(k) or scaling.objection(evidence, k) or scaling.threads_result(evidence, found).credit == 0:
            continue
        prompt, token = evidence.timed.known[k]
        slowest = timing.SLOWEST * 3 * found.serial + 5.0
        evidence.timed.inside[k] = look_inside(
            watch.sandbox, watch.tree, watch.model, prompt, token, k, limits=watch.limits, pauses=(0.0,),
            patience=timing.Patience(start=60.0, token=slowest, total=slowest), cpus=watch.cores[:k],
            samples=timing.SAMPLES,
        )  # fmt: skip


def explain_speed(evidence: Evidence, watch: timing.Stopwatch, seed: int) -> None:
    """A run with the recorder for each number of workers that did not earn everything."""
    for k, found in evidence.scaling.items():
        if evidence.points.credit(found.gain.high) < 1:
            evidence.timed.recorded[k] = timing.record(watch, k, seed)
