"""The given program against llm.c's C functions, against float64, and against the damages that wrong programs do."""

import json

import numpy as np
import pytest
from evaluate64 import damages, evaluate, generate64, notices

from lab.checkpoint import Config, carve, read_checkpoint
from lab.models import synthetic_parameters
from lab.serial import (
    GPT2,
    activation_shapes,
    generate,
    gpt2_allocate,
    gpt2_build_from_checkpoint,
    gpt2_forward,
    sample_mult,
    softmax_forward,
)

MARGIN = 2e-5  # how far the running sum of a case must stay from the coin
ODD = Config(max_seq_len=20, vocab_size=101, num_layers=3, num_heads=2, channels=10, padded_vocab_size=128)


@pytest.fixture(scope="module")
def more_cases(data) -> list[dict]:
    return json.loads((data / "more_cases.json").read_text())["cases"]


@pytest.fixture(scope="module")
def odd_model() -> GPT2:
    return GPT2(ODD, synthetic_parameters(ODD, seed=3))


def forward(model: GPT2, rows: list[list[int]]) -> None:
    gpt2_forward(model, np.array(rows, dtype=np.int32), len(rows), len(rows[0]))


def distance(found: np.ndarray, expected: np.ndarray) -> float:
    """The norm of the difference relative to the norm of what is expected."""
    found, expected = found.astype(np.float64), expected.astype(np.float64)
    return float(np.linalg.norm(found - expected) / max(np.linalg.norm(expected), 1e-30))


# ---------------------------------------------------------------------------------------------------------- same tokens


@pytest.mark.parametrize("number", range(24))
@pytest.mark.parametrize("version", [1, 3, 5])
def test_tokens_of_the_c_program(data, golden, version, number):
    model = gpt2_build_from_checkpoint(data / f"tiny_v{version}.bin")
    case = golden["cases"][number]
    assert list(generate(model, case["prompt"], case["n"])) == case["tokens"]


def test_what_gpt_c_prints_for_the_shipped_model(shipped, shipped_gptc):
    """With 50257 terms the order in which the softmax adds them decides half of these."""
    model = gpt2_build_from_checkpoint(shipped)
    for case in shipped_gptc:
        assert list(generate(model, case["prompt"], case["n"])) == case["tokens"], case["prompt"]


def test_tokens_of_the_float64_evaluation(tiny, more_cases):
    config, params_memory = read_checkpoint(tiny)
    for case in more_cases:
        tokens, margin = generate64(config, params_memory, case["prompt"], case["n"])
        assert tokens == case["tokens"], case["prompt"]
        assert margin == pytest.approx(case["margin"], abs=1e-6)
        assert margin >= MARGIN
        assert list(generate(gpt2_build_from_checkpoint(tiny), case["prompt"], case["n"])) == tokens, case["prompt"]


def test_cases_notice_heads_block_ends_and_the_last_token(tiny, golden, more_cases):
    config, params_memory = read_checkpoint(tiny)
    cases = more_cases + [case for case in golden["cases"] if case["n"] > 10] + golden["cases"]
    unnoticed = [
        damage
        for damage in damages(config)
        if not any(notices(config, params_memory, case["prompt"], case["tokens"], damage) for case in cases)
    ]
    assert unnoticed == []


def test_short_and_long_prompts_give_the_rest_of_the_same_text(tiny, golden):
    """Tokens depend on those before them only: a prompt continued by its own tokens goes on the same way."""
    case = max(golden["cases"], key=lambda case: len(case["tokens"]))
    model = gpt2_build_from_checkpoint(tiny)
    for known in (1, 7, len(case["tokens"]) - 1):
        prompt = case["prompt"] + case["tokens"][:known]
        assert list(generate(model, prompt, case["n"])) == case["tokens"][known:]


def test_tokens_come_one_by_one(tiny):
    model = gpt2_build_from_checkpoint(tiny)
    tokens = generate(model, [1, 2], 10)
    next(tokens)
    assert model.seq_len == 2  # one pass, over the prompt, has been made
    next(tokens)
    assert model.seq_len == 3
    assert list(generate(model, [1, 2, 3], 3)) == []


