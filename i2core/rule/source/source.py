"""The resources of a rule's work side: its trees, filter, catalog, and the report of failures."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import attrs

from i2core.api import Code, Entry, Kind, Place, Record, StopRule
from i2core.api.inode_flags import CARRIED, LETTERED, letters_of
from i2core.api.records import MAKING
from i2core.api.tree import AttributesUnreadable, Opened, Tree
from i2core.config.model import OnError, OrphanAction
from i2core.config.words import bilingual
from i2core.drivers.chain import FilterChain
from i2core.posix.errnos import PASSING
from i2core.posix.path_text import shown
from i2core.rule.catalog.catalog import Catalog
from i2core.rule.life.report import Say
from i2core.rule.life.status import RuleStatus
from i2core.rule.source.passing import Passing, PutOff

_MAKES = MAKING | {Kind.RENAME}
"""Records that give a name its object in one step."""


@attrs.frozen(kw_only=True)
class Source:
    """The resources of the work side, shared by mirror and live replication."""

    rule: str
    trees: Sequence[Tree]
    filter: FilterChain
    catalog: Catalog
    key: str = ""
    """Prefix of the rule's files on this node."""
    keep_roots: Callable[[], None] = lambda: None
    """Notes that these very directories are mirrored from now on; blocks."""
    status: RuleStatus
    on_error: OnError
    orphans: OrphanAction = OrphanAction.KEEP
    """What becomes of names that only the replica has."""
    say: Say
    passing: Passing = attrs.field(factory=Passing)
    """Places that cannot be read now."""
    holds_back: Callable[[Place, Entry], bool] = lambda place, entry: False
    """True for a file whose content has changed while size and time have not, so that it is not to be sent."""
    flags_named: set[str] = attrs.field(factory=set)
    """Inode flags that were already reported as not replicated."""

    def wants(self, place: Place, is_dir: bool) -> bool:
        """True when the rule protects the object."""
        return self.filter.empty or self.filter.wants(place, is_dir)

    def show(self, place: Place) -> str:
        """The place as an absolute path for people; bytes that are no text are escaped."""
        path = self.trees[place.root].path + (b"/" + place.path if place.path else b"")
        return shown(path)

    def name_flags(self, place: Place, opened: Opened) -> None:
        """Logs flags of the open object at `place` that are not replicated, each flag once."""
        flags = opened.kernel_flags() & LETTERED
        if flags and self.trees[place.root].flags:
            flags &= ~CARRIED
        if flags:
            letters = set(letters_of(flags)) - self.flags_named
            if letters:
                self.flags_named.update(letters)
                shown, code = "".join(sorted(letters)), Code.FLAGS_LEFT
                line = f"{self.show(place)}: {code.text.en}: +{shown} ({code.text.next_en}; reported once)"
                self.say(self.rule, code, line)

    def superseding(self, place: Place, records: Sequence[Record]) -> list[Record]:
        """The records for `place`. If they put an object there, they also remove the staging file of an interrupted
        transfer, which will not be continued."""
        if place not in self.catalog.staging or records[0].kind not in _MAKES:
            return list(records)
        self.catalog.staging.end(place)
        return [Record(Kind.REMOVE, place.root, place.path, staged=True), *records]

    @contextmanager
    def job(self) -> Iterator[None]:
        """A job on all trees (`Tree.job`)."""
        with ExitStack() as stack:
            for tree in self.trees:
                stack.enter_context(tree.job())
            yield

    def rest(self) -> None:
        """Nothing is read for now: closes the roots where possible."""
        for tree in self.trees:
            tree.rest()

    def unreadable(self, place: Place, error: OSError, code: Code = Code.READ_SOURCE) -> None:
        """Notes an object that could not be read. After a passing error it is checked again, and the rule does not
        stop.

        Raises:
            StopRule: the rule says `on_error = "stop"`.
        """
        message = error.strerror or str(error)
        if error.errno in PASSING:
            self.passing.put_off(PutOff(place, message, error.errno))
            return
        if isinstance(error, AttributesUnreadable):
            code = Code.READ_ATTRIBUTES
            name = error.filename
            # The error of a directory that was opened itself has no name.
            place = place if name in (b"", place.path.rpartition(b"/")[2]) else place.child(name)
        if self.on_error is OnError.STOP:
            step = bilingual(
                'let this node read it, exclude it, or set on_error = "log"',
                '允许本节点读取它，或将其排除，或设置 on_error = "log"',
            )
            raise StopRule(message, code=code, obj=self.show(place), next_step=step)
        if error.errno == errno.EIO:  # a disk, or the way to it, may come back
            self.passing.put_off(PutOff(place, message, error.errno))
        if self.status.skip(self.show(place), code, message):
            self.say(self.rule, code, f"{self.show(place)}: {message}; skipped")
