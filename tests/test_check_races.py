"""The race detector sees exactly the elements that numpy reads and writes, and tracking changes no result."""

import random
import re
from itertools import product

import numpy as np
import pytest

from lab.check import api, races
from lab.check.instrument import instrument
from lab.check.scheduler import Scheduler
from lab.check.strategies import Default


def watching() -> tuple[races.Detector, Scheduler]:
    """A detector and the scheduler that it watches."""
    detector = races.Detector()
    detector.scheduler = Scheduler(Default(), traced=True, clocks=detector.clocks)
    return detector, detector.scheduler


class Watched:
    """Runs an operation in the main thread of a scheduler, with one tracked array of shape (4, 6), and tells what it
    touched."""

    def __init__(self, operation, dtype=np.float32):
        self.detector, self.scheduler = watching()
        self.memory = np.arange(24, dtype=dtype).reshape(4, 6)
        self.result = None

        def body():
            self.array = self.detector.track(self.memory, "x")
            self.result = operation(self.array)

        failure = self.scheduler.run(body)
        assert failure is None, failure.exception
        shadow = self.array._root.clock[:, 0] > 0
        self.writes = set(np.flatnonzero(shadow[races.WRITE]).tolist())
        self.reads = set(np.flatnonzero(shadow[races.READ]).tolist())


NUMBERS = np.arange(24).reshape(4, 6)
ALL = set(range(24))


def elements(index) -> set[int]:
    """The numbers of the elements of x[index]."""
    return set(np.atleast_1d(NUMBERS[index]).reshape(-1).tolist())


OPERATIONS = [
    # name, operation on x (4,6), index of what is read, index of what is written (None: nothing)
    ("view only", lambda x: x[1:3, ::2].T.reshape(-1, 2)[:1], None, None),
    ("scalar", lambda x: x[2, 3], (2, 3), None),
    ("negative index", lambda x: x[-1, -2], (3, 4), None),
    ("set slice", lambda x: x.__setitem__((slice(None), slice(1, 3)), 7.0), None, np.s_[:, 1:3]),
    ("set scalar", lambda x: x.__setitem__((0, 5), 1.0), None, (0, 5)),
    ("set from view", lambda x: x.__setitem__(0, x[1]), 1, 0),
    ("set with ellipsis", lambda x: x.__setitem__((..., 2), 0), None, np.s_[..., 2]),
    ("set by mask", lambda x: x.__setitem__(NUMBERS % 7 == 3, 0), None, NUMBERS % 7 == 3),
    ("set by list", lambda x: x.__setitem__(([0, 2], [1, 1]), 0), None, ([0, 2], [1, 1])),
    ("get by list", lambda x: x[[1, 3]], [1, 3], None),
    ("get by mask", lambda x: x[x > 20], ..., None),
    ("step and reverse", lambda x: x[::-2, ::-1].sum(), np.s_[::-2, ::-1], None),
    ("add in place", lambda x: x[1].__iadd__(1), 1, 1),
    ("ufunc out", lambda x: np.add(x[0], x[1], out=x[2]), [0, 1], 2),
    ("ufunc positional out", lambda x: np.multiply(x[0], 2, x[3]), 0, 3),
    ("ufunc into plain", lambda x: np.exp(x[:, 0], out=np.empty(4, np.float32)), np.s_[:, 0], None),
    ("ufunc where", lambda x: np.add(x[0], 1, out=np.zeros(6, np.float32), where=x[1] > 0), [0, 1], None),
    ("reduce", lambda x: np.add.reduce(x[:, 2:4]), np.s_[:, 2:4], None),
    ("accumulate", lambda x: np.add.accumulate(x[1]), 1, None),
    ("outer", lambda x: np.multiply.outer(x[0], x[1]), [0, 1], None),
    ("at", lambda x: np.add.at(x, (np.array([0, 0, 2]), np.array([1, 1, 5])), 1), ([0, 2], [1, 5]), ([0, 2], [1, 5])),
    ("dot", lambda x: np.dot(x[:2], x[2]), [0, 1, 2], None),
    ("dot out", lambda x: np.dot(np.eye(6, dtype=np.float32), x[0], out=x[1]), 0, 1),
    ("dot third argument", lambda x: np.dot(np.eye(6, dtype=np.float32), x[0], x[1]), 0, 1),
    ("dot method", lambda x: x[0].dot(np.ones(6, np.float32)), 0, None),
    ("matmul", lambda x: x[:, :4] @ x[:, 4:], ..., None),
    (
        "matmul out",
        lambda x: np.matmul(x[:1, :2], np.ones((2, 3), np.float32), out=x[1:2, :3]),
        np.s_[:1, :2],
        np.s_[1:2, :3],
    ),
    ("einsum", lambda x: np.einsum("ij,ij->i", x[:, :2], x[:, 2:4]), np.s_[:, :4], None),
    ("copyto", lambda x: np.copyto(x[3], x[0]), 0, 3),
    ("fill", lambda x: x[:, 5].fill(1), None, np.s_[:, 5]),
    ("sum", lambda x: x[1].sum(), 1, None),
    ("max method", lambda x: x[1, 2:].max(), np.s_[1, 2:], None),
    ("mean out", lambda x: np.mean(x[:2], axis=1, out=x[3, :2]), [0, 1], np.s_[3, :2]),
    ("cumsum", lambda x: np.cumsum(x[2]), 2, None),
    ("argmax", lambda x: np.argmax(x[2]), 2, None),
    ("sort in place", lambda x: x[0].sort(), 0, 0),
    ("float", lambda x: float(x[1, 1:2][0]), (1, 1), None),
    ("iteration", lambda x: list(x[2]), 2, None),
    ("tolist", lambda x: x[:, 1].tolist(), np.s_[:, 1], None),
    ("copy", lambda x: x[1].copy(), 1, None),
    ("astype", lambda x: x[1].astype(np.float64), 1, None),
    ("reshape that copies", lambda x: x[:, 1:3].reshape(-1), np.s_[:, 1:3], None),
    ("concatenate", lambda x: np.concatenate([x[0], x[2]]), [0, 2], None),
    ("stack", lambda x: np.stack((x[0], x[3])), [0, 3], None),
    ("where", lambda x: np.where(x[0] > 2, x[1], 0), [0, 1], None),
    ("take", lambda x: np.take(x[0], [1, 2]), 0, None),
    ("searchsorted", lambda x: np.searchsorted(x[0], 3), 0, None),
    ("linalg", lambda x: np.linalg.norm(x[2]), 2, None),
    ("split and use one", lambda x: np.split(x, 2)[1].sum(), [2, 3], None),
    ("transpose and set", lambda x: x.T.__setitem__(0, 5), None, np.s_[:, 0]),
    ("broadcast", lambda x: np.broadcast_to(x[1], (3, 6)).sum(), 1, None),
    ("zeros_like", lambda x: np.zeros_like(x), None, None),
    ("shape", lambda x: (np.shape(x), len(x), x.size, x.nbytes), None, None),
]


