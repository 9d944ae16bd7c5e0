"""What programs read about a code and its object, the same keys wherever it is told: in a status, in the logbook."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from i2core.api import Code, Line
from i2core.config.words import Spoken

__all__ = ["Line", "Say", "code_in", "told"]

Say = Callable[[str, Code | None, str], None]
"""The logbook: (rule name, code, line)."""


def told(code: Code | None, *, obj: str = "", cause: str = "", next_step: str = "") -> dict[str, Any]:
    """``{"code", "level", "text", "text_zh", "object", "cause", "cause_zh", "next_step", "next_step_zh"}``.

    `cause` and `next_step` are this case's own words; where there are none, the code's stand in. A cause that is not
    known in Chinese stands behind what the code says. Without a code nothing is wrong: the level is ``"info"``, and
    the texts are empty.
    """
    en, zh = cause, cause
    if isinstance(cause, Spoken):
        en, zh = cause.en, cause.zh
    step, step_zh = next_step, ""
    if isinstance(next_step, Spoken):
        step, step_zh = next_step.en, next_step.zh
    if code is None:
        codes: dict[str, Any] = {"code": None, "level": "info", "text": "", "text_zh": ""}
        step_zh = step_zh or step
    else:
        text = code.text
        codes = {"code": int(code), "level": text.level.value, "text": text.en, "text_zh": text.zh}
        if zh == en:
            zh = f"{text.zh}：{cause}" if cause else text.cause_zh
        en = en or text.cause_en
        step, step_zh = step or text.next_en, step_zh or text.next_zh
    return codes | {"object": obj, "cause": en, "cause_zh": zh, "next_step": step, "next_step_zh": step_zh}


def code_in(line: str) -> Code | None:
    """The code of a `Line` that brings one; None of any other text."""
    return line.code if isinstance(line, Line) else None
