"""Names the driver to core; what it needs is imported only when it is opened."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from i2core.api import DriverKind, DriverSpec, NoConfig, hookimpl

if TYPE_CHECKING:
    from i2core.api.journal import Journal, JournalContext


@asynccontextmanager
async def open_cdp(config: NoConfig, context: JournalContext) -> AsyncIterator[Journal]:
    """The journal in a directory; makes the directory when it is new.

    Raises:
        StopRule: it is not there, damaged, of another version, or open elsewhere.
    """
    from i2_store_cdp.journal import open_journal

    async with open_journal(context) as journal:
        yield journal


@hookimpl
def i2_journals() -> Iterable[DriverSpec]:
    """The driver ``"cdp"``."""
    return (
        DriverSpec(
            kind=DriverKind.JOURNAL,
            name="cdp",
            summary="segment files in one directory",
            config=NoConfig,
            open=open_cdp,
        ),
    )
