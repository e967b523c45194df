"""The wire messages of protocol version 1: one schema, what it is in MessagePack, and what a reader skips.

``_encodings`` has the same in JSON, and what stands for either. One WebSocket message carries an array of these (a
batch); the empty array is the heartbeat and its answer. Each message is an array whose first element is an integer tag.
Trailing fields that a reader does not know are ignored; an unknown tag of 128 or above is skipped and counted, an
unknown tag below is a protocol error. So it is with entries.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, Generic, TypeVar, cast

import msgspec

from .errors import RtmError

SUBPROTOCOL_MSGPACK = "rtm.v1.msgpack"
FIRST_OPTIONAL_TAG = 128
LOGIN_BYTES = 16 * 1024
"""What one WebSocket message may hold before the login is accepted (S45)."""
ENTRIES_TAG = 5
_HISTORY_TAG = 23
_MAX_ARRAY_HEADER = 5
MAX_SKIPPED = 1024
"""Optional messages of a later version in one batch; more are a protocol error (S50)."""
MAX_UNKNOWN_ENTRIES = 16 * 1024
"""The same for entries. A batch of the usual size has room for so many of eight bytes, and none is as short as that
that says something."""
INBOX = ""
"""The name of one's own inbox, where a log is named."""
HEARTBEAT = b"\x90"
"""An empty array: the heartbeat and its answer."""


class MalformedBatch(RtmError, ValueError):
    """The peer's bytes are not a batch of this protocol. Handled inside the cores; never reaches an application."""

    default_code = "protocol_error"


# --- client to server


class Login(msgspec.Struct, array_like=True, tag=1, frozen=True, gc=False):
    """Log in, or resume: then the last three fields are set, or only ``login_epoch`` for an automatic re-login."""

    uid: str
    token: str
    instance_id: bytes
    login_id: bytes
    attempt: int
    session_id: bytes | None = None
    login_epoch: int | None = None
    attach: int | None = None

    def __repr__(self) -> str:
        return f"Login(uid={self.uid!r}, attempt={self.attempt})"


