"""The explorer beyond its zoo: time, fairness, limits, strategies, names, and programs that go wrong in other ways."""

import ast
import io
import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from rich.console import Console

from lab.check import api, explore, runner
from lab.check.explorer import Explorer
from lab.check.instrument import waits_outside_loops
from lab.check.picture import folded
from lab.check.program import Program
from lab.check.report import Finding, ProgramError, shortened, show_finding
from lab.check.schedule import EXPRESSIONS, PRIMITIVES, Setting
from lab.check.strategies import Default, PartialOrder, RandomWalk, Weighted, seeded

ZOO = Path(__file__).parent / "zoo"
ROOT = Path(__file__).parent.parent


def write(path: Path, text: str) -> Path:
    """A program with the usual imports."""
    path.write_text(
        "import itertools, os, sys, time\nfrom lab.threadlib import Cond, Mutex, Semaphore, join, spawn\n"
        + textwrap.dedent(text)
    )
    return path


def look(path: Path, **options) -> explore.Findings:
    """Explore it without the tracked runs."""
    return explore.explore(Program(path), plan=explore.Plan(**({"schedules": 200, "races": False} | options)))


def command(*arguments: str, python: str = sys.executable, timeout: float = 60.0) -> subprocess.CompletedProcess:
    """Run python -m lab.check."""
    words = [python, "-m", "lab.check", *arguments]
    return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=timeout)


# ---------------------------------------------------------------------------------------------------------------- time


def test_the_clock_passes_with_the_run_and_sleeping_costs_nothing(tmp_path: Path):
    program = write(
        tmp_path / "clock.py",
        """
        def main():
            begin = time.monotonic(), time.time(), time.perf_counter_ns()
            for _ in range(10):
                time.sleep(1000)
            assert time.monotonic() - begin[0] >= 10_000
            assert time.time() - begin[1] >= 10_000
            assert time.perf_counter_ns() - begin[2] >= 10_000 * 10**9
        """,
    )
    assert look(program, schedules=3).ok


def test_whoever_sleeps_longer_may_be_first_but_not_for_ever(tmp_path: Path):
    program = write(
        tmp_path / "order.py",
        """
        seen = []

        def work(number):
            time.sleep(number)
            seen.append(number)

        def main():
            spawn(work), spawn(work)
            join()
            assert seen == [1, 2], "sleeping ordered nothing"
        """,
    )
    assert "sleeping ordered nothing" in look(program).findings[0].message


def test_a_limit_in_time_is_reached_only_if_the_others_have_had_that_time(tmp_path: Path):
    text = """
        done = 0
        m = Mutex()

        def work(number):
            global done
            for _ in range({rounds}):
                with m:
                    done += 1
            if number == {stuck}:
                Semaphore(0).P()

        def main():
            end = time.monotonic() + 2
            workers = [spawn(work) for _ in range(2)]
            while True:
                with m:
                    if done == {wanted}:
                        break
                assert time.monotonic() < end, "too late"
                {pause}
            join()
        """
    for pause in ("time.sleep(0.01)", "pass"):
        right = write(tmp_path / "right.py", text.format(rounds=20, stuck=0, wanted=40, pause=pause))
        assert look(right, schedules=100).ok
    wrong = write(tmp_path / "wrong.py", text.format(rounds=20, stuck=0, wanted=41, pause="time.sleep(0.01)"))
    assert "too late" in look(wrong, schedules=5).findings[0].message


@pytest.mark.parametrize("clock", ["time.monotonic", "time.time", "time.perf_counter", "1e-9 * time.monotonic_ns"])
@pytest.mark.parametrize("body", ["pass", "with m:\n            if done: return"])
def test_waiting_for_the_end_of_a_time_without_sleeping_is_no_livelock(clock: str, body: str, tmp_path: Path):
    program = write(
        tmp_path / "polls.py",
        f"""
m, done = Mutex(), []

def work(number):
    now = lambda: {clock}()
    end = now() + 3600
    while now() < end:
        {body}

def main():
    join(spawn(work))
""",
    )
    assert look(program, schedules=3).ok
    assert api.check_races(program, schedules=3).ok


