"""Paths as text. A path on Linux is bytes, and need not be text in any encoding.

For people, bytes that are not text are escaped (`shown`), which cannot be undone. For programs, in JSON, each byte is
the character of that number (`as_text`, which is Latin-1), and `as_path` returns the original path.
"""

from __future__ import annotations

import os


def shown(path: bytes) -> str:
    """The path for people."""
    return os.fsdecode(path).encode("utf-8", "backslashreplace").decode()


def as_text(path: bytes) -> str:
    """The path for programs."""
    return path.decode("latin-1")


def as_path(text: str) -> bytes:
    """The path of a text from `as_text`.

    Raises:
        UnicodeEncodeError: the text is not from `as_text`.
    """
    return text.encode("latin-1")
