"""The hub's transports: what each is given, how it ends, and its deadlines (S14, S51)."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterator
from typing import Any, Literal

from ._encodings import BY_SUBPROTOCOL
from ._hubparts import AttachedSession, HubContext, ServerLink, ServerPhase
from ._wire import ServerWire
from .codes import Code
from .effects import CloseTransport, PauseReading, ResumeReading, Transmit
from .events import LoginWithdrawn
from .messages import LOGIN_BYTES

_SUBPROTOCOLS = tuple(BY_SUBPROTOCOL)
_STALE_DEADLINES = 1024
_CLOSE_REASON_CHARACTERS = 100
_WORK_PER_TICK = 128
"""Of one call of ``handle_timeout``: a link counts as one, and more if much ends with it."""
_ENTRIES_PER_TICK = 2048
"""Places in the heap of deadlines, most of which have moved away."""
_PARTS_PER_WORK = 8
"""Channels and subscriptions that a session has a part in, for which its link counts as one more."""
_NEXT_PART_SECONDS = 0.001


class Transports:
    """All transports of one hub.

    ``on_interrupted(link, silent_seconds)`` is called when a transport that serves a session ends, however it ends.
    """

    def __init__(self, context: HubContext) -> None:
        self._context = context
        self._config = context.config
        self._last_id = 0
        self._links: dict[int, ServerLink] = {}
        self._dirty: dict[ServerLink, None] = {}
        self._deadlines: list[tuple[float, int, ServerLink]] = []
        self._sequence = 0
        self._quiet_seconds = min(self._config.unreachable_seconds, self._config.silence_timeout_seconds)
        self._not_before = float("-inf")  # what is due is done in parts: when the next one is
        self.on_interrupted: Callable[[ServerLink, float], None] = lambda link, silent_seconds: None

    # ------------------------------------------------------------------------------------- beginning and end

    def get(self, transport_id: int) -> ServerLink | None:
        """The transport of this id, if it is still there."""
        return self._links.get(transport_id)

    def all(self) -> list[ServerLink]:
        """All that the driver has."""
        return list(self._links.values())

    def is_there(self, link: ServerLink) -> bool:
        """Whether the driver still has this transport."""
        return link.transport_id in self._links

    def accept(self) -> int:
        """A new transport; it is closed at once if there are too many."""
        self._last_id += 1
        transport_id = self._last_id
        if self._context.closed or len(self._links) >= self._config.max_transports:
            self._context.outputs.append(CloseTransport(transport_id=transport_id, how="abort"))
            return transport_id
        wire = ServerWire(
            path=self._config.path,
            allowed_origins=self._config.allowed_origins,
            subprotocols=_SUBPROTOCOLS,
            max_message_bytes=LOGIN_BYTES,
        )
        link = self._links[transport_id] = ServerLink(transport_id, wire, self._context.now)
        self.schedule(link)
        return transport_id

    def opened(self, link: ServerLink, subprotocol: str) -> None:
        """The handshake is done; it says what the transport speaks."""
        link.encoding = BY_SUBPROTOCOL[subprotocol]
        link.wire.max_message_bytes = link.encoding.login_bytes
        link.phase = ServerPhase.LOGIN

    def welcomed(self, link: ServerLink) -> None:
        """The transport serves a session from now on; its batches may be larger (S45)."""
        link.phase = ServerPhase.OPEN
        link.since = self._context.now
        link.wire.max_message_bytes = link.encoding.frame_bytes(self._config.max_frame_bytes)

    def forget(self, link: ServerLink) -> None:
        """The id is gone; nothing refers to the link any more but what is in flight."""
        self._withdraw(link)
        del self._links[link.transport_id]
        self._dirty.pop(link, None)
        link.blocks = link.replies = link.early_want = None
        link.heartbeats = link.reply_bytes = 0
        if len(self._deadlines) > 2 * len(self._links) + _STALE_DEADLINES:
            self._deadlines = [entry for entry in self._deadlines if entry[2].transport_id in self._links]
            heapq.heapify(self._deadlines)

    def _withdraw(self, link: ServerLink) -> None:
        """Whatever the authenticator says of this transport from now on comes too late."""
        if link.login is not None or link.renewals:
            link.login = link.renewals = None
            self._context.outputs.append(LoginWithdrawn(transport_id=link.transport_id))

    def lost(self, link: ServerLink) -> None:
        """The driver has lost the transport; its session goes on as interrupted."""
        self.forget(link)
        if link.session is not None:
            self.on_interrupted(link, 0.0)

    def drop(self, link: ServerLink, how: Literal["flush", "abort"], *, silent_seconds: float = 0.0) -> None:
        """Close the transport; its session goes on as interrupted, last heard ``silent_seconds`` ago."""
        self.forget(link)
        self._context.outputs.append(CloseTransport(transport_id=link.transport_id, how=how))
        if link.session is not None:
            self.on_interrupted(link, silent_seconds)

    def drop_silent(self, link: ServerLink) -> None:
        """It says nothing, or takes nothing: nothing that we say would arrive (S14, S51)."""
        heard_until = self._context.now if link.paused_at is None else link.paused_at
        self.drop(link, "abort", silent_seconds=heard_until - link.last_received)

    def drop_unstated(self, link: ServerLink) -> None:
        """It is attached, and has not stated what it wants (S51, S59): everything would wait for that, for ever."""
        self.say_goodbye(link, Code.LOGIN_DEADLINE, "no statement in time")
        if link.session is not None:
            self.on_interrupted(link, self._context.now - link.last_received)

    def say_goodbye(self, link: ServerLink, code: int, reason: str) -> None:
        """Send what waits and a close frame, then wait a moment for the peer's: a socket closed too early can lose
        both."""
        if link.phase is ServerPhase.CLOSING or not self.is_there(link) or not self.transmit(link):
            return
        link.wire.close(code, reason[:_CLOSE_REASON_CHARACTERS])
        self.transmit_wire(link)
        link.phase = ServerPhase.CLOSING
        link.since = self._context.now
        self._withdraw(link)
        link.early_want = link.early_logout = None
        self.schedule(link)

    def violation(self, link: ServerLink, reason: str, *, close_code: int = 1002) -> None:
        """The peer broke the protocol (S50): its session goes on as interrupted."""
        self.say_goodbye(link, close_code, reason)
        if link.session is not None:
            self.on_interrupted(link, 0.0)

    def close(self) -> None:
        """The server stops: a goodbye to everybody."""
        for link in list(self._links.values()):
            self.say_goodbye(link, 1001, "the server stops")
            if self.is_there(link):
                self.drop(link, "flush")
        self._deadlines.clear()

    # ------------------------------------------------------------------------------------------- deadlines

    def next_deadline(self) -> float | None:
        """When ``pop_due`` may have something."""
        return max(self._deadlines[0][0], self._not_before) if self._deadlines else None

    def schedule(self, link: ServerLink) -> None:
        """See that the link's next deadline has a place in the heap. One that moved away is found out when its time
        comes."""
        deadline = self._deadline_of(link)
        if link.deadline_at is None or deadline < link.deadline_at:
            link.deadline_at = deadline
            self._sequence += 1
            heapq.heappush(self._deadlines, (deadline, self._sequence, link))

    def pop_due(self) -> Iterator[ServerLink]:
        """The links of which a deadline has really passed; the caller ends them, or schedules them again. So many at a
        time that nobody else waits for long."""
        now, left, entries = self._context.now, _WORK_PER_TICK, _ENTRIES_PER_TICK
        while self._deadlines and self._deadlines[0][0] <= now:
            if left <= 0 or not entries:
                self._not_before = now + _NEXT_PART_SECONDS
                return
            entries -= 1
            deadline, _, link = self._deadlines[0]
            if link.deadline_at != deadline or not self.is_there(link):
                heapq.heappop(self._deadlines)
            elif (moved_to := self._deadline_of(link)) > now:
                link.deadline_at = moved_to
                self._sequence += 1
                heapq.heapreplace(self._deadlines, (moved_to, self._sequence, link))
            else:
                heapq.heappop(self._deadlines)
                link.deadline_at = None
                left -= _work_of(link)
                yield link

    def _deadline_of(self, link: ServerLink) -> float:
        config = self._config
        if link.phase is ServerPhase.CLOSING:
            return link.since + config.close_linger_seconds
        session = link.session
        if session is None:
            return link.since + config.login_deadline_seconds
        # Silence does not count while we do not read; then bytes wait, so the other deadline holds (S14, S51).
        patience = config.silence_timeout_seconds if link.silent else self._quiet_seconds
        deadline = link.last_received + patience if link.paused_at is None else float("inf")
        if not session.stated:
            deadline = min(deadline, link.since + config.login_deadline_seconds)
        if link.unsent:
            deadline = min(deadline, link.stalled_since + config.write_stall_seconds)
        if config.enforce_token_expiry and session.expires_at is not None:
            deadline = min(deadline, session.expires_at)
        return deadline

    def is_quiet(self, link: ServerLink) -> bool:
        """Of a link that is due: whether nothing was heard for so long that the engine is to know, and not yet so long
        that it is dropped (S39)."""
        config, now = self._config, self._context.now
        stalled = link.unsent and link.stalled_since + config.write_stall_seconds <= now
        # Sums, as its deadline is one: a difference could be rounded to the other side of the bound.
        return (
            not link.silent
            and not stalled
            and link.paused_at is None
            and link.last_received + config.silence_timeout_seconds > now
        )

    def is_unstated(self, link: ServerLink, session: AttachedSession) -> bool:
        """Whether the time for its statement is over (S51, S59)."""
        return not session.stated and link.since + self._config.login_deadline_seconds <= self._context.now

    def unsent(self, link: ServerLink, byte_count: int) -> None:
        """How many bytes the socket has not taken."""
        now = self._context.now
        taken = link.transmitted - byte_count
        if taken > link.taken or link.unsent == 0:
            link.taken = taken
            link.stalled_since = now
        link.unsent = byte_count
        if byte_count > self._config.slow_reader_bytes:
            if link.paused_at is None:
                link.paused_at = now
                self._context.outputs.append(PauseReading(transport_id=link.transport_id))
        elif byte_count < self._config.feed_below_bytes and link.paused_at is not None:
            link.paused_at = None
            link.last_received = now  # silence did not count while we did not read (S14)
            self.schedule(link)
            self._context.outputs.append(ResumeReading(transport_id=link.transport_id))
        if byte_count:
            self.schedule(link)

    # -------------------------------------------------------------------------------------------- outbound

    def reply(self, link: ServerLink, message: Any) -> None:
        """Put a message in front of what waits from logs (S49)."""
        if link.replies is None:
            link.replies = [message]
            self._dirty[link] = None
        else:
            link.replies.append(message)

    def reply_much(self, link: ServerLink, message: Any, at_least: int) -> bool:
        """The same for a message that is long, or comes often: it will have ``at_least`` so many bytes.

        False if the transport had to be dropped: its outbound buffer would pass the bound by replies alone (S51). That
        is known here, before any of them is encoded.
        """
        link.reply_bytes += at_least
        if link.unsent + link.reply_bytes > self._config.max_outbound_bytes:
            self.drop(link, "abort")
            return False
        self.reply(link, message)
        return True

    def give(self, link: ServerLink, frame: bytes) -> None:
        """Put a whole frame behind what waits from logs."""
        if link.blocks is None:
            link.blocks = [frame]
            self._dirty[link] = None
        else:
            link.blocks.append(frame)
        link.pending += len(frame)

    def give_all(self, links: dict[ServerLink, None], frame: bytes) -> None:
        """Put the same frame behind what waits from logs, for each of these: the hottest loop of a hub."""
        dirty = self._dirty
        size = len(frame)
        for link in links:
            link.pending += size
            if link.blocks is None:
                link.blocks = [frame]
                dirty[link] = None
            else:
                link.blocks.append(frame)

    def heartbeat(self, link: ServerLink) -> None:
        """Answer a heartbeat."""
        link.heartbeats += 1
        self._dirty[link] = None

    @property
    def flush_wanted(self) -> bool:
        """Whether anything waits to be transmitted."""
        return bool(self._dirty)

    def flush(self) -> None:
        """One write for each transport that something waits for."""
        dirty, self._dirty = self._dirty, {}
        outputs = self._context.outputs
        for link in dirty:
            blocks = link.blocks
            if blocks is None or link.replies is not None or link.heartbeats:
                self.transmit(link)
            else:  # by far the most frequent case, so it stands here
                data = blocks[0] if len(blocks) == 1 else b"".join(blocks)
                link.blocks = None
                link.pending = 0
                link.transmitted += len(data)
                outputs.append(Transmit(transport_id=link.transport_id, data=data))

    def transmit(self, link: ServerLink) -> bool:
        """All that waits, as one write: replies, then heartbeat answers, then the frames of logs.

        False if the transport had to be dropped: its outbound buffer would pass the bound by replies alone (S51).
        """
        blocks, replies, encoding = link.blocks, link.replies, link.encoding
        frames: list[bytes] = []
        if replies is not None:
            # The limit is the same in both directions.
            pieces = encoding.encode_in_pieces(replies, link.wire.max_message_bytes, link.reply_bytes)
            frames += map(encoding.frame, pieces)
        if link.heartbeats:
            frames.append(encoding.heartbeat_frame * link.heartbeats)
        if frames and link.unsent + sum(map(len, frames)) > self._config.max_outbound_bytes:
            self.drop(link, "abort")
            return False
        if blocks is not None:
            frames += blocks
        if not frames:
            return True
        data = frames[0] if len(frames) == 1 else b"".join(frames)
        link.blocks = link.replies = None
        link.heartbeats = link.pending = link.reply_bytes = 0
        link.transmitted += len(data)
        self._context.outputs.append(Transmit(transport_id=link.transport_id, data=data))
        return True

    def transmit_wire(self, link: ServerLink) -> None:
        """What the wire itself has to send: handshake, pongs, close frame."""
        data = link.wire.data_to_send()
        if data:
            link.transmitted += len(data)
            self._context.outputs.append(Transmit(transport_id=link.transport_id, data=data))


def _work_of(link: ServerLink) -> int:
    """How much ends with a link."""
    session = link.session
    if session is None:
        return 1
    watched = 0 if session.watching is None else len(session.watching.users)
    return 1 + (len(session.channels) + watched) // _PARTS_PER_WORK
