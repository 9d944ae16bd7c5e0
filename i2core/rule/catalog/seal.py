"""A seal shows whether the content of a file is what it was at the last orderly end.

SQLite detects most damage of a file, but not all: a bit that flips within a row is only another number. So an orderly
end writes the file's digest beside it, and the next start removes the digest. A seal that exists and matches is the
only sign of an orderly end. A seal that does not match means damage.
"""

from __future__ import annotations

import enum
from pathlib import Path

import xxhash

from i2core.posix.durable import sync_path

_READ_BYTES = 1 << 20
_MOST_BYTES = 64


class Seal(enum.Enum):
    """The result of checking the seal of a file."""

    NONE = "none"
    """There was no orderly end, or there is no file."""
    WHOLE = "whole"
    BROKEN = "broken"
    """The file has changed since the orderly end."""


def put_seal(path: Path) -> None:
    """Seals the file, which is closed and synced.

    Raises:
        OSError: it cannot be read, or the seal cannot be written. Then there is no seal.
    """
    seal = _beside(path)
    fresh = seal.with_name(seal.name + ".new")
    fresh.unlink(missing_ok=True)
    fresh.touch(0o600, exist_ok=False)
    fresh.write_bytes(_digest(path))
    sync_path(fresh)
    fresh.replace(seal)


def look_at_seal(path: Path) -> Seal:
    """Compares the file with its seal.

    Raises:
        OSError: one of the two cannot be read.
    """
    try:
        with _beside(path).open("rb") as file:
            expected = file.read(_MOST_BYTES)
        return Seal.WHOLE if expected == _digest(path) else Seal.BROKEN
    except FileNotFoundError:
        return Seal.NONE


def take_seal_off(path: Path) -> None:
    """Removes the seal: from now on the file may change."""
    _beside(path).unlink(missing_ok=True)


def _beside(path: Path) -> Path:
    return path.with_name(path.name + ".seal")


def _digest(path: Path) -> bytes:
    digest = xxhash.xxh3_128()
    with path.open("rb") as file:
        while data := file.read(_READ_BYTES):
            digest.update(data)
    return digest.hexdigest().encode()
