"""The history of a replica as a store of snapshots sees it: moments with names that retention leaves alone."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial
from typing import TYPE_CHECKING

from i2core.api import in_thread
from i2core.api.journal import Mark, MarkKind
from i2core.api.snapshots import Moments, SnapshotGone
from i2core.api.tree import Tree
from i2core.config.words import bilingual
from i2core.history.retention.reserve import with_reserve

if TYPE_CHECKING:
    from i2core.history.record.history import History


class HistoryMoments(Moments):
    """Marks in the journal of an open history."""

    def __init__(self, history: History, targets: Sequence[bytes]) -> None:
        self._history, self._targets = history, targets

    @property
    def seq(self) -> int:
        """The present, by the history's own count."""
        return self._history.seq

    @property
    def kept(self) -> Collection[str]:
        return {mark.name for mark in self._marks()}

    async def keep(self, name: str) -> None:
        """As in the contract. The replica is at rest, and its position in the history is durable: retention never gives
        up the present, so the mark is in time whatever it is doing."""
        history = self._history
        assert history.durable.seq == history.seq, "a moment that a crash may take back"
        time_ns = await in_thread(self.changed_ns)
        mark = Mark(history.seq + 1, time_ns, MarkKind.SNAPSHOT, name)
        await with_reserve(history.journal, partial(history.journal.mark, (mark,), ()))

    async def give_up(self, name: str) -> None:
        marks = [mark for mark in self._marks() if mark.name == name]
        if marks:
            await with_reserve(self._history.journal, partial(self._history.journal.mark, (), marks))

    def tree(self, root: int, name: str) -> Tree:
        mark = next((mark for mark in self._marks() if mark.name == name), None)
        if mark is None:
            raise SnapshotGone(bilingual("its moment is not kept any more", "其时刻已不再保留"), obj=name)
        return self._history.tree(root, mark.next_seq - 1, self._targets[root])

    def changed_ns(self) -> int:
        """The work node's time of the last change; blocks."""
        history = self._history
        with history.reading:
            time_ns = history.log().time(history.seq) if history.seq else None
        return history.begun_ns if time_ns is None else time_ns

    def _marks(self) -> list[Mark]:
        return [mark for mark in self._history.journal.marks if mark.kind is MarkKind.SNAPSHOT]
