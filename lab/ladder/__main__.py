"""python -m lab.ladder: the same GPT-2 in PyTorch, one optimisation at a time, timed on whatever machine is at hand.

PyTorch is optional: it comes from --torch-python, else from this environment (--install puts it there). On a GPU the
model is the 124M and the batch the largest nice number that fits; on a CPU it is the shipped small model with a small
batch.
"""

import argparse
import json
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict
from importlib.util import find_spec
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

from lab.checkpoint import CheckpointError, read_header
from lab.command import INTERRUPTED, Parser, in_one_line, installed, quietly, some_path, whole_number
from lab.files import PROFILES, ROOT, ready_for_files, shown, write_json
from lab.ladder import show
from lab.ladder.climb import BATCHES, Climb, Job, Result, check_first_loss, flops_per_token, largest_batch
from lab.ladder.peer import LadderError, describe
from lab.measure.freshness import ResultError, as_written
from lab.measure.load import Load
from lab.measure.machine import cores, summary
from lab.measure.operations import Cost, pass_costs
from lab.models import GPT2_124M, MODELS_DIR, SHIPPED, ModelError, timing_model
from lab.train.data import DATA_DIR, DataError, encode_text, read_text, read_tokens

PARTS = ("training", "generation")
DOCUMENTS = ("README.md", "docs/*.md")  # the text to train on where no corpus was downloaded
INSTALL = "PyTorch is not installed here: make ladder installs it, or name a Python that has it: --torch-python PYTHON"


def build_parser() -> argparse.ArgumentParser:
    """The flags."""
    parser = Parser(prog="python -m lab.ladder", description="Time GPT-2 in PyTorch, one optimisation at a time.")
    parser.add_argument(
        "--model", help="checkpoint, or its name in models/ (default: the 124M on a GPU, else the small one)"
    )
    parser.add_argument(
        "--data", help="token file or text to train on (default: tinyshakespeare if downloaded, else the docs)"
    )
    parser.add_argument("--part", choices=(*PARTS, "both"), default="both", help="which rungs (default both)")
    parser.add_argument(
        "--batch", type=whole_number(1), help="sequences in a batch (default: what fits a GPU; 4 on a CPU)"
    )
    parser.add_argument(
        "--seq", type=whole_number(8), help="tokens in a sequence (default: 1024 on a GPU, 64 on a CPU)"
    )
    parser.add_argument("--window", type=whole_number(8), default=64, help="positions when generating (default 64)")
    parser.add_argument("--steps", type=whole_number(1), default=50, help="timed steps of each rung (default 50)")
    parser.add_argument(
        "--torch-python", metavar="PYTHON", help="a Python that has torch and numpy (default: this one)"
    )
    parser.add_argument("--show", action="store_true", help="measure nothing; show the results in --out again")
    parser.add_argument(
        "--install", action="store_true", help="first install PyTorch into this environment, if missing"
    )
    parser.add_argument(
        "--out", type=some_path, default=PROFILES / "ladder", help="folder for the results (default profiles/ladder)"
    )
    return parser


def install_torch() -> None:
    """The version of constraints.txt, into this environment. Raises LadderError."""
    print(
        f"PyTorch is not installed: installing it into {sys.prefix}. It is 100 to 200 MB to download; on Linux with an "
        "x86 processor, where the default build brings CUDA, about 3 GB ...",
        file=sys.stderr,
    )
    if not installed("torch"):
        raise LadderError("installing PyTorch failed: pip says why above")


def tokens_to_train_on(asked: str | None) -> np.ndarray:
    """The tokens of a token file or a text. Raises DataError."""
    if asked:
        return np.asarray(read_tokens(asked) if asked.endswith(".bin") else encode_text(read_text(asked)))
    corpus = DATA_DIR / "tinyshakespeare_train.bin"
    if corpus.is_file():
        return np.asarray(read_tokens(corpus))
    return encode_text("\n\n".join(read_text(path) for glob in DOCUMENTS for path in sorted(ROOT.glob(glob))))


