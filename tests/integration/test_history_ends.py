"""What becomes of a history when its replica, its position or its directory is not what it was, or its disk is full."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import pytest
import trio
from i2_store_cdp.store import Store

from i2core.api import Code, I2Error, Lost, Place, StopRule, UsageError
from i2core.api.journal import Draft, JournalFull, Placed
from i2core.config.model import Brake, CdpRetention, FlushWindow, OrphanAction, Orphans, Pair, PathMapping, Rule
from i2core.history.record.history import History
from i2core.history.record.turns import HistoryClosed
from i2core.rule.backup.replica.position import PositionFile
from i2core.rule.life.status import Received, RuleStatus
from tests.pictures import past_picture

from .pair import Nodes, open_nodes, until
from .with_history import changed, settled


def _rule(nodes: Nodes, **changes: object) -> Rule:
    rule: Rule = nodes.rule(cdp=CdpRetention(), brake=Brake(share=1.0), **changes)
    return rule


@asynccontextmanager
async def _running(nodes: Nodes, **changes: object) -> AsyncIterator[RuleStatus]:
    async with nodes.running(_rule(nodes, **changes)) as status:
        await settled(nodes, status)
        yield status


async def _content(history: History, seq: int) -> bytes:
    found = await trio.to_thread.run_sync(past_picture, history.tree(0, seq))
    content: bytes = found["file"][2]
    return content


def _kept_aside(nodes: Nodes) -> list[Path]:
    return sorted(path for path in (nodes.home / "state" / "cdp").iterdir() if path.suffix)


async def test_a_history_goes_on_over_sessions_and_restarts(tmp_path: Path) -> None:
    async with open_nodes(tmp_path) as nodes:
        (nodes.source / "file").write_text("first")
        async with _running(nodes) as status:
            second = await changed(nodes, status, b"second")
        nodes.boot()
        async with nodes.service.history("data1") as history:  # no session is open
            assert await _content(history, second) == b"second"
            assert await _content(history, 0) == b"first"
            async with _running(nodes) as status:
                third = await changed(nodes, status, b"third and longer")
            assert await _content(history, third) == b"third and longer"
            assert await _content(history, second) == b"second"
        assert not _kept_aside(nodes)
        assert Code.HISTORY_ENDED not in nodes.codes()


async def test_another_directory_has_another_history(tmp_path: Path) -> None:
    async with open_nodes(tmp_path) as nodes:
        (nodes.source / "file").write_text("first")
        async with _running(nodes) as status:
            await changed(nodes, status, b"second")
        shutil.rmtree(nodes.target)
        async with _running(nodes) as status:
            seq = await changed(nodes, status, b"third")
            async with nodes.service.history("data1") as history:
                assert await _content(history, seq) == b"third"
                assert await _content(history, 0) == b"second"
        assert nodes.codes().count(Code.HISTORY_ENDED) == 1
        (aside,) = _kept_aside(nodes)
        assert (aside / "journal").is_dir()


def _several(nodes: Nodes, *names: str, **changes: object) -> Rule:
    """The rule with a directory of the source for each name."""
    tops = [(nodes.source / name, nodes.target / name) for name in names]
    pairs = tuple(Pair(source=os.fsencode(source), target=os.fsencode(target)) for source, target in tops)
    return _rule(nodes, pairs=pairs, **changes)


async def test_a_rule_with_other_directories_has_another_history(tmp_path: Path) -> None:
    """The history knows them by their number: what was of one would be read as of the other."""
    async with open_nodes(tmp_path) as nodes:
        for name in ("one", "two"):
            (nodes.source / name).mkdir()
            (nodes.source / name / "file").write_text(f"{name}, first")
        async with nodes.running(_several(nodes, "one", "two")) as status:
            await settled(nodes, status)
            (nodes.source / "two" / "file").write_text("two, second")
            nodes.capture.tell(Lost(Place(1, b""), "look at all"))
            await settled(nodes, status)
        async with nodes.running(_several(nodes, "two", "one")) as status:
            await settled(nodes, status)
            (nodes.source / "two" / "file").write_text("two, third")
            await settled(nodes, status)
            async with nodes.service.history("data1") as history:
                assert [await _content(history, seq) for seq in (0, history.seq)] == [b"two, second", b"two, third"]
        assert nodes.codes().count(Code.HISTORY_ENDED) == 1
        assert len(_kept_aside(nodes)) == 1


async def test_a_directory_in_another_one_is_refused(tmp_path: Path) -> None:
    """A single file beside a directory, for example: both have a place in the tree of the file's directory."""
    async with open_nodes(tmp_path) as nodes:
        (nodes.source / "one").mkdir()
        (nodes.source / "file").write_text("file")
        pairs = (
            Pair(source=os.fsencode(nodes.source / "file"), target=os.fsencode(nodes.target)),
            Pair(source=os.fsencode(nodes.source / "one"), target=os.fsencode(nodes.target)),
        )
        with pytest.raises(I2Error) as refused:
            async with nodes.running(_rule(nodes, pairs=pairs, mapping=PathMapping.MANY_TO_ONE)):
                pass
        assert refused.value.code is Code.CDP_CONFIG
        assert not nodes.target.exists()


