"""Names that only the replica has: exact for small directories, by number and sum for large ones."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from i2core.api import Entry, ProtocolError
from i2core.api.names import NAME_COST
from i2core.rule.backup.session.unlisted import ANSWER_BYTES, Room, Tally, Unlisted
from i2core.wire.listing import Chunk, ReceivedChunk, decode_survey, encode_survey

HERE = Entry(b"", 0o40755, 0, 0, 0, 0)
small = st.sets(st.integers(0, 30).map(lambda number: b"%d" % number))


def file(name: bytes) -> Entry:
    return Entry(name, 0o100644, 0, 0, 0, 0)


def shown(path: bytes, names: list[bytes], first: bool, last: bool) -> ReceivedChunk:
    (chunk,) = decode_survey(encode_survey([Chunk(0, path, HERE, first, last, False, [file(n) for n in names])]))
    return chunk


@given(small, small, st.integers(1, 4), st.booleans())
def test_what_only_the_replica_has(source: set[bytes], replica: set[bytes], step: int, large: bool) -> None:
    unlisted, room, names = Unlisted(), Room(), sorted(source)
    parts = [names[at : at + step] for at in range(0, len(names), step)] or [[]]
    for index, part in enumerate(parts):
        chunk = shown(b"d", part, index == 0, index == len(parts) - 1)
        tally = Tally()
        tally.add(replica)
        there = [file(name) if name in replica else None for name in part]
        found = unlisted.listed(chunk, there, tally if large else sorted(replica), room)
        if index < len(parts) - 1:
            assert not found.names
            assert not found.more
            # A directory in a single chunk comes in between.
            other = unlisted.listed(shown(b"e", [], True, True), [], [b"x"], room)
            assert other.names == [b"x"]
    assert found.names == ([] if large else sorted(replica - source))
    assert found.more == (large and bool(replica - source))


def test_an_answer_holds_the_orphans_of_some_directories() -> None:
    room, each = Room(), NAME_COST + 100
    names = [b"%0100d" % number for number in range(ANSWER_BYTES // each // 2)]
    assert [room.tell(names).more for _ in range(3)] == [False, False, True]
    assert room.tell([]).more is False


def test_a_listing_that_never_began_is_refused() -> None:
    with pytest.raises(ProtocolError):
        Unlisted().listed(shown(b"d", [], False, True), [], [], Room())
