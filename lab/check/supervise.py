"""A check in a process of its own, which a second one watches: whatever the program under check does to its process
(a call into C that never returns, os._exit, a crash), the check ends in time and says so."""

import contextlib
import ctypes
import faulthandler
import os
import re
import select
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from typing import IO

from lab.check.report import Finding, place
from lab.command import Stopped, told_if_lost

GRACE = 6.0  # seconds after the limit in which a check ends by itself, unless it hangs


def supervised(run: Callable[[], int], seconds: float, file: str) -> int | Finding:
    """run() in a child process: its exit code; or what became of the child, if run() did not return within `seconds`
    and GRACE. `file` is the program under check."""
    if not hasattr(os, "fork"):
        return run()
    sys.stdout.flush()
    sys.stderr.flush()
    with tempfile.TemporaryFile() as stacks:
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(reading)
            be_child(run, seconds, stacks, writing)
        os.close(writing)
        try:
            finished = wait(reading, child, seconds + GRACE + 2)
        except Stopped:
            raise
        except KeyboardInterrupt:
            finished = wait(reading, child, 2.0)  # by a terminal it was interrupted as well
            if finished is None:
                os.kill(child, signal.SIGINT)
                finished = wait(reading, child, 2.0)
        finally:
            os.close(reading)
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGKILL)
            _pid, status = os.waitpid(child, 0)
        if finished:
            return finished[0]
        if finished is None:
            stacks.seek(0)
            return hung(stacks.read().decode(errors="replace"), seconds, file)
        return died(os.waitstatus_to_exitcode(status))


def be_child(run: Callable[[], int], seconds: float, stacks: IO[bytes], writing: int) -> None:
    """Never returns."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: Linux ends it together with its parent
    faulthandler.dump_traceback_later(seconds + GRACE, file=stacks)
    code = 1
    try:
        code = run()
        sys.stdout.flush()
        code = told_if_lost(sys.stdout, code)
    except BrokenPipeError:
        code = 1
    except Exception:  # _exit would not show it
        traceback.print_exc()
    finally:
        with contextlib.suppress(OSError):
            sys.stderr.flush()
        os.write(writing, bytes([code]))
        os._exit(code)


def wait(reading: int, child: int, seconds: float) -> bytes | None:
    """What the child wrote at its end: its exit code, or b"" if it ended without; None if it has not ended."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        if select.select([reading], [], [], 0.2)[0]:
            return os.read(reading, 1)
        if os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None:
            return os.read(reading, 1) if select.select([reading], [], [], 0)[0] else b""
    return None


def hung(stacks: str, seconds: float, file: str) -> Finding:
    """Where its threads were."""
    found = re.findall(r'File "(.+)", line (\d+) in', stacks)
    sites = list(dict.fromkeys(place(file, int(line)) for name, line in found if name == file))
    at = f", at {' or '.join(sites)}" if sites else ""
    return Finding(
        "livelock",
        f"no end after {seconds:.0f} seconds: a thread is in a call that never returns and blocks all others{at}",
        where=sites,
    )


def died(code: int) -> Finding:
    """The program took the whole process with it."""
    how = f"by signal {-code} ({signal.Signals(-code).name})" if code < 0 else f"with exit code {code}"
    return Finding(
        "contract",
        f"the program has ended the whole process {how}, in the middle of a schedule: nothing after it is checked",
    )
