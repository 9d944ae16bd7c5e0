"""Seqs across sessions and restarts: none is applied twice, none is missing within a session, and no node waits for
ever."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from i2core.api import Change, Channel, Code, Kind, LinkError, Op, Peer, Place, Record
from i2core.drivers.chain import CodecChain
from i2core.rule.backup.session import inbox
from i2core.testing.trees import compare_trees
from i2core.wire import keep_alive
from i2core.wire.batch import SeqCounter
from i2core.wire.frame import FrameType
from i2core.wire.messages import Ack, BrakeLimits, Hello, OrphanPolicy
from i2core.wire.session import Session, open_session

from .pair import Nodes, open_nodes, until


@asynccontextmanager
async def speaking(nodes: Nodes, seqs: SeqCounter, acks: list[Ack]) -> AsyncIterator[Session]:
    """A session by hand."""
    hello = Hello(
        version="0",
        rule="data1",
        channel="replication",
        epoch=1,
        targets=[str(nodes.target)],
        codecs=[],
        orphans=OrphanPolicy(),
        brake=BrakeLimits(share=0.5, window_s=60, least=1000),
    )
    stream = await nodes.wire.connect(Peer("bak", "127.0.0.1", nodes.ports, None), Channel.REPLICATION)
    async with open_session(stream, hello, CodecChain(()), seqs, on_ack=acks.append, on_hold=lambda _: None) as session:
        yield session


def file(name: bytes) -> Record:
    """A record that creates a file."""
    return Record(Kind.CREATE, 0, name, data=name)


async def test_a_gap_within_a_session_is_refused(tmp_path: Path) -> None:
    async with open_nodes(tmp_path) as nodes:
        with pytest.raises(LinkError, match="expected seq 3, got 4") as broken:
            async with speaking(nodes, SeqCounter(), []) as session:
                assert await session.send_records([file(b"a"), file(b"b")]) == 2
                session._seqs.take(1)
                await session.send_records([file(b"lost")])
                await session.settle()
        assert broken.value.code is Code.SEQUENCE
        assert sorted(p.name for p in nodes.target.iterdir()) == ["a", "b"]


async def test_a_seq_that_was_applied_is_refused(tmp_path: Path) -> None:
    async with open_nodes(tmp_path) as nodes:
        with pytest.raises(LinkError) as broken:
            async with speaking(nodes, SeqCounter(), []) as session:
                await session.send_records([file(b"a")])
                session._seqs.next = 1
                await session.send_records([file(b"again")])
                await session.settle()
        assert broken.value.code is Code.SEQUENCE


async def test_applied_records_are_skipped(tmp_path: Path) -> None:
    """A work node that did not receive the acks sends its records again."""
    async with open_nodes(tmp_path) as nodes:
        async with speaking(nodes, SeqCounter(), []) as session:
            await session.send_records([file(b"a"), file(b"b")])
            await session.settle()
        (nodes.target / "a").write_text("changed since")
        async with speaking(nodes, SeqCounter(), []) as session:
            session._seqs.next = 1
            await session.send_records([file(b"a"), file(b"b"), file(b"c")])
            await session.settle()
        assert (nodes.target / "a").read_text() == "changed since"
        assert (nodes.target / "c").read_text() == "c"
        assert Code.DUPLICATE_MESSAGE in nodes.codes()


async def test_seqs_continue_after_what_was_applied(tmp_path: Path) -> None:
    """Also when the work node has lost its count, and when it used seqs without sending them."""
    async with open_nodes(tmp_path) as nodes:
        async with speaking(nodes, SeqCounter(), []) as session:
            await session.send_records([file(b"a"), file(b"b")])
            await session.settle()
        async with speaking(nodes, SeqCounter(), []) as session:
            assert await session.send_records([file(b"c")]) == 3
        async with speaking(nodes, SeqCounter(100), []) as session:
            assert await session.send_records([file(b"d")]) == 100
            await session.settle()
            assert (session.window.applied_seq, session.window.durable_seq) == (100, 100)


async def test_a_restart_of_the_backup_node_keeps_what_is_durable(tmp_path: Path) -> None:
    async with open_nodes(tmp_path) as nodes:
        acks: list[Ack] = []
        async with speaking(nodes, SeqCounter(), acks) as session:
            await session.send_records([file(b"a"), file(b"b")])
            await session.settle()
        assert acks[-1].durable_seq == 2
        nodes.boot()
        async with speaking(nodes, SeqCounter(), []) as session:
            assert (session.welcome.applied_seq, session.welcome.durable_seq) == (2, 2)


async def test_a_session_that_ends_makes_durable_what_it_applied(tmp_path: Path) -> None:
    async with open_nodes(tmp_path) as nodes:
        acks: list[Ack] = []
        async with speaking(nodes, SeqCounter(), acks) as session:
            await session.send_records([file(b"a")])
            await until(lambda: bool(acks))
        await until(lambda: nodes.service.statuses()[0].durable_seq == 1)
        nodes.boot()
        async with speaking(nodes, SeqCounter(), []) as session:
            assert session.welcome.durable_seq == 1


async def test_durability_is_reported_without_a_question(tmp_path: Path) -> None:
    async with open_nodes(tmp_path) as nodes:
        acks: list[Ack] = []
        async with speaking(nodes, SeqCounter(), acks) as session:
            await session.send_records([file(b"a")])
            await until(lambda: any(ack.durable_seq == 1 for ack in acks))


async def test_a_lost_position_makes_no_work_node_wait(tmp_path: Path) -> None:
    """The work node continues its count; there is nothing to send, so there is nothing to wait for."""
    async with open_nodes(tmp_path) as nodes:
        (nodes.source / "file").write_text("content")
        await nodes.run()
        shutil.rmtree(tmp_path / "state")
        nodes.boot()
        assert (await nodes.run()).sent_files == 0
        (nodes.source / "other").write_text("more")
        await nodes.run()
        assert compare_trees(nodes.source, nodes.target) == []


async def test_a_silent_hold_does_not_break_the_link(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """While deletes are held, more data follow than the backup node buffers; pings are still exchanged."""
    for module in (inbox, keep_alive):
        monkeypatch.setattr(module, "PING_S", 0.05)
        monkeypatch.setattr(module, "SILENCE_S", 0.4)
    async with open_nodes(tmp_path) as nodes:
        for name in ("a", "b"):
            (nodes.source / name).write_text(name)
        async with nodes.running() as status:
            for name in ("a", "b"):
                (nodes.source / name).unlink()
            nodes.capture.tell(*(Change(Op.REMOVE, Place(0, name)) for name in (b"a", b"b")))
            await until(lambda: status.held)
            for number in range(inbox.INBOX_FRAMES + 4):
                (nodes.source / f"new{number}").write_bytes(bytes(1 << 20))
                nodes.capture.tell(Change(Op.CREATE, Place(0, b"new%d" % number)))
                batches = nodes.wire.frames.count(FrameType.BATCH)
                await until(lambda: nodes.wire.frames.count(FrameType.BATCH) > batches)  # noqa: B023
            pings = nodes.wire.frames.count(FrameType.PING)
            await until(lambda: nodes.wire.frames.count(FrameType.PING) > pings + 20)
            assert Code.NETWORK not in nodes.codes()
            await nodes.service.release("data1")
            await until(lambda: compare_trees(nodes.source, nodes.target) == [])


async def test_what_is_durable_is_known_before_anything_is_sent(tmp_path: Path) -> None:
    async with open_nodes(tmp_path) as nodes:
        (nodes.source / "file").write_text("content")
        async with nodes.running() as status:
            await until(lambda: status.settled_ns > 0)
        async with nodes.running() as status:
            await until(lambda: status.settled_ns > 0)
            assert status.durable_seq == status.seq > 0
