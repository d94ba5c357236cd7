"""Do the workers do the work? Seen from inside, in untimed runs whose arrays note who uses them (grader.shares).

Three questions: which share of the weights does each worker read; which share of attention is its; and is what it
computes used. For the last one, one product of one worker, chosen at random by its work, is made NaN: if the token is
still right, nobody needed it. Of an honest worker's products some may be left unused (the logits of earlier positions),
so two that matter are enough; a worker that burns time hits one now and then at most.

The reports come out of the submission's own process: they are believed as far as they are well formed, and compared
with what the timed runs showed from outside (grader.scaling).
"""

import random
import re
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from grader.child import Child, Patience
from grader.explain import error_line
from grader.runs import Run
from grader.sandbox import Limits, Sandbox

PAUSES = (0.001, 0.005, 0.02, 0.05)  # seconds that a worker rests in each task of a tiny model, until all have had some
HITS, SAMPLES = 2, 16  # products that must matter, of so many
LEAST = 5  # of them are tried, however late it is: on a busy machine nobody is condemned unheard
TABLES = ("weights", "attention", "visits", "passes", "work", "matrices")  # of a report, thread -> number
MOST_TIMES = 1.5  # what one worker does alone: k workers that do more between them repeat each other's work
LESS = 0.5  # of the work of an earlier run: the rest was kept from it
SECONDS = 30.0  # for all of it: then what was seen so far counts
LAST = 0.97  # samples lie in this part of a worker's work: who does less the next time still reaches them


WORDS = {
    "hang": "hangs", "spin": "takes too long", "slow": "takes too long", "ended": "ends",
    "flood": "prints without end", "protocol": "says something else",
    "contract": "returns something else", "litter": "writes without end", "processes": "starts other processes",
    "unstoppable": "cannot be stopped",
}  # fmt: skip


@dataclass
class Inside:
    """What was seen of k workers. Lists have one entry for each worker, the oldest first."""

    k: int
    weights: list[float] = field(default_factory=list)  # shares of the weights that anybody computes with
    main: float = 0.0  # the main thread's
    attention: list[float] = field(default_factory=list)  # shares of the products without weights; none: there are none
    used: list[bool] = field(default_factory=list)  # whether what it computes is needed
    cpu: list[float] = field(default_factory=list)  # seconds for the first token, seen from outside
    problem: str = ""  # why nothing could be seen, one line
    visits: list[float] = field(default_factory=list)  # the share of the layers in which it came to attention
    passes: list[float] = field(default_factory=list)  # how often it read each of its weights
    positions: int = 1  # of the prompt
    matrices: list[float] = field(default_factory=list)  # the share of the matrices of which it read any
    times: float = 1.0  # how many times the work that one worker does alone the k do together
    attended: list[bool] = field(default_factory=list)  # whether what it computes of attention is needed
    main_too: bool = False  # the last of the k is the main thread, which takes its share beside k-1 threads

    @property
    def worked(self) -> float:
        """The share of the weights that the workers have read, all together, as far as anybody used it."""
        if self.main_too and not all(self.used):
            return 0.0  # the main thread's work alone is not theirs
        return min(1.0, sum(share for share, used in zip(self.weights, self.used, strict=True) if used))

    def fair(self, shares: Sequence[float]) -> bool:
        """Whether every worker has at least half of an even share."""
        return len(shares) >= self.k and sorted(shares)[-self.k] >= 0.5 / self.k

    @property
    def shared_products(self) -> bool:
        """Whether every worker reads a fair share of the weights, is needed, and does not do it all once more; nor may
        a product be done by one worker, the next by another, and so on.
        """
        return self.fair(self.weights) and all(self.used) and self.times <= MOST_TIMES and self.together

    @property
    def together(self) -> bool:
        """Whether every worker takes part in most products."""
        return not self.matrices or sorted(self.matrices)[-self.k] > 0.5

    @property
    def blocked(self) -> bool:
        """Whether a product takes several positions at once: then a weight is not read for each of them, nor for each
        of a worker's own, should the positions be what is shared.
        """
        return all(count <= max(1.5, self.positions / (self.k + 1)) for count in self.passes)

    @property
    def shared_attention(self) -> bool:
        """Whether every worker does a fair share of attention, in most layers; without products it cannot be told.

        One task for all of attention, now this worker's and now that one's, is not shared: no two workers can come to
        more than half of the layers' attention then.
        """
        often = not self.visits or sorted(self.visits)[-self.k] > 0.5
        return not self.attention or (self.fair(self.attention) and often and all(self.attended))

    def words(self) -> str:
        """What was seen, for the student."""
        if self.problem:
            return self.problem
        unused = [number for number, used in enumerate(self.used, 1) if not used and self.weights[number - 1] > 0]
        shares = ", ".join(f"{share:.0%}" for share in self.weights) or "none"
        text = f"the main thread reads {self.main:.0%} of the weights, the workers {shares}"
        if not self.blocked:
            text += f", each {max(self.passes):.0f} times for {self.positions} positions"
        if self.fair(self.weights) and not self.together:
            text += ", but most products are done by one worker alone"
        if self.times > MOST_TIMES:
            text += f"; together they do {self.times:.1f} times the work that one does alone: each repeats others"
        if unused:
            text += f"; what worker {unused[0]} computes is not used"
        if self.attention and not self.shared_attention:
            text += f"; the workers do {', '.join(f'{share:.0%}' for share in self.attention)} of attention"
            if not all(self.attended):
                text += f", and what worker {self.attended.index(False) + 1} computes of it is not used"
            elif self.fair(self.attention):
                text += ", but each layer's is done by one worker alone"
        return text


