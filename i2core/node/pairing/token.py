"""One-time tokens, which an administrator brings from the backup node to a work node to pair both.

    i2t1-<base64url of>  fingerprint[32] secret[24] control port u16 name length u8 name address crc32 u32

The work node recognizes the backup node by the fingerprint; the backup node recognizes the work node by the secret. The
backup node keeps only a digest of the secret, in ``state_dir/tokens.json``. The secret has 192 random bits, so a plain
SHA-256 protects it: it cannot be guessed.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
import struct
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
import cattrs

from i2core.api import UsageError
from i2core.config import values
from i2core.config.values import Wrong
from i2core.config.words import bilingual
from i2core.node.pairing.peer_book import peer_name_fits
from i2core.node.pairing.private_file import PrivateJson, locked_directory

FILE = "tokens.json"
PREFIX = "i2t1-"
SECRET_BYTES = 24
MOST_CHARS = 1000
MOST_OPEN = 100
"""Most open tokens at the same time."""

_HEAD = struct.Struct(f">32s{SECRET_BYTES}sHB")
_SUM = struct.Struct(">I")


@attrs.frozen(kw_only=True)
class Token:
    """The content of a token."""

    name: str
    """Of the backup node."""
    address: str
    """An address under which it can probably be reached."""
    port: int
    """Its control port."""
    fingerprint: str
    secret: bytes = attrs.field(repr=False)

    def text(self) -> str:
        """The token as one word of text."""
        name = self.name.encode()
        pin = bytes.fromhex(self.fingerprint.removeprefix("sha256:"))
        raw = _HEAD.pack(pin, self.secret, self.port, len(name)) + name + self.address.encode()
        return PREFIX + base64.urlsafe_b64encode(raw + _SUM.pack(zlib.crc32(raw))).decode().rstrip("=")

    @classmethod
    def parse(cls, text: str) -> Token:
        """Parses the text of a token.

        Raises:
            UsageError: it is not a token, or was not copied completely.
        """
        word = text.strip()
        if not word.startswith(PREFIX) or len(word) > MOST_CHARS:
            raise _no_token()
        body = word.removeprefix(PREFIX)
        try:
            sealed = base64.b64decode(body + "=" * (-len(body) % 4), altchars=b"-_", validate=True)
            raw, (mark,) = sealed[: -_SUM.size], _SUM.unpack(sealed[-_SUM.size :])
            pin, secret, port, length = _HEAD.unpack_from(raw)
            rest = raw[_HEAD.size :]
            name, address = rest[:length].decode(), values.host(rest[length:].decode())
        except (ValueError, binascii.Error, struct.error, Wrong):
            raise _no_token() from None
        if mark != zlib.crc32(raw) or not port or not peer_name_fits(name):
            raise _no_token()
        return cls(name=name, address=address, port=port, fingerprint=f"sha256:{pin.hex()}", secret=secret)


def _no_token() -> UsageError:
    return UsageError(
        bilingual("this is not a token, or only a part of one", "这不是令牌，或不完整"),
        next_step=bilingual("copy the whole line that i2 node token printed", "请完整复制 i2 node token 输出的一行"),
    )


@attrs.frozen(kw_only=True)
class OpenToken:
    """A token that is not used yet."""

    digest: str
    """SHA-256 of the secret, hex."""
    expires_s: float
    """Unix time."""
    name: str | None = None
    """The only node that may use it; None: any."""


_converter = cattrs.Converter(forbid_extra_keys=True)


class TokenShelf:
    """The open tokens of a backup node. The command that makes them and the daemon that accepts them share the file."""

    def __init__(self, state_dir: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._state_dir = state_dir
        self._file = PrivateJson(state_dir / FILE)
        self._clock = clock

    def make(self, lifetime_s: float, name: str | None = None) -> bytes:
        """The secret of a new token, valid once, for `lifetime_s` seconds, for `name` or for any node.

        Raises:
            UsageError: the file cannot be written, or too many tokens are open.
        """
        secret = secrets.token_bytes(SECRET_BYTES)
        new = OpenToken(digest=_digest(secret), expires_s=self._clock() + lifetime_s, name=name)
        try:
            with locked_directory(self._state_dir) as held:
                left = self._read()
                if len(left) >= MOST_OPEN:
                    raise UsageError(
                        bilingual(f"{MOST_OPEN} tokens are open already", f"已有 {MOST_OPEN} 个未使用的令牌"),
                        obj=str(self._file.path),
                        next_step=bilingual("remove the file to void all of them", "删除该文件即可使它们全部失效"),
                    )
                self._file.write(_converter.unstructure([*left, new]), held)
        except OSError as error:
            raise UsageError(error.strerror or str(error), obj=str(self._state_dir)) from error
        return secret

    def any_open(self) -> bool:
        """Whether any token is open.

        Raises:
            UsageError: the file is damaged, or others may write it.
        """
        return bool(self._read())

    def find(self, secret: bytes) -> OpenToken | None:
        """The open token with this secret, which stays open.

        Raises:
            UsageError: the file is damaged, or others may write it.
        """
        return _match(self._read(), secret)

    def take(self, secret: bytes) -> bool:
        """Uses the token up; False if it does not exist or is used already. Durable on return.

        Raises:
            UsageError: the file cannot be read or written.
        """
        with locked_directory(self._state_dir) as held:
            open_tokens = self._read()
            found = _match(open_tokens, secret)
            if found is None:
                return False
            self._file.write(_converter.unstructure([one for one in open_tokens if one is not found]), held)
            return True

    def _read(self) -> list[OpenToken]:
        document: Any = self._file.read()
        try:
            kept = _converter.structure(document or [], list[OpenToken])
        except Exception as error:  # cattrs raises many kinds; all mean the same here
            raise self._file.damaged() from error
        now = self._clock()
        return [one for one in kept if one.expires_s > now]


def _digest(secret: bytes) -> str:
    return hashlib.sha256(secret).hexdigest()


def _match(tokens: list[OpenToken], secret: bytes) -> OpenToken | None:
    """Compares all tokens, each in constant time, so that the duration reveals nothing."""
    wanted = _digest(secret)
    found = None
    for one in tokens:
        if hmac.compare_digest(one.digest, wanted):
            found = one
    return found
