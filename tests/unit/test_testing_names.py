"""`i2core.testing` offers what it says, each name imported when it is first used."""

from __future__ import annotations

import subprocess
import sys

import pytest

import i2core.testing
from i2core.api import DriverKind
from i2core.testing import CHECKS


@pytest.mark.parametrize("name", [name for names in i2core.testing.NAMES.values() for name in names])
def test_each_name_is_there(name: str) -> None:
    assert getattr(i2core.testing, name) is not None


@pytest.mark.parametrize("kind", CHECKS)
def test_the_check_of_each_kind_is_one_of_them(kind: DriverKind) -> None:
    assert f"check_{kind.value}" in [name for names in i2core.testing.NAMES.values() for name in names]


def test_an_unknown_name_is_an_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'check_nothing'"):
        _ = i2core.testing.check_nothing


def test_the_check_of_a_codec_needs_no_tls() -> None:
    code = "import sys; from i2core.testing import check_codec; assert 'cryptography' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)  # noqa: S603
