"""A student's copy of the lab has no lab/parallel.py and no lab/cached.py, or broken ones.

What measures and trains does without them, or says in one line what is missing.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lab.files import ROOT

BROKEN = "def generate(:\n"
ALONE = """import sys
sys.meta_path[:] = [finder for finder in sys.meta_path if "editable" not in repr(finder)]
"""  # or the installed lab would stand in for what the copy has not


@pytest.fixture(scope="module", params=["missing", "broken"])
def copy(request, tmp_path_factory) -> Path:
    """A folder with such a copy."""
    folder = tmp_path_factory.mktemp(request.param)
    shutil.copytree(ROOT / "lab", folder / "lab")  # compiled as it is
    (folder / "sitecustomize.py").write_text(ALONE)
    for name in ("parallel", "cached"):
        file = folder / "lab" / f"{name}.py"
        file.unlink()
        if request.param == "broken":
            file.write_text(BROKEN)
    return folder


def run(copy: Path, *arguments: object) -> subprocess.CompletedProcess:
    """python -m lab.<arguments> with that copy."""
    environment = {**os.environ, "PYTHONPATH": str(copy), "GPT_PROFILES_DIR": str(copy / "profiles")}
    module, *rest = map(str, arguments)
    command = [sys.executable, "-m", f"lab.{module}", *rest]
    done = subprocess.run(command, capture_output=True, text=True, cwd=copy, env=environment, timeout=100)
    assert "Traceback" not in done.stderr + done.stdout
    return done


def test_the_serial_program_is_profiled(copy):
    model = ROOT / "models" / "tiny_shakespeare.bin"  # on a smaller one a run may end before the first sample
    done = run(copy, "measure.profile", "--model", model, "--rounds", 1)
    assert done.returncode == 0 and "samples by" in done.stdout, done.stderr


def test_a_students_file_is_measured(copy, tiny, programs):
    done = run(copy, "measure.timeline", "--engine", programs / "shares.py", "--model", tiny, "-n", 5, "--workers", 2)
    assert done.returncode == 0 and "one_pass.mix" in done.stdout, done.stderr


def test_bench_goes_on_with_what_there_is(copy, tiny, programs):
    done = run(copy, "measure.bench", "--model", tiny, "-n", 5, "--rounds", 1)
    assert done.returncode == 0 and "serial" in done.stdout, done.stderr
    broken = not copy.name.startswith("missing")  # of what was never there nothing is said
    for name in ("parallel", "cached"):
        assert (f"without {name} cannot be loaded" in done.stderr) == broken
    done = run(copy, "measure.bench", "--model", tiny, "-n", 5, "--rounds", 1, "--engines", "parallel")
    assert done.returncode == 1 and "bench: parallel cannot be loaded" in done.stderr


@pytest.mark.parametrize("verb", ["timeline", "scale", "plots", "report"])
def test_the_model_answer_is_missed_in_one_line(copy, tiny, verb):
    done = run(copy, f"measure.{verb}", "--model", tiny, "-n", 5)
    last = done.stderr.strip().splitlines()[-2 if verb in ("plots", "report") and done.returncode == 1 else -1]
    if copy.name.startswith("missing"):
        assert done.returncode == 2 and "there is no lab/parallel.py here; name your file" in last
        assert len(done.stderr.splitlines()) == 1
    else:
        assert done.returncode == 1 and "parallel crashed at parallel.py:1: SyntaxError" in last


def test_training_goes_on_on_one_thread(copy, tmp_path):
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("To be, or not to be, that is the question.\n" * 60)
    small = ["--layers", 1, "--heads", 1, "--channels", 8, "--batch", 2, "--seq", 8, "--context", 8, "--share-rare", 2]
    done = run(copy, "train", "--data", corpus, *small, "--steps", 2, "--workers", 2, "--out", tmp_path / "a.bin")
    assert done.returncode == 0 and (tmp_path / "a.bin").is_file(), done.stderr
    reason = "there is no lab/parallel.py" if copy.name.startswith("missing") else "lab/parallel.py: SyntaxError: "
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("on one thread: ")]
    assert reason in line


@pytest.mark.parametrize("arguments", [["train.debug_state", "DATA/tiny_v3.bin", "DATA/tiny_debug_state.bin"]])
def test_gradients_are_checked_on_one_thread(copy, data, arguments):
    arguments = [argument.replace("DATA", str(data)) for argument in arguments]
    done = run(copy, *arguments, "--steps", 1, "--workers", 3)
    assert done.returncode == 0 and "on one thread" in done.stderr and "OK" in done.stdout
