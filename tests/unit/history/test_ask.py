"""What people ask of a history, over a recorded one."""

from __future__ import annotations

import datetime
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from i2core.api import Kind, Place, Record, UsageError, in_thread
from i2core.history.ask import log_page as module
from i2core.history.ask.changes import changes, changes_json
from i2core.history.ask.log_page import OPS, LogQuery, log_page, record_json
from i2core.history.ask.span import Span, span_of
from i2core.history.ask.where import is_in, place_of, shown
from i2core.history.record.history import History
from i2core.testing.memory_replica import DIRECTORY, EMPTY_FILE

from .recorded import START_NS, Recorded

FILE = EMPTY_FILE._replace(xattrs=())
S = 10**9


def _at(second: int) -> int:
    return START_NS + second * S


def _records() -> list[Record]:
    """Seqs 1 to 6, one a second."""
    made = [
        Record(Kind.MKDIR, 0, b"d", meta=DIRECTORY),
        Record(Kind.CREATE, 0, b"d/f", meta=FILE, data=b"first"),
        Record(Kind.CREATE, 0, b"g", meta=FILE, data=b"other"),
        Record(Kind.WRITE, 0, b"d/f", data=b"again"),
        Record(Kind.RENAME, 0, b"d/f", other=b"h"),
        Record(Kind.REMOVE, 0, b"g"),
    ]
    return [record._replace(time_ns=_at(second)) for second, record in enumerate(made, 1)]


@asynccontextmanager
async def _history(directory: Path) -> AsyncIterator[History]:
    world = Recorded(random.Random(1), str(directory))  # noqa: S311 (a seed, not a secret)
    async with world.opened():
        for record in _records():
            await world.apply([record])
        yield world.history


async def _span(history: History) -> Span:
    return await in_thread(span_of, history, datetime.UTC)


async def _seqs(history: History, query: LogQuery) -> list[int]:
    page = await in_thread(log_page, history, query)
    return [record.seq for record in page.records]


async def test_which_moments_can_be_had(tmp_path: Path) -> None:
    async with _history(tmp_path) as history:
        span = await _span(history)
        assert (span.had.floor.seq, span.had.last.seq) == (0, 6)
        assert (span.had.floor.time_ns, span.had.last.time_ns) == (START_NS, _at(6))
        assert span.as_json()["last"]["time"] == "2023-11-14T22:13:26.000000+00:00"
        found = [(await in_thread(span.moment, history, START_NS + at)).seq for at in (0, S, 2 * S, 3 * S - 1, 99 * S)]
        assert found == [0, 1, 2, 2, 6]
        assert (await in_thread(span.numbered, history, 4)).time_ns == _at(4)
        with pytest.raises(UsageError):
            await in_thread(span.moment, history, START_NS - 1)


@pytest.mark.parametrize(
    ("query", "seqs"),
    [
        (LogQuery(), [6, 5, 4, 3, 2, 1]),
        (LogQuery(oldest_first=True), [1, 2, 3, 4, 5, 6]),
        (LogQuery(from_ns=_at(2), to_ns=_at(4)), [4, 3, 2]),
        (LogQuery(from_ns=_at(2), to_ns=_at(4), oldest_first=True), [2, 3, 4]),
        (LogQuery(to_ns=_at(0)), []),
        (LogQuery(from_ns=_at(9)), []),
        (LogQuery(ops=frozenset({OPS["remove"], OPS["rename"]})), [6, 5]),
        (LogQuery(place=Place(0, b"d")), [5, 4, 2, 1]),
        (LogQuery(place=Place(0, b"h")), [5]),
        (LogQuery(place=Place(0, b"")), [6, 5, 4, 3, 2, 1]),
        (LogQuery(place=Place(1, b"")), []),
        (LogQuery(after=4), [3, 2, 1]),
        (LogQuery(after=4, oldest_first=True), [5, 6]),
        (LogQuery(limit=2), [6, 5]),
    ],
)
async def test_a_page_of_the_log(tmp_path: Path, query: LogQuery, seqs: list[int]) -> None:
    async with _history(tmp_path) as history:
        assert await _seqs(history, query) == seqs


@pytest.mark.parametrize("oldest_first", [False, True])
async def test_pages_follow_each_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, oldest_first: bool) -> None:
    monkeypatch.setattr(module, "MOST_SEEN", 2)
    async with _history(tmp_path) as history:
        found, after, pages = list[int](), None, 0
        while pages < 99:
            query = LogQuery(place=Place(0, b"d"), oldest_first=oldest_first, after=after, limit=1)
            page = await in_thread(log_page, history, query)
            found += [record.seq for record in page.records]
            after, pages = page.after, pages + 1
            if after is None:
                break
        assert found == ([1, 2, 4, 5] if oldest_first else [5, 4, 2, 1])


