"""What a check has found, and how it is said: to a person (rich) or to a program (JSON)."""

import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from typing import Any, TypeVar

from rich.console import Console
from rich.padding import Padding
from rich.text import Text

from lab.command import counted
from lab.files import printable

K = TypeVar("K")
V = TypeVar("V")
KINDS = {
    "deadlock": "every thread waits for another one",
    "livelock": "the threads keep running without making progress",
    "tokens": "wrong tokens",
    "values": "right tokens, but an activation depends on the schedule",
    "assertion": "an assertion failed",
    "exception": "an exception",
    "race": "two accesses that nothing orders, at least one of them a write",
    "misuse": "a primitive used as it must not be",
    "order": "mutexes locked in opposite orders",
    "unjoined": "threads that were never joined",
    "contract": "works, but not in the way asked for",
    "refused": "cannot be explored",
}


TRACE_LINES = 60  # of a finding that are shown
SHOWN = 80  # characters of a schedule that is only mentioned


class ProgramError(Exception):
    """A program that cannot be checked at all; the message is one line."""


@dataclass
class Finding:
    """One thing that is wrong. `message` is one line; `detail` has more; `where` lists file:line, the most telling
    place first."""

    kind: str
    message: str
    detail: str = ""
    where: list[str] = field(default_factory=list)
    schedule: str = ""  # replays the failure; empty where no schedule is needed
    seed: int = 0
    preemptions: int = -1  # how many preemptions the shrunk schedule has; -1: does not apply
    trace: list[str] = field(default_factory=list)  # the shrunk schedule, a line per step
    tool: str = "explore"

    def text(self) -> str:
        """All that is said about it."""
        return "\n".join(part for part in (self.message, self.detail) if part)

    def add_places(self, sites: list[str]) -> None:
        """It has to do with these, too."""
        self.where += [site for site in sites if site not in self.where]


@dataclass
class Findings:
    """The outcome of one check of one program."""

    program: str
    tool: str
    workers: int = 0
    seed: int = 0
    findings: list[Finding] = field(default_factory=list)
    schedules: int = 0
    distinct: int = 0
    depth: int = 0  # most decisions in one schedule
    seconds: float = 0.0
    notes: list[str] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Nothing was found."""
        return not self.findings

    @property
    def exit_code(self) -> int:
        """0 nothing found, 2 refused, 4 a thread error."""
        return 0 if self.ok else 2 if all(finding.kind == "refused" for finding in self.findings) else 4

    def to_json(self) -> dict[str, Any]:
        """A dict of plain values, with `ok` and `exit_code` included."""
        return asdict(self) | {"ok": self.ok, "exit_code": self.exit_code}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> "Findings":
        """The inverse of to_json: for programs that read what `lab.check --json` printed."""
        known = {name: data[name] for name in cls.__dataclass_fields__ if name in data}
        known["findings"] = [Finding(**finding) for finding in known.get("findings", [])]
        return cls(**known)


Progress = Callable[[Findings, int, float], None]  # what is found so far, most schedules, time.monotonic() of the end


def console() -> Console:
    """A console that neither guesses highlights nor breaks a line that is meant to be copied."""
    return Console(file=sys.stdout, highlight=False, soft_wrap=True)


def show(result: Findings) -> None:
    """Print a result for a person."""
    out = console()
    for number, finding in enumerate(result.findings):
        if number:
            out.print()
        show_finding(finding, out, TRACE_LINES)
    for note in result.notes:
        out.print(Text(note, style="dim"))


def show_finding(finding: Finding, out: Console, trace_lines: int) -> None:
    """Print one finding: headline, detail, trace, how to see it again."""
    kind = "" if finding.message.startswith(f"{finding.kind} ") else f"{finding.kind}: "
    say(out, Text.assemble((kind, "bold red"), (finding.message, "bold")), 0)
    for line in finding.detail.splitlines():
        say(out, Text(line.lstrip()), 2 + len(line) - len(line.lstrip()))
    if finding.trace:
        out.print()
        skipped = max(0, len(finding.trace) - trace_lines)
        if skipped:
            out.print(Text(f"  ... {skipped} earlier steps ...", style="dim"))
        for line in finding.trace[skipped:]:
            out.print(Text("  " + line, style="yellow" if line.startswith("*") else ""))
    if finding.schedule:
        needed = f", {counted(finding.preemptions, 'preemption')}" if finding.preemptions >= 0 else ""
        out.print(Text(f"  schedule {shortened(finding.schedule)} (seed {finding.seed}{needed})", style="dim"))


def say(out: Console, text: Text, indent: int) -> None:
    """Print a sentence: on a terminal broken between words, elsewhere in one line."""
    if out.is_terminal:
        out.print(Padding(text, (0, 0, 0, indent)), soft_wrap=False)
    else:
        out.print(Text.assemble(" " * indent, text))


def shortened(schedule: str) -> str:
    """A long schedule with most of its decisions left out: whole it stands in the command that replays it."""
    if len(schedule) <= SHOWN:
        return schedule
    begin = schedule[: SHOWN - 20].rpartition(",")[0]
    return f"{begin},... ({counted(schedule.count('='), 'decision')})"


def place(filename: str, line: int) -> str:
    """file:line with the file's base name."""
    return f"{printable(os.path.basename(filename))}:{line}"


def grouped(pairs: Iterable[tuple[K, V]]) -> dict[K, list[V]]:
    """key -> all values that come with it, in order."""
    found: dict[K, list[V]] = {}
    for key, value in pairs:
        found.setdefault(key, []).append(value)
    return found


def listed(words: list[str]) -> str:
    """a, b and c"""
    return words[0] if len(words) == 1 else ", ".join(words[:-1]) + " and " + words[-1]
