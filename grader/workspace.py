"""What is left of a grading, however it ends: nothing.

home() is this process's one folder for all it writes meanwhile, with a list of the users and marks that its programs
run under. When the process ends, by itself, by a signal or by kill -9, a watchdog that waits for nothing else ends
those programs and removes the folder. Should the watchdog be killed as well, the next grader does it: a folder whose
lock nobody holds is nobody's any more.
"""

import atexit
import fcntl
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from grader.access import enterable
from grader.processes import FIRST_USER, end_marked, end_users

PREFIX, LOCK, LEDGER = "grade-", "lock", "ledger"
PLACES = ("/tmp", "/var/tmp", "/dev/shm")  # where anybody may enter, should TMPDIR be closed to others
WATCHDOG = "import sys; sys.path.insert(0, sys.argv[1]); from grader import workspace; workspace.watch(sys.argv[2])"
WRITABLE, DEPTH = ("/tmp", "/var", "/dev", "/run", "/srv", "/mnt", "/media"), 4


@lru_cache(maxsize=1)
def home() -> Path:
    """The folder of this process, made when first asked for. Raises OSError."""
    sweep()
    folder = make_folder()
    try:
        lock = os.open(folder / f"{LOCK}.new", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
        fcntl.flock(lock, fcntl.LOCK_EX)
        os.rename(folder / f"{LOCK}.new", folder / LOCK)  # never seen without its lock held
        (folder / LEDGER).touch()
        waits, told = os.pipe()  # nothing is ever written: the end of this process closes it
        subprocess.Popen(
            [sys.executable, "-I", "-S", "-B", "-c", WATCHDOG, str(Path(__file__).parents[1]), str(folder)],
            stdin=waits, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/", start_new_session=True,
        )  # fmt: skip
        os.close(waits)
    except OSError:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    atexit.register(leave, folder, os.getpid(), told)
    return folder


def make_folder() -> Path:
    """A new folder: root's programs run as other users, so theirs lies where anybody may enter. Raises OSError."""
    places = dict.fromkeys([tempfile.gettempdir(), *PLACES])
    others = os.geteuid() == 0
    ordered = sorted(places, key=lambda place: not enterable(Path(place))) if others else places
    problem: OSError | None = None
    for place in ordered:
        try:
            folder = Path(tempfile.mkdtemp(prefix=PREFIX, dir=place))
            folder.chmod(0o755 if others else 0o700)
            return folder
        except OSError as error:
            problem = problem or error
    raise problem or OSError("no folder for temporary files can be written")


def temporary_folder() -> tempfile.TemporaryDirectory:
    """A folder in there that is removed earlier, when nobody needs it any more. Raises OSError."""
    folder = tempfile.TemporaryDirectory(dir=home(), ignore_cleanup_errors=True)
    os.chmod(folder.name, os.stat(home()).st_mode & 0o777)
    return folder


def leave(folder: Path, owner: int, told: int) -> None:
    """At the end of this process (not of one that was forked from it)."""
    if os.getpid() == owner:
        clean(folder)
        os.close(told)


def note(kind: str, value: object) -> None:
    """A "user" or a "mark" that programs run under from now on; noted a second time, no more. Raises OSError."""
    with open(home() / LEDGER, "a") as file:
        file.write(f"{kind} {value}\n")


def sweep() -> None:
    """Clean up after graders that are no more."""
    for place in dict.fromkeys([tempfile.gettempdir(), *PLACES]):
        for folder in Path(place).glob(f"{PREFIX}*"):
            with suppress(OSError):
                status = folder.lstat()
                if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
                    continue
                with os.fdopen(os.open(folder / LOCK, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as lock:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    clean(folder)


def clean(folder: Path) -> None:
    """End the programs of a grader that are noted and not struck out, and remove its folder."""
    with suppress(OSError):
        lines = Counter((folder / LEDGER).read_text().splitlines())
        left = [line.split()[:2] for line, times in lines.items() if len(line.split()) == 2 and times == 1]
        users = {int(value) for kind, value in left if kind == "user" and value.isdigit() and int(value) >= FIRST_USER}
        end_users(users)
        remove_files(users)
        for kind, value in left:
            if kind == "mark":
                end_marked(value)
    shutil.rmtree(folder, ignore_errors=True)


def remove_files(users: set[int]) -> None:
    """Remove what user ids of our own making left in the folders where everybody may write."""
    for folder in open_folders() if users else ():
        with suppress(OSError):
            for entry in list(os.scandir(folder)):
                with suppress(OSError):
                    if entry.stat(follow_symlinks=False).st_uid in users:
                        (shutil.rmtree if entry.is_dir(follow_symlinks=False) else os.unlink)(entry.path)


@lru_cache(maxsize=1)
def open_folders() -> tuple[str, ...]:
    """The folders in which everybody may write, none deeper than DEPTH."""
    found = []
    for top in WRITABLE:
        for folder, names, _ in os.walk(top):
            with suppress(OSError):
                if os.lstat(folder).st_mode & stat.S_IWOTH:
                    found.append(folder)
            if folder.count("/") >= DEPTH:
                names.clear()
    return tuple(found)


def watch(name: str) -> None:
    """The watchdog: wait for the end of the grader, then clean up, if it has not."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    sys.stdin.buffer.read()
    if os.path.exists(name):
        clean(Path(name))
