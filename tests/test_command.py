"""What happens to a command whose output nobody can read: nothing that matters."""

import importlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from grader import __main__ as grader
from lab import exercises, files, gpt, models, stages
from lab.check import __main__ as check
from lab.check.supervise import supervised
from lab.command import in_one_line

PROGRAM = """
import sys
from pathlib import Path
from lab.command import quietly

def main():
    print(Path(sys.argv[1]), "✓ ✗ µ 道", flush=True)
    print("more " * 20000, flush=True)
    Path("written").write_text("yes")
    return 3

sys.exit(quietly(main, steady={steady}))
"""


def shell(command: str, folder: Path, steady: bool, name: str = "x", **environment: str) -> subprocess.CompletedProcess:
    """A command in which "$P" is the program, its argument quoted by the shell as "$N"."""
    (folder / "program.py").write_text(PROGRAM.format(steady=steady))
    environment = {"PYTHONPATH": str(Path(files.__file__).parents[1]), **environment}
    environment |= {"P": f"{sys.executable} program.py", "N": name}
    return subprocess.run(
        ["bash", "-o", "pipefail", "-c", command], cwd=folder, env=os.environ | environment, capture_output=True
    )


def test_signs_that_the_terminal_lacks_become_others(tmp_path):
    for encoding, expected in (("ascii", b"+ x u ?"), ("latin-1", b"+ x \xb5 ?"), ("utf-8", "✓ ✗ µ 道".encode())):
        run = shell('$P "$N"', tmp_path, steady=False, PYTHONIOENCODING=encoding)
        assert run.returncode == 3 and run.stderr == b"" and run.stdout.split(b"\n")[0] == b"x " + expected
    assert shell('$P "$N"', tmp_path, steady=False, PYTHONIOENCODING="gbk").stdout.startswith(b"x + x u \xb5\xc0\n")


def test_sizes_that_no_terminal_has(tmp_path):
    (tmp_path / "fine.py").write_text("def main():\n    pass\n")
    command = f"{sys.executable} -m lab.check check fine.py"
    usual = shell(command, tmp_path, steady=True).stdout
    for size in ("0", "-3", "²", "x", "9" * 3):
        assert shell(command, tmp_path, steady=True, COLUMNS=size, LINES=size).stdout == usual != b""


def test_a_current_folder_that_is_gone(tmp_path, monkeypatch):
    (tmp_path / "gone").mkdir()
    monkeypatch.chdir(tmp_path / "gone")
    (tmp_path / "gone").rmdir()
    assert files.shown(tmp_path / "x") == f"{tmp_path}/x" and files.shown(Path("x")) == "x"


def test_file_names_that_are_no_text(tmp_path):
    run = shell('$P "$N"', tmp_path, steady=False, name=os.fsdecode(b"caf\xe9"), PYTHONIOENCODING="utf-8")
    assert run.returncode == 3 and run.stdout.startswith(b"caf? ")


@pytest.mark.parametrize(
    ("main", "arguments"),
    [
        (gpt.main, ("1", "--model", "a\nb")),
        (gpt.main, ("1", "--engine", "a\nb.py")),
        (models.main, ("show", "a\nb")),
        (check.main, ("check", "a\nb.py")),
        (check.main, ("run", "a\nb")),
        (stages.main, ("2", "a\nb.py")),
        (grader.main, ("a\nb.py", "--stages", "a\nb")),
    ],
)
def test_a_line_break_in_a_name_breaks_no_message(called, main, arguments):
    done = called(main, *arguments)
    assert done.returncode and done.stderr.count("\n") == 1 and "a?b" in done.stderr, done.stderr


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        ('$P "$N" | head -n 1', 3, b""),
        ('$P "$N" >/dev/full', 3, b"standard output: No space left on device\n"),
        ('$P "$N" >&-', 3, b""),
        ('$P "$N" 2>&-', 3, b""),
        ('$P "$N" <&- >&- 2>&-', 3, b""),
    ],
)
def test_a_steady_command_finishes(tmp_path, command, code, said):
    run = shell(command, tmp_path, steady=True)
    assert (run.returncode, run.stderr) == (code, said)
    assert (tmp_path / "written").read_text() == "yes"


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ('$P "$N" | head -n 1', b""),
        ('$P "$N" >/dev/full', b"standard output: No space left on device\n"),
        ('$P "$N" >&-', b"standard output: it is closed\n"),
    ],
)
def test_another_command_ends_with_its_output(tmp_path, command, said):
    run = shell(command, tmp_path, steady=False)
    assert (run.returncode, run.stderr) == (1, said)
    assert not (tmp_path / "written").exists()


