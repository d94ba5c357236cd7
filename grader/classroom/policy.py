"""Which of a student's submissions counts, and what lateness costs: an instructor's TOML file.

deadline = 2026-11-20T23:59:00+08:00
last     = 2026-11-27T23:59:00+08:00   # later ones get no points
grace_minutes   = 10
penalty_per_day = 0.1                  # of the points, for each day begun
counts   = "best"                      # or "latest"

[extensions]                           # another deadline for some
ada = 2026-11-22T23:59:00+08:00
"""

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import groupby
from pathlib import Path

from grader.classroom.gradebook import GRADED, INCONCLUSIVE, NOT_GRADED, Record
from grader.points import PointsError, read_toml

KEYS = ("deadline", "last", "grace_minutes", "penalty_per_day", "counts", "extensions")
DAY = timedelta(days=1)
MOST = 1_000_000  # minutes of grace, two years


@dataclass(frozen=True)
class Policy:
    """What the file says; without one there is no deadline and the best submission counts."""

    deadline: datetime | None = None
    last: datetime | None = None
    grace: timedelta = timedelta()
    penalty_per_day: float = 0.0
    counts: str = "best"
    extensions: dict[str, datetime] = field(default_factory=dict)

    def days_late(self, record: Record) -> int:
        """Days begun after the student's deadline; a platform's own mark counts as one where no time is known."""
        s = record.submission
        deadline = self.extensions.get(s.student, self.deadline)
        if deadline is None or s.received is None:
            return int(s.marked_late)
        return max(0, math.ceil((s.received - deadline - self.grace) / DAY))

    def too_late(self, record: Record) -> bool:
        """Whether it was received after the last moment, which an extension moves as well."""
        s = record.submission
        if self.last is None or s.received is None:
            return False
        return s.received - self.grace > max(self.last, self.extensions.get(s.student, self.last))

    def score(self, record: Record) -> float | None:
        """Points after lateness, or None where there are none yet."""
        if record.result is None or record.result.score is None:
            return None
        if self.too_late(record):
            return 0.0
        return round(record.result.score * max(0.0, 1.0 - self.penalty_per_day * self.days_late(record)), 1)


@dataclass(frozen=True)
class Standing:
    """A student's line in the table."""

    student: str
    name: str
    record: Record  # the submission that counts
    score: float | None
    days_late: int
    too_late: bool
    submissions: int

    @property
    def status(self) -> str:
        """In words."""
        s, result = self.record.submission, self.record.result
        if s.problem:
            return s.problem
        return "waiting" if result is None else "too late" if self.too_late else result.status

    @property
    def report(self) -> dict:
        """Gradescope's results.json as data; empty without a result."""
        return self.record.result.report if self.record.result else {}

    def row(self, name: str) -> dict | None:
        """The row of that name of the report, as Gradescope has it; "threads" stands for "threads-2" if not timed."""
        found = {tuple(test.get("tags", ())): test for test in reversed(self.report.get("tests", []))}
        return found.get((name,)) or found.get((re.sub(r"-\d+$", "", name),))


def read_policy(path: str | Path | None) -> Policy:
    """The policy of a file. Raises PointsError, one line."""
    if path is None:
        return Policy()
    table = read_toml(path)
    unknown = table.keys() - set(KEYS)
    if unknown:
        raise PointsError(f"{path}: unknown entry {min(unknown)}; there are {', '.join(KEYS)}")
    counts, penalty, grace = table.get("counts", "best"), table.get("penalty_per_day", 0), table.get("grace_minutes", 0)
    if counts not in ("best", "latest"):
        raise PointsError(f'{path}: counts must be "best" or "latest"')
    for key, value, most in (("penalty_per_day", penalty, 1), ("grace_minutes", grace, MOST)):
        if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value <= most:
            raise PointsError(f"{path}: {key} must be a number, 0 to {most}")
    extensions = table.get("extensions", {})
    if not isinstance(extensions, dict):
        raise PointsError(f"{path}: [extensions] holds a time for each student")
    deadline, last = (moment(path, key, table.get(key)) for key in ("deadline", "last"))
    if deadline and last and last < deadline:
        raise PointsError(f"{path}: last is before the deadline")
    return Policy(
        deadline, last, timedelta(minutes=grace), float(penalty), counts,
        {str(who): at for who, when in extensions.items() if (at := moment(path, f"extensions.{who}", when))},
    )  # fmt: skip


def moment(path: str | Path, key: str, value: object) -> datetime | None:
    """A point in time; without an offset it is local time. Raises PointsError."""
    if value is None:
        return None
    if not isinstance(value, datetime):
        raise PointsError(f"{path}: {key} must be a date and time, such as 2026-11-20T23:59:00+08:00")
    try:
        return value.astimezone(UTC)
    except OverflowError:
        raise PointsError(f"{path}: {key}: {value} is before year 1 or after year 9999 elsewhere") from None


def standings(records: Iterable[Record], policy: Policy) -> list[Standing]:
    """A line for each student, by name. records: by student, as the gradebook gives them."""
    found = []
    for student, group in groupby(records, key=lambda record: record.submission.student):
        mine = list(group)
        record = chosen(mine, policy)
        late, too_late = policy.days_late(record), policy.too_late(record)
        found.append(Standing(student, record.submission.name, record, policy.score(record), late, too_late, len(mine)))
    return sorted(found, key=lambda standing: (standing.name.casefold(), standing.student))


def chosen(records: list[Record], policy: Policy) -> Record:
    """The submission that counts: the latest, or that with most points; among equals the later one."""
    if policy.counts == "latest":
        return records[-1]
    return max(enumerate(records), key=lambda pair: (rank(pair[1], policy), pair[0]))[1]


def rank(record: Record, policy: Policy) -> tuple[float, int]:
    """More points first; then what has been judged before what has not."""
    score = policy.score(record)
    status = record.result.status if record.result else NOT_GRADED
    return (-1.0 if score is None else score), (NOT_GRADED, INCONCLUSIVE, GRADED).index(status)
