"""What every journal owes: `check_journal`; its in-memory twin is `MemoryJournal`.

The check speaks to the journal through its contract alone: first what each promise says, then random histories, in
which the journal must do as the twin does. What happens to the bytes on disk (a power cut, flipped bits, a full disk)
is for the tests of the driver at hand.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import trio

from i2core.api import DriverSpec
from i2core.api.journal import JournalContext
from i2core.config.options import structure_options
from i2core.testing.journal import cuts, frames, merges, opening, walk
from i2core.testing.journal.trial import Trial
from i2core.testing.memory_journal import MemoryJournal, memory_journal
from i2core.testing.memory_shelf import MemoryShelf

__all__ = ["MemoryJournal", "MemoryShelf", "check_journal", "memory_journal"]

_STEPS = (*frames.STEPS, *merges.STEPS, *cuts.STEPS, *opening.STEPS, *walk.STEPS)


async def check_journal(
    spec: DriverSpec, options: Mapping[str, Any] | None = None, *, workdir: Path | None = None
) -> None:
    """Holds a journal to its contract. `options` as in a config file; None takes ``spec.example``.

    Works beneath `workdir`, and leaves nothing there; None takes a temporary directory.

    Raises:
        AssertionError: the journal breaks the contract; the message says where.
        UsageError: the options do not fit the driver.
    """
    config = structure_options(spec, spec.example if options is None else options)
    top = Path(tempfile.mkdtemp(prefix="check-journal-", dir=workdir))
    try:
        for step in _STEPS:
            directory = os.fsencode(top / step.__name__)
            context = JournalContext(directory=directory, segment_bytes=4096, reserve_bytes=64 * 1024)
            try:
                await step(Trial(spec, config, context))
            except AssertionError as error:
                raise AssertionError(f"{step.__name__}: {error}") from error
    finally:
        await trio.to_thread.run_sync(shutil.rmtree, top)
