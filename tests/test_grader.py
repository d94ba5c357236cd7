"""The grader: points, bad input, cases, verdicts on timings, explanations, reports, the command line, the sandbox."""

import json
import os
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from jsonschema import validate

from grader import explain, grade, report, sandbox
from grader import timing as timing_module
from grader.__main__ import main
from grader.cases import (
    PUBLIC_SEED,
    Case,
    CasesError,
    hidden_cases,
    instructor_cases,
    public_cases,
    wide_cases,
)
from grader.child import Child, Patience, Run
from grader.correctness import Correctness, Outcome
from grader.estimates import estimate_scaling
from grader.points import PointsError, gain, load
from grader.sandbox import Limits, SandboxError
from grader.submission import BadSubmission, read_submission
from grader.timing import Player, Sample, Timing, Unjudgeable, WrongRun, check_token, disturbance
from grader.verdict import FAILED, INCONCLUSIVE, PARTIAL, PASSED, Evidence, Row, judge
from grader.workspace import readable, temporary_folder
from lab.margin import in_double, other_sums, safe_tokens
from lab.serial import generate, gpt2_build_from_checkpoint, gpt2_forward, sample_mult, softmax_forward

sys.path.insert(0, str(Path(__file__).parent / "submissions"))
import timings

BASE = Path(__file__).parent / "submissions" / "base.py"
GRADESCOPE = json.loads((Path(__file__).parent / "data" / "gradescope_results.schema.json").read_text())


@pytest.fixture(scope="session")
def box() -> sandbox.Sandbox:
    """The best sandbox of this machine."""
    return sandbox.choose()


def backend(name: str) -> sandbox.Sandbox:
    """That way to start programs; the test is skipped where it does not work."""
    try:
        return sandbox.choose(name)
    except SandboxError as error:
        pytest.skip(str(error))


@contextmanager
def started(box: sandbox.Sandbox, source: str, **more: object) -> Iterator[Child]:
    """A program on the public cases' model, loaded."""
    with temporary_folder(box) as name:
        model = public_cases(Path(name)).model
        tree = grade.build_tree(Path(name) / "lab", grade.GIVEN, source)
        with Child(box, tree, model, **more) as child:
            assert child.wait_ready() is None
            yield child


def evidence(timing: Timing | None = None, tokens: bool = True) -> Evidence:
    """Of a program whose public cases are all right, or all wrong."""
    public = public_case()
    right = Run(
        list(public.prompt),
        public.n,
        2,
        tokens=list(public.tokens) if tokens else [0],
        most_threads=2,
        fewest_threads=2,
    )
    hidden = replace(public, hidden=True)
    found = Correctness([Outcome(public, right), Outcome(hidden, right)])
    return Evidence("parallel.py", load(), source="pass", correctness=found, timing=timing)


def public_case():
    """One case without a model."""
    return Case("2 workers", (5, 7, 9), 6, 2, (1, 2, 3))


def scaling_row(timing: Timing) -> Row:
    """The row for two workers."""
    return next(row for row in judge(evidence(timing)).rows if row.name == "scaling-2")


# ------------------------------------------------------------------------------------------------------------ points


def test_points_add_up_to_a_hundred():
    assert sum(load().points.values()) == 100


def test_credit_is_a_straight_line_between_its_ends():
    points = load()
    low, high = points.scaling["no_credit"], points.scaling["full_credit"]
    assert points.credit(low) == 0 == points.credit(-1)
    assert points.credit(high) == 1 == points.credit(2)
    assert points.credit((low + high) / 2) == pytest.approx(0.5)
    assert gain(1.0, 1.8) == 0
    assert gain(1.8, 1.8) == pytest.approx(1)


@pytest.mark.parametrize(
    "text, said",
    [
        ("[points]\nrun = 5\n", "unknown entry points.run"),
        ("[pints]\nruns = 5\n", "unknown entry pints"),
        ("[points]\nruns = -5\n", "must be a number"),
        ("[points]\nruns = true\n", "must be a number"),
        ("[scaling]\nno_credit = 0.9\n", "must be less"),
        ("[scaling]\nworkers = [1]\n", "must be a number"),
        ("points", "Expected"),
    ],
)
def test_bad_points_table(tmp_path, text, said):
    path = tmp_path / "points.toml"
    path.write_text(text)
    with pytest.raises(PointsError, match=said):
        load(path)


def test_an_instructor_can_change_points(tmp_path):
    path = tmp_path / "points.toml"
    path.write_text("[points]\nscaling = 60\n[deductions]\nrace = 3\n")
    points = load(path)
    assert points.points["scaling"] == 60 and points.points["runs"] == 5 and points.deductions["race"] == 3


# --------------------------------------------------------------------------------------------------------- bad input

