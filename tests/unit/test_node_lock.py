"""One state directory, one process."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from i2core.api import Code, UsageError
from i2core.node.daemon.lock import locked


def test_a_second_holder_is_refused_with_the_first_one(tmp_path: Path) -> None:
    place = tmp_path / "a" / "state"
    with locked(place):
        assert stat.S_IMODE(place.stat().st_mode) == 0o700
        with pytest.raises(UsageError, match=str(os.getpid())) as refused, locked(place):
            pass
    assert refused.value.code is Code.DUPLICATE_TASK
    with locked(place):
        pass


def test_the_kernel_releases_the_lock_of_a_killed_holder(tmp_path: Path) -> None:
    script = (
        "import sys, pathlib\nfrom i2core.node.daemon.lock import locked\n"
        "with locked(pathlib.Path(sys.argv[1])):\n    print('held', flush=True)\n    sys.stdin.read()"
    )
    with subprocess.Popen(  # noqa: S603
        [sys.executable, "-c", script, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        with pytest.raises(UsageError), locked(tmp_path):
            pass
        holder.send_signal(signal.SIGKILL)
        holder.wait()
        with locked(tmp_path):
            pass


def test_a_place_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError), locked(tmp_path / "file" / "state"):
        pass
