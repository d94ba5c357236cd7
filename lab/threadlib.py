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

Every primitive takes an optional name, which messages and the timeline use: Mutex("queue"). An exception in a worker
stops the program instead of leaving the rest to wait for ever: whoever waits here gets WorkerFailed, raised from it.

The seam: threads and primitives belong to the `Runtime` in use when they are made. `use(runtime)` puts another one in
place (it records, checks or explores), whose `kinds` are subclasses that stand in for the primitives of this file.
"""

import threading
from _thread import allocate_lock
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from itertools import count
from typing import Any, ClassVar
from weakref import WeakSet

from lab import machine

__all__ = ["Cond", "Mutex", "Semaphore", "Thread", "WorkerFailed", "join", "perform", "region", "spawn", "threads"]

ABANDON_AFTER = 1.0  # seconds join() waits for each of the remaining threads once one has failed


class WorkerFailed(Exception):
    """A worker raised an exception (the __cause__ of this one); the other threads cannot go on."""


class Thread:
    """A thread made by spawn(): its number, counted from 1, and its name, "worker-<number>"."""

    def __init__(self, number: int, runtime: "Runtime") -> None:
        self.number, self.name, self.runtime = number, f"worker-{number}", runtime
        self.system: Any = None  # the runtime's own handle, once it has started


def spawn(fn: Callable[[int], object]) -> Thread:
    """Start a thread that runs fn(number); the number is the smallest from 1 that no unjoined thread has."""
    runtime = _runtime
    with runtime.guard:
        taken = {thread.number for thread in runtime.threads}
        thread = Thread(next(number for number in count(1) if number not in taken), runtime)
        runtime.threads.append(thread)
    runtime.spawn(thread, fn)
    return thread


def join(*those: Thread) -> None:
    """Wait until the given threads have ended, or all that were spawned. Raises WorkerFailed if one of them failed."""
    runtime = those[0].runtime if those else _runtime
    waited = list(those) or threads()
    try:
        runtime.join(waited)
    finally:
        with runtime.guard:
            runtime.threads = [thread for thread in runtime.threads if thread not in waited]


def threads() -> list[Thread]:
    """The threads that have been spawned and not yet joined, oldest first."""
    return [thread for thread in _runtime.threads if thread.system is not None]


class Primitive:
    """What all have: a name, the runtime they were made under, and `state`, which is that runtime's to use."""

    __slots__ = ("__weakref__", "name", "runtime", "state")

    def __new__(cls, *_: Any, **__: Any) -> Any:
        """The seam: the runtime in use may have another class for it, and for a subclass of it a base of its own."""
        kind = next((_runtime.kinds[base] for base in cls.__mro__ if base in _runtime.kinds), cls)
        return object.__new__(kind if issubclass(kind, cls) else type(cls.__name__, (cls, kind), {}))

    def __init__(self, name: str | None, state: Any) -> None:
        self.name, self.runtime, self.state = name, _runtime, state
        with self.runtime.guard:
            self.runtime.primitives.add(self)

    def park(self) -> Any:
        """Queue up in `state` for a turn: a lock that is taken, on which a thread sleeps until somebody releases it."""
        turn = allocate_lock()
        turn.acquire()
        self.state.append(turn)
        return turn


class Mutex(Primitive):
    """At most one thread is between lock() and unlock(); `with mutex:` unlocks also when an exception leaves it."""

    __slots__ = ()

    def __init__(self, name: str | None = None) -> None:
        super().__init__(name, allocate_lock())

    def lock(self) -> None:
        """Wait until no other thread holds the mutex, then hold it."""
        self.state.acquire()

    def unlock(self) -> None:
        """Let the next thread hold the mutex. RuntimeError if nobody holds it."""
        try:
            self.state.release()
        except RuntimeError:
            if self.runtime.failure is None:  # else the failure has unlocked it already, see Runtime.wake_all
                raise

    def __enter__(self) -> "Mutex":
        self.lock()
        return self

    def __exit__(self, *_: object) -> None:
        self.unlock()


class Cond(Primitive):
    """A queue of threads that wait for a condition to become true; wait(mutex) is called with that mutex locked.

    Mesa semantics: between a signal and the return from wait() other threads may run and make the condition false
    again, so the caller looks again, in a while loop.
    """

    __slots__ = ()

    def __init__(self, name: str | None = None) -> None:
        super().__init__(name, deque())  # a turn for each waiting thread, in the order of arrival

    def wait(self, mutex: Mutex) -> None:
        """Unlock the mutex and wait for a signal, in one step; when wait() returns the mutex is locked again."""
        turn = self.park()
        mutex.unlock()
        try:
            self.runtime.wait_for(turn)
        except WorkerFailed:
            raise  # without the mutex: a caller that unlocks in no `finally` may need it again to end its threads
        except BaseException:
            mutex.lock()  # Ctrl-C: the caller will unlock
            raise
        mutex.lock()

    def signal(self) -> None:
        """Wake the thread that has waited longest; without one nothing happens: a signal is not kept."""
        with suppress(IndexError):
            release(self.state.popleft())

    def broadcast(self) -> None:
        """Wake all threads that wait."""
        for _ in range(len(self.state)):
            self.signal()


