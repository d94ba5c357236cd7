"""gpt and gpt-chat as they are met on the command line: what they print, and their exit codes."""

import importlib
import io
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lab import chat as chat_module
from lab import gpt as gpt_module
from lab import kernels, models
from lab.chat import pieces
from lab.checkpoint import Config
from lab.models import synthetic_checkpoint
from lab.tokenizer import EOT, encode

SPEAKS = Config(max_seq_len=64, vocab_size=50257, num_layers=1, num_heads=2, channels=8, padded_vocab_size=50304)
ENVIRONMENT = {name: value for name, value in os.environ.items() if not name.startswith("GPT_")}
ENVIRONMENT[kernels.VARIABLE] = kernels.choose()


@pytest.fixture(scope="module")
def speaking(tmp_path_factory) -> Path:
    """A model of nothing but GPT-2's vocabulary."""
    path = tmp_path_factory.mktemp("models") / "speaking.bin"
    synthetic_checkpoint(path, SPEAKS)
    return path


@pytest.fixture
def gpt(capsys):
    """Run gpt in this process: exit code, standard output, standard error."""
    return lambda *arguments: outcome(gpt_module.main, arguments, capsys)


@pytest.fixture
def chat(capsys, speaking):
    """Run gpt-chat in this process, with the speaking model."""
    return lambda *arguments: outcome(chat_module.main, ["--model", speaking, *arguments], capsys)


def outcome(main, arguments, capsys) -> tuple[int, str, str]:
    try:
        code = main([str(argument) for argument in arguments])
    except SystemExit as error:
        code = error.code
    return code, *capsys.readouterr()


def start(module: str, *arguments: object, **options) -> subprocess.Popen:
    """A command as a process of its own."""
    command = [sys.executable, "-m", module, *map(str, arguments)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "env": ENVIRONMENT}
    return subprocess.Popen(command, **(pipes | options))


def lines(tokens: list[int]) -> str:
    return "".join(f"{token}\n" for token in tokens)


# ------------------------------------------------------------------------------------------------------------------ gpt


def test_gpt_prints_the_golden_tokens(gpt, golden, tiny):
    for case in (case for case in golden["cases"][:16] if case["n"] == 10):
        assert gpt("--model", tiny, *case["prompt"]) == (0, lines(case["tokens"]), "")


def test_gpt_n(gpt, golden, tiny):
    case = golden["cases"][-1]
    assert gpt("--model", tiny, "-n", case["n"], *case["prompt"]) == (0, lines(case["tokens"]), "")


def test_the_words_of_gpt_c(gpt, tiny):
    assert gpt() == (1, "", "Provide at least one token.\n")
    assert gpt("--model", tiny, *range(10)) == (1, "", "Too many tokens. -n 10 takes at most 9, not 10.\n")
    assert gpt("--model", tiny, *range(9))[0] == 0
    assert gpt("--model", tiny, "-n", 3, 1, 2, 3) == (1, "", "Too many tokens. -n 3 takes at most 2, not 3.\n")
    assert gpt("--model", tiny, "-n", 1, 1) == (1, "", "Too many tokens. -n 1 takes at most 0, not 1.\n")


