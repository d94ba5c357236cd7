"""The stage of tokens and workers: real runs on tiny models, a process for each number of workers."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from grader.cases import Case, CaseSet
from grader.child import Child, Patience
from grader.runs import Run
from grader.sandbox import Limits, Sandbox
from lab.command import counted

GIVE_UP_AFTER = 2  # hangs, after which no more cases are run
MOST_RESTARTS = 6  # crashes, likewise
HANGS = ("hang", "spin", "flood", "litter")
CRASHES = ("error", "contract", "ended", "protocol", "processes", "unstoppable")


@dataclass(frozen=True)
class Conditions:
    """Where a submission runs, and with what: `tree` is the lab with the submission in it."""

    sandbox: Sandbox
    tree: Path
    limits: Limits
    patience: Patience

    def child(self, model: Path) -> Child:
        """A fresh process."""
        return Child(self.sandbox, self.tree, model, limits=self.limits, patience=self.patience)


@dataclass
class Outcome:
    """What happened with one case; run is None when it was not run."""

    case: Case
    run: Run | None
    stderr: str = ""
    threads_at_ready: int = 0
    why: str = ""  # it was not run

    @property
    def end(self) -> str:
        """How its run ended; "" if there was none."""
        return self.run.outcome if self.run is not None else ""

    @property
    def equal(self) -> bool:
        """Whether exactly the serial program's tokens came, and nothing went wrong."""
        return self.run is not None and self.run.outcome == "done" and self.run.tokens == list(self.case.tokens)


@dataclass
class Correctness:
    """All cases, and what kept the program from starting, if anything did."""

    outcomes: list[Outcome] = field(default_factory=list)
    start: Run | None = None  # the program never got ready
    seconds: float = 0.0  # from the prompts to the last tokens

    @property
    def broken(self) -> bool:
        """Whether so much went wrong that no more cases are worth their time."""
        ends = [outcome.end for outcome in self.outcomes]
        hangs, crashes = (sum(end in kind for end in ends) for kind in (HANGS, CRASHES))
        return self.start is not None or hangs >= GIVE_UP_AFTER or crashes >= MOST_RESTARTS

    def slow(self, patience: Patience) -> bool:
        """Whether the cases that were run have used up the time for all of them."""
        return self.seconds > patience.cases

    def why_not_run(self, patience: Patience) -> str:
        """Why the cases that are left are not run."""
        if self.start is not None:
            return "the program does not start"
        if self.slow(patience):
            return f"the cases before it took {self.seconds:.0f} s, where the serial program needs a few"
        return "too many cases before it failed"

    def of(self, hidden: bool) -> list[Outcome]:
        """The hidden or the public ones."""
        return [outcome for outcome in self.outcomes if outcome.case.hidden == hidden]


def run_cases(conditions: Conditions, sets: list[CaseSet], progress: Callable[[str], None]) -> Correctness:
    """Run every case of every set, in a fresh process for each set and number of workers."""
    result, patience = Correctness(), conditions.patience
    for case_set in sets:
        for workers in sorted({case.workers for case in case_set.cases}):
            batch = [case for case in case_set.cases if case.workers == workers]
            whose = "hidden case" if batch[0].hidden else "public case"
            progress(f"{counted(len(batch), whose)}, {counted(workers, 'worker')}")
            while batch and not result.broken and not result.slow(patience):
                run_batch(conditions, case_set.model, batch, result)
            result.outcomes += [Outcome(case, None, why=result.why_not_run(patience)) for case in batch]
    return result


def run_batch(conditions: Conditions, model: Path, batch: list[Case], result: Correctness) -> None:
    """Run cases in one process, until the process is lost; those that were run, at least one unless it does not start,
    leave the batch.
    """
    with conditions.child(model) as child:
        result.start = child.wait_ready()
        while batch and result.start is None:
            case = batch.pop(0)
            run = child.ask(case.prompt, case.n, case.workers, step=True, close_after=case.close_after)
            result.seconds += child.total
            result.outcomes.append(Outcome(case, run, child.stderr.decode(errors="replace"), child.threads_at_ready))
            if run.status is not None or run.outcome == "error" or run.left_threads or result.slow(conditions.patience):
                break  # the next case deserves a process in order


def pass_alone(conditions: Conditions, model: Path, case: Case, step: int) -> tuple[list[int], dict | None]:
    """The pass that made generated token number `step` (from 0), in a process of its own: its token, and the
    submission's activation tensors, None if they don't come.
    """
    prompt = [*case.prompt, *case.tokens[:step]]
    with conditions.child(model) as child:
        if child.wait_ready() is not None:
            return [], None
        run = child.ask(prompt, len(prompt) + 1, case.workers, activations=True)
        found = run.values.get("activations")
        return run.tokens, found if isinstance(found, dict) else None
