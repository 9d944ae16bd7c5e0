"""The part of `check_sink` about names: of any bytes, page by page, never outside of the root; and objects that lose
their names."""

from __future__ import annotations

import os
import stat

from i2core.api import (
    BLOCK_BYTES,
    Kind,
    Place,
    Record,
    UsageError,
)
from i2core.testing.picture import meta_of, picture
from i2core.testing.sink.trial import (
    FIFO,
    FILE,
    Trial,
    create_file,
    make_dir,
    make_symlink,
    remove,
    rename,
)

_ODD_NAMES = (
    b".i2-",
    b".i2-stage-0",
    b"line\nbreak",
    b"\xff\xfe not utf-8",
    b"-rf",
    b" ",
    b"*",
    "灾备".encode(),
    b"n" * 255,
    b"\x80" * 255,
)


async def _links(trial: Trial) -> None:
    """LINK, once and again; a CREATE over one of several names leaves the others alone."""
    await trial.done(create_file(b"a", b"1"), create_file(b"b", b"2"), Record(Kind.LINK, 0, b"c", other=b"a"))
    for _ in range(2):
        await trial.done(Record(Kind.LINK, 0, b"b", other=b"a"))
        entries = await trial.entries(b"", b"a", b"b", b"c")
        assert len({e.ino for e in entries if e}) == 1 and entries[0], "after LINK the names are not one file"
        assert entries[0].nlink == 3, f"nlink is {entries[0].nlink} with three names"
    await trial.done(create_file(b"a", b"new"))
    await trial.holds(b"b", b"1", "CREATE over one of several names changed the others")
    await trial.holds(b"a", b"new", "CREATE over one of several names")
    await trial.done(rename(b"b", b"c"))
    await trial.missing(b"b", "RENAME over another name of the same file")
    await trial.holds(b"c", b"1", "RENAME over another name of the same file")


async def _first_names_missing(trial: Trial) -> None:
    """RENAME and LINK where the first name is missing: a failure about the second name, which stays as it is. Whatever
    is there need not be what the record is about: the object of the source is known only to the source."""
    await trial.done(make_dir(b"dir"), create_file(b"dir/in", b"in"), create_file(b"file", b"here"))
    await trial.done(create_file(b"moved", b"moved"), rename(b"moved", b"new"))  # and once more below
    for other in (b"dir", b"file", b"new", b"none"):
        for gone in (b"moved", b"no/dir", b"file/below"):
            await trial.fails(rename(gone, other), repair=True, path=other)
            await trial.fails(Record(Kind.LINK, 0, other, other=gone), repair=True)
    await trial.holds(b"dir/in", b"in", "after a RENAME that failed")
    await trial.holds(b"file", b"here", "after a RENAME that failed")
    await trial.holds(b"new", b"moved", "RENAME, once and again")
    await trial.missing(b"none", "after a RENAME that failed")


async def _renames(trial: Trial) -> None:
    """RENAME, over whatever is there."""
    await trial.done(make_dir(b"d"), make_dir(b"d/e"), create_file(b"d/e/f", b"deep"))
    await trial.done(make_dir(b"full"), create_file(b"full/x"), create_file(b"a", b"new"))
    await trial.done(rename(b"d", b"full"))
    await trial.holds(b"full/e/f", b"deep", "RENAME over a directory that is not empty")
    await trial.missing(b"full/x", "RENAME over a directory that is not empty")
    await trial.missing(b"d", "RENAME")
    await trial.done(create_file(b"full/e/g", b"fresh"), rename(b"a", b"full"))
    await trial.holds(b"full", b"new", "RENAME of a file over a directory")
    await trial.done(make_dir(b"d2"), create_file(b"d2/x", b"x"), rename(b"d2", b"full"))
    await trial.holds(b"full/x", b"x", "RENAME of a directory over a file")
    await trial.done(make_dir(b"d"), rename(b"full", b"d/full"), create_file(b"d/full/y", b"y"))
    await trial.holds(b"d/full/y", b"y", "CREATE beneath a directory that was renamed in the same batch")
    await trial.fails(rename(b"d", b"no/dir"), repair=True, path=b"no/dir")
    await trial.holds(b"d/full/y", b"y", "after a RENAME that failed")


