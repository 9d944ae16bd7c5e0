"""The mistakes of a config file, all reported together, each with its line."""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from i2core.api import UsageError
from i2core.config.words import Language, Words, language


@attrs.frozen
class Mistake:
    """One mistake. `str` of it is ``FILE:LINE: KEY: what is wrong; allowed: …`` in the reader's language."""

    file: str
    line: int
    """Counted from 1; 0 for the file as a whole."""
    key: str
    """Dotted, as in docs/config.md: ``rule.mirror.verify``; empty if the mistake belongs to no key."""
    message: Words
    allowed: Words | None = None

    def text(self, lang: Language) -> str:
        """The mistake as one line for a person."""
        where = f"{self.file}:{self.line}" if self.line else self.file
        key = f"{self.key}: " if self.key else ""
        allowed = ""
        if self.allowed is not None:
            word = {"en": "; allowed: ", "zh": "；允许："}[lang]
            allowed = word + self.allowed.text(lang)
        return f"{where}: {key}{self.message.text(lang)}{allowed}"

    def __str__(self) -> str:
        return self.text(language())


class ConfigErrors(UsageError):
    """A config file has mistakes; nothing was changed. `mistakes` lists them in the order of their lines."""

    def __init__(self, mistakes: Iterable[Mistake]) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__("\n".join(map(str, self.mistakes)))

    def __str__(self) -> str:
        return "\n".join(map(str, self.mistakes))
