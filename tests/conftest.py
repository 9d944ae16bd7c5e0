"""Two nodes in one process, for tests of a whole rule: the real engine, sink and captures on real directories.

`open_pair` gives a `Pair` whose rule runs; a test changes its sources, waits until everything is replicated, and
compares.
"""

from __future__ import annotations

import os
import time
from collections.abc import AsyncIterator, Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from i2core.api import (
    Applied,
    Ask,
    Batch,
    Capture,
    CaptureContext,
    Change,
    Channel,
    Code,
    DriverKind,
    DriverSpec,
    Failure,
    Kind,
    Lost,
    NoConfig,
    Peer,
    Place,
    Record,
    Seen,
    Sink,
    SinkContext,
    TransportContext,
)
from i2core.config.model import (
    BackupRole,
    Brake,
    DriverChoice,
    MirrorOptions,
    OrphanAction,
    Orphans,
    Rule,
    Verify,
)
from i2core.config.model import (
    Pair as PathPair,
)
from i2core.drivers.scan import SCAN
from i2core.registry import Registry
from i2core.rule.backup.service import BackupService
from i2core.rule.life.status import RuleStatus
from i2core.rule.work.runner import run_rule
from i2core.rule.work.work_rule import WorkRule
from i2core.testing.memory_net import MemoryNet
from i2core.testing.trees import compare_trees, differing

SETTLE_S = 60.0
"""A rule that needs longer than this to come to rest does not come to rest."""
FENCE = b"fence"


class Faults:
    """A fault of the sink: each time it is armed, one record of the next batches is not applied."""

    def __init__(self) -> None:
        self.armed: Callable[[Record], bool] | None = None
        self.failed: list[Record] = []

    def pick(self, batch: Batch) -> int | None:
        """The index of the record that fails in this batch."""
        if self.armed is not None:
            for index, record in enumerate(batch.records):
                if self.armed(record):
                    self.armed = None
                    self.failed.append(record)
                    return index
        return None


class FaultySink(Sink):
    """A sink that skips a record and reports that its place needs repair."""

    def __init__(self, inner: Sink, faults: Faults) -> None:
        self._inner = inner
        self._faults = faults
        self.owns = inner.owns

    async def apply(self, batch: Batch) -> Applied:
        index = self._faults.pick(batch)
        if index is None:
            return await self._inner.apply(batch)
        before = await self._inner.apply(Batch(batch.first_seq, batch.records[:index]))
        seq, record = batch.first_seq + index, batch.records[index]
        paths = {record.path, record.other} if record.kind is Kind.RENAME else {record.path}
        failures = tuple(
            Failure(seq, Place(record.root, path), Code.OPEN_REPLICA, "failed on purpose", repair=True)
            for path in paths
        )
        behind = await self._inner.apply(Batch(seq + 1, batch.records[index + 1 :]))
        return Applied(batch.last_seq, (*before.failures, *failures, *behind.failures))

    async def flush(self) -> None:
        await self._inner.flush()

    async def look(self, asks: Sequence[Ask]) -> list[Seen]:
        return await self._inner.look(asks)

    async def tidy(self, place: Place, staged: Collection[bytes]) -> bool:
        return await self._inner.tidy(place, staged)

    async def unstage(self, places: Sequence[Place]) -> None:
        await self._inner.unstage(places)

    async def hashes(self, place: Place, first: int, count: int, *, staged: bool = False) -> bytes:
        return await self._inner.hashes(place, first, count, staged=staged)

    async def hashes_of(self, places: Sequence[Place], most: int) -> list[bytes]:
        return await self._inner.hashes_of(places, most)

    async def count(self, place: Place, limit: int) -> int:
        return await self._inner.count(place, limit)

    async def set_aside(self, place: Place, destination: bytes) -> None:
        await self._inner.set_aside(place, destination)


class TappedCapture(Capture):
    """A real capture, to whose reports a test can add others."""

    def __init__(self, changes: trio.MemoryReceiveChannel[Sequence[Change | Lost]]) -> None:
        self._changes = changes

    async def changes(self) -> AsyncIterator[Sequence[Change | Lost]]:
        async for batch in self._changes:
            yield batch


