"""The lab's environment: importing this from a Python that lacks the lab's libraries starts the command anew with the
one in .venv, or says what to do."""

import importlib.util
import os
import shutil
import sys
from pathlib import Path

from lab.files import ROOT

NEEDED = ("numpy", "rich")


def python() -> str:
    """What to type for this Python: "python" if that is it, else where it is, as short as possible."""
    folder = os.path.dirname(os.path.abspath(sys.executable))
    for name in ("python", "python3"):
        found = shutil.which(name)
        if found and os.path.dirname(os.path.abspath(found)) == folder:
            return name
    here = os.path.relpath(sys.executable)
    return sys.executable if here.startswith("..") else here


def enter() -> None:
    """Go on in the lab's environment."""
    missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
    if not missing:
        return
    own = ROOT / ".venv" / "bin" / "python"
    if own.exists() and Path(sys.prefix).resolve() != (ROOT / ".venv").resolve():
        os.execv(own, [str(own), "-m", "lab.check", *sys.argv[1:]])
    sys.exit(f"this Python has no {' and no '.join(missing)}: run `make env` in {ROOT}, then use .venv/bin/python")


if getattr(sys.modules["__main__"].__spec__, "name", "") == "lab.check.__main__":
    enter()
