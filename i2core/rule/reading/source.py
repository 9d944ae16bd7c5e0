"""What the work side of a rule works with: its trees, its filter, its catalog, and where failures are noted."""

from __future__ import annotations

import os
from collections.abc import Sequence

import attrs

from i2core.api import Code, Kind, Place, Record, StopRule
from i2core.api.entries import AttributesUnreadable
from i2core.config.model import OnError
from i2core.config.words import Spoken
from i2core.pipeline.chain import FilterChain
from i2core.pipeline.tree import SourceTree
from i2core.rule.line import Say
from i2core.rule.reading.catalog import Catalog
from i2core.rule.status import RuleStatus

_MAKES = frozenset({Kind.CREATE, Kind.MKDIR, Kind.SYMLINK, Kind.MKNOD, Kind.LINK, Kind.RENAME})
"""Records that give a name its object in one step."""


@attrs.frozen(kw_only=True)
class Source:
    """The work side's means, shared by mirror and live replication."""

    rule: str
    trees: Sequence[SourceTree]
    filter: FilterChain
    catalog: Catalog
    clean: bool = False
    """The run before ended in order."""
    key: str = ""
    """Names the rule's files on this node."""
    status: RuleStatus
    on_error: OnError
    say: Say

    def wants(self, place: Place, is_dir: bool) -> bool:
        """True when the rule protects the object."""
        return self.filter.empty or self.filter.wants(place, is_dir)

    def show(self, place: Place) -> str:
        """The place as an absolute path for people; bytes that are no text are escaped."""
        path = self.trees[place.root].path + (b"/" + place.path if place.path else b"")
        return os.fsdecode(path).encode("utf-8", "backslashreplace").decode()

    def superseding(self, place: Place, records: Sequence[Record]) -> list[Record]:
        """The records, which are about `place`. When they give it its object, what a transfer that was broken off has
        staged there goes: nobody goes on with that now."""
        if place not in self.catalog.staging or records[0].kind not in _MAKES:
            return list(records)
        self.catalog.end_staging(place)
        return [Record(Kind.REMOVE, place.root, place.path, staged=True), *records]

    def unreadable(self, place: Place, error: OSError, code: Code = Code.READ_SOURCE) -> None:
        """Notes an object that could not be read.

        Raises:
            StopRule: the rule says `on_error = "stop"`.
        """
        message = error.strerror or str(error)
        if isinstance(error, AttributesUnreadable):
            code = Code.READ_ATTRIBUTES
            name = error.filename
            place = place if place.path.rpartition(b"/")[2] == name else place.child(name)
        if self.on_error is OnError.STOP:
            step = Spoken.of(
                'let this node read it, exclude it, or set on_error = "log"',
                '允许本节点读取它，或将其排除，或设置 on_error = "log"',
            )
            raise StopRule(message, code=code, obj=self.show(place), next_step=step)
        self.status.skip(self.show(place), code, message)
        self.say(self.rule, code, f"{self.show(place)}: {message}; skipped")
