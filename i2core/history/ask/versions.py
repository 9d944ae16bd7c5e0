"""The versions of one file: the moments at which it became another one, whatever its name was then, and its content at
each of them.

The file is what has the path at the end, and before that object came there, the one that it replaced: a program that
saves a file by renaming a new one over it makes another object each time.
"""

from __future__ import annotations

import stat
from collections.abc import Generator, Iterator
from itertools import islice
from typing import NamedTuple

from i2core.api import Kind, Place, UsageError
from i2core.config.words import bilingual
from i2core.history.ask.where import is_in
from i2core.history.model.rows import RESTORE, LogRecord
from i2core.history.read.past import Ref
from i2core.history.read.paths import PathsAt
from i2core.history.record.history import History

MOST = 50_000
"""Versions that are given; the newest ones."""
MOST_SEEN = 1_000_000
"""Records that are looked through for an object that is not at the path any more."""
_PAGE = 1000
_NAMING = frozenset({Kind.CREATE, Kind.PUBLISH, Kind.RENAME, Kind.LINK, Kind.REMOVE, RESTORE})
_BIRTHS = frozenset({Kind.CREATE, Kind.PUBLISH})
_CONTENT = frozenset({Kind.WRITE, Kind.TRUNCATE, Kind.PUNCH})


class Version(NamedTuple):
    """What the file is from a moment on."""

    seq: int
    time_ns: int
    op: int
    """What made it so; 0: it was so at the beginning, or at a single moment that is kept."""
    oid: int
    """The object that is the file then."""


class Versions(NamedTuple):
    """Oldest first. The first one is the state at the beginning."""

    found: list[Version]
    more: bool
    """There are older ones."""


def versions(history: History, place: Place, first: int, last: int) -> Versions:
    """The versions from one moment to another. Both, and all between, can be had; or single ones below the floor."""
    found = list(islice(_newest_first(history, place, first, last), MOST + 1))
    if len(found) > MOST:
        return Versions(sorted(set(found[:MOST])), more=True)
    return Versions(sorted({*found[:-1], *_kept(history, place, first, found[-1].oid)}), more=False)


def _newest_first(history: History, place: Place, first: int, last: int) -> Iterator[Version]:
    """Ends with the beginning, whose time is left out."""
    end, oid, left = last, _number(history, place, last), MOST_SEEN
    while end > first:
        if not oid:
            gone, left = _gone(history, place, first, end, left)
            if gone is None:
                break
            yield gone
            oid, end = gone.oid, end if gone.op == Kind.RENAME else gone.seq
        place, oid, end = yield from _of_one(history, place, oid, first, end)
    yield Version(first, 0, 0, oid)


def _of_one(
    history: History, place: Place, oid: int, first: int, end: int
) -> Generator[Version, None, tuple[Place, int, int]]:
    """The versions that are this object, up to a moment. Returns the path that it had at first, the object that had
    that path before (0: none had), and the last moment of that."""
    oldest, born = end + 1, False
    for record in _of_object(history, oid, end):
        if record.seq <= first:
            return place, oid, first
        oldest, born = record.seq, record.op in _BIRTHS
        if record.op in _CONTENT or record.op in _NAMING:
            yield Version(record.seq, record.time_ns, record.op, oid)
        if record.op in _NAMING:
            place = Place(record.root, record.other if record.op == Kind.RENAME else record.path)
            before = _number(history, place, record.seq - 1)
            if before not in (0, oid):
                return place, before, record.seq - 1
            place = Place(record.root, record.path)
    return (place, 0, oldest - 1) if born else (place, oid, first)


def _of_object(history: History, oid: int, end: int) -> Iterator[LogRecord]:
    """Records up to this one that changed the object, newest first. The history is held for a page at a time."""
    before = end + 1
    while True:
        with history.reading:
            page = list(islice(history.log().of_object(oid, before), _PAGE))
        yield from page
        if len(page) < _PAGE:
            return
        before = page[-1].seq


def _gone(history: History, place: Place, first: int, end: int, left: int) -> tuple[Version | None, int]:
    """The change by which the last object went that had the path up to a moment; and how many records may still be
    looked through."""
    before = end + 1
    while left > 0:
        with history.reading:
            page = list(islice(history.log().before(before), _PAGE))
        for record in page:
            if record.seq <= first:
                return None, left
            if record.op in (Kind.REMOVE, Kind.RENAME) and is_in(place, Place(record.root, record.path)):
                oid = _number(history, place, record.seq - 1)
                if oid:
                    return Version(record.seq, record.time_ns, record.op, oid), left
        left -= len(page)
        if len(page) < _PAGE:
            break
        before = page[-1].seq
    return None, left


def _kept(history: History, place: Place, first: int, oid: int) -> list[Version]:
    """The beginning, and single moments below the floor. `oid`: the file at the beginning."""
    kept = history.kept()
    times = {mark.next_seq - 1: mark.time_ns for mark in history.journal.marks}
    found = []
    for seq in [first, *(mark for mark in kept.marks if first < mark < kept.floor)]:
        there = oid if seq == first else _number(history, place, seq) or oid
        with history.reading:
            time_ns = times.get(seq) or history.log().time(seq) or history.begun_ns
        found.append(Version(seq, time_ns, 0, there))
    return found


def _number(history: History, place: Place, seq: int) -> int:
    with history.reading:
        past = history.past()
        try:
            return past.number(place.root, place.path.split(b"/") if place.path else (), seq)
        finally:
            past.places.close()


def content(history: History, oid: int, seq: int, lo: int, hi: int) -> bytes | None:
    """[lo, hi) of the object at the moment, shorter at its end; None: it was not there.

    Raises:
        UsageError: it is not a regular file.
        OSError: somebody else has changed the replica.
    """
    with history.reading:
        if PathsAt(history.index, seq).place(oid) is None:
            return None
        past = history.past()
        try:
            if not stat.S_ISREG(past.stat(Ref(oid), seq).meta.mode):
                raise UsageError(bilingual("this is not a regular file", "不是普通文件"))
            return past.read(Ref(oid), seq, lo, hi)
        finally:
            past.places.close()
