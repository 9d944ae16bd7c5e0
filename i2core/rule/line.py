"""What is told about a rule or a node: one line of text that still knows its parts.

A line goes many ways before it is written down: through a session's callbacks, a pipe from a child process, a list in a
test. All of them carry text. So `Line` is a `str`; who knows no parts passes it on, and the logbook finds them again.
"""

from __future__ import annotations

from typing import Any, Self

from i2core.api import Code, I2Error
from i2core.config.words import Spoken


class Line(str):
    """A line with its parts; each may be empty. `state` is the state that a rule has come to."""

    __slots__ = ("cause", "next_step", "obj", "state")

    obj: str
    cause: str
    next_step: str
    state: str

    def __new__(cls, text: str, *, obj: str = "", cause: str = "", next_step: str = "", state: str = "") -> Self:
        """The line as a person reads it, then what it is made of."""
        line = super().__new__(cls, text)
        line.obj, line.cause, line.next_step, line.state = obj, cause, next_step, state
        return line

    @classmethod
    def of(cls, error: I2Error, before: str = "", *, state: str = "") -> Self:
        """An error's line, with `before` in front of it."""
        return cls(f"{before}{error}", obj=error.obj, cause=error.cause, next_step=error.next_step, state=state)


def told(code: Code | None, *, obj: str = "", cause: str = "", next_step: str = "") -> dict[str, Any]:
    """What programs read about a code and its object, wherever it is told: ``{"code", "level", "text", "text_zh",
    "object", "cause", "cause_zh", "next_step", "next_step_zh"}``.

    `cause` and `next_step` are this case's own words; where there are none, or none in Chinese, the code's stand in.
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
        "cause_zh": _chinese(cause) or (text.cause_zh if text else cause),
        "next_step": _english(next_step) or (text.next_en if text else ""),
        "next_step_zh": _chinese(next_step) or (text.next_zh if text else next_step),
    }


def _english(text: str) -> str:
    return text.en if isinstance(text, Spoken) else text


def _chinese(text: str) -> str:
    return text.zh if isinstance(text, Spoken) else ""
