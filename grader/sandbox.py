"""Who may do what: the ways to start a program that is not trusted.

    bubblewrap   no network, own process and file namespaces: the program sees the interpreter, its packages, the given
                 part of the lab and the model, all read-only, and a small private /tmp. Started by root, it runs as a
                 real other user inside: a limit on processes does not bind root, nor who is root outside a namespace.
    other-user   for containers that forbid namespaces: a user id of its own, without privileges, killed with all its
                 processes.
    limits       neither is possible: limits on memory, processes, files and time, as the same user. Not for files of
                 others, unless both of the locks below hold.

All three: a clean environment, `python -I -S`, BLAS on one thread, the CPU affinity asked for, limits (setrlimit),
pipes for results, and the locks that the program puts on itself before it imports a submission (grader.confine), as far
as the kernel has them: no other process, no network (seccomp), no file but those it needs (Landlock). A backend counts
as present when a trial run works, and the trial says which locks hold. `choose()` finds the best one.
"""

import json
import os
import resource
import secrets
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from grader import interpreter
from grader.access import open_to_all, reachable
from grader.interpreter import Interpreter
from grader.processes import (
    FIRST_USER,
    MARK,
    USERS,
    children_of,
    descendants_of,
    end_marked,
    end_users,
    marked,
    processes,
    processes_of,
)
from grader.workspace import home, note, remove_files
from lab import BLAS_THREAD_VARIABLES
from lab.files import evict
from lab.measure.runner import kernel_choice

MB = 1 << 20
PATH = "/usr/bin:/bin"
UNPRIVILEGED = ["--clear-groups", "--no-new-privs", "--inh-caps=-all", "--bounding-set=-all"]  # setpriv's options
TRIAL_SECONDS = 20.0
BLAS_KIND = ("OPENBLAS_CORETYPE",)
CONFINE = Path(__file__).with_name("confine.py")
TRIAL = """
import json, sys
config = json.loads(sys.argv[1])
sys.path[:0] = config["paths"]
import numpy
found = {"user": os.getuid(), "numpy": numpy.__file__, "version": numpy.__version__, "sum": float(numpy.ones(4).sum())}
found |= lock_in(config["readable"])
try:
    os.fork() or os._exit(0)
    found["refuses_processes"] = False
except PermissionError:
    pass
import numpy.fft, numpy.linalg, numpy.random
print(json.dumps(found))
"""


class SandboxError(Exception):
    """No program can be started as asked; the message is one line and says why."""


@dataclass(frozen=True)
class Limits:
    """What a program gets (setrlimit, and what the parent enforces)."""

    memory: int = 2048 * MB  # address space
    processes: int = 64  # processes and threads, the harness counts its own threads as well
    others: int = 512  # that other programs of its user may start meanwhile: the kernel's limit is one for all of them
    file_size: int = 16 * MB
    tmp_size: int = 32 * MB  # private /tmp (bubblewrap)
    open_files: int = 64
    cpu_seconds: int = 300
    output: int = 4 * MB  # printed bytes after which the parent ends it

    def apply(self, user_processes: int) -> None:
        """Set the limits for this process and its children (runs between fork and exec)."""
        for what, limit in (
            (resource.RLIMIT_AS, self.memory),
            (resource.RLIMIT_NPROC, user_processes + self.processes),
            (resource.RLIMIT_FSIZE, self.file_size),
            (resource.RLIMIT_NOFILE, self.open_files),
            (resource.RLIMIT_CPU, self.cpu_seconds),
            (resource.RLIMIT_CORE, 0),
        ):
            hard = resource.getrlimit(what)[1]
            limit = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
            resource.setrlimit(what, (limit, limit))


