"""Only records applied before the sync are reported as durable, and only when the position is on disk."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from i2core.api import Channel, Code, Failure, LinkError, Place, StopRule
from i2core.config.model import FlushWindow
from i2core.rule.backup.replica.replica import Replica
from i2core.rule.backup.session import durability
from i2core.rule.backup.session.acks import ACK_BYTES, Acknowledger
from i2core.rule.backup.session.durability import MIRROR_WINDOW, DurabilityWindow, flush_window
from i2core.rule.backup.session.progress_signal import ProgressSignal
from i2core.rule.backup.session.unflushed import Unflushed
from i2core.wire.frame import FrameStream, FrameType
from i2core.wire.free_text import TEXT_CHARS
from i2core.wire.messages import Ack, FailedRecord, parse

from .scripted_sink import ScriptedSink, link, received, replica_at


class Window:
    """A window over a scripted sink; `peer` is the work node's end."""

    def __init__(
        self, directory: Path, full_bytes: int = 100, after_s: float = 1.0, replica: Replica | None = None
    ) -> None:
        self.sink, self.replica = ScriptedSink(), replica or replica_at(directory)
        self.unflushed = Unflushed(full_bytes)
        frames, self.peer = link()
        acks = Acknowledger(frames, self.replica)
        signal = ProgressSignal([])
        self.window = DurabilityWindow(self.sink, self.replica, self.unflushed, acks, signal, after_s=after_s)

    def change(self, seq: int, size_bytes: int = 1) -> None:
        self.replica.progress.mark(seq)
        self.unflushed.note(size_bytes, seq=seq)

    def flushes(self) -> int:
        return len(self.sink.done)


@pytest.fixture
def opened(tmp_path: Path) -> Callable[..., Window]:
    return lambda **options: Window(tmp_path, **options)


async def test_what_is_applied_during_the_sync_is_not_durable(opened: Callable[..., Window]) -> None:
    made = opened()
    made.change(5)

    async def meanwhile() -> None:
        made.change(7)

    made.sink.while_flushing = meanwhile
    await made.window.flush(report=False)
    assert (made.replica.durable_seq, made.unflushed.any) == (5, True)
    made.sink.while_flushing = None
    await made.window.flush(report=False)
    assert (made.replica.durable_seq, made.unflushed.any) == (7, False)


async def test_a_flush_does_not_cover_what_the_other_session_has_applied(opened: Callable[..., Window]) -> None:
    """A rule has two sessions while it mirrors. Each has a sink of its own, which syncs what it has changed."""
    live = opened()
    mirror = opened(replica=live.replica)
    live.unflushed.note(seq=39)  # applied by earlier sessions
    mirror.change(40)
    await live.window.flush(report=False)
    assert live.replica.durable_seq == 39
    await mirror.window.flush(report=False)
    assert live.replica.durable_seq == 40
    live.unflushed.note()
    await live.window.flush(report=False)
    assert live.replica.durable_seq == 40


async def test_a_failed_sync_makes_nothing_durable(opened: Callable[..., Window]) -> None:
    made = opened()
    made.change(5)

    async def fail() -> None:
        raise StopRule("the disk fails", code=Code.REPLICATE_FILE)

    made.sink.while_flushing = fail
    with pytest.raises(StopRule):
        await made.window.flush(report=False)
    assert made.replica.durable_seq == 0


async def test_the_roots_of_a_later_session_are_not_reported_as_durable(
    opened: Callable[..., Window], tmp_path: Path
) -> None:
    """The last flush of a session may end when the next session has found other directories."""
    made = opened()
    await made.replica.begin(1, [b"/target"])
    made.change(5)

    async def exchange() -> None:
        await made.replica.begin(1, [b"/target"], exchanged=True)

    made.sink.while_flushing = exchange
    await made.window.flush(report=False)
    assert replica_at(tmp_path).durable_seq == 0


