"""The rows that are judged from timed runs: what the threads gain, and how fast it is.

A program that scales needs more than a small T_k: T_1 must be an honest baseline, and the k workers must have done the
work. CPU times are seen from outside, but a thread that burns time looks like one that works. So either the first token
came sooner than one thread can make it (Evidence.proven), or every worker must have been seen at work from inside
(grader.inside) and have used as much CPU time then as in the timed runs.
"""

from collections.abc import Callable
from dataclasses import replace
from statistics import median

from grader import rows  # noqa: F401  (its rows come before these)
from grader.estimates import Estimate, Scaling, typical
from grader.evidence import Evidence
from grader.explain import run_line, slow_line
from grader.points import INCONCLUSIVE, SKIPPED, Points, Result, gain, row
from grader.rounds import Round, Sample, Timing
from grader.runs import Run
from grader.timing import LEAST_ROUNDS, WAITING
from lab.command import counted

STEAL = 0.02  # share of the time that the hypervisor took, up to which nobody asks what it may have cost
AHEAD = 0.05  # CPU time while stopped / all CPU time: more than the stop itself explains
CALM = 0.15  # how much the times of trusted threads vary on a quiet machine: what varies more then is the submission
DOUBT = 0.05  # of a share, which always goes to the student
ENDED = 0.4  # of the CPU time: more than what is spent between the last look at a thread and its token
APART = 0.6  # of an even share: by how much a worker's may differ between timed runs and a watched one
TOO_GOOD = 1.05  # of the possible gain: more than the machine gives to trusted threads

# ---------------------------------------------------------------------------------------------------------------- rows


@row("threads", "threads", 25)
def threads_row(evidence: Evidence) -> list[Result]:
    """The share of what k cores can gain over one."""
    return for_each(evidence, threads_result)


@row("speed", "speed", 15)
def speed_row(evidence: Evidence) -> list[Result]:
    """The share of the speed that k cores have at the same products; for programs whose threads gain something."""
    return for_each(evidence, speed_result)


def for_each(evidence: Evidence, judge: Callable[[Evidence, Scaling], Result]) -> list[Result]:
    """A result for each number of workers, or one that says why there is none."""
    timing = evidence.timing
    if timing is None:
        reason = evidence.untimed or "the speed of a program with other tokens means nothing; first the public cases"
        return [Result(0.0, reason, status=SKIPPED)]
    left_out = [
        Result(0.0, f"not measured: {why}; its points went to the others", status=SKIPPED, k=k, weight=0.0)
        for k, why in timing.not_measured.items()
    ]
    if not timing.measured:
        why = "; ".join(f"{k} workers: {why}" for k, why in timing.not_measured.items())
        return [Result(0.0, f"scaling cannot be measured here: {why}", status=INCONCLUSIVE)]
    if timing.failure is not None:
        return [Result(0.0, failed_run(evidence, timing, timing.failure))]
    weight = 1 / len(timing.measured)
    found = {k: objection(evidence, k) or judge(evidence, evidence.scaling[k]) for k in timing.measured}
    return [*(replace(result, k=k, weight=weight) for k, result in found.items()), *left_out]


def failed_run(evidence: Evidence, timing: Timing, failed: Run) -> str:
    """What went wrong in a timed run."""
    count = len(failed.prompt) and failed.n - len(failed.prompt)
    private = run_line(failed, timing.expected, evidence.limits, evidence.source, private=True, count=count)
    return f"a timed run on {timing.model} with {counted(timing.failed_workers, 'worker')} failed: {private}"


