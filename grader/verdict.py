"""From observations to points. Pure: nothing is run or measured here, so recorded and generated timings can be judged
in tests."""

from dataclasses import dataclass, field
from statistics import median

from grader.child import Run
from grader.correctness import Correctness
from grader.estimates import Scaling, estimate_scaling
from grader.explain import error_line, outcome_line, run_line, slow_line, status_line
from grader.points import Points, gain
from grader.sandbox import Limits
from grader.threads import Findings
from grader.timing import LEAST_ROUNDS, Round, Timing
from lab.check.report import counted

STEAL = 0.02  # share of the time that the hypervisor took, up to which nobody asks what it may have cost
AHEAD = 0.05  # CPU time while stopped / all CPU time: more than the stop itself explains

PASSED, FAILED, PARTIAL, INCONCLUSIVE, SKIPPED = "passed", "failed", "partial", "inconclusive", "not judged"


@dataclass
class Row:
    """One line of the result."""

    name: str
    title: str
    score: float
    most: float
    status: str
    reason: str = ""  # for the student
    private: str = ""  # for the instructor only

    def __post_init__(self) -> None:
        self.reason, self.private = printable(self.reason), printable(self.private)


def printable(text: str) -> str:
    """Text without what a terminal would obey and a file could not hold; parts of it come from the submission."""
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)


@dataclass
class Evidence:
    """All that was observed."""

    name: str  # of the submitted file
    points: Points
    bad: str = ""  # why it is no program at all
    source: str = ""
    imports: list[str] = field(default_factory=list)
    threads: list[str] = field(default_factory=list)
    correctness: Correctness | None = None
    findings: Findings | None = None
    timing: Timing | None = None
    untimed: str = ""  # why there is no timing, when nobody asked for it
    notes: list[str] = field(default_factory=list)  # explanations of the first wrong token
    limits: Limits = field(default_factory=Limits)
    sandbox: str = ""  # what protected the machine
    lacks: str = ""  # what it did not protect
    seconds: float = 0.0


@dataclass
class Verdict:
    """The result."""

    evidence: Evidence
    rows: list[Row]
    scaling: list[Scaling]

    @property
    def score(self) -> float:
        """All points, never below 0."""
        return round(max(0.0, sum(row.score for row in self.rows)), 1)

    @property
    def most(self) -> float:
        """The points there are."""
        return round(sum(row.most for row in self.rows), 1)

    @property
    def inconclusive(self) -> bool:
        """Whether something could not be measured."""
        return any(row.status == INCONCLUSIVE for row in self.rows)

    @property
    def exit_code(self) -> int:
        """0 full marks, 1 less, 3 inconclusive."""
        return 3 if self.inconclusive else 0 if self.score >= self.most else 1


def judge(evidence: Evidence) -> Verdict:
    """Points and reasons."""
    table = evidence.points.points
    if evidence.bad:
        rows = [Row("runs", "runs", 0.0, table["runs"], FAILED, evidence.bad)]
        rest = (
            ("public", "same tokens, public cases"),
            ("hidden", "same tokens, hidden cases"),
            ("imports", "imports"),
        )
        rest += (("workers", "workers"), ("quiet", "prints nothing else"), ("scaling", "scaling"))
        rows += [Row(name, title, 0.0, table[name], SKIPPED, "there is no program to judge") for name, title in rest]
        return Verdict(evidence, rows, [])
    rows = [runs_row(evidence), tokens_row(evidence, hidden=False), tokens_row(evidence, hidden=True)]
    right = rows[1].score == rows[1].most
    for row in (imports_row(evidence), workers_row(evidence), quiet_row(evidence)):
        if not right and row.status == PASSED:
            row = Row(row.name, row.title, 0.0, row.most, SKIPPED, "counts once the public cases are right")
        rows.append(row)
    scaling_rows, scaling = judge_scaling(evidence)
    rows += scaling_rows
    rows += deduction_rows(evidence, sum(row.score for row in rows))
    return Verdict(evidence, rows, scaling)


