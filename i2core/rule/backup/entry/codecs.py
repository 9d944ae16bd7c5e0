"""Which codecs a session uses: named by the work node, with secrets from this node's own config."""

from __future__ import annotations

from collections.abc import Mapping

from i2core.api import Code, DriverKind, StopRule
from i2core.config.model import DriverChoice
from i2core.config.options import named_to_peer
from i2core.config.words import bilingual
from i2core.drivers.select import Drivers
from i2core.wire.messages import Hello


def codecs_of(hello: Hello, keys: Mapping[str, DriverChoice], drivers: Drivers) -> tuple[DriverChoice, ...]:
    """The codecs of that greeting, in encode order; `keys` has the encrypting codec of each rule, as configured here.

    Options that could name a file or hold a secret are refused, whatever their value: no answer may reveal what is on
    this node, and no file is opened because a work node names it.

    Raises:
        StopRule: the rule must be encrypted and is not; or the work node sets an option that only this node may set.
        UsageError: no such codec is installed.
    """
    key = keys.get(hello.rule)
    chosen: list[DriverChoice] = []
    for codec in hello.codecs:
        if key is not None and codec.name == key.name:
            chosen.append(key)
            continue
        if not named_to_peer(drivers.driver(DriverKind.CODEC, codec.name)).issuperset(codec.options):
            raise StopRule(
                bilingual(
                    f"{codec.name}: options that name files or hold secrets are not taken from a work node",
                    f"{codec.name}：指定文件或包含密钥的选项不接受工作机的设置",
                ),
                code=Code.DECRYPT,
                obj=hello.rule,
                next_step=bilingual(
                    "set them on this node: [[backup.key]] with rule and key_file",
                    "请在灾备机上设置：[[backup.key]] 的 rule 和 key_file",
                ),
            )
        chosen.append(DriverChoice(name=codec.name, options=codec.options))
    if key is not None and key not in chosen:
        raise StopRule(
            "this node requires encryption for the rule, the work node sends without",
            code=Code.DECRYPT,
            obj=hello.rule,
            next_step="set encrypt in the rule",
        )
    return tuple(chosen)
