"""The node's own error texts, written in both languages where they are raised, said in the reader's."""

from __future__ import annotations

from i2core.config.words import Words, language


def said(en: str, zh: str) -> str:
    """One of both, as the environment chooses."""
    return Words(en, zh).text(language())
