"""Who else uses the machine: what other programs and the host of a virtual machine take of the cores meanwhile."""

import os
import time
from collections.abc import Callable, Collection
from pathlib import Path

import psutil

from lab.machine import SYSTEM, numbers, text

QUIET = 0.15  # cores that others may use before we call the machine busy


def own_seconds() -> float:
    """CPU seconds of this process and of its children that it has waited for."""
    return sum(os.times()[:4])


class Load:
    """The load of some cores, or of all, during a with block, or from start() to stop().

    others: how many of the cores other programs used; stolen: how many the host of a virtual machine took; waiting: the
    share of the time in which something waited for a core; seconds: how long it was. own: CPU seconds until now of all
    that is no other program.
    """

    def __init__(self, cores: Collection[int] | None = None, own: Callable[[], float] = own_seconds) -> None:
        self.cores, self.own = cores, own

    def start(self) -> "Load":
        """Begin, or begin again."""
        self.before = self.read()
        return self

    def stop(self) -> "Load":
        """Take what has been since start(); it may be taken again later."""
        now = self.read()
        self.seconds = max(1e-9, now[0] - self.before[0])
        busy, stolen, waiting, own = (
            (after - before) / self.seconds for after, before in zip(now[1:], self.before[1:], strict=True)
        )
        self.others, self.stolen, self.waiting = max(0.0, busy - own), max(0.0, stolen), max(0.0, waiting)
        return self

    __enter__ = start

    def __exit__(self, *exception: object) -> None:
        self.stop()

    def read(self) -> tuple[float, float, float, float, float]:
        """Seconds until now: wall clock; the cores busy, stolen; something waited for a core; our own CPU time."""
        at, busy, stolen = time.perf_counter(), 0.0, 0.0
        for cpu, times in cpu_times().items():
            if self.cores is None or cpu in self.cores:
                busy += sum(times[:3])  # user, nice, system come first
                busy += getattr(times, "irq", 0.0) + getattr(times, "softirq", 0.0)
                stolen += getattr(times, "steal", 0.0)
        return at, busy, stolen, pressure(), self.own()

    @property
    def quiet(self) -> bool:
        """Nobody else to speak of."""
        return self.others + self.stolen <= QUIET

    def __str__(self) -> str:
        stolen = f", and the host took {self.stolen:.1f}" if self.stolen > 0.05 else ""
        word = "quiet" if self.quiet else "busy"
        return f"machine {word}: others used {self.others:.1f} of {psutil.cpu_count() or 1} cores{stolen}"


def cpu_times() -> dict:
    """psutil's times of each CPU by its number; {} where the system tells nothing."""
    try:
        times = psutil.cpu_times(percpu=True)
    except OSError:
        return {}
    online = sorted(numbers(text(SYSTEM / "devices/system/cpu/online")))
    return dict(zip(online if len(online) == len(times) else range(len(times)), times, strict=True))


def pressure() -> float:
    """Seconds since boot in which something was ready to run and had no core; 0 where the kernel does not say."""
    try:
        return int(Path("/proc/pressure/cpu").read_text().splitlines()[0].rpartition("total=")[2]) / 1e6
    except (OSError, ValueError, IndexError):
        return 0.0


def load_now(seconds: float = 0.25) -> str:
    """A short sentence on how busy the machine is just now, by others than this process."""
    with Load() as load:
        time.sleep(seconds)
    return f"{load} (load average {psutil.getloadavg()[0]:.1f})"
