"""Other programs that are asked and answer: a process, and the pipes to it."""

import json
import os
import select
import signal
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from typing import IO, Any


def pipe(stream: IO[Any] | None) -> IO[Any]:
    """One end of a pipe: Popen has None there unless it was asked for one. Raises ValueError."""
    if stream is None:
        raise ValueError("the process was started without this pipe")
    return stream


def any_threads() -> dict[str, str]:
    """Our environment, without what would fix the number of threads."""
    return {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}


class Peer(AbstractContextManager["Peer"]):
    """A process that answers each line of JSON with one. A context manager: it ends with the block, whatever happened.

    ended: from its exit status (None: it was stopped after `limit` seconds) and its last words, what reading raises.
    """

    def __init__(
        self, *command: str, ended: Callable[[int | None, str], Exception], limit: float | None = None
    ) -> None:
        self.ended, self.limit = ended, limit
        self.errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 closed by close()
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, text=True, errors="replace",
            env=any_threads(),
            start_new_session=True,
        )  # fmt: skip
        self.orders, self.answers = pipe(self.process.stdin), pipe(self.process.stdout)

    def __exit__(self, *exception: object) -> None:
        self.close()

    def ask(self, **order: Any) -> dict:
        """The answer to an order. Raises what `ended` makes."""
        with suppress(BrokenPipeError):  # read() says why it has ended
            self.orders.write(json.dumps(order) + "\n")
            self.orders.flush()
        return self.read()

    def read(self) -> dict:
        """The next answer. Raises what `ended` makes."""
        if not select.select([self.answers], [], [], self.limit)[0]:
            raise self.ended(None, f"no answer within {self.limit:.0f} s, stopped")
        line = self.answers.readline()
        if not line:
            status = self.process.wait()
            raise self.ended(status, self.last_words() or f"ended with status {status}")
        try:
            return json.loads(line)
        except ValueError:
            raise self.ended(None, f"it answers {line[:40].strip()!r}, which is not JSON") from None

    def last_words(self) -> str:
        """The last line on its standard error, "" without one."""
        self.errors.seek(0)
        lines = [line.strip() for line in self.errors if line.strip()]
        return lines[-1] if lines else ""

    def close(self) -> None:
        """End the process and its helpers; their CPU time then counts as ours."""
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        for stream in (self.orders, self.answers, self.errors):
            with suppress(BrokenPipeError):
                stream.close()
