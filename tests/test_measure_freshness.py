"""Results are used for what they were made from, and for nothing else."""

import json
import os
import re
import time
from dataclasses import replace
from pathlib import Path

import pytest

from lab.command import OutputLost
from lab.files import write_json
from lab.measure import bench, freshness, plots, report, runner, scale
from lab.measure.freshness import about, why_stale

PROGRAM = "from lab.serial import *\n\ndef generate(model, prompt, n, workers):\n    yield 0\n"


@pytest.fixture
def mine(tmp_path) -> Path:
    """A student's file."""
    path = tmp_path / "parallel.py"
    path.write_text(PROGRAM)
    return path


@pytest.fixture
def program(mine, tiny) -> runner.Program:
    """It, on a model."""
    return runner.choose_program(str(mine), str(tiny), 20, workers=2)


def test_results_are_fresh_until_something_changes(program, mine, tmp_path):
    path = write_json(tmp_path / "x.json", {"about": about(program)})
    assert why_stale(path, program) == ""
    assert why_stale(path, replace(program, n=24)) == "measured with 20 tokens, not 24"
    assert why_stale(path, replace(program, n=24), any_n=True) == ""
    assert why_stale(path, replace(program, workers=3)) == "measured with 2 workers, not 3"
    assert why_stale(path, replace(program, prompt=program.prompt * 2)) == "measured with 3 tokens of prompt, not 6"
    other = tmp_path / "other.bin"
    other.write_bytes(program.model.read_bytes())
    assert why_stale(path, replace(program, model=other)) == f"measured with {program.model.stem}, not other"
    elsewhere = tmp_path / "elsewhere" / program.model.name
    elsewhere.parent.mkdir()
    elsewhere.write_bytes(b"another")
    assert why_stale(path, replace(program, model=elsewhere)) == f"measured with {program.model}, not {elsewhere}"
    mine.write_text(PROGRAM + "# better\n")
    assert why_stale(path, program) == "the program has changed since"


def test_a_model_of_the_same_name_is_another_one(program, tmp_path):
    model = tmp_path / "m.bin"
    model.write_bytes(program.model.read_bytes())
    program = replace(program, model=model)
    path = write_json(tmp_path / "x.json", {"about": about(program)})
    os.utime(model, ns=(1, 1))
    assert why_stale(path, program) == "the model has changed since"


def test_another_day_another_machine(program, tmp_path, monkeypatch):
    path = write_json(tmp_path / "x.json", {"about": about(program)})
    later = time.time() + freshness.OLDEST + 60
    monkeypatch.setattr(freshness.time, "time", lambda: later)
    assert why_stale(path, program) == "measured more than a day ago"
    monkeypatch.setattr(freshness, "summary", lambda: "another")
    assert why_stale(path, program) == "measured on another machine"


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"about": 3}', '{"about": {"n": 20}}', "\0"])
def test_a_file_that_does_not_say_what_it_is_of_is_not_used(program, tmp_path, text):
    (tmp_path / "x.json").write_text(text)
    assert why_stale(tmp_path / "x.json", program) == "does not say what it was measured with"
    assert why_stale(tmp_path / "nosuch.json", program) == "missing"


def test_a_report_measures_what_is_stale_and_keeps_the_rest(program, mine, tmp_path, monkeypatch, capsys):
    made = []

    def command(name):
        def run(arguments):
            made.append(name)
            return 0

        return run

    parts = report.needed(program, tmp_path)
    names = [part.file.name for part in parts]
    assert names == [f"{name}.json" for name in ("parallel.profile", "serial.profile", "parallel.timeline",
                                                 "parallel.scale", "parallel.plots")]  # fmt: skip
    drawing = command("parallel.plots.json")
    monkeypatch.setattr(plots, "main", drawing)
    commands = {name: command(name) for name in names[:-1]} | {names[-1]: drawing}
    fake = [part._replace(command=commands[part.file.name]) for part in parts]
    monkeypatch.setattr(report, "needed", lambda program, out: fake)

    for part in parts:
        write_json(part.file, {"about": about(part.program)})
    report.make_missing(program, tmp_path, False, [])
    assert made == [] and capsys.readouterr().err == ""
    report.make_missing(program, tmp_path, True, [])
    assert made == names
    made.clear()
    (tmp_path / "parallel.timeline.json").unlink()
    report.make_missing(program, tmp_path, False, [])
    assert made == ["parallel.timeline.json", "parallel.plots.json"]
    assert capsys.readouterr().err.endswith("parallel.timeline.json: missing; measuring ...\n")
    made.clear()
    mine.write_text(PROGRAM + "# changed\n")
    report.make_missing(program, tmp_path, False, [])
    assert made == [name for name in names if name != "serial.profile.json"]
    assert capsys.readouterr().err.count("the program has changed since; measuring ...") == 3  # and one is missing


def test_bench_and_scale_take_the_same_job_unless_told_otherwise(called):
    helps = [" ".join(called(command.main, "--help").stdout.split()) for command in (bench, scale)]
    jobs = [re.findall(r"tokens (?:of the prompt|in all) \((.+?)\)", text) for text in helps]
    assert jobs[0] == jobs[1] and len(jobs[0]) == 2


def test_bench_counts_for_the_same_program_and_job_only(program, mine):
    prediction = {"model": "m", "n": 20}
    bench = {"model": "m.bin", "n": 20, "prompt_length": 3, "digests": {"parallel": freshness.digest(str(mine))}}
    assert plots.is_of(bench, program, prediction)
    assert not plots.is_of(bench | {"n": 24}, program, prediction)
    assert not plots.is_of(bench | {"prompt_length": 4}, program, prediction)
    assert not plots.is_of(bench | {"model": "other.bin"}, program, prediction)
    assert not plots.is_of({"model": "m.bin", "n": 20, "prompt_length": 3}, program, prediction)
    assert not plots.is_of({"model": 5}, program, prediction) and not plots.is_of([1], program, prediction)
    mine.write_text(PROGRAM + "# changed\n")
    assert not plots.is_of(bench, program, prediction)


def test_the_digest_of_cached_covers_what_it_imports(monkeypatch, tmp_path):
    (tmp_path / "lab").mkdir()
    for name in ("cached", "parallel"):
        (tmp_path / "lab" / f"{name}.py").write_text(name)
    monkeypatch.setattr(freshness, "ROOT", tmp_path)
    before = freshness.digest("cached"), freshness.digest("parallel")
    (tmp_path / "lab" / "parallel.py").write_text(json.dumps("other"))
    assert before[0] != freshness.digest("cached") and before[1] != freshness.digest("parallel")


def test_an_output_that_nobody_reads_is_no_fault_of_the_results():
    with pytest.raises(OutputLost), freshness.as_written(Path("ladder.json"), "measure again"):
        raise OutputLost
