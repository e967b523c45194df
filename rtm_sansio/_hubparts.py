"""What a hub keeps for one transport, one attached session and one watched channel. The rules are in ``hub``."""

from __future__ import annotations

import enum
from collections import deque
from typing import Any

from ._pacing import TokenBucket
from ._wire import ServerWire
from .logs import Block
from .messages import Login
from .operations import AppendItem


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
        "early",
        "heartbeats",
        "last_received",
        "login",
        "paused",
        "phase",
        "rate_error_at",
        "renewing",
        "replies",
        "session",
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
        self.phase = ServerPhase.HANDSHAKE
        self.since = now  # when it was accepted, or when its closing began
        self.last_received = now
        self.login: Login | None = None
        self.early: list[Any] | None = None  # what came behind the login, until it is accepted (S59)
        self.session: AttachedSession | None = None
        self.renewing: int | None = None  # the number of the renewal that the authenticator judges
        self.replies: list[Any] | None = None
        self.heartbeats = 0  # answers that are due
        self.blocks: list[bytes] | None = None  # whole frames of logs, in order
        self.unsent = 0
        self.transmitted = 0
        self.taken = 0
        self.stalled_since = now
        self.paused = False
        self.rate_error_at: float | None = None
        self.deadline_at: float | None = None  # its place in the hub's heap

    @property
    def dirty(self) -> bool:
        """Whether something waits to be transmitted."""
        return self.replies is not None or self.blocks is not None or self.heartbeats > 0


class Position:
    """Where a reader that is not live stands in a log (S49). A new object for each new position: an answer to an
    older one is void."""

    __slots__ = ("cursor", "epoch", "reading")

    def __init__(self, epoch: bytes, cursor: int) -> None:
        self.epoch = epoch
        self.cursor = cursor
        self.reading = False


class AttachedSession:
    """A session while a transport of this hub serves it."""

    __slots__ = (
        "attach",
        "bucket",
        "busy",
        "channels",
        "expires_at",
        "flood_bucket",
        "gathered",
        "link",
        "login_epoch",
        "lowest_unanswered",
        "positions",
        "session_id",
        "stated",
        "uid",
        "waiting",
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
        bucket: TokenBucket,
        flood_bucket: TokenBucket,
    ) -> None:
        self.link: ServerLink | None = link
        self.uid = uid
        self.session_id = session_id
        self.login_epoch = login_epoch
        self.attach = attach
        self.expires_at = expires_at
        self.bucket = bucket
        self.flood_bucket = flood_bucket
        self.lowest_unanswered = 0
        self.channels: dict[str, WatchedChannel] = {}
        self.positions: dict[WatchedChannel, Position] | None = None
        self.busy = True  # until its statement is answered (S59)
        self.stated = False
        self.gathered = 0
        self.waiting: deque[Any] | None = None


class Gathered:
    """A message that waits for its channel's next append, and whom to answer."""

    __slots__ = ("item", "sent_at", "session")

    def __init__(self, session: AttachedSession, item: AppendItem, sent_at: int) -> None:
        self.session = session
        self.item = item
        self.sent_at = sent_at


class WatchedChannel:
    """A channel that has readers or publishers on this hub."""

    __slots__ = (
        "appending",
        "behind_reading",
        "end",
        "epoch",
        "flushed_end",
        "fresh",
        "gathered",
        "live",
        "name",
        "users",
        "waiters",
        "watched",
    )

    def __init__(self, name: str) -> None:
        self.name = name
        self.epoch = b""
        self.end = 0  # the last offset known here
        self.flushed_end = 0  # the last offset that the live readers were given
        self.fresh: list[Block] = []
        self.live: dict[ServerLink, None] = {}
        self.users = 0  # sessions of this hub that are members
        self.gathered: list[Gathered] = []
        self.appending = False
        self.watched = False
        self.waiters: list[Any] | None = None  # who waits for the subscription to be confirmed
        self.behind_reading = False  # a hole is being read
