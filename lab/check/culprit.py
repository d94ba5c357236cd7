"""What a shrunk schedule says about the cause: it holds little but the interruption that does the harm."""

import itertools
from typing import NamedTuple

from lab.check.explorer import Run
from lab.check.primitives import Mutex
from lab.check.report import grouped, listed
from lab.check.runner import Runner
from lab.check.scheduler import Event


class Session(NamedTuple):
    """From locking a mutex to unlocking it: numbers of events of the trace, and places."""

    runner: Runner
    begin: int
    end: int
    locked: str
    unlocked: str  # "" if it was not, or only to wait


def locked(event: Event) -> Mutex | None:
    """The mutex that the thread has after this event, if it is one that gives it a mutex."""
    return event.what if event.verb == "locks" else event.what[1] if event.verb == "wakes" else None


def sessions(run: Run) -> dict[Mutex, list[Session]]:
    """Who held each mutex, in order."""
    trace = run.scheduler.trace
    found: dict[Mutex, list[Session]] = {}
    for index, event in enumerate(trace):
        runner, verb, what, site = event
        if (mutex := locked(event)) is not None:
            found.setdefault(mutex, []).append(Session(runner, index, len(trace), site, ""))
        elif verb in ("unlocks", "waits for"):
            held = found.get(what if verb == "unlocks" else what.mutex)
            if held and held[-1].runner is runner:
                held[-1] = held[-1]._replace(end=index, unlocked=site if verb == "unlocks" else "")
    return found


def not_atomic(run: Run, suspect: str = "") -> tuple[str, list[str]]:
    """A thread lets go of a mutex and locks it again, and what it had seen has been changed in between: (in words,
    places), the last such one. It is the thread `suspect`; if that one had no mutex, any; without a suspect, one that
    then waits for ever, or that wrote a value made of what it had read before."""
    best: tuple[tuple[int, int], str, list[str]] | None = None
    found = sessions(run)
    innocent = all(session.runner.name != suspect for held in found.values() for session in held)
    for mutex, held in found.items():
        for index, second in enumerate(held):
            first = next((other for other in reversed(held[:index]) if other.runner is second.runner), None)
            if first is None or not first.unlocked or run.scheduler.trace[second.begin].verb != "locks":
                continue
            stale = set() if suspect or stays(run, second) else written_blindly(run, first, second)
            if not (innocent and (suspect or stays(run, second) or stale)) and second.runner.name != suspect:
                continue
            for between in held[held.index(first) + 1 : index]:
                names = changed(run, first, between, second)
                if stale:
                    names = [change for change in names or [] if change[0] in stale] or None
                if names is not None and (best is None or (len(names), second.begin) > best[0]):
                    best = ((len(names), second.begin), *tell_not_atomic(mutex, first, between, second, names))
    return best[1:] if best else ("", [])


def stays(run: Run, session: Session) -> bool:
    """Does the session end with a wait that does not end?"""
    return not session.unlocked and session.runner.ready is not None and session.end < len(run.scheduler.trace)


def written_blindly(run: Run, first: Session, second: Session) -> set[str]:
    """The variables that the first session read, and that the second one wrote before it looked at them again."""
    accesses = [access for access in run.scheduler.accesses if access[1] is first.runner]
    read = {whole(name) for at, _who, name, _site, write in accesses if inside(at, first) and not write}
    begun = {whole(name): write for at, _who, name, _site, write in reversed(accesses) if inside(at, second)}
    return {name for name in read if begun.get(name)}


