"""What lab.check finds in a submission, run in the sandbox (grader.examiner). Its findings deduct or explain; a clean
report proves and awards nothing."""

import hmac
import json
import os
import secrets
import selectors
import subprocess
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from grader.access import open_to_all
from grader.examiner import KEY
from grader.plain import loads
from grader.processes import ticks_of
from grader.sandbox import Limits, Sandbox, Started
from lab.check.page import page
from lab.check.report import Finding
from lab.pipes import pipe

SCHEDULES, SECONDS, WORKERS = 400, 6.0, 3
OUTPUT_LIMIT = 4 << 20
ENDED = "ends the whole process"  # of a program that leaves by os._exit(): what comes after is not checked
LONGEST_PAGE = 3 << 20
GRACE = 15.0  # seconds more than the checks are given, to start and to end
CONTROL = """\
from lab.threadlib import Semaphore, join, spawn


def generate(model, prompt, n, workers):
    never = Semaphore(0)
    spawn(lambda number: never.P())
    join()
    yield 0
"""


@dataclass
class Findings:
    """All of them, and a line on what was tried."""

    findings: list[Finding] = field(default_factory=list)
    tried: str = ""
    problem: str = ""  # why nothing could be tried, one line
    page: str = ""  # the first schedule that failed, as HTML to step through

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
    """Explore schedules of the submission in `tree`/lab/parallel.py, with the race detector. Raises SandboxError."""
    control = tree / "control" / "parallel.py"
    control.parent.mkdir(exist_ok=True)
    control.write_text(CONTROL)
    open_to_all(control.parent)
    locks, key = sandbox.locks([tree]), secrets.token_bytes(KEY)
    config = {
        **locks, "paths": [str(tree), *locks["paths"]],
        "submission": str(tree / "lab" / "parallel.py"), "control": str(control),
        "how": {"schedules": schedules, "seed": seed, "workers": WORKERS, "seconds": seconds},
    }  # fmt: skip
    arguments = [str(tree / "examiner.py"), json.dumps(config)]
    reading, writing = os.pipe()
    try:
        os.write(writing, key)
        started = sandbox.start(arguments, [tree], limits=Limits(processes=256), stdin=reading)
    finally:
        os.close(reading)
        os.close(writing)
    return read_report(collect(started, 4 * seconds + GRACE), key, seconds)


@dataclass
class Collected:
    """What came of a program."""

    status: int
    out: bytes
    err: bytes
    cpu: float  # seconds, as far as they were seen
    late: bool  # it was ended when its time was over


def collect(started: Started, seconds: float) -> Collected:
    """Output and end of a program, both bounded; it is ended when its time is over."""
    streams = pipe(started.process.stdout), pipe(started.process.stderr)
    buffers = {stream.fileno(): bytearray() for stream in streams}
    selector = selectors.DefaultSelector()
    for fd in buffers:
        os.set_blocking(fd, False)
        selector.register(fd, selectors.EVENT_READ)
    until, cpu = time.monotonic() + seconds, 0.0
    try:
        while selector.get_map() and time.monotonic() < until and sum(map(len, buffers.values())) < OUTPUT_LIMIT:
            for key, _ in selector.select(0.25):
                data = os.read(key.fd, 1 << 16)
                buffers[key.fd] += data
                if not data:
                    selector.unregister(key.fd)
            cpu = max(cpu, ticks_of(started.program() or started.process.pid))
        late = bool(selector.get_map()) and time.monotonic() >= until
        if not selector.get_map():
            with suppress(subprocess.TimeoutExpired):
                started.process.wait(2)
    finally:
        selector.close()
        status = started.end()
        for stream in streams:
            stream.close()
    out, err = buffers.values()
    return Collected(status, bytes(out), bytes(err), cpu, late)


def read_report(seen: Collected, key: bytes, seconds: float) -> Findings:
    """What was found. A report that is not there, that was not signed with the key or that missed the control, means
    that the submission could not be checked, which costs points; but not on a machine that gave it no time.
    """
    signature, _, data = seen.out.rstrip(b"\n").partition(b" ")
    if not hmac.compare_digest(signature, hmac.digest(key, data, "sha256").hex().encode()):
        if seen.late and seen.cpu < seconds:
            return Findings(problem=f"could not be made: in all the time they had only {seen.cpu:.1f} s of a core")
        return unchecked(why_no_report(seen))
    try:
        report = loads(data)
        if "deadlock" not in report["control"]:
            return unchecked("a control, a program known to deadlock, went unnoticed after it")
        found = report["found"]
        if "problem" in found:
            return unchecked(str(found["problem"])[:300])
        findings = [
            Finding(
                str(entry["kind"])[:40],
                str(entry["message"])[:500],
                str(entry.get("detail", ""))[:4000],
                schedule=str(entry.get("schedule", ""))[:400],
            )
            for entry in found["findings"][:50]
        ]
        untold = next((finding for finding in findings if finding.kind == "refused" or ENDED in finding.message), None)
        if untold:
            return unchecked(untold.message)
        tried = (
            f"{int(found['schedules'])} schedules, {int(found['distinct'])} of them different, up to "
            f"{int(found['depth'])} decisions long"
        )
        return Findings(findings, tried, page=page_of(report.get("trace"), found["findings"]))
    except (ValueError, KeyError, TypeError, AttributeError):
        return unchecked("the report cannot be read")


def page_of(trace: object, findings: list) -> str:
    """The schedule that the first finding with one was found in, as a page; "" without, or if it is not a trace:
    it comes from the sandbox."""
    finding = next((finding for finding in findings if finding.get("schedule")), None)
    if not isinstance(trace, dict) or finding is None:
        return ""
    told = {name: finding[name] for name in ("kind", "message", "detail", "where")}
    html = page({**trace, "program": str(trace.get("program")), "file": ""}, told)
    return html if len(html) <= LONGEST_PAGE else ""


def unchecked(why: str) -> Findings:
    """Of a submission that could not be checked."""
    return Findings([Finding("unchecked", f"it could not be checked for thread errors: {why}")])


def why_no_report(seen: Collected) -> str:
    """Why a program that should have reported did not, or not in the right way."""
    if seen.out:
        return "the report does not come from the checks"
    if seen.late:
        return "the checks did not end"
    if len(seen.err) > OUTPUT_LIMIT // 2:
        return "it prints without end"
    last = seen.err.decode(errors="replace").strip().splitlines()[-1:]
    return f"it ended the checks (exit status {seen.status})" + (f": {last[0][:200]}" if last else "")
