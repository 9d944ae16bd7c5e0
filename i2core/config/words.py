"""Texts in two languages: each message is written in English and in Chinese, next to each other, so that neither can be
forgotten. The environment selects the language for people."""

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


class Bilingual(str):
    """A text in the reader's language that keeps both languages, for reports that programs read as well."""

    __slots__ = ("en", "zh")

    en: str
    zh: str


def bilingual(en: str, zh: str) -> Bilingual:
    """The text in the language of the environment."""
    text = Bilingual(Words(en, zh).text(language()))
    text.en, text.zh = en, zh
    return text


def both(text: str) -> Words:
    """A text that is the same in both languages: a list of keywords, an example."""
    return Words(text, text)


def language(environ: Mapping[str, str] = os.environ) -> Language:
    """`I2_LANG` (``en`` or ``zh``) decides, else the locale: Chinese when `LC_ALL`, `LC_MESSAGES` or `LANG`, the first
    that is set, begins with ``zh`` (the order of locale(7))."""
    for name in ("I2_LANG", "LC_ALL", "LC_MESSAGES", "LANG"):
        value = environ.get(name)
        if value:
            return "zh" if value.lower().startswith("zh") else "en"
    return "en"
