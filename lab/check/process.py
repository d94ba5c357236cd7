"""A whole process in checked mode: any program, as it is, with its own arguments."""

import atexit
import os
import sys

from lab import threadlib
from lab.check.checked import Checked
from lab.check.report import Finding


def install() -> Checked:
    """Make checked mode the runtime of this process. A thread error ends it with exit code 4 (one that can wait, at its
    end)."""
    shown: list[Finding] = []
    leave = os._exit

    def report(finding: Finding) -> None:
        shown.append(finding)
        sys.stdout.flush()
        text = f"{finding.kind}: {finding.text()}"
        print(f"\nchecked mode: {text}", file=sys.stderr, flush=True)
        if finding.kind != "order":
            leave(4)

    def at_exit() -> None:
        left = threadlib.threads()
        if left and runtime.failure is None and not shown:
            names = ", ".join(thread.name for thread in left)
            report(Finding("unjoined", f"the program is over, but nobody has joined {names}", tool="checked"))
        if shown:
            sys.stdout.flush()
            leave(4)

    os._exit = lambda code: leave(4 if shown else code)  # type: ignore[assignment]
    runtime = Checked(report)
    threadlib.install(runtime)
    atexit.register(at_exit)
    return runtime
