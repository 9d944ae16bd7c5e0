"""One journal that is tried: opens it, writes frames into it, and asks everything that it can be asked."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

import attrs

from i2core.api import DriverSpec
from i2core.api.journal import Draft, Header, Journal, JournalContext, Position, Segment, Tip, all_frames, find_faults


@attrs.define
class Trial:
    """A directory for one journal."""

    spec: DriverSpec
    config: object
    context: JournalContext
    seq: int = 1
    time_ns: int = 10**18

    def open(self, **changes: Any) -> AbstractAsyncContextManager[Journal]:
        """The journal; `changes` of its context."""
        return self.spec.open(self.config, attrs.evolve(self.context, **changes))

    def draft(self, payload: bytes, records: int = 1) -> Draft:
        """The next frame."""
        header = Header(1, self.seq, records, self.time_ns, self.time_ns + records, self.time_ns + 5)
        self.seq += records
        self.time_ns += records + 10
        return Draft(header, payload)

    def group(self, *payloads: bytes) -> list[Draft]:
        """The next frames."""
        return [self.draft(payload) for payload in payloads]

    def back_to(self, journal: Journal) -> None:
        """The next frame follows the journal's last one."""
        self.seq, self.time_ns = journal.tip.next_seq, max(journal.segments[-1].applied_ns, self.time_ns)


async def payloads(journal: Journal) -> list[bytes]:
    """All payloads, oldest first."""
    return [frame.payload async for page in all_frames(journal, most_bytes=1000) for frame in page]


async def payloads_of(journal: Journal, segment: int) -> list[bytes]:
    """Those of one segment."""
    at, read = Position(segment, 0), list[bytes]()
    while page := await journal.read(at, 1000):
        read += [frame.payload for frame in page]
        at = page[-1].placed.end
    return read


async def prove(journal: Journal, kept: Sequence[Tip] = ()) -> None:
    """Fails unless the whole journal is without fault, and has these tips."""
    segments = journal.segments
    found = [await journal.inspect(segment.number, [tip.number for tip in kept]) for segment in segments]
    faults = find_faults(segments, found, kept)
    assert not faults, f"faults in a journal that nobody touched: {faults}"
    assert found[-1].after == journal.tip.hash, "the inspection ends elsewhere than the journal"


def shape(segments: Sequence[Segment]) -> list[tuple[Any, ...]]:
    """What two journals with the same history agree on."""
    return [
        (s.merged, s.first_frame, s.next_frame, s.first_seq, s.next_seq, s.first_ns, s.last_ns, s.applied_ns)
        for s in segments
    ]
