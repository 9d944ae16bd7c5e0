"""The work node's end of a session: sends batches in seq order, asks questions, and learns what is applied and durable.

    HELLO → WELCOME | REFUSE        then, in any order:
    BATCH → ACK…                    applied and durable seqs, failed records
    SURVEY → VERDICTS, HASHES → DIGESTS, ORPHANS → DONE, FLUSH → ACK, PING → PONG
    HOLD, FAULT                     from the backup node, unasked

The backup node handles batches and questions strictly in the order in which they arrive, so an answer always reflects
every record sent before the question.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple

import trio

from i2core.api import Codec, LinkError, ProtocolError, Record, encode_records
from i2core.api.records import Buffer
from i2core.tasks import background
from i2core.wire.frame import FRAME_LIMIT, HEADER_BYTES, Frame, FrameStream, FrameType, aad
from i2core.wire.messages import Ack, Fault, Hello, Hold, Welcome, dump, parse

WINDOW_BYTES = 16 * 1024 * 1024
"""Most encoded bytes of batches on their way: sent and not yet applied."""
PING_S = 5.0
SILENCE_S = 30.0
"""A peer that says nothing for so long is gone."""
GREETING_S = 30.0


class SeqCounter:
    """The next seq of a rule; shared by its sessions, which never send at the same time."""

    def __init__(self, next_seq: int = 1) -> None:
        self.next = next_seq

    def take(self, count: int) -> int:
        """Reserves `count` seqs and returns the first."""
        first = self.next
        self.next += count
        return first

    def seal(self, records: Sequence[Record]) -> Sealed:
        """A batch of records with the next seqs."""
        first = self.take(len(records))
        return Sealed(first, first + len(records) - 1, encode_records(records))


class Sealed(NamedTuple):
    """A batch with its seqs, as `encode_records` makes it: what may have to be sent more than once."""

    first_seq: int
    last_seq: int
    raw: Buffer


class Packed(NamedTuple):
    """A batch behind the session's codecs, ready to be sent."""

    batch: Sealed
    payload: Buffer


