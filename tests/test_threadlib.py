"""The thread library: what the primitives promise, what happens when a worker fails, the seam, the recorder."""

import pydoc
import subprocess
import sys
import textwrap
import traceback
from typing import ClassVar

import pytest

from lab import threadlib
from lab.measure.recorder import Recorder
from lab.threadlib import Cond, Mutex, Runtime, Semaphore, WorkerFailed, join, spawn


def run_threads(count, body):
    """Spawn `count` threads of `body` and join them."""
    join(*[spawn(body) for _ in range(count)])


def test_numbers_count_from_one_and_start_again_after_join():
    for _ in range(2):
        numbers = []
        run_threads(5, numbers.append)
        assert sorted(numbers) == [1, 2, 3, 4, 5]


def test_join_of_some_leaves_the_others_running():
    gate, ended = Semaphore(0), []

    def waits(number):
        gate.P()
        ended.append(number)

    slow, quick = spawn(waits), spawn(ended.append)
    join(quick)
    assert ended == [2]
    assert spawn(ended.append).number == 2, "the smallest number that is free"
    gate.V()
    join()
    assert sorted(ended) == [1, 2, 2] and slow.name == "worker-1"


def test_workers_may_spawn_and_join_workers_of_their_own():
    for _ in range(50):
        ended = []

        def parent(number, ended=ended):
            join(*[spawn(ended.append) for _ in range(3)])

        run_threads(3, parent)
        assert len(ended) == 9 and not threadlib.threads()


def test_a_failure_of_a_worker_s_worker_reaches_the_main_thread():
    def parent(number):
        join(spawn(fails))

    with pytest.raises(WorkerFailed, match="worker-2 failed: ZeroDivisionError"):
        join(spawn(parent))
    run_threads(2, lambda number: None)


def test_threads_are_those_not_yet_joined_of_the_runtime_in_use():
    gate = Semaphore(0)
    thread = spawn(lambda number: gate.P())
    assert threadlib.threads() == [thread]
    with threadlib.use(Runtime()):
        assert threadlib.threads() == []
        assert spawn(lambda number: None).number == 1
        join()
    gate.V()
    join()
    assert threadlib.threads() == []


def test_importing_the_library_brings_no_checker_and_prints_nothing():
    program = "import sys; import lab.threadlib; print([name for name in sys.modules if name.startswith('lab.')])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=20)
    assert (done.stdout, done.stderr) == ("['lab.machine', 'lab.threadlib']\n", "")


def test_mutex_excludes():
    mutex, inside, most = Mutex(), 0, 0

    def enter(number):
        nonlocal inside, most
        for _ in range(200):
            with mutex:
                inside += 1
                most = max(most, inside)
                inside -= 1

    run_threads(4, enter)
    assert most == 1 and inside == 0


def test_mutex_is_unlocked_when_an_exception_leaves_the_block():
    mutex = Mutex()
    with pytest.raises(KeyError), mutex:
        raise KeyError("leaves")
    mutex.lock()
    mutex.unlock()


def test_semaphore_counts():
    items, taken = Semaphore(3), []
    for _ in range(3):
        items.P()  # does not wait

    def take(number):
        items.P()
        taken.append(number)

    thread = spawn(take)
    assert taken == []
    items.V()
    join(thread)
    assert taken == [1]
    with pytest.raises(ValueError, match="cannot be negative"):
        Semaphore(-1)


def test_semaphore_hands_units_to_the_longest_waiting():
    turn, order, parked = Semaphore(0), [], [Semaphore(0) for _ in range(4)]

    def wait(number):
        parked[number].V()
        turn.P()
        order.append(number)
        parked[0].V()

    threads = []
    for number in (1, 2, 3):
        threads.append(spawn(wait))
        parked[number].P()
        while len(turn.state) < number:  # until it is parked in P
            pass
    for _ in range(3):
        turn.V()
        parked[0].P()
    join(*threads)
    assert order == [1, 2, 3]


def test_a_signal_nobody_waits_for_is_not_kept():
    mutex, cond, woken = Mutex(), Cond(), []
    cond.signal()
    cond.broadcast()

    def wait(number):
        with mutex:
            cond.wait(mutex)
            woken.append(number)

    thread = spawn(wait)
    while not cond.state:
        pass
    assert woken == []
    with mutex:
        cond.signal()
    join(thread)
    assert woken == [1]


