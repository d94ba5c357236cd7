"""One thread means one thread, also where numpy was loaded before the lab."""

import os
import subprocess
import sys

import pytest

from lab import BLAS_THREAD_VARIABLES, onethread


def run(script: str) -> str:
    environment = {name: value for name, value in os.environ.items() if name not in BLAS_THREAD_VARIABLES}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    return done.stdout


def test_the_lab_pins_before_numpy_loads():
    script = (
        "import lab, numpy, threadpoolctl; print(*[pool['num_threads'] for pool in threadpoolctl.threadpool_info()])"
    )
    assert set(run(script).split()) <= {"1"}


def test_numpy_that_came_first_is_pinned_at_run_time():
    script = (
        "import numpy, threadpoolctl; from lab import onethread\n"
        "print(onethread.problem(), *[pool['num_threads'] for pool in threadpoolctl.threadpool_info()])"
    )
    problem, *threads = run(script).split()
    assert problem == "None"
    assert set(threads) <= {"1"}


def test_nothing_is_said_when_all_is_well(capsys):
    onethread.warn()
    assert capsys.readouterr() == ("", "")


def test_threads_that_cannot_be_pinned_are_told(capsys, monkeypatch):
    monkeypatch.setattr(onethread, "threads_in_use", lambda: 3.96)
    onethread.warn()
    message = capsys.readouterr().err
    assert message.startswith("warning: numpy's BLAS (")
    assert "uses 4.0 threads where one was asked for" in message
    assert "start with OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1" in message
    assert message.count("\n") == 1


def test_more_threads_are_seen():
    """The measurement itself: a BLAS library with all its threads, before it is pinned."""
    script = (
        "import numpy, threadpoolctl; from lab import onethread\n"
        "print(max([pool['num_threads'] for pool in threadpoolctl.threadpool_info()], default=1))\n"
        "print(onethread.threads_in_use(0.2))"
    )
    threads, measured = run(script).split()
    if threads == "1":
        pytest.skip("one core")
    assert float(measured) > onethread.ALLOWED
