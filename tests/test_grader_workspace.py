"""The folder of a grading: what a submission may read is readable for whoever will read it."""

import os
import tempfile
from pathlib import Path

import pytest

from grader import grade
from grader.access import enterable, open_to_all, reachable
from grader.sandbox import Sandbox, SandboxError
from grader.workspace import readable, temporary_folder


def box(backend: str = "other-user", as_root: bool = True) -> Sandbox:
    """A sandbox of which nothing is started."""
    return Sandbox(backend, "", (), (), as_root=as_root)


@pytest.fixture
def private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that nobody else may enter, as TMPDIR, under umask 077."""
    folder = tmp_path / "private"
    folder.mkdir(mode=0o700)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    before = os.umask(0o077)
    yield folder
    os.umask(before)


def test_a_closed_tmpdir_is_passed_over_for_another_user(private):
    with temporary_folder(box()) as name:
        assert enterable(Path(name)) and Path(name).parent != private
        tree = grade.build_tree(Path(name) / "lab", grade.GIVEN, "pass\n")
        assert all(reachable(path) for path in tree.rglob("*"))
    with temporary_folder(box(as_root=False, backend="limits")) as name:
        assert Path(name).parent == private


def test_a_model_that_others_may_not_read_is_copied(private, tmp_path):
    model = private / "model.bin"
    model.write_bytes(b"weights")
    with temporary_folder(box()) as name:
        for backend in ("other-user", "bubblewrap"):
            copy = readable(model, box(backend), Path(name))
            assert copy != model and reachable(copy) and copy.read_bytes() == b"weights"
        assert readable(model, box(as_root=False), Path(name)) == model
        assert readable(copy, box(), Path(name)) == copy


def test_links_are_left_as_they_are(private):
    folder = private / "tree"
    folder.mkdir()
    outside = private / "outside"
    outside.write_text("")
    (folder / "link").symlink_to(outside)
    open_to_all(folder)
    assert outside.stat().st_mode & 0o077 == 0


def test_no_place_is_one_line(monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/nonexistent")
    monkeypatch.setattr("grader.workspace.PLACES", ())
    with pytest.raises(SandboxError, match="set TMPDIR"):
        temporary_folder(box("limits"))
