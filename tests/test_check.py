"""lab.check against its zoo: every wrong program is found, by its real cause and line; no right one raises anything."""

import json
import os
import re
import subprocess
import sys
import textwrap
import time
from functools import partial
from pathlib import Path

import pytest

from lab import machine, serial
from lab.check import api, explore, tiny
from lab.check.program import Program
from lab.check.report import Findings, ProgramError
from lab.check.schedule import EXPRESSIONS, PRIMITIVES, ROUNDS, STATEMENTS, Setting, parse_schedule
from lab.check.strategies import Default, RandomWalk, seeded

sys.path.insert(0, str(Path(__file__).parent / "zoo"))
from variants import VARIANTS

ZOO = Path(__file__).parent / "zoo"
ROOT = Path(__file__).parent.parent
WRONG = sorted((ZOO / "wrong").glob("*.py"))
RIGHT = sorted((ZOO / "right").glob("*.py"))
EXPECTED = [
    pytest.param(path, tool, kind, says, id=f"{path.stem}-{tool}")
    for path in WRONG
    for tool, kind, says in re.findall(r"# EXPECT (\w+) (\w+): (.*)", path.read_text())
]
LOCK_ORDER_ONLY = (
    "philosophers_with_a_waiter",
)  # right thanks to a semaphore, which says nothing about the order of mutexes


def bug_lines(name: str, source: str) -> list[str]:
    """The places marked # BUG."""
    return [f"{name}:{number}" for number, line in enumerate(source.splitlines(), 1) if "# BUG" in line]


def names_cause(result: Findings, kind: str, says: str, places: list[str]) -> bool:
    """Is there a finding of this kind that says this and names one of the places?"""
    for finding in result.findings:
        text = finding.text() + " " + " ".join(finding.where)
        if finding.kind == kind and says in text and any(re.search(re.escape(place) + r"\b", text) for place in places):
            return True
    return False


def write(path: Path, text: str) -> Path:
    """A program with the usual import."""
    path.write_text("from lab.threadlib import Cond, Mutex, Semaphore, join, spawn\n" + textwrap.dedent(text))
    return path


def command(*arguments: str, **environment: str) -> subprocess.CompletedProcess:
    """Run python -m lab.check."""
    return subprocess.run(
        [sys.executable, "-m", "lab.check", *arguments],
        cwd=ROOT,
        env=os.environ | environment,
        capture_output=True,
        text=True,
        timeout=100,
    )


# -------------------------------------------------------------------------------------------------------------- the zoo


def test_zoo_is_large_enough():
    assert len(WRONG) >= 20
    assert len(RIGHT) >= 10
    assert len(VARIANTS) >= 10
    assert all("# EXPECT" in path.read_text() and "# BUG" in path.read_text() for path in WRONG)


@pytest.mark.parametrize(("path", "tool", "kind", "says"), EXPECTED)
def test_wrong_program_is_found(path: Path, tool: str, kind: str, says: str):
    if tool == "explore":
        result = api.explore_submission(path, schedules=2000, races=False)
    elif tool == "races":
        result = api.check_races(path, schedules=30)
    else:
        result = api.run_checked(path)
    assert result.schedules <= 2000
    assert names_cause(result, kind, says, bug_lines(path.name, path.read_text())), [f.text() for f in result.findings]


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
def test_wrong_submission_is_found(variant, tmp_path: Path):
    path = tmp_path / f"{variant.name}.py"
    path.write_text(variant.source())
    if variant.tool == "explore":
        result = api.explore_submission(path, schedules=2000, races=False)
    else:
        result = api.check_races(path, schedules=16)
    places = bug_lines(path.name, path.read_text())
    assert names_cause(result, variant.kind, variant.says, places), [f.text() for f in result.findings]


def test_what_is_left_over_from_an_earlier_prompt_is_found(tmp_path: Path):
    program = tmp_path / "stale.py"
    kept = "for t in range(len(prompt), n):\n            "
    source = (ZOO / "right" / "submission.py").read_text().replace(kept, kept + "if t not in KEPT:\n                ")
    source = source.replace(
        "tokens[0, t] = sample_mult(model.acts.probs[0, t - 1],",
        "KEPT.setdefault(t, model.acts.probs[0, t - 1].copy())\n            tokens[0, t] = sample_mult(KEPT[t],",
    )
    program.write_text("KEPT = {}\n" + source)
    assert api.explore_submission(program, schedules=40, races=False).findings[0].kind == "tokens"


