"""The machine a number was measured on: what it is, how fast it reads and computes, and who else is using it.

    .venv/bin/python -m lab.measure.machine      prints all of it

Nothing here needs a privilege, and what a system does not tell is None.
"""

import platform
import re
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import psutil

from lab import threadlib
from lab.command import Parser, counted, quietly
from lab.machine import count as cores
from lab.machine import text
from lab.measure.load import load_now

READ_BYTES = 1 << 28  # far more than any cache holds

# ----------------------------------------------------------------------------------------------------------- what it is


def describe() -> dict:
    """What a reader of a measurement has to know: processor, cores, caches and memory (bytes), load, versions."""
    return {
        "cpu": cpu_model(),
        "cores": cores(),
        "caches": caches(),
        "memory": psutil.virtual_memory().total,
        "system": f"{platform.system()} {platform.release()}",
        "load": round(psutil.getloadavg()[0], 2),
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "numpy": np.__version__,
        "blas": blas(),
    }


def summary(machine: dict | None = None) -> str:
    """The description in one line: "AMD EPYC, 2 cores, L2 1 MB, L3 32 MB, 25 GB; CPython 3.11.2, numpy 2.4.6, ..."."""
    machine = machine or describe()
    levels = ", ".join(f"{name} {size_text(size)}" for name, size in machine["caches"].items() if name in ("L2", "L3"))
    memory = f"{machine['memory'] / 1e9:.0f} GB"
    hardware = [machine["cpu"], counted(machine["cores"], "core"), *([levels] if levels else []), memory]
    return f"{', '.join(hardware)}; {machine['python']}, numpy {machine['numpy']}, {machine['blas']}"


def cpu_model() -> str:
    """The processor's name."""
    name = re.search(r"^model name\s*:\s*(.+)$", text(Path("/proc/cpuinfo")), re.MULTILINE)
    told = name[1].strip() if name else sysctl("machdep.cpu.brand_string")
    return told or platform.processor() or platform.machine()


def caches() -> dict[str, int]:
    """{"L1d": bytes, "L2": bytes, "L3": bytes} of core 0, those that are known."""
    found = {}
    for index in sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*")):
        level, kind, size = (text(index / name) for name in ("level", "type", "size"))
        if size:
            suffix = {"Data": "d", "Instruction": "i"}.get(kind, "")
            found[f"L{level}{suffix}"] = int(size.rstrip("KM")) << {"K": 10, "M": 20}.get(size[-1], 0)
    for name, key in (("L1d", "hw.l1dcachesize"), ("L2", "hw.l2cachesize"), ("L3", "hw.l3cachesize")):
        if not found.get(name) and platform.system() == "Darwin" and sysctl(key).isdigit():
            found[name] = int(sysctl(key))
    return found


def blas() -> str:
    """The matrix library inside numpy, the kernel it chose and its number of threads."""
    from lab.onethread import libraries  # not for those who only measure speed: the grader gives them few files

    for library in libraries():
        if library["user_api"] == "blas":
            kernel = f" ({library['architecture']})" if library.get("architecture") else ""
            threads = counted(library["num_threads"], "thread")
            return f"{library['internal_api']} {library.get('version') or ''}{kernel} on {threads}".replace("  ", " ")
    return "BLAS unknown"


def blas_kernel() -> str:
    """The kernel that numpy's matrix library chose for this processor: Haswell, SkylakeX, Zen, ..."""
    from lab.onethread import libraries

    found = (pool.get("architecture") for pool in libraries() if pool["user_api"] == "blas")
    return next((kernel for kernel in found if kernel), "unknown")


def sysctl(key: str) -> str:
    """A value of macOS's sysctl, or ""."""
    try:
        return subprocess.run(["sysctl", "-n", key], capture_output=True, text=True, timeout=5).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def size_text(size: int) -> str:
    """Bytes in powers of two: 1048576 -> "1 MB"."""
    return f"{size >> 20} MB" if size >= 1 << 20 else f"{size >> 10} KB"


# ------------------------------------------------------------------------------------------------------- how fast it is


def bandwidth(threads: int = 1, repeats: int = 5, data: np.ndarray | None = None) -> float:
    """GB/s (1e9 bytes) that `threads` threads read together: the best of `repeats`.

    data: 1-D, what they read; by default memory that no cache holds.
    """
    data = np.ones(READ_BYTES // 4, dtype=np.float32) if data is None else data
    shares = np.array_split(data, threads)
    return data.nbytes / 1e9 / best_seconds([lambda share=share: np.dot(share, share) for share in shares], repeats)


def peak(threads: int = 1, repeats: int = 5, size: int = 768) -> float:
    """GFLOP/s (1e9 float32 operations) of `threads` threads that multiply square matrices: the best of `repeats`."""
    pairs = [
        (np.ones((size, size), dtype=np.float32), np.empty((size, size), dtype=np.float32)) for _ in range(threads)
    ]
    jobs = [lambda a=a, out=out: np.matmul(a, a, out=out) for a, out in pairs]
    return threads * 2 * size**3 / 1e9 / best_seconds(jobs, repeats)


def best_seconds(jobs: Sequence[Callable[[], object]], repeats: int) -> float:
    """The shortest time in which all jobs, each on a thread of its own and started together, are done."""
    return min(seconds_together(jobs) for _ in range(repeats + 1))


def seconds_together(jobs: Sequence[Callable[[], object]]) -> float:
    """Wall seconds from opening a gate to the end of the last job."""
    with threadlib.use(threadlib.Runtime()):  # never recorded, checked or explored
        ready, gate = threadlib.Semaphore(0), threadlib.Semaphore(0)

        def work(job: Callable[[], object]) -> None:
            ready.V()
            gate.P()
            job()

        threads = [threadlib.spawn(lambda number, job=job: work(job)) for job in jobs]
        for _ in threads:
            ready.P()
        begin = time.perf_counter()
        for _ in threads:
            gate.V()
        threadlib.join(*threads)
        return time.perf_counter() - begin


def main(arguments: list[str] | None = None) -> int:
    """Print the description, the bandwidth and the peak for one thread and for all cores."""
    Parser(prog="python -m lab.measure.machine", description=main.__doc__).parse_args(arguments)
    print(summary())
    print(load_now())
    for threads in sorted({1, cores()}):
        print(
            f"{counted(threads, 'thread')}: reads {bandwidth(threads):.1f} GB/s, computes {peak(threads):.0f} GFLOP/s"
        )
    return 0


if __name__ == "__main__":
    quietly(main)
