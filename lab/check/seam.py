"""Primitives whose operations are made by the runtime they belong to.

A runtime of this package has, for each kind of primitive, a method that is called once, when a primitive is made, and
returns the functions that its operations consist of: mutex(mutex) -> (lock, unlock), cond(cond) -> (wait, signal,
broadcast), semaphore(semaphore, n) -> (P, V).
"""

from collections.abc import Callable

from lab import threadlib


class Mutex(threadlib.Mutex):
    """lock and unlock are the runtime's."""

    __slots__ = ("lock", "unlock")

    def __init__(self, name: str | None = None) -> None:
        super().__init__(name)
        self.lock: Callable[[], object]
        self.unlock: Callable[[], None]
        self.lock, self.unlock = self.runtime.mutex(self)


class Cond(threadlib.Cond):
    """wait, signal and broadcast are the runtime's."""

    __slots__ = ("broadcast", "signal", "wait")

    def __init__(self, name: str | None = None) -> None:
        super().__init__(name)
        self.wait: Callable[[threadlib.Mutex], None]
        self.signal: Callable[[], None]
        self.broadcast: Callable[[], None]
        self.wait, self.signal, self.broadcast = self.runtime.cond(self)


class Semaphore(threadlib.Semaphore):
    """P and V are the runtime's."""

    __slots__ = ("P", "V")

    def __init__(self, n: int = 0, name: str | None = None) -> None:
        super().__init__(n, name)
        self.P: Callable[[], None]
        self.V: Callable[[], None]
        self.P, self.V = self.runtime.semaphore(self, n)


KINDS: dict[type, type] = {threadlib.Mutex: Mutex, threadlib.Cond: Cond, threadlib.Semaphore: Semaphore}
