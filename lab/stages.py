"""One stage of the assignment on small cases: python -m lab.stages STAGE [FILE].

Where the file still has the starter's functions for that stage (handout/parallel.py), each of them is tried; otherwise
only tokens are compared. The first case that fails is shown, with what was expected and what came.

exit code: 0 all cases pass, 1 one does not, 2 wrong use, 4 one shows a thread error
"""

from lab.check import environment  # noqa: F401  isort: skip  (before anything that needs a library)

import argparse
import inspect
from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from functools import partial
from itertools import islice
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

from lab import serial, threadlib
from lab.cases import Case, Failed, explore_case, in_time, judge, look, run_cases, tell_exception
from lab.check import tiny
from lab.check.program import Program
from lab.check.report import ProgramError
from lab.check.report import console as new_console
from lab.command import Parser, counted, in_one_line, quietly
from lab.engines import EngineError, checked, load_engine, start
from lab.files import shown

TITLES = {
    1: "the program as it begins: one worker or many, the tokens are serial.py's",
    2: "Workers: k threads, a queue, run() that returns when all tasks are done",
    3: "matmul_forward in tasks of output channels",
    4: "attention_forward in tasks of heads",
    5: "the whole program: every region shared out, nothing left behind",
}
NEXT = {
    1: "Next: make profile names the hot spots; write them into answers.md.",
    2: "Next: make check, make explore and make races try the whole program; then stage 3.",
    3: "Next: make timeline shows whether all workers are busy.",
    4: "Next: make grade shows what the stages so far have earned.",
    5: "Next: make grade measures how near it comes to k times as fast; make timeline shows who waits for what.",
}
WORKERS = ("self", "fn", "tasks")  # of run()
REST = ("close", "__enter__", "__exit__")  # what else the class has
SIGNATURES = {  # of the starter
    "matmul_forward": ["workers", "out", "inp", "weight", "bias", "B", "T", "C", "OC"],
    "attention_forward": ["workers", "out", "preatt", "att", "inp", "B", "T", "C", "NH"],
}
FUNCTIONS = {3: "matmul_forward", 4: "attention_forward"}  # of a stage
SIZES = {
    "matmul_forward": ((1, 1, 8, 12), (1, 5, 8, 13), (2, 3, 6, 7), (1, 4, 8, 2)),
    "attention_forward": ((1, 1, 6, 3), (1, 5, 12, 4), (2, 4, 10, 5), (1, 6, 4, 1)),
}
COUNTS = (1, 2, 3, 5)  # workers
TIME = {2: 90.0}  # seconds for all cases of a stage; else 30
TOLERANCE = 1e-4  # relative and absolute: products in another order of sums differ by about 1e-6


# ---------------------------------------------------------------------------------------------------- what the file has


def kept(module: ModuleType, name: str) -> bool:
    """Has the file a function of the starter's, with the starter's arguments?"""
    function = getattr(module, name, None)
    return inspect.isfunction(function) and list(inspect.signature(function).parameters) == SIGNATURES[name]


def kept_workers(module: ModuleType) -> bool:
    """Has it the starter's class Workers: Workers(k), run(fn, tasks), close(), `with`?"""
    made = getattr(module, "Workers", None)
    run = getattr(made, "run", None)
    if not inspect.isclass(made) or not callable(run) or not all(map(partial(hasattr, made), REST)):
        return False
    required = [p for p in inspect.signature(made).parameters.values() if p.default is p.empty]
    return len(required) <= 1 and tuple(inspect.signature(run).parameters) == WORKERS


def inline(k: int) -> SimpleNamespace:
    """Workers for functions of a file that has none of the starter's kind: they do one task after the other."""
    return SimpleNamespace(k=k, run=lambda fn, tasks: list(map(fn, tasks)), close=lambda: None)


# --------------------------------------------------------------------------------------------------------------- tokens


