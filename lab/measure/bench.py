"""make bench: how fast the engines are, beside each other, the machine's limits and other programs.

    .venv/bin/python -m lab.measure.bench -n 16 --rounds 5
    .venv/bin/python -m lab.measure.bench -n 64 --engines parallel,cached --peers

Everything is measured once in each round, in an order that turns, and compared within the round: what happens on the
machine meanwhile happens to all. Each round has a new prompt, and all contenders must give the same tokens. The
result is a table and profiles/bench.json, which make plots reads:

    {"command", "date", "machine": {...}, "model", "n", "prompt_length", "rounds",
     "contenders": [{"name", "engine", "k", "seconds": [per round], "per_token": [seconds a token after the first],
                     "S": {median, low, high} or null, "E": ... or null, "floor": fraction of the bandwidth floor},
                     ...],
     "capacity": {"2": [C_k per round], ...}, "bandwidth": {"1": [GB/s per round], ...}, "bare": [seconds per round],
     "overheads": {"region_us": {"2": microseconds}, "lock_ratio": ...}}
"""

import argparse
import importlib.util
import json
import shlex
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

from lab import cached, models, onethread, parallel, serial
from lab.checkpoint import CheckpointError, touch_pages
from lab.command import Parser, quietly, whole_number
from lab.engines import ENGINES
from lab.files import PROFILES, shown, write_json
from lab.margin import MARGIN, margin
from lab.measure import machine
from lab.measure.capacity import Kernel, capacity
from lab.measure.runner import provenance
from lab.measure.stats import Estimate, estimate, ratios
from lab.threadlib import Mutex

PROMPT_LENGTH = 2
SERIAL_UP_TO = 32  # tokens; the serial program computes everything again for each, which takes minutes at 64
PEER_MODES = {"all": "PyTorch", "last": "PyTorch last logits", "cache": "PyTorch KV cache"}


class BenchError(Exception):
    """What cannot be measured; one line."""


@dataclass
class Contender:
    """Somebody who turns (prompt, n) into tokens, and the times it took, round by round."""

    name: str
    engine: str
    k: int
    run: Callable[[list[int], int], tuple[list[int], list[float]]]  # -> tokens, the second at which each was there
    seconds: list[float] = field(default_factory=list)
    per_token: list[float] = field(default_factory=list)

    def measure(self, prompt: list[int], n: int) -> list[int]:
        """Run once and note the times; returns the tokens."""
        tokens, stamps = self.run(prompt, n)
        self.seconds.append(stamps[-1])
        self.per_token.append((stamps[-1] - stamps[0]) / max(1, len(stamps) - 1))
        return tokens


@dataclass
class Results:
    """All that was measured, round by round."""

    n: int
    contenders: list[Contender]
    capacity: dict[int, list[float]]
    bandwidth: dict[int, list[float]]
    bare: list[float] = field(default_factory=list)

    def find(self, engine: str, k: int) -> Contender | None:
        """The contender of an engine on k workers."""
        return next((c for c in self.contenders if (c.engine, c.k) == (engine, k)), None)

    def over(self, contender: Contender, base: Contender | None) -> Estimate | None:
        """How many times faster than `base`."""
        return estimate(ratios(base.seconds, contender.seconds)) if base else None

    def speedup(self, contender: Contender) -> Estimate | None:
        """S_k = T_s / T_k."""
        return self.over(contender, self.find("serial", 1)) if contender.engine != "serial" else None

    def scaling(self, contender: Contender) -> Estimate | None:
        """E_k = T_1 / T_k."""
        return self.over(contender, self.find(contender.engine, 1)) if contender.k > 1 else None

    def against_capacity(self, contender: Contender) -> Estimate | None:
        """E_k / C_k."""
        one = self.find(contender.engine, 1)
        if one is None or contender.k not in self.capacity:
            return None
        return estimate(ratios(ratios(one.seconds, contender.seconds), self.capacity[contender.k]))

    def floor(self, contender: Contender, weight_bytes: int) -> Estimate | None:
        """The part of a token's time that reading all weights once, at the measured bandwidth, would take."""
        if contender.k not in self.bandwidth or len(contender.seconds) == 0 or self.n - PROMPT_LENGTH < 2:
            return None
        needed = [weight_bytes / (rate * 1e9) for rate in self.bandwidth[contender.k]]
        return estimate(ratios(needed, contender.per_token))


