"""make timeline: what each worker did when, and what it waited for.

    .venv/bin/python -m lab.measure.timeline --engine parallel --workers 2

Runs the program under the Recorder and writes <engine>.trace.json (for https://ui.perfetto.dev,
chrome://tracing or speedscope), a picture of one forward pass (<engine>.timeline.png, .svg) and <engine>.timeline.json
with the numbers of the printed tables.
"""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from lab.command import quietly, tidy
from lab.files import shown, write_json
from lab.measure import runner, style
from lab.measure.freshness import about
from lab.measure.load import Load
from lab.measure.recorder import Event
from lab.measure.recording import MAIN, Pass, Recording, Region
from lab.measure.runner import Program, check_tokens, guarded, run, say, serial_tokens
from lab.measure.style import GREY, OUTSIDE, looks, short

SHOWN = 10  # regions in the enlarged part of a pass
OUTSIDE_COLOUR = looks([])[OUTSIDE][0]

# ----------------------------------------------------------------------------------------------------- the Chrome trace


def chrome_trace(recording: Recording, title: str) -> dict:
    """The Trace Event Format: complete events (X) on named threads, an instant event (i) for a token; microseconds."""
    number = {thread: index for index, thread in enumerate(recording.threads)}
    events = [meta("process_name", 0, name=title)]
    for thread, tid in number.items():
        events += [
            meta("thread_name", tid, name="main" if thread == MAIN else thread),
            meta("thread_sort_index", tid, sort_index=tid),
        ]
    for event in recording.events:
        detail = tidy(event.detail)
        name = {
            "task": f"{event.name} {detail}",
            "region": f"region {event.name}",
            "wait": f"{event.name}, {detail}",
            "thread": event.name,
        }
        events.append(
            {
                "ph": "X",
                "pid": 1,
                "tid": number[event.thread],
                "name": name[event.kind],
                "cat": event.kind,
                "ts": (event.begin - recording.begin) / 1000,
                "dur": event.length / 1000,
            }
        )
    for index, mark in enumerate(recording.marks[1:], 1):
        events.append(
            {"ph": "i", "pid": 1, "tid": 0, "name": f"token {index}", "ts": (mark - recording.begin) / 1000, "s": "p"}
        )
    return {"traceEvents": events, "displayTimeUnit": "ms", "otherData": {"title": title}}


def meta(kind: str, tid: int, **told: object) -> dict[str, Any]:
    """A metadata event: the name of the process or a thread, or a thread's place."""
    return {"ph": "M", "pid": 1, "tid": tid, "name": kind, "args": told}


# ---------------------------------------------------------------------------------------------------------- the numbers


def thread_rows(recording: Recording) -> list[dict]:
    """For each thread its shares of the whole time: busy (tasks; for the main thread all but waiting), waiting,
    rest.

    What is neither is the library's own work and time without the interpreter lock or a core. Where the program names
    no tasks, busy is all the time from a thread's beginning to its end in which it does not wait.
    """
    rows = []
    for thread in recording.threads:
        waits: dict[str, int] = defaultdict(int)
        for wait in recording.waits:
            if wait.thread == thread:
                waits[wait.name] += clipped(wait, recording)
        waiting = sum(waits.values())
        at_work = [*recording.pieces, *recording.unnamed()]
        busy = sum(clipped(piece, recording) for piece in at_work if piece.thread == thread)
        busy = max(busy, recording.length - waiting) if thread == MAIN else busy
        rows.append(
            {
                "thread": thread,
                "busy": busy / recording.length,
                "waiting": waiting / recording.length,
                "rest": max(0.0, 1 - (busy + waiting) / recording.length),
                "waits": {name: ns / recording.length for name, ns in sorted(waits.items(), key=lambda item: -item[1])},
            }
        )
    return rows


def clipped(span: Event, recording: Recording) -> int:
    """Nanoseconds of a span that lie within the generation."""
    return max(0, min(span.end, recording.end) - max(span.begin, recording.begin))


