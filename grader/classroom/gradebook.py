"""The gradebook: every submission and every result there ever was, in one SQLite file.

A result is stored in a transaction of its own the moment it is there, so a run that is killed loses nothing, and none
is stored twice: the run that made it and its number within that run are its key. Nothing is ever deleted.
"""

import fcntl
import json
import secrets
import sqlite3
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from grader.classroom.collect import Submission

VERSION = 1
SCHEMA = """
create table about (key text primary key, value text not null);
create table submission (
    id integer primary key, student text not null, name text not null, sha256 text not null, source blob not null,
    received text, marked_late integer not null, problem text not null, unique (student, sha256)
);
create table result (
    id integer primary key, submission integer not null references submission (id), made_with text not null,
    graded text not null, host text not null, seconds real not null, status text not null, score real, most real,
    report text not null, page text not null, timing text, unique (submission, made_with, graded)
);
create index result_of on result (submission);
"""
OF_RESULT = "r.made_with, r.status, r.report, r.page, r.timing, r.host, r.seconds, r.graded"  # for Result.stored()
GRADED, INCONCLUSIVE, NOT_GRADED = "graded", "inconclusive", "not graded"


class GradebookError(Exception):
    """A gradebook that cannot be used; the message is one line."""


@dataclass(frozen=True)
class Result:
    """What grading gave. report: Gradescope's results.json as data; page: the student's HTML; timing: its rounds."""

    made_with: str  # points, cases, model and stages: a result made with others is out of date
    status: str  # GRADED, INCONCLUSIVE or NOT_GRADED
    report: dict
    page: str = ""
    timing: dict | None = None
    host: str = ""
    seconds: float = 0.0
    graded: str = field(default_factory=lambda: datetime.now(UTC).isoformat())

    @classmethod
    def stored(cls, made_with: str, status: str, report: str, page: str, timing: str | None, *rest: Any) -> "Result":
        """From the columns of OF_RESULT."""
        return cls(made_with, status, json.loads(report), page, json.loads(timing) if timing else None, *rest)

    @property
    def score(self) -> float | None:
        """Points, or None where there are none to speak of."""
        return self.report.get("score") if self.status == GRADED else None

    @property
    def most(self) -> float:
        """Points there are."""
        return self.report.get("extra_data", {}).get("max_score") or sum(
            test.get("max_score", 0) for test in self.report.get("tests", [])
        )


@dataclass(frozen=True)
class Record:
    """A submission as the gradebook holds it, with the newest of its results."""

    id: int
    submission: Submission
    result: Result | None
    attempts: int  # results there are


