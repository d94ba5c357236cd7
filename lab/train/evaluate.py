"""python -m lab.train.evaluate: the loss of a checkpoint, as it stands in the file, over a corpus.

All tokens but the first are predicted once, over the full vocabulary, each from what stands before it in its sequence;
sequences of --seq tokens follow one another without overlap.
"""

import numpy as np
from rich.console import Console

from lab.checkpoint import CheckpointError, read_checkpoint
from lab.command import Parser, in_one_line, quietly, whole_number, worker_count
from lab.models import ModelError, named
from lab.serial import GPT2
from lab.tokenizer import TokenizerError
from lab.train.data import CORPORA, DataError
from lab.train.loop import load_data
from lab.train.settings import Settings
from lab.train.split import team
from lab.train.trainer import check_tokens, evaluate


@in_one_line("lab.train.evaluate: ", ModelError, CheckpointError, DataError, TokenizerError, OSError)
def main(argv: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = Parser(
        prog="python -m lab.train.evaluate",
        description="Measure the loss of a checkpoint, in nats per token.",
        epilog="example: python -m lab.train.evaluate models/tiny_shakespeare.bin --data tinyshakespeare",
    )
    parser.add_argument("model", help="a checkpoint of any version, or its name in models/")
    known = f"{', '.join(CORPORA)}, a UTF-8 text file or a token file (default tinyshakespeare)"
    parser.add_argument("--data", default="tinyshakespeare", help=known)
    parser.add_argument("--val-data", help="the validation tokens, where --data is a token file")
    parser.add_argument("--part", choices=("val", "train", "both"), default="val", help="which tokens (default val)")
    parser.add_argument(
        "--seq", type=whole_number(1), help="tokens in a sequence (default: as many as the model takes)"
    )
    parser.add_argument("--batch", type=whole_number(1), default=2, help="sequences at once (default 2)")
    parser.add_argument("--workers", type=worker_count, help="worker threads (default: the cores, at most 4)")
    arguments = parser.parse_args(argv)
    console, k = Console(soft_wrap=True, highlight=False), parser.workers(arguments.workers)
    config, params_memory = read_checkpoint(named(arguments.model))
    T = min(arguments.seq or config.max_seq_len, config.max_seq_len)
    parts = load_data(Settings(data=arguments.data, val_data=arguments.val_data), console)
    with team(k) as workers:
        for name, tokens in zip(("train", "val"), parts, strict=True):
            if arguments.part in (name, "both"):
                check_tokens(name, tokens, config)
                loss = evaluate(GPT2(config, params_memory), tokens, arguments.batch, T, 0, workers)
                console.print(
                    f"{name} loss {loss:.4f} nats per token (perplexity {np.exp(loss):.1f}): "
                    f"{tokens.size - 1:,} tokens in sequences of {T}"
                )
    return 0


if __name__ == "__main__":
    quietly(main, steady=True)
