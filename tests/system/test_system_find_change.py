"""The moment at which an answer about a file turned is found (`i2 cdp find-change`)."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from .past import Past
from .test_system_daemon import Site, site

if TYPE_CHECKING:
    from .commands import Commands

__all__ = ["site"]


@pytest.fixture
def past(site: Site, i2: Commands, source: Path) -> Past:
    past = Past(site, i2, source)
    past.begin()
    return past


def _save(path: Path, text: str) -> None:
    """As editors do: another object gets the name."""
    fresh = path.with_name("fresh")
    fresh.write_text(text)
    fresh.rename(path)


def _read(past: Past, to: Path, seq: int, path: str) -> str:
    past.run("recover", "data1", path, "--to", to / str(seq), "--at-seq", str(seq))
    return (to / str(seq) / path).read_text()


def test_an_answer_turned(past: Past, tmp_path: Path) -> None:
    table, source, start = past.source / "table.csv", past.source, ""
    for number in range(4):
        table.write_text(f"row {number}")  # in place
        past.settle()
        start = start if number else past.ask("cdp", "range", "data1")["last"]["time"]
    table.rename(source / "renamed.csv")
    past.settle()
    for number in range(4, 8):
        _save(source / "renamed.csv", f"row {number}" + (" POISON" if number >= 6 else ""))
        past.settle()

    found = past.ask("cdp", "find-change", "data1", "renamed.csv", "--text", "POISON")
    seq = found["change"]["seq"]
    assert found["answer"] is True
    assert found["looks"] <= 2 + found["versions"].bit_length()
    assert "POISON" in _read(past, tmp_path, seq, "renamed.csv")
    assert _read(past, tmp_path, seq - 1, "renamed.csv") == "row 5"
    shown = past.run("cdp", "find-change", "data1", source / "renamed.csv", "--text", "POISON").stdout
    assert f"the state before is --at-seq {seq - 1}" in shown

    # It is followed to the name that it had before.
    early = past.ask("cdp", "find-change", "data1", "renamed.csv", "--text", "row 0", "--from", start)
    assert early["answer"] is False
    assert _read(past, tmp_path, early["change"]["seq"] - 1, "table.csv") == "row 0"

    # A command decides; the version is in a private directory, and gone afterwards.
    log = tmp_path / "log"
    check = tmp_path / "check.py"
    check.write_text(
        "import os, sys\n"
        "path = sys.argv[1]\n"
        f"print(os.stat(os.path.dirname(path)).st_mode & 0o777, path, file=open({str(log)!r}, 'a'))\n"
        "sys.exit(125 if not os.path.exists(path) else 'POISON' in open(path).read())\n"
    )
    run = f"{sys.executable} {check}"
    by_command = past.ask("cdp", "find-change", "data1", "renamed.csv", "--run", run)
    assert (by_command["answer"], by_command["change"]) == (False, found["change"])
    modes = {line.split()[0] for line in log.read_text().splitlines()}
    assert modes == {str(0o700)}
    assert not any(os.path.exists(line.split()[1]) for line in log.read_text().splitlines())

    same = past.run("cdp", "find-change", "data1", "renamed.csv", "--text", "never", code=1)
    assert "the answer is the same at both ends" in same.stderr
    past.run("cdp", "find-change", "data1", "renamed.csv", code=2)
    past.run("cdp", "find-change", "data1", "renamed.csv", "--run", "no-such-program", code=2)


def test_a_file_that_is_gone(past: Past, tmp_path: Path) -> None:
    file = past.source / "gone"
    times = []
    for text in ("first", "second", "third"):
        file.write_text(text)
        past.settle()
        times.append(past.ask("cdp", "range", "data1")["last"]["time"])
    file.unlink()
    past.settle()
    removed = past.ask("cdp", "find-change", "data1", "gone", "--run", "test -e", "--from", times[0])
    assert (removed["answer"], removed["change"]["op"]) == (False, "remove")
    assert _read(past, tmp_path, removed["change"]["seq"] - 1, "gone") == "third"
    second = past.ask("cdp", "find-change", "data1", "gone", "--text", "second", "--to", times[1])
    assert second["answer"] is True
    assert _read(past, tmp_path, second["change"]["seq"], "gone") == "second"
