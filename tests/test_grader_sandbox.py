"""The sandbox: who may do what, and what the parent sees of a program in it."""

import errno
import json
import os
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
from grader_boxes import GOOD, backend, limits_bind, run, started
from test_grader_workspace import gone

from grader import child as child_module
from grader import explain, grade, report
from grader import timing as timing_module
from grader.cases import public_cases
from grader.child import Child, Patience, Run
from grader.estimates import estimate_scaling
from grader.examples import BASE, program
from grader.points import load
from grader.sandbox import CONFINE, Limits, SandboxError
from grader.timing import Timing
from grader.workspace import temporary_folder


def test_environment_is_clean(each_box, monkeypatch):
    monkeypatch.setenv("SECRET", "tokens")
    monkeypatch.setenv("PYTHONPATH", "/tmp")
    monkeypatch.setenv("OPENBLAS_CORETYPE", "Haswell")  # what lab.kernels has chosen for this BLAS holds for no other
    out = run(each_box, "import os, sys; print(dict(os.environ), sys.flags.isolated, sys.path)")
    assert (
        "SECRET" not in out
        and "'/tmp'" not in out.split("sys.path")[0].split("}")[1]
        and "'OPENBLAS_NUM_THREADS': '1'" in out
        and "'OPENBLAS_CORETYPE': 'Haswell'" in out
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


def test_programs_side_by_side_cannot_mark_the_files_that_both_see(each_box):
    """By a lock on one, or by what of it is in memory: the first to know a token could tell the next."""
    if not each_box.refuses_processes:
        pytest.skip("this kernel lacks seccomp")
    code = CONFINE.read_text() + (
        "import fcntl, json, sys\n"
        "descriptor = os.open(os.__file__, os.O_RDONLY)\n"
        "lock_in(json.loads(sys.argv[1])['readable'])\n"
        "asked = {name: getattr(fcntl, name, None) for name in ('F_GETLK', 'F_SETLK', 'F_OFD_SETLK', 'F_NOTIFY')}\n"
        "ways = {'flock': lambda: fcntl.flock(descriptor, fcntl.LOCK_SH),\n"
        "        'preadv2': lambda: os.preadv(descriptor, [bytearray(1)], 0, os.RWF_NOWAIT),\n"
        "        'fadvise': lambda: os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED),\n"
        "        **{name: lambda number=number: fcntl.fcntl(descriptor, number, bytes(32)) for name, number in\n"
        "           asked.items() if number is not None}}\n"
        "for name, way in ways.items():\n"
        "    try: print(name, way())\n"
        "    except PermissionError: pass\n"
        "os.read(os.dup(descriptor), 1), os.set_blocking(descriptor, True), os.set_inheritable(descriptor, False)\n"
        "fcntl.fcntl(descriptor, fcntl.F_DUPFD_CLOEXEC, 0)\n"
        "print('locked')\n"
    )
    started = each_box.start(["-c", code, json.dumps(each_box.locks([]))])
    out, err = started.process.communicate(timeout=60)
    started.end()
    assert (out + err).decode() == "locked\n"


def test_limits_bind_where_it_is_said(box):
    if box.backend == "limits":
        pytest.skip("nobody says so")
    assert limits_bind(box)


MANY_THREADS = """
from lab.threadlib import Semaphore, join, spawn


def generate(model, prompt, n, workers):
    gate, made = Semaphore(0), 0
    try:
        while True:
            spawn(lambda number: gate.P())
            made += 1
    except RuntimeError as error:
        print(made, error)
        yield made
    finally:
        for _ in range(made):
            gate.V()
        join()
"""


def test_the_number_of_threads_is_the_same_in_every_sandbox(each_box):
    """However many the other programs of this user run, and where limits on processes do not bind (root)."""
    with started(each_box, MANY_THREADS) as child:
        run = child.ask([1, 2], 3, 2)
    assert run.tokens == [Limits().processes - 1] and run.printed == b"63 can't start new thread\n", run


@pytest.mark.skipif(os.geteuid() == 0, reason="limits on processes do not bind root")
def test_what_the_user_starts_meanwhile_is_not_counted_against_a_program():
    box = backend("limits")
    bound = int(run(box, "import resource; print(resource.getrlimit(resource.RLIMIT_NPROC)[0])"))
    assert bound >= Limits().processes + Limits().others


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
    monkeypatch.setattr(timing_module, "PROMPT_LENGTH", 28)
    monkeypatch.setattr(timing_module, "N", 32)
    monkeypatch.setattr(timing_module, "SETS", 1)
    monkeypatch.setattr(timing_module, "LEAST_ROUNDS", 1)
    with temporary_folder() as name:
        model = public_cases(Path(name)).model
        trusted = grade.trusted_tree(Path(name) / "trusted")
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
    for k, sample in ((0, round_.trusted), (1, round_.one[0]), (2, round_.many[2][0]), (4, round_.many[4][0])):
        assert len(sample.tokens) == tokens and min(sample.tokens) > 0 and sum(sample.cpu) > 0
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
        (("yield int(tokens[0, t])", "yield int(tokens[0, t]) if team.k == 1 else 102"), "done", 2),
        (("yield int(tokens[0, t])", "yield int(tokens[0, t]) // (t < 30)"), "error", 1),
        (("import numpy as np", "import numpy as np\nraise OSError"), "error", 1),
    ],
)
def test_a_failing_program_ends_the_rounds(box, monkeypatch, change, outcome, workers):
    source = BASE.read_text()
    assert change[0] in source
    found = timed(box, source.replace(*change, 1), monkeypatch)
    assert (found.failure.outcome, found.failed_workers, found.rounds) == (outcome, workers, [])


