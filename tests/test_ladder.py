"""The ladder: on a stand-in for PyTorch everywhere, and in earnest, on a tiny model, where PyTorch is installed."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lab.checkpoint import CheckpointError, Config, count_parameters
from lab.command import INTERRUPTED
from lab.ladder import __main__ as ladder
from lab.ladder import climb, peer, show
from lab.ladder.__main__ import main
from lab.models import synthetic_checkpoint

TINY = Config(max_seq_len=64, vocab_size=300, num_layers=2, num_heads=2, channels=32, padded_vocab_size=304)
HAS_TORCH = importlib.util.find_spec("torch") is not None
PATIENCE = 1200  # seconds for the whole ladder; on two crowded cores it has taken 460
needs_torch = pytest.mark.skipif(not HAS_TORCH, reason="PyTorch is not installed (make ladder installs it)")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with a vocabulary that is not a multiple of 128."""
    path = tmp_path_factory.mktemp("models") / "tiny.bin"
    synthetic_checkpoint(path, TINY)
    return path


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A token file, as lab.train reads it."""
    from lab.train.data import write_tokens

    path = tmp_path_factory.mktemp("data") / "corpus.bin"
    write_tokens(path, [np.random.default_rng(3).integers(0, TINY.vocab_size, 4000)])
    return path


@pytest.fixture
def stand_in(monkeypatch: pytest.MonkeyPatch, tiny: Path, corpus: Path, tmp_path: Path):
    """Climb stand-in rungs with these fates: (exit code, report of ladder.json)."""
    from lab.train.data import read_tokens

    monkeypatch.setattr(peer, "PROCESS", Path(__file__).with_name("ladder_process.py"))
    monkeypatch.setenv("LADDER_LOSS", str(climb.our_loss(tiny, np.asarray(read_tokens(corpus)), 16)))

    def run(*fates: str, **options: str) -> tuple[int, dict]:
        monkeypatch.setenv("LADDER_RUNGS", json.dumps(fates))
        flags = [f"--{name}={value}" for name, value in options.items()]
        arguments = [f"--model={tiny}", f"--data={corpus}", "--seq=16", "--window=16", "--steps=2", "--part=training"]
        code = main([*arguments, f"--torch-python={sys.executable}", f"--out={tmp_path}", *flags])
        result = tmp_path / "ladder.json"
        return code, json.loads(result.read_text()) if result.exists() else {}

    return run


def rungs(report: dict) -> list[tuple[str, str]]:
    return [(rung["status"], rung["why"]) for rung in report["rungs"]]


def test_each_rung_stands_on_the_good_ones_before_it(stand_in, tmp_path):
    code, report = stand_in("good", "refused", "good", "good")
    assert code == 0
    assert rungs(report) == [("measured", ""), ("refused", "no such hardware"), ("measured", ""), ("measured", "")]
    # the stand-in takes 1 / (number of its rungs) seconds: 1, 1/2, 1/3
    assert [rung["times_first"] for rung in report["rungs"]] == pytest.approx([1, None, 2, 3])
    assert [rung["times_previous"] for rung in report["rungs"]] == pytest.approx([1, None, 2, 1.5])
    assert report["rungs"][0]["first_step"] == 5.0
    assert {path.name for path in tmp_path.iterdir()} == {
        "ladder.json", "training.png", "training.svg", "roofline.png", "roofline.svg",
    }  # fmt: skip


@pytest.mark.parametrize(
    "fate, why",
    [
        ("wrong", "changes the result: a loss differs by 5.00% (tolerance 1.00%)"),
        ("nan", "changes the result"),
        ("crash", "crashed: "),
        ("killed", "killed, as by a system that runs out of memory"),
        ("memory", "out of memory: OutOfMemoryError: 80 GB asked for"),
        ("broken", "RuntimeError: no kernel"),
    ],
)
def test_a_rung_that_fails_says_why_and_the_next_does_without_it(stand_in, sketched, capsys, fate, why):
    code, report = stand_in("good", fate, "good")
    assert code == 0
    assert [rung["status"] for rung in report["rungs"]] == ["measured", "failed", "measured"]
    assert report["rungs"][1]["why"].startswith(why)
    assert report["rungs"][2]["times_first"] == 2  # one rung below it, not two
    assert f"{fate} 1: failed: {why}" in capsys.readouterr().out


def test_show_draws_an_earlier_run_again(stand_in, sketched, tmp_path, capsys):
    stand_in("good", "refused")
    (tmp_path / "training.png").unlink()
    capsys.readouterr()
    assert main(["--show", f"--out={tmp_path}"]) == 0
    assert (tmp_path / "training.png").exists() and "refused 1: refused: no such hardware" in capsys.readouterr().out
    assert main(["--show", f"--out={tmp_path / 'nothing'}"]) == 2
    assert "no ladder was measured into this folder" in capsys.readouterr().err


def test_a_ladder_that_somebody_has_edited_is_one_line(stand_in, sketched, tmp_path, capsys):
    _, report = stand_in("good")
    capsys.readouterr()
    for key, said in (("first_loss", "KeyError: 'first_loss'"), ("rungs", "no ladder was measured into this folder")):
        (tmp_path / "ladder.json").write_text(json.dumps({name: report[name] for name in report if name != key}))
        assert main(["--show", f"--out={tmp_path}"]) in (1, 2)
        error = capsys.readouterr().err
        assert error.startswith(f"lab.ladder: {tmp_path}/ladder.json: ") and said in error and error.count("\n") == 1


def test_what_is_kept_after_each_rung_can_be_shown(stand_in, sketched, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(ladder, "conclude", lambda *_: None)  # as if it had been killed
    stand_in("good", "good")
    monkeypatch.undo()
    (tmp_path / "bench.json").write_text('{"contenders": [{"na')
    monkeypatch.setattr(ladder, "PROFILES", tmp_path)
    assert main(["--show", f"--out={tmp_path}"]) == 0
    assert "good 1" in capsys.readouterr().out


@pytest.mark.parametrize("contender", [{"name": 3}, {"name": "cached k=1", "seconds": [0]}, {"name": "cached k=1"}])
def test_a_bench_that_somebody_has_edited_is_left_out(contender, tmp_path, monkeypatch):
    (tmp_path / "bench.json").write_text(json.dumps({"contenders": [contender], "prompt_length": 8, "n": 9}))
    monkeypatch.setattr(ladder, "PROFILES", tmp_path)
    assert ladder.chapters() == {}  # not even part of it


def test_numbers_of_neighbours_do_not_cover_each_other():
    near = [
        climb.Result(part, part, part, "", 0.1, "measured", seconds=[1.0], tokens_per_step=1, flops=flops, bytes=1e11)
        for part, flops in (("training", 1e12), ("generation", 1e12))
    ]
    report = {"title": "a machine", "machine": {"bandwidth": 1e11, "peak": {"float32": 4e12}}}
    figure = show.draw_roofline(near, report, {}, "")
    first, second = figure.axes[0].texts
    assert first.xyann == (7, 0) and second.xyann[1] >= 10


def test_ctrl_c_keeps_the_rungs_that_are_done(stand_in, sketched, capsys, tmp_path):
    code, report = stand_in("good", "good", "interrupt", "good")
    assert code == INTERRUPTED
    assert [rung["status"] for rung in report["rungs"]] == ["measured", "measured"]
    assert (tmp_path / "training.png").exists()
    assert "interrupted: the rungs above are kept" in capsys.readouterr().out


def test_ctrl_c_before_a_rung_is_done_keeps_none(stand_in, sketched, capsys):
    assert stand_in("interrupt") == (INTERRUPTED, {})
    assert "interrupted: no rung was done" in capsys.readouterr().out


def test_another_program_is_not_timed(stand_in, sketched, monkeypatch, capsys):
    monkeypatch.setenv("LADDER_LOSS", "5.0")
    code, report = stand_in("good")
    assert code == 2 and report == {}
    assert re.search(r"the first loss is 5.000000, lab.train's \d+\.\d+: not the same program", capsys.readouterr().err)


def test_a_gpu_takes_the_largest_batch_that_fits(stand_in, sketched, monkeypatch, capsys):
    monkeypatch.setenv("LADDER_DEVICE", "cuda")
    monkeypatch.setenv("LADDER_FITS", "20")
    code, report = stand_in("good", "good")
    assert code == 0 and report["batch"] == 16
    assert "out of memory with batch 24" in capsys.readouterr().out


def test_too_little_text_for_the_largest_batch_is_gone_through_again(stand_in, sketched, corpus, tmp_path, monkeypatch):
    from lab.train.data import read_tokens, write_tokens

    monkeypatch.setenv("LADDER_DEVICE", "cuda")
    write_tokens(tmp_path / "short.bin", [read_tokens(corpus)[:1000]])  # fewer than 128 sequences of 16
    code, report = stand_in("good", data=str(tmp_path / "short.bin"))
    assert code == 0 and report["batch"] == 128


def test_the_batch_leaves_room_for_bf16(monkeypatch, tmp_path):
    def ask(job: climb.Job, rungs: list[str], **order: object) -> dict:
        if job.batch > (32 if rungs else 48):
            raise peer.RungFailed("80 GB asked for", memory=True)
        return {}

    monkeypatch.setattr(climb.Job, "ask", ask)
    job = climb.Job("python", tmp_path, tmp_path, "cuda", 4, 1024, 50, 16, 64)
    assert climb.largest_batch(job, [{"key": "bf16", "refused": ""}], print) == 32
    assert climb.largest_batch(job, [{"key": "bf16", "refused": "a T4"}], print) == 48


def test_the_first_rung_is_alone_on_a_gpu_when_it_is_compared_with(stand_in, sketched, monkeypatch, tmp_path):
    alone = tmp_path / "alone"
    alone.mkdir()
    monkeypatch.setenv("LADDER_DEVICE", "cuda")
    monkeypatch.setenv("LADDER_ALONE", str(alone))
    _, report = stand_in("good", "four")
    assert rungs(report) == [("measured", ""), ("measured", "")]


def test_no_torch_is_one_line(capsys, monkeypatch):
    monkeypatch.setattr("lab.ladder.__main__.find_spec", lambda name: None)
    assert main([]) == 2
    assert capsys.readouterr().err.splitlines() == [
        "lab.ladder: PyTorch is not installed here: make ladder installs it, or name a Python that has it: "
        "--torch-python PYTHON"
    ]


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--torch-python", "/nowhere/python"], "/nowhere/python: cannot be started: No such file or directory"),
        (["--torch-python", "false"], "false: ended with status 1"),
        (["--torch-python", "true"], "true: no Python: it did not run process.py"),
        (["--torch-python", "yes"], f"yes: it answers {str(peer.PROCESS)[:40]!r}, which is not JSON"),
    ],
)
def test_an_unusable_python_is_one_line(capsys, flags, message):
    assert main(flags) == 2
    assert capsys.readouterr().err.strip() == f"lab.ladder: {message}"


@pytest.mark.parametrize(
    "flags, message",
    [
        (["--seq=65"], "65 positions: tiny.bin has 64"),
        (["--batch=500"], "4000 tokens are too few for a batch: 8001 are needed"),
        (["--data=missing.txt"], "missing.txt"),
        (["--model=missing"], "missing: no such model"),
    ],
)
def test_bad_input_is_one_line(stand_in, tiny, corpus, tmp_path, capsys, monkeypatch, flags, message):
    monkeypatch.setenv("LADDER_RUNGS", json.dumps(["good"]))
    code = main([f"--model={tiny}", f"--data={corpus}", "--seq=16", f"--torch-python={sys.executable}", *flags])
    error = capsys.readouterr().err
    assert code in (1, 2) and message in error and len(error.splitlines()) == 1


def test_flops_of_a_token(tiny):
    """6 N + 12 L C T by hand: N without wpe and padding."""
    L, C, V = 2, 32, 300
    layer = 2 * C + 3 * C * C + 3 * C + C * C + C + 2 * C + 4 * C * C + 4 * C + 4 * C * C + C
    assert climb.flops_per_token(tiny, 16) == 6 * (V * C + L * layer + 2 * C) + 12 * L * C * 16
    assert count_parameters(TINY) == (304 + 64) * C + L * layer + 2 * C


def test_a_checkpoint_that_is_none(tmp_path):
    (tmp_path / "x.bin").write_bytes(b"no checkpoint")
    with pytest.raises(CheckpointError):
        climb.flops_per_token(tmp_path / "x.bin", 8)


# ---------------------------------------------------------------------------------------------------------- in earnest


@pytest.fixture(scope="module")
def climbed(corpus: Path, tmp_path_factory: pytest.TempPathFactory, once: Callable) -> dict:
    """ladder.json of all rungs on a tiny model."""
    return once("ladder", lambda: climb_all(corpus, tmp_path_factory.mktemp("ladder")))


def climb_all(corpus: Path, out: Path) -> dict:
    """The ladder's command: some minutes, most of them for compiling; one layer, as a second has the same code."""
    tiny = out / "one_layer.bin"
    synthetic_checkpoint(tiny, replace(TINY, num_layers=1))
    flags = ["--steps=2", "--batch=2", "--seq=32", "--window=16", f"--out={out}"]
    command = [sys.executable, "-m", "lab.ladder", f"--model={tiny}", f"--data={corpus}", *flags]
    run = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE - 20)
    assert run.returncode == 0, run.stderr
    return json.loads((out / "ladder.json").read_text())


