"""Chains of drivers that act as one: filters that must all agree, codecs that encode in order and decode in reverse."""

from __future__ import annotations

from collections.abc import Sequence

from i2core.api import Codec, Filter, Place
from i2core.api.records import Buffer


class FilterChain(Filter):
    """Wants an object that every filter wants; an empty chain wants all."""

    def __init__(self, filters: Sequence[Filter]) -> None:
        self._filters = tuple(filters)

    def wants(self, place: Place, is_dir: bool) -> bool:
        return all(each.wants(place, is_dir) for each in self._filters)

    @property
    def empty(self) -> bool:
        """True when there is no filter."""
        return not self._filters


class CodecChain(Codec):
    """Encodes by each codec in turn, decodes in reverse; an empty chain passes bytes through.

    While decoding, each stage may yield at most `limit` bytes and a little overhead of the stages before it.
    """

    STAGE_OVERHEAD = 4096

    def __init__(self, codecs: Sequence[Codec]) -> None:
        self._codecs = tuple(codecs)

    def encode(self, data: Buffer, *, seq: int, header: bytes) -> Buffer:
        for codec in self._codecs:
            data = codec.encode(data, seq=seq, header=header)
        return data

    def decode(self, data: Buffer, *, seq: int, header: bytes, limit: int) -> Buffer:
        stages = len(self._codecs)
        for index, codec in enumerate(reversed(self._codecs)):
            room = limit + self.STAGE_OVERHEAD * (stages - 1 - index)
            data = codec.decode(data, seq=seq, header=header, limit=room)
        return data
