"""Objects that cannot be read now but later are replicated, not skipped, and do not stop the rule."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import attrs
import pytest
import trio
import trio.lowlevel

from i2core.api import Change, Code, Lost, Op, Place
from i2core.config.model import MirrorOptions, OnError
from i2core.posix import file as file_module
from i2core.posix import tree as tree_module
from i2core.posix.errnos import PASSING
from i2core.posix.syscalls import open_beneath as real_open_beneath
from i2core.rule.live.replication import LiveReplication
from i2core.testing.trees import compare_trees

from .pair import Nodes, open_nodes, until


@attrs.define
class Failing:
    """Opening, reading or listing in the source fails with this errno, so many times or until it is reset."""

    error: int = 0
    left: int = 0
    failed: int = 0
    real: Any = os

    def check(self) -> None:
        """Counts a call."""
        if self.error and self.left:
            self.left -= 1
            self.failed += 1
            raise OSError(self.error, os.strerror(self.error))

    def open(self, *arguments: Any, **options: Any) -> int:
        """As `os.open`; the roots themselves can be opened."""
        if options:
            self.check()
        return os.open(*arguments, **options)

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)


@pytest.fixture
def failing(monkeypatch: pytest.MonkeyPatch) -> Iterator[Failing]:
    """The work node's reads fail through it."""
    found = Failing()

    def open_beneath(fd: int, path: bytes, flags: int) -> int:
        found.check()
        return real_open_beneath(fd, path, flags)

    for module in (tree_module, file_module):
        monkeypatch.setattr(module, "os", found)
    monkeypatch.setattr(tree_module, "open_beneath", open_beneath)
    monkeypatch.setattr("i2core.rule.work.restarts.AGAIN_S", (0.01, 1.0))
    monkeypatch.setattr("i2core.rule.source.passing.LONGEST_S", 0.3)
    monkeypatch.setattr("i2core.rule.repair.doubtful.RETRY_S", (0.05, 0.2))
    yield found
    found.error = 0


def fill(top: Path) -> None:
    """Creates a tree."""
    for name in ("a", "d/b", "d/e/c", "big"):
        (top / name).parent.mkdir(parents=True, exist_ok=True)
        (top / name).write_text(name)
    (top / "big").write_bytes(bytes(range(256)) * 8_000)


def work(nodes: Nodes) -> None:
    """Makes changes of all kinds, and reports them."""
    top = nodes.source
    (top / "a").write_text("changed, and longer")
    (top / "big").write_bytes(bytes(range(255, -1, -1)) * 8_000)
    (top / "d" / "b").unlink()
    (top / "d" / "e").rename(top / "moved")
    shutil.copytree(top / "moved", top / "fresh")
    nodes.capture.tell(
        Change(Op.MODIFY, Place(0, b"a")),
        Change(Op.MODIFY, Place(0, b"big")),
        Change(Op.REMOVE, Place(0, b"d/b")),
        Change(Op.RENAME, Place(0, b"d/e"), is_dir=True, to=Place(0, b"moved")),
        Change(Op.CREATE, Place(0, b"fresh"), is_dir=True),
    )


def equal(nodes: Nodes) -> bool:
    """True when the replica equals the source."""
    return compare_trees(nodes.source, nodes.target) == []


@pytest.mark.parametrize("error", PASSING, ids=errno.errorcode.get)
async def test_live_changes_arrive_when_it_has_passed(tmp_path: Path, failing: Failing, error: int) -> None:
    async with open_nodes(tmp_path) as nodes:
        fill(nodes.source)
        rule = nodes.rule(mirror=MirrorOptions(on_error=OnError.STOP))
        async with nodes.running(rule) as status:
            await until(lambda: equal(nodes))
            failing.error, failing.left = error, 40
            work(nodes)
            await until(lambda: failing.left == 0)
            await until(lambda: equal(nodes))
            assert status.skipped_count == 0
            nodes.capture.tell(Lost(Place(0, b""), "on purpose"))
            failing.left = 10
            (nodes.source / "d" / "unheard").write_text("x")
            (nodes.source / "a").unlink()
            await until(lambda: equal(nodes))
            await until(lambda: nodes_idle(nodes, status))
            assert status.doubtful == 0


