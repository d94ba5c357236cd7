"""Records that tell of their fields.

An index takes a record out of an array of records: a scalar, but one on the array's own bytes, which can be written to.
"""

from collections.abc import Callable
from typing import Any, cast

import numpy as np

from lab.check.recorder import Watched, WatchedRecord, read


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

    def method(self: Record, *arguments: Any, **options: Any) -> Any:
        read((self, arguments))
        return original(self, *arguments, **options)

    method.__name__ = name
    return method


READING = """
__iter__ __eq__ __ne__ __repr__ __str__ __format__ __hash__ __array__ __reduce__ __copy__ __deepcopy__ item tolist
tobytes copy astype view reshape ravel flatten dump dumps
"""
for _name in READING.split():
    if hasattr(np.void, _name):
        setattr(Record, _name, _reading(_name))
