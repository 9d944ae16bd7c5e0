"""`i2 replicate --inode-flags`, as a user runs it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from i2core.api import Code
from i2core.testing.trees import compare_trees

from .commands import I2, LIMIT_S

if TYPE_CHECKING:
    from .commands import Commands

pytestmark = pytest.mark.root
LIVE = "replicating changes as they happen"


def chattr(*arguments: str | Path) -> None:
    subprocess.run(["chattr", *arguments], check=True, capture_output=True)  # noqa: S603, S607


@pytest.fixture(autouse=True)
def _unpinned(tmp_path: Path) -> Iterator[None]:
    yield
    subprocess.run(["chattr", "-R", "-f", "-i", "-a", tmp_path], check=False, capture_output=True)  # noqa: S603, S607


@pytest.mark.parametrize("capture", ["fanotify", "inotify"])
def test_what_is_pinned_follows_the_source(capture: str, i2: Commands, tmp_path: Path) -> None:
    source, replica, log = tmp_path / "src", tmp_path / "dst", tmp_path / "log"
    (source / "dir").mkdir(parents=True)
    for name in ("file", "log", "plain"):
        (source / name).write_text("first line\n")
    chattr("+i", source / "file", source / "dir")
    chattr("+a", source / "log")
    arguments = ["--inode-flags", "--capture", capture, "--state-dir", str(tmp_path / "st")]
    command = i2.start("replicate", source, replica, *arguments, log=log)
    i2.eventually("mirror", i2.said(log, LIVE))

    def equal() -> bool:
        return compare_trees(source, replica, flags=True) == []

    assert equal()
    with open(source / "log", "a") as lines:
        lines.write("second line\n")
    i2.eventually("the log has grown", equal)
    chattr("-i", source / "dir")
    (source / "dir" / "new").write_text("new")
    i2.eventually("the directory has another entry", equal)
    chattr("-i", source / "file")
    (source / "file").unlink()
    i2.eventually("the file is gone", equal)
    chattr("+d", source / "plain")
    os.chmod(source / "plain", 0o600)
    i2.eventually("the flag has come with the mode", equal)
    assert i2.finish(command)[0] == 0
    assert f"[{Code.OPEN_REPLICA.value}]" not in log.read_text()


def test_a_lost_capability_is_logged_once(i2: Commands, tmp_path: Path) -> None:
    source, replica = tmp_path / "src", tmp_path / "dst"
    source.mkdir()
    for name in ("one", "two"):
        (source / name).write_text(name)
    chattr("+i", source / "one", source / "two")
    unable = ["setpriv", "--bounding-set", "-linux_immutable"]
    command = [*unable, *I2, "replicate", str(source), str(replica), "--once", "--json", "--inode-flags"]
    sent = []
    for _ in range(2):
        done = subprocess.run(  # noqa: S603
            command,
            env=i2.environment,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        sent.append((json.loads(done.stdout)["sent_files"], done.stderr.count(f"[{Code.ATTRIBUTE_UNSUPPORTED.value}]")))
    assert sent == [(2, 1), (0, 0)]
    assert compare_trees(source, replica) == []
