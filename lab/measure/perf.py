"""make profile ARGS="--profiler perf": the view below numpy. Which kernels of BLAS, which loops of numpy, how much is
the interpreter itself.

    .venv/bin/python -m lab.measure.profile --engine serial --profiler perf

perf samples the processor, not the interpreter. What it cannot know on this machine it says.
"""

import argparse
import os
import platform
import re
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table
from rich.text import Text

from lab.files import shown, write_json, write_text
from lab.measure import flamegraph, hotspots, runner, samples
from lab.measure.load import Load
from lab.measure.runner import Program, ToolError, check_tokens, guarded, run, say, serial_tokens

COUNTERS = ("cycles", "instructions", "cache-references", "cache-misses", "branch-misses")
SOFTWARE = ("task-clock", "page-faults", "context-switches", "cpu-migrations")
GROUPS = (  # (group, library names it is recognised by)
    ("BLAS", r"openblas|mkl|blis|atlas|accelerate"),
    ("numpy", r"_multiarray_umath|numpy|_umath|pocketfft"),
    ("kernel", r"kernel|vmlinux|\.ko"),
    ("Python", r"python|\[JIT\]|perf-\d+\.map"),
    ("C library", r"lib(c|m|pthread|gcc_s|stdc\+\+)[.-]|ld-linux|vdso"),
)


class Hit(NamedTuple):
    """One sample: thread, Python functions as far as perf knows them, group, symbol and library of the innermost."""

    thread: str
    python: tuple[str, ...]
    group: str
    symbol: str
    library: str


# ------------------------------------------------------------------------------------------------ what is possible here


def find_perf() -> str:
    """perf of the PATH. Raises ToolError."""
    found = shutil.which("perf")
    if found is None:
        raise ToolError(
            "perf is not installed: apt install linux-perf (Debian) or linux-tools-generic (Ubuntu); Linux only"
        )
    return found


def supported(perf: str, events: Sequence[str]) -> list[str]:
    """Those of the events that the machine counts. Raises ToolError if perf may not count anything."""
    environment = {**os.environ, "LC_ALL": "C"}
    command = [perf, "stat", "-x,", "-e", ",".join(events), "--", "true"]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    counted = list(counters(done.stderr))
    if not counted and done.returncode:
        reason = next((line for line in done.stderr.splitlines() if line.strip()), "no reason given")
        raise ToolError(f"perf may not count here ({reason.strip()}): sudo sysctl kernel.perf_event_paranoid=1")
    return counted


def counters(text: str) -> dict[str, float]:
    """{event: count} of what perf stat -x, says; without those that the machine does not count."""
    rows = [line.split(",") for line in text.splitlines()]
    return {
        row[2].removesuffix(":u"): float(row[0]) for row in rows if len(row) > 2 and re.fullmatch(r"[\d.]+", row[0])
    }


def python_names() -> tuple[list[str], str]:
    """The interpreter's flags with which perf sees Python functions, and the line that says why it does or does not."""
    version = platform.python_version()
    if sys.version_info < (3, 12):
        return [], f"No Python names: Python {version} has no -X perf, which came with 3.12."
    flags = " ".join(str(sysconfig.get_config_var(name) or "") for name in ("PY_CFLAGS", "PY_CORE_CFLAGS", "CFLAGS"))
    if "-fno-omit-frame-pointer" not in flags:
        return [], f"No Python names: this Python {version} has no frame pointers, so perf cannot follow its calls."
    return ["-X", "perf"], "Python names by -X perf; BLAS has no frame pointers, so most samples in it carry none."


# ------------------------------------------------------------------------------------------------------------ recording


