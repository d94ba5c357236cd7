"""Checkpoints: written, read, and refused in one line that names file, field, found and expected."""

import mmap
import os
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lab import files
from lab.checkpoint import (
    HEADER_BYTES,
    CheckpointError,
    Config,
    carve,
    count_parameters,
    narrow_to_bfloat16,
    parameter_shapes,
    read_checkpoint,
    read_header,
    touch_pages,
    widen_bfloat16,
    write_checkpoint,
)

SMALL = Config(max_seq_len=6, vocab_size=11, num_layers=2, num_heads=2, channels=4, padded_vocab_size=16)


@pytest.fixture
def parameters() -> np.ndarray:
    return np.random.default_rng(1).standard_normal(count_parameters(SMALL), dtype=np.float32)


def refusal(path, **options) -> str:
    """The one line read_checkpoint refuses a file with, without the path it begins with."""
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(path, **options)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    return message.removeprefix(f"{path}: ")


def rewrite(source, path, changes: dict[int, int]):
    """A copy of a checkpoint with some integers of the header changed."""
    content = bytearray(source.read_bytes())
    header = np.frombuffer(content, dtype="<i4", count=256)
    for index, value in changes.items():
        header[index] = value
    path.write_bytes(content)
    return path


# ---------------------------------------------------------------------------------------------------------- round trips


@pytest.mark.parametrize("version", [1, 3, 5])
def test_golden_files_are_written_again_byte_for_byte(data, tmp_path, version):
    source = data / f"tiny_v{version}.bin"
    config, params_memory = read_checkpoint(source)
    write_checkpoint(tmp_path / "again.bin", config, params_memory, version)
    assert (tmp_path / "again.bin").read_bytes() == source.read_bytes()


def test_the_three_versions_hold_the_same_model(data):
    config, params_memory = read_checkpoint(data / "tiny_v3.bin")
    config5, widened = read_checkpoint(data / "tiny_v5.bin")
    assert config5 == config
    assert np.array_equal(widened, params_memory)
    config1, unpadded = read_checkpoint(data / "tiny_v1.bin")
    assert config1 == replace(config, padded_vocab_size=config.vocab_size)
    first, third = carve(unpadded, parameter_shapes(config1)), carve(params_memory, parameter_shapes(config))
    for name in third:
        assert np.array_equal(first[name], third[name][: config.vocab_size] if name == "wte" else third[name]), name


@pytest.mark.parametrize("version", [1, 3, 5])
def test_what_is_written_is_read(tmp_path, parameters, version):
    path = tmp_path / "model.bin"
    write_checkpoint(path, SMALL, parameters, version)
    assert read_header(path)[0] == version
    config, found = read_checkpoint(path)
    assert config == (replace(SMALL, padded_vocab_size=11) if version == 1 else SMALL)
    expected = np.delete(parameters, np.s_[11 * 4 : 16 * 4]) if version == 1 else parameters
    if version == 5:
        assert np.abs(found - expected).max() <= np.abs(expected).max() / 256
    else:
        assert np.array_equal(found, expected)
    assert os.listdir(tmp_path) == ["model.bin"]


def test_every_bfloat16_survives_widening_and_narrowing():
    bits = np.arange(1 << 16, dtype=np.uint16)
    wide = widen_bfloat16(bits)
    numbers = ~np.isnan(wide)
    assert np.array_equal(narrow_to_bfloat16(wide)[numbers], bits[numbers])
    assert np.isnan(widen_bfloat16(narrow_to_bfloat16(wide[~numbers]))).all()


def test_narrowing_rounds_to_nearest_and_ties_to_even():
    one = 0x3F80  # 1.0; the next bfloat16 is 1.0078125
    half = np.float32(1 + 2**-8)
    values = np.array([1, np.nextafter(half, 0), half, np.nextafter(half, 2), 1 + 3 * 2**-8, -half], dtype=np.float32)
    assert narrow_to_bfloat16(values).tolist() == [one, one, one, one + 1, one + 2, 0x8000 + one]


def test_a_float32_file_is_mapped_and_read_only(tiny):
    _, params_memory = read_checkpoint(tiny)
    owner = params_memory
    while isinstance(owner, np.ndarray):
        owner = owner.base
    assert isinstance(memoryview(owner).obj, mmap.mmap)
    with pytest.raises(ValueError, match="read-only"):
        params_memory[0] = 1
    assert np.isfinite(touch_pages(params_memory))


def test_a_mapped_file_asks_for_large_pages(tiny):
    mapping = Path("/proc/self/smaps")
    if not mapping.exists() or not Path("/sys/kernel/mm/transparent_hugepage").is_dir():
        pytest.skip("this system has no large pages")
    _, params_memory = read_checkpoint(tiny)
    flags = mapping.read_text().split(str(tiny.resolve()), 1)[1].split("VmFlags:", 1)[1].splitlines()[0].split()
    assert "hg" in flags
    assert params_memory.size


def test_a_file_just_written_leaves_the_page_cache_once_it_is_on_disk(tmp_path, parameters, monkeypatch):
    done = []
    sync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: done.append(("on disk", os.fstat(fd).st_size)) or sync(fd))
    monkeypatch.setattr(os, "posix_fadvise", lambda *given: done.append(given[1:]), raising=False)
    monkeypatch.setattr(os, "POSIX_FADV_DONTNEED", "evict", raising=False)
    write_checkpoint(tmp_path / "small.bin", SMALL, parameters)
    assert not done  # it fills no large page
    monkeypatch.setattr(files, "LARGE_PAGE", parameters.nbytes)
    write_checkpoint(tmp_path / "model.bin", SMALL, parameters)
    assert done == [("on disk", (tmp_path / "model.bin").stat().st_size), (0, 0, "evict")]