# ------------------------------------------------------------------------------------------------------------ fairness


@pytest.mark.parametrize(
    "poll",
    [
        "while not done: pass",
        "for _ in itertools.count():\n        if done: break",
        "any(done for _ in itertools.count() if done)",
        "next(1 for _ in itertools.count() if done)",
        "while True:\n        with m:\n            if done: break",
        "for _ in itertools.repeat(0):\n        with m:\n            if done: break",
    ],
)
@pytest.mark.parametrize("strategy", ["mix", "pct", "exhaustive"])
def test_polling_ends_when_what_it_polls_for_comes(poll: str, strategy: str, tmp_path: Path):
    program = write(
        tmp_path / "poll.py",
        f"""
done = []
m = Mutex()

def work(number):
    {poll}

def main():
    spawn(work)
    with m:
        done.append(1)
    join()
""",
    )
    assert look(program, schedules=40, strategy=strategy).ok


@pytest.mark.parametrize("strategy", ["weighted", "pos"])
def test_one_that_is_held_back_gets_its_turn_when_all_others_only_wait_for_it(strategy: str, tmp_path: Path):
    program = write(
        tmp_path / "held_back.py",
        """
        guard, done = Mutex(), 0

        def work(number):
            global done
            with guard:
                done += 1

        def main():
            for _ in range(3):
                spawn(work)
            while done < 3:
                pass
            join()
        """,
    )
    assert look(program, schedules=60, strategy=strategy).ok


def test_many_rounds_are_no_livelock(tmp_path: Path):
    program = write(
        tmp_path / "many.py",
        """
        m = Mutex()
        count = 0

        def work(number):
            global count
            total = 0
            while total < 100_000:
                total += 1
            for _ in range(6_000):
                with m:
                    count += 1

        def main():
            for _ in range(3):
                spawn(work)
            join()
            assert count == 18_000
        """,
    )
    assert look(program, schedules=2).ok


def test_endless_polling_under_a_mutex_is_a_livelock(tmp_path: Path):
    program = write(
        tmp_path / "never.py",
        """
        m = Mutex()

        def main():
            while True:
                with m:
                    pass
        """,
    )
    result = look(program, schedules=1)
    assert result.findings[0].kind == "livelock"
    assert re.search(r"main loops at never.py:\d", result.findings[0].message)
    assert any(" times)" in line for line in result.findings[0].trace)


# -------------------------------------------------------------------------------------------------------------- limits


def test_the_time_is_kept_whatever_the_program_does(checker):
    run = checker(
        "explore", str(ZOO / "right" / "philosophers_in_order.py"), "--seconds", "1.5", "--schedules", "999999"
    )
    assert run.returncode == 0
    seconds = float(re.search(r"([\d.]+) s \(", run.stdout)[1])
    assert seconds < 5


def test_a_call_that_never_returns_is_told_in_time(tmp_path: Path):
    program = write(
        tmp_path / "c.py",
        """
        def work(number):
            sum(itertools.count())

        def main():
            spawn(work)
            join()
        """,
    )
    quick = "import sys; from lab.check import __main__, supervise; supervise.GRACE = 2.0; sys.exit(__main__.main())"
    words = [sys.executable, "-c", quick, "explore", str(program), "--seconds", "0.5", "--json"]
    run = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=60)
    (finding,) = json.loads(run.stdout)["findings"]
    assert (run.returncode, finding["kind"]) == (4, "livelock")
    assert "c.py:5" in finding["where"]


def test_a_program_that_takes_the_process_with_it_is_told(checker, tmp_path: Path):
    program = write(tmp_path / "kill.py", "def main():\n    os.kill(os.getpid(), 9)\n")
    run = checker("races", str(program))
    assert run.returncode == 4
    assert "SIGKILL" in run.stdout


def test_threads_that_wait_alike_are_told_together(tmp_path: Path):
    program = """
        start = Semaphore(0)
        def main():
            for _ in range(3):
                spawn(lambda number: start.P())
            join()
    """
    said = look(write(tmp_path / "alike.py", program)).findings[0].message
    assert "worker-1, worker-2 and worker-3 wait in P(semaphore start) (alike.py:7) and no thread" in said
    assert "main waits for the end of worker-1, worker-2 and worker-3 (alike.py:8)" in said