@needs_torch
@pytest.mark.timeout(PATIENCE)  # whoever comes first pays for compiling
def test_every_rung_is_measured_or_says_why_not(climbed):
    assert [rung["key"] for rung in climbed["rungs"]] == [
        "eager", "tf32", "bf16", "compiled", "flash_attention", "padded_vocabulary", "fused_adamw", "accumulation",
        "no_cache", "kv_cache", "bf16_weights", "cuda_graphs",
    ]  # fmt: skip
    for rung in climbed["rungs"]:
        if rung["status"] == "measured":
            assert rung["difference"] <= rung["tolerance"]
            assert len(rung["seconds"]) == 2 and rung["memory"] > 0 and rung["bytes"] > 0
        else:
            assert rung["status"] == "refused" and rung["why"]  # none may fail here
    measured = {rung["key"] for rung in climbed["rungs"] if rung["status"] == "measured"}
    assert {"eager", "flash_attention", "padded_vocabulary", "accumulation", "no_cache", "kv_cache"} <= measured
    header = Path(sysconfig.get_path("include"), "Python.h")
    assert ("compiled" in measured) == bool(shutil.which(os.environ.get("CXX", "g++")) and header.is_file())


@needs_torch
@pytest.mark.timeout(PATIENCE)
def test_the_first_loss_is_that_of_lab_train(climbed):
    assert climbed["first_loss"]["ladder"] == pytest.approx(climbed["first_loss"]["lab.train"], abs=1e-4)