def threads_result(evidence: Evidence, found: Scaling) -> Result:
    """Points for what the threads gained."""
    points, k = evidence.points, found.k
    reason = (
        f"{found.threads.median:.2f} times as fast as on 1 worker, where this machine could give "
        f"{found.capacity.median:.2f}: {found.gain.median:.0%} of the possible gain "
        f"[{found.gain.low:.0%}, {found.gain.high:.0%}]"
    )
    share = found.gain
    if points.measure == "speedup":  # the assignment's own words
        reason = f"{found.speedup.median:.2f} times as fast as the serial program, on {k} workers"
        share = Estimate(*(gain(value, k) for value in found.speedup))
    if unproven := too_good(evidence, found):
        return Result(0.0, f"{reason}: {unproven}", private="for the instructor: a gain above what the machine gives")
    taken = gain_without_steal(found) if points.measure == "gain" else share.high
    result = credited(reason, found, share, points.credit, points.scaling["full_credit"], taken)
    if result.credit < 1 and (slow := slow_line(evidence.timed.recorded.get(k, {}), k)) and not result.status:
        result = replace(result, reason=f"{result.reason}; {slow}")
    if found.gain.median > 1 and result.credit:
        result = replace(result, private="for the instructor: a gain above what the machine gives to trusted threads")
    return result


def speed_result(evidence: Evidence, found: Scaling) -> Result:
    """Points for the speed on k cores."""
    points = evidence.points
    ideal = found.kernel / found.capacity.median
    reason = (
        f"{found.many:.3f} s a token, where {found.k} cores need {ideal:.3f} s for the products alone: "
        f"{found.speed.median:.0%} of their speed"
    )
    threads = threads_result(evidence, found)
    if threads.credit == 0:
        return Result(0.0, f"{reason}; it counts for programs whose threads gain something", status=threads.status)
    taken = found.speed.high / (1 - delayed(found))
    return credited(reason, found, found.speed, points.speed_credit, points.scaling["full_speed"], taken)


def credited(
    reason: str, found: Scaling, share: Estimate, credit: Callable[[float], float], full: float, without_steal: float
) -> Result:
    """The credit for a share that was measured, or inconclusive.

    Runs that disagree are the machine's doing, or the submission's: trusted threads ran between them, token by token.
    If those were steady, the submission's own unsteadiness is judged as it is.
    """
    calm = found.spread <= CALM and found.steal <= STEAL
    most = min(share.high, share.median + DOUBT) if calm else share.high
    if not calm and credit(share.high) - credit(share.low) > 0.5:
        return Result(0.0, f"{reason}: the runs disagree too much. Run it again", status=INCONCLUSIVE)
    earned = credit(most)  # the doubt that is left goes to the student
    if credit(without_steal) > earned and found.steal > STEAL:
        why = f"the hypervisor took {found.steal:.0%} of the time (steal), which may be why"
        return Result(0.0, f"{reason}; {why}. Nothing is lost: run it again", status=INCONCLUSIVE)
    if earned == 1:
        return Result(1.0, reason)
    if calm and credit(share.high) - credit(share.low) > 0.5:
        reason += "; its own runs disagree, while trusted threads beside them were steady"
    return Result(earned, f"{reason}; {full:.0%} is full marks")


def delayed(found: Scaling) -> float:
    """The share of its time that a program was delayed if every moment that the hypervisor took from any core had
    delayed the whole program. Less than STEAL is always there, and is not counted.
    """
    return min(0.5, found.k * found.steal) if found.steal > STEAL else 0.0


def gain_without_steal(found: Scaling) -> float:
    """The gain if that had not been: the upper end of its interval."""
    if late := delayed(found):
        return gain(found.threads.high / (1 - late), max(1.01, found.capacity.median))
    return found.gain.high


# ---------------------------------------------------------------------------------------------------------- objections


def objection(evidence: Evidence, k: int) -> Result | None:
    """Why neither threads nor speed of k workers earn a point, or cannot be judged."""
    timing, points = evidence.timed, evidence.points
    if reason := idle_worker(timing.rounds, k, points) or worked_ahead(timing.rounds, k):
        return Result(0.0, reason)  # a fact, whatever else goes on on the machine
    if reason := why_not_measured(timing, k):
        return Result(0.0, reason, status=INCONCLUSIVE)
    if reason := unfair_baseline(timing.quiet(), k, points):
        return Result(0.0, reason)
    found = evidence.scaling[k]
    if found.capacity.median - 1 < points.scaling["capacity"] * (k - 1):
        reason = f"{k} trusted threads are only {found.capacity.median:.2f} times as fast as one on this machine now"
        return Result(0.0, f"{reason}, so no program can be. Run it again on a quiet machine", status=INCONCLUSIVE)
    if found.speedup.high < points.scaling["floor"] * found.capacity.median:
        return Result(0.0, f"with {k} workers it is {slower(found.speedup.median)} the serial program")
    if reason := no_trace(evidence, k):
        return Result(0.0, reason, private="for the instructor: CPU time without a trace of work")
    return None


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
    if not all(sum(sample.cpu) > 0 for round_ in quiet for sample in (*round_.one, *round_.many[k])):
        return "the CPU time of other processes cannot be seen here, so the timing cannot be judged"
    return ""