def test_a_search_that_finds_nothing_new_stops_early_and_says_so(tmp_path: Path):
    program = write(tmp_path / "two.py", "def main():\n    spawn(lambda number: None)\n    join()\n")
    result = look(program, schedules=5000)
    assert result.ok and result.schedules < 1000
    assert any("stopped early" in note for note in result.notes)
    assert look(program, schedules=1500, stop_early=False).schedules == 1500


def test_progress_is_told(tmp_path: Path):
    calls = []
    look(ZOO / "right" / "counter.py", schedules=20, progress=lambda *state: calls.append(state[0].schedules))
    assert calls == list(range(1, 21))


def test_progress_is_told_of_tracked_schedules_too():
    calls = []
    told = lambda found, most, deadline: calls.append((found.schedules, most))  # noqa: E731
    explore.races(Program(ZOO / "right" / "counter.py"), schedules=5, progress=told)
    assert calls == [(n, 5) for n in range(1, 6)]
    calls.clear()
    explore.explore(Program(ZOO / "right" / "counter.py"), plan=explore.Plan(schedules=3, progress=told))
    assert calls == [(n, 3) for n in range(1, 7)]  # those of the race detector come first


# ---------------------------------------------------------------------------------------------------------- strategies


@pytest.mark.parametrize("strategy", ["pos", "weighted"])
def test_new_strategies_find_the_classics_alone(strategy: str):
    for name in ("ab_ba", "lost_wakeup", "if_instead_of_while", "one_cond_two_predicates", "lost_update"):
        assert not look(ZOO / "wrong" / f"{name}.py", schedules=500, strategy=strategy).ok, name


def test_each_interleaving_of_one_object_is_as_probable_as_another(tmp_path: Path):
    program = write(
        tmp_path / "uneven.py",
        """
        m = Mutex()
        order = []

        def work(number):
            for _ in range(1 if number == 1 else 4):
                with m:
                    order.append(number)

        def main():
            spawn(work), spawn(work)
            join()
            raise KeyError(order.index(1))
        """,
    )
    explorer = Explorer(Program(program))
    counts = explore.Search(explorer, explore.Plan(), None).profile(0)
    found = [0] * 5
    for index in range(300):
        run = explorer.run(Weighted(seeded(1, index), counts), Setting(3))
        found[run.failure.exception.args[0]] += 1
    assert min(found) > 25, found  # 60 each; a random walk gives the last place one time in twenty or less


def test_partial_order_sampling_is_the_same_every_time():
    explorer = Explorer(Program(ZOO / "right" / "bounded_buffer.py"))
    runs = [explorer.run(PartialOrder(seeded(1, 5)), Setting(3)).scheduler.deviations for _ in range(2)]
    assert runs[0] == runs[1] != []


# ------------------------------------------------------------------------------------------------ inside one statement

INSIDE = [
    "q.pop() if q else None",
    "q and q.pop()",
    "[q.pop() for _ in range(1) if q]",
    "q.pop(len(q) - 1) if len(q) else 0",
    "q[len(q) - 1] if len(q) else 0, q.clear()",
]


@pytest.mark.parametrize("expression", INSIDE)
def test_threads_switch_inside_an_expression(expression: str, tmp_path: Path):
    program = write(
        tmp_path / "inside.py",
        f"""
q = [1]

def work(number):
    x = {expression}

def main():
    spawn(work), spawn(work)
    join()
""",
    )
    assert look(program, level="statements").ok
    result = look(program)
    assert result.findings[0].kind == "exception"
    assert "IndexError" in result.findings[0].message


