"""Conformance checks for drivers, and in-memory twins of drivers, for the tests of plugin authors.

One file for each kind of driver, with its `check_<kind>` and its twin; `CHECKS` finds the check of a kind. Names are
imported when they are first used, so that the test of a codec need not load TLS, or have it installed.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from i2core.testing.capture import ScriptedCapture as ScriptedCapture
    from i2core.testing.capture import check_capture as check_capture
    from i2core.testing.checks import CHECKS as CHECKS
    from i2core.testing.checks import Check as Check
    from i2core.testing.codec import XOR as XOR
    from i2core.testing.codec import XorCodec as XorCodec
    from i2core.testing.codec import check_codec as check_codec
    from i2core.testing.filter import NameFilter as NameFilter
    from i2core.testing.filter import check_filter as check_filter
    from i2core.testing.journal import check_journal as check_journal
    from i2core.testing.memory_journal import MemoryJournal as MemoryJournal
    from i2core.testing.memory_net import MemoryNet as MemoryNet
    from i2core.testing.memory_replica import MemoryReplica as MemoryReplica
    from i2core.testing.memory_sink import MemorySink as MemorySink
    from i2core.testing.memory_snapshots import MemorySnapshots as MemorySnapshots
    from i2core.testing.memory_tree import MemoryTree as MemoryTree
    from i2core.testing.replica import check_present as check_present
    from i2core.testing.replica import check_replica as check_replica
    from i2core.testing.sink import check_sink as check_sink
    from i2core.testing.snapshot_store import check_snapshot_store as check_snapshot_store
    from i2core.testing.transport import check_client_transport as check_client_transport
    from i2core.testing.transport import check_server_transport as check_server_transport
    from i2core.testing.tree import check_tree as check_tree

NAMES = {
    "capture": ("ScriptedCapture", "check_capture"),
    "checks": ("CHECKS", "Check"),
    "codec": ("XOR", "XorCodec", "check_codec"),
    "filter": ("NameFilter", "check_filter"),
    "journal": ("check_journal",),
    "memory_journal": ("MemoryJournal",),
    "memory_net": ("MemoryNet",),
    "memory_replica": ("MemoryReplica",),
    "memory_sink": ("MemorySink",),
    "memory_snapshots": ("MemorySnapshots",),
    "memory_tree": ("MemoryTree",),
    "replica": ("check_present", "check_replica"),
    "sink": ("check_sink",),
    "snapshot_store": ("check_snapshot_store",),
    "transport": ("check_client_transport", "check_server_transport"),
    "tree": ("check_tree",),
}
"""The names that can be imported from here, by module."""


def __getattr__(name: str) -> object:
    for module, names in NAMES.items():
        if name in names:
            found: object = getattr(importlib.import_module(f"{__name__}.{module}"), name)
            globals()[name] = found
            return found
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
