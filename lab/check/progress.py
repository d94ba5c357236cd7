"""How far a search is, on standard error: one line that is written over, or a line now and then where there is no
terminal."""

import sys
import time

from lab.check.report import Findings
from lab.command import counted

TERMINAL, ELSEWHERE = 0.2, 10.0  # seconds between two lines


class Progress:
    """Called after each schedule."""

    def __init__(self) -> None:
        self.terminal = sys.stderr.isatty()
        self.due = time.monotonic() + (1.0 if self.terminal else ELSEWHERE)
        self.width = 0

    def __call__(self, result: Findings, most: int, deadline: float) -> None:
        """So many schedules of `most`; the time is over at `deadline` (time.monotonic())."""
        now = time.monotonic()
        if now < self.due:
            return
        left = f", {deadline - now:.0f} s left" if deadline < float("inf") else ""
        most = max(most, result.schedules)  # with those of the race detector there are more
        text = f"{result.schedules:,} of {counted(most, 'schedule')}, {result.distinct:,} of them distinct{left}"
        if self.terminal:
            print("\r" + text.ljust(self.width), end="", file=sys.stderr, flush=True)
            self.width = len(text)
        else:
            print(text, file=sys.stderr, flush=True)
        self.due = now + (TERMINAL if self.terminal else ELSEWHERE)

    def clear(self) -> None:
        """Nothing is left of the line."""
        if self.width:
            print("\r" + " " * self.width + "\r", end="", file=sys.stderr, flush=True)
