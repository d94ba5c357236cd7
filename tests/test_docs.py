"""The documents: links lead somewhere, commands exist with these options."""

import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
DOCS = sorted(ROOT.glob("docs/**/*.md"))
PAGES = [*DOCS, ROOT / "README.md"]
COMMAND = re.compile(r"(?<!torch-)\bpython -m ((?:lab|grader)\.?[\w.]*)([^`\n|]*)")
OLD_WORDS = re.compile(r"SUBMISSION=|\bE/C\b|starter/parallel\.py|THREADLIB=|BEGIN SOLUTION")


def name(path: Path) -> str:
    return str(path.relative_to(ROOT))


@cache
def help_text(*words: str) -> str:
    run = subprocess.run([sys.executable, "-m", *words, "--help"], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    return run.stdout


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
