"""The words of every code, apart from the numbers, so that a translator has one place and a reader of `codes.py` none
of it.

`replication` has the manual's codes of rules, links and files; `history` those of CDP, snapshots and volumes; `ours`
the ones from 3600 on.
"""

from __future__ import annotations

from i2core.api.code_texts.history import HISTORY
from i2core.api.code_texts.ours import OURS
from i2core.api.code_texts.replication import REPLICATION
from i2core.api.code_texts.text import CodeText, Level

__all__ = ["TEXTS", "CodeText", "Level"]

TEXTS: dict[int, CodeText] = REPLICATION | HISTORY | OURS
