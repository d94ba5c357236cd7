"""A program under check: read once, made anew for every schedule."""

import ast
import builtins
import copy
import importlib.util
import io
import linecache
import os
import random
import sys
import traceback
import types
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from pathlib import Path
from types import CodeType
from typing import Any

import numpy as np

from lab import serial, threadlib
from lab.check import tiny
from lab.check.instrument import assigned, instrument, waits_outside_loops
from lab.check.report import Finding, ProgramError, place
from lab.check.switches import has_shared_rounds

REFUSED = ("threading", "queue", "multiprocessing", "concurrent", "_thread", "asyncio")
WHY_REFUSED = (
    "the checker cannot see its threads and locks, so it cannot switch between them, see who waits for whom, "
    "or replay; "
    "use spawn, join, Mutex, Cond and Semaphore of lab.threadlib"
)
MODULE_NAME = "_program_under_check"
STREAMS = ("stdin", "stdout", "stderr", "__stdin__", "__stdout__", "__stderr__")
ENDS, FORKS = "ends the whole process", "makes another process, without its other threads,"
ENDING = ("_exit", "abort")  # and exec...


class Program:
    """The source of a program, compiled in the variants that are needed.

    entry is "generate" (a submission: run on a tiny model, its tokens compared with those of lab.serial) or "main" (a
    small program: main() is run, and then check(result) if there is one). Raises ProgramError for a file that is
    neither.
    """

    def __init__(self, name: str | Path) -> None:
        self.path, self.package = locate(str(name))
        self.file = str(self.path)
        self.name, self.folder = self.path.name, str(self.path.parent)
        linecache.checkcache(self.file)
        try:
            self.source = importlib.util.decode_source(self.path.read_bytes())  # in the coding that it names
            self.tree = ast.parse(self.source, self.file)
        except OSError as error:
            raise ProgramError(f"{name}: cannot be read: {error.strerror}") from None
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:  # the last two: nested too deeply
            line = getattr(error, "lineno", None)
            at = f"{name}:{line}" if line else str(name)
            raise ProgramError(f"{at}: {getattr(error, 'msg', None) or str(error) or 'cannot be parsed'}") from None
        names = top_level_names(self.tree.body)
        self.entry = next((entry for entry in ("generate", "main") if entry in names), "")
        if not self.entry:
            raise ProgramError(f"{name}: has neither generate(model, prompt, n, workers) nor main()")
        needed = required_arguments(self.tree.body) if self.entry == "main" else ""
        if needed:
            raise ProgramError(f"{name}: main() is called without arguments, but it needs {needed}")
        self.has_check = "check" in names
        self.calls_main = self.entry == "main" and calls_main(self.tree)
        self.random = "random" in self.source
        self.bare_waits = waits_outside_loops(self.tree)
        self.goes_through_shared = has_shared_rounds(self.tree)  # in comprehensions
        self.given: dict[str, Any] = {}  # of lab.serial
        self.generators = 0  # that a run has made without a seed
        self.others: set[str] = set()  # modules that do not belong to a run
        self.beside: set[str] = set()  # the files of those that do
        self._codes: dict[tuple[bool, bool], CodeType] = {}

    def refused(self) -> list[Finding]:
        """A finding for each import of a library with threads of its own."""
        found = []
        for node in ast.walk(without_script(self.tree)):
            for module in imported(node):
                if module.split(".")[0] in REFUSED:
                    at = place(self.file, getattr(node, "lineno", 0))
                    message = f"{at} imports {module}: this program cannot be explored, because {WHY_REFUSED}"
                    found.append(Finding("refused", message, where=[at], tool="scan"))
        return found

    def frames(self, exception: BaseException | None) -> list[traceback.FrameSummary]:
        """Where an exception was raised: the frames of the program, and of the modules beside it."""
        trace = traceback.extract_tb(exception.__traceback__ if exception is not None else None)
        return [frame for frame in trace if frame.filename == self.file or self.is_beside(frame.filename)]

    def cannot_be_run(self, exception: BaseException) -> Finding:
        """It fails before any thread has been started."""
        frames = self.frames(exception)
        site = place(frames[-1].filename, frames[-1].lineno or 0) if frames else self.name
        text = f"sys.exit({exception.code!r})" if isinstance(exception, SystemExit) else f"{exception}"
        message = f"{site}: {type(exception).__name__}: {text}; the program cannot be run as it is, without any thread"
        return Finding("refused", message, where=[site], tool="scan")

    def is_beside(self, file: str) -> bool:
        """Is this a module that its author has put beside the program?"""
        return not self.package and os.path.dirname(file) == self.folder != os.path.dirname(threadlib.__file__)

    def code(self, steps: bool, notes: bool) -> CodeType:
        """The compiled program, with the additions of lab.check.instrument."""
        key = (steps, notes)
        if key not in self._codes:
            tree = instrument(copy.deepcopy(self.tree), steps, notes)
            self._codes[key] = compile(tree, self.file, "exec", dont_inherit=True, optimize=0)
        return self._codes[key]

    @contextmanager
    def alone(self) -> Iterator[None]:
        """As `python FILE` would run it: with its own sys.argv, and with the modules beside it; warnings are not shown,
        like all it prints. It may put functions of its own into lab.serial: for a run."""
        argv, path, default_rng = sys.argv, sys.path[:], np.random.default_rng

        def seeded_rng(seed: Any = None) -> np.random.Generator:
            """Without a seed they would differ from run to run, and a schedule could not be replayed."""
            self.generators += seed is None
            return default_rng(self.generators if seed is None else seed)

        sys.argv = [self.file]
        sys.path.insert(0, self.folder)
        self.others = set(sys.modules)
        for case in tiny.CASES if self.entry == "generate" else ():
            for one in case.runs():
                tiny.expected(one)  # before that
        self.given = dict(serial.__dict__)
        np.random.default_rng = seeded_rng
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                yield
        finally:
            sys.argv, sys.path[:], np.random.default_rng = argv, path, default_rng
            serial.__dict__.update(self.given)
            self.forget()

    def begin_anew(self) -> None:
        """Before each run."""
        serial.__dict__.update(self.given)
        if self.random:
            random.seed(0)
            np.random.seed(0)
            self.generators = 0
        self.forget()

    def forget(self) -> None:
        """The modules beside the program belong to the run that has imported them."""
        if self.package or len(sys.modules) == len(self.others):
            return
        for name in set(sys.modules) - self.others:
            file = getattr(sys.modules[name], "__file__", None)
            if file and os.path.dirname(file) == self.folder and name != MODULE_NAME:
                self.beside |= {os.path.basename(file)} if self.is_beside(file) else set()
                del sys.modules[name]
            else:
                self.others.add(name)

    def fresh(self, additions: dict[str, Any], steps: bool, notes: bool, stand_ins: dict[str, Any]) -> types.ModuleType:
        """The program as a new module, executed. `additions` are the functions the additions call; it imports
        `stand_ins` as modules."""
        module = types.ModuleType(MODULE_NAME)
        module.__file__ = self.file
        module.__package__ = self.package
        module.__dict__.update(additions)
        module.__dict__["__builtins__"] = own_builtins(stand_ins, notes)
        sys.modules[MODULE_NAME] = module  # dataclasses look their module up
        with leaving_in_order() if self.calls_main else nullcontext():
            exec(self.code(steps, notes), module.__dict__)
        return module

    def run_main(self, module: Any, started: int) -> Callable[[], object]:
        """Run main(), unless the program has called it itself when it was executed, for which it has `started` threads;
        returns what remains to be done: check(result)."""
        if self.calls_main and started:
            return int
        result = None
        with leaving_in_order():
            result = module.main()
        return partial(module.check, result) if self.has_check else int


