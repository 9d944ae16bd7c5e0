"""What every capture owes, held against a real file system: `check_capture`; and a capture that tests speak through.

The check lets another process work on two roots, one kind of change after the other and then many at once, and
follows the reports twice: by name (was each changed place named, or covered by a wider report?) and by a picture of
the trees that is kept by the reports alone (`HintedTree`).
"""

from __future__ import annotations

import os
import random
import tempfile
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import attrs
import cattrs
import trio

from i2core.api import Capture, CaptureContext, Change, DriverKind, DriverSpec, I2Error, Lost, NoConfig, Op, Place
from i2core.testing.application import Application, open_application
from i2core.testing.file_ops import Step
from i2core.testing.hinted import HintedTree, is_at_or_beneath

WITHIN_S = 15.0
"""How long a report may take; a capture that works needs milliseconds, one that scans needs its interval."""

_EXCLUDED = b"excluded"
_ODD_NAMES = (b"new\nline", b"\xff\xfe bad utf-8 \x80", b"n" * 255, b" blanks ", b"-rf", "名字".encode(), b"a\\b\t'\"")


# ------------------------------------------------------------------------------------------------ the twin


class ScriptedCapture(Capture):
    """A capture that reports what a test tells it, batch by batch::

    capture = ScriptedCapture()
    capture.tell(Change(Op.CREATE, Place(0, b"file")))
    """

    def __init__(self) -> None:
        self._send, self._receive = trio.open_memory_channel[Sequence[Change | Lost] | I2Error](1024)

    def tell(self, *items: Change | Lost) -> None:
        """The next batch."""
        self._send.send_nowait(items)

    def fail(self, error: I2Error) -> None:
        """After the batches told so far, `changes` raises this."""
        self._send.send_nowait(error)

    def spec(self, name: str = "scripted") -> DriverSpec:
        """A driver that always opens this capture."""

        @asynccontextmanager
        async def open_scripted(config: NoConfig, context: CaptureContext) -> AsyncIterator[Capture]:
            yield self

        return DriverSpec(kind=DriverKind.CAPTURE, name=name, summary="what a test tells", open=open_scripted)

    async def changes(self) -> AsyncIterator[Sequence[Change | Lost]]:
        """The batches told, in order; waits for more."""
        while True:
            batch = await self._receive.receive()
            if isinstance(batch, I2Error):
                raise batch
            yield batch


# ------------------------------------------------------------------------------------------------ the script


@attrs.frozen(kw_only=True)
class _Scene:
    """Steps that are done in one go, and the reports that they call for."""

    what: str
    steps: tuple[Step, ...]
    named: tuple[Place, ...] = ()
    """Places that a report must name or cover."""
    renames: tuple[tuple[Place, Place], ...] = ()
    """Old and new names that one RENAME must carry together."""
    never: tuple[Place, ...] = ()
    """Places that no report may name any more: they and all beneath have another name, or are out of the roots."""