@dataclass
class Started:
    """A program that was started: its process (bubblewrap's, or its own) and how to end it with everything it
    started.
    """

    process: subprocess.Popen
    user: int | None = None  # its own user id, if it got one
    mark: str = ""  # in its environment, if it did not
    wrapped: bool = False  # process is bubblewrap; the program is a descendant
    scratch: Path | None = None  # its folder for files, if there is no /tmp of its own

    def program(self) -> int | None:
        """The process id of the program itself, seen from here; None while there is none."""
        pid = self.process.pid
        if not self.wrapped:
            return pid
        while children := children_of(pid):  # bubblewrap, its init, the program
            pid = children[0]
        return pid if pid != self.process.pid else None

    def strays(self, program: int) -> list[int]:
        """The processes that the program has started: should be none, and is where seccomp refuses them."""
        if self.wrapped:
            found = descendants_of(self.process.pid)[1:]
        else:
            found = processes_of({self.user}) if self.user is not None else marked(self.mark)
        return sorted({*found, *children_of(program)} - {program})  # its own children also when they have ended

    def littered(self) -> int:
        """Bytes in its folder for files."""
        if self.scratch is None:
            return 0
        size = 0
        for folder, _, names in os.walk(self.scratch):
            for name in names:
                with suppress(OSError):  # removed meanwhile
                    size += os.lstat(os.path.join(folder, name)).st_size
        return size

    def end(self) -> int:
        """Kill it and all it started, remove what it wrote; returns the exit status as subprocess counts it."""
        if self.process.poll() is None:
            self.process.kill()
        status = self.process.wait()
        if self.user is not None and not self.wrapped:
            end_users({self.user})
            remove_files({self.user})
            note("user", self.user)
        elif self.mark:
            end_marked(self.mark)
            note("mark", self.mark)
        if self.scratch is not None:
            shutil.rmtree(self.scratch, ignore_errors=True)
        self.user, self.mark, self.scratch = None, "", None
        return status


