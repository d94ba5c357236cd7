"""The stage of scaling: trusted program, submission on 1 worker, submission on k workers, and the capacity beside them,
taking turns token by token.

One round has one new prompt and a fresh process for each program: one trusted program and up to SETS sets of the
submission with 1 worker and with k. All are loaded before the first turn. Then, for each token and each set,

    even turns    1   k   capacity          odd turns    capacity   k   1

and the trusted program once a token: it makes the first token as the serial program does, which is timed (T_s), and the
later ones with the forward pass of training, on one thread, sooner. (In a sandbox whose programs could talk to each
other there is one set, and for 1 and for k workers a prompt and a trusted program of their own.) Who is not at turn is
stopped (SIGSTOP), all its threads, so nobody works ahead and nobody disturbs. A token takes a few tenths of a second:
what is compared was measured within a blink, and a disturbance hits single tokens, which the estimates
(grader.estimates) leave out. All times are taken by the parent.

A round in which other programs took part of the cores is disturbed: it is repeated, and in the end "inconclusive",
never a lost point.
"""

import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from functools import partial
from pathlib import Path

from grader.child import Child, Patience, Run
from grader.estimates import estimate_scaling
from grader.points import Points
from grader.rounds import Round, Sample, Timing
from grader.sandbox import MB, Limits, Sandbox, SandboxError
from lab.checkpoint import read_header
from lab.command import counted
from lab.margin import MARGIN
from lab.measure.capacity import layers_of
from lab.measure.load import Load

PROMPT_LENGTH, N = 96, 100  # a prompt of 96 tokens, 4 more are made
SETS = 3  # of processes of the submission, for each prompt
ROUND = 20.0  # seconds that a round's runs of the submission may take; a slow one has fewer sets, then fewer tokens
LEAST_ROUNDS, MOST_ROUNDS = 2, 8
LEAST_SETS = 6  # of quiet rounds together, before all doubt can be over
BUDGET = 65.0  # seconds after which no further round is begun, once there are LEAST_ROUNDS
OTHERS = 0.10  # share of the cores that other programs took, from which on a round is disturbed
WAITING = 0.05  # share of its time that a trusted one-thread program waited for a core
SAMPLES = 12  # products whose use is looked into, for each worker, at most
SLOWEST = 4.0  # times the serial program's time, plus 5 seconds: a submission that takes longer is stopped


def disturbance(round_: Round) -> str:
    """Why a round does not count, or "". Only what the submission cannot cause counts: other programs, a trusted run
    that had to wait.
    """
    waiting = sum(round_.trusted.delay) / max(round_.trusted.seconds, 1e-9)
    if round_.others > OTHERS:
        told = f", something waited for a core {round_.pressure:.0%} of the time"
        return f"other programs used {round_.others:.0%} of the cores{told if round_.pressure > round_.others else ''}"
    return f"a trusted program waited {waiting:.0%} of its time for a core" if waiting > WAITING else ""


# ------------------------------------------------------------------------------------------------------------- programs


class WrongRun(Exception):
    """A program came to another end than its last token, or a token of the submission is wrong."""

    def __init__(self, player: "Player") -> None:
        super().__init__(player.run.outcome)
        self.player = player


class Unjudgeable(Exception):
    """A token differs where rounding alone may decide it."""


class Player:
    """A program that takes turns."""

    def __init__(self, child: Child, cores: list[int], workers: int) -> None:
        self.child, self.cores, self.workers = child, cores, workers
        self.steal = 0.0

    def ready(self, prompt: list[int]) -> None:
        """Wait until it is loaded. Raises WrongRun."""
        failed = self.child.wait_ready()
        self.run = failed or self.child.begin(prompt, N, self.workers)
        if failed:
            raise WrongRun(self)

    def turn(self, allowed: float | None = None) -> None:
        """One token; allowed: seconds from the prompt on, after which it is stopped. Raises WrongRun."""
        if allowed is not None:
            self.child.patience = Patience(token=allowed, idle=max(3.0, allowed / SLOWEST), total=allowed)
        count = len(self.run.tokens)
        with Load(self.cores) as load:
            self.child.turn(self.run)
        self.steal += load.stolen * load.seconds
        if self.run.outcome != "done" or len(self.run.tokens) != count + 1:
            raise WrongRun(self)

    def sample(self) -> Sample:
        """What was seen of it."""
        return Sample.of(self.run, self.workers, self.child.threads_at_ready, round(self.steal, 3))


