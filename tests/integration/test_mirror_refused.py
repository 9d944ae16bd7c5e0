"""Greetings that a backup node refuses: with a clear code, and without changes on its disk."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from i2_codec_aesgcm.plugin import i2_codecs as aesgcm
from i2_codec_zstd.plugin import i2_codecs as zstd

from i2core.api import Change, Channel, Code, I2Error, Kind, Op, Peer, Place, Record, StopRule, UsageError
from i2core.config.model import CdpRetention, DriverChoice, Pair
from i2core.drivers.chain import CodecChain
from i2core.rule.backup.entry.owners import Claim
from i2core.rule.backup.entry.ownership import Ownership
from i2core.rule.backup.replica.replica import Replica
from i2core.rule.life.status import RuleStatus
from i2core.testing.trees import compare_trees
from i2core.wire.batch import SeqCounter
from i2core.wire.frame import FrameStream, FrameType
from i2core.wire.messages import PROTOCOL_VERSION, BrakeLimits, Fault, Hello, OrphanPolicy, dump, parse
from i2core.wire.session import open_session

from .pair import Nodes, open_nodes, until

OWNS = os.geteuid() == 0


def hello(nodes: Nodes, **changes: object) -> Hello:
    """The greeting of a work node."""
    plain = Hello(
        version="0",
        rule="data1",
        channel="mirror",
        epoch=1,
        targets=[os.fsdecode(nodes.target)],
        codecs=[],
        orphans=OrphanPolicy(),
        brake=BrakeLimits(share=0.5, window_s=60, least=1000),
    )
    return attrs.evolve(plain, **changes)  # type: ignore[arg-type]


async def greet(nodes: Nodes, payload: bytes, channel: Channel = Channel.MIRROR) -> Fault:
    """The refusal of a greeting."""
    stream = await nodes.wire.connect(Peer("bak", "127.0.0.1", nodes.ports, None), channel)
    frames = FrameStream(stream)
    await frames.send(FrameType.HELLO, payload)
    answer = await frames.receive()
    assert answer is not None
    assert answer.type is FrameType.REFUSE
    assert await frames.receive() is None
    return parse(answer.payload, Fault)


async def test_an_older_epoch(tmp_path: Path) -> None:
    """It does not end the session of the node that owns the replica."""
    async with open_nodes(tmp_path) as nodes:
        (nodes.source / "file").write_text("owner")
        async with nodes.running(epoch=2) as owner:
            with pytest.raises(StopRule, match="another node owns the replica") as refused:
                await nodes.run(epoch=1, keep=False)
            assert refused.value.code is Code.LOCKED
            (nodes.source / "file").write_text("goes on")
            nodes.capture.tell(Change(Op.MODIFY, Place(0, b"file")))
            await until(lambda: (nodes.target / "file").read_text() == "goes on")
            assert owner.code is None
        nodes.boot()
        with pytest.raises(StopRule) as refused:
            await nodes.run(epoch=1)
        assert refused.value.code is Code.LOCKED


async def test_an_older_epoch_while_a_later_one_is_being_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It does not end the session that is to own the replica, and is no reason to stop: that one may not come to be."""
    opening, goes_on = trio.Event(), trio.Event()
    take, later = Ownership.take, list[Replica]()

    async def slow(self: Ownership, claim: Claim, replica: Replica, *rest: Any) -> None:
        if claim.epoch == 2:
            later.append(replica)
            opening.set()
            await goes_on.wait()
        await take(self, claim, replica, *rest)

    monkeypatch.setattr(Ownership, "take", slow)
    async with open_nodes(tmp_path) as nodes, trio.open_nursery() as nursery:
        await nodes.run(epoch=1)
        (nodes.source / "file").write_text("later")
        nursery.start_soon(partial(nodes.run, epoch=2, keep=False))
        await opening.wait()
        brake = later[0].deletes.brake
        limits = brake.limits
        weaker = BrakeLimits(share=1.0, window_s=1, least=1 << 40)
        for channel in (Channel.REPLICATION, Channel.MIRROR):
            refused = await greet(nodes, dump(hello(nodes, channel=channel.value, brake=weaker)), channel)
            assert "later epoch" in refused.cause
            assert refused.retry
            assert brake.limits == limits, "an outdated node has weakened the owner's brake"
        goes_on.set()
        await until((nodes.target / "file").exists)


