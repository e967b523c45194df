"""Attributes in the engine, operation by operation (S25, S39, S45, S46, S55, S58, S59; E1, E3, E8)."""

from __future__ import annotations

from typing import Any

import pytest

from core.test_engine_operations import Bench as EngineBench
from rtm_sansio._engine_attributes import ATTRIBUTE_OVERHEAD_BYTES
from rtm_sansio._engine_outcomes import MARK_BYTES, OUTCOME_BYTES
from rtm_sansio.codes import Code
from rtm_sansio.events import LeaveCause
from rtm_sansio.operations import (
    Attribute,
    AttributesChanged,
    AttributesRead,
    BlockAnnounced,
    ChangeAttributes,
    DetachSession,
    EndSession,
    ReadAttributes,
    Refusal,
    WatchChannel,
)

FULL, CONFLICT = Code.ATTRIBUTES_FULL, Code.REVISION_CONFLICT


class Bench(EngineBench):
    """Changes and reads. Without a session the home is a channel's."""

    def change(self, home: str, session: bytes = b"s", *, uid: str = "alice", **fields: Any) -> Any:
        values: dict[str, Any] = {
            "number": None,
            "lowest_unanswered": 0,
            "replace": False,
            "put": {},
            "drop": (),
            "expected_revision": None,
            "notice": None,
            "changed_at": 7,
        }
        return self(ChangeAttributes(home=home, uid=uid, session_id=session, **{**values, **fields}))

    def get(self, home: str, *keys: str) -> AttributesRead:
        answer: AttributesRead = self(ReadAttributes(home=home, keys=keys))
        return answer

    def values(self, home: str, *keys: str) -> dict[str, str]:
        return {key: one.value for key, one in self.get(home, *keys).attributes.items()}

    def end(self, uid: str = "alice") -> None:
        end: dict[str, Any] = {"cause": LeaveCause.LOGGED_OUT, "code": 1, "message": "", "ban_seconds": None}
        self(EndSession(uid=uid, session_id=None, spoil_epoch=False, **end))

    def check_bytes(self) -> None:
        """The count is what all homes have, and what of that cannot be dropped."""
        engine = self.engine
        budget = engine._channels._budget
        homes = [home for source in budget.sources for home in source()]
        assert budget.byte_count == sum(home.byte_count for home in homes)
        assert budget._fixed_bytes == sum(home.fixed_bytes for home in homes)


@pytest.fixture(params=["u:alice", "c:room"])
def home(request: Any) -> Any:
    return request.param


def at_home(home: str, **settings: Any) -> tuple[Bench, bytes]:
    """A bench, and a session that may change what is in this home."""
    bench = Bench(**settings)
    return bench, bench.attach().session_id


def test_set_merge_delete_and_clear(home: str) -> None:
    """S39: for users and channels alike; each key with its writer, its time and the revision that set it."""
    bench, alice = at_home(home)
    assert bench.get(home) == AttributesRead(revision=0, attributes={})
    first = bench.change(home, alice, number=1, put={"a": "1", "b": "2"}, changed_at=100)
    second = bench.change(home, alice, number=2, put={"b": "3", "c": ""}, drop=("a", "z"), changed_at=200)
    assert second.revision > first.revision > 0
    assert bench.get(home) == AttributesRead(
        revision=second.revision,
        attributes={
            "b": Attribute("3", second.revision, "alice", 200),
            "c": Attribute("", second.revision, "alice", 200),
        },
    )
    third = bench.change(home, alice, number=3, put={"d": "4"})
    assert bench.get(home, "b", "d", "b", "x").attributes == {
        "b": Attribute("3", second.revision, "alice", 200),
        "d": Attribute("4", third.revision, "alice", 7),
    }
    bench.change(home, alice, number=4, replace=True, put={"e": "5"})
    assert bench.values(home) == {"e": "5"}
    last = bench.change(home, alice, number=5, replace=True)
    assert bench.get(home) == AttributesRead(revision=last.revision, attributes={})
    bench.check_bytes()