def test_options_may_stand_between_tokens(gpt, tiny):
    expected = gpt("--model", tiny, "-n", 4, 5, 6)
    assert expected[0] == 0 and gpt(5, "-n", 4, 6, "--model", tiny) == expected


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["x"], "gpt: token 'x': not a whole number; python -m lab.tokenizer turns text into tokens"),
        (["1.5"], "gpt: token '1.5': not a whole number; python -m lab.tokenizer turns text into tokens"),
        ([""], "gpt: token '': not a whole number; python -m lab.tokenizer turns text into tokens"),
        (["331"], "gpt: token 331: the vocabulary is 0 to 330"),
        (["1", "-1"], "gpt: token -1: the vocabulary is 0 to 330"),
        (["9" * 30], f"gpt: token {'9' * 30}: the vocabulary is 0 to 330"),
        (["9" * 5000], f"gpt: token {'9' * 37}...: the vocabulary is 0 to 330"),
        (
            ["x" * 5000],
            f"gpt: token '{'x' * 37}...': not a whole number; python -m lab.tokenizer turns text into tokens",
        ),
        (
            ["1", "-n", "9" * 5000],
            f"gpt: argument -n: '{'9' * 37}...' must be a positive integer, of at most 15 digits (see gpt --help)",
        ),
        (["1", "-n", "65"], "gpt: -n 65: this model takes up to 64 tokens"),
        ([*["1"] * 64, "-n", "73"], "gpt: a prompt of 64 tokens: this model takes up to 63"),
        (["1", "-n", "0"], "gpt: argument -n: '0' must be a positive integer (see gpt --help)"),
        (["1", "-n", "ten"], "gpt: argument -n: 'ten' must be a positive integer (see gpt --help)"),
        (["1", "--workers", "2"], "gpt: --workers: the serial engine has none; add --engine parallel or cached"),
        (
            ["1", "--engine", "parallel", "--workers", "0"],
            "gpt: argument --workers: '0' must be a positive integer (see gpt --help)",
        ),
        (["1", "--loud"], "gpt: unrecognized arguments: --loud (see gpt --help)"),
    ],
)
def test_usage_errors(gpt, tiny, arguments, message):
    assert gpt("--model", tiny, *arguments) == (2, "", message + "\n")


def test_an_unknown_engine(gpt):
    code, out, err = gpt("--engine", "quantum", "1")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "none of serial, parallel, cached" in err
    for name in ("nosuch.py", f"{'x' * 300}.py"):
        assert gpt("--engine", name, "1")[2] == f"gpt: argument --engine: {name}: no such file (see gpt --help)\n"


def test_an_engine_in_a_file_of_ones_own(gpt, golden, tiny, tmp_path):
    mine, case = tmp_path / "my parallel.py", golden["cases"][0]
    mine.write_text(
        "from lab.parallel import *\nimport lab.parallel as p\ndef generate(*a, **k): yield from p.generate(*a, **k)\n"
    )
    assert gpt("--model", tiny, "--engine", mine, "--workers", 2, *case["prompt"]) == (0, lines(case["tokens"]), "")
    mine.write_text("x = 1\n")
    code, out, err = gpt("--model", tiny, "--engine", mine, 1)
    assert (code, out) == (2, "") and err.endswith("it has no generate(model, prompt, n, workers)\n")


def test_models_that_cannot_be_used(gpt, tmp_path):
    code, out, err = gpt("--model", "nosuch", "1")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith("gpt: nosuch: no such model; give a path")
    for odd in ("~nosuchuser/x", "a" * 5000):
        code, out, err = gpt("--model", odd, "1")
        assert (code, out, err.count("\n")) == (1, "", 1) and "no such model (" in err and len(err) < 120
    broken = tmp_path / "broken.bin"
    broken.write_bytes(b"hello")
    assert gpt("--model", broken, "1") == (
        1,
        "",
        f"gpt: {broken}: not a checkpoint: 5 bytes, but the header alone is 1024\n",
    )


def test_verify(gpt, data, tmp_path):
    content = (data / "tiny_v3.bin").read_bytes()
    broken = tmp_path / "broken.bin"
    broken.write_bytes(content[:-4] + b"\x00\x00\xc0\x7f")
    assert gpt("--verify", "--model", broken, "1") == (
        1,
        "",
        f"gpt: {broken}: lnfb: found nan, expected finite weights only\n",
    )
    assert gpt("--verify", "--model", data / "tiny_v5.bin", "1")[0] == 0


