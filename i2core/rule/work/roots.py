"""A source root that is gone ends its rule, once the replica knows of it."""

from __future__ import annotations

import os
from collections.abc import Callable

import trio

from i2core.api import Code, StopRule
from i2core.config.words import Spoken
from i2core.pipeline.tree import SourceTree
from i2core.rule.reading.source import Source

LOOK_S = 1.0


async def watch_roots(source: Source, settled: Callable[[], bool], released: Callable[[], bool]) -> None:
    """Looks at the roots now and then. The loss of one is held on the backup node; once it was `released`, the replica
    of it is empty, and neither the same directory nor another one at that name is what this run knows: the next one
    compares all.

    Raises:
        StopRule: a root is gone, or was for so long, and `settled` says that nothing is left to be done about it.
    """
    gone: list[SourceTree] = []
    while True:
        await trio.sleep(LOOK_S)
        before, gone = gone, await trio.to_thread.run_sync(_gone, source)
        # The capture has told of who was gone a moment ago already: what came of it is held, on its way or done.
        lasting = [tree for tree in gone if tree in before]
        if (lasting or released()) and settled():
            source.catalog.set_fact("mirrored", 0)
            where = (lasting or source.trees)[0].path
            raise StopRule(
                Spoken.of(
                    "the directory that was replicated is not there any more, or was not when its removal was released",
                    "原来复制的目录已不存在，或在放行删除时不存在",
                ),
                code=Code.SOURCE_GONE,
                obj=os.fsdecode(where),
            )


def _gone(source: Source) -> list[SourceTree]:
    return [tree for tree in source.trees if not tree.is_present()]
