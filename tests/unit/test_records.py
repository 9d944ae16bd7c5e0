"""The encoding of records: decoding is exact, and damage of any kind is detected or harmless."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from i2core.api import Batch, Code, Kind, Meta, ProtocolError, Record, xattr_digest
from i2core.api.inode_flags import EVERY_FLAG, UNREAD
from i2core.api.records import EARLIEST_NS, LATEST_NS, safe_name, safe_path
from i2core.wire.encoding import decode_records, encode_records, join_time, split_time

U32, U63 = (1 << 32) - 1, (1 << 63) - 1
MOST_NS = 10**9 << 63
"""The kernel's seconds have 64 bits."""
names = st.binary(min_size=1, max_size=255).filter(safe_name)
paths = st.lists(names, max_size=4).map(b"/".join)
xattrs = st.none() | st.dictionaries(st.binary(min_size=1, max_size=40), st.binary(max_size=80), max_size=3).map(
    lambda found: tuple(sorted(found.items()))
)
flags = st.just(UNREAD) | st.integers(0, EVERY_FLAG).map(lambda value: value & EVERY_FLAG)
metas = st.none() | st.builds(
    Meta,
    st.integers(0, U32),
    st.integers(0, U32),
    st.integers(0, U32),
    st.integers(-U63 - 1, U63) | st.integers(-MOST_NS, MOST_NS),
    xattrs,
    flags,
)
records = st.builds(
    Record,
    st.sampled_from(Kind),
    st.integers(0, 0xFFFF),
    paths,
    paths,
    metas,
    st.integers(0, U63),
    st.integers(0, U63),
    st.binary(max_size=100),
    st.booleans(),
)


times = st.just(0) | st.integers(1, U63)


@given(st.lists(records, max_size=5), times)
def test_round_trip(given_records: list[Record], time_ns: int) -> None:
    decoded = decode_records(encode_records(given_records, time_ns))
    sent = [record._replace(time_ns=time_ns) for record in given_records]
    assert [record._replace(data=bytes(record.data)) for record in decoded] == sent


def test_a_batch_without_a_time_is_what_it_always_was() -> None:
    made = [Record(Kind.REMOVE, 0, b"f")]
    without, timed = encode_records(made), encode_records(made, 5)
    assert without[:4] == (1).to_bytes(4, "little")
    assert timed == (1 | 1 << 31).to_bytes(4, "little") + (5).to_bytes(8, "little") + without[4:]


@pytest.mark.parametrize("time_ns", [0, 1 << 63, (1 << 64) - 1])
def test_times_out_of_range_are_refused(time_ns: int) -> None:
    raw = bytearray(encode_records([Record(Kind.REMOVE, 0, b"f")], 5))
    raw[4:12] = time_ns.to_bytes(8, "little")
    with pytest.raises(ProtocolError, match="time out of range"):
        decode_records(bytes(raw))


@given(st.integers(0, (1 << 32) - 1), st.integers(0, (1 << 64) - 1), st.integers(0, 12))
def test_any_count_and_time_cost_nothing(count: int, time_ns: int, kept: int) -> None:
    raw = (count.to_bytes(4, "little") + time_ns.to_bytes(8, "little"))[:kept]
    try:
        assert decode_records(raw) == []
    except ProtocolError:
        return
    assert count in (0, 1 << 31)


@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_any_buffer_is_decoded(kind: type) -> None:
    (record,) = decode_records(kind(encode_records([Record(Kind.WRITE, 0, b"f", data=b"content", offset=5)])))
    assert (bytes(record.data), record.offset) == (b"content", 5)


@given(st.lists(records, min_size=1, max_size=3), times)
def test_every_truncation_is_refused(given_records: list[Record], time_ns: int) -> None:
    raw = encode_records(given_records, time_ns)
    for end in range(len(raw)):
        with pytest.raises(ProtocolError):
            decode_records(raw[:end])
    with pytest.raises(ProtocolError):
        decode_records(raw + b"\0")


def decodes_or_refuses(raw: bytes) -> None:
    """Whatever is decoded can be encoded again."""
    try:
        decoded = decode_records(raw)
    except ProtocolError:
        return
    for record in decoded:
        assert safe_path(record.path)
        assert record.kind not in (Kind.LINK, Kind.RENAME) or safe_path(record.other)
        assert 0 <= record.offset <= U63
        assert 0 <= record.size <= U63
        assert 0 <= record.time_ns <= U63
        assert record.time_ns == decoded[0].time_ns
    encode_records(decoded, decoded[0].time_ns if decoded else 0)


