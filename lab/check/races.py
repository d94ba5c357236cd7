"""The race detector: who read and wrote which elements of which array, and whether anything orders the two.

Order comes from the primitives, as vector clocks: a thread's clock counts its releases (unlock, V, signal, spawn, end),
and whoever acquires from it (lock, P, wait, join) knows all that happened before. Two accesses of which neither thread
knew the other's are a race if they share an element and one is a write. It does not matter in which order they happened
to come, so a race shows in schedules in which nothing goes wrong.

Tracked is an ndarray whose memory has a *shadow*: for every element, per thread, the clock and the line of its last
write and last read. A view of the array is a view of the shadow with the same offset, shape and strides, so an access
is checked exactly, element by element, in one comparison, however the blocks of different threads interleave in memory.
Reading and writing are noticed in ufuncs (inputs, out=, where=, at, reduce), numpy functions (dot, einsum, copyto,
mean, ...), methods, indexing and assignment. Not noticed: ndarray views taken with view(np.ndarray) or memoryview, and
pointers.

Variables (globals and nonlocals that functions assign to, attributes, elements of lists and dicts) are noted by
lab.check.instrument.
"""

import inspect
import linecache
import re
import sys
import types
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from lab.check.names import outside
from lab.check.report import place
from lab.check.runner import Runner
from lab.check.scheduler import Scheduler
from lab.threadlib import Cond, Mutex, Semaphore

WRITE, READ = 0, 1
WORDS = {WRITE: "written", READ: "read"}
LARGEST_TRACKED, MOST_TRACKED = 1 << 18, 1 << 24  # elements of an array that a program makes, and of all of them
MOST_RACES = 200  # different ones kept from one run

# -------------------------------------------------------------------------------------------------------- vector clocks


class Clocks:
    """The vector clock of every thread, by number, as int32 arrays; thread numbers are used again only after join()."""

    def __init__(self) -> None:
        self.slots = 6
        self.of: dict[int, np.ndarray] = {}
        self.roots: weakref.WeakSet[Root] = weakref.WeakSet()

    def ensure(self, number: int) -> None:
        """Make room for a thread number."""
        if number < self.slots:
            return
        self.slots = 2 * number
        for own, clock in self.of.items():
            self.of[own] = np.concatenate([clock, np.zeros(self.slots - clock.size, np.int32)])
        for root in self.roots:
            root.grow(self.slots)

    def begin(self, runner: Runner) -> None:
        """The main thread has no parent."""
        if runner.number not in self.of:
            self.of[runner.number] = np.zeros(self.slots, np.int32)
            self.of[runner.number][runner.number] = 1

    def spawn(self, parent: Runner, child: Runner) -> None:
        """The child knows what its parent knows."""
        self.ensure(child.number)
        before = self.of.get(child.number)
        own = int(before[child.number]) if before is not None else 0
        self.of[child.number] = self.of[parent.number].copy()
        self.of[child.number][child.number] = own + 1
        self.tick(parent)

    def end(self, runner: Runner) -> None:
        """What it did is released to whoever joins it."""
        self.tick(runner)

    def joined(self, me: Runner, runner: Runner) -> None:
        """me knows all that runner did."""
        self.learn(me, self.of[runner.number])

    def acquire(self, me: Runner, state: Any) -> None:
        """A mutex is locked, or a wait is over."""
        if state.clock is not None:
            self.learn(me, state.clock)

    def release(self, me: Runner, state: Any) -> None:
        """A mutex is unlocked; its holder knew what earlier holders did."""
        state.clock = self.of[me.number].copy()
        self.tick(me)

    def publish(self, me: Runner, state: Any) -> None:
        """A condition is signalled."""
        clock = self.of[me.number].copy()
        if state.clock is not None:
            known = state.clock.size
            np.maximum(clock[:known], state.clock, out=clock[:known])
        state.clock = clock
        self.tick(me)

    def give_unit(self, me: Runner, state: Any) -> None:
        """V: the unit carries what its giver knew."""
        state.units.append(self.of[me.number].copy())
        self.tick(me)

    def take_unit(self, me: Runner, state: Any) -> None:
        """P takes the oldest unit: one P is ordered after one V, not after all."""
        clock = state.units.popleft()
        if clock is not None:
            self.learn(me, clock)

    def learn(self, me: Runner, clock: np.ndarray) -> None:
        """me's clock becomes the larger of the two, entry by entry."""
        mine = self.of[me.number][: clock.size]
        np.maximum(mine, clock, out=mine)

    def tick(self, me: Runner) -> None:
        """A new epoch of this thread."""
        self.of[me.number][me.number] += 1


