"""The starter: a file with its solution taken out, as students get it.

# BEGIN SOLUTION ... # END SOLUTION    left out
# BEGIN PROMPT ... # END PROMPT        comments that stand for it: "# code" becomes "code", "# # hint" becomes "# hint"

python -m grader.starter lab/parallel.py -o starter.py
"""

import argparse
import os
import re
import sys
from pathlib import Path

MARKER = re.compile(r"\s*# (BEGIN|END) (SOLUTION|PROMPT)\s*")
COMMENT = re.compile(r"(\s*)# ?(.*)")


class StarterError(Exception):
    """Markers that do not pair; one line with the line number."""


def strip_solution(text: str) -> str:
    """The text without its solutions and with its prompts. Raises StarterError."""
    kept: list[str] = []
    inside, opened = None, 0
    for number, line in enumerate(text.splitlines(), start=1):
        marker = MARKER.fullmatch(line)
        if marker:
            word, kind = marker.groups()
            if word == "BEGIN" and inside:
                raise StarterError(f"line {number}: BEGIN {kind} inside {inside}, which line {opened} began")
            if word == "END" and kind != inside:
                raise StarterError(f"line {number}: END {kind} without its BEGIN")
            inside, opened = (kind, number) if word == "BEGIN" else (None, 0)
        elif inside == "PROMPT":
            kept.append(uncommented(line, number))
        elif inside is None:
            kept.append(line)
    if inside:
        raise StarterError(f"line {opened}: BEGIN {inside} has no END")
    return "\n".join(kept) + "\n"


def uncommented(line: str, number: int) -> str:
    """A prompt's line without its comment sign. Raises StarterError."""
    comment = COMMENT.fullmatch(line)
    if comment is None:
        raise StarterError(f"line {number}: a PROMPT holds comment lines only, found {line.strip()!r}")
    indent, rest = comment.groups()
    return f"{indent}{rest}".rstrip()


def main() -> int:
    """The command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="grader.starter", description="Take the solution out of a file.")
    parser.add_argument("file", type=Path, help="a file with BEGIN/END SOLUTION and PROMPT markers")
    parser.add_argument("-o", "--out", type=Path, help="where to write (default: standard output)")
    options = parser.parse_args()
    try:
        starter = strip_solution(options.file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, StarterError) as error:
        print(f"starter: {options.file}: {getattr(error, 'strerror', None) or error}", file=sys.stderr)
        return 1
    if options.out is None:
        print(starter, end="")
        return 0
    partial = options.out.with_name(f"{options.out.name}.part")
    partial.write_text(starter, encoding="utf-8")
    os.replace(partial, options.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
