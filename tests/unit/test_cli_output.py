"""Tables on terminals of any width."""

from __future__ import annotations

import re
import sys

import pytest

from i2core.cli.output import table

_STYLE = re.compile("\x1b\\[[0-9;]*m")
HEADS = ("rule", "state", "cause")
ROWS = [("one", "stopped", "bak144: " + "a long story " * 12), ("other", "replicating", "-")]


def _printed(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, columns: int | None) -> list[str]:
    if columns is not None:
        monkeypatch.setenv("COLUMNS", str(columns))
        monkeypatch.setenv("TERM", "xterm")  # rich takes any dumb terminal for one of 80 columns
        monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    table(HEADS, ROWS)
    return [_STYLE.sub("", line) for line in capsys.readouterr().out.splitlines()]


@pytest.mark.parametrize("columns", [20, 60, 80])
def test_the_widest_column_folds_and_the_others_stay_whole(
    columns: int, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = _printed(capsys, monkeypatch, columns)
    assert lines[0].split() == list(HEADS)
    assert lines[1].split()[:3] == ["one", "stopped", "bak144:"]
    assert lines[-1].split() == ["other", "replicating", "-"]
    assert "".join(line[20:].strip() for line in lines[1:-1]).count("story") == 12
    assert max(map(len, lines)) <= max(columns, 52)


def test_a_pipe_gets_one_line_a_row(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert len(_printed(capsys, monkeypatch, None)) == 3
