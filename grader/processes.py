"""Processes as /proc shows them, and how to end all of a program's, wherever they went."""

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

FIRST_USER, USERS = 600_000_000, 1_000_000_000  # user ids of our own making
KERNEL_THREAD = 0x00200000  # PF_KTHREAD in the kernel's sched.h
MARK = "GRADER_RUN"  # environment variable of a program that has no user id of its own


def processes() -> Iterator[int]:
    """The ids of all processes that can be seen."""
    for entry in os.scandir("/proc"):
        if entry.name.isdigit():
            yield int(entry.name)


def stat_of(task: str) -> list[str]:
    """The fields of /proc/<task>/stat from the state on; none when it has gone or cannot be seen."""
    try:
        return Path(f"/proc/{task}/stat").read_bytes().decode(errors="replace").rpartition(")")[2].split()
    except OSError:
        return []


def alive(pid: int) -> bool:
    """Whether it is there and not a zombie."""
    return stat_of(str(pid))[:1] not in ([], ["Z"], ["X"])


def processes_of(users: set[int]) -> list[int]:
    """The living processes of some user ids."""
    found = []
    for pid in processes():
        with suppress(OSError):
            if os.stat(f"/proc/{pid}").st_uid in users and alive(pid):
                found.append(pid)
    return found


def marked(mark: str) -> list[int]:
    """The living processes that were started with this mark, and what they started."""
    return [pid for pid in processes() if f"{MARK}={mark}".encode() in environment_of(pid) and alive(pid)]


def environment_of(pid: int) -> list[bytes]:
    """What a process was started with, as NAME=VALUE; none when it has gone or cannot be seen. One in the middle of
    execve shows an empty environment for a moment: it gets a second.
    """
    for _ in range(1000):
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:
            return []
        if environment or not starting(pid):
            return environment.split(b"\0")
        time.sleep(0.001)
    return []


def starting(pid: int) -> bool:
    """Whether it is in the middle of execve: it has no environment yet, and is not one of the kernel's own threads."""
    fields = stat_of(str(pid))  # from field 3 of proc_pid_stat(5) on: flags is the 9th, env_end the 51st
    return len(fields) > 48 and fields[0] != "Z" and not int(fields[6]) & KERNEL_THREAD and fields[48] == "0"


def end_users(users: set[int]) -> None:
    """Kill every process of user ids of our own making."""
    for _ in range(5):
        left = {os.stat(f"/proc/{pid}").st_uid for pid in processes_of(users)} if users else ()
        for user in left:
            end_user(user)
        if not left:
            break


def end_user(user: int) -> None:
    """Kill every process of a user id, in one go: as that user, to all it may reach."""
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


def end_marked(mark: str) -> None:
    """Kill every process with a mark."""
    for _ in range(5):
        found = marked(mark)
        for pid in found:
            with suppress(OSError):
                os.kill(pid, signal.SIGKILL)
        if not found:
            break


def state_of(pid: int, tid: str = "") -> str:
    """The state of a process, or of one of its threads, as one letter ("R", "S", "T" for stopped ...); "" when it has
    gone.
    """
    return next(iter(stat_of(f"{pid}/task/{tid}" if tid else str(pid))), "")


def stopped(pid: int) -> bool:
    """Whether every thread of a process is stopped, or has ended."""
    try:
        return all(state_of(pid, tid) in ("T", "Z", "X", "") for tid in os.listdir(f"/proc/{pid}/task"))
    except OSError:
        return True


def ticks_of(pid: int) -> float:
    """CPU seconds of a process from /proc, in hundredths; 0 if they cannot be seen."""
    return sum(int(ticks) for ticks in stat_of(str(pid))[11:13]) / os.sysconf("SC_CLK_TCK")


def children_of(pid: int) -> list[int]:
    """The children of all threads of a process."""
    found = []
    with suppress(OSError, ValueError):
        for task in os.listdir(f"/proc/{pid}/task"):
            found += map(int, Path(f"/proc/{pid}/task/{task}/children").read_text().split())
    return found


def descendants_of(pid: int) -> list[int]:
    """The living children of a process, their children and so on, each before its own."""
    found, left = [], children_of(pid)
    while left:
        child = left.pop(0)
        found += [child] if alive(child) else []
        left += children_of(child)
    return found
