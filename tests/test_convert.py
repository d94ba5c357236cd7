"""Hugging Face's layout of GPT-2 -> a checkpoint, on files made here."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from lab.checkpoint import carve, parameter_shapes, read_checkpoint
from lab.convert import ConvertError, convert, main
from lab.serial import generate, gpt2_build_from_checkpoint


def hub_layout(tiny, prefix: str = "") -> dict[str, np.ndarray]:
    """The tiny golden model as the hub would store it, with the mask buffers that its files also hold."""
    config, params_memory = read_checkpoint(tiny)
    ours = carve(params_memory, parameter_shapes(config))
    theirs = {"wte.weight": ours["wte"][: config.vocab_size], "wpe.weight": ours["wpe"]}
    theirs |= {"ln_f.weight": ours["lnfw"], "ln_f.bias": ours["lnfb"]}
    for l in range(config.num_layers):
        theirs |= {
            f"h.{l}.ln_1.weight": ours["ln1w"][l],
            f"h.{l}.ln_1.bias": ours["ln1b"][l],
            f"h.{l}.attn.bias": np.tri(config.max_seq_len, dtype=np.float32)[None, None],
            f"h.{l}.attn.c_attn.weight": ours["qkvw"][l].T,
            f"h.{l}.attn.c_attn.bias": ours["qkvb"][l],
            f"h.{l}.attn.c_proj.weight": ours["attprojw"][l].T,
            f"h.{l}.attn.c_proj.bias": ours["attprojb"][l],
            f"h.{l}.ln_2.weight": ours["ln2w"][l],
            f"h.{l}.ln_2.bias": ours["ln2b"][l],
            f"h.{l}.mlp.c_fc.weight": ours["fcw"][l].T,
            f"h.{l}.mlp.c_fc.bias": ours["fcb"][l],
            f"h.{l}.mlp.c_proj.weight": ours["fcprojw"][l].T,
            f"h.{l}.mlp.c_proj.bias": ours["fcprojb"][l],
        }
    return {prefix + name: np.ascontiguousarray(tensor) for name, tensor in theirs.items()}


@pytest.fixture
def source(tmp_path):
    return tmp_path / "model.safetensors"


@pytest.fixture
def target(tmp_path):
    return tmp_path / "model.bin"


@pytest.mark.parametrize("version", [1, 3, 5])
@pytest.mark.parametrize("prefix", ["", "transformer."])
def test_the_same_model_comes_out(data, golden, source, target, tiny, version, prefix):
    save_file(hub_layout(tiny, prefix), source)
    convert(source, target, version, heads=3)
    assert target.read_bytes() == (data / f"tiny_v{version}.bin").read_bytes()
    case = golden["cases"][1]
    assert list(generate(gpt2_build_from_checkpoint(target), case["prompt"], case["n"])) == case["tokens"]


def test_half_precision_and_a_tied_head(source, target, tiny):
    tensors = {name: tensor.astype(np.float16) for name, tensor in hub_layout(tiny).items()}
    tensors["lm_head.weight"] = tensors["wte.weight"].copy()
    save_file(tensors, source)
    convert(source, target, heads=3)
    found, expected = read_checkpoint(target)[1], read_checkpoint(tiny)[1]
    assert np.abs(found - expected).max() < 1e-3


def test_heads_come_from_the_configuration_beside(source, target, tiny):
    save_file(hub_layout(tiny), source)
    assert convert(source, target).num_heads == 1  # 48 channels are less than one head of 64
    configuration = source.with_name("config.json")
    configuration.write_text(json.dumps({"n_head": 6}))
    assert convert(source, target).num_heads == 6
    assert convert(source, target, heads=3).num_heads == 3
    for wrong in ("{", "[]", '{"n_head": "x"}', '{"n_head": 0}'):
        configuration.write_text(wrong)
        with pytest.raises(ConvertError, match=r"config\.json: "):
            convert(source, target)


def refused(capsys, source, target, *options: str) -> str:
    """The one line the command refuses with, without the path it begins with."""
    assert main([str(source), "-o", str(target), *options]) == 1
    message = capsys.readouterr().err
    assert message.count("\n") == 1
    assert not target.exists()
    return message.strip().removeprefix(f"{source}: ")


def test_files_that_are_no_gpt2(capsys, source, target, tiny):
    assert refused(capsys, source, target) == "no such file"
    source.write_bytes(b"<html>" * 100)
    assert refused(capsys, source, target).startswith("not a safetensors file: ")
    save_file({"embed.weight": np.zeros((2, 2), dtype=np.float32)}, source)
    assert refused(capsys, source, target) == "no tensor wte.weight: not a GPT-2"

    tensors = hub_layout(tiny)
    save_file({name: tensor for name, tensor in tensors.items() if name != "h.1.ln_2.bias"}, source)
    assert refused(capsys, source, target, "--heads", "3") == "no tensor h.1.ln_2.bias: not a GPT-2"
    save_file(tensors | {"h.0.mlp.c_fc.weight": np.ascontiguousarray(tensors["h.0.mlp.c_fc.weight"].T)}, source)
    assert refused(capsys, source, target) == "h.0.mlp.c_fc.weight: found shape (192, 48), expected (48, 192)"
    save_file(tensors | {"lm_head.weight": tensors["wte.weight"] + 1}, source)
    assert refused(capsys, source, target).startswith("lm_head.weight differs from wte.weight")
    save_file(tensors | {"ln_f.bias": np.zeros(48, dtype=np.int32)}, source)
    assert refused(capsys, source, target) == (
        "ln_f.bias: found numbers of type I32, expected F32 or F16; save it as float32"
    )
    save_file(tensors, source)
    assert refused(capsys, source, target, "--heads", "5") == "channels: found 48, expected a multiple of num_heads (5)"
    save_file({name: tensor for name, tensor in tensors.items() if not name.startswith("h.")}, source)
    assert refused(capsys, source, target) == "num_layers: found 0, expected 1 to 16777216"


def test_the_command(capsys, source, target, tiny):
    save_file(hub_layout(tiny), source)
    assert main([str(source), "-o", str(target), "--heads", "3", "--version", "5"]) == 0
    assert "version 5, 78,144 parameters: 2 layers, 3 heads" in capsys.readouterr().out
    assert main([str(source), "-o", str(source / "model.bin")]) == 1
    assert capsys.readouterr().err.endswith("model.safetensors/model.bin: cannot be written: Not a directory\n")
