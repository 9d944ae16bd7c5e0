"""The backup node's end of one session: applies batches and answers questions, strictly in the order they arrive.

    frames ──▶ lane (one at a time) ──▶ brake ──▶ sink            ACK: applied
                                     flusher ──▶ sink.flush       ACK: durable

The flusher makes everything durable per window, not per file, and runs beside the lane.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import trio

from i2core.api import (
    BLOCK_BYTES,
    Ask,
    Batch,
    Channel,
    Code,
    Codec,
    Entry,
    Failure,
    I2Error,
    Kind,
    LinkError,
    Place,
    ProtocolError,
    Record,
    Seen,
    Sink,
    decode_records,
)
from i2core.api.changes import join
from i2core.config.model import FlushWindow
from i2core.pipeline.blocks import WHOLE_BYTES
from i2core.rule.backup.compare import Comparison, Path, same_meta
from i2core.rule.backup.pulse import Pulse
from i2core.rule.backup.replica import Replica
from i2core.tasks import background
from i2core.wire.frame import FRAME_LIMIT, Frame, FrameStream, FrameType, aad
from i2core.wire.listing import (
    INLINE_BLOCKS,
    HashQuery,
    Judged,
    OrphanList,
    Shown,
    Verdict,
    decode_survey,
    encode_verdicts,
    most_orphans,
)
from i2core.wire.messages import ROOT_GONE, Ack, FailedRecord, Fault, Hello, Hold, dump
from i2core.wire.session import PING_S, SILENCE_S

INBOX_FRAMES = 4
MOST_LACKING = 10_000
"""Names of one directory that are remembered while it is listed."""
MOST_COUNTED = 1 << 40
_BLOCKS, _WHOLE = int(Verdict.BLOCKS), int(Verdict.WHOLE)
_MAKES = frozenset({Kind.CREATE, Kind.PUBLISH, Kind.MKDIR, Kind.SYMLINK, Kind.MKNOD, Kind.LINK, Kind.RENAME})
INBOX_BYTES = 4 << 20
"""Payloads that wait to be handled; a longer one waits alone."""
ORPHAN_BYTES = 2 << 20
"""Names that one directory adds to an answer at most: an answer is a frame."""
SMALL_BYTES = 16 * 1024
"""Payloads up to this size are decoded at once; a hop to a worker thread would cost more."""
MIRROR_FLUSH = FlushWindow(after_s=2.0, size=256 << 20)
"""A mirror that is cut off is compared again, so its window is wide."""


class Receiver:
    """One session of one rule on one channel."""

    def __init__(
        self, frames: FrameStream, hello: Hello, codecs: Codec, sink: Sink, replica: Replica, flush: FlushWindow
    ) -> None:
        self._frames = frames
        self._hello = hello
        self._codecs = codecs
        self._sink = sink
        self._replica = replica
        self._channel = Channel(hello.channel)
        self._window = MIRROR_FLUSH if self._channel is Channel.MIRROR else flush
        self._next_seq: int | None = None
        self._answered_seq = replica.applied_seq
        """Up to here every failure was told."""
        self._comparison = Comparison(owns=sink.owns)
        self._inbox_bytes = 0
        self._inbox_room = trio.Event()
        self._unlisted: tuple[Place, set[bytes]] = (Place(0, b""), set())
        """The directory that is being listed, and which of the replica's names in it did not come yet."""
        self._untidy: dict[Place, list[bytes]] = {}
        """Directories with leftovers that are being listed: the names whose staging files may be gone on with."""
        self._unflushed_bytes = 0
        self._pulse = Pulse([target.encode("latin-1") for target in hello.targets])
        self._listening_since = trio.current_time()
        """In the future while the next frame waits for room here."""
        self._dirty = trio.Event()
        if replica.applied_seq > replica.durable_seq or (replica.unsynced and self._channel is Channel.MIRROR):
            self._dirty.set()
        self._full = trio.Event()

    async def run(self) -> None:
        """Serves the session until the peer ends it.

        Raises:
            LinkError, ProtocolError: the session broke.
            StopRule: nothing more can be applied; the peer was told.
        """
        inbox_out, inbox_in = trio.open_memory_channel[Frame](INBOX_FRAMES)
        try:
            async with background() as nursery:
                nursery.start_soon(self._flush_by_window)
                nursery.start_soon(self._keep_alive)
                nursery.start_soon(self._receive_all, inbox_out)
                nursery.start_soon(self._watch_silence)
                async for frame in inbox_in:
                    async with self._replica.lane:
                        with self._pulse.at_work():
                            await self._handle(frame)
                    self._inbox_bytes -= len(frame.payload)
                    self._inbox_room.set()
        except I2Error as error:
            if not isinstance(error, LinkError):
                with trio.move_on_after(2):
                    await self._frames.send(FrameType.FAULT, dump(Fault.of(error)))
            raise
        finally:
            with trio.CancelScope(shield=True):
                await self._flush(tell=False)

    async def _receive_all(self, out: trio.MemorySendChannel[Frame]) -> None:
        # Closed without a checkpoint: the reader may end first, and an error would turn into a mere cancellation.
        with out:
            while True:
                self._listening_since = trio.current_time()
                frame = await self._frames.receive()
                self._listening_since = float("inf")
                if frame is None:
                    return
                if frame.type is FrameType.PING:
                    await self._frames.send(FrameType.PONG, self._pulse.beat())
                    continue
                self._inbox_bytes += len(frame.payload)
                await out.send(frame)
                # The next one is read when there is room, so that a peer cannot pile up the longest ones here.
                while self._inbox_bytes > INBOX_BYTES:
                    self._inbox_room = trio.Event()
                    await self._inbox_room.wait()

    async def _watch_silence(self) -> None:
        # By the bytes that come, not by whole frames: a long one takes minutes on a slow link. Seen twice, because a
        # process that was stopped for a while must first hear what came meanwhile.
        silent = False
        while True:
            await trio.sleep(PING_S)
            before = silent
            silent = trio.current_time() - max(self._frames.heard_at, self._listening_since) > SILENCE_S
            if silent and before:
                raise LinkError(f"the work node has said nothing for {SILENCE_S:.0f} s")

    async def _keep_alive(self) -> None:
        # Unasked: while records are held or a disk is slow, the peer's pings wait unread behind them.
        while True:
            await trio.sleep(PING_S)
            await self._frames.send(FrameType.PONG, self._pulse.beat())

    async def _handle(self, frame: Frame) -> None:
        if self._channel is Channel.REPLICATION:
            # Live records begin: a mirror is done, or what may be applied in part is known to be in doubt.
            self._replica.heard()
        if frame.type is FrameType.FLUSH:
            await self._flush(tell=True)
            return
        decode = self._decode
        small = len(frame.payload) <= SMALL_BYTES
        payload = decode(frame) if small else await trio.to_thread.run_sync(decode, frame)
        if frame.type is FrameType.BATCH:
            await self._batch(frame.seq, payload)
        elif frame.type is FrameType.SURVEY:
            judged = await self._survey(decode_survey(payload))
            await self._answer(FrameType.VERDICTS, frame.ident, encode_verdicts(judged))
        elif frame.type is FrameType.HASHES:
            query = HashQuery.decode(payload)
            place = self._checked(Place(query.root, query.path))
            digests = await self._sink.hashes(place, query.first, query.blocks, staged=query.staged)
            await self._answer(FrameType.DIGESTS, frame.ident, digests)
        elif frame.type is FrameType.ORPHANS:
            await self._orphans(OrphanList.decode(payload))
            await self._answer(FrameType.DONE, frame.ident, b"")
        else:
            raise ProtocolError(f"unexpected {frame.type.name} from the work node")

    def _decode(self, frame: Frame) -> bytes:
        raw = self._codecs.decode(frame.payload, seq=frame.seq, header=frame.aad, limit=FRAME_LIMIT)
        return raw if isinstance(raw, bytes) else bytes(raw)

    async def _answer(self, frame_type: FrameType, ident: int, payload: bytes) -> None:
        encoded = self._codecs.encode(payload, seq=0, header=aad(frame_type, ident, 0))
        await self._frames.send(frame_type, encoded, ident=ident)

    def _checked(self, place: Place) -> Place:
        if place.root >= len(self._hello.targets):
            raise ProtocolError(f"root {place.root} does not exist")
        return place

    # ------------------------------------------------------------------------------------------ records

    async def _batch(self, first_seq: int, payload: bytes) -> None:
        records = decode_records(payload)
        if self._next_seq is None:
            # A session may begin above what an earlier one used up in vain, or within a batch that was cut short.
            known = min(len(records), max(0, self._replica.applied_seq + 1 - first_seq))
            if known:
                self._replica.say(Code.DUPLICATE_MESSAGE, f"{known} records were applied before the link broke")
            first_seq, records = first_seq + known, records[known:]
        elif not records and first_seq > self._next_seq:
            self._next_seq = first_seq
        expected = self._next_seq or first_seq
        if first_seq != expected:
            raise ProtocolError(f"expected seq {expected}, got {first_seq}", code=Code.SEQUENCE)
        if not records:
            await self._ack([])
            return
        for record in records:
            self._checked(Place(record.root, record.path))
        removals = await self._removals(records)
        if removals:
            await self._hold_mass_delete(records, removals)
        failures = await self._apply(Batch(first_seq, records))
        if self._channel is Channel.MIRROR and any(failure.repair for failure in failures):
            self._replica.spoiled()
        self._next_seq = first_seq + len(records)
        self._replica.applied(first_seq, records, len(payload))
        self._answered_seq = self._next_seq - 1
        self._unflushed_bytes += len(payload)
        self._dirty.set()
        if self._unflushed_bytes >= self._window.size:
            self._full.set()
        await self._ack(
            [FailedRecord.of(failure) for failure in (*failures, *_left_behind(failures, first_seq, records))]
        )

    async def _removals(self, records: Sequence[Record]) -> dict[Path, int]:
        """How many files go at each path that the records remove and do not make again."""
        removals: dict[Path, int] = {}
        for record in records:
            path = (record.root, record.path)
            if record.kind is Kind.REMOVE and not record.staged:
                # The source counts what it removes, unless it no longer knows: after a broken link.
                removals[path] = record.size or await self._sink.count(Place(*path), MOST_COUNTED)
            elif record.kind in _MAKES:
                made = path if record.kind is not Kind.RENAME else (record.root, record.other)
                removals.pop(made, None)
                self._replica.window.came_back(made)
        return removals

    async def _apply(self, batch: Batch) -> Sequence[Failure]:
        policy = self._hello.orphans
        if not (policy.archive and policy.to) or self._channel is Channel.MIRROR:
            return (await self._sink.apply(batch)).failures
        # Archive: what the source removes while replicating is set aside instead.
        failures: list[Failure] = []
        start = 0
        for index, record in enumerate([*batch.records, None]):
            if record is None or (record.kind is Kind.REMOVE and not record.staged):
                part = Batch(batch.first_seq + start, batch.records[start:index])
                failures += (await self._sink.apply(part)).failures
                start = index + 1
                if record is not None:
                    place = Place(record.root, record.path)
                    await self._sink.set_aside(place, policy.to.encode("latin-1"))
        return failures

    async def _hold_mass_delete(self, records: Sequence[Record], removals: Mapping[Path, int]) -> None:
        """Waits for a release when the records would remove too much."""
        window, now = self._replica.window, trio.current_time()
        removed = sum(removals.values())
        # The work node must hear of a root's loss as such, however many files that is.
        reason = ROOT_GONE if any(each.kind is Kind.REMOVE and not each.path for each in records) else ""
        if not reason and window.suspicious(removed, now):
            remaining = 0
            for root in range(len(self._hello.targets)):
                remaining += await self._sink.count(Place(root, b""), window.enough(removed, now))
            if window.tripped(removed, remaining, now):
                reason = f"{removed + window.removed(now)} of {remaining + window.removed(now)} files would be removed"
        if not reason:
            reason = await self._emptied(records, removed)
        if reason:
            await self._hold(reason)
        window.note(removals, trio.current_time())

    async def _emptied(self, records: Sequence[Record], removed: int) -> str:
        """Why the removals leave a root without anything; empty when they do not."""
        tops: dict[int, set[bytes]] = {}
        for record in records:
            if record.kind is Kind.REMOVE and b"/" not in record.path:
                tops.setdefault(record.root, set()).add(record.path)
        for root, names in tops.items():
            (seen,) = await self._sink.look([Ask(Place(root, b""), (), every=True)])
            left = set(seen.names) - names
            kept = any(r.root == root and r.kind in _MAKES for r in records)
            if not left and not kept and self._replica.window.emptied(removed, trio.current_time()):
                return "the source root would be emptied"
        return ""

    async def _hold(self, reason: str) -> None:
        await self._frames.send(FrameType.HOLD, dump(Hold(on=True, reason=reason)))
        await self._replica.hold(reason)
        await self._frames.send(FrameType.HOLD, dump(Hold(on=False)))

    # ------------------------------------------------------------------------------------------ durability

    async def _flush_by_window(self) -> None:
        while True:
            await self._dirty.wait()
            with trio.move_on_after(self._window.after_s):
                await self._full.wait()
            await self._flush(tell=True)

    async def _flush(self, *, tell: bool) -> None:
        async with self._replica.flushing:
            if self._dirty.is_set():
                self._dirty, self._full, self._unflushed_bytes = trio.Event(), trio.Event(), 0
                goal = self._replica.applied_seq
                with self._pulse.at_work():
                    await self._sink.flush()
                    await self._replica.durable(goal)
        if tell:
            await self._ack([])

    async def _ack(self, failures: list[FailedRecord]) -> None:
        answered = self._answered_seq
        ack = Ack(applied_seq=answered, durable_seq=min(answered, self._replica.durable_seq), failures=failures)
        await self._frames.send(FrameType.ACK, dump(ack))

    # ------------------------------------------------------------------------------------------ mirror

    async def _survey(self, chunks: Sequence[Shown]) -> list[Judged]:
        """What each chunk needs; the replica is looked at in as few calls as there are kinds of questions."""
        asks = [Ask(self._checked(Place(chunk.root, chunk.path)), chunk.names, every=chunk.first) for chunk in chunks]
        seen = await self._sink.look(asks)
        heads = await self._heads(chunks)
        judged = [self._judge(chunk, there, heads) for chunk, there in zip(chunks, seen, strict=True)]
        for number, (chunk, there) in enumerate(zip(chunks, seen, strict=True)):
            if await self._tidied(chunk, judged[number], leftovers=there.leftovers):
                judged[number] = judged[number]._replace(here=Verdict.META)
                self._dirty.set()
        small = [
            (number, index)
            for number, (chunk, answer) in enumerate(zip(chunks, judged, strict=True))
            if any(answer.verdicts)
            for index, verdict in enumerate(answer.verdicts)
            if verdict & _BLOCKS and chunk.size(index) <= INLINE_BLOCKS * BLOCK_BYTES
        ]
        if small:
            places = [
                Place(chunks[number].root, join(chunks[number].path, chunks[number].names[index]))
                for number, index in small
            ]
            found = await self._sink.hashes_of(places, INLINE_BLOCKS)
            for (number, index), digests in zip(small, found, strict=True):
                judged[number].digests[index] = digests
        return judged

    async def _tidied(self, chunk: Shown, judged: Judged, *, leftovers: bool) -> bool:
        """Behind the last chunk of a directory with leftovers removes them; True when any went. Only what the replica
        lacks as a whole may be gone on with, and only when it comes in slices."""
        place = Place(chunk.root, chunk.path)
        if chunk.first and leftovers:
            if len(self._untidy) > 1:
                self._untidy.clear()  # no honest listing begins a third before it has ended one
            self._untidy[place] = []
        if place not in self._untidy:
            return False
        self._untidy[place] += [
            name
            for index, (name, verdict) in enumerate(zip(chunk.names, judged.verdicts, strict=True))
            if verdict & _WHOLE and chunk.size(index) > WHOLE_BYTES
        ]
        if len(self._untidy[place]) > MOST_LACKING:
            del self._untidy[place]  # the next mirror will do
        elif chunk.last:
            return await self._sink.tidy(place, self._untidy.pop(place))
        return False

    async def _heads(self, chunks: Sequence[Shown]) -> dict[Path, Entry | None]:
        """The replica's entries at the first names of hard links."""
        places = {(chunk.root, link) for chunk in chunks for link in chunk.links()}
        if not places:
            return {}
        wanted = sorted(places)
        asks = []
        for root, link in wanted:
            above, _, name = link.rpartition(b"/")
            asks.append(Ask(Place(root, above), [name]))
        seen = await self._sink.look(asks)
        return {path: answer.entries[0] for path, answer in zip(wanted, seen, strict=True)}

    def _judge(self, chunk: Shown, seen: Seen, heads: Mapping[Path, Entry | None]) -> Judged:
        verdicts = bytearray(len(chunk.names))
        differing = chunk.differing(seen.entries, owners=self._sink.owns)
        for index in range(len(verdicts)) if chunk.strict else differing:
            listed = chunk.listed(index)
            at: Path = (chunk.root, join(chunk.path, listed.entry.name))
            head = None if listed.link is None else heads[chunk.root, listed.link]
            verdicts[index] = self._comparison.judge(at, listed, seen.entries[index], head, strict=chunk.strict)
        here = Verdict.WHOLE
        if seen.here is not None:
            same = same_meta(chunk.here, seen.here, owns=self._sink.owns)
            here = Verdict.SAME if same else Verdict.META
        return Judged(here, bytes(verdicts), {}, self._extra(chunk, seen.names))

    def _extra(self, chunk: Shown, names: Sequence[bytes]) -> list[bytes]:
        """With a directory's last chunk: the names that only the replica has; `names` are all, with its first one.

        What is kept between chunks is a part of what the replica has, and not of what the peer says: that has no end.
        """
        listed = set(chunk.names)
        # A directory in one chunk may come between the chunks of another.
        if chunk.first and chunk.last:
            return self._answerable(chunk.path, [name for name in names if name not in listed])
        place = Place(chunk.root, chunk.path)
        if chunk.first:
            self._unlisted = (place, set(names))
        before, left = self._unlisted
        if before != place:
            raise ProtocolError("a listing goes on that never began")
        left -= listed
        if not chunk.last:
            return []
        self._unlisted = (Place(0, b""), set())
        return self._answerable(chunk.path, sorted(left))

    def _answerable(self, path: bytes, orphans: list[bytes]) -> list[bytes]:
        """As many of the names as one answer holds; the next mirror finds more."""
        size, most = 0, most_orphans(path)
        for index, name in enumerate(orphans):
            size += len(name)
            if size > ORPHAN_BYTES or index == most:
                self._replica.say(None, f"{len(orphans)} orphans in one directory, {index} are dealt with now")
                return orphans[:index]
        return orphans

    async def _orphans(self, orphans: OrphanList) -> None:
        """Does with confirmed orphans what the rule says."""
        policy = self._hello.orphans
        places = [self._checked(Place(orphans.root, join(orphans.path, name))) for name in orphans.names]
        self._replica.orphans += len(places)
        if policy.action == "keep":
            return
        records = [
            Record(Kind.REMOVE, place.root, place.path, size=await self._sink.count(place, MOST_COUNTED))
            for place in places
        ]
        await self._hold_mass_delete(records, {(record.root, record.path): record.size for record in records})
        if policy.action == "delete":
            # Records of this node's own: with seqs that no work node ever gives.
            done = await self._sink.apply(Batch(1 - len(records), records))
            for failure in done.failures:
                self._replica.say(failure.code, failure.message)
        elif policy.to:
            for place in places:
                await self._sink.set_aside(place, policy.to.encode("latin-1"))
        self._dirty.set()


def _left_behind(failures: Sequence[Failure], first_seq: int, records: Sequence[Record]) -> Iterator[Failure]:
    """The old names of renames that failed: the source believes that nothing is there any more."""
    for failure in failures:
        record = records[failure.seq - first_seq]
        if record.kind is Kind.RENAME and failure.repair:
            yield failure._replace(place=Place(record.root, record.path))