# --------------------------------------------------------------------------------------------- the program, its tokens


def runs_row(evidence: Evidence) -> Row:
    """Does it load and yield tokens?"""
    most, correctness = evidence.points.points["runs"], evidence.correctness
    if correctness.start is not None:
        return Row(
            "runs", "runs", 0.0, most, FAILED, start_line(correctness.start, correctness.start_stderr, evidence.limits)
        )
    outcomes = correctness.outcomes
    if not outcomes:
        return Row("runs", "runs", 0.0, most, SKIPPED, "no case was asked for")
    if any(outcome.run and outcome.run.tokens for outcome in outcomes):
        return Row("runs", "runs", most, most, PASSED)
    first = next((outcome for outcome in outcomes if outcome.run), None)
    reason = outcome_line(first, evidence.limits, evidence.source, first.case.hidden) if first else "nothing was run"
    return Row("runs", "runs", 0.0, most, FAILED, f"yields no token: {reason}")


def start_line(run: Run, stderr: str, limits: Limits) -> str:
    """Why a program did not get ready."""
    if run.outcome == "error":
        return f"importing the file fails: {error_line(run.error, limits)}"
    if run.outcome in ("hang", "spin"):
        return "importing the file does not end"
    if run.outcome == "ended":
        return f"importing the file ends the program: {status_line(run.status, limits)}"
    return f"importing the file fails: {run_line(run, [], limits, '')}"


def tokens_row(evidence: Evidence, hidden: bool) -> Row:
    """Points for each kind of case of which all are equal."""
    name = "hidden" if hidden else "public"
    title, most = f"same tokens, {name} cases", evidence.points.points[name]
    outcomes = evidence.correctness.of(hidden)
    if not outcomes:
        reason = "not run: the program does not start" if evidence.correctness.start else "no such case was asked for"
        return Row(name, title, 0.0, most, SKIPPED, reason)
    kinds = list(dict.fromkeys(outcome.case.kind for outcome in outcomes))
    bad_kinds = [kind for kind in kinds if not all(o.equal for o in outcomes if o.case.kind == kind)]
    bad = [outcome for outcome in outcomes if not outcome.equal]
    score = round(most * (len(kinds) - len(bad_kinds)) / len(kinds), 1)
    if not bad:
        return Row(name, title, most, most, PASSED, counted(len(outcomes), "case"))
    first = next((outcome for outcome in bad if outcome.run), bad[0])
    shown = outcome_line(first, evidence.limits, evidence.source, private=hidden)
    note = "" if hidden or not evidence.notes else ". " + ". ".join(evidence.notes)
    reason = f"{len(bad)} of {len(outcomes)} cases fail ({', '.join(bad_kinds)}). {shown}{note}"
    private = "\n".join(outcome_line(outcome, evidence.limits, evidence.source) for outcome in bad) if hidden else ""
    return Row(name, title, score, most, PARTIAL if score else FAILED, reason, private)


# ----------------------------------------------------------------------------------------------------------- its shape


def imports_row(evidence: Evidence) -> Row:
    """Only what the task needs is imported."""
    most = evidence.points.points["imports"]
    if evidence.imports:
        return Row("imports", "imports", 0.0, most, FAILED, "; ".join(evidence.imports[:4]))
    return Row("imports", "imports", most, most, PASSED)


def workers_row(evidence: Evidence) -> Row:
    """k workers, from lab.threadlib, started once, and none left; threads are counted from outside."""
    most = evidence.points.points["workers"]
    reason = workers_problem(evidence)
    if not reason:
        return Row("workers", "workers", most, most, PASSED)
    return Row("workers", "workers", 0.0, most, FAILED, reason)


