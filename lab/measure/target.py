"""The program as it runs under a profiler: a process of its own that loads the model, then generates, and reports both.

Everything before `generation` is loading and belongs into no picture: the model is opened, every page of its weights
touched. What the process has to tell goes into one JSON file, written when all went well; a profiler's own output is
the profiler's.

runner.py writes the order, a line of JSON: engine, model, prompt, n, workers, result (the file), and what is wanted:

    record      [k, ...]: a run on k workers, recorded, for each k; with `alone` one task at a time, and what regions
                cost and read
    sampler     sample from inside, so many times a second
    control     perf's control and acknowledge fifos
    margins     how far each token of serial is from being another one
    count       the time inside each function
"""

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from types import ModuleType
from typing import Any

from lab import serial, threadlib
from lab.checkpoint import touch_pages
from lab.command import quietly
from lab.engines import checked, load_engine, start
from lab.files import write_json
from lab.margin import margin
from lab.measure import burden
from lab.measure.operations import counting
from lab.measure.recorder import Recorder
from lab.measure.sampler import Sampler
from lab.serial import GPT2, gpt2_build_from_checkpoint


def generation(
    engine: ModuleType,
    model: GPT2,
    prompt: Sequence[int],
    n: int,
    workers: int,
    look: Callable[[], object] | None = None,
) -> tuple[list[int], list[int]]:
    """All tokens, prompt and generated, and when each was made (perf_counter_ns). Profiles begin at this function.

    look() is called after each token.
    """
    tokens, marks = list(prompt), [time.perf_counter_ns()]
    for token in checked(start(engine, model, prompt, n, workers), n - len(prompt)):
        tokens.append(token)
        marks.append(time.perf_counter_ns())
        if look:
            look()
    return tokens, marks


def recorded(engine: ModuleType, model: GPT2, prompt: Sequence[int], n: int, workers: int, runtime: Any) -> dict:
    """One generation with what `runtime` recorded of it, as it goes into the JSON file."""
    with threadlib.use(runtime):
        tokens, marks = generation(engine, model, prompt, n, workers)
    return {"workers": workers, "tokens": tokens, "marks": marks, "events": [list(event) for event in runtime.events()]}


SETTLE = 1e-4  # seconds without a sign of life from any thread, after which all others are asleep


class OneAtATime(Recorder):
    """A recorder under which only one task runs at a time, and begins when all other threads are asleep.

    Its task times are those of a worker that has the machine to itself: nothing in them is waiting for memory, cores
    or the interpreter that others use, so they can be added up, and scheduled anew on k workers.
    """

    def __init__(self) -> None:
        super().__init__()
        self.turn = threading.Lock()
        self.holder = 0  # the thread whose turn it is
        self.signs = 0  # how often a thread has begun to wait or to ask for its turn

    def perform(self, fn: Any, task: Any) -> None:
        """fn(task), alone, noted as a task."""
        self.take_turn()
        try:
            super().perform(fn, task)
        finally:
            self.give_turn()

    def wait(self, name: str, operation: Callable, *arguments: Any) -> None:
        """As Recorder's; a task that waits lets others have their turn meanwhile."""
        self.signs += 1
        holding = self.holder == threading.get_ident()
        if holding:
            self.give_turn()
        try:
            super().wait(name, operation, *arguments)
        finally:
            if holding:
                self.take_turn()

    def take_turn(self) -> None:
        """Wait for the turn, then until nobody else stirs."""
        self.signs += 1
        self.turn.acquire()
        self.holder = threading.get_ident()
        seen, quiet_since = self.signs, time.perf_counter()
        while time.perf_counter() < quiet_since + SETTLE:
            time.sleep(0)  # lets go of the interpreter lock, not of the core: its caches stay warm
            if seen != self.signs:
                seen, quiet_since = self.signs, time.perf_counter()

    def give_turn(self) -> None:
        """Let the next have it."""
        self.holder = 0
        self.turn.release()


@contextmanager
def perf_counting(control: Path, acknowledge: Path) -> Iterator[None]:
    """Let perf, started with --control fifo:control,acknowledge, count within the with block only."""

    def tell(command: str) -> None:
        control.write_text(f"{command}\n")
        answers.readline()

    with acknowledge.open(buffering=1) as answers:
        tell("enable")
        yield
        tell("disable")


def main() -> int:
    """Load, generate, report."""
    order = json.loads(sys.argv[1])
    engine = load_engine(order["engine"])
    model = gpt2_build_from_checkpoint(order["model"])
    touch_pages(model.params_memory)
    write_json(Path(order["result"]), (record if "record" in order else observe)(order, engine, model))
    return 0


def record(order: dict, engine: ModuleType, model: GPT2) -> dict:
    """One recorded run for each number of workers asked for, after one that is not recorded, to make all warm."""
    counts, prompt, n, alone = order["record"], order["prompt"], order["n"], "alone" in order
    generation(engine, model, prompt, n, counts[0])
    runs = [recorded(engine, model, prompt, n, k, OneAtATime() if alone and k > 1 else Recorder()) for k in counts]
    report = {"tokens": runs[0]["tokens"], "runs": runs}
    if alone:
        report["weights"] = burden.weights(engine, model, prompt, n, counts[0])
        report["overheads"] = burden.overheads(engine, model, counts)
    return report


def observe(order: dict, engine: ModuleType, model: GPT2) -> dict:
    """One run, plain, sampled from inside or with its functions' time counted."""
    sampler = Sampler(order["sampler"]) if "sampler" in order else None
    counter = counting(serial) if "count" in order else None
    hardware = perf_counting(*map(Path, order["control"])) if "control" in order else None
    monotonic = time.monotonic()  # the clock that perf record -k mono writes
    margins: list[float] = []
    V = model.config.vocab_size
    look = (lambda: margins.append(margin(model.acts.probs[0, -1, :V]))) if "margins" in order else None
    with sampler or nullcontext(), counter or nullcontext() as seconds, hardware or nullcontext():
        tokens, marks = generation(engine, model, order["prompt"], order["n"], order["workers"], look)
    return {
        "tokens": tokens,
        "margins": margins,
        "marks": marks,
        "seconds": (marks[-1] - marks[0]) / 1e9,
        "monotonic": [monotonic, time.monotonic()],
        "samples": sampler and sampler.samples(),
        "count": seconds,
    }


if __name__ == "__main__":
    quietly(main)
