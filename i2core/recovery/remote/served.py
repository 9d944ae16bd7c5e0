"""The work node's side of a conversation about one recovery: answers for a destination on this node.

The backup node asks, and may be hostile: it reads and writes this one destination, and nothing else. Calls are answered
one after the other.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import trio

from i2core.api import I2Error, LinkError, ProtocolError, in_thread
from i2core.limits.throttle import Throttle
from i2core.posix.path_text import as_path, as_text
from i2core.recovery.end import End, Landing, Writing
from i2core.recovery.order import Extra
from i2core.recovery.remote.folders import Folders
from i2core.recovery.remote.pipe import join_streams
from i2core.tasks import background
from i2core.wire.frame import Frame, FrameStream, FrameType
from i2core.wire.keep_alive import KeepAlive
from i2core.wire.messages import dump, parse
from i2core.wire.recovery import ORDER_BYTES, Call, Coming, Problem, Stream, ToNode

_WAITING_MOST = 4
"""Calls that wait while one is answered."""
Note = Callable[[dict[str, Any]], Awaitable[None]]
"""Takes the progress, as JSON that is not checked yet."""
Accept = Callable[[ToNode], Awaitable[End]]
"""The destination of an order.

Raises:
    UsageError: the backup node may not recover there.
"""
Dial = Callable[[], Awaitable[trio.abc.Stream]]
"""Another connection to the backup node."""


class Served:
    """One conversation."""

    def __init__(self, frames: FrameStream, accept: Accept | None = None, *, dial: Dial, throttle: Throttle) -> None:
        """`accept`: for a conversation that waits for an order. `throttle`: limits of what arrives."""
        self._frames = frames
        self._accept = accept
        self._destination: tuple[End, Extra] | None = None
        self._dial = dial
        self._throttle = throttle
        self._landing: Landing | None = None
        self._writing: Writing | None = None
        self._stack = AsyncExitStack()
        """The destination, while it is read or written."""
        self._folders = Folders()
        self._pipes: trio.Nursery | None = None

    def begin(self, end: End, extra: Extra) -> None:
        """The recovery goes to this destination. `extra`: what this node's administrator wants; a backup node that does
        something else is refused."""
        self._destination = end, extra

    async def run(self, note: Note) -> dict[str, Any]:
        """Answers until the recovery has ended; its outcome. `note` gets the progress.

        Raises:
            I2Error: it failed, as the backup node says; or the order was not accepted.
            LinkError: the link broke; another attempt continues.
            StopRule: the process that writes the destination has ended.
        """
        send, receive = trio.open_memory_channel[Frame](_WAITING_MOST)
        keep_alive = KeepAlive(self._frames)
        async with background() as self._pipes:
            self._pipes.start_soon(self._receive, send, keep_alive, note)
            self._pipes.start_soon(keep_alive.ping)
            self._pipes.start_soon(keep_alive.detect_silence)
            async with self._stack:
                try:
                    async for frame in receive:
                        if frame.type is FrameType.OUTCOME:
                            return _document(frame)
                        if frame.type is FrameType.ORDER:
                            await self._ordered(parse(frame.payload, ToNode))
                        else:
                            await self._answer(frame)
                finally:
                    await in_thread(self._folders.close)
        raise LinkError("the backup node closed the connection")

    async def _receive(self, send: trio.MemorySendChannel[Frame], keep_alive: KeepAlive, note: Note) -> None:
        """Passes on what is to be answered, in order. A task of its own: an answer may take long."""
        while True:
            frame = await self._frames.receive()
            if frame is None:
                raise LinkError("the backup node closed the connection")
            if len(frame.payload) > ORDER_BYTES:
                raise ProtocolError(f"{frame.type.name} of {len(frame.payload)} bytes")
            if frame.type is FrameType.PONG:
                keep_alive.answered(frame.payload)
            elif frame.type is FrameType.FAULT:
                raise parse(frame.payload, Problem).error()
            elif frame.type is FrameType.PROGRESS:
                await note(_document(frame))
            elif frame.type in (FrameType.ORDER, FrameType.CALL, FrameType.OUTCOME):
                await send.send(frame)
            else:
                raise ProtocolError(f"unexpected {frame.type.name} from the backup node")

    async def _ordered(self, order: ToNode) -> None:
        if self._accept is None or self._destination is not None:
            raise ProtocolError("an order, although none was waited for")
        try:
            self.begin(await self._accept(order), Extra(order.extra))
        except I2Error as error:
            await self._frames.send(FrameType.FAULT, dump(Problem.of(error)))
            raise

    def _to(self) -> tuple[End, Extra]:
        if self._destination is None:
            raise ProtocolError("a call without an order")
        return self._destination

    async def _answer(self, frame: Frame) -> None:
        call = parse(frame.payload, Call)
        ask = _CALLS.get(call.what)
        if ask is None:
            raise ProtocolError(f"an unknown call {call.what[:20]!r}")
        try:
            answer = await ask(self, call)
        except ProtocolError:
            raise
        except I2Error as error:
            await self._frames.send(FrameType.FAULT, dump(Problem.of(error)), ident=frame.ident)
            return
        except OSError as error:
            answer = {"errno": error.errno or 0, "text": error.strerror or ""}
        await self._frames.send(FrameType.ANSWER, json.dumps(answer).encode(), ident=frame.ident)

    # ------------------------------------------------------------------------------------------ calls

    async def _check(self, call: Call) -> dict[str, Any]:
        if call.coming is None or self._landing is not None:
            raise ProtocolError("a check without what comes, or a second one")
        landing, (end, extra) = _landing(call.coming), self._to()
        if landing.extra is not extra:
            raise ProtocolError("extra files were to be treated in another way")
        answer = await end.check(landing)
        self._landing = landing
        return {"to": answer}

    def _checked(self) -> Landing:
        if self._landing is None:
            raise ProtocolError("nothing was checked yet")
        return self._landing

    async def _there(self, call: Call) -> dict[str, Any]:
        del call
        there = await self._stack.enter_async_context(self._to()[0].there(self._checked()))
        self._folders.tree = there.tree
        return {"is_there": there.tree is not None, "owns": there.owns}

    async def _write(self, call: Call) -> dict[str, Any]:
        del call
        if self._writing is not None:
            raise ProtocolError("the destination is being written already")
        self._writing = await self._stack.enter_async_context(self._to()[0].writing(self._checked()))
        return {"roots": [as_text(root) for root in self._writing.roots]}

    async def _stream(self, call: Call) -> dict[str, Any]:
        if self._writing is None or self._pipes is None:
            raise ProtocolError("a session for what is not being written")
        writer = await self._writing.connect()
        try:
            link = await self._dial()
            await FrameStream(link).send(FrameType.STREAM, dump(Stream(ticket=call.ticket)))
        except BaseException:
            await trio.aclose_forcefully(writer)
            raise
        self._pipes.start_soon(join_streams, link, writer, self._throttle)
        return {}

    async def _written(self, call: Call) -> dict[str, Any]:
        del call
        if self._writing is None:
            raise ProtocolError("nothing is being written")
        await self._stack.aclose()
        return {}

    async def _complete(self, call: Call) -> dict[str, Any]:
        del call
        return {"aside": await self._to()[0].complete()}

    async def _read(self, call: Call) -> dict[str, Any]:
        return await in_thread(self._folders.answer, call)


_Ask = Callable[[Served, Call], Awaitable[dict[str, Any]]]
_CALLS: dict[str, _Ask] = {
    "check": Served._check,
    "there": Served._there,
    "write": Served._write,
    "stream": Served._stream,
    "written": Served._written,
    "complete": Served._complete,
    **dict.fromkeys(("directory", "more", "look", "lookup", "digest", "shut"), Served._read),
}


def _landing(coming: Coming) -> Landing:
    return Landing(
        rule=coming.rule,
        places=tuple(as_path(place) for place in coming.places),
        shells=tuple(as_path(shell) for shell in coming.shells),
        extra=Extra(coming.extra),
        flags=coming.flags,
    )


def _document(frame: Frame) -> dict[str, Any]:
    try:
        found = json.loads(bytes(frame.payload))
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"malformed {frame.type.name}") from error
    if not isinstance(found, dict):
        raise ProtocolError(f"malformed {frame.type.name}")
    return found
