"""Grading a class on Dask, with a stub as the grader: order, retries, lost workers, killed runs."""

import csv
import json
import os
import random
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext, suppress
from hashlib import sha256
from pathlib import Path

import psutil
import pytest
from classroom_stub import perform, perform_in_process, perform_nothing

from grader.classroom import cluster, example
from grader.classroom import run as class_run
from grader.classroom.__main__ import main
from grader.classroom.collect import collect
from grader.classroom.exports import write_exports
from grader.classroom.gradebook import GRADED, INCONCLUSIVE, NOT_GRADED, Gradebook, GradebookError
from grader.classroom.policy import Policy, standings
from grader.classroom.run import RETRIES, ClassRun
from grader.classroom.task import Settings
from grader.points import load
from grader.sandbox import SandboxError, choose

WORKERS = load().workers
DRIVER = Path(__file__).with_name("classroom_driver.py")


@pytest.fixture(scope="module")
def client():
    with cluster.connected(None, WORKERS) as client:
        yield client


def write_class(folder: Path, programs: dict[str, str]) -> Path:
    folder.mkdir()
    for student, first_line in programs.items():
        (folder / f"{student}.py").write_text(f"# {first_line}\n# {student}\n")
    return folder


def run(tmp_path: Path, client, programs: dict[str, str], again: bool = False, **settings) -> dict[str, tuple]:
    folder = tmp_path / "class"
    if not folder.exists():
        write_class(folder, programs)
    with Gradebook(tmp_path / "g.sqlite") as book:
        book.add(collect(folder))
        ClassRun(book, client, Settings(load(), **settings), perform=perform).grade(again)
        return {
            r.submission.student: (r.result.status, r.result.score, r.attempts, (r.result.timing or {}).get("rounds"))
            for r in book.records()
        }


def test_every_submission_gets_its_result(tmp_path, client):
    found = run(
        tmp_path, client, {"ada": "score 90", "bob": "wrong", "eve": "raises", "max": "shaky", "zoe": "inconclusive"}
    )
    assert found == {
        "ada": (GRADED, 90.0, 1, 1), "bob": (GRADED, 20.0, 1, None), "eve": (NOT_GRADED, None, 1, None),
        "max": (GRADED, 100.0, 1, 2), "zoe": (INCONCLUSIVE, None, 1, RETRIES + 1),
    }  # fmt: skip


def test_what_is_graded_is_not_graded_again_unless_asked_and_rounds_are_pooled(tmp_path, client):
    programs = {"ada": "score 90", "bob": "score 80"}
    run(tmp_path, client, programs)
    assert run(tmp_path, client, programs)["ada"] == (GRADED, 90.0, 1, 1)
    (tmp_path / "class" / "bob.py").write_text("# score 85\n")
    assert run(tmp_path, client, programs)["ada"] == (GRADED, 90.0, 1, 1)
    assert run(tmp_path, client, programs, again=True)["ada"] == (GRADED, 90.0, 2, 2)
    assert run(tmp_path, client, programs, seed=7)["ada"] == (GRADED, 90.0, 3, 1)  # other cases: nothing is pooled


def test_what_stayed_inconclusive_is_tried_again_by_the_same_command(tmp_path, client):
    """It has no grade yet; its rounds are added to those there are."""
    programs = {"ada": "score 90", "zoe": "inconclusive"}
    assert run(tmp_path, client, programs)["zoe"] == (INCONCLUSIVE, None, 1, RETRIES + 1)
    assert run(tmp_path, client, programs) == {
        "ada": (GRADED, 90.0, 1, 1), "zoe": (INCONCLUSIVE, None, 2, 2 * (RETRIES + 1)),
    }  # fmt: skip


def test_stages_that_are_not_asked_for_are_not_run(tmp_path, client, monkeypatch):
    assert run(tmp_path, client, {"ada": "score 90"}, stages=("tokens",))["ada"] == (GRADED, 20.0, 1, None)


