"""A stalled transfer is detected, reported and started again; a slow one is left alone. Both nodes are real; their
clock runs at a multiple of the wall clock."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from i2_sink_fs.plugin import i2_sinks
from trio.testing import MockClock

from i2core.api import (
    Applied,
    Ask,
    Batch,
    Channel,
    ClientTransport,
    Code,
    DriverSpec,
    Peer,
    Place,
    Seen,
    Sink,
    SinkContext,
)
from i2core.limits.throttle import Throttle
from i2core.rule.backup.session import progress_signal
from i2core.rule.life.report import Say
from i2core.rule.life.status import RuleStatus
from i2core.rule.work.runner import run_rule
from i2core.rule.work.work_rule import WorkRule
from i2core.testing.trees import compare_trees

from .pair import Nodes, open_nodes

LIMIT_S = 1000.0
"""By the quick clock."""


@pytest.fixture
def quick_clock() -> MockClock:
    """Twenty seconds pass in one."""
    return MockClock(rate=20.0)


@attrs.define
class Pace:
    """Decides how long each batch takes."""

    wait: Callable[[int], Awaitable[None]]
    batches: int = 0


class PacedSink(Sink):
    """A sink that is slow for each batch."""

    def __init__(self, inner: Sink, pace: Pace) -> None:
        self._inner, self._pace, self.owns = inner, pace, inner.owns

    async def apply(self, batch: Batch) -> Applied:
        self._pace.batches += 1
        await self._pace.wait(self._pace.batches)
        return await self._inner.apply(batch)

    async def flush(self) -> None:
        await self._inner.flush()

    async def look(self, asks: Sequence[Ask]) -> list[Seen]:
        return await self._inner.look(asks)

    async def tidy(self, place: Place, staged: Collection[bytes]) -> bool:
        return await self._inner.tidy(place, staged)

    async def unstage(self, places: Sequence[Place]) -> None:
        await self._inner.unstage(places)

    async def hashes(self, place: Place, first: int, count: int, *, staged: bool = False) -> bytes:
        return await self._inner.hashes(place, first, count, staged=staged)

    async def hashes_of(self, places: Sequence[Place], most: int) -> list[bytes]:
        return await self._inner.hashes_of(places, most)

    async def count(self, place: Place, limit: int) -> int:
        return await self._inner.count(place, limit)

    async def set_aside(self, place: Place, destination: bytes) -> None:
        await self._inner.set_aside(place, destination)


def paced(pace: Pace) -> DriverSpec:
    """The driver ``paced``."""
    (spec,) = i2_sinks()

    @asynccontextmanager
    async def open_paced(config: Any, context: SinkContext) -> AsyncIterator[Sink]:
        async with spec.open(config, context) as inner:
            yield PacedSink(inner, pace)

    return attrs.evolve(spec, name="paced", open=open_paced)


class Blocked(ClientTransport):
    """The first connection for a mirror accepts no more data after a while. Like TLS, it is broken once a send was
    cancelled: later sends fail."""

    def __init__(self, inner: ClientTransport) -> None:
        self._inner = inner
        self.left = 4
        """So many sends still pass."""

    async def connect(self, peer: Peer, channel: Channel) -> trio.abc.Stream:
        stream = await self._inner.connect(peer, channel)
        return BlockedStream(stream, self) if channel is Channel.MIRROR and self.left else stream


class BlockedStream(trio.abc.Stream):
    """One stream of `Blocked`."""

    def __init__(self, inner: trio.abc.Stream, transport: Blocked) -> None:
        self._inner = inner
        self._transport = transport
        self._torn = False

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        if self._torn:
            raise trio.BrokenResourceError("an earlier send was broken off in the middle")
        if self._transport.left:
            self._transport.left -= 1
            await self._inner.send_all(data)
            return
        self._torn = True
        await trio.sleep_forever()

    async def wait_send_all_might_not_block(self) -> None:
        await self._inner.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        return await self._inner.receive_some(max_bytes)

    async def aclose(self) -> None:
        await self._inner.aclose()


async def run(
    nodes: Nodes, throttle: Throttle | None = None, say: Say | None = None, transport: ClientTransport | None = None
) -> None:
    """Mirrors once."""
    with trio.fail_after(LIMIT_S):
        await run_rule(
            WorkRule(
                rule=nodes.rule(), peer=Peer("bak", "127.0.0.1", nodes.ports, None), throttle=throttle or Throttle()
            ),
            registry=nodes.registry,
            transport=transport or nodes.wire,
            status=RuleStatus(name="data1"),
            state_dir=nodes.home / "work",
            once=True,
            say=say or nodes.say,
        )


async def test_a_stalled_transfer_is_detected_reported_and_started_again(
    tmp_path: Path, quick_clock: MockClock
) -> None:
    began: list[float] = []

    async def wait(batch: int) -> None:
        if batch == 1:
            began.append(trio.current_time())
            await trio.sleep_forever()

    async with open_nodes(tmp_path, paced(Pace(wait)), sink="paced") as nodes:
        (nodes.source / "file").write_bytes(b"content")
        found: list[float] = []

        def noted(rule: str, code: Code | None, line: str) -> None:
            if code is Code.STALLED:
                found.append(trio.current_time())
            nodes.say(rule, code, line)

        await run(nodes, say=noted)
        assert compare_trees(nodes.source, nodes.target) == []
        assert len(found) == 1
        # 30 s are promised; this clock runs many times as fast, perhaps on a busy machine.
        assert found[0] - began[0] < 60


async def test_a_connection_that_accepts_nothing_is_reported_as_a_stall_only(
    tmp_path: Path, quick_clock: MockClock
) -> None:
    async with open_nodes(tmp_path) as nodes:
        for number in range(20):
            (nodes.source / f"file{number}").write_bytes(os.urandom(900_000))
        await run(nodes, transport=Blocked(nodes.wire))
        assert compare_trees(nodes.source, nodes.target) == []
        assert nodes.codes().count(Code.STALLED) == 1


async def test_a_low_limit_is_not_a_stall(tmp_path: Path, quick_clock: MockClock) -> None:
    """One frame takes more than a minute."""
    async with open_nodes(tmp_path) as nodes:
        (nodes.source / "file").write_bytes(os.urandom(600_000))
        throttle = Throttle()
        throttle.own.set(64_000)
        began = trio.current_time()
        await run(nodes, throttle)
        assert compare_trees(nodes.source, nodes.target) == []
        assert trio.current_time() - began > 70
        assert nodes.codes().count(Code.NETWORK) == nodes.codes().count(Code.STALLED) == 0


async def test_a_slow_disk_with_progress_is_not_a_stall(
    tmp_path: Path, quick_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def wait(batch: int) -> None:
        await trio.sleep(90)

    monkeypatch.setattr(progress_signal, "waits_for_disk", lambda: True)
    monkeypatch.setattr(progress_signal, "disk_sectors", lambda device: int(trio.current_time() * 100))
    async with open_nodes(tmp_path, paced(Pace(wait)), sink="paced") as nodes:
        (nodes.source / "file").write_bytes(b"content")
        began = trio.current_time()
        await run(nodes)
        assert compare_trees(nodes.source, nodes.target) == []
        assert trio.current_time() - began > 90
        assert nodes.codes().count(Code.NETWORK) == nodes.codes().count(Code.STALLED) == 0
