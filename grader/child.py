"""The parent's side of a sandboxed program: sends prompts, stamps tokens as they arrive, and watches from outside.

Times, CPU times, numbers of threads and all limits are seen from here; nothing of it asks the program.

A program either runs through (`ask`), or takes turns with others (`begin`, then `turn` for each token): between two of
its turns it is stopped (SIGSTOP), and that time does not count.
"""

import json
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from grader.plain import loads
from grader.processes import state_of, stopped, ticks_of
from grader.runs import Run, Use
from grader.sandbox import Limits, Sandbox, SandboxError
from lab.pipes import pipe

KEPT_OUTPUT = 16 << 10  # bytes of what a program prints that are kept
PROTOCOL_LIMIT = 8 << 20  # bytes a program may send as results
POLL = 0.25  # seconds between two looks at a silent program
STOPPING = 10.0  # seconds until a program is stopped: one that waits for the disk takes a while
REFUSED = ("protocol", "processes", "unstoppable")  # words of ours for what a program is ended for


@dataclass
class Patience:
    """How long to wait, in seconds."""

    start: float = 30.0  # for "ready"
    token: float = 20.0  # without a token, while the program computes
    idle: float = 3.0  # without a token, while it does not: every thread waits or sleeps
    total: float = 30.0  # from the prompt on
    cases: float = 45.0  # for all cases together, which the serial program does in a few seconds