def test_the_longest_sequence(odd_model):
    maxT = ODD.max_seq_len
    assert len(list(generate(odd_model, [5], maxT))) == maxT - 1
    with pytest.raises(ValueError, match="21 tokens: this model takes 1 to 20"):
        forward(odd_model, [[1] * 21])


# ----------------------------------------------------------------------------------------------------- same activations


@pytest.mark.parametrize("version", [1, 3, 5])
def test_activations_of_the_c_program(data, golden, version):
    model = gpt2_build_from_checkpoint(data / f"tiny_v{version}.bin")
    prompt = golden["acts"]["prompt"]
    forward(model, [prompt])
    config = gpt2_build_from_checkpoint(data / "tiny_v3.bin").config  # the file's logits have padded columns
    stored = np.fromfile(data / golden["acts"]["file"], dtype="<f4")
    expected = carve(stored, activation_shapes(config, 1, len(prompt)))
    for name in expected.keys() - {"losses"}:
        found, wanted = getattr(model.acts, name), expected[name]
        if name in ("logits", "probs"):
            found, wanted = found[..., : config.vocab_size], wanted[..., : config.vocab_size]
        if name in ("preatt", "att"):  # what is beyond t is never computed
            found, wanted = np.tril(found), np.tril(wanted)
        assert distance(found, wanted) < 1e-4, name
    V = config.vocab_size
    assert not model.acts.probs[..., V:].any()
    assert not np.triu(model.acts.att[0, 0, 0], 1).any()


@pytest.mark.parametrize("T", [1, 2, 20])
def test_float64_on_an_odd_shape(odd_model, T):
    tokens = np.random.default_rng(T).integers(0, ODD.vocab_size, T).tolist()
    forward(odd_model, [tokens])
    expected = evaluate(ODD, odd_model.params_memory, tokens)
    V = ODD.vocab_size
    assert distance(odd_model.acts.logits[0, :, :V], expected["logits"]) < 1e-4
    assert np.abs(odd_model.acts.logits[0, :, :V] - expected["logits"]).max() < 1e-4
    for name in ("qkv", "att", "atty", "attproj", "fch", "fcproj"):
        assert distance(getattr(odd_model.acts, name)[:, 0], expected[name]) < 1e-4, name


def test_float64_on_the_tiny_model(tiny, golden):
    model = gpt2_build_from_checkpoint(tiny)
    for case in golden["cases"][::4]:
        sequence = [*case["prompt"], *case["tokens"]]
        forward(model, [sequence])
        expected = evaluate(model.config, model.params_memory, sequence)["logits"]
        assert np.abs(model.acts.logits[0, :, : model.config.vocab_size] - expected).max() < 1e-4


def test_a_batch_is_its_rows(tiny):
    model = gpt2_build_from_checkpoint(tiny)
    rows = np.random.default_rng(1).integers(0, model.config.vocab_size, (3, 7)).tolist()
    forward(model, rows)
    assert model.acts.att.shape == (2, 3, 3, 7, 7)
    unset = {"losses", "preatt"}  # of preatt the part beyond t
    names = activation_shapes(model.config, 3, 7).keys() - unset
    batch = {name: getattr(model.acts, name).copy() for name in names}
    for b, row in enumerate(rows):
        forward(model, [row])
        for name, together in batch.items():
            axis = 0 if name in ("encoded", "lnf", "lnf_mean", "lnf_rstd", "logits", "probs") else 1
            assert np.array_equal(together.take(b, axis), getattr(model.acts, name).take(0, axis)), name


# ----------------------------------------------------------------------------------------------------------- the pieces