async def test_an_object_is_followed_across_its_names(tmp_path: Path) -> None:
    async with _history(tmp_path) as history:
        oid = await in_thread(partial(_number, history, b"h"))
        assert await _seqs(history, LogQuery(oid=oid)) == [5, 4, 2]
        page = await in_thread(log_page, history, LogQuery(oid=oid, limit=1))
        (record,) = page.records
        told = record_json(record, "then")
        assert (told["op"], told["path"], told["other"]) == ("rename", "d/f", "h")


def _number(history: History, name: bytes) -> int:
    with history.reading:
        return history.past().number(0, [name], history.seq)


@pytest.mark.parametrize(
    ("first", "second", "found"),
    [
        (0, 6, {("created", "d"), ("created", "h"), ("changed", "")}),
        (2, 4, {("changed", "d/f"), ("created", "g"), ("changed", "")}),
        (4, 6, {("changed", "h"), ("removed", "g"), ("changed", ""), ("changed", "d")}),
        (6, 6, set()),
    ],
)
async def test_what_differs(tmp_path: Path, first: int, second: int, found: set[tuple[str, str]]) -> None:
    async with _history(tmp_path) as history:
        told = await in_thread(changes, history, first, second)
        assert not told.more
        differing = {(one["what"], one["path"]) for one in changes_json(told.found)}
        # Whether a directory differs in which names came and went depends on its times, which nobody has set here.
        assert {one for one in differing if one[1]} <= found
        assert {one for one in found if one[1] not in ("", "d") or one[0] != "changed"} <= differing


async def test_what_differs_beneath_a_path(tmp_path: Path) -> None:
    async with _history(tmp_path) as history:
        told = await in_thread(partial(changes, history, 4, 6, beneath=Place(0, b"d/f")))
        assert [one["before"] for one in changes_json(told.found)] == ["d/f"]
        told = await in_thread(partial(changes, history, 0, 6, most=1))
        assert (len(told.found), told.more) == (1, True)


async def test_a_file_that_was_saved_anew_is_told_once(tmp_path: Path) -> None:
    world = Recorded(random.Random(1), str(tmp_path))  # noqa: S311 (a seed, not a secret)
    async with world.opened():
        for data in (b"one", b"two"):
            await world.apply([Record(Kind.CREATE, 0, b"f", meta=FILE, data=data)])
        found = changes_json((await in_thread(changes, world.history, 1, 2)).found)
    (told,) = [one for one in found if one["path"]]
    assert (told["what"], told["path"], told["before"], told["content"]) == ("replaced", "f", "f", True)


TARGETS = (b"/r/data", b"/r/data/inner", b"/r/logs")


@pytest.mark.parametrize(
    ("path", "targets", "place"),
    [
        (b"/r/data/a/b", TARGETS, Place(0, b"a/b")),
        (b"/r/data/inner/b", TARGETS, Place(1, b"b")),
        (b"/r/logs/", TARGETS, Place(2, b"")),
        (b"/r/data/../logs/x", TARGETS, Place(2, b"x")),
        (b"a//b/", TARGETS[:1], Place(0, b"a/b")),
        (b".", TARGETS[:1], Place(0, b"")),
    ],
)
def test_a_path_means_a_place(path: bytes, targets: tuple[bytes, ...], place: Place) -> None:
    assert place_of(path, targets) == place


def test_a_path_of_the_work_node_means_a_place() -> None:
    sources = (b"/home/data", b"/r", b"/var/log")
    assert place_of(b"/home/data/a", TARGETS, sources) == Place(0, b"a")
    assert place_of(b"/r/data/a", TARGETS, sources) == Place(0, b"a")
    assert place_of(b"/r/other", TARGETS, sources) == Place(1, b"other")


@pytest.mark.parametrize(
    ("path", "targets"),
    [(b"/r/dat", TARGETS), (b"a", TARGETS), (b"/", TARGETS), (b"../x", TARGETS[:1]), (b"a/../..", TARGETS[:1])],
)
def test_a_path_that_means_no_place(path: bytes, targets: tuple[bytes, ...]) -> None:
    with pytest.raises(UsageError):
        place_of(path, targets)


def test_places_within_others() -> None:
    within: Callable[[bytes, bytes], bool] = lambda path, top: is_in(Place(0, path), Place(0, top))  # noqa: E731
    assert within(b"a", b"a") and within(b"a/b", b"a") and within(b"a", b"") and within(b"", b"")
    assert not within(b"ab", b"a") and not within(b"", b"a")
    assert not is_in(Place(1, b"a"), Place(0, b""))
    assert shown(Place(0, b"x"), TARGETS) == "/r/data/x"
    assert shown(Place(0, b""), TARGETS) == "/r/data"
