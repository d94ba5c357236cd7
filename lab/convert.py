"""GPT-2 weights of the Hugging Face hub (safetensors) -> a checkpoint.

    python -m lab.convert gpt2-medium/model.safetensors -o models/gpt2_355M.bin
    python -m lab.convert gpt2-xl -o models/gpt2_1558M.bin        the folder of a model, also one in several files

Linear layers are stored as (C, OC) there ("Conv1D"), as (OC, C) here. Each layer's tensors have their own names there;
here all layers of a kind are one tensor. The head is tied to wte in both, so an lm_head must equal wte. Files hold no
number of heads: it is --heads, or n_head of config.json beside the file, or C / 64 as in every published GPT-2. What
config.json says that would make another program of it than gpt.c is refused.
"""

import argparse
import json
import math
import os
import re
from contextlib import ExitStack
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from lab.checkpoint import (
    HEADER_BYTES,
    MAGIC,
    VERSIONS,
    CheckpointError,
    Config,
    carve,
    check_config,
    check_finite,
    count_parameters,
    expect,
    foreign,
    parameter_shapes,
    widen_bfloat16,
    write_checkpoint,
)
from lab.command import Parser, in_one_line, quietly, shortened, whole_number
from lab.models import VERSIONS_HELP, describe

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
MASKS = {"attn.bias", "attn.masked_bias"}  # constants, stored by old versions of transformers
SYNONYMS = {
    "hidden_size": "n_embd",
    "max_position_embeddings": "n_positions",
    "n_ctx": "n_positions",
    "num_attention_heads": "n_head",
    "num_hidden_layers": "n_layer",
}
TANH_GELU = ("gelu_new", "gelu_pytorch_tanh", "gelu_fast", "gelu_accurate")  # names of one function
COMPUTED = {  # fields of config.json that change what is computed: (what gpt.c does, in words)
    "model_type": (lambda value, shape: value == "gpt2", "'gpt2'"),
    "activation_function": (lambda value, shape: value in TANH_GELU, "'gelu_new'"),
    "layer_norm_epsilon": (lambda value, shape: isinstance(value, int | float) and math.isclose(value, 1e-5), "1e-05"),
    "scale_attn_weights": (lambda value, shape: value is True, "true"),
    "scale_attn_by_inverse_layer_idx": (lambda value, shape: value is False, "false"),
    "add_cross_attention": (lambda value, shape: value is False, "false"),
    "n_inner": (lambda value, shape: value in (None, 4 * shape["n_embd"]), "null, which is 4 n_embd"),
    "pruned_heads": (lambda value, shape: not value, "none"),
    "quantization_config": (lambda value, shape: not value, "none"),
}


class ConvertError(Exception):
    """The file is not a GPT-2 that can be converted; one line."""


def convert(source: str | os.PathLike, target: str | os.PathLike, version: int = 3, heads: int | None = None) -> Config:
    """Write the checkpoint `target` from a safetensors file, the index of several, or the folder of a model.

    Raises ConvertError, CheckpointError, OSError.
    """
    with ExitStack() as stack:
        try:
            weights = Weights(Path(source), stack)
        except OSError as error:
            raise ConvertError(f"{shortened(str(source))}: cannot be read: {error.strerror}") from None
        config = weights.config(heads, padded=version != 1)
        params_memory = np.zeros(count_parameters(config), dtype=np.float32)
        fill(carve(params_memory, parameter_shapes(config)), weights, config)
    write_checkpoint(target, config, params_memory, version)
    return config


# ---------------------------------------------------------------------------------------------------------------- files


