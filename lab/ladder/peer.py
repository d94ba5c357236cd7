"""A rung's process, seen from the lab's side: it is started, asked, and says in one line what went wrong."""

import json
import os
import selectors
import signal
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from lab.pipes import pipe

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
    try:
        run = subprocess.run([python, str(PROCESS)], capture_output=True, text=True, timeout=LIMIT, env=environment())
    except OSError as error:
        raise LadderError(f"{python}: cannot be started: {error.strerror}") from None
    except subprocess.TimeoutExpired:
        raise LadderError(f"{python}: importing PyTorch took more than {LIMIT:.0f} s") from None
    if run.returncode != 0:
        last = (run.stderr.strip().splitlines() or ["it ended without a word"])[-1]
        if "No module named 'torch'" in last:
            last = "PyTorch is not installed there"
        raise LadderError(f"{python}: {last}")
    return json.loads(run.stdout)


def environment() -> dict[str, str]:
    """Ours, without what would fix the number of threads."""
    return {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}


class Peer:
    """One process.py with some rungs. A context manager: the process ends with the block, whatever happened."""

    def __init__(self, python: str, order: dict) -> None:
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 closed by close()
        self.process = subprocess.Popen(
            [python, str(PROCESS), json.dumps(order)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True,
            env=environment(), start_new_session=True,
        )  # fmt: skip
        self.orders, self.answers = pipe(self.process.stdin), pipe(self.process.stdout)

    def __enter__(self) -> "Peer":
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def ready(self) -> None:
        """Wait until the work is built. Raises RungFailed."""
        self.read()

    def ask(self, do: str, **arguments: Any) -> dict:
        """The answer to an order. Raises RungFailed."""
        with suppress(BrokenPipeError):  # read() says why it has ended
            self.orders.write(json.dumps({"do": do, **arguments}) + "\n")
            self.orders.flush()
        return self.read()

    def read(self) -> dict:
        """The next answer. Raises RungFailed."""
        with selectors.DefaultSelector() as selector:
            selector.register(self.answers, selectors.EVENT_READ)
            if not selector.select(LIMIT):
                raise RungFailed(f"no answer within {LIMIT:.0f} s, stopped")
        line = self.answers.readline()
        if not line:
            status = self.process.wait()
            raise RungFailed(f"crashed: {self.last_words()}", memory=status == -signal.SIGKILL)
        found = json.loads(line)
        if "error" in found:
            raise RungFailed(found["error"], found["memory"])
        return found

    def last_words(self) -> str:
        """The last line on its standard error, or its exit status."""
        self.errors.seek(0)
        lines = [line.strip() for line in self.errors if line.strip()]
        return lines[-1] if lines else f"ended with status {self.process.returncode}"

    def close(self) -> None:
        """End the process and its compiler's helpers."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for stream in (self.orders, self.answers, self.errors):
            with suppress(BrokenPipeError):
                stream.close()
