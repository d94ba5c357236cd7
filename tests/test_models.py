"""Which model is used, the synthetic ones, and the download from servers that misbehave."""

import fcntl
import os
import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from evaluate64 import evaluate, sampled

from lab import download as download_module
from lab import models
from lab.checkpoint import CheckpointError, Config, read_checkpoint
from lab.download import download
from lab.models import ModelError, main, resolve, synthetic_checkpoint, synthetic_parameters, timing_model
from lab.serial import GPT2, generate

SPEAKING = Config(
    max_seq_len=32, vocab_size=5003, num_layers=4, num_heads=4, channels=64, padded_vocab_size=5120
)  # large enough to behave like GPT-2, small enough for a second


@pytest.fixture
def folder(tmp_path, monkeypatch) -> Path:
    """An empty folder of models."""
    monkeypatch.setattr(models, "MODELS_DIR", tmp_path)
    return tmp_path


@pytest.fixture
def no_large_file(monkeypatch) -> None:
    """The synthetic 124M is the tiny one: what is tested is when it is written."""
    monkeypatch.setattr(models, "GPT2_124M", Config(8, 5, 1, 1, 4, 8))


# ------------------------------------------------------------------------------------------------------------ which one


def test_the_model_asked_for(folder, tiny, monkeypatch):
    shutil.copy(tiny, folder / "mine.bin")
    assert resolve(tiny) == tiny
    assert resolve(str(tiny)) == tiny
    assert resolve("mine") == resolve("mine.bin") == folder / "mine.bin"
    monkeypatch.setenv("GPT_MODEL", "mine")
    assert resolve() == folder / "mine.bin"
    assert resolve(tiny) == tiny


def test_a_model_that_is_not_there(folder, tiny):
    with pytest.raises(ModelError, match=rf"^nosuch: no such model; give a path, or a name from {folder}: none yet"):
        resolve("nosuch")
    shutil.copy(tiny, folder / "mine.bin")
    with pytest.raises(ModelError, match=rf"^sub/mine: no such model; give a path, or a name from {folder}: mine$"):
        resolve("sub/mine")
    with pytest.raises(ModelError, match=r"^gpt2_124M\.bin is not here yet: make model downloads it \(498 MB\)$"):
        resolve("gpt2_124M")


def test_the_best_model_there_is(folder, no_large_file, capsys):
    assert resolve() == timing_model() == folder / "synthetic_124M.bin"
    assert capsys.readouterr().err == f"writing {folder}/synthetic_124M.bin (498 MB, once) ...\n"
    (folder / "tiny_shakespeare.bin").touch()
    assert resolve() == folder / "tiny_shakespeare.bin"
    assert timing_model() == folder / "synthetic_124M.bin"
    (folder / "gpt2_124M.bin").touch()
    assert resolve() == timing_model() == folder / "gpt2_124M.bin"
    assert resolve("synthetic_124M") == folder / "synthetic_124M.bin"
    assert capsys.readouterr().err == ""


# -------------------------------------------------------------------------------------------------------- the synthetic


def test_the_same_seed_gives_the_same_model():
    first, again, other = (synthetic_parameters(SPEAKING, seed) for seed in (1, 1, 2))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)


def test_distributions_are_peaked_and_tokens_vary():
    """The margin of a case at 95 % of the steps at least, and a text that neither sticks nor ignores its prompt."""
    model = GPT2(SPEAKING, synthetic_parameters(SPEAKING, seed=1))
    V, n = SPEAKING.vocab_size, 24
    margins, made, first = [], [], set()
    random = np.random.default_rng(1)
    prompts = [random.integers(0, V, length).tolist() for length in (1, 2, 3, 5, 8, 8)]
    for prompt in prompts:
        tokens = list(generate(model, prompt, n))
        probs = evaluate(SPEAKING, model.params_memory, [*prompt, *tokens[:-1]])["probs"][len(prompt) - 1 :]
        picked, margin = sampled(probs)
        margins.extend(margin)
        assert (picked == tokens)[margin > 2e-5].all()
        made.append(tokens)
        first.add(tokens[0])
    everything = [token for tokens in made for token in tokens]
    assert np.mean(np.array(margins) >= 2e-5) >= 0.95
    assert len(set(everything)) > 0.6 * len(everything)
    assert len(first) == len(prompts)


