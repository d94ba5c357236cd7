"""The grader: points, bad input, cases, verdicts on timings, explanations, reports, the command line, the sandbox."""

import json
import os
import pickle
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from grader_boxes import GOOD
from jsonschema import validate

from grader import explain, grade, report, sandbox
from grader import points as points_module
from grader import verdict as verdict_module
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
from grader.child import Child, Run
from grader.correctness import Correctness, Outcome
from grader.estimates import estimate_scaling
from grader.examples import BASE, timings
from grader.inside import Inside
from grader.points import CHECKS, PointsError, Result, gain, load, row
from grader.sandbox import Limits
from grader.timing import Player, Sample, Timing, Unjudgeable, WrongRun, check_token, disturbance
from grader.verdict import FAILED, INCONCLUSIVE, PARTIAL, PASSED, Evidence, Row, judge, stage
from grader.workspace import temporary_folder
from lab.margin import in_double, other_sums, safe_tokens
from lab.serial import generate, gpt2_build_from_checkpoint, gpt2_forward, sample_mult, softmax_forward

GRADESCOPE = json.loads((Path(__file__).parent / "data" / "gradescope_results.schema.json").read_text())


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
    inside = Inside(2, [0.5, 0.5], 0.0, [0.5, 0.5], [True, True], [0.1, 0.1])
    return Evidence("parallel.py", load(), source="pass", correctness=found, inside=inside, timing=timing)


def public_case():
    """One case without a model."""
    return Case("2 workers", (5, 7, 9), 6, 2, (1, 2, 3))


def rows_of(timing: Timing) -> dict[str, Row]:
    """All rows by name."""
    return {row.name: row for row in judge(evidence(timing)).rows}


def threads_row(timing: Timing) -> Row:
    """What the threads of two workers earn."""
    return rows_of(timing)["threads-2"]


# ------------------------------------------------------------------------------------------------------------ points


def test_cases_that_were_not_run_are_not_said_to_fail():
    found = evidence()
    ran, hidden = found.correctness.outcomes
    hung = replace(ran, run=Run([], 6, 2, outcome="hang"))
    found.correctness.outcomes = [hung, Outcome(hidden.case, None, why="late")]
    rows = {row.name: row for row in judge(found).rows}
    assert rows["public"].reason.startswith("1 of 1 cases fail (2 workers). 2 workers, prompt 5 7 9, n 6: hangs")
    assert rows["hidden"].reason == "not run: late" and rows["hidden"].score == 0


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
        ("[scaling]\nno_speed = 0.9\n", "must be less"),
        ("[scaling]\nworkers = [1]\n", "must be a list of numbers of workers"),
        ('[scaling]\nmeasure = "time"\n', 'must be "gain" or "speedup"'),
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
    path.write_text("[points]\nthreads = 60\n[deductions]\nrace = 3\n")
    points = load(path)
    assert points.points["threads"] == 60 and points.points["runs"] == 3 and points.deductions["race"] == 3


def test_an_instructor_adds_a_check_in_one_place(monkeypatch):
    monkeypatch.setattr(points_module, "CHECKS", checks := list(CHECKS))
    monkeypatch.setattr(verdict_module, "CHECKS", checks)

    @row("docstrings", "has docstrings", 5)
    def docstrings_row(found: Evidence) -> Result:
        return Result(0.5, f"{found.name}: half of the functions have none")

    last = judge(replace(evidence(), points=load())).rows[-1]
    assert (last.title, last.score, last.most, last.status) == ("has docstrings", 2.5, 5, PARTIAL)


# ------------------------------------------------------------------------------------------------------------- cases


@pytest.fixture(scope="session")
def sets(tmp_path_factory, once):
    """Public and hidden cases."""
    return once("cases of seed 7", lambda: grade.case_sets(tmp_path_factory.mktemp("cases"), grade.Options(seed=7)))


def test_cases_have_the_margin_and_serial_answers_them(sets):
    for case_set in sets:
        double = in_double(gpt2_build_from_checkpoint(case_set.model))
        single = gpt2_build_from_checkpoint(case_set.model)
        for case in case_set.cases:
            assert safe_tokens(double, case.prompt, case.n)[: len(case.tokens)] == case.tokens
            assert tuple(generate(single, case.prompt, case.n))[: len(case.tokens)] == case.tokens