def test_signal_wakes_one_and_broadcast_all():
    mutex, cond, woken, told = Mutex(), Cond(), [], Semaphore(0)

    def wait(number):
        with mutex:
            cond.wait(mutex)
            woken.append(number)
        told.V()

    threads = [spawn(wait) for _ in range(4)]
    while len(cond.state) < 4:
        pass
    with mutex:
        cond.signal()
    told.P()
    with mutex:
        assert len(woken) == 1 and len(cond.state) == 3
        cond.broadcast()
    join(*threads)
    assert sorted(woken) == [1, 2, 3, 4]


def test_wait_has_the_mutex_again_when_it_returns():
    mutex, cond, log = Mutex(), Cond(), []

    def wait(number):
        with mutex:
            cond.wait(mutex)
            log.append("woken")

    thread = spawn(wait)
    while not cond.state:
        pass
    with mutex:
        cond.signal()
        log.append("still held by the signaller")
    join(thread)
    assert log == ["still held by the signaller", "woken"]


# -------------------------------------------------------------------------------------------------- a worker that fails


def fails(number):
    raise ZeroDivisionError("as planned")


@pytest.mark.parametrize("round_", range(20))
def test_a_worker_that_dies_inside_a_mutex_leaves_nobody_waiting(round_):
    mutex, cond = Mutex(), Cond()

    def waits_without_with(number):
        mutex.lock()
        cond.wait(mutex)
        mutex.unlock()

    threads = [spawn(waits_without_with) for _ in range(3)]
    while len(cond.state) < 3:
        pass
    threads.append(spawn(fails))
    with pytest.raises(WorkerFailed), mutex:
        while True:
            cond.wait(mutex)
    with pytest.raises(WorkerFailed):
        join()
    assert not any(thread.system.is_alive() for thread in threads)


@pytest.mark.parametrize("wait", ["cond", "semaphore", "join", "mutex"])
def test_whoever_waits_gets_the_failure_and_its_cause(wait):
    mutex, cond, semaphore, go = Mutex(), Cond(), Semaphore(0), Semaphore(0)

    def fail(number):
        go.P()
        if wait == "mutex":
            mutex.lock()
            semaphore.V()
            go.P()
        raise ZeroDivisionError("as planned")

    thread = spawn(fail)
    go.V()
    with pytest.raises(WorkerFailed, match="worker-1 failed: ZeroDivisionError: as planned") as failure:
        if wait == "cond":
            with mutex:
                while True:
                    cond.wait(mutex)
        elif wait == "semaphore":
            semaphore.P()
        elif wait == "mutex":
            semaphore.P()
            go.V()
            mutex.lock()  # its holder dies with it: released, not waited for for ever
        join(thread)
    assert isinstance(failure.value.__cause__, ZeroDivisionError)
    with pytest.raises(WorkerFailed):  # join() says it again, once: afterwards threads can be used as before
        if wait in ("cond", "semaphore"):
            join()
        else:
            raise failure.value
    run_threads(2, lambda number: None)


def test_other_workers_that_wait_end_too():
    never = Semaphore(0)
    threads = [spawn(lambda number: never.P()) for _ in range(3)]
    while len(never.state) < 3:
        pass
    threads.append(spawn(fails))
    with pytest.raises(WorkerFailed, match="worker-4"):
        join(*threads)
    assert not any(thread.system.is_alive() for thread in threads)


def test_a_program_with_a_failing_worker_ends_with_its_traceback():
    program = textwrap.dedent("""
        from lab.threadlib import Cond, Mutex, join, spawn
        mutex, never = Mutex(), Cond()
        def fails(number):
            return {}["the worker's own line"]
        def waits(number):
            with mutex:
                while True:
                    never.wait(mutex)
        spawn(waits)
        spawn(fails)
        join()
    """)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=20)
    assert done.returncode == 1
    assert "the worker's own line" in done.stderr and "WorkerFailed: worker-2 failed: KeyError" in done.stderr