def test_what_is_left_behind_the_end_of_a_shorter_prompt_is_found(tmp_path: Path):
    program = tmp_path / "scratch.py"
    source = (ZOO / "right" / "submission.py").read_text()
    own = "weights = np.exp(scores - scores.max())\n                weights /= weights.sum()"
    assert own in source
    kept = "SCRATCH[h, : t + 1] = np.exp(scores - scores.max())\n"
    kept += "                weights = SCRATCH[h, : t + 1] / SCRATCH[h].sum()"
    program.write_text(source.replace(own, kept) + "\n\nSCRATCH = np.zeros((3, 8), np.float32)\n")
    assert api.explore_submission(program, schedules=40, races=False).findings[0].kind == "tokens"


def test_a_part_that_is_missing_because_its_worker_had_no_turn_is_told_as_that(tmp_path: Path):
    program = tmp_path / "one_for_all.py"
    source = (ZOO / "right" / "submission.py").read_text()
    each = "[Semaphore(0) for _ in range(k)]"
    assert each in source
    program.write_text(source.replace(each, "[Semaphore(0)] * k"))
    finding = api.explore_submission(program, schedules=4, races=False).findings[0]
    assert finding.kind == "tokens" and "worker-2 had not begun" in finding.detail


def test_a_submission_that_is_wrong_at_once_is_still_looked_at_for_races(tmp_path: Path):
    variant = next(one for one in VARIANTS if one.name == "reads_before_the_workers_are_done")
    program = tmp_path / "wrong.py"
    program.write_text(variant.source())
    kinds = [finding.kind for finding in api.explore_submission(program, schedules=8).findings]
    assert kinds[0] == "tokens" and "race" in kinds


@pytest.mark.parametrize("path", RIGHT, ids=lambda path: path.stem)
def test_right_program_raises_nothing(path: Path):
    result = api.explore_submission(path, schedules=40 if path.stem == "submission" else 200)
    assert result.ok, [finding.text() for finding in result.findings]
    assert "not a proof" in result.notes[-1]
    if path.stem not in LOCK_ORDER_ONLY:
        assert api.run_checked(path).ok


@pytest.mark.parametrize("workers", [1, 2, 3, 4])
def test_parallel_raises_nothing(workers: int):
    assert api.explore_submission("lab.parallel", schedules=30, workers=workers).ok
    assert api.run_checked("lab.parallel", workers=workers, repeats=1).ok


# ---------------------------------------------------------------------------------------------------------- determinism


@pytest.mark.parametrize("name", ["ab_ba", "lost_update", "philosophers", "if_instead_of_while"])
def test_replay_is_identical_a_hundred_times(name: str):
    path = ZOO / "wrong" / f"{name}.py"
    found = api.explore_submission(path, races=False).findings[0]
    seen = set()
    for _ in range(100):
        again = api.replay(path, found.schedule).findings[0]
        seen.add((again.kind, again.text(), tuple(again.where), again.schedule, tuple(again.trace)))
    assert seen == {(found.kind, found.text(), tuple(found.where), found.schedule, tuple(found.trace))}


def test_same_findings_whatever_the_hash_seed(tmp_path: Path):
    submission = tmp_path / "submission.py"
    submission.write_text(next(v for v in VARIANTS if v.name == "waits_for_the_wrong_semaphore").source())
    for program in (str(ZOO / "wrong" / "one_cond_two_predicates.py"), str(submission)):
        seen = set()
        for seed in ("0", "1", "4242"):
            run = command("explore", program, "--schedules", "60", "--json", PYTHONHASHSEED=seed)
            assert run.returncode == 4
            seen.add(json.dumps(json.loads(run.stdout)["findings"]))
        assert len(seen) == 1


def test_random_numbers_are_the_same_everywhere():
    # Python promises this for random() only: if these numbers change, schedules found earlier mean something else
    assert [int(seeded(1, 7).random() * 1000), int(seeded(2, 0).random() * 1000)] == [245, 428]


def test_known_schedule_fails_as_it_did_when_it_was_written_down():
    result = api.replay(ZOO / "wrong" / "ab_ba.py", "k3:4=2")
    assert [finding.kind for finding in result.findings] == ["deadlock"]
    assert "worker-1 waits for mutex b (ab_ba.py:13), held by worker-2 since ab_ba.py:19" in result.findings[0].message


