"""The receiving end of a recovery: a backup role for one destination, in a process of its own or in this one.

It has its own small state: the position of the destination, by which an interrupted recovery finds its staging files
again. The two ends are connected by socket pairs, so that what one end sends waits in the kernel until the other one
reads it.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import trio

from i2core.api import Channel, Code, LinkError, StopRule
from i2core.config.model import BackupRole, DriverChoice
from i2core.config.words import bilingual
from i2core.drivers.select import Drivers
from i2core.posix.path_text import as_path, as_text
from i2core.recovery.end import Connect
from i2core.rule.backup.service import BackupService
from i2core.rule.life.report import Say
from i2core.tasks import background

MESSAGE_BYTES = 1 << 16
"""Longest message on the socket between the two processes."""
_END_S = 60.0
"""How long the receiving end may take to make its last records durable when its streams are closed."""
_DYING_S = 5.0
"""How long to wait for the status of a process whose streams have broken."""
_BUFFER_BYTES = 4 << 20
_NODE = "recovery"


@attrs.frozen(kw_only=True)
class Receiver:
    """What the receiving end serves."""

    roots: tuple[bytes, ...]
    """The destination, and where extra files are moved. Both are there."""
    sink: DriverChoice
    place: Path
    """For its state."""
    secret: bytes = attrs.field(repr=False)

    def service(self, drivers: Drivers, say: Say) -> BackupService:
        """The backup role."""
        role = BackupRole(listen="127.0.0.1", plaintext=True, allow_roots=self.roots, sink=self.sink)
        return BackupService(role, registry=drivers, state_dir=self.place, say=say, node=_NODE, secret=self.secret)

    def encode(self) -> bytes:
        """As a message."""
        fields = {
            "roots": [as_text(root) for root in self.roots],
            "sink": self.sink.name,
            "options": dict(self.sink.options),
            "place": as_text(os.fsencode(self.place)),
            "secret": self.secret.hex(),
        }
        return json.dumps(fields).encode()

    @staticmethod
    def decode(message: bytes) -> Receiver:
        """The message again."""
        fields: dict[str, Any] = json.loads(message)
        return Receiver(
            roots=tuple(as_path(root) for root in fields["roots"]),
            sink=DriverChoice(name=fields["sink"], options=fields["options"]),
            place=Path(os.fsdecode(as_path(fields["place"]))),
            secret=bytes.fromhex(fields["secret"]),
        )


@asynccontextmanager
async def in_this_process(receiver: Receiver, drivers: Drivers, say: Say) -> AsyncIterator[Connect]:
    """The receiving end in this process, with these drivers. It has ended when the body has."""
    service = receiver.service(drivers, say)
    async with background() as nursery:
        ends: list[trio.Event] = []

        async def serve(stream: trio.abc.Stream, ended: trio.Event) -> None:
            try:
                await service.handle(stream, Channel.MIRROR, None)
            finally:
                ended.set()

        async def connect() -> trio.abc.Stream:
            here, there = socket_pair()
            ended = trio.Event()
            ends.append(ended)
            nursery.start_soon(serve, stream_of(there), ended)
            return stream_of(here)

        yield connect
        with trio.move_on_after(_END_S):
            for ended in ends:
                await ended.wait()


@asynccontextmanager
async def in_own_process(receiver: Receiver, say: Say) -> AsyncIterator[Connect]:
    """The receiving end as a process of its own, with the drivers that are installed. It has ended when the body has.

    Raises:
        StopRule: it ended before.
    """
    control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with control:
        with theirs:
            command = [sys.executable, "-P", "-m", "i2core.recovery.child"]
            process = await trio.lowlevel.open_process(command, stdin=theirs.fileno(), stdout=subprocess.DEVNULL)
        try:
            control.send(receiver.encode())
            async with background() as nursery:
                nursery.start_soon(_relay, control, say)
                nursery.start_soon(_watch, process)

                async def connect() -> trio.abc.Stream:
                    here, there = socket_pair()
                    with there:
                        try:
                            socket.send_fds(control, [b"stream"], [there.fileno()])
                        except OSError as error:
                            here.close()
                            raise _ended(await process.wait()) from error
                    return stream_of(here)

                yield connect
        except LinkError as error:
            with trio.move_on_after(_DYING_S):
                raise _ended(await process.wait()) from error
            raise
        finally:
            control.close()
            with trio.CancelScope(shield=True):
                with trio.move_on_after(_END_S):
                    await process.wait()
                if process.returncode is None:
                    process.kill()
                    await process.wait()


async def _watch(process: trio.Process) -> None:
    """
    Raises:
        StopRule: the process has ended, before anybody wanted it to.
    """
    raise _ended(await process.wait())


async def _relay(control: socket.socket, say: Say) -> None:
    """Passes on the log lines of the other process until it ends."""
    while True:
        await trio.lowlevel.wait_readable(control)
        try:
            message = control.recv(MESSAGE_BYTES, socket.MSG_DONTWAIT)
        except BlockingIOError:
            continue
        except ConnectionError:
            return
        if not message:
            return
        fields = json.loads(message)
        say(fields["rule"], None if fields["code"] is None else Code(fields["code"]), fields["line"])


def _ended(status: int) -> StopRule:
    how = signal.Signals(-status).name if status < 0 else f"exit code {status}"
    return StopRule(
        bilingual(f"the process that writes the destination has ended: {how}", f"写入目标的进程已结束：{how}"),
        code=Code.INTERNAL,
        next_step=bilingual("run the same recovery again: it continues", "请再次执行同一恢复：将从中断处继续"),
    )


def socket_pair() -> tuple[socket.socket, socket.socket]:
    """Two connected ends, whose buffers take a payload in few pieces."""
    ends = socket.socketpair()
    for end in ends:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
    return ends


def stream_of(end: socket.socket) -> trio.SocketStream:
    """The stream of one end."""
    return trio.SocketStream(trio.socket.from_stdlib_socket(end))
