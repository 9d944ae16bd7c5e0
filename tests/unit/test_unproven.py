"""A check of attributes leaves the content of one object of the replica unproven, and of no other."""

from __future__ import annotations

import stat
from collections.abc import Iterator

import attrs
import pytest

from i2core.api import Entry, Place
from i2core.rule.catalog.catalog import Catalog
from i2core.rule.live import unproven as module
from i2core.rule.live.unproven import Unproven

FOUND_NS, KNOWN_NS = 9_000, 5_000
HERE, THERE = Place(0, b"name"), Place(1, b"name")


@attrs.frozen
class Two:
    """A file with a name beneath each of two roots; both were sent in its present state."""

    catalog: Catalog
    unproven: Unproven

    def change_time(self, place: Place) -> int:
        """What the catalog has for that name."""
        row = self.catalog.objects.get(place)
        assert row is not None
        return row.ctime_ns


@pytest.fixture(params=[False, True], ids=["one name", "shared"])
def two(request: pytest.FixtureRequest) -> Iterator[Two]:
    catalog = Catalog(None)
    file = Entry(b"name", stat.S_IFREG | 0o644, 0, 0, 10, 100, nlink=2, ino=7, dev=1, ctime_ns=FOUND_NS)
    for place in (HERE, THERE):
        catalog.objects.put(place.above, Entry(b"", stat.S_IFDIR | 0o755, 0, 0, 0, 0, ino=2 + place.root, dev=1))
        row = catalog.objects.put(place, file)
        if request.param:
            catalog.names.share(row)
    yield Two(catalog, Unproven(catalog.names))
    catalog.close(clean=False)


def test_the_name_beneath_another_root_stays_as_it_is(two: Two) -> None:
    row = two.catalog.objects.get(HERE)
    assert row is not None
    two.unproven.leave(row, KNOWN_NS)
    assert (two.change_time(HERE), two.change_time(THERE)) == (KNOWN_NS, FOUND_NS)


def test_nothing_else_is_proven_later(two: Two, monkeypatch: pytest.MonkeyPatch) -> None:
    """The content beneath the other root is not known either, for another reason."""
    monkeypatch.setattr(module, "PROVEN_AFTER_NS", 0)
    here, there = two.catalog.objects.get(HERE), two.catalog.objects.get(THERE)
    assert here is not None
    assert there is not None
    two.unproven.leave(here, KNOWN_NS)
    two.catalog.names.set_change_time(there.key, FOUND_NS, KNOWN_NS)
    two.unproven.prove(1 << 62)
    assert (two.change_time(HERE), two.change_time(THERE)) == (FOUND_NS, KNOWN_NS)
