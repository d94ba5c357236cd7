"""Who may do what: the ways to start a program that is not trusted.

    bubblewrap   no network, own process and file namespaces: the program sees the interpreter, its packages, the given
                 part of the lab and the model, all read-only, and a small private /tmp. Started by root, it runs as a
                 real other user inside: a limit on processes does not bind root, nor who is root outside a namespace.
    other-user   for containers that forbid namespaces: a user id of its own, without privileges, killed with all its
                 processes.
    limits       neither is possible: limits on memory, processes, files and time, as the same user. Not for files of
                 others.

All three: a clean environment, `python -I`, BLAS on one thread, the CPU affinity asked for, limits (setrlimit),
pipes for results. A backend counts as present when a trial run works. `choose()` finds the best one.
"""

import hashlib
import json
import os
import resource
import secrets
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path

from grader.access import open_to_all, reachable
from lab import BLAS_THREAD_VARIABLES

MB = 1 << 20
PACKAGES = ("numpy", "numpy.libs")  # of the virtual environment, what a submission needs ...
PACKAGES += (
    "rich",
    "pygments",
    "markdown_it",
    "mdurl",
    "psutil",
    "threadpoolctl.py",
)  # ... and lab.check and lab.measure
SYSTEM = ("/usr/lib", "/usr/lib64", "/usr/lib32", "/usr/libexec", "/lib", "/lib64", "/lib32")  # shared libraries
SETTINGS = {  # setpriv's options that leave a user id nothing to climb back with
    True: ["--clear-groups", "--no-new-privs", "--inh-caps=-all", "--bounding-set=-all"],
}
TRIAL_SECONDS = 20.0


class SandboxError(Exception):
    """No program can be started as asked; the message is one line and says why."""


@dataclass(frozen=True)
class Limits:
    """What a program gets (setrlimit, and what the parent enforces)."""

    memory: int = 2048 * MB  # address space
    processes: int = 64  # processes and threads of its user
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
    user: int | None  # its own user id, if it got one
    wrapped: bool  # process is bubblewrap; the program is a descendant

    def program(self) -> int | None:
        """The process id of the program itself, seen from here; None while there is none."""
        pid = self.process.pid
        if not self.wrapped:
            return pid
        while children := children_of(pid):  # bubblewrap, its init, the program
            pid = children[0]
        return pid if pid != self.process.pid else None

    def end(self) -> int:
        """Kill it and all it started; returns the exit status as subprocess counts it."""
        if self.process.poll() is None:
            self.process.kill()
        status = self.process.wait()
        if self.user is not None and not self.wrapped:
            end_user(self.user)
            remove_files(self.user)
        return status


