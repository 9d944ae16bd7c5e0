"""The second looks of a compare: what seems to differ is looked at again, by itself and by its content.

A name differs when its object stands on the source as it stood at the look before, and everything that had changed
until then has reached the replica. If it has changed since, the next look decides.
"""

from __future__ import annotations

import stat
from collections.abc import Callable, Sequence
from typing import NamedTuple

import trio

from i2core.api import BLOCK_BYTES, Entry, Place
from i2core.api.tree import OpenDirectory
from i2core.compare.contents import Compared, LargeContent, small
from i2core.compare.result import Item, Kind, Reason, reasons_of
from i2core.compare.suspects import Suspect, Suspects, state_of
from i2core.posix.errnos import GONE
from i2core.rule.source.source import Source
from i2core.rule.survey.survey import ask_about
from i2core.wire.frame import FrameType
from i2core.wire.listing import INLINE_BLOCKS, Chunk, ChunkVerdicts, Verdict
from i2core.wire.questions import EXAMINED_MOST, Examined, ExamineQuery, decode_examined
from i2core.wire.session import Session

MOST = 200
"""Names of one directory in one question, whose small files have at most 200 MiB together."""
_BLOCKS, _LINK = int(Verdict.BLOCKS), int(Verdict.LINK)
assert MOST <= EXAMINED_MOST


class Rotten(NamedTuple):
    """A file of the same size and time on both sides, with different content."""

    place: Place
    entry: Entry
    digests: Compared


Judge = Callable[[Rotten], bool]
"""Called in a worker thread; False: the difference is not one of the replica, so it is neither listed nor mended."""


