"""The parallel and the cached program, the starter and the answers of its stages: serial's tokens at every k, workers
that come and go."""

import ast
import importlib.util
import inspect
import re
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from lab import cached, kernels, machine, parallel, serial, threadlib
from lab.check import api
from lab.margin import MARGIN, margin
from lab.measure.recorder import Recorder
from lab.parallel import Workers

ROOT = Path(__file__).parents[1]


def load(path, name):
    """Import a file as a module."""
    spec = importlib.util.spec_from_file_location(name, path)
    module = sys.modules[name] = importlib.util.module_from_spec(spec)  # inspect looks its classes up there
    spec.loader.exec_module(module)
    return module


STARTER = load(ROOT / "handout" / "parallel.py", "starter")
STAGES = {stage: load(ROOT / "solutions" / f"{stage}.py", stage) for stage in ("stage3", "stage4")}
ENGINES = {"parallel": parallel, "cached": cached}
ANSWERS = {**STAGES, "parallel": parallel}


@pytest.fixture(scope="module")
def model(tiny):
    return serial.gpt2_build_from_checkpoint(tiny)


# --------------------------------------------------------------------------------------------------------------- tokens


def some(cases, k):
    """The cases for k workers: all for one or two; for more, who mostly take turns, every third, for each k others."""
    return cases if k < 3 else cases[k % 3 :: 3]


@pytest.mark.parametrize(
    ("version", "k"), [*((3, k) for k in (1, 2, 3, 4, 5, 7, 12, 13, 16)), (1, 1), (1, 3), (5, 1), (5, 3)]
)
@pytest.mark.parametrize("engine", ENGINES)
def test_golden_cases(engine, k, version, golden, data):
    model = serial.gpt2_build_from_checkpoint(data / f"tiny_v{version}.bin")
    for case in some(golden["cases"], k):
        assert list(ENGINES[engine].generate(model, case["prompt"], case["n"], k)) == case["tokens"]


def safe_cases(model, count, n):
    """Random prompts of 1 to n-1 tokens with serial's tokens, every step with the margin."""
    random, cases = np.random.default_rng(3), []
    while len(cases) < count:
        prompt = [int(t) for t in random.integers(0, model.config.vocab_size, size=random.integers(1, n))]
        tokens, safe = [], True
        for token in serial.generate(model, prompt, n):
            t = len(prompt) + len(tokens)
            safe &= margin(model.acts.probs[0, t - 1, : model.config.vocab_size]) >= MARGIN
            tokens.append(token)
        if safe:
            cases.append((prompt, tokens))
    return cases


@pytest.mark.long
def test_fifty_random_prompts(model):
    n = 8
    for number, (prompt, tokens) in enumerate(safe_cases(model, 50, n)):
        for engine in ENGINES.values():
            for k in ((1, 3, 7), (2, 4, 16))[number % 2]:
                assert list(engine.generate(model, prompt, n, k)) == tokens


@pytest.mark.parametrize("k", [1, 2, 3, 7])
@pytest.mark.parametrize("engine", ENGINES)
def test_what_gpt_c_prints_for_the_shipped_model(engine, k, shipped, shipped_gptc):
    model = serial.gpt2_build_from_checkpoint(shipped)
    for case in shipped_gptc[k % 3 :: 3]:
        assert list(ENGINES[engine].generate(model, case["prompt"], case["n"], k)) == case["tokens"], case["prompt"]


@pytest.mark.parametrize("engine", ENGINES)
def test_a_thousand_repetitions(engine, model, golden):
    case = min(golden["cases"], key=lambda case: case["n"] - len(case["prompt"]) or 99)
    for repetition in range(1000):
        assert list(ENGINES[engine].generate(model, case["prompt"], case["n"], 1 + repetition % 4)) == case["tokens"]


@pytest.mark.parametrize("k", [17, 40, 64])
@pytest.mark.parametrize("engine", ENGINES)
def test_more_workers_than_cores_heads_and_blocks(engine, k, model, golden):
    case = golden["cases"][0]
    assert list(ENGINES[engine].generate(model, case["prompt"], case["n"], k)) == case["tokens"]


@pytest.mark.parametrize("k", [1, 3, 16])
@pytest.mark.parametrize("name", STAGES)
def test_golden_cases_of_the_stages(name, k, golden, model):
    for case in some(golden["cases"], k):
        assert list(STAGES[name].generate(model, case["prompt"], case["n"], k)) == case["tokens"]


