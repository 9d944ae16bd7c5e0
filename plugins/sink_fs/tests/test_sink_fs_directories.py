"""A batch that reaches into more directories than are kept open: none is mistaken for another."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest
from i2_sink_fs import directories, reading

from i2core.api import Ask, Kind, Meta, Place, Record, names
from i2core.api.names import NAME_COST

if TYPE_CHECKING:
    from conftest import Replica

FILE = Meta(stat.S_IFREG | 0o644, os.geteuid(), os.getegid(), 1, ())
DIRECTORY = Meta(stat.S_IFDIR | 0o755, os.geteuid(), os.getegid(), 1, ())


@pytest.mark.parametrize("kind", [Kind.LINK, Kind.RENAME])
@pytest.mark.parametrize("kept", range(1, 8))
async def test_two_names_of_one_record(
    replica: Replica, monkeypatch: pytest.MonkeyPatch, kind: Kind, kept: int
) -> None:
    monkeypatch.setattr(directories, "_CACHED_DIRS", kept)
    records = [Record(Kind.MKDIR, 0, b"%d" % n, meta=DIRECTORY) for n in range(8)]
    records += [Record(Kind.CREATE, 0, b"%d/a" % n, meta=FILE, data=b"%d" % n) for n in range(8)]
    for n in range(0, 8, 2):
        one, other = b"%d/a" % n, b"%d/b" % (n + 1)
        records.append(Record(kind, 0, *((other, one) if kind is Kind.LINK else (one, other))))
    assert await replica.apply(*records) == ()
    for n in range(0, 8, 2):
        assert (replica.root / str(n + 1) / "b").read_bytes() == b"%d" % n
        assert (replica.root / str(n) / "a").exists() is (kind is Kind.LINK)


async def test_many_questions(replica: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(directories, "_CACHED_DIRS", 2)
    for n in range(8):
        await replica.apply(Record(Kind.MKDIR, 0, b"%d" % n, meta=DIRECTORY))
        await replica.apply(Record(Kind.CREATE, 0, b"%d/in%d" % (n, n), meta=FILE, data=b"x"))
    before = len(os.listdir("/proc/self/fd"))
    seen = await replica.sink.look([Ask(Place(0, b"%d" % n), (), every=True) for n in range(8)])
    assert [list(answer.names or ()) for answer in seen] == [[b"in%d" % n] for n in range(8)]
    digests = await replica.sink.hashes_of([Place(0, b"%d/in%d" % (n, n)) for n in range(8)], 1)
    assert len(set(digests)) == 1
    assert len(digests[0]) == 16
    assert len(os.listdir("/proc/self/fd")) == before


async def test_more_names_than_an_answer_holds(replica: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    """They are told page by page, each once, and the directory is let go."""
    monkeypatch.setattr(reading, "NAMES_BYTES", 40 * (NAME_COST + 2))
    monkeypatch.setattr(names, "PAGE_BYTES", 7 * (NAME_COST + 2))
    await replica.apply(
        Record(Kind.MKDIR, 0, b"small", meta=DIRECTORY), Record(Kind.MKDIR, 0, b"large", meta=DIRECTORY)
    )
    every = {b"%02d" % n for n in range(41)}
    await replica.apply(*(Record(Kind.CREATE, 0, b"large/" + name, meta=FILE) for name in every))
    await replica.apply(*(Record(Kind.CREATE, 0, b"small/%02d" % n, meta=FILE) for n in range(30)))
    before = len(os.listdir("/proc/self/fd"))
    asked = [Ask(Place(0, path), [b"00"], every=True) for path in (b"small", b"large", b"small")]
    small, large, again = await replica.sink.look(asked)
    assert large.names is None
    assert large.entries[0] is not None
    assert len(small.names or ()) == 30
    assert again.names is None  # all answers together are bounded
    pages = await replica.sink.names(Place(0, b"large"))
    found: list[bytes] = []
    while page := await pages.next():
        assert len(page) <= 7
        found += page
    assert sorted(found) == sorted(every)
    for _ in range(2):
        pages = await replica.sink.names(Place(0, b"large"))
        await pages.next()
        pages.close()
    assert len(os.listdir("/proc/self/fd")) == before
