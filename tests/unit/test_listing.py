"""Listings and their answers: exact both ways, and what is malformed is refused with one kind of error."""

from __future__ import annotations

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
    Listed,
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


listed = st.builds(Listed, entries(names), st.none() | paths.filter(bool)) | st.builds(
    lambda entry, target: Listed(entry._replace(target=target)), entries(names), st.binary(max_size=100)
)
chunks = st.builds(
    Chunk,
    st.integers(0, 0xFFFF),
    paths,
    entries(st.just(b"")),
    st.booleans(),
    st.booleans(),
    st.booleans(),
    st.lists(listed, max_size=4),
)
judged = st.builds(
    Judged,
    st.sampled_from([Verdict.SAME, Verdict.META, Verdict.WHOLE]),
    st.binary(max_size=20),
    st.dictionaries(st.integers(0, 30), st.integers(0, 3).map(lambda n: bytes(16 * n)), max_size=3),
    st.lists(names, max_size=4),
)
queries = st.builds(HashQuery, st.integers(0, 0xFFFF), paths, st.integers(0, 1 << 46), st.integers(0, 65536))
orphans = st.builds(OrphanList, st.integers(0, 0xFFFF), paths, st.lists(names, max_size=4))


@given(st.lists(chunks, max_size=3))
def test_surveys_come_back(given_chunks: list[Chunk]) -> None:
    assert decode_survey(encode_survey(given_chunks)) == given_chunks


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
        encode_survey(
            [Chunk(0, b"a/b", SAMPLE._replace(name=b""), True, True, False, [Listed(SAMPLE), Listed(SAMPLE, b"x/y")])]
        ),
        decode_survey,
    ),
    "verdicts": (
        encode_verdicts([Judged(Verdict.META, b"\0\1", {1: bytes(32)}, [b"extra", b"more"])]),
        decode_verdicts,
    ),
    "query": (HashQuery(0, b"a/b", 512, 512).encode(), HashQuery.decode),
    "orphans": (OrphanList(0, b"dir", [b"one", b"two"]).encode(), OrphanList.decode),
}


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
    chunk = Chunk(0, b"", SAMPLE, True, True, False, [Listed(SAMPLE._replace(name=name))])
    with pytest.raises(ProtocolError, match="unsafe"):
        decode_survey(encode_survey([chunk]))
    with pytest.raises(ProtocolError, match="unsafe"):
        OrphanList.decode(OrphanList(0, b"", [name]).encode())


@pytest.mark.parametrize("path", [b"..", b"/etc", b"a/../b", b"a/", b"a//b", b"nul\0"])
def test_paths_out_of_the_root_are_refused(path: bytes) -> None:
    for raw, decode in (
        (encode_survey([Chunk(0, path, SAMPLE, True, True, False, [])]), decode_survey),
        (encode_survey([Chunk(0, b"", SAMPLE, True, True, False, [Listed(SAMPLE, path)])]), decode_survey),
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
    chunk = Chunk(0, b"", SAMPLE, True, True, False, [Listed(SAMPLE._replace(nlink=1 << 40))])
    assert decode_survey(encode_survey([chunk]))[0].listed[0].entry.nlink == U32