# --------------------------------------------------------------------------------------------------------- the findings


@dataclass
class Access:
    """One side of a race."""

    thread: str
    site: str
    kind: int  # WRITE or READ

    def words(self) -> str:
        """written by worker 1 at parallel.py:88"""
        return f"{WORDS[self.kind]} by {spoken(self.thread)} at {self.site}"


@dataclass
class Race:
    """Two accesses to `what` that nothing orders; `second` came later in this run."""

    what: str
    first: Access
    second: Access

    @property
    def key(self) -> tuple:
        """The same for every occurrence of the same mistake."""
        sides = sorted([(self.first.site, self.first.kind), (self.second.site, self.second.kind)])
        return (self.name, *sides)

    @property
    def name(self) -> str:
        """The array or variable, without indices."""
        return self.what.split("[")[0]

    def message(self) -> str:
        """acts.fch[0, :, 512:520] written by worker 1 at parallel.py:88 and worker 2 at parallel.py:88"""
        first, second = self.first, self.second
        if first.kind == second.kind:
            text = f"{self.what} {first.words()} and {spoken(second.thread)} at {second.site}"
        else:
            text = f"{self.what} {first.words()} and {second.words()}"
        return f"{text}: nothing orders the two"

    def where(self) -> list[str]:
        """The lines, that of the write first."""
        sides = sorted([self.first, self.second], key=lambda side: side.kind)
        return list(dict.fromkeys(side.site for side in sides))


def spoken(thread: str) -> str:
    """worker-1 -> worker 1"""
    return "the main thread" if thread == "main" else thread.replace("-", " ")


# --------------------------------------------------------------------------------------------------------- the detector


