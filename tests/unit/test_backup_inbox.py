"""Frames that wait on the backup node: bounded, in order, and not a reason to assume that the peer is gone."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from i2core.api import LinkError
from i2core.rule.backup.session import inbox as inbox_module
from i2core.rule.backup.session.inbox import INBOX_BYTES, INBOX_FRAMES, Inbox
from i2core.rule.backup.session.progress_signal import ProgressSignal
from i2core.wire.frame import FrameStream, FrameType
from i2core.wire.keep_alive import PING_S, SILENCE_S

from .scripted_sink import link, received


def opened() -> tuple[Inbox, FrameStream]:
    """An inbox, and the work node's end of its link."""
    frames, peer = link()
    return Inbox(frames, ProgressSignal([])), peer


async def test_it_holds_some_frames_and_answers_pings_meanwhile() -> None:
    inbox, peer = opened()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(inbox.receive_all)
        for ident in range(INBOX_FRAMES):
            await peer.send(FrameType.NAMES, b"x", ident=ident)
        await peer.send(FrameType.PING, b"")
        (pong,) = await received(peer, 1)
        assert pong.type is FrameType.PONG
        await peer.aclose()
        assert [frame.ident async for frame in inbox] == list(range(INBOX_FRAMES))


async def test_batches_that_wait_are_taken_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    inbox, peer = opened()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(inbox.receive_all)
        for ident, kind in enumerate((FrameType.BATCH, FrameType.BATCH, FrameType.NAMES, FrameType.BATCH)):
            await peer.send(kind, bytes(INBOX_BYTES // 5), ident=ident)
        await trio.testing.wait_all_tasks_blocked()
        taken: list[tuple[int, ...]] = []
        await peer.aclose()
        async for frame in inbox:
            following = []
            while (more := inbox.following_batch()) is not None:
                following.append(more.ident)
            taken.append((frame.ident, *following))
            inbox.handled(frame)
    assert taken == [(0, 1), (2, 3)]


async def test_long_frames_wait_on_the_link_until_there_is_room() -> None:
    """Two frames fill the inbox together: the second one is read, the next one is not."""
    inbox, peer = opened()
    long = bytes(INBOX_BYTES // 2 + 1)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(inbox.receive_all)
        for _ in range(3):
            nursery.start_soon(peer.send, FrameType.BATCH, long)
        await trio.testing.wait_all_tasks_blocked()
        assert inbox.waiting.statistics().current_buffer_used == 2
        inbox.handled(await inbox.waiting.receive())
        await trio.testing.wait_all_tasks_blocked()
        assert inbox.waiting.statistics().current_buffer_used == 2
        nursery.cancel_scope.cancel()


async def test_silence_ends_the_session_when_it_is_seen_twice(autojump_clock: MockClock) -> None:
    inbox, _ = opened()
    began = trio.current_time()
    with pytest.raises(LinkError, match="nothing came"):
        await inbox.detect_silence()
    assert SILENCE_S < trio.current_time() - began <= SILENCE_S + 2 * PING_S


async def test_a_frame_that_waits_for_room_is_not_silence(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a mass delete is held nothing is read, however long that takes: the peer may still be there."""
    monkeypatch.setattr(inbox_module, "INBOX_BYTES", 0)
    inbox, peer = opened()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(inbox.receive_all)
        nursery.start_soon(inbox.detect_silence)
        await peer.send(FrameType.NAMES, b"x")
        await trio.sleep(10 * SILENCE_S)
        frame = await inbox.waiting.receive()
        inbox.handled(frame)
        assert inbox.waiting.statistics().current_buffer_used == 0
        nursery.cancel_scope.cancel()


async def test_pongs_are_sent_without_a_ping(autojump_clock: MockClock) -> None:
    inbox, peer = opened()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(inbox.keep_alive)
        assert {frame.type for frame in await received(peer, 3)} == {FrameType.PONG}
        nursery.cancel_scope.cancel()
