"""Connects two streams: a session's connection with the process that writes the destination."""

from __future__ import annotations

import trio

from i2core.limits.throttle import Throttle
from i2core.tasks import background

_CHUNK_BYTES = 512 * 1024


async def join_streams(link: trio.abc.Stream, writer: trio.abc.Stream, throttle: Throttle) -> None:
    """Passes bytes on in both directions until either stream ends; closes both. What arrives keeps within the limits:
    what is not read here, the other node cannot send. A broken stream is an end: the other one's owner sees it."""
    try:
        async with background() as nursery:
            ended = trio.Event()
            nursery.start_soon(_pass_on, writer, link, Throttle(), ended)
            nursery.start_soon(_pass_on, link, writer, throttle, ended)
            await ended.wait()
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 2):
            await writer.aclose()
            await link.aclose()


async def _pass_on(
    come: trio.abc.ReceiveStream, go: trio.abc.SendStream, throttle: Throttle, ended: trio.Event
) -> None:
    try:
        while data := await come.receive_some(_CHUNK_BYTES):
            left = len(data)
            while left:
                left -= await throttle.admit(left)
            await go.send_all(data)
    except (trio.BrokenResourceError, trio.ClosedResourceError):
        pass
    finally:
        ended.set()