def samples_of(rounds: list[Round], k: int) -> list[Sample]:
    """The submission's runs with k workers."""
    return [sample for round_ in rounds for sample in (round_.one if k == 1 else round_.many[k])]


def seconds(samples: list[Sample], what: str) -> float:
    """Seconds for all tokens: of `tokens`, `cpu` or `main`, by the statistic that all times are taken by."""
    return typical([getattr(sample, what) for sample in samples])


def thread_seconds(samples: list[Sample]) -> list[float]:
    """CPU seconds of each thread but the main one, oldest first, by the same statistic."""
    count = max((len(sample.threads) for sample in samples), default=0)
    nothing = [[0.0] * len(sample.tokens) for sample in samples]
    return [
        typical([s.threads[i] if i < len(s.threads) else none for s, none in zip(samples, nothing, strict=True)])
        for i in range(count)
    ]


def idle_worker(rounds: list[Round], k: int, points: Points) -> str:
    """Whether fewer than k threads work: that no disturbance explains."""
    if any(sample.threads_at_ready for sample in (*samples_of(rounds, 1), *samples_of(rounds, k))):
        return "threads were there before generate() began; threads of the submission alone are measured"
    samples = samples_of(rounds, k)
    if not samples or not all(sample.cpu for sample in samples):
        return ""
    cpu, main, threads = seconds(samples, "cpu"), seconds(samples, "main"), thread_seconds(samples)
    if cpu <= 0 or ended(samples) > ENDED:
        return ""  # threads that have ended did the work: their shares cannot be seen any more
    able = threads if len(threads) >= k else [main, *threads]  # main may be one of k
    least = points.scaling["share_of_worker"]
    count = sum(share >= least * cpu / k for share in sorted(able, reverse=True)[:k])
    if count >= k:
        return ""
    text = f"only {count} of {k} threads did any work" if count else f"none of the {k} workers did any work"
    if not threads:
        return f"{text}: there was no worker at all"
    shares = " + ".join(f"{share / cpu:.0%}" for share in [main, *threads[:k]])
    return (
        f"{text} (CPU time of the main thread and the workers: {shares}): is the loop split over the batch, which is 1?"
    )


def worked_ahead(rounds: list[Round], k: int) -> str:
    """Whether the program went on while it was stopped between two tokens: another process must have continued it."""
    samples = [*samples_of(rounds, 1), *samples_of(rounds, k)]
    if samples and median(sample.ahead / max(sum(sample.cpu), 1e-9) for sample in samples) > AHEAD:
        return "it went on computing while it was stopped between two tokens, so its times mean nothing"
    return ""


def unfair_baseline(rounds: list[Round], k: int, points: Points) -> str:
    """Whether the run on 1 worker was made slow, or the run on k used more than its k cores or threads."""
    s, ones, manys = points.scaling, samples_of(rounds, 1), samples_of(rounds, k)
    if (computing := computing_threads(ones, 1, points)) > 1:
        return f"with 1 worker {computing} threads compute and get in each other's way, so T_1 is not a baseline"
    busy = typical([busy_seconds(sample) for sample in ones]) / seconds(ones, "tokens")
    if busy < s["busy_at_one"] and ended(ones) > ENDED:
        return (
            "its threads end before the token is made, so what they compute cannot be seen, and T_1 is not a baseline; "
            "static workers live from the beginning of generate() to its end"
        )
    if busy < s["busy_at_one"]:
        return (
            f"with 1 worker it computes only {busy:.0%} of the time and sleeps or waits the rest, so T_1 is not a "
            "baseline"
        )
    ratio = seconds(ones, "cpu") / max(seconds(manys, "cpu"), 1e-9)
    if ratio > s["cpu_ratio"]:
        return (
            f"with 1 worker it takes {ratio:.2f} times the CPU time it takes with {k}: different work, so "
            "T_1 is not a baseline"
        )
    cores = seconds(manys, "cpu") / seconds(manys, "tokens")
    if cores > k + 0.15:
        return f"with {k} workers it used {cores:.1f} cores instead of {k}"
    if (computing := computing_threads(manys, k, points)) > k:
        return f"with {k} workers {computing} threads compute instead of {k}"
    return ""


