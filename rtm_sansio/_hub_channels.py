"""The hub's channels: subscriptions, blocks in their order, fan-out to those who keep up, pieces for those who do not
(S42, S48, S49, S52, E5)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from ._frames import encode_frame
from ._hub_engine import EnginePort
from ._hub_flood import FloodGate
from ._hub_transports import Transports
from ._hubparts import AttachedSession, HubContext, Position, ServerLink, WatchedLog
from .logs import Block, Reading
from .messages import INBOX, Gap, Going, GoOn, MemberCount, encode_batch, encode_block
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


class Channels:
    """All channels that have readers or publishers on this hub."""

    def __init__(self, context: HubContext, transports: Transports, engine: EnginePort, flood_gate: FloodGate) -> None:
        self._context = context
        self._transports = transports
        self._engine = engine
        self._flood_gate = flood_gate
        config = context.config
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
            inbox.live.clear()  # of a session that has ended, and is about to be dropped here
            inbox.fresh.clear()
            self._fresh.pop(inbox, None)
            inbox.epoch = start.epoch
            inbox.end = inbox.flushed_end = start.end
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
            if channel.name == INBOX:
                return
            self._engine.call(WatchChannel(channel=channel.name, node=self._context.node, on=False))

    def enter(self, session: AttachedSession, name: str) -> WatchedLog:
        """The session has a part in the channel."""
        channel = session.channels[name] = self.use(name)
        return channel

    def leave(self, session: AttachedSession, channel: WatchedLog) -> None:
        """The session has no part in the channel any more. What was given of it goes out before anything later."""
        del session.channels[channel.name]
        link = session.link
        assert link is not None  # without one, a session has no channels
        channel.live.pop(link, None)
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
            channel.live.pop(link, None)
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
            for waiter in waiters:
                waiter()
            if channel.missed and channel.watched:
                self._read_hole(channel)

        self._engine.call(WatchChannel(channel=channel.name, node=self._context.node, on=True), on_watched)

    # ------------------------------------------------------------------------------------------------ blocks

    def announced(self, announcement: BlockAnnounced) -> None:
        """A block from the engine."""
        channel = self._by_home.get(announcement.log)
        if channel is not None:
            self.take_block(channel, announcement.block)

    def counted(self, announcement: CountAnnounced) -> None:
        """The number of members, for those who are not told of joins and leaves (S38): a latest value, which whoever
        is behind gets when it is live again."""
        channel = self._by_home.get(home_of_channel(announcement.channel))
        if channel is not None:
            channel.member_count = announcement.member_count
            if channel.member_count is not None:
                self._transports.give_all(channel.live, _count_frame(channel.name, channel.member_count))

    def _go_live(self, link: ServerLink, channel: WatchedLog) -> None:
        """The next block that is fanned out is the reader's next one."""
        channel.live[link] = None
        if channel.member_count is not None:
            self._transports.give(link, _count_frame(channel.name, channel.member_count))

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

        operation = ReadLog(log=channel.home, epoch=channel.epoch, cursor=channel.end, max_bytes=self._piece_bytes)
        self._engine.call(operation, on_read)

    def _start_anew(self, channel: WatchedLog, reading: Reading) -> None:
        """What is gone here is a gap for every reader: each finds out from its own cursor."""
        for link in list(channel.live):
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

    def hold(self, link: ServerLink, session: AttachedSession, channel: WatchedLog) -> None:
        """Nothing more of this log: it has no position here meanwhile, only the mark up to where it was given
        (S52)."""
        position = None if session.positions is None else session.positions.pop(channel, None)
        if position is not None:
            given = max(position.given, position.cursor) if position.epoch == channel.epoch else position.given
        elif link in channel.live:
            del channel.live[link]
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
                self._transports.give(link, encode_frame(encode_batch([Going(go_on.log)])))
                self.place(link, session, channel, go_on.epoch, go_on.cursor)
            self.let_go(channel)

        self.watch(channel, on_watched)

    def _remember(self, link: ServerLink, session: AttachedSession, channel: WatchedLog, position: Position) -> None:
        if session.positions is None:
            session.positions = {}
        session.positions[channel] = position
        self._feeding[link] = None

    def _fall_behind(self, link: ServerLink, channel: WatchedLog, cursor: int) -> None:
        del channel.live[link]
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
        """One frame for all readers that keep up: the same bytes for each (E4)."""
        blocks, channel.fresh = channel.fresh, []
        live = channel.live
        if live:
            slow = self._slow_bytes
            for last_offset, frame in self._frames_of(channel.name, blocks):
                for link in [link for link in live if link.unsent + link.pending > slow]:
                    self._fall_behind(link, channel, channel.flushed_end)
                self._transports.give_all(live, frame)
                channel.flushed_end = last_offset
        channel.flushed_end = channel.end

    def _frames_of(self, name: str, blocks: list[Block]) -> Iterator[tuple[int, bytes]]:
        """All blocks of a pass as one frame, or as few as the size of a WebSocket message allows; each with the offset
        of its last entry."""
        entries: list[bytes] = []
        epoch, first, size = blocks[0].epoch, blocks[0].first_offset, 0
        room = self._frame_room
        for block in blocks:
            for entry in block.entries:
                if size + len(entry) > room and entries:
                    yield first + len(entries) - 1, _entries_frame(name, epoch, first, entries)
                    first += len(entries)
                    entries, size = [], 0
                entries.append(entry)
                size += len(entry)
        yield first + len(entries) - 1, _entries_frame(name, epoch, first, entries)

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
        operation = ReadLog(log=channel.home, epoch=position.epoch, cursor=position.cursor, max_bytes=self._piece_bytes)
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
            self._transports.give(link, encode_frame(encode_batch([gap])))
        if reading.entries:
            frame = _entries_frame(channel.name, reading.epoch, reading.cursor + 1, reading.entries)
            self._transports.give(link, frame)
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


def _count_frame(name: str, member_count: int) -> bytes:
    return encode_frame(encode_batch([MemberCount(name, member_count)]))


def _entries_frame(name: str, epoch: bytes, first_offset: int, entries: Sequence[bytes]) -> bytes:
    return encode_frame(encode_block(name, epoch, first_offset, entries))
