"""The loss curve of a run: one line of CSV for each step, and a picture."""

import csv
import fcntl
import logging
import math
import os
from contextlib import suppress
from itertools import accumulate
from pathlib import Path

from lab.files import printable, replacing

FIELDS: tuple[str, ...] = ("step", "train_loss", "val_loss", "lr", "grad_norm", "ms", "tokens_per_s")

KEEP = 0.95  # of the running mean, at each step


class Curve:
    """The CSV file at `path`, locked as long as it is open. After a resume from `step`, what an interrupted run had
    written beyond it is dropped."""

    def __init__(self, path: str | os.PathLike, step: int = 0) -> None:
        self.path = Path(path)
        rows = read_curve(self.path) if step and self.path.exists() else []
        before = [row for row in rows if int(row["step"]) <= step]
        with replacing(self.path) as partial, partial.open("w", newline="") as file:
            writer = csv.DictWriter(file, FIELDS)
            writer.writeheader()
            writer.writerows(before)
        self.file = self.path.open("a", newline="")
        with suppress(OSError):  # a file system without locks
            fcntl.flock(self.file, fcntl.LOCK_EX)

    def add(self, **values: float | int | None) -> None:
        """Append a step; a validation loss that was not measured stays empty."""
        exact = ("step", "train_loss", "val_loss")  # a resumed run is compared by them
        row = {name: value if name in exact else f"{value:.6g}" for name, value in values.items() if value is not None}
        csv.DictWriter(self.file, FIELDS).writerow(row)
        self.file.flush()


def is_being_written(path: Path) -> bool:
    """Whether another run has the curve at `path` open."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # there is none, or a file system without locks
        pass
    return False


def read_curve(path: str | os.PathLike) -> list[dict[str, str]]:
    """The rows of a curve; what is none, such as a last line that was cut off, is left out."""
    with Path(path).open(newline="", errors="replace") as file, suppress(csv.Error):
        return [row for row in csv.DictReader(file) if is_row(row)]
    return []


def is_row(row: dict[str, str]) -> bool:
    """Whether it is whole, and its step and losses are numbers."""
    try:
        losses = float(row["train_loss"]) + float(row["val_loss"] or 0)
        return int(row["step"]) > 0 and math.isfinite(losses) and bool(row["tokens_per_s"])
    except (LookupError, TypeError, ValueError):
        return False


def plot(curve_path: str | os.PathLike, picture_path: str | os.PathLike) -> None:
    """Training and validation loss over the steps, as a PNG."""
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # not that a home without rights has no room for its cache
    from matplotlib.figure import Figure

    rows = read_curve(curve_path)
    steps, losses = [int(row["step"]) for row in rows], [float(row["train_loss"]) for row in rows]
    validated = [(int(row["step"]), float(row["val_loss"])) for row in rows if row["val_loss"]]
    figure = Figure(figsize=(8, 4.5), dpi=120)
    axes = figure.subplots()
    axes.plot(steps, losses, color="#9db8d9", linewidth=0.8, label="training, each batch")
    smooth = list(accumulate(losses, lambda mean, loss: KEEP * mean + (1.0 - KEEP) * loss))
    axes.plot(steps, smooth, color="#1f5fa8", label="training, running mean")
    if validated:
        axes.plot(*zip(*validated, strict=True), color="#c4501b", marker="o", markersize=3, label="validation")
    axes.set(xlabel="step", ylabel="loss, nats per token")
    axes.set_title(printable(Path(curve_path).stem), parse_math=False)
    axes.grid(alpha=0.3)
    axes.legend()
    figure.tight_layout()
    with replacing(Path(picture_path)) as partial:
        figure.savefig(partial, format="png")
