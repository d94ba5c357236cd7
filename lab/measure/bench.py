"""make bench: how fast the engines are, beside each other, the machine's limits and other programs.

    .venv/bin/python -m lab.measure.bench -n 20 --rounds 5
    .venv/bin/python -m lab.measure.bench --prompt 96 --engines parallel,cached --peers

Everything is measured once in each round, in an order that turns, and compared within the round: what happens on the
machine meanwhile happens to all. Each round has a new prompt, whose tokens rounding cannot change, and all contenders
must give them. C_k is measured with products of as many positions as the passes have. The result is a table and
profiles/bench.json, which make plots reads:

    {"command", "date", "machine": {...}, "model", "n", "prompt_length", "rounds",
     "contenders": [{"name", "engine", "k", "seconds": [per round], "per_token": [seconds a token after the first],
                     "S": {median, low, high} or null, "E": ... or null, "gain": ... or null,
                     "floor": fraction of the bandwidth floor, "other_tokens": rounds with other tokens}, ...],
     "capacity": {"2": [C_k per round], ...}, "bandwidth": {"1": [GB/s per round], ...}, "bare": [seconds per round],
     "kernel": the BLAS kernel, "kernels": the formulations of lab.kernels,
     "overheads": {"regions": {engine: {"2": {region: {"region": seconds, "task": seconds}}}}, "lock_ratio": ...}}
"""

import argparse
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from timeit import timeit

import numpy as np
from rich.console import Console
from rich.table import Column, Table

from lab import models, onethread, serial
from lab.checkpoint import CheckpointError, touch_pages
from lab.command import Parser, counted, in_one_line, quietly, some_path, whole_number
from lab.engines import ENGINES, EngineError, checked, load_engine, start, why_not_loaded
from lab.files import PROFILES, ready_for_files, refuse_program, shown, write_json
from lab.machine import MOST_WORKERS, too_many
from lab.margin import safe_tokens
from lab.measure import burden, machine
from lab.measure.capacity import Kernel, capacity
from lab.measure.contender import BenchError, Contender, Peer, Results, command_contender, libraries_of, timed
from lab.measure.freshness import digest
from lab.measure.load import Load
from lab.measure.runner import NEW_TOKENS, add_lengths, kernel_choice, provenance, unfit
from lab.measure.stats import Estimate, estimate, ratios
from lab.threadlib import Mutex
from lab.train.sample import probabilities_of

SERIAL_UP_TO = 32  # tokens; the serial program computes everything again for each, which takes minutes at 64
ATTEMPTS = 100  # prompts tried until one keeps the margin

# ----------------------------------------------------------------------------------------------------------- contenders


def engine_contenders(name: str, counts: Sequence[int], model: serial.GPT2) -> list[Contender]:
    """One of the lab's engines, or a file, in this process, for each number of workers. Raises BenchError."""
    try:
        engine = load_engine(name)
    except (Exception, SystemExit) as error:  # it may be a student's: anything may be wrong with it
        raise BenchError(f"{name} cannot be loaded: {why_not_loaded(error)}") from None

    def run(k: int, prompt: list[int], n: int) -> tuple[list[int], list[float]]:
        """A run on k workers."""
        begin = time.perf_counter()  # before generate() is called: it need not be a generator
        try:
            return timed(checked(start(engine, model, prompt, n, k), n - len(prompt)), begin)
        except EngineError as error:
            raise BenchError(f"{name}: {error}") from None

    stem = Path(name).stem
    if engine is serial:
        return [Contender(stem, stem, 1, partial(run, 1))]
    return [Contender(f"{stem} k={k}", stem, k, partial(run, k)) for k in counts]


def usual(n: int) -> list[str]:
    """The lab's engines that are here, serial if n is small; a student has ./parallel.py instead of the others."""
    here = [name for name in ENGINES if find_spec(f"lab.{name}") and (name != "serial" or n <= SERIAL_UP_TO)]
    return here if find_spec("lab.parallel") or not Path("parallel.py").is_file() else [*here, "parallel.py"]


def lab_contenders(
    names: Sequence[str], asked: bool, counts: Sequence[int], model: serial.GPT2, say: Callable[[str], None]
) -> list[Contender]:
    """Those of these names; without those that cannot be loaded unless they were asked for. Raises BenchError."""
    found = []
    for name in names:
        if name not in ENGINES and not (name.endswith(".py") and Path(name).is_file()):
            raise BenchError(f"--engines {','.join(names)}: {name!r} is none of {', '.join(ENGINES)}, nor a .py file")
        try:
            found += engine_contenders(name, counts, model)
        except BenchError as error:
            if asked:
                raise
            say(f"without {error}")
    if not found:
        raise BenchError("no engine can be measured: name one, --engines serial or --engines parallel.py")
    return found


