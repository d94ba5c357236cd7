"""What students get: dist/handout and dist/handout.zip, without anything that an instructor keeps.

The folder holds what git tracks, less the model answers, the instructor's tools and the tests; links to what is left
out become plain text. `leaks` looks for the answers by content, in every file, notebooks and pictures included.
"""

import ast
import json
import posixpath
import re
import subprocess
import tempfile
from collections.abc import Iterable, Mapping, Set
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath

from grader.classroom.archive import write_zip
from lab.files import ROOT

NAME = "handout"
KEPT = (  # patterns of what students get ...
    *("Makefile", "make/*", "pyproject.toml", "constraints.txt", "LICENSE", "CITATION.cff", ".gitignore"),
    *("lab/*", "grader/*", "handout/*", "exercises/*", "notebooks/*", "models/tiny_shakespeare.*", "docs/*"),
    *("profiles/README.md", "profiles/reference/*", "tests/zoo/*"),
)
LEFT_OUT = (  # ... and of what the instructor keeps of that
    *("lab/parallel.py", "lab/cached.py", "lab/measure/reference.py", "notebooks/source/*"),
    *("grader/classroom/*", "grader/examples/*"),
    *("docs/instructor.md", "docs/architecture.md", "docs/cast.py", "tests/zoo/right/submission.py"),
    *("profiles/reference/README.md", "profiles/reference/bench.*"),
    *("profiles/reference/parallel.*", "profiles/reference/cached.*"),
)
ANSWERS = ("lab/parallel.py", "lab/cached.py", "solutions/*")  # nothing of these may be found in it
GIVEN = (  # from which the answers start
    *("lab/serial.py", "lab/threadlib.py", "lab/kernels.py", "lab/machine.py", "lab/checkpoint.py"),
    *("handout/parallel.py", "exercises/*.py"),
)
OWN_README = "handout/README.md"  # becomes the README
MAINTAINERS = ("env", "clean", "distclean", "help")  # verbs of theirs that students have as well
LINE = 30  # letters of a line, from which on it can be recognised
BY_CHANCE = 3  # such lines of numpy that a program may share with a model answer
LINK = re.compile(r"(!?)\[([^\]]*)\]\(([^)#\s]+)(#[^)]*)?\)")


class HandoutError(Exception):
    """No handout; the message is one line."""


# ----------------------------------------------------------------------------------------------------------- its files


def tracked() -> list[str]:
    """What git tracks: nobody's own files, results or models get in. Raises HandoutError."""
    try:
        done = subprocess.run(
            ["git", "-C", str(ROOT), "-c", f"safe.directory={ROOT}", "ls-files", "-z"], capture_output=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        raise HandoutError(f"{ROOT} is not a git checkout: a handout is built from the files that git tracks") from None
    return [name for name in done.stdout.decode().split("\0") if name and (ROOT / name).is_file()]


def matches(name: str, patterns: Iterable[str]) -> bool:
    """Whether one of the patterns fits; * stands for folders as well."""
    return any(fnmatch(name, pattern) for pattern in patterns)


def files() -> dict[str, bytes]:
    """Everything in the handout, by name. Raises HandoutError."""
    names = [name for name in tracked() if matches(name, KEPT) and not matches(name, LEFT_OUT)]
    found = {name: (ROOT / name).read_bytes() for name in names}
    found["Makefile"] = student_makefile(found["Makefile"].decode()).encode()
    found["README.md"] = found.pop(OWN_README)
    there = found.keys() | {str(folder) for name in found for folder in PurePosixPath(name).parents}
    for name in found:
        if name.endswith(".md"):
            found[name] = without_dead_links(name, found[name].decode(), there).encode()
        elif name.endswith(".ipynb"):
            found[name] = notebook_without_dead_links(name, found[name], there)
    return found


def student_makefile(text: str) -> str:
    """Without the instructor's verbs, and the maintainers' but for a few; a program not yet begun is the starter."""
    text = text.replace("$(wildcard parallel.py) lab/parallel.py)", "$(wildcard parallel.py) handout/parallel.py)")
    text = text.replace("serial, parallel or cached instead of a file", "serial instead of a file")
    start, rest = text.split("#== for instructors\n")
    instructors, rest = rest.split("#== for maintainers\n")
    maintainers, end = re.split(r"\n(?=verbs \+= )", rest, maxsplit=1)
    blocks = re.split(r"\n(?=\S)", maintainers)
    verb = re.compile(r"(?:\$\(call verb,)?([a-z-]+)[,:]")
    kept = [block for block in blocks if (found := verb.match(block)) and found[1] in MAINTAINERS]
    gone = {found[1] for block in (*re.split(r"\n(?=\S)", instructors), *blocks) if (found := verb.match(block))}
    names, end = end.split("\n", 1)
    names = " ".join(word for word in names.split() if word not in gone - set(MAINTAINERS))
    return start + "#== for everybody\n" + "\n".join(kept) + "\n\n" + names + "\n" + end


def without_dead_links(name: str, text: str, there: Set[str]) -> str:
    """Links to what is left out become their text; `there` are the files and folders that are not."""

    def link(match: re.Match) -> str:
        target = match[3]
        if re.match(r"[a-z]+:", target):
            return match[0]
        path = posixpath.normpath(PurePosixPath(name).parent / target)
        return match[0] if path in there else "" if match[1] else match[2]

    return LINK.sub(link, text)


def notebook_without_dead_links(name: str, data: bytes, there: Set[str]) -> bytes:
    """The same for the texts of a notebook; one that has none stays as it is."""
    book, changed = json.loads(data), False
    for cell in book.get("cells", []):
        before = "".join(cell["source"]) if cell.get("cell_type") == "markdown" else ""
        text = without_dead_links(name, before, there)
        if text != before:
            cell["source"], changed = text.splitlines(keepends=True), True
    return (json.dumps(book, indent=1, ensure_ascii=False) + "\n").encode() if changed else data


# ---------------------------------------------------------------------------------------------------------------- leaks


def lines_of(text: str) -> set[str]:
    """Its lines that are long enough to be recognised; blanks, quotes of JSON, and imports aside."""
    plain = text.replace('\\"', '"').replace("\\n", "\n")
    lines = (re.sub(r"\s+", " ", line).strip(' ",') for line in plain.splitlines())
    return {line for line in lines if len(line) >= LINE and not line.startswith(("from ", "import "))}


def names_of(source: str) -> set[str]:
    """The functions and classes that a program defines, as far as their names are no word of the language."""
    defined = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.FunctionDef | ast.ClassDef))
    return {node.name for node in defined if "_" in node.name.strip("_")}