async def test_a_window_ends_by_its_time_or_when_it_is_full(
    opened: Callable[..., Window], mock_clock: MockClock
) -> None:
    made = opened(full_bytes=100, after_s=60.0)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(made.window.run)
        made.change(1, 40)
        await trio.testing.wait_all_tasks_blocked()
        mock_clock.jump(59)
        await trio.testing.wait_all_tasks_blocked()
        assert made.flushes() == 0
        mock_clock.jump(2)
        await acks_of(made.peer, 1)
        assert (made.flushes(), made.replica.durable_seq) == (1, 1)
        made.change(2, 40)
        made.change(3, 60)
        await acks_of(made.peer, 1)
        assert (made.flushes(), made.replica.durable_seq) == (2, 3)
        nursery.cancel_scope.cancel()


async def test_nothing_changed_is_nothing_to_flush_but_is_answered(opened: Callable[..., Window]) -> None:
    made = opened()
    await made.window.flush(report=True)
    (frame,) = await received(made.peer, 1)
    assert (frame.type, made.flushes()) == (FrameType.ACK, 0)


async def test_an_idle_session_checks_that_its_roots_are_there(
    opened: Callable[..., Window], autojump_clock: MockClock
) -> None:
    made = opened()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(made.window.watch_roots)
        await trio.sleep(3 * durability.ROOTS_S + 1)
        assert made.flushes() == 3
        made.change(1)
        await trio.sleep(3 * durability.ROOTS_S)
        assert made.flushes() == 3, "a flush is due anyway"
        nursery.cancel_scope.cancel()


def test_a_mirror_has_a_wide_window() -> None:
    live = FlushWindow(after_s=0.2, size=8 << 20)
    assert flush_window(Channel.REPLICATION, live) is live
    assert flush_window(Channel.MIRROR, live) is MIRROR_WINDOW


# ------------------------------------------------------------------------------------------------ acks


def failure(seq: int, message: str) -> Failure:
    return Failure(seq, Place(0, b"f%d" % seq), Code.REPLICATE_FILE, message)


async def acks_of(peer: FrameStream, count: int) -> list[Ack]:
    return [parse(frame.payload, Ack) for frame in await received(peer, count)]


async def test_an_ack_is_never_ahead_of_the_failures(tmp_path: Path) -> None:
    """They take three messages: only the last one reports the batch as applied."""
    replica, (frames, peer) = replica_at(tmp_path), link()
    acks = Acknowledger(frames, replica)
    long = failure(1, "x" * TEXT_CHARS)
    last = 2 * (ACK_BYTES // FailedRecord.of(long).most_bytes()) + 1
    replica.progress.mark(last)
    await replica.mark_durable(last)
    failures = [long._replace(seq=seq) for seq in range(1, last + 1)]
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(acks.acknowledge, failures, last)
            found = await acks_of(peer, 3)
    assert [(ack.applied_seq, ack.durable_seq) for ack in found] == [(0, 0), (0, 0), (last, last)]
    assert [each.seq for ack in found for each in ack.failures] == [*range(1, last + 1)]


async def test_durable_is_never_reported_beyond_what_was_answered(tmp_path: Path) -> None:
    """A flush may end while a batch is being applied whose failures are not reported yet."""
    replica, (frames, peer) = replica_at(tmp_path), link()
    acks = Acknowledger(frames, replica)
    replica.progress.mark(3)
    await replica.mark_durable(3)
    await acks.report()
    await acks.acknowledge([], 3)
    found = await acks_of(peer, 2)
    assert [(ack.applied_seq, ack.durable_seq) for ack in found] == [(0, 0), (3, 3)]


async def test_an_ack_that_cannot_be_sent_matters_only_with_failures(tmp_path: Path) -> None:
    replica: Replica = replica_at(tmp_path)
    frames, peer = link()
    acks = Acknowledger(frames, replica)
    await peer.aclose()
    await frames.aclose()
    await acks.report()
    with pytest.raises(LinkError):
        await acks.acknowledge([failure(1, "no")], 1)
