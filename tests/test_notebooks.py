"""The notebooks: each runs on small models, and holds nothing that does not belong into one."""

import json
import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from lab import notebook

ROOT = Path(__file__).parents[1]
SOURCES = notebook.sources()
SMALL = {  # what is smaller than in the chapters themselves
    "01": {"TIMED": "tiny_shakespeare", "N": 4},
    "02": {"MODEL": "tiny_shakespeare", "N": 24, "LONG": 80},
    "03": {"SIZE": 120, "ITEMS": 6},
    "04": {"SCHEDULES": 200},
    "05": {"MODEL": "tiny_shakespeare", "PROMPT": 8, "N": 10, "ROUNDS": 1},
    "06": {"MEGABYTES": 8},
    "07": {"TEXT": "docs/handout.md", "STEPS": 3},
}
BRIEF = """from lab.measure import capacity, machine, scale
capacity.MOST_BYTES = machine.READ_BYTES = 1 << 24
scale.COUNTS, scale.REPEATS = (1, 2, 12), 1"""  # with less, the machine and the program are measured sooner
jupyter = pytest.mark.skipif(
    not all(find_spec(module) for module in notebook.NEEDED),
    reason="Jupyter is not installed: make notebooks installs it",
)


def names(paths):
    """What pytest calls a chapter."""
    return [path.stem for path in paths]


def text_of(path: Path) -> list[str]:
    """Every string of a notebook that a person can read: sources, outputs as text."""
    found = []
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        found.append("".join(cell["source"]))
        for output in cell.get("outputs", ()):
            found += ["".join(output.get("text", "")), *output.get("traceback", ())]
            data = output.get("data", {})
            found += ["".join(value) for kind, value in data.items() if kind.startswith(("text/", "image/svg"))]
    return found


def test_there_are_seven_chapters_each_with_its_notebook():
    assert [source.stem[:2] for source in SOURCES] == [f"0{number}" for number in range(1, 8)]
    assert names(notebook.notebooks()) == names(SOURCES)


def with_parameters(book, parameters, more=""):
    """The notebook with a cell behind its parameters that gives them other values, and runs more."""
    import nbformat

    (place,) = [place for place, cell in enumerate(book.cells) if "parameters" in cell.metadata.get("tags", [])]
    text = "\n".join([*(f"{name} = {value!r}" for name, value in parameters.items()), more])
    book.cells.insert(place + 1, nbformat.v4.new_code_cell(text, id="given"))
    return book


@pytest.mark.long
@jupyter
@pytest.mark.parametrize("source", SOURCES, ids=names(SOURCES))
def test_a_chapter_runs_and_its_notebook_stays_as_it_is(source, tmp_path, monkeypatch):
    monkeypatch.setenv("GPT_PROFILES_DIR", str(tmp_path / "profiles"))
    monkeypatch.setenv("GPT_DATA_DIR", str(tmp_path / "data"))
    path = notebook.notebook_of(source)
    before = path.read_bytes()
    book = notebook.read(source)
    notebook.execute(with_parameters(book, SMALL[source.stem[:2]], BRIEF), seconds=120)
    assert any(cell.get("outputs") for cell in book.cells)
    assert path.read_bytes() == before


@jupyter
@pytest.mark.parametrize("source", SOURCES, ids=names(SOURCES))
def test_a_notebook_is_its_source_with_outputs(source):
    written, kept = notebook.read(source), notebook.read(notebook.notebook_of(source))
    assert [(cell.cell_type, cell.source) for cell in kept.cells] == [
        (cell.cell_type, cell.source) for cell in written.cells
    ]
    assert all(cell.execution_count for cell in kept.cells if cell.cell_type == "code")


@pytest.mark.parametrize("source", SOURCES, ids=names(SOURCES))
def test_a_chapter_begins_with_a_question_asks_for_a_prediction_and_ends_with_a_task(source):
    cells = re.split(r"^# %%", source.read_text(encoding="utf-8"), flags=re.MULTILINE)[1:]
    assert "question" in cells[0]
    assert "parameters" in cells[1]
    assert any(re.search(r"prediction = |my_guess = ", cell) for cell in cells)
    assert "## Your turn" in cells[-1] and "What to look for" in cells[-1]


@pytest.mark.parametrize("source", SOURCES, ids=names(SOURCES))
def test_a_notebook_is_small_and_shows_no_path_of_the_machine_it_ran_on(source):
    path = notebook.notebook_of(source)
    assert path.stat().st_size < notebook.LARGEST
    for text in text_of(path):
        assert not re.search(r"/(home|root|tmp|work|Users|usr|opt|var)/", text), text[:200]
        assert "Traceback" not in text and 'class="rich' not in text, "rich would make each line an output of its own"