def ended(samples: list[Sample]) -> float:
    """The share of the CPU time that threads had which were there no more when a token came."""
    cpu = seconds(samples, "cpu")
    return (cpu - seconds(samples, "main") - sum(thread_seconds(samples))) / max(1e-9, cpu)


def busy_seconds(sample: Sample) -> list[float]:
    """For each token, what the main thread and the busiest other computed. They take turns, so their sum is no more
    than the time; waiting for a core counts as far as it occurs in a quiet round, since two of a program's own threads
    that wait for one core would hide how long both of them sleep.
    """
    found = []
    for token, took in enumerate(sample.tokens):
        busiest = max((thread[token] for thread in sample.threads), default=0.0)
        waited = min(sample.delay[token], WAITING * took)
        found.append(min(took, sample.main[token] + busiest + waited))
    return found


def computing_threads(samples: list[Sample], k: int, points: Points) -> int:
    """How many threads but the main one do a fair share."""
    least = points.scaling["share_of_worker"] * seconds(samples, "cpu") / k
    return sum(share >= least for share in thread_seconds(samples))


# ------------------------------------------------------------------------------------------------------ proof of work


def no_trace(evidence: Evidence, k: int) -> str:
    """Whose CPU time left no trace of work, if the first token does not prove that the workers made it."""
    if evidence.proven(k):
        return ""
    inside = evidence.timed.inside.get(k)
    if inside is None:
        return ""  # nobody looked: grader.grade does so whenever points depend on it
    if inside.problem:
        return inside.problem
    samples = samples_of(evidence.timed.quiet(), k)
    timed = [typical([[first[0]] for first in threads]) for threads in zip(*(s.threads for s in samples), strict=False)]
    timed, whole = timed[:k], max(1e-9, typical([[sample.cpu[0]] for sample in samples]))
    for number, spent in enumerate(timed, 1):
        share, read = spent / whole, inside.weights[number - 1] if number <= len(inside.weights) else 0.0
        used = number <= len(inside.used) and inside.used[number - 1]
        if not used or read < 0.5 / k:
            what = "computed nothing that was used" if not used else f"read {read:.0%} of the weights"
            return f"worker {number} used {share:.0%} of the CPU time and {what}"
    spent, watched = sum(timed), sum(inside.cpu[:k])
    if spent > evidence.points.scaling["unseen"] * watched + 0.02:
        return (
            f"the workers used {spent:.2f} s of CPU time for the first token, and {watched:.2f} s when their work was "
            "watched: time without a trace of work"
        )
    shares, then = shares_of(timed), shares_of(inside.cpu[:k])
    if any(abs(a - b) > APART / k for a, b in zip(shares, then, strict=False)):
        return (
            f"the busiest worker had {shares[0]:.0%} of the workers' CPU time, and {then[0]:.0%} when their work was "
            "watched: time without a trace of work"
        )
    return ""


def shares_of(seconds_of_workers: list[float]) -> list[float]:
    """Their shares, the largest first: who takes which task from a queue is chance."""
    return sorted((spent / max(1e-9, sum(seconds_of_workers)) for spent in seconds_of_workers), reverse=True)


def too_good(evidence: Evidence, found: Scaling) -> str:
    """Why a gain above the machine's is not paid."""
    if evidence.points.measure == "gain" and found.gain.low > TOO_GOOD and not evidence.proven(found.k):
        return "more than the machine gives to trusted threads, and the first token does not prove it"
    return ""
