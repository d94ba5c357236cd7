"""Where the time goes: the parts of lab/measure, each against answers known beforehand."""

import json
import random
import re
import sys
import threading
import time
from functools import partial
from xml.etree import ElementTree

import jsonschema
import numpy as np
import pytest
from rich.console import Console

from lab import serial, threadlib
from lab.checkpoint import Config
from lab.command import tidy
from lab.engines import load_engine
from lab.files import replacing, write_json
from lab.measure import (
    burden,
    flamegraph,
    hotspots,
    machine,
    operations,
    perf,
    plots,
    profile,
    samples,
    scale,
    style,
    timeline,
)
from lab.measure.load import Load
from lab.measure.operations import counting
from lab.measure.recorder import Event, Recorder, name_of
from lab.measure.recording import Recording, outermost, watch, without_waits
from lab.measure.sampler import Sampler
from lab.measure.samples import Frame, Sample
from lab.measure.scale import Machine, Overhead, Split, Step, predict, schedule
from lab.measure.stats import Estimate

LAB = "/home/ada/lab"
MATMUL, ATTENTION, FORWARD, GENERATE = (
    Frame("matmul_forward", f"{LAB}/serial.py", 61),
    Frame("attention_forward", f"{LAB}/serial.py", 85),
    Frame("gpt2_forward", f"{LAB}/serial.py", 207),
    Frame("generate", f"{LAB}/serial.py", 250),
)
ENTRY = Frame("generation", f"{LAB}/measure/target.py", 60)
NUMPY = Frame("_amax", "/usr/lib/python3.11/site-packages/numpy/_core/_methods.py", 43)


def some_samples(matmul: int = 877, attention: int = 103, other: int = 20) -> list[Sample]:
    """Samples of a serial program, one every 10 ms."""
    inner = [(MATMUL,)] * matmul + [(ATTENTION, NUMPY)] * attention + [()] * other
    return [Sample("MainThread", (GENERATE, FORWARD, *leaf), 0.01) for leaf in inner]


# ---------------------------------------------------------------------------------------------------------- the machine


def test_machine_is_described_and_measured(monkeypatch):
    described = machine.describe()
    assert json.loads(json.dumps(described)) == described
    assert described["cores"] >= 1 and described["memory"] > 1 << 28 and described["cpu"]
    assert "on 1 thread" in described["blas"]
    assert described["numpy"] == np.__version__ and described["numpy"] in machine.summary(described)
    monkeypatch.setattr(machine, "READ_BYTES", 1 << 22)
    assert machine.bandwidth(2, repeats=1) > 0 and machine.peak(1, repeats=1, size=64) > 0
    assert "cores" in machine.load_now(0.01)


def test_own_work_is_not_others_load():
    readings = iter([(0.0, 100.0, 5.0, 0.0, 10.0), (10.0, 118.0, 6.0, 0.0, 20.0)])
    load = Load()
    load.read = lambda: next(readings)
    with load:
        pass
    assert load.others == pytest.approx(0.8) and load.stolen == pytest.approx(0.1)
    assert not load.quiet and "busy" in str(load) and "host took 0.1" in str(load)


# -------------------------------------------------------------------------------------------------------------- samples


def test_loading_and_plumbing_are_not_in_the_picture():
    runpy, load = Frame("_run_code", "<frozen runpy>", 88), Frame("open_model", f"{LAB}/measure/target.py", 44)
    bootstrap = Frame("Thread._bootstrap", "/usr/lib/python3.11/threading.py", 1002)
    work, task = Frame("Runtime.work", f"{LAB}/threadlib.py", 169), Frame("Workers.work", f"{LAB}/parallel.py", 91)
    seen = [
        Sample("MainThread", (runpy, load), 0.01),
        Sample("MainThread", (), 0.01),
        Sample("MainThread", (runpy, ENTRY, GENERATE, FORWARD, MATMUL), 0.01),
        Sample("worker-1", (bootstrap, work, task), 0.01),
        Sample("worker-1", (bootstrap, work), 0.01),
    ]
    kept = samples.generation_only(seen)
    assert [sample.stack for sample in kept] == [(GENERATE, FORWARD, MATMUL), (task,)]


def test_waiting_threads_are_told_from_working_ones(tmp_path):
    program = tmp_path / "program.py"
    program.write_text("mutex.lock()\nx = y @ z\nitems.P()\n")
    wait = Frame("Runtime.cond.wait", f"{LAB}/threadlib.py", 999)
    release = Frame("_release", f"{LAB}/threadlib.py", 998)
    leaves = {wait: True, release: False} | {Frame("f", str(program), line): line != 2 for line in (1, 2, 3)}
    for leaf, waits in leaves.items():
        assert samples.is_waiting(Sample("worker-1", (leaf,), 0.01)) is waits, leaf


