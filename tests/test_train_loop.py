"""The training loop and its command: falling loss, exact resume, constant memory, what it writes, what it refuses."""

import csv
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import psutil
import pytest

from lab import models, serial
from lab.checkpoint import Config, read_checkpoint, read_header
from lab.train import __main__ as command
from lab.train import data, loop
from lab.train import evaluate as evaluate_command
from lab.train.curve import FIELDS, Curve, plot, read_curve
from lab.train.sample import sample_text
from lab.train.settings import Settings, learning_rate
from lab.train.trainer import Trainer, evaluate, initial_parameters
from lab.train.vocabulary import SharedVocabulary

DATA = Path(__file__).parent / "data"
TINY = str(DATA / "tiny_v3.bin")


@pytest.fixture
def tokens(tmp_path):
    """Token files for the tiny model: a sequence that can be learnt, 3,000 to train on and 300 to validate with."""
    random = np.random.default_rng(3)
    words = random.integers(0, 331, size=(12, 5))
    text = np.concatenate([words[i] for i in random.integers(0, 12, size=660)])
    data.write_tokens(tmp_path / "train.bin", [text[300:]])
    data.write_tokens(tmp_path / "val.bin", [text[:300]])
    return ["--data", str(tmp_path / "train.bin"), "--val-data", str(tmp_path / "val.bin")]


def run(*arguments):
    """The command, in this process."""
    return command.main([str(argument) for argument in arguments])


def losses(path):
    with path.open(newline="") as file:
        return [(int(row["step"]), float(row["train_loss"])) for row in csv.DictReader(file)]


def test_a_sample_shows_tokens_outside_the_tokenizer_as_themselves(padded_talker):
    text = sample_text(serial.gpt2_build_from_checkpoint(padded_talker), 4)
    assert text == "<|50292|>" * 3


def test_forty_steps_from_a_checkpoint_lower_the_loss(tokens, tmp_path, capsys):
    out = tmp_path / "out.bin"
    assert (
        run(
            *tokens,
            "--from",
            TINY,
            "--steps",
            40,
            "--batch",
            4,
            "--seq",
            32,
            "--val-every",
            20,
            "--out",
            out,
            "--workers",
            2,
        )
        == 0
    )
    steps = losses(tmp_path / "out.csv")
    assert [step for step, _ in steps] == list(range(1, 41))
    assert np.mean([loss for _, loss in steps[-5:]]) < 0.7 * np.mean([loss for _, loss in steps[:5]])
    assert read_header(out) == read_header(TINY)
    assert (tmp_path / "out.png").read_bytes()[:4] == b"\x89PNG"
    shown = capsys.readouterr().out
    assert "step    40/40 | train loss" in shown
    assert "val loss" in shown
    assert "sample after step 40" in shown


FULL = ["--shuffle", "--dropout", 0.1, "--average", 0.9, "--share-rare", 2, "--clip", 1, "--schedule", "cosine"]


@pytest.mark.parametrize("extra", [[], FULL], ids=["plain", "everything"])
def test_resume_is_exact(tokens, tmp_path, extra):
    common = [
        *tokens,
        "--from",
        TINY,
        "--batch",
        2,
        "--seq",
        16,
        "--steps",
        12,
        "--val-every",
        4,
        "--sample-every",
        0,
        *extra,
    ]
    common += ["--workers", 1, "--save-every", 5]
    assert run(*common, "--out", tmp_path / "whole.bin") == 0
    assert run(*common, "--out", tmp_path / "parts.bin") == 0
    settings = Settings(**{**command.read_meta(tmp_path / "parts.state.npz")["settings"]})
    trainer = Trainer(settings, data.read_tokens(tokens[1]), data.read_tokens(tokens[3]))
    for _ in range(7):  # the run as it was when it was killed after its 7th step
        trainer.step()
    trainer.save(tmp_path / "parts.state.npz")
    assert run("--resume", tmp_path / "parts.state.npz", "--workers", 1) == 0
    assert losses(tmp_path / "parts.csv") == losses(tmp_path / "whole.csv")
    assert (tmp_path / "parts.bin").read_bytes() == (tmp_path / "whole.bin").read_bytes()


