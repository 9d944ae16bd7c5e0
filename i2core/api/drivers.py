"""The contracts of the drivers. Each class docstring states what an implementation must do ("Owes"); the functions
`i2core.testing.check_*` check a driver against it.

    capture → (source) → filter → codecs → client transport ⇒ server transport → codecs → sink
"""

from __future__ import annotations

import enum
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

import trio

from i2core.api.blockmap import BlockMap
from i2core.api.changes import Change, Lost, Place
from i2core.api.errors import Code
from i2core.api.inode_flags import EVERY_FLAG
from i2core.api.names import NamePages, paged
from i2core.api.present import Identity
from i2core.api.records import Batch, Buffer, Entry


class Capture(ABC):
    """Reports what changes beneath the rule's roots.

    Owes: after `open` has returned, every change beneath a root is reported in the order in which it happened, by a
    `Change` that names it or by a `Lost` whose subtree contains it. A new directory is reported (CREATE or RENAME) only
    when changes beneath it will be seen: whoever scans it after this report misses nothing.
    A `RENAME` with both names beneath the roots carries both. Excluded directories need not be reported.
    Nothing outside the roots is reported. A capture never blocks or slows an application on purpose.
    A file may change under a name that is gone, or that belongs to another file by now. It is reported under that name,
    with its inode number where the driver knows it. Changes that no mechanism reports (stores through mmap) are found
    by the rule's periodic scan.
    """

    @abstractmethod
    def changes(self) -> AsyncIterator[Sequence[Change | Lost]]:
        """Batches of at least one change, as soon as there are any; waits without polling where the system allows.

        Cancellation: changes that the driver holds and has not returned yet are not lost.

        Raises:
            StopRule: the watch broke in a way that only a human can repair.
        """

    def unread(self) -> bool:
        """True while there are changes that `changes` has not returned yet, as far as the driver knows: the replica is
        not up to date then. A driver that cannot find out cheaply need not implement it."""
        return False


class Filter(ABC):
    """Decides what a rule protects. Pure: the same question has the same answer for the driver's life."""

    @abstractmethod
    def wants(self, place: Place, is_dir: bool) -> bool:
        """True when the object is protected. A directory that is not wanted is not entered."""


class Codec(ABC):
    """Transforms payloads. `encode` and `decode` are inverse, synchronous, thread-safe and called from worker threads.

    Owes: `decode` of damaged or hostile bytes raises; it never returns more than `limit` bytes and never needs much
    more memory than that. An authenticating codec binds `seq` and `header`: decoding with other ones raises."""

    @abstractmethod
    def encode(self, data: Buffer, *, seq: int, header: bytes) -> Buffer:
        """The transformed payload of the frame with this seq and header: at most 4 KiB longer than `data`."""

    @abstractmethod
    def decode(self, data: Buffer, *, seq: int, header: bytes, limit: int) -> Buffer:
        """The payload again.

        Raises:
            ProtocolError: the bytes are not what `encode` gave for this seq and header, or exceed `limit` bytes.
        """


class Channel(enum.Enum):
    """What a connection is for. A rule has one for bulk data and one for live changes, so that neither waits for the
    other in a socket buffer. Pairing and control use a third, recoveries a fourth."""

    MIRROR = "mirror"
    REPLICATION = "replication"
    CONTROL = "control"
    COMPARE = "compare"
    """A session that asks and changes nothing, beside the others of the rule; it uses the port of the mirror."""
    RECOVERY = "recovery"
    """The work node connects, and the backup node sends."""


DATA_CHANNELS = (Channel.MIRROR, Channel.REPLICATION)
"""The channels of a rule that have a port of their own."""
SESSION_CHANNELS = (*DATA_CHANNELS, Channel.COMPARE)
"""The channels on which a rule has sessions."""


class Peer(NamedTuple):
    """Where a backup node listens and who it is."""

    name: str
    host: str
    ports: dict[Channel, int]
    fingerprint: str | None
    """Pinned certificate, ``"sha256:<hex>"``; None only for plaintext on loopback."""


StreamHandler = Callable[[trio.abc.Stream, Channel, str | None], Awaitable[None]]
"""Serves one accepted stream: (stream, channel, name). The name is that of the peer whose fingerprint is pinned; None
in plaintext; the fingerprint itself for a guest (`TransportContext.guest`). The stream of a guest has the numeric
address of its other end as `peer_address`. A handler that raises `PeerRefused` refuses the peer: the connection is
closed, and cause and address are logged."""


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
    """Accepts byte streams. Owes: the handler sees streams of trusted peers only. The connection of anyone else is
    closed and logged. No peer can delay another."""

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
    """A record that could not be applied; the ones after it were tried all the same, except with `Batch.keeps`."""

    seq: int
    place: Place
    code: Code
    message: str
    """Cause and next step, for a person."""
    repair: bool = False
    """True: the replica is not as the source believes; comparing this place again repairs it."""


