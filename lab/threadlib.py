"""The course's thread library, in Python: threads, mutexes, condition variables, semaphores.

    C (thread.h, thread-sync.h)                  here
    ------------------------------------------   ------------------------------------------------------
    spawn(fn); create(fn);                       spawn(fn)           fn(number), numbers count from 1
    join();                                      join()              waits for all; join(a, b) for two
    mutex_t lk = MUTEX_INIT();                   lk = Mutex()
    mutex_lock(&lk); ... mutex_unlock(&lk);      lk.lock() ... lk.unlock(), or  with lk: ...
    cond_t cv = COND_INIT();                     cv = Cond()
    cond_wait(&cv, &lk);                         cv.wait(lk)         Mesa semantics: wait in a while loop
    cond_signal(&cv); cond_broadcast(&cv);       cv.signal()  cv.broadcast()
    sem_t s; SEM_INIT(&s, n);                    s = Semaphore(n)
    P(&s); V(&s);                                s.P()  s.V()
    spin_lock(&lk);                              none: a spinning thread would keep the interpreter lock

Every primitive takes an optional name, which messages and the timeline use: Mutex("queue").

An exception in a worker stops the program instead of leaving the rest to wait for ever: whoever waits in this
library, or does so later, gets WorkerFailed, raised from the worker's own exception, so that the traceback shows
both.

The seam. A primitive asks the `Runtime` in use, once, when it is made, for the functions it consists of. The ordinary
runtime hands out those of real locks, so a disabled seam costs nothing per operation. `use(runtime)` puts another in
place (a recording, checking or exploring one) for all primitives and threads made from then on; the program does not
change.
"""

import importlib
import os
import sys
import threading
import time
import weakref
from _thread import allocate_lock
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any, NamedTuple

__all__ = ["Cond", "Mutex", "Semaphore", "Thread", "WorkerFailed", "join", "perform", "region", "spawn"]

ABANDON_AFTER = 1.0  # seconds join() waits for each of the remaining threads once one has failed


class WorkerFailed(Exception):
    """A worker raised an exception (the __cause__ of this one); the other threads cannot go on."""


