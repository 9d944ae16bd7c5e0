"""Texts for people that come from another node. A program there chooses them, so their length has a limit: each is
logged, kept in a status and shown."""

from __future__ import annotations

TEXT_CHARS = 20_000
"""Most characters of one text: a path of 4,096 bytes with every byte escaped, and a sentence around it."""


def shortened(text: str, most_chars: int = TEXT_CHARS) -> str:
    """The text, or its beginning and ``…``, `most_chars` characters together."""
    return text if len(text) <= most_chars else text[: most_chars - 1] + "…"
