"""Opening: the right journal, whole, and by one process alone."""

from __future__ import annotations

import os
from contextlib import suppress

from i2core.api import I2Error, StopRule
from i2core.api.journal import Tip
from i2core.testing.journal.trial import Trial


async def kept_tip(trial: Trial) -> None:
    """Opening raises where the journal ends before a tip that was durable, or has another frame there."""
    async with trial.open() as journal:
        await journal.append(trial.group(b"a"))
        older = journal.tip
        await journal.append(trial.group(b"b"))
        tip = journal.tip
    for wrong in (Tip(3, 4, bytes(32)), Tip(2, 3, bytes(32)), Tip(1, 2, tip.hash)):
        await _refused(trial, kept=wrong)
    for right in (older, tip, Tip()):
        async with trial.open(kept=right) as journal:
            assert journal.tip == tip


async def one_writer(trial: Trial) -> None:
    """It is not opened twice."""
    async with trial.open():
        await _refused(trial)
    async with trial.open():
        pass


async def known_directory(trial: Trial) -> None:
    """A journal that is known, and is not there, is not begun anew."""
    async with trial.open() as journal:
        identity = journal.identity
    async with trial.open(known=identity) as journal:
        assert journal.identity == identity
    if identity:
        await _refused(trial, known=identity, directory=trial.context.directory + b"-elsewhere")


async def private(trial: Trial) -> None:
    """Nobody else enters the directory."""
    async with trial.open():
        with suppress(FileNotFoundError):
            mode = os.stat(trial.context.directory).st_mode
            assert not mode & 0o077, f"others may enter the directory: {mode:o}"


async def _refused(trial: Trial, **changes: object) -> None:
    try:
        async with trial.open(**changes):
            pass
    except StopRule:
        return
    except I2Error as error:
        raise AssertionError(f"refused by another error: {error}") from error
    raise AssertionError(f"opened with {changes}")


STEPS = (kept_tip, one_writer, known_directory, private)
