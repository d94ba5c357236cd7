"""llm.c's checkpoint files: a header of 256 int32, then 16 float tensors, all little-endian.

    header  [0] 20240326  [1] version  [2] max_seq_len  [3] vocab_size  [4] num_layers  [5] num_heads  [6] channels
            [7] padded_vocab_size (versions 3 and 5)

    version 1   float32, vocabulary not padded     the file of the course's gpt.c
    version 3   float32, vocabulary padded         gpt2_124M.bin of llm.c's starter pack
    version 5   bfloat16, vocabulary padded        half the size; widening to float32 is exact

A float32 file is mapped, not read: opening GPT-2 124M takes milliseconds, and processes share its pages. These are of
2 MB where the system has such for files, which makes reading the weights up to twice as fast. Nothing in a file is
believed before it is checked; what is wrong is said in one line (`CheckpointError`).
"""

import errno
import math
import mmap
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

MAGIC = 20240326
DEBUG_MAGIC, DATA_MAGIC = 20240327, 20240520  # of llm.c's other files, whose headers are as long
HEADER_INTS = 256
HEADER_BYTES = 4 * HEADER_INTS
VERSIONS = (1, 3, 5)
PIECE = 1 << 20  # numbers that are handled at a time
LARGEST_FIELD = 1 << 24  # far above any GPT-2, far below what would overflow a size
HEADER_FIELDS = ("max_seq_len", "vocab_size", "num_layers", "num_heads", "channels", "padded_vocab_size")
FOREIGN = (  # what else a person may have at hand: its first bytes, what it is and what to do
    (b"version https://git-lfs", "a git-lfs pointer, not the file itself: git lfs pull fetches that"),
    (b"PK\x03\x04", "a PyTorch file: save the model as safetensors, which python -m lab.convert takes"),
    (b"GGUF", "a GGUF file of llama.cpp: take the model as safetensors, which python -m lab.convert takes"),
    (b"<", "a web page, such as a server sends instead of a file: download it again"),
    (DEBUG_MAGIC.to_bytes(4, "little"), "a debug state of llm.c: the model is the file without _debug_state"),
    (DATA_MAGIC.to_bytes(4, "little"), "a token file of llm.c: python -m lab.train --data takes it"),
)


class CheckpointError(Exception):
    """A file that is not a usable checkpoint; the message is one line: file, field, found, expected."""


@dataclass(frozen=True)
class Config:
    """The shape of a model, as in gpt.c's GPT2Config; wte has `padded_vocab_size` rows."""

    max_seq_len: int  # maxT
    vocab_size: int  # V
    num_layers: int  # L
    num_heads: int  # NH
    channels: int  # C
    padded_vocab_size: int  # Vp >= V


def parameter_shapes(config: Config) -> dict[str, tuple[int, ...]]:
    """The 16 tensors of a checkpoint with their shapes, in file order (fill_in_parameter_sizes in gpt.c)."""
    maxT, L, C, Vp = config.max_seq_len, config.num_layers, config.channels, config.padded_vocab_size
    return {
        "wte": (Vp, C),
        "wpe": (maxT, C),
        "ln1w": (L, C),
        "ln1b": (L, C),
        "qkvw": (L, 3 * C, C),
        "qkvb": (L, 3 * C),
        "attprojw": (L, C, C),
        "attprojb": (L, C),
        "ln2w": (L, C),
        "ln2b": (L, C),
        "fcw": (L, 4 * C, C),
        "fcb": (L, 4 * C),
        "fcprojw": (L, C, 4 * C),
        "fcprojb": (L, C),
        "lnfw": (C,),
        "lnfb": (C,),
    }


def count_parameters(config: Config) -> int:
    """How many numbers the 16 tensors hold."""
    return count_numbers(parameter_shapes(config))


def count_numbers(shapes: dict[str, tuple[int, ...]]) -> int:
    """How many numbers tensors of these shapes hold, all together."""
    return sum(map(math.prod, shapes.values()))


