"""The margin of a prompt: the distance of float32's running sum from the coin, from logits computed in float64."""

import numpy as np
import pytest
from evaluate64 import generate64

from lab import margin as room
from lab.margin import MARGIN, in_double, logits_of, margin, probabilities_of, safe_tokens
from lab.serial import generate, gpt2_build_from_checkpoint, sample_mult


def test_margin_on_both_sides():
    def of(*probabilities):
        return margin(np.array(probabilities, dtype=np.float32))

    assert of(0.25, 0.5, 0.25) == pytest.approx(0.25)
    assert of(0.4, 0.1 - 1e-6, 0.5) == pytest.approx(1e-6, abs=1e-7)
    assert of(0.4, 0.1 + 1e-6, 0.5) == pytest.approx(1e-6, abs=1e-7)
    assert of(0.6, 0.4) == pytest.approx(0.1)
    assert of(0.1, 0.1) == 0, "the sum never gets there"
    with pytest.warns(RuntimeWarning, match="NaN"):
        assert of(np.nan, 1.0) == 0


def test_safe_tokens_are_those_of_the_formulas(tiny, golden):
    model = gpt2_build_from_checkpoint(tiny)
    double = in_double(model)
    for case in golden["cases"][:8]:
        tokens, distance = generate64(model.config, model.params_memory, case["prompt"], case["n"])
        found = safe_tokens(double, case["prompt"], case["n"])
        assert found == (tuple(tokens) if distance >= MARGIN else ()), case["prompt"]


def test_a_prompt_near_the_coin_is_not_safe(tiny, monkeypatch):
    double = in_double(gpt2_build_from_checkpoint(tiny))
    assert len(safe_tokens(double, [1, 2], 10)) == 8
    monkeypatch.setattr(room, "MARGIN", 0.5)
    assert safe_tokens(double, [1, 2], 10) == ()


def test_the_programs_own_softmax_decides(shipped, shipped_gptc):
    """With a vocabulary of 50257 exact sums give other tokens than gpt.c."""
    double, other = in_double(gpt2_build_from_checkpoint(shipped)), 0
    for case in shipped_gptc[::2]:
        probabilities = probabilities_of(double, case["prompt"])
        assert probabilities.dtype == np.float32
        if margin(probabilities) >= MARGIN:
            assert sample_mult(probabilities, len(probabilities)) == case["tokens"][0], case["prompt"]
        exact = np.exp(logits_of(double, case["prompt"]))
        other += int((np.cumsum(exact) > exact.sum() / 2).argmax()) != case["tokens"][0]
    assert other > 0


def test_golden_cases_end_before_what_the_order_of_a_sum_decides(shipped, shipped_gptc):
    double = in_double(gpt2_build_from_checkpoint(shipped))
    for case in shipped_gptc:
        assert safe_tokens(double, case["prompt"], case["n"]) == tuple(case["tokens"]), case["prompt"]


def test_the_serial_program_agrees(shipped):
    model = gpt2_build_from_checkpoint(shipped)
    tokens = safe_tokens(in_double(model), [31373, 612], 10)
    assert not tokens or tokens == tuple(generate(model, [31373, 612], 10))
