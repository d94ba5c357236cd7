"""What a system may lack, taken away one by one: every command goes on with less, or says in one line what it needs.

docs/systems.md has the table. Here Linux plays the others: a file that Python runs at its start, `sitecustomize`,
removes what they do not have, in the command and in every program that it starts.
"""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest
from grader_boxes import GOOD

from grader import __main__ as grader_command
from grader import sandbox
from grader.classroom import __main__ as classroom_command
from lab import machine, onethread
from lab.measure import perf, profile, runner

ROOT = Path(__file__).parents[1]
WITHOUT = {
    "affinity": """
import os
for name in ("sched_setaffinity", "sched_getaffinity"):
    if hasattr(os, name):
        delattr(os, name)
""",
    "/proc": """
import sys
def refuse(event, arguments):
    if event in ("open", "os.listdir", "os.scandir") and str(arguments[0]).startswith("/proc"):
        frame = sys._getframe(1)
        while frame is not None and not frame.f_globals.get("__name__", "").startswith("psutil"):
            frame = frame.f_back
        if frame is None:  # psutil has other means on other systems
            raise FileNotFoundError(2, "No such file or directory", str(arguments[0]))
sys.addaudithook(refuse)
""",
}
COMMANDS = {
    "gpt": ("lab.gpt --engine parallel --workers 2 --model {model} -n 6 1 2 3", "\n"),
    "check": ("lab.check check lab/parallel.py", "nothing found"),
    "explore": ("lab.check explore lab/parallel.py --schedules 12", "nothing found"),
    "exercise": ("lab.exercises 1 --file solutions/exercises/bounded_buffer.py", "all 5 cases passed"),
    "timeline": ("lab.measure.timeline --engine parallel --model {model} --out {out}", "Tokens equal"),
    "profile": (
        "lab.measure.profile --profiler builtin --rounds 1 -n 60 --rate 500 --model {model} --out {out}",
        "Where the time goes",
    ),
}


def command(words: str, folder: Path, code: str) -> subprocess.CompletedProcess:
    """python -m WORDS, where every Python runs `code` first."""
    (folder / "sitecustomize.py").write_text(code)
    environment = os.environ | {"PYTHONPATH": f"{folder}{os.pathsep}{ROOT}"}
    line = [sys.executable, "-m", *words.split()]
    return subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("missing", WITHOUT)
@pytest.mark.parametrize("name", COMMANDS)
def test_a_student_s_commands_need_neither(missing: str, name: str, tmp_path: Path, tiny: Path):
    words, expected = COMMANDS[name]
    done = command(words.format(model=tiny, out=tmp_path / "out"), tmp_path, WITHOUT[missing])
    assert done.returncode == 0, done.stderr
    assert expected in done.stdout and "Traceback" not in done.stderr


def test_what_is_taken_away_is_gone(tmp_path: Path):
    words = "lab.machine"  # a module without a command: nothing but its start is of interest
    gone = "\nimport os\nassert not hasattr(os, 'sched_setaffinity') and not hasattr(os, 'sched_getaffinity')\n"
    assert command(words, tmp_path, WITHOUT["affinity"] + gone).stderr == ""
    gone = "\ntry:\n    open('/proc/self/maps')\nexcept FileNotFoundError:\n    print('gone')\n"
    assert command(words, tmp_path, WITHOUT["/proc"] + gone).stdout == "gone\n"


def test_without_affinity_all_processors_count(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 10)
    assert (machine.allowed(), machine.cores()) == (frozenset(), [])
    monkeypatch.setattr(machine, "quota", lambda: float("inf"))
    assert machine.count() == 10


def test_without_proc_the_threads_of_blas_are_measured_all_the_same(monkeypatch: pytest.MonkeyPatch, capsys):
    def threadpool_info():
        raise FileNotFoundError(2, "No such file or directory", "/proc/self/maps")

    monkeypatch.setattr(onethread, "threadpool_info", threadpool_info)
    monkeypatch.setattr(onethread, "threads_in_use", lambda: 4.0)
    onethread.warn()
    assert capsys.readouterr().err.startswith("warning: numpy's BLAS (unknown) uses 4.0 threads")


def test_without_py_spy_the_builtin_sampler_takes_over(tmp_path, monkeypatch, capsys, tiny):
    with monkeypatch.context() as elsewhere:
        elsewhere.setattr(sys, "executable", str(tmp_path / "python"))
        elsewhere.setenv("PATH", str(tmp_path))
        assert profile.find_pyspy() is None
    monkeypatch.setattr(profile, "find_pyspy", lambda: None)
    assert profile.main(["--model", str(tiny), "--rounds", "1", "--out", str(tmp_path / "out")]) == 0
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "py-spy" in line]
    assert "py-spy is not installed (pip install py-spy)" in line and "Using the built-in sampler instead" in line


def test_without_perf_one_line_says_how_to_install_it(tmp_path, monkeypatch, capsys, tiny):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(runner.ToolError, match="perf is not installed"):
        perf.find_perf()
    status = profile.main(["--profiler", "perf", "--model", str(tiny), "--out", str(tmp_path / "out")])
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "perf" in line]
    assert (status, "apt install linux-perf" in line) == (1, True)


@pytest.fixture
def no_bubblewrap(monkeypatch: pytest.MonkeyPatch) -> None:
    """No program named bwrap, here or in the usual places."""
    which = sandbox.shutil.which
    monkeypatch.setattr(sandbox.shutil, "which", lambda name, **how: None if name == "bwrap" else which(name, **how))


def test_without_bubblewrap_another_sandbox_does(no_bubblewrap):
    with pytest.raises(sandbox.SandboxError, match="bubblewrap is not installed"):
        sandbox.choose("bubblewrap")
    box = sandbox.choose()
    assert box.backend in ("other-user", "limits")
    assert "bubblewrap is not installed" in box.lacks or box.backend == "other-user"


def test_without_any_sandbox_a_class_is_not_graded(no_bubblewrap, monkeypatch):
    def working(backend: str) -> sandbox.Sandbox:
        raise sandbox.SandboxError("bubblewrap is not installed" if backend == "bubblewrap" else "not here")

    monkeypatch.setattr(sandbox, "working", working)
    with pytest.raises(sandbox.SandboxError, match=r"no sandbox works here .*Install it: sudo apt install bubblewrap"):
        sandbox.choose(required=True)


def test_the_grader_says_that_it_needs_linux(tmp_path, monkeypatch, capsys):
    importlib.import_module("grader.classroom.cluster")  # Dask and what it needs are chosen for the real system
    (tmp_path / "parallel.py").write_text(GOOD)
    (tmp_path / "class").mkdir()
    monkeypatch.setattr(sys, "platform", "darwin")
    assert grader_command.main([str(tmp_path / "parallel.py")]) == 2
    assert capsys.readouterr().err == f"{sandbox.NEEDS_LINUX}\n"
    words = ["grade", str(tmp_path / "class"), "--out", str(tmp_path / "out")]
    assert classroom_command.main(words) == 2
    assert sandbox.NEEDS_LINUX in capsys.readouterr().err
