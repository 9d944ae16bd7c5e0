"""A world whose frames are in a real journal, so that index and journal are thinned out together, and may be killed at
any step of it."""

from __future__ import annotations

import datetime
import random
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import Any, NamedTuple, SupportsIndex, TypeVar

import trio

from i2core.api.journal import Draft, Header, Journal, Piece, Position
from i2core.config.model import CdpRetention
from i2core.history.index.batches import Batch
from i2core.history.index.index import Index
from i2core.history.journal.frame import head_of, unpacked_chunk
from i2core.history.journal.take_in import take_in
from i2core.history.model.rows import DataWas
from i2core.history.retention.clock import SteadyClock
from i2core.history.retention.joint import agree
from i2core.history.retention.kept import Kept
from i2core.history.retention.pins import Pins
from i2core.history.retention.policy import DAY_NS, Days
from i2core.history.retention.state import kept_of
from i2core.history.retention.terms import Keeping, Terms
from i2core.history.retention.thinner import Thinner

from .world import World

T = TypeVar("T")
Open = Callable[[], AbstractAsyncContextManager[Journal]]
HOUR_NS = DAY_NS // 24


class Portal:
    """A journal that is open in an event loop of its own thread."""

    def __init__(self, opened: Open) -> None:
        self._opened, self._ready = opened, threading.Event()
        self._error: BaseException | None = None
        self.journal: Journal
        self._thread = threading.Thread(target=trio.run, args=(self._main,))
        self._thread.start()
        self._ready.wait()
        if self._error is not None:
            raise self._error

    async def _main(self) -> None:
        try:
            async with self._opened() as self.journal:
                self._token, self._end = trio.lowlevel.current_trio_token(), trio.Event()
                self._ready.set()
                await self._end.wait()
        except BaseException as error:
            self._error = error
            self._ready.set()

    def call(self, work: Callable[..., Awaitable[T]], *args: object) -> T:
        """The result of an async function that runs in the loop."""
        return trio.from_thread.run(work, *args, trio_token=self._token)

    def close(self) -> None:
        """Closes the journal."""
        trio.from_thread.run_sync(self._end.set, trio_token=self._token)
        self._thread.join()


class Killed(BaseException):
    """The process is killed here."""


class Fuse:
    """Kills after some steps; whatever is tried afterwards fails as well."""

    def __init__(self) -> None:
        self.left = 1 << 30
        self.steps = 0

    def burn(self) -> None:
        """One step."""
        self.left -= 1
        self.steps += 1
        if self.left < 0:
            raise Killed


class FusedJournal:
    """A journal that may be killed before and after each of its changes."""

    def __init__(self, journal: Journal, fuse: Fuse) -> None:
        self._journal, self._fuse = journal, fuse

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._journal, name)
        if name not in ("mark", "annotate", "drop", "roll", "use_reserve", "merge"):
            return found
        return self._merge if name == "merge" else self._fused(found)

    def _fused(self, work: Callable[..., Awaitable[T]]) -> Callable[..., Awaitable[T]]:
        async def fused(*args: object, **named: object) -> T:
            self._fuse.burn()
            done = await work(*args, **named)
            self._fuse.burn()
            return done

        return fused

    @asynccontextmanager
    async def _merge(self, run: Sequence[int]) -> AsyncIterator[Any]:
        async with self._journal.merge(run) as target:
            for name in ("write", "commit"):
                setattr(target, name, self._fused(getattr(target, name)))
            yield target


class Frames(list[tuple[int, int, bytes]]):
    """All frames of a world; those that are deleted are cut off from the journal."""

    def __init__(self, cut: Callable[[tuple[int, int, bytes]], None]) -> None:
        super().__init__()
        self._cut = cut

    def __delitem__(self, at: SupportsIndex | slice) -> None:
        gone = self[at] if isinstance(at, slice) else [self[at]]
        if gone:
            self._cut(gone[0])
        super().__delitem__(at)


