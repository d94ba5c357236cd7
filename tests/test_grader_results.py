"""The grade, once there is one, is never lost: whatever the terminal can show, whatever was measured before."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from grader import report, threads
from grader.__main__ import main
from grader.points import load
from grader.verdict import FAILED, INCONCLUSIVE, PASSED, Evidence, Row, Verdict
from lab.files import ROOT, WriteError

BAD = "def generate(:\n"


def verdict(*rows: tuple[float, float, str]) -> Verdict:
    """A verdict with rows of (score, most, status)."""
    made = [Row(f"row-{i}", f"row {i}", *row, reason="why") for i, row in enumerate(rows)]
    return Verdict(Evidence("parallel.py", load()), made, [])


UNDECIDED = verdict((60.0, 60.0, PASSED), (0.0, 40.0, INCONCLUSIVE))


def metadata(folder: Path, *submissions: dict) -> Path:
    """A submission_metadata.json."""
    path = folder / "submission_metadata.json"
    path.write_text(json.dumps({"id": 1, "previous_submissions": list(submissions)}))
    return path


def submission(score: float | None, error: bool = False, results: dict | None = None) -> dict:
    """One earlier submission, as Gradescope describes it."""
    results = {"score": score, "tests": []} if results is None else results
    return {"submission_time": "2026-01-01", "score": score, "autograder_error": error, "results": results}


# ---------------------------------------------------------------------------------------------------------- gradescope


def test_what_could_not_be_measured_has_no_score():
    results = report.gradescope(UNDECIDED)
    assert "score" not in results and not any("score" in test or "max_score" in test for test in results["tests"])
    assert "So there is no score yet. Nothing is lost: hand it in again" in results["output"]


def test_an_earlier_score_stands_in_for_what_could_not_be_measured(tmp_path):
    earlier = report.best_earlier_score(metadata(tmp_path, submission(40.0), submission(75.5), submission(70.0)))
    results = report.gradescope(UNDECIDED, earlier)
    assert results["score"] == 75.5 and "the score is 75.5, your best so far" in results["output"]
    assert [test.get("score") for test in results["tests"]] == [60.0, None]
    assert report.gradescope(UNDECIDED, 10.0)["score"] == 60.0
    assert report.gradescope(verdict((60.0, 60.0, PASSED), (0.0, 40.0, FAILED)), earlier)["score"] == 60.0


def test_submissions_without_a_score_are_none(tmp_path):
    none = [submission(90.0, error=True), submission(0.0, results={"output": "undecided", "tests": []})]
    assert report.best_earlier_score(metadata(tmp_path, *none)) is None
    assert report.best_earlier_score(metadata(tmp_path, *none, submission(None), submission(5.0))) == 5.0
    assert report.best_earlier_score(metadata(tmp_path)) is None
    for text in ("", "[]", '{"previous_submissions": 3}', '{"previous_submissions": ["x"]}', "\0"):
        (tmp_path / "odd").write_text(text)
        assert report.best_earlier_score(tmp_path / "odd") is None
    assert report.best_earlier_score(tmp_path / "nosuch") is None


# --------------------------------------------------------------------------------------------------------- the command


@pytest.fixture
def out(tmp_path) -> Path:
    """A folder with somebody else's grade in it."""
    folder = tmp_path / "out"
    folder.mkdir()
    for name in ("results.json", "report.html"):
        (folder / name).write_text("of the student before")
    return folder


def test_a_file_that_is_not_there_is_an_error_not_a_grade(tmp_path, out, capsys):
    os.mkfifo(pipe := tmp_path / "pipe.py")
    for path, said in (
        (tmp_path / "nosuch.py", "no such file"), (tmp_path, "a folder; name the file in it"),
        (pipe, "not an ordinary file"),
    ):  # fmt: skip
        assert main([str(path), "--out", str(out), "--exit-zero"]) == 2
        shown, err = capsys.readouterr()
        assert shown == "" and err == f"{path}: {said}\n"
        results = json.loads((out / "results.json").read_text())
        assert "score" not in results and f"{path}: {said}" in results["output"]
        assert not (out / "report.html").exists()


DEADLOCK = """
from lab.threadlib import Semaphore, join, spawn


def generate(model, prompt, n, workers):
    never = Semaphore(0, "never")
    spawn(lambda number: never.P())
    join()
    yield 0
"""


def test_a_schedule_that_fails_becomes_a_page_beside_the_report(tmp_path, out):
    stuck, bad = tmp_path / "stuck.py", tmp_path / "bad.py"
    stuck.write_text(DEADLOCK)
    bad.write_text(BAD)
    assert main([str(stuck), "--stages", "checks", "--out", str(out)]) == 1
    assert '<a href="schedule.html">' in (out / "report.html").read_text()
    page = (out / "schedule.html").read_text()
    assert "semaphore never" in page and str(tmp_path) not in page and "/lab/parallel.py" not in page
    assert main([str(bad), "--out", str(out)]) == 1
    assert not (out / "schedule.html").exists() and "schedule.html" not in (out / "report.html").read_text()


def test_what_is_no_trace_becomes_no_page():
    finding = {"kind": "deadlock", "message": "m", "detail": "", "where": [], "schedule": "v2k3:"}
    assert threads.page_of(None, [finding]) == "" == threads.page_of({}, [{**finding, "schedule": ""}])
    assert threads.page_of({"source": "x" * threads.LONGEST_PAGE}, [finding]) == ""
    assert "<script>alert" not in threads.page_of({"program": "<script>alert(1)</script>"}, [finding])


def test_exit_codes(tmp_path, out):
    bad = tmp_path / "bad.py"
    bad.write_text(BAD)
    assert main([str(bad), "--out", str(out)]) == 1
    assert main([str(bad), "--out", str(out), "--exit-zero"]) == 0
    assert main([str(bad), "--out", str(bad / "x")]) == 2


def test_a_grade_that_cannot_be_written_is_shown(tmp_path, out, capsys, monkeypatch):
    bad = tmp_path / "bad.py"
    bad.write_text(BAD)

    def full(path: Path, text: str) -> None:
        raise WriteError(errno.ENOSPC, "No space left on device", str(path))

    monkeypatch.setattr(report, "write_text", full)
    assert main([str(bad), "--out", str(out)]) == 2
    shown, err = capsys.readouterr()
    assert "syntax error" in shown and err.endswith("report.html: cannot be written: No space left on device\n")


@pytest.mark.parametrize(
    ("redirection", "encoding"),
    [
        ("| head -n 1", "utf-8"),
        (">/dev/full", "utf-8"),
        (">&-", "utf-8"),
        ("", "ascii"),
        ("", "gbk"),
        ("2>&-", "utf-8"),
    ],
)
def test_the_grade_is_written_whatever_the_terminal_can_show(tmp_path, out, redirection, encoding):
    name = os.fsdecode(b"caf\xe9 ada.py")
    (tmp_path / name).write_text(BAD)
    run = subprocess.run(
        ["bash", "-c", f'{sys.executable} -m grader "$1" --out "$2" {redirection}', "bash", tmp_path / name, out],
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONIOENCODING": encoding},
        cwd=tmp_path,
        capture_output=True,
    )
    assert b"Traceback" not in run.stdout + run.stderr
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert results["score"] == 0 and "syntax error" in results["tests"][0]["output"]
    assert "syntax error" in (out / "report.html").read_text(encoding="utf-8")
    if not redirection:
        assert run.returncode == 1 and b"x  runs" in run.stdout
