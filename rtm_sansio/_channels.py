"""The channels of a client: joined, being joined, and how they are stated and restored (S42-S44, S48, S52, S59)."""

from __future__ import annotations

from typing import Any

from ._entries import MAX_OFFSET, check_place
from ._link import ProtocolViolation
from ._reader import InboxReader, LogReader, Wish
from .codes import code_name
from .config import ClientConfig
from .errors import InvalidArgument, InvalidState, NotJoined
from .events import ChannelLost, JoinReceipt
from .messages import (
    INBOX,
    ChannelResult,
    Entries,
    Gap,
    Going,
    GoOn,
    Hold,
    InboxPlace,
    Join,
    Joined,
    Limits,
    MemberCount,
    Restored,
    Want,
    WantedChannel,
    WantedInbox,
    WantedStatus,
)


class Channels:
    """One reader for each joined channel. What is to be said to the server is returned, for the caller to post."""

    __slots__ = ("_config", "_inbox", "_iterated", "_joining", "_outputs", "_readers", "_results", "_stated", "own_uid")

    def __init__(self, config: ClientConfig, outputs: list[Any]) -> None:
        self._config = config
        self._outputs = outputs
        self.own_uid = ""
        self._readers: dict[str, LogReader] = {}  # of channels, and under the name INBOX of one's own inbox
        self._inbox: InboxReader | None = None
        self._iterated = False  # the client's own events: perhaps before there is an inbox
        self._joining: dict[str, bool] = {}  # those whose join is unanswered, and whether they are to echo
        self._stated: dict[str, bool] = {}  # the channels named in the last statement, and whether with a cursor
        self._results: dict[str, ChannelResult] = {}

    @property
    def _joined(self) -> list[LogReader]:
        return [reader for reader in self._readers.values() if reader is not self._inbox]

    # --- the inbox

    def welcomed(self, place: InboxPlace, *, is_new: bool) -> None:
        """A welcome says where the inbox of its session begins; one that is read already goes on behind its cursor
        (S56)."""
        check_place(place.epoch, place.cursor)
        check_place(place.epoch, place.kept_until)
        if self._inbox is None:
            config = self._config
            self._inbox = InboxReader(place, max_events=config.max_queued_events, max_bytes=config.max_queued_bytes)
            self._inbox.iterating(self._iterated, 0, 0)
            self._readers[INBOX] = self._inbox
        elif is_new:
            self._inbox.begin_session(place)

    def inbox_position(self, epoch: bytes) -> int:
        """Up to where the inbox of this epoch is read; 0 if it is another one's."""
        return self._inbox.cursor if self._inbox is not None and self._inbox.epoch == epoch else 0

    # --- joining and leaving

    def check_join(self, channel: str, limits: Limits) -> None:
        """Raise unless it can be joined: not twice, and not one too many (S37, S45)."""
        if channel in self._readers or channel in self._joining:
            raise InvalidState(
                f"the channel {channel!r} is joined already; use the Channel you have", code="already_joined"
            )
        if len(self._joined) + len(self._joining) >= limits.max_channels:
            raise InvalidArgument(
                f"{limits.max_channels} channels are joined, which is the limit; leave one first",
                code="too_many_channels",
            )

    def check_joined(self, channel: str) -> None:
        """Raise unless it is joined (S37)."""
        if not channel or channel not in self._readers:
            raise NotJoined(f"the channel {channel!r} is not joined; join() it first")

    def begin_join(self, channel: str, *, echo: bool) -> None:
        """The app asked for it."""
        self._joining[channel] = echo

    def end_join(self, join: Join) -> None:
        """The join was refused, or nobody waits for it any more."""
        del self._joining[join.channel]

    def joined(self, join: Join, joined: Joined) -> JoinReceipt:
        """The join is answered: what follows its offset is ours (S47)."""
        check_place(joined.epoch, joined.offset)
        if joined.member_count < 0:
            raise ProtocolViolation("a channel with a negative number of members")
        name = join.channel
        config = self._config
        self._readers[name] = LogReader(
            name,
            epoch=joined.epoch,
            cursor=joined.offset,
            echo=self._joining.pop(name),
            max_events=config.max_queued_events,
            max_bytes=config.max_queued_bytes,
            member_count=joined.member_count,
        )
        return JoinReceipt(
            channel=name,
            offset=joined.offset,
            epoch=joined.epoch,
            member_count=joined.member_count,
            members=joined.members,
        )

    def cursor(self, channel: str) -> int | None:
        """Where the reader of a joined channel stands."""
        reader = self._readers.get(channel)
        return None if reader is None else reader.cursor

    def leave(self, channel: str) -> None:
        """It counts at once: nothing of the channel comes any more (S44)."""
        del self._readers[channel]

    def clear(self) -> None:
        """The session is over: no channel is left, and nobody iterates what the next one has."""
        self._readers.clear()
        self._inbox = None
        self._iterated = False
        self._joining.clear()
        self._stated.clear()
        self._results.clear()

    # --- after a loss

    def transport_gone(self) -> None:
        """Holds and go-ons end with their transport (S52), and so do half answers."""
        for reader in self._readers.values():
            reader.transport_gone()
        self._results.clear()

    def statement(self, attributes: dict[str, str] | None = None, statuses: tuple[WantedStatus, ...] = ()) -> Want:
        """All that is wanted now, with the cursors (S59), one's own ``attributes``, and the ``statuses`` watched."""
        wanted = [WantedChannel(reader.name, reader.epoch, reader.cursor) for reader in self._joined]
        self._stated = {one.channel: True for one in wanted} | dict.fromkeys(self._joining, False)
        wanted += [WantedChannel(name) for name in self._joining]
        inbox = None if self._inbox is None else WantedInbox(self._inbox.epoch, self._inbox.cursor)
        return Want(tuple(wanted), inbox, attributes, statuses)

    def collect(self, answer: Restored) -> bool:
        """A piece of the answer to the statement. Whether it is the last; then each wanted channel has its result,
        because one without would stay silent for ever (S44)."""
        for result in answer.channels:
            if result.channel in self._results or result.channel not in self._stated:
                raise ProtocolViolation("an answer to wishes that were not stated")
            self._results[result.channel] = result
        if not answer.more and len(self._results) < len(self._stated):
            raise ProtocolViolation("an answer that leaves out a wanted channel")
        return not answer.more

    def settle(self) -> None:
        """Tell which channels could not be had again (S44). A join that is unanswered is asked for again anyway."""
        for result in self._results.values():
            if result.code and self._readers.pop(result.channel, None) is not None:
                self._outputs.append(
                    ChannelLost(channel=result.channel, code=code_name(result.code), message=result.message)
                )
        self._results.clear()

    def has_left(self, channel: str, *, in_new_session: bool) -> bool:
        """Whether the statement has left this channel, so that its leave need not be asked for: it did not name it,
        or, in a new session, did not join it."""
        with_cursor = self._stated.get(channel)
        return with_cursor is None or (in_new_session and not with_cursor)

    # --- logs

    def take_entries(self, block: Entries) -> Hold | GoOn | None:
        """A block of a log, passed by its reader; without one it is passed over (S48)."""
        check_place(block.epoch, block.first_offset + len(block.entries))
        reader = self._readers.get(block.log)
        if reader is None:
            return None
        wish = reader.take_entries(block, self.own_uid, self._outputs)
        return None if wish is Wish.NOTHING else _message(reader, wish)

    def take_gap(self, gap: Gap) -> Hold | GoOn | None:
        """Entries of a log are gone (S33)."""
        check_place(gap.epoch, gap.cursor)
        if gap.count is not None and not 0 <= gap.count <= MAX_OFFSET:
            raise ProtocolViolation("a gap of an impossible size")
        reader = self._readers.get(gap.log)
        return None if reader is None else _message(reader, reader.take_gap(gap, self._outputs))

    def take_count(self, count: MemberCount) -> Hold | GoOn | None:
        """The number of members of a channel that does not tell of joins and leaves (S38)."""
        if count.member_count < 0:
            raise ProtocolViolation("a channel with a negative number of members")
        reader = self._readers.get(count.channel)
        return None if reader is None else _message(reader, reader.take_count(count.member_count, self._outputs))

    def take_going(self, going: Going) -> None:
        """The answer to a go-on."""
        reader = self._readers.get(going.log)
        if reader is not None:
            reader.going()

    def iterating(self, home: str, on: bool, backlog_events: int, backlog_bytes: int) -> Hold | GoOn | None:
        """The app begins or ends to iterate the events of a channel, or the client's own (S52)."""
        if home == INBOX:
            self._iterated = on
        reader = self._readers.get(home)
        return None if reader is None else _message(reader, reader.iterating(on, backlog_events, backlog_bytes))

    def consumed(self, home: str, count: int, byte_count: int) -> Hold | GoOn | None:
        """The app took events out of the queue of a home (S52)."""
        reader = self._readers.get(home)
        return None if reader is None else _message(reader, reader.consumed(count, byte_count))


def _message(reader: LogReader, wish: Wish) -> Hold | GoOn | None:
    if wish is Wish.NOTHING:
        return None
    if wish is Wish.HOLD:
        return Hold(reader.name)
    if wish is Wish.FAIL:
        raise ProtocolViolation(wish.value)
    return GoOn(reader.name, reader.epoch, reader.cursor)