@pytest.mark.parametrize("module", ["lab.gpt", "lab.check", "grader"])
def test_ctrl_c_while_a_command_is_loading(tmp_path, module):
    slow = "import os, signal; os.kill(os.getpid(), signal.SIGINT)"
    (tmp_path / "numpy.py").write_text(slow)  # what all of them load
    root = Path(files.__file__).parents[1]
    command = [sys.executable, "-m", module, "x.py"]
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{root}"}
    run = subprocess.run(command, env=environment, cwd=root, capture_output=True, text=True)
    assert (run.returncode, run.stdout, run.stderr) == (130, "", "")


STOPPED = """
import os, signal, sys, time
from lab.command import quietly

def main():
    try:
        os.kill(os.getpid(), signal.{name})
        time.sleep(60)
    finally:
        print("cleaned up")

sys.exit(quietly(main))
"""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_a_command_that_is_stopped_ends_what_it_has_begun(name):
    run = subprocess.run([sys.executable, "-c", STOPPED.format(name=name)], capture_output=True, text=True)
    assert (run.returncode, run.stdout, run.stderr) == (130, "cleaned up\n", "")


INTERRUPTED = """
import os, signal, time
from lab.check.supervise import supervised

def run():
    try:
        while open(f"/proc/{os.getppid()}/stat").read().rpartition(")")[2].split()[0] != "S":  # it waits for us
            pass
        os.kill(os.getppid(), signal.SIGINT)
        time.sleep(60)
    except KeyboardInterrupt:
        return 130

print(supervised(run, 60, "program.py"))
"""