class SecondLook:
    """One pass over suspects. `again` gets those that are to be looked at once more."""

    def __init__(
        self, source: Source, session: Session, again: Suspects, *, certain: bool, judge: Judge = lambda found: True
    ) -> None:
        """`certain`: all that had changed until the look before has reached the replica."""
        self._source = source
        self._session = session
        self._again = again
        self._certain = certain
        self._judge = judge

    async def directory(self, place: Place, suspects: Sequence[Suspect]) -> list[Item]:
        """Looks at names of one directory; returns what is certain to differ.

        Raises:
            LinkError: the link broke.
        """
        before = await trio.to_thread.run_sync(self._entries, place, suspects)
        listed = [suspect for suspect in suspects if suspect.name and before.entries.get(suspect.name) is not None]
        answer = await self._ask(place, before.here, before.entries, listed)
        names = [suspect.name for suspect in suspects if suspect.name]
        there = await self._examine(place, names, myself=any(not suspect.name for suspect in suspects))
        digests = await self._contents(place, listed, before.entries, answer, there)
        after = await trio.to_thread.run_sync(self._entries, place, suspects)
        verdicts = {suspect.name: verdict for suspect, verdict in zip(listed, answer.verdicts, strict=True)}
        verdicts[b""] = int(answer.here)
        view = _View(place, before, after, verdicts, there, digests)
        items, again = await trio.to_thread.run_sync(self._judged, view, suspects)
        await trio.to_thread.run_sync(self._again.add, place, again)
        return items

    # ------------------------------------------------------------------------------------------ the two sides

    def _entries(self, place: Place, suspects: Sequence[Suspect]) -> _Here:
        try:
            with self._source.job(), self._source.trees[place.root].directory(place.path) as directory:
                return _Here(directory.here(), {each.name: _entry(directory, each.name) for each in suspects})
        except OSError as error:
            if error.errno in GONE:
                return _Here(None, {})
            return _Here(None, {}, error.strerror or str(error))

    async def _ask(
        self, place: Place, here: Entry | None, entries: dict[bytes, Entry | None], listed: Sequence[Suspect]
    ) -> ChunkVerdicts:
        if here is None:
            return ChunkVerdicts(Verdict.SAME, b"", {}, [])
        found = [entry for suspect in listed if (entry := entries[suspect.name]) is not None]
        links = {index: suspect.link for index, suspect in enumerate(listed) if suspect.link is not None}
        chunk = Chunk(place.root, place.path, here, True, False, True, found, links)
        (answer,) = await ask_about(self._session, [chunk])
        return answer

    async def _examine(self, place: Place, names: Sequence[bytes], *, myself: bool) -> dict[bytes, Examined]:
        found: dict[bytes, Examined | None] = {}
        if names:
            found.update(zip(names, await examine(self._session, place, names), strict=True))
        if myself:
            (found[b""],) = await examine(self._session, place)
        return {name: each for name, each in found.items() if each is not None}

    async def _contents(
        self,
        place: Place,
        listed: Sequence[Suspect],
        entries: dict[bytes, Entry | None],
        answer: ChunkVerdicts,
        there: dict[bytes, Examined],
    ) -> dict[bytes, Compared | str]:
        """The digests of files that have a counterpart of the same size; or why the source's cannot be read."""
        found: dict[bytes, Compared | str] = {}
        for index, (suspect, verdict) in enumerate(zip(listed, answer.verdicts, strict=True)):
            entry = entries[suspect.name]
            other = there.get(suspect.name)
            if not verdict & _BLOCKS or entry is None or other is None or other.size != entry.size:
                continue
            try:
                if entry.size <= INLINE_BLOCKS * BLOCK_BYTES:
                    blocks = answer.digests.get(index, b"")
                    found[suspect.name] = await trio.to_thread.run_sync(self._small, place, entry, blocks)
                else:
                    content = LargeContent(self._source, self._session, place.child(suspect.name))
                    found[suspect.name] = await content.run()
            except OSError as error:
                found[suspect.name] = error.strerror or str(error)
        return found

    def _small(self, place: Place, entry: Entry, there: bytes) -> Compared:
        with self._source.trees[place.root].directory(place.path) as directory, directory.open(entry.name) as file:
            return small(file, entry.size, there)

    # ------------------------------------------------------------------------------------------ the judgement

    def _judged(self, view: _View, suspects: Sequence[Suspect]) -> tuple[list[Item], list[Suspect]]:
        items: list[Item] = []
        again: list[Suspect] = []
        for suspect in suspects:
            now = state_of(view.after.of(suspect.name))
            if view.after.unread or view.before.unread:
                items.append(Item(Kind.UNREADABLE, view.place, cause=view.after.unread or view.before.unread))
                break
            item = self._differs(view, suspect.name)
            if item is None and now == state_of(view.before.of(suspect.name)):
                continue
            if item is None or now != suspect.state or not self._certain:
                again.append(suspect._replace(state=now))
            elif self._stays(view, suspect.name, item):
                items.append(item)
        return items, again

    def _stays(self, view: _View, name: bytes, item: Item) -> bool:
        entry = view.before.of(name)
        digests = view.digests.get(name)
        if list(item.reasons) != [Reason.CONTENT] or entry is None or not isinstance(digests, Compared):
            return True
        return self._judge(Rotten(item.place, entry, digests))

    def _differs(self, view: _View, name: bytes) -> Item | None:
        """The difference of one name; None: there is none."""
        at = view.place.child(name) if name else view.place
        entry, there, verdict = view.before.of(name), view.there.get(name), view.verdicts.get(name, 0)
        if entry is None:
            if there is None or view.before.here is None:
                return None
            return Item(Kind.EXTRA, at, there.mode, 0, _size_there(there), there.born_ns)
        if there is None and name:
            return Item(Kind.MISSING, at, entry.mode, _size(entry))
        compared = view.digests.get(name)
        if isinstance(compared, str):
            return Item(Kind.UNREADABLE, at, entry.mode, _size(entry), cause=compared)
        content = compared is not None and not compared.equal
        if not verdict & ~_BLOCKS and not content:
            return None
        size_there = 0 if there is None else _size_there(there)
        reasons: list[Reason] = [Reason.OTHER]
        if verdict & _LINK:
            reasons = [Reason.LINKS]
        elif there is not None:
            reasons = reasons_of(entry, there, owners=self._session.welcome.owns, content=content)
        born_ns = 0 if there is None else there.born_ns
        return Item(Kind.DIFFERENT, at, entry.mode, _size(entry), size_there, born_ns, reasons)


class _Here(NamedTuple):
    """A directory of the source, and names in it."""

    here: Entry | None
    entries: dict[bytes, Entry | None]
    unread: str = ""

    def of(self, name: bytes) -> Entry | None:
        """The entry of a name; the directory itself for ``b""``."""
        return self.entries.get(name) if name else self.here


class _View(NamedTuple):
    """All that is known of some names of a directory."""

    place: Place
    before: _Here
    after: _Here
    verdicts: dict[bytes, int]
    there: dict[bytes, Examined]
    digests: dict[bytes, Compared | str]


async def examine(session: Session, place: Place, names: Sequence[bytes] = ()) -> list[Examined | None]:
    """What the replica has under names of a directory, at most `EXAMINED_MOST`; without names, the directory itself.

    Raises:
        LinkError: the link broke.
    """
    answer = await session.ask(FrameType.EXAMINE, ExamineQuery(*place, names).encode())
    return decode_examined(answer, len(names) or 1)


def _entry(directory: OpenDirectory, name: bytes) -> Entry | None:
    return directory.entry(name) if name else directory.here()


def _size_there(there: Examined) -> int:
    return there.size if stat.S_ISREG(there.mode) else 0


def _size(entry: Entry) -> int:
    return entry.size if stat.S_ISREG(entry.mode) else 0