async def _counts(trial: Trial) -> None:
    """How many files a subtree has, and how many would be lost with it."""
    await trial.done(make_dir(b"d"), create_file(b"d/x"), create_file(b"d/y"), create_file(b"c"))
    assert await trial.sink.count(Place(0, b""), 99) == 3, "count of all files"
    assert await trial.sink.count(Place(0, b"d"), 1) == 1, "count with a limit"
    assert await trial.sink.count(Place(0, b"c"), 9) == 1, "count of one file"
    await trial.done(make_dir(b"l"), create_file(b"l/a", b"shared"))
    await trial.done(*(Record(Kind.LINK, 0, name, other=b"l/a") for name in (b"l/b", b"e")))
    assert await trial.sink.count(Place(0, b"l"), 9) == 1, "count of one file with several names"
    inside, outside = Place(0, b"l"), Place(0, b"e")
    assert await trial.sink.losses([inside, Place(0, b"c")], 9) == [0, 1], "losses of a file with a name elsewhere"
    assert await trial.sink.losses([inside, outside], 9) == [0, 1], "losses of a file with all of its names"


async def _removals(trial: Trial) -> None:
    """REMOVE, once and again; nothing can be made where its directory is gone."""
    await trial.done(make_dir(b"d"), make_dir(b"d/full"), create_file(b"d/full/x"), create_file(b"c", b"1"))
    for _ in range(2):
        await trial.done(remove(b"d"), remove(b"never"), remove(b"no/dir/either"), remove(b"c/below"))
        await trial.missing(b"d", "REMOVE")
    await trial.fails(create_file(b"d/x"), repair=True)
    await trial.fails(make_dir(b"d/x"), repair=True)
    await trial.fails(make_symlink(b"c/x", b"t"), repair=True)
    await trial.fails(rename(b"c", b"d/c"), repair=True, path=b"d/c")
    await trial.holds(b"c", b"1", "after a RENAME that failed")
    deep = [b"/".join([b"deep"] * depth) for depth in range(1, 120)]
    await trial.done(*map(make_dir, deep), create_file(deep[-1] + b"/f"), remove(b"deep"))
    await trial.missing(b"deep", "REMOVE of a deep tree")


async def _odd_names(trial: Trial) -> None:
    """Names are up to 255 bytes, of any value except slash and NUL."""
    for name in _ODD_NAMES:
        await trial.done(make_dir(name), create_file(name + b"/" + name, name), make_symlink(name + b"/link", name))
        await trial.holds(name + b"/" + name, name, "an odd name")
        await trial.done(create_file(name + b"/" + name, b"again"), rename(name + b"/" + name, name + b"/moved"))
    assert sorted(await trial.names(b"")) == sorted(_ODD_NAMES), "names returned other names"
    for record in (create_file(b"n" * 256), make_dir(b"n" * 256), create_file(b"n" * 300 + b"/x")):
        await trial.fails(record, repair=False)


async def _confined(trial: Trial) -> None:
    """No record reaches outside of its root, or changes the sink's own files."""
    outside = os.fsencode(trial.outside)
    await trial.done(
        make_symlink(b"out", outside),
        make_symlink(b"up", b"../.."),
        make_dir(b"d"),
        make_symlink(b"d/here", b"."),
        create_file(b"f"),
    )
    for way in (b"out/", b"up/", b"d/here/", b"out/../"):
        for record in (create_file(way + b"x"), make_dir(way + b"x"), make_symlink(way + b"x", b"t")):
            await trial.fails(record, repair=way != b"out/../")
    for path in (b"..", b"../x", b"d/../x", b".", b"d/.", b"/x", b"d//x", b"x\0y", outside + b"/x"):
        for record in (create_file(path), make_dir(path), remove(path), rename(b"f", path), rename(path, b"g")):
            await trial.fails(record, repair=False)
    await trial.fails(create_file(b""), repair=False)
    await trial.fails(create_file(b"x", root=1), repair=False)
    for name in (b"out", b"up"):
        assert list(await trial.names(name)) == [], "look followed a symlink"
        assert list(await trial.entries(name, b"x")) == [None], "look followed a symlink"
        assert await trial.sink.count(Place(0, name), 9) == 1, "count followed a symlink"
    assert set(await trial.entries(b"", b"..", b".", b"", b"../..", outside)) == {None}, (
        "look returned an object outside of the root"
    )
    await trial.done(remove(b"out"), remove(b"up"))
    await trial.done(make_dir(b"d/sub"), create_file(b"d/sub/x"), Record(Kind.STAGE, 0, b"staged"), remove(b""))
    assert list(await trial.names(b"")) == [], "after REMOVE of the root something is left in it"
    await trial.done(create_file(b"again"))


