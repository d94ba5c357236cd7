"""The memory behind arrays, and what is known of each piece of it.

A `Memory` is one block of bytes that arrays are views of. It is divided into *units*: elements of the array that was
seen first, and as soon as an access does not fit these (another type, one field of a record, the real parts of complex
numbers) as many bytes as divide everything seen. A view of the array is a view of any *plane* that has one number per
unit, with the same offset, shape and strides: an access is looked up exactly, in one operation, however the parts of
different threads interleave.

There are four planes per thread: clock and context of its last write and last read. Most arrays are seen by one thread
only, so the planes are made when a second thread comes; till then the accesses are kept as a list.
"""

from collections.abc import Callable
from itertools import count
from math import gcd
from typing import Any, NamedTuple

import numpy as np

from lab.check.report import place

WRITE, READ = 0, 1

_interface = np.ndarray.__array_interface__.__get__  # type: ignore[attr-defined]
_numbers = np.arange(1024)
_serials = count(1)


def address(array: np.ndarray) -> int:
    """Where the first element of an array lies."""
    return _interface(array)["data"][0]


def byte_range(array: np.ndarray) -> tuple[int, int]:
    """The first byte and the one after the last."""
    low = high = address(array)
    for size, stride in zip(array.shape, array.strides, strict=True):
        if stride < 0:
            low += (size - 1) * stride
        else:
            high += (size - 1) * stride
    return low, high + array.itemsize


def numbers(size: int) -> np.ndarray:
    """0, 1, ... size - 1, not to be written to."""
    global _numbers
    if size > _numbers.size:
        _numbers = np.arange(max(size, 2 * _numbers.size))
    return _numbers[:size]


class Strided(NamedTuple):
    """The units of a view: offset, shape and strides count units."""

    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]

    def of(self, plane: np.ndarray) -> np.ndarray:
        """These units of a plane whose last axis is that of the units, as a view; other axes stay in front."""
        size, front = plane.itemsize, plane.ndim - 1
        strides = (*plane.strides[:front], *(size * stride for stride in self.strides))
        return np.ndarray((*plane.shape[:front], *self.shape), plane.dtype, plane, size * self.offset, strides)

    def put(self, plane: np.ndarray, value: int) -> None:
        """Set them."""
        self.of(plane)[...] = value

    def finer(self, factor: int) -> "Strided":
        """The same after every unit was divided."""
        strides = tuple(factor * stride for stride in self.strides)
        return Strided(factor * self.offset, (*self.shape, factor), (*strides, 1))


class Picked(NamedTuple):
    """Units given one by one."""

    index: np.ndarray

    def of(self, plane: np.ndarray) -> np.ndarray:
        """As for Strided, but a copy."""
        return plane[..., self.index]

    def put(self, plane: np.ndarray, value: int) -> None:
        """As for Strided."""
        plane[..., self.index] = value

    def finer(self, factor: int) -> "Picked":
        """As for Strided."""
        return Picked((self.index[:, None] * factor + np.arange(factor)).reshape(-1))


Where = Strided | Picked
Names = Callable[[], dict[str, np.ndarray]]  # views of a memory by their names