def test_a_killed_run_continues_with_the_same_losses(tokens, tmp_path):
    """A real process, really killed: by SIGTERM, on which it saves, and by SIGKILL, on which it cannot."""
    arguments = [
        *tokens,
        "--from",
        TINY,
        "--batch",
        "2",
        "--seq",
        "16",
        "--steps",
        "200",
        "--val-every",
        "0",
        "--sample-every",
        "0",
    ]
    arguments += ["--save-every", "20", "--workers", "1"]
    assert run(*arguments, "--out", tmp_path / "whole.bin") == 0
    start = [sys.executable, "-m", "lab.train"]
    first = [*arguments, "--out", str(tmp_path / "killed.bin")]
    for number, how in enumerate((signal.SIGTERM, signal.SIGKILL)):
        wanted = 40 + 80 * number
        flags = ["--resume", str(tmp_path / "killed.state.npz"), "--workers", "1"] if number else first
        process = subprocess.Popen([*start, *flags], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for line in process.stdout:
            if line.startswith(f"step {wanted:5d}/"):
                process.send_signal(how)
                break
        _, errors = process.communicate(timeout=60)
        assert process.returncode == (130 if how == signal.SIGTERM else -signal.SIGKILL)
        if how == signal.SIGTERM:
            assert "interrupted; resume with  python -m lab.train --resume" in errors
    assert run("--resume", tmp_path / "killed.state.npz", "--workers", 1) == 0
    assert losses(tmp_path / "killed.csv") == losses(tmp_path / "whole.csv")


@pytest.mark.parametrize(("before", "heard"), [(signal.default_int_handler, True), (signal.SIG_IGN, False)])
def test_a_closed_terminal_leaves_no_step_half_done_and_nohup_does_not_hear_it(before, heard):
    earlier = signal.signal(signal.SIGHUP, before)
    try:
        with loop.stopping() as asked:
            signal.raise_signal(signal.SIGHUP)
            assert asked.is_set() == heard
        assert signal.getsignal(signal.SIGHUP) is before
    finally:
        signal.signal(signal.SIGHUP, earlier)


@pytest.mark.parametrize("version", [1, 3, 5])
def test_every_version_can_be_written(tokens, tmp_path, version):
    out = tmp_path / "out.bin"
    flags = [
        "--from",
        TINY,
        "--steps",
        1,
        "--batch",
        1,
        "--seq",
        8,
        "--sample-every",
        0,
        "--version",
        version,
        "--out",
        out,
        "--workers",
        1,
    ]
    assert run(*tokens, *flags) == 0
    assert read_header(out)[0] == version
    assert read_checkpoint(out)[0].vocab_size == 331


def test_memory_stays_constant(tokens):
    settings = Settings(init_from=TINY, batch=4, seq=32, steps=400, dropout=0.1, average=0.9, clip=1.0, val_batches=1)
    trainer = Trainer(settings, data.read_tokens(tokens[1]), data.read_tokens(tokens[3]))

    def train(steps):
        for _ in range(steps):
            trainer.step()
        trainer.validate()
        return psutil.Process().memory_info().rss

    train(20)
    before = train(20)
    assert train(100) - before < 4 << 20  # a leak of one activation array a step would be 100 times 4 MB


def test_workers_train_alike(tokens):
    from lab.parallel import Workers

    def first_losses(workers):
        settings = Settings(init_from=TINY, batch=4, seq=32)
        trainer = Trainer(settings, data.read_tokens(tokens[1]), data.read_tokens(tokens[3]), workers)
        return [trainer.step()[0] for _ in range(5)]

    with Workers(2) as workers:
        np.testing.assert_allclose(first_losses(workers), first_losses(None), rtol=1e-4)


def test_initial_parameters():
    config = Config(32, 300, 2, 2, 64, 320)
    model = serial.GPT2(config, initial_parameters(config, 1))
    assert model.params.wte[:300].std() == pytest.approx(0.02, rel=0.05)
    assert model.params.fcprojw.std() == pytest.approx(0.01, rel=0.05)
    assert (model.params.wte[300:] == 0).all()
    assert (model.params.ln1w == 1).all()
    assert (model.params.qkvb == 0).all()
    np.testing.assert_array_equal(model.params_memory, initial_parameters(config, 1))
    assert (model.params_memory != initial_parameters(config, 2)).any()


def test_learning_rate():
    settings = Settings(lr=1.0, warmup=4, steps=14, final_lr=0.1)
    assert [learning_rate(settings, step) for step in (0, 3, 4, 13)] == [0.25, 1.0, 1.0, 1.0]
    settings.schedule = "linear"
    assert learning_rate(settings, 9) == pytest.approx(0.55)
    settings.schedule = "cosine"
    assert learning_rate(settings, 9) == pytest.approx(0.55)
    assert learning_rate(settings, 14) == pytest.approx(0.1)


def test_evaluate_predicts_every_token_once():
    config, params_memory = read_checkpoint(TINY)
    model, tokens = serial.GPT2(config, params_memory), np.random.default_rng(2).integers(0, 331, size=45)
    expected = []
    for start in range(0, 44, 10):
        piece = tokens[start : start + 11]
        inputs = piece[:-1][None].astype(np.int32)
        serial.gpt2_forward(model, inputs, 1, inputs.size)
        expected += [-np.log(model.acts.probs[0, t, token]) for t, token in enumerate(piece[1:])]
    assert len(expected) == 44
    for B in (1, 2, 3):
        assert evaluate(serial.GPT2(config, params_memory), tokens, B, 10) == pytest.approx(np.mean(expected), rel=1e-5)


# ------------------------------------------------------------------------------------------------------ the shared row


def test_the_shared_row_is_the_full_model_exactly():
    """The compact model's loss is the expanded one's over the full vocabulary, for targets of both kinds."""
    config, params_memory = read_checkpoint(TINY)
    tokens = np.random.default_rng(4).integers(0, 331, size=300)
    vocabulary = SharedVocabulary(np.bincount(tokens[:150], minlength=331), 2, always=(7,))
    assert vocabulary.size + vocabulary.members == 332
    compact = serial.GPT2(vocabulary.compact_config(config), vocabulary.compact(config, params_memory))
    full = serial.GPT2(config, vocabulary.expand(config, compact.params_memory))
    assert (vocabulary.compact_tokens(tokens) == vocabulary.shared).sum() > 50
    assert evaluate(compact, tokens, 2, 32, vocabulary=vocabulary) == pytest.approx(
        evaluate(full, tokens, 2, 32), rel=1e-6
    )
    assert (full.params.wte[331:] == 0).all()
    np.testing.assert_array_equal(
        full.params.wte[vocabulary.kept], serial.GPT2(config, params_memory).params.wte[vocabulary.kept]
    )


def test_the_shared_row_trains_like_the_full_model(tokens):
    """A step that shares what never occurs has the loss of a full model whose unused rows are equal."""
    train, val = data.read_tokens(tokens[1]), data.read_tokens(tokens[3])
    shared = Trainer(Settings(init_from=TINY, batch=2, seq=16, share_rare=1), train, val)
    full = Trainer(Settings(init_from=TINY, batch=2, seq=16), train, val)
    full.model.params_memory[...] = shared.full_parameters()
    for _ in range(
        3
    ):  # apart from AdamW's first steps, whose size does not depend on the gradient's, they stay together
        assert shared.step()[0] == pytest.approx(full.step()[0], rel=1e-4)


# ----------------------------------------------------------------------------------------------------- what is refused


def refused(capsys, *arguments):
    """The one line of a command that fails."""
    assert run(*arguments) == 1
    line = capsys.readouterr().err.strip()
    assert line.startswith("lab.train: ")
    assert "\n" not in line
    return line


def test_a_step_too_long_is_one_line(tokens, tmp_path):
    out, flags = tmp_path / "out.bin", ["--seq", "16", "--lr", "1e30", "--steps", "9", "--workers", "2"]
    command = [sys.executable, "-m", "lab.train", *tokens, "--from", TINY, *flags, "--out", str(out)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert re.fullmatch(r"lab.train: step \d: the loss is (nan|inf): try a lower --lr, or --clip 1\n", done.stderr)


def test_a_model_has_a_name_here_too(tokens, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(models, "MODELS_DIR", DATA)
    assert evaluate_command.main(["tiny_v3", *tokens, "--seq", "16", "--workers", "1"]) == 0
    assert run(*tokens, "--from", "tiny_v3", "--seq", 16, "--steps", 1, "--out", tmp_path / "out.bin") == 0
    assert evaluate_command.main(["nothing", *tokens]) == 1
    assert "lab.train.evaluate: nothing: no such model; give a path, or a name from" in capsys.readouterr().err
    assert "lab.train: nothing: no such model" in refused(capsys, *tokens, "--from", "nothing")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"layers": "two"}, "among its settings, --layers cannot be 'two'"),
        ({"seq": None}, "--seq cannot be None"),
        ({"shuffle": 1}, "--shuffle cannot be 1"),
        ({"data": ["a"]}, "--data cannot be ['a']"),
        ({"clip": -1.0}, "--clip cannot be -1.0"),
        ({"schedule": "up"}, "--schedule cannot be 'up'"),
        ({"init_from": 7}, "--from cannot be 7"),
    ],
)
def test_a_saved_run_whose_settings_somebody_changed(tokens, tmp_path, capsys, changed, said):
    settings = Settings(data=tokens[1], val_data=tokens[3], init_from=TINY, seq=16)
    trainer = Trainer(settings, data.read_tokens(tokens[1]), data.read_tokens(tokens[3]))
    for name, value in changed.items():
        setattr(settings, name, value)
    trainer.save(tmp_path / "changed.npz")
    assert said in refused(capsys, "--resume", tmp_path / "changed.npz")