def test_context_and_place_decide_the_next_token():
    model = GPT2(SPEAKING, synthetic_parameters(SPEAKING, seed=1))
    prompts = [[first, 7, 7, 7, 9] for first in range(10)]
    assert len({next(generate(model, prompt, 6)) for prompt in prompts}) >= 5
    assert len({next(generate(model, [9] * length, length + 1)) for length in range(1, 11)}) >= 5


@pytest.mark.parametrize(("version", "stored"), [(1, 5003), (3, 5120), (5, 5120)])
def test_any_shape_can_be_asked_for(tmp_path, capsys, version, stored):
    path = tmp_path / "new" / "model.bin"
    shape = {"layers": 4, "heads": 4, "channels": 64, "vocab": 5003, "context": 32, "seed": 1, "version": version}
    assert main(["synthetic", *(f"--{name}={value}" for name, value in shape.items()), "-o", str(path)]) == 0
    config, found = read_checkpoint(path)
    assert config == Config(32, 5003, 4, 4, 64, stored)
    assert f"version {version}" in capsys.readouterr().out
    if version == 3:
        assert np.array_equal(found, synthetic_parameters(SPEAKING, seed=1))


def test_impossible_shapes_are_refused(tmp_path, capsys):
    path = tmp_path / "model.bin"
    assert main(["synthetic", "--channels", "100", "-o", str(path)]) == 1
    assert capsys.readouterr().err == f"{path}: channels: found 100, expected a multiple of num_heads (12)\n"
    with pytest.raises(ModelError, match="num_layers: found 0, expected"):
        synthetic_checkpoint(path, Config(8, 8, 0, 1, 4, 8))
    with pytest.raises(ModelError, match="not enough memory for"):
        synthetic_checkpoint(path, Config(8, 1 << 24, 1 << 20, 1, 1 << 20, 1 << 24))
    blocked = tmp_path / "file"
    blocked.touch()
    with pytest.raises(ModelError, match=r"^/: it is a folder"):
        download(Path("/"))
    with pytest.raises(ModelError, match=f"^{blocked}/model.bin: cannot be written: "):
        synthetic_checkpoint(blocked / "model.bin", Config(8, 8, 1, 1, 4, 8))
    assert not path.exists()


def test_show(capsys, tiny):
    assert main(["show", str(tiny), "--verify"]) == 0
    assert capsys.readouterr().out == (
        f"{tiny}: version 3, 78,144 parameters: 2 layers, 3 heads, 48 channels, vocabulary 331 (384 stored), "
        "up to 64 tokens, all weights finite\n"
    )
    assert main(["show", __file__]) == 1
    assert capsys.readouterr().err.count("\n") == 1


# --------------------------------------------------------------------------------------------------------- the download


