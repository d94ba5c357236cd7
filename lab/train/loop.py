"""The training loop: step, report, validate, sample, save."""

import fcntl
import math
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import numpy as np
from rich.console import Console

from lab.checkpoint import count_parameters, write_checkpoint
from lab.serial import GPT2
from lab.train import curve
from lab.train.data import CORPORA, DataError, prepare, read_tokens
from lab.train.sample import sample_text
from lab.train.settings import Settings, learning_rate
from lab.train.split import WorkersLike
from lab.train.trainer import Trainer


class TrainingError(Exception):
    """Training cannot go on; the message is one line."""


def load_data(settings: Settings, console: Console) -> tuple[np.ndarray, np.ndarray]:
    """The training and validation tokens, each 1-D. Raises DataError."""
    if settings.data.endswith(".bin"):
        if not settings.val_data:
            raise DataError(
                f"{settings.data}: a token file to train on needs another to validate with: --val-data FILE"
            )
        return read_tokens(settings.data), read_tokens(settings.val_data)
    if settings.data not in CORPORA and not Path(settings.data).exists():
        raise DataError(f"{settings.data}: neither a file nor a known corpus ({', '.join(CORPORA)})")
    train_path, val_path = prepare(settings.data, settings.data_format, progress=Reporter(console))
    return read_tokens(train_path), read_tokens(settings.val_data or val_path)


class Reporter:
    """Progress of downloads and tokenising: a line every two seconds."""

    def __init__(self, console: Console) -> None:
        self.console, self.last = console, 0.0

    def __call__(self, what: str, done: int, total: int | None) -> None:
        if time.monotonic() - self.last > 2.0 or done == total:
            self.last = time.monotonic()
            share = f" of {total / 1e6:,.1f} MB ({done / total:.0%})" if total else ""
            self.console.print(f"{what}: {done / 1e6:,.1f} MB{share}")


class Files:
    """Where a run writes: the model at `out`, and its state, CSV and picture beside it."""

    def __init__(self, out: str) -> None:
        self.model = Path(out)
        self.state, self.csv, self.png = (self.model.with_suffix(suffix) for suffix in (".state.npz", ".csv", ".png"))

    def keep_earlier(self) -> Path | None:
        """Give what an earlier run left here the name NAME.before; returns its model's path, None without one."""
        kept = Files(str(self.model.with_suffix(f".before{self.model.suffix}")))
        there = self.model.exists()
        for old, new in zip(vars(self).values(), vars(kept).values(), strict=True):
            if old.exists():
                old.replace(new)
        return kept.model if there else None


@contextmanager
def stopping() -> Iterator[threading.Event]:
    """What ends a command only sets the event, so that no step is left half done; a second time it ends at once."""
    asked = threading.Event()

    def ask(number: int, frame: object) -> None:
        if asked.is_set():
            raise KeyboardInterrupt
        asked.set()

    mine = threading.current_thread() is threading.main_thread()
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if mine else ()
    heard = [number for number in numbers if signal.getsignal(number) is not signal.SIG_IGN]  # nohup ignores the last
    before = {number: signal.signal(number, ask) for number in heard}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def claimed(files: Files, step: int, console: Console) -> Iterator[curve.Curve]:
    """The curve of a run that has `files` to itself; what an earlier one left there is kept before step 1.

    Raises TrainingError where another run is writing them.
    """
    with ExitStack() as stack:
        with suppress(OSError):  # a file system without locks; what else is wrong with the folder shows below
            files.csv.parent.mkdir(parents=True, exist_ok=True)
            folder = os.open(files.csv.parent, os.O_RDONLY)
            stack.callback(os.close, folder)
            fcntl.flock(folder, fcntl.LOCK_EX)  # of two that begin at once, one looks after the other
        if curve.is_being_written(files.csv):
            raise TrainingError(f"{files.csv}: another run is writing it; wait until it ends, or give another --out")
        if not step and (kept := files.keep_earlier()):
            console.print(f"{files.model} existed already: kept as {kept}")
        log = curve.Curve(files.csv, step)
    with log.file:
        yield log


