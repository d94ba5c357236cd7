"""A class: collecting, the gradebook, who counts, exports, similarity. What runs on Dask is in test_grader_cluster."""

import csv
import io
import json
import os
import sqlite3
import stat
import urllib.error
import urllib.request
import zipfile
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path

import pytest
from classroom_rehearsal import wrong as rehearsal_wrong
from classroom_stub import report
from rich.console import Console

from grader.classroom import collect as collecting
from grader.classroom import example, page, watch
from grader.classroom.__main__ import main, progress
from grader.classroom.collect import CollectError, Submission, collect
from grader.classroom.exports import file_name, gradebook_csv, write_exports
from grader.classroom.gradebook import GRADED, INCONCLUSIVE, VERSION, Gradebook, GradebookError, Result
from grader.classroom.policy import Policy, chosen, read_policy, standings
from grader.classroom.similar import Pair, fingerprints, groups, similar
from grader.classroom.task import Settings
from grader.examples import BASE
from grader.grade import NOT_ASKED
from grader.points import PointsError, load

NOON = datetime(2026, 11, 20, 12, tzinfo=UTC)


def lay_out(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def zipped(files: dict[str, str | bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return out.getvalue()


GRADESCOPE = """\
submission_11:
  :created_at: 2026-11-20 12:00:00.000000000 Z
  :submitters:
  - :name: Ada Lovelace
    :sid: '1815'
    :email: ada@example.com
submission_12:
  :created_at: 2026-11-21 12:00:00.000000000 Z
  :submitters:
  - :name: Grace Hopper
    :sid:
    :email: grace@example.com
  - :name: 李明
    :sid: '7'
"""

SHAPES = {
    "Gradescope": (
        {
            "export/submission_metadata.yml": GRADESCOPE, "export/submission_11/parallel.py": "a",
            "export/submission_12/lab/parallel.py": "g", "export/submission_12/other.py": "x",
        },
        [("1815", "Ada Lovelace", b"a"), ("7", "李明", b"g"), ("grace@example.com", "Grace Hopper", b"g")],
    ),
    "Moodle": (
        {
            "Ada Lovelace_12_assignsubmission_file_/parallel.py": "a",
            "李明_13_assignsubmission_file_/parallel.py": "l",
        },
        [("12", "Ada Lovelace", b"a"), ("13", "李明", b"l")],
    ),
    "Moodle, flat": (
        {"Ada Lovelace_12_assignsubmission_file_parallel.py": "a", "Grace_13_assignsubmission_file_parallel.py": "g"},
        [("12", "Ada Lovelace", b"a"), ("13", "Grace", b"g")],
    ),
    "Canvas": (
        {"lovelaceada_101_9001_parallel.py": "a", "hoppergrace_LATE_102_9002_parallel-1.py": "g"},
        [("101", "lovelaceada", b"a"), ("102", "hoppergrace", b"g")],
    ),
    "GitHub Classroom": (
        {
            "gpt-lab-ada/parallel.py": "a", "gpt-lab-ada/README.md": "", "gpt-lab-grace-h/lab/parallel.py": "g",
            "gpt-lab-grace-h/handout/parallel.py": "the starter",
        },
        [("ada", "ada", b"a"), ("grace-h", "grace-h", b"g")],
    ),
    "Moodle, one student who packed the repository": (
        {f"Ada_12_assignsubmission_file_/gpt-lab/{folder}/parallel.py": folder for folder in ("handout", "lab")},
        [("12", "Ada", b"lab")],
    ),
    "Moodle, files and text": (
        {
            "Ada_12_assignsubmission_file_/parallel.py": "a", "Ada_12_assignsubmission_onlinetext_/onlinetext.html": "",
            "Bob_13_assignsubmission_onlinetext_/onlinetext.html": "",
        },
        [("12", "Ada", b"a"), ("13", "Bob", b"")],
    ),
    "Moodle, flat, other files": (
        {"Ada_12_assignsubmission_file_parallel.py": "a", "Bob_13_assignsubmission_file_report.pdf": "",
         "Ada_12_assignsubmission_onlinetext_onlinetext.html": ""},
        [("12", "Ada", b"a"), ("13", "Bob", b"")],
    ),
    "Canvas, other files": (
        {"ada_101_9001_parallel.py": "a", "ada_101_9002_notes.txt": "", "bob_LATE_102_9003_report.pdf": ""},
        [("101", "ada", b"a"), ("102", "bob", b"")],
    ),
    "accents of macOS": ({"Zoe\u0308/parallel.py": "z", "Bob/parallel.py": "b"},
                         [("Bob", "Bob", b"b"), ("Zo\u00eb", "Zo\u00eb", b"z")]),
    "folders": ({"ada/parallel.py": "a", "grace/solution.py": "g"}, [("ada", "ada", b"a"), ("grace", "grace", b"g")]),
    "files": ({"ada.py": "a", "grace.py": "g"}, [("ada", "ada", b"a"), ("grace", "grace", b"g")]),
}  # fmt: skip


@pytest.mark.parametrize("packed", [False, True], ids=["folder", "zip"])
@pytest.mark.parametrize("shape", SHAPES)
def test_the_shapes_of_the_platforms(tmp_path, shape, packed):
    files, expected = SHAPES[shape]
    source = tmp_path / "class.zip"
    if packed:
        source.write_bytes(zipped(files))
    else:
        source = lay_out(tmp_path / "class", files)
    assert [(s.student, s.name, s.source) for s in collect(source)] == expected


def test_when_and_late(tmp_path):
    found = collect(lay_out(tmp_path / "g", SHAPES["Gradescope"][0]))
    assert found[0].received == NOON
    found = collect(lay_out(tmp_path / "c", SHAPES["Canvas"][0]))
    assert [s.marked_late for s in found] == [False, True]
    assert [s.received for s in found] == [None, None]  # the files are as old as the download


def test_a_clone_is_no_later_than_what_was_pushed(tmp_path):
    clones = {"lab-ada/.git/HEAD": "", "lab-bob/.git/HEAD": "", "lab-bob/lab/parallel.py": "b"}
    found = collect(lay_out(tmp_path / "class", {**clones, "lab-ada/parallel.py": "a", "lab-eve/parallel.py": "e"}))
    assert [(s.student, s.received is None) for s in found] == [("ada", True), ("bob", True), ("eve", False)]


def test_what_students_say_of_time_and_name_does_not_count(tmp_path):
    """The date in a zip is its maker's, and Gradescope's metadata among a student's files hides nobody."""
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr(zipfile.ZipInfo("parallel.py", (1999, 1, 1, 0, 0, 0)), "a")
    folder = lay_out(tmp_path / "class", {"bob/parallel.py": "b", "eve/parallel.py": "e"})
    (folder / "ada").mkdir()
    (folder / "ada" / "upload.zip").write_bytes(inner.getvalue())
    os.utime(folder / "ada" / "upload.zip", (NOON.timestamp(), NOON.timestamp()))
    told = "bob:\n  :submitters:\n  - :name: Eve\n    :sid: eve\n"
    (folder / "eve" / "submission_metadata.yml").write_text(told)
    found = {s.student: s for s in collect(folder)}
    assert {student: s.source for student, s in found.items()} == {"ada": b"a", "bob": b"b", "eve": b"e"}
    assert found["ada"].received == NOON
    mine = "export/submission_11/submission_metadata.yml"  # in a zip it may come before Gradescope's own
    (tmp_path / "g.zip").write_bytes(zipped({mine: told, **SHAPES["Gradescope"][0]}))
    assert [s.source for s in collect(tmp_path / "g.zip")] == [b"a", b"g", b"g"]
    unpacked = lay_out(tmp_path / "g", {".DS_Store": "", **SHAPES["Gradescope"][0]})
    assert [s.source for s in collect(unpacked)] == [b"a", b"g", b"g"]


def test_a_zip_that_a_student_uploaded(tmp_path):
    folder = tmp_path / "class"
    for student, files in {"ada": {"work/parallel.py": "a"}, "bob": {"x.zip": b"PK"}, "eve": {"notes.txt": ""}}.items():
        (folder / student).mkdir(parents=True)
        (folder / student / "upload.zip").write_bytes(zipped(files))
    (folder / "mal").mkdir()
    (folder / "mal" / "upload.zip").write_bytes(b"no zip")
    found = {s.student: (s.source, s.problem) for s in collect(folder)}
    assert found["ada"] == (b"a", "")
    assert found["bob"][1] == "upload.zip holds another zip file; expected parallel.py"
    assert found["eve"][1] == "no parallel.py was handed in (found: notes.txt)"
    assert found["mal"][1] == "upload.zip is not a readable zip file"


@pytest.mark.parametrize(
    "name", ["../../evil/parallel.py", "/etc/parallel.py", "C:\\parallel.py", "ada/../../parallel.py"]
)
def test_zip_slip_is_named_and_nothing_is_written(tmp_path, name):
    (tmp_path / "class.zip").write_bytes(zipped({"bob/parallel.py": "b", name: "evil", "eve/parallel.py": "e"}))
    found = collect(tmp_path / "class.zip")
    assert all(s.source != b"evil" for s in found)
    assert {b"b", b"e"} <= {s.source for s in found}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["class.zip"]


def test_links_are_not_followed(tmp_path):
    (tmp_path / "secret.py").write_text("the solution")
    folder = lay_out(tmp_path / "class", {"bob/parallel.py": "b", "eve/notes.txt": "x"})
    (folder / "eve" / "parallel.py").symlink_to(tmp_path / "secret.py")
    (folder / "ann").symlink_to(tmp_path)
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        info = zipfile.ZipInfo("eve/parallel.py")
        info.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(info, "/etc/passwd")
        archive.writestr("bob/parallel.py", "b")
    (tmp_path / "class.zip").write_bytes(out.getvalue())
    for source in (folder, tmp_path / "class.zip"):
        found = {s.student: s for s in collect(source)}
        assert found["eve"].source == b"" and found["eve"].problem == "parallel.py: not a regular file"
        assert "ann" not in found or not found["ann"].source


def test_sizes_are_bounded_also_of_a_zip_bomb(tmp_path):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("eve/parallel.py", b"#" * (collecting.LARGEST + 1))
        archive.writestr("bob/parallel.py", "b")
    (tmp_path / "class.zip").write_bytes(out.getvalue())
    found = {s.student: s for s in collect(tmp_path / "class.zip")}
    assert found["eve"].problem == "parallel.py is larger than 1024 KB" and found["eve"].source == b""


def test_one_damaged_zip_keeps_nobody_from_being_graded(tmp_path):
    """Whatever its bytes make of zipfile: one line for its student."""
    packed = {name: bytearray(zipped({"parallel.py": "a" * 3000})) for name in ("name", "version", "data")}
    with zipfile.ZipFile(out := io.BytesIO(), "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("parallel.py", bytes(range(256)) * 20)
    packed["data"] = bytearray(out.getvalue())
    packed["data"][60:90] = b"\xff" * 30
    packed["name"][packed["name"].rindex(b"parallel.py")] = 0  # a name of no letters
    packed["version"][packed["version"].index(b"PK\1\2") + 6] = 255
    (folder := tmp_path / "class").mkdir()
    (folder / "bob.py").write_text("b")
    for name, data in packed.items():
        (folder / f"{name}.zip").write_bytes(data)
    found = {s.student: s for s in collect(folder)}
    assert found["bob"].source == b"b"
    assert found["version"].problem == "version.zip is not a readable zip file"
    assert found["name"].problem == "no parallel.py was handed in (found: nothing)"
    assert found["data"].problem.startswith("parallel.py cannot be read: damaged: ")


def test_a_member_without_a_name_and_what_macos_adds_are_nobodys(tmp_path):
    files = {".": "x", "ada/parallel.py": "a", "ada/._parallel.py": "macOS", "bob/._parallel.py": "macOS"}
    (tmp_path / "class.zip").write_bytes(zipped({**files, "._eve.py": "macOS"}))
    assert [(s.student, s.source) for s in collect(tmp_path / "class.zip")] == [("ada", b"a"), ("bob", b"")]
    clutter = {".DS_Store": "", "class/.DS_Store": "", "class/Thumbs.db": "", "class/bob/._x": ""}  # hides no wrapping
    folder = lay_out(tmp_path / "class", {**clutter, "class/ada/parallel.py": "a", "class/eve/parallel.py": "e"})
    assert [(s.student, s.source) for s in collect(folder)] == [("ada", b"a"), ("bob", b""), ("eve", b"e")]


@pytest.mark.parametrize("who", ["ada_101_9001_", "Ada Lovelace_101_assignsubmission_file_"])
@pytest.mark.parametrize("file", ["bob_102_9002_parallel.py", "bob_102_assignsubmission_file_parallel.py"])
def test_the_name_of_a_file_does_not_make_it_somebody_elses(tmp_path, who, file):
    (found,) = collect(lay_out(tmp_path / "class", {who + file: "x"}))
    assert found.student == "101"


def test_a_helper_beside_the_program_is_no_later_submission(tmp_path):
    names = ("ada_101_9001_parallel.py", "ada_101_9002_helper.py", "bob_102_9003_mine.py", "ada_101_9003_parallel-1.py")
    found = collect(lay_out(tmp_path / "class", {name: name for name in names}))
    assert sorted(s.source.decode() for s in found) == [names[0], names[3], names[2]]


def test_a_file_larger_than_the_memory_is_not_read(tmp_path):
    folder = lay_out(tmp_path / "class", {"ada/parallel.py": "", "bob/parallel.py": "b"})
    os.truncate(folder / "ada" / "parallel.py", 1 << 40)
    assert [(s.source, s.problem) for s in collect(folder)] == [(b"", "parallel.py is larger than 1024 KB"), (b"b", "")]


def test_names_in_any_script(tmp_path):
    (folder := tmp_path / "class").mkdir()
    os.mkdir(os.fsencode(folder) + b"/caf\xe9")
    (Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9")) / "parallel.py").write_text("c")
    (found,) = collect(folder)
    assert found.name == "caf\N{REPLACEMENT CHARACTER}" and found.source == b"c"
    (found,) = collect(lay_out(tmp_path / "class2", {"a\x1b[31mb/parallel.py": "x"}))
    assert "\x1b" not in found.name
    info = zipfile.ZipInfo("x")
    info.filename = "李明".encode("gb18030").decode("cp437")  # as Python reads what Chinese Windows has packed
    assert collecting.member_name(info) == "李明"
    for name in ("张三", "李四"):  # a folder that unzip has made of such a zip: two students, not one
        place = os.fsencode(tmp_path / "class3") + b"/" + name.encode("gb18030")
        os.makedirs(place)
        Path(os.fsdecode(place), "parallel.py").write_text("x")
    assert [s.student for s in collect(tmp_path / "class3")] == ["张三", "李四"]


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda path: None, "no such folder or zip file"),
        (lambda path: path.write_text("x"), "neither a folder nor a zip file"),
        (lambda path: path.mkdir(), "no submissions found"),
        (lambda path: os.mkfifo(path), "neither a folder nor a zip file"),
        (lambda path: lay_out(path, {"submission_metadata.yml": "- 1"}), "not the metadata that Gradescope exports"),
    ],
)
def test_no_class_is_one_line(tmp_path, make, message):
    make(tmp_path / "class")
    with pytest.raises(CollectError, match=message):
        collect(tmp_path / "class")


# ------------------------------------------------------------------------------------------------------------ gradebook


def submission(student: str, source: str = "x", when: datetime | None = NOON, **more) -> Submission:
    return Submission(student, student.title(), source.encode(), when, **more)


def book_of(path: Path, *entries: tuple[Submission, float | None]) -> Gradebook:
    """A gradebook in which each submission has a result with that score (None: inconclusive)."""
    book = Gradebook(path)
    book.add([s for s, _ in entries])
    scores = {(s.student, s.sha256): score for s, score in entries}
    for record in book.records():
        score = scores[record.submission.student, record.submission.sha256]
        book.store(record.id, Result("m", INCONCLUSIVE if score is None else GRADED, report(score, 1.5), "<h1>hi</h1>"))
    return book


def test_a_submission_is_taken_in_once_and_results_have_a_history(tmp_path):
    with Gradebook(tmp_path / "g.sqlite") as book:
        book.add([submission("ada"), submission("ada"), submission("ada", "y")])
        book.add([submission("ada")])
        first, second = book.records()
        book.store(first.id, Result("m", GRADED, report(50.0, None), graded="1"))
        book.store(first.id, Result("m", GRADED, report(50.0, None), graded="1"))  # the same one is not stored twice
        book.store(first.id, Result("m", GRADED, report(70.0, None), graded="2"))
        assert [record.attempts for record in book.records()] == [2, 0]
        assert [record.result and record.result.score for record in book.records()] == [70.0, None]
        assert second.result is None


def test_one_run_at_a_time_grades_into_a_gradebook(tmp_path, capsys):
    """Two would grade everything twice; reading it meanwhile does no harm, and a run that has ended leaves it free."""
    folder = lay_out(tmp_path / "class", {"ada/notes.txt": "x"})
    with book_of(tmp_path / "gradebook.sqlite", (submission("ada"), 90.0)) as book:
        with book.reserved():
            assert main(["grade", str(folder), "--out", str(tmp_path)]) == 2
            error = capsys.readouterr().err.strip()
            assert "another run is grading into this gradebook" in error and len(error.splitlines()) == 1
            assert main(["report", "--out", str(tmp_path)]) == 0
        with Gradebook(tmp_path / "gradebook.sqlite") as other, other.reserved():
            assert len(other.records()) == 1  # the refused run took nothing in


def test_a_gradebook_without_rights_is_no_other_kind_of_file(tmp_path):
    (tmp_path / "g").mkdir()
    with pytest.raises(GradebookError, match="g: cannot be used: unable to open database file"):
        Gradebook(tmp_path / "g")


def test_a_gradebook_that_cannot_be_used_is_one_line(tmp_path):
    (tmp_path / "text").write_text("not a database, and long enough to be looked at as one " * 30)
    with pytest.raises(GradebookError, match="not a gradebook"):
        Gradebook(tmp_path / "text")
    other = sqlite3.connect(tmp_path / "other")
    other.execute("create table t (x)")
    other.close()
    with pytest.raises(GradebookError, match="an SQLite file, but not a gradebook"):
        Gradebook(tmp_path / "other")
    with Gradebook(tmp_path / "new") as book:
        book.db.execute("update about set value = ?", (str(VERSION + 1),))
    with pytest.raises(GradebookError, match=f"version {VERSION + 1}, this program knows up to {VERSION}"):
        Gradebook(tmp_path / "new")


def test_an_emptied_gradebook_is_no_new_class(tmp_path, capsys):
    """Nor does it replace the grades that were written; one that no run has reserved yet is new."""
    path, grades = tmp_path / "gradebook.sqlite", tmp_path / "grades.csv"
    path.touch()
    with Gradebook(path) as book, book.reserved():
        book.add([submission("ada")])
    grades.write_text("precious")
    path.write_bytes(b"")
    assert main(["report", "--out", str(tmp_path)]) == 2
    assert "empty, but a class was graded into it; put a copy of it back" in capsys.readouterr().err
    assert grades.read_text() == "precious"
    path.unlink()
    with Gradebook(path) as book:
        assert book.records() == []


def test_a_damaged_gradebook_is_one_line(tmp_path, capsys):
    path = tmp_path / "gradebook.sqlite"
    with book_of(path, *((submission("ada", "x" * 9000 + str(i)), 50.0) for i in range(9))) as book:
        book.db.execute("update result set report = '{' where id = 3")
    assert main(["report", "--out", str(tmp_path)]) == 2
    with path.open("r+b") as file:
        file.seek(5 * 4096)
        file.write(b"\xff" * 40000)
    assert main(["report", "--out", str(tmp_path)]) == 2
    for line in capsys.readouterr().err.strip().splitlines():
        assert f"{path}: damaged: " in line, line


def test_a_result_that_cannot_be_written_leaves_the_others(tmp_path):
    with book_of(tmp_path / "g", (submission("ada"), 50.0)) as book:
        book.db.execute("pragma max_page_count = 1")
        (record,) = book.records()
        with pytest.raises(GradebookError, match="cannot be written"):
            book.store(record.id, Result("m", GRADED, {"output": "x" * 100_000}, graded="later"))
        assert [(record.attempts, record.result.score) for record in book.records()] == [(1, 50.0)]


# --------------------------------------------------------------------------------------------------------------- policy


def test_which_submission_counts(tmp_path):
    early, late = submission("ada", "a"), submission("ada", "b", NOON + timedelta(hours=1))
    with book_of(tmp_path / "g", (early, 90.0), (late, 60.0)) as book:
        records = book.records()
        assert chosen(records, Policy()).submission == early
        assert chosen(records, Policy(counts="latest")).submission == late
    with book_of(tmp_path / "h", (early, None), (late, 60.0)) as book:
        assert chosen(book.records(), Policy()).submission == late


def test_lateness(tmp_path):
    path = tmp_path / "policy.toml"
    path.write_text(
        "deadline = 2026-11-20T12:00:00Z\nlast = 2026-11-23T12:00:00Z\ngrace_minutes = 5\npenalty_per_day = 0.1\n"
        "[extensions]\nbob = 2026-11-22T12:00:00Z\nzoe = 2026-11-30T12:00:00Z\n"
    )
    policy = read_policy(path)
    entries = [
        (submission(who, when=NOON + timedelta(minutes=minutes)), 80.0)
        for who, minutes in (("ada", 5), ("eve", 60), ("bob", 49 * 60), ("max", 9 * 1440), ("zoe", 9 * 1440))
    ]
    with book_of(tmp_path / "g", *entries) as book:
        found = {s.student: (s.score, s.days_late, s.status) for s in standings(book.records(), policy)}
    assert found == {
        "ada": (80.0, 0, "graded"), "eve": (72.0, 1, "graded"), "bob": (72.0, 1, "graded"), "max": (0.0, 9, "too late"),
        "zoe": (80.0, 0, "graded"),
    }  # fmt: skip


@pytest.mark.parametrize(
    "text, message",
    [
        ("dedline = 3", "unknown entry dedline"),
        ("deadline = 'monday'", "deadline must be a date and time"),
        ("counts = 'first'", 'counts must be "best" or "latest"'),
        ("penalty_per_day = -1", "penalty_per_day must be a number, 0 to 1$"),
        ("penalty_per_day = inf", "penalty_per_day must be a number, 0 to 1$"),
        ("penalty_per_day = 10", "penalty_per_day must be a number, 0 to 1$"),  # percent are meant
        ("penalty_per_day = true", "penalty_per_day must be a number, 0 to 1$"),
        ("grace_minutes = 1e300", "grace_minutes must be a number, 0 to 1000000"),
        ("deadline = 2026-11-20T12:00:00Z\nlast = 2026-11-20T12:00:00+08:00", "last is before the deadline"),
        ("deadline = 9999-12-31T23:59:59-12:00", "policy.toml: deadline: 9999-12-31 23:59:59-12:00 is before year 1"),
        ("extensions = 3", "holds a time for each student"),
        ("[extensions]\nada = 3", "extensions.ada must be a date and time"),
        ("deadline", "policy.toml"),
    ],
)
def test_a_wrong_policy_is_one_line(tmp_path, text, message):
    (tmp_path / "policy.toml").write_text(text)
    with pytest.raises(PointsError, match=message):
        read_policy(tmp_path / "policy.toml")


# -------------------------------------------------------------------------------------------------------------- exports


def test_the_csv(tmp_path):
    entries = [
        (submission("ada"), 90.0),
        (submission("=1+1"), None),
        (submission("bob", "", problem="no parallel.py"), None),
    ]
    with book_of(tmp_path / "g", *entries) as book:
        lines = list(csv.DictReader(io.StringIO(gradebook_csv(standings(book.records(), Policy())))))
    ada = next(line for line in lines if line["id"] == "ada")
    assert (ada["score"], ada["public"], ada["rest"], ada["status"]) == ("90.0", "20", "70.0", "graded")
    formula = next(line for line in lines if line["id"].startswith("'"))
    assert formula["id"] == "'=1+1" and formula["score"] == "" and formula["status"] == "inconclusive"
    assert next(line for line in lines if line["id"] == "bob")["status"] == "no parallel.py"


def test_what_students_get_has_no_hidden_part(tmp_path):
    with book_of(tmp_path / "g", (submission("ada"), 90.0), (submission("../x"), 10.0)) as book:
        paths = write_exports(standings(book.records(), Policy()), tmp_path / "out")
    assert all(path.resolve().is_relative_to(tmp_path / "out") for path in paths)
    results = json.loads((tmp_path / "out" / "results" / "ada.json").read_text())
    assert results["score"] == 90.0 and "secret" not in json.dumps(results)
    assert (tmp_path / "out" / "feedback" / "ada.html").read_text() == "<h1>hi</h1>"
    assert len({file_name(name) for name in ("a/b", "a?b", "a_b", "..", "李明", "", "-")}) == 7


def test_the_page_escapes_what_students_write(tmp_path):
    nasty = Submission("<b>x</b>", "</script><script>alert(1)</script>", b"x", NOON)
    with book_of(tmp_path / "g", (nasty, 10.0)) as book:
        html = page.render(standings(book.records(), Policy()), [], "<i>t</i>")
    assert "<script>alert" not in html and "<b>x" not in html and "<i>t" not in html


def test_causes_are_no_consequences(tmp_path):
    def failed(name: str, output: str) -> dict:
        return {"name": name, "score": 0, "max_score": 5, "tags": [name], "output": output, "visibility": "visible"}

    tests = [
        failed("tokens", "11 cases; they count in full once attention is shared: 98%, 2%"),
        failed("quiet", "counts once the public cases are right"),
        failed("speed", "the speed of a program with other tokens means nothing; first the public cases"),
    ]
    with book_of(tmp_path / "g", (submission("ada"), 1.0), (submission("eve", "y"), 1.0)) as book:
        for record in book.records():
            book.store(record.id, Result("x", GRADED, {"score": 0, "tests": tests}))
        (only,) = page.causes(standings(book.records(), Policy()))
        assert "numbers in a cause are those of one submission" in page.render(
            standings(book.records(), Policy()), [], ""
        )
    assert only[:2] == ("tokens: they count in full once attention is shared: 98%, 2%", 2)


def test_who_was_not_timed_has_none_of_the_points_for_threads(tmp_path):
    """Not a row of its own, beside that of those who were."""

    def threads(name: str, title: str, score: float) -> dict:
        return {"name": title, "score": score, "max_score": 25.0, "tags": [name], "output": "", "visibility": "visible"}

    with book_of(tmp_path / "g", (submission("ada"), 1.0), (submission("eve", "y"), 1.0)) as book:
        ada, eve = book.records()
        book.store(ada.id, Result("x", GRADED, {"tests": [threads("threads", "threads", 0.0)]}))
        book.store(eve.id, Result("x", GRADED, {"tests": [threads("threads-2", "threads, 2 workers", 25.0)]}))
        lines = standings(book.records(), Policy())
    assert page.stages(lines) == [{"title": "threads, 2 workers", "full": 1, "some": 0, "none": 1}]
    assert [line["threads-2"] for line in csv.DictReader(io.StringIO(gradebook_csv(lines)))] == ["0.0", "25.0"]
    assert page.stages(lines[:1]) == [{"title": "threads", "full": 0, "some": 0, "none": 1}]


def test_what_was_not_asked_for_is_nobodys_failure(tmp_path):
    row = {"name": "speed", "score": 0.0, "max_score": 15.0, "tags": ["speed"], "output": NOT_ASKED}
    with book_of(tmp_path / "g", (submission("ada"), 1.0)) as book:
        (ada,) = book.records()
        book.store(ada.id, Result("x", GRADED, {"tests": [row]}))
        lines = standings(book.records(), Policy())
    assert page.stages(lines) == [] and page.causes(lines) == []


def test_a_thousand_results_are_below_five_megabytes(tmp_path):
    entries = [(submission(f"s{i}", str(i)), float(i % 101)) for i in range(1000)]
    with book_of(tmp_path / "g", *entries) as book:
        html = page.render(standings(book.records(), Policy()), [], "t")
    assert len(html) < 5_000_000 and html.count('class="line"') == 1000


# ----------------------------------------------------------------------------------------------------------- similarity


def test_renaming_and_reformatting_hide_nothing():
    original = (BASE).read_text()
    copy = original.replace("workers", "people").replace("Workers", "Team").replace("# ", "#  ").replace("0.5", "0.50")
    others = {path.stem: path.read_bytes() for path in sorted((Path(__file__).parent / "zoo" / "right").glob("*.py"))}
    programs = {"ada": original.encode(), "eve": copy.encode(), **others}
    pairs = similar(programs)
    assert pairs[0][:2] == ("ada", "eve") and pairs[0].share > 0.9
    assert all({p.first, p.second} == {"ada", "eve"} or p.share < pairs[0].share for p in pairs)


def test_pairs_become_groups():
    pairs = [Pair("d", "e", 1.0), Pair("a", "b", 0.9), Pair("b", "c", 0.8), Pair("a", "c", 0.7), Pair("f", "g", 0.65),
             Pair("c", "f", 0.6)]  # fmt: skip
    assert groups(pairs) == [
        {"who": ["d", "e"], "least": 1.0, "most": 1.0},
        {"who": ["a", "b", "c", "f", "g"], "least": 0.6, "most": 0.9},
    ]
    assert groups([]) == []


def test_the_starter_is_nobody_s_own():
    starter = (BASE).read_bytes()
    assert similar({"ada": starter + b"\nx = 1\n", "eve": starter + b"\ny = [2]\n"}, [starter]) == []


def test_what_is_no_program_has_no_fingerprints():
    assert fingerprints(b"") == frozenset()
    assert fingerprints(b"\xff\xfe(((") == frozenset()


# ---------------------------------------------------------------------------------------------------------------- watch


def test_the_server_is_read_only_and_wants_its_token():
    with watch.serving({"": "the report", "feedback/ada.html": "ada"}.get) as address:
        assert address.startswith("http://127.0.0.1:")
        assert urllib.request.urlopen(address).read() == b"the report"
        assert urllib.request.urlopen(address + "feedback/ada.html").read() == b"ada"
        base = address.rsplit("/", 2)[0]
        for wrong in (f"{base}/", f"{base}/x/", address + "feedback/eve.html"):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                urllib.request.urlopen(wrong)
        with pytest.raises(urllib.error.HTTPError, match="501"):
            urllib.request.urlopen(address, data=b"x")


# --------------------------------------------------------------------------------------------------------- command line


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["grade", "/nowhere"], "/nowhere: no such folder or zip file"),
        (["report", "--out", "/nowhere"], "/nowhere: no gradebook here; grade a class first"),
        (["grade", ".", "--policy", "/nowhere.toml"], "/nowhere.toml: No such file"),
        (["grade", ".", "--stages", "x"], "--stages x: give some of"),
        (["grade", ".", "--cases", "/nowhere.json"], "/nowhere.json: no such file"),
        (["grade", ".", "--timings", "/nowhere.json"], "/nowhere.json: No such file"),
        (["grade", ""], "argument SUBMISSIONS: an empty name"),  # not the current folder
        (["report", "--out", ""], "argument --out: an empty name"),
    ],
)
def test_wrong_use_is_one_line_and_2(capsys, arguments, message):
    try:
        code = main(arguments)
    except SystemExit as wrong:  # what argparse finds
        code = wrong.code
    assert code == 2
    error = capsys.readouterr().err.strip()
    assert message in error and len(error.splitlines()) == 1