@pytest.mark.parametrize("name", ["plain", "stacked"])
def test_the_pass_computes_what_serial_does(name, model, tiny, monkeypatch):
    for kernel in ("matmul", "long"):
        monkeypatch.setitem(kernels._use, kernel, kernels.TABLE[kernel][name])
    other = serial.gpt2_build_from_checkpoint(tiny)
    L, NH = model.config.num_layers, model.config.num_heads
    for T in (1, 2, 30, 64):
        tokens = np.random.default_rng(5).integers(0, model.config.vocab_size, size=T).astype(np.int32)
        serial.gpt2_forward(other, tokens[None], 1, T)
        with Workers(3) as workers:
            one = parallel.Pass(model, 64, 3, keep=True)
            probs = parallel.gpt2_forward(workers, one, tokens)
        theirs = other.acts
        qkv = one.acts.qkv.transpose(0, 3, 1, 2).reshape(L, T, -1)
        qkv[..., : qkv.shape[-1] // 3] *= np.sqrt(model.config.channels // NH)  # its query has been scaled
        for ours, expected in (
            (one.last.residual[:, 0], theirs.residual3[L - 1, 0, -1]),
            (one.last.normed[:, 0], theirs.lnf[0, -1]),
            (qkv, theirs.qkv[:, 0]),
            (one.last.logits[0, 0], theirs.logits[0, -1]),
            (probs, theirs.probs[0, -1]),
        ):
            assert np.linalg.norm(ours - expected) <= 1e-5 * np.linalg.norm(expected)


@pytest.mark.parametrize("engine", [*ENGINES, *STAGES, "starter"])
def test_what_serial_refuses(engine, model):
    generate = (ENGINES | STAGES | {"starter": STARTER})[engine].generate
    V, longest = model.config.vocab_size, model.config.max_seq_len
    long = longest + 2
    for prompt, n in (([V], 4), ([3, -1], 4), ([], 4), ([1] * (longest + 1), long), ([1] * longest, long)):
        with pytest.raises(ValueError) as error:
            list(serial.generate(model, prompt, n))
        with pytest.raises(ValueError, match=re.escape(str(error.value))):
            list(generate(model, prompt, n, 2))
    assert list(generate(model, [1, 2], 2, 2)) == []


@pytest.mark.parametrize("count", [1, 7, 64, 50257])
@pytest.mark.parametrize("k", [1, 2, 3, 16, 100])
@pytest.mark.parametrize("multiple", [1, 32])
def test_shares_cover_everything_once(count, k, multiple):
    slices = parallel.shares(count, k, multiple)
    assert [i for piece in slices for i in range(count)[piece]] == list(range(count))
    assert len(slices) <= k and all(piece.start < piece.stop for piece in slices)
    assert all(piece.start % multiple == 0 for piece in slices)


# -------------------------------------------------------------------------------------------------------------- workers


def living_workers():
    return [thread for thread in threading.enumerate() if thread.name.startswith("worker-")]


@pytest.mark.parametrize("engine", ENGINES)
def test_workers_live_from_the_start_of_generate_to_its_end(engine, model):
    tokens = ENGINES[engine].generate(model, [1, 2], 8, 3)
    assert not living_workers(), "nothing starts before the first token is asked for"
    next(tokens)
    workers = living_workers()
    assert len(workers) == 3
    next(tokens)
    assert living_workers() == workers, "the same threads for every token"
    tokens.close()
    assert not living_workers(), "closed early: joined all the same"
    list(ENGINES[engine].generate(model, [1, 2], 8, 3))
    assert not living_workers()


@pytest.mark.parametrize("engine", ENGINES)
def test_ctrl_c_when_some_workers_are_woken_and_others_are_not(engine, model, monkeypatch):
    tokens = ENGINES[engine].generate(model, [1, 2], 8, 3)
    next(tokens)
    wake, woken = threadlib.Semaphore.V, []

    def interrupted(semaphore):
        if semaphore.name.startswith("start"):
            woken.append(semaphore)
            if len(woken) == 2:
                time.sleep(0.05)  # the first one has begun
                raise KeyboardInterrupt
        wake(semaphore)

    monkeypatch.setattr(threadlib.Semaphore, "V", interrupted)
    with pytest.raises(KeyboardInterrupt):
        next(tokens)
    assert not living_workers()


@pytest.mark.parametrize("k", [1, 2, 5, 64])
def test_every_task_is_done_once(k):
    with Workers(k) as workers:
        for count in (0, 1, 2, 3, 100):
            done = []
            workers.run(done.append, range(count))
            assert sorted(done) == list(range(count))


@pytest.mark.parametrize("k", [-1, 0, 257, 5000])
def test_a_number_of_workers_that_makes_no_sense_is_refused(k, model):
    with pytest.raises(ValueError, match=f"workers={k}: a number from 1 to 256"):
        Workers(k)
    for engine in ENGINES.values():
        if k:  # 0 is the default
            with pytest.raises(ValueError, match=f"workers={k}: "):
                next(engine.generate(model, [1, 2], 8, k))
    assert not living_workers()


def test_two_teams_at_once():
    with Workers(2) as outer, Workers(3) as inner:
        done = []
        for _ in range(50):
            outer.run(done.append, range(2))
            inner.run(done.append, range(3))
        assert len(done) == 250 and len(living_workers()) == 5


def test_a_failing_task_stops_the_region_with_its_cause():
    with pytest.raises(threadlib.WorkerFailed, match="ValueError: bad block"), Workers(3) as workers:
        workers.run(raises, range(10))
    assert not living_workers()


def raises(task):
    if task == 4:
        raise ValueError("bad block")


def test_regions_and_tasks_are_told_to_the_recorder(model):
    with threadlib.use(Recorder()) as recorder:
        list(parallel.generate(model, list(range(62)), 65, 2))
    names = {(event.kind, event.name.split(".")[0]) for event in recorder.events() if event.kind in ("task", "region")}
    regions = ("attention_forward", "feed_forward", "logits_forward")
    assert names == {(kind, name) for kind in ("task", "region") for name in regions}
    count = sum(event.kind == "region" for event in recorder.events())
    assert count == 3 * (2 * model.config.num_layers + 1), "two regions a layer, and one for the logits"
    waits = {event.name for event in recorder.events() if event.kind == "wait"}
    assert waits >= {"Semaphore start 0", "Semaphore region over"}


@pytest.mark.parametrize("variable, cores, expected", [("", 2, 2), ("", 64, 4), ("3", 2, 3)])
def test_default_workers(variable, cores, expected, monkeypatch):
    monkeypatch.setenv("GPT_WORKERS", variable)
    monkeypatch.setattr(machine, "count", lambda: cores)
    for module in (STARTER, *ANSWERS.values()):
        assert module.default_workers() == expected


def test_threads_come_from_threadlib_only():
    for module in (STARTER, *ANSWERS.values(), cached):
        tree = ast.parse(Path(module.__file__).read_text())
        imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        imported |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        assert not {name.split(".")[0] for name in imported} & {"threading", "queue", "concurrent", "multiprocessing"}


# -------------------------------------------------------------------------------------------------------------- starter


@pytest.mark.parametrize("k", [1, 4])
def test_the_starter_is_correct_and_serial(k, model, golden):
    for case in golden["cases"]:
        assert list(STARTER.generate(model, case["prompt"], case["n"], k)) == case["tokens"]
        assert not living_workers()


def test_the_starter_names_each_stage_where_its_place_is():
    text = (ROOT / "handout" / "parallel.py").read_text()
    places = {  # the definition that a stage's comment stands in or before -> the stage
        "class Workers": "Stage 2",
        "def run": "Stage 2",
        "def close": "Stage 2",
        "def matmul_forward": "Stage 3",
        "def attention_forward": "Stage 4",
    }
    for place, stage in places.items():
        after = text[text.index(place) :]
        assert re.search(r"Stage \d", after)[0] == stage, place
    assert "Stage 5" in text


def test_products_and_attention_of_the_starter_go_through_the_workers(model, monkeypatch):
    done = []

    class Noting(STARTER.Workers):
        def run(self, fn, tasks):
            done.append(fn.__qualname__)
            super().run(fn, tasks)

    monkeypatch.setattr(STARTER, "Workers", Noting)
    list(STARTER.generate(model, [1, 2], 3, 2))
    layers = model.config.num_layers
    assert [name.split(".")[0] for name in done].count("attention_forward") == layers
    assert [name.split(".")[0] for name in done].count("matmul_forward") == 4 * layers + 1


def public(module):
    """{name: its parameters} of what a module defines."""
    found = {}
    for name, value in vars(module).items():
        if getattr(value, "__module__", None) != module.__name__:
            continue
        if inspect.isfunction(value):
            found[name] = list(inspect.signature(value).parameters)
        elif inspect.isclass(value):
            for method, function in inspect.getmembers(value, inspect.isfunction):
                found[f"{name}.{method}"] = list(inspect.signature(function).parameters)
    return found


def test_the_answers_of_the_stages_have_the_starter_s_names_and_signatures():
    starter = public(STARTER)
    assert starter.keys() >= {"generate", "Workers.run", "Workers.close", "matmul_forward", "attention_forward"}
    for module in STAGES.values():
        assert public(module) | starter == public(module)
    shared = {name for name in starter if name in ("generate", "default_workers") or name.startswith("Workers.")}
    assert {name: public(parallel)[name] for name in shared} == {name: starter[name] for name in shared}


def test_the_answers_of_the_stages_differ_where_the_stage_is():
    def source(module, name):
        return inspect.getsource(getattr(module, name))

    assert source(STAGES["stage3"], "Workers") == source(STAGES["stage4"], "Workers") == source(parallel, "Workers")
    assert source(STAGES["stage3"], "matmul_forward") == source(STAGES["stage4"], "matmul_forward")
    assert source(STAGES["stage3"], "gpt2_forward") == source(STARTER, "gpt2_forward")
    for answer in ("self.over", "self.mutex", "heads_out", "blocks("):
        assert answer not in inspect.getsource(STARTER)


@pytest.mark.parametrize("name", ["stage3", "stage4"])
def test_explorer_and_race_detector_find_nothing_in_the_answers(name):
    result = api.explore_submission(ROOT / "solutions" / f"{name}.py", schedules=40, workers=2)
    assert result.ok, [finding.text() for finding in result.findings]
    result = api.run_checked(ROOT / "solutions" / f"{name}.py", workers=3, repeats=2)
    assert result.ok, [finding.text() for finding in result.findings]
