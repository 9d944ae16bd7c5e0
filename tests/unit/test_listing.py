"""Listings and their answers: exact in both directions; malformed ones are refused with one kind of error."""

from __future__ import annotations

import stat
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from i2core.api import Entry, ProtocolError
from i2core.api.inode_flags import EVERY_FLAG, UNREAD
from i2core.api.records import safe_name
from i2core.wire.listing import (
    Chunk,
    ChunkVerdicts,
    Verdict,
    chunk_bytes,
    decode_survey,
    decode_verdicts,
    encode_survey,
    encode_verdicts,
)
from i2core.wire.message_size import COUNT_BYTES, MESSAGE_BYTES
from i2core.wire.questions import HashQuery, NamesQuery, OrphanList, decode_names, encode_names

U32, U63, U64 = (1 << 32) - 1, (1 << 63) - 1, (1 << 64) - 1
names = st.binary(min_size=1, max_size=255).filter(safe_name)
paths = st.lists(names, max_size=3).map(b"/".join)


def entries(name: st.SearchStrategy[bytes]) -> st.SearchStrategy[Entry]:
    """Entries with the fields that are sent: without inode, device, ctime and blocks."""
    number = st.integers(0, U32)
    return st.builds(
        lambda n, mode, uid, gid, size, mtime, nlink, rdev, xattrs, flags: Entry(
            n, mode, uid, gid, size, mtime, nlink, rdev=rdev, xattrs=xattrs, flags=flags
        ),
        name,
        number,
        number,
        number,
        st.integers(0, U63),
        st.integers(-U63 - 1, U63) | st.integers(-(10**9) << 63, 10**9 << 63),
        st.integers(1, U32),
        st.integers(0, U32),
        st.integers(0, U64),
        st.integers(0, EVERY_FLAG) | st.just(UNREAD),
    )


@st.composite
def chunks(draw: st.DrawFn) -> Chunk:
    """Chunks of entries of any kind, some with an earlier name."""
    listed = []
    for entry in draw(st.lists(entries(names), max_size=4)):
        kind = draw(st.sampled_from((stat.S_IFREG, stat.S_IFLNK, stat.S_IFDIR, stat.S_IFCHR)))
        text = draw(st.binary(max_size=100)) if kind == stat.S_IFLNK else b""
        listed.append(entry._replace(mode=kind | stat.S_IMODE(entry.mode), target=text))
    files = [index for index, entry in enumerate(listed) if stat.S_ISREG(entry.mode)]
    links = draw(st.dictionaries(st.sampled_from(files), paths.filter(bool))) if files else {}
    listed_flags = draw(st.booleans())
    here, first, last, strict = draw(entries(st.just(b""))), *(draw(st.booleans()) for _ in range(3))
    if not listed_flags:
        here, listed = here._replace(flags=UNREAD), [entry._replace(flags=UNREAD) for entry in listed]
    elif here.flags == UNREAD:
        here = here._replace(flags=0)
    return Chunk(draw(st.integers(0, 0xFFFF)), draw(paths), here, first, last, strict, listed, links)


def sent(entry: Entry, chunk: Chunk) -> Entry:
    """The part of an entry in a listing: of a directory only its type."""
    alone = Entry(entry.name, stat.S_IFDIR, 0, 0, 0, 0, 0, flags=0 if chunk.flags else UNREAD)
    return alone if stat.S_ISDIR(entry.mode) else entry


@given(st.lists(chunks(), max_size=3))
def test_the_size_of_a_chunk_is_known_before_it_is_encoded(given_chunks: list[Chunk]) -> None:
    assert len(encode_survey(given_chunks)) == COUNT_BYTES + sum(map(chunk_bytes, given_chunks))


judged = st.builds(
    ChunkVerdicts,
    st.sampled_from([Verdict.SAME, Verdict.META, Verdict.WHOLE]),
    st.binary(min_size=3, max_size=20),
    st.dictionaries(st.integers(0, 30), st.integers(0, 3).map(lambda n: bytes(16 * n)), max_size=3),
    st.lists(names, max_size=4),
    st.booleans(),
)
queries = st.builds(HashQuery, st.integers(0, 0xFFFF), paths, st.integers(0, 1 << 46), st.integers(0, 65536))
orphans = st.builds(OrphanList, st.integers(0, 0xFFFF), paths, st.lists(names, max_size=4))


