"""The end of a chain of frames, and how it grows: what may follow, and with which hash."""

from __future__ import annotations

from typing import NamedTuple

from i2core.api.journal.frames import (
    NO_HASH,
    PAYLOAD_BYTES,
    Draft,
    FrameKind,
    Head,
    Header,
    Seal,
    Tip,
    encode_seals,
    frame_hash,
)


class ChainEnd(NamedTuple):
    """What of its last frame decides what may follow."""

    journal: int = 0
    """The journal's random number (`Head.journal`)."""
    number: int = 0
    epoch: int = 0
    next_seq: int = 0
    last_ns: int = 0
    applied_ns: int = 0
    hash: bytes = NO_HASH

    @property
    def tip(self) -> Tip:
        """What is handed out of it."""
        return Tip(self.number, self.next_seq, self.hash)

    def check(self, draft: Draft) -> None:
        """Raises ValueError when the frame may not follow: epochs, seqs and times never go back."""
        header = draft.header
        before = (self.epoch, self.next_seq, self.last_ns, self.applied_ns)
        if any(new < old for new, old in zip(_order(header), before, strict=True)):
            raise ValueError(f"a frame goes back: {header} after {self}")
        if header.records < 0 or header.last_ns < header.first_ns:
            raise ValueError(f"a frame ends before it begins: {header}")
        if len(draft.payload) > PAYLOAD_BYTES:
            raise ValueError(f"a payload of {len(draft.payload)} bytes is too long")

    def follow(self, draft: Draft, *, settled: int, kind: FrameKind = FrameKind.BATCH) -> tuple[bytes, ChainEnd]:
        """The frame's header as it is stored, and the chain's end with it. `settled`: see `Head`.

        Raises:
            ValueError: the frame may not follow.
        """
        self.check(draft)
        head = Head(kind, self.journal, draft.header, self.number + 1, settled, len(draft.payload), self.hash).encode()
        return head, self.with_frame(draft.header, frame_hash(head, draft.payload))

    def with_frame(self, header: Header, digest: bytes) -> ChainEnd:
        """The end after a frame with this header and hash."""
        return ChainEnd(
            self.journal, self.number + 1, header.epoch, header.next_seq, header.last_ns, header.applied_ns, digest
        )

    def sealing(self, seals: list[Seal]) -> Draft:
        """A MERGE frame that may follow."""
        header = Header(self.epoch, self.next_seq, 0, self.last_ns, self.last_ns, self.applied_ns)
        return Draft(header, encode_seals(seals))


def _order(header: Header) -> tuple[int, int, int, int]:
    return header.epoch, header.first_seq, header.first_ns, header.applied_ns
