"""Starts the program under observation, in a process of its own, and judges how it ended.

What can go wrong there is the program's fault and said in one line (`ProgramError`): it crashed, it hung, its tokens
were wrong. Its results are in a temporary folder until they are known to be good.
"""

import argparse
import itertools
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from lab.checkpoint import CheckpointError, read_header
from lab.command import Parser, above_zero, counted, in_one_line, some_path, whole_number, worker_count
from lab.engines import engine_name
from lab.files import PROFILES, ROOT, printable, ready_for_files
from lab.margin import MARGIN
from lab.measure.load import Load
from lab.measure.machine import summary
from lab.models import ModelError, timing_model

PROMPT_LENGTH = 3  # tokens
NEW_TOKENS = 7  # of make scale and make bench, which make plots shows together: 10 in all, as in gpt.c
TIMEOUT = 300.0  # seconds


class ProgramError(Exception):
    """The observed program crashed, hung or printed wrong tokens; the message is one line."""


class ToolError(Exception):
    """The observing program (py-spy, perf) could not do its work; the message is one line."""


@dataclass(frozen=True)
class Program:
    """What to run: engine (serial, parallel, cached or a .py file), checkpoint, tokens in all, workers."""

    engine: str
    model: Path
    n: int
    prompt: Sequence[int]
    workers: int = 1
    timeout: float = TIMEOUT

    @property
    def name(self) -> str:
        """The engine's name, as files are called after it."""
        return Path(self.engine).stem

    @property
    def is_serial(self) -> bool:
        """The lab's own serial program, not a file of that name."""
        return self.engine == "serial"

    @property
    def file(self) -> str:
        """The program's file, as people name it; what is not UTF-8 in a name becomes "?"."""
        path = Path(self.engine) if self.engine.endswith(".py") else ROOT / "lab" / f"{self.engine}.py"
        below = (str(path.relative_to(base)) for base in (Path.cwd(), ROOT) if path.is_relative_to(base))
        return printable(next(below, path.name))

    @property
    def title(self) -> str:
        """One line for headings: "lab/parallel.py on 2 workers, synthetic_124M, 20 tokens"."""
        on = f" on {counted(self.workers, 'worker')}" if not self.is_serial else ""
        return f"{self.file}{on}, {self.model_name}, {self.n} tokens"

    @property
    def model_name(self) -> str:
        """The model's, as people call it."""
        return printable(self.model.stem)

    def command(self, result: Path, wanted: dict[str, Any], flags: Sequence[str] = ()) -> list[str]:
        """The command line of target.py, which says what is wanted; `flags` are the interpreter's."""
        job = {"engine": self.engine, "model": str(self.model), "prompt": self.prompt, "n": self.n}
        order = job | {"workers": self.workers, "result": str(result)} | wanted
        return [sys.executable, *flags, "-m", "lab.measure.target", json.dumps(order)]


def choose_program(
    engine: str,
    model: str | None,
    n: int | None = None,
    workers: int = 1,
    timeout: float = TIMEOUT,
    length: int = PROMPT_LENGTH,
    new: int = 1,
) -> Program:
    """A Program that can be started, with a prompt of `length` tokens; without a model it uses the 124M, without n it
    makes `new` tokens.

    Raises ModelError, CheckpointError or ProgramError, one line.
    """
    path = timing_model(model).resolve()
    _, config = read_header(path)
    n = length + new if n is None else n
    if wrong := unfit(length, n, config.max_seq_len):
        raise ProgramError(wrong)
    if engine.endswith(".py"):
        engine = str(Path(engine).resolve())
    # always the same prompt: any would do, for the time does not depend on its tokens
    prompt = np.random.RandomState(3).randint(0, config.vocab_size, size=length).tolist()
    return Program(engine, path, n, tuple(prompt), workers, timeout)


def unfit(length: int, n: int, most: int) -> str:
    """What is wrong with n tokens, `length` of them the prompt, for a model that takes `most`; "" if nothing is."""
    if length >= most:
        return f"--prompt {length}: this model takes up to {most} tokens; give 1 to {most - 1}"
    if not length < n <= most:
        return f"-n {n}: give {length + 1} to {most} tokens, {length} of them the prompt"
    return ""


def run(program: Program, under: Sequence[str] = (), flags: Sequence[str] = (), **wanted: Any) -> dict:
    """Run the program, `under` a profiler's command line if given; returns what target.py reports of what is wanted.

    Raises ProgramError when it crashed or hung, ToolError when it was never started.
    """
    with tempfile.TemporaryDirectory(prefix="lab-measure-") as folder:
        result, errors = Path(folder) / "result.json", Path(folder) / "stderr"
        status = execute([*under, *program.command(result, wanted, flags)], errors, program)
        text = errors.read_text(errors="replace")
        if not result.is_file():
            raise failure(program, text, status, under)
        return json.loads(result.read_text())


def execute(command: list[str], errors: Path, program: Program) -> int:
    """Run a command in a process group of its own, which ends with us; returns its exit status. Raises ProgramError."""
    # the program must find the lab from wherever the command was given, and no checker of threadlib
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    environment = {**os.environ, "PYTHONPATH": path, "GPT_KERNELS": kernel_choice()}
    with errors.open("wb") as stderr:
        try:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=stderr, stderr=stderr, env=environment, start_new_session=True
            )
        except OSError as error:
            raise ToolError(f"{command[0]}: {error.strerror}") from None
        try:
            return process.wait(program.timeout)
        except subprocess.TimeoutExpired:
            said = f"{program.name} hung: not done after {program.timeout:.0f} s, stopped"
            raise ProgramError(f"{said}; make check finds who waits for whom, --timeout gives it longer") from None
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()


