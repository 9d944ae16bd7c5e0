"""Two hosts and a link between them, made of network namespaces: a test can break the link in each way that links
break."""

from __future__ import annotations

import itertools
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import attrs
import pytest

WORK, BACKUP = "10.83.0.1", "10.83.0.2"
_DROP, _RESET = "drop", "reject with tcp reset"
CUTS: dict[str, tuple[str, str]] = {
    "nothing arrives": (_DROP, ""),
    "no answer comes back": ("", _DROP),
    "silence": (_DROP, _DROP),
    "the work node is reset": (_RESET, ""),
    "the backup node is reset": ("", _RESET),
    "both are reset": (_RESET, _RESET),
}
"""What happens to packets that reach the backup node, and to those that it sends."""
_numbers = itertools.count()


def _run(*command: str, check: bool = True) -> str:
    done = subprocess.run(command, check=check, capture_output=True, text=True)  # noqa: S603
    return done.stdout


@attrs.frozen
class Link:
    """Both hosts, as network namespaces of those names."""

    work: str
    backup: str

    def within(self, host: str) -> Sequence[str]:
        """The prefix of a command that is to run on that host."""
        return ("ip", "netns", "exec", host)

    def cut(self, how: str) -> None:
        """Breaks it, one of `CUTS`, for all TCP."""
        arriving, leaving = CUTS[how]
        rules = ["table inet cut {"]
        for name, hook, verdict in (("in", "input", arriving), ("out", "output", leaving)):
            if verdict:
                rules.append(f"chain {name} {{ type filter hook {hook} priority 0; meta l4proto tcp {verdict}; }}")
        _run(*self.within(self.backup), "nft", "\n".join([*rules, "}"]))

    def heal(self) -> None:
        """Restores the link."""
        _run(*self.within(self.backup), "nft", "flush ruleset")

    def slow_down(self, mbit: int) -> None:
        """Limits the bytes per second that leave the work node."""
        _run(
            *(*self.within(self.work), "tc", "qdisc", "add", "dev", "eth0", "root", "tbf"),
            *("rate", f"{mbit}mbit", "burst", "256k", "latency", "50ms"),
        )

    def sent_bytes(self) -> int:
        """Bytes that have left the work node, in packets with all their headers."""
        path = "/sys/class/net/eth0/statistics/tx_bytes"
        return int(_run(*self.within(self.work), "cat", path))


@contextmanager
def open_link() -> Iterator[Link]:
    """A working link, which is removed at the end of the body."""
    for command in ("ip", "nft"):
        if shutil.which(command) is None:
            pytest.skip(f"{command} is not installed")
    stem = f"i2-{os.getpid()}-{next(_numbers)}"
    link = Link(f"{stem}-work", f"{stem}-backup")
    with ExitStack() as stack:
        for host in (link.work, link.backup):
            _run("ip", "netns", "add", host)
            stack.callback(_run, "ip", "netns", "del", host)
            _run("ip", "-n", host, "link", "set", "lo", "up")
        _run(
            *("ip", "link", "add", "eth0", "netns", link.work, "type", "veth"),
            *("peer", "name", "eth0", "netns", link.backup),
        )
        for host, address in ((link.work, WORK), (link.backup, BACKUP)):
            _run("ip", "-n", host, "address", "add", f"{address}/24", "dev", "eth0")
            _run("ip", "-n", host, "link", "set", "eth0", "up")
        yield link
