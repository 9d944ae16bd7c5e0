"""What is wrong with a config file, all of it at once, each with the line where it stands."""

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
    """From 1; 0 when the file as a whole is meant."""
    key: str
    """Dotted, as in docs/config.md: ``rule.mirror.verify``; empty when no key is meant."""
    message: Words
    allowed: Words | None = None

    def text(self, lang: Language) -> str:
        """The one line that a person reads."""
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
    """A config file has mistakes; nothing was changed. `mistakes` has them in the order of their lines."""

    def __init__(self, mistakes: Iterable[Mistake]) -> None:
        self.mistakes = tuple(mistakes)
        super().__init__("\n".join(map(str, self.mistakes)))

    def __str__(self) -> str:
        return "\n".join(map(str, self.mistakes))