class TestDrivers:
    """The installed drivers, with `TappedCapture` and `FaultySink`."""

    __test__ = False

    def __init__(self, capture: str) -> None:
        self._registry = Registry.load()
        self.faults = Faults()
        self.opened = trio.Event()
        self.tap: trio.MemorySendChannel[Sequence[Change | Lost]]
        sink = self._registry.driver(DriverKind.SINK, "fs")
        real = SCAN if capture == "scan" else self._registry.driver(DriverKind.CAPTURE, capture)
        self._sink = attrs.evolve(sink, open=partial(self._open_sink, sink))
        self._capture = attrs.evolve(real, open=partial(self._open_capture, real))

    def driver(self, kind: DriverKind, name: str, /) -> DriverSpec:
        if kind is DriverKind.SINK:
            return self._sink
        return self._capture if kind is DriverKind.CAPTURE else self._registry.driver(kind, name)

    def drivers(self, kind: DriverKind, /) -> Mapping[str, DriverSpec]:
        return self._registry.drivers(kind)

    @asynccontextmanager
    async def _open_sink(self, real: DriverSpec, config: Any, context: SinkContext) -> AsyncIterator[Sink]:
        async with real.open(config, context) as sink:
            yield FaultySink(sink, self.faults)

    @asynccontextmanager
    async def _open_capture(self, real: DriverSpec, config: Any, context: CaptureContext) -> AsyncIterator[Capture]:
        send, receive = trio.open_memory_channel[Sequence[Change | Lost]](100)

        async def pump(capture: Capture) -> None:
            async for batch in capture.changes():
                await send.send(batch)

        async with real.open(config, context) as capture, trio.open_nursery() as nursery:
            self.tap = send
            self.opened.set()
            if real is not SCAN:  # a scan is driven by the test, so that it comes when it is waited for
                nursery.start_soon(pump, capture)
            yield TappedCapture(receive)
            nursery.cancel_scope.cancel()


@attrs.define
class Pair:
    """A work node and a backup node, connected in memory; the rule `rule` runs from `sources` to `targets`."""

    home: Path
    rule: Rule
    drivers: TestDrivers
    net: MemoryNet
    nursery: trio.Nursery
    sources: list[Path]
    targets: list[Path]
    fenced: bool
    """False: another program works on the sources, and marks by its own fence what must be replicated."""
    lines: list[str] = attrs.field(factory=list)
    status: RuleStatus = attrs.field(init=False)
    service: BackupService = attrs.field(init=False)
    """The backup node that runs."""
    _work: trio.CancelScope = attrs.field(init=False)
    _backup: trio.CancelScope = attrs.field(init=False)
    _ended: trio.Event = attrs.field(init=False)
    _ports: dict[Channel, int] = attrs.field(init=False)
    _fences: int = 0

    # ------------------------------------------------------------------------------------------ life and death

    async def start_backup(self) -> None:
        """Starts a backup node that knows only its position files."""
        self._backup, self._ports = await self.nursery.start(self._serve)

    async def _serve(self, *, task_status: trio.TaskStatus[tuple[trio.CancelScope, dict[Channel, int]]]) -> None:
        role = BackupRole(listen="127.0.0.1", plaintext=True, allow_roots=tuple(map(_raw, self.targets)))
        service = self.service = BackupService(
            role, registry=self.drivers, state_dir=self.home / "backup", say=self._say
        )
        async with self.net.server_spec().open(NoConfig(), _PLAIN) as server:
            with trio.CancelScope() as scope:
                async with trio.open_nursery() as nursery:
                    serve = partial(server.serve, "127.0.0.1", dict.fromkeys(Channel, 0), service.handle)
                    task_status.started((scope, await nursery.start(serve)))

    async def start_work(self) -> None:
        """Starts the rule, with the catalog of its last run."""
        self.status = RuleStatus(name=self.rule.name)
        self.drivers.opened = trio.Event()
        self._work = await self.nursery.start(self._run)

    async def _run(self, *, task_status: trio.TaskStatus[trio.CancelScope]) -> None:
        self._ended = trio.Event()
        async with self.net.client_spec().open(NoConfig(), _PLAIN) as client:
            peer = Peer(name="backup", host="127.0.0.1", ports=self._ports, fingerprint=None)
            with trio.CancelScope() as scope:
                task_status.started(scope)
                await run_rule(
                    WorkRule(rule=self.rule, peer=peer, cache_dir=self.home / "cache"),
                    registry=self.drivers,
                    transport=client,
                    status=self.status,
                    state_dir=self.home / "work",
                    once=False,
                    say=self._say,
                )
        self._ended.set()

    def _say(self, rule: str, code: Code | None, line: str) -> None:
        self.lines.append(f"{time.monotonic():.3f} {code.value if code else '-'} {line}")

    async def stop_work(self) -> None:
        """Ends the rule in the middle of its work."""
        self._work.cancel()
        await self._ended.wait()

    async def restart_backup(self) -> None:
        """Stops the backup node and starts it again; the rule reconnects by itself."""
        self._backup.cancel()
        self.net.cut()
        ports = self._ports
        await self.start_backup()
        ports.update(self._ports)

    def cut(self) -> None:
        """Breaks every connection; data in flight are lost."""
        self.net.cut()

    async def lose(self, place: Place) -> None:
        """The capture reports that it lost the events beneath `place`."""
        await self._tell(Lost(place, "lost on purpose"))

    async def _tell(self, *changes: Change | Lost) -> None:
        await self.drivers.opened.wait()
        await self.drivers.tap.send(changes)

    # ------------------------------------------------------------------------------------------ rest

    async def rescan(self) -> None:
        """Compares all roots with the catalog."""
        await self._tell(*(Lost(Place(root, b""), "a rescan") for root in range(len(self.sources))))

    async def settle(self) -> None:
        """Returns when all changes of the sources before the call are durable on the replica.

        It writes a fence file: captures report in order, so when the fence is replicated, everything before it has been
        reported.
        """
        try:
            with trio.fail_after(SETTLE_S):
                self._fences += 1
                text = b"%d" % self._fences
                for source in self.sources if self.fenced else ():
                    await trio.to_thread.run_sync((source / FENCE.decode()).write_bytes, text)
                if self.rule.capture.name == "scan":
                    await self.rescan()
                for source, target in zip(self.sources, self.targets, strict=True):
                    text = await trio.to_thread.run_sync((source / FENCE.decode()).read_bytes)
                    while not _reads(target / FENCE.decode(), text):  # noqa: ASYNC110 (a file has no event)
                        await trio.sleep(0.01)
                since = time.monotonic_ns()
                while self.status.settled_ns <= since:  # noqa: ASYNC110 (nor has a status)
                    await trio.sleep(0.01)
        except trio.TooSlowError:
            raise AssertionError(f"the rule does not settle: {self.status}\n" + "\n".join(self.lines[-30:])) from None

    def differences(self) -> list[str]:
        """The differences of the replicas, root by root."""
        found = []
        for source, target in zip(self.sources, self.targets, strict=True):
            found += [f"{source.name}: {line}" for line in compare_trees(source, target)]
        return found

    def differing_inodes(self) -> set[int | None]:
        """The source's inodes in which the replicas differ; None for an object that no source has."""
        found: set[int | None] = set()
        for source, target in zip(self.sources, self.targets, strict=True):
            for path, _ in differing(source, target):
                try:
                    found.add(os.lstat(os.fsencode(source) + b"/" + path).st_ino)
                except FileNotFoundError:
                    found.add(None)
        return found

    async def check(self) -> None:
        """Settles, and checks that the replicas equal the sources."""
        await self.settle()
        found = self.differences()
        assert not found, "\n".join(found) + "\n--\n" + "\n".join(self.lines[-30:])


