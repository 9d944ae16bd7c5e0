"""Drivers that need nothing but the standard library."""

from __future__ import annotations

from collections.abc import Iterable

from i2core.api import DriverSpec, hookimpl
from i2core.drivers.scan import SCAN
from i2core.snapshot.driver import JOURNAL


@hookimpl
def i2_captures() -> Iterable[DriverSpec]:
    """The scan capture, which works where no other does."""
    return (SCAN,)


@hookimpl
def i2_snapshot_stores() -> Iterable[DriverSpec]:
    """The store that keeps snapshots in the history of a replica."""
    return (JOURNAL,)
