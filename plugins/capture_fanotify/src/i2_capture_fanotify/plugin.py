"""The drivers of this plugin. Keeps imports small: the driver itself is loaded when it is probed or opened."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager

from i2_capture_fanotify.config import FanotifyConfig
from i2core.api import Capture, CaptureContext, DriverKind, DriverSpec, Probe, hookimpl


@asynccontextmanager
async def open_fanotify(config: FanotifyConfig, context: CaptureContext) -> AsyncIterator[Capture]:
    """The capture, watching.

    Raises:
        StopRule: a root is missing, or cannot be watched by fanotify.
    """
    from i2_capture_fanotify.capture import FanotifyCapture

    with FanotifyCapture(config, context) as capture:
        yield capture


def probe_fanotify(context: CaptureContext) -> Probe:
    """Whether fanotify can watch these roots now; if not, the missing requirement."""
    from i2_capture_fanotify.probe import probe

    return probe(context)


@hookimpl
def i2_captures() -> Iterable[DriverSpec]:
    """The driver ``fanotify``."""
    return (
        DriverSpec(
            kind=DriverKind.CAPTURE,
            name="fanotify",
            summary="one kernel mark per file system; needs root; nothing is lost in a burst",
            config=FanotifyConfig,
            open=open_fanotify,
            probe=probe_fanotify,
            rank=20,
        ),
    )
