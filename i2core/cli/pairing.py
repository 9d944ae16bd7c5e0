"""``i2 node token|join|peers|revoke``: the peers that this node trusts, and how two nodes pair."""

from __future__ import annotations

import datetime
import socket
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from i2core.cli.completion import files
from i2core.cli.output import document, json_option, say, table, wants_json
from i2core.cli.words import words
from i2core.config.words import bilingual

if TYPE_CHECKING:
    from i2core.config.model import NodeConfig
    from i2core.node.pairing.enrolment import Joined
    from i2core.node.pairing.peers import KnownPeer
    from i2core.node.pairing.token import Token
    from i2core.registry import Registry

CONFIG_HELP = "Config file of the node.  [default: /etc/i2/node.toml]"
MOST_DAYS = 30

config_option = click.option("--config", "config_file", metavar="FILE", shell_complete=files, help=CONFIG_HELP)


def _load(given: str | None) -> tuple[NodeConfig, Registry]:
    from i2core.config.load import load
    from i2core.node.daemon.paths import DEFAULT_CONFIG
    from i2core.registry import Registry

    registry = Registry.load()
    return load(Path(given) if given else DEFAULT_CONFIG, registry, look_at_disk=False), registry


def _notify_daemon(config: NodeConfig) -> bool:
    """Makes a running daemon load the changed peers; False when none runs."""
    from i2core.api import Code, I2Error
    from i2core.node.control.client import control_client

    try:
        with control_client(config.state_dir) as daemon:
            daemon.reread_peers()
    except I2Error as error:
        if error.code is not Code.NETWORK:
            raise
        return False
    return True


@click.command(short_help="Print a one-time token for a work node to pair with.")
@config_option
@click.option("--for", "node_name", metavar="NAME", help="Only the node with this name may use it.  [default: any]")
@click.option("--expires", default="1h", show_default=True, metavar="TIME", help="Validity, up to 30d.")
@click.option("--address", metavar="HOST", help="Where work nodes reach this node.  [default: the address of listen]")
@json_option
def token(config_file: str | None, node_name: str | None, expires: str, address: str | None) -> None:
    """Print a one-time token that pairs a work node with this backup node.

    Bring it to the work node over a channel that you trust, and use it there with i2 node join. It works once. With
    --for, the node may also replace another one that is paired under that name.
    """
    from i2core.api import UsageError
    from i2core.node.daemon.control_port import control_place
    from i2core.node.pairing.identity import Identity
    from i2core.node.pairing.peer_book import peer_name_fits
    from i2core.node.pairing.token import Token, TokenShelf

    config, _ = _load(config_file)
    place = control_place(config)
    if config.backup is None or place is None:
        raise UsageError(
            bilingual("the token would be useless: this node has no control port", "无法使用令牌：本节点没有控制端口"),
            obj=str(config.path),
            next_step=bilingual(
                "it needs [backup] without plaintext, and a control_port other than 0",
                "需要未启用 plaintext 的 [backup]，且 control_port 不为 0",
            ),
        )
    lifetime_s = _lifetime_s(expires)
    host = _checked(address) or _reachable_at(place.host)
    if node_name is not None and not peer_name_fits(node_name):
        raise UsageError(bilingual("this is not a valid name", "不是合法名称"), obj=node_name)
    made = Token(
        name=config.name,
        address=host,
        port=place.port,
        fingerprint=Identity.load_or_create(config.state_dir, config.name).fingerprint,
        secret=TokenShelf(config.state_dir).make(lifetime_s, node_name),
    )
    _print_token(made, node_name, until_s=time.time() + lifetime_s)


def _lifetime_s(expires: str) -> float:
    from i2core.api import UsageError
    from i2core.config import values
    from i2core.config.values import Wrong
    from i2core.config.words import language

    try:
        lifetime_s = values.duration(1.0)(expires)
    except Wrong as wrong:
        raise UsageError(wrong.message.text(language())) from None
    if lifetime_s > MOST_DAYS * 86400:
        raise UsageError(bilingual(f"{expires} is too long: at most 30d", f"{expires} 太长：至多 30d"))
    return lifetime_s


def _print_token(made: Token, node_name: str | None, *, until_s: float) -> None:
    until = datetime.datetime.fromtimestamp(int(until_s), datetime.UTC).isoformat()
    if wants_json():
        document(
            {
                "token": made.text(),
                "name": made.name,
                "address": made.address,
                "control_port": made.port,
                "fingerprint": made.fingerprint,
                "for": node_name,
                "expires": until,
            }
        )
        return
    click.echo(made.text())
    if sys.stderr.isatty():
        say(
            bilingual(
                f"valid once, until {until}; on the work node: i2 node join TOKEN --config FILE",
                f"仅一次有效，至 {until}；在工作机上执行：i2 node join 令牌 --config 文件",
            )
        )


def _checked(address: str | None) -> str | None:
    from i2core.api import UsageError
    from i2core.config import values
    from i2core.config.values import Wrong
    from i2core.config.words import language

    try:
        return None if address is None else values.host(address)
    except Wrong as wrong:
        raise UsageError(wrong.message.text(language())) from None


def _reachable_at(listen: str) -> str:
    """An address under which others probably reach this host."""
    if listen not in ("0.0.0.0", "::"):  # noqa: S104 (compared, not bound)
        return listen
    family, somewhere = (socket.AF_INET, "192.0.2.1") if listen == "0.0.0.0" else (socket.AF_INET6, "2001:db8::1")  # noqa: S104
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        try:
            # Sends nothing: the kernel only chooses the address that it would send from (RFC 5737, RFC 3849).
            probe.connect((somewhere, 9))
            return str(probe.getsockname()[0])
        except OSError:
            return socket.gethostname()