@pytest.mark.parametrize("engine", ["parallel", "cached"])
def test_engines_make_the_same_tokens(gpt, golden, tiny, engine, monkeypatch):
    case = golden["cases"][7]
    assert gpt("--model", tiny, "--engine", engine, "--workers", 2, *case["prompt"]) == (0, lines(case["tokens"]), "")
    monkeypatch.setenv("GPT_WORKERS", "3")
    assert gpt("--model", tiny, "--engine", engine, *case["prompt"]) == (0, lines(case["tokens"]), "")
    monkeypatch.setenv("GPT_WORKERS", "some")
    assert gpt("--model", tiny, "--engine", engine, "1") == (
        2,
        "",
        "gpt: GPT_WORKERS='some' must be a positive integer\n",
    )


@pytest.mark.parametrize("engine", ["parallel", "cached"])
def test_more_workers_than_make_sense_are_refused(gpt, tiny, engine, monkeypatch):
    code, out, err = gpt("--model", tiny, "--engine", engine, "--workers", 5000, "1")
    assert (code, out, err.count("\n")) == (
        2,
        "",
        1,
    ) and "--workers: 5000: at most 256; more workers than cores (" in err
    assert gpt("--model", tiny, "--engine", engine, "--workers", 256, "-n", 3, "1")[0] == 0
    monkeypatch.setenv("GPT_WORKERS", "5000")
    code, out, err = gpt("--model", tiny, "--engine", engine, "1")
    assert (code, out) == (2, "") and err.startswith("gpt: GPT_WORKERS=5000: at most 256; ")


@pytest.mark.parametrize("module", ["lab.train", "lab.train.evaluate", "lab.train.bench", "lab.measure.profile"])
def test_workers_of_the_environment_in_the_other_commands(module, monkeypatch, tiny, tmp_path, capsys):
    monkeypatch.setenv("GPT_WORKERS", "x")
    monkeypatch.setattr(models, "MODELS_DIR", tmp_path)
    arguments = {"lab.train.evaluate": [tiny], "lab.measure.profile": ["--engine", "parallel", "--model", tiny]}
    main = importlib.import_module(f"{module}.__main__" if module == "lab.train" else module).main
    code, _, err = outcome(main, arguments.get(module, []), capsys)
    assert code == 2 and err.endswith(
        f"{module}: GPT_WORKERS='x' must be a positive integer (see python -m {module} --help)\n"
    )
    assert not list(tmp_path.iterdir()), "no model is made before"


def test_threads_that_the_system_does_not_allow(gpt, tiny, monkeypatch):
    def generate(*arguments, **options):
        raise RuntimeError("can't start new thread")
        yield

    monkeypatch.setattr(gpt_module, "engine", lambda name, workers: generate)
    message = "gpt: the system allows no more threads: use fewer --workers, or raise ulimit -u\n"
    assert gpt("--model", tiny, "1") == (2, "", message)


def test_not_enough_memory(gpt, tiny, monkeypatch):
    monkeypatch.setattr(gpt_module, "engine", lambda name, workers: lambda model, prompt, n: bytearray(1 << 62))
    assert gpt("--model", tiny, "1") == (
        1,
        "",
        "gpt: not enough memory for 10 tokens of this model: use a smaller -n\n",
    )


def test_a_file_that_is_no_python(gpt, tiny, tmp_path):
    mine = tmp_path / "mine.py"
    mine.write_text("x = (\n")
    message = f"gpt: --engine {mine}: SyntaxError: '(' was never closed (mine.py, line 1)\n"
    assert gpt("--model", tiny, "--engine", mine, "1") == (2, "", message)


def test_a_program_called_like_a_module_does_not_replace_it(gpt, programs, tmp_path, shipped):
    mine = tmp_path / "tiktoken.py"  # which is imported later, to show the text
    mine.write_text((programs / "shares.py").read_text())
    code, out, err = gpt("--model", shipped, "--engine", mine, "--text", "-n", 3, 31373)
    assert (code, err) == (0, "") and "hello" in out


