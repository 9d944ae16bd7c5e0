"""Listings and their answers: exact both ways, and what is malformed is refused with one kind of error."""

from __future__ import annotations

import stat
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from i2core.api import Entry, ProtocolError
from i2core.api.records import safe_name
from i2core.wire.listing import (
    Chunk,
    HashQuery,
    Judged,
    OrphanList,
    Verdict,
    decode_survey,
    decode_verdicts,
    encode_survey,
    encode_verdicts,
)

U32, U63, U64 = (1 << 32) - 1, (1 << 63) - 1, (1 << 64) - 1
names = st.binary(min_size=1, max_size=255).filter(safe_name)
paths = st.lists(names, max_size=3).map(b"/".join)


def entries(name: st.SearchStrategy[bytes]) -> st.SearchStrategy[Entry]:
    """Entries with what crosses the link: inode, device, ctime and blocks stay at home."""
    number = st.integers(0, U32)
    return st.builds(
        lambda n, mode, uid, gid, size, mtime, nlink, rdev, xattrs: Entry(
            n, mode, uid, gid, size, mtime, nlink, rdev=rdev, xattrs=xattrs
        ),
        name,
        number,
        number,
        number,
        st.integers(0, U63),
        st.integers(-U63 - 1, U63),
        st.integers(1, U32),
        st.integers(0, U63),
        st.integers(0, U64),
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
    here, first, last, strict = draw(entries(st.just(b""))), *(draw(st.booleans()) for _ in range(3))
    return Chunk(draw(st.integers(0, 0xFFFF)), draw(paths), here, first, last, strict, listed, links)


def sent(entry: Entry) -> Entry:
    """What a listing tells of an entry: of a directory its type alone."""
    return Entry(entry.name, stat.S_IFDIR, 0, 0, 0, 0, 0) if stat.S_ISDIR(entry.mode) else entry


judged = st.builds(
    Judged,
    st.sampled_from([Verdict.SAME, Verdict.META, Verdict.WHOLE]),
    st.binary(max_size=20),
    st.dictionaries(st.integers(0, 30), st.integers(0, 3).map(lambda n: bytes(16 * n)), max_size=3),
    st.lists(names, max_size=4),
)
queries = st.builds(HashQuery, st.integers(0, 0xFFFF), paths, st.integers(0, 1 << 46), st.integers(0, 65536))
orphans = st.builds(OrphanList, st.integers(0, 0xFFFF), paths, st.lists(names, max_size=4))


@given(st.lists(chunks(), max_size=3))
def test_surveys_come_back(given_chunks: list[Chunk]) -> None:
    found = decode_survey(encode_survey(given_chunks))
    assert len(found) == len(given_chunks)
    for shown, chunk in zip(found, given_chunks, strict=True):
        assert shown[:2] == chunk[:2]
        assert shown.here == chunk.here._replace(nlink=1, rdev=0)
        assert (shown.first, shown.last, shown.strict) == (chunk.first, chunk.last, chunk.strict)
        assert shown.names == [entry.name for entry in chunk.entries]
        assert sorted(shown.links()) == sorted(chunk.links.values())
        for index, entry in enumerate(chunk.entries):
            assert shown.listed(index) == (sent(entry), chunk.links.get(index))
            assert shown.size(index) == sent(entry).size


@given(chunks(), st.booleans())
def test_nothing_differs_between_equal_trees_but_names_of_one_file(chunk: Chunk, owners: bool) -> None:
    (shown,) = decode_survey(encode_survey([chunk], owners=owners))
    many = [index for index, entry in enumerate(chunk.entries) if entry.nlink > 1 or index in chunk.links]
    assert list(shown.differing(chunk.entries, owners=owners)) == many


FIELDS = {"mode": 0o100600, "uid": 9, "gid": 9, "size": 9, "mtime_ns": 9, "xattrs": 9}


@pytest.mark.parametrize("field", FIELDS)
def test_every_field_makes_a_difference(field: str) -> None:
    entry = SAMPLE._replace(nlink=1)
    (shown,) = decode_survey(encode_survey([Chunk(0, b"", SAMPLE, True, True, False, [entry, entry])]))
    other = entry._replace(**{field: FIELDS[field]})  # type: ignore[arg-type]
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
def test_verdicts_come_back(given_answers: list[Judged]) -> None:
    assert decode_verdicts(encode_verdicts(given_answers)) == given_answers


@given(queries)
def test_queries_come_back(query: HashQuery) -> None:
    assert HashQuery.decode(query.encode()) == query


@given(orphans)
def test_orphans_come_back(found: OrphanList) -> None:
    assert OrphanList.decode(found.encode()) == found


SAMPLE = Entry(b"name", 0o100644, 1, 2, 3, 4, 5, rdev=6, xattrs=7)
LAYOUTS: dict[str, tuple[bytes, Callable[[bytes], object]]] = {
    "survey": (
        encode_survey([Chunk(0, b"a/b", SAMPLE._replace(name=b""), True, True, False, [SAMPLE, SAMPLE], {1: b"x/y"})]),
        decode_survey,
    ),
    "verdicts": (
        encode_verdicts([Judged(Verdict.META, b"\0\1", {1: bytes(32)}, [b"extra", b"more"])]),
        decode_verdicts,
    ),
    "query": (HashQuery(0, b"a/b", 512, 512).encode(), HashQuery.decode),
    "orphans": (OrphanList(0, b"dir", [b"one", b"two"]).encode(), OrphanList.decode),
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


@pytest.mark.parametrize("path", [b"..", b"/etc", b"a/../b", b"a/", b"a//b", b"nul\0"])
def test_paths_out_of_the_root_are_refused(path: bytes) -> None:
    for raw, decode in (
        (encode_survey([Chunk(0, path, SAMPLE, True, True, False, [])]), decode_survey),
        (encode_survey([Chunk(0, b"", SAMPLE, True, True, False, [SAMPLE], {0: path})]), decode_survey),
        (HashQuery(0, path, 0, 1).encode(), HashQuery.decode),
        (OrphanList(0, path, []).encode(), OrphanList.decode),
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