GOOD = "def generate(model, prompt, n, workers):\n    yield 0\n"
BAD = {
    "empty": (b"", "is empty"),
    "blank": (b"\n\n  \n", "is empty"),
    "binary": (bytes(range(256)) * 4, "binary file"),
    "latin-1": ("# é\n".encode("latin-1") + GOOD.encode(), "not text in UTF-8"),
    "syntax": (b"def generate(model, prompt, n, workers:\n  pass\n", "syntax error in line 1"),
    "prose": (b"Dear teacher, here is my solution.\n", "syntax error"),
    "large": (b"#" * (50 << 20), "has 52,428,800 bytes"),
    "no function": (b"x = 1\n", "no function generate"),
    "another function": (b"def gen(model):\n    pass\n", "the file defines gen"),
    "async": (b"async def generate(model, prompt, n, workers):\n    yield 0\n", "async function"),
    "too few parameters": (b"def generate(model, prompt):\n    yield 0\n", "cannot be called as generate"),
    "too many": (b"def generate(model, prompt, n, workers, extra):\n    yield 0\n", "cannot be called as generate"),
    "keyword only": (b"def generate(model, prompt, n, *, workers):\n    yield 0\n", "cannot be called as generate"),
    "deep": (b"x = " + b"(" * 5000 + b"0" + b")" * 5000, "parallel.py"),
    "null": (b"x = 1\0\n", "binary file"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_and_a_zero(tmp_path, name):
    path = tmp_path / "parallel.py"
    raw, said = BAD[name]
    path.write_bytes(raw)
    verdict = grade.grade(path)
    assert verdict.score == 0 and verdict.exit_code == 1
    assert said in verdict.rows[0].reason and "\n" not in verdict.rows[0].reason
    validate(report.gradescope(verdict), GRADESCOPE)


def test_what_is_no_file(tmp_path):
    (tmp_path / "folder.py").mkdir()
    (tmp_path / "outside.py").write_text(GOOD)
    (tmp_path / "link.py").symlink_to(tmp_path / "outside.py")
    os.mkfifo(tmp_path / "pipe.py")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket.py"))
        for name, said in (
            ("missing.py", "No such file"), ("folder.py", "is a directory"), ("link.py", "is a link"),
            ("pipe.py", "ordinary file"),
            ("socket.py", "cannot be opened"), ("a\0b.py", "cannot be opened"),
        ):  # fmt: skip
            with pytest.raises(BadSubmission, match=said):
                read_submission(tmp_path / name)


def test_good_input_and_what_it_imports(tmp_path):
    path = tmp_path / "parallel.py"
    path.write_text(
        f"import numpy as np, threading\nfrom lab import cached, serial\nfrom os import path\nx = eval('1')\n{GOOD}"
    )
    found = read_submission(path)
    assert [line for line in found.threads if "threading" in line]
    assert len(found.imports) == 2 and "lab.cached" in found.imports[0] and "eval()" in found.imports[1]
    path.write_text("from lab.serial import generate\n")
    assert not read_submission(path).imports
    path.write_text("def generate(model, prompt, n=10, workers=None, *more, **options):\n    yield 0\n")
    read_submission(path)


def test_the_reference_reads_well():
    found = read_submission(grade.LAB / "parallel.py")
    assert found.imports == [] and found.threads == []


# ------------------------------------------------------------------------------------------------------------- cases


@pytest.fixture(scope="session")
def sets(tmp_path_factory):
    """Public and hidden cases."""
    return grade.case_sets(tmp_path_factory.mktemp("cases"), grade.Options(seed=7))


def test_cases_have_the_margin_and_serial_answers_them(sets):
    for case_set in sets:
        double = in_double(gpt2_build_from_checkpoint(case_set.model))
        single = gpt2_build_from_checkpoint(case_set.model)
        for case in case_set.cases:
            assert safe_tokens(double, case.prompt, case.n)[: len(case.tokens)] == case.tokens
            assert tuple(generate(single, case.prompt, case.n))[: len(case.tokens)] == case.tokens


@pytest.mark.parametrize("engine", ["serial", "submission"])
def test_what_gpt_c_prints_for_the_shipped_model(box, engine, shipped, shipped_gptc, tmp_path):
    with temporary_folder(box) as name:
        folder = Path(name)
        given = grade.GIVEN if engine == "submission" else (*grade.GIVEN, *grade.files_of("measure"))
        source = (grade.LAB / "parallel.py").read_text() if engine == "submission" else None
        tree = grade.build_tree(folder / "lab", given, source)
        with Child(box, tree, readable(shipped, box, folder), engine) as child:
            assert child.wait_ready() is None
            for case in shipped_gptc[::2]:
                assert child.ask(case["prompt"], case["n"], 2).tokens == case["tokens"], case["prompt"]


def test_cases_cover_what_they_should(sets):
    public, public_wide, hidden, hidden_wide = sets
    for case_set in (public, hidden):
        V = gpt2_build_from_checkpoint(case_set.model).config.vocab_size
        lengths = {len(case.prompt) for case in case_set.cases if case.n == 10}
        assert {1, 9} <= lengths, "prompts of 1 to n-1 tokens"
        edges = [case for case in case_set.cases if case.kind == "edge tokens"]
        assert all(set(case.prompt) <= {0, V - 1} for case in edges) and edges
    assert {1, 2, 4} == {case.workers for case in public.cases}
    assert {1, 2, 3, 4, 7} == {case.workers for case in hidden.cases}
    assert max(case.n for case in hidden.cases) >= 40
    assert all(case.hidden for case in (*hidden.cases, *hidden_wide.cases))
    assert not any(case.hidden for case in (*public.cases, *public_wide.cases))


@pytest.mark.parametrize("seed, hidden", [(PUBLIC_SEED, False), (2, True)])
def test_cases_of_gpt2s_vocabulary_show_the_order_of_the_sum(seed, hidden, tmp_path):
    """A softmax that adds up in pairs, or in parts, gives other tokens; a right program with rounding does not."""
    found = wide_cases(tmp_path, seed, hidden)
    model, random = gpt2_build_from_checkpoint(found.model), np.random.default_rng(seed)
    V = model.config.vocab_size
    assert V == 50257 and {case.kind for case in found.cases} == {"GPT-2's vocabulary"}
    for case in found.cases:
        seen = set()
        for t, token in enumerate(case.tokens, start=len(case.prompt)):
            inputs = np.array([[*case.prompt, *case.tokens][:t]], dtype=np.int32)
            gpt2_forward(model, inputs, 1, t)
            logits = model.acts.logits[:, t - 1 :, :V]
            seen |= {how for how, other in other_sums(logits[0, 0]).items() if other != token}
            for _ in range(5):
                rounded = (logits + random.normal(0, 1e-6, logits.shape)).astype(np.float32)
                softmax_forward(rounded, rounded.copy(), 1, 1, V, V)
                assert sample_mult(rounded[0, 0], V) == token
        assert seen == {"in pairs", "in float64", *(f"in {k} parts" for k in (2, 3, 4, 7))}


def test_hidden_cases_come_from_the_seed(tmp_path):
    first, second = hidden_cases(tmp_path, 3).cases, hidden_cases(tmp_path, 3).cases
    assert first == second
    assert first != hidden_cases(tmp_path, 4).cases
    assert public_cases(tmp_path).cases == public_cases(tmp_path).cases


def mutants(config):
    """name -> what a mistake leaves out, as a change of the parameters that gives the same numbers."""
    C, hs = config.channels, config.channels // config.num_heads
    found = {}
    for head in range(config.num_heads):
        found[f"head {head}"] = ("attprojw", (slice(None), slice(None), slice(head * hs, (head + 1) * hs)))
    for k in (2, 3, 4):
        for block in range(k):
            for rows, weights in ((3 * C, "qkvw"), (C, "attprojw"), (4 * C, "fcw"), (C, "fcprojw")):
                last = rows * (block + 1) // k - 1
                found[f"{weights} row {last}"] = (weights, (slice(None), last))
    found["last row of the vocabulary"] = ("wte", config.vocab_size - 1)
    return found


def test_cases_catch_whatever_is_left_out(sets):
    """Any head, the last row of any block and the last row of the vocabulary: zeroed, a token of some case changes."""
    for case_set in (sets[0], sets[2]):
        model = gpt2_build_from_checkpoint(case_set.model)
        config = model.config
        model.params_memory = model.params_memory.copy()
        right = model.params_memory.copy()
        broken = type(model)(config, model.params_memory)
        missed = []
        for name, (tensor, where) in mutants(config).items():
            vars(broken.params)[tensor][where] = 0
            bias = {"qkvw": "qkvb", "attprojw": "attprojb", "fcw": "fcb", "fcprojw": "fcprojb"}.get(tensor)
            if bias and "row" in name:
                vars(broken.params)[bias][where] = 0
            if not any(changes(broken, case) for case in case_set.cases):
                missed.append(name)
            broken.params_memory[:] = right
        assert not missed, case_set.model.stem


def changes(model, case):
    """Whether the model gives another token than expected at some step, each step from the right beginning."""
    tokens = [*case.prompt, *case.tokens]
    inputs = np.array([tokens], dtype=np.int32)
    for t in range(len(case.prompt), len(tokens)):
        gpt2_forward(model, inputs[:, :t], 1, t)
        if sample_mult(model.acts.probs[0, t - 1], model.config.vocab_size) != tokens[t]:
            return True
    return False


def test_an_instructors_cases(tmp_path):
    file = tmp_path / "cases.json"
    file.write_text(json.dumps({"cases": [{"prompt": [1, 2, 3], "n": 8, "workers": 3, "kind": "mine"}]}))
    (case,) = instructor_cases(tmp_path, file).cases
    assert case.hidden and case.kind == "mine" and len(case.tokens) == 5
    for text in (
        "",
        "[]",
        "{}",
        '{"cases": [{}]}',
        '{"cases": [{"prompt": [1], "n": 1}]}',
        '{"cases": [{"prompt": [999]}]}',
    ):
        file.write_text(text)
        with pytest.raises(CasesError, match=r"cases\.json"):
            instructor_cases(tmp_path, file)
    with pytest.raises(CasesError, match="cannot be read"):
        instructor_cases(tmp_path, tmp_path / "none.json")


# ----------------------------------------------------------------------------------------------- verdicts on timings


@pytest.mark.parametrize("noise, hit", [(0.03, 0.0), (0.03, 0.3), (0.1, 0.1)])
def test_the_reference_gets_everything_whatever_the_noise(noise, hit):
    """hit: three tokens of ten are disturbed, and not the same for 1 and for k workers."""
    for seed in range(30):
        verdict = judge(evidence(timings.named("reference", seed=seed, noise=noise, hit=hit)))
        assert (verdict.score, verdict.exit_code) == (100, 0), verdict.rows


def test_noise_gives_nothing_to_a_program_that_does_not_scale():
    for seed in range(40):
        assert scaling_row(timings.named("interpreter_bound", seed=seed, noise=0.03)).score == 0


@pytest.mark.parametrize(
    "name, status, phrase",
    [
        ("serial_copy", FAILED, "no worker was there at all"),
        ("batch_split", FAILED, "is the loop split over the batch"),
        ("interpreter_bound", FAILED, "of the possible gain"),
        ("uneven", PARTIAL, "of the possible gain"),
        ("sleeps", FAILED, "with 1 worker it computes only 45% of the time"),
        ("sleep_at_one", FAILED, "sleeps or waits the rest"),
        ("burn_at_one", FAILED, "times the CPU time"),
        ("slower_than_serial", FAILED, "slower than the serial program"),
        ("one_thread_cache", FAILED, "none of the 2 workers did any work"),
        ("cache_asleep_at_one", FAILED, "none of the 2 workers did any work"),
        ("more_cores", FAILED, "cores instead of 2"),
        ("more_threads", FAILED, "4 threads compute instead of 2"),
    ],
)
def test_verdict_on_generated_timings(name, status, phrase):
    row = scaling_row(timings.named(name))
    assert row.status == status and phrase in row.reason, row
    if status == FAILED:
        assert row.score == 0


def test_points_follow_the_measured_ratio():
    scores = [
        scaling_row(timings.named("reference", many=many, noise=0.002)).score
        for many in (0.58, 0.55, 0.52, 0.48, 0.42, 0.36)
    ]
    assert scores == sorted(scores) and scores[0] == 0 and scores[-1] == 40
    assert 0 < scores[2] < 40


def test_a_slow_machine_costs_no_points():
    """Half the capacity: the same program, judged against what the machine could give."""
    row = scaling_row(timings.named("reference", many=0.46, capacity=1.38))
    assert row.status == PASSED


@pytest.mark.parametrize(
    "changes, phrase",
    [
        ({"disturbed": "other programs used 48% of the cores"}, "other programs used 48% of the cores"),
        ({"capacity": 1.05}, "trusted threads are only"),
        ({"rounds": 1}, "too few rounds"),
        ({"many": 0.55, "steal": 0.2}, "the hypervisor took 20% of the time"),
    ],
)
def test_a_disturbed_measurement_is_inconclusive_not_failed(changes, phrase):
    verdict = judge(evidence(timings.named("reference", **changes)))
    row = next(row for row in verdict.rows if row.name == "scaling-2")
    assert row.status == INCONCLUSIVE and phrase in row.reason
    assert verdict.exit_code == 3 and verdict.score == 60
    assert "could not be measured" in report.headline(verdict)


def test_steal_that_could_change_nothing_is_no_excuse():
    assert scaling_row(timings.named("interpreter_bound", steal=0.03)).status == FAILED
    assert scaling_row(timings.named("reference", steal=0.2)).status == PASSED


def test_runs_that_disagree_are_inconclusive():
    timing = timings.named("reference", noise=0.0, rounds=2)
    for round_ in timing.rounds:
        for sample, seconds in zip(round_.many[2], (0.34, 0.60, 0.60), strict=True):
            sample.tokens = [seconds / 6] * 6
    assert scaling_row(timing).status == INCONCLUSIVE


def test_a_program_that_works_while_it_is_stopped_earns_nothing():
    timing = timings.named("reference")
    for round_ in timing.rounds:
        for sample in round_.many[2]:
            sample.ahead = 0.3 * sample.cpu
    row = scaling_row(timing)
    assert row.status == FAILED and "while it was stopped" in row.reason


def test_disturbed_tokens_are_left_out_of_the_estimate():
    quiet = estimate_scaling(timings.named("reference", noise=0.0).rounds, 2)
    noisy = estimate_scaling(timings.named("reference", noise=0.0, hit=0.3).rounds, 2)
    assert quiet.threads.median == pytest.approx(0.60 / 0.35) == pytest.approx(noisy.threads.median, rel=0.01)
    assert quiet.capacity.median == pytest.approx(1.85) and quiet.speedup.median == pytest.approx(2.6 / 0.35)
    assert quiet.gain.low <= quiet.gain.median <= quiet.gain.high and quiet.sets == 12


def test_without_cpu_times_nothing_is_judged():
    timing = timings.named("reference")
    for sample in timing.rounds[0].one:
        sample.cpu = 0.0
    assert scaling_row(timing).status == INCONCLUSIVE


def test_rounds_given_up_because_of_others_are_inconclusive():
    timing = timings.named("reference", rounds=1)
    timing.given_up = ["other programs used 90% of the cores"] * 2
    row = scaling_row(timing)
    assert row.status == INCONCLUSIVE and "2 of 3 rounds" in row.reason and "90%" in row.reason


def test_a_recorded_measurement_on_a_crowded_machine_is_inconclusive(data):
    """The reference beside six other users of two cores, as it was recorded."""
    timing = Timing.from_json(json.loads((data / "grader_timing_crowded.json").read_text()))
    row = scaling_row(timing)
    assert row.status == INCONCLUSIVE and "other programs used" in row.reason


def test_an_idle_worker_is_a_fact_even_on_a_disturbed_machine():
    assert scaling_row(timings.named("batch_split", disturbed="other programs used 48% of the cores")).status == FAILED


def test_disturbance_is_only_what_the_submission_cannot_cause():
    round_ = timings.named("reference").rounds[0]
    assert disturbance(round_) == ""
    for sample in round_.many[2]:
        sample.delay = 5.0  # too many threads of its own
    assert disturbance(round_) == ""
    assert "other programs" in disturbance(replace(round_, others=0.4))
    assert "waited" in disturbance(replace(round_, serial=Sample([2.6], 2.2, delay=0.4)))


def test_four_workers_share_the_points_with_two():
    two, four = timings.named("reference"), timings.named("reference", k=4, many=0.20, capacity=3.4)
    for a, b in zip(two.rounds, four.rounds, strict=True):
        a.many[4], a.capacity[4] = b.many[4], b.capacity[4]
    two.measured = [2, 4]
    verdict = judge(evidence(two))
    rows = {row.name: row for row in verdict.rows}
    assert rows["scaling-2"].most == rows["scaling-4"].most == 20
    assert verdict.score == 100


def test_what_was_not_measured_is_said():
    timing = timings.named("reference")
    timing.not_measured = {4: "this machine has 2 cores"}
    row = next(row for row in judge(evidence(timing)).rows if row.name == "scaling-4")
    assert "this machine has 2 cores" in row.reason and row.most == 0
    none = Timing("generated", 1, [], {2: "this machine has 1 cores"})
    assert judge(evidence(none)).exit_code == 3


def test_a_wrong_token_in_a_timed_run_fails_the_scaling():
    timing = timings.named("reference")
    timing.failure, timing.expected, timing.failed_workers = Run([1], 4, 2, tokens=[1, 2, 9]), [1, 2, 3], 2
    row = next(row for row in judge(evidence(timing)).rows if row.name == "scaling")
    assert row.status == FAILED and "generated token 3 of 3 differs" in row.reason


def test_only_a_step_with_the_margin_is_judged():
    trusted = Run([1], 4, 1, tokens=[5, 6, 7], values={"margins": [0.1, 1e-5, 0.1]})

    def player(tokens: list[int]) -> Player:
        made = Player(None, [0], 1)
        made.run = Run([1], 4, 1, tokens=tokens)
        return made

    check_token(player([5]), trusted)
    with pytest.raises(WrongRun):
        check_token(player([4]), trusted)
    with pytest.raises(Unjudgeable):
        check_token(player([5, 9]), trusted)
    with pytest.raises(WrongRun):
        check_token(player([5, 6, 8]), trusted)


def test_timing_survives_json():
    timing = timings.named("reference")
    again = Timing.from_json(json.loads(json.dumps(timing.to_json())))
    assert again.to_json() == timing.to_json()
    assert judge(evidence(again)).score == 100


def test_wrong_tokens_earn_no_form_points():
    verdict = judge(evidence(tokens=False))
    assert verdict.score == load().points["runs"]


# ------------------------------------------------------------------------------------------------------ explanations


def test_stacks_of_a_hang_are_told_by_place():
    dump = (
        'Thread 0x00007f01 (most recent call first):\n  File "/x/lab/threadlib.py", line 200 in wait\n'
        '  File "/x/lab/parallel.py", line 2 in work\n\n'
        'Thread 0x00007f02 (most recent call first):\n  File "/x/lab/parallel.py", line 2 in work\n\n'
        'Current thread 0x00007f03 (most recent call first):\n  File "/x/lab/parallel.py", line 1 in run\n'
    )
    line = explain.stacks_line(dump, "done.P()\nself.start.P()\n")
    assert line == "2 workers at parallel.py:2 in work: self.start.P(); main thread at parallel.py:1 in run: done.P()"
    assert "could not be seen" in explain.stacks_line("", "")


def test_a_forged_error_report_does_no_harm():
    for forged in ([{}], [{"type": 1}], [{"type": "E", "message": "m", "frames": [[1]]}], ["x"]):
        assert explain.error_line(forged, Limits())


@pytest.mark.parametrize(
    "status, said", [(137, "killed"), (-9, "killed"), (152, "CPU time"), (139, "signal 11"), (0, "exit status 0")]
)
def test_exit_statuses(status, said):
    assert said in explain.status_line(status, Limits())


def test_span():
    assert explain.span(np.array([3, 4, 5, 9])) == "3-5, 9"


def test_slow_line_names_the_wait():
    recorded = {
        "seconds": 2.0,
        "threads": {
            "worker-1": {"task": 1.8, "wait": {}},
            "worker-2": {"task": 0.4, "wait": {"Mutex queue (parallel.py:9)": 1.5}},
            "MainThread": {"task": 0.0, "wait": {}},
        },
    }
    line = explain.slow_line(recorded, 2)
    assert "90%, 20%" in line and "4.5 times the work" in line and "Mutex queue" in line
    assert explain.slow_line({}, 2) == "" == explain.slow_line({"seconds": "x", "threads": 3}, 2)


# ------------------------------------------------------------------------------------------------------------ report


def test_results_follow_gradescopes_schema_and_hide_what_is_hidden():
    found = evidence(timings.named("uneven"))
    hidden = replace(public_case(), hidden=True, prompt=(41, 42, 43), kind="long")
    found.correctness.outcomes.append(Outcome(hidden, Run([41, 42, 43], 6, 2, tokens=[9, 9, 9])))
    verdict = judge(found)
    results = report.gradescope(verdict)
    validate(results, GRADESCOPE)
    assert results["score"] == pytest.approx(sum(test["score"] for test in results["tests"]), abs=0.06)
    visible = json.dumps([test for test in results["tests"] if test["visibility"] == "visible"]) + report.html(verdict)
    assert "41 42 43" not in visible and "41, 42, 43" not in visible
    assert any("41 42 43" in test["output"] for test in results["tests"] if test["visibility"] == "hidden")
    assert "41 42 43" in report.html(verdict, instructor=True)


def test_html_stands_alone_and_is_escaped():
    found = evidence(timings.named("reference"))
    found.name = "<script>alert(1)</script>.py"
    page = report.html(judge(found))
    assert "<script" not in page and "&lt;script&gt;" in page
    assert "<svg" in page and "http://" not in page and "https://" not in page and "src=" not in page


def test_terminal_shows_text_as_text():
    from rich.console import Console

    found = evidence()
    found.imports = ["[bold]\x1b[2Jevil[/bold]"]
    console = Console(record=True, width=120, file=open(os.devnull, "w"))  # noqa: SIM115
    report.show(judge(found), console)
    text = console.export_text()
    assert "[bold]" in text and "\x1b[2J" not in text
    found.imports = ["\ud800 \x00"]
    json.dumps(report.gradescope(judge(found)), ensure_ascii=False).encode()


def test_files_are_replaced_not_followed(tmp_path):
    victim = tmp_path / "victim"
    victim.write_text("precious")
    out = tmp_path / "out"
    out.mkdir()
    (out / "results.json").symlink_to(victim)
    report.write(judge(evidence()), out)
    assert victim.read_text() == "precious"
    assert json.loads((out / "results.json").read_text())["score"] == 60
    assert sorted(os.listdir(out)) == ["report.html", "results.json"]


# ------------------------------------------------------------------------------------------------------ command line


def test_command_line_bad_file(tmp_path, capsys):
    assert main([str(tmp_path / "none.py"), "--out", str(tmp_path / "out")]) == 1
    out, err = capsys.readouterr()
    assert "No such file" in out and "Traceback" not in out + err
    validate(json.loads((tmp_path / "out" / "results.json").read_text()), GRADESCOPE)


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--stages", "everything"], "give some of"),
        (["--seed", "-1"], "not negative"),
        (["--points", "none.toml"], "No such file"),
        (["--model", "none.bin"], "no such model"),
    ],
)
def test_command_line_wrong_use(arguments, said, capsys):
    assert main(arguments) == 2
    assert said in capsys.readouterr().err


