"""Limits in bits per second, on trio's clock: how much passes a stream in any ten seconds, and of whom."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from i2core.limits.throttle import BURST_S, RateLimit, Throttle, ThrottledStream

RATES = [64_000, 512_000, 2_000_000, 50_000_000, 400_000_000]
BATCH = bytes(1_000_000)


class Meter(trio.abc.Stream):
    """A stream that accepts everything at once, and notes how much at what time."""

    def __init__(self) -> None:
        self.taken: list[tuple[float, int]] = []

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        await trio.lowlevel.checkpoint()
        self.taken.append((trio.current_time(), len(data)))

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.checkpoint()

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        raise NotImplementedError

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()

    def bits(self, since: float, until: float) -> int:
        """What was taken in that time."""
        return 8 * sum(size for at, size in self.taken if since <= at < until)


def throttled(bps: int | None, *shared: RateLimit) -> tuple[Throttle, Meter, ThrottledStream]:
    throttle = Throttle(shared)
    throttle.own.set(bps)
    meter = Meter()
    return throttle, meter, ThrottledStream(meter, throttle)


async def pump(stream: ThrottledStream, data: bytes = BATCH) -> None:
    while True:
        await stream.send_all(data)


@asynccontextmanager
async def pumping(*streams: ThrottledStream) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        for stream in streams:
            nursery.start_soon(pump, stream)
        yield
        nursery.cancel_scope.cancel()


@pytest.mark.parametrize("bps", RATES)
async def test_the_rate_is_kept_in_every_ten_seconds(bps: int, autojump_clock: MockClock) -> None:
    _, meter, stream = throttled(bps)
    began = trio.current_time()
    async with pumping(stream):
        await trio.sleep(25)
    for tenth in range(150):
        since = began + tenth / 10
        assert meter.bits(since, since + 10) == pytest.approx(bps * 10, rel=0.05)


@pytest.mark.parametrize("bps", RATES)
async def test_a_pause_saves_up_little(bps: int, autojump_clock: MockClock) -> None:
    _, meter, stream = throttled(bps)
    await stream.send_all(bytes(100))
    await trio.sleep(3600)
    began = trio.current_time()
    async with pumping(stream):
        await trio.sleep(1)
    packet = 8 * 3000  # at a low rate a slice or two are more than that
    assert meter.bits(began, began + 0.01) <= max(bps * (BURST_S + 0.05), packet)


async def test_one_limit_holds_for_both_connections_of_a_rule(autojump_clock: MockClock) -> None:
    throttle, mirror, first = throttled(2_000_000)
    live = Meter()
    async with pumping(first, ThrottledStream(live, throttle)):
        await trio.sleep(10)
    both = mirror.bits(0, 1e9) + live.bits(0, 1e9)
    assert both == pytest.approx(20_000_000, rel=0.05)


@pytest.mark.parametrize("own", [None, 1_900_000, 30_000_000])
async def test_rules_share_the_nodes_limit_in_equal_parts(own: int | None, autojump_clock: MockClock) -> None:
    node = RateLimit(2_000_000)
    _, first, one = throttled(None, node)
    _, second, other = throttled(own, node)
    async with pumping(one, other):
        await trio.sleep(10)
    assert first.bits(0, 1e9) == pytest.approx(10_000_000, rel=0.05)
    assert second.bits(0, 1e9) == pytest.approx(10_000_000, rel=0.05)


async def test_a_rule_that_may_use_little_leaves_the_rest_to_the_other(autojump_clock: MockClock) -> None:
    node = RateLimit(2_000_000)
    _, first, one = throttled(None, node)
    _, second, other = throttled(400_000, node)
    async with pumping(one, other):
        await trio.sleep(10)
    assert first.bits(0, 1e9) == pytest.approx(16_000_000, rel=0.05)
    assert second.bits(0, 1e9) == pytest.approx(4_000_000, rel=0.05)


async def test_a_rule_with_many_small_messages_gets_its_part(autojump_clock: MockClock) -> None:
    node = RateLimit(2_000_000)
    _, bulk, one = throttled(None, node)
    _, small, other = throttled(None, node)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(pump, one)
        nursery.start_soon(pump, other, bytes(300))
        await trio.sleep(10)
        nursery.cancel_scope.cancel()
    # A small message pays for a whole record around it.
    assert small.bits(0, 1e9) * 322 / 300 == pytest.approx(10_000_000, rel=0.05)
    assert bulk.bits(0, 1e9) == pytest.approx(10_000_000, rel=0.05)


async def test_a_small_message_waits_for_no_more_than_a_slice_of_each_other_rule(autojump_clock: MockClock) -> None:
    node = RateLimit(1_000_000)
    _, _, one = throttled(None, node)
    _, _, other = throttled(None, node)
    async with pumping(one):
        await trio.sleep(5)
        began = trio.current_time()
        await other.send_all(bytes(16))
        assert trio.current_time() - began < 0.1


async def test_a_new_limit_counts_at_once_also_for_those_who_wait(autojump_clock: MockClock) -> None:
    throttle, meter, stream = throttled(64_000)
    async with pumping(stream):
        await trio.sleep(5)
        for bps in (2_000_000, 50_000, 0, 1_000_000):
            throttle.own.set(bps)
            since = trio.current_time() + 0.5
            await trio.sleep(10.5)
            assert meter.bits(since, since + 10) == pytest.approx(bps * 10, rel=0.05), bps


async def test_a_lifted_limit_lets_all_flows_continue(autojump_clock: MockClock) -> None:
    throttle, _, one = throttled(8)
    other = ThrottledStream(Meter(), throttle)
    async with trio.open_nursery() as nursery:
        for stream in (one, other):
            nursery.start_soon(stream.send_all, bytes(10_000))
        await trio.sleep(1)
        assert (throttle.holding, throttle.bps) == (2, 8)
        throttle.own.set(None)
        with trio.fail_after(1):
            await trio.testing.wait_all_tasks_blocked()
    assert (throttle.holding, throttle.bps) == (0, None)
    assert (one.sent_bytes, other.sent_bytes) == (10_000, 10_000)


async def test_a_cancelled_flow_leaves_its_turn_to_the_next(autojump_clock: MockClock) -> None:
    node = RateLimit(100_000)
    _, first, one = throttled(None, node)
    _, second, other = throttled(None, node)
    async with pumping(one, other):
        with trio.move_on_after(0.3):
            await pump(ThrottledStream(Meter(), Throttle([node])))
        since = trio.current_time()
        await trio.sleep(20)
    assert first.bits(since, 1e9) + second.bits(since, 1e9) == pytest.approx(2_000_000, rel=0.05)


async def test_without_a_limit_what_is_sent_goes_through_as_it_is(autojump_clock: MockClock) -> None:
    _, meter, stream = throttled(None)
    began = trio.current_time()
    for _ in range(4):
        await stream.send_all(bytes(200_000))
    assert [size for _, size in meter.taken] == [200_000] * 4
    assert trio.current_time() == began


async def test_it_is_a_stream_like_any_other() -> None:
    async def make() -> tuple[ThrottledStream, ThrottledStream]:
        throttle = Throttle()
        throttle.own.set(1_000_000_000)
        one, other = trio.testing.memory_stream_pair()
        return ThrottledStream(one, throttle), ThrottledStream(other, Throttle())

    await trio.testing.check_two_way_stream(make, None)