def test_a_check_that_fails_itself_says_so(capfd):
    assert supervised(lambda: 1 // 0, 60, "program.py") == 1
    assert capfd.readouterr().err.endswith("ZeroDivisionError: integer division or modulo by zero\n")


def test_a_check_that_alone_is_interrupted_is_no_finding():
    """Not by a terminal, which interrupts its child as well."""
    run = subprocess.run([sys.executable, "-c", INTERRUPTED], capture_output=True, text=True)
    assert (run.stdout, run.stderr) == ("130\n", "")


@pytest.mark.parametrize(
    "error", ["BlockingIOError(11, 'Resource temporarily unavailable')", 'RuntimeError("can\'t start new thread")']
)
def test_no_more_processes_or_threads_is_one_line(error):
    program = f"import sys\nfrom lab.command import quietly\ndef main():\n    raise {error}\nsys.exit(quietly(main))"
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr == "the system allows no more processes or threads: take fewer workers, or raise ulimit -u\n"


def test_errors_of_the_system_and_of_memory_are_one_line(capsys):
    @in_one_line("lab: ", OSError)
    def main(error):
        raise error

    assert main(FileNotFoundError(2, "No such file or directory", "x")) == 1
    assert main(OSError(28, "No space left on device")) == 1
    assert main(FileNotFoundError(2, "No such file or directory")) == 1  # as os.getcwd() raises it
    assert main(files.WriteError(13, "Permission denied", "y")) == 1
    assert main(MemoryError("Unable to allocate 1 TiB")) == 1
    assert capsys.readouterr().err.splitlines() == [
        "lab: x: No such file or directory",
        "lab: No space left on device",
        "lab: the current folder is no longer there; cd to another one",
        "lab: y: cannot be written: Permission denied",
        "lab: not enough memory (Unable to allocate 1 TiB)",
    ]


def test_a_check_whose_output_is_lost_says_so(tmp_path):
    (tmp_path / "fine.py").write_text("def main():\n    pass\n")
    run = shell(f"{sys.executable} -m lab.check check fine.py >/dev/full", tmp_path, steady=True)
    assert (run.returncode, run.stderr) == (1, b"standard output: No space left on device\n")
    run = shell(f"{sys.executable} -m lab.check check fine.py | true", tmp_path, steady=True)
    assert run.stderr == b""


# ---------------------------------------------------------------------------------------------------------------- files


def test_a_file_is_whole_or_as_it_was(tmp_path):
    path = tmp_path / "new" / "result.txt"
    files.write_text(path, "one \udce9")
    assert path.read_text() == "one ?"
    with pytest.raises(KeyError), files.replacing(path) as partial:
        partial.write_text("half")
        raise KeyError
    assert path.read_text() == "one ?" and os.listdir(path.parent) == ["result.txt"]


def test_what_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(files.WriteError) as found:
        files.write_text(tmp_path / "file" / "result.txt", "x")
    assert str(found.value) == f"{tmp_path}/file/result.txt: cannot be written: Not a directory"
    (tmp_path / "folder").mkdir()
    with pytest.raises(files.WriteError, match="it is a folder; choose another name"):
        files.write_text(tmp_path / "folder", "x")
    assert sorted(os.listdir(tmp_path)) == ["file", "folder"]
    with pytest.raises(files.WriteError, match="Not a directory"):
        files.ready_for_files(tmp_path / "file")
    (tmp_path / "folder" / "try").write_text("somebody's")
    files.ready_for_files(tmp_path / "folder")
    assert os.listdir(tmp_path / "folder") == ["try"]


def test_a_name_that_is_too_long_is_one_line(tmp_path, capfd):
    long = str(tmp_path / ("x" * 300))
    with pytest.raises(files.WriteError, match="cannot be written: File name too long"):
        files.write_text(Path(long), "x")
    for command, *arguments in (
        (models, "synthetic", "--layers", "1", "--channels", "12", "-o", long),
        (models, "download", "--mirror", "http://127.0.0.1:9", "-o", long),
        (stages, "1", f"{long}.py"),
        (exercises, "1", "--file", f"{long}.py"),
    ):
        code = command.main(arguments)
        said = capfd.readouterr().err
        assert code in (1, 2) and said.startswith(long) and said.count("\n") == 1


def test_no_result_is_written_over_a_program(tmp_path):
    mine = tmp_path / "parallel.py"
    mine.write_text("a week of work")
    with pytest.raises(files.WriteError, match="never written over a program"):
        files.write_json(mine, {})
    assert mine.read_text() == "a week of work"


def test_a_page_takes_no_other_files_place(tmp_path):
    for name in ("answers.md", "page.html"):
        (tmp_path / name).write_text("x")
    with pytest.raises(files.WriteError, match=r"answers.md: cannot be written: a page is an .html file"):
        files.room_for_page(tmp_path / "answers.md")
    files.room_for_page(tmp_path / "page.html")
    assert os.listdir(tmp_path) == ["answers.md"]


def test_a_link_is_replaced_not_followed(tmp_path):
    (tmp_path / "precious").write_text("x")
    (tmp_path / "result").symlink_to("precious")
    files.write_text(tmp_path / "result", "y")
    assert (tmp_path / "precious").read_text() == "x" and (tmp_path / "result").read_text() == "y"


@pytest.mark.parametrize("module", ["ladder.__main__", "measure.profile", "measure.reference", "measure.bench"])
def test_an_empty_name_for_results_is_not_the_current_folder(module, capsys):
    with pytest.raises(SystemExit, match="2"):
        importlib.import_module(f"lab.{module}").main(["--out", ""])
    assert "argument --out: an empty name" in capsys.readouterr().err
