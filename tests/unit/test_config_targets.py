"""A backup node accepts no target outside its allowed directories, whatever symlinks there are."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from i2core.api import Code, UsageError
from i2core.config.load import check_target
from i2core.config.mounts import check_apart


@pytest.fixture
def allowed(tmp_path: Path) -> Path:
    (tmp_path / "allowed/inside").mkdir(parents=True)
    (tmp_path / "outside").mkdir()
    (tmp_path / "allowed/way-out").symlink_to(tmp_path / "outside")
    (tmp_path / "way-in").symlink_to(tmp_path / "allowed")
    return tmp_path / "allowed"


@pytest.mark.parametrize(
    "target", ["allowed", "allowed/", "allowed/inside/new/er", "allowed/na\nme", "allowed/" + "x" * 255, "way-in/new"]
)
def test_allowed(target: str, allowed: Path) -> None:
    check_target(os.fsencode(f"{allowed.parent}/{target}"), [b"/nonexistent", os.fsencode(allowed)])


def test_bytes_that_are_no_utf8(allowed: Path) -> None:
    check_target(os.fsencode(allowed) + b"/\xff\xfe", [os.fsencode(allowed)])
    with pytest.raises(UsageError):
        check_target(os.fsencode(allowed) + b"\xff\xfe", [os.fsencode(allowed)])


@pytest.mark.parametrize(
    "target",
    [
        "outside",
        "allowed-too",
        "allowed/way-out",
        "allowed/way-out/deeper",
        "allowed/../outside",
        "allowed/./inside",
        "",
    ],
)
def test_refused(target: str, allowed: Path) -> None:
    with pytest.raises(UsageError) as error:
        check_target(os.fsencode(f"{allowed.parent}/{target}"), [os.fsencode(allowed)])
    assert error.value.code is Code.ILLEGAL_PATH
    assert error.value.next_step


@pytest.mark.parametrize("target", [b"", b"allowed/inside", b"/x\0y", b".."])
def test_no_absolute_path(target: bytes) -> None:
    with pytest.raises(UsageError) as error:
        check_target(target, [b"/"])
    assert error.value.code is Code.ILLEGAL_PATH


def test_without_allowed_directories_nothing_is_allowed(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\(none\)"):
        check_target(os.fsencode(tmp_path), [])


@pytest.mark.parametrize("place", ["allowed", "allowed/inside", "allowed/inside/new/er", "way-in/inside", ""])
def test_what_holds_the_histories_or_lies_among_them_is_refused(place: str, allowed: Path) -> None:
    with pytest.raises(UsageError) as error:
        check_apart(os.fsencode(allowed.parent / place), os.fsencode(allowed / "inside"))
    assert error.value.code is Code.ILLEGAL_PATH
    assert error.value.next_step


@pytest.mark.parametrize("place", ["allowed/beside", "allowed/inside-too", "outside", "allowed/way-out"])
def test_what_lies_beside_the_histories_is_not(place: str, allowed: Path) -> None:
    check_apart(os.fsencode(allowed.parent / place), os.fsencode(allowed / "inside"))
