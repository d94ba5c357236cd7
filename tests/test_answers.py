"""The question sheet: each of its questions has a line for the instructor, and stages have questions."""

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent


def test_each_question_has_what_a_good_answer_mentions():
    asked: list[str] = []
    for part in re.split(r"^## ", (ROOT / "handout" / "answers.md").read_text(), flags=re.MULTILINE):
        stage = re.match(r"Stage (\d)", part)
        if stage:
            questions = re.findall(r"^(\d)\. .*\?", part, re.MULTILINE)
            assert questions, stage[0]
            asked += [f"{stage[1]}.{number}" for number in re.findall(r"^(\d)\. ", part, re.MULTILINE)]
    answered = re.findall(r"\*\*(\d\.\d)\*\* \S", (ROOT / "solutions" / "answers.md").read_text())
    assert sorted(asked) == sorted(answered) and {one[0] for one in asked} == set("0123456")