@pytest.mark.parametrize(
    "expression",
    ["sum(v for v in table.values())", "[k for k in table]", "{k for k in table}", "{v: k for k, v in table.items()}"],
)
def test_threads_switch_between_the_rounds_of_a_comprehension(expression: str, tmp_path: Path):
    program = write(
        tmp_path / "rounds.py",
        f"""
table = {{0: 0, 1: 1}}

def fill(number):
    table[number + 1] = number

def work(number):
    {expression}

def main():
    spawn(fill), spawn(work)
    join()
""",
    )
    assert look(program, level="statements").ok
    (finding,) = look(program).findings
    assert "dictionary changed size during iteration" in finding.message
    assert "worker-2 was interrupted" in finding.message
    assert finding.schedule.startswith("v2k3r:")


def test_threads_switch_before_an_attribute_is_set_by_its_name(tmp_path: Path):
    program = write(
        tmp_path / "named.py",
        """
        class Count:
            n = 0

        def work(number):
            setattr(Count, "n", Count.n + 1)

        def main():
            join(spawn(work), spawn(work))
            assert Count.n == 2
        """,
    )
    assert look(program).findings[0].kind == "assertion"


def test_points_inside_expressions_do_not_move_those_at_statements():
    program = Program(ZOO / "wrong" / "deque_in_one_statement.py")
    inside = Explorer(program).run(Default(), Setting(3, 0, EXPRESSIONS)).scheduler
    assert inside.decisions > Explorer(program).run(Default(), Setting(3, 0, 1)).scheduler.decisions > 0
    assert "k3s:" in api.explore_submission(ZOO / "wrong" / "lost_update.py", races=False).findings[0].schedule


# --------------------------------------------------------------------------------------------------------------- names


@pytest.mark.parametrize(
    ("made", "used", "label"),
    [
        ("a, b = Mutex(), Mutex()", "b", "mutex b"),
        ("a = b = Mutex()", "a", "mutex a"),
        ("a: Mutex = Mutex()", "a", "mutex a"),
        ("forks = [Mutex() for _ in range(3)]", "forks[2]", "mutex forks[2]"),
        ("forks = [Mutex(), Mutex()]", "forks[1]", "mutex forks[1]"),
        ("forks = tuple(Mutex() for _ in range(2))", "forks[0]", "mutex forks[0]"),
        ("d = {'left': Mutex(), 'right': Mutex()}", "d['right']", "mutex d['right']"),
        ("d = {}\nd['x'] = Mutex()", "d['x']", "mutex d['x']"),
        ("many = []\nmany.append(Mutex())", "many[0]", "mutex many[0]"),
        ("class N:\n    def __init__(self): self.lock = Mutex()\nn = N()", "n.lock", "mutex lock"),
        ("class N:\n    def __init__(self, m): self.m = m\nn = N(m=Mutex())", "n.m", "mutex m"),
        (
            "from dataclasses import dataclass, field\n@dataclass\nclass N:\n    size: int = 3\n"
            "    one: Mutex = field(default_factory=Mutex)\n    two: Mutex = field(default_factory=Mutex)\nn = N()",
            "n.one",
            "mutex one",
        ),
        ("if (a := Mutex()): pass", "a", "mutex a"),
        ("a = Mutex('queue')", "a", "mutex queue"),
        ("a = None or Mutex()", "a", "mutex a"),
        ("def make(): return Mutex()\na = make()", "a", "the mutex made at names.py:3"),
    ],
)
def test_names_come_from_the_assignment(made: str, used: str, label: str, tmp_path: Path):
    program = write(tmp_path / "names.py", f"{made}\ndef main():\n    {used}.lock()\n    {used}.lock()\n")
    assert f"locks {label} again" in look(program, schedules=1).findings[0].message


# ------------------------------------------------------------------------------------------------------- setting it up