def test_a_file_called_like_a_module_of_python_is_not_taken_for_it(tmp_path, tiny, golden):
    for name in ("random.py", "queue.py", "rich.py"):
        (tmp_path / name).write_text("raise SystemExit('not this one')\n")
    case = next(case for case in golden["cases"] if case["n"] == 10)
    environment = ENVIRONMENT | {"PYTHONPATH": str(Path(gpt_module.__file__).parents[1])}
    with start("lab.gpt", "--model", tiny, *case["prompt"], cwd=tmp_path, env=environment) as process:
        assert process.communicate() == (lines(case["tokens"]), "") and process.returncode == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x = 1\nimport nosuch\n", "ModuleNotFoundError: No module named 'nosuch' (mine.py, line 2)"),
        ("def f():\n    raise ValueError('a\\nb')\nf()\n", "ValueError: a b (mine.py, line 2)"),
        ("exit(3)\n", "SystemExit: 3 (mine.py, line 1)"),
        ("import helper\n", "ZeroDivisionError: division by zero (helper.py, line 2)"),
        ("import broken\n", "SyntaxError: invalid syntax (broken.py, line 1)\n"),
        ("x = '\0'\n", "source code string cannot contain null bytes"),
        ("generate = 5\n", "it has no generate(model, prompt, n, workers)"),
        ("def generate(model):\n    yield 1\n", "it has generate(model), not generate(model, prompt, n, workers)"),
        ("def generate(model, prompt, n):\n    pass\n", "generate() returned NoneType: it has to yield the tokens"),
    ],
)
def test_a_program_that_cannot_be_loaded(gpt, tiny, tmp_path, monkeypatch, text, said):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "helper.py").write_text("\n1 / 0\n")
    (tmp_path / "broken.py").write_text("def f(:\n")
    mine = tmp_path / "mine.py"
    mine.write_text(text)
    code, out, err = gpt("--model", tiny, "--engine", mine, "1")
    assert (code, out) == (2, "") and said in err and len(err.splitlines()) == 1


@pytest.mark.parametrize(
    ("tokens", "said"),
    [
        ("[None]", "generate() yields None, which is no token"),
        ("['x' * 99]", f"generate() yields 'x{'x' * 35}..., which is no token"),
        ("[-1]", "generate() yields -1, which is no token"),
        ("iter(int, 1)", "generate() does not stop at n tokens"),
    ],
)
def test_a_program_that_makes_no_tokens_or_too_many(gpt, speaking, tmp_path, tokens, said):
    mine = tmp_path / "mine.py"
    mine.write_text(f"def generate(model, prompt, n, workers):\n    yield from {tokens}\n")
    code, out, err = gpt("--model", speaking, "--engine", mine, "--text", "1")
    assert (code, err) == (2, f"gpt: --engine {mine}: {said}\n") and len(out.splitlines()) in (0, 9)


def test_a_program_that_stops_too_early(gpt, tiny, tmp_path):
    mine = tmp_path / "mine.py"
    mine.write_text("def generate(model, prompt, n, workers):\n    yield 7\n")
    assert gpt("--model", tiny, "--engine", mine, "1") == (
        2, "7\n", f"gpt: --engine {mine}: generate() stops after 1 token of 9\n",
    )  # fmt: skip


def test_words_behind_two_dashes_are_no_options(gpt, tiny, speaking):
    assert gpt("--model", tiny, "--", "-1") == (2, "", "gpt: token -1: the vocabulary is 0 to 330\n")
    assert gpt("5", "--model", tiny, "-n", "3", "--", "-n")[2].startswith("gpt: token '-n': not a whole number")
    command = [sys.executable, "-m", "lab.chat", "--model", speaking, "-n", "1", "--", "-x"]
    assert subprocess.run(command, capture_output=True, text=True).stdout.startswith("-x")


def test_chat_shows_no_text_before_an_error(speaking, tmp_path, capfd):
    (tmp_path / "mine.py").write_text("x = 1\n")
    assert chat_module.main(["--model", str(speaking), "--engine", str(tmp_path / "mine.py"), "hi"]) == 2
    assert capfd.readouterr().out == ""


