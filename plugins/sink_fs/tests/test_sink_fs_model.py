"""Random records: the file system ends as the model in memory does, and any tail may be told again."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import trio
from hypothesis import given
from hypothesis import strategies as st
from i2_sink_fs.plugin import open_fs

from i2core.api import BLOCK_BYTES, Batch, Kind, NoConfig, Record, Sink, SinkContext
from i2core.testing.memory_sink import memory_sink
from i2core.testing.picture import Picture, meta_of, picture

LETTERS = [b"a", b"b", b"\n", b"\xff", b"d" * 255]
PATHS = st.lists(st.sampled_from(LETTERS), min_size=1, max_size=3).map(b"/".join)
DATA = st.integers(0, 4).map(lambda n: bytes([65 + n]) * (n * 30_000))
XATTRS = st.sampled_from([(), ((b"user.a", b"1"),), ((b"user.a", b"2"), (b"user.b", b"")), None])
OFFSETS = st.sampled_from([0, 1, 4096, BLOCK_BYTES, 100_000])
MODES = st.sampled_from([0o644, 0o600, 0o4755, 0o2770, 0o1777])
ENTERED = 0o700 if os.geteuid() else 0
"""Bits that each directory has: only root gets into one without them."""


def plain(kind: Kind, **more: st.SearchStrategy[Any]) -> st.SearchStrategy[Record]:
    return st.fixed_dictionaries({"path": PATHS, **more}).map(lambda fields: Record(kind, 0, **fields))


def with_meta(kind: Kind, file_type: int, **more: st.SearchStrategy[Any]) -> st.SearchStrategy[Record]:
    xattrs = XATTRS if file_type in (stat.S_IFREG, stat.S_IFDIR) else st.just(())  # user.* is for these two (xattr(7))
    bits = file_type | (ENTERED if file_type == stat.S_IFDIR else 0)
    what = st.builds(lambda mode, pairs: meta_of(bits | mode, xattrs=pairs), MODES, xattrs)
    return plain(kind, meta=what, **more)


LINK = meta_of(stat.S_IFLNK | 0o777)
RECORDS = st.one_of(
    with_meta(Kind.CREATE, stat.S_IFREG, data=DATA),
    with_meta(Kind.MKDIR, stat.S_IFDIR),
    with_meta(Kind.MKDIR, stat.S_IFDIR),
    with_meta(Kind.SETATTR, stat.S_IFREG),
    with_meta(Kind.SETATTR, stat.S_IFDIR),
    with_meta(Kind.MKNOD, stat.S_IFIFO),
    with_meta(Kind.PUBLISH, stat.S_IFREG, size=OFFSETS),
    plain(Kind.STAGE, size=st.integers(0, 1)),
    plain(Kind.WRITE, offset=OFFSETS, data=DATA, staged=st.booleans()),
    plain(Kind.PUNCH, offset=OFFSETS, size=OFFSETS, staged=st.booleans()),
    plain(Kind.TRUNCATE, size=OFFSETS, staged=st.booleans()),
    plain(Kind.SYMLINK, other=st.sampled_from([b"a", b"/etc", b".."]), meta=st.just(LINK)),
    plain(Kind.LINK, other=PATHS),
    plain(Kind.RENAME, other=PATHS),
    plain(Kind.RENAME, other=PATHS),
    plain(Kind.REMOVE, staged=st.booleans()),
    plain(Kind.BARRIER),
)


async def tell(sink: Sink, records: Sequence[Record], sizes: Sequence[int]) -> list[tuple[object, ...]]:
    """Applies the records in batches of these sizes, over and over; what failed."""
    failed: list[tuple[object, ...]] = []
    start, turn = 0, 0
    while start < len(records):
        part = records[start : start + sizes[turn % len(sizes)]]
        applied = await sink.apply(Batch(start + 1, part))
        assert applied.applied_seq == start + len(part)
        failed += [(f.seq, f.place, f.code, f.repair) for f in applied.failures]
        start, turn = start + len(part), turn + 1
    return failed


async def on_both(records: Sequence[Record], sizes: Sequence[int], twice_from: int | None = None) -> None:
    top = Path(tempfile.mkdtemp(prefix="model-"))
    root = os.fsencode(top / "data")
    context = SinkContext(roots=(root,), allowed=(os.fsencode(top),))
    try:
        async with open_fs(NoConfig(), context) as files, memory_sink().open(NoConfig(), context) as memory:
            assert await tell(files, records, sizes) == await tell(memory, records, sizes)
            end = await same(files, memory)
            if twice_from is not None:
                await tell(files, records[twice_from:], sizes)
                assert await picture(files, times=False, owners=files.owns) == end
            ours = [at for at, _, names in os.walk(root) for _ in names if b"/.i2-staging-" in at]
            assert len(ours) <= sum(r.kind is Kind.STAGE for r in records), "left over"
    finally:
        await trio.to_thread.run_sync(shutil.rmtree, top)


async def same(files: Sink, memory: Sink) -> Picture:
    """Times are left out: a write in place sets the clock's, and the source sends SETATTR behind it."""
    # An ordinary user's files are its own, whatever a record says.
    seen, model = [await picture(sink, times=False, owners=files.owns) for sink in (files, memory)]
    assert seen == model
    return seen


