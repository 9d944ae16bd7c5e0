"""A driver's options become its config class, or an error that says what does not fit."""

from __future__ import annotations

import enum
from pathlib import Path
from typing import Any, Literal

import attrs
import pytest

from i2core.api import DriverKind, UsageError
from i2core.config.load import structure_options
from i2core.config.options import OptionErrors
from i2core.testing.named import named


class Color(enum.Enum):
    RED = "red"
    BLUE = "blue"


@attrs.frozen(kw_only=True)
class Inner:
    deep: int


@attrs.frozen(kw_only=True)
class Everything:
    need: str
    count: int = 0
    ratio: float = 0.5
    on: bool = False
    file: Path | None = None
    place: bytes = b"/"
    color: Color = Color.RED
    mode: Literal["fast", "safe"] = "safe"
    names: tuple[str, ...] = ()
    numbers: list[int] = attrs.field(factory=list)
    inner: Inner | None = None
    few: int = attrs.field(default=1, validator=attrs.validators.le(9))
    kind: str = attrs.field(default="a", validator=attrs.validators.in_(["a", "b"]))


SPEC = named(DriverKind.CODEC, "every", Everything)


def test_all_types() -> None:
    options = {
        "need": "",
        "count": 3,
        "ratio": 1,
        "on": True,
        "file": "/a/b",
        "place": "/c",
        "color": "blue",
        "mode": "fast",
        "names": ["x", "y"],
        "numbers": [1],
        "inner": {"deep": 4},
    }
    assert structure_options(SPEC, options) == Everything(
        need="",
        count=3,
        ratio=1.0,
        on=True,
        file=Path("/a/b"),
        place=b"/c",
        color=Color.BLUE,
        mode="fast",
        names=("x", "y"),
        numbers=[1],
        inner=Inner(deep=4),
    )


@pytest.mark.parametrize(
    ("options", "path", "text"),
    [
        ({}, ("need",), "is missing"),
        ({"need": 1}, ("need",), "wrong type: 1"),
        ({"need": "x", "ned": "y"}, ("ned",), "did you mean 'need'"),
        ({"need": "x", "count": True}, ("count",), "wrong type: true"),
        ({"need": "x", "count": "3"}, ("count",), "wrong type: the text '3'"),
        ({"need": "x", "count": 3.0}, ("count",), "wrong type: 3.0"),
        ({"need": "x", "ratio": "half"}, ("ratio",), "wrong type"),
        ({"need": "x", "on": 1}, ("on",), "wrong type: 1"),
        ({"need": "x", "file": "a/b"}, ("file",), "relative path"),
        ({"need": "x", "color": "green"}, ("color",), "unknown value 'green'"),
        ({"need": "x", "mode": "fat"}, ("mode",), "did you mean 'fast'"),
        ({"need": "x", "names": "xy"}, ("names",), "wrong type: the text 'xy'"),
        ({"need": "x", "names": ["x", 2]}, ("names", 1), "wrong type: 2"),
        ({"need": "x", "numbers": "12"}, ("numbers",), "wrong type: the text '12'"),
        ({"need": "x", "inner": "deep"}, ("inner",), "wrong type: the text 'deep'"),
        ({"need": "x", "inner": {}}, ("inner", "deep"), "is missing"),
        ({"need": "x", "inner": {"deep": 1, "x": 2}}, ("inner", "x"), "unknown key"),
        ({"need": "x", "few": 10}, (), "'few' must be <= 9: 10"),
        ({"need": "x", "kind": "c"}, ("kind",), "'kind' must be in"),
    ],
)
def test_what_does_not_fit(options: dict[str, Any], path: tuple[str | int, ...], text: str) -> None:
    with pytest.raises(UsageError) as error:
        structure_options(SPEC, options)
    assert isinstance(error.value, OptionErrors)
    (mistake,) = error.value.mistakes
    assert mistake.path == path
    assert text in mistake.message.en
    assert text in str(error.value) and "every" in str(error.value)


def test_all_at_once() -> None:
    with pytest.raises(OptionErrors) as error:
        structure_options(SPEC, {"count": "x", "names": [1, 2], "nmaes": []})
    assert {m.path for m in error.value.mistakes} == {("need",), ("count",), ("names", 0), ("names", 1), ("nmaes",)}


def test_a_driver_without_options_takes_none() -> None:
    plain = named(DriverKind.SINK, "plain")
    assert structure_options(plain, {}) == plain.config()
    with pytest.raises(UsageError, match="size"):
        structure_options(plain, {"size": 1})


def test_no_table_at_all() -> None:
    hostile: Any = "text"
    with pytest.raises(UsageError, match=r"table|表"):
        structure_options(SPEC, hostile)
