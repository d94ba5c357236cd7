"""Who waits for whom, and in words: why nobody can go on."""

from collections.abc import Callable, Iterable
from typing import TypeVar

from lab.check.primitives import Cond, Semaphore
from lab.check.report import grouped, listed
from lab.check.runner import Failure, Runner

T = TypeVar("T")
STUCK = ("locks", "P", "wakes", "joins")  # what threads wait for, what is most telling first


def can_go_on(runner: Runner) -> bool:
    """Can it go on?"""
    return runner.ready is None or runner.ready()


def waits_for(runner: Runner) -> list[Runner]:
    """The threads without which a waiting one cannot go on."""
    if can_go_on(runner):
        return []
    if runner.verb == "joins":
        return [other for other in runner.what if not other.ended]
    if runner.verb == "locks" or (runner.verb == "wakes" and runner.signalled):
        mutex = runner.what if runner.verb == "locks" else runner.what[1]
        return [mutex.holder] if mutex.holder is not None else []
    return []


def waits_for_unit_of(runner: Runner) -> list[Runner]:
    """The same, a semaphore made with 1 being a lock held by whoever took its unit."""
    state = runner.what
    if runner.verb != "P" or can_go_on(runner):
        return waits_for(runner)
    taker = state.last_P[0] if state.initial == 1 and state.last_P else runner
    return [] if taker is runner or taker.ended else [taker]


def find_cycle(start: T, waits_for: Callable[[T], list[T]]) -> list[T]:
    """Those, each of which waits for the next one, through which `start` waits for itself."""
    paths = [[start]]
    seen = {start}
    while paths:
        path = paths.pop()
        for other in waits_for(path[-1]):
            if other is start:
                return path
            if other not in seen:
                seen.add(other)
                paths.append([*path, other])
    return []


def first_cycle(those: Iterable[T], waits_for: Callable[[T], list[T]]) -> list[T]:
    """The first cycle that one of those is in; [] if there is none."""
    return next(filter(None, (find_cycle(one, waits_for) for one in those)), [])


def deadlock(live: list[Runner], cycle: list[Runner]) -> Failure:
    """Nobody can go on, or those in the cycle cannot."""
    first = min(range(len(cycle)), key=lambda at: cycle[at].number, default=0)
    cycle = cycle[first:] + cycle[:first]
    stuck = [runner for runner in live if not can_go_on(runner) and runner.verb in STUCK]
    stuck.sort(key=lambda runner: (runner not in cycle, STUCK.index(runner.verb)))
    alike = grouped((wait_of(runner), runner.name) for runner in stuck)
    waits = "; ".join(together(names, wait) for wait, names in alike.items())
    return Failure("deadlock", waits, deadlock_detail(stuck, cycle), [runner.site for runner in stuck])


def together(names: list[str], wait: str) -> str:
    """The wait of one thread, or of several that wait for the same at the same place."""
    return f"{listed(names)} {wait if len(names) == 1 else wait.replace('waits', 'wait', 1)}"


def describe_wait(runner: Runner) -> str:
    """What a thread waits for, and why it waits in vain."""
    return f"{runner.name} {wait_of(runner)}"


def wait_of(runner: Runner) -> str:
    """The same without its name."""
    begin, what = "waits", runner.what
    match runner.verb:
        case "locks":
            text = f"{begin} for {what.label} ({runner.site})"
            if what.holder is None:
                return f"{text}, which is free"
            ended = ", which has ended" if what.holder.ended else ""
            return f"{text}, held by {what.holder.name} since {what.since}{ended}"
        case "wakes" if runner.signalled:
            way = f"on its way out of {what[0].label} ({runner.site})"
            return f"{begin} for {what[1].label} {way}, {what[1].holder_in_words()}"
        case "wakes":
            return f"{begin} for {what[0].label} ({runner.site}) and nobody is left to signal it"
        case "P":
            return f"{begin} in P({what.label}) ({runner.site}) and no thread that can run will V it"
        case "joins":
            names = [other.name for other in what if not other.ended]
            return f"{begin} for the end of {listed(names)} ({runner.site})"
    return f"{runner.verb} ({runner.site})"


def deadlock_detail(stuck: list[Runner], cycle: list[Runner]) -> str:
    """What led to it: cycles, lost signals, units of semaphores that went missing."""
    lines = [cycle_in_words([runner.name for runner in cycle])] if cycle else []
    taken = first_cycle(stuck, waits_for_unit_of)
    if taken and not cycle:
        lines.append(f"{cycle_in_words([runner.name for runner in taken])}: each waits for what the next one has taken")
    ordered = sorted(stuck, key=lambda runner: runner.number)
    waited = [runner.what[0] if runner.verb == "wakes" else runner.what for runner in ordered]
    for state in dict.fromkeys(state for state in waited if isinstance(state, Cond | Semaphore)):
        lines += cond_history(state) if isinstance(state, Cond) else semaphore_history(state)
    return "\n".join(lines)


def cycle_in_words(names: list[str]) -> str:
    """Who waits for whom."""
    return "a cycle: " + " -> ".join([*names, names[0]])


def cond_history(state: Cond) -> list[str]:
    """What happened to its signals."""
    last = state.woke[-1] if state.woke else None
    lines = [
        f"the last {woke.verb} of {state.label} that reached a thread, by {woke.name} at {woke.site}, woke {woke.woken}"
        for woke in state.woke[-1:]
    ]
    if state.lost and not (last is not None and state.lost[-1][2] < last.step):
        name, site, _step = state.lost[-1]
        lines.append(
            f"a signal of {state.label} by {name} at {site} woke nobody: nobody was waiting then, and it is not kept"
        )
    elif last is not None:
        there = [last.name, *(woke.woken for woke in state.woke if woke.step == last.step)]
        late = [one.name for one in state.waiters if state.came[one] > last.step and one.name not in there]
        if late:
            lines.append(f"{listed(late)} came to wait only after it, and a {last.verb} is not kept")
    signal = max([last.step if last is not None else 0, *(step for _name, _site, step in state.lost[-1:])])
    lines += looked_in_vain(state, signal) if signal else []
    return lines or [f"{state.label} was never signalled"]


def looked_in_vain(state: Cond, signal: int) -> list[str]:
    """Which of its waiters had the mutex after its last signal, so that they do not wait for want of that one."""
    waiters = sorted(state.waiters, key=lambda runner: runner.number)
    sites = {runner.name: state.looked[runner][1] for runner in waiters if state.looked[runner][0] > signal}
    if not sites or state.mutex is None:
        return []
    where, it = listed(list(dict.fromkeys(sites.values()))), "it" if len(sites) == 1 else "each"
    locked = f"{listed(list(sites))} had locked {state.mutex.label} only after that, at {where}"
    return [f"{locked}: what {it} waits for was not true then, or it did not look"]


def semaphore_history(state: Semaphore) -> list[str]:
    """Where its units came from and went to."""
    none = "" if state.last_V or state.last_P else "; there was no V"
    lines = [f"{state.label} was made with {state.initial} at {state.made_at}{none}"]
    if state.last_P:
        runner, site = state.last_P
        ended = ", which has ended" if runner.ended else ""
        lines.append(f"its last unit was taken at {site} by {runner.name}{ended}")
    if state.last_V:
        lines.append(f"the last V was at {state.last_V[1]} by {state.last_V[0].name}")
    return lines
