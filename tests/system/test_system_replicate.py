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

from i2core.api import Code
from i2core.testing.trees import compare_trees

if TYPE_CHECKING:
    from .commands import Commands

LIVE = "replicating changes as they happen"


def test_once_makes_an_equal_tree_and_the_promised_document(i2: Commands, source: Path, tmp_path: Path) -> None:
    done = i2.run("replicate", source, tmp_path / "dst", "--once", "--json")
    assert done.returncode == 0, done.stderr
    assert f"[{Code.NETWORK.value}]" not in done.stderr, "it has ended in order"
    assert compare_trees(source, tmp_path / "dst") == []
    document = json.loads(done.stdout)
    assert list(document) == ["state", "files", "bytes", "sent_files", "sent_bytes", "wire_bytes", "seconds", "skipped"]
    assert (document["state"], document["skipped"]) == ("done", [])
    assert document["sent_files"] >= 48
    assert document["sent_bytes"] < 10_000_000, "holes are not content"
    left = [path.name for path in (tmp_path / "home").rglob("*") if path.is_file()]
    assert left in ([], ["secret"]), "--once leaves no state, but for what names an ordinary user's staging"


def test_a_second_run_sends_nothing(i2: Commands, source: Path, tmp_path: Path) -> None:
    assert i2.run("replicate", source, tmp_path / "dst", "--once").returncode == 0
    done = i2.run("replicate", source, tmp_path / "dst", "--once", "--json")
    assert (json.loads(done.stdout)["sent_files"], json.loads(done.stdout)["sent_bytes"]) == (0, 0)


def test_only_differences_are_sent_and_all_are_repaired(i2: Commands, source: Path, tmp_path: Path) -> None:
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
    assert f"[{Code.NETWORK.value}]" not in done.stderr, "it has ended in order"
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


def test_changes_while_it_was_down_are_replicated_at_the_next_start(i2: Commands, source: Path, tmp_path: Path) -> None:
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


def test_the_death_of_the_backup_process_is_reported(i2: Commands, source: Path, tmp_path: Path) -> None:
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


def test_an_interrupted_mirror_is_reported_and_resumed(i2: Commands, source: Path, tmp_path: Path) -> None:
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


def test_unreadable_files_are_skipped_and_reported(i2: Commands, tmp_path: Path) -> None:
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


def test_attributes_that_cannot_be_read_any_more_stay_on_the_replica(i2: Commands, tmp_path: Path) -> None:
    """Its owner has removed the rights: content and attributes are unknown, and the replica keeps the old ones."""
    source, replica = tmp_path / "src", tmp_path / "dst"
    (source / "dir").mkdir(parents=True)
    (source / "dir" / "inner").write_text("x")
    (source / "file").write_text("y")
    names = ("dir", "file")
    for name in names:
        os.setxattr(source / name, "user.note", name.encode())
    assert i2.run_without_override("replicate", source, replica, "--once").returncode == 0
    for name in names:
        (source / name).chmod(0)
    for again in range(2):
        done = i2.run_without_override("replicate", source, replica, "--once", "--json")
        assert done.returncode == 3, done.stderr
        summary = json.loads(done.stdout)
        assert str(source / "dir") in [skipped["path"] for skipped in summary["skipped"]]
        assert not again or summary["sent_files"] == 0
    assert (replica / "file").stat().st_mode & 0o7777 == 0
    for name in names:
        for side in (source, replica):
            (side / name).chmod(0o700)
        assert os.getxattr(replica / name, "user.note") == name.encode()
    assert (replica / "dir" / "inner").read_text() == "x"


