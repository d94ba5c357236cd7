"""Gradescope's autograder: the zip to upload, and what it does with a submission there.

/autograder/source      the zip, unpacked; setup.sh has run when the image was built
/autograder/submission  what the student handed in
/autograder/results     where results.json goes
The layout: https://gradescope-autograders.readthedocs.io/en/latest/specs/
"""

import json
import sys
import tempfile
from pathlib import Path

from grader.__main__ import main as grade_main
from grader.classroom import handout
from grader.classroom.archive import write_zip
from grader.classroom.collect import in_folder, one
from lab.command import quietly
from lab.files import ROOT, write_json

SCRIPTS = ("setup.sh", "run_autograder")
TOOLS = tuple(f"grader/classroom/{name}.py" for name in ("__init__", "gradescope", "handout", "archive", "collect"))
SETTINGS = "settings.json"


def build(folder: Path, seed: int, points: Path | None = None) -> Path:
    """Write `folder`/gradescope.zip. Raises HandoutError, WriteError, OSError for the points table."""
    given = handout.files() | {name: (ROOT / name).read_bytes() for name in TOOLS}
    files = {
        **{f"lab/{name}": data for name, data in given.items()},
        **{name: Path(__file__).with_name("autograder").joinpath(name).read_bytes() for name in SCRIPTS},
        SETTINGS: json.dumps({"seed": seed}).encode(),
        **({"points.toml": points.read_bytes()} if points else {}),
    }
    return write_zip(folder / "gradescope.zip", files, executable=SCRIPTS)


def autograde(place: Path) -> int:
    """Grade what lies in `place`/submission; the result, or why there is none, is in `place`/results/results.json."""
    results, source = place / "results", place / "source"
    handed_in = one("", "", False, list(in_folder(place / "submission")))
    if handed_in.problem:
        write_json(results / "results.json", {"score": 0.0, "output": handed_in.problem, "tests": []})
        return 0
    (source / SETTINGS).chmod(0o600)  # the seed is not for the user that submissions run as
    settings = json.loads((source / SETTINGS).read_text(encoding="utf-8"))
    points = source / "points.toml"
    options = [
        *("--seed", str(settings["seed"]), "--out", str(results), "--require-sandbox", "--quiet", "--exit-zero"),
        *("--metadata", str(place / "submission_metadata.json")),
        *(("--points", str(points)) if points.is_file() else ()),
    ]
    with tempfile.TemporaryDirectory(prefix="autograder-") as folder:
        file = Path(folder) / "parallel.py"
        file.write_bytes(handed_in.source)
        return grade_main([str(file), *options])


def main(arguments: list[str] | None = None) -> int:
    """python -m grader.classroom.gradescope PLACE: what run_autograder calls."""
    (place,) = sys.argv[1:] if arguments is None else arguments
    return autograde(Path(place))


if __name__ == "__main__":
    quietly(main)
