"""The contracts of the drivers. Each class docstring states what its implementers owe; each `i2core.testing.check_*`
holds a driver to it.

    capture → (source) → filter → codecs → client transport ⇒ server transport → codecs → sink
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from typing import NamedTuple

import trio

from i2core.api.changes import Change, Lost, Place
from i2core.api.errors import Code
from i2core.api.records import Batch, Buffer, Entry


class Capture(ABC):
    """Tells what changes beneath the rule's roots.

    Owes: after `open` returned, every change beneath a root leads, in the order things happened, to a `Change` that
    names it, or to a `Lost` whose subtree holds it; never to silence. A directory that appears is reported (CREATE,
    or RENAME) only when changes beneath it will be seen, so that a scan made on that report closes the gap.
    A `RENAME` with both names beneath the roots carries both. Names with `RESERVED_PREFIX` and excluded directories
    need not be reported. Nothing outside the roots is reported. It never blocks or slows the application on purpose.
    What no mechanism tells (stores through mmap) is found by the rule's periodic scan.
    """

    @abstractmethod
    def changes(self) -> AsyncIterator[Sequence[Change | Lost]]:
        """Batches of at least one change, as soon as there are any; waits without polling where the system allows.

        Cancellation: no change is lost that was not yet returned, as far as the driver holds it.

        Raises:
            StopRule: the watch broke in a way that only a human can mend.
        """


class Filter(ABC):
    """Decides what a rule protects. Pure: the same question has the same answer for the driver's life."""

    @abstractmethod
    def wants(self, place: Place, is_dir: bool) -> bool:
        """True when the object is protected. A directory that is not wanted is not entered."""


class Codec(ABC):
    """Transforms payloads. `encode` and `decode` are inverse, synchronous, thread-safe and called from worker threads.

    Owes: `decode` of damaged or hostile bytes raises and never yields more than `limit` bytes nor needs much more
    memory than that. An authenticating codec binds `seq` and `header`: decoding with others raises.
    """

    @abstractmethod
    def encode(self, data: Buffer, *, seq: int, header: bytes) -> Buffer:
        """The transformed payload of the frame with this seq and header."""

    @abstractmethod
    def decode(self, data: Buffer, *, seq: int, header: bytes, limit: int) -> Buffer:
        """The payload again.

        Raises:
            ProtocolError: the bytes are not what `encode` gave for this seq and header, or exceed `limit` bytes.
        """


class Channel(enum.Enum):
    """What a connection is for. A rule has one for bulk and one for live data, which never wait for each other in one
    socket buffer; nodes pair and are steered over a third."""

    MIRROR = "mirror"
    REPLICATION = "replication"
    CONTROL = "control"


DATA_CHANNELS = (Channel.MIRROR, Channel.REPLICATION)
"""The channels of a rule."""


class Peer(NamedTuple):
    """Where a backup node listens and who it is."""

    name: str
    host: str
    ports: dict[Channel, int]
    fingerprint: str | None
    """Pinned certificate, ``"sha256:<hex>"``; None only for plaintext on loopback."""


StreamHandler = Callable[[trio.abc.Stream, Channel, str | None], Awaitable[None]]
"""Serves one accepted stream: (stream, channel, name). The name is the peer's by its pinned fingerprint, None in
plaintext, the fingerprint itself for a guest (`TransportContext.guest`). Raising `PeerRefused` turns the peer away:
its connection is closed, and the logbook gets the cause with its address."""


class ClientTransport(ABC):
    """Opens byte streams to a backup node. Owes: the stream is the pinned peer's, or the call raises."""

    @abstractmethod
    async def connect(self, peer: Peer, channel: Channel) -> trio.abc.Stream:
        """An authenticated stream.

        Raises:
            LinkError: no connection; try again later.
            PeerRefused: someone answered who is not the pinned peer, or who does not trust us.
        """


