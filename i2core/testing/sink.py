"""What every sink owes: `check_sink`; its in-memory twin is `MemorySink`.

The check speaks to the sink through its contract alone. What an outsider does to a replica on disk between two batches
(a symlink in the place of a directory, a FIFO in the place of a file) is for the tests of the driver at hand.
"""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import trio
import xxhash

from i2core.api import (
    BLOCK_BYTES,
    RESERVED_PREFIX,
    Batch,
    Buffer,
    DriverSpec,
    Entry,
    Failure,
    Kind,
    Meta,
    Place,
    Record,
    Sink,
    SinkContext,
    UsageError,
    Xattrs,
    xattr_digest,
)
from i2core.api.drivers import Ask
from i2core.config.options import structure_options
from i2core.testing.memory_sink import MemoryDisk, MemorySink, memory_sink
from i2core.testing.picture import TIME_NS, meta_of, names_in, picture

__all__ = ["MemoryDisk", "MemorySink", "check_sink", "memory_sink"]

_ODD_NAMES = (b"line\nbreak", b"\xff\xfe not utf-8", b"-rf", b" ", b"*", "灾备".encode(), b"n" * 255, b"\x80" * 255)


_FILE, _DIR, _LINK, _FIFO = (
    meta_of(mode) for mode in (stat.S_IFREG | 0o640, stat.S_IFDIR | 0o750, stat.S_IFLNK | 0o777, stat.S_IFIFO | 0o600)
)


def _create(path: bytes, data: Buffer = b"", meta: Meta = _FILE, root: int = 0) -> Record:
    """A `CREATE` record."""
    return Record(Kind.CREATE, root, path, meta=meta, data=data)


def _mkdir(path: bytes, meta: Meta = _DIR) -> Record:
    return Record(Kind.MKDIR, 0, path, meta=meta)


def _symlink(path: bytes, text: bytes) -> Record:
    return Record(Kind.SYMLINK, 0, path, other=text, meta=_LINK)


def _remove(path: bytes) -> Record:
    return Record(Kind.REMOVE, 0, path)


def _rename(old: bytes, new: bytes) -> Record:
    return Record(Kind.RENAME, 0, old, other=new)


def _hashes(data: bytes) -> bytes:
    pieces = [data[at : at + BLOCK_BYTES] for at in range(0, len(data), BLOCK_BYTES)]
    return b"".join(map(xxhash.xxh3_128_digest, pieces))