def token_cases(module: ModuleType) -> Iterator[Case]:
    """generate() on the tiny model, beside serial.py."""
    for case in tiny.CASES:
        for k in COUNTS:
            then = ", then with another prompt" if case.then else ""
            stop = f", stopped after {case.stop_after}" if case.stop_after else ""
            title = f"generate(): {len(case.prompt)} tokens to {case.n}{then}{stop}, workers={k}"
            yield title, lambda case=case, k=k: tokens_equal(module, case, k)


def tokens_equal(module: ModuleType, case: tiny.Case, k: int) -> None:
    """compare_tokens(), for which a generate() that is none fails too."""
    try:
        compare_tokens(module, case, k)
    except EngineError as error:
        raise Failed("generate(model, prompt, n, workers), which yields tokens", str(error)) from None


def compare_tokens(module: ModuleType, case: tiny.Case, k: int) -> None:
    """Raises Failed at the first difference, or for threads that are left."""
    for one in case.runs():
        wanted = list(tiny.expected(one).tokens)[: case.stop_after or None]
        made = begin(module, one, k)
        tokens = list(islice(checked(made, one.n), case.stop_after or len(wanted) + 1))
        close(made)
        if tokens != wanted:
            raise Failed(f"tokens {wanted}", f"tokens {tokens}; make explore names the first activation that is wrong")
    left = [thread.name for thread in threadlib.threads()]
    if left:
        raise Failed("no thread left when generate() is over", f"{', '.join(left)} not joined")


def begin(module: ModuleType, case: tiny.Case, k: int) -> Iterator[int]:
    """generate() on a tiny model that nobody has used."""
    model = tiny.fresh_model(np.zeros(tiny.acts_size(case.n), dtype=np.float32))
    return start(module, model, list(case.prompt), case.n, k)


def close(made: Any) -> None:
    """Leave generate(), if it is the iterator that it should be."""
    if hasattr(made, "close"):
        made.close()


# ------------------------------------------------------------------------------------------ stage 2: under the explorer

# how a case begins that notes which tasks are done
NOTED = """
        def main():
            done, mutex = [], Mutex("of the case")

            def task(number):
                with mutex:
                    done.append(number)
"""
TEAM = {  # title -> main(), appended to the student's program
    "Workers(2) starts two threads, close() joins them": """
        def main():
            team = Workers(2)
            started = len(threads())
            team.close()
            assert started == 2, f"expected 2 threads after Workers(2), got {started}"
            assert not threads(), f"expected no thread after close(), got {len(threads())}"
        """,
    "run() does each task once and returns when all are done": NOTED
    + """
            with Workers(2) as team:
                team.run(task, [1, 2, 3, 4, 5])
                assert sorted(done) == [1, 2, 3, 4, 5], f"expected tasks 1 to 5 done when run() returns, got {done}"
        """,
    "two tasks run at the same time, on two workers": """
        def main():
            here = Semaphore(0, "first task is here"), Semaphore(0, "second task is here")

            def meet(number):
                here[number].V()
                here[1 - number].P()  # each task waits for the other one

            with Workers(2) as team:
                team.run(meet, [0, 1])
        """,
    "regions one after the other: more tasks than workers, fewer, none": NOTED
    + """
            with Workers(3) as team:
                for tasks in ([1, 2, 3, 4], [5], [], [6, 7]):
                    done.clear()
                    team.run(task, tasks)
                    assert sorted(done) == tasks, f"expected tasks {tasks} done when run() returns, got {done}"
        """,
    "tasks may be an iterator": NOTED
    + """
            with Workers(2) as team:
                team.run(task, iter(range(3)))
                assert sorted(done) == [0, 1, 2], f"expected tasks 0 to 2 done when run() returns, got {done}"
        """,
}


