"""make bench: the statistics, the command on the tiny model, what it refuses. No time is judged here."""

import io
import json
import subprocess
import sys

import numpy as np
import pytest
from rich.console import Console

from lab import serial
from lab.checkpoint import Config
from lab.files import ROOT
from lab.margin import MARGIN, margin
from lab.measure import bench, beside
from lab.measure.capacity import Kernel, capacity
from lab.measure.stats import Estimate, estimate, ratios


def run(*arguments, tiny=None):
    """python -m lab.measure.bench with the arguments."""
    command = [sys.executable, "-m", "lab.measure.bench", *map(str, arguments)]
    return subprocess.run([*command, *(["--model", tiny] if tiny else [])], capture_output=True, text=True, timeout=100)


def test_interval_holds_the_median_nearly_always():
    random, held = np.random.default_rng(1), 0
    for seed in range(200):
        _, low, high = estimate(random.lognormal(0.0, 0.1, size=15), seed=seed, resamples=500)
        held += low <= 1.0 <= high
    assert 180 <= held <= 200, "about 95 % of the time"


def test_estimate_and_ratios():
    assert ratios([2.0, 9.0], [1.0, 3.0]) == [2.0, 3.0]
    assert estimate([5.0, 5.0, 5.0]) == (5.0, 5.0, 5.0)
    assert str(estimate([1.0, 2.0, 3.0])).startswith("2.00 [")
    for wrong in (lambda: estimate([]), lambda: ratios([1.0], [1.0, 2.0])):
        with pytest.raises(ValueError):
            wrong()


def test_capacity_does_the_same_work_at_every_k():
    kernel = Kernel(5, Config(64, 1000, 3, 4, 64, 1024))
    assert kernel.whole == 1 and len(kernel.products) == 12 and len(kernel.logits) == 1024  # a whole pass of this model
    for k in (1, 2, 3, 5):
        for _, _, result in kernel.products:
            result[:] = 0.0
        assert kernel.seconds(k) > 0.0
        for weights, inputs, result in kernel.products:
            np.testing.assert_allclose(result, weights @ inputs, rtol=1e-4, atol=1e-4)
        np.testing.assert_allclose(kernel.logits, kernel.vocabulary @ kernel.last, rtol=1e-4, atol=1e-4)
    assert capacity(2, kernel, repeats=2) > 0
    with pytest.raises(ValueError, match="at least 1"):
        capacity(0, kernel)


def test_capacity_is_the_ratio_of_the_medians_of_turns():
    class Turns:
        def seconds(self, k):
            return 1.0

        def one_and(self, k, one_first):
            return (4.0, 2.0) if one_first else (6.0, 3.0)

    assert capacity(2, Turns(), repeats=4) == pytest.approx(5.0 / 2.5)


def test_the_command_prints_a_table_and_writes_the_numbers(tiny, tmp_path):
    gpt = f"{sys.executable} -m lab.gpt -n 8 --model {tiny}"
    done = run(
        "-n", 8, "--rounds", 2, "--workers", "1,2", "--peer-cmd", gpt, "--out", tmp_path / "bench.json", tiny=tiny
    )
    assert done.returncode == 0, done.stderr
    for line in (
        "serial",
        "parallel k=1",
        "parallel k=2",
        "cached k=2",
        "gain = (E_k - 1) / (C_k - 1)",
        "BLAS kernel",
        "regions of parallel on 2 workers",
        "with loading",
    ):
        assert line in done.stdout
    written = json.loads((tmp_path / "bench.json").read_text())
    assert [(c["engine"], c["k"]) for c in written["contenders"][:5]] == [
        ("serial", 1), ("parallel", 1), ("parallel", 2), ("cached", 1), ("cached", 2)
    ]  # fmt: skip
    assert all(len(c["seconds"]) == len(c["per_token"]) == 2 for c in written["contenders"])
    two = written["contenders"][2]
    assert two["E"]["low"] <= two["E"]["median"] <= two["E"]["high"] and two["S"] is not None
    assert (
        len(written["capacity"]["2"]) == len(written["bare"]) == 2 and written["overheads"]["regions"]["parallel"]["2"]
    )
    assert written["prompt_length"] == 3 and written["kernel"] in done.stdout and written["kernels"] in done.stdout