@click.command(short_help="Pair this work node with a token.")
@click.argument("word", metavar="TOKEN")
@config_option
@click.option(
    "--address", metavar="HOST", help="Address of the backup node.  [default: from its [[work.peer]] or TOKEN]"
)
@json_option
def join(word: str, config_file: str | None, address: str | None) -> None:
    """Pair this work node with the backup node that made TOKEN; - reads it from stdin.

    Both nodes trust each other from then on, also across restarts. A running daemon needs no restart: rules that
    stopped because they were not paired start by themselves. Rules reach the backup node through the [[work.peer]]
    of its name, which needs no fingerprint.
    """
    from i2core.api import UsageError
    from i2core.node.pairing.token import Token

    config, registry = _load(config_file)
    if config.work is None:
        raise UsageError(
            bilingual("only a work node can join: [work] is missing", "只有工作机可以加入：缺少 [work]"),
            obj=str(config.path),
        )
    made = Token.parse(sys.stdin.readline() if word == "-" else word)
    entry = next((peer for peer in config.work.peers if peer.name == made.name), None)
    host = _checked(address) or (entry.address if entry is not None else None) or made.address
    pinned = entry.fingerprint if entry is not None else None
    joined = _pair(config, config.work.transport, registry, made, host, pinned)
    running = _notify_daemon(config)
    if wants_json():
        document({"name": joined.name, "fingerprint": joined.fingerprint, "address": joined.address})
    else:
        click.echo(f"{joined.name}  {joined.fingerprint}")
    if entry is None:
        say(
            bilingual(
                f'for rules to reach it, add [[work.peer]] with name = "{joined.name}" and address = "{host}"',
                f'请添加 [[work.peer]]（name = "{joined.name}"，address = "{host}"），规则才能连接它',
            )
        )
    if not running:
        say(bilingual("no daemon runs here; this takes effect when it starts", "守护进程未运行；启动后生效"))


def _pair(
    config: NodeConfig, transport_name: str, registry: Registry, made: Token, host: str, pinned: str | None
) -> Joined:
    """Pairs with the backup node of the token, over the transport of the config."""
    import trio

    from i2core.api import DriverKind, TransportContext
    from i2core.config.options import structure_options
    from i2core.node.pairing import enrolment
    from i2core.node.pairing.identity import Identity

    identity = Identity.load_or_create(config.state_dir, config.name)
    spec = registry.driver(DriverKind.CLIENT_TRANSPORT, transport_name)
    context = TransportContext(certificate=identity.certificate, key=identity.key, peers={})

    async def go() -> Joined:
        async with spec.open(structure_options(spec, {}), context) as transport:
            return await enrolment.join(made, config.name, host, transport, config.state_dir, pinned=pinned)

    return trio.run(go)


@click.command(short_help="List the peers that this node trusts.")
@config_option
@json_option
def peers(config_file: str | None) -> None:
    """List the trusted peers: role, origin (config or enrolment), date. Revoked peers are listed too."""
    from i2core.node.pairing.peer_book import PeerBook
    from i2core.node.pairing.peers import known_peers

    config, _ = _load(config_file)
    known = known_peers(config, PeerBook(config.state_dir).read())
    if wants_json():
        document([_as_json(peer) for peer in known])
    elif not known:
        click.echo(words("no_peers"))
    else:
        heads = [words(key) for key in ("name", "role", "state", "source", "since", "address", "fingerprint")]
        table(heads, [_as_row(peer) for peer in known])


def _as_json(peer: KnownPeer) -> dict[str, object]:
    entry = peer.entry
    reached = entry is not None and entry.address is not None
    return {
        "name": peer.name,
        "role": peer.role.value if peer.role is not None else None,
        "state": peer.standing.value,
        "source": peer.source,
        "since": peer.since,
        "address": entry.address if entry is not None else None,
        "ports": [entry.mirror_port, entry.replication_port] if entry is not None and reached else None,
        "fingerprint": peer.fingerprint,
    }


def _as_row(peer: KnownPeer) -> tuple[str, ...]:
    return (
        peer.name,
        words(peer.role.value) if peer.role is not None else "-",
        words(peer.standing.value),
        words(f"from_{peer.source}"),
        peer.since or "-",
        (peer.entry.address if peer.entry is not None else None) or "-",
        peer.fingerprint or "-",
    )


@click.command(short_help="Stop trusting a peer.")
@click.argument("name", metavar="NAME")
@config_option
@json_option
def revoke(name: str, config_file: str | None) -> None:
    """Stop trusting the peer NAME (or the peer with this fingerprint), even if the config names it.

    Its sessions end at once, and new ones are refused, also after a restart. Joining with a new token restores trust.
    """
    from i2core.node.pairing.peer_book import Book, PeerBook, Revoked, now_text
    from i2core.node.pairing.peers import to_revoke

    config, _ = _load(config_file)
    now = now_text()
    gone: dict[str, str] = {}

    def without(book: Book) -> Book:
        gone.update((peer.fingerprint, peer.name) for peer in to_revoke(config, book, name) if peer.fingerprint)
        before = {one.fingerprint for one in book.revoked}
        return book.without(
            Revoked(name=called, fingerprint=pin, since=now) for pin, called in gone.items() if pin not in before
        )

    PeerBook(config.state_dir).change(without)
    running = _notify_daemon(config)
    if wants_json():
        document([{"name": called, "fingerprint": pin} for pin, called in gone.items()])
    else:
        for pin, called in gone.items():
            click.echo(f"{words('revoked')}: {called}  {pin}")
    if not running:
        say(bilingual("no daemon runs here; this takes effect when it starts", "守护进程未运行；启动后生效"))
