"""Finds the error to report in an exception of a task."""

from __future__ import annotations

from typing import Any

from i2core.api import Code, I2Error
from i2core.rule.life.report import report_fields
from i2core.tasks import leaf

NO_THREAD = "can't start new thread"
"""The text of CPython's RuntimeError when pthread_create(3) fails; there is no class for it."""


def leading(error: BaseException) -> BaseException:
    """The error to report: the most important one of a group, any other unchanged."""
    return leaf(error) if isinstance(error, BaseExceptionGroup) else error


def as_i2error(error: BaseException) -> I2Error:
    """`error` with a code: an `I2Error` as it is, anything else as `Code.INTERNAL` with its class and text."""
    found = leading(error)
    if isinstance(found, I2Error):
        return found
    if isinstance(found, OSError):
        obj = found.filename if isinstance(found.filename, str) else ""
        return I2Error(found.strerror or str(found), code=Code.INTERNAL, obj=obj)
    if isinstance(found, RuntimeError) and str(found) == NO_THREAD:
        return I2Error(str(found), code=Code.THREAD)
    return I2Error(f"{type(found).__name__}: {found}", code=Code.INTERNAL)


def error_json(error: I2Error) -> dict[str, Any]:
    """An error for a program: ``{"state": "failed", "code", "object", "message", "message_zh", "next", "next_zh",
    "exit_code"}``; both languages as `report_fields` has them."""
    both = report_fields(error.code, obj=error.obj, cause=error.cause, next_step=error.next_step)
    return {
        "state": "failed",
        "code": error.code.value,
        "object": error.obj,
        "message": both["cause"],
        "message_zh": both["cause_zh"],
        "next": both["next_step"],
        "next_zh": both["next_step_zh"],
        "exit_code": error.exit_code,
    }