def test_schedule_of_another_program_is_noticed():
    result = api.replay(ZOO / "right" / "counter.py", "k3:1=0,2=9")
    assert result.ok
    assert "another version of the program" in result.notes[0]


@pytest.mark.parametrize("text", ["", "12", "k0:", "k3:1", "k3:1=2,", "k3c99:1=2", "k3:1=2;rm"])
def test_what_is_not_a_schedule_is_refused(text: str):
    with pytest.raises(ProgramError, match="is not a schedule"):
        parse_schedule(text)


def test_schedule_strings_can_be_read_back():
    for level, mark in ((PRIMITIVES, ""), (STATEMENTS, "s"), (EXPRESSIONS, "x"), (ROUNDS, "r")):
        setting = Setting(4, 2, level, True)
        text = setting.string([(3, 1), (17, 0)])
        assert text == f"v2k4c2{mark}w:3=1,17=0"
        assert parse_schedule(text) == (setting, [(3, 1), (17, 0)])


def test_schedule_of_an_earlier_format_is_read_and_one_of_a_later_is_not():
    assert parse_schedule("k4c2sw:3=1") == (Setting(4, 2, STATEMENTS, True), [(3, 1)])
    with pytest.raises(ProgramError, match="later version"):
        parse_schedule("v3k3:1=2")
    result = api.replay(ZOO / "right" / "counter.py", "k3:1=2")
    assert any("format 1" in note for note in result.notes)


# ------------------------------------------------------------------------------------------------------------ exploring


def test_shrinking_leaves_the_fewest_preemptions():
    found = {
        name: api.explore_submission(ZOO / "wrong" / f"{name}.py", races=False).findings[0]
        for name in ("ab_ba", "lost_update")
    }
    assert found["ab_ba"].preemptions == 1
    assert found["lost_update"].preemptions == 1
    assert len(found["ab_ba"].trace) < 12


def test_exhaustive_search_ends_and_says_what_it_covered(tmp_path: Path):
    program = write(
        tmp_path / "two.py",
        """
        m = Mutex()

        def work(number):
            with m:
                pass

        def main():
            spawn(work)
            spawn(work)
            join()
        """,
    )
    result = api.explore_submission(program, schedules=5000, strategy="exhaustive", races=False)
    assert result.ok
    assert result.schedules == result.distinct == 13  # 2 without preemption, 5 with one, 6 with two: counted by hand
    assert any("all schedules with at most 2 preemptions" in note for note in result.notes)


def test_exhaustive_search_finds_the_deadlock():
    result = api.explore_submission(ZOO / "wrong" / "ab_ba.py", strategy="exhaustive", races=False)
    assert result.findings[0].kind == "deadlock"


@pytest.mark.parametrize("strategy", ["random", "pct"])
def test_each_strategy_alone_finds_the_classics(strategy: str):
    for name in ("ab_ba", "lost_wakeup", "if_instead_of_while", "one_cond_two_predicates"):
        result = api.explore_submission(ZOO / "wrong" / f"{name}.py", strategy=strategy, races=False)
        assert not result.ok, name


def test_a_run_leaves_no_thread_behind():
    import threading

    program = Program(ZOO / "wrong" / "ab_ba.py")
    explorer = explore.Explorer(program)
    setting = Setting(3)
    explorer.run(RandomWalk(seeded(1, 0)), setting)
    before = threading.active_count()
    for index in range(200):
        explorer.run(RandomWalk(seeded(1, index)), setting)
    assert threading.active_count() <= before + 1


def test_threads_that_swallow_everything_are_left_behind(tmp_path: Path):
    program = write(
        tmp_path / "stubborn.py",
        """
        s = Semaphore(0)

        def work(number):
            while True:
                try:
                    s.P()
                except BaseException:
                    pass

        def main():
            spawn(work)
            join()
        """,
    )
    result = api.explore_submission(program, schedules=20, races=False)
    assert result.findings[0].kind == "deadlock"


def test_sleeping_takes_no_time_and_lets_others_run(tmp_path: Path):
    program = write(
        tmp_path / "sleepy.py",
        """
        import time
        done = False

        def work(number):
            global done
            time.sleep(1000)
            done = True

        def main():
            spawn(work)
            while not done:
                time.sleep(1000)
            join()
        """,
    )
    assert api.explore_submission(program, schedules=50, races=False).ok


