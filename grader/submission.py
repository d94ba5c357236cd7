"""Read the one file a student hands in, without running it:
bad input is said in one line, and its imports are looked at.
"""

import ast
import codecs
import io
import os
import stat
import tokenize
import warnings
from dataclasses import dataclass, field
from pathlib import Path

from lab.check.program import top_level_names, without_script

LARGEST = 1 << 20  # bytes; the reference has 16 thousand
MODULES = (
    "__future__", "abc", "array", "bisect", "collections", "contextlib", "copy", "dataclasses", "enum", "functools",
    "heapq", "itertools", "lab", "math", "numbers", "numpy", "operator", "os", "random", "statistics", "string",
    "struct", "sys", "time", "types", "typing", "warnings",
)  # fmt: skip
THREAD_MODULES = (
    "_thread", "threading", "multiprocessing", "concurrent", "asyncio", "queue", "_queue", "subprocess",
    "_posixsubprocess", "_multiprocessing",
)  # fmt: skip
LAB_MODULES = ("lab.checkpoint", "lab.kernels", "lab.machine", "lab.serial", "lab.threadlib")
DYNAMIC = ("__import__", "exec", "eval", "compile")
PARAMETERS = ("model", "prompt", "n", "workers")


class BadSubmission(Exception):
    """Not a program that can be graded; the message is the reason, one line."""


@dataclass
class Submission:
    """A file that is a Python program with generate()."""

    path: Path
    source: str
    imports: list[str] = field(default_factory=list)  # one line for each import that the task does not allow
    threads: list[str] = field(default_factory=list)  # one line for each way around lab.threadlib


def read_submission(path: str | os.PathLike) -> Submission:
    """Take the file, or say why not. Raises BadSubmission."""
    path = Path(path)
    source = read_source(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            tree = ast.parse(source, filename=path.name)
    except SyntaxError as error:
        text = f": {error.text.strip()[:60]}" if error.text else ""
        raise BadSubmission(f"{path.name}: syntax error in line {error.lineno}: {error.msg}{text}") from None
    except (ValueError, RecursionError, MemoryError) as error:
        raise BadSubmission(f"{path.name}: cannot be parsed as Python: {str(error) or type(error).__name__}") from None
    check_generate(path.name, tree)
    submission = Submission(path, source)
    for node in ast.walk(without_script(tree)):
        look_at(node, submission)
    return submission


def read_source(path: Path) -> str:
    """The file's text. Raises BadSubmission for everything that is not a small text file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        if "\0" not in str(path) and path.is_symlink():
            raise BadSubmission(f"{path.name} is a link; hand in the file itself") from None
        raise BadSubmission(f"{path}: cannot be opened: {getattr(error, 'strerror', None) or error}") from None
    try:
        raw = read_regular(path, descriptor)
    finally:
        os.close(descriptor)
    if not raw.strip():
        raise BadSubmission(f"{path.name} is empty")
    if raw.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise BadSubmission(
            f"{path.name} is text in UTF-16 or UTF-32, as some Windows programs write it; save it as UTF-8"
        )
    if b"\0" in raw:
        raise BadSubmission(f"{path.name} is a binary file, not a Python program")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise BadSubmission(f"{path.name} is not text in UTF-8 (line {line}); save it as UTF-8") from None
    try:  # as the interpreter does: in another coding, what is a comment here may be code there
        coding = codecs.lookup(tokenize.detect_encoding(io.BytesIO(raw).readline)[0]).name
    except SyntaxError as error:
        coding = str(error)
    if coding.removesuffix("-sig") not in ("utf-8", "ascii"):
        raise BadSubmission(f"{path.name} names another coding than UTF-8 in its first lines ({coding[:40]})")
    return text


def read_regular(path: Path, descriptor: int) -> bytes:
    """The bytes of an ordinary file of no more than LARGEST. Raises BadSubmission."""
    status = os.fstat(descriptor)
    if stat.S_ISDIR(status.st_mode):
        raise BadSubmission(f"{path} is a directory; hand in the file parallel.py")
    if not stat.S_ISREG(status.st_mode):
        raise BadSubmission(f"{path.name} is not an ordinary file")
    if status.st_size > LARGEST:
        raise BadSubmission(f"{path.name} has {status.st_size:,} bytes; a program of at most {LARGEST:,} is taken")
    with open(descriptor, "rb", closefd=False) as file:
        return file.read(LARGEST)


def check_generate(name: str, tree: ast.Module) -> None:
    """generate() must be there, and callable as generate(model, prompt, n, workers). Raises BadSubmission."""
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef) and node.name == "generate"]
    if not functions:
        if any(isinstance(node, ast.AsyncFunctionDef) and node.name == "generate" for node in tree.body):
            raise BadSubmission(f"{name}: generate is an async function; it must be an ordinary generator")
        if "generate" in top_level_names(without_script(tree).body):
            return  # a name bound in another way; whether it works shows when it runs
        inner = next((node for node in ast.walk(tree) if getattr(node, "name", "") == "generate"), None)
        there = [node.name for node in tree.body if isinstance(node, ast.FunctionDef)][:6]
        what = f"the file defines {', '.join(there)}" if there else "the file defines no function"
        if inner is not None:
            what = f"the one in line {getattr(inner, 'lineno', 0)} is part of something else"
        raise BadSubmission(f"{name}: there is no function generate(model, prompt, n, workers); {what}")
    arguments = functions[-1].args
    names = [argument.arg for argument in arguments.posonlyargs + arguments.args]
    required = len(names) - len(arguments.defaults)
    required_keywords = [
        a.arg for a, default in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True) if default is None
    ]
    enough = len(names) >= len(PARAMETERS) or arguments.vararg is not None
    mixed = sorted(names[: len(PARAMETERS)]) == sorted(PARAMETERS) and tuple(names[: len(PARAMETERS)]) != PARAMETERS
    if not enough or required > len(PARAMETERS) or required_keywords or mixed:
        shown = ", ".join([*names, *(["*"] if required_keywords else []), *required_keywords])
        raise BadSubmission(f"{name}: generate({shown[:80]}) cannot be called as generate(model, prompt, n, workers)")


def look_at(node: ast.AST, submission: Submission) -> None:
    """Note an import, or a way to import, that the task does not allow."""
    match node:
        case ast.Import():
            for alias in node.names:
                look_at_import(alias.name, node.lineno, submission)
        case ast.ImportFrom():
            module = ("." * node.level) + (node.module or "")
            for name in [f"{module}.{alias.name}" for alias in node.names] if module == "lab" else [module]:
                look_at_import(name, node.lineno, submission)
        case ast.Call(ast.Name(function)) if function in DYNAMIC:
            submission.imports.append(f"line {node.lineno}: {function}() hides what is run")


def look_at_import(name: str, line: int, submission: Submission) -> None:
    """Note one imported module."""
    top = name.split(".")[0]
    if top in THREAD_MODULES:
        submission.threads.append(f"line {line}: import {name}: threads come from lab.threadlib only")
    elif top == "lab" and not any(name == module or name.startswith(f"{module}.") for module in LAB_MODULES):
        submission.imports.append(f"line {line}: import {name}: only {', '.join(LAB_MODULES)} of the lab are given")
    elif top not in MODULES:
        submission.imports.append(f"line {line}: import {name}: not needed for this task")
