"""Logs by themselves: numbering, trimming at its boundaries, reading from a cursor (S33, S48, S55)."""

from __future__ import annotations

import random
from typing import Any

import pytest

from rtm_sansio.logs import BLOCK_OVERHEAD_BYTES, ENTRY_OVERHEAD_BYTES, Block, Log

LIMITS: dict[str, Any] = {
    "replay_seconds": 40.0,
    "history_seconds": 300.0,
    "history_entries": 1000,
    "max_bytes": 16 * 1024 * 1024,
}


def log_of(count: int, *, at: float = 0.0, size: int = 10) -> Log:
    """A log of single-entry blocks."""
    log = Log(b"epoch123")
    for number in range(count):
        log.append([number.to_bytes(size, "big")], at)
    return log


def test_offsets_are_consecutive() -> None:
    """S33: from 1, over all blocks."""
    log = Log(b"e")
    assert (log.end, log.first_kept, log.oldest_at, len(log)) == (0, 1, None, 0)
    first = log.append([b"a", b"b"], 1.0)
    second = log.append([b"c"], 2.0)
    assert first == Block(b"e", 1, (b"a", b"b"))
    assert (first.last_offset, second.first_offset, second.last_offset) == (2, 3, 3)
    assert (log.end, log.next_offset, log.first_kept, log.oldest_at, len(log)) == (3, 4, 1, 1.0, 3)


@pytest.mark.parametrize(("now", "kept"), [(299.999, 5), (300.0, 0), (300.001, 0)])
def test_history_of_300_seconds(now: float, kept: int) -> None:
    """S33: up to 1,000 entries."""
    log = log_of(5)
    log.trim(now, **LIMITS)
    assert len(log) == kept
    assert log.next_offset == 6
    assert log.first_kept == (1 if kept else 6)


@pytest.mark.parametrize(("now", "kept"), [(39.999, 1500), (40.0, 1500), (40.001, 1000)])
def test_every_entry_for_40_seconds(now: float, kept: int) -> None:
    """S33: whatever their number; older ones up to 1,000."""
    log = log_of(1500)
    log.trim(now, **LIMITS)
    assert len(log) == kept
    assert log.first_kept == 1501 - kept


@pytest.mark.parametrize(("count", "kept"), [(1000, 1000), (1001, 1000), (999, 999)])
def test_a_thousand_older_entries(count: int, kept: int) -> None:
    """S33: from both sides."""
    log = log_of(count)
    log.trim(100.0, **LIMITS)
    assert len(log) == kept


def test_whole_blocks_go_never_early() -> None:
    """S33: 1,500 entries in blocks of 400 are cut to 1,100, not to 700."""
    log = Log(b"e")
    for _ in range(3):
        log.append([b"x"] * 400, 0.0)
    log.append([b"x"] * 300, 0.0)
    log.trim(100.0, **LIMITS)
    assert len(log) == 1100


def test_only_bytes_shorten_the_40_seconds() -> None:
    """S33, S55: the size of an entry and what keeping it costs; from both sides."""
    size = 1000
    each = size + ENTRY_OVERHEAD_BYTES + BLOCK_OVERHEAD_BYTES
    limits = {**LIMITS, "max_bytes": 10 * each}
    log = log_of(10, size=size)
    assert log.byte_count == 10 * each
    assert log.trim(0.0, **limits) == 0
    log.append([b"x" * size], 0.0)
    assert log.trim(0.0, **limits) == each
    assert (len(log), log.byte_count, log.first_kept) == (10, 10 * each, 2)


def test_a_block_above_the_bound_is_not_kept() -> None:
    """S55: the bound holds whatever comes."""
    log = Log(b"e")
    log.append([b"x" * 1000], 0.0)
    log.trim(0.0, **{**LIMITS, "max_bytes": 500})
    assert (len(log), log.byte_count, log.first_kept, log.oldest_at) == (0, 0, 2, None)
    log.append([b"y"], 5.0)
    assert log.read(b"e", 1, 100).entries == (b"y",)


