"""The contract of a journal: what a driver owes, and what it is opened with."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager

import attrs

from i2core.api.codes import Code
from i2core.api.errors import StopRule
from i2core.api.journal.faults import Inspection
from i2core.api.journal.frames import Draft, Frame, Placed, Position, Tip
from i2core.api.journal.segments import Mark, Piece, Segment, Space


@attrs.frozen(kw_only=True)
class JournalContext:
    """For journals: where the history of one replica is kept, and what this node knows of it."""

    directory: bytes
    """Absolute, of this journal alone; the directory above it must exist."""
    known: str = ""
    """Its `Journal.identity` when it was last open; empty for a new one."""
    kept: Tip | None = None
    """A tip that was durable for certain. Where the journal ends before it, or has another frame there, opening raises
    (3535) and changes nothing."""
    segment_bytes: int = 64 * 1024 * 1024
    """A segment that has reached this size is followed by a new one."""
    reserve_bytes: int = 64 * 1024 * 1024
    """Room to keep back for merging on a full disk; 0 for none."""
    say: Callable[[str], None] = lambda line: None


class JournalFull(StopRule):
    """There is no room for more. The journal is as it was before the call: free room (merge, drop) and call again, or
    stop the rule."""

    code = Code.CDP_DATA_WRITE


class Merge(ABC):
    """A merged segment that is being written. Leaving its context without `commit` leaves no trace of it."""

    @abstractmethod
    async def write(self, group: Sequence[Draft]) -> list[Placed]:
        """Adds frames. Not durable before `commit`. Uses the reserve when there is no other room.

        Raises:
            JournalFull: no room, not even with the reserve.
        """

    @abstractmethod
    async def commit(self, note: bytes | None = None) -> Segment:
        """Puts the segment in the place of its run, durably, and the caller's note with it in the same step; None
        leaves the note. Frees the room of the run, except for what is leased. The reserve is filled up again.

        Raises:
            SegmentGone: a part of the run was dropped or cut off meanwhile.
            StopRule: it could not be made durable. The journal must be opened again, and shows which it is.
        """


class Journal(ABC):
    """Keeps the frames of one replica's history.

    Owes, in the order of importance:

    - *Durable.* What `append`, `cut`, `commit`, `drop`, `mark` and `annotate` have done survives a kill and a power cut
      once they have returned; cut off at any point before that, they have happened or not. Of a group that was being
      appended some frames may be there, in order and whole.
    - *Torn is not damaged.* Opening drops what a crash tore: frames that no `append` had returned for. Bytes that were
      durable and differ are never taken for a torn end: opening raises, and leaves all as it is.
    - *Proved.* `read` gives only frames whose hash is right. `inspect` finds every flipped, missing, exchanged or cut
      frame, as `i2core.api.journal.faults.find_faults` tells from it.
    - *Private.* Only this process's user can enter the journal's directory; a symlink is never followed.
    - *The right directory.* Opening raises where the directory is not the one of `JournalContext.known`; nothing is
      written once another one has its place.
    - *One writer.* Two processes never have the same journal open (3572).
    - *Passing lack is passing.* Short of descriptors or memory, a call waits and goes on.

    Methods may be called beside each other; those that change the journal wait for each other inside. So the next group
    is appended while the caller applies the last one. Cancelled before its turn, a call has changed nothing; after
    that it is carried out. When a sync failed nothing is appended any more: the journal must be opened again.
    """

    identity: str
    """Of its directory, for `JournalContext.known`; empty: the driver cannot find out."""

    @property
    @abstractmethod
    def tip(self) -> Tip:
        """The last durable frame."""

    @property
    @abstractmethod
    def end(self) -> Position:
        """Where the next frame would begin, in the last segment."""

    @property
    @abstractmethod
    def segments(self) -> Sequence[Segment]:
        """All segments, oldest first. Frames are appended to the last one."""

    @property
    @abstractmethod
    def marks(self) -> Sequence[Mark]:
        """By moment."""

    @property
    @abstractmethod
    def note(self) -> bytes:
        """The caller's note, for what must change together with the segments (which index belongs to them)."""

    @abstractmethod
    async def append(self, group: Sequence[Draft]) -> list[Placed]:
        """Writes a group of frames behind the last one and makes it durable, by one sync. All lie in one segment.

        Raises:
            JournalFull: no room.
            StopRule: the disk fails; or another directory has the place of this one.
            ValueError: seqs or times of the headers go back.
        """

    @abstractmethod
    async def roll(self) -> None:
        """Begins a new segment, unless the last one is empty: what was written so far can be merged or dropped."""

    @abstractmethod
    async def read(self, at: Position, most_bytes: int) -> list[Frame]:
        """The caller's frames of one segment from the one at `at` on (offset 0: from its beginning): one at least, and
        as many as fit into `most_bytes`; empty after the last one. To go on, read from ``frames[-1].placed.end``.

        Raises:
            SegmentGone: there is no such segment.
            StopRule: a frame is damaged (3535), or the disk fails (3536).
        """

    @abstractmethod
    async def pieces(self, pieces: Sequence[Piece]) -> list[bytes]:
        """Bytes of payloads, without proof by a hash: the caller checks what it reads.

        Raises:
            SegmentGone: there is no such segment.
            StopRule: there are no such bytes (3535), or the disk fails (3536).
        """

    @abstractmethod
    def read_pieces(self, pieces: Sequence[Piece]) -> list[bytes]:
        """As `pieces`, for who works in a thread and may hold a lock there: it blocks, and needs neither the event loop
        nor another thread. May be called from any thread.

        Raises:
            OSError: descriptors or memory are short; it passes.
            SegmentGone, StopRule: as `pieces`.
        """

    @abstractmethod
    async def cut(self, at: Position, instead: Sequence[Draft] = ()) -> list[Placed]:
        """Cuts off the frame that begins at `at`, and all after it, and writes others in their place, in one step:
        start-up undoes what they speak of, and keeps the part of a frame that was carried out. A new segment begins. No
        merged segment may lie behind `at`.

        Raises:
            JournalFull, StopRule, ValueError: as `append`; ValueError also where no frame begins at `at`.
        """

    @abstractmethod
    def merge(self, run: Sequence[int]) -> AbstractAsyncContextManager[Merge]:
        """Replaces neighbouring segments (their numbers, oldest first, not the last segment) by a merged one. Frames
        are appended meanwhile; one merge at a time.

        Raises:
            SegmentGone: one is not there.
            ValueError: these are no neighbours, or the last one is among them.
            JournalFull, StopRule: as `append`.
        """

    @abstractmethod
    async def drop(self, run: Sequence[int], note: bytes | None = None) -> None:
        """Gives up the oldest segments (numbers as for `merge`), and frees their room at once, except for what is
        leased.

        Raises:
            SegmentGone: one is not there.
            StopRule: as `Merge.commit`.
            ValueError: these are not the oldest ones, or the last one is among them.
        """

    @abstractmethod
    def lease(self, segments: Sequence[int]) -> AbstractAsyncContextManager[None]:
        """These segments stay readable until the context ends, also when they are replaced or dropped meanwhile. A
        lease ends with the process.

        Raises:
            SegmentGone: one is gone already.
        """

    @abstractmethod
    async def mark(self, add: Sequence[Mark] = (), remove: Sequence[Mark] = ()) -> None:
        """Adds and removes marks, in one step. One that is there is not added again; one that is not is no error.

        Raises:
            JournalFull, StopRule: as `append`.
        """

    @abstractmethod
    async def annotate(self, note: bytes) -> None:
        """Replaces the caller's note (at most 1 MiB).

        Raises:
            JournalFull, StopRule: as `append`.
        """

    @abstractmethod
    async def inspect(self, segment: int, numbers: Sequence[int] = ()) -> Inspection:
        """Reads a whole segment, and tells what is wrong with it; `numbers`: of which frames the hash is wanted.

        Raises:
            SegmentGone: there is no such segment.
            StopRule: the disk fails (3536).
        """

    @abstractmethod
    async def space(self) -> Space:
        """Room on the disk."""

    @abstractmethod
    async def use_reserve(self) -> None:
        """Gives the reserve's room to whoever needs it now for getting a full disk empty (the caller's index). `merge`
        does it by itself. The next `commit`, `drop` or `restore_reserve` fills it up again."""

    @abstractmethod
    async def restore_reserve(self) -> bool:
        """Fills the reserve up again; False while there is no room for all of it."""


async def all_frames(journal: Journal, most_bytes: int = 8 * 1024 * 1024) -> AsyncIterator[list[Frame]]:
    """All frames of the caller, oldest first, page by page. Segments are leased meanwhile; what is appended after the
    call is left out.

    Raises:
        StopRule: as `Journal.read`.
    """
    numbers = [segment.number for segment in journal.segments]
    async with journal.lease(numbers):
        for number in numbers:
            at = Position(number, 0)
            while page := await journal.read(at, most_bytes):
                yield page
                at = page[-1].placed.end
