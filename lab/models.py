"""Which model: the shipped small one, GPT-2 124M as llm.c publishes it, or a synthetic one of the same shape.

    models/gpt2_124M.bin          downloaded: make model     speaks English
    models/tiny_shakespeare.bin   shipped                    speaks like a play, badly
    models/synthetic_124M.bin     written: make synthetic    speaks noise, but costs what GPT-2 124M costs

    resolve()         for programs that talk: --model or GPT_MODEL, else the first of the three that is there
    timing_model()    for programs that measure: the 124M, else the synthetic one, written when it is missing

`python -m lab.models --help` downloads, writes, inspects.
"""

import argparse
import math
import os
import sys
from pathlib import Path

import numpy as np

from lab.checkpoint import (
    VERSIONS,
    CheckpointError,
    Config,
    carve,
    check_config,
    count_parameters,
    parameter_shapes,
    read_checkpoint,
    read_header,
    write_checkpoint,
)
from lab.command import Parser, in_one_line, quietly, shortened, whole_number
from lab.files import ROOT

MODELS_DIR = Path(os.environ.get("GPT_MODELS_DIR") or ROOT / "models")
DOWNLOADED, SHIPPED, SYNTHETIC = "gpt2_124M.bin", "tiny_shakespeare.bin", "synthetic_124M.bin"
GPT2_124M = Config(
    max_seq_len=1024, vocab_size=50257, num_layers=12, num_heads=12, channels=768, padded_vocab_size=50304
)
VERSIONS_HELP = "1, 3: float32; 5: bfloat16, half the size (default 3)"


class ModelError(Exception):
    """No usable model; the message is one line and says what to do."""


# ------------------------------------------------------------------------------------------------------------- choosing


def resolve(name_or_path: str | os.PathLike | None = None) -> Path:
    """The checkpoint to use: the one asked for, or GPT_MODEL, else the first of the three that is there.

    A name such as "gpt2_124M" stands for the file of that name in models/. Raises ModelError.
    """
    asked = name_or_path or os.environ.get("GPT_MODEL")
    if asked:
        return find(asked)
    for name in (DOWNLOADED, SHIPPED):
        if (MODELS_DIR / name).is_file():
            return MODELS_DIR / name
    return synthetic_model()


def find(name_or_path: str | os.PathLike) -> Path:
    """A path, or a name in models/ with or without its .bin. Raises ModelError."""
    try:
        path = Path(name_or_path).expanduser()
        for candidate in (path, MODELS_DIR / path.name, MODELS_DIR / f"{path.name}.bin"):
            if candidate.is_file() and (candidate is path or path.parent == Path()):
                return candidate
    except (OSError, RuntimeError, ValueError) as error:  # RuntimeError: the home of nobody; ValueError: a null byte
        why = getattr(error, "strerror", None) or str(error).rstrip(".").lower()
        raise ModelError(f"{shortened(str(name_or_path))}: no such model ({why})") from None
    if path.parent == Path() and path.name in (SYNTHETIC, Path(SYNTHETIC).stem):
        return synthetic_model()
    if path.name in (DOWNLOADED, Path(DOWNLOADED).stem) and path.parent.resolve() in (Path().resolve(), MODELS_DIR):
        raise ModelError(f"{DOWNLOADED} is not here yet: make model downloads it (498 MB)")
    there = ", ".join(sorted(file.stem for file in MODELS_DIR.glob("*.bin"))) or "none yet (make model)"
    raise ModelError(f"{name_or_path}: no such model; give a path, or a name from {MODELS_DIR}: {there}")


def named(name_or_path: str) -> str:
    """A name in models/ as a path, a path as it is. Raises ModelError for a name that is neither here nor there."""
    only_name = os.path.basename(name_or_path) == name_or_path and not os.path.exists(name_or_path)
    return str(find(name_or_path)) if only_name else name_or_path


def timing_model(asked: str | os.PathLike | None = None) -> Path:
    """The model to measure with: the one asked for, else GPT-2 124M, else the synthetic one, which takes as long.

    Raises ModelError.
    """
    if asked:
        return find(asked)
    downloaded = MODELS_DIR / DOWNLOADED
    return downloaded if downloaded.is_file() else synthetic_model()


def synthetic_model() -> Path:
    """The synthetic 124M, written when it is missing, with a line on stderr. Raises ModelError."""
    path = MODELS_DIR / SYNTHETIC
    if not path.is_file():
        print(f"writing {path} (498 MB, once) ...", file=sys.stderr, flush=True)
        synthetic_checkpoint(path, GPT2_124M)
    return path


# -------------------------------------------------------------------------------------------------------- the synthetic

EMBEDDING = 0.02  # the standard deviation of wte and wpe
GELU_MEAN = 1 / math.sqrt(4 * math.pi)  # of gelu(z) for normal z of mean 0 and variance 1: s^2 / sqrt(2 pi (1 + s^2))


def synthetic_checkpoint(path: str | os.PathLike, config: Config, seed: int = 1, version: int = 3) -> None:
    """Write a random model whose next-token distributions are as peaked as a trained model's. Raises ModelError."""
    path = Path(path)
    try:
        check_config(path, config)
        write_checkpoint(path, config, synthetic_parameters(config, seed), version)
    except CheckpointError as error:
        raise ModelError(str(error)) from None
    except (MemoryError, ValueError):  # ValueError: more than numpy can count
        raise ModelError(f"{path}: not enough memory for {count_parameters(config):,} parameters") from None
    except OSError as error:
        raise ModelError(f"{path}: cannot be written: {error.strerror}") from None


