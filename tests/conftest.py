"""What all tests share: a clean environment, the golden files, and a marker per stage."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import lab  # noqa: F401  (first: it pins BLAS to one thread before numpy loads)

import numpy as np  # isort: skip
import pytest  # isort: skip

from lab import threadlib
from lab.checkpoint import Config, carve, count_parameters, parameter_shapes, write_checkpoint

if TYPE_CHECKING:
    from grader.sandbox import Sandbox

DATA = Path(__file__).parent / "data"
ENVIRONMENT = ("GPT_MODEL", "GPT_MODELS_DIR", "GPT_MIRROR", "GPT_WORKERS", "GPT_KERNELS")
STAGES = {  # first word of a test file's name after "test_" -> marker
    "serial": "serial",
    "checkpoint": "serial",
    "models": "serial",
    "tokenizer": "serial",
    "cli": "serial",
    "onethread": "serial",
    "convert": "serial",
    "threadlib": "threads",
    "machine": "threads",
    "systems": "serial",
    "margin": "serial",
    "kernels": "parallel",
    "parallel": "parallel",
    "cached": "cached",
    "train": "train",
    "measure": "measure",
    "bench": "measure",
    "notebooks": "measure",
    "check": "check",
    "stages": "check",
    "exercises": "check",
    "answers": "check",
    "grader": "grader",
    "ladder": "ladder",
}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each test the marker of its stage, so that `pytest -m parallel` runs one stage."""
    for item in items:
        stage = STAGES.get(item.path.stem.removeprefix("test_").split("_")[0])
        if stage:
            item.add_marker(stage)


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test depends on what the person running it has set."""
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def every_thread_is_joined() -> Iterator[None]:
    """A thread that one test leaves behind would take a number from the next."""
    yield
    left = [thread.name for thread in threadlib.threads()]
    threadlib.runtime().threads.clear()
    assert not left


@pytest.fixture(scope="session")
def data() -> Path:
    """The folder of golden files."""
    return DATA


@pytest.fixture(scope="session")
def programs() -> Path:
    """The folder of right submissions with names and ways of their own."""
    return DATA.parent / "programs"


@pytest.fixture(scope="session")
def golden() -> dict:
    """golden.json: config, cases (prompt, n, tokens, margin), training losses."""
    return json.loads((DATA / "golden.json").read_text())


@pytest.fixture(scope="session")
def shipped() -> Path:
    """The shipped model, with GPT-2's vocabulary of 50257 tokens."""
    return DATA.parents[1] / "models" / "tiny_shakespeare.bin"


@pytest.fixture(scope="session")
def padded_talker(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model with a vocabulary of 50304, as nanoGPT trains them, that says nothing but token 50292."""
    config = Config(64, 50304, 1, 1, 4, 50304)
    memory = np.zeros(count_parameters(config), dtype=np.float32)
    tensors = carve(memory, parameter_shapes(config))
    tensors["lnfb"][0], tensors["wte"][50292, 0] = 1.0, 30.0
    path = tmp_path_factory.mktemp("padded") / "padded_talker.bin"
    write_checkpoint(path, config, memory)
    return path


@pytest.fixture(scope="session")
def shipped_gptc() -> list[dict]:
    """What gpt.c, compiled from C, prints for 45 prompts on the shipped model: prompt, n, tokens."""
    return json.loads((DATA / "shipped_gptc.json").read_text())["cases"]


@pytest.fixture(scope="session")
def tiny(data: Path) -> Path:
    """The tiny golden model, version 3."""
    return data / "tiny_v3.bin"


@pytest.fixture(scope="session")
def box() -> "Sandbox":
    """The best sandbox of this machine."""
    from grader import sandbox

    return sandbox.choose()


@pytest.fixture(params=["bubblewrap", "other-user", "limits"])
def each_box(request: pytest.FixtureRequest) -> "Sandbox":
    """Every sandbox that works here."""
    from grader_boxes import backend

    return backend(request.param)
