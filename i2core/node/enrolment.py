"""Pairing by a token: what both sides say on the control channel, and what the backup node decides.

    work node → backup node     {"ask": "enrol", "name": "web1", "secret": "<hex>"}
    backup node → work node     {"node": "bak144"}, or {"fault": …} to one that had a good token; else it just closes

TLS has proved before that the backup node is the one whose fingerprint the token holds, and that the work node owns its
certificate. The token is used up before trust is written: a crash in between costs a token, and never lets two in.
"""

from __future__ import annotations

import enum
from pathlib import Path

import attrs
import trio

from i2core.api import Channel, ClientTransport, Code, LinkError, Peer, PeerRefused, UsageError
from i2core.node.line import Question, ask
from i2core.node.peer_book import Enrolled, PeerBook, PeerRole, now_text, peer_name_fits
from i2core.node.speech import said
from i2core.node.token import OpenToken, Token, TokenShelf
from i2core.node.trust import Trust

MOST_WRONG = 30
"""Wrong tokens in `WINDOW_S`; after that nobody is asked for one until it is over."""
WINDOW_S = 60.0


class Verdict(enum.Enum):
    """What becomes of a node that wants to pair."""

    PAIR = "pair"
    PAIRED = "paired"
    """It is, already; the answer was lost."""
    WRONG_TOKEN = "wrong token"  # noqa: S105 (no password)
    WRONG_NAME = "wrong name"
    """The token is for another node, or the name is none."""
    NAME_TAKEN = "name taken"
    """Another node is trusted by that name, and the token does not say that this one may have it."""
    NAME_IN_CONFIG = "name in config"
    """The config pins another fingerprint for that name."""


def judge(name: str, fingerprint: str, token: OpenToken | None, trust: Trust) -> Verdict:
    """The decision; `token` is the open one whose secret was proved."""
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


_FAULTS = {
    Verdict.WRONG_NAME: (
        "the token is for a node of another name",
        "make one for this node: i2 node token --for NAME",
    ),
    Verdict.NAME_TAKEN: (
        "another node is paired by this name",
        "choose another node.name, or make a token with --for NAME, which replaces it",
    ),
    Verdict.NAME_IN_CONFIG: (
        "the config there pins this name to another fingerprint, or this fingerprint to another name",
        "correct its [[backup.peer]]",
    ),
}


class Enrolment:
    """The backup node's side. From the trio thread alone."""

    def __init__(self, name: str, trust: Trust, book: PeerBook, shelf: TokenShelf) -> None:
        self._name = name
        self._trust = trust
        self._book = book
        self._shelf = shelf
        self._wrong = 0
        self._window_ends = 0.0
        self._one_at_a_time = trio.Lock()

    def welcomes(self, now: float) -> bool:
        """Whether a node that nobody knows may try a token at the moment `now` (seconds of a steady clock)."""
        if now >= self._window_ends:
            self._wrong = 0
        return self._wrong < MOST_WRONG and self._shelf.any_open()

    async def answer(self, question: Question, fingerprint: str, now: float) -> dict[str, str]:
        """Pairs, and gives the answer.

        Raises:
            PeerRefused: the token is wrong, used or expired: nothing is to be answered.
            UsageError: trust cannot be read or written.
        """
        async with self._one_at_a_time:
            verdict = await self._decide(question, fingerprint)
        if verdict is Verdict.WRONG_TOKEN:
            if now >= self._window_ends:
                self._wrong, self._window_ends = 0, now + WINDOW_S
            self._wrong += 1
            raise PeerRefused(f"its token is wrong, used or expired (certificate {fingerprint})")
        if verdict in _FAULTS:
            cause, step = _FAULTS[verdict]
            return {"fault": cause, "next": step}
        return {"node": self._name}

    async def _decide(self, question: Question, fingerprint: str) -> Verdict:
        token = self._shelf.find(question.secret)
        verdict = judge(question.name, fingerprint, token, self._trust)
        if verdict is not Verdict.PAIR:
            return verdict
        if not await trio.to_thread.run_sync(self._shelf.take, question.secret):
            return Verdict.WRONG_TOKEN  # its time ended at this very moment
        peer = Enrolled(name=question.name, fingerprint=fingerprint, role=PeerRole.WORK, since=now_text())
        await trio.to_thread.run_sync(self._book.change, lambda book: book.with_peer(peer))
        await self._trust.refresh()
        return verdict


# ---------------------------------------------------------------------------------------------- the work node's side


@attrs.frozen
class Joined:
    """The outcome of `join`."""

    name: str
    """The backup node's."""
    fingerprint: str
    address: str


async def join(
    token: Token, name: str, address: str, transport: ClientTransport, state_dir: Path, *, pinned: str | None
) -> Joined:
    """Pairs this node, called `name`, with the backup node of the token. Safe to repeat.

    `pinned` is the fingerprint that the config has for that backup node, if any.

    Raises:
        UsageError: the config pins another fingerprint; or trust cannot be written.
        PeerRefused: the backup node does not take the token, or is not the one that made it.
        LinkError: it cannot be reached.
    """
    if pinned is not None and pinned != token.fingerprint:
        raise UsageError(
            said("the config pins another fingerprint for it", "配置中固定了另一个指纹"),
            obj=token.name,
            next_step=said("correct its [[work.peer]]; the config counts", "请更正 [[work.peer]]；以配置为准"),
        )
    at = Peer(name=token.name, host=address, ports={Channel.CONTROL: token.port}, fingerprint=token.fingerprint)
    try:
        answer = await ask(transport, at, {"ask": "enrol", "name": name, "secret": token.secret.hex()})
    except PeerRefused as error:
        raise PeerRefused(
            said(
                f"the token is not taken: it is wrong, used or expired ({error.cause})",
                f"令牌不被接受：错误、已使用或已过期（{error.cause}）",
            ),
            obj=f"{token.name} ({address}:{token.port})",
            next_step=said("make a new one there with i2 node token", "请在该节点用 i2 node token 重新生成"),
        ) from error
    if not isinstance(answer, dict) or not all(isinstance(value, str) for value in answer.values()):
        raise LinkError(said("its answer makes no sense", "应答无法理解"), obj=token.name)
    if "fault" in answer:
        raise PeerRefused(answer["fault"], obj=token.name, next_step=answer.get("next", ""))
    if answer.get("node") != token.name:
        raise LinkError(
            said("it answered as another node", "应答的是另一个节点"), code=Code.PEER_REFUSED, obj=token.name
        )
    peer = Enrolled(name=token.name, fingerprint=token.fingerprint, role=PeerRole.BACKUP, since=now_text())

    await trio.to_thread.run_sync(PeerBook(state_dir).change, lambda book: book.with_peer(peer))
    return Joined(name=token.name, fingerprint=token.fingerprint, address=address)
