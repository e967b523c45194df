"""What the parts of a hub keep for one transport, one attached session and one channel; and what they share."""

from __future__ import annotations

import enum
from array import array
from collections import deque
from collections.abc import Callable
from typing import Any

from ._encodings import ENCODINGS, MSGPACK, Encoding
from ._pacing import TokenBucket
from ._wire import ServerWire
from .config import ServerConfig
from .errors import InvalidState
from .logs import Block
from .messages import Login, Logout
from .operations import OFFLINE, AppendItem, InboxItem, InboxStart, StatusOf

MAX_EPOCH_BYTES = 64
"""An epoch has 8. One of another log, or of a later version, gets a gap; one without end is not kept (S48, S50)."""


class HubContext:
    """One hub's settings, its clock, and its outbox to the driver."""

    __slots__ = (
        "closed",
        "config",
        "entropy",
        "lease",
        "lease_until",
        "node",
        "now",
        "on_lease_over",
        "outputs",
        "wall_offset",
    )

    def __init__(self, config: ServerConfig, entropy: Callable[[int], bytes], node: str) -> None:
        self.config = config
        self.entropy = entropy
        self.node = node
        self.now = float("-inf")
        self.wall_offset: float | None = None
        self.outputs: list[Any] = []
        self.closed = False
        self.lease: bytes | None = None
        """The lease of the node, None with an embedded engine, which lives and dies with its hub (E7)."""
        self.lease_until = float("inf")
        self.on_lease_over: Callable[[], None] = lambda: None
        """Called before anything else is done at ``lease_until`` or later, whatever the input is."""

    def advance(self, now: float) -> None:
        """Time passes, and never goes back."""
        if now > self.now:
            self.now = now
            if now >= self.lease_until:
                self.on_lease_over()

    def wall_clock(self) -> float | None:
        """Unix seconds; None if the driver has not told them."""
        return None if self.wall_offset is None else self.now + self.wall_offset

    def unix_milliseconds(self) -> int:
        """The wall clock for what stands in entries and answers; of a monotonic one if the driver has told no other."""
        return int((self.now + (self.wall_offset or 0.0)) * 1000)

    def expires_in(self, expires_at: float | None) -> float | None:
        """How long a token is good for; None is for ever. Raises InvalidState for a time that nobody can tell."""
        if expires_at is None:
            return None
        if self.wall_offset is None:
            raise InvalidState("expires_at was given, but the hub knows no wall clock; call set_wall_clock() first")
        return expires_at - (self.now + self.wall_offset)


class ServerPhase(enum.Enum):
    """How far a transport has come on the server."""

    HANDSHAKE = "the WebSocket handshake is under way"
    LOGIN = "the login is awaited"
    JUDGED = "the login is with the authenticator or the engine"
    OPEN = "it serves a session"
    CLOSING = "its close frame is sent; the peer's is awaited"


class ServerLink:
    """One transport of the hub."""

    __slots__ = (
        "blocks",
        "deadline_at",
        "early_logout",
        "early_want",
        "encoding",
        "heartbeats",
        "last_received",
        "login",
        "paused_at",
        "pending",
        "phase",
        "renewals",
        "replies",
        "reply_bytes",
        "session",
        "silent",
        "since",
        "stalled_since",
        "taken",
        "transmitted",
        "transport_id",
        "unsent",
        "wire",
    )

    def __init__(self, transport_id: int, wire: ServerWire, now: float) -> None:
        self.transport_id = transport_id
        self.wire = wire
        self.encoding: Encoding = MSGPACK  # until the handshake says otherwise
        self.phase = ServerPhase.HANDSHAKE
        self.since = now  # when it was accepted, when it was welcomed, or when its closing began
        self.last_received = now
        self.login: Login | None = None
        # What came behind the login, until it is accepted (S59). The statement in MessagePack: it takes the least room.
        self.early_want: bytes | None = None
        self.early_logout: Logout | None = None
        self.session: AttachedSession | None = None
        self.renewals: deque[Any] | None = None  # the first of them is with the authenticator
        self.replies: list[Any] | None = None
        self.reply_bytes = 0  # what those of them that may be much will have at least
        self.heartbeats = 0  # answers that are due
        self.silent = False  # whether the engine was told that nothing is heard (S39)
        self.blocks: list[bytes] | None = None  # whole frames of logs, in order
        self.pending = 0  # their bytes
        self.unsent = 0
        self.transmitted = 0
        self.taken = 0
        self.stalled_since = now
        self.paused_at: float | None = None
        self.deadline_at: float | None = None  # its place in the heap


