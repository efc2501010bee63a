"""Makes the mutants of a module: copies in which one thing is changed.

Cosmic Ray changes operators, comparisons, conditions, numbers, loops, exceptions and decorators.
It has nothing that deletes a statement, so each call whose result is not used is deleted here.
"""

import ast
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.mutating import mutate_code
from cosmic_ray.plugins import get_operator, operator_names

_WITHOUT_MEANING = re.compile(
    r"ReplaceBinaryOperator_\w+_(RShift|LShift|BitOr|BitAnd|BitXor)"
    r"|ReplaceComparisonOperator_(?!Is)\w+_Is(Not)?"
)
"""Bits of a float only raise, and identity of numbers and texts is not their equality."""


@dataclass(frozen=True, order=True)
class Mutant:
    """A module with one thing changed.

    Attributes:
        line: number of the changed line.
        old: the line before, without indentation.
        new: the line after; empty if it was deleted.
        function: in which it lies; empty for what runs while the module is imported.
        source: the whole changed module.
    """

    line: int
    old: str
    new: str
    function: str
    source: str = field(repr=False)


def mutants_of(source: str) -> list[Mutant]:
    """Return every different mutant of a module that compiles and changes more than types."""
    original = _without_types(source)
    functions = functions_of(source)
    found: dict[str, Mutant] = {}
    for changed in _changed_sources(source):
        with suppress(SyntaxError):
            if _without_types(changed) != original:
                found.setdefault(changed, _mutant(source, changed, functions))
    return sorted(found.values())


def functions_of(source: str) -> dict[int, str]:
    """Return for each line of a function's body its name; what is nested belongs to the outer."""
    return dict(_lines_of_functions(ast.parse(source)))


def _lines_of_functions(node: ast.AST) -> Iterator[tuple[int, str]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.FunctionDef):
            end = child.end_lineno or child.lineno
            yield from ((line, child.name) for line in range(child.body[0].lineno, end + 1))
        else:
            yield from _lines_of_functions(child)


def _changed_sources(source: str) -> Iterator[str]:
    yield from _without_calls(source)
    nodes = list(ast_nodes(get_ast(source)))
    for name in operator_names():
        operator = get_operator(name)
        if operator.arguments() or _WITHOUT_MEANING.search(name):
            continue
        num_positions = sum(len(list(operator().mutation_positions(node))) for node in nodes)
        for occurrence in range(num_positions):
            with suppress(AttributeError):  # Cosmic Ray cannot replace a dotted exception
                changed = mutate_code(source, operator(), occurrence)
                if changed is not None:
                    yield changed


def _without_calls(source: str) -> Iterator[str]:
    """Yield the source without each call whose result is not used, except for log messages."""
    lines = source.splitlines(keepends=True)
    for node in ast.walk(ast.parse(source)):
        if not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Call)):
            continue
        first, last = node.lineno - 1, node.end_lineno or node.lineno
        if not lines[first].lstrip().startswith("logger."):
            passing = f"{lines[first][: node.col_offset]}pass\n"
            yield "".join([*lines[:first], passing, *["\n"] * (last - first - 1), *lines[last:]])


def _mutant(source: str, changed: str, functions: dict[int, str]) -> Mutant:
    before, after = source.splitlines(), changed.splitlines()
    index = next(i for i, (a, b) in enumerate(zip(before, after, strict=False)) if a != b)
    is_deleted = len(before) != len(after)
    while is_deleted and not before[index].strip():
        index += 1  # a decorator goes together with the empty lines above it
    return Mutant(
        line=index + 1,
        old=" ".join(before[index].split()),
        new="" if is_deleted else " ".join(after[index].split()),
        function=functions.get(index + 1, ""),
        source=changed,
    )


class _Untyped(ast.NodeTransformer):
    """Removes what the type checker judges: annotations, how arguments pass, what is frozen."""

    def visit_ClassDef(self, node: ast.ClassDef) -> ast.ClassDef:
        self.generic_visit(node)
        for decorator in node.decorator_list:
            if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "dataclass":
                decorator.keywords = [
                    one for one in decorator.keywords if one.arg not in ("frozen", "kw_only")
                ]
        return node

    def visit_arg(self, node: ast.arg) -> ast.arg:
        node.annotation = None
        return node

    def visit_arguments(self, node: ast.arguments) -> ast.arguments:
        self.generic_visit(node)
        node.args = [*node.posonlyargs, *node.args, *node.kwonlyargs]
        node.defaults += [default for default in node.kw_defaults if default]
        node.posonlyargs, node.kwonlyargs, node.kw_defaults = [], [], []
        return node

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.FunctionDef:
        self.generic_visit(node)
        node.returns = None
        return node

    def visit_AnnAssign(self, node: ast.AnnAssign) -> ast.AnnAssign:
        self.generic_visit(node)
        node.annotation = ast.Constant(None)
        return node


def _without_types(source: str) -> str:
    return ast.dump(_Untyped().visit(ast.parse(source)))
