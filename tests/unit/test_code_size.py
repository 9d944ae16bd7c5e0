"""No class and no function is larger than a reader can hold in mind; a class that must be says why in its docstring.

Methods count as they are written, without those of base classes; attributes are what a class declares or sets. The
lines of a function are those of its body, without its docstring: that of a command is its help.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

REPO = Path(__file__).resolve().parents[2]
MOST_METHODS, MOST_ATTRIBUTES, MOST_LINES = 20, 15, 40
_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_ENUMS = frozenset({"Enum", "IntEnum", "StrEnum", "Flag", "IntFlag"})


class Size(NamedTuple):
    """A class or a function that is large."""

    name: str
    number: int
    of: str
    """What there are many of."""


def _modules() -> list[Path]:
    return sorted([*(REPO / "i2core").rglob("*.py"), *(REPO / "plugins").glob("*/src/**/*.py")])


def _large(code: ast.AST) -> Iterator[Size]:
    for node in ast.walk(code):
        if isinstance(node, ast.ClassDef):
            yield from _large_class(node)
        elif isinstance(node, _FUNCTIONS) and (lines := _lines(node)) > MOST_LINES:
            yield Size(node.name, lines, "lines")


def _large_class(node: ast.ClassDef) -> Iterator[Size]:
    """What it has too many of, and does not speak of."""
    reasons = " ".join((ast.get_docstring(node) or "").split())
    methods = sum(isinstance(each, _FUNCTIONS) for each in node.body)
    if methods > MOST_METHODS and not _is_told(reasons, "method"):
        yield Size(node.name, methods, "methods")
    attributes = 0 if _is_enum(node) else len(_attributes(node))
    if attributes > MOST_ATTRIBUTES and not _is_told(reasons, "attribute"):
        yield Size(node.name, attributes, "attributes")


def _is_told(reasons: str, what: str) -> bool:
    """As in "a method for each request", "as many methods as the contract", "21 methods: 7 of them …"."""
    told = rf"\b(as many {what}s as|more {what}s than|{what} for each|{what}s:)"
    return re.search(told, reasons, re.IGNORECASE) is not None


def _is_enum(node: ast.ClassDef) -> bool:
    """Its names are values, and no state."""
    return any(ast.unparse(base).rpartition(".")[2] in _ENUMS for base in node.bases)


def _attributes(node: ast.ClassDef) -> set[str]:
    declared = [each.target for each in node.body if isinstance(each, ast.AnnAssign)]
    found = {target.id for target in declared if isinstance(target, ast.Name)}
    for each in ast.walk(node):
        if isinstance(each, ast.Attribute) and isinstance(each.ctx, ast.Store) and ast.unparse(each.value) == "self":
            found.add(each.attr)
    return found


def _lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    body = node.body[1:] if ast.get_docstring(node, clean=False) is not None else node.body
    return (node.end_lineno or 0) - body[0].lineno + 1 if body else 0


def test_nothing_is_too_large() -> None:
    large = [(path, size) for path in _modules() for size in _large(ast.parse(path.read_text()))]
    assert not large, "\n".join(
        f"{path.relative_to(REPO)}: {size.name} has {size.number} {size.of}" for path, size in large
    )


_MANY = "".join(f"    def m{number}(self): ...\n" for number in range(21))


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("class A:\n" + _MANY, [Size("A", 21, "methods")]),
        ("class A:\n    'A method for each request.'\n" + _MANY, []),
        ("class A:\n    'Its methods ...'\n" + _MANY, [Size("A", 21, "methods")]),
        ("class A:\n" + "".join(f"    a{n}: int\n" for n in range(16)), [Size("A", 16, "attributes")]),
        ("class A:\n    def b(self):\n" + "".join(f"        self.a{n} = 1\n" for n in range(15)), []),
        ("class A(enum.IntEnum):\n" + "".join(f"    A{n}: int = 1\n" for n in range(16)), []),
        ("def f():\n    '''Help.\n\n    More.'''\n" + "    g()\n" * 40, []),
        ("async def f(\n    a,\n    b,\n):\n" + "    g()\n" * 41, [Size("f", 41, "lines")]),
    ],
)
def test_what_is_large_is_found(code: str, found: list[Size]) -> None:
    assert list(_large(ast.parse(code))) == found