@pytest.mark.parametrize("error", PASSING, ids=errno.errorcode.get)
@pytest.mark.parametrize("once", [True, False], ids=["once", "live"])
async def test_a_mirror_handles_it(tmp_path: Path, failing: Failing, error: int, once: bool) -> None:
    async with open_nodes(tmp_path) as nodes:
        fill(nodes.source)
        failing.error, failing.left = error, 6
        if once:
            status = await nodes.run()
            assert equal(nodes)
        else:
            async with nodes.running() as status:
                await until(lambda: equal(nodes))
        assert failing.left == 0
        assert status.skipped == []


async def test_a_lasting_one_is_reported_and_counts_as_lag(tmp_path: Path, failing: Failing) -> None:
    async with open_nodes(tmp_path) as nodes:
        fill(nodes.source)
        async with nodes.running() as status:
            await until(lambda: equal(nodes))
            failing.error, failing.left = errno.EMFILE, 1 << 30
            work(nodes)
            await until(lambda: Code.SHORT in nodes.codes())
            status.look()
            assert status.doubtful
            assert status.lag_seconds
            failing.error = 0
            await until(lambda: equal(nodes))
        assert nodes.codes().count(Code.SHORT) == 1


async def test_a_disk_error_is_reported_and_retried(tmp_path: Path, failing: Failing) -> None:
    async with open_nodes(tmp_path) as nodes:
        fill(nodes.source)
        async with nodes.running() as status:
            await until(lambda: equal(nodes))
            failing.error, failing.left = errno.EIO, 30
            work(nodes)
            await until(lambda: status.skipped_count > 0)
            await until(lambda: equal(nodes))


@pytest.mark.skipif(not hasattr(fcntl, "F_SETLEASE"), reason="no leases here")
async def test_a_file_under_a_lease(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its holder is asked to release it, and takes long."""
    monkeypatch.setattr("i2core.rule.source.passing.LONGEST_S", 0.2)
    monkeypatch.setattr(signal, "SIGIO", signal.SIGIO)
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)
    try:
        async with open_nodes(tmp_path) as nodes:
            file = nodes.source / "leased"
            file.write_text("old")
            async with nodes.running() as status:
                await until(lambda: equal(nodes))
                file.write_text("new, and longer")
                fd = os.open(file, os.O_RDWR)
                fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_WRLCK)
                nodes.capture.tell(Change(Op.MODIFY, Place(0, b"leased")))
                await until(lambda: not nodes_idle(nodes, status))
                await trio.lowlevel.checkpoint()
                assert (nodes.target / "leased").read_text() == "old"
                fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_UNLCK)
                os.close(fd)
                await until(lambda: equal(nodes))
                assert status.skipped_count == 0
    finally:
        signal.signal(signal.SIGIO, before)


def nodes_idle(nodes: Nodes, status: SimpleNamespace | Any) -> bool:
    """True when the rule has nothing to do."""
    status.look()
    return status.oldest_pending_ns is None


async def test_a_run_that_ends_for_a_temporary_lack_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Wherever it occurs: in the spool, the catalog, or a compare."""
    real: Callable[..., Any] = LiveReplication.restore
    left = 2

    def restore(self: LiveReplication) -> Any:
        nonlocal left
        if left:
            left -= 1
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        return real(self)

    monkeypatch.setattr("i2core.rule.work.restarts.AGAIN_S", (0.05, 0.2))
    async with open_nodes(tmp_path) as nodes:
        fill(nodes.source)
        async with nodes.running():
            await until(lambda: equal(nodes))
        monkeypatch.setattr(LiveReplication, "restore", restore)
        (nodes.source / "a").write_text("changed while it was down")
        async with nodes.running():
            await until(lambda: equal(nodes))
        assert left == 0
        assert nodes.codes().count(Code.SHORT) == 2
