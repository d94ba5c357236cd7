"""What is added to a program under check, in memory only: places to switch threads at.

The program's file is not touched and its line numbers stay. Always added is a call at the start of every `while` body,
so that a thread that only spins is noticed. With `steps`, threads can switch before every statement that other threads
could notice, and between the reading and the writing of `x += 1`: what goes wrong there does not show while threads
switch at primitives only. With `notes`, lab.check.notes adds what the race detector needs to see. The additions are
made in the syntax tree, not in bytecode, so that a schedule means the same in every Python version.
"""

import ast
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from lab.check.schedule import ROUNDS, STATEMENTS
from lab.check.switches import InsideExpressions, Rounds, goes_round_quietly, statement, switch

OPERATIONS = {"lock", "unlock", "wait", "signal", "broadcast", "P", "V"}  # they are switching points already
ADDITIONS = {"__step__", "__switch__", "__loop__"}
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
LOOPS = (ast.For, ast.AsyncFor, ast.While)
SCOPES = (*FUNCTIONS, ast.Lambda, ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)


def instrument(tree: ast.Module, steps: bool, notes: bool) -> ast.Module:
    """A changed copy of the tree (the tree itself must not be used afterwards)."""
    from lab.check.notes import Notes

    scopes = Scopes(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute | ast.Subscript):
            node.text = ast.unparse(node)  # type: ignore[union-attr]  # before anything is added
    if steps:
        tree = Instrumenter(scopes).visit(InsideExpressions().visit(tree))
    changed = ast.fix_missing_locations(Rounds().visit(tree))
    return ast.fix_missing_locations(Notes(scopes).visit(changed)) if notes else changed


# ----------------------------------------------------------------------------------------------- which names are shared


@dataclass
class Scope:
    """The names of one function; `cell` names a variable that holds something new for each call of the function."""

    parent: "Scope | None"
    cell: str
    locals: set[str] = field(default_factory=set)
    globals: set[str] = field(default_factory=set)
    nonlocals: set[str] = field(default_factory=set)
    shared: set[str] = field(default_factory=set)  # of its locals, those an inner function assigns to
    captured: set[str] = field(default_factory=set)  # those an inner function reads, and that change later
    stores: Counter[str] = field(default_factory=Counter)  # how often it assigns to each; in a loop that counts twice


class Scopes:
    """All functions of a module, and the names that more than one of them may change."""

    def __init__(self, tree: ast.Module) -> None:
        self.of: dict[ast.AST, Scope] = {}
        self.shared_globals: set[str] = set()
        self._reads: list[tuple[Scope, str, bool]] = []  # where, which name, and whether inside a lambda
        self._collect(tree, None)
        for scope in self.of.values():
            self.shared_globals |= scope.globals
            for name in scope.nonlocals:
                owner = self.owner(name, scope)
                if owner is not None:
                    owner.shared.add(name)
        for scope, name, later in self._reads:
            owner = self.owner(name, scope)
            if owner is not None and (later or owner is not scope) and owner.stores[name] > 1:
                owner.captured.add(name)

    def _collect(self, node: ast.AST, scope: Scope | None, times: int = 1, later: bool = False) -> None:
        for child in ast.iter_child_nodes(node):
            inner, often, lazy = scope, times, later
            if isinstance(child, FUNCTIONS):
                if scope is not None:
                    scope.locals.add(child.name)
                inner, often, lazy = Scope(scope, f"__cell{len(self.of)}__"), 1, False
                self.of[child] = inner
                inner.locals |= {argument.arg for argument in ast.walk(child.args) if isinstance(argument, ast.arg)}
                inner.stores.update(inner.locals)
            elif scope is not None:
                often = 2 if isinstance(child, LOOPS) else times
                lazy = later or isinstance(child, ast.Lambda)
                match child:
                    case ast.Global(names):
                        scope.globals |= set(names)
                    case ast.Nonlocal(names):
                        scope.nonlocals |= set(names)
                    case ast.Subscript(ast.Call(ast.Name("globals")), ast.Constant(str(name)), ast.Store()):
                        self.shared_globals.add(name)
                    case ast.Name(name, ast.Store() | ast.Del()):
                        scope.locals.add(name)
                        scope.stores[name] += times
                    case ast.Name(name):
                        self._reads.append((scope, name, later))
            self._collect(child, inner, often, lazy)

    def owner(self, name: str, scope: Scope | None) -> Scope | None:
        """The function whose local variable `name` is, seen from `scope`; None: a global."""
        while scope is not None:
            if name in scope.globals:
                return None
            if name in scope.locals and name not in scope.nonlocals:
                return scope
            scope = scope.parent
        return None

    def is_shared(self, name: str, scope: Scope | None) -> bool:
        """May another thread change this variable?"""
        owner = self.owner(name, scope)
        return name in (owner.shared if owner is not None else self.shared_globals)

    def is_captured(self, name: str, scope: Scope | None) -> bool:
        """Is this a local variable that an inner function, perhaps in another thread, reads while it may change?"""
        owner = self.owner(name, scope)
        return owner is not None and name in owner.captured


