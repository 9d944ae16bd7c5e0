"""A recovery whose destination is on another node: the conversation, its kept promises, and hostile ends of it."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
import trio.testing

from i2core.api import Code, I2Error, LinkError, ProtocolError, UsageError
from i2core.limits.throttle import Throttle
from i2core.posix.tree import LocalTree
from i2core.recovery.end import End
from i2core.recovery.engine import Recovery
from i2core.recovery.local_end import LocalEnd
from i2core.recovery.order import Extra, Order
from i2core.recovery.parts import Root, parts_of
from i2core.recovery.plan import What
from i2core.recovery.remote.caller import Caller
from i2core.recovery.remote.far_end import FarEnd
from i2core.recovery.remote.served import Served
from i2core.recovery.writer import socket_pair, stream_of
from i2core.tasks import background
from i2core.testing.trees import compare_trees
from i2core.wire.frame import FrameStream, FrameType
from i2core.wire.messages import dump, parse
from i2core.wire.recovery import ANSWER_BYTES, Call, Coming, Stream, ToNode

from .recovering import Sinks, Site

LIMIT_S = 60.0


def pair() -> tuple[FrameStream, FrameStream]:
    """Both ends of a connection."""
    one, other = socket_pair()
    return FrameStream(stream_of(one)), FrameStream(stream_of(other))


@attrs.define
class Far:
    """A destination behind a conversation."""

    site: Site
    extra: Extra = Extra.KEEP
    streams: dict[str, trio.Event] = attrs.field(factory=dict)
    arrived: dict[str, trio.abc.Stream] = attrs.field(factory=dict)
    cuts: list[trio.abc.Stream] = attrs.field(factory=list)

    def local(self) -> LocalEnd:
        """The destination, on the work node."""
        return LocalEnd(
            os.fsencode(self.site.to),
            state_dir=self.site.home / "work",
            place=self.site.home / "work" / "recoveries",
            say=self.site.say,
            drivers=Sinks(),
        )

    async def dial(self) -> trio.abc.Stream:
        """Another connection, of which the first message is read by a task of the backup node."""
        here, there = socket_pair()
        self.nursery.start_soon(self._take, stream_of(there))
        self.cuts.append(stream := stream_of(here))
        return stream

    async def _take(self, stream: trio.abc.Stream) -> None:
        frame = await FrameStream(stream).receive()
        assert frame is not None and frame.type is FrameType.STREAM
        ticket = parse(frame.payload, Stream).ticket
        self.arrived[ticket] = stream
        self.streams[ticket].set()

    async def ticketed(self, send: Callable[[str], Awaitable[None]]) -> trio.abc.Stream:
        """See `Ticketed`."""
        ticket = str(len(self.streams))
        self.streams[ticket] = trio.Event()
        await send(ticket)
        await self.streams[ticket].wait()
        return self.arrived[ticket]

    nursery: trio.Nursery = attrs.field(init=False)

    @asynccontextmanager
    async def end(self) -> AsyncIterator[End]:
        """The destination, as the backup node sees it."""
        work, backup = pair()
        caller = Caller(backup)
        served = Served(work, dial=self.dial, throttle=Throttle())
        served.begin(self.local(), self.extra)
        async with trio.open_nursery() as self.nursery:
            self.nursery.start_soon(caller.run)

            async def serve() -> None:
                await served.run(_ignore)

            self.nursery.start_soon(serve)
            yield FarEnd(os.fsencode(self.site.to), "web1", caller, self.ticketed)
            self.nursery.cancel_scope.cancel()


async def _ignore(_figures: Any) -> None:
    pass


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def _fill(top: Path) -> None:
    (top / "d" / "deep").mkdir(parents=True)
    for number in range(1200):
        (top / "d" / f"{number}").write_bytes(b"%d" % number)
    (top / "large").write_bytes(os.urandom(9_000_000))
    (top / os.fsdecode(b"bad\xffname")).write_bytes(b"x")
    (top / "link").symlink_to("d/deep")
    os.link(top / "large", top / "same")
    os.utime(top / "d" / "7", ns=(10**18, 10**18))


async def _run(site: Site, end: End, *chosen: bytes, plan: bool = False, **options: Any) -> Any:
    with ExitStack() as stack, trio.fail_after(LIMIT_S):
        tree = LocalTree(os.fsencode(site.source))
        stack.callback(tree.close)
        order = Order(rule="data1", moment="m", parts=parts_of([Root(tree=tree, path=tree.path)], chosen), **options)
        recovery = Recovery(order, end, place=site.place, say=site.say)
        if not plan:
            return await recovery.run()
        made = await recovery.plan()
        try:
            return {(item.path, item.what, item.size, item.newer) for item in made.page(most=1 << 30)}
        finally:
            made.close()


async def test_a_tree_is_recovered_to_another_node(site: Site) -> None:
    _fill(site.source)
    async with Far(site).end() as end:
        outcome = await _run(site, end)
    assert outcome.proved and outcome.to == f"web1:{site.to}"
    assert compare_trees(site.source, site.to) == []
    assert site.tried()[0].to == f"web1:{site.to}"
    assert not list((site.home / "work").rglob("under-way/*")) and not site.private()


@pytest.mark.parametrize("strict", [False, True])
async def test_a_plan_is_the_same_as_on_one_node(site: Site, strict: bool) -> None:
    _fill(site.source)
    shutil.copytree(site.source, site.to, symlinks=True)
    (site.to / "d" / "7").write_bytes(b"newer")
    (site.to / "d" / "9").unlink()
    (site.to / "extra" / "in it").mkdir(parents=True)
    content = (site.to / "large").read_bytes()
    (site.to / "large").write_bytes(content[:5_000_000] + b"spoiled" + content[5_000_007:])
    local = LocalEnd(os.fsencode(site.to), state_dir=site.home, place=site.place, say=site.say)
    wanted = await _run(site, local, plan=True, strict=strict, extra=Extra.DELETE)
    async with Far(site, Extra.DELETE).end() as end:
        found = await _run(site, end, plan=True, strict=strict, extra=Extra.DELETE)
    assert found == wanted
    assert (b"d/7", What.REPLACE) in {(path, what) for path, what, _, _ in found}
    assert (site.to / "extra").exists()


async def test_extra_files_are_moved_aside_there(site: Site) -> None:
    (site.source / "f").write_bytes(b"f")
    site.to.mkdir()
    (site.to / "extra").write_bytes(b"e")
    async with Far(site, Extra.ASIDE).end() as end:
        outcome = await _run(site, end, extra=Extra.ASIDE)
    assert outcome.aside.startswith(f"web1:{site.to}.extra-")
    assert [path.name for path in site.to.iterdir()] == ["f"]


async def test_a_refused_destination_says_why(site: Site) -> None:
    (site.source / "f").write_bytes(b"f")
    site.to.write_bytes(b"a file")
    async with Far(site).end() as end:
        with pytest.raises(UsageError) as caught:
            await _run(site, end)
    assert caught.value.code is Code.ILLEGAL_PATH
    assert "is not a directory" in caught.value.cause


async def test_a_cut_link_leaves_what_the_next_attempt_continues(site: Site) -> None:
    _fill(site.source)
    far = Far(site)

    async def cut() -> None:
        while not site.to.exists() or len(list(site.to.rglob("*"))) < 50:
            await trio.testing.wait_all_tasks_blocked()
            await trio.lowlevel.checkpoint()
        await trio.aclose_forcefully(far.cuts[0])

    with pytest.RaisesGroup(LinkError, flatten_subgroups=True, allow_unwrapped=True):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(cut)
            async with far.end() as end:
                await _run(site, end)
    assert compare_trees(site.source, site.to)
    async with Far(site).end() as end:
        assert (await _run(site, end)).proved
    assert compare_trees(site.source, site.to) == []


# ------------------------------------------------------------------------------------------ hostile ends


COMING = Coming(rule="r", places=[""], shells=[], extra="keep", flags=False)


@pytest.mark.parametrize(
    "calls",
    [
        [Call(what="erase")],
        [Call(what="there")],
        [Call(what="write")],
        [Call(what="check")],
        [Call(what="check", coming=attrs.evolve(COMING, extra="delete"))],
        [Call(what="check", coming=COMING), Call(what="check", coming=COMING)],
        [Call(what="check", coming=COMING), Call(what="stream", ticket="t")],
        [Call(what="check", coming=COMING), Call(what="written")],
        [Call(what="check", coming=COMING), Call(what="directory")],
        *(
            [Call(what="check", coming=COMING), Call(what="there"), last]
            for last in (
                Call(what="directory", path="../"),
                Call(what="directory", path="a/../../etc"),
                Call(what="lookup", path="/etc/passwd"),
                Call(what="digest", path="../secret"),
                Call(what="more", number=9),
                Call(what="look", number=1, names=["f"]),
            )
        ),
    ],
    ids=str,
)
async def test_what_a_backup_node_may_not_ask(site: Site, calls: list[Call]) -> None:
    site.to.mkdir()
    (site.home / "secret").write_bytes(b"secret")
    work, backup = pair()
    far = Far(site)
    served = Served(work, dial=far.dial, throttle=Throttle())
    served.begin(far.local(), Extra.KEEP)
    with pytest.RaisesGroup(ProtocolError, flatten_subgroups=True), trio.fail_after(LIMIT_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(served.run, _ignore)
            for number, call in enumerate(calls, 1):
                await backup.send(FrameType.CALL, dump(call), ident=number)
    assert not list(site.to.iterdir())


async def test_directories_that_are_opened_are_bounded_and_symlinks_lead_nowhere(site: Site) -> None:
    site.to.mkdir()
    (site.to / "many").mkdir()
    for number in range(1001):
        (site.to / "many" / f"{number}").touch()
    (site.to / "way").symlink_to("/etc")
    async with Far(site).end() as end:
        assert isinstance(end, FarEnd)
        caller = end._caller
        await caller.call(Call(what="check", coming=COMING))
        await caller.call(Call(what="there"))
        with pytest.raises(OSError) as caught:
            await caller.call(Call(what="directory", path="way"))
        assert caught.value.errno in (errno.ENOTDIR, errno.ELOOP)
        for _ in range(16):
            assert (await caller.call(Call(what="directory", path="many")))["whole"] is False
        with pytest.RaisesGroup(ProtocolError, flatten_subgroups=True, allow_unwrapped=True):
            async with Far(site).end() as other:
                assert isinstance(other, FarEnd)
                await other._caller.call(Call(what="check", coming=COMING))
                await other._caller.call(Call(what="there"))
                for _ in range(17):
                    await other._caller.call(Call(what="directory", path="many"))


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"[]",
        b"{",
        b'{"errno": "no"}',
        b'{"is_there": true}' + b" " * ANSWER_BYTES,
        json.dumps({"to": 5}).encode(),
    ],
    ids=["nothing", "list", "torn", "errno", "long", "kind"],
)
async def test_what_a_work_node_may_not_answer(site: Site, answer: bytes) -> None:
    work, backup = pair()
    caller = Caller(backup)
    (site.source / "f").touch()

    async def lie() -> None:
        frame = await work.receive()
        assert frame is not None
        await work.send(FrameType.ANSWER, answer, ident=frame.ident)

    end = FarEnd(b"/to", "web1", caller, Far(site).ticketed)
    with pytest.raises(ProtocolError), trio.fail_after(LIMIT_S):
        async with background() as nursery:
            nursery.start_soon(caller.run)
            nursery.start_soon(lie)
            await _run(site, end)


@pytest.mark.parametrize("kind", [FrameType.ANSWER, FrameType.BATCH, FrameType.CALL, FrameType.OUTCOME])
async def test_what_nobody_has_asked_for_ends_the_conversation(kind: FrameType) -> None:
    work, backup = pair()
    await work.send(kind, b"{}", ident=1)
    with pytest.raises(ProtocolError), trio.fail_after(LIMIT_S):
        await Caller(backup).run()


async def test_an_order_that_is_not_accepted_is_answered_with_the_reason(site: Site) -> None:
    work, backup = pair()
    caller = Caller(backup)

    async def accept(order: ToNode) -> End:
        raise UsageError("not there", code=Code.ILLEGAL_PATH, obj=order.to)

    served = Served(work, accept, dial=Far(site).dial, throttle=Throttle())
    errors: list[I2Error] = []

    async def noted(run: Callable[[], Awaitable[Any]]) -> None:
        try:
            await run()
        except I2Error as error:
            errors.append(error)

    with trio.fail_after(LIMIT_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(noted, caller.run)
            nursery.start_soon(noted, lambda: served.run(_ignore))
            await caller.tell(FrameType.ORDER, attrs.asdict(ToNode(to="/x", rule="r", peer="p")))
    assert [(type(error), error.cause, error.obj) for error in errors] == [(UsageError, "not there", "/x")] * 2


async def test_a_silent_work_node_is_given_up(autojump_clock: trio.testing.MockClock) -> None:
    here, _there = trio.testing.memory_stream_pair()
    with pytest.raises(LinkError, match="has sent nothing"):
        await Caller(FrameStream(here)).run()
