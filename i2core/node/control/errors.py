"""Errors that a daemon and the commands on its host report alike."""

from __future__ import annotations

from i2core.api import Code, UsageError
from i2core.config.words import bilingual


def unknown_rule(name: str) -> UsageError:
    """The error for a name that no rule here has."""
    return UsageError(
        bilingual("no rule of this name here", "此处没有该名称的规则"),
        code=Code.RULE_UNKNOWN,
        obj=name,
        next_step=bilingual("see i2 rule list", "参见 i2 rule list"),
    )
