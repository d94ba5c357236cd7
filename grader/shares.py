"""Inside a program that is watched: who reads which weights, and whether anybody uses what comes of it.

The harness hands a submission its weights as arrays of the class Noted, and numpy makes every new array one. They
compute as always, but note for each thread

    the weights that it computes with, each counted once       {"worker-1": 0.5, "worker-2": 0.5}, shares of all that
                                                               are read; reordered copies of weights count as well
    the work of its products that have no weights in them      attention: queries with keys, weights with values
    how often it comes to such products from one with weights  once a layer if attention is shared; a worker that does
                                                               all of it comes there in the others' place
    how often it reads each of its weights                     once if a product takes all positions
    the matrices that it reads any of, by their size           all if every product is shared; half of them if two
                                                               workers do whole products in turns

and can put NaN in place of the result of one product of one thread: if the token is still right, nobody used it.

The weights' memory is known however it is reached (memoryview, np.frombuffer, view(np.ndarray)); a copy made of such
a plain array is not. What a program that looks for these arrays does differently cannot be seen here; grader.scaling
compares with the runs that are timed.
"""

import math
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Iterable
from typing import Any, TypeGuard, cast

import numpy as np

from lab.checkpoint import parameter_shapes

PRODUCTS = {
    *(np.matmul, np.vecdot, np.dot, np.inner, np.einsum, np.tensordot, np.vdot, np.outer, np.correlate, np.convolve),
    *(getattr(np, name) for name in ("matvec", "vecmat") if hasattr(np, name)),  # from numpy 2.2 on
}
JOINING = {
    *(np.concatenate, np.stack, np.hstack, np.vstack, np.column_stack, np.dstack, np.block, np.append),
    *(np.array, np.asarray, np.ascontiguousarray, np.asfortranarray),  # of a list
}
LIKE = {np.empty_like, np.zeros_like, np.ones_like, np.full_like}  # arrays of that shape, with other numbers
MADE = ("empty", "zeros", "ones", "full")  # functions of numpy whose arrays are noted
TAKEN = {"asarray": None, "ascontiguousarray": "C", "asfortranarray": "F"}  # ... that would lose the class: their order
ALL_WEIGHTS = ("weights",)  # the key of the model's own
MOST_THREADS = 8  # that are told apart
MOST_REST = 1.0  # seconds of one thread in a run: many small tasks give the others their turn without that
WAITS = (("Mutex", "lock"), ("Semaphore", "P"), ("Cond", "wait"))  # of lab.threadlib: where a worker gets its next task


class Notes:
    """What is known of one run."""

    def __init__(self) -> None:
        self.bits: dict[str, int] = {}  # thread -> its bit in Root.readers
        self.roots: dict[tuple, np.ndarray] = {}  # where copied weights came from -> their readers
        self.seen: set[tuple] = set()
        self.read_by: dict[str, int] = defaultdict(int)  # thread -> weights that it computes with, each time counted
        self.attention: dict[str, float] = {}
        self.visits: dict[str, int] = defaultdict(int)  # how often a thread's products become those of attention
        self.attending: set[str] = set()  # threads whose last product was one
        self.work: dict[str, float] = {}  # of products with weights, in the order they are made
        self.layers = 1
        self.large = 0  # elements from which a result of weights alone is weights again: scaled, say
        self.pause = 0.0  # seconds that a worker rests after the first product of a task, so that others get theirs
        self.rested: dict[str, float] = defaultdict(float)  # seconds of each thread
        self.resting: set[str] = set()  # threads that have rested since they last waited for anything
        self.memory: Noted | None = None  # all weights
        self.sizes: list[int] = []  # of the matrices in that memory, one after the other
        # thread, the work after which its next product becomes NaN, whether those of attention are meant
        self.poison: tuple[str, float, bool] = ("", 0.0, False)
        self.poisoned = False

    def bit(self, thread: str) -> int:
        """The thread's bit; the last threads share one."""
        return self.bits.setdefault(thread, 1 << min(len(self.bits), MOST_THREADS - 1))

    def read(self, arrays: list["Noted"], thread: str) -> None:
        """Weights were read: mark each element."""
        bit = self.bit(thread)
        self.read_by[thread] += sum(array.size for array in arrays)
        for array in arrays:
            key = (thread, *array.place())
            if key not in self.seen:
                self.seen.add(key)
                readers = array.readers()
                np.bitwise_or(readers, bit, out=readers)

    def shares(self) -> dict:
        """{"weights": {thread: share of the weights that are read}, "attention": {thread: work}, "visits": ...}."""
        readers = list(self.roots.values())
        read = sum(int(np.count_nonzero(marks)) for marks in readers)
        own = {
            thread: sum(int(np.count_nonzero(marks & bit)) for marks in readers) for thread, bit in self.bits.items()
        }
        weights = {thread: count / max(1, read) for thread, count in own.items()}
        passes = {thread: count / max(1, own[thread]) for thread, count in self.read_by.items()}
        visits = {thread: count / self.layers for thread, count in self.visits.items()}
        return {
            "weights": weights, "attention": self.attention, "visits": visits, "passes": passes, "work": self.work,
            "matrices": self.matrices(), "poisoned": self.poisoned,
        }  # fmt: skip

    def matrices(self) -> dict[str, float]:
        """For each thread the share of the matrices that are read, of which it reads any; of copies nobody can tell."""
        marks = self.roots.get(ALL_WEIGHTS)
        if marks is None:
            return dict.fromkeys(self.bits, 1.0)
        sizes, begins = np.array(self.sizes), np.cumsum([0, *self.sizes[:-1]])
        readers = np.bitwise_or.reduceat(marks, begins)  # of each matrix
        copies = sum(int(np.count_nonzero(others)) for key, others in self.roots.items() if key != ALL_WEIGHTS)
        whole = max(1, copies + int(sizes[readers > 0].sum()))
        return {thread: (copies + int(sizes[(readers & bit) > 0].sum())) / whole for thread, bit in self.bits.items()}


