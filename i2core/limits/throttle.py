"""Bandwidth limits on streams: data of a rule passes the rule's own limit, then the limit that all rules share.

All bytes that enter the connection count: frames with batches, questions and pings, and the overhead of TLS records.
No other module knows about limits: a throttled stream looks like a slow link.

::

    mirror stream ──┐                     ┌── another rule's
                    ├─▶ the rule's limit ─┴─▶ the node's limit ─▶ connection
    live stream ────┘

A limit is kept as the moment at which the next byte is due (the virtual scheduling form of a token bucket), so a new
rate applies from the next slice on. When several flows wait for one limit, the one that has sent least goes first
(start-time fair queuing), independently of the sizes of their slices.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Sequence

import trio

BURST_S = 0.08
"""Burst: after a pause, so many seconds' worth may be sent at once."""
SLICE_S = 0.03
"""A slice is so many seconds' worth: small enough for others to take turns, large enough to cost nothing."""
LEAST_SLICE = 1400
"""Bytes: about what one packet carries. With smaller slices the headers would be too large a share."""
MOST_SLICE = 256 * 1024
FREE_SLICE = 8 * 1024 * 1024
SLOW_S, QUICK_S = 1.0, 0.25
RECORD_BYTES, RECORD_OVERHEAD = 16 * 1024, 22
"""RFC 8446, 5.2: most bytes in a TLS record, and its overhead with AES-GCM."""


class RateLimit:
    """So many bits a second on the wire, shared by `Flow`s. 0: nothing passes; None: no limit."""

    def __init__(self, bps: int | None = None) -> None:
        self._bps = bps
        self._due = -float("inf")
        self._virtual = 0.0
        self._queue: list[_Waiting] = []
        self._numbers = itertools.count()
        self._changed = trio.Event()

    @property
    def bps(self) -> int | None:
        """The limit in force."""
        return self._bps

    @property
    def slice_bytes(self) -> int:
        """The most that passes in one go."""
        return FREE_SLICE if self._bps is None else min(max(int(self._bps / 8 * SLICE_S), LEAST_SLICE), MOST_SLICE)

    def set(self, bps: int | None) -> None:
        """Sets the limit, also for flows that wait now."""
        if bps != self._bps:
            self._bps = bps
            self._changed.set()
            self._changed = trio.Event()

    def flow(self) -> Flow:
        """Adds a flow that shares this limit."""
        return Flow(self)

    async def _admit(self, flow: Flow, most: int) -> int:
        waiting = _Waiting(max(self._virtual, flow.finish), next(self._numbers))
        heapq.heappush(self._queue, waiting)
        try:
            while self._queue[0] is not waiting or not self._open():
                await self._wait(waiting)
            granted = min(most, self.slice_bytes)
            cost = granted + -(-granted // RECORD_BYTES) * RECORD_OVERHEAD
            self._virtual = waiting.start
            flow.finish = max(flow.finish, waiting.start) + cost
            if self._bps:
                self._due = max(self._due, trio.current_time() - BURST_S) + cost * 8 / self._bps
            return granted
        finally:
            self._queue.remove(waiting)
            heapq.heapify(self._queue)
            if self._queue:
                self._queue[0].first.set()

    def _open(self) -> bool:
        return self._bps is None or (self._bps > 0 and trio.current_time() >= self._due)

    async def _wait(self, waiting: _Waiting) -> None:
        if self._queue[0] is not waiting:
            waiting.first = trio.Event()
            await waiting.first.wait()
            return
        until = self._due if self._bps else float("inf")
        with trio.move_on_at(until):
            await self._changed.wait()


class _Waiting:
    """One slice in the queue of a limit; ordered by the bytes that its flow had before."""

    def __init__(self, start: float, number: int) -> None:
        self.start = start
        self._number = number
        self.first = trio.Event()

    def __lt__(self, other: _Waiting) -> bool:
        return (self.start, self._number) < (other.start, other._number)


class Flow:
    """One user of a limit. Each flow gets an equal share, or less if it needs less."""

    def __init__(self, limit: RateLimit) -> None:
        self.limit = limit
        self.finish = 0.0
        """The end of its last slice in the limit's virtual time, which is counted in bytes."""

    async def admit(self, most: int) -> int:
        """Waits until some of `most` bytes may be sent, counts them, and returns their number; at once if there is no
        limit.

        Cancellation: nothing was counted.
        """
        return most if self.limit.bps is None else await self.limit._admit(self, most)


class Throttle:
    """All limits of one rule: its own, and those shared with other rules."""

    def __init__(self, shared: Sequence[RateLimit] = ()) -> None:
        self.own = RateLimit()
        self._flows = [limit.flow() for limit in (self.own, *shared)]
        self.holding = 0
        """Number of slices that wait for a limit now: while it is not 0, a transfer without progress is not stalled."""

    @property
    def bps(self) -> int | None:
        """The tightest limit in force, in bits a second; None when there is none."""
        return min((flow.limit.bps for flow in self._flows if flow.limit.bps is not None), default=None)

    async def admit(self, most: int) -> int:
        """Waits until some of `most` bytes may be sent, and returns their number."""
        if self.bps is None:
            return most
        # The slice of the tightest limit is used for all. Otherwise one limit could grant more than the next; the rest
        # would be counted again at the next call.
        granted = min(most, *(flow.limit.slice_bytes for flow in self._flows))
        self.holding += 1
        try:
            for flow in self._flows:
                granted = await flow.admit(granted)
        finally:
            self.holding -= 1
        return granted


class ThrottledStream(trio.abc.Stream):
    """A stream whose sending keeps within a rule's limits. Only sending is limited: the peer limits what it sends."""

    def __init__(self, inner: trio.abc.Stream, throttle: Throttle) -> None:
        self._inner = inner
        self._throttle = throttle
        self._sending = False
        self._free = MOST_SLICE
        self.sent_bytes = 0
        """Bytes that the inner stream has accepted."""

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Sends all data, in slices within the limits.

        Cancellation: a part may have been sent; the stream can only be closed.
        """
        if self._sending:
            raise trio.BusyResourceError("another task is sending on this stream")
        self._sending = True
        try:
            if not len(data):
                await self._inner.send_all(data)
            with memoryview(data) as given, given.cast("B") as view:
                at = 0
                while at < len(view):
                    granted = await self._throttle.admit(min(len(view) - at, self._free))
                    with view[at : at + granted] as part:
                        await self._send(part)
                    at += granted
        finally:
            self._sending = False

    async def _send(self, part: memoryview) -> None:
        begun = trio.current_time()
        await self._inner.send_all(part)
        took = trio.current_time() - begun
        self.sent_bytes += len(part)
        # Without a limit, slices only make progress visible, so their size follows the speed of the link.
        if took > SLOW_S:
            self._free = max(self._free // 2, LEAST_SLICE)
        elif took < QUICK_S and len(part) >= self._free:
            self._free = min(self._free * 2, FREE_SLICE)

    async def wait_send_all_might_not_block(self) -> None:
        """As for the inner stream; a limit may still delay the data."""
        if self._sending:
            raise trio.BusyResourceError("another task is sending on this stream")
        await self._inner.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Receives from the inner stream."""
        return await self._inner.receive_some(max_bytes)

    async def aclose(self) -> None:
        """Closes the inner stream."""
        await self._inner.aclose()
