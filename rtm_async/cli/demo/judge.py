"""Compares what the two applications saw with what the rules promise. Pure: records in, verdict out."""

from __future__ import annotations

import bisect
import dataclasses
import itertools
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import cast

from rtm_sansio.errors import Outcome
from rtm_sansio.events import LeaveCause
from rtm_sansio.states import ConnectionChangeReason as Reason
from rtm_sansio.states import ConnectionState as State

from .records import (
    ActBegan,
    Dialled,
    GapSeen,
    LinkChanged,
    LinkCondition,
    MemberSeen,
    MembershipBegan,
    MembershipEnds,
    MessageSeen,
    MessageSent,
    Record,
    SendFailed,
    StateSeen,
    Stuck,
    of_kind,
)

ALICE = "alice"
BOB = "bob"

_IN = [(State.CONNECTING, Reason.LOGIN), (State.CONNECTED, Reason.LOGIN_SUCCESS)]
_OUT = [(State.DISCONNECTED, Reason.LOGOUT)]
_THERE_AND_BACK = [(State.RECONNECTING, Reason.INTERRUPTED), (State.CONNECTED, Reason.LOGIN_SUCCESS)]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Promise:
    """One promise of the rules, whether it was kept, and if not, what was seen instead."""

    text: str
    rules: str
    kept: bool
    instead: str = ""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Count:
    """What became of the messages from one to the other."""

    sender: str
    reader: str
    sent: int
    """Those with a receipt."""
    due: int
    """Those of them that were sent while the reader was a member."""
    lost: int
    """Those due that did not arrive."""
    twice: int
    failed: int
    """Those whose sender was told that they failed, or may have."""

    @property
    def arrived(self) -> int:
        """Those due that did arrive."""
        return self.due - self.lost


@dataclasses.dataclass(frozen=True, kw_only=True)
class Verdict:
    """All promises, and the counts."""

    promises: tuple[Promise, ...]
    counts: tuple[Count, ...]

    @property
    def kept(self) -> bool:
        """Whether every promise was kept."""
        return all(promise.kept for promise in self.promises)


def judge(records: Sequence[Record]) -> Verdict:
    """The verdict on a whole performance."""
    acts = split_acts(records)
    counts = tuple(count_messages(records, sender, reader) for sender, reader in ((ALICE, BOB), (BOB, ALICE)))
    return Verdict(promises=(*_judge_acts(acts), *_judge_messages(records, counts), _judge_end(records)), counts=counts)


def split_acts(records: Iterable[Record]) -> dict[int, list[Record]]:
    """The records of each act by its number; those before the first act are in act 0."""
    acts: dict[int, list[Record]] = {0: []}
    current = acts[0]
    for record in records:
        if isinstance(record, ActBegan):
            current = acts.setdefault(record.number, [])
        current.append(record)
    return acts


def _judge_acts(acts: dict[int, list[Record]]) -> list[Promise]:
    first, short, long, beyond, kick, end = (acts.get(number, []) for number in range(1, 7))
    return [
        _expect(
            "login succeeds, each switch of state is told once",
            "S2, S3",
            (_states(first, ALICE), _IN),
            (_states(first, BOB), _IN),
        ),
        _expect(
            "a short outage goes unnoticed: alice stays CONNECTED",
            "S12",
            (_outages(short), [LinkCondition.CUT]),
            (_states(short, ALICE), []),
        ),
        _expect(
            "a longer one is told: RECONNECTING, and CONNECTED when it is over",
            "S11, S20",
            (_outages(long), [LinkCondition.STALLED]),
            (_states(long, ALICE), _THERE_AND_BACK),
        ),
        _expect(
            "meanwhile alice stays a member: bob sees her neither leave nor join",
            "S22, S23",
            (_members(short + long, BOB, ALICE), []),
        ),
        _expect(
            "beyond 30 s bob sees her leave once, timed out, and join once",
            "S24, S25",
            (_members(beyond, BOB, ALICE), [LeaveCause.TIMED_OUT, None]),
        ),
        _expect(
            "and alice logs in, joins and goes on by herself",
            "S20, S25",
            (_outages(beyond), [LinkCondition.CUT]),
            (_states(beyond, ALICE), _THERE_AND_BACK),
        ),
        _expect(
            "a second login of alice ends the first: ABORTED, REMOTE_LOGIN",
            "S30",
            (_states(kick, ALICE), [(State.ABORTED, Reason.REMOTE_LOGIN)]),
        ),
        _expect("bob sees that she was replaced", "S32", (_members(kick, BOB, ALICE), [LeaveCause.REPLACED])),
        _expect("an ABORTED client makes no attempt to connect", "S8", (_dials_after_abort(kick), 0)),
        _expect(
            "after logout, login works again; bob is told of a logout",
            "S7, S8",
            (_states(end, ALICE), [*_OUT, *_IN, *_OUT]),
            (_members(end, BOB, ALICE), [None, LeaveCause.LOGGED_OUT]),
        ),
        _expect(
            "bob, whose link was good, was never disturbed",
            "S51",
            (_states(short + long + beyond + kick, BOB), []),
            (_states(end, BOB), _OUT),
        ),
    ]


