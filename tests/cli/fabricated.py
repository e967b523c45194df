"""A performance of the demo as it should be, made up; tests leave things out of it or add some."""

from __future__ import annotations

from rtm_async.cli.demo.judge import ALICE, BOB
from rtm_async.cli.demo.records import (
    ActBegan,
    Dialled,
    LinkChanged,
    LinkCondition,
    MemberSeen,
    MembershipBegan,
    MembershipEnds,
    MessageSeen,
    MessageSent,
    Record,
    StateSeen,
)
from rtm_async.cli.demo.scenario import RIVAL
from rtm_sansio.events import LeaveCause
from rtm_sansio.states import ConnectionChangeReason as Reason
from rtm_sansio.states import ConnectionState as State


def act(at: float, number: int) -> ActBegan:
    return ActBegan(at=at, number=number, title=f"Act {number}", story="Something happens.")


def state(at: float, who: str, state: State, reason: Reason) -> StateSeen:
    return StateSeen(at=at, who=who, state=state, reason=reason)


def member(at: float, cause: LeaveCause | None) -> MemberSeen:
    return MemberSeen(at=at, who=BOB, uid=ALICE, cause=cause)


def link(at: float, condition: LinkCondition) -> LinkChanged:
    return LinkChanged(at=at, condition=condition)


def message(at: float, sender: str, number: int, offset: int) -> list[Record]:
    reader = BOB if sender == ALICE else ALICE
    return [
        MessageSent(at=at, who=sender, number=number, offset=offset),
        MessageSeen(at=at + 0.1, who=reader, sender=sender, number=number),
    ]


def login(at: float, who: str) -> list[Record]:
    return [
        state(at, who, State.CONNECTING, Reason.LOGIN),
        state(at + 0.3, who, State.CONNECTED, Reason.LOGIN_SUCCESS),
    ]


def performance() -> list[Record]:
    """Everything as promised: 8 messages from alice to bob, 8 the other way, one of them while alice was no
    member.
    """
    lost = (State.RECONNECTING, Reason.INTERRUPTED)
    back = (State.CONNECTED, Reason.LOGIN_SUCCESS)
    return [
        act(0, 1),
        *login(0.1, BOB),
        MembershipBegan(at=0.5, who=BOB, offset=1),
        Dialled(at=0.6),
        *login(0.7, ALICE),
        MembershipBegan(at=1.2, who=ALICE, offset=2),
        *message(2, ALICE, 1, 3),
        *message(3, BOB, 1, 4),
        act(5, 2),
        link(5, LinkCondition.CUT),
        Dialled(at=5.2),
        link(5.5, LinkCondition.PASSING),
        *message(6, ALICE, 2, 5),
        *message(7, BOB, 2, 6),
        act(10, 3),
        link(10, LinkCondition.STALLED),
        state(14, ALICE, *lost),
        link(17, LinkCondition.PASSING),
        state(18, ALICE, *back),
        *message(19, ALICE, 3, 7),
        *message(19, BOB, 3, 8),
        act(20, 4),
        link(20, LinkCondition.CUT),
        state(24, ALICE, *lost),
        MessageSent(at=30, who=BOB, number=4, offset=9),
        member(50, LeaveCause.TIMED_OUT),
        link(52, LinkCondition.PASSING),
        state(53, ALICE, *back),
        member(53, None),
        MessageSeen(at=53.2, who=ALICE, sender=BOB, number=4),
        *message(54, ALICE, 4, 12),
        act(60, 5),
        MembershipEnds(at=60, who=ALICE),
        *login(60.1, RIVAL),
        state(60.6, ALICE, State.ABORTED, Reason.REMOTE_LOGIN),
        member(60.7, LeaveCause.REPLACED),
        MessageSent(at=63, who=BOB, number=5, offset=14),
        state(66, RIVAL, State.DISCONNECTED, Reason.LOGOUT),
        act(67, 6),
        state(67, ALICE, State.DISCONNECTED, Reason.LOGOUT),
        Dialled(at=68),
        *login(68, ALICE),
        member(69, None),
        MembershipBegan(at=69.1, who=ALICE, offset=15),
        *message(70, ALICE, 5, 16),
        *message(71, BOB, 6, 17),
        MembershipEnds(at=72, who=ALICE),
        state(72, ALICE, State.DISCONNECTED, Reason.LOGOUT),
        member(72.1, LeaveCause.LOGGED_OUT),
        MembershipEnds(at=73, who=BOB),
        state(73, BOB, State.DISCONNECTED, Reason.LOGOUT),
    ]
