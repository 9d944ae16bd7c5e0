"""Recoveries to this node from a backup node: the side of the work node.

    asked for here        connect ─▶ RECOVER ─▶ answer until it has ended         again after a broken link
    ordered there         connect ─▶ WAIT ─▶ ORDER ─▶ answer until it has ended   again, as long as this node runs

This node connects and answers; the backup node reads the past and sends.
"""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import attrs
import trio

from i2core.api import Channel, ClientTransport, I2Error, LinkError, Peer, PeerRefused, ProtocolError
from i2core.config.model import PeerEntry
from i2core.config.places import beneath, real
from i2core.config.words import bilingual
from i2core.limits.throttle import Throttle
from i2core.node.daemon.forbidden import forbidden_places
from i2core.node.daemon.recovering import Show, waiting
from i2core.node.daemon.recovery_shape import sound, sound_progress
from i2core.node.pairing.peers import reach
from i2core.posix.path_text import as_path, shown
from i2core.recovery.destination import refused
from i2core.recovery.local_end import LocalEnd
from i2core.recovery.order import Extra
from i2core.recovery.remote.served import Note, Served
from i2core.recovery.tried import place_of
from i2core.rule.life.report import Line
from i2core.wire.frame import FrameStream, FrameType
from i2core.wire.messages import MOST_SEQ, dump
from i2core.wire.recovery import Recover, ToNode, Wait

if TYPE_CHECKING:
    from i2core.node.daemon.running import RunningNode

BACKOFF_S = (0.5, 30.0)
"""First and longest wait before another attempt."""


