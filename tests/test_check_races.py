"""The race detector: accesses that nothing orders, in words; notes change nothing in the program."""

import random
import re
import textwrap
from itertools import product

import numpy as np
import pytest

from lab.check import api, races
from lab.check.instrument import instrument
from lab.check.race import Race
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


def two_workers(first, second) -> list[Race]:
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


def program(tmp_path, text: str):
    """A program with the usual imports."""
    path = tmp_path / "program.py"
    head = "import numpy as np\nfrom lab.threadlib import Cond, Mutex, Semaphore, WorkerFailed, join, spawn\n"
    path.write_text(head + textwrap.dedent(text))
    return path


def test_what_cannot_be_seen_is_said(tmp_path):
    path = program(
        tmp_path,
        """
        def main():
            large, small = np.zeros(3_000_000), np.zeros(4)

            def work(number):
                large[number] = small.data[0]

            for _ in range(2):
                spawn(work)
            join()
        """,
    )
    result = api.check_races(path, schedules=2)
    assert result.ok
    assert "small.data was taken at program.py:8: accesses through it are not seen" in result.notes
    assert any("large are not checked: it is too large (24,000,000 bytes)" in note for note in result.notes)


def two(tmp_path, made: str, first: str, second: str):
    """A program in which two threads each do something with what was made."""
    return program(
        tmp_path,
        f"""
        import tempfile

        def main():
            {made}

            def one(number):
                {first}

            def other(number):
                {second}

            join(spawn(one), spawn(other))
        """,
    )


RECORDS = 'a = np.zeros(4, dtype=[("x", "f4"), ("y", "i4"), ("z", "f4", 3)])'
MAPPED = "a = np.memmap(tempfile.TemporaryFile(), np.float32, 'w+', shape=(8,))"


@pytest.mark.parametrize(
    ("made", "first", "second", "race"),
    [
        (RECORDS, 'a[1]["x"] = 1', 'a[1]["x"] = 2', "a[1]"),
        (RECORDS, 'a[1]["x"] = 1', "str(a[1])", "a[1]"),
        (RECORDS, 'a[1]["x"] = 1', "a[1].item()", "a[1]"),
        (RECORDS, 'a[1]["x"] = 1', "a[2] = a[1]", "a[1]"),
        (RECORDS, 'a[1]["x"] = 1', "[float(one[0]) for one in a]", "a[1]"),
        (RECORDS, 'a[1]["z"][2] = 1', 'a[1]["z"][1:].sum()', "a[1]"),
        (RECORDS, 'a[1]["x"] = 1', 'a[1]["y"] + a[0]["x"]', ""),
        (RECORDS, 'a[1]["z"][2] = 1', 'a[1]["z"][0] = 3; len(a[1]); type(a[1])', ""),
        (MAPPED, "a[0:5] += 1", "a[4:] *= 2", "a[4]"),
        (MAPPED, "a[0:5] += 1", "a[5:] *= 2", ""),
        ("a = np.zeros(6, np.float32)", "a.resize((2, 4), refcheck=False)", "a[0] + 1", "a[0]"),
        ("a = np.zeros(6); a.resize(9, refcheck=False)", "a[:5] = 1", "a[4:] = 2", "a[4]"),
        ("a = np.zeros(6); a.resize(9, refcheck=False)", "a[:5] = 1", "a[5:] = 2", ""),
        ("class a: n = 0", 'setattr(a, "n", 1)', 'getattr(a, "n")', "a.n"),
        ("class a: n = m = 0", 'setattr(a, "n", 1)', 'getattr(a, "m", 2); getattr(np, "sum")', ""),
    ],
)
def test_records_mapped_files_resizing_and_attributes_by_name(made, first, second, race, tmp_path):
    result = api.check_races(two(tmp_path, made, first, second), schedules=4)
    assert [finding.message.split(" written")[0].split(" read")[0] for finding in result.findings] == [race] * bool(
        race
    )
    assert result.findings or not [note for note in result.notes if "no race" not in note]