class Child(AbstractContextManager["Child"]):
    """A started program, from before "ready" to its end; a context manager that leaves nothing running."""

    def __init__(
        self,
        sandbox: Sandbox,
        tree: Path,
        model: Path | None,
        engine: str = "submission",
        cpus: Iterable[int] | None = None,
        limits: Limits | None = None,
        patience: Patience | None = None,
        kernel: dict | None = None,
    ) -> None:
        self.patience = patience or Patience()
        self.limits = limits or Limits()
        self.sandbox = sandbox
        self.loaded = engine not in ("submission", "watched")  # all it is given; what fails then is its own fault
        self.stdout, self.stderr, self.stack_text = bytearray(), bytearray(), bytearray()
        self.printed_bytes = self.results_bytes = self.threads_at_ready = 0
        self.pending = b""
        self.last = 0  # tokens after which the program waits for us
        self.step = False  # it waits after every token, and is told to go on at once
        self.turns = False  # it waits after every token until its next turn, stopped
        self.pid: int | None = None
        self.begun = 0.0  # the moment (time.perf_counter) from which the current command's time counts
        self.total = 0.0  # seconds waited for the current command
        self.before: tuple[float, dict] = (0.0, {})  # CPU time and tasks() when it was sent
        self.stopped_at = 0.0  # the moment since which it is stopped, if it is
        self.stopped_cpu = 0.0  # its CPU time then
        self.start(tree, model, engine, cpus, kernel or {})

    def start(self, tree: Path, model: Path | None, engine: str, cpus: Iterable[int] | None, kernel: dict) -> None:
        """Start the program; self.commands, self.results and self.stacks are our ends of its pipes."""
        commands_in, self.commands = os.pipe()
        self.results, results_out = os.pipe()
        self.stacks, stacks_out = os.pipe()
        visible = [tree, *([model] if model else [])]
        locks = self.sandbox.locks(visible)
        config = {
            **locks, "paths": [str(tree), *locks["paths"]], "engine": engine, "model": str(model or ""),
            "commands": commands_in, "results": results_out, "stacks": stacks_out, "kernel": kernel,
            "threads": self.limits.processes - 1,
        }  # fmt: skip
        arguments, given = [str(tree / "harness.py"), json.dumps(config)], (commands_in, results_out, stacks_out)
        try:
            self.started = self.sandbox.start(arguments, visible, cpus, self.limits, given)
        except BaseException:
            for fd in (self.commands, self.results, self.stacks):
                os.close(fd)
            raise
        finally:
            for fd in given:
                os.close(fd)
        self.process = self.started.process
        self.out, self.err = pipe(self.process.stdout), pipe(self.process.stderr)
        self.selector = selectors.DefaultSelector()
        kept = {self.stacks: self.stack_text, self.out.fileno(): self.stdout, self.err.fileno(): self.stderr}
        for fd in (self.results, *kept):
            os.set_blocking(fd, False)
            self.selector.register(fd, selectors.EVENT_READ, kept.get(fd))

    def __exit__(self, *exception: object) -> None:
        self.close()

    def close(self) -> int:
        """End the program and all it started; returns its exit status."""
        status = self.started.end()
        self.selector.close()
        for fd in (self.commands, self.results, self.stacks):
            if fd >= 0:
                os.close(fd)
        self.commands = self.results = self.stacks = -1
        self.out.close()
        self.err.close()
        return status

    # ---------------------------------------------------------------------------------------------------------- talking

    def wait_ready(self) -> Run | None:
        """Wait until it is ready; None if so, else a Run that says what happened instead. Raises SandboxError if
        something failed before the submission was imported.
        """
        run = Run([], 0, 0)
        self.follow(run, "ready")
        if run.outcome != "ready":
            if not self.loaded:
                raise SandboxError(f"a program in the sandbox ({self.sandbox.backend}) {self.why_not_loaded(run)}")
            return run
        self.pid = self.started.program()
        self.threads_at_ready = max(0, len(self.tasks()) - 1)
        return None

    def why_not_loaded(self, run: Run) -> str:
        """What kept a program from loading what it is given."""
        if run.outcome in ("hang", "spin", "slow"):
            return f"did not load its model within {self.patience.start:.0f} s: this machine is too slow or too busy"
        last = self.stderr.decode(errors="replace").strip().splitlines()[-1:]
        why = str(run.error[-1]["message"]) if run.error else last[0] if last else f"it ended with status {run.status}"
        return f"cannot load what it is given: {why[:300]}"

    def ask(self, prompt: Sequence[int], n: int, workers: int, **more: Any) -> Run:
        """Send a prompt and follow the program until it is done or something happens; keeps what there is."""
        self.turns, self.step = False, bool(more.get("step"))
        self.last = int(more.get("close_after", 0)) or n - len(prompt)
        return self.command({"prompt": list(prompt), "n": n, "workers": workers, **more}, Run(list(prompt), n, workers))

    def begin(self, prompt: Sequence[int], n: int, workers: int) -> Run:
        """A run that turn() takes token by token; the prompt is sent with its first turn."""
        self.turns, self.step, self.last = True, False, n - len(prompt)
        return Run(list(prompt), n, workers)

    def turn(self, run: Run) -> None:
        """Let the program go on to its next token, and stop it; with the last token, to its end. The run says if
        something else happened.
        """
        if not run.stamps:
            self.send({"prompt": run.prompt, "n": run.n, "workers": run.workers, "step": True}, run)
        else:
            run.ahead += max(0.0, self.cpu_time() - self.stopped_cpu)
            self.begun += time.perf_counter() - self.stopped_at
            with suppress(OSError):  # it has ended: follow() will see it
                self.signal(signal.SIGCONT)
                os.write(self.commands, b"\n")
        if run.outcome == "done":
            self.follow(run, "done" if len(run.tokens) + 1 == self.last else "token")
            run.printed = bytes(self.stdout)

    def pause(self, now: float) -> bool:
        """Stop all its threads; the time from now on does not count. Whether they are."""
        self.stopped_at = now
        with suppress(ProcessLookupError):
            pid = self.signal(signal.SIGSTOP)
            while not stopped(pid):
                if time.perf_counter() - self.stopped_at > STOPPING:
                    return False
        self.stopped_cpu = self.cpu_time()
        return True

    def signal(self, number: signal.Signals) -> int:
        """Send the program a signal; returns its process id. Raises ProcessLookupError if there is none."""
        if self.pid is None:
            raise ProcessLookupError
        os.kill(self.pid, number)
        return self.pid

    def value(self, **command: object) -> object:
        """The answer to a command that makes no tokens (trusted engines only); None if there is none."""
        return self.command(command, Run([], 0, 0)).values.get("value")

    def command(self, command: dict, run: Run) -> Run:
        """Send one command and follow the program through it."""
        self.send(command, run)
        if run.outcome == "done":
            self.follow(run)
            run.printed = bytes(self.stdout)
        return run

    def send(self, command: dict, run: Run) -> None:
        """Send one command; a program that has ended cannot take it, which the run says then."""
        self.stdout.clear()
        self.total = 0.0
        self.before = self.cpu_time(), self.tasks()
        try:
            os.write(self.commands, json.dumps(command).encode() + b"\n")
        except OSError:
            run.outcome = "ended"
            run.status = self.process.wait()
        self.begun = time.perf_counter()

    def follow(self, run: Run, until: str = "done") -> None:
        """Read what comes until that word ("ready", "token" or "done"), or "done"; or until the program has ended or
        has lost our patience, which the run says.
        """
        if until == "ready":
            self.begun, self.total = time.perf_counter(), 0.0
        silent = idle = 0.0  # seconds without a token, without computing
        cpu_then, then = self.cpu_time(), time.perf_counter()
        while (word := self.hear(run, until)) not in (until, "done"):
            if self.over(run, word):
                return
            if word:
                silent = idle = 0.0
            now = time.perf_counter()
            step = min(now - then, 2 * POLL)  # no more: the whole machine may have been stopped for a while
            then, silent, idle, self.total = now, silent + step, idle + step, self.total + step
            cpu = self.cpu_time()
            if cpu > cpu_then + 0.02 * POLL or self.wants_core():
                idle, cpu_then = 0.0, cpu
            if outcome := self.impatience(run, until == "ready", silent, idle):
                run.outcome = outcome
                run.most_threads = max(run.most_threads, len(self.tasks()) - 1)
                run.use.cpu = cpu - self.before[0]
                run.stacks = self.dump()
                run.status = self.started.end()
                return
        if word == "ready":
            run.outcome = "ready"
        elif word == "done":
            run.left_threads = self.left_threads()
            self.drain()

    def hear(self, run: Run, until: str) -> str:
        """Take the lines of results that come within POLL, none after one that is waited for or refused; the word of
        the last one, "" for none.
        """
        word = ""
        for key, _ in self.selector.select(POLL):
            now = time.perf_counter()
            data = self.read(key)
            for line in self.lines(data) if key.fd == self.results else ():
                word = self.take(line, run, now)
                if word == "ready" and until != "ready":
                    word = "protocol"
                if word in (until, "done", *REFUSED):
                    break
        return word

    def impatience(self, run: Run, starting: bool, silent: float, idle: float) -> str:
        """The outcome of a program for which we wait no longer, or ""."""
        late = not starting and self.total > self.patience.total
        longest = self.patience.start if starting else self.patience.token
        if not late and silent <= longest and (starting or idle <= self.patience.idle):
            return ""
        return "slow" if late and run.tokens else "spin" if idle < min(1.0, self.patience.idle) else "hang"

    def over(self, run: Run, word: str) -> bool:
        """Whether the program has ended, or has to be ended for what it sends; the run then says so."""
        if word in REFUSED or self.results_bytes > PROTOCOL_LIMIT:
            run.outcome = word if word in REFUSED else "protocol"
        elif self.printed_bytes > self.limits.output:
            run.outcome = "flood"
        elif self.started.littered() > self.limits.tmp_size:
            run.outcome = "litter"
        elif self.results in self.selector.get_map():
            return False
        else:
            run.outcome = run.outcome if run.error else "ended"
            run.status = self.wait_end()
            return True
        run.status = self.started.end()
        return True

    def take(self, line: bytes, run: Run, now: float) -> str:
        """Note one line of results; returns its first word."""
        word, _, rest = line.partition(b" ")
        if word == b"token" and len(run.tokens) <= run.n:
            if not rest.removeprefix(b"-").isdigit() or len(rest) > 15:
                return "protocol"
            run.tokens.append(int(rest))
            run.stamps.append(now - self.begun)
            if self.turns and len(run.tokens) < self.last and not self.pause(now):
                return "unstoppable"
            if len(run.tokens) <= self.last:  # after the last one threads may have ended already
                self.look(run)
            if not self.sandbox.refuses_processes and self.pid and self.started.strays(self.pid):
                return "processes"
            if len(run.tokens) == self.last or (self.step and len(run.tokens) < self.last):
                with suppress(OSError):
                    os.write(self.commands, b"\n")  # go on: the threads have been looked at
            return "token"
        if word in (b"done", b"ready", b"loaded") and not rest:
            self.loaded = True
            return word.decode()
        try:
            value = loads(rest)
        except ValueError:
            return "protocol"
        if word == b"error" and isinstance(value, list):
            run.outcome, run.error = "error", value
            return "error"
        if word == b"contract":
            run.outcome = "contract"
        if word in (b"contract", b"margins", b"activations", b"recorded", b"value", b"bypass", b"started", b"notes"):
            run.values[word.decode()] = value
            return word.decode()
        return "protocol"

    # --------------------------------------------------------------------------------------------------------- watching

    def look(self, run: Run) -> None:
        """CPU times and threads, at the arrival of a token."""
        if self.pid is None:
            return
        cpu, tasks = self.before
        spent = {
            tid: (use[0] - tasks.get(tid, (0, 0))[0], use[1] - tasks.get(tid, (0, 0))[1])
            for tid, use in sorted(self.tasks().items())
        }
        run.use = Use(self.cpu_time() - cpu, spent.pop(self.pid, (0.0, 0.0)), spent)
        run.uses.append(run.use)
        run.most_threads = max(run.most_threads, len(spent))
        run.fewest_threads = min(len(spent), len(spent) if run.fewest_threads is None else run.fewest_threads)

    def tasks(self) -> dict[int, tuple[float, float]]:
        """Thread id -> (CPU seconds, seconds ready to run without a core), for each living thread."""
        found = {}
        with suppress(OSError, ValueError):  # threads end while we look
            for tid in os.listdir(f"/proc/{self.pid}/task") if self.pid is not None else ():
                cpu, delay, _ = Path(f"/proc/{self.pid}/task/{tid}/schedstat").read_bytes().split()
                found[int(tid)] = (int(cpu) / 1e9, int(delay) / 1e9)
        return found

    def wants_core(self) -> bool:
        """Whether a thread is ready to run, or waits for the disk:
        then the program is not idle, however little it gets.
        """
        pid = self.pid
        try:
            return pid is not None and any(state_of(pid, tid) in ("R", "D") for tid in os.listdir(f"/proc/{pid}/task"))
        except OSError:
            return False

    def cpu_time(self) -> float:
        """CPU seconds of the whole process, threads that have ended included: the kernel's clock of that process."""
        pid = self.pid if self.pid is not None else self.started.program()
        if pid is None:
            return 0.0
        try:
            return time.clock_gettime(~pid << 3 | 2)  # clock_getcpuclockid(3)
        except OSError:
            return ticks_of(pid)

    def left_threads(self) -> int:
        """Threads besides the main one that are still there; they get a moment to end."""
        for _ in range(20):
            left = len(self.tasks()) - 1
            if left <= 0:
                return 0
            time.sleep(0.005)
        return left

    def dump(self) -> str:
        """Ask the interpreter itself (faulthandler) for every thread's stack."""
        pid = self.pid or self.started.program()
        if pid is None:
            return ""
        self.stack_text.clear()
        try:
            os.kill(pid, signal.SIGUSR1)
        except OSError:
            return ""
        until, size = time.perf_counter() + 1.0, -1
        while time.perf_counter() < until and (size != len(self.stack_text) or size <= 0):
            size = len(self.stack_text)
            for key, _ in self.selector.select(0.1):
                self.read(key)
        return self.stack_text.decode(errors="replace")

    # ---------------------------------------------------------------------------------------------------------- reading

    def read(self, key: selectors.SelectorKey) -> bytes:
        """What is there, whose first part is kept if it is not a result; at the end of a pipe, forget it."""
        try:
            data = os.read(key.fd, 1 << 16)
        except BlockingIOError:
            return b""
        if not data:
            self.selector.unregister(key.fd)
        if key.data is not None:
            self.printed_bytes += len(data)
            key.data.extend(data[: max(0, KEPT_OUTPUT - len(key.data))])
        return data

    def lines(self, data: bytes) -> list[bytes]:
        """Complete lines of the results pipe."""
        self.results_bytes += len(data)
        *whole, self.pending = (self.pending + data).split(b"\n")
        return whole

    def drain(self) -> None:
        """Take what was printed and has not been read yet."""
        for key, _ in self.selector.select(0):
            if key.fd != self.results:
                self.read(key)

    def wait_end(self) -> int:
        """The exit status of a program whose results pipe is closed; it is killed if it lives on."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(2.0)
        self.drain()
        return self.started.end()
