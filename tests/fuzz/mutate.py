"""Changes an input: bytes, words of its grammar, numbers at their bounds, and floods of what it is made of."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from random import Random

BOUNDS = (0, 1, 9, 255, 256, 65_535, 65_536, 2**31, 2**32 - 1, 2**63 - 1, 2**63, 2**64, 10**30)
NUMBERS = (*(b"%d" % number for number in BOUNDS), b"-1", b"1e30", b"0x10", b"00", b"0.5", b"NaN")
BYTES = (b"\0", b"\n", b"\r\n", b"\r", b" ", b"\t", b'"', b"\\", b"%", b"<", b">", b"\xff", b"\xc3", "\u2028".encode())
_NUMBER = re.compile(rb"[0-9]+")
FLOOD_SIZES = (200, 2_000, 20_000, 200_000)


class Mutator:
    """Makes new inputs of at most *max_bytes* out of known ones; *chance* decides."""

    def __init__(self, chance: Random, words: Sequence[bytes], max_bytes: int) -> None:
        self._chance = chance
        self._words = (*words, *BYTES)
        self._max_bytes = max_bytes
        self._changes: tuple[Callable[[bytes], bytes], ...] = (
            *(self._flip, self._insert, self._insert, self._delete, self._replace, self._repeat, self._number),
            *(self._move, self._cut),
        )

    def changed(self, data: bytes, other: bytes) -> bytes:
        """*data* with a few changes, now and then with a part of *other*, or flooded."""
        chance = self._chance
        if chance.randrange(8) == 0:
            at = self._place(data)
            data = data[:at] + other[self._place(other) :]
        for _ in range(chance.choice((1, 1, 2, 3, 6))):
            data = chance.choice(self._changes)(data)
        if chance.randrange(12) == 0:
            data = self._flood(data)
        return data[: self._max_bytes]

    def _place(self, data: bytes) -> int:
        return self._chance.randint(0, len(data))

    def _span(self, data: bytes, most: int) -> tuple[int, int]:
        begin = self._place(data)
        return begin, min(len(data), begin + self._chance.randint(1, most))

    def _word(self) -> bytes:
        return self._chance.choice(self._words) if self._chance.randrange(4) else self._chance.randbytes(1)

    def _flip(self, data: bytes) -> bytes:
        if not data:
            return self._word()
        at = self._chance.randrange(len(data))
        return data[:at] + bytes([data[at] ^ (1 << self._chance.randrange(8))]) + data[at + 1 :]

    def _insert(self, data: bytes) -> bytes:
        at = self._place(data)
        return data[:at] + self._word() + data[at:]

    def _delete(self, data: bytes) -> bytes:
        begin, end = self._span(data, 16)
        return data[:begin] + data[end:]

    def _replace(self, data: bytes) -> bytes:
        begin, end = self._span(data, 8)
        return data[:begin] + self._word() + data[end:]

    def _repeat(self, data: bytes) -> bytes:
        begin, end = self._span(data, 40)
        return data[:end] + data[begin:end] * self._chance.choice((1, 1, 2, 7)) + data[end:]

    def _move(self, data: bytes) -> bytes:
        begin, end = self._span(data, 40)
        at = self._place(data)
        return data[:at] + data[begin:end] + data[at:]

    def _cut(self, data: bytes) -> bytes:
        return data[: self._place(data)] if self._chance.randrange(3) == 0 else data

    def _number(self, data: bytes) -> bytes:
        found = list(_NUMBER.finditer(data[:10_000]))
        if not found:
            return self._insert(data)
        number = self._chance.choice(found)
        return data[: number.start()] + self._chance.choice(NUMBERS) + data[number.end() :]

    def _flood(self, data: bytes) -> bytes:
        """Something small, very often: what is quadratic or worse takes long then."""
        begin, end = self._span(data, self._chance.choice((1, 2, 4, 12, 60)))
        unit = data[begin:end] if end > begin and self._chance.randrange(3) else self._word()
        size = min(self._chance.choice(FLOOD_SIZES), self._max_bytes)
        return data[:begin] + unit * (size // len(unit)) + data[end:]
