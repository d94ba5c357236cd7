"""Training: every derivative against a numerical one, the whole backward pass and AdamW against PyTorch's numbers."""

import json
from pathlib import Path

import numpy as np
import pytest

from lab import serial
from lab.checkpoint import read_checkpoint
from lab.train import backward, debug_state, forward
from lab.train.adamw import AdamW, gpt2_update
from lab.train.split import blocks, split

DATA = Path(__file__).parent / "data"
B, T, C, NH, OC, V, VP = 2, 5, 6, 2, 7, 9, 11


@pytest.fixture
def random():
    return np.random.default_rng(11)


class Threads:
    """As much of Workers as training needs, in the order that shows a dependence between pieces: backwards."""

    def __init__(self, k):
        self.k = k

    def run(self, fn, tasks):
        for task in reversed(list(tasks)):
            fn(task)


def numerical(loss, x, step=1e-6):
    """The derivative of loss(), a number, with respect to each number in x, which it reads; float64."""
    gradient = np.zeros_like(x)
    for place in np.ndindex(x.shape):
        kept = x[place]
        x[place] = kept + step
        above = loss()
        x[place] = kept - step
        gradient[place] = (above - loss()) / (2 * step)
        x[place] = kept
    return gradient


def close(ours, theirs):
    np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-8)


workers = pytest.mark.parametrize("workers", [None, Threads(2), Threads(3)], ids=["1", "2", "3"])


@workers
def test_matmul_backward(random, workers):
    inp, weight, bias = random.normal(size=(B, T, C)), random.normal(size=(OC, C)), random.normal(size=OC)
    dout, out = random.normal(size=(B, T, OC)), np.zeros((B, T, OC))

    def loss():
        forward.matmul_forward(out, inp, weight, bias, B, T, C, OC)
        return (out * dout).sum()

    dinp, dweight, dbias = np.full_like(inp, np.nan), np.full_like(weight, np.nan), np.full_like(bias, np.nan)
    backward.matmul_backward(dinp, dweight, dbias, dout, inp, weight, B, T, C, OC, workers)
    close(dinp, numerical(loss, inp))
    close(dweight, numerical(loss, weight))
    close(dbias, numerical(loss, bias))


@workers
def test_matmul_backward_with_more_channels_than_positions(random, workers):
    """The other way to share the product among workers, which the head takes."""
    narrow, wide = 256, 4 * 2 + 2
    inp, weight, dout = (
        random.normal(size=(1, 2, narrow)),
        random.normal(size=(wide, narrow)),
        random.normal(size=(1, 2, wide)),
    )
    dinp, dweight = np.full_like(inp, np.nan), np.full_like(weight, np.nan)
    backward.matmul_backward(dinp, dweight, None, dout, inp, weight, 1, 2, narrow, wide, workers)
    close(dinp, dout @ weight)
    close(dweight, dout[0].T @ inp[0])


@workers
def test_layernorm_backward(random, workers):
    inp, weight, bias = 3 * random.normal(size=(B, T, C)) + 1, random.normal(size=C), random.normal(size=C)
    dout, out, mean, rstd = random.normal(size=(B, T, C)), np.zeros((B, T, C)), np.zeros((B, T)), np.zeros((B, T))

    def loss():
        forward.layernorm_forward(out, mean, rstd, inp, weight, bias, B, T, C)
        return (out * dout).sum()

    loss()
    already = random.normal(size=inp.shape)  # what the residual stream has left there
    dinp, dweight, dbias = already.copy(), np.full_like(weight, np.nan), np.full_like(bias, np.nan)
    backward.layernorm_backward(dinp, dweight, dbias, dout, inp, weight, mean, rstd, B, T, C, workers)
    close(dinp - already, numerical(loss, inp))
    close(dweight, numerical(loss, weight))
    close(dbias, numerical(loss, bias))


@workers
def test_attention_backward(random, workers):
    inp, dout, out = random.normal(size=(B, T, 3 * C)), random.normal(size=(B, T, C)), np.zeros((B, T, C))
    preatt, att = np.zeros((B, NH, T, T)), np.zeros((B, NH, T, T))

    def loss():
        forward.attention_forward(out, preatt, att, inp, B, T, C, NH)
        return (out * dout).sum()

    loss()
    dinp, dpreatt, datt = np.full_like(inp, np.nan), np.full_like(att, np.nan), np.full_like(att, np.nan)
    backward.attention_backward(dinp, dpreatt, datt, dout, inp, att, B, T, C, NH, workers)
    close(dinp, numerical(loss, inp))