def test_speedscope_file_is_one_and_comes_back(tmp_path, data):
    schema = json.loads((data / "speedscope.schema.json").read_text())
    mixed = [*some_samples(30, 10, 2), *[Sample("worker-1", (MATMUL,), 0.01)] * 5]
    document = samples.speedscope(mixed, "serial")
    jsonschema.validate(document, schema)
    assert [profile["name"] for profile in document["profiles"]] == ["MainThread", "worker-1"]
    back = samples.from_speedscope(write_json(tmp_path / "x.json", document))
    assert [(s.stack, s.seconds) for s in back] == [(s.stack, s.seconds) for s in mixed]


def test_py_spys_thread_titles():
    assert samples.thread_name('Thread 13778 "worker-1"', 1) == "worker-1"
    assert samples.thread_name('Thread 13674 ""', 0) == "MainThread"
    assert samples.thread_name('Thread 13675 ""', 2) == "Thread 13675"


def test_collapsed_stacks_count_and_can_be_read_back(tmp_path):
    stacks = samples.collapsed(some_samples())
    assert sum(stacks.values()) == 1000
    assert stacks["generate;gpt2_forward;matmul_forward;serial.py:61"] == 877
    assert stacks["generate;gpt2_forward;attention_forward;_amax (_methods.py);_methods.py:43"] == 103
    file = tmp_path / "x.txt"
    file.write_text(samples.collapsed_text(stacks))
    assert flamegraph.read_collapsed(file) == stacks
    two = samples.collapsed([*some_samples(1, 0, 0), Sample("worker-1", (MATMUL,), 0.01)])
    assert {stack.split(";")[0] for stack in two} == {"MainThread", "worker-1"}


def test_builtin_sampler_sees_who_works():
    def spin(until: float) -> None:
        while time.process_time() < until:  # on a busy machine that takes longer
            np.dot(a, a)

    a, gate = np.ones((128, 128), dtype=np.float32), threading.Event()
    sleeper = threading.Thread(target=gate.wait, name="sleeper")
    sleeper.start()
    interval = sys.getswitchinterval()
    with Sampler(200) as sampler:
        spin(time.process_time() + 0.5)
    gate.set()
    sleeper.join()
    assert sys.getswitchinterval() == interval
    seen = samples.from_sampler(json.loads(json.dumps(sampler.samples())))
    active, _ = samples.split_waiting(seen)
    mine = [sample for sample in active if any(frame.name.endswith("spin") for frame in sample.stack)]
    assert len(mine) >= 5 and {sample.thread for sample in mine} == {"MainThread"}
    if hasattr(time, "pthread_getcpuclockid"):
        assert sum(sample.thread == "sleeper" for sample in active) <= 2


def test_counter_counts_self_time():
    module = type(sys)("counted")
    source = (
        "import time\n"
        "def inner_forward(): time.sleep(0.02)\n"
        "def outer_forward():\n    time.sleep(0.01); inner_forward(); inner_forward()\n"
        "def helper(): return 1\n"
    )
    exec(source, module.__dict__)
    for name in ("inner_forward", "outer_forward", "helper"):
        vars(module)[name].__module__ = "counted"
    original = module.outer_forward
    with counting(module) as report:
        module.outer_forward()
        assert module.helper() == 1
    assert set(report) == {"inner_forward", "outer_forward", "whole"} and module.outer_forward is original
    assert report["inner_forward"] >= 0.04 and report["outer_forward"] >= 0.01
    assert report["inner_forward"] + report["outer_forward"] <= report["whole"]


# ------------------------------------------------------------------------------------------------------------ hot spots


def test_hot_spots_and_what_they_promise():
    first, second, third = hotspots.hot_spots(some_samples())
    assert (first.name, first.line, first.self_share) == ("matmul_forward", 61, pytest.approx(0.877))
    assert (second.name, second.self_share) == (
        "attention_forward",
        pytest.approx(0.103),
    )  # with what it calls in numpy
    assert (third.name, third.total_share) == ("gpt2_forward", pytest.approx(1))
    assert first.bound() == "8.1x" and first.bound(4) == "2.9x"
    assert "matmul_forward were free" in hotspots.sentence([first], 10.0)
    assert hotspots.amdahl(1, float("inf")) == float("inf") and first._replace(self_share=1).bound() == "> 100x"
    with pytest.raises(ValueError, match="no samples"):
        hotspots.hot_spots([])