# ----------------------------------------------------------------------------------------------------------- contenders


def engine_contender(engine: str, k: int, model: serial.GPT2) -> Contender:
    """One of the lab's own engines, in this process."""
    generate = {"serial": serial, "parallel": parallel, "cached": cached}[engine].generate
    extra = {} if engine == "serial" else {"workers": k}

    def run(prompt: list[int], n: int) -> tuple[list[int], list[float]]:
        begin, tokens, stamps = time.perf_counter(), [], []
        for token in generate(model, prompt, n, **extra):
            tokens.append(token)
            stamps.append(time.perf_counter() - begin)
        return tokens, stamps

    return Contender(engine if engine == "serial" else f"{engine} k={k}", engine, k, run)


class TorchPeer:
    """A process that runs torch_peer.py."""

    def __init__(self, python: str, model_path: Path, threads: int) -> None:
        command = [python, str(Path(__file__).with_name("torch_peer.py")), str(model_path), str(threads)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.answer()  # it has loaded
        self.threads = threads

    def close(self) -> None:
        """End it; its CPU time then counts as ours."""
        self.process.stdin.close()
        self.process.wait()

    def answer(self) -> dict:
        """The next line it prints. Raises BenchError if there is none."""
        line = self.process.stdout.readline()
        if not line:
            raise BenchError(f"the PyTorch process ended with code {self.process.wait()}: see its message above")
        return json.loads(line)

    def contenders(self) -> Iterator[Contender]:
        """One for each mode."""
        for mode, name in PEER_MODES.items():
            yield Contender(f"{name} k={self.threads}", f"torch-{mode}", self.threads, self.runner(mode))

    def runner(self, mode: str) -> Callable[[list[int], int], tuple[list[int], list[float]]]:
        """The run function of a mode."""

        def run(prompt: list[int], n: int) -> tuple[list[int], list[float]]:
            self.process.stdin.write(json.dumps({"mode": mode, "prompt": prompt, "n": n}) + "\n")
            self.process.stdin.flush()
            answer = self.answer()
            return answer["tokens"], answer["stamps"]

        return run


def command_contender(command: str) -> Contender:
    """An executable with gpt's command line; its time is from start to end, loading included.

    Raises BenchError for an empty command.
    """
    words = shlex.split(command)
    if not words:
        raise BenchError("--peer-cmd: the command is empty")

    def run(prompt: list[int], n: int) -> tuple[list[int], list[float]]:
        begin, tokens, stamps = time.perf_counter(), [], []
        argv = [*words, *map(str, prompt)]
        try:
            process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True)
        except OSError as error:
            raise BenchError(f"--peer-cmd {command}: {error.strerror}") from None
        for line in process.stdout:
            tokens.append(int(line))
            stamps.append(time.perf_counter() - begin)
        if process.wait() or not tokens:
            raise BenchError(f"--peer-cmd {command}: exit code {process.returncode}, {len(tokens)} tokens")
        return tokens, stamps

    return Contender(f"{Path(words[0]).name}, with loading", "command", 1, run)


def torch_python(asked: str | None) -> str:
    """A Python that has PyTorch. Raises BenchError."""
    if asked:
        if subprocess.run([asked, "-c", "import torch"], capture_output=True).returncode:
            raise BenchError(f"{asked}: has no PyTorch")
        return asked
    if importlib.util.find_spec("torch") is None:
        raise BenchError(
            "--peers: PyTorch is not installed; .venv/bin/pip install torch, or name a Python with --torch-python"
        )
    return sys.executable


# ---------------------------------------------------------------------------------------------------------- measuring