def _scenes(roots: Sequence[bytes], outside: bytes) -> Iterator[_Scene]:
    """Every kind of change, in an order in which each builds on the ones before."""

    def at(root: int, path: bytes) -> tuple[Place, bytes]:
        return Place(root, path), os.path.join(roots[root], path)

    def scene(what: str, steps: Sequence[Step], *named: Place) -> _Scene:
        return _Scene(what=what, steps=tuple(steps), named=named)

    file, file_abs = at(0, b"file")
    yield scene("create a file", [("write", file_abs, b"one")], file)
    yield scene("append", [("append", file_abs, b" two")], file)
    yield scene("write in place", [("pwrite", file_abs, 1, b"N")], file)
    yield scene("truncate", [("truncate", file_abs, 2)], file)
    yield scene("grow by truncate", [("truncate", file_abs, 100_000)], file)
    yield scene("chmod a file", [("chmod", file_abs, 0o600)], file)
    yield scene("set times", [("utime", file_abs, (1_000_000, 1_000_000))], file)
    yield scene("set an xattr", [("setxattr", file_abs, b"user.i2check", b"value")], file)
    yield scene("chmod a root", [("chmod", roots[1], 0o750)], Place(1, b""))
    link, link_abs = at(0, b"hard link")
    yield scene("hard link", [("link", file_abs, link_abs)], link)
    yield scene("write through a hard link", [("append", link_abs, b"more")], link)
    symlink, symlink_abs = at(1, b"symlink")
    yield scene("symlink", [("symlink", b"file", symlink_abs)], symlink)
    yield scene("fifo", [("mkfifo", at(1, b"fifo")[1])], Place(1, b"fifo"))

    folder, folder_abs = at(0, b"dir")
    yield scene("mkdir", [("mkdir", folder_abs)], folder)
    yield scene("chmod a directory", [("chmod", folder_abs, 0o711)], folder)
    yield scene("a file in a new directory", [("write", folder_abs + b"/in", b"x")], Place(0, b"dir/in"))
    deep, deep_abs = at(1, b"p/q/r/s/t")
    yield scene(
        "mkdir -p and a file at its end, quickly",
        [("makedirs", deep_abs), ("write", deep_abs + b"/leaf", b"leaf")],
        *(Place(1, deep.path[:end]) for end in (1, 3, 5, 7, 9)),
        Place(1, deep.path + b"/leaf"),
    )
    yield scene("a write far down", [("append", deep_abs + b"/leaf", b"!")], Place(1, deep.path + b"/leaf"))
    for name in _ODD_NAMES:
        odd, odd_abs = at(0, b"dir/" + name)
        yield scene(f"odd name {name!r}", [("mkdir", odd_abs), ("write", odd_abs + b"/" + name, name)], odd)
        inside = Place(0, odd.path + b"/" + name)
        yield scene(f"write under odd name {name!r}", [("append", odd_abs + b"/" + name, name)], inside)

    moved, moved_abs = at(0, b"moved")
    yield _Scene(what="rename a file", steps=(("rename", link_abs, moved_abs),), renames=((link, moved),))
    yield _Scene(
        what="rename over a file",
        steps=(("rename", moved_abs, file_abs + b"2"),),
        renames=((moved, Place(0, b"file2")),),
    )
    yield _Scene(
        what="write to a new file and rename it over another",
        steps=(("write", file_abs + b"~", b"saved"), ("rename", file_abs + b"~", file_abs)),
        named=(file,),
        renames=((Place(0, b"file~"), file),),
    )
    across, across_abs = at(1, b"across")
    yield _Scene(
        what="rename to another root",
        steps=(("rename", file_abs + b"2", across_abs),),
        renames=((Place(0, b"file2"), across),),
    )

    yield scene("a tree", [("lone_tree", at(0, b"tree")[1], 6)], Place(0, b"tree"))
    tree, other = Place(0, b"tree"), Place(0, b"renamed tree")
    other_abs = at(0, other.path)[1]
    yield _Scene(what="rename a tree", steps=(("rename", at(0, b"tree")[1], other_abs),), renames=((tree, other),))
    below = b"/deeper" * 5 + b"/file"
    yield _Scene(
        what="write in a renamed tree",
        steps=(("append", other_abs + below, b"?"),),
        named=(Place(0, other.path + below),),
        never=(tree,),
    )
    home, home_abs = at(1, b"p/q/home")
    yield _Scene(
        what="rename a tree to another root, and write in it at once",
        steps=(("rename", other_abs, home_abs), ("append", home_abs + below, b"?"), ("write", home_abs + b"/n", b"")),
        named=(Place(1, home.path + below), Place(1, home.path + b"/n")),
        renames=((other, home),),
        never=(tree,),
    )
    swap = (at(1, b"p/q/r")[1], home_abs)
    yield _Scene(
        what="exchange two trees, and write in both",
        steps=(("exchange", *swap), ("write", swap[0] + b"/one", b"1"), ("write", swap[1] + b"/two", b"2")),
        named=(Place(1, b"p/q/r"), home, Place(1, b"p/q/r/one"), Place(1, home.path + b"/two")),
    )
    yield scene("an empty directory", [("mkdir", at(1, b"empty")[1])], Place(1, b"empty"))
    yield _Scene(
        what="rename a tree over an empty directory, and write in it",
        steps=(("rename", home_abs, at(1, b"empty")[1]), ("write", at(1, b"empty/three")[1], b"3")),
        named=(Place(1, b"empty/three"),),
        renames=((home, Place(1, b"empty")),),
    )

    gone_abs = outside + b"/outside-tree"
    yield _Scene(
        what="move a tree out",
        steps=(("rename", at(1, b"p/q")[1], gone_abs),),
        named=(Place(1, b"p/q"),),
    )
    yield _Scene(
        what="work outside the roots",
        steps=(
            ("write", gone_abs + b"/r/outside-1", b""),
            ("append", gone_abs + b"/r/file", b"x"),
            ("write", outside + b"/outside-2", b""),
            ("symlink", outside, at(0, b"trap")[1]),
            ("write", at(0, b"trap/outside-3")[1], b"through a symlink"),
        ),
        named=(Place(0, b"trap"),),
        never=(Place(1, b"p/q"),),
    )
    yield scene("move a file in", [("rename", outside + b"/outside-2", at(0, b"in")[1])], Place(0, b"in"))
    yield _Scene(
        what="move a tree in, and write in it at once",
        steps=(("rename", gone_abs, at(0, b"back")[1]), ("append", at(0, b"back/r/file")[1], b"y")),
        named=(Place(0, b"back"), Place(0, b"back/r/file")),
    )
    yield scene("write in the tree moved in", [("append", at(0, b"back/r/file")[1], b"z")], Place(0, b"back/r/file"))

    yield scene("unlink", [("unlink", file_abs)], file)
    yield scene("unlink a symlink", [("unlink", at(0, b"trap")[1])], Place(0, b"trap"))
    yield scene("remove a tree", [("rmtree", folder_abs)], folder)
    yield scene(
        "put a file where a directory was, and a directory where a file was",
        [("write", folder_abs, b"file now"), ("mkdir", file_abs), ("write", file_abs + b"/in", b"")],
        folder,
        Place(0, b"file/in"),
    )
    yield scene(
        "work in an excluded directory, and beside it",
        [
            ("mkdir", at(0, _EXCLUDED)[1]),
            ("write", at(0, _EXCLUDED + b"/x")[1], b""),
            ("write", at(0, b"beside")[1], b""),
        ],
        Place(0, b"beside"),
    )


