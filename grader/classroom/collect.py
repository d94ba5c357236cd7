"""Submissions out of a folder or a zip, in the shapes in which course platforms export them.

    Gradescope         submission_metadata.yml, submission_12345/parallel.py
    Moodle             Ada Lovelace_12345_assignsubmission_file_/parallel.py
    Canvas             lovelaceada_12345_67890_parallel.py, lovelaceada_LATE_12345_67890_parallel-1.py
    GitHub Classroom   assignment-ada/parallel.py (or lab/parallel.py), a repository for each student
    anything else      ada/parallel.py or ada.py

Nothing is ever extracted: members are read one by one, and only small files whose names stay inside are looked at.
"""

import hashlib
import io
import os
import re
import stat
import zipfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from unicodedata import normalize

import yaml

from lab.check.report import grouped

FILE = "parallel.py"
LARGEST = 1 << 20  # bytes of a submission; the grader reads no larger one either
LARGEST_ZIP = 8 << 20  # bytes of a zip inside the export
MOST_FILES = 200_000
SKIPPED = ("__MACOSX", ".git", "__pycache__", ".venv", "node_modules")
MOODLE = re.compile(r"^(?P<name>.+?)_(?P<id>\d+)_assignsubmission_(?:file|onlinetext)_?(?P<file>.*)$")
CANVAS = re.compile(r"^(?P<name>[^_]+)_(?P<late>LATE_)?(?P<id>\d+)_\d+_(?P<file>.+)$")


class CollectError(Exception):
    """A folder or zip without submissions; the message is one line."""


class Damaged(OSError):
    """Not a zip, or one of which this cannot be read."""


@dataclass(frozen=True)
class Submission:
    """What one student handed in. `problem` says in one line why there is no file to grade."""

    student: str  # the platform's id
    name: str  # as people call them
    source: bytes
    received: datetime | None
    marked_late: bool = False  # by the platform
    problem: str = ""

    @property
    def sha256(self) -> str:
        """Of the file."""
        return hashlib.sha256(self.source).hexdigest()


@dataclass(frozen=True)
class Entry:
    """A file of the export, in a folder or in a zip."""

    path: PurePosixPath
    size: int
    changed: datetime | None
    read: Callable[[], bytes]
    trouble: str = ""  # why it must not be read
    folder: bool = False  # no file: somebody may have handed in an empty folder


# --------------------------------------------------------------------------------------------------- folders and zips


def entries_of(source: Path) -> list[Entry]:
    """All files of a folder or zip. Raises CollectError."""
    if not source.is_dir() and not source.is_file():  # a device or a pipe may never end
        raise CollectError(f"{source}: neither a folder nor a zip file")
    try:
        found = without_clutter(in_folder(source) if source.is_dir() else in_zip(source.read_bytes()))
    except Damaged:
        raise CollectError(f"{source}: neither a folder nor a zip file") from None
    except OSError as error:
        raise CollectError(f"{source}: cannot be read: {error.strerror or error}") from None
    if len(found) > MOST_FILES:
        raise CollectError(f"{source}: more than {MOST_FILES} files; is this an export of submissions?")
    return found


def without_clutter(entries: Iterable[Entry]) -> list[Entry]:
    """Without what a desktop leaves in folders, ._parallel.py for instance; the folders stay."""
    found = []
    for entry in entries:
        clutter = entry.path.name.startswith(".") or entry.path.name.lower() in ("thumbs.db", "desktop.ini")
        if entry.folder or not clutter:
            found.append(entry)
        elif entry.path.parent.parts:
            found.append(folder_entry(entry.path.parent))
    return found


