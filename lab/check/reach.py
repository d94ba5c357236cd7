"""What numpy and Python do with tracked arrays without asking them: array(), random generators, iterators, bytes().

The instrumented program calls `callee(f)(...)` instead of `f(...)`: for a few functions something else is called that
records what the function touches.
"""

import sys
from collections.abc import Callable
from typing import Any, cast

import numpy as np

from lab.check.recorder import Watched, WatchedRecord, plain, read, tracked_in, wrote
from lab.check.touches import everything, reads_and_writes, views
from lab.check.tracked import Flat, perform, recorder_of


def callee(function: Any) -> Any:
    """What to call instead of a function; mostly the function itself."""
    try:
        replaced = REPLACED.get(function)
    except TypeError:  # it cannot be hashed
        return function
    if replaced is not None:
        return replaced
    owner = getattr(function, "__self__", None)
    if isinstance(owner, np.random.Generator | np.random.RandomState):
        # `out` is written, shuffle changes its argument, all others are read.
        return performing(function, reads_and_writes if function.__name__ == "shuffle" else everything)
    # np.vectorize reads by way of a copy.
    return performing(function, everything) if type(function) is np.vectorize else function


def performing(function: Callable, rule: Callable) -> Callable:
    """The function, by a rule of lab.check.touches, where tracked arrays are among its arguments."""

    def call(*inputs: Any, **named: Any) -> Any:
        return perform(function, rule, inputs, named) if tracked_in((inputs, named)) else function(*inputs, **named)

    return call


def as_bytes(make: Callable, how: str) -> Callable:
    """bytes, bytearray, memoryview of an array."""

    def call(*inputs: Any, **named: Any) -> Any:
        if not (inputs and isinstance(inputs[0], Watched)):
            return make(*inputs, **named)
        read(inputs)
        if how:
            recorder_of(inputs).unseen(inputs[0], how)
        return make(np.asarray(inputs[0]), *inputs[1:], **named)

    return call


def type_of(*arguments: Any, **named: Any) -> Any:
    """type(x) as it is without tracking; a class made by type() belongs to the caller's module."""
    if len(arguments) == 3:
        name, bases, members = arguments
        arguments = name, bases, {"__module__": sys._getframe(1).f_globals["__name__"]} | members
    found = type(*arguments, **named)
    if len(arguments) == 1 and issubclass(found, Watched):
        return np.memmap if issubclass(found, np.memmap) else found.ordinary
    if len(arguments) == 1 and issubclass(found, WatchedRecord):
        return np.record if issubclass(found, np.record) else np.void
    return found


def nditer(operands: Any, *inputs: Any, **named: Any) -> Any:
    """Its arrays are views of the operands, which tell by themselves, unless they are buffers."""
    flags = named.get("flags", inputs[0] if inputs else ())
    if any(flag in flags for flag in ("buffered", "copy_if_overlap", "external_loop")):
        read(operands)
        changing = named.get("op_flags", inputs[1] if len(inputs) > 1 else ())
        for at, operand in enumerate(operands if isinstance(operands, tuple | list) else [operands]):
            own = changing[at] if changing and not isinstance(changing[0], str) and at < len(changing) else changing
            if "readwrite" in own or "writeonly" in own:
                wrote(operand)
    return np.nditer(plain(operands), *plain(inputs), **plain(named))


def ndenumerate(array: Any) -> np.ndenumerate:
    """Pairs of index and element."""
    made = cast(Any, np.ndenumerate(plain(array)))  # its `iter` is not in numpy's types
    if isinstance(array, Watched) and array._memory is not None:
        made.iter = Flat(array)
    return made


REPLACED: dict[Any, Callable] = {
    function: performing(function, views)
    for function in (
        np.array, np.asarray, np.asanyarray, np.ascontiguousarray, np.asfortranarray, np.require, np.asarray_chkfinite,
        np.lib.stride_tricks.as_strided, np.frombuffer, np.fromiter,
    )
} | {
    type: type_of,
    bytes: as_bytes(bytes, ""),
    bytearray: as_bytes(bytearray, ""),
    memoryview: as_bytes(memoryview, ": a memoryview was taken"),
    np.nditer: nditer,
    np.ndenumerate: ndenumerate,
}  # fmt: skip
