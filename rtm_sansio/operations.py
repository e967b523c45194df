"""The engine boundary: what nodes must agree on, as atomic operations, each on one home (E1).

The engine is their only truth. An operation names its home; its answer is a value. What must follow in other homes
comes back as *things to do* (E2): the asking node does them at once, any node after a while. Nodes tell durations,
never times (E6).
``docs/engine.md`` is the specification.
"""

from __future__ import annotations

import msgspec

from .events import LeaveCause
from .logs import Block, Page, Reading

USER_PREFIX, CHANNEL_PREFIX = "u:", "c:"
"""How the names of homes begin."""
SECRET_FIELDS = frozenset({"login_id", "session_id", "new_session_id", "quoted_session_id"})
"""Ids that give access to a session (S19)."""


class _Discreet(msgspec.Struct, frozen=True):
    """A value whose text form shows none of the secret ids in it, only whether there is one."""

    def __repr__(self) -> str:
        fields = ((name, getattr(self, name)) for name in self.__struct_fields__)
        shown = (
            f"{name}={'<hidden>' if name in SECRET_FIELDS and value is not None else repr(value)}"
            for name, value in fields
        )
        return f"{type(self).__name__}({', '.join(shown)})"


class Refusal(msgspec.Struct, frozen=True, gc=False):
    """The operation was refused and changed nothing."""

    code: int
    message: str
    retry_after_seconds: float | None = None


# --- things to do, and orders


class LeaveToDo(_Discreet, frozen=True, kw_only=True, gc=False):
    """An ended session is to leave a channel. Idempotent: it names the session."""

    todo_id: int
    uid: str
    channel: str
    session_id: bytes
    cause: LeaveCause


class OrderToDo(_Discreet, frozen=True, kw_only=True, gc=False):
    """A node is to drop a transport of a session: every attachment up to ``attach``."""

    todo_id: int
    uid: str
    node: str
    session_id: bytes
    attach: int
    code: int
    message: str