@dataclass(frozen=True)
class Sandbox:
    """One of the three ways, with the interpreter it uses and the folders it shows."""

    backend: str
    interpreter: str
    paths: tuple[str, ...]  # folders with the packages, for sys.path
    visible: tuple[str, ...]  # bound read-only (bubblewrap)
    lacks: str = ""  # one line: what is not protected
    library_path: str = ""
    as_root: bool = field(default_factory=lambda: os.geteuid() == 0)

    @property
    def private(self) -> bool:
        """Whether programs started side by side cannot exchange anything."""
        return self.backend == "bubblewrap"

    @property
    def as_other_user(self) -> bool:
        """Whether programs run as another user than ours."""
        return self.as_root and self.backend != "limits"

    def start(
        self,
        arguments: list[str],
        visible: Iterable[str | os.PathLike] = (),
        cpus: Iterable[int] | None = None,
        limits: Limits | None = None,
        pass_fds: Iterable[int] = (),
        stdin: int = subprocess.DEVNULL,
        stdout: int = subprocess.PIPE,
        stderr: int = subprocess.PIPE,
    ) -> Started:
        """Start `python -I -B arguments...`; `visible` are more files and folders it may read. Raises SandboxError."""
        limits = limits or Limits()
        user = fresh_user() if self.as_other_user else None
        command = [self.interpreter, "-I", "-B", *arguments]
        if self.backend == "bubblewrap":
            command = self.bubblewrap([*self.visible, *map(str, visible)], user, limits) + command
        elif self.backend == "other-user":
            command = ["setpriv", f"--reuid={user}", f"--regid={user}", *SETTINGS[True], "--", *command]
        cores = sorted(cpus) if cpus is not None else None
        mine = 0 if user is not None else own_tasks()

        def prepare() -> None:
            if cores:
                os.sched_setaffinity(0, cores)
            limits.apply(mine)

        try:
            process = subprocess.Popen(
                command, env=self.environment(), cwd="/", stdin=stdin, stdout=stdout, stderr=stderr,
                pass_fds=tuple(pass_fds),
                preexec_fn=prepare, start_new_session=True,
            )  # fmt: skip
        except (OSError, subprocess.SubprocessError) as error:
            raise SandboxError(f"{command[0]} cannot be started: {error}") from None
        return Started(process, user, self.backend == "bubblewrap")

    def environment(self) -> dict[str, str]:
        """The clean environment: one BLAS thread, a place for temporary files, nothing of the caller's."""
        environment = dict.fromkeys(BLAS_THREAD_VARIABLES, "1")
        environment |= {"PATH": "/usr/bin:/bin", "HOME": "/tmp", "LANG": "C.UTF-8"}
        if self.library_path:
            environment["LD_LIBRARY_PATH"] = self.library_path
        return environment

    def bubblewrap(self, visible: list[str], user: int | None, limits: Limits) -> list[str]:
        """The command line up to the program."""
        line = ["bwrap", "--unshare-ipc", "--unshare-pid", "--unshare-net", "--unshare-uts", "--unshare-cgroup-try"]
        line += ["--die-with-parent", "--new-session", "--hostname", "grader", "--perms", "0755", "--tmpfs", "/"]
        line += ["--proc", "/proc", "--dev", "/dev", "--perms", "0555", "--size", "4096", "--tmpfs", "/dev/shm"]
        line += ["--perms", "1777", "--size", str(limits.tmp_size), "--tmpfs", "/tmp"]
        made = {"/proc", "/dev", "/tmp"}
        everything = list(dict.fromkeys([*visible, *(["/usr/bin/setpriv"] if user is not None else [])]))
        shown: list[str] = []
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
        if user is None:
            return [*line, "--unshare-user", "--cap-drop", "ALL", "--"]
        line += [
            "--cap-drop",
            "ALL",
            "--cap-add",
            "CAP_SETUID",
            "--cap-add",
            "CAP_SETGID",
            "--cap-add",
            "CAP_SETPCAP",
            "--",
        ]
        return [*line, "/usr/bin/setpriv", f"--reuid={user}", f"--regid={user}", *SETTINGS[True], "--"]

    def works(self) -> str:
        """ "" if a trial run works, else why not, one line."""
        trial = "import numpy, os; print(os.getuid(), numpy.ones(4).sum())"
        code = f"import sys; sys.path[:0] = {list(self.paths)!r}; {trial}"
        try:
            started = self.start(["-c", code])
        except SandboxError as error:
            return str(error)
        try:
            out, err = started.process.communicate(timeout=TRIAL_SECONDS)
        except subprocess.TimeoutExpired:
            return "the trial run does not end"
        finally:
            status = started.end()
        expected = started.user if started.user is not None else os.getuid()
        if status == 0 and out.split() == [str(expected).encode(), b"4.0"]:
            return ""
        last = err.decode(errors="replace").strip().splitlines()[-1:] or [f"exit status {status}"]
        return last[0][:200]


# ------------------------------------------------------------------------------------------------------------ choosing

BACKENDS = ("bubblewrap", "other-user", "limits")


