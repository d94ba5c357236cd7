"""The Python that runs in the sandbox: the base interpreter, and of the environment's packages those that are needed,
named one by one. Where another user cannot read them, a copy in the grader's own folder.
"""

import os
import shutil
import sys
import sysconfig
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from grader.access import open_to_all
from grader.workspace import home

VERSION = f"python{sys.version_info.major}.{sys.version_info.minor}"
FLAGS = ("-I", "-S", "-B")  # nothing of the caller's, and no packages but the ones named
FOR_SUBMISSIONS = ("numpy", "numpy.libs")
FOR_THE_LAB = ("rich", "pygments", "markdown_it", "mdurl", "psutil", "threadpoolctl.py")  # lab.check and lab.measure
SYSTEM = ("/usr/lib", "/usr/lib64", "/usr/lib32", "/usr/libexec", "/lib", "/lib64", "/lib32")
LIBRARIES = tuple(path for path in SYSTEM if os.path.lexists(path))  # shared ones
STANDARD = sysconfig.get_path("stdlib", vars={"base": sys.base_prefix})  # the standard library
NOT_COPIED = ("test", "tests", "site-packages", "idlelib", "tkinter", "ensurepip", "lib2to3", "config-*")


@dataclass(frozen=True)
class Interpreter:
    """A Python and what it needs."""

    executable: str
    packages: tuple[str, ...]  # folders for sys.path
    files: tuple[str, ...]  # all it reads: itself, the standard library, packages, shared libraries
    library_path: str = ""

    @property
    def command(self) -> list[str]:
        """The beginning of a command line."""
        return [self.executable, *FLAGS]


def own() -> Interpreter:
    """The one this program runs on, without the virtual environment around it."""
    executable, packages = base_executable(), package_files()
    folders = dict.fromkeys(str(path.parent) for path in packages)  # for sys.path
    files = dict.fromkeys([*LIBRARIES, *map(str, packages), *interpreter_files(executable)])
    return Interpreter(executable, tuple(folders), tuple(files))


def base_executable() -> str:
    """The interpreter itself."""
    beside = os.path.join(sys.base_prefix, "bin", VERSION)
    return os.path.realpath(beside if os.path.exists(beside) else sys.executable)


def interpreter_files(executable: str) -> list[str]:
    """What the interpreter needs to run: itself, its library, the standard library; what cannot be seen is left out."""
    library = os.path.join(sysconfig.get_config_var("LIBDIR") or "/", sysconfig.get_config_var("INSTSONAME") or "-")
    beside = os.path.join(sys.base_prefix, "bin", os.path.basename(executable))
    return [path for path in (executable, beside, STANDARD, library) if os.path.exists(path)]


def package_files() -> list[Path]:
    """The folders of the packages."""
    import numpy

    site = Path(numpy.__file__).resolve().parents[1]
    return [site / name for name in (*FOR_SUBMISSIONS, *FOR_THE_LAB) if os.path.exists(site / name)]


@lru_cache(maxsize=1)
def copied() -> Interpreter:
    """The same as a copy that every user can read and only its owner can write; it ends with this process.

    Raises OSError.
    """
    here, folder = own(), home() / "python"
    try:
        (folder / "bin").mkdir(parents=True)
        executable = folder / "bin" / VERSION
        shutil.copy2(here.executable, executable)
        skip = shutil.ignore_patterns(*NOT_COPIED)
        shutil.copytree(STANDARD, folder / "lib" / VERSION, ignore=skip, symlinks=True)
        for library in Path(sys.base_prefix, "lib").glob("libpython*.so*"):
            shutil.copy2(library, folder / "lib")
        for package in package_files():
            target = folder / "packages" / package.name
            target.parent.mkdir(exist_ok=True)
            if package.is_dir():
                shutil.copytree(package, target, ignore=skip)
            else:
                shutil.copy2(package, target)
        open_to_all(folder)
        executable.chmod(0o755)
    except (OSError, shutil.Error) as error:
        shutil.rmtree(folder, ignore_errors=True)
        raise OSError(f"Python cannot be copied to {folder}: {first_reason(error)}") from None
    return Interpreter(str(executable), (str(folder / "packages"),), (*LIBRARIES, str(folder)), str(folder / "lib"))


def first_reason(error: OSError) -> str:
    """Why, in a few words: shutil.Error lists every file."""
    if isinstance(error, shutil.Error) and error.args and isinstance(error.args[0], list):
        return str(error.args[0][0][-1])
    return error.strerror or str(error)