class LostToDo(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The lease of a node ran out: whatever session of the uid is attached under it was interrupted ``silent_seconds``
    ago (E7). It stands in the node's home; what it finds attached under another lease is not concerned."""

    uid: str
    node: str
    lease: bytes
    silent_seconds: float


ToDo = LeaveToDo | OrderToDo | LostToDo


class Order(_Discreet, frozen=True, kw_only=True, gc=False):
    """One entry of a node's log of orders (E9)."""

    session_id: bytes
    attach: int
    code: int
    message: str


# --- operations on a user's home


class AttachSession(_Discreet, frozen=True, kw_only=True, gc=False):
    """A login was accepted by the authenticator: decide between a new session, a resume and a refusal (S18, S19, S26,
    S30, S31).

    ``new_session_id`` names the call as well: carried out again, it answers as before and changes nothing. ``lease`` is
    the one under which the node listed the uid, None of a node without leases; refused if that ran out (E7).
    """

    uid: str
    node: str
    instance_id: bytes
    login_id: bytes
    attempt: int
    new_session_id: bytes
    quoted_session_id: bytes | None
    quoted_epoch: int | None
    quoted_attach: int | None
    lease: bytes | None = None


class InboxStart(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Where a session's inbox begins: behind ``cursor`` of ``epoch``. Entries up to ``kept_until`` are older than the
    session (S56). ``end`` is where its log ends now; what comes is announced to the node of the attachment."""

    epoch: bytes
    cursor: int
    kept_until: int
    end: int


class Attached(_Discreet, frozen=True, kw_only=True):
    """The session that the transport now serves, and the channels of its user's home."""

    session_id: bytes
    login_epoch: int
    attach: int
    resumed: bool
    channels: tuple[str, ...]
    inbox: InboxStart
    todos: tuple[ToDo, ...]


class ConfirmAttach(_Discreet, frozen=True, kw_only=True, gc=False):
    """The client has received the welcome of this attach number: an older one is a copy of the process (S18)."""

    uid: str
    session_id: bytes
    attach: int


class DetachSession(_Discreet, frozen=True, kw_only=True, gc=False):
    """The transport is gone; the session was last heard ``silent_seconds`` ago (S14). A later attachment makes it
    void."""

    uid: str
    session_id: bytes
    attach: int
    silent_seconds: float


class DetachLost(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The lease of a node ran out: whatever session of the uid is attached under it was interrupted ``silent_seconds``
    ago. An ``AttachSession`` under this lease that comes later is refused (E7)."""

    uid: str
    lease: bytes
    silent_seconds: float


class EndSession(_Discreet, frozen=True, kw_only=True, gc=False):
    """End a user's session: this one, or (None) whichever there is. ``spoil_epoch`` refuses its return with ``code``
    (S31). ``end_id`` names the call where no session is named: carried out again it ends no session that began
    since."""

    uid: str
    session_id: bytes | None
    cause: LeaveCause
    code: int
    message: str
    spoil_epoch: bool
    ban_seconds: float | None
    end_id: bytes = b""


class ConfirmInbox(_Discreet, frozen=True, kw_only=True, gc=False):
    """The client has its inbox up to ``position``, and need not be given that again (S56)."""

    uid: str
    session_id: bytes
    position: int


class ReportSilence(_Discreet, frozen=True, kw_only=True, gc=False):
    """An attached session was not heard for ``silent_seconds``, which is too long; or (0) is heard again (S39). A later
    attachment or step makes it void."""

    uid: str
    session_id: bytes
    attach: int
    silent_seconds: float
    step: int = 0


OFFLINE, ONLINE, UNREACHABLE = 0, 1, 2
"""States of a user."""


class StatusOf(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A user's state, since when, and, if unreachable, when its session ends (Unix milliseconds of the engine).
    ``revision`` rises with each change, and is 0 for a user that nobody has heard of."""

    state: int
    since: int | None
    expires_at: int | None
    revision: int


class ReadStatus(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A user's status. Changes nothing. Answer: ``StatusOf``."""

    uid: str


class WatchStatus(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Announce a user's changes of status to the node, or no longer. Answer: ``StatusOf`` as of the subscription
    (S57). Under a lease that is not the node's present one nothing is announced (E8)."""

    uid: str
    node: str
    on: bool
    lease: bytes | None = None


class InboxItem(_Discreet, frozen=True, gc=False):
    """One message to a user, and which request of which session of the sender it is (S46)."""

    sender: str
    session_id: bytes
    number: int
    lowest_unanswered: int
    entry: bytes
    sent_at: int
    offline: bool


class AppendToInbox(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Append messages to a user's inbox: one call per inbox and loop pass (S36, S55, E3)."""

    uid: str
    items: tuple[InboxItem, ...]


class InboxAppended(msgspec.Struct, frozen=True, kw_only=True):
    """For each item where it went: 0 nowhere, 1 to a session that was heard lately, 2 into store; or the code of its
    refusal with the sign turned. ``repeated`` has the ``sent_at`` of each item, by its place, that was appended before.
    """

    results: tuple[int, ...]
    repeated: dict[int, int] | None = None


class ChangeAttributes(_Discreet, frozen=True, kw_only=True):
    """Change attributes in the home of a user, who must be the session's, or of a channel: all of it or nothing (S39).

    ``replace`` leaves none but those of ``put``; else ``drop`` goes and ``put`` is added. Refused if the revision is
    not the one expected, if there is one. ``number`` is None in a statement: then it is what a new session begins with,
    and nothing once the session has changed attributes (S25, S59).
    ``notice`` is what is appended to the channel's log, if its members are to be told. Answer: ``AttributesChanged``.
    """

    home: str
    uid: str
    session_id: bytes
    number: int | None
    lowest_unanswered: int
    replace: bool
    put: dict[str, str]
    drop: tuple[str, ...]
    expected_revision: int | None
    notice: bytes | None
    changed_at: int


class AttributesChanged(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The attributes' revision after the change."""

    revision: int


class ReadAttributes(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The attributes of a home: those of ``keys``, or all. Changes nothing. Answer: ``AttributesRead``."""

    home: str
    keys: tuple[str, ...]


class Attribute(msgspec.Struct, frozen=True, gc=False):
    """One attribute: its value, the revision that set it, who did, and when (Unix milliseconds)."""

    value: str
    revision: int
    uid: str
    updated_at: int


class AttributesRead(msgspec.Struct, frozen=True, kw_only=True):
    """Attributes by key, and the revision of all together."""

    revision: int
    attributes: dict[str, Attribute]


class Ended(msgspec.Struct, frozen=True, kw_only=True):
    """Whether there was a session to end, and what follows from it."""

    ended: bool
    todos: tuple[ToDo, ...]


class ListChannel(_Discreet, frozen=True, kw_only=True, gc=False):
    """List a channel in the user's home before joining it, or strike it after leaving (E2). Refused to any attachment
    but the last one, and below its last ``step``: a late strike would hide a membership from the end of the session
    (E8)."""

    uid: str
    session_id: bytes
    attach: int
    channel: str
    listed: bool
    step: int = 0


class StrikeToDos(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """These things are done."""

    uid: str
    todo_ids: tuple[int, ...]


class TakeToDos(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Whatever is overdue in any user's home, found through the due-index. Answer: a tuple of things to do."""

    node: str


# --- operations on a channel's home


class WatchChannel(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Announce the channel's blocks to the node, or no longer. Answer: ``LogEnd`` as of the subscription (E5).

    A subscription ends with the ``lease`` of its node (E7); under one that ran out there is none.
    """

    channel: str
    node: str
    on: bool
    lease: bytes | None = None


class LogEnd(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Where a log ends; and the number of members of a channel that does not tell of joins and leaves (S38)."""

    epoch: bytes
    end: int
    member_count: int | None = None


class JoinChannel(_Discreet, frozen=True, kw_only=True, gc=False):
    """Make the session a member (S47). ``number`` is None in a statement, whose repetition is harmless (S59).

    Refused to a session that has ended, and to an older attachment, or an older ``step`` of the same, than joined or
    left last (E2, E8).
    """

    channel: str
    uid: str
    session_id: bytes
    attach: int
    number: int | None
    lowest_unanswered: int
    joined_entry: bytes
    replaced_entry: bytes
    step: int = 0


class ChannelJoined(msgspec.Struct, frozen=True, kw_only=True):
    """The member's cursor starts at ``offset``; ``block`` is what the step appended, None if that was nothing: the
    session was a member already, or the channel is too large for joins and leaves to be told (S38)."""

    epoch: bytes
    offset: int
    member_count: int
    members: tuple[str, ...] | None
    block: Block | None


class LeaveChannel(_Discreet, frozen=True, kw_only=True, gc=False):
    """End a membership if it is this session's. ``resumed_entry`` is what is appended if joins and leaves are told
    again from now on (S38). With ``ended`` the session is over: the channel marks it, and a late join is refused (E2).
    Without, it is refused to an older attachment or step than joined or left last (E8).

    If the user's home lists the channel (``listed``), the leave is remembered even of one who was no member: a join of
    an older attachment may still be on its way.
    """

    channel: str
    uid: str
    session_id: bytes
    attach: int
    number: int | None
    lowest_unanswered: int
    left_entry: bytes
    resumed_entry: bytes
    listed: bool
    ended: bool
    step: int = 0


class ChannelLeft(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """``block`` is what the step appended, None if the session was no member."""

    block: Block | None


class AppendItem(_Discreet, frozen=True, gc=False):
    """One message to append, and which request of which session it is (S46). ``sent_at`` is the time in the entry, in
    Unix milliseconds: a part of the outcome."""

    uid: str
    session_id: bytes
    number: int
    lowest_unanswered: int
    entry: bytes
    sent_at: int


class Append(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Append messages to a channel's log: one call per log and loop pass (E3)."""

    channel: str
    items: tuple[AppendItem, ...]


class Appended(msgspec.Struct, frozen=True, kw_only=True):
    """For each item its offset, or the code of its refusal with the sign turned; ``block`` is what was new, or None.

    ``repeated`` has the ``sent_at`` that stands in the log for each item, by its place, that was appended before.
    """

    epoch: bytes
    results: tuple[int, ...]
    block: Block | None
    repeated: dict[int, int] | None = None


class ReadLog(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Read a log from a cursor: a channel's, or an inbox. ``log`` is its home. Answer: ``Reading``."""

    log: str
    epoch: bytes
    cursor: int
    max_bytes: int


class ListMembersOf(_Discreet, frozen=True, kw_only=True, gc=False):
    """A page of a channel's members, in the order of their uids, behind ``after``; refused to who is no member.
    Changes nothing. Answer: ``MembersListed`` (S47)."""

    channel: str
    uid: str
    session_id: bytes
    after: str
    limit: int


class MembersListed(msgspec.Struct, frozen=True, kw_only=True):
    """Members as of ``offset``; ``more`` stand behind the last one."""

    epoch: bytes
    offset: int
    member_count: int
    uids: tuple[str, ...]
    more: bool


class CountMembersOf(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """How many members a channel has. Changes nothing. Answer: a number."""

    channel: str


class ReadPage(_Discreet, frozen=True, kw_only=True, gc=False):
    """A page of a channel's history: up to ``limit`` entries behind ``after``, before ``before``, or the newest;
    refused to who is no member. Changes nothing. Answer: ``Page``."""

    channel: str
    uid: str
    session_id: bytes
    before: int | None
    after: int | None
    limit: int
    max_bytes: int


# --- operations on a node's home


class PostOrder(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Append an order to a node's log of orders."""

    node: str
    order: Order


class ReadOrders(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Orders behind ``cursor``; those up to it are done and forgotten. Answer: ``Orders``."""

    node: str
    cursor: int


class Orders(msgspec.Struct, frozen=True, kw_only=True):
    """Orders, and the cursor behind them."""

    cursor: int
    orders: tuple[Order, ...]


class RenewLease(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The node lives, and serves sessions of these uids from now on, or no longer (E7). Step 0 begins the lease, and
    ends the one before of the same node; steps rise, and an older one is refused, like any of a lease that ran out.

    Answer: ``Renewed``. A uid is listed before its session is attached under the lease.
    """

    node: str
    lease: bytes
    step: int
    listed: tuple[str, ...] = ()
    struck: tuple[str, ...] = ()


class Renewed(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The lease is good for its time from now on; ``last_order`` is the cursor behind the node's last order, 0 if none
    waits: an announcement can be lost (E9)."""

    last_order: int


class StrikeSessions(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The sessions of these uids were detached: strike them from the list of a lease that ran out (E7)."""

    node: str
    lease: bytes
    uids: tuple[str, ...]


UserOperation = (
    AttachSession
    | ConfirmAttach
    | ConfirmInbox
    | DetachSession
    | DetachLost
    | EndSession
    | ListChannel
    | AppendToInbox
    | ReportSilence
    | ReadStatus
    | WatchStatus
    | StrikeToDos
    | TakeToDos
)
ChannelOperation = WatchChannel | JoinChannel | LeaveChannel | Append | ListMembersOf | CountMembersOf | ReadPage
AttributesOperation = ChangeAttributes | ReadAttributes
READS = (ReadLog, ListMembersOf, CountMembersOf, ReadPage, ReadAttributes, ReadStatus)
"""They change nothing, and may be carried out beside other calls on their home."""
NodeOperation = PostOrder | ReadOrders | RenewLease | StrikeSessions
Operation = UserOperation | ChannelOperation | AttributesOperation | ReadLog | NodeOperation
Answer = (
    Attached
    | Ended
    | ChannelJoined
    | ChannelLeft
    | Appended
    | InboxAppended
    | AttributesChanged
    | AttributesRead
    | StatusOf
    | Reading
    | Page
    | MembersListed
    | LogEnd
    | int
    | Orders
    | Renewed
    | tuple[ToDo, ...]
    | Refusal
    | None
)


def home_of_operation(operation: Operation) -> str:
    """The home that an operation touches: calls on one home are not in flight together (S46)."""
    if isinstance(operation, ReadLog):
        return operation.log
    if isinstance(operation, (ChangeAttributes, ReadAttributes)):
        return operation.home
    if isinstance(
        operation, (WatchChannel, JoinChannel, LeaveChannel, Append, ListMembersOf, CountMembersOf, ReadPage)
    ):
        return home_of_channel(operation.channel)
    if isinstance(operation, (PostOrder, ReadOrders, TakeToDos, RenewLease, StrikeSessions)):
        return "n:" + operation.node
    return home_of_user(operation.uid)


def home_of_channel(name: str) -> str:
    """The home of a channel."""
    return CHANNEL_PREFIX + name


def home_of_user(uid: str) -> str:
    """The home of a user."""
    return USER_PREFIX + uid


# --- announcements to nodes


class BlockAnnounced(msgspec.Struct, frozen=True, kw_only=True):
    """A watched channel grew, or the inbox of a session that the node serves. ``log`` is its home."""

    log: str
    block: Block


class CountAnnounced(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The present number of members of a watched channel that does not tell of joins and leaves; None once it tells
    of them again (S38)."""

    channel: str
    member_count: int | None


class StatusAnnounced(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """The status of a watched user has changed."""

    uid: str
    status: StatusOf


class OrdersWaiting(msgspec.Struct, frozen=True, gc=False):
    """The node has orders to read."""


class ToDosWaiting(msgspec.Struct, frozen=True, gc=False):
    """There are overdue things to do."""


Announcement = BlockAnnounced | CountAnnounced | StatusAnnounced | OrdersWaiting | ToDosWaiting


class EngineCall(msgspec.Struct, frozen=True, kw_only=True):
    """Effect of a hub with an external engine: carry this out and answer with ``engine_answered`` and the id."""

    call_id: int
    operation: Operation
