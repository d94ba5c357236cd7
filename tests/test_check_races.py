"""The race detector: accesses that nothing orders, in words; notes change nothing in the program."""

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


NUMBERS = np.arange(24).reshape(4, 6)


def elements(index) -> set[int]:
    """The numbers of the elements of x[index]."""
    return set(np.atleast_1d(NUMBERS[index]).reshape(-1).tolist())


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
    root = races.Detector().track(np.zeros((4, 6)), "x")._memory
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
    detector.scheduler = Scheduler(Default())
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
