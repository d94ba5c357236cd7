"""Which cores there are to work on: read from pictures of other machines' /sys and /proc."""

import os
from pathlib import Path

import pytest

from lab import machine


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"{text}\n")


@pytest.fixture
def computer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A function that makes this process believe in other CPUs: their siblings, and files of /sys and /proc."""
    monkeypatch.setattr(machine, "SYSTEM", tmp_path / "sys")
    monkeypatch.setattr(machine, "PROCESS", tmp_path / "proc")

    def make(siblings: dict[int, str], allowed: set[int] | None = None, **files: str) -> list[int]:
        for cpu, text in siblings.items():
            write(tmp_path / f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list", text)
        for name, text in files.items():
            write(tmp_path / name.replace("__", "/"), text)
        monkeypatch.setattr(machine, "allowed", lambda: frozenset(allowed or siblings))
        return machine.cores()

    return make


def test_two_threads_of_one_core_count_once(computer):
    assert computer({0: "0,4", 1: "1,5", 4: "0,4", 5: "1,5"}) == [0, 1]
    assert computer({0: "0-1", 1: "0-1", 2: "2-3", 3: "2-3"}) == [0, 2]


def test_only_cores_of_the_affinity_count(computer):
    assert computer({0: "0,4", 1: "1,5", 4: "0,4", 5: "1,5"}, allowed={4, 5}) == [4, 5]


def test_performance_cores_come_first_on_intel(computer):
    computer({0: "0", 1: "1", 2: "2-3", 3: "2-3"}, sys__devices__cpu_atom__cpus="0-1")
    assert machine.cores() == [2, 0, 1]


def test_big_cores_come_first_on_arm(computer, tmp_path):
    for cpu, capacity in enumerate((400, 400, 1024)):
        write(tmp_path / f"sys/devices/system/cpu/cpu{cpu}/cpu_capacity", str(capacity))
    assert computer({0: "0", 1: "1", 2: "2"}) == [2, 0, 1]


@pytest.mark.parametrize(
    ("cgroup", "files", "workers"),
    [
        ("0::/box", {"sys__fs__cgroup__box__cpu.max": "150000 100000"}, 1),
        ("0::/box", {"sys__fs__cgroup__box__cpu.max": "max 100000"}, 4),
        ("0::/box/inner", {"sys__fs__cgroup__box__cpu.max": "200000 100000"}, 2),
        ("0::/", {"sys__fs__cgroup__cpu.max": "50000 100000"}, 1),
        (
            "4:cpu,cpuacct:/box\n3:memory:/box",
            {
                "sys__fs__cgroup__cpu__box__cpu.cfs_quota_us": "300000",
                "sys__fs__cgroup__cpu__box__cpu.cfs_period_us": "100000",
            },
            3,
        ),
        ("4:cpu,cpuacct:/", {"sys__fs__cgroup__cpu__cpu.cfs_quota_us": "-1"}, 4),
        ("", {}, 4),
    ],
)
def test_a_container_has_as_many_processors_as_its_quota(computer, cgroup: str, files: dict, workers: int):
    computer({cpu: str(cpu) for cpu in range(4)}, proc__cgroup=cgroup, **files)
    assert machine.count() == workers


def bound(monkeypatch: pytest.MonkeyPatch, threads: int) -> list[set[int]]:
    """The affinities that bind() gives so many threads."""
    given: dict[int, set[int]] = {}
    monkeypatch.setattr(os, "sched_setaffinity", given.__setitem__, raising=False)
    machine.bind(range(threads))
    return [set(given[thread]) for thread in range(threads)]


def test_threads_are_bound_to_different_cores_once_there_is_one_for_each(computer, monkeypatch):
    computer({0: "0-1", 1: "0-1", 2: "2-3", 3: "2-3"})
    assert bound(monkeypatch, 1) == [{0, 1, 2, 3}]
    assert bound(monkeypatch, 2) == [{0}, {2}]
    assert bound(monkeypatch, 3) == [{0}, {2}, {0}]


def test_threads_fill_the_fast_cores_first(computer, monkeypatch):
    computer({0: "0", 1: "1", 2: "2", 3: "3"}, sys__devices__cpu_atom__cpus="0-1")
    assert bound(monkeypatch, 2) == [{2}, {3}]
    assert bound(monkeypatch, 4) == [{2}, {3}, {0}, {1}]


def test_threads_move_freely_under_a_quota(computer, monkeypatch):
    computer({0: "0", 1: "1"}, proc__cgroup="0::/", **{"sys__fs__cgroup__cpu.max": "150000 100000"})
    assert bound(monkeypatch, 2) == [{0, 1}, {0, 1}]


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="only Linux binds threads to cores")
def test_a_worker_s_worker_is_not_tied_to_its_parent_s_core():
    from lab.threadlib import Semaphore, join, spawn

    found, started, spawned = [], Semaphore(0), Semaphore(0)

    def child(number):
        spawned.P()
        found.append(os.sched_getaffinity(0))

    def parent(number):
        started.P()  # until then the main thread may give it, and all others, a core
        os.sched_setaffinity(0, {min(machine.allowed())})
        children = [spawn(child) for _ in machine.cores()]
        for _ in children:
            spawned.V()
        join(*children)

    thread = spawn(parent)
    started.V()
    join(thread)
    assert set().union(*found) >= set(machine.cores())
