"""The first look of a compare: lists the whole source, has it compared, and collects what seems to differ."""

from __future__ import annotations

import os
import stat
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence

import trio

from i2core.api import BLOCK_BYTES, Code, Entry, Place
from i2core.api.tree import AttributesUnreadable, OpenDirectory
from i2core.compare.contents import Compared, LargeContent, small
from i2core.compare.result import Totals
from i2core.compare.suspects import Suspect, Suspects, state_of
from i2core.rule.mirror.orphans import OrphanFinder
from i2core.rule.source.source import Source
from i2core.rule.survey.findings import Findings, Why
from i2core.rule.survey.lister import Scope
from i2core.rule.survey.survey import Survey
from i2core.wire.listing import INLINE_BLOCKS, Chunk, ChunkVerdicts, Verdict
from i2core.wire.session import Session

FRAME_CONTENT = 16 << 20
"""Bytes of small files that the backup node reads for one listing, before live records get their turn."""
_META, _WHOLE, _BLOCKS = int(Verdict.META), int(Verdict.WHOLE), int(Verdict.BLOCKS)

Equal = Callable[[Place, Sequence[tuple[Entry, bytes]]], None]
"""Called in a worker thread with files of a directory whose contents are equal, each with its digest."""


class FirstLook:
    """One pass over everything in some scopes. `strict`: contents are compared as well."""

    def __init__(
        self,
        source: Source,
        session: Session,
        suspects: Suspects,
        totals: Totals,
        *,
        strict: bool,
        equal: Equal = lambda place, files: None,
        pace: Callable[[int], Awaitable[None]] | None = None,
    ) -> None:
        """`pace`: awaited with the number of bytes of content that were compared."""
        self._source = source
        self._session = session
        self._suspects = suspects
        self._totals = totals
        self._strict = strict
        self._equal = equal
        self._pace = pace
        self._finder = OrphanFinder(source, session)
        self._findings = _Unread(source)
        self._large: list[tuple[Place, Entry]] = []
        """Files of the frame that is looked at whose contents are still to be compared."""

    async def run(self, scopes: Iterable[Scope]) -> Findings:
        """Looks at all of them; returns what could not be read or found.

        Raises:
            LinkError: the link broke.
            OSError: a root cannot be read because of a passing error.
        """
        survey = Survey(self._source, self._session, self._findings, strict=self._strict, content_most=FRAME_CONTENT)
        try:
            async with survey.frames(scopes) as frames:
                async for frame in frames:
                    answers = await frame.verdicts()
                    read = await trio.to_thread.run_sync(self._frame, frame.chunks, answers, limiter=survey.turn)
                    for chunk, answer in zip(frame.chunks, answers, strict=True):
                        if answer.more:
                            await self._pages(Place(chunk.root, chunk.path))
                    await self._compare_large()
                    if self._pace is not None:
                        await self._pace(read)
        finally:
            survey.close()
        return self._findings

    # ------------------------------------------------------------------------------------------ one frame

    def _frame(self, chunks: Sequence[Chunk], answers: Sequence[ChunkVerdicts]) -> int:
        """Looks at the chunks; returns how many bytes of content were compared."""
        read = 0
        for chunk, answer in zip(chunks, answers, strict=True):
            place = Place(chunk.root, chunk.path)
            self._count(chunk)
            with self._source.job():
                suspects, files = self._sorted(chunk, answer)
                try:
                    if files or answer.orphans:
                        with self._source.trees[chunk.root].directory(chunk.path) as directory:
                            suspects += self._contents(directory, place, files)
                            suspects += self._extra(directory, place, answer.orphans)
                except OSError as error:
                    self._findings.failed(place, error)
            read += sum(entry.size for entry, _ in files)
            self._suspects.add(place, suspects)
        return read

    def _count(self, chunk: Chunk) -> None:
        totals, entries = self._totals, chunk.entries
        files = [entry for entry in entries if not stat.S_ISDIR(entry.mode)]
        totals.files += len(files)
        totals.bytes += sum(entry.size for entry in files if stat.S_ISREG(entry.mode))
        totals.objects += len(entries) + (chunk.first and not chunk.path)

    def _sorted(self, chunk: Chunk, answer: ChunkVerdicts) -> tuple[list[Suspect], list[tuple[Entry, bytes]]]:
        """What seems to differ, and small files whose contents are to be compared, with the replica's digests."""
        place = Place(chunk.root, chunk.path)
        suspects: list[Suspect] = []
        files: list[tuple[Entry, bytes]] = []
        if chunk.first and (answer.here & _META or (answer.here & _WHOLE and not chunk.path)):
            suspects.append(Suspect(b"", state_of(chunk.here)))
        for index, (entry, verdict) in enumerate(zip(chunk.entries, answer.verdicts, strict=True)):
            if not verdict:
                continue
            if verdict != _BLOCKS or not self._strict:
                suspects.append(Suspect(entry.name, state_of(entry), chunk.links.get(index)))
            elif entry.size <= INLINE_BLOCKS * BLOCK_BYTES:
                files.append((entry, answer.digests.get(index, b"")))
            else:
                self._large.append((place.child(entry.name), entry))
        return suspects, files

    def _contents(
        self, directory: OpenDirectory, place: Place, files: Sequence[tuple[Entry, bytes]]
    ) -> Iterator[Suspect]:
        """Compares the contents of small files; those that seem to differ."""
        equal: list[tuple[Entry, bytes]] = []
        for entry, there in files:
            try:
                with directory.open(entry.name) as file:
                    found = small(file, entry.size, there)
            except OSError:  # the second look finds out why
                found = Compared(b"", b"-")
            if found.equal:
                equal.append((entry, found.here))
            else:
                yield Suspect(entry.name, state_of(entry))
            self._source.status.checked_bytes += entry.size
        self._equal(place, equal)

    def _extra(self, directory: OpenDirectory, place: Place, names: Sequence[bytes]) -> Iterator[Suspect]:
        """Of names that only the replica has, those that the source really lacks and the rule protects; and those that
        are there by now."""
        gone, back = self._finder.confirmed(directory, place, names)
        yield from (Suspect(name, b"") for name in gone)
        yield from (Suspect(os.path.basename(at.path), b"-") for at, _ in back)

    # ------------------------------------------------------------------------------------------ with questions

    async def _compare_large(self) -> None:
        large, self._large = self._large, []
        for place, entry in large:
            try:
                found = await LargeContent(self._source, self._session, place, self._pace).run()
            except OSError:
                found = Compared(b"", b"-")
            if found.equal:
                await trio.to_thread.run_sync(self._equal, place.above, [(entry, found.here)])
            else:
                suspect = Suspect(entry.name, state_of(entry))
                await trio.to_thread.run_sync(self._suspects.add, place.above, [suspect])

    async def _pages(self, place: Place) -> None:
        """Goes through all names that the replica has in a directory with very many."""
        async for names in self._finder.pages(place):
            await trio.to_thread.run_sync(self._page, place, names)

    def _page(self, place: Place, names: Sequence[bytes]) -> None:
        try:
            with self._source.trees[place.root].directory(place.path) as directory:
                extra = [each for each in self._extra(directory, place, names) if not each.state]
        except OSError as error:
            self._findings.failed(place, error)
            return
        self._suspects.add(place, extra)


class _Unread(Findings):
    """What a compare could not read or find. It is listed, and nobody tries it again."""

    def unreadable(self, place: Place, error: OSError, code: Code = Code.READ_SOURCE) -> None:
        if isinstance(error, AttributesUnreadable) and error.filename:
            place = place.child(error.filename)
        self.add(place, Why.UNREADABLE, error.strerror or str(error))


def not_compared(findings: Findings) -> dict[Place, str]:
    """Places that the first look did not reach, each with the cause; empty: it had moved."""
    return {**findings.places(Why.UNREADABLE), **findings.places(Why.MOVED_AWAY)}
