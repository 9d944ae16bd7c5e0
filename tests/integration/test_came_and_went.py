"""A name is created after its directory was listed, and removed before it is checked. The catalog does not have the
object that the replica has under this name, so no hint alone can show that it must be removed."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Generator, Iterable
from contextlib import closing
from pathlib import Path

import pytest
import trio
from i2_sink_fs.sink import FsSink

from i2core.api import Applied, Batch, Change, Code, Failure, Kind, Op, Place
from i2core.config.model import OrphanAction, Orphans
from i2core.rule.live.replication import LiveReplication
from i2core.rule.survey.lister import Lister, Scope
from i2core.testing.trees import compare_trees
from i2core.wire.frame import FrameType
from i2core.wire.listing import Chunk

from .pair import Nodes, open_nodes, until

DELETE = Orphans(action=OrphanAction.DELETE)
NAME = Place(0, b"name")
CAME, WENT = Change(Op.CREATE, NAME), Change(Op.REMOVE, NAME)


class Meanwhile:
    """Changes by an application while a mirror runs."""

    def __init__(self, nodes: Nodes) -> None:
        self._nodes = nodes

    def comes_and_goes(self) -> None:
        """The name is created when its directory is listed, and removed when the mirror is done."""
        name, wire = self._nodes.source / NAME.path.decode(), self._nodes.wire

        def listed() -> None:
            name.write_bytes(b"came")
            wire.before_close.append(mirrored)

        def mirrored() -> None:
            name.unlink()
            self._nodes.capture.tell(CAME, WENT)

        wire.before_frame[FrameType.SURVEY] = listed

    def moves(self, old: str, new: str) -> None:
        """A directory moves when it is listed."""

        def listed() -> None:
            (self._nodes.source / old).rename(self._nodes.source / new)
            places = [Place(0, each.encode()) for each in (old, new)]
            self._nodes.capture.tell(Change(Op.RENAME, places[0], is_dir=True, to=places[1]))

        self._nodes.wire.before_frame[FrameType.SURVEY] = listed


@pytest.mark.parametrize("once", [False, True], ids=["live", "once"])
async def test_during_a_mirror(tmp_path: Path, once: bool) -> None:
    async with open_nodes(tmp_path) as nodes:
        nodes.target.mkdir()
        (nodes.target / "name").write_bytes(b"of long ago")
        rule = nodes.rule(orphans=DELETE)
        Meanwhile(nodes).comes_and_goes()
        if once:
            await nodes.run(rule)
            assert compare_trees(nodes.source, nodes.target) == []
            return
        async with nodes.running(rule):
            await until(lambda: compare_trees(nodes.source, nodes.target) == [])


async def test_a_kill_after_the_mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hints are lost with the process, so unverified names are saved before the mirror counts as done."""

    async def idle(*_: object, **__: object) -> None:
        await trio.sleep_forever()

    async with open_nodes(tmp_path) as nodes:
        nodes.target.mkdir()
        (nodes.target / "name").write_bytes(b"of long ago")
        Meanwhile(nodes).comes_and_goes()
        with monkeypatch.context() as patched:
            patched.setattr(LiveReplication, "run", idle)
            async with nodes.running(nodes.rule(orphans=DELETE)):
                (tmp_path / "killed").mkdir()
                for file in (tmp_path / "work").glob("*.catalog*"):
                    shutil.copy(file, tmp_path / "killed")
                (catalog,) = (tmp_path / "killed").glob("*.catalog")
                with closing(sqlite3.connect(catalog)) as kept:
                    assert kept.execute("SELECT name FROM doubt").fetchall() == [(b"name",)]


async def test_a_directory_that_moves_during_a_mirror(tmp_path: Path) -> None:
    async with open_nodes(tmp_path) as nodes:
        (nodes.source / "here").mkdir()
        (nodes.source / "here" / "kept").write_bytes(b"content")
        (nodes.target / "here").mkdir(parents=True)
        (nodes.target / "here" / "name").write_bytes(b"of long ago")
        Meanwhile(nodes).moves("here", "there")
        async with nodes.running(nodes.rule(orphans=DELETE)):
            await until(lambda: compare_trees(nodes.source, nodes.target) == [])


async def test_kept_orphans_in_a_directory_that_moves(tmp_path: Path) -> None:
    async with open_nodes(tmp_path) as nodes:
        (nodes.source / "here").mkdir()
        (nodes.source / "here" / "kept").write_bytes(b"content")
        (nodes.target / "here").mkdir(parents=True)
        (nodes.target / "here" / "name").write_bytes(b"somebody else's")
        Meanwhile(nodes).moves("here", "there")
        await nodes.run()
        assert sorted(path.name for path in (nodes.target / "there").iterdir()) == ["kept", "name"]


@pytest.mark.parametrize("listed", [False, True], ids=["before its listing", "behind it"])
async def test_while_it_is_unverified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listed: bool) -> None:
    """Its removal failed. It exists again when the repair is planned, and is gone before it is compared."""
    real_apply, real_frames = FsSink.apply, Lister.frames
    async with open_nodes(tmp_path) as nodes:
        name = nodes.source / "name"
        name.write_bytes(b"of long ago")
        (nodes.source / "stays").write_bytes(b"lest the root be emptied")

        async def apply(self: FsSink, batch: Batch) -> Applied:
            monkeypatch.setattr(FsSink, "apply", real_apply)
            (seq,) = (seq for seq, each in enumerate(batch.records, batch.first_seq) if each.kind is Kind.REMOVE)
            name.write_bytes(b"there again")
            return Applied(batch.last_seq, (Failure(seq, NAME, Code.OPEN_REPLICA, "on purpose", repair=True),))

        def go() -> None:
            name.unlink()
            nodes.capture.tell(CAME, WENT)

        def frames(self: Lister, scopes: Iterable[Scope]) -> Generator[list[Chunk], None, None]:
            monkeypatch.setattr(Lister, "frames", real_frames)
            go()
            return real_frames(self, scopes)

        async with nodes.running():
            monkeypatch.setattr(FsSink, "apply", apply)
            if listed:
                nodes.wire.before_frame[FrameType.SURVEY] = go
            else:
                monkeypatch.setattr(Lister, "frames", frames)
            name.unlink()
            nodes.capture.tell(WENT)
            await until(lambda: compare_trees(nodes.source, nodes.target) == [])
