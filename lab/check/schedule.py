"""The text a schedule is written as: what it was made for, and the decisions that differ from the default."""

import re
from dataclasses import dataclass

from lab.check import tiny
from lab.check.report import ProgramError

FORMAT = 2  # format 1 had no version in front, and other rules for sleeping and for loops that go round for long
PRIMITIVES, STATEMENTS, EXPRESSIONS, ROUNDS = range(4)  # where threads can switch; each includes the one before
MARKS = ("", "s", "x", "r")


@dataclass(frozen=True)
class Setting:
    """What a schedule string says besides the decisions."""

    workers: int
    case: int = 0  # of tiny.CASES
    level: int = PRIMITIVES
    spurious: bool = False

    def string(self, deviations: list[tuple[int, int]]) -> str:
        """v2k3c1s:12=2,15=0 : format 2, 3 workers, case 1, statements; decision 12 goes to thread 2, decision 15 to the
        main thread."""
        case = f"c{self.case}" if self.case else ""
        marks = MARKS[self.level] + ("w" if self.spurious else "")
        return f"v{FORMAT}k{self.workers}{case}{marks}:" + ",".join(f"{at}={number}" for at, number in deviations)


def parse_schedule(text: str) -> tuple[Setting, list[tuple[int, int]]]:
    """The inverse of Setting.string; format 1 is read too. Raises ProgramError."""
    match = re.fullmatch(r"(?:v(\d+))?k(\d+)(?:c(\d+))?([sxr]?)(w?):((?:\d+=\d+(?:,\d+=\d+)*)?)", text.strip())
    if not match or int(match[3] or 0) >= len(tiny.CASES) or int(match[2]) < 1:
        raise ProgramError(f"{text!r} is not a schedule; one looks like v{FORMAT}k3:12=2,15=0")
    if format_of(text) > FORMAT:
        raise ProgramError(
            f"{text!r} is of format {match[1]}, which a later version of the lab made; this reads {FORMAT}"
        )
    setting = Setting(int(match[2]), int(match[3] or 0), MARKS.index(match[4]), bool(match[5]))
    pairs = (pair.split("=") for pair in match[6].split(",") if pair)
    return setting, [(int(at), int(number)) for at, number in pairs]


def format_of(text: str) -> int:
    """The version of a schedule string."""
    match = re.match(r"v(\d+)k", text.strip())
    return int(match[1]) if match else 1
