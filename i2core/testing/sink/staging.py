"""The part of `check_sink` about files that arrive in parts: staged, continued, published, and tidied up."""

from __future__ import annotations

import stat

from i2core.api import (
    BLOCK_BYTES,
    Kind,
    Place,
    Record,
)
from i2core.api.drivers import Ask
from i2core.testing.picture import TIME_NS
from i2core.testing.sink.trial import (
    FILE,
    Trial,
    create_file,
    digests,
    make_dir,
    remove,
    rename,
)

_STAGE = Record(Kind.STAGE, 0, b"big")
_FIRST = Record(Kind.WRITE, 0, b"big", offset=0, data=b"a" * BLOCK_BYTES, staged=True)
_SECOND = _FIRST._replace(offset=BLOCK_BYTES, data=b"b" * 100)
_PUBLISH = Record(Kind.PUBLISH, 0, b"big", size=BLOCK_BYTES + 50, meta=FILE)
_TRANSFER = (_STAGE, _FIRST, _SECOND, _PUBLISH)
_WHOLE = b"a" * BLOCK_BYTES + b"b" * 50


async def _hidden(trial: Trial) -> None:
    """A staged file is not visible until it is published, and can be continued."""
    place = Place(0, b"big")
    await trial.done(create_file(b"big", b"old"), _STAGE, _FIRST)
    assert list(await trial.names(b"")) == [b"big"], "a staging file is listed"
    assert await trial.sink.hashes(place, 0, 9, staged=True) == digests(b"a" * BLOCK_BYTES), (
        "hashes are not those of the staging file"
    )
    assert await trial.sink.hashes(place, 0, 9) == digests(b"old"), (
        "hashes returned those of the staging file for the file"
    )
    assert await trial.sink.count(Place(0, b""), 9) == 1, "a staging file is counted"
    entry = await trial.entry(b"big")
    assert entry is not None and entry.size == 3, "a staged write is visible before PUBLISH"
    await trial.done(_STAGE._replace(size=1))
    assert await trial.sink.hashes(place, 0, 9, staged=True) == digests(b"a" * BLOCK_BYTES), (
        "STAGE with size 1 lost the staging file"
    )


async def _published(trial: Trial) -> None:
    """PUBLISH gives the file its name over whatever is there. Repeated from its STAGE on, a transfer gives the same
    file. A staged record without a staging file is a failure."""
    await trial.done(create_file(b"big", b"old"), *_TRANSFER)
    await trial.holds(b"big", _WHOLE, "published")
    entry = await trial.entry(b"big")
    assert entry is not None and (entry.mode, entry.mtime_ns) == (FILE.mode, TIME_NS), "PUBLISH set other metadata"
    for record in (_STAGE._replace(size=1), *_TRANSFER[1:]):
        await trial.fails(record, repair=True)
    await trial.holds(b"big", _WHOLE, "the tail repeated without its STAGE")
    await trial.done(Record(Kind.SETATTR, 0, b"big", meta=FILE))  # nothing of its own content has failed
    await trial.done(*_TRANSFER)
    await trial.holds(b"big", _WHOLE, "all repeated")
    await trial.done(remove(b"big"), make_dir(b"big"), create_file(b"big/x"), *_TRANSFER)
    await trial.holds(b"big", _WHOLE, "published over a directory")
    long = b"s" * 255
    await trial.done(*(record._replace(path=long) for record in _TRANSFER))
    await trial.holds(long, _WHOLE, "staged under a name of 255 bytes")
    await trial.done(_STAGE, _SECOND, Record(Kind.REMOVE, 0, b"big", staged=True))
    await trial.holds(b"big", _WHOLE, "after the staging file alone was removed")
    await trial.done(_STAGE, Record(Kind.PUBLISH, 0, b"big", size=3 * BLOCK_BYTES, meta=FILE))
    await trial.holds(b"big", bytes(3 * BLOCK_BYTES), "an all-hole file")


async def _torn(trial: Trial) -> None:
    """A file of which a part could not be written looks like no file of the source: not staged, and not in place."""
    place = Place(0, b"big")
    newer = FILE._replace(mtime_ns=TIME_NS + 1)
    impossible = Record(Kind.WRITE, 0, b"big", offset=-1, data=b"x", staged=True)
    await trial.done(create_file(b"big", b"old"), _STAGE, _FIRST)
    failures = await trial.apply(impossible, _SECOND, _PUBLISH._replace(meta=newer))
    assert len(failures) == 2, f"published without what could not be written: {failures}"
    await trial.holds(b"big", b"old", "after a part of its staging file could not be written")
    await trial.done(*_TRANSFER)
    await trial.holds(b"big", _WHOLE, "staged anew after that")
    for kind in (Kind.WRITE, Kind.PUNCH, Kind.TRUNCATE):
        cut = Record(Kind.TRUNCATE, 0, b"big", size=BLOCK_BYTES)
        failures = await trial.apply(
            impossible._replace(kind=kind, size=-1, staged=False), cut, Record(Kind.SETATTR, 0, b"big", meta=newer)
        )
        assert len(failures) == 2, f"a file got its time without what a {kind.name} could not do: {failures}"
        entry = await trial.entry(b"big")
        assert entry is not None and entry.mtime_ns != newer.mtime_ns, f"{kind.name}: it looks as on the source"
        await trial.sink.hashes(place, 1, 1)
        failures = await trial.apply(Record(Kind.SETATTR, 0, b"big", meta=newer))
        assert len(failures) == 1, "only a part of its content was asked for"
        await trial.sink.hashes(place, 0, 9)
        await trial.done(Record(Kind.SETATTR, 0, b"big", meta=newer), Record(Kind.SETATTR, 0, b"big", meta=FILE))


