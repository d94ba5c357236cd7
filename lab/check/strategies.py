"""Which thread runs next: the ways to choose a schedule.

A random number is drawn from Python's Mersenne Twister by random() alone, the one method that is the same in all
versions.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from random import Random
from typing import TYPE_CHECKING, Any

from lab.check.runner import Runner

if TYPE_CHECKING:
    from lab.check.scheduler import Event, Scheduler


class Strategy:
    """Decides which thread runs next; this one lets the running thread go on for as long as it can."""

    scheduler: "Scheduler"

    def attach(self, scheduler: "Scheduler") -> None:
        """A run of this scheduler begins."""
        self.scheduler = scheduler

    def choose(self, able: list[Runner], default: Runner, free: bool) -> Runner:
        """One of `able` (two or more, by number); free: no choice would be a preemption."""
        return default

    def yielded(self, runner: Runner) -> None:
        """The runner only waits for others (it spins or sleeps)."""


Default = Strategy  # as a schedule of its own


def numbered(able: list[Runner], number: int | None, default: Runner) -> Runner:
    """The thread of this number, if it is there."""
    return next((runner for runner in able if runner.number == number), default)


def after(able: list[Runner], number: int) -> Runner:
    """The next one, if threads take turns."""
    return next((runner for runner in able if runner.number > number), able[0])


class Fair(Strategy):
    """All threads in turn, so that none waits for ever for one that only goes round. `before`: the deviations that were
    made when it took over."""

    TURN = 50  # decisions

    def __init__(self, before: int) -> None:
        self.before, self.count = before, 0

    def choose(self, able: list[Runner], default: Runner, free: bool) -> Runner:
        """The next one, now and then."""
        self.count += 1
        return default if self.count % self.TURN else after(able, default.number)


class Replay(Strategy):
    """Follow a schedule: {decision: thread}; everywhere else the default."""

    def __init__(self, deviations: dict[int, int]) -> None:
        self.deviations = deviations
        self.impossible: list[int] = []  # decisions at which the thread named could not go on: another program

    def unreached(self) -> int:
        """How many of its decisions come after the end of the run."""
        return sum(at > self.scheduler.decisions for at in self.deviations)

    def choose(self, able: list[Runner], default: Runner, free: bool) -> Runner:
        """What the schedule says."""
        at = self.scheduler.decisions
        number = self.deviations.get(at)
        if number is None:
            return default
        chosen = numbered(able, number, default)
        if chosen.number != number:
            self.impossible.append(at)
        return chosen


class ReplayByPlace(Strategy):
    """Follow decisions named by their place in the program, {place: thread}: leaving one out does not shift those after
    it."""

    def __init__(self, deviations: dict[tuple[int, int, int], int]) -> None:
        self.deviations = deviations

    def choose(self, able: list[Runner], default: Runner, free: bool) -> Runner:
        """What is said for this place, if it is possible."""
        return numbered(able, self.deviations.get(self.scheduler.place), default)


class Segments(Strategy):
    """Let threads run in this order, [(thread, until it has come to so many points)]; one that cannot is passed over;
    then the default."""

    def __init__(self, segments: list[tuple[int, int]]) -> None:
        self.left = segments[::-1]

    def choose(self, able: list[Runner], default: Runner, free: bool) -> Runner:
        """Whose turn it is."""
        numbers = {runner.number: runner for runner in able}
        while self.left:
            number, points = self.left[-1]
            if number in numbers and numbers[number].points < points:
                return numbers[number]
            self.left.pop()
        return default


class RandomWalk(Strategy):
    """Any thread, with equal probability; or, with stay, the default with that probability."""

    def __init__(self, random: Random, stay: float = 0.0) -> None:
        self.random, self.stay = random.random, stay

    def choose(self, able: list[Runner], default: Runner, free: bool) -> Runner:
        """Draw."""
        stays = self.stay and self.random() < self.stay
        return default if stays else able[int(self.random() * len(able))]


class PCT(Strategy):
    """Probabilistic concurrency testing (Burckhardt and others, 2010): the thread with the highest priority goes on; at
    depth - 1 decisions, chosen at random among `steps`, the running thread falls below all others. A bug that needs
    `depth` orderings among n threads is found with a probability of at least 1 / (n * steps ** (depth - 1)).
    """

    def __init__(self, random: Random, depth: int, steps: int) -> None:
        self.random = random.random
        self.priority: dict[int, float] = {}  # of a thread's number; the first ones lie in 1..2, later ones below 0
        self.changes = {int(self.random() * max(1, steps)) for _ in range(depth - 1)}
        self.lowest = 0.0

    def choose(self, able: list[Runner], default: Runner, free: bool) -> Runner:
        """The one with the highest priority."""
        for runner in able:
            if runner.number not in self.priority:
                self.priority[runner.number] = 1.0 + self.random()
        if self.scheduler.decisions - 1 in self.changes:
            self.yielded(default)
        return max(able, key=lambda runner: self.priority[runner.number])

    def yielded(self, runner: Runner) -> None:
        """It falls below all others, or it would spin for ever."""
        self.lowest -= 1.0
        self.priority[runner.number] = self.lowest


def about(runner: "Runner | Event") -> Any:
    """What the thing a thread is about to do is done to: the same in all runs of a program."""
    what = runner.what[1] if runner.verb == "wakes" else runner.what
    return getattr(what, "number", None) if not isinstance(what, int) else ("line", what)


class PartialOrder(Strategy):
    """Partial-order sampling (Yuan, Yang and Gu, 2018): each thing that threads are about to do has a priority of its
    own, drawn at random; when one is done, those that concern the same object draw again. So the order of what has to
    do with each other is sampled, however long the rest of the threads may be.
    """

    def __init__(self, random: Random) -> None:
        self.random = random.random
        self.priority: dict[int, tuple[int, Any, float]] = {}  # of a thread's number: its points, what about, priority

    def choose(self, able: list[Runner], default: Runner, free: bool) -> Runner:
        """The one with the highest priority."""
        done = set()
        known = self.priority
        for runner in able:
            before = known.get(runner.number)
            if before is None or before[0] != runner.points:
                if before is not None:
                    done.add(before[1])
                known[runner.number] = (runner.points, about(runner), self.random())
        best, highest = default, -1.0
        for runner in able:
            points, what, priority = known[runner.number]
            if what is not None and what in done:
                priority = self.random()
                known[runner.number] = (points, what, priority)
            if priority > highest:
                best, highest = runner, priority
        return best


class Weighted(Strategy):
    """Selectively uniform random walk (Zhao and others, 2025): the threads' accesses to one object, drawn at random,
    are interleaved uniformly; between them any thread goes on.

    `counts`: how often each thread (by number) comes to each object in the default schedule.
    """

    def __init__(self, random: Random, counts: Mapping[Any, Mapping[int, int]]) -> None:
        self.random = random.random
        shared = sorted((key for key, threads in counts.items() if len(threads) > 1), key=str)
        self.key = shared[int(self.random() * len(shared))] if shared else None
        self.left = dict(counts.get(self.key, {}))
        self.intended = self.draw(sorted(self.left))

    def draw(self, numbers: list[int]) -> int:
        """A thread, with a probability proportional to the accesses it has left; -1 if none has any."""
        rest = self.random() * sum(max(0, self.left.get(number, 0)) for number in numbers)
        for number in numbers:
            rest -= max(0, self.left.get(number, 0))
            if rest < 0:
                return number
        return -1

    def choose(self, able: list[Runner], default: Runner, free: bool) -> Runner:
        """Not one that would come to the object out of turn, if there is another."""
        here = [runner for runner in able if self.key is not None and about(runner) == self.key]
        others = [runner for runner in able if runner not in here or runner.number == self.intended]
        if not others:  # the one whose turn it is cannot go on, or there is nothing left for it to do
            number = self.draw([runner.number for runner in here])
            others = [runner for runner in here if runner.number == number] or here
        chosen = others[int(self.random() * len(others))]
        if chosen in here:
            self.left[chosen.number] = self.left.get(chosen.number, 0) - 1
            self.intended = self.draw(sorted(self.left))
        return chosen


class Bounded(Strategy):
    """At most `preemptions` deviations, at random decisions among `steps`: to find a failure's simplest schedule."""

    def __init__(self, random: Random, preemptions: int, steps: int) -> None:
        self.random = random.random
        self.at = {1 + int(self.random() * max(1, steps)) for _ in range(preemptions)}

    def choose(self, able: list[Runner], default: Runner, free: bool) -> Runner:
        """The default, except at the decisions drawn."""
        if self.scheduler.decisions not in self.at:
            return default
        others = [runner for runner in able if runner is not default]
        return others[int(self.random() * len(others))]


