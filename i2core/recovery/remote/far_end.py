"""A destination on a work node, as the engine on the backup node sees it."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import trio

from i2core.api import ProtocolError
from i2core.posix.path_text import as_path, as_text
from i2core.recovery.end import End, Landing, There, Writing
from i2core.recovery.remote.caller import Caller
from i2core.recovery.remote.far_tree import FarTree
from i2core.wire.recovery import Call, Coming

Ticketed = Callable[[Callable[[str], Awaitable[None]]], Awaitable[trio.abc.Stream]]
"""Gives a ticket to the function, and returns the stream of the connection that comes with it.

Raises:
    LinkError: none came.
"""


class FarEnd(End):
    """A directory of a work node that has connected for it."""

    def __init__(self, to: bytes, node: str, caller: Caller, ticketed: Ticketed) -> None:
        """`node`: the work node's name."""
        self.to = to
        self._node = node
        self._caller = caller
        self._ticketed = ticketed

    async def check(self, landing: Landing) -> str:
        answer = await self._caller.call(Call(what="check", coming=_coming(landing)))
        return f"{self._node}:{_text(answer, 'to')}"

    @asynccontextmanager
    async def there(self, landing: Landing) -> AsyncIterator[There]:
        answer = await self._caller.call(Call(what="there"))
        tree = FarTree(self.to, self._caller, flags=landing.flags) if answer.get("is_there") is True else None
        yield There(tree, owns=answer.get("owns") is True)

    @asynccontextmanager
    async def writing(self, landing: Landing) -> AsyncIterator[Writing]:
        answer = await self._caller.call(Call(what="write"))
        roots = answer.get("roots")
        if not isinstance(roots, list) or len(roots) not in (1, 2) or not all(isinstance(one, str) for one in roots):
            raise ProtocolError("a destination without roots")
        try:
            paths = tuple(as_path(one) for one in roots)
        except UnicodeEncodeError as error:
            raise ProtocolError("malformed roots") from error
        yield Writing(paths, self._connect)
        await self._caller.call(Call(what="written"))

    async def _connect(self) -> trio.abc.Stream:
        async def send(ticket: str) -> None:
            await self._caller.call(Call(what="stream", ticket=ticket))

        return await self._ticketed(send)

    async def complete(self) -> str | None:
        answer = await self._caller.call(Call(what="complete"))
        return None if answer.get("aside") is None else f"{self._node}:{_text(answer, 'aside')}"


def _coming(landing: Landing) -> Coming:
    return Coming(
        rule=landing.rule,
        places=[as_text(place) for place in landing.places],
        shells=[as_text(shell) for shell in landing.shells],
        extra=landing.extra.value,
        flags=landing.flags,
    )


def _text(answer: dict[str, object], key: str) -> str:
    found = answer.get(key)
    if not isinstance(found, str) or len(os.fsencode(found)) > 1 << 16:
        raise ProtocolError(f"an answer without {key}")
    return found
