"""The parallel and the cached program: serial's tokens at every k, workers that come and go, the starter."""

import ast
import importlib.util
import threading
from pathlib import Path

import numpy as np
import pytest

from grader.starter import StarterError, strip_solution
from lab import cached, parallel, serial, threadlib
from lab.margin import MARGIN, margin
from lab.measure.recorder import Recorder
from lab.parallel import Workers

ROOT = Path(__file__).parents[1]
ENGINES = {"parallel": parallel, "cached": cached}


@pytest.fixture(scope="module")
def model(tiny):
    return serial.gpt2_build_from_checkpoint(tiny)


def load(path, name):
    """Import a file as a module."""
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


# --------------------------------------------------------------------------------------------------------------- tokens


@pytest.mark.parametrize("version", [1, 3, 5])
@pytest.mark.parametrize("k", [1, 2, 3, 4, 7, 16])
@pytest.mark.parametrize("engine", ENGINES)
def test_golden_cases(engine, k, version, golden, data, monkeypatch):
    monkeypatch.setattr(parallel, "REGION_PAYS", k)  # attention as a region also for short texts
    model = serial.gpt2_build_from_checkpoint(data / f"tiny_v{version}.bin")
    for case in golden["cases"]:
        assert list(ENGINES[engine].generate(model, case["prompt"], case["n"], k)) == case["tokens"]


def safe_cases(model, count, n=12):
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


def test_fifty_random_prompts(model):
    for prompt, tokens in safe_cases(model, 50):
        for engine in ENGINES.values():
            for k in (1, 2, 3, 4, 7, 16):
                assert list(engine.generate(model, prompt, 12, k)) == tokens


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


@pytest.mark.parametrize("T", [30, 64])  # attention on the main thread, and as a region
def test_activations_equal_serials_also_for_batches(model, tiny, T):
    other = serial.gpt2_build_from_checkpoint(tiny)
    inputs = np.random.default_rng(5).integers(0, model.config.vocab_size, size=(3, T)).astype(np.int32)
    serial.gpt2_forward(model, inputs, 3, T)
    with Workers(2) as workers:
        parallel.gpt2_forward(workers, other, inputs, 3, T)
    for name in serial.activation_shapes(model.config, 3, T):
        ours, theirs = getattr(other.acts, name), getattr(model.acts, name)
        if name in ("logits", "probs"):
            ours, theirs = ours[:, -1], theirs[:, -1]
        if name == "preatt":  # serial leaves the future unwritten
            ours, theirs = np.tril(ours), np.tril(theirs)
        if name != "losses":
            assert np.linalg.norm(ours - theirs) <= 1e-5 * np.linalg.norm(theirs), name


def test_only_the_last_positions_logits_are_computed(tiny):
    model = serial.gpt2_build_from_checkpoint(tiny)
    with Workers(1) as workers:
        parallel.gpt2_forward(workers, model, np.ones((1, 5), dtype=np.int32), 1, 5)
    assert not model.acts.logits[0, :4].any() and model.acts.logits[0, 4].any()