class JournalOfWorld:
    """The journal of a world, for who does not run in an event loop."""

    def __init__(self, portal: Portal) -> None:
        self.portal = portal
        self.frames = Frames(self._cut)
        self._begins: dict[tuple[int, int], Position] = {}
        self._last_ns = 0

    @property
    def journal(self) -> Journal:
        return self.portal.journal

    def append(self, payload: bytes) -> tuple[int, int]:
        head = head_of(payload)
        first_ns = max(head.first_ns, self._last_ns)
        last_ns = first_ns + head.records if head.records else self.journal.segments[-1].last_ns
        header = Header(
            1, head.first_seq, head.records, first_ns if head.records else last_ns, last_ns, head.applied_ns
        )
        (placed,) = self.portal.call(self.journal.append, [Draft(header, payload)])
        place = placed.payload_at.segment, placed.payload_at.offset
        self._begins[place] = placed.at
        self.frames.append((*place, payload))
        return place

    def _cut(self, frame: tuple[int, int, bytes]) -> None:
        self.portal.call(self.journal.cut, self._begins[frame[:2]])

    def head(self, batch: Batch) -> bytes:
        return self._piece(batch.segment, batch.position, batch.size)

    def read(self, row: DataWas, lo: int, hi: int) -> bytes:
        chunk = unpacked_chunk(self._piece(row.segment, row.position, row.size))
        return chunk[row.skip + lo - row.lo : row.skip + hi - row.lo]

    def _piece(self, segment: int, position: int, size: int) -> bytes:
        return self.portal.call(self.journal.pieces, [Piece(Position(segment, position), size)])[0]


class Seq(NamedTuple):
    seq: int


class Time:
    """A clock that tests advance."""

    def __init__(self) -> None:
        self.steady = SteadyClock(1_790_000_000 * 10**9, b"", 0)

    def now_ns(self) -> int:
        return self.steady.now_ns

    def advance(self, passed_ns: int) -> None:
        self.steady = self.steady.read(self.steady.now_ns + passed_ns, b"", self.steady.running_ns + passed_ns)


class Joined(World):
    """See above. It is its own `Held`."""

    def __init__(self, rng: random.Random, directory: str, opened: Open, **options: Any) -> None:
        super().__init__(rng, directory, **options)
        self.opened, self.fuse, self.clock = opened, Fuse(), Time()
        self.pass_time(0)
        self.of_world = JournalOfWorld(Portal(opened))
        vars(self)["journal"] = self.of_world
        self.recorder = self
        self.terms = Terms(policy=CdpRetention(detailed_days=1, daily=2, monthly=1))

    def close(self) -> None:
        self.index.abandon()
        self.of_world.portal.close()

    def pass_time(self, passed_ns: int) -> None:
        self.clock.advance(passed_ns)
        self.applied_ns = self.clock.now_ns()

    # ------------------------------------------------------------------------------------------- as `Held`

    class _View:
        """The world as retention sees it."""

        def __init__(self, world: Joined) -> None:
            self._world = world
            self.journal: Any = FusedJournal(world.of_world.journal, world.fuse)
            self.index, self.replica, self.clock = world.index, world.disk, world.clock
            self.recorder = self
            self.broken: BaseException | None = None
            self.pins = Pins(world.kept)
            self.durable = Seq(world.durable)

        @asynccontextmanager
        async def at_rest(self) -> AsyncIterator[None]:
            yield

        @property
        @contextmanager
        def writing(self) -> Iterator[None]:
            self._world.fuse.burn()
            yield
            self._world.fuse.burn()

        def log(self) -> Any:
            return self._world.log()

    def retained(self, work: Callable[[Thinner], Awaitable[None]]) -> None:
        """The runner works; it begins anew each time, as after a restart."""
        view = self._View(self)

        async def run() -> None:
            thinner = await Thinner.begin(view, Keeping(terms=lambda: self.terms, days=Days(datetime.UTC)))
            await work(thinner)

        self.of_world.portal.call(run)

    def kept(self) -> Kept:
        return kept_of(self.of_world.journal)

    # ------------------------------------------------------------------------------------------- as `World`

    def _reopen(self) -> None:
        """As `World` has it; the journal is opened again as well."""
        self.index.abandon()
        self.of_world.portal.close()
        self.of_world.portal = Portal(self.opened)
        self.fuse.left = 1 << 30
        self.index = Index(self.directory, tail_rows=self.index.tail_rows, part_rows=self.index.parts.part_rows)
        self.now = self.index.now
        agree(self.index, self.of_world.journal.note)
        reach = self.now.synced if self.rng.random() < 0.5 else self.now.reach
        for segment, offset, payload in self.of_world.frames[reach[1] :]:
            take_in(self.index, payload, segment, offset)
