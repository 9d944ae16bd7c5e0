"""A source root that is gone ends its rule, once the replica knows of it."""

from __future__ import annotations

import os
from collections.abc import Callable

import trio

from i2core.api import Code, StopRule
from i2core.config.words import Spoken
from i2core.pipeline.tree import SourceTree
from i2core.rule.source import Source

LOOK_S = 1.0


async def watch_roots(source: Source, settled: Callable[[], bool]) -> None:
    """Looks at the roots now and then. The loss of one is held on the backup node; while it is, the root may come back.
    Once it was released, a directory that takes the root's name is another one, which this run would never look at: the
    next one compares all.

    Raises:
        StopRule: a root is gone, and `settled` says that nothing is left to be done about it.
    """
    gone: list[SourceTree] = []
    while True:
        await trio.sleep(LOOK_S)
        before, gone = gone, await trio.to_thread.run_sync(_gone, source)
        # The capture has told of who was gone a moment ago already: what came of it is held, on its way or done.
        lasting = [tree for tree in gone if tree in before]
        if lasting and settled():
            source.catalog.set_fact("mirrored", 0)
            raise StopRule(
                Spoken.of("the directory that was replicated is not there any more", "原来复制的目录已不存在"),
                code=Code.SOURCE_GONE,
                obj=os.fsdecode(lasting[0].path),
            )


def _gone(source: Source) -> list[SourceTree]:
    return [tree for tree in source.trees if not tree.is_present()]
