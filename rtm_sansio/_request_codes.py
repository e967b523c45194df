"""Which codes each numbered request can fail with (S45): what the protocol says, and what tests hold the hub to."""

from __future__ import annotations

from typing import Any

from .codes import Code
from .messages import (
    ChangeAttributes,
    CountMembers,
    Join,
    Leave,
    ListMembers,
    Logout,
    PeerBytes,
    PeerText,
    PublishBytes,
    PublishText,
    ReadChannelAttributes,
    ReadHistory,
    ReadStatus,
    ReadUserAttributes,
    RenewToken,
    UnwatchStatus,
    WatchStatus,
)

_PACED = (Code.RATE_EXCEEDED, Code.TOO_MANY_REQUESTS)
_PUBLISH = (
    Code.INVALID_CHANNEL,
    Code.MESSAGE_TOO_LARGE,
    Code.NOT_A_MEMBER,
    Code.STALE_REQUEST,
    *_PACED,
)
_PEER = (
    Code.INVALID_PEER,
    Code.MESSAGE_TOO_LARGE,
    Code.INBOX_FULL,
    Code.SENDER_SHARE,
    Code.STALE_REQUEST,
    *_PACED,
)
_STATUS = (Code.INVALID_PEER, Code.TOO_MANY_NAMES, *_PACED)
_READ_ATTRIBUTES = (Code.INVALID_ATTRIBUTE, Code.TOO_MANY_NAMES, *_PACED)

REQUEST_CODES: dict[type[Any], tuple[Code, ...]] = {
    Logout: (Code.TOO_MANY_REQUESTS,),
    PublishText: _PUBLISH,
    PublishBytes: _PUBLISH,
    Join: (
        Code.INVALID_CHANNEL,
        Code.TOO_MANY_CHANNELS,
        # Of a session that was ended, or goes on elsewhere, before this hub has heard of it.
        Code.SESSION_ENDED,
        Code.TRANSPORT_REPLACED,
        Code.STALE_REQUEST,
        *_PACED,
    ),
    Leave: (Code.INVALID_CHANNEL, Code.STALE_REQUEST, *_PACED),
    # Besides, whatever else the authenticator refuses a login with.
    RenewToken: (
        Code.BAD_TOKEN,
        Code.TOKEN_EXPIRED,
        Code.UNAVAILABLE,
        Code.AUTHENTICATOR_FAILED,
        Code.TOO_MANY_REQUESTS,
    ),
    ListMembers: (Code.INVALID_CHANNEL, Code.INVALID_REQUEST, Code.NOT_A_MEMBER, *_PACED),
    CountMembers: (Code.INVALID_CHANNEL, Code.INVALID_REQUEST, Code.TOO_MANY_NAMES, *_PACED),
    ReadHistory: (Code.INVALID_CHANNEL, Code.INVALID_REQUEST, Code.NOT_A_MEMBER, *_PACED),
    PeerText: _PEER,
    PeerBytes: _PEER,
    ChangeAttributes: (
        Code.INVALID_CHANNEL,
        Code.TOO_MANY_NAMES,
        Code.INVALID_ATTRIBUTE,
        Code.ATTRIBUTE_TOO_LARGE,
        Code.ATTRIBUTES_FULL,
        Code.REVISION_CONFLICT,
        Code.SESSION_ENDED,
        Code.STALE_REQUEST,
        *_PACED,
    ),
    ReadUserAttributes: (Code.INVALID_PEER, *_READ_ATTRIBUTES),
    ReadChannelAttributes: (Code.INVALID_CHANNEL, *_READ_ATTRIBUTES),
    ReadStatus: _STATUS,
    WatchStatus: (Code.TOO_MANY_SUBSCRIPTIONS, *_STATUS),
    UnwatchStatus: _STATUS,
}
"""In the order of the tags. A request that is not named here has no number."""