def carve(memory: np.ndarray, shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Views of consecutive pieces of the 1-D `memory`, one for each shape (malloc_and_point_parameters in gpt.c)."""
    tensors, start = {}, 0
    for name, shape in shapes.items():
        size = math.prod(shape)
        tensors[name] = memory[start : start + size].reshape(shape)
        start += size
    return tensors


def read_checkpoint(path: str | os.PathLike, verify: bool = False) -> tuple[Config, np.ndarray]:
    """Open a checkpoint: its shape and all parameters as one read-only 1-D float32 array.

    float32 files are memory-mapped; bfloat16 files are widened into memory, and then always searched for NaN and
    infinity, as is a mapped file of less than 64 MB, or any file with `verify`. Raises CheckpointError.
    """
    path = Path(path)
    version, config = read_header(path)
    itemsize = 2 if version == 5 else 4
    check_size(path, HEADER_BYTES + itemsize * count_parameters(config))
    if version == 5:
        params_memory = widen_bfloat16(np.fromfile(path, dtype="<u2", offset=HEADER_BYTES))
    else:
        with path.open("rb") as file:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        with suppress(AttributeError, OSError):  # a system without large pages
            mapped.madvise(mmap.MADV_HUGEPAGE)
        params_memory = np.frombuffer(mapped, dtype="<f4", offset=HEADER_BYTES)
    if verify or version == 5 or params_memory.nbytes < 64 << 20:
        for name, tensor in carve(params_memory, parameter_shapes(config)).items():
            check_finite(path, name, tensor)
    params_memory.flags.writeable = False
    return config, params_memory


def read_header(path: str | os.PathLike) -> tuple[int, Config]:
    """The version and the shape a checkpoint's header states, once they are possible. Raises CheckpointError."""
    path = Path(path)
    try:
        refuse_pipe(path)
        with path.open("rb") as file:
            raw = file.read(HEADER_BYTES)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be opened: {error.strerror}") from None
    if known := foreign(raw):
        raise CheckpointError(f"{path}: not a checkpoint: {known}")
    if len(raw) < HEADER_BYTES:
        raise CheckpointError(f"{path}: not a checkpoint: {len(raw)} bytes, but the header alone is {HEADER_BYTES}")
    header = np.frombuffer(raw, dtype="<i4")
    expect(path, "magic", header[0], header[0] == MAGIC, f"{MAGIC} (a checkpoint of llm.c)")
    version = int(header[1])
    expect(path, "version", version, version in VERSIONS, "1, 3 or 5")
    fields = dict(zip(HEADER_FIELDS, (int(value) for value in header[2:8]), strict=True))
    if version == 1:
        fields["padded_vocab_size"] = fields["vocab_size"]
    config = Config(**fields)
    check_config(path, config)
    return version, config


def refuse_pipe(path: str | os.PathLike) -> None:
    """Opening a pipe waits until somebody writes to it, which may be never. Raises OSError."""
    if Path(path).is_fifo():
        raise OSError(errno.EINVAL, "it is a pipe, not a file", str(path))


def foreign(raw: bytes) -> str:
    """What a file is that begins with these bytes, and what to do about it; "" for what is not known."""
    if raw[8:9] == b"{" and int.from_bytes(raw[:8], "little") < 1 << 32:
        return "a safetensors file: python -m lab.convert FILE -o models/NAME.bin makes a checkpoint of it"
    return next((known for begin, known in FOREIGN if raw.startswith(begin)), "")


def check_config(path: str | os.PathLike, config: Config) -> None:
    """Refuse a shape no GPT-2 can have. Raises CheckpointError."""
    for name in HEADER_FIELDS:
        value = getattr(config, name)
        expect(path, name, value, 0 < value <= LARGEST_FIELD, f"1 to {LARGEST_FIELD}")
    channels, heads = config.channels, config.num_heads
    expect(path, "channels", channels, channels % heads == 0, f"a multiple of num_heads ({heads})")
    padded, vocab = config.padded_vocab_size, config.vocab_size
    expect(path, "padded_vocab_size", padded, padded >= vocab, f"at least vocab_size ({vocab})")


def check_size(path: Path, expected: int) -> None:
    """Refuse a file whose length is not the one its header implies. Raises CheckpointError."""
    found = path.stat().st_size
    if found != expected:
        word = "shorter" if found < expected else "longer"
        raise CheckpointError(f"{path}: size: found {found} bytes, {word} than the {expected} its header says")


def check_finite(
    path: str | os.PathLike, name: str, tensor: np.ndarray, error: type[Exception] = CheckpointError, advice: str = ""
) -> None:
    """Refuse NaN and infinity. Raises CheckpointError, or another error, with the advice."""
    for piece in pieces(tensor.reshape(-1)):
        finite = np.isfinite(piece)
        if not finite.all():
            raise error(f"{path}: {name}: found {piece[~finite][0]}, expected finite weights only{advice}")


def expect(
    path: str | os.PathLike,
    field: str,
    found: object,
    holds: bool,
    expected: object,
    error: type[Exception] = CheckpointError,
) -> None:
    """The one form of a refusal: file, field, found, expected. Raises CheckpointError, or another error."""
    if not holds:
        raise error(f"{path}: {field}: found {found}, expected {expected}")


def write_checkpoint(path: str | os.PathLike, config: Config, params_memory: np.ndarray, version: int = 3) -> None:
    """Write a checkpoint beside `path` and rename it, so that `path` is never half a file.

    `params_memory` holds the 16 tensors in order, with `padded_vocab_size` rows in wte; version 1 stores only the
    first `vocab_size` of them, version 5 rounds to the nearest bfloat16 (ties to even). Raises CheckpointError for an
    impossible shape or version, and where `path` is a file of another kind.
    """
    path = Path(path)
    if os.path.exists(path) and not path.is_file():  # renaming a file over a device would take the device away
        raise CheckpointError(f"{path}: exists and is not a regular file; choose another name")
    if os.path.isfile(path) and path.stat().st_size:
        with path.open("rb") as file:
            there = int.from_bytes(file.read(4), "little")
        if there != MAGIC:
            raise CheckpointError(f"{path}: exists and is not a checkpoint; choose another name")
    expect(path, "version", version, version in VERSIONS, "1, 3 or 5")
    check_config(path, config)
    count = count_parameters(config)
    expect(path, "parameters", params_memory.size, params_memory.size == count, f"{count} by the shape given")
    header = np.zeros(HEADER_INTS, dtype="<i4")
    header[:2] = MAGIC, version
    header[2:8] = [getattr(config, name) for name in HEADER_FIELDS]
    if version == 1:
        header[7] = 0
    from lab.files import evict, replacing  # here: a program that reads models needs nothing of the lab but this file

    with replacing(path) as partial, partial.open("wb") as file:
        file.write(header.tobytes())
        for piece in stored_pieces(config, params_memory, version):
            file.write(piece.tobytes())
        evict(file)


def stored_pieces(config: Config, params_memory: np.ndarray, version: int) -> Iterator[np.ndarray]:
    """What follows the header, a few megabytes at a time, in the number format of `version`."""
    C, V, Vp = config.channels, config.vocab_size, config.padded_vocab_size
    parts = [params_memory]
    if version == 1:
        parts = [params_memory[: V * C], params_memory[Vp * C :]]  # without the rows that pad wte
    for part in parts:
        for piece in pieces(part):
            yield narrow_to_bfloat16(piece) if version == 5 else piece.astype("<f4", copy=False)


def pieces(array: np.ndarray) -> Iterator[np.ndarray]:
    """Consecutive slices of a 1-D array, so that work on 124M numbers needs memory for a million."""
    return (array[start : start + PIECE] for start in range(0, array.size, PIECE))


def widen_bfloat16(bits: np.ndarray) -> np.ndarray:
    """bfloat16 given as uint16 -> float32: the missing 16 bits of the mantissa are zero, so this is exact."""
    wide = bits.astype("<u4")
    wide <<= 16
    return wide.view("<f4")


def narrow_to_bfloat16(values: np.ndarray) -> np.ndarray:
    """float32 -> bfloat16 as uint16, rounded to nearest, ties to even; NaN stays NaN."""
    bits = np.ascontiguousarray(values, dtype="<f4").view("<u4")
    rounded = ((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")
    return np.where(np.isnan(values), np.uint16(0x7FC0), rounded)


def touch_pages(params_memory: np.ndarray) -> float:
    """Read one number of every page, so that later work finds the file in memory; returns their sum, to be ignored."""
    return float(params_memory[:: 4096 // params_memory.itemsize].sum(dtype=np.float64))
