"""Puts merged partitions in the place of others, in step with the journal.

Index and journal are merged together, and no single step changes both. So the index prepares the change, durably; then
the journal is changed, with the number of the change (its generation) in its note; then the index follows. Whatever
comes between, the journal's note tells whether the change is to be finished or taken back:

    index: prepare ─▶ 7      journal: merged segments and note "7", in one step      index: settle(7)
              a crash: taken back                              a crash: finished at the next start
"""

from __future__ import annotations

import os
from collections.abc import Sequence

from i2core.history.index.index import Index
from i2core.history.index.now import PartFile, Pending
from i2core.history.index.partition import Partition


def generation(index: Index) -> int:
    """Number of the last change of the list of partitions that was finished."""
    return int(index.now.state("generation", 0))


def prepare(index: Index, old: Sequence[Partition], new: Sequence[PartFile], *, log: tuple[int, int]) -> int:
    """Keeps durably what is to be done; the files of `new` must be durable and closed. `log`: `Pending.log_after` and
    `Pending.log_to`.

    Returns: the generation that the journal's note is to have.
    """
    pending = Pending(generation(index) + 1, [os.path.basename(part.path) for part in old], new, *log)
    index.flush()  # what is committed with it, `Now.reach` above all, is true
    index.now.pending = pending
    index.now.commit(durable=True)
    return pending.generation


def settle(index: Index, reached: int) -> None:
    """Finishes what is prepared if `reached`, the generation in the journal's note, is the one of the change; else
    takes it back. Does nothing where nothing is prepared."""
    pending = index.now.pending
    if pending is None:
        return
    index.flush()
    now, is_reached = index.now, reached >= pending.generation
    now.pending = None
    if is_reached:
        now.replace_parts(pending.old, pending.new)
        index.batches.give_up(pending.log_after, pending.log_to)
        now.set_state("generation", pending.generation)
    now.commit(durable=True)
    index.parts.reload()
    if not is_reached:
        for part in pending.new:
            index.parts.remove_file(part.file)