NOTES = Notes()
NAMES = {threading.main_thread().ident: "MainThread"}  # and the threads of lab.threadlib that run now


def me(number=threading.get_ident) -> str:
    """The thread that asks, whatever name it has given itself."""
    return NAMES.get(number(), "another")


class Root:
    """Memory that holds weights: all of them, or a copy of some. `readers` has a byte for each, a bit for a thread."""

    def __init__(self, array: np.ndarray, key: tuple) -> None:
        self.address, self.itemsize, self.nbytes = array.__array_interface__["data"][0], array.itemsize, array.nbytes
        self.key, self.size = key, array.size

    def marks(self) -> np.ndarray:
        """The readers of each element in this run; the memory may be from an earlier one."""
        if self.key not in NOTES.roots:
            NOTES.roots.setdefault(self.key, np.zeros(self.size, np.uint8))  # of two threads the first one's stay
        return NOTES.roots[self.key]

    def holds(self, array: np.ndarray) -> bool:
        """Whether the array is a view of this memory."""
        return 0 <= array.__array_interface__["data"][0] - self.address < max(1, self.nbytes)


class Noted(np.ndarray):
    """An array whose use is noted; `root` is None for activations."""

    root: Root | None = None
    weights_written = 0  # elements, as long as nothing else has been written
    sources: frozenset = frozenset()  # the places they come from
    mixed = False  # something else has
    __array_priority__ = 1.0  # pyright: ignore[reportAssignmentType]  # what is made of one is one

    def __array_finalize__(self, parent: object) -> None:
        if not isinstance(parent, Noted):
            return
        root = parent.root
        if root is not None and self.size and self.dtype.kind == "f" and not root.holds(self):
            root = Root(self, ("copy", *parent.place(), self.shape))  # reordered, or of another type
        self.root = root

    def place(self) -> tuple:
        """Which weights these are; activations have no place."""
        root = cast(Root, self.root)
        return (root.key, self.__array_interface__["data"][0] - root.address, self.shape, self.strides)

    def readers(self) -> np.ndarray:
        """The marks of these weights; activations have none."""
        root = cast(Root, self.root)
        first = (self.__array_interface__["data"][0] - root.address) // root.itemsize
        steps = tuple(step // root.itemsize for step in self.strides)
        return np.lib.stride_tricks.as_strided(root.marks()[first:], self.shape, steps)

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **options):
        given = {"out": tuple(map(plain, out))} if out else {}
        where = options.pop("where", None)
        if where is not None:
            options["where"] = plain(where)
        result = getattr(ufunc, method)(*map(plain, inputs), **given, **options)
        return noted(ufunc, inputs, result, out)

    def __array_function__(self, function, types, args, options):
        if function not in PRODUCTS:
            result = super().__array_function__(function, types, args, options)
            if function is np.copyto and args and isinstance(args[0], Noted):
                args[0].written(args[1:2], copied=True)
            elif function in JOINING and isinstance(options.get("out"), Noted):
                options["out"].written(args[:1], copied=True)
            if function not in LIKE:
                return weights_again(function, args, result)
            if isinstance(result, Noted):
                result.root = None
            return result
        out = options.get("out")
        result = function(*map(plain, args), **{name: plain(value) for name, value in options.items()})
        return noted(function, args, result, None if out is None else (out,))

    def __setitem__(self, where, value):
        super().__setitem__(where, value)
        self.written([value], copied=True)

    def written(self, values: Iterable[object], copied: bool = False):
        """Something made of these, or these themselves, were written into this array: memory that only weights go into
        holds weights, once it is full of copies or holds many.
        """
        parts = [part for part in arrays_in(values) if part.size > 1]
        if self.root is not None or not parts:  # a number, as padding has, says nothing
            return
        owner = self
        while isinstance(owner.base, Noted):
            owner = owner.base
        new = [part for part in parts if is_weight(part) and part.place() not in owner.sources]  # not a bias everywhere
        owner.sources |= {part.place() for part in new}
        owner.weights_written += (sum if copied else max)([0, *(part.size for part in new)])
        owner.mixed |= not all(map(is_weight, parts))
        if not owner.mixed and owner.weights_written >= (min(NOTES.large, owner.size) if copied else NOTES.large):
            address = owner.__array_interface__["data"][0]
            self.root = owner.root = Root(owner, ("written", address, owner.shape))

    def dot(self, other, out=None):
        """The method is np.dot."""
        return np.dot(self, other) if out is None else np.dot(self, other, out=out)


