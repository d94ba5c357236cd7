"""Which activation is wrong first, and whose doing it is."""

from typing import Any

import numpy as np

from lab.check.races import Detector, spoken
from lab.check.report import listed

TOLERANCE = 1e-4


def blame(detector: Detector, model: Any, expected: dict[str, np.ndarray]) -> tuple[list[str], list[str]]:
    """Compare the activations after a pass with serial's, tensor by tensor in gpt.c's order, as far as the program writes them.

    Returns what is wrong, in words, the first line the most important; and the lines of the program that did it.
    """
    root = next((root for root in reversed(detector.clocks.roots) if root.names is not None), None)
    if root is None:
        return [], []
    memory = root.array.view(np.ndarray)
    for name, array in vars(model.acts).items():
        if not isinstance(array, np.ndarray) or name not in expected or expected[name].shape != array.shape:
            continue
        start = (array.__array_interface__["data"][0] - root.address) // root.itemsize
        if not 0 <= start <= root.size - array.size:
            continue
        found, wanted = memory[start : start + array.size], expected[name].reshape(-1)
        written = detector.log_pass[root.last[start : start + array.size]] == detector.now
        with np.errstate(invalid="ignore"):
            wrong = ~(np.abs(found - wanted) <= TOLERANCE + TOLERANCE * np.abs(wanted))
        early = early_reads(detector, root, start, array.size)
        if early is not None:
            return tell_early(detector, root, early, written)
        if (wrong & written).any():
            return tell_wrong(detector, root, start + np.flatnonzero(wrong & written))
    return [], []


def early_reads(detector: Detector, root: Any, start: int, size: int) -> tuple | None:
    """The first read, in this pass, of elements of a tensor that nobody had written in it."""
    for entry in detector.stale_reads:
        where, _thread, _site, elements, at = entry
        inside = elements[(elements >= start) & (elements < start + size)]
        if where is root and inside.size and detector.log_pass[max(0, at - 1)] in (detector.now, detector.now - 1):
            return (*entry[:3], inside, at)
    return None


def tell_early(detector: Detector, root: Any, early: tuple, written: np.ndarray) -> tuple[list[str], list[str]]:
    """Read before it was written: too early, never written at all, or added to."""
    _root, thread, site, elements, at = early
    what = root.region(elements)
    later = dict.fromkeys((name, line) for number in np.unique(root.last[elements]) if number >= at for name, line, _ in [detector.log[number]])
    if not later:
        message = f"{what} is read by {spoken(thread)} at {site}, but nobody has written it in this pass"
        lines = [message, *whose_part(detector, root, elements)]
        writers = list(dict.fromkeys(line for _name, line, when in detector.log if when == detector.now and tensor_of(root, elements)))
        del writers
        sites = [site] + [line for line in others_writing(detector, root, elements) if line != site]
        return lines, sites
    if all(line == site and name == thread for name, line in later):
        message = f"{what} is read by {spoken(thread)} at {site} before anything is written to it in this pass: it adds to what was left there"
        return [message], [site]
    told = listed([f"{spoken(name)} at {line}" for name, line in list(later)[:3]])
    message = f"{what} is read by {spoken(thread)} at {site} before it is written by {told}"
    return [message], [site, *dict.fromkeys(line for _name, line in later)]


def tensor_of(root: Any, elements: np.ndarray) -> str:
    """acts.fch"""
    return root.region(elements[:1]).split("[")[0]


def bounds(root: Any, elements: np.ndarray) -> tuple[int, int, tuple[int, ...]] | None:
    """(start, size, shape) of the tensor these elements belong to."""
    for array in root.names().values():
        start = (array.__array_interface__["data"][0] - root.address) // root.itemsize
        if start <= elements[0] < start + array.size:
            return int(start), array.size, array.shape
    return None


def others_writing(detector: Detector, root: Any, elements: np.ndarray) -> list[str]:
    """The lines that write the rest of the tensor."""
    found = bounds(root, elements)
    if found is None:
        return []
    start, size, _shape = found
    last = np.unique(root.last[start : start + size])
    lines = [detector.log[number][1] for number in last if number and detector.log[number][2] == detector.now]
    return list(dict.fromkeys(lines))


def whose_part(detector: Detector, root: Any, elements: np.ndarray) -> list[str]:
    """Who wrote the rest of the tensor, and what the gap looks like."""
    found = bounds(root, elements)
    if found is None:
        return []
    start, size, shape = found
    lines = []
    last = root.last[start : start + size]
    by: dict[str, list[int]] = {}
    for number in np.unique(last):
        thread, line, when = detector.log[number]
        if number and when == detector.now:
            by.setdefault(f"{spoken(thread)} at {line}", []).append(int(number))
    for who, numbers in by.items():
        lines.append(f"{root.region(start + np.flatnonzero(np.isin(last, numbers)))} is written by {who}")
    gap = np.unravel_index(elements - start, shape)
    for axis, values in enumerate(gap):
        unique = np.unique(values)
        if 0 < unique.size < shape[axis]:
            if unique[0] == 0 and unique[-1] < shape[axis] - 1:
                lines.append("the first part is missing: are workers, which are numbered from 1, taken to be numbered from 0?")
            elif unique[-1] == shape[axis] - 1 and unique[0] > 0:
                lines.append("the last part is missing: is the length no multiple of the number of pieces, or a bound off by one?")
            break
    return lines


def tell_wrong(detector: Detector, root: Any, elements: np.ndarray) -> tuple[list[str], list[str]]:
    """Elements with the wrong value, by their last writers."""
    writers: dict[tuple[str, str], list[int]] = {}
    for number in np.unique(root.last[elements]):
        thread, line, _pass = detector.log[number]
        writers.setdefault((thread, line), []).append(int(number))
    lines = []
    for (thread, line), numbers in writers.items():
        part = elements[np.isin(root.last[elements], numbers)]
        lines.append(f"{root.region(part)} is wrong, last written by {spoken(thread)} at {line}")
    if len(lines) > 4:
        lines = [*lines[:4], f"and {len(lines) - 4} more"]
    return lines, list(dict.fromkeys(line for _thread, line in writers))
