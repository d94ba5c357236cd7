"""The result, three times: a table in the terminal, results.json for Gradescope, report.html to keep."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, Template
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from grader.estimates import Scaling
from grader.rows import witnesses
from grader.verdict import FAILED, INCONCLUSIVE, PARTIAL, PASSED, SKIPPED, STAGES, Row, Verdict, stage
from lab.command import counted
from lab.files import remove, write_json, write_text

MARKS = {
    PASSED: ("✓", "green"),
    FAILED: ("✗", "red"),
    PARTIAL: ("◐", "yellow"),
    INCONCLUSIVE: ("?", "magenta"),
    SKIPPED: ("·", "dim"),
}
SCHEDULE = "schedule.html"  # a failing schedule to step through
OTHER_WORKERS = "it is right, but its workers are not those of the task"
LEAST = 0.005  # below this, points are shown as none


def points_text(row: Row) -> str:
    """'20 / 20', '-10', '? / 40'."""
    if row.status == INCONCLUSIVE:
        return f"? / {row.most:g}"
    if row.most == 0:
        return f"{row.score:g}" if abs(row.score) > LEAST else ""
    return f"{row.score:g} / {row.most:g}"


def headline(verdict: Verdict) -> str:
    """The result in one line."""
    text = f"{verdict.score:g} of {verdict.most:g} points"
    if verdict.inconclusive:
        open_points = sum(row.most for row in verdict.rows if row.status == INCONCLUSIVE)
        text += f"; {round(open_points, 1):g} could not be measured (inconclusive)"
    return text


def stage_line(verdict: Verdict) -> str:
    """How far the program is in the handout's stages."""
    reached = stage(verdict)
    parallel = any(inside.problem or inside.worked >= 0.5 for inside in witnesses(verdict.evidence))
    return f"stage {reached} of the handout: {OTHER_WORKERS if reached == 1 and parallel else STAGES[reached]}"


# ------------------------------------------------------------------------------------------------------------ terminal


def show(verdict: Verdict, console: Console, instructor: bool = False, file: str = "") -> None:
    """The table, the speeds, the total; file: its path, where its name is not enough."""
    console.print(Text(file or verdict.evidence.name))
    table = Table(
        Column(no_wrap=True), Column(no_wrap=True), Column(justify="right", no_wrap=True), Column(overflow="fold"),
        box=None, pad_edge=False, show_header=False, padding=(0, 2, 0, 0),
    )  # fmt: skip
    for row in verdict.rows:
        mark, colour = MARKS[row.status]
        reason = row.reason + (f"\n{row.private}" if instructor and row.private else "")
        table.add_row(Text(mark, colour), Text(row.title), Text(points_text(row)), Text(reason))
    console.print(table)
    for scaling in verdict.scaling:
        console.print(Text(speeds(scaling)))
    if not verdict.evidence.bad:
        console.print(Text(stage_line(verdict)))
    if verdict.evidence.lacks:
        console.print(Text(f"sandbox: {verdict.evidence.sandbox}; {verdict.evidence.lacks}", "yellow"))
    console.print(Text(headline(verdict), "bold"), Text(f"({verdict.evidence.seconds:.0f} s)", "dim"))


def speeds(s: Scaling) -> str:
    """What the algorithm gained and what the threads gained."""
    return (
        f"a token takes T_s {s.serial:.2f} s -> T_1 {s.one:.2f} s: the algorithm gained {s.algorithm}; "
        f"-> T_{s.k} {s.many:.2f} s: {s.k} workers gained {s.threads}, this machine could give {s.capacity}; "
        f"together S_{s.k} = {s.speedup} ({counted(s.sets, 'run')} each)"
    )


# -------------------------------------------------------------------------------------------------------- results.json


AGAIN = "Nothing is lost: hand it in again"


def best_earlier_score(metadata: Path) -> float | None:
    """The best score of the submissions before this one, from Gradescope's submission_metadata.json; None without."""
    try:
        before = json.loads(metadata.read_text(encoding="utf-8"))["previous_submissions"]
        scores = [one.get("score") for one in before if not one.get("autograder_error") and scored(one)]
        return max((float(score) for score in scores if score is not None), default=None)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def scored(submission: dict) -> bool:
    """Whether a submission was given a score, other than the 0 that stands where there was none."""
    return "score" in (submission.get("results") or {"score": None})