@pytest.mark.parametrize("width", [80, 100, 160])
def test_hot_spot_table_fits_the_terminal(width):
    console = Console(width=width, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    hotspots.show(console, hotspots.hot_spots(some_samples()), "Where the time goes: serial", 10.0)
    lines = console.export_text().splitlines()
    assert max(map(len, lines)) <= width
    row = next(line for line in lines if line.startswith("matmul_forward"))
    assert "87.7%" in row and "8.1x" in row and "2.9x" in row and "serial.py:61" in row
    assert ("█" in row) == (width >= 96)


def test_less_than_a_second_of_samples_promises_nothing():
    rows = hotspots.hot_spots(some_samples())
    said = hotspots.sentence(rows, 0.4)
    assert said.startswith("Only 0.40 s of samples: the table means little") and "at most" not in said
    assert hotspots.promises(rows[0], 0.4) == {"if_free": "", "on_workers": ""}
    assert hotspots.promises(rows[0], 1.0) == {"if_free": "8.1x", "on_workers": "2.9x"}


def test_sampling_that_made_the_program_faster_was_not_measurable():
    said = profile.cost_sentence(Estimate(0.98, 0.9, 1.1), 100, 3)
    assert said == (
        "What 100 samples a second cost is not measurable now (3 rounds without and with, 95 % interval -10% to +10%)"
    )
    assert profile.cost_sentence(Estimate(1.02, 1.0, 1.1), 100, 1).startswith("100 samples a second cost +2.0%")


def test_operations_have_colours_that_differ_and_can_be_written_on():
    colours = [colour for colour, _ in style.OPERATIONS.values()]
    hatches = [hatch for _, hatch in style.OPERATIONS.values()]
    assert len(set(colours)) == len(set(hatches)) == len(style.OPERATIONS)
    assert style.ink(style.BLUE) == "#FFFFFF" and style.ink(style.YELLOW) == style.INK


def test_white_can_be_seen_in_a_legend():
    figure = style.pyplot().figure()
    style.framed(figure, "a title", [("no core", "#FFFFFF", ""), ("waiting", "#DDDDDD", "")])
    white, grey = figure.legends[0].get_patches()
    assert white.get_edgecolor()[:3] != (1.0, 1.0, 1.0) and white.get_linewidth() > 0 and grey.get_linewidth() == 0


def test_any_name_has_a_look_of_its_own():
    look = style.looks(["matmul_forward.block", "gpt2_forward.mix", "Crew.think"])
    assert look["matmul_forward.block"] == style.OPERATIONS["matmul_forward"]
    everything = style.looks([*style.OPERATIONS, "gpt2_forward.mix", "Crew.think"])
    for found in (look, everything):
        assert len({fill for fill, _ in found.values()}) == len(found)
    many = style.looks(f"region {i}" for i in range(40))
    assert len(many) == 42 and style.GREY not in {many[f"region {i}"][0] for i in range(40)}


# ---------------------------------------------------------------------------------------------------------- flame graph


def test_flame_graph_is_whole_and_escaped():
    stacks = {"main;a<b>&c;x.py:1 y < z": 30, "main;d": 10, "main;a<b>&c;x.py:2": 60}
    picture = flamegraph.svg(stacks, "A & B", "note")
    root = ElementTree.fromstring(picture)
    space = {"s": "http://www.w3.org/2000/svg"}
    boxes = root.findall("s:g", space)
    widths = {box.get("data-name"): (float(box.get("data-w")), int(box.get("data-d"))) for box in boxes}
    assert widths == {
        "all": (1, 0), "main": (1, 1), "a<b>&c": (0.9, 2), "d": (0.1, 2), "x.py:1 y < z": (0.3, 3), "x.py:2": (0.6, 3)
    }  # fmt: skip
    assert "http" not in re.sub(r"http://www.w3.org/\S+", "", picture)  # nothing from elsewhere
    with pytest.raises(ValueError, match="no samples"):
        flamegraph.svg({}, "nothing")


def test_flame_graph_command(tmp_path, capsys):
    stacks, picture = tmp_path / "a.txt", tmp_path / "a.svg"
    stacks.write_text("main;f 3\nmain;g 1\n")
    assert flamegraph.main([str(stacks), str(picture)]) == 0 and "main" in picture.read_text()
    stacks.write_text("not a stack\n")
    assert flamegraph.main([str(stacks), str(picture)]) == 1
    assert "not a collapsed stack" in capsys.readouterr().err


# ------------------------------------------------------------------------------------------------------------ recording


def a_run() -> dict:
    """Two workers, two passes of one region each: 100 ns serial, then tasks of 400 and 200 ns, then a barrier."""
    events = []
    for begin in (0, 1000):
        events += [
            ["MainThread", "region", "matmul_forward", "", begin + 100, begin + 900],
            ["MainThread", "wait", "Cond all done", "parallel.py:77", begin + 110, begin + 880],
            ["worker-1", "task", "matmul_forward", "slice(0, 8, None)", begin + 200, begin + 600],
            ["worker-2", "task", "matmul_forward", "slice(8, 16, None)", begin + 200, begin + 400],
            ["worker-2", "wait", "Cond work or end", "parallel.py:91", begin + 420, begin + 900],
            ["worker-2", "wait", "Mutex queue", "parallel.py:91", begin + 850, begin + 890],
        ]
    events.sort(key=lambda event: event[4])
    return {"workers": 2, "tokens": [1, 2, 3], "marks": [0, 1000, 2000], "events": events}


def test_recording_finds_regions_passes_and_waits():
    recording = Recording(a_run())
    assert [len(one.regions) for one in recording.passes] == [1, 1]
    region = recording.passes[0].regions[0]
    assert (region.length, region.work, dict(region.busy())) == (800, 600, {"worker-1": 400, "worker-2": 200})
    assert recording.passes[1].serial() == [(1000, 1100), (1900, 2000)]
    assert "Mutex queue" not in {wait.name for wait in recording.waits}  # it is inside another wait
    assert recording.threads == ["MainThread", "worker-1", "worker-2"]


def test_a_program_of_ones_own_is_watched_and_drawn():
    done = []

    def program():
        def work(number):
            threadlib.perform(done.append, number)
            gate.V()

        gate = threadlib.Semaphore(0, "gate")
        for _ in range(2):
            threadlib.spawn(work)
        gate.P()
        gate.P()
        threadlib.join()

    recording = watch(program)
    assert sorted(done) == [1, 2] and recording.workers == 2 and len(recording.passes) == 1
    assert sorted(task.detail for task in recording.tasks) == ["1", "2"]
    assert {wait.name for wait in recording.waits} == {"Semaphore gate", "join"}
    figure = timeline.draw_whole(recording, "Two tasks")
    assert [text.get_text() for text in figure.axes[0].get_yticklabels()] == ["main", "worker-1", "worker-2"]


def test_timeline_tables_add_up():
    recording = Recording(a_run())
    (row,) = timeline.operation_rows(recording)
    assert (row["regions"], row["tasks"]) == (2, 4)
    assert row["busy"] == pytest.approx(300 / 800) and row["imbalance"] == pytest.approx(100 / 800)
    assert row["handover"] == pytest.approx(400 / 800)
    assert recording.outside() == pytest.approx(400e-9)
    main, one, two = timeline.thread_rows(recording)
    assert main["waiting"] == pytest.approx(0.77) and main["busy"] == pytest.approx(0.23)
    assert one["busy"] == pytest.approx(0.4) and two["waits"] == {"Cond work or end": pytest.approx(0.48)}
    waits = timeline.wait_rows(recording)
    assert [(w["name"], w["who"], w["times"]) for w in waits] == [
        ("Cond all done", "main", 2), ("Cond work or end", "workers", 2)
    ]  # fmt: skip
    assert waits[0]["seconds"] == pytest.approx(1540e-9)


def test_waits_inside_a_task_are_no_work():
    task = Event("worker-1", "task", "f", "1", 100, 200)
    waits = [Event("worker-1", "wait", "Cond c", "x:1", 120, 150), Event("worker-2", "wait", "Cond c", "x:1", 130, 190)]
    assert [(p.begin, p.end) for p in without_waits(task, waits)] == [(100, 120), (150, 200)]
    nested = [
        Event("a", "wait", "outer", "", 0, 10),
        Event("a", "wait", "inner", "", 2, 9),
        Event("b", "wait", "other", "", 3, 12),
    ]
    assert [span.name for span in outermost(nested)] == ["outer", "other"]
    assert tidy("(slice(0, 3, None), 7)") == "(0:3, 7)"


def test_chrome_trace_is_one_and_nests(data):
    trace = timeline.chrome_trace(Recording(a_run()), "parallel")
    check_trace(trace, data)
    names = {event["args"]["name"] for event in trace["traceEvents"] if event["name"] == "thread_name"}
    assert names == {"main", "worker-1", "worker-2"}
    assert {"matmul_forward 0:8", "Cond all done, parallel.py:77"} <= {e["name"] for e in trace["traceEvents"]}


def check_trace(trace, data):
    """The schema, and that the events of a thread lie beside or inside each other, as viewers demand."""
    jsonschema.validate(trace, json.loads((data / "chrome_trace.schema.json").read_text()))
    threads: dict[int, list] = {}
    for event in trace["traceEvents"]:
        if event["ph"] == "X":
            threads.setdefault(event["tid"], []).append((event["ts"], -event["dur"]))
    for events in threads.values():
        open_ends: list[float] = []
        for begin, minus in sorted(events):
            end = begin - minus
            while open_ends and open_ends[-1] <= begin:
                open_ends.pop()
            assert not open_ends or end <= open_ends[-1] + 1e-6
            open_ends.append(end)


# -------------------------------------------------------------------------------------------------------------- scaling


def test_schedule_of_known_cases():
    assert schedule([1, 1, 1, 1], 2) == 2
    assert schedule([3, 1, 1, 1], 2) == 3
    assert schedule([], 3) == 0


def test_schedule_keeps_graham_and_brents_bounds():
    generator = random.Random(3)
    for _ in range(200):
        tasks = [generator.random() for _ in range(generator.randint(1, 40))]
        k = generator.randint(1, 12)
        found, work, span = schedule(tasks, k), sum(tasks), max(tasks)
        assert max(work / k, span) <= found + 1e-9 <= work / k + span * (1 - 1 / k) + 2e-9


IDEAL = Machine({1: 1.0, 2: 2.0}, {})


def test_prediction_adds_up_what_keeps_workers_from_being_k_times_as_fast():
    split = Split(2, 1.0, (Step("mix", (1.0, 1.0), 4e9), Step("think", (2.0,), 0.0)))
    assert (split.work, split.span) == (5.0, 4.0)
    nothing = {"mix": Overhead(0.0, 0.0)}
    parts = predict(split, nothing, IDEAL)
    assert parts == {"work": 2.5, "main thread": 0.5, "tasks": 1.0, "lock": 0.0, "cores": 0.0, "memory": 0.0}
    assert sum(predict(split, nothing, IDEAL._replace(gigabytes={1: 2.0})).values()) == pytest.approx(5.0)  # 2 GB/s
    assert predict(split, nothing, Machine({1: 1.0, 2: 1.6}, {}))["cores"] == pytest.approx(3 * (2 / 1.6 - 1))
    parts = predict(split, {"mix": Overhead(0.5, 0.1), "think": Overhead(0.25, 0.2)}, IDEAL)
    assert parts["lock"] == 0.75 and parts["work"] == pytest.approx(0.5 + 0.9 + 0.9)  # Python in tasks is not shared
    twice = Split(2, 1.4, (Step("mix", (1.2, 0.8), 4e9), Step("think", (2.4,), 0.0)))
    assert scale.merged([split, split, twice]) == split


def test_more_workers_than_cores_are_as_slow_as_on_all_cores():
    machine = Machine({1: 1.0, 2: 1.6}, {1: 10.0, 2: 16.0})
    assert machine.slowdown(64) == machine.slowdown(2) == pytest.approx(1.25)
    assert machine.seconds(32e9, 64) == machine.seconds(32e9, 2) == pytest.approx(2.0)
    assert Machine({1: 1.0, 2: 2.1}, {}).slowdown(2) == 1.0 and Machine({1: 1.0}, {}).seconds(1e9, 8) == 0.0


def test_the_limit_is_named():
    heads = Split(16, 0.0, (Step("mix", (1.0,) * 12 + (0.0,) * 4, 0.0), Step("think", (0.1,) * 16, 0.0)))
    parts = dict.fromkeys(("work", *scale.CAUSES), 0.1)
    assert scale.limit(heads, parts | {"tasks": 1.0}, heads=12) == "12 heads"
    assert scale.limit(heads, parts | {"tasks": 1.0}, heads=16) == "12 tasks"
    uneven = Split(2, 0.0, (Step("mix", (3.0, 1.0), 0.0),))
    assert scale.limit(uneven, parts | {"tasks": 1.0}, heads=2) == "unequal tasks"
    assert scale.limit(heads, parts | {"lock": 1.0}, heads=12) == "interpreter lock"
    assert scale.limit(heads, parts | {"main thread": 1.0}, heads=12) == "main thread"
    assert scale.limit(Split(1, 1.0, heads.steps), parts, heads=12) == ""


def test_a_falling_curve_is_explained():
    best = {"k": 4, "limited": 1.0, "parts": {"lock": 0.1, "main thread": 0.1, "tasks": 0.1, "cores": 0, "memory": 0}}
    last = {"k": 64, "limited": 2.0, "parts": best["parts"] | {"lock": 1.2, "main thread": 0.4}}
    assert "under the interpreter lock: 0.100 s, then 1.200 s" in scale.fall(best, last)
    assert scale.fall(best, last | {"limited": 1.01}) == ""


def test_weights_of_regions_are_those_noted_or_spread_as_the_work_is():
    config = Config(max_seq_len=8, vocab_size=10, num_layers=1, num_heads=2, channels=4, padded_vocab_size=12)
    run = a_run()
    run["events"] = [
        ["MainThread", "region", "mix", "", 10, 20], ["worker-1", "task", "mix", "0", 11, 14],
        ["MainThread", "region", "think", "", 30, 50], ["worker-1", "task", "think", "0", 31, 40],
    ]  # fmt: skip
    run["marks"] = run["marks"][:2]
    whole = 4 * (12 * 16 + 48)
    noted = [("mix", whole // 4), ("think", whole // 2)]
    assert scale.region_weights(Recording(run), noted, config) == [whole // 4, whole // 2]
    for other in ([("mix", whole)], [("think", whole), ("mix", 0)], [("mix", 0), ("think", whole // 8)]):
        assert scale.region_weights(Recording(run), other, config) == [whole * 0.25, whole * 0.75]


def test_weights_tell_which_of_them_are_read():
    weights = np.arange(24, dtype=np.float32).reshape(4, 6).view(burden.Weights)
    x, out = np.ones(6, dtype=np.float32), np.empty(2, dtype=np.float32)
    readings = [
        lambda: weights[1:3] @ x, lambda: np.matmul(weights[1:3], x, out=out), lambda: np.dot(weights[1:3], x),
        lambda: weights[1:3].dot(x), lambda: np.einsum("oc,c->o", weights[1:3], x), lambda: np.vecdot(weights[1:3], x),
        lambda: np.matvec(weights[1:3], x), lambda: np.vecmat(x, weights[1:3].T),
    ]  # fmt: skip
    for reading in readings:
        burden.Weights.read.clear()
        found = reading()
        assert type(found) is np.ndarray and found.tolist() == [51, 87]
        assert [size for _, size in burden.Weights.read] == [48]


@pytest.mark.parametrize("name", ["shares", "parallel"])
def test_every_weight_is_read_in_some_region(name, tiny, programs):
    engine = load_engine(str(programs / f"{name}.py") if name != "parallel" else name)
    model = serial.gpt2_build_from_checkpoint(tiny)
    for k in (1, 3):
        noted = burden.weights(engine, model, [1, 2], 3, k)
        assert len({region for region, _ in noted}) == 3
        assert sum(size for _, size in noted) == pytest.approx(scale.weight_bytes(model.config), rel=0.05)


def test_overheads_go_by_the_names_of_the_program(tiny, programs):
    model = serial.gpt2_build_from_checkpoint(tiny)
    found = burden.overheads(load_engine(str(programs / "shares.py")), model, [1, 2])
    assert found.keys() == {"1", "2"}
    assert found["2"].keys() == {"one_pass.mix", "one_pass.think", "one_pass.guess"}
    assert all(kinds["region"] > 0 and kinds["task"] > 0 for kinds in found["2"].values())
    assert burden.overheads(load_engine(str(programs / "unnamed.py")), model, [2]) == {"2": {}}


def test_names_are_those_of_the_source():
    def task(number):
        pass

    class Doer:
        def __call__(self, number):
            pass

    assert name_of(task) == "test_names_are_those_of_the_source.task"
    assert name_of(partial(partial(task), 3)) == name_of(task) and name_of(Recorder.note) == "Recorder.note"
    assert name_of(Doer()) == "test_names_are_those_of_the_source.Doer"


def test_amdahls_serial_fraction_is_found():
    for fraction in (0.0, 0.07, 0.5, 1.0):
        exact = {k: 1 / (fraction + (1 - fraction) / k) for k in (1, 2, 4, 8)}
        assert plots.serial_fraction(exact) == pytest.approx(fraction, abs=1e-12)
    assert plots.serial_fraction({1: 1.0}) is None
    assert plots.serial_fraction({1: 1.0, 2: 0.8}) == 1.0  # slower with two: not more serial than everything


def test_a_program_that_gets_slower_is_in_the_picture():
    times = {1: Estimate(1.0, 1.0, 1.0), 2: Estimate(0.3, 0.2, 0.4)}
    figure = plots.draw_speedup(plots.Speedups(times, {1: 1.0, 2: 0.4}, {1: 1.0, 2: 0.06}, {1: 1.0}), "title", "note")
    assert figure.axes[0].get_ylim()[0] == 0.03125 and min(figure.axes[0].get_yticks()) == 0.03125


def test_speedups_prefer_bench():
    rows = [
        {"k": 1, "predicted": 1.0, "limited": 1.0, "times": [1.0, 1.0]},
        {"k": 2, "predicted": 0.5, "limited": 0.6, "times": [0.6, 0.5]},
    ]
    prediction = {"rows": rows, "model": "m", "engine": "parallel"}
    entry = {"engine": "parallel", "k": 2, "E": {"median": 1.9, "low": 1.8, "high": 1.95}}
    bench = {
        "model": "m.bin",
        "contenders": [entry, {"engine": "serial", "k": 1, "E": None}],
        "capacity": {"2": [1.9, 1.7, 1.8]},
    }
    data = plots.speedups(prediction, None, {1: 1.0, 2: 1.5})
    assert data.measured[2].median == pytest.approx((1 / 0.6 + 2) / 2) and data.capacity[2] == 1.5
    data = plots.speedups(prediction, bench, {1: 1.0, 2: 1.5})
    assert data.measured[2].median == 1.9 and data.capacity == {1: 1.0, 2: 1.8}
    assert data.limited[2] == pytest.approx(1 / 0.6)


def test_what_is_not_predicted_is_drawn_as_measured():
    data = plots.speedups({"rows": [{"k": 1, "times": [1.0]}, {"k": 2, "times": [0.5]}], "model": "m"}, None, {1: 1.0})
    assert data.predicted == data.limited == {} and data.measured[2].median == 2.0


# ----------------------------------------------------------------------------------------------------------- operations


def test_operations_of_regions_with_any_name():
    run = a_run()
    assert operations.region_seconds(Recording(run)) == pytest.approx(
        {"matmul_forward": 1.6e-6, "outside regions": 4e-7}
    )
    for event in run["events"]:
        event[2] = event[2].replace("matmul_forward", "one_pass.mix")
    named = operations.region_seconds(Recording(run))
    assert named == pytest.approx({"one_pass.mix": 1.6e-6, "outside regions": 4e-7})
    run["events"] = []
    assert operations.region_seconds(Recording(run)) == pytest.approx({"not told": 2e-6})


def test_points_of_the_roofline_need_no_names():
    costs = {"matmul_forward": operations.Cost(10, 2), "gelu_forward": operations.Cost(2, 2)}
    both = {"serial": costs, "parallel": costs}
    serial_seconds = {"matmul_forward": 8.0, "gelu_forward": 1.0, "outside regions": 1.0}
    same = plots.points({"serial": serial_seconds, "1": {"matmul_forward": 4.0, "outside regions": 1.0}}, both)
    assert [(p.name, p.program) for p in same if p.program == "1"] == [("matmul_forward", "1")]
    for other in ({"one_pass.mix": 3.0, "outside regions": 1.0}, {"not told": 4.0}):
        (point,) = (p for p in plots.points({"serial": serial_seconds, "2": other}, both) if p.program == "2")
        assert (point.name, point.cost, point.seconds) == (plots.ALL, operations.Cost(12, 4), 4.0)


def test_costs_of_operations_are_those_of_gpt2():
    config = Config(1024, 50257, 12, 12, 768, 50304)
    one = operations.pass_costs(config, 1, last_only=False)
    parameters = 12 * 12 * 768 * 768 + 768 * 50304
    assert one["matmul_forward"].flops == 2 * parameters
    assert one["matmul_forward"].intensity == pytest.approx(0.5, rel=0.01)  # matrix times vector: 2 flops for 4 bytes
    many = operations.pass_costs(config, 16, last_only=False)["matmul_forward"]
    assert many.flops == 16 * one["matmul_forward"].flops and many.intensity > 7
    last = operations.pass_costs(config, 16, last_only=True)
    assert many.flops - last["matmul_forward"].flops == 15 * 2 * 768 * 50304
    total = operations.generation_costs(config, 2, 4, last_only=True)
    assert total["gelu_forward"].flops == 12 * 9 * 4 * 768 * (2 + 3)
    assert set(total) == set(style.OPERATIONS)


# ----------------------------------------------------------------------------------------------------------------- perf

SCRIPT = """\
python  2029  3844.310000: cpu-clock:
\t           5d0 sgemv_kernel_4x4+0x10 (/x/numpy.libs/libscipy_openblas64_-32.so)
\tc1809417be967420 [unknown] ([unknown])

worker-1  2030  3844.320000:    250000 cycles:u:
\t          1a0 FLOAT_add_X86_V3 (/x/numpy/_core/_multiarray_umath.cpython-311-x86_64-linux-gnu.so)
\t          1b0 py::matmul_forward:/home/ada/lab/serial.py (/tmp/perf-2029.map)
\t          1c0 py::generate:/home/ada/lab/serial.py (/tmp/perf-2029.map)

python  2029  3850.000000: cpu-clock:
\tffffffff815e36bd unmap_page_range ([kernel.kallsyms])
"""


def test_perf_script_is_read():
    (first, second, third) = perf.read_script(SCRIPT)
    assert first == (3844.31, perf.Hit("python", (), "BLAS", "sgemv_kernel_4x4", "libscipy_openblas64_-32.so"))
    assert second[1].python == ("generate", "matmul_forward") and second[1].group == "numpy"
    assert third[0] == 3850.0 and third[1].group == "kernel"
    stacks = perf.collapsed([first[1], second[1]])
    assert "python;BLAS;sgemv_kernel_4x4 (libscipy_openblas64_-32.so)" in stacks
    assert any(stack.startswith("worker-1;generate;matmul_forward;numpy;") for stack in stacks)
    rows = perf.rows_of([first[1], first[1], second[1]])
    assert rows[0]["symbol"] == "sgemv_kernel_4x4" and rows[0]["share"] == pytest.approx(2 / 3)
    assert perf.group_of("f", "libpython3.11.so.1.0") == "Python" and perf.group_of("f", "libm.so.6") == "C library"


def test_counters_say_what_is_missing():
    text = " ".join(perf.counter_lines({"task-clock": 1500.0, "page-faults": 10.0}))
    assert "not supported here: cycles, instructions" in text and "1.50 s" in text
    counts = dict(zip(perf.COUNTERS, (1e9, 2e9, 1e6, 1e5, 1.0), strict=True))
    text = " ".join(perf.counter_lines(counts))
    assert "Instructions per cycle: 2.00" in text and "10.0%" in text and "not supported" not in text


def test_perf_explains_missing_python_names(monkeypatch):
    flags, reason = perf.python_names()
    assert reason.startswith(("No Python names", "Python names")) and "\n" not in reason
    monkeypatch.setattr(sys, "version_info", (3, 12, 0))
    monkeypatch.setattr(perf.sysconfig, "get_config_var", lambda name: "-O2 -fno-omit-frame-pointer")
    assert perf.python_names()[0] == ["-X", "perf"]
    monkeypatch.setattr(perf.sysconfig, "get_config_var", lambda name: None)
    flags, reason = perf.python_names()
    assert flags == [] and "frame pointers" in reason


# ---------------------------------------------------------------------------------------------------------------- files


def test_a_file_is_whole_or_not_there(tmp_path):
    target = tmp_path / "new" / "x.json"
    with pytest.raises(RuntimeError), replacing(target) as partial:
        partial.write_text("half")
        raise RuntimeError
    assert list((tmp_path / "new").iterdir()) == []
    write_json(target, {"a": 1})
    assert json.loads(target.read_text()) == {"a": 1} and list(target.parent.iterdir()) == [target]


def test_a_narrow_terminal_cuts_names_and_no_numbers(capsys):
    costs = {"regions": 833, "tasks": 1666, "seconds": 1.937, "work": 1.231, "busy": 0.32, "imbalance": 0.15}
    rows = [{"name": "attention_forward.heads", "handover": 0.53, **costs}]
    Console(width=80).print(timeline.operation_table(rows, 0.132, 2.301))
    title, row = capsys.readouterr().out.splitlines()[1:3]
    assert title.split()[-1] == "Hand-over" and row.split()[-1] == "53%" and "attention_forward.hea…" in row
    Console(width=60).print(timeline.operation_table(rows, 0.132, 2.301, 60))
    title, row, outside = capsys.readouterr().out.splitlines()[1:4]
    assert "Tasks" not in title and row.split()[-1] == "53%" and "attention_f" in row and "outside " in outside
    spot = hotspots.Row("attention_forward.heads", "my_parallel.py", 0.9, 0.9, 123, 0.9, "scores[:, :] = 0")
    Console(width=60).print(hotspots.table([spot], 2.0, None, 60))
    assert "my_parallel.py:123 " in capsys.readouterr().out
    row = {"k": 64, "predicted": 0.66, "limited": 0.672, "measured": 0.349, "error": 0.22, "limit": "interpreter lock"}
    Console(width=60).print(scale.table([row], 60))
    title, row, rest = capsys.readouterr().out.splitlines()
    assert row.split()[:6] == ["64", "0.672", "s", "1.00", "0.349", "s"] and "+22%" in row and "interpreter" in row
    assert rest.strip() == "lock"  # not cut off
