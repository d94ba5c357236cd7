"""A failure in words, with what the run on record says about its cause."""

from itertools import islice

from lab.check.culprit import elsewhere, interrupted, locked, not_atomic, order_of_waking, woken_for_nothing
from lab.check.explorer import Explorer, Run, describe_left
from lab.check.picture import folded
from lab.check.report import Finding, grouped, listed, place
from lab.check.runner import Runner


def tell(explorer: Explorer, run: Run) -> Finding:
    """The failure in words."""
    failure, raised = run.fault, run.fault.exception is not None
    finding = Finding(failure.kind, failure.message, failure.detail, [site for site in failure.where if site])
    lines = [finding.detail] if finding.detail else []
    if raised:
        tell_exception(explorer, run, finding, lines)
    if failure.kind in ("tokens", "values") and run.wrong:
        finding.message += ": " + run.wrong[0]
        lines += run.wrong[1:]
        finding.where = run.wrong_sites
    related = list(run.detector.races.values()) if run.detector else []
    if related and raised:
        finding.message += f"; perhaps because of {related[0].message()}"
    lines += [race.message() for race in related[int(raised) :][:3]]
    for race in related[:4]:
        finding.add_places(race.where())
    if run.wrong and "nobody has written" in run.wrong[0]:
        idle = meanwhile(run)
        lines += [words for words in idle if len(run.wrong) <= 2 or "had not begun" in words]
    causes = culprits(run, finding, bool(related)) + hints(explorer, run, finding)
    lines += causes
    if raised and not causes and not related:
        lines += elsewhere(run)
    if failure.kind in ("assertion", "tokens") and not lines[1:]:
        lines += how_they_ended(explorer, run, finding)
    finding.detail = "\n".join(lines)
    return finding


def culprits(run: Run, finding: Finding, raced: bool) -> list[str]:
    """What the schedule says about the cause; the first goes into the message."""
    suspect = run.fault.runner
    told = [
        (f"the wait of {name} at {site} ended without a signal, as it may (a spurious wakeup)", [site])
        for name, site in woken_for_nothing(run)
    ]
    if finding.kind in ("assertion", "exception", "tokens", "values"):
        told.append(order_of_waking(run))
    if finding.kind in ("assertion", "exception", "tokens", "values", "misuse") or (
        finding.kind == "deadlock" and not raced  # else a queue that workers take turns at is blamed
    ):
        found = not_atomic(run, suspect)
        told.append(found if found[0] or suspect != "main" else not_atomic(run))  # main saw what a worker did
    told = [(text, where) for text, where in told if text]
    if not told and not raced and finding.kind in ("assertion", "exception"):
        others = [one.name for one in run.scheduler.everyone] if run.scheduler.preemptions else []
        texts = filter(None, (interrupted(run, name) for name in [suspect, *others]))
        told = [(text, []) for text in islice(texts, 1)]
    for _text, where in told:
        finding.add_places(where)
    lines = [text for text, _where in told]
    if lines and not raced and finding.kind in ("assertion", "exception"):
        finding.message += "; " + lines.pop(0)
    return lines


def tell_exception(explorer: Explorer, run: Run, finding: Finding, lines: list[str]) -> None:
    """Which exception, where in the program, in which thread."""
    failure = run.fault
    exception, frames = failure.exception, explorer.program.frames(failure.exception)
    sites = [place(frame.filename, frame.lineno or 0) for frame in reversed(frames)]
    what = "assertion failed" if failure.kind == "assertion" else type(exception).__name__
    text = str(exception).strip() or (frames[-1].line if frames else "") or ""
    first = text.splitlines()[0] if text else ""
    begun = [one.spawned_at for one in run.scheduler.everyone if one.name == failure.runner and one.spawned_at]
    at = f" at {sites[0]}" if sites else f", spawned at {begun[0]}" if begun else ""
    sites = sites or begun
    finding.message = f"{what} in {failure.runner}{at}: {first}"
    finding.where = list(dict.fromkeys(sites))
    lines += folded([f"{place(frame.filename, frame.lineno or 0)} in {frame.name}: {frame.line}" for frame in frames])


def meanwhile(run: Run) -> list[str]:
    """What the workers were about to do when the run was stopped."""
    words = [
        f"{runner.name} " + (f"was {describe_left(runner)}" if runner.points else "had not begun")
        for runner in run.scheduler.everyone
        if runner.number and not runner.over_before_the_end
    ]
    return [f"meanwhile {listed(words)}"] if words else []


def how_they_ended(explorer: Explorer, run: Run, finding: Finding) -> list[str]:
    """The last line of each worker: work that was not done may have been left undone there."""
    workers = [runner for runner in run.scheduler.everyone if runner.number]
    ends = grouped((runner.line, runner.name) for runner in workers if runner.ready is None and runner.line)
    finding.add_places([f"{explorer.program.name}:{line}" for line in ends])
    return [f"{listed(names)} ended at {explorer.program.name}:{line}" for line, names in sorted(ends.items())]


def hints(explorer: Explorer, run: Run, finding: Finding) -> list[str]:
    """What often stands behind such a failure, if the program looks like it."""
    found = []
    jolted = [site for _name, site in woken_for_nothing(run)]
    for line, inside in sorted(explorer.program.bare_waits.items()):
        site = f"{explorer.program.name}:{line}"
        why = "nothing checks afterwards that what it waited for is true"
        why = why if site in jolted else overtaken_after_wake(run, site)
        if why:
            found.append(f"the wait at {site} {inside}: {why}: wait in a while loop")
            finding.add_places([site])
    for runner in run.scheduler.everyone:
        sites = went_back_to_sleep(run, runner)
        if sites and finding.kind == "deadlock":
            signal, wait, label = sites
            found.append(
                f"the signal of {label} at {signal} woke {runner.name}, which found its own condition still false and "
                f"waited again at {wait}: threads that wait for different things share one Cond; signal wakes only "
                "one of them"
            )
            finding.add_places([signal, wait])
    return found


def overtaken_after_wake(run: Run, site: str) -> str:
    """Did another thread lock the mutex between the signal for a wait at `site` and the end of that wait?"""
    trace = run.scheduler.trace
    for end, (runner, verb, what, at) in enumerate(trace):
        if verb == "wakes" and at == site:
            for other in reversed(trace[:end]):
                if other.runner is runner:
                    break
                if locked(other) is what[1]:
                    had = f"{other.runner.name} had the mutex (at {other.site}) just before {runner.name} woke from it"
                    return f"{had}, and what was true at the signal need not be true after the wait"
    return ""


def went_back_to_sleep(run: Run, runner: Runner) -> tuple[str, str, str] | None:
    """If the last thing a waiting thread did was to wake, by a signal, and wait again on the same condition: (signal,
    wait, condition)."""
    trace = run.scheduler.trace
    if runner.ready is None or runner.verb != "wakes" or runner.signalled:
        return None
    state = runner.what[0]
    mine = [(verb, what) for other, verb, what, _site in trace if other is runner and verb != "at"]
    places = {site for _other, verb, what, site in trace if (verb, what) == ("waits for", state)}
    if len(places) < 2:  # all wait for the same: another thread was faster
        return None
    if len(mine) < 2 or mine[-1] != ("waits for", state) or mine[-2][0] != "wakes" or mine[-2][1][0] is not state:
        return None
    woke = next((woke for woke in reversed(state.woke) if woke.woken == runner.name), None)
    return (woke.site, runner.site, state.label) if woke is not None and woke.verb == "signal" else None
