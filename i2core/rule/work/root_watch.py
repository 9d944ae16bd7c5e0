"""Ends a rule whose source root is gone, after the removal was sent to the replica."""

from __future__ import annotations

import os
from collections.abc import Callable

import trio

from i2core.api import Code, StopRule
from i2core.api.tree import Tree
from i2core.config.words import bilingual
from i2core.rule.source.source import Source

LOOK_S, AT_REST_S = 1.0, 3.0
"""Time between two checks; the longer one while all roots are there."""


async def watch_roots(source: Source, settled: Callable[[], bool], released: Callable[[], bool]) -> None:
    """Checks the roots from time to time. The backup node holds the removal of a root. Once it is `released`, the
    replica of that root is empty, which the catalog does not show: even if the directory comes back, this run cannot
    continue, and the next one compares everything.

    Raises:
        StopRule: a root is gone, or was gone when its removal was released, and `settled` says that nothing is left to
            be sent.
    """
    gone: list[Tree] = []
    while True:
        await trio.sleep(LOOK_S if gone else AT_REST_S)
        before, gone = gone, await trio.to_thread.run_sync(_gone, source)
        # If a root was gone at the last check as well, the capture has reported it: its removal is held, sent or done.
        lasting = [tree for tree in gone if tree in before]
        if (lasting or released()) and settled():
            source.catalog.memory.keep(mirrored=False)
            where = (lasting or source.trees)[0].path
            raise StopRule(
                bilingual(
                    "the replicated directory is gone, or was gone when its removal was released",
                    "被复制的目录已不存在，或在放行删除时不存在",
                ),
                code=Code.SOURCE_GONE,
                obj=os.fsdecode(where),
            )


def _gone(source: Source) -> list[Tree]:
    return [tree for tree in source.trees if not tree.is_present()]