def test_resizing_does_what_it_does_without_tracking(tmp_path):
    path = two(
        tmp_path,
        "a = np.arange(6, dtype=np.int32)",
        "a.resize(2, 5, refcheck=False); assert a.tolist() == [[0, 1, 2, 3, 4], [5, 0, 0, 0, 0]]; assert a[1, 0] == 5",
        "b = np.array([1, 'x'], object); b.resize((3,), refcheck=False); assert b.tolist() == [1, 'x', 0]; b.resize()",
    )
    assert api.check_races(path, schedules=2).ok
    path = two(tmp_path, "a = np.zeros(6)", "a[1:].resize(9, refcheck=False)", "pass")
    (finding,) = api.check_races(path, schedules=2).findings
    assert (finding.kind, "ValueError" in finding.message) == ("exception", True)


@pytest.mark.parametrize(
    ("made", "kind"),
    [
        ("np.ma.masked_array(np.zeros(4), mask=[0, 1, 0, 0])", "numpy.ma.MaskedArray"),
        ("np.zeros(4).view(type('Own', (np.ndarray,), {}))", "_program_under_check.Own"),
    ],
)
def test_arrays_of_other_kinds_are_said_not_to_be_seen(made, kind, tmp_path):
    result = api.check_races(two(tmp_path, f"a = {made}", "a.sum", "a.shape"), schedules=2)
    assert [note for note in result.notes if kind in note] == [
        f"{kind} at program.py:7: not all accesses to such arrays are seen"
    ]


def test_a_livelock_is_told_by_races_at_once(tmp_path):
    loop = "while True:\n            with m: pass\n"
    path = program(tmp_path, f"m = Mutex()\ndef main():\n    def work(number):\n        {loop}    join(spawn(work))\n")
    result = api.check_races(path)
    assert (result.findings[0].kind, result.schedules) == ("livelock", 1)
    (finding,) = api.check_races(path, seconds=0.2).findings
    assert finding.kind == "livelock" and finding.message.startswith(
        "no end "
    )  # in that time, or after that many steps


def test_a_run_that_fails_only_while_tracked_is_told(tmp_path):
    path = program(
        tmp_path,
        """
        def main():
            values = np.zeros(4)
            np.ndarray.resize(values, 8, refcheck=False)
            spawn(lambda number: None)
            join()
        """,
    )
    result = api.check_races(path, schedules=2)
    assert result.exit_code == 2
    assert "fails only while its arrays are tracked" in result.findings[0].message
    result = api.explore_submission(path, schedules=20)
    assert result.ok
    assert any("fails only while its arrays are tracked" in note for note in result.notes)


def test_a_run_that_fails_is_told_by_races_too(tmp_path):
    path = program(
        tmp_path,
        """
        tasks = [1]

        def main():
            def work(number):
                tasks.pop()

            for _ in range(2):
                spawn(work)
            join()
        """,
    )
    (finding,) = api.check_races(path, schedules=4).findings
    assert finding.kind == "exception"
    assert "IndexError" in finding.message
    assert api.replay(path, finding.schedule).findings[0].kind == "exception"


def test_nothing_counts_after_the_first_failure(tmp_path):
    path = program(
        tmp_path,
        """
        m = Mutex()
        count = 0

        def work(number):
            global count
            if number == 2:
                raise ValueError("as expected")
            for _ in range(3):
                with m:
                    count += 1

        def main():
            for _ in range(3):
                spawn(work)
            try:
                join()
            except WorkerFailed:
                return
        """,
    )
    assert api.check_races(path, schedules=40).ok


def test_smaller_units_keep_what_is_known():
    def bytes_of_one(x):
        x.view(np.uint8)[0, 5] = 1

    (race,) = two_workers(lambda x: x[0, :2].fill(1), bytes_of_one)
    assert race.what == "x[0, 1]"
    assert two_workers(lambda x: x[0, :1].fill(1), bytes_of_one) == []
    halves = [lambda x, part=part: x.view(np.uint16)[:, part::2].fill(1) for part in (0, 1)]
    assert two_workers(*halves) == []
    assert two_workers(halves[0], lambda x: x[3].sum())


