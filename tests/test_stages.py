"""make stage: what each stage takes, which case is shown when one fails, and what else a file can be."""

import re
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from lab.stages import main

ROOT = Path(__file__).parent.parent
STAGE4 = ROOT / "solutions" / "stage4.py"
GENERATE = "def generate(model, prompt, n, workers):\n"
REACHED = {  # file -> the stages whose cases it passes
    "handout/parallel.py": {1},
    "solutions/stage3.py": {1, 2, 3},
    "solutions/stage4.py": {1, 2, 3, 4, 5},
    "lab/parallel.py": {1, 2, 3, 4, 5},
}


@pytest.fixture
def stage(called: Callable, monkeypatch: pytest.MonkeyPatch) -> Callable[..., subprocess.CompletedProcess]:
    """stage(number, file) runs the command, which tries the cases in a process of its own."""
    monkeypatch.chdir(ROOT)
    return partial(called, main)


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("file", REACHED)
def test_each_program_passes_the_stages_it_has_reached(stage: Callable, file: str, number: int):
    done = stage(number, ROOT / file)
    assert done.returncode == (number not in REACHED[file]), done.stdout + done.stderr
    assert ("cases passed\n" in done.stdout and "✗" not in done.stdout) or re.search(
        r"✗ .*\n +expected  .*\n +got       .*", done.stdout
    )
    on_tokens = "comparing tokens only" in done.stdout
    assert on_tokens == (file == "lab/parallel.py" and number in (3, 4))


WRONG = {  # (stage, what stands there, what instead): exit code, expected, got
    "the last row is nobody's": (
        3, "count * (i + 1) // k)", "count * (i + 1) // k - (i == k - 1))",
        1, r"out\[0, 0, 11\] = [-\d.]+", r"out\[0, 0, 11\] = [-\d.]+ \(1 of 12 elements differ\)",
    ),
    "everybody does everything": (
        3, "blocks(OC, workers.k))", "[slice(0, OC)] * workers.k)",
        1, "each element of out written by one task", r"out\[0, 0, 0\] written by 2 of 2 tasks",
    ),
    "added to what is there": (
        3, "np.matmul(x, weight[columns].T, out=y[:, columns])", "y[:, columns] += x @ weight[columns].T",
        1, r"out\[0, 0, 0\] = .*", r"out\[0, 0, 0\] = .*",
    ),
    "split over the batch": (
        4, "workers.run(heads, blocks(NH, workers.k))", "workers.run(lambda b: heads(slice(0, NH)), [0])",
        1, "at least 2 tasks for 2 workers", "1 task: one worker does it all",
    ),
    "one thread too few": (2, "for start in self.starts]", "for start in self.starts[1:]]", 1, "2 threads .*", "1"),
    "returns before all is done": (
        2, "            if needed:\n                self.over.P()", "",
        1, "tasks 1 to 5 done when run.. returns", r"\[\]",
    ),
    "a flag without a lock": (
        2, "while True:\n            start.P()", "while not self.closed:\n            start.P()",
        4, "no thread error .*", "race under this one",
    ),
    "never says that it is over": (2, "self.over.V()", "pass", 4, "no thread error .*", "deadlock under this one"),
    "the other tokens": (1, "scores *= scale", "scores *= 2", 1, r"tokens \[.*\]", r"tokens \[.*\]; make explore.*"),
    "one region of one task": (
        5, "workers.run(heads, blocks(NH, workers.k))", "workers.run(heads, [slice(0, NH)])",
        1, "at least 2 tasks in a region", "attention_forward is one task.*",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_the_first_failing_case_shows_expected_and_got(stage: Callable, tmp_path: Path, name: str):
    number, there, instead, code, expected, got = WRONG[name]
    source = STAGE4.read_text()
    assert there in source
    file = tmp_path / "mine.py"
    file.write_text(source.replace(there, instead))
    done = stage(number, file)
    assert done.returncode == code, done.stdout + done.stderr
    assert re.search(rf"✗ .*\n +expected  {expected}\n +got       {got}\n", done.stdout), done.stdout
    if number == 2:
        assert ("def main():" in done.stdout and "with Workers" in done.stdout) or "Workers(2)" in done.stdout


def test_functions_of_other_names_are_tried_on_tokens(stage: Callable, tmp_path: Path):
    file = tmp_path / "mine.py"
    file.write_text(STAGE4.read_text().replace("matmul_forward", "product").replace("scores *= scale", "scores *= 2"))
    done = stage(3, file)
    assert done.returncode == 1 and "comparing tokens only" in done.stdout
    assert re.search(r"✗ generate\(\).*\n +expected  tokens .*\n +got       tokens ", done.stdout)


def test_an_exception_shows_the_students_lines(tmp_path: Path):
    def stage(number: int, file: Path) -> subprocess.CompletedProcess:  # the traceback of a real command
        words = [sys.executable, "-m", "lab.stages", str(number), str(file)]
        return subprocess.run(words, cwd=ROOT, capture_output=True, text=True, timeout=120)

    file = tmp_path / "mine.py"
    file.write_text(STAGE4.read_text().replace("+= bias[columns]", "+= bais[columns]"))
    done = stage(3, file)
    assert done.returncode == 1 and "✗ matmul_forward: B=1" in done.stdout
    assert done.stderr.startswith(f'  File "{file}"') and done.stderr.endswith("'bais' is not defined\n")
    file.write_text("import nosuch\n" + STAGE4.read_text())
    done = stage(1, file)
    assert done.returncode == 1 and "No module named 'nosuch'" in done.stderr and "runpy" not in done.stderr


@pytest.mark.parametrize(
    ("text", "got"),
    [
        ("def main():\n    pass\n", "it has no generate(model, prompt, n, workers)"),
        ("def generate(a):\n    pass\n", "it has generate(a), not generate(model, prompt, n, workers)"),
        (
            f"{GENERATE}    return 5\n",
            "generate() returned int: it has to yield the tokens",
        ),
        (f"{GENERATE}    yield 'w'\n", "generate() yields 'w', which is no token"),
    ],
)
def test_a_generate_that_is_none_is_a_case_that_fails(stage: Callable, tmp_path: Path, text: str, got: str):
    (tmp_path / "mine.py").write_text(text)
    done = stage(1, tmp_path / "mine.py")
    assert (done.returncode, done.stderr) == (1, "")
    assert done.stdout.endswith(
        f"      expected  generate(model, prompt, n, workers), which yields tokens\n      got       {got}\n"
    )


@pytest.mark.parametrize(
    ("number", "text", "said"),
    [
        (2, "def generate(:\n", "mine.py:1: invalid syntax"),
        (
            2,
            "import threading\n\ndef generate(model, prompt, n, workers):\n    yield 1\n",
            "mine.py:1 imports threading",
        ),
        (2, "x = 1\n", "has neither generate"),
        (2, None, "no such file"),
        (7, "", "no stage 7: give 1 to 5"),
        ("", "", "no stage: give 1 to 5, as in make stage S=2"),
    ],
)
def test_what_cannot_be_tried_is_one_line(stage: Callable, tmp_path: Path, number: object, text: str | None, said: str):
    file = tmp_path / "mine.py"
    if text is not None:
        file.write_text(text)
    done = stage(number, file)
    assert done.returncode == 2 and said in done.stderr and done.stderr.count("\n") == 1 and not done.stdout
