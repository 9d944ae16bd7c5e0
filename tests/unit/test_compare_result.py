"""The result of a compare, its places, its schedule, and the question about names."""

from __future__ import annotations

import datetime
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from i2core.api import Entry, Place, ProtocolError, UsageError
from i2core.compare.orphans import Row, browse, chosen, orphan_above
from i2core.compare.places import place_of
from i2core.compare.result import Item, Kind, Reason, Result, Totals, reasons_of
from i2core.config.model import ComparePlan, Pair
from i2core.node.daemon.compare_schedule import last_due
from i2core.wire.questions import (
    EXAMINED_MOST,
    Examined,
    ExamineQuery,
    decode_examined,
    encode_examined,
)

FILE = stat.S_IFREG | 0o644
_u32, _u64 = st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)
_times = st.integers(-(2**90), 2**90) | st.integers(-(2**63), 2**63 - 1)
examined = st.builds(Examined, _u32, _u32, _u32, _u64, _times, _u32, _u64, st.integers(0, 2**62))


@given(st.lists(st.none() | examined, max_size=5))
def test_what_is_there_travels(found: list[Examined | None]) -> None:
    assert decode_examined(encode_examined(found), len(found)) == found
    with pytest.raises(ProtocolError):
        decode_examined(encode_examined(found), len(found) + 1)


def test_the_question_about_names_is_bounded() -> None:
    query = ExamineQuery(1, b"d", [b"a", b"b"])
    assert ExamineQuery.decode(query.encode()) == query
    for bad in (ExamineQuery(0, b"../d", [b"a"]), ExamineQuery(0, b"d", [b"a/b"])):
        with pytest.raises(ProtocolError):
            ExamineQuery.decode(bad.encode())
    with pytest.raises(ProtocolError, match="exceeds the limit"):
        ExamineQuery.decode(ExamineQuery(0, b"d", [b"a"] * (EXAMINED_MOST + 1)).encode())


def test_a_result_is_paged_and_kept(tmp_path: Path) -> None:
    result = Result(tmp_path / "kept.db")
    extra = [Item(Kind.EXTRA, Place(0, b"d/%03d" % number), FILE, 0, number, 7) for number in range(30)]
    result.add([Item(Kind.DIFFERENT, Place(0, b"e"), FILE, 2**64 - 1, 0, 0, [Reason.SIZE, Reason.TIME], "why"), *extra])
    result.close()
    again = Result(tmp_path / "kept.db")
    first = again.page(most=11)
    assert len(first) == 11
    assert first[0][1].reasons == [Reason.SIZE, Reason.TIME] and first[0][1].cause == "why"
    rest = again.page(after=first[-1][0])
    assert [item for _, item in first[1:] + rest] == [item._replace(reasons=[]) for item in extra]
    again.mended([first[0][0]])
    assert again.page((Kind.DIFFERENT,))[0][1].mended
    beneath = again.beneath(Kind.EXTRA, Place(0, b"d"), after=b"d/010", most=3)
    assert [item.place.path for _, item in beneath] == [b"d/011", b"d/012", b"d/013"]
    assert [item for _, item in again.beneath(Kind.EXTRA, Place(0, b""))] == [
        item._replace(reasons=[]) for item in extra
    ]
    assert again.summed(Kind.EXTRA, Place(0, b"d")) == (30, sum(range(30)))
    assert again.beneath(Kind.EXTRA, Place(1, b"")) == []
    again.close()


def test_totals() -> None:
    totals = Totals(objects=10)
    totals.found[Kind.MISSING] = 2
    totals.found[Kind.EXTRA] = 3
    totals.found[Kind.UNSETTLED] = 1
    totals.mended = 2
    assert (totals.same, totals.differs) == (7, 3)


def test_reasons() -> None:
    entry = Entry(b"f", FILE, 1, 2, 3, 4, 1, xattrs=5)
    there = Examined(FILE, 1, 2, 3, 4, 1, 5)
    assert reasons_of(entry, there, owners=True, content=True) == [Reason.CONTENT]
    assert reasons_of(entry, there, owners=True, content=False) == [Reason.OTHER]
    other = Examined(FILE | 1, 9, 9, 9, 9, 2, 9)
    assert reasons_of(entry, other, owners=False, content=True) == [
        Reason.SIZE,
        Reason.TIME,
        Reason.MODE,
        Reason.XATTRS,
        Reason.LINKS,
    ]
    assert reasons_of(entry, there._replace(mode=stat.S_IFDIR), owners=True, content=False) == [Reason.TYPE]