@needs_torch
@pytest.mark.timeout(PATIENCE)
def test_the_counted_operations_are_the_formula_s(climbed):
    """The counter sees 6 operations for each weight of a product, and attention: all but biases and gathers."""
    eager = climbed["rungs"][0]
    assert eager["flops"] / eager["tokens_per_step"] == pytest.approx(climbed["flops_per_token"], rel=0.05)


@needs_torch
@pytest.mark.timeout(PATIENCE)
def test_fusing_and_flash_attention_move_fewer_bytes(climbed):
    moved = {rung["key"]: rung["bytes"] for rung in climbed["rungs"] if rung["status"] == "measured"}
    assert moved["flash_attention"] < moved["eager"]
    assert moved["kv_cache"] < moved["no_cache"]


@needs_torch
@pytest.mark.parametrize("version", [1, 3, 5])
def test_all_checkpoint_versions_give_the_lab_s_loss(tmp_path, version, corpus):
    import torch

    from lab.torch_gpt2 import GPT2
    from lab.train.data import read_tokens

    config = TINY if version != 1 else replace(TINY, padded_vocab_size=TINY.vocab_size)
    path = tmp_path / "model.bin"
    synthetic_checkpoint(path, config, version=version)
    tokens = np.asarray(read_tokens(corpus))[:33].astype(np.int64)
    model = GPT2(str(path))
    inputs, targets = torch.from_numpy(tokens[None, :-1]), torch.from_numpy(tokens[None, 1:])
    expected = climb.our_loss(path, tokens, 32)
    assert model.loss(inputs, targets).item() == pytest.approx(expected, abs=1e-4)
    model.pad_vocabulary()
    assert model.wte.shape[0] == 384
    assert model.loss(inputs, targets).item() == pytest.approx(expected, abs=1e-4)


