"""The variables of a program in the middle of a run, as short texts: what the threads share, and each thread's own."""

import sys
import zlib
from collections import deque
from types import FrameType
from typing import Any

import numpy as np

from lab.check.names import calls
from lab.check.program import MODULE_NAME
from lab.check.schedule import ROUNDS
from lab.check.scheduler import Scheduler
from lab.threadlib import Cond, Mutex, Semaphore, Thread

DEEP, MANY, LONG = 3, 12, 160  # levels of containers, elements of one, characters of a text
BRACKETS = {list: "[]", tuple: "()", set: "{}", frozenset: "{}", deque: "[]"}
UNSEEN = (Mutex, Cond, Semaphore, Thread, type, type(sys))


def in_text(value: Any, depth: int = DEEP) -> str:
    """How a value is shown; "" for what has no value worth showing: functions, modules, threads, primitives."""
    if value is None or isinstance(value, bool | int | float | complex | str | bytes | np.generic):
        return short(repr(value.item() if isinstance(value, np.generic) else value))
    if isinstance(value, np.ndarray):
        plain = np.asarray(value)
        if plain.size <= MANY and not plain.dtype.hasobject:
            return str(plain.tolist())
        return f"array {plain.shape}, checksum {zlib.crc32(content(plain, depth)):08x}"
    if isinstance(value, UNSEEN) or callable(value) or depth == 0:
        return ""
    for kind, (begin, end) in BRACKETS.items():
        if isinstance(value, kind):
            parts = [in_text(one, depth - 1) or named(one) for one in list(value)[:MANY]]
            if kind in (set, frozenset):
                parts.sort()  # the order of a set is not the program's
            return short(begin + ", ".join(parts) + more(value) + end)
    if isinstance(value, dict):
        pairs = [f"{named(key)}: {in_text(one, depth - 1) or named(one)}" for key, one in list(value.items())[:MANY]]
        return short("{" + ", ".join(pairs) + more(value) + "}")
    if type(value).__module__ == MODULE_NAME and hasattr(value, "__dict__"):
        shown = {name: in_text(one, depth - 1) for name, one in vars(value).items()}
        return short(f"{type(value).__name__}({', '.join(f'{name}={text}' for name, text in shown.items() if text)})")
    return ""


def content(array: np.ndarray, depth: int) -> bytes:
    """What is in an array, the same in every run: objects as they are shown, not where they lie."""
    if not array.dtype.hasobject:
        return array.tobytes()
    return "\n".join(in_text(one, depth - 1) or named(one) for one in array.ravel().tolist()).encode(errors="replace")


def more(container: Any) -> str:
    """What stands for the elements that are not shown."""
    return f", ... {len(container)} in all" if len(container) > MANY else ""


def named(value: Any) -> str:
    """A value in a container that has none to show."""
    return getattr(value, "__name__", "") or getattr(value, "name", "") or in_text(value, 1) or type(value).__name__


def short(text: str) -> str:
    """At most LONG characters; the checksum keeps texts apart that begin in the same way."""
    return text if len(text) <= LONG else f"{text[: LONG - 12]}... {zlib.crc32(text.encode(errors='replace')):08x}"


def texts(variables: dict[str, Any]) -> dict[str, str]:
    """Those of them that can be shown."""
    shown = {name: in_text(value) for name, value in list(variables.items()) if not name.startswith("__")}
    return {name: text for name, text in shown.items() if text}


def shared() -> dict[str, str]:
    """The variables of the program as a module."""
    module = sys.modules.get(MODULE_NAME)
    return texts(vars(module)) if module is not None else {}


def frames(scheduler: Scheduler) -> dict[str, list[FrameType]]:
    """The program's frames of each living thread, the innermost first."""
    running = sys._current_frames()
    return {
        runner.name: [
            frame
            for frame in calls(running.get(runner.ident))
            if frame.f_code.co_filename == scheduler.user_file and frame.f_code.co_name != "<module>"
        ]
        for runner in scheduler.live
    }


def halfway(scheduler: Scheduler) -> dict[str, str]:
    """What threads have read and not yet written, where they are between the two."""
    running, found = sys._current_frames(), {}
    for runner in scheduler.live:
        for frame in calls(running.get(runner.ident)):
            if frame.f_code.co_filename == scheduler.user_file:
                break
            if frame.f_code is Scheduler.switch.__code__ and frame.f_locals["level"] < ROUNDS:
                found[runner.name] = in_text(frame.f_locals["value"])
    return {name: text for name, text in found.items() if text}
