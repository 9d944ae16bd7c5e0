"""The backup node's end of one session: handles frames strictly in the order in which they arrive.

    inbox ──▶ dispatch ──▶ batches ──▶ brake ──▶ writer ──▶ sink      ACK: applied
                      ├──▶ questions (survey, digests, names)
                      └──▶ orphans
    window ──▶ sink.flush ──▶ position                                ACK: durable

The window runs concurrently with all of this.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import attrs
import trio

from i2core.api import Buffer, Channel, Codec, I2Error, LinkError, ProtocolError, Sink, in_thread
from i2core.config.model import FlushWindow
from i2core.posix.path_text import as_path
from i2core.rule.backup.replica.recording import Open
from i2core.rule.backup.replica.replica import Replica
from i2core.rule.backup.session.acks import Acknowledger
from i2core.rule.backup.session.applying import RecordApplier
from i2core.rule.backup.session.batches import BatchReceiver
from i2core.rule.backup.session.durability import DurabilityWindow
from i2core.rule.backup.session.inbox import Inbox
from i2core.rule.backup.session.mass_delete import MassDeleteGate
from i2core.rule.backup.session.orphans import OrphanKeeper
from i2core.rule.backup.session.progress_signal import ProgressSignal
from i2core.rule.backup.session.questions import CompareServer
from i2core.rule.backup.session.session_roots import SessionRoots
from i2core.rule.backup.session.writer import ReplicaWriter
from i2core.tasks import background
from i2core.wire.frame import FRAME_LIMIT, SMALL_BYTES, Frame, FrameStream, FrameType, aad
from i2core.wire.listing import decode_survey, encode_verdicts
from i2core.wire.messages import Fault, Hello, dump
from i2core.wire.questions import ExamineQuery, HashQuery, NamesQuery, OrphanList, encode_examined, encode_names

T = TypeVar("T")
TOGETHER_BYTES = 4 << 20
"""So many bytes of decoded batches are applied together, and at most one batch more."""
_CHANGES = (FrameType.BATCH, FrameType.ORPHANS)


@attrs.frozen
class OpenSession:
    """The parts of an accepted session."""

    hello: Hello
    codecs: Codec
    sink: Sink
    writer: ReplicaWriter
    replica: Replica
    flush: FlushWindow
    open_history: Open


class Receiver:
    """One session of one rule on one channel."""

    def __init__(self, frames: FrameStream, session: OpenSession) -> None:
        hello, sink, writer, replica = session.hello, session.sink, session.writer, session.replica
        roots = SessionRoots(hello.targets)
        self._frames = frames
        self._codecs = session.codecs
        self._replica = replica
        self._open_history = session.open_history
        self._channel = Channel(hello.channel)
        mirrors = self._channel is Channel.MIRROR
        self._signal = ProgressSignal([as_path(target) for target in hello.targets])
        self._inbox = Inbox(frames, self._signal)
        acks = Acknowledger(frames, replica)
        self._window = DurabilityWindow(
            sink, replica, writer.unflushed, acks, self._signal, after_s=session.flush.after_s
        )
        gate = MassDeleteGate(frames, sink, replica, roots)
        policy = hello.orphans
        archive = as_path(policy.to) if policy.to and policy.archive and not mirrors else b""
        applier = RecordApplier(writer, gate, archive)
        self._batches = BatchReceiver(self._channel, replica, roots, applier, writer.unflushed, acks)
        self._questions = CompareServer(sink, writer, roots, self._channel)
        self._orphans = OrphanKeeper(hello, replica, roots, writer, gate)
        applied_seq = replica.progress.applied_seq
        asks = self._channel is Channel.COMPARE  # what is not durable yet is the business of the others
        if not asks and (applied_seq > replica.durable_seq or (replica.unsynced and mirrors)):
            writer.unflushed.note(seq=applied_seq)

    async def run(self) -> None:
        """Serves the session until the peer ends it.

        Raises:
            LinkError, ProtocolError: the session broke.
            StopRule: nothing more can be applied; this was reported to the peer.
        """
        try:
            async with background() as nursery:
                nursery.start_soon(self._window.run)
                nursery.start_soon(self._inbox.keep_alive)
                nursery.start_soon(self._inbox.receive_all)
                nursery.start_soon(self._inbox.detect_silence)
                if self._channel is Channel.REPLICATION:
                    nursery.start_soon(self._window.watch_roots)
                async for frame in self._inbox:
                    async with self._replica.apply_lock:
                        with self._signal.at_work():
                            await self._handle(frame)
                    self._inbox.handled(frame)
        except I2Error as error:
            if not isinstance(error, LinkError):
                with trio.move_on_after(2):
                    await self._frames.send(FrameType.FAULT, dump(Fault.of(error)))
            raise
        finally:
            self._questions.close()
            with trio.CancelScope(shield=True):
                await self._window.close()

    async def _handle(self, frame: Frame) -> None:
        if self._channel is Channel.REPLICATION:
            # Live records begin: a mirror is done, or the work node has taken over the doubts about records applied in
            # part.
            self._replica.progress.mark_known()
            await self._replica.mark_compared()
            await self._replica.recording.begin(self._open_history)
        if frame.type is FrameType.FLUSH:
            await self._window.flush(report=True)
            return
        if self._channel is Channel.COMPARE and frame.type in _CHANGES:
            raise ProtocolError(f"a {frame.type.name} in a session that only asks")
        match frame.type:
            case FrameType.BATCH:
                await self._batches.receive(await self._together(frame))
            case FrameType.SURVEY:
                judged = await self._questions.survey(await self._read(frame, decode_survey))
                await self._answer(FrameType.VERDICTS, frame.ident, encode_verdicts(judged))
            case FrameType.HASHES:
                digests = await self._questions.digests(await self._read(frame, HashQuery.decode))
                await self._answer(FrameType.DIGESTS, frame.ident, digests)
            case FrameType.NAMES:
                names = await self._questions.names(await self._read(frame, NamesQuery.decode))
                await self._answer(FrameType.NAMED, frame.ident, encode_names(names))
            case FrameType.EXAMINE:
                found = await self._questions.examined(await self._read(frame, ExamineQuery.decode))
                await self._answer(FrameType.EXAMINED, frame.ident, encode_examined(found))
            case FrameType.ORPHANS:
                await self._orphans.treat(await self._read(frame, OrphanList.decode))
                await self._answer(FrameType.DONE, frame.ident, b"")
            case _:
                raise ProtocolError(f"unexpected {frame.type.name} from the work node")

    async def _together(self, frame: Frame) -> list[tuple[int, bytes]]:
        """The batch; if the replica has a history, with those that have arrived behind it by now."""
        found, size, following = list[tuple[int, bytes]](), 0, frame
        while True:
            payload = await self._read(following, bytes)
            found.append((following.seq, payload))
            size += len(payload)
            more = self._inbox.following_batch() if self._replica.recording.current and size < TOGETHER_BYTES else None
            if more is None:
                return found
            following = more

    async def _read(self, frame: Frame, parse: Callable[[Buffer], T]) -> T:
        """What `parse` makes of the decoded payload; for a long frame in a worker thread, since a SURVEY at its limit
        takes 30 ms."""

        def read() -> T:
            return parse(self._codecs.decode(frame.payload, seq=frame.seq, header=frame.aad, limit=FRAME_LIMIT))

        return read() if len(frame.payload) <= SMALL_BYTES else await in_thread(read)

    async def _answer(self, frame_type: FrameType, ident: int, payload: bytes) -> None:
        encoded = self._codecs.encode(payload, seq=0, header=aad(frame_type, ident, 0))
        await self._frames.send(frame_type, encoded, ident=ident)