@dataclass(frozen=True)
class Sandbox:
    """One of the three ways, with the interpreter it uses."""

    backend: str
    python: Interpreter
    seals_files: bool = True  # the locks that hold (grader.confine)
    refuses_processes: bool = True
    lacks: str = ""  # one line: what is not protected
    as_root: bool = field(default_factory=lambda: os.geteuid() == 0)

    @property
    def private(self) -> bool:
        """Whether programs started side by side cannot exchange anything."""
        return self.backend == "bubblewrap"

    @property
    def as_other_user(self) -> bool:
        """Whether programs run as another user than ours."""
        return self.as_root and self.backend != "limits"

    def locks(self, visible: Iterable[str | os.PathLike]) -> dict:
        """What a program has to know to put its locks on, beside its HOME, the one folder it may write to."""
        parent = 0 if self.private else os.getpid()
        readable = [*self.python.files, *map(str, visible)] if self.seals_files else None
        return {"parent": parent, "readable": readable, "paths": list(self.python.packages)}

    def start(
        self,
        arguments: list[str],
        visible: Iterable[str | os.PathLike] = (),
        cpus: Iterable[int] | None = None,
        limits: Limits | None = None,
        pass_fds: Iterable[int] = (),
        stdin: int = subprocess.DEVNULL,
    ) -> Started:
        """Start Python with these arguments; `visible` are more files and folders it may read. Raises SandboxError."""
        limits = limits or Limits()
        user = FIRST_USER + secrets.randbelow(USERS) if self.as_other_user else None
        mark = secrets.token_hex(8) if self.backend == "limits" else ""
        command = [*self.wrapping(visible, user, limits), *self.python.command, *arguments]
        mine = 0 if user is not None else own_tasks() + limits.others
        cores = list(cpus or ())

        def prepare() -> None:
            if cores:
                os.sched_setaffinity(0, cores)
            os.umask(0o077)
            limits.apply(mine)

        scratch = None
        try:
            if not self.private:
                note(*(("user", user) if user is not None else ("mark", mark)))
                scratch = scratch_folder(user)
            process = subprocess.Popen(
                command, env=self.environment(scratch, mark), cwd=scratch or "/",
                stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                pass_fds=tuple(pass_fds), preexec_fn=prepare, start_new_session=True,
            )  # fmt: skip
        except (OSError, subprocess.SubprocessError) as error:
            if scratch is not None:
                shutil.rmtree(scratch, ignore_errors=True)
            raise SandboxError(f"{os.path.basename(command[0])} cannot be started: {error}") from None
        return Started(process, user, mark, self.private, scratch)

    def wrapping(self, visible: Iterable[str | os.PathLike], user: int | None, limits: Limits) -> list[str]:
        """The command line up to the program. Raises SandboxError."""
        if self.backend == "bubblewrap":
            return self.bubblewrap([*self.python.files, *map(str, visible)], user, limits)
        return as_user(user) if self.backend == "other-user" else []

    def environment(self, scratch: Path | None, mark: str) -> dict[str, str]:
        """The clean environment: one BLAS thread, a place for temporary files, nothing of the caller's but what decides
        which code BLAS runs: lab.kernels has chosen for that one.
        """
        place = str(scratch or "/tmp")
        environment = {
            **dict.fromkeys(BLAS_THREAD_VARIABLES, "1"),
            **{"PATH": PATH, "HOME": place, "TMPDIR": place, "LANG": "C.UTF-8"},
            "GPT_KERNELS": kernel_choice(),  # one choice for all programs that are compared
            **{name: os.environ[name] for name in BLAS_KIND if name in os.environ},
            **{"LD_LIBRARY_PATH": self.python.library_path, MARK: mark},
        }
        return {name: value for name, value in environment.items() if value}

    def bubblewrap(self, visible: list[str], user: int | None, limits: Limits) -> list[str]:
        """The same where bubblewrap runs it. Raises SandboxError."""
        line = [
            *(tool("bwrap"), "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts"),
            *("--unshare-cgroup-try", "--die-with-parent", "--new-session", "--hostname", "grader"),
            *("--perms", "0755", "--tmpfs", "/", "--proc", "/proc", "--dev", "/dev"),
            *("--perms", "0555", "--size", "4096", "--tmpfs", "/dev/shm"),
            *("--perms", "1777", "--size", str(limits.tmp_size), "--tmpfs", "/tmp"),
        ]
        made, shown = {"/proc", "/dev", "/tmp"}, []
        everything = {*visible, *([tool("setpriv")] if user is not None else [])}
        for path in sorted(everything, key=lambda path: (path.count("/"), path)):
            if any(path == other or path.startswith(f"{other}/") for other in shown):
                continue
            for folder in reversed(Path(path).parents):
                if str(folder) != "/" and str(folder) not in made:  # else bubblewrap makes it for root alone
                    line += ["--perms", "0755", "--dir", str(folder)]
                    made.add(str(folder))
            line += ["--symlink", os.readlink(path), path] if os.path.islink(path) else ["--ro-bind", path, path]
            shown.append(path)
        line += ["--remount-ro", "/dev/shm", "--remount-ro", "/dev", "--remount-ro", "/", "--chdir", "/tmp"]
        line += ["--cap-drop", "ALL"]
        if user is None:
            return [*line, "--unshare-user", "--"]
        line += ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID", "--cap-add", "CAP_SETPCAP"]
        return [*line, "--", *as_user(user)]

    def readable(self, path: Path, folder: Path) -> Path:
        """This file where programs can read it: itself, or a copy in a folder of the grader's. Raises OSError."""
        path = path.resolve()
        if not self.as_other_user or reachable(path):
            return path
        copy = Path(tempfile.mkdtemp(dir=folder), path.name)
        shutil.copyfile(path, copy)
        with copy.open("rb") as file:
            evict(file)
        open_to_all(copy.parent)
        return copy

    def trial(self) -> dict:
        """Whether a program starts and has the packages: what it saw. Raises SandboxError with the reason if not."""
        started = self.start(["-c", CONFINE.read_text() + TRIAL, json.dumps(self.locks([]))])
        try:
            out, err = started.process.communicate(timeout=TRIAL_SECONDS)
        except subprocess.TimeoutExpired:
            raise SandboxError("the trial run does not end") from None
        finally:
            expected = started.user if started.user is not None else os.getuid()
            status = started.end()
        last = err.decode(errors="replace").strip().splitlines()[-1:] or [f"exit status {status}"]
        try:
            found = json.loads(out)
            ours = (found["user"], found["version"], found["sum"]) == (expected, np.__version__, 4.0)
        except (ValueError, KeyError, TypeError):
            raise SandboxError(last[0][:300]) from None
        if not ours or not found["numpy"].startswith(self.python.packages):
            raise SandboxError(f"the trial run has another user or another numpy: {found}")
        return found


