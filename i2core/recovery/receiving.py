"""The sessions of one recovery with its receiving end."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs

from i2core import __version__
from i2core.api import Channel
from i2core.config.model import Brake
from i2core.drivers.chain import CodecChain
from i2core.posix.path_text import as_text
from i2core.recovery.end import Connect, Landing, Writing
from i2core.wire.batch import SeqCounter
from i2core.wire.messages import FLAGS_PROTOCOL, PROTOCOL_VERSION, Ack, Hello, Hold, OrphanPolicy, limits_of
from i2core.wire.session import Session, open_session


@attrs.define
class Receiving:
    """Opens sessions, one after the other."""

    _hello: Hello
    _connect: Connect
    failures: list[Ack] = attrs.field(factory=list, init=False)
    """Acks of the last session that report failed records."""
    _seqs: SeqCounter = attrs.field(factory=SeqCounter, init=False)

    @asynccontextmanager
    async def session(self) -> AsyncIterator[Session]:
        """A session until the body ends.

        Raises:
            StopRule: the destination cannot be written any more, for example because its disk is full.
            LinkError: the receiving end has ended.
        """
        self.failures = []
        stream = await self._connect()
        async with open_session(
            stream, self._hello, CodecChain(()), self._seqs, on_ack=self._acked, on_hold=_never_held
        ) as session:
            yield session

    def _acked(self, ack: Ack) -> None:
        if ack.failures:
            self.failures.append(ack)


def receiving(landing: Landing, writing: Writing) -> Receiving:
    """The sessions with a destination that is being written."""
    to, *others = writing.roots
    hello = Hello(
        protocol=FLAGS_PROTOCOL if landing.flags else PROTOCOL_VERSION,
        version=__version__,
        rule=landing.rule,
        channel=Channel.MIRROR.value,
        epoch=1,
        targets=[as_text(to)],
        codecs=[],
        orphans=OrphanPolicy(action=landing.extra.action.value, to=as_text(others[0]) if others else None),
        # Whoever asks for a recovery has asked for what it removes.
        brake=limits_of(Brake(share=1.0)),
        inode_flags=landing.flags,
    )
    return Receiving(hello, writing.connect)


def _never_held(hold: Hold) -> None:
    raise AssertionError(f"a recovery has no brake: {hold.reason}")
