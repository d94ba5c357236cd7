"""What the command lines share: errors in one line, and a quiet end."""

import argparse
import codecs
import errno
import importlib
import io
import math
import os
import re
import signal
import sys
import unicodedata
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import wraps
from pathlib import Path
from typing import Any, NoReturn, TextIO

from lab import interrupted_while_loading, machine
from lab.files import ROOT, printable

INTERRUPTED = 130  # the exit code of a command that Ctrl-C ended
MOST_DIGITS = 15  # of a whole number on a command line
Main = Callable[..., int]


class Parser(argparse.ArgumentParser):
    """An argument parser that says what is wrong in one line, and exits with 2."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{printable(f'{self.prog}: {message}')} (see {self.prog} --help)\n")

    def with_words(self, arguments: Sequence[str] | None, words: str) -> argparse.Namespace:
        """Options and `words` in any order; behind -- all are words, which argparse itself does not always see."""
        given = list(sys.argv[1:] if arguments is None else arguments)
        end = given.index("--") if "--" in given else len(given)
        options = self.parse_intermixed_args(given[:end])
        setattr(options, words, [*getattr(options, words), *given[end + 1 :]])
        return options

    def workers(self, given: int | None) -> int:
        """The number of workers given with --workers, else default_workers()."""
        try:
            return given or default_workers()
        except ValueError as error:
            self.error(str(error))


def default_workers() -> int:
    """GPT_WORKERS, else 4 or the number of cores this process may use if that is less. Raises ValueError, one line."""
    text = os.environ.get("GPT_WORKERS", "")
    if not text:
        return min(4, machine.count())
    try:
        return worker_count(text)
    except argparse.ArgumentTypeError as error:
        raise ValueError(f"GPT_WORKERS={error}") from None


def whole_number(least: int) -> Callable[[str], int]:
    """For add_argument(type=...): an integer of at least `least`, which is 0 or more."""

    def number(text: str) -> int:
        if not text.isascii() or not text.isdigit() or len(text) > MOST_DIGITS or int(text) < least:
            expected = "a positive integer" if least == 1 else f"an integer of {least} or more"
            most = f", of at most {MOST_DIGITS} digits" if len(text) > MOST_DIGITS else ""
            raise argparse.ArgumentTypeError(f"{shortened(text)!r} must be {expected}{most}")
        return int(text)

    return number


def some_path(text: str) -> Path:
    """For add_argument(type=...): a path; an empty one would be the current folder, which nobody means by it."""
    if not text:
        raise argparse.ArgumentTypeError("an empty name")
    return Path(text)


def number(name: str, expected: str, holds: Callable[[float], bool]) -> Callable[[str], float]:
    """For add_argument(type=...): a number for which `holds`; `name` is what argparse calls it."""

    def checked(text: str) -> float:
        value = float(text)
        if not holds(value):
            raise argparse.ArgumentTypeError(f"{value}: expected {expected}")
        return value

    checked.__name__ = name
    return checked


above_zero = number("number", "a number above 0", lambda value: 0.0 < value < math.inf)


def worker_count(text: str) -> int:
    """For add_argument(type=...): a number of workers."""
    workers = whole_number(1)(text)
    if workers > machine.MOST_WORKERS:
        raise argparse.ArgumentTypeError(machine.too_many(workers))
    return workers


def shortened(text: str, most: int = 40) -> str:
    """Text as it can stand in a message of one line."""
    return text if len(text) <= most else f"{text[: most - 3]}..."


def counted(number: int, noun: str) -> str:
    """1 schedule, 2 schedules."""
    return f"{number:,} {noun}" + ("" if number == 1 else "s")


def tidy(task: object) -> str:
    """A task as people write it: "slice(0, 1152, None)" -> "0:1152"."""
    return re.sub(r"slice\((\w+), (\w+), None\)", r"\1:\2", str(task))


def reason(error: Exception) -> str:
    """An error's message; one of the system as FILE: WHY, without its number."""
    if isinstance(error, FileNotFoundError) and error.filename is None:  # os.getcwd()'s
        return "the current folder is no longer there; cd to another one"
    if isinstance(error, OSError) and error.strerror and type(error).__str__ is OSError.__str__:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    return str(error)


def in_one_line(prefix: str, *errors: type[Exception], code: int = 1) -> Callable[[Main], Main]:
    """For a command's main(): these errors, whose message is one line, end it with that line on stderr, and `code`.

    So does too little memory, with 1.
    """

    def decorate(main: Main) -> Main:
        @wraps(main)
        def guarded(*arguments: Any) -> int:
            try:
                return main(*arguments)
            except errors as error:
                print(printable(f"{prefix}{reason(error)}"), file=sys.stderr)
                return code
            except MemoryError as error:
                print(f"{prefix}not enough memory{f' ({error})' if str(error) else ''}", file=sys.stderr)
                return 1

        return guarded

    return decorate


