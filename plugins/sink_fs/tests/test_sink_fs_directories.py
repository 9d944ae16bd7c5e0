"""A batch that reaches into more directories than are kept open: none is mistaken for another."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

import pytest
from i2_sink_fs import paths

from i2core.api import Ask, Kind, Meta, Place, Record

if TYPE_CHECKING:
    from conftest import Replica

FILE = Meta(stat.S_IFREG | 0o644, os.geteuid(), os.getegid(), 1, ())
DIRECTORY = Meta(stat.S_IFDIR | 0o755, os.geteuid(), os.getegid(), 1, ())


@pytest.mark.parametrize("kind", [Kind.LINK, Kind.RENAME])
@pytest.mark.parametrize("kept", range(1, 8))
async def test_two_names_of_one_record(
    replica: Replica, monkeypatch: pytest.MonkeyPatch, kind: Kind, kept: int
) -> None:
    monkeypatch.setattr(paths, "_CACHED_DIRS", kept)
    records = [Record(Kind.MKDIR, 0, b"%d" % n, meta=DIRECTORY) for n in range(8)]
    records += [Record(Kind.CREATE, 0, b"%d/a" % n, meta=FILE, data=b"%d" % n) for n in range(8)]
    for n in range(0, 8, 2):
        one, other = b"%d/a" % n, b"%d/b" % (n + 1)
        records.append(Record(kind, 0, *((other, one) if kind is Kind.LINK else (one, other))))
    assert await replica.apply(*records) == ()
    for n in range(0, 8, 2):
        assert (replica.root / str(n + 1) / "b").read_bytes() == b"%d" % n
        assert (replica.root / str(n) / "a").exists() is (kind is Kind.LINK)


async def test_what_a_killed_process_left_of_the_record_that_it_was_at(replica: Replica) -> None:
    """It had removed the directory that was in the way, and not yet given the link its name."""
    (replica.root / os.fsdecode(paths.passing_name(b"name"))).symlink_to("text")
    symlink = Meta(stat.S_IFLNK | 0o777, os.geteuid(), os.getegid(), 1, ())
    assert await replica.apply(Record(Kind.SYMLINK, 0, b"name", other=b"text", meta=symlink)) == ()
    assert os.listdir(replica.root) == ["name"]


async def test_many_questions(replica: Replica, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paths, "_CACHED_DIRS", 2)
    for n in range(8):
        await replica.apply(Record(Kind.MKDIR, 0, b"%d" % n, meta=DIRECTORY))
        await replica.apply(Record(Kind.CREATE, 0, b"%d/in%d" % (n, n), meta=FILE, data=b"x"))
    before = len(os.listdir("/proc/self/fd"))
    seen = await replica.sink.look([Ask(Place(0, b"%d" % n), (), every=True) for n in range(8)])
    assert [list(answer.names) for answer in seen] == [[b"in%d" % n] for n in range(8)]
    digests = await replica.sink.hashes_of([Place(0, b"%d/in%d" % (n, n)) for n in range(8)], 1)
    assert len(set(digests)) == 1
    assert len(digests[0]) == 16
    assert len(os.listdir("/proc/self/fd")) == before
