"""GPT-2 weights of the Hugging Face hub (model.safetensors) -> a checkpoint.

    python -m lab.convert gpt2-medium/model.safetensors -o models/gpt2_355M.bin

Linear layers are stored as (C, OC) there ("Conv1D"), as (OC, C) here. Each layer's tensors have their own names there;
here all layers of a kind are one tensor. The head is tied to wte in both, so an lm_head must equal wte. Files hold no
number of heads: it is --heads, or n_head of config.json beside the file, or C / 64 as in every published GPT-2.
"""

import argparse
import json
import os
import re
import sys
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from lab.checkpoint import (
    VERSIONS,
    CheckpointError,
    Config,
    carve,
    check_config,
    count_parameters,
    parameter_shapes,
    write_checkpoint,
)
from lab.command import Parser, quietly, whole_number
from lab.models import describe

LAYER_TENSORS = {  # ours: (theirs in layer h.N, whether theirs is transposed)
    "ln1w": ("ln_1.weight", False),
    "ln1b": ("ln_1.bias", False),
    "qkvw": ("attn.c_attn.weight", True),
    "qkvb": ("attn.c_attn.bias", False),
    "attprojw": ("attn.c_proj.weight", True),
    "attprojb": ("attn.c_proj.bias", False),
    "ln2w": ("ln_2.weight", False),
    "ln2b": ("ln_2.bias", False),
    "fcw": ("mlp.c_fc.weight", True),
    "fcb": ("mlp.c_fc.bias", False),
    "fcprojw": ("mlp.c_proj.weight", True),
    "fcprojb": ("mlp.c_proj.bias", False),
}
OTHER_TENSORS = {"wte": "wte.weight", "wpe": "wpe.weight", "lnfw": "ln_f.weight", "lnfb": "ln_f.bias"}
HEAD_SIZE = 64  # of every published GPT-2


class ConvertError(Exception):
    """The file is no GPT-2 that can be converted; one line."""


def convert(source: str | os.PathLike, target: str | os.PathLike, version: int = 3, heads: int | None = None) -> Config:
    """Write the checkpoint `target` from a safetensors file. Raises ConvertError, CheckpointError, OSError."""
    source = Path(source)
    if not source.is_file():
        raise ConvertError(f"{source}: no such file")
    try:
        with safe_open(source, framework="np") as file:
            weights = Weights(source, file)
            config = weights.config(heads, padded=version != 1)
            params_memory = np.zeros(count_parameters(config), dtype=np.float32)
            fill(carve(params_memory, parameter_shapes(config)), weights, config)
    except SafetensorError as error:
        raise ConvertError(f"{source}: not a safetensors file: {error}") from None
    except OSError as error:
        raise ConvertError(f"{source}: cannot be read: {error.strerror or error}") from None
    write_checkpoint(target, config, params_memory, version)
    return config


class Weights:
    """The tensors of a safetensors file by GPT-2's names, with or without the prefix "transformer."."""

    def __init__(self, path: Path, file) -> None:
        self.path = path
        self.file = file
        self.names = {name.removeprefix("transformer."): name for name in file.keys()}  # noqa: SIM118  (not a dict)

    def shape(self, name: str) -> tuple[int, ...]:
        """A tensor's shape. Raises ConvertError."""
        if name not in self.names:
            raise ConvertError(f"{self.path}: no tensor {name}: not a GPT-2")
        return tuple(self.file.get_slice(self.names[name]).get_shape())

    def get(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """A tensor as float32, if it has the shape expected. Raises ConvertError."""
        found = self.shape(name)
        if found != shape:
            raise ConvertError(f"{self.path}: {name}: found shape {found}, expected {shape}")
        kind = self.file.get_slice(self.names[name]).get_dtype()
        if kind not in ("F64", "F32", "F16"):
            raise ConvertError(
                f"{self.path}: {name}: found numbers of type {kind}, expected F32 or F16; save it as float32"
            )
        return self.file.get_tensor(self.names[name]).astype(np.float32, copy=False)

    def config(self, heads: int | None, padded: bool) -> Config:
        """The model's shape, read from its tensors. Raises ConvertError, CheckpointError."""
        if len(self.shape("wte.weight")) != 2 or len(self.shape("wpe.weight")) != 2:
            raise ConvertError(f"{self.path}: wte.weight and wpe.weight: expected two dimensions each")
        (V, C), (maxT, _) = self.shape("wte.weight"), self.shape("wpe.weight")
        L = 1 + max((int(found[1]) for name in self.names if (found := re.match(r"h\.(\d+)\.", name))), default=-1)
        heads = heads or self.stated_heads() or max(C // HEAD_SIZE, 1)
        config = Config(maxT, V, L, heads, C, -(-V // 128) * 128 if padded else V)
        check_config(self.path, config)
        return config

    def stated_heads(self) -> int | None:
        """n_head of the config.json beside the file, if there is one. Raises ConvertError."""
        path = self.path.with_name("config.json")
        if not path.is_file():
            return None
        try:
            heads = json.loads(path.read_text(encoding="utf-8")).get("n_head")
        except (ValueError, AttributeError):
            raise ConvertError(
                f"{path}: not the JSON of a model's configuration; give --heads and move it away"
            ) from None
        if heads is not None and (not isinstance(heads, int) or heads < 1):
            raise ConvertError(f"{path}: n_head: found {heads!r}, expected a whole number from 1 up")
        return heads


def fill(tensors: dict[str, np.ndarray], weights: Weights, config: Config) -> None:
    """Copy all weights to their places. Raises ConvertError."""
    V, C = config.vocab_size, config.channels
    for ours, theirs in OTHER_TENSORS.items():
        shape = (V, C) if ours == "wte" else tensors[ours].shape
        tensors[ours][: shape[0]] = weights.get(theirs, shape)
    if "lm_head.weight" in weights.names and not np.array_equal(
        weights.get("lm_head.weight", (V, C)), tensors["wte"][:V]
    ):
        raise ConvertError(
            f"{weights.path}: lm_head.weight differs from wte.weight; a checkpoint holds one tensor for both"
        )
    for ours, (theirs, transposed) in LAYER_TENSORS.items():
        for l, tensor in enumerate(tensors[ours]):
            value = weights.get(f"h.{l}.{theirs}", tensor.shape[::-1] if transposed else tensor.shape)
            tensor[...] = value.T if transposed else value


def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = Parser(prog="python -m lab.convert", description="GPT-2 weights of the Hugging Face hub -> a checkpoint.")
    parser.add_argument("source", type=Path, metavar="MODEL.safetensors")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="MODEL.bin", help="the checkpoint to write")
    parser.add_argument(
        "--heads", type=whole_number(1), help="default: config.json beside the file, else channels / 64"
    )
    parser.add_argument(
        "--version", type=int, choices=VERSIONS, default=3, help="1, 3: float32; 5: bfloat16, half the size"
    )
    options: argparse.Namespace = parser.parse_args(arguments)
    try:
        convert(options.source, options.output, options.version, options.heads)
        print(describe(options.output, verify=False))
    except (ConvertError, CheckpointError) as error:
        print(error, file=sys.stderr)
        return 1
    except OSError as error:
        print(f"{options.output}: cannot be written: {error.strerror}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(quietly(main, steady=True))
