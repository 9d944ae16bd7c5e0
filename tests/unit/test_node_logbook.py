"""The logbook: bounded files, limited rate, lines that cannot be forged, cursors that lose nothing."""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from i2core.api import Code, StopRule
from i2core.node.logs import log_files
from i2core.node.logs.logbook import RECENT, START, Logbook
from i2core.node.logs.repeats import BURST, PEER_CHARS, PEER_LINES, WINDOW_S, Kind, RepeatLimit
from i2core.rule.life.report import Line, of_peer
from i2core.wire.free_text import TEXT_CHARS

DAY_S = 86_400.0


class Clock:
    """A clock that a test sets."""

    def __init__(self, now_s: float = 1_790_000_000.0) -> None:
        self.now_s = now_s

    def __call__(self) -> float:
        return self.now_s


class AnyNumber(RepeatLimit):
    """Lets everything through."""

    def admit(self, kind: Kind, chars: int) -> bool:
        return True


def open_book(directory: Path | None, **changes: Any) -> Logbook:
    options: dict[str, Any] = {"stderr": io.StringIO(), "limit": AnyNumber()}
    return Logbook(directory, **options | changes)


def json_lines(directory: Path) -> list[dict[str, Any]]:
    files = [*sorted(directory.glob("node.0*.jsonl")), directory / "node.jsonl"]
    return [json.loads(line) for file in files for line in file.read_bytes().splitlines()]


def lines_of(events: list[dict[str, Any]]) -> list[str]:
    return [event["line"] for event in events]


# ------------------------------------------------------------------------------------------ what is written


def test_a_line_for_people_and_one_for_programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("I2_LANG", "en")
    err = io.StringIO()
    book = open_book(tmp_path / "log", stderr=err, clock=Clock())
    book.say("data1", Code.REPLICA_FULL, "no space\nfor \x1b[31m b\udcff")
    book.close()
    assert err.getvalue() == (
        "2026-09-21T14:13:20Z data1: [3606] no space\\nfor \\x1b[31m b\\udcff (next: free space, then start the rule)\n"
    )
    (entry,) = json_lines(tmp_path / "log")
    assert entry["line"] == "no space\nfor \x1b[31m b\udcff"
    assert (entry["rule"], entry["code"], entry["level"]) == ("data1", 3606, "error")
    assert entry["time"] == "2026-09-21T14:13:20.000Z"
    assert (entry["cause"], entry["cause_zh"]) == (Code.REPLICA_FULL.text.cause_en, Code.REPLICA_FULL.text.cause_zh)


def test_the_parts_of_a_line_are_fields_and_the_next_step_is_there_in_both_languages(tmp_path: Path) -> None:
    book = open_book(tmp_path)
    error = StopRule("no space left", code=Code.REPLICA_FULL, obj="/backup/x")
    book.say("data1", error.code, Line.of(error, "stopped: ", state="stopped"))
    book.close()
    (entry,) = json_lines(tmp_path)
    assert (entry["object"], entry["cause"], entry["state"]) == ("/backup/x", "no space left", "stopped")
    assert (entry["next_step"], entry["next_step_zh"]) == ("free space, then start the rule", "释放空间后启动规则")


