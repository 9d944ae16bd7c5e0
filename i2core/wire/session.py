"""The work node's end of a session: sends batches in seq order, asks questions, and receives the applied and durable
seqs.

    HELLO → WELCOME | REFUSE        then, in any order:
    BATCH → ACK…                    applied and durable seqs, failed records
    SURVEY → VERDICTS, HASHES → DIGESTS, NAMES → NAMED, EXAMINE → EXAMINED, ORPHANS → DONE, FLUSH → ACK, PING → PONG
    HOLD, FAULT                     from the backup node, unsolicited

The backup node handles batches and questions strictly in the order in which they arrive, so an answer always reflects
every record sent before the question.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager

import trio

from i2core.api import Codec, LinkError, ProtocolError, Record
from i2core.api.records import Buffer
from i2core.tasks import background
from i2core.wire.batch import EncodedBatch, SeqCounter, WireBatch
from i2core.wire.encoding import encode_records
from i2core.wire.frame import FRAME_LIMIT, Frame, FrameStream, FrameType, aad
from i2core.wire.keep_alive import KeepAlive
from i2core.wire.messages import Ack, Fault, Hello, Hold, Welcome, dump, parse
from i2core.wire.window import Window

GREETING_S = 30.0
_ANSWERS = (FrameType.VERDICTS, FrameType.DIGESTS, FrameType.NAMED, FrameType.DONE, FrameType.EXAMINED)


class Session:
    """One open session. Made by `open_session`."""

    nursery: trio.Nursery
    """Background tasks of the session: they end with it, and an error of one ends it."""

    def __init__(
        self,
        frames: FrameStream,
        codecs: Codec,
        seqs: SeqCounter,
        welcome: Welcome,
        on_ack: Callable[[Ack], None],
        on_hold: Callable[[Hold], None],
        roots: int,
    ) -> None:
        self.welcome = welcome
        self._frames = frames
        self._codecs = codecs
        self._seqs = seqs
        self._on_ack = on_ack
        self._on_hold = on_hold
        self._roots = roots
        self.window = Window(welcome.durable_seq)
        self.keep_alive = KeepAlive(frames)
        self.questions = _Questions()
        self._held = False
        """The backup node holds a mass delete of this session."""
        self.last_sent = 0
        """Seq of the last record that was sent in this session; 0 when there is none."""

    @property
    def wire_bytes(self) -> int:
        """Bytes on the link so far, both ways."""
        return self._frames.wire_bytes

    @property
    def owed(self) -> bool:
        """True while a batch or question is not yet applied, answered or durable."""
        return self.window.owed or self.questions.owed

    def start(self, nursery: trio.Nursery) -> None:
        """Receives, pings and detects silence until the nursery ends."""
        self.nursery = nursery
        nursery.start_soon(self._receive_all)
        nursery.start_soon(self.keep_alive.ping)
        nursery.start_soon(self.keep_alive.detect_silence)

    def pack(self, records: Sequence[Record]) -> list[WireBatch]:
        """Numbers and encodes records; for worker threads. Packed batches are sent in the order of packing."""
        return [self.encode(batch) for batch in self._seqs.seal(records)]

    def encode(self, batch: EncodedBatch) -> WireBatch:
        """Encodes a batch with this session's codecs; for worker threads."""
        header = aad(FrameType.BATCH, 0, batch.first_seq)
        payload = self._codecs.encode(batch.raw, seq=batch.first_seq, header=header)
        return WireBatch(batch, payload)

    async def send(self, packed: WireBatch) -> None:
        """Sends a batch; waits while too many bytes are in flight.

        Raises:
            LinkError: the link broke.
        """
        first_seq, last_seq, _ = packed.batch
        await self.window.room_for(len(packed.payload))
        self.window.sent(last_seq, len(packed.payload))
        self.last_sent = last_seq
        await self._frames.send(FrameType.BATCH, packed.payload, seq=first_seq)

    async def skip_to(self, seq: int) -> None:
        """Declares the unsent seqs below `seq` void, because an earlier session used them up. Not needed before the
        first batch of a session."""
        if not self.last_sent or seq <= self.last_sent + 1:
            return
        self.last_sent = seq - 1
        raw = encode_records([])
        empty = self._codecs.encode(raw, seq=seq, header=aad(FrameType.BATCH, 0, seq))
        await self._frames.send(FrameType.BATCH, empty, seq=seq)

    async def send_records(self, records: Sequence[Record]) -> int:
        """Packs and sends a few records from the event loop; returns the last seq."""
        for packed in self.pack(records):
            await self.send(packed)
        return self.last_sent

    async def post(self, question: FrameType, payload: bytes) -> Callable[[], Awaitable[Buffer]]:
        """Sends a question, and returns a function to await the answer's payload. Questions reach the backup node in
        the order in which they were posted.

        Raises:
            LinkError: the link broke.
        """
        ident, answer = self.questions.ask()
        encoded = self._codecs.encode(payload, seq=0, header=aad(question, ident, 0))
        await self._frames.send(question, encoded, ident=ident)

        async def wait() -> Buffer:
            await answer.ready.wait()
            frame = answer.frame
            assert frame is not None
            return self._codecs.decode(frame.payload, seq=frame.seq, header=frame.aad, limit=FRAME_LIMIT)

        return wait

    async def ask(self, question: FrameType, payload: bytes) -> Buffer:
        """`post`, then wait for the answer."""
        return await (await self.post(question, payload))()

    async def settle(self) -> None:
        """Returns when everything sent so far is durable on the backup node.

        Raises:
            LinkError: the link broke before.
        """
        goal = self.last_sent
        if self.window.durable_seq < goal:
            await self._frames.send(FrameType.FLUSH)
        await self.window.durable(goal)

    async def confirm(self) -> None:
        """Tells the backup node that the work node has handled the welcome's statement about the replica, even if
        nothing is to be sent. Returns after the answer: if the session closed earlier, the backup node would log a
        broken link.

        Raises:
            LinkError: the link broke before.
        """
        before = self.window.acks
        await self._frames.send(FrameType.FLUSH)
        await self.window.more_acks(than=before)

    async def _receive_all(self) -> None:
        while True:
            frame = await self._frames.receive()
            if frame is None:
                raise LinkError("the backup node closed the connection")
            await self._handle(frame)

    async def _handle(self, frame: Frame) -> None:
        if frame.type is FrameType.ACK:
            ack = self._checked(parse(frame.payload, Ack))
            await self.window.acknowledged(ack)
            self._on_ack(ack)
        elif frame.type in _ANSWERS:
            self.questions.answer(frame)
        elif frame.type is FrameType.HOLD:
            self._on_hold(self._checked_hold(parse(frame.payload, Hold)))
        elif frame.type is FrameType.FAULT:
            raise parse(frame.payload, Fault).error()
        elif frame.type is FrameType.PONG:
            self.keep_alive.answered(frame.payload)
        else:
            raise ProtocolError(f"unexpected {frame.type.name} from the backup node")
        if self._held and not self.owed:
            raise ProtocolError("everything is answered, although the backup node holds some of it")

    def _checked_hold(self, hold: Hold) -> Hold:
        """Notes the hold. What is held is a batch or a question that is not answered yet: so a session that is owed
        nothing, a complete mirror for example, is not held."""
        if hold.on and not self.owed:
            raise ProtocolError("the backup node holds a mass delete, although nothing was sent")
        if hold.on is self._held:
            raise ProtocolError("a second hold" if hold.on else "a release of what was not held")
        self._held = hold.on
        return hold

    def _checked(self, ack: Ack) -> Ack:
        if not ack.durable_seq <= ack.applied_seq < self._seqs.next:
            raise ProtocolError(f"an ack of {ack.applied_seq}, durable {ack.durable_seq}: such seqs were not sent")
        if any(failure.root >= self._roots or failure.seq >= self._seqs.next for failure in ack.failures):
            raise ProtocolError("a failure of a record that was never sent")
        return ack


