"""Hugging Face's layout of GPT-2 -> a checkpoint, on files made here."""

import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from lab import gpt
from lab.checkpoint import carve, narrow_to_bfloat16, parameter_shapes, read_checkpoint
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
    source.write_bytes(b"hello " * 100)
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
        "ln_f.bias: found numbers of type I32, expected F32, F16 or BF16: save it as one of these"
    )
    save_file(tensors, source)
    assert refused(capsys, source, target, "--heads", "5") == "channels: found 48, expected a multiple of num_heads (5)"
    save_file({name: tensor for name, tensor in tensors.items() if not name.startswith("h.")}, source)
    assert refused(capsys, source, target) == "num_layers: found 0, expected 1 to 16777216"


@pytest.mark.parametrize(
    "field, value",
    [
        ("activation_function", "gelu"),
        ("activation_function", "relu"),
        ("activation_function", None),
        ("layer_norm_epsilon", 1e-6),
        ("layer_norm_epsilon", True),
        ("scale_attn_weights", False),
        ("scale_attn_by_inverse_layer_idx", True),
        ("add_cross_attention", True),
        ("n_inner", 100),
        ("model_type", "gpt_neo"),
        ("pruned_heads", {"0": [1]}),
        ("quantization_config", {"bits": 4}),
        ("n_layer", 1),
        ("num_hidden_layers", 3),
        ("n_embd", 64),
        ("hidden_size", 64),
        ("vocab_size", 50257),
        ("n_positions", 1024),
        ("n_head", True),
    ],
)
def test_a_configuration_that_computes_something_else_is_refused(capsys, source, target, tiny, field, value):
    save_file(hub_layout(tiny), source)
    configuration = source.with_name("config.json")
    right = {"n_head": 3, "n_layer": 2, "activation_function": "gelu_new", "n_inner": None, "n_ctx": 64}
    configuration.write_text(json.dumps(right | {"layer_norm_epsilon": 1e-05, "scale_attn_weights": True}))
    assert main([str(source), "-o", str(target)]) == 0
    target.unlink()
    configuration.write_text(json.dumps({field: value}))
    message = refused(capsys, source, target)
    assert message.startswith(f"{configuration}: ") and f": found {value!r}, " in message
    assert field in message or field in ("num_hidden_layers", "hidden_size")


def test_a_configuration_with_a_byte_order_mark_or_none_at_all(capsys, source, target, tiny):
    save_file(hub_layout(tiny), source)
    configuration = source.with_name("config.json")
    configuration.write_text(json.dumps({"n_head": 6}), encoding="utf-8-sig")
    assert convert(source, target).num_heads == 6
    target.unlink()
    for broken in ("{", "[]", "[" * 100_000, "\0"):
        configuration.write_text(broken)
        assert "config.json: not a JSON object" in refused(capsys, source, target)


def save_bfloat16(tensors, path) -> None:
    """A safetensors file of numbers that numpy has no type for: the header's length, the header, the numbers."""
    header, body = {"__metadata__": {"format": "pt"}}, b""
    for name, tensor in tensors.items():
        raw = narrow_to_bfloat16(tensor).tobytes()
        offsets = [len(body), len(body) + len(raw)]
        header[name] = {"dtype": "BF16", "shape": list(tensor.shape), "data_offsets": offsets}
        body += raw
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + body)


def test_bfloat16(data, source, target, tiny):
    save_bfloat16(hub_layout(tiny), source)
    convert(source, target, version=5, heads=3)
    assert target.read_bytes() == (data / "tiny_v5.bin").read_bytes()


def sharded(tensors, folder) -> Path:
    """The model in two files; returns the index."""
    names = sorted(tensors)
    shards = {f"model-0000{i}-of-00002.safetensors": names[i - 1 :: 2] for i in (1, 2)}
    for file, mine in shards.items():
        save_file({name: tensors[name] for name in mine}, folder / file)
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {name: file for file, mine in shards.items() for name in mine}}))
    return index


