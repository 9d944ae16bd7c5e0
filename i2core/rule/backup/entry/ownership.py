"""Gives a session its targets: takes them from the previous owner, with everything that belongs to them."""

from __future__ import annotations

import os

import attrs
import trio

from i2core.api import SESSION_CHANNELS, Code, Sink, in_thread
from i2core.posix.path_text import as_text
from i2core.rule.backup.entry.owners import Claim, displaced
from i2core.rule.backup.entry.replicas import Replicas
from i2core.rule.backup.replica.position import Position
from i2core.rule.backup.replica.replica import Replica
from i2core.rule.backup.session.writer import ReplicaWriter
from i2core.rule.life.report import Say, of_peer


class Ownership:
    """Changes of owner, one at a time."""

    def __init__(self, replicas: Replicas, node: str, say: Say) -> None:
        self._replicas = replicas
        self._node = node
        self._say = say
        self._lock = trio.Lock()

    async def identities(self, claim: Claim, replica: Replica) -> dict[bytes, str]:
        """The known identities of the targets before they are opened, by path: those of this rule, and those of the
        owners whose targets it takes. Without the latter, if a disk is not mounted while a target changes its owner, a
        new directory would be created in the empty mount point.

        Raises:
            StopRule, UsageError: as `Replica.check` and `owners.displaced`: the targets belong to another rule, or to a
            later epoch of this rule.
        """
        replica.check(claim.epoch)
        owners = await self._displaced(claim)
        known: dict[bytes, str] = {}
        for position in (*owners, replica.position):
            known |= position.identities()
        return known

    async def take(self, claim: Claim, replica: Replica, sink: Sink, writer: ReplicaWriter) -> None:
        """Makes this rule the owner of the open targets.

        Raises:
            StopRule, UsageError: while this session waited, another one became the owner.
        """
        async with self._lock:
            replica.check(claim.epoch)
            owners = await self._displaced(attrs.evolve(claim, roots=tuple(sink.identities)))
            for owner in owners:
                await self._end_sessions(owner)
            if owners or sink.exchanged or claim.epoch > replica.position.epoch:
                # Nobody resumes the staging files of the previous owner, so they are removed. This is done before the
                # new owner is saved: after a crash in between, the next session does it again.
                async with replica.apply_lock:  # an ended session may still be applying records
                    await writer.drop_staged(len(claim.targets))
            if sink.exchanged:
                self._report_exchange(claim)
            aside = as_text(claim.aside)
            # The new owner is saved before the old one is removed. A crash in between leaves two owners, and the old
            # one is refused. In the other order a crash would leave no owner, and the identities of the directories
            # would be lost.
            await replica.begin(
                claim.epoch,
                claim.targets,
                sink.identities,
                aside=aside,
                exchanged=sink.exchanged,
                flags=claim.flags,
                cdp=claim.cdp,
                snapshot=claim.snapshot,
                zone=claim.zone,
                sources=claim.sources,
            )
            for owner in owners:
                await self._disown(owner)

    def _report_exchange(self, claim: Claim) -> None:
        for place in claim.targets:
            shown = os.fsdecode(place)
            line = f"{shown}: not the directory that was written before; the rule is mirrored again"
            of_peer(self._say, claim.peer)(claim.rule, Code.REPLICA_EXCHANGED, line)

    async def _displaced(self, claim: Claim) -> list[Position]:
        """As `owners.displaced`, for the positions on disk."""
        known = await in_thread(self._replicas.known)
        return displaced(claim, known, self._replicas.busy(), self._node)

    async def _end_sessions(self, owner: Position) -> None:
        """Ends the sessions of the previous owner and waits until it has finished applying."""
        key = (owner.peer, owner.rule)
        self._replicas.end_sessions(key, SESSION_CHANNELS)
        async with self._replicas.of(key).apply_lock:
            pass

    async def _disown(self, owner: Position) -> None:
        """Durably notes that this rule owns nothing any more."""
        replica = self._replicas.of((owner.peer, owner.rule))
        async with replica.apply_lock:
            await replica.begin(owner.epoch, [])
        self._replicas.rest(replica)
