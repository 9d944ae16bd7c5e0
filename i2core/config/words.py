"""Texts in two languages: each message is written once in English and once in Chinese, side by side, so that neither
can be forgotten. The environment chooses which one a person reads."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Literal, NamedTuple

Language = Literal["en", "zh"]


class Words(NamedTuple):
    """One text in both languages."""

    en: str
    zh: str

    def text(self, language: Language) -> str:
        """The text in that language."""
        return self.zh if language == "zh" else self.en


class Spoken(str):
    """A text in the reader's language that still knows both: for where it is told to programs as well."""

    __slots__ = ("en", "zh")

    en: str
    zh: str

    @classmethod
    def of(cls, en: str, zh: str) -> Spoken:
        """The text, as the environment chooses."""
        spoken = cls(Words(en, zh).text(language()))
        spoken.en, spoken.zh = en, zh
        return spoken


def both(text: str) -> Words:
    """A text that reads the same in both languages: a list of words, an example."""
    return Words(text, text)


def language(environ: Mapping[str, str] = os.environ) -> Language:
    """`I2_LANG` (``en`` or ``zh``) decides, else the locale: Chinese when `LC_ALL`, `LC_MESSAGES` or `LANG`, the first
    that is set, begins with ``zh`` (the order of locale(7))."""
    for name in ("I2_LANG", "LC_ALL", "LC_MESSAGES", "LANG"):
        value = environ.get(name)
        if value:
            return "zh" if value.lower().startswith("zh") else "en"
    return "en"
