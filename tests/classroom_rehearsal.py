"""python tests/classroom_rehearsal.py [SIZE] [FOLDER]: write an example class of 200, grade it, look at every verdict.

Tokens and thread checks are run in the sandbox, on the tiny model; timings are recorded ones. A submission takes about
six seconds on two cores. What a folder has graded already is kept, so the same command continues.
"""

import csv
import sys
import time
from pathlib import Path

from grader.classroom import example
from grader.classroom.__main__ import main
from grader.classroom.gradebook import GRADED, NOT_GRADED, Gradebook, Result
from lab.files import PROFILES


def rows(result: Result) -> dict[str, str]:
    """Row -> passed, partial or failed."""
    tests = (test for test in result.report["tests"] if test["visibility"] == "visible" and "status" in test)
    return {test["tags"][0]: status(test) for test in tests}


def status(test: dict) -> str:
    """Gradescope knows no partial, but the points tell it from failed."""
    return "partial" if 0 < test.get("score", 0) < test.get("max_score", 0) else test["status"]


def wrong(result: Result | None, what: str, expected: list[str]) -> list[str]:
    """What is not as expected; a hand-in without a program is not graded, all others are."""
    status = NOT_GRADED if what == "nothing" else GRADED
    if result is None or result.status != status:
        return [f"{result.status if result else 'no result'} instead of {status}"]
    found = rows(result)
    return [
        f"{row} {found.get(row, 'missing')} instead of {wanted}"
        for row, wanted in map(str.split, expected)
        if found.get(row) != wanted
    ]


def compare(book: Gradebook, about: Path) -> int:
    """Print what is not as expected, and the sum; returns how many submissions that are."""
    with about.open(encoding="utf-8") as file:
        told = {line["id"]: line for line in csv.DictReader(file)}
    records, bad, checked = book.records(), 0, 0
    attempts = {r.submission.student: r.attempts for r in records}
    for record in records:
        line = told[record.submission.student]
        expected = list(filter(None, line["expected"].split("; ")))
        checked += len(expected)
        if found := wrong(record.result, line["what"], expected):
            bad += 1
            print(f"{line['id']} {line['what']}: {'; '.join(found)}")
    lost = told.keys() - attempts.keys()
    twice = [student for student, count in attempts.items() if count != 1]
    print(f"{len(records)} submissions, {checked} expectations: {bad} not as expected, {len(lost)} lost, "
          f"{len(twice)} without exactly one result")  # fmt: skip
    return bad + len(lost) + len(twice)


def rehearse(size: int, folder: Path) -> int:
    """Returns the exit code."""
    begin = time.monotonic()
    submissions, recorded, policy, about = example.write(folder, size)
    code = main([
        "grade", str(submissions), "--out", str(folder), "--timings", str(recorded), "--policy", str(policy),
    ])  # fmt: skip
    with Gradebook(folder / "gradebook.sqlite") as book:
        bad = compare(book, about)
    print(f"{time.monotonic() - begin:.0f} s")
    return code or int(bad > 0)


if __name__ == "__main__":
    size = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    sys.exit(rehearse(size, Path(sys.argv[2]) if len(sys.argv) > 2 else PROFILES / "rehearsal"))
