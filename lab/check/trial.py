"""One program in checked mode, a few times, in this process."""

import sys
import threading
import time
from types import ModuleType

import numpy as np

from lab import threadlib
from lab.check import tiny
from lab.check.checked import Checked, CheckFailed, at
from lab.check.names import calls, outside
from lab.check.picture import folded
from lab.check.program import NoExit, Program, unheard
from lab.check.report import Finding, Findings, listed, place
from lab.command import counted
from lab.threadlib import WorkerFailed


def check_program(program: Program, workers: int, repeats: int, seconds: float) -> Findings:
    """Run a program a few times in checked mode, in this process, for at most `seconds` in all; stops at the first
    error."""
    result = Findings(program.name, "checked", workers, findings=program.refused())
    if result.findings:
        return result
    begin = time.perf_counter()
    with program.alone(), unheard():
        repeat(program, workers, repeats, begin + seconds, result)
    result.seconds = time.perf_counter() - begin
    if result.ok:
        result.notes.append(f"nothing found in {counted(repeats, 'run')} with real threads; see also: explore, races")
    return result


def repeat(program: Program, workers: int, repeats: int, until: float, result: Findings) -> None:
    """One run after the other, until one finds something or the time is over."""
    seconds = until - time.perf_counter()
    for _ in range(repeats):
        result.schedules += 1
        late = threading.Event()
        once = threading.Thread(target=run_once, args=(program, workers, result, late), name="main", daemon=True)
        once.start()
        once.join(max(0.1, until - time.perf_counter()))
        if once.is_alive() and result.ok:
            result.findings.append(still_running(program, seconds))
            late.set()
            once.join(2 * threadlib.ABANDON_AFTER)  # it puts back the runtime
        if result.findings:
            break


def still_running(program: Program, seconds: float) -> Finding:
    """Not stalled, and yet without end."""
    names = {thread.ident: thread.name for thread in threading.enumerate()}
    words, where = [], []
    for ident, frame in sys._current_frames().items():
        own = next((one for one in calls(frame) if one.f_code.co_filename == program.file), None)
        if own is not None and ident in names:
            where.append(place(program.file, own.f_lineno))
            words.append(f"{names[ident]} is at {where[-1]}")
    return Finding(
        "livelock", f"no end after {seconds:.0f} seconds: {', '.join(sorted(words))}", where=where, tool="checked"
    )


def run_once(program: Program, workers: int, result: Findings, late: threading.Event) -> None:
    """One run. Once `late` is set, threads that go round a loop are ended."""

    def loop(line: int, weight: int) -> bool:
        if late.is_set():
            raise CheckFailed("late")
        return True

    def leave(call: str, does: str) -> None:
        frame = outside(sys._getframe(1))
        site = place(frame.f_code.co_filename, frame.f_lineno)
        runtime.stop("contract", f"the program {does} at {site} by {call}", where=[site])

    def report(finding: Finding) -> None:
        if not late.is_set():
            result.findings.append(finding)

    runtime, module = Checked(report), None
    try:
        program.begin_anew()
        with threadlib.use(runtime):
            module = program.fresh({"__loop__": loop}, False, False, {"os": NoExit(leave)})
            drive(program, module, workers, len(runtime.spawned), result)
            if runtime.failure is None and not late.is_set():
                look_for_unjoined(runtime, result)
    except CheckFailed:
        pass
    except WorkerFailed as failure:
        if not isinstance(failure.__cause__, CheckFailed):
            add_exception(program, failure.__cause__ or failure, result)
    except (Exception, SystemExit) as exception:
        if not runtime.spawned and (module is None or isinstance(exception, SystemExit)):
            result.findings.append(program.cannot_be_run(exception))
        else:
            add_exception(program, exception, result)


def drive(program: Program, module: ModuleType, workers: int, started: int, result: Findings) -> None:
    """Run main(), or generate() on the tiny model; `started`: the threads it has started when it was executed."""
    if program.entry == "main":
        program.run_main(module, started)()
        return
    for case in (tiny.CASES[0], tiny.CASES[3], tiny.CASES[4]):
        model = tiny.fresh_model(np.zeros(tiny.acts_size(case.n), dtype=np.float32))
        tokens = [int(token) for token in module.generate(model, list(case.prompt), case.n, workers)]
        expected = list(tiny.expected(case).tokens)
        if tokens != expected:
            result.findings.append(Finding("tokens", f"tokens {tokens} instead of serial's {expected}", tool="checked"))
        if threadlib.threads():
            break


def look_for_unjoined(runtime: Checked, result: Findings) -> None:
    """At the end of a program every thread has been joined."""
    names: dict[str, list[str]] = {}
    for thread in threadlib.threads():
        state = runtime.spawned[thread].blocked
        names.setdefault(f"waiting at {at(state[2])}" if state else "ended or still running", []).append(thread.name)
    if names:
        words = [f"{listed(those)}, {what}" for what, those in names.items()]
        message = f"the program ended without joining {'; '.join(words)}"
        result.findings.append(Finding("unjoined", message, tool="checked"))


def add_exception(program: Program, exception: BaseException, result: Findings) -> None:
    """The program's own exception."""
    frames = program.frames(exception)
    where = [place(frame.filename, frame.lineno or 0) for frame in reversed(frames)]
    kind = "assertion" if isinstance(exception, AssertionError) else "exception"
    at = f" at {where[0]}" if where else "".join(f" {note}" for note in getattr(exception, "__notes__", ()))
    message = f"{type(exception).__name__}{at}: {exception}"
    detail = "\n".join(
        folded([f"{place(frame.filename, frame.lineno or 0)} in {frame.name}: {frame.line}" for frame in frames])
    )
    for line, inside in sorted(program.bare_waits.items()):
        site = place(program.file, line)
        detail += f"\nthe wait at {site} {inside}: what was true at the signal need not be true after the wait"
        where.append(site)
    result.findings.append(Finding(kind, message, detail, where, tool="checked"))