class Stopwatch:
    """Starts programs in the sandbox.

    trusted: the grader's copy of the lab, with lab.measure and lab.train; tree: the lab with the submission in it.
    """

    def __init__(self, sandbox: Sandbox, trusted: Path, tree: Path, model: Path) -> None:
        self.sandbox, self.trusted, self.tree, self.model = sandbox, trusted, tree, model
        self.config = read_header(model)[1]
        self.kernel = {"positions": PROMPT_LENGTH, "shape": list(vars(self.config).values())}
        self.cores = sorted(os.sched_getaffinity(0))
        self.limits = Limits(memory=2048 * MB + 3 * model.stat().st_size)

    def trusted_program(self) -> Player:
        """The trusted program, on one core."""
        return self.start(self.trusted, "trusted", 1, Patience(start=60.0, token=120.0, idle=120.0, total=600.0))

    def submission(self, k: int) -> Player:
        """The submission with k workers, on k cores."""
        return self.start(self.tree, "submission", k, Patience(start=60.0))

    def start(self, tree: Path, engine: str, k: int, patience: Patience) -> Player:
        """A fresh process."""
        cores = self.cores[:k]
        return Player(Child(self.sandbox, tree, self.model, engine, cores, self.limits, patience), cores, k)

    def capacity(self, k: int) -> Child:
        """The trusted kernel on k cores, ready. Raises SandboxError."""
        child = Child(self.sandbox, self.trusted, None, "capacity", self.cores[:k], self.limits, kernel=self.kernel)
        if (failed := child.wait_ready()) is not None:
            child.close()
            raise SandboxError(f"the capacity cannot be measured: {failed.outcome} {failed.error[-1:]}")
        return child


# ----------------------------------------------------------------------------------------------------------- measuring


def measure(
    watch: Stopwatch, points: Points, seed: int,
    tell: Callable[..., None] = lambda line, detail="": None, budget: float = BUDGET, earlier: Timing | None = None,
) -> Timing:  # fmt: skip
    """Rounds until the points are decided, or the budget is used up. Stops at the first run with wrong tokens.

    earlier: a timing of the same program on the same machine and model, whose rounds count as well.

    Raises SandboxError when a trusted program cannot be run.
    """
    model, cores = watch.model, len(watch.cores)
    timing = Timing(model.stem, cores, [k for k in points.workers if k <= cores])
    timing.whole = watch.config.num_layers / layers_of(watch.config)
    timing.not_measured = {k: f"this machine has {counted(cores, 'core')}" for k in points.workers if k > cores}
    if not timing.measured:
        return timing
    if earlier is not None and (earlier.model, earlier.measured) == (timing.model, timing.measured):
        timing.rounds += earlier.rounds
    prompts = prompts_for(watch, seed)
    begin = time.perf_counter()
    with ExitStack() as stack:
        capacity = {k: stack.enter_context(watch.capacity(k)) for k in timing.measured}
        for number in range(MOST_ROUNDS):
            begun = time.perf_counter()
            name = f"round {number + 1}" + (f": so far {standing(timing)}" if timing.rounds or timing.given_up else "")
            one_round(watch, prompts, timing, capacity, partial(tell, name))
            now = time.perf_counter()
            late = now - begin + (now - begun) > budget  # the next one would end after it
            if timing.failure is not None or (late and enough(timing)) or decided(timing, points):
                break
    return timing