class Gradebook(AbstractContextManager["Gradebook"]):
    """An open gradebook, closed at the end of its with block."""

    def __init__(self, path: str | Path) -> None:
        """Open it, or make it. Raises GradebookError."""
        self.path = Path(path)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            new = not self.path.exists()
            self.db = sqlite3.connect(self.path, timeout=30.0, isolation_level=None, check_same_thread=False)
            self.db.execute("pragma foreign_keys = on")
            self.prepare(new)
        except sqlite3.OperationalError as error:  # no room, no rights
            raise GradebookError(f"{self.path}: cannot be used: {error}") from None
        except sqlite3.DatabaseError as error:
            raise GradebookError(f"{self.path}: not a gradebook: {error}") from None
        except OSError as error:
            raise GradebookError(f"{self.path}: cannot be opened: {error.strerror}") from None

    def prepare(self, new: bool) -> None:
        """Make the tables of a new file, or of one that nobody graded into before its run was killed; refuse what is
        not a gradebook of ours. Raises GradebookError.
        """
        tables = {name for (name,) in self.db.execute("select name from sqlite_master where type = 'table'")}
        if not tables and not new and self.lock.exists():
            raise GradebookError(
                f"{self.path}: empty, but a class was graded into it; put a copy of it back, or remove it to begin anew"
            )
        if not tables:
            with self.transaction():
                for statement in SCHEMA.split(";"):
                    if statement.strip():
                        self.db.execute(statement)
                self.db.execute("insert into about values ('version', ?)", (str(VERSION),))
            return
        if "about" not in tables:
            raise GradebookError(f"{self.path}: an SQLite file, but not a gradebook")
        (version,) = self.db.execute("select value from about where key = 'version'").fetchone() or ("unknown",)
        if not version.isdecimal() or int(version) > VERSION:
            raise GradebookError(
                f"{self.path}: a gradebook of version {version}, this program knows up to {VERSION}; get a newer one"
            )

    def __exit__(self, *exception: object) -> None:
        self.db.close()

    @property
    def lock(self) -> Path:
        """The file that a run holds; it stays, and says that there was one."""
        return self.path.with_suffix(".lock")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All or nothing. Raises GradebookError when the disk is full or the file is busy."""
        try:
            self.db.execute("begin immediate")
            try:
                yield
            except BaseException:
                if self.db.in_transaction:  # a full disk has ended it already
                    self.db.execute("rollback")
                raise
            self.db.execute("commit")
        except sqlite3.OperationalError as error:
            raise GradebookError(f"{self.path}: cannot be written: {error}") from None

    @contextmanager
    def reserved(self) -> Iterator[None]:
        """For one run at a time, as two would grade everything twice; a run that is killed leaves it free.

        Raises GradebookError.
        """
        try:
            lock = self.lock.open("a")
        except OSError as error:
            raise GradebookError(f"{self.path}: cannot be reserved: {error.strerror}") from None
        with lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                raise GradebookError(
                    f"{self.path}: another run is grading into this gradebook; wait until it ends, or give another "
                    "--out"
                ) from None
            yield

    def seed(self) -> int:
        """Of this class's hidden cases: drawn once, known to nobody who has only the program. Raises GradebookError."""
        with self.transaction():
            self.db.execute("insert or ignore into about values ('seed', ?)", (str(secrets.randbelow(1 << 31)),))
        return int(self.db.execute("select value from about where key = 'seed'").fetchone()[0])

    # ---------------------------------------------------------------------------------------------------------- writing

    def add(self, submissions: list[Submission]) -> None:
        """Take in submissions; one that is there already is left alone. Raises GradebookError."""
        with self.transaction():
            for s in submissions:
                received = s.received and s.received.isoformat()
                self.db.execute(
                    "insert or ignore into submission (student, name, sha256, source, received, marked_late, problem)"
                    " values (?, ?, ?, ?, ?, ?, ?)",
                    (s.student, s.name, s.sha256, s.source, received, s.marked_late, s.problem),
                )

    def store(self, submission: int, result: Result) -> None:
        """Keep a result, at once. Raises GradebookError."""
        with self.transaction():
            self.db.execute(
                "insert or ignore into result (submission, made_with, graded, host, seconds, status, score, most,"
                " report, page, timing) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    submission, result.made_with, result.graded, result.host, result.seconds, result.status,
                    result.score, result.most, json.dumps(result.report), result.page,
                    json.dumps(result.timing) if result.timing else None,
                ),
            )  # fmt: skip

    # ---------------------------------------------------------------------------------------------------------- reading

    def records(self) -> list[Record]:
        """All submissions with their newest results, by student and time. Raises GradebookError."""
        query = (
            "select s.id, s.student, s.name, s.source, s.received, s.marked_late, s.problem,"
            f" (select count(*) from result where submission = s.id), {OF_RESULT}"
            " from submission s left join result r on r.id = (select max(id) from result where submission = s.id)"
            " order by s.student, s.received, s.id"
        )
        try:
            return [self.record(*row) for row in self.db.execute(query)]
        except (sqlite3.DatabaseError, ValueError, TypeError) as error:
            raise GradebookError(f"{self.path}: damaged: {error}; take a copy of it, or give another --out") from None

    @staticmethod
    def record(
        number: int, student: str, name: str, source: bytes, received: str | None, late: int, problem: str,
        attempts: int, *result: Any,
    ) -> Record:  # fmt: skip
        """A row of the query above."""
        when = datetime.fromisoformat(received) if received else None
        submission = Submission(student, name, bytes(source), when, bool(late), problem)
        return Record(number, submission, Result.stored(*result) if attempts else None, attempts)
