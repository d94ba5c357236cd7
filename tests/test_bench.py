"""make bench: the statistics, the command on the tiny model, what it refuses. No time is judged here."""

import json
import subprocess
import sys

import numpy as np
import pytest

from lab import serial
from lab.checkpoint import Config
from lab.margin import MARGIN, margin
from lab.measure import bench
from lab.measure.capacity import Kernel, capacity
from lab.measure.stats import bootstrap_interval, estimate, ratios


def run(*arguments, tiny=None):
    """python -m lab.measure.bench with the arguments."""
    command = [sys.executable, "-m", "lab.measure.bench", *map(str, arguments)]
    return subprocess.run([*command, *(["--model", tiny] if tiny else [])], capture_output=True, text=True, timeout=100)


def test_interval_holds_the_median_nearly_always():
    random, held = np.random.default_rng(1), 0
    for seed in range(200):
        low, high = bootstrap_interval(random.lognormal(0.0, 0.1, size=15), seed=seed, resamples=500)
        held += low <= 1.0 <= high
    assert 180 <= held <= 200, "about 95 % of the time"


def test_estimate_and_ratios():
    assert ratios([2.0, 9.0], [1.0, 3.0]) == [2.0, 3.0]
    assert estimate([5.0, 5.0, 5.0]) == (5.0, 5.0, 5.0)
    assert str(estimate([1.0, 2.0, 3.0])).startswith("2.00 [")
    for wrong in (lambda: estimate([]), lambda: ratios([1.0], [1.0, 2.0])):
        with pytest.raises(ValueError):
            wrong()


def test_capacity_does_the_same_work_at_every_k():
    kernel = Kernel(5, Config(64, 1000, 3, 4, 64, 1024))
    assert kernel.whole == 1 and len(kernel.products) == 12 and len(kernel.logits) == 1024  # a whole pass of this model
    for k in (1, 2, 3, 5):
        for _, _, result in kernel.products:
            result[:] = 0.0
        assert kernel.seconds(k) > 0.0
        for weights, inputs, result in kernel.products:
            np.testing.assert_allclose(result, weights @ inputs, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(kernel.logits, kernel.vocabulary @ kernel.last, rtol=1e-4, atol=1e-4)
    measured = capacity(2, repeats=2, kernel=kernel)
    assert measured.capacity == pytest.approx(measured.one / measured.together)
    with pytest.raises(ValueError, match="at least 1"):
        capacity(0)


def test_the_command_prints_a_table_and_writes_the_numbers(tiny, tmp_path):
    gpt = f"{sys.executable} -m lab.gpt -n 8 --model {tiny}"
    done = run(
        "-n", 8, "--rounds", 2, "--workers", "1,2", "--peer-cmd", gpt, "--out", tmp_path / "bench.json", tiny=tiny
    )
    assert done.returncode == 0, done.stderr
    for line in (
        "serial",
        "parallel k=1",
        "parallel k=2",
        "cached k=2",
        "an empty region on 2 workers",
        "with loading",
    ):
        assert line in done.stdout
    written = json.loads((tmp_path / "bench.json").read_text())
    assert [(c["engine"], c["k"]) for c in written["contenders"][:5]] == [
        ("serial", 1), ("parallel", 1), ("parallel", 2), ("cached", 1), ("cached", 2)
    ]  # fmt: skip
    assert all(len(c["seconds"]) == len(c["per_token"]) == 2 for c in written["contenders"])
    two = written["contenders"][2]
    assert two["E"]["low"] <= two["E"]["median"] <= two["E"]["high"] and two["S"] is not None
    assert len(written["capacity"]["2"]) == len(written["bare"]) == 2 and written["overheads"]["region_us"]["2"] > 0


@pytest.mark.parametrize(
    "arguments, code, message",
    [
        (["--engines", "turbo"], 1, "bench: --engines turbo: 'turbo' is none of serial, parallel, cached"),
        (["--workers", "two"], 1, "bench: --workers two: expected numbers such as 1,2,4"),
        (["--workers", "0"], 1, "bench: --workers 0: at least 1"),
        (["-n", "65"], 1, "bench: -n 65: this model takes up to 64 tokens"),
        (["--peer-cmd", "/no/such/program"], 1, "bench: --peer-cmd /no/such/program: No such file or directory"),
        (["--peers", "--torch-python", sys.executable], 1, "has no PyTorch"),
        (["--peer-cmd", ""], 1, "bench: --peer-cmd: the command is empty"),
        (["-n", "2"], 2, "'2' is not a whole number from 3 up"),
    ],
)
def test_one_clear_line_for_bad_input(arguments, code, message, tiny, tmp_path):
    done = run("--rounds", 1, *arguments, "--out", tmp_path / "bench.json", tiny=tiny)
    assert done.returncode == code and message in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "bench.json").exists()


def test_different_tokens_are_an_error():
    bench.check_tokens([1], [("a", [2, 3]), ("b", [2, 3])])
    with pytest.raises(bench.BenchError, match=r"prompt \[1\]: b gives \[2, 4\], a gives \[2, 3\]"):
        bench.check_tokens([1], [("a", [2, 3]), ("b", [2, 4])])
    with pytest.raises(bench.BenchError):  # the same executable twice, with other options
        bench.check_tokens([1], [("a", [2, 4]), ("a", [2, 3]), ("b", [2, 3])])


def test_safe_prompts_keep_the_margin(tiny):
    model = serial.gpt2_build_from_checkpoint(tiny)
    prompt = bench.safe_prompt(model, 12, np.random.default_rng(0))
    for t, _ in enumerate(serial.generate(model, prompt, 12), start=len(prompt)):
        assert margin(model.acts.probs[0, t - 1, : model.config.vocab_size]) >= MARGIN