def test_a_program_finds_its_own_surroundings(tmp_path: Path):
    (tmp_path / "beside_it.py").write_text("from lab.threadlib import Mutex\nm = Mutex('beside')\ncount = [0]\n")
    program = write(
        tmp_path / "surroundings.py",
        """
        import random
        import beside_it

        def work(number):
            with beside_it.m:
                beside_it.count[0] += 1

        def main():
            assert sys.argv == [__file__]
            assert random.random() == random.Random(0).random()
            spawn(work), spawn(work)
            join()
            assert beside_it.count == [2]
            sys.exit(0)
        """,
    )
    before = sys.argv, sys.path[:]
    assert look(program, schedules=50).ok
    assert api.run_checked(program).ok
    assert (sys.argv, sys.path) == before
    assert "beside_it" not in sys.modules or api.run_checked(program).ok


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("import not_there_at_all\ndef main(): pass\n", "ModuleNotFoundError"),
        ("def main(): sys.exit('usage: x FILE')\n", "usage: x FILE"),
        ("1 / 0\ndef main(): pass\n", "ZeroDivisionError"),
    ],
)
def test_what_fails_before_any_thread_is_no_thread_error(text: str, says: str, tmp_path: Path):
    program = write(tmp_path / "early.py", text)
    for result in (look(program), api.check_races(program), api.run_checked(program)):
        assert result.exit_code == 2
        assert says in result.findings[0].message


def test_modules_beside_the_program_are_said_not_to_be_looked_into(tmp_path: Path):
    (tmp_path / "bank.py").write_text("balance = 0\ndef deposit(n):\n    global balance\n    balance += n or 1 / n\n")
    text = "import bank\ndef main(): join(spawn(lambda number: bank.deposit({})))\n"
    result = look(write(tmp_path / "mine.py", text.format(1)), schedules=5)
    assert result.ok and any(note.startswith("bank.py is run as it is") for note in result.notes)
    program = write(tmp_path / "mine.py", text.format(0))
    for result in (look(program), api.run_checked(program)):
        assert "ZeroDivisionError" in result.findings[0].message and " at bank.py:4: " in result.findings[0].message


def test_main_with_arguments_is_refused(tmp_path: Path):
    with pytest.raises(ProgramError, match="it needs argv"):
        Program(write(tmp_path / "main.py", "def main(argv, more=1): pass\n"))


@pytest.mark.parametrize("seconds", ["-1", "0", "soon", "inf", "nan"])
def test_a_time_that_is_none_is_refused(checker, seconds: str):
    run = checker("explore", "x.py", "--seconds", seconds)
    assert run.returncode == 2
    assert "is not a number of seconds" in run.stderr


def test_wrong_use_is_one_line(checker):
    for words in (["explore"], ["races", "x.py", "--workers", "0"], ["nosuch"], []):
        run = checker(*words)
        assert run.returncode == 2
        assert run.stdout == "" and run.stderr.count("\n") == 1, words


