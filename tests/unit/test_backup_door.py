"""A replica is changed in one place: only `ReplicaWriter` calls the changing methods of a sink."""

from __future__ import annotations

import ast
from pathlib import Path

from i2core.api import Place
from i2core.rule import backup
from i2core.rule.backup.session.unflushed import Unflushed
from i2core.rule.backup.session.writer import PATH_COST, PLACES_BYTES, ReplicaWriter

from .scripted_sink import ScriptedSink

CHANGING = {"apply", "copy_aside", "set_aside", "tidy", "unstage"}


def through_the_sink(source: str) -> set[str]:
    """The changing methods of a sink that this source text calls on an object named like a sink."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and node.attr in CHANGING:
            owner = node.value
            name = owner.attr if isinstance(owner, ast.Attribute) else getattr(owner, "id", "")
            if name.strip("_") == "sink":
                found.add(node.attr)
    return found


def test_the_check_sees_such_calls() -> None:
    assert through_the_sink("await self._sink.apply(x)\nsink.tidy(y)\nself._writer.unstage(z)") == {"apply", "tidy"}


def test_nobody_else_changes_a_replica() -> None:
    (directory,) = backup.__path__
    found = {path.name: through_the_sink(path.read_text()) for path in Path(directory).rglob("*.py")}
    assert {name: calls for name, calls in found.items() if calls} == {"writer.py": CHANGING}


async def test_places_are_handed_over_some_at_a_time() -> None:
    """Each of them may fail, and then takes more memory."""
    sink = ScriptedSink()
    count = PLACES_BYTES // (PATH_COST + 10)
    places = [Place(0, b"%010d" % number) for number in range(count + 1)]
    await ReplicaWriter(sink, Unflushed(1)).unstage(places)
    assert [len(what) for _, what in sink.done if isinstance(what, list)] == [count, 1]