def choose(wanted: str | None = None, required: bool = False) -> Sandbox:
    """The best backend that works, or the one wanted. Raises SandboxError; `required` refuses the last one."""
    reasons = []
    for backend in BACKENDS if wanted is None else (wanted,):
        if backend == "limits" and required:
            reasons.append("limits alone are no sandbox")
            break
        sandbox, reason = candidate(backend)
        reason = reason or sandbox.works()
        if not reason:
            return replace(sandbox, lacks=lacking(backend, sandbox, reasons))
        reasons.append(f"{backend}: {reason}")
    raise SandboxError("no sandbox works here (" + "; ".join(reasons) + ")" + (install_hint() if required else ""))


def install_hint() -> str:
    """What to do about a missing bubblewrap."""
    return "" if shutil.which("bwrap") else ". Install it: sudo apt install bubblewrap"


def lacking(backend: str, sandbox: Sandbox, reasons: list[str]) -> str:
    """What is not protected, one line; "" for bubblewrap."""
    why = f" ({'; '.join(reasons)})" if reasons else ""
    copied = (
        ", with a copy of the interpreter, which lies where another user cannot reach it"
        if sandbox.library_path
        else ""
    )
    return {
        "bubblewrap": "",
        "other-user": f"not protected: the network, and what every user of this machine may read or write{copied}{why}",
        "limits": f"not protected: your files, the network, the results of this run; there are only limits{why}",
    }[backend]


def candidate(backend: str) -> tuple[Sandbox, str]:
    """The backend for this interpreter, and why it cannot be ("" if it may)."""
    interpreter, prefix = base_interpreter(), sys.base_prefix
    packages = package_files()
    paths = tuple(dict.fromkeys(str(path.parent) for path in packages))
    visible = [*(path for path in SYSTEM if os.path.lexists(path)), *map(str, packages)]
    visible += [str(path) for path in interpreter_files(interpreter, prefix)]
    sandbox = Sandbox(backend, interpreter, paths, tuple(visible))
    if backend == "bubblewrap":
        if not shutil.which("bwrap"):
            return sandbox, "bubblewrap is not installed"
        if os.geteuid() == 0 and not os.path.exists("/usr/bin/setpriv"):
            return sandbox, "setpriv is not installed"
    if backend == "other-user":
        if os.geteuid() != 0:
            return sandbox, "only root can become another user"
        if not shutil.which("setpriv"):
            return sandbox, "setpriv is not installed"
        if not all(reachable(Path(path)) for path in (interpreter, *packages)):
            try:
                return copied(sandbox, prefix, packages), ""
            except OSError as error:
                return sandbox, f"the interpreter cannot be copied to where another user can reach it: {error}"
    return sandbox, ""


def base_interpreter() -> str:
    """The interpreter itself, without the virtual environment around it (its packages are named one by one)."""
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    beside = Path(sys.base_prefix) / "bin" / name
    return str(beside.resolve() if beside.exists() else Path(sys.executable).resolve())


def interpreter_files(interpreter: str, prefix: str) -> list[Path]:
    """What the interpreter needs to run: itself, its library, the standard library."""
    libraries = [Path(sysconfig.get_config_var("LIBDIR") or "/", sysconfig.get_config_var("INSTSONAME") or "-")]
    wanted = [
        Path(interpreter),
        Path(prefix, "bin", Path(interpreter).name),
        Path(sysconfig.get_path("stdlib", vars={"base": prefix})),
        *libraries,
    ]
    return [path for path in dict.fromkeys(wanted) if path.exists()]


def package_files() -> list[Path]:
    """The folders of the packages a submission needs."""
    import numpy

    site = Path(numpy.__file__).resolve().parents[1]
    return [site / name for name in PACKAGES if (site / name).exists()]


