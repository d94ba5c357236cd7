"""The rows that are judged from the runs on tiny models: does it start, are the tokens right, do the workers work."""

from grader.evidence import Evidence
from grader.explain import error_line, outcome_line, run_line, status_line
from grader.points import SKIPPED, Result, row
from grader.runs import Run
from grader.sandbox import Limits
from lab.command import counted

# --------------------------------------------------------------------------------------------- the program, its tokens


@row("runs", "runs", 3)
def runs_row(evidence: Evidence) -> Result:
    """The file loads and yields tokens."""
    correctness = evidence.correctness
    if correctness.start is not None:
        return Result(0.0, start_line(correctness.start, evidence.source, evidence.limits))
    outcomes = correctness.outcomes
    if not outcomes:
        return Result(0.0, "no case was asked for", status=SKIPPED)
    if any(outcome.run and outcome.run.tokens for outcome in outcomes):
        return Result(1.0)
    first = next((outcome for outcome in outcomes if outcome.run), None)
    reason = outcome_line(first, evidence.limits, evidence.source, first.case.hidden) if first else "nothing was run"
    return Result(0.0, f"yields no token: {reason}")


def start_line(run: Run, source: str, limits: Limits) -> str:
    """Why a program did not get ready."""
    match run.outcome:
        case "error":
            return f"importing the file fails: {error_line(run.error, limits, source)}"
        case "hang" | "spin":
            return "importing the file does not end"
        case "ended":
            return f"importing the file ends the program: {status_line(run.status, limits)}"
    return f"importing the file fails: {run_line(run, [], limits, source)}"


@row("public", "same tokens, public cases", 18)
def public_row(evidence: Evidence) -> Result:
    """Tokens equal in the public cases, kind by kind, as far as the workers share the work."""
    return tokens_result(evidence, hidden=False)


@row("hidden", "same tokens, hidden cases", 18)
def hidden_row(evidence: Evidence) -> Result:
    """Tokens equal in the hidden cases, likewise."""
    return tokens_result(evidence, hidden=True)


def tokens_result(evidence: Evidence, hidden: bool) -> Result:
    """Each kind of case, of which all are equal, counts the same."""
    outcomes = evidence.correctness.of(hidden)
    if not outcomes:
        reason = "not run: the program does not start" if evidence.correctness.start else "no such case was asked for"
        return Result(0.0, reason, status=SKIPPED)
    share, lack = shared_work(evidence)
    kinds = list(dict.fromkeys(outcome.case.kind for outcome in outcomes))
    bad_kinds = [kind for kind in kinds if not all(o.equal for o in outcomes if o.case.kind == kind)]
    bad = [outcome for outcome in outcomes if not outcome.equal]
    if not bad:
        return Result(share, counted(len(outcomes), "case") + (f"; {lack}" if lack else ""))
    first = next((outcome for outcome in bad if outcome.run), bad[0])
    shown = outcome_line(first, evidence.limits, evidence.source, private=hidden)
    note = "" if hidden else "".join(f"; {note}" for note in evidence.notes)
    failed = f"{len(bad)} of {len(outcomes)} cases fail ({', '.join(bad_kinds)}). " if first.run else ""
    reason = f"{failed}{shown}{note}"
    private = "\n".join(outcome_line(outcome, evidence.limits, evidence.source) for outcome in bad) if hidden else ""
    return Result(share * (len(kinds) - len(bad_kinds)) / len(kinds), reason, private)


def shared_work(evidence: Evidence) -> tuple[float, str]:
    """What equal tokens count, for the starter makes them too, and what is missing for more."""
    worth, seen = evidence.points.tokens, witnesses(evidence)
    if any(map(evidence.proven, evidence.scaling)) or any(
        inside.shared_products and inside.shared_attention for inside in seen
    ):
        return 1.0, ""
    shared = [inside for inside in seen if inside.shared_products]
    for inside in shared:
        if inside.blocked:
            return worth["products"], f"all points once the workers share attention as well; {inside.words()}"
    how = seen[0].words() if seen else "not checked"
    if shared:
        return worth["given"], f"more points once a product takes all positions at once; {how}"
    lack = "the starter gets them right too: more points once every worker does a fair share"
    return worth["given"], f"{lack}; {how}"


def witnesses(evidence: Evidence) -> list:
    """Every look inside that there was, grader.inside.Inside."""
    timed = evidence.timing.inside.values() if evidence.timing else []
    return [*([evidence.inside] if evidence.inside else []), *timed]


# ----------------------------------------------------------------------------------------------------------- its shape


@row("imports", "imports", 3, after_tokens=True)
def imports_row(evidence: Evidence) -> Result:
    """Nothing but numpy, the lab and small parts of the standard library is imported."""
    return Result(0.0, "; ".join(evidence.imports[:4])) if evidence.imports else Result(1.0)


@row("workers", "workers", 15, after_tokens=True)
def workers_row(evidence: Evidence) -> Result:
    """k workers, from lab.threadlib, started once, that do the work, and none left; they are counted from outside."""
    if reason := workers_problem(evidence):
        return Result(0.0, reason)
    seen = witnesses(evidence)
    did_it = any(map(evidence.proven, evidence.scaling)) or any(inside.worked >= 0.5 for inside in seen)
    if evidence.right and not did_it:
        return Result(0.0, f"the workers do not do the work: {seen[0].words() if seen else 'not checked'}")
    return Result(1.0)


def workers_problem(evidence: Evidence) -> str:
    """What is wrong with the workers, or ""."""
    if evidence.threads:
        return "; ".join(evidence.threads[:3])
    seen = [(outcome, outcome.run) for outcome in evidence.correctness.outcomes if outcome.run]
    if not seen:
        return "the program does not start"
    if any("bypass" in run.values for _, run in seen):
        return "a thread was started without lab.threadlib"
    if any(outcome.threads_at_ready for outcome, _ in seen):
        return "importing the file starts threads; the workers start when generate() does"
    for outcome, run in seen:
        if run.outcome == "done" and run.left_threads:
            when = "when the iterator was closed early" if outcome.case.close_after else "after the last token"
            return f"{counted(run.left_threads, 'thread')} left {when}; stop and join the workers in a finally"
    for k in sorted({outcome.case.workers for outcome, _ in seen if outcome.case.workers > 1}):
        runs = [run for outcome, run in seen if outcome.case.workers == k]
        most = max(run.most_threads for run in runs)
        fewest = min((run.fewest_threads for run in runs if run.fewest_threads is not None), default=k)
        if fewest == 0:
            return (
                f"there is no worker between two tokens for workers={k}; static workers live from the beginning of "
                "generate() to its end"
            )
        if most > k:
            return f"{most} threads for workers={k}; k static workers are asked for"
        if fewest < k - 1:
            return f"only {counted(fewest, 'thread')} for workers={k}"
        if any("started" in run.values for run in runs):
            return f"more than {k} threads are started for workers={k}; k static workers live through all of generate()"
    return ""


@row("quiet", "prints nothing else", 3, after_tokens=True)
def quiet_row(evidence: Evidence) -> Result:
    """Standard output belongs to the tokens."""
    loud = [(o.case, o.run.printed) for o in evidence.correctness.outcomes if o.run and o.run.printed]
    if not loud:
        return Result(1.0)
    shown = next((text.decode(errors="replace").split("\n")[0][:60] for case, text in loud if not case.hidden), None)
    reason = "it prints on standard output, where the tokens go" + (f": {shown!r}" if shown else "")
    return Result(0.0, f"{reason} (standard error is free to use)")
