"""`check_capture`: the contract of every capture, checked on a real file system; and a capture that tests can script.

The check has another process work on two roots, one kind of change after the other and then many at once. It checks the
reports in two ways. By name: was each changed place named, or covered by a wider report? And by a copy of the trees
that is updated from the reports alone (`HintedTree`).
"""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import cattrs
import trio

from i2core.api import Capture, CaptureContext, Change, DriverKind, DriverSpec, I2Error, Lost, NoConfig, Op, Place
from i2core.testing.application import Application, open_application
from i2core.testing.capture_scenes import EXCLUDED, Scene, Script, random_steps
from i2core.testing.hinted import HintedTree, is_at_or_beneath

WITHIN_S = 15.0
"""How long a report may take. An event capture needs milliseconds, a scan needs its interval."""


# ------------------------------------------------------------------------------------------------ the twin


class ScriptedCapture(Capture):
    """A capture that reports what a test passes to it, batch by batch::

    capture = ScriptedCapture()
    capture.tell(Change(Op.CREATE, Place(0, b"file")))
    """

    def __init__(self) -> None:
        self._send, self._receive = trio.open_memory_channel[Sequence[Change | Lost] | I2Error](1024)
        self._waiting = 0

    def tell(self, *items: Change | Lost) -> None:
        """Adds the next batch."""
        self._waiting += 1
        self._send.send_nowait(items)

    def unread(self) -> bool:
        return self._waiting > 0

    def fail(self, error: I2Error) -> None:
        """After the batches so far, `changes` raises this error."""
        self._send.send_nowait(error)

    def spec(self, name: str = "scripted") -> DriverSpec:
        """A driver that always opens this capture."""

        @asynccontextmanager
        async def open_scripted(config: NoConfig, context: CaptureContext) -> AsyncIterator[Capture]:
            yield self

        return DriverSpec(
            kind=DriverKind.CAPTURE, name=name, summary="reports what a test passes to it", open=open_scripted
        )

    async def changes(self) -> AsyncIterator[Sequence[Change | Lost]]:
        """Yields the batches in order, and waits for more."""
        while True:
            batch = await self._receive.receive()
            if isinstance(batch, I2Error):
                raise batch
            yield batch
            self._waiting -= 1


# ------------------------------------------------------------------------------------------------ the check


class _Listener:
    """Receives the reports of a capture, checks their form, and updates the copy of the trees."""

    def __init__(self, context: CaptureContext) -> None:
        self.heard: list[Change | Lost] = []
        self.tree = HintedTree(context.roots, context.wants_dir)
        self.more = trio.Event()
        self._roots = len(context.roots)

    async def listen(self, capture: Capture) -> None:
        async for batch in capture.changes():
            assert len(batch) > 0, "an empty batch"
            for item in batch:
                self._check_shape(item)
                self.tree.apply(item)
            self.heard += batch
            self.more.set()
            self.more = trio.Event()

    def _check_shape(self, item: Change | Lost) -> None:
        places = [item.place]
        if isinstance(item, Change):
            assert isinstance(item.op, Op), f"`op` is not an Op: {item}"
            assert (item.to is not None) == (item.op is Op.RENAME), (
                f"`to` must be set for RENAME, and for nothing else: {item}"
            )
            places += [item.to] if item.to is not None else []
        else:
            assert item.reason, f"a Lost without a reason: {item}"
        for root, path in places:
            assert 0 <= root < self._roots, f"there is no root {root}: {item}"
            assert isinstance(path, bytes), f"a path must be bytes: {item}"
            bad = path and any(part in (b"", b".", b"..") for part in path.split(b"/"))
            assert not bad, f"a path must be relative to its root, without empty, '.' or '..' parts: {item}"
            assert b"outside-" not in path, f"something outside of the roots was reported: {item}"


def _covers(item: Change | Lost, place: Place) -> bool:
    wide = [item.place] if isinstance(item, Lost) else []
    if isinstance(item, Change):
        if place in (item.place, item.to):
            return True
        if item.is_dir and item.op in (Op.CREATE, Op.RENAME):
            wide = [item.to or item.place]
    return any(w.root == place.root and is_at_or_beneath(place.path, w.path) for w in wide)


def _missing(scene: Scene, listener: _Listener, since: int) -> list[str]:
    """The reports that the scene requires and that have not arrived yet."""
    heard = listener.heard[since:]
    missing = [f"{p} was not reported" for p in scene.named if not any(_covers(item, p) for item in heard)]
    for old, new in scene.renames:
        carried = any(isinstance(i, Change) and i.op is Op.RENAME and (i.place, i.to) == (old, new) for i in heard)
        lost = [i for i in heard if isinstance(i, Lost)]
        if not carried and not all(any(_covers(i, p) for i in lost) for p in (old, new)):
            missing.append(f"no RENAME from {old} to {new} was reported")
    return missing + listener.tree.differences()


