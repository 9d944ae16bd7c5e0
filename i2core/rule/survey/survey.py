"""A survey: lists directories of the source, and asks the backup node for the differences. It sends nothing else and
changes nothing. Mirror and repair act on its answers; it may also be used alone, to find differences only.

lister ──SURVEY──▶ backup node ──VERDICTS──▶ caller

The lister is a few frames ahead of the answers, so memory holds a few frames whatever the size of the tree.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from typing import NamedTuple, Protocol

import trio

from i2core.api import ProtocolError
from i2core.api.records import Buffer
from i2core.rule.source.source import Source
from i2core.rule.survey.findings import Findings
from i2core.rule.survey.lister import Lister, Scope
from i2core.tasks import background
from i2core.wire.frame import FrameType
from i2core.wire.listing import Chunk, ChunkVerdicts, decode_verdicts, encode_survey
from i2core.wire.messages import Welcome

FRAMES_AHEAD = 4
PAUSES_S = (0.02, 2.0)
"""First and longest pause of the listing while descriptors or memory are exhausted; each doubles."""


class Questions(Protocol):
    """The parts of a session that a survey needs."""

    @property
    def welcome(self) -> Welcome:
        """The backup node's answer to the greeting."""

    async def post(self, question: FrameType, payload: bytes) -> Callable[[], Awaitable[Buffer]]:
        """Sends a question; awaiting what it returns gives the answer."""

    async def ask(self, question: FrameType, payload: bytes) -> Buffer:
        """`post`, and the answer."""


class Listed(NamedTuple):
    """Chunks that were sent, with their pending answer."""

    chunks: list[Chunk]
    answer: Callable[[], Awaitable[Buffer]]

    async def verdicts(self) -> list[ChunkVerdicts]:
        """The backup node's answer for each chunk.

        Raises:
        LinkError: the link broke.
        ProtocolError: the answer does not fit the question.
        """
        return _fitting(self.chunks, await self.answer())


class Survey:
    """One survey over a session. `strict`: contents are compared even if size and time are equal."""

    def __init__(
        self,
        source: Source,
        session: Questions,
        findings: Findings,
        *,
        strict: bool,
        content_most: int = sys.maxsize,
    ) -> None:
        """`content_most`: as in `Lister`."""
        self._source = source
        self._session = session
        self._lister = Lister(source, findings, strict=strict, content_most=content_most)
        self.turn = trio.CapacityLimiter(1)
        """Held by the listing thread, and by a thread that processes answers: two threads under one interpreter lock
        slow each other down."""

    def close(self) -> None:
        """Forgets the files with several names that it has listed."""
        self._lister.close()

    @asynccontextmanager
    async def frames(self, scopes: Iterable[Scope]) -> AsyncIterator[trio.MemoryReceiveChannel[Listed]]:
        """The directories of the scopes, parents before children, a frame at a time, each with its answer.

        Raises:
            LinkError: the link broke.
            StopRule: a directory cannot be read, and the rule says to stop.
            OSError: a root cannot be read because of a passing error.
        """
        listed, frames = trio.open_memory_channel[Listed](FRAMES_AHEAD)
        async with background() as nursery:
            nursery.start_soon(self._list, scopes, listed)
            yield frames

    async def _list(self, scopes: Iterable[Scope], out: trio.MemorySendChannel[Listed]) -> None:
        owners, pause_s = self._session.welcome.owns, PAUSES_S[0]
        # Closed without a checkpoint: if the reader ended first, an error here would be replaced by a cancellation.
        with out, contextlib.closing(self._lister.frames(scopes)) as frames:
            next_frame = partial(trio.to_thread.run_sync, self._lister.next_frame, frames, limiter=self.turn)
            while (frame := await next_frame()) is not None:
                if not frame:
                    await trio.sleep(pause_s := min(pause_s * 2, PAUSES_S[1]))
                    continue
                pause_s = PAUSES_S[0]
                answer = await self._session.post(FrameType.SURVEY, encode_survey(frame, owners=owners))
                await out.send(Listed(frame, answer))
        self._source.status.listing_done = True


async def ask_about(session: Questions, chunks: Sequence[Chunk]) -> list[ChunkVerdicts]:
    """The backup node's answer for chunks made by the caller; they must fit in one message.

    Raises:
        LinkError: the link broke.
        ProtocolError: the answer does not fit.
    """
    return _fitting(chunks, await session.ask(FrameType.SURVEY, encode_survey(chunks)))


def _fitting(chunks: Sequence[Chunk], payload: Buffer) -> list[ChunkVerdicts]:
    answers = decode_verdicts(payload)
    if [len(answer.verdicts) for answer in answers] != [len(chunk.entries) for chunk in chunks]:
        raise ProtocolError("an answer does not fit its listing")
    return answers
