"""`i2 recover`: when it looks at the plan before it replaces anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from i2core.cli import recover


class Daemon:
    """Answers each recovery with a plan in which a file is newer."""

    def __init__(self) -> None:
        self.asked: list[dict[str, object]] = []

    def __enter__(self) -> Daemon:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def begin_recovery(self, _name: str, asked: dict[str, object]) -> int:
        """Notes what is asked."""
        self.asked.append(asked)
        return 1

    def await_task(self, _number: int, _report: object) -> dict[str, object]:
        """The plan."""
        newer = {"replace": {"count": 1, "size": 5, "newer": 1}}
        return {"equal": False, "totals": newer, "files": 1, "bytes": 5, "items": [], "moment": "m", "seq": 7}


@pytest.mark.parametrize("to", [["--to", "work:/restore"], [], ["--to", "FULL"]])
def test_newer_files_are_asked_about_wherever_they_are(
    to: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also on another node, of which this command sees nothing."""
    from i2core.cli.main import run

    (tmp_path / "file").touch()
    daemon = Daemon()
    monkeypatch.setattr(recover, "daemon_of", lambda *_: daemon)
    assert run(["recover", "data1", *(str(tmp_path) if word == "FULL" else word for word in to)]) == 2
    assert [asked.get("dry_run") for asked in daemon.asked] == [True]
