"""The output of ``i2 rule status`` for a rule with a problem, and its exit code."""

from __future__ import annotations

import re
import sys
from typing import Any

import attrs
import pytest

from i2core.api import Code
from i2core.cli import rule as module
from i2core.cli.main import run
from i2core.rule.life.status import RuleStatus, State

WELL = RuleStatus(
    name="data1", state=State.REPLICATING, reason="none", mirrored=True, seq=1_234_567, capture="fanotify"
)
RPO = {"rpo_seconds": None, "rpo_actual_seconds": 0.0, "rpo_broken": False}


@pytest.fixture(autouse=True)
def english(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("I2_LANG", "en")


def _status(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], **changes: Any) -> tuple[int, str]:
    """Exit code and table of a rule like `WELL` but for the changes."""
    document = attrs.evolve(WELL, **changes).as_json() | RPO | {"role": "work", "peer": "bak", "history": None}
    monkeypatch.setattr(module, "_rules", lambda *where: [document])
    return run(["rule", "status"]), capsys.readouterr().out


def _cells(table: str) -> dict[str, str]:
    head, row = [re.split(r" {2,}", line.strip()) for line in table.splitlines()[:2]]
    return dict(zip(head, row, strict=True))


def test_a_rule_that_is_well(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    code, table = _status(monkeypatch, capsys)
    cells = _cells(table)
    assert code == 0
    assert (cells["lag"], cells["skipped"], cells["unverified"], cells["cause"]) == ("0.0 s", "0", "0", "-")


@pytest.mark.parametrize(
    ("met", "full_in", "shown"),
    [(True, None, "met"), (False, None, "not met"), (True, 9 * 3600 + 5, "full in 9 h"), (False, 90 * 3600, "not met")],
)
def test_a_history_that_keeps_less_than_promised(
    met: bool, full_in: int | None, shown: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = {"objective_met": met, "full_in_seconds": full_in}
    document = WELL.as_json() | RPO | {"role": "backup", "peer": "web1", "history": found}
    monkeypatch.setattr(module, "_rules", lambda *where: [document])
    assert run(["rule", "status"]) == 0
    assert _cells(capsys.readouterr().out)["history"] == shown


@pytest.mark.parametrize(("key", "head"), [("skipped_count", "skipped"), ("doubtful", "unverified")])
def test_unverified_objects_are_shown(
    key: str, head: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, table = _status(monkeypatch, capsys, **{key: 3})
    assert (code, _cells(table)[head]) == (3, "3")
    assert "i2 node log --rule data1" in table


@pytest.mark.parametrize(
    "changes",
    [
        {"state": State.STOPPED, "reason": "user"},
        {"state": State.LISTING, "mirrored": False},
        {"state": State.ABNORMAL, "reason": "link", "mirrored": False},
    ],
)
def test_an_unknown_lag_is_none(
    changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    code, table = _status(monkeypatch, capsys, **changes)
    assert (code, _cells(table)["lag"]) == (0, "-")


def test_a_fault_ends_it_with_3(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    code, table = _status(
        monkeypatch, capsys, state=State.STOPPED, reason="fault", code=Code.REPLICA_FULL, obj="/r/a", cause="no space"
    )
    assert code == 3
    assert "/r/a: no space → free space" in table


@pytest.mark.parametrize("columns", [40, 60, 80, 100, 120])
def test_it_fits_the_terminal(
    columns: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    _, table = _status(monkeypatch, capsys, doubtful=12_345, code=Code.NETWORK, cause="the connection broke " * 5)
    lines = [re.sub("\x1b\\[[0-9;]*m", "", line).rstrip() for line in table.splitlines()]
    assert max(map(len, lines)) <= columns
    if columns >= 60:
        assert {"rule", "state", "lag", "skipped", "unverified", "cause"} <= set(lines[0].split())
    assert ("durable" in lines[0]) is (columns > 100)


def test_figures_are_read_when_they_are_requested() -> None:
    status = attrs.evolve(WELL)
    status.look = lambda: setattr(status, "oldest_pending_ns", 1)
    assert status.as_json()["lag_seconds"] > 0
