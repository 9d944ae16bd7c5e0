"""Reports a mass delete that the backup node holds until it is released."""

from __future__ import annotations

from i2core.api import Code, I2Error, StopRule
from i2core.config.words import Bilingual, bilingual
from i2core.rule.life.life import Life
from i2core.rule.life.states import Event
from i2core.rule.source.source import Source
from i2core.rule.work.work_rule import WorkRule
from i2core.wire.messages import ROOT_GONE, Hold


class Holds:
    """The holds of one run."""

    def __init__(self, work: WorkRule, source: Source, life: Life) -> None:
        self._work = work
        self._source = source
        self._life = life
        self._reason = ""
        self.has_lost_a_root = False
        """The removal of a root was released: its replica is empty, which the catalog does not show."""

    def tell(self, hold: Hold) -> None:
        """The backup node holds something, or has released it.

        Raises:
            StopRule: it is held, and nobody can release it.
        """
        if hold.on and self._work.release_step and hold.reason != ROOT_GONE:
            raise StopRule(hold.reason, code=Code.MASS_DELETE_HELD, next_step=self._work.release_step)
        if hold.on:
            self._reason = hold.reason
            self._life.advance(Event.HELD, I2Error(hold.reason, code=Code.MASS_DELETE_HELD, next_step=self._step()))
            return
        if self._reason == ROOT_GONE:
            self.has_lost_a_root = True
            self._source.catalog.memory.keep(mirrored=False)
        self._life.advance(Event.RELEASED)
        self._source.say(self._source.rule, None, "released by the backup node")

    def _step(self) -> Bilingual:
        if self._work.release_step:
            return bilingual(
                "end this with Ctrl-C; when the source is back, run the same command again: it compares everything",
                "请按 Ctrl-C 结束；源目录恢复后再次执行同一命令，将重新比较全部内容",
            )
        rule, node = self._source.rule, self._work.peer.name
        return bilingual(
            f"if it is intended: i2 rule release {rule} on {node}; if not: restore the files, then on this node "
            f"i2 rule start {rule} --compare",
            f"若确属本意，请在 {node} 上执行 i2 rule release {rule}；若非本意，请恢复文件，并在本节点执行 "
            f"i2 rule start {rule} --compare",
        )
