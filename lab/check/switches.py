"""Switching points inside expressions, added to a program under check in memory.

What a statement does is not one step: between the test and the branch of `q.popleft() if q else None`, between the two
sides of `a() or b()`, between the rounds of a comprehension, between `len(q) - 1` and the `q[...]` it is for, another
thread may run. This pass puts a call of __switch__(value, line, level) there, which returns the value.
"""

import ast

from lab.check.schedule import EXPRESSIONS, ROUNDS

# Rounds of loops are weighted: a `while` often waits for others, a `for` seldom does.
WHILE_ROUND, FOR_ROUND = 10, 4


def call(function: str, at: ast.AST, *arguments: ast.expr) -> ast.Call:
    """function(*arguments), at the place of `at`."""
    return ast.copy_location(ast.Call(ast.Name(function, ast.Load()), list(arguments), []), at)


def statement(function: str, at: ast.AST, *arguments: ast.expr) -> ast.Expr:
    """The same as a statement."""
    return ast.copy_location(ast.Expr(call(function, at, *arguments)), at)


def switch(value: ast.expr, at: ast.expr | ast.stmt, level: int) -> ast.Call:
    """The value, and then a place where threads can switch, from this level on."""
    return call("__switch__", at, value, ast.Constant(at.lineno), ast.Constant(level))


def noticeable(node: ast.AST) -> bool:
    """Does evaluating this read or change something that others may share?"""
    return any(isinstance(part, ast.Call | ast.Attribute | ast.Subscript) for part in ast.walk(node))


class InsideExpressions(ast.NodeTransformer):
    """Outside functions nothing is added."""

    def __init__(self) -> None:
        self.depth = 0

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
        """Its body only: defaults and annotations are evaluated where it is made."""
        self.depth += 1
        node.body = [self.visit(statement) for statement in node.body]
        self.depth -= 1
        return node

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_Lambda(self, node: ast.AST) -> ast.AST:
        """Left as it is."""
        return node

    visit_JoinedStr = visit_AnnAssign = visit_Lambda

    def after(self, node: ast.expr) -> ast.expr:
        """The same value, and then a point."""
        return switch(node, node, EXPRESSIONS) if self.depth and noticeable(node) else node

    def before(self, node: ast.expr) -> ast.expr:
        """A point, and then the value."""
        if not self.depth or not noticeable(node):
            return node
        pair = ast.Tuple([switch(ast.Constant(None), node, EXPRESSIONS), node], ast.Load())
        return ast.copy_location(ast.Subscript(pair, ast.Constant(1), ast.Load()), node)

    def visit_IfExp(self, node: ast.IfExp) -> ast.AST:
        """Between the test and the branch taken."""
        self.generic_visit(node)
        node.body, node.orelse = self.before(node.body), self.before(node.orelse)
        return node

    def visit_BoolOp(self, node: ast.BoolOp) -> ast.AST:
        """Before every operand but the first."""
        self.generic_visit(node)
        node.values[1:] = map(self.before, node.values[1:])
        return node

    def visit_BinOp(self, node: ast.BinOp) -> ast.AST:
        """Between two sides that both read something."""
        self.generic_visit(node)
        if noticeable(node.left):
            node.right = self.before(node.right)
        return node

    def visit_Compare(self, node: ast.Compare) -> ast.AST:
        """The same."""
        self.generic_visit(node)
        if noticeable(node.left):
            node.comparators[0] = self.before(node.comparators[0])
        return node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """Between the arguments of a method, or of setattr, and the call."""
        self.generic_visit(node)
        changing = isinstance(node.func, ast.Attribute) or (
            isinstance(node.func, ast.Name) and node.func.id == "setattr"
        )
        if changing and node.args and not isinstance(node.args[-1], ast.Starred):
            node.args[-1] = self.after(node.args[-1])
        return node

    def visit_Subscript(self, node: ast.Subscript) -> ast.AST:
        """Between an index and its use."""
        node.value = self.visit(node.value)
        if any(isinstance(part, ast.Call) for part in ast.walk(node.slice)):  # else left as the race detector knows it
            node.slice = self.visit(node.slice)
            if not isinstance(node.slice, ast.Slice | ast.Tuple):
                node.slice = self.after(node.slice)
        return node

    def rounds(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp | ast.DictComp) -> None:
        """Between the rounds, if what it goes through may change meanwhile."""
        for generator in node.generators:
            if self.depth and may_change(generator.iter):
                generator.ifs.insert(0, switch(ast.Constant(True), node, ROUNDS))

    def visit_ListComp(self, node: ast.ListComp | ast.SetComp | ast.GeneratorExp) -> ast.AST:
        """In every round."""
        self.generic_visit(node)
        node.elt = self.before(node.elt)
        for generator in node.generators:
            generator.ifs = [self.before(test) for test in generator.ifs]
        self.rounds(node)
        return node

    visit_SetComp = visit_GeneratorExp = visit_ListComp

    def visit_DictComp(self, node: ast.DictComp) -> ast.AST:
        """In every round."""
        self.generic_visit(node)
        node.value = self.before(node.value)
        self.rounds(node)
        return node


def may_change(node: ast.expr) -> bool:
    """Is this a container that others may have, too, or a view of one?"""
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
        return node.func.id in ("enumerate", "zip", "reversed", "map", "filter") and any(map(may_change, node.args))
    return isinstance(node, ast.Name | ast.Attribute | ast.Subscript | ast.Call)


def goes_round_quietly(node: ast.AST) -> bool:
    """Is this a `for` through what may change meanwhile, whose body has no place to switch at?"""
    return isinstance(node, ast.For) and may_change(node.iter) and not any(map(noticeable, node.body))


def has_shared_rounds(tree: ast.AST) -> bool:
    """Does a comprehension, or a quiet loop, in it go through something that may change meanwhile?"""
    return any(
        goes_round_quietly(node) or (isinstance(node, ast.comprehension) and may_change(node.iter))
        for node in ast.walk(tree)
    )


class Rounds(ast.NodeTransformer):
    """Counts the loop iterations and comprehensions, everywhere in a program: __loop__(line, weight), which is true."""

    def visit_For(self, node: ast.For | ast.While) -> ast.AST:
        """At the beginning of the body."""
        self.generic_visit(node)
        weight = WHILE_ROUND if isinstance(node, ast.While) else FOR_ROUND
        node.body.insert(0, statement("__loop__", node, ast.Constant(node.lineno), ast.Constant(weight)))
        return node

    visit_While = visit_For

    def visit_ListComp(self, node: ast.ListComp | ast.SetComp | ast.DictComp | ast.GeneratorExp) -> ast.AST:
        """As the first condition of the innermost loop."""
        self.generic_visit(node)
        node.generators[-1].ifs.insert(0, call("__loop__", node, ast.Constant(node.lineno), ast.Constant(FOR_ROUND)))
        return node

    visit_SetComp = visit_DictComp = visit_GeneratorExp = visit_ListComp
