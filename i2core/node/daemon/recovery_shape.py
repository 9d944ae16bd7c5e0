"""The form of a recovery's result that comes from another node: commands and programs of this node read it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs
import cattrs

from i2core.api import ProtocolError


@attrs.frozen(kw_only=True)
class _Failed:
    path: str
    code: int
    message: str


@attrs.frozen(kw_only=True)
class _Outcome:
    """As `recovery.outcome.Outcome.as_json`, with the moment."""

    to: str
    files: int
    bytes: int
    sent_files: int
    sent_bytes: int
    extra: int
    aside: str | None
    failed: list[_Failed]
    failed_count: int
    proved: bool | None
    seconds: float
    equal: bool
    moment: str
    seq: int | None
    snapshot: int | None = None


@attrs.frozen(kw_only=True)
class _Total:
    count: int
    size: int
    newer: int


@attrs.frozen(kw_only=True)
class _Item:
    path: str
    what: str
    mode: int
    size: int
    newer: bool


@attrs.frozen(kw_only=True)
class _Plan:
    files: int
    bytes: int
    equal: bool
    totals: dict[str, _Total]
    items: list[_Item]
    moment: str
    seq: int | None
    snapshot: int | None = None


@attrs.frozen(kw_only=True)
class _Progress:
    """As `recovery.outcome.Progress.as_json`."""

    phase: str
    files: int
    bytes: int
    all_files: int
    all_bytes: int
    all_known: bool
    sent_files: int
    sent_bytes: int
    seconds: float
    percent: int
    rate: int
    left_s: float | None


_converter = cattrs.Converter(forbid_extra_keys=True)


def sound(document: Mapping[str, Any], *, is_plan: bool) -> dict[str, Any]:
    """A result, checked.

    Raises:
        ProtocolError: it is none.
    """
    return _checked(document, _Plan if is_plan else _Outcome)


def sound_progress(document: Mapping[str, Any]) -> dict[str, Any]:
    """Progress, checked.

    Raises:
        ProtocolError: it is none.
    """
    return _checked(document, _Progress)


def _checked(document: Mapping[str, Any], kind: type) -> dict[str, Any]:
    try:
        found: dict[str, Any] = _converter.unstructure(_converter.structure(document, kind))
        if found.get("snapshot", 0) is None:
            del found["snapshot"]
    except Exception as error:  # cattrs raises many kinds; all mean a malformed document
        raise ProtocolError(f"malformed {kind.__name__.strip('_').lower()} of a recovery") from error
    return found
