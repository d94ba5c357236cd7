"""Results belong to what they were made from: the program's text, the model, the tokens, the machine. When any of it
has changed, they are stale, and measured again.
"""

import hashlib
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lab.engines import ENGINES
from lab.files import ROOT, shown
from lab.measure.machine import summary
from lab.measure.runner import Program

OLDEST = 24 * 3600  # seconds: a machine is not the same the next day
BELOW = {"cached": ("parallel.py",)}  # of the lab's programs, what else of the lab they consist of


class ResultError(ValueError):
    """A file of results that another version has written, or somebody has edited; one line."""


def digest(engine: str) -> str:
    """What tells a program's text from another: of an engine of the lab, or a .py file. Raises OSError."""
    own = ROOT / "lab" / f"{engine}.py" if engine in ENGINES else Path(engine)
    found = hashlib.sha256()
    for path in (own, *(ROOT / "lab" / name for name in BELOW.get(engine, ()))):
        found.update(path.read_bytes())
    return found.hexdigest()[:16]


def about(program: Program) -> dict[str, Any]:
    """What the results of a program belong to; taken before it runs. Raises OSError."""
    model = program.model.stat()
    return {
        "program": digest(program.engine),
        "model": [str(program.model), model.st_size, model.st_mtime_ns],
        "n": program.n,
        "prompt": len(program.prompt),
        "workers": 1 if program.is_serial else program.workers,
        "machine": summary(),
        "time": time.time(),
    }


def why_stale(path: Path, program: Program, any_n: bool = False) -> str:
    """Why the results in a file are not those of this program, or ""; a file that is not there is just missing."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))["about"]
        wanted = about(program)
        for key, value in wanted.items():
            if key != "time" and found[key] != value and not (key == "n" and any_n):
                return difference(key, found[key], value)
        return "measured more than a day ago" if wanted["time"] - found["time"] > OLDEST else ""
    except FileNotFoundError:
        return "missing"
    except (ValueError, LookupError, TypeError, RecursionError):
        return "does not say what it was measured with"


def difference(key: str, found: Any, wanted: Any) -> str:
    """One that makes results stale, in words."""
    if key == "machine":
        return "measured on another machine"
    if key == "program" or (key == "model" and found[0] == wanted[0]):
        return f"the {key} has changed since"
    if key == "model":
        same = Path(found[0]).stem == Path(wanted[0]).stem  # in another folder
        before, now = (model[0] if same else Path(model[0]).stem for model in (found, wanted))
        return f"measured with {before}, not {now}"
    words = {"n": "tokens", "prompt": "tokens of prompt", "workers": "workers"}
    return f"measured with {found} {words[key]}, not {wanted}"


@contextmanager
def as_written(where: Path, cure: str) -> Iterator[None]:
    """Use what was read from a file or folder. Raises ResultError if it is not what this version writes."""
    try:
        yield
    except (OSError, MemoryError):
        raise
    except Exception as error:  # anything may be wrong with it
        why = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise ResultError(f"{shown(where)}: not as this version of the lab writes it ({why}); {cure}") from None
