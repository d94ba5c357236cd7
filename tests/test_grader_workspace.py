"""The grader's folder: readable for whoever will read it, and gone when the grader is, however that ends."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from grader import grade, interpreter, processes, workspace
from grader.access import enterable, open_to_all, reachable
from grader.sandbox import Sandbox
from grader.workspace import LEDGER, LOCK, clean, make_folder, temporary_folder


def box(backend: str = "other-user", as_root: bool = True) -> Sandbox:
    """A sandbox of which nothing is started."""
    return Sandbox(backend, interpreter.own(), as_root=as_root)


@pytest.fixture
def private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that nobody else may enter, as TMPDIR, under umask 077."""
    folder = tmp_path / "private"
    folder.mkdir(mode=0o700)
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    before = os.umask(0o077)
    yield folder
    os.umask(before)


def test_a_closed_tmpdir_is_passed_over_for_other_users(private, monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    folder = make_folder()
    try:
        assert enterable(folder) and folder.parent != private
    finally:
        folder.rmdir()
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    folder = make_folder()
    assert folder.parent == private and folder.stat().st_mode & 0o077 == 0


def test_what_lies_in_the_folder_is_readable_whatever_the_umask(private):
    with temporary_folder() as name:
        tree = grade.build_tree(Path(name) / "lab", grade.GIVEN, "pass\n")
        assert all(path.stat().st_mode & 0o004 for path in tree.rglob("*"))
        assert Path(name).stat().st_mode & 0o777 == workspace.home().stat().st_mode & 0o777


def test_a_model_that_others_may_not_read_is_copied(private, tmp_path):
    model = private / "model.bin"
    model.write_bytes(b"weights")
    with temporary_folder() as name:
        for backend in ("other-user", "bubblewrap"):
            copy = box(backend).readable(model, Path(name))
            assert copy != model and copy.stat().st_mode & 0o004 and copy.read_bytes() == b"weights"
        assert box(as_root=False).readable(model, Path(name)) == model
        if reachable(copy):
            assert box().readable(copy, Path(name)) == copy


def test_links_are_left_as_they_are(private):
    folder = private / "tree"
    folder.mkdir()
    outside = private / "outside"
    outside.write_text("")
    (folder / "link").symlink_to(outside)
    open_to_all(folder)
    assert outside.stat().st_mode & 0o077 == 0


def test_no_place_is_one_error(monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", "/nonexistent")
    monkeypatch.setattr(workspace, "PLACES", ())
    with pytest.raises(OSError):
        make_folder()


# --------------------------------------------------------------------------------------------------------- left behind

GRADER = """
import sys, time
sys.path.insert(0, sys.argv[1])
from grader import sandbox, workspace
box = sandbox.choose(sys.argv[2])
started = box.start(["-c", "print(flush=True)\\nwhile True: pass"])
started.process.stdout.readline()
print(workspace.home(), started.program(), flush=True)
time.sleep(600)
"""


def gone(*pids: int) -> bool:
    """Whether none of these processes is alive any more; they get 20 seconds."""
    return soon(lambda: not any(processes.alive(pid) for pid in pids))


def soon(found: Callable[[], object]) -> object:
    """What it returns once that is something, or after 20 seconds."""
    until = time.monotonic() + 20
    while not (value := found()) and time.monotonic() < until:
        time.sleep(0.02)
    return value


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT], ids=lambda number: number.name)
@pytest.mark.parametrize("backend", ["bubblewrap", "other-user", "limits"])
def test_a_killed_grader_leaves_nothing(backend, number):
    command = [sys.executable, "-c", GRADER, str(grade.LAB.parent), backend]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as grader:
        words = grader.stdout.readline().split()
        if len(words) != 2:
            pytest.skip(grader.stderr.read().strip().splitlines()[-1])
        folder, program = Path(words[0]), int(words[1])
        assert folder.is_dir() and processes.alive(program)
        watchdogs = soon(lambda: watchers(folder))  # its command line shows a moment after its start
        os.kill(grader.pid, number)
        grader.wait()
    assert gone(program, *watchdogs) and len(watchdogs) == 1
    assert not folder.exists()


def watchers(folder: Path) -> list[int]:
    """The watchdogs of a folder."""
    found = []
    for pid in processes.processes():
        try:
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if b"workspace.watch" in command and os.fsencode(folder) in command:
            found.append(pid)
    return found


def test_the_next_grader_cleans_up_what_nobody_holds(tmp_path, monkeypatch):
    own = workspace.home()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setattr(workspace, "PLACES", ())
    sleeper = subprocess.Popen(["sleep", "600"], env={processes.MARK: "left-behind"})
    for name, files in (("grade-dead", (LOCK, LEDGER)), ("grade-none", ())):  # the second is nobody's business
        (tmp_path / name).mkdir()
        for file in files:
            (tmp_path / name / file).write_text("mark left-behind\n" if file == LEDGER else "")
    (tmp_path / "grade-link").symlink_to(own)
    workspace.sweep()
    assert sorted(os.listdir(tmp_path)) == ["grade-link", "grade-none"] and own.exists()
    assert sleeper.wait(20) == -signal.SIGKILL


def test_a_process_in_the_middle_of_its_start_is_found(monkeypatch):
    """Its environment is empty until execve is over, on a busy machine for milliseconds: it must not escape the end."""
    shows, seen = iter([b"", b"", f"{processes.MARK}=mine".encode() + b"\0"]), os.getpid()
    monkeypatch.setattr(processes, "processes", lambda: [seen])
    monkeypatch.setattr(processes, "starting", lambda pid: True)
    monkeypatch.setattr(Path, "read_bytes", lambda path: next(shows))
    monkeypatch.setattr(processes, "alive", lambda pid: True)
    assert processes.marked("mine") == [seen]


def test_only_a_process_without_memory_of_its_own_yet_is_starting():
    with subprocess.Popen(["sleep", "600"], env={}) as empty:
        assert soon(lambda: not processes.starting(empty.pid)) and not processes.starting(os.getpid())
        assert processes.environment_of(empty.pid) == [b""]
        empty.kill()


def test_a_folder_in_use_is_left_alone(tmp_path):
    before = workspace.home()
    workspace.sweep()
    assert before.exists() and (before / LOCK).exists()


def test_what_is_struck_out_is_left_alone(tmp_path):
    """A user id or mark noted twice has been ended: it may be somebody else's by now."""
    sleeper = subprocess.Popen(["sleep", "600"], env={processes.MARK: "ended"})
    (tmp_path / LEDGER).write_text("mark ended\nmark ended\n")
    clean(tmp_path)
    assert sleeper.poll() is None
    sleeper.kill()
    sleeper.wait()
