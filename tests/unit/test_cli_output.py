"""Tables on terminals of any width."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence

import pytest

from i2core.cli.output import table

_STYLE = re.compile("\x1b\\[[0-9;]*m")
HEADS = ("rule", "state", "cause")
ROWS = [("one", "stopped", "bak144: " + "a long story " * 12), ("other", "replicating", "-")]


def _printed(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: int | None, spare: Sequence[str] = ()
) -> list[str]:
    if columns is not None:
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setenv("TERM", "xterm")  # rich takes any dumb terminal for one of 80 columns
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    table(HEADS, ROWS, spare=spare)
    return [_STYLE.sub("", line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize("columns", [52, 60, 80])
def test_the_widest_column_folds_and_the_others_stay_whole(
    columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = _printed(capsys, monkeypatch, columns)
    assert lines[0].split() == list(HEADS)
    assert lines[1].split()[:3] == ["one", "stopped", "bak144:"]
    assert lines[-1].split() == ["other", "replicating", "-"]
    assert "".join(line[20:].strip() for line in lines[1:-1]).count("story") == 12
    assert max(map(len, lines)) <= columns


@pytest.mark.parametrize("columns", [20, 40])
def test_where_that_is_not_enough_all_fold(
    columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = _printed(capsys, monkeypatch, columns)
    assert max(map(len, lines)) <= columns
    assert "".join(line.strip() for line in lines).count("story") >= 1


@pytest.mark.parametrize(("columns", "heads"), [(52, ["rule", "cause"]), (60, ["rule", "state", "cause"])])
def test_a_narrow_terminal_does_without_what_can_be_spared(
    columns: int, heads: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.modules[__name__], "ROWS", [(*row[:1], "a state of many words", row[2]) for row in ROWS])
    lines = _printed(capsys, monkeypatch, columns, spare=["gone", "state"])
    assert lines[0].split() == heads
    assert max(map(len, lines)) <= columns


def test_a_pipe_gets_one_line_a_row(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(_printed(capsys, monkeypatch, None)) == 3
