"""Pairing by a token: the messages on the control channel, and the decision of the backup node.

    work node → backup node     {"ask": "enrol", "name": "web1", "secret": "<hex>"}
    backup node → work node     {"node": "bak144"}, or {"fault": …, "next": …, "fault_zh": …, "next_zh": …}

TLS has proved before that the backup node has the fingerprint of the token, and that the work node owns its
certificate. The token is used up before trust is written: a crash in between costs a token, but a token never admits
two nodes.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import trio

from i2core.api import Channel, ClientTransport, Code, LinkError, Peer, PeerRefused, UsageError, neighbourhood
from i2core.config.words import Words, bilingual
from i2core.node.control.question import Question, ask
from i2core.node.pairing.peer_book import Enrolled, PeerBook, PeerRole, now_text, peer_name_fits
from i2core.node.pairing.token import OpenToken, Token, TokenShelf
from i2core.node.pairing.trust import Trust
from i2core.wire.free_text import shortened

FREE_TRIES = 5
"""Wrong tokens of one address in `WINDOW_S` that are answered at once; each later answer is delayed more."""
WINDOW_S = 60.0
SLOWEST_S = 1.0
ADDRESSES = 1000
"""Most addresses that are counted separately; all others count as one."""


class EnrolmentRefused(PeerRefused):
    """A node is not paired: its token is wrong, used or expired, or its name cannot be used."""

    def __init__(self, cause: str, answer: Mapping[str, str]) -> None:
        """`answer` is what the node is told."""
        super().__init__(cause)
        self.answer = answer


class Verdict(enum.Enum):
    """The decision about a node that wants to pair."""

    PAIR = "pair"
    PAIRED = "paired"
    """It is paired already: the answer to an earlier attempt was lost."""
    WRONG_TOKEN = "wrong token"  # noqa: S105 (no password)
    WRONG_NAME = "wrong name"
    """The token is for another node, or the name is not valid."""
    NAME_TAKEN = "name taken"
    """Another node is trusted under that name, and the token does not allow to replace it."""
    NAME_IN_CONFIG = "name in config"
    """The config pins another fingerprint for that name."""


def judge(name: str, fingerprint: str, token: OpenToken | None, trust: Trust) -> Verdict:
    """The decision; `token` is the open token with the secret that was sent."""
    holder = trust.holder(PeerRole.WORK, fingerprint)
    if holder is not None and holder.name == name:
        return Verdict.PAIRED
    if token is None:
        return Verdict.WRONG_TOKEN
    if not peer_name_fits(name) or token.name not in (None, name):
        return Verdict.WRONG_NAME
    if trust.pinned(PeerRole.WORK, name) not in (None, fingerprint) or (holder and holder.source == "config"):
        return Verdict.NAME_IN_CONFIG
    if token.name is None and trust.named(PeerRole.WORK, name) is not None:
        return Verdict.NAME_TAKEN
    return Verdict.PAIR


def _fault(cause: Words, step: Words) -> Mapping[str, str]:
    """An answer that refuses. It has both languages: the node that asks knows which one its user reads."""
    return {"fault": cause.en, "next": step.en, "fault_zh": cause.zh, "next_zh": step.zh}


WRONG_TOKEN = _fault(
    Words("the token is wrong, used or expired", "令牌错误、已使用或已过期"),
    Words("make a new one there with i2 node token", "请在该节点用 i2 node token 重新生成"),
)
"""The answer to a node without a valid token."""
_FAULTS = {
    Verdict.WRONG_NAME: _fault(
        Words("the token is for a node of another name", "该令牌属于另一个名称的节点"),
        Words("make a token for this node: i2 node token --for NAME", "请为本节点生成令牌：i2 node token --for 名称"),
    ),
    Verdict.NAME_TAKEN: _fault(
        Words("another node is paired under this name", "已有另一个节点以此名称配对"),
        Words(
            "choose another node.name, or make a token with --for NAME, which replaces it",
            "请改用其他 node.name，或用 --for 名称 生成令牌以取代该节点",
        ),
    ),
    Verdict.NAME_IN_CONFIG: _fault(
        Words(
            "the config there pins this name to another fingerprint, or this fingerprint to another name",
            "对端配置为此名称固定了另一个指纹，或为此指纹固定了另一个名称",
        ),
        Words("correct its [[backup.peer]]", "请更正其 [[backup.peer]]"),
    ),
}


class Guesses:
    """Counts wrong tokens by address. Pure: times are seconds of any monotonic clock."""

    def __init__(self) -> None:
        self._wrong: dict[str, int] = {}
        self._window_ends = 0.0

    def wait_s(self, address: str, now: float) -> float:
        """Counts one more from there, and returns the delay of its answer."""
        if now >= self._window_ends:
            self._wrong.clear()
            self._window_ends = now + WINDOW_S
        if address not in self._wrong and len(self._wrong) >= ADDRESSES:
            address = ""
        self._wrong[address] = count = self._wrong.get(address, 0) + 1
        return 0.0 if count <= FREE_TRIES else float(min(SLOWEST_S, 0.1 * 2 ** min(count - FREE_TRIES - 1, 10)))


class Enrolment:
    """The backup node's side. For the trio thread only."""

    def __init__(self, name: str, trust: Trust, book: PeerBook, shelf: TokenShelf) -> None:
        self._name = name
        self._trust = trust
        self._book = book
        self._shelf = shelf
        self._guesses = Guesses()
        self._one_at_a_time = trio.Lock()

    def welcomes(self) -> bool:
        """Whether an unknown node may try a token."""
        return self._shelf.any_open()

    async def answer(self, question: Question, fingerprint: str, address: str) -> dict[str, str]:
        """Pairs the node that asks from `address`, and returns the answer. A valid token is accepted at once, even
        after wrong ones from there; only the answers to wrong tokens are delayed.

        Raises:
            EnrolmentRefused: the token is wrong, used or expired, or the name cannot be used.
            UsageError: trust cannot be read or written.
        """
        async with self._one_at_a_time:
            verdict = await self._decide(question, fingerprint)
        if verdict is Verdict.WRONG_TOKEN:
            await trio.sleep(self._guesses.wait_s(neighbourhood(address), trio.current_time()))
            raise EnrolmentRefused("its token is wrong, used or expired", WRONG_TOKEN)
        if fault := _FAULTS.get(verdict):
            raise EnrolmentRefused(f"a valid token, used as {question.name}: {fault['fault']}", fault)
        return {"node": self._name}

    async def _decide(self, question: Question, fingerprint: str) -> Verdict:
        token = self._shelf.find(question.secret)
        verdict = judge(question.name, fingerprint, token, self._trust)
        if verdict is not Verdict.PAIR:
            return verdict
        if not await trio.to_thread.run_sync(self._shelf.take, question.secret):
            return Verdict.WRONG_TOKEN  # it expired at this moment
        peer = Enrolled(name=question.name, fingerprint=fingerprint, role=PeerRole.WORK, since=now_text())
        await trio.to_thread.run_sync(self._book.change, lambda book: book.with_peer(peer))
        await self._trust.refresh()
        return verdict


