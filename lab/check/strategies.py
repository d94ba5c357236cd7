"""Who goes on: the ways to choose a schedule.

A random number is drawn from Python's Mersenne Twister by random() alone, the one method that is the same in all
versions.
"""

from random import Random
from typing import Any


class Default:
    """The running thread goes on for as long as it can."""

    def attach(self, scheduler: Any) -> None:
        """A run begins."""

    def choose(self, able: list[Any], default: Any, free: bool) -> Any:
        """The default."""
        return default

    def yielded(self, runner: Any) -> None:
        """Nothing to change."""


class Replay(Default):
    """Follow a schedule: {decision: thread}; everywhere else the default."""

    def __init__(self, deviations: dict[int, int]) -> None:
        self.deviations = deviations
        self.count = 0
        self.impossible: list[int] = []  # decisions at which the thread named could not go on: another program

    def choose(self, able: list[Any], default: Any, free: bool) -> Any:
        """What the schedule says."""
        self.count += 1
        number = self.deviations.get(self.count)
        if number is None:
            return default
        for runner in able:
            if runner.number == number:
                return runner
        self.impossible.append(self.count)
        return default


class ReplayByPlace(Default):
    """Follow decisions named by their place in the program, {place: thread}: leaving one out does not shift those after
    it."""

    def __init__(self, deviations: dict[tuple[int, int, int], int]) -> None:
        self.deviations = deviations

    def attach(self, scheduler: Any) -> None:
        """The scheduler knows the place of each decision."""
        self.scheduler = scheduler

    def choose(self, able: list[Any], default: Any, free: bool) -> Any:
        """What is said for this place, if it is possible."""
        number = self.deviations.get(self.scheduler.place)
        return next((runner for runner in able if runner.number == number), default)


class Segments(Default):
    """Let threads run in this order, [(thread, until it has come to so many points)]; one that cannot is passed over;
    then the default."""

    def __init__(self, segments: list[tuple[int, int]]) -> None:
        self.left = segments[::-1]

    def choose(self, able: list[Any], default: Any, free: bool) -> Any:
        """Whose turn it is."""
        numbers = {runner.number: runner for runner in able}
        while self.left:
            number, points = self.left[-1]
            if number in numbers and numbers[number].points < points:
                return numbers[number]
            self.left.pop()
        return default


class RandomWalk(Default):
    """Any thread, with equal probability; or, with stay, the default with that probability."""

    def __init__(self, random: Random, stay: float = 0.0) -> None:
        self.random, self.stay = random.random, stay

    def choose(self, able: list[Any], default: Any, free: bool) -> Any:
        """Draw."""
        if self.stay and self.random() < self.stay:
            return default
        return able[int(self.random() * len(able))]


class PCT(Default):
    """Probabilistic concurrency testing (Burckhardt and others, 2010): the thread with the highest priority goes on; at
    depth - 1 decisions, chosen at random among `steps`, the running thread falls below all others. A bug that needs
    `depth` orderings among n threads is found with a probability of at least 1 / (n * steps ** (depth - 1)).
    """

    def __init__(self, random: Random, depth: int, steps: int) -> None:
        self.random = random.random
        self.priority: dict[int, float] = {}  # of a thread's number; the first ones lie in 1..2, later ones below 0
        self.changes = {int(self.random() * max(1, steps)) for _ in range(depth - 1)}
        self.lowest = 0.0
        self.count = 0

    def choose(self, able: list[Any], default: Any, free: bool) -> Any:
        """The one with the highest priority."""
        for runner in able:
            if runner.number not in self.priority:
                self.priority[runner.number] = 1.0 + self.random()
        if self.count in self.changes:
            self.yielded(default)
        self.count += 1
        return max(able, key=lambda runner: self.priority[runner.number])

    def yielded(self, runner: Any) -> None:
        """It falls below all others, or it would spin for ever."""
        self.lowest -= 1.0
        self.priority[runner.number] = self.lowest


class Bounded(Default):
    """At most `preemptions` deviations, at random decisions among `steps`: to find a failure's simplest schedule."""

    def __init__(self, random: Random, preemptions: int, steps: int) -> None:
        self.random = random.random
        self.at = {1 + int(self.random() * max(1, steps)) for _ in range(preemptions)}
        self.count = 0

    def choose(self, able: list[Any], default: Any, free: bool) -> Any:
        """The default, except at the decisions drawn."""
        self.count += 1
        if self.count not in self.at:
            return default
        others = [runner for runner in able if runner is not default]
        return others[int(self.random() * len(others))]


class Exhaustive(Default):
    """Depth-first search through all schedules with at most `bound` preemptions (choices among threads when the running
    one cannot go on are free).

    One object for the whole search: call advance() after each run, which says whether one is left.
    """

    def __init__(self, bound: int) -> None:
        self.bound = bound
        self.path: list[list[int]] = []  # for each decision so far: the thread tried now, then those not tried yet
        self.cost: list[int] = []  # is the one tried now a preemption?
        self.price: list[int] = []  # would the others be?
        self.depth = 0

    def attach(self, scheduler: Any) -> None:
        """A new run follows."""
        self.depth = 0

    def choose(self, able: list[Any], default: Any, free: bool) -> Any:
        """Follow the path to its end, then the default."""
        if self.depth == len(self.path):
            others = [runner.number for runner in able if runner is not default]
            price = 0 if free else 1
            self.path.append([default.number, *(others if sum(self.cost) + price <= self.bound else [])])
            self.cost.append(0)
            self.price.append(price)
        number = self.path[self.depth][0]
        self.depth += 1
        return next((runner for runner in able if runner.number == number), default)

    def advance(self) -> bool:
        """Go on to the next schedule; False when all have been run."""
        for part in (self.path, self.cost, self.price):
            del part[self.depth :]
        while self.path:
            if len(self.path[-1]) > 1:
                self.path[-1].pop(0)
                self.cost[-1] = self.price[-1]
                return True
            for part in (self.path, self.cost, self.price):
                part.pop()
        return False


def seeded(seed: int, index: int) -> Random:
    """The random numbers of schedule `index`."""
    return Random(seed * 1_000_003 + index)
