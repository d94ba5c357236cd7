"""What is added to a program under check so that the race detector sees what it shares, in memory only.

A second pass after lab.check.instrument, over the same syntax tree; line numbers stay. Every access to a variable that
another thread may see (a global or nonlocal that functions assign to, a local that changes while an inner function may
read it, an attribute, an element of a list or dict) is noted: a read where it is made, a write after the right-hand
side has been computed and before the value is stored, so that what the right-hand side waits for comes first.
Everything that a call, an attribute or an index gives passes through `__made__`, which makes arrays tracked, and an
array gets the name of the variable it is assigned to.
"""

import ast
from collections.abc import Iterator

from lab.check.instrument import Scope, Scopes, assigned, is_addition, text_of
from lab.check.switches import call

MADE = (ast.Call, ast.BinOp, ast.UnaryOp, ast.IfExp, ast.Compare)  # what may give a new array


class Notes(ast.NodeTransformer):
    """Walks the tree, from which `scopes` was made before anything was added. `self.scope` is the function it is in,
    None outside functions, where no thread runs and nothing is noted; `self.hidden` are the names that lambdas and
    comprehensions around have of their own."""

    def __init__(self, scopes: Scopes) -> None:
        self.scopes = scopes
        self.scope: Scope | None = None
        self.hidden: list[set[str]] = []
        self.inside = ""  # the class around, for names like self.__own
        self.kept = 0  # how many targets have been taken apart

    # ---- statements

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.AST:
        """Enter a class."""
        outer, self.inside = self.inside, node.name.lstrip("_")
        self.generic_visit(node)
        self.inside = outer
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> ast.AST:
        """Enter a function."""
        node.decorator_list = [self.visit(decorator) for decorator in node.decorator_list]
        node.args.defaults = [self.visit(default) for default in node.args.defaults]
        node.args.kw_defaults = [default and self.visit(default) for default in node.args.kw_defaults]
        outer, self.scope = self.scope, self.scopes.of[node]
        first = 1 if ast.get_docstring(node, clean=False) is not None else 0
        body = [self.visit(inner) for inner in node.body[first:]]
        if (self.scope.shared or self.scope.captured) and body:
            target = ast.copy_location(ast.Name(self.scope.cell, ast.Store()), node.body[0])
            body.insert(0, ast.copy_location(ast.Assign([target], call("__fresh__", node.body[0])), node.body[0]))
        node.body = [*node.body[:first], *flat(body)]
        self.scope = outer
        return node

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_Assign(self, node: ast.Assign) -> ast.AST:
        """Name the arrays; note the writes."""
        writes = self.notes(assigned(node))
        self.generic_visit(node)
        for target in node.targets:
            node.value = named(target, node.value)
        node.value = noted(node.value, writes)
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AST:
        """The same; the annotation is left as it is."""
        if node.value is not None:
            node.value = noted(named(node.target, self.visit(node.value)), self.notes([node.target]))
            node.target = self.visit(node.target)
        return node

    def visit_AugAssign(self, node: ast.AugAssign) -> ast.AST | list[ast.AST]:
        """The target is read first."""
        target, node.value = node.target, self.visit(node.value)
        reads, writes = self.notes([target], write=False), self.notes([target])
        if isinstance(target, ast.Attribute | ast.Subscript):
            self.generic_visit(target)
            writes = self.note_inside(target, write=False)
        node.value = noted(node.value, writes)
        return [*statements(reads), node]

    def visit_NamedExpr(self, node: ast.NamedExpr) -> ast.AST:
        """name := value"""
        node.value = noted(self.visit(node.value), self.notes([node.target]))
        return node

    def visit_For(self, node: ast.For | ast.AsyncFor) -> ast.AST:
        """The targets are written at the beginning of each round; the items may be arrays."""
        writes = self.notes(assigned(node))
        self.generic_visit(node)
        if isinstance(node, ast.For):
            node.iter = call("__items__", node.iter, node.iter)
        node.body[:0] = statements(writes)
        return node

    visit_AsyncFor = visit_For

    def visit_With(self, node: ast.With | ast.AsyncWith) -> ast.AST:
        """The same for `as` targets."""
        targets = [target for item in node.items if item.optional_vars for target in flattened(item.optional_vars)]
        writes = self.notes(targets)
        self.generic_visit(node)
        node.body[:0] = statements(writes)
        return node

    visit_AsyncWith = visit_With

    def visit_Delete(self, node: ast.Delete) -> ast.AST | list[ast.AST]:
        """A write."""
        writes = self.notes(node.targets)
        self.generic_visit(node)
        return [*statements(writes), node]

    def visit_match_case(self, node: ast.match_case) -> ast.AST:
        """Patterns are no expressions."""
        node.guard = node.guard and self.visit(node.guard)
        node.body = flat([self.visit(inner) for inner in node.body])
        return node

    # ---- notes

    def notes(self, targets: list[ast.expr], write: bool = True) -> list[ast.Call]:
        """Calls that note an access to those of the targets that are shared names; their first argument, a value to be
        returned, is still missing."""
        found = [(target, self.note(target, write)) for target in targets if isinstance(target, ast.Name)]
        return [call("__noted__", target, *note) for target, note in found if note]

    def note(self, name: ast.Name, write: bool) -> list[ast.expr]:
        """A function that notes an access to a variable, and its arguments; [] if no other thread may see it."""
        if self.scope is None or any(name.id in names for names in self.hidden):
            return []
        if not (self.scopes.is_shared(name.id, self.scope) or self.scopes.is_captured(name.id, self.scope)):
            return []
        return [ast.Name("__note__", ast.Load()), self.cell_of(name.id), *where(name), ast.Constant(write)]

    def cell_of(self, name: str) -> ast.expr:
        """An expression that tells apart the variables of one name: those of each call of the function they belong
        to."""
        owner = self.scopes.owner(name, self.scope)
        return ast.Constant(None) if owner is None else ast.Name(owner.cell, ast.Load())

    def note_inside(self, target: ast.Attribute | ast.Subscript, write: bool) -> list[ast.Call]:
        """f()[g()] -> (owner := f())[key := g()], where the access is then noted. Returns the call that notes a write,
        as notes() does."""
        if self.scope is None or self.hidden or cuts_dimensions(target):
            return []
        self.kept += 1
        kind, owner, key = self.taken_apart(target)
        target.value, owner = kept(f"__owner{self.kept}__", owner)
        last, key = (target.value, key) if kind == "attribute" else kept(f"__key{self.kept}__", key)
        note = [ast.Name(f"__note_{kind}__", ast.Load()), owner, key, *where(target)]
        last = call("__noted__", target, last, *note, ast.Constant(write))
        setattr(target, "value" if kind == "attribute" else "slice", last)
        return [call("__noted__", target, *note, ast.Constant(True))]

    def taken_apart(self, node: ast.Attribute | ast.Subscript) -> tuple[str, ast.expr, ast.expr]:
        """("attribute", owner, name), or ("item", owner, index or slice)."""
        if isinstance(node, ast.Attribute):
            private = self.inside and node.attr.startswith("__") and not node.attr.endswith("__")
            return "attribute", node.value, ast.Constant(f"_{self.inside}{node.attr}" if private else node.attr)
        if not isinstance(node.slice, ast.Slice):
            return "item", node.value, node.slice
        parts = [part or ast.Constant(None) for part in (node.slice.lower, node.slice.upper, node.slice.step)]
        return "item", node.value, call("__slice__", node, *parts)

    # ---- expressions

    def visit_Name(self, node: ast.Name) -> ast.AST:
        """A shared name that is read."""
        note = self.note(node, write=False) if isinstance(node.ctx, ast.Load) else []
        return call("__noted__", node, node, *note) if note else node

    def visit_Call(self, node: ast.Call) -> ast.AST:
        """The function called is not a variable of interest; what it belongs to and its arguments may be."""
        added, text = is_addition(node), ast.Constant(ast.unparse(node.func))
        if isinstance(node.func, ast.Attribute):
            node.func.value = self.visit(node.func.value)
        elif not isinstance(node.func, ast.Name):
            node.func = self.visit(node.func)
        node.args = [self.visit(argument) for argument in node.args]
        for keyword in node.keywords:
            keyword.value = self.visit(keyword.value)
        if added:
            return node
        node.func = call("__callee__", node.func, node.func, text, ast.Constant(node.lineno))
        return call("__made__", node, node)

    def visit_Attribute(self, node: ast.Attribute | ast.Subscript) -> ast.AST:
        """An attribute or an element that is read, or written."""
        self.generic_visit(node)
        if not isinstance(node.ctx, ast.Load):
            self.note_inside(node, write=True)
            return node
        if self.scope is None or cuts_dimensions(node):
            return call("__made__", node, node)
        kind, owner, key = self.taken_apart(node)
        return call(f"__read_{kind}__", node, owner, key, *where(node))

    visit_Subscript = visit_Attribute

    def visit_Lambda(self, node: ast.Lambda) -> ast.AST:
        """Its arguments are its own."""
        self.hidden.append({argument.arg for argument in ast.walk(node.args) if isinstance(argument, ast.arg)})
        node.args.defaults = [self.visit(default) for default in node.args.defaults]
        node.body = self.visit(node.body)
        self.hidden.pop()
        return node

    def visit_comprehension_of(self, node: ast.expr) -> ast.AST:
        """The names after `for` are its own."""
        stored = [part for generator in node.generators for part in ast.walk(generator.target)]  # type: ignore[attr-defined]
        self.hidden.append({part.id for part in stored if isinstance(part, ast.Name)})
        self.generic_visit(node)
        for generator in node.generators:  # type: ignore[attr-defined]
            if not generator.is_async:
                generator.iter = call("__items__", generator.iter, generator.iter)
        self.hidden.pop()
        return node

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = visit_comprehension_of


