"""Options of the driver."""

from __future__ import annotations

import re

import attrs

_NAME = re.compile(r"[A-Za-z0-9+_.][A-Za-z0-9+_.-]*")


def _name(_config: object, _field: object, text: str) -> None:
    if text and not _NAME.fullmatch(text):
        raise ValueError(f"{text!r} cannot be the name of a volume group")


def _percent(least: int) -> list[object]:
    return [attrs.validators.ge(least), attrs.validators.le(100)]


@attrs.frozen(kw_only=True)
class LvmConfig:
    """``snapshot = { store = { driver = "lvm", volume_group = "vgbackup" } }`` in ``[backup]``."""

    volume_group: str = attrs.field(default="", validator=_name)
    """Replicas on volumes of another group have no snapshots here; empty: any group will do."""
    size_percent: int = attrs.field(default=100, validator=_percent(1))  # type: ignore[arg-type]
    """Room for what changes after a classic snapshot, in percent of the volume. With 100 it never fills up."""
    extend_at_percent: int = attrs.field(default=70, validator=_percent(10))  # type: ignore[arg-type]
    """A classic snapshot, or the pool of a thin one, that is so full is extended."""
    extend_by_percent: int = attrs.field(default=20, validator=_percent(1))  # type: ignore[arg-type]
    """By so much of its size."""
