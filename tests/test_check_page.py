"""The page that a schedule is stepped through on, what it is made from, and the state graph of tiny programs."""

import json
import re
import textwrap
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from test_check_explorer import write

from lab.check import api, states
from lab.check.explorer import Explorer, prepared
from lab.check.page import page
from lab.check.program import Program
from lab.check.schedule import STATEMENTS, Setting, parse_schedule
from lab.check.strategies import Default, Exhaustive, Replay
from lab.check.variables import in_text

ZOO = Path(__file__).parent / "zoo"
KEYS = {"right": "\ue014", "left": "\ue012", "down": "\ue015", "up": "\ue013", "home": "\ue011", "end": "\ue010"}


def graph_of(program: Path, schedule: str) -> dict:
    """The state graph, with the schedule's path."""
    setting, deviations = parse_schedule(schedule)
    return states.state_graph(Program(program), setting, Replay(dict(deviations)))


# ------------------------------------------------------------------------------------------------------- what is shown


def test_a_deadlock_leaves_all_threads_waiting():
    """The one that the run ended in as well."""
    end = api.trace(ZOO / "wrong" / "ab_ba.py", "v2k3:4=2")["end"]
    assert {name: place["waits"] for name, place in end["positions"].items()} == {
        "main": True, "worker-1": True, "worker-2": True,
    }  # fmt: skip
    assert end["holders"] == {"mutex a": "worker-1", "mutex b": "worker-2"}
    assert end["waiters"]["mutex a"] == ["worker-2"] and end["waiters"]["mutex b"] == ["worker-1"]


def test_the_trace_has_the_variables_and_what_is_not_yet_written():
    run = api.trace(ZOO / "wrong" / "lost_update.py", "v2k3s:7=2")
    steps = run["steps"]
    counter = [step["shared"]["counter"] for step in steps]
    assert "1" in counter[counter.index("2") :], "worker-2 counts to 2, and worker-1 writes the 1 it had computed"
    held = [step["variables"].get("worker-1", {}).get("computed, not yet written") for step in steps]
    assert "1" in held
    assert steps[-1]["variables"]["main"] == {"_": "1"}


def test_arrays_of_objects_are_shown_by_what_is_in_them():
    """Not by where that lies, which no two runs have in common."""
    first, second, other = (np.array([str(number) for number in range(n, n + 20)], dtype=object) for n in (10, 10, 11))
    assert first[0] is not second[0]
    assert in_text(first) == in_text(second) != in_text(other)
    assert in_text(first).startswith("array (20,), checksum ")


def test_every_semaphore_is_counted_all_the_time(tmp_path: Path):
    program = write(
        tmp_path / "s.py",
        """
        full, empty = Semaphore(0), Semaphore(2)

        def main():
            empty.P()
            full.V()
            full.P()
        """,
    )
    counts = [step["counts"] for step in api.trace(program, "v2k3:")["steps"]]
    assert [(one["semaphore full"], one["semaphore empty"]) for one in counts] == [(0, 2), (0, 1), (1, 1)]


# ----------------------------------------------------------------------------------------------------- the state graph


def every_schedule(program: Path, setting: Setting) -> states.Graph:
    """The graph without a shortcut: each schedule is run."""
    graph, strategy = states.Graph(), Exhaustive(states.ANY)
    loaded = Program(program)
    with prepared(loaded):
        explorer, runs = Explorer(loaded, setting.workers), 0
        while True:
            graph.run(explorer, strategy, setting)
            runs += 1
            assert runs < 5000
            if not strategy.advance():
                return graph


TWICE = """
    count = 0
    mutex = Mutex()

    def worker(number):
        global count
        for _ in range(2):
            with mutex:
                count += number

    def main():
        spawn(worker)
        spawn(worker)
        join()
    """
RACY = """
    count = 0

    def worker(number):
        global count
        count = count + 1

    def main():
        spawn(worker)
        spawn(worker)
        join()
        assert count == 2
    """


