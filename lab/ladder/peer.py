"""A rung's process, seen from the lab's side: it is started, asked, and says in one line what went wrong."""

import json
import signal
from pathlib import Path

from lab import pipes

PROCESS = Path(__file__).with_name("process.py")
NO_TORCH = "No module named 'torch'"
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

    def failure(status: int | None, said: str) -> LadderError:
        """What to say of a program that is no Python, or has no PyTorch."""
        if status == 0:
            said = f"no Python: it did not run {PROCESS.name}"
        return LadderError(f"{python}: {'PyTorch is not installed there' if NO_TORCH in said else said}")

    try:
        with pipes.Peer(python, str(PROCESS), ended=failure, limit=LIMIT) as process:
            return process.read()
    except OSError as error:
        raise LadderError(f"{python}: cannot be started: {error.strerror}") from None


def ended(status: int | None, said: str) -> RungFailed:
    """What became of a rung's process."""
    if status == -signal.SIGKILL:
        return RungFailed("killed, as by a system that runs out of memory", memory=True)
    return RungFailed(said if status is None else f"crashed: {said}")


class Peer(pipes.Peer):
    """One process.py with some rungs; its first answer says that the work is built."""

    def __init__(self, python: str, order: dict) -> None:
        super().__init__(python, str(PROCESS), json.dumps(order), ended=ended, limit=LIMIT)

    def read(self) -> dict:
        """The next answer. Raises RungFailed."""
        found = super().read()
        if "error" in found:
            raise RungFailed(f"{'out of memory: ' if found['memory'] else ''}{found['error']}", found["memory"])
        return found
