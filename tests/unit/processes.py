"""Processes that do the same at the same time. Not by `multiprocessing`, whose locks need a writable /dev/shm."""

from __future__ import annotations

import subprocess
import sys


def at_once(count: int, script: str, *arguments: str) -> list[str]:
    """The output of so many processes that run the script at the same time; fails when one of them fails."""
    command = [sys.executable, "-c", script, *arguments]
    started = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(count)]  # noqa: S603
    told = [process.communicate()[0] for process in started]
    assert [process.returncode for process in started] == [0] * count
    return told
