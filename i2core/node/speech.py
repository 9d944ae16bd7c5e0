"""The node's own error texts, written in both languages where they are raised, said in the reader's."""

from __future__ import annotations

from i2core.config.words import Spoken


def said(en: str, zh: str) -> Spoken:
    """One of both, as the environment chooses."""
    return Spoken.of(en, zh)
