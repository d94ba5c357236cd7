"""The course's notebooks: what their cells use, and the command that opens and runs them.

    python -m lab.notebook open             JupyterLab with all chapters (make notebooks)
    python -m lab.notebook run              every chapter in full; the files stay as they are (make notebooks-run)
    python -m lab.notebook run 3 --write    chapter 3 anew from its source, with its outputs

A chapter's source is notebooks/source/NN_name.py in jupytext's percent format: cells begin with "# %%", text is in
comments. Its notebook, notebooks/NN_name.ipynb, is made from that and never edited here; students edit theirs. The cell
tagged "parameters" says what is measured, and a test runs the chapter with other values for them.
"""
# pyright: reportMissingImports=false

import argparse
import atexit
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import rich.console
from rich.console import Console
from rich.table import Column, Table

from lab.command import Parser, in_one_line, installed, quietly
from lab.files import ROOT, write_text

FOLDER = ROOT / "notebooks"
REFERENCE = ROOT / "profiles" / "reference"
NEEDED = ("jupytext", "nbclient", "ipykernel")  # to run the chapters; jupyterlab is needed to open them
LARGEST = 1_000_000  # bytes of a notebook
COLUMNS = 110  # of what is printed in one


class NotebookError(Exception):
    """A chapter or a command in it that failed; the message is one line."""


# ---------------------------------------------------------------------------------------------------- used by the cells


def mine() -> str:
    """The student's file, or what it begins as: parallel.py, else handout/parallel.py; both below the lab's folder."""
    return "parallel.py" if (ROOT / "parallel.py").is_file() else "handout/parallel.py"


def begin() -> None:
    """Work in the lab's folder, as the commands of the handout do; what they print stays one piece of text."""
    os.chdir(ROOT)
    os.environ["COLUMNS"] = str(COLUMNS)
    rich.console._is_jupyter = lambda: False  # or each line becomes an output of its own, with room around it


