"""python -m lab.train.bench: a training step here beside the same step in PyTorch, on the same number of threads.

The two take turns, step by step (ours, theirs, theirs, ours ...), so that whatever else the machine does hits both.
Both train the same model on the same tokens, and the losses are shown side by side: a fast wrong step is no step. Each
loads once; the first steps, in which memory is touched for the first time, are not counted.
"""

import argparse
import shutil
import sys
import time
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import psutil
from rich.console import Console
from rich.table import Column, Table

from lab.checkpoint import CheckpointError, read_checkpoint, read_header
from lab.command import Parser, in_one_line, quietly, whole_number, worker_count
from lab.models import ModelError, timing_model
from lab.pipes import Peer
from lab.serial import GPT2
from lab.train.adamw import AdamW, gpt2_update
from lab.train.backward import Gradients, gpt2_backward
from lab.train.forward import gpt2_forward
from lab.train.split import team

LEARNING_RATE, WEIGHT_DECAY = 1e-4, 0.01


class TorchError(Exception):
    """PyTorch's side did not do its step; the message is one line."""


class Ours:
    """Our step: forward, backward and update."""

    def __init__(self, path: Path, B: int, T: int, workers) -> None:
        self.config, params_memory = read_checkpoint(path)
        self.model, self.workers, self.B, self.T = GPT2(self.config, np.array(params_memory)), workers, B, T
        self.gradients, self.optimizer = Gradients(self.config), AdamW(params_memory.size)
        self.random = np.random.default_rng(0)
        self.parts: list[np.ndarray] = []  # seconds of forward, backward and update in each step

    def step(self) -> tuple[float, float]:
        """Seconds and loss of one step."""
        tokens = self.random.integers(0, self.config.vocab_size, size=(self.B, self.T + 1))
        inputs, targets = tokens[:, :-1].astype(np.int32), tokens[:, 1:].astype(np.int32)
        times = [time.perf_counter()]
        loss = gpt2_forward(self.model, inputs, targets, self.B, self.T, self.workers)
        times.append(time.perf_counter())
        gpt2_backward(self.model, self.gradients, inputs, targets, self.workers)
        times.append(time.perf_counter())
        params, grads = self.model.params_memory, self.gradients.params_memory
        gpt2_update(params, grads, self.optimizer, LEARNING_RATE, weight_decay=WEIGHT_DECAY, workers=self.workers)
        times.append(time.perf_counter())
        self.parts.append(np.diff(times))
        return times[-1] - times[0], loss


class Theirs(Peer):
    """PyTorch's step, in a process of its own that waits between steps. Raises TorchError."""

    def __init__(self, python: str, path: Path, B: int, T: int, threads: int) -> None:
        program = Path(__file__).with_name("torch_step.py")
        arguments = map(str, (program, path, B, T, threads, LEARNING_RATE, WEIGHT_DECAY))
        super().__init__(python, *arguments, ended=lambda status, said: TorchError(f"{python}: {said}"))
        self.version = self.read()["torch"]

    def step(self) -> tuple[float, float]:
        """Seconds and loss of one step."""
        answer = self.ask()
        return answer["seconds"], answer["loss"]


def take_turns(sides: list, steps: int, label: str, console: Console) -> list[list[tuple[float, float]]]:
    """Steps of each side in turn, the order reversed each time; their results."""
    results: list[list[tuple[float, float]]] = [[] for _ in sides]
    for number in range(steps):
        order = list(enumerate(sides))
        for i, side in order if number % 2 == 0 else reversed(order):
            results[i].append(side.step())
        line = " | ".join(f"{result[-1][0] * 1000:8.1f} ms, loss {result[-1][1]:.6f}" for result in results)
        console.print(f"{label} {number + 1:3d} | {line}")
    return results


def quartiles(values: np.ndarray, digits: int) -> str:
    """Median [first to third quartile]."""
    low, middle, high = np.percentile(values, [25, 50, 75])
    return f"{middle:.{digits}f} [{low:.{digits}f} to {high:.{digits}f}]"


def megabytes() -> float:
    """The memory of this process."""
    return psutil.Process().memory_info().rss / 1e6