def test_compare_and_set(home: str) -> None:
    """S39: carried out only at the expected revision, 0 before the first change; else nothing is."""
    bench, alice = at_home(home)
    refused = bench.change(home, alice, number=1, put={"a": "1"}, expected_revision=1)
    assert refused == Refusal(CONFLICT, "the attributes have revision 0, not 1")
    first = bench.change(home, alice, number=2, put={"a": "1"}, expected_revision=0)
    for expected in (0, first.revision - 1, first.revision + 1, -1):
        for change in ({"put": {"a": "2"}}, {"drop": ("a",)}, {"replace": True}):
            answer = bench.change(home, alice, number=3, expected_revision=expected, notice=b"!", **change)
            assert answer.code == CONFLICT
    assert bench.get(home).revision == first.revision
    assert bench.values(home) == {"a": "1"}
    second = bench.change(home, alice, number=3, replace=True, expected_revision=first.revision)
    assert bench.change(home, alice, number=4, put={"b": "1"}, expected_revision=0).code == CONFLICT
    assert bench.change(home, alice, number=5, put={"b": "1"}, expected_revision=second.revision).revision


def test_a_repetition_gets_the_outcome_again_and_changes_nothing(home: str) -> None:
    """S46: also by a session that is no member; a number that was called answered is never carried out."""
    bench, alice = at_home(home)
    first = bench.change(home, alice, number=5, put={"a": "1"}, expected_revision=0)
    second = bench.change(home, alice, number=6, put={"a": "2"})
    assert bench.change(home, alice, number=5, put={"a": "1"}, expected_revision=0) == first
    assert bench.change(home, alice, number=6, put={"a": "2"}) == second
    assert bench.values(home) == {"a": "2"}
    stale = bench.change(home, alice, number=5, lowest_unanswered=6, put={"a": "1"})
    assert (stale.code, bench.values(home)) == (Code.STALE_REQUEST, {"a": "2"})
    assert bench.change(home, alice, number=6, lowest_unanswered=6, put={"a": "3"}) == second
    bench.check_bytes()


def test_so_many_outcomes_are_kept(home: str) -> None:
    """S46: the last 256 of a session; one before them is never carried out again."""
    bench, alice = at_home(home, max_outcomes=4)
    answers = [bench.change(home, alice, number=number, put={"a": str(number)}) for number in range(1, 7)]
    assert bench.change(home, alice, number=2, put={"a": "2"}).code == Code.STALE_REQUEST
    assert bench.change(home, alice, number=3, put={"a": "3"}) == answers[2]
    assert bench.values(home) == {"a": "6"}
    bench.check_bytes()


def test_both_bounds_of_a_home(home: str) -> None:
    """S45: bytes in UTF-8, and a number of keys; a refused change does nothing at all."""
    bench, alice = at_home(home, max_user_attribute_bytes=10, max_channel_attribute_bytes=10, max_attributes=3)
    assert isinstance(bench.change(home, alice, number=1, put={"a": "12345", "ü": "é"}), AttributesChanged)
    before = bench.get(home)
    four = {"a": "1", "b": "1", "c": "1", "d": ""}
    refused: list[dict[str, Any]] = [
        {"put": {"b": ""}},
        {"put": {"a": "123456"}},
        {"put": {"a": "1234é"}},
        {"put": {"b": "123456"}, "drop": ("a",)},
        {"put": four},
        {"put": four, "replace": True},
    ]
    for change in refused:
        assert bench.change(home, alice, number=2, notice=b"!", **change).code == FULL
        assert bench.get(home) == before
    assert bench.change(home, alice, number=2, put={"b": "12345"}, drop=("a",)).revision
    assert bench.change(home, alice, number=3, put={"c": ""}, drop=("ü",)).revision
    assert bench.values(home) == {"b": "12345", "c": ""}
    bench.check_bytes()


def test_revisions_go_on(home: str) -> None:
    """S39: across sessions, the end of a channel's attributes, and a start without memory: none is used twice."""
    bench, alice = at_home(home)
    first = bench.change(home, alice, number=1, put={"a": "1"}).revision
    bench.end()
    bench.now = 300.0
    ended = bench.get(home)
    assert ended.attributes == {}
    assert ended.revision > first
    bench.now = 10_000.0
    assert bench.get(home).revision == ended.revision
    again = bench.attach().session_id
    second = bench.change(home, again, number=1, put={"a": "1"}, expected_revision=ended.revision)
    assert second.revision > ended.revision
    assert bench.change(home, again, number=2, put={"a": "2"}, expected_revision=ended.revision).code == CONFLICT
    later = Bench()
    later.now = 10_000.0
    later.engine.set_wall_clock(1_700_000_000.0 + 10_000.0, now=later.now)
    start = Bench()
    start.engine = type(start.engine)(later.engine._context.config, entropy=bytes)
    start.engine.set_wall_clock(1_700_000_000.0 + 10_000.0, now=10_000.0)
    start.now = 10_000.0
    third = start.change(home, start.attach().session_id, number=1, put={"a": "1"})
    assert third.revision > second.revision