def test_what_is_refused(tokens, tmp_path, capsys):
    out = ["--out", tmp_path / "out.bin"]
    assert "neither a file nor a known corpus" in refused(capsys, "--data", "nothing", *out)
    assert "--val-data FILE" in refused(capsys, *tokens[:2], *out)
    assert "at most 64 positions" in refused(capsys, *tokens, "--from", TINY, "--seq", 65, *out)
    assert "cannot be opened" in refused(capsys, *tokens, "--from", tmp_path / "none.bin", *out)
    assert "no such file" in refused(capsys, "--resume", tmp_path / "none.npz")
    (tmp_path / "bad.npz").write_bytes(b"nothing")
    assert "not the saved state" in refused(capsys, "--resume", tmp_path / "bad.npz")
    trainer = Trainer(Settings(init_from=TINY), data.read_tokens(tokens[1]), data.read_tokens(tokens[3]))
    trainer.save(tmp_path / "cut.npz")
    (tmp_path / "cut.npz").write_bytes((tmp_path / "cut.npz").read_bytes()[:-3000])
    assert "not the saved state" in refused(capsys, "--resume", tmp_path / "cut.npz")
    trainer.settings.data, trainer.settings.val_data = tokens[1], tokens[3]
    trainer.save(tmp_path / "same.npz")
    saved = dict(np.load(tmp_path / "same.npz"))
    meta = {key: value for key, value in json.loads(saved["meta"].tobytes()).items() if key != "best"}
    np.savez(tmp_path / "old.npz", **saved | {"meta": np.frombuffer(json.dumps(meta).encode(), np.uint8)})
    assert "not the saved state" in refused(capsys, "--resume", tmp_path / "old.npz")
    changed = np.array(data.read_tokens(tokens[1]))
    changed[7] += 1
    data.write_tokens(Path(tokens[1]), [changed])
    assert "the run began with other data" in refused(capsys, "--resume", tmp_path / "same.npz")
    os.mkfifo(tmp_path / "pipe")
    assert "pipe: not a regular file" in refused(capsys, "--data", tmp_path / "pipe", *out)
    assert "pipe: cannot be opened: it is a pipe" in refused(capsys, *tokens, "--from", tmp_path / "pipe", *out)
    assert "pipe: cannot be opened: it is a pipe" in refused(capsys, *tokens[:3], tmp_path / "pipe", *out)
    assert "not the saved state" in refused(capsys, "--resume", tmp_path / "pipe")
    (tmp_path / "file").write_text("")
    assert "o.csv: Not a directory" in refused(
        capsys, *tokens, "--from", TINY, "--seq", 16, "--out", tmp_path / "file" / "o.bin"
    )
    data.write_tokens(tmp_path / "one.bin", [np.array([1])])
    assert "nothing to predict" in refused(capsys, *tokens[:3], tmp_path / "one.bin", "--from", TINY, "--seq", 16, *out)
    data.write_tokens(tmp_path / "big.bin", [np.full(4000, 400)])
    big = ["--data", tmp_path / "big.bin", "--val-data", tokens[3]]
    assert "the training data holds token 400" in refused(capsys, *big, "--from", TINY, "--seq", 16, *out)
    data.write_tokens(tmp_path / "old.bin", [np.arange(300)], "int32")
    with (tmp_path / "old.bin").open("ab") as file:
        np.full(300, -1, dtype="<i4").tofile(file)
    old = ["--data", tmp_path / "old.bin", "--val-data", tokens[3]]
    assert "the training data holds token -1" in refused(capsys, *old, "--from", TINY, "--seq", 16, *out)


