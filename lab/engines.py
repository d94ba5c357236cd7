"""The programs there are: the lab's own by name, and a submission in a file."""

import argparse
import importlib
import importlib.util
import inspect
import operator
import os
import sys
import traceback
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from types import ModuleType

from lab.command import shortened
from lab.serial import GPT2

ENGINES = ("serial", "parallel", "cached")


def engine_name(text: str) -> str:
    """For add_argument(type=...): an engine of the lab that is here, or a .py file that is."""
    if text in ENGINES and importlib.util.find_spec(f"lab.{text}") is None:
        raise argparse.ArgumentTypeError(f"there is no lab/{text}.py here; name your file: --engine parallel.py")
    if text in ENGINES or (text.endswith(".py") and os.path.isfile(text)):  # Path's own would raise for some names
        return text
    if text.endswith(".py"):
        raise argparse.ArgumentTypeError(f"{text}: no such file")
    raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(ENGINES)}, nor a .py file")


class EngineError(Exception):
    """A program whose generate() is not what it has to be; one line."""


def load_engine(name: str) -> ModuleType:
    """The module of that name in lab, or a .py file. Raises ImportError."""
    if not name.endswith(".py"):
        return importlib.import_module(f"lab.{name}")
    path = Path(name)
    if not path.is_file():
        raise ImportError(f"{name}: no such file")
    spec = importlib.util.spec_from_file_location(path.name, path)  # a name by which nobody else imports a module
    assert spec and spec.loader, "the name ends in .py"
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.name] = module
    spec.loader.exec_module(module)
    return module


def why_not_loaded(error: BaseException) -> str:
    """What is wrong with a program that load_engine could not load, and at which of its lines; one line."""
    frames = traceback.extract_tb(error.__traceback__)
    foreign = ("<", sys.prefix, sys.base_prefix, __file__)
    own = [frame for frame in frames if not frame.filename.startswith(foreign)]
    known = not own or isinstance(error, SyntaxError)  # which says it itself
    at = "" if known else f" ({Path(own[-1].filename).name}, line {own[-1].lineno})"
    return f"{type(error).__name__}: {' '.join(str(error).split())}{at}"


def start(engine: ModuleType, model: GPT2, prompt: Sequence[int], n: int, workers: int) -> Iterator[int]:
    """engine.generate(), on `workers` workers if it has any. Raises EngineError."""
    if not callable(getattr(engine, "generate", None)):
        raise EngineError("it has no generate(model, prompt, n, workers)")
    signature = inspect.signature(engine.generate)
    options = {"workers": workers} if "workers" in signature.parameters else {}
    try:
        signature.bind(model, prompt, n, **options)
    except TypeError:
        raise EngineError(f"it has generate{signature}, not generate(model, prompt, n, workers)") from None
    made = engine.generate(model, prompt, n, **options)
    if not isinstance(made, Iterable):
        raise EngineError(f"generate() returned {type(made).__name__}: it has to yield the tokens")
    return iter(made)


def checked(made: Iterator[int], most: int) -> Iterator[int]:
    """What start() returns, as whole numbers. Raises EngineError for what is no token, and for more than `most`."""
    for number, token in enumerate(made):
        if number == most:
            raise EngineError("generate() does not stop at n tokens")
        try:
            whole = operator.index(token)
        except TypeError:
            whole = -1
        if whole < 0:
            raise EngineError(f"generate() yields {shortened(repr(token))}, which is no token")
        yield whole