def test_one_flat_array_for_parameters_and_one_for_activations(tiny):
    model = gpt2_build_from_checkpoint(tiny)
    forward(model, [[1, 2, 3]])
    shapes = activation_shapes(model.config, 1, 3)
    assert len(shapes) == 23
    start = model.acts_memory.ctypes.data
    for name, shape in shapes.items():
        tensor = getattr(model.acts, name)
        assert tensor.shape == shape
        assert tensor.dtype == np.float32
        assert tensor.ctypes.data == start, name
        start += tensor.nbytes
    assert model.params.wte.ctypes.data == model.params_memory.ctypes.data
    assert model.params.lnfb.ctypes.data + model.params.lnfb.nbytes == (
        model.params_memory.ctypes.data + model.params_memory.nbytes
    )


def test_memory_is_used_again(odd_model):
    gpt2_allocate(odd_model, 2, 9)
    memory = odd_model.acts_memory
    gpt2_allocate(odd_model, 1, 9)
    assert odd_model.acts_memory is memory


def test_tokens_outside_the_vocabulary_are_refused(tiny):
    model = gpt2_build_from_checkpoint(tiny)
    for token in (-1, 331):
        with pytest.raises(ValueError, match=f"token {token}: the vocabulary is 0 to 330"):
            forward(model, [[0, token]])


def test_sampling_takes_the_first_sum_that_exceeds_the_coin():
    probabilities = np.array([0.25, 0.25, 0.25, 0.25], dtype=np.float32)
    assert sample_mult(probabilities, 4) == 2  # 0.5 does not exceed 0.5
    assert sample_mult(probabilities, 4, coin=0.49) == 1
    assert sample_mult(probabilities, 4, coin=0.0) == 0
    assert sample_mult(np.array([0.1, 0.1], dtype=np.float32), 2) == 1  # the sum never gets there
    assert sample_mult(np.array([0.0, 0.0, 1.0, 9.0], dtype=np.float32), 3) == 2  # padding is not looked at


def test_sampling_adds_in_float32_in_vocabulary_order():
    probabilities = np.random.default_rng(2).random(50257, dtype=np.float32)
    probabilities /= probabilities.sum()
    total, first = np.float32(0), None
    for token, probability in enumerate(probabilities):
        total += probability
        if total > np.float32(0.5):
            first = token
            break
    assert sample_mult(probabilities, 50257) == first


def test_sampling_from_nan_takes_the_last_token_and_says_so():
    probabilities = np.array([0.2, np.nan, 0.5, 0.3, 0.0], dtype=np.float32)
    with pytest.warns(RuntimeWarning, match="probabilities are NaN"):
        assert sample_mult(probabilities, 4) == 3
    with pytest.warns(RuntimeWarning, match="probabilities are NaN"):
        assert sample_mult(np.array([0.6, np.nan], dtype=np.float32), 2) == 0  # the sum was there before


def test_softmax_adds_in_float32_in_vocabulary_order():
    V = 50257
    logits = np.random.default_rng(4).normal(-14, 2, (1, 1, V)).astype(np.float32)
    logits[0, 0, 100:1000] += 12
    probs, total = np.empty_like(logits), np.float32(0)
    softmax_forward(probs, logits, 1, 1, V, V)
    exponentials = np.exp(logits[0, 0] - logits[0, 0].max())
    for exponential in exponentials:
        total += exponential
    assert total != exponentials.sum()
    assert np.array_equal(probs[0, 0], exponentials / total)


def test_softmax_takes_its_maximum_from_minus_10000_up():
    logits = np.array([[[-20000.0, -20001.0, np.nan], [1.0, np.nan, 0.0]]], dtype=np.float32)
    probs = np.zeros_like(logits)
    with np.errstate(invalid="ignore"):
        softmax_forward(probs, logits, 1, 2, 2, 3)  # exp(-10000) is 0, and so is the sum
    assert np.isnan(probs[0, :, :2]).all()


def test_softmax_of_large_logits():
    logits = np.array([[[1000.0, 999.0, -1000.0, 5000.0]]], dtype=np.float32)
    probs = np.full_like(logits, np.nan)
    softmax_forward(probs, logits, 1, 1, 3, 4)
    assert probs[0, 0] == pytest.approx([np.e / (1 + np.e), 1 / (1 + np.e), 0, 0])
