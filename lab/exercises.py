"""The warm-ups: python -m lab.exercises NUMBER tries exercises/NAME.py under many schedules (see exercises/README.md).

exit code: 0 all cases pass, 1 one does not, 2 wrong use, 4 one shows a thread error
"""

from lab.check import environment  # noqa: F401  isort: skip  (before anything that needs a library)

import argparse
import shlex
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

from lab import files
from lab.cases import Case, Failed, explore_case, in_time, run_cases, with_main
from lab.check.explorer import Explorer, prepared
from lab.check.report import ProgramError
from lab.check.report import console as new_console
from lab.check.schedule import STATEMENTS, Setting
from lab.check.strategies import Default
from lab.command import Parser, counted, in_one_line, quietly

SECONDS = 60.0
LENGTHS = (60, 600)  # of arrays whose sums may not take more steps the longer they are
Cases = dict[str, str]  # title -> main()

TOGETHER = "two producers, two consumers, room for "  # one: producers wait for each other; two: they may meet
BUFFER: Cases = {
    "get() waits while the buffer is empty": """
        def main():
            buffer, taken = Buffer(1), []
            spawn(lambda number: taken.append(buffer.get()))
            spawn(lambda number: buffer.put("an item"))
            join()
            assert taken == ["an item"], f"expected get() to wait for an item, got {taken[0]} from an empty buffer"
        """,
    "put() waits while the buffer is full": """
        def main():
            buffer, put = Buffer(1), []

            def producer(number):
                for item in (1, 2):
                    buffer.put(item)
                    put.append(item)

            spawn(producer)
            Semaphore(0).V()  # the producer may go first
            seen = list(put)  # before anything is taken out
            first, second = buffer.get(), buffer.get()
            join()
            assert seen in ([], [1]), f"expected put() to wait while the buffer is full, got {seen} in a buffer of 1"
            assert (first, second) == (1, 2), f"expected items 1, 2 in their order, got {first}, {second}"
        """,
    "items come out in the order in which they came": """
        def main():
            buffer = Buffer(3)
            for item in (1, 2, 3):
                buffer.put(item)
            taken = [buffer.get() for _ in range(3)]
            assert taken == [1, 2, 3], f"expected items [1, 2, 3], got {taken}"
        """,
    TOGETHER + "one": """
        def main():
            buffer, taken, mutex = Buffer(1), [], Mutex("of the case")

            def producer(number):
                for i in range(2):
                    buffer.put(10 * number + i)

            def consumer(number):
                for _ in range(2):
                    item = buffer.get()
                    with mutex:
                        taken.append(item)

            for fn in (producer, producer, consumer, consumer):
                spawn(fn)
            join()
            taken.sort(key=str)
            assert taken == [10, 11, 20, 21], f"expected each item once, got {taken}"
        """,
}
BUFFER[TOGETHER + "two"] = BUFFER[TOGETHER + "one"].replace("Buffer(1)", "Buffer(2)")
BARRIER: Cases = {
    f"{k} threads, {counted(rounds, 'round')}": f"""
        def main():
            barrier, arrived, mutex = Barrier({k}), [0] * {rounds}, Mutex("of the case")

            def worker(number):
                for i in range({rounds}):
                    with mutex:
                        arrived[i] += 1
                    barrier.wait()
                    with mutex:
                        here = arrived[i]
                    assert here == {k}, f"expected {k} threads at the barrier in round {{i + 1}}, got {{here}}"

            for _ in range({k}):
                spawn(worker)
            join()
        """
    for k, rounds in ((2, 1), (2, 2), (3, 3), (1, 3))
}
TWO_READERS = "two readers read at the same time"
READERS: Cases = {
    "a writer is alone": """
        def main():
            door, reading, writing, mutex = ReadersAndWriters(), [], [], Mutex("of the case")

            def reader(number):
                door.start_read()
                with mutex:
                    reading.append(number)
                    others = len(writing)
                with mutex:
                    reading.remove(number)
                door.end_read()
                assert not others, f"expected no writer while somebody reads, got {others}"

            def writer(number):
                door.start_write()
                with mutex:
                    writing.append(number)
                    readers, writers = len(reading), len(writing)
                with mutex:
                    writing.remove(number)
                door.end_write()
                assert not readers, f"expected no reader while somebody writes, got {readers}"
                assert writers == 1, f"expected one writer at a time, got {writers}"

            for fn in (reader, writer, reader, writer):
                spawn(fn)
            join()
        """,
    TWO_READERS: """
        def main():
            door, here = ReadersAndWriters(), (Semaphore(0, "first reads"), Semaphore(0, "second reads"))

            def reader(number):
                door.start_read()
                here[number - 1].V()
                here[2 - number].P()  # each waits, inside, for the other one
                door.end_read()

            spawn(reader)
            spawn(reader)
            join()
        """,
    "who waits is let in": """
        def main():
            door = ReadersAndWriters()

            def reader(number):
                for _ in range(2):
                    door.start_read()
                    door.end_read()

            def writer(number):
                for _ in range(2):
                    door.start_write()
                    door.end_write()

            for fn in (writer, reader, writer):
                spawn(fn)
            join()
        """,
}
READERS["two readers who waited for a writer read at the same time"] = READERS[TWO_READERS].replace(
    "spawn(reader)\n            spawn(reader)",
    "door.start_write()\n            spawn(reader)\n            spawn(reader)\n            door.end_write()",
)
SUM: Cases = {
    f"{counted(n, 'number')} on {counted(k, 'thread')}": f"""
        def main():
            found = parallel_sum(np.arange({n}, dtype=float), {k})
            assert found == {n * (n - 1) / 2}, f"expected the sum {n * (n - 1) / 2}, got {{found}}"
        """
    for n, k in ((7, 1), (7, 3), (2, 3), (8, 2))
}
STEPS = """
    def sum(*arguments):
        raise AssertionError("expected numpy's sum of a slice, got Python's sum(): it keeps the interpreter lock")

    def main():
        parallel_sum(np.ones({length}), 3)
"""
EXERCISES: dict[int, tuple[str, Cases]] = {
    1: ("bounded_buffer", BUFFER),
    2: ("barrier", BARRIER),
    3: ("readers_and_writers", READERS),
    4: ("parallel_sum", SUM),
}