async def _repeated(trial: Trial) -> None:
    """Any tail of a series of records may be applied again, with the same result."""
    story = [
        make_dir(b"d"),
        create_file(b"d/a", b"one"),
        Record(Kind.WRITE, 0, b"d/a", offset=1, data=b"XY"),
        Record(Kind.SETATTR, 0, b"d/a", meta=meta_of(stat.S_IFREG | 0o600, 5)),
        Record(Kind.LINK, 0, b"b", other=b"d/a"),
        Record(Kind.STAGE, 0, b"s"),
        Record(Kind.WRITE, 0, b"s", offset=0, data=b"staged" * 30_000, staged=True),
        Record(Kind.PUNCH, 0, b"s", offset=0, size=BLOCK_BYTES, staged=True),
        Record(Kind.PUBLISH, 0, b"s", size=150_000, meta=FILE),
        make_symlink(b"d/l", b"a"),
        Record(Kind.BARRIER, 0, b""),
        rename(b"s", b"d/moved"),
        create_file(b"t", b"temporary"),
        rename(b"t", b"final"),
        make_dir(b"old"),
        create_file(b"old/x", b"x"),
        rename(b"old", b"new"),
        create_file(b"new/y", b"y"),
        remove(b"new/x"),
        Record(Kind.MKNOD, 0, b"p", meta=FIFO),
        create_file(b"final", b"better"),
        remove(b"b"),
        make_dir(b"b"),
        Record(Kind.TRUNCATE, 0, b"d/moved", size=100_000),
        Record(Kind.SETATTR, 0, b"d/moved", meta=meta_of(stat.S_IFREG | 0o444, 6)),
    ]
    await trial.done(*story)
    once = await picture(trial.sink)
    for first in range(len(story)):
        await trial.apply(*story[first:])
        seen = await picture(trial.sink)
        assert seen == once, f"applied again from {story[first]} on, the tree is {seen} instead of {once}"


async def _set_aside(trial: Trial) -> None:
    """Objects are moved with their path; a second one of the same name gets another name; a missing one is no error."""
    aside = os.fsencode(trial.outside.parent / trial.outside.name.replace("outside-", "") / "aside")
    await trial.done(make_dir(b"d"))
    for turn in range(3):
        await trial.done(create_file(b"d/f", b"%d" % turn))
        for _ in range(2):
            await trial.sink.set_aside(Place(0, b"d/f"), aside)
            await trial.missing(b"d/f", "set aside")
    await trial.done(make_dir(b"tree"), create_file(b"tree/x"))
    await trial.sink.set_aside(Place(0, b"tree"), aside)
    await trial.missing(b"tree", "set aside")
    await trial.sink.set_aside(Place(0, b"no/such"), aside)
    await trial.done(create_file(b"stays"))
    try:
        await trial.sink.set_aside(Place(0, b"stays"), os.fsencode(trial.outside))
    except UsageError:
        pass
    else:
        raise AssertionError("something was set aside outside of the allowed directories")
    assert await trial.entry(b"stays") is not None


STEPS = (_links, _renames, _first_names_missing, _counts, _removals, _odd_names, _confined, _repeated, _set_aside)
