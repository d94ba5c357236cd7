"""The class report: one HTML page for the person who reviews the speedup plots."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path
from statistics import median
from typing import Any

from grader.classroom.exports import file_name, row_names
from grader.classroom.gradebook import GRADED, INCONCLUSIVE
from grader.classroom.policy import Standing
from grader.classroom.similar import Pair, groups
from grader.grade import NOT_ASKED
from grader.report import template, ticks
from lab.check.report import grouped

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 380, 44, 110, 16, 50
BINS = 20
CAUSES = 12  # lines of the table of causes
CONSEQUENCE = re.compile(  # what says that points are missing because others are
    r"^(counts once|not asked for|not run: |the speed of a program with|there is no program|the program does not start)"
)
CASES = re.compile(r"^\d+ cases; ")


def render(standings: Sequence[Standing], pairs: Sequence[Pair], title: str, live: bool = False) -> str:
    """The page; with `live` it loads itself anew."""
    scored = [s.score for s in standings if s.score is not None]
    most = max((s.record.result.most for s in standings if s.record.result), default=0.0)
    names = {s.student: s.name for s in standings}
    return template(Path(__file__).with_name("page.html")).render(
        title=title,
        live=live,
        made=datetime.now().astimezone().strftime("%Y-%m-%d %H:%M"),
        counts=status_counts(standings),
        mean=sum(scored) / len(scored) if scored else None,
        middle=median(scored) if scored else None,
        plot=speedup_plot(standings),
        scores=histogram(scored, most or 100.0),
        shares=histogram([share for s in standings for share in shares_of(s)], 1.0),
        stages=stages(standings),
        causes=causes(standings),
        slowest=slowest(standings),
        alike=[group | {"who": [(who, names.get(who, who)) for who in group["who"]]} for group in groups(pairs)],
        page_of=lambda student: f"feedback/{file_name(student)}.html",
        rows=columns(standings),
        table=json.dumps(table(standings), ensure_ascii=False).replace("<", "\\u003c"),
    )


def status_counts(standings: Iterable[Standing]) -> dict[str, int]:
    """How many are graded, inconclusive, waiting ..."""
    known = (GRADED, INCONCLUSIVE, "waiting", "too late")
    counts = Counter(s.status if s.status in known else "not graded" for s in standings)
    return {name: counts[name] for name in (*known, "not graded") if counts[name]}


def scalings(standing: Standing) -> list[dict[str, Any]]:
    """What was measured, by number of workers: k, threads (E_k), capacity (C_k), speedup (S_k), each with median, low
    and high.
    """
    return sorted(standing.report.get("extra_data", {}).get("scaling") or [], key=lambda scaling: scaling["k"])


def middle_of(estimate: Any) -> float:
    """The median of an estimate, which is a list or an object in JSON."""
    return float(estimate["median"] if isinstance(estimate, dict) else estimate[0])


def shares_of(standing: Standing) -> list[float]:
    """E_k / C_k for each k."""
    return [middle_of(s["threads"]) / middle_of(s["capacity"]) for s in scalings(standing)]


# ------------------------------------------------------------------------------------------------------------- the plot


def speedup_plot(standings: Sequence[Standing]) -> dict[str, Any] | None:
    """Everything that the SVG of all submissions' self-scaling over k needs, in its own coordinates."""
    measured = [(s, found) for s in standings if (found := scalings(s))]
    lines = [(s, [(1, 1.0), *((at["k"], middle_of(at["threads"])) for at in found)]) for s, found in measured]
    capacity = grouped((at["k"], middle_of(at["capacity"])) for _, found in measured for at in found)
    if not lines:
        return None
    given = [(1, 1.0), *((k, median(values)) for k, values in sorted(capacity.items()))]
    most = max(k for k, _ in given)
    highest = 1.08 * max(most, max(e for _, points in lines for _, e in points))

    def path(points: Iterable[tuple[float, float]]) -> str:
        return " ".join(f"{x(k):.1f},{y(e):.1f}" for k, e in points)

    def x(k: float) -> float:
        return LEFT + (k - 1) / (most - 1) * (WIDTH - LEFT - RIGHT)

    def y(e: float) -> float:
        return HEIGHT - BOTTOM - e / highest * (HEIGHT - TOP - BOTTOM)

    return {
        "width": WIDTH, "height": HEIGHT, "left": LEFT, "right": WIDTH - RIGHT, "bottom": HEIGHT - BOTTOM,
        "lines": [
            {"student": s.student, "name": s.name, "path": path(points), "e": f"{points[-1][1]:.2f}"}
            for s, points in lines
        ],
        "capacity": path(given), "capacity_at": y(given[-1][1]), "capacity_is": f"{given[-1][1]:.2f}",
        "ideal": path([(1, 1.0), (most, float(most))]), "ideal_at": y(most),
        "ks": [(k, x(k)) for k, _ in given], "ticks": [(t, y(t)) for t in ticks(highest)],
    }  # fmt: skip


