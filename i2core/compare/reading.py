"""Opens the two sides of a compare: the source's trees, and a session that only asks."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import attrs
import trio

from i2core.api import Channel, ClientTransport, FilterContext, Place, UsageError
from i2core.compare.places import source_path
from i2core.config.model import OnError
from i2core.config.words import bilingual
from i2core.drivers.select import Drivers, open_codecs, open_filters
from i2core.limits.throttle import ThrottledStream
from i2core.posix.path_text import shown
from i2core.rule.catalog.catalog import Catalog
from i2core.rule.life.status import RuleStatus
from i2core.rule.source.source import Source
from i2core.rule.work.hello import hello
from i2core.rule.work.known_roots import KnownRoots
from i2core.rule.work.opening import ROOTS, catalog_path, open_trees
from i2core.rule.work.work_rule import WorkRule
from i2core.wire.batch import SeqCounter, no_time
from i2core.wire.session import Session, open_session


@attrs.frozen(kw_only=True)
class Ends:
    """What both sides are opened with."""

    work: WorkRule
    drivers: Drivers
    transport: ClientTransport
    state_dir: Path
    """Where the rule's catalog is, and what is known of its roots."""

    def shown(self, place: Place) -> str:
        """The path of a place on the source, for people."""
        return shown(source_path(self.work.rule.pairs, place))

    @asynccontextmanager
    async def source(self, status: RuleStatus) -> AsyncIterator[Source]:
        """The rule's trees and filters, with a catalog that knows nothing.

        Raises:
            UsageError: the rule was never mirrored.
            StopRule: a source cannot be opened, or is not the directory that was mirrored.
        """
        rule = self.work.rule
        roots = KnownRoots(catalog_path(rule, self.state_dir).with_suffix(ROOTS))
        async with contextlib.AsyncExitStack() as stack:
            trees = open_trees(rule, stack)
            looked = await trio.to_thread.run_sync(partial(roots.look, trees, accept=False))
            if not looked.known:
                raise UsageError(
                    bilingual("the rule has not been mirrored yet", "该规则尚未镜像"),
                    obj=rule.name,
                    next_step=bilingual("start it first: i2 rule start", "请先启动该规则：i2 rule start"),
                )
            context = FilterContext(roots=tuple(tree.path for tree in trees))
            filters = await stack.enter_async_context(open_filters(self.drivers, rule.filters, context))
            catalog = Catalog(None)
            stack.callback(partial(catalog.close, clean=False))
            yield Source(
                rule=rule.name,
                trees=trees,
                filter=filters,
                catalog=catalog,
                status=status,
                on_error=OnError.LOG,
                say=_nothing,
            )

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Session]:
        """A session that asks the backup node and changes nothing there.

        Raises:
            LinkError, ProtocolError: the link broke, here or later in the body.
            StopRule: the backup node refused.
        """
        work = self.work
        greeting = hello(work.rule, Channel.COMPARE, work.epoch, self.drivers)
        connected = await self.transport.connect(work.peer, Channel.MIRROR)
        stream, seqs = ThrottledStream(connected, work.throttle), SeqCounter(1, no_time)
        async with (
            open_codecs(self.drivers, work.rule.codecs, work.rule.name) as codecs,
            open_session(stream, greeting, codecs, seqs, on_ack=_ignored, on_hold=_ignored) as session,
        ):
            yield session


def _ignored(_message: object) -> None:
    """Nothing is sent that could be acknowledged or held."""


def _nothing(_rule: str, _code: object, _line: str) -> None:
    """What cannot be read is in the result."""
