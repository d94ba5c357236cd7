"""python -m lab.train: train a GPT-2, from scratch or from a checkpoint."""

import argparse
import dataclasses
import math
import sys
from typing import Any

from rich.console import Console

from lab.checkpoint import VERSIONS, CheckpointError
from lab.command import INTERRUPTED, Parser, above_zero, in_one_line, number, quietly, whole_number, worker_count
from lab.tokenizer import TokenizerError
from lab.train.data import CORPORA, FORMATS, DataError
from lab.train.loop import Files, TrainingError, run
from lab.train.settings import Settings
from lab.train.split import team
from lab.train.trainer import StateError, read_meta

EPILOG = """examples:
  python -m lab.train                                     a small model on tinyshakespeare, a minute
  python -m lab.train --data my.txt --out models/my.bin   on your own text (UTF-8; a blank line ends a document)
  python -m lab.train --from models/gpt2_124M.bin --batch 4 --seq 64 --steps 40 --lr 1e-4     llm.c's first example
  python -m lab.train --resume models/my.state.npz        go on with a run that was stopped, with the same losses

Beside the model OUT.bin it writes OUT.state.npz (to resume from), OUT.csv and OUT.png (the loss curve).
Then:  python -m lab.gpt --model models/my.bin --text 464 2068
"""


positive, natural = whole_number(1), whole_number(0)


share = number("share", "0 <= value < 1", lambda value: 0.0 <= value < 1.0)
weight = number("weight", "0 or more", lambda value: 0.0 <= value < math.inf)

FLAGS: dict[str, list[tuple[str, Any, str, dict[str, Any]]]] = {  # by group: name, type, what it is, more
    "data": [
        (
            "--data", str, f"{', '.join(CORPORA)}, a UTF-8 text file, or a token file (.bin)",
            {"metavar": "NAME|FILE"},
        ),
        (
            "--val-data", str, "token file to validate with (by default the first part of the data)",
            {"metavar": "FILE"},
        ),
        (
            "--data-format", str, "format of the token files to write: llm.c's current one or its first",
            {"choices": FORMATS},
        ),
        ("--shuffle", bool, "in each pass another order of the sequences, cut elsewhere", {}),
    ],
    "model": [
        ("--from", str, "start from this checkpoint", {"dest": "init_from", "metavar": "CHECKPOINT"}),
        ("--layers", positive, "L, from scratch", {}),
        ("--heads", positive, "NH, from scratch", {}),
        ("--channels", positive, "C, from scratch", {}),
        ("--context", positive, "maxT, from scratch", {}),
        (
            "--share-rare", natural,
            "one row of wte for all tokens that occur fewer than N times (0: off, 1: unused ones)", {"metavar": "N"},
        ),
    ],
    "steps": [
        ("--batch", positive, "B, sequences in a step", {}),
        ("--seq", positive, "T, tokens in a sequence", {}),
        ("--steps", positive, "training steps", {}),
        ("--lr", above_zero, "the learning rate", {}),
        ("--schedule", str, "how the learning rate changes", {"choices": ("constant", "linear", "cosine")}),
        ("--warmup", natural, "steps of linear warm-up", {}),
        ("--final-lr", share, "where linear and cosine end, as a share of --lr", {}),
        ("--beta1", share, "AdamW's decay rate of the mean gradient", {}),
        ("--beta2", share, "AdamW's decay rate of the mean squared gradient", {}),
        ("--weight-decay", weight, "AdamW's weight decay, of all tensors", {}),
        ("--clip", weight, "clip the gradient to this norm (0: do not clip)", {}),
        (
            "--dropout", share,
            "dropout rate where a branch joins the residual stream (llm.c has none)", {},
        ),
        (
            "--average", share,
            "validate and write a running mean of the weights, with this decay rate (0: the weights themselves)", {},
        ),
        ("--seed", natural, "random seed", {}),
    ],
    "what is shown and kept": [
        ("--val-every", natural, "steps between validations (0: none)", {}),
        ("--val-batches", natural, "batches of a validation (0: all)", {}),
        ("--sample-every", natural, "steps between samples of text (0: none)", {}),
        ("--sample-tokens", positive, "tokens of a sample", {}),
        ("--save-every", natural, "steps between saves (0: only at the end)", {}),
        ("--keep", str, "write the last weights, or the best by validation loss", {"choices": ("last", "best")}),
        ("--patience", natural, "stop after this many validations without a lower loss (0: never)", {}),
        ("--out", str, "where the model goes", {"metavar": "FILE.bin"}),
        ("--version", int, "its checkpoint version: 1 and 3 float32, 5 bfloat16", {"choices": VERSIONS}),
    ],
}  # fmt: skip


