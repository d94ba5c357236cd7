"""Tracked arrays: ndarrays that tell a recorder which of their elements numpy reads and writes.

Numpy hands every ufunc to `__array_ufunc__` and nearly every function to `__array_function__`; methods, indexing and
assignment are overridden here. What an operation touches stands in lab.check.touches. Results are tracked as well.
"""

from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any, cast

import numpy as np

from lab.check.recorder import FORMS, Watched, WatchedRecord, plain, read, touch_some, tracked_in, wrote
from lab.check.shadow import READ, WRITE
from lab.check.touches import FUNCTIONS, INSIDE, METHODS, everything, out_position


def perform(function: Callable, rule: Callable, inputs: tuple, named: dict, written: Any = True) -> Any:
    """Record what an operation touches, do it on ordinary arrays, track what comes out. `written`: the mask of what is
    written to `out`."""
    recorder = recorder_of((inputs, named))
    pairs: dict[int, tuple] = {}
    bare_inputs, bare_named = plain(inputs, pairs), plain(named, pairs)
    position, out = out_position(function), named.get("out")
    if out is None and 0 <= position < len(inputs):
        out, inputs = inputs[position], inputs[:position] + inputs[position + 1 :]
    after = rule(function, inputs, {key: value for key, value in named.items() if key != "out"})
    wrote(out, written)
    result = given_back(function(*bare_inputs, **bare_named), pairs, recorder)
    if after is not None:
        after(result)
    return result


def recorder_of(value: Any) -> Any:
    """Whom the first tracked array in a value tells."""
    return next((array._memory.recorder for array in tracked_in(value) if array._memory is not None), None)


def given_back(result: Any, pairs: dict[int, tuple], recorder: Any) -> Any:
    """The result of an operation as the program shall see it: its own array if it was handed out again."""
    known = pairs.get(id(result))
    if known is not None:
        return known[1]
    if type(result) is tuple:
        return tuple(given_back(part, pairs, recorder) for part in result)
    return result if recorder is None else recorder.adopt(result)


class Tracked(Watched):
    """An array whose accesses are recorded."""

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: tuple = (), **options: Any) -> Any:
        if method == "at":
            return at(ufunc, *inputs)
        where = options.get("where", True) if method == "__call__" else True
        named = options | {"out": out} if out else options
        return perform(getattr(ufunc, method), UFUNCS.get(method, everything), inputs, named, where)

    def __array_function__(self, function: Any, types: Any, inputs: tuple, named: dict) -> Any:
        if function in INSIDE:
            return super().__array_function__(function, types, inputs, named)
        return perform(function, FUNCTIONS.get(function, everything), inputs, named)

    def __getitem__(self, index: Any) -> Any:
        index = plain(index)
        result = super().__getitem__(index)
        if self._memory is None:
            return result
        recorder = self._memory.recorder
        if type(result) in RECORDS and self.dtype.names:
            return RECORDS[type(result)].of(np.ndarray.__getitem__(self, whole(index)))
        if not isinstance(result, np.ndarray) or (self.dtype.hasobject and is_element(self, index)):
            recorder.record(np.ndarray.__getitem__(self, whole(index)), READ)
            return result
        if is_basic(index):
            return result if isinstance(result, Watched) else recorder.adopt(result)
        recorder.record_some(self, lambda numbers: numbers[index], READ)
        return recorder.adopt(np.asarray(result))

    def __setitem__(self, index: Any, value: Any) -> None:
        read(value)
        index = plain(index)
        if is_basic(index):
            wrote(np.ndarray.__getitem__(self, whole(index)))
        else:
            touch_some(self, lambda numbers: numbers[index], WRITE)
        np.asarray(self)[index] = plain(value)

    @property
    def flat(self) -> "Flat":  # type: ignore[override]
        """All elements in order."""
        return Flat(self)

    @flat.setter
    def flat(self, value: Any) -> None:
        read(value)
        wrote(self)
        np.asarray(self).flat = plain(value)  # pyright: ignore[reportAttributeAccessIssue]  # numpy's types lack it

    def resize(self, *shape: Any, refcheck: bool = True) -> None:
        """In place: numpy moves the elements to new memory, for which nobody else may have a view of the old one."""
        owner = self.base
        if self._memory is None or not isinstance(owner, np.ndarray) or owner.nbytes != self.nbytes:
            np.ndarray.resize(self, *shape, refcheck=refcheck)  # says why it cannot
            return
        if shape in ((), (None,)):
            return
        recorder, new = self._memory.recorder, np.zeros(shape[0] if len(shape) == 1 else shape, self.dtype)
        read(self)
        wrote(self)
        kept = min(new.size, self.size)
        new.reshape(-1)[:kept] = np.asarray(self).reshape(-1)[:kept]
        data = new.reshape(-1).tolist() if self.dtype.hasobject else new.tobytes()
        # The only way to give an array other memory; numpy's types ask for a np.bool, which it does not take.
        self.__setstate__((1, new.shape, self.dtype, False, data))  # pyright: ignore[reportArgumentType]
        name, self._memory = self._memory.name, recorder.find(self) if self.size else None
        if self._memory is not None and name:
            self._memory.call(name, self)

    def setfield(self, value: Any, *arguments: Any, **options: Any) -> None:
        """A write to one field."""
        self.getfield(*arguments, **options)[...] = value


