"""Which activation is wrong first, and whose doing it is."""

from collections.abc import Iterator

import numpy as np

from lab.check.race import spoken
from lab.check.races import Detector
from lab.check.report import grouped, listed
from lab.check.shadow import Memory, address
from lab.serial import GPT2

TOLERANCE = 1e-4  # relative and absolute: activations that agree this well differ by rounding
ORDER = [  # of computing: gpt.c's, but the mixed values (atty) after the weights they are mixed with
    "encoded", "ln1_mean", "ln1_rstd", "ln1", "qkv", "preatt", "att", "atty", "attproj", "residual2",
    "ln2_mean", "ln2_rstd", "ln2", "fch", "fch_gelu", "fcproj", "residual3",
    "lnf_mean", "lnf_rstd", "lnf", "logits", "probs", "losses",
]  # fmt: skip
ELSEWHERE = "the program keeps its activations outside model.acts, so which of them is wrong first cannot be shown"
Told = tuple[list[str], list[str]]  # what is wrong, in words, the first line the most important; the lines that did it


def blame(detector: Detector, model: GPT2, expected: dict[str, np.ndarray]) -> Told:
    """Compare the activations after a pass with serial's, tensor by tensor in the order of computing, as far as the
    program writes them; of one that writes none there is nothing to compare, which is said."""
    if not detector.activations:
        return [], []
    root = detector.activations[-1]
    memory = root.array.view(np.ndarray)
    for part, expectation in tensors(model, memory, expected):
        written = (detector.log_pass[root.last[part]] == detector.now).reshape(expectation.shape)
        wrong = differing(memory[part], expectation.reshape(-1))
        early = early_read(detector, root, part)
        if early is not None and (wrong.any() or not written.all()):
            return tell_early(detector, root, early, part.start, written)
        wrong &= written.reshape(-1)
        if wrong.any():
            return tell_wrong(detector, root, part.start + np.flatnonzero(wrong))
    return [] if (detector.log_pass[root.last] == detector.now).any() else [ELSEWHERE], []


def tensors(model: GPT2, memory: np.ndarray, expected: dict[str, np.ndarray]) -> Iterator[tuple[slice, np.ndarray]]:
    """The activations that lie in `memory` and have the shape they should have, in the order of computing: which part
    of it, and what is expected there."""
    for name in sorted(vars(model.acts), key=lambda name: ORDER.index(name) if name in ORDER else len(ORDER)):
        array = vars(model.acts)[name]
        if isinstance(array, np.ndarray) and name in expected and expected[name].shape == array.shape:
            start = (address(array) - address(memory)) // memory.itemsize
            if 0 <= start <= memory.size - array.size:
                yield slice(start, start + array.size), expected[name]


def differing(found: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Which numbers differ by more than rounding; where `wanted` is NaN, nothing is wanted."""
    with np.errstate(invalid="ignore"):
        return ~(np.abs(found - wanted) <= TOLERANCE + TOLERANCE * np.abs(wanted)) & ~np.isnan(wanted)


def early_read(detector: Detector, root: Memory, part: slice) -> tuple[str, str, np.ndarray, int] | None:
    """The first read, in this pass, of elements of a tensor that nobody had written in it: thread, line, elements,
    writes before it."""
    for where, thread, site, elements, before, when in detector.stale_reads:
        inside = elements[(elements >= part.start) & (elements < part.stop)]
        if where is root and when == detector.now and inside.size:
            return thread, site, inside, before
    return None


def tell_early(detector: Detector, root: Memory, early: tuple, start: int, written: np.ndarray) -> Told:
    """Read before it was written: too early, never written at all, or added to."""
    thread, site, elements, before = early
    what, reader = root.region(elements), f"{spoken(thread)} at {site}"
    later = writers(detector, root, elements, before)
    if not later:
        rest = writers(detector, root, np.arange(start, start + written.size), 1)
        unwritten = f"{what} is read by {reader}, but nobody has written it in this pass"
        where = dict.fromkeys([site, *(line for _thread, line in rest)])
        return [unwritten, *whose_parts(root, rest, start, written)], list(where)
    if detector.log[before] == (thread, site, detector.now) and np.isin(elements, detector.log_elements[before]).all():
        left = "before anything is written to it in this pass: it adds to what was left there"
        return [f"{what} is read by {reader} {left}"], [site]
    told = listed([f"{spoken(name)} at {line}" for name, line in list(later)[:3]])
    where = [site, *dict.fromkeys(line for _name, line in later)]
    return [f"{what} is read by {reader} before it is written by {told}"], where


def writers(detector: Detector, root: Memory, elements: np.ndarray, after: int) -> dict[tuple[str, str], np.ndarray]:
    """Who wrote these elements last in this pass, not counting the first `after` writes: (thread, line) -> elements."""
    last = root.last[elements]
    found = grouped(
        ((thread, line), elements[last == number])
        for number in np.unique(last)
        for thread, line, when in [detector.log[number]]
        if number >= after and when == detector.now
    )
    return {who: np.concatenate(parts) for who, parts in found.items()}


def whose_parts(root: Memory, rest: dict, start: int, written: np.ndarray) -> list[str]:
    """Who wrote the rest of a tensor, and what the gap looks like."""
    lines = [
        f"{root.region(elements)} is written by {spoken(thread)} at {line}" for (thread, line), elements in rest.items()
    ]
    lines.append(f"{root.region(start + np.flatnonzero(~written))} is not written by anybody")
    for values, size in zip(np.nonzero(~written), written.shape, strict=True):
        first, last = int(values.min()), int(values.max())
        if rest and np.unique(values).size < size:
            if first == 0 and last < size - 1:
                lines.append("the first part is missing: is a worker's number, which counts from 1, used as if from 0?")
            elif last == size - 1 and first > 0:
                lines.append(
                    "the last part is missing: is the size no multiple of the number of parts, or a bound off by one?"
                )
            break
    return lines


def tell_wrong(detector: Detector, root: Memory, elements: np.ndarray) -> Told:
    """Elements with a wrong value, by their last writers."""
    found = writers(detector, root, elements, 1)
    lines = [
        f"{root.region(part)} is wrong, last written by {spoken(thread)} at {line}"
        for (thread, line), part in found.items()
    ]
    if len(lines) > 4:
        lines = [*lines[:4], f"and {len(lines) - 4} more"]
    return lines, list(dict.fromkeys(line for _thread, line in found))
