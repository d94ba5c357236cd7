"""What students get: everything they need, nothing that the instructor keeps."""

import json
import os
import re
import subprocess
import zipfile
from functools import cache
from pathlib import Path

import pytest

from grader.classroom import handout
from grader.classroom.__main__ import main
from grader.classroom.proof import QUICK
from lab.files import ROOT


@pytest.fixture(scope="module")
def there() -> dict[str, bytes]:
    try:
        return handout.files()
    except handout.HandoutError as error:
        pytest.skip(str(error))


def test_it_holds_what_a_student_needs_and_no_more(there):
    assert {
        "Makefile",
        "README.md",
        "LICENSE",
        "docs/handout.md",
        "handout/parallel.py",
        "lab/serial.py",
    } <= there.keys()
    assert {"grader/grade.py", "grader/points.toml", "models/tiny_shakespeare.bin", "make/setup.sh"} <= there.keys()
    kept = re.compile(r"^(solutions|tests/(?!zoo/)|grader/(classroom|examples)|lab/(parallel|cached)\.py|\.git/|\.ci/)")
    assert not [name for name in there if kept.search(name) or name.endswith(".pyc")]


def test_nothing_of_the_model_answers_is_in_it(there):
    assert handout.leaks(there) == []


LEAKS = {
    "a whole answer": ("lab/train/helper.py", lambda: (ROOT / "lab" / "parallel.py").read_text()),
    "a stage's answer in another folder": ("docs/answer.py", lambda: (ROOT / "solutions" / "stage4.py").read_text()),
    "a line in a text": ("docs/hint.md", lambda: f"Write\n\n    {a_line()}\n"),
    "a line in a notebook": (
        "notebooks/9.ipynb",
        lambda: json.dumps({"cells": [{"source": ["x = 1\n", f"    {a_line()}\n"], "outputs": []}]}),
    ),
    "a line in a notebook's output": (
        "notebooks/9.ipynb", lambda: json.dumps({"cells": [{"outputs": [{"text": [f"190  {a_name()}  66 %\n"]}]}]}),
    ),
    "a name in a picture": ("profiles/reference/x.svg", lambda: f"<svg><text>{a_name()}.task 12%</text></svg>"),
    "a forbidden file": ("solutions/README.md", lambda: "nothing"),
    "compiled": ("lab/__pycache__/serial.cpython-311.pyc", lambda: "x"),
}  # fmt: skip


@cache
def known() -> tuple[set[str], set[str]]:
    return handout.secrets_of(handout.files())


def a_line() -> str:
    return max(known()[0], key=len)


def a_name() -> str:
    return max(known()[1], key=len)


@pytest.mark.parametrize("kind", LEAKS)
def test_a_leak_is_found(there, kind):
    name, text = LEAKS[kind]
    some = {given: data for given, data in there.items() if handout.matches(given, ("README.md", *handout.GIVEN))}
    assert [leak for leak in handout.leaks({**some, name: text().encode()}) if leak.startswith(f"{name}: ")]


def test_it_is_the_same_byte_for_byte(there, tmp_path):
    one = handout.build(tmp_path / "a")[1].read_bytes()
    os.utime(ROOT / "README.md")
    (tmp_path / "b" / "handout").mkdir(parents=True)
    for name in ("constraints.txt", "older.py"):
        (tmp_path / "b" / "handout" / name).write_text("from an earlier build")
    place, archive = handout.build(tmp_path / "b")
    assert archive.read_bytes() == one
    with zipfile.ZipFile(archive) as packed:
        assert {name.removeprefix("handout/"): packed.read(name) for name in packed.namelist()} == there
    assert {str(path.relative_to(place)) for path in place.rglob("*") if path.is_file()} == there.keys()


def test_links_lead_somewhere(there):
    folders = {str(parent) for name in there for parent in Path(name).parents}
    for name, data in there.items():
        if name.endswith(".md"):
            for target in re.findall(r"\]\(([^)#\s]+)", data.decode()):
                path = os.path.normpath(Path(name).parent / target)
                assert re.match("[a-z]+:", target) or path in there or path in folders, f"{name}: {target}"


def test_its_texts_speak_of_no_file_that_is_not_there(there):
    paths = re.compile(
        r"(?<![\w/])(?:lab|grader|docs|tests|solutions|notebooks|exercises|handout)/[\w/-]*\w\.(?:py|md|ipynb)"
    )
    written = {"tests/zoo/wrong/NAME.py"}
    for name, data in there.items():
        if name.endswith((".md", ".ipynb")):
            assert b"in README.md" not in data, f"{name}: a student's README is another"
            assert set(paths.findall(data.decode())) <= there.keys() | written, name


def test_its_makefile_has_the_students_verbs(there, tmp_path):
    place, _ = handout.build(tmp_path)
    listed = subprocess.run(["make", "help"], cwd=place, capture_output=True, text=True, check=True).stdout
    verbs = set(re.findall(r"^ +make (\S+)", listed, re.MULTILINE))
    assert verbs >= QUICK.keys() and not verbs & {"class", "handout", "example-class", "test", "lint", "reference"}
    assert "default here: handout/parallel.py" in listed and "ENGINE=   serial instead of a file" in listed
    wrong = subprocess.run(["make", "class"], cwd=place, capture_output=True, text=True, check=False)
    assert "make class: there is no such target" in wrong.stderr


def test_a_folder_that_is_no_handout_stays(there, tmp_path, capsys):
    (tmp_path / "handout").mkdir()
    (tmp_path / "handout" / "mine.txt").touch()
    assert main(["handout", "--out", str(tmp_path), "--proof", "none"]) == 2
    assert "handout: is there, and no handout that was built before" in capsys.readouterr().err
    assert os.listdir(tmp_path) == ["handout"] and os.listdir(tmp_path / "handout") == ["mine.txt"]
    handout.build(tmp_path / "dist")
    handout.build(tmp_path / "dist")
    assert sorted(os.listdir(tmp_path / "dist")) == ["handout", "handout.zip"]


def test_an_earlier_handout_stays_until_the_next_is_whole(there, tmp_path, monkeypatch):
    place, _ = handout.build(tmp_path)
    monkeypatch.setattr(handout, "files", lambda: there | {"lab/" + "x" * 300: b""})  # no file system takes that name
    with pytest.raises(handout.HandoutError, match="cannot be written: File name too long"):
        handout.build(tmp_path)
    assert {str(path.relative_to(place)) for path in place.rglob("*") if path.is_file()} == there.keys()
    assert sorted(os.listdir(tmp_path)) == ["handout", "handout.zip"]


def test_outside_a_checkout_it_is_one_line(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(handout, "ROOT", tmp_path)
    assert main(["handout", "--out", str(tmp_path), "--proof", "none"]) == 2
    error = capsys.readouterr().err.strip()
    assert "is not a git checkout" in error and len(error.splitlines()) == 1
