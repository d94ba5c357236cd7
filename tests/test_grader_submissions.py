"""Every wrong submission gets its verdict and the real reason; every attack gains nothing.

What is expected of a file stands in comments at its head: grader/examples.
"""

import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from unittest.mock import patch

import pytest
from grader_boxes import backend, limits_bind, watched_cases

from grader import cases, examiner, grade, inside, sandbox, threads
from grader.cases import Case, CaseSet
from grader.child import Patience
from grader.correctness import Outcome
from grader.examples import ATTACKS, BASE, WRONG, head, program, timings
from grader.points import load
from grader.verdict import Verdict, judge
from grader.workspace import temporary_folder

QUICK = Patience(start=20.0, token=3.0, idle=1.0)
NEVER = ("deaf", "livelock")  # compute for ever without a token, so nothing is gained by waiting for one
LIMITS = sandbox.Limits(memory=768 << 20)


@pytest.fixture(scope="session")
def box() -> sandbox.Sandbox:
    """The best sandbox of this machine; submissions of others are not run without one."""
    try:
        return sandbox.choose(required=True)
    except sandbox.SandboxError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def binding(box: sandbox.Sandbox) -> bool:
    """Whether limits bind: seen with a harmless probe."""
    return limits_bind(box)


@pytest.fixture(scope="session")
def sets(tmp_path_factory: pytest.TempPathFactory, once: Callable) -> list[CaseSet]:
    """All cases, made once."""
    return once("cases", lambda: grade.case_sets(tmp_path_factory.mktemp("cases"), grade.Options()))


def graded(path: Path, box: sandbox.Sandbox, sets: list[CaseSet], folder: Path) -> Verdict:
    """The verdict on a file: tokens for real, the timing generated, if it asks for one."""
    wanted = head(path)
    submission = folder / "parallel.py"
    submission.write_text(program(path))
    some = [replace(s, cases=chosen(s, wanted)) for s in sets]
    patience = replace(QUICK, token=0.5) if path.stem in NEVER else QUICK
    options = grade.Options(sandbox=box, stages=("tokens",), sets=some, patience=patience, limits=LIMITS)
    with patch.object(inside, "SECONDS", 0.0), patch.object(cases, "inside_cases", lambda *_: watched_cases()[1:]):
        verdict = grade.grade(submission, options)
    if "timing" in wanted:
        evidence = verdict.evidence
        evidence.timing = timings.named(wanted["timing"][0])
        evidence.timing.recorded = {2: RECORDED.get(path.stem, {})}
        verdict = judge(evidence)
    return verdict


def chosen(case_set: CaseSet, wanted: dict[str, list[str]]) -> tuple[Case, ...]:
    """The cases of the kinds that a file asks for; else two for 2 workers, one whole and one closed early."""
    kinds = wanted.get("cases", ["2 workers"])[0].split(", ")
    found = tuple(case for case in case_set.cases if case.kind in kinds)
    return found if "cases" in wanted else found[1:3]


RECORDED = {  # what a run with the recorder said
    "uneven": {
        "seconds": 1.0,
        "threads": {
            "worker-1": {"task": 0.8, "tasks": 50, "wait": {"Semaphore start 0 (parallel.py:23)": 0.1}},
            "worker-2": {"task": 0.2, "tasks": 50, "wait": {"Semaphore start 1 (parallel.py:23)": 0.7}},
        },
    }
}


def check_expectations(path: Path, verdict: Verdict) -> None:
    """Every `expect` line of the file."""
    rows = {row.name: row for row in verdict.rows}
    shown = "\n".join(f"{row.name} {row.status} {row.score}: {row.reason}" for row in verdict.rows)
    for line in head(path)["expect"]:
        name, status, phrase = re.fullmatch(r"(\S+) (\w+) \| ?(.*)", line).groups()
        assert rows[name].status == status, f"{line}\n{shown}"
        assert phrase in rows[name].reason, f"{line}\n{shown}"


@pytest.mark.parametrize("path", [path for path in WRONG if "expect" in head(path)], ids=lambda path: path.stem)
def test_wrong_submission(path: Path, box: sandbox.Sandbox, sets: list[CaseSet], tmp_path: Path) -> None:
    verdict = graded(path, box, sets, tmp_path)
    check_expectations(path, verdict)
    assert verdict.exit_code == 1


@pytest.mark.parametrize("path", [path for path in ATTACKS if "expect" in head(path)], ids=lambda path: path.stem)
def test_attack_gains_nothing(
    path: Path, box: sandbox.Sandbox, sets: list[CaseSet], binding: bool, tmp_path: Path
) -> None:
    if box.backend != "bubblewrap" and not box.seals_files:
        pytest.skip("without bubblewrap and Landlock some attacks would litter /tmp")
    if "dangerous" in head(path) and not binding:
        pytest.skip("limits do not bind here")
    gains_nothing(path, box, sets, tmp_path)


@pytest.mark.parametrize("path", [path for path in ATTACKS if "sandboxes" in head(path)], ids=lambda path: path.stem)
@pytest.mark.parametrize("name", ["other-user", "limits"])
def test_attack_gains_nothing_in_other_sandboxes(
    path: Path, name: str, box: sandbox.Sandbox, sets: list[CaseSet], tmp_path: Path
) -> None:
    other = backend(name)
    if other.backend == box.backend:
        pytest.skip("tried before")
    if not (other.seals_files and other.refuses_processes):
        pytest.skip("this kernel lacks seccomp or Landlock")
    gains_nothing(path, other, sets, tmp_path)


