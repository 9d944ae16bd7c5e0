"""What retention needs of an open history: index, journal and replica, and how to work beside the records."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager
from typing import Protocol, TypeVar

from i2core.api.journal import Journal
from i2core.api.present import Replica
from i2core.api.threads import in_thread
from i2core.history.index.index import Index
from i2core.history.read.log import Log
from i2core.history.retention.clock import SteadyClock
from i2core.history.retention.pins import Pins

T = TypeVar("T")


class Certain(Protocol):
    """A position to which a crash takes the replica back."""

    @property
    def seq(self) -> int:
        """The last record before it."""


class Resting(Protocol):
    """Who plans records."""

    broken: BaseException | None
    """Why the history must be opened again; None: all is well."""

    def at_rest(self) -> AbstractAsyncContextManager[object]:
        """Within the body no record is planned that is not carried out, and none is planned."""


class Running(Protocol):
    """The steady clock, by which frames are planned."""

    @property
    def steady(self) -> SteadyClock:
        """As it was read last."""

    def now_ns(self) -> int:
        """Nanoseconds since the epoch; never goes back."""


class Held(Protocol):
    """An open history."""

    @property
    def index(self) -> Index:
        """To be used within `turn`, or where it says so."""

    @property
    def journal(self) -> Journal:
        """Makes its callers wait by itself."""

    @property
    def replica(self) -> Replica:
        """Changed in `Resting.at_rest` and within `turn`."""

    @property
    def recorder(self) -> Resting:
        """Who changes the replica."""

    @property
    def clock(self) -> Running:
        """The clock of this history."""

    @property
    def durable(self) -> Certain:
        """What is beyond may be taken back, so nothing of it is given up."""

    @property
    def pins(self) -> Pins:
        """Moments that are read just now."""

    @property
    def writing(self) -> AbstractContextManager[None]:
        """The turn to change the index; held in a worker thread, for some ten milliseconds, and never over an
        `await`."""

    def log(self) -> Log:
        """To be used within `turn`."""


async def turn(held: Held, work: Callable[[], T]) -> T:
    """The result of `work`, which runs in a worker thread and may change the index."""

    def worked() -> T:
        with held.writing:
            return work()

    return await in_thread(worked)