def test_extensions_for_nobody_are_told(tmp_path, capsys):
    (policy := tmp_path / "policy.toml").write_text(
        "[extensions]\nada = 2026-11-20T12:00:00Z\nAda = 2026-11-20T12:00:00Z\n"
    )
    with book_of(tmp_path / "gradebook.sqlite", (submission("ada"), 90.0)):
        pass
    assert main(["report", "--out", str(tmp_path), "--policy", str(policy)]) == 0
    assert "extends the deadline for Ada: nobody has such an id" in capsys.readouterr().err


def test_the_report_is_made_again_from_the_gradebook(tmp_path):
    with book_of(tmp_path / "gradebook.sqlite", (submission("ada"), 90.0)):
        pass
    assert main(["report", "--out", str(tmp_path), "--title", "Our class"]) == 0
    assert "Our class" in (tmp_path / "report.html").read_text()
    assert (tmp_path / "grades.csv").read_text().startswith("id,name,score")


# -------------------------------------------------------------------------------------------------------- example class


@pytest.mark.parametrize("due", [0, 3])
def test_the_bar_knows_from_the_beginning_how_many_there_are(due):
    out = io.StringIO()
    with progress(Console(file=out, width=80), due):
        pass
    assert f"0/{due}" in out.getvalue()


def test_the_example_class(tmp_path):
    submissions, recorded, policy, about = example.write(tmp_path / "a")
    assert [path.read_bytes() for path in example.write(tmp_path / "b")] == [
        path.read_bytes() for path in (submissions, recorded, policy, about)
    ]
    found = collect(submissions)
    assert len({s.student for s in found}) == len({s.name for s in found}) == example.SIZE == 40
    table = {line["id"]: line for line in csv.DictReader(io.StringIO(about.read_text()))}
    by_what = {table[s.student]["what"]: s for s in found}
    assert {"parallel", "copy of parallel", "deadlock", "argmax", "import_solution", "starter"} <= by_what.keys()
    assert by_what["nothing"].problem.startswith("no parallel.py was handed in")
    assert {s.sha256 for s in found if s.source and table[s.student]["what"] != "no Python"} == set(
        json.loads(recorded.read_text())
    )
    assert any(s.received > read_policy(policy).deadline for s in found)
    pairs = {frozenset((table[p.first]["what"], table[p.second]["what"])) for p in similar({
        s.student: s.source for s in found if s.source}, [example.STARTER.read_bytes()])}  # fmt: skip
    assert {frozenset((what, f"copy of {what}")) for what in ("parallel", "stage3", "stage4")} <= pairs