@pytest.mark.parametrize("name", ["ab_ba", "lost_wakeup", "semaphore_zero", "twice", "racy"])
def test_the_graph_is_that_of_all_schedules(tmp_path: Path, name: str):
    """Loops, results read and not yet written, and who is next, are told apart; nothing is missing."""
    source = {"twice": TWICE, "racy": RACY}.get(name)
    program = write(tmp_path / "small.py", source) if source else ZOO / "wrong" / f"{name}.py"
    setting = Setting(3, level=STATEMENTS if name == "racy" else 0)
    whole = every_schedule(program, setting)
    found = states.state_graph(Program(program), setting, Default())
    assert sorted(found["kinds"]) == sorted(whole.kinds) and len(whole.kinds) > 3
    assert len(found["edges"]) == len(whole.edges)
    assert sum(found["doomed"]) == sum(whole.doomed())


def test_a_failure_is_bad_and_what_leads_nowhere_else_is_doomed():
    graph = graph_of(ZOO / "wrong" / "lost_wakeup.py", "v2k3:1=1")
    assert graph["kinds"].count("deadlock") == 1 and graph["kinds"].count("end") == 1
    bad = graph["kinds"].index("deadlock")
    assert graph["path"][-1] == bad and graph["doomed"][bad]
    assert not graph["doomed"][graph["path"][0]] and not graph["doomed"][graph["kinds"].index("end")]
    following = {node: [to for start, to, *_ in graph["edges"] if start == node] for node in range(len(graph["kinds"]))}
    assert all(to in following[start] for start, to in pairwise(graph["way"]) if start != to)
    for node, others in following.items():
        if others:
            assert graph["doomed"][node] == all(graph["doomed"][other] for other in others)


def test_where_there_are_too_many_states_the_graph_says_so(monkeypatch):
    monkeypatch.setattr(states, "MOST_STATES", 100)
    assert "more states" in graph_of(ZOO / "wrong" / "philosophers.py", "v2k3:")["note"]
    assert "main()" in graph_of(ZOO / "right" / "submission.py", "v2k3:")["note"]


# ------------------------------------------------------------------------------------------------------ the command


def data_of(html: str) -> dict:
    """What the page has been given."""
    return json.loads(re.search(r'<script type="application/json" id="data">(.*)</script>', html)[1])


def test_explore_writes_one_page_without_network(checker, tmp_path: Path):
    out = tmp_path / "new" / "page.html"
    done = checker("explore", str(ZOO / "wrong" / "ab_ba.py"), "--out", str(out))
    assert done.returncode == 4 and done.stdout.endswith(f"step by step, in a browser: {out}\n"), done
    html = out.read_text()
    assert not re.search(r"""(src|href)=["'](?!data:)|https?://(?!www\.w3\.org)|@import|url\(""", html)
    data = data_of(html)
    assert data["finding"]["kind"] == "deadlock" and data["trace"]["schedule"] == "v2k3:4=2"
    assert data["graph"]["kinds"]


def test_a_right_program_gets_the_page_of_a_run(checker, tmp_path: Path):
    out = tmp_path / "page.html"
    done = checker("explore", str(ZOO / "right" / "counter.py"), "--schedules", "20", "--out", str(out))
    assert done.returncode == 0, done
    data = data_of(out.read_text())
    assert data["finding"] is None and "a run without a failure" in out.read_text()
    assert set(data["graph"]["kinds"]) == {"", "end"}


def test_a_page_is_never_written_over_a_program_nor_left_from_before(checker, tmp_path: Path):
    program = write(tmp_path / "mine.py", "def main():\n    pass\n")
    done = checker("explore", str(program), "--out", str(program))
    assert done.returncode == 2 and "never written over a program" in done.stderr and "def main" in program.read_text()
    old = tmp_path / "page.html"
    old.write_text("of yesterday")
    program = write(tmp_path / "leaves.py", "def main():\n    os.kill(os.getpid(), 9)\n")
    assert checker("explore", str(program), "--out", str(old)).returncode == 4
    assert not old.exists()


# --------------------------------------------------------------------------------------------------------- the browser

LONG = """
    from lab.threadlib import Mutex, join, spawn

    first, second = Mutex(), Mutex()
    turns = 0

    def worker(number):
        global turns
        for _ in range(120):
            with first:
                turns += 1
        with (first if number == 1 else second):
            with (second if number == 1 else first):
                pass

    def main():
        spawn(worker)
        spawn(worker)
        join()
    """


