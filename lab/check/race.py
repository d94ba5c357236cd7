"""A race in words: two accesses that nothing orders, from where they were made, and which mutex is missing."""

from dataclasses import dataclass
from typing import NamedTuple

from lab.check.report import listed
from lab.check.shadow import READ, WRITE

WORDS = {WRITE: "written", READ: "read"}


class Context(NamedTuple):
    """From where an access was made, and with which mutexes."""

    site: str
    stack: tuple[str, ...]  # "pool.py:88 in work", innermost first
    locks: tuple[tuple[str, str], ...]  # the mutexes held, and where they were locked

    def names(self) -> set[str]:
        """The mutexes held."""
        return {label for label, _since in self.locks}


class Access(NamedTuple):
    """One side of a race."""

    thread: str
    kind: int  # WRITE or READ
    context: Context

    @property
    def site(self) -> str:
        """Where it was made."""
        return self.context.site

    def words(self) -> str:
        """written by worker 1 at parallel.py:88"""
        return f"{WORDS[self.kind]} by {spoken(self.thread)} at {self.site}"

    def circumstances(self) -> str:
        """worker 1: parallel.py:88 in work, called at parallel.py:40 in run; holds mutex queue (locked at ...)"""
        _site, stack, locks = self.context
        held = listed([f"{label} (locked at {since})" for label, since in locks]) if locks else "no mutex"
        return f"{spoken(self.thread)}: {', called at '.join(stack)}; holds {held}"


@dataclass
class Race:
    """Two accesses to `what` that nothing orders."""

    what: str
    first: Access
    second: Access
    lock: str = ""  # which mutex is missing, in words

    @property
    def key(self) -> tuple:
        """The same for every occurrence of the same mistake."""
        return (self.name, *sorted([(self.first.site, self.first.kind), (self.second.site, self.second.kind)]))

    @property
    def name(self) -> str:
        """The array or variable, without indices."""
        return self.what.split("[")[0]

    def message(self) -> str:
        """acts.fch[0, :, 512:520] written by worker 1 at parallel.py:88 and worker 2 at parallel.py:88"""
        first, second = self.first, self.second
        other = f"{spoken(second.thread)} at {second.site}" if first.kind == second.kind else second.words()
        return f"{self.what} {first.words()} and {other}: nothing orders the two"

    def detail(self) -> list[str]:
        """Which mutex is missing, and both stacks with the mutexes held."""
        return [line for line in (self.lock, self.first.circumstances(), self.second.circumstances()) if line]

    def where(self) -> list[str]:
        """The lines, that of the write first."""
        return list(dict.fromkeys(side.site for side in sorted([self.first, self.second], key=lambda side: side.kind)))


def spoken(thread: str) -> str:
    """worker-1 -> worker 1"""
    return "the main thread" if thread == "main" else thread.replace("-", " ")


def thread_name(number: int) -> str:
    """As threadlib calls it."""
    return "main" if number == 0 else f"worker-{number}"


def missing_lock(first: Access, second: Access, others: list[Context]) -> str:
    """Does a mutex protect the other accesses, and is it missing at one of the two? others: contexts of accesses made
    while several threads were there."""
    held = [side.context.names() for side in (first, second)]
    for side, mine in ((second, held[1]), (first, held[0])):
        rest = [context for context in others if context.site != side.site]
        common = set.intersection(*(context.names() for context in rest)) if rest else set()
        for label in sorted(common - mine):
            before = list(dict.fromkeys(context.site for context in rest))[:3]
            return f"{label}, which protects it at {listed(before)}, is missing at {side.site}"
    if held[0] and held[1] and not held[0] & held[1]:
        return f"they hold different mutexes, {sorted(held[0])[0]} and {sorted(held[1])[0]}, not one and the same"
    for side, other, theirs, mine in ((second, first, *held), (first, second, *reversed(held))):
        if theirs and not mine:
            label = sorted(theirs)[0]
            return (
                f"{spoken(other.thread)} holds {label} at {other.site}, {spoken(side.thread)} holds none at {side.site}"
            )
    return ""