def the_job(options: argparse.Namespace, python: str, device: str, folder: Path) -> Job:
    """What to work on. Raises ModelError, CheckpointError, DataError, LadderError."""
    gpu = device == "cuda"
    checkpoint = timing_model(options.model) if gpu or options.model else MODELS_DIR / SHIPPED
    _, config = read_header(checkpoint)
    seq = options.seq or (min(1024, config.max_seq_len) if gpu else min(64, config.max_seq_len))
    if max(seq, options.window) > config.max_seq_len:
        raise LadderError(f"{max(seq, options.window)} positions: {checkpoint.name} has {config.max_seq_len}")
    tokens = tokens_to_train_on(options.data)
    if tokens.size and tokens.max() >= config.vocab_size:
        raise DataError(
            f"the text holds token {tokens.max()}: the vocabulary of {checkpoint.name} is 0 to {config.vocab_size - 1}"
        )
    if gpu and not options.batch:  # too little text for the batches that are tried is gone through again
        tokens = np.resize(tokens, max(tokens.size, BATCHES[0] * seq + 1))
    needed = (options.batch or 4) * seq + 1
    if tokens.size < needed:
        raise DataError(
            f"{tokens.size} tokens are too few for a batch: {needed} are needed; name a longer text with --data"
        )
    np.save(folder / "tokens.npy", tokens)
    return Job(
        python, checkpoint.resolve(), folder / "tokens.npy", device, options.batch or 4, seq, options.steps, cores(),
        options.window,
    )  # fmt: skip


def climb(options: argparse.Namespace, python: str, console: Console) -> int:
    """All rungs; what is done is written after each. Raises LadderError and what the_job raises."""
    with console.status("starting PyTorch ...") as status, tempfile.TemporaryDirectory(prefix="lab-ladder-") as folder:
        told = describe(python)
        job = the_job(options, python, told["device"], Path(folder))
        tell = lambda text: status.update(f"{text} ...")  # noqa: E731
        tell("comparing the first loss with lab.train's")
        report: dict[str, Any] = {"first_loss": check_first_loss(job)}
        if told["device"] == "cuda" and not options.batch:
            tell("looking for the largest batch that fits")
            largest_batch(job, told["rungs"], console.print)
        report |= circumstances(job, told)
        console.print(report["title"])
        results: list[Result] = []
        code = 0
        parts = PARTS if options.part == "both" else (options.part,)
        climbs = (Climb(job, part, told["rungs"], tell).results() for part in parts)
        with Load() as load:
            try:
                for result in chain.from_iterable(climbs):
                    results.append(result)
                    console.print(outcome(result, report))
                    report["load"] = str(load.stop())
                    save(options.out, report, results)
            except KeyboardInterrupt:
                code = INTERRUPTED
    if results:
        conclude(options.out, report, results, console)
    if code:
        console.print("interrupted: the rungs above are kept" if results else "interrupted: no rung was done")
    return code


def circumstances(job: Job, told: dict) -> dict:
    """Where, with what and how it was measured."""
    machine, gpu = job.ask(do="machine"), job.device == "cuda"
    return {
        "title": f"{told['name'] or 'CPU'}, {job.checkpoint.stem}, B={job.batch} T={job.seq}",
        "torch": told["torch"], "device": job.device, "gpu": told["name"], "machine": machine,
        "model": job.checkpoint.name, "batch": job.batch, "seq": job.seq, "window": job.window, "steps": job.steps,
        "threads": job.threads, "host": summary(), "date": time.strftime("%Y-%m-%d"),
        "flops_per_token": flops_per_token(job.checkpoint, job.seq),
        "ratios": "medians, one after the other" if gpu else "median of ratios, taking turns step by step",
        "command": "python -m lab.ladder " + " ".join(sys.argv[1:]),
    }  # fmt: skip