def prompts_for(watch: Stopwatch, seed: int) -> Iterator[list[int]]:
    """Prompts for the timed runs, without end; what follows each, and its margin, the trusted serial run says."""
    choose = random.Random(seed)
    while True:
        yield [choose.randrange(watch.config.vocab_size) for _ in range(PROMPT_LENGTH)]


def one_round(
    watch: Stopwatch, prompts: Iterator[list[int]], timing: Timing, capacity: dict[int, Child],
    tell: Callable[[str], None],
) -> None:  # fmt: skip
    """One round; it goes to timing.rounds, or timing.failure or timing.given_up says what came instead.

    Raises SandboxError when a trusted program fails.
    """
    while True:
        with ExitStack() as stack:
            group = Group(watch, timing.measured, capacity, stack)
            try:
                group.play(prompts, tell)
                timing.rounds.append(group.round())
                timing.known = {k: (player.run.prompt, player.run.tokens[0]) for k, player in group.trusted.items()}
            except Unjudgeable:
                continue  # rounding decides there: no case; another prompt
            except WrongRun as wrong:
                note_failure(timing, group, wrong.player)
            return


def note_failure(timing: Timing, group: "Group", player: Player) -> None:
    """A program that did not give the right tokens: its fault, or that of others, or the trusted one itself.

    Raises SandboxError for the trusted one.
    """
    run = player.run
    if player in group.trusted.values():
        why = run.error[-1]["message"] if run.error else run.outcome
        raise SandboxError(f"the trusted program cannot be timed on {group.watch.model.name}: {why}")
    others = group.others()
    if run.outcome in ("hang", "spin", "slow") and others > OTHERS:
        timing.given_up.append(f"other programs used {others:.0%} of the cores")
    else:
        timing.failure, timing.failed_workers = run, player.workers
        timing.expected = group.trusted[player.workers].run.tokens


class Group:
    """The programs of one round."""

    def __init__(self, watch: Stopwatch, counts: list[int], capacity: dict[int, Child], stack: ExitStack) -> None:
        self.watch, self.counts, self.kernels = watch, counts, capacity
        self.cores = watch.cores[: max(counts)]
        self.stack, self.players = stack, []
        # programs that could talk to each other have prompts of their own, so that they have nothing to say
        shared = self.add(watch.trusted_program()) if watch.sandbox.private else None
        self.trusted = {k: shared or self.add(watch.trusted_program()) for k in (1, *counts)}
        sets = SETS if watch.sandbox.private else 1
        self.sets = [{k: self.add(watch.submission(k)) for k in (1, *counts)} for _ in range(sets)]
        self.capacity: dict[int, list[list[list[float]]]] = {k: [[] for _ in self.sets] for k in counts}
        self.load = Load(self.cores, self.own_seconds).start()

    def add(self, player: Player) -> Player:
        """One more, which ends with the round."""
        self.stack.callback(player.child.close)
        self.players.append(player)
        return player

    def play(self, prompts: Iterator[list[int]], tell: Callable[[str], None]) -> None:
        """All turns. Raises WrongRun, Unjudgeable, SandboxError."""
        references = list(dict.fromkeys(self.trusted.values()))
        for reference in references:
            reference.ready(next(prompts))
        for programs in self.sets:
            for k, player in programs.items():
                player.ready(self.trusted[k].run.prompt)
        self.load.start()
        count, token = N - PROMPT_LENGTH, 0
        while token < count:
            tell(f"token {token + 1} of {count}")
            for reference in references:
                reference.turn()
            for number in range(len(self.sets)):
                self.turns_of_set(number, reverse=(token + number) % 2 == 1)
                if token == number == 0:  # a slow program has fewer sets, and perhaps fewer tokens
                    seconds = sum(player.run.seconds for player in self.sets[0].values())
                    wanted = max(1, int(ROUND / (count * seconds)))
                    count = max(1, min(count, int(ROUND / seconds)))
            del self.sets[wanted:]
            token += 1

    def turns_of_set(self, number: int, reverse: bool) -> None:
        """One token of each program of a set, and the capacity. Raises WrongRun, Unjudgeable, SandboxError."""
        order = [1, *self.counts, 0]
        for k in reversed(order) if reverse else order:
            if k == 0:
                for count, kernel in self.kernels.items():
                    seconds = kernel.value(capacity=count, one_first=reverse)
                    if not isinstance(seconds, list):
                        raise SandboxError(f"the capacity of {count} threads cannot be measured: no answer came")
                    self.capacity[count][number].append(seconds)
                continue
            player, trusted = self.sets[number][k], self.trusted[k].run
            player.turn(SLOWEST * trusted.stamps[0] * len(trusted.tokens) + 5.0)
            check_token(player, trusted)

    def own_seconds(self) -> float:
        """The CPU seconds that the grader and the programs it started have used."""
        children = [player.child for player in self.players] + list(self.kernels.values())
        return time.process_time() + sum(child.cpu_time() for child in children)

    def others(self) -> float:
        """The share of the cores that others have used since the first turn, or since the programs were started."""
        return self.load.stop().others / len(self.cores)

    def round(self) -> Round:
        """What was seen."""
        one = [programs[1].sample() for programs in self.sets]
        many = {k: [programs[k].sample() for programs in self.sets] for k in self.counts}
        capacity = {k: turns[: len(self.sets)] for k, turns in self.capacity.items()}
        found = Round(self.trusted[1].sample(), one, many, capacity, self.others(), self.load.waiting)
        found.disturbed = disturbance(found)
        return found