@pytest.mark.long
def test_a_worker_that_is_killed_loses_no_submission(tmp_path, monkeypatch):
    """One submission kills its worker each time; all others are graded, and it says what happened."""
    monkeypatch.setattr(class_run, "DEATHS", 1)
    with cluster.connected(None, WORKERS) as client:
        found = run(tmp_path, client, {"eve": "dies", **{f"s{i:02}": f"score {i}" for i in range(12)}})
    assert found.pop("eve")[0] == NOT_GRADED
    assert [status for status, *_ in found.values()] == [GRADED] * 12


@pytest.mark.parametrize("first_stage", ["tokens", "timing"])
def test_a_worker_that_is_lost_once_costs_no_grade(tmp_path, monkeypatch, first_stage):
    """In either stage, also where the first one took long."""
    monkeypatch.setenv("CLASSROOM_LOG", str(tmp_path / "log"))
    with cluster.connected(None, WORKERS) as client:
        assert run(tmp_path, client, {"ada": f"lost 1 {first_stage}"})["ada"] == (GRADED, 100.0, 1, 1)


@pytest.mark.long
@pytest.mark.parametrize("stage", ["tokens", "timing"])
def test_bad_luck_with_the_workers_costs_no_grade(tmp_path, monkeypatch, stage):
    """A file whose worker is lost time and again is tried once more when all others are done."""
    monkeypatch.setenv("CLASSROOM_LOG", str(tmp_path / "log"))
    monkeypatch.setattr(class_run, "DEATHS", 1)
    with cluster.connected(None, WORKERS) as client:
        found = run(tmp_path, client, {"ada": f"lost 2 {stage}", **{f"s{i}": "score 50" for i in range(4)}})
    assert found == {"ada": (GRADED, 100.0, 1, 1), **{f"s{i}": (GRADED, 50.0, 1, 1) for i in range(4)}}
    words, stages, *_ = [json.loads(line) for line in (tmp_path / "log").read_text().splitlines()][-1]
    assert (words[0], stages) == ("lost", ["timing"])  # the others came before


KILLS = int(os.environ.get("CLASSROOM_KILLS", "3"))  # CLASSROOM_KILLS=10 for longer


@pytest.mark.long
def test_a_worker_that_is_killed_at_any_moment_changes_nothing(tmp_path, client):
    """The same table as without, nothing lost, nothing twice."""
    programs = {f"s{i:02}": f"score {20 + i} slow" for i in range(5 * KILLS)} | {"max": "shaky", "zoe": "wrong"}
    folder, tables = write_class(tmp_path / "class", programs), []
    for name, kills in (("calm", 0), ("killed", KILLS)):
        own = cluster.connected(None, WORKERS) if kills else nullcontext(client)
        with Gradebook(tmp_path / f"{name}.sqlite") as book, own as other:
            book.add(collect(folder))
            with killing_workers(other, kills) as killed:
                ClassRun(book, other, Settings(load()), perform=perform).grade()
            assert len(set(killed)) == kills
            assert book.db.execute("select count(*) from result").fetchone() == (len(programs),)
            assert {record.attempts for record in book.records()} == {1}
            assert [r.result.report["output"] for r in book.records() if r.result.status != GRADED] == []
            write_exports(standings(book.records(), Policy()), tmp_path / name)
            table = (tmp_path / name / "grades.csv").read_text(encoding="utf-8")
            tables.append(re.sub(r"\d{4}-\d\d-\d\dT[\d:]+", "when", table))  # collected
    assert tables[0] == tables[1] and tables[0].count(",graded,0,") == len(programs)


@contextmanager
def killing_workers(client, kills: int, seed: int = 4) -> Iterator[list[int]]:
    """While the block runs, kill -9 the worker that many times, each a while after it came: the processes killed."""
    chance, killed, over = random.Random(seed), [], threading.Event()

    def kill() -> None:
        while len(killed) < kills and not over.wait(chance.uniform(0.1, 0.8)):
            for pid in client.run(os.getpid, on_error="ignore").values():
                if pid not in killed:
                    os.kill(pid, signal.SIGKILL)
                    killed.append(pid)

    thread = threading.Thread(target=kill)
    thread.start()
    try:
        yield killed
    finally:
        over.set()
        thread.join()


def cpu_seconds() -> float:
    """What this process and all below it have computed, those that have ended included."""
    me = psutil.Process()
    return sum(sum(process.cpu_times()[:4]) for process in (me, *me.children(recursive=True)))


