"""When an object that had left the new name of its rename is checked."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest
import trio

from i2core.api import Entry, Place
from i2core.rule.catalog.catalog import Catalog
from i2core.rule.catalog.rows import Row
from i2core.rule.live import in_transit
from i2core.rule.live.dirty import Mark
from i2core.rule.live.in_transit import WAIT_NS, InTransit
from i2core.rule.live.part import NEVER

SINCE_NS = 1000
DIRECTORY, FILE = 0o040755, 0o100644


@pytest.fixture
def catalog() -> Iterator[Catalog]:
    catalog = Catalog(None)
    with catalog.unit():
        for number, (path, mode) in enumerate(((b"", DIRECTORY), (b"d", DIRECTORY), (b"d/f", FILE), (b"g", FILE))):
            catalog.objects.put(Place(0, path), Entry(path.rpartition(b"/")[2], mode, 0, 0, 0, 0, ino=number + 1))
        yield catalog
    catalog.close(clean=False)


def row(catalog: Catalog, path: bytes) -> Row:
    found = catalog.objects.get(Place(0, path))
    assert found is not None
    return found


def test_it_waits_until_everything_before_is_reported(catalog: Catalog) -> None:
    part = InTransit(catalog.objects)
    assert part.is_empty and part.due_at == NEVER
    part.add(row(catalog, b"d/f"), SINCE_NS)
    noted_ns = time.monotonic_ns()
    assert part.oldest_ns == SINCE_NS, "the replica differs since then"
    assert part.owed(SINCE_NS), "a run that is to end waits for it"
    assert not part.is_due
    assert part.take(noted_ns) == []
    catalog.objects.move(row(catalog, b"d"), Place(0, b"e"))
    marks = part.take(noted_ns + WAIT_NS)
    assert marks == [Mark(Place(0, b"e/f"), SINCE_NS, removed=True)], "its directory has moved meanwhile"
    assert part.is_empty


async def test_it_becomes_due_without_an_event(catalog: Catalog) -> None:
    part = InTransit(catalog.objects)
    part.add(row(catalog, b"g"), SINCE_NS)
    assert 0 < part.due_at - trio.current_time() <= WAIT_NS / 1e9


def test_what_moves_again_or_is_removed_is_not_awaited(catalog: Catalog) -> None:
    part = InTransit(catalog.objects)
    part.add(row(catalog, b"d/f"), SINCE_NS)
    part.add(row(catalog, b"g"), SINCE_NS + 1)
    part.drop(row(catalog, b"d"))
    part.drop(row(catalog, b"d/f"))
    assert part.oldest_ns == SINCE_NS + 1
    catalog.objects.remove(row(catalog, b"g"))
    assert part.take(time.monotonic_ns() + WAIT_NS) == [], "it was removed with its directory"
    assert part.is_empty


def test_there_is_a_bound(catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(in_transit, "MOST", 1)
    part = InTransit(catalog.objects)
    part.add(row(catalog, b"d/f"), SINCE_NS)
    part.add(row(catalog, b"g"), SINCE_NS)
    assert [mark.place for mark in part.take(time.monotonic_ns())] == [Place(0, b"d/f")]
    part.clear()
    assert part.is_empty
