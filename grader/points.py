"""What earns points: the rows of the result, and the table that can change what they are worth.

A row is a title, points, and a function that says from all that was observed which share of them is earned:

    @row("quiet", "prints nothing else", 3)
    def quiet_row(evidence: Evidence) -> Result:
        return Result(1.0)

To add a row, add such a function to grader/rows.py, or to grader/scaling.py if timed runs decide; nothing else needs to
know. Rows are judged in the order they are written in. points.toml holds the thresholds, and may give any row other
points.
"""

import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TABLE = Path(__file__).with_name("points.toml")
PASSED, FAILED, PARTIAL, INCONCLUSIVE, SKIPPED = "passed", "failed", "partial", "inconclusive", "not judged"
MEASURES = ("gain", "speedup")


class PointsError(Exception):
    """A points table that cannot be used; the message is one line."""


# ---------------------------------------------------------------------------------------------------------------- rows


@dataclass(frozen=True)
class Result:
    """What a row's function says: the share of its points that is earned, from 0 to 1, and why."""

    credit: float
    reason: str = ""  # for the student
    private: str = ""  # for the instructor only
    status: str = ""  # default: passed, partial or failed, as the credit says
    k: int = 0  # a row that is judged for several numbers of workers gives a result for each
    weight: float = 1.0  # its share of the row's points

    @property
    def judged(self) -> str:
        """The status."""
        return self.status or (PASSED if self.credit >= 1 else PARTIAL if self.credit > 0 else FAILED)


@dataclass(frozen=True)
class Check:
    """One registered row."""

    name: str
    title: str
    points: float
    judge: Callable[[Any], Result | list[Result]]
    after_tokens: bool  # it counts once the public cases are right


CHECKS: list[Check] = []


def row(name: str, title: str, points: float, after_tokens: bool = False) -> Callable:
    """Register a function(evidence) -> Result, or a list of them, one for each number of workers."""

    def register(judge: Callable[[Any], Result | list[Result]]) -> Callable:
        CHECKS.append(Check(name, title, points, judge, after_tokens))
        return judge

    return register


# --------------------------------------------------------------------------------------------------------------- table


@dataclass(frozen=True)
class Points:
    """What points.toml says."""

    points: dict[str, float]  # row -> points
    workers: tuple[int, ...]  # the numbers of workers whose scaling counts
    measure: str  # what the threads' row measures: "gain" or "speedup"
    scaling: dict[str, float]  # thresholds, see points.toml
    tokens: dict[str, float]  # what equal tokens count, see points.toml
    deductions: dict[str, float]  # kind of finding -> points; "most" -> the most of all together

    def credit(self, share: float) -> float:
        """0 to 1 for a share of the possible gain: 0 up to no_credit, 1 from full_credit, straight in between."""
        return between(self.scaling["no_credit"], self.scaling["full_credit"], share)

    def speed_credit(self, share: float) -> float:
        """The same for a share of the speed that k cores could have."""
        return between(self.scaling["no_speed"], self.scaling["full_speed"], share)


def between(low: float, high: float, value: float) -> float:
    """0 up to low, 1 from high, a straight line in between."""
    return min(1.0, max(0.0, (value - low) / (high - low)))


def gain(ratio: float, capacity: float) -> float:
    """The share of what k cores can gain over one that was gained: (E_k - 1) / (C_k - 1)."""
    return (ratio - 1) / (capacity - 1)


def read_toml(path: str | Path) -> dict[str, Any]:
    """The table in a file. Raises PointsError."""
    try:
        return tomllib.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise PointsError(f"{path}: {getattr(error, 'strerror', None) or error}") from None


def load(path: str | Path | None = None) -> Points:
    """Read a points table, or take the grader's own. Raises PointsError."""
    from grader import verdict  # noqa: F401  (its rows are registered now)

    default = {"points": {check.name: check.points for check in CHECKS}} | read_toml(TABLE)
    table = read_toml(path or TABLE)
    for section, entries in table.items():
        known = default.get(section)
        if not isinstance(entries, dict) or known is None:
            raise PointsError(f"{path}: unknown entry {section}; a points table has {', '.join(default)}")
        unknown = entries.keys() - known.keys()
        if unknown:
            raise PointsError(f"{path}: unknown entry {section}.{min(unknown)}; there are {', '.join(known)}")
        for key, value in entries.items():
            if wrong := problem(key, value):
                raise PointsError(f"{path}: {section}.{key} must be {wrong}")
    merged = {section: {**default[section], **table.get(section, {})} for section in default}
    scaling = merged["scaling"]
    workers, measure = tuple(scaling.pop("workers")), scaling.pop("measure")
    for low, high in (("no_credit", "full_credit"), ("no_speed", "full_speed")):
        if scaling[low] >= scaling[high]:
            raise PointsError(f"{path}: scaling.{low} must be less than scaling.{high}")
    return Points(merged["points"], workers, measure, scaling, merged["tokens"], merged["deductions"])


def problem(key: str, value: object) -> str:
    """What an entry of a table must be, or "" if it is."""
    if key == "workers":
        right = isinstance(value, list) and value and all(isinstance(k, int) and 2 <= k <= 64 for k in value)
        return "" if right else "a list of numbers of workers, 2 to 64"
    if key == "measure":
        return "" if value in MEASURES else f'"{MEASURES[0]}" or "{MEASURES[1]}"'
    right = isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value < 1e6
    return "" if right else "a number, not negative"