def check_token(player: Player, trusted: Run) -> None:
    """Raises WrongRun for a wrong token, Unjudgeable for one that rounding decides."""
    step = len(player.run.tokens) - 1
    if player.run.tokens[step] != trusted.tokens[step]:
        margins = trusted.values.get("margins") or []
        if step < len(margins) and margins[step] < 2 * MARGIN:  # margins are in float32: twice, to be sure
            raise Unjudgeable
        raise WrongRun(player)


def record(watch: Stopwatch, k: int, seed: int) -> dict:
    """One run of the submission with the recorder of lab.threadlib: for the explanation of a slow program, never for
    points.
    """
    with watch.submission(k).child as child:
        if child.wait_ready() is not None:
            return {}
        child.patience = Patience(60, 60, 20)
        run = child.ask(next(prompts_for(watch, seed)), PROMPT_LENGTH + 4, k, record=True)
    noted = run.values.get("recorded")
    return {"seconds": run.seconds, **noted} if isinstance(noted, dict) and run.stamps else {}


# ------------------------------------------------------------------------------------------------------------ deciding


def enough(timing: Timing) -> bool:
    """Whether to stop when time is up: with the least number of quiet rounds, or with hardly a hope of getting them."""
    quiet = len(timing.quiet())
    return quiet >= LEAST_ROUNDS or quiet <= (len(timing.rounds) + len(timing.given_up)) / 2


def decided(timing: Timing, points: Points) -> bool:
    """Whether the interval leaves no doubt about the points, for every number of workers."""
    if sum(len(round_.one) for round_ in timing.quiet()) < LEAST_SETS:
        return False
    gains = (estimate_scaling(timing.quiet(), k).gain for k in timing.measured)
    return all(points.credit(gain.high) - points.credit(gain.low) <= 0.02 for gain in gains)


def standing(timing: Timing) -> str:
    """How it stands, for the progress line."""
    if timing.given_up:
        return timing.given_up[-1]
    last, k = timing.rounds[-1], timing.measured[-1]
    found = estimate_scaling([last], k)
    disturbed = f", disturbed: {last.disturbed}" if last.disturbed else ""
    return f"E_{k} {found.threads.median:.2f} of C_{k} {found.capacity.median:.2f}{disturbed}"
