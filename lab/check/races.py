"""The race detector: who read and wrote which bytes of which array, and whether anything orders the two.

Order comes from the primitives, as vector clocks (lab.check.vector_clocks). Two accesses of which neither thread knew
the other's are a race if they share a byte and one is a write. It does not matter in which order they happened to come,
so a race shows in schedules in which nothing goes wrong. With each access goes its context: the stack of the program
under check, and the mutexes the thread held, so that a race can be explained by the mutex that is missing (Savage et
al., Eraser, 1997).

Every array that the program gets hold of is tracked (lab.check.tracked): the results of operations on tracked arrays,
and what its expressions return (lab.check.notes), up to a size. Variables (globals and nonlocals that functions assign
to, attributes, elements of lists and dicts) are noted by the instrumented program. Nothing is recorded after a run's
first failure: mutexes do not exclude anybody from then on.
"""

import sys
import types
from array import array
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from enum import Enum
from itertools import islice
from typing import Any

import numpy as np

from lab.check.names import calls, outside
from lab.check.program import MODULE_NAME
from lab.check.race import Access, Context, Race, missing_lock, thread_name
from lab.check.reach import callee
from lab.check.recorder import Recorder, Watched, touch, tracked_view
from lab.check.report import place
from lab.check.runner import Runner
from lab.check.shadow import READ, WRITE, Memory, Names, Where, address
from lab.check.vector_clocks import Clocks
from lab.threadlib import Cond, Mutex, Semaphore

LARGEST, MOST = 1 << 22, 1 << 24  # bytes of one array, and of all arrays, that several threads reach
LONGEST = 64  # accesses of the only thread at an array, after which planes take less room than the list
LOOKING = {"copy", "count", "get", "index", "items", "keys", "values"}  # methods of containers that change nothing
BY_NAME = (getattr, setattr, delattr)
LONGEST_SLICE = 1000  # elements of one, of a list
MOST_RACES = 200  # different ones kept from one run
DEEPEST = 12  # calls of the program kept with an access
SEQUENCES = (list, deque, bytearray, array)
KEYS = (int, float, str, tuple, bytes, type(None), Enum, np.generic)  # what an element is known by


# --------------------------------------------------------------------------------------------------------- the detector


@dataclass(slots=True)
class Variable:
    """The accesses to a variable: kind -> thread -> (clock, context), and every context with other threads about."""

    owner: Any  # stays alive, so that its id stays its own
    last: tuple[dict, dict] = field(default_factory=lambda: ({}, {}))
    contexts: dict[int, None] = field(default_factory=dict)