def in_folder(folder: Path) -> Iterator[Entry]:
    """Files below a folder; links are not followed. Those of a clone are as old as the clone, which tells nothing."""
    clones: set[Path] = set()
    for place, folders, files in os.walk(folder):
        if ".git" in folders and Path(place) != folder:
            clones.add(Path(place))
        folders[:] = sorted(name for name in folders if name not in SKIPPED)
        if Path(place) != folder:
            yield folder_entry(PurePosixPath(*map(clean_name, Path(place).relative_to(folder).parts)))
        for name in sorted(files):
            path = Path(place, name)
            relative = PurePosixPath(*map(clean_name, path.relative_to(folder).parts))
            try:
                status = path.lstat()
            except OSError as error:  # it disappeared, or is on a disk that fails: the others go on
                yield Entry(relative, 0, None, path.read_bytes, f"cannot be read: {error.strerror}")
                continue
            trouble = "" if stat.S_ISREG(status.st_mode) else "not a regular file"
            changed = datetime.fromtimestamp(status.st_mtime, UTC) if clones.isdisjoint(path.parents) else None
            yield Entry(relative, status.st_size, changed, path.read_bytes, trouble)


def in_zip(data: bytes) -> Iterator[Entry]:
    """Members of a zip; what leads outside, is a link or is packed too tightly says so instead of being read. Raises
    Damaged.
    """
    try:
        archive = zipfile.ZipFile(io.BytesIO(data))
    except Exception as error:  # zipfile's own, struct's and others: the bytes are a stranger's
        raise Damaged(f"no zip file: {error}") from None
    for info in archive.infolist():
        path = PurePosixPath(clean_name(member_name(info)).replace("\\", "/"))
        if not path.parts or any(part in SKIPPED for part in path.parts):
            continue
        if info.is_dir():
            if not danger(info, path):
                yield folder_entry(path)
            continue
        yield Entry(
            path, info.file_size, member_time(info), lambda info=info: unpacked(archive, info), danger(info, path)
        )


def folder_entry(path: PurePosixPath) -> Entry:
    """A folder, whatever is in it."""
    return Entry(path, 0, None, bytes, folder=True)


def danger(info: zipfile.ZipInfo, path: PurePosixPath) -> str:
    """Why a member must not be read, or ""."""
    if path.is_absolute() or ".." in path.parts or re.match(r"^[A-Za-z]:", str(path)):
        return "its name leads outside the archive"
    mode = info.external_attr >> 16
    if mode and stat.S_IFMT(mode) not in (0, stat.S_IFDIR if info.is_dir() else stat.S_IFREG):
        return "not a regular file"
    return "encrypted" if info.flag_bits & 1 else ""


