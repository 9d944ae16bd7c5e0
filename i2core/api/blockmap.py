"""Digests of the blocks of a file, with holes given by their length alone.

A disk image of a terabyte that holds a gigabyte has sixteen million blocks, nearly all of them holes. A `BlockMap` of
it is as long as the gigabyte needs, in memory, on the wire and in the catalog.

    map = (zeros u64, count u32, digest[count])*        little-endian; a digest has 16 bytes
"""

from __future__ import annotations

import struct
from typing import NamedTuple

import xxhash

from i2core.api.errors import ProtocolError
from i2core.api.records import BLOCK_BYTES, Buffer

DIGEST_BYTES = 16
ZERO_DIGEST = xxhash.xxh3_128_digest(bytes(BLOCK_BYTES))
"""Of a block of zeros, whether it occupies space or is a hole."""
MAP_BLOCKS = 1 << 47
"""No file has more blocks: 2^63 bytes."""
MAP_RUNS = 65_537
"""Most runs of a map that is taken from a peer: one for each block of a query, and a hole after the last."""
_RUN = struct.Struct("<QI")


class Run(NamedTuple):
    """Some blocks of zeros, then some with these digests (of which some may be of zeros as well)."""

    zeros: int
    digests: bytes

    @property
    def blocks(self) -> int:
        """All of both."""
        return self.zeros + len(self.digests) // DIGEST_BYTES


class BlockMap:
    """Digests of blocks that follow each other. Grows at its end."""

    __slots__ = ("blocks", "runs")

    def __init__(self, digests: bytes = b"") -> None:
        """`digests`: of the first blocks, 16 bytes each."""
        self.runs: list[Run] = [Run(0, digests)] if digests else []
        self.blocks = len(digests) // DIGEST_BYTES
        """Of all blocks in the map."""

    def __bool__(self) -> bool:
        return self.blocks > 0

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BlockMap) and self.dense() == other.dense()

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"BlockMap({', '.join(f'{run.zeros} zeros, {len(run.digests) // DIGEST_BYTES}' for run in self.runs)})"

    @property
    def data_blocks(self) -> int:
        """Those that have a digest of their own."""
        return sum([len(run.digests) for run in self.runs]) // DIGEST_BYTES

    def add_zeros(self, count: int) -> None:
        """The next blocks hold nothing."""
        if count:
            if self.runs and not self.runs[-1].digests:
                self.runs[-1] = Run(self.runs[-1].zeros + count, b"")
            else:
                self.runs.append(Run(count, b""))
            self.blocks += count

    def add(self, digests: bytes) -> None:
        """The next blocks have these digests."""
        if digests:
            if self.runs:
                self.runs[-1] = Run(self.runs[-1].zeros, self.runs[-1].digests + digests)
            else:
                self.runs.append(Run(0, digests))
            self.blocks += len(digests) // DIGEST_BYTES

    def append(self, other: BlockMap) -> None:
        """The next blocks are those of another map."""
        for zeros, digests in other.runs:
            self.add_zeros(zeros)
            self.add(digests)

    def part(self, first: int, behind: int) -> BlockMap:
        """The blocks from `first` on, up to one before `behind`."""
        found = BlockMap()
        at = 0
        for zeros, digests in self.runs:
            found.add_zeros(min(behind, at + zeros) - max(first, at) if max(first, at) < min(behind, at + zeros) else 0)
            at += zeros
            found.add(digests[max(0, first - at) * DIGEST_BYTES : max(0, behind - at) * DIGEST_BYTES])
            at += len(digests) // DIGEST_BYTES
            if at >= behind:
                break
        return found

    def dense(self) -> bytes:
        """Every digest, those of zeros as well."""
        return b"".join([ZERO_DIGEST * zeros + digests for zeros, digests in self.runs])

    def encode(self) -> bytes:
        """The map as bytes."""
        return b"".join([_RUN.pack(zeros, len(digests) // DIGEST_BYTES) + digests for zeros, digests in self.runs])

    @staticmethod
    def decode(payload: Buffer) -> BlockMap:
        """The map again.

        Raises:
            ProtocolError: malformed, or of more blocks than a file can have.
        """
        raw = bytes(payload)
        found = BlockMap()
        at = 0
        while at < len(raw):
            if at + _RUN.size > len(raw):
                raise ProtocolError("digests cut short")
            zeros, count = _RUN.unpack_from(raw, at)
            at += _RUN.size
            end = at + count * DIGEST_BYTES
            if len(found.runs) == MAP_RUNS:
                raise ProtocolError(f"digests in more than {MAP_RUNS} runs")
            if end > len(raw) or found.blocks + zeros + count > MAP_BLOCKS:
                raise ProtocolError("digests cut short, or of more blocks than there can be")
            found.runs.append(Run(zeros, raw[at:end]))
            found.blocks += zeros + count
            at = end
        return found


class Cursor:
    """Goes through a map once, from its first block on."""

    __slots__ = ("_at", "_run", "_runs")

    def __init__(self, blocks: BlockMap) -> None:
        self._runs = blocks.runs
        self._run = 0
        self._at = 0
        """Within the run."""

    def zeros(self) -> int:
        """How many of the next blocks are known to hold nothing, without a digest of their own."""
        run = self._here()
        return max(0, run.zeros - self._at) if run is not None else 0

    def data(self) -> int | None:
        """How many of the next blocks have a digest; None after the end of the map."""
        run = self._here()
        return None if run is None else run.blocks - max(self._at, run.zeros)

    def skip(self, count: int) -> None:
        """Skips blocks; after the end there is nothing to skip."""
        while count and (run := self._here()) is not None:
            step = min(count, run.blocks - self._at)
            self._at += step
            count -= step

    def take(self, count: int) -> list[bytes | None]:
        """The digests of the next blocks, which are skipped; None after the end of the map."""
        found: list[bytes | None] = []
        while len(found) < count and (run := self._here()) is not None:
            missing = count - len(found)
            if self._at < run.zeros:
                step = min(missing, run.zeros - self._at)
                found += [ZERO_DIGEST] * step
            else:
                start = (self._at - run.zeros) * DIGEST_BYTES
                some = run.digests[start : start + missing * DIGEST_BYTES]
                found += [some[at : at + DIGEST_BYTES] for at in range(0, len(some), DIGEST_BYTES)]
                step = len(some) // DIGEST_BYTES
            self._at += step
        return found + [None] * (count - len(found))

    def _here(self) -> Run | None:
        while self._run < len(self._runs):
            run = self._runs[self._run]
            if self._at < run.blocks:
                return run
            self._run, self._at = self._run + 1, 0
        return None