def plain(value: object) -> object:
    """The same memory as an ordinary array."""
    return value.view(np.ndarray) if isinstance(value, Noted) else value


def is_weight(value: object) -> TypeGuard[Noted]:
    """Whether this holds weights."""
    return isinstance(value, Noted) and value.root is not None and value.size > 0


def known(value: Any) -> Any:
    """The same, noted if it is a plain array in the weights' own memory."""
    root = NOTES.memory.root if NOTES.memory is not None else None
    if type(value) is np.ndarray and root is not None and value.itemsize == root.itemsize and root.holds(value):
        value = value.view(Noted)
        value.root = root
    return value


def arrays_in(values: Iterable[object]) -> list[np.ndarray]:
    """The arrays of numbers among these, and in lists of these."""
    found: list[np.ndarray] = []
    for value in values:
        if isinstance(value, np.ndarray) and value.dtype.kind == "f":
            found.append(known(value))
        elif isinstance(value, list | tuple):
            found += arrays_in(value)
    return found


def made_of(function, values: Iterable[object], result: Noted) -> bool:
    """If weights alone have gone into it, then the result is weights, too: put together or, if it is many, scaled."""
    parts = arrays_in(values) if result.size >= NOTES.large or function in JOINING else []
    weights = [part for part in parts if is_weight(part)]
    alone = bool(weights) and len(weights) == len(parts)
    if alone:
        result.root = Root(result, (function.__name__, *(part.place() for part in weights)))
    return alone


def weights_again(function, values: Iterable[object], result: object) -> object:
    """The result of a function that computes no products; noted if it consists of weights."""
    if isinstance(result, np.ndarray) and result.dtype.kind == "f" and getattr(result, "root", None) is None:
        again = result.view(Noted)
        if made_of(function, values, again):
            return again
    return result


def noted(function, inputs, result, out):
    """Note one operation of this thread; its result, which is NaN if it is the one to be poisoned."""
    thread = me()
    inputs = [known(value) for value in inputs]
    weights = [value for value in inputs if is_weight(value)]
    product = function in PRODUCTS or (function is np.multiply and (bool(weights) or crossed(inputs, result)))
    product &= len(inputs) != 2 or inputs[0] is not inputs[1]  # a layernorm's square of a vector is no attention
    if not out and type(result) is np.ndarray:
        result = result.view(Noted)
        if function not in PRODUCTS and made_of(function, inputs, result):
            return result  # nothing is computed with them yet
    for array in out or ():
        if isinstance(array, Noted):
            array.written(inputs)
    if weights and not NOTES.poison[0]:
        NOTES.read(weights, thread)
    if product:
        work = float(np.size(result)) if function is np.multiply else work_of(inputs, result)
        result = note_product(work, result, bool(weights), thread)
    return (out[0] if len(out) == 1 else out) if out else result


def crossed(inputs: list, result: Any) -> bool:
    """Whether numbers of one operand meet many of the other, as in attention without matmul: the sum comes later. A
    column beside a table scales its rows, as layernorm and softmax do.
    """
    few, many = sorted(inputs, key=np.size)
    made = np.size(result)
    return made > np.size(many) or (made > np.size(few) > 1 and np.shape(few)[-1] > 1)