# ---------------------------------------------------------------------------------------------------------- measuring


def safe_prompt(model: serial.GPT2, length: int, n: int, random: np.random.Generator) -> tuple[list[int], list[int]]:
    """A random prompt whose tokens rounding cannot change, and these tokens, made by the trainer's forward pass, which
    is quick at many positions, with gpt.c's softmax and sampler. Raises BenchError."""
    for _ in range(ATTEMPTS):
        prompt = random.integers(0, model.config.vocab_size, size=length).tolist()
        if tokens := safe_tokens(model, prompt, n, probabilities_of):
            return prompt, list(tokens)
    raise BenchError("no prompt keeps a safe distance from the coin with this model; try a smaller n")


def bare_seconds(model: serial.GPT2, length: int, n: int) -> float:
    """The serial program's matrix-vector products and nothing else, from a prompt of `length` up to n tokens."""
    p, C = model.params, model.config.channels
    x = {size: np.ones(size, dtype=np.float32) for size in (C, 4 * C)}
    weights = [w for name in ("qkvw", "attprojw", "fcw", "fcprojw") for w in getattr(p, name)] + [p.wte]
    out = [np.empty(w.shape[0], dtype=np.float32) for w in weights]
    begin = time.perf_counter()
    for t in range(length, n):
        for weight, y in zip(weights, out, strict=True):
            for _ in range(t):
                np.dot(weight, x[weight.shape[1]], out=y)
    return time.perf_counter() - begin