def test_paths_of_people(tmp_path: Path) -> None:
    one, two = (Pair(source=b"/srv/%s" % name, target=b"/t/%s" % name) for name in (b"one", b"two"))
    assert place_of("/srv/one", [one, two]) == Place(0, b"")
    assert place_of("/srv/two/d/../f/", [one, two]) == Place(1, b"f")
    assert place_of("d/f", [one]) == Place(0, b"d/f")
    for path in ("d/f", "/srv/oneself", "/srv/one/../three", "/"):
        with pytest.raises(UsageError):
            place_of(path, [one, two])
    file = tmp_path / "file"
    file.touch()
    assert place_of(str(file), [Pair(source=bytes(file), target=b"/t/file")]) == Place(0, b"file")


DAY = datetime.datetime(2026, 12, 1, 2, 0)
HOUR, DAILY = datetime.timedelta(hours=1), datetime.timedelta(days=1)


@pytest.mark.parametrize(
    ("last", "now", "due"),
    [
        (DAY - HOUR, DAY - HOUR, None),
        (DAY - HOUR, DAY, DAY),
        (DAY, DAY + 23 * HOUR, None),
        (DAY - 3 * DAILY, DAY + HOUR, DAY),
        (DAY + 5 * HOUR, DAY + 6 * HOUR, None),
        (DAY + 5 * HOUR, DAY + DAILY, DAY + DAILY),
    ],
)
def test_a_compare_is_due_once(last: datetime.datetime, now: datetime.datetime, due: datetime.datetime | None) -> None:
    plan = ComparePlan(every_s=86400.0, start=DAY - 100 * DAILY)
    assert last_due(plan, last, now) == due


def test_a_compare_without_a_start_begins_after_one_interval() -> None:
    plan = ComparePlan(every_s=3600.0)
    assert last_due(plan, DAY, DAY + HOUR / 2) is None
    assert last_due(plan, DAY, DAY + HOUR) == DAY + HOUR
    assert last_due(ComparePlan(every_s=3600.0, start=DAY + DAILY), DAY, DAY + HOUR) is None


def test_orphans_are_browsed_by_directory() -> None:
    result = Result(None)
    paths = [b"a.b", b"a/x", b"a/y/z", b"a0", b"b", b"\xff\xff/\xff"]
    modes = {b"b": stat.S_IFDIR | 0o755}
    result.add([Item(Kind.EXTRA, Place(0, path), modes.get(path, FILE), 0, 10) for path in paths])
    result.add([Item(Kind.MISSING, Place(0, b"c"), FILE), Item(Kind.EXTRA, Place(1, b"d"), FILE)])
    rows = browse(result, Place(0, b""))
    assert [(row.place.path, row.is_orphan, row.is_directory, row.orphans, row.size) for row in rows] == [
        (b"a.b", True, False, 1, 10),
        (b"a", False, True, 2, 20),
        (b"a0", True, False, 1, 10),
        (b"b", True, True, 1, 10),
        (b"\xff\xff", False, True, 1, 10),
    ]
    assert [row.place.path for row in browse(result, Place(0, b"a"))] == [b"a/x", b"a/y"]
    for most in (1, 2):
        seen: list[Row] = []
        while page := browse(result, Place(0, b""), after=seen[-1].cursor if seen else b"", most=most):
            seen += page
        assert seen == rows
    assert orphan_above(result, Place(0, b"b/c/d")) == Place(0, b"b")
    assert orphan_above(result, Place(0, b"a")) is None
    assert [place.path for _, place in chosen(result, [Place(0, b"a"), Place(0, b"b")])] == [b"a/x", b"a/y/z", b"b"]
    for path in (b"b/c", b"c"):
        with pytest.raises(UsageError):
            chosen(result, [Place(0, path)])
    result.close()
