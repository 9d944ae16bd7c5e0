"""Whether a rule starts again after an error: with a new catalog instead of a damaged one, or after a wait if a
resource was exhausted."""

from __future__ import annotations

import errno
import random
import sqlite3
import tempfile
from pathlib import Path

import trio

from i2core.api import Code, StopRule
from i2core.config.model import Rule
from i2core.config.words import bilingual
from i2core.posix.errnos import PASSING
from i2core.rule.life.disk_full import own_disk
from i2core.rule.life.report import Say
from i2core.rule.life.states import Event
from i2core.rule.work.opening import catalog_path, damaged
from i2core.rule.work.resume import drop_catalog, is_damage

CATALOGS = 6
"""When so many catalogs of one rule were damaged, the disk itself must be faulty, and the rule stops."""
AGAIN_S = (1.0, 64.0)
"""First and longest wait before a run that ended because a resource was exhausted starts again; each wait doubles."""


class Restarts:
    """The restarts of one rule, from its start to its stop."""

    def __init__(self, rule: Rule, state_dir: Path | None, say: Say, *, once: bool) -> None:
        self._rule = rule
        self._state_dir = state_dir
        self._say = say
        self._once = once
        self._catalogs_lost = 0
        self._wait_s = AGAIN_S[0]
        self.event: Event | None = None
        """Why the next run begins; None for the first one."""

    def catalog_lost(self, error: sqlite3.DatabaseError) -> None:
        """Drops a damaged catalog: the next run begins with a new one.

        Raises:
            StopRule: the catalog cannot be used, and another one could not either.
        """
        self._catalogs_lost += 1
        where = self._state_dir or Path(tempfile.gettempdir())
        if self._catalogs_lost == CATALOGS or not is_damage(error, where):
            raise _unusable(where, error) from error
        if self._state_dir is not None:
            path = catalog_path(self._rule, self._state_dir)
            with own_disk(self._state_dir):
                drop_catalog(path)
            self._say(self._rule.name, Code.CATALOG_DAMAGED, damaged(str(path), str(error)))
        self.event = Event.CATALOG_LOST

    async def exhausted(self, error: OSError, ran_s: float) -> None:
        """Waits, since the exhausted resource may be available again soon. An error in the middle of a unit of work
        undoes all of it, so another run begins. `ran_s`: how long this one lasted.

        Raises:
            OSError: this error does not pass, or a single run has waited long enough.
        """
        if error.errno not in (*PASSING, errno.EIO) or (self._once and self._wait_s >= AGAIN_S[1]):
            raise error
        self.event = Event.RESTARTED
        self._wait_s = AGAIN_S[0] if ran_s > AGAIN_S[1] else min(self._wait_s * 2, AGAIN_S[1])
        cause = f"{error.strerror or error}; the rule starts again in {self._wait_s:.0f} s"
        self._say(self._rule.name, Code.SHORT, cause)
        await trio.sleep(self._wait_s * random.uniform(0.5, 1.0))  # noqa: S311 (jitter, not a secret)


def _unusable(where: Path, error: sqlite3.DatabaseError) -> StopRule:
    return StopRule(
        bilingual(f"the rule's catalog cannot be used: {error}", f"规则的目录库无法使用：{error}"),
        code=Code.STATE_UNUSABLE,
        obj=str(where),
    )
