"""What the parent saw of one run of a program."""

from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any


@dataclass
class Use:
    """Times in seconds, between the prompt and the last token."""

    cpu: float = 0.0  # of all threads, those that have ended included
    main: tuple[float, float] = (0.0, 0.0)  # of the main thread: CPU time, time it was ready to run and had no core
    threads: dict[int, tuple[float, float]] = field(default_factory=dict)  # thread id -> the same, of the living others


@dataclass
class Run:
    """What was seen of one generate()."""

    prompt: list[int]
    n: int
    workers: int
    tokens: list[int] = field(default_factory=list)
    stamps: list[float] = field(default_factory=list)  # seconds from the prompt to each token
    outcome: str = "done"  # done, error, contract, hang, spin, slow, ended, flood, protocol, processes, unstoppable
    error: list[dict] = field(default_factory=list)  # harness.traceback_as_data
    stacks: str = ""  # of every thread, when it hung
    status: int | None = None  # exit status, when it ended
    use: Use = field(default_factory=Use)
    uses: list[Use] = field(default_factory=list)  # at each token
    most_threads: int = 0  # besides the main one, at the moments looked at
    fewest_threads: int | None = None  # likewise, when a token came
    left_threads: int = 0  # still there when it was done
    values: dict[str, Any] = field(default_factory=dict)  # of the harness's words that are not tokens
    printed: bytes = b""  # on stdout during this run
    ahead: float = 0.0  # CPU seconds it took while it was stopped

    @property
    def seconds(self) -> float:
        """From the prompt to the last token, without the time it was stopped."""
        return self.stamps[-1] if self.stamps else float("nan")

    @property
    def seconds_of_tokens(self) -> list[float]:
        """How long each token took."""
        return [after - before for before, after in pairwise([0.0, *self.stamps])]