def test_a_live_run_outlives_the_reader_of_its_output(i2: Commands, source: Path, tmp_path: Path) -> None:
    """Both streams lead into a pipe that nobody reads any more, as with ``2>&1 | head -1``."""
    read, write = os.pipe()
    with os.fdopen(write, "w") as pipe:
        process = i2.start_into(pipe, pipe, "replicate", source, tmp_path / "dst")
    with os.fdopen(read) as reader:
        assert any(LIVE in line for line in reader)
    (tmp_path / "dst" / "empty").unlink()  # records that cannot be applied are reported
    for number in range(20):
        (source / "empty").write_text(str(number))
        (source / f"later{number}").write_text("x")
        i2.eventually("it goes on", (tmp_path / "dst" / f"later{number}").exists)
    assert process.poll() is None
    assert i2.finish(process)[0] in (0, 3), "3: the last change was not durable yet"


def test_nothing_is_made_in_the_replica_of_another_run(i2: Commands, source: Path, tmp_path: Path) -> None:
    replica, log = tmp_path / "dst", tmp_path / "log"
    process = i2.start("replicate", source, replica, log=log)
    i2.eventually("it is live", i2.said(log, LIVE))
    before = replica.stat().st_mtime_ns
    (tmp_path / "other").mkdir()
    done = i2.run("replicate", tmp_path / "other", replica / "new", "--once", "--state-dir", tmp_path / "state")
    assert done.returncode == 1
    assert "error 3572" in done.stderr
    assert not (replica / "new").exists()
    assert replica.stat().st_mtime_ns == before
    i2.finish(process)


@pytest.mark.parametrize("held", [False, True])
def test_the_end_of_a_live_run_reports_whether_everything_arrived(held: bool, i2: Commands, tmp_path: Path) -> None:
    source, log = tmp_path / "src", tmp_path / "log"
    source.mkdir()
    for number in range(20):
        (source / f"f{number}").write_text("x")
    process = i2.start("replicate", source, tmp_path / "dst", "--json", log=log)
    i2.eventually("it is live", i2.said(log, LIVE))
    if held:
        source.rename(tmp_path / "elsewhere")
        i2.eventually("the loss of the root is held", i2.said(log, "[3603]"))
    code, output = i2.finish(process)
    assert (code, json.loads(output)["held"]) == ((3, True) if held else (0, False))
    assert ("held" in log.read_text().splitlines()[-2]) is held


@pytest.mark.parametrize("once", [True, False])
def test_a_mass_delete_ends_the_run_unless_it_is_intended(once: bool, i2: Commands, tmp_path: Path) -> None:
    source, replica = tmp_path / "src", tmp_path / "dst"
    (source / "d").mkdir(parents=True)
    for number in range(400):
        (source / "d" / f"f{number}").write_text("x")
    command: list[str | Path] = ["replicate", source, replica, "--orphans", "delete", "--state-dir", tmp_path / "state"]
    assert i2.run(*command, "--once").returncode == 0
    if once:
        shutil.rmtree(source / "d")
        held = i2.run(*command, "--once", "--json")
        assert (held.returncode, json.loads(held.stdout)["code"]) == (1, 3603)
        assert "--brake off" in held.stderr
    else:
        log = tmp_path / "log"
        process = i2.start(*command, log=log)
        i2.eventually("it is live", i2.said(log, LIVE))
        shutil.rmtree(source / "d")
        i2.eventually("it ends", lambda: process.poll() is not None)
        assert i2.finish(process)[0] == 1
        assert "[3603]" in log.read_text()
        assert "--brake off" in log.read_text()
    assert len(list((replica / "d").iterdir())) >= 80
    assert i2.run(*command, "--once", "--brake", "off").returncode == 0
    assert not list(replica.iterdir())


def test_the_state_directory_lies_outside_of_the_target(i2: Commands, source: Path, tmp_path: Path) -> None:
    (tmp_path / "dst").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "dst")
    for state in ("dst/state", "dst", "link/state"):
        wrong = i2.run("replicate", source, tmp_path / "dst", "--once", "--state-dir", tmp_path / state)
        assert wrong.returncode == 2
        assert "--state-dir" in wrong.stderr
    assert not any((tmp_path / "dst").iterdir())
