"""The grader in other environments than a quiet terminal: what happens there, tried for real, by the self-test and the
tests. Each entry of ENVIRONMENTS is a function of a folder; it returns what went wrong, one line, or "".
"""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from grader.processes import processes
from lab.pipes import pipe

ROOT = Path(__file__).parents[1]
SECONDS = 240.0
ENVIRONMENTS: dict[str, Callable[[Path], str]] = {}


class Unable(Exception):
    """This environment cannot be made here; one line says why."""


def environment(function: Callable[[Path], str]) -> Callable[[Path], str]:
    """Register one."""
    ENVIRONMENTS[function.__name__] = function
    return function


def command(folder: Path, *options: str, stages: str = "tokens") -> list[str]:
    """The grader's command line; its results go to folder/out. One case stands for the hidden ones."""
    cases = folder / "one_case.json"
    cases.write_text('{"cases": [{"prompt": [5, 7], "n": 6, "workers": 2}]}')
    line = [
        sys.executable,
        "-m",
        "grader",
        str(ROOT / "lab" / "parallel.py"),
        "--stages",
        stages,
        "--cases",
        str(cases),
    ]
    return [*line, "--out", str(folder / "out"), *options]


def settings(folder: Path, **more: str) -> dict[str, str]:
    """This process's environment, with a TMPDIR below the folder."""
    (folder / "tmp").mkdir(exist_ok=True)
    return {**os.environ, "TMPDIR": str(folder / "tmp"), "PYTHONPATH": str(ROOT), **more}


def graded(folder: Path, line: Sequence[str], code: int = 1, phrase: str = "same tokens", **more: Any) -> str:
    """Run it: the exit code, a phrase of its output, its results, and that nothing is left."""
    more.setdefault("env", settings(folder))
    done = subprocess.run(line, capture_output=True, timeout=SECONDS, cwd=ROOT, check=False, **more)
    text = (done.stdout + done.stderr).decode(errors="replace")
    if done.returncode != code or phrase not in text or "Traceback" in text:
        return f"exit code {done.returncode} instead of {code}, or no {phrase!r}: {text.strip()[-400:]}"
    return results_problem(folder, code) or left_behind(folder)


def results_problem(folder: Path, code: int) -> str:
    """Whether results.json is there: with all tokens right, or without a score if there was nothing to grade with."""
    try:
        results = json.loads((folder / "out" / "results.json").read_text())
    except (OSError, ValueError) as error:
        return f"results.json: {error}"
    if code == 2:
        return "a score although nothing was graded" if "score" in results else ""
    bad = [test["name"] for test in results["tests"] if "same tokens" in test["name"] and "differs" in test["output"]]
    wrong = [test["name"] for test in results["tests"] if test.get("status") == "failed" and test["name"] == "runs"]
    return f"failed: {', '.join(bad + wrong)}" if bad or wrong else ""


def left_behind(folder: Path, seconds: float = 20.0) -> str:
    """Folders and processes of a grader that has ended; the watchdog gets a moment."""
    until = time.monotonic() + seconds
    while left := [*(str(path) for path in (folder / "tmp").glob("grade-*")), *programs_of(folder)]:
        if time.monotonic() > until:
            return f"left behind: {', '.join(left[:3])}"
        time.sleep(0.05)
    return ""


def programs_of(folder: Path) -> list[str]:
    """The command lines that name something in the folder, ours not counted."""
    found = []
    for pid in processes():
        try:
            line = Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            continue
        if os.fsencode(folder / "tmp") in line:
            found.append(line.replace(b"\0", b" ").decode(errors="replace")[:80])
    return found


def in_mounts(script: str, line: Sequence[str]) -> list[str]:
    """The command with mounts of its own, made before. Raises Unable."""
    if os.geteuid() != 0 or subprocess.run(["unshare", "--mount", "true"], capture_output=True, check=False).returncode:
        raise Unable("needs root and mounts")
    return ["unshare", "--mount", "sh", "-ec", f'{script}\nexec "$@"', "sh", *line]


# -------------------------------------------------------------------------------------------------------- environments


