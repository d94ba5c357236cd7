"""The locks a program puts on itself before it imports a submission; the kernel keeps them, and nothing takes them off.

    die_with_parent()    killed when its parent ends, however that ends
    refuse_processes()   seccomp: one process, its threads, no other program, no signals to others, no network, no locks
                         on files and no look at what is cached of them: those tell others something
    seal_files(...)      Landlock: no file but the ones named can be opened, and nothing written outside HOME
    lock_in(readable)    the last two: what a program does before it imports a submission

It lies beside the harness in the sandbox, where only the standard library is known. Each lock returns False where the
kernel does not have it. Sources: seccomp(2), landlock(7), the kernel's include/uapi/linux.
"""

import ctypes
import errno
import importlib
import os
import platform
import signal
import struct
from collections.abc import Iterable
from contextlib import suppress

PR_SET_PDEATHSIG, PR_SET_SECCOMP, PR_SET_NO_NEW_PRIVS = 1, 22, 38
SECCOMP_MODE_FILTER, CLONE_THREAD = 2, 0x10000
ALLOW, REFUSE, MISSING = 0x7FFF0000, 0x50000 | errno.EPERM, 0x50000 | errno.ENOSYS  # SECCOMP_RET_...
LOAD, EQUAL, AT_LEAST, ANY_BIT, RETURN = 0x20, 0x15, 0x35, 0x45, 0x06  # BPF instructions
NUMBER, ARCHITECTURE, ARGUMENT, SECOND = 0, 4, 16, 24  # offsets in struct seccomp_data; low words of the arguments

# system call -> its number on x86_64 and on aarch64 (None: not there)
CALLS = {
    "fork": (57, None), "vfork": (58, None), "execve": (59, 221), "execveat": (322, 281),
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "pidfd_getfd": (438, 438),
    "kill": (62, 129), "tkill": (200, 130), "rt_sigqueueinfo": (129, 138), "rt_tgsigqueueinfo": (297, 240),
    "pidfd_send_signal": (424, 424), "setsid": (112, 157), "setpgid": (109, 154),
    "socket": (41, 198), "io_uring_setup": (425, 425),
    "shmget": (29, 194), "msgget": (68, 186), "semget": (64, 190), "mq_open": (240, 180), "add_key": (248, 217),
    "unshare": (272, 97), "setns": (308, 268), "bpf": (321, 280), "perf_event_open": (298, 241),
    "flock": (73, 32), "fadvise64": (221, 223), "preadv2": (327, 286), "mincore": (27, 232), "cachestat": (451, 451),
    "inotify_add_watch": (254, 27), "fanotify_init": (300, 262),
}  # fmt: skip
CLONE, CLONE3, TGKILL, FCNTL = (56, 220), (435, 435), (234, 131), (72, 25)
DUPFD_CLOEXEC, LOCKS = 1030, 5  # of fcntl's commands, those from 5 on: locks, leases, signals of them
MACHINES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}  # AUDIT_ARCH_...

CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # Landlock's system calls, the same everywhere
RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15, 5: 16}  # version -> rights on files it knows; later ones know as many as 5
EXECUTE, WRITE_FILE, READ_FILE, READ_DIR, TRUNCATE = 1 << 0, 1 << 1, 1 << 2, 1 << 3, 1 << 14
OF_FILES = EXECUTE | WRITE_FILE | READ_FILE | TRUNCATE | 1 << 15
ALWAYS = ("/proc/self", "/etc/ld.so.cache", "/dev/urandom", "/dev/random", "/dev/zero")

libc = ctypes.CDLL(None, use_errno=True)


def prctl(option: int, value: int, pointer: object = None) -> bool:
    """prctl(2); whether it was done."""
    return libc.prctl(option, ctypes.c_ulong(value), pointer, ctypes.c_ulong(0), ctypes.c_ulong(0)) == 0


def die_with_parent(parent: int) -> None:
    """Be killed when the process `parent` ends (0: whoever it is); ends now if that has ended already."""
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if parent and os.getppid() != parent:
        os._exit(1)


def lock_in(readable: Iterable[str] | None) -> dict[str, bool]:
    """Put all locks on: files but HOME, as far as `readable` names what is left (None: they are not sealed here), and
    processes. Which of them hold.
    """
    sealed = readable is not None and seal_files(readable)
    importlib.invalidate_caches()  # a package that cannot be read is found no more, as if it were not installed
    return {"seals_files": sealed, "refuses_processes": refuse_processes()}


