"""Where results go, and how: written beside and renamed, so that a file is either whole or as it was before."""

import errno
import json
import os
import re
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

ROOT = Path(__file__).resolve().parents[1]
LARGE_PAGE = 2 << 20  # bytes
UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
PROFILES = Path(os.environ.get("GPT_PROFILES_DIR") or ROOT / "profiles")


class WriteError(OSError):
    """A file that cannot be written (errno, strerror, filename); as text, one line that names it."""

    def __str__(self) -> str:
        return f"{self.filename}: cannot be written: {self.strerror}"


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A path to write to; it becomes `path` when the block ends well, and is removed when it does not.

    A link at `path` is replaced, not followed. Raises WriteError, and what the block raises that is not an OSError.
    """
    refuse_program(path)
    partial = path.with_name(f"{path.stem}.{secrets.token_hex(4)}.part{path.suffix}")
    try:
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            partial.open("x").close()  # a name that nobody else has
            yield partial
            os.replace(partial, path)
        finally:
            partial.unlink(missing_ok=True)
    except WriteError:
        raise
    except OSError as error:
        raise WriteError(error.errno, error.strerror or str(error), str(path)) from None


def evict(file: IO[bytes]) -> None:
    """Bring what was written to disk, and out of the page cache, which holds it in small pages.

    Whoever maps the file next reads it anew: in pages of 2 MB, if the system has them for files. A file that fills none
    of these stays. Raises OSError.
    """
    file.flush()
    if os.fstat(file.fileno()).st_size < LARGE_PAGE:
        return
    os.fsync(file.fileno())
    if hasattr(os, "posix_fadvise"):  # not on a Mac
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def refuse_program(path: Path) -> None:
    """No result is worth the program that somebody has written, or a device such as /dev/null. Raises WriteError."""
    if os.path.exists(path) and not path.is_file():  # Path's own would raise for a folder without rights
        what = "a folder" if path.is_dir() else "not a regular file"
        raise WriteError(errno.EEXIST, f"it is {what}; choose another name", str(path))
    if path.suffix == ".py":
        raise WriteError(errno.EEXIST, "results are never written over a program; give another name", str(path))


def ready_for_files(folder: Path) -> None:
    """Make the folder, and try it: what takes a minute to measure should not then have no place. Raises WriteError."""
    trial = folder / secrets.token_hex(8)  # a name that nothing there has
    try:
        with replacing(trial):
            pass
        trial.unlink()
    except OSError as error:
        raise WriteError(error.errno, error.strerror, str(folder)) from None


def room_for_page(path: Path) -> None:
    """No older page is taken for the next one, and what takes a minute to find has a place. Raises WriteError."""
    refuse_program(path)
    if path.suffix.lower() not in (".html", ".htm"):
        raise WriteError(errno.EINVAL, "a page is an .html file; give it such a name", str(path))
    ready_for_files(path.parent)
    remove(path)


def remove(path: Path) -> None:
    """Remove a file, if it is there. Raises WriteError."""
    try:
        with suppress(FileNotFoundError, NotADirectoryError):
            path.unlink()
    except OSError as error:
        raise WriteError(error.errno, error.strerror, str(path)) from None


def write_text(path: Path, text: str) -> Path:
    """Write a text file; returns its path. What is not UTF-8 in a file name becomes "?". Raises WriteError."""
    with replacing(path) as partial:
        partial.write_text(text, encoding="utf-8", errors="replace")
    return path


def write_json(path: Path, value: Any, indent: int | None = None) -> Path:
    """Write a JSON file; returns its path. Raises WriteError."""
    return write_text(path, json.dumps(value, indent=indent, ensure_ascii=False) + "\n")


def shown(path: Path) -> str:
    """The path as people read it: relative to the current folder if it lies below, as text that can be printed."""
    with suppress(OSError):  # the current folder may be gone
        path, here = path.resolve(), Path.cwd()
        path = path.relative_to(here) if path.is_relative_to(here) else path
    return printable(str(path))


def printable(name: str) -> str:
    """The name of a file as text in one line: what cannot be printed in it, or is not UTF-8, becomes "?"."""
    return UNPRINTABLE.sub("?", name)
