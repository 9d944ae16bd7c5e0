"""The backup node's side of a conversation about one recovery: asks, and gets answers."""

from __future__ import annotations

import json
from typing import Any

import attrs
import trio

from i2core.api import I2Error, LinkError, ProtocolError
from i2core.wire.frame import Frame, FrameStream, FrameType
from i2core.wire.keep_alive import SILENCE_S
from i2core.wire.messages import dump, parse
from i2core.wire.recovery import ANSWER_BYTES, ORDER_BYTES, Call, Problem

_READING_S = 5.0


class Caller:
    """Asks a work node. `run` must run meanwhile."""

    def __init__(self, frames: FrameStream) -> None:
        self._frames = frames
        self._waiting: dict[int, _Answer] = {}
        self._ident = 0
        self._over = trio.Event()
        self._failure: I2Error | None = None
        self._is_finished = False

    async def run(self) -> None:
        """Receives until the conversation ends.

        Raises:
            LinkError: the work node has closed it before it was finished, or has become silent.
            ProtocolError: it sent something else.
            I2Error: it has refused an order.
        """
        try:
            while True:
                await self._handle(await self._received())
        except I2Error as error:
            self._failure = error
            if not self._is_finished:
                raise
        finally:
            self._over.set()
            for answer in self._waiting.values():
                answer.ready.set()

    async def lost(self) -> None:
        """Waits until the conversation ends before it was finished; returns if it was.

        Raises:
            LinkError: the link broke.
            I2Error: the work node has ended it for another reason.
        """
        await self._over.wait()
        if not self._is_finished:
            raise self._broken()

    @property
    def is_over(self) -> bool:
        """True after the end of the conversation."""
        return self._over.is_set()

    def _broken(self) -> I2Error:
        return self._failure or LinkError("the connection to the work node broke")

    async def call(self, call: Call) -> dict[str, Any]:
        """The answer to a call: a JSON object.

        Raises:
            LinkError: the conversation ended before.
            I2Error: what the work node answered.
            OSError: what the work node met on its disk.
        """
        if self._over.is_set():
            raise self._broken()
        self._ident = self._ident % 0xFFFF + 1
        ident, answer = self._ident, _Answer()
        self._waiting[ident] = answer
        try:
            await self._frames.send(FrameType.CALL, dump(call), ident=ident)
            await answer.ready.wait()
        finally:
            self._waiting.pop(ident, None)
        if answer.frame is None:
            raise self._broken()
        return _content(answer.frame)

    async def tell(self, kind: FrameType, document: Any) -> None:
        """Sends a message that has no answer.

        Raises:
            LinkError: the link broke.
        """
        await self._frames.send(kind, json.dumps(document).encode())

    async def finish(self, kind: FrameType, document: Any) -> None:
        """Sends the last message, and waits a little until the work node has read it and closed the connection: what is
        on its way may be lost when this end closes first.

        Raises:
            LinkError: the link broke.
        """
        self._is_finished = True
        await self.tell(kind, document)
        with trio.move_on_after(_READING_S):
            await self._over.wait()

    async def _received(self) -> Frame:
        with trio.move_on_after(SILENCE_S):
            frame = await self._frames.receive()
            if frame is None:
                raise LinkError("the work node closed the connection")
            return frame
        raise LinkError(f"the work node has sent nothing for {SILENCE_S:.0f} s")

    async def _handle(self, frame: Frame) -> None:
        if frame.type is FrameType.PING:
            await self._frames.send(FrameType.PONG, bytes(8))
            return
        if frame.type is FrameType.FAULT and not frame.ident and len(frame.payload) <= ORDER_BYTES:
            raise parse(frame.payload, Problem).error()
        waiting = self._waiting.get(frame.ident)
        if frame.type not in (FrameType.ANSWER, FrameType.FAULT) or waiting is None or waiting.frame is not None:
            raise ProtocolError(f"unexpected {frame.type.name} from the work node")
        if len(frame.payload) > (ANSWER_BYTES if frame.type is FrameType.ANSWER else ORDER_BYTES):
            raise ProtocolError(f"an answer of {len(frame.payload)} bytes")
        waiting.frame = frame
        waiting.ready.set()


@attrs.define
class _Answer:
    ready: trio.Event = attrs.field(factory=trio.Event)
    frame: Frame | None = None


def _content(frame: Frame) -> dict[str, Any]:
    if frame.type is FrameType.FAULT:
        raise parse(frame.payload, Problem).error()
    try:
        found = json.loads(bytes(frame.payload))
        errno = found.get("errno")
        if errno is not None and type(errno) is not int:
            raise TypeError("no error number")  # noqa: TRY301 (reported with the others, below)
    except (ValueError, AttributeError, TypeError, RecursionError) as error:
        raise ProtocolError("malformed answer") from error
    if errno is not None:
        raise OSError(errno, str(found.get("text", ""))[:200])
    answer: dict[str, Any] = found
    return answer