def workers_problem(evidence: Evidence) -> str:
    """What is wrong with the workers, or ""."""
    if evidence.threads:
        return "; ".join(evidence.threads[:3])
    seen = [outcome for outcome in evidence.correctness.outcomes if outcome.run]
    if not seen:
        return "the program does not start"
    if any("bypass" in outcome.run.values for outcome in seen):
        return "a thread was started past lab.threadlib"
    if any(outcome.threads_at_ready for outcome in seen):
        return "importing the file starts threads; the workers start when generate() does"
    for outcome in seen:
        if outcome.run.outcome == "done" and outcome.run.left_threads:
            when = "when the iterator was closed early" if outcome.case.close_after else "after the last token"
            return f"{counted(outcome.run.left_threads, 'thread')} left {when}; stop and join the workers in a finally"
    for k in sorted({outcome.case.workers for outcome in seen if outcome.case.workers > 1}):
        runs = [outcome.run for outcome in seen if outcome.case.workers == k]
        most = max(run.most_threads for run in runs)
        fewest = min((run.fewest_threads for run in runs if run.fewest_threads is not None), default=k)
        if most > k:
            return f"{most} threads for workers={k}; k static workers are asked for"
        if fewest == 0:
            when = "static workers live from the beginning of generate() to its end"
            return f"no worker is there between two tokens for workers={k}; {when}"
        if fewest < k - 1:
            return f"only {counted(fewest, 'thread')} for workers={k}"
    return ""


def quiet_row(evidence: Evidence) -> Row:
    """Nothing but tokens comes out."""
    most = evidence.points.points["quiet"]
    title = "prints nothing else"
    loud = [outcome for outcome in evidence.correctness.outcomes if outcome.run and outcome.run.printed]
    if not loud:
        return Row("quiet", title, most, most, PASSED)
    shown = next((o.run.printed.decode(errors="replace").split("\n")[0][:60] for o in loud if not o.case.hidden), None)
    reason = "it prints on standard output, where the tokens go" + (f": {shown!r}" if shown else "")
    return Row("quiet", title, 0.0, most, FAILED, f"{reason} (standard error is free to use)")


# ------------------------------------------------------------------------------------------------------------- scaling


def judge_scaling(evidence: Evidence) -> tuple[list[Row], list[Scaling]]:
    """The rows for each measured number of workers."""
    points, timing = evidence.points, evidence.timing
    all_points = points.points["scaling"]
    if timing is None:
        reason = evidence.untimed or "the speed of a program with other tokens means nothing; first the public cases"
        return [Row("scaling", "scaling", 0.0, all_points, SKIPPED, reason)], []
    if not timing.measured:
        reason = "scaling cannot be measured here: " + "; ".join(
            f"{k} workers: {why}" for k, why in timing.not_measured.items()
        )
        return [Row("scaling", "scaling", 0.0, all_points, INCONCLUSIVE, reason)], []
    if timing.failure is not None:
        failed, count = timing.failure, timing.failure.n - len(timing.failure.prompt)
        private = run_line(failed, timing.expected, evidence.limits, evidence.source, private=True, count=count)
        reason = f"a timed run on {timing.model} with {counted(timing.failed_workers, 'worker')} failed: {private}"
        return [Row("scaling", "scaling", 0.0, all_points, FAILED, reason)], []
    rows, scaling = [], []
    for k in timing.measured:
        row, shown = scaling_row(evidence, timing, k, all_points / len(timing.measured))
        rows.append(row)
        if shown:
            scaling.append(shown)
    for k, why in timing.not_measured.items():
        rows.append(
            Row(
                f"scaling-{k}",
                f"scaling, {k} workers",
                0.0,
                0.0,
                SKIPPED,
                f"not measured: {why}; its points went to the others",
            )
        )
    return rows, scaling


