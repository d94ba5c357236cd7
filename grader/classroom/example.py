"""An example class: submissions as Gradescope exports them, right, wrong, hanging, hostile and copied, and timings that
stand for an hour of measuring. Grading it shows the whole way and the report, before the first student hands in.
"""

import csv
import io
import json
import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from itertools import count, cycle
from pathlib import Path

from grader import examples
from grader.classroom.archive import write_zip
from grader.examples import timings
from grader.grade import LAB
from lab.files import ROOT, write_json, write_text

PEOPLE = (
    "Ada Lovelace", "Alan Turing", "Grace Hopper", "Edsger Dijkstra", "Barbara Liskov", "Donald Knuth", "姚期智",
    "Tony Hoare", "Frances Allen", "Leslie Lamport", "夏培肃", "Ken Thompson", "Radia Perlman", "Dennis Ritchie",
    "Shafi Goldwasser",
    "Niklaus Wirth", "Adele Goldberg", "John McCarthy", "Lynn Conway", "Seymour Cray", "Mary Shaw", "Gene Amdahl",
    "Katherine Johnson", "Per Brinch Hansen", "Jean Bartik", "Fernando Corbató", "Sophie Wilson", "Maurice Wilkes",
    "Margaret Hamilton", "Konrad Zuse", "Anita Borg", "Robin Milner", "Karen Spärck Jones", "Peter Naur",
    "Cynthia Dwork", "Amir Pnueli", "Hedy Lamarr", "Jim Gray", "Dorothy Vaughan", "Bjarne O'Connor",
)  # fmt: skip
SIZE = len(PEOPLE)
STARTER = ROOT / "handout" / "parallel.py"
RIGHT = {  # program -> how its generated timing differs from that of the model answer
    ROOT / "solutions" / "stage3.py": {"one": 0.62, "many": 0.45},
    ROOT / "solutions" / "stage4.py": {"one": 0.61, "many": 0.40},
    LAB / "parallel.py": {},
    examples.BASE: {"one": 0.64, "many": 0.42},
    examples.LOOPS_SPLIT: {"one": 1.30, "many": 0.80},
}
SHOWN = (  # of the wrong ones and the attacks, what a class of 40 has
    *("deadlock", "livelock", "endless", "missing_barrier", "lost_update", "not_joined", "lock_order"),
    *("argmax", "accumulates", "crash_in_worker", "crash_at_import", "padding_sampled", "last_head", "prints_extra"),
    *("batch_split", "serial_copy", "uneven", "interpreter_bound", "slower_than_serial", "sleeps"),
    *("import_solution", "exit_zero", "network", "read_parent", "sleep_at_one", "token_guess"),
)
NEW_NAMES = {"Workers": "Crew", "tasks": "jobs", "queue": "line", "busy": "working", "closed": "finished"}
DEADLINE = datetime(2026, 11, 20, 15, 59, tzinfo=UTC)
POLICY = """\
# The rules of the example class; each key is explained in docs/instructor.md.
deadline        = 2026-11-20T15:59:00Z
last            = 2026-11-27T15:59:00Z
grace_minutes   = 10
penalty_per_day = 0.1
counts          = "best"
"""


@dataclass(frozen=True)
class Member:
    """What one of the class hands in. source is None for somebody who hands in something else."""

    what: str
    source: str | None
    timing: dict | None = None
    expect: tuple[str, ...] = ()  # ROW STATUS, where a status is passed, partial or failed