class Session:
    """One open session. Made by `open_session`."""

    def __init__(
        self,
        frames: FrameStream,
        codecs: Codec,
        seqs: SeqCounter,
        on_ack: Callable[[Ack], None],
        on_hold: Callable[[Hold], None],
    ) -> None:
        self._frames = frames
        self._codecs = codecs
        self._seqs = seqs
        self._on_ack = on_ack
        self._on_hold = on_hold
        self._answers: dict[int, _Answer] = {}
        self._ident = 0
        self._flying: deque[tuple[int, int]] = deque()
        self._flying_bytes = 0
        self._moved = trio.Condition()
        self.last_sent = 0
        """Seq of the last record that was sent in this session; 0 when there is none."""
        self._last_batch = 0
        self.answers = 0
        """How many questions were answered."""
        self.ping_bytes = 0
        """Bytes of pings that were sent: they say nothing about the transfer."""
        self.peer_beat = 0
        """A number that the backup node tells; it changes while there is progress there."""
        self.applied_seq = 0
        self.durable_seq = 0
        self.welcome: Welcome
        self.nursery: trio.Nursery
        """Tasks beside the session: they end with it, and an error of one ends it."""

    @property
    def wire_bytes(self) -> int:
        """Bytes on the link so far, both ways."""
        return self._frames.wire_bytes

    @property
    def flying_bytes(self) -> int:
        """Encoded bytes of batches that are sent and not yet applied."""
        return self._flying_bytes

    @property
    def owed(self) -> bool:
        """True while something was sent, or waits to be, that is not applied, answered or durable."""
        return bool(self._flying or self._answers) or self.durable_seq < self._last_batch

    def pack(self, records: Sequence[Record]) -> Packed:
        """Numbers and encodes records; for worker threads. Packed batches are sent in the order of packing."""
        return self.encode(self._seqs.seal(records))

    def encode(self, batch: Sealed) -> Packed:
        """A batch behind this session's codecs; for worker threads."""
        header = aad(FrameType.BATCH, 0, batch.first_seq)
        payload = self._codecs.encode(batch.raw, seq=batch.first_seq, header=header)
        return Packed(batch, payload)

    async def send(self, packed: Packed) -> None:
        """Sends a batch; waits while too much is on its way.

        Raises:
            LinkError: the link broke.
        """
        async with self._moved:
            while self._flying_bytes and self._flying_bytes + len(packed.payload) > WINDOW_BYTES:
                await self._moved.wait()
        first_seq, last_seq, _ = packed.batch
        self._flying.append((last_seq, len(packed.payload)))
        self._flying_bytes += len(packed.payload)
        self.last_sent = self._last_batch = last_seq
        await self._frames.send(FrameType.BATCH, packed.payload, seq=first_seq)

    async def skip_to(self, seq: int) -> None:
        """Seqs below that were not sent are void: an earlier session used them up. A session's first batch needs not
        say so."""
        if not self.last_sent or seq <= self.last_sent + 1:
            return
        self.last_sent = seq - 1
        raw = encode_records([])
        empty = self._codecs.encode(raw, seq=seq, header=aad(FrameType.BATCH, 0, seq))
        await self._frames.send(FrameType.BATCH, empty, seq=seq)

    async def send_records(self, records: Sequence[Record]) -> int:
        """Packs and sends a few records from the event loop; returns the last seq."""
        packed = self.pack(records)
        await self.send(packed)
        return packed.batch.last_seq

    async def post(self, question: FrameType, payload: bytes) -> Callable[[], Awaitable[Buffer]]:
        """Sends a question; awaiting what it returns gives the answer's payload. Questions reach the backup node in the
        order in which they were posted.

        Raises:
            LinkError: the link broke.
        """
        self._ident = self._ident % 0xFFFF + 1
        ident = self._ident
        answer = self._answers[ident] = _Answer()
        encoded = self._codecs.encode(payload, seq=0, header=aad(question, ident, 0))
        await self._frames.send(question, encoded, ident=ident)

        async def wait() -> Buffer:
            await answer.ready.wait()
            frame = answer.frame
            assert frame is not None
            return self._codecs.decode(frame.payload, seq=frame.seq, header=frame.aad, limit=FRAME_LIMIT)

        return wait

    async def ask(self, question: FrameType, payload: bytes) -> Buffer:
        """`post`, and the answer."""
        return await (await self.post(question, payload))()

    async def settle(self) -> None:
        """Returns when everything sent so far is durable on the backup node.

        Raises:
            LinkError: the link broke before.
        """
        goal = self.last_sent
        async with self._moved:
            if self.durable_seq >= goal:
                return
        await self._frames.send(FrameType.FLUSH)
        async with self._moved:
            while self.durable_seq < goal:
                await self._moved.wait()

    async def _receive_all(self) -> None:
        while True:
            frame = await self._frames.receive()
            if frame is None:
                raise LinkError("the backup node closed the connection")
            await self._handle(frame)

    async def _handle(self, frame: Frame) -> None:
        if frame.type is FrameType.ACK:
            ack = parse(frame.payload, Ack)
            async with self._moved:
                self.applied_seq = max(self.applied_seq, ack.applied_seq)
                self.durable_seq = max(self.durable_seq, ack.durable_seq)
                while self._flying and self._flying[0][0] <= ack.applied_seq:
                    self._flying_bytes -= self._flying.popleft()[1]
                self._moved.notify_all()
            self._on_ack(ack)
        elif frame.type in (FrameType.VERDICTS, FrameType.DIGESTS, FrameType.DONE):
            answer = self._answers.pop(frame.ident, None)
            if answer is None:
                raise ProtocolError("an answer to no question")
            answer.frame = frame
            answer.ready.set()
            self.answers += 1
        elif frame.type is FrameType.HOLD:
            self._on_hold(parse(frame.payload, Hold))
        elif frame.type is FrameType.FAULT:
            raise parse(frame.payload, Fault).error()
        elif frame.type is FrameType.PONG:
            self.peer_beat = int.from_bytes(frame.payload[:8], "little")
        else:
            raise ProtocolError(f"unexpected {frame.type.name} from the backup node")

    async def _keep_alive(self) -> None:
        while True:
            await trio.sleep(PING_S)
            await self._frames.send(FrameType.PING)
            self.ping_bytes += HEADER_BYTES

    async def _watch_silence(self) -> None:
        # A task of its own: sending a ping waits, perhaps for ever, behind a batch that a dead peer does not take.
        while True:
            await trio.sleep(PING_S)
            if trio.current_time() - self._frames.heard_at > SILENCE_S:
                raise LinkError(f"the backup node has said nothing for {SILENCE_S:.0f} s")


class _Answer:
    def __init__(self) -> None:
        self.ready = trio.Event()
        self.frame: Frame | None = None


@asynccontextmanager
async def open_session(
    stream: trio.abc.Stream,
    hello: Hello,
    codecs: Codec,
    seqs: SeqCounter,
    *,
    on_ack: Callable[[Ack], None],
    on_hold: Callable[[Hold], None],
) -> AsyncIterator[Session]:
    """Greets the backup node and keeps the session until the body ends; the stream is closed then.

    Raises:
        LinkError, ProtocolError: the link broke, here or later in the body.
        StopRule: the backup node refused, or reported a fault that needs a human.
    """
    frames = FrameStream(stream)
    session = Session(frames, codecs, seqs, on_ack, on_hold)
    try:
        with trio.move_on_after(GREETING_S) as greeting:
            await frames.send(FrameType.HELLO, dump(hello))
            answer = await frames.receive()
        if greeting.cancelled_caught or answer is None:
            raise LinkError("the backup node did not answer the greeting")
        if answer.type is FrameType.REFUSE:
            raise parse(answer.payload, Fault).error()
        if answer.type is not FrameType.WELCOME:
            raise ProtocolError(f"expected a welcome, got {answer.type.name}")
        session.welcome = parse(answer.payload, Welcome)
        session.durable_seq = session.welcome.durable_seq
        seqs.next = max(seqs.next, session.welcome.applied_seq + 1)
        async with background() as nursery:
            session.nursery = nursery
            nursery.start_soon(session._receive_all)
            nursery.start_soon(session._keep_alive)
            nursery.start_soon(session._watch_silence)
            yield session
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 2):
            await frames.aclose()
