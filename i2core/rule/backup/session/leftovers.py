"""Removes leftovers of interrupted work from the directories that a mirror lists.

A staging file is kept if its file is missing on the replica and is so large that it is sent in slices: that transfer
may resume with it. All other staging files are useless."""

from __future__ import annotations

from collections.abc import Sequence

from i2core.api import Place
from i2core.api.changes import join
from i2core.rule.backup.session.writer import ReplicaWriter
from i2core.wire.listing import ChunkVerdicts, ReceivedChunk, Verdict
from i2core.wire.message_size import WHOLE_BYTES

MOST_LACKING = 10_000
"""Names of one directory that are remembered while it is listed."""
_WHOLE = int(Verdict.WHOLE)


class Leftovers:
    """Directories with leftovers that are being listed, each with the names whose staging files are kept."""

    def __init__(self, writer: ReplicaWriter, *, mirrors: bool) -> None:
        """`mirrors`: the session mirrors everything instead of comparing a few places, so no transfer is running for a
        name that the source lacks."""
        self._writer = writer
        self._mirrors = mirrors
        self._kept: dict[Place, list[bytes]] = {}

    async def listed(self, chunk: ReceivedChunk, judged: ChunkVerdicts, *, leftovers: bool) -> bool:
        """A chunk of a directory was compared. `leftovers`: the directory has some. After its last chunk they are
        removed; True when any was."""
        place = Place(chunk.root, chunk.path)
        if chunk.first and leftovers:
            if len(self._kept) > 1:
                self._kept.clear()  # a correct peer never lists three directories at the same time
            self._kept[place] = []
        if place not in self._kept:
            return False
        self._kept[place] += [
            name
            for index, (name, verdict) in enumerate(zip(chunk.names, judged.verdicts, strict=True))
            if verdict & _WHOLE and chunk.size(index) > WHOLE_BYTES
        ]
        if len(self._kept[place]) > MOST_LACKING:
            del self._kept[place]  # the next mirror will remove them
        elif chunk.last:
            await self._unstage(place, judged.orphans)
            return await self._writer.tidy(place, self._kept.pop(place))
        return False

    async def _unstage(self, place: Place, orphans: Sequence[bytes]) -> None:
        if orphans and self._mirrors:
            await self._writer.unstage([Place(place.root, join(place.path, name)) for name in orphans])