def test_output_may_be_cut_off():
    program = str(ZOO / "wrong" / "philosophers.py")
    run = subprocess.run(
        f"{sys.executable} -m lab.check explore {program} | head -n 1",
        shell=True,
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert len(run.stdout.splitlines()) == 1
    assert run.stderr == ""


def test_a_byte_order_mark_is_no_error(tmp_path: Path):
    program = tmp_path / "bom.py"
    program.write_bytes(b"\xef\xbb\xbf" + (ZOO / "wrong" / "ab_ba.py").read_bytes())
    assert "mutex b (bom.py:13)" in look(program).findings[0].message


def test_imports_of_a_script_part_do_not_run_and_are_not_refused(tmp_path):
    program = tmp_path / "timed.py"
    program.write_text("def main():\n    pass\n\n\nif __name__ == '__main__':\n    import threading\n")
    assert look(program).findings == []


def test_a_program_in_another_coding_that_it_names(tmp_path):
    program = tmp_path / "gbk.py"
    text = "# coding: gbk\nfrom lab.threadlib import Mutex\n\n\ndef main():\n    Mutex('锁').unlock()\n"
    program.write_bytes(text.encode("gbk"))
    assert "锁" in look(program).findings[0].message


# ----------------------------------------------------------------------------------------------------- seeing it again


def test_the_command_that_is_printed_works_from_elsewhere(tmp_path: Path):
    words = [sys.executable, "-m", "lab.check", "explore", str(ZOO / "wrong" / "ab_ba.py")]
    environment = {name: value for name, value in os.environ.items() if name != "VIRTUAL_ENV"} | {
        "PATH": "/usr/bin:/bin"
    }
    found = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
    printed = re.search(r"again, step by step in a browser: (.*)", found.stdout)[1]
    again = subprocess.run(printed, shell=True, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert again.returncode == 4, again.stderr
    assert "deadlock: " in again.stdout
    assert (tmp_path / "failure.html").exists()


def test_a_replay_says_what_it_did_not_come_to():
    result = api.replay(ZOO / "right" / "counter.py", "v2k3:9999=1")
    assert any("without having come to 1 decision" in note for note in result.notes)


def test_long_schedules_are_shortened_and_whole_at_the_end(tmp_path: Path):
    text = "v2k3:" + ",".join(f"{at}=1" for at in range(1, 200))
    assert len(shortened(text)) < 120 and "199 decisions" in shortened(text)
    assert shortened("v2k3:1=2") == "v2k3:1=2"


def test_rounds_in_a_trace_are_shown_once():
    lines = ["* a", "  b", "  c", "  b", "  c", "  b", "  c", "  d", "  d"]
    assert folded(lines) == ["* a", "  b", "  c  (these 2 lines 3 times)", "  d  (2 times)"]


def test_a_trace_is_plain_data_and_complete():
    trace = api.trace(ZOO / "wrong" / "ab_ba.py", "v2k3:4=2")
    assert json.loads(json.dumps(trace)) == trace
    assert trace["threads"] == ["main", "worker-1", "worker-2"]
    assert [step["operation"] for step in trace["steps"]][-2:] == ["locks", "locks"]
    last = trace["steps"][-1]
    assert (last["thread"], last["object"], last["file"], last["line"], last["changed"]) == (
        "worker-2", "mutex b", "ab_ba.py", 19, True,
    )  # fmt: skip
    assert last["holders"] == {"mutex a": "worker-1"}
    end = trace["end"]
    assert end["holders"] == {"mutex a": "worker-1", "mutex b": "worker-2"}
    assert end["waiters"]["mutex b"] == ["worker-1"]
    assert end["positions"]["worker-1"] == {
        "file": "ab_ba.py", "line": 13, "doing": "locks", "object": "mutex b", "waits": True,
    }  # fmt: skip
    assert trace["failure"]["kind"] == "deadlock"
    assert trace["schedule"] == "v2k3:4=2"


def test_a_trace_of_a_run_that_ends_well_has_no_failure():
    trace = api.trace(ZOO / "right" / "bounded_buffer.py", "v2k3s:")
    assert trace["failure"] is None and trace["end"] is None
    assert [step["number"] for step in trace["steps"]] == list(range(1, len(trace["steps"]) + 1))
    assert any(step["waiters"] for step in trace["steps"])


def test_a_failure_that_does_not_come_again_is_not_offered_for_replay(tmp_path: Path):
    count = tmp_path / "count"
    program = write(
        tmp_path / "once.py",
        f"""
        def main():
            spawn(lambda number: None)
            join()
            if not os.path.exists({str(count)!r}):
                open({str(count)!r}, "w").close()
                raise KeyError("the first time only")
        """,
    )
    finding = look(program).findings[0]
    assert "not deterministic" in finding.message
    assert finding.schedule == ""


def test_random_walks_are_those_of_the_seed():
    explorer = Explorer(Program(ZOO / "right" / "counter.py"))
    runs = [explorer.run(RandomWalk(seeded(3, 1)), Setting(3)).scheduler.deviations for _ in range(2)]
    assert runs[0] == runs[1]


@pytest.mark.skipif(not hasattr(os, "SCHED_BATCH"), reason="the policy is Linux's")
def test_threads_do_not_interrupt_the_one_that_wakes_them(tmp_path: Path):
    """Else each handing over takes two switches more, twice the time."""
    program = write(tmp_path / "policy.py", "def main():\n    assert os.sched_getscheduler(0) == os.SCHED_BATCH\n")
    before = os.sched_getscheduler(0)
    runner.idle.clear()  # threads made elsewhere
    assert look(program, schedules=2).ok
    assert os.sched_getscheduler(0) == before


def test_what_a_program_writes_is_not_seen_but_files_of_its_own_are(tmp_path: Path):
    program = write(
        tmp_path / "loud.py",
        """
        import io, logging, pprint, traceback
        from sys import stderr

        def main():
            log = io.StringIO()
            print("kept", file=log)
            print("lost"), print("lost", file=sys.stdout), print("lost", file=stderr)
            sys.stdout.write("lost")
            sys.stderr.write("lost")
            logging.warning("lost")
            pprint.pprint("lost")
            try:
                assert sys.stdin.read() == "" == sys.stdin.readline() and list(sys.stdin) == []
                input("lost")
            except EOFError:
                traceback.print_exc()
            assert log.getvalue() == "kept\\n" and sys.argv == [__file__]
        """,
    )
    for tool in ("explore", "races", "check"):
        done = command(tool, str(program))
        assert (done.returncode, "lost" in done.stdout + done.stderr) == (0, False), done
        assert "EOFError" not in done.stdout + done.stderr


def test_input_that_a_program_asks_for_is_said_not_to_be_there(tmp_path: Path):
    program = write(tmp_path / "asks.py", "def main(): input('how many? ')\n")
    for result in (look(program), api.run_checked(program)):
        assert result.findings[0].message.endswith("asks.py:3: a program under check has no input")


def test_generators_without_a_seed_give_the_same_in_every_run(tmp_path: Path):
    program = write(
        tmp_path / "unseeded.py",
        """
        import numpy as np

        drawn, count = [], [0]

        def work(number):
            drawn.append(int(np.random.default_rng().integers(10**9)))
            before = count[0]
            count[0] = before + 1

        def main():
            spawn(work), spawn(work)
            join()
            assert count[0] == 2, drawn
        """,
    )
    (finding,) = look(program).findings
    assert finding.kind == "assertion"
    again = api.replay(program, finding.schedule).findings[0]
    assert again.message == finding.message


def test_a_recursion_without_end_is_told_in_a_few_lines(tmp_path: Path):
    program = write(
        tmp_path / "deep.py",
        "def deeper(n):\n    return deeper(n + 1)\n\ndef main():\n    join(spawn(deeper))\n",
    )
    for found in (look(program).findings[0], api.run_checked(program).findings[0]):
        assert "RecursionError" in found.message and "times)" in found.detail
        assert found.detail.count("\n") < 5


def test_an_exception_tells_where_the_others_stood(tmp_path: Path):
    program = write(
        tmp_path / "stood.py",
        """
        s = Semaphore(0)

        def waits(number):
            s.P()

        def fails(number):
            raise ValueError("no")

        def main():
            spawn(waits), spawn(fails)
            join()
        """,
    )
    found = api.replay(program, "v2k3:2=1").findings[0]
    assert "at that moment worker-1 stood at stood.py:7" in found.detail


def test_an_exception_tells_who_had_not_begun(tmp_path: Path):
    program = write(
        tmp_path / "early.py",
        """
        table = {}

        def fills(number):
            table[1] = 1

        def looks(number):
            assert 1 in table

        def main():
            spawn(fills), spawn(looks)
            join()
        """,
    )
    assert "at that moment worker-1 had not begun" in look(program).findings[0].detail


def test_an_exception_in_a_worker_tells_where_main_stood_unless_it_waits(tmp_path: Path):
    text = """
        items, s = [], Semaphore(0)

        def takes(number):
            s.P()
            items.pop()

        def main():
            spawn(takes)
            s.V()
            {work}
            join()
        """
    early = write(tmp_path / "early.py", text.format(work="items.append(1)"))
    assert "at that moment main stood at early.py:13" in look(early).findings[0].detail
    never = write(tmp_path / "never.py", text.format(work=""))
    assert "main" not in look(never, level="primitives").findings[0].detail


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("if 1 not in seen:\n        seen.add(1)\n        made.append(1)", "worker-1 was interrupted at seen.py:9; "),
        ("count.n += 1\n    made[:] = [1] * (3 - count.n)", "not atomic: worker-1 released mutex m at seen.py:14 "),
    ],
)
def test_what_the_main_thread_finds_wrong_is_explained_by_what_happened_to_a_worker(body, says, tmp_path: Path):
    program = write(
        tmp_path / "seen.py",
        f"""
seen, made, m = set(), [], Mutex("m")

def work(number):
    # what is done
    {body}

class Count:
    value = 0
    def get(self):
        with m: return self.value
    def set(self, value):
        with m: self.value = value
    n = property(get, set)

count = Count()

def main():
    join(spawn(work), spawn(work))
    assert len(made) == 1
""",
    )
    (finding,) = look(program).findings
    assert says in finding.message, finding.message