def torch_python(asked: str | None) -> str | None:
    """The Python to run PyTorch's side with, or None."""
    if asked:
        return shutil.which(asked) or asked
    return sys.executable if find_spec("torch") else None


def compare(arguments: argparse.Namespace, path: Path, workers, console: Console) -> None:
    """Run both sides and print the table. Raises TorchError."""
    B, T, k = arguments.batch, arguments.seq, workers.k if workers else 1
    python = torch_python(arguments.torch_python)
    theirs = Theirs(python, path, B, T, k) if python else None
    ours = Ours(path, B, T, workers)
    version = f"PyTorch {theirs.version}" if theirs else "no PyTorch here (--torch-python)"
    console.print(f"{path.name}, B={B} T={T}, {k} threads each; numpy {np.__version__}, {version}")
    sides = [ours, theirs] if theirs else [ours]
    take_turns(sides, arguments.warmup, "warm-up", console)
    ours.parts.clear()
    before = megabytes()
    results = np.array(take_turns(sides, arguments.steps, "step", console))
    after = megabytes()
    if theirs:
        theirs.close()
    console.print(table(results[..., 0], B * T))
    forward, backward, update = 1000 * np.median(ours.parts, axis=0)
    console.print(f"ours in parts, ms: forward {forward:.0f}, backward {backward:.0f}, update {update:.0f}")
    console.print(f"our memory, MB: {before:.0f} after the warm-up, {after:.0f} at the end")
    if theirs:
        (mine, our_losses), (others, their_losses) = results.transpose(0, 2, 1)
        console.print(f"PyTorch's time / ours, pair by pair: {quartiles(others / mine, 2)}")
        console.print(f"the losses differ by at most {np.abs(our_losses - their_losses).max():.1e}")


def table(seconds: np.ndarray, tokens: int) -> Table:
    """The times of each side: seconds (sides, steps), of steps of so many tokens."""
    headings = ("ms a step: median [quartiles]", "fastest", "tokens/s")
    grid = Table("", *(Column(heading, justify="right") for heading in headings))
    for name, times in zip(("lab.train", "PyTorch"), seconds, strict=False):
        grid.add_row(name, quartiles(1000 * times, 1), f"{1000 * times.min():.1f}", f"{tokens / np.median(times):.0f}")
    return grid


@in_one_line("lab.train.bench: ", CheckpointError, ModelError, TorchError, OSError)
def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = Parser(
        prog="python -m lab.train.bench",
        description="Time a training step, beside the same step in PyTorch where there is one.",
        epilog="PyTorch is not a dependency. To make a Python that has it, for example:\n"
        "  python3 -m venv /tmp/torchvenv && /tmp/torchvenv/bin/pip install torch numpy\n"
        "  python -m lab.train.bench --torch-python /tmp/torchvenv/bin/python",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--model", help="a checkpoint (default: the 124M, synthetic if need be)")
    parser.add_argument("--batch", type=whole_number(1), default=4, help="B (default 4, as llm.c)")
    parser.add_argument("--seq", type=whole_number(1), default=64, help="T (default 64, as llm.c)")
    parser.add_argument("--workers", type=worker_count, help="threads of each side (default: the cores, at most 4)")
    parser.add_argument("--steps", type=whole_number(1), default=10, help="steps of each side that count (default 10)")
    parser.add_argument("--warmup", type=whole_number(0), default=2, help="steps of each side that do not (default 2)")
    parser.add_argument(
        "--torch-python", metavar="PYTHON", help="a Python that has torch and numpy (default: this one, if it has)"
    )
    arguments = parser.parse_args(argv)
    count = parser.workers(arguments.workers)  # before a model is made
    console = Console(soft_wrap=True, highlight=False)
    path = timing_model(arguments.model)
    if arguments.seq > (most := read_header(path)[1].max_seq_len):
        raise ModelError(f"--seq {arguments.seq}: this model takes at most {most} positions")
    with team(count) as workers:
        compare(arguments, path, workers, console)
    return 0


if __name__ == "__main__":
    quietly(main, steady=True)