def test_a_larger_example_class_has_no_two_equal_submissions(tmp_path):
    found = collect(example.write(tmp_path, 200)[0])
    assert len(found) == 200
    assert len({s.sha256 for s in found if s.source}) == sum(bool(s.source) for s in found)


def test_a_rehearsal_tells_what_is_not_as_expected():
    tests = [{"tags": [row], "visibility": "visible", "status": status, "score": score, "max_score": 2.0}
             for row, status, score in (("runs", "passed", 2.0), ("public", "failed", 0.0), ("hidden", "failed", 1.0))
             ]  # fmt: skip
    result = Result("x", GRADED, {"tests": tests})
    assert rehearsal_wrong(result, "argmax", ["runs passed", "public failed", "hidden partial"]) == []
    assert rehearsal_wrong(result, "argmax", ["public partial", "hidden failed", "quiet passed"]) == [
        "public failed instead of partial", "hidden partial instead of failed", "quiet missing instead of passed",
    ]  # fmt: skip
    assert rehearsal_wrong(result, "nothing", []) == ["graded instead of not graded"]
    assert rehearsal_wrong(None, "argmax", []) == ["no result instead of graded"]


# ----------------------------------------------------------------------------------------------------- what goes wrong


def test_who_hands_in_an_empty_folder_is_in_the_table(tmp_path):
    folder = lay_out(tmp_path / "class", {"ada/parallel.py": "a", "eve/src/notes.txt": "x"})
    (folder / "bob").mkdir()
    (folder / "max" / "parallel.py").mkdir(parents=True)
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for path in [folder, *sorted(folder.rglob("*"))]:
            archive.write(path, path.relative_to(tmp_path))
    (tmp_path / "class.zip").write_bytes(packed.getvalue())
    for source in (folder, tmp_path / "class.zip"):
        assert {s.student: s.problem for s in collect(source)} == {
            "ada": "", "bob": "no parallel.py was handed in (found: nothing)",
            "eve": "no parallel.py was handed in (found: notes.txt)",
            "max": "no parallel.py was handed in (found: nothing)",
        }  # fmt: skip