class Detector(Recorder):
    """Collects the accesses of one run. With blame, it also remembers who wrote each element last and in which forward
    pass."""

    def __init__(self, blame: bool = False) -> None:
        super().__init__()
        self.clocks = Clocks(self.grow)
        self.races: dict[tuple, Race] = {}
        self.contexts: list[Context] = [Context("", (), ())]
        self._context_numbers: dict[Any, int] = {}
        self.seen: dict[int, tuple[int, set]] = {}
        self.blame = blame
        self.log: list[tuple[str, str, int]] = [("", "", -1)]  # writes: thread, site, pass
        self.log_elements: list[Any] = [None]  # which elements
        self.log_pass = np.full(1024, -1, np.int32)
        self.now = 0  # the forward pass
        # reads of elements not yet written in that pass: memory, thread, line, elements, writes before it, pass
        self.stale_reads: list[tuple[Memory, str, str, np.ndarray, int, int]] = []
        self.variables: dict[Any, Variable] = {}
        self.activations: list[Memory] = []
        self.tracked = 0  # bytes of arrays that two threads have reached

    # ---- arrays

    def track(self, array: np.ndarray, name: str, names: Names | None = None) -> Watched:
        """A tracked array on the memory of `array`, which must be in one piece."""
        memory = self.add(array, name, names)
        if names is not None:
            self.activations.append(memory)
        return tracked_view(array, memory)

    def grow(self, slots: int) -> None:
        """Room for more threads."""
        for memory in list(self.all_memories):
            memory.grow(slots)

    def concerned(self, array: Watched) -> tuple[Runner, Memory] | None:
        """The running thread and the memory of an array, if accesses to it count now; nothing needs to be known of one
        that is too large."""
        me = self.active()
        memory = self.memory_of(array) if me is not None and array.size else None
        if me is None or memory is None or (memory.nbytes > LARGEST and not self.has_room(memory)):
            return None
        return me, memory

    def record(self, array: Watched, kind: int) -> None:
        """An access to all elements of an array; of records, to the fields that it has, not to what lies between."""
        names = array.dtype.names or ()
        if names and sum(array.dtype[name].itemsize for name in names) < array.itemsize:
            parts: list[Any] = [array[name] for name in names]
            for part in parts:
                self.record(part, kind)
        elif (concerned := self.concerned(array)) is not None:
            me, memory = concerned
            where, context = memory.where(array), self.context(me)
            if self.blame or not self.repeated(me, (memory.serial, memory.unit, where, kind, context)):
                self.check(me, memory, where, kind, context)

    def record_some(self, array: Watched, pick: Callable[[np.ndarray], Any], kind: int) -> None:
        """An access to the elements that pick() takes from an array of their numbers."""
        if (concerned := self.concerned(array)) is not None:
            me, memory = concerned
            where = memory.picked(array, pick)
            if where.index.size:
                self.check(me, memory, where, kind, self.context(me))

    def context(self, me: Runner, line: int = 0) -> int:
        """The number of the stack and the mutexes of this access; `line`, if given, is that of the innermost call."""
        user_file, caller = self.scheduler.user_file, sys._getframe(1)
        own = (frame for frame in calls(caller) if frame.f_code.co_filename == user_file)
        frames = list(islice(own, DEEPEST)) or [outside(caller)]
        places = ((id(frame.f_code), frame.f_lasti) for frame in frames)
        key = (line, *places, *((mutex, mutex.since) for mutex in me.held))
        number = self._context_numbers.get(key)
        if number is None:
            number = self._context_numbers[key] = len(self.contexts)
            sites = [place(frame.f_code.co_filename, frame.f_lineno) for frame in frames]
            if line:
                sites[0] = place(frames[0].f_code.co_filename, line)
            stack = tuple(f"{site} in {frame.f_code.co_name}" for site, frame in zip(sites, frames, strict=True))
            self.contexts.append(Context(sites[0], stack, tuple((mutex.label, mutex.since) for mutex in me.held)))
        return number

    def repeated(self, me: Runner, access: tuple) -> bool:
        """Has this thread made the same access since its last release? Then it is known."""
        epoch = int(self.clocks.of[me.number][me.number])
        known = self.seen.get(me.number)
        if known is None or known[0] != epoch:
            known = self.seen[me.number] = (epoch, set())
        repeated = access in known[1]
        known[1].add(access)
        return repeated

    def check(self, me: Runner, memory: Memory, where: Where, kind: int, context: int) -> None:
        """Compare with what the others did, and put it down."""
        clock = self.clocks.of[me.number]
        mine = int(clock[me.number])
        if len(self.scheduler.live) > 1:
            memory.contexts[context] = None
        if self.blame and memory.names is not None:
            memory.make_planes()
            self.remember(me, memory, where, kind, context)
        if memory.planes is None:
            if memory.owner in (-1, me.number) and len(memory.early) < LONGEST:
                memory.owner = me.number
                memory.early.append((where, kind, mine, context))
                return
            if not self.has_room(memory):
                return
        used = max(self.clocks.of) + 1
        last = where.of(memory.make_planes()[0])[: 1 + (kind == WRITE), :used]
        known = clock[:used].reshape((1, used) + (1,) * (last.ndim - 2))
        conflict = last > known
        if conflict.any():
            self.report(me, memory, where, kind, context, conflict)
        memory.set(where, kind, me.number, mine, context)

    def has_room(self, memory: Memory) -> bool:
        """Planes take much more room than the array."""
        if memory.nbytes > LARGEST or self.tracked + memory.nbytes > MOST:
            me = self.scheduler.current.number
            memory.owner = me if memory.owner == -1 else memory.owner
            if memory.owner != me:
                size = f"{memory.nbytes:,} bytes" + ("" if memory.nbytes > LARGEST else ", on top of many others")
                self.notices[f"accesses to {memory.label} are not checked: it is too large ({size})"] = None
            return False
        self.tracked += memory.nbytes
        return True

    def report(self, me: Runner, memory: Memory, where: Where, kind: int, here: int, conflict: np.ndarray) -> None:
        """Keep a race for each thread and kind of access that conflicts."""
        elements = memory.elements(where)
        contexts = where.of(memory.make_planes()[1])
        for other_kind, slot in zip(*np.nonzero(conflict.reshape(*conflict.shape[:2], -1).any(axis=2)), strict=True):
            if slot == me.number:
                continue
            mask, theirs = conflict[other_kind, slot], contexts[other_kind, slot]
            for number in dict.fromkeys(theirs[mask].tolist()):
                chosen = elements[mask & (theirs == number)]
                first = self.side(thread_name(int(slot)), int(other_kind), number)
                self.add_race(memory.region(chosen), first, self.side(me.name, kind, here), memory.contexts)

    def side(self, thread: str, kind: int, context: int) -> Access:
        """An access in words."""
        return Access(thread, kind, self.contexts[context])

    def add_race(self, what: str, first: Access, second: Access, contexts: dict[int, None]) -> None:
        """Keep a race that is not known yet; of two writes that nothing orders neither is the first."""
        if first.kind == second.kind:
            first, second = sorted((first, second), key=lambda side: (len(side.thread), side.thread))
        race = Race(what, first, second)
        if race.key not in self.races and len(self.races) < MOST_RACES:
            race.lock = missing_lock(first, second, [self.contexts[number] for number in contexts])
            self.races[race.key] = race

    # ---- who wrote it

    def remember(self, me: Runner, memory: Memory, where: Where, kind: int, context: int) -> None:
        """For the blame: the last write of each element, and reads of elements not written in this pass."""
        elements = memory.elements(where)
        site = self.contexts[context].site
        if kind == READ:
            stale = self.log_pass[memory.last[elements]] < self.now
            if stale.any():
                self.stale_reads.append((memory, me.name, site, elements[stale].reshape(-1), len(self.log), self.now))
            return
        number = len(self.log)
        self.log.append((me.name, site, self.now))
        self.log_elements.append(elements)
        if number >= self.log_pass.size:
            self.log_pass = np.concatenate([self.log_pass, np.full_like(self.log_pass, -1)])
        self.log_pass[number] = self.now
        memory.last[elements] = number

    # ---- variables

    def note(self, cell: Any, name: str, line: int, write: bool) -> None:
        """An access to a global (cell None) or nonlocal variable."""
        self.note_key((id(cell), name), cell, name, line, write)

    def note_attribute(self, owner: Any, attribute: str, text: str, line: int, write: bool) -> None:
        """An access to owner.attribute."""
        if owner is sys.modules.get(MODULE_NAME):
            self.note(None, attribute, line, write)
        methods = ("__getattribute__", "__setattr__") if write else ("__getattribute__",)
        if in_python(owner, *methods) or isinstance(owner, types.ModuleType | np.ndarray | Mutex | Cond | Semaphore):
            return
        holder = holder_of(owner, attribute, write)
        if holder is not None:
            self.note_key((id(holder), "." + attribute), holder, text, line, write)

    def note_item(self, owner: Any, index: Any, text: str, line: int, write: bool) -> None:
        """An access to owner[index] of a dict, of a list or the like, or to a slice of it."""
        if owner is getattr(sys.modules.get(MODULE_NAME), "__dict__", None):
            self.note(None, index, line, write)
        elif in_python(owner, "__setitem__" if write else "__getitem__"):
            return
        elif isinstance(owner, np.nditer):
            touch(self.adopt(owner[index]), WRITE if write else READ)
        elif isinstance(owner, memoryview) and isinstance(index, slice) and not write:
            return  # another view
        elif isinstance(owner, (*SEQUENCES, memoryview)) and isinstance(index, int | np.integer | slice):
            owner, places = underneath(owner)
            with suppress(IndexError):
                for one in places[index][:LONGEST_SLICE] if isinstance(index, slice) else [places[index]]:
                    self.note_key((id(owner), "[]", one), owner, text, line, write)
        elif isinstance(owner, dict) and isinstance(index, KEYS):
            with suppress(TypeError):  # it cannot be hashed, and so is no key
                self.note_key((id(owner), "[]", index), owner, text, line, write)

    def note_key(self, key: Any, owner: Any, text: str, line: int, write: bool) -> None:
        """An access to the variable that `key` stands for."""
        me = self.active()
        if me is None:
            return
        variable = self.variables.get(key)
        if variable is None:
            variable = self.variables[key] = Variable(owner)
        if self.scheduler.traced:
            self.scheduler.access(text, line, write)
        clock = self.clocks.of[me.number]
        context = self.context(me, line)
        kind = WRITE if write else READ
        if len(self.scheduler.live) > 1:
            variable.contexts[context] = None
        for other_kind in (WRITE, READ) if write else (WRITE,):
            for slot, (when, theirs) in variable.last[other_kind].items():
                if slot != me.number and when > clock[slot]:
                    first = self.side(thread_name(slot), other_kind, theirs)
                    self.add_race(text, first, self.side(me.name, kind, context), variable.contexts)
        variable.last[kind][me.number] = (int(clock[me.number]), context)

    def additions(self) -> dict[str, Callable]:
        """What the instrumented program calls."""
        return {
            "__note__": self.note,
            "__note_attribute__": self.note_attribute,
            "__note_item__": self.note_item,
            "__noted__": noted,
            "__read_attribute__": self._read_attribute,
            "__read_item__": self._read_item,
            "__made__": self.adopt,
            "__items__": lambda values: (
                values if isinstance(values, range | str | Watched) else map(self.adopt, values)
            ),
            "__called__": self.called,
            "__callee__": self._callee,
            "__fresh__": object,
            "__slice__": slice,
        }

    def _read_attribute(self, owner: Any, attribute: str, text: str, line: int) -> Any:
        self.note_attribute(owner, attribute, text, line, False)
        return self.adopt(getattr(owner, attribute))

    def _read_item(self, owner: Any, index: Any, text: str, line: int) -> Any:
        self.note_item(owner, index, text, line, False)
        return self.adopt(owner[index])

    def _callee(self, function: Any, text: str, line: int) -> Any:
        owner = getattr(function, "__self__", None)
        if isinstance(owner, list | dict | set | deque) and self.scheduler.traced and self.active() is not None:
            name, _, method = text.rpartition(".")
            self.scheduler.access(name, line, method not in LOOKING)  # no race: each is done in one go
        if any(function is one for one in BY_NAME):
            return lambda owner, name, *rest: self._by_name(function, owner, name, rest, line)
        return callee(function)

    def _by_name(self, function: Callable, owner: Any, name: str, rest: tuple, line: int) -> Any:
        """getattr, setattr, delattr"""
        text = f"{getattr(owner, '__name__', type(owner).__name__)}.{name}"
        self.note_attribute(owner, name, text, line, function is not getattr)
        return self.adopt(function(owner, name, *rest))


