"""The conformance check for each kind of driver: the table behind ``i2 plugins check``."""

from __future__ import annotations

import importlib
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any

from i2core.api import DriverKind, DriverSpec

Check = Callable[[DriverSpec, Mapping[str, Any] | None], Awaitable[None]]
"""``check(spec, options)``: raises AssertionError when the driver breaks its contract, UsageError for wrong options.
None as options means the driver's `example`."""


def _from(module: str, function: str) -> Check:
    # Imported when it runs, since the check of one kind needs libraries that others do not need.
    async def check(spec: DriverSpec, options: Mapping[str, Any] | None = None) -> None:
        run: Check = getattr(importlib.import_module(f"i2core.testing.{module}"), function)
        await run(spec, options)

    return check


CHECKS: Mapping[DriverKind, Check] = MappingProxyType(
    {
        DriverKind.CAPTURE: _from("capture", "check_capture"),
        DriverKind.FILTER: _from("filter", "check_filter"),
        DriverKind.CODEC: _from("codec", "check_codec"),
        DriverKind.CLIENT_TRANSPORT: _from("transport", "check_client_transport"),
        DriverKind.SERVER_TRANSPORT: _from("transport", "check_server_transport"),
        DriverKind.SINK: _from("sink", "check_sink"),
        DriverKind.JOURNAL: _from("journal", "check_journal"),
        DriverKind.SNAPSHOT_STORE: _from("snapshot_store", "check_snapshot_store"),
    }
)
"""The check of each kind of driver."""
