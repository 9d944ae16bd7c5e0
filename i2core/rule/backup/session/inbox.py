"""Receives the frames of one session, and detects whether the work node is still there.

Pings are answered here, before the frames that wait to be handled. The waiting frames are limited in number and bytes.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Self

import trio

from i2core.api import LinkError
from i2core.rule.backup.session.progress_signal import ProgressSignal
from i2core.wire.frame import Frame, FrameStream, FrameType
from i2core.wire.keep_alive import PING_S, SILENCE_S

INBOX_FRAMES = 4
INBOX_BYTES = 4 << 20
"""Most bytes of payload that wait to be handled; a longer one waits alone."""


class Inbox:
    """Frames that wait to be handled, in order of arrival."""

    def __init__(self, frames: FrameStream, signal: ProgressSignal) -> None:
        self._frames = frames
        self._signal = signal
        self._in, self.waiting = trio.open_memory_channel[Frame](INBOX_FRAMES)
        self._next: Frame | None = None
        """Taken from `waiting`, and not given to anybody yet."""
        self._bytes = 0
        self._room = trio.Event()
        self._listening_since = trio.current_time()
        """Since when silence counts; in the future while the next frame waits for room here."""

    async def receive_all(self) -> None:
        """Receives until the peer ends the session, and answers pings.

        Raises:
            LinkError, ProtocolError: the session broke.
        """
        # Closed without a checkpoint: if the reader ended first, an error here would be replaced by a cancellation.
        with self._in:
            while True:
                self._listening_since = trio.current_time()
                frame = await self._frames.receive()
                self._listening_since = float("inf")
                if frame is None:
                    return
                if frame.type is FrameType.PING:
                    await self._pong()
                    continue
                self._bytes += len(frame.payload)
                await self._in.send(frame)
                # The next frame is read only when there is room: otherwise a peer that sends the longest frames one
                # after the other would fill the memory.
                while self._bytes > INBOX_BYTES:
                    self._room = trio.Event()
                    await self._room.wait()

    def __aiter__(self) -> Self:
        """The frames, until the peer ends the session. Each is to be given to `handled`."""
        return self

    async def __anext__(self) -> Frame:
        frame, self._next = self._next, None
        if frame is None:
            try:
                frame = await self.waiting.receive()
            except trio.EndOfChannel:
                raise StopAsyncIteration from None
        return frame

    def following_batch(self) -> Frame | None:
        """The next frame, if it is a batch and has arrived already. It counts as handled."""
        if self._next is None:
            with suppress(trio.WouldBlock, trio.EndOfChannel):
                self._next = self.waiting.receive_nowait()
        if self._next is None or self._next.type is not FrameType.BATCH:
            return None
        frame, self._next = self._next, None
        self.handled(frame)
        return frame

    def handled(self, frame: Frame) -> None:
        """The frame is handled: makes room for others."""
        self._bytes -= len(frame.payload)
        self._room.set()

    async def keep_alive(self) -> None:
        """Sends unrequested PONGs: while records are held or a disk is slow, the peer's pings wait unread. This also
        ends the session when the peer is gone: during a held delete the peer may have disconnected long ago.

        Raises:
            LinkError: the link broke.
        """
        while True:
            await trio.sleep(PING_S)
            await self._pong()

    async def detect_silence(self) -> None:
        """Ends the session when nothing has arrived for a long time.

        Bytes count, not whole frames: a long frame takes minutes on a slow link. Silence must be found twice in a row:
        a process that was stopped for a while must first receive what arrived meanwhile.

        Raises:
            LinkError: nothing has come.
        """
        silent = False
        while True:
            await trio.sleep(PING_S)
            before = silent
            silent = trio.current_time() - max(self._frames.heard_at, self._listening_since) > SILENCE_S
            if silent and before:
                raise LinkError(f"nothing came from the work node for {SILENCE_S:.0f} s")

    async def _pong(self) -> None:
        await self._frames.send(FrameType.PONG, self._signal.value())