class Semaphore(Primitive):
    """A counter that is never negative: P() waits until it is positive and takes one, V() adds one."""

    __slots__ = ("count", "guard")

    def __init__(self, n: int = 0, name: str | None = None) -> None:
        if n < 0:
            raise ValueError(f"Semaphore({n}): the count cannot be negative")
        super().__init__(name, deque())
        self.count, self.guard = n, allocate_lock()  # the guard protects count and state; both are never non-zero

    def P(self) -> None:
        """Take one from the counter, after waiting until there is one to take."""
        with self.guard:
            if self.count > 0:
                self.count -= 1
                return
            turn = self.park()
        self.runtime.wait_for(turn)

    def V(self) -> None:
        """Add one to the counter, or hand it to the thread that has waited longest: nobody can overtake that one."""
        with self.guard:
            if self.state:
                release(self.state.popleft())
            else:
                self.count += 1


def release(lock: Any) -> None:
    """Release a lock that may be free already (a failure and a signal can both wake the same thread)."""
    with suppress(RuntimeError):
        lock.release()


def perform(fn: Callable[[Any], object], task: Any) -> None:
    """fn(task), told to the runtime as one task: the timeline shows it."""
    _runtime.perform(fn, task)


def region(fn: Callable[[Any], object]) -> Any:
    """A context manager around one parallel operation, from handing out its tasks to the barrier at its end."""
    return _runtime.region(fn)


class Runtime:
    """Real threads and real locks. Another runtime derives from this and replaces what it wants to see or decide."""

    kinds: ClassVar[dict[type, type]] = {}  # which subclasses of Mutex, Cond and Semaphore stand in for them

    def __init__(self) -> None:
        self.failure: WorkerFailed | None = None  # the first one, until join() has raised it
        self.primitives: WeakSet[Primitive] = WeakSet()
        self.threads: list[Thread] = []  # spawned and not yet joined
        self.guard = allocate_lock()  # protects the three: workers may spawn and join workers of their own

    def spawn(self, thread: Thread, fn: Callable[[int], object]) -> None:
        """Start `thread`; it is a daemon, so that a program whose main thread is done can end."""
        system = threading.Thread(target=self.work, args=(thread, fn), name=thread.name, daemon=True)
        system.start()
        thread.system = system
        with self.guard:  # a thread that this one has started may be spawning, too: the last to come here sees all
            machine.bind(each.system.native_id for each in self.threads if each.system is not None)

    def work(self, thread: Thread, fn: Callable[[int], object]) -> None:
        """What a spawned thread runs."""
        try:
            fn(thread.number)
        except BaseException as exception:
            self.fail(thread, exception)

    def join(self, threads: list[Thread]) -> None:
        """Wait for threads; after a failure, only a moment for each. Raises WorkerFailed."""
        for thread in threads:
            while thread.system.is_alive() and self.failure is None:
                thread.system.join(ABANDON_AFTER)  # returns at once when the thread ends; else looks for a failure
            if self.failure is not None:
                thread.system.join(ABANDON_AFTER)
        if self.failure is not None:
            failure, self.failure = self.failure, None
            raise failure.with_traceback(None)  # without the frames of other threads that it went through

    def fail(self, thread: Thread, exception: BaseException) -> None:
        """Keep the first failure, unless the thread was given up before, and let all that wait here find it."""
        if not isinstance(exception, WorkerFailed):  # else another one's failure ended this thread too
            failure = WorkerFailed(f"{thread.name} failed: {type(exception).__name__}: {exception}")
            failure.__cause__, exception = exception, failure
        with self.guard:
            if self.failure is None and thread in self.threads:
                self.failure = exception
        self.wake_all()

    def wake_all(self) -> None:
        """After a failure: let every waiting thread go on, into the check that follows its wait."""
        with self.guard:
            primitives = list(self.primitives)
        for primitive in primitives:
            for lock in [primitive.state] if isinstance(primitive, Mutex) else list(primitive.state):
                release(lock)  # a mutex as well: its holder may have died with it

    def wait_for(self, turn: Any) -> None:
        """Sleep until the turn is released. Raises WorkerFailed, at once or woken by it, if some worker has failed."""
        if self.failure is None:
            turn.acquire()  # fail() releases it too: the turn was kept before failure was looked at
        if self.failure is not None:
            raise self.failure.with_traceback(None)

    def perform(self, fn: Callable[[Any], object], task: Any) -> None:
        """fn(task)"""
        fn(task)

    def region(self, fn: Callable[[Any], object]) -> Any:
        """A context manager that does nothing."""
        return nullcontext()


_runtime = Runtime()


def runtime() -> Runtime:
    """The runtime in use."""
    return _runtime


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