@contextmanager
def leaving_in_order() -> Iterator[None]:
    """sys.exit() without a code is an ordinary end."""
    try:
        yield
    except SystemExit as leaving:
        if leaving.code:
            raise


def calls_main(tree: ast.Module) -> bool:
    """Does it call main() as soon as it is imported?"""
    parts = [node for node in without_script(tree).body if not isinstance(node, ast.FunctionDef | ast.ClassDef)]
    return any(
        isinstance(node, ast.Call) and getattr(node.func, "id", "") == "main"
        for part in parts
        for node in ast.walk(part)
    )


def top_level_names(body: list[ast.stmt]) -> set[str]:
    """The names a module defines, imports or assigns to, as far as that can be seen."""
    names: set[str] = set()
    for node in body:
        match node:
            case ast.FunctionDef(name) | ast.ClassDef(name):
                names.add(name)
            case ast.ImportFrom():
                names |= {alias.asname or alias.name for alias in node.names}
            case ast.Assign() | ast.AnnAssign():
                names |= {target.id for target in assigned(node) if isinstance(target, ast.Name)}
            case ast.If() | ast.Try() | ast.With():
                for block in ("body", "orelse", "finalbody"):
                    names |= top_level_names(getattr(node, block, []))
    return names


def required_arguments(body: list[ast.stmt]) -> str:
    """The arguments that main() cannot do without, listed."""
    for node in body:
        if isinstance(node, ast.FunctionDef) and node.name == "main":
            positional = [*node.args.posonlyargs, *node.args.args]
            return ", ".join(argument.arg for argument in positional[: len(positional) - len(node.args.defaults)])
    return ""


