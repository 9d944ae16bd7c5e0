"""The sessions of one recovery with its receiving end."""

from __future__ import annotations

import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import attrs

from i2core import __version__
from i2core.api import Channel
from i2core.config.model import Brake
from i2core.drivers.chain import CodecChain
from i2core.drivers.select import Drivers
from i2core.posix.identity import Standing
from i2core.posix.opening import DIRECTORY
from i2core.posix.path_text import as_text
from i2core.recovery.ends import Connect, Receiver, in_own_process, in_this_process
from i2core.recovery.order import Order
from i2core.rule.backup.replica.position import known_positions
from i2core.rule.backup.service import forget_positions
from i2core.rule.life.report import Say
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


@asynccontextmanager
async def receiving(
    order: Order, receiver: Receiver, *, flags: bool, drivers: Drivers | None, say: Say
) -> AsyncIterator[Receiving]:
    """The receiving end for a destination, which is there. What an interrupted recovery to the same directory left in
    `Receiver.place` is continued. `drivers`: as in `Recovery`."""
    to, *others = receiver.roots
    _forget_another(receiver.place, to)
    hello = Hello(
        protocol=FLAGS_PROTOCOL if flags else PROTOCOL_VERSION,
        version=__version__,
        rule=order.rule,
        channel=Channel.MIRROR.value,
        epoch=1,
        targets=[as_text(to)],
        codecs=[],
        orphans=OrphanPolicy(action=order.extra.action.value, to=as_text(others[0]) if others else None),
        # Whoever asks for a recovery has asked for what it removes.
        brake=limits_of(Brake(share=1.0)),
        inode_flags=flags,
    )
    opening = in_own_process(receiver, say) if drivers is None else in_this_process(receiver, drivers, say)
    async with opening as connect:
        yield Receiving(hello, connect)


def _forget_another(place: Path, to: bytes) -> None:
    """Forgets the position of a directory that had this path before: the person has named this one."""
    fd = os.open(to, DIRECTORY)
    try:
        now = Standing.of(fd)
    finally:
        os.close(fd)
    try:
        known = {
            path: root for each in known_positions(place / "positions") for path, root in each.identities().items()
        }
        is_same = not known or Standing.decode(known[to]).here.is_same(now.here)
    except (KeyError, ValueError):
        is_same = False
    if not is_same:
        forget_positions(place)


def forget(place: Path) -> None:
    """Removes the state of a recovery that is complete."""
    shutil.rmtree(place, ignore_errors=True)


def _never_held(hold: Hold) -> None:
    raise AssertionError(f"a recovery has no brake: {hold.reason}")