def record(perf: str, program: Program, rate: int, event: str, flags: Sequence[str]) -> tuple[dict, list[Hit]]:
    """One run under perf record; the samples of its generation. Raises ProgramError, ToolError."""
    with tempfile.TemporaryDirectory(prefix="lab-perf-") as folder:
        data = Path(folder) / "perf.data"
        under = [perf, "record", "-q", "-e", event, "-F", str(rate), "-g", "-k", "mono", "-o", str(data), "--"]
        report = run(program, under=under, flags=flags)
        command = [perf, "script", "-i", str(data), "-F", "comm,tid,time,event,ip,sym,dso"]
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    begin, end = report["monotonic"]
    hits = [hit for moment, hit in read_script(done.stdout) if begin <= moment <= end]
    if not hits:
        raise ToolError(
            f"perf took no samples while tokens were made: {done.stderr.strip()[:200] or 'the run was too short'}"
        )
    return report, hits


def read_script(text: str) -> Iterator[tuple[float, Hit]]:
    """perf script's output: the moment of each sample (seconds, CLOCK_MONOTONIC) and the sample."""
    head = re.compile(r"^(.+?)\s+(\d+)\s+([\d.]+):\s+\S+")
    for block in text.split("\n\n"):
        lines = block.strip("\n").splitlines()
        match = head.match(lines[0].strip()) if lines else None
        if match and len(lines) > 1:
            yield float(match[3]), hit_of(match[1], [frame_of(line) for line in lines[1:]])


def frame_of(line: str) -> tuple[str, str]:
    """(symbol, library) of "  55d0 sgemv_kernel_4x4+0x10 (/usr/lib/libopenblas.so)"."""
    match = re.match(r"^\s*[0-9a-f]+\s+(.+?)(?:\+0x[0-9a-f]+)?\s+\((.*)\)\s*$", line)
    return (match[1], Path(match[2]).name) if match else ("[unknown]", "[unknown]")


def hit_of(thread: str, frames: list[tuple[str, str]]) -> Hit:
    """A sample from its frames, innermost first."""
    symbol, library = frames[0]
    python = tuple(
        name.split(":")[2] for name, _ in reversed(frames) if name.startswith("py::") and name.count(":") >= 2
    )
    return Hit(thread, python, group_of(symbol, library), symbol, library)


def group_of(symbol: str, library: str) -> str:
    """BLAS, numpy, Python, kernel, C library or other."""
    if symbol.startswith("py::"):
        return "Python"
    return next((group for group, pattern in GROUPS if re.search(pattern, library, re.IGNORECASE)), "other")


def count(perf: str, program: Program, events: Sequence[str]) -> dict[str, float]:
    """Counters of one run's generation: {event: count}, task-clock in milliseconds. Raises ProgramError, ToolError."""
    with tempfile.TemporaryDirectory(prefix="lab-perf-") as folder:
        control, acknowledge, output = (Path(folder) / name for name in ("control", "acknowledge", "stat"))
        os.mkfifo(control)
        os.mkfifo(acknowledge)
        under = [perf, "stat", "-x,", "-D", "-1", "--control", f"fifo:{control},{acknowledge}", "-e", ",".join(events)]
        run(program, [*under, "-o", str(output), "--"], control=[str(control), str(acknowledge)])
        return counters(output.read_text())


# ------------------------------------------------------------------------------------------------------------ reporting


def collapsed(hits: list[Hit]) -> Counter[str]:
    """Collapsed stacks: "BLAS;sgemv_kernel_4x4" -> samples; Python functions before, the thread if several."""
    several = len({hit.thread for hit in hits}) > 1
    stacks: Counter[str] = Counter()
    for hit in hits:
        parts = ([hit.thread] if several else []) + [*hit.python, hit.group, f"{hit.symbol} ({hit.library})"]
        stacks[";".join(part.replace(";", ",") for part in parts)] += 1
    return stacks


def rows_of(hits: list[Hit], most: int = 12) -> list[dict]:
    """The symbols with the most samples: symbol, group, library, share."""
    counts = Counter((hit.symbol, hit.group, hit.library) for hit in hits)
    return [
        {"symbol": symbol, "group": group, "library": library, "share": number / len(hits)}
        for (symbol, group, library), number in counts.most_common(most)
    ]