def members() -> Iterator[Member]:
    """The class, without end; the first SIZE are of every kind."""
    chance = random.Random(1)
    for path, changes in RIGHT.items():
        yield right(path, chance, **changes)
    for path, changes in RIGHT.items():
        yield copied(right(path, chance, **changes))
    yield Member(
        "starter", (ROOT / "handout" / "parallel.py").read_text(encoding="utf-8"), timed("serial_copy", chance)
    )
    yield Member("nothing", None)
    yield Member("empty file", "", expect=("runs failed",))
    yield Member("no Python", "def generate(model, prompt, n, workers:\n", expect=("runs failed",))
    programs = {
        path.stem: path for path in (*examples.WRONG, *examples.ATTACKS) if "dangerous" not in examples.head(path)
    }
    yield from (wrong(programs[name], chance) for name in SHOWN)
    rest = [path for name, path in programs.items() if name not in SHOWN]
    for number, path in zip(count(2), cycle([*rest, *programs.values()])):
        member = wrong(path, chance)
        yield Member(member.what, f"{member.source}\n# {number}\n", member.timing, member.expect)
        if number % 4 == 0:
            path = chance.choice(list(RIGHT))
            member = right(path, chance, **RIGHT[path])
            yield Member(member.what, f"{member.source}\n# {number}\n", member.timing, member.expect)


def right(path: Path, chance: random.Random, **changes: float) -> Member:
    """A right program, a little faster or slower than it was."""
    many = changes.get("many", 0.35) * chance.uniform(0.96, 1.08)
    expect = ("runs passed", "imports passed", "workers passed", "quiet passed")
    return Member(path.stem, examples.program(path), timed("reference", chance, **{**changes, "many": many}), expect)


def wrong(path: Path, chance: random.Random) -> Member:
    """A wrong program or an attack, and what is expected of it."""
    told = examples.head(path)
    rows = dict(line.split(" |")[0].split() for line in told.get("expect", ()))
    rows |= dict(line.split() for line in told.get("whole", ()))
    expect = tuple(f"{row} {status}" for row, status in rows.items() if status != "open")
    return Member(path.stem, examples.program(path), timed(told.get("timing", ["reference"])[0], chance), expect)


def copied(member: Member) -> Member:
    """The same program with other names and without its comments."""
    text = re.sub(r"\n *#[^\n]*", "", member.source or "")
    for old, new in NEW_NAMES.items():
        text = re.sub(rf"\b{old}\b", new, text)
    return Member(f"copy of {member.what}", text, member.timing, member.expect)


def timed(name: str, chance: random.Random, **changes: float) -> dict:
    """The timing of that name as plain data; no two are the same."""
    return timings.named(name, seed=chance.randrange(1 << 30), **changes).to_json()


# ------------------------------------------------------------------------------------------------------------ writing


def write(folder: Path, size: int = SIZE) -> list[Path]:
    """submissions.zip, timings.json, policy.toml and about.csv, which says what each one is. Raises WriteError."""
    chance, files, metadata, recorded = random.Random(2), {}, {}, {}
    about = io.StringIO()
    table = csv.writer(about, lineterminator="\n")
    table.writerow(["id", "name", "what", "expected"])
    for number, member in zip(range(size), members(), strict=False):
        student, place = str(2026001 + number), f"submission_{310001 + number}"
        name = PEOPLE[number % SIZE] + (f" {number // SIZE + 1}" if number >= SIZE else "")
        when = DEADLINE + timedelta(hours=chance.uniform(1, 30) if number % 7 == 3 else -chance.uniform(1, 96))
        metadata[place] = {"when": when, "name": name, "student": student}
        if member.source is None:
            files[f"{place}/notes.txt"] = "I could not finish in time.\n"
        else:
            files[f"{place}/parallel.py"] = member.source
            if member.timing:
                recorded[sha256(member.source.encode()).hexdigest()] = member.timing
        table.writerow([student, name, member.what, "; ".join(member.expect)])
    files["submission_metadata.yml"] = as_yaml(metadata)
    return [
        write_zip(folder / "submissions.zip", files),
        write_json(folder / "timings.json", recorded),
        write_text(folder / "policy.toml", POLICY),
        write_text(folder / "about.csv", about.getvalue()),
    ]


def as_yaml(metadata: dict[str, dict]) -> str:
    """As Gradescope writes it."""
    return "".join(
        f"{place}:\n"
        f"  :created_at: {told['when']:%Y-%m-%d %H:%M:%S.000000000} Z\n"
        "  :submitters:\n"
        f"  - :name: {json.dumps(told['name'], ensure_ascii=False)}\n"
        f"    :sid: '{told['student']}'\n"
        for place, told in metadata.items()
    )