class TestReading:
    """S33, S48."""

    def test_from_a_cursor(self) -> None:
        """S33: everything behind it; quiet for hours is as good as new (F-39)."""
        log = log_of(10)
        reading = log.read(log.epoch, 7, 1000)
        assert (reading.cursor, reading.gap, reading.lost, len(reading.entries), reading.end) == (7, False, None, 3, 10)
        at_the_end = log.read(log.epoch, 10, 1000)
        assert (at_the_end.cursor, at_the_end.gap, at_the_end.entries) == (10, False, ())

    def test_in_pieces(self) -> None:
        """S49: at most so many bytes, but at least one entry; also from the middle of a block."""
        log = Log(b"e")
        log.append([b"x" * 10] * 7, 0.0)
        log.append([b"y" * 100], 0.0)
        assert len(log.read(b"e", 0, 30).entries) == 3
        assert len(log.read(b"e", 3, 39).entries) == 3
        assert log.read(b"e", 6, 50).entries == (b"x" * 10,)
        assert log.read(b"e", 7, 50).entries == (b"y" * 100,)

    def test_what_is_gone_is_counted(self) -> None:
        """S33: entries between the cursor and the first kept one."""
        log = log_of(10)
        for _ in range(4):
            log.drop_oldest()
        reading = log.read(log.epoch, 1, 1000)
        assert (reading.gap, reading.lost, reading.cursor, len(reading.entries)) == (True, 3, 4, 6)
        assert not log.read(log.epoch, 4, 1000).gap

    def test_all_is_gone(self) -> None:
        """S33: never silence."""
        log = log_of(3)
        log.trim(1000.0, **LIMITS)
        reading = log.read(log.epoch, 0, 100)
        assert (reading.gap, reading.lost, reading.cursor, reading.entries) == (True, 3, 3, ())
        assert not log.read(log.epoch, 3, 100).gap

    @pytest.mark.parametrize("cursor", [11, 2**63, -1])
    def test_a_cursor_that_cannot_be(self, cursor: int) -> None:
        """S48, F-33: a gap of unknown size, then the log from its end."""
        log = log_of(10)
        reading = log.read(log.epoch, cursor, 100)
        assert (reading.gap, reading.lost, reading.cursor, reading.entries) == (True, None, 10, ())

    @pytest.mark.parametrize("cursor", [0, 5, 2**63])
    def test_a_cursor_of_another_epoch(self, cursor: int) -> None:
        """S48, F-35: a gap of unknown size, then the log from its first kept entry."""
        log = log_of(10)
        log.drop_oldest()
        reading = log.read(b"other", cursor, 1000)
        assert (reading.gap, reading.lost, reading.cursor, len(reading.entries)) == (True, None, 1, 9)
        assert reading.epoch == log.epoch


@pytest.mark.parametrize("seed", range(20))
def test_any_history_reads_like_a_list(seed: int) -> None:
    """S33: appends, drops and reads in any order agree with a plain model."""
    rng = random.Random(seed)
    log, model, first = Log(b"e"), [], 1
    for step in range(400):
        if rng.random() < 0.6:
            entries = [bytes([step % 256]) * rng.randint(0, 20) for _ in range(rng.randint(1, 5))]
            log.append(entries, float(step))
            model.append((first + sum(len(block) for _, block in model), entries))
        elif model:
            log.drop_oldest()
            dropped = model.pop(0)
            first = dropped[0] + len(dropped[1])
            if model:
                first = model[0][0]
            model = model or []
        flat = [(start + index, entry) for start, block in model for index, entry in enumerate(block)]
        assert len(log) == len(flat)
        size = sum(len(entry) + ENTRY_OVERHEAD_BYTES for _, entry in flat)
        assert log.byte_count == size + BLOCK_OVERHEAD_BYTES * len(model)
        cursor = rng.randint(log.first_kept - 1, log.end)
        reading = log.read(b"e", cursor, 10_000)
        assert list(reading.entries) == [entry for offset, entry in flat if offset > cursor]


def test_what_was_dropped_is_not_held() -> None:
    """S55: nothing is kept beside what is counted."""
    log = Log(b"epoch")
    for number in range(40):
        log.append([b"x" * 1000], float(number))
    for _ in range(39):
        log.drop_oldest()
    assert sum(kept.size for kept in log._kept if kept.block.entries) == log.byte_count