def opened(driver, path: Path):
    """The page is open; returns a function that presses a key and one that gives a text."""
    driver.get(path.as_uri())
    body = driver.find_element("css selector", "body")
    return (
        lambda key: body.send_keys(KEYS.get(key, key)),
        lambda selector: driver.execute_script(
            "return [...document.querySelectorAll(arguments[0])].map(n => n.textContent)", selector
        ),
    )


def test_the_page_steps_and_jumps_in_a_browser(driver, tmp_path: Path):
    path = tmp_path / "page.html"
    finding = api.explore_submission(ZOO / "wrong" / "ab_ba.py").findings[0]
    path.write_text(api.page(ZOO / "wrong" / "ab_ba.py", finding.schedule, finding))
    press, texts = opened(driver, path)
    assert texts("h1") == ["ab_ba.py: deadlock"] and texts("#count") == ["step 1 of 4"]
    assert texts("#source .now .code") == ["    spawn(forward)"] and texts("#source .now .tag") == ["main"]
    press("right")
    press("right")
    assert texts("#count") == ["step 3 of 4"] and texts("#source .now .code") == ["    a.lock()"]
    assert texts(".thread.turn .name") == ["worker-1"] and texts(".step.now .who") == ["worker-1"]
    press("left")
    assert texts("#count") == ["step 2 of 4"]
    press("f")
    assert texts("#count") == ["after the last step"] and texts("#what") == ["deadlock: the run ends here"]
    assert texts("#source .at .tag") == ["worker-1", "worker-2", "main"]
    assert texts("#objects tr") == ["mutex aheld by worker-1worker-2", "mutex bheld by worker-2worker-1"]
    assert "waits for mutex b, held by worker-2" in texts(".thread")[1]
    assert driver.execute_script("return document.querySelector('#graph .now').classList.contains('bad')")
    press("home")
    press("down")
    assert texts("#count") == ["step 3 of 4"]
    press("up")
    assert texts("#count") == ["step 1 of 4"]
    driver.find_element("id", "forward").click()
    driver.find_elements("css selector", ".step")[3].click()
    assert texts("#count") == ["step 4 of 4"]
    driver.find_element("css selector", "#graph circle.path").click()
    assert texts("#count") == ["step 1 of 4"]
    for width in (400, 1280):
        driver.set_window_size(width, 900)
        assert driver.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    assert driver.get_log("browser") == []


def test_long_schedules_and_races_open_in_a_browser(driver, tmp_path: Path):
    long = tmp_path / "long.py"
    long.write_text(textwrap.dedent(LONG))
    schedule = next(f.schedule for f in api.explore_submission(long, races=False).findings)
    path = tmp_path / "page.html"
    path.write_text(api.page(long, schedule))
    press, texts = opened(driver, path)
    assert int(texts("#count")[0].split()[-1]) > 480
    press("f")
    assert texts("#what") == ["deadlock: the run ends here"] and texts("#shared tr") == ["turns240"]
    race = ZOO / "wrong" / "lost_update_array.py"
    finding = next(f for f in api.check_races(race).findings if f.kind == "race")
    path.write_text(api.page(race, finding.schedule, finding))
    press, texts = opened(driver, path)
    assert texts("h1") == ["lost_update_array.py: race"] and texts("#source .told")
    press("f")
    assert driver.get_log("browser") == []


def test_whatever_a_program_contains_is_shown_as_text(driver, tmp_path: Path):
    evil = "</script><script>window.broken = 1</script><img src=x onerror='window.broken = 1'>"
    program = write(
        tmp_path / "evil.py", f"text = {evil!r}\n\ndef main():\n    spawn(lambda number: None)\n    join()\n"
    )
    run = api.trace(program, "v2k3:")
    finding = {"kind": evil, "message": evil, "detail": evil, "where": ["evil.py:1"]}
    path = tmp_path / "page.html"
    path.write_text(page(run | {"program": evil}, finding))
    _press, texts = opened(driver, path)
    assert evil in texts("h1")[0] and texts("#message") == [evil]
    assert driver.execute_script("return window.broken === undefined && document.images.length === 0")
    assert driver.get_log("browser") == []