def whole(index: Any) -> Any:
    """The index that gives a view where `index` gives a single element."""
    if is_field(index):
        return index
    parts = index if isinstance(index, tuple) else (index,)
    return parts if any(part is ... for part in parts) else (*parts, ...)  # `in` would compare arrays


def is_element(array: np.ndarray, index: Any) -> bool:
    """Is the index one number for each dimension?"""
    parts = index if isinstance(index, tuple) else (index,)
    return len(parts) == array.ndim and all(isinstance(part, int | np.integer) for part in parts)


def is_field(index: Any) -> bool:
    """Does it name fields of records?"""
    return isinstance(index, str) or (isinstance(index, list) and bool(index) and isinstance(index[0], str))


def is_basic(index: Any) -> bool:
    """Does indexing give a view?"""
    parts = index if isinstance(index, tuple) else (index,)
    basic = (int, slice, np.integer, type(...), type(None))
    return is_field(index) or all(isinstance(part, basic) and not isinstance(part, bool) for part in parts)


def at(ufunc: np.ufunc, target: Any, index: Any, *values: Any) -> None:
    """ufunc.at(target, index, values): changes the elements picked."""
    read((index, values))
    index = plain(index)
    for kind in (READ, WRITE):
        touch_some(target, lambda numbers: numbers[index], kind)
    ufunc.at(np.asarray(target), index, *plain(values))


def elementwise(_ufunc: Any, inputs: tuple, named: dict) -> None:
    """Each element of the result comes from those at its place, where a mask `where` says so."""
    where = named.get("where", True)
    read(where)
    read(inputs, where)


def reduced_at(_ufunc: Any, inputs: tuple, named: dict) -> None:
    """ufunc.reduceat(array, indices, axis): from each index up to the next one, or that element alone."""
    array, indices, *rest = inputs
    read(indices)
    axis = rest[0] if rest else named.get("axis", 0)
    edges = [int(edge) for edge in plain(indices)]
    ends = [*edges[1:], np.shape(array)[axis]]
    taken = sorted({one for a, b in zip(edges, ends, strict=True) for one in range(a, max(b, a + 1))})
    touch_some(array, lambda numbers: numbers.take(taken, axis), READ)


UFUNCS: dict[str, Callable] = {"__call__": elementwise, "reduceat": reduced_at}  # methods of ufuncs


class Flat:
    """What array.flat is: the elements in order."""

    def __init__(self, base: Watched) -> None:
        self.base = base
        self._iterator = np.asarray(base).flat

    index = property(lambda self: self._iterator.index)
    coords = property(lambda self: self._iterator.coords)

    def __len__(self) -> int:
        return len(self._iterator)

    def __iter__(self) -> Iterator[Any]:
        return self

    def __next__(self) -> Any:
        at = self._iterator.index
        value = next(self._iterator)
        self._record(at, READ)
        return value

    def __getitem__(self, index: Any) -> Any:
        index = plain(index)
        self._record(index, READ)
        return given_back(self._iterator[index], {}, recorder_of(self.base))

    def __setitem__(self, index: Any, value: Any) -> None:
        read(value)
        index = plain(index)
        self._record(index, WRITE)
        self._iterator[index] = plain(value)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        read(self.base)
        return np.array(self._iterator, dtype)

    def copy(self) -> np.ndarray:
        """A flat copy."""
        read(self.base)
        return self._iterator.copy()

    def _record(self, index: Any, kind: int) -> None:
        touch_some(self.base, lambda numbers: numbers.reshape(-1)[index], kind)


def _compare(name: str) -> Callable:
    def compare(self: Flat, other: Any) -> Any:
        read((self.base, other))
        return getattr(self._iterator, name)(plain(other))

    return compare