@needs_torch
def test_no_compiler_and_no_bf16_are_refusals_in_words(monkeypatch):
    from lab.ladder import rungs as ladder_rungs

    monkeypatch.setattr(ladder_rungs.shutil, "which", lambda name: None)
    assert ladder_rungs.compiler("cpu") == "torch.compile needs a C++ compiler: sudo apt install g++"
    monkeypatch.setattr(ladder_rungs, "find_spec", lambda name: object())  # Triton
    assert ladder_rungs.compiler("cuda") == "torch.compile needs a C compiler: sudo apt install g++"
    monkeypatch.setattr(ladder_rungs.shutil, "which", lambda name: name)
    monkeypatch.setattr(ladder_rungs.sysconfig, "get_path", lambda *_: "/nowhere")
    assert "Python.h: sudo apt install python3-dev" in ladder_rungs.compiler("cpu")
    monkeypatch.setattr(ladder_rungs.Path, "read_text", lambda path: "flags : sse avx2")
    assert "no BF16 products" in ladder_rungs.ampere("cpu", "BF16")
    monkeypatch.setattr(ladder_rungs.torch.cuda, "get_device_capability", lambda: (7, 5))
    assert ladder_rungs.ampere("cuda", "BF16") == "BF16 came with Ampere (8.0); this GPU is a 7.5"


@needs_torch
def test_the_first_rung_is_fp32_also_where_a_container_asks_for_tf32(monkeypatch):
    monkeypatch.setenv("TORCH_ALLOW_TF32_CUBLAS_OVERRIDE", "1")
    code = "import sys, lab.ladder.process as p; print(p.torch.get_float32_matmul_precision(), file=sys.__stdout__)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "highest\n"