@pytest.mark.parametrize("engine", ["trusted", "submission"])
def test_what_gpt_c_prints_for_the_shipped_model(box, engine, shipped, shipped_gptc, tmp_path):
    with temporary_folder() as name:
        folder = Path(name)
        reference = (grade.LAB / "parallel.py").read_text()
        tree = folder / "lab"
        tree = grade.trusted_tree(tree) if engine == "trusted" else grade.build_tree(tree, grade.GIVEN, reference)
        with Child(box, tree, box.readable(shipped, folder), engine) as child:
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
    *two, last = (case for case in public.cases if case.workers == 2)
    assert any(case.close_after for case in two) and not last.close_after, "one that is run after an early end"
    assert {1, 2, 3, 4, 7} == {case.workers for case in hidden.cases}
    assert max(case.n for case in hidden.cases) == gpt2_build_from_checkpoint(hidden.model).config.max_seq_len >= 40
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


def test_hidden_cases_come_from_the_seed(sets, tmp_path):
    first, second = sets[2].cases, hidden_cases(tmp_path, 7).cases
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
    (tmp_path / "page.bin").write_text("<!doctype html><html></html>")
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
        '{"cases": [{"prompt": [1.5], "n": 4}]}',
        '{"cases": [{"prompt": [true], "n": 4}]}',
        '{"cases": [{"prompt": [1], "n": 1e400}]}',
        '{"cases": [{"prompt": [1], "workers": 1000000000}]}',
        '{"cases": [[1, 2]]}',
        '{"cases": 5}',
        '{"model": "none.bin", "cases": [{"prompt": [1], "n": 4}]}',
        '{"model": "page.bin", "cases": [{"prompt": [1], "n": 4}]}',
        '{"model": 5, "cases": [{"prompt": [1], "n": 4}]}',
        "[" * 100_000,
    ):
        file.write_text(text)
        with pytest.raises(CasesError, match=r"cases\.json") as raised:
            instructor_cases(tmp_path, file)
        assert "\n" not in str(raised.value)
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
        assert threads_row(timings.named("interpreter_bound", seed=seed, noise=0.03)).score == 0


@pytest.mark.parametrize(
    "name, status, phrase",
    [
        ("slow_but_parallel", PASSED, "of the possible gain"),
        ("serial_copy", FAILED, "there was no worker at all"),
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
        ("threads_anew", FAILED, "its threads end before the token is made, so what they compute cannot be seen"),
        ("more_threads", FAILED, "4 threads compute instead of 2"),
        ("burn_beside", FAILED, "worker 2 used 46% of the CPU time and computed nothing that was used"),
        ("unused_work", FAILED, "computed nothing that was used"),
        ("two_faces", FAILED, "time without a trace of work"),
        ("uneven_when_timed", FAILED, "the busiest worker had 85% of the workers' CPU time, and 50%"),
        ("crowd_at_one", FAILED, "sleeps or waits the rest"),
        ("nice_crowd_at_one", FAILED, "sleeps or waits the rest"),
        ("busy_crowd_at_one", FAILED, "with 1 worker 2 threads compute"),
        ("bursts", FAILED, "times the CPU time"),
        ("some_slow_ones", FAILED, "of the possible gain"),
        ("too_good", FAILED, "more than the machine gives to trusted threads"),
    ],
)
def test_verdict_on_generated_timings(name, status, phrase):
    rows = rows_of(timings.named(name))
    threads, speed = rows["threads-2"], rows["speed-2"]
    assert threads.status == status and phrase in threads.reason, threads
    if status == FAILED:
        assert threads.score == speed.score == 0


def test_stage_5_is_reached_with_all_points_for_threads():
    """The injected timings; the tokens are right, and the first token's time proves that the workers share the work."""
    assert stage(judge(evidence(timings.named("reference")))) == 5
    assert stage(judge(evidence(timings.named("uneven")))) < 5


def test_a_program_whose_workers_are_others_is_not_called_serial():
    found = evidence()
    found.threads = ["line 1: import threading: threads come from lab.threadlib only"]
    for inside in (
        Inside(2, problem="threads that are not lab.threadlib's do it"),
        Inside(2, [0.5, 0.5], used=[True] * 2),
    ):
        found.inside = inside
        assert report.stage_line(judge(found)) == f"stage 1 of the handout: {report.OTHER_WORKERS}"
    found.inside = Inside(2, [0.0, 0.0], main=1.0, used=[False] * 2)
    assert "still serial" in report.stage_line(judge(found))


def test_slow_code_that_scales_earns_its_threads_and_not_the_speed():
    rows = rows_of(timings.named("slow_but_parallel"))
    assert (rows["threads-2"].score, rows["speed-2"].score) == (25, 0)