def test_a_file_called_parallel_is_not_the_labs_own(tiny, tmp_path, programs, capsys):
    """Nothing of lab/parallel.py is measured, or said to be that file's."""
    (tmp_path / "parallel.py").write_text((programs / "shares.py").read_text())
    out = tmp_path / "bench.json"
    arguments = [
        "--engines",
        tmp_path / "parallel.py",
        "--rounds",
        1,
        "--workers",
        "1,2",
        "--model",
        tiny,
        "--out",
        out,
    ]
    assert bench.main([str(argument) for argument in arguments]) == 0
    written = json.loads(out.read_text())
    assert (written["digests"], written["overheads"]["regions"]) == ({}, {})
    assert written["command"].endswith(str(out)) and "regions of" not in capsys.readouterr().out
    curve = beside.curves(written)["parallel"]
    assert curve[1].median == 1.0 and curve[2].low <= curve[2].median <= curve[2].high
    assert beside.capacities(written).keys() == {1, 2}
    first = next(entry for entry in written["contenders"] if entry["k"] == 2)
    each = 1e3 * first["seconds"][0] / (written["n"] - written["prompt_length"])
    assert beside.milliseconds(written)["parallel"][2] == pytest.approx(each)


def test_programs_stand_beside_each_other_in_one_picture():
    curve = {1: Estimate(1.0, 1.0, 1.0), 2: Estimate(1.8, 1.7, 1.9)}
    figure = beside.draw_scaling({"stage 3": curve, "yours": curve}, {1: 1.0, 2: 1.9}, "a title", "a $note")
    labels = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert labels[-2:] == ["stage 3", "yours"] and labels[0] == "ideal: k"
    figure = beside.draw_times({"serial": {1: 900.0}, "my $file": {1: 300.0, 2: 160.0}}, "a title")
    assert [tick.get_text() for tick in figure.axes[0].get_yticklabels()] == [
        "serial", "my $file, 1 worker", "my $file, 2 workers"
    ]  # fmt: skip
    assert [text.get_text() for text in figure.axes[0].texts] == ["900 ms", "300 ms", "160 ms"]