def look_inside(
    sandbox: Sandbox, tree: Path, model: Path, prompt: Sequence[int], token: int, k: int, *,
    limits: Limits, patience: Patience, pauses: Iterable[float] = PAUSES, cpus: Iterable[int] | None = None,
    samples: int = SAMPLES,
) -> Inside:  # fmt: skip
    """Watch the submission in `tree` make the token that follows the prompt, on k workers, again and again."""
    with ExitStack() as stack:

        def child() -> Child | None:
            found = stack.enter_context(Child(sandbox, tree, model, "watched", cpus, limits, patience))
            return None if found.wait_ready() else found

        watch = Watch(child, list(prompt), token, k, time.perf_counter() + SECONDS, limits)
        for pause in pauses:
            seen = watch.look(pause)
            if seen.problem or (seen.fair(seen.weights) and seen.together and seen.shared_attention):
                break
        if seen.problem:
            return seen
        seen.times = watch.times()
        choose = random.Random(1)
        seen.used += [watch.matters(name, pause, choose, samples) for name in watch.names]
        if seen.attention and seen.shared_attention:
            seen.attended = [watch.matters(name, pause, choose, samples, of_attention=True) for name in watch.names]
        return seen


class Watch:
    """Runs of one submission with watched arrays; a process that was lost is replaced."""

    def __init__(
        self, start: Callable[[], Child | None], prompt: list[int], token: int, k: int, until: float, limits: Limits
    ) -> None:
        self.start, self.prompt, self.token, self.k, self.until, self.limits = start, prompt, token, k, until, limits
        self.child: Child | None = None
        self.alone = False  # each run in a process of its own
        self.most = 0.0  # work of a run
        self.names: list[str] = []
        self.work: dict[str, float] = {}  # of each thread in products with weights
        self.attention: dict[str, float] = {}  # in those of attention

    def run(self, **notes: object) -> tuple[Run | None, dict]:
        """One token, and the notes. A program that computes less when the prompt comes again, as it keeps what it knows
        of a prompt, gets a new process for each run.
        """
        again = self.child is not None
        run, found = self.once(notes)
        work = sum(found.get("work", {}).values())
        others = self.names and found.get("work", {}).keys() - {*self.names, "MainThread"}  # threads that nobody joined
        if again and run is not None and run.tokens == [self.token] and (work < LESS * self.most or others):
            self.alone = True
            self.close()
            run, found = self.once(notes)
        self.most = max(self.most, work)
        if self.alone:
            self.close()
        return run, found

    def once(self, notes: dict) -> tuple[Run | None, dict]:
        """The same in the process that is there, or in a new one."""
        self.child = self.child or self.start()
        if self.child is None:
            return None, {}
        run = self.child.ask(self.prompt, len(self.prompt) + 1, self.k, notes=notes)
        if run.status is not None or run.left_threads > self.child.threads_at_ready:
            self.close()
        return run, well_formed(run.values.get("notes"))

    def close(self) -> None:
        """End the process."""
        if self.child is not None:
            self.child.close()
        self.child = None

    def look(self, pause: float) -> Inside:
        """A run in which nothing is poisoned."""
        run, notes = self.run(pause=pause)
        if run is None or run.outcome != "done" or run.tokens != [self.token] or not notes:
            return Inside(self.k, problem=f"who does the work could not be seen: {self.why_not(run)}")
        weights, attention, self.work = notes["weights"], notes["attention"], notes["work"]
        self.attention, whole = attention, sum(attention.values()) or 1.0
        self.names = sorted({*weights, *attention, *self.work} - {"MainThread"}, key=lambda name: (len(name), name))
        cpu = [seconds for seconds, _ in run.use.threads.values()]
        crew = [*self.names, "MainThread"]
        fair = min(weights.get(name, 0.0) for name in crew) >= 0.5 / self.k
        main_too = fair and len(crew) == len(cpu) + 1 == self.k
        if main_too:
            self.names = crew
        self.names += [f"(worker {number})" for number in range(len(self.names) + 1, self.k + 1)]
        shares = [attention.get(name, 0.0) / whole for name in self.names] if attention else []
        if set(attention) == {"MainThread"}:
            shares = [0.0] * self.k
        return Inside(
            self.k,
            weights=[weights.get(name, 0.0) for name in self.names],
            main=weights.get("MainThread", 0.0),
            attention=shares,
            cpu=cpu,
            visits=[notes["visits"].get(name, 0.0) for name in self.names],
            passes=[notes["passes"].get(name, 0.0) for name in self.names],
            positions=len(self.prompt),
            matrices=[notes["matrices"].get(name, 0.0) for name in self.names],
            main_too=main_too,
        )

    def times(self) -> float:
        """The work of the run before over that of a run on 1 worker; 1 if that one shows nothing."""
        together, k = sum(self.work.values()), self.k
        self.k = 1
        run, notes = self.run()
        self.k = k
        alone = sum(notes.get("work", {}).values())
        return together / alone if run is not None and run.tokens == [self.token] and alone else 1.0

    def why_not(self, run: Run | None) -> str:
        """Why a run showed nothing."""
        if run is None:
            return "with watched arrays it does not start"
        if run.outcome == "error":
            return f"with watched arrays it fails: {error_line(run.error, self.limits, private=True)}"
        if run.outcome in WORDS:
            return f"with watched arrays it {WORDS[run.outcome]}"
        if run.tokens != [self.token]:
            return "with watched arrays it makes another token"
        return "threads that are not lab.threadlib's do it"

    def matters(self, name: str, pause: float, choose: random.Random, samples: int, of_attention: bool = False) -> bool:
        """Whether the token is wrong without some of this thread's products, with weights or of attention."""
        hits, work = 0, (self.attention if of_attention else self.work).get(name, 0.0)
        for tried in range(samples if work else 0):
            if time.perf_counter() > self.until and (hits or tried >= LEAST):
                return hits > 0
            after = choose.uniform(0.0, LAST) * work
            run, notes = self.run(pause=pause, poison=name, after=after, attention=of_attention)
            hits += run is not None and bool(notes) and notes["poisoned"] and run.tokens != [self.token]
            if hits == HITS:
                return True
        return False


def well_formed(notes: object) -> dict:
    """The report of grader.shares, if it is one; else nothing."""
    if not isinstance(notes, dict) or not all(is_table(notes.get(name)) for name in TABLES):
        return {}
    return {"poisoned": notes.get("poisoned") is True, **{name: notes[name] for name in TABLES}}


def is_table(table: object) -> bool:
    """Whether this is a number for each of not too many threads."""
    return (
        isinstance(table, dict)
        and len(table) <= 64
        and all(
            re.fullmatch(r"MainThread|worker-\d{1,6}", thread) and isinstance(value, int | float) and 0 <= value < 1e18
            for thread, value in table.items()
        )
    )
