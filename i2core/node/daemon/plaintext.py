"""The risks of `plaintext`, logged at each start and shown by ``i2 node doctor``."""

from __future__ import annotations

from collections.abc import Iterator

from i2core.config.model import NodeConfig
from i2core.config.words import bilingual


def plaintext_risks(config: NodeConfig) -> Iterator[tuple[str, str]]:
    """Each key that turns authentication off, with the resulting risk."""
    if config.backup is not None and config.backup.plaintext:
        yield (
            "backup.plaintext",
            bilingual(
                "peers are not authenticated: any user of this host can write beneath allow_roots with the rights of "
                "this daemon, and can become root if it runs as root; use it only on hosts without other users",
                "不做身份认证：本机任何用户都能以本守护进程的权限写入 allow_roots；若其以 root 运行，"
                "该用户即可获得 root 权限；仅用于没有其他用户的主机",
            ),
        )
    if config.work is not None and config.work.plaintext:
        yield (
            "work.plaintext",
            bilingual(
                "the backup node is not authenticated: any user of this host who takes its port first receives the "
                "data of the rules; use it only on hosts without other users",
                "不验证灾备机身份：本机任何先占用其端口的用户都会收到规则的数据；仅用于没有其他用户的主机",
            ),
        )
