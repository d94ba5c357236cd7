"""make profile, timeline, scale, plots and report as a student runs them, on a small model; programs that misbehave."""

import contextlib
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import jsonschema
import pytest
from test_measure import check_trace

from lab import kernels
from lab.checkpoint import Config
from lab.measure import __file__ as measure_file
from lab.measure import capacity, machine, perf, plots, profile, reference, report, runner, scale, style, timeline
from lab.measure.freshness import digest
from lab.measure.load import Load
from lab.models import synthetic_checkpoint

SMALL = Config(max_seq_len=64, vocab_size=1000, num_layers=4, num_heads=6, channels=192, padded_vocab_size=1024)
FILES = (
    *(f"{engine}.{kind}" for engine in ("serial", "parallel") for kind in ("svg", "collapsed.txt", "speedscope.json")),
    "parallel.trace.json",
    *(f"parallel.{kind}.{end}" for kind in ("timeline", "speedup", "operations", "roofline") for end in ("png", "svg")),
)


@pytest.fixture(scope="session")
def small(tmp_path_factory, once) -> Path:
    """A model on which a token takes a few milliseconds; the same one as `measured` has been made with."""

    def make() -> Path:
        path = tmp_path_factory.mktemp("model") / "small.bin"
        synthetic_checkpoint(path, SMALL)
        return path

    return once("small", make)


def main_of(module, *arguments: object) -> int:
    """The exit status of a command."""
    try:
        return module.main([str(argument) for argument in arguments])
    except SystemExit as stop:
        return stop.code


# ------------------------------------------------------------------------------------------------------ all on one page


@pytest.fixture(scope="module")
def measured(small, tmp_path_factory, once) -> Path:
    """The folder of everything that make report makes."""
    return once("report", lambda: make_report(small, tmp_path_factory.mktemp("profiles")))