# ---------------------------------------------------------------------------------------------- the work node's side


@attrs.frozen
class Joined:
    """The result of `join`."""

    name: str
    """That of the backup node."""
    fingerprint: str
    address: str


async def join(
    token: Token, name: str, address: str, transport: ClientTransport, state_dir: Path, *, pinned: str | None
) -> Joined:
    """Pairs this node, named `name`, with the backup node of the token. Safe to repeat.

    `pinned` is the fingerprint that the config has for that backup node, if any.

    Raises:
        UsageError: the config pins another fingerprint; or trust cannot be written.
        PeerRefused: the backup node refuses the token, or is not the one that made it.
        LinkError: it cannot be reached.
    """
    if pinned is not None and pinned != token.fingerprint:
        raise UsageError(
            bilingual("the config pins another fingerprint for it", "配置中固定了另一个指纹"),
            obj=token.name,
            next_step=bilingual(
                "correct its [[work.peer]]; the config takes precedence", "请更正 [[work.peer]]；以配置为准"
            ),
        )
    _accepted(token, await _present(token, name, address, transport))
    peer = Enrolled(name=token.name, fingerprint=token.fingerprint, role=PeerRole.BACKUP, since=now_text())
    await trio.to_thread.run_sync(PeerBook(state_dir).change, lambda book: book.with_peer(peer))
    return Joined(name=token.name, fingerprint=token.fingerprint, address=address)


async def _present(token: Token, name: str, address: str, transport: ClientTransport) -> Any:
    """Presents the token to the node that made it, and returns the answer."""
    at = Peer(name=token.name, host=address, ports={Channel.CONTROL: token.port}, fingerprint=token.fingerprint)
    try:
        return await ask(transport, at, {"ask": "enrol", "name": name, "secret": token.secret.hex()})
    except PeerRefused as error:
        # The token was not checked: no token is open there, or this connection was dropped in favour of others.
        raise PeerRefused(
            bilingual(
                f"it does not accept tokens now: none is open there, or too many nodes try at once ({error.cause})",
                f"目前不接受令牌：该节点没有可用的令牌，或同时尝试的连接过多（{error.cause}）",
            ),
            obj=f"{token.name} ({address}:{token.port})",
            next_step=bilingual(
                "try again in a minute; if that does not help, make a new one there with i2 node token",
                "请一分钟后重试；若仍不行，请在该节点用 i2 node token 重新生成",
            ),
        ) from error


def _accepted(token: Token, answer: Any) -> None:
    """Raises where the answer is not that the token's own node has paired this one."""
    if not isinstance(answer, dict) or not all(isinstance(value, str) for value in answer.values()):
        raise LinkError(bilingual("its answer is not valid", "应答无法理解"), obj=token.name)
    if "fault" in answer:
        raise PeerRefused(_text(answer, "fault"), obj=token.name, next_step=_text(answer, "next"))
    if answer.get("node") != token.name:
        raise LinkError(
            bilingual("it answered as another node", "应答的是另一个节点"), code=Code.PEER_REFUSED, obj=token.name
        )


def _text(answer: Mapping[str, str], key: str) -> str:
    """A text of the answer, in the language of the user. A node of an earlier version sends English alone."""
    en = answer.get(key, "")
    return bilingual(shortened(en), shortened(answer.get(f"{key}_zh", en)))