class _Answer:
    def __init__(self) -> None:
        self.ready = trio.Event()
        self.frame: Frame | None = None


class _Questions:
    """Questions that wait for their answers, by the number that joins the two."""

    def __init__(self) -> None:
        self._waiting: dict[int, _Answer] = {}
        self._ident = 0
        self.answered = 0

    @property
    def owed(self) -> bool:
        """True while a question is not answered."""
        return bool(self._waiting)

    def ask(self) -> tuple[int, _Answer]:
        """The number of a new question, and its answer to come."""
        self._ident = self._ident % 0xFFFF + 1
        answer = self._waiting[self._ident] = _Answer()
        return self._ident, answer

    def answer(self, frame: Frame) -> None:
        """Hands an answer to the question that waits for it.

        Raises:
            ProtocolError: none does.
        """
        answer = self._waiting.pop(frame.ident, None)
        if answer is None:
            raise ProtocolError("an answer to no question")
        answer.frame = frame
        answer.ready.set()
        self.answered += 1


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
    try:
        welcome = await _greet(frames, hello)
        seqs.next = max(seqs.next, welcome.applied_seq + 1)
        session = Session(frames, codecs, seqs, welcome, on_ack, on_hold, len(hello.targets))
        async with background() as nursery:
            session.start(nursery)
            yield session
    finally:
        with trio.CancelScope(shield=True, deadline=trio.current_time() + 2):
            await frames.aclose()


async def _greet(frames: FrameStream, hello: Hello) -> Welcome:
    """Says HELLO, and returns the answer if it is a WELCOME."""
    with trio.move_on_after(GREETING_S) as greeting:
        await frames.send(FrameType.HELLO, dump(hello))
        answer = await frames.receive()
    if greeting.cancelled_caught or answer is None:
        raise LinkError("the backup node did not answer the greeting")
    if answer.type is FrameType.REFUSE:
        raise parse(answer.payload, Fault).error()
    if answer.type is not FrameType.WELCOME:
        raise ProtocolError(f"expected a welcome, got {answer.type.name}")
    welcome = parse(answer.payload, Welcome)
    if welcome.durable_seq > welcome.applied_seq:
        raise ProtocolError("a welcome with a durable seq above the applied one")
    return welcome
