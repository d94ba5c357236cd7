"""A run as plain data: what happened step by step, where every thread was, who held and who waited for what.

trace_of() gives a dictionary of strings, numbers, lists and dictionaries only, fit for JSON:

    format       2, that of the schedule string
    program      the program's file name; file: its path; source: its text
    schedule     the schedule, to be replayed
    threads      names, in the order of spawning; "main" is the first
    steps        one for each operation, in order
    end          positions and all the rest of a step's state (see below) when it failed; None if it did not
    failure      None, or {"kind", "message", "detail", "where"}

and a step is

    number       from 1
    thread       who does it
    operation    what: "locks", "unlocks", "waits for", "wakes", "signals", "broadcasts", "P", "V", "spawns", "joins",
                 "at" (a statement), "spins", "sleeps", "performs"
    object       on what: a primitive's label, a thread, a line; "" for none
    text         both in words
    file, line   where in the source
    changed      did another thread do the step before?
    positions    for each living thread, before this step: {"file", "line", "doing", "object", "waits"}
    holders      {mutex: thread that holds it}, before this step
    waiters      {primitive or thread: [threads that cannot go on without it]}, before this step
    counts       {semaphore: its count}, before this step
    shared       {variable of the module: its value as text}, before this step
    variables    {thread: {variable: its value as text}} in the innermost call of each, before this step
"""

from typing import Any

from lab.check.explorer import Run
from lab.check.names import site_order
from lab.check.picture import in_words
from lab.check.program import Program
from lab.check.report import Finding
from lab.check.runner import Runner
from lab.check.schedule import FORMAT
from lab.check.scheduler import Event, Scheduler
from lab.check.variables import frames, halfway, shared, texts
from lab.check.waiting import can_go_on

UNWRITTEN = "computed, not yet written"


def snapshot(scheduler: Scheduler) -> dict[str, Any]:
    """Where everybody is."""
    positions: dict[str, Any] = {}
    holders: dict[str, str] = {}
    waiters: dict[str, list[str]] = {}
    for runner in scheduler.live:
        waits = not can_go_on(runner)
        file, line = site_order(runner.site or runner.spawned_at)
        positions[runner.name] = {
            "file": file, "line": line, "doing": runner.verb, "object": "" if runner.verb == "at" else label(runner),
            "waits": waits,
        }  # fmt: skip
        for state in runner.held:
            holders[state.label] = runner.name
        if waits:
            for name in waited_for(runner):
                waiters.setdefault(name, []).append(runner.name)
    return {
        "positions": positions, "holders": holders, "waiters": waiters,
        "counts": {state.label: state.count for state in scheduler.semaphores},
    }  # fmt: skip


def whole_snapshot(scheduler: Scheduler) -> dict[str, Any]:
    """Where everybody is, and what the variables are."""
    own = {name: texts(mine[0].f_locals) for name, mine in frames(scheduler).items() if mine}
    for name, text in halfway(scheduler).items():
        own.setdefault(name, {})[UNWRITTEN] = text
    return {**snapshot(scheduler), "shared": shared(), "variables": own}


def waited_for(runner: Runner) -> list[str]:
    """The primitives or threads a waiting thread waits for."""
    if runner.verb == "joins":
        return [other.name for other in runner.what if not other.ended]
    if runner.verb == "wakes":
        return [runner.what[1].label if runner.signalled else runner.what[0].label]
    return [label(runner)]


def label(event: Event | Runner) -> str:
    """What a thread's operation is done to."""
    what = event.what[0] if event.verb == "wakes" else event.what
    if event.verb == "joins":
        return ", ".join(runner.name for runner in what)
    return "" if what is None else str(getattr(what, "label", what))


def step_of(number: int, before: Event | None, event: Event, seen: dict[str, Any]) -> dict[str, Any]:
    """One step of the run, after the event before it."""
    file, line = site_order(event.site)
    return {
        "number": number,
        "thread": event.runner.name,
        "operation": event.verb,
        "object": label(event),
        "text": in_words(event.verb, event.what),
        "file": file,
        "line": line,
        "changed": before is not None and event.runner is not before.runner,
        **seen,
    }


def trace_of(run: Run, program: Program, failure: Finding | None) -> dict[str, Any]:
    """The whole run; its scheduler was given snapshot() to watch with."""
    scheduler = run.scheduler
    events = zip([None, *scheduler.trace], scheduler.trace, scheduler.snapshots, strict=False)
    told = failure and {
        "kind": failure.kind, "message": failure.message, "detail": failure.detail, "where": failure.where,
    }  # fmt: skip
    return {
        "format": FORMAT,
        "program": program.name,
        "file": program.file,
        "source": program.source,
        "schedule": run.setting.string(scheduler.deviations),
        "threads": list(dict.fromkeys(runner.name for runner in scheduler.everyone)),
        "steps": [step_of(number, *event) for number, event in enumerate(events, 1)],
        "end": scheduler.last,
        "failure": told or None,
    }