def unpacked(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """A member's bytes, however large it claims to be no more than are allowed. Raises Damaged."""
    try:
        with archive.open(info) as file:
            return file.read(LARGEST_ZIP + 1)
    except Exception as error:  # zipfile's own, zlib's, lzma's, RuntimeError ...
        raise Damaged(f"damaged: {error}") from None


def member_name(info: zipfile.ZipInfo) -> str:
    """The name in any script; zips without the UTF-8 mark hold anything."""
    if info.flag_bits & 0x800:
        return info.filename
    return in_any_script(info.filename.encode("cp437", errors="replace")) or info.filename


def in_any_script(raw: bytes) -> str:
    """A name in UTF-8, or in GBK if it comes from Chinese Windows; else ""."""
    for encoding in ("utf-8", "gb18030"):
        with suppress(UnicodeDecodeError):
            return raw.decode(encoding)
    return ""


def member_time(info: zipfile.ZipInfo) -> datetime | None:
    """When the member was changed, as far as its archive says: local time, to two seconds."""
    try:
        return datetime(*info.date_time).astimezone(UTC)
    except ValueError:
        return None


def clean_name(name: str) -> str:
    """A file's name without what a terminal would obey and a page could not hold; accents in one form."""
    raw = name.encode("utf-8", errors="surrogateescape")
    text = normalize("NFC", in_any_script(raw) or raw.decode("utf-8", errors="replace"))
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


# ------------------------------------------------------------------------------------------------------------- shapes


def collect(source: str | os.PathLike) -> list[Submission]:
    """All submissions, by student and time. Raises CollectError."""
    source = Path(source)
    if not source.exists():
        raise CollectError(f"{source}: no such folder or zip file")
    entries = without_wrapping(entries_of(source))
    metadata = metadata_of(entries)
    found = gradescope(entries, metadata) if metadata else by_name(entries)
    if not found:
        raise CollectError(
            f"{source}: no submissions found; expected a folder or a .py file for each student, or what Gradescope, "
            "Moodle, Canvas or GitHub Classroom export"
        )
    return sorted(found, key=lambda s: (s.student, s.received or datetime.min.replace(tzinfo=UTC)))


def metadata_of(entries: list[Entry]) -> Entry | None:
    """Gradescope's file, which lies beside all programs; one among a student's files says nothing of the others."""
    programs = [entry.path for entry in entries if entry.path.suffix.lower() in (".py", ".zip") and not entry.folder]
    for entry in entries:
        named = entry.path.name == "submission_metadata.yml" and not entry.folder and not entry.trouble
        if named and all(path.is_relative_to(entry.path.parent) for path in programs):
            return entry
    return None


def without_wrapping(entries: list[Entry]) -> list[Entry]:
    """Without folders that hold everything else: an export is often one folder in a zip."""
    while is_wrapped(entries):
        entries = [replace(e, path=PurePosixPath(*e.path.parts[1:])) for e in entries if len(e.path.parts) > 1]
    return entries


def is_wrapped(entries: list[Entry]) -> bool:
    """Whether all lies in one folder that is nobody's: it holds only folders, or programs with names of their own."""
    files = [entry.path for entry in entries if not entry.folder]
    if not files or len({entry.path.parts[0] for entry in entries}) != 1 or MOODLE.match(files[0].parts[0]):
        return False
    directly = [path for path in files if len(path.parts) <= 2]
    programs = [
        path.name.lower() for path in directly if len(path.parts) == 2 and path.suffix.lower() in (".py", ".zip")
    ]
    return not directly or (len(programs) > 1 and FILE not in programs)


def by_name(entries: list[Entry]) -> list[Submission]:
    """A folder, or a file, for each student; who they are is in its name. A platform's names tell it of any file."""
    alone = [entry for entry in entries if len(entry.path.parts) == 1 and not entry.folder]
    programs = [e for e in alone if e.path.suffix.lower() in (".py", ".zip")]
    ours = {student_of(e.path.name)[0] for e in programs if is_ours(e.path.name)}
    programs = [e for e in programs if is_ours(e.path.name) or student_of(e.path.name)[0] not in ours]  # no helper.py
    inside = [entry for entry in entries if len(entry.path.parts) > 1 or entry.folder]
    groups = grouped((student_of("".join(entry.path.parts[:1])), entry) for entry in inside)  # Moodle may have two
    found = [one(*who, files) for who, files in groups.items()]
    found += [one(*student_of(e.path.name), [told_no_time(e)]) for e in programs]
    there = {s.student for s in found}
    named = [(student_of(e.path.name), e) for e in alone if CANVAS.match(e.path.name) or MOODLE.match(e.path.name)]
    found += [one(*who, files) for who, files in grouped(pair for pair in named if pair[0][0] not in there).items()]
    prefix = common_prefix([s.student for s in found if "-" in s.student]) if groups else ""
    return [renamed(s, s.student.removeprefix(prefix)) for s in found]


def told_no_time(entry: Entry) -> Entry:
    """Without the time of what Canvas has packed: that is when it was downloaded."""
    return replace(entry, changed=None) if CANVAS.match(entry.path.name) else entry


def student_of(name: str) -> tuple[str, str, bool]:
    """(id, name, marked late) from a folder's or a file's name, of which the student has chosen the end."""
    if match := CANVAS.match(name):
        return match["id"], match["name"], bool(match["late"])
    if match := MOODLE.match(name):
        return match["id"], match["name"], False
    stem = re.sub(r"(\.py|\.zip)$", "", name, flags=re.IGNORECASE)
    return stem, stem, False


def common_prefix(names: list[str]) -> str:
    """What GitHub Classroom puts before each user's name: "assignment-", the same for all."""
    shared = os.path.commonprefix(names) if len(names) > 1 else ""  # noqa: RUF071 letters are meant
    return shared[: shared.rfind("-") + 1]


def renamed(submission: Submission, student: str) -> Submission:
    """Known by this name, if it is another one."""
    return replace(submission, student=student, name=student) if student != submission.student else submission


def gradescope(entries: list[Entry], metadata: Entry) -> list[Submission]:
    """The metadata file says who handed in what and when; groups hand in together. Raises CollectError."""
    try:
        described = yaml.safe_load(metadata.read())
        folders = {str(folder): dict(told) for folder, told in described.items()}
        people = {folder: [dict(one) for one in told.get(":submitters") or [{}]] for folder, told in folders.items()}
    except (yaml.YAMLError, AttributeError, TypeError, ValueError, OSError):
        raise CollectError(f"{metadata.path}: not the metadata that Gradescope exports") from None
    base = metadata.path.parent
    found = []
    for folder, told in folders.items():
        files = [entry for entry in entries if entry.path.is_relative_to(base / folder)]
        created = told.get(":created_at")
        when = created.astimezone(UTC) if isinstance(created, datetime) else None
        for person in people[folder]:
            name = clean_name(str(person.get(":name") or folder))
            student = clean_name(str(person.get(":sid") or person.get(":email") or folder))
            submission = one(student, name, False, files)
            found.append(replace(submission, received=when or submission.received))
    return found


# ---------------------------------------------------------------------------------------------------- a student's file


def one(student: str, name: str, marked_late: bool, files: list[Entry]) -> Submission:
    """The one file to grade among a student's."""
    entry, problem = the_file(files)
    source = b""
    if entry is not None:
        try:
            source = entry.read() if entry.size <= LARGEST else b""
        except OSError as error:
            problem = f"{entry.path.name} cannot be read: {error.strerror or error}"
        if max(entry.size, len(source)) > LARGEST:  # a zip may name another size than it unpacks
            source, problem = b"", f"{entry.path.name} is larger than {LARGEST >> 10} KB"
    return Submission(student, name, source, entry.changed if entry else None, marked_late, problem)


def the_file(files: list[Entry]) -> tuple[Entry | None, str]:
    """(the file, "") or (None, why there is none): parallel.py nearest to the top but the starter, or the only .py."""
    bad = next((entry for entry in files if entry.trouble), None)
    files = [entry for entry in files if not entry.trouble and not entry.folder]
    packed = [entry for entry in files if entry.path.suffix.lower() == ".zip"]
    sources = [entry for entry in files if entry.path.suffix.lower() == ".py"]
    if packed and not sources:
        return from_zip(packed)
    named = [entry for entry in sources if is_ours(entry.path.name)]
    choice = min(
        named, default=None,
        key=lambda e: ("handout" in e.path.parts, len(e.path.parts), e.path.name.lower() != FILE, str(e.path)),
    )  # fmt: skip
    if choice is None and len(sources) == 1:
        choice = sources[0]
    if choice is not None:
        return choice, ""
    if bad is not None:
        return None, f"{bad.path.name}: {bad.trouble}"
    there = ", ".join(sorted(entry.path.name for entry in files)[:4]) or "nothing"
    return None, f"no {FILE} was handed in (found: {there})"


def is_ours(name: str) -> bool:
    """parallel.py, or what Canvas and browsers make of it: parallel-1.py, parallel (2).py, ..._parallel.py."""
    return re.search(r"(^|_)parallel([-_ ]?\(?\d+\)?)?\.py$", name, re.IGNORECASE) is not None


def from_zip(packed: list[Entry]) -> tuple[Entry | None, str]:
    """The file inside the zip that a student uploaded, as old as that: what a zip says of its files is its maker's."""
    if len(packed) > 1:
        return None, f"{len(packed)} zip files were handed in; expected {FILE}"
    if packed[0].size > LARGEST_ZIP:
        return None, f"{packed[0].path.name} is larger than {LARGEST_ZIP >> 20} MB"
    try:
        inside = without_clutter(in_zip(packed[0].read()))
    except OSError:
        return None, f"{packed[0].path.name} is not a readable zip file"
    kinds = {entry.path.suffix.lower() for entry in inside if not entry.folder}
    if ".zip" in kinds and ".py" not in kinds:
        return None, f"{packed[0].path.name} holds another zip file; expected {FILE}"
    entry, problem = the_file(inside)
    return entry and replace(entry, changed=packed[0].changed), problem
