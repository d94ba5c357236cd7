"""The threads of a program under the explorer: what is known of each, and the real threads that carry them."""

import os
import sys
from _thread import allocate_lock, start_new_thread
from collections.abc import Callable
from dataclasses import dataclass, field
from types import GeneratorType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lab.check.primitives import Mutex

STUBBORN = 100  # Unwinds a thread may swallow before it is left behind


class Unwind(BaseException):
    """Ends a thread of a run that is over. Not an Exception: programs should not catch it."""


@dataclass
class Failure:
    """Why a run went wrong, as far as the scheduler can tell."""

    kind: str
    message: str
    detail: str = ""
    where: list[str] = field(default_factory=list)
    exception: BaseException | None = None
    runner: str = ""
    silent: bool = False  # a thread did not come to a point for many seconds


def raised(exception: BaseException | None, runner: str) -> Failure:
    """A thread was left by an exception of its own."""
    kind = "assertion" if isinstance(exception, AssertionError) else "exception"
    return Failure(kind, "", exception=exception, runner=runner)


def ran(result: object) -> None:
    """What a thread's function gave. Raises TypeError for a generator that has not begun and that nobody else has."""
    if not isinstance(result, GeneratorType) or result.gi_suspended or result.gi_frame is None:
        return
    if sys.getrefcount(result) <= 2:  # here, and on the way to getrefcount()
        raise TypeError(f"{result.__name__}() has a `yield`: calling it makes a generator, and runs nothing of it")


class Runner:
    """A thread of the program under check."""

    __slots__ = (
        "baton", "began", "ended", "fn", "held", "ident", "jolted", "jolted_at", "line", "looks", "name", "naps",
        "number", "over_before_the_end", "points", "ready", "rounds", "signalled", "site", "spawned_at", "spun_at",
        "until", "unwound", "verb", "what",
    )  # fmt: skip

    def __init__(self, number: int, name: str, fn: Callable[[], object]) -> None:
        self.number, self.name, self.fn = number, name, fn
        self.baton: Any = None
        self.ready: Callable[[], bool] | None = None  # None: it can go on at any time
        self.verb = "starts"  # what it is about to do
        self.what: Any = None  # and with what: a primitive, a condition and its mutex, threads, a line
        self.site = ""  # where, when sites are looked for
        self.held: list[Mutex] = []
        self.ended = self.over_before_the_end = self.signalled = False
        self.jolted, self.jolted_at = False, ""  # its one spurious wakeup is used up, and where
        self.rounds = 0  # of loops, weighted, since another thread ran
        self.spun_at = -1  # its points when it last went round for long
        self.looks = self.naps = 0  # readings of the clock; sleeps that ended early
        self.until = 0.0  # when the last sleep should end
        self.unwound = self.ident = self.points = self.line = 0
        self.began = 0  # events of the trace before it began to run
        self.spawned_at = ""


class Carrier:
    """A real thread that carries one runner after another; making a thread for each would take most of the time."""

    def __init__(self) -> None:
        self.job: Callable[[], None] = nothing
        self.baton = allocate_lock()
        self.baton.acquire()
        start_new_thread(self._life, ())

    def _life(self) -> None:
        while True:
            self.baton.acquire()
            self.job()


idle: list[Carrier] = []
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=idle.clear)  # none of these threads is in the process that is forked


def nothing() -> None:
    """What a carrier does between two jobs."""
