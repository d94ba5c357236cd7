"""That a handout is good, seen in a fresh copy of it with an environment of its own, by its own commands."""

import json
import os
import re
import shutil
import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path

from grader.classroom.handout import NAME, HandoutError
from lab.files import ROOT

SMALL = "MODEL=models/tiny_shakespeare.bin"
QUICK = {  # students' verbs -> variables with which they take seconds; of the others, --help is tried
    "starter": ["OUT=again/parallel.py"],
    "gpt": [SMALL],
    "chat": [SMALL, 'ARGS=-n 4 "Once upon"'],
    "profile": [SMALL, "ARGS=-n 60"],
    "check": ["WORKERS=2"],
    "explore": ["WORKERS=2", "ARGS=--schedules 20"],
    "races": ["WORKERS=2", "ARGS=--schedules 5"],
    "timeline": [SMALL, "WORKERS=2"],
    "scale": [SMALL],
    "plots": [SMALL, "WORKERS=2"],
    "report": [SMALL, "WORKERS=2"],
    "train": [
        "ARGS=--data docs/handout.md --layers 1 --heads 2 --channels 8 --context 16 --batch 1 --seq 8 --steps 2",
        "OUT=models/try.bin",
    ],
    "evaluate": ["ARGS=--data docs/handout.md"],
    "help": [],
}
OWN = ("env", "clean", "distclean")  # tried by everything else, or after everything else
LONG = 900.0  # seconds for one command
Tell = Callable[[str], None]


class Proof:
    """A fresh copy of the handout in `folder`, and what is tried in it. Its methods raise HandoutError."""

    def __init__(self, archive: Path, folder: Path, tell: Tell = lambda _: None) -> None:
        self.tell = tell
        with zipfile.ZipFile(archive) as packed:
            packed.extractall(folder)
        self.place = folder / NAME

    def make(self, *words: str) -> str:
        """Run make there; what it printed."""
        kept = {key: value for key, value in os.environ.items() if key not in ("MAKEFLAGS", "MAKELEVEL", "PYTHONPATH")}
        try:
            done = subprocess.run(
                ["make", *words], cwd=self.place, env=kept, stdin=subprocess.DEVNULL, capture_output=True, text=True,
                errors="replace", timeout=LONG, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            raise HandoutError(f"in the handout, make {words[0]} takes longer than {LONG:.0f} s") from None
        if done.returncode or "Traceback" in done.stderr:
            last = (done.stderr.strip() or done.stdout.strip() or "it says nothing").splitlines()[-1]
            raise HandoutError(f"in the handout, make {words[0]} fails: {last}")
        return done.stdout

    def everything(self, model: Path | None) -> None:
        """The environment, the starter, all verbs, a solution. model: for timed runs, None to leave them out."""
        self.tell("a fresh environment: make env")
        self.make("env")
        self.make("starter")
        self.starter(model)
        for verb in self.verbs():
            self.tell(f"make {verb}")
            self.make(verb, *QUICK.get(verb, ["ARGS=--help"]))
        self.solution(model)

    def verbs(self) -> list[str]:
        """All that its `make help` lists."""
        return [verb for verb in re.findall(r"^ +make (\S+)", self.make("help"), re.MULTILINE) if verb not in OWN]

    def report(self, model: Path | None) -> dict:
        """What `make grade` there writes."""
        stages = "tokens,checks,timing" if model else "tokens,checks"
        self.make("grade", *([f"MODEL={model}"] if model else []), f"ARGS=--stages {stages}")
        report = json.loads((self.place / "profiles" / "grade" / "results.json").read_text(encoding="utf-8"))
        if "score" not in report:
            raise HandoutError("this machine is not quiet enough to prove that the handout scales; try again")
        return report

    def starter(self, model: Path | None) -> None:
        """It gives the right tokens, and does not scale."""
        self.tell("make grade: the starter")
        for test in self.report(model)["tests"]:
            if test["tags"][0] in ("public", "hidden") and not 0 < test["score"] < test["max_score"]:
                raise HandoutError(f"the starter: {test['name']}: {test['score']:g} points: {test['output']}")
            if test["tags"][0].startswith("threads-") and test["score"]:
                raise HandoutError(f"the starter scales already: {test['name']}: {test['output']}")

    def solution(self, model: Path | None) -> None:
        """The model answer in its place gets every point there is."""
        self.tell("make grade: the model answer")
        shutil.copyfile(ROOT / "lab" / "parallel.py", self.place / "parallel.py")
        tests = [t for t in self.report(model)["tests"] if model or not t["tags"][0].startswith(("threads", "speed"))]
        lost = [test for test in tests if test["score"] < test["max_score"] or test["score"] < 0]
        if lost:
            raise HandoutError(f"a right solution loses points: {lost[0]['name']}: {lost[0]['output']}")