def files_of(source: Path) -> list[Path]:
    """The safetensors files of a model, named by one, by their index or by their folder. Raises ConvertError."""
    if source.is_dir():
        names = ("model.safetensors", "model.safetensors.index.json")
        found = next((source / name for name in names if (source / name).is_file()), None)
        if found is None:
            raise ConvertError(f"{source}: holds neither {names[0]} nor {names[1]}: name the file itself")
        source = found
    if not source.is_file():
        raise ConvertError(f"{source}: no such file")
    if shard := re.search(r"-(\d{5})-of-(\d{5})\.safetensors$", source.name):
        raise ConvertError(
            f"{source}: file {int(shard[1])} of the {int(shard[2])} of a model: "
            f"give their index (model.safetensors.index.json) or their folder ({source.parent})"
        )
    if source.suffix != ".json":
        return [source]
    weight_map = read_json(source).get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map or not all(isinstance(v, str) for v in weight_map.values()):
        raise ConvertError(f"{source}: not the index of a model in several files: it has no weight_map")
    paths = [source.parent / Path(name).name for name in sorted(set(weight_map.values()))]
    for path in paths:
        if not path.is_file():
            raise ConvertError(f"{path}: no such file, but {source.name} names it: download all {len(paths)} of them")
    return paths


def read_json(path: Path) -> dict:
    """A JSON object. Raises ConvertError."""
    try:
        found = json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise ConvertError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ConvertError(f"{path}: not a JSON object, as a model's configuration or index is: download it again")
    return found


def opened(path: Path, stack: ExitStack):
    """A safetensors file, open until the stack ends. Raises ConvertError."""
    try:
        with path.open("rb") as file:
            head = file.read(HEADER_BYTES)
        if head[:4] == MAGIC.to_bytes(4, "little"):
            raise ConvertError(f"{path}: already a checkpoint: use it with gpt --model")
        if head[8:9] != b"{" and (known := foreign(head)):
            raise ConvertError(f"{path}: {known}")
        return stack.enter_context(safe_open(path, framework="np"))
    except SafetensorError as error:
        raise ConvertError(f"{path}: not a safetensors file: {error}") from None
    except OSError as error:
        raise ConvertError(f"{path}: cannot be read: {error.strerror or error}") from None


