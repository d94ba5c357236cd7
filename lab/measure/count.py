"""The exact, slow way to know where the time goes: a clock around every function. Profilers are checked against it.

Self time is the time in a function without that in other counted functions it calls. Counted are the module-level
functions named ..._forward, on the thread that entered the with block; for the parallel program that is how long its
main thread had to wait for each.
"""

import inspect
import threading
import time
from collections.abc import Callable, Iterable
from functools import wraps
from types import ModuleType
from typing import Any


class Counter:
    """Self time of the ..._forward functions of `modules`, from entering a with block to leaving it."""

    def __init__(self, modules: Iterable[ModuleType]) -> None:
        self.modules = list(dict.fromkeys(modules))
        self.self_ns: dict[str, int] = {}
        self._inner = [0]  # for each call on the stack: time in counted functions below it
        self._originals: list[tuple[ModuleType, str, Callable]] = []

    def __enter__(self) -> "Counter":
        self._ident = threading.get_ident()
        self._begin = time.perf_counter_ns()
        for module in self.modules:
            for name, value in list(vars(module).items()):
                ours = inspect.isfunction(value) and value.__module__ in {m.__name__ for m in self.modules}
                if ours and name.endswith("_forward"):
                    self._originals.append((module, name, value))
                    setattr(module, name, self._counted(value))
        return self

    def __exit__(self, *exception: object) -> None:
        self.whole_ns = time.perf_counter_ns() - self._begin
        for module, name, value in self._originals:
            setattr(module, name, value)

    def report(self) -> dict[str, float]:
        """{function: seconds of self time}, and "whole": seconds from entering to leaving."""
        return {name: ns / 1e9 for name, ns in self.self_ns.items()} | {"whole": self.whole_ns / 1e9}

    def _counted(self, function: Callable) -> Callable:
        name, inner, clock = function.__name__, self._inner, time.perf_counter_ns
        self.self_ns[name] = 0

        @wraps(function)
        def timed(*arguments: Any, **options: Any) -> Any:
            if threading.get_ident() != self._ident:
                return function(*arguments, **options)
            inner.append(0)
            begin = clock()
            try:
                return function(*arguments, **options)
            finally:
                total = clock() - begin
                self.self_ns[name] += total - inner.pop()
                inner[-1] += total

        return timed
