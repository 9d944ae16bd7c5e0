"""What `Replica` owes. Each case is one change: it is carried out twice, since each change is absolute, and looked at
after each time, after a flush, and when the replica was closed and opened again."""

from __future__ import annotations

import stat
from collections.abc import Callable, Sequence
from typing import NamedTuple

from i2core.api.present import STAGING, STORE, TOP, Replica
from i2core.testing.replica.sample import (
    BLOCK,
    CONTENT,
    LATER_NS,
    SIZE,
    SPARSE,
    STAGED,
    TEXT,
    XATTRS,
    at,
    content,
    facts,
    has,
    in_directory,
    is_hole,
    names,
)

_TREE = (b"0", b"dir", b"sub")


class Case(NamedTuple):
    """One change, and what is right afterwards."""

    change: Callable[[Replica], None]
    right: Callable[[Replica], None]


# ------------------------------------------------------------------------------------------ names


def a_file_is_moved(replica: Replica) -> None:
    with at(replica, b"0") as root, at(replica, b"0", b"dir", b"sub") as sub:
        replica.move(root, b"empty", sub, b"moved")


def it_has_moved(replica: Replica) -> None:
    assert not has(replica, b"0", b"empty"), "a moved file is under its old name"
    assert content(replica, b"0", b"dir", b"sub", b"moved") == b"", "a moved file is not under its new name"


def a_directory_goes_into_the_store(replica: Replica) -> None:
    with at(replica, b"0", b"dir") as above:
        replica.move(above, b"sub", replica.directory(STORE), b"4711")


def it_is_kept_whole(replica: Replica) -> None:
    assert names(replica, top=STORE) == [b"4711"], f"in the store is {names(replica, top=STORE)}"
    assert names(replica, b"4711", top=STORE) == [b"deep", b"empty"], "a directory that is kept is not whole"
    assert content(replica, b"4711", b"deep", top=STORE) == b"deep", "a file in what is kept has another content"
    assert not has(replica, b"0", b"dir", b"sub"), "what is kept is still in the replica"
    assert names(replica, b"0") == in_directory(b"0"), f"the store is seen in the replica: {names(replica, b'0')}"
    assert names(replica) == [b"0", b"1"], "the roots are others"


def a_staging_file_is_published(replica: Replica) -> None:
    with at(replica, b"0") as root:
        replica.move(replica.directory(STAGING), b"0/dir/staged", root, b"published")


def it_is_published(replica: Replica) -> None:
    assert content(replica, b"0", b"published") == STAGED[b"0/dir/staged"], "a published file has another content"
    assert names(replica, top=STAGING) == [b"1/new"], "a published file is among the staging files"


def a_file_goes_back_to_staging(replica: Replica) -> None:
    with at(replica, b"0") as root:
        replica.move(root, b"file", replica.directory(STAGING), b"1/gone/directory/file")


def it_is_staged(replica: Replica) -> None:
    right = sorted((*STAGED, b"1/gone/directory/file"))
    assert names(replica, top=STAGING) == right, "a file that was staged again is not among the staging files"
    assert content(replica, b"1/gone/directory/file", top=STAGING) == TEXT, "a file that was staged again is another"
    assert names(replica, b"1") == [b"other"], f"staging is seen in the replica: {names(replica, b'1')}"


def a_file_changes_its_root(replica: Replica) -> None:
    with at(replica, b"0") as first, at(replica, b"1") as second:
        replica.move(first, b"sparse", second, b"sparse")


def it_is_in_the_other_root(replica: Replica) -> None:
    assert not has(replica, b"0", b"sparse"), "a file that has changed its root is in both"
    assert content(replica, b"1", b"sparse") == SPARSE, "a file that has changed its root has another content"
    with at(replica, b"1", b"sparse") as handle:
        assert is_hole(replica, handle, BLOCK, SIZE - BLOCK), "a file that has changed its root has lost its hole"


def names_are_added(replica: Replica) -> None:
    with at(replica, b"0", b"file") as file, at(replica, b"0", b"link") as link, at(replica, b"0", b"dir") as target:
        replica.link(file, target, b"third")
        replica.link(file, replica.directory(STORE), b"17")
        replica.link(link, target, b"link")


def they_lead_to_one_object(replica: Replica) -> None:
    found = facts(replica, b"0", b"file")
    assert found.links == 4, f"a file with four names has {found.links}"
    for way, top in (((b"0", b"dir", b"third"), TOP), ((b"17",), STORE)):
        assert facts(replica, *way, top=top).identity == found.identity, f"{way} leads to another file"
    link = facts(replica, b"0", b"dir", b"link")
    assert link.identity == facts(replica, b"0", b"link").identity, "another name of a symlink is another object"
    assert stat.S_ISLNK(link.meta.mode), "another name of a symlink leads to where it points"