def test_without_a_sandbox_files_of_others_are_refused(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(
        sandbox, "candidate", lambda backend: (sandbox.Sandbox(backend, sys.executable, (), ()), "forbidden")
    )
    (tmp_path / "parallel.py").write_text(GOOD)
    assert main([str(tmp_path / "parallel.py"), "--out", str(tmp_path)]) == 2
    assert "no sandbox works here" in capsys.readouterr().err


def test_the_reference_on_the_tiny_models(tmp_path, capsys):
    code = main(["--stages", "tokens", "--out", str(tmp_path)])
    out, err = capsys.readouterr()
    assert code == 1 and "60 of 100 points" in out, out
    assert "hidden cases" in err
    validate(json.loads((tmp_path / "results.json").read_text()), GRADESCOPE)


# ----------------------------------------------------------------------------------------------------------- sandbox


def run(box, code, limits=None):
    """Standard output of a program in the sandbox."""
    started = box.start(["-c", code], limits=limits or Limits())
    try:
        out, err = started.process.communicate(timeout=60)
    finally:
        started.end()
    return out.decode() + err.decode()


@pytest.fixture(params=sandbox.BACKENDS)
def each_box(request):
    """Every backend that works here."""
    return backend(request.param)


def test_environment_is_clean(each_box, monkeypatch):
    monkeypatch.setenv("SECRET", "tokens")
    monkeypatch.setenv("PYTHONPATH", "/tmp")
    out = run(each_box, "import os, sys; print(dict(os.environ), sys.flags.isolated, sys.path)")
    assert (
        "SECRET" not in out
        and "'/tmp'" not in out.split("sys.path")[0].split("}")[1]
        and "'OPENBLAS_NUM_THREADS': '1'" in out
    )


def test_limits_are_set(each_box):
    code = "import resource as r; which = r.RLIMIT_AS, r.RLIMIT_FSIZE, r.RLIMIT_NOFILE, r.RLIMIT_CORE"
    code += "; print([r.getrlimit(x) for x in which])"
    limits = Limits(memory=512 << 20, file_size=1 << 20, open_files=32)
    assert str([(512 << 20,) * 2, (1 << 20,) * 2, (32, 32), (0, 0)]) in run(each_box, code, limits)


def test_another_user_without_privileges(each_box):
    if each_box.backend == "limits" or os.geteuid() != 0:
        pytest.skip("the same user")
    out = run(
        each_box,
        "import os; print(os.getuid(), os.getgroups(), [l for l in open('/proc/self/status') if 'CapEff' in l])",
    )
    assert int(out.split()[0]) >= 600_000_000 and "0000000000000000" in out and "[]" in out


def test_bubblewrap_shows_little_and_lets_nothing_out():
    box = backend("bubblewrap")
    code = (
        "import os, socket\n"
        "print('root', sorted(os.listdir('/')))\n"
        "print('processes', len([p for p in os.listdir('/proc') if p.isdigit()]))\n"
        "print('etc', os.path.exists('/etc/passwd'))\n"
        "for place in ('/', '/usr', '/dev/shm', '/dev'):\n"
        "    try: open(place + '/x', 'w'); print('WROTE', place)\n"
        "    except OSError: pass\n"
        "open('/tmp/x', 'w').write('x')\n"
        "try: socket.create_connection(('127.0.0.1', 22), 1)\n"
        "except OSError as error: print('network', error)\n"
        "try:\n"
        "    with open('/tmp/big', 'wb') as file:\n"
        "        for _ in range(64): file.write(bytes(1 << 20))\n"
        "    print('DISK')\n"
        "except OSError: print('disk bound')\n"
    )
    out = run(box, code)
    assert "etc False" in out and "WROTE" not in out and "network" in out and "disk bound" in out, out
    assert int(out.split("processes ")[1].split()[0]) <= 3
    assert not os.path.exists("/tmp/x")


def test_limits_bind_where_it_is_said(box):
    if box.backend == "limits":
        pytest.skip("nobody says so")
    assert sandbox.limits_bind(box)


def test_other_user_leaves_no_process_and_no_file():
    box = backend("other-user")
    code = (
        "import os, sys, time\n"
        "open('/tmp/grader-left', 'w').write('x')\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    time.sleep(60)\n"
        "print(os.getuid(), flush=True)\n"
        "os._exit(0)\n"
    )
    started = box.start(["-c", code])
    user = int(started.process.stdout.readline())
    started.end()
    left = [
        p
        for p in os.listdir("/proc")
        if p.isdigit() and os.path.exists(f"/proc/{p}") and os.stat(f"/proc/{p}").st_uid == user
    ]
    assert not [p for p in left if "Z" not in Path(f"/proc/{p}/stat").read_text().rpartition(")")[2].split()[0]]
    assert not os.path.exists("/tmp/grader-left")


def test_a_silent_sleeping_program_is_a_hang_and_its_stack_is_told(box):
    source = "import time\n\n\ndef generate(model, prompt, n, workers):\n    yield 1\n    time.sleep(600)\n"
    with started(box, source, patience=Patience(idle=0.6)) as child:
        run = child.ask([1, 2], 6, 2)
    assert run.outcome == "hang" and run.tokens == [1]
    assert "parallel.py:6 in generate: time.sleep(600)" in explain.stacks_line(run.stacks, source)


SPINNING = (
    "from lab.threadlib import join, spawn\n\n\n"
    "def generate(model, prompt, n, workers):\n"
    "    stop = []\n"
    "    spawn(lambda number: [None for _ in iter(lambda: not stop, False)])\n"
    "    try:\n"
    "        for token in range(n - len(prompt)):\n"
    "            yield token\n"
    "    finally:\n"
    "        stop.append(True)\n"
    "        join()\n"
)


@pytest.mark.parametrize("continued", [False, True])
def test_between_two_turns_a_program_is_stopped(box, continued):
    """A thread that always computes gets nothing done then; if something continues the program, it shows."""
    with started(box, SPINNING) as child:
        run, begin = child.begin([1], 4, 1), time.perf_counter()
        for _ in range(3):
            child.turn(run)
            end, cpu = time.perf_counter(), child.cpu_time()
            if continued and len(run.tokens) < 3:
                os.kill(child.pid, signal.SIGCONT)
            while continued and len(run.tokens) < 3 and child.cpu_time() < cpu + 0.1:
                assert time.perf_counter() < end + 30
            while not continued and time.perf_counter() < end + 0.2:
                pass
    assert (run.outcome, run.tokens, run.left_threads) == ("done", [0, 1, 2], 0)
    assert run.ahead > 0.15 if continued else run.ahead < 0.05
    assert len(run.seconds_of_tokens) == 3 and sum(run.seconds_of_tokens) == pytest.approx(run.seconds)
    assert run.seconds < end - begin - (0 if continued else 0.4)


def test_turns_end_with_what_happened(box):
    source = "def generate(model, prompt, n, workers):\n    yield 7\n    raise ValueError('no more')\n"
    with started(box, source) as child:
        run = child.begin([1], 4, 1)
        child.turn(run)
        assert (run.outcome, run.tokens) == ("done", [7])
        child.turn(run)
    assert run.outcome == "error" and run.error[0]["message"] == "no more" and run.tokens == [7]


def timed(box, source: str, monkeypatch) -> Timing:
    """The timing of a program on the tiny model, which is too short to mean anything: one set, one round."""
    monkeypatch.setattr(timing_module, "SETS", 1)
    monkeypatch.setattr(timing_module, "LEAST_ROUNDS", 1)
    with temporary_folder(box) as name:
        model = public_cases(Path(name)).model
        trusted = grade.build_tree(Path(name) / "trusted", (*grade.GIVEN, *grade.files_of("measure")), None)
        tree = grade.build_tree(Path(name) / "lab", grade.GIVEN, source)
        watch = timing_module.Stopwatch(box, trusted, tree, model)
        return timing_module.measure(watch, load(), seed=1, budget=0.0)


def test_a_round_has_a_sample_of_every_program(box, monkeypatch):
    """As on four cores: the kernel gives the programs those there are."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3})
    found = timed(box, BASE.read_text(), monkeypatch)
    assert found.failure is None and found.rounds and found.measured == [2, 4], found
    round_ = found.rounds[0]
    tokens = timing_module.N - timing_module.PROMPT_LENGTH
    for k, sample in ((0, round_.serial), (1, round_.one[0]), (2, round_.many[2][0]), (4, round_.many[4][0])):
        assert len(sample.tokens) == tokens and min(sample.tokens) > 0 and sample.cpu > 0
        assert len(sample.threads) == k
    for k in (2, 4):
        assert [len(turn) for turn in round_.capacity[k][0]] == [2] * tokens
        assert estimate_scaling(found.rounds, k).speedup.median > 0


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
def test_programs_that_could_talk_have_different_prompts(each_box, monkeypatch):
    prompts = []
    begin = Child.begin
    monkeypatch.setattr(Child, "begin", lambda self, prompt, n, k: prompts.append(prompt) or begin(self, prompt, n, k))
    found = timed(each_box, BASE.read_text(), monkeypatch)
    assert found.failure is None and found.rounds
    serials, submissions = (1, 2) if each_box.backend == "bubblewrap" else (2, 2)
    per_round = serials + submissions
    assert len(set(map(tuple, prompts[:per_round]))) == serials


@pytest.mark.skipif(len(os.sched_getaffinity(0)) < 2, reason="needs two cores")
@pytest.mark.parametrize(
    "change, outcome, workers",
    [
        (("yield int(tokens[0, t])", "yield int(tokens[0, t]) if workers == 1 else 102"), "done", 2),
        (("yield int(tokens[0, t])", "yield int(tokens[0, t]) // (t < 30)"), "error", 1),
        (("import numpy as np", "import numpy as np\nraise OSError"), "error", 1),
    ],
)
def test_a_failing_program_ends_the_rounds(box, monkeypatch, change, outcome, workers):
    source = BASE.read_text()
    assert change[0] in source
    found = timed(box, source.replace(*change, 1), monkeypatch)
    assert (found.failure.outcome, found.failed_workers, found.rounds) == (outcome, workers, [])