def outcome(result: Result, report: dict) -> str:
    """A rung in one line, as soon as it is done."""
    if result.status != "measured":
        return f"  {result.title}: {result.status}: {result.why}"
    per = "batch" if result.part == "training" else "token"
    middle = float(np.median(show.milliseconds(result, report)))
    return f"  {result.title}: {middle:.1f} ms a {per}, {result.times_first:.2f} times the first"


def save(folder: Path, report: dict, results: list[Result]) -> Path:
    """ladder.json: all there is so far."""
    return write_json(folder / "ladder.json", {**report, "rungs": [asdict(result) for result in results]}, indent=1)


def conclude(folder: Path, report: dict, results: list[Result], console: Console) -> None:
    """Tables, pictures, and how to read them."""
    files = [save(folder, report, results)]
    note = f"{report['host']}; PyTorch {report['torch']}; {report['load']}; {report['date']}"
    files += show.save_pictures(results, report, folder, chapters(), note)
    for part in PARTS:
        mine = [result for result in results if result.part == part]
        if mine:
            console.print()
            console.print(show.table(mine, report))
            for line in show.notes(mine):
                console.print(line)
    console.print()
    for line in (*show.explanation(report), note, "Written: " + ", ".join(shown(path) for path in files)):
        console.print(line)


def chapters() -> dict[str, tuple[float, float, float]]:
    """The lab's own programs on the most workers measured, from the newest `make bench` here or the committed one:
    name -> (operations, bytes, seconds).
    """
    for path in (PROFILES / "bench.json", PROFILES / "reference" / "bench.json"):
        with suppress(Exception):  # not there, not whole, or edited: anything may be wrong with it
            return chapters_of(json.loads(path.read_text(encoding="utf-8")))
    return {}


def chapters_of(bench: dict[str, Any]) -> dict[str, tuple[float, float, float]]:
    """Those of one bench.json."""
    found: dict[str, tuple[float, float, float]] = {}
    for entry in bench["contenders"]:
        engine = entry["name"].split()[0]
        if engine in ("serial", "parallel", "cached"):  # more workers come later
            cost = generation_cost(engine, bench["prompt_length"], bench["n"])
            found[engine] = (cost.flops, cost.bytes, float(np.median(entry["seconds"])))
            if not 0 < found[engine][2] < np.inf:
                raise ValueError(f"{entry['seconds']}: no seconds")
    return found


def generation_cost(engine: str, prompt: int, n: int) -> Cost:
    """Operations and bytes of GPT-2 124M from `prompt` tokens up to n; a cached pass computes one position only."""
    lengths = [prompt] + [1] * (n - prompt - 1) if engine == "cached" else range(prompt, n)
    passes = [pass_costs(GPT2_124M, T, engine != "serial") for T in lengths]
    return sum((cost for costs in passes for cost in costs.values()), Cost(0, 0))


def show_again(folder: Path, console: Console) -> int:
    """The tables and pictures of an earlier run. Raises LadderError, ResultError."""
    path = folder / "ladder.json"
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
        results = [Result(**rung) for rung in report.pop("rungs")]
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise LadderError(f"{path}: no ladder was measured into this folder") from None
    with as_written(path, "measure the ladder again"):
        conclude(folder, report, results, console)
    return 0


@in_one_line("lab.ladder: ", LadderError, code=2)
@in_one_line("lab.ladder: ", ModelError, CheckpointError, DataError, ResultError, OSError)
def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    options = build_parser().parse_args(arguments)
    console = Console(soft_wrap=True, highlight=False)
    if options.show:
        return show_again(options.out, console)
    missing = not options.torch_python and not find_spec("torch")
    if missing and options.install:
        install_torch()
    elif missing:
        raise LadderError(INSTALL)
    ready_for_files(options.out)
    return climb(options, options.torch_python or sys.executable, console)


if __name__ == "__main__":
    quietly(main)