@pytest.mark.parametrize(("name", "operation", "read", "written"), OPERATIONS, ids=[o[0] for o in OPERATIONS])
def test_operation_touches_exactly_these_elements(name, operation, read, written):
    watched = Watched(operation)
    assert watched.reads == (elements(read) if read is not None else set())
    assert watched.writes == (elements(written) if written is not None else set())


@pytest.mark.parametrize(("name", "operation", "read", "written"), OPERATIONS, ids=[o[0] for o in OPERATIONS])
def test_tracking_changes_no_result(name, operation, read, written):
    watched = Watched(operation)
    memory = np.arange(24, dtype=np.float32).reshape(4, 6)
    result = operation(memory)
    np.testing.assert_array_equal(watched.memory, memory)
    if isinstance(result, np.ndarray | np.generic):
        np.testing.assert_array_equal(np.asarray(watched.result), result)


def two_workers(first, second) -> list[races.Race]:
    """The races between two workers of which each does something with the same tracked (4,6) array."""
    from lab import threadlib

    detector, scheduler = watching()

    def body():
        array = detector.track(np.zeros((4, 6), np.float32), "x")
        threadlib.spawn(lambda number: first(array))
        threadlib.spawn(lambda number: second(array))
        threadlib.join()

    assert scheduler.run(body) is None
    return list(detector.races.values())


def test_interleaved_strided_views_are_compared_exactly():
    generator = random.Random(1)

    def some(size):
        start = generator.randrange(size)
        return slice(start, generator.randrange(start + 1, size + 1), generator.choice([1, 1, 2, 3]))

    both = 0
    for _ in range(300):
        a, b = (some(4), some(6)), (some(4), some(6))
        shared = elements(a) & elements(b)
        found = two_workers(lambda x, a=a: x.__setitem__(a, 1), lambda x, b=b: x.__setitem__(b, 2))
        assert bool(found) == bool(shared), (a, b)
        both += bool(shared)
    assert 50 < both < 250


def test_regions_are_told_as_the_smallest_block():
    root = Watched(lambda x: None).array._root
    for rows, columns in product(
        [slice(0, 4), slice(1, 2), slice(1, 4)], [slice(0, 6), slice(2, 5), slice(0, 6, 2), slice(5, 6)]
    ):
        text = root.region(NUMBERS[rows, columns].reshape(-1))
        named = eval(f"NUMBERS{text.removeprefix('x')}")
        assert set(np.atleast_1d(named).reshape(-1).tolist()) == elements((rows, columns))
    assert root.region(np.array([0, 7])) == "x[0:2, 0:2] (2 elements in it)"


