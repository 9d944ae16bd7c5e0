"""A sink that spares full directories stops in front of what would replace one, and does nothing of it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest
from i2_sink_fs.plugin import open_fs

from i2core.api import Applied, Batch, Kind, Meta, NoConfig, Record, SinkContext

FILE = Meta(stat.S_IFREG | 0o644, os.getuid(), os.getgid(), 10**18)
LINK = Meta(stat.S_IFLNK | 0o777, os.getuid(), os.getgid(), 10**18)
DIR = Meta(stat.S_IFDIR | 0o755, os.getuid(), os.getgid(), 10**18)
STAGED = (
    Record(Kind.STAGE, 0, b"d"),
    Record(Kind.WRITE, 0, b"d", data=b"new", staged=True),
    Record(Kind.PUBLISH, 0, b"d", meta=FILE, size=3),
)


@pytest.mark.parametrize(
    "records",
    [
        (Record(Kind.CREATE, 0, b"d", meta=FILE, data=b"new"),),
        (Record(Kind.SYMLINK, 0, b"d", other=b"x", meta=LINK),),
        (Record(Kind.LINK, 0, b"d", other=b"f"),),
        (Record(Kind.RENAME, 0, b"f", other=b"d"),),
        (Record(Kind.RENAME, 0, b"e", other=b"d"),),
        STAGED,
    ],
    ids=["create", "symlink", "link", "rename file", "rename directory", "publish"],
)
@pytest.mark.parametrize("spares", [True, False])
async def test_what_would_replace_a_full_directory(records: tuple[Record, ...], spares: bool, tmp_path: Path) -> None:
    root = tmp_path / "root"
    for path in ("d/sub", "e"):
        (root / path).mkdir(parents=True)
    for path in ("f", "d/a", "d/sub/b", "e/c"):
        (root / path).write_text("old")
    told: list[int] = []
    context = SinkContext(roots=(bytes(root),), allowed=(bytes(tmp_path),), applied=told.append, spares=spares)
    async with open_fs(NoConfig(), context) as sink:
        batch = Batch(5, (Record(Kind.CREATE, 0, b"before", meta=FILE), *records, Record(Kind.CREATE, 0, b"behind")))
        done = await sink.apply(batch)
        assert not done.failures
        if not spares:
            assert (done.blocked, done.applied_seq) == (False, batch.last_seq)
            assert not (root / "d/sub").exists()
            return
        assert (done.blocked, done.applied_seq) == (True, batch.last_seq - 2)
        assert told == list(range(5, batch.last_seq - 1))
        assert (root / "d/sub/b").read_text() == "old"
        assert (root / "f").exists()
        assert (root / "before").exists()
        assert not (root / "behind").exists()
        assert not (await sink.apply(Batch(0, (Record(Kind.REMOVE, 0, b"d"),)))).failures
        left = Batch(done.applied_seq + 1, batch.records[-2:])
        done = await sink.apply(left)
        assert (done.applied_seq, done.blocked) == (batch.last_seq, False)
        assert not (root / "d/sub").exists()
        if records is STAGED:  # what was staged for a name goes with it: the source sends it again
            assert [failure.repair for failure in done.failures] == [True]
        else:
            assert not done.failures
            assert os.path.lexists(root / "d")
        assert (root / "behind").exists()


async def test_an_empty_directory_is_replaced_at_once(tmp_path: Path) -> None:
    (tmp_path / "root/d").mkdir(parents=True)
    context = SinkContext(roots=(bytes(tmp_path / "root"),), allowed=(bytes(tmp_path),), spares=True)
    async with open_fs(NoConfig(), context) as sink:
        done = await sink.apply(Batch(1, (Record(Kind.CREATE, 0, b"d", meta=FILE, data=b"new"),)))
    assert done == Applied(1)
    assert (tmp_path / "root/d").read_text() == "new"