def histogram(values: Sequence[float], most: float) -> list[dict[str, float]]:
    """Counts in BINS equal bins from 0 to `most`; more counts as the last."""
    counts = Counter(min(BINS - 1, max(0, int(value / most * BINS))) for value in values)
    highest = max(counts.values(), default=1)
    return [
        {"low": most * i / BINS, "high": most * (i + 1) / BINS, "count": counts[i], "height": counts[i] / highest}
        for i in range(BINS)
    ]


# ----------------------------------------------------------------------------------------------------- what went wrong


def stages(standings: Sequence[Standing]) -> list[dict[str, Any]]:
    """For each row of the grade that was asked for: how many have all its points, some, none."""
    found = []
    for name in row_names(standings):
        tests = [test for s in standings if (test := s.row(name)) and test.get("max_score")]
        if not all(test.get("output") == NOT_ASKED for test in tests):
            full = sum(test["score"] >= test["max_score"] for test in tests)
            none = sum(test["score"] <= 0 for test in tests)
            title = next((test["name"] for test in tests if test["tags"] == [name]), tests[0]["name"])
            found.append({"title": title, "full": full, "some": len(tests) - full - none, "none": none})
    return found


def causes(standings: Iterable[Standing]) -> list[tuple[str, int, list[Standing]]]:
    """The most frequent reasons for missing points: (reason, how many, whose); numbers in them make no difference."""
    found: dict[str, tuple[str, list[Standing]]] = {}  # by the reason without numbers: an example of it, whose it is
    for s in standings:
        for test in s.report.get("tests", []):
            reason = test.get("output", "").strip()
            lost = test.get("score", 0) < test.get("max_score", 0) or test.get("score", 0) < 0
            if lost and reason and test.get("visibility") != "hidden" and not CONSEQUENCE.search(reason):
                first = re.split(r"(?<=[.;])\s", CASES.sub("", reason.splitlines()[0]))[0].rstrip(".;")
                kind = test["name"] + re.sub(r"\d+(\.\d+)?|'[^']*'", "#", first)
                found.setdefault(kind, (f"{test['name']}: {first}", []))[1].append(s)
        if s.record.submission.problem:
            found.setdefault("problem", ("nothing to grade was handed in", []))[1].append(s)
    ranked = sorted(found.values(), key=lambda cause: -len(cause[1]))
    return [(reason, len(who), who) for reason, who in ranked[:CAUSES]]


def slowest(standings: Sequence[Standing]) -> list[tuple[Standing, float]]:
    """The eight right programs that scale least: (whose, E_k / C_k at the most workers measured)."""
    return sorted(((s, shares_of(s)[-1]) for s in standings if shares_of(s)), key=lambda pair: pair[1])[:8]


def is_check(name: str) -> bool:
    """Whether a row is of the thread checks: "checks", or a deduction, "check-race"."""
    return name.startswith("check")


def columns(standings: Sequence[Standing]) -> list[str]:
    """The rows of the grade that the table shows; those of the thread checks are one."""
    names = row_names(standings)
    return [name for name in names if not is_check(name)] + ["checks"] * any(map(is_check, names))


def points_of(standing: Standing, column: str) -> float | None:
    """What a column shows of a submission; None for nothing."""
    if column != "checks":
        return (standing.row(column) or {}).get("score")
    tests = standing.report.get("tests", [])
    found = [test["score"] for test in tests if "score" in test and any(map(is_check, test.get("tags", ())))]
    return sum(found) if found else None


def table(standings: Sequence[Standing]) -> list[dict[str, Any]]:
    """What the sortable table shows, a line for each student."""
    names, found = columns(standings), []
    for s in standings:
        scaling = scalings(s)
        found.append({
            "id": s.student, "name": s.name, "page": f"feedback/{file_name(s.student)}.html", "score": s.score,
            "status": s.status, "late": s.days_late, "n": s.submissions,
            "e": round(middle_of(scaling[-1]["threads"]), 2) if scaling else None,
            "share": round(shares_of(s)[-1], 2) if scaling else None,
            "rows": [points_of(s, name) for name in names],
        })  # fmt: skip
    return found