def gradescope(verdict: Verdict, earlier: float | None = None) -> dict:
    """Gradescope's results.json: https://gradescope-autograders.readthedocs.io/en/latest/specs/ .

    What could not be measured costs nothing: the score is then the best earlier one, if that is higher than what is
    certain now. Without an earlier one there is no score, nor points that Gradescope would add up to one: it shows a
    failed run, and this text.
    """
    evidence = verdict.evidence
    final = not verdict.inconclusive or earlier is not None
    score = {"score": verdict.score} if final else {}
    lines = [headline(verdict), *map(speeds, verdict.scaling), *([] if evidence.bad else [stage_line(verdict)])]
    if verdict.inconclusive and earlier is not None:
        score = {"score": max(earlier, verdict.score)}
        lines.insert(1, f"Until then the score is {score['score']:g}, your best so far. {AGAIN}")
    elif verdict.inconclusive:
        lines.insert(1, f"So there is no score yet. {AGAIN}")
    return {
        **score, "execution_time": round(evidence.seconds), "output": "\n".join(lines),
        "output_format": "text", "stdout_visibility": "hidden", "visibility": "visible",
        "tests": [test for position, row in enumerate(verdict.rows, 1) for test in tests_of(row, position, final)],
        "leaderboard": [place for scaling in verdict.scaling for place in leaderboard(scaling)],
        "extra_data": {
            "exit_code": verdict.exit_code, "inconclusive": verdict.inconclusive, "max_score": verdict.most,
            "stage": stage(verdict), "sandbox": evidence.sandbox, "not_protected": evidence.lacks,
            "timing": evidence.timing.to_json() if evidence.timing else None,
            "scaling": [asdict(scaling) for scaling in verdict.scaling],
        },
    }  # fmt: skip


def tests_of(row: Row, position: int, final: bool) -> Iterator[dict]:
    """A row as Gradescope has it, and what of it is for the instructor; with points only where they are final."""
    test = {
        "name": row.title, "output": row.reason, "output_format": "text",
        "visibility": "visible", "number": str(position), "tags": [row.name],
    }  # fmt: skip
    if final and row.status != INCONCLUSIVE:
        test |= {"score": row.score, "max_score": row.most}
    if row.status in (PASSED, FAILED, PARTIAL):
        test["status"] = "passed" if row.status == PASSED else "failed"
    yield test
    if row.private:
        yield {
            "name": f"{row.title}, for the instructor", "output": row.private,
            **({"score": 0, "max_score": 0} if final else {}),
            "output_format": "text", "visibility": "hidden", "number": f"{position}.1", "tags": [row.name],
        }  # fmt: skip


def leaderboard(scaling: Scaling) -> list[dict]:
    """What Gradescope ranks by."""
    return [
        {"name": f"E_{scaling.k} (self-scaling)", "value": round(scaling.threads.median, 2), "order": "desc"},
        {"name": f"S_{scaling.k} (speedup)", "value": round(scaling.speedup.median, 2), "order": "desc"},
    ]


# --------------------------------------------------------------------------------------------------------- report.html


def template(path: Path) -> Template:
    """A page to fill in; what is filled in is escaped."""
    loader = FileSystemLoader(path.parent)
    return Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True).get_template(path.name)


def html(verdict: Verdict, instructor: bool = False, schedule: str = SCHEDULE) -> str:
    """A page that needs nothing but itself; schedule: where the page of a failing schedule is, "" for nowhere."""
    return template(Path(__file__).with_name("report.html")).render(
        verdict=verdict, rows=[(row, MARKS[row.status][0], points_text(row)) for row in verdict.rows],
        headline=headline(verdict), stage="" if verdict.evidence.bad else stage_line(verdict),
        plots=plots(verdict.scaling) if verdict.scaling else [], speeds=[speeds(s) for s in verdict.scaling],
        instructor=instructor, schedule=schedule if page_of(verdict) else "",
        evidence=verdict.evidence,
    )  # fmt: skip