def gains_nothing(path: Path, box: sandbox.Sandbox, sets: list[CaseSet], folder: Path) -> None:
    """Grade an attack, and look at the verdict and at what is left."""
    before = {place: set(os.listdir(place)) for place in LITTERED}
    verdict = graded(path, box, sets, folder)
    check_expectations(path, verdict)
    assert verdict.exit_code == 1
    rows = {row.name: row for row in verdict.rows}
    scaling = sum(row.score for name, row in rows.items() if name.startswith(("threads", "speed")))
    assert scaling == 0
    if not verdict.evidence.right:  # without the right tokens: no more than "it runs"
        assert verdict.score <= verdict.evidence.points.points["runs"]
    shown = json.dumps([row.reason for row in verdict.rows])
    assert not any(str(list(o.case.prompt))[1:-1] in shown.replace("_", ", ") for o in hidden(verdict))
    assert not processes_of_submissions()
    assert os.listdir(folder) == ["parallel.py"]
    for place, there in before.items():
        new = {
            name
            for name in set(os.listdir(place)) - there
            if re.match(r"results|report|kept|fill|numpy|site|user|stdout", name)
        }
        assert not new, place


def hidden(verdict: Verdict) -> list[Outcome]:
    """The hidden cases with prompts long enough to be recognised."""
    return [o for o in verdict.evidence.correctness.of(hidden=True) if len(o.case.prompt) > 2]


@pytest.mark.parametrize("path", [path for path in ATTACKS if "checked" in head(path)], ids=lambda path: path.stem)
def test_attacks_on_the_thread_checks_cost_points(path: Path, box: sandbox.Sandbox) -> None:
    kind, _, phrase = head(path)["checked"][0].partition(" | ")
    with temporary_folder() as name:
        tree = grade.build_tree(Path(name) / "check", (*grade.GIVEN, *grade.files_of("check")), program(path))
        found = threads.explore(box, tree, seconds=0.5, schedules=20)
    assert [(finding.kind, phrase in finding.message) for finding in found.findings] == [(kind, True)], found
    assert found.worth_points(load().deductions)


def test_the_control_of_the_thread_checks_has_time_of_its_own(tmp_path: Path) -> None:
    control = tmp_path / "control.py"
    control.write_text(threads.CONTROL)
    how = {"schedules": 3, "seed": 1, "workers": 2, "seconds": 1e-9}  # so busy is the machine
    found = examiner.examined({"submission": str(BASE), "control": str(control), "how": how})
    assert found["control"] == ["deadlock"] and found["found"]["findings"]


LITTERED = [
    place for place in ("/tmp", "/var/tmp", "/dev/shm", "/", str(Path(__file__).parents[1])) if os.path.isdir(place)
]


def processes_of_submissions() -> list[str]:
    """Processes that belong to a user id of the sandbox's making and to this test's children."""
    found = []
    for child in sandbox.children_of(os.getpid()):
        try:
            found.append(Path(f"/proc/{child}/cmdline").read_bytes().replace(b"\0", b" ").decode()[:200])
        except OSError:
            continue
    return [line for line in found if "bwrap" in line]


@pytest.mark.parametrize("path", [path for path in WRONG if "check" in head(path)], ids=lambda path: path.stem)
def test_thread_checks_deduct(path: Path, box: sandbox.Sandbox) -> None:
    with temporary_folder() as name:
        tree = grade.build_tree(Path(name) / "check", (*grade.GIVEN, *grade.files_of("check")), program(path))
        found = threads.explore(box, tree, seconds=20.0, schedules=20)
    assert not found.problem
    assert head(path)["check"][0] in [finding.kind for finding in found.worth_points(load().deductions)]
    assert "<script" in found.page or not any(finding.schedule for finding in found.findings)


def test_there_are_enough() -> None:
    assert len(WRONG) >= 25
    assert len(ATTACKS) >= 25


def test_a_far_slower_program_does_not_hold_the_grader_up(
    box: sandbox.Sandbox, sets: list[CaseSet], tmp_path: Path
) -> None:
    submission = tmp_path / "parallel.py"
    submission.write_text(BASE.read_text())
    impatient = replace(QUICK, cases=0.0)  # used up by the first case
    verdict = grade.grade(submission, grade.Options(sandbox=box, stages=("tokens",), sets=sets, patience=impatient))
    first, *others = verdict.evidence.correctness.outcomes
    assert first.equal
    assert others
    assert all(other.run is None and not other.equal for other in others)
    assert "not run: the cases before it took" in verdict.rows[1].reason


def test_base_is_right(box: sandbox.Sandbox, sets: list[CaseSet], tmp_path: Path) -> None:
    submission = tmp_path / "parallel.py"
    submission.write_text(BASE.read_text())
    verdict = grade.grade(submission, grade.Options(sandbox=box, stages=("tokens",), sets=sets, patience=QUICK))
    assert {row.name: row.status for row in verdict.rows[:-2]} == dict.fromkeys(
        ("runs", "public", "hidden", "imports", "workers", "quiet"), "passed"
    )
