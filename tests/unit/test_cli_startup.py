"""A short command costs little CPU: it imports only what it uses, and ends without taking the interpreter apart."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from i2core.cli.main import run
from i2core.node.daemon.memory import frozen_startup

ALWAYS_UNUSED = frozenset({"asyncio", "i2core.testing", "multiprocessing", "pygments", "rich", "starlette"})
"""What none of the commands here uses."""
PLUGINS = frozenset({"cattrs", "i2core.registry", "importlib.metadata", "stevedore"})
TLS = frozenset({"cryptography", "i2core.node.pairing"})
CLIENT = frozenset({"h11", "http.client", "httpx", "i2core.node.control"})


@pytest.mark.parametrize(
    ("words", "unused"),
    [
        ("--help", PLUGINS | TLS | CLIENT | {"attrs", "i2core.api", "pluggy", "trio"}),
        ("replicate --help", PLUGINS | TLS | CLIENT | {"attrs", "i2core.api", "pluggy", "trio"}),
        ("rule status --state-dir missing", PLUGINS | TLS | {"i2core.config.model", "i2core.wire"}),
        ("rule start name --state-dir missing", PLUGINS | TLS | {"i2core.config.model", "i2core.wire"}),
        (
            "replicate source replica --once",
            TLS | CLIENT | {"i2core.config.load", "i2core.history.record.history", "i2core.history.index", "pyzstd"},
        ),
    ],
)
def test_a_command_imports_nothing_that_it_does_not_use(words: str, unused: frozenset[str], tmp_path: Path) -> None:
    (tmp_path / "source").mkdir()
    done = _python(
        "from i2core.cli.main import run; run(sys.argv[1:]); print(*sys.modules)", *words.split(), at=tmp_path
    )
    assert not (ALWAYS_UNUSED | unused) & set(done.stdout.splitlines()[-1].split()), done.stderr


def test_the_end_leaves_the_interpreter_as_it_is() -> None:
    script = "import atexit; atexit.register(print, 'taken apart'); from i2core.cli.main import main; main()"
    done = _python(script, "--version", at=Path.cwd())
    assert done.stdout.splitlines() == [done.stdout.strip()], "flushed, and nothing after it"
    assert (done.returncode, _python(script, "rplicate", at=Path.cwd()).returncode) == (0, 2)


def test_objects_of_the_start_are_frozen_before_the_backup_role_is_forked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    frozen: list[int] = []

    def fork(system: Callable[[], int] = os.fork) -> int:
        frozen.append(gc.get_freeze_count())
        return system()

    monkeypatch.setattr(os, "fork", fork)
    (tmp_path / "source").mkdir()
    assert run(["replicate", f"{tmp_path}/source", f"{tmp_path}/replica", "--once"]) == 0
    assert frozen[0] > 0
    assert gc.get_freeze_count() == 0


def test_a_full_collection_skips_what_existed_at_the_start() -> None:
    with frozen_startup():
        assert len(gc.get_objects()) < 1000, "other threads may make some at any time"
        made: list[object] = []
        made.append(made)
        assert any(each is made for each in gc.get_objects())
    assert len(gc.get_objects()) > 1000


def _python(script: str, *arguments: str, at: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", f"import sys; {script}", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, cwd=at)  # noqa: S603
