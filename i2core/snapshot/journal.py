"""The store ``"journal"``: a snapshot is a moment of the replica's history that is kept. It works on any file system,
is taken at once, and needs no room but that of what is changed later."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import AsyncExitStack, asynccontextmanager

from i2core.api import Code, StopRule, in_thread
from i2core.api.snapshots import Moments, SnapshotContext, SnapshotGone, SnapshotStore
from i2core.api.tree import Tree
from i2core.config.words import bilingual


class JournalSnapshots(SnapshotStore):
    """Moments of a history."""

    def __init__(self, moments: Moments, roots: int) -> None:
        self._moments, self._roots = moments, roots

    async def create(self, name: str, roots: Sequence[int]) -> None:
        """As in the contract; `roots` are not looked at: the history knows them."""
        await self._moments.keep(name)

    async def remove(self, name: str) -> None:
        await self._moments.give_up(name)

    async def names(self) -> Collection[str]:
        return self._moments.kept

    async def space(self, name: str) -> int | None:
        self._check(name)
        return None

    @asynccontextmanager
    async def open(self, name: str) -> AsyncIterator[Sequence[Tree]]:
        self._check(name)
        async with AsyncExitStack() as stack:
            trees = []
            for root in range(self._roots):
                trees.append(await in_thread(self._moments.tree, root, name))
                stack.callback(trees[-1].close)
            yield trees

    def _check(self, name: str) -> None:
        if name not in self._moments.kept:
            raise SnapshotGone(bilingual("its moment is not kept any more", "其时刻已不再保留"), obj=name)


@asynccontextmanager
async def open_store(context: SnapshotContext) -> AsyncIterator[SnapshotStore]:
    """The store.

    Raises:
        StopRule: the replica has no history, or it cannot be opened.
    """
    if context.moments is None:
        raise StopRule(
            bilingual("the rule has no history to keep moments of", "该规则没有可保留时刻的历史"),
            code=Code.SNAPSHOT_CREATE,
            next_step=bilingual("give the rule a history: cdp = {}", "请为规则启用历史：cdp = {}"),
        )
    async with context.moments() as moments:
        yield JournalSnapshots(moments, len(context.roots))
