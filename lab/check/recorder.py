"""What tracked arrays tell, and whom: the base of tracked arrays, of recorders, and ways to look into values.

A `Recorder` is told of every access to an array that it tracks: the race detector (lab.check.races) is one, and what
finds out who read which share of the weights (lab.check.coverage) is another.
"""

from collections.abc import Callable
from typing import Any
from weakref import WeakValueDictionary

import numpy as np

from lab.check.shadow import READ, WRITE, Memory, Where, address, byte_range


class Watched(np.ndarray):
    """An array that knows its memory; lab.check.tracked adds what numpy does with it."""

    _memory: Memory | None = None
    ordinary: type[np.ndarray] = np.ndarray  # what it would be without being tracked

    def __array_finalize__(self, parent: Any) -> None:
        self._memory = getattr(parent, "_memory", None)


class WatchedRecord(np.void):
    """A record of an array: `_array` is the tracked array of no dimensions on the same bytes (lab.check.records)."""

    _array: Watched | None = None


CONTAINERS = {tuple, list, dict}  # what is looked into
MOST_OBJECTS = 1000  # in an array that is looked into
FORMS: dict[type, type[Watched]] = {}  # ordinary kind of array -> its tracked form; filled by lab.check.tracked


# ----------------------------------------------------------------------------------------------------------- recorders


class Recorder:
    """Whom tracked arrays tell. A subclass says what becomes of an access, and in which kind of Memory it is kept."""

    def __init__(self) -> None:
        self.memories: WeakValueDictionary[int, Memory] = WeakValueDictionary()  # by address

    def record(self, array: Watched, kind: int) -> None:
        """An access to all elements of an array."""
        memory, where = self.locate(array)
        if where is not None:
            self.access(memory, where, kind)

    def locate(self, array: Watched) -> tuple[Any, Where | None]:
        """The memory of an array and its units there; no units if accesses do not count."""
        memory = array._memory
        if memory is None or not array.size or not self.wants(memory):
            return memory, None
        where = memory.where(array)
        if where is None:
            memory = self.memory_of(array)
            where = memory.where(array) if memory is not None else None
        return memory, where

    def record_some(self, array: Watched, pick: Callable[[np.ndarray], Any], kind: int) -> None:
        """An access to the elements that pick() takes from an array of their numbers."""
        memory = self.memory_of(array)
        where = memory.picked(array, pick) if memory is not None and array.size and self.wants(memory) else None
        if memory is not None and where is not None and where.index.size:
            self.access(memory, where, kind)

    def wants(self, memory: Memory) -> bool:
        """Do accesses to a memory count now?"""
        return True

    def access(self, memory: Memory, where: Where, kind: int) -> None:
        """An access to units of a memory."""
        raise NotImplementedError

    def make_memory(self, array: np.ndarray) -> Memory | None:
        """For memory not seen before; None: it is not to be tracked."""
        raise NotImplementedError

    def unseen(self, array: Watched, how: str) -> None:
        """From now on some accesses to an array cannot be seen."""

    def unseen_kind(self, kind: type) -> None:
        """The program has an array of a kind whose accesses cannot all be seen."""

    def memory_of(self, array: Watched) -> Memory | None:
        """The memory of a tracked array; numpy may have made the array by copying another one out of our sight."""
        memory = array._memory
        if memory is not None and not 0 <= address(array) - memory.address < memory.nbytes and array.size:
            memory = array._memory = self.find(array)
        return memory

    def find(self, array: np.ndarray) -> Memory | None:
        """The memory that an array is a view of, known or new."""
        owner: Any = array
        while isinstance(owner, np.ndarray):
            if isinstance(owner, Watched) and owner is not array and owner._memory is not None:
                return owner._memory
            last, owner = owner, owner.base
        if owner is not None:
            for memory in list(self.memories.values()):
                if 0 <= address(array) - memory.address < memory.nbytes:
                    return memory
            buffer = whole_buffer(owner, last)
            last = last if byte_range(last) == byte_range(buffer) else buffer  # one has a shape and a type
        low, high = byte_range(last)
        memory = self.memories.get(low)
        if memory is None or memory.nbytes < high - low:
            memory = self.make_memory(last) if last.flags.writeable else None
            if memory is not None:
                self.memories[low] = memory
        return memory

    def adopt(self, value: Any) -> Any:
        """The value, with ordinary arrays in it tracked."""
        kind = type(value)
        if kind in FORMS:
            if value.dtype == object and value.size <= MOST_OBJECTS:
                self.adopt_elements(value)
            memory = self.find(value) if value.size else None
            return value if memory is None else tracked_view(value, memory)
        if kind is list:
            for at, part in enumerate(value):
                if type(part) in FORMS:
                    value[at] = self.adopt(part)
        elif isinstance(value, tuple) and any(type(part) in (np.ndarray, list) for part in value):
            parts = [self.adopt(part) for part in value]
            return kind._make(parts) if hasattr(kind, "_make") else kind(parts) if kind is tuple else value
        elif isinstance(value, np.ma.MaskedArray) and value is not np.ma.masked:
            self.adopt_masked(value)
        elif isinstance(value, np.ndarray) and not isinstance(value, Watched | np.ma.MaskedArray):
            self.unseen_kind(kind)
        return value

    def adopt_elements(self, value: np.ndarray) -> None:
        """Arrays in an array of objects."""
        for index in np.ndindex(value.shape):
            if type(value[index]) in FORMS:
                value[index] = self.adopt(value[index])

    def adopt_masked(self, value: Any) -> None:
        """A np.ma.MaskedArray works on two arrays: the data, which it takes as views of the kind `_baseclass`, and the
        mask; numpy's types tell of neither."""
        self.unseen_kind(type(value))
        if value._baseclass in FORMS:
            value._baseclass = FORMS[value._baseclass]
        if issubclass(value._baseclass, Watched) and value.size and "_memory" not in vars(value):
            value._memory = self.find(value)
        if type(value._mask) is np.ndarray:
            value._mask = self.adopt(value._mask)


