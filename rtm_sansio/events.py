"""News for the application (client) and for the server's owner (hub): frozen, self-contained values.

A client event has a *home* (S52): those with a ``channel`` belong to that channel, all others to the client.
"""

from __future__ import annotations

import enum
from typing import Any, get_args

import msgspec

from .errors import RtmError
from .states import ConnectionChangeReason, ConnectionState


class LeaveCause(enum.IntEnum):
    """Why a member left (S38). The number is the one on the wire."""

    LEFT = 1
    TIMED_OUT = 2
    REPLACED = 3
    KICKED = 4
    BANNED = 5
    LOGGED_OUT = 6


# --- of the client


class ConnectionStateChanged(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The state switched (S2). ``code`` and ``message`` are the server's or the failure's, where there is one."""

    state: ConnectionState
    reason: ConnectionChangeReason
    previous: ConnectionState
    code: str | None = None
    message: str | None = None


class TokenExpired(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The token has expired while RECONNECTING; call ``renew_token``. Once per token; the state does not change
    (S27)."""


class TokenWillExpire(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The token expires in ``expires_in`` seconds; call ``renew_token`` (S28). Once per token."""

    expires_in: float


class ReconnectProblem(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An attempt met a verdict that does not end the reconnecting (S20). Once per code and outage."""

    code: str
    message: str


class OnlineState(enum.IntEnum):
    """Whether a user is there (S39). The number is the one on the wire."""

    OFFLINE = 0
    ONLINE = 1
    UNREACHABLE = 2
    """It has a session, and nothing was heard of it for some seconds."""


class OnlineStatusChanged(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A watched user is in another state ``since`` then, and if unreachable, its session ends at ``expires_at``; both
    in Unix seconds of the server, None if that is not known. States in between may be left out (S57)."""

    uid: str
    state: OnlineState
    since: float | None
    expires_at: float | None


class StatusSubscriptionsLost(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """These users are watched no more after a reconnect, because the server allows fewer than before; the connection
    goes on."""

    uids: tuple[str, ...]


class AttributesLost(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One's own attributes could not be set again after a reconnect (S25); the connection goes on."""

    code: str
    message: str


class EventsDropped(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """``count`` older events of this home were dropped because nobody iterated it (S52). ``home`` is "" for the
    client."""

    home: str
    count: int


class MessageReceived(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A message of another user, or of oneself, to this one (S36). ``sent_at`` is the server's wall clock in Unix
    seconds; the order is ``offset``.

    ``kept`` says that it was sent with ``offline`` before this session began, and waited (S56). ``lost_before`` counts
    the messages that were lost right before it: 0 normally, None if their number is not known.
    """

    uid: str
    message: str | bytes
    description: str
    offset: int
    sent_at: float
    kept: bool
    lost_before: int | None = 0


# --- of a channel


class ChannelMessageReceived(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A message of a channel. ``sent_at`` is the server's wall clock in Unix seconds, for display; the order is
    ``offset``.

    ``lost_before`` counts the entries that were lost right before it (S33): 0 normally, None if their number is not
    known.
    """

    channel: str
    uid: str
    message: str | bytes
    offset: int
    sent_at: float
    lost_before: int | None = 0


class MemberJoined(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Another member joined the channel (S38)."""

    channel: str
    uid: str
    offset: int


class MemberLeft(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Another member left the channel, and why (S38)."""

    channel: str
    uid: str
    cause: LeaveCause
    offset: int


class MemberCountChanged(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How many members a channel has that is too large to tell of joins and leaves, or is set not to; at most once a
    second, and the latest value only (S38)."""

    channel: str
    member_count: int


class MembersResumed(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Joins and leaves are told again from ``offset`` on (S38). What was known of the members is out of date: ask for
    them with ``members()``."""

    channel: str
    offset: int


class ChannelAttributesChanged(msgspec.Struct, frozen=True, kw_only=True):
    """A user changed the channel's attributes, and wished the members to know (S39): all were replaced by ``put``, or
    ``dropped`` went and ``put`` was added. ``changed_at`` in Unix seconds of the server."""

    channel: str
    uid: str
    replaced: bool
    put: dict[str, str]
    dropped: tuple[str, ...]
    changed_at: float
    offset: int


class MessagesLost(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """``count`` entries of the channel are gone for this reader (S33); None if their number cannot be known.

    ``channel`` is "" for one's own inbox.
    """

    channel: str
    count: int | None


class ChannelLost(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The channel could not be rejoined after a reconnect (S44); the connection goes on."""

    channel: str
    code: str
    message: str


# --- results and ends of requests: for the frontend that waits on a request id


class SendReceipt(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The message stands in the channel's log at ``offset`` of ``epoch`` (S34). ``sent_at`` in Unix seconds of the
    server."""

    offset: int
    epoch: bytes
    sent_at: float


class JoinReceipt(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Joined: what follows ``offset`` of ``epoch`` will arrive. ``members`` is the list as of then, None above 512
    (S47)."""

    channel: str
    offset: int
    epoch: bytes
    member_count: int
    members: tuple[str, ...] | None


class PeerDelivery(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Where a message to a user went (S36): ``received`` into the inbox of a session that was heard within the last
    seconds; ``kept`` in the inbox of one that was not, or, if that was asked for, for a user who is not there. If
    neither, it is nowhere: send it again if you like. None of them is a read receipt.

    ``sent_at`` in Unix seconds of the server.
    """

    received: bool
    kept: bool
    sent_at: float


class TokenReceipt(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The renewed token was accepted; it expires in ``expires_in`` seconds, or never (None) (S28)."""

    expires_in: float | None


class AttributesReceipt(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The attributes were changed; ``revision`` is theirs now. Revisions rise, and go on across sessions (S39)."""

    revision: int


class Attribute(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """An attribute: its value, the revision that set it, who did that, and when (Unix seconds of the server)."""

    value: str
    revision: int
    uid: str
    updated_at: float


class AttributeSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """The attributes of a user or a channel, and the revision of all together, 0 if none were ever set (S39)."""

    revision: int
    attributes: dict[str, Attribute]

    @property
    def values(self) -> dict[str, str]:
        """The values by their keys."""
        return {key: attribute.value for key, attribute in self.attributes.items()}


class OnlineStatus(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A user's state, ``since`` when it is in it, and, if unreachable, when its session ends; both in Unix seconds of
    the server, None for a user of whom nobody has heard (S39)."""

    state: OnlineState
    since: float | None
    expires_at: float | None


class OnlineStatuses(msgspec.Struct, frozen=True, kw_only=True):
    """The status of each user that was asked for."""

    statuses: dict[str, OnlineStatus]


class MemberPage(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Members of a channel, in the order of their uids, as of ``offset`` of ``epoch``: joins and leaves with a greater
    offset apply to them (S47).

    ``member_count`` counts all. With ``more``, the next page begins behind the last uid of this one.
    """

    channel: str
    epoch: bytes
    offset: int
    member_count: int
    uids: tuple[str, ...]
    more: bool


class HistoryPage(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Entries of a channel's log as events, in the order of their offsets, one's own included.

    ``first_offset`` and ``last_offset`` are those of all entries of the page, also of the ones that say nothing;
    ``last_offset`` is one less if there is none. ``more`` says whether further ones are kept in the direction asked
    for: then ``before=page.first_offset``, or ``after=page.last_offset``, brings them.
    """

    channel: str
    epoch: bytes
    events: tuple[ChannelMessageReceived | MemberJoined | MemberLeft | MembersResumed | ChannelAttributesChanged, ...]
    first_offset: int
    last_offset: int
    more: bool

    @property
    def messages(self) -> tuple[ChannelMessageReceived, ...]:
        """The messages among the events."""
        return tuple(event for event in self.events if isinstance(event, ChannelMessageReceived))


class MemberCounts(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How many members each of the channels has; 0 for one that nobody is in."""

    counts: dict[str, int]


RequestResult = (
    SendReceipt
    | PeerDelivery
    | JoinReceipt
    | TokenReceipt
    | AttributesReceipt
    | AttributeSnapshot
    | OnlineStatuses
    | MemberPage
    | HistoryPage
    | MemberCounts
    | None
)


class RequestCompleted(msgspec.Struct, frozen=True, kw_only=True):
    """The request of this id succeeded. Exactly one of this and ``RequestErred`` ends each request (S9)."""

    request_id: int
    result: RequestResult


class RequestErred(msgspec.Struct, frozen=True, kw_only=True):
    """The request of this id failed; ``error`` is what the call is to raise, with its cause."""

    request_id: int
    error: RtmError


ClientEvent = (
    ConnectionStateChanged
    | MessageReceived
    | MessagesLost
    | TokenExpired
    | TokenWillExpire
    | ReconnectProblem
    | OnlineStatusChanged
    | StatusSubscriptionsLost
    | AttributesLost
    | EventsDropped
)
ChannelEvent = (
    ChannelMessageReceived
    | MemberJoined
    | MemberLeft
    | MemberCountChanged
    | MembersResumed
    | ChannelAttributesChanged
    | MessagesLost
    | ChannelLost
)
Completion = RequestCompleted | RequestErred
Event = ClientEvent | ChannelEvent | Completion


# --- of the hub


class LoginRequested(msgspec.Struct, frozen=True, kw_only=True):
    """Someone wants to log in: answer with ``Hub.accept_login`` or ``Hub.refuse_login`` and this transport id.

    ``wall_clock`` is the hub's Unix time, to judge the token's times by; None if the driver has not set it.
    The token is kept out of the text form.
    """

    transport_id: int
    uid: str
    token: str
    wall_clock: float | None

    def __repr__(self) -> str:
        return f"LoginRequested(transport_id={self.transport_id}, uid={self.uid!r})"


class RenewalRequested(msgspec.Struct, frozen=True, kw_only=True):
    """A session brings a new token: answer with ``Hub.accept_renewal`` or ``Hub.refuse_renewal``, this transport id
    and this number (S28)."""

    transport_id: int
    number: int
    uid: str
    token: str
    wall_clock: float | None

    def __repr__(self) -> str:
        return f"RenewalRequested(transport_id={self.transport_id}, number={self.number}, uid={self.uid!r})"


class LoginWithdrawn(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Nobody waits for the verdict on this transport's login or renewal any more: it is gone, or out of time.

    May be ignored, for a verdict is then without effect. But an authenticator that takes long should not be asked, or
    logins that were given up shut out those that were not (S51).
    """

    transport_id: int


HubEvent = LoginRequested | RenewalRequested | LoginWithdrawn

_CHANNEL_EVENTS = get_args(ChannelEvent)


def home_of(event: Any) -> str:
    """The home of a client's event: the channel's name, or "" for the client itself (S52)."""
    channel: str = event.channel if isinstance(event, _CHANNEL_EVENTS) else ""
    return channel