class ServerTransport(ABC):
    """Accepts byte streams. Owes: the handler sees only streams of trusted peers; anyone else gets a closed
    connection and a logged line; no peer can hold up another."""

    @abstractmethod
    async def serve(
        self,
        host: str,
        ports: dict[Channel, int],
        handler: StreamHandler,
        *,
        task_status: trio.TaskStatus[dict[Channel, int]] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Listens until cancelled; reports the bound ports (asked for 0: the system chose). A handler that raises
        ends its stream alone.

        Raises:
            UsageError: a port is in use or may not be bound.
        """


class Failure(NamedTuple):
    """A record that could not be applied; the ones after it were tried all the same."""

    seq: int
    place: Place
    code: Code
    message: str
    """Cause and next step, for a person."""
    repair: bool = False
    """True: the replica is not as the source believes; comparing this place again mends it."""


class Applied(NamedTuple):
    """The outcome of one batch."""

    applied_seq: int
    failures: tuple[Failure, ...] = ()


class Ask(NamedTuple):
    """A question about one directory of the replica: these names, and (`every`) all names that are there."""

    place: Place
    names: Sequence[bytes]
    every: bool = False


class Seen(NamedTuple):
    """The answer. `here` is the directory itself, None when it is missing or is no directory; `entries` has None where
    there is nothing. `names` is empty unless asked for, and only then `leftovers` says that names of the sink's own are
    there, in use or not."""

    here: Entry | None
    entries: Sequence[Entry | None]
    names: Sequence[bytes]
    leftovers: bool = False


class Sink(ABC):
    """Keeps replicas: applies records beneath its roots, and tells what is there.

    Owes: nothing outside the roots is ever written, created or removed, whatever the records or the tree hold
    (symlinks are data; every path is resolved beneath its root without following any). Each record may be applied again
    with the same end, also after a crash in the middle of it; a name that later records moved away from or onto is
    compared instead (docs/design/decisions.md, 5). Whole files and published staging files replace atomically. After
    `flush` returned, all that was applied before survives a power cut, also what a sink on these roots applied in a
    process that was killed. Behind each record, failed or not,
    `SinkContext.applied` is told its seq.
    Names with `RESERVED_PREFIX` are the sink's own: `look` leaves them out.
    Methods are called one at a time; only `flush` may run while another is at work, and then vouches for what was
    applied before it was called.
    """

    owns: bool
    """True when the sink can set owners (root); else owners are not compared."""

    @abstractmethod
    async def apply(self, batch: Batch) -> Applied:
        """Applies the records in order.

        Cancellation: the batch may be applied in part.

        Raises:
            StopRule: disk full, read-only, input/output error: nothing more can be applied until someone acts.
        """

    @abstractmethod
    async def flush(self) -> None:
        """Makes all that was applied durable.

        Raises:
            StopRule: the data may be lost (a failed sync is never retried as if nothing had happened).
        """

    @abstractmethod
    async def look(self, asks: Sequence[Ask]) -> list[Seen]:
        """What the replica has at these directories; one answer per question, in order."""

    async def tidy(self, place: Place, staged: Collection[bytes]) -> bool:
        """Removes from one directory what interrupted work left there, but for the staging files of the names in
        `staged`; True when something went, and the directory's times with it."""
        await trio.lowlevel.checkpoint()
        return False

    @abstractmethod
    async def hashes(self, place: Place, first: int, count: int, *, staged: bool = False) -> bytes:
        """xxh3-128 digests (16 bytes each, big-endian as `xxh3_128_digest` gives them) of up to `count` blocks of
        `BLOCK_BYTES` from block `first` on; shorter at the file's end, empty when there is no such file. Of the file
        at `place`, or with `staged` of its staging file."""

    @abstractmethod
    async def hashes_of(self, places: Sequence[Place], most: int) -> list[bytes]:
        """Like `hashes` from block 0 on, for many small files at once: up to `most` digests of each."""

    @abstractmethod
    async def count(self, place: Place, limit: int) -> int:
        """How many non-directories are at or beneath `place`; stops counting at `limit`."""

    @abstractmethod
    async def set_aside(self, place: Place, destination: bytes) -> None:
        """Moves the object at `place` to `destination` (an absolute directory beneath an allowed directory), keeping
        its path beneath the root there; an older one of that name gets a numbered sibling. Missing: no complaint."""