def test_two_reads_are_no_race():
    assert two_workers(lambda x: x.sum(), lambda x: x[0].max()) == []


def test_one_race_is_told_once_with_both_sides():
    (race,) = two_workers(lambda x: x[:, 1:3].fill(1), lambda x: x[2].fill(2))
    assert race.what == "x[2, 1:3]"
    assert {race.first.thread, race.second.thread} == {"worker-1", "worker-2"}
    assert re.match(
        r"x\[2, 1:3\] written by worker 1 at test_check_races.py:\d+ and worker 2 at test_check_races", race.message()
    )


def test_race_in_activations_names_tensor_workers_and_lines(tmp_path):
    from test_check import VARIANTS

    path = tmp_path / "overlap.py"
    path.write_text(next(variant for variant in VARIANTS if variant.name == "overlapping_blocks").source())
    messages = [finding.message for finding in api.check_races(path, schedules=6).findings]
    assert any(
        re.match(
            r"acts\.qkv\[0, 0, 0, 12\] written by worker \d at overlap.py:62 and worker \d at overlap.py:62", message
        )
        for message in messages
    ), messages


def test_reused_thread_numbers_and_many_threads():
    from lab import threadlib

    detector, scheduler = watching()

    def body():
        array = detector.track(np.zeros(40, np.float32), "x")
        for _ in range(3):
            for index in range(20):
                threadlib.spawn(lambda number, index=index: array[index : index + 1].fill(number))
            threadlib.join()

    assert scheduler.run(body) is None
    assert not detector.races


# --------------------------------------------------------------------------------------------- the instrumented program

PROGRAM = '''
"""Docstring."""
total = 0
class Account:
    """Doc."""
    rate = 3
    def __init__(self): self.sum, self.__own, self.parts = 0, 5, [0, 0, 0]
    def add(self, n):
        """Doc."""
        self.sum += n * self.rate
        self.__own += 1
        self.parts[n % 3] += n
        self.parts[0], self.last = self.parts[1], n
        return self.sum + self.__own
def outer(k):
    count = 0
    def inner(n):
        nonlocal count
        count += n
        return count
    return [inner(i) for i in range(k)], count
def run():
    global total
    account = Account()
    i = 0
    while i < 4:
        total += account.add(i)
        i += 1
    else:
        total = total + 1
    for account.last in range(2):
        pass
    with open(__file__) as f:
        first = f.readline()
    try:
        {}["x"]
    except KeyError as error:
        first += str(error)
    d = {"a": 1}
    d["a"] += 1
    d["a"]: int = d["a"] + 1
    words = f"{total} {d['a']}"
    del d["a"]
    assert not d, "empty"
    text = "big" if total > 3 else "small"
    values = {key: value for key, value in zip("ab", account.parts)}
    more = outer(4), words, text, values, (lambda x: x + total)(1), Account.rate
    return total, account.sum, account.parts, account.last, more
'''


@pytest.mark.parametrize("steps", [False, True])
@pytest.mark.parametrize("notes", [False, True])
def test_additions_change_neither_results_nor_lines(steps: bool, notes: bool):
    import ast

    def execute(tree, names):
        module = {"__name__": "program", "__file__": __file__} | names
        exec(compile(tree, "program.py", "exec", dont_inherit=True), module)
        return module["run"]()

    lines: list[int] = []
    accesses: list[tuple] = []
    detector = races.Detector()
    detector.note_key = lambda key, owner, text, line, write: accesses.append((text, line, write))
    names = {
        "__step__": lines.append,
        "__middle__": lambda value, line: value,
        "__between__": lambda value, line: value,
        "__loop__": lambda line, weight=1: lines.append(line) is None,
    } | detector.additions()
    plain = execute(ast.parse(PROGRAM), {})
    assert execute(instrument(ast.parse(PROGRAM), steps, notes), names) == plain
    number = {text.strip(): at for at, text in enumerate(PROGRAM.splitlines(), 1)}
    if notes:
        assert ("total", number["total += account.add(i)"], True) in accesses
        assert ("total", number["total += account.add(i)"], False) in accesses
        assert ("self.sum", number["self.sum += n * self.rate"], True) in accesses
        assert ("count", number["count += n"], True) in accesses
        assert ("self.parts[n % 3]", number["self.parts[n % 3] += n"], True) in accesses
        assert ("d['a']", number['d["a"] += 1'], True) in accesses
    if steps:
        assert number["self.sum += n * self.rate"] in lines