def cuts_dimensions(node: ast.expr) -> bool:
    """Is this x[i, j:k]? There is no other way to write the index; nothing but arrays has one, and they tell by
    themselves."""
    return (
        isinstance(node, ast.Subscript)
        and isinstance(node.slice, ast.Tuple)
        and any(isinstance(part, ast.Slice) for part in node.slice.elts)
    )


def where(node: ast.expr) -> tuple[ast.Constant, ast.Constant]:
    """What a note calls an access: its text, as the program has it, and its line."""
    return ast.Constant(text_of(node)), ast.Constant(node.lineno)


def kept(name: str, value: ast.expr) -> tuple[ast.expr, ast.expr]:
    """(name := value), and name; a name or a constant as it is."""
    if isinstance(value, ast.Name | ast.Constant):
        return value, value
    return ast.copy_location(ast.NamedExpr(ast.Name(name, ast.Store()), value), value), ast.Name(name, ast.Load())


def named(target: ast.expr, value: ast.expr) -> ast.expr:
    """value; arrays in it are known by the variable they are first assigned to."""
    if is_addition(value):  # a place to switch at
        value.args[0] = named(target, value.args[0])  # type: ignore[attr-defined]
    elif isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple) and len(target.elts) == len(value.elts):
        value.elts = [named(*pair) for pair in zip(target.elts, value.elts, strict=True)]
    elif isinstance(target, ast.Name | ast.Attribute | ast.Subscript) and isinstance(value, MADE):
        return call("__called__", value, value, ast.Constant(text_of(target)))
    return value


def flattened(target: ast.expr) -> Iterator[ast.expr]:
    """The single targets in a target."""
    if isinstance(target, ast.Tuple | ast.List):
        for part in target.elts:
            yield from flattened(part)
    else:
        yield target.value if isinstance(target, ast.Starred) else target


def flat(parts: list) -> list:
    """Statements, some of them in lists."""
    return [one for part in parts for one in (part if isinstance(part, list) else [part])]


def noted(value: ast.expr, writes: list[ast.Call]) -> ast.expr:
    """value, which is then about to be stored."""
    for write in writes:
        write.args.insert(0, value)
        value = write
    return value


def statements(writes: list[ast.Call]) -> list[ast.stmt]:
    """The notes alone."""
    return [ast.copy_location(ast.Expr(noted(ast.Constant(None), [write])), write) for write in writes]