def random_steps(roots: Sequence[bytes], count: int, rng: random.Random) -> list[Step]:
    """`count` steps that work on a few names again and again, so that they meet. Not among them: hard links, since
    a write through a name that is unlinked at once leaves no name by which to find the other links."""

    def path() -> bytes:
        return b"/".join([rng.choice(roots), *(rng.choice((b"a", b"b", b"c")) for _ in range(rng.randint(1, 3)))])

    makers: tuple[Callable[[], Step], ...] = (
        lambda: ("write", path(), b"%d" % rng.getrandbits(32)),
        lambda: ("append", path(), b"+"),
        lambda: ("chmod", path(), rng.choice((0o700, 0o755, 0o711))),
        lambda: ("makedirs", path()),
        lambda: ("lone_tree", path(), 3),
        lambda: ("symlink", rng.choice((b"a", b"b")), path()),
        lambda: ("rename", path(), path()),
        lambda: ("rename", path(), path()),
        lambda: ("exchange", path(), path()),
        lambda: ("unlink", path()),
        lambda: ("rmtree", path()),
    )
    return [("attempt", *rng.choice(makers)()) for _ in range(count)]


# ------------------------------------------------------------------------------------------------ the check


class _Listener:
    """Hears a capture, checks the shape of what it says, and keeps the picture."""

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
            assert isinstance(item.op, Op), f"op is no Op: {item}"
            assert (item.to is not None) == (item.op is Op.RENAME), f"`to` is for RENAME, and only for it: {item}"
            places += [item.to] if item.to is not None else []
        else:
            assert item.reason, f"a Lost without its reason: {item}"
        for root, path in places:
            assert 0 <= root < self._roots, f"there is no root {root}: {item}"
            assert isinstance(path, bytes), f"a path is bytes: {item}"
            bad = path and any(part in (b"", b".", b"..") for part in path.split(b"/"))
            assert not bad, f"a path is relative to its root, without empty, '.' or '..' parts: {item}"
            assert b"outside-" not in path, f"reported what is outside the roots: {item}"


def _covers(item: Change | Lost, place: Place) -> bool:
    wide = [item.place] if isinstance(item, Lost) else []
    if isinstance(item, Change):
        if place in (item.place, item.to):
            return True
        if item.is_dir and item.op in (Op.CREATE, Op.RENAME):
            wide = [item.to or item.place]
    return any(w.root == place.root and is_at_or_beneath(place.path, w.path) for w in wide)


def _missing(scene: _Scene, listener: _Listener, since: int) -> list[str]:
    """What the scene calls for and was not heard yet."""
    heard = listener.heard[since:]
    missing = [f"{p} was not named" for p in scene.named if not any(_covers(item, p) for item in heard)]
    for old, new in scene.renames:
        carried = any(isinstance(i, Change) and i.op is Op.RENAME and (i.place, i.to) == (old, new) for i in heard)
        lost = [i for i in heard if isinstance(i, Lost)]
        if not carried and not all(any(_covers(i, p) for i in lost) for p in (old, new)):
            missing.append(f"no RENAME carried {old} to {new}")
    return missing + listener.tree.differences()


