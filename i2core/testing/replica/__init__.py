"""`check_replica`: what the history asks of a replica and changes on it (`i2core.api.present`). The in-memory twin is
`MemoryReplica`.

The check speaks to the replica through the contract alone, on objects that were made by records. What a power cut
leaves, and what becomes of a replica that somebody else changes meanwhile, is for the tests of the driver at hand.
"""

from __future__ import annotations

from collections.abc import Callable

from i2core.api.present import Present, Replica
from i2core.testing.memory_replica import MemoryReplica
from i2core.testing.replica import changes, questions
from i2core.testing.replica.sample import RECORDS, Make, Open

__all__ = ["Make", "MemoryReplica", "Open", "check_present", "check_replica"]


async def check_present(make: Make) -> None:
    """Checks the contract of the questions.

    Raises:
        AssertionError: the replica breaks the contract; the message says where.
    """
    open_replica = await make(RECORDS)
    for step in questions.STEPS:
        with open_replica() as replica:
            _run(step.__name__, step, replica)


async def check_replica(make: Make) -> None:
    """Checks the contract of the questions and of the changes.

    Raises:
        AssertionError: the replica breaks the contract; the message says where.
    """
    await check_present(make)
    for change, right in changes.CASES:
        name = change.__name__
        open_replica = await make(RECORDS)
        with open_replica() as replica:
            for time in ("", ", carried out again"):
                _run(name + time, change, replica)
                _run(name + time, right, replica)
            replica.flush()
            _run(name + ", flushed", right, replica)
        with open_replica() as replica:
            _run(name + ", opened again", right, replica)


def _run(name: str, step: Callable[[Replica], None] | Callable[[Present], None], replica: Replica) -> None:
    try:
        step(replica)
    except AssertionError as error:
        raise AssertionError(f"{name}: {error}") from error
    except (OSError, LookupError) as error:
        raise AssertionError(f"{name}: fails with {error!r}") from error