def test_spurious_wakeups_belong_to_the_mix(tmp_path: Path):
    program = write(
        tmp_path / "trusting.py",
        """
        m, c = Mutex(), Cond()
        ready = False

        def work(number):
            global ready
            with m:
                ready = True
                c.signal()

        def main():
            with m:
                spawn(work)
                if not ready:
                    c.wait(m)
                assert ready, "woke for no reason"
            join()
        """,
    )
    assert explore.explore(Program(program), plan=explore.Plan(300, races=False, spurious="never")).ok
    result = explore.explore(Program(program), plan=explore.Plan(300, races=False))
    assert result.findings[0].kind == "assertion"
    assert "ended without a signal" in result.findings[0].message
    assert "is in an if" in result.findings[0].detail
    assert api.replay(program, result.findings[0].schedule).findings[0].kind == "assertion"


def test_program_without_threads_is_not_explored_for_long():
    result = api.explore_submission("lab.serial", schedules=5)  # generate() without workers: an exception, told as such
    assert result.findings[0].kind == "exception"
    assert "takes" in result.findings[0].message


def test_tiny_model_is_sensitive_and_has_a_margin():
    import numpy as np

    for case in (one for whole in tiny.CASES for one in whole.runs()):
        expected = tiny.expected(case)
        for index, activations in enumerate(expected.activations):
            row = activations["probs"][0, len(case.prompt) - 1 + index, : tiny.CONFIG.vocab_size]
            assert np.abs(np.cumsum(row.astype(np.float64)) - 0.5).min() > 1e-4


def test_default_schedule_is_the_same_run_every_time():
    explorer = explore.Explorer(Program("lab.parallel"))
    runs = [explorer.run(Default(), Setting(3)) for _ in range(2)]
    assert runs[0].scheduler.steps == runs[1].scheduler.steps
    assert runs[0].tokens == runs[1].tokens == [list(tiny.expected(tiny.CASES[0]).tokens)]


# ------------------------------------------------------------------------------------------------------------- refusing


@pytest.mark.parametrize(
    "line",
    [
        "import threading",
        "from queue import Queue",
        "import multiprocessing.pool",
        "from concurrent.futures import ThreadPoolExecutor",
        "import concurrent.futures as cf",
        "import _thread",
        "import asyncio",
        "t = __import__('threading')",
    ],
)
def test_other_threads_are_refused_with_the_reason(line: str, tmp_path: Path):
    program = tmp_path / "other.py"
    program.write_text(f"import lab\n{line}\n\ndef main():\n    pass\n")
    for result in (
        api.scan(program),
        api.explore_submission(program),
        api.check_races(program),
        api.run_checked(program),
    ):
        assert result.exit_code == 2
        assert result.findings[0].kind == "refused"
        assert "other.py:2" in result.findings[0].message
        assert "cannot see its threads and locks" in result.findings[0].message


@pytest.mark.parametrize("deep", ["1+" * 300_000, "-" * 50_000], ids=["plus", "minus"])
def test_a_program_that_is_nested_too_deeply_is_refused(deep: str, tmp_path: Path):
    (tmp_path / "deep.py").write_text(f"def main():\n    pass\n\nx = {deep}1\n")
    with pytest.raises(ProgramError, match=r"deep.py(:4)?: ."):
        Program(tmp_path / "deep.py")


def test_command_refuses_in_one_line(checker, tmp_path: Path):
    program = tmp_path / "other.py"
    program.write_text("import threading\n\ndef main():\n    pass\n")
    run = checker("explore", str(program))
    assert run.returncode == 2
    assert len(run.stderr.splitlines()) == 1
    assert "cannot be explored, because" in run.stderr


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "no such file"),
        ("def main(:\n", ":1: "),
        ("x = 1\n", "has neither generate(model, prompt, n, workers) nor main()"),
    ],
)
def test_what_is_no_program_gets_one_line(checker, text: str | None, says: str, tmp_path: Path):
    program = tmp_path / "bad.py"
    if text is not None:
        program.write_text(text)
    run = checker("races", str(program))
    assert run.returncode == 2
    assert says in run.stderr
    assert len(run.stderr.splitlines()) == 1


# ----------------------------------------------------------------------------------------------------- the command line


def test_asserts_count_however_python_was_started(tmp_path: Path):
    (tmp_path / "wrong.py").write_text("def main():\n    assert 1 + 1 == 3\n")
    words = [sys.executable, "-O", "-m", "lab.check", "explore", str(tmp_path / "wrong.py"), "--schedules", "2"]
    run = subprocess.run(words, capture_output=True, text=True)
    assert run.returncode == 4 and "1 + 1 == 3" in run.stdout, run.stdout + run.stderr