class RecoveryLink:
    """Connects to the recovery ports of backup nodes."""

    def __init__(self, node: RunningNode, transport: ClientTransport) -> None:
        self._node = node
        self._transport = transport

    # ------------------------------------------------------------------------------------------ asked for here

    async def recover(
        self,
        backup: str,
        asked: Recover,
        show: Show,
        begun: Callable[[int | None], Awaitable[None]],
        *,
        besides: Sequence[str] = (),
        resumed: bool = False,
    ) -> dict[str, Any]:
        """Recovers from a backup node; a link that breaks after it has begun is tried again until it is back, for the
        same moment. `begun` is called with the number of that moment (None: a snapshot) once the backup node has
        accepted, before anything is written. `besides`: rules whose sources may be written. `resumed`: it has begun
        before.

        Raises:
            I2Error: it is refused, or has failed.
            LinkError: there is no link, and it has not begun.
        """
        peer, wait_s, began_s = reach(self._node.config, backup), BACKOFF_S[0], trio.current_time()
        has_begun = resumed

        async def note(figures: Mapping[str, Any]) -> None:
            nonlocal has_begun, wait_s, asked
            has_begun, wait_s = True, BACKOFF_S[0]
            if "moment" not in figures:
                show(sound_progress(figures))
                return
            seq = figures.get("seq")
            if asked.snapshot is not None:
                await begun(None)
            elif type(seq) is int and 0 <= seq < MOST_SEQ:
                asked = attrs.evolve(asked, at=None, nearest=None, at_seq=seq)
                await begun(seq)
            else:
                raise ProtocolError("a moment without a number")

        said = False
        while True:
            try:
                return await self._attempt(peer, asked, note, besides)
            except PeerRefused:
                raise
            except LinkError as error:
                if not has_begun:
                    raise
                if not said:
                    self._node.logbook.say(asked.rule, error.code, Line.of(error, "recovery waits for the link: "))
                said = True
            show(waiting(began_s))
            await trio.sleep(wait_s * random.uniform(0.5, 1.0))  # noqa: S311 (jitter, not a secret)
            wait_s = min(2 * wait_s, BACKOFF_S[1])

    async def _attempt(self, peer: Peer, asked: Recover, note: Note, besides: Sequence[str]) -> dict[str, Any]:
        throttle = self._throttle(asked.rule, peer.name)
        await throttle.admit(1)  # with a limit of 0 it waits
        async with self._connected(peer) as frames:
            await frames.send(FrameType.RECOVER, dump(asked))
            end = self._end(as_path(asked.to), asked.rule, asked.peer or peer.name, besides)
            served = Served(frames, dial=partial(self._transport.connect, peer, Channel.RECOVERY), throttle=throttle)
            served.begin(end, Extra(asked.extra))
            return sound(await served.run(note), is_plan=asked.dry_run)

    def _throttle(self, rule: str, backup: str) -> Throttle:
        """The limits of the rule if it is this node's own, else those of the node."""
        own = any(one.name == rule and one.backup == backup for one in self._node.config.rules)
        return self._node.runners[rule].throttle if own else Throttle([self._node.limit])

    @asynccontextmanager
    async def _connected(self, peer: Peer) -> AsyncIterator[FrameStream]:
        frames = FrameStream(await self._transport.connect(peer, Channel.RECOVERY))
        try:
            yield frames
        finally:
            with trio.CancelScope(shield=True, deadline=trio.current_time() + 2):
                await frames.aclose()

    def _end(self, to: bytes, rule: str, peer: str, besides: Sequence[str]) -> LocalEnd:
        node = self._node
        return LocalEnd(
            to,
            state_dir=node.config.state_dir,
            place=place_of(node.config.state_dir, peer, rule),
            say=node.logbook.say,
            forbidden=forbidden_places(node, besides=besides),
        )

    # ------------------------------------------------------------------------------------------ ordered there

    async def wait_for_orders(self) -> None:
        """Waits at each backup node that may recover to this node, and carries out its orders, until cancelled."""
        role = self._node.config.work
        async with trio.open_nursery() as nursery:
            for entry in role.peers if role is not None else ():
                if entry.recover_into:
                    nursery.start_soon(self._wait_at, entry)

    async def _wait_at(self, entry: PeerEntry) -> None:
        said, wait_s = "", BACKOFF_S[0]
        while True:
            try:
                await self._one_order(reach(self._node.config, entry.name), entry)
                said, wait_s = "", BACKOFF_S[0]
                continue
            except (LinkError, ProtocolError) as error:
                line, code = Line.of(error, f"no recoveries ordered by {entry.name}: "), error.code
            except I2Error as error:
                line, code = Line.of(error, f"recovery ordered by {entry.name}: "), error.code
            if line != said:
                self._node.logbook.say("", code, line)
            said = str(line)
            await trio.sleep(wait_s * random.uniform(0.5, 1.0))  # noqa: S311 (jitter, not a secret)
            wait_s = min(2 * wait_s, BACKOFF_S[1])

    async def _one_order(self, peer: Peer, entry: PeerEntry) -> None:
        """Waits for an order, and carries it out.

        Raises:
            LinkError, ProtocolError: the link broke.
            I2Error: it is refused, or has failed.
        """
        async with self._connected(peer) as frames:
            await frames.send(FrameType.WAIT, dump(Wait()))
            order: list[ToNode] = []

            async def accept(wanted: ToNode) -> LocalEnd:
                to = as_path(wanted.to)
                await trio.to_thread.run_sync(_check_allowed, to, entry)
                self._node.logbook.say(
                    "", None, f"{peer.name} recovers rule {wanted.peer}/{wanted.rule} to {shown(to)}"
                )
                order.append(wanted)
                if not wanted.dry_run:
                    stack.enter_context(self._node.recoveries.written([to]))
                return self._end(to, wanted.rule, wanted.peer, ())

            dial = partial(self._transport.connect, peer, Channel.RECOVERY)
            with ExitStack() as stack:
                served = Served(frames, accept, dial=dial, throttle=Throttle([self._node.limit]))
                outcome = await served.run(_ignore)
            if order and not order[0].dry_run:
                equal = "equal" if sound(outcome, is_plan=False)["equal"] else "with differences"
                to = shown(as_path(order[0].to))
                self._node.logbook.say("", None, f"{peer.name} has recovered to {to}: {equal}")


async def _ignore(_figures: Mapping[str, Any]) -> None:
    """The backup node shows the progress."""


def _check_allowed(to: bytes, entry: PeerEntry) -> None:
    """
    Raises:
        UsageError: the backup node may not recover there (3571).
    """
    if not to.startswith(b"/") or not any(beneath(real(to), real(top)) for top in entry.recover_into):
        raise refused(
            to,
            bilingual(f"{entry.name} may not recover there", f"{entry.name} 无权恢复到此处"),
            bilingual(
                "name a directory beneath recover_into of the work node's [[work.peer]]",
                "请选择工作机 [[work.peer]] 的 recover_into 之内的目录",
            ),
        )