class Weights:
    """The tensors of a model by GPT-2's names, with or without the prefix "transformer.", from one file or several."""

    def __init__(self, source: Path, stack: ExitStack) -> None:
        """Open the files, until the stack ends. Raises ConvertError."""
        paths = files_of(source)
        self.path = source
        self.folder = paths[0].parent
        self.places = {}  # name: (its file's path, the open file, its name there)
        for path in paths:
            file = opened(path, stack)
            for name in file.keys():  # noqa: SIM118  (not a dict)
                self.places[name.removeprefix("transformer.")] = (path, file, name)

    def shape(self, name: str) -> tuple[int, ...]:
        """A tensor's shape. Raises ConvertError."""
        if name not in self.places:
            raise ConvertError(f"{self.path}: no tensor {name}: not a GPT-2")
        _, file, stored = self.places[name]
        return tuple(file.get_slice(stored).get_shape())

    def get(self, name: str, shape: tuple[int, ...]) -> np.ndarray:
        """A tensor as float32, if it has the shape expected and finite numbers. Raises ConvertError."""
        found = self.shape(name)
        expect(self.path, name, f"shape {found}", found == shape, shape, ConvertError)
        path, file, stored = self.places[name]
        kind, known = file.get_slice(stored).get_dtype(), ("F64", "F32", "F16", "BF16")
        allowed = "F32, F16 or BF16: save it as one of these"
        expect(path, name, f"numbers of type {kind}", kind in known, allowed, ConvertError)
        if kind == "BF16":
            values = read_bfloat16(path, stored).reshape(shape)
        else:
            with np.errstate(over="ignore"):
                values = file.get_tensor(stored).astype(np.float32, copy=False)
        check_finite(path, name, values, ConvertError, ": download or train it again")
        return values

    def config(self, heads: int | None, padded: bool) -> Config:
        """The model's shape, read from its tensors. Raises ConvertError, CheckpointError."""
        if len(self.shape("wte.weight")) != 2 or len(self.shape("wpe.weight")) != 2:
            raise ConvertError(f"{self.path}: wte.weight and wpe.weight: expected two dimensions each")
        (V, C), (maxT, _) = self.shape("wte.weight"), self.shape("wpe.weight")
        L = 1 + max((int(found[1]) for name in self.places if (found := re.match(r"h\.(\d+)\.", name))), default=-1)
        stated = self.stated({"n_layer": L, "n_embd": C, "vocab_size": V, "n_positions": maxT})
        heads = heads or stated or max(C // HEAD_SIZE, 1)
        config = Config(maxT, V, L, heads, C, -(-V // 128) * 128 if padded else V)
        check_config(self.path, config)
        self.check_names()
        return config

    def stated(self, shape: dict[str, int]) -> int | None:
        """n_head of the config.json beside the file, if there is one, once nothing in it is unlike gpt.c.

        Raises ConvertError.
        """
        path = self.folder / "config.json"
        if not path.is_file():
            return None
        stated = {SYNONYMS.get(field, field): value for field, value in read_json(path).items()}
        for field, value in shape.items():
            if stated.get(field, value) != value:
                raise ConvertError(f"{path}: {field}: found {stated[field]!r}, but the weights have {value}")
        for field, (allowed, why) in COMPUTED.items():
            if field in stated:
                holds, found = allowed(stated[field], shape), repr(stated[field])
                expect(path, field, found, holds, f"{why}: gpt.c computes no other", ConvertError)
        heads = stated.get("n_head")
        possible = heads is None or (type(heads) is int and heads > 0)
        expect(path, "n_head", repr(heads), possible, "a positive integer", ConvertError)
        return heads

    def check_names(self) -> None:
        """Refuse what gpt.c has no place for: cross-attention, adapters, a head's bias. Raises ConvertError."""
        known = {theirs for theirs, _ in LAYER_TENSORS.values()} | MASKS
        for name in sorted(self.places):
            inside = re.match(r"h\.\d+\.(.*)", name)
            if (inside and inside[1] not in known) or name == "lm_head.bias":
                raise ConvertError(f"{self.path}: tensor {name}: gpt.c has no such tensor")


def read_bfloat16(path: Path, name: str) -> np.ndarray:
    """A tensor of a safetensors file that numpy has no type for, widened to float32, 1-D.

    The file is the length of its JSON header (8 bytes), the header, and the tensors' bytes.
    """
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        begin, end = json.loads(file.read(length))[name]["data_offsets"]
    return widen_bfloat16(np.fromfile(path, dtype="<u2", count=(end - begin) // 2, offset=8 + length + begin))


def fill(tensors: dict[str, np.ndarray], weights: Weights, config: Config) -> None:
    """Copy all weights to their places. Raises ConvertError."""
    V, C = config.vocab_size, config.channels
    for ours, theirs in OTHER_TENSORS.items():
        shape = (V, C) if ours == "wte" else tensors[ours].shape
        tensors[ours][: shape[0]] = weights.get(theirs, shape)
    head = "lm_head.weight"
    if head in weights.places and not np.array_equal(weights.get(head, (V, C)), tensors["wte"][:V]):
        raise ConvertError(f"{weights.path}: {head} differs from wte.weight; a checkpoint holds one tensor for both")
    for ours, (theirs, transposed) in LAYER_TENSORS.items():
        for l, tensor in enumerate(tensors[ours]):
            value = weights.get(f"h.{l}.{theirs}", tensor.shape[::-1] if transposed else tensor.shape)
            tensor[...] = value.T if transposed else value


@in_one_line("", ConvertError, CheckpointError, OSError)
def main(arguments: list[str] | None = None) -> int:
    """The command line; returns the exit code."""
    parser = Parser(prog="python -m lab.convert", description="Convert Hugging Face GPT-2 weights to a checkpoint.")
    parser.add_argument(
        "source", type=Path, metavar="MODEL.safetensors", help="the file, the index of several, or the model's folder"
    )
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="MODEL.bin", help="the checkpoint to write")
    parser.add_argument(
        "--heads", type=whole_number(1), help="default: config.json beside the file, else channels / 64"
    )
    parser.add_argument("--version", type=int, choices=VERSIONS, default=3, help=VERSIONS_HELP)
    options: argparse.Namespace = parser.parse_args(arguments)
    convert(options.source, options.output, options.version, options.heads)
    print(describe(options.output, verify=False))
    return 0


if __name__ == "__main__":
    quietly(main, steady=True)