def test_of_two_runs_with_the_same_files_the_second_is_refused(tokens, tmp_path, capsys):
    flags = [*tokens, "--from", TINY, "--steps", 1, "--batch", 1, "--seq", 16, "--out", tmp_path / "out.bin"]
    with Curve(tmp_path / "out.csv").file:
        assert "another run is writing it" in refused(capsys, *flags)
        assert (tmp_path / "out.csv").exists()
    assert run(*flags) == 0


def test_a_curve_that_somebody_has_edited(tmp_path):
    whole = ",".join(FIELDS) + "\n1,2.5,,0.1,1,1,10\n"
    for text, rows in ((whole, 1), (whole + "2,2.4,,0.1", 1), (whole + "x,y,z,1,1,1,1\n", 1), ("\0\xff\r\n", 0)):
        (tmp_path / "out.csv").write_text(text)
        assert len(read_curve(tmp_path / "out.csv")) == rows
        plot(tmp_path / "out.csv", tmp_path / "out.png")
    odd = tmp_path / "caf\udce9 $1 $.csv"
    (tmp_path / "out.csv").rename(odd)
    plot(odd, tmp_path / "out.png")


def test_sizes_that_no_machine_has(tokens, tmp_path, capsys):
    flags = [*tokens, "--out", tmp_path / "out.bin"]
    assert "num_layers: found 999999999999999, expected" in refused(capsys, *flags, "--layers", 999999999999999)
    assert "not enough memory" in refused(capsys, *flags, "--channels", 1 << 23, "--layers", 1 << 23)
    assert "there is no such file" in refused(capsys, "--resume", "")


