"""What `Present` owes: each step asks about the sample, and changes nothing."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Sequence

from i2core.api.present import STAGING, STORE, TOP, Identity, Present
from i2core.testing.replica.sample import (
    BLOCK,
    CONTENT,
    LONG,
    OBJECTS,
    SIZE,
    STAGED,
    at,
    content,
    facts,
    has,
    in_directory,
    is_hole,
    names,
)


def the_fixed_directories_stay(present: Present) -> None:
    for oid in (TOP, STORE, STAGING):
        handle = present.directory(oid)
        present.release(handle)
        list(present.names(handle))
        assert present.directory(oid) == handle, f"directory {oid} has another handle when it is asked for again"


def every_name_is_listed_once(present: Present) -> None:
    assert names(present) == [b"0", b"1"], f"the roots are {names(present)} instead of 0 and 1"
    for way in ((b"0",), (b"1",), *(way for way, meta in OBJECTS.items() if stat.S_ISDIR(meta.mode))):
        listed = names(present, *way)
        assert listed == in_directory(*way), f"{way}: listed {listed} instead of {in_directory(*way)}"
    assert names(present, top=STORE) == [], "something is in the store although nothing was kept"
    assert names(present, top=STAGING) == sorted(STAGED), f"staging files are {names(present, top=STAGING)}"


def nothing_is_found_where_nothing_is(present: Present) -> None:
    no_names = (b"missing", b"", b".", b"..", b"dir/sub", b"/", b"a\0b", b"missing/name", LONG + b"n", b"00")
    for way in ((), (b"0",), (b"0", b"dir"), (b"0", b"file"), (b"0", b"fifo"), (b"0", b"link")):
        for name in no_names:
            assert not has(present, *way, name), f"{name!r} in {way} leads to something"
    assert not has(present, b"0", b"link", b"sub"), "a symlink was followed"
    for name in (*no_names, b"0", b"0/", b"0/missing", b"0/dir", b"0/dir/../staged", b"7/new", b"0/file/name"):
        assert not has(present, name, top=STAGING), f"the staging file {name!r} is there"
        assert not has(present, name, top=STORE), f"{name!r} is in the store"


def facts_say_what_is_there(present: Present) -> None:
    for way, meta in OBJECTS.items():
        found = facts(present, *way)
        # Who cannot set owners has made all of it, and is perhaps not who has loaded this module.
        right = meta._replace(flags=found.meta.flags, uid=os.geteuid(), gid=os.getegid())
        if stat.S_ISDIR(meta.mode):  # its time is that of the last object made in it
            right = right._replace(mtime_ns=found.meta.mtime_ns)
        assert found.meta == right, f"{way}: {found.meta} instead of {right}"
        size = len(CONTENT.get(way, b""))
        assert found.size == size, f"{way}: {found.size} bytes instead of {size}"
        target = b"dir" if stat.S_ISLNK(meta.mode) else b""
        assert found.target == target, f"{way}: the link text {found.target!r} instead of {target!r}"
        assert found.device == 0, f"{way}: it stands for device {found.device}"
        two = way in ((b"0", b"file"), (b"0", b"dir", b"second"))
        links = 1 + two
        assert found.links == links or stat.S_ISDIR(meta.mode), f"{way}: {found.links} names instead of {links}"


def an_object_has_one_identity(present: Present) -> None:
    seen: dict[Identity, tuple[bytes, ...]] = {}
    for way in OBJECTS:
        identity = facts(present, *way).identity
        assert all(0 <= number < 1 << 63 for number in identity), f"{way}: {identity} does not fit 63 bits"
        assert identity == facts(present, *way).identity, f"{way}: another identity when it is asked for again"
        seen.setdefault(identity, way)
    ways = [way for way in OBJECTS if way != (b"0", b"dir", b"second")]
    found = {seen[facts(present, *way).identity] for way in ways}
    assert len(found) == len(ways), "two objects pass for one"
    first, second = facts(present, b"0", b"file"), facts(present, b"0", b"dir", b"second")
    assert first.identity == second.identity, "two names of a file pass for two files"


def content_is_read_in_ranges(present: Present) -> None:
    for way, right in CONTENT.items():
        size = len(right)
        with at(present, *way) as handle:
            for lo, hi in (
                (0, size),
                (0, size + 10),
                (1, 6),
                (size // 2, size),
                (size, size + 9),
                (size + 5, size + 9),
            ):
                read = present.read(handle, lo, hi)
                assert isinstance(read, bytes), f"{way}: what is read are no bytes"
                assert read == right[lo:hi], f"{way}: other bytes from {lo} to {hi}"
                assert not present.read(handle, lo, lo), f"{way}: an empty range has bytes"


def extents_have_no_gaps(present: Present) -> None:
    for way, right in CONTENT.items():
        size = len(right)
        with at(present, *way) as handle:
            for lo, hi in ((0, size), (0, size + BLOCK), (1, size - 1), (BLOCK + 7, SIZE), (size, size + 1)):
                place, end = lo, max(lo, min(hi, size))
                for extent in present.extents(handle, lo, hi):
                    assert extent.lo == place < extent.hi, f"{way}: {extent} where a range from {place} on is due"
                    zeros = not right[extent.lo : extent.hi].strip(b"\0")
                    assert zeros or not extent.hole, f"{way}: there is data in the hole {extent}"
                    place = extent.hi
                assert place == end, f"{way}: nothing is said of the range from {place} to {end}"
    with at(present, b"0", b"sparse") as handle:
        assert is_hole(present, handle, BLOCK, SIZE - BLOCK), "a hole counts as data"
        assert not is_hole(present, handle, 0, BLOCK), "data counts as a hole"


def staging_files_are_found_by_their_place(present: Present) -> None:
    for name, right in STAGED.items():
        assert content(present, name, top=STAGING) == right, f"the staging file {name!r} has another content"
    assert not has(present, b"0", b"dir", b"staged"), "a staging file stands in the replica"


def what_is_open_is_independent(present: Present) -> None:
    with at(present, b"0", b"file") as first, at(present, b"0", b"file") as second:
        assert first != second, "an object that is opened twice has one handle, which the first release ends"
    with at(present, b"0", b"file") as handle:
        assert content(present, b"0", b"empty") == b""
        assert present.facts(handle).size == len(CONTENT[b"0", b"file"]), "a handle leads to another object"


STEPS: Sequence[Callable[[Present], None]] = (
    the_fixed_directories_stay,
    every_name_is_listed_once,
    nothing_is_found_where_nothing_is,
    facts_say_what_is_there,
    an_object_has_one_identity,
    content_is_read_in_ranges,
    extents_have_no_gaps,
    staging_files_are_found_by_their_place,
    what_is_open_is_independent,
)