@pytest.mark.parametrize("place", ["", "histories", "histories/deeper", "link"])
async def test_a_directory_that_holds_the_histories_or_lies_among_them(tmp_path: Path, place: str) -> None:
    """As a target, and for orphans. No work node may write the past."""
    async with open_nodes(tmp_path) as nodes:
        allowed, histories = nodes.target.parent, nodes.target.parent / "histories"
        histories.mkdir()
        (allowed / "link").symlink_to(histories)
        nodes.role = attrs.evolve(nodes.role, cdp_dir=os.fsencode(histories))
        nodes.boot()
        wanted = os.fsdecode(allowed / place) if place else os.fsdecode(allowed)
        aside = OrphanPolicy(action="move", to=wanted)
        for greeting in (hello(nodes, targets=[wanted]), hello(nodes, orphans=aside)):
            fault = await greet(nodes, dump(greeting))
            assert fault.error().code is Code.ILLEGAL_PATH, fault
            assert "cdp_dir" in fault.cause
        assert list(histories.iterdir()) == []


async def test_a_history_from_a_backup_node_that_keeps_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An older one refuses the rule in a way that a person understands, and takes it without history."""
    async with open_nodes(tmp_path) as nodes:
        (nodes.source / "file").write_text("content")
        monkeypatch.setattr("i2core.rule.backup.entry.greeting.PROTOCOLS", (2, 3))
        with pytest.raises(StopRule, match="speaks protocol 4") as refused:
            await nodes.run(nodes.rule(cdp=CdpRetention()))
        assert refused.value.code is Code.VERSION_MISMATCH
        await nodes.run()
        assert (nodes.target / "file").read_text() == "content"


async def test_a_history_is_wanted(tmp_path: Path) -> None:
    async with open_nodes(tmp_path) as nodes:
        (nodes.source / "file").write_text("content")
        await nodes.run(nodes.rule(cdp=CdpRetention(daily=3)))
        assert (nodes.target / "file").read_text() == "content"


@pytest.mark.parametrize("changed", [b'"protocol":99', b'"protocol":99,"of_the_future":1'])
async def test_another_version_of_the_protocol(tmp_path: Path, changed: bytes) -> None:
    async with open_nodes(tmp_path) as nodes:
        fault = await greet(nodes, dump(hello(nodes)).replace(b'"protocol":%d' % PROTOCOL_VERSION, changed))
        assert fault.error().code is Code.VERSION_MISMATCH
        assert isinstance(fault.error(), StopRule)
        assert not nodes.target.exists()


@pytest.mark.parametrize(
    "payload", [b"", b"[]", b"{}", b"null", b'{"protocol": 1}', b"\xff", b"[" * 100_000], ids=lambda p: repr(p[:20])
)
async def test_a_malformed_greeting(tmp_path: Path, payload: bytes) -> None:
    async with open_nodes(tmp_path) as nodes:
        assert (await greet(nodes, payload)).code in (Code.MESSAGE_TYPE, Code.VERSION_MISMATCH)


async def test_a_greeting_with_a_path_that_is_no_bytes(tmp_path: Path) -> None:
    async with open_nodes(tmp_path) as nodes:
        fault = await greet(nodes, dump(hello(nodes)).replace(b'"targets":["', b'"targets":["/\\u540d'))
        assert fault.code == Code.MESSAGE_TYPE


@pytest.mark.parametrize("nested", ["", "deeper", ".."])
async def test_two_rules_with_one_target(tmp_path: Path, nested: str) -> None:
    async with open_nodes(tmp_path) as nodes:
        (nodes.source / "file").write_text("first")
        pair = Pair(source=os.fsencode(nodes.source), target=os.path.normpath(os.fsencode(nodes.target / nested)))
        async with nodes.running():
            with pytest.raises(StopRule, match="data1") as refused:
                await nodes.run(nodes.rule(name="data2", pairs=(pair,)), status=RuleStatus(name="data2"))
            assert refused.value.code is Code.DUPLICATE_TASK
            assert refused.value.cause.endswith(f"writes {nodes.target} already")
        assert compare_trees(nodes.source, nodes.target, owners=OWNS) == []


@pytest.mark.parametrize("where", ["elsewhere", "backup/../elsewhere", "backupelse"])
async def test_a_target_outside_the_allowed_directories(tmp_path: Path, where: str) -> None:
    async with open_nodes(tmp_path) as nodes:
        target = os.fsencode(tmp_path) + b"/" + where.encode()
        before = sorted(os.listdir(tmp_path))
        with pytest.raises(I2Error) as refused:
            await nodes.run(nodes.rule(pairs=(Pair(source=os.fsencode(nodes.source), target=target),)), keep=False)
        assert refused.value.code is Code.ILLEGAL_PATH
        assert set(os.listdir(tmp_path)) - set(before) <= {"state"}
        assert os.listdir(tmp_path / "backup") == []


def key(home: Path, secret: str) -> DriverChoice:
    """The encryption with this letter's key."""
    path = home / f"{secret}.key"
    path.write_bytes(secret.encode() * 32)
    path.chmod(0o600)
    return DriverChoice(name="aesgcm", options={"key_file": str(path)})


