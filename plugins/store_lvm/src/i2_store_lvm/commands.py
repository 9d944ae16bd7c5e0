"""Runs the tools of LVM, and mount(8). Blocks. A command is never broken off: it would leave locks and suspended
volumes."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Sequence

TIMEOUT_S = 300.0


class Failed(Exception):
    """A command that failed; the text is what it said."""

    @property
    def is_full(self) -> bool:
        """The volume group, or the pool, has no room."""
        words = str(self).lower()
        return "insufficient" in words or "free space" in words or "not enough" in words


def run(*command: str | bytes) -> bytes:
    """What it prints.

    Raises:
        Failed: it is not installed, or ended with another code than 0.
    """
    name = os.fsdecode(command[0])
    environment = os.environ | {"LC_ALL": "C", "LVM_SUPPRESS_FD_WARNINGS": "1"}
    try:
        done = subprocess.run(  # noqa: S603 (a fixed program, and names that were checked)
            command, stdin=subprocess.DEVNULL, capture_output=True, env=environment, timeout=TIMEOUT_S, check=False
        )
    except (FileNotFoundError, PermissionError) as error:  # the latter: PATH has a directory that nobody else may enter
        raise Failed(f"{name} is not installed") from error
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failed(f"{name}: {error}") from error
    if done.returncode:
        raise Failed(_words(name, done.stderr))
    return done.stdout


def _words(name: str, said: bytes) -> str:
    lines = [line.strip() for line in said.decode(errors="replace").splitlines()]
    telling: Sequence[str] = [line for line in lines if line and not line.startswith("WARNING")]
    return f"{name}: {'; '.join(telling) or 'it failed'}"