def test_points_follow_the_measured_ratio():
    scores = [
        threads_row(timings.named("reference", many=many, noise=0.002)).score
        for many in (0.58, 0.52, 0.48, 0.45, 0.42, 0.36)
    ]
    assert scores == sorted(scores) and scores[0] == 0 and scores[-1] == 25
    assert 0 < scores[2] < 25


def test_a_course_can_ask_for_the_speedup_over_the_serial_program():
    timing = timings.named("uneven")
    found = evidence(timing)
    found.points = replace(found.points, measure="speedup")
    row = next(row for row in judge(found).rows if row.name == "threads-2")
    assert row.status == PASSED and "times as fast as the serial program" in row.reason


def test_a_slow_machine_costs_no_points():
    """Half the capacity: the same program, judged against what the machine could give."""
    row = threads_row(timings.named("reference", many=0.46, capacity=1.38))
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
    row = next(row for row in verdict.rows if row.name == "threads-2")
    assert row.status == INCONCLUSIVE and phrase in row.reason
    assert verdict.exit_code == 3 and verdict.score >= 60
    assert "could not be measured" in report.headline(verdict)


def test_steal_that_could_change_nothing_is_no_excuse():
    assert threads_row(timings.named("interpreter_bound", steal=0.03)).status == FAILED
    assert threads_row(timings.named("reference", steal=0.2)).status == PASSED


def disagreeing(spread: float) -> Timing:
    """Runs with two workers that differ by far; spread: how much the trusted threads' times vary."""
    timing = timings.named("reference", noise=0.0, rounds=2)
    for round_ in timing.rounds:
        for sample, seconds in zip(round_.many[2], (0.34, 0.60, 0.60), strict=True):
            sample.tokens = [seconds / 4] * 4
        for turns in round_.capacity[2]:
            turns[::2] = [[one * (1 + spread), many] for one, many in turns[::2]]
    timing.inside[2] = timings.HONEST
    return timing


def test_runs_that_disagree_are_inconclusive_while_trusted_ones_do_as_well():
    assert threads_row(disagreeing(0.4)).status == INCONCLUSIVE


def test_what_cannot_be_measured_of_the_threads_costs_no_speed_either():
    rows = rows_of(disagreeing(0.4))
    assert rows["speed-2"].status == INCONCLUSIVE


def test_runs_that_disagree_while_trusted_ones_are_steady_are_judged_as_they_are():
    row = threads_row(disagreeing(0.02))
    assert row.status != INCONCLUSIVE and row.score < 25


def test_a_program_that_works_while_it_is_stopped_earns_nothing():
    timing = timings.named("reference")
    for round_ in timing.rounds:
        for sample in round_.many[2]:
            sample.ahead = 0.3 * sum(sample.cpu)
    row = threads_row(timing)
    assert row.status == FAILED and "while it was stopped" in row.reason


def test_disturbed_tokens_are_left_out_of_the_estimate():
    quiet = estimate_scaling(timings.named("reference", noise=0.0).rounds, 2)
    noisy = estimate_scaling(timings.named("reference", noise=0.0, hit=0.3).rounds, 2)
    assert quiet.threads.median == pytest.approx(0.60 / 0.35) == pytest.approx(noisy.threads.median, rel=0.01)
    assert quiet.capacity.median == pytest.approx(1.85) and quiet.speedup.median == pytest.approx(0.65 / 0.35 * 4)
    assert quiet.gain.low <= quiet.gain.median <= quiet.gain.high and quiet.sets == 12


def test_without_cpu_times_nothing_is_judged():
    timing = timings.named("reference")
    for sample in timing.rounds[0].one:
        sample.cpu = [0.0] * 4
    assert threads_row(timing).status == INCONCLUSIVE


def test_rounds_given_up_because_of_others_are_inconclusive():
    timing = timings.named("reference", rounds=1)
    timing.given_up = ["other programs used 90% of the cores"] * 2
    row = threads_row(timing)
    assert row.status == INCONCLUSIVE and "2 of 3 rounds" in row.reason and "90%" in row.reason


def test_a_recorded_measurement_on_a_crowded_machine_is_inconclusive(data):
    """The reference beside six other users of two cores, as it was recorded."""
    timing = Timing.from_json(json.loads((data / "grader_timing_crowded.json").read_text()))
    row = threads_row(timing)
    assert row.status == INCONCLUSIVE and "other programs used" in row.reason


def test_an_idle_worker_is_a_fact_even_on_a_disturbed_machine():
    assert threads_row(timings.named("batch_split", disturbed="other programs used 48% of the cores")).status == FAILED


