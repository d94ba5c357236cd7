"""One submission's grading, as a worker runs it: in a process of its own, on the cores that are its own.

The process is forked from a server that has imported the grader already, so starting it costs hundredths of a second,
and whatever a submission does to it, the worker lives on. It ends with the worker.
"""

import hashlib
import multiprocessing
import os
import pickle
import platform
import signal
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import cache
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

from grader import grade, report
from grader.classroom.gradebook import GRADED, INCONCLUSIVE, NOT_GRADED
from grader.points import Points
from grader.rounds import Timing
from grader.verdict import judge
from lab import machine

UNTIMED, TIMED = ("tokens", "checks"), ("timing",)
PRELOAD = [  # a process runs its parent's main module anew; here its imports are made once
    "grader.classroom.deaf",
    "grader.classroom.__main__",
]


class ClusterError(Exception):
    """No cluster to grade on; the message is one line."""


class WrongProgram(Exception):
    """A worker whose grader is another one than that of the run; the message is one line."""


@dataclass(frozen=True)
class Settings:
    """With what all submissions are graded."""

    points: Points
    seed: int = 1
    cases: Path | None = None  # the same path on every worker
    model: Path | None = None
    backend: str | None = None
    stages: tuple[str, ...] = grade.STAGES
    timings: dict[str, Any] = field(default_factory=dict)  # sha256 or "" for all -> recorded timing, for a rehearsal

    @property
    def made_with(self) -> str:
        """Short; the same for the same points, cases, model and stages. A rehearsal is not a measurement."""
        cases = self.cases.read_bytes() if self.cases else b""
        told = repr((self.points, self.seed, self.model and self.model.name, self.stages, bool(self.timings))).encode()
        return hashlib.sha256(told + cases).hexdigest()[:16]

    def only_for(self, source: bytes) -> "Settings":
        """With the recorded timing of this file and no other's: what one order carries."""
        digest = hashlib.sha256(source).hexdigest()
        return replace(self, timings={key: self.timings[key] for key in (digest, "") if key in self.timings})


@dataclass(frozen=True)
class Order:
    """What to do."""

    source: bytes
    stages: tuple[str, ...]
    settings: Settings
    program: str  # program_digest() of the run
    evidence: bytes = b""  # pickled, of the stages that were run before
    earlier: dict | None = None  # timing of earlier runs of the same file ...
    earlier_host: str = ""  # ... on this host: rounds of two machines are not pooled


@dataclass(frozen=True)
class Outcome:
    """What came of it."""

    status: str
    report: dict
    page: str = ""
    timing: dict | None = None
    evidence: bytes = b""
    to_time: bool = False  # the tokens are right, so its speed means something
    host: str = field(default_factory=platform.node)
    seconds: float = 0.0


@cache
def program_digest() -> str:
    """Of all that decides a grade: workers of other versions would grade by other rules."""
    root = Path(grade.__file__).parents[1]
    digest = hashlib.sha256()
    for path in sorted([*root.glob("grader/**/*.py"), *root.glob("lab/**/*.py")]):
        digest.update(str(path.relative_to(root)).encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def perform(order: Order, timed_cores: int, grading: Callable[[Order], Outcome] | None = None) -> Outcome:
    """Grade in a process of its own. For a worker's thread; timed_cores belong to timed runs where others are left.

    Raises WrongProgram.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    ours, theirs = context.Pipe(duplex=False)
    process = context.Process(target=in_process, args=(theirs, order, timed_cores, grading or graded))
    process.start()
    theirs.close()
    try:
        answer = ours.recv()
    except EOFError:
        process.join()
        return failed(f"the grader itself ended with status {process.exitcode} while grading this file")
    finally:
        ours.close()
    process.join()
    if isinstance(answer, Exception):
        raise answer
    return answer


def in_process(answers: Connection, order: Order, timed_cores: int, grading: Callable[[Order], Outcome]) -> None:
    """What the process runs. Ctrl-C ends it with its worker; a handler, unlike SIG_IGN, is not passed on."""
    signal.signal(signal.SIGINT, lambda *_: None)
    threading.Thread(target=end_with_parent, daemon=True).start()
    try:
        if order.program != program_digest():
            raise WrongProgram(f"{platform.node()} has another version of the grader; install the same one everywhere")
        own_cores(order.stages, timed_cores)
        answers.send(grading(order))
    except WrongProgram as wrong:
        answers.send(wrong)
    except Exception as error:  # whatever the grader stumbles over, the others go on
        answers.send(failed(f"the grader could not grade this file: {type(error).__name__}: {error}".splitlines()[0]))


def end_with_parent() -> None:
    """A worker that was killed leaves nobody behind."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def own_cores(stages: tuple[str, ...], timed_cores: int) -> None:
    """Untimed work stays off the cores of timed runs, if there are others."""
    left = machine.cores()[timed_cores:]
    if TIMED[0] not in stages and left and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, left)


def graded(order: Order) -> Outcome:
    """The stages asked for."""
    begin, s = time.perf_counter(), order.settings
    evidence = pickle.loads(order.evidence) if order.evidence else None
    options = grade.Options(
        s.points, seed=s.seed, cases=s.cases, model=s.model, stages=order.stages, backend=s.backend,
        require_sandbox=True,
    )  # fmt: skip
    if TIMED[0] in order.stages:
        if order.earlier and order.earlier_host == platform.node():
            options.earlier = Timing.from_json(order.earlier)
        recorded = next(iter(s.only_for(order.source).timings.values()), None)
        options.recorded = Timing.from_json(recorded) if recorded else None
    with tempfile.TemporaryDirectory(prefix="classroom-") as folder:
        path = Path(folder) / "parallel.py"
        path.write_bytes(order.source)
        verdict = grade.grade(path, options, evidence)
    found = verdict.evidence
    to_time = bool(not found.bad and found.right)
    if TIMED[0] in s.stages and not to_time and not found.timing:  # it is not timed because it is wrong
        found.untimed = found.fault and found.untimed
        verdict = judge(found)
    return Outcome(
        INCONCLUSIVE if verdict.inconclusive else GRADED, report.gradescope(verdict), report.html(verdict, schedule=""),
        found.timing.to_json() if found.timing else None, pickle.dumps(found), to_time,
        seconds=time.perf_counter() - begin,
    )  # fmt: skip


def failed(why: str) -> Outcome:
    """No grade, and why."""
    return Outcome(NOT_GRADED, {"output": why, "tests": []})