# ---------------------------------------------------------------------------------------------- expressions, statements


def text_of(node: ast.expr) -> str:
    """A variable, attribute or element as the program names it."""
    return getattr(node, "text", "") or ast.unparse(node)


def own_parts(node: ast.AST) -> Iterator[ast.AST]:
    """A statement's own expressions: not the statements inside it, nor inner functions."""
    for name, value in ast.iter_fields(node):
        if name in ("body", "orelse", "finalbody", "handlers", "cases"):
            continue
        for child in value if isinstance(value, list) else [value]:
            if isinstance(child, ast.AST) and not isinstance(child, SCOPES):
                yield child
                yield from own_parts(child)


def is_operation(node: ast.stmt) -> bool:
    """Is this statement nothing but an operation of a primitive?"""
    called = node.value.func if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) else None
    return isinstance(called, ast.Attribute) and called.attr in OPERATIONS


class Instrumenter(ast.NodeTransformer):
    """Makes places to switch at of statements; `self.scope` is the function it is in, None outside functions, where
    nothing is added."""

    def __init__(self, scopes: Scopes) -> None:
        self.scopes = scopes
        self.scope: Scope | None = None

    def visit(self, node: ast.AST) -> Any:
        """Visit a node; a statement inside a function may get a switch before it, and one between reading and
        writing."""
        if self.scope is None or not isinstance(node, ast.stmt) or isinstance(node, (*FUNCTIONS, ast.ClassDef)):
            return super().visit(node)
        sharing = any(may_share(self.scopes, target, self.scope) for target in assigned(node))
        noticed = not is_operation(node) and (sharing or self.noticeable(node))
        quiet = goes_round_quietly(node)
        if sharing and isinstance(node, ast.Assign | ast.AugAssign):
            node.value = switch(node.value, node, STATEMENTS)
        changed = super().visit(node)
        if quiet:
            changed.body.insert(0, ast.copy_location(ast.Expr(switch(ast.Constant(None), node, ROUNDS)), node))
        return [statement("__step__", node, ast.Constant(node.lineno)), changed] if noticed else changed

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
        """Enter a function."""
        outer, self.scope = self.scope, self.scopes.of[node]
        self.generic_visit(node)
        self.scope = outer
        return node

    visit_AsyncFunctionDef = visit_FunctionDef

    def noticeable(self, node: ast.stmt) -> bool:
        """Does the statement itself read something shared, or call something that may? Or does it end or leave
        something?"""
        return isinstance(node, ast.Return | ast.Break | ast.Raise) or any(
            isinstance(part, ast.Call | ast.Attribute | ast.Subscript | ast.Yield | ast.YieldFrom)
            or (isinstance(part, ast.Name) and self.scopes.is_shared(part.id, self.scope))
            for part in own_parts(node)
        )


def assigned(node: ast.stmt) -> list[ast.expr]:
    """What a statement assigns to."""
    if isinstance(node, ast.Assign):
        found = node.targets
    elif isinstance(node, ast.AugAssign | ast.AnnAssign | ast.For | ast.AsyncFor):
        found = [node.target]
    else:
        return []
    return [one for whole in found for one in (whole.elts if isinstance(whole, ast.Tuple | ast.List) else [whole])]


def may_share(scopes: Scopes, node: ast.expr, scope: Scope | None) -> bool:
    """Is this something another thread may see?"""
    if isinstance(node, ast.Name):
        return scopes.is_shared(node.id, scope)
    return isinstance(node, ast.Attribute | ast.Subscript)


def is_addition(node: ast.AST) -> bool:
    """Is this a call that was added here?"""
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ADDITIONS


# ------------------------------------------------------------------------------------------------- what is plain to see


def waits_outside_loops(tree: ast.Module) -> dict[int, str]:
    """The line of each .wait(mutex) that is in an `if`, or in nothing, rather than in a `while`, and this in words:
    a hint, not a proof."""
    found: dict[int, str] = {}
    repeated = {last for node in ast.walk(tree) if isinstance(node, ast.While) for last in last_of(node.body)}

    def search(node: ast.AST, around: str) -> None:
        for child in ast.iter_child_nodes(node):
            inner = "while" if child in repeated else around
            if isinstance(child, (ast.While, ast.If, *FUNCTIONS)):
                inner = {ast.While: "while", ast.If: "if"}.get(type(child), "")
            if (
                isinstance(child, ast.Call)
                and isinstance(child.func, ast.Attribute)
                and child.func.attr == "wait"
                and len(child.args) == 1
                and around != "while"
            ):
                found[child.lineno] = "is in an if" if around == "if" else "is in no loop"
            search(child, inner)

    search(tree, "")
    return found


def last_of(block: list[ast.stmt]) -> Iterator[ast.stmt]:
    """The statements after which a block is over; after those of a loop's body its condition is looked at again."""
    *others, last = block
    match last:
        case ast.Continue() if others:
            yield from last_of(others)
        case ast.If():
            yield from last_of(last.body)
            yield from last_of(last.orelse) if last.orelse else ()
        case ast.With():
            yield from last_of(last.body)
        case _:
            yield last