class Detector:
    """Collects the accesses of one run. With blame, it also remembers who wrote each element last and in which forward
    pass."""

    def __init__(self, blame: bool = False) -> None:
        self.clocks = Clocks()
        self.scheduler: Scheduler | None = None
        self.races: dict[tuple, Race] = {}
        self.sites: list[str] = [""]
        self._site_numbers: dict[str, int] = {"": 0}
        self.seen: dict[int, tuple[int, set]] = {}
        self.blame = blame
        self.log: list[tuple[str, str, int]] = [("", "", -1)]  # writes: thread, site, pass
        self.log_views: list[Any] = [None]  # which elements
        self.log_pass = np.full(1024, -1, np.int32)
        self.now = 0  # the forward pass
        # reads of elements not yet written in that pass: root, thread, line, elements, writes before it, pass
        self.stale_reads: list[tuple[Root, str, str, np.ndarray, int, int]] = []
        self.variables: dict[Any, dict[int, dict[int, tuple[int, str]]]] = {}
        self.kept: list[Any] = []  # objects whose id stands in a key
        self.activations: list[Root] = []
        self.tracked = 0  # elements, in all

    def track(
        self, array: np.ndarray, name: str, names: Callable[[], dict[str, np.ndarray]] | None = None
    ) -> "Tracked":
        """A tracked array on the memory of `array`, which must be in one piece."""
        tracked = array.view(Tracked)
        root = tracked._root = Root(self, array, name, names)
        self.clocks.roots.add(root)
        self.tracked += root.size
        if names is not None:
            self.activations.append(root)
        return tracked

    def active(self) -> Runner | None:
        """The running thread, if accesses count now."""
        scheduler = self.scheduler
        return None if scheduler is None or scheduler.ending else scheduler.current

    def site_number(self) -> int:
        """The line of the program that makes this access, as a number."""
        site = self.scheduler.site()  # type: ignore[union-attr]
        number = self._site_numbers.get(site)
        if number is None:
            number = self._site_numbers[site] = len(self.sites)
            self.sites.append(site)
        return number

    def repeated(self, me: Runner, access: tuple) -> bool:
        """Has this thread made the same access since its last release? Then it is known."""
        epoch = int(self.clocks.of[me.number][me.number])
        known = self.seen.get(me.number)
        if known is None or known[0] != epoch:
            known = self.seen[me.number] = (epoch, set())
        if access in known[1]:
            return True
        known[1].add(access)
        return False

    def record(self, array: np.ndarray, kind: int) -> None:
        """An access to all elements of a Tracked array."""
        root = array._root
        me = self.active()
        if me is None or root is None or array.size == 0:
            return
        offset = array.__array_interface__["data"][0] - root.address
        if not 0 <= offset < root.nbytes:
            return  # a copy, which nobody else has
        shape, strides = array.shape, array.strides
        site = self.site_number()
        if not self.blame and self.repeated(me, (id(root), offset, shape, strides, kind, site)):
            return
        if (
            array.itemsize != root.itemsize
        ):  # another type on the same memory: its elements of the root's type, as one range
            low, high = byte_range(array)
            first, last = (low - root.address) // root.itemsize, (high - 1 - root.address) // root.itemsize
            offset, shape, strides = first * root.itemsize, (last - first + 1,), (root.itemsize,)
        view = Selection(root, offset // root.itemsize, shape, tuple(stride // root.itemsize for stride in strides))
        self.check(me, root, view, kind, site)

    def record_elements(self, array: np.ndarray, index: Any, kind: int) -> None:
        """An access to array[index], where index picks elements one by one."""
        root = array._root
        me = self.active()
        if me is None or root is None:
            return
        offset = array.__array_interface__["data"][0] - root.address
        if not 0 <= offset < root.nbytes or array.itemsize != root.itemsize:
            return
        strides = tuple(stride // root.itemsize for stride in array.strides)
        elements = Selection(root, offset // root.itemsize, array.shape, strides).elements()
        self.check(me, root, Picked(root, np.atleast_1d(elements[index]).reshape(-1)), kind, self.site_number())

    def check(self, me: Runner, root: "Root", view: Any, kind: int, site: int) -> None:
        """Compare with what the others did, and put it down."""
        clock = self.clocks.of[me.number]
        used = max(self.clocks.of) + 1
        shadow = view.clocks(used, both=kind == WRITE)
        known = clock[:used].reshape((1, used) + (1,) * (shadow.ndim - 2))
        conflict = shadow > known
        if conflict.any():
            self.report(me, root, view, kind, site, conflict)
        if self.blame and root.names is not None:
            self.remember(me, root, view, kind, site)
        view.set(kind, me.number, int(clock[me.number]), site)

    def report(self, me: Runner, root: "Root", view: Any, kind: int, here: int, conflict: np.ndarray) -> None:
        """Keep a race for each thread and kind of access that conflicts."""
        elements = view.elements()
        for other_kind, slot in zip(*np.nonzero(conflict.reshape(*conflict.shape[:2], -1).any(axis=2)), strict=True):
            if slot == me.number:
                continue
            mask = conflict[other_kind, slot]
            sites = view.sites(int(other_kind), int(slot))
            for site in dict.fromkeys(sites[mask].tolist()):
                chosen = elements[mask & (sites == site)]
                first = Access(thread_name(int(slot)), self.sites[site], int(other_kind))
                second = Access(me.name, self.sites[here], kind)
                self.add(Race(root.region(chosen), first, second))

    def add(self, race: Race) -> None:
        """Keep a race that is not known yet."""
        if race.key not in self.races and len(self.races) < MOST_RACES:
            self.races[race.key] = race

    # ---- who wrote it

    def remember(self, me: Runner, root: "Root", view: Any, kind: int, site: int) -> None:
        """For the blame: the last write of each element, and reads of elements not written in this pass."""
        last = view.of(root.last)
        if kind == READ:
            stale = self.log_pass[last] < self.now
            if stale.any():
                entry = (root, me.name, self.sites[site], view.elements()[stale].reshape(-1), len(self.log), self.now)
                self.stale_reads.append(entry)
            return
        number = len(self.log)
        self.log.append((me.name, self.sites[site], self.now))
        self.log_views.append(view)
        if number >= self.log_pass.size:
            self.log_pass = np.concatenate([self.log_pass, np.full_like(self.log_pass, -1)])
        self.log_pass[number] = self.now
        view.put(root.last, number)

    # ---- variables

    def note(self, cell: Any, name: str, line: int, write: bool) -> None:
        """An access to a global (cell None) or nonlocal variable."""
        self.note_key((id(cell), name), cell, name, line, write)

    def note_attribute(self, owner: Any, attribute: str, text: str, line: int, write: bool) -> None:
        """An access to owner.attribute."""
        if isinstance(owner, types.ModuleType | np.ndarray | Mutex | Cond | Semaphore):
            return
        if not write and attribute not in getattr(owner, "__dict__", ()):
            return  # a method, a property, an attribute of the class
        self.note_key((id(owner), "." + attribute), owner, text, line, write)

    def note_item(self, owner: Any, index: Any, text: str, line: int, write: bool) -> None:
        """An access to owner[index] of a list or dict."""
        if type(owner) in (list, dict) and isinstance(index, int | str):
            if type(owner) is list and index < 0:
                index += len(owner)
            self.note_key((id(owner), index), owner, text, line, write)

    def note_key(self, key: Any, owner: Any, text: str, line: int, write: bool) -> None:
        """An access to the variable that `key` stands for."""
        me = self.active()
        if me is None:
            return
        state = self.variables.get(key)
        if state is None:
            state = self.variables[key] = {WRITE: {}, READ: {}}
            self.kept.append(owner)
        clock = self.clocks.of[me.number]
        site = place(self.scheduler.user_file, line)  # type: ignore[union-attr]
        kind = WRITE if write else READ
        for other_kind in (WRITE, READ) if write else (WRITE,):
            for slot, (when, other_site) in state[other_kind].items():
                if slot != me.number and when > clock[slot]:
                    self.add(Race(text, Access(thread_name(slot), other_site, other_kind), Access(me.name, site, kind)))
        state[kind][me.number] = (int(clock[me.number]), site)

    def additions(self) -> dict[str, Callable]:
        """What the instrumented program calls."""
        return {
            "__note__": self.note,
            "__note_attribute__": self.note_attribute,
            "__note_item__": self.note_item,
            "__read__": self._read,
            "__read_attribute__": self._read_attribute,
            "__read_item__": self._read_item,
            "__fresh__": object,
        }

    def _read(self, cell: Any, name: str, line: int, value: Any) -> Any:
        self.note(cell, name, line, False)
        return value

    def _read_attribute(self, owner: Any, attribute: str, text: str, line: int) -> Any:
        self.note_attribute(owner, attribute, text, line, False)
        return getattr(owner, attribute)

    def _read_item(self, owner: Any, index: Any, text: str, line: int) -> Any:
        self.note_item(owner, index, text, line, False)
        return owner[index]

    # ---- arrays the program makes itself

    def numpy(self) -> types.ModuleType:
        """numpy, but arrays made through it are tracked."""
        return TrackingNumpy(self)


def thread_name(number: int) -> str:
    """As threadlib calls it."""
    return "main" if number == 0 else f"worker-{number}"


def byte_range(array: np.ndarray) -> tuple[int, int]:
    """The first byte and the one after the last."""
    low = high = array.__array_interface__["data"][0]
    for size, stride in zip(array.shape, array.strides, strict=True):
        if stride < 0:
            low += (size - 1) * stride
        else:
            high += (size - 1) * stride
    return low, high + array.itemsize


# ----------------------------------------------------------------------------------------------------------- the shadow


class Root:
    """The memory of one array and its shadow."""

    def __init__(self, detector: Detector, array: np.ndarray, name: str, names: Callable | None) -> None:
        self.detector, self.array, self.name, self.names = detector, array, name, names
        self.address, high = byte_range(array)
        self.nbytes = high - self.address
        self.itemsize = array.itemsize
        self.size = self.nbytes // self.itemsize
        self.shape = array.shape
        self.strides = tuple(stride // self.itemsize for stride in array.strides)
        slots = detector.clocks.slots
        self.clock = np.zeros((2, slots, self.size), np.int32)
        self.site = np.zeros((2, slots, self.size), np.int32)
        self.last = np.zeros(self.size if names is not None and detector.blame else 0, np.int32)

    def start_of(self, array: np.ndarray) -> int:
        """The number of the first element of an array in this memory."""
        return (array.__array_interface__["data"][0] - self.address) // self.itemsize

    def grow(self, slots: int) -> None:
        """Room for more threads."""
        for name in ("clock", "site"):
            old = getattr(self, name)
            new = np.zeros((2, slots, self.size), np.int32)
            new[:, : old.shape[1]] = old
            setattr(self, name, new)

    def region(self, elements: np.ndarray) -> str:
        """acts.fch[0, :, 512:520] for the numbers of elements."""
        elements = np.unique(elements)
        if self.names is None:
            return self.name + ranges(self.coordinates(elements), self.shape)
        for name, array in self.names().items():
            start = self.start_of(array)
            inside = elements[(elements >= start) & (elements < start + array.size)]
            if inside.size:
                return f"{self.name}.{name}" + ranges(np.unravel_index(inside - start, array.shape), array.shape)
        return f"{self.name}_memory[{elements[0]}:{elements[-1] + 1}]"

    def coordinates(self, elements: np.ndarray) -> tuple[np.ndarray, ...]:
        """Element numbers as indices of the array, whichever order it is stored in."""
        found, rest = [np.zeros_like(elements)] * len(self.shape), elements
        for axis in sorted(range(len(self.shape)), key=lambda axis: -abs(self.strides[axis])):
            if self.shape[axis] > 1:
                found[axis], rest = np.divmod(rest, self.strides[axis])
        return tuple(found)

    def writers(self) -> dict[int, int]:
        """How many elements each thread wrote."""
        counts = (self.clock[WRITE] > 0).sum(axis=1)
        return {slot: int(count) for slot, count in enumerate(counts) if count}


def ranges(coordinates: tuple[np.ndarray, ...], shape: tuple[int, ...]) -> str:
    """[0, :, 512:520] for a block of elements; of a set that is no block, the smallest block around it, marked
    "within"."""
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


class Selection:
    """The elements of a strided view: offset, shape and strides count elements of the root."""

    __slots__ = ("offset", "root", "shape", "strides")

    def __init__(self, root: Root, offset: int, shape: tuple[int, ...], strides: tuple[int, ...]) -> None:
        self.root, self.offset, self.shape, self.strides = root, offset, shape, strides

    def clocks(self, used: int, both: bool) -> np.ndarray:
        """(1 or 2, used, *shape): the clocks of writes, or of writes and reads, of each thread."""
        memory = self.root.clock
        strides = (memory.strides[0], memory.strides[1], *(4 * stride for stride in self.strides))
        return np.ndarray((2 if both else 1, used, *self.shape), np.int32, memory, 4 * self.offset, strides)

    def of(self, plane: np.ndarray) -> np.ndarray:
        """These elements of an array with one number per element of the root."""
        strides = tuple(plane.itemsize * stride for stride in self.strides)
        return np.ndarray(self.shape, plane.dtype, plane, plane.itemsize * self.offset, strides)

    def put(self, plane: np.ndarray, value: int) -> None:
        """Set these elements of such an array."""
        self.of(plane)[...] = value

    def set(self, kind: int, slot: int, clock: int, site: int) -> None:
        """Put an access down."""
        self.put(self.root.clock[kind, slot], clock)
        self.put(self.root.site[kind, slot], site)

    def sites(self, kind: int, slot: int) -> np.ndarray:
        """The lines of a thread's last accesses."""
        return self.of(self.root.site[kind, slot])

    def elements(self) -> np.ndarray:
        """The numbers of the elements, in the view's shape."""
        return self.of(np.arange(self.root.size))


class Picked:
    """Elements given one by one."""

    __slots__ = ("index", "root")

    def __init__(self, root: Root, index: np.ndarray) -> None:
        self.root, self.index = root, index

    def clocks(self, used: int, both: bool) -> np.ndarray:
        """(1 or 2, used, n)"""
        return self.root.clock[: 2 if both else 1, :used][:, :, self.index]

    def of(self, plane: np.ndarray) -> np.ndarray:
        """As for Selection, but a copy."""
        return plane[self.index]

    def put(self, plane: np.ndarray, value: int) -> None:
        """As for Selection."""
        plane[self.index] = value

    set = Selection.set
    sites = Selection.sites

    def elements(self) -> np.ndarray:
        """The numbers themselves."""
        return self.index


# ---------------------------------------------------------------------------------------------------- the tracked array


def plain(value: Any) -> Any:
    """Without tracking; inside tuples, lists and dicts too."""
    if isinstance(value, Tracked):
        return value.view(np.ndarray)
    if type(value) in (tuple, list):
        return type(value)(plain(part) for part in value)
    return value


def tracked_in(value: Any) -> "Iterator[Tracked]":
    """The tracked arrays in a value."""
    if isinstance(value, Tracked):
        yield value
    elif type(value) in (tuple, list):
        for part in value:
            yield from tracked_in(part)


def read(value: Any) -> None:
    """Record a read of every tracked array in a value."""
    for array in tracked_in(value):
        if array._root is not None:
            array._root.detector.record(array, READ)


def wrote(value: Any) -> None:
    """Record a write of every tracked array in a value."""
    for array in tracked_in(value):
        if array._root is not None:
            array._root.detector.record(array, WRITE)


class Tracked(np.ndarray):
    """An array whose accesses are recorded. Views of it are tracked as well; results of computations are ordinary
    arrays."""

    _root: Root | None = None

    def __array_finalize__(self, parent: Any) -> None:
        self._root = getattr(parent, "_root", None)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, out: tuple = (), **options: Any) -> Any:
        if method == "at":
            target, index, *values = inputs
            read(values)
            if isinstance(target, Tracked) and target._root is not None:
                target._root.detector.record_elements(target, plain(index), READ)
                target._root.detector.record_elements(target, plain(index), WRITE)
            return ufunc.at(plain(target), plain(index), *plain(values))
        read(inputs)
        read(options.get("where"))
        wrote(out)
        options = {name: plain(value) for name, value in options.items()}
        if not out:
            return getattr(ufunc, method)(*plain(inputs), **options)
        getattr(ufunc, method)(*plain(inputs), out=plain(out), **options)
        return out[0] if len(out) == 1 else out

    def __array_function__(self, function: Any, types: Any, arguments: tuple, options: dict) -> Any:
        if function in KEEP_TRACKING:
            return keep_tracking(
                super().__array_function__(function, types, arguments, options), [*tracked_in([*arguments])]
            )
        target = written_argument(function, arguments, options)
        for value in (*arguments, *options.values()):
            if value is not target:
                read(value)
        wrote(target)
        result = function(*plain(arguments), **{name: plain(value) for name, value in options.items()})
        return target if target is not None and result is not None else result

    def __getitem__(self, index: Any) -> Any:
        result = super().__getitem__(plain(index))
        root = self._root
        if root is None:
            return result
        if not isinstance(result, np.ndarray):
            whole = index if isinstance(index, tuple) else (index,)
            root.detector.record(super().__getitem__(whole if has_ellipsis(whole) else (*whole, ...)), READ)
            return result
        if inside(result, root) or result.size == 0:
            return result
        if inside(self, root):
            root.detector.record_elements(self, plain(index), READ)
        return result.view(np.ndarray)

    def __setitem__(self, index: Any, value: Any) -> None:
        read(value)
        root, index = self._root, plain(index)
        if root is not None:
            whole = index if isinstance(index, tuple) else (index,)
            target = super().__getitem__(whole if has_ellipsis(whole) else (*whole, ...))
            if inside(target, root):
                root.detector.record(target, WRITE)
            elif target.size and inside(self, root):
                root.detector.record_elements(self, index, WRITE)
        self.view(np.ndarray)[index] = plain(value)

    def reshape(self, *shape: Any, **options: Any) -> Any:
        """A view, or a copy, which is a read."""
        return self._view_or_copy(super().reshape(*shape, **options))

    def ravel(self, *order: Any, **options: Any) -> Any:
        """The same for ravel."""
        return self._view_or_copy(super().ravel(*order, **options))

    def _view_or_copy(self, result: "Tracked") -> np.ndarray:
        if self._root is None or inside(result, self._root):
            return result
        read(self)
        return result.view(np.ndarray)

    def __reduce__(self) -> Any:
        read(self)
        return plain(self).__reduce__()


def keep_tracking(result: Any, sources: list[Tracked]) -> Any:
    """Views that numpy has made ordinary arrays are tracked again."""
    if type(result) in (tuple, list):
        return type(result)(keep_tracking(part, sources) for part in result)
    if type(result) is np.ndarray:
        for source in sources:
            if source._root is not None and inside(result, source._root):
                view = result.view(Tracked)
                view._root = source._root
                return view
    return result


def has_ellipsis(index: tuple) -> bool:
    """Is there an ellipsis in the index? (`in` would compare arrays.)"""
    return any(part is ... for part in index)


def inside(array: np.ndarray, root: Root) -> bool:
    """Does the array lie in the root's memory?"""
    return 0 <= array.__array_interface__["data"][0] - root.address < root.nbytes


READING_METHODS = [
    "all", "any", "argmax", "argmin", "argpartition", "argsort", "astype", "choose", "clip", "compress", "copy",
    "cumprod", "cumsum", "dot", "flatten", "item", "max", "mean", "min", "nonzero", "prod", "ptp", "repeat", "round",
    "searchsorted", "std", "sum", "take", "tobytes", "tolist", "trace", "var", "__float__", "__int__", "__bool__",
    "__index__", "__complex__", "__contains__", "__copy__", "__deepcopy__",
]  # fmt: skip
WRITING_METHODS = ["fill", "put"]
CHANGING_METHODS = ["sort", "partition"]  # read and written


def _method(name: str, reads: bool, writes: bool) -> Callable:
    original = getattr(np.ndarray, name)

    def method(self: Tracked, *arguments: Any, **options: Any) -> Any:
        read((self, *arguments) if reads else arguments)
        target = options.get("out")
        wrote(self if writes else target)
        result = original(plain(self), *plain(arguments), **{key: plain(value) for key, value in options.items()})
        return target if target is not None else result

    method.__name__ = name
    return method


for _names, _reads, _writes in (
    (READING_METHODS, True, False),
    (WRITING_METHODS, False, True),
    (CHANGING_METHODS, True, True),
):
    for _name in _names:
        if hasattr(np.ndarray, _name):
            setattr(Tracked, _name, _method(_name, _reads, _writes))


def functions(names: str) -> set:
    """The numpy functions of these names, as far as this numpy has them."""
    return {getattr(np, name) for name in names.split() if hasattr(np, name)}


KEEP_TRACKING = functions(  # they return views, or look at no element
    "reshape ravel transpose matrix_transpose permute_dims swapaxes moveaxis rollaxis squeeze expand_dims "
    "broadcast_to broadcast_arrays split array_split hsplit vsplit dsplit unstack atleast_1d atleast_2d atleast_3d "
    "flip fliplr flipud rot90 diagonal real imag shape ndim size may_share_memory shares_memory result_type "
    "zeros_like empty_like ones_like full_like iscomplexobj isrealobj"
) | {np.lib.stride_tricks.as_strided, np.lib.stride_tricks.sliding_window_view}
WRITE_FIRST = functions("copyto put place putmask fill_diagonal put_along_axis")


@lru_cache(maxsize=256)
def out_position(function: Any) -> int:
    """At which place a function's out argument may stand; -1: only by name, or it has none."""
    known = {np.dot: 2, np.concatenate: 2, np.vdot: -1, np.inner: -1, np.where: -1}
    if function in known:
        return known[function]
    try:
        parameters = inspect.signature(function).parameters
    except (TypeError, ValueError):
        return -1
    if "out" not in parameters or parameters["out"].kind is inspect.Parameter.KEYWORD_ONLY:
        return -1
    return list(parameters).index("out")


def written_argument(function: Any, arguments: tuple, options: dict) -> Any:
    """The argument a numpy function writes to, if any."""
    if function in WRITE_FIRST:
        return arguments[0] if arguments else options.get("dst", options.get("a", options.get("arr")))
    if options.get("out") is not None:
        return options["out"]
    position = out_position(function)
    return arguments[position] if 0 <= position < len(arguments) else None


MAKERS = (
    "zeros", "ones", "empty", "full", "array", "arange", "copy", "zeros_like", "ones_like", "empty_like", "full_like",
    "linspace",
)  # fmt: skip
CONVERTERS = ("asarray", "asanyarray", "ascontiguousarray", "asfortranarray")


class TrackingNumpy(types.ModuleType):
    """Stands in for numpy in the program under check: the arrays it makes are tracked, under the name of their
    variable."""

    def __init__(self, detector: Detector) -> None:
        super().__init__("numpy")
        self.__dict__["_detector"] = detector
        for name in MAKERS:
            self.__dict__[name] = self._maker(getattr(np, name))
        for name in CONVERTERS:
            self.__dict__[name] = self._converter(getattr(np, name))

    def __getattr__(self, name: str) -> Any:
        return getattr(np, name)

    def _maker(self, function: Callable) -> Callable:
        def make(*arguments: Any, **options: Any) -> Any:
            read(arguments)
            made = function(*plain(arguments), **options)
            return self._detector.track(made, array_name()) if self._worth_tracking(made) else made

        return make

    def _worth_tracking(self, made: Any) -> bool:
        """Arrays of numbers, unless they are huge: the shadow is much larger than the array."""
        if self._detector.active() is None or not isinstance(made, np.ndarray) or made.dtype.hasobject:
            return False
        return 0 < made.size <= LARGEST_TRACKED and self._detector.tracked < MOST_TRACKED

    def _converter(self, function: Callable) -> Callable:
        def convert(value: Any, *arguments: Any, **options: Any) -> Any:
            made = function(plain(value), *arguments, **options)
            if not isinstance(value, Tracked) or value._root is None or not isinstance(made, np.ndarray):
                return made
            if inside(made, value._root):
                view = made.view(Tracked)
                view._root = value._root
                return view
            read(value)
            return made

        return convert


def array_name() -> str:
    """The variable an array is assigned to."""
    frame = outside(sys._getframe(1))
    line = linecache.getline(frame.f_code.co_filename, frame.f_lineno)
    match = re.match(r"\s*([A-Za-z_][\w.]*)\s*(?::[^=]+)?=[^=]", line)
    return match[1] if match else f"the array made at {frame.f_lineno}"
