"""The verbs: what make runs with which variables, and what it says instead of ignoring one."""

import fcntl
import os
import re
import runpy
import shutil
import subprocess
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path

import psutil
import pytest

ROOT = Path(__file__).parents[1]
RECORDER = """#!/bin/sh
printf '%s\\n' "$@" end >>"$CALLS"
"""
VERBS = re.findall(r"^(?:\$\(call verb,)?([a-z][a-z-]*)[,:].*## ", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.fixture
def house(tmp_path) -> Path:
    """A checkout with nothing in it but the Makefile, and an environment whose python notes what it is called with."""
    folder = tmp_path / "a house"
    (folder / ".venv/bin").mkdir(parents=True)
    shutil.copy(ROOT / "Makefile", folder)
    shutil.copytree(ROOT / "make", folder / "make")
    for name in ("pyproject.toml", "constraints.txt"):
        (folder / name).touch()
    python = folder / ".venv/bin/python"
    python.write_text(RECORDER)
    python.chmod(0o755)
    (folder / ".venv/.ready").write_text(f"{folder}\n")
    return folder


def make(house: Path, *words: str, **environment: str) -> subprocess.CompletedProcess:
    """make WORDS, as from a terminal with that environment."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS"))}
    inherited |= {"CALLS": str(house / "calls"), "LC_ALL": "C"}
    return subprocess.run(["make", *words], cwd=house, env=inherited | environment, capture_output=True, text=True)


def called(house: Path, *words: str, **environment: str) -> list[str]:
    """Each call of python, as text."""
    return [" ".join(call) for call in calls(house, *words, **environment)]


def calls(house: Path, *words: str, **environment: str) -> list[list[str]]:
    """The words of each call of python."""
    (house / "calls").unlink(missing_ok=True)
    result = make(house, *words, **environment)
    assert result.returncode == 0, result.stderr
    return [call.split("\n")[:-1] for call in (house / "calls").read_text().split("end\n")[:-1]]


def refused(house: Path, *words: str, **environment: str) -> str:
    """What make says before it runs anything."""
    result = make(house, *words, **environment)
    assert result.returncode == 2 and not (house / "calls").exists() and not result.stdout
    assert len(result.stderr.splitlines()) == 1
    return re.fullmatch(r"Makefile:\d+: \*\*\* (.*)\.  Stop\.\n", result.stderr)[1]


# ---------------------------------------------------------------------------------------------------- what is passed on


def test_a_verb_passes_on_the_variables_it_takes(house):
    call = calls(house, "grade", "FILE=ada.py", "MODEL=m", "OUT=out", "ARGS=--seed 7 --points 'my table.toml'")[0]
    assert " ".join(call[:-1]) == "-m grader --exit-zero ada.py --model m --out out --seed 7 --points"
    assert call[-1] == "my table.toml"
    assert called(house, "races", "WORKERS=4") == ["-m lab.check races lab/parallel.py --workers 4"]
    assert called(house, "timeline", "ENGINE=cached") == ["-m lab.measure.timeline --engine cached"]
    assert called(house, "convert", "FILE=a.safetensors", "OUT=b.bin") == ["-m lab.convert a.safetensors --out b.bin"]
    assert called(house, "train", "MODEL=m.bin")[0].startswith("-m lab.train --from m.bin ")
    assert called(house, "resume")[0] == "-m lab.train --resume models/trained.state.npz"
    assert called(house, "profile", "check", "FILE=a.py") == [
        "-m lab.measure.profile --engine a.py",
        "-m lab.check check a.py",
    ]


def test_the_students_file_is_the_default_once_it_is_there(house):
    assert calls(house, "explore")[0][-1] == "lab/parallel.py"
    assert calls(house, "scale")[0][-1] == "lab/parallel.py"
    (house / "parallel.py").touch()
    assert calls(house, "explore")[0][-1] == "parallel.py"
    assert calls(house, "scale")[0][-1] == "parallel.py"
    assert calls(house, "explore", "FILE=b.py")[0][-1] == "b.py"
    assert calls(house, "scale", "ENGINE=cached")[0][-1] == "cached"
    assert called(house, "profile") == ["-m lab.measure.profile"]  # the given program's own


def test_words_arrive_as_they_were_typed(house):
    odd = """He said "hi", it's $5 & `date` \\ #1; $(x) *"""
    assert calls(house, "grade", f"FILE={odd}")[0][3] == odd
    assert calls(house, "chat", f"ENGINE={odd}", f"MODEL={odd}")[0][2:] == ["--engine", odd, "--model", odd]
    assert calls(house, "gpt", f"SENTENCE={odd}")[0] == ["-m", "lab.tokenizer", "--", odd]
    assert f"prompt   {odd}\n" in make(house, "gpt", f"SENTENCE={odd}").stdout


def test_the_environment_gives_no_variables(house):
    environment = {"FILE": "x.py", "MODEL": "x", "OUT": "x", "ARGS": "--x", "K": "3", "NONSENSE": "1"}
    assert called(house, "grade", **environment) == ["-m grader --exit-zero lab/parallel.py"]


def test_the_variables_of_one_make_are_not_those_of_a_make_below_it(house):
    makefile = house / "Makefile"
    makefile.write_text(makefile.read_text() + "\nverbs += nest\ntakes-nest := FILE\nnest:\n\t@$(MAKE) check\n")
    text = makefile.read_text()
    extra = text[text.index("\nverbs += nest") :]
    makefile.write_text(extra + text.replace(extra, ""))
    assert calls(house, "nest", "FILE=outer.py")[0][-1] == "lab/parallel.py"


@pytest.mark.parametrize("verb", [verb for verb in VERBS if f"call verb,{verb}," in (ROOT / "Makefile").read_text()])
def test_a_verb_is_complete_and_its_options_go_to_its_module(house, verb, forked, monkeypatch):
    needed = {"convert": ["FILE=a.safetensors", "OUT=b.bin"], "class": ["SUBMISSIONS=a.zip"]}
    given = (needed | {"stage": ["S=1"], "exercise": ["E=1"]}).get(verb, [])
    (command,) = calls(house, verb, *given, "ARGS=--nosuch-option")
    monkeypatch.chdir(ROOT)
    flag, module, *words = command
    run = forked(partial(runpy.run_module, module, run_name="__main__", alter_sys=True), *words)
    assert (flag, run.returncode) == ("-m", 2), run.stderr
    assert "unrecognized arguments: --nosuch-option" in run.stderr


# ------------------------------------------------------------------------------------------------------ what is refused


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("grade SUBMISSION=a.py", "make grade takes no SUBMISSION=; write FILE="),
        ("races K=3", "make races takes no K=; write WORKERS="),
        (
            "grade K=3",
            "make grade takes no K=; it takes FILE= MODEL= OUT= ARGS= (make grade ARGS=--help lists its options)",
        ),
        ("scale N=20", 'make scale takes no N=; write ARGS="-n NUMBER"'),
        ("races N=20", 'make races takes no N=; write ARGS="--schedules NUMBER"'),
        ("bench ENGINES=cached", 'make bench takes no ENGINES=; write ARGS="--engines ..."'),
        ("bench PEER_CMD=x", 'make bench takes no PEER_CMD=; write ARGS="--peer-cmd ..."'),
        ("grade INSTRUCTOR=1", "make grade takes no INSTRUCTOR=; write ARGS=--instructor"),
        ("train FROM=m.bin", "make train takes no FROM=; write MODEL="),
        ("convert FROM=m OUT=b.bin", "make convert takes no FROM=; write FILE="),
        ("model SYNTHETIC=1", "make model takes no SYNTHETIC=; write make synthetic"),
        ("grade FIEL=a.py", "make grade takes no FIEL=; write FILE="),
        ("grade file=a.py", "make grade takes no file=; write FILE="),
        ("help SENTENCE=x", "make help takes no SENTENCE=; it takes none"),
        ("FILE=a.py", "make help takes no FILE=; it takes none"),
        ("clean FILE=x", "make clean takes no FILE=; it takes none"),
        ("clean SEED=1", "make clean takes no SEED=; it takes none"),
        ("lint ARGS=--fix", "make lint takes no ARGS=; it takes none"),
        ("starter MODEL=m", "make starter takes no MODEL=; it takes OUT="),
        ("test ARG=-x", "make test takes no ARG=; write ARGS="),
        ("grade FILE=", "FILE= is empty; give it a value or leave it out"),
        ("timeline FILE=a.py ENGINE=cached", "FILE= and ENGINE= name two programs; give one of them"),
        ("convert", "convert what? make convert FILE=model.safetensors OUT=models/name.bin"),
        ("gtp", "make gtp: there is no such target; did you mean make gpt? make help lists them all"),
        ("zzz", "make zzz: there is no such target; make help lists them all"),
    ],
)
def test_nothing_is_ignored(house, words, message):
    assert refused(house, *words.split()) == message