def instruction(code: int, operand: int, otherwise: int = 0) -> bytes:
    """One struct sock_filter; a comparison that fails skips `otherwise` instructions."""
    return struct.pack("=HBBI", code, 0, otherwise, operand)


def refuse(number: int, answer: int = REFUSE) -> bytes:
    """This system call gets this answer."""
    return instruction(EQUAL, number, 1) + instruction(RETURN, answer)


def refuse_unless(number: int, test: int, operand: int) -> bytes:
    """This system call is refused unless its first argument passes the test."""
    return b"".join(
        (
            instruction(EQUAL, number, 4), instruction(LOAD, ARGUMENT), instruction(test, operand, 1),
            instruction(RETURN, ALLOW), instruction(RETURN, REFUSE),
        )
    )  # fmt: skip


def refuse_locks(number: int) -> bytes:
    """fcntl duplicates a descriptor, and reads and sets flags; all else is refused."""
    return b"".join(
        (
            instruction(EQUAL, number, 5), instruction(LOAD, SECOND), instruction(EQUAL, DUPFD_CLOEXEC, 1),
            instruction(RETURN, ALLOW), instruction(AT_LEAST, LOCKS, 1), instruction(RETURN, REFUSE),
        )
    )  # fmt: skip


def program(machine: str) -> bytes:
    """The filter: struct sock_filter[]."""
    column = list(MACHINES).index(machine)
    return b"".join(
        (
            *(instruction(LOAD, ARCHITECTURE), instruction(EQUAL, MACHINES[machine], 1)),
            *(instruction(LOAD, NUMBER), struct.pack("=HBBI", AT_LEAST, 0, 1, 0x40000000)),  # x32's numbers ...
            instruction(RETURN, MISSING),  # ... and other architectures' calls
            *(refuse(numbers[column]) for numbers in CALLS.values() if numbers[column] is not None),
            refuse(CLONE3[column], MISSING),  # its flags lie in memory, where no filter sees them: clone is used then
            refuse_unless(CLONE[column], ANY_BIT, CLONE_THREAD),
            refuse_unless(TGKILL[column], EQUAL, os.getpid()),  # abort() and raise() send to their own process
            refuse_locks(FCNTL[column]),  # the last of all: it leaves the argument in the place of the number
            instruction(RETURN, ALLOW),
        )
    )


def refuse_processes() -> bool:
    """From now on no other process, program, signal to another process or network, for this thread and those it
    starts.
    """
    machine = platform.machine()
    if machine not in MACHINES or not prctl(PR_SET_NO_NEW_PRIVS, 1):
        return False
    code = program(machine)
    buffer = ctypes.create_string_buffer(code, len(code))
    filter_ = struct.pack("@HP", len(code) // 8, ctypes.addressof(buffer))  # struct sock_fprog
    return prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, filter_)


def seal_files(readable: Iterable[str]) -> bool:
    """From now on only these files and folders, with all below them, can be opened, and only HOME written to."""
    version = libc.syscall(CREATE_RULESET, None, 0, 1)
    if version < 1 or not prctl(PR_SET_NO_NEW_PRIVS, 1):
        return False
    everything = (1 << RIGHTS.get(version, RIGHTS[5])) - 1
    network, scopes = 0b11, 0b11  # TCP bind and connect; abstract sockets and signals to others
    fields = [everything, *([network] if version >= 4 else []), *([scopes] if version >= 6 else [])]
    attributes = struct.pack(f"={len(fields)}Q", *fields)
    ruleset = libc.syscall(CREATE_RULESET, attributes, len(attributes), 0)
    if ruleset < 0:
        return False
    reading = EXECUTE | READ_FILE | READ_DIR
    rights = dict.fromkeys((*ALWAYS, *readable), reading) | dict.fromkeys(("/dev/null", os.environ["HOME"]), everything)
    for path, right in rights.items():
        with suppress(FileNotFoundError, PermissionError):
            allow(ruleset, path, right & everything)
    done = libc.syscall(RESTRICT_SELF, ruleset, 0) == 0
    os.close(ruleset)
    return done


def allow(ruleset: int, path: str, right: int) -> None:
    """One rule. Raises OSError."""
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        right = right if os.path.isdir(path) else right & OF_FILES
        rule = struct.pack("=Qi", right, descriptor)  # struct landlock_path_beneath_attr
        if libc.syscall(ADD_RULE, ruleset, 1, rule, 0) != 0:
            number = ctypes.get_errno()
            raise OSError(number, os.strerror(number), path)
    finally:
        os.close(descriptor)
