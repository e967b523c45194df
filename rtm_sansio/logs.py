"""A log: consecutive offsets and an epoch. The one place that numbers entries, and the one that reads them from a
cursor (S33, S48)."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence

import msgspec

ENTRY_OVERHEAD_BYTES = 64
"""What keeping an entry costs besides its bytes, for the byte bounds."""
BLOCK_OVERHEAD_BYTES = 256
"""What keeping a block costs besides its entries."""

_COMPACT_FROM = 64


class Block(msgspec.Struct, frozen=True, gc=False):
    """Entries that were appended together: the unit of announcement and of trimming (E3)."""

    epoch: bytes
    first_offset: int
    entries: tuple[bytes, ...]

    @property
    def last_offset(self) -> int:
        """The offset of the last entry."""
        return self.first_offset + len(self.entries) - 1


class Reading(msgspec.Struct, frozen=True, kw_only=True):
    """What a log has behind a cursor.

    ``gap`` says that the cursor did not hold: then the reading starts behind ``cursor``, and ``lost`` entries are
    gone, or an unknown number (None). ``end`` is the offset of the log's last entry.
    """

    epoch: bytes
    cursor: int
    gap: bool
    lost: int | None
    entries: tuple[bytes, ...]
    end: int


class Page(msgspec.Struct, frozen=True, kw_only=True):
    """Consecutive entries of a log's history, the first at ``first_offset``; whether there are ``more`` in the
    direction in which they were asked for."""

    epoch: bytes
    first_offset: int
    entries: tuple[bytes, ...]
    more: bool


class _Kept:
    """A block while it is kept."""

    __slots__ = ("appended_at", "block", "size")

    def __init__(self, block: Block, appended_at: float) -> None:
        self.block = block
        self.appended_at = appended_at
        self.size = sum(map(len, block.entries)) + ENTRY_OVERHEAD_BYTES * len(block.entries) + BLOCK_OVERHEAD_BYTES


_DROPPED = _Kept(Block(b"", 0, ()), 0.0)


def _last_offset(kept: _Kept) -> int:
    return kept.block.last_offset


class Log:
    """The entries of one home. Trimming takes whole blocks, and may be late, never early."""

    __slots__ = ("_count", "_first", "_kept", "byte_count", "epoch", "next_offset")

    def __init__(self, epoch: bytes, *, first_offset: int = 1) -> None:
        self.epoch = epoch
        self.next_offset = first_offset
        self.byte_count = 0
        self._count = 0
        # What is kept begins at index ``_first``: a list, because readers far behind search in it.
        self._kept: list[_Kept] = []
        self._first = 0

    def __len__(self) -> int:
        return self._count

    @property
    def end(self) -> int:
        """The offset of the last entry ever appended; 0 before the first."""
        return self.next_offset - 1

    @property
    def first_kept(self) -> int:
        """The offset of the first entry that is still there; the next offset if none is."""
        return self._kept[self._first].block.first_offset if self._count else self.next_offset

    @property
    def oldest_at(self) -> float | None:
        """When the oldest kept block was appended."""
        return self._kept[self._first].appended_at if self._count else None

    @property
    def oldest(self) -> Block | None:
        """The oldest kept block."""
        return self._kept[self._first].block if self._count else None

    def kept_at(self, offsets: Iterable[int]) -> Iterator[tuple[bytes, float]]:
        """Kept entries, and when each was appended, by their offsets, which rise."""
        index = self._first
        for offset in offsets:
            while self._kept[index].block.last_offset < offset:
                index += 1
            kept = self._kept[index]
            yield kept.block.entries[offset - kept.block.first_offset], kept.appended_at

    @staticmethod
    def cost_of(entry: bytes) -> int:
        """What keeping an entry costs, in a block of its own."""
        return len(entry) + ENTRY_OVERHEAD_BYTES + BLOCK_OVERHEAD_BYTES

    def append(self, entries: Sequence[bytes], now: float) -> Block:
        """Number ``entries``, of which there is at least one, and keep them."""
        block = Block(self.epoch, self.next_offset, tuple(entries))
        kept = _Kept(block, now)
        self._kept.append(kept)
        self._count += len(entries)
        self.byte_count += kept.size
        self.next_offset += len(entries)
        return block

    def drop_oldest(self) -> int:
        """Drop the oldest block; returns the bytes that became free."""
        oldest = self._kept[self._first]
        self._kept[self._first] = _DROPPED  # the place stays for a while, but not what was there
        self._first += 1
        if self._first >= _COMPACT_FROM and self._first * 2 > len(self._kept):
            del self._kept[: self._first]
            self._first = 0
        self._count -= len(oldest.block.entries)
        self.byte_count -= oldest.size
        if not self._count:
            self._kept.clear()
            self._first = 0
        return oldest.size

    def trim(
        self, now: float, *, replay_seconds: float, history_seconds: float, history_entries: int, max_bytes: int
    ) -> int:
        """Drop what need not be kept any more (S33); returns the bytes that became free."""
        freed = 0
        while self._count:
            oldest = self._kept[self._first]
            over_count = self._count - len(oldest.block.entries) >= history_entries
            if (
                oldest.appended_at + history_seconds <= now
                or (over_count and oldest.appended_at + replay_seconds < now)
                or self.byte_count > max_bytes
            ):
                freed += self.drop_oldest()
            else:
                break
        return freed

    def read(self, epoch: bytes, cursor: int, max_bytes: int) -> Reading:
        """What stands behind ``cursor``: at least one entry if there is one, then as many as ``max_bytes`` allow.

        A cursor of another epoch, or beyond the end, is never an error: it is a gap of unknown size (S48).
        """
        gap, lost = False, None
        if epoch != self.epoch:
            gap, cursor = True, self.first_kept - 1
        elif cursor > self.end or cursor < 0:
            gap, cursor = True, self.end
        elif cursor < self.first_kept - 1:
            gap, lost, cursor = True, self.first_kept - 1 - cursor, self.first_kept - 1
        entries: list[bytes] = []
        room = max_bytes
        for index in range(bisect_right(self._kept, cursor, lo=self._first, key=_last_offset), len(self._kept)):
            block = self._kept[index].block
            for entry in block.entries[max(0, cursor + 1 - block.first_offset) :]:
                room -= len(entry)
                if room < 0 and entries:
                    return self._reading(cursor, gap, lost, entries)
                entries.append(entry)
        return self._reading(cursor, gap, lost, entries)

    def page_behind(self, after: int, limit: int, max_bytes: int) -> Page:
        """Up to ``limit`` kept entries behind an offset, the first ones: at least one if there is one. Behind an
        offset beyond the end there is what is behind the end: nothing yet."""
        first = min(max(after + 1, self.first_kept), self.next_offset)
        entries = self.read(self.epoch, first - 1, max_bytes).entries[:limit] if first < self.next_offset else ()
        return Page(epoch=self.epoch, first_offset=first, entries=entries, more=first + len(entries) < self.next_offset)

    def page_before(self, before: int | None, limit: int, max_bytes: int) -> Page:
        """Up to ``limit`` kept entries before an offset, or of all (None), the last ones: at least one if there is
        one."""
        end = self.next_offset if before is None else max(0, min(before, self.next_offset))
        entries: list[bytes] = []
        index = bisect_right(self._kept, end - 1, lo=self._first, key=_last_offset)
        room = max_bytes
        for place in range(min(index, len(self._kept) - 1), self._first - 1, -1):
            block = self._kept[place].block
            for entry in reversed(block.entries[: max(0, end - block.first_offset)]):
                room -= len(entry)
                if len(entries) == limit or (room < 0 and entries):
                    return self._page_before(end, entries)
                entries.append(entry)
        return self._page_before(end, entries)

    def _page_before(self, end: int, newest_first: list[bytes]) -> Page:
        first = end - len(newest_first)
        entries = tuple(reversed(newest_first))
        return Page(epoch=self.epoch, first_offset=first, entries=entries, more=first > self.first_kept)

    def _reading(self, cursor: int, gap: bool, lost: int | None, entries: list[bytes]) -> Reading:
        return Reading(epoch=self.epoch, cursor=cursor, gap=gap, lost=lost, entries=tuple(entries), end=self.end)
