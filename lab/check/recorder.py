"""The base of tracked arrays, what is known of the memory behind them, and ways to look into values."""

import sys
from collections.abc import Callable, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakSet, WeakValueDictionary

import numpy as np

from lab.check.names import outside
from lab.check.shadow import READ, WRITE, Memory, Names, address, byte_range

if TYPE_CHECKING:
    from lab.check.runner import Runner
    from lab.check.scheduler import Scheduler


class Watched(np.ndarray):
    """An array that knows its memory; lab.check.tracked adds what numpy does with it."""

    _memory: Memory | None = None
    ordinary: type[np.ndarray] = np.ndarray  # what it would be without being tracked

    def __array_finalize__(self, parent: Any) -> None:
        self._memory = getattr(parent, "_memory", None)


class WatchedRecord(np.void):
    """A record of an array: `_array` is the tracked array of no dimensions on the same bytes (lab.check.tracked)."""

    _array: Watched | None = None


CONTAINERS = {tuple, list, dict}  # what is looked into
MOST_OBJECTS = 1000  # in an array that is looked into
FORMS: dict[type, type[Watched]] = {}  # ordinary kind of array -> its tracked form; filled by lab.check.tracked


# ----------------------------------------------------------------------------------------------------------- recorders


class Recorder:
    """Knows the memory behind every array of a run, and makes arrays tracked: they tell of their accesses."""

    def __init__(self) -> None:
        self.scheduler: Scheduler = None  # type: ignore[assignment]
        self.memories: WeakValueDictionary[int, Memory] = WeakValueDictionary()  # by address, the newest
        self.all_memories: WeakSet[Memory] = WeakSet()
        self.notices: dict[str, None] = {}  # what could not be seen, in words
        self.kinds: set[type] = set()  # of arrays that cannot be tracked

    def active(self) -> "Runner | None":
        """The running thread, if accesses count now."""
        scheduler = self.scheduler
        return None if scheduler is None or scheduler.ending or scheduler.failure is not None else scheduler.current

    def add(self, array: np.ndarray, name: str = "", names: Names | None = None) -> Memory:
        """A new memory; arrays the program makes have the name of the variable they are assigned to (see called)."""
        memory = Memory(self, array, name, names)
        self.memories[memory.address] = memory
        self.all_memories.add(memory)
        return memory

    def make_memory(self, array: np.ndarray) -> Memory | None:
        """For memory not seen before; None: it is not to be tracked."""
        if self.scheduler is None or self.scheduler.ending:
            return None
        frame, memory = outside(sys._getframe(1)), self.add(array)
        memory.made_at = (frame.f_code.co_filename, frame.f_lineno)
        return memory

    def unseen(self, array: Watched, how: str) -> None:
        """From now on some accesses to an array cannot be seen. Kept for the report."""
        if self.active() is not None:
            site, name = self.scheduler.site(), array._memory.label  # type: ignore[union-attr]
            self.notices[f"{name}{how} at {site}: accesses through it are not seen"] = None

    def unseen_kind(self, kind: type) -> None:
        """The program has an array of a kind whose accesses cannot all be seen. Kept for the report, with the first
        place."""
        if kind not in self.kinds and self.active() is not None:
            self.kinds.add(kind)
            name = f"{kind.__module__}.{kind.__qualname__}"
            self.notices[f"{name} at {self.scheduler.site()}: not all accesses to such arrays are seen"] = None

    def called(self, value: Any, name: str) -> Any:
        """`name = value`: an array without a name gets this one."""
        masked = isinstance(value, np.ma.MaskedArray)
        for array, text in [(value, name), (np.ma.getmask(value), f"{name}.mask")] if masked else [(value, name)]:
            memory = getattr(array, "_memory", None) if isinstance(array, np.ndarray) else None
            if memory is not None and not memory.name:
                memory.call(text, array)
        return value

    def memory_of(self, array: Watched) -> Memory | None:
        """The memory of a tracked array; numpy may have made the array by copying another one out of our sight."""
        memory = array._memory
        if memory is not None and array.size and not 0 <= address(array) - memory.address < memory.nbytes:
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
        return memory

    def adopt(self, value: Any) -> Any:
        """The value, with ordinary arrays in it tracked."""
        kind = type(value)
        if kind in FORMS:
            if value.dtype == object and value.size <= MOST_OBJECTS:
                self.adopt_parts(value, np.ndindex(value.shape))
            memory = self.find(value) if value.size else None
            return value if memory is None else tracked_view(value, memory)
        if kind is list:
            self.adopt_parts(value, range(len(value)))
        elif isinstance(value, tuple) and any(type(part) in (np.ndarray, list) for part in value):
            parts = [self.adopt(part) for part in value]
            return kind._make(parts) if hasattr(kind, "_make") else kind(parts) if kind is tuple else value
        elif isinstance(value, np.ma.MaskedArray) and value is not np.ma.masked:
            self.adopt_masked(value)
        elif isinstance(value, np.ndarray) and not isinstance(value, Watched | np.ma.MaskedArray):
            self.unseen_kind(kind)
        return value

    def adopt_parts(self, value: Any, indices: Iterable[Any]) -> None:
        """Arrays in a list or in an array of objects."""
        for index in indices:
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
    """The memory of what is not an array (a bytearray, a mapped file), as an array; else the array itself."""
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


def touch(value: Any, kind: int, where: Any = True) -> None:
    """The same for both kinds."""
    for array in tracked_in(value):
        if where is True or where is np._NoValue or where is None:
            if array._memory is not None:
                array._memory.recorder.record(array, kind)
        else:
            touch_some(array, partial(masked, mask=np.asarray(plain(where), dtype=bool)), kind)


def masked(numbers: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """The numbers for which the mask is true, each of the two broadcast to the shape of both."""
    numbers, mask = np.broadcast_arrays(numbers, mask)
    return numbers[mask]


def touch_some(array: np.ndarray, pick: Callable[[np.ndarray], Any], kind: int) -> None:
    """Record an access to the elements that pick() takes from an array of their numbers, if the array is tracked."""
    if isinstance(array, Watched) and array._memory is not None:
        array._memory.recorder.record_some(array, pick, kind)
