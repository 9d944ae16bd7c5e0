"""The part of `check_sink` about objects of each type: created, reported exactly, changed, and replaced by each
other."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence

import trio

from i2core.api import (
    BLOCK_BYTES,
    Kind,
    Place,
    Record,
    Xattrs,
    xattr_digest,
)
from i2core.api.drivers import Ask
from i2core.testing.picture import TIME_NS, meta_of, names_in
from i2core.testing.sink.trial import (
    DIR,
    FIFO,
    FILE,
    LINK,
    Trial,
    create_file,
    digests,
    make_dir,
    make_symlink,
    remove,
)


async def _empty(trial: Trial) -> None:
    """Missing objects are reported as missing."""
    sink = trial.sink
    assert await sink.look([]) == [], "look returned an answer without a question"
    asks = [Ask(Place(0, b""), [b"a"], every=True), Ask(Place(0, b"no/such"), [b"a", b"b"], every=True)]
    here, gone = await sink.look(asks)
    assert here.here is not None and stat.S_ISDIR(here.here.mode), f"the root is {here.here}"
    assert (list(here.entries), list(here.names or ())) == ([None], []), f"a new root is not empty: {here}"
    assert (gone.here, list(gone.entries), list(gone.names or ())) == (None, [None, None], []), (
        f"a missing directory: {gone}"
    )
    assert await sink.hashes(Place(0, b"no/such"), 0, 9) == b""
    assert await sink.count(Place(0, b"no/such"), 9) == 0
    await trial.done(create_file(b"file"))
    (seen,) = await sink.look([Ask(Place(0, b"file"), [b"a"], every=True)])
    told = (seen.here, list(seen.entries), list(seen.names or ()))
    assert told == (None, [None], []), f"a file is reported as a directory: {seen}"
    for path, names in ((b"", [b"file"]), (b"no/such", []), (b"file", [])):
        assert await names_in(sink, Place(0, path)) == names, f"the pages of {path!r} have other names"
    assert await sink.hashes_of([], 9) == []
    assert await trial.apply() == (), "an empty batch fails"


async def _objects(trial: Trial) -> None:
    """Objects of each type are created, reported exactly, and replace objects of each other type."""
    data = os.urandom(3 * BLOCK_BYTES + 17)
    makers = {
        "file": create_file(b"x", data),
        "empty file": create_file(b"x"),
        "directory": make_dir(b"x"),
        "symlink": make_symlink(b"x", b"/no/where \xff"),
        "fifo": Record(Kind.MKNOD, 0, b"x", meta=FIFO),
    }
    for first, maker in makers.items():
        for second, replacing in makers.items():
            await trial.done(maker)
            if first == "directory":
                await trial.done(make_dir(b"x/sub"), create_file(b"x/sub/file"))
            await trial.done(replacing)
            entry = await trial.entry(b"x")
            why = f"{second} that replaces a {first}"
            assert entry is not None and replacing.meta is not None, f"{why}: missing"
            assert entry.mode == replacing.meta.mode, f"{why}: mode {entry.mode:o}"
            if second == "symlink":
                assert entry.target == replacing.other, f"{why}: text {entry.target!r}"
            if second != "directory":
                assert entry.mtime_ns == TIME_NS, f"{why}: mtime {entry.mtime_ns}"
            if second.endswith("file"):
                await trial.holds(b"x", bytes(replacing.data), why)
            inside = list(await trial.names(b"x"))
            assert inside == ([b"sub"] if first == second == "directory" else []), f"{why}: holds {inside}"
            await trial.done(remove(b"x"))
            await trial.missing(b"x", f"removing a {second}")


async def _hashing(trial: Trial) -> None:
    data = os.urandom(5 * BLOCK_BYTES + 1)
    await trial.done(create_file(b"f", data))
    place = Place(0, b"f")
    expected = digests(data)
    for first, count in ((0, 1), (0, 6), (0, 100), (2, 3), (5, 1), (5, 9), (6, 1), (1 << 40, 1), (0, 0)):
        got = await trial.sink.hashes(place, first, count)
        assert got == expected[first * 16 : (first + count) * 16], f"hashes of {count} blocks from {first} on"
    await trial.done(create_file(b"g", b"small"), make_dir(b"d"))
    places = [Place(0, name) for name in (b"f", b"g", b"d", b"gone", b"f")]
    got_all = await trial.sink.hashes_of(places, 2)
    assert got_all == [expected[:32], digests(b"small"), b"", b"", expected[:32]], "hashes_of returned other digests"
    size = (1 << 20) + 3 * BLOCK_BYTES + 5
    await trial.done(
        Record(Kind.TRUNCATE, 0, b"f", size=size), Record(Kind.WRITE, 0, b"f", offset=1 << 20, data=b"end")
    )
    await trial.holds(b"f", (data + bytes((1 << 20) - len(data)) + b"end").ljust(size, b"\0"), "a file with holes")


async def _metadata(trial: Trial) -> None:
    """Modes with every bit, times to the nanosecond, and exactly the extended attributes of the record."""
    for mode in (0o000, 0o777, 0o400, 0o4755, 0o2755, 0o1666, 0o7777):
        for kind, make in ((stat.S_IFREG, create_file(b"m", b"x")), (stat.S_IFDIR, make_dir(b"m"))):
            meta = meta_of(kind | mode)
            for record in (make._replace(meta=meta), Record(Kind.SETATTR, 0, b"m", meta=meta)):
                await trial.done(record)
                entry = await trial.entry(b"m")
                assert entry is not None
                assert entry.mode == meta.mode, f"{record.kind.name}: mode {entry.mode:o} instead of {meta.mode:o}"
                await trial.done(Record(Kind.SETATTR, 0, b"m", meta=meta_of(kind | 0o700)))
            await trial.done(remove(b"m"))
    await trial.done(
        create_file(b"a"), make_dir(b"d"), make_symlink(b"l", b"a"), Record(Kind.MKNOD, 0, b"p", meta=FIFO)
    )
    for name, mode in ((b"a", FILE.mode), (b"d", DIR.mode), (b"l", LINK.mode), (b"p", FIFO.mode)):
        for time_ns in (1, 999_999_999, 1_234_567_890_987_654_321, -1_000_000_001):
            await trial.done(Record(Kind.SETATTR, 0, name, meta=meta_of(mode, time_ns)))
            entry = await trial.entry(name)
            assert entry is not None
            assert entry.mtime_ns == time_ns, f"{name!r}: mtime {entry.mtime_ns} instead of {time_ns}"
    sets: Sequence[Xattrs | None] = (((b"user.a", b"1"), (b"user.b", b"\0\xff")), None, ((b"user.b", b""),), None, ())
    kept: Xattrs = ()
    for xattrs in sets:
        kept = kept if xattrs is None else xattrs
        for name, mode in ((b"a", FILE.mode), (b"d", DIR.mode)):
            await trial.done(Record(Kind.SETATTR, 0, name, meta=meta_of(mode, xattrs=xattrs)))
            entry = await trial.entry(name)
            assert entry is not None
            assert entry.xattrs == xattr_digest(kept), f"{name!r}: attributes are not {kept} after setting {xattrs}"
    await trial.fails(Record(Kind.SETATTR, 0, b"a", meta=DIR), repair=True)
    await trial.fails(Record(Kind.SETATTR, 0, b"none", meta=FILE), repair=True)
    await trial.done(Record(Kind.SETATTR, 0, b"", meta=meta_of(stat.S_IFDIR | 0o711)))


async def _in_place(trial: Trial) -> None:
    """WRITE, PUNCH and TRUNCATE change the named range and nothing else, and never an object of another type."""
    data = bytearray(os.urandom(300_000))
    await trial.done(create_file(b"f", bytes(data)))
    data[1000:1004] = b"here"
    data[100_000:250_000] = bytes(150_000)
    data += b"\0" * 100 + b"tail"
    await trial.done(
        Record(Kind.WRITE, 0, b"f", offset=1000, data=memoryview(b"-here-")[1:-1]),
        Record(Kind.PUNCH, 0, b"f", offset=100_000, size=150_000),
        Record(Kind.WRITE, 0, b"f", offset=300_100, data=b"tail"),
        Record(Kind.PUNCH, 0, b"f", offset=300_104, size=1 << 20),
    )
    await trial.holds(b"f", bytes(data), "after WRITE and PUNCH")
    await trial.done(Record(Kind.TRUNCATE, 0, b"f", size=500), Record(Kind.TRUNCATE, 0, b"f", size=70_000))
    await trial.holds(b"f", bytes(data[:500]) + bytes(69_500), "truncated, and grown again")
    await trial.done(
        make_dir(b"d"),
        make_symlink(b"l", b"f"),
        make_symlink(b"dangling", b"new"),
        Record(Kind.MKNOD, 0, b"p", meta=FIFO),
    )
    for name in (b"missing", b"d", b"l", b"dangling", b"p", b"f/below", b"no/dir"):
        for kind in (Kind.WRITE, Kind.PUNCH, Kind.TRUNCATE, Kind.PUBLISH):
            with trio.fail_after(10):
                await trial.fails(Record(kind, 0, name, data=b"x", size=1, meta=FILE), repair=True)
    await trial.done(Record(Kind.WRITE, 0, b"f", data=bytes(data[:1]), meta=FILE))
    await trial.holds(b"f", bytes(data[:500]) + bytes(69_500), "after writes through a symlink")
    await trial.missing(b"new", "writing through a dangling symlink")


STEPS = (_empty, _objects, _hashing, _metadata, _in_place)
