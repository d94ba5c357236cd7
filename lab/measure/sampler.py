"""A sampling profiler inside the process, for where py-spy may not look into it: a thread that wakes up and notes every
other thread's stack.

It needs no privilege on any system. It has a price that py-spy has not: to look, it must hold the interpreter lock.
While a thread is in a long numpy call the lock is free, and the sample is exact; while a thread runs Python code the
sampler gets the lock SWITCH seconds late at most, so a sample may fall on a line that is executed that much later.
"""

import sys
import threading
import time
from types import FrameType

SWITCH = 2e-4  # seconds a thread may keep the interpreter lock while the sampler waits for it (Python's own: 5e-3)
ACTIVE = 0.2  # a thread that used less of a core than this since the last sample was waiting


class Sampler:
    """Samples all threads but its own, `rate` times a second, from entering a with block to leaving it."""

    def __init__(self, rate: int) -> None:
        if rate < 1:
            raise ValueError(f"{rate} samples a second: at least 1")
        self.interval = 1 / rate
        self._frames: dict[tuple[str, str, int], int] = {}
        self._samples: list[tuple[str, list[int]]] = []
        self._clocks: dict[int, int] = {}  # thread -> its processor time's clock
        self._cpu: dict[int, tuple[float, float]] = {}  # thread -> (wall, cpu) at its last sample
        self._done = threading.Event()

    def __enter__(self) -> "Sampler":
        self._switch = sys.getswitchinterval()
        sys.setswitchinterval(SWITCH)
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._done.set()
        self._thread.join()
        sys.setswitchinterval(self._switch)

    def samples(self) -> dict:
        """{"interval": seconds, "frames": [name, file, line], "samples": [thread, [frame number, outermost first]]}"""
        return {"interval": self.interval, "frames": [list(f) for f in self._frames], "samples": self._samples}

    def _run(self) -> None:
        due = time.perf_counter()
        while not self._done.wait(max(0.0, due - time.perf_counter())):
            self._look()
            due = max(due + self.interval, time.perf_counter())  # samples missed are missed: never two at once

    def _look(self) -> None:
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        for ident, frame in sys._current_frames().items():
            if ident != threading.get_ident() and self._active(ident):
                self._samples.append((names.get(ident, str(ident)), self._stack(frame)))

    def _active(self, ident: int) -> bool:
        """Has the thread used the processor since it was last looked at? Where the system does not tell: assume so."""
        try:
            if ident not in self._clocks:  # asked for once: asking for a thread that has ended meanwhile would crash
                self._clocks[ident] = time.pthread_getcpuclockid(ident)
            cpu = time.clock_gettime(self._clocks[ident])
        except (AttributeError, OSError):  # macOS; or a new thread has the number of an old one
            self._clocks.pop(ident, None)
            return True  # the waiting ones are found by their lines
        now = time.perf_counter()
        wall_before, cpu_before = self._cpu.get(ident, (now, cpu))
        self._cpu[ident] = now, cpu
        return cpu - cpu_before > ACTIVE * (now - wall_before)

    def _stack(self, frame: FrameType | None) -> list[int]:
        stack = []
        while frame is not None:
            code = frame.f_code
            key = (code.co_qualname, code.co_filename, frame.f_lineno or 0)
            stack.append(self._frames.setdefault(key, len(self._frames)))
            frame = frame.f_back
        return stack[::-1]
