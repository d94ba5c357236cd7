"""python -m lab.train.debug_state: is this backward pass right? llm.c's test_gpt2, tensor by tensor.

A debug state file holds one batch and what PyTorch computed from it: header of 256 int32 ([0] 20240327 [1] version 2
[2] B [3] T), inputs x (B,T) int32, targets y (B,T) int32, logits (B,T,V) float32, the loss, and the gradients of all
16 parameters in checkpoint order.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Column, Table

from lab.checkpoint import (
    DEBUG_MAGIC,
    HEADER_BYTES,
    HEADER_INTS,
    CheckpointError,
    Config,
    carve,
    count_parameters,
    expect,
    parameter_shapes,
    read_checkpoint,
    refuse_pipe,
)
from lab.command import Parser, above_zero, in_one_line, quietly, whole_number, worker_count
from lab.models import ModelError, named
from lab.serial import GPT2
from lab.train.adamw import AdamW, gpt2_update
from lab.train.backward import Gradients, gpt2_backward
from lab.train.forward import gpt2_forward
from lab.train.split import WorkersLike, team

DEBUG_VERSION = 2
TOLERANCE = 1e-3  # of the largest number in a tensor; the loss and the logits likewise
VERDICTS = {True: "[green]OK[/]", False: "[red]NOT OK[/]"}


@dataclass
class DebugState:
    """What the file holds: inputs and targets (B,T), logits (B,T,V), loss, and grads, the 16 tensors by name."""

    inputs: np.ndarray
    targets: np.ndarray
    logits: np.ndarray
    loss: float
    grads: dict[str, np.ndarray]


@dataclass
class Row:
    """A line of the table: a tensor, the largest difference, the largest number in the file, and whether they agree."""

    name: str
    difference: float
    largest: float
    ok: bool
    ours: float  # the number at the place of the largest difference, and the file's
    theirs: float


def read_debug_state(path: str | Path, config: Config) -> DebugState:
    """Read a debug state for a model of this shape. Raises CheckpointError."""
    try:
        refuse_pipe(path)
        raw = np.fromfile(path, dtype="<i4")
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be opened: {error.strerror}") from None
    if raw.size < HEADER_INTS:
        raise CheckpointError(
            f"{path}: not a debug state: {4 * raw.size} bytes, but the header alone is {HEADER_BYTES}"
        )
    magic, version, B, T = (int(value) for value in raw[:4])
    known = (magic, version) == (DEBUG_MAGIC, DEBUG_VERSION)
    expect(path, "magic and version", f"{magic}, {version}", known, f"{DEBUG_MAGIC}, {DEBUG_VERSION}")
    V, longest = config.vocab_size, config.max_seq_len
    expect(path, "B and T", f"{B}, {T}", B >= 1 and 1 <= T <= longest, f"1 or more, 1 to {longest}")
    size = HEADER_INTS + 2 * B * T + B * T * V + 1 + count_parameters(config)
    expect(path, "size", f"{4 * raw.size} bytes", raw.size == size, f"{4 * size} for a model of this shape")
    tokens = raw[HEADER_INTS : HEADER_INTS + 2 * B * T].reshape(2, B, T)
    least, most = tokens.min(), tokens.max()
    expect(path, "tokens", f"{least} to {most}", 0 <= least <= most < V, f"0 to {V - 1}")
    floats = raw[HEADER_INTS + 2 * B * T :].view("<f4")
    logits, loss, gradients = floats[: B * T * V], floats[B * T * V], floats[B * T * V + 1 :]
    grads = carve(gradients, parameter_shapes(config))
    return DebugState(tokens[0], tokens[1], logits.reshape(B, T, V), float(loss), grads)


def compare(name: str, ours: np.ndarray, theirs: np.ndarray) -> Row:
    """Two tensors of one shape: do they differ by more than TOLERANCE of the largest number?"""
    difference = np.abs(ours - theirs)
    worst = np.unravel_index(int(np.argmax(difference)), difference.shape)
    largest = float(np.abs(theirs).max())
    ok = bool(np.isfinite(ours).all() and difference[worst] <= TOLERANCE * max(largest, 1e-30))
    return Row(name, float(difference[worst]), largest, ok, float(ours[worst]), float(theirs[worst]))


def check(model: GPT2, state: DebugState, workers: WorkersLike | None = None) -> list[Row]:
    """Forward and backward on the state's batch: a row for the logits, one for the loss, one for each gradient."""
    B, T = state.inputs.shape
    gradients = Gradients(model.config)
    loss = gpt2_forward(model, state.inputs, state.targets, B, T, workers)
    V = model.config.vocab_size
    rows = [
        compare("logits", model.acts.logits[..., :V], state.logits),
        compare("loss", np.array([loss]), np.array([state.loss])),
    ]
    gpt2_backward(model, gradients, state.inputs, state.targets, workers)
    for name, theirs in state.grads.items():
        real = slice(V if name == "wte" else None)
        rows.append(compare(f"d{name}", getattr(gradients.params, name)[real], theirs[real]))
    return rows


