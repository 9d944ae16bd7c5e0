"""Drivers that can be named and given options, but not opened. With them, tests of config files do not depend on the
plugins that are installed."""

from __future__ import annotations

import enum
from contextlib import AbstractAsyncContextManager
from typing import Any

import attrs

from i2core.api import DriverKind, DriverSpec, NoConfig, UsageError


class Level(enum.Enum):
    """The values of an option."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"


@attrs.frozen(kw_only=True)
class Zstd:
    """An option with a fixed set of values."""

    level: Level = Level.LOW


@attrs.frozen(kw_only=True)
class AesGcm:
    """Options that may be absent."""

    key_file: str | None = None
    passphrase_file: str | None = None


@attrs.frozen(kw_only=True)
class Glob:
    """Options that are arrays."""

    exclude: tuple[str, ...] = ()
    include_types: tuple[str, ...] = ()
    exclude_types: tuple[str, ...] = ()


@attrs.frozen(kw_only=True)
class Scan:
    """An option with a validator."""

    interval: float = attrs.field(default=30.0, validator=attrs.validators.gt(0))


def _never(config: Any, context: Any) -> AbstractAsyncContextManager[Any]:
    raise AssertionError("this driver can only be named, not opened")


def named(kind: DriverKind, name: str, config: type = NoConfig) -> DriverSpec:
    """A driver that cannot be opened."""
    return DriverSpec(kind=kind, name=name, summary="for tests of config files", open=_never, config=config)


class NamedDrivers:
    """A registry of the given drivers; without any, of all drivers that the sample configs name."""

    def __init__(self, *specs: DriverSpec) -> None:
        self.problems: tuple[object, ...] = ()
        self._specs = {(spec.kind, spec.name): spec for spec in specs or _SAMPLES}

    def driver(self, kind: DriverKind, name: str) -> DriverSpec:
        """The driver.

        Raises:
            UsageError: there is no such driver.
        """
        if (kind, name) not in self._specs:
            raise UsageError(f"no {kind.value} driver {name!r}")
        return self._specs[kind, name]

    def names(self, kind: DriverKind) -> tuple[str, ...]:
        """Names of that kind, in alphabetical order."""
        return tuple(sorted(name for other, name in self._specs if other is kind))


_SAMPLES = (
    named(DriverKind.CAPTURE, "inotify"),
    named(DriverKind.CAPTURE, "scan", Scan),
    named(DriverKind.CODEC, "aesgcm", AesGcm),
    named(DriverKind.CODEC, "zstd", Zstd),
    named(DriverKind.FILTER, "glob", Glob),
    named(DriverKind.CLIENT_TRANSPORT, "tcp"),
    named(DriverKind.SERVER_TRANSPORT, "tcp"),
    named(DriverKind.SINK, "fs"),
)
