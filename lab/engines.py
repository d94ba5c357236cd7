"""The programs there are: the lab's own by name, and a submission in a file."""

import argparse
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType

from lab.serial import GPT2

ENGINES = ("serial", "parallel", "cached")


def engine_name(text: str) -> str:
    """For add_argument(type=...): an engine of the lab that is here, or a .py file that is."""
    if text in ENGINES and importlib.util.find_spec(f"lab.{text}") is None:
        raise argparse.ArgumentTypeError(f"there is no lab/{text}.py here; name your file: --engine parallel.py")
    if text in ENGINES or (text.endswith(".py") and Path(text).is_file()):
        return text
    if text.endswith(".py"):
        raise argparse.ArgumentTypeError(f"{text}: no such file")
    raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(ENGINES)}, nor a .py file")


def load_engine(name: str) -> ModuleType:
    """The module of that name in lab, or a .py file. Raises ImportError."""
    if not name.endswith(".py"):
        return importlib.import_module(f"lab.{name}")
    path = Path(name)
    if not path.is_file():
        raise ImportError(f"{name}: no such file")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{name}: not a .py file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


def start(engine: ModuleType, model: GPT2, prompt: Sequence[int], n: int, workers: int) -> Iterator[int]:
    """engine.generate(), on `workers` workers if it has any."""
    options = {"workers": workers} if "workers" in inspect.signature(engine.generate).parameters else {}
    return engine.generate(model, prompt, n, **options)
