"""The judge of the demo finds a broken promise in what was seen."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest

from cli.fabricated import member, message, performance, state
from rtm_async.cli.demo.judge import ALICE, BOB, Verdict, count_messages, judge, split_acts
from rtm_async.cli.demo.records import (
    ActBegan,
    Dialled,
    GapSeen,
    LinkChanged,
    MemberSeen,
    MembershipBegan,
    MembershipEnds,
    MessageSeen,
    MessageSent,
    Record,
    Recorder,
    SendFailed,
    StateSeen,
    Stuck,
)
from rtm_sansio.errors import Outcome
from rtm_sansio.events import LeaveCause
from rtm_sansio.states import ConnectionChangeReason as Reason
from rtm_sansio.states import ConnectionState as State


def broken(records: list[Record]) -> list[str]:
    return [promise.text for promise in judge(records).promises if not promise.kept]


def without(match: Callable[[Record], bool]) -> list[Record]:
    """The performance without the one record that matches."""
    records = performance()
    found = [record for record in records if match(record)]
    assert len(found) == 1, found
    records.remove(found[0])
    return records


def with_records(*more: Record) -> list[Record]:
    """The performance with more records, each at its time."""
    records = performance()
    for record in more:
        index = next((index for index, other in enumerate(records) if other.at > record.at), len(records))
        records.insert(index, record)
    return records


def count_of(records: list[Record], sender: str) -> tuple[int, int, int, int]:
    count = next(count for count in judge(records).counts if count.sender == sender)
    return count.sent, count.due, count.lost, count.twice


def test_a_performance_as_promised_keeps_every_promise() -> None:
    verdict = judge(performance())
    assert verdict.kept
    assert broken(performance()) == []
    assert count_of(performance(), ALICE) == (5, 5, 0, 0)
    assert count_of(performance(), BOB) == (6, 5, 0, 0)
    assert [count.arrived for count in verdict.counts] == [5, 5]


def test_every_promise_names_its_rules() -> None:
    assert all(promise.rules.startswith("S") and promise.text for promise in judge(performance()).promises)


@pytest.mark.parametrize(("sender", "number"), [(ALICE, 1), (ALICE, 5), (BOB, 1), (BOB, 4), (BOB, 6)])
def test_a_lost_message_is_found(sender: str, number: int) -> None:
    records = without(lambda r: isinstance(r, MessageSeen) and (r.sender, r.number) == (sender, number))
    assert broken(records) == ["no confirmed message is lost: 9 of 10 arrived"]
    assert count_of(records, sender)[2] == 1


def test_a_message_that_was_not_due_is_not_missed_but_may_arrive() -> None:
    records = with_records(MessageSeen(at=63.1, who=ALICE, sender=BOB, number=5))
    assert judge(records).kept


def test_a_duplicate_is_found() -> None:
    records = with_records(MessageSeen(at=19.5, who=BOB, sender=ALICE, number=3))
    assert broken(records) == ["none arrives twice, all in the order in which they were sent"]
    assert count_of(records, ALICE) == (5, 5, 0, 1)


def test_a_wrong_order_is_found() -> None:
    records = without(lambda r: isinstance(r, MessageSeen) and (r.sender, r.number) == (ALICE, 1))
    late = MessageSeen(at=6.5, who=BOB, sender=ALICE, number=1)
    records.insert(next(i for i, r in enumerate(records) if r.at > late.at), late)
    assert broken(records) == ["none arrives twice, all in the order in which they were sent"]


def test_a_reported_gap_breaks_the_promise_too() -> None:
    assert len(broken(with_records(GapSeen(at=53.1, who=ALICE, count=3)))) == 1


def test_silence_proves_nothing() -> None:
    records = [record for record in performance() if not isinstance(record, MessageSent) or record.who != BOB]
    assert [promise.instead for promise in judge(records).promises if not promise.kept] == ["nothing was sent one way"]


@pytest.mark.parametrize(
    "missing",
    [
        (ALICE, State.CONNECTING),
        (ALICE, State.RECONNECTING),
        (ALICE, State.CONNECTED),
        (ALICE, State.ABORTED),
        (ALICE, State.DISCONNECTED),
        (BOB, State.CONNECTED),
        (BOB, State.DISCONNECTED),
    ],
)
def test_a_missing_switch_of_state_is_found(missing: tuple[str, State]) -> None:
    """Whichever of them it is."""
    records = performance()
    for record in list(records):
        if isinstance(record, StateSeen) and (record.who, record.state) == missing:
            rest = [other for other in records if other is not record]
            assert broken(rest), record


def test_a_switch_of_state_in_a_short_outage_is_found() -> None:
    records = with_records(state(5.4, ALICE, State.RECONNECTING, Reason.INTERRUPTED))
    assert broken(records) == ["a short outage goes unnoticed: alice stays CONNECTED"]


@pytest.mark.parametrize("act", [2, 3, 4])
def test_an_outage_that_never_was_proves_nothing(act: int) -> None:
    removed = split_acts(performance())[act]
    records = [r for r in performance() if not (isinstance(r, LinkChanged) and r in removed)]
    assert len(broken(records)) == 1


def test_a_wrong_reason_is_found() -> None:
    records = [
        dataclasses.replace(record, reason=Reason.KICKED_BY_SERVER)
        if isinstance(record, StateSeen) and record.state is State.ABORTED
        else record
        for record in performance()
    ]
    (promise,) = [promise for promise in judge(records).promises if not promise.kept]
    assert "ABORTED/KICKED_BY_SERVER" in promise.instead


@pytest.mark.parametrize(
    "extra",
    [
        member(15, LeaveCause.TIMED_OUT),
        member(7, None),
        member(52, LeaveCause.TIMED_OUT),
        member(65, None),
        member(71.5, LeaveCause.LEFT),
    ],
)
def test_a_leave_or_join_too_many_is_found(extra: MemberSeen) -> None:
    assert len(broken(with_records(extra))) == 1


@pytest.mark.parametrize("cause", [LeaveCause.TIMED_OUT, LeaveCause.REPLACED, LeaveCause.LOGGED_OUT])
def test_a_leave_too_few_is_found(cause: LeaveCause) -> None:
    records = without(lambda r: isinstance(r, MemberSeen) and r.cause is cause)
    assert len(broken(records)) == 1


def test_a_wrong_cause_is_named() -> None:
    records = without(lambda r: isinstance(r, MemberSeen) and r.cause is LeaveCause.TIMED_OUT)
    records.insert(records.index(member(53, None)), member(50, LeaveCause.KICKED))
    (promise,) = [promise for promise in judge(records).promises if not promise.kept]
    assert promise.instead == "seen: KICKED, JOINED"


def test_an_attempt_to_connect_after_the_abort_is_found() -> None:
    assert broken(with_records(Dialled(at=64))) == ["an ABORTED client makes no attempt to connect"]
    assert broken(with_records(Dialled(at=60.3))) == [], "before it, one is nobody's fault"


def test_a_disturbance_of_the_other_client_is_found() -> None:
    records = with_records(state(21, BOB, State.RECONNECTING, Reason.INTERRUPTED))
    assert broken(records) == ["bob, whose link was good, was never disturbed"]


def test_a_story_that_stuck_is_found_and_says_where() -> None:
    records = [*split_acts(performance())[1], Stuck(at=9, waited_for="both hear each other again")]
    verdict = judge(records)
    assert not verdict.kept
    assert verdict.promises[-1].instead == "waited in vain until both hear each other again"


def test_nothing_at_all_is_not_a_success() -> None:
    verdict = judge([])
    assert not verdict.kept
    assert isinstance(verdict, Verdict)


def test_a_message_that_failed_as_unknown_may_have_arrived_or_not() -> None:
    for arrived in (False, True):
        records = with_records(SendFailed(at=20.5, who=ALICE, number=9, outcome=Outcome.UNKNOWN))
        if arrived:
            records.append(MessageSeen(at=74, who=BOB, sender=ALICE, number=9))
        assert broken(records) == []
        assert judge(records).counts[0].failed == 1


def test_a_message_that_failed_as_not_sent_must_not_have_arrived() -> None:
    records = with_records(SendFailed(at=20.5, who=ALICE, number=9, outcome=Outcome.NOT_SENT))
    assert broken(records) == []
    records.append(MessageSeen(at=74, who=BOB, sender=ALICE, number=9))
    assert broken(records) == ["a send that fails as 'not sent' was not delivered"]


def test_a_message_that_was_not_sent_at_first_may_be_sent_again() -> None:
    records = with_records(
        SendFailed(at=20.5, who=ALICE, number=9, outcome=Outcome.NOT_SENT), *message(72.5, ALICE, 9, 18)
    )
    assert broken(records) == []


def test_what_is_due_depends_on_the_membership() -> None:
    records: list[Record] = [
        MessageSent(at=1, who=BOB, number=1, offset=5),
        MembershipBegan(at=2, who=ALICE, offset=6),
        MessageSent(at=3, who=BOB, number=2, offset=7),
        MembershipEnds(at=4, who=ALICE),
        MessageSent(at=5, who=BOB, number=3, offset=8),
        MembershipBegan(at=6, who=ALICE, offset=9),
        MessageSent(at=7, who=BOB, number=4, offset=10),
        MembershipEnds(at=8, who=BOB),
    ]
    count = count_messages(records, BOB, ALICE)
    assert (count.sent, count.due, count.lost) == (4, 2, 2)
    assert count_messages([MembershipEnds(at=1, who=ALICE)], BOB, ALICE).due == 0


def test_the_recorder_stretches_time_and_tells_each_record() -> None:
    clock = iter([100.0, 100.5, 101.0])
    told: list[Record] = []
    recorder = Recorder(scale=10, narrate=told.append, clock=lambda: next(clock))
    assert recorder.now == 5
    records: list[Record] = [
        ActBegan(at=recorder.now, number=1, title="", story=""),
        MessageSeen(at=0, who=ALICE, sender=BOB, number=7),
    ]
    for record in records:
        recorder.add(record)
    assert recorder.records == told == records
    assert records[0].at == 10
    assert recorder.latest_seen(ALICE, BOB) == 7
    assert recorder.latest_seen(BOB, ALICE) == 0
