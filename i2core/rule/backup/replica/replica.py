"""The state of one rule's replica while the backup node runs, shared by the rule's sessions.

Two files survive a restart: the position (`position`) and the progress (`progress`). The position is valid only for the
directories that were written. If others have replaced them, everything is compared.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from itertools import zip_longest
from pathlib import Path
from typing import Any

import attrs
import trio

from i2core.api import Code, I2Error, Record, Sink, StopRule, in_thread
from i2core.history.record.durable import Durable
from i2core.posix.path_text import as_text
from i2core.rule.backup.replica.hold import MassDeleteHold
from i2core.rule.backup.replica.position import Position, PositionFile
from i2core.rule.backup.replica.progress import Progress, ProgressFile
from i2core.rule.backup.replica.recording import Recording
from i2core.rule.backup.replica.rewound import Rewound
from i2core.rule.backup.replica.saved_position import SavedPosition


@attrs.define
class Counters:
    """Counters of received data since the start of the node."""

    records: int = 0
    bytes: int = 0
    orphans: int = 0


class Replica:
    """One rule's replica on this node. `apply_lock` and `flush_lock` keep its sessions apart. It has an attribute
    for each thing that they share."""

    def __init__(self, rule: str, peer: str, directory: Path, say: Callable[[Code | None, str], None]) -> None:
        self.rule = rule
        self.peer = peer
        self.say = say
        self._saved = SavedPosition(PositionFile(directory, peer, rule), say)
        self.progress = Progress(
            ProgressFile(directory, peer, rule),
            durable_seq=self.position.durable_seq,
            received=bool(self.position.epoch or self.position.durable_seq),
            damaged=self._saved.was_damaged,
        )
        self.exchanges = 0
        """How often other directories have replaced those that were written."""
        self.begun = self.position != self._saved.file.empty()
        """The rule was received before, or is now: it has a position."""
        self.unsynced = True
        """Records applied by a previous process may not be on disk, since it may have been killed. A mirror that finds
        these files equal sends nothing for them, yet counts them as replicated: so a flush is needed."""
        self.counters = Counters()
        self.deletes = MassDeleteHold(peer, say)
        self.fault: I2Error | None = None
        """Why the last session was refused or ended; None: a session was accepted since, or it ended normally."""
        self.is_received = False
        """A session was opened since the start, or was refused: the rule is in use."""
        self.apply_lock = trio.Lock()
        """Held while a frame is handled: only one of a rule's sessions changes the replica at a time."""
        self.flush_lock = trio.Lock()
        self.sinks: list[Sink] = []
        """Of all sessions that are open."""
        self.recording = Recording(self)

    @property
    def position(self) -> Position:
        """What is on disk."""
        return self._saved.position

    def sink_memory(self, targets: Sequence[bytes]) -> Path:
        """The file in which a sink on these targets may keep what it knows. What an earlier one has kept is removed if
        somebody else may have written there since.

        Raises:
            StopRule: it cannot be removed.
            LinkError: it cannot be removed now.
        """
        if self.position.targets != [as_text(each) for each in targets]:
            self._saved.file.forget_memory()
        return self._saved.file.room_for_memory()

    @property
    def durable_seq(self) -> int:
        """The last seq that survives a power cut."""
        return self.position.durable_seq

    def check(self, epoch: int) -> None:
        """Refuses anyone but the owner.

        Raises:
            StopRule: the epoch is older than the replica's owner (3588).
        """
        if epoch < self.position.epoch:
            raise StopRule(
                f"epoch {epoch} is older than {self.position.epoch}: another node owns the replica",
                code=Code.LOCKED,
                obj=self.rule,
            )

    async def begin(
        self,
        epoch: int,
        targets: Sequence[bytes],
        roots: Sequence[str] = (),
        *,
        aside: str = "",
        exchanged: bool = False,
        flags: bool = False,
        cdp: Sequence[int] = (),
        snapshot: Mapping[str, Any] | None = None,
        zone: str = "",
        sources: Sequence[str] = (),
    ) -> None:
        """A session begins. When this returns, owner and directories of the replica are on disk, so a crash does not
        readmit an older owner. `exchanged`: the directories were replaced by others, so the old position is void, and
        the history of the replica has ended. It ends as well with other targets: it knows them by their number. `cdp`,
        `snapshot`: what the rule wants; `zone`, `sources`: how people name what is in it (see `Position`).

        Raises:
            StopRule: the position cannot be saved.
        """
        async with self._saved.turn:
            known = self.position
            position = attrs.evolve(
                known,
                epoch=epoch,
                targets=[as_text(each) for each in targets],
                roots=list(roots),
                aside=aside,
                heir=[],
                flags=flags,
                snapshot=dict(snapshot or {}),
                zone=zone,
                sources=list(sources),
                cdp=[max(pair) for pair in zip_longest(cdp, known.cdp, fillvalue=0)],
            )
            if position.targets != known.targets:
                position = position.without_history()
            if exchanged or not self.begun:
                position = position.unknown()
            if exchanged:
                self.progress.forget()
            if position != known:
                await self._saved.change(position)
            if exchanged:
                self.progress.applied_seq = 0
                self.exchanges += 1
            self.begun = True
        self.progress.keep()

    @property
    def is_exact(self) -> bool:
        """What was applied is known, and nothing was changed since."""
        return self.progress.known and not self.position.rewind

    async def rewind(self, rewound: Rewound | None) -> None:
        """Notes durably that the replica is turned back; None: it is not. The work node has to compare it with all
        contents, and what sinks know of its directories is forgotten.

        Raises:
            StopRule: this cannot be saved.
        """
        async with self._saved.turn:
            await in_thread(self._saved.file.forget_memory)
            kept = [] if rewound is None else list(map(int, rewound))
            await self._saved.change(attrs.evolve(self.position, rewind=kept, anew=self.position.anew or bool(kept)))

    async def hand_over(self, heir: tuple[str, str]) -> None:
        """Notes durably that an administrator permits another rule to take the targets.

        Raises:
            StopRule: this cannot be saved.
        """
        async with self._saved.turn:
            await self._saved.change(attrs.evolve(self.position, heir=list(heir)))

    @asynccontextmanager
    async def flushed_with(self, sink: Sink) -> AsyncIterator[None]:
        """Within the block, what makes the replica durable as a whole flushes this sink as well."""
        self.sinks.append(sink)
        try:
            yield
        finally:
            with trio.CancelScope(shield=True):
                async with self.flush_lock:
                    self.sinks.remove(sink)

    @asynccontextmanager
    async def at_rest(self) -> AsyncIterator[None]:
        """Within the block no record is applied, and what the sessions have applied is durable: between two batches.

        Raises:
            StopRule: it cannot be made durable.
        """
        async with self.apply_lock, self.flush_lock:
            if self.recording.current is not None:
                await self.recording.make_durable()
            else:
                await self.recording.flush_sinks()
            yield

    def close_files(self) -> None:
        """No session is left: closes the files."""
        self.progress.close()

    async def mark_compared(self) -> None:
        """The work node has compared everything, or is about to: the content of the replica counts as known.

        Raises:
            StopRule: this cannot be saved.
        """
        if self.position.anew:
            async with self._saved.turn:
                await self._saved.change(attrs.evolve(self.position, anew=False, rewind=[]))

    def applied(self, first_seq: int, records: Sequence[Record], size: int) -> None:
        """Notes an applied batch.

        Raises:
            StopRule: it cannot be saved.
        """
        self.progress.mark(first_seq + len(records) - 1)
        self.counters.records += len(records)
        self.counters.bytes += size

    async def mark_durable(
        self, seq: int, exchanges: int | None = None, durable: Durable | None = None, journal: str | None = None
    ) -> None:
        """Everything up to `seq` is durable now; the other session of the rule may have flushed more already.
        `exchanges`: the count when the flush began. The last flush of a session may end after the next session has
        found other directories; then it is ignored, since it did not flush those. `durable`: the same position in the
        history of the replica, if it has one; `journal`: whose history begins with it.

        Raises:
            StopRule: the position cannot be saved.
        """
        # Saved first, reported afterwards: an ack must not be ahead of the position that a restart would find.
        async with self._saved.turn:
            if exchanges not in (None, self.exchanges):
                return
            position = attrs.evolve(self.position, durable_seq=max(seq, self.position.durable_seq))
            if durable is not None:
                position.history = durable.encode()
            if journal is not None:
                position.journal = journal
            await self._saved.change(position)
        self.unsynced = False

    async def end_history(self) -> None:
        """The history cannot go on, and nobody knows what the replica holds: it is mirrored again.

        Raises:
            StopRule: this cannot be saved.
        """
        async with self._saved.turn:
            self.progress.forget()
            await self._saved.change(self.position.unknown())
            self.progress.applied_seq = 0
