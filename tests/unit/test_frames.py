"""Frames say what they are, chains only grow forward, and faults between segments are found."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from i2core.api.journal import Draft, FaultKind, Header, Inspection, Seal, Segment, Tip, find_faults
from i2core.api.journal.chain import ChainEnd
from i2core.api.journal.frames import HEADER_BYTES, NO_HASH, FrameKind, Head, decode_seals, encode_seals, frame_hash

_SEQ = st.integers(0, 2**63 - 1)
_HASH = st.binary(min_size=32, max_size=32)
_HEADERS = st.builds(Header, *[_SEQ] * 6)
_HEADS = st.builds(
    Head,
    st.sampled_from(FrameKind),
    st.integers(0, 2**64 - 1),
    _HEADERS,
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**28),
    _HASH,
)


@given(_HEADS)
def test_a_header_comes_back(head: Head) -> None:
    stored = head.encode()
    assert len(stored) == HEADER_BYTES
    assert Head.decode(stored) == head


@given(_HEADS, st.integers(0, HEADER_BYTES * 8 - 1))
def test_a_header_with_a_flipped_bit_is_none(head: Head, bit: int) -> None:
    stored = bytearray(head.encode())
    stored[bit // 8] ^= 1 << bit % 8
    assert Head.decode(stored) is None


@given(st.binary(max_size=300))
def test_other_bytes_are_no_header(data: bytes) -> None:
    assert Head.decode(data) is None


@given(_HEADS, st.binary(max_size=100), st.binary(max_size=100))
def test_a_hash_is_of_one_payload(head: Head, payload: bytes, other: bytes) -> None:
    assert (frame_hash(head.encode(), payload) == frame_hash(head.encode(), other)) == (payload == other)


@given(st.lists(st.builds(Seal, st.integers(0, 2**64 - 1), _HASH, _HASH, _HASH)))
def test_seals_come_back(seals: list[Seal]) -> None:
    assert decode_seals(encode_seals(seals)) == seals


@given(st.builds(Tip, _SEQ, _SEQ, _HASH))
def test_a_tip_comes_back(tip: Tip) -> None:
    assert Tip.decode(tip.encode()) == tip


@pytest.mark.parametrize("text", ["", "1 2", "1 2 abcd", f"x 2 {'00' * 32}", f"1 2 {'zz' * 32}"])
def test_other_text_is_no_tip(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        Tip.decode(text)


def test_a_chain_depends_on_everything_before() -> None:
    first = ChainEnd()
    _, one = first.follow(Draft(Header(1, 1, 1, 1, 1, 1), b"a"), settled=0)
    _, other = first.follow(Draft(Header(1, 1, 1, 1, 1, 1), b"b"), settled=0)
    same = Draft(Header(1, 2, 1, 2, 2, 2), b"same")
    assert one.follow(same, settled=1)[1].hash != other.follow(same, settled=1)[1].hash
    assert one.tip == Tip(1, 2, one.hash)


def _segment(number: int, first: int, before: bytes, after: bytes, *, merged: bool = False) -> Segment:
    return Segment(number, merged, first, first + 1, first, first + 1, 0, 0, 0, 100, before, after)


def _found(segment: Segment, *seals: Seal) -> Inspection:
    own = segment.after if not segment.merged else b"own"
    return Inspection(segment.number, segment.before, segment.after, own, 1, segment.next_seq, seals)


def test_a_dropped_segment_and_two_that_changed_places() -> None:
    hashes = [NO_HASH, b"1", b"2", b"3"]
    one, two, three = (_segment(n, n, hashes[n - 1], hashes[n]) for n in (1, 2, 3))
    assert find_faults([one, two, three], [_found(s) for s in (one, two, three)]) == []
    (fault,) = find_faults([one, three], [_found(one), _found(three)])
    assert (fault.kind, fault.at.segment, fault.frame, fault.next_seq) == (FaultKind.MISSING, 3, 3, 2)
    assert len(find_faults([one, three, two], [_found(s) for s in (one, three, two)])) == 2


def test_a_merged_segment_needs_the_newest_seal() -> None:
    merged, live = _segment(3, 1, NO_HASH, b"1", merged=True), _segment(2, 2, b"1", b"2")
    right, wrong = Seal(3, b"own", NO_HASH, b"1"), Seal(3, b"foreign", NO_HASH, b"1")
    assert find_faults([merged, live], [_found(merged), _found(live, right)]) == []
    assert find_faults([merged, live], [_found(merged), _found(live, wrong, right)]) == []
    for seals in ((), (wrong,), (right, wrong)):
        (fault,) = find_faults([merged, live], [_found(merged), _found(live, *seals)])
        assert (fault.kind, fault.at.segment) == (FaultKind.UNSEALED, 3)
