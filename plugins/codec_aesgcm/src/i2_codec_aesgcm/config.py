"""Options of the aesgcm codec in a config file."""

from __future__ import annotations

import attrs


@attrs.frozen(kw_only=True)
class AesGcmConfig:
    """Exactly one of the three. Files are absolute paths; see the README for their content."""

    key_file: str | None = None
    passphrase_file: str | None = None
    passphrase: str | None = attrs.field(default=None, repr=False)

    def __attrs_post_init__(self) -> None:
        given = [option for option in (self.key_file, self.passphrase_file, self.passphrase) if option is not None]
        if len(given) != 1:
            raise ValueError("give exactly one of key_file, passphrase_file and passphrase")
        if not given[0] or "\0" in given[0]:
            raise ValueError("the path or passphrase is empty, or holds a NUL")