class TestUsers:
    """Of the session's user alone."""

    def test_only_ones_own_session(self) -> None:
        """S39, E8: an ended one, another user's, nobody's."""
        bench = Bench()
        alice, bob = bench.attach().session_id, bench.attach("bob").session_id
        for session in (bob, b"nobody's"):
            assert bench.change("u:alice", session, number=1, put={"a": "1"}).code == Code.SESSION_ENDED
        assert bench.change("u:carol", alice, number=1, put={"a": "1"}).code == Code.SESSION_ENDED
        newer = bench.attach().session_id
        assert bench.change("u:alice", alice, number=1, put={"a": "1"}).code == Code.SESSION_ENDED
        assert bench.change("u:alice", newer, number=1, put={"a": "1"}).revision
        assert bench.get("u:carol") == bench.get("u:bob") == AttributesRead(revision=0, attributes={})

    def test_they_end_with_the_session(self) -> None:
        """S24, S39: also if nobody ticks; a new session knows nothing of the old one's numbers."""
        bench = Bench()
        alice = bench.attach().session_id
        bench.change("u:alice", alice, number=9, put={"a": "1"})
        bench(DetachSession(uid="alice", session_id=alice, attach=1, silent_seconds=0.0))
        bench.now = 29.999
        assert bench.values("u:alice") == {"a": "1"}
        bench.now = 30.0
        assert bench.values("u:alice") == {}
        bench.check_bytes()
        new = bench.attach().session_id
        assert bench.change("u:alice", new, number=1, put={"b": "1"}).revision
        assert bench.change("u:alice", new, number=9, put={"b": "2"}).revision
        assert bench.values("u:alice") == {"b": "2"}

    def test_the_end_of_a_session_without_any_is_no_change(self) -> None:
        """S39."""
        bench = Bench()
        alice = bench.attach().session_id
        bench.change("u:alice", alice, number=1, put={"a": "1"})
        empty = bench.change("u:alice", alice, number=2, replace=True).revision
        bench.end()
        assert bench.get("u:alice").revision == empty

    def test_a_statement_sets_them_in_a_new_session_only(self) -> None:
        """S25, S59: whatever became of the transport on which it was stated first; what the session has changed since
        is not undone."""
        bench = Bench()
        alice = bench.attach().session_id
        first = bench.change("u:alice", alice, replace=True, put={"a": "1"})
        assert bench.change("u:alice", alice, replace=True, put={"b": "2"}) == first
        assert bench.values("u:alice") == {"a": "1"}
        bench.end()
        alice = bench.attach().session_id
        cleared = bench.change("u:alice", alice, number=1, replace=True)
        assert bench.change("u:alice", alice, replace=True, put={"a": "1"}) == cleared
        assert bench.values("u:alice") == {}
        bench.end()
        alice = bench.attach().session_id
        too_much = bench.change("u:alice", alice, replace=True, put={"a": "x" * 16_384})
        assert too_much.code == FULL
        assert bench.change("u:alice", alice, replace=True, put={"a": "x" * 16_383}).revision

    def test_outcomes_are_forgotten_with_time(self) -> None:
        """S46: 300 s after the last of them; what is called answered, at once."""
        bench = Bench()
        alice = bench.attach().session_id
        bench.change("u:alice", alice, number=1, put={"a": "1"})
        bench.change("u:alice", alice, number=2, put={"a": "2"})
        mine = bench.engine._users._homes["alice"].attributes
        assert mine is not None
        assert len(mine.part.by_number) == 2
        bench.change("u:alice", alice, number=3, lowest_unanswered=2, put={"a": "3"})
        assert list(mine.part.by_number) == [2, 3]
        bench.now = 300.0
        bench.change("u:alice", alice, number=4, lowest_unanswered=2, put={"a": "4"})
        assert list(mine.part.by_number) == [4]
        bench.check_bytes()

    def test_a_forgotten_user(self) -> None:
        """S31, S55: its attributes' revision goes with it, and their bytes."""
        bench = Bench(max_idle_users=1)
        for uid in ("alice", "bob"):
            session = bench.attach(uid).session_id
            bench.change(f"u:{uid}", session, uid=uid, number=1, put={"a": "1"})
            bench(DetachSession(uid=uid, session_id=session, attach=1, silent_seconds=30.0))
            bench.tick(1.0)
        assert "alice" not in bench.engine._users._homes
        assert bench.get("u:alice").revision == 0
        bench.check_bytes()