@given(st.lists(chunks(), max_size=3))
def test_surveys_round_trip(given_chunks: list[Chunk]) -> None:
    found = decode_survey(encode_survey(given_chunks))
    assert len(found) == len(given_chunks)
    for shown, chunk in zip(found, given_chunks, strict=True):
        assert shown[:2] == chunk[:2]
        assert shown.here == chunk.here._replace(nlink=1, rdev=0)
        assert (shown.first, shown.last, shown.strict) == (chunk.first, chunk.last, chunk.strict)
        assert shown.names == [entry.name for entry in chunk.entries]
        assert sorted(shown.links()) == sorted(chunk.links.values())
        for index, entry in enumerate(chunk.entries):
            assert shown.listed(index) == (sent(entry, chunk), chunk.links.get(index))
            assert shown.size(index) == sent(entry, chunk).size


@given(chunks(), st.booleans())
def test_nothing_differs_between_equal_trees_but_names_of_one_file(chunk: Chunk, owners: bool) -> None:
    (shown,) = decode_survey(encode_survey([chunk], owners=owners))
    many = [index for index, entry in enumerate(chunk.entries) if entry.nlink > 1 or index in chunk.links]
    assert list(shown.differing(chunk.entries, owners=owners)) == many


@pytest.mark.parametrize(
    ("field", "value"),
    [("mode", 0o100600), ("uid", 9), ("gid", 9), ("size", 9), ("mtime_ns", 9), ("mtime_ns", 1 << 64), ("xattrs", 9)],
)
def test_every_field_makes_a_difference(field: str, value: int) -> None:
    entry = SAMPLE._replace(nlink=1)
    (shown,) = decode_survey(encode_survey([Chunk(0, b"", SAMPLE, True, True, False, [entry, entry])]))
    other = entry._replace(**{field: value})  # type: ignore[arg-type]
    assert list(shown.differing([entry, other], owners=True)) == [1]
    assert list(shown.differing([entry, None], owners=True)) == [1]


def test_owners_differ_only_where_they_can_be_set() -> None:
    entry = SAMPLE._replace(nlink=1)
    (shown,) = decode_survey(encode_survey([Chunk(0, b"", SAMPLE, True, True, False, [entry])], owners=False))
    assert list(shown.differing([entry._replace(uid=9, gid=9)], owners=False)) == []


def test_a_symlink_differs_by_its_text() -> None:
    link = SAMPLE._replace(nlink=1, mode=stat.S_IFLNK | 0o777, target=b"here")
    (shown,) = decode_survey(encode_survey([Chunk(0, b"", SAMPLE, True, True, False, [link])]))
    assert list(shown.differing([link], owners=True)) == []
    assert list(shown.differing([link._replace(target=b"else")], owners=True)) == [0]


@given(st.lists(judged, max_size=3))
def test_verdicts_round_trip(given_answers: list[ChunkVerdicts]) -> None:
    assert decode_verdicts(encode_verdicts(given_answers)) == given_answers


@given(queries)
def test_queries_round_trip(query: HashQuery) -> None:
    assert HashQuery.decode(query.encode()) == query


@given(st.builds(NamesQuery, st.integers(0, 0xFFFF), paths, st.booleans()), st.lists(names))
def test_names_round_trip(query: NamesQuery, told: list[bytes]) -> None:
    assert NamesQuery.decode(query.encode()) == query
    assert decode_names(encode_names(told)) == told


def test_orphans_come_in_lists_that_fit() -> None:
    every = [b"%06d" % number + b"n" * 249 for number in range(100_000)]
    for path in (b"", b"p" * 60_000):
        lists = list(OrphanList(1, path, every).fitting())
        assert [name for each in lists for name in each.names] == every
        for each in lists:
            encoded = each.encode()
            assert len(encoded) <= MESSAGE_BYTES
            assert OrphanList.decode(encoded) == each


@given(orphans)
def test_orphans_round_trip(found: OrphanList) -> None:
    assert OrphanList.decode(found.encode()) == found


SAMPLE = Entry(b"name", 0o100644, 1, 2, 3, 4, 5, rdev=6, xattrs=7)
LAYOUTS: dict[str, tuple[bytes, Callable[[bytes], object]]] = {
    "survey": (
        encode_survey([Chunk(0, b"a/b", SAMPLE._replace(name=b""), True, True, False, [SAMPLE, SAMPLE], {1: b"x/y"})]),
        decode_survey,
    ),
    "verdicts": (
        encode_verdicts([ChunkVerdicts(Verdict.META, b"\0\1", {1: bytes(32)}, [b"extra", b"more"])]),
        decode_verdicts,
    ),
    "query": (HashQuery(0, b"a/b", 512, 512).encode(), HashQuery.decode),
    "orphans": (OrphanList(0, b"dir", [b"one", b"two"]).encode(), OrphanList.decode),
    "names query": (NamesQuery(0, b"a/b", True).encode(), NamesQuery.decode),
    "names": (encode_names([b"one", b"two"]), decode_names),
}