def note_product(work: float, result: object, weights: bool, thread: str) -> object:
    """Count its work; poison it; let the others have their turn. Returns the result."""
    table = NOTES.work if weights else NOTES.attention
    table[thread] = done = table.get(thread, 0.0) + work
    if weights:
        NOTES.attending.discard(thread)
    elif thread not in NOTES.attending:
        NOTES.attending.add(thread)
        NOTES.visits[thread] += 1
    who, after, of_attention = NOTES.poison
    if who == thread and of_attention != weights and done > after and not NOTES.poisoned:
        NOTES.poisoned = True
        if isinstance(result, np.ndarray):
            result[...] = np.nan
        else:
            result = np.float32(np.nan)
    rest(thread)
    return result


def rest(thread: str) -> None:
    """Let the other workers have their tasks: on a busy machine the first one awake would do all of them."""
    if NOTES.pause and thread != "MainThread" and thread not in NOTES.resting and NOTES.rested[thread] < MOST_REST:
        NOTES.resting.add(thread)
        NOTES.rested[thread] += NOTES.pause
        time.sleep(NOTES.pause)


def work_of(inputs: list, result: object) -> float:
    """Multiplications of a product: for each number of the result as many as the operands have in common."""
    arrays = [x for x in inputs if isinstance(x, np.ndarray)]
    if len(arrays) < 2:
        return 0.0
    a, b = arrays[:2]
    return float(max(a.size, b.size, getattr(result, "size", 1) * (a.shape[-1] if a.ndim else 1)))


# ---------------------------------------------------------------------------------------------------- for the harness


def watch_tasks(threadlib) -> None:
    """From now on threads are known, and one that has waited for anything may have a new task, and rests again after a
    product.
    """
    work = threadlib.Runtime.work

    def known_work(runtime, thread, fn):
        number = threading.get_ident()
        if number in NAMES:  # called by hand, in a thread that is known
            return work(runtime, thread, fn)
        NAMES[number] = f"worker-{thread.number}"
        try:
            work(runtime, thread, fn)
        finally:
            del NAMES[number]

    threadlib.Runtime.work = known_work

    def waiting(method):
        def wait(*args):
            NOTES.resting.discard(me())
            return method(*args)

        return wait

    for kind, name in WAITS:
        setattr(getattr(threadlib, kind), name, waiting(getattr(getattr(threadlib, kind), name)))


def watch_arrays() -> None:
    """From now on every array that numpy's common functions make is noted."""

    def making(function):
        def make(*args, **options):
            array = function(*args, **options)
            return array.view(Noted) if array.dtype.kind == "f" else array

        return make

    def taking(function, order):
        def take(a, dtype=None, *args, **options):
            if isinstance(a, list | tuple):
                return weights_again(function, a, function(a, dtype, *args, **options))
            if not isinstance(a, Noted):
                return function(a, dtype, *args, **options)
            return make_array(a, dtype, copy=None, order=order or options.get("order", "K"), subok=True)

        return take

    make_array = np.array

    def array(a, *args, **options):
        made = make_array(a, *args, **options | ({"subok": True} if isinstance(a, Noted) else {}))
        return weights_again(make_array, a, made) if isinstance(a, list | tuple) else made

    np.array = array

    def copied(a, order: Any = "K", subok=False):
        return make_array(a, order=order, subok=subok or isinstance(a, Noted))

    np.copy = copied
    for name in MADE:
        setattr(np, name, making(getattr(np, name)))
    for name, order in TAKEN.items():
        setattr(np, name, taking(getattr(np, name), order))


def begin(model, pause: float = 0.0, poison: str = "", after: float = 0.0, attention: bool = False) -> None:
    """Notes for the next run, of a model whose weights are watched. poison: a thread, `after`: that much work, in
    products with weights or in those of attention.
    """
    NOTES.__init__()
    NOTES.pause, NOTES.poison = pause, (poison, after, attention)
    NOTES.layers, NOTES.large = model.config.num_layers, model.config.channels**2
    for first, *others in parameter_shapes(model.config).values():
        NOTES.sizes += [math.prod(others)] * first if len(others) == 2 else [first * math.prod(others)]
    array = model.params_memory.view(np.ndarray).view(Noted)
    array.root = Root(array, ALL_WEIGHTS)
    NOTES.memory = array
    model.__init__(model.config, array)
    sys.setswitchinterval(1e-3)