def table(rows: list[dict], title: str, width: int) -> Table:
    """The symbols, for a terminal of 80 columns or more."""
    bars = hotspots.bar_column(width)
    grid = hotspots.wide_table(
        title,
        Column("Self", justify="right", no_wrap=True),
        *bars,
        Column("Where", no_wrap=True),
        Column("Symbol", no_wrap=True, overflow="ellipsis", ratio=3),
        Column("Library", no_wrap=True, overflow="ellipsis", ratio=2),
    )
    for row in rows:
        grid.add_row(
            f"{row['share']:.1%}",
            *(Text(hotspots.bar(row["share"]), style="yellow") for _ in bars),
            row["group"],
            Text(row["symbol"], style="bold"),
            Text(row["library"], style="cyan"),
        )
    return grid


def counter_lines(counts: dict[str, float]) -> Iterator[str]:
    """What the counters say; plainly what they cannot."""
    if counts.get("cycles") and counts.get("instructions"):
        yield f"Instructions per cycle: {counts['instructions'] / counts['cycles']:.2f}"
    missing = [event for event in COUNTERS if event not in counts]
    if counts.get("cache-misses") and counts.get("cache-references"):
        share = counts["cache-misses"] / counts["cache-references"]
        yield f"Cache misses: {counts['cache-misses']:,.0f}, {share:.1%} of the references"
    if missing:
        yield f"Hardware counters not supported here: {', '.join(missing)}" + (
            " (so no instructions per cycle; common on virtual machines)" if "cycles" in missing else ""
        )
    if "task-clock" in counts:
        yield (
            f"Processor time {counts['task-clock'] / 1e3:.2f} s, {counts.get('page-faults', 0):,.0f} page faults, "
            f"{counts.get('context-switches', 0):,.0f} context switches"
        )


def write_files(stem: Path, heading: str, hits: list[Hit], result: dict) -> list[Path]:
    """<stem>.collapsed.txt, .svg, .json; all texts are made before the first is written."""
    stacks = collapsed(hits)
    picture = flamegraph.svg(stacks, heading, f"{len(hits)} samples of {result['event']}; {result['machine']}")
    return [
        write_text(Path(f"{stem}.collapsed.txt"), samples.collapsed_text(stacks)),
        write_text(Path(f"{stem}.svg"), picture),
        write_json(Path(f"{stem}.json"), result, indent=1),
    ]


@guarded
def view(options: argparse.Namespace, arguments: list[str] | None) -> int:
    """Record, count, write, print."""
    console = Console(highlight=False)
    program = runner.program_of(options)
    perf = find_perf()
    events = supported(perf, [*COUNTERS, *SOFTWARE])
    event = "cycles" if "cycles" in events else "cpu-clock"
    flags, names = python_names()
    say(f"running {program.title} under perf ({event}) ...")
    with Load() as load:
        expected = serial_tokens(program)
        report, hits = record(perf, program, options.rate, event, flags)
        check_tokens(program, report["tokens"], expected)
        counts = count(perf, program, events) if events else {}
    groups = Counter(hit.group for hit in hits).most_common()
    result = {
        "title": program.title,
        "event": event,
        "rate": options.rate,
        "samples": len(hits),
        "groups": {group: number / len(hits) for group, number in groups},
        "rows": rows_of(hits),
        "counters": counts,
        "python_names": names,
        **runner.provenance(arguments, "lab.measure.profile", load),
    }
    heading = f"Below numpy: {program.title}"
    files = write_files(options.out / f"{program.name}.perf", heading, hits, result)
    for line in (
        table(result["rows"], heading, console.width),
        "\n" + ", ".join(f"{group} {share:.0%}" for group, share in result["groups"].items()),
        *map(escape, counter_lines(counts)),
        escape(names),
        f"\n{len(hits)} samples of {event}. Tokens equal to the serial program's. {str(load).capitalize()}.",
        "Written: " + ", ".join(shown(path) for path in files),
    ):
        console.print(line)
    return 0