@given(st.lists(RECORDS, max_size=25), st.lists(st.integers(1, 10), min_size=1, max_size=3))
def test_files_end_as_the_model_does(records: list[Record], sizes: list[int]) -> None:
    trio.run(on_both, records, sizes)


@st.composite
def repeatable(draw: st.DrawFn) -> tuple[list[Record], int]:
    """Stories as a source tells them, each record about what is there, and a place to tell them again from.

    No sink without a memory can repeat every story: when a name that RENAME took an object from is used again, or the
    name that RENAME gives was written to before, the second telling meets another object under that name. Here such
    names are left out; a source that repeats records to a sink compares the places in them.
    """
    files: set[bytes] = set()
    fixed: set[bytes] = set()
    dirs = [b"", b"d", b"d/e"]
    story = [Record(Kind.MKDIR, 0, path, meta=meta_of(stat.S_IFDIR | 0o755)) for path in dirs[1:]]
    file = meta_of(stat.S_IFREG | 0o640)
    names = iter(range(1000))
    untouched = [b"old0", b"d/old1", b"d/e/old2"]
    story += [Record(Kind.CREATE, 0, path, data=b"old", meta=file) for path in untouched]
    begin = len(story)

    def fresh() -> bytes:
        above = draw(st.sampled_from(dirs))
        return (above + b"/" if above else b"") + b"f%d" % next(names)

    for _ in range(draw(st.integers(1, 15))):
        step = draw(st.sampled_from(["create", "stage", "write", "truncate", "rename", "link", "remove", "replace"]))
        data = draw(DATA)
        known = draw(st.booleans())
        free = sorted(files - fixed)
        if step in ("create", "stage") or not free:
            path = draw(st.sampled_from(free)) if free and known else fresh()
            if step == "stage":
                story += [
                    Record(Kind.STAGE, 0, path),
                    Record(Kind.WRITE, 0, path, offset=draw(OFFSETS), data=data, staged=True),
                    Record(Kind.WRITE, 0, path, offset=draw(OFFSETS), data=b"tail", staged=True),
                    Record(Kind.PUBLISH, 0, path, size=draw(OFFSETS), meta=file),
                ]
            else:
                story.append(Record(Kind.CREATE, 0, path, data=data, meta=file))
            files.add(path)
            continue
        path = draw(st.sampled_from(free))
        if step == "write":
            story.append(Record(Kind.WRITE, 0, path, offset=draw(OFFSETS), data=data))
        elif step == "truncate":
            story.append(Record(Kind.TRUNCATE, 0, path, size=draw(OFFSETS)))
        elif step == "rename":
            new = untouched.pop() if untouched and known else fresh()
            story.append(Record(Kind.RENAME, 0, path, other=new))
            files -= {path}
            files.add(new)
        elif step == "link":
            new = fresh()
            story.append(Record(Kind.LINK, 0, new, other=path))
            files.add(new)
            fixed |= {path, new}
        elif step == "remove":
            story.append(Record(Kind.REMOVE, 0, path))
            files -= {path}
        else:
            story.append(Record(Kind.MKNOD, 0, path, meta=meta_of(stat.S_IFIFO | 0o600)))
            files -= {path}
    return story, draw(st.integers(begin, len(story) - 1))


@given(repeatable(), st.lists(st.integers(1, 10), min_size=1, max_size=3))
def test_any_tail_may_be_told_again(story: tuple[list[Record], int], sizes: list[int]) -> None:
    records, again = story
    trio.run(on_both, records, sizes, again)