def test_programs_named_after_students_in_one_folder_of_a_zip(tmp_path):
    (tmp_path / "a.zip").write_bytes(
        zipped({"class/ada.py": "a", "class/bob.PY": "b", "class/eve.zip": zipped({"parallel.py": "e"})})
    )
    assert [(s.student, s.source) for s in collect(tmp_path / "a.zip")] == [("ada", b"a"), ("bob", b"b"), ("eve", b"e")]
    (tmp_path / "b.zip").write_bytes(zipped({"ada/PARALLEL.PY": "a", "ada/other.py": "x"}))
    assert [(s.student, s.source) for s in collect(tmp_path / "b.zip")] == [("ada", b"a")]
    (tmp_path / "c.zip").write_bytes(
        zipped({"ada/parallel (1).py": "x", "ada/parallel-1.py": "y", "ada/parallel.py": "a"})
    )
    assert [(s.student, s.source) for s in collect(tmp_path / "c.zip")] == [("ada", b"a")]


def test_metadata_of_another_kind_is_one_line(tmp_path):
    lay_out(
        tmp_path, {"submission_metadata.yml": "submission_1:\n  :submitters: ada\n", "submission_1/parallel.py": "a"}
    )
    with pytest.raises(CollectError, match="not the metadata that Gradescope exports"):
        collect(tmp_path)