def cases(number: int, file: Path, page: Path | None) -> Iterator[Case]:
    """Those of one exercise."""
    for title, text in EXERCISES[number][1].items():
        yield f"{title}, under many schedules", lambda text=text: explore_case(file, text, page)
    if number == 4:
        yield "no more steps of Python for many numbers than for few", lambda: count_steps(file)


def count_steps(file: Path) -> None:
    """Raises Failed if steps of the interpreter, or operations of primitives, grow with the length of the array, or if
    fewer threads are started than asked for."""
    steps = []
    for length in LENGTHS:
        with with_main(file, STEPS.replace("{length}", str(length))) as program, prepared(program):
            run = Explorer(program).run(Default(), Setting(3, level=STATEMENTS))
        if run.failure is not None:
            said = str(run.failure.exception or run.failure.message)
            expected, _, got = said.removeprefix("expected ").partition(", got ")
            raise Failed(expected if got else "a sum", got or said)
        if run.scheduler.spawned != 3:
            raise Failed("3 threads for k = 3", counted(run.scheduler.spawned, "thread"))
        steps.append(run.scheduler.steps)
    if steps[1] > 2 * steps[0]:
        raise Failed(
            f"no more steps of Python for {LENGTHS[1]} numbers than for {LENGTHS[0]}, which took {steps[0]}",
            f"{steps[1]}: every number costs some, and only one thread at a time runs Python, so it cannot scale",
        )


def starter(number: int) -> Path:
    """Where an exercise is done, unless another file is named."""
    return files.ROOT / "exercises" / f"{EXERCISES[number][0]}.py"


@in_one_line("", ProgramError, files.WriteError, code=2)
def run_exercise(number: int, file: Path, page: Path | None) -> int:
    """Run the cases up to the first that fails, and tell; returns the exit code."""
    out = new_console()
    with with_main(file, "def main():\n    pass\n") as program:  # raises ProgramError for what is not a program
        refused = program.refused()
    if refused:
        raise ProgramError(refused[0].message)
    if page is not None:
        files.room_for_page(page)
    out.print(f"exercise {number}: {EXERCISES[number][0].replace('_', ' ')}\n{files.shown(file)}", markup=False)
    mine = f" FILE={shlex.quote(files.shown(file))}" if file != starter(number) else ""
    again = f"step by step, in a browser: make exercise E={number}{mine} OUT=failure.html"
    code = run_cases(cases(number, file, page), file, out, "" if page else again)
    if code == 0:
        following = f"make exercise E={number + 1}" if number < len(EXERCISES) else "stage 2 of docs/handout.md"
        out.print(f"Next: {following}.", markup=False)
    if page is not None and page.exists():
        out.print(f"step by step, in a browser: {files.shown(page)}", markup=False)
    return code


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one exercise; returns the exit code."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = Parser("python -m lab.exercises", description=__doc__, formatter_class=raw)
    parser.add_argument("exercise", help="1 to 4")
    parser.add_argument("--file", type=Path, help="your program (default: the one in exercises/)")
    parser.add_argument("--out", type=Path, metavar="FILE.html", help="the failing schedule as a page to step through")
    options = parser.parse_args(arguments)
    if options.exercise not in map(str, EXERCISES):
        parser.error(f"no exercise {options.exercise}".rstrip() + ": give 1 to 4, as in make exercise E=2")
    number = int(options.exercise)
    file = options.file or starter(number)
    return in_time(partial(run_exercise, number, file, options.out), SECONDS, file)


if __name__ == "__main__":
    quietly(main, steady=True)