def test_explore_replay_and_picture(checker, tmp_path: Path):
    program = str(ZOO / "wrong" / "ab_ba.py")
    run = checker("explore", program)
    assert run.returncode == 4
    assert run.stdout.startswith(f"{program}\ndeadlock: ")
    schedule = re.search(r"--replay (\S+)", run.stdout)[1]
    picture = tmp_path / "failure.svg"
    again = checker("explore", program, "--replay", schedule, "--picture", str(picture))
    assert again.returncode == 4
    assert again.stdout.splitlines()[0] == run.stdout.splitlines()[0]
    svg = picture.read_text()
    assert svg.startswith("<svg")
    assert "worker-2" in svg


def test_a_command_follows_what_was_explored_in_the_same_process(checker):
    """Its own process, forked from this one, has none of the threads that are kept here for the next run."""
    api.explore_submission(ZOO / "wrong" / "ab_ba.py", schedules=20)
    assert checker("explore", ZOO / "wrong" / "ab_ba.py").stdout.splitlines()[1].startswith("deadlock: ")


def test_json_can_be_read_back(checker):
    run = checker("races", str(ZOO / "wrong" / "overlapping_slices.py"), "--json", "--schedules", "4")
    printed = json.loads(run.stdout)
    result = Findings.from_json(printed)
    assert run.returncode == 4 == result.exit_code and result.to_json() == printed
    first = result.findings[0]
    assert first.kind == "race"
    assert re.search(r"out\[4, :\] written by worker \d at overlapping_slices.py:16 and worker \d", first.message)


def test_clean_program_exits_with_0(checker):
    run = checker("explore", str(ZOO / "right" / "counter.py"), "--schedules", "20")
    assert run.returncode == 0
    assert "20 schedules" in run.stdout or "distinct" in run.stdout


# --------------------------------------------------------------------------------------------------------- checked mode


def run_as_it_is(path: Path, folder: Path) -> subprocess.CompletedProcess:
    """Run a program of the zoo in checked mode, with a last line that calls its main()."""
    program = folder / path.name
    program.write_text(path.read_text() + "\nmain()\n")
    return command("run", str(program))


@pytest.mark.parametrize(("name", "says"), [("nowhere.py", "nowhere.py: no such file"), ("lab.nowhere", "neither")])
def test_run_says_in_one_line_that_there_is_no_such_program(name: str, says: str):
    run = command("run", name)
    assert run.returncode == 2 and says in run.stderr and run.stderr.count("\n") == 1


def test_run_gives_a_command_its_arguments_and_its_exit_code():
    run = command("run", "lab.gpt", "--engine", "parallel", "--no-such-option")
    assert run.returncode == 2 and "--no-such-option" in run.stderr and run.stderr.startswith("gpt: ")
    assert command("run", "lab.gpt", "--help").returncode == 0


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("semaphore_zero", "deadlock: "),
        ("ab_ba", "order: "),
        ("missing_unlock", "has ended with mutex, locked at missing_unlock.py:11"),
        ("never_joined", "without joining worker-1"),
    ],
)
def test_checked_mode_in_any_program(name: str, says: str, tmp_path: Path):
    run = run_as_it_is(ZOO / "wrong" / f"{name}.py", tmp_path)
    assert run.returncode == 4
    assert says in run.stderr
    assert "Traceback" not in run.stderr


def test_checked_mode_knows_a_thread_that_is_joined_while_it_is_started(monkeypatch):
    """main joins all there are while boss is still inside spawn()."""
    monkeypatch.setattr(machine, "bind", lambda threads: time.sleep(0.05))
    result = api.run_checked(ZOO / "wrong" / "joins_what_waits_for_it.py")
    assert [finding.kind for finding in result.findings] == ["deadlock"]


def test_checked_mode_lets_right_programs_end(tmp_path: Path):
    run = run_as_it_is(ZOO / "right" / "queue_of_tasks.py", tmp_path)
    assert (run.returncode, run.stderr) == (0, "")


def test_run_shows_the_traceback_of_the_program_alone(tmp_path: Path):
    run = run_as_it_is(ZOO / "wrong" / "ids_from_one.py", tmp_path)
    files = re.findall('File "(.*?)"', run.stderr)
    assert run.returncode == 1 and "IndexError" in run.stderr and set(files) == {str(tmp_path / "ids_from_one.py")}
    run = run_as_it_is(ZOO / "wrong" / "worker_without_parameter.py", tmp_path)
    assert "in worker-1, spawned at worker_without_parameter.py:13" in run.stderr