def _judge_messages(records: Sequence[Record], counts: Sequence[Count]) -> list[Promise]:
    due = sum(count.due for count in counts)
    lost = sum(count.lost for count in counts)
    gaps = len(of_kind(records, GapSeen))
    disordered = sum(_count_disorder(records, sender, reader) for sender, reader in ((ALICE, BOB), (BOB, ALICE)))
    twice = sum(count.twice for count in counts)
    untrue = _count_untrue_failures(records)
    return [
        Promise(
            text=f"no confirmed message is lost: {due - lost} of {due} arrived",
            rules="S23, S33",
            # No message at all proves nothing.
            kept=lost == 0 and gaps == 0 and all(count.due > 0 for count in counts),
            instead=f"{lost} lost, {gaps} gaps reported" if lost or gaps else "nothing was sent one way",
        ),
        Promise(
            text="none arrives twice, all in the order in which they were sent",
            rules="S33, S46",
            kept=twice == 0 and disordered == 0,
            instead=f"{twice} twice, {disordered} out of order",
        ),
        Promise(
            text="a send that fails as 'not sent' was not delivered",
            rules="S9, S34",
            kept=untrue == 0,
            instead=f"{untrue} were",
        ),
    ]


def _judge_end(records: Sequence[Record]) -> Promise:
    stuck = of_kind(records, Stuck)
    return Promise(
        text="nothing hung: the story came to its end",
        rules="S9",
        kept=not stuck,
        instead=f"waited in vain until {stuck[0].waited_for}" if stuck else "",
    )


def _expect(text: str, rules: str, *pairs: tuple[object, object]) -> Promise:
    """A promise that is kept if each thing seen equals the one expected."""
    wrong = [seen for seen, expected in pairs if seen != expected]
    return Promise(text=text, rules=rules, kept=not wrong, instead=_describe(wrong[0]) if wrong else "")


def _describe(seen: object) -> str:
    if not isinstance(seen, list):
        return f"seen: {seen}"
    things = cast("list[object]", seen)
    return f"seen: {', '.join(_name(thing) for thing in things) or 'nothing'}"


def _name(thing: object) -> str:
    match thing:
        case (State() as state, Reason() as reason):
            return f"{state.value}/{reason.value}"
        case LeaveCause() | LinkCondition():
            return thing.name
        case _:
            return "JOINED"


def _states(records: Iterable[Record], who: str) -> list[tuple[State, Reason]]:
    return [(seen.state, seen.reason) for seen in of_kind(records, StateSeen) if seen.who == who]


def _members(records: Iterable[Record], who: str, uid: str) -> list[LeaveCause | None]:
    return [seen.cause for seen in of_kind(records, MemberSeen) if seen.who == who and seen.uid == uid]


def _outages(records: Iterable[Record]) -> list[LinkCondition]:
    changes = [change.condition for change in of_kind(records, LinkChanged)]
    return [condition for condition in changes if condition is not LinkCondition.PASSING]


def _dials_after_abort(records: Iterable[Record]) -> int:
    aborted = False
    dials = 0
    for record in records:
        if isinstance(record, StateSeen) and record.who == ALICE:
            aborted = record.state is State.ABORTED
        elif isinstance(record, Dialled) and aborted:
            dials += 1
    return dials


def count_messages(records: Sequence[Record], sender: str, reader: str) -> Count:
    """What became of ``sender``'s messages at ``reader``."""
    sent = [record for record in of_kind(records, MessageSent) if record.who == sender]
    due = [record.number for record in sent if _is_due(record, _memberships(records, reader))]
    seen = Counter(
        record.number for record in of_kind(records, MessageSeen) if record.who == reader and record.sender == sender
    )
    return Count(
        sender=sender,
        reader=reader,
        sent=len(sent),
        due=len(due),
        lost=sum(1 for number in due if not seen[number]),
        twice=sum(times - 1 for times in seen.values()),
        failed=sum(1 for record in of_kind(records, SendFailed) if record.who == sender),
    )


def _memberships(records: Iterable[Record], who: str) -> list[tuple[int, float]]:
    """Of each time as a member: the offset behind which messages are due, and the end."""
    memberships: list[tuple[int, float]] = []
    for record in records:
        if isinstance(record, MembershipBegan) and record.who == who:
            memberships.append((record.offset, float("inf")))
        elif isinstance(record, MembershipEnds) and record.who == who and memberships:
            memberships[-1] = (memberships[-1][0], record.at)
    return memberships


def _is_due(sent: MessageSent, memberships: list[tuple[int, float]]) -> bool:
    index = bisect.bisect_left(memberships, sent.offset, key=lambda membership: membership[0])
    return index > 0 and sent.at < memberships[index - 1][1]


def _count_disorder(records: Iterable[Record], sender: str, reader: str) -> int:
    numbers = [seen.number for seen in of_kind(records, MessageSeen) if (seen.who, seen.sender) == (reader, sender)]
    # The same number again is a duplicate, which is counted as such.
    return sum(1 for before, after in itertools.pairwise(numbers) if after < before)


def _count_untrue_failures(records: Sequence[Record]) -> int:
    """Messages whose every attempt was told to be not sent, and that arrived nevertheless."""
    seen = {(record.sender, record.number) for record in of_kind(records, MessageSeen)}
    confirmed = {(record.who, record.number) for record in of_kind(records, MessageSent)}
    return sum(
        1
        for failed in of_kind(records, SendFailed)
        if failed.outcome is not Outcome.UNKNOWN and (failed.who, failed.number) in seen - confirmed
    )
