"""The record of the recoveries of one rule that were tried: when, which moment, to where, and whether it was proved
that the result is equal. A backup that nobody has ever recovered from is a hope; this file says which one it is not.

One JSON line is appended when a recovery begins, and another one when it ends. So a recovery without an end was
interrupted: the process was killed, or the power failed.
"""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs

from i2core.posix.durable import replace_durably, sync_path
from i2core.rule.backup.replica.state_files import rule_key

KEPT = 500
"""Recoveries of one rule that are remembered; the oldest go first."""
_FILE = "tried.jsonl"
_INTERRUPTED = "interrupted"


@attrs.frozen(kw_only=True)
class Tried:
    """One recovery that was tried. Times in ns since the epoch."""

    id: str
    rule: str
    moment: str
    to: str
    """For people: bytes that are no text are escaped."""
    begun_ns: int
    ended_ns: int | None = None
    outcome: str = _INTERRUPTED
    """``proved``: equal, and compared with all contents afterwards. ``equal``: all was written, nothing was compared
    afterwards. ``differs``: some could not be recovered. ``failed``: it ended before. ``cancelled``, ``interrupted``.
    """
    files: int = 0
    bytes: int = 0
    failed: int = 0
    """Paths that could not be recovered."""
    cause: str = ""
    """Why it failed."""

    @property
    def seconds(self) -> float | None:
        """How long it took; None: it has no end."""
        return None if self.ended_ns is None else (self.ended_ns - self.begun_ns) / 1e9


def place_of(state_dir: Path, peer: str, rule: str) -> Path:
    """The directory for what concerns recoveries of this rule."""
    return state_dir / "recoveries" / rule_key(peer, rule)


def begin(place: Path, *, rule: str, moment: str, to: str, now_ns: int) -> Tried:
    """Notes that a recovery begins.

    Raises:
        OSError: it cannot be written.
    """
    os.makedirs(place, 0o700, exist_ok=True)
    _trim(place)
    tried = Tried(id=secrets.token_hex(8), rule=rule, moment=moment, to=to, begun_ns=now_ns)
    _append(place, attrs.asdict(tried))
    return tried


def end(place: Path, tried: Tried) -> None:
    """Notes how it ended.

    Raises:
        OSError: it cannot be written.
    """
    _append(place, attrs.asdict(tried))


def read_tried(place: Path) -> list[Tried]:
    """All that are remembered, the latest first. Lines that are torn or unknown are left out."""
    found: dict[str, Tried] = {}
    for line in _lines(place):
        with contextlib.suppress(ValueError, TypeError):
            tried = Tried(**json.loads(line))
            found[tried.id] = tried
    return sorted(found.values(), key=lambda tried: -tried.begun_ns)


def _lines(place: Path) -> Iterator[bytes]:
    try:
        with (place / _FILE).open("rb") as file:
            yield from file
    except FileNotFoundError:
        return


def _append(place: Path, fields: dict[str, Any]) -> None:
    path = place / _FILE
    is_new = not path.exists()
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        # A line that a power cut has torn ends here, so that it takes no other line with it.
        os.write(fd, b"\n" + json.dumps(fields).encode() + b"\n")
        os.fsync(fd)
    finally:
        os.close(fd)
    if is_new:
        sync_path(place)


def _trim(place: Path) -> None:
    found = read_tried(place)
    if len(found) > 2 * KEPT:
        lines = [json.dumps(attrs.asdict(tried)).encode() for tried in reversed(found[:KEPT])]
        replace_durably(place / _FILE, b"\n".join(lines) + b"\n")