def test_one_generator_for_two_threads_is_entered_twice(tmp_path: Path):
    program = write(
        tmp_path / "source.py",
        """
        def numbers():
            n = 0
            while n < 3:
                yield n
                n += 1

        def main():
            source = numbers()
            join(*[spawn(lambda number: next(source)) for _ in range(2)])
        """,
    )
    assert "generator already executing" in look(program).findings[0].message


@pytest.mark.parametrize(
    ("fn", "found"), [("work", True), ("lambda number: work(1)", True), ("lambda number: kept.append(work(1))", False)]
)
def test_a_worker_with_a_yield_has_done_nothing(fn: str, found: bool, tmp_path: Path):
    program = write(
        tmp_path / "yields.py",
        f"""
kept = []

def work(number):
    yield number

def main():
    join(spawn({fn}))
    kept.append(kept and list(kept[0]))
""",
    )
    for result in (look(program), api.check_races(program, schedules=1), api.run_checked(program, repeats=1)):
        assert ["work() has a `yield`" in finding.message for finding in result.findings] == [True] * found


def test_what_numpy_warns_of_is_not_told(tmp_path: Path):
    program = write(
        tmp_path / "warns.py",
        """
        import numpy as np

        def main():
            join(spawn(lambda number: np.full(3, 3e38, np.float32) * np.float32(9)))
        """,
    )
    for tool in ("explore", "check"):
        assert command(tool, str(program), "--seconds", "1").stderr == ""


