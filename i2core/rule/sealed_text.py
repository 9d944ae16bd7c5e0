"""A line of text, followed by a checksum that reveals a change of any bit."""

from __future__ import annotations

import hashlib


def sealed(text: bytes) -> bytes:
    """The content of a file for a text of one line."""
    return text + b"\n" + _digest(text) + b"\n"


def unsealed(content: bytes) -> bytes:
    """The text in such a content. A file without a second line is one of an earlier version, without a checksum.

    Raises:
        ValueError: the content is not what was written.
    """
    text, _, digest = content.rstrip(b"\n").partition(b"\n")
    if digest and digest != _digest(text):
        raise ValueError("the checksum does not match")
    return text


def _digest(text: bytes) -> bytes:
    return hashlib.blake2s(text, digest_size=16).hexdigest().encode()
