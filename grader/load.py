"""The load of the machine: what other programs and the hypervisor take of the cores while something is timed."""

import os
import time
from dataclasses import dataclass


@dataclass
class Load:
    """Counters of the machine at one moment, for some of its cores; what lies between two moments is a Share."""

    at: float
    cores: int
    busy: float = 0.0  # seconds of all these cores together
    steal: float = 0.0
    pressure: float = 0.0  # seconds in which something waited for a core

    @classmethod
    def now(cls, cores: list[int]) -> "Load":
        """Read /proc/stat and /proc/pressure/cpu; without them nothing is known of the others."""
        found = cls(time.perf_counter(), len(cores), pressure=cpu_pressure())
        try:
            with open("/proc/stat") as file:
                lines = [line.split() for line in file if line.startswith("cpu")]
        except OSError:
            return found
        tick = os.sysconf("SC_CLK_TCK")
        for name, *numbers in lines:
            if name[3:].isdigit() and int(name[3:]) in cores:
                user, nice, system, _, _, irq, softirq, stolen = (int(number) / tick for number in numbers[:8])
                found.busy += user + nice + system + irq + softirq
                found.steal += stolen
        return found

    def others(self, before: "Load", own: float) -> float:
        """The share of these cores that others used since that moment; own: CPU seconds of ours."""
        wall = max(1e-6, self.at - before.at)
        return max(0.0, (self.busy - before.busy - own) / wall / self.cores)

    def pressed(self, before: "Load") -> float:
        """The share of the time since that moment in which something waited for a core (PSI)."""
        return max(0.0, (self.pressure - before.pressure) / max(1e-6, self.at - before.at))


def cpu_pressure() -> float:
    """Seconds since boot in which something was ready to run and had no core; 0 where the kernel does not say."""
    try:
        with open("/proc/pressure/cpu") as file:
            return int(file.readline().rpartition("total=")[2]) / 1e6
    except (OSError, ValueError):
        return 0.0