def test_people_read_their_own_language(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("I2_LANG", "zh")
    err = io.StringIO()
    open_book(None, stderr=err).say("数据", Code.REPLICA_FULL, "/backup: no space")
    assert err.getvalue().endswith("数据: [3606] 灾备机磁盘已满：/backup: no space （下一步：释放空间后启动规则）\n")


def test_a_line_without_code_or_rule(tmp_path: Path) -> None:
    err = io.StringIO()
    book = open_book(tmp_path, stderr=err)
    book.say("", None, "100 % up, %s")
    book.close()
    assert err.getvalue().endswith("Z 100 % up, %s\n")
    entry = json_lines(tmp_path)[0]
    assert (entry["code"], entry["level"], entry["cause"]) == (None, "info", "100 % up, %s")


def test_repeats_are_limited_and_counted(tmp_path: Path) -> None:
    clock, err = Clock(), io.StringIO()
    book = Logbook(tmp_path, stderr=err, limit=RepeatLimit(clock))
    for _ in range(BURST + 7):
        book.say("a", Code.NETWORK, "refused")
    book.say("b", Code.NETWORK, "another rule")
    book.say("a", Code.CAPTURE_LOST, "another code")
    assert len(err.getvalue().splitlines()) == BURST + 2
    clock.now_s += WINDOW_S
    book.say("c", None, "something else")
    counted = [(entry["rule"], entry["code"], entry["line"]) for entry in json_lines(tmp_path)[-2:]]
    assert counted == [
        ("a", int(Code.NETWORK), "7 more lines of this kind were suppressed"),
        ("c", None, "something else"),
    ]
    for _ in range(BURST + 3):
        book.say("a", Code.NETWORK, "refused")
    book.close()
    assert json_lines(tmp_path)[-1]["line"] == "3 more lines of this kind were suppressed"


@pytest.mark.parametrize(("text", "pass_"), [("refused", PEER_LINES), ("x" * 10_000, PEER_CHARS // 10_000)])
def test_a_peer_cannot_drive_the_lines_of_others_out_with_invented_rules(tmp_path: Path, text: str, pass_: int) -> None:
    clock = Clock()
    book = Logbook(tmp_path, stderr=io.StringIO(), limit=RepeatLimit(clock))
    evil, web = of_peer(book.say, "evil"), of_peer(book.say, "web")
    for number in range(2200):
        evil(f"r{number}", Code.ILLEGAL_PATH, text)
    web("r0", Code.ILLEGAL_PATH, "of web")
    assert lines_of(json_lines(tmp_path)) == [text] * pass_ + ["of web"]
    clock.now_s += WINDOW_S
    book.say("c", None, "something else")
    assert lines_of(json_lines(tmp_path)[-2:]) == [
        f"{2200 - pass_} more lines about sessions of evil were suppressed",
        "something else",
    ]
    book.close()


def test_two_peers_with_a_rule_of_one_name_do_not_share_a_limit(tmp_path: Path) -> None:
    book = Logbook(tmp_path, stderr=io.StringIO(), limit=RepeatLimit(Clock()))
    for _ in range(BURST + 1):
        of_peer(book.say, "evil")("data", Code.NETWORK, "of evil")
    of_peer(book.say, "web")("data", Code.NETWORK, "of web")
    assert lines_of(json_lines(tmp_path))[-1] == "of web"
    book.close()


def test_a_line_has_a_longest_length(tmp_path: Path) -> None:
    book, long = open_book(tmp_path), "x" * 100_000
    book.say("a", Code.NETWORK, Line(long, obj=long, cause=long, next_step=long))
    book.close()
    (entry,) = json_lines(tmp_path)
    assert {len(entry[key]) for key in ("line", "object", "cause", "next_step")} == {TEXT_CHARS}


# ------------------------------------------------------------------------------------------ how long it is kept


@pytest.fixture
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(log_files, "FILE_BYTES", 4000)
    monkeypatch.setattr(log_files, "TOTAL_BYTES", 20_000)


@pytest.mark.usefixtures("small_files")
def test_files_are_bounded(tmp_path: Path) -> None:
    book = open_book(tmp_path)
    for number in range(500):
        book.say("a", None, f"line {number}")
    book.close()
    files = list(tmp_path.iterdir())
    assert all(file.stat().st_size <= 4000 for file in files)
    assert 15_000 < sum(file.stat().st_size for file in files) <= 20_000
    assert json_lines(tmp_path)[-1]["line"] == "line 499"


def test_what_is_older_than_its_days_is_removed(tmp_path: Path) -> None:
    clock = Clock()

    def say_and_age(line: str) -> None:
        book.say("", None, line)
        os.utime(tmp_path / "node.jsonl", (clock.now_s, clock.now_s))

    book = open_book(tmp_path, keep_days=7, clock=clock)
    for day in range(10):
        say_and_age(f"day {day}")
        clock.now_s += DAY_S
    assert [entry["line"] for entry in json_lines(tmp_path)] == [f"day {day}" for day in range(2, 10)]
    clock.now_s += 5 * DAY_S
    book.tidy()
    assert [entry["line"] for entry in json_lines(tmp_path)] == ["day 8", "day 9"]
    book.close()
    clock.now_s += 90 * DAY_S
    open_book(tmp_path, keep_days=7, clock=clock).close()
    assert json_lines(tmp_path) == []


def test_a_full_log_disk_is_no_reason_to_fail(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "node.jsonl").symlink_to("/dev/full")
    err = io.StringIO()
    book = open_book(tmp_path, stderr=err)
    book.say("a", None, "still said")
    assert "still said" in err.getvalue()
    assert capfd.readouterr().err == ""


async def test_what_a_full_disk_did_not_take_is_followed_and_written_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    book = open_book(tmp_path)
    book.say("a", None, "first")
    with monkeypatch.context() as full:
        full.setattr(os, "write", lambda _fd, data: (_ for _ in ()).throw(OSError(28, "No space left on device")))
        book.say("a", Code.WORK_FULL, "second")
    assert lines_of((await book.events(START + 1)).events) == ["second"]
    assert lines_of(json_lines(tmp_path)) == ["first"]
    book.say("a", None, "third")
    assert lines_of(json_lines(tmp_path)) == ["first", "second", "third"]


def test_a_line_is_written_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    book = open_book(tmp_path)
    book.say("a", None, "first")
    write = os.write
    with monkeypatch.context() as full:
        full.setattr(os, "write", lambda fd, data: write(fd, data[:10]))
        book.say("a", None, "second")
    assert lines_of(json_lines(tmp_path)) == ["first"]


# ------------------------------------------------------------------------------------------ cursors


def test_cursors_grow_also_across_restarts(tmp_path: Path) -> None:
    for start in range(3):
        book = open_book(tmp_path)
        book.say("", None, f"up {start}")
        book.say("", None, f"down {start}")
        book.close()
    cursors = [entry["cursor"] for entry in json_lines(tmp_path)]
    assert cursors == [start * START + line for start in (1, 2, 3) for line in (1, 2)]


@pytest.mark.parametrize("torn", [b'{"cursor": 1000000003, "ti', b"\0" * 70_000, b"", b"not json\n"])
async def test_a_crash_leaves_half_a_line(tmp_path: Path, torn: bytes) -> None:
    book = open_book(tmp_path)
    book.say("", None, "first")
    book.say("", None, "x" * 100_000)
    book.close()
    whole = (tmp_path / "node.jsonl").read_bytes()
    (tmp_path / "node.jsonl").write_bytes(whole + torn)
    book = open_book(tmp_path)
    book.say("", None, "behind")
    page = await book.events()
    assert [entry["cursor"] for entry in page.events] == [START + 1, START + 2, 2 * START + 1]
    assert page.events[-1]["line"] == "behind"


@pytest.mark.usefixtures("small_files")
async def test_a_follower_misses_nothing_across_rotations_and_restarts(tmp_path: Path) -> None:
    seen: list[str] = []
    cursor = 0
    said = 0
    for _ in range(4):
        book = open_book(tmp_path)
        for _ in range(3):
            for _ in range(7):
                book.say("a", None, f"line {said}")
                said += 1
            page = await book.events(cursor, limit=3)
            while page.events:
                assert not page.lost
                seen += lines_of(page.events)
                page = await book.events(page.cursor, limit=3)
            cursor = page.cursor
        book.close()
    assert len(list(tmp_path.iterdir())) > 3
    assert seen == [f"line {number}" for number in range(said)]


@pytest.mark.usefixtures("small_files")
async def test_a_cursor_that_was_rotated_away_is_reported_with_the_oldest_one(tmp_path: Path) -> None:
    book = open_book(tmp_path)
    for number in range(RECENT + 500):
        book.say("a", None, f"line {number}")
    page = await book.events(START + 1, limit=2)
    assert page.lost
    assert page.oldest > START + 1000
    assert [entry["cursor"] for entry in page.events] == [page.oldest, page.oldest + 1]
    assert page.newest == START + RECENT + 500
    assert not (await book.events(page.cursor)).lost
    assert not (await book.events(None)).lost


@pytest.mark.parametrize("what", ["log", "log/node.jsonl"])
async def test_files_that_somebody_removes_are_created_again(what: str, tmp_path: Path) -> None:
    book = open_book(tmp_path / "log")
    for number in range(RECENT + 2):
        book.say("a", None, f"line {number}")
    (tmp_path / what).rename(tmp_path / "away")
    assert lines_of((await book.events(START + 1, limit=1)).events) == ["line 2"]
    book.say("a", None, "behind")
    assert lines_of(json_lines(tmp_path / "log")) == ["behind"]
    page = await book.events(START + 1, limit=2 * RECENT)
    assert page.lost and page.oldest == page.newest
    book.close()


async def test_a_cursor_of_another_log_is_reported(tmp_path: Path) -> None:
    book = open_book(tmp_path)
    book.say("a", None, "only")
    page = await book.events(9 * START, wait_s=3600)
    assert page.lost
    assert lines_of(page.events) == ["only"]


async def test_the_history_of_one_rule(tmp_path: Path) -> None:
    book = open_book(tmp_path)
    for number in range(100):
        book.say("ab"[number % 2], None, f"line {number}")
    page = await book.events(rule="b", limit=10)
    assert lines_of(page.events) == ["line 1", "line 3", "line 5", "line 7", "line 9"]
    assert page.cursor == START + 10
    assert (await book.events(rule="c", limit=10)).cursor == START + 100


async def test_a_follower_waits_until_something_happens(mock_clock: trio.testing.MockClock) -> None:
    book = open_book(None)
    book.say("a", None, "before")
    pages = []

    async def follow(after: int) -> None:
        pages.append(await book.events(after, wait_s=30, rule="a"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow, START + 1)
        await trio.testing.wait_all_tasks_blocked()
        book.say("b", None, "of another rule")
        await trio.testing.wait_all_tasks_blocked()
        assert pages == []
        await trio.to_thread.run_sync(book.say, "a", None, "from a thread")
    assert lines_of(pages[0].events) == ["from a thread"]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(follow, pages[0].cursor)
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(29)
        await trio.testing.wait_all_tasks_blocked()
        assert len(pages) == 1
        mock_clock.jump(1)
    assert (pages[1].events, pages[1].cursor) == ([], pages[0].cursor)


def test_reading_a_long_file_goes_straight_to_the_place(tmp_path: Path) -> None:
    files = log_files.LogFiles(tmp_path, 90)
    for number in range(1, 20_001):
        files.append(b'{"cursor": %d, "line": "%s"}\n' % (number, b"x" * (number % 300)))
    for after in (0, 1, 777, 12_345, 19_998):
        found = log_files.read_entries(tmp_path, after, 2)
        assert [entry["cursor"] for entry in found] == [after + 1, after + 2]
    assert log_files.read_entries(tmp_path, 20_000, 2) == []
    assert log_files.oldest_cursor(tmp_path) == 1
    files.close()