class TestChannels:
    """Without having to be a member."""

    @pytest.mark.parametrize("member", [True, False])
    def test_outcomes_of_a_session_that_comes_and_goes(self, member: bool) -> None:
        """S46: the history time after its last change, if it is no member then."""
        bench = Bench()
        answers = []
        if member:
            bench.join(b"s", number=1)
            bench.leave(b"s", number=2)
        for number, at in ((3, 0.0), (4, 299.0), (5, 500.0)):
            bench.run(at - bench.now)
            answers.append(bench.change("c:room", number=number, put={"a": str(number)}))
        bench.run(290.0)
        assert bench.change("c:room", number=5, put={"a": "5"}) == answers[2]
        assert bench.values("c:room") == {"a": "5"}
        bench.check_bytes()
        bench.run(400.0)
        room = bench.engine._channels._homes["room"]
        assert (room.left, room.parts, room.outcomes) == ({}, {}, 0)
        bench.check_bytes()

    def test_a_member_is_no_session_that_left(self) -> None:
        """S46: its outcomes stay with the membership; a leave keeps them for the history time."""
        bench = Bench()
        bench.join(b"s", number=1)
        answer = bench.change("c:room", number=2, put={"a": "1"})
        assert bench.engine._channels._homes["room"].left == {}
        bench.leave(b"s", number=3)
        assert bench.change("c:room", number=2, put={"a": "1"}) == answer
        assert bench.change("c:room", number=3, put={"a": "1"}).code == Code.STALE_REQUEST  # that was the leave
        bench.join(b"s", number=4)
        assert bench.change("c:room", number=2, put={"a": "1"}) == answer
        bench.check_bytes()

    def test_a_session_marked_as_ended(self) -> None:
        """E8: what it asked for and comes late is refused."""
        bench = Bench()
        bench.join(b"s", number=1)
        bench.leave(b"s", ended=True)
        assert bench.change("c:room", number=2, put={"a": "1"}).code == Code.SESSION_ENDED
        assert bench.get("c:room").revision == 0

    def test_without_a_number(self) -> None:
        """S46: nothing is remembered of it."""
        bench = Bench()
        assert bench.change("c:room", put={"a": "1"}).revision
        room = bench.engine._channels._homes["room"]
        assert room.parts == {}
        bench.check_bytes()

    def test_a_refused_change_leaves_no_channel_behind(self) -> None:
        """S58, E3: not even an epoch."""
        bench = Bench(max_channel_attribute_bytes=10)
        assert bench.change("c:room", number=1, put={"a": "1"}, expected_revision=1).code == CONFLICT
        assert bench.change("c:room", number=1, put={"a": "x" * 10}).code == FULL
        assert bench.change("c:room", number=1, lowest_unanswered=2, put={"a": "x"}).code == Code.STALE_REQUEST
        assert bench.get("c:room") == AttributesRead(revision=0, attributes={})
        assert bench.engine._channels._homes == {}
        assert bench.engine.next_deadline() is None
        bench.check_bytes()

    def test_300_s_after_the_last_leave(self) -> None:
        """S39: exactly, for whoever asks, however late the sweep; a leave of one of two does not count."""
        bench = Bench()
        bench.join(b"s", "alice")
        bench.join(b"t", "bob")
        bench.change("c:room", number=1, put={"a": "1"})
        bench.now = 1000.0
        bench.leave(b"s", "alice")
        bench.now = 1200.0
        bench.leave(b"t", "bob")
        bench.leave(b"t", "bob")
        bench.now = 1499.999
        assert bench.values("c:room") == {"a": "1"}
        bench.now = 1500.0
        assert bench.values("c:room") == {}
        bench.check_bytes()

    @pytest.mark.parametrize(("at", "there"), [(299.999, True), (300.0, False)])
    def test_a_rejoin(self, at: float, there: bool) -> None:
        """S39: before the 300 s are over they stay, and the time begins anew with the next leave."""
        bench = Bench()
        bench.join(b"s")
        bench.change("c:room", number=1, put={"a": "1"})
        bench.leave(b"s")
        bench.now = at
        bench.join(b"t", "bob")
        assert (bench.values("c:room") == {"a": "1"}) is there
        bench.run(10_000.0)
        assert (bench.values("c:room") == {"a": "1"}) is there
        bench.leave(b"t", "bob")
        bench.run(299.0)
        assert (bench.values("c:room") == {"a": "1"}) is there
        bench.run(1.0)
        assert bench.values("c:room") == {}
        bench.check_bytes()

    def test_without_any_member_ever(self) -> None:
        """S39: 300 s after the last change; with none left there is nothing to wait for."""
        bench = Bench()
        bench.change("c:room", number=1, put={"a": "1"})
        bench.run(200.0)
        bench.change("c:room", number=2, put={"b": "1"})
        bench.run(299.0)
        assert bench.values("c:room") == {"a": "1", "b": "1"}
        bench.run(2.0)
        room = bench.engine._channels._homes["room"]
        assert room.attributes is not None
        assert len(room.attributes) == 0  # swept, though nobody asked
        bench.change("c:room", number=3, put={"a": "1"})
        bench.change("c:room", number=4, replace=True)
        assert room.attributes_until is None

    @pytest.mark.parametrize("seconds", [5.0, 0.5])
    def test_the_sweep_does_not_wait_for_the_history(self, seconds: float) -> None:
        """S39, S55: their bytes are free again at their end, if nobody asks a little later."""
        bench = Bench(attribute_seconds=seconds)
        bench.join(b"s")
        bench.change("c:room", number=1, put={"a": "1"})
        bench.leave(b"s")
        bench.run(max(seconds, 1.0))
        room = bench.engine._channels._homes["room"]
        assert room.attributes is not None
        assert room.attributes.kept_bytes == 0
        bench.check_bytes()
        bench.run(1000.0)
        bench.check_bytes()
        assert bench.engine.next_deadline() is None

    def test_a_channel_is_kept_from_its_last_change(self) -> None:
        """S58: a channel that only has attributes is not forgotten as if nobody used it."""
        bench = Bench(max_idle_logs=2)
        bench.change("c:first", number=1, put={"a": "1"})
        bench.change("c:second", number=2, put={"a": "1"})
        bench.change("c:first", number=3, put={"a": "2"})
        bench.change("c:third", number=4, put={"a": "1"})
        assert bench.values("c:first") == {"a": "2"}
        assert bench.values("c:second") == {}
        bench.check_bytes()

    def test_one_that_a_node_watches(self) -> None:
        """S58: it is in use."""
        bench = Bench(max_idle_logs=1)
        bench(WatchChannel(channel="room", node="n", on=True))
        bench.change("c:room", number=1, put={"a": "1"})
        bench.change("c:other", number=2, put={"a": "1"})
        bench.change("c:third", number=3, put={"a": "1"})
        assert bench.values("c:room") == {"a": "1"}

    def test_the_notice(self) -> None:
        """S39, E3: an entry of the log, in the same step; to nobody there is none, nor of a change that is refused or
        repeated."""
        bench = Bench()
        bench.change("c:room", number=1, put={"a": "1"}, notice=b"to nobody")
        bench.join(b"t", "bob")
        bench(WatchChannel(channel="room", node="n", on=True))
        bench.engine.take_announcements()
        answer = bench.change("c:room", number=2, put={"a": "2"}, notice=b"notice")
        assert bench.change("c:room", number=2, put={"a": "2"}, notice=b"notice") == answer
        assert bench.change("c:room", number=3, put={"a": "3"}, notice=b"no", expected_revision=1).code == CONFLICT
        assert bench.change("c:room", number=4, put={"a": "4"}).revision
        assert bench.read().entries == (b"+", b"notice")
        ((node, announced),) = bench.engine.take_announcements()
        assert (node, type(announced)) == ("n", BlockAnnounced)
        assert (announced.block.first_offset, announced.block.entries) == (2, (b"notice",))
        bench.check_bytes()