class Applied(NamedTuple):
    """The outcome of one batch."""

    applied_seq: int
    failures: tuple[Failure, ...] = ()
    blocked: bool = False
    """The record after `applied_seq` would replace a directory that is not empty, which `SinkContext.spares` forbids:
    neither it nor a later one was applied."""
    made: Mapping[int, Identity] = MappingProxyType({})
    """With `Batch.keeps`: which object each record has made, or given its name to (CREATE, MKDIR, SYMLINK, MKNOD,
    PUBLISH), by its seq. A MKDIR that found a directory has made none."""


class Ask(NamedTuple):
    """A question about one directory of the replica: these names, and (`every`) all names that are there. `whole`: it
    is being compared with all beneath it, so it may be taken as the right one (`Sink`, *The right directory*)."""

    place: Place
    names: Sequence[bytes]
    every: bool = False
    whole: bool = False


class Times(NamedTuple):
    """Which modification times a file system can hold, in nanoseconds since the epoch. A time outside of the range
    becomes the nearest one within it, and every time is rounded down to the grain. Of the first and of the last second
    only the beginning can be held: Linux drops the fraction there (`timestamp_truncate`)."""

    earliest_ns: int
    latest_ns: int
    grain_ns: int = 1

    def kept(self, time_ns: int) -> int:
        """The time as this file system stores it."""
        nearest = min(max(time_ns, self.earliest_ns), self.latest_ns)
        if nearest < self.second_ns:
            return self.earliest_ns
        return nearest // self.grain_ns * self.grain_ns

    @property
    def second_ns(self) -> int:
        """The earliest time after the first second: before it, only `earliest_ns` can be held."""
        return self.earliest_ns + 10**9


EVERY_TIME = Times(-(10**9) << 63, 10**9 << 63)
"""All that the kernel knows: its seconds have 64 bits."""


class Seen(NamedTuple):
    """The answer. `here` is the directory itself, None when it is missing or is no directory; `entries` has None where
    there is nothing. `names` is empty unless asked for, and None when an answer cannot hold them all: `Sink.names`
    gives them then. `leftovers` is set only together with `names`: there are staging files of the sink, in use or not.
    `times`: what the directory's file system can hold; a time that it cannot hold counts as equal to the nearest one
    that it can, so that it is not sent again and again. `flags`: which inode flags it can hold, as a mask; the others
    are not compared, for the same reason. `own`: the owner of each file that the sink makes there, where it can set
    none; a file of another one in a directory of users may be theirs. `sheltered`: no user can have put the directory,
    one above it or a name in it in the place of the right one."""

    here: Entry | None
    entries: Sequence[Entry | None]
    names: Sequence[bytes] | None
    leftovers: bool = False
    times: Times = EVERY_TIME
    flags: int = EVERY_FLAG
    own: int | None = None
    sheltered: bool = True