def build_parser() -> Parser:
    """All flags; those of Settings have its names and its defaults."""
    parser = Parser(
        prog="python -m lab.train",
        description="Train a GPT-2.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    known, group = Settings(), parser
    for title, flags in FLAGS.items():
        group = parser.add_argument_group(title)
        for name, kind, text, more in flags:
            default = getattr(known, more.get("dest", name.strip("-").replace("-", "_")))
            how = {"action": "store_true"} if kind is bool else {"type": kind}
            shown = "" if default is None or default is False else f" (default {default})"
            group.add_argument(name, default=None, help=text + shown, **how, **more)
    group.add_argument("--show-every", type=positive, default=1, help="steps between printed lines (default 1)")
    parser.add_argument("--workers", type=worker_count, help="worker threads (default: the cores, at most 4)")
    parser.add_argument(
        "--resume",
        metavar="STATE",
        help="continue a saved run; only --steps, --workers, --show-every may be given with it",
    )
    return parser


def read_settings(parser: argparse.ArgumentParser, arguments: argparse.Namespace) -> Settings:
    """The settings that flags and defaults, or a saved run, amount to; ends with 2 for flags that contradict.

    Raises StateError.
    """
    given = {
        f.name: getattr(arguments, f.name)
        for f in dataclasses.fields(Settings)
        if getattr(arguments, f.name) is not None
    }
    if arguments.resume is not None:
        if set(given) - {"steps"}:
            flag = sorted(set(given) - {"steps"})[0].replace("_", "-")
            parser.error(f"--{flag}: a resumed run keeps its settings; only --steps may change")
        return Settings(**{**read_meta(arguments.resume)["settings"], **given})
    settings = Settings(**given)
    if settings.channels % settings.heads:
        parser.error(f"--channels {settings.channels}: expected a multiple of --heads {settings.heads}")
    if not settings.out.endswith(".bin"):
        parser.error(f"--out {settings.out}: expected a name that ends in .bin")
    return settings


@in_one_line("lab.train: ", DataError, CheckpointError, StateError, TrainingError, TokenizerError)
def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = build_parser()
    arguments = parser.parse_args(argv)
    console = Console(soft_wrap=True)
    settings = None
    try:
        settings = read_settings(parser, arguments)
        with team(parser.workers(arguments.workers)) as workers:
            best = run(settings, arguments.resume, workers, console, arguments.show_every)
        if best < float("inf"):
            console.print(f"lowest validation loss {best:.4f}", highlight=False)
        return 0
    except MemoryError as error:
        print(f"lab.train: not enough memory ({error}): a smaller model, --batch or --seq", file=sys.stderr)
        return 1
    except OSError as error:
        print(
            f"lab.train: {error.filename or (settings.out if settings else arguments.resume)}: {error.strerror}",
            file=sys.stderr,
        )
        return 1
    except KeyboardInterrupt:
        state = settings and Files(settings.out).state
        where = f"; resume with  python -m lab.train --resume {state}" if state and state.exists() else ""
        print(f"lab.train: interrupted{where}", file=sys.stderr)
        return INTERRUPTED


if __name__ == "__main__":
    sys.exit(quietly(main, steady=True))