def _refuse_stale(scene: _Scene, listener: _Listener, since: int) -> None:
    for item in listener.heard[since:]:
        for top in scene.never:
            stale = isinstance(item, Change) and item.place.root == top.root
            if stale and is_at_or_beneath(item.place.path, top.path):
                raise AssertionError(f"{scene.what}: reported by a name that is no longer theirs: {item}")


async def _play(scene: _Scene, app: Application, listener: _Listener) -> None:
    since = len(listener.heard)
    await app.do(*scene.steps)
    await _settle(scene, listener, since)
    _refuse_stale(scene, listener, since)


async def _settle(scene: _Scene, listener: _Listener, since: int) -> None:
    missing: list[str] = []
    with trio.move_on_after(WITHIN_S):
        while True:
            more = listener.more
            missing = _missing(scene, listener, since)
            if not missing:
                return
            await more.wait()
    heard = "\n  ".join(map(str, listener.heard[since:][-40:])) or "nothing"
    raise AssertionError(f"{scene.what}: within {WITHIN_S} s\n  " + "\n  ".join(missing) + f"\nheard:\n  {heard}")


def _open_fds() -> int:
    return len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0


async def check_capture(
    spec: DriverSpec, options: Mapping[str, Any] | None = None, *, workdir: Path | None = None
) -> None:
    """Holds a capture to its contract on real directories below `workdir` (default: a temporary directory), with
    the driver's `options` as they would stand in a config file. Takes a few seconds.

    Raises:
        AssertionError: the driver breaks its contract; the message names what was done and what was missing.
    """
    given = dict(spec.example if options is None else options)
    config: Any = cattrs.Converter(forbid_extra_keys=True).structure(given, spec.config)
    with _playground(workdir) as (context, outside):
        if spec.probe is not None:
            fds = _open_fds()
            found = spec.probe(context)
            assert found.works, f"the probe says that it does not work here: {found.why}"
            assert _open_fds() == fds, "the probe left open files behind"
        async with open_application() as app:
            fds = _open_fds()
            async with spec.open(config, context) as capture:
                await _check_scenes(capture, context, app, outside)
                await _check_cancelled(capture, context, app)
            assert _open_fds() == fds, "the driver left open files behind"
            await app.do(("write", context.roots[0] + b"/while-closed", b""))
            async with spec.open(config, context) as capture:
                await _check_burst(capture, context, app)


@contextmanager
def _playground(workdir: Path | None) -> Iterator[tuple[CaptureContext, bytes]]:
    """Two roots and a directory beside them, in a directory of their own that is removed in the end."""
    with tempfile.TemporaryDirectory(dir=workdir, prefix="capture-") as made:
        top = os.fsencode(os.path.realpath(made))
        roots = (top + b"/root0", top + b"/root1")
        outside = top + b"/outside"
        for path in (*roots, outside):
            os.mkdir(path)
        yield CaptureContext(roots=roots, wants_dir=lambda root, path: _EXCLUDED not in path.split(b"/")), outside


async def _check_scenes(capture: Capture, context: CaptureContext, app: Application, outside: bytes) -> None:
    listener = _Listener(context)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(listener.listen, capture)
        for scene in _scenes(context.roots, outside):
            await _play(scene, app, listener)
        nursery.cancel_scope.cancel()


async def _check_cancelled(capture: Capture, context: CaptureContext, app: Application) -> None:
    """`changes` may be cancelled and called again: what happened in between is not lost."""
    listener = _Listener(context)
    for attempt in range(3):
        path = b"after-cancel-%d" % attempt
        await app.do(("lone_tree", os.path.join(context.roots[0], path), 3))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(listener.listen, capture)
            scene = _Scene(what="changes before `changes` was called again", steps=(), named=(Place(0, path),))
            await _settle(scene, listener, 0)
            nursery.cancel_scope.cancel()


async def _check_burst(capture: Capture, context: CaptureContext, app: Application) -> None:
    """Many changes that meet each other: in the end all are known."""
    listener = _Listener(context)
    seed = random.SystemRandom().getrandbits(32)
    steps = random_steps(context.roots, 400, random.Random(seed))  # noqa: S311 (a test's dice)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(listener.listen, capture)
        await app.do(*steps)
        await _settle(_Scene(what=f"random steps, seed {seed}", steps=()), listener, 0)
        nursery.cancel_scope.cancel()
