"""What a training run is told: every setting declared once. They are saved with the run, so that it can go on exactly
as it began."""

import argparse
import math
from dataclasses import field, make_dataclass
from itertools import chain
from typing import Any

from lab.checkpoint import VERSIONS
from lab.command import above_zero, number, shortened, whole_number
from lab.train.data import CORPORA, FORMATS

positive, natural = whole_number(1), whole_number(0)
share = number("share", "0 <= value < 1", lambda value: 0.0 <= value < 1.0)
weight = number("weight", "0 or more", lambda value: 0.0 <= value < math.inf)

FLAGS: dict[str, list[tuple]] = {  # by group: flag, type, default, what it is, more for add_argument()
    "data": [
        (
            "--data", str, "tinyshakespeare", f"{', '.join(CORPORA)}, a UTF-8 text file, or a token file (.bin)",
            {"metavar": "NAME|FILE"},
        ),
        (
            "--val-data", str, None, "token file to validate with (by default the first part of the data)",
            {"metavar": "FILE"},
        ),
        (
            "--data-format", str, "uint16", "format of the token files to write: llm.c's current one or its first",
            {"choices": FORMATS},
        ),
        ("--shuffle", bool, False, "in each pass another order of the sequences, cut elsewhere"),
    ],
    "model": [
        (
            "--from", str, None, "start from this checkpoint, or its name in models/",
            {"dest": "init_from", "metavar": "CHECKPOINT"},
        ),
        ("--layers", positive, 4, "L, from scratch"),
        ("--heads", positive, 4, "NH, from scratch"),
        ("--channels", positive, 64, "C, from scratch"),
        ("--context", positive, 256, "maxT, from scratch"),
        (
            "--share-rare", natural, 0,
            "one row of wte for all tokens that occur fewer than N times (0: off, 1: unused ones)", {"metavar": "N"},
        ),
    ],
    "steps": [
        ("--batch", positive, 8, "B, sequences in a step"),
        ("--seq", positive, 64, "T, tokens in a sequence"),
        ("--steps", positive, 200, "training steps"),
        ("--lr", above_zero, 1e-3, "the learning rate"),
        (
            "--schedule", str, "constant", "how the learning rate changes",
            {"choices": ("constant", "linear", "cosine")},
        ),
        ("--warmup", natural, 10, "steps of linear warm-up"),
        ("--final-lr", share, 0.1, "where linear and cosine end, as a share of --lr"),
        ("--beta1", share, 0.9, "AdamW's decay rate of the mean gradient"),
        ("--beta2", share, 0.999, "AdamW's decay rate of the mean squared gradient"),
        ("--weight-decay", weight, 0.0, "AdamW's weight decay, of all tensors"),
        ("--clip", weight, 0.0, "clip the gradient to this norm (0: do not clip)"),
        ("--dropout", share, 0.0, "dropout rate where a branch joins the residual stream (llm.c has none)"),
        (
            "--average", share, 0.0,
            "validate and write a running mean of the weights, with this decay rate (0: the weights themselves)",
        ),
        ("--seed", natural, 1337, "random seed"),
    ],
    "what is shown and kept": [
        ("--val-every", natural, 50, "steps between validations (0: none)"),
        ("--val-batches", natural, 10, "batches of a validation (0: all)"),
        ("--sample-every", natural, 100, "steps between samples of text (0: none)"),
        ("--sample-tokens", positive, 64, "tokens of a sample"),
        ("--save-every", natural, 100, "steps between saves (0: only at the end)"),
        (
            "--keep", str, "last", "write the last weights, or the best by validation loss",
            {"choices": ("last", "best")},
        ),
        ("--patience", natural, 0, "stop after this many validations without a lower loss (0: never)"),
        ("--out", str, "models/trained.bin", "where the model goes", {"metavar": "FILE.bin"}),
        ("--version", int, 3, "its checkpoint version: 1 and 3 float32, 5 bfloat16", {"choices": VERSIONS}),
    ],
}  # fmt: skip
DEFAULTS: dict[str, Any] = {  # --val-data: val_data
    dict(*more).get("dest", flag.strip("-").replace("-", "_")): default
    for flags in FLAGS.values()
    for flag, _kind, default, _text, *more in flags
}


class Settings(make_dataclass("Named", [(name, Any, field(default=value)) for name, value in DEFAULTS.items()])):
    """Every choice that the losses depend on. Lengths are in tokens, probabilities and rates plain numbers."""


def check_saved(values: dict[str, Any]) -> None:
    """Raise ValueError, one line, for settings that no command line can have given."""
    for flag, kind, default, _text, *more in chain.from_iterable(FLAGS.values()):
        how = dict(*more)
        value = values.get(how.get("dest", flag.strip("-").replace("-", "_")), default)
        try:
            fine = isinstance(value, bool) if kind is bool else value is default or kind(str(value)) == value
        except (ValueError, argparse.ArgumentTypeError):
            fine = False
        if not fine or value not in how.get("choices", [value]):
            raise ValueError(f"{flag} cannot be {shortened(repr(value))}")


def learning_rate(settings: Settings, step: int) -> float:
    """The rate of step `step`, counted from 0: a linear warm-up, then constant, or falling to final_lr of it at the
    last step.
    """
    if step < settings.warmup:
        return settings.lr * (step + 1) / settings.warmup
    if settings.schedule == "constant":
        return settings.lr
    done = min(1.0, (step - settings.warmup) / max(1, settings.steps - settings.warmup))
    fall = 1.0 - done if settings.schedule == "linear" else 0.5 * (1.0 + math.cos(math.pi * done))
    return settings.lr * (settings.final_lr + (1.0 - settings.final_lr) * fall)