def test_a_submission_that_disappears_costs_nobody_else(tmp_path, monkeypatch):
    folder = lay_out(tmp_path / "class", {"ada/parallel.py": "a", "bob/parallel.py": "b", "eve/parallel.py": "e"})
    lstat, read = Path.lstat, Path.read_bytes

    def gone(path, *, function):
        if path.parent.name == ("bob" if function is lstat else "eve"):
            raise FileNotFoundError(2, "No such file or directory", str(path))
        return function(path)

    monkeypatch.setattr(Path, "lstat", lambda path: gone(path, function=lstat))
    monkeypatch.setattr(Path, "read_bytes", lambda path: gone(path, function=read))
    found = {s.student: (s.source, s.problem) for s in collect(folder)}
    assert found["ada"] == (b"a", "")
    assert found["bob"] == (b"", "parallel.py: cannot be read: No such file or directory")
    assert found["eve"] == (b"", "parallel.py cannot be read: No such file or directory")


def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path):
    entries = [(submission(f"s{i}", "x" * 3000 + str(i)), 50.0) for i in range(20)]
    with book_of(tmp_path / "g", *entries) as book:
        (pages,) = book.db.execute("pragma page_count").fetchone()
        book.db.execute(f"pragma max_page_count = {pages + 2}")
        with pytest.raises(GradebookError, match="cannot be written: database or disk is full"):
            for record in book.records():
                book.store(record.id, Result("y", GRADED, report(60.0, None), "page " * 2000))
        assert book.db.execute("pragma integrity_check").fetchone() == ("ok",)
    with Gradebook(tmp_path / "g") as book:
        assert all(record.result is not None for record in book.records())
        book.store(1, Result("y", GRADED, report(70.0, None)))  # once there is room it goes on
        assert book.records()[0].result.score == 70.0


def test_a_gradebook_draws_its_seed_once(tmp_path):
    with Gradebook(tmp_path / "a") as one, Gradebook(tmp_path / "b") as other:
        seeds = one.seed(), other.seed()
    with Gradebook(tmp_path / "a") as again:
        assert again.seed() == seeds[0] != seeds[1]


def test_a_rehearsal_is_no_measurement_and_an_order_carries_one_timing():
    settings = Settings(load(), timings={sha256(b"a").hexdigest(): {"a": 1}, sha256(b"b").hexdigest(): {"b": 1}})
    assert settings.made_with != Settings(load()).made_with
    assert list(settings.only_for(b"a").timings.values()) == [{"a": 1}]
    assert settings.only_for(b"a").made_with == settings.made_with and settings.only_for(b"c").timings == {}