def test_every_flipped_bit_is_refused_or_decodes() -> None:
    meta = Meta(0o100644, 1, 2, -3, ((b"user.a", b"1"), (b"user.b", b"")))
    raw = encode_records(
        [
            Record(Kind.CREATE, 0, b"dir/file", meta=meta, data=b"data"),
            Record(Kind.RENAME, 1, b"a/b", b"c"),
            Record(Kind.WRITE, 0, b"f", offset=1 << 40, size=9, data=b"x", staged=True),
        ],
        1_700_000_000_000_000_000,
    )
    for bit in range(len(raw) * 8):
        damaged = bytearray(raw)
        damaged[bit // 8] ^= 1 << bit % 8
        decodes_or_refuses(bytes(damaged))


@given(st.lists(records, max_size=3), times, st.data())
def test_damage_is_refused_or_decodes(given_records: list[Record], time_ns: int, data: st.DataObject) -> None:
    raw = bytearray(encode_records(given_records, time_ns))
    for _ in range(data.draw(st.integers(1, 4))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    decodes_or_refuses(bytes(raw))


@given(st.binary(max_size=300))
def test_any_bytes_are_refused_or_decode(raw: bytes) -> None:
    decodes_or_refuses(raw)


UNSAFE = [b"/etc", b"a/", b"a//b", b".", b"..", b"../x", b"a/..", b"a/../b", b"./a", b"a/.", b"nul\0", b"/", b"//"]
SAFE = [b"", b"a", b"a/b", b"...", b"..a", b"a..", b".hidden", b"new\nline", b"\xff\xfe", b" ", b"n" * 255]


@pytest.mark.parametrize("path", UNSAFE)
def test_unsafe_paths_are_refused(path: bytes) -> None:
    assert not safe_path(path)
    for record in (
        Record(Kind.CREATE, 0, path),
        Record(Kind.RENAME, 0, b"fine", path),
        Record(Kind.LINK, 0, b"fine", path),
        Record(Kind.REMOVE, 0, path, staged=True),
    ):
        with pytest.raises(ProtocolError, match="unsafe path"):
            decode_records(encode_records([record]))


@pytest.mark.parametrize("path", SAFE)
def test_odd_but_safe_paths_pass(path: bytes) -> None:
    assert safe_path(path)
    assert decode_records(encode_records([Record(Kind.RENAME, 0, path, path)]))[0][2:4] == (path, path)


@pytest.mark.parametrize("text", UNSAFE)
def test_the_text_of_a_symlink_is_data(text: bytes) -> None:
    assert decode_records(encode_records([Record(Kind.SYMLINK, 0, b"link", text)]))[0].other == text


@pytest.mark.parametrize("name", [b"", b".", b"..", b"a/b", b"/", b"nul\0"])
def test_unsafe_names(name: bytes) -> None:
    assert not safe_name(name)


@pytest.mark.parametrize("count", [0x7FFFFFFF, 0xFFFFFFFF])
def test_a_count_that_cannot_be_costs_nothing(count: int) -> None:
    with pytest.raises(ProtocolError, match="more records"):
        decode_records(count.to_bytes(4, "little") + (1).to_bytes(8, "little") + bytes(100))


def test_offsets_that_no_file_has_are_refused() -> None:
    raw = bytearray(encode_records([Record(Kind.WRITE, 0, b"f", offset=U63)]))
    raw[4 + 16 + 7] |= 0x80
    with pytest.raises(ProtocolError, match="out of range") as refused:
        decode_records(bytes(raw))
    assert refused.value.code is Code.WRITE_FRAGMENT


def test_the_digest_of_attributes() -> None:
    pairs = ((b"user.a", b"1"), (b"user.b", b""))
    assert xattr_digest(()) == 0
    assert xattr_digest(pairs) == xattr_digest(reversed(pairs)) != 0
    assert xattr_digest(pairs) != xattr_digest(pairs[:1])
    assert xattr_digest([(b"ab", b"c")]) != xattr_digest([(b"a", b"bc")])


def test_last_seq() -> None:
    assert Batch(5, [Record(Kind.BARRIER, 0, b"")] * 3).last_seq == 7
    assert Batch(5, []).last_seq == 4


@pytest.mark.parametrize("time_ns", [EARLIEST_NS, LATEST_NS, EARLIEST_NS - 1, LATEST_NS + 1, -MOST_NS, MOST_NS - 1, 0])
def test_a_time_has_an_era(time_ns: int) -> None:
    era, rest = split_time(time_ns)
    assert (join_time(era, rest), EARLIEST_NS <= rest <= LATEST_NS) == (time_ns, True)
    assert (era == 0) == (EARLIEST_NS <= time_ns <= LATEST_NS)


def test_an_era_without_a_time_is_refused() -> None:
    raw = bytearray(encode_records([Record(Kind.REMOVE, 0, b"f")]))
    raw[5] |= 8
    with pytest.raises(ProtocolError):
        decode_records(raw + bytes(4))
