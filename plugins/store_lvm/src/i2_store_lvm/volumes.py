"""Logical volumes, as lvs(8) reports them."""

from __future__ import annotations

import json
from typing import NamedTuple

from i2_store_lvm.commands import Failed, run

_FIELDS = "vg_name,lv_name,lv_attr,lv_size,origin,pool_lv,data_percent,lv_tags,lv_kernel_major,lv_kernel_minor"
_VALID_AT, _VALID = 4, "a"
"""Where lv_attr has the state. An invalid snapshot has I or S there: it has overflowed."""


class Volume(NamedTuple):
    """One logical volume."""

    group: str
    name: str
    state: str
    size_bytes: int
    origin: str
    """For a snapshot: the name of the volume in the same group that it was taken of; else empty."""
    pool: str
    """For a thin volume: its pool; else empty."""
    used_percent: float
    """Of a classic snapshot or a pool; 0 where LVM says nothing."""
    tags: frozenset[str]
    device: tuple[int, int]
    """Major and minor number of its device."""

    @property
    def path(self) -> str:
        """As LVM's tools and mount(8) name it."""
        return f"/dev/{self.group}/{self.name}"

    @property
    def is_valid(self) -> bool:
        """False for a snapshot that has overflowed, or is not active."""
        return self.state == _VALID

    @property
    def is_thin(self) -> bool:
        """True for a volume in a pool."""
        return bool(self.pool)


def read_volumes() -> list[Volume]:
    """All of this host; blocks.

    Raises:
        Failed: LVM cannot be asked.
    """
    told = run("lvs", "-a", "--reportformat", "json", "--units", "b", "--nosuffix", "-o", _FIELDS)
    return parse_volumes(told)


def parse_volumes(told: bytes) -> list[Volume]:
    """The volumes of a report.

    Raises:
        Failed: it is none.
    """
    try:
        rows = json.loads(told)["report"][0]["lv"]
        return [_volume(row) for row in rows]
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise Failed(f"lvs: a report that cannot be read ({error})") from error


def _volume(row: dict[str, str]) -> Volume:
    return Volume(
        group=row["vg_name"],
        name=row["lv_name"].strip("[]"),
        state=row["lv_attr"][_VALID_AT : _VALID_AT + 1],
        size_bytes=int(row["lv_size"]),
        origin=row["origin"].strip("[]"),
        pool=row["pool_lv"].strip("[]"),
        used_percent=float(row["data_percent"] or 0),
        tags=frozenset(tag for tag in row["lv_tags"].split(",") if tag),
        device=(int(row["lv_kernel_major"]), int(row["lv_kernel_minor"])),
    )


def read_groups() -> set[str]:
    """The names of all volume groups; blocks.

    Raises:
        Failed: LVM cannot be asked.
    """
    told = run("vgs", "--reportformat", "json", "-o", "vg_name")
    try:
        return {row["vg_name"] for row in json.loads(told)["report"][0]["vg"]}
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise Failed(f"vgs: a report that cannot be read ({error})") from error