def test_a_failed_write_leaves_the_old_file(tmp_path, parameters):
    path = tmp_path / "model.bin"
    write_checkpoint(path, SMALL, parameters)
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match="parameters: found 7, expected"):
        write_checkpoint(path, SMALL, parameters[:7])
    with pytest.raises(CheckpointError, match="version: found 4, expected 1, 3 or 5"):
        write_checkpoint(path, SMALL, parameters, version=4)
    with pytest.raises(TypeError):
        write_checkpoint(path, SMALL, _Breaking(parameters), version=3)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["model.bin"]


class _Breaking:
    """Parameters that cannot be read to the end."""

    def __init__(self, parameters: np.ndarray) -> None:
        self.size = parameters.size


# -------------------------------------------------------------------------------------------------------------- refused


def test_not_a_checkpoint(tmp_path, tiny):
    path = tmp_path / "model.bin"
    assert refusal(path) == "cannot be opened: No such file or directory"
    assert refusal(tmp_path) == "cannot be opened: Is a directory"
    os.mkfifo(tmp_path / "pipe")
    assert refusal(tmp_path / "pipe") == "cannot be opened: it is a pipe, not a file"
    path.write_bytes(b"")
    assert refusal(path) == "not a checkpoint: 0 bytes, but the header alone is 1024"
    path.write_bytes(b"hello")
    assert refusal(path) == "not a checkpoint: 5 bytes, but the header alone is 1024"
    path.write_bytes(b"what?" * 1000)
    assert refusal(path) == "magic: found 1952540791, expected 20240326 (a checkpoint of llm.c)"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({0: 20240325}, "magic: found 20240325, expected 20240326 (a checkpoint of llm.c)"),
        ({0: 20240327}, "not a checkpoint: a debug state of llm.c: the model is the file without _debug_state"),
        ({1: 2}, "version: found 2, expected 1, 3 or 5"),
        ({1: -3}, "version: found -3, expected 1, 3 or 5"),
        ({2: 0}, "max_seq_len: found 0, expected 1 to 16777216"),
        ({3: -331}, "vocab_size: found -331, expected 1 to 16777216"),
        ({4: 2**31 - 1}, "num_layers: found 2147483647, expected 1 to 16777216"),
        ({5: 0}, "num_heads: found 0, expected 1 to 16777216"),
        ({5: 5}, "channels: found 48, expected a multiple of num_heads (5)"),
        ({6: -48}, "channels: found -48, expected 1 to 16777216"),
        ({7: 330}, "padded_vocab_size: found 330, expected at least vocab_size (331)"),
        ({7: 0}, "padded_vocab_size: found 0, expected 1 to 16777216"),
        ({2: 65}, "size: found 313600 bytes, shorter than the 313792 its header says"),
        ({2: 63}, "size: found 313600 bytes, longer than the 313408 its header says"),
        ({1: 5}, "size: found 313600 bytes, longer than the 157312 its header says"),
    ],
)
def test_wrong_headers(tmp_path, tiny, changes, message):
    assert refusal(rewrite(tiny, tmp_path / "model.bin", changes)) == message


def test_wrong_lengths(tmp_path, tiny):
    content = tiny.read_bytes()
    path = tmp_path / "model.bin"
    path.write_bytes(content[:-1])
    assert refusal(path) == "size: found 313599 bytes, shorter than the 313600 its header says"
    path.write_bytes(content + b"\0")
    assert refusal(path) == "size: found 313601 bytes, longer than the 313600 its header says"
    path.write_bytes(content[:HEADER_BYTES])
    assert refusal(path) == "size: found 1024 bytes, shorter than the 313600 its header says"


@pytest.mark.parametrize(("version", "bad"), [(1, np.nan), (3, np.inf), (5, -np.inf), (5, np.nan)])
def test_weights_that_are_not_finite(tmp_path, parameters, version, bad):
    carve(parameters, parameter_shapes(SMALL))["fcw"][1, 2, 3] = bad
    path = tmp_path / "model.bin"
    write_checkpoint(path, SMALL, parameters, version)
    assert refusal(path) == f"fcw: found {bad}, expected finite weights only"


def test_a_large_file_is_searched_when_asked(tmp_path):
    config = Config(max_seq_len=64, vocab_size=4096, num_layers=1, num_heads=1, channels=1024, padded_vocab_size=4096)
    parameters = np.zeros(count_parameters(config), dtype=np.float32)
    parameters[-1] = np.nan
    path = tmp_path / "model.bin"
    write_checkpoint(path, config, parameters)
    assert path.stat().st_size > 64 << 20
    read_checkpoint(path)
    assert refusal(path, verify=True) == "lnfb: found nan, expected finite weights only"


def test_no_checkpoint_is_written_over_a_file_of_another_kind(tiny, tmp_path):
    config, params = read_checkpoint(tiny)
    notes = tmp_path / "notes.bin"
    notes.write_text("a week of notes")
    with pytest.raises(CheckpointError, match=r"notes.bin: exists and is not a checkpoint; choose another name"):
        write_checkpoint(notes, config, params)
    assert notes.read_text() == "a week of notes"
    notes.write_bytes(b"")
    write_checkpoint(notes, config, params)
    write_checkpoint(notes, config, params)
