"""Time under the explorer: a clock of its own, so that a run is the same every time and sleeping costs nothing."""

import time
import types
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lab.check.scheduler import Scheduler

EPOCH = 1_700_000_000.0  # what time.time() says at the beginning of a run
STEP = 1e-5  # seconds for each point
LOOKS = 1000  # readings of the clock by a thread, after which each makes time go on
NAPS = 3  # sleeps of a thread that may end early, as if everybody else were slow


class Clock(types.ModuleType):
    """Stands in for the module time.

    Time passes with the steps of the run; when every thread sleeps or waits, it leaps to the next one's end. A thread's
    first few sleeps may also end at once, with the clock set forward: sleeping orders nothing. Later ones take as long
    as they should, so that a loop that gives up after some time does so only if the others have had that time. A thread
    that reads the clock again and again waits for an end without sleeping: time begins to fly for it.
    """

    def __init__(self, scheduler: "Scheduler") -> None:
        super().__init__("time")
        self.scheduler, self.leapt = scheduler, 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(time, name)

    def now(self) -> float:
        """Seconds since the beginning of the run."""
        return self.leapt + STEP * self.scheduler.steps

    def forward(self, to: float) -> None:
        """Set the clock forward; never back."""
        self.leapt += max(0.0, to - self.now())

    def monotonic(self) -> float:
        """now(), for the program."""
        me = self.scheduler.current
        me.looks += 1
        if me.looks > LOOKS:
            self.forward(1.01 * self.now() + 1e-3)
        return self.now()

    def time(self) -> float:
        """Seconds since an epoch of our own."""
        return EPOCH + self.monotonic()

    def time_ns(self) -> int:
        """The same in nanoseconds."""
        return int(self.time() * 1e9)

    def monotonic_ns(self) -> int:
        """monotonic() in nanoseconds."""
        return int(self.monotonic() * 1e9)

    perf_counter = process_time = thread_time = monotonic
    perf_counter_ns = process_time_ns = thread_time_ns = monotonic_ns

    def sleep(self, seconds: float) -> None:
        """Let the others run. Raises ValueError for a negative time, as time.sleep does."""
        if seconds < 0:
            raise ValueError("sleep length must be non-negative")
        me = self.scheduler.current
        me.until = self.now() + seconds
        me.naps += 1
        self.scheduler.yield_point("sleeps", seconds, None if me.naps <= NAPS else lambda: self.now() >= me.until)
        self.forward(me.until)

    def leap(self, live: list) -> bool:
        """Nobody can go on: set the clock forward to the end of the first sleep; False if nobody sleeps."""
        ends = [runner.until for runner in live if runner.verb == "sleeps"]
        if ends:
            self.forward(min(ends) + STEP)
        return bool(ends)
