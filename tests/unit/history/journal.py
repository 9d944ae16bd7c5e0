"""A journal in memory."""

from __future__ import annotations

from i2core.history.index.batches import Batch
from i2core.history.journal.frame import unpacked_chunk
from i2core.history.model.rows import DataWas


class Journal:
    """Frames in memory; three segments, so that places are told apart."""

    def __init__(self) -> None:
        self.segments: dict[int, bytearray] = {1: bytearray(), 2: bytearray(), 3: bytearray()}
        self.frames: list[tuple[int, int, bytes]] = []

    def append(self, payload: bytes) -> tuple[int, int]:
        number = 1 + len(self.frames) % 3
        offset = len(self.segments[number]) + 7
        self.segments[number] += bytes(7) + payload
        self.frames.append((number, offset, payload))
        return number, offset

    def head(self, batch: Batch) -> bytes:
        return bytes(self.segments[batch.segment][batch.position : batch.position + batch.size])

    def read(self, row: DataWas, lo: int, hi: int) -> bytes:
        chunk = self.segments[row.segment][row.position : row.position + row.size]
        return unpacked_chunk(bytes(chunk))[row.skip + lo - row.lo : row.skip + hi - row.lo]
