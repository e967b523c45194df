"""Numbered requests of attached sessions: in the order of their numbers, each answered once (S34, S45, S46, E3)."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from ._hub_appends import Appends
from ._hub_attributes import AttributeRequests
from ._hub_channels import Channels
from ._hub_checks import Fault, RequestChecks
from ._hub_engine import EnginePort
from ._hub_flood import FloodGate
from ._hub_memberships import Memberships
from ._hub_reads import Reads
from ._hub_sessions import Sessions
from ._hub_transports import Transports
from ._hubparts import AttachedSession, HubContext, ServerLink, WatchedLog
from .codes import Code
from .messages import (
    ChangeAttributes,
    Done,
    Failed,
    Join,
    Joined,
    Leave,
    Logout,
    PeerBytes,
    PeerText,
    PublishBytes,
    PublishText,
    units_of,
)
from .operations import ChannelJoined, ChannelLeft, Refusal

_WAITING_BYTES = 4 * 1024 * 1024
"""What may wait of a session for the requests before it (S55)."""
_NAMES_PER_UNIT = 8
"""What a unit of the rate pays for, of the members that a join lists (S51)."""
_STEPS_PER_PASS = 128
"""Joins and leaves of one loop pass, which are the requests that cost most; the rest goes on in the next one, so that
nobody waits long for its turn, whoever asks for how much (S51)."""
_STEPS_PER_TURN = 16
"""Of one session, before others that wait as well have their turn."""

_MESSAGES = frozenset((PublishText, PublishBytes, PeerText, PeerBytes))
"""They are gathered; whatever else is asked for waits until they are answered."""
_WEIGHED = _MESSAGES | {ChangeAttributes}
"""They cost of the rate of bytes (S55)."""


class Requests:
    """The requests of one hub that change what the engine has."""

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
        self._appends = Appends(context, transports, engine, channels, self._on_answered)
        self._list_units = context.config.max_snapshot_members // _NAMES_PER_UNIT
        self._steps_left = _STEPS_PER_PASS
        self._parked: deque[AttachedSession] = deque()  # whose next request waits for the next pass
        self._listing: list[AttachedSession] = []  # the same, until what this pass has for them is written
        self.checks = RequestChecks(context.config)
        self._reads = Reads(context, transports, engine, fail=self.fail, free=self.free)
        self.attributes = AttributeRequests(context, transports, engine, fail=self.fail, free=self.free)
        self._lists = self._reads.actions | self.attributes.reads  # what is answered with a list
        self._actions: dict[type[Any], Callable[[ServerLink, AttachedSession, Any], None]] = {
            PublishText: self._publish,
            PublishBytes: self._publish,
            PeerText: self._send_to_peer,
            PeerBytes: self._send_to_peer,
            Join: self._join,
            Leave: self._leave,
            Logout: self._logout,
            ChangeAttributes: self.attributes.change,
            **self._lists,
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
        size = self.checks.size_of(message, session.channels)
        body_bytes = size if type(message) in _WEIGHED and type(size) is int else 0
        if not leaving and self._flood_gate.is_too_fast(session, units, body_bytes):
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
            or (session.gathered and not _is_message(message))
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
            if session.gathered and not _is_message(message):
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
        if type(message) in self._lists:
            if link.unsent + link.reply_bytes < self._config.feed_below_bytes:
                return True
            if link.unsent >= self._config.feed_below_bytes:
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
        if session is not None and session.wants_room and link.unsent < self._config.feed_below_bytes:
            session.wants_room = False
            self._parked.append(session)

    def fail(self, session: AttachedSession, number: int, code: int, message: str) -> None:
        """Refuse a request; nothing was carried out."""
        if session.link is not None:
            self._transports.reply_much(session.link, Failed(number, int(code), message), len(message))

    # --------------------------------------------------------------------------------------------- messages

    def _publish(self, link: ServerLink, session: AttachedSession, message: PublishText | PublishBytes) -> None:
        """Gather a message for its channel's next append (S34)."""
        if not self._appends.publish(session, message):
            self._no_room(session, message.number)

    def _send_to_peer(self, link: ServerLink, session: AttachedSession, message: PeerText | PeerBytes) -> None:
        """Gather a message for the next append to its receiver's inbox (S36)."""
        if not self._appends.send_to_peer(session, message):
            self._no_room(session, message.number)

    def _no_room(self, session: AttachedSession, number: int) -> None:
        # One sent again after a resume may be among those that wait: a client knows that such a refusal is no verdict
        # on what it asked before (S9).
        self.fail(session, number, Code.TOO_MANY_REQUESTS, "more bytes wait for this log than may")

    def _on_answered(self, session: AttachedSession) -> None:
        """What a session had gathered is answered: go on, or part (S7)."""
        if session.link is not None:
            self.free(session)
        elif not session.gathered:
            self._sessions.nothing_gathered(session)

    @property
    def flush_wanted(self) -> bool:
        """Whether there is something to append, or a request that waits for the next pass."""
        return bool(self._appends.flush_wanted or self._parked or self._listing)

    def flush(self) -> None:
        """Go on with who waits for this pass, then append what was gathered."""
        self._steps_left = _STEPS_PER_PASS
        listing, self._listing = self._listing, []
        self._parked += listing
        while self._parked and self._steps_left > 0:
            self.free(self._parked.popleft())
        self._appends.flush()

    # --------------------------------------------------------------------------------- join, leave and logout

    def _join(self, link: ServerLink, session: AttachedSession, join: Join) -> None:
        self._steps_left -= 1
        if join.channel in session.channels and self._is_listed_too_often(link, session, join.number):
            return
        session.busy = True

        def on_answer(channel: WatchedLog, answer: ChannelJoined | Refusal) -> None:
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
        channel: WatchedLog,
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


def _is_message(message: Any) -> bool:
    return type(message) in _MESSAGES


def _is_step(message: Any) -> bool:
    return type(message) is Join or type(message) is Leave
