"""What the command lines share: errors in one line, and a quiet end."""

import argparse
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from lab import machine

INTERRUPTED = 130  # the exit code of a command that Ctrl-C ended


class Parser(argparse.ArgumentParser):
    """An argument parser that says what is wrong in one line, and exits with 2."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message} (see {self.prog} --help)\n")

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
    if not text.isascii() or not text.isdigit() or int(text) < 1:
        raise ValueError(f"GPT_WORKERS={text}: not a whole number from 1 up")
    return int(text)


def whole_number(least: int) -> Callable[[str], int]:
    """For add_argument(type=...): a whole number of at least `least`."""

    def number(text: str) -> int:
        if not text.isascii() or not text.isdigit() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from {least} up")
        return int(text)

    return number


def quietly(main: Callable[[], int]) -> int:
    """main(), where Ctrl-C and a reader that has gone (gpt ... | head -1) are no accidents worth a traceback."""
    try:
        code = main()
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return INTERRUPTED
    except BrokenPipeError:
        os.dup2(
            os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno()
        )  # or the interpreter's last flush would fail again
        return 1
