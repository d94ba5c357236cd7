"""Places in a program, and the names of what is made there."""

import ast
import contextlib
import dis
import linecache
import os
import sys
from collections.abc import Callable, Iterator
from functools import lru_cache, partial
from types import FrameType

from lab import threadlib
from lab.check.report import place

KINDS = {"Mutex": "mutex", "Cond": "condition", "Semaphore": "semaphore"}
GATHER = ("append", "add", "appendleft", "put")  # methods that put a new primitive among others
MANY = (ast.Tuple, ast.List, ast.Set, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
COPY = ("list", "tuple", "set", "deque", "dict")  # functions that keep what they are given

_HERE = os.path.dirname(__file__)
_OURS = {threadlib.__file__, contextlib.__file__}


def is_ours(filename: str) -> bool:
    """Is this a file of the checker, of the thread library or of Python's library?"""
    return filename in _OURS or filename.startswith(_HERE) or filename.startswith("<")


def operation_name(fn: Callable) -> str:
    """The name of the outermost function but main: "matmul_forward.<locals>.block" -> "matmul_forward"."""
    while isinstance(fn, partial):
        fn = fn.func
    return getattr(fn, "__qualname__", repr(fn)).removeprefix("main.<locals>.").split(".<locals>")[0]


def calls(frame: FrameType | None) -> Iterator[FrameType]:
    """This frame and those around it, the innermost first."""
    while frame is not None:
        yield frame
        frame = frame.f_back


def outside(frame: FrameType) -> FrameType:
    """The innermost frame from here on that is a program's; the outermost if there is none."""
    while frame.f_back is not None and is_ours(frame.f_code.co_filename):
        frame = frame.f_back
    return frame


def user_frame(frame: FrameType | None, user_file: str) -> FrameType | None:
    """The innermost frame of `user_file`, of any program if there is none, else None."""
    own = next((one for one in calls(frame) if one.f_code.co_filename == user_file), None)
    return own or next((one for one in calls(frame) if not is_ours(one.f_code.co_filename)), None)


def frame_place(frame: FrameType | None) -> str:
    """file:line of a frame, "" for None."""
    return "" if frame is None else place(frame.f_code.co_filename, frame.f_lineno)


def site_order(site: str) -> tuple[str, int]:
    """pool.py:9 before pool.py:10"""
    name, _, line = site.rpartition(":")
    return name, int(line) if line.isdigit() else 0


# ------------------------------------------------------------------------------------------------- names of variables


def label_of(primitive: threadlib.Primitive, counts: dict[str, int]) -> tuple[str, str]:
    """("mutex queue", "pool.py:12") for a primitive that is being made: its name, or the variable it is assigned to,
    numbered if several share it; `counts` are those of the run so far."""
    frame = outside(sys._getframe(1))
    kind = next(KINDS[base.__name__] for base in type(primitive).__mro__ if base.__name__ in KINDS)
    made_at = frame_place(frame)
    name = primitive.name or field_name(sys._getframe(1)) or variable_name(frame)
    label = f"the {kind} made at {made_at}" if not name else name if kind in name.lower() else f"{kind} {name}"
    number = counts[label] = counts.get(label, -1) + 1
    if number and not name:
        label = f"{kind} #{number + 1} made at {made_at}"
    elif name.endswith("[]"):
        label = f"{label[:-1]}{number}]"
    elif number:
        label = f"{label}#{number + 1}"
    return label, made_at


def field_name(frame: FrameType) -> str:
    """The field of a dataclass, whose __init__ (written by Python, not by the program) calls the maker; else ""."""
    while frame.f_back is not None and is_ours(frame.f_code.co_filename):
        if (frame.f_code.co_filename, frame.f_code.co_name) == ("<string>", "__init__"):
            later = (step for step in dis.get_instructions(frame.f_code) if step.offset > frame.f_lasti)
            return next((step.argval for step in later if step.opname == "STORE_ATTR"), "")
        frame = frame.f_back
    return ""


def variable_name(frame: FrameType) -> str:
    """The variable that what `frame` is making is assigned to; "forks[]" for one of many, "" if that cannot be seen."""
    code = frame.f_code
    source = "".join(linecache.getlines(code.co_filename))
    line, _end_line, column, _end_column = list(code.co_positions())[frame.f_lasti // 2]
    return names_in(source).get((line, column), "") if line is not None and column is not None else ""


@lru_cache(maxsize=64)
def names_in(source: str) -> dict[tuple[int, int], str]:
    """(line, column) of each call of Mutex, Cond or Semaphore -> the name of what it is assigned to."""
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):
        return {}
    parents = {child: node for node in ast.walk(tree) for child in ast.iter_child_nodes(node)}
    return {
        (node.lineno, node.col_offset): target_of(node, parents)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) in KINDS
    }


def target_of(node: ast.AST, parents: dict[ast.AST, ast.AST]) -> str:
    """Climb from an expression to the assignment it is in."""
    parent, suffix = parents.get(node), ""
    while parent is not None:
        match parent:
            case ast.Assign([target, *_]):
                return written(target, suffix)
            case ast.AnnAssign(target) | ast.NamedExpr(target) | ast.AugAssign(target):
                return written(target, suffix)
            case ast.withitem(_, ast.expr() as target):
                return written(target, suffix)
            case ast.keyword(name):
                return name + suffix if name else ""
        above = parents.get(parent)
        if isinstance(parent, ast.Tuple | ast.List) and isinstance(above, ast.Assign):
            target = above.targets[0]
            if (
                isinstance(node, ast.expr)
                and isinstance(target, ast.Tuple | ast.List)
                and len(target.elts) == len(parent.elts)
            ):
                return written(target.elts[parent.elts.index(node)], suffix)
        if isinstance(parent, ast.Call):
            called = parent.func
            if isinstance(called, ast.Attribute) and called.attr in GATHER:
                return written(called.value, "[]")
            if getattr(called, "id", getattr(called, "attr", "")) not in COPY:
                return ""
        elif isinstance(parent, ast.Dict):
            key = next((key for key, value in zip(parent.keys, parent.values, strict=True) if value is node), None)
            suffix = f"[{key.value!r}]" if isinstance(key, ast.Constant) else "[]"
        elif isinstance(parent, MANY):
            suffix = "[]"
        elif not isinstance(parent, ast.IfExp | ast.BoolOp | ast.BinOp | ast.Starred):
            return ""
        node, parent = parent, above
    return ""


def written(target: ast.expr, suffix: str) -> str:
    """A target as it is written, without self."""
    if isinstance(target, ast.Name | ast.Attribute | ast.Subscript):
        return ast.unparse(target).removeprefix("self.") + suffix
    return ""