def measure(results: Results, model: serial.GPT2, rounds: int, say: Callable[[str], None]) -> None:
    """Fill `results`: all contenders once a round, the order turning. Raises BenchError when tokens differ."""
    kernel = Kernel((results.prompt + results.n) // 2, model.config)
    random, reference = np.random.default_rng(0), serial.GPT2(model.config, model.params_memory)
    for number in range(rounds):
        prompt, expected = safe_prompt(reference, results.prompt, results.n, random)
        say(f"round {number + 1} of {rounds}")
        shift = number % len(results.contenders)
        order = results.contenders[shift:] + results.contenders[:shift]
        for contender in order if number % 2 == 0 else order[::-1]:
            check_tokens(prompt, contender, contender.measure(prompt, results.n), expected)
        for k, values in results.capacity.items():
            values.append(capacity(k, kernel, repeats=3))
        for k, values in results.bandwidth.items():
            values.append(machine.bandwidth(k, 2, model.params_memory))  # of the weights, where they lie
        if results.find("serial", 1):
            results.bare.append(bare_seconds(model, results.prompt, results.n))


def check_tokens(prompt: list[int], contender: Contender, tokens: list[int], expected: list[int]) -> None:
    """Count other tokens of a contender that need not give the same; raises BenchError for one that must."""
    if tokens == expected:
        return
    if contender.exact:
        place = next((i for i, pair in enumerate(zip(tokens, expected, strict=False)) if pair[0] != pair[1]), -1)
        said = f"new token {place + 1} is {tokens[place]}, expected {expected[place]}"
        if place < 0:
            said = f"{len(tokens)} new tokens, expected {len(expected)}"
        raise BenchError(f"prompt {prompt}: {contender.name} gives other tokens: {said}")
    contender.other_tokens += 1


def lock_ratio() -> float:
    """How long an uncontended Mutex.lock() and unlock() take beside threading.Lock's: the quickest of many each."""

    def seconds(take: Callable[[], object], let_go: Callable[[], object]) -> float:
        """Of 2000 times both."""
        return timeit("take(); let_go()", number=2000, globals={"take": take, "let_go": let_go})

    ours, theirs = Mutex(), threading.Lock()
    both = [(seconds(ours.lock, ours.unlock), seconds(theirs.acquire, theirs.release)) for _ in range(100)]
    return min(ours for ours, _ in both) / min(theirs for _, theirs in both)


# ----------------------------------------------------------------------------------------------------------- reporting

KEEPS = ("cached", "torch-cache", "llama.cpp")  # keys and values: a token after the first reads each weight once
WITH_INTERVALS = 110  # columns that the table takes with them
WITH_TITLES = 80  # and with whole titles


def table(results: Results, weight_bytes: int, width: int = WITH_INTERVALS) -> Table:
    """A row for each contender; a narrow terminal shows medians without their intervals, which bench.json has, and a
    narrower one short titles."""

    def cell(found: Estimate | None) -> str:
        return "" if found is None else str(found) if width >= WITH_INTERVALS else f"{found.median:.2f}"

    titles = ("seconds", "tokens/s", "S=T_s/T_k", "E=T_1/T_k", "C_k", "gain", "of the floor")
    if narrow := width < WITH_TITLES:
        titles = ("seconds", "tok/s", "S_k", "E_k", "C_k", "gain", "floor")
    columns = [Column(title, justify="right", no_wrap=True, min_width=len(title)) for title in titles]
    grid = Table(
        Column("", overflow="fold"), *columns, box=None, pad_edge=False, header_style="bold", collapse_padding=narrow
    )
    for contender in results.contenders:
        seconds = float(np.median(contender.seconds))
        c_k = results.capacity.get(contender.k) if results.scaling(contender) else None
        gain = results.gain(contender) if c_k else None
        floor = results.floor(contender, weight_bytes) if contender.engine in KEEPS else None
        grid.add_row(
            contender.name,
            f"{seconds:.3f}",
            f"{(results.n - results.prompt) / seconds:.1f}",
            cell(results.speedup(contender)),
            cell(results.scaling(contender)),
            f"{np.median(c_k):.2f}" if c_k else "",
            f"{gain.median:.2f}" if gain else "",
            cell(floor),
        )
    return grid


def notes(results: Results, overheads: dict, weight_bytes: int) -> Iterator[str]:
    """The lines under the table."""
    yield "gain = (E_k - 1) / (C_k - 1), C_k measured with products of as many positions as the passes have"
    for k, rates in results.bandwidth.items():
        rate = float(np.median(rates))
        thread = "thread reads" if k == 1 else "threads read"
        yield f"{k} {thread} {rate:.1f} GB/s: {weight_bytes / 1e6 / rate:.1f} ms for all weights, the floor of a token"
    serial_one, parallel_one = results.find("serial", 1), results.find("parallel", 1)
    if serial_one:
        yield f"serial / its bare matrix-vector products: {estimate(ratios(serial_one.seconds, results.bare))}"
        if parallel_one:
            yield f"T_1 / T_s, what blocking alone gains: {estimate(ratios(parallel_one.seconds, serial_one.seconds))}"
    mine = [c for c in results.contenders if c.engine.startswith(("parallel", "cached"))]
    for peer in (c for c in results.contenders if c.engine.startswith(("torch", "llama"))):
        for ours in mine:
            if ours.k == peer.k and (ours.engine in KEEPS) == (peer.engine in KEEPS):
                yield f"{peer.name} / {ours.name}: {estimate(ratios(peer.seconds, ours.seconds))} times as long"
        if peer.other_tokens:
            times = f"{peer.other_tokens} of {len(peer.seconds)} rounds"
            yield f"{peer.name}: other tokens in {times} (its GELU has 16 bits)"
    for engine, counts in overheads["regions"].items():
        for k, regions in counts.items():
            costs = ", ".join(
                f"{name} {times['region'] * 1e6:.0f}" for name, times in regions.items() if "region" in times
            )
            if costs:
                yield f"regions of {engine} on {counted(int(k), 'worker')} without arithmetic, in microseconds: {costs}"
    yield f"an uncontended lock and unlock: {overheads['lock_ratio']:.2f} times threading.Lock's"


def as_json(results: Results, model: serial.GPT2, path: Path, overheads: dict) -> dict:
    """What bench.json holds (see the top of this file) but for where it comes from."""
    weight_bytes = model.params_memory.nbytes

    def entry(contender: Contender) -> dict:
        values = {key: value for key, value in vars(contender).items() if key not in ("run", "exact")}
        found = {
            "S": results.speedup(contender),
            "E": results.scaling(contender),
            "gain": results.gain(contender) if contender.k > 1 else None,
            "floor": results.floor(contender, weight_bytes),
        }
        return values | {key: value and value._asdict() for key, value in found.items()}

    return {
        "machine": machine.describe(),
        "kernel": machine.blas_kernel(),
        "model": path.name,
        "n": results.n,
        "prompt_length": results.prompt,
        "rounds": len(results.contenders[0].seconds),
        "contenders": [entry(contender) for contender in results.contenders],
        "capacity": results.capacity,
        "bandwidth": results.bandwidth,
        "bare": results.bare,
        "overheads": overheads,
    }


# ---------------------------------------------------------------------------------------------------------- the command


def parser() -> Parser:
    """bench's options."""
    options = Parser(prog="python -m lab.measure.bench", description="Time the engines side by side, in turns.")
    add_lengths(options, NEW_TOKENS)
    options.add_argument("--rounds", type=whole_number(1), default=5, help="how often each is measured (default 5)")
    options.add_argument("--workers", help="numbers of workers, as 1,2,4 (default: 1, 2, 4 ... up to the cores)")
    options.add_argument(
        "--engines",
        help=f"of serial,parallel,cached or .py files (default: those here; no serial if n > {SERIAL_UP_TO})",
    )
    options.add_argument(
        "--model", help="a checkpoint's path or its name in models/ (default: the 124M, synthetic if absent)"
    )
    options.add_argument("--peers", action="store_true", help="measure PyTorch and llama.cpp too, where installed")
    options.add_argument(
        "--peer-python", "--torch-python", metavar="PYTHON", help="a Python that has them (default: this one)"
    )
    options.add_argument("--peer-cmd", action="append", default=[], metavar="COMMAND", help="a program called like gpt")
    options.add_argument(
        "--out", type=some_path, default=PROFILES / "bench.json", help="where numbers go (default profiles/bench.json)"
    )
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
    if counts[-1] > MOST_WORKERS:
        raise BenchError(f"--workers {too_many(counts[-1])}")
    return counts


@in_one_line("bench: ", BenchError, models.ModelError, CheckpointError, OSError)
def bench(options: argparse.Namespace, arguments: list[str] | None) -> int:
    """Measure, print, write."""
    out = Console(highlight=False, soft_wrap=True, width=None if sys.stdout.isatty() else 120)
    say = Console(stderr=True, highlight=False, soft_wrap=True).print
    counts, length = worker_counts(options.workers), options.prompt
    n = options.n or length + NEW_TOKENS
    refuse_program(options.out)
    ready_for_files(options.out.parent)
    try:
        kernels = kernel_choice()
    except ValueError as error:
        raise BenchError(str(error)) from None
    python = options.peer_python or sys.executable
    libraries = libraries_of(python) if options.peers or options.peer_python else []
    path = models.timing_model(options.model)
    model = serial.gpt2_build_from_checkpoint(path)
    if wrong := unfit(length, n, model.config.max_seq_len):
        raise BenchError(wrong)
    touch_pages(model.params_memory)
    weight_bytes = model.params_memory.nbytes
    names = options.engines.split(",") if options.engines else usual(n)
    contenders = lab_contenders(names, bool(options.engines), counts, model, say)
    usable = [k for k in counts if k <= machine.cores()]
    peers = [Peer(library, python, path, max(usable)) for library in libraries]
    contenders += [*(one for peer in peers for one in peer.contenders()), *map(command_contender, options.peer_cmd)]
    own = [name for name in ENGINES if name in names and any(c.engine == name for c in contenders)]  # no file's name
    digests = {name: digest(name) for name in own}
    results = Results(length, n, contenders, {k: [] for k in usable if k > 1}, {k: [] for k in usable})
    with Load() as load:
        measure(results, model, options.rounds, say)
        for peer in peers:
            peer.close()
    regions = {name: burden.overheads(load_engine(name), model, usable) for name in digests if name != "serial"}
    overheads = {"regions": regions, "lock_ratio": lock_ratio()}
    origin = provenance(arguments, "lab.measure.bench", load)
    write_json(options.out, origin | as_json(results, model, path, overheads) | {"digests": digests}, indent=1)
    intervals = ", [95 % interval]" if out.width >= WITH_INTERVALS else ""
    job = f"{path.name}, prompt {length}, n = {n}, medians of {options.rounds} rounds{intervals}"
    out.print(f"{machine.summary()}\nBLAS kernel {machine.blas_kernel()}; lab.kernels {kernels}\n{load}; {job}\n")
    out.print(table(results, weight_bytes, out.width))
    for line in ("", *notes(results, overheads, weight_bytes), f"written: {shown(options.out)}"):
        out.print(line)
    return 0


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    options = parser().parse_args(arguments)
    onethread.warn()
    return bench(options, arguments)


if __name__ == "__main__":
    quietly(main, steady=True)
