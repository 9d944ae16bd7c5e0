"""Names that only the replica has: looked for once more on the source, and given to the backup node as orphans."""

from __future__ import annotations

import stat

from i2core.api import Entry, Place
from i2core.api.changes import join
from i2core.rule.reading.source import Source
from i2core.wire.frame import FrameType
from i2core.wire.listing import Chunk, OrphanList, Verdict, decode_verdicts, encode_survey
from i2core.wire.session import Session

ASKED_AT_ONCE = 1000
"""Directories of orphans in one question."""
_WHOLE = int(Verdict.WHOLE)
_UNKNOWN = Entry(b"", stat.S_IFDIR, 0, 0, 0, 0)


class Extra:
    """What the replica has beyond the source, of one mirror run."""

    def __init__(self, source: Source, session: Session) -> None:
        self._source = source
        self._session = session

    def confirmed(self, fd: int, place: Place, names: list[bytes]) -> tuple[list[bytes], list[tuple[Place, bool]]]:
        """Of the replica's extra names in a directory, those that the source really lacks and the rule protects; and
        those that the source has made since, each with whether it is a directory."""
        tree = self._source.trees[place.root]
        gone: list[bytes] = []
        back: list[tuple[Place, bool]] = []
        for name in names:
            if not place.path and tree.only not in (None, name):
                continue
            at = place.child(name)
            entry = tree.entry(fd, name)
            if entry is None:
                if self._covers(at):
                    gone.append(name)
            elif self._source.wants(at, is_dir := stat.S_ISDIR(entry.mode)):
                back.append((at, is_dir))
        return gone, back

    async def send(self, orphans: OrphanList) -> None:
        """Gives the orphans to the backup node, which acts as the rule says.

        Raises:
            LinkError: the link broke.
        """
        for part in await self._separate(orphans):
            await self._session.ask(FrameType.ORPHANS, part.encode())

    async def _separate(self, orphans: OrphanList) -> list[OrphanList]:
        """The orphans, without what the rule excludes beneath directories that only the replica has: that stays, and
        what lies beside it goes one by one."""
        if self._source.filter.empty:
            return [orphans]
        root, found, kept = orphans.root, [orphans], set[bytes]()
        level = [join(orphans.path, name) for name in orphans.names]
        while level:
            asked, level = level[:ASKED_AT_ONCE], level[ASKED_AT_ONCE:]
            chunks = [Chunk(root, path, _UNKNOWN, True, True, False, ()) for path in asked]
            judged = decode_verdicts(await self._session.ask(FrameType.SURVEY, encode_survey(chunks)))
            for path, answer in zip(asked, judged, strict=True):
                if answer.here & _WHOLE:  # no directory
                    continue
                names = [name for name in answer.orphans if self._covers(Place(root, join(path, name)))]
                found.append(OrphanList(root, path, names))
                level += [join(path, name) for name in names]
                above = path if len(names) < len(answer.orphans) else orphans.path
                while above != orphans.path:
                    kept.add(above)
                    above = above.rpartition(b"/")[0]
        parts = [
            OrphanList(root, path, [name for name in names if join(path, name) not in kept])
            for _, path, names in found
            if path == orphans.path or path in kept
        ]
        return [part for part in parts if part.names]

    def _covers(self, at: Place) -> bool:
        """True when the rule protects the name whatever it is on the replica: that is not known here, and what any
        exclusion covers is left alone."""
        return self._source.wants(at, is_dir=False) and self._source.wants(at, is_dir=True)