class Sink(ABC):
    """Keeps replicas: applies records beneath its roots, and answers what is there.

    Owes, in the order of importance:

    - *Nothing outside.* Nothing outside the roots is ever written, created or removed, whatever the records or the tree
      contain. Symlinks are data; every path is resolved beneath its root without following any.
    - *Repeatable.* Each record may be applied again, also after a crash in the middle of it: with the same result, or
      with a failure that has `repair` and leaves the tree as it is. A name that later records moved away from or onto
      is compared anyway (docs/design/decisions.md, 5).
    - *No guess.* A record about an object that is missing fails with `repair`: a RENAME or a LINK without its first
      name (the place to compare is the second one), a staged record without its staging file. Whatever has the name
      instead is never taken for the result of an earlier application. Only a REMOVE has nothing left to do.
    - *Atomic.* Whole files and published staging files replace what was there in one step.
    - *Known to be wrong.* After a record that changes a file's content (WRITE, PUNCH, TRUNCATE) has failed, the file is
      not published and gets no attributes: those records fail as well, until the file is made anew or its content is
      asked for from its first block on (`hashes`). Otherwise it would look equal by size and time, and if nobody hears
      of the failure, no compare finds it.
    - *Durable.* After `flush` has returned, everything applied before survives a power cut, including what a sink on
      these roots applied in a process that was killed. After each record, failed or not, `SinkContext.applied` gets its
      seq.
    - *Private.* A staged object lies where only this process's user can enter, under one name for each root that nobody
      can guess. No record may use that name, `look` leaves it out, and it exists only while it is needed. Every other
      name can be replicated. At no moment can anyone open an object who could not open it with its final owner and
      mode.
    - *The right directory.* Roots have an identity. Opening fails where a root is not the one of `SinkContext.known`,
      for example because its disk is not mounted. A root is created, or filled again (`exchanged`), only where no disk
      can be missing. When a root is exchanged while the sink is open, nothing is written into the other directory, and
      `flush` raises. Where others can write in a replica, also a directory beneath a root has an identity. In the place
      of one that the sink has left there, another one counts as missing: records beneath it fail with `repair`, `look`
      reports nothing there, and a MKDIR makes a new one. If only an administrator can have put it there, MKDIR keeps
      it, and an `Ask` that compares all beneath it accepts it.
    - *One writer.* Two processes never have the same root open, nor one that lies in the other's (3572).
    - *Flags.* With `SinkContext.flags` objects also get their inode flags and project ids, as far as the file system
      and the rights of this process allow, and `look` reports them. Records can still change objects and directories
      that are immutable or append-only. Without it, flags are neither set nor reported, and the kernel enforces them.

    - *Keeps.* With `Batch.keeps` nothing is destroyed that a history needs: what a record would remove or replace at
      one of these paths is moved into the store (`present.STORE`), under its number and with all beneath it. An object
      at any other path has more names, and only loses this one. Where a file replaces a file, a reader of the replica
      sees the one or the other; where a directory comes or goes, perhaps nothing for a moment. At every moment an
      object that is to be kept has its name or its number. A record that is applied again leaves what the store has.
      The batch ends after the first record that fails: this one is `applied_seq`, and its failure the only one. `look`,
      `names`, `count` and `losses` leave the store out, with or without `keeps`, and no record may use its name. A sink
      that cannot keep has no `DriverSpec.replica`, and never gets `keeps`.
    - *Fair.* Work that waits for a disk is done by `in_thread`. Questions about many directories or blocks call
      `check_cancelled` in between, so that they end soon when their session does.

    Methods are called one at a time. Only `flush` may run beside another one; it then covers what was applied before it
    was called.
    """

    owns: bool
    """True when the sink can set owners (root); else owners are not compared."""
    identities: Sequence[str] = ()
    """For each root a text that no other directory has, also after a reboot; empty: the sink cannot find out."""
    exchanged: bool = False
    """True: a root is another directory than the known one, or was made again. What was durable there is not."""

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
        """What the replica has at these directories; one answer per question, in order. The `names` of all answers
        together take at most `NAMES_BYTES`, however large the directories are."""

    async def names(self, place: Place) -> NamePages:
        """All names in the directory at `place`, as `look` gives them for smaller ones; none where there is no
        directory. Names that are created or removed meanwhile may be among them or not."""
        (seen,) = await self.look([Ask(place, (), every=True)])
        return NamePages(paged(seen.names or ()))

    async def tidy(self, place: Place, staged: Collection[bytes]) -> bool:
        """Removes what interrupted work left in one directory, except the staging files of the names in `staged`.

        Returns: True when something was removed; the directory's times may have changed.
        """
        await trio.lowlevel.checkpoint()
        return False

    async def unstage(self, places: Sequence[Place]) -> None:
        """Removes the staging files of these places and of everything beneath them, whatever the replica has there:
        nobody resumes them. For the root itself: all of that root, as far as the sink knows of them; `tidy` finds the
        rest."""
        await trio.lowlevel.checkpoint()

    @abstractmethod
    async def hashes(self, place: Place, first: int, count: int, *, staged: bool = False) -> bytes:
        """xxh3-128 digests (16 bytes each, big-endian as `xxh3_128_digest` gives them) of up to `count` blocks of
        `BLOCK_BYTES` from block `first` on; shorter at the file's end, empty when there is no such file. Of the file
        at `place`, or with `staged` of its staging file."""

    async def block_map(self, place: Place, first: int, count: int, *, staged: bool = False) -> BlockMap:
        """Like `hashes`, with holes given by their length: until `count` blocks have a digest of their own, or to the
        file's end. A sink that cannot find holes need not implement it."""
        return BlockMap(await self.hashes(place, first, count, staged=staged))

    @abstractmethod
    async def hashes_of(self, places: Sequence[Place], most: int) -> list[bytes]:
        """Like `hashes` from block 0 on, for many small files at once: up to `most` digests of each."""

    async def born(self, place: Place, names: Sequence[bytes]) -> list[int]:
        """When the object under each of these names of a directory was made there, in ns since 1970; 0: there is none,
        or it is not known. A sink that cannot find out need not implement it."""
        await trio.lowlevel.checkpoint()
        return [0] * len(names)

    @abstractmethod
    async def count(self, place: Place, limit: int) -> int:
        """How many objects other than directories are at or beneath `place`, each once whatever its names; stops
        counting at `limit`."""

    async def losses(self, places: Sequence[Place], limit: int) -> list[int]:
        """For each place how many objects, up to `limit`, would be lost with it if all places went: an object that has
        a name elsewhere is not. A sink without hard links need not implement it."""
        return [await self.count(place, limit) for place in places]

    @abstractmethod
    async def set_aside(self, place: Place, destination: bytes) -> None:
        """Moves the object at `place` to `destination` (an absolute directory beneath an allowed directory), keeping
        its path beneath the root there; if the name is taken there, it gets a numbered one. A missing object is no
        error."""

    async def copy_aside(self, place: Place, destination: bytes) -> None:
        """As `set_aside`, but the object stays where it is, and a copy of it is moved: for a replica with a history. A
        sink that cannot keep one (*Keeps*) need not implement it."""
        raise NotImplementedError
