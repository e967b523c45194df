"""The hub's channels: subscriptions, blocks in their order, fan-out to those who keep up, pieces for those who do not
(S42, S48, S49, S52, E5)."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterator, Sequence
from itertools import chain
from typing import Any

from ._encodings import ENCODINGS, Encoding
from ._hub_engine import EnginePort
from ._hub_flood import FloodGate
from ._hub_transports import Transports
from ._hubparts import AttachedSession, HubContext, Position, ServerLink, WatchedLog
from .logs import Block, Reading
from .messages import INBOX, Gap, Going, GoOn, MemberCount
from .operations import (
    BlockAnnounced,
    CountAnnounced,
    LogEnd,
    ReadLog,
    WatchChannel,
    home_of_channel,
    home_of_user,
)

_FRAME_OVERHEAD_BYTES = 256
_BYTES_PER_UNIT = 4096
"""What a unit of the rate pays for, of what a transport is given again at its own wish (S51)."""
_COMPARISON_STEPS = 100
"""Ends are compared in so many small batches within their time, not one by one (E5)."""
_STALE_COMPARISONS = 1024


class Channels:
    """All channels that have readers or publishers on this hub."""

    def __init__(
        self,
        context: HubContext,
        transports: Transports,
        engine: EnginePort,
        flood_gate: FloodGate,
        rng: random.Random,
    ) -> None:
        self._context = context
        self._transports = transports
        self._engine = engine
        self._flood_gate = flood_gate
        self._rng = rng
        config = context.config
        self._compare_seconds = config.compare_ends_seconds
        self._comparisons: list[tuple[float, int, WatchedLog]] = []  # one for each channel watched outside (E5)
        self._sequence = 0
        self._slow_bytes = config.slow_reader_bytes
        self._feed_below = config.feed_below_bytes
        self._frame_room = config.max_frame_bytes - config.max_name_length - _FRAME_OVERHEAD_BYTES
        self._piece_bytes = min(config.feed_piece_bytes, self._frame_room)
        self._by_home: dict[str, WatchedLog] = {}
        self._fresh: dict[WatchedLog, None] = {}
        self._feeding: dict[ServerLink, None] = {}

    # --------------------------------------------------------------------------------------- use and release

    def use(self, name: str) -> WatchedLog:
        """The channel of this name, kept until ``let_go``."""
        return self._use(home_of_channel(name), name)

    def _use(self, home: str, name: str) -> WatchedLog:
        log = self._by_home.get(home)
        if log is None:
            log = self._by_home[home] = WatchedLog(home, name)
        log.users += 1
        return log

    def open_inbox(self, session: AttachedSession) -> None:
        """The session's inbox: its blocks are announced to the node that the session is attached to (S56)."""
        start = session.inbox_start
        session.inbox = inbox = self._use(home_of_user(session.uid), INBOX)
        if inbox.epoch != start.epoch or inbox.end < start.end:
            for live in inbox.live:
                live.clear()  # of a session that has ended, and is about to be dropped here
            inbox.fresh.clear()
            self._fresh.pop(inbox, None)
            inbox.epoch = start.epoch
            inbox.end = inbox.flushed_end = start.end
        if self._engine.is_external and not inbox.watched:
            self._schedule_comparison(inbox)
        inbox.watched = True

    def let_go(self, channel: WatchedLog) -> None:
        """One user less; the last one ends the subscription."""
        channel.users -= 1
        if channel.users:
            return
        del self._by_home[channel.home]
        self._fresh.pop(channel, None)
        if channel.watched:
            channel.watched = False
            if channel.name != INBOX:
                self._engine.call(self._watch(channel, on=False))
            if len(self._comparisons) > 2 * len(self._by_home) + _STALE_COMPARISONS:
                self._comparisons = [entry for entry in self._comparisons if entry[2].watched]
                heapq.heapify(self._comparisons)

    def enter(self, session: AttachedSession, name: str) -> WatchedLog:
        """The session has a part in the channel."""
        channel = session.channels[name] = self.use(name)
        return channel

    def leave(self, session: AttachedSession, channel: WatchedLog) -> None:
        """The session has no part in the channel any more. What was given of it goes out before anything later."""
        del session.channels[channel.name]
        link = session.link
        assert link is not None  # without one, a session has no channels
        channel.live_with(link).pop(link, None)
        if link.blocks is not None:
            self._transports.transmit(link)
        if session.positions is not None:
            session.positions.pop(channel, None)
        if session.held is not None:
            session.held.pop(channel, None)
        self.let_go(channel)

    def part(self, session: AttachedSession, link: ServerLink) -> None:
        """The link no longer serves the session."""
        session.positions = session.held = None
        self._feeding.pop(link, None)
        channels, session.channels = session.channels, {}
        inbox, session.inbox = session.inbox, None
        for channel in (*channels.values(), *(() if inbox is None else (inbox,))):
            channel.live_with(link).pop(link, None)
            self.let_go(channel)

    def watch(self, channel: WatchedLog, then: Callable[[], None]) -> None:
        """Subscribe, have that confirmed, and know the log's end (E5). The caller uses the channel until ``then``."""
        if channel.watched:
            then()
            return
        if channel.waiters is not None:
            channel.waiters.append(then)
            return
        channel.waiters = waiters = [then]

        def on_watched(answer: LogEnd) -> None:
            channel.waiters = None
            channel.watched = True
            channel.epoch = answer.epoch
            channel.end = channel.flushed_end = answer.end
            channel.member_count = answer.member_count
            if self._engine.is_external:
                self._schedule_comparison(channel)
            for waiter in waiters:
                waiter()
            if channel.missed and channel.watched:
                self._read_hole(channel)
            if channel.count_missed and channel.watched:
                channel.count_missed = False
                self._engine.call(operation, lambda answer: self._take_count(channel, answer.member_count))

        operation = self._watch(channel, on=True)
        self._engine.call(operation, on_watched)

    def _watch(self, channel: WatchedLog, *, on: bool) -> WatchChannel:
        return WatchChannel(channel=channel.name, node=self._context.node, on=on, lease=self._context.lease)

    # ------------------------------------------------------------------------------------------ ends compared

    def next_deadline(self) -> float | None:
        """When ends are to be compared; None with an embedded engine, whose announcements are never lost."""
        return self._comparisons[0][0] if self._comparisons else None

    def handle_timeout(self) -> None:
        """Compare the ends whose time has come, and those of the next moment with them."""
        now = self._context.now
        if not self._comparisons or self._comparisons[0][0] > now:
            return
        horizon = now + self._compare_seconds / _COMPARISON_STEPS
        while self._comparisons and self._comparisons[0][0] <= horizon:
            channel = heapq.heappop(self._comparisons)[2]
            if channel.watched:
                self._compare(channel)
                self._schedule_comparison(channel)

    def compare_all(self) -> None:
        """The connection to the engine was gone: announcements are lost, and perhaps all subscriptions (E5)."""
        for channel in list(self._by_home.values()):
            if channel.watched:
                self._compare(channel)

    def _schedule_comparison(self, channel: WatchedLog) -> None:
        """Within the time, but not all channels that were watched at one moment at another one."""
        self._sequence += 1
        due_at = self._context.now + self._compare_seconds * self._rng.uniform(0.5, 1.0)
        heapq.heappush(self._comparisons, (due_at, self._sequence, channel))

    def _compare(self, channel: WatchedLog) -> None:
        """Subscribe again, and read what the log has and this hub has not heard of."""
        if channel.name == INBOX:  # whose subscription is the session's attachment
            self._read_hole(channel)
            return
        epoch, end = channel.epoch, channel.end

        def on_end(answer: LogEnd) -> None:
            if not channel.watched:
                return
            if answer.member_count != channel.member_count:
                self._take_count(channel, answer.member_count)
            # An end before one that was known when it was asked for: the engine has lost entries (E10).
            lost = answer.epoch == epoch and answer.end < end
            if lost or answer.epoch != channel.epoch or answer.end > channel.end:
                self._read_hole(channel)

        self._engine.call(self._watch(channel, on=True), on_end)

    # ------------------------------------------------------------------------------------------------ blocks

    def announced(self, announcement: BlockAnnounced) -> None:
        """A block from the engine."""
        channel = self._by_home.get(announcement.log)
        if channel is not None:
            self.take_block(channel, announcement.block)

    def counted(self, announcement: CountAnnounced) -> None:
        """The number of members, for those who are not told of joins and leaves (S38): a latest value, which stands
        behind the entries that were there before, and which whoever is behind gets when it is live again."""
        channel = self._by_home.get(home_of_channel(announcement.channel))
        if channel is not None:
            self._take_count(channel, announcement.member_count)

    def _take_count(self, channel: WatchedLog, member_count: int | None) -> None:
        if not channel.watched:
            channel.count_missed = True  # nobody knows which is later, this or what the confirmation is going to tell
            return
        channel.member_count = member_count
        channel.count_fresh = member_count is not None
        if channel.count_fresh:
            self._fresh[channel] = None

    def _go_live(self, link: ServerLink, channel: WatchedLog) -> None:
        """The next block that is fanned out is the reader's next one."""
        channel.live_with(link)[link] = None
        if channel.member_count is not None and not channel.count_fresh:
            self._give(link, MemberCount(channel.name, channel.member_count))

    def take_block(self, channel: WatchedLog, block: Block) -> None:
        """Blocks are delivered in the order of their offsets, whichever way they come (E5)."""
        if not channel.watched:
            channel.missed = True  # it may stand behind the end that the confirmation is going to tell
            return
        if block.epoch != channel.epoch or block.first_offset > channel.end + 1:
            self._read_hole(channel)
        elif block.last_offset > channel.end:
            if block.first_offset <= channel.end:
                known = channel.end + 1 - block.first_offset
                block = Block(block.epoch, channel.end + 1, block.entries[known:])
            channel.end = block.last_offset
            channel.fresh.append(block)
            self._fresh[channel] = None

    def _read_hole(self, channel: WatchedLog) -> None:
        """A block that is not the next one: read the log, and once more if others came meanwhile."""
        if channel.reading_hole:
            channel.missed = True
            return
        channel.reading_hole = True
        channel.missed = False

        def on_read(reading: Reading) -> None:
            channel.reading_hole = False
            if not channel.watched or _is_of_another_session(channel, channel.epoch, reading):
                return
            if reading.gap:
                self._start_anew(channel, reading)
            elif reading.entries:
                self.take_block(channel, Block(reading.epoch, reading.cursor + 1, reading.entries))
            if channel.missed or reading.end > channel.end:
                self._read_hole(channel)
            elif channel.count_fresh:
                self._fresh[channel] = None

        operation = ReadLog(log=channel.home, epoch=channel.epoch, cursor=channel.end, max_bytes=self._piece_bytes)
        self._engine.call(operation, on_read)

    def _start_anew(self, channel: WatchedLog, reading: Reading) -> None:
        """What is gone here is a gap for every reader: each finds out from its own cursor."""
        for link in list(chain.from_iterable(channel.live)):
            self._fall_behind(link, channel, channel.flushed_end)
        channel.fresh.clear()
        self._fresh.pop(channel, None)
        channel.epoch = reading.epoch
        channel.end = channel.flushed_end = reading.end

    # ----------------------------------------------------------------------------------------------- readers

    def place(self, link: ServerLink, session: AttachedSession, channel: WatchedLog, epoch: bytes, cursor: int) -> None:
        """A reader at this cursor is live, or is fed from the log until it is (S49)."""
        self.hold(link, session, channel)
        given = 0 if session.held is None else session.held.pop(channel, 0)
        # What was announced of an inbox before the hub knew of the session has to be read (E5).
        is_current = epoch == channel.epoch and channel.flushed_end <= cursor <= channel.end
        if is_current and channel.name != INBOX:
            self._go_live(link, channel)
        else:
            self._remember(link, session, channel, Position(epoch, cursor, given))

    def is_placed(self, link: ServerLink, session: AttachedSession, channel: WatchedLog) -> bool:
        """Whether the reader is live or fed: it may have asked to go on before its statement was answered."""
        return link in channel.live_with(link) or (session.positions is not None and channel in session.positions)

    def hold(self, link: ServerLink, session: AttachedSession, channel: WatchedLog) -> None:
        """Nothing more of this log: it has no position here meanwhile, only the mark up to where it was given
        (S52)."""
        position = None if session.positions is None else session.positions.pop(channel, None)
        if position is not None:
            given = max(position.given, position.cursor) if position.epoch == channel.epoch else position.given
        elif link in (live := channel.live_with(link)):
            del live[link]
            given = channel.flushed_end
        else:
            return
        if session.held is None:
            session.held = {}
        session.held[channel] = given

    def go_on(self, link: ServerLink, session: AttachedSession, go_on: GoOn) -> None:
        """The log from behind this cursor; the answer stands before what was asked for (S48, S52)."""
        channel = session.log_of(go_on.log)
        if channel is None:
            return
        channel.users += 1

        def on_watched() -> None:
            if session.link is link and session.log_of(channel.name) is channel:
                self._give(link, Going(go_on.log))
                self.place(link, session, channel, go_on.epoch, go_on.cursor)
            self.let_go(channel)

        self.watch(channel, on_watched)

    def _remember(self, link: ServerLink, session: AttachedSession, channel: WatchedLog, position: Position) -> None:
        if session.positions is None:
            session.positions = {}
        session.positions[channel] = position
        self._feeding[link] = None

    def _fall_behind(self, link: ServerLink, channel: WatchedLog, cursor: int) -> None:
        del channel.live_with(link)[link]
        assert link.session is not None  # a link that serves none is live nowhere
        self._remember(link, link.session, channel, Position(channel.epoch, cursor))

    def buffer_fell(self, link: ServerLink) -> None:
        """The link's buffer may be low enough for the next piece."""
        session = link.session
        if session is not None and session.positions:
            self._feeding[link] = None

    # ------------------------------------------------------------------------------------------------- flush

    @property
    def flush_wanted(self) -> bool:
        """Whether there is something to fan out or to feed."""
        return bool(self._fresh or self._feeding)

    def flush(self) -> None:
        """Fan out what is new, and feed who is behind."""
        if self._fresh:
            fresh, self._fresh = self._fresh, {}
            for channel in fresh:
                self._fan_out(channel)
        if self._feeding:
            for link in list(self._feeding):
                self._feed(link)

    def _fan_out(self, channel: WatchedLog) -> None:
        """One frame for all readers of an encoding that keep up: the same bytes for each (E4)."""
        blocks, channel.fresh = channel.fresh, []
        readers = [(encoding, live) for encoding, live in zip(ENCODINGS, channel.live, strict=True) if live]
        if readers and blocks:
            slow = self._slow_bytes
            epoch = blocks[0].epoch
            # So that a frame of several entries is no larger in another encoding.
            room = self._frame_room // max([encoding.growth for encoding, _ in readers])
            for first_offset, entries in _runs_of(blocks, room):
                for encoding, live in readers:
                    for link in [link for link in live if link.unsent + link.pending > slow]:
                        self._fall_behind(link, channel, channel.flushed_end)
                    if live:
                        frame = _entries_frame(encoding, channel.name, epoch, first_offset, entries)
                        self._transports.give_all(live, frame)
                channel.flushed_end = first_offset + len(entries) - 1
        channel.flushed_end = channel.end
        if channel.count_fresh and not channel.reading_hole:
            channel.count_fresh = False
            assert channel.member_count is not None
            count = MemberCount(channel.name, channel.member_count)
            for encoding, live in readers:
                self._transports.give_all(live, encoding.frame(encoding.encode_batch([count])))

    def _give(self, link: ServerLink, message: Any) -> None:
        """A message that stands in its place among the entries."""
        encoding = link.encoding
        self._transports.give(link, encoding.frame(encoding.encode_batch([message])))

    def _feed(self, link: ServerLink) -> None:
        """Give a link that is behind its next piece, from the log that has waited longest."""
        session = link.session
        if session is None or not session.positions or session.reading or link.unsent >= self._feed_below:
            # Nothing to do until a position, an answer or a lower buffer brings it back.
            del self._feeding[link]
            return
        if link.pending >= self._feed_below:
            return  # what it is given in this pass counts as well: look again when that is written
        channel, position = next(iter(session.positions.items()))
        session.reading = True
        max_bytes = self._piece_bytes // link.encoding.growth
        operation = ReadLog(log=channel.home, epoch=position.epoch, cursor=position.cursor, max_bytes=max_bytes)
        self._engine.call(operation, lambda reading: self._on_piece(link, session, channel, position, reading))

    def _on_piece(
        self,
        link: ServerLink,
        session: AttachedSession,
        channel: WatchedLog,
        position: Position,
        reading: Reading,
    ) -> None:
        session.reading = False
        if session.link is not link or not session.positions:
            return
        self._feeding[link] = None
        if session.positions.get(channel) is not position:
            return  # held, left, or placed anew meanwhile
        if _is_of_another_session(channel, session.inbox_start.epoch, reading):
            del session.positions[channel]
            return
        if reading.cursor < position.given:
            # It was given this before. Only who asks for it again pays: not who is slow, or comes back (S49, S51).
            units = 1 + sum(map(len, reading.entries)) // _BYTES_PER_UNIT
            if self._flood_gate.is_flood(link, session, units):
                return
        del session.positions[channel]
        if not session.positions:
            session.positions = None  # most sessions have none for most of their time
        if reading.gap:
            gap = Gap(channel.name, reading.epoch, reading.cursor, reading.lost)
            self._give(link, gap)
        if reading.entries:
            self._transports.give(
                link,
                _entries_frame(link.encoding, channel.name, reading.epoch, reading.cursor + 1, reading.entries),
            )
        cursor = reading.cursor + len(reading.entries)
        if channel.name == INBOX and cursor > channel.end:  # announced before the hub knew of the session
            channel.end = channel.flushed_end = cursor
        if reading.epoch == channel.epoch and cursor >= channel.flushed_end:
            self._go_live(link, channel)
        else:  # the last in the row of those to be fed
            self._remember(link, session, channel, Position(reading.epoch, cursor, position.given))


def _is_of_another_session(log: WatchedLog, epoch: bytes, reading: Reading) -> bool:
    """Whether an inbox began anew with a later ``login``: this session, of which the hub will hear that it has ended,
    gets nothing of that (S30, S56)."""
    return log.name == INBOX and reading.epoch != epoch


def _runs_of(blocks: list[Block], room: int) -> Iterator[tuple[int, list[bytes]]]:
    """All blocks of a pass as one run of entries, or as few as ``room`` bytes of entries in each allow; with the offset
    of its first one."""
    entries: list[bytes] = []
    first, size = blocks[0].first_offset, 0
    for block in blocks:
        for entry in block.entries:
            if size + len(entry) > room and entries:
                yield first, entries
                first += len(entries)
                entries, size = [], 0
            entries.append(entry)
            size += len(entry)
    yield first, entries


def _entries_frame(encoding: Encoding, name: str, epoch: bytes, first_offset: int, entries: Sequence[bytes]) -> bytes:
    return encoding.frame(encoding.encode_block(name, epoch, first_offset, entries))
