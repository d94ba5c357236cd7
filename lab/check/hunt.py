"""Tracked runs of a program, to find races: unordered accesses to arrays and variables."""

import time
from collections import Counter

from lab.check.causes import tell
from lab.check.explorer import Explorer, Run
from lab.check.race import Race
from lab.check.report import Finding, Findings, Progress, grouped
from lab.check.schedule import PRIMITIVES, STATEMENTS, Setting
from lab.check.strategies import Default, RandomWalk, Replay, Strategy, seeded
from lab.command import counted

LAST_WORDS = 2.0  # seconds to explain a failure that was found when the time was over


def look_for_races(
    explorer: Explorer, seed: int, schedules: int, deadline: float, result: Findings, progress: Progress
) -> Run | None:
    """Tracked runs: half of them switch at statements. Returns the first that fails."""
    found: dict[tuple, tuple[Race, str]] = {}
    writers: Counter[int] = Counter()  # thread -> elements of activations written, over all runs
    notices: dict[str, None] = {}
    threads, failed = 0, None
    for index in range(schedules):
        if time.monotonic() > deadline:
            break
        level = STATEMENTS if index % 2 else PRIMITIVES
        setting = Setting(explorer.workers, 0, level)
        strategy: Strategy = RandomWalk(seeded(seed, -1 - index), 0.9 if level else 0.0) if index else Default()
        run = explorer.run(strategy, setting, tracked=True)
        result.schedules += 1
        progress(result, schedules, deadline)
        threads = max(threads, run.scheduler.spawned)
        if run.kind and (run.kind != "timeout" or not index):  # the end of the time is not a failure
            failed = failed or run
        notices |= run.seen.notices
        for race in run.seen.races.values():
            found.setdefault(race.key, (race, setting.string(run.scheduler.deviations)))
        for root in run.seen.activations:
            writers.update(root.writers())
        if run.kind in ("livelock", "timeout"):  # the others would take as long
            break
    result.findings += race_findings(list(found.values()), seed)
    workers = [slot for slot in writers if slot > 0]
    if len(workers) == 1 and threads > 1 and result.schedules >= 4:
        result.findings.append(one_does_all(explorer, workers[0], seed, result.schedules))
    result.notes += notices
    return failed


def tell_failed(explorer: Explorer, run: Run, seed: int) -> Finding:
    """A tracked run that failed: the program's fault if that schedule fails without tracking, else the checker's."""
    deviations = run.scheduler.deviations
    if run.kind == "timeout":
        return Finding(
            "livelock",
            f"no end within the time given: {run.fault.message}",
            where=run.fault.where,
            seed=seed,
            tool="races",
        )
    if not run.fault.silent:
        explorer.deadline = max(explorer.deadline, time.monotonic() + LAST_WORDS)
    if run.detector is not None and explorer.again(run.setting, Replay(dict(deviations))).failure is None:
        finding = tell(explorer, run)
        return Finding(
            "refused",
            f"fails only while its arrays are tracked, so its races are not known: {finding.message}",
            finding.detail,
            finding.where,
            seed=seed,
            tool="races",
        )
    tracked = run.detector is not None
    again = explorer.again(run.setting, Replay(dict(deviations)), traced=True, tracked=tracked, blamed=tracked)
    finding = tell(explorer, again)
    finding.schedule, finding.seed = run.setting.string(deviations), seed
    return finding


def race_findings(found: list[tuple[Race, str]], seed: int) -> list[Finding]:
    """One finding for each array or variable: its first race, those of two writes before others; the rest as detail."""
    findings = []
    for pairs in grouped((race.name, (race, schedule)) for race, schedule in found).values():
        pairs.sort(key=lambda pair: pair[0].first.kind + pair[0].second.kind)
        race, schedule = pairs[0]
        lines = race.detail() + [f"also {other.message()}" for other, _schedule in pairs[1:4]]
        if len(pairs) > 4:
            lines.append(f"and {counted(len(pairs) - 4, 'more pair')} of lines")
        where = list(dict.fromkeys(site for other, _schedule in pairs for site in other.where()))
        findings.append(Finding("race", race.message(), "\n".join(lines), where, schedule, seed, tool="races"))
    return findings


def one_does_all(explorer: Explorer, slot: int, seed: int, schedules: int) -> Finding:
    """A submission whose work is split so that there is only one piece."""
    run = explorer.run(Default(), Setting(explorer.workers), tracked=True, blamed=True)
    sites = [site for thread, site, _pass in run.seen.log if thread == f"worker-{slot}"]
    common = max(dict.fromkeys(sites), key=sites.count) if sites else ""
    at = f" (most of its writes are at {common})" if common else ""
    return Finding(
        "contract",
        f"worker {slot} does all the work{at}: of {explorer.workers} workers no other one wrote a single activation in "
        f"{counted(schedules, 'schedule')}. Is the work split over the batch? B is 1",
        where=[common] if common else [],
        seed=seed,
        tool="races",
    )
