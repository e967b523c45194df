"""What the entries of a log, a channel's or an inbox, say to an application, be it that they arrive or are read from
the history."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ._link import ProtocolViolation
from .events import (
    ChannelAttributesChanged,
    ChannelMessageReceived,
    LeaveCause,
    MemberJoined,
    MemberLeft,
    MembersResumed,
    MessageReceived,
)
from .messages import (
    AttributesEntry,
    BytesEntry,
    JoinedEntry,
    LeftEntry,
    MembersResumedEntry,
    PeerBytesEntry,
    PeerTextEntry,
    TextEntry,
)

_EPOCH_BYTES = 8
MAX_OFFSET = (1 << 63) - 1


def check_place(epoch: bytes, offset: int) -> None:
    """A place in a log that we keep, count from, and quote again: one that no log can have is a violation (S50)."""
    if len(epoch) != _EPOCH_BYTES or not 0 <= offset <= MAX_OFFSET:
        raise ProtocolViolation("an epoch or offset that no log has")


def event_of(channel: str, entry: Any, offset: int, lost_before: int | None = 0) -> Any | None:
    """The event for an entry; None for one of a later version, which has an offset and nothing to say to us."""
    make = _EVENTS.get(type(entry))  # pyright: ignore[reportUnknownArgumentType]
    return None if make is None else make(channel, entry, offset, lost_before)


def _message(message: str | bytes, channel: str, entry: Any, offset: int, lost_before: int | None) -> Any:
    return ChannelMessageReceived(
        channel=channel,
        uid=entry.uid,
        message=message,
        offset=offset,
        sent_at=entry.sent_at / 1000,
        lost_before=lost_before,
    )


def inbox_event_of(entry: Any, offset: int, lost_before: int | None, *, kept: bool) -> MessageReceived | None:
    """The event for an entry of one's own inbox; ``kept`` says that it is older than the session (S56)."""
    if not isinstance(entry, (PeerTextEntry, PeerBytesEntry)):
        return None
    return MessageReceived(
        uid=entry.uid,
        message=entry.text if isinstance(entry, PeerTextEntry) else entry.data,
        description=entry.description,
        offset=offset,
        sent_at=entry.sent_at / 1000,
        kept=kept and entry.offline,
        lost_before=lost_before,
    )


_EVENTS: dict[type[Any], Callable[[str, Any, int, int | None], Any]] = {
    TextEntry: lambda channel, entry, offset, lost: _message(entry.text, channel, entry, offset, lost),
    BytesEntry: lambda channel, entry, offset, lost: _message(entry.data, channel, entry, offset, lost),
    JoinedEntry: lambda channel, entry, offset, _: MemberJoined(channel=channel, uid=entry.uid, offset=offset),
    LeftEntry: lambda channel, entry, offset, _: MemberLeft(
        channel=channel, uid=entry.uid, cause=_cause(entry.cause), offset=offset
    ),
    AttributesEntry: lambda channel, entry, offset, _: ChannelAttributesChanged(
        channel=channel,
        uid=entry.uid,
        replaced=entry.replace,
        put=entry.put,
        dropped=entry.drop,
        changed_at=entry.sent_at / 1000,
        offset=offset,
    ),
    MembersResumedEntry: lambda channel, entry, offset, _: MembersResumed(channel=channel, offset=offset),
}


def _cause(number: int) -> LeaveCause:
    try:
        return LeaveCause(number)
    except ValueError:  # a cause of a later version
        return LeaveCause.LEFT