def test_a_verb_takes_only_what_it_uses(house):
    message = refused(house, "grade", "WORKERS=4")
    assert message.startswith("make grade takes no WORKERS=; it takes FILE= MODEL= OUT= ARGS=")
    assert refused(house, "check", "scale", "WORKERS=2").startswith("make scale takes no WORKERS=")


def test_help_is_for_every_verb_and_fits_a_terminal(house):
    result = make(house)
    assert result.returncode == 0 and result.stdout == make(house, "help").stdout
    assert re.findall(r"^  make (\S+) ", result.stdout, re.MULTILINE) == VERBS and len(VERBS) > 30
    assert max(map(len, result.stdout.splitlines())) <= 80
    piped = subprocess.run("make help | true", cwd=house, shell=True, capture_output=True, text=True)
    assert piped.stderr == ""
    assert [line for line in result.stdout.splitlines() if line.startswith("for ")] == [
        "for students",
        "for instructors",
        "for maintainers",
    ]


# ---------------------------------------------------------------------------------------------------------- the starter


def test_starter_is_never_written_over_a_file(house):
    (house / "parallel.py").write_text("a week of work\n")
    (house / "other.py").symlink_to("nowhere")
    for words in (["starter"], ["starter", "OUT=other.py"]):
        result = make(house, *words)
        assert result.returncode == 2 and "stays as it is" in result.stderr and "OUT=" in result.stderr
    assert (house / "parallel.py").read_text() == "a week of work\n"
    assert not (house / "nowhere").exists()


