"""The shipped model, and the commands that measure: what is in the file is what its card says."""

import hashlib
from pathlib import Path

import numpy as np
import pytest

from lab import serial
from lab.chat import pieces
from lab.checkpoint import read_checkpoint, read_header
from lab.serial import GPT2_EOT
from lab.tokenizer import encode
from lab.train import bench, data, evaluate
from lab.train.sample import sample
from lab.train.trainer import evaluate as loss_of

ROOT = Path(__file__).parents[1]
MODEL = ROOT / "models" / "tiny_shakespeare.bin"
TINY = ROOT / "tests" / "data" / "tiny_v3.bin"
HELD_OUT = """First Citizen:
Before we proceed any further, hear me speak.

All:
Speak, speak.

First Citizen:
You are all resolved rather to die than to famish?

All:
Resolved. resolved.
"""  # the beginning of the play, which is in the validation part


@pytest.fixture(scope="module")
def model():
    return serial.gpt2_build_from_checkpoint(MODEL)


def test_the_file():
    version, config = read_header(MODEL)
    assert (version, config.vocab_size, config.padded_vocab_size) == (5, 50257, 50304)
    assert MODEL.stat().st_size <= 8_000_000
    card = MODEL.with_suffix(".md").read_text(encoding="utf-8")
    assert hashlib.sha256(MODEL.read_bytes()).hexdigest() in card


def test_it_has_learnt(model):
    tokens = np.array(encode(data.documents(HELD_OUT), allow_special=True))
    assert loss_of(model, tokens, 1, 256) < 4.5
    shuffled = np.random.default_rng(1).permutation(tokens)
    assert loss_of(model, shuffled, 1, 256) > 6


def test_it_speaks(model):
    """gpt.c's sampler has no chance in it: it must not fall into a loop, nor leave the play's vocabulary."""
    for prompt in ("First Citizen:", "To be, or not to be, that is the", "Hello!"):
        start = encode(prompt)
        tokens = sample(model, start, len(start) + 40)
        assert len(set(tokens)) >= 15
        assert max(np.bincount(tokens)) <= 15
    assert list(serial.generate(model, start, len(start) + 8)) == tokens[:8]


def test_it_answers(model):
    """To a whole sentence its first word is that the speech is over: the next speaker's is the answer."""
    start = encode("What news, my lord?")
    answer = sample(model, start, len(start) + 40)
    assert GPT2_EOT in answer[:3]
    said = "".join(pieces(iter(answer)))
    assert len(said.split()) > 5
    assert "<|endoftext|>" not in said


def test_evaluate_command(tmp_path, capsys):
    tokens = np.random.default_rng(5).integers(0, 331, size=200)
    data.write_tokens(tmp_path / "t.bin", [tokens])
    both = [str(TINY), "--data", str(tmp_path / "t.bin"), "--val-data", str(tmp_path / "t.bin"), "--workers", "1"]
    assert evaluate.main([*both, "--part", "both", "--seq", "16"]) == 0
    lines = capsys.readouterr().out.splitlines()
    expected = loss_of(serial.gpt2_build_from_checkpoint(TINY), tokens, 3, 16)
    assert lines[0] == lines[1].replace("val", "train")
    assert f"val loss {expected:.4f} nats per token" in lines[1]
    assert evaluate.main(["none.bin"]) == 1
    assert "none.bin: no such model" in capsys.readouterr().err


def test_bench_command(capsys, monkeypatch):
    monkeypatch.setattr(bench, "torch_python", lambda asked: asked)
    flags = ["--model", str(TINY), "--batch", "2", "--seq", "8", "--steps", "2", "--warmup", "1", "--workers", "1"]
    assert bench.main(flags) == 0
    assert "lab.train" in capsys.readouterr().out
    assert bench.main([*flags, "--torch-python", "/nowhere/python"]) == 1
    assert capsys.readouterr().err.startswith("lab.train.bench: ")
    assert bench.main([*flags, "--torch-python", "true"]) == 1
    assert capsys.readouterr().err == "lab.train.bench: true: ended with status 0\n"
    assert bench.main([*flags, "--seq", "999"]) == 1
    assert capsys.readouterr().err == "lab.train.bench: --seq 999: this model takes at most 64 positions\n"


def test_checkpoint_is_finite():
    config, params_memory = read_checkpoint(MODEL, verify=True)
    assert params_memory.size * 2 + 1024 == MODEL.stat().st_size
    assert config.max_seq_len == 256