class WantedChannel(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One channel of a statement: with its cursor if it is joined, with neither if its join is unanswered (S59)."""

    channel: str
    epoch: bytes | None = None
    cursor: int | None = None


class WantedInbox(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Up to where the client has its inbox."""

    epoch: bytes
    cursor: int


class WantedStatus(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A user whose status the client watches, and the revision in which it knows it."""

    uid: str
    revision: int


class Want(msgspec.Struct, array_like=True, tag=2, frozen=True):
    """All that the client wants, right behind ``login`` (S59). ``inbox`` is nil before the first welcome of a
    ``login``: then it begins where that says (S56). ``attributes`` are one's own, which a session is given that has
    changed none yet; nil leaves it as it is. ``statuses`` are all that is watched: states that have changed follow the
    answer (S57)."""

    channels: tuple[WantedChannel, ...]
    inbox: WantedInbox | None = None
    attributes: dict[str, str] | None = None
    statuses: tuple[WantedStatus, ...] = ()


class Logout(msgspec.Struct, array_like=True, tag=3, frozen=True, gc=False):
    """End the session (S7). Answered by ``Done``."""

    number: int


class Progress(msgspec.Struct, array_like=True, tag=4, frozen=True, gc=False):
    """The welcome received last, the lowest number still unanswered, and up to where the client has the inbox whose
    epoch stands in that welcome (S18, S46, S56)."""

    attach: int
    lowest_unanswered: int
    inbox: int = 0


class Hold(msgspec.Struct, array_like=True, tag=5, frozen=True, gc=False):
    """Send nothing more of this log for now (S52)."""

    log: str


class GoOn(msgspec.Struct, array_like=True, tag=6, frozen=True, gc=False):
    """Send the log from behind this cursor (S48, S52). Answered by ``Going``."""

    log: str
    epoch: bytes
    cursor: int


class PublishText(msgspec.Struct, array_like=True, tag=16, frozen=True, gc=False):
    """Append a text message to the channel's log. Answered by ``Sent``."""

    number: int
    channel: str
    text: str


class PublishBytes(msgspec.Struct, array_like=True, tag=17, frozen=True, gc=False):
    """The same with bytes."""

    number: int
    channel: str
    data: bytes


class Join(msgspec.Struct, array_like=True, tag=18, frozen=True, gc=False):
    """Join a channel (S47). Answered by ``Joined``."""

    number: int
    channel: str


class Leave(msgspec.Struct, array_like=True, tag=19, frozen=True, gc=False):
    """Leave a channel. Answered by ``Done``."""

    number: int
    channel: str


class RenewToken(msgspec.Struct, array_like=True, tag=20, frozen=True, gc=False):
    """Bring a new token (S28). Answered by ``Renewed``."""

    number: int
    token: str

    def __repr__(self) -> str:
        return f"RenewToken(number={self.number})"


class PeerText(msgspec.Struct, array_like=True, tag=24, frozen=True, gc=False):
    """Send a text to a user; with ``offline`` it is kept for one who is not there (S36). Answered by ``PeerSent``."""

    number: int
    uid: str
    text: str
    offline: bool = False
    description: str = ""


class PeerBytes(msgspec.Struct, array_like=True, tag=25, frozen=True, gc=False):
    """The same with bytes."""

    number: int
    uid: str
    data: bytes
    offline: bool = False
    description: str = ""


class ChangeAttributes(msgspec.Struct, array_like=True, tag=26, frozen=True):
    """Change attributes: of the channel, or of oneself if ``channel`` is "" (S39). With ``replace`` none are left but
    those of ``put``; else ``drop`` goes and ``put`` is added. Carried out wholly, or refused: also if
    ``expected_revision`` is not the present one. With ``notify`` the channel's members are told. Answered by
    ``Changed``."""

    number: int
    channel: str
    replace: bool
    put: dict[str, str]
    drop: tuple[str, ...] = ()
    expected_revision: int | None = None
    notify: bool = False


class ReadUserAttributes(msgspec.Struct, array_like=True, tag=27, frozen=True, gc=False):
    """The attributes of a user: those of ``keys``, or all. Answered by ``Attributes``."""

    number: int
    uid: str
    keys: tuple[str, ...] = ()


class ReadChannelAttributes(msgspec.Struct, array_like=True, tag=28, frozen=True, gc=False):
    """The attributes of a channel, joined or not: those of ``keys``, or all. Answered by ``Attributes``."""

    number: int
    channel: str
    keys: tuple[str, ...] = ()


class ReadStatus(msgspec.Struct, array_like=True, tag=29, frozen=True, gc=False):
    """The online status of users. Answered by ``Statuses``."""

    number: int
    uids: tuple[str, ...]


class WatchStatus(msgspec.Struct, array_like=True, tag=30, frozen=True, gc=False):
    """Subscribe to the online status of users. Answered by ``Statuses``, with the state of each; from then on
    ``StatusChanged`` tells of changes (S39)."""

    number: int
    uids: tuple[str, ...]


class UnwatchStatus(msgspec.Struct, array_like=True, tag=31, frozen=True, gc=False):
    """Subscribe no longer. Answered by ``Done``."""

    number: int
    uids: tuple[str, ...]


class ListMembers(msgspec.Struct, array_like=True, tag=21, frozen=True, gc=False):
    """A page of a joined channel's members, in the order of their uids, behind ``after`` (S47). Answered by
    ``Members``."""

    number: int
    channel: str
    after: str = ""


class CountMembers(msgspec.Struct, array_like=True, tag=22, frozen=True, gc=False):
    """How many members channels have. Answered by ``MemberCounts``."""

    number: int
    channels: tuple[str, ...]


class ReadHistory(msgspec.Struct, array_like=True, tag=23, frozen=True, gc=False):
    """Up to ``limit`` kept entries of a joined channel: the ones right behind the offset ``after``, the last ones
    before the offset ``before``, or (both None) the newest. Answered by ``History``."""

    number: int
    channel: str
    limit: int
    before: int | None = None
    after: int | None = None


Publish = PublishText | PublishBytes
Request = (
    PublishText
    | PublishBytes
    | PeerText
    | PeerBytes
    | Join
    | Leave
    | RenewToken
    | ListMembers
    | CountMembers
    | ReadHistory
    | ChangeAttributes
    | ReadUserAttributes
    | ReadChannelAttributes
    | ReadStatus
    | WatchStatus
    | UnwatchStatus
    | Logout
)
ClientMessage = (
    Login
    | Want
    | Logout
    | Progress
    | Hold
    | GoOn
    | PublishText
    | PublishBytes
    | Join
    | Leave
    | RenewToken
    | PeerText
    | PeerBytes
    | ListMembers
    | CountMembers
    | ReadHistory
    | ChangeAttributes
    | ReadUserAttributes
    | ReadChannelAttributes
    | ReadStatus
    | WatchStatus
    | UnwatchStatus
)


# --- server to client


class Limits(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Every limit and interval that the server applies (S15, S45). Durations in seconds."""

    heartbeat_interval: float
    silence_timeout: float
    presence_grace: float
    max_name_length: int
    max_message_bytes: int
    max_request_bytes: int
    max_frame_bytes: int
    max_channels: int
    max_unanswered: int
    requests_per_second: int
    request_burst: int
    append_bytes_per_second: int
    append_burst_bytes: int
    max_count_channels: int
    max_history_entries: int
    max_attribute_key_bytes: int
    max_attribute_value_bytes: int
    max_attribute_pairs: int
    max_attributes: int
    max_user_attribute_bytes: int
    max_channel_attribute_bytes: int
    max_status_query: int
    max_status_subscriptions: int
    unreachable: float


class InboxPlace(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """Where a session's inbox begins: behind ``cursor`` of ``epoch``. Entries up to ``kept_until`` are older than the
    session (S56)."""

    epoch: bytes
    cursor: int
    kept_until: int


class Welcome(msgspec.Struct, array_like=True, tag=1, frozen=True, gc=False):
    """The login is accepted. ``resumed`` is False when the session is new, whatever was quoted (S17)."""

    session_id: bytes
    login_epoch: int
    attach: int
    resumed: bool
    expires_in: float | None
    limits: Limits
    inbox: InboxPlace

    def __repr__(self) -> str:
        return f"Welcome(attach={self.attach}, resumed={self.resumed})"


class LoginRefused(msgspec.Struct, array_like=True, tag=2, frozen=True, gc=False):
    """The login is refused; the range of ``code`` says what to do (S41)."""

    code: int
    message: str
    retry_after: float | None = None


class ChannelResult(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What became of one wanted channel: ``code`` 0, or why it cannot be had (S44). Its log goes on behind the stated
    cursor."""

    channel: str
    code: int = 0
    message: str = ""


class AttributesResult(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """What became of the wanted attributes: ``code`` 0, or why they cannot be had."""

    code: int = 0
    message: str = ""


class Restored(msgspec.Struct, array_like=True, tag=3, frozen=True):
    """The answer to ``Want``, in as many messages as the size of a WebSocket message needs; ``more`` follow (S59).
    In the last one stand ``attributes`` if some were wanted, and as ``unwatched`` the users whose status cannot be
    watched, because they are more than may be, or no valid uids."""

    channels: tuple[ChannelResult, ...]
    more: bool = False
    attributes: AttributesResult | None = None
    unwatched: tuple[str, ...] = ()


class Kicked(msgspec.Struct, array_like=True, tag=4, frozen=True, gc=False):
    """The session ended at the server's wish (S30, S41). The transport is closed behind it."""

    code: int
    message: str


class Gap(msgspec.Struct, array_like=True, tag=6, frozen=True, gc=False):
    """Entries are gone: the log goes on behind ``cursor`` of ``epoch``; ``count`` were lost, None if not known
    (S33)."""

    log: str
    epoch: bytes
    cursor: int
    count: int | None


class Going(msgspec.Struct, array_like=True, tag=7, frozen=True, gc=False):
    """The answer to ``GoOn``; what was asked for follows it (S48)."""

    log: str


class UserStatus(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A user's state: 0 offline, 1 online, 2 unreachable; since when, and, if unreachable, when its session ends (Unix
    milliseconds). ``revision`` is 0 for a user that nobody has heard of."""

    uid: str
    state: int
    since: int | None
    expires_at: int | None
    revision: int


class StatusChanged(msgspec.Struct, array_like=True, tag=9, frozen=True, gc=False):
    """The latest states of watched users (S57)."""

    statuses: tuple[UserStatus, ...]


class MemberCount(msgspec.Struct, array_like=True, tag=8, frozen=True, gc=False):
    """The present number of members of a joined channel whose joins and leaves are not told (S38)."""

    channel: str
    member_count: int


class Done(msgspec.Struct, array_like=True, tag=16, frozen=True, gc=False):
    """The request is carried out and has no result."""

    number: int


class Sent(msgspec.Struct, array_like=True, tag=17, frozen=True, gc=False):
    """The message stands at ``offset`` (S34). ``sent_at`` in Unix milliseconds."""

    number: int
    epoch: bytes
    offset: int
    sent_at: int


class Joined(msgspec.Struct, array_like=True, tag=18, frozen=True):
    """Joined at ``offset`` of ``epoch``; ``members`` as of then, None if they are too many (S47)."""

    number: int
    epoch: bytes
    offset: int
    member_count: int
    members: tuple[str, ...] | None


class Renewed(msgspec.Struct, array_like=True, tag=19, frozen=True, gc=False):
    """The new token is accepted (S28)."""

    number: int
    expires_in: float | None


class Failed(msgspec.Struct, array_like=True, tag=20, frozen=True, gc=False):
    """The request is refused and nothing was carried out."""

    number: int
    code: int
    message: str
    retry_after: float | None = None


class PeerSent(msgspec.Struct, array_like=True, tag=24, frozen=True, gc=False):
    """Where a message to a user went: ``received`` into the inbox of a session that was heard lately, ``kept`` for one
    that was not, or for a user who is not there; if neither, nowhere (S36). ``sent_at`` in Unix milliseconds."""

    number: int
    received: bool
    kept: bool
    sent_at: int


class Changed(msgspec.Struct, array_like=True, tag=25, frozen=True, gc=False):
    """The attributes are changed; their revision is this one now."""

    number: int
    revision: int


class Attribute(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """One attribute, the revision that set it, who did, and when (Unix milliseconds)."""

    key: str
    value: str
    revision: int
    uid: str
    updated_at: int


class Attributes(msgspec.Struct, array_like=True, tag=26, frozen=True):
    """Attributes, and the revision of all together."""

    number: int
    revision: int
    attributes: tuple[Attribute, ...]


class Statuses(msgspec.Struct, array_like=True, tag=27, frozen=True, gc=False):
    """The states of the users that were asked for."""

    number: int
    statuses: tuple[UserStatus, ...]


class Members(msgspec.Struct, array_like=True, tag=21, frozen=True):
    """A page of members as of ``offset`` of ``epoch``; joins and leaves behind it apply to the list (S47). ``more``
    follow behind the last uid."""

    number: int
    epoch: bytes
    offset: int
    member_count: int
    uids: tuple[str, ...]
    more: bool


class MemberCounts(msgspec.Struct, array_like=True, tag=22, frozen=True, gc=False):
    """The counts, in the order in which the channels were named; 0 for a channel that nobody is in."""

    number: int
    counts: tuple[int, ...]


# --- entries of a log: neither offset nor epoch nor anything of one reader (E4)


class TextEntry(msgspec.Struct, array_like=True, tag=1, frozen=True, gc=False):
    """A text message. ``sent_at`` in Unix milliseconds of the appending node."""

    uid: str
    text: str
    sent_at: int


class BytesEntry(msgspec.Struct, array_like=True, tag=2, frozen=True, gc=False):
    """A bytes message."""

    uid: str
    data: bytes
    sent_at: int


class JoinedEntry(msgspec.Struct, array_like=True, tag=3, frozen=True, gc=False):
    """A member joined."""

    uid: str


class LeftEntry(msgspec.Struct, array_like=True, tag=4, frozen=True, gc=False):
    """A member left; the numbers of ``LeaveCause``."""

    uid: str
    cause: int


class MembersResumedEntry(msgspec.Struct, array_like=True, tag=5, frozen=True, gc=False):
    """Joins and leaves stand in the log again from here on; what was known of the members is unknown (S38)."""


class PeerTextEntry(msgspec.Struct, array_like=True, tag=6, frozen=True, gc=False):
    """A text message to the user whose inbox it is; ``offline`` if it was to be kept."""

    uid: str
    text: str
    sent_at: int
    offline: bool = False
    description: str = ""


class PeerBytesEntry(msgspec.Struct, array_like=True, tag=7, frozen=True, gc=False):
    """The same with bytes."""

    uid: str
    data: bytes
    sent_at: int
    offline: bool = False
    description: str = ""


class AttributesEntry(msgspec.Struct, array_like=True, tag=8, frozen=True):
    """A user changed the channel's attributes: all were replaced by ``put``, or ``drop`` went and ``put`` was added."""

    uid: str
    replace: bool
    put: dict[str, str]
    drop: tuple[str, ...]
    sent_at: int


Entry = (
    TextEntry
    | BytesEntry
    | JoinedEntry
    | LeftEntry
    | MembersResumedEntry
    | PeerTextEntry
    | PeerBytesEntry
    | AttributesEntry
)


class Entries(msgspec.Struct, array_like=True, tag=ENTRIES_TAG, frozen=True):
    """Consecutive entries of one log, the first at ``first_offset``."""

    log: str
    epoch: bytes
    first_offset: int
    entries: list[Entry]


class RawEntries(msgspec.Struct, array_like=True, tag=ENTRIES_TAG, frozen=True):
    """``Entries`` before its entries are looked at: used to encode, and to skip unknown entries one by one."""

    log: str
    epoch: bytes
    first_offset: int
    entries: list[msgspec.Raw]


class History(msgspec.Struct, array_like=True, tag=_HISTORY_TAG, frozen=True):
    """Consecutive kept entries, the first at ``first_offset``; whether there are ``more`` in the direction asked
    for."""

    number: int
    epoch: bytes
    first_offset: int
    more: bool
    entries: list[Entry]


class RawHistory(msgspec.Struct, array_like=True, tag=_HISTORY_TAG, frozen=True):
    """``History`` with its entries taken as they are (E4)."""

    number: int
    epoch: bytes
    first_offset: int
    more: bool
    entries: list[msgspec.Raw]


_ENTRY_HOLDERS: dict[int, tuple[type[Any], type[Any]]] = {
    ENTRIES_TAG: (RawEntries, Entries),
    _HISTORY_TAG: (RawHistory, History),
}
"""Messages with entries by their tags: before their entries are looked at, and behind."""


class UnknownEntry(msgspec.Struct, frozen=True, gc=False):
    """An entry of a later version: it takes an offset and is passed over."""

    tag: int


ServerMessage = (
    Welcome
    | LoginRefused
    | Restored
    | Kicked
    | Entries
    | Gap
    | Going
    | MemberCount
    | Done
    | Sent
    | Joined
    | Renewed
    | Failed
    | Members
    | MemberCounts
    | History
    | PeerSent
    | Changed
    | Attributes
    | Statuses
    | StatusChanged
)

_encoder = msgspec.msgpack.Encoder()
_M = TypeVar("_M")

DECODE_FAULTS = (msgspec.MsgspecError, RecursionError, UnicodeDecodeError)
"""What msgspec raises on hostile bytes: the last two leak beside its own root."""

encode_entry = _encoder.encode
"""One entry to its bytes: done once, when it is appended."""

RESUMED_ENTRY = encode_entry(MembersResumedEntry())


def encode_batch(messages: Sequence[object]) -> bytes:
    """A batch of messages to the payload of one WebSocket message."""
    return _encoder.encode(messages)


def encode_in_pieces(messages: Sequence[object], max_bytes: int, at_least: int = 0) -> list[bytes]:
    """Batches of at most ``max_bytes``, as few as their order allows; a single message is never split (S45).

    ``at_least`` is what all of them are known to have: what cannot fit into one batch is not tried.
    """
    if at_least <= max_bytes or len(messages) == 1:
        payload = _encoder.encode(messages)
        if len(payload) <= max_bytes or len(messages) == 1:
            return [payload]
    return split(map(_encoder.encode, messages), max_bytes - _MAX_ARRAY_HEADER, _join)


def split(
    encoded: Iterable[bytes], room: int, join: Callable[[list[bytes]], bytes], separator_bytes: int = 0
) -> list[bytes]:
    """Encoded messages in as few batches as their order allows: each with at most ``room`` bytes of them, and of what
    separates them, unless it is a single one. ``join`` makes a batch of some."""
    pieces: list[bytes] = []
    batch: list[bytes] = []
    left = room
    for one in encoded:
        size = len(one) + separator_bytes
        if batch and size > left:
            pieces.append(join(batch))
            batch, left = [], room
        batch.append(one)
        left -= size
    pieces.append(join(batch))
    return pieces


def _join(encoded: list[bytes]) -> bytes:
    return _array_header(len(encoded)) + b"".join(encoded)


def _array_header(count: int) -> bytes:
    """How MessagePack begins an array."""
    if count < 0x10:
        return bytes((0x90 | count,))
    if count < 0x10000:
        return b"\xdc" + count.to_bytes(2, "big")
    return b"\xdd" + count.to_bytes(4, "big")


def encode_block(log: str, epoch: bytes, first_offset: int, entries: Sequence[bytes]) -> bytes:
    """A batch that holds one ``Entries`` message, its entries taken as they are (E4)."""
    return _encoder.encode((RawEntries(log, epoch, first_offset, [msgspec.Raw(entry) for entry in entries]),))


class BatchDecoder(Generic[_M]):
    """Decodes batches of one direction; counts the optional messages that it did not know.

    With ``with_entries`` some messages hold entries, among which there may be unknown ones too. What only MessagePack
    has stands in ``_new_decoder``, ``_has_more`` and ``_tag_of``.
    """

    __slots__ = ("_batch", "_entry", "_fields", "_holders", "_int", "_one")

    def __init__(self, union: object, *, with_entries: bool) -> None:
        self._batch: Callable[[bytes], list[_M]] = self._new_decoder(list[union])  # type: ignore[valid-type]
        self._one: Callable[[msgspec.Raw], _M] = self._new_decoder(union)
        self._entry: Callable[[msgspec.Raw], Entry] = self._new_decoder(Entry)
        self._holders: dict[int, Callable[[msgspec.Raw], Any]] = (
            {tag: self._new_decoder(raw) for tag, (raw, _) in _ENTRY_HOLDERS.items()} if with_entries else {}
        )
        self._fields: Callable[[bytes | msgspec.Raw], list[msgspec.Raw]] = self._new_decoder(list[msgspec.Raw])
        self._int: Callable[[msgspec.Raw], int] = self._new_decoder(int)

    @staticmethod
    def _new_decoder(kind: Any) -> Callable[[Any], Any]:
        return msgspec.msgpack.Decoder(kind).decode

    def decode(self, payload: Any, max_messages: int | None = None) -> tuple[list[_M], int]:
        """The messages, and how many optional ones were skipped, of a payload as the wire gives it (here bytes). Raises
        ``MalformedBatch`` for anything else, and for more than ``max_messages``, before it has looked at any of
        them."""
        if max_messages is not None and len(payload) > max_messages and self._has_more(payload, max_messages):
            raise MalformedBatch(f"a batch of more than {max_messages} messages")
        try:
            return self._batch(payload), 0
        except DECODE_FAULTS:
            return self._decode_singly(payload)

    def _decode_singly(self, payload: bytes) -> tuple[list[_M], int]:
        # One unknown tag fails a whole batch: go through it message by message, so that version 1 can grow.
        messages: list[_M] = []
        skipped = unknown_entries = 0
        try:
            for raw in self._fields(payload):
                # A look at the tag is cheap, while a message that does not decode costs an exception.
                tag = self._tag_of(raw)
                if tag >= FIRST_OPTIONAL_TAG:
                    skipped += 1
                    if skipped > MAX_SKIPPED:
                        raise MalformedBatch(f"a batch of more than {MAX_SKIPPED} unknown messages")
                elif tag in self._holders:
                    holder, unknown_entries = self._decode_growing_entries(tag, raw, unknown_entries)
                    messages.append(cast("_M", holder))
                else:
                    messages.append(self._one(raw))
        except DECODE_FAULTS as fault:
            raise MalformedBatch(f"not a batch of protocol version 1: {fault}") from fault
        return messages, skipped

    def _decode_growing_entries(self, tag: int, raw: msgspec.Raw, unknown: int) -> tuple[Any, int]:
        """A message with entries among which are some of a later version, and ``unknown`` with their number added."""
        holder = self._holders[tag](raw)
        entries: list[Entry | UnknownEntry] = []
        for one in holder.entries:
            entry_tag = self._tag_of(one)
            if entry_tag < FIRST_OPTIONAL_TAG:
                entries.append(self._entry(one))
            elif unknown < MAX_UNKNOWN_ENTRIES:
                unknown += 1
                entries.append(UnknownEntry(entry_tag))
            else:
                raise MalformedBatch(f"a batch of more than {MAX_UNKNOWN_ENTRIES} unknown entries")
        fields = {name: getattr(holder, name) for name in holder.__struct_fields__}
        return _ENTRY_HOLDERS[tag][1](**(fields | {"entries": entries})), unknown

    def _has_more(self, payload: bytes, count: int) -> bool:
        """Whether the payload has more than ``count`` elements, for one that has more bytes than that."""
        return _claimed_count(payload) > count

    def _tag_of(self, raw: msgspec.Raw) -> int:
        view = memoryview(raw)
        if 0x91 <= view[0] <= 0x9F:  # a short array, as all messages of version 1 are
            first = view[1]
            if first < FIRST_OPTIONAL_TAG:
                return first
            if first == 0xCC:  # a number of one byte
                return view[2]
        return self._slow_tag_of(raw)

    def _slow_tag_of(self, raw: msgspec.Raw) -> int:
        fields = self._fields(raw)
        return self._int(fields[0]) if fields else -1


def _claimed_count(payload: bytes) -> int:
    """How many elements the payload says that it has, if it is a long array; of another one it is no matter."""
    if payload[0] == 0xDC:
        return int.from_bytes(payload[1:3], "big")
    if payload[0] == 0xDD:
        return int.from_bytes(payload[1:5], "big")
    return 0


def client_decoder() -> BatchDecoder[ClientMessage]:
    """For what a client sends."""
    return BatchDecoder(ClientMessage, with_entries=False)


def server_decoder() -> BatchDecoder[ServerMessage]:
    """For what a server sends."""
    return BatchDecoder(ServerMessage, with_entries=True)


_LIST_UNITS = 64
_HISTORY_UNITS = 16
_ATTRIBUTES_UNITS = 16
_UNITS: dict[type[Any], Callable[[Any], int]] = {
    CountMembers: lambda request: len(request.channels),
    ListMembers: lambda request: _LIST_UNITS,
    ReadHistory: lambda request: _HISTORY_UNITS,
    ReadStatus: lambda request: len(request.uids),
    WatchStatus: lambda request: len(request.uids),
    UnwatchStatus: lambda request: len(request.uids),
    ChangeAttributes: lambda request: len(request.put) + len(request.drop),
    ReadUserAttributes: lambda request: len(request.keys) or _ATTRIBUTES_UNITS,
    ReadChannelAttributes: lambda request: len(request.keys) or _ATTRIBUTES_UNITS,
}


def units_of(request: object) -> int:
    """What a request costs of the rate: one unit, or as many as it names channels, and a fixed number if it is
    answered with a list (S45, S55). The client paces itself by it, and the server counts by it."""
    units = _UNITS.get(type(request))
    return 1 if units is None else max(1, units(request))