def scratch() -> Path:
    """A new folder for files that nobody needs afterwards; it goes when the notebook's kernel does."""
    folder = Path(tempfile.mkdtemp(prefix="lab-notebook-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder


def documents() -> Path:
    """All that is written in English here, as one text to train on where no other can be downloaded."""
    path = scratch() / "documents.txt"
    pages = [page.read_text(encoding="utf-8") for page in sorted((ROOT / "docs").rglob("*.md"))]
    path.write_text("\n".join(pages), encoding="utf-8")
    return path


def tool(main: Callable[[list[str]], int], *arguments: object) -> None:
    """Run the main() of one of the lab's commands; what it prints stands below the cell. Raises NotebookError."""
    if main([str(argument) for argument in arguments]) != 0:
        raise NotebookError(f"{main.__module__} failed: the line above says why")


def picture(what: Any, width: int = 860) -> None:
    """Show a figure of lab.measure, or a .png or .svg file."""
    from IPython.display import SVG, Image, display

    if isinstance(what, Path) and what.suffix == ".svg":
        display(SVG(filename=what))
        return
    if not isinstance(what, Path):
        figure, what = what, scratch() / "figure.png"
        figure.savefig(what, dpi=120, facecolor="white")
        figure.clear()
    display(Image(filename=what, width=width))


def embed(page: str, folder: Path) -> None:
    """Show an HTML page below the cell, in a frame of its own; it does not name the folder it was made in."""
    from html import escape

    from IPython.display import display

    text = escape(page.replace(f"{folder}/", ""))
    frame = f'<iframe srcdoc="{text}" width="100%" height="760" style="border: 1px solid #ccc"></iframe>'
    display({"text/html": frame, "text/plain": "the page is shown when the cell is run"}, raw=True)


def table(columns: str, rows: Sequence[Sequence[object]], title: str = "") -> None:
    """Print a table; a column whose heading begins with ">" holds numbers."""
    made = [
        Column(heading.lstrip(">"), justify="right" if heading.startswith(">") else "left", no_wrap=True)
        for heading in columns.split("|")
    ]
    grid = Table(*made, title=title or None, title_justify="left", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    for row in rows:
        grid.add_row(*(str(cell) for cell in row))
    Console(width=COLUMNS, highlight=False).print(grid)


def compare(predicted: Mapping[str, float | None], measured: Mapping[str, float], how: str = "{:.0%}") -> None:
    """What was predicted beside what was measured, each number formatted by `how`; None: no prediction yet."""
    guesses = {name: predicted.get(name) for name in measured}
    told = {name: "?" if guess is None else how.format(guess) for name, guess in guesses.items()}
    table("|>you predicted|>measured", [(name, told[name], how.format(value)) for name, value in measured.items()])
    if None in guesses.values():
        print("Fill in the prediction above, then run both cells again.")


# --------------------------------------------------------------------------------------------------------- the chapters


def sources() -> list[Path]:
    """The chapters in order, as they are written."""
    return sorted((FOLDER / "source").glob("[0-9]*.py"))


def notebooks() -> list[Path]:
    """The chapters in order, as people open them; a student's copy has no sources."""
    return sorted(FOLDER.glob("[0-9]*.ipynb"))


def notebook_of(source: Path) -> Path:
    """Where a chapter's notebook is."""
    return FOLDER / f"{source.stem}.ipynb"


def read(path: Path) -> Any:
    """A notebook, from its source or as it is. Raises NotebookError."""
    import jupytext
    import nbformat

    try:
        book = jupytext.read(path)
        for number, cell in enumerate(book.cells):
            cell["id"] = f"cell-{number}"  # the same source is the same file
        book.metadata = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"}}
        nbformat.validate(book)
    except Exception as error:  # somebody may have edited it: anything may be wrong with it
        first = f"{type(error).__name__}: {error}".splitlines()[0]
        raise NotebookError(f"{path.name}: cannot be read as a notebook ({first})") from None
    return book


def execute(book: Any, seconds: float = 600.0) -> None:
    """Run all cells, in this Python and in notebooks/; outputs go into the notebook. Raises NotebookError."""
    from jupyter_client.kernelspec import KernelSpec
    from jupyter_client.manager import KernelManager
    from nbclient import NotebookClient
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError

    manager = KernelManager()
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    manager._kernel_spec = KernelSpec(argv=command, display_name="Python 3", language="python")  # not another Python's
    client = NotebookClient(
        book, km=manager, timeout=seconds, coalesce_streams=True, resources={"metadata": {"path": str(FOLDER)}}
    )
    try:
        client.execute(cleanup_kc=True)  # it would let a kernel of ours run on
    except CellExecutionError as error:
        raise NotebookError(f"{error.ename}: {error.evalue}\nin the cell\n{error.traceback}") from None
    except CellTimeoutError:
        raise NotebookError(f"a cell took more than {seconds:.0f} s") from None
    except DeadKernelError:
        raise NotebookError("its Python ended before the last cell") from None


def tidy(book: Any) -> None:
    """Only what belongs to the outputs: no progress on stderr, no moments of execution."""
    for cell in book.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]


def write(book: Any, path: Path) -> None:
    """The notebook as a file. Raises NotebookError for one that is too large to be looked at in a browser."""
    import nbformat

    text = nbformat.writes(book)
    if len(text.encode()) > LARGEST:
        raise NotebookError(f"{path.name}: {len(text.encode()):,} bytes, at most {LARGEST:,}")
    write_text(path, text + "\n")


# ---------------------------------------------------------------------------------------------------------- the command


def ensure(*modules: str) -> None:
    """Install what Jupyter needs into this environment, if it is missing. Raises NotebookError."""
    if all(find_spec(module) for module in modules):
        return
    print(f"Jupyter is not installed: installing it into {sys.prefix}, about a minute ...", file=sys.stderr)
    if not installed("notebooks"):
        raise NotebookError("installing Jupyter failed: pip says why above")


def chosen(numbers: Sequence[int], there: Sequence[Path]) -> list[Path]:
    """Those of the files there that have these numbers, all without numbers. Raises NotebookError."""
    known = {int(path.name[:2]): path for path in there}
    for number in numbers:
        if number not in known:
            raise NotebookError(f"chapter {number}: there are {', '.join(map(str, known)) or 'none here'}")
    return [known[number] for number in numbers or known]


def run(options: argparse.Namespace) -> int:
    """Execute the chapters as they are, or with --write from their sources into their notebooks; one by one."""
    failed = False
    for path in chosen(options.chapters, sources() if options.write else notebooks()):
        start = time.perf_counter()
        try:
            book = read(path)
            execute(book)
            if options.write:
                tidy(book)
                write(book, notebook_of(path))
        except NotebookError as error:
            failed = True
            print(f"{path.stem}: failed: {error}", file=sys.stderr)
            continue
        done = "written" if options.write else "runs"
        print(f"{path.stem}: {done}, {time.perf_counter() - start:.0f} s", flush=True)
    return 1 if failed else 0


@in_one_line("lab.notebook: ", NotebookError)
def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit code."""
    parser = Parser(prog="python -m lab.notebook", description="Open or run the course's notebooks.")
    commands = parser.add_subparsers(dest="command", required=True)
    opening = commands.add_parser("open", help="JupyterLab with all chapters")
    opening.add_argument("more", nargs="*", metavar="OPTION", help="for jupyter lab, after --")
    running = commands.add_parser("run", help="execute chapters")
    running.add_argument("chapters", nargs="*", type=int, metavar="N", help="chapters (default: all)")
    running.add_argument("--write", action="store_true", help="write them anew, from notebooks/source")
    options = parser.parse_args(arguments)
    if options.command == "run":
        ensure(*NEEDED)
        return run(options)
    ensure(*NEEDED, "jupyterlab")
    root = ["--allow-root"] if os.geteuid() == 0 else []  # in a container one is; Jupyter refuses it unless told so
    where = ["--notebook-dir", str(ROOT), "--LabApp.default_url=/lab/tree/notebooks"]
    return subprocess.run([sys.executable, "-m", "jupyterlab", *where, *options.more, *root], check=False).returncode


if __name__ == "__main__":
    quietly(main)