def operation_rows(recording: Recording) -> list[dict]:
    """For each operation: regions, tasks, wall seconds, work seconds, and where the workers' time in its regions went.

    busy + imbalance + handover = 1: the mean worker's tasks, what the busiest worker had more than the mean, and the
    rest, in which not even the busiest worker had a task.
    """
    operations: dict[str, list[Region]] = defaultdict(list)
    for region in recording.regions:
        operations[region.name].append(region)
    rows = []
    for name, regions in operations.items():
        whole, work = sum(one.length for one in regions), sum(one.work for one in regions)
        busy = work / recording.workers / max(whole, 1)
        busiest = sum(max(one.busy().values(), default=0) for one in regions) / max(whole, 1)
        rows.append({
            "name": name, "regions": len(regions), "tasks": sum(len(one.tasks) for one in regions),
            "seconds": whole / 1e9, "work": work / 1e9, "busy": busy, "imbalance": busiest - busy,
            "handover": 1 - busiest,
        })  # fmt: skip
    return sorted(rows, key=lambda row: -row["seconds"])


def wait_rows(recording: Recording) -> list[dict]:
    """The six places waited at longest: primitive, line, who, how often, seconds in all, the longest one."""
    places: dict[tuple[str, str, str], list[int]] = defaultdict(list)
    for wait in recording.waits:
        who = "main" if wait.thread == MAIN else "workers"
        length = clipped(wait, recording)
        if length:
            places[wait.name, wait.detail, who].append(length)
    rows = [
        {"name": name, "line": line, "who": who, "times": len(lengths),
         "seconds": sum(lengths) / 1e9, "longest": max(lengths) / 1e9}
        for (name, line, who), lengths in places.items()
    ]  # fmt: skip
    return sorted(rows, key=lambda row: -row["seconds"])[:6]


# ----------------------------------------------------------------------------------------------------------- the tables


def plain_table(title: str, columns: str) -> Table:
    """A table without lines; a column whose heading begins with ">" is a number."""
    made = [
        # where it is narrow, words are wrapped or cut, and no numbers
        Column(heading[1:], justify="right", no_wrap=True, min_width=max(len(heading) - 1, 5))
        if heading[0] == ">"
        else Column(heading, overflow="ellipsis")
        for heading in columns.split("|")
    ]
    return Table(
        *made, title=title, title_justify="left", title_style="bold", box=None, padding=(0, 1, 0, 0), pad_edge=False
    )


def tables(result: dict, width: int) -> Iterator[Table]:
    """Those of a result that have rows."""
    yield thread_table(result["threads"])
    if result["operations"]:
        yield operation_table(result["operations"], result["outside"], result["seconds"], width)
    if result["waits"]:
        yield wait_table(result["waits"])


def thread_table(rows: list[dict]) -> Table:
    """Who was busy, who waited for what."""
    table = plain_table("Threads", "Thread|>Busy|>Waits|>Rest|for what")
    for row in rows:
        causes = ", ".join(f"{name} {share:.0%}" for name, share in row["waits"].items() if share >= 0.005)
        name = "main" if row["thread"] == MAIN else row["thread"]
        table.add_row(
            name, f"{row['busy']:.0%}", f"{row['waiting']:.0%}", f"{row['rest']:.0%}", Text(causes, style="cyan")
        )
    return table


def operation_table(rows: list[dict], outside: float, whole: float, width: int = 80) -> Table:
    """What the regions cost, and what became of the workers' time in them; below 75 columns without the counts."""
    counted = ("regions", "tasks") if width >= 75 else ()
    blank = [""] * len(counted)
    columns = f"Region|{'>Times|>Tasks|' if counted else ''}>Time|>Work|>Busy|>Imbalance|>Hand-over"
    table = plain_table("Regions", columns)
    look = looks(row["name"] for row in rows)
    for row in rows:
        name = Text.assemble(("■ ", look[row["name"]][0]), row["name"], no_wrap=True)
        counts = (str(row[key]) for key in counted)
        times = (milliseconds(row[key]) for key in ("seconds", "work"))
        shares = (f"{row[key]:.0%}" for key in ("busy", "imbalance", "handover"))
        table.add_row(name, *counts, *times, *shares)
    table.add_row("  outside regions", *blank, milliseconds(outside))
    table.add_row("  all", *blank, milliseconds(whole), style="bold")
    return table


