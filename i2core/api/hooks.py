"""Hook specifications: one hook per kind of driver, called once at start-up.

A plugin module implements the hooks it has something for, and names itself as an entry point in the group
``i2core.plugins``. Hooks return values; nothing is registered by side effect. docs/plugins.md is the guide.
"""

from __future__ import annotations

from collections.abc import Iterable

import pluggy

from i2core.api.specs import DriverSpec

PROJECT = "i2core"

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


class Hooks:
    """The hooks. Each returns its plugin's `DriverSpec`s; core calls all plugins and merges the answers."""

    @hookspec
    def i2_captures(self) -> Iterable[DriverSpec]:
        """Drivers that report changes under a rule's sources (`Capture`)."""
        return ()

    @hookspec
    def i2_filters(self) -> Iterable[DriverSpec]:
        """Drivers that decide what a rule protects (`Filter`)."""
        return ()

    @hookspec
    def i2_codecs(self) -> Iterable[DriverSpec]:
        """Drivers that transform a batch's bytes and back: compression, encryption (`Codec`)."""
        return ()

    @hookspec
    def i2_transports(self) -> Iterable[DriverSpec]:
        """Drivers that carry byte streams between nodes (`ClientTransport`, `ServerTransport`)."""
        return ()

    @hookspec
    def i2_sinks(self) -> Iterable[DriverSpec]:
        """Drivers that keep the replica (`Sink`)."""
        return ()

    @hookspec
    def i2_journals(self) -> Iterable[DriverSpec]:
        """Drivers that keep the history of a replica (`Journal`)."""
        return ()

    @hookspec
    def i2_snapshot_stores(self) -> Iterable[DriverSpec]:
        """Drivers that keep snapshots of a replica (`SnapshotStore`)."""
        return ()
