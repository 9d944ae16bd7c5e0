"""The drivers of this plugin. Keeps imports small: the driver itself is imported when it is opened."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from i2_capture_inotify.config import InotifyConfig
from i2core.api import Capture, CaptureContext, DriverKind, DriverSpec, Probe, hookimpl


@asynccontextmanager
async def open_inotify(config: InotifyConfig, context: CaptureContext) -> AsyncIterator[Capture]:
    """A capture whose watches are in place.

    Raises:
        StopRule: a root is missing, or no inotify instance is available.
    """
    from i2_capture_inotify.capture import open_capture

    async with open_capture(config, context) as capture:
        yield capture


def probe_inotify(context: CaptureContext) -> Probe:
    """Whether the limits allow a watch for each directory, and the file systems report all changes."""
    from i2_capture_inotify.probe import probe

    return probe(context)


@hookimpl
def i2_captures() -> Iterable[DriverSpec]:
    """The ``inotify`` driver."""
    return (
        DriverSpec(
            kind=DriverKind.CAPTURE,
            name="inotify",
            config=InotifyConfig,
            summary="Names of changed files by inotify(7), one watch a directory; needs no privilege",
            open=open_inotify,
            rank=10,
            probe=probe_inotify,
        ),
    )