def synthetic_parameters(config: Config, seed: int) -> np.ndarray:
    """All parameters, 1-D float32: uniform random numbers around each tensor's centre (fast, and the same everywhere).

    Ordinary initial weights give every token nearly the same probability; then rounding alone decides what is sampled.
    Here:

    - lnfw spreads the logits until a few tokens share the probability: with a standard deviation below sqrt(2 ln V),
      4.7 in GPT-2, thousands would;
    - wte and wpe are small beside what the layers add, or tied weights would make each token its own successor, and as
      large as each other, so that both word and place matter; qkvw is large enough for heads to prefer some positions,
      so that context matters;
    - fcprojb takes away the mean of what the gelu lets through, or all tokens would drift to the same favourites.
    """
    unit = 1 / math.sqrt(config.channels)  # so many weights of this deviation make of numbers of deviation 1 such a one
    spread = 2 * math.sqrt(2 * math.log(max(config.vocab_size, 2))) * unit / EMBEDDING
    deviations = {  # standard deviations; 0.1 for all others
        "wte": EMBEDDING, "wpe": EMBEDDING, "qkvw": 1.5 * unit, "attprojw": unit, "attprojb": 0.02, "fcw": unit,
        "fcprojw": 2.0 * unit, "fcprojb": 0.02, "lnfw": 0.1 * spread,
    }  # fmt: skip
    centres = {"ln1w": 1.0, "ln2w": 1.0, "lnfw": spread}  # 0 for all others
    random = np.random.Generator(np.random.SFC64(seed))
    memory = np.empty(count_parameters(config), dtype=np.float32)
    tensors = carve(memory, parameter_shapes(config))
    for name, tensor in tensors.items():
        random.random(out=tensor, dtype=np.float32)
        tensor -= np.float32(0.5)
        tensor *= np.float32(math.sqrt(12) * deviations.get(name, 0.1))
        if name in centres:
            tensor += np.float32(centres[name])
    tensors["wte"][config.vocab_size :] = 0.0
    tensors["fcprojb"] -= np.float32(GELU_MEAN) * tensors["fcprojw"].sum(axis=-1)
    return memory


# ---------------------------------------------------------------------------------------------------------- the command


def describe(path: Path, verify: bool) -> str:
    """One line about a checkpoint, read whole with `verify`. Raises CheckpointError."""
    version, config = read_header(path)
    read_checkpoint(path, verify=verify)
    return (
        f"{path}: version {version}, {count_parameters(config):,} parameters: {config.num_layers} layers, "
        f"{config.num_heads} heads, {config.channels} channels, "
        f"vocabulary {config.vocab_size} ({config.padded_vocab_size} stored), up to {config.max_seq_len} tokens"
        + (", all weights finite" if verify else "")
    )


@in_one_line("", ModelError, CheckpointError)
def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    options = parser().parse_args(arguments)
    options.run(options)
    return 0


def parser() -> Parser:
    """download, synthetic, show"""
    top = Parser(prog="python -m lab.models", description="Download, create and inspect models.")
    commands = top.add_subparsers(required=True, metavar="command")

    download = commands.add_parser("download", help=f"GPT-2 124M as llm.c publishes it, 498 MB -> {DOWNLOADED}")
    download.add_argument("--mirror", help="where from: a folder's address, or the file's (also GPT_MIRROR)")
    download.add_argument("-o", "--output", type=Path, help=f"default: {MODELS_DIR / DOWNLOADED}")
    download.set_defaults(run=run_download)

    synthetic = commands.add_parser("synthetic", help="random weights with a trained model's peaked distributions")
    for name, default, what in (
        ("layers", GPT2_124M.num_layers, "L"),
        ("heads", GPT2_124M.num_heads, "NH"),
        ("channels", GPT2_124M.channels, "C"),
        ("vocab", GPT2_124M.vocab_size, "V; stored padded to a multiple of 128"),
        ("context", GPT2_124M.max_seq_len, "maxT, the longest sequence"),
    ):
        synthetic.add_argument(f"--{name}", type=int, default=default, help=f"{what} (default {default})")
    synthetic.add_argument("--seed", type=whole_number(0), default=1, help="of the random weights (default 1)")
    synthetic.add_argument("--version", type=int, choices=VERSIONS, default=3, help=VERSIONS_HELP)
    synthetic.add_argument("-o", "--output", type=Path, help=f"default: {MODELS_DIR / SYNTHETIC}")
    synthetic.set_defaults(run=run_synthetic)

    show = commands.add_parser("show", help="what a checkpoint holds")
    show.add_argument("model", nargs="*", help="paths or names; default: the model gpt would use")
    show.add_argument("--verify", action="store_true", help="read it all and look for NaN and infinity")
    show.set_defaults(run=run_show)
    return top


def run_download(options: argparse.Namespace) -> None:
    """download"""
    from lab.download import download  # here, because requests takes a while to import

    path = options.output or MODELS_DIR / DOWNLOADED
    if not os.path.isfile(path):
        download(path, options.mirror or os.environ.get("GPT_MIRROR"))
    print(describe(path, verify=False))


def run_synthetic(options: argparse.Namespace) -> None:
    """synthetic"""
    path = options.output or MODELS_DIR / SYNTHETIC
    padded = options.vocab if options.version == 1 else -(-options.vocab // 128) * 128
    config = Config(options.context, options.vocab, options.layers, options.heads, options.channels, padded)
    synthetic_checkpoint(path, config, options.seed, options.version)
    print(describe(path, verify=False))


def run_show(options: argparse.Namespace) -> None:
    """show"""
    for name in options.model or [None]:
        print(describe(resolve(name), options.verify))


if __name__ == "__main__":
    from lab.models import main  # the module the others import, not a second copy of it with its own ModelError

    quietly(main, steady=True)