def wait_table(rows: list[dict]) -> Table:
    """The longest waits."""
    table = plain_table("Waits", "For|At|Who|>Times|>Total|>Longest")
    for row in rows:
        total, longest = milliseconds(row["seconds"]), milliseconds(row["longest"])
        table.add_row(row["name"], Text(row["line"], style="cyan"), row["who"], str(row["times"]), total, longest)
    return table


def milliseconds(seconds: float) -> str:
    """Seconds as text in milliseconds."""
    return f"{seconds * 1e3:,.0f} ms" if seconds >= 0.1 else f"{seconds * 1e3:.1f} ms"


# ---------------------------------------------------------------------------------------------------------- the picture


def draw(recording: Recording, title: str, note: str) -> Any:
    """A matplotlib figure: one forward pass, and a part of it enlarged."""
    one = recording.typical_pass()
    height = 1.5 + 0.42 * 2 * len(recording.threads)
    figure, (whole, part) = style.pyplot().subplots(2, 1, figsize=(11, height + 1.3))
    lanes(whole, recording, one.begin, one.end, labels=False)
    begin, end = excerpt(one)
    lanes(part, recording, begin, end, origin=one.begin, labels=True)
    whole.axvspan((begin - one.begin) / 1e6, (end - one.begin) / 1e6, color="#000000", alpha=0.08, lw=0)
    token = recording.passes.index(one) + 1
    whole.set_title(f"One forward pass: the one for token {token}, {one.length / 1e6:.1f} ms", loc="left")
    part.set_title(f"Enlarged: {(end - begin) / 1e6:.1f} ms of it, the shaded part", loc="left")
    part.set_xlabel("milliseconds since the pass began")
    return style.framed(figure, f"Timeline: {title}", legend_items(recording, one), note)


def draw_whole(recording: Recording, title: str) -> Any:
    """A matplotlib figure of all that was recorded, for small programs."""
    figure, axes = style.pyplot().subplots(figsize=(11, 1.7 + 0.42 * len(recording.threads)))
    lanes(axes, recording, recording.begin, recording.end, labels=True)
    axes.set_xlabel("milliseconds")
    return style.framed(figure, title, legend_items(recording, recording.passes[0]))