def test_listings_of_too_few_or_too_many_names_are_refused() -> None:
    raw = encode_survey([Chunk(0, b"", SAMPLE, True, True, False, [SAMPLE._replace(name=b"a\0b")])])
    with pytest.raises(ProtocolError, match="a name for each"):
        decode_survey(raw)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_truncations_and_leftovers_are_refused(layout: str) -> None:
    raw, decode = LAYOUTS[layout]
    for end in range(len(raw)):
        with pytest.raises(ProtocolError):
            decode(raw[:end])
    with pytest.raises(ProtocolError):
        decode(raw + b"\0")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_flipped_bits_are_refused_or_decode(layout: str) -> None:
    raw, decode = LAYOUTS[layout]
    refused = 0
    for bit in range(len(raw) * 8):
        damaged = bytearray(raw)
        damaged[bit // 8] ^= 1 << bit % 8
        try:
            decode(bytes(damaged))
        except ProtocolError:
            refused += 1
    assert refused


@pytest.mark.parametrize("layout", LAYOUTS)
@given(raw=st.binary(max_size=200))
def test_any_bytes_are_refused_or_decode(layout: str, raw: bytes) -> None:
    try:
        LAYOUTS[layout][1](raw)
    except ProtocolError:
        return


@pytest.mark.parametrize("name", [b"", b".", b"..", b"a/b", b"nul\0", b"/"])
def test_names_that_no_directory_holds_are_refused(name: bytes) -> None:
    chunk = Chunk(0, b"", SAMPLE, True, True, False, [SAMPLE._replace(name=name)])
    with pytest.raises(ProtocolError, match=r"unsafe|a name for each"):
        decode_survey(encode_survey([chunk]))
    with pytest.raises(ProtocolError, match="unsafe"):
        OrphanList.decode(OrphanList(0, b"", [name]).encode())
    with pytest.raises(ProtocolError, match="unsafe"):
        decode_names(encode_names([name]))
    with pytest.raises(ProtocolError, match="unsafe"):
        decode_verdicts(encode_verdicts([ChunkVerdicts(Verdict.SAME, b"", {}, [name])]))


@pytest.mark.parametrize("path", [b"..", b"/etc", b"a/../b", b"a/", b"a//b", b"nul\0"])
def test_paths_out_of_the_root_are_refused(path: bytes) -> None:
    for raw, decode in (
        (encode_survey([Chunk(0, path, SAMPLE, True, True, False, [])]), decode_survey),
        (encode_survey([Chunk(0, b"", SAMPLE, True, True, False, [SAMPLE], {0: path})]), decode_survey),
        (HashQuery(0, path, 0, 1).encode(), HashQuery.decode),
        (OrphanList(0, path, []).encode(), OrphanList.decode),
        (NamesQuery(0, path, True).encode(), NamesQuery.decode),
    ):
        with pytest.raises(ProtocolError):
            decode(raw)


@pytest.mark.parametrize(("first", "blocks"), [(0, 65537), (1 << 47, 1), (U64, 1)])
def test_queries_for_more_than_there_can_be_are_refused(first: int, blocks: int) -> None:
    with pytest.raises(ProtocolError):
        HashQuery.decode(HashQuery(0, b"f", first, blocks).encode())


def test_link_counts_beyond_the_field_are_cut() -> None:
    chunk = Chunk(0, b"", SAMPLE, True, True, False, [SAMPLE._replace(nlink=1 << 40)])
    assert decode_survey(encode_survey([chunk]))[0].listed(0).entry.nlink == U32


@pytest.mark.parametrize("eras", [1, -1, 1 << 28])
def test_times_that_differ_by_whole_eras_differ(eras: int) -> None:
    entry = SAMPLE._replace(nlink=1)
    far = entry._replace(mtime_ns=entry.mtime_ns + (eras << 64))
    (shown,) = decode_survey(encode_survey([Chunk(0, b"", far, True, True, False, [far])]))
    assert shown.here.mtime_ns == far.mtime_ns
    assert list(shown.differing([far], owners=True)) == []
    assert list(shown.differing([entry], owners=True)) == [0]