def worker_cases(module: ModuleType, file: Path) -> Iterator[Case]:
    """The class alone, then the whole program, each under many schedules."""
    if kept_workers(module):
        for title, text in TEAM.items():
            yield f"{title}, under many schedules", lambda text=text: explore_case(file, text)
    yield "generate() starts as many threads as asked for", lambda: count_threads(module)
    yield "generate() under many schedules", lambda: judge(look(Program(file)), "")


def count_threads(module: ModuleType) -> None:
    """Raises Failed for too many or too few."""
    for k in (1, 3):
        made = begin(module, tiny.CASES[0], k)
        next(made)
        seen = len(threadlib.threads())
        close(made)
        if seen != k:
            raise Failed(f"{k} threads for workers={k}", f"{seen} threads")


# -------------------------------------------------------------------------------------------- stages 3 and 4: functions


def function_cases(module: ModuleType, name: str) -> Iterator[Case]:
    """A function beside serial.py's."""
    letters = SIGNATURES[name][-4:]
    for sizes in SIZES[name]:
        shape = " ".join(f"{letter}={size}" for letter, size in zip(letters, sizes, strict=True))
        bias = "" if name != "matmul_forward" else ", bias" if sizes[1] % 2 else ", no bias"
        for k in COUNTS:
            title = f"{name}: {shape}{bias}, {counted(k, 'worker')}"
            yield title, lambda sizes=sizes, k=k: compare_function(module, name, sizes, k)


def compare_function(module: ModuleType, name: str, sizes: tuple[int, ...], k: int) -> None:
    """Raises Failed at the first difference."""
    function, (out, rest) = getattr(module, name), operands(name, *sizes)
    wanted = np.zeros_like(out)
    getattr(serial, name)(wanted, *deepcopy(rest), *sizes)
    arrays = [out, *(array for array in rest if array is not None)]
    with_team(module, k, lambda team: function(team, out, *rest, *sizes), arrays, min(k, sizes[-1]))
    compare(out, wanted)


def operands(name: str, B: int, T: int, C: int, last: int) -> tuple[np.ndarray, list[np.ndarray | None]]:
    """out, which anything may have been left in, and the other arrays of a function; last: OC or NH."""
    random = np.random.default_rng(B + T + C + last)

    def normal(*shape: int) -> np.ndarray:
        """Float32 numbers."""
        return random.standard_normal(shape).astype(np.float32)

    if name == "matmul_forward":
        rest = [normal(B, T, C), normal(last, C), normal(last) if T % 2 else None]  # inp, weight, bias
        return normal(B, T, last), rest
    inp, out = normal(B, T, 3 * C), normal(B, T, C)
    return out, [normal(B, last, T, T), normal(B, last, T, T), inp]  # preatt, att, inp


def with_team(module: ModuleType, k: int, call: Callable[[Any], None], arrays: list[np.ndarray], least: int) -> None:
    """Call a function with k workers. Raises Failed unless it hands out at least so many tasks at once, no two of which
    write to the same element of arrays[0]; before a task is tried alone, all arrays are as they were."""
    team = module.Workers(k) if kept_workers(module) else inline(k)
    run, most = team.run, [0]

    def watched(fn: Callable[[Any], object], tasks: Any) -> None:
        tasks = list(tasks)
        most[0] = max(most[0], len(tasks))
        before = [array.copy() for array in arrays]
        writers = np.zeros(arrays[0].shape, dtype=int)
        for task in tasks:
            fn(task)
            writers += arrays[0] != before[0]
            for array, old in zip(arrays, before, strict=True):
                array[...] = old
        if writers.max() > 1:
            found = f"{highest(writers)} written by {writers.max()} of {len(tasks)} tasks"
            raise Failed("each element of out written by one task", found)
        run(fn, tasks)

    team.run = watched
    try:
        call(team)
    finally:
        team.close()
    if most[0] < least:
        alone = ": one worker does it all" if most[0] == 1 else ""
        raise Failed(f"at least {counted(least, 'task')} for {counted(k, 'worker')}", counted(most[0], "task") + alone)