def secrets_of(there: Mapping[str, bytes]) -> tuple[set[str], set[str]]:
    """(lines, names) that only the model answers have: what they took from GIVEN is not a secret."""
    answers = [name for name in tracked() if matches(name, ANSWERS) and name != "solutions/README.md"]
    texts = {name: (ROOT / name).read_text(encoding="utf-8") for name in answers}
    given = "\n".join(data.decode() for name, data in there.items() if matches(name, GIVEN))
    lines = set().union(*map(lines_of, texts.values()))
    names = set().union(*(names_of(text) for name, text in texts.items() if name.endswith(".py")))
    return lines - lines_of(given), names - set(re.findall(r"\w+", given))


def leaks(there: Mapping[str, bytes]) -> list[str]:
    """A line for each thing in the handout that only the instructor has; none is found in a good one."""
    lines, names = secrets_of(there)
    word = re.compile(r"\b(" + "|".join(map(re.escape, sorted(names))) + r")\b")
    found = [
        f"{name}: it is the instructor's" for name in there if matches(name, (*LEFT_OUT, *ANSWERS, "*.pyc", ".git/*"))
    ]
    for name, data in there.items():
        if b"\0" in data[:4096]:  # a model or a picture
            continue
        text = data.decode("utf-8", errors="replace")
        same = sorted(lines_of(text) & lines)
        if len(same) > (BY_CHANCE if name.endswith(".py") else 0):
            found.append(f"{name}: {len(same)} lines of a model answer, such as: {same[0]}")
        if named := sorted(set(word.findall(text))):
            found.append(f"{name}: names of a model answer: {', '.join(named)}")
    return found


# -------------------------------------------------------------------------------------------------------------- writing


def build(folder: Path) -> tuple[Path, Path]:
    """Write `folder`/handout, anew, and `folder`/handout.zip. Raises HandoutError, WriteError."""
    there = files()
    found = leaks(there)
    if found:
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise HandoutError(f"the handout would give away the instructor's material: {found[0]}{more}")
    place = folder / NAME
    if place.is_dir() and any(place.iterdir()) and not (place / "constraints.txt").is_file():
        raise HandoutError(f"{place}: is there, and no handout that was built before; give another folder with --out")
    archive = write_zip(folder / f"{NAME}.zip", {f"{NAME}/{name}": data for name, data in there.items()})
    try:
        with tempfile.TemporaryDirectory(dir=folder, prefix=f".{NAME}-") as beside:
            for name, data in there.items():
                path = Path(beside, "new", name)
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
            if place.exists():
                place.rename(Path(beside, "old"))
            Path(beside, "new").rename(place)
    except OSError as error:
        raise HandoutError(f"{error.filename}: cannot be written: {error.strerror}") from None
    return place, archive
