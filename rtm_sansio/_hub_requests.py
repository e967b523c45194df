"""Numbered requests of attached sessions: in the order of their numbers, each answered once (S34, S45, S46, E3)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from ._hub_channels import Channels
from ._hub_checks import Fault, RequestChecks
from ._hub_engine import EnginePort
from ._hub_flood import FloodGate
from ._hub_memberships import Memberships
from ._hub_reads import Reads
from ._hub_sessions import Sessions
from ._hub_transports import Transports
from ._hubparts import AttachedSession, Gathered, HubContext, ServerLink, WatchedChannel
from .codes import Code
from .messages import (
    BytesEntry,
    Done,
    Failed,
    Join,
    Joined,
    Leave,
    Logout,
    PublishBytes,
    PublishText,
    Sent,
    TextEntry,
    encode_entry,
    units_of,
)
from .operations import Append, Appended, AppendItem, ChannelJoined, ChannelLeft, Refusal

_APPEND_BYTES = 1024 * 1024
"""What one call of the engine appends at most: a shared one does nothing else meanwhile."""
_WAITING_BYTES = 4 * 1024 * 1024
"""What may wait of a session for the requests before it (S55)."""
_NAMES_PER_UNIT = 8
"""What a unit of the rate pays for, of the members that a join lists (S51)."""
_GATHERED_BYTES = 16 * 1024 * 1024
"""What may wait for the appends of one channel (S55): a home of the engine may hang, while sessions come and go."""
_GATHERED_OVERHEAD = 512
"""What gathering a message costs besides its bytes."""
_STEPS_PER_PASS = 128
"""Joins and leaves of one loop pass, which are the requests that cost most; the rest goes on in the next one, so that
nobody waits long for its turn, whoever asks for how much (S51)."""
_STEPS_PER_TURN = 16
"""Of one session, before others that wait as well have their turn."""


class Requests:
    """The requests of one hub."""

    def __init__(
        self,
        context: HubContext,
        transports: Transports,
        engine: EnginePort,
        channels: Channels,
        sessions: Sessions,
        memberships: Memberships,
        flood_gate: FloodGate,
    ) -> None:
        self._context = context
        self._config = context.config
        self._transports = transports
        self._engine = engine
        self._channels = channels
        self._sessions = sessions
        self._memberships = memberships
        self._flood_gate = flood_gate
        self._gathering: dict[WatchedChannel, None] = {}
        self._list_units = context.config.max_snapshot_members // _NAMES_PER_UNIT
        self._steps_left = _STEPS_PER_PASS
        self._parked: deque[AttachedSession] = deque()  # whose next request waits for the next pass
        self._listing: list[AttachedSession] = []  # the same, until what this pass has for them is written
        self._checks = RequestChecks(context.config)
        self._reads = Reads(context, transports, engine, fail=self.fail, free=self.free)
        self._actions: dict[type[Any], Callable[[ServerLink, AttachedSession, Any], None]] = {
            PublishText: self._publish,
            PublishBytes: self._publish,
            Join: self._join,
            Leave: self._leave,
            Logout: self._logout,
            **self._reads.actions,
        }
        self.types = tuple(self._actions)

    # --------------------------------------------------------------------------------------------- the order

    def take(self, link: ServerLink, session: AttachedSession, message: Any) -> None:
        """A request: within the rate, and behind those before it.

        A join, leave or logout waits for the messages gathered before it, whatever comes waits for a join, leave or
        logout, and everything for the session's statement (S59). Only a logout is done without one, which then never
        comes, and the rate does not refuse it: it ends what the limits protect.
        """
        leaving = type(message) is Logout
        units = units_of(message)
        if self._flood_gate.is_flood(link, session, units):
            return
        size = self._checks.size_of(message, session.channels)
        body_bytes = size if _is_publish(message) and type(size) is int else 0
        if not leaving and self._flood_gate.is_too_fast(session, units, body_bytes):
            if not self._flood_gate.is_byte_flood(link, session, body_bytes):
                text = "more than the welcome's rates of requests or of bytes"
                self.fail(session, message.number, Code.RATE_EXCEEDED, text)
            return
        if isinstance(size, Fault):
            self.fail(session, message.number, size.code, size.message)
            return
        waiting = session.waiting
        if session.gathered + (len(waiting) if waiting else 0) >= self._config.max_outcomes + leaving:
            text = f"{self._config.max_outcomes} requests are open, which is the limit"
            self.fail(session, message.number, Code.TOO_MANY_REQUESTS, text)
        elif leaving and not session.stated:
            self._logout(link, session, message)
        elif (
            waiting
            or session.busy
            or (session.gathered and not _is_publish(message))
            or not self._may_begin(link, session, message)
        ):
            size += session.waiting_bytes
            if size > (_WAITING_BYTES if session.stated else self._config.max_frame_bytes) and not leaving:
                self.fail(session, message.number, Code.TOO_MANY_REQUESTS, "more bytes wait than may")
                return
            one = (size - session.waiting_bytes, message)
            session.waiting_bytes = size
            if waiting is None:
                session.waiting = deque((one,))
            else:
                waiting.append(one)
        else:
            self._actions[type(message)](link, session, message)

    def free(self, session: AttachedSession) -> None:
        """What the session's next request waited for is done."""
        session.busy = False
        if session.freeing:
            return  # a request that was done at once: the loop that began it goes on
        session.freeing = True
        end_of_turn = max(0, self._steps_left - _STEPS_PER_TURN)
        while session.waiting and not session.busy and session.link is not None:
            message = session.waiting[0][1]
            if session.gathered and not _is_publish(message):
                break
            if self._steps_left <= end_of_turn and _is_step(message):
                self._parked.append(session)
                break
            if not self._may_begin(session.link, session, message):
                break
            size, _ = session.waiting.popleft()
            session.waiting_bytes -= size
            self._actions[type(message)](session.link, session, message)
        session.freeing = False

    def _may_begin(self, link: ServerLink, session: AttachedSession, message: Any) -> bool:
        """Whether there is room for it at present. If not, it is looked at again in the next pass; what is answered
        with a list, when the transport has taken the lists before it (S49, S51)."""
        if type(message) in self._reads.actions:
            room = self._reads.room
            if link.unsent + link.reply_bytes < room:
                return True
            if link.unsent >= room:
                session.wants_room = True
            else:
                self._listing.append(session)
            return False
        if self._steps_left > 0 or not _is_step(message):
            return True
        self._parked.append(session)
        return False

    def buffer_fell(self, link: ServerLink) -> None:
        """The transport may have taken what was in the way of a list."""
        session = link.session
        if session is not None and session.wants_room and link.unsent < self._reads.room:
            session.wants_room = False
            self._parked.append(session)

    def fail(self, session: AttachedSession, number: int, code: int, message: str) -> None:
        """Refuse a request; nothing was carried out."""
        if session.link is not None:
            self._transports.reply_much(session.link, Failed(number, int(code), message), len(message))

    # ----------------------------------------------------------------------------------------------- publish

    def _publish(self, link: ServerLink, session: AttachedSession, message: PublishText | PublishBytes) -> None:
        """Gather a message for its channel's next append (S34)."""
        context = self._context
        sent_at = int((context.now + (context.wall_offset or 0.0)) * 1000)
        if type(message) is PublishBytes:
            entry = encode_entry(BytesEntry(session.uid, message.data, sent_at))
        else:
            entry = encode_entry(TextEntry(session.uid, message.text, sent_at))  # type: ignore[union-attr]
        channel = session.channels.get(message.channel)
        if channel is None:
            # No member: but the engine may still know what became of an earlier request (S46).
            channel = self._channels.use(message.channel)
            if channel.gathered:
                self._channels.let_go(channel)
        elif not channel.gathered:
            self._channels.use(message.channel)  # whatever is gathered keeps its channel until it is answered
        gathered_bytes = channel.gathered_bytes + len(entry) + _GATHERED_OVERHEAD
        if gathered_bytes > _GATHERED_BYTES:
            # One sent again after a resume may be among those that wait: a client knows that such a refusal is no
            # verdict on what it asked before (S9).
            if not channel.gathered:
                self._channels.let_go(channel)
            self.fail(session, message.number, Code.TOO_MANY_REQUESTS, "more bytes wait for the channel than may")
            return
        channel.gathered_bytes = gathered_bytes
        item = AppendItem(session.uid, session.session_id, message.number, session.lowest_unanswered, entry, sent_at)
        channel.gathered.append(Gathered(session, item))
        session.gathered += 1
        if not channel.appending:
            self._gathering[channel] = None

    @property
    def flush_wanted(self) -> bool:
        """Whether there is something to append, or a request that waits for the next pass."""
        return bool(self._gathering or self._parked or self._listing)

    def flush(self) -> None:
        """Go on with who waits for this pass, then append what was gathered: one call per log and loop pass, one in
        flight (E3)."""
        self._steps_left = _STEPS_PER_PASS
        listing, self._listing = self._listing, []
        self._parked += listing
        while self._parked and self._steps_left > 0:
            self.free(self._parked.popleft())
        gathering, self._gathering = self._gathering, {}
        for channel in gathering:
            self._append(channel)

    def _append(self, channel: WatchedChannel) -> None:
        gathered, byte_count = channel.gathered, 0
        for count, one in enumerate(gathered):
            size = len(one.item.entry)
            if byte_count + size > _APPEND_BYTES and count:
                gathered, channel.gathered = gathered[:count], gathered[count:]
                self._channels.use(channel.name)
                break
            byte_count += size
        else:
            channel.gathered = []
        byte_count += _GATHERED_OVERHEAD * len(gathered)
        channel.appending = True
        operation = Append(channel=channel.name, items=tuple([one.item for one in gathered]))
        self._engine.call(operation, lambda answer: self._on_appended(channel, gathered, byte_count, answer))

    def _on_appended(
        self, channel: WatchedChannel, gathered: list[Gathered], byte_count: int, answer: Appended
    ) -> None:
        channel.appending = False
        channel.gathered_bytes -= byte_count
        epoch, repeated = answer.epoch, answer.repeated or {}
        reply = self._transports.reply
        waiting: dict[AttachedSession, None] = {}
        for place, (one, result) in enumerate(zip(gathered, answer.results, strict=True)):
            session, item = one.session, one.item
            session.gathered -= 1
            link = session.link
            if link is not None:
                if result > 0:
                    reply(link, Sent(item.number, epoch, result, repeated.get(place, item.sent_at)))
                else:
                    reply(link, Failed(item.number, -result, "the message was not appended"))
                if session.waiting:
                    waiting[session] = None
            elif not session.gathered:
                self._sessions.nothing_gathered(session)
        if answer.block is not None:
            self._channels.take_block(channel, answer.block)
        for session in waiting:
            self.free(session)
        if channel.gathered:
            self._gathering[channel] = None
        self._channels.let_go(channel)

    # --------------------------------------------------------------------------------- join, leave and logout

    def _join(self, link: ServerLink, session: AttachedSession, join: Join) -> None:
        self._steps_left -= 1
        if join.channel in session.channels and self._is_listed_too_often(link, session, join.number):
            return
        session.busy = True

        def on_answer(channel: WatchedChannel, answer: ChannelJoined | Refusal) -> None:
            if isinstance(answer, Refusal):
                self.fail(session, join.number, answer.code, answer.message)
            elif session.link is not None:
                self._answer_join(session.link, session, join.number, channel, answer)
            self.free(session)

        self._memberships.join(session, join.channel, join.number, on_answer)

    def _answer_join(
        self,
        link: ServerLink,
        session: AttachedSession,
        number: int,
        channel: WatchedChannel,
        answer: ChannelJoined,
    ) -> None:
        members = answer.members or ()
        if self._flood_gate.is_flood(link, session, len(members) // _NAMES_PER_UNIT):
            return
        joined = Joined(number, answer.epoch, answer.offset, answer.member_count, answer.members)
        if self._transports.reply_much(link, joined, sum(map(len, members)) + len(members)):
            self._channels.place(link, session, channel, answer.epoch, answer.offset)

    def _is_listed_too_often(self, link: ServerLink, session: AttachedSession, number: int) -> bool:
        """Whether the session cannot pay for the list of a channel that it has already: then nobody makes one (S51).
        A client asks again only after a resume, once for each channel."""
        if session.rate.flood_bucket.ready_at(self._list_units) <= self._context.now:
            return False
        if not self._flood_gate.is_flood(link, session, self._list_units):
            self.fail(session, number, Code.RATE_EXCEEDED, "more lists of members than the welcome's rate")
        return True

    def _leave(self, link: ServerLink, session: AttachedSession, leave: Leave) -> None:
        self._steps_left -= 1
        session.busy = True

        def on_left(answer: ChannelLeft | Refusal) -> None:
            if isinstance(answer, Refusal):
                self.fail(session, leave.number, answer.code, answer.message)
            elif session.link is not None:
                self._transports.reply(session.link, Done(leave.number))
            self.free(session)

        self._memberships.leave(session, leave.channel, leave.number, on_left)

    def _logout(self, link: ServerLink, session: AttachedSession, logout: Logout) -> None:
        session.busy = True

        def on_ended() -> None:
            if session.link is link:
                self._transports.reply(link, Done(logout.number))
                self._sessions.part(session, link)
                self._transports.say_goodbye(link, 1000, "logged out")

        self._sessions.log_out(session.uid, session.session_id, on_ended)


def _is_publish(message: Any) -> bool:
    return type(message) is PublishText or type(message) is PublishBytes


def _is_step(message: Any) -> bool:
    return type(message) is Join or type(message) is Leave
