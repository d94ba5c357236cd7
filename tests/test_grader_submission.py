"""The one file that is handed in: bad input is one line and a zero."""

import json
import os
import socket
from pathlib import Path

import pytest
from grader_boxes import GOOD
from jsonschema import validate

from grader import grade, report
from grader.submission import BadSubmission, read_submission

GRADESCOPE = json.loads((Path(__file__).parent / "data" / "gradescope_results.schema.json").read_text())

BAD = {
    "empty": (b"", "is empty"),
    "blank": (b"\n\n  \n", "is empty"),
    "binary": (bytes(range(256)) * 4, "binary file"),
    "utf-16": (GOOD.encode("utf-16"), "save it as UTF-8"),
    "latin-1": ("# first\n# é\n".encode("latin-1") + GOOD.encode(), "not text in UTF-8 (line 2)"),
    "utf-32": (GOOD.encode("utf-32"), "save it as UTF-8"),
    "syntax": (b"def generate(model, prompt, n, workers:\n  pass\n", "syntax error in line 1"),
    "prose": (b"Dear teacher, here is my solution.\n", "syntax error"),
    "large": (b"#" * (50 << 20), "has 52,428,800 bytes"),
    "no function": (b"x = 1\n", "no function generate"),
    "another function": (b"def gen(model):\n    pass\n", "the file defines gen"),
    "method": (
        b"class A:\n    def generate(self, model, prompt, n, workers): yield 0\n",
        "the one in line 2 is part of",
    ),
    "script": (
        b"if __name__ == '__main__':\n    def generate(model, prompt, n, workers): yield 0\n",
        "one in line 2 is",
    ),
    "async": (b"async def generate(model, prompt, n, workers):\n    yield 0\n", "async function"),
    "too few parameters": (b"def generate(model, prompt):\n    yield 0\n", "cannot be called as generate"),
    "too many": (b"def generate(model, prompt, n, workers, extra):\n    yield 0\n", "cannot be called as generate"),
    "another order": (
        b"def generate(model, workers, prompt, n=10):\n    yield 0\n",
        "cannot be called as generate(model,",
    ),
    "keyword only": (b"def generate(model, prompt, n, *, workers):\n    yield 0\n", "cannot be called as generate"),
    "deep": (b"x = " + b"(" * 5000 + b"0" + b")" * 5000, "parallel.py"),
    "utf-7": (b"# coding: utf-7\n# +AAo-import os\n" + GOOD.encode(), "another coding than UTF-8"),
    "unknown coding": (b"#!/usr/bin/python\n# coding: nosuch\n" + GOOD.encode(), "another coding than UTF-8"),
    "mixed codings": (b"\xef\xbb\xbf# coding: latin-1\n" + GOOD.encode(), "another coding than UTF-8"),
    "deep annotation": (b"def generate(model: " + b"-" * 3000 + b"1, prompt): pass\n", "parallel.py"),
    "deep default": (b"def generate(model, prompt=" + b".x".join([b"x"] * 3000) + b"): pass\n", "parallel.py"),
    "long names": (b"def generate(" + b"a" * 5000 + b"): pass\n", ") cannot be called as generate"),
    "null": (b"x = 1\0\n", "binary file"),
}


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_and_a_zero(tmp_path, name):
    path = tmp_path / "parallel.py"
    raw, said = BAD[name]
    path.write_bytes(raw)
    verdict = grade.grade(path)
    assert verdict.score == 0 and verdict.exit_code == 1
    assert said in verdict.rows[0].reason and "\n" not in verdict.rows[0].reason
    validate(report.gradescope(verdict), GRADESCOPE)


def test_what_is_no_file(tmp_path):
    (tmp_path / "folder.py").mkdir()
    (tmp_path / "outside.py").write_text(GOOD)
    (tmp_path / "link.py").symlink_to(tmp_path / "outside.py")
    os.mkfifo(tmp_path / "pipe.py")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(tmp_path / "socket.py"))
        for name, said in (
            ("missing.py", "No such file"), ("folder.py", "is a directory"), ("link.py", "is a link"),
            ("pipe.py", "ordinary file"),
            ("socket.py", "cannot be opened"), ("a\0b.py", "cannot be opened"),
        ):  # fmt: skip
            with pytest.raises(BadSubmission, match=said):
                read_submission(tmp_path / name)


@pytest.mark.parametrize("coding", ["utf-8", "utf8", "UTF-8", "ascii"])
def test_codings_that_mean_utf_8(tmp_path, coding):
    path = tmp_path / "parallel.py"
    path.write_text(f"# -*- coding: {coding} -*-\n{GOOD}")
    assert read_submission(path).source


def test_deep_annotations_of_a_right_program(tmp_path):
    path = tmp_path / "parallel.py"
    path.write_text(f"def generate(model: {'-' * 80}1, prompt, n, workers):\n    yield 0\n")
    assert read_submission(path).source


def test_names_that_are_no_text(tmp_path):
    path = tmp_path / os.fsdecode(b"p\xff\x1b[2J.py")
    path.write_text("x = 1\n")
    verdict = grade.grade(path)
    assert verdict.evidence.name.isprintable() and verdict.rows[0].reason.isprintable()
    json.dumps(report.gradescope(verdict), ensure_ascii=False).encode()
    report.html(verdict).encode()


def test_good_input_and_what_it_imports(tmp_path):
    path = tmp_path / "parallel.py"
    path.write_text(
        f"import numpy as np, threading\nfrom lab import cached, serial\nfrom os import path\nx = eval('1')\n{GOOD}"
    )
    found = read_submission(path)
    assert [line for line in found.threads if "threading" in line]
    assert len(found.imports) == 2 and "lab.cached" in found.imports[0] and "eval()" in found.imports[1]
    path.write_text("from lab.serial import generate\n")
    assert not read_submission(path).imports
    path.write_text("def generate(model, prompt, n=10, workers=None, *more, **options):\n    yield 0\n")
    read_submission(path)


SCRIPT = 'if __name__ == "__main__":\n    import argparse, threading\nelse:\n    import heapq\n'


def test_what_runs_only_as_a_script_is_not_looked_at(tmp_path):
    path = tmp_path / "parallel.py"
    path.write_text(GOOD + SCRIPT)
    found = read_submission(path)
    assert found.imports == [] and found.threads == []
    for change in (
        '__name__ = "__main__"\n', "for __name__ in ['__main__']: pass\n",
        'globals()["__name__"] = "__main__"\n', 'globals().update(__name__="__main__")\n',
        'generate.__globals__["a"].__name__ = "__main__"\n', 'match "__main__":\n    case __name__: pass\n',
    ):  # fmt: skip
        path.write_text(GOOD + change + SCRIPT)
        found = read_submission(path)
        assert len(found.imports) == 1 and len(found.threads) == 1
    path.write_text(GOOD + SCRIPT.replace("heapq", "queue"))
    assert len(read_submission(path).threads) == 1
    path.write_text(GOOD + f"if {'-' * 900}1 == 2:\n    pass\n")
    read_submission(path)


def test_generate_may_be_a_class_or_have_a_type(tmp_path):
    path = tmp_path / "parallel.py"
    for source in (
        "class generate:\n    pass\n",
        "from lab.serial import generate as g\ngenerate: object = g\n",
    ):
        path.write_text(source)
        read_submission(path)


def test_the_reference_reads_well():
    found = read_submission(grade.LAB / "parallel.py")
    assert found.imports == [] and found.threads == []
