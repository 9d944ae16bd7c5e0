"""The backup role in a child process: streams work, and neither process outlives the other or misinterprets its end.

Each case runs in a separate interpreter, because the fork must happen before trio runs.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

PRELUDE = """
import os, signal, sys, trio
from i2core.api import DATA_CHANNELS, Channel, Code, Peer, StopRule, UsageError
from i2core.node.oneshot.local import backup_process
PEER = Peer("localhost", "localhost", {}, None)

def echo(say):
    async def handler(stream, channel, peer):
        say("r", Code.NETWORK, f"{channel.value} {peer}")
        async for data in stream:
            await stream.send_all(data)
    return handler

def failing(say):
    async def handler(stream, channel, peer):
        await stream.receive_some()
        raise UsageError("target not allowed", code=Code.ILLEGAL_PATH, obj="/r")
    return handler
"""


def _run(body: str) -> subprocess.CompletedProcess[str]:
    script = PRELUDE + textwrap.dedent(body)
    command = [sys.executable, "-c", script]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603


def test_streams_and_log_lines_reach_the_parent_and_the_child_ends_with_the_block() -> None:
    done = _run(
        """
        async def main(backup):
            heard = []
            async with trio.open_nursery() as nursery:
                nursery.start_soon(backup.relay, lambda *line: heard.append(line))
                for channel in DATA_CHANNELS:
                    stream = await backup.transport.connect(PEER, channel)
                    await stream.send_all(channel.value.encode())
                    print(await stream.receive_some())
                    await stream.aclose()
            print(sorted(heard))
        with backup_process(echo) as backup:
            trio.run(main, backup)
        try:
            os.kill(backup.pid, 0)
        except ProcessLookupError:
            print("gone")
        """
    )
    assert done.stdout.splitlines() == [
        "b'mirror'",
        "b'replication'",
        "[('r', <Code.NETWORK: 3522>, 'mirror None'), ('r', <Code.NETWORK: 3522>, 'replication None')]",
        "gone",
    ], done.stderr


@pytest.mark.parametrize(
    ("handler", "harm", "said"),
    [
        ("failing", "pass", "UsageError target not allowed 3571 /r"),
        (
            "echo",
            "await stream.receive_some(); await stream.aclose(); await other.aclose()",
            "StopRule the connections to the backup process were given up, and it has ended 3522 ",
        ),
        ("echo", "os.kill(backup.pid, signal.SIGKILL)", "StopRule the backup process was ended by SIGKILL 3601 "),
    ],
)
def test_a_second_connection_reports_how_the_child_ended(handler: str, harm: str, said: str) -> None:
    done = _run(
        f"""
        async def main(backup):
            stream = await backup.transport.connect(PEER, Channel.MIRROR)
            other = await backup.transport.connect(PEER, Channel.REPLICATION)
            await stream.send_all(b"x")
            {harm}
            try:
                while await stream.receive_some():
                    pass
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                pass
            try:
                while True:
                    await backup.transport.connect(PEER, Channel.REPLICATION)
            except (StopRule, UsageError) as error:
                print(type(error).__name__, error.cause, error.code.value, error.obj)
        with backup_process({handler}) as backup:
            trio.run(main, backup)
        """
    )
    assert done.stdout == said + "\n", done.stderr


def test_ctrl_c_reaches_the_parent_alone() -> None:
    done = _run(
        """
        async def main(backup):
            stream = await backup.transport.connect(PEER, Channel.MIRROR)
            await stream.send_all(b"a")
            await stream.receive_some()
            os.kill(backup.pid, signal.SIGINT)
            await stream.send_all(b"b")
            print(await stream.receive_some())
        with backup_process(echo) as backup:
            trio.run(main, backup)
        """
    )
    assert done.stdout == "b'b'\n", done.stderr


def test_child_ends_when_the_parent_is_killed(tmp_path: Path) -> None:
    script = PRELUDE + textwrap.dedent(
        """
        async def main(backup):
            stream = await backup.transport.connect(PEER, Channel.MIRROR)
            await stream.send_all(b"a")
            await stream.receive_some()
            print(backup.pid, flush=True)
            await trio.sleep_forever()
        with backup_process(echo) as backup:
            trio.run(main, backup)
        """
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as parent:  # noqa: S603
        assert parent.stdout is not None
        child = os.pidfd_open(int(parent.stdout.readline()))
        try:
            parent.send_signal(signal.SIGKILL)
            poll = select.poll()
            poll.register(child, select.POLLIN)
            assert poll.poll(10_000), "the child lives on"
        finally:
            os.close(child)


def test_an_error_in_the_block_ends_the_child_too() -> None:
    done = _run(
        """
        try:
            with backup_process(echo) as backup:
                raise ZeroDivisionError
        except ZeroDivisionError:
            try:
                os.kill(backup.pid, 0)
            except ProcessLookupError:
                print("gone")
        """
    )
    assert done.stdout == "gone\n", done.stderr