def copied(sandbox: Sandbox, prefix: str, packages: list[Path]) -> Sandbox:
    """The same with a copy of interpreter and packages in a folder that every user can read and only root can write."""
    stamp = hashlib.sha256(json.dumps([prefix, sys.version, [str(p) for p in packages]]).encode()).hexdigest()[:12]
    home = Path("/var/tmp") / f"grader-python-{stamp}"
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    if home.exists() and (home.is_symlink() or home.stat().st_uid != 0 or home.stat().st_mode & 0o022):
        raise OSError(f"{home} is not root's own")
    if not home.exists():
        made = Path(tempfile.mkdtemp(prefix=home.name, dir=home.parent))
        (made / "bin").mkdir()
        shutil.copy2(sandbox.interpreter, made / "bin" / version)
        skip = shutil.ignore_patterns(
            "test", "tests", "site-packages", "idlelib", "tkinter", "ensurepip", "lib2to3", "config-*"
        )
        shutil.copytree(Path(prefix, "lib", version), made / "lib" / version, ignore=skip, symlinks=True)
        for library in Path(prefix, "lib").glob("libpython*.so*"):
            shutil.copy2(library, made / "lib" / library.name)
        for package in packages:
            target = made / "packages" / package.name
            target.parent.mkdir(exist_ok=True)
            if package.is_dir():
                shutil.copytree(package, target, ignore=shutil.ignore_patterns("tests"))
            else:
                shutil.copy2(package, target)
        open_to_all(made)
        (made / "bin" / version).chmod(0o755)
        try:
            made.rename(home)
        except OSError:
            shutil.rmtree(made)
            if not home.exists():
                raise
    return replace(
        sandbox, interpreter=str(home / "bin" / version), paths=(str(home / "packages"),),
        library_path=str(home / "lib"),
        visible=(*sandbox.visible, str(home)),
    )  # fmt: skip


# ---------------------------------------------------------------------------------------------------- users, processes


def fresh_user() -> int:
    """A user id nobody has, another one each time, so that limits and kills meet this program alone."""
    return 600_000_000 + secrets.randbelow(1_000_000_000)


def own_tasks() -> int:
    """How many threads this user runs: a limit on processes counts them as well."""
    uid, count = os.getuid(), 0
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            try:
                if entry.stat().st_uid == uid:
                    count += len(os.listdir(f"/proc/{entry.name}/task"))
            except OSError:
                continue
    return count


def end_user(user: int) -> None:
    """Kill every process of a user id of our own making."""
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setresgid(user, user, user)
            os.setresuid(user, user, user)
            os.kill(-1, signal.SIGKILL)
        finally:
            os._exit(0)
    os.waitpid(child, 0)


def remove_files(user: int) -> None:
    """Remove what a user id of our own making left in the folders where everybody may write."""
    for folder in ("/tmp", "/var/tmp", "/dev/shm"):
        for entry in os.scandir(folder) if os.path.isdir(folder) else ():
            with suppress(OSError):
                if entry.stat(follow_symlinks=False).st_uid != user:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    shutil.rmtree(entry.path)
                else:
                    os.unlink(entry.path)


def children_of(pid: int) -> list[int]:
    """The children of a process's main thread."""
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except (OSError, ValueError):
        return []


def limits_bind(sandbox: Sandbox) -> bool:
    """A harmless probe: are 40 short-lived processes refused under a limit of 20, and 300 MB under a limit of 256?"""
    probe = (
        "import os, sys\n"
        "r, w = os.pipe()\n"
        "made = 0\n"
        "try:\n"
        "    for _ in range(40):\n"
        "        if os.fork() == 0:\n"
        "            os.close(w)\n"
        "            os.read(r, 1)\n"
        "            os._exit(0)\n"
        "        made += 1\n"
        "except OSError:\n"
        "    pass\n"
        "os.close(w)\n"
        "try:\n"
        "    bytearray(300 << 20)\n"
        "    print('memory free', made)\n"
        "except MemoryError:\n"
        "    print('memory bound', made)\n"
    )
    started = sandbox.start(["-c", probe], limits=Limits(memory=256 * MB, processes=20))
    try:
        out, _ = started.process.communicate(timeout=TRIAL_SECONDS)
    except subprocess.TimeoutExpired:
        out = b""
    finally:
        started.end()
    words = out.decode(errors="replace").split()
    return words[:2] == ["memory", "bound"] and int(words[2]) < 25
