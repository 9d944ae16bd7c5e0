"""The backup role of one command in a child process, connected by socket pairs instead of a network.

Two processes, because both roles keep a core busy and one interpreter runs one thread at a time: copying on one host
is about 1.7 times as fast as with two threads. They use the session protocol of nodes.

The child is forked before trio runs and before any thread exists; when the parent closes its streams or dies, the
child reads end-of-file and ends by itself.
"""

from __future__ import annotations

import itertools
import json
import os
import select
import signal
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

import attrs
import trio

from i2core.api import DATA_CHANNELS, Channel, ClientTransport, Code, I2Error, Peer, StopRule, StreamHandler, UsageError
from i2core.config.words import bilingual
from i2core.node.daemon.faults import as_i2error
from i2core.node.oneshot.lifeline import die_with_parent
from i2core.rule.life.report import Say

MakeHandler = Callable[[Say], StreamHandler]
"""Builds the backup role in the child; the argument takes its log lines."""

_SO_SNDBUFFORCE = 32  # socket(7); not in the socket module
BUFFER_BYTES = 4 << 20
"""Requested for each direction; without privilege the kernel grants at most net.core.wmem_max."""
END_S = 15.0
"""How long the child may take to flush its records after its streams are closed."""
_LINE_CHARS = 4000
Sockets = dict[Channel, list[socket.socket]]
SESSIONS = {Channel.REPLICATION: 1, Channel.MIRROR: 3}
"""When the disk is full, a mirror frees space in a separate session, and starts again."""


def _enlarge(end: socket.socket) -> None:
    """Makes the buffers large, so that a payload is sent in few pieces: each costs both processes a turn of their event
    loops."""
    try:
        end.setsockopt(socket.SOL_SOCKET, _SO_SNDBUFFORCE, BUFFER_BYTES)
    except PermissionError:
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)


def _is_closed(end: socket.socket) -> bool:
    """True when the other end is closed; nothing is read."""
    try:
        return not end.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)
    except BlockingIOError:
        return False
    except ConnectionError:
        return True


class LocalTransport(ClientTransport):
    """Returns the streams to the child, a fixed number for each channel: as many as sessions can occur in one run."""

    def __init__(self, sockets: Sockets, backup: BackupProcess) -> None:
        self._sockets = {channel: deque(ends) for channel, ends in sockets.items()}
        self._backup = backup

    async def connect(self, peer: Peer, channel: Channel) -> trio.abc.Stream:
        """The stream of `channel`.

        Raises:
            StopRule: none is left; the cause is how the child ended.
        """
        ends = self._sockets[channel]
        if not ends or _is_closed(ends[0]):
            raise await self._backup.fate()
        return trio.SocketStream(trio.socket.from_stdlib_socket(ends.popleft()))


