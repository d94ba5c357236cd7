"""A rung's process, seen from the lab's side: it is started, asked, and says in one line what went wrong."""

import json
import signal
import subprocess
from pathlib import Path

from lab import pipes

PROCESS = Path(__file__).with_name("process.py")
LIMIT = 600.0  # seconds for one answer; compiling a large model takes minutes


class LadderError(Exception):
    """The ladder cannot be climbed at all; the message is one line."""


class RungFailed(Exception):
    """A rung did not do its work; the message is one line. `memory`: it ran out of it."""

    def __init__(self, message: str, memory: bool = False) -> None:
        super().__init__(message)
        self.memory = memory


def describe(python: str) -> dict:
    """What process.py says of PyTorch, the device and the rungs. Raises LadderError where there is no PyTorch."""
    command = [python, str(PROCESS)]
    try:
        run = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT, env=pipes.any_threads())
    except OSError as error:
        raise LadderError(f"{python}: cannot be started: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise LadderError(f"{python}: importing PyTorch took more than {LIMIT:.0f} s") from None
    if run.returncode != 0:
        last = (run.stderr.strip().splitlines() or ["it ended without a word"])[-1]
        if "No module named 'torch'" in last:
            last = "PyTorch is not installed there"
        raise LadderError(f"{python}: {last}")
    try:
        return json.loads(run.stdout)
    except ValueError:
        raise LadderError(f"{python}: no Python: it did not run {PROCESS.name}") from None


def ended(status: int | None, said: str) -> RungFailed:
    """What became of a rung's process."""
    return RungFailed(said if status is None else f"crashed: {said}", memory=status == -signal.SIGKILL)


class Peer(pipes.Peer):
    """One process.py with some rungs; its first answer says that the work is built."""

    def __init__(self, python: str, order: dict) -> None:
        super().__init__(python, str(PROCESS), json.dumps(order), ended=ended, limit=LIMIT)

    def read(self) -> dict:
        """The next answer. Raises RungFailed."""
        found = super().read()
        if "error" in found:
            raise RungFailed(found["error"], found["memory"])
        return found