def training_losses(
    model: GPT2,
    state: DebugState,
    steps: int,
    lr: float = 1e-3,
    weight_decay: float = 0.01,
    workers: WorkersLike | None = None,
) -> list[float]:
    """The loss before each of `steps` AdamW steps on the state's one batch; changes the model."""
    B, T = state.inputs.shape
    gradients, optimizer, losses = Gradients(model.config), AdamW(model.params_memory.size), []
    for _ in range(steps):
        losses.append(gpt2_forward(model, state.inputs, state.targets, B, T, workers))
        gpt2_backward(model, gradients, state.inputs, state.targets, workers)
        gpt2_update(
            model.params_memory, gradients.params_memory, optimizer, lr, weight_decay=weight_decay, workers=workers
        )
    return losses


def table(rows: list[Row]) -> Table:
    """The rows for the terminal."""
    headings = ("largest difference", "ours there", "file there", "largest number")
    columns = (Column(heading, justify="right") for heading in headings)
    shown = Table("tensor", *columns, "", title=f"ours against the file, tolerance {TOLERANCE:g} of the largest number")
    for row in rows:
        numbers = (f"{row.difference:.2e}", f"{row.ours: .6f}", f"{row.theirs: .6f}", f"{row.largest:.4f}")
        shown.add_row(row.name, *numbers, VERDICTS[row.ok])
    return shown


@in_one_line("lab.train.debug_state: ", ModelError, CheckpointError)
def main(argv: list[str] | None = None) -> int:
    """The command; 0 if everything agrees, 1 if not."""
    parser = Parser(
        prog="python -m lab.train.debug_state",
        description="Compare the forward and backward pass with what PyTorch computed (llm.c's test_gpt2).",
        epilog="example: python -m lab.train.debug_state tests/data/tiny_v3.bin tests/data/tiny_debug_state.bin",
    )
    parser.add_argument("checkpoint", help="the model, for example gpt2_124M.bin")
    parser.add_argument("state", help="its debug state, for example gpt2_124M_debug_state.bin")
    parser.add_argument(
        "--steps", type=whole_number(1), default=10, help="AdamW steps whose losses are shown (default 10)"
    )
    parser.add_argument(
        "--lr", type=above_zero, default=1e-3, help="their learning rate (default 1e-3; llm.c's test takes 1e-4)"
    )
    parser.add_argument("--workers", type=worker_count, default=1, help="worker threads (default 1)")
    arguments = parser.parse_args(argv)
    console = Console(highlight=False)
    config, params_memory = read_checkpoint(named(arguments.checkpoint))
    state = read_debug_state(arguments.state, config)
    model = GPT2(config, params_memory.copy())
    with team(arguments.workers) as workers:
        rows = check(model, state, workers)
        console.print(table(rows))
        for step, loss in enumerate(training_losses(model, state, arguments.steps, arguments.lr, workers=workers)):
            console.print(f"step {step}: loss {loss:.6f}")
    agree = all(row.ok for row in rows)
    console.print(f"overall: {VERDICTS[agree]}")
    return 0 if agree else 1


if __name__ == "__main__":
    quietly(main, steady=True)
