"""What a backup node says in a conversation about a recovery: the order, the progress, and the last message."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import attrs
import trio

from i2core.api import LinkError, PeerRefused
from i2core.node.daemon.faults import as_i2error
from i2core.node.daemon.past_state import Chosen
from i2core.node.daemon.recovering import Wanted
from i2core.posix.path_text import as_text
from i2core.recovery.remote.caller import Caller
from i2core.wire.frame import FrameType
from i2core.wire.recovery import Problem, ToNode

_PUSH_S = 0.5
Figures = Mapping[str, Any]


@attrs.frozen
class Job:
    """One recovery to a work node."""

    rule: str
    """As ``PEER/RULE``."""
    wanted: Wanted
    chosen: Chosen
    to: bytes

    def order(self) -> Figures:
        """As a message."""
        extra, is_dry = self.wanted.extra.value, self.wanted.dry_run
        peer, _, rule = self.rule.partition("/")
        order = ToNode(to=as_text(self.to), rule=rule, peer=peer, extra=extra, dry_run=is_dry)
        return attrs.asdict(order)


async def push(caller: Caller, latest: dict[str, Any]) -> None:
    """Sends the latest figures every now and then."""
    sent: dict[str, Any] = {}
    while True:
        if latest != sent:
            sent = dict(latest)
            await caller.tell(FrameType.PROGRESS, sent)
        await trio.sleep(_PUSH_S)


@asynccontextmanager
async def concluded(caller: Caller) -> AsyncIterator[Callable[[Figures], None]]:
    """Sends the outcome that the body has given, or the error that it has raised, as the last message.

    Raises:
        I2Error: the error of the body.
    """
    outcome: list[Figures] = []
    try:
        yield outcome.append
    except Exception as error:
        found = as_i2error(error)
        is_broken = isinstance(found, LinkError) and not isinstance(found, PeerRefused)
        if not is_broken and not caller.is_over:
            await caller.finish(FrameType.FAULT, attrs.asdict(Problem.of(found)))
        raise found from error
    await caller.finish(FrameType.OUTCOME, outcome[0])