def test_run_says_that_nothing_was_checked():
    run = command("run", str(ZOO / "right" / "counter.py"))  # which nobody has told to call main()
    assert (run.returncode, run.stderr) == (0, "checked mode: no thread was started, so nothing was checked\n")


@pytest.mark.parametrize("name", ["queue_of_tasks", "bounded_buffer", "gate", "ring_of_one_producer"])
def test_checked_mode_raises_no_alarm_when_threads_are_switched_all_the_time(name: str):
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # a thread that has been woken often stands still before its next instruction
    try:
        result = api.run_checked(ZOO / "right" / f"{name}.py", repeats=250)
    finally:
        sys.setswitchinterval(interval)
    assert result.ok, [finding.text() for finding in result.findings]


def test_checked_mode_does_not_hang_on_a_program_that_never_ends():
    result = api.run_checked(ZOO / "wrong" / "spinning.py", seconds=0.5)
    assert result.findings[0].kind == "livelock"
    assert "worker-1 is at spinning.py:1" in result.findings[0].message


# -------------------------------------------------------------------------------------------------------- the documents


@pytest.mark.parametrize("name", ["ab_ba", "overlapping_slices"])
def test_documents_show_what_is_printed(name: str):
    tool = api.check_races if name == "overlapping_slices" else api.explore_submission
    message = tool(ZOO / "wrong" / f"{name}.py").findings[0].message
    texts = [" ".join((ROOT / "docs" / file).read_text().split()) for file in ("concurrency.md", "failures.md")]
    assert any(message in text for text in texts)


def test_documents_explain_every_kind():
    from lab.check.report import KINDS

    text = (ROOT / "docs" / "failures.md").read_text()
    assert all(kind in text for kind in KINDS if kind != "refused")


def test_tiny_model_notices_every_missing_part(monkeypatch: pytest.MonkeyPatch):
    import numpy as np

    from lab import serial

    matmul, attention = serial.matmul_forward, serial.attention_forward
    C, V = tiny.CONFIG.channels, tiny.CONFIG.vocab_size
    missing: tuple[int, int] = (-1, 0)  # which of the five products (5: attention), which output channel (head)
    count = 0

    def matmul_forward(out, *arguments):
        nonlocal count
        matmul(out, *arguments)
        if count % 5 == missing[0]:
            out[..., missing[1]] = 0
        count += 1

    def attention_forward(out, *arguments):
        attention(out, *arguments)
        if missing[0] == 5:
            out[..., 4 * missing[1] : 4 * missing[1] + 4] = 0

    def tokens() -> list[list[int]]:
        nonlocal count
        found, count = [], 0
        for case in tiny.CASES:
            model = tiny.fresh_model(np.zeros(tiny.acts_size(case.n), dtype=np.float32))
            found.append(list(serial.generate(model, list(case.prompt), case.n)))
        return found

    monkeypatch.setattr(serial, "matmul_forward", matmul_forward)
    monkeypatch.setattr(serial, "attention_forward", attention_forward)
    right = tokens()
    parts = [(product, channel) for product, size in enumerate((3 * C, C, 4 * C, C)) for channel in range(size)]
    for missing in [*parts, (4, V - 1), (5, 0), (5, 1), (5, 2)]:
        assert tokens() != right, missing


PATCHED = """
import lab.serial as serial

given, job, work, done = serial.attention_forward, [], Semaphore(0), Semaphore(0)


def attention_forward(*arguments):
    job[:] = arguments
    work.V()
    done.P()


def worker(number):
    while True:
        work.P()
        if not job:
            return
        given(*job)
        job.clear()
        done.V()


serial.attention_forward = attention_forward


def generate(model, prompt, n, workers):
    thread = spawn(worker)
    try:
        yield from serial.generate(model, prompt, n)
    finally:
        work.V()
        join(thread)
"""


def test_functions_that_a_program_puts_into_serial_are_its_own(tmp_path):
    """They are there for one run, and what serial makes of a prompt is known before."""
    tiny.expected.cache_clear()
    given = serial.attention_forward
    for check in (partial(api.explore_submission, schedules=20), partial(api.run_checked, repeats=2)):
        found = check(write(tmp_path / "parallel.py", PATCHED), workers=1)
        assert found.findings == [] and serial.attention_forward is given
