"""The drivers of this plugin."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from i2_filter_glob.config import GlobConfig
from i2core.api import DriverKind, DriverSpec, Filter, FilterContext, hookimpl


@asynccontextmanager
async def open_glob(config: GlobConfig, context: FilterContext) -> AsyncIterator[Filter]:
    """The filter, with all patterns compiled for the rule's roots."""
    from i2_filter_glob.filter import GlobFilter

    yield GlobFilter(config, context.roots)


@hookimpl
def i2_filters() -> Iterable[DriverSpec]:
    return (
        DriverSpec(
            kind=DriverKind.FILTER,
            name="glob",
            summary="Excluded directories and file name patterns",
            config=GlobConfig,
            example={"exclude": ["/srv/data/tmp"], "include_types": ["*.doc", "report-?.txt"]},
            open=open_glob,
            platforms=("linux", "darwin"),
        ),
    )
