"""One thread means one thread: numpy's BLAS library is held to it, and then measured.

lab/__init__.py sets the environment variables that BLAS libraries read when they are loaded. Where that is too late,
because numpy came first, the library is told at run time. What was reached is measured, not believed: the CPU
time a matrix product takes in the whole process, over what it takes in the thread that asked for it. (Over wall time,
the ratio would also fall when other programs keep the machine busy.)
"""

import sys
import time

import numpy as np
from threadpoolctl import threadpool_info, threadpool_limits

from lab import BLAS_THREAD_VARIABLES

ALLOWED = 1.25  # one thread and the measurement's noise
TRIES = 20
MATRIX = 512  # large enough for every BLAS to use all the threads it has


def libraries() -> list[dict]:
    """The BLAS libraries of this process; none where the system does not tell, as a Linux without /proc."""
    try:
        return threadpool_info()
    except OSError:
        return []


def threads_in_use(seconds: float = 0.02) -> float:
    """How many threads a matrix product keeps busy, measured for `seconds` of this thread's CPU time."""
    a = np.ones((MATRIX, MATRIX), dtype=np.float32)
    out = np.empty_like(a)
    np.matmul(a, a, out=out)  # threads are started here, and the library is warm
    process, thread = time.process_time(), time.thread_time()
    while time.thread_time() - thread < seconds:
        np.matmul(a, a, out=out)
    return (time.process_time() - process) / (time.thread_time() - thread)


def problem() -> str | None:
    """Pin, then measure; what is wrong and what to do, in one line, or None."""
    if any(pool["num_threads"] != 1 for pool in libraries()):
        threadpool_limits(limits=1)
    for _ in range(TRIES):  # threads that have just been in use spin on for a moment
        measured = threads_in_use()
        if measured <= ALLOWED:
            return None
    found = ", ".join(f"{pool['internal_api']} {pool['version'] or ''}".strip() for pool in libraries())
    variables = " ".join(f"{name}=1" for name in BLAS_THREAD_VARIABLES[:4])
    return (
        f"numpy's BLAS ({found or 'unknown'}) uses {measured:.1f} threads where one was asked for, "
        f"so timings mean little; start with {variables}, "
        "or install numpy from PyPI: pip install --force-reinstall numpy"
    )


def warn() -> None:
    """Say on stderr if one thread is not one thread."""
    if message := problem():
        print(f"warning: {message}", file=sys.stderr, flush=True)