def test_disturbance_is_only_what_the_submission_cannot_cause():
    round_ = timings.named("reference").rounds[0]
    assert disturbance(round_) == ""
    for sample in round_.many[2]:
        sample.delay = [5.0] * 4  # too many threads of its own
    assert disturbance(round_) == ""
    assert "other programs" in disturbance(replace(round_, others=0.4))
    assert "waited" in disturbance(replace(round_, trusted=Sample([2.6], [2.2], [2.2], [0.4])))


def test_four_workers_share_the_points_with_two():
    two, four = timings.named("reference"), timings.named("reference", k=4, many=0.20, capacity=3.4)
    for a, b in zip(two.rounds, four.rounds, strict=True):
        a.many[4], a.capacity[4] = b.many[4], b.capacity[4]
    two.measured = [2, 4]
    verdict = judge(evidence(two))
    rows = {row.name: row for row in verdict.rows}
    assert rows["threads-2"].most == rows["threads-4"].most == 12.5
    assert rows["speed-2"].most == rows["speed-4"].most == 7.5
    assert verdict.score == 100


def test_what_was_not_measured_is_said():
    timing = timings.named("reference")
    timing.not_measured = {4: "this machine has 2 cores"}
    row = next(row for row in judge(evidence(timing)).rows if row.name == "threads-4")
    assert "this machine has 2 cores" in row.reason and row.most == 0
    none = Timing("generated", 1, [], {2: "this machine has 1 core"})
    assert judge(evidence(none)).exit_code == 3


def test_one_run_is_not_runs():
    scaling = estimate_scaling(timings.named("reference", noise=0.0).rounds, 2)
    assert f"({scaling.sets} runs each)" in report.speeds(scaling)
    assert "(1 run each)" in report.speeds(replace(scaling, sets=1))


def test_a_wrong_token_in_a_timed_run_fails_the_scaling():
    timing = timings.named("reference")
    timing.failure, timing.expected, timing.failed_workers = Run([1], 4, 2, tokens=[1, 2, 9]), [1, 2, 3], 2
    row = next(row for row in judge(evidence(timing)).rows if row.name == "threads")
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
    source = "def run():\n    done.P()\n\n\ndef work():\n    self.start.P()\n"
    dump = (
        'Thread 0x00007f01 (most recent call first):\n  File "/x/lab/threadlib.py", line 200 in wait\n'
        '  File "/x/lab/parallel.py", line 6 in work\n\n'
        'Thread 0x00007f02 (most recent call first):\n  File "/x/lab/parallel.py", line 6 in renamed\n\n'
        'Current thread 0x00007f03 (most recent call first):\n  File "/x/lab/parallel.py", line 2 in run\n'
    )
    line = explain.stacks_line(dump, source)
    assert line == "2 workers at parallel.py:6 in work: self.start.P(); main thread at parallel.py:2 in run: done.P()"
    assert "could not be seen" in explain.stacks_line("", "")


@pytest.mark.parametrize(
    "kind, message, line",
    [
        ("AssertionError", "", "AssertionError at parallel.py:3: the_second_line()"),
        ("AttributeError", "no attribute 'float'.\nIt was\nan alias", "AttributeError: no attribute 'float'. at p"),
        ("ModuleNotFoundError", "No module named 'pool'", "(there are numpy, lab.checkpoint, lab.kernels, lab.machine"),
        ("RuntimeError", "generator ignored GeneratorExit", "(its iterator was closed early: no yield after that) at"),
    ],
)
def test_an_exception_is_one_line_that_says_where(kind, message, line):
    """A form feed ends no line of Python."""
    chain = [{"type": kind, "message": message, "frames": [["parallel.py", 3, "f", ""]] * 2}]
    told = explain.error_line(chain, Limits(), "a\n\fb\nthe_second_line()\n")
    assert line in told and "\n" not in told and told.count("parallel.py:3") == 1, told


def test_nothing_of_a_hidden_case_is_told():
    """Types, messages, code, names and exit statuses are chosen by the submission, which knows the prompt."""
    source = "def generate(model, prompt, n, workers):\n    raise make(prompt)\n"
    frames = [["parallel.py", 2, "P41_42_43", "P41_42_43()"], ["parallel.py", 414243, "x", "P41_42_43()"]]
    error = [{"type": "P41_42_43", "message": "P41_42_43", "frames": frames}]
    for run in (
        Run([41, 42, 43], 6, 2, outcome="error", error=error),
        Run([41, 42, 43], 6, 2, outcome="error", error=[{"type": "X", "message": "", "frames": []}, *error]),
        Run([41, 42, 43], 6, 2, outcome="ended", status=41),
        Run([41, 42, 43], 6, 2, outcome="ended", status=-41),
        Run([41, 42, 43], 6, 2, outcome="contract", values={"contract": "P41_42_43"}),
    ):
        line = explain.run_line(run, [1, 2, 3], Limits(), source, private=True)
        assert "41" not in line, line
    assert "raise make(prompt)" in explain.error_line(error[:1], Limits(), source, private=True)
    assert "ValueError" in explain.error_line([{**error[0], "type": "ValueError"}], Limits(), source, private=True)


