"""A name comes behind its listing, and goes before it is looked at: what the replica has there, the catalog does not
know, so no hint alone can tell that it must go."""

from __future__ import annotations

import shutil
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import pytest
import trio
from i2_sink_fs.sink import FsSink

from i2core.api import Applied, Batch, Change, Code, Failure, Kind, Op, Place
from i2core.config.model import OrphanAction, Orphans
from i2core.rule.live.live import Live
from i2core.rule.mirror.lister import Scope
from i2core.rule.mirror.mirror import Mirror
from i2core.testing.trees import compare_trees
from i2core.wire.listing import encode_survey

from .pair import Nodes, open_nodes, until

DELETE = Orphans(action=OrphanAction.DELETE)
NAME = Place(0, b"name")
CAME, WENT = Change(Op.CREATE, NAME), Change(Op.REMOVE, NAME)


class Meanwhile:
    """What an application does while a mirror is under way."""

    def __init__(self, nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
        self._nodes = nodes
        self._monkeypatch = monkeypatch

    def comes_and_goes(self) -> None:
        """The name comes when its directory is listed, and goes when the mirror has compared it."""
        name, run = self._nodes.source / NAME.path.decode(), Mirror.run

        def listed(*arguments: object, **options: object) -> bytes:
            name.write_bytes(b"came")
            return encode_survey(*arguments, **options)  # type: ignore[arg-type]

        async def mirrored(mirror: Mirror, scopes: Iterable[Scope]) -> None:
            await run(mirror, scopes)
            self._monkeypatch.undo()
            name.unlink()
            self._nodes.capture.tell(CAME, WENT)

        self._monkeypatch.setattr("i2core.rule.mirror.mirror.encode_survey", listed)
        self._monkeypatch.setattr(Mirror, "run", mirrored)

    def moves(self, old: str, new: str) -> None:
        """A directory moves when it is listed."""

        def listed(*arguments: object, **options: object) -> bytes:
            self._monkeypatch.undo()
            (self._nodes.source / old).rename(self._nodes.source / new)
            places = [Place(0, each.encode()) for each in (old, new)]
            self._nodes.capture.tell(Change(Op.RENAME, places[0], is_dir=True, to=places[1]))
            return encode_survey(*arguments, **options)  # type: ignore[arg-type]

        self._monkeypatch.setattr("i2core.rule.mirror.mirror.encode_survey", listed)


@pytest.mark.parametrize("once", [False, True], ids=["live", "once"])
async def test_during_a_mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, once: bool) -> None:
    async with open_nodes(tmp_path) as nodes:
        nodes.target.mkdir()
        (nodes.target / "name").write_bytes(b"of long ago")
        rule = nodes.rule(orphans=DELETE)
        Meanwhile(nodes, monkeypatch).comes_and_goes()
        if once:
            await nodes.run(rule)
            assert compare_trees(nodes.source, nodes.target) == []
            return
        async with nodes.running(rule):
            await until(lambda: compare_trees(nodes.source, nodes.target) == [])


async def test_a_kill_behind_the_mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The hints die with the process: what is in doubt is kept before anything says that the mirror is done."""

    async def idle(*_: object, **__: object) -> None:
        await trio.sleep_forever()

    async with open_nodes(tmp_path) as nodes:
        nodes.target.mkdir()
        (nodes.target / "name").write_bytes(b"of long ago")
        Meanwhile(nodes, monkeypatch).comes_and_goes()
        with monkeypatch.context() as patched:
            patched.setattr(Live, "run", idle)
            async with nodes.running(nodes.rule(orphans=DELETE)):
                (tmp_path / "killed").mkdir()
                for file in (tmp_path / "work").glob("*.catalog*"):
                    shutil.copy(file, tmp_path / "killed")
                (catalog,) = (tmp_path / "killed").glob("*.catalog")
                with closing(sqlite3.connect(catalog)) as kept:
                    assert kept.execute("SELECT name FROM doubt").fetchall() == [(b"name",)]


async def test_a_directory_that_moves_during_a_mirror(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_nodes(tmp_path) as nodes:
        (nodes.source / "here").mkdir()
        (nodes.source / "here" / "kept").write_bytes(b"content")
        (nodes.target / "here").mkdir(parents=True)
        (nodes.target / "here" / "name").write_bytes(b"of long ago")
        Meanwhile(nodes, monkeypatch).moves("here", "there")
        async with nodes.running(nodes.rule(orphans=DELETE)):
            await until(lambda: compare_trees(nodes.source, nodes.target) == [])


async def test_kept_orphans_in_a_directory_that_moves(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_nodes(tmp_path) as nodes:
        (nodes.source / "here").mkdir()
        (nodes.source / "here" / "kept").write_bytes(b"content")
        (nodes.target / "here").mkdir(parents=True)
        (nodes.target / "here" / "name").write_bytes(b"somebody else's")
        Meanwhile(nodes, monkeypatch).moves("here", "there")
        await nodes.run()
        assert sorted(path.name for path in (nodes.target / "there").iterdir()) == ["kept", "name"]


@pytest.mark.parametrize("listed", [False, True], ids=["before its listing", "behind it"])
async def test_while_it_is_in_doubt(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, listed: bool) -> None:
    """Its removal failed; it is there again when what is in doubt is planned, and gone before it is compared."""
    real_apply, real_run = FsSink.apply, Mirror.run
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
            monkeypatch.undo()
            name.unlink()
            nodes.capture.tell(CAME, WENT)

        async def run(mirror: Mirror, scopes: Iterable[Scope]) -> None:
            go()
            await real_run(mirror, scopes)

        def encode(*arguments: object, **options: object) -> bytes:
            go()
            return encode_survey(*arguments, **options)  # type: ignore[arg-type]

        async with nodes.running():
            monkeypatch.setattr(FsSink, "apply", apply)
            if listed:
                monkeypatch.setattr("i2core.rule.mirror.mirror.encode_survey", encode)
            else:
                monkeypatch.setattr(Mirror, "run", run)
            name.unlink()
            nodes.capture.tell(WENT)
            await until(lambda: compare_trees(nodes.source, nodes.target) == [])