class Thread:
    """A thread made by spawn(): its number, counted from 1, and its name, "worker-<number>"."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.name = f"worker-{number}"
        self.system: Any = None  # the runtime's own handle


# -------------------------------------------------------------------------------------------------------------- threads

_threads: list[Thread] = []  # spawned and not yet joined


def spawn(fn: Callable[[int], object]) -> Thread:
    """Start a thread that runs fn(number); the number is the smallest from 1 that no unjoined thread has."""
    taken = {thread.number for thread in _threads}
    number = next(n for n in range(1, len(taken) + 2) if n not in taken)
    thread = Thread(number)
    _threads.append(thread)
    _runtime.spawn(thread, fn)
    return thread


def join(*threads: Thread) -> None:
    """Wait until the given threads have ended, or all that were spawned. Raises WorkerFailed if one of them failed."""
    waited = list(threads) or list(_threads)
    try:
        _runtime.join(waited)
    finally:
        for thread in waited:
            if thread in _threads:
                _threads.remove(thread)


# ----------------------------------------------------------------------------------------------------------- primitives


class Mutex:
    """At most one thread is between lock() and unlock(); `with mutex:` unlocks also when an exception leaves it."""

    __slots__ = ("__weakref__", "lock", "name", "state", "unlock")

    def __init__(self, name: str | None = None) -> None:
        self.name = name
        self.lock: Callable[[], object]
        self.unlock: Callable[[], None]
        self.lock, self.unlock = _runtime.mutex(self)

    def __enter__(self) -> "Mutex":
        self.lock()
        return self

    def __exit__(self, kind: type | None, *_: object) -> None:
        try:
            self.unlock()
        except RuntimeError:  # a failure may have unlocked it already, see Runtime.wake_all
            if kind is not WorkerFailed:
                raise


class Cond:
    """A queue of threads that wait for a condition to become true; wait(mutex) is called with that mutex locked.

    Mesa semantics: between a signal and the return from wait() other threads may run and make the condition false
    again, so the caller looks again, in a while loop.
    """

    __slots__ = ("__weakref__", "broadcast", "name", "signal", "state", "wait")

    def __init__(self, name: str | None = None) -> None:
        self.name = name
        self.wait: Callable[[Mutex], None]
        self.signal: Callable[[], None]
        self.broadcast: Callable[[], None]
        self.wait, self.signal, self.broadcast = _runtime.cond(self)


class Semaphore:
    """A counter that is never negative: P() waits until it is positive and takes one, V() adds one."""

    __slots__ = ("P", "V", "__weakref__", "name", "state")

    def __init__(self, n: int = 0, name: str | None = None) -> None:
        if n < 0:
            raise ValueError(f"Semaphore({n}): the count cannot be negative")
        self.name = name
        self.P: Callable[[], None]
        self.V: Callable[[], None]
        self.P, self.V = _runtime.semaphore(self, n)


# ------------------------------------------------------------------------------------------------- what a program tells


def perform(fn: Callable[[Any], object], task: Any) -> None:
    """fn(task), told to the runtime as one task: the timeline shows it."""
    _runtime.perform(fn, task)


def region(fn: Callable[[Any], object]) -> Any:
    """A context manager around one parallel operation, from handing out its tasks to the barrier at its end."""
    return _runtime.region(fn)


# ----------------------------------------------------------------------------------------------------- the real runtime


class Runtime:
    """Real threads and real locks. Another runtime derives from this one and replaces what it wants to see or decide.

    mutex, cond and semaphore return the functions that become the primitive's operations; `primitive.state` is theirs
    to use.
    """

    def __init__(self) -> None:
        self.failure: WorkerFailed | None = None
        self._primitives: weakref.WeakSet[Any] = weakref.WeakSet()

    def spawn(self, thread: Thread, fn: Callable[[int], object]) -> None:
        """Start `thread`; it is a daemon, so that a program whose main thread is done can end."""
        thread.system = threading.Thread(target=self.work, args=(thread, fn), name=thread.name, daemon=True)
        thread.system.start()
        bind_to_cores(_threads)

    def work(self, thread: Thread, fn: Callable[[int], object]) -> None:
        """What a spawned thread runs."""
        try:
            fn(thread.number)
        except WorkerFailed:
            self.wake_all()  # another worker's failure ended this one, perhaps inside a mutex
        except BaseException as exception:
            self.fail(thread, exception)

    def join(self, threads: list[Thread]) -> None:
        """Wait for threads; after a failure, only a moment for each."""
        for thread in threads:
            while thread.system.is_alive() and self.failure is None:
                thread.system.join(ABANDON_AFTER)  # returns at once when the thread ends; else looks for a failure
            if self.failure is not None:
                thread.system.join(ABANDON_AFTER)
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure

    def fail(self, thread: Thread, exception: BaseException) -> None:
        """Keep the first failure and let every thread that waits in this library find it."""
        if self.failure is None:
            failure = WorkerFailed(f"{thread.name} failed: {type(exception).__name__}: {exception}")
            failure.__cause__ = exception
            self.failure = failure
        self.wake_all()

    def wake_all(self) -> None:
        """After a failure: let every waiting thread go on, into the check that follows its wait."""
        for primitive in list(self._primitives):
            if isinstance(primitive, Mutex):
                _release(primitive.state)  # its holder may have died with it
            else:
                for turn in list(primitive.state):
                    _release(turn)

    def mutex(self, mutex: Mutex) -> tuple[Callable, Callable]:
        """(lock, unlock)"""
        mutex.state = allocate_lock()
        self._primitives.add(mutex)
        return mutex.state.acquire, mutex.state.release

    def cond(self, cond: Cond) -> tuple[Callable, Callable, Callable]:
        """(wait, signal, broadcast). Each waiting thread is parked on a lock of its own, in the order of arrival."""
        parked = cond.state = deque()
        self._primitives.add(cond)

        def wait(mutex: Mutex) -> None:
            self.check()
            turn = allocate_lock()
            turn.acquire()
            parked.append(turn)
            mutex.unlock()
            try:
                if self.failure is None:  # else fail() may have looked at `parked` too early to see this turn
                    turn.acquire()
            finally:
                mutex.lock()  # also when Ctrl-C ends the wait: the caller will unlock
            self.check()

        def signal() -> None:
            with suppress(IndexError):  # nobody waits: a signal is not kept
                _release(parked.popleft())

        def broadcast() -> None:
            for _ in range(len(parked)):
                signal()

        return wait, signal, broadcast

    def semaphore(self, semaphore: Semaphore, n: int) -> tuple[Callable, Callable]:
        """(P, V). V hands the unit to the thread that has waited longest, if one does: nobody can overtake it."""
        guard, count = allocate_lock(), n
        parked = semaphore.state = deque()
        self._primitives.add(semaphore)

        def P() -> None:
            nonlocal count
            with guard:
                if count > 0:
                    count -= 1
                    return
                turn = allocate_lock()
                turn.acquire()
                parked.append(turn)
            if self.failure is None:
                turn.acquire()
            self.check()

        def V() -> None:
            nonlocal count
            with guard:
                if parked:
                    _release(parked.popleft())
                else:
                    count += 1

        return P, V

    def check(self) -> None:
        """Raise WorkerFailed in the calling thread if some worker has failed."""
        if self.failure is not None:
            raise self.failure

    def perform(self, fn: Callable[[Any], object], task: Any) -> None:
        """fn(task)"""
        fn(task)

    def region(self, fn: Callable[[Any], object]) -> Any:
        """A context manager that does nothing."""
        return nullcontext()


def bind_to_cores(threads: list[Thread]) -> None:
    """Once there is a thread for each core that this process may use, give each thread a core of its own.

    Threads that wake each other often are otherwise put on one core again and again, while another is idle. With fewer
    threads than cores they stay free to move: somebody else may be using the core we would choose.
    """
    if not hasattr(os, "sched_setaffinity"):  # not Linux
        return
    cores = sorted(os.sched_getaffinity(0))
    if len(cores) == 1 or len(threads) < len(cores):
        return
    for thread in threads if len(threads) == len(cores) else threads[-1:]:
        with suppress(OSError):  # it has ended already
            os.sched_setaffinity(thread.system.native_id, {cores[(thread.number - 1) % len(cores)]})


def _release(lock: Any) -> None:
    """Release a lock that may be free already (a failure and a signal can both wake the same thread)."""
    with suppress(RuntimeError):
        lock.release()


# --------------------------------------------------------------------------------------------------------- the recorder


class Event(NamedTuple):
    """What a thread did from `begin` to `end` (time.perf_counter_ns): kind is "task", "region" or "wait"."""

    thread: str
    kind: str
    name: str  # the function of a task or region; the primitive that was waited for
    detail: str  # the task; the line that waited, as file:line
    begin: int
    end: int


class Recorder(Runtime):
    """Real threads that note every task, region and wait; the newest `capacity` events of each thread are kept."""

    def __init__(self, capacity: int = 1 << 16) -> None:
        super().__init__()
        self.capacity = capacity
        self._buffers: dict[str, deque[Event]] = {}

    def events(self) -> list[Event]:
        """All events kept, in order of their beginning."""
        return sorted((event for buffer in self._buffers.values() for event in buffer), key=lambda event: event.begin)

    def note(self, kind: str, name: str, detail: str, begin: int) -> None:
        """Append an event that ends now to the calling thread's buffer."""
        end, thread = time.perf_counter_ns(), threading.current_thread().name
        buffer = self._buffers.get(thread)
        if buffer is None:
            buffer = self._buffers[thread] = deque(maxlen=self.capacity)
        buffer.append(Event(thread, kind, name, detail, begin, end))

    def mutex(self, mutex: Mutex) -> tuple[Callable, Callable]:
        """(lock, unlock); only a lock() that has to wait is noted."""
        acquire, release = super().mutex(mutex)
        waiting_lock = self.timed(acquire, label(mutex))

        def lock() -> None:
            if not acquire(False):
                waiting_lock()

        return lock, release

    def cond(self, cond: Cond) -> tuple[Callable, Callable, Callable]:
        """(wait, signal, broadcast)"""
        wait, signal, broadcast = super().cond(cond)
        return self.timed(wait, label(cond)), signal, broadcast

    def semaphore(self, semaphore: Semaphore, n: int) -> tuple[Callable, Callable]:
        """(P, V)"""
        P, V = super().semaphore(semaphore, n)
        return self.timed(P, label(semaphore)), V

    def join(self, threads: list[Thread]) -> None:
        """Waiting for threads to end is a wait as well."""
        self.timed(super().join, "join")(threads)

    def perform(self, fn: Callable[[Any], object], task: Any) -> None:
        """fn(task), noted as a task."""
        begin = time.perf_counter_ns()
        fn(task)
        self.note("task", operation_name(fn), str(task), begin)

    @contextmanager
    def region(self, fn: Callable[[Any], object]) -> Iterator[None]:
        """Note the time from entering to leaving as a region."""
        begin = time.perf_counter_ns()
        yield
        self.note("region", operation_name(fn), "", begin)

    def timed(self, operation: Callable, name: str) -> Callable:
        """`operation`, with the time it takes noted as a wait at the line that called it."""

        def timed_operation(*arguments: Any) -> None:
            begin = time.perf_counter_ns()
            operation(*arguments)
            self.note("wait", name, call_site(), begin)

        return timed_operation


