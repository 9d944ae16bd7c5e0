"""A record about an object that the replica does not have: a RENAME or LINK without its first name, a PUBLISH without a
staging file. It may have been applied before, or somebody has changed the replica. So what has the name is compared."""

from __future__ import annotations

import itertools
import os
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from i2_sink_fs.sink import FsSink

from i2core.api import Applied, Batch, Change, Kind, Op, Place
from i2core.rule.life.status import RuleStatus
from i2core.testing.trees import compare_trees

from .pair import Nodes, open_nodes, until

LARGE = 5 << 20


def before_next(monkeypatch: pytest.MonkeyPatch, kind: Kind, act: Callable[[], None]) -> None:
    """Calls `act` before the next batch with a record of that kind is applied."""
    real = FsSink.apply

    async def apply(self: FsSink, batch: Batch) -> Applied:
        if any(record.kind is kind for record in batch.records):
            monkeypatch.setattr(FsSink, "apply", real)
            act()
        return await real(self, batch)

    monkeypatch.setattr(FsSink, "apply", apply)


def repeat_next(monkeypatch: pytest.MonkeyPatch, kind: Kind) -> None:
    """The next batch with a record of that kind is applied twice: after a crash, the first time is not known."""
    real = FsSink.apply

    async def apply(self: FsSink, batch: Batch) -> Applied:
        if any(record.kind is kind for record in batch.records):
            monkeypatch.setattr(FsSink, "apply", real)
            await real(self, batch)
        return await real(self, batch)

    monkeypatch.setattr(FsSink, "apply", apply)


def make(path: Path, what: str) -> None:
    """Makes an object; "a file" has the size and time of any other."""
    if what == "a directory":
        path.mkdir()
        (path / "in").write_text(f"in {path.parent.name}")
    elif what == "a symlink":
        path.symlink_to("nowhere")
    elif what == "a file":
        path.write_text("source" if path.parent.name == "source" else "others")
    if path.exists():
        os.utime(path, (10**9, 10**9))


def remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


async def settled(nodes: Nodes, status: RuleStatus, since_ns: int) -> None:
    """Waits until nothing is unverified and the lag is 0; both trees must be equal then."""
    await until(lambda: status.settled_ns > since_ns and not status.doubtful)
    assert status.lag_seconds == 0
    assert compare_trees(nodes.source, nodes.target, owners=os.geteuid() == 0) == []


def report_rename(nodes: Nodes, *names: str) -> None:
    """The object had each of these names."""
    is_dir = (nodes.source / names[-1]).is_dir()
    places = [Place(0, os.fsencode(name)) for name in names]
    nodes.capture.tell(*(Change(Op.RENAME, old, is_dir=is_dir, to=new) for old, new in itertools.pairwise(places)))


@pytest.mark.parametrize("there", ["a directory", "a file", "a symlink", "nothing"])
@pytest.mark.parametrize("moved", ["a directory", "a file"])
async def test_another_object_has_the_new_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, moved: str, there: str
) -> None:
    async with open_nodes(tmp_path) as nodes:
        make(nodes.source / "old", moved)

        def meddle() -> None:
            remove(nodes.target / "old")
            make(nodes.target / "new", there)

        async with nodes.running() as status:
            before_next(monkeypatch, Kind.RENAME, meddle)
            since_ns = time.monotonic_ns()
            (nodes.source / "old").rename(nodes.source / "new")
            report_rename(nodes, "old", "new")
            await settled(nodes, status, since_ns)


async def test_another_file_has_the_name_of_a_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_nodes(tmp_path) as nodes:
        make(nodes.source / "one", "a file")

        def meddle() -> None:
            remove(nodes.target / "one")
            make(nodes.target / "two", "a file")

        async with nodes.running() as status:
            before_next(monkeypatch, Kind.LINK, meddle)
            since_ns = time.monotonic_ns()
            os.link(nodes.source / "one", nodes.source / "two")
            nodes.capture.tell(Change(Op.CREATE, Place(0, b"two")))
            await settled(nodes, status, since_ns)  # all names of one object are compared


async def test_a_staging_file_is_missing_and_another_file_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_nodes(tmp_path) as nodes:

        def meddle() -> None:
            for private in nodes.private():
                shutil.rmtree(private)
            (nodes.target / "large").write_bytes(os.urandom(LARGE))

        async with nodes.running() as status:
            before_next(monkeypatch, Kind.PUBLISH, meddle)
            since_ns = time.monotonic_ns()
            (nodes.source / "large").write_bytes(os.urandom(LARGE))
            nodes.capture.tell(Change(Op.CREATE, Place(0, b"large")))
            await settled(nodes, status, since_ns)


async def test_what_was_published_is_only_compared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_nodes(tmp_path) as nodes, nodes.running() as status:
        repeat_next(monkeypatch, Kind.PUBLISH)
        since_ns = time.monotonic_ns()
        (nodes.source / "large").write_bytes(os.urandom(LARGE))
        nodes.capture.tell(Change(Op.CREATE, Place(0, b"large")))
        await settled(nodes, status, since_ns)
        assert status.sent_bytes == LARGE


@pytest.mark.parametrize("names", [["old", "new"], ["old", "between", "new"], ["old", "deeper/new"]])
async def test_what_was_renamed_is_only_compared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, names: list[str]
) -> None:
    """A directory, with all beneath it. `between` is missing when the first of two renames is repeated."""
    async with open_nodes(tmp_path) as nodes:
        (nodes.source / "deeper").mkdir()
        (nodes.source / "old" / "sub").mkdir(parents=True)
        (nodes.source / "old" / "sub" / "large").write_bytes(os.urandom(LARGE))
        (nodes.source / "old" / "small").write_bytes(b"content")
        async with nodes.running() as status:
            await until(lambda: status.settled_ns > 0)
            before = status.sent_bytes
            repeat_next(monkeypatch, Kind.RENAME)
            since_ns, inode = time.monotonic_ns(), (nodes.target / "old" / "small").stat().st_ino
            (nodes.source / "old").rename(nodes.source / names[-1])
            report_rename(nodes, *names)
            await settled(nodes, status, since_ns)
            assert status.sent_bytes == before
            assert (nodes.target / names[-1] / "small").stat().st_ino == inode, "it was made again"
