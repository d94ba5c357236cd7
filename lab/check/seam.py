"""Primitives whose operations are made by the runtime they belong to.

A runtime of this package has, for each kind of primitive, a method that is called once, when a primitive is made, and
returns the functions that its operations consist of.
"""

from collections.abc import Callable
from typing import Protocol

from lab import threadlib

Operation = Callable[[], object]


class Maker(Protocol):
    """What a runtime of this package has besides those of lab.threadlib."""

    def mutex(self, mutex: "Mutex") -> tuple[Operation, Operation]:
        """(lock, unlock)"""
        ...

    def cond(self, cond: "Cond") -> tuple[Callable[[threadlib.Mutex], None], Operation, Operation]:
        """(wait, signal, broadcast)"""
        ...

    def semaphore(self, semaphore: "Semaphore", n: int) -> tuple[Operation, Operation]:
        """(P, V)"""
        ...


class Mutex(threadlib.Mutex):
    """lock and unlock are the runtime's."""

    __slots__ = ("lock", "unlock")
    runtime: Maker

    def __init__(self, name: str | None = None) -> None:
        super().__init__(name)
        self.lock: Operation
        self.unlock: Operation
        self.lock, self.unlock = self.runtime.mutex(self)


class Cond(threadlib.Cond):
    """wait, signal and broadcast are the runtime's."""

    __slots__ = ("broadcast", "signal", "wait")
    runtime: Maker

    def __init__(self, name: str | None = None) -> None:
        super().__init__(name)
        self.wait: Callable[[threadlib.Mutex], None]
        self.signal: Operation
        self.broadcast: Operation
        self.wait, self.signal, self.broadcast = self.runtime.cond(self)


class Semaphore(threadlib.Semaphore):
    """P and V are the runtime's."""

    __slots__ = ("P", "V")
    runtime: Maker

    def __init__(self, n: int = 0, name: str | None = None) -> None:
        super().__init__(n, name)
        self.P: Operation
        self.V: Operation
        self.P, self.V = self.runtime.semaphore(self, n)


KINDS: dict[type, type] = {threadlib.Mutex: Mutex, threadlib.Cond: Cond, threadlib.Semaphore: Semaphore}
