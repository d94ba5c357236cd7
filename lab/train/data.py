"""Text -> token files -> batches.

    named corpora     tinyshakespeare, tinystories: downloaded once (a broken download resumes), hash checked
    any text file     UTF-8; one document per paragraph
    token files       llm.c's two formats, both written and read:
                      current   256 int32 of header: [0] 20240520 [1] version 1 [2] how many tokens; then uint16 tokens
                      first     nothing but int32 tokens

tinyshakespeare is cut as llm.c cuts it: <|endoftext|> first and after each blank line, the first 32,768 tokens for
validation, the other 305,260 for training.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from lab.checkpoint import DATA_MAGIC, HEADER_BYTES, HEADER_INTS, expect, refuse_pipe
from lab.files import ROOT, replacing

DATA_VERSION = 1
FORMATS = ("uint16", "int32")
EOT_TEXT = "<|endoftext|>"
VALIDATION_TOKENS = 32768
DATA_DIR = Path(os.environ.get("GPT_DATA_DIR") or ROOT / "data")
CHUNK = 1 << 20  # characters of a text that are handled at a time


class DataError(Exception):
    """Text or tokens that cannot be used, or not be had; the message is one line."""


@dataclass(frozen=True)
class Corpus:
    """Where a named corpus comes from; the SHA-256 is None where only the server can tell it."""

    train_url: str
    train_sha256: str | None = None
    validation_url: str | None = None  # None: the first VALIDATION_TOKENS are; else both texts hold <|endoftext|>


CORPORA = {
    "tinyshakespeare": Corpus(
        "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
        "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
    ),
    "tinystories": Corpus(
        "https://huggingface.co/datasets/roneneldan/TinyStories/resolve/main/TinyStoriesV2-GPT4-train.txt",
        None,
        "https://huggingface.co/datasets/roneneldan/TinyStories/resolve/main/TinyStoriesV2-GPT4-valid.txt",
    ),
}

Progress = Callable[[str, int, int | None], object]  # what is being done, how far it is, how far it has to go

# --------------------------------------------------------------------------------------------------------- token files


def write_tokens(path: Path, pieces: Iterable[np.ndarray], fmt: str = "uint16") -> None:
    """Write 1-D pieces as one token file, beside and then renamed; fmt "uint16" (current) or "int32" (first).

    Raises DataError for a token that does not fit.
    """
    count = 0
    with replacing(path) as partial, partial.open("wb") as file:
        if fmt == "uint16":
            file.write(bytes(HEADER_BYTES))
        for piece in pieces:
            least, most = piece.min(), piece.max()
            expect(path, "tokens", f"{least} to {most}", 0 <= least <= most < 1 << 16, "0 to 65535", DataError)
            file.write(piece.astype("<u2" if fmt == "uint16" else "<i4").tobytes())
            count += piece.size
        if fmt == "uint16":
            file.seek(0)
            file.write(np.array([DATA_MAGIC, DATA_VERSION, count], dtype="<i4").tobytes())


def read_tokens(path: str | os.PathLike) -> np.ndarray:
    """All tokens of a file in either format, mapped, 1-D (uint16 or int32). Raises DataError."""
    path = Path(path)
    try:
        size = path.stat().st_size
        refuse_pipe(path)
        head = np.fromfile(path, dtype="<i4", count=min(HEADER_INTS, size // 4))
    except OSError as error:
        raise DataError(f"{path}: cannot be opened: {error.strerror}") from None
    if head.size and head[0] == DATA_MAGIC:
        return read_current(path, head, size)
    whole = "a positive multiple of 4 (int32 tokens without a header)"
    expect(path, "size", f"{size} bytes", size > 0 and size % 4 == 0, whole, DataError)
    if head.min() < 0 or head.max() >= 1 << 16:
        raise DataError(
            f"{path}: not a token file: it begins with {head[0]}, neither the magic {DATA_MAGIC} nor a token"
        )
    return np.memmap(path, dtype="<i4", mode="r").view(np.ndarray)


def read_current(path: Path, head: np.ndarray, size: int) -> np.ndarray:
    """The tokens behind a header. Raises DataError."""
    if head.size < HEADER_INTS:
        raise DataError(f"{path}: size: found {size} bytes, but the header alone is {HEADER_BYTES}")
    expect(path, "version", head[1], head[1] == DATA_VERSION, DATA_VERSION, DataError)
    count = int(head[2])
    stated = f"{HEADER_BYTES + 2 * count} for the {count} tokens it states"
    expect(path, "size", f"{size} bytes", 0 < 2 * count == size - HEADER_BYTES, stated, DataError)
    return np.memmap(path, dtype="<u2", mode="r", offset=HEADER_BYTES).view(np.ndarray)


# ------------------------------------------------------------------------------------------------------ text to tokens


def documents(text: str) -> str:
    """As llm.c does with tinyshakespeare: <|endoftext|> at the beginning and after each blank line."""
    return EOT_TEXT + text.replace("\n\n", "\n\n" + EOT_TEXT)


def encode_text(text: str) -> np.ndarray:
    """GPT-2 tokens of a text in which <|endoftext|> means the token, 1-D int32."""
    from lab.tokenizer import encode

    return np.array(encode(text, allow_special=True), dtype=np.int32)


def read_text(path: str | os.PathLike) -> str:
    """A whole UTF-8 file, whatever its line ends, with or without a byte-order mark. Raises DataError."""
    if Path(path).exists() and not Path(path).is_file():  # a device or a pipe may never end
        raise DataError(f"{path}: not a regular file")
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except OSError as error:
        raise DataError(f"{path}: cannot be opened: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text: byte {error.start} is invalid; save it as UTF-8") from None
    if not text.strip():
        raise DataError(f"{path}: empty: there is nothing to train on")
    return text


def text_pieces(path: Path) -> Iterator[str]:
    """A text too large for memory, cut only behind <|endoftext|>, a piece of CHUNK characters or more at a time."""
    kept = ""
    with path.open(encoding="utf-8-sig") as file:
        while more := file.read(CHUNK):
            whole, mark, kept = (kept + more).rpartition(EOT_TEXT)
            if whole or mark:
                yield whole + mark
    if kept.strip():
        yield kept


def tokenize_file(text_path: Path, train_path: Path, val_path: Path, fmt: str) -> None:
    """One text with a document per paragraph -> both token files. Raises DataError for a text too short to split."""
    tokens = encode_text(documents(read_text(text_path)))
    held_out = min(VALIDATION_TOKENS, tokens.size // 10)
    if held_out < 2:
        raise DataError(f"{text_path}: {tokens.size} tokens: too few to train on and validate with")
    write_tokens(val_path, [tokens[:held_out]], fmt)
    write_tokens(train_path, [tokens[held_out:]], fmt)


def tokenize_stories(text_path: Path, tokens_path: Path, fmt: str, progress: Progress) -> None:
    """A large text that holds <|endoftext|> between its documents -> one token file, in constant memory."""
    total, done = text_path.stat().st_size, 0

    def token_pieces() -> Iterator[np.ndarray]:
        nonlocal done
        yield encode_text(EOT_TEXT)
        for text in text_pieces(text_path):
            done += len(text.encode())
            progress(f"tokenising {text_path.name}", done, total)
            yield encode_text(text)

    write_tokens(tokens_path, token_pieces(), fmt)


# ----------------------------------------------------------------------------------------------------------- downloads


def download(url: str, path: Path, expected: str | None = None, progress: Progress = lambda *_: None) -> None:
    """Fetch url to path unless it is there; what a broken attempt left in path.part is continued.

    The SHA-256 is compared with `expected`, or with the one the server states (Hugging Face does). Raises DataError.
    """
    from lab.download import DownloadError, Source, fetch  # here, because requests takes a while to import

    if path.exists():
        return
    advice = "run it again to go on from there, or give your own text: --data FILE"
    source = Source(url, to_resume=advice, to_begin=advice, elsewhere=advice, sha256=expected)
    try:
        fetch(source, path, lambda done, total: progress(f"downloading {path.name}", done, total))
    except DownloadError as error:
        raise DataError(str(error)) from None


# ---------------------------------------------------------------------------------------------------- what to train on


def prepare(
    source: str, fmt: str = "uint16", directory: Path | None = None, progress: Progress = lambda *_: None
) -> tuple[Path, Path]:
    """The train and validation token files of a named corpus or a text file, made if they are not there.

    Raises DataError.
    """
    folder, text_path, corpus = directory or DATA_DIR, Path(source), CORPORA.get(source)
    if corpus:
        stem, folder = source, folder / source
        text_path = folder / f"{source}.txt"
    else:
        digest = hashlib.sha256(read_text(text_path).encode()).hexdigest()
        stem = f"{text_path.stem}-{digest[:12]}"  # another text, another file
    suffix = "" if fmt == "uint16" else "_int32"
    train_path, val_path = (folder / f"{stem}_{part}{suffix}.bin" for part in ("train", "val"))
    if train_path.exists() and val_path.exists():
        return train_path, val_path
    if corpus:
        download(corpus.train_url, text_path, corpus.train_sha256, progress)
    if corpus and corpus.validation_url:
        val_text = folder / f"{source}_val.txt"
        download(corpus.validation_url, val_text, None, progress)
        tokenize_stories(val_text, val_path, fmt, progress)
        tokenize_stories(text_path, train_path, fmt, progress)
    else:
        tokenize_file(text_path, train_path, val_path, fmt)
    return train_path, val_path


class DataLoader:
    """Batches of the tokens, pass after pass: in the order of the file, or with a seed shuffled, each pass in a random
    order of sequences that are cut at a random place, so that no two passes see the same ones.

    llm.c's first loader went in the order of the file, and so does its loader of validation data; for training it
    shuffles today.
    """

    def __init__(self, tokens: np.ndarray, B: int, T: int, seed: int | None = None) -> None:
        kind, least = ("batch", B * T + 1) if seed is None else ("shuffled batch", (B + 1) * T + 1)
        if tokens.size < least:
            raise DataError(f"{tokens.size} tokens: a {kind} of {B} sequences of {T} needs {least}")
        self.tokens, self.B, self.T, self.seed = tokens, B, T, seed
        self.batches = (tokens.size - (1 if seed is None else T)) // T // B  # in one pass, wherever it is cut

    def batch(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """The inputs and targets of batch `number`, counted from the beginning of training; each (B,T) int32.

        They depend on the number and the seed alone.
        """
        passes, within = divmod(number, self.batches)
        offset, order = 0, np.arange(self.batches * self.B)
        if self.seed is not None:
            random = np.random.default_rng([self.seed, passes, 1])
            offset = int(random.integers(self.T))
            order = random.permutation((self.tokens.size - 1 - offset) // self.T)
        starts = offset + self.T * order[within * self.B : (within + 1) * self.B]
        windows = np.stack([np.asarray(self.tokens[s : s + self.T + 1], dtype=np.int32) for s in starts])
        return np.ascontiguousarray(windows[:, :-1]), np.ascontiguousarray(windows[:, 1:])