def test_a_failure_ends_a_program_that_unlocks_in_no_finally():
    """As in C: lock() ... unlock(). The wait in run() raises, and close() needs the mutex."""
    mutex, more, done, closed = Mutex(), Cond(), Cond(), []

    def works(number):
        mutex.lock()
        while not closed:
            more.wait(mutex)
        mutex.unlock()

    def closes():
        mutex.lock()
        closed.append(True)
        more.broadcast()
        mutex.unlock()
        join()

    threads = [spawn(works), spawn(works), spawn(fails)]
    with pytest.raises(WorkerFailed, match="worker-3 failed: ZeroDivisionError") as failure:
        try:
            mutex.lock()
            while True:
                done.wait(mutex)
        finally:
            closes()
    assert "works" not in {frame.name for frame in traceback.extract_tb(failure.tb)}
    assert not any(thread.system.is_alive() for thread in threads)
    run_threads(2, lambda number: None)


# ------------------------------------------------------------------------------------------------------------- the seam


def test_the_primitives_are_classes_with_methods_that_help_shows():
    text = pydoc.render_doc(Mutex) + pydoc.render_doc(Cond) + pydoc.render_doc(Semaphore)
    for name in ("lock", "unlock", "wait", "signal", "broadcast", "P", "V"):
        assert f"{name}\x08{name[-1]}(self" in text or f"{name}(self" in pydoc.plain(text), name


class Listening(Runtime):
    """A runtime that notes what it is asked for, and has a mutex of its own."""

    class NotedMutex(Mutex):
        __slots__ = ()

        def lock(self):
            self.runtime.asked.append(f"lock {self.name}")
            super().lock()

    kinds: ClassVar = {Mutex: NotedMutex}

    def __init__(self):
        super().__init__()
        self.asked = []

    def spawn(self, thread, fn):
        self.asked.append(f"spawn {thread.name}")
        super().spawn(thread, fn)

    def join(self, threads):
        self.asked.append(f"join {len(threads)}")
        super().join(threads)

    def perform(self, fn, task):
        self.asked.append(f"perform {task}")
        super().perform(fn, task)


def test_everything_goes_through_the_runtime_in_use():
    def program():
        with Mutex("m"):
            Cond("c"), Semaphore(2, "s")
        threadlib.perform(lambda task: None, "a")
        join(spawn(lambda number: None))

    with threadlib.use(Listening()) as runtime:
        program()
    assert runtime.asked == ["lock m", "perform a", "spawn worker-1", "join 1"]
    program()
    assert len(runtime.asked) == 4, "the runtime before is back"


# --------------------------------------------------------------------------------------------------------- the recorder


def test_recorder_notes_tasks_regions_and_waits_with_names_and_lines():
    with threadlib.use(Recorder()) as recorder:
        items = Semaphore(0, "items")

        def work(number):
            items.P()  # the line that waits
            threadlib.perform(fails_not, "task seven")

        def fails_not(task):
            pass

        thread = spawn(work)
        while not items.state:
            pass
        with threadlib.region(fails_not):
            items.V()
        join(thread)
    events = {event.kind + " " + event.thread: event for event in recorder.events()}
    wait, task, region = events["wait worker-1"], events["task worker-1"], events["region MainThread"]
    assert wait.name == "Semaphore items" and wait.detail.startswith("test_threadlib.py:")
    assert task.name.startswith("test_recorder_notes") and task.detail == "task seven"
    assert wait.begin < wait.end <= task.begin <= task.end and region.begin < wait.end
    assert events["wait MainThread"].name == "join"


def test_recorder_keeps_the_newest():
    with threadlib.use(Recorder(capacity=3)) as recorder:
        for number in range(10):
            threadlib.perform(lambda task: None, number)
    assert [event.detail for event in recorder.events()] == ["7", "8", "9"]


def test_a_subclass_of_a_primitive_is_seen_by_the_runtime_too():
    class Gate(Semaphore):
        __slots__ = ("opened",)

        def open(self):
            self.opened = True
            self.V()

    with threadlib.use(Recorder()) as recorder:
        gate = Gate(0, "gate")
        thread = spawn(lambda number: gate.P())
        while not gate.state:
            pass
        gate.open()
        join(thread)
    assert isinstance(gate, Gate) and gate.opened
    assert "Gate gate" in [event.name for event in recorder.events() if event.kind == "wait"]


def test_a_mutex_that_is_free_is_not_noted_as_a_wait():
    with threadlib.use(Recorder()) as recorder:
        mutex = Mutex()
        with mutex:
            pass
    assert recorder.events() == []
