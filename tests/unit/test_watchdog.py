"""What is a stall, and what only looks like one; on trio's clock."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import cast

import attrs
import pytest
import trio
from trio.testing import MockClock

from i2core.api import Code, LinkError
from i2core.limits.throttle import Throttle, ThrottledStream
from i2core.rule.work.watchdog import ASLEEP_S, LOOK_S, STALL_S, StallWatch, TransferCounters, detect_stall
from i2core.wire.session import Session

STILL = TransferCounters(0, 0, 0, 0, 0)
HOUR_S = 3600


@attrs.define
class Transfer:
    """A session as the watchdog sees it."""

    owed: bool = True
    applied_seq: int = 0
    durable_seq: int = 0
    answered: int = 0
    peer_beat: int = 0
    ping_bytes: int = 0
    stream: SimpleNamespace = attrs.field(factory=lambda: SimpleNamespace(sent_bytes=0))
    throttle: Throttle = attrs.field(factory=Throttle)
    held: bool = False

    window = questions = keep_alive = property(lambda self: self)

    async def watched(self) -> None:
        """As a rule watches it."""
        session, stream = cast(Session, self), cast(ThrottledStream, self.stream)
        await detect_stall(session, stream, self.throttle, lambda: self.held, "bak")

    async def stalls_within(self, seconds: float) -> bool:
        """Whether that is found."""
        with trio.move_on_after(seconds):
            try:
                await self.watched()
            except LinkError as error:
                assert (error.code, error.obj) == (Code.STALLED, "bak")
                return True
        return False


async def test_a_stall_is_found_within_half_a_minute(autojump_clock: MockClock) -> None:
    assert await Transfer().stalls_within(30)


@pytest.mark.parametrize(
    "excuse",
    [
        lambda t: setattr(t, "owed", False),
        lambda t: setattr(t, "held", True),
        lambda t: setattr(t.throttle, "holding", 1),
    ],
    ids=["nothing to send", "held", "waiting for bandwidth"],
)
async def test_a_transfer_that_waits_for_a_reason_is_not_stalled(
    excuse: Callable[[Transfer], None], autojump_clock: MockClock
) -> None:
    transfer = Transfer()
    excuse(transfer)
    assert not await transfer.stalls_within(HOUR_S)


@pytest.mark.parametrize("counter", ["applied_seq", "durable_seq", "answered", "peer_beat", "sent_bytes"])
async def test_a_transfer_with_occasional_progress_is_not_stalled(counter: str, autojump_clock: MockClock) -> None:
    transfer = Transfer()
    moving = transfer.stream if counter == "sent_bytes" else transfer

    async def move() -> None:
        while True:
            await trio.sleep(15)
            setattr(moving, counter, getattr(moving, counter) + 1)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(move)
        assert not await transfer.stalls_within(HOUR_S)
        nursery.cancel_scope.cancel()


async def test_pings_are_not_progress(autojump_clock: MockClock) -> None:
    transfer = Transfer()

    async def ping() -> None:
        while True:
            await trio.sleep(5)
            transfer.ping_bytes += 16
            transfer.stream.sent_bytes += 16

    async with trio.open_nursery() as nursery:
        nursery.start_soon(ping)
        assert await transfer.stalls_within(30)
        nursery.cancel_scope.cancel()


async def test_a_transfer_with_progress_may_stall_later(autojump_clock: MockClock) -> None:
    transfer = Transfer(held=True)
    async with trio.open_nursery() as nursery:

        async def release() -> None:
            await trio.sleep(HOUR_S)
            transfer.held = False

        nursery.start_soon(release)
        assert await transfer.stalls_within(HOUR_S + 30)


def test_a_process_that_did_not_run_reports_no_stall() -> None:
    watch = StallWatch()
    now = 1000.0
    assert not watch.look(now, STILL, waits=True)
    now += STALL_S * 100
    assert not watch.look(now, STILL, waits=True)
    while now < 1000.0 + STALL_S * 101 - 2 * LOOK_S:
        now += LOOK_S
        assert not watch.look(now, STILL, waits=True)
    assert watch.look(now + 2 * LOOK_S, STILL, waits=True)
    assert LOOK_S < ASLEEP_S < STALL_S
