"""What programs read about a code and its object, the same keys wherever it is told: in a status, in the logbook."""

from __future__ import annotations

from typing import Any

from i2core.api import Code, Line
from i2core.config.words import Spoken

__all__ = ["Line", "code_in", "told"]


def told(code: Code | None, *, obj: str = "", cause: str = "", next_step: str = "") -> dict[str, Any]:
    """``{"code", "level", "text", "text_zh", "object", "cause", "cause_zh", "next_step", "next_step_zh"}``.

    `cause` and `next_step` are this case's own words; where there are none, the code's stand in. A cause that is not
    known in Chinese stands behind what the code says.
    Without a code nothing is wrong: the level is ``"info"``, the texts are empty.
    """
    text = None if code is None else code.text
    return {
        "code": None if code is None else int(code),
        "level": "info" if text is None else text.level.value,
        "text": "" if text is None else text.en,
        "text_zh": "" if text is None else text.zh,
        "object": obj,
        "cause": _english(cause) or (text.cause_en if text else ""),
        "cause_zh": _chinese(cause) or (text.cause_zh if text and not cause else f"{text.zh}：{cause}" if text else cause),
        "next_step": _english(next_step) or (text.next_en if text else ""),
        "next_step_zh": _chinese(next_step) or (text.next_zh if text else next_step),
    }


def _english(text: str) -> str:
    return text.en if isinstance(text, Spoken) else text


def _chinese(text: str) -> str:
    return text.zh if isinstance(text, Spoken) else ""


def code_in(line: str) -> Code | None:
    """The code of a `Line` that brings one; None of any other text."""
    return line.code if isinstance(line, Line) else None
