"""Directories of the replica are unverified, and the rule keeps orphans. What the source has removed is removed, and
nothing else that only the replica has."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
import pytest
from i2_sink_fs.sink import FsSink

from i2core.api import Applied, Batch, Change, Code, Failure, Kind, Op, Place, Record
from i2core.rule.life.status import RuleStatus

from .pair import Nodes, open_nodes, until


@attrs.define
class Refusing:
    """A sink that refuses records, like a file system that returns EPERM."""

    refuses: Callable[[Record], bool] = lambda record: False
    refused: int = 0

    def never(self) -> None:
        """From now on all records are applied."""
        self.refuses = lambda record: False


@pytest.fixture
def refusing(monkeypatch: pytest.MonkeyPatch) -> Iterator[Refusing]:
    """Says what the sink refuses."""
    gate, real = Refusing(), FsSink.apply

    async def apply(self: FsSink, batch: Batch) -> Applied:
        failures: list[Failure] = []
        for seq, record in enumerate(batch.records, batch.first_seq):
            if gate.refuses(record):
                gate.refused += 1
                failures.append(Failure(seq, Place(record.root, record.path), Code.OPEN_REPLICA, "on purpose"))
            else:
                failures += (await real(self, Batch(seq, [record]))).failures
        return Applied(batch.last_seq, tuple(failures))

    monkeypatch.setattr(FsSink, "apply", apply)
    monkeypatch.setattr("i2core.rule.repair.doubtful.RETRY_S", (0.02, 0.1))
    yield gate


def plant(nodes: Nodes, *names: str) -> None:
    """Somebody puts these files on the replica."""
    for name in names:
        (nodes.target / name).parent.mkdir(parents=True, exist_ok=True)
        (nodes.target / name).write_text("somebody's")


async def heals(nodes: Nodes, status: RuleStatus) -> None:
    """Waits until nothing is unverified."""

    def is_right() -> bool:
        status.look()
        return status.doubtful == 0 and status.oldest_pending_ns is None

    await until(is_right)


async def test_a_record_about_a_directory_fails(tmp_path: Path, refusing: Refusing) -> None:
    async with open_nodes(tmp_path) as nodes:
        (nodes.source / "d" / "beneath").mkdir(parents=True)
        (nodes.source / "d").chmod(0o750)
        plant(nodes, "d/orphan", "d/beneath/orphan")
        refusing.refuses = lambda record: record.kind is Kind.SETATTR and record.path == b"d"
        async with nodes.running() as status:
            await until(lambda: refusing.refused > 1)
            refusing.never()
            await heals(nodes, status)
        assert (nodes.target / "d").stat().st_mode & 0o777 == 0o750
        assert (nodes.target / "d" / "orphan").exists()
        assert (nodes.target / "d" / "beneath" / "orphan").exists()


async def test_more_names_fail_than_are_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refusing: Refusing
) -> None:
    """The whole replica is compared. Removals that failed are still known by name."""
    monkeypatch.setattr("i2core.rule.repair.doubtful.MOST", 2)
    monkeypatch.setattr("i2core.rule.repair.doubtful.RARE_S", 0.2)
    names = [f"d/{number}" for number in range(6)]
    async with open_nodes(tmp_path) as nodes:
        (nodes.source / "d").mkdir()
        for name in names:
            (nodes.source / name).write_text("content")
        async with nodes.running() as status:
            plant(nodes, "orphan", "d/orphan", "d/another")
            refusing.refuses = lambda record: record.kind is Kind.REMOVE
            for name in names:
                (nodes.source / name).unlink()
                nodes.capture.tell(Change(Op.REMOVE, Place(0, name.encode())))
            await until(lambda: refusing.refused >= len(names))
            refusing.never()
            await until(lambda: not any((nodes.target / name).exists() for name in names))
            await heals(nodes, status)
        left = sorted(str(path.relative_to(nodes.target)) for path in nodes.target.rglob("*"))
        assert left == ["d", "d/another", "d/orphan", "orphan"]


async def test_a_directory_was_removed_and_made_again(tmp_path: Path, refusing: Refusing) -> None:
    """One record was to remove all that was in it: no record names what is left."""
    async with open_nodes(tmp_path) as nodes:
        (nodes.source / "d" / "e").mkdir(parents=True)
        (nodes.source / "d" / "e" / "old").write_text("old")
        async with nodes.running() as status:
            plant(nodes, "orphan")
            refusing.refuses = lambda record: record.kind is Kind.REMOVE and record.path == b"d"
            shutil.rmtree(nodes.source / "d")
            nodes.capture.tell(Change(Op.REMOVE, Place(0, b"d"), is_dir=True))
            await until(lambda: refusing.refused > 0)
            (nodes.source / "d").mkdir()
            (nodes.source / "d" / "new").write_text("new")
            nodes.capture.tell(Change(Op.CREATE, Place(0, b"d"), is_dir=True))
            await until((nodes.target / "d" / "new").exists)
            refusing.never()
            await heals(nodes, status)
        left = sorted(str(path.relative_to(nodes.target)) for path in nodes.target.rglob("*"))
        assert left == ["d", "d/new", "orphan"]


async def test_a_file_replaces_a_directory(tmp_path: Path, refusing: Refusing) -> None:
    """The file is gone again, and the record that was to put it in the place of the directory has failed."""
    async with open_nodes(tmp_path) as nodes:
        (nodes.source / "d" / "e").mkdir(parents=True)
        (nodes.source / "d" / "e" / "old").write_text("old")
        async with nodes.running() as status:
            plant(nodes, "orphan")
            refusing.refuses = lambda record: record.kind in (Kind.CREATE, Kind.REMOVE) and record.path == b"d"
            shutil.rmtree(nodes.source / "d")
            (nodes.source / "d").write_text("a file")
            nodes.capture.tell(Change(Op.CREATE, Place(0, b"d")))
            await until(lambda: refusing.refused > 0)
            (nodes.source / "d").unlink()
            (nodes.source / "d").mkdir()
            nodes.capture.tell(Change(Op.CREATE, Place(0, b"d"), is_dir=True))
            refusing.never()
            await heals(nodes, status)
        left = sorted(str(path.relative_to(nodes.target)) for path in nodes.target.rglob("*"))
        assert left == ["d", "orphan"]