def safe_prompt(model: serial.GPT2, n: int, random: np.random.Generator) -> list[int]:
    """A random prompt whose tokens rounding cannot change: every step keeps the margin. Raises BenchError."""
    V = model.config.vocab_size
    for _ in range(20):
        prompt = [int(token) for token in random.integers(0, V, size=PROMPT_LENGTH)]
        length = PROMPT_LENGTH
        for _token in parallel.generate(model, prompt, n):
            if margin(model.acts.probs[0, length - 1, :V]) < MARGIN:
                break
            length += 1
        else:
            return prompt
    raise BenchError("no prompt keeps a safe distance from the coin with this model; try a smaller n")


def read_rate(memory: np.ndarray, k: int) -> float:
    """GB/s (1e9 bytes) at which k threads read the model's weights, where they lie: the best of three."""
    jobs = [partial(np.dot, share, share) for share in np.array_split(memory, k)]
    return memory.nbytes / 1e9 / machine.best_seconds(jobs, repeats=2)


def bare_seconds(model: serial.GPT2, n: int) -> float:
    """The serial program's matrix-vector products and nothing else, as many as it does up to n tokens."""
    p, C = model.params, model.config.channels
    x = {size: np.ones(size, dtype=np.float32) for size in (C, 4 * C)}
    weights = [w for name in ("qkvw", "attprojw", "fcw", "fcprojw") for w in getattr(p, name)] + [p.wte]
    out = [np.empty(w.shape[0], dtype=np.float32) for w in weights]
    begin = time.perf_counter()
    for t in range(PROMPT_LENGTH, n):
        for weight, y in zip(weights, out, strict=True):
            for _ in range(t):
                np.dot(weight, x[weight.shape[1]], out=y)
    return time.perf_counter() - begin


def measure(results: Results, model: serial.GPT2, rounds: int, say: Callable[[str], None]) -> None:
    """Fill `results`: all contenders once a round, the order turning. Raises BenchError when tokens differ."""
    kernel, random = Kernel(), np.random.default_rng(0)
    for number in range(rounds):
        prompt = safe_prompt(model, results.n, random)
        say(f"round {number + 1} of {rounds}")
        shift = number % len(results.contenders)
        order = results.contenders[shift:] + results.contenders[:shift]
        answers = []
        for contender in order if number % 2 == 0 else order[::-1]:
            answers.append((contender.name, contender.measure(prompt, results.n)))
        for k, values in results.capacity.items():
            values.append(capacity(k, repeats=3, kernel=kernel).capacity)
        for k, values in results.bandwidth.items():
            values.append(read_rate(model.params_memory, k))
        if results.find("serial", 1):
            results.bare.append(bare_seconds(model, results.n))
        check_tokens(prompt, answers)


def check_tokens(prompt: list[int], answers: list[tuple[str, list[int]]]) -> None:
    """Raises BenchError unless all gave the same tokens; answers: (name, tokens), and names may be equal."""
    (first, expected), *others = answers
    for name, tokens in others:
        if tokens != expected:
            raise BenchError(f"prompt {prompt}: {name} gives {tokens}, {first} gives {expected}")


