"""`i2 replicate` from a directory to a directory, as a user runs it."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from i2core.testing.trees import compare_trees

if TYPE_CHECKING:
    from .commands import Commands

LIVE = "replicating changes as they happen"


def test_once_makes_an_equal_tree_and_the_promised_document(i2: Commands, source: Path, tmp_path: Path) -> None:
    done = i2.run("replicate", source, tmp_path / "dst", "--once", "--json")
    assert done.returncode == 0, done.stderr
    assert compare_trees(source, tmp_path / "dst") == []
    document = json.loads(done.stdout)
    assert list(document) == ["state", "files", "bytes", "sent_files", "sent_bytes", "wire_bytes", "seconds", "skipped"]
    assert (document["state"], document["skipped"]) == ("done", [])
    assert document["sent_files"] >= 48
    assert document["sent_bytes"] < 10_000_000, "holes are not content"
    assert os.listdir(tmp_path / "home") == [], "--once leaves no state"


def test_a_second_run_sends_nothing(i2: Commands, source: Path, tmp_path: Path) -> None:
    assert i2.run("replicate", source, tmp_path / "dst", "--once").returncode == 0
    done = i2.run("replicate", source, tmp_path / "dst", "--once", "--json")
    assert (json.loads(done.stdout)["sent_files"], json.loads(done.stdout)["sent_bytes"]) == (0, 0)


def test_only_what_differs_is_sent_and_all_is_mended(i2: Commands, source: Path, tmp_path: Path) -> None:
    replica = tmp_path / "dst"
    assert i2.run("replicate", source, replica, "--once").returncode == 0
    (source / "d1" / "deep" / "f1").write_text("new content")
    (source / "empty").unlink()
    (source / "empty").mkdir()
    os.chmod(source / "d3", 0o700)
    (replica / "d4" / "deep" / "f4").unlink()
    (replica / "link").unlink()
    done = i2.run("replicate", source, replica, "--once", "--json")
    assert done.returncode == 0, done.stderr
    assert compare_trees(source, replica) == []
    assert json.loads(done.stdout)["sent_bytes"] < 10_000


def test_strict_finds_what_time_cannot_see(i2: Commands, source: Path, tmp_path: Path) -> None:
    replica = tmp_path / "dst"
    assert i2.run("replicate", source, replica, "--once").returncode == 0
    victim = replica / "d5" / "deep" / "f5"
    before = victim.stat()
    content = bytearray(victim.read_bytes())
    content[100] ^= 1
    victim.write_bytes(content)
    os.utime(victim, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert i2.run("replicate", source, replica, "--once", "--verify", "strict").returncode == 0
    assert compare_trees(source, replica) == []


@pytest.mark.parametrize("orphans", ["keep", "delete", "move"])
def test_orphans(orphans: str, i2: Commands, source: Path, tmp_path: Path) -> None:
    replica, aside = tmp_path / "dst", tmp_path / "aside"
    assert i2.run("replicate", source, replica, "--once").returncode == 0
    (source / "d1" / "deep" / "f1").unlink()
    shutil.rmtree(source / "d2")
    wish = f"move:{aside}" if orphans == "move" else orphans
    done = i2.run("replicate", source, replica, "--once", "--orphans", wish)
    assert done.returncode == 0, done.stderr
    kept = (replica / "d1" / "deep" / "f1", replica / "d2" / "deep" / "f2")
    assert [path.exists() for path in kept] == [orphans == "keep"] * 2
    if orphans != "keep":
        assert compare_trees(source, replica) == []
    found = {path.name for path in aside.rglob("*") if path.is_file()}
    assert ({"f1", "f2"} <= found) == (orphans == "move")


def test_filters(i2: Commands, source: Path, tmp_path: Path) -> None:
    (source / "notes.doc").write_text("x")
    (source / "scratch.tmp").write_text("x")
    replica = tmp_path / "dst"
    options: list[str | Path] = ["--exclude", "d1", "--exclude", source / "d2" / "deep", "--exclude-type", "*.tmp"]
    assert i2.run("replicate", source, replica, "--once", *options).returncode == 0
    gone = ("d1", "d2/deep", "scratch.tmp")
    assert [path for path in gone if (replica / path).exists()] == []
    assert [path for path in ("notes.doc", "d2", "d3/deep/f3") if not (replica / path).exists()] == []


def test_a_single_file(i2: Commands, source: Path, tmp_path: Path) -> None:
    done = i2.run("replicate", source / "big", tmp_path / "dst", "--once")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "dst" / "big").read_bytes() == (source / "big").read_bytes()
    assert os.listdir(tmp_path / "dst") == ["big"]


def test_compressed_and_encrypted_on_the_way(i2: Commands, source: Path, tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_bytes(os.urandom(32))
    key.chmod(0o600)
    (source / "text").write_bytes(b"the same again " * 200_000)
    done = i2.run("replicate", source, tmp_path / "dst", "--once", "--json", "--compress", "low", "--key-file", key)
    assert done.returncode == 0, done.stderr
    assert compare_trees(source, tmp_path / "dst") == []
    document = json.loads(done.stdout)
    assert document["wire_bytes"] < document["sent_bytes"] - 2_000_000


def test_live_changes_follow_and_ctrl_c_ends_cleanly(i2: Commands, source: Path, tmp_path: Path) -> None:
    replica, log = tmp_path / "dst", tmp_path / "log"
    command = i2.start("replicate", source, replica, "--json", "--state-dir", tmp_path / "st", log=log)
    i2.eventually("mirror", i2.said(log, LIVE))
    (source / "d1" / "deep" / "f1").write_text("changed")
    (source / "fresh" / "a" / "b").mkdir(parents=True)
    (source / "fresh" / "a" / "b" / "c").write_text("made at once")
    (source / "d2").rename(source / "moved")
    (source / "d3" / "deep" / "f3").unlink()
    with open(source / "big", "r+b") as big:
        big.seek(1_000_000)
        big.write(b"in the middle")
    with sqlite3.connect(source / "db") as database:
        database.execute("pragma journal_mode=wal")
        database.execute("create table t (x)")
        database.execute("insert into t values (1)")
    database.close()
    i2.eventually("the replica is equal", lambda: compare_trees(source, replica) == [])
    code, output = i2.finish(command)
    assert code == 0, log.read_text()
    assert json.loads(output)["state"] == "ended"
    assert "Traceback" not in log.read_text()
    assert compare_trees(source, replica) == []


def test_what_changed_while_it_was_down_is_mended_at_the_next_start(i2: Commands, source: Path, tmp_path: Path) -> None:
    replica, arguments = tmp_path / "dst", ("--state-dir", tmp_path / "st", "--orphans", "delete")
    first, second = tmp_path / "log1", tmp_path / "log2"
    command = i2.start("replicate", source, replica, *arguments, log=first)
    i2.eventually("mirror", i2.said(first, LIVE))
    assert i2.finish(command, signal.SIGTERM)[0] == 0
    shutil.rmtree(source / "d4")
    (source / "d5" / "deep" / "f5").write_text("while it was down")
    command = i2.start("replicate", source, replica, *arguments, log=second)
    i2.eventually("mirror", i2.said(second, LIVE))
    i2.eventually("the replica is equal", lambda: compare_trees(source, replica) == [])
    assert i2.finish(command)[0] == 0


def test_two_live_runs_of_one_pair_are_refused(i2: Commands, source: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    command = i2.start("replicate", source, tmp_path / "dst", "--state-dir", tmp_path / "st", log=log)
    i2.eventually("mirror", i2.said(log, LIVE))
    again = i2.run("replicate", source, tmp_path / "dst", "--state-dir", tmp_path / "st")
    assert again.returncode == 2
    assert str(command.pid) in again.stderr
    assert i2.finish(command)[0] == 0


def test_death_of_the_backup_process_is_told(i2: Commands, source: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    command = i2.start("replicate", source, tmp_path / "dst", "--state-dir", tmp_path / "st", log=log)
    i2.eventually("mirror", i2.said(log, LIVE))
    (child,) = i2.children(command.pid)
    os.kill(child, signal.SIGKILL)
    command.communicate(timeout=30)
    assert command.returncode == 1
    assert "SIGKILL" in log.read_text()
    assert "Traceback" not in log.read_text()


def test_the_backup_process_does_not_outlive_a_killed_command(i2: Commands, source: Path, tmp_path: Path) -> None:
    log = tmp_path / "log"
    command = i2.start("replicate", source, tmp_path / "dst", "--state-dir", tmp_path / "st", log=log)
    i2.eventually("mirror", i2.said(log, LIVE))
    (child,) = i2.children(command.pid)
    command.kill()
    assert i2.ended(child)


def _staging(replica: Path) -> bool:
    return any(name.startswith(".i2-") for name in os.listdir(replica))


def test_an_interrupted_mirror_is_told_and_gone_on_with(i2: Commands, source: Path, tmp_path: Path) -> None:
    with open(source / "huge", "wb") as huge:
        for _ in range(600):
            huge.write(os.urandom(1024) * 1024)
    log = tmp_path / "log"
    command = i2.start("replicate", source, tmp_path / "dst", "--once", "--json", log=log)
    staged = tmp_path / "dst"
    i2.eventually("the big file is under way", lambda: staged.exists() and _staging(staged))
    code, output = i2.finish(command)
    assert (code, output) == (130, "")
    assert "Traceback" not in log.read_text()
    assert i2.run("replicate", source, tmp_path / "dst", "--once").returncode == 0
    assert compare_trees(source, tmp_path / "dst") == []


def test_unreadable_files_are_skipped_and_named(i2: Commands, tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "open").write_text("x")
    (tmp_path / "src" / "closed\nfile").write_text("y")
    (tmp_path / "src" / "closed\nfile").chmod(0)
    arguments = ("replicate", tmp_path / "src", tmp_path / "dst", "--once")
    done = i2.run_without_override(*arguments, "--json")
    assert done.returncode == 3, done.stderr
    (skipped,) = json.loads(done.stdout)["skipped"]
    assert skipped["path"].endswith("closed\nfile")
    assert skipped["code"] == 3559
    assert "closed\\nfile" in done.stderr
    assert (tmp_path / "dst" / "open").read_text() == "x"


def test_on_error_stop_ends_at_an_unreadable_file(i2: Commands, tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "closed").write_text("y")
    (tmp_path / "src" / "closed").chmod(0)
    done = i2.run_without_override(
        "replicate", tmp_path / "src", tmp_path / "dst", "--once", "--json", "--on-error", "stop"
    )
    assert done.returncode == 1, done.stderr
    assert json.loads(done.stdout)["code"] == 3559
    assert "closed" in done.stderr