def test_starter_writes_the_handout(house):
    (house / "handout").mkdir()
    (house / "handout/parallel.py").write_text("the beginning\n")
    assert make(house, "starter").returncode == 0 and make(house, "starter", "OUT=a b/c.py").returncode == 0
    assert (house / "parallel.py").read_text() == (house / "a b/c.py").read_text() == "the beginning\n"
    assert not list(house.glob("**/*.part"))


# ------------------------------------------------------------------------------------------------------ the environment


def test_a_moved_checkout_is_adjusted_without_a_network(house, tmp_path):
    python = house / ".venv/bin/python"
    python.unlink()
    python.symlink_to(sys.executable)
    old, new = str(house), str(tmp_path / "new house")
    (house / ".venv/bin/gpt").write_text(f"#!{old}/.venv/bin/python\nprint(31373)\n")
    (house / ".venv/bin/gpt").chmod(0o755)
    site = house / ".venv/lib/python3/site-packages"
    site.mkdir(parents=True)
    (site / "__editable__.lab.pth").write_text(f"{old}\n")
    os.utime(house / ".venv/.ready")
    house.rename(new)
    result = make(Path(new), "env", PIP_NO_INDEX="1")
    assert result.returncode == 0 and f"This folder was {old} before" in result.stderr
    assert subprocess.run([f"{new}/.venv/bin/gpt"], capture_output=True, text=True).stdout == "31373\n"
    assert (Path(new) / ".venv/lib/python3/site-packages/__editable__.lab.pth").read_text() == f"{new}\n"
    assert make(Path(new), "env").stderr == ""


def test_a_linked_environment_stays_that_of_its_own_checkout(house, tmp_path):
    (house / ".venv/bin/gpt").write_text(f"#!{house}/.venv/bin/python\n")
    other = tmp_path / "other"
    shutil.copytree(house, other, ignore=shutil.ignore_patterns(".venv"))
    (other / ".venv").symlink_to(house / ".venv")
    result = make(other, "env", PIP_NO_INDEX="1")
    assert result.returncode == 2 and result.stderr.startswith(f".venv is a link to the one of {house}, ")
    assert (house / ".venv/bin/gpt").read_text() == f"#!{house}/.venv/bin/python\n"


def sets_up(make: subprocess.Popen) -> bool:
    """Whether a process that make has started runs make/setup.sh."""
    with suppress(psutil.Error):  # one may end while it is looked at
        return any("make/setup.sh" in child.cmdline() for child in psutil.Process(make.pid).children(recursive=True))
    return False


@pytest.mark.skipif(not shutil.which("flock"), reason="without flock they do not wait")
def test_of_two_makes_at_once_one_sets_up(house):
    (house / ".venv/.ready").unlink()
    command = ["make", "env"]
    with (house / "make/setup.sh").open() as script:
        fcntl.flock(script, fcntl.LOCK_EX)  # as the first of the two
        second = subprocess.Popen(command, cwd=house, env=os.environ | {"CALLS": str(house / "calls")})
        while not sets_up(second):
            assert second.poll() is None
        (house / ".venv/.ready").write_text(f"{house}\n")
    assert second.wait() == 0 and not (house / "calls").exists()


def test_an_environment_without_its_python_is_made_anew(house):
    python = house / ".venv/bin/python"
    python.unlink()
    python.symlink_to("/nowhere/python3")
    result = make(house, "env", "PY=/nowhere/python3")
    assert result.returncode == 2 and "found: no working /nowhere/python3" in result.stderr


# ------------------------------------------------------------------------------------------------ what the product says

MENTIONED = re.compile(r"""make (?P<verb>[a-z][a-z-]*)(?P<given>(?: +[A-Z_]+=(?:"[^"]*"|'[^']*'|[^\s`"')|,;]*))*)""")


def mentioned() -> list[str]:
    """Each command of make in documents and messages: those in backticks, and those with variables."""
    texts = [
        *ROOT.glob("*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("profiles/reference/*.md"),
        *ROOT.glob("models/*.md"),
    ]
    texts += [path for folder in ("lab", "grader", "handout") for path in ROOT.glob(f"{folder}/**/*.py")]
    found = set()
    for path in texts:
        text = path.read_text(encoding="utf-8")
        for match in MENTIONED.finditer(text):
            if match["given"] or text[match.start() - 1] == "`":
                found.add(match.group().rstrip(".:"))
    return sorted(found)


def test_what_the_product_tells_people_to_type_is_there(house):
    commands = mentioned()
    assert len(commands) > 20 and "make grade" in commands
    for command in commands:
        result = subprocess.run(
            ["sh", "-c", command.replace("make ", "make -n ", 1)], cwd=house, capture_output=True, text=True
        )
        assert result.returncode == 0, f"{command}: {result.stderr}"
