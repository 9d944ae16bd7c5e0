"""Tokens: whole or refused, used once, kept as digests."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from i2core.api import UsageError
from i2core.node.pairing.token import FILE, MOST_OPEN, PREFIX, SECRET_BYTES, Token, TokenShelf

from .processes import at_once

PIN = "sha256:" + "9b" * 32
GOOD = Token(name="bak144", address="192.0.2.1", port=26822, fingerprint=PIN, secret=bytes(range(SECRET_BYTES)))


class Clock:
    """Unix time that stands until it is moved."""

    def __init__(self) -> None:
        self.now_s = 1_000_000.0

    def __call__(self) -> float:
        return self.now_s


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def shelf(tmp_path: Path, clock: Clock) -> TokenShelf:
    return TokenShelf(tmp_path, clock=clock)


@given(
    name=st.sampled_from(["b", "灾备机", "x" * 100]),
    address=st.sampled_from(["192.0.2.1", "2001:db8::1", "backup.example", "a" * 63 + ".example"]),
    port=st.integers(1, 65535),
    secret=st.binary(min_size=SECRET_BYTES, max_size=SECRET_BYTES),
)
def test_what_was_written_is_read(name: str, address: str, port: int, secret: bytes) -> None:
    token = Token(name=name, address=address, port=port, fingerprint=PIN, secret=secret)
    assert Token.parse(f"  {token.text()}\n") == token
    assert token.text().isascii()
    assert secret.hex() not in repr(token)


@pytest.mark.parametrize("text", ["", PREFIX, "i2t1", GOOD.text()[:-1], GOOD.text() + "A", GOOD.text().lower(), "é"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="not a token"):
        Token.parse(text)


@given(at=st.integers(0, len(GOOD.text()) - 1), char=st.characters(codec="utf-8"))
def test_one_wrong_character_is_noticed(at: int, char: str) -> None:
    text = GOOD.text()
    changed = text[:at] + char + text[at + 1 :]
    if changed.strip() != text:
        with pytest.raises(UsageError):
            Token.parse(changed)


def test_works_once(shelf: TokenShelf) -> None:
    secret = shelf.make(60)
    assert shelf.find(secret) is not None
    assert shelf.take(secret)
    assert shelf.find(secret) is None
    assert not shelf.take(secret)
    assert not shelf.any_open()


def test_expires(shelf: TokenShelf, clock: Clock) -> None:
    secret = shelf.make(60)
    clock.now_s += 59
    assert shelf.any_open()
    clock.now_s += 2
    assert not shelf.any_open()
    assert shelf.find(secret) is None
    assert not shelf.take(secret)


def test_the_secret_is_not_on_disk(shelf: TokenShelf, tmp_path: Path) -> None:
    secret = shelf.make(60, "web1")
    path = tmp_path / FILE
    assert path.stat().st_mode & 0o777 == 0o600
    content = path.read_bytes()
    assert secret.hex().encode() not in content
    assert secret not in content
    found = shelf.find(secret)
    assert found is not None
    assert found.name == "web1"
    assert shelf.find(b"\0" * SECRET_BYTES) is None
    assert shelf.find(b"") is None


def test_what_expired_does_not_pile_up(shelf: TokenShelf, clock: Clock, tmp_path: Path) -> None:
    for _ in range(MOST_OPEN):
        shelf.make(60)
    with pytest.raises(UsageError, match="open already"):
        shelf.make(60)
    clock.now_s += 61
    shelf.make(60)
    assert len(json.loads((tmp_path / FILE).read_text())) == 1


_TAKE = """
import sys; from pathlib import Path; from i2core.node.pairing.token import TokenShelf
print(sum(TokenShelf(Path(sys.argv[1])).take(bytes.fromhex(secret)) for secret in sys.argv[2:]))
"""


def test_of_many_that_take_it_one_gets_it(tmp_path: Path) -> None:
    secrets = [TokenShelf(tmp_path).make(60).hex() for _ in range(4)]
    assert sum(map(int, at_once(3, _TAKE, str(tmp_path), *secrets))) == len(secrets)


@pytest.mark.parametrize("damage", ["{", '{"a": 1}', '[{"digest": 5}]', "[1]", "\0", "[" * 100_000])
def test_a_damaged_shelf_is_refused(shelf: TokenShelf, tmp_path: Path, damage: str) -> None:
    path = tmp_path / FILE
    path.write_text(damage)
    path.chmod(0o600)
    for act in (shelf.any_open, lambda: shelf.find(b""), lambda: shelf.take(b""), lambda: shelf.make(60)):
        with pytest.raises(UsageError, match="damaged"):
            act()
    assert path.read_text() == damage


@pytest.mark.parametrize("mode", [0o602, 0o620, 0o666])
def test_a_shelf_that_others_may_write_is_refused(shelf: TokenShelf, tmp_path: Path, mode: int) -> None:
    shelf.make(60)
    (tmp_path / FILE).chmod(mode)
    with pytest.raises(UsageError, match=f"{mode:04o}"):
        shelf.any_open()


def test_a_symlink_is_no_shelf(shelf: TokenShelf, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("[]")
    (tmp_path / FILE).symlink_to("elsewhere")
    with pytest.raises(UsageError, match=r"tokens\.json"):
        shelf.any_open()
