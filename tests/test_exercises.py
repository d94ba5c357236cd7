"""The warm-ups: each starter fails with a message that names the cause, each solution passes, and so do mistakes."""

import os
import re
import subprocess
import textwrap
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from lab.cases import Failed, explore_case, judge, with_main
from lab.check.report import Finding, Findings
from lab.exercises import EXERCISES, main

ROOT = Path(__file__).parent.parent
SOLUTIONS = ROOT / "solutions" / "exercises"


@pytest.fixture
def exercise(called: Callable, monkeypatch: pytest.MonkeyPatch) -> Callable[..., subprocess.CompletedProcess]:
    """exercise(number, *options) runs the command, which tries the cases in a process of its own."""
    monkeypatch.chdir(ROOT)
    return partial(called, main)


def test_each_exercise_has_all_its_files():
    names = {f"{name}.py" for name, _cases in EXERCISES.values()}
    assert (
        names == {path.name for path in (ROOT / "exercises").glob("*.py")} == {p.name for p in SOLUTIONS.glob("*.py")}
    )
    page = (ROOT / "exercises" / "README.md").read_text()
    assert all(name in page and f"Hints for {number}" in page for number, (name, _cases) in EXERCISES.items())


@pytest.mark.parametrize("number", EXERCISES)
def test_solutions_pass(exercise: Callable, number: int):
    done = exercise(number, "--file", SOLUTIONS / f"{EXERCISES[number][0]}.py")
    assert done.returncode == 0 and re.search(r"✓ all \d cases passed\nNext: ", done.stdout), done.stdout + done.stderr


CAUSES = {
    1: r"expected  get\(\) to wait for an item\n +got       None from an empty buffer",
    2: r"✗ 2 threads, 2 rounds.*\n +expected  2 threads at the barrier in round 2\n +got       1\n",
    3: r"✗ a writer is alone.*\n +expected  (no \w+ while somebody (reads|writes)\n +got       1|one writer at a time)",
    4: r"expected  no more steps of Python for 600 numbers than for 60.*\n +got       \d+: every number costs some",
}


@pytest.mark.parametrize("number", EXERCISES)
def test_starters_fail_and_the_message_names_the_cause(exercise: Callable, number: int):
    done = exercise(number)
    assert done.returncode == 1 and re.search(CAUSES[number], done.stdout), done.stdout + done.stderr


WRONG = [  # exercise, what stands in the solution, what instead, exit code, what is said
    (1, "while not self.items", "if not self.items", 4, "pop from an empty deque"),
    (1, "while len(self.items) == self.size", "while False", 1, "expected  put.. to wait while the buffer is full"),
    (1, "self.items.popleft()", "self.items.pop()", 1, "expected  items .1, 2, 3."),
    (1, "            self.not_full.signal()\n", "", 4, "deadlock: .*not full.*never signalled|deadlock: "),
    (1, 'self.not_full, self.not_empty = Cond("not full"), Cond("not empty")',
     'self.not_full = self.not_empty = Cond("changed")', 4, "deadlock"),
    (2, "while self.round == mine", "if self.round == mine", 1, "at the barrier in round"),
    (2, "                self.all_here.broadcast()", "                self.all_here.signal()", 4, "deadlock"),
    (2, "                self.arrived = 0\n", "", 4, "deadlock|livelock"),
    (3, "while self.writing or self.readers", "while self.writing", 1, "expected  no "),
    (3, "self.readers -= 1\n            self.changed.broadcast()", "self.readers -= 1", 4, "deadlock"),
    (3, "self.writing = False\n            self.changed.broadcast()",
     "self.writing = False\n            self.changed.signal()", 4, "deadlock"),
    (4, "numbers[begin:end].sum()", "sum(numbers[begin:end])", 1, "got +Python's sum"),
    (4, "range(k)", "range(k - 1)", 1, "expected  the sum"),
    (4, "parts[number - 1] =", "parts[number] =", 4, "IndexError"),
]  # fmt: skip


@pytest.mark.parametrize("case", WRONG, ids=lambda case: f"{case[0]} {case[2].strip()[:40]}")
def test_mistakes_are_found(exercise: Callable, tmp_path: Path, case: tuple):
    number, there, instead, code, said = case
    source = (SOLUTIONS / f"{EXERCISES[number][0]}.py").read_text()
    assert there in source
    file = tmp_path / "mine.py"
    file.write_text(source.replace(there, instead))
    done = exercise(number, "--file", file)
    assert done.returncode == code and re.search(said, done.stdout), done.stdout + done.stderr


