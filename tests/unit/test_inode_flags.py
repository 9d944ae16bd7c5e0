"""Inode flags as one number: packed, compared as far as the replica supports them, and refused in rules without
them."""

from __future__ import annotations

import stat

import pytest

from i2core.api import Entry, Kind, Meta, ProtocolError, Record
from i2core.api.inode_flags import (
    CARRIED,
    EVERY_FLAG,
    LETTERS,
    NOCOW,
    PINS,
    UNREAD,
    flags_of,
    letters_of,
    packed,
    same_flags,
)
from i2core.rule.backup.session.compare import Comparison, same_meta
from i2core.rule.catalog.rows import row_of
from i2core.wire.encoding import decode_records, encode_records
from i2core.wire.listing import Chunk, Listed, Verdict, decode_survey, encode_survey

EXTENTS, IMMUTABLE = 0x80000, 0x10
FILE = Entry(b"f", stat.S_IFREG | 0o644, 0, 0, 100_000, 5, ino=1, dev=1, flags=0)


def test_flags_and_project_are_one_number() -> None:
    value = packed(IMMUTABLE | EXTENTS, 0xFFFFFFFF)
    assert (flags_of(value), value & 0xFFFFFFFF) == (IMMUTABLE, 0xFFFFFFFF)
    assert 0 <= packed(CARRIED, 0xFFFFFFFF) == EVERY_FLAG < 1 << 63, "it fits what keeps it"
    assert letters_of(PINS | EXTENTS) == "ai"
    assert letters_of(sum(LETTERS)) == "".join(sorted(LETTERS.values()))


@pytest.mark.parametrize(
    ("one", "other", "mask", "same"),
    [
        (packed(PINS, 1), packed(PINS, 1), EVERY_FLAG, True),
        (packed(PINS, 1), packed(PINS, 2), EVERY_FLAG, False),
        (packed(PINS, 1), packed(PINS, 2), CARRIED << 32, True),
        (packed(PINS, 1), packed(0, 1), EVERY_FLAG, False),
        (packed(PINS, 1), packed(0, 1), EVERY_FLAG & ~(PINS << 32), True),
        (packed(PINS, 1), 0, 0, True),
        (UNREAD, packed(PINS, 1), EVERY_FLAG, True),
        (packed(PINS, 1), UNREAD, EVERY_FLAG, True),
    ],
)
def test_only_what_can_be_held_is_compared(one: int, other: int, mask: int, same: bool) -> None:
    assert same_flags(one, other, mask) is same
    entry, there = FILE._replace(flags=one), FILE._replace(flags=other)
    assert same_meta(entry, there, owns=True, flags=mask) is same
    verdict = Comparison(owns=True).judge((0, b"f"), Listed(entry), there, flags=mask)
    assert verdict is (Verdict.SAME if same else Verdict.META)


def test_what_only_an_empty_file_can_get_needs_a_new_file() -> None:
    entry, flags = FILE._replace(flags=packed(NOCOW, 0)), EVERY_FLAG & ~(NOCOW << 32)
    empty = FILE._replace(size=0)
    for there, mask, verdict in (
        (FILE, EVERY_FLAG, Verdict.WHOLE),
        (FILE, flags, Verdict.SAME),
        (entry, EVERY_FLAG, Verdict.SAME),
    ):
        assert Comparison(owns=True).judge((0, b"f"), Listed(entry), there, flags=mask) is verdict
    assert Comparison(owns=True).judge((0, b"f"), Listed(entry._replace(size=0)), empty) is Verdict.META
    assert row_of(1, 0, b"f", empty).same_storage(entry)
    assert not row_of(1, 0, b"f", FILE).same_storage(entry)
    assert row_of(1, 0, b"f", FILE._replace(flags=UNREAD)).same_storage(entry)


def test_a_row_knows_what_was_sent() -> None:
    row = row_of(1, 0, b"f", FILE._replace(flags=packed(PINS, 1)))
    assert row.same_meta(FILE._replace(flags=packed(PINS, 1)))
    assert row.same_meta(FILE._replace(flags=UNREAD)), "the rule carries no flags now"
    assert not row.same_meta(FILE)


def test_a_record_brings_no_flag_that_is_not_carried() -> None:
    for flags in (EXTENTS << 32, 1 << 63, (EVERY_FLAG | EXTENTS << 32)):
        raw = encode_records([Record(Kind.SETATTR, 0, b"f", meta=Meta(0o100644, 0, 0, 0, flags=flags))])
        with pytest.raises(ProtocolError, match="inode flags"):
            decode_records(raw)


def test_a_listing_with_flags_has_those_of_its_directory() -> None:
    here = Entry(b"", stat.S_IFDIR | 0o755, 0, 0, 0, 0, flags=packed(PINS, 0x01020304))
    raw = encode_survey([Chunk(0, b"", here, True, True, False, [FILE])])
    assert decode_survey(raw)[0].here.flags == here.flags
    value = here.flags.to_bytes(8, "little")
    assert raw.count(value) == 1
    with pytest.raises(ProtocolError, match="inode flags"):
        decode_survey(raw.replace(value, b"\xff" * 8))