def whole_buffer(owner: Any, array: np.ndarray) -> np.ndarray:
    """The memory of what is no array (a bytearray, a mapped file), as an array; else the array itself."""
    try:
        return np.frombuffer(owner, np.uint8)
    except (TypeError, ValueError, BufferError):
        return array


def tracked_view(array: np.ndarray, memory: Memory) -> Watched:
    """A view that tells the memory's recorder."""
    view = array.view(FORMS[type(array)])
    view._memory = memory
    return view


# -------------------------------------------------------------------------------------------------- looking into values


def plain(value: Any, pairs: dict[int, tuple] | None = None) -> Any:
    """Without tracking; inside tuples, lists and dicts too. `pairs` remembers what became of whom."""
    if isinstance(value, Watched):
        view = value.view(value.ordinary)
        if pairs is not None:
            pairs[id(view)] = (view, value)
        return view
    kind = type(value)
    if kind not in CONTAINERS or not tracked_in(value):
        return value
    if kind is dict:
        return {key: plain(part, pairs) for key, part in value.items()}
    return kind([plain(part, pairs) for part in value])


def tracked_in(value: Any) -> list[Watched]:
    """The tracked arrays in a value."""
    if isinstance(value, Watched):
        return [value]
    kind = type(value)
    if kind not in CONTAINERS:
        return [value._array] if isinstance(value, WatchedRecord) and value._array is not None else []
    found = []
    for part in value.values() if kind is dict else value:
        if isinstance(part, Watched):
            found.append(part)
        elif type(part) in CONTAINERS or isinstance(part, WatchedRecord):
            found += tracked_in(part)
    return found


def read(value: Any, where: Any = True) -> None:
    """Record a read of every tracked array in a value, as far as the mask `where`, broadcast, is true."""
    touch(value, READ, where)


def wrote(value: Any, where: Any = True) -> None:
    """Record a write of every tracked array in a value."""
    touch(value, WRITE, where)


def touch(value: Any, kind: int, where: Any) -> None:
    for array in tracked_in(value):
        if array._memory is None:
            continue
        if where is True or where is np._NoValue or where is None:
            array._memory.recorder.record(array, kind)
        else:
            mask = np.asarray(plain(where), dtype=bool)
            shape = np.broadcast_shapes(array.shape, mask.shape)
            mask = np.broadcast_to(mask, shape)
            pick = lambda numbers, shape=shape, mask=mask: np.broadcast_to(numbers, shape)[mask]  # noqa: E731
            array._memory.recorder.record_some(array, pick, kind)