def make_report(model: Path, out: Path) -> Path:
    """Everything, in `out`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scale, "COUNTS", (1, 2, 4))
        patch.setattr(scale, "REPEATS", 1)
        patch.setattr(scale, "ROUNDS", 1)
        patch.setattr(profile, "MOST_ROUNDS", 1)
        measure_soon(patch)
        assert main_of(report, "--model", model, "-n", 30, "--workers", 2, "--out", out, "--title", "Ada's report") == 0
    return out


@pytest.mark.long
def test_report_has_made_everything(measured, data):
    assert not [path for path in measured.iterdir() if ".part" in path.name]
    for name in FILES:
        assert (measured / name).stat().st_size > 0, name
    schema = json.loads((data / "speedscope.schema.json").read_text())
    for engine in ("serial", "parallel"):
        jsonschema.validate(json.loads((measured / f"{engine}.speedscope.json").read_text()), schema)
    check_trace(json.loads((measured / "parallel.trace.json").read_text()), data)
    for path in measured.glob("*.svg"):
        ElementTree.parse(path)
    for path in measured.glob("*.png"):
        assert path.read_bytes().startswith(b"\x89PNG"), path


@pytest.mark.long
def test_numbers_of_the_report_hang_together(measured):
    hot, times, prediction, parts = (
        json.loads((measured / f"{name}.json").read_text())
        for name in ("serial.profile", "parallel.timeline", "parallel.scale", "parallel.plots")
    )
    assert hot["samples"] > 0 and hot["rows"] and sum(row["self_share"] for row in hot["rows"]) <= 1 + 1e-9
    assert {"machine", "load", "date", "command"} <= hot.keys()
    assert {row["thread"] for row in times["threads"]} == {"MainThread", "worker-1", "worker-2"}
    assert times["operations"] and all(0 <= row["busy"] <= 1 for row in times["operations"])
    assert prediction["span"] <= prediction["work"] and prediction["span"] <= prediction["burdened_span"]
    assert [row["k"] for row in prediction["rows"]] == [1, 2, 4] and "measured" in prediction["rows"][0]
    assert set(parts["seconds"]) >= {"serial", "1"} and parts["seconds"]["serial"]["matmul_forward"] > 0


@pytest.mark.long
def test_report_is_one_page_without_network(measured):
    page = (measured / "report.html").read_text()
    assert "Ada&#39;s report" in page and "matmul_forward" in page and "python -m lab.measure.timeline" in page
    assert page.count("data:image/svg+xml;base64,") == 4 and page.count('class="flame"') == 2
    links = re.findall(r"""(?:src|href)=["']([^"']+)""", page)
    assert links and all(link.startswith(("#", "data:")) for link in links)


@pytest.mark.parametrize(
    ("command", "name", "key"),
    [
        (report, "parallel.profile", "title"),
        (report, "serial.profile", "rows"),
        (report, "parallel.timeline", "threads"),
        (report, "parallel.scale", "rows"),
        (report, "parallel.plots", "command"),
        (plots, "parallel.scale", "title"),
        (plots, "parallel.scale", "rows"),
        (plots, "bench", "contenders"),
    ],
)
def test_results_of_another_version_are_one_line(measured, small, tmp_path, capsys, monkeypatch, command, name, key):
    shutil.copytree(measured, tmp_path, dirs_exist_ok=True)
    if name == "bench":
        digests = {"parallel": digest("parallel")}
        found = {"model": small.name, "prompt_length": 3, "n": 30, "digests": digests, "contenders": [], "capacity": {}}
    else:
        found = json.loads((tmp_path / f"{name}.json").read_text())
    del found[key]
    (tmp_path / f"{name}.json").write_text(json.dumps(found))
    monkeypatch.setattr(plots, "measure_operations", None)  # it fails before anything is measured
    assert main_of(command, "--model", small, "-n", 30, "--workers", 2, "--out", tmp_path) == 1
    where = tmp_path if command is report else tmp_path / f"{name}.json"
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith(f"{where}: not as this version of the lab writes it (") and key in last


def try_flame_graph(driver, svg):
    """Zoom, search, reset: what a reader does with a flame graph."""

    def shown():
        return driver.execute_script(
            "return [...arguments[0].querySelectorAll('.frame')].filter(g => g.style.display !== 'none')"
            ".map(g => [g.dataset.name, +g.querySelector('rect').getAttribute('width')])",
            svg,
        )

    def is_as_before():
        pairs = list(zip(shown(), before, strict=False))
        return len(pairs) == len(before) and all(a[0] == b[0] and abs(a[1] - b[1]) < 0.1 for a, b in pairs)

    def event(node, kind):
        driver.execute_script("arguments[0].dispatchEvent(new Event(arguments[1], {bubbles: true}))", node, kind)

    before, frames = shown(), svg.find_elements("css selector", ".frame")
    whole = before[0][1]
    target = next(f for f in frames if f.get_attribute("data-name").startswith("attention_forward"))
    event(target, "click")
    zoomed = dict(shown())
    name = target.get_attribute("data-name")
    assert zoomed[name] == pytest.approx(whole) and zoomed["all"] == pytest.approx(whole)
    assert len(zoomed) < len(before)
    reset = svg.find_element("css selector", ".reset")
    assert reset.value_of_css_property("visibility") == "visible"
    event(reset, "click")
    assert is_as_before() and reset.value_of_css_property("visibility") == "hidden"
    field = svg.find_element("css selector", "input")
    actions = pytest.importorskip("selenium.webdriver").ActionChains(driver)
    actions.click(field).send_keys("matmul").perform()
    text = driver.execute_script("return arguments[0].textContent", svg.find_element("css selector", ".matched"))
    assert re.fullmatch(r"matched: \d+\.\d %", text) and float(text.split()[1]) > 5
    hits = svg.find_elements("css selector", ".hit")
    assert hits and all("matmul" in hit.get_attribute("data-name") for hit in hits)
    actions.send_keys("\ue00c").perform()  # Escape
    assert is_as_before() and not svg.find_elements("css selector", ".hit")


@pytest.mark.long
def test_report_works_in_a_browser(measured, driver):
    driver.get((measured / "report.html").as_uri())
    pictures = driver.execute_script("return [...document.images].map(i => [i.alt, i.complete && i.naturalWidth])")
    assert len(pictures) == 4 and all(alt and width > 300 for alt, width in pictures)
    graphs = driver.find_elements("css selector", "svg.flame")
    assert len(graphs) == 2
    try_flame_graph(driver, graphs[0])
    assert driver.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    driver.get((measured / "serial.svg").as_uri())
    try_flame_graph(driver, driver.find_element("css selector", "svg"))
    assert [entry for entry in driver.get_log("browser") if entry["level"] in ("SEVERE", "WARNING")] == []


# ------------------------------------------------------------------------------------------------ sampling and counting


@pytest.mark.parametrize("sampler", ["py-spy", "builtin"])
def test_sampled_shares_agree_with_counted_ones(tmp_path, sampler):
    # vectors of GPT-2: on shorter ones the built-in sampler, which waits for the interpreter lock, favours long calls
    synthetic_checkpoint(tmp_path / "wide.bin", replace(SMALL, channels=768, num_layers=2))
    program = runner.choose_program("serial", str(tmp_path / "wide.bin"), 30)
    apart = []
    for _ in range(6):  # whoever else uses the machine can only push the two apart
        try:
            with Load() as load:
                rows = profile.agreement(program, sampler, 250)
        except runner.ToolError as error:
            pytest.skip(f"{sampler}: {error}")
        assert {"matmul_forward", "attention_forward"} <= {row.name for row in rows}
        apart.append(max(abs(row.sampled - row.counted) for row in rows))
        if apart[-1] <= 0.05:
            return
    if not load.quiet:
        pytest.skip(f"{apart}: too far apart, but the {load}; make profile with --check is the same measurement")
    raise AssertionError(apart)


def fake_pyspy(folder: Path, script: str) -> str:
    """An executable that stands for py-spy."""
    file = folder / "py-spy"
    file.write_text(f"#!/bin/sh\n{script}\n")
    file.chmod(0o755)
    return str(file)


@pytest.mark.parametrize("missing", [True, False])
def test_builtin_sampler_takes_over_where_pyspy_may_not(small, tmp_path, monkeypatch, capsys, missing):
    script = "echo 'Error: Permission Denied: Try running again with elevated permissions' >&2; exit 1"
    found = None if missing else fake_pyspy(tmp_path, script)
    monkeypatch.setattr(profile, "find_pyspy", lambda: found)
    out = tmp_path / "out"
    assert main_of(profile, "--model", small, "-n", 30, "--rounds", 1, "--out", out) == 0
    printed = capsys.readouterr()
    (line,) = [line for line in printed.err.splitlines() if "py-spy" in line]
    assert "round 1 of 1" in printed.err.splitlines()
    assert ("not installed" if missing else "Permission Denied") in line and "built-in sampler" in line
    assert "matmul_forward" in printed.out and "samples by builtin" in " ".join(printed.out.split())
    names = {path.name for path in out.iterdir()}
    assert names == {"serial.svg", "serial.collapsed.txt", "serial.speedscope.json", "serial.profile.json"}


def test_perf_shows_the_kernels(small, tmp_path, capsys):
    try:
        perf.supported(perf.find_perf(), perf.SOFTWARE)
    except runner.ToolError as error:
        pytest.skip(str(error))
    status = main_of(profile, "--profiler", "perf", "--model", small, "-n", 40, "--out", tmp_path)
    printed = capsys.readouterr()
    if status and "no samples" in printed.err:
        pytest.skip(printed.err)
    assert status == 0, printed.err
    assert "BLAS" in printed.out and "Python names" in printed.out
    found = json.loads((tmp_path / "serial.perf.json").read_text())
    assert found["event"] in ("cycles", "cpu-clock") and sum(found["groups"].values()) == pytest.approx(1)
    ElementTree.parse(tmp_path / "serial.perf.svg")


def test_missing_perf_is_said_in_one_line(small, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(perf.shutil, "which", lambda name: None)
    assert main_of(profile, "--profiler", "perf", "--model", small, "--out", tmp_path) == 1
    assert "apt install linux-perf" in capsys.readouterr().err and not list(tmp_path.iterdir())


# ---------------------------------------------------------------------------------------------- programs that misbehave

CRASH = "def generate(model, prompt, n):\n    yield 1\n    raise RuntimeError('out of ideas')\n"
KILLED = "import os\ndef generate(model, prompt, n):\n    yield 1\n    os.kill(os.getpid(), 9)\n"
HANG = "import time\ndef generate(model, prompt, n):\n    yield 1\n    time.sleep(600)\n"
WRONG = "def generate(model, prompt, n):\n    yield from range(n - len(prompt))\n"
WORKER = """
from lab.threadlib import join, spawn
def generate(model, prompt, n):
    spawn(lambda number: {}["nothing"])
    join()
    yield 1
"""
SHORT = (
    "from lab import serial\ndef generate(model, prompt, n):\n    yield from serial.generate(model, prompt, n - 1)\n"
)
ENDLESS = "def generate(model, prompt, n):\n    return iter(int, 1)\n"
WORDS = "def generate(model, prompt, n):\n    yield 'word'\n"
LATE = """
import pathlib
from lab import serial
def generate(model, prompt, n):
    first = pathlib.Path(__file__).with_suffix(".ran")
    if first.exists():
        {fault}
    first.touch()
    yield from serial.generate(model, prompt, n)
"""


@pytest.mark.parametrize(
    ("source", "said"),
    [
        (CRASH, "program crashed at program.py:3: RuntimeError: out of ideas"),
        (WORKER, "program crashed at program.py:4: worker-1 failed: KeyError: 'nothing'"),
        (KILLED, "program crashed: ended with status -9"),
        (HANG, "program hung: not done after 4 s"),
        (WRONG, "program printed wrong tokens: token 3 is 0"),
        (SHORT, "program printed 7 tokens, the serial program 8"),
        (LATE.format(fault="raise KeyError('late')"), "program crashed at program.py:7: KeyError: 'late'"),
        (LATE.format(fault="yield from range(n - len(prompt)); return"), "program printed wrong tokens"),
        (LATE.format(fault="import time; time.sleep(600)"), "program hung"),
        ("import nothing_of_that_name\n", "program crashed at program.py:1: ModuleNotFoundError"),
        ("x = 1\n", "program crashed: it has no generate(model, prompt, n, workers)"),
        ("def generate(:\n", "program crashed at program.py:1: SyntaxError"),
        (ENDLESS, "program crashed: generate() does not stop at n tokens"),
        (WORDS, "program crashed: generate() yields 'word', which is no token"),
    ],
    ids=[
        "crash",
        "worker",
        "killed",
        "hang",
        "wrong",
        "short",
        "late crash",
        "late wrong",
        "late hang",
        "import",
        "no generate",
        "syntax",
        "endless",
        "words",
    ],
)
def test_misbehaviour_is_reported_and_leaves_no_file(tiny, tmp_path, capsys, source, said):
    program, out = tmp_path / "program.py", tmp_path / "out"
    program.write_text(source)
    timeout = 4 if "sleep" in source else 100
    arguments = ["--engine", program, "--model", tiny, "-n", 8, "--rounds", 1, "--timeout", timeout, "--out", out]
    assert main_of(profile, *arguments) == 1
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert said in error, error
    assert not out.exists() or not list(out.iterdir())


@pytest.fixture
def quick(monkeypatch, sketched):
    """Predictions for few numbers of workers, one recording of each; a machine soon measured, pictures soon drawn."""
    monkeypatch.setattr(scale, "COUNTS", (1, 2, 5))
    monkeypatch.setattr(scale, "REPEATS", 1)
    measure_soon(monkeypatch)


def measure_soon(patch: pytest.MonkeyPatch) -> None:
    """The machine's memory and arithmetic are measured with less of both."""
    patch.setattr(machine, "READ_BYTES", 1 << 24)
    patch.setattr(capacity, "MOST_BYTES", 1 << 24)
    patch.setattr(plots, "peak", partial(machine.peak, size=128))


def read(path: Path) -> dict:
    """A JSON file."""
    return json.loads(path.read_text())


@pytest.mark.long
def test_names_and_shapes_of_activations_are_the_programs_own(small, programs, tmp_path, capsys, quick):
    common = ["--engine", programs / "shares.py", "--model", small, "--prompt", 5, "-n", 8, "--out", tmp_path]
    assert main_of(timeline, *common, "--workers", 2) == 0
    printed = " ".join(capsys.readouterr().out.split())
    names = {"one_pass.mix", "one_pass.think", "one_pass.guess"}
    assert all(name in printed for name in names) and "does not name" not in printed
    times = read(tmp_path / "shares.timeline.json")
    assert {row["name"]: row["regions"] for row in times["operations"]} == {
        "one_pass.mix": 3 * 4, "one_pass.think": 3 * 4, "one_pass.guess": 3
    }  # fmt: skip
    assert main_of(scale, *common, "--rounds", 1) == 0
    rows = read(tmp_path / "shares.scale.json")["rows"]
    assert [row["k"] for row in rows] == [1, 2, 5] and rows[0]["limit"] == "" and rows[2]["limit"]
    for row in rows:
        assert sum(row["parts"].values()) == pytest.approx(row["limited"])
    assert main_of(plots, *common, "--workers", 2) == 0
    assert read(tmp_path / "shares.plots.json")["seconds"]["2"].keys() == names | {"outside regions"}
    longer = ["-n", 60, "--rounds", 2, "--rate", 300]  # each of many rounds would start two programs, for a few samples
    assert main_of(profile, *common, *longer, "--profiler", "builtin", "--workers", 2) == 0
    assert read(tmp_path / "shares.profile.json")["samples"] > 0


@pytest.mark.long
@pytest.mark.parametrize("answer", ["solutions/stage3.py", "solutions/stage4.py", "lab/parallel.py"])
def test_the_answers_of_all_stages_are_measured(small, tmp_path, capsys, quick, answer):
    file = runner.ROOT / answer
    common = ["--engine", file, "--model", small, "--prompt", 5, "-n", 8, "--out", tmp_path]
    assert main_of(timeline, *common, "--workers", 2) == 0
    rows = read(tmp_path / f"{file.stem}.timeline.json")["operations"]
    assert all(row["tasks"] >= row["regions"] and 0 < row["busy"] <= 1 for row in rows)
    names = {row["name"].split(".")[0] for row in rows}
    expected = {"attention_forward", "feed_forward", "logits_forward"}
    assert names == (expected if file.stem == "parallel" else {"matmul_forward", "attention_forward"})
    assert main_of(scale, *common, "--rounds", 1) == 0
    found = read(tmp_path / f"{file.stem}.scale.json")
    assert found["span"] <= found["work"] and all(row["limit"] for row in found["rows"][1:])
    assert main_of(plots, *common, "--workers", 2) == 0
    seconds = read(tmp_path / f"{file.stem}.plots.json")["seconds"]
    assert len(seconds["2"]) == len(names) + 1 and "not told" not in seconds["2"]


def test_a_program_that_names_nothing_is_measured_with_less_detail(small, programs, tmp_path, capsys, quick):
    common = ["--engine", programs / "unnamed.py", "--model", small, "-n", 6, "--out", tmp_path]
    assert main_of(timeline, *common, "--workers", 2) == 0
    assert "does not name its regions (threadlib.region) and its tasks" in " ".join(capsys.readouterr().out.split())
    times = read(tmp_path / "unnamed.timeline.json")
    assert times["operations"] == [] and {row["thread"] for row in times["threads"]} == {
        "MainThread", "worker-1", "worker-2"
    }  # fmt: skip
    assert {wait["name"] for wait in times["waits"]} >= {"Semaphore go", "Semaphore done"}
    assert all(row["busy"] + row["waiting"] <= 1.01 for row in times["threads"])
    assert main_of(scale, *common, "--rounds", 1) == 0
    assert "No prediction: unnamed names no regions" in " ".join(capsys.readouterr().out.split())
    assert all("measured" in row for row in read(tmp_path / "unnamed.scale.json")["rows"])
    assert main_of(plots, *common, "--workers", 2) == 0
    assert read(tmp_path / "unnamed.plots.json")["seconds"]["2"].keys() == {"not told"}


STATIC = """
from lab import serial
from lab.threadlib import Semaphore, join, perform, region, spawn
def generate(model, prompt, n, workers):
    go, done = [Semaphore(0) for _ in range(workers)], Semaphore(0)
    def matmul_forward(share):
        sum(range(2000))
    def work(number):
        for _ in range(len(prompt), n):
            go[number - 1].P()
            perform(matmul_forward, number)
            done.V()
    for _ in range(workers):
        spawn(work)
    for token in serial.generate(model, prompt, n):
        with region(matmul_forward):
            for semaphore in go:
                semaphore.V()
            for _ in go:
                done.P()
        yield token
    join()
"""


def test_program_that_gives_each_worker_its_share(tiny, tmp_path, monkeypatch, capsys, quick):
    program = tmp_path / "static.py"
    program.write_text(STATIC)
    monkeypatch.setattr(scale, "COUNTS", (1, 2))
    assert main_of(scale, "--engine", program, "--model", tiny, "-n", 8, "--rounds", 1, "--out", tmp_path) == 0
    assert "work" in capsys.readouterr().out
    rows = json.loads((tmp_path / "static.scale.json").read_text())["rows"]
    assert [row["k"] for row in rows] == [1, 2] and all(row["predicted"] > 0 for row in rows)


# -------------------------------------------------------------------------------------------------------- command lines


@pytest.mark.parametrize("module", [machine, profile, timeline, scale, plots, report, reference])
def test_help(module, capsys):
    assert main_of(module, "--help") == 0
    assert "usage" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["--engine", "nothere"], 2, "none of serial, parallel, cached"),
        (["-n", "0"], 2, "must be a positive integer"),
        (["--model", "nothere"], 1, "no such model"),
        (["--model", "TINY", "-n", "100000"], 1, "-n 100000: give 4 to 64 tokens, 3 of them the prompt"),
        (["--model", "TINY", "-n", "3"], 1, "-n 3: give 4 to 64 tokens, 3 of them the prompt"),
        (["--model", "TINY", "--prompt", "64"], 1, "--prompt 64: this model takes up to 64 tokens; give 1 to 63"),
        (["--rate", "x"], 2, "must be a positive integer"),
        (["--timeout", "nan"], 2, "nan: expected a number above 0"),
        (["--timeout", "-1"], 2, "-1.0: expected a number above 0"),
        (["--check", "--engine", "parallel"], 2, "--check"),
    ],
)
def test_bad_input_is_one_line(arguments, status, said, tiny, tmp_path, capsys):
    arguments = [str(tiny) if argument == "TINY" else argument for argument in arguments]
    assert main_of(profile, *arguments, "--out", tmp_path) == status
    printed = capsys.readouterr()
    assert said in printed.err and len(printed.err.strip().splitlines()) == 1 and not printed.out