def names_are_removed(replica: Replica) -> None:
    with at(replica, b"0") as root, at(replica, b"0", b"dir") as directory:
        replica.remove(root, b"file")
        replica.remove(root, b"link")
        replica.remove(root, b"fifo")
        replica.remove(root, b"missing")
        replica.remove(directory, b"sub")
    replica.remove(replica.directory(STAGING), b"0/dir/staged")
    replica.remove(replica.directory(STORE), b"1")


def only_they_are_gone(replica: Replica) -> None:
    gone = [b"fifo", b"file", b"link"]
    right = [name for name in in_directory(b"0") if name not in gone]
    assert names(replica, b"0") == right, f"after {gone} were removed, there is {names(replica, b'0')}"
    assert names(replica, b"0", b"dir") == [b"second"], "a tree that was removed is there, or more is gone"
    assert content(replica, b"0", b"dir", b"second") == TEXT, "a file has lost its content with one of its names"
    assert facts(replica, b"0", b"dir", b"second").links == 1, "a name that was removed counts"
    assert names(replica, top=STAGING) == [b"1/new"], "a staging file that was removed is there"


def a_kept_object_goes(replica: Replica) -> None:
    with at(replica, b"0") as root:
        if has(replica, b"0", b"dir"):
            replica.move(root, b"dir", replica.directory(STORE), b"5")
    replica.remove(replica.directory(STORE), b"5")


def it_is_gone(replica: Replica) -> None:
    assert names(replica, top=STORE) == [], "what was removed from the store is there"
    assert b"dir" not in names(replica, b"0"), "what was removed from the store is in the replica"
    assert facts(replica, b"0", b"file").links == 1, "a name in what was removed counts"


# ------------------------------------------------------------------------------------------ content, attributes


def files_get_another_length(replica: Replica) -> None:
    with at(replica, b"0", b"file") as file, at(replica, b"0", b"empty") as empty:
        replica.truncate(file, 1000)
        replica.truncate(empty, 2 * BLOCK)


def they_have_it(replica: Replica) -> None:
    assert content(replica, b"0", b"file") == TEXT[:1000], "a file that was cut has another content"
    assert content(replica, b"0", b"empty") == bytes(2 * BLOCK), "what a file has grown by is not all zeros"
    with at(replica, b"0", b"empty") as handle:
        assert is_hole(replica, handle, 0, 2 * BLOCK), "what a file has grown by is no hole"


def files_are_written(replica: Replica) -> None:
    with at(replica, b"0", b"file") as file, at(replica, b"0", b"empty") as empty:
        replica.write(file, 1000, b"written")
        replica.write(file, len(TEXT) - 1, memoryview(b"at the end"))
        replica.write(empty, 4 * BLOCK, b"far beyond")
        replica.write(empty, 0, b"")


def they_have_what_was_written(replica: Replica) -> None:
    right = TEXT[:1000] + b"written" + TEXT[1007:-1] + b"at the end"
    assert content(replica, b"0", b"file") == right, "a file that was written has another content"
    assert content(replica, b"0", b"empty") == bytes(4 * BLOCK) + b"far beyond", "bytes beyond the end are others"
    with at(replica, b"0", b"empty") as handle:
        assert is_hole(replica, handle, 0, 4 * BLOCK), "what lies between the old end and new bytes is no hole"


def files_are_punched(replica: Replica) -> None:
    with at(replica, b"0", b"file") as file, at(replica, b"0", b"sparse") as sparse:
        replica.punch(file, BLOCK - 5, 2 * BLOCK + 5)
        replica.punch(file, len(TEXT) - 4000, len(TEXT) + 1)
        replica.punch(sparse, SIZE - BLOCK, SIZE + BLOCK)


def they_have_holes(replica: Replica) -> None:
    right = TEXT[: BLOCK - 5] + bytes(BLOCK + 10) + TEXT[2 * BLOCK + 5 : -4000] + bytes(4000)
    assert content(replica, b"0", b"file") == right, "a file that was punched has another content"
    assert content(replica, b"0", b"sparse") == TEXT[:BLOCK] + bytes(SIZE - BLOCK), "its length changed, or its content"
    with at(replica, b"0", b"file") as file, at(replica, b"0", b"sparse") as sparse:
        assert is_hole(replica, file, BLOCK, 2 * BLOCK), "a block that was punched is no hole"
        assert not is_hole(replica, file, 0, BLOCK), "a block of which a part was punched is a hole"
        assert not is_hole(replica, file, len(TEXT) - 1, len(TEXT)), "the last block was punched in part and is a hole"
        assert is_hole(replica, sparse, BLOCK, SIZE), "the last block was punched and is no hole"