class Position:
    """Where a reader that is not live stands in a log (S49). A new object for each new position: an answer to an
    older one is void. What it reads up to ``given`` its transport was given before."""

    __slots__ = ("cursor", "epoch", "given")

    def __init__(self, epoch: bytes, cursor: int, given: int = 0) -> None:
        self.epoch = epoch
        self.cursor = cursor
        self.given = given


class Rate:
    """How fast a session has asked of late, whatever transports it had (S45, S51)."""

    __slots__ = ("bucket", "byte_bucket", "error_at", "error_since", "excess", "flood_bucket")

    def __init__(self, bucket: TokenBucket, byte_bucket: TokenBucket, flood_bucket: TokenBucket) -> None:
        self.bucket = bucket  # what is refused above
        self.byte_bucket = byte_bucket  # the same for the bytes of messages (S55)
        self.flood_bucket = flood_bucket  # what counts as a flood
        self.error_since: float | None = None  # the first of a run of rate errors, and the last one
        self.error_at = 0.0
        self.excess = 0  # units of that run


class AttachedSession:
    """A session while a transport of this hub serves it."""

    __slots__ = (
        "attach",
        "busy",
        "channels",
        "confirmed",
        "expires_at",
        "freeing",
        "gathered",
        "held",
        "inbox",
        "inbox_confirmed",
        "inbox_start",
        "link",
        "login_epoch",
        "lowest_unanswered",
        "positions",
        "rate",
        "reading",
        "session_id",
        "silence_step",
        "stale",
        "stated",
        "step",
        "uid",
        "waiting",
        "waiting_bytes",
        "wants_room",
        "watching",
    )

    def __init__(
        self,
        link: ServerLink,
        *,
        uid: str,
        session_id: bytes,
        login_epoch: int,
        attach: int,
        expires_at: float | None,
        rate: Rate,
        inbox_start: InboxStart,
    ) -> None:
        self.watching: Subscriptions | None = None
        self.stale: dict[WatchedUser, None] | None = None  # of those, whose latest state it was not told
        self.inbox: WatchedLog | None = None
        self.inbox_start = inbox_start
        self.inbox_confirmed = inbox_start.cursor  # as the engine knows (S56)
        self.link: ServerLink | None = link
        self.uid = uid
        self.session_id = session_id
        self.login_epoch = login_epoch
        self.attach = attach
        self.expires_at = expires_at
        self.rate = rate
        self.confirmed = False  # whether the engine knows that the client has this attachment's welcome (S18)
        self.lowest_unanswered = 0
        self.silence_step = 0  # of the last report of its silence, for the engine (E8)
        self.step = 0  # of the last join or leave, for the engine (E8)
        self.channels: dict[str, WatchedLog] = {}
        self.positions: dict[WatchedLog, Position] | None = None
        self.held: dict[WatchedLog, int] | None = None  # up to where it was given the logs that it holds
        self.reading = False  # a piece is on its way from the engine
        self.stated = False
        self.busy = True  # until its statement is answered (S59)
        self.freeing = False
        self.gathered = 0  # its messages that wait for an append, or for the answer to one
        self.waiting: deque[tuple[int, Any]] | None = None  # requests that wait for those before them (S46); sizes
        self.waiting_bytes = 0
        self.wants_room = False  # the next of them waits until the transport has taken more

    def log_of(self, name: str) -> WatchedLog | None:
        """The log of this name on the wire, if the session has a part in it."""
        return self.channels.get(name) if name else self.inbox