@pytest.mark.parametrize("module", [profile, timeline, scale, plots, report])
def test_results_have_a_place_before_anything_is_measured(module, tiny, tmp_path, capsys):
    (tmp_path / "file").touch()
    assert main_of(module, "--model", tiny, "--out", tmp_path / "file") == 1
    assert capsys.readouterr().err.endswith("cannot be written: Not a directory\n")


def test_a_stopped_profile_stops_the_program(tiny, tmp_path):
    program = tmp_path / "program.py"
    pid_file = tmp_path / "pid"
    program.write_text(
        "import os, pathlib, time\n"
        f"pathlib.Path({str(pid_file)!r}).write_text(str(os.getpid()))\n"
        "def generate(model, prompt, n):\n    yield 1\n    time.sleep(600)\n"
    )
    child = runner.choose_program(str(program), str(tiny), 8, timeout=3)
    with pytest.raises(runner.ProgramError, match="hung"):
        runner.run(child)
    import psutil

    with contextlib.suppress(psutil.NoSuchProcess):
        assert psutil.Process(int(pid_file.read_text())).status() == psutil.STATUS_ZOMBIE


def test_everything_the_page_needs_is_packaged():
    folder = Path(measure_file).parent
    assert (folder / "report.html").is_file() and (folder / "flamegraph.js").is_file()
    done = subprocess.run(
        [sys.executable, "-c", "import lab.measure.profile, sys; print('matplotlib' in sys.modules)"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.strip() == "False"  # a profile must not wait for what only pictures need


# ------------------------------------------------------------------------------------------------------- what is chosen

SAYS = """
import os
from lab import serial
def generate(model, prompt, n, workers):
    yield from serial.generate(model, prompt, n)
    raise RuntimeError(os.environ["GPT_KERNELS"])
"""


def test_all_programs_of_a_command_use_the_same_kernels(tiny, tmp_path, capsys, monkeypatch):
    monkeypatch.delenv(kernels.VARIABLE)
    program = tmp_path / "program.py"
    program.write_text(SAYS)
    assert main_of(timeline, "--engine", program, "--model", tiny, "-n", 5, "--out", tmp_path) == 1
    assert capsys.readouterr().err.strip().endswith(f"RuntimeError: {kernels.choose()}")


@pytest.mark.parametrize(("name", "value", "status", "said"), [
    ("GPT_WORKERS", "x", 2, "GPT_WORKERS='x' must be a positive integer"),
    ("GPT_WORKERS", "0", 2, "GPT_WORKERS='0' must be a positive integer"),
    ("GPT_KERNELS", "matmul:magic", 1, "GPT_KERNELS=matmul:magic: matmul:magic is none of the formulations"),
])  # fmt: skip
@pytest.mark.parametrize("verb", ["profile", "timeline", "scale", "plots", "report", "bench"])
def test_a_wrong_environment_is_one_line(tiny, tmp_path, verb, name, value, status, said, forked, monkeypatch):
    if (verb, name) == ("bench", "GPT_WORKERS"):
        return  # which it never reads
    words = ["--model", tiny, "--out", tmp_path / "out"]
    monkeypatch.setenv(name, value)
    if name == kernels.VARIABLE:  # read when a program begins
        command = [sys.executable, "-m", f"lab.measure.{verb}", *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=100)
    else:
        done = forked(partial(runpy.run_module, f"lab.measure.{verb}", run_name="__main__", alter_sys=True), *words)
    assert done.returncode == status and said in done.stderr, done.stderr
    assert "Traceback" not in done.stderr and len(done.stderr.strip().splitlines()) <= 5 and not done.stdout


def test_names_that_are_no_text_and_no_formula(tiny, tmp_path, capsys):
    mine = tmp_path / os.fsdecode(b"caf\xe9 $x_$ $^.py")
    shutil.copy(Path(measure_file).parents[1] / "parallel.py", mine)
    model = tmp_path / os.fsdecode(b"m\xe9.bin")
    shutil.copy(tiny, model)
    assert main_of(timeline, "--engine", mine, "--model", model, "-n", 20, "--workers", 2, "--out", tmp_path) == 0
    said = capsys.readouterr().out
    assert [path.name for path in tmp_path.glob("caf*.svg")] and "caf? $x_$ $^" in said and "m?, 20 tokens" in said
    figure = style.pyplot().figure()
    style.framed(figure, "$x_$ $^", [("$_$ $^", "#000000", "")])
    assert len(style.save(figure, tmp_path / "formula")) == 2


def test_the_reference_run_names_the_commands_that_made_it(tmp_path):
    page = (Path(measure_file).parents[2] / "profiles" / "reference" / "README.md").read_text()
    for _name, spoken, _command, arguments in reference.commands(tmp_path):
        given = [word for word in arguments if word.startswith("-") and word not in ("--out", "--engine")]
        assert all(word in spoken for word in given) and ("report" in spoken or spoken in page), spoken