def test_a_model_in_several_files(capsys, data, tmp_path, target, tiny):
    index = sharded(hub_layout(tiny, "transformer."), tmp_path)
    for source in (index, tmp_path):
        convert(source, target, heads=3)
        assert target.read_bytes() == (data / "tiny_v3.bin").read_bytes()
        target.unlink()
    first, second = sorted(tmp_path.glob("model-*"))
    assert refused(capsys, second, target).startswith("file 2 of the 2 of a model: give their index")
    first.unlink()
    message = f"{first}: no such file, but {index.name} names it: download all 2 of them"
    assert refused(capsys, index, target) == message
    index.write_text('{"weight_map": {"wte.weight": ""}}')
    assert "no such file, but model.safetensors.index.json names it" in refused(capsys, index, target)
    index.write_text("{}")
    assert refused(capsys, index, target).startswith("not the index of a model in several files")
    index.unlink()
    assert refused(capsys, tmp_path, target).startswith("holds neither model.safetensors nor")


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_weights_that_are_no_numbers_are_refused_before_anything_is_written(capsys, source, target, tiny, bad):
    tensors = hub_layout(tiny)
    tensors["h.1.mlp.c_fc.bias"] = tensors["h.1.mlp.c_fc.bias"].copy()
    tensors["h.1.mlp.c_fc.bias"][7] = bad
    for save in (save_file, save_bfloat16):
        save(tensors, source)
        assert f"h.1.mlp.c_fc.bias: found {bad}, expected finite" in refused(capsys, source, target, "--heads", "3")
    save_file({name: tensor.astype(np.float64) * 1e300 for name, tensor in hub_layout(tiny).items()}, source)
    assert "expected finite weights only" in refused(capsys, source, target, "--heads", "3")


@pytest.mark.parametrize("name", ["h.0.crossattention.c_attn.weight", "h.1.attn.lora_A.weight", "lm_head.bias"])
def test_tensors_that_gpt_c_has_no_place_for_are_refused(capsys, source, target, tiny, name):
    save_file(hub_layout(tiny) | {name: np.zeros(3, dtype=np.float32)}, source)
    assert refused(capsys, source, target, "--heads", "3") == f"tensor {name}: gpt.c has no such tensor"


LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 548105171\n"


@pytest.mark.parametrize(
    "content, known",
    [
        (LFS, "a git-lfs pointer, not the file itself: git lfs pull fetches that"),
        (b"PK\x03\x04" + bytes(2000), "a PyTorch file: save the model as safetensors"),
        (b"GGUF" + bytes(2000), "a GGUF file of llama.cpp"),
        (b"<!DOCTYPE html>" + bytes(2000), "a web page"),
    ],
)
def test_what_is_no_model_is_called_by_its_name(capsys, source, target, content, known):
    source.write_bytes(content)
    assert refused(capsys, source, target).startswith(known)
    assert gpt.main(["--model", str(source), "1"]) == 1
    assert capsys.readouterr().err.startswith(f"gpt: {source}: not a checkpoint: {known}")


def test_a_safetensors_file_is_no_checkpoint_and_a_checkpoint_none(capsys, source, target, tiny):
    save_file(hub_layout(tiny), source)
    assert gpt.main(["--model", str(source), "1"]) == 1
    assert ": not a checkpoint: a safetensors file: python -m lab.convert FILE" in capsys.readouterr().err
    assert refused(capsys, tiny, target) == "already a checkpoint: use it with gpt --model"


def test_the_command(capsys, source, target, tiny):
    save_file(hub_layout(tiny), source)
    assert main([str(source), "-o", str(target), "--heads", "3", "--version", "5"]) == 0
    assert "version 5, 78,144 parameters: 2 layers, 3 heads" in capsys.readouterr().out
    assert main([str(source), "-o", str(source / "model.bin")]) == 1
    assert capsys.readouterr().err.endswith("model.safetensors/model.bin: cannot be written: Not a directory\n")