async def test_a_rule_is_not_forgotten_while_its_past_is_read(tmp_path: Path) -> None:
    """Its next history could not begin: the directory of the earlier one is open."""
    async with open_nodes(tmp_path) as nodes:
        (nodes.source / "file").write_text("first")
        async with _running(nodes) as status:
            await changed(nodes, status, b"second")
        await until(lambda: nodes.service.statuses()[0].state is Received.WAITING)
        async with nodes.service.history("data1"):
            with pytest.raises(UsageError, match="its past is being read"):
                nodes.service.forget("data1")
        assert nodes.service.forget("data1")
        async with _running(nodes) as status:
            seq = await changed(nodes, status, b"third")
            async with nodes.service.history("data1") as history:
                assert await _content(history, seq) == b"third"


async def test_a_damaged_position_ends_the_history(tmp_path: Path) -> None:
    async with open_nodes(tmp_path) as nodes:
        (nodes.source / "file").write_text("first")
        async with _running(nodes) as status:
            await changed(nodes, status, b"second")
        for path in (nodes.home / "state" / "positions").glob("*.json"):
            path.write_bytes(b"damaged")
        nodes.boot()
        async with _running(nodes) as status:
            seq = await changed(nodes, status, b"third")
            async with nodes.service.history("data1") as history:
                assert await _content(history, seq) == b"third"
        assert Code.POSITION_DAMAGED in nodes.codes()
        assert Code.HISTORY_ENDED in nodes.codes()
        assert len(_kept_aside(nodes)) == 1


async def test_nothing_is_written_while_the_history_is_away(tmp_path: Path) -> None:
    """Its disk is not mounted."""
    async with open_nodes(tmp_path) as nodes:
        (nodes.source / "file").write_text("first")
        async with _running(nodes) as status:
            second = await changed(nodes, status, b"second")
        cdp = nodes.home / "state" / "cdp"
        cdp.rename(nodes.home / "away")
        nodes.boot()
        (nodes.source / "file").write_text("third")
        with pytest.raises(StopRule) as stopped:
            async with _running(nodes):
                pass
        assert stopped.value.code is Code.CDP_DESCRIPTION_READ
        assert (nodes.target / "file").read_text() == "second"
        assert not cdp.exists()
        (nodes.home / "away").rename(cdp)
        async with _running(nodes), nodes.service.history("data1") as history:
            assert await _content(history, second) == b"second"
            assert await _content(history, history.seq) == b"third"


