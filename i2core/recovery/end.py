"""The end of a recovery that is written: where it is, on this node or on another one, is nobody else's business.

check ─▶ there                     a plan: the destination is only read
check ─▶ writing ─▶ complete       a recovery: sessions write it, one after the other
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple

import attrs
import trio

from i2core.api.tree import Tree
from i2core.recovery.order import Extra

Connect = Callable[[], Awaitable[trio.abc.Stream]]
"""A new stream to the process that writes the destination."""


@attrs.frozen(kw_only=True)
class Landing:
    """What comes to a destination, as far as it must know before."""

    rule: str
    places: tuple[bytes, ...]
    """Where parts come to, as paths beneath it; empty: it becomes a part as a whole."""
    shells: tuple[bytes, ...]
    """The directories that only lead to parts."""
    extra: Extra
    flags: bool
    """Inode flags are recovered as well."""


class There(NamedTuple):
    """The destination as it stands."""

    tree: Tree | None
    """None: there is none yet."""
    owns: bool
    """Who writes it can set owners."""


class Writing(NamedTuple):
    """A destination that is being written."""

    roots: tuple[bytes, ...]
    """The destination without symlinks, and where extra files are moved, if they are."""
    connect: Connect


class End(ABC):
    """One destination, for one recovery."""

    to: bytes
    """What people call it."""

    @abstractmethod
    async def check(self, landing: Landing) -> str:
        """The destination without symlinks, for people. Nothing is written.

        Raises:
            UsageError: nothing may be recovered there.
            LinkError: its node cannot be reached.
        """

    @abstractmethod
    def there(self, landing: Landing) -> AbstractAsyncContextManager[There]:
        """The destination, to be read until the body ends.

        Raises:
            UsageError: it cannot be opened.
        """

    @abstractmethod
    def writing(self, landing: Landing) -> AbstractAsyncContextManager[Writing]:
        """Makes the destination if it is missing, and writes it until the body ends; then what was written is durable.
        What an interrupted recovery left there is continued.

        Raises:
            UsageError: it cannot be made.
            StopRule: another process writes it, or the process that writes it has ended.
            LinkError: the link to its node broke.
        """

    @abstractmethod
    async def complete(self) -> str | None:
        """After `writing`: nothing is to be continued any more. Returns where extra files were moved, for people; None:
        there were none."""
