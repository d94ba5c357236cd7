"""What the tests of the grader share that start programs: sandboxes, and programs in them."""

import atexit
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import pytest

from grader import cases, grade, sandbox
from grader.cases import CaseSet, inside_cases, public_cases
from grader.child import Child
from grader.sandbox import Limits, SandboxError
from grader.workspace import temporary_folder

GOOD = "def generate(model, prompt, n, workers):\n    yield 0\n"


@cache
def watched_cases() -> list[CaseSet]:
    """Those that show who does the work: always the same, so they are made once for all tests of this process."""
    folder = Path(tempfile.mkdtemp(prefix="watched-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    folder.chmod(0o755)  # other users read the models
    return inside_cases(folder, public_cases(folder))


def backend(name: str) -> sandbox.Sandbox:
    """That way to start programs; the test is skipped where it does not work."""
    try:
        return sandbox.choose(name)
    except SandboxError as error:
        pytest.skip(str(error))


@contextmanager
def started(box: sandbox.Sandbox, source: str, **more: object) -> Iterator[Child]:
    """A program on the public cases' model, loaded."""
    with temporary_folder() as name:
        model = Path(name) / "model.bin"
        cases.case_model(model, cases.PUBLIC_CONFIG, cases.PUBLIC_SEED)
        tree = grade.build_tree(Path(name) / "lab", grade.GIVEN, source)
        with Child(box, tree, model, **more) as child:
            assert child.wait_ready() is None
            yield child


def run(box, code, limits=None):
    """Standard output of a program in the sandbox."""
    started = box.start(["-c", code], limits=limits or Limits())
    try:
        out, err = started.process.communicate(timeout=60)
    finally:
        started.end()
    return out.decode() + err.decode()


def limits_bind(box: sandbox.Sandbox) -> bool:
    """A harmless probe: are 40 short-lived processes refused under a limit of 20, and 300 MB under a limit of 256?"""
    probe = (
        "import os, sys\n"
        "r, w = os.pipe()\n"
        "made = 0\n"
        "try:\n"
        "    for _ in range(40):\n"
        "        if os.fork() == 0:\n"
        "            os.close(w)\n"
        "            os.read(r, 1)\n"
        "            os._exit(0)\n"
        "        made += 1\n"
        "except OSError:\n"
        "    pass\n"
        "os.close(w)\n"
        "try:\n"
        "    bytearray(300 << 20)\n"
        "    print('memory free', made)\n"
        "except MemoryError:\n"
        "    print('memory bound', made)\n"
    )
    started = box.start(["-c", probe], limits=Limits(memory=256 << 20, processes=20, others=0))
    try:
        out, _ = started.process.communicate(timeout=20)
    except subprocess.TimeoutExpired:
        out = b""
    finally:
        started.end()
    words = out.decode(errors="replace").split()
    return words[:2] == ["memory", "bound"] and int(words[2]) < 25