class Server:
    """What a local HTTP server does with the file, and what it was asked."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.kind = "application/octet-stream"
        self.status = 200
        self.breaks_after: list[int] = []  # bytes of the first, second ... connection
        self.ranges = True
        self.asked: list[str | None] = []
        self.address = ""

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        asked = request.headers.get("Range")
        self.asked.append(asked)
        begin = int(asked.removeprefix("bytes=").rstrip("-")) if asked and self.ranges else 0
        if asked and self.ranges and begin >= len(self.content):
            request.send_response(416)
            request.send_header("Content-Range", f"bytes */{len(self.content)}")
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        body = self.content[begin:]
        request.send_response(206 if begin else self.status)
        request.send_header("Content-Type", self.kind)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        if self.breaks_after:
            body = body[: self.breaks_after.pop(0)]
        request.wfile.write(body)  # too short a body: the connection closes before it is complete


@contextmanager
def serving(content: bytes) -> Iterator[Server]:
    """A server on this machine, in a thread."""
    server = Server(content)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            server.answer(self)

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        thread.start()
        server.address = f"http://127.0.0.1:{http.server_port}"
        try:
            yield server
        finally:
            http.shutdown()
            thread.join()


@pytest.fixture
def server(tiny, monkeypatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "*")
    monkeypatch.setattr(download_module, "CHUNK", 10_000)
    with serving(tiny.read_bytes()) as server:
        yield server


@pytest.fixture
def target(tmp_path) -> Path:
    return tmp_path / "models" / "gpt2_124M.bin"


@pytest.fixture
def fetch(server, target, tiny):
    """Download from the server, expecting the tiny model, without pauses."""
    shape = read_checkpoint(tiny)[0]

    def fetch(mirror: str = "", expected: Config = shape) -> str | None:
        """The one line of the failure, without the address it begins with, or None."""
        try:
            download(target, mirror or server.address, expected, wait=lambda seconds: None)
        except ModelError as error:
            assert "\n" not in str(error)
            return str(error).removeprefix(f"{server.address}/gpt2_124M.bin: ")
        return None

    return fetch


def left_over(target: Path) -> list[str]:
    """What a download has left in the folder."""
    return sorted(path.name for path in target.parent.iterdir())


def test_download(fetch, server, target, tiny):
    assert fetch() is None
    assert target.read_bytes() == tiny.read_bytes()
    assert left_over(target) == ["gpt2_124M.bin"]
    assert server.asked == [None]


def test_a_mirror_may_be_the_file_itself(fetch, server, target):
    assert fetch(f"{server.address}/other/name.bin") is None
    assert target.is_file()


def test_broken_connections_are_resumed(fetch, server, target, tiny):
    server.breaks_after = [50_000, 0, 0, 105_000, 0]  # in chunks of 10,000
    assert fetch() is None
    assert target.read_bytes() == tiny.read_bytes()
    assert server.asked == [None, *(f"bytes={have}-" for have in (50_000, 50_000, 50_000, 150_000, 150_000))]


def test_a_later_download_goes_on_where_one_stopped(fetch, server, target, tiny):
    server.breaks_after = [50_000] + [0] * 9
    assert fetch() == "the connection broke off; 0.1 MB are kept: make model resumes from there"
    assert left_over(target) == ["gpt2_124M.bin.part"]
    server.breaks_after, server.asked = [], []
    assert fetch() is None
    assert server.asked == ["bytes=50000-"]
    assert target.read_bytes() == tiny.read_bytes()


def test_a_complete_part_needs_no_more_bytes(fetch, server, target, tiny):
    target.parent.mkdir()
    shutil.copy(tiny, f"{target}.part")
    assert fetch() is None
    assert server.asked == ["bytes=313600-"]
    assert target.read_bytes() == tiny.read_bytes()


def test_a_server_that_cannot_resume_starts_again(fetch, server, target, tiny):
    server.breaks_after, server.ranges = [50_000], False
    assert fetch() is None
    assert target.read_bytes() == tiny.read_bytes()


def test_a_part_that_is_no_checkpoint_is_not_continued(fetch, server, target, tiny):
    target.parent.mkdir()
    Path(f"{target}.part").write_bytes(b"<html>" * 1000)
    assert fetch() is None
    assert server.asked == [None]
    assert target.read_bytes() == tiny.read_bytes()


def test_a_truncated_file(fetch, server, target):
    server.content = server.content[:200_000]
    assert fetch() == (
        "the file that arrived is wrong and was deleted: "
        "size: found 200000 bytes, shorter than the 313600 its header says"
    )
    assert left_over(target) == []


def test_an_error_page_with_status_200(fetch, server, target):
    server.content, server.kind = b"<!DOCTYPE html><p>Sign in" + b" " * 100_000, "text/html; charset=utf-8"
    assert fetch() == (
        "the server sent text/html, not a checkpoint "
        "(not a checkpoint: a web page, such as a server sends instead of a file: download it again)"
    )
    assert left_over(target) == []


def test_a_short_error_page_with_status_200(fetch, server, target):
    server.content = b"<html>busy"
    assert fetch() == (
        "the file that arrived is wrong and was deleted: not a checkpoint: "
        "a web page, such as a server sends instead of a file: download it again"
    )
    assert left_over(target) == []


def test_weights_damaged_on_the_way(fetch, server, target):
    server.content = server.content[:-4] + np.float32(np.nan).tobytes()
    assert fetch() == "the file that arrived is wrong and was deleted: lnfb: found nan, expected finite weights only"
    assert left_over(target) == []


def test_another_model(fetch, target):
    assert "not GPT-2 124M" in fetch(expected=models.GPT2_124M)
    assert left_over(target) == []


@pytest.mark.parametrize("status", [403, 404])
def test_no_such_file(fetch, server, target, status):
    server.status = status
    assert fetch().startswith(f"{status} ")
    assert left_over(target) == []


def test_a_refusal_loses_nothing(fetch, server, target, tiny):
    server.breaks_after = [50_000] + [0] * 9
    fetch()
    server.breaks_after, server.ranges, server.status = [], False, 403
    assert fetch().startswith("403 ")
    assert target.with_name("gpt2_124M.bin.part").stat().st_size == 50_000
    server.ranges = True
    assert fetch() is None
    assert target.read_bytes() == tiny.read_bytes()


def test_a_busy_server(fetch, server, target):
    server.status = 503
    assert fetch().startswith("503 Service Unavailable; is there a network?")
    assert left_over(target) == []


def test_no_network(folder, capsys):
    assert main(["download", "--mirror", "http://127.0.0.1:9"]) == 1
    assert capsys.readouterr().err == (
        "http://127.0.0.1:9/gpt2_124M.bin: no connection; is there a network? "
        "A mirror: make model ARGS='--mirror ADDRESS'. Without one: make synthetic\n"
    )
    assert list(folder.iterdir()) == []


def test_not_an_address(folder, capsys, monkeypatch):
    monkeypatch.setenv("GPT_MIRROR", "models.example")
    assert main(["download"]) == 1
    assert capsys.readouterr().err == (
        "models.example/gpt2_124M.bin: not an address; it begins with https:// or http://\n"
    )
    assert list(folder.iterdir()) == []


def test_an_address_with_a_part_that_is_empty(folder, capsys):
    assert main(["download", "--mirror", "http://models..example"]) == 1
    assert "not an address" in capsys.readouterr().err and list(folder.iterdir()) == []


def test_a_download_does_not_replace_a_device(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ModelError, match="pipe: it is not a regular file; give a file's name"):
        download(tmp_path / "pipe")


def test_a_full_disk(fetch, server, target, monkeypatch):
    monkeypatch.setattr(download_module.shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(9, 9, 100_000))
    assert fetch() == f"{target.parent}: 0 MB are needed there, 0 MB are free"
    assert left_over(target) == []


def test_two_downloads_at_once(fetch, target):
    target.parent.mkdir()
    partial = Path(f"{target}.part")
    with partial.open("ab") as file:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        assert fetch() == f"{partial}: another download is writing it; wait for that one"


def test_what_is_there_is_not_downloaded_again(folder, tiny, capsys):
    shutil.copy(tiny, folder / "gpt2_124M.bin")
    assert main(["download", "--mirror", "http://127.0.0.1:9"]) == 0
    assert "version 3" in capsys.readouterr().out
    with pytest.raises(CheckpointError):
        read_checkpoint(folder / "other.bin")
