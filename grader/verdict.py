"""From observations to points. Pure: nothing is run or measured here, so recorded and generated timings can be judged
in tests."""

from grader import rows, scaling  # noqa: F401  (they register the rows, in this order)
from grader.evidence import Evidence, Row, Verdict, printable_lines
from grader.points import CHECKS, FAILED, INCONCLUSIVE, PARTIAL, PASSED, SKIPPED, Check, Result
from lab.command import counted

__all__ = [
    "FAILED", "INCONCLUSIVE", "PARTIAL", "PASSED", "SKIPPED", "STAGES", "Evidence", "Row", "Verdict", "judge",
    "printable_lines", "stage",
]  # fmt: skip


def judge(evidence: Evidence) -> Verdict:
    """Points and reasons."""
    evidence.estimate()
    found = [made for check in CHECKS for made in judged(check, evidence)]
    if not evidence.bad:
        found += deductions(evidence, sum(row.score for row in found))
    if evidence.fault:
        found.append(Row("grader", "grader", 0.0, 0.0, INCONCLUSIVE, evidence.fault))
    return Verdict(evidence, found, list(evidence.scaling.values()))


STAGES = {  # of docs/handout.md: what a program of that stage does
    0: "it runs; its tokens are not right yet",
    1: "it is right, but still serial",
    2: "its workers do the work",
    3: "its workers share the products",
    4: "its workers share the products and attention",
    5: "its threads gain what they should",
}


def stage(verdict: Verdict) -> int:
    """The stage of the handout that a program has reached, as far as it was judged."""
    evidence, rows_by_name = verdict.evidence, {row.name: row for row in verdict.rows}
    if not evidence.right:
        return 0
    if (workers := rows_by_name.get("workers")) is None or workers.status != PASSED:
        return 1
    share, _ = rows.shared_work(evidence)
    if share < evidence.points.tokens["products"]:
        return 2
    if share < 1:
        return 3
    threads = [row for row in verdict.rows if row.name.startswith("threads-") and row.most]
    return 5 if threads and all(row.status == PASSED for row in threads) else 4


def judged(check: Check, evidence: Evidence) -> list[Row]:
    """The row of a check, or its rows, one for each number of workers."""
    if evidence.bad and check is CHECKS[0]:
        results = [Result(0.0, evidence.bad)]
    elif evidence.bad:
        results = [Result(0.0, "there is no program to judge", status=SKIPPED)]
    else:
        found = check.judge(evidence)
        results = found if isinstance(found, list) else [found]
    return [row_of(check, result, evidence) for result in results]


def row_of(check: Check, result: Result, evidence: Evidence) -> Row:
    """A result as a row with points."""
    if check.after_tokens and not evidence.right and result.judged == PASSED:
        result = Result(0.0, "counts once the public cases are right", status=SKIPPED)
    most = round(evidence.points.points[check.name] * result.weight, 2)
    score = most if result.credit >= 1 else round(most * result.credit, 1)
    name, title = check.name, check.title
    if result.k:
        name, title = f"{name}-{result.k}", f"{title}, {counted(result.k, 'worker')}"
    return Row(name, title, score, most, result.judged, result.reason, result.private)


def deductions(evidence: Evidence, earned: float) -> list[Row]:
    """What the checks of lab.check take away."""
    found, table = evidence.findings, evidence.points.deductions
    if found is None:
        return []
    title = "thread checks"
    if found.problem:
        return [Row("checks", title, 0.0, 0.0, SKIPPED, found.problem)]
    costly = found.worth_points(table)
    if not costly:
        what, also = ("no thread error", f"; {found.findings[0].message}") if found.findings else ("nothing", "")
        reason = f"{what} found in {found.tried} (evidence, not proof){also}"
        return [Row("checks", title, 0.0, 0.0, PASSED, reason)]
    left, made = min(table["most"], earned), []
    for finding in costly:
        cost = min(left, table[finding.kind])
        left -= cost
        again = f'; to see it again: make explore FILE={evidence.name} ARGS="--replay {finding.schedule}"'
        reason = finding.message + (again if finding.schedule else "")
        made.append(Row(f"check-{finding.kind}", f"{title}: {finding.kind}", -cost, 0.0, FAILED, reason))
    return made