@workers
def test_gelu_backward(random, workers):
    inp, dout, out = 3 * random.normal(size=(B, T, C)), random.normal(size=(B, T, C)), np.zeros((B, T, C))

    def loss():
        forward.gelu_forward(out, inp, inp.size)
        return (out * dout).sum()

    expected = numerical(loss, inp)
    dinp = np.full_like(inp, np.nan)
    backward.gelu_backward(dinp, inp, dout, inp.size, workers)
    close(dinp, expected)
    backward.gelu_backward(dout, inp, dout, inp.size, workers)  # in place
    close(dout, expected)


def test_encoder_backward(random):
    inp = random.integers(0, 4, size=(B, T))  # few tokens, so that some occur more than once
    wte, wpe, out = random.normal(size=(V, C)), random.normal(size=(T + 3, C)), np.zeros((B, T, C))
    dout = random.normal(size=(B, T, C))

    def loss():
        forward.encoder_forward(out, inp, wte, wpe, B, T, C)
        return (out * dout).sum()

    already = random.normal(size=wte.shape)  # the head's gradient
    dwte, dwpe = already.copy(), np.full_like(wpe, np.nan)
    backward.encoder_backward(dwte, dwpe, dout, inp, B, T, C)
    close(dwte - already, numerical(loss, wte))
    close(dwpe, numerical(loss, wpe))


@workers
def test_crossentropy_softmax_backward(random, workers):
    logits, targets, dlosses = (
        random.normal(size=(B, T, VP)),
        random.integers(0, V, size=(B, T)),
        random.normal(size=(B, T)),
    )
    probs, losses = np.zeros_like(logits), np.zeros((B, T))

    def loss():
        forward.softmax_forward(probs, logits, B, T, V, VP)
        forward.crossentropy_forward(losses, probs, targets, B, T, VP)
        return (losses * dlosses).sum()

    expected = numerical(loss, logits)
    loss()
    dlogits = np.full_like(logits, np.nan)
    backward.crossentropy_softmax_backward(dlogits, dlosses, probs, targets, B, T, V, VP, workers)
    close(dlogits, expected)
    assert (dlogits[..., V:] == 0).all()


def test_a_loss_is_never_infinite():
    probs, losses = np.array([[[1.0, 0.0]]], dtype=np.float32), np.zeros((1, 1), dtype=np.float32)
    forward.crossentropy_forward(losses, probs, np.array([[1]]), 1, 1, 2)
    assert 80 < losses[0, 0] < 100


# ----------------------------------------------------------------------------------------------------- the whole model


@pytest.fixture
def tiny():
    config, params_memory = read_checkpoint(DATA / "tiny_v3.bin")
    return serial.GPT2(config, params_memory.copy())


@workers
def test_forward_gives_what_serial_gives(tiny, workers):
    tokens = np.random.default_rng(1).integers(0, 331, size=(3, 17)).astype(np.int32)
    serial.gpt2_forward(tiny, tokens, 3, 17)
    expected = {name: values.copy() for name, values in vars(tiny.acts).items()}
    forward.gpt2_forward(tiny, tokens, None, 3, 17, workers)
    past = np.tril(np.ones((17, 17)))  # serial.py leaves preatt alone where t2 > t
    for name, values in expected.items():
        seen = past if name == "preatt" else 1.0
        np.testing.assert_allclose(getattr(tiny.acts, name) * seen, values * seen, atol=2e-5, err_msg=name)


@workers
def test_golden_gradients(tiny, workers):
    state = debug_state.read_debug_state(DATA / "tiny_debug_state.bin", tiny.config)
    rows = debug_state.check(tiny, state, workers)
    assert len(rows) == 18
    assert [row.name for row in rows if not row.ok] == []


def test_a_wrong_gradient_is_not_ok(tiny, monkeypatch):
    state = debug_state.read_debug_state(DATA / "tiny_debug_state.bin", tiny.config)
    state.grads["ln2b"] = state.grads["ln2b"].copy()
    state.grads["ln2b"][1, 3] += 0.01
    assert [row.name for row in debug_state.check(tiny, state) if not row.ok] == ["dln2b"]


def test_golden_adamw_losses(tiny):
    golden = json.loads((DATA / "golden.json").read_text())["adamw"]
    state = debug_state.read_debug_state(DATA / "tiny_debug_state.bin", tiny.config)
    losses = debug_state.training_losses(tiny, state, 20, golden["lr"], golden["weight_decay"])
    np.testing.assert_allclose(losses, golden["losses"], atol=1e-3)