def compare(out: np.ndarray, wanted: np.ndarray) -> None:
    """Raises Failed at the first element that differs by more than rounding."""
    wrong = ~np.isclose(out, wanted, rtol=TOLERANCE, atol=TOLERANCE)
    if wrong.any():
        at, first = highest(wrong), wrong.argmax()
        differ = f"{wrong.sum()} of {wrong.size} elements differ"
        raise Failed(f"{at} = {wanted.flat[first]:.6g}", f"{at} = {out.flat[first]:.6g} ({differ})")


def highest(values: np.ndarray) -> str:
    """The element of out at the place of the first of the largest values, as people write it."""
    return f"out{[int(i) for i in np.unravel_index(values.argmax(), values.shape)]}"


# --------------------------------------------------------------------------------------------------------- stage 5: all


def share_out(module: ModuleType) -> None:
    """Does each region give work to more than one worker? Raises Failed for the first that is one task."""
    alone: list[str] = []
    run = module.Workers.run

    def watched(team: Any, fn: Callable[[Any], object], tasks: Any) -> None:
        tasks = list(tasks)
        if len(tasks) == 1:
            alone.append(getattr(fn, "__qualname__", str(fn)).partition(".")[0])
        run(team, fn, tasks)

    module.Workers.run = watched
    try:
        compare_tokens(module, tiny.CASES[0], 3)
    finally:
        module.Workers.run = run
    if alone:
        raise Failed("at least 2 tasks in a region", f"{alone[0]} is one task: all other workers wait for it")


# ---------------------------------------------------------------------------------------------------------- the command


def cases(stage: int, module: ModuleType, file: Path) -> Iterator[Case]:
    """Those of a stage, the telling ones first."""
    if stage == 2:
        yield from worker_cases(module, file)
    if stage in FUNCTIONS and kept(module, FUNCTIONS[stage]):
        yield from function_cases(module, FUNCTIONS[stage])
    if stage == 5 and kept_workers(module):
        yield "generate() with workers=3: the tokens, and more than one task in every region", lambda: share_out(module)
    yield from token_cases(module)


def on_functions(stage: int, module: ModuleType) -> bool:
    """Is the stage tried on functions of the starter, or on tokens only?"""
    if stage in FUNCTIONS:
        return kept(module, FUNCTIONS[stage])
    return kept_workers(module) or stage == 1


@in_one_line("", ProgramError, code=2)
def run_stage(stage: int, file: Path) -> int:
    """Run the cases up to the first that fails, and tell; returns the exit code."""
    out = new_console()
    if refused := Program(file).refused():
        raise ProgramError(refused[0].message)
    out.print(f"stage {stage}: {TITLES[stage]}\n{shown(file)}", markup=False)
    try:
        module = load_engine(str(file))
    except (Exception, SystemExit) as error:
        tell_exception(error, file)
        return 1
    if not on_functions(stage, module):
        out.print(
            "  the file no longer has the starter's functions for this stage: comparing tokens only", markup=False
        )
    code = run_cases(cases(stage, module, file), file, out)
    if code == 0:
        out.print(NEXT[stage], markup=False)
    return code


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one stage; returns the exit code."""
    parser = Parser("python -m lab.stages", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stage", help="1 to 5, as in docs/handout.md")
    parser.add_argument(
        "file", nargs="?", type=Path, default=Path("parallel.py"), help="your program (default parallel.py)"
    )
    options = parser.parse_args(arguments)
    if options.stage not in map(str, TITLES):
        parser.error(f"no stage {options.stage}".rstrip() + ": give 1 to 5, as in make stage S=2")
    stage = int(options.stage)
    more = "; make explore shows how it gets there"
    return in_time(partial(run_stage, stage, options.file), TIME.get(stage, 30.0), options.file, more)


if __name__ == "__main__":
    quietly(main, steady=True)
