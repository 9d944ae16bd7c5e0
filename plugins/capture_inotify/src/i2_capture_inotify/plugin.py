"""What this plugin offers to core. Imports light: the driver itself is imported when it is opened."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from i2_capture_inotify.config import InotifyConfig
from i2core.api import Capture, CaptureContext, DriverKind, DriverSpec, Probe, hookimpl


@asynccontextmanager
async def open_inotify(config: InotifyConfig, context: CaptureContext) -> AsyncIterator[Capture]:
    """A capture whose watches are in place.

    Raises:
        StopRule: a root is missing, or the system gives no inotify instance.
    """
    from i2_capture_inotify.capture import open_capture

    async with open_capture(config, context) as capture:
        yield capture


def probe_inotify(context: CaptureContext) -> Probe:
    """Whether a watch for each directory fits into the limits, on file systems that tell all their changes."""
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
