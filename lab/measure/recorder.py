"""A runtime for lab.threadlib that notes what real threads do: every task, region and wait."""

import os
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

from lab import threadlib
from lab.threadlib import Cond, Mutex, Primitive, Runtime, Semaphore, Thread


class Event(NamedTuple):
    """What a thread did from `begin` to `end` (time.perf_counter_ns): kind is "thread", "task", "region" or "wait"."""

    thread: str
    kind: str
    name: str  # the function of a thread, task or region; the primitive that was waited for
    detail: str  # the task; the line that waited, as file:line
    begin: int
    end: int

    @property
    def length(self) -> int:
        """Nanoseconds."""
        return self.end - self.begin


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

    def wait(self, name: str, operation: Callable, *arguments: Any) -> None:
        """operation(*arguments), noted as a wait at the line of the program that called it."""
        begin = time.perf_counter_ns()
        operation(*arguments)
        self.note("wait", name, call_site(), begin)

    def join(self, threads: list[Thread]) -> None:
        """Waiting for threads to end is a wait as well."""
        self.wait("join", super().join, threads)

    def work(self, thread: Thread, fn: Callable[[int], object]) -> None:
        """A thread from its beginning to its end."""
        begin = time.perf_counter_ns()
        super().work(thread, fn)
        self.note("thread", name_of(fn), "", begin)

    def perform(self, fn: Callable[[Any], object], task: Any) -> None:
        """fn(task), noted as a task."""
        begin = time.perf_counter_ns()
        fn(task)
        self.note("task", name_of(fn), str(task), begin)

    @contextmanager
    def region(self, fn: Callable[[Any], object]) -> Iterator[None]:
        """Note the time from entering to leaving as a region."""
        begin = time.perf_counter_ns()
        yield
        self.note("region", name_of(fn), "", begin)


class Recorded(Primitive):
    """A primitive whose waits are noted; `label` is its kind and name, or the line it was made at."""

    __slots__ = ()
    label: str
    runtime: Recorder

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        kind = type(self).__name__.removeprefix("Recorded")
        self.label = f"{kind} {self.name}" if self.name else f"{kind} of {call_site()}"


class RecordedMutex(Recorded, Mutex):
    """Only a lock() that has to wait is noted."""

    def lock(self) -> None:
        """Lock, perhaps after a wait."""
        if not self.state.acquire(False):
            self.runtime.wait(self.label, self.state.acquire)


class RecordedCond(Recorded, Cond):
    """wait() is noted."""

    def wait(self, mutex: Mutex) -> None:
        """Wait for a signal."""
        self.runtime.wait(self.label, super().wait, mutex)


class RecordedSemaphore(Recorded, Semaphore):
    """P() is noted."""

    def P(self) -> None:
        """Take a unit, perhaps after a wait."""
        self.runtime.wait(self.label, super().P)


Recorder.kinds = {Mutex: RecordedMutex, Cond: RecordedCond, Semaphore: RecordedSemaphore}

OURS = (__file__, threadlib.__file__)


def name_of(fn: Callable) -> str:
    """A function as people write it: "gpt2_forward.<locals>.mix" -> "gpt2_forward.mix"; of a partial, the function."""
    while isinstance(fn, partial):
        fn = fn.func
    name = getattr(fn, "__qualname__", None) or type(fn).__qualname__
    return name.replace("<locals>.", "").replace("<lambda>", "lambda")


def call_site() -> str:
    """file:line of the innermost frame outside this module and the thread library."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_code.co_filename in OURS:
        frame = frame.f_back
    return f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}"