def test_entries_by_their_offsets() -> None:
    """S56: with the times of their blocks, of which the first ones may be gone."""
    log = Log(b"e")
    for number in range(4):
        log.append([b"%d" % number, b"%d'" % number], float(number))
    log.drop_oldest()
    assert list(log.kept_at([3, 6, 7, 8])) == [(b"1", 1.0), (b"2'", 2.0), (b"3", 3.0), (b"3'", 3.0)]


def pages_log() -> Log:
    """Blocks of 3, 1 and 4 entries, at 1 to 8; each entry is its offset."""
    log = Log(b"e")
    for block in ([1, 2, 3], [4], [5, 6, 7, 8]):
        log.append([b"%d" % offset for offset in block], 0.0)
    return log


def offsets_of(page: Any) -> list[int]:
    found = [int(entry) for entry in page.entries]
    assert found == list(range(page.first_offset, page.first_offset + len(found)))
    return found


@pytest.mark.parametrize(
    ("before", "limit", "found", "more"),
    [
        (None, 100, [1, 2, 3, 4, 5, 6, 7, 8], False),
        (None, 8, [1, 2, 3, 4, 5, 6, 7, 8], False),
        (None, 7, [2, 3, 4, 5, 6, 7, 8], True),
        (None, 1, [8], True),
        (9, 1, [8], True),
        (1000, 2, [7, 8], True),
        (7, 3, [4, 5, 6], True),
        (3, 5, [1, 2], False),
        (2, 1, [1], False),
        (1, 5, [], False),
        (0, 5, [], False),
    ],
)
def test_pages_backwards(before: int | None, limit: int, found: list[int], more: bool) -> None:
    """S33: the last ones before an offset, over blocks and parts of them, whatever the offset is."""
    page = pages_log().page_before(before, limit, 1000)
    assert (offsets_of(page), page.more, page.epoch) == (found, more, b"e")


@pytest.mark.parametrize(
    ("after", "limit", "found", "more"),
    [
        (0, 100, [1, 2, 3, 4, 5, 6, 7, 8], False),
        (0, 1, [1], True),
        (1, 4, [2, 3, 4, 5], True),
        (5, 3, [6, 7, 8], False),
        (5, 2, [6, 7], True),
        (7, 9, [8], False),
        (8, 9, [], False),
        ((1 << 63) - 1, 9, [], False),
    ],
)
def test_pages_forwards(after: int, limit: int, found: list[int], more: bool) -> None:
    """S33: the first ones behind an offset; beyond the end nothing, with the offset of what is to come."""
    page = pages_log().page_behind(after, limit, 1000)
    assert (offsets_of(page), page.more) == (found, more)
    assert page.first_offset <= 9


def test_pages_have_a_size() -> None:
    """S49: at least one entry, then as many as fit."""
    log = log_of(10, size=10)
    for room, count in ((1, 1), (10, 1), (19, 1), (20, 2), (99, 9), (100, 10)):
        forwards, backwards = log.page_behind(0, 100, room), log.page_before(None, 100, room)
        assert (len(forwards.entries), forwards.first_offset, forwards.more) == (count, 1, count < 10)
        assert (len(backwards.entries), backwards.first_offset, backwards.more) == (count, 11 - count, count < 10)


def test_pages_of_what_is_left() -> None:
    """S33: before the first kept entry there is nothing, and behind it what is kept."""
    log = log_of(10)
    for _ in range(4):
        log.drop_oldest()
    page = log.page_before(None, 100, 1000)
    assert (page.first_offset, len(page.entries), page.more) == (5, 6, False)
    for before in (5, 4, 1):
        page = log.page_before(before, 100, 1000)
        assert (page.first_offset, page.entries, page.more) == (before, (), False)
    page = log.page_behind(0, 2, 1000)
    assert (page.first_offset, len(page.entries), page.more) == (5, 2, True)


@pytest.mark.parametrize("dropped", [False, True])
def test_pages_of_nothing(dropped: bool) -> None:
    """S33: of a log that is new, and of one that has nothing any more."""
    log = log_of(3 if dropped else 0)
    while len(log):
        log.drop_oldest()
    end = 4 if dropped else 1
    for page in (log.page_before(None, 5, 100), log.page_behind(0, 5, 100), log.page_behind(99, 5, 100)):
        assert (page.first_offset, page.entries, page.more) == (end, (), False)
