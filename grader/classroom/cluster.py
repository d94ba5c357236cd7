"""Where grading runs: a cluster on this machine, or one whose scheduler has an address.

A worker is a host. It offers one "timing" and a number of "slots": a timed run takes the timing and TIMED_SLOTS slots,
other work one slot. Where a host has cores beside those that timed runs use, a slot stands for each, and they go on
while something is timed; where it has none, a timed run takes all slots, so it has the host for itself.
"""

import asyncio
import logging
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from typing import cast

import dask.config
from distributed import Client, LocalCluster, Nanny
from distributed.comm.core import connect

from grader.classroom.task import ClusterError
from lab import machine

TIMED_SLOTS = 2
CONNECT = 10.0  # seconds
SETTINGS = {
    "distributed.worker.daemon": False,  # its grading processes are children of its own
    "distributed.scheduler.allowed-failures": 0,  # run.py itself looks after what a lost worker was doing
    "distributed.logging.distributed": "error",
    # a worker reads it before it is told these settings
    "distributed.nanny.pre-spawn-environ.DASK_DISTRIBUTED__LOGGING__DISTRIBUTED": "error",
    "distributed.scheduler.worker-saturation": 1.0,
    # so long after a loss Dask closes a worker that is not there, even one that is just restarting after another loss
    "distributed.deploy.lost-worker-timeout": "60s",
    "distributed.worker.preload": [__name__],  # dask_setup
}


def dask_setup(worker: object) -> None:
    """Called in each worker. Ctrl-C reaches the whole terminal: the run, which ends its workers, answers it alone."""
    signal.signal(signal.SIGINT, lambda *_: None)


def no_answer(address: str, error: Exception) -> ClusterError:
    """In one line; some of Dask's errors have several, some none."""
    reason = next(iter(str(error).splitlines()), f"nothing that can be understood within {CONNECT:g} s")
    return ClusterError(f"no scheduler answers at {address}: {reason}")


def find_scheduler(address: str) -> None:
    """Try the address first: a Client there waits long beyond its timeout for a server that is none of Dask's.

    Raises ClusterError.
    """

    async def try_it() -> None:
        async with asyncio.timeout(1.1 * CONNECT):
            (await connect(address, timeout=CONNECT)).abort()

    try:
        asyncio.run(try_it())
    except (OSError, TimeoutError, ValueError) as error:
        raise no_answer(address, error) from None
    except (MemoryError, TypeError) as error:  # another server's answer, read as the length of a message
        raise ClusterError(f"the server at {address} is not a Dask scheduler: {type(error).__name__}") from None


def timed_cores(workers: tuple[int, ...]) -> int:
    """Cores that a timed run uses here: the most of the points table's numbers of workers that there are cores for."""
    return max((k for k in workers if k <= machine.count()), default=machine.count())


def resources(workers: tuple[int, ...]) -> dict[str, float]:
    """What this host offers."""
    return {"timing": 1, "slots": TIMED_SLOTS + machine.count() - timed_cores(workers)}


def slots(workers: tuple[int, ...]) -> int:
    """Threads of this host's worker: one for each slot, and one for a timed run."""
    return int(resources(workers)["slots"]) + 1


@contextmanager
def connected(address: str | None, workers: tuple[int, ...]) -> Iterator[Client]:
    """A client of the cluster at an address, or of one on this machine. Raises ClusterError."""
    with dask.config.set(SETTINGS):
        if address:
            find_scheduler(address)
            try:
                client = Client(address, timeout=CONNECT, set_as_default=False)
            except (OSError, TimeoutError, ValueError) as error:
                raise no_answer(address, error) from None
            with client:
                yield client
            return
        cluster = on_this_machine(workers)
        with cluster, Client(cluster, set_as_default=False) as client:
            cluster.adapt(minimum=1, maximum=1, interval="1s")  # a worker that is gone for good is replaced
            yield client


def threads(client: Client) -> dict[str, int]:
    """How many each worker has, by its address."""
    return cast(dict[str, int], client.nthreads())  # no coroutine: the client is not used from one


def on_this_machine(workers: tuple[int, ...]) -> LocalCluster:
    """A cluster of one worker. Raises ClusterError."""
    try:
        return LocalCluster(
            n_workers=1, threads_per_worker=slots(workers), resources=resources(workers),
            dashboard_address="127.0.0.1:0", host="127.0.0.1", memory_limit=0,
            silence_logs=logging.CRITICAL,
        )  # fmt: skip
    except (OSError, RuntimeError, TimeoutError) as error:
        raise ClusterError(f"Dask does not start on this machine: {reason_of(error)}") from None


def reason_of(error: BaseException) -> str:
    """What the system refused, if that is at the bottom of an error of Dask; else what Dask says of it. One line."""
    refused, below = "", error.__cause__ or error.__context__
    while below is not None:
        if isinstance(below, OSError) and below.strerror:
            refused = f"{below.strerror}; it needs a writable /dev/shm and folder for temporary files"
        below = below.__cause__ or below.__context__
    return refused or next(iter(str(error.__cause__ or error).splitlines()), type(error).__name__)


def run_worker(address: str, workers: tuple[int, ...]) -> None:
    """This host as a worker of the scheduler at an address, until that ends or Ctrl-C. Raises ClusterError."""

    async def work() -> None:
        options = {"nthreads": slots(workers), "resources": resources(workers), "memory_limit": 0}
        async with Nanny(address, **options) as nanny:
            await nanny.finished()

    with dask.config.set(SETTINGS | {"distributed.comm.timeouts.connect": CONNECT, "distributed.admin.log-length": 0}):
        find_scheduler(address)
        try:
            asyncio.run(work())
        except (OSError, TimeoutError, ValueError) as error:
            raise no_answer(address, error) from None