def excerpt(one: Pass) -> tuple[int, int]:
    """The part to enlarge: from the middle of the pass, two layers or so."""
    if len(one.regions) <= SHOWN:
        return one.begin, one.end
    begins = [region.begin for region in one.regions[len(one.regions) // 2 :]]
    return begins[0], begins[SHOWN] if len(begins) > SHOWN else one.end


def lanes(
    axes: Any, recording: Recording, begin: int, end: int, origin: int | None = None, labels: bool = False
) -> None:
    """One lane for each thread between two moments: tasks, waits, and what the main thread does outside regions."""
    origin = begin if origin is None else origin
    place = {thread: index for index, thread in enumerate(recording.threads)}

    def bar(lane: int, from_: int, to: int, **look: Any) -> float:
        left, right = max(from_, begin), min(to, end)
        if right > left:
            axes.barh(lane, (right - left) / 1e6, left=(left - origin) / 1e6, height=0.78, **look)
        return (right - left) / (end - begin)

    for wait in recording.waits:
        bar(place[wait.thread], wait.begin, wait.end, color="#EFEFEF", edgecolor="#BBBBBB", linewidth=0.3)
    for piece in recording.unnamed():
        fill = OUTSIDE_COLOUR if piece.thread == MAIN else GREY
        bar(place[piece.thread], piece.begin, piece.end, color=fill, linewidth=0)
    colours = looks(name_order(recording))
    for task in recording.pieces:
        look = {"color": colours[task.name][0], "edgecolor": "white", "linewidth": 0.4}
        share = bar(place[task.thread], task.begin, task.end, **look)
        detail = tidy(task.detail)
        text = next((text for text in (f"{short(task.name)} {detail}", detail) if share > 0.0062 * len(text)), "")
        if labels and text:
            middle = ((max(task.begin, begin) + min(task.end, end)) / 2 - origin) / 1e6
            look = {"ha": "center", "va": "center", "color": "white", "fontsize": 7, "parse_math": False}
            axes.text(middle, place[task.thread], text, **look)
    axes.set_yticks(list(place.values()), ["main" if name == MAIN else name for name in place])
    axes.set_ylim(len(place) - 0.45, -0.55)
    axes.set_xlim((begin - origin) / 1e6, (end - origin) / 1e6)
    axes.tick_params(axis="y", length=0)
    axes.spines["left"].set_visible(False)


def name_order(recording: Recording) -> list[str]:
    """The names of all regions, then of tasks that are called otherwise, each at its first place."""
    return list(
        dict.fromkeys([*(region.name for region in recording.regions), *(task.name for task in recording.tasks)])
    )


def legend_items(recording: Recording, one: Pass) -> list[tuple[str, str, str]]:
    """(label, colour, hatch) of what can be seen in the pass."""
    seen = {task.name for task in recording.tasks if task.end > one.begin and task.begin < one.end}
    look = looks(name_order(recording))
    items = [(f"task of {name}", look[name][0], "") for name in look if name in seen]
    if not recording.tasks:
        items = [("worker that does not wait", GREY, "")]
    return [
        *items,
        ("main thread outside regions", OUTSIDE_COLOUR, ""),
        ("waiting", "#DDDDDD", ""),
        ("neither: no core, or no interpreter lock", "#FFFFFF", ""),
    ]


# ---------------------------------------------------------------------------------------------------------- the command


def record(program: Program, counts: list[int]) -> list[Recording]:
    """A recorded run for each number of workers, tokens checked. Raises ProgramError, ValueError."""
    expected = serial_tokens(program) if not program.is_serial else None
    report = run(program, record=counts)
    for one in report["runs"]:
        check_tokens(program, one["tokens"], expected or one["tokens"])
    return [Recording(one) for one in report["runs"]]


def untold(recording: Recording) -> str:
    """What cannot be shown of a program that does not name what it does, in words; "" of one that does."""
    missing = [f"{what} ({how})" for what, how, found in (
        ("its regions", "threadlib.region", recording.regions), ("its tasks", "threadlib.perform", recording.tasks)
    ) if not found]  # fmt: skip
    if not missing:
        return ""
    return (
        f"The program does not name {' and '.join(missing)}: what each costs cannot be shown. "
        "A thread that does not wait counts as busy, also without a core or the interpreter lock."
    )


@guarded
def main(arguments: list[str] | None = None) -> int:
    """Record a run of the parallel program: trace for Perfetto, picture of a forward pass, table of waits."""
    options = runner.parsed(runner.program_parser("timeline", main.__doc__, engine="parallel", new=17), arguments)
    console = Console(highlight=False)
    program = runner.program_of(options)
    say(f"recording {program.title} ...")
    belongs = about(program)
    with Load() as load:
        (recording,) = record(program, [program.workers])
    origin = runner.provenance(arguments, "lab.measure.timeline", load)
    result = {
        "title": program.title,
        "engine": program.name,
        "workers": program.workers,
        "seconds": recording.length / 1e9,
        "outside": recording.outside(),
        "threads": thread_rows(recording),
        "operations": operation_rows(recording),
        "waits": wait_rows(recording),
        "untold": untold(recording),
        "about": belongs,
        **origin,
    }
    stem = options.out / program.name
    figure = draw(recording, program.title, f"{origin['machine']}; {load}; {origin['date']}")
    files = [
        write_json(Path(f"{stem}.trace.json"), chrome_trace(recording, program.title)),
        *style.save(figure, Path(f"{stem}.timeline")),
        write_json(Path(f"{stem}.timeline.json"), result, indent=1),
    ]
    console.print(f"[bold]Timeline: {program.title}\n")
    for table in tables(result, console.width):
        console.print(table, "")
    if result["untold"]:
        console.print(result["untold"])
    console.print(f"Tokens equal to the serial program's. {str(load).capitalize()}.")
    console.print("Written: " + ", ".join(shown(path) for path in files))
    console.print("The .trace.json opens at https://ui.perfetto.dev", style="dim")
    return 0


if __name__ == "__main__":
    quietly(main, steady=True)