def test_handing_out_costs_less_than_a_fifth_of_a_second(tmp_path, client):
    """Of both workers' time for each submission, with its two stages in processes of their own that do nothing."""
    folder = write_class(tmp_path / "class", {f"s{i:02}": "score 100" for i in range(20)})
    with Gradebook(tmp_path / "g.sqlite") as book:
        book.add(collect(folder))
        begin = cpu_seconds()
        ClassRun(book, client, Settings(load()), perform=perform_nothing).grade()
        assert (cpu_seconds() - begin) / 20 < 0.2 * 2  # CPU time, as others may be using the cores
        assert [record.result.score for record in book.records()] == [100.0] * 20


def test_a_timed_run_has_its_host_for_itself_where_it_uses_all_cores(monkeypatch):
    monkeypatch.setattr(cluster.machine, "count", lambda: 2)
    assert cluster.resources((2, 4)) == {"timing": 1, "slots": cluster.TIMED_SLOTS}
    monkeypatch.setattr(cluster.machine, "count", lambda: 16)
    assert cluster.timed_cores((2, 4)) == 4
    assert cluster.resources((2, 4)) == {"timing": 1, "slots": cluster.TIMED_SLOTS + 12}


def test_a_thousand_in_the_queue_are_handed_out_a_few_at_a_time(tmp_path, client, monkeypatch):
    folder = write_class(tmp_path / "class", {f"s{i:04}": "score 50" for i in range(80)})
    with Gradebook(tmp_path / "g.sqlite") as book:
        book.add(collect(folder))
        most = 0
        grading = ClassRun(book, client, Settings(load(), stages=("tokens",)), perform=perform)
        grading.tell = lambda *_: None
        hand_out = grading.hand_out

        def counted(*arguments):
            nonlocal most
            hand_out(*arguments)
            most = max(most, len(grading.running))

        grading.hand_out = counted
        assert len(grading.due()) == grading.grade() == 80 and not grading.due()
        assert most <= 2 * sum(client.nthreads().values())


@pytest.mark.long
def test_a_run_that_is_killed_continues_where_it_was(tmp_path):
    programs = {f"s{i:02}": f"score {50 + i}" for i in range(16)}
    folder, log = write_class(tmp_path / "class", programs), tmp_path / "log"
    environment = {**os.environ, "CLASSROOM_LOG": str(log)}
    command = [sys.executable, str(DRIVER), str(folder), str(tmp_path / "g.sqlite")]
    chance = random.Random(5)
    for _ in range(2):
        process = subprocess.Popen(command, stdout=subprocess.PIPE, env=environment, text=True)
        for _ in range(chance.randint(1, 5)):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
    assert subprocess.run(command, capture_output=True, env=environment, timeout=120).returncode == 0
    with Gradebook(tmp_path / "g.sqlite") as book:
        records = book.records()
    assert {r.submission.student: r.result.score for r in records} == {f"s{i:02}": 50.0 + i for i in range(16)}
    assert {r.attempts for r in records} == {1}
    timed = Counter(
        json.loads(line)[0][1] for line in log.read_text().splitlines() if json.loads(line)[1] == ["timing"]
    )
    assert sum(timed.values()) < 16 + 2 * 8  # what was stored was not run again


ENVIRONMENT = {**os.environ, "PYTHONPATH": os.pathsep.join([str(DRIVER.parent), str(DRIVER.parents[1])])}


