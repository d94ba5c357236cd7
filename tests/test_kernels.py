"""The kernels: every formulation computes the same, and the choice among them can be fixed."""

import os
import subprocess
import sys

import numpy as np
import pytest

from lab import kernels, serial


@pytest.fixture
def use(monkeypatch: pytest.MonkeyPatch):
    """A function that puts one formulation in place."""

    def put(kernel: str, name: str) -> None:
        monkeypatch.setitem(kernels._use, kernel, kernels.TABLE[kernel][name])

    return put


@pytest.mark.parametrize("name", kernels.TABLE["matmul"])
@pytest.mark.parametrize(
    ("N", "C", "T"), [(5, 3, 1), (96, 64, 2), (130, 768, 28), (64, 768, 112), (1, 1, 2), (0, 4, 3)]
)
def test_every_formulation_of_matmul_multiplies(use, name: str, N: int, C: int, T: int):
    use("matmul", name)
    use("long", name)
    rng = np.random.default_rng(N + C + T)
    wide, X = rng.standard_normal((N, 2 * C), dtype=np.float32), rng.standard_normal((C, T), dtype=np.float32)
    for weight in (np.ascontiguousarray(wide[:, :C]), wide[:, C:]):
        out = np.full((N, 2 * T), 7, dtype=np.float32)
        kernels.matmul(weight, X, out[:, :T])
        np.testing.assert_allclose(out[:, :T], weight.astype(np.float64) @ X, rtol=1e-4, atol=1e-4)
        assert (out[:, T:] == 7).all(), "nothing else is written"


@pytest.mark.parametrize("name", kernels.VECTOR)
def test_every_formulation_of_matvec_multiplies(use, name: str):
    use("matvec", name)
    use("columns", name)
    rng = np.random.default_rng(3)
    wide, x = rng.standard_normal((96, 50), dtype=np.float32), rng.standard_normal(50, dtype=np.float32)
    for weight, vector in ((wide, x), (wide[:, 20:], x[20:])):
        out = np.empty(96, dtype=np.float32)
        kernels.matvec(weight, vector, out)
        np.testing.assert_allclose(out, weight.astype(np.float64) @ vector, rtol=1e-4, atol=1e-5)


def test_gelu_is_serial_s():
    x = np.linspace(-30, 30, 4001, dtype=np.float32).reshape(1, -1)
    expected = np.empty_like(x)
    serial.gelu_forward(expected, x, x.size)
    kernels.gelu(x)
    np.testing.assert_allclose(x, expected, rtol=1e-6, atol=1e-6)


def choice(**environment: str) -> subprocess.CompletedProcess:
    """What a new process chooses."""
    program = "import lab; from lab import kernels; print(kernels.choose())"
    clean = {name: value for name, value in os.environ.items() if name != kernels.VARIABLE}
    return subprocess.run(
        [sys.executable, "-c", program], env=clean | environment, capture_output=True, text=True, timeout=30
    )


def test_the_environment_fixes_the_choice_and_the_choice_is_told_in_its_words():
    fixed = "matmul:stacked,long:plain,matvec:einsum,columns:vecdot"
    assert choice(GPT_KERNELS=fixed).stdout.strip() == fixed
    measured = choice().stdout.strip()
    assert kernels.parse(measured).keys() == kernels.TABLE.keys()
    assert choice(GPT_KERNELS=measured).stdout.strip() == measured
    assert choice(GPT_KERNELS="matvec:plain").stdout.split(",")[2] == "matvec:plain"


@pytest.mark.parametrize("wrong", ["fast", "matmul:vecdot", "matmul", ":", "gelu:plain"])
def test_a_choice_that_does_not_exist_is_one_line(wrong: str):
    with pytest.raises(ValueError, match="none of the formulations") as error:
        kernels.parse(wrong)
    assert "\n" not in str(error.value)


def test_the_quickest_formulation_is_chosen():
    import time

    calls = []
    table = {"slow": lambda *example: time.sleep(0.002), "quick": lambda *example: calls.append(example)}
    assert kernels.quickest(table, [(1,)] * 6) is table["quick"] and len(calls) == 3


def test_of_two_that_are_nearly_as_quick_the_first_is_chosen(monkeypatch):
    now = iter(np.cumsum([0, 1.00, 0, 0.95] * 3))
    monkeypatch.setattr(kernels.time, "perf_counter", lambda: next(now))
    table = {"first": lambda: None, "second": lambda: None}
    assert kernels.quickest(table, [()] * 6) is table["first"]