def attributes_are_set(replica: Replica) -> None:
    for way, (mode, xattrs) in _SET.items():
        with at(replica, *way) as handle:
            meta = replica.facts(handle).meta
            replica.set_meta(handle, meta._replace(mode=meta.mode & ~0o7777 | mode, mtime_ns=LATER_NS, xattrs=xattrs))


def all_of_them_are_set(replica: Replica) -> None:
    for way, (mode, xattrs) in _SET.items():
        found = facts(replica, *way).meta
        assert found.mode & 0o7777 == mode, f"{way}: mode {found.mode:o} instead of {mode:o}"
        assert found.mtime_ns == LATER_NS, f"{way}: time {found.mtime_ns} instead of {LATER_NS}"
        assert found.xattrs == xattrs, f"{way}: {found.xattrs} instead of {xattrs}"


_SET = {
    (b"0", b"file"): (0o444, ()),
    (b"0", b"empty"): (0o4755, XATTRS),
    (b"0", b"dir"): (0o1777, XATTRS[1:]),
    (b"0", b"link"): (0o777, ()),
    (b"0", b"fifo"): (0o620, ()),
    (b"1",): (0o755, XATTRS),
}


# ------------------------------------------------------------------------------------------ what is open


def what_moves_keeps_its_handle(replica: Replica) -> None:
    with at(replica, *_TREE) as tree, at(replica, *_TREE, b"deep") as deep, at(replica, b"0", b"dir") as above:
        before = [replica.facts(tree).identity, replica.facts(deep).identity]
        store, staging = replica.directory(STORE), replica.directory(STAGING)
        replica.move(above, b"sub", store, b"1")
        replica.move(tree, b"deep", staging, b"0/dir/deep")
        replica.write(deep, 0, b"D")
        assert replica.read(deep, 0, 9) == b"Deep", "a file that has moved is written or read elsewhere"
        assert sorted(replica.names(tree)) == [b"empty"], "a directory that has moved lists other names"
        replica.move(staging, b"0/dir/deep", tree, b"deep")
        replica.move(store, b"1", above, b"sub")
        after = [replica.facts(tree).identity, replica.facts(deep).identity]
        assert before == after, "an object that moves gets another identity"


def all_is_where_it_was(replica: Replica) -> None:
    assert content(replica, *_TREE, b"deep") == b"Deep", "a file that moved away and back has another content"
    assert names(replica, top=STORE) == [], "an object that came back is in the store"
    assert names(replica, b"0") == in_directory(b"0"), "after objects moved away and back, names differ"


def nothing_is_replaced(replica: Replica) -> None:
    with at(replica, b"0") as root, at(replica, b"1") as other, at(replica, b"0", b"empty") as empty:
        _fails(lambda: replica.move(root, b"empty", other, b"other"), "an object has moved to the name of another one")
        _fails(lambda: replica.link(empty, other, b"other"), "an object was given the name of another one")
        _fails(lambda: replica.move(root, b"missing", other, b"neither"), "nothing was moved, and that is no error")


def _fails(change: Callable[[], None], else_what: str) -> None:
    try:
        change()
    except OSError:
        return
    raise AssertionError(else_what)


def all_is_as_it_was(replica: Replica) -> None:
    assert content(replica, b"1", b"other") == CONTENT[b"1", b"other"], "an object that has lost its name is gone"
    assert content(replica, b"0", b"empty") == b"", "an object that could not be moved is gone"


CASES: Sequence[Case] = (
    Case(a_file_is_moved, it_has_moved),
    Case(a_directory_goes_into_the_store, it_is_kept_whole),
    Case(a_staging_file_is_published, it_is_published),
    Case(a_file_goes_back_to_staging, it_is_staged),
    Case(a_file_changes_its_root, it_is_in_the_other_root),
    Case(names_are_added, they_lead_to_one_object),
    Case(names_are_removed, only_they_are_gone),
    Case(a_kept_object_goes, it_is_gone),
    Case(files_get_another_length, they_have_it),
    Case(files_are_written, they_have_what_was_written),
    Case(files_are_punched, they_have_holes),
    Case(attributes_are_set, all_of_them_are_set),
    Case(what_moves_keeps_its_handle, all_is_where_it_was),
    Case(nothing_is_replaced, all_is_as_it_was),
)