_PLAIN = TransportContext(certificate=None, key=None, peers={}, plaintext=True)


def _raw(path: Path) -> bytes:
    return str(path).encode()


def _reads(path: Path, text: bytes) -> bool:
    try:
        return path.read_bytes() == text
    except OSError:
        return False


OpenPair = Callable[..., AbstractAsyncContextManager[Pair]]


@pytest.fixture
def open_pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OpenPair]:
    """``open_pair(capture="inotify", roots=1, start=True)``: a running pair in `tmp_path`. `prepare` is called with the
    sources before the rule starts."""
    monkeypatch.setattr("i2core.rule.work.progress.TICK_S", 0.02)
    monkeypatch.setattr("i2core.rule.work.runner.BACKOFF_S", (0.02, 0.1))

    @asynccontextmanager
    async def opened(
        *,
        capture: str = "inotify",
        roots: int = 1,
        prepare: Callable[[list[Path]], None] = lambda sources: None,
        home: Path = tmp_path,
        sources: list[Path] | None = None,
        targets: list[Path] | None = None,
        fenced: bool = True,
        codecs: tuple[DriverChoice, ...] = (),
        **options: Any,
    ) -> AsyncIterator[Pair]:
        sources = sources or [home / f"source{root}" for root in range(roots)]
        targets = targets or [home / f"target{root}" for root in range(roots)]
        for path in (*sources, *targets):
            path.mkdir(parents=True, exist_ok=True)
        prepare(sources)
        rule = Rule(
            name="tested",
            backup="backup",
            pairs=tuple(PathPair(source=_raw(s), target=_raw(t)) for s, t in zip(sources, targets, strict=True)),
            capture=DriverChoice(name=capture),
            mirror=MirrorOptions(verify=Verify.STRICT),
            orphans=Orphans(action=OrphanAction.DELETE),
            brake=Brake(share=1.0),
            codecs=codecs,
            rescan_s=0,
        )
        rule = attrs.evolve(rule, **options)
        async with trio.open_nursery() as nursery:
            pair = Pair(home, rule, TestDrivers(capture), MemoryNet(), nursery, sources, targets, fenced)
            await pair.start_backup()
            await pair.start_work()
            yield pair
            nursery.cancel_scope.cancel()

    yield opened