def test_a_wait_at_the_end_of_a_loops_body_is_followed_by_another_look():
    again = "while True:\n    with m:\n        if q: break\n        else: c.wait(m)\n"
    onwards = "while True:\n    with m:\n        if not q: c.wait(m)\n        q.pop()\n"
    assert waits_outside_loops(ast.parse(again)) == {}
    assert waits_outside_loops(ast.parse(onwards)) == {3: "is in an if"}


@pytest.mark.parametrize(("name", "most"), [("v_before_put", 3), ("lost_wakeup", 4), ("semaphore_two", 5)])
def test_common_mistakes_are_found_by_the_first_schedules(name: str, most: int):
    program = Program(ZOO / "wrong" / f"{name}.py")
    plans = [explore.Plan(seed=seed, races=False) for seed in range(1, 16)]
    counts = sorted(explore.explore(program, plan=plan).schedules for plan in plans)
    assert counts[7] <= most


def test_the_mix_does_not_run_the_default_schedule_again(monkeypatch):
    """The exhaustive search would begin with it."""
    monkeypatch.setattr(explore, "TURN", (("exhaustive", PRIMITIVES, False),))
    result = look(ZOO / "right" / "counter.py", schedules=3)
    assert (result.schedules, result.distinct) == (3, 3)


def test_sentences_are_broken_between_words_on_a_terminal_only():
    finding = Finding(
        "race", "acts.qkv[0, 0] written by worker 1 at mine.py:17", "mutex guard is missing at mine.py:24"
    )
    shown = {}
    for terminal in (True, False):
        out = Console(
            file=io.StringIO(), force_terminal=terminal, width=24, soft_wrap=True, no_color=True, highlight=False
        )
        show_finding(finding, out, 0)
        shown[terminal] = re.sub("\x1b\\[[0-9;]*m| +$", "", out.file.getvalue(), flags=re.MULTILINE).splitlines()
    assert shown[False] == [f"race: {finding.message}", f"  {finding.detail}"]
    assert max(map(len, shown[True])) <= 24 and shown[True][-2:] == ["  mutex guard is missing", "  at mine.py:24"]
