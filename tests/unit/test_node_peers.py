"""Who is trusted, by config, by enrolment and by revocation; and the book that keeps it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from i2core.api import Channel, Code, PeerRefused, UsageError
from i2core.config.model import BackupRole, NodeConfig, PeerEntry, WorkRole
from i2core.node.pairing.peer_book import FILE, Book, Enrolled, PeerBook, PeerRole, Revoked, peer_name_fits
from i2core.node.pairing.peers import known_peers, reach, to_revoke
from i2core.node.pairing.trust import Change, Trust, TrustedTransport

WEB, OTHER, BACKUP, CONSOLE = ("sha256:" + digit * 64 for digit in "abcd")
SINCE = "2026-01-01T00:00:00+00:00"


def config(
    work: tuple[PeerEntry, ...] = (),
    backup: tuple[PeerEntry, ...] = (),
    consoles: tuple[PeerEntry, ...] = (),
    state_dir: Path = Path("/nowhere"),
) -> NodeConfig:
    """A node with both roles: `backup` are its backup nodes, `work` the work nodes that it serves."""
    return NodeConfig(
        path=Path("node.toml"),
        name="here",
        state_dir=state_dir,
        backup=BackupRole(allow_roots=(b"/backup",), peers=work),
        work=WorkRole(peers=backup),
        consoles=consoles,
    )


def enrolled(name: str, pin: str, role: PeerRole = PeerRole.WORK) -> Enrolled:
    return Enrolled(name=name, fingerprint=pin, role=role, since=SINCE)


def revoked(name: str, pin: str) -> Revoked:
    return Revoked(name=name, fingerprint=pin, since=SINCE)


def standings(config: NodeConfig, book: Book) -> list[tuple[str, str | None, str, str]]:
    return [
        (peer.name, peer.role.value if peer.role else None, peer.source, peer.standing.value)
        for peer in known_peers(config, book)
    ]


def test_config_and_book_count_side_by_side() -> None:
    here = config(
        work=(PeerEntry(name="web1", fingerprint=WEB),),
        backup=(PeerEntry(name="bak1", address="192.0.2.1"),),
        consoles=(PeerEntry(name="office", fingerprint=CONSOLE),),
    )
    assert standings(here, Book()) == [
        ("bak1", "backup", "config", "unpaired"),
        ("web1", "work", "config", "trusted"),
        ("office", "console", "config", "trusted"),
    ]
    book = Book(enrolled=(enrolled("bak1", BACKUP, PeerRole.BACKUP), enrolled("web2", OTHER)))
    assert standings(here, book) == [
        ("bak1", "backup", "enrolled", "trusted"),
        ("web1", "work", "config", "trusted"),
        ("office", "console", "config", "trusted"),
        ("web2", "work", "enrolled", "trusted"),
    ]


def test_the_config_wins() -> None:
    here = config(work=(PeerEntry(name="web1", fingerprint=WEB),))
    assert standings(here, Book(enrolled=(enrolled("web1", OTHER),))) == [
        ("web1", "work", "config", "trusted"),
        ("web1", "work", "enrolled", "overruled"),
    ]
    said: list[str] = []
    trust = Trust(here, Kept(Book(enrolled=(enrolled("web1", OTHER),))), lambda code, line: said.append(line))
    assert trust.callers == {WEB: "web1"}
    assert OTHER in said[0]
    # The same by both ways is told once.
    assert standings(here, Book(enrolled=(enrolled("web1", WEB),))) == [("web1", "work", "config", "trusted")]


def test_a_revocation_wins_over_all() -> None:
    here = config(
        work=(PeerEntry(name="web1", fingerprint=WEB),),
        backup=(PeerEntry(name="web1", fingerprint=WEB, address="192.0.2.1"),),
    )
    book = Book(enrolled=(enrolled("web2", OTHER),)).without([revoked("web1", WEB), revoked("web2", OTHER)])
    assert standings(here, book) == [
        ("web1", "backup", "config", "revoked"),
        ("web1", "work", "config", "revoked"),
        ("web2", None, "enrolled", "revoked"),
    ]
    trust = Trust(here, Kept(book), lambda code, line: None)
    assert (trust.callers, trust.controllers) == ({}, {})
    assert trust.named(PeerRole.BACKUP, "web1") is None


def test_enrolling_again_takes_a_revocation_back_and_a_name_over() -> None:
    book = Book(enrolled=(enrolled("web1", WEB), enrolled("web1", BACKUP, PeerRole.BACKUP)))
    taken = book.with_peer(enrolled("web1", OTHER))
    assert {(one.role, one.fingerprint) for one in taken.enrolled} == {
        (PeerRole.WORK, OTHER),
        (PeerRole.BACKUP, BACKUP),
    }
    renamed = book.with_peer(enrolled("web2", WEB))
    assert [one.name for one in renamed.enrolled if one.role is PeerRole.WORK] == ["web2"]
    again = book.without([revoked("web1", WEB)]).with_peer(enrolled("web1", WEB))
    assert again.revoked == ()
    # Joining twice changes nothing, not even the day.
    later = Enrolled(name="web1", fingerprint=WEB, role=PeerRole.WORK, since="2027-01-01T00:00:00+00:00")
    assert set(book.with_peer(later).enrolled) == set(book.enrolled)


def test_whom_a_revocation_means() -> None:
    here = config(work=(PeerEntry(name="web1", fingerprint=WEB),), backup=(PeerEntry(name="bak1", address="x"),))
    book = Book(enrolled=(enrolled("web1", OTHER),))
    assert [peer.fingerprint for peer in to_revoke(here, book, "web1")] == [WEB, OTHER]
    assert [peer.fingerprint for peer in to_revoke(here, book, OTHER)] == [OTHER]
    for nobody in ("web9", "bak1", ""):
        with pytest.raises(UsageError, match="web1"):
            to_revoke(here, book, nobody)


def test_where_a_backup_node_is() -> None:
    here = config(backup=(PeerEntry(name="bak1", address="192.0.2.1", mirror_port=1), PeerEntry(name="bak2")))
    peer = reach(here, "bak1")
    assert (peer.host, peer.ports, peer.fingerprint) == (
        "192.0.2.1",
        {Channel.MIRROR: 1, Channel.REPLICATION: 26833, Channel.RECOVERY: 26831},
        None,
    )
    with pytest.raises(UsageError, match="no address"):
        reach(here, "bak2")
    with pytest.raises(UsageError, match="bak1, bak2"):
        reach(here, "bak3")


@pytest.mark.parametrize("name", ["", "sha256:aa", "a/b", "-x", ".x", "a\n", "a\udcff", "x" * 101, " a"])
def test_names_that_no_peer_may_have(name: str) -> None:
    assert not peer_name_fits(name)
    with pytest.raises(ValueError):
        enrolled(name, WEB)


# ------------------------------------------------------------------------------------------------ the file


class Kept(PeerBook):
    """A book in memory."""

    def __init__(self, book: Book) -> None:
        self.book = book

    def read(self) -> Book:
        return self.book


def test_kept_private_and_whole(tmp_path: Path) -> None:
    book = PeerBook(tmp_path)
    assert book.read() == Book()
    written = book.change(lambda old: old.with_peer(enrolled("灾备", WEB)).without([revoked("x", OTHER)]))
    assert PeerBook(tmp_path).read() == written
    assert (tmp_path / FILE).stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


@pytest.mark.parametrize("at", ["fsync", "rename"])
def test_a_full_disk_leaves_the_old_book(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at: str) -> None:
    book = PeerBook(tmp_path)
    before = book.change(lambda old: old.with_peer(enrolled("web1", WEB)))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, at, full)
        with pytest.raises(UsageError, match="No space left"):
            book.change(lambda old: old.with_peer(enrolled("web2", OTHER)))
    assert book.read() == before
    # And what the failure left does not stand in the way.
    assert len(book.change(lambda old: old.with_peer(enrolled("web2", OTHER))).enrolled) == 2


@pytest.mark.parametrize(
    "damage",
    [
        "",
        "[]",
        '{"enrolled": [{}]}',
        '{"trusted": []}',
        '{"enrolled": [{"name": "a", "fingerprint": "sha256:aa", "role": "work", "since": ""}]}',
        f'{{"enrolled": [{{"name": "../a", "fingerprint": "{WEB}", "role": "work", "since": ""}}]}}',
        f'{{"enrolled": [{{"name": "a", "fingerprint": "{WEB}", "role": "root", "since": ""}}]}}',
    ],
)
def test_a_damaged_book_trusts_nobody_and_is_kept(tmp_path: Path, damage: str) -> None:
    (tmp_path / FILE).write_text(damage)
    (tmp_path / FILE).chmod(0o600)
    with pytest.raises(UsageError, match=r"peers\.json.*damaged"):
        Trust(config(), PeerBook(tmp_path), lambda code, line: None)
    with pytest.raises(UsageError):
        PeerBook(tmp_path).change(lambda old: old.with_peer(enrolled("web1", WEB)))
    assert (tmp_path / FILE).read_text() == damage


def test_a_book_that_others_may_write_is_refused(tmp_path: Path) -> None:
    PeerBook(tmp_path).change(lambda old: old.with_peer(enrolled("web1", WEB)))
    (tmp_path / FILE).chmod(0o666)
    with pytest.raises(UsageError, match="0666"):
        PeerBook(tmp_path).read()


# ------------------------------------------------------------------------------------------------ while it runs


async def test_trust_changes_in_place() -> None:
    said: list[tuple[Code | None, str]] = []
    kept = Kept(Book())
    trust = Trust(config(), kept, lambda code, line: said.append((code, line)))
    callers = trust.callers
    kept.book = kept.book.with_peer(enrolled("web1", WEB))
    assert await trust.refresh() == Change(gained=((PeerRole.WORK, "web1"),), lost=())
    assert callers == {WEB: "web1"}
    assert await trust.refresh() == Change((), ())
    kept.book = kept.book.with_peer(enrolled("web1", OTHER))
    both = ((PeerRole.WORK, "web1"),)
    assert await trust.refresh() == Change(gained=both, lost=both)
    assert callers == {OTHER: "web1"}
    kept.book = kept.book.without([revoked("web1", OTHER)])
    assert await trust.refresh() == Change(gained=(), lost=both)
    assert callers == {}
    assert said[-1][0] is Code.PEER_REFUSED


async def test_a_damaged_book_does_not_change_who_is_trusted(tmp_path: Path) -> None:
    book = PeerBook(tmp_path)
    book.change(lambda old: old.with_peer(enrolled("web1", WEB)))
    trust = Trust(config(), book, lambda code, line: None)
    (tmp_path / FILE).write_text("{")
    with pytest.raises(UsageError):
        await trust.refresh()
    assert trust.callers == {WEB: "web1"}


async def test_a_work_nodes_name_never_stands_for_a_console() -> None:
    here = config(consoles=(PeerEntry(name="office", fingerprint=CONSOLE),))
    trust = Trust(here, Kept(Book(enrolled=(enrolled("office", WEB),))), lambda code, line: None)
    assert trust.controllers == {CONSOLE: CONSOLE, WEB: WEB}
    assert trust.holder(PeerRole.CONSOLE, WEB) is None
    assert trust.holder(PeerRole.WORK, CONSOLE) is None


async def test_an_unpaired_backup_node_is_not_connected_to() -> None:
    here = config(backup=(PeerEntry(name="bak1", address="127.0.0.1"),))
    trust = Trust(here, Kept(Book()), lambda code, line: None)

    class NoClient(TrustedTransport):
        def __init__(self) -> None:
            super().__init__(self, trust)

    with pytest.raises(PeerRefused, match="i2 node join"):
        await NoClient().connect(reach(here, "bak1"), Channel.MIRROR)