class Memory:
    """The bytes from the first to the last of `array`, which stays alive with it. `name` is what messages call
    it; without one it is known by the place in which it was made. With `names`, views of it have names of their own
    (acts.fch ...): a function gives the present ones."""

    def __init__(self, recorder: Any, array: np.ndarray, name: str, names: Names | None) -> None:
        self.recorder, self.array, self.name, self.names = recorder, array, name, names
        self.made_at: tuple[str, int] = ("", 0)  # file and line
        self.address, high = byte_range(array)
        self.nbytes = high - self.address
        self.itemsize = self.unit = max(1, array.itemsize)
        self.size = self.nbytes // self.itemsize  # in elements
        self.shape, self.strides = array.shape, tuple(stride // self.itemsize for stride in array.strides)
        self.serial = next(_serials)  # tells it from others when its address is used again
        self.owner = -1  # the thread that has been here, as long as it is the only one
        self.contexts: dict[int, None] = {}  # from where, with other threads about
        self.early: list[tuple[Where, int, int, int]] = []  # its accesses: (where, kind, clock, context)
        self.planes: np.ndarray | None = None  # (2, 2, slots, units): clock and context of each kind's last access
        self.last = np.zeros(self.size if names is not None and recorder.blame else 0, np.int32)

    def where(self, array: np.ndarray) -> Strided:
        """The units of an array that lies in this memory."""
        offset, itemsize = address(array) - self.address, array.itemsize
        shape, strides, unit = array.shape, array.strides, self.unit
        if 0 in strides or 1 in shape:  # repeated elements count once; the stride of a single one says nothing
            strides = tuple(0 if size == 1 else stride for size, stride in zip(shape, strides, strict=True))
            shape = tuple(1 if stride == 0 else size for size, stride in zip(shape, strides, strict=True))
        if itemsize % unit or offset % unit or any(stride % unit for stride in strides):
            self.divide(gcd(unit, itemsize, offset, *strides))
            unit = self.unit
        strides = tuple(stride // unit for stride in strides)
        if itemsize == unit:
            return Strided(offset // unit, shape, strides)
        return Strided(offset // unit, (*shape, itemsize // unit), (*strides, 1))

    def picked(self, array: np.ndarray, pick: Callable[[np.ndarray], Any]) -> Picked:
        """The units of the elements that pick() takes from an array of the numbers of the elements."""
        units = self.where(array).of(numbers(self.nbytes // self.unit))
        if units.ndim == array.ndim:
            units = units[..., None]
        chosen = np.asarray(pick(numbers(array.size).reshape(array.shape)), dtype=np.intp).reshape(-1)
        units = np.broadcast_to(units, (*array.shape, units.shape[-1])).reshape(-1, units.shape[-1])
        return Picked(units[chosen].reshape(-1))

    def divide(self, unit: int) -> None:
        """Smaller units from now on; what is known of a unit is known of its parts."""
        factor, self.unit = self.unit // unit, unit
        self.early = [(where.finer(factor), kind, clock, context) for where, kind, clock, context in self.early]
        if self.planes is not None:
            self.planes = np.repeat(self.planes, factor, axis=-1)

    def elements(self, where: Where) -> np.ndarray:
        """The numbers of the elements that units belong to, in the shape of `where`."""
        return where.of(numbers(self.nbytes // self.unit)) // (self.itemsize // self.unit)

    def call(self, name: str, view: np.ndarray) -> None:
        """The program assigns the memory, seen through `view`, to a variable of this name."""
        self.name = name
        if view.nbytes == self.nbytes and view.itemsize == self.itemsize and address(view) == self.address:
            self.shape, self.strides = view.shape, tuple(stride // self.itemsize for stride in view.strides)

    @property
    def label(self) -> str:
        """The name in messages."""
        return self.name or f"the array made at {place(*self.made_at)}"

    def region(self, elements: np.ndarray) -> str:
        """x[0, :, 512:520] for the numbers of elements; acts.fch[0, :, 512:520] where views have names."""
        elements = np.unique(elements)
        if self.names is None:
            return self.label + ranges(self.coordinates(elements), self.shape)
        for name, array in self.names().items():
            start = (address(array) - self.address) // self.itemsize
            inside = elements[(elements >= start) & (elements < start + array.size)]
            if inside.size:
                return f"{self.name}.{name}" + ranges(np.unravel_index(inside - start, array.shape), array.shape)
        return f"{self.name}_memory[{elements[0]}:{elements[-1] + 1}]"

    def coordinates(self, elements: np.ndarray) -> tuple[np.ndarray, ...]:
        """Element numbers as indices of the array, whichever order it is stored in."""
        found, rest = [np.zeros_like(elements)] * len(self.shape), elements
        for axis in sorted(range(len(self.shape)), key=lambda axis: -abs(self.strides[axis])):
            if self.shape[axis] > 1 and self.strides[axis]:
                found[axis], rest = np.divmod(rest, abs(self.strides[axis]))
                if self.strides[axis] < 0:
                    found[axis] = self.shape[axis] - 1 - found[axis]
        return tuple(found)

    def make_planes(self) -> np.ndarray:
        """The planes; before there were any, the list of accesses is written down unit by unit."""
        if self.planes is None:
            self.planes = np.zeros((2, 2, self.recorder.clocks.slots, self.nbytes // self.unit), np.int32)
            for where, kind, clock, context in self.early:
                self.set(where, kind, self.owner, clock, context)
            self.early.clear()
        return self.planes

    def set(self, where: Where, kind: int, slot: int, clock: int, context: int) -> None:
        """Put an access down."""
        clocks, contexts = self.make_planes()
        where.put(clocks[kind, slot], clock)
        where.put(contexts[kind, slot], context)

    def grow(self, slots: int) -> None:
        """Room for more threads."""
        if self.planes is not None:
            self.planes = np.pad(self.planes, ((0, 0), (0, 0), (0, slots - self.planes.shape[2]), (0, 0)))

    def writers(self) -> dict[int, int]:
        """How many elements each thread wrote."""
        clocks, _contexts = self.make_planes()
        counts = (clocks[WRITE] > 0).sum(axis=1) // (self.itemsize // self.unit)
        return {slot: int(count) for slot, count in enumerate(counts) if count}


def ranges(coordinates: tuple[np.ndarray, ...], shape: tuple[int, ...]) -> str:
    """[0, :, 512:520] for a block of elements; of a set that is not a block, the smallest block around it, marked
    "elements in it"."""
    parts, product, within = [], 1, False
    for values, size in zip(coordinates, shape, strict=True):
        unique = np.unique(values)
        product *= unique.size
        steps = np.diff(unique)
        step = int(steps[0]) if steps.size else 1
        if steps.size and (steps != step).any():
            step, within = 1, True
        low, high = int(unique[0]), int(unique[-1])
        if unique.size == 1:
            parts.append(str(low))
        elif unique.size == size:
            parts.append(":")
        else:
            parts.append(f"{low}:{high + 1}" + (f":{step}" if step > 1 else ""))
    if not parts:
        return ""
    number = len(coordinates[0])
    text = f"[{', '.join(parts)}]"
    return f"{text} ({number} elements in it)" if within or product != number else text
