"""JSON out of a process that a submission ran in, as data that nothing stumbles over."""

import json
import math
from typing import Any

LARGEST = 1 << 53  # integers; up to here floating point holds them all
DEEPEST = 40  # lists and objects in each other


def loads(text: str | bytes) -> Any:
    """The value of a JSON text without infinities, NaN, huge integers and deep nesting. Raises ValueError."""
    try:
        value = json.loads(text, parse_int=whole, parse_float=finite, parse_constant=finite)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    check_depth(value)
    return value


def whole(text: str) -> int:
    """An integer of no more than LARGEST. Raises ValueError."""
    if len(text) > 17 or abs(int(text)) > LARGEST:
        raise ValueError("an integer that is too large")
    return int(text)


def finite(text: str) -> float:
    """A floating-point number that is one. Raises ValueError."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError("a number that is not finite")
    return value


def check_depth(value: object) -> None:
    """Raises ValueError for lists and objects more than DEEPEST in each other."""
    level, depth = [value], 0
    while level:
        depth += 1
        if depth > DEEPEST:
            raise ValueError("nested too deeply")
        level = [
            item
            for entry in level
            if isinstance(entry, list | dict)
            for item in (entry.values() if isinstance(entry, dict) else entry)
        ]