def test_a_forged_error_report_does_no_harm():
    for forged in ([{}], [{"type": 1}], [{"type": "E", "message": "m", "frames": [[1]]}], ["x"]):
        assert explain.error_line(forged, Limits())


@pytest.mark.parametrize(
    "status, said",
    [
        (137, "killed"),
        (-9, "killed"),
        (152, "CPU time"),
        (139, "signal 11"),
        (0, "exit status 0"),
        (1, "closing files"),
    ],
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


@pytest.mark.parametrize(
    "arguments, said",
    [
        (["--stages", "everything"], "give some of"),
        (["--seed", "-1"], "must be an integer of 0 or more"),
        (["--seed", "9" * 5000], f"--seed {'9' * 37}...: must be an integer of 0 or more, of at most 1000 digits"),
        (["--points", "none.toml"], "No such file"),
        (["--model", "none.bin"], "no such model"),
    ],
)
def test_command_line_wrong_use(arguments, said, tmp_path, capsys):
    assert main([*arguments, "--out", str(tmp_path)]) == 2
    assert said in capsys.readouterr().err


def test_wrong_kernels_are_one_line(tmp_path):
    (tmp_path / "parallel.py").write_text(GOOD)
    command = [sys.executable, "-m", "grader", "parallel.py", "--out", str(tmp_path)]
    environment = os.environ | {"GPT_KERNELS": "matmul:magic", "PYTHONPATH": str(grade.LAB.parent)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    _progress, error = done.stderr.splitlines()
    assert error.startswith("GPT_KERNELS=matmul:magic: matmul:magic is none of the formulations")


@pytest.mark.parametrize("arguments, seed", [([], 4711), (["--seed", "5"], 5)])
def test_the_seed_can_come_where_no_other_user_sees_it(arguments, seed, tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("grader.grade.grade", lambda file, options: asked.append(options.seed) or judge(evidence()))
    monkeypatch.setenv("GRADER_SEED", "4711")
    main([*arguments, "--out", str(tmp_path)])
    assert asked == [seed] and "GRADER_SEED" not in os.environ  # so no submission inherits it


def test_without_a_sandbox_files_of_others_are_refused(tmp_path, capsys, monkeypatch):
    def forbidden(backend):
        raise sandbox.SandboxError("forbidden")

    monkeypatch.setattr(sandbox, "working", forbidden)
    (tmp_path / "parallel.py").write_text(GOOD)
    assert main([str(tmp_path / "parallel.py"), "--out", str(tmp_path)]) == 2
    assert "no sandbox works here" in capsys.readouterr().err


def test_the_reference_on_the_tiny_models(tmp_path, capsys):
    code = main(["--stages", "tokens", "--out", str(tmp_path)])
    out, err = capsys.readouterr()
    assert code == 1 and "60 of 100 points" in out, out
    assert "hidden cases" in err
    validate(json.loads((tmp_path / "results.json").read_text()), GRADESCOPE)


# ------------------------------------------------------------------------------------------- stages, one after another


def test_stages_can_follow_one_another(tmp_path, box):
    """Tokens first; timing later, perhaps elsewhere, with what was found before and rounds of an earlier time."""
    path = tmp_path / "parallel.py"
    path.write_text(BASE.read_text())
    quick = grade.Options(sandbox=box, stages=("tokens",), sets=[public_cases(tmp_path)])
    first = grade.grade(path, quick)
    evidence = pickle.loads(pickle.dumps(first.evidence))
    recorded = timings.named("reference")
    later = grade.grade(path, replace(quick, stages=("timing",), recorded=recorded), evidence)
    rows = {row.name: row for row in later.rows}
    assert rows["public"].status == rows["threads-2"].status == PASSED
    path.write_text(BASE.read_text() + "\n# another file\n")
    other = grade.grade(path, replace(quick, stages=("timing",), recorded=recorded), evidence)
    assert {row.name: row.status for row in other.rows}["public"] != PASSED