@pytest.mark.parametrize("redirection", [">/dev/full", ">&-"])
@pytest.mark.parametrize(
    "command", ["lab.gpt --model {tiny} 5", "lab.chat --model {speaking} -n 2 hi", "lab.tokenizer hi"]
)
def test_an_output_that_nobody_can_read(command, redirection, tiny, speaking):
    line = f"{sys.executable} -m {command.format(tiny=tiny, speaking=speaking)} {redirection}"
    done = subprocess.run(["sh", "-c", line], env=ENVIRONMENT, capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stderr.startswith("standard output: ") and done.stderr.count("\n") == 1


def test_workers_of_the_environment_do_not_disturb_the_serial_program(gpt, tiny, monkeypatch):
    monkeypatch.setenv("GPT_WORKERS", "some")
    assert gpt("--model", tiny, "1")[0] == 0


def test_time_goes_to_stderr(gpt, tiny):
    code, out, err = gpt("--model", tiny, "--time", "1", "2")
    assert (code, out.count("\n")) == (0, 8)
    took = r"load \d+\.\d{3} s, generate \d+\.\d{3} s \(8 tokens, \d+\.\d a second\), memory \d+ MB\n"
    assert re.fullmatch(took, err)


def test_text(gpt, speaking):
    code, out, err = gpt("--model", speaking, "--text", *encode("hello there"))
    rows, text = out.split("\n\n", 1)
    assert (code, len(rows.splitlines()), err) == (0, 8, "")
    assert all(re.fullmatch(r'\d+\t".*"', row) for row in rows.splitlines())
    assert text.startswith("hello there")


def test_tokens_are_flushed_as_they_are_made(golden, tiny):
    """The first token can be read while the program still works on the rest: it waits for the reader of its pipe."""
    case = golden["cases"][-1]
    with start("lab.gpt", "--model", tiny, "-n", 48, *case["prompt"]) as process:
        os.kill(process.pid, signal.SIGCONT)
        assert int(process.stdout.readline()) == case["tokens"][0]
        assert [int(line) for line in process.stdout] == case["tokens"][1:]
    assert process.returncode == 0


def test_a_reader_that_has_gone(tiny):
    with start("lab.gpt", "--model", tiny, "-n", 64, 1, bufsize=0) as process:
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 1


def test_ctrl_c(speaking):
    with start("lab.gpt", "--model", speaking, "-n", 64, 1, env=ENVIRONMENT) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        rest = process.stdout.read()
        assert process.stderr.read() == ""
    assert process.returncode in (0, 130)
    assert (process.returncode == 0) == (rest.count("\n") == 62)


def test_the_scripts_are_installed():
    for name in ("gpt", "gpt-chat"):
        script = Path(sys.executable).with_name(name)
        done = subprocess.run([script, "--help"], capture_output=True, text=True, check=True)
        assert done.stdout.startswith(f"usage: {name} ")


# ----------------------------------------------------------------------------------------------------------------- chat


def test_one_answer(chat, gpt, speaking):
    code, out, err = chat("-n", 8, "--engine", "serial", "hello", "there")
    assert (code, err) == (0, "")
    _, text, _ = gpt("--model", speaking, "--text", *encode("hello there"))
    assert out == text.split("\n\n", 1)[1]


def test_all_engines_give_the_same_answer(chat):
    assert len({chat("--engine", engine, "-n", 12, "Ladies and") for engine in ("serial", "parallel", "cached")}) == 1


def test_piped_lines_are_answered_one_by_one(speaking):
    with start("lab.chat", "--model", speaking, "-n", 3, "--engine", "serial", stdin=subprocess.PIPE) as process:
        out, err = process.communicate("Ladies and\n\n  \nhello there\n")
    assert (process.returncode, err) == (0, "")
    assert out.startswith("Ladies and")
    assert "\nhello there" in out


def piped(text: bytes, model: Path, encoding: str = "utf-8:strict") -> tuple[int, bytes, str]:
    """gpt-chat with `text` on its standard input: exit code, standard output, standard error."""
    command = [sys.executable, "-m", "lab.chat", "--model", str(model), "-n", "2", "--engine", "serial"]
    environment = ENVIRONMENT | {"PYTHONIOENCODING": encoding}
    done = subprocess.run(command, input=text, env=environment, capture_output=True)
    return done.returncode, done.stdout, done.stderr.decode()


def test_an_over_long_line_leaves_the_others_answered(speaking):
    code, out, err = piped(b"one\n" + b"word " * 99 + b"\nthree\n", speaking)
    assert code == 1 and out.startswith(b"one") and b"\nthree" in out
    assert err == "gpt-chat: line 2: that text has 100 tokens; this model takes up to 63\n"


def test_a_line_without_an_end_is_not_read_for_ever(speaking, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stdin", io.StringIO("one\n" + "\0" * (3 << 20)))
    code, _out, err = outcome(chat_module.main, ["--model", speaking, "-n", 1, "--engine", "serial"], capsys)
    assert (code, err) == (1, "gpt-chat: line 2 has 1,048,576 characters or more: this is no list of texts\n")


@pytest.mark.parametrize("encoding", ["utf-8:strict", "ascii", "ascii:strict"])
def test_piped_text_is_utf8_whatever_the_terminal_says(speaking, encoding):
    code, out, err = piped(b"\xef\xbb\xbfbom\r\ncaf\xff\xe9\rna\xc3\xafve\n", speaking, encoding)
    assert (code, err) == (0, "")
    first, second, third = out.replace(b"\r\n", b"\n").splitlines()[:3]
    naive, unknown = ("naïve", "\N{REPLACEMENT CHARACTER}") if encoding.startswith("utf") else ("naive", "?")
    assert first.startswith(b"bom") and second.startswith(f"caf{unknown}".encode()) and third.startswith(naive.encode())


def test_a_token_outside_the_tokenizer_is_shown_as_itself(padded_talker, capsys):
    code, out, err = outcome(chat_module.main, ["--model", padded_talker, "-n", 2, "hello"], capsys)
    assert (code, out, err) == (0, "hello<|50292|><|50292|>\n", "")
    code, out, err = outcome(gpt_module.main, ["--model", padded_talker, "-n", 3, "--text", 31373], capsys)
    assert (code, out, err) == (0, '50292\t"<|50292|>"\n' * 2 + "\nhello<|50292|><|50292|>\n", "")


def test_ctrl_c_in_an_answer_ends_the_answer_only(speaking, monkeypatch, capsys):
    typed = iter(["first", "second"])

    def type_next(prompt: str) -> str:
        for text in typed:
            return text
        raise EOFError

    def answer(text: str) -> int:
        print(f"answer to {text}")
        if text == "first":
            raise KeyboardInterrupt
        return 0

    conversation = chat_module.Chat(speaking, "serial", 2, None)
    monkeypatch.setattr("builtins.input", type_next)
    monkeypatch.setattr(conversation, "answer", answer)
    assert conversation.converse() == 0
    out = capsys.readouterr().out
    assert "answer to second" in out and "speaking continues it. Ctrl-C stops, Ctrl-D ends." in out


def test_texts_that_cannot_be_answered(chat, capsys, tiny):
    assert chat("") == (1, "", "gpt-chat: type at least one word\n")
    assert chat("word " * 64) == (1, "", "gpt-chat: that text has 65 tokens; this model takes up to 63\n")
    assert chat("word" + " word" * 62)[0] == 0  # 63 tokens: one more fits
    assert outcome(chat_module.main, ["--model", tiny, "hi"], capsys) == (
        1,
        "",
        f"gpt-chat: {tiny}: a vocabulary of 331 tokens, not GPT-2's 50257\n",
    )
    code, _, err = chat("--model", "nosuch", "hi")
    assert (code, err.count("\n")) == (1, 1)


def test_a_failing_gpt_gives_its_exit_code(speaking):
    with start("lab.chat", "--model", speaking, "--engine", "serial", "--workers", 2, "hi") as process:
        _, err = process.communicate()
    assert process.returncode == 2
    assert err == "gpt: --workers: the serial engine has none; add --engine parallel or cached\n"


def test_a_program_that_prints_or_is_ended_in_an_answer(chat, tmp_path):
    mine = tmp_path / "mine.py"
    mine.write_text("def generate(model, prompt, n, workers):\n    print('in generate')\n    yield 11\n")
    said = "gpt-chat: the program prints 'in generate' among its tokens: print to sys.stderr instead\n"
    assert chat("--engine", mine, "hi") == (1, "hi\n", said)
    mine.write_text("import os\ndef generate(model, prompt, n, workers):\n    os.kill(os.getpid(), 9)\n    yield 11\n")
    assert chat("--engine", mine, "hi") == (1, "", "gpt-chat: the program that computes was ended: Killed\n")


def test_a_conversation_ends_with_ctrl_d_or_ctrl_c(speaking, monkeypatch, capsys):
    for end in (EOFError, KeyboardInterrupt):
        typed = iter(["", "Ladies and", "word " * 99])

        def type_next(prompt: str, typed=typed, end=end) -> str:
            for text in typed:
                return text
            raise end

        monkeypatch.setattr("builtins.input", type_next)
        conversation = chat_module.Chat(speaking, "serial", 2, None)
        assert conversation.converse() == 0
        out, err = capsys.readouterr()
        assert "Ladies and" in out
        assert err == "that text has 100 tokens; this model takes up to 63\n"


def test_ctrl_c_ends_the_program_that_computes(speaking):
    """No gpt is left behind, and nothing is said."""
    with start("lab.chat", "--model", speaking, "--engine", "serial", "-n", 60, "a") as process:
        process.stdout.read(1)
        process.send_signal(signal.SIGINT)
        assert process.stderr.read() == ""  # closed by gpt as well, which inherits it
    assert process.returncode in (0, 130)


def test_characters_spread_over_tokens():
    tokens = encode("\N{SLIGHTLY SMILING FACE} 日本")
    assert len(tokens) > 4
    assert "".join(pieces(iter(tokens))) == "\N{SLIGHTLY SMILING FACE} 日本"
    assert list(pieces(iter(tokens[:1]))) == ["", "\N{REPLACEMENT CHARACTER}"]
    assert "".join(pieces(iter([*encode("over"), EOT, *encode("unheard")]))) == "over"


def test_a_folder_called_lab_where_one_happens_to_be(tmp_path, speaking):
    (tmp_path / "lab").mkdir()
    script = Path(sys.executable).with_name("gpt-chat")
    command = [script, "--model", speaking, "-n", "1", "hello"]
    done = subprocess.run(command, cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("hello")
    assert done.stderr == ""


def test_an_answer_stops_at_the_end_of_the_text(speaking, monkeypatch, capsys):
    script = f"print({encode('over')[0]}, {EOT}, 1, sep='\\n', flush=True); import time; time.sleep(600)"
    monkeypatch.setattr(chat_module, "PROGRAM", [sys.executable, "-c", script])
    assert chat_module.Chat(speaking, "serial", 2, None).answer("It is ") == 0
    assert capsys.readouterr().out == "It is over\n"


def test_control_characters_do_not_reach_a_terminal(speaking, monkeypatch, capsys):
    conversation = chat_module.Chat(speaking, "serial", 2, None)
    monkeypatch.setattr(type(conversation.console), "is_terminal", True)
    conversation.write("a\x1b[2Jb\n\tc")
    assert capsys.readouterr().out == "a\N{REPLACEMENT CHARACTER}[2Jb\n\tc"