def in_python(owner: Any, *methods: str) -> bool:
    """Has the object's class such a method written in Python? Then it says how this is done, perhaps under a mutex."""
    return any(isinstance(getattr(type(owner), method, None), types.FunctionType) for method in methods)


def underneath(sequence: Any) -> tuple[Any, range]:
    """Where the elements of a sequence are, and at which places there: those of a memoryview are another object's."""
    if not isinstance(sequence, memoryview):
        return sequence, range(len(sequence))
    if not (sequence.ndim == 1 and sequence.contiguous and sequence.nbytes):
        return sequence, range(0)
    whole: Any = sequence.obj
    start = address(np.asarray(sequence)) - address(np.frombuffer(whole, np.uint8))
    return whole, range(start // sequence.itemsize, (start + sequence.nbytes) // sequence.itemsize)


def noted(value: Any, note: Callable[..., None], *access: Any) -> Any:
    """The value, and the access to the variable that it comes from or goes to is noted."""
    note(*access)
    return value


def holder_of(owner: Any, attribute: str, write: bool) -> Any:
    """The object in which owner.attribute is kept: the owner, or its class; None for a method or a property, which are
    no variables."""
    is_class = isinstance(owner, type)
    holder = next((base for base in (owner if is_class else type(owner)).__mro__ if attribute in vars(base)), None)
    found = type(vars(holder)[attribute]) if holder is not None else type(None)
    if is_class:
        return owner if write else None if hasattr(found, "__get__") else holder
    if found is types.MemberDescriptorType:
        return owner  # a slot
    if hasattr(found, "__set__"):
        return None  # a property
    if write or attribute in getattr(owner, "__dict__", ()):
        return owner
    return None if hasattr(found, "__get__") else holder
