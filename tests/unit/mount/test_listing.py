"""Directories that are read in pieces: each name once, whatever piece the reader asks for again."""

from __future__ import annotations

import errno
from collections.abc import Iterator, Sequence
from itertools import islice

import pytest

from i2core.api.records import Entry
from i2core.mount.listing import Item, Listing
from i2core.mount.nodes import Several


class Names(Several):
    """A directory of many names, some of which cannot be read; and it fails after a number of names, once."""

    def __init__(self, number: int, unreadable: Sequence[bytes] = (), fails_after: int | None = None) -> None:
        super().__init__({})
        self.all = [b"%d" % each for each in range(number)]
        self.unreadable, self.fails_after = unreadable, fails_after

    def names(self, most: int) -> Iterator[list[bytes]]:
        for at in range(0, len(self.all), most):
            if self.fails_after is not None and at >= self.fails_after:
                self.fails_after = None
                raise OSError(errno.EIO, "broken")
            yield self.all[at : at + most]

    def entry(self, name: bytes) -> Entry | None:
        if name in self.unreadable:
            raise OSError(errno.EUCLEAN, "lost")
        return Entry(name, 0o100644, 0, 0, 0, 0)


def _names(items: Iterator[Item]) -> list[bytes]:
    return [name for name, _, _ in items]


@pytest.mark.parametrize("step", [1, 7, 127, 128, 129, 1000])
def test_each_piece_goes_on_where_the_last_one_ended(step: int) -> None:
    directory = Names(1000)
    listing = Listing(directory)
    pieces = [_names(islice(listing.since(at), step)) for at in range(0, 1000, step)]
    assert [name for piece in pieces for name in piece] == directory.all
    assert _names(listing.since(1000)) == _names(listing.since(5000)) == []


def test_a_reader_goes_back() -> None:
    directory = Names(1000)
    listing = Listing(directory)
    for at, number in ((0, 300), (290, 10), (0, 5), (999, 5), (500, 500)):
        assert _names(islice(listing.since(at), number)) == directory.all[at : at + number]


def test_a_name_that_cannot_be_read_takes_no_other_with_it() -> None:
    directory = Names(300, [b"5", b"200"])
    found = list(Listing(directory).since(0))
    assert [name for name, _, _ in found] == directory.all
    assert {name for name, entry, error in found if entry is None and error} == {b"5", b"200"}


def test_a_failure_is_no_early_end() -> None:
    directory = Names(1000, fails_after=256)
    listing = Listing(directory)
    with pytest.raises(OSError, match="broken"):
        _names(listing.since(0))
    assert _names(listing.since(200)) == directory.all[200:]