ZSTD = DriverChoice(name="zstd")


async def test_compressed_and_encrypted(tmp_path: Path) -> None:
    async with open_nodes(tmp_path, *aesgcm(), *zstd()) as nodes:
        nodes.role = attrs.evolve(nodes.role, keys={"data1": key(tmp_path, "a")})
        nodes.boot()
        (nodes.source / "text").write_text("much of the same " * 100_000)
        (nodes.source / "noise").write_bytes(os.urandom(200_000))
        rule = nodes.rule(codecs=(ZSTD, key(tmp_path, "a")))
        status = await nodes.run(rule)
        assert compare_trees(nodes.source, nodes.target, owners=OWNS) == []
        assert status.wire_bytes < 300_000
        assert (await nodes.run(rule)).sent_files == 0


@pytest.mark.parametrize(
    ("sends", "has", "code"),
    [("a", "b", Code.DECRYPT), ("", "b", Code.DECRYPT), ("a", "", Code.USAGE)],
    ids=["wrong key", "not encrypted", "no key here"],
)
async def test_a_key_that_does_not_fit(tmp_path: Path, sends: str, has: str, code: Code) -> None:
    async with open_nodes(tmp_path, *aesgcm(), *zstd()) as nodes:
        nodes.role = attrs.evolve(nodes.role, keys={"data1": key(tmp_path, has)} if has else {})
        nodes.boot()
        (nodes.source / "file").write_text("secret")
        with pytest.raises((StopRule, UsageError)) as refused:
            await nodes.run(nodes.rule(codecs=(ZSTD, key(tmp_path, sends)) if sends else (ZSTD,)))
        assert refused.value.code is code
        assert not nodes.target.exists() or list(nodes.target.iterdir()) == []


async def test_a_batch_for_a_root_that_does_not_exist(tmp_path: Path) -> None:
    async with open_nodes(tmp_path) as nodes:
        stream = await nodes.wire.connect(Peer("bak", "127.0.0.1", nodes.ports, None), Channel.MIRROR)
        with pytest.raises(I2Error, match="root 1 does not exist"):
            async with open_session(
                stream, hello(nodes), CodecChain(()), SeqCounter(), on_ack=lambda _: None, on_hold=lambda _: None
            ) as session:
                await session.send_records([Record(Kind.MKDIR, 1, b"dir")])
                await session.settle()
