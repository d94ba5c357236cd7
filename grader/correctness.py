"""The stage of tokens and workers: real runs on tiny models, a process for each number of workers."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from grader.cases import Case, CaseSet
from grader.child import Child, Patience, Run
from grader.sandbox import Limits, Sandbox
from lab.check.report import counted

GIVE_UP_AFTER = 2  # hangs, after which no more cases are run
MOST_RESTARTS = 6  # crashes, likewise
AFTER_FAILURES = "too many cases before it failed"
TOO_SLOW = "the cases before it took {:.0f} s, where the serial program needs a few"
CRASHES = ("error", "contract", "ended", "protocol", "processes", "unstoppable")


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

    def slow(self, patience: Patience) -> bool:
        """Whether the cases that were run have used up the time for all of them."""
        return self.seconds > patience.cases

    def of(self, hidden: bool) -> list[Outcome]:
        """The hidden or the public ones."""
        return [outcome for outcome in self.outcomes if outcome.case.hidden == hidden]


def run_cases(
    sandbox: Sandbox,
    tree: Path,
    sets: list[CaseSet],
    limits: Limits,
    patience: Patience,
    progress: Callable[[str], None] | None = None,
) -> Correctness:
    """Run every case of every set, in a fresh process for each set and number of workers."""
    result = Correctness()
    hangs = crashes = 0

    def goes_on() -> bool:
        """Whether the next case is worth its time."""
        failed = result.start is not None or hangs >= GIVE_UP_AFTER or crashes >= MOST_RESTARTS
        return not failed and not result.slow(patience)

    for case_set in sets:
        for workers in sorted({case.workers for case in case_set.cases}):
            batch = [case for case in case_set.cases if case.workers == workers]
            if progress:
                whose = "hidden" if batch[0].hidden else "public"
                progress(f"{counted(len(batch), f'{whose} case')}, {counted(workers, 'worker')}")
            while batch and goes_on():
                done = run_batch(sandbox, tree, case_set.model, batch, limits, patience, result)
                result.outcomes += done
                hangs += sum(outcome.end in ("hang", "spin", "flood", "litter") for outcome in done)
                crashes += sum(outcome.end in CRASHES for outcome in done)
                batch = batch[len(done) :]
            why = TOO_SLOW.format(result.seconds) if result.slow(patience) else AFTER_FAILURES
            result.outcomes += [Outcome(case, None, why=why) for case in batch]
    return result


def run_batch(
    sandbox: Sandbox,
    tree: Path,
    model: Path,
    batch: list[Case],
    limits: Limits,
    patience: Patience,
    result: Correctness,
) -> list[Outcome]:
    """Run cases in one process, until the process is lost; at least one Outcome, unless it does not start."""
    done: list[Outcome] = []
    with Child(sandbox, tree, model, limits=limits, patience=patience) as child:
        failed = child.wait_ready()
        if failed is not None:
            result.start = failed
            return done
        for case in batch:
            more = {"close_after": case.close_after} if case.close_after else {}
            run = child.ask(case.prompt, case.n, case.workers, step=True, **more)
            result.seconds += child.total
            done.append(Outcome(case, run, child.stderr.decode(errors="replace"), child.threads_at_ready))
            if run.status is not None or run.outcome == "error" or run.left_threads or result.slow(patience):
                break  # the next case deserves a process in order
    return done


def compare_activations(
    sandbox: Sandbox, tree: Path, case_set: CaseSet, case: Case, step: int, limits: Limits, patience: Patience
) -> dict | None:
    """The submission's activation tensors of the pass that made generated token number `step` (from 0);
    None if they don't come.
    """
    prompt = [*case.prompt, *case.tokens[:step]]
    with Child(sandbox, tree, case_set.model, limits=limits, patience=patience) as child:
        if child.wait_ready() is not None:
            return None
        run = child.ask(prompt, len(prompt) + 1, case.workers, activations=True)
        found = run.values.get("activations")
        return {"tokens": run.tokens, "activations": found} if isinstance(found, dict) else None