async def _torn_in_vain(trial: Trial) -> None:
    """What could not be written has no file there: an object of another type gets its attributes all the same."""
    folder = FILE._replace(mode=stat.S_IFDIR | 0o755)
    await trial.done(make_dir(b"big"))
    failures = await trial.apply(_FIRST._replace(staged=False), Record(Kind.SETATTR, 0, b"big", meta=folder))
    assert len(failures) == 1, f"a directory is taken for a file with wrong content: {failures}"


async def _moved(trial: Trial) -> None:
    """A directory is renamed while a file in it is staged; the rename may be repeated."""
    begun, rest = _TRANSFER[:2], _TRANSFER[2:]
    await trial.done(make_dir(b"dir"), *(record._replace(path=b"dir/f") for record in begun), rename(b"dir", b"moved"))
    await trial.fails(rename(b"dir", b"moved"), repair=True, path=b"moved")
    await trial.done(*(record._replace(path=b"moved/f") for record in rest))
    await trial.holds(b"moved/f", _WHOLE, "staged in a directory that was renamed meanwhile")


async def _tidying(trial: Trial) -> None:
    """Staging files that will not be continued are reported and removed; those that may be continued stay."""
    await trial.done(make_dir(b"moved"), create_file(b"moved/f"))
    await trial.done(*(Record(Kind.STAGE, 0, b"moved/" + name) for name in (b"wanted", b"given up")))
    wanted = Record(Kind.WRITE, 0, b"moved/wanted", offset=0, data=b"half", staged=True)
    await trial.done(wanted)
    place, ask = Place(0, b"moved"), Ask(Place(0, b"moved"), [b"f"], every=True)
    (seen,) = await trial.sink.look([ask])
    assert (list(seen.names or ()), seen.leftovers) == ([b"f"], True), (
        f"staging files are not reported as leftovers: {seen}"
    )
    assert await trial.sink.tidy(place, [b"wanted"]), "nothing was removed"
    assert not await trial.sink.tidy(place, [b"wanted"]), "the first call did not remove it"
    assert await trial.sink.hashes(Place(0, b"moved/wanted"), 0, 9, staged=True), (
        "a staging file that may be continued was removed"
    )
    assert await trial.sink.tidy(place, []), "a staging file that will not be continued stays"
    (seen,) = await trial.sink.look([ask])
    assert (list(seen.names or ()), seen.leftovers) == ([b"f"], False), f"leftovers stay: {seen}"
    assert not await trial.sink.tidy(Place(0, b"no/such"), []), "a missing directory was tidied"


async def _unstaging(trial: Trial) -> None:
    """Staging files at and beneath the places are removed, and none beside them."""
    places = [Place(0, b"moved/" + name) for name in (b"a", b"d/a", b"d/e/a")]
    stages = [Record(Kind.STAGE, *place) for place in places]
    writes = [Record(Kind.WRITE, *place, offset=0, data=b"half", staged=True) for place in places]

    async def left() -> list[bytes]:
        return [place.path for place in places if await trial.sink.hashes(place, 0, 9, staged=True)]

    await trial.done(make_dir(b"moved"), make_dir(b"moved/d"), make_dir(b"moved/d/e"), *stages, *writes)
    await trial.sink.unstage([Place(0, b"moved/d/e"), Place(0, b"no/such")])
    assert await left() == [b"moved/a", b"moved/d/a"], f"{await left()} are left of what is beside and beneath a place"
    await trial.sink.unstage([Place(0, b"moved/a"), *(Place(0, path) for path in (b"..", b"moved/..", b"x" * 300))])
    assert await left() == [b"moved/d/a"], f"{await left()} are left of a file's own and another"
    await trial.done(stages[0], writes[0])
    await trial.sink.unstage([Place(0, b"")])
    assert await left() == [], f"{await left()} are left beneath the root"
    await trial.done(remove(b"moved/d"))


STEPS = (_hidden, _published, _torn, _torn_in_vain, _moved, _tidying, _unstaging)