@attrs.define
class BackupProcess:
    """The child process, as managed by the parent."""

    pid: int
    pidfd: int
    reports: socket.socket
    sockets: Sockets
    transport: LocalTransport = attrs.field(init=False)
    _reported: I2Error | None = attrs.field(default=None, init=False)
    _silent: bool = attrs.field(default=False, init=False)
    _ended: os.waitid_result | None = attrs.field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self.transport = LocalTransport(self.sockets, self)

    async def relay(self, say: Say) -> None:
        """Passes the child's log lines on to `say` until it ends or this is cancelled."""
        while not self._silent:
            await trio.lowlevel.wait_readable(self.reports)
            self._take_report(say)

    async def fate(self) -> I2Error:
        """The error to raise when the backup role has ended. Waits a few seconds for the child's end."""
        with trio.move_on_after(END_S):
            await trio.lowlevel.wait_readable(self.pidfd)
        while self._take_report(lambda rule, code, line: None):
            pass
        if self._reported is not None:
            return self._reported
        self._reap(os.WEXITED | os.WNOHANG)
        if self._ended is not None and (self._ended.si_code, self._ended.si_status) == (os.CLD_EXITED, 0):
            return StopRule(
                bilingual(
                    "the connections to the backup process were given up, and it has ended",
                    "与灾备进程的连接已放弃，该进程已结束",
                ),
                code=Code.NETWORK,
                next_step=bilingual(
                    "the messages before this one tell why: remove the cause, then run the command again; it resumes",
                    "原因见此前的消息：排除后再次执行该命令，将从此处继续",
                ),
            )
        return StopRule(
            f"the backup process {self._cause()}", code=Code.INTERNAL, next_step="run the command again; it resumes"
        )

    def close(self) -> None:
        """Closes the streams and waits for the child's end; kills it when it hangs."""
        for end in itertools.chain(*self.sockets.values()):
            end.close()
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        if not poll.poll(END_S * 1000):
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)
        self._reap(os.WEXITED)
        self.reports.close()
        os.close(self.pidfd)

    def _take_report(self, say: Say) -> bool:
        """Reads one report; False if there is none now. Records the end of the reports."""
        try:
            raw = self.reports.recv(1 << 16, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return False
        except ConnectionError:
            raw = b""
        if not raw:
            self._silent = True
            return False
        report = json.loads(raw)
        code = None if report["code"] is None else Code(report["code"])
        if report["kind"] == "error":
            kind = UsageError if report["usage"] else StopRule
            self._reported = kind(report["line"], code=code, obj=report["obj"], next_step=report["next"])
        else:
            say(report["rule"], code, report["line"])
        return True

    def _reap(self, options: int) -> None:
        if self._ended is None:
            self._ended = os.waitid(os.P_PIDFD, self.pidfd, options)

    def _cause(self) -> str:
        if self._ended is None:
            return "does not answer"
        if self._ended.si_code == os.CLD_EXITED:
            return f"ended with exit code {self._ended.si_status}"
        return f"was ended by {signal.Signals(self._ended.si_status).name}"


@contextmanager
def backup_process(make_handler: MakeHandler) -> Iterator[BackupProcess]:
    """Forks the backup role; at the end of the block it has always ended.

    Call it in the main thread, before `trio.run` and before anything starts a thread.
    """
    pairs = {channel: [socket.socketpair() for _ in range(SESSIONS[channel])] for channel in DATA_CHANNELS}
    for end in itertools.chain(*itertools.chain(*pairs.values())):
        _enlarge(end)
    own_ends: Sockets = {channel: [own for own, _ in ends] for channel, ends in pairs.items()}
    other_ends: Sockets = {channel: [other for _, other in ends] for channel, ends in pairs.items()}
    # One message for each report, so that a report arrives whole or not at all.
    reports, child_reports = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    parent = os.getpid()
    sys.stdout.flush()  # otherwise both processes would print the buffered output
    sys.stderr.flush()
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            reports.close()
            for own in itertools.chain(*own_ends.values()):
                own.close()
            status = _be_backup(parent, other_ends, child_reports, make_handler)
        finally:
            # The child must not end anything of the parent: temporary directories, at-exit calls, open contexts.
            os._exit(status)
    child_reports.close()
    for other in itertools.chain(*other_ends.values()):
        other.close()
    backup = BackupProcess(pid, os.pidfd_open(pid), reports, own_ends)
    try:
        yield backup
    finally:
        backup.close()


# ------------------------------------------------------------------------------------------- in the child


def _be_backup(parent: int, sockets: Sockets, reports: socket.socket, make_handler: MakeHandler) -> int:
    # Ctrl-C reaches the whole foreground group; the parent decides, and closes the streams when it is ready.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    die_with_parent(parent, signal.SIGTERM)
    try:
        trio.run(_serve, sockets, make_handler(partial(_report_line, reports)))
    except BaseException as error:
        found = as_i2error(error)
        _report(
            reports,
            kind="error",
            code=found.code.value,
            obj=found.obj,
            line=found.cause[:_LINE_CHARS],
            next=found.next_step,
            usage=isinstance(found, UsageError),
        )
        return 1
    return 0


async def _serve(sockets: Sockets, handler: StreamHandler) -> None:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_cancel_on_sigterm, nursery.cancel_scope)
        async with trio.open_nursery() as streams:
            for channel, ends in sockets.items():
                streams.start_soon(_serve_one, ends[0], handler, channel)
                for end in ends[1:]:  # they are used after the first one, so no task waits for them yet
                    nursery.start_soon(_serve_one, end, handler, channel)
        nursery.cancel_scope.cancel()


async def _serve_one(end: socket.socket, handler: StreamHandler, channel: Channel) -> None:
    # A handler allows a new stream little time for its greeting. Over a network a stream exists only when it is needed;
    # here it exists from the start, so wait for its first bytes.
    await trio.lowlevel.wait_readable(end)
    if not end.recv(1, socket.MSG_PEEK):
        end.close()  # it was never used
        return
    await handler(trio.SocketStream(trio.socket.from_stdlib_socket(end)), channel, None)


async def _cancel_on_sigterm(scope: trio.CancelScope) -> None:
    with trio.open_signal_receiver(signal.SIGTERM) as signals:
        async for _ in signals:
            scope.cancel()


def _report_line(reports: socket.socket, rule: str, code: Code | None, line: str) -> None:
    _report(reports, kind="say", rule=rule, code=None if code is None else code.value, line=line[:_LINE_CHARS])


def _report(reports: socket.socket, **fields: Any) -> None:
    deadline = time.monotonic() + 1.0
    while True:
        try:
            reports.send(json.dumps(fields).encode(), socket.MSG_DONTWAIT)
            return
        except BlockingIOError:
            # A log line is dropped rather than stalling the replica; the error that ends the child is not dropped.
            if fields["kind"] == "say" or time.monotonic() > deadline:
                return
            select.select([], [reports], [], 0.1)
        except OSError:
            return