def test_evaluate_refuses_in_one_line(tokens, tmp_path, capsys, monkeypatch):
    data.write_tokens(tmp_path / "one.bin", [np.array([1])])
    assert evaluate_command.main([TINY, *tokens[:3], str(tmp_path / "one.bin")]) == 1
    assert capsys.readouterr().err == ("lab.train.evaluate: the val data holds a single token: nothing to predict\n")
    (tmp_path / "text.txt").write_text("a few words " * 50)
    monkeypatch.setattr(data, "DATA_DIR", tmp_path / "text.txt" / "data")
    assert evaluate_command.main([TINY, "--data", str(tmp_path / "text.txt")]) == 1
    assert capsys.readouterr().err.endswith("cannot be written: Not a directory\n")


def test_a_loss_that_explodes_is_one_line(tokens, tmp_path, capsys):
    flags = [
        "--from",
        TINY,
        "--steps",
        60,
        "--batch",
        1,
        "--seq",
        16,
        "--lr",
        1e30,
        "--sample-every",
        0,
        "--val-every",
        0,
    ]
    with np.errstate(all="ignore"):
        assert "try a lower --lr" in refused(capsys, *tokens, *flags, "--out", tmp_path / "out.bin", "--workers", 1)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--steps", "0"], "--steps: '0' must be a positive integer"),
        (["--steps", "x"], "--steps: 'x' must be"),
        (["--dropout", "1"], "--dropout: 1.0: expected 0 <= value < 1"),
        (["--lr", "-1"], "--lr: -1.0: expected a number above 0"),
        (["--channels", "65", "--heads", "4"], "expected a multiple of --heads 4"),
        (["--out", "model"], "ends in .bin"),
        (["--resume", "x", "--lr", "1"], "--lr: a resumed run keeps its settings"),
        (["--version", "2"], "invalid choice"),
    ],
)
def test_wrong_usage_is_exit_code_2(capsys, flags, message):
    with pytest.raises(SystemExit) as ended:
        run(*flags)
    assert ended.value.code == 2
    assert message in capsys.readouterr().err


def test_help(capsys):
    with pytest.raises(SystemExit) as ended:
        run("--help")
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    for flag in (
        "--batch",
        "--seq",
        "--steps",
        "--lr",
        "--schedule",
        "--val-every",
        "--sample-every",
        "--workers",
        "--seed",
        "--resume",
    ):
        assert flag in shown


def test_an_earlier_model_is_kept(tokens, tmp_path, capsys):
    arguments = [
        *tokens,
        "--from",
        TINY,
        *["--seq", "8", "--batch", "1", "--steps", "1", "--val-batches", "1", "--sample-every", "0"],
    ]
    arguments = [str(word) for word in [*arguments, "--out", tmp_path / "my.bin"]]
    assert command.main(arguments) == 0 and "already" not in capsys.readouterr().out
    first = {path.name: path.read_bytes() for path in tmp_path.glob("my.*")}
    assert command.main([*arguments, "--lr", "0.5"]) == 0
    assert f"{tmp_path}/my.bin existed already: kept as {tmp_path}/my.before.bin" in capsys.readouterr().out
    for name, content in first.items():
        assert (tmp_path / name.replace("my.", "my.before.")).read_bytes() == content
    assert (tmp_path / "my.bin").read_bytes() != first["my.bin"]