_NOT_KNOWN = StatusOf(state=OFFLINE, since=None, expires_at=None, revision=0)


class WatchedUser:
    """A user whose status sessions of this hub watch."""

    __slots__ = ("changed", "places", "sessions", "status", "uid", "users", "waiters")

    def __init__(self, uid: str) -> None:
        self.uid = uid
        self.status = _NOT_KNOWN
        self.changed = False  # whether that is still to be told
        self.sessions: list[AttachedSession] = []
        self.places = array("I")  # of the user in the subscriptions of each of them
        self.users = 0  # the sessions, and whatever is under way
        self.waiters: list[Callable[[], None]] | None = []  # who waits for the subscription to be confirmed


class Subscriptions:
    """The users that a session watches. Each side knows its place on the other one: so an end needs no search, and a
    subscription takes no more room than four numbers, of which there may be millions."""

    __slots__ = ("places", "session", "users")

    def __init__(self, session: AttachedSession) -> None:
        self.session = session
        self.users: list[WatchedUser] = []
        self.places = array("I")  # of the session among those that watch each of them

    def add(self, user: WatchedUser) -> None:
        """A user that is not among them."""
        self.places.append(len(user.sessions))
        user.places.append(len(self.users))
        self.users.append(user)
        user.sessions.append(self.session)

    def remove(self, index: int) -> WatchedUser:
        """End one of them: on both sides the last one takes the place that becomes free."""
        user, place = self.users[index], self.places[index]
        last_session, last_index = user.sessions.pop(), user.places.pop()
        if last_session is not self.session:
            user.sessions[place], user.places[place] = last_session, last_index
            assert last_session.watching is not None  # it stands among those who watch
            last_session.watching.places[last_index] = place
        last_user, last_place = self.users.pop(), self.places.pop()
        if last_user is not user:
            self.users[index], self.places[index] = last_user, last_place
            last_user.places[last_place] = index
        return user


class Gathered:
    """A message that waits for its channel's next append, and whom to answer."""

    __slots__ = ("item", "session")

    def __init__(self, session: AttachedSession, item: AppendItem | InboxItem) -> None:
        self.session = session
        self.item = item


class WatchedLog:
    """A channel that has readers or publishers on this hub, or the inbox of a session that it serves.

    ``home`` is the engine's name of it, ``name`` the one on the wire, which is "" for an inbox.
    """

    __slots__ = (
        "count_fresh",
        "count_missed",
        "end",
        "epoch",
        "flushed_end",
        "fresh",
        "home",
        "live",
        "member_count",
        "missed",
        "name",
        "reading_hole",
        "users",
        "waiters",
        "watched",
    )

    def __init__(self, home: str, name: str) -> None:
        self.home = home
        self.name = name
        self.epoch = b""
        self.end = 0  # the last offset known here
        self.flushed_end = 0  # the last offset that the live readers were given
        self.fresh: list[Block] = []  # what they are to be given at the end of the pass
        self.live: tuple[dict[ServerLink, None], ...] = tuple({} for _ in ENCODINGS)  # those who keep up, by encoding
        self.member_count: int | None = None  # of a channel that does not tell of joins and leaves (S38)
        self.count_fresh = False  # whether the live readers are to be given it at the end of the pass
        self.count_missed = False  # it came before the subscription was confirmed
        self.users = 0  # members, and whatever is under way
        self.watched = False
        self.waiters: list[Callable[[], None]] | None = None  # who waits for the subscription to be confirmed
        self.reading_hole = False
        self.missed = False  # a block came meanwhile that could not be used

    def live_with(self, link: ServerLink) -> dict[ServerLink, None]:
        """The readers that keep up, of those with the encoding of this one."""
        return self.live[link.encoding.index]