def call_site() -> str:
    """file:line of the innermost frame outside this module."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename == __file__:
        frame = frame.f_back
    return f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}"


def label(primitive: Mutex | Cond | Semaphore) -> str:
    """The primitive's name, or its kind and the line it was made at."""
    kind = type(primitive).__name__
    return f"{kind} {primitive.name}" if primitive.name else f"{kind} of {call_site()}"


def operation_name(fn: Callable) -> str:
    """The outermost function's name: "matmul_forward.<locals>.block" -> "matmul_forward"."""
    return getattr(fn, "__qualname__", repr(fn)).split(".<locals>")[0]


# ------------------------------------------------------------------------------------------------------------- the seam

_runtime = Runtime()


def install(runtime: Runtime) -> Runtime:
    """Make `runtime` the one that new primitives and threads are made by; returns the one before."""
    global _runtime
    before, _runtime = _runtime, runtime
    return before


@contextmanager
def use(runtime: Runtime) -> Iterator[Runtime]:
    """`runtime` inside the with block, the one before after it."""
    before = install(runtime)
    try:
        yield runtime
    finally:
        install(before)


if (asked := os.environ.get("THREADLIB")) == "checked":  # any program runs under lab.check.checked, unchanged
    importlib.import_module("lab.check.checked").install()
elif asked:
    print(f"THREADLIB={asked}: there is only THREADLIB=checked", file=sys.stderr)
    sys.exit(2)
