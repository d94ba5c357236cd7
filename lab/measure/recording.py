"""What the Recorder noted, put in order: regions with their tasks, forward passes, waits. All times are
nanoseconds."""

import re
import time
from bisect import bisect_left, bisect_right
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field

from lab import threadlib
from lab.measure.recorder import Event, Recorder

MAIN = "MainThread"


@dataclass
class Span:
    """From one moment to another."""

    begin: int
    end: int

    @property
    def length(self) -> int:
        """Nanoseconds."""
        return self.end - self.begin


@dataclass
class Region(Span):
    """One parallel operation: from handing out its tasks to the barrier at its end."""

    name: str
    tasks: list[Event] = field(default_factory=list)
    pieces: list[Event] = field(default_factory=list)  # of the tasks, without the waits in them

    @property
    def work(self) -> int:
        """Nanoseconds of all its tasks together, without the waits in them."""
        return sum(piece.length for piece in self.pieces)

    def busy(self) -> dict[str, int]:
        """Nanoseconds of work by thread."""
        total: dict[str, int] = defaultdict(int)
        for piece in self.pieces:
            total[piece.thread] += piece.length
        return total


@dataclass
class Pass(Span):
    """One forward pass: all that made one token."""

    regions: list[Region] = field(default_factory=list)

    def serial(self) -> list[tuple[int, int]]:
        """The pieces between regions, in which only the main thread works, as (begin, end)."""
        edges = [self.begin, *(edge for region in self.regions for edge in (region.begin, region.end)), self.end]
        return [(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if b > a]


class Recording(Span):
    """One recorded run on `workers` workers: passes with regions and tasks; waits, without those inside a wait.

    A program that names no regions or tasks has none; `lives` are its threads from their beginning to their end.
    """

    def __init__(self, run: dict) -> None:
        self.workers: int = run["workers"]
        self.marks: list[int] = run["marks"]
        self.events = [Event(*event) for event in run["events"]]
        super().__init__(self.marks[0], self.marks[-1])
        self.passes = [Pass(a, b) for a, b in zip(self.marks, self.marks[1:], strict=False)]
        self.tasks = [event for event in self.events if event.kind == "task"]
        self.waits = outermost([event for event in self.events if event.kind == "wait"])
        self.lives = [event for event in self.events if event.kind == "thread"]
        self.pieces = [piece for task in self.tasks for piece in without_waits(task, self.waits)]
        self.threads = sorted({event.thread for event in self.events} | {MAIN}, key=thread_order)
        self.place()

    def place(self) -> None:
        """Each region into its pass, each task into its region. Raises ValueError for a program without passes."""
        if not self.passes:
            raise ValueError("nothing was generated: no forward pass to look at")
        regions = [Region(e.begin, e.end, e.name) for e in self.events if e.kind == "region"]
        for region in regions:
            index = bisect_right(self.marks, region.begin) - 1
            if 0 <= index < len(self.passes):
                self.passes[index].regions.append(region)
        begins = [region.begin for region in regions]
        for spans, attribute in ((self.tasks, "tasks"), (self.pieces, "pieces")):
            for span in spans:
                index = bisect_right(begins, span.begin) - 1
                if index >= 0 and span.end <= regions[index].end:
                    getattr(regions[index], attribute).append(span)

    @property
    def regions(self) -> list[Region]:
        """All regions in order of time."""
        return [region for one in self.passes for region in one.regions]

    def outside(self) -> float:
        """Seconds in which no region was open: the serial part."""
        return sum(end - begin for one in self.passes for begin, end in one.serial()) / 1e9

    def unnamed(self) -> list[Event]:
        """What the main thread does outside regions and, if the program names no tasks, all that the others do: their
        time without the waits in it."""
        outside = [Event(MAIN, "serial", "", "", *piece) for one in self.passes for piece in one.serial()]
        spans = outside if self.tasks else [*outside, *self.lives]
        return [piece for span in spans for piece in without_waits(span, self.waits)]

    def typical_pass(self) -> Pass:
        """The pass of median length among the later half, which are the long ones."""
        later = sorted(self.passes[len(self.passes) // 2 :], key=lambda one: one.length)
        return later[len(later) // 2]


def watch(fn: Callable[[], object]) -> Recording:
    """Run fn(), in this process, and record what the threads do that it spawns; all of it is one pass."""
    recorder = Recorder()
    with threadlib.use(recorder):
        begin = time.perf_counter_ns()
        fn()
        end = time.perf_counter_ns()
    events = recorder.events()
    workers = len({event.thread for event in events} - {MAIN})
    return Recording({"workers": workers, "marks": [begin, end], "events": events})


def outermost(spans: list[Event]) -> list[Event]:
    """Without spans inside another of the same thread: Cond.wait locks the mutex again, which is a wait in a wait."""
    kept, last = [], {}
    for span in sorted(spans, key=lambda one: (one.begin, -one.end)):
        if span.end > last.get(span.thread, 0):
            kept.append(span)
            last[span.thread] = span.end
    return kept


def without_waits(task: Event, waits: list[Event]) -> list[Event]:
    """The pieces of a task between the waits in it; `waits` are in order of their beginning."""
    first = bisect_left(waits, task.begin, key=lambda wait: wait.begin)
    pieces, begin = [], task.begin
    for wait in waits[first:]:
        if wait.begin >= task.end:
            break
        if wait.thread == task.thread:
            pieces.append(task._replace(begin=begin, end=wait.begin))
            begin = wait.end
    return [*pieces, task._replace(begin=begin)]


def thread_order(name: str) -> tuple[bool, int, str]:
    """The main thread first, then worker-1, worker-2, ..., worker-10."""
    number = re.search(r"\d+$", name)
    return name != MAIN, int(number[0]) if number else 0, name
