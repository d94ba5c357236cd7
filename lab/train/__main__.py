"""python -m lab.train: train a GPT-2, from scratch or from a checkpoint."""

import argparse
import sys
import warnings

from rich.console import Console

from lab.checkpoint import CheckpointError
from lab.command import INTERRUPTED, Parser, in_one_line, quietly, worker_count
from lab.models import ModelError, named
from lab.tokenizer import TokenizerError
from lab.train.data import DataError
from lab.train.loop import Files, TrainingError, run
from lab.train.settings import DEFAULTS, FLAGS, Settings, positive
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


def build_parser() -> Parser:
    """All flags; those of Settings have its names and its defaults."""
    parser = Parser(
        prog="python -m lab.train",
        description="Train a GPT-2.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    group = parser
    for title, flags in FLAGS.items():
        group = parser.add_argument_group(title)
        for flag, kind, default, text, *more in flags:
            how = {"action": "store_true"} if kind is bool else {"type": kind}
            shown = "" if default is None or default is False else f" (default {default})"
            group.add_argument(flag, default=None, help=text + shown, **how, **dict(*more))
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

    Raises StateError, ModelError.
    """
    given = {name: value for name, value in vars(arguments).items() if name in DEFAULTS and value is not None}
    if arguments.resume is not None:
        if fixed := given.keys() - {"steps"}:
            flag = {"init_from": "from"}.get(min(fixed), min(fixed)).replace("_", "-")
            parser.error(f"--{flag}: a resumed run keeps its settings; only --steps may change")
        return Settings(**{**read_meta(arguments.resume)["settings"], **given})
    if "init_from" in given:
        given["init_from"] = named(given["init_from"])
    settings = Settings(**given)
    if settings.channels % settings.heads:
        parser.error(f"--channels {settings.channels}: expected a multiple of --heads {settings.heads}")
    if not settings.out.endswith(".bin"):
        parser.error(f"--out {settings.out}: expected a name that ends in .bin")
    return settings


@in_one_line("lab.train: ", ModelError, DataError, CheckpointError, StateError, TrainingError, TokenizerError)
def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = build_parser()
    arguments = parser.parse_args(argv)
    console = Console(soft_wrap=True, highlight=False)
    settings = None
    try:
        settings = read_settings(parser, arguments)
        with warnings.catch_warnings(), team(parser.workers(arguments.workers)) as workers:
            warnings.filterwarnings("ignore", category=RuntimeWarning, module="lab.train")  # the loss shows it
            best = run(settings, arguments.resume, workers, console, arguments.show_every)
        if best < float("inf"):
            console.print(f"lowest validation loss {best:.4f}")
        return 0
    except MemoryError as error:
        raise TrainingError(f"not enough memory ({error}): a smaller model, --batch or --seq") from None
    except OSError as error:
        file = error.filename or (settings.out if settings else arguments.resume)
        raise TrainingError(f"{file}: {error.strerror}") from None
    except KeyboardInterrupt:
        state = settings and Files(settings.out).state
        where = f"; resume with  python -m lab.train --resume {state}" if state and state.exists() else ""
        print(f"lab.train: interrupted{where}", file=sys.stderr)
        return INTERRUPTED


if __name__ == "__main__":
    quietly(main, steady=True)
