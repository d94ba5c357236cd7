"""Gradescope's autograder: what is in the zip, and what it does in a directory laid out like Gradescope's."""

import json
import os
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from jsonschema import validate

from grader.classroom import gradescope, handout
from grader.classroom.__main__ import main
from grader.examples import BASE
from lab.files import ROOT

SCHEMA = json.loads((Path(__file__).parent / "data" / "gradescope_results.schema.json").read_text())


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """/autograder as it is when the image has been built, but for the environment, which is ours."""
    place = tmp_path_factory.mktemp("autograder")
    try:
        archive = gradescope.build(place, seed=7)
    except handout.HandoutError as error:
        pytest.skip(str(error))
    with zipfile.ZipFile(archive) as packed:
        for info in packed.infolist():
            os.chmod(packed.extract(info, place / "source"), stat.S_IMODE(info.external_attr >> 16))
    (place / "source" / "run_autograder").rename(place / "run_autograder")
    (place / "source" / "lab" / ".venv" / "bin").mkdir(parents=True)
    python = place / "source" / "lab" / ".venv" / "bin" / "python"
    python.write_text(f'#!/bin/sh\nexec env PYTHONPATH=. "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    return place


def hand_in(place: Path, files: dict[str, str]) -> None:
    folder = place / "submission"
    subprocess.run(["rm", "-rf", str(folder)], check=True)
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def result(place: Path) -> dict:
    found = json.loads((place / "results" / "results.json").read_text())
    validate(found, SCHEMA)
    return found


def test_the_zip(place):
    names = {str(path.relative_to(place / "source")) for path in (place / "source").rglob("*") if path.is_file()}
    assert {"setup.sh", "settings.json", "lab/grader/grade.py", "lab/models/tiny_shakespeare.bin"} <= names
    assert not [name for name in names if "solutions/" in name or "examples/" in name or name == "lab/lab/parallel.py"]
    for script in (place / "source" / "setup.sh", place / "run_autograder"):
        assert script.stat().st_mode & 0o111
        subprocess.run(["sh", "-n", str(script)], check=True)


@pytest.mark.long
def test_a_submission_is_graded(place, monkeypatch):
    """Found wherever it lies; timing is left out here, it needs the 124M."""
    hand_in(place, {"work/parallel.py": BASE.read_text(), "notes.txt": "x"})
    grade = gradescope.grade_main
    monkeypatch.setattr(gradescope, "grade_main", lambda words: grade([*words, "--stages", "tokens"]))
    assert gradescope.main([str(place)]) == 0
    found = result(place)
    assert found["score"] > 50 and {"runs", "public"} <= {test["tags"][0] for test in found["tests"]}
    assert stat.S_IMODE((place / "source" / gradescope.SETTINGS).stat().st_mode) == 0o600  # it holds the seed


def test_nothing_to_grade_is_said_with_no_points(place):
    hand_in(place, {"notes.txt": "x"})
    done = subprocess.run(
        [str(place / "run_autograder")], cwd="/", capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    assert result(place)["score"] == 0 and "no parallel.py was handed in" in result(place)["output"]


def test_a_wrong_points_table_is_one_line(tmp_path, capsys):
    (tmp_path / "my.toml").write_text("[scaling]\nfull = 'x'\n")
    assert main(["gradescope", "--out", str(tmp_path), "--points", str(tmp_path / "my.toml")]) == 2
    assert len(capsys.readouterr().err.strip().splitlines()) == 1


def test_it_is_the_same_byte_for_byte_for_a_seed(tmp_path):
    if not (ROOT / ".git").exists():
        pytest.skip("no git checkout")
    assert gradescope.build(tmp_path / "a", 7).read_bytes() == gradescope.build(tmp_path / "b", 7).read_bytes()
