"""``i2 node log``: the logbook as its files have it, with or without a daemon."""

from __future__ import annotations

import errno
import io
import json
import os
from pathlib import Path

import pytest

from i2core.api import Code
from i2core.cli.main import run
from i2core.node.logs import log_files
from i2core.node.logs.logbook import START, Logbook


@pytest.fixture
def state_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A node with six log lines from two runs."""
    monkeypatch.setenv("I2_LANG", "en")
    for start in ("first", "second"):
        book = Logbook(tmp_path / "log", stderr=io.StringIO())
        book.say("", None, f"{start} is up")
        book.say("data1", Code.REPLICA_FULL, "/backup/x: no space")
        book.say("data2", None, f"{start} \x1b[31m")
        book.close()
    return tmp_path


def test_lines_for_people(state_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["node", "log", "--state-dir", str(state_dir)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 6
    assert lines[0].startswith(f"{START + 1} 20")
    assert lines[4].endswith("Z data1: [3606] /backup/x: no space (next: free space, then start the rule)")
    assert "\\x1b[31m" in lines[5]


def test_one_document_for_programs(state_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["node", "log", "--json", "--after", str(START + 3), "--state-dir", str(state_dir)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert [(entry["cursor"], entry["code"]) for entry in found] == [
        (2 * START + 1, None),
        (2 * START + 2, 3606),
        (2 * START + 3, None),
    ]
    assert found[1]["next_step_zh"] == "释放空间后启动规则"


def test_one_rule(state_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["node", "log", "--rule", "data2", "--json", "--state-dir", str(state_dir)]) == 0
    assert [entry["rule"] for entry in json.loads(capsys.readouterr().out)] == ["data2", "data2"]


@pytest.mark.parametrize("more", [[], ["--json"], ["--after", "1"]])
def test_an_unknown_rule_is_reported(more: list[str], state_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["node", "log", "--rule", "data3", "--state-dir", str(state_dir), *more]) == 2
    printed = capsys.readouterr()
    assert "data3" in printed.err
    assert "data3" in printed.out if more == ["--json"] else printed.out == ""


def test_a_rule_without_log_lines_is_known_by_the_config(
    state_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = tmp_path / "node.toml"
    config.write_text(f'[node]\nname = "n"\nstate_dir = "{state_dir}"\n[[rule]]\nname = "data3"\n')
    assert run(["node", "log", "--rule", "data3", "--config", str(config)]) == 0
    assert capsys.readouterr() == ("", "")


def test_the_config_says_where_it_is(state_dir: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "node.toml"
    config.write_text(f'[node]\nname = "n"\nstate_dir = "{state_dir}"\n[work]\n')
    assert run(["node", "log", "--config", str(config)]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 6


def test_removed_lines_are_reported(
    state_dir: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_files, "FILE_BYTES", 1)
    monkeypatch.setattr(log_files, "TOTAL_BYTES", 900)
    book = Logbook(state_dir / "log", stderr=io.StringIO())
    book.say("", None, "third")
    book.say("", None, "fourth")
    book.close()
    assert run(["node", "log", "--after", str(START + 1), "--state-dir", str(state_dir)]) == 0
    printed = capsys.readouterr()
    oldest = log_files.oldest_cursor(state_dir / "log")
    assert printed.out.splitlines()[0].split()[0] == str(oldest)
    assert printed.err == f"i2: some lines after this cursor are gone; the oldest line left is {oldest}\n"


def test_a_directory_without_a_node_is_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["node", "log", "--state-dir", str(tmp_path / "mistyped")]) == 2
    assert str(tmp_path / "mistyped") in capsys.readouterr().err


def test_a_logbook_of_another_user(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: Path) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", str(path))

    monkeypatch.setattr(os, "listdir", refuse)
    assert run(["node", "log", "--state-dir", str(tmp_path)]) == 2
    line = capsys.readouterr().err
    assert str(tmp_path) in line and "sudo" in line


def test_a_node_that_has_not_run_has_no_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["node", "log", "--json", "--state-dir", str(tmp_path)]) == 0
    assert json.loads(capsys.readouterr().out) == []


def test_following_needs_a_daemon(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["node", "log", "--follow", "--after", "1", "--state-dir", str(tmp_path)]) == 1
    assert "i2 node run" in capsys.readouterr().err