class TestBytes:
    """S55: nothing within the rates may fill memory, and the count is exact at all times."""

    def test_what_is_counted(self) -> None:
        """Keys and values, a sum for each attribute, outcomes, and what is known of a session that is no member."""
        bench = Bench()
        budget = bench.engine._channels._budget
        alice = bench.attach().session_id
        before = budget.byte_count
        bench.change("u:alice", alice, number=1, put={"key": "value", "k": "ü"})
        users = 11 + 2 * ATTRIBUTE_OVERHEAD_BYTES
        assert budget.byte_count - before == users + OUTCOME_BYTES
        bench.change("c:room", number=1, put={"key": "value"})
        assert budget.byte_count - before == users + 2 * OUTCOME_BYTES + 8 + ATTRIBUTE_OVERHEAD_BYTES + MARK_BYTES
        assert budget._fixed_bytes == users
        bench.join(b"t", "bob")
        assert budget._fixed_bytes == users + 8 + ATTRIBUTE_OVERHEAD_BYTES
        bench.check_bytes()
        bench.leave(b"t", "bob")
        bench.check_bytes()
        assert budget._fixed_bytes == users
        bench.end()
        bench.check_bytes()

    def test_those_of_deserted_channels_are_dropped_oldest_first(self) -> None:
        """They, and what is known of those who made them, go for what is newer."""
        bench = Bench(max_engine_bytes=100_000)
        for number in range(100):
            bench.now += 0.1
            bench.change(f"c:room{number}", b"s%d" % number, number=1, put={"a": "x" * 5000})
            bench.check_bytes()
            assert bench.engine._channels._budget.byte_count <= 100_000
        kept = [number for number in range(100) if bench.values(f"c:room{number}")]
        assert kept == list(range(kept[0], 100))
        assert 12 <= len(kept) <= 20
        revision = bench.get("c:room0").revision
        assert revision > 0
        assert bench.change("c:room0", b"t", number=1, put={"a": "1"}, expected_revision=revision).revision > revision

    def test_those_that_are_in_use_have_half_of_all(self) -> None:
        """F-93: they are never dropped: above that, what would make them more is refused, and what makes them less is
        not."""
        bench = Bench(max_engine_bytes=100_000)
        sessions = [bench.attach(f"user{number}").session_id for number in range(20)]
        answers = [
            bench.change(f"u:user{number}", session, uid=f"user{number}", number=1, put={"a": "x" * 4000})
            for number, session in enumerate(sessions)
        ]
        done = [isinstance(answer, AttributesChanged) for answer in answers]
        assert done == [True] * 11 + [False] * 9
        assert answers[-1] == Refusal(FULL, "the server has no room for more attributes; try again later")
        bench.join(b"s")
        assert bench.change("c:room", number=1, put={"a": "x" * 4000}).code == FULL
        assert bench.change("c:deserted", number=1, put={"a": "x" * 4000}).revision
        first = {"uid": "user0", "number": 2}
        assert bench.change("u:user0", sessions[0], put={"b": "x" * 3000}, **first).code == FULL
        assert bench.change("u:user0", sessions[0], put={"a": "x" * 3000}, **first).revision
        bench.end("user1")
        assert bench.change("c:room", number=1, put={"a": "x" * 4000}).revision
        bench.check_bytes()

    def test_a_deserted_channel_that_is_joined_again(self) -> None:
        """What may pass the half so is refused nothing that makes it less, and ends as it would."""
        bench = Bench(max_engine_bytes=10_000)
        for name in ("a", "b"):
            bench.change(f"c:{name}", number=1, put={"a": "x" * 4000})
            bench.join(b"s", channel=name)
        assert bench.engine._channels._budget.room < 0
        assert bench.change("c:a", number=2, put={"b": ""}).code == FULL
        assert bench.change("c:a", number=2, put={"a": "y" * 4000}).revision
        assert bench.change("c:a", number=3, drop=("a",)).revision
        bench.check_bytes()

    def test_nothing_left_to_drop(self) -> None:
        """Attributes in use outlast everything else, and no loop waits for them."""
        bench = Bench(max_engine_bytes=10_000)
        for name in ("a", "b"):
            bench.change(f"c:{name}", b"t", number=1, put={"a": "x" * 4000})
            bench.join(b"s", channel=name)
        bench.now = 1.0
        for number in range(1, 40):
            bench.append(number, channel="a", size=500)
            bench.check_bytes()
        assert bench.values("c:a") == bench.values("c:b") == {"a": "x" * 4000}

    def test_outcomes_of_users_are_dropped(self) -> None:
        """S46: then their numbers are carried out no more."""
        bench = Bench(max_engine_bytes=10_000)
        alice = bench.attach().session_id
        for number in range(1, 41):
            bench.change("u:alice", alice, number=number, put={"a": str(number)})
        bench.now = 1.0
        bench.join(b"s")
        for number in range(1, 30):
            bench.append(number, size=500)
        assert bench.change("u:alice", alice, number=40, put={"a": "again"}).code == Code.STALE_REQUEST
        assert bench.values("u:alice") == {"a": "40"}
        bench.check_bytes()
