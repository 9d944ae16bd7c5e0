"""A sink that notes its calls and answers as a test says; and the parts of a session around it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Generator, Sequence
from pathlib import Path

import trio
import trio.testing

from i2core.api import Applied, Ask, Batch, Code, Entry, Place, Seen, Sink
from i2core.api.names import NamePages, paged
from i2core.rule.backup.replica.replica import Replica
from i2core.wire.frame import Frame, FrameStream

DIRECTORY = Entry(b"", 0o40755, 0, 0, 0, 0)


class ScriptedSink(Sink):
    """`done`: the calls in order; `answers`: the results of `apply`, the first one first (after that, everything is
    applied)."""

    owns = True

    def __init__(self) -> None:
        self.done: list[tuple[str, object]] = []
        self.answers: list[Callable[[Batch], Applied]] = []
        self.while_flushing: Callable[[], Awaitable[None]] | None = None
        self.names_at: dict[Place, list[bytes]] = {}
        self.lost: int = 0
        """Files that go with each place that `losses` is asked about."""
        self.present: int = 0
        """Files in all."""
        self.open_pages = 0

    async def apply(self, batch: Batch) -> Applied:
        await trio.lowlevel.checkpoint()
        self.done.append(("apply", batch))
        return self.answers.pop(0)(batch) if self.answers else Applied(batch.last_seq)

    async def flush(self) -> None:
        await trio.lowlevel.checkpoint()
        self.done.append(("flush", None))
        if self.while_flushing is not None:
            await self.while_flushing()

    async def look(self, asks: Sequence[Ask]) -> list[Seen]:
        await trio.lowlevel.checkpoint()
        return [
            Seen(DIRECTORY, [None] * len(ask.names), self.names_at.get(ask.place, []) if ask.every else [])
            for ask in asks
        ]

    async def names(self, place: Place) -> NamePages:
        await trio.lowlevel.checkpoint()
        self.open_pages += 1

        def pages() -> Generator[list[bytes], None, None]:
            try:
                yield from paged(self.names_at.get(place, []))
            finally:
                self.open_pages -= 1

        return NamePages(pages())

    async def tidy(self, place: Place, staged: Collection[bytes]) -> bool:
        await trio.lowlevel.checkpoint()
        self.done.append(("tidy", (place, sorted(staged))))
        return True

    async def unstage(self, places: Sequence[Place]) -> None:
        await trio.lowlevel.checkpoint()
        self.done.append(("unstage", list(places)))

    async def hashes(self, place: Place, first: int, count: int, *, staged: bool = False) -> bytes:
        await trio.lowlevel.checkpoint()
        return b""

    async def hashes_of(self, places: Sequence[Place], most: int) -> list[bytes]:
        await trio.lowlevel.checkpoint()
        return [b""] * len(places)

    async def count(self, place: Place, limit: int) -> int:
        await trio.lowlevel.checkpoint()
        return min(self.present, limit)

    async def losses(self, places: Sequence[Place], limit: int) -> list[int]:
        await trio.lowlevel.checkpoint()
        return [self.lost] * len(places)

    async def set_aside(self, place: Place, destination: bytes) -> None:
        await trio.lowlevel.checkpoint()
        self.done.append(("set_aside", (place, destination)))

    def applied(self) -> list[Batch]:
        """The batches that were applied."""
        return [what for name, what in self.done if name == "apply" and isinstance(what, Batch)]


def replica_at(directory: Path, said: list[str] | None = None) -> Replica:
    """A replica whose position is kept in that directory."""

    def say(_code: Code | None, line: str) -> None:
        if said is not None:
            said.append(line)

    return Replica("data1", "web1", directory, say)


def link() -> tuple[FrameStream, FrameStream]:
    """Two ends of a connection."""
    near, far = trio.testing.memory_stream_pair()
    return FrameStream(near), FrameStream(far)


async def received(frames: FrameStream, count: int) -> list[Frame]:
    """The next frames."""
    found = []
    for _ in range(count):
        frame = await frames.receive()
        assert frame is not None
        found.append(frame)
    return found
