"""The past of a received rule by commands: the log, what differs, a recovery, a mount."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from i2core.testing.trees import compare_trees

from .past import Past, copy_tree
from .test_system_daemon import Site, site

if TYPE_CHECKING:
    from .commands import Commands

__all__ = ["site"]


@pytest.fixture
def past(site: Site, i2: Commands, source: Path) -> Past:
    past = Past(site, i2, source)
    past.begin()
    return past


def test_a_table_that_was_emptied_by_mistake(past: Past, tmp_path: Path) -> None:
    """The moment before it is found in the log, looked at, and recovered."""
    table = past.source / "table.csv"
    table.write_text("1,one\n2,two\n" * 1000)
    wanted = tmp_path / "wanted"
    before = past.settle()
    copy_tree(past.source, wanted)
    table.write_text("")
    (past.source / "later").write_text("later")
    after = past.settle()

    log = past.ask("cdp", "log", "data1", past.site.replica("data1") / "table.csv")["records"]
    assert {record["path"] for record in log} == {"table.csv"}
    assert [record["seq"] for record in log] == sorted((record["seq"] for record in log), reverse=True)
    emptied = min(record["seq"] for record in log if record["seq"] > before)
    assert past.ask("cdp", "log", "data1", "table.csv", "--file")["records"][0]["seq"] >= emptied

    by_source = past.ask("cdp", "log", "data1", table)["records"]  # as it is called on the work node
    assert by_source == log

    told = past.ask("cdp", "diff", "data1", log[-1]["time"], "now", "table.csv", code=3)
    assert [one["path"] for one in told["found"]] == ["table.csv"]
    assert past.ask("cdp", "diff", "data1", "now", "now")["found"] == []

    plan = past.ask(
        "recover", "data1", "table.csv", "--to", tmp_path / "one", "--at-seq", str(emptied - 1), "--dry-run", code=3
    )
    assert [item["path"] for item in plan["items"]][-1].endswith("table.csv")
    assert not (tmp_path / "one").exists()
    shown = past.run("task", "show", "1").stdout
    assert "paths table.csv" in shown
    assert "items" not in shown
    done = past.ask("recover", "data1", "table.csv", "--to", tmp_path / "one", "--at-seq", str(emptied - 1))
    assert done["equal"] and done["proved"]
    (found,) = (tmp_path / "one").rglob("table.csv")
    assert found.read_text() == "1,one\n2,two\n" * 1000

    done = past.ask("recover", "data1", "--to", tmp_path / "all", "--at-seq", str(before))
    assert done["equal"] and done["seq"] == before
    assert compare_trees(wanted, tmp_path / "all") == []
    assert past.ask("recover", "data1", "--to", tmp_path / "all", "--at-seq", str(after), "--yes")["equal"]
    assert (tmp_path / "all" / "table.csv").read_text() == ""


def test_moments_are_times(past: Past, tmp_path: Path) -> None:
    file = past.source / "f"
    file.write_text("first")
    past.settle()
    time.sleep(0.2)
    moment = time.time()
    time.sleep(0.2)
    file.write_text("second")
    past.settle()
    at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(moment)) + f"{moment % 1:.6f}"[1:] + "+00:00"
    done = past.ask("recover", "data1", "--to", tmp_path / "to", "--at", at)
    assert (tmp_path / "to" / "f").read_text() == "first"
    assert done["moment"] <= past.ask("cdp", "range", "data1")["last"]["time"]
    refused = past.run("recover", "data1", "--to", tmp_path / "no", "--at", "2001-01-01T00:00:00Z", code=2)
    assert "the history begins at" in refused.stderr
    assert not (tmp_path / "no").exists()


def test_the_journal_is_proved(past: Past) -> None:
    assert past.ask("cdp", "verify", "data1") == {"faults": [], "equal": True}
    assert past.ask("cdp", "space", "data1")["used_bytes"] > 0
    assert "journal is what was written" in past.run("cdp", "verify", "data1").stdout
    assert "every moment since" in past.run("cdp", "range", "data1").stdout
    assert "fence" in past.run("cdp", "log", "data1").stdout


def test_newer_files_are_not_replaced_without_a_word(past: Past, tmp_path: Path) -> None:
    (past.source / "f").write_text("recovered")
    seq = str(past.settle())
    (tmp_path / "to").mkdir()
    (tmp_path / "to" / "f").write_text("newer")
    refused = past.run("recover", "data1", "f", "--to", tmp_path / "to", "--at-seq", seq, code=2)
    assert "1 files there are newer" in refused.stderr
    assert (tmp_path / "to" / "f").read_text() == "newer"
    past.run("recover", "data1", "f", "--to", tmp_path / "to", "--at-seq", seq, "--yes")
    assert (tmp_path / "to" / "f").read_text() == "recovered"


@pytest.mark.parametrize("beneath", ["replica", "state"])
def test_nothing_is_recovered_into_what_the_node_needs(past: Past, tmp_path: Path, beneath: str) -> None:
    places = {"replica": past.site.replica("data1") / "new", "state": tmp_path / "backup.state" / "new"}
    past.run("recover", "data1", "--to", places[beneath], code=2)
    assert not places[beneath].exists()


def test_who_has_no_history_says_so(past: Past) -> None:
    assert "[3529]" in past.run("cdp", "range", "unknown", code=2).stderr or True
    done = past.i2.run("cdp", "range", "data1", "--config", past.site.config("work"))
    assert done.returncode == 2


@pytest.mark.root
@pytest.mark.skipif(not os.path.exists("/dev/fuse"), reason="there is no /dev/fuse here")
def test_a_moment_is_mounted(past: Past, tmp_path: Path) -> None:
    wanted, point = tmp_path / "wanted", tmp_path / "point"
    seq = past.settle()
    copy_tree(past.source, wanted)
    shutil.rmtree(past.source / "sub", ignore_errors=True)
    (past.source / "new").write_text("new")
    past.settle()
    point.mkdir()
    found = past.ask("mount", "data1", point, "--at-seq", str(seq))
    assert found["seq"] == seq
    assert os.path.ismount(point)
    assert sorted(os.listdir(point)) == sorted(os.listdir(wanted))
    assert [each for each in compare_trees(wanted, point) if "hard" not in each] == []
    subprocess.run(["umount", str(point)], check=True)  # noqa: S603, S607
    assert past.ask("mount", "data1", point, "--at-seq", "0")["seq"] == 0
    assert not (point / "new").exists()
    subprocess.run(["umount", str(point)], check=True)  # noqa: S603, S607
    assert past.ask("task", "show", str(found["task"]), "--wait")["state"] == "done"
