"""Which cores this process may use: one function for the threads of the lab, the grader and the bench.

Two threads on the two halves of one physical core (SMT, "hyper-threading") share its arithmetic, an efficiency core has
half of a performance core's, and a container may be allowed less than the machine has. So a worker counts as a
processor only if it can have a whole core to itself.
"""

import os
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path

SYSTEM = Path("/sys")
PROCESS = Path("/proc/self")
MOST_WORKERS = 256  # far more than help on any machine


def count() -> int:
    """How many threads this process can run at full speed: its cores, or its container's CPU quota if that is less."""
    return max(1, int(min(len(cores()) or os.cpu_count() or 1, quota())))


def too_many(workers: int) -> str:
    """Why so many workers are refused."""
    return f"{workers}: at most {MOST_WORKERS}; more workers than cores ({count()} here) only wait"


def cores() -> list[int]:
    """One CPU number for each physical core that this process may use, the fastest kind first; [] if not on Linux."""
    return [cpu for cpu, _speed in _cores(allowed(), SYSTEM)]


def allowed() -> frozenset[int]:
    """The CPUs of this process's affinity: the main thread's, for a worker may be bound to one of them."""
    return frozenset(os.sched_getaffinity(os.getpid())) if hasattr(os, "sched_getaffinity") else frozenset()


@cache
def _cores(cpus: frozenset[int], system: Path) -> list[tuple[int, float]]:
    """[(CPU, its speed relative to others)], the first CPU of each physical core, the fastest first."""
    efficient = numbers(text(system / "devices/cpu_atom/cpus"))
    found: dict[str, tuple[int, float]] = {}
    for cpu in sorted(cpus):
        folder = system / f"devices/system/cpu/cpu{cpu}"
        siblings = text(folder / "topology/thread_siblings_list") or str(cpu)
        capacity = text(folder / "cpu_capacity") or "1024"  # ARM's big and LITTLE, and recent kernels on hybrid x86
        found.setdefault(siblings, (cpu, float(capacity) * (0.5 if cpu in efficient else 1.0)))
    return sorted(found.values(), key=lambda core: (-core[1], core[0]))


def bind(threads: Iterable[int]) -> None:
    """Give each thread (system numbers, oldest first) a core of its own, once there is one for each fast core.

    Threads that wake each other often are otherwise put on one core again and again, while another is idle. With fewer
    threads than fast cores they stay free to move, and so they do under a CPU quota: somebody else may be using the
    core we would choose. A thread begins with the affinity of the one that started it, so it is set in any case.
    """
    cpus, threads = allowed(), list(threads)
    if not cpus:
        return  # only Linux lets a program choose
    ranked = _cores(cpus, SYSTEM)
    fast = sum(speed == ranked[0][1] for _cpu, speed in ranked)
    bound = len(threads) >= fast and 1 < len(ranked) <= quota()
    for number, thread in enumerate(threads):
        with suppress(OSError):  # it has ended already
            os.sched_setaffinity(thread, {ranked[number % len(ranked)][0]} if bound else cpus)


def quota() -> float:
    """How many CPUs' time the control group of this process may use: "cpu.max" of version 2, cpu.cfs_* of version 1."""
    return _quota(PROCESS, SYSTEM)


@cache
def _quota(process: Path, system: Path) -> float:
    """It is asked for with each worker that starts, and takes longer to read than the worker to start."""
    limit = float("inf")
    for line in text(process / "cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = system / "fs/cgroup" / ("cpu" if controllers else "")
        folder = root / path.strip("/")
        for group in (folder, *folder.parents):
            if group.is_relative_to(root):
                limit = min(limit, group_quota(group))
    return limit


def group_quota(group: Path) -> float:
    """The quota of one control group, inf if it has none."""
    words = text(group / "cpu.max").split() or [text(group / f"cpu.cfs_{name}_us") for name in ("quota", "period")]
    try:
        used, period = map(float, words)
        return used / period if used > 0 else float("inf")
    except (ValueError, ZeroDivisionError):  # "max", or no such file
        return float("inf")


def numbers(text: str) -> set[int]:
    """The kernel's lists: "0-2,5" -> {0, 1, 2, 5}"""
    ranges = [part.split("-") for part in text.split(",") if part]
    return {number for ends in ranges for number in range(int(ends[0]), int(ends[-1]) + 1)}


def text(path: Path) -> str:
    """What a small file of the system says, "" if it is not there."""
    try:
        return path.read_text().strip()
    except OSError:
        return ""