def region_microseconds(k: int, regions: int = 2000) -> float:
    """What an empty region on k workers costs: the median of ten batches."""
    batches = []
    with parallel.Workers(k) as workers:
        for _ in range(10):
            begin = time.perf_counter()
            for _ in range(regions // 10):
                workers.run(lambda task: None, range(k))
            batches.append((time.perf_counter() - begin) / (regions // 10))
    return float(np.median(batches)) * 1e6


def lock_ratio(pairs: int = 2000) -> float:
    """How long an uncontended Mutex.lock() and unlock() take beside threading.Lock's: the quickest of many each."""
    ours, theirs = Mutex(), threading.Lock()

    def ours_seconds() -> float:
        begin = time.perf_counter()
        for _ in range(pairs):
            ours.lock()
            ours.unlock()
        return time.perf_counter() - begin

    def theirs_seconds() -> float:
        begin = time.perf_counter()
        for _ in range(pairs):
            theirs.acquire()
            theirs.release()
        return time.perf_counter() - begin

    both = [(ours_seconds(), theirs_seconds()) for _ in range(100)]
    return min(ours for ours, _ in both) / min(theirs for _, theirs in both)


# ----------------------------------------------------------------------------------------------------------- reporting


def table(results: Results, weight_bytes: int) -> Table:
    """A row for each contender."""
    grid = Table(box=None, pad_edge=False, header_style="bold")
    grid.add_column("", no_wrap=True)
    for title in ("seconds", "tokens/s", "S=T_s/T_k", "E=T_1/T_k", "C_k", "E/C", "of the floor"):
        grid.add_column(title, justify="right", no_wrap=True)
    for contender in results.contenders:
        seconds = float(np.median(contender.seconds))
        c_k = results.capacity.get(contender.k) if results.scaling(contender) else None
        against = results.against_capacity(contender) if contender.k > 1 else None
        floor = results.floor(contender, weight_bytes) if contender.engine in ("cached", "torch-cache") else None
        grid.add_row(
            contender.name,
            f"{seconds:.3f}",
            f"{(results.n - PROMPT_LENGTH) / seconds:.1f}",
            str(results.speedup(contender) or ""),
            str(results.scaling(contender) or ""),
            f"{np.median(c_k):.2f}" if c_k else "",
            f"{against.median:.2f}" if against else "",
            str(floor or ""),
        )
    return grid


def notes(results: Results, overheads: dict, weight_bytes: int) -> Iterator[str]:
    """The lines under the table."""
    for k, rates in results.bandwidth.items():
        rate = float(np.median(rates))
        thread = "thread reads" if k == 1 else "threads read"
        yield f"{k} {thread} {rate:.1f} GB/s: {weight_bytes / 1e6 / rate:.1f} ms for all weights, the floor of a token"
    serial_one, parallel_one = results.find("serial", 1), results.find("parallel", 1)
    if serial_one:
        yield f"serial / its bare matrix-vector products: {estimate(ratios(serial_one.seconds, results.bare))}"
        if parallel_one:
            yield f"T_1 / T_s, what blocking alone gains: {estimate(ratios(parallel_one.seconds, serial_one.seconds))}"
    for peer in (c for c in results.contenders if c.engine.startswith("torch")):
        for engine in ("parallel", "cached"):
            ours = results.find(engine, peer.k)
            if ours and (engine == "cached") == (peer.engine == "torch-cache"):
                yield f"{peer.name} / {ours.name}: {estimate(ratios(peer.seconds, ours.seconds))} times as long"
    for k, cost in overheads["region_us"].items():
        yield f"an empty region on {k} workers: {cost:.0f} microseconds"
    yield f"an uncontended lock and unlock: {overheads['lock_ratio']:.2f} times threading.Lock's"


def as_json(results: Results, model: serial.GPT2, path: Path, overheads: dict, load: machine.Load) -> dict:
    """What bench.json holds (see the top of this file)."""
    weight_bytes = model.params_memory.nbytes

    def entry(contender: Contender) -> dict:
        values = {key: value for key, value in asdict(contender).items() if key != "run"}
        for key, value in (
            ("S", results.speedup(contender)),
            ("E", results.scaling(contender)),
            ("floor", results.floor(contender, weight_bytes)),
        ):
            values[key] = value._asdict() if value else None
        return values

    return {
        **provenance(None, "lab.measure.bench", load),
        "machine": machine.describe(),
        "model": path.name,
        "n": results.n,
        "prompt_length": PROMPT_LENGTH,
        "rounds": len(results.contenders[0].seconds),
        "contenders": [entry(contender) for contender in results.contenders],
        "capacity": results.capacity,
        "bandwidth": results.bandwidth,
        "bare": results.bare,
        "overheads": overheads,
    }


# ---------------------------------------------------------------------------------------------------------- the command


def parser() -> argparse.ArgumentParser:
    """bench's options."""
    options = Parser(prog="lab.measure.bench", description="Times the engines beside each other, in turns.")
    options.add_argument("-n", type=whole_number(PROMPT_LENGTH + 1), default=16, help="tokens in all (default 16)")
    options.add_argument("--rounds", type=whole_number(1), default=5, help="how often each is measured (default 5)")
    options.add_argument("--workers", help="numbers of workers, as 1,2,4 (default: 1, 2, 4 ... up to the cores)")
    options.add_argument(
        "--engines", help=f"of serial,parallel,cached (default: all; without serial if n > {SERIAL_UP_TO})"
    )
    options.add_argument(
        "--model", help="a checkpoint's path or its name in models/ (default: the 124M, synthetic if absent)"
    )
    options.add_argument(
        "--peers", action="store_true", help="beside PyTorch: eager, all logits, last logits, KV cache"
    )
    options.add_argument("--torch-python", metavar="PYTHON", help="a Python that has PyTorch (default: this one)")
    options.add_argument("--peer-cmd", action="append", default=[], metavar="COMMAND", help="a program called like gpt")
    options.add_argument("--out", type=Path, default=PROFILES / "bench.json", help="where the numbers go")
    return options


def worker_counts(text: str | None) -> list[int]:
    """The k to measure; 1 is always among them. Raises BenchError."""
    if text is None:
        cores = machine.cores()
        return [k for k in (1, 2, 4, 8, 16, 32, 64) if k <= cores]
    try:
        counts = sorted({1, *(int(part) for part in text.split(","))})
    except ValueError:
        raise BenchError(f"--workers {text}: expected numbers such as 1,2,4") from None
    if counts[0] < 1:
        raise BenchError(f"--workers {text}: at least 1")
    return counts


def engine_names(text: str | None, n: int) -> list[str]:
    """The engines to measure. Raises BenchError."""
    if text is None:
        return list(ENGINES if n <= SERIAL_UP_TO else ENGINES[1:])
    names = text.split(",")
    for name in names:
        if name not in ENGINES:
            raise BenchError(f"--engines {text}: {name!r} is none of {', '.join(ENGINES)}")
    return names


def bench(options: argparse.Namespace) -> int:
    """Measure, print, write. Raises BenchError, ModelError, CheckpointError."""
    out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 120)
    err = Console(stderr=True, highlight=False)
    counts, names = worker_counts(options.workers), engine_names(options.engines, options.n)
    python = torch_python(options.torch_python) if options.peers else None
    path = models.resolve(options.model) if options.model else models.timing_model()
    model = serial.gpt2_build_from_checkpoint(path)
    if options.n > model.config.max_seq_len:
        raise BenchError(f"-n {options.n}: this model takes up to {model.config.max_seq_len} tokens")
    touch_pages(model.params_memory)
    contenders = [engine_contender("serial", 1, model)] if "serial" in names else []
    contenders += [engine_contender(name, k, model) for name in names if name != "serial" for k in counts]
    usable = [k for k in counts if k <= machine.cores()]
    peer = TorchPeer(python, path, max(usable)) if python else None
    if peer:
        contenders += peer.contenders()
    contenders += [command_contender(command) for command in options.peer_cmd]
    results = Results(options.n, contenders, {k: [] for k in usable if k > 1}, {k: [] for k in usable})
    with machine.Load() as load:
        measure(results, model, options.rounds, err.print)
        if peer:
            peer.close()
    overheads = {"region_us": {k: region_microseconds(k) for k in usable if k > 1}, "lock_ratio": lock_ratio()}
    out.print(machine.summary())
    out.print(f"{load}; {path.name}, n = {options.n}, medians of {options.rounds} rounds, [95 % interval]\n")
    out.print(table(results, model.params_memory.nbytes))
    out.print()
    for line in notes(results, overheads, model.params_memory.nbytes):
        out.print(line)
    write_json(options.out, as_json(results, model, path, overheads, load), indent=1)
    out.print(f"written: {shown(options.out)}")
    return 0


def main() -> int:
    """The command line; returns the exit code."""
    options = parser().parse_args()
    onethread.warn()
    try:
        return bench(options)
    except (BenchError, models.ModelError, CheckpointError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(quietly(main, steady=True))
