"""What leaves the gradebook: a CSV for the course's own book, and for each student results.json and a feedback page."""

import csv
import io
import re
from collections.abc import Sequence
from hashlib import sha256
from html import escape
from pathlib import Path

from grader.classroom.policy import Standing
from lab.files import write_json, write_text

UNSAFE = re.compile(r"[^\w.-]+")
FORMULA = ("=", "+", "-", "@", "\t", "\r")  # what a spreadsheet would compute


def file_name(student: str) -> str:
    """A student's id as the name of a file: readable, and no two the same."""
    safe = UNSAFE.sub("_", student).strip(".")[:60]
    return safe if safe and safe == student else f"{safe}-{sha256(student.encode()).hexdigest()[:6]}"


def row_names(standings: Sequence[Standing]) -> list[str]:
    """All rows that occur in the reports, in their order; "threads" of the untimed is in the others' "threads-2"."""
    shown = (test for standing in standings for test in public(standing.report)["tests"])
    names = dict.fromkeys(name for test in shown for name in test.get("tags", []))
    timed = {re.sub(r"-\d+$", "", name) for name in names if re.search(r"-\d+$", name)}
    return [name for name in names if name not in timed]


def cell(value: object) -> object:
    """A value that stays text in a spreadsheet."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def gradebook_csv(standings: Sequence[Standing]) -> str:
    """One line for each student: id, name, score, status, days late, submissions, host, then the score of each row."""
    rows = row_names(standings)
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["id", "name", "score", "status", "days late", "submissions", "graded", *rows])
    for s in standings:
        scores = [(s.row(name) or {}).get("score", "") for name in rows]
        graded = s.record.result.graded[:19] if s.record.result else ""
        line = [s.student, s.name, s.score, s.status, s.days_late, s.submissions, graded, *scores]
        writer.writerow(map(cell, line))
    return out.getvalue()


def write_exports(standings: Sequence[Standing], folder: Path) -> list[Path]:
    """grades.csv, results/<student>.json and feedback/<student>.html. Raises WriteError."""
    paths = [write_text(folder / "grades.csv", gradebook_csv(standings))]
    for standing in standings:
        name, report = file_name(standing.student), standing.report or {"output": standing.status, "tests": []}
        paths.append(write_json(folder / "results" / f"{name}.json", public(report)))
        paths.append(write_text(folder / "feedback" / f"{name}.html", feedback(standing)))
    return paths


def public(report: dict) -> dict:
    """A report without what only the instructor sees."""
    return {**report, "tests": [test for test in report.get("tests", []) if test.get("visibility") != "hidden"]}


def feedback(standing: Standing) -> str:
    """A student's page; a plain one for a submission that could not be graded."""
    result = standing.record.result
    if result and result.page:
        return result.page
    why = standing.report.get("output", "")
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>Feedback</title>'
        "<style>body{font:16px/1.5 system-ui,sans-serif;max-width:40rem;margin:3rem auto;padding:0 1rem;"
        "overflow-wrap:anywhere}</style>"
        f"<h1>{escape(standing.name)}</h1><p>{escape(standing.status)}</p>"
        f"<p>{escape(why) if why != standing.status else ''}</p></html>\n"
    )