def kernel_choice() -> str:
    """The formulations of lab.kernels, chosen once for all programs that a command runs. Raises ValueError."""
    from lab import kernels  # measures when it is imported

    return kernels.choose()


def failure(program: Program, text: str, status: int, under: Sequence[str]) -> Exception:
    """What to say about a run without a result."""
    lines = [line for line in text.splitlines() if line.strip()]
    if "Traceback (most recent call last)" in text:
        last = next(
            (line for line in reversed(lines) if line[0].isalpha() and not line.startswith("py-spy>")), lines[-1]
        )
        cause = text.partition("The above exception was the direct cause")[0]  # of a worker's failure: where it was
        places = re.findall(r'^ *File "(.+)", line (\d+)', cause, re.MULTILINE)
        own = [f" at {program.name}.py:{line}" for file, line in places if Path(file).stem == program.name]
        at = own[-1] if own else ""
        last = re.sub(r"^lab\.[\w.]+: ", "", last)  # an error of the lab says it all
        return ProgramError(f"{program.name} crashed{at}: {last}")
    if under:
        return ToolError("; ".join(lines[-3:]) or f"{Path(under[0]).name} ended with status {status}")
    return ProgramError(f"{program.name} crashed: ended with status {status}" + (f": {lines[-1]}" if lines else ""))


def check_tokens(program: Program, found: Sequence[int], expected: Sequence[int]) -> None:
    """Compare with serial_tokens(). Raises ProgramError, naming the first difference."""
    for place, (ours, theirs) in enumerate(zip(found, expected, strict=False)):
        if ours != theirs:
            raise ProgramError(
                f"{program.name} printed wrong tokens: token {place} is {ours}, the serial program's {theirs}; "
                "make explore names the first activation that is wrong"
            )
    if len(found) != program.n:
        raise ProgramError(f"{program.name} printed {len(found)} tokens, the serial program {program.n}")


def serial_program(program: Program) -> Program:
    """The serial program for the same job."""
    return replace(program, engine="serial", workers=1)


def serial_tokens(program: Program) -> list[int]:
    """safe_tokens() of a run of the serial program on the same job. Raises ProgramError."""
    return safe_tokens(program, run(serial_program(program), margins=True))


def safe_tokens(program: Program, report: dict) -> list[int]:
    """The tokens of a report of the serial program, up to the first that rounding could change."""
    safe = itertools.takewhile(lambda margin: margin >= MARGIN, report["margins"])
    return report["tokens"][: len(program.prompt) + len(list(safe))]


# -------------------------------------------------------------------------------------------------------- command lines


def program_parser(module: str, description: str | None, engine: str, new: int) -> Parser:
    """A parser with the arguments that all commands about a program share; by default `new` tokens are made."""
    parser = Parser(prog=f"python -m lab.measure.{module}", description=description)
    parser.set_defaults(new=new)
    parser.add_argument(
        "--engine",
        type=engine_name,
        default=engine,
        help=f"serial, parallel, cached, or a .py file with generate() (default {engine})",
    )
    parser.add_argument("--model", help="checkpoint, or its name in models/ (default: GPT-2 124M, or one of its size)")
    add_lengths(parser, new)
    parser.add_argument(
        "--workers", type=worker_count, help="worker threads (default: GPT_WORKERS, else the cores, at most 4)"
    )
    parser.add_argument(
        "--timeout", type=above_zero, default=TIMEOUT, help=f"seconds until a run counts as hung (default {TIMEOUT:g})"
    )
    parser.add_argument("--out", type=some_path, default=PROFILES, help="folder for the files (default profiles/)")
    return parser


def add_lengths(parser: Parser, new: int) -> None:
    """How many tokens: --prompt and -n."""
    parser.add_argument(
        "--prompt", type=whole_number(1), default=PROMPT_LENGTH, metavar="LENGTH",
        help=f"tokens of the prompt (default {PROMPT_LENGTH})",
    )  # fmt: skip
    parser.add_argument("-n", type=whole_number(1), help=f"tokens in all (default: the prompt and {new})")


def parsed(parser: Parser, arguments: Sequence[str] | None) -> argparse.Namespace:
    """The options, with a number of workers in any case."""
    options = parser.parse_args(arguments)
    options.workers = parser.workers(options.workers)
    return options


def passed_on(options: argparse.Namespace, n: int | None) -> list[str]:
    """What another command of this package is given of these options, on n tokens (None: as many as it chooses)."""
    words = {
        "-n": n, "--model": options.model, "--prompt": options.prompt, "--out": options.out,
        "--timeout": options.timeout,
    }  # fmt: skip
    return [word for name, value in words.items() if value is not None for word in (name, str(value))]


def program_of(options: argparse.Namespace) -> Program:
    """The Program that such a command line asks for. Raises ModelError, CheckpointError or ProgramError, one line."""
    ready_for_files(options.out)
    return choose_program(
        options.engine, options.model, options.n, options.workers, options.timeout, options.prompt, options.new
    )


# of a command in this package: what goes wrong is one line on stderr and 1
guarded = in_one_line("", ProgramError, ToolError, ModelError, CheckpointError, OSError, ValueError)


def say(text: str) -> None:
    """A line on stderr about what is going on; printed between measurements, never during one."""
    print(text, file=sys.stderr, flush=True)


def provenance(arguments: Sequence[str] | None, module: str, load: Load) -> dict:
    """Where a result comes from: machine, its load meanwhile, date, command."""
    return {
        "machine": summary(),
        "kernels": kernel_choice(),
        "load": str(load),
        "date": time.strftime("%Y-%m-%d %H:%M"),
        "command": shlex.join([".venv/bin/python", "-m", module, *(sys.argv[1:] if arguments is None else arguments)]),
    }