def locate(name: str) -> tuple[Path, str]:
    """(file, package) of "path/to/file.py" or "lab.parallel". Raises ProgramError."""
    path = Path(name)
    if name.endswith(".py") or os.path.isfile(path):  # Path's own would raise for some names
        if not os.path.isfile(path):
            raise ProgramError(f"{name}: no such file")
        return path.resolve(), ""
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):
        spec = None
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        raise ProgramError(f"{name}: neither a Python file nor a module that can be found")
    return Path(spec.origin), name.rpartition(".")[0]


def without_script(tree: ast.Module) -> ast.Module:
    """The part of a module that runs when it is imported: without what stands under if __name__ == "__main__"."""
    if any(map(renames_itself, ast.walk(tree))):
        return tree
    parts: list[ast.stmt] = []
    for node in tree.body:
        parts += node.orelse if isinstance(node, ast.If) and asks_for_main(node.test) else [node]
    return ast.Module(parts, [])


def renames_itself(node: ast.AST) -> bool:
    """Whether this may give the module another __name__, so that such a block would run after all."""
    match node:
        case (
            ast.Name("__name__", ast.Store()) | ast.Attribute(_, "__name__", ast.Store()) | ast.Constant("__name__")
            | ast.keyword("__name__") | ast.MatchAs(_, "__name__")
        ):  # fmt: skip
            return True
    return False


def asks_for_main(test: ast.expr) -> bool:
    """Whether this is __name__ == "__main__"; ast.unparse() would fail for what is nested deeply."""
    match test:
        case ast.Compare(ast.Name("__name__"), [ast.Eq()], [ast.Constant("__main__")]):
            return True
    return False


def imported(node: ast.AST) -> list[str]:
    """The modules that a node imports: import x, from x import y, __import__("x"), import_module("x")."""
    match node:
        case ast.Import(names):
            return [alias.name for alias in names]
        case ast.ImportFrom(str(module), level=0):
            return [module]
        case ast.Call(
            ast.Name("__import__" | "import_module") | ast.Attribute(_, "__import__" | "import_module"),
            [ast.Constant(str(module)), *_],
        ):
            return [module]
    return []


def own_builtins(stand_ins: dict[str, Any], tracked: bool) -> dict[str, Any]:
    """The builtins of a program under check: it prints nothing, reads nothing, and finds some modules replaced."""

    def print_(*values: Any, file: Any = None, **options: Any) -> None:
        """Looks at the values as print() does; at arrays, which takes long, only while that is recorded."""
        if not (file is None or isinstance(file, Nowhere)):
            print(*values, file=file, **options)
            return
        for value in values:
            if tracked or not isinstance(value, np.ndarray):
                str(value)

    def input_(prompt: Any = "") -> str:
        raise EOFError("a program under check has no input")

    def import_(name: str, *arguments: Any, **options: Any) -> Any:
        module = builtins.__import__(name, *arguments, **options)
        stand_in = stand_ins.get(name.split(".")[0])
        return stand_in if stand_in is not None and module.__name__ == stand_in.__name__ else module

    return dict(vars(builtins)) | {"print": print_, "input": input_, "__import__": import_}


class Nowhere(io.TextIOBase):
    """What is written here is lost, and nothing can be read."""

    encoding = "utf-8"

    def writable(self) -> bool:
        """Yes."""
        return True

    def write(self, text: str) -> int:
        """Its length."""
        return len(text)

    def read(self, size: int | None = -1) -> str:
        """The end."""
        return ""

    readline = read


@contextmanager
def unheard() -> Iterator[None]:
    """A program that runs thousands of times writes nothing to the terminal, and reads nothing from it."""
    streams = {name: getattr(sys, name) for name in STREAMS}
    try:
        for name in STREAMS:
            setattr(sys, name, Nowhere())
        yield
    finally:
        for name, stream in streams.items():
            setattr(sys, name, stream)


class NoExit(types.ModuleType):
    """Stands in for the module os: what would end or copy the whole process calls `leave` instead, with the call as
    text and what it does."""

    def __init__(self, leave: Callable[[str, str], None]) -> None:
        super().__init__("os")
        self._leave = leave

    def __getattr__(self, name: str) -> Any:
        does = FORKS if name in ("fork", "forkpty") else ENDS if name in ENDING or name.startswith("exec") else ""
        if not does:
            return getattr(os, name)
        return lambda *arguments: self._leave(f"os.{name}({', '.join(map(repr, arguments))})", does)
