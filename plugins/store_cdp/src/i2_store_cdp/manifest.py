"""The manifest: which segments there are, where each ends, marks and the caller's note. One file, replaced as a whole.

The first line has the version and a checksum of the rest, which is JSON.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from functools import cached_property
from hashlib import blake2b
from typing import Any, Self

import attrs

from i2core.api import Code, StopRule
from i2core.api.journal import Mark, MarkKind, Position, Seal, Segment, SegmentGone
from i2core.api.journal.chain import ChainEnd

VERSION = 1
_WORD = "i2-cdp"


@attrs.frozen
class Entry:
    """A segment. Of the last one, `end` and `size` are those of its beginning: its file tells the rest."""

    number: int
    begin: ChainEnd
    end: ChainEnd
    """Of the chain; of a merged segment: at the end of what it replaces."""
    size: int
    first_ns: int
    seal: bytes | None = None
    """Of a merged one: the hash of its own last frame."""
    sealed_by: int = 0
    """Of a merged one: number of the newest MERGE frame that names it."""

    @cached_property
    def text(self) -> str:
        """As JSON. Made once: a history of a terabyte has 16,000 segments, and each new one writes the manifest."""
        seal = None if self.seal is None else self.seal.hex()
        fields = self.number, _end_out(self.begin), _end_out(self.end), self.size, self.first_ns, seal, self.sealed_by
        return json.dumps(fields, separators=(",", ":"))

    @property
    def end_position(self) -> Position:
        """Behind its last frame."""
        return Position(self.number, self.size)

    @property
    def stated_seal(self) -> Seal:
        """What a MERGE frame says of it; merged ones alone have one."""
        assert self.seal is not None
        return Seal(self.number, self.seal, self.begin.hash, self.end.hash)

    def segment(self) -> Segment:
        """As the contract has it."""
        return Segment(
            number=self.number,
            merged=self.seal is not None,
            first_frame=self.begin.number + 1,
            next_frame=self.end.number + 1,
            first_seq=self.begin.next_seq,
            next_seq=self.end.next_seq,
            first_ns=self.first_ns,
            last_ns=self.end.last_ns,
            applied_ns=self.end.applied_ns,
            size_bytes=self.size,
            before=self.begin.hash,
            after=self.end.hash,
        )


@attrs.frozen
class Manifest:
    """What is replaced in one step."""

    next_number: int
    """Of the next segment."""
    entries: tuple[Entry, ...]
    """Oldest first; frames are appended to the last one."""
    marks: tuple[Mark, ...] = ()
    note: bytes = b""

    def encode(self) -> bytes:
        """The file's content."""
        content = {
            "next": self.next_number,
            "marks": [[m.next_seq, m.time_ns, m.kind.value, m.name] for m in self.marks],
            "note": base64.b64encode(self.note).decode(),
        }
        segments = ",".join(entry.text for entry in self.entries)
        text = f'{json.dumps(content)[:-1]}, "segments": [{segments}]}}'.encode()
        return f"{_WORD} {VERSION} {_checksum(text)}\n".encode() + text

    @classmethod
    def decode(cls, data: bytes, obj: str) -> Self:
        """The manifest again. `obj`: its path, for errors.

        Raises:
            StopRule: of another version (3543), or damaged (3531).
        """
        first, _, text = data.partition(b"\n")
        word, _, rest = first.partition(b" ")
        version, _, checksum = rest.partition(b" ")
        if word != _WORD.encode() or not version.isdigit():
            raise _damaged(obj)
        if int(version) != VERSION:
            cause = f"the CDP data has version {int(version)}, this software reads version {VERSION}"
            raise StopRule(cause, code=Code.CDP_VERSION, obj=obj, next_step="install the version that wrote it")
        if checksum.decode("ascii", "replace") != _checksum(text):
            raise _damaged(obj)
        content = json.loads(text)
        marks = tuple(Mark(seq, time_ns, MarkKind(kind), name) for seq, time_ns, kind, name in content["marks"])
        entries = tuple(_entry_in(fields) for fields in content["segments"])
        return cls(content["next"], entries, marks, base64.b64decode(content["note"]))

    def index_of(self, number: int) -> int:
        """Where the segment is in `entries`; -1 when it is not."""
        return next((index for index, entry in enumerate(self.entries) if entry.number == number), -1)

    def run(self, numbers: Sequence[int]) -> tuple[Entry, ...]:
        """The entries of a run that may be replaced.

        Raises:
            SegmentGone: one is not there.
            ValueError: these are no neighbours, or the last one is among them.
        """
        for number in numbers:
            if self.index_of(number) < 0:
                raise SegmentGone(number)
        first = self.index_of(numbers[0]) if numbers else -1
        entries = self.entries[first : first + len(numbers)]
        if first < 0 or [entry.number for entry in entries] != list(numbers) or entries[-1] is self.entries[-1]:
            raise ValueError(f"no run of segments that may be replaced: {list(numbers)}")
        return entries


def in_order(marks: Sequence[Mark]) -> tuple[Mark, ...]:
    """Marks by moment, each once."""
    return tuple(sorted(set(marks), key=lambda mark: (mark.next_seq, mark.time_ns, mark.kind.value, mark.name)))


def _entry_in(fields: list[Any]) -> Entry:
    number, begin, end, size, first_ns, seal, sealed_by = fields
    kept = None if seal is None else bytes.fromhex(seal)
    return Entry(number, _end_in(begin), _end_in(end), size, first_ns, kept, sealed_by)


def _end_out(end: ChainEnd) -> list[Any]:
    return [*end[:-1], end.hash.hex()]


def _end_in(fields: list[Any]) -> ChainEnd:
    *numbers, digest = fields
    return ChainEnd._make((*numbers, bytes.fromhex(digest)))


def _checksum(text: bytes) -> str:
    return blake2b(text, digest_size=16).hexdigest()


def _damaged(obj: str) -> StopRule:
    return StopRule(
        "the CDP description file is damaged",
        code=Code.CDP_DESCRIPTION,
        obj=obj,
        next_step="restore the CDP directory, or clear the CDP data",
    )
