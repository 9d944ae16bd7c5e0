"""Lines of keys, whatever way TOML lets people write them."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from i2core.config.lines import KeyPath, Lines

TEXT = '''\
# a comment with a = 1 and [table]
top = 1  # = 2
"quoted key" = "x # no comment"
a.b . "c d" = true

[node]            # [[rule]]
name = """
first = 'no key'
[no.table]
"""
when = 2026-01-01 00:00:00
lit = \'\'\'
x = 1\'\'\'\'\'
list = [
  1,      # one
  [2, 3],

  { deep = "]", more = [
     "}", 'y' ] },
]

[[rule]]
name = "one"
paths = [{ source = "/a", target = "/b" },
         { source = "/c" }]
mirror.verify = "strict"
[rule.orphans]
action = "keep"
[[rule.bandwidth]]
limit = "1"
[[rule.bandwidth]]
limit = "2"

[[rule]]
name = 'two'
[[rule.bandwidth]]
limit = "3"
[late.child]
x = 1
[late]
y = 2
'''


def line_with(mark: str, count: int = 1) -> int:
    """The number of the count-th line that holds `mark`."""
    return [n for n, line in enumerate(TEXT.split("\n"), 1) if mark in line][count - 1]


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ((), 1),
        (("top",), line_with("top =")),
        (("quoted key",), line_with("quoted key")),
        (("a",), line_with("a.b")),
        (("a", "b", "c d"), line_with("a.b")),
        (("node",), line_with("[node]")),
        (("node", "name"), line_with("name =")),
        (("node", "first"), line_with("[node]")),
        (("node", "when"), line_with("when =")),
        (("node", "lit"), line_with("lit =")),
        (("node", "list", 0), line_with("# one")),
        (("node", "list", 1, 1), line_with("[2, 3]")),
        (("node", "list", 2), line_with("deep =")),
        (("node", "list", 2, "deep"), line_with("deep =")),
        (("node", "list", 2, "more", 1), line_with("'y'")),
        (("rule",), line_with("[[rule]]", 2)),
        (("rule", 0, "name"), line_with('name = "one"')),
        (("rule", 0, "paths", 0, "target"), line_with('source = "/a"')),
        (("rule", 0, "paths", 1), line_with('source = "/c"')),
        (("rule", 0, "mirror", "verify"), line_with("mirror.verify")),
        (("rule", 0, "orphans"), line_with("[rule.orphans]")),
        (("rule", 0, "orphans", "to"), line_with("[rule.orphans]")),
        (("rule", 0, "bandwidth", 1), line_with("[[rule.bandwidth]]", 2)),
        (("rule", 0, "bandwidth", 1, "limit"), line_with('limit = "2"')),
        (("rule", 1), line_with("[[rule]]", 3)),
        (("rule", 1, "bandwidth", 0, "limit"), line_with('limit = "3"')),
        (("late", "y"), line_with("y = 2")),
        (("late", "child", "x"), line_with("x = 1", 2)),
        (("nowhere", 3, "x"), 1),
    ],
)
def test_lines(path: KeyPath, line: int) -> None:
    tomllib.loads(TEXT)  # the text itself is valid
    assert Lines(TEXT).of(path) == line


def test_windows_line_ends_count_once() -> None:
    text = TEXT.replace("\n", "\r\n")
    assert Lines(text).of(("rule", 1)) == Lines(TEXT).of(("rule", 1))


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment", "x = 1", "[a]", "[[a]]"])
def test_small_texts(text: str) -> None:
    assert Lines(text).of(("nothing",)) == 1


# A document is drawn together with the line of each key: what is written is what must be found.

KEYS = st.sampled_from(["a", "b-c", "d_1", '"e f"', "'g.h'", '"i\\"j"', '"k#=[]{}"', "1", "2.0"])
SCALARS = st.sampled_from(
    [
        "1",
        "-2.5e3",
        "true",
        '"x"',
        "'y#'",
        '"]}\\""',
        "2026-01-01T00:00:00Z",
        "2026-01-01 10:00:00",
        '"""\n#\n[x]\n"y"""""',
    ]
)


class Writer:
    """A TOML text being written, with the line of each key."""

    def __init__(self) -> None:
        self.text = ""
        self.lines: dict[KeyPath, int] = {}

    def put(self, text: str) -> None:
        self.text += text

    def note(self, path: KeyPath) -> None:
        self.lines.setdefault(path, self.text.count("\n") + 1)

    def value(self, draw: Any, path: KeyPath, depth: int) -> None:
        kind = draw(st.sampled_from(["scalar", "array", "table"] if depth else ["scalar"]))
        if kind == "array":
            self.put("[")
            for i in range(draw(st.integers(0, 3))):
                self.put(draw(st.sampled_from(["", " ", "\n  ", " # ] }\n"])))
                self.note((*path, i))
                self.value(draw, (*path, i), depth - 1)
                self.put(draw(st.sampled_from([",", "\n,", " , # ]\n"])))
            self.put("]")
        elif kind == "table":
            self.put("{")
            for i, key in enumerate(draw(st.lists(KEYS, max_size=3, unique=True))):
                self.put(", " if i else " ")
                self.pair(draw, path, key, depth - 1)
            self.put("}")
        else:
            self.put(draw(SCALARS))

    def pair(self, draw: Any, path: KeyPath, key: str, depth: int) -> None:
        for part in parts(key):
            path = (*path, part)
            self.note(path)
        self.put(key + draw(st.sampled_from(["=", " = ", "\t="])))
        self.value(draw, path, depth)


def parts(key: str) -> list[str]:
    """The parts of a key as the standard parser reads them."""
    found: list[str] = []
    value: Any = tomllib.loads(f"{key} = 0")
    while isinstance(value, dict):
        [(part, value)] = value.items()
        found.append(part)
    return found


@st.composite
def documents(draw: Any) -> Writer:
    writer = Writer()
    tables = draw(st.lists(st.sampled_from(["[t]", "[[u]]", "[[u]]", "[[u.v]]", "[ w . 'x y' ]"]), max_size=6))
    place: KeyPath = ()
    u = v = -1
    seen: set[str] = set()
    for header in ["", *tables]:
        if header in seen and not header.startswith("[["):
            continue
        if header == "[[u.v]]" and u < 0:
            continue
        seen.add(header)
        writer.put(draw(st.sampled_from(["", "\n", "# x = [\n", "  "])))
        if header == "[t]":
            place = ("t",)
        elif header == "[[u]]":
            u, v = u + 1, -1
            place = ("u", u)
        elif header == "[[u.v]]":
            v += 1
            place = ("u", u, "v", v)
        elif header:
            place = ("w", "x y")
        for i in range(1, len(place) + 1):
            writer.note(place[:i])
        writer.put(header + "\n" if header else "")
        for key in draw(st.lists(KEYS, max_size=4, unique=True)):
            writer.pair(draw, place, key, 2)
            writer.put(draw(st.sampled_from(["\n", "  # = [\n", "\n\n"])))
    return writer


@given(documents())
def test_what_is_written_is_found(writer: Writer) -> None:
    tomllib.loads(writer.text)
    lines = Lines(writer.text)
    assert {path: lines.of(path) for path in writer.lines} == writer.lines
