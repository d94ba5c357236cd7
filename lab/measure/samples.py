"""Samples: which functions were being executed, at regular moments. What py-spy or our own sampler wrote, cleaned and
rewritten.

speedscope file of py-spy -> Sample ... -> generation only, active only -> speedscope, collapsed stacks, hot-spot table
"""

import json
import linecache
import re
import sys
from collections import Counter
from collections.abc import Iterable
from itertools import dropwhile
from pathlib import Path
from typing import NamedTuple

from lab.files import ROOT

ENTRY = ("generation", "target.py")  # everything outside this function is loading; its caller is of no interest
WAIT_LINE = re.compile(r"\.lock\(\)|\.P\(\)|\.wait\(|\bjoin\(|with .*mutex\b.*:|\.acquire\(")
WAIT_FUNCTIONS = ("wait", "P", "lock", "join", "_wait_for_tstate_lock", "timed_operation")
CLOCK = "operations.py"  # the clocks around functions are not the program's
PLUMBING = ("threading.py", "threadlib.py")  # what a worker's stack begins with


class Frame(NamedTuple):
    """A function being executed, at a line: name as in "matmul_forward.block"; the file's full path."""

    name: str
    file: str
    line: int

    @property
    def base(self) -> str:
        """The file's name without its folder."""
        return Path(self.file).name

    @property
    def is_ours(self) -> bool:
        """In the lab or in a submission, neither in Python's library nor in an installed package."""
        if self.base == CLOCK or self.file.startswith("<") or self.file.startswith(f"{sys.prefix}/"):
            return False
        installed = self.file.startswith(f"{sys.base_prefix}/") or re.search(r"/lib/python3|site-packages", self.file)
        return self.file.startswith(f"{ROOT}/") or not installed

    @property
    def source(self) -> str:
        """The text of the line, or ""."""
        return linecache.getline(self.file, self.line).strip()


class Sample(NamedTuple):
    """One look at one thread: its stack, outermost function first, and how many seconds the sample stands for."""

    thread: str
    stack: tuple[Frame, ...]
    seconds: float


# ------------------------------------------------------------------------------------------------------------------- in


def from_speedscope(path: Path) -> list[Sample]:
    """All samples of a speedscope file. Raises ValueError, KeyError or TypeError for a file that is none."""
    document = json.loads(path.read_text(encoding="utf-8"))
    frames = [
        Frame(frame["name"].replace(".<locals>", ""), frame.get("file") or "", frame.get("line") or 0)
        for frame in document["shared"]["frames"]
    ]
    return [
        Sample(thread_name(profile["name"], number), tuple(frames[index] for index in stack), weight)
        for number, profile in enumerate(document["profiles"])
        for stack, weight in zip(profile["samples"], profile["weights"], strict=True)
    ]


def thread_name(title: str, number: int) -> str:
    """The name in py-spy's 'Thread 13778 "worker-1"'; the first thread without one is the main thread."""
    match = re.search(r'"([^"]+)"', title)
    if match:
        return match[1]
    return "MainThread" if number == 0 else title.strip(' "')


def from_sampler(report: dict) -> list[Sample]:
    """The samples of our own sampler (sampler.Sampler.samples())."""
    frames = [Frame(name.replace(".<locals>", ""), file, line) for name, file, line in report["frames"]]
    return [
        Sample(thread, tuple(frames[index] for index in stack), report["interval"])
        for thread, stack in report["samples"]
    ]


# ------------------------------------------------------------------------------------------------------------- cleaning


def generation_only(samples: Iterable[Sample]) -> list[Sample]:
    """Without loading, and each stack without what lies outside the program: it begins at generate() or a worker's."""
    cut = (sample._replace(stack=trimmed(sample)) for sample in samples)
    return [sample for sample in cut if sample.stack]


def trimmed(sample: Sample) -> tuple[Frame, ...]:
    """The part of a stack that belongs to the program; () for a sample that does not."""
    for depth, frame in enumerate(sample.stack):
        if (frame.name, frame.base) == ENTRY:
            return sample.stack[depth + 1 :]
    if sample.thread == "MainThread":
        return ()  # loading, or the end of the process
    return tuple(dropwhile(lambda frame: frame.base in PLUMBING, sample.stack))


def is_waiting(sample: Sample) -> bool:
    """Its thread waits for a lock, a condition, a semaphore or another thread, as far as the innermost line tells."""
    frame = sample.stack[-1]
    if frame.base in PLUMBING:
        return frame.name.split(".")[-1] in WAIT_FUNCTIONS or bool(WAIT_LINE.search(frame.source))
    return frame.is_ours and bool(WAIT_LINE.search(frame.source))


def split_waiting(samples: Iterable[Sample]) -> tuple[list[Sample], list[Sample]]:
    """(active, waiting)"""
    active: list[Sample] = []
    waiting: list[Sample] = []
    for sample in samples:
        (waiting if is_waiting(sample) else active).append(sample)
    return active, waiting


# ------------------------------------------------------------------------------------------------------------------ out


def collapsed(samples: list[Sample]) -> Counter[str]:
    """Collapsed stacks, as flame graph tools read them: "generate;matmul_forward;serial.py:61 np.dot(...)" -> samples.

    With more than one thread each stack begins with its thread's name.
    """
    several = len({sample.thread for sample in samples}) > 1
    stacks: Counter[str] = Counter()
    for sample in samples:
        names = [sample.thread] if several else []
        names += [frame.name if frame.is_ours else f"{frame.name} ({frame.base})" for frame in sample.stack]
        leaf = sample.stack[-1]
        line = f"{leaf.base}:{leaf.line} {leaf.source}".strip()
        stacks[";".join([*names, line.replace(";", ",")])] += 1
    return stacks


def collapsed_text(stacks: Counter[str]) -> str:
    """One stack a line, its count behind it."""
    return "".join(f"{stack} {count}\n" for stack, count in sorted(stacks.items()))


def speedscope(samples: list[Sample], name: str) -> dict:
    """The samples as a speedscope document, one profile for each thread."""
    distinct = dict.fromkeys(frame for sample in samples for frame in sample.stack)
    frames = {frame: number for number, frame in enumerate(distinct)}
    threads: dict[str, list[Sample]] = {}
    for sample in samples:
        threads.setdefault(sample.thread, []).append(sample)
    return {
        "$schema": "https://www.speedscope.app/file-format-schema.json",
        "name": name,
        "exporter": "lab.measure",
        "activeProfileIndex": 0,
        "shared": {"frames": [{"name": f.name, "file": f.file, "line": f.line} for f in frames]},
        "profiles": [
            {
                "type": "sampled",
                "name": thread,
                "unit": "seconds",
                "startValue": 0,
                "endValue": round(sum(sample.seconds for sample in own), 9),
                "samples": [[frames[frame] for frame in sample.stack] for sample in own],
                "weights": [sample.seconds for sample in own],
            }
            for thread, own in sorted(threads.items())
        ],
    }