def _refuse_stale(scene: Scene, listener: _Listener, since: int) -> None:
    for item in listener.heard[since:]:
        for top in scene.never:
            stale = isinstance(item, Change) and item.place.root == top.root
            if stale and is_at_or_beneath(item.place.path, top.path):
                raise AssertionError(f"{scene.what}: reported under a name that is no longer valid: {item}")


async def _play(scene: Scene, app: Application, listener: _Listener) -> None:
    since = len(listener.heard)
    await app.do(*scene.steps)
    await _settle(scene, listener, since)
    _refuse_stale(scene, listener, since)


async def _settle(scene: Scene, listener: _Listener, since: int) -> None:
    missing: list[str] = []
    with trio.move_on_after(WITHIN_S):
        while True:
            more = listener.more
            missing = _missing(scene, listener, since)
            if not missing:
                return
            await more.wait()
    heard = "\n  ".join(map(str, listener.heard[since:][-40:])) or "nothing"
    raise AssertionError(f"{scene.what}: within {WITHIN_S} s\n  " + "\n  ".join(missing) + f"\nreports:\n  {heard}")


def _open_fds() -> int:
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0


async def check_capture(
    spec: DriverSpec, options: Mapping[str, Any] | None = None, *, workdir: Path | None = None
) -> None:
    """Checks the contract of a capture on real directories beneath `workdir` (default: a temporary directory), with the
    driver's `options` as in a config file. Takes a few seconds.

    Raises:
        AssertionError: the driver breaks its contract; the message says what was done and what was missing.
    """
    given = dict(spec.example if options is None else options)
    config: Any = cattrs.Converter(forbid_extra_keys=True).structure(given, spec.config)
    with _playground(workdir) as (context, outside):
        if spec.probe is not None:
            fds = _open_fds()
            found = spec.probe(context)
            assert found.works, f"according to the probe, the capture does not work here: {found.why}"
            assert _open_fds() == fds, "the probe left files open"
        async with open_application() as app:
            fds = _open_fds()
            async with spec.open(config, context) as capture:
                await _check_scenes(capture, context, app, outside)
                await _check_cancelled(capture, context, app)
            assert _open_fds() == fds, "the driver left files open"
            await app.do(("write", context.roots[0] + b"/while-closed", b""))
            async with spec.open(config, context) as capture:
                await _check_burst(capture, context, app)


@contextmanager
def _playground(workdir: Path | None) -> Iterator[tuple[CaptureContext, bytes]]:
    """Two roots and a directory beside them, in a directory that is removed at the end."""
    with tempfile.TemporaryDirectory(dir=workdir, prefix="capture-") as made:
        top = os.fsencode(os.path.realpath(made))
        roots = (top + b"/root0", top + b"/root1")
        outside = top + b"/outside"
        for path in (*roots, outside):
            os.mkdir(path)
        yield CaptureContext(roots=roots, wants_dir=lambda root, path: EXCLUDED not in path.split(b"/")), outside


async def _check_scenes(capture: Capture, context: CaptureContext, app: Application, outside: bytes) -> None:
    listener = _Listener(context)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(listener.listen, capture)
        for scene in Script(context.roots, outside).scenes():
            await _play(scene, app, listener)
        nursery.cancel_scope.cancel()


async def _check_cancelled(capture: Capture, context: CaptureContext, app: Application) -> None:
    """`changes` may be cancelled and called again: changes in between are not lost."""
    listener = _Listener(context)
    for attempt in range(3):
        path = b"after-cancel-%d" % attempt
        await app.do(("lone_tree", os.path.join(context.roots[0], path), 3))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(listener.listen, capture)
            scene = Scene(what="changes before `changes` was called again", steps=(), named=(Place(0, path),))
            await _settle(scene, listener, 0)
            nursery.cancel_scope.cancel()


async def _check_burst(capture: Capture, context: CaptureContext, app: Application) -> None:
    """Many changes of the same names at once: in the end all are reported."""
    listener = _Listener(context)
    seed = random.SystemRandom().getrandbits(32)
    steps = random_steps(context.roots, 400, random.Random(seed))  # noqa: S311 (a test's dice)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(listener.listen, capture)
        await app.do(*steps)
        await _settle(Scene(what=f"random steps, seed {seed}", steps=()), listener, 0)
        nursery.cancel_scope.cancel()