def test_adamw_first_step():
    """From zero memory, each weight decays and moves by the learning rate against its gradient's sign."""
    params, grads = np.array([1.0, -2.0, 3.0], dtype=np.float32), np.array([0.5, -0.1, 0.0], dtype=np.float32)
    optimizer = AdamW(3)
    gpt2_update(params, grads, optimizer, 0.1, weight_decay=0.5)
    np.testing.assert_allclose(params, [0.95 - 0.1, -1.9 + 0.1, 2.85], rtol=1e-5)
    np.testing.assert_allclose(optimizer.m_memory, 0.1 * grads, rtol=1e-5)
    np.testing.assert_allclose(optimizer.v_memory, 0.001 * grads**2, rtol=1e-4)


def test_adamw_with_workers_is_the_same(random):
    start, grads = (random.normal(size=400_000).astype(np.float32) for _ in range(2))
    results = []
    for workers in (None, Threads(3)):
        params, optimizer = start.copy(), AdamW(start.size)
        for _ in range(3):
            gpt2_update(params, grads, optimizer, 1e-3, weight_decay=0.1, workers=workers)
        results.append(params)
    np.testing.assert_array_equal(*results)


def test_dropout_gradient(tiny, random):
    """The backward pass through dropout's masks, along a random direction of the parameters."""
    from types import SimpleNamespace

    B, T = 2, 8
    c = tiny.config
    x, y = random.integers(0, c.vocab_size, size=(2, B, T)).astype(np.int32)
    shape = (B, T, c.channels)
    drawn = {"encoded": shape, "attproj": (c.num_layers, *shape), "fcproj": (c.num_layers, *shape)}
    masks = SimpleNamespace(**{n: ((random.random(s) > 0.3) / 0.7).astype(np.float32) for n, s in drawn.items()})
    gradients = backward.Gradients(c)
    forward.gpt2_forward(tiny, x, y, B, T, masks=masks)
    backward.gpt2_backward(tiny, gradients, x, y, masks=masks)
    gradient = gradients.params_memory.copy()
    start, direction = tiny.params_memory.copy(), gradient / np.linalg.norm(gradient)
    around = []
    for step in (1e-2, -1e-2):
        tiny.params_memory[...] = start + step * direction
        around.append(forward.gpt2_forward(tiny, x, y, B, T, masks=masks))
    slope = (around[0] - around[1]) / 2e-2
    assert slope == pytest.approx(np.linalg.norm(gradient), rel=1e-2)


def test_tokens_outside_the_vocabulary_are_refused(tiny):
    good = np.zeros((1, 4), dtype=np.int32)
    with pytest.raises(ValueError, match="token 331: the vocabulary is 0 to 330"):
        forward.gpt2_forward(tiny, good + 331, good, 1, 4)
    with pytest.raises(ValueError, match="token -1"):
        forward.gpt2_forward(tiny, good, good - 1, 1, 4)
    with pytest.raises(ValueError, match="takes 1 to 64"):
        forward.gpt2_forward(tiny, np.zeros((1, 65), dtype=np.int32), None, 1, 65)


# --------------------------------------------------------------------------------------------------------- debug_state


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda raw: raw[:100], "the header alone"),
        (lambda raw: np.concatenate([[1], raw[1:]]).astype("<i4"), "magic and version: found 1"),
        (lambda raw: raw[:-1], "size: found"),
        (lambda raw: np.concatenate([raw[:3], [65], raw[4:]]).astype("<i4"), "B and T: found 2, 65"),
        (lambda raw: np.concatenate([raw[:256], [-7], raw[257:]]).astype("<i4"), "tokens: found -7 to"),
    ],
)
def test_debug_state_refuses(tmp_path, capsys, change, message):
    change(np.fromfile(DATA / "tiny_debug_state.bin", dtype="<i4")).tofile(tmp_path / "state.bin")
    assert debug_state.main([str(DATA / "tiny_v3.bin"), str(tmp_path / "state.bin")]) == 1
    assert message in capsys.readouterr().err


def test_debug_state_command(capsys):
    assert debug_state.main([str(DATA / "tiny_v3.bin"), str(DATA / "tiny_debug_state.bin"), "--steps", "2"]) == 0
    shown = capsys.readouterr().out
    assert shown.count("OK") == 19
    assert "step 1: loss 7.1412" in shown
    assert debug_state.main(["nowhere.bin", "nothing"]) == 1


# --------------------------------------------------------------------------------------------------------------- split


@pytest.mark.parametrize("k", [1, 2, 3, 7])
@pytest.mark.parametrize("n", [0, 1, 2, 5, 100])
def test_split_covers_everything_once(k, n):
    seen = np.zeros(n, dtype=int)

    def mark(piece):
        seen[piece] += 1

    split(Threads(k), mark, n)
    assert (seen == 1).all()


def test_blocks_cover_everything_once():
    seen = np.zeros(1000, dtype=int)
    for block in blocks(slice(3, 990), 1 << 12):
        seen[block] += 1
    assert seen.sum() == 987
    assert seen.max() == 1
