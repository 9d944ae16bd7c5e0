"""A destination on this node."""

from __future__ import annotations

import datetime
import hashlib
import os
import shutil
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

from i2core.api import in_thread
from i2core.config.model import DriverChoice
from i2core.drivers.select import Drivers
from i2core.posix.identity import Standing
from i2core.posix.opening import DIRECTORY
from i2core.posix.path_text import shown
from i2core.recovery import destination
from i2core.recovery.destination import Forbidden
from i2core.recovery.end import End, Landing, There, Writing
from i2core.recovery.order import Extra
from i2core.recovery.writer import Receiver, in_own_process, in_this_process
from i2core.rule.backup.entry.secret import node_secret
from i2core.rule.backup.replica.position import known_positions
from i2core.rule.backup.service import forget_positions
from i2core.rule.life.report import Say

_FS = DriverChoice(name="fs")


class LocalEnd(End):
    """A directory of this node, which a process of its own writes."""

    def __init__(
        self,
        to: bytes,
        *,
        state_dir: Path,
        place: Path,
        say: Say,
        forbidden: Sequence[Forbidden] = (),
        sink: DriverChoice = _FS,
        drivers: Drivers | None = None,
    ) -> None:
        """`to`: an absolute directory; made if it is missing. `state_dir`: of this node, for its secret. `place`: for
        what an interrupted recovery leaves. `forbidden`: state, keys and journals of this node, and what running rules
        read or write. `sink`: the driver that writes. `drivers`: None for a process of its own that writes, with the
        drivers that are installed; otherwise it is written in this one."""
        self.to = to
        self._state_dir = state_dir
        self._place = place
        self._say = say
        self._forbidden = forbidden
        self._sink = sink
        self._drivers = drivers
        self._real = b""
        """The destination without symlinks, once it is checked."""
        self._aside: bytes | None = None

    async def check(self, landing: Landing) -> str:
        self._real = await in_thread(self._checked, landing)
        return shown(self._real)

    def _checked(self, landing: Landing) -> bytes:
        to = destination.checked(self.to, self._forbidden)
        destination.check_parts(to, landing.places, self._forbidden)
        there = destination.opened(to, flags=False)
        try:
            destination.check_shells(landing.shells, there)
        finally:
            if there is not None:
                there.close()
        return to

    @asynccontextmanager
    async def there(self, landing: Landing) -> AsyncIterator[There]:
        tree = await in_thread(partial(destination.opened, self._real, flags=landing.flags))
        try:
            yield There(tree, owns=os.geteuid() == 0)
        finally:
            if tree is not None:
                tree.close()

    @asynccontextmanager
    async def writing(self, landing: Landing) -> AsyncIterator[Writing]:
        self._aside = await in_thread(self._made, landing.extra)
        roots = (self._real,) if self._aside is None else (self._real, self._aside)
        secret = await in_thread(node_secret, self._state_dir)
        receiver = Receiver(roots=roots, sink=self._sink, place=self._under_way(), secret=secret)
        await in_thread(_forget_another, receiver.place, self._real)
        opening = (
            in_own_process(receiver, self._say)
            if self._drivers is None
            else in_this_process(receiver, self._drivers, self._say)
        )
        async with opening as connect:
            yield Writing(roots, connect)

    def _made(self, extra: Extra) -> bytes | None:
        """Makes the destination if it is missing, and where extra files are moved; returns the latter."""
        aside = None
        if extra is Extra.ASIDE:
            text = datetime.datetime.now(datetime.UTC).strftime("%Y%m%dT%H%M%SZ")
            aside = destination.aside_of(self._real, text)
        destination.make(self._real)
        if aside is not None:
            destination.make(aside)
        return aside

    def _under_way(self) -> Path:
        """State of the recovery to this destination until it is complete."""
        return self._place / "under-way" / hashlib.sha256(self._real).hexdigest()[:32]

    async def complete(self) -> str | None:
        await in_thread(partial(shutil.rmtree, self._under_way(), ignore_errors=True))
        if self._aside is None or not await in_thread(destination.has_anything, self._aside):
            return None
        return shown(self._aside)


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
