"""A code and its object as programs read them: the same keys in a status and in the logbook."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from i2core.api import Code, Line
from i2core.config.words import Bilingual

__all__ = ["Line", "Say", "code_in", "of_peer", "report_fields"]

Say = Callable[[str, Code | None, str], None]
"""The logbook: (rule name, code, line)."""


def of_peer(say: Say, peer: str) -> Say:
    """`say` for lines about the sessions of `peer`: the logbook limits what one peer may cause."""

    def say_it(rule: str, code: Code | None, line: str) -> None:
        parts = line if isinstance(line, Line) else Line(line)
        marked = Line(
            line,
            code=parts.code,
            obj=parts.obj,
            cause=parts.cause,
            next_step=parts.next_step,
            state=parts.state,
            peer=peer,
        )
        say(rule, code, marked)

    return say_it


def report_fields(code: Code | None, *, obj: str = "", cause: str = "", next_step: str = "") -> dict[str, Any]:
    """``{"code", "level", "text", "text_zh", "object", "cause", "cause_zh", "next_step", "next_step_zh"}``.

    `cause` and `next_step` are the texts of this case; the code's own texts are used where they are empty. A cause
    without a Chinese text is appended to the Chinese text of the code. Without a code nothing is wrong: the level is
    ``"info"``, and the texts are empty.
    """
    en, zh = cause, cause
    if isinstance(cause, Bilingual):
        en, zh = cause.en, cause.zh
    step, step_zh = next_step, ""
    if isinstance(next_step, Bilingual):
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
    """The code of a `Line` that has one; None for any other text."""
    return line.code if isinstance(line, Line) else None
