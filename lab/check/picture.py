"""A schedule to look at: as lines of text, and as a picture with a column for each thread."""

from collections.abc import Iterator
from html import escape
from itertools import pairwise
from pathlib import Path
from typing import Any

from lab.check.scheduler import Scheduler
from lab.files import write_text

LONGEST = 400  # lines of a trace that are kept
LONGEST_ROUND = 6  # lines that are looked for again
ROW, COLUMN, LEFT, TOP = 18, 250, 46, 64
LETTERS = 34  # of an operation, in the picture
WAITS = "waits: "
COLOURS = ("#4c566a", "#2e7d5b", "#b5541c", "#3567a8", "#8a4a9e", "#9a7b16", "#b03050", "#4a8a8a")


def in_words(verb: str, what: Any) -> str:
    """One operation."""
    match verb:
        case "at":
            return f"switches before line {what}"
        case "wakes":
            return f"wakes from {what[0].label}, has {what[1].label} again"
        case "joins":
            return "joins " + ", ".join(runner.name for runner in what)
        case "P" | "V":
            return f"{verb}({what.label.removeprefix('semaphore ')})"
        case "spins":
            return f"loops at line {what}"
        case "sleeps":
            return "sleeps"
    return f"{verb} {getattr(what, 'label', what)}"


def rows(scheduler: Scheduler) -> list[tuple[bool, Any, str, str]]:
    """(did the thread change here?, runner, words, site), and at the end what each thread waits for. Statements are
    shown only where the thread changes at them."""
    found = []
    before = None
    trace = scheduler.trace
    for index, (runner, verb, what, site) in enumerate(trace):
        following = trace[index + 1][0] if index + 1 < len(trace) else None
        if verb == "at" and following is runner and before is runner:
            continue
        words = f"is at line {what}" if verb == "at" else in_words(verb, what)
        found.append((before is not None and runner is not before, runner, words, site))
        before = runner
    for runner in scheduler.everyone:
        if runner.ready is not None and scheduler.outcome is not None and scheduler.outcome.kind == "deadlock":
            verb, what = runner.verb, runner.what
            wants = f"to wake from {what[0].label}" if verb == "wakes" else in_words(verb, what)
            found.append((True, runner, WAITS + wants, runner.site))
    return found


def lines(scheduler: Scheduler) -> list[str]:
    """The trace as text; a star marks a change of thread."""
    width = max((len(runner.name) for runner in scheduler.everyone), default=4)
    found = rows(scheduler)
    column = max((len(words) for _changed, _runner, words, _site in found), default=0)
    text = [
        f"{'*' if changed else ' '} {runner.name:<{width}}  {words:<{min(column, 70)}}  {site}"
        for changed, runner, words, site in found
    ]
    return folded(text)[-LONGEST:]


def folded(text: list[str]) -> list[str]:
    """Up to LONGEST_ROUND lines that come again and again are shown once, with their number."""
    result: list[str] = []
    index = 0
    while index < len(text):
        size, times = 1, 1
        for length in range(1, LONGEST_ROUND + 1):
            block = [line[2:] for line in text[index : index + length]]
            repeats = 1
            while [line[2:] for line in text[index + repeats * length : index + (repeats + 1) * length]] == block:
                repeats += 1
            if repeats > 1 and (repeats - 1) * length > (times - 1) * size:
                size, times = length, repeats
        result += text[index : index + size]
        if times > 1:
            result[-1] += f"  ({times} times)" if size == 1 else f"  (these {size} lines {times} times)"
        index += size * times
    return result


def write_svg(path: Path, scheduler: Scheduler, title: str, schedule: str) -> None:
    """A column for each thread, time going down, an arrow at each change of thread. Raises WriteError if it cannot be
    written."""
    found = rows(scheduler)[-LONGEST:]
    names = {runner.number: runner.name for _changed, runner, _words, _site in found}
    place = {number: LEFT + COLUMN * index for index, number in enumerate(sorted(names))}
    width, height = LEFT + COLUMN * max(1, len(names)) + 10, TOP + ROW * len(found) + 20
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}" '
        'font-family="ui-monospace, Menlo, Consolas, monospace" font-size="11">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        f'<text x="10" y="18" font-size="13" font-weight="bold">{escape(title)}</text>',
        f'<text x="10" y="34" fill="#666">{escape(schedule[:160])}</text>',
        *(
            f'<text x="{x}" y="54" font-weight="bold" fill="{colour(number)}">{escape(names[number])}</text>\n'
            f'<line x1="{x - 6}" y1="{TOP - 6}" x2="{x - 6}" y2="{height - 10}" stroke="#ddd"/>'
            for number, x in place.items()
        ),
        *arrows(found, place),
        *(step(row, place[row[1].number], TOP + ROW * index) for index, row in enumerate(found)),
        "</svg>\n",
    ]
    write_text(path, "\n".join(parts))


def arrows(found: list[tuple[bool, Any, str, str]], place: dict[int, int]) -> Iterator[str]:
    """A dashed line wherever another thread goes on."""
    for index, ((_, before, _, _), (changed, runner, words, _)) in enumerate(pairwise(found), 1):
        if changed and before is not runner and not words.startswith(WAITS):
            y = TOP + ROW * index + 5
            yield (
                f'<path d="M{place[before.number] - 6} {y - ROW} L{place[runner.number] - 6} {y}" stroke="#aaa" '
                'fill="none" stroke-dasharray="3 2"/>'
            )


def step(row: tuple[bool, Any, str, str], x: int, y: int) -> str:
    """A point in the thread's column, what it does there, and the line, which is whole where the pointer rests."""
    _changed, runner, words, site = row
    fill = "#c62828" if words.startswith(WAITS) else colour(runner.number)
    text = escape(words if len(words) <= LETTERS else words[: LETTERS - 1] + "…")
    return (
        f'<circle cx="{x - 6}" cy="{y + 5}" r="3.5" fill="{fill}"/>\n'
        f'<text x="{x}" y="{y + 9}" fill="{fill}" stroke="white" stroke-width="4" paint-order="stroke">{text}'
        f"<title>{escape(words)} {escape(site)}</title></text>\n"
        f'<text x="4" y="{y + 9}" fill="#999" font-size="9">{escape(site.rpartition(":")[2])}</text>'
    )


def colour(number: int) -> str:
    """A thread's."""
    return COLOURS[number % len(COLOURS)]
