"""The code of docs/layernorm.md, run as the chapter says, and its statements about mistakes."""

import re
from pathlib import Path

import pytest

CHAPTER = Path(__file__).parents[1] / "docs" / "layernorm.md"


def code() -> str:
    """All python blocks of the chapter, one after another."""
    text = CHAPTER.read_text(encoding="utf-8")
    return "\n".join(re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE))


def test_the_chapter_runs():
    exec(compile(code(), str(CHAPTER), "exec"), {"__name__": "chapter"})


@pytest.mark.parametrize("term", [" - dn.mean(axis=-1, keepdims=True)", " - n * (dn * n).mean(axis=-1, keepdims=True)"])
def test_the_chapter_notices_a_missing_term(term):
    assert code().count(term) == 1
    with pytest.raises(AssertionError):
        exec(compile(code().replace(term, ""), str(CHAPTER), "exec"), {"__name__": "chapter"})