async def test_a_full_disk_of_the_history_stops_the_rule(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(store: Store, group: Sequence[Draft]) -> list[Placed]:
        raise JournalFull("no room", obj="the disk")

    async with open_nodes(tmp_path) as nodes:
        (nodes.source / "file").write_text("first")
        async with _running(nodes) as status:
            second = await changed(nodes, status, b"second")
        with monkeypatch.context() as patch, pytest.raises(StopRule) as stopped:
            patch.setattr(Store, "append", full)
            async with _running(nodes) as status:
                await changed(nodes, status, b"third")
        assert stopped.value.code is Code.CDP_DATA_WRITE
        assert (nodes.target / "file").read_text() == "second"
        async with _running(nodes) as status:
            third = await changed(nodes, status, b"third")
            async with nodes.service.history("data1") as history:
                assert [await _content(history, seq) for seq in (second, third)] == [b"second", b"third"]


async def test_what_is_archived_is_in_the_history_as_well(tmp_path: Path) -> None:
    archive = tmp_path / "backup" / "archive"
    orphans = Orphans(action=OrphanAction.MOVE, to=os.fsencode(archive), archive=True)
    async with open_nodes(tmp_path) as nodes:
        archive.mkdir()
        (nodes.source / "file").write_text("first")
        (nodes.source / "directory").mkdir()
        (nodes.source / "directory" / "inner").write_text("inner")
        async with _running(nodes, orphans=orphans) as status:
            before = await changed(nodes, status, b"second")
            shutil.rmtree(nodes.source / "directory")
            await settled(nodes, status)
            (archived,) = archive.rglob("inner")
            assert archived.read_text() == "inner"
            async with nodes.service.history("data1") as history:
                found = await trio.to_thread.run_sync(past_picture, history.tree(0, before))
                assert found["directory/inner"][2] == b"inner"
                assert not list(nodes.target.glob("directory*"))


async def test_a_sink_that_cannot_keep_is_refused(tmp_path: Path) -> None:
    async with open_nodes(tmp_path) as nodes:
        nodes.registry.specs = [attrs.evolve(spec, replica=None) for spec in nodes.registry.specs]
        with pytest.raises(StopRule) as refused:
            async with _running(nodes):
                pass
        assert refused.value.code is Code.CDP_CONFIG


async def test_a_broken_history_is_opened_again_beside_a_reader(tmp_path: Path) -> None:
    """The replica goes back to its durable state, and the work node sends the rest again."""
    async with open_nodes(tmp_path) as nodes:
        (nodes.source / "file").write_text("first")
        async with _running(nodes) as status:
            second = await changed(nodes, status, b"second")
            async with nodes.service.history("data1") as history:
                tree = history.tree(0, second)
                assert tree.lookup(b"file") is not None
                history.recorder.broken = RuntimeError("an accident")
                third = await changed(nodes, status, b"third")
                with pytest.raises(HistoryClosed):
                    tree.lookup(b"file")
            async with nodes.service.history("data1") as again:
                assert again is not history
                assert [await _content(again, seq) for seq in (second, third)] == [b"second", b"third"]
        assert Code.HISTORY_ENDED not in nodes.codes()


async def test_a_history_that_cannot_be_taken_back_ends(tmp_path: Path) -> None:
    """Another program has removed what was kept."""
    async with open_nodes(tmp_path) as nodes:
        (nodes.source / "file").write_text("first")
        async with _running(nodes) as status:
            await changed(nodes, status, b"second")
            async with nodes.service.history("data1") as history:
                durable = history.durable
                (nodes.source / "file").unlink()
                await settled(nodes, status)
        (position,) = (nodes.home / "state" / "positions").glob("*.json")
        file = PositionFile(position.parent, "local", "data1")
        file.save(attrs.evolve(file.load(), history=durable.encode()))
        for kept in nodes.target.parent.glob(".i2-history-*/*"):
            kept.unlink()
        nodes.boot()
        async with _running(nodes) as status:
            seq = await changed(nodes, status, b"third")
            async with nodes.service.history("data1") as history:
                assert await _content(history, seq) == b"third"
        assert nodes.codes().count(Code.HISTORY_ENDED) == 2
        assert len(_kept_aside(nodes)) == 1


async def test_what_a_reader_has_taken_back_is_sent_again(tmp_path: Path) -> None:
    """Who opens a broken history again ends the sessions that went on with it: what they had reported is undone."""
    async with open_nodes(tmp_path) as nodes:
        nodes.role = attrs.evolve(nodes.role, flush=FlushWindow(after_s=2.0, size=1 << 30))
        nodes.boot()
        (nodes.source / "file").write_text("first")
        async with _running(nodes) as status:
            await changed(nodes, status, b"second")
            (nodes.source / "file").write_text("third")
            nodes.capture.tell(Lost(Place(0, b""), "look at all"))
            async with nodes.service.history("data1") as history:
                seq = history.seq
                await until(lambda: history.seq > seq and status.applied_seq == status.seq)
                assert history.durable.seq == seq
                history.recorder.broken = RuntimeError("an accident")
            async with nodes.service.history("data1") as again:
                assert again is not history
            await until(lambda: (nodes.target / "file").read_text() == "third" and status.seq == status.durable_seq)
            async with nodes.service.history("data1") as again:
                assert await _content(again, again.seq) == b"third"
                assert await _content(again, seq) == b"second"
