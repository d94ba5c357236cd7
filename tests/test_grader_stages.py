"""What a student earns on the way: the starter hardly anything, each stage something."""

import ast
from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from grader import grade, report
from grader.cases import public_cases
from grader.examples import program
from grader.points import load
from grader.sandbox import Sandbox
from grader.verdict import Verdict, judge, stage
from tests.grader_selftest import STAGES

ROOT = grade.LAB.parent
STARTER = ROOT / "handout" / "parallel.py"
pytestmark = pytest.mark.long


def stage_2() -> str:
    """The starter with the workers of the answer to stage 3: what it gives to them is still in one piece."""
    answer = ast.parse(STAGES["stage 3"].read_text())
    workers = [node for node in answer.body if isinstance(node, ast.Import | ast.ImportFrom | ast.ClassDef)]
    assert any(getattr(node, "name", "") == "Workers" for node in workers)
    return "\n".join([STARTER.read_text(), *map(ast.unparse, workers)])


@pytest.fixture(scope="module")
def earned(box, tmp_path_factory, once) -> dict[str, Verdict]:
    """The verdict on each stage, from the public cases alone, untimed."""
    return once("stages", lambda: verdicts(box, tmp_path_factory.mktemp("stages")))


def verdicts(box: Sandbox, folder: Path) -> dict[str, Verdict]:
    """Grade each stage."""
    sources = {"starter": STARTER.read_text(), "stage 2": stage_2()}
    sources |= {name: program(path) for name, path in STAGES.items()}
    public = public_cases(folder)
    sets = [replace(public, cases=tuple(case for case in public.cases if case.kind == "2 workers"))]  # all are right
    found = {}
    for name, source in sources.items():
        path = folder / "parallel.py"
        path.write_text(source)
        found[name] = grade.grade(path, grade.Options(sandbox=box, stages=("tokens",), sets=sets))
    return found


def row(verdict: Verdict, name: str) -> float:
    """The points of a row."""
    return next(row.score for row in verdict.rows if row.name == name)


def test_an_untouched_starter_earns_less_than_20_of_100(earned):
    points = load()
    verdict = earned["starter"]
    assert verdict.evidence.right and row(verdict, "workers") == 0
    assert row(verdict, "public") == pytest.approx(points.tokens["given"] * points.points["public"])
    hidden = points.tokens["given"] * points.points["hidden"]
    assert verdict.score + hidden < 20


def test_every_stage_is_worth_something(earned):
    public = load().points["public"]
    assert row(earned["stage 2"], "workers") == load().points["workers"]
    assert row(earned["stage 2"], "public") == row(earned["starter"], "public")
    assert row(earned["stage 3"], "public") == pytest.approx(load().tokens["products"] * public)
    assert row(earned["stage 4"], "public") == row(earned["stage 5"], "public") == public
    assert row(earned["serial's loops, split"], "public") == row(earned["stage 2"], "public")


def test_the_stage_that_was_reached_is_shown(earned):
    reached = {"starter": 1, "stage 2": 2, "serial's loops, split": 2, "stage 3": 3, "stage 4": 4, "stage 5": 4}
    assert {name: stage(verdict) for name, verdict in earned.items()} == reached  # 5 needs threads that were timed
    verdict = earned["stage 3"]
    line = "stage 3 of the handout: its workers share the products"
    result = report.gradescope(verdict)
    assert line in result["output"] and result["extra_data"]["stage"] == 3
    assert line in report.html(verdict)
    console = Console(record=True, width=100)
    report.show(verdict, console)
    assert line in console.export_text()


def test_what_is_missing_for_more_is_said(earned):
    def reason(name: str) -> str:
        return next(row.reason for row in earned[name].rows if row.name == "public")

    assert "once every worker does a fair share" in reason("starter")
    loops = reason("serial's loops, split")
    assert "once a product takes all positions at once" in loops and "times for" in loops
    assert "once the workers share attention as well" in reason("stage 3")
    assert "fair share" not in reason("stage 4")


def test_who_could_not_be_seen_at_work_earns_what_was_given(earned):
    evidence = earned["stage 5"].evidence
    nothing = replace(evidence.inside, weights=[], used=[], attention=[], problem="with watched arrays it fails")
    verdict = judge(replace(evidence, inside=nothing))
    assert row(verdict, "workers") == 0 and row(verdict, "public") == row(earned["starter"], "public")
    assert any("with watched arrays it fails" in row.reason for row in verdict.rows)
