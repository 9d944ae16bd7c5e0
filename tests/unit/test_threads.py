"""Worker threads of a backup node: no peer takes those of another, and work that nobody waits for ends."""

from __future__ import annotations

import ast
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import i2_codec_aesgcm
import i2_sink_fs
import i2_store_cdp
import pytest
import trio
import trio.testing

from i2core.api import (
    Ask,
    Channel,
    DriverKind,
    DriverSpec,
    Entry,
    NoConfig,
    Seen,
    Sink,
    SinkContext,
    check_cancelled,
    in_thread,
)
from i2core.api.threads import own_threads
from i2core.config.model import BackupRole, DriverChoice
from i2core.posix.patience import patiently
from i2core.rule import backup
from i2core.rule.backup.entry.admission import THREADS, Admission
from i2core.rule.backup.service import BackupService
from i2core.wire.frame import FrameStream, FrameType
from i2core.wire.listing import Chunk, encode_survey
from i2core.wire.messages import BrakeLimits, Hello, OrphanPolicy, dump

from .scripted_sink import ScriptedSink
from .test_memory_tree import Only

GUARD_S = 60.0
"""A test that takes so long has failed."""
SESSIONS = 41
"""More than trio's default limit of threads, which is 40."""
SURVEY = encode_survey([Chunk(0, b"", Entry(b"", 0o40755, 0, 0, 0, 0), True, True, False, [])])


class Stuck:
    """Work that does not end before `gate` is set."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.running = 0

    def __call__(self) -> None:
        trio.from_thread.run_sync(self._begun)
        self.gate.wait(GUARD_S)

    def _begun(self) -> None:
        self.running += 1


class StuckSink(ScriptedSink):
    """The targets of "evil" lie on a disk that does not answer."""

    def __init__(self, roots: Sequence[bytes], stuck: Stuck) -> None:
        super().__init__()
        self._work = stuck if b"evil" in roots[0] else bool

    async def look(self, asks: Sequence[Ask]) -> list[Seen]:
        await patiently(self._work, print, str)
        return await super().look(asks)


def service(stuck: Stuck, state_dir: Path) -> BackupService:
    """A backup node with such a sink."""

    @asynccontextmanager
    async def open_stuck(_config: NoConfig, context: SinkContext) -> AsyncIterator[Sink]:
        yield StuckSink(context.roots, stuck)

    spec = DriverSpec(kind=DriverKind.SINK, name="stuck", summary="for this test", open=open_stuck)
    role = BackupRole(allow_roots=(b"/replicas",), sink=DriverChoice(name="stuck"), plaintext=True)
    return BackupService(role, registry=Only(spec), state_dir=state_dir, say=lambda *_: None)


async def welcomed(node: BackupService, nursery: trio.Nursery, peer: str, rule: str) -> FrameStream:
    """A session of the peer."""
    hello = Hello(
        version="0",
        rule=rule,
        channel=Channel.MIRROR.value,
        epoch=1,
        targets=[f"/replicas/{peer}/{rule}"],
        codecs=[],
        orphans=OrphanPolicy(),
        brake=BrakeLimits(share=0.5, window_s=60, least=1000),
    )
    here, there = trio.testing.memory_stream_pair()
    nursery.start_soon(node.handle, there, Channel.MIRROR, peer)
    frames = FrameStream(here)
    await frames.send(FrameType.HELLO, dump(hello))
    answer = await frames.receive()
    assert answer is not None and answer.type is FrameType.WELCOME, answer
    return frames


async def test_a_peer_whose_work_does_not_end_stops_no_other(tmp_path: Path) -> None:
    """The case that broke: 41 sessions of one work node kept all threads of the process busy."""
    stuck = Stuck()
    node = service(stuck, tmp_path)
    with trio.fail_after(GUARD_S):
        async with trio.open_nursery() as nursery:
            try:
                web = await welcomed(node, nursery, "web", "data")
                evil = [await welcomed(node, nursery, "evil", f"r{number}") for number in range(SESSIONS)]
                for frames in evil:
                    await frames.send(FrameType.SURVEY, SURVEY, ident=1)
                while stuck.running < THREADS:
                    await trio.testing.wait_all_tasks_blocked(0.01)
                await web.send(FrameType.SURVEY, SURVEY, ident=1)
                answer = await web.receive()
                while answer is not None and answer.type is FrameType.ACK:  # of the first flush
                    answer = await web.receive()
                assert answer is not None and answer.type is FrameType.VERDICTS
                assert await trio.to_thread.run_sync(int) == 0, "nor the node itself"
                assert stuck.running == THREADS
            finally:
                stuck.gate.set()
                nursery.cancel_scope.cancel()


async def test_all_connections_of_a_peer_have_the_same_threads() -> None:
    admission = Admission()
    mine = admission.threads("web")
    assert admission.threads("web") is mine
    assert admission.threads("db") is not mine
    assert mine.total_tokens == THREADS


async def test_tasks_inherit_the_threads_and_the_others_do_not() -> None:
    limiter = trio.CapacityLimiter(1)
    borrowed: list[int] = []

    async def note() -> None:
        await in_thread(lambda: borrowed.append(int(limiter.borrowed_tokens)))

    with own_threads(limiter):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(note)
    await note()
    assert borrowed == [1, 0]


async def test_work_that_nobody_waits_for_ends() -> None:
    def work() -> None:
        trio.from_thread.run_sync(scope.cancel)
        while True:
            check_cancelled()

    with trio.fail_after(GUARD_S), trio.CancelScope() as scope:
        await in_thread(work)
    assert scope.cancelled_caught
    check_cancelled()  # without a task it does nothing


def direct_calls(source: str) -> bool:
    """True when this source text starts a thread that belongs to nobody's share."""
    nodes = ast.walk(ast.parse(source))
    return any(isinstance(node, ast.Attribute) and node.attr == "to_thread" for node in nodes)


@pytest.mark.parametrize("package", [backup, i2_sink_fs, i2_store_cdp, i2_codec_aesgcm])
def test_all_work_for_a_peer_uses_its_threads(package: object) -> None:
    (directory,) = package.__path__  # type: ignore[attr-defined]
    assert [path.name for path in Path(directory).rglob("*.py") if direct_calls(path.read_text())] == []
    assert direct_calls("await trio.to_thread.run_sync(work)")
