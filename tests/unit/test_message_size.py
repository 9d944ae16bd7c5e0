"""Each message fits into a frame, whatever its content."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from i2core.api import Kind, Meta, Record, StopRule
from i2core.api.inode_flags import EVERY_FLAG, UNREAD
from i2core.api.records import safe_name
from i2core.wire import message_size
from i2core.wire.batch import SeqCounter
from i2core.wire.encoding import PAIRS_LIMIT, RECORDS_LIMIT, decode_records, encode_records, encoded_bytes
from i2core.wire.frame import FRAME_LIMIT
from i2core.wire.message_size import MESSAGE_BYTES, Fill, batches, parts

LONGEST = b"/".join([b"d" * 255] * 255)
"""A path of 65,279 bytes."""

names = st.binary(min_size=1, max_size=300).filter(safe_name)
pairs = st.lists(st.tuples(names, st.binary(max_size=100)), max_size=4).map(tuple)
flags = st.sampled_from([UNREAD, 0, EVERY_FLAG])
metas = st.none() | st.builds(
    Meta, st.integers(0, 0xFFFF), st.just(0), st.just(0), st.integers(-(1 << 70), 1 << 70), st.none() | pairs, flags
)
records = st.builds(
    Record,
    st.sampled_from([kind for kind in Kind if kind not in (Kind.RENAME, Kind.LINK)]),
    st.just(0),
    names,
    st.just(b"") | names,
    metas,
    st.integers(0, 1 << 40),
    st.integers(0, 1 << 40),
    st.binary(max_size=500),
    st.booleans(),
)


@given(records)
def test_the_size_of_a_record_is_known_before_it_is_encoded(record: Record) -> None:
    assert len(encode_records([record])) == message_size.COUNT_BYTES + encoded_bytes(record)


@given(st.lists(records, max_size=30), st.integers(2_000, 6_000), st.sampled_from([0, 5]))
def test_batches_fit_and_hold_everything_in_order(made: list[Record], most: int, time_ns: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(message_size, "MESSAGE_BYTES", most)
        sealed = SeqCounter(7, lambda: time_ns).seal(made)
    told: list[Record] = []
    for batch in sealed:
        assert len(batch.raw) <= most
        assert batch.first_seq == 7 + len(told)
        told += decode_records(batch.raw)
        assert batch.last_seq == 6 + len(told)
    sent = [record._replace(time_ns=time_ns) for record in made]
    assert [record._replace(data=bytes(record.data)) for record in told] == sent


@pytest.mark.parametrize(
    "record",
    [
        Record(Kind.CREATE, 0, LONGEST),
        Record(Kind.SYMLINK, 0, b"a", other=b"t" * 4095),
        Record(Kind.RENAME, 0, LONGEST, other=LONGEST),
        Record(Kind.SETATTR, 0, b"a", meta=Meta(0, 0, 0, 0, ((b"user.a", bytes(60_000)),))),
        Record(Kind.WRITE, 0, b"a", data=bytes(1 << 20)),
        Record(Kind.MKDIR, 0, b"a"),
    ],
    ids=lambda record: record.kind.name,
)
def test_twelve_thousand_of_the_longest(record: Record) -> None:
    count = 12_000 if record.kind is not Kind.WRITE else 20
    told = 0
    for batch in batches([record] * count):
        assert message_size.COUNT_BYTES + sum(map(encoded_bytes, batch)) <= MESSAGE_BYTES < FRAME_LIMIT
        assert len(batch) <= RECORDS_LIMIT
        told += len(batch)
    assert told == count


def test_attributes_are_counted_too() -> None:
    half = tuple((b"%06d" % number, b"") for number in range(PAIRS_LIMIT // 2 + 1))
    record = Record(Kind.SETATTR, 0, b"a", meta=Meta(0, 0, 0, 0, half))
    assert [len(batch) for batch in batches([record, record])] == [1, 1]


def test_a_record_that_no_frame_can_carry_is_refused_by_name() -> None:
    with pytest.raises(StopRule) as caught:
        SeqCounter().seal([Record(Kind.WRITE, 0, b"dir/file", data=bytes(FRAME_LIMIT))])
    assert caught.value.code == 3625
    assert caught.value.obj == "dir/file"


def test_nothing_needs_no_batch() -> None:
    assert SeqCounter(5).seal([]) == []


def test_a_batch_is_full_by_its_paths_as_well() -> None:
    fill = Fill()
    fill.add([Record(Kind.RENAME, 0, LONGEST, other=LONGEST)] * 7)
    assert not fill.full
    fill.add([Record(Kind.RENAME, 0, LONGEST, other=LONGEST)] * 2)
    assert fill.full


@given(st.lists(st.integers(0, 20)), st.integers(1, 30), st.integers(1, 5))
def test_parts_keep_to_both_limits(sizes: list[int], most_size: int, most_items: int) -> None:
    runs = list(parts(sizes, lambda size: size, most_size=most_size, most_items=most_items))
    assert [size for run in runs for size in run] == sizes
    assert all(0 < len(run) <= most_items for run in runs)
    assert all(sum(run) <= most_size or len(run) == 1 for run in runs)