def train(trainer: Trainer, console: Console, show_every: int = 1) -> float:
    """Run the trainer to settings.steps; returns the lowest validation loss. Raises TrainingError.

    Interrupted (Ctrl-C, SIGTERM, a closed terminal), it finishes its step, saves the run and raises KeyboardInterrupt.
    """
    settings, files = trainer.settings, Files(trainer.settings.out)
    seconds = 0.0  # of the steps alone
    with claimed(files, trainer.optimizer.step, console) as log, stopping() as asked:
        while trainer.optimizer.step < settings.steps and not asked.is_set():
            seconds += one_step(trainer, log, console, files, show_every)
            if settings.patience and trainer.waited >= settings.patience:
                console.print(f"no lower validation loss for {trainer.waited} validations: stopped")
                break
        trainer.save(files.state)
    if asked.is_set():
        raise KeyboardInterrupt
    if settings.keep == "last" or not files.model.exists():
        write_model(trainer, files.model)
    curve.plot(files.csv, files.png)
    console.print(f"{seconds / 60:.1f} minutes of steps; {files.model}, {files.csv}, {files.png}")
    return trainer.best


def one_step(trainer: Trainer, log: curve.Curve, console: Console, files: Files, show_every: int) -> float:
    """A step and what is due after it; returns the seconds of the step itself. Raises TrainingError."""
    settings, rate = trainer.settings, learning_rate(trainer.settings, trainer.optimizer.step)
    begin = time.perf_counter()
    loss, norm = trainer.step()
    seconds = time.perf_counter() - begin
    step, last = trainer.optimizer.step, trainer.optimizer.step == settings.steps
    if not math.isfinite(loss):
        raise TrainingError(f"step {step}: the loss is {loss}: try a lower --lr, or --clip 1")
    speed = settings.batch * settings.seq / seconds
    if step % show_every == 0 or step == 1 or last:
        console.print(
            f"step {step:5d}/{settings.steps} | train loss {loss:.6f} | lr {rate:.2e} | {seconds * 1000:8.1f} ms | "
            f"{speed:7.0f} tokens/s",
        )
    validation = None
    if due(step, settings.val_every, last):
        before = trainer.best
        validation = trainer.validate()
        console.print(f"val loss {validation:.6f}")
        if settings.keep == "best" and validation < before:
            write_model(trainer, files.model)
    log.add(
        step=step, train_loss=loss, val_loss=validation, lr=rate, grad_norm=norm, ms=seconds * 1000, tokens_per_s=speed
    )
    if due(step, settings.sample_every, last):
        show_sample(trainer, console)
    if due(step, settings.save_every, False):
        trainer.save(files.state)
        if settings.keep == "last":
            write_model(trainer, files.model)
    return seconds


def due(step: int, every: int, last: bool) -> bool:
    """Whether something done every so many steps (0: never), and after the last, is done after this one."""
    return every > 0 and (step % every == 0 or last)


def show_sample(trainer: Trainer, console: Console) -> None:
    """Print what the model would say now."""
    model = GPT2(trainer.config, trainer.full_parameters())
    text = sample_text(model, trainer.settings.sample_tokens, trainer.workers)
    console.rule(f"sample after step {trainer.optimizer.step}", characters="-")
    console.print(text.strip("\n"), markup=False)
    console.rule(characters="-")


def write_model(trainer: Trainer, path: Path) -> None:
    """Write what was learnt as a checkpoint of the version asked for."""
    write_checkpoint(path, trainer.config, trainer.full_parameters(), trainer.settings.version)


def run(
    settings: Settings, state: str | None, workers: WorkersLike | None, console: Console, show_every: int = 1
) -> float:
    """Load the data, make or continue the trainer, and train.

    Raises DataError, StateError, TrainingError, CheckpointError.
    """
    train_tokens, val_tokens = load_data(settings, console)
    trainer = Trainer(settings, train_tokens, val_tokens, workers)
    if state:
        trainer.restore(state)
    c = trainer.config
    console.print(
        f"{count_parameters(c):,} parameters: L={c.num_layers} NH={c.num_heads} C={c.channels} maxT={c.max_seq_len}; "
        f"{train_tokens.size:,} tokens to train on, {val_tokens.size:,} to validate with; "
        f"B={settings.batch} T={settings.seq}, {trainer.loader.batches} steps are one pass",
    )
    return train(trainer, console, show_every)
