"""What the tests of the grader share that start programs: sandboxes, and programs in them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from grader import grade, sandbox
from grader.cases import public_cases
from grader.child import Child
from grader.sandbox import Limits, SandboxError
from grader.workspace import temporary_folder

GOOD = "def generate(model, prompt, n, workers):\n    yield 0\n"


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
        model = public_cases(Path(name)).model
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
