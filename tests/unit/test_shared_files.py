"""Objects with several names: under which name a mirror has sent them."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Sequence
from typing import Any, overload
from unittest.mock import Mock

from i2core.api import Entry, Place
from i2core.rule.mirror.shared import SharedFiles

NAMES = 1000


def entry(name: bytes) -> Entry:
    """One of the names of one file."""
    return Entry(name=name, mode=stat.S_IFREG | 0o644, uid=0, gid=0, size=1, mtime_ns=1, ino=7, dev=1, nlink=NAMES)


class Counted(Sequence[Any]):
    """A list that counts the items that are read."""

    def __init__(self) -> None:
        self.items: list[Any] = []
        self.looks = 0

    def __len__(self) -> int:
        return len(self.items)

    @overload
    def __getitem__(self, index: int) -> Any: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Any]: ...
    def __getitem__(self, index: int | slice) -> Any:
        return self.items[index]

    def __iter__(self) -> Iterator[Any]:
        for item in self.items:
            self.looks += 1
            yield item


def test_another_name_does_not_read_all_the_others() -> None:
    """Otherwise a file with 4,000 names in one directory costs 8 million reads."""
    catalog, kept = Mock(), Counted()
    catalog.objects.get.return_value = None
    shared = SharedFiles(catalog, Mock(), certain=True)
    kept.items.append((entry(b"first"), None))
    for number in range(NAMES):
        name = b"%d" % number
        sent = shared.sent_as(Place(0, b"d/" + name), entry(name), b"d/first", kept)
        assert sent is not None
        assert sent.path == b"d/first"
        kept.items.append((entry(name), None))
    assert kept.looks <= 2 * NAMES
    catalog.names.sent_as.assert_not_called()


def test_a_first_name_that_is_another_file_by_now_is_not_linked_to() -> None:
    catalog, kept = Mock(), Counted()
    catalog.objects.get.return_value = None
    shared = SharedFiles(catalog, Mock(), certain=False)
    kept.items += [(entry(b"first")._replace(ino=8), None), (entry(b"second"), None)]
    for first in (b"d/first", b"elsewhere/second"):
        sent = shared.sent_as(Place(0, b"d/third"), entry(b"third"), first, kept)
        assert sent is not None
        assert sent.path == b"d/second"