def test_a_ring_that_two_producers_write_to_at_the_same_time_does_not_pass(exercise: Callable, tmp_path: Path):
    file = tmp_path / "mine.py"
    file.write_text(
        textwrap.dedent("""
        from lab.threadlib import Semaphore

        class Buffer:
            def __init__(self, size):
                self.slots, self.first, self.next = [None] * size, 0, 0
                self.room, self.full = Semaphore(size), Semaphore(0)

            def put(self, item):
                self.room.P()
                self.slots[self.next] = item
                self.next = (self.next + 1) % len(self.slots)
                self.full.V()

            def get(self):
                self.full.P()
                item = self.slots[self.first]
                self.first = (self.first + 1) % len(self.slots)
                self.room.V()
                return item
        """)
    )
    done = exercise(1, "--file", file)
    assert done.returncode in (1, 4) and "✗ two producers, two consumers, room for two" in done.stdout
    assert "self.next" in done.stdout


def test_one_serial_thread_does_not_pass_as_a_parallel_sum(exercise: Callable, tmp_path: Path):
    file = tmp_path / "mine.py"
    file.write_text("def parallel_sum(numbers, k):\n    return float(numbers.sum())\n")
    done = exercise(4, "--file", file)
    assert done.returncode == 1 and re.search(r"expected  3 threads for k = 3\n +got       0 threads", done.stdout)


def test_a_pipe_is_no_program(exercise: Callable, tmp_path: Path):
    os.mkfifo(tmp_path / "mine.py")
    done = exercise(1, "--file", tmp_path / "mine.py")
    assert done.returncode == 2 and done.stderr.endswith("mine.py: not a regular file\n")


def test_a_program_is_read_in_the_coding_that_it_names(tmp_path: Path):
    file = tmp_path / "mine.py"
    file.write_bytes('# coding: gbk\nsaid = "屏障"\r\n'.encode("gbk"))
    with with_main(file, "def main():\n    pass") as program:
        assert 'said = "屏障"' in program.source and program.source.endswith("def main():\n    pass\n")


def test_lines_of_the_case_are_counted_from_its_first():
    finding = Finding("deadlock", "main waits at mine.py:210", trace=["main  is at line 208  mine.py:208", "mine.py:9"])
    with pytest.raises(Failed) as failed:
        judge(Findings("mine.py", "explore", findings=[finding]), "the case", 206)
    assert failed.value.finding.message == "main waits at line 4 of the case"
    assert failed.value.finding.trace == ["main  is at line 2    line 2 of the case", "mine.py:9"]


def test_the_failing_schedule_becomes_a_page(exercise: Callable, tmp_path: Path):
    page = tmp_path / "failure.html"
    done = exercise(2, "--out", page)
    assert done.stdout.endswith(f"step by step, in a browser: {page}\n")
    assert "class Barrier" in page.read_text() and "in round" in page.read_text()
    assert exercise(2, "--file", SOLUTIONS / "barrier.py", "--out", page).returncode == 0
    assert not page.exists()


@pytest.mark.parametrize(
    ("number", "text", "said"),
    [
        (1, None, "No such file"),
        (1, "class Buffer(:\n", "{file}:1: invalid syntax"),
        (1, "import queue\n", "mine.py:1 imports queue"),
        (9, "", "no exercise 9: give 1 to 4"),
        ("", "", "no exercise: give 1 to 4, as in make exercise E=2"),
    ],
)
def test_what_cannot_be_tried_is_one_line(
    exercise: Callable, tmp_path: Path, number: object, text: str | None, said: str
):
    file = tmp_path / "mine.py"
    if text is not None:
        file.write_text(text)
    done = exercise(number, "--file", file)
    assert (
        done.returncode == 2
        and said.format(file=file) in done.stderr
        and done.stderr.count("\n") == 1
        and not done.stdout
    )


def test_a_page_that_cannot_be_written_takes_nothing_from_what_was_found(tmp_path, capsys):
    main_of_case = next(iter(EXERCISES[1][1].values()))
    with pytest.raises(Failed, match="expected get"):
        explore_case(ROOT / "exercises" / "bounded_buffer.py", main_of_case, tmp_path)
    assert capsys.readouterr().err == f"{tmp_path}: cannot be written: it is a folder; choose another name\n"
