"""The capture for file systems without events: at each interval it reports every root as lost.

The source then compares each root with its catalog, locally, so that only changed files are read and sent. It is the
last choice of ``capture = "auto"``, and works wherever a directory can be listed.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import attrs
import trio

from i2core.api import Capture, CaptureContext, Change, DriverKind, DriverSpec, Lost, Place, Probe


@attrs.frozen
class ScanConfig:
    """Options of the ``scan`` capture."""

    interval: float = attrs.field(default=30.0, validator=attrs.validators.gt(0))
    """Seconds between two scans."""


class ScanCapture(Capture):
    """Reports each root as lost at each interval, the first time one interval after it was opened.

    Missed intervals are not made up for: one scan finds all changes since the last one.
    """

    def __init__(self, roots: int, interval_s: float) -> None:
        self._lost = [Lost(Place(root, b""), "periodic scan") for root in range(roots)]
        self._interval_s = interval_s
        self._next_s = trio.current_time() + interval_s

    async def changes(self) -> AsyncIterator[Sequence[Change | Lost]]:
        """All roots, at each interval."""
        while True:
            await trio.sleep_until(self._next_s)
            self._next_s = trio.current_time() + self._interval_s
            yield self._lost


def probe_scan(context: CaptureContext) -> Probe:
    """Works if the roots can be listed."""
    for root in context.roots:
        if not os.access(root, os.R_OK | os.X_OK):
            return Probe(False, f"{os.fsdecode(root)!r} cannot be listed")
    return Probe(True, "directories are compared at an interval")


@asynccontextmanager
async def open_scan(config: ScanConfig, context: CaptureContext) -> AsyncIterator[Capture]:
    """The capture; nothing needs to be set up or closed."""
    yield ScanCapture(len(context.roots), config.interval)


SCAN = DriverSpec(
    kind=DriverKind.CAPTURE,
    name="scan",
    config=ScanConfig,
    summary="Compares the sources at an interval; for file systems without events",
    open=open_scan,
    platforms=("linux", "darwin", "freebsd", "win32"),
    rank=0,
    probe=probe_scan,
    example={"interval": 0.2},
)