def changed(run: Run, first: Session, between: Session, second: Session) -> list[tuple[str, str]] | None:
    """(variable, where it was changed): what the first session touched and the one between wrote, if possible something
    that is used again later. [] where no access is known, but the thread was interrupted just there; None: no cause."""
    accesses = run.scheduler.accesses
    if any(inside(at, first) for at, who, *_ in accesses if who is first.runner):
        mine = {whole(name) for at, who, name, _site, _write in accesses if who is first.runner and inside(at, first)}
        later = {whole(name) for at, who, name, _site, _write in accesses if who is first.runner and at > second.begin}
        theirs = [
            (whole(name), site)
            for at, who, name, site, write in accesses
            if write and who is between.runner and inside(at, between) and whole(name) in mine
        ]
        return [change for change in theirs if change[0] in later] or theirs or None
    following = next((event for event in run.scheduler.trace[first.end + 1 :] if event.verb != "at"), None)
    stopped = following is not None and following.runner is not first.runner and run.scheduler.preemptions > 0
    return [] if stopped and first.locked != second.locked else None  # two rounds of a loop say nothing


def whole(name: str) -> str:
    """The variable of an element: cache["a"] -> cache."""
    return name.partition("[")[0]


def inside(at: int, session: Session) -> bool:
    """Was an access, before which there were `at` events, made in this session?"""
    return session.begin < at <= session.end


def tell_not_atomic(
    mutex: Mutex, first: Session, between: Session, second: Session, names: list[tuple[str, str]]
) -> tuple[str, list[str]]:
    """In words."""
    name, other = first.runner.name, between.runner.name
    gap = f"{name} released {mutex.label} at {first.unlocked} and locked it again at {second.locked}"
    if names:
        variable, site = names[-1]
        did = f"changed {variable} at {site}"
    else:
        site = between.locked
        did = f"had it, from {site} on: what {name} knew may have changed"
    return f"not atomic: {gap}, and in between {other} {did}", [first.unlocked, second.locked, site]


def order_of_waking(run: Run) -> tuple[str, list[str]]:
    """Threads that waited for one condition and came back in another order than they came or were woken in."""
    came = grouped((what[0], (runner, site)) for runner, verb, what, site in run.scheduler.trace if verb == "wakes")
    for state, runners in came.items():
        for woke in state.woke:
            if woke.longer:
                return (
                    f"the {woke.verb} of {state.label} at {woke.site} woke {woke.woken}, although {woke.longer} had "
                    "waited longer: which of several waiting threads a signal wakes is not defined"
                ), [woke.site]
        order = [runner.name for runner, _site in runners]
        woken = [woke.woken for woke in state.woke if woke.verb == "signal"]  # a broadcast promises no order
        for first, second in itertools.pairwise(woken):
            if first in order and second in order and first != second and order.index(first) > order.index(second):
                at = runners[order.index(second)][1]
                return (
                    f"{first} was woken before {second}, but {second} came back first from its wait at {at}: the order "
                    "in which woken threads get the mutex is not defined"
                ), [at]
    return "", []


def interrupted(run: Run, suspect: str) -> str:
    """Between or inside which lines the thread `suspect` was interrupted last, and what others did meanwhile."""
    trace = run.scheduler.trace
    mine = [index for index, event in enumerate(trace) if event.runner.name == suspect]
    began = next((runner.began for runner in run.scheduler.everyone if runner.name == suspect), 0)
    for before, after in zip([*mine[-2::-1], began - 1], mine[::-1], strict=False):
        meanwhile = trace[before + 1 : after]
        waited = before in mine and trace[before].verb in ("joins", "P", "wakes", "waits for")
        if meanwhile and trace[after].verb == "at" and not waited:
            others = grouped((event.runner.name, event.site) for event in meanwhile)
            words = [f"{name} was at {listed(list(dict.fromkeys(sites))[-4:])}" for name, sites in others.items()]
            return f"{suspect} was interrupted at {trace[after].site}; meanwhile {listed(words)}"
    return ""


def elsewhere(run: Run) -> list[str]:
    """Where the other threads were when one failed."""
    places = grouped((site, name) for name, site in run.scheduler.stood.items())
    words = [listed(names) + (f" stood at {site}" if site else " had not begun") for site, names in places.items()]
    return [f"at that moment {listed(words)}"] if words else []


def woken_for_nothing(run: Run) -> list[tuple[str, str]]:
    """(thread, place) of each wait that ended without a signal."""
    return [(runner.name, runner.jolted_at) for runner in run.scheduler.everyone if runner.jolted]
