"""The state of a backup node between questions: leftovers of directories that are being listed, and pages of names.
And a question is answered in slices."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import trio

from i2core.api import BLOCK_BYTES, Ask, Channel, Entry, Place, ProtocolError, Seen
from i2core.api import names as names_module
from i2core.api.names import NAME_COST
from i2core.rule.backup.session import leftovers as leftovers_module
from i2core.rule.backup.session.leftovers import Leftovers
from i2core.rule.backup.session.questions import DIGESTS_BYTES, MOST_PAGED, SLICE, CompareServer, OpenPages
from i2core.rule.backup.session.session_roots import SessionRoots
from i2core.rule.backup.session.unflushed import Unflushed
from i2core.rule.backup.session.writer import ReplicaWriter
from i2core.wire.listing import (
    INLINE_BLOCKS,
    Chunk,
    ChunkVerdicts,
    ReceivedChunk,
    Verdict,
    decode_survey,
    encode_survey,
)
from i2core.wire.message_size import WHOLE_BYTES

from .scripted_sink import ScriptedSink

HERE = Entry(b"", 0o40755, 0, 0, 0, 0)
LARGE = WHOLE_BYTES + 1


def chunk(path: bytes, sizes: dict[bytes, int], *, first: bool = True, last: bool = True) -> ReceivedChunk:
    """Part of a directory with files of these sizes."""
    entries = [Entry(name, 0o100644, 0, 0, size, 0) for name, size in sizes.items()]
    (made,) = decode_survey(encode_survey([Chunk(0, path, HERE, first, last, False, entries)]))
    return made


def verdicts(*each: Verdict, orphans: tuple[bytes, ...] = ()) -> ChunkVerdicts:
    return ChunkVerdicts(Verdict.SAME, bytes(each), {}, list(orphans))


def leftovers(*, mirrors: bool = True) -> tuple[Leftovers, ScriptedSink]:
    sink = ScriptedSink()
    return Leftovers(ReplicaWriter(sink, Unflushed(1)), mirrors=mirrors), sink


async def test_a_file_that_is_sent_in_slices_keeps_its_staging_file() -> None:
    """Only for files that the replica lacks completely."""
    kept, sink = leftovers()
    sizes = {b"large": LARGE, b"small": 10, b"there": LARGE}
    answer = verdicts(Verdict.WHOLE, Verdict.WHOLE, Verdict.BLOCKS)
    assert await kept.listed(chunk(b"d", sizes), answer, leftovers=True)
    assert sink.done == [("tidy", (Place(0, b"d"), [b"large"]))]


async def test_a_directory_without_leftovers_is_left_alone() -> None:
    kept, sink = leftovers()
    assert not await kept.listed(chunk(b"d", {b"f": LARGE}), verdicts(Verdict.WHOLE), leftovers=False)
    assert sink.done == []


async def test_they_are_removed_with_the_last_chunk_and_not_before() -> None:
    kept, sink = leftovers()
    first, last = chunk(b"d", {b"a": LARGE}, last=False), chunk(b"d", {b"b": LARGE}, first=False)
    assert not await kept.listed(first, verdicts(Verdict.WHOLE), leftovers=True)
    assert sink.done == []
    assert await kept.listed(last, verdicts(Verdict.WHOLE), leftovers=False)
    assert sink.done == [("tidy", (Place(0, b"d"), [b"a", b"b"]))]


@pytest.mark.parametrize("mirrors", [True, False])
async def test_only_a_mirror_removes_staging_files_of_orphans(mirrors: bool) -> None:
    kept, sink = leftovers(mirrors=mirrors)
    await kept.listed(chunk(b"d", {}), verdicts(orphans=(b"gone",)), leftovers=True)
    assert [name for name, _ in sink.done] == (["unstage", "tidy"] if mirrors else ["tidy"])


async def test_a_directory_with_too_much_to_remember_waits_for_the_next_mirror(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(leftovers_module, "MOST_LACKING", 1)
    kept, sink = leftovers()
    both = chunk(b"d", {b"a": LARGE, b"b": LARGE})
    assert not await kept.listed(both, verdicts(Verdict.WHOLE, Verdict.WHOLE), leftovers=True)
    assert sink.done == []


async def test_unfinished_listings_of_a_peer_are_not_remembered_for_ever() -> None:
    kept, _ = leftovers()
    for name in (b"a", b"b", b"c"):
        await kept.listed(chunk(name, {b"f": LARGE}, last=False), verdicts(Verdict.WHOLE), leftovers=True)
    assert not await kept.listed(chunk(b"a", {}, first=False), verdicts(), leftovers=False)
    assert await kept.listed(chunk(b"c", {}, first=False), verdicts(), leftovers=False)


async def test_names_come_page_by_page_and_the_directory_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names_module, "PAGE_BYTES", 2 * (NAME_COST + 1))
    sink, place = ScriptedSink(), Place(0, b"d")
    sink.names_at[place] = [b"a", b"b", b"c"]
    pages = OpenPages(sink)
    assert await pages.next(place, first=True) == [b"a", b"b"]
    assert await pages.next(place, first=False) == [b"c"]
    assert await pages.next(place, first=False) == []
    assert sink.open_pages == 0
    with pytest.raises(ProtocolError):
        await pages.next(place, first=False)


async def test_only_so_many_directories_are_open_at_one_time() -> None:
    sink = ScriptedSink()
    pages = OpenPages(sink)
    places = [Place(0, b"d%d" % number) for number in range(MOST_PAGED + 1)]
    for place in places:
        sink.names_at[place] = [b"a"]
        await pages.next(place, first=True)
    assert sink.open_pages == MOST_PAGED
    with pytest.raises(ProtocolError):
        await pages.next(places[0], first=False)
    pages.close()
    assert sink.open_pages == 0


class CountingSink(ScriptedSink):
    """Has a file of two blocks at each name. Notes how much each call asks for; `then` is called after each `look`."""

    def __init__(self, then: Callable[[], None] = lambda: None) -> None:
        super().__init__()
        self.looked: list[int] = []
        self.hashed: list[int] = []
        self._then = then

    async def look(self, asks: Sequence[Ask]) -> list[Seen]:
        self.looked.append(sum(len(ask.names) + 1 for ask in asks))
        seen = await super().look(asks)
        self._then()
        files = [[Entry(name, 0o100644, 0, 0, 2 * BLOCK_BYTES, 0) for name in ask.names] for ask in asks]
        return [each._replace(entries=entries) for each, entries in zip(seen, files, strict=True)]

    async def hashes_of(self, places: Sequence[Place], most: int) -> list[bytes]:
        self.hashed.append(len(places))
        return await super().hashes_of(places, most)


def server(sink: ScriptedSink) -> CompareServer:
    return CompareServer(sink, ReplicaWriter(sink, Unflushed(1)), SessionRoots(["/t"]), Channel.MIRROR)


async def test_a_long_listing_is_answered_in_slices_and_in_order() -> None:
    sink = CountingSink()
    sink.names_at = {Place(0, b"%d" % number): [b"only-%d" % number] for number in range(SLICE)}
    chunks = [chunk(b"%d" % number, {b"f": 1, b"g": 1}) for number in range(SLICE)]
    judged = await server(sink).survey(chunks)
    assert [answer.orphans for answer in judged] == [[b"only-%d" % number] for number in range(SLICE)]
    assert len(sink.looked) > 2
    assert max(sink.looked) <= SLICE
    assert sum(sink.looked) == 3 * SLICE


async def test_a_session_that_has_ended_gets_no_further_slice() -> None:
    scope = trio.CancelScope()
    sink = CountingSink(scope.cancel)
    with scope:
        await server(sink).survey([chunk(b"", {})] * (3 * SLICE))
    assert scope.cancelled_caught
    assert len(sink.looked) == 1


async def test_a_directory_may_be_listed_twice_in_one_message() -> None:
    """A file system may report a name twice while its directory changes; then a work node lists what is beneath it
    twice."""
    sink = CountingSink()
    sink.names_at[Place(0, b"d")] = [b"f", b"only"]
    judged = await server(sink).survey([chunk(b"d", {b"f": 1}), chunk(b"d", {b"f": 1})])
    assert [answer.orphans for answer in judged] == [[b"only"]] * 2


async def test_contents_of_small_files_are_read_some_at_a_time() -> None:
    sink = CountingSink()
    most = DIGESTS_BYTES // (INLINE_BLOCKS * BLOCK_BYTES)
    files = {b"%d" % number: 3 * BLOCK_BYTES for number in range(most + 1)}
    (answer,) = await server(sink).survey([chunk(b"", files)])
    assert sink.hashed == [most, 1]
    assert len(answer.digests) == most + 1