@environment
def umask_and_private_folders(folder: Path) -> str:
    """umask 077, and a TMPDIR that nobody else may enter."""
    more = settings(folder)
    (folder / "tmp").chmod(0o700)
    return graded(folder, command(folder), env=more, preexec_fn=lambda: os.umask(0o077))


@environment
def without_bubblewrap(folder: Path) -> str:
    """bwrap cannot be run."""
    place = shutil.which("bwrap")
    line = command(folder, "--no-require-sandbox")
    return graded(folder, in_mounts(f"mount --bind /dev/null {place}", line) if place else line)


@environment
def a_private_model(folder: Path) -> str:
    """Cases on a model that only its owner may read, in a folder that only its owner may enter."""
    private = folder / "private"
    private.mkdir(mode=0o700)
    shutil.copyfile(ROOT / "tests" / "data" / "tiny_v3.bin", private / "model.bin")
    (private / "model.bin").chmod(0o600)
    (private / "cases.json").write_text('{"model": "model.bin", "cases": [{"prompt": [5, 7], "n": 6, "workers": 2}]}')
    return graded(folder, command(folder, "--cases", str(private / "cases.json")))


@environment
def one_core(folder: Path) -> str:
    """Nothing scales on one core: inconclusive, not failed."""
    line = command(folder, "--model", str(ROOT / "models" / "tiny_shakespeare.bin"), stages="tokens,timing")
    core = min(os.sched_getaffinity(0))
    return graded(folder, line, 3, "this machine has 1 core", preexec_fn=lambda: os.sched_setaffinity(0, {core}))


@environment
def ascii_terminal(folder: Path) -> str:
    """A terminal that shows nothing but ASCII."""
    return graded(folder, command(folder), env=settings(folder, PYTHONIOENCODING="ascii", LC_ALL="C", LANG="C"))


@environment
def read_only_checkout(folder: Path) -> str:
    """Nothing can be written to the project's folder."""
    script = f"mount --bind '{ROOT}' '{ROOT}'\nmount -o remount,bind,ro '{ROOT}'\ncd '{ROOT}'"
    return graded(folder, in_mounts(script, command(folder)))


@environment
def small_temporary_folder(folder: Path) -> str:
    """A temporary folder that is full at once: one line, and a result that says so."""
    more = settings(folder)
    script = f"mount -t tmpfs -o size=64k,mode=1777 tmpfs '{folder / 'tmp'}'"
    return graded(folder, in_mounts(script, command(folder)), 2, "No space left on device", env=more)


@environment
def two_at_once(folder: Path) -> str:
    """Two graders side by side, each with its own results."""
    folders = [folder / "one", folder / "two"]
    for each in folders:
        each.mkdir()
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": ROOT}
    started = [subprocess.Popen(command(each), env=settings(folder), **quiet) for each in folders]
    codes = [process.wait(SECONDS) for process in started]
    if codes != [1, 1]:
        return f"exit codes {codes}"
    return next(filter(None, (results_problem(each, 1) for each in folders)), "") or left_behind(folder)


def interrupted(folder: Path, number: signal.Signals, code: int) -> str:
    """Stopped by a signal in the middle of a run."""
    process = subprocess.Popen(
        command(folder), env=settings(folder), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    for line in pipe(process.stderr):
        if b"public case" in line:
            break
    process.send_signal(number)
    text = b"".join(process.communicate(timeout=SECONDS)).decode(errors="replace")
    if process.returncode != code or "Traceback" in text:
        return f"exit code {process.returncode} instead of {code}: {text.strip()[-300:]}"
    return left_behind(folder)


@environment
def control_c(folder: Path) -> str:
    """SIGINT."""
    return interrupted(folder, signal.SIGINT, 130)


@environment
def terminated(folder: Path) -> str:
    """SIGTERM."""
    return interrupted(folder, signal.SIGTERM, 130)


@environment
def killed(folder: Path) -> str:
    """SIGKILL: nobody in the grader can clean up."""
    return interrupted(folder, signal.SIGKILL, -signal.SIGKILL)
