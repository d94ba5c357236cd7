"""Places in the student's file, told from the source we have: what a program reports of its code may say anything."""

import ast
import io
from functools import lru_cache

FILE = "parallel.py"


def place(source: str, line: object) -> str:
    """A line of the student's file: where, in which function, what it says."""
    lines = io.StringIO(source, newline=None).readlines()  # as Python counts them: a form feed ends none
    if not isinstance(line, int) or not 0 < line <= len(lines):
        return FILE
    innermost = next((name for first, last, name in functions_of(source)[::-1] if first <= line <= last), "")
    return f"{FILE}:{line}{f' in {innermost}' if innermost else ''}: {lines[line - 1].strip()[:90]}"


@lru_cache(maxsize=4)
def functions_of(source: str) -> tuple[tuple[int, int, str], ...]:
    """(first line, last line, name) of every function, the outer ones first."""
    try:
        return tuple(
            (node.lineno, node.end_lineno or node.lineno, node.name)
            for node in ast.walk(ast.parse(source))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        )
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ()


def returns_of(source: str) -> list[int]:
    """The lines of the return statements of generate(), the last one; its first line if it has none."""
    found = [function for function in functions_of(source) if function[2] == "generate"]
    if not found:
        return []
    first, last, _ = found[-1]
    nodes = ast.walk(ast.parse(source))
    return [n.lineno for n in nodes if isinstance(n, ast.Return) and first <= n.lineno <= last] or [first]
