"""The logbook: bounded files, limited rate, lines that cannot be forged."""

from __future__ import annotations

import io
import json
from pathlib import Path

import pytest

from i2core.api import Code
from i2core.node import logbook as module
from i2core.node.logbook import BURST, WINDOW_S, Logbook, RateLimit


class Clock:
    """Time that moves when told."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def _json_lines(directory: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in (directory / "node.jsonl").read_text().splitlines()]


def test_a_line_for_people_and_one_for_programs(tmp_path: Path) -> None:
    err = io.StringIO()
    book = Logbook(tmp_path / "log", stderr=err)
    book.say("data1", Code.REPLICA_FULL, "no space\nfor \x1b[31m b\udcff")
    book.close()
    assert err.getvalue().count("\n") == 1
    assert "data1: [3606] no space\\nfor \\x1b[31m b\\udcff" in err.getvalue()
    (entry,) = _json_lines(tmp_path / "log")
    assert entry["line"] == "no space\nfor \x1b[31m b\udcff"
    assert (entry["rule"], entry["code"], entry["level"]) == ("data1", 3606, "error")
    assert str(entry["time"])[10] == "T"


def test_a_line_without_code_or_rule(tmp_path: Path) -> None:
    err = io.StringIO()
    book = Logbook(tmp_path, stderr=err)
    book.say("", None, "100 % up, %s")
    book.close()
    assert err.getvalue().endswith(" 100 % up, %s\n")
    assert _json_lines(tmp_path)[0]["code"] is None


def test_repeats_are_limited_and_counted(tmp_path: Path) -> None:
    clock, err = Clock(), io.StringIO()
    book = Logbook(None, stderr=err, limit=RateLimit(clock))
    for _ in range(BURST + 7):
        book.say("a", Code.NETWORK, "refused")
    book.say("b", Code.NETWORK, "another rule")
    book.say("a", Code.CAPTURE_LOST, "another code")
    assert len(err.getvalue().splitlines()) == BURST + 2
    clock.now_s += WINDOW_S
    book.say("a", Code.NETWORK, "refused")
    assert err.getvalue().splitlines()[-1].endswith("refused (7 more of this kind were left out)")


def test_files_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "FILE_BYTES", 2000)
    monkeypatch.setattr(module, "BURST", 10**6)
    book = Logbook(tmp_path, stderr=io.StringIO())
    for number in range(500):
        book.say("a", None, f"line {number}")
    book.close()
    files = sorted(tmp_path.iterdir())
    assert len(files) == module.FILES
    assert all(file.stat().st_size <= 2000 for file in files)
    assert _json_lines(tmp_path)[-1]["line"] == "line 499"


def test_a_full_log_disk_is_no_reason_to_fail(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "node.jsonl").symlink_to("/dev/full")
    err = io.StringIO()
    book = Logbook(tmp_path, stderr=err)
    book.say("a", None, "still said")
    assert "still said" in err.getvalue()
    assert capfd.readouterr().err == ""