def scaling_row(evidence: Evidence, timing: Timing, k: int, most: float) -> tuple[Row, Scaling | None]:
    """Points for k workers."""
    points, rounds = evidence.points, timing.quiet()
    if len(rounds) < LEAST_ROUNDS:
        rounds = timing.rounds
    shown = estimate_scaling(rounds, k) if rounds else None

    def row(status: str, reason: str, score: float = 0.0) -> tuple[Row, Scaling | None]:
        return Row(f"scaling-{k}", f"scaling, {k} workers", score, round(most, 2), status, reason), shown

    certain = idle_worker(timing.rounds, k, points) or worked_ahead(timing.rounds, k)
    if certain:
        return row(FAILED, certain)
    if unmeasured := why_not_measured(timing, k):
        return row(INCONCLUSIVE, unmeasured)
    unfair = unfair_baseline(rounds, k, points)
    if unfair:
        return row(FAILED, unfair)
    if shown.capacity.median - 1 < points.scaling["capacity"] * (k - 1):
        reason = f"{k} trusted threads are only {shown.capacity.median:.2f} times as fast as one on this machine now"
        return row(INCONCLUSIVE, f"{reason}, so nobody's can be. Run it again when the machine is quiet")
    reason = f"{shown.threads.median:.2f} times as fast as on 1 worker, where this machine could give "
    reason += f"{shown.capacity.median:.2f}: {shown.gain.median:.0%} of the possible gain "
    reason += f"[{shown.gain.low:.0%}, {shown.gain.high:.0%}]"
    if shown.speedup.high < points.scaling["floor"] * shown.capacity.median:
        return row(FAILED, f"{reason}; but with {k} workers it is {slower(shown.speedup.median)} the serial program")
    if points.credit(shown.gain.high) - points.credit(shown.gain.low) > 0.5:
        return row(INCONCLUSIVE, f"{reason}: the runs disagree too much. Run it again")
    credit = points.credit(shown.gain.high)  # the doubt that is left goes to the student
    if points.credit(gain_without_steal(shown)) > credit:
        taken = f"the hypervisor took {shown.steal:.0%} of the time (steal), which may be why"
        return row(INCONCLUSIVE, f"{reason}; {taken}. Nothing is lost: run it again")
    if credit == 1:
        return row(PASSED, reason, round(most, 2))
    reason += f"; {points.scaling['full_credit']:.0%} is full marks"
    if slow := slow_line(timing.recorded.get(k, {}), k):
        reason += f"; {slow}"
    return row(PARTIAL if credit else FAILED, reason, round(most * credit, 1))


def slower(speedup: float) -> str:
    """ "1.3 times slower than", or "only 1.10 times as fast as"."""
    return f"{1 / speedup:.1f} times slower than" if speedup < 1 else f"only {speedup:.2f} times as fast as"


def why_not_measured(timing: Timing, k: int) -> str:
    """Why the rounds say nothing about k workers, or ""."""
    quiet, rounds = timing.quiet(), len(timing.rounds) + len(timing.given_up)
    if len(quiet) < LEAST_ROUNDS:
        why = next((r.disturbed for r in reversed(timing.rounds) if r.disturbed), "too few rounds")
        why = timing.given_up[-1] if timing.given_up else why
        return f"{rounds - len(quiet)} of {rounds} rounds were disturbed: {why}. Nothing is lost: run it again"
    if not all(sample.cpu > 0 for round_ in quiet for sample in (*round_.one, *round_.many[k])):
        return "the CPU time of other processes cannot be seen here, so the timing cannot be judged"
    return ""


def gain_without_steal(shown: Scaling) -> float:
    """The gain if every moment that the hypervisor took from any core had delayed the whole program, and were undone:
    the upper end of its interval. Less than STEAL is always there, and is not counted.
    """
    if shown.steal <= STEAL:
        return shown.gain.high
    delayed = min(0.5, shown.k * shown.steal)
    return gain(shown.threads.high / (1 - delayed), shown.capacity.median)


