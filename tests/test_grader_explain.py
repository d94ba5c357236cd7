"""Which activation is wrong first: told by regions as a program names them, not told where model.acts is empty."""

import pytest

from grader import explain, harness
from lab import serial, threadlib
from lab.check.blame import ELSEWHERE
from lab.check.explore import explore
from lab.check.program import Program
from lab.engines import load_engine

PROMPT = [5, 17, 3]


def found_by(model, generate) -> dict:
    """What the harness reports of the activations of one pass."""
    watch = harness.activations_watch(model, len(PROMPT) + 1)
    with threadlib.use(watch):
        list(generate(model, PROMPT, len(PROMPT) + 1))
    return harness.activations(model, watch)


@pytest.fixture
def model(tiny):
    return serial.gpt2_build_from_checkpoint(tiny)


def leave_out(out):
    """The last output channel is not written."""
    out[..., -1] = harness.UNWRITTEN


def in_regions(monkeypatch, wrong=0, spoil=leave_out):
    """serial, each product of it in a region; the result of product number `wrong` is spoilt there."""
    right, calls = serial.matmul_forward, []

    def matmul_forward(out, inp, weight, bias, B, T, C, OC):
        with threadlib.region(matmul_forward):
            calls.append(out)
            right(out, inp, weight, bias, B, T, C, OC)
            if len(calls) == wrong:
                spoil(out)

    monkeypatch.setattr(serial, "matmul_forward", matmul_forward)


@pytest.mark.parametrize("wrong, tensor", [(1, "qkv of layer 0"), (2, "attproj of layer 0"), (7, "fch of layer 1")])
def test_the_first_wrong_tensor_is_named(model, tiny, wrong, tensor):
    with pytest.MonkeyPatch.context() as patch:
        in_regions(patch, wrong)
        found = found_by(model, serial.generate)
    told = explain.first_difference(tiny, PROMPT, found)
    assert f"the first tensor that differs is {tensor}" in told and "where zeros stand" in told


def test_numbers_written_outside_regions(model, tiny):
    with pytest.MonkeyPatch.context() as patch:
        in_regions(patch)
        patch.setattr(serial, "GELU_SCALING_FACTOR", serial.GELU_SCALING_FACTOR * 2)  # between two regions
        found = found_by(model, serial.generate)
        told = explain.first_difference(tiny, PROMPT, found)
    assert "all tensors are right" in told  # the serial program was changed likewise
    told = explain.first_difference(tiny, PROMPT, found)
    assert "the first tensor that differs is fch_gelu of layer 0" in told and "written outside all regions" in told


def test_the_region_is_named_as_the_program_names_it(model, tiny):
    with pytest.MonkeyPatch.context() as patch:
        in_regions(patch, 6, lambda out: out.__imul__(1.5))
        found = found_by(model, serial.generate)
    told = explain.first_difference(tiny, PROMPT, found)
    assert "attproj of layer 1" in told and told.endswith("written in region 6 of the pass, in_regions.matmul_forward")


def test_what_is_kept_elsewhere_is_not_judged(model, tiny, programs):
    found = found_by(model, load_engine(str(programs / "shares.py")).generate)
    assert found["tensors"] == {} and found["regions"][1:3] == ["one_pass.mix", "one_pass.think"]
    assert explain.first_difference(tiny, PROMPT, found) == explain.ELSEWHERE
    assert "yours" not in explain.distributions(tiny, PROMPT, 1, 2, found)
    partly = found_by(model, serial.generate)
    for name in ("logits", "probs"):
        del partly["tensors"][name]
    assert "right as far as the program fills it, up to lnf" in explain.first_difference(tiny, PROMPT, partly)
    assert "all tensors are right" in explain.first_difference(tiny, PROMPT, found_by(model, serial.generate))


@pytest.mark.parametrize("forged", [{}, {"tensors": 1, "regions": []}, {"tensors": {"probs": [1]}, "regions": []}])
def test_a_forged_report_tells_nothing(tiny, forged):
    assert explain.first_difference(tiny, PROMPT, forged) == ""
    assert "serial" in explain.distributions(tiny, PROMPT, 1, 2, forged)


def test_the_explorer_says_what_it_cannot_show(programs, tmp_path):
    wrong = tmp_path / "shares.py"
    wrong.write_text((programs / "shares.py").read_text().replace("p.attprojb[l][:, None]", "0"))
    found = explore(Program(wrong))
    (finding,) = found.findings
    assert finding.kind == "tokens" and ELSEWHERE in finding.message