@contextmanager
def by_hand(tmp_path: Path, *names: str) -> Iterator[tuple[str, subprocess.Popen]]:
    """A scheduler and workers of those names, each a process in a folder of its own: (address, scheduler)."""
    scheduler = subprocess.Popen(
        [sys.executable, "-m", "distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard",
         "--scheduler-file", str(tmp_path / "scheduler.json")],
        env=ENVIRONMENT, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    workers, told = [], tmp_path / "scheduler.json"
    try:
        end = time.monotonic() + 60
        while not told.exists() or not told.stat().st_size:  # it is there before it is written
            assert time.monotonic() < end and scheduler.poll() is None
            time.sleep(0.05)
        address = json.loads(told.read_text())["address"]
        for name in names:
            (tmp_path / name).mkdir()
            command = [sys.executable, "-m", "grader.classroom", "worker", address]
            workers.append(subprocess.Popen(command, cwd=tmp_path / name, env=ENVIRONMENT, stderr=subprocess.DEVNULL))
        yield address, scheduler
    finally:
        for process in [*workers, scheduler]:
            process.terminate()
            process.wait(timeout=30)


@pytest.mark.long
def test_a_cluster_of_two_worker_processes(tmp_path):
    folder = write_class(tmp_path / "class", {f"s{i}": "slow 0.2" for i in range(8)})
    with Gradebook(tmp_path / "g.sqlite") as book, by_hand(tmp_path, "one", "two") as (address, _):
        book.add(collect(folder))
        with cluster.connected(address, WORKERS) as client:
            ClassRun(book, client, Settings(load()), perform=perform_in_process).grade()
        assert [r.result.status for r in book.records()] == [GRADED] * 8


def test_a_scheduler_that_is_lost_is_one_line_and_loses_no_result(tmp_path):
    folder = write_class(tmp_path / "class", {f"s{i:02}": "slow 0.1" for i in range(30)})
    with Gradebook(tmp_path / "g.sqlite") as book, by_hand(tmp_path, "one") as (address, scheduler):
        book.add(collect(folder))

        def kill(done, *_):
            if done == 2:
                scheduler.kill()

        with (
            pytest.raises(cluster.ClusterError, match="the scheduler is gone; finished results are kept"),
            cluster.connected(address, WORKERS) as client,
        ):
            ClassRun(book, client, Settings(load()), kill, perform).grade()
        assert 2 <= sum(record.result is not None for record in book.records()) < 30


def test_a_run_that_cannot_go_on_says_nothing_but_why(tmp_path, capfd):
    """What its worker was doing at that moment is no news to anybody."""

    def full(*_):
        raise GradebookError("the disk is full")

    folder = write_class(tmp_path / "class", {f"s{i}": "slow 0.5" for i in range(6)})
    with Gradebook(tmp_path / "g.sqlite") as book:
        book.add(collect(folder))
        with pytest.raises(GradebookError, match="full"), cluster.connected(None, WORKERS) as client:
            ClassRun(book, client, Settings(load()), full, perform).grade()
    assert capfd.readouterr().err == ""


def test_ctrl_c_reaches_all_processes_and_ends_them_without_a_word(tmp_path):
    """A terminal sends it to the run, its worker and what grades there; the run alone answers, and leaves nobody."""
    folder = write_class(tmp_path / "class", {f"s{i:02}": "wrong slow" if i < 3 else "slow 9" for i in range(40)})
    command = [sys.executable, str(DRIVER), str(folder), str(tmp_path / "g.sqlite")]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:  # fmt: skip
        assert process.stdout.readline() == "1\n"
        os.killpg(process.pid, signal.SIGINT)
        _, error = process.communicate(timeout=60)
    assert (process.returncode, error) == (130, "")
    end = time.monotonic() + 20
    with suppress(ProcessLookupError):
        while time.monotonic() < end:
            os.killpg(process.pid, 0)
            time.sleep(0.1)
    assert time.monotonic() < end
    with Gradebook(tmp_path / "g.sqlite") as book:
        assert 1 <= sum(record.result is not None for record in book.records()) < 40


DEAF = """
import multiprocessing, signal
from grader.classroom.task import PRELOAD
context = multiprocessing.get_context("forkserver")
context.set_forkserver_preload(PRELOAD)
process = context.Process(target=signal.raise_signal, args=(signal.SIGINT,))
process.start()
process.join()
print(process.exitcode)
"""


def test_ctrl_c_does_nothing_to_a_process_that_is_just_starting():
    run = subprocess.run([sys.executable, "-c", DEAF], capture_output=True, text=True)
    assert (run.stdout, run.stderr) == ("0\n", "")


def test_a_cluster_that_does_not_start_here_is_one_line(monkeypatch):
    def fails(**_):
        raise RuntimeError("Nanny failed to start.")

    monkeypatch.setattr(cluster, "LocalCluster", fails)
    with (
        pytest.raises(cluster.ClusterError, match=r"^Dask does not start on this machine: Nanny failed to start\.$"),
        cluster.connected(None, WORKERS),
    ):
        pass


def test_a_cluster_that_does_not_start_says_what_the_system_refused():
    error = RuntimeError("Nanny failed to start.")
    error.__cause__ = AssertionError("Status.init")
    assert cluster.reason_of(error) == "Status.init"
    error.__cause__.__context__ = OSError(30, "Read-only file system")
    assert cluster.reason_of(error).startswith("Read-only file system; it needs a writable /dev/shm")


def test_a_scheduler_that_does_not_answer_is_one_line(monkeypatch):
    monkeypatch.setattr(cluster, "CONNECT", 0.5)
    with (
        pytest.raises(cluster.ClusterError, match=r"no scheduler answers at tcp://127\.0\.0\.1:9"),
        cluster.connected("tcp://127.0.0.1:9", WORKERS),
    ):
        pass


@pytest.mark.parametrize("answer", [b"HTTP/1.0 400 Bad Request\r\n\r\n", b"\x04", b""])
def test_another_server_than_a_scheduler_is_one_line(monkeypatch, answer):
    """Whatever it says, or if it says nothing, and soon."""
    monkeypatch.setattr(cluster, "CONNECT", 0.5)
    begin = time.monotonic()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve(heard: list[socket.socket]) -> None:
            with suppress(OSError):
                while True:
                    heard.append(server.accept()[0])
                    heard[-1].sendall(answer)

        threading.Thread(target=serve, args=([],), daemon=True).start()
        address = f"tcp://127.0.0.1:{server.getsockname()[1]}"
        for use in (
            lambda: cluster.connected(address, WORKERS).__enter__(),
            lambda: cluster.run_worker(address, WORKERS),
        ):
            with pytest.raises(cluster.ClusterError, match=f"(the server|answers) at {address}") as caught:
                use()
            assert len(str(caught.value).splitlines()) == 1
    assert time.monotonic() - begin < 10


@pytest.mark.long
def test_a_class_is_graded_for_real(tmp_path):
    """From the export to the report with the command itself; only the timings are recorded ones."""
    try:
        choose(required=True)
    except SandboxError as error:
        pytest.skip(str(error))
    members = {member.what: member for member, _ in zip(example.members(), range(example.SIZE), strict=False)}
    wanted = ("stage4", "batch_split", "crash_at_import")
    folder = tmp_path / "class"
    folder.mkdir()
    for what in wanted:
        (folder / f"{what}.py").write_text(members[what].source)
    (folder / "nothing").mkdir()
    (folder / "nothing" / "notes.txt").write_text("x")
    recorded = {sha256(members[what].source.encode()).hexdigest(): members[what].timing for what in wanted}
    (tmp_path / "timings.json").write_text(json.dumps(recorded))
    (tmp_path / "cases.json").write_text('{"cases": [{"prompt": [5, 7], "n": 6, "workers": 2}]}')
    out = tmp_path / "out"
    options = ["--out", str(out), "--timings", str(tmp_path / "timings.json"), "--stages", "tokens,timing"]
    options += ["--cases", str(tmp_path / "cases.json")]  # for the hidden ones
    assert main(["grade", str(folder), *options]) == 0
    with (out / "grades.csv").open(encoding="utf-8") as file:
        lines = {line["id"]: line for line in csv.DictReader(file)}
    assert float(lines["stage4"]["score"]) > 85 and float(lines["stage4"]["threads-2"]) > 15
    assert lines["crash_at_import"]["status"] == GRADED
    assert "--stages" not in (out / "feedback" / "crash_at_import.html").read_text()  # it is not timed as it is wrong
    assert float(lines["batch_split"]["threads-2"]) == 0 and float(lines["crash_at_import"]["score"]) == 0
    assert lines["nothing"]["status"] == "no parallel.py was handed in (found: notes.txt)"
    assert "only 1 of 2 threads did any work" in (out / "feedback" / "batch_split.html").read_text()
    assert all(name in (out / "report.html").read_text() for name in (*wanted, "nothing"))
