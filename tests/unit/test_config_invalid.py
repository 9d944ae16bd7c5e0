"""Every invalid sample reports exactly the mistakes that it announces, in both languages, and loading changes nothing.

A sample announces them in its head, one a line: ``#! LINE: KEY: what is wrong; allowed: …``.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from i2core.config.load import ConfigErrors, load
from i2core.testing.named import NamedDrivers

SAMPLES = Path(__file__).parents[2] / "examples/configs/invalid"

_touched: list[str] = []
_watching = False
_CHANGES = {"os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.chmod", "os.chown", "os.truncate", "os.utime"}


def _audit(event: str, args: tuple[object, ...]) -> None:
    if _watching and (event in _CHANGES or (event == "open" and isinstance(args[2], int) and args[2] & ~os.O_CLOEXEC)):
        _touched.append(f"{event} {args}")


sys.addaudithook(_audit)


@pytest.fixture
def touched() -> Iterator[list[str]]:
    """What was changed on disk, or opened for writing, since the test began."""
    global _watching  # noqa: PLW0603 (an audit hook can never be removed, only switched off)
    _touched.clear()
    _watching = True
    yield _touched
    _watching = False


def errors_of(path: Path) -> ConfigErrors:
    with pytest.raises(ConfigErrors) as raised:
        load(path, NamedDrivers())
    return raised.value


@pytest.mark.parametrize("sample", sorted(SAMPLES.glob("*.toml")), ids=lambda path: path.stem)
def test_each_sample_reports_its_mistakes(sample: Path, touched: list[str]) -> None:
    errors = errors_of(sample)
    found = list(touched)
    announced = [line[3:] for line in sample.read_text("utf-8").splitlines() if line.startswith("#! ")]
    assert announced, "a sample announces its mistakes"
    assert [mistake.text("en") for mistake in errors.mistakes] == [f"{sample}:{line}" for line in announced]
    assert found == []
    assert errors.exit_code == 2


@pytest.mark.parametrize("sample", sorted(SAMPLES.glob("*.toml")), ids=lambda path: path.stem)
def test_each_mistake_is_reported_in_chinese_too(sample: Path) -> None:
    for mistake in errors_of(sample).mistakes:
        assert re.search("[\u4e00-\u9fff]", mistake.message.zh), mistake
        assert not re.search("[\u4e00-\u9fff]", mistake.message.en), mistake


def test_the_hook_would_see_a_change(tmp_path: Path, touched: list[str]) -> None:
    (tmp_path / "x").write_text("")
    (tmp_path / "x").unlink()
    assert [line.split()[0] for line in touched] == ["open", "os.remove"]


def test_the_reader_chooses_the_language(monkeypatch: pytest.MonkeyPatch) -> None:
    errors = errors_of(SAMPLES / "unknown-peer.toml")
    for name in ("I2_LANG", "LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    assert "unknown peer" in str(errors)
    monkeypatch.setenv("LANG", "zh_CN.UTF-8")
    assert "未知的对端" in str(errors)
    monkeypatch.setenv("LC_ALL", "C")
    assert "unknown peer" in str(errors)
    monkeypatch.setenv("I2_LANG", "zh")
    assert "；允许：bak144" in str(errors)
    assert str(errors) == "\n".join(map(str, errors.mistakes))


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    (mistake,) = errors_of(tmp_path / "none.toml").mistakes
    assert mistake.text("en") == f"{tmp_path}/none.toml: cannot be read: No such file or directory"
    (mistake,) = errors_of(tmp_path).mistakes
    assert "Is a directory" in mistake.text("en")


def test_a_file_that_is_no_utf8(tmp_path: Path) -> None:
    path = tmp_path / "latin.toml"
    path.write_bytes(b'[node]\nname = "caf\xe9"\n')
    (mistake,) = errors_of(path).mistakes
    assert mistake.text("en") == f"{path}:2: is not UTF-8"


def test_a_mistake_in_one_table_hides_none_in_another(tmp_path: Path) -> None:
    path = tmp_path / "all.toml"
    path.write_text('[node]\nnam = "x"\n[backup]\nlisten = 1\n[work]\nmemory_limit = ""\n[[rule]]\nname = "a"\n')
    lines = [mistake.line for mistake in errors_of(path).mistakes]
    assert lines == sorted(lines)
    assert {1, 2, 3, 4, 6, 7} >= set(lines) >= {2, 4, 6, 7}