for _name in ("__eq__", "__ne__", "__lt__", "__le__", "__gt__", "__ge__"):
    setattr(Flat, _name, _compare(_name))


# ------------------------------------------------------------------------------------------------- methods, properties


def _method(name: str, rule: Callable) -> Callable:
    original = getattr(np.ndarray, name)

    @wraps(original)
    def method(self: Tracked, *arguments: Any, **options: Any) -> Any:
        return perform(original, rule, (self, *arguments), options)

    return method


def _part(name: str) -> property:
    """real, imag: views that can be assigned to."""
    original = getattr(np.ndarray, name)

    def write(self: Tracked, value: Any) -> None:
        read(value)
        wrote(original.__get__(self))
        original.__set__(np.asarray(self), plain(value))

    return property(original.__get__, write)


def _pointer(name: str) -> property:
    """data, ctypes ...: what is done through them cannot be seen."""
    original = getattr(np.ndarray, name)

    def get(self: Tracked) -> Any:
        if self._memory is not None:
            self._memory.recorder.unseen(self, f".{name} was taken")
        return original.__get__(self)

    return property(get)


for _name, _rule in METHODS.items():
    setattr(Tracked, _name, _method(_name, _rule))
for _name in ("real", "imag"):
    setattr(Tracked, _name, _part(_name))
for _name in ("data", "ctypes", "__array_interface__", "__array_struct__"):
    setattr(Tracked, _name, _pointer(_name))


# ------------------------------------------------------------------------------------------------------------- records


class Record(WatchedRecord):
    """A record whose accesses are recorded, field by field; one that numpy copied has no `_array` and tells nothing."""

    @classmethod
    def of(cls, array: np.ndarray) -> "Record":
        """The record that a tracked array of no dimensions consists of."""
        record = cast(Record, np.asarray(array).view(np.dtype((cls, array.dtype)))[()])
        record._array = cast(Watched, array)
        return record

    def field(self, key: Any) -> Any:
        """The name of a field given by name or number, or a list of names."""
        return key if isinstance(key, str | list) else (self.dtype.names or ())[key]

    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(key) if self._array is None else self._array[self.field(key)][()]

    def __setitem__(self, key: Any, value: Any) -> None:
        if self._array is None:
            super().__setitem__(key, value)
        else:
            self._array[self.field(key)] = value

    def getfield(self, *arguments: Any, **options: Any) -> Any:
        """One field."""
        if self._array is None:
            return super().getfield(*arguments, **options)
        return self._array.getfield(*arguments, **options)[()]

    def setfield(self, value: Any, *arguments: Any, **options: Any) -> None:
        """One field."""
        if self._array is None:
            super().setfield(value, *arguments, **options)
        else:
            self._array.setfield(value, *arguments, **options)


class RecordOfRecarray(Record, np.record):
    """The same with fields as attributes, for which numpy.record calls getfield and setfield."""

    def __setattr__(self, name: str, value: Any) -> None:
        if name == "_array":
            object.__setattr__(self, name, value)
        else:
            np.record.__setattr__(self, name, value)


def _reading(name: str) -> Callable:
    original = getattr(np.void, name)

    @wraps(original)
    def method(self: Record, *arguments: Any, **options: Any) -> Any:
        read((self, arguments))
        return original(self, *arguments, **options)

    return method


READING = """
__iter__ __eq__ __ne__ __repr__ __str__ __format__ __hash__ __array__ __reduce__ __copy__ __deepcopy__ item tolist
tobytes copy astype view reshape ravel flatten dump dumps
"""
for _name in READING.split():
    if hasattr(np.void, _name):
        setattr(Record, _name, _reading(_name))


# ------------------------------------------------------------------------------------------------ other kinds of arrays


class TrackedMemmap(Tracked, np.memmap):  # type: ignore[misc]
    """A tracked memory map: flush() and filename stay."""

    ordinary = np.ndarray

    def __array_finalize__(self, parent: Any) -> None:
        np.memmap.__array_finalize__(self, parent)
        Watched.__array_finalize__(self, parent)


class TrackedRecarray(Tracked, np.recarray):  # type: ignore[misc]
    """A tracked array of records whose fields are attributes, which numpy takes and sets by getfield and setfield."""

    ordinary = np.recarray

    def __array_finalize__(self, parent: Any) -> None:
        Watched.__array_finalize__(self, parent)
        np.recarray.__array_finalize__(self, parent)


RECORDS = {np.void: Record, np.record: RecordOfRecarray}
FORMS.update({np.ndarray: Tracked, np.recarray: TrackedRecarray, np.memmap: TrackedMemmap})
