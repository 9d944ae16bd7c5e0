"""Shared by the system tests: the real `i2` in separate processes, and trees for it."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import IO

I2 = [sys.executable, "-m", "i2core.cli"]
LIMIT_S = 60.0


class Commands:
    """Runs `i2`; processes that are still running are killed at the end of the test."""

    def __init__(self, home: Path) -> None:
        self._started: list[subprocess.Popen[str]] = []
        # State, temporary directories and language are the test's own.
        self.environment = os.environ | {
            "TMPDIR": str(home),
            "XDG_STATE_HOME": str(home / "state"),
            "I2_LANG": "en",
            "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        }

    def run(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Runs to the end; returns its output."""
        command = [*I2, *map(str, arguments)]
        return subprocess.run(  # noqa: S603
            command, env=self.environment, capture_output=True, text=True, timeout=LIMIT_S, check=False
        )

    def start(self, *arguments: str | Path, log: Path) -> subprocess.Popen[str]:
        """In the background, in a process group of its own, its stderr in `log`."""
        with open(log, "a") as stderr:
            return self.start_into(subprocess.PIPE, stderr, *arguments)

    def start_into(self, stdout: IO[str] | int, stderr: IO[str], *arguments: str | Path) -> subprocess.Popen[str]:
        """As `start`, with both streams given."""
        process = subprocess.Popen(  # noqa: S603
            [*I2, *map(str, arguments)],
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=stderr,
            text=True,
            process_group=0,
        )
        self._started.append(process)
        return process

    def close(self) -> None:
        """Kills the processes that are left."""
        for process in self._started:
            if process.poll() is None:
                process.kill()
            process.communicate()

    def run_without_override(self, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
        """Runs to the end; file modes apply even to root."""
        drop = ["setpriv", "--bounding-set", "-dac_override,-dac_read_search"] if os.geteuid() == 0 else []
        command = [*drop, *I2, *map(str, arguments)]
        return subprocess.run(  # noqa: S603
            command, env=self.environment, capture_output=True, text=True, timeout=LIMIT_S, check=False
        )

    @staticmethod
    def finish(process: subprocess.Popen[str], number: signal.Signals = signal.SIGINT) -> tuple[int, str]:
        """Sends the signal; returns exit code and stdout."""
        process.send_signal(number)
        output, _ = process.communicate(timeout=LIMIT_S)
        return process.returncode, output

    @staticmethod
    def eventually(what: str, condition: Callable[[], bool], limit_s: float = 30.0) -> None:
        """Waits until `condition()`; fails with `what` after `limit_s` seconds."""
        deadline = time.monotonic() + limit_s
        while not condition():
            assert time.monotonic() < deadline, f"not within {limit_s:.0f} s: {what}"
            time.sleep(0.02)

    @staticmethod
    def said(log: Path, text: str) -> Callable[[], bool]:
        """A condition: the log contains `text`."""
        return lambda: text in log.read_text(errors="replace")

    @staticmethod
    def children(pid: int) -> list[int]:
        """Pids of its child processes."""
        with contextlib.suppress(FileNotFoundError):
            return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
        return []

    @staticmethod
    def ended(pid: int, limit_s: float = 15.0) -> bool:
        """Whether that process, which need not be our child, ends within the limit."""
        try:
            pidfd = os.pidfd_open(pid)
        except ProcessLookupError:
            return True
        try:
            poll = select.poll()
            poll.register(pidfd, select.POLLIN)
            return bool(poll.poll(limit_s * 1000))
        finally:
            os.close(pidfd)


def plant(root: Path) -> None:
    """Creates a tree with objects of all types."""
    root.mkdir()
    for number in range(40):
        directory = root / f"d{number % 7}" / "deep"
        directory.mkdir(parents=True, exist_ok=True)
        (directory / f"f{number}").write_bytes(os.urandom(number * 997))
    (root / "big").write_bytes(os.urandom(3_000_001))
    (root / "empty").write_bytes(b"")
    (root / "nothing-in-it").mkdir(mode=0o750)
    (root / "link").symlink_to("d1/deep")
    (root / "dangling").symlink_to("/nowhere/at all")
    os.link(root / "big", root / "d2" / "the same file")
    os.mkfifo(root / "pipe")
    raw = os.fsencode(root)
    for name in (b"new\nline", b"bad\xff\xfeutf8", b"n" * 255, "漢字 ü".encode()):
        with open(os.path.join(raw, name), "wb") as file:
            file.write(name)
    with open(root / "sparse", "wb") as file:
        file.truncate(50_000_000)
        file.seek(40_000_000)
        file.write(b"island")
    os.chmod(root / "empty", 0o4711)  # noqa: S103
    os.setxattr(root / "big", "user.colour", b"green\0blue")
    os.utime(root / "big", ns=(1_000_000_000, 1_234_567_890_123_456_789))
    os.utime(root / "nothing-in-it", ns=(5, 6))
