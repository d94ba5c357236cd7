"""What all tests share: a clean environment, the golden files, and a marker per stage."""

import fcntl
import gc
import json
import os
import pickle
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lab  # noqa: F401  (first: it pins BLAS to one thread before numpy loads)

import numpy as np  # isort: skip
import pytest  # isort: skip
from browser import browser  # isort: skip

from lab import kernels, machine, threadlib
from lab.checkpoint import Config, carve, count_parameters, parameter_shapes, write_checkpoint

if TYPE_CHECKING:
    from grader.sandbox import Sandbox

DATA = Path(__file__).parent / "data"
ENVIRONMENT = ("GPT_MODEL", "GPT_MODELS_DIR", "GPT_MIRROR", "GPT_WORKERS")
for unused in ("rfc3987_syntax", "isoduration"):  # jsonschema would load them, for 2 s; no schema has such a format
    sys.modules.setdefault(unused, None)
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # a run in the background; what it starts would ignore it as well
    signal.signal(signal.SIGINT, signal.default_int_handler)
if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # under nohup, likewise
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # the processes that the tests start would each compile the lab anew
CHOSEN = kernels.choose()  # measured once: hundreds of processes that the tests start need not measure it again
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


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Two processes more than cores: half of the tests' time is spent waiting for programs that they start."""
    return machine.count() + 2


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Give each test the marker of its stage, so that `pytest -m parallel` runs one stage; the long ones begin, so that
    none of them is left to run alone at the end.
    """
    for item in items:
        stage = STAGES.get(item.path.stem.removeprefix("test_").split("_")[0])
        if stage:
            item.add_marker(stage)
    items.sort(key=lambda item: item.get_closest_marker("long") is None)


def pytest_collection_finish() -> None:
    """The garbage collector need not look at thousands of tests again and again."""
    gc.freeze()


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test depends on what the person running it has set."""
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv(kernels.VARIABLE, CHOSEN)


@pytest.fixture(autouse=True)
def every_thread_is_joined() -> Iterator[None]:
    """A thread that one test leaves behind would take a number from the next."""
    yield
    left = [thread.name for thread in threadlib.threads()]
    threadlib._runtime.threads.clear()
    assert not left


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Callable[[], Any]], Any]:
    """once(name, make): what make() returns, made by the first of the run's processes that asks; it must pickle."""
    alone = "PYTEST_XDIST_WORKER" not in os.environ
    folder = tmp_path_factory.getbasetemp() if alone else tmp_path_factory.getbasetemp().parent  # which all share

    def made(name: str, make: Callable[[], Any]) -> Any:
        kept = folder / f"{name}.pickle"
        with (folder / f"{name}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # the others wait here
            if not kept.exists():
                kept.write_bytes(pickle.dumps(make()))
        return pickle.loads(kept.read_bytes())

    return made


@pytest.fixture
def called(capfd: pytest.CaptureFixture[str]) -> Callable[..., subprocess.CompletedProcess]:
    """called(main, *words): what `python -m` would give with these words, but without the start of another Python."""

    def run(main: Callable[[list[str]], int], *words: object) -> subprocess.CompletedProcess:
        arguments = list(map(str, words))
        capfd.readouterr()
        try:
            code = main(arguments)
        except SystemExit as stop:
            code = stop.code
        return subprocess.CompletedProcess(arguments, code, *capfd.readouterr())

    return run


@pytest.fixture
def forked(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess]:
    """forked(run, *words): another Python that calls run() as a main program with these words, but has imported already
    what this one has.
    """

    def start(run: Callable[[], object], *words: object) -> subprocess.CompletedProcess:
        paths = [tmp_path / "forked.out", tmp_path / "forked.err"]
        child = os.fork()
        if not child:
            with suppress(BaseException):  # or pytest would go on in both
                become(run, list(map(str, words)), paths)
            os._exit(99)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        return subprocess.CompletedProcess(words, code, *(path.read_text() for path in paths))

    return start


def become(run: Callable[[], object], words: list[str], paths: list[Path]) -> None:
    """In a process of its own: run(), what it prints into two files, and its exit code."""
    for number, path in enumerate(paths, 1):
        os.dup2(os.open(path, os.O_CREAT | os.O_WRONLY), number)
    sys.stdout, sys.stderr = open(1, "w"), open(2, "w")  # noqa: SIM115
    sys.argv, code = ["", *words], 0
    try:
        run()
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        traceback.print_exc()
        code = 1
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)


@pytest.fixture
def checker(called: Callable, monkeypatch: pytest.MonkeyPatch) -> Callable[..., subprocess.CompletedProcess]:
    """checker(*words): `python -m lab.check`, which looks at a program in a process of its own."""
    from lab.check.__main__ import main

    monkeypatch.chdir(DATA.parents[1])
    return partial(called, main)


@pytest.fixture
def sketched(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures are drawn in full, but once and small, for tests that look at none of the files."""
    from lab.measure import style

    def save(figure: Any, stem: Path) -> list[Path]:
        figure.savefig(f"{stem}.png", dpi=40)
        style.pyplot().close(figure)
        return [Path(f"{stem}.png")]

    monkeypatch.setattr(style, "save", save)


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """One browser for all tests of this process."""
    started = browser()
    yield started
    started.quit()


@pytest.fixture
def driver(chromium: Any) -> Any:
    """The browser, as it was when it came."""
    chromium.get("about:blank")
    chromium.set_window_size(1280, 900)
    chromium.get_log("browser")  # what it has told before
    return chromium


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
    """What gpt.c, compiled from C, prints for 45 prompts on the shipped model: prompt, n, tokens. Each case ends before
    its first token that the order of a sum decides, as another processor adds in another one.
    """
    cases = json.loads((DATA / "shipped_gptc.json").read_text())["cases"]
    for case in cases:
        case["tokens"] = case["tokens"][: case["safe"]]
        case["n"] = len(case["prompt"]) + case["safe"]
    return cases


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