def test_prompts_of_any_length_and_files(tiny, tmp_path, programs):
    out = tmp_path / "bench.json"
    done = run(
        "--prompt", 20, "--rounds", 1, "--workers", 2, "--engines", f"{programs / 'shares.py'},serial", "--out", out,
        tiny=tiny,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    written = json.loads(out.read_text())
    assert (written["prompt_length"], written["n"]) == (20, 27)
    assert [(c["engine"], c["k"]) for c in written["contenders"]] == [("shares", 1), ("shares", 2), ("serial", 1)]


PEER = """#!{python}
import json, sys
if sys.argv[1] == "-c":  # asked which libraries it has
    sys.exit(1 if {missing!r} in sys.argv[2] else print("true"))
sys.path.insert(0, {root!r})
from lab import serial
model = serial.gpt2_build_from_checkpoint(sys.argv[2])
print(json.dumps({{}}), flush=True)
for line in sys.stdin:
    order = json.loads(line)
    tokens = list(serial.generate(model, order["prompt"], order["n"]))
    tokens[-1] += {off}
    print(json.dumps({{"tokens": tokens, "stamps": [0.01 * (i + 1) for i in range(len(tokens))]}}), flush=True)
"""


def peer_python(folder, missing, off=0):
    """An executable that stands for a Python with PyTorch or llama.cpp; its last token may be wrong."""
    file = folder / "python"
    file.write_text(PEER.format(python=sys.executable, missing=missing, root=str(ROOT), off=off))
    file.chmod(0o755)
    return file


@pytest.mark.parametrize(
    "missing, off, said",
    [
        ("llama_cpp", 0, ["PyTorch last logits k=2 / parallel k=2:", "PyTorch KV cache k=2 / cached k=2:"]),
        ("torch", 0, ["llama.cpp k=2 / cached k=2:"]),
        ("torch", 1, ["llama.cpp k=2: other tokens in 2 of 2 rounds"]),
    ],
)
def test_peers_stand_beside(tiny, tmp_path, missing, off, said):
    python, out = peer_python(tmp_path, missing, off), tmp_path / "bench.json"
    done = run("-n", 6, "--rounds", 2, "--workers", 2, "--peer-python", python, "--out", out, tiny=tiny)
    assert done.returncode == 0, done.stderr
    assert all(line in done.stdout for line in said), done.stdout
    assert len(json.loads(out.read_text())["contenders"]) == 5 + (3 if missing == "llama_cpp" else 1)


def test_a_peer_that_should_give_the_same_tokens_must(tiny, tmp_path):
    done = run("-n", 6, "--rounds", 1, "--peer-python", peer_python(tmp_path, "llama_cpp", off=1), tiny=tiny)
    assert done.returncode == 1 and "PyTorch" in done.stderr and "expected" in done.stderr


@pytest.mark.parametrize(
    "arguments, code, message",
    [
        (["--engines", "turbo"], 1, "bench: --engines turbo: 'turbo' is none of serial, parallel, cached"),
        (["--workers", "two"], 1, "bench: --workers two: expected numbers such as 1,2,4"),
        (["--workers", "0"], 1, "bench: --workers 0: at least 1"),
        (["-n", "65"], 1, "bench: -n 65: give 4 to 64 tokens, 3 of them the prompt"),
        (["--peer-cmd", "/no/such/program"], 1, "bench: --peer-cmd /no/such/program: No such file or directory"),
        (["--peer-python", "false"], 1, "false has neither PyTorch nor llama-cpp-python"),
        (["--peer-python", "echo"], 1, "bench: echo: it answers '-c import torch', which is not JSON"),
        (["--peer-python", "/no/such/python"], 1, "bench: /no/such/python: No such file or directory"),
        (["--peer-cmd", ""], 1, "bench: --peer-cmd: the command is empty"),
        (["--peer-cmd", "'"], 1, "bench: --peer-cmd ': No closing quotation"),
        (["--peer-cmd", "echo x"], 1, "bench: --peer-cmd echo x: it prints something else than tokens"),
        (["--workers", "1,257"], 1, "bench: --workers 257: at most 256; more workers than cores"),
        (["-n", "2"], 1, "bench: -n 2: give 4 to 64 tokens, 3 of them the prompt"),
        (["--prompt", "64"], 1, "bench: --prompt 64: this model takes up to 64 tokens; give 1 to 63"),
        (["--prompt", "0"], 2, "'0' must be a positive integer"),
        (["--out", "/dev/null"], 1, "bench: /dev/null: cannot be written: it is not a regular file"),
        (["--out", "/tmp"], 1, "bench: /tmp: cannot be written: it is a folder"),
        (["--out", "/dev/null/x.json"], 1, "cannot be written: Not a directory"),
    ],
)
def test_one_clear_line_for_bad_input(arguments, code, message, tiny, tmp_path, capsys):
    out = tmp_path / "bench.json"
    try:
        found = bench.main(["--rounds", "1", "--out", str(out), "--model", str(tiny), *arguments])
    except SystemExit as error:
        found = error.code
    assert found == code and message in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(
    "body, said",
    [
        ("return iter(())", "mine k=1 gives no tokens"),
        ("return iter(int, 1)", "mine.py: generate() does not stop at n tokens"),
    ],
)
def test_a_program_that_makes_no_tokens_or_too_many(tiny, tmp_path, capsys, body, said):
    mine = tmp_path / "mine.py"
    mine.write_text(f"def generate(model, prompt, n, workers):\n    {body}\n")
    job = ["--rounds", "1", "--workers", "1", "-n", "5", "--engines", str(mine), "--out", str(tmp_path / "bench.json")]
    assert bench.main([*job, "--model", str(tiny)]) == 1
    assert capsys.readouterr().err.splitlines()[-1].endswith(said)
    mine.write_text("def generate(model, prompt, n, workers):\n    raise ValueError('of a student')\n")
    with pytest.raises(ValueError, match="of a student"):  # a traceback says where
        bench.main([*job, "--model", str(tiny)])


def test_different_tokens_are_an_error():
    exact, other = (bench.Contender(name, name, 1, None, name == "a") for name in "ab")
    bench.check_tokens([1], exact, [2, 3], [2, 3])
    with pytest.raises(bench.BenchError, match=r"prompt \[1\]: a gives .*new token 2 is 4, expected 3"):
        bench.check_tokens([1], exact, [2, 4], [2, 3])
    with pytest.raises(bench.BenchError, match="a gives other tokens: 1 new tokens, expected 2"):
        bench.check_tokens([1], exact, [2], [2, 3])
    bench.check_tokens([1], other, [2, 4], [2, 3])
    assert (exact.other_tokens, other.other_tokens) == (0, 1)


def test_safe_prompts_keep_the_margin_and_say_what_follows(tiny):
    model = serial.gpt2_build_from_checkpoint(tiny)
    for length in (2, 7):
        prompt, tokens = bench.safe_prompt(model, length, 12, np.random.default_rng(0))
        assert len(prompt) == length and tokens == list(serial.generate(model, prompt, 12))
        for t in range(length, 12):
            serial.gpt2_forward(model, np.array([[*prompt, *tokens][:t]]), 1, t)
            assert margin(model.acts.probs[0, t - 1, : model.config.vocab_size]) >= MARGIN


def test_gain_is_the_share_of_what_the_cores_can_gain():
    one, two = (bench.Contender("p", "p", k, None, seconds=[1.0 / k**0.5] * 3) for k in (1, 2))
    results = bench.Results(2, 9, [one, two], {2: [1.5, 1.5, 1.5]}, {})
    assert results.gain(two).median == pytest.approx((2**0.5 - 1) / 0.5)
    assert bench.Results(2, 9, [one, two], {2: [1.0, 1.5, 1.5]}, {}).gain(two) is None


@pytest.mark.parametrize(
    ("width", "shown", "title"),
    [(60, "2.00", "tok/s"), (80, "2.00", "tokens/s"), (120, "2.00 [2.00, 2.00]", "tokens/s")],
)
def test_the_table_cuts_no_number(width, shown, title):
    names = [("serial", "serial", 1, 4.0), ("parallel k=1", "parallel", 1, 4.0), ("parallel k=16", "parallel", 16, 2.0)]
    names.append(("PyTorch last logits, compiled k=2", "torch", 2, 2.0))
    contenders = [bench.Contender(name, engine, k, None, seconds=[seconds]) for name, engine, k, seconds in names]
    results = bench.Results(96, 100, contenders, {2: [1.9], 16: [12.0]}, {1: [20.0], 2: [30.0]})
    console = Console(width=width, record=True, file=io.StringIO())
    console.print(bench.table(results, 10**8, console.width))
    text = console.export_text()
    assert (
        "…" not in text
        and "parallel k=1 " in text
        and shown in text
        and title in text
        and max(map(len, text.splitlines())) <= width
    )


def test_a_students_copy_measures_its_parallel_py(tmp_path, monkeypatch, tiny, programs):
    assert bench.usual(10) == ["serial", "parallel", "cached"] and bench.usual(100) == ["parallel", "cached"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(bench, "find_spec", lambda name: name == "lab.serial" or None)
    assert bench.usual(10) == ["serial"]
    (tmp_path / "parallel.py").touch()
    assert bench.usual(10) == ["serial", "parallel.py"] and bench.usual(100) == ["parallel.py"]
    (tmp_path / "parallel.py").write_text((programs / "shares.py").read_text())
    assert bench.main(["--rounds", "1", "--workers", "1", "-n", "4", "--model", str(tiny), "--out", "b.json"]) == 0
    assert json.loads((tmp_path / "b.json").read_text())["digests"].keys() == {"serial"}  # the lab's own alone


def test_a_program_without_generate_is_one_line(tmp_path, tiny, capsys):
    (tmp_path / "mine.py").write_text("x = 1\n")
    assert (
        bench.main(
            [
                "--engines",
                str(tmp_path / "mine.py"),
                "--model",
                str(tiny),
                "-n",
                "4",
                "--rounds",
                "1",
                "--out",
                str(tmp_path / "b.json"),
            ]
        )
        == 1
    )
    assert capsys.readouterr().err.endswith("mine.py: it has no generate(model, prompt, n, workers)\n")
