"""The past state that a mount or a recovery reads: a moment of the history, or a snapshot.

It is chosen first, so that what cannot be had is told at once, and opened when the work begins.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any

import attrs

from i2core.api import UsageError, in_thread
from i2core.api.tree import Tree
from i2core.config.words import bilingual
from i2core.history.ask.span import span_of
from i2core.history.moments.text import format_moment
from i2core.node.daemon.history_api import At, moment_at
from i2core.node.daemon.past import ReceivedPast, ReceivedRule

if TYPE_CHECKING:
    from i2core.node.daemon.running import RunningNode


@attrs.frozen(kw_only=True)
class AtOrSnapshot(At):
    """A state, as the body of a question names it; none: now."""

    snapshot: int | None = None
    """The number of a snapshot."""


@attrs.frozen(kw_only=True)
class Chosen:
    """One past state of a rule."""

    moment: str
    """Its time, as people read it."""
    seq: int | None
    """The last change in it, as the history counts; None: there was no history."""
    snapshot: int | None = None
    """The snapshot to read; None: the history is read."""

    def as_json(self) -> dict[str, Any]:
        """For answers and tasks."""
        more = {} if self.snapshot is None else {"snapshot": self.snapshot}
        return {"moment": self.moment, "seq": self.seq} | more


@attrs.frozen(kw_only=True)
class PastState:
    """A chosen state, open."""

    rule: ReceivedRule
    trees: Sequence[Tree]
    """By root."""


async def choose(node: RunningNode, name: str, asked: AtOrSnapshot) -> Chosen:
    """The state that is meant.

    Raises:
        UsageError: it cannot be had.
        StopRule: the history, or the list of snapshots, cannot be read.
    """
    if asked.snapshot is None:
        async with node.past(name) as past:
            span = await in_thread(span_of, past.history, past.zone)
            moment = await in_thread(moment_at, asked, past, span)
        return Chosen(moment=span.shown(moment.time_ns), seq=moment.seq)
    if (asked.at, asked.at_seq, asked.nearest) != (None, None, None):
        raise UsageError(
            bilingual("a moment and a snapshot are named", "同时指定了时刻和快照"),
            obj=str(asked.snapshot),
            next_step=bilingual("name one of them", "请只指定其中之一"),
        )
    async with node.snapshots(name) as (rule, snapshots):
        found = await snapshots.get(asked.snapshot)
    shown = format_moment(found.taken_ns if found.changed_ns is None else found.changed_ns, rule.zone)
    return Chosen(moment=shown, seq=found.moment, snapshot=found.ident)


@asynccontextmanager
async def opened(node: RunningNode, name: str, chosen: Chosen) -> AsyncIterator[PastState]:
    """The state, which stays readable within the block: nobody gives the moment up, or removes the snapshot.

    Raises:
        UsageError: it was given up or removed since it was chosen.
        StopRule: it cannot be opened.
    """
    if chosen.snapshot is not None:
        async with node.snapshots(name) as (rule, snapshots), snapshots.open(chosen.snapshot) as (_, trees):
            yield PastState(rule=rule, trees=trees)
        return
    assert chosen.seq is not None
    async with node.past(name) as past:
        with past.pinned(chosen.seq), ExitStack() as stack:
            yield PastState(rule=past, trees=await in_thread(_trees, past, chosen.seq, stack))


def _trees(past: ReceivedPast, seq: int, stack: ExitStack) -> list[Tree]:
    trees: list[Tree] = []
    for number, target in enumerate(past.targets):
        trees.append(past.history.tree(number, seq, target))
        stack.callback(trees[-1].close)
    return trees