def lines_of_answers() -> set[str]:
    """The lines of code of the model answers that neither the given program nor the starter has."""
    given = {line.strip() for name in ("lab/serial.py", "handout/parallel.py") for line in code(ROOT / name)}
    answers = [ROOT / "lab/parallel.py", ROOT / "lab/cached.py", *(ROOT / "solutions").rglob("*.py")]
    return {line for path in answers if path.is_file() for line in code(path)} - given


def code(path: Path) -> list[str]:
    """A program's lines that say something: neither comments nor a word or two that any program has."""
    lines = (line.strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if len(line) > 24 and not line.startswith(("#", '"""', "import ", "from "))]


@pytest.mark.parametrize("source", SOURCES, ids=names(SOURCES))
def test_a_notebook_gives_no_answer_away(source):
    answers = lines_of_answers()
    shown = [line.strip() for text in text_of(notebook.notebook_of(source)) for line in text.splitlines()]
    assert not answers & set(shown)
    for path in ("lab/parallel.py", "lab/cached.py", "solutions/"):
        assert not any(path in line for line in shown if line.startswith(("import", "from", "%", "!", "open", "Path")))


def test_what_fails_in_a_chapter_is_said():
    with pytest.raises(notebook.NotebookError, match="failed: the line above says why"):
        notebook.tool(lambda arguments: 2)
    with pytest.raises(notebook.NotebookError, match="chapter 9: there are 1, "):
        notebook.chosen([9], notebook.notebooks())
    with pytest.raises(notebook.NotebookError, match="chapter 1: there are none here"):
        notebook.chosen([1], [])


@jupyter
@pytest.mark.parametrize(
    "text",
    ["{}", "[]", '{"cells": 5}', "junk", "", '{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [{}]}'],
)
def test_what_is_no_notebook_is_one_line(tmp_path, text):
    (tmp_path / "01_one.ipynb").write_text(text)
    with pytest.raises(notebook.NotebookError, match=r"^01_one.ipynb: cannot be read as a notebook \(.+\)$"):
        notebook.read(tmp_path / "01_one.ipynb")


def test_a_prediction_stands_beside_the_measurement(capsys):
    notebook.compare({"matmul": 0.5, "attention": None}, {"matmul": 0.9, "attention": 0.07})
    printed = capsys.readouterr().out
    assert re.search(r"matmul +50% +90%", printed) and re.search(r"attention +\? +7%", printed)
    assert "Fill in the prediction" in printed


@jupyter
def test_running_all_writes_nothing_and_a_failure_stops_none(tmp_path, monkeypatch, capsys):
    """A student's copy has the notebooks and no sources."""
    monkeypatch.setattr(notebook, "FOLDER", tmp_path)
    for name, code in {"01_wrong": "1 / 0", "02_right": "print(6 * 7)"}.items():
        (tmp_path / "source").mkdir(exist_ok=True)
        source = tmp_path / "source" / f"{name}.py"
        source.write_text(f"# %%\n{code}\n")
        notebook.write(notebook.read(source), notebook.notebook_of(source))
        source.unlink()
    before = [path.read_bytes() for path in notebook.notebooks()]
    assert notebook.main(["run"]) == 1
    out, err = capsys.readouterr()
    assert re.fullmatch(r"02_right: runs, \d+ s\n", out) and "01_wrong: failed: ZeroDivisionError" in err
    assert [path.read_bytes() for path in notebook.notebooks()] == before
    (tmp_path / "source" / "02_right.py").write_text("# %%\nprint(6 * 7)\n")
    assert notebook.main(["run", "2", "--write"]) == 0
    assert '"42\\n"' in (tmp_path / "02_right.ipynb").read_text()
    assert notebook.main(["run", "3"]) == 1


@jupyter
def test_a_failing_cell_is_one_message(tmp_path):
    chapter = tmp_path / "09_wrong.py"
    chapter.write_text('# %% tags=["parameters"]\nN = 1\n\n# %%\nassert N == 1, f"N is {N}"\n')
    book = notebook.read(chapter)
    notebook.execute(book)
    with pytest.raises(notebook.NotebookError, match="AssertionError: N is 2"):
        notebook.execute(with_parameters(notebook.read(chapter), {"N": 2}))
