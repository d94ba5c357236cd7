"""Programs as students hand them in, each with what the grader has to say of it: right ones, wrong ones, attacks.

The tests hold the grader to them, the self-test times them, an example class is made of them. The files say themselves
what is expected, in comments at their head:

    # on: base                           stands on base.py (or another file of its folder), which comes before it
    # cases: 2 workers, long             kinds of cases that are run (default: two for 2 workers, one closed early)
    # expect: ROW STATUS | PHRASE        a row of the result, its status, a part of its reason
    # whole: ROW STATUS                  where the status is another one, or is known only, once all cases are run and a
    #                                    timing is judged; "open": nothing can be said of that row then
    # timing: NAME                       the generated timing that the verdict is fed (timings.py)
    # check: KIND                        lab.check finds this kind of error
    # checked: KIND | PHRASE             what is found, when lab.check itself is attacked
    # sandboxes: all                     tried in every sandbox that works here, not only in the best
    # dangerous: ...                     run only after limits were seen to bind
"""

import re
from pathlib import Path

FOLDER = Path(__file__).parent
BASE = FOLDER / "base.py"
LOOPS_SPLIT = FOLDER / "stages" / "loops_split.py"
WRONG, ATTACKS = (tuple(sorted((FOLDER / kind).glob("*.py"))) for kind in ("wrong", "attacks"))


def program(path: Path) -> str:
    """The whole submission."""
    text = path.read_text(encoding="utf-8")
    (below,) = head(path).get("on", ["nothing"])
    if below == "nothing":
        return text
    return program(BASE if below == BASE.stem else path.with_name(f"{below}.py")) + "\n\n" + text


def head(path: Path) -> dict[str, list[str]]:
    """The comments at the head of a file: key -> values."""
    found: dict[str, list[str]] = {}
    for line in path.read_text(encoding="utf-8").split("\n\n")[0].splitlines():
        if match := re.match(r"# (on|cases|expect|whole|timing|check|checked|sandboxes|dangerous): (.*)", line):
            found.setdefault(match[1], []).append(match[2])
    return found