@dataclass
class Decision:
    """One on the path of a search: the thread tried now, then those not tried yet."""

    threads: list[int]
    free: bool  # none of them would be a preemption
    preemption: bool = False  # the one tried now is one


class Exhaustive(Strategy):
    """Depth-first search through all schedules with at most `bound` preemptions (choices among threads when the running
    one cannot go on are free).

    One object for the whole search: call advance() after each run, which says whether one is left.
    """

    def __init__(self, bound: int) -> None:
        self.bound, self.depth = bound, 0
        self.path: list[Decision] = []  # those so far

    def attach(self, scheduler: "Scheduler") -> None:
        """A new run follows."""
        super().attach(scheduler)
        self.depth = 0

    def choose(self, able: list[Runner], default: Runner, free: bool) -> Runner:
        """Follow the path to its end, then the default."""
        if self.depth == len(self.path):
            me = self.scheduler.current
            tired = me.verb in ("spins", "sleeps")  # going round once more would lead nowhere new, for ever
            others = [runner.number for runner in able if runner is not default and not (tired and runner is me)]
            spent = sum(decision.preemption for decision in self.path)
            self.path.append(Decision([default.number, *(others if free or spent < self.bound else [])], free))
        number = self.path[self.depth].threads[0]
        self.depth += 1
        return numbered(able, number, default)

    def advance(self) -> bool:
        """Go on to the next schedule; False when all have been run."""
        del self.path[self.depth :]
        while self.path:
            last = self.path[-1]
            if len(last.threads) > 1:
                last.threads.pop(0)
                last.preemption = not last.free
                return True
            self.path.pop()
        return False


def seeded(seed: int, index: int) -> Random:
    """The random numbers of schedule `index`."""
    return Random(seed * 1_000_003 + index)
