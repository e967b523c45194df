"""What the answers to a client's requests come to: one row for each answer that needs nothing but its request."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ._entries import check_place, event_of
from ._link import ProtocolViolation
from .events import Attribute, AttributeSnapshot, HistoryPage, MemberCounts, MemberPage, PeerDelivery
from .messages import (
    Attributes,
    CountMembers,
    History,
    ListMembers,
    Members,
    PeerBytes,
    PeerSent,
    PeerText,
    ReadChannelAttributes,
    ReadHistory,
    ReadUserAttributes,
)
from .messages import MemberCounts as MemberCountsMessage


def _member_page(request: ListMembers, answer: Members) -> MemberPage:
    check_place(answer.epoch, answer.offset)
    if answer.member_count < 0:
        raise ProtocolViolation("a channel with a negative number of members")
    return MemberPage(
        channel=request.channel,
        epoch=answer.epoch,
        offset=answer.offset,
        member_count=answer.member_count,
        uids=answer.uids,
        more=answer.more,
    )


def _member_counts(request: CountMembers, answer: MemberCountsMessage) -> MemberCounts:
    if len(answer.counts) != len(request.channels) or any(count < 0 for count in answer.counts):
        raise ProtocolViolation("numbers of members that do not fit what was asked")
    return MemberCounts(counts=dict(zip(request.channels, answer.counts, strict=True)))


def _history_page(request: ReadHistory, answer: History) -> HistoryPage:
    entries = answer.entries
    check_place(answer.epoch, answer.first_offset + len(entries))
    if answer.first_offset < 0 or len(entries) > request.limit:
        raise ProtocolViolation("a page of history that does not fit what was asked")
    found = (event_of(request.channel, entry, answer.first_offset + place) for place, entry in enumerate(entries))
    return HistoryPage(
        channel=request.channel,
        epoch=answer.epoch,
        events=tuple(event for event in found if event is not None),
        first_offset=answer.first_offset,
        last_offset=answer.first_offset + len(entries) - 1,
        more=answer.more,
    )


def _peer_delivery(request: PeerText | PeerBytes, answer: PeerSent) -> PeerDelivery:
    return PeerDelivery(received=answer.received, kept=answer.kept, sent_at=answer.sent_at / 1000)


def _attributes(request: Any, answer: Attributes) -> AttributeSnapshot:
    if answer.revision < 0:
        raise ProtocolViolation("a revision is negative")
    found = {
        one.key: Attribute(value=one.value, revision=one.revision, uid=one.uid, updated_at=one.updated_at / 1000)
        for one in answer.attributes
    }
    return AttributeSnapshot(revision=answer.revision, attributes=found)


ANSWERS: dict[type[Any], tuple[tuple[type[Any], ...], Callable[[Any, Any], Any]]] = {
    PeerSent: ((PeerText, PeerBytes), _peer_delivery),
    Attributes: ((ReadUserAttributes, ReadChannelAttributes), _attributes),
    Members: ((ListMembers,), _member_page),
    MemberCountsMessage: ((CountMembers,), _member_counts),
    History: ((ReadHistory,), _history_page),
}
"""By the type of the answer: the requests that it fits, and what makes the result of both. That raises
ProtocolViolation for an answer that no server may give."""