@pytest.mark.parametrize(
    "expression",
    [
        "a[1:] * 1", "np.eye(2)", "a.copy()", "a.astype(int)", "np.stack([a, a])", "np.where(a > 1, a, 0)",
        "np.roll(a, 1)", "np.random.default_rng(1).random(4)", "np.random.rand(4)", "np.mgrid[0:3, 0:2]",
        "np.frombuffer(bytearray(8), 'f4')",
        "np.memmap(PATH, shape=4, mode='w+')", "[np.zeros(3) for _ in range(2)][1]", "np.split(np.ones(4), 2)[0]",
        "{'k': np.zeros(2)}['k']", "np.loadtxt(['1 2'])", "(lambda: np.ones(3))()", "np.linalg.svd(np.eye(3))[0]",
        "max([np.zeros(3), np.ones(3)], key=np.sum)", "np.lib.stride_tricks.as_strided(a, (2, 2), (8, 8))",
    ],
)  # fmt: skip
def test_arrays_of_every_origin_are_tracked(expression, tmp_path):
    path = program(
        tmp_path,
        f"""
        PATH = {str(tmp_path / "mapped")!r}

        def main():
            a = np.arange(4.0)
            shared = {expression}

            def work(number):
                shared[...] = number

            for _ in range(2):
                spawn(work)
            join()
        """,
    )
    (finding,) = api.check_races(path, schedules=2).findings
    assert re.match(r"(shared|a)\[.*written by worker 1 at program.py:11 and worker 2", finding.message)


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
        "__switch__": lambda value, line, level: value,
        "__loop__": lambda line, weight: lines.append(line) is None,
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


@pytest.mark.parametrize(
    ("made", "element"),
    [
        ("{E.A: 0}", "E.A"), ("{0.5: 0}", "0.5"), ("{'a': 0}", "np.str_('a')"), ("[0, 0]", "np.int64(1)"),
        ("[0, 0]", "np.int64(-1)"), ("deque([0, 0])", "1"), ("bytearray(2)", "-1"), ("array('i', [0, 0])", "1"),
    ],
)  # fmt: skip
def test_elements_of_containers_are_watched_whatever_their_key(made: str, element: str, tmp_path):
    path = program(
        tmp_path,
        f"""
        from array import array
        from collections import deque
        from enum import Enum

        class E(Enum):
            A = 1

        shared = {made}

        def work(number):
            key = {element}
            shared[key] += 1

        def main():
            join(spawn(work), spawn(work))
        """,
    )
    assert [finding.kind for finding in api.check_races(path, schedules=2).findings] == ["race"]


class_of_one = """
        class Account:
            total = 0
            def __init__(self):
                self.__sum = 0
                self.parts = [None]
                self.parts[0] = np.zeros(2)
            def add(self, number):
                {change}
        shared = Account()
        accounts, words, grid = {{"a": shared}}, [0, 0], {{(0, 1): 0}}
        count = 0

        def work(number):
            globals()["count"] += shared.add(number) or 1

        def other(number):
            {again}

        def main():
            join(spawn(work), spawn(other))
        """


@pytest.mark.parametrize(
    ("change", "again", "what"),
    [
        ("self.__sum += 1", "shared.add(number)", "self.__sum"),
        ("type(self).total += 1", "Account.total = 3", "Account.total"),
        ("accounts.get('a').last = 1", "shared.last = 2", "shared.last"),
        ("accounts.get('a').total", "shared.total = 2", "accounts.get('a').total"),
        ("words[len('a')] += 1", "words[1] = 5", "words[1]"),
        ("words[len('a')] += 1", "words[0] = 5", ""),
        ("words[len('a'):] = [1]", "words[1] = 5", "words[1]"),
        ("grid[0, 1] += 1", "grid[0, int(1)] = 2", "grid[0, int(1)]"),
        ("grid[0, number] = 1", "grid[0, 0] = 2", ""),
        ("grid[0, -1] = 1", "grid[0, -2] = 2", ""),  # whose hashes are the same
        ("vars(self)['own'] = 1", "vars(shared)['own'] = 2", "vars(shared)['own']"),
        ("pass", "globals()['count'] = 3", "count"),
        ("pass", "setattr(sys.modules[__name__], 'count', 3)", "count"),
        ("pass", "t = count", "count"),
        ("self.parts[0][1] = 1", "self = shared; self.parts[0][1] = 2", "self.parts[0][1]"),
    ],
)  # fmt: skip
def test_accesses_are_seen_however_they_are_written(change: str, again: str, what: str, tmp_path):
    path = program(tmp_path, "import sys\n" + textwrap.dedent(class_of_one.format(change=change, again=again)))
    found = api.check_races(path, schedules=4).findings
    assert {finding.kind for finding in found} == ({"race"} if what else set()), found
    assert not what or any(f"{what} " in finding.text() for finding in found), found