def page_of(verdict: Verdict) -> str:
    """The page of a failing schedule, "" if there is none."""
    findings = verdict.evidence.findings
    return findings.page if findings else ""


WIDTH, HEIGHT, LEFT, BOTTOM, TOP, RIGHT = 430, 300, 36, 42, 30, 112
Point = tuple[int, float, float, float]  # workers, median, lower and upper end of the interval


def plots(scaling: list[Scaling]) -> list[dict[str, Any]]:
    """Speedup over the number of workers: against the program itself, which earns the points, and against serial."""
    most, one = max(s.k for s in scaling), (1, 1.0, 1.0, 1.0)
    itself: dict[str, Any] = {
        "ideal": ("ideal", [one, (most, most, most, most)]),
        "capacity": ("capacity C", [one, *((s.k, *s.capacity) for s in scaling)]),
        "self": ("yours: E", [one, *((s.k, *s.threads) for s in scaling)]),
    }
    serial: dict[str, Any] = {
        "serial": ("yours: S", [(1, *scaling[0].algorithm), *((s.k, *s.speedup) for s in scaling)])
    }
    return [plot("times as fast as on 1 worker", itself), plot("times as fast as the serial program", serial)]


def plot(title: str, series: dict[str, tuple[str, list[Point]]]) -> dict[str, Any]:
    """What the page needs to draw it; series: name -> (label, points). The name is the CSS class."""
    ks = sorted({k for _, points in series.values() for k, *_ in points})
    highest = max(high for _, points in series.values() for *_, high in points) * 1.08

    def x(k: float) -> float:
        return LEFT + (k - 1) / max(1, ks[-1] - 1) * (WIDTH - LEFT - RIGHT)

    def y(speedup: float) -> float:
        return HEIGHT - BOTTOM - speedup / highest * (HEIGHT - BOTTOM - TOP)

    lines, labels = [], []
    for name, (label, points) in series.items():
        dots = [
            {"x": x(k), "y": y(median), "low": y(low), "high": y(high), "text": f"{label}, {k} workers: {median:.2f}"}
            for k, median, low, high in points
        ]
        lines.append((name, dots))
        labels.append([dots[-1]["y"], name, label if name == "ideal" else f"{label} {points[-1][1]:.2f}"])
    labels.sort()
    for before, after in pairwise(labels):
        after[0] = max(after[0], before[0] + 15)  # no label over another
    return {
        "title": title, "lines": lines, "labels": labels, "ticks": [(tick, y(tick)) for tick in ticks(highest)],
        "ks": [(k, x(k)) for k in ks],
        "width": WIDTH, "height": HEIGHT, "left": LEFT, "right": WIDTH - RIGHT, "bottom": HEIGHT - BOTTOM,
    }  # fmt: skip


def ticks(highest: float) -> list[float]:
    """Round numbers from 0 to `highest`, at most nine."""
    step = next(step for step in (0.5, 1, 2, 5, 10, 20, 50, 100, 1000, 10000) if highest / step < 9 or step == 10000)
    return [step * i for i in range(int(highest / step) + 1)]


# ------------------------------------------------------------------------------------------------------------- writing


def remove_older(folder: Path) -> None:
    """Whatever happens from here on, no earlier grade is taken for this one. Raises WriteError."""
    for name in ("results.json", "report.html", SCHEDULE):
        remove(folder / name)


def write(verdict: Verdict, folder: Path, instructor: bool = False, earlier: float | None = None) -> None:
    """results.json, report.html and, if a schedule fails, its page. Raises WriteError."""
    write_json(folder / "results.json", gradescope(verdict, earlier), indent=1)
    write_text(folder / "report.html", html(verdict, instructor))
    if page_of(verdict):
        write_text(folder / SCHEDULE, page_of(verdict))


def write_failure(folder: Path, reason: str) -> None:
    """results.json without a score, for a run that could not grade: Gradescope shows the reason. Raises WriteError."""
    output = f"This run could not grade: {reason}. {AGAIN}, or ask your instructor."
    write_json(folder / "results.json", {"output": output, "output_format": "text", "tests": []}, indent=1)