class Stopped(KeyboardInterrupt):
    """SIGTERM, or the terminal was closed: what was started ends as at Ctrl-C, so that nothing of it runs on."""


def stop(number: int, frame: object) -> None:
    """What SIGTERM and SIGHUP do to a command."""
    raise Stopped


def take_signals() -> None:
    """What ends a command raises KeyboardInterrupt in it."""
    if signal.getsignal(signal.SIGINT) is interrupted_while_loading:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:  # nohup ignores the second
            signal.signal(number, stop)


def installed(extra: str) -> bool:
    """Install one of pyproject.toml's extras into this environment, in the versions of constraints.txt; whether that
    worked: if not, pip has said why."""
    import subprocess

    pip = [sys.executable, "-m", "pip", "install", "--disable-pip-version-check", "-q"]
    done = subprocess.run([*pip, "-c", str(ROOT / "constraints.txt"), "-e", f"{ROOT}[{extra}]"], check=False)
    importlib.invalidate_caches()
    return done.returncode == 0


class OutputLost(BaseException):
    """Nobody can read standard output any more: its reader has gone, or its disk is full. No fault of what was being
    shown, so whoever looks for such faults with `except Exception` does not catch it.
    """


class Stream:
    """A standard stream that never ends a program in the middle of something.

    A character that the terminal's encoding does not have becomes one that it has. When writing fails, a `steady`
    stream goes silent, so that what is still to be done is done; another one raises OutputLost.
    """

    def __init__(self, stream: TextIO, steady: bool) -> None:
        self.stream, self.steady = stream, steady
        self.error: OSError | None = None
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="lookalike")

    def write(self, text: str) -> int:
        """Write, as far as possible."""
        self.attempt(self.stream.write, text)
        return len(text)

    def flush(self) -> None:
        """Flush, as far as possible."""
        self.attempt(self.stream.flush)

    def attempt(self, operation: Callable, *arguments: str) -> None:
        """When it fails, all that follows, what is still buffered included, goes to where it disturbs nobody."""
        try:
            operation(*arguments)
        except OSError as error:
            self.error = error
            with open(os.devnull, "wb") as null:
                os.dup2(null.fileno(), self.stream.fileno())
            if not self.steady:
                raise OutputLost from None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


LOOKALIKES = dict(zip("✓✗◐·■µ×→…‘’“”–—█", "+x~.#ux>.''\"\"--#", strict=True))


def lookalike(error: UnicodeError) -> tuple[str, int]:
    """For text that an encoding cannot express: the nearest signs that are in ASCII. An error handler of codecs."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    text = error.object[error.start : error.end]
    plain = "".join(LOOKALIKES.get(sign) or unicodedata.normalize("NFKD", sign)[0] for sign in text)
    return plain.encode("ascii", "replace").decode(), error.end


codecs.register_error("lookalike", lookalike)


def quietly(main: Callable[[], int], steady: bool = False) -> NoReturn:
    """Run main() and end the process with its exit code: Ctrl-C, and an output that nobody can read, are no accidents
    worth a traceback.

    steady: main makes results that are worth more than what it shows, so it continues when its reader has gone (make
    grade | head -1), its disk is full, or its output was closed (>&-). The exit code is 1 for a lost output.
    """
    take_signals()
    for name, least in (("COLUMNS", 20), ("LINES", 5)):  # no terminal is smaller: on 0 columns nothing would be printed
        text = os.environ.get(name, "")
        if not text.isdecimal() or int(text) < least:
            os.environ.pop(name, None)
    closed = [name for name in ("stdin", "stdout", "stderr") if getattr(sys, name) is None]
    for name in closed:
        setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w"))  # noqa: SIM115
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = out, _ = Stream(sys.stdout, steady), Stream(sys.stderr, steady=True)
    code = 1
    try:
        if "stdout" in closed and not steady:
            out.error = OSError(errno.EBADF, "it is closed")
        else:
            code = main()
    except KeyboardInterrupt:
        code = INTERRUPTED
    except OutputLost:
        pass
    except (BlockingIOError, RuntimeError) as error:
        if not isinstance(error, BlockingIOError) and "can't start new thread" not in str(error):
            raise
        print("the system allows no more processes or threads: take fewer workers, or raise ulimit -u", file=sys.stderr)
    finally:
        with suppress(OutputLost):
            out.flush()
        sys.stdout, sys.stderr = before
    sys.exit(told_if_lost(out, code))


def told_if_lost(out: TextIO | Stream, code: int) -> int:
    """The exit code of a command whose standard output was `out`, after a line on stderr if that was lost."""
    error = out.error if isinstance(out, Stream) else None
    if error is None or error.errno == errno.EPIPE:
        return code
    print(f"standard output: {error.strerror}", file=sys.stderr)
    return code or 1