OWN_METHODS = {  # class -> how two threads use it
    """
        class Shared(dict):
            def __getitem__(self, key):
                with mutex:
                    return super().__getitem__(key)
            def __setitem__(self, key, value):
                with mutex:
                    super().__setitem__(key, value)
    """: "shared[0] = number; shared[0]",
    """
        class Shared(list):
            def __setitem__(self, index, value):
                with mutex:
                    super().__setitem__(index, value)
    """: "shared[:1] = [number]; shared[len('')] = 1",
    """
        class Shared(dict):
            def __getattribute__(self, name):
                with mutex:
                    return object.__getattribute__(self, name)
            def __setattr__(self, name, value):
                with mutex:
                    object.__setattr__(self, name, value)
    """: "shared.last = number; shared.last",
}


@pytest.mark.parametrize("made", OWN_METHODS)
def test_what_a_class_does_itself_is_seen_inside_it(made: str, tmp_path):
    use = f"""
        mutex = Mutex("shared")
        shared = Shared([(0, 0)])

        def work(number):
            {OWN_METHODS[made]}

        def main():
            join(spawn(work), spawn(work))
    """
    path = program(tmp_path, textwrap.dedent(made) + textwrap.dedent(use))
    assert api.check_races(path, schedules=4).findings == []


def test_what_a_target_consists_of_is_evaluated_once_and_in_its_order():
    import ast

    text = """
def run():
    order, box = [], [[0, 0, 0]]
    def say(value):
        order.append(value)
        return value
    box[say(0)][say(1)] += say(2)
    box[say(0)][say(1) : say(2)] = [say(3)]
    say(box)[say(0)] = say(box)[say(0)][::-1]
    return str((order, box))
"""
    detector = races.Detector()
    detector.scheduler = Scheduler(Default())
    results = []
    for steps, notes in product((False, True), repeat=2):
        names = {
            "__step__": str,
            "__switch__": lambda value, line, level: value,
            "__loop__": lambda line, weight: True,
        } | detector.additions()
        exec(compile(instrument(ast.parse(text), steps, notes), "program.py", "exec"), names)
        results.append(names["run"]())
    assert len(set(results)) == 1


@pytest.mark.parametrize(
    ("first", "second", "race"),
    [
        ("a[:2] = [1, 2]", "a[2:] = [3, 4]", 0), ("a[:3] = [1, 2, 3]", "a[2:] = [3, 4]", 1),
        ("a[::2] = [1, 2]", "a[1::2] = [3, 4]", 0), ("a[::2] = [1, 2]", "a[2]", 1), ("sum(a[:2])", "a[1] = 0", 1),
        ("del a[2:]", "a[0]", 0), ("a[-1:] = [0]", "a[3]", 1),
    ],
)  # fmt: skip
def test_slices_of_lists_are_the_elements_in_them(first: str, second: str, race: int, tmp_path):
    found = api.check_races(two(tmp_path, "a = [0, 1, 2, 3]", first, second), schedules=2).findings
    assert [finding.kind for finding in found] == ["race"] * race


@pytest.mark.parametrize(
    ("body", "race"),
    [
        ("for i in range(2):\n        spawn(lambda number: seen.append(i))", "i"),
        ("for i in range(2):\n        spawn(lambda number, i=i: seen.append(i))", ""),
        ("for i in range(2):\n        join(spawn(lambda number: seen.append(i)))", ""),
        ("i = 1\n    spawn(lambda number: seen.append(i))\n    i = 2", "i"),
        ("i = 1\n    i = 2\n    spawn(lambda number: seen.append(i))", ""),
        ("i = 1\n    def work(number):\n        seen.append(i)\n    spawn(work)\n    i += 1", "i"),
        ("i = 1\n    i += 1\n    def work(number):\n        seen.append(i)\n    spawn(work)", ""),
        ("i = 1\n    def work(number):\n        seen.append(i)\n    join(spawn(work))\n    i += 1", ""),
    ],
)
def test_local_variables_that_change_while_a_thread_reads_them(body: str, race: str, tmp_path):
    path = program(tmp_path, "")
    path.write_text(path.read_text() + f"seen = []\ndef main():\n    {body}\n    join()\n")
    found = api.check_races(path, schedules=4).findings
    assert [finding.message.split(" ")[0] for finding in found] == [race] * bool(race)