def scratch_folder(user: int | None) -> Path:
    """A new folder for a program's files, its user's own. Raises OSError."""
    folder = Path(tempfile.mkdtemp(prefix="run-", dir=home()))
    if user is not None:
        os.chown(folder, user, user)
    return folder


def as_user(user: int | None) -> list[str]:
    """The command line up to a program that runs as that user, without privileges. Raises SandboxError."""
    return [tool("setpriv"), f"--reuid={user}", f"--regid={user}", *UNPRIVILEGED, "--"]


def tool(name: str) -> str:
    """Where a program is. Raises SandboxError."""
    path = shutil.which(name) or shutil.which(name, path=PATH)
    if path is None:
        raise SandboxError(f"{'bubblewrap' if name == 'bwrap' else name} is not installed")
    return path


# ------------------------------------------------------------------------------------------------------------ choosing

BACKENDS = ("bubblewrap", "other-user", "limits")
NEEDS_LINUX = "the grader needs Linux: it watches programs through /proc (a container or WSL will do)"


def choose(wanted: str | None = None, required: bool = False) -> Sandbox:
    """The best backend that works, or the one wanted. Raises SandboxError; with `required` limits alone will not do."""
    if sys.platform != "linux":
        raise SandboxError(NEEDS_LINUX)
    try:
        kernel_choice()
    except ValueError as error:
        raise SandboxError(str(error)) from None
    reasons = []
    for backend in BACKENDS if wanted is None else (wanted,):
        try:
            sandbox = working(backend)
        except SandboxError as error:
            reasons.append(f"{backend}: {error}")
            continue
        if required and backend == "limits" and not (sandbox.seals_files and sandbox.refuses_processes):
            reasons.append("limits alone are not a sandbox")
            break
        return replace(sandbox, lacks=lacking(sandbox, reasons))
    hint = "" if shutil.which("bwrap") or not required else ". Install it: sudo apt install bubblewrap"
    raise SandboxError(f"no sandbox works here ({'; '.join(reasons)}){hint}")


def working(backend: str) -> Sandbox:
    """A backend after its trial, with its own interpreter or a copy, with the locks that hold. Raises SandboxError."""
    if backend == "other-user" and os.geteuid() != 0:
        raise SandboxError("only root can become another user")
    reason: SandboxError | None = None
    try:
        for python in (interpreter.own, interpreter.copied):
            for sealed in (True, False):
                try:
                    sandbox = Sandbox(backend, python(), seals_files=sealed)
                    found = sandbox.trial()
                except SandboxError as error:
                    reason = reason or error
                    continue
                return replace(sandbox, seals_files=found["seals_files"], refuses_processes=found["refuses_processes"])
            if not sandbox.as_other_user:
                break
    except OSError as error:
        reason = SandboxError(f"{reason or 'it does not start'}; {error}")
    raise reason or SandboxError("it does not start")


def lacking(sandbox: Sandbox, reasons: list[str]) -> str:
    """What is not protected, one line; "" for bubblewrap with its locks."""
    gaps = []
    if not sandbox.seals_files:
        others = {"bubblewrap": [], "other-user": ["what every user of this machine may read or write"]}
        gaps += others.get(sandbox.backend, ["your files", "the results of this run"])
    if not sandbox.refuses_processes:
        gaps += ["processes it starts are found, not refused", *([] if sandbox.private else ["the network"])]
    if sandbox.private and not gaps:
        return ""
    what = f"not protected: {', '.join(gaps)}" if gaps else "protected by seccomp and Landlock"
    copy = ", with a copy of the interpreter, since another user cannot read this one"
    return what + (copy if sandbox.python.library_path else "") + (f" ({'; '.join(reasons)})" if reasons else "")


def own_tasks() -> int:
    """How many threads this user runs: a limit on processes counts them as well."""
    count = 0
    for pid in processes():
        with suppress(OSError):
            if os.stat(f"/proc/{pid}").st_uid == os.getuid():
                count += len(os.listdir(f"/proc/{pid}/task"))
    return count