class _Trial:
    """One sink under test, with a running seq."""

    def __init__(self, sink: Sink, outside: Path) -> None:
        self.sink = sink
        self.outside = outside
        self.seq = 1

    async def apply(self, *records: Record) -> tuple[Failure, ...]:
        applied = await self.sink.apply(Batch(self.seq, records))
        self.seq += len(records)
        assert applied.applied_seq == self.seq - 1, (
            f"applied_seq {applied.applied_seq}, the batch ends at {self.seq - 1}"
        )
        return applied.failures

    async def done(self, *records: Record) -> None:
        failures = await self.apply(*records)
        assert not failures, f"records that can be applied failed: {failures}"

    async def fails(self, record: Record, *, repair: bool, path: bytes | None = None) -> None:
        """The record fails, the ones around it are applied."""
        seq = self.seq + 1
        failures = await self.apply(_create(b"before"), record, _create(b"after"))
        where = Place(record.root, record.path if path is None else path)
        what = f"{record.kind.name} {record.path!r}"
        assert [(f.seq, f.place) for f in failures] == [(seq, where)], f"{what} should fail, alone: {failures}"
        assert failures[0].repair is repair, f"{what}: repair should be {repair}: {failures[0]}"
        assert failures[0].message, f"{what}: the failure has no words"
        assert await self.entry(b"after") is not None, f"{what}: the record behind it was not applied"
        await self.done(_remove(b"before"), _remove(b"after"))

    async def entry(self, path: bytes) -> Entry | None:
        above, _, name = path.rpartition(b"/")
        (found,) = await self.entries(above, name)
        return found

    async def entries(self, path: bytes, *names: bytes) -> Sequence[Entry | None]:
        """Entries of these names in the directory at `path`."""
        (seen,) = await self.sink.look([Ask(Place(0, path), names)])
        assert not seen.names, "look tells names that were not asked for"
        return seen.entries

    async def names(self, path: bytes) -> Sequence[bytes]:
        """All names in the directory at `path`."""
        return await names_in(self.sink, Place(0, path))

    async def holds(self, path: bytes, data: bytes, why: str) -> None:
        entry = await self.entry(path)
        assert entry is not None, f"{why}: {path!r} is missing"
        assert stat.S_ISREG(entry.mode), f"{why}: {path!r} has mode {entry.mode:o}"
        assert entry.size == len(data), f"{why}: {path!r} has {entry.size} bytes instead of {len(data)}"
        blocks = -(-len(data) // BLOCK_BYTES)
        hashes = await self.sink.hashes(Place(0, path), 0, blocks + 1)
        assert hashes == _hashes(data), f"{why}: {path!r} has other content, or hashes tells it wrongly"

    async def missing(self, path: bytes, why: str) -> None:
        assert await self.entry(path) is None, f"{why}: {path!r} is there"


async def check_sink(
    spec: DriverSpec, options: Mapping[str, Any] | None = None, *, workdir: Path | None = None
) -> None:
    """Holds a sink to its contract. `options` as in a config file; None takes ``spec.example``.

    Works beneath `workdir`, and leaves nothing there; None takes a temporary directory.

    Raises:
        AssertionError: the sink breaks the contract; the message says where.
        UsageError: the options do not fit the driver.
    """
    config = structure_options(spec, spec.example if options is None else options)
    top = Path(tempfile.mkdtemp(prefix="check-sink-", dir=workdir))
    try:
        for number, step in enumerate(_STEPS):
            allowed = top / str(number)
            outside = top / f"outside-{number}"
            await trio.Path(allowed).mkdir()
            await trio.Path(outside).mkdir()
            root = os.fsencode(allowed / "replica")
            async with spec.open(config, SinkContext(roots=(root,), allowed=(os.fsencode(allowed),))) as sink:
                assert isinstance(sink, Sink), f"open gave {type(sink).__name__}, which is no Sink"
                await step(_Trial(sink, outside))
                await sink.flush()
                before = await picture(sink)
            async with spec.open(config, SinkContext(roots=(root,), allowed=(os.fsencode(allowed),))) as sink:
                assert await picture(sink) == before, "the tree is another one after the sink was opened again"
            assert not os.listdir(outside), f"{step.__name__}: something was made outside of the roots"
        await _refuses_outside(spec, config, top)
    finally:
        await trio.to_thread.run_sync(shutil.rmtree, top)


async def _refuses_outside(spec: DriverSpec, config: object, top: Path) -> None:
    for root in (top / "elsewhere", top / "allowed-not", top / "allowed" / ".." / "up"):
        context = SinkContext(roots=(os.fsencode(root),), allowed=(os.fsencode(top / "allowed"),))
        try:
            async with spec.open(config, context):
                pass
        except UsageError:
            continue
        raise AssertionError(f"a root outside of the allowed directories was opened: {root}")


async def _empty(trial: _Trial) -> None:
    """What is not there is told as not there."""
    sink = trial.sink
    assert await sink.look([]) == [], "no question, and an answer"
    asks = [Ask(Place(0, b""), [b"a"], every=True), Ask(Place(0, b"no/such"), [b"a", b"b"], every=True)]
    here, gone = await sink.look(asks)
    assert here.here is not None and stat.S_ISDIR(here.here.mode), f"the root is {here.here}"
    assert (list(here.entries), list(here.names)) == ([None], []), f"a new root is not empty: {here}"
    assert (gone.here, list(gone.entries), list(gone.names)) == (None, [None, None], []), f"a missing one: {gone}"
    assert await sink.hashes(Place(0, b"no/such"), 0, 9) == b""
    assert await sink.count(Place(0, b"no/such"), 9) == 0
    await trial.done(_create(b"file"))
    (seen,) = await sink.look([Ask(Place(0, b"file"), [b"a"], every=True)])
    assert (seen.here, list(seen.entries), list(seen.names)) == (None, [None], []), f"a file is no directory: {seen}"
    assert await sink.hashes_of([], 9) == []
    assert await trial.apply() == (), "an empty batch fails"


async def _objects(trial: _Trial) -> None:
    """Each kind of object is made, told exactly, and put in the place of each other kind."""
    data = os.urandom(3 * BLOCK_BYTES + 17)
    makers = {
        "file": _create(b"x", data),
        "empty file": _create(b"x"),
        "directory": _mkdir(b"x"),
        "symlink": _symlink(b"x", b"/no/where \xff"),
        "fifo": Record(Kind.MKNOD, 0, b"x", meta=_FIFO),
    }
    for first, maker in makers.items():
        for second, replacing in makers.items():
            await trial.done(maker)
            if first == "directory":
                await trial.done(_mkdir(b"x/sub"), _create(b"x/sub/file"))
            await trial.done(replacing)
            entry = await trial.entry(b"x")
            why = f"{second} in the place of a {first}"
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
            await trial.done(_remove(b"x"))
            await trial.missing(b"x", f"removing a {second}")


async def _hashing(trial: _Trial) -> None:
    data = os.urandom(5 * BLOCK_BYTES + 1)
    await trial.done(_create(b"f", data))
    place = Place(0, b"f")
    expected = _hashes(data)
    for first, count in ((0, 1), (0, 6), (0, 100), (2, 3), (5, 1), (5, 9), (6, 1), (1 << 40, 1), (0, 0)):
        got = await trial.sink.hashes(place, first, count)
        assert got == expected[first * 16 : (first + count) * 16], f"hashes of {count} blocks from {first} on"
    await trial.done(_create(b"g", b"small"), _mkdir(b"d"))
    places = [Place(0, name) for name in (b"f", b"g", b"d", b"gone", b"f")]
    got_all = await trial.sink.hashes_of(places, 2)
    assert got_all == [expected[:32], _hashes(b"small"), b"", b"", expected[:32]], "hashes_of tells other digests"
    size = (1 << 20) + 3 * BLOCK_BYTES + 5
    await trial.done(
        Record(Kind.TRUNCATE, 0, b"f", size=size), Record(Kind.WRITE, 0, b"f", offset=1 << 20, data=b"end")
    )
    await trial.holds(b"f", (data + bytes((1 << 20) - len(data)) + b"end").ljust(size, b"\0"), "a file with holes")


async def _metadata(trial: _Trial) -> None:
    """Modes with every bit, times to the nanosecond, and exactly the attributes of the record."""
    for mode in (0o000, 0o777, 0o400, 0o4755, 0o2755, 0o1666, 0o7777):
        for kind, make in ((stat.S_IFREG, _create(b"m", b"x")), (stat.S_IFDIR, _mkdir(b"m"))):
            meta = meta_of(kind | mode)
            for record in (make._replace(meta=meta), Record(Kind.SETATTR, 0, b"m", meta=meta)):
                await trial.done(record)
                entry = await trial.entry(b"m")
                assert entry is not None
                assert entry.mode == meta.mode, f"{record.kind.name}: mode {entry.mode:o} instead of {meta.mode:o}"
                await trial.done(Record(Kind.SETATTR, 0, b"m", meta=meta_of(kind | 0o700)))
            await trial.done(_remove(b"m"))
    await trial.done(_create(b"a"), _mkdir(b"d"), _symlink(b"l", b"a"), Record(Kind.MKNOD, 0, b"p", meta=_FIFO))
    for name, mode in ((b"a", _FILE.mode), (b"d", _DIR.mode), (b"l", _LINK.mode), (b"p", _FIFO.mode)):
        for time_ns in (1, 999_999_999, 1_234_567_890_987_654_321, -1_000_000_001):
            await trial.done(Record(Kind.SETATTR, 0, name, meta=meta_of(mode, time_ns)))
            entry = await trial.entry(name)
            assert entry is not None
            assert entry.mtime_ns == time_ns, f"{name!r}: mtime {entry.mtime_ns} instead of {time_ns}"
    sets: Sequence[Xattrs | None] = (((b"user.a", b"1"), (b"user.b", b"\0\xff")), None, ((b"user.b", b""),), None, ())
    kept: Xattrs = ()
    for xattrs in sets:
        kept = kept if xattrs is None else xattrs
        for name, mode in ((b"a", _FILE.mode), (b"d", _DIR.mode)):
            await trial.done(Record(Kind.SETATTR, 0, name, meta=meta_of(mode, xattrs=xattrs)))
            entry = await trial.entry(name)
            assert entry is not None
            assert entry.xattrs == xattr_digest(kept), f"{name!r}: attributes are not {kept} after setting {xattrs}"
    await trial.fails(Record(Kind.SETATTR, 0, b"a", meta=_DIR), repair=True)
    await trial.fails(Record(Kind.SETATTR, 0, b"none", meta=_FILE), repair=True)
    await trial.done(Record(Kind.SETATTR, 0, b"", meta=meta_of(stat.S_IFDIR | 0o711)))


async def _in_place(trial: _Trial) -> None:
    """WRITE, PUNCH and TRUNCATE change what they name and nothing else, and never an object of another kind."""
    data = bytearray(os.urandom(300_000))
    await trial.done(_create(b"f", bytes(data)))
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
    await trial.holds(b"f", bytes(data[:500]) + bytes(69_500), "cut, and grown again")
    await trial.done(
        _mkdir(b"d"), _symlink(b"l", b"f"), _symlink(b"dangling", b"new"), Record(Kind.MKNOD, 0, b"p", meta=_FIFO)
    )
    for name in (b"missing", b"d", b"l", b"dangling", b"p", b"f/below", b"no/dir"):
        for kind in (Kind.WRITE, Kind.PUNCH, Kind.TRUNCATE, Kind.PUBLISH):
            with trio.fail_after(10):
                await trial.fails(Record(kind, 0, name, data=b"x", size=1, meta=_FILE), repair=True)
    await trial.holds(b"f", bytes(data[:500]) + bytes(69_500), "after writes through a symlink")
    await trial.missing(b"new", "writing through a dangling symlink")


async def _staging(trial: _Trial) -> None:
    """A staged file is nowhere until it is published, and goes on where it was left when asked to."""
    place = Place(0, b"big")
    stage, again = Record(Kind.STAGE, 0, b"big"), Record(Kind.STAGE, 0, b"big", size=1)
    first = Record(Kind.WRITE, 0, b"big", offset=0, data=b"a" * BLOCK_BYTES, staged=True)
    second = first._replace(offset=BLOCK_BYTES, data=b"b" * 100)
    publish = Record(Kind.PUBLISH, 0, b"big", size=BLOCK_BYTES + 50, meta=_FILE)
    whole = b"a" * BLOCK_BYTES + b"b" * 50
    await trial.done(_create(b"big", b"old"), stage, first)
    assert list(await trial.names(b"")) == [b"big"], "a staging file is listed"
    assert await trial.sink.hashes(place, 0, 9, staged=True) == _hashes(b"a" * BLOCK_BYTES), (
        "hashes are not those of the staging file"
    )
    assert await trial.sink.hashes(place, 0, 9) == _hashes(b"old"), "hashes of the file are those of its staging file"
    assert await trial.sink.count(Place(0, b""), 9) == 1, "a staging file is counted"
    entry = await trial.entry(b"big")
    assert entry is not None and entry.size == 3, "a staged write shows before PUBLISH"
    await trial.done(again)
    assert await trial.sink.hashes(place, 0, 9, staged=True) == _hashes(b"a" * BLOCK_BYTES), (
        "STAGE with size 1 lost the staging file"
    )
    await trial.done(second, publish)
    await trial.holds(b"big", whole, "published")
    entry = await trial.entry(b"big")
    assert entry is not None and (entry.mode, entry.mtime_ns) == (_FILE.mode, TIME_NS), "PUBLISH set other metadata"
    await trial.done(first, second, publish)
    await trial.holds(b"big", whole, "the tail repeated without its STAGE")
    await trial.done(stage, first, second, publish)
    await trial.holds(b"big", whole, "all repeated")
    await trial.done(_remove(b"big"), _mkdir(b"big"), _create(b"big/x"), stage, first, second, publish)
    await trial.holds(b"big", whole, "published over a directory")
    long = b"s" * 255
    await trial.done(*(r._replace(path=long) for r in (stage, first, second, publish)))
    await trial.holds(long, whole, "staged under a name of 255 bytes")
    await trial.done(stage, second, Record(Kind.REMOVE, 0, b"big", staged=True))
    await trial.holds(b"big", whole, "after the staging file alone was removed")
    await trial.done(stage, Record(Kind.PUBLISH, 0, b"big", size=3 * BLOCK_BYTES, meta=_FILE))
    await trial.holds(b"big", bytes(3 * BLOCK_BYTES), "an all-hole file")
    await trial.done(_mkdir(b"dir"), *(r._replace(path=b"dir/f") for r in (stage, first)), _rename(b"dir", b"moved"))
    await trial.done(*(r._replace(path=b"moved/f") for r in (second, publish)))
    await trial.holds(b"moved/f", whole, "staged in a directory that was renamed meanwhile")
    await _tidying(trial)


async def _tidying(trial: _Trial) -> None:
    """What nobody will go on with is told and removed; what somebody may go on with stays."""
    await trial.done(*(Record(Kind.STAGE, 0, b"moved/" + name) for name in (b"wanted", b"given up")))
    wanted = Record(Kind.WRITE, 0, b"moved/wanted", offset=0, data=b"half", staged=True)
    await trial.done(wanted)
    place, ask = Place(0, b"moved"), Ask(Place(0, b"moved"), [b"f"], every=True)
    (seen,) = await trial.sink.look([ask])
    assert (list(seen.names), seen.leftovers) == ([b"f"], True), f"staging files are not told as leftovers: {seen}"
    assert await trial.sink.tidy(place, [b"wanted"]), "nothing was removed"
    assert not await trial.sink.tidy(place, [b"wanted"]), "it was not removed the first time"
    assert await trial.sink.hashes(Place(0, b"moved/wanted"), 0, 9, staged=True), "what is wanted went too"
    assert await trial.sink.tidy(place, []), "what nobody wants stays"
    (seen,) = await trial.sink.look([ask])
    assert (list(seen.names), seen.leftovers) == ([b"f"], False), f"leftovers stay: {seen}"
    assert not await trial.sink.tidy(Place(0, b"no/such"), []), "a directory that is not there was tidied"


async def _names(trial: _Trial) -> None:
    """LINK, RENAME and REMOVE, once and again."""
    await trial.done(_create(b"a", b"1"), _create(b"b", b"2"), Record(Kind.LINK, 0, b"c", other=b"a"))
    for _ in range(2):
        await trial.done(Record(Kind.LINK, 0, b"b", other=b"a"))
        entries = await trial.entries(b"", b"a", b"b", b"c")
        assert len({e.ino for e in entries if e}) == 1 and entries[0], "LINK did not make one file of the names"
        assert entries[0].nlink == 3, f"nlink is {entries[0].nlink} with three names"
    await trial.done(_create(b"a", b"new"))
    await trial.holds(b"b", b"1", "CREATE over one of several names changed the others")
    await trial.holds(b"a", b"new", "CREATE over one of several names")
    await trial.done(_rename(b"b", b"c"))
    await trial.missing(b"b", "RENAME over another name of the same file")
    await trial.holds(b"c", b"1", "RENAME over another name of the same file")
    await trial.done(_mkdir(b"d"), _mkdir(b"d/e"), _create(b"d/e/f", b"deep"), _mkdir(b"full"), _create(b"full/x"))
    for _ in range(2):
        await trial.done(_rename(b"d", b"full"))
        await trial.holds(b"full/e/f", b"deep", "RENAME over a directory that is not empty")
        await trial.missing(b"full/x", "RENAME over a directory that is not empty")
        await trial.missing(b"d", "RENAME")
    await trial.done(_create(b"full/e/g", b"fresh"), _rename(b"a", b"full"))
    await trial.holds(b"full", b"new", "RENAME of a file over a directory")
    await trial.done(_mkdir(b"d2"), _create(b"d2/x", b"x"), _rename(b"d2", b"full"))
    await trial.holds(b"full/x", b"x", "RENAME of a directory over a file")
    await trial.done(_mkdir(b"d"), _rename(b"full", b"d/full"), _create(b"d/full/y", b"y"))
    await trial.holds(b"d/full/y", b"y", "CREATE beneath a directory that was renamed in the same batch")
    assert await trial.sink.count(Place(0, b""), 99) == 3, "count of all files"
    assert await trial.sink.count(Place(0, b"d"), 1) == 1, "count with a limit"
    assert await trial.sink.count(Place(0, b"c"), 9) == 1, "count of one file"
    for _ in range(2):
        await trial.done(_remove(b"d"), _remove(b"never"), _remove(b"no/dir/either"), _remove(b"c/below"))
        await trial.missing(b"d", "REMOVE")
    await trial.fails(_create(b"d/x"), repair=True)
    await trial.fails(_mkdir(b"d/x"), repair=True)
    await trial.fails(_symlink(b"c/x", b"t"), repair=True)
    await trial.fails(_rename(b"gone", b"gone-too"), repair=True, path=b"gone-too")
    await trial.fails(_rename(b"c", b"d/c"), repair=True, path=b"d/c")
    await trial.fails(Record(Kind.LINK, 0, b"l", other=b"gone"), repair=True)
    await trial.holds(b"c", b"1", "after a RENAME that failed")
    deep = [b"/".join([b"deep"] * depth) for depth in range(1, 120)]
    await trial.done(*map(_mkdir, deep), _create(deep[-1] + b"/f"), _remove(b"deep"))
    await trial.missing(b"deep", "REMOVE of a deep tree")


async def _odd_names(trial: _Trial) -> None:
    """Names are bytes: all but slash and NUL, up to 255 of them."""
    for name in _ODD_NAMES:
        await trial.done(_mkdir(name), _create(name + b"/" + name, name), _symlink(name + b"/link", name))
        await trial.holds(name + b"/" + name, name, "an odd name")
        await trial.done(_create(name + b"/" + name, b"again"), _rename(name + b"/" + name, name + b"/moved"))
    assert sorted(await trial.names(b"")) == sorted(_ODD_NAMES), "names tells other names"
    for record in (_create(b"n" * 256), _mkdir(b"n" * 256), _create(b"n" * 300 + b"/x")):
        await trial.fails(record, repair=False)


async def _confined(trial: _Trial) -> None:
    """No record reaches outside of its root, or touches what is the sink's own."""
    outside = os.fsencode(trial.outside)
    await trial.done(
        _symlink(b"out", outside), _symlink(b"up", b"../.."), _mkdir(b"d"), _symlink(b"d/here", b"."), _create(b"f")
    )
    for way in (b"out/", b"up/", b"d/here/", b"out/../"):
        for record in (_create(way + b"x"), _mkdir(way + b"x"), _symlink(way + b"x", b"t")):
            await trial.fails(record, repair=way != b"out/../")
    for path in (b"..", b"../x", b"d/../x", b".", b"d/.", b"/x", b"d//x", b"x\0y", outside + b"/x"):
        for record in (_create(path), _mkdir(path), _remove(path), _rename(b"f", path), _rename(path, b"g")):
            await trial.fails(record, repair=False)
    await trial.fails(_create(b""), repair=False)
    for name in (RESERVED_PREFIX, RESERVED_PREFIX + b"mine", b"d/" + RESERVED_PREFIX + b"x"):
        await trial.fails(_create(name), repair=False)
        await trial.fails(_remove(name), repair=False)
    await trial.fails(_create(b"x", root=1), repair=False)
    for name in (b"out", b"up"):
        assert list(await trial.names(name)) == [], "look followed a symlink"
        assert list(await trial.entries(name, b"x")) == [None], "look followed a symlink"
        assert await trial.sink.count(Place(0, name), 9) == 1, "count followed a symlink"
    assert set(await trial.entries(b"", b"..", b".", b"", b"../..", outside)) == {None}, "look tells what is outside"
    await trial.done(_remove(b"out"), _remove(b"up"))
    await trial.done(_mkdir(b"d/sub"), _create(b"d/sub/x"), Record(Kind.STAGE, 0, b"staged"), _remove(b""))
    assert list(await trial.names(b"")) == [], "REMOVE of the root leaves something in it"
    await trial.done(_create(b"again"))


async def _repeated(trial: _Trial) -> None:
    """Whatever tail of a story is told again: the same end."""
    story = [
        _mkdir(b"d"),
        _create(b"d/a", b"one"),
        Record(Kind.WRITE, 0, b"d/a", offset=1, data=b"XY"),
        Record(Kind.SETATTR, 0, b"d/a", meta=meta_of(stat.S_IFREG | 0o600, 5)),
        Record(Kind.LINK, 0, b"b", other=b"d/a"),
        Record(Kind.STAGE, 0, b"s"),
        Record(Kind.WRITE, 0, b"s", offset=0, data=b"staged" * 30_000, staged=True),
        Record(Kind.PUNCH, 0, b"s", offset=0, size=BLOCK_BYTES, staged=True),
        Record(Kind.PUBLISH, 0, b"s", size=150_000, meta=_FILE),
        _symlink(b"d/l", b"a"),
        Record(Kind.BARRIER, 0, b""),
        _rename(b"s", b"d/moved"),
        _create(b"t", b"temporary"),
        _rename(b"t", b"final"),
        _mkdir(b"old"),
        _create(b"old/x", b"x"),
        _rename(b"old", b"new"),
        _create(b"new/y", b"y"),
        _remove(b"new/x"),
        Record(Kind.MKNOD, 0, b"p", meta=_FIFO),
        _create(b"final", b"better"),
        _remove(b"b"),
        _mkdir(b"b"),
        Record(Kind.TRUNCATE, 0, b"d/moved", size=100_000),
        Record(Kind.SETATTR, 0, b"d/moved", meta=meta_of(stat.S_IFREG | 0o444, 6)),
    ]
    await trial.done(*story)
    once = await picture(trial.sink)
    for first in range(len(story)):
        await trial.apply(*story[first:])
        seen = await picture(trial.sink)
        assert seen == once, f"told again from {story[first]} on, the tree is {seen} instead of {once}"


async def _set_aside(trial: _Trial) -> None:
    """Objects leave with their path; a second one of the same name gets a name of its own; a missing one is fine."""
    aside = os.fsencode(trial.outside.parent / trial.outside.name.replace("outside-", "") / "aside")
    await trial.done(_mkdir(b"d"))
    for turn in range(3):
        await trial.done(_create(b"d/f", b"%d" % turn))
        for _ in range(2):
            await trial.sink.set_aside(Place(0, b"d/f"), aside)
            await trial.missing(b"d/f", "set aside")
    await trial.done(_mkdir(b"tree"), _create(b"tree/x"))
    await trial.sink.set_aside(Place(0, b"tree"), aside)
    await trial.missing(b"tree", "set aside")
    await trial.sink.set_aside(Place(0, b"no/such"), aside)
    await trial.done(_create(b"stays"))
    try:
        await trial.sink.set_aside(Place(0, b"stays"), os.fsencode(trial.outside))
    except UsageError:
        pass
    else:
        raise AssertionError("something was set aside outside of the allowed directories")
    assert await trial.entry(b"stays") is not None


_STEPS = (
    _empty,
    _objects,
    _hashing,
    _metadata,
    _in_place,
    _staging,
    _names,
    _odd_names,
    _confined,
    _repeated,
    _set_aside,
)