# ------------------------------------------------------------------------------------------------ faults of the machine


def test_what_cannot_be_loaded_is_not_the_submissions_fault(each_box):
    with temporary_folder() as name:
        tree = grade.build_tree(Path(name) / "lab", grade.GIVEN, "raise OSError('mine')\n")
        model = public_cases(Path(name)).model
        with Child(each_box, tree, model) as child:
            assert child.wait_ready().error[0]["message"] == "mine"
        model.write_bytes(b"nothing")
        with Child(each_box, tree, model) as child, pytest.raises(SandboxError, match="cannot load what it is given"):
            child.wait_ready()


def test_a_full_disk_is_one_line(tmp_path, monkeypatch):
    def full(*arguments):
        raise OSError(errno.ENOSPC, "No space left on device", "/small/public.bin")

    monkeypatch.setattr(grade, "case_sets", full)
    (tmp_path / "parallel.py").write_text(GOOD)
    with pytest.raises(SandboxError, match=r"/small/public.bin: No space left on device; TMPDIR="):
        grade.grade(tmp_path / "parallel.py")


@pytest.mark.parametrize("stage", ["read_submission", "run_cases"])
def test_a_fault_of_the_grader_is_a_verdict(tmp_path, monkeypatch, stage):
    monkeypatch.setattr(grade, stage, lambda *arguments: {}["nothing"])
    (tmp_path / "parallel.py").write_text(GOOD)
    options = grade.Options(stages=("tokens",), sets=[public_cases(tmp_path)])
    verdict = grade.grade(tmp_path / "parallel.py", options)
    assert verdict.exit_code == 3 and "the grader itself failed: KeyError" in verdict.rows[-1].reason
    assert verdict.score == 0 and report.html(verdict) and report.gradescope(verdict)


def test_a_program_that_cannot_be_stopped_is_ended(box, monkeypatch):
    monkeypatch.setattr(child_module, "STOPPING", 0.2)
    monkeypatch.setattr(child_module, "stopped", lambda pid: False)
    with started(box, SPINNING) as child:
        run = child.begin([1], 4, 1)
        child.turn(run)
    assert run.outcome == "unstoppable" and run.status is not None


