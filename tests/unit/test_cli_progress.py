"""Rates, estimates and plain lines of a running rule."""

from __future__ import annotations

import contextlib
import io
import os
import pty

import pytest
import trio
import trio.testing

from i2core.api import Code
from i2core.cli import words as module
from i2core.cli.progress import Progress, Rate, clock, eta_seconds
from i2core.rule.life.status import RuleStatus, State


def test_a_rate_looks_back_a_few_seconds_only() -> None:
    rate = Rate()
    assert rate.feed(0.0, 0) == 0.0
    assert rate.feed(1.0, 100) == 100.0
    for second in range(2, 10):
        last = rate.feed(float(second), 100)
    assert last == 0.0


def test_no_estimate_before_the_listing_is_done() -> None:
    status = RuleStatus(name="a", listed_bytes=1000, listed_files=10)
    assert eta_seconds(status, 10.0, 1.0) is None
    status.listing_done = True
    assert eta_seconds(status, 10.0, 1.0) == 100.0
    assert eta_seconds(status, 0.0, 1.0) is None
    empty_files = RuleStatus(name="a", listed_files=10, listing_done=True)
    assert eta_seconds(empty_files, 0.0, 2.0) == 5.0


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0:00"), (61, "1:01"), (3725, "1:02:05")])
def test_clock(seconds: float, text: str) -> None:
    assert clock(seconds) == text


def test_plain_lines_on_a_stream_that_is_not_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("I2_LANG", "en")
    out = io.StringIO()
    status = RuleStatus(name="a", state=State.MIRRORING, listed_files=1200, listed_bytes=10_000, checked_bytes=5000)
    progress = Progress(status, once=False, stream=out)
    progress._draw(None)
    progress.say("a", None, "only for the logbook")
    progress.say("a", Code.CAPTURE_LOST, "queue overflow\nforged line")
    progress._draw(None)
    status.state, status.mirrored = State.REPLICATING, True
    progress._draw(None)
    progress._draw(None)
    first, lost, live = out.getvalue().splitlines()
    assert first.startswith("i2: mirroring 50%, listed 1,200 files (10.0 kB)")
    assert lost == "i2: [3604] queue overflow\\nforged line"
    assert "replicating changes as they happen" in live


@pytest.mark.parametrize(
    ("language", "line"),
    [("en", "i2: [3608] f: owner"), ("zh", "i2: [3608] 灾备机无法设置某类属性：f: owner")],
)
def test_a_line_has_its_code_once_and_its_meaning_in_chinese(
    language: str, line: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("I2_LANG", language)
    out = io.StringIO()
    progress = Progress(RuleStatus(name="a"), once=True, stream=out)
    progress.say("a", Code.ATTRIBUTE_UNSUPPORTED, "f: owner [3608]")
    progress._draw(None)
    assert out.getvalue() == line + "\n"


def test_a_held_rule_has_not_lost_its_link(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("I2_LANG", "en")
    out = io.StringIO()
    Progress(RuleStatus(name="a", state=State.ABNORMAL, held=True), once=False, stream=out)._draw(None)
    assert out.getvalue().startswith("i2: held ")


def test_a_retried_object_is_skipped_once() -> None:
    status = RuleStatus(name="a")
    for code in (Code.OPEN_SOURCE, Code.READ_SOURCE, Code.OPEN_SOURCE):
        status.skip("/src/f", code, "Permission denied")
    assert (status.skipped_count, [item.code for item in status.skipped]) == (2, [3559, 3560])


class _NobodyReads(io.StringIO):
    def write(self, text: str) -> int:
        raise BrokenPipeError(32, "Broken pipe")


async def test_an_output_without_a_reader_ends_nothing(autojump_clock: trio.testing.MockClock) -> None:
    progress = Progress(RuleStatus(name="a", state=State.MIRRORING), once=False, stream=_NobodyReads())
    with trio.move_on_after(100) as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(progress.run)
            await trio.sleep(50)
            progress.say("a", Code.NETWORK, "kept for nobody")
    assert scope.cancelled_caught, "it must continue until it is stopped"


def test_unverified_objects_are_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("I2_LANG", "en")
    status = RuleStatus(name="a", state=State.REPLICATING, mirrored=True)
    progress = Progress(status, once=False, stream=io.StringIO())
    assert progress._figures(0.0).endswith("/s")
    status.skipped_count, status.doubtful = 2, 1
    assert progress._figures(1.0).endswith("/s, skipped 2, unverified 1")


async def test_the_last_lines_are_shown_at_the_end() -> None:
    out = io.StringIO()
    progress = Progress(RuleStatus(name="a"), once=True, stream=out)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(progress.run)
        await trio.testing.wait_all_tasks_blocked()
        progress.say("a", Code.NETWORK, "last words")
        nursery.cancel_scope.cancel()
    assert "last words" in out.getvalue()


async def test_a_terminal_gets_a_line_and_a_bar_and_is_given_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("I2_LANG", "en")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "100")
    master, slave = pty.openpty()
    status = RuleStatus(name="a", state=State.MIRRORING, listed_files=4, listed_bytes=1000, checked_bytes=500)
    try:
        with os.fdopen(slave, "w") as terminal:
            progress = Progress(status, once=False, stream=terminal)
            async with trio.open_nursery() as nursery:
                nursery.start_soon(progress.run)
                drawn = b""
                while b"mirroring 50%" not in drawn:
                    await trio.lowlevel.wait_readable(master)
                    drawn += os.read(master, 65536)
                progress.say("a", Code.CAPTURE_LOST, "[bold]not markup")
                nursery.cancel_scope.cancel()
        with contextlib.suppress(OSError):  # how a pseudo-terminal reports its end
            while more := os.read(master, 65536):
                drawn += more
    finally:
        os.close(master)
    assert b"[3604] [bold]not markup" in drawn
    assert drawn.count(b"\x1b[?25h") == drawn.count(b"\x1b[?25l") == 1, "the cursor is shown again"


@pytest.mark.parametrize("columns", [30, 80])
def test_the_estimate_is_seen_on_any_terminal(columns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    from rich.console import Console

    monkeypatch.setenv("I2_LANG", "en")
    status = RuleStatus(
        name="a",
        state=State.MIRRORING,
        listed_files=1_064_000,
        listed_bytes=10_800_000_000,
        checked_files=517_000,
        listing_done=True,
    )
    progress = Progress(status, once=False, stream=io.StringIO())
    progress._figures(0.0)
    status.checked_bytes = 5_000_000_000
    out = io.StringIO()
    Console(file=out, width=columns).print(progress._picture())
    lines = out.getvalue().splitlines()
    assert "B/s, left " in " ".join(line.strip() for line in lines)
    assert max(map(len, lines)) <= columns


def test_every_line_has_the_same_fields_in_both_languages() -> None:
    from string import Formatter

    for key, (en, zh) in module._WORDS.items():
        fields = [sorted(field for _, field, _, _ in Formatter().parse(text) if field) for text in (en, zh)]
        assert fields[0] == fields[1], key
        assert en
        assert zh
