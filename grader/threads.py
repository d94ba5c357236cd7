"""What lab.check finds in a submission, run in the sandbox. Its findings deduct or explain; a clean report proves and
awards nothing."""

import json
import os
import selectors
import time
from dataclasses import dataclass, field
from pathlib import Path

from grader.sandbox import Limits, Sandbox, Started

SCHEDULES, SECONDS, WORKERS = 400, 6.0, 3
OUTPUT_LIMIT = 4 << 20
RUNNER = """\
import json, os, sys
sys.path[:0] = json.loads(sys.argv[1])
report = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)  # what the submission prints is not the report
from lab.check.api import explore_submission
found = explore_submission(sys.argv[2], **json.loads(sys.argv[3]))
report.write(json.dumps(found.to_json()))
report.flush()
os._exit(0)
"""


@dataclass
class Finding:
    """One thing lab.check says."""

    kind: str
    message: str
    detail: str = ""
    schedule: str = ""


@dataclass
class Findings:
    """All of them, and a line on what was tried."""

    findings: list[Finding] = field(default_factory=list)
    tried: str = ""
    problem: str = ""  # why nothing could be tried, one line

    def worth_points(self, deductions: dict[str, float]) -> list[Finding]:
        """Those that the points table deducts for, the first of each kind."""
        first: dict[str, Finding] = {}
        for finding in self.findings:
            if deductions.get(finding.kind):
                first.setdefault(finding.kind, finding)
        return list(first.values())


def explore(
    sandbox: Sandbox, tree: Path, seed: int = 1, seconds: float = SECONDS, schedules: int = SCHEDULES
) -> Findings:
    """Explore schedules of the submission in `tree`/lab/parallel.py, with the race detector."""
    how = {"schedules": schedules, "seed": seed, "workers": WORKERS, "seconds": seconds}
    paths = [str(tree), *sandbox.paths]
    arguments = [json.dumps(paths), str(tree / "lab" / "parallel.py"), json.dumps(how)]
    started = sandbox.start(["-c", RUNNER, *arguments], [tree], limits=Limits(processes=256))
    status, out, err = collect(started, 4 * seconds + 15)
    return read_report(out, status, err)


def collect(started: Started, seconds: float) -> tuple[int, bytes, bytes]:
    """Exit status and output of a program, both bounded; it is ended when its time is over."""
    buffers = {started.process.stdout.fileno(): bytearray(), started.process.stderr.fileno(): bytearray()}
    selector = selectors.DefaultSelector()
    for fd in buffers:
        os.set_blocking(fd, False)
        selector.register(fd, selectors.EVENT_READ)
    until = time.monotonic() + seconds
    try:
        while selector.get_map() and time.monotonic() < until and sum(map(len, buffers.values())) < OUTPUT_LIMIT:
            for key, _ in selector.select(0.25):
                data = os.read(key.fd, 1 << 16)
                buffers[key.fd] += data
                if not data:
                    selector.unregister(key.fd)
        if not selector.get_map():
            started.process.wait(2)
    except Exception:
        pass
    finally:
        selector.close()
        status = started.end()
        out, err = buffers.values()
        started.process.stdout.close()
        started.process.stderr.close()
    return status, bytes(out), bytes(err)


def read_report(out: bytes, status: int, err: bytes) -> Findings:
    """The JSON object on stdout. It comes out of a process the submission ran in:
    believed only as far as it is well formed.
    """
    try:
        report = json.loads(out.decode())
        found = [
            Finding(
                str(entry["kind"])[:40],
                str(entry["message"])[:500],
                str(entry.get("detail", ""))[:4000],
                str(entry.get("schedule", ""))[:400],
            )
            for entry in report["findings"][:50]
        ]
        tried = (
            f"{int(report['schedules'])} schedules, {int(report['distinct'])} of them different, up to "
            f"{int(report['depth'])} decisions long"
        )
        return Findings(found, tried)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        last = err.decode(errors="replace").strip().splitlines()[-1:] or [f"exit status {status}"]
        return Findings(problem=f"the thread checks gave no report: {last[0][:200]}")