def idle_worker(rounds: list[Round], k: int, points: Points) -> str:
    """Whether fewer than k threads work, in every run: that no disturbance explains."""
    least = points.scaling["share_of_worker"]
    working = []
    if any(s.threads_at_ready for round_ in rounds for s in (*round_.one, *round_.many[k])):
        return "threads were there before generate() began; threads of the submission alone are measured"
    samples = [sample for round_ in rounds for sample in round_.many[k]]
    for sample in samples:
        if sample.cpu - sample.main - sum(sample.threads) > 0.4 * sample.cpu:
            return ""  # threads that have ended did the work: their shares cannot be seen any more
        able = sample.threads if len(sample.threads) >= k else [sample.main, *sample.threads]  # main may be one of k
        working.append(sum(share >= least * sample.cpu / k for share in sorted(able, reverse=True)[:k]))
    if not working or max(working) >= k:
        return ""
    count, sample = max(working), samples[-1]
    text = f"only {count} of {k} threads did any work" if count else f"none of the {k} workers did any work"
    if not sample.threads:
        return f"{text}: no worker was there at all"
    shares = " + ".join(f"{seconds / max(sample.cpu, 1e-9):.0%}" for seconds in [sample.main, *sample.threads[:k]])
    return (
        f"{text} (CPU time of the main thread and the workers: {shares}): is the loop split over the batch, which is 1?"
    )


def worked_ahead(rounds: list[Round], k: int) -> str:
    """Whether the program went on while it was stopped between two tokens: another process must have continued it."""
    samples = [sample for round_ in rounds for sample in (*round_.one, *round_.many[k])]
    if samples and median(sample.ahead / max(sample.cpu, 1e-9) for sample in samples) > AHEAD:
        return "it went on computing while it was stopped between two tokens, so its times mean nothing"
    return ""


def unfair_baseline(rounds: list[Round], k: int, points: Points) -> str:
    """Whether the run on 1 worker was made slow, or the run on k used more than its k cores or threads."""
    s = points.scaling
    ones = [sample for round_ in rounds for sample in round_.one]
    manys = [sample for round_ in rounds for sample in round_.many[k]]
    busy = median((sample.cpu + sample.delay) / sample.seconds for sample in ones)
    if busy < s["busy_at_one"]:
        return (
            f"with 1 worker it computes only {busy:.0%} of the time and sleeps or waits the rest, so T_1 is no baseline"
        )
    ratio = median(a.cpu / max(b.cpu, 1e-9) for a, b in zip(ones, manys, strict=True))
    if ratio > s["cpu_ratio"]:
        return (
            f"with 1 worker it takes {ratio:.2f} times the CPU time it takes with {k}: different work, so "
            "T_1 is no baseline"
        )
    cores = median(sample.cpu / sample.seconds for sample in manys)
    if cores > k + 0.15:
        return f"with {k} workers it used {cores:.1f} cores instead of {k}"
    least = s["share_of_worker"] / k
    threads = median(sum(seconds >= least * sample.cpu for seconds in sample.threads) for sample in manys)
    if threads > k:
        return f"with {k} workers {threads:.0f} threads compute instead of {k}"
    return ""


# ---------------------------------------------------------------------------------------------------------- deductions


def deduction_rows(evidence: Evidence, earned: float) -> list[Row]:
    """What the checks of lab.check take away."""
    found, deductions = evidence.findings, evidence.points.deductions
    if found is None:
        return []
    title = "thread checks"
    if found.problem:
        return [Row("checks", title, 0.0, 0.0, SKIPPED, found.problem)]
    costly = found.worth_points(deductions)
    if not costly:
        other = f"; {found.findings[0].message}" if found.findings else ""
        return [Row("checks", title, 0.0, 0.0, PASSED, f"nothing found in {found.tried}, which proves nothing{other}")]
    left = min(deductions["most"], earned)
    rows = []
    for finding in costly:
        cost = min(left, deductions[finding.kind])
        left -= cost
        replay = (
            f"; to see it again: python -m lab.check explore {evidence.name} --replay {finding.schedule}"
            if finding.schedule
            else ""
        )
        rows.append(
            Row(f"check-{finding.kind}", f"{title}: {finding.kind}", -cost, 0.0, FAILED, f"{finding.message}{replay}")
        )
    return rows
