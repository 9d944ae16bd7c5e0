"""Holds records that would remove too many files until somebody releases them (`brake` decides how many that is)."""

from __future__ import annotations

from collections.abc import Sequence

import trio

from i2core.api import Ask, Kind, Place, Record, Sink
from i2core.api.records import MAKING
from i2core.rule.backup.replica.brake import Loss, RootBrake, loss_of
from i2core.rule.backup.replica.replica import Replica
from i2core.rule.backup.session.session_roots import SessionRoots
from i2core.wire.frame import FrameStream, FrameType
from i2core.wire.messages import ROOT_GONE, Hold, dump

MOST_COUNTED = 1 << 40
_MAKING = MAKING | {Kind.PUBLISH}


class MassDeleteGate:
    """All removals of one session pass this gate before they are applied."""

    def __init__(self, frames: FrameStream, sink: Sink, replica: Replica, roots: SessionRoots) -> None:
        self._frames = frames
        self._sink = sink
        self._replica = replica
        self._roots = roots

    async def let_through(self, records: Sequence[Record]) -> None:
        """Returns when the records may be applied: at once, or after a release when they would remove too much.

        Raises:
            LinkError: the link broke, so the hold cannot be reported to the work node.
        """
        loss = loss_of(records)
        if not loss.places:
            return
        going = await self._going(loss)
        # A lost root must be reported as such, however many files are in it.
        reason = ROOT_GONE if any(not path for _, path in loss.places) else ""
        for root, count in going.items():
            why = await self._too_many(root, count, records)
            reason = reason or why
        if reason:
            await self._hold(reason)
            return
        for root, count in going.items():
            self._brake(root).note(count, trio.current_time())

    async def _going(self, loss: Loss) -> dict[int, int]:
        """How many files of each root are removed for good."""
        going: dict[int, int] = {}
        if self._replica.deletes.brake.limits.on:
            counts = await self._sink.losses([Place(*path) for path in loss.places], MOST_COUNTED)
            for (root, _), count in zip(loss.places, counts, strict=True):
                going[root] = going.get(root, 0) + count
        return {root: count - loss.back.get(root, 0) for root, count in going.items()}

    def _brake(self, root: int) -> RootBrake:
        return self._replica.deletes.brake.of(self._roots.targets[root])

    async def _too_many(self, root: int, going: int, records: Sequence[Record]) -> str:
        """Why these records may not remove so many files of the root; empty when they may."""
        brake = self._brake(root)
        if most := brake.wanted(going, trio.current_time()):
            left = await self._sink.count(Place(root, b""), most)
            brake.count(left, whole=left < most)
        verdict = brake.judge(going)
        if verdict is None or (verdict.few and await self._keeps_entries(root, records)):
            return ""
        return f"{verdict.gone} of {verdict.base} files would be removed"

    async def _keeps_entries(self, root: int, records: Sequence[Record]) -> bool:
        """True when the root has any entry left after the records."""
        (seen,) = await self._sink.look([Ask(Place(root, b""), (), every=True)])
        if seen.names is None:
            return True  # far more than one batch removes
        return bool(names_left(root, seen.names, records))

    async def _hold(self, reason: str) -> None:
        await self._frames.send(FrameType.HOLD, dump(Hold(on=True, reason=reason)))
        await self._replica.deletes.wait(reason)
        await self._frames.send(FrameType.HOLD, dump(Hold(on=False)))


def names_left(root: int, names: Sequence[bytes], records: Sequence[Record]) -> set[bytes]:
    """The names in a root's top directory after the records; `names` are those before."""
    left = set(names)
    for record in records:
        if record.root != root:
            continue
        if record.kind in (Kind.REMOVE, Kind.RENAME) and b"/" not in record.path and not record.staged:
            left.discard(record.path)
        if made := _made(record):
            left.add(made.split(b"/", 1)[0])
    return left


def _made(record: Record) -> bytes:
    """The name at which the record makes something; empty for other records."""
    if record.kind in _MAKING:
        return record.path
    return record.other if record.kind is Kind.RENAME else b""
