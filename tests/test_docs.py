"""The documents: links lead somewhere, commands exist with these options, the experiments of the background run."""

import re
import runpy
from argparse import SUPPRESS, ArgumentParser, _SubParsersAction
from contextlib import redirect_stdout
from functools import cache, partial
from importlib import import_module
from importlib.util import find_spec
from io import StringIO
from pathlib import Path

import pytest

from lab.measure import bench
from lab.train.settings import Settings

ROOT = Path(__file__).parents[1]
DOCS = sorted(ROOT.glob("docs/**/*.md"))
EXPERIMENTS = sorted(path for path in ROOT.glob("docs/background/*.py") if path.stem != "experiment")
PAGES = [*DOCS, ROOT / "README.md"]
COMMAND = re.compile(r"(?<!torch-)\bpython -m ((?:lab|grader)\.?[\w.]*)([^`\n|]*)")
OLD_WORDS = re.compile(r"SUBMISSION=|\bE/C\b|starter/parallel\.py|THREADLIB=|BEGIN SOLUTION")


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@cache
def help_text(module: str, *words: str) -> str:
    """What the command's --help prints."""
    package = find_spec(module).submodule_search_locations
    main = import_module(f"{module}.__main__" if package else module).main
    with redirect_stdout(StringIO()) as out, pytest.raises(SystemExit) as end:
        main([*words, "--help"])
    assert not end.value.code
    return out.getvalue()


def commands() -> list[tuple[str, str, str]]:
    """Each `python -m MODULE REST` of the documents, with the page it stands in."""
    found = {(match[1], match[2].strip()): page for page in PAGES for match in COMMAND.finditer(page.read_text())}
    return [(name(page), module, rest) for (module, rest), page in found.items()]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_lead_somewhere(page):
    targets = re.findall(r"\]\((?!https?:|mailto:)([^)#\s]+)(?:#[^)]*)?\)", page.read_text())
    missing = [target for target in targets if not (page.parent / target).exists()]
    assert missing == []


@pytest.mark.parametrize("page", DOCS, ids=name)
def test_old_words_are_gone(page):
    assert OLD_WORDS.findall(page.read_text()) == []


def test_every_option_of_a_command_exists():
    assert len(commands()) > 10
    for page, module, rest in commands():
        words = rest.split("   ")[0].split()
        known = help_text(module)
        verb = [
            word
            for word in words[:1]
            if re.search(rf"^    {re.escape(word)}\b|[{{,]{re.escape(word)}[}},]", known, re.M)
        ]
        text = help_text(module, *verb)
        own = words[: words.index("run") + 2] if verb == ["run"] else words  # behind it stands another program
        for option in (word.split("=")[0] for word in own if word.startswith("--")):
            assert option in text, f"{page}: {module} has no {option}"


@pytest.mark.parametrize("experiment", EXPERIMENTS, ids=name)
def test_an_experiment_runs_and_draws(experiment, tmp_path, forked, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(experiment.parent)  # as Python does with a program
    run = forked(partial(runpy.run_path, str(experiment), run_name="__main__"), "--quick", "--picture", tmp_path)
    assert run.returncode == 0, run.stderr
    picture = tmp_path / f"{experiment.stem}.svg"
    assert "<svg" in picture.read_text() and f"Written: {picture}" in run.stdout
    page = experiment.with_suffix(".md").read_text()
    assert f".venv/bin/python docs/background/{experiment.name}" in page and f"({picture.name})" in page
    heads = run.stdout.splitlines()[0].split()
    assert " ".join(heads) in " ".join(page.split()), "the page shows another table than the experiment prints"


def anchors(text: str) -> set[str]:
    """The names by which a page's headings can be linked, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", DOCS, ids=name)
def test_links_within_a_page_lead_to_a_heading(page):
    text = page.read_text()
    assert set(re.findall(r"\]\(#([^)]*)\)", text)) <= anchors(text)


def test_the_handout_is_the_same_in_both_languages():
    """Headings, commands, output, links and rows of tables: the same ones in the same order."""
    english, chinese = ((ROOT / f"docs/{page}.md").read_text() for page in ("handout", "handout.zh"))
    for pattern in (r"^(#+) ", r"^    (.*)$", r"\]\((?!#|handout)([^)]*)\)", r"^(\|)"):
        here, there = (re.findall(pattern, text, re.MULTILINE) for text in (english, chinese))
        assert here == there and len(here) > 10


# ------------------------------------------------------------------------------------------------------------ the helps

COMMANDS = (
    *("lab.gpt", "lab.chat", "lab.tokenizer", "lab.convert", "lab.stages", "lab.exercises"),
    *("lab.models", "lab.models download", "lab.models synthetic", "lab.models show"),
    *("lab.notebook", "lab.notebook open", "lab.notebook run"),
    *("lab.check", "lab.check check", "lab.check explore", "lab.check races", "lab.check run"),
    *(f"lab.measure.{name}" for name in ("profile", "timeline", "scale", "plots", "report", "bench", "reference")),
    *("lab.measure.flamegraph", "lab.train", "lab.train.bench", "lab.train.evaluate", "lab.train.debug_state"),
    *("lab.ladder", "grader", "grader.classroom", "grader.classroom grade", "grader.classroom report"),
    *(f"grader.classroom {verb}" for verb in ("example", "handout", "gradescope", "worker")),
)


@pytest.mark.parametrize("command", COMMANDS)
def test_help_says_what_each_option_is_and_its_default(command, monkeypatch):
    parsers = []
    monkeypatch.setattr(ArgumentParser, "print_help", lambda parser, file=None: parsers.append(parser))
    help_text.__wrapped__(*command.split())
    known = vars(Settings()) if command == "lab.train" else {}  # its parser's own defaults say what was not given
    for action in parsers[0]._actions:
        assert action.help or isinstance(action, _SubParsersAction), f"{action.dest}: no help"
        default = known.get(action.dest, action.default)
        if default not in (None, [], SUPPRESS) and not isinstance(default, bool) and action.nargs != 0:
            assert "default" in action.help, f"{action.dest}: {default} is not said"


@pytest.mark.parametrize("name", ["handout.md", "handout.zh.md"])
def test_stage_6_is_measured_under_the_name_that_the_floor_goes_by(name):
    asked = re.search(r"--engines (\S+)\"", (ROOT / "docs" / name).read_text())
    assert asked and {Path(file).stem for file in asked[1].split(",")} & set(bench.KEEPS)


def test_the_deadlock_explained_is_the_one_that_explore_prints(checker):
    printed = checker("explore", "tests/zoo/wrong/lost_wakeup.py").stdout.splitlines()
    begin = next(i for i, line in enumerate(printed) if line.startswith("deadlock"))
    end = next(i for i, line in enumerate(printed) if line.startswith("  schedule"))
    block = "\n".join(f"    {line}" if line else "" for line in printed[begin : end + 1])
    for name in ("README.md", "docs/handout.md", "docs/handout.zh.md"):
        assert block in (ROOT / name).read_text(), name


def test_a_unit_that_is_missing_is_told_as_docs_failures_has_it(checker):
    printed = checker("explore", "tests/zoo/wrong/missing_v.py").stdout.splitlines()[1:4]
    first = printed[0].removeprefix("deadlock: ").partition(";")[0]
    assert "\n".join(f"    {line}" for line in (first, *printed[1:])) in (ROOT / "docs" / "failures.md").read_text()