@pytest.mark.parametrize("rows, C, BT", [(100, 48, 3), (64, 768, 1), (331, 48, 20), (7, 16, 5), (600, 700, 300)])
def test_product_is_the_product(rows, C, BT):
    random = np.random.default_rng(0)
    weight, xT = random.standard_normal((rows, C), dtype=np.float32), random.standard_normal((C, BT), dtype=np.float32)
    got = parallel.product(weight, xT, parallel.stacked_rows(C, BT))
    np.testing.assert_allclose(got, weight.astype(np.float64) @ xT, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("count", [0, 1, 7, 64, 50257])
@pytest.mark.parametrize("pieces", [1, 2, 3, 16, 100])
@pytest.mark.parametrize("multiple", [1, 32])
def test_blocks_and_shares_cover_everything_once(count, pieces, multiple):
    for cut in (parallel.blocks, cached.shares):
        slices = cut(count, pieces, multiple)
        assert [i for piece in slices for i in range(count)[piece]] == list(range(count))
        assert len(slices) == pieces if cut is cached.shares else len(slices) <= pieces


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


@pytest.mark.parametrize("k", [1, 2, 5, 64])
def test_every_task_is_done_once(k):
    with Workers(k) as workers:
        for count in (0, 1, 2, 3, 100):
            done = []
            workers.run(done.append, range(count))
            assert sorted(done) == list(range(count))


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
    names = {(event.kind, event.name) for event in recorder.events() if event.kind != "wait"}
    assert names == {(kind, name) for kind in ("task", "region") for name in ("matmul_forward", "attention_forward")}
    waits = {event.name for event in recorder.events() if event.kind == "wait"}
    assert waits >= {"Semaphore start 0", "Semaphore region over"}


@pytest.mark.parametrize("variable, cores, expected", [("", 2, 2), ("", 64, 4), ("3", 2, 3)])
def test_default_workers(variable, cores, expected, monkeypatch):
    monkeypatch.setenv("GPT_WORKERS", variable)
    monkeypatch.setattr(parallel.os, "sched_getaffinity", lambda pid: set(range(cores)), raising=False)
    assert parallel.default_workers() == expected


def test_threads_come_from_threadlib_only():
    for module in (parallel, cached):
        tree = ast.parse(Path(module.__file__).read_text())
        imported = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
        imported |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
        assert not {name.split(".")[0] for name in imported} & {"threading", "queue", "concurrent", "multiprocessing"}


# -------------------------------------------------------------------------------------------------------------- starter


@pytest.fixture(scope="module")
def starter(tmp_path_factory):
    """lab/parallel.py as students get it."""
    path = tmp_path_factory.mktemp("starter") / "starter_parallel.py"
    path.write_text(strip_solution(Path(parallel.__file__).read_text()))
    return path


def test_the_starter_is_correct_serial_and_without_the_solution(starter, model, golden):
    text = starter.read_text()
    assert "SOLUTION" not in text and "PROMPT" not in text
    for hidden in ("self.over", "self.mutex", "stacked_rows", "heads_out", "SMALL_PRODUCT"):
        assert hidden not in text and hidden in Path(parallel.__file__).read_text()
    for stage in ("Stage 2", "Stage 3", "Stage 4"):
        assert stage in text
    module = load(starter, "starter_parallel")
    for case in golden["cases"]:
        assert list(module.generate(model, case["prompt"], case["n"], 4)) == case["tokens"]
        assert not living_workers()


def test_the_cached_engine_works_in_the_handout(starter, tmp_path, model, golden, monkeypatch):
    monkeypatch.setattr(cached, "parallel", load(starter, "starter_parallel"))
    text = strip_solution(Path(cached.__file__).read_text())
    assert "parts = 1" in text and "parts = team.k" not in text
    (tmp_path / "starter_cached.py").write_text(text.replace("lab import parallel", "starter_test import parallel"))
    monkeypatch.setitem(__import__("sys").modules, "starter_test", cached)
    module = load(tmp_path / "starter_cached.py", "starter_cached")
    monkeypatch.setattr(module, "Workers", cached.parallel.Workers)
    for case in golden["cases"][:6]:
        assert list(module.generate(model, case["prompt"], case["n"], 4)) == case["tokens"]


@pytest.mark.parametrize(
    "text, message",
    [
        ("# BEGIN SOLUTION\nx\n", "line 1: BEGIN SOLUTION has no END"),
        ("# BEGIN SOLUTION\n# BEGIN SOLUTION\n", "line 2: BEGIN SOLUTION inside SOLUTION, which line 1 began"),
        ("# BEGIN PROMPT\n# BEGIN SOLUTION\n", "line 2: BEGIN SOLUTION inside PROMPT, which line 1 began"),
        ("# END PROMPT\n", "line 1: END PROMPT without its BEGIN"),
        ("# BEGIN SOLUTION\n# END PROMPT\n", "line 2: END PROMPT without its BEGIN"),
        ("# BEGIN PROMPT\nx = 1\n# END PROMPT\n", "line 2: a PROMPT holds comment lines only, found 'x = 1'"),
    ],
)
def test_markers_that_do_not_pair_are_refused(text, message):
    with pytest.raises(StarterError) as error:
        strip_solution(text)
    assert str(error.value) == message