@pytest.mark.parametrize(
    "source, outcome, values",
    [
        ("return [1, 2, 3]", "contract", {"contract": "list"}),
        ("return range(3)", "contract", {"contract": "range"}),
        ("return None", "contract", {"contract": "NoneType"}),
        ("return iter([1, 2, 3])", "done", {}),
        ("return map(int, '123')", "done", {}),
    ],
)
def test_what_generate_may_return(box, source, outcome, values):
    with started(box, f"def generate(model, prompt, n, workers):\n    {source}\n") as child:
        run = child.ask([1], 4, 1)
    assert (run.outcome, run.values) == (outcome, values)
    assert run.tokens == ([1, 2, 3] if outcome == "done" else [])


def test_an_exception_that_cannot_be_told_is_told_without_its_message(box):
    source = "class Odd(Exception):\n    __str__ = None\n\n\ndef generate(model, prompt, n, workers):\n    raise Odd\n"
    with started(box, source) as child:
        run = child.ask([1], 4, 1)
    assert run.outcome == "error" and [(one["type"], one["message"]) for one in run.error] == [("Odd", "")]


CLOSED = """
def generate(model, prompt, n, workers):
    try:
        yield 1
    finally:
        raise ValueError("closed")
"""


def test_what_fails_when_an_iterator_is_closed_is_told(box):
    with started(box, CLOSED) as child:
        run = child.ask([1], 4, 1, close_after=1)
    assert run.outcome == "error" and [one["message"] for one in run.error] == ["closed"]


IMPORTS = """
try:
    from {} import *
except ImportError:
    may = False
else:
    may = True


def generate(model, prompt, n, workers):
    yield may
"""


@pytest.mark.parametrize("module", ["numpy", "subprocess"])
def test_what_numpy_imports_for_itself_is_not_the_submissions(box, module):
    """All of numpy: subprocess and more is among it."""
    with started(box, IMPORTS.format(module)) as child:
        assert child.ask([1], 2, 1).tokens == [module == "numpy"]


@pytest.mark.parametrize(
    "line",
    [
        b"token 99999999999999999999", b"token 1_0", b"value 1e999", b"value " + b"9" * 30, b"value NaN", b"error 5",
        b"value " + b"[" * 100_000, b"margins Infinity", b"recorded {", b"\xff", b"", b"token", b"token ",
    ],
)  # fmt: skip
def test_odd_lines_through_the_pipe_for_results(line):
    child = Child.__new__(Child)
    run = Run([1], 4, 1)
    assert child.take(line, run, 0.0) == "protocol"
    assert run.tokens == [] and run.values == {}


def test_without_seccomp_other_processes_are_found(each_box, monkeypatch):
    attack = program(BASE.parent / "attacks" / "hidden_process.py").replace("raise RuntimeError(f", "print(f")
    box = replace(each_box, refuses_processes=False)
    with temporary_folder() as name:
        model = public_cases(Path(name)).model
        tree = grade.build_tree(Path(name) / "lab", grade.GIVEN, attack)
        locks = (tree / "confine.py").read_text()
        (tree / "confine.py").write_text(locks + "\n\ndef refuse_processes():\n    return False\n")
        with Child(box, tree, model) as child:
            assert child.wait_ready() is None
            run = child.ask([1, 2], 6, 2)
            left = child.started.strays(child.pid)
    assert run.outcome == "processes" and run.status is not None
    assert "starts other processes" in explain.run_line(run, [1], Limits(), attack)
    assert gone(*left)


def test_files_without_end_are_stopped(each_box):
    source = (
        "import os\n\n\ndef generate(model, prompt, n, workers):\n"
        "    number = 0\n    while True:\n        number += 1\n"
        "        try:\n            with open(os.path.join(os.environ['HOME'], str(number % 8)), 'ab') as file:\n"
        "                file.write(bytes(1 << 20))\n        except OSError:\n            pass\n    yield 1\n"
    )
    bound = each_box.backend == "bubblewrap"  # by the kernel: no file tells, and no token ever comes
    patience = Patience(token=0.5 if bound else 8.0)
    with started(each_box, source, limits=Limits(tmp_size=4 << 20), patience=patience) as child:
        run = child.ask([1, 2], 6, 2)
        scratch = child.started.scratch
    assert run.outcome == ("spin" if bound else "litter")
    assert scratch is None or not scratch.exists()
