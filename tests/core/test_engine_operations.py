"""The engine's operations, each directly (E1-E3, E6, E8, E9; S18, S24, S31, S33, S46, S47, S55, S58)."""

from __future__ import annotations

import random
from typing import Any

import pytest

from rtm_sansio import _engine_channels
from rtm_sansio._engine_outcomes import MARK_BYTES, OUTCOME_BYTES
from rtm_sansio._engine_shared import IdleList
from rtm_sansio.codes import Code
from rtm_sansio.config import ChannelSettings, ServerConfig
from rtm_sansio.engine import MemoryEngine
from rtm_sansio.events import LeaveCause
from rtm_sansio.operations import (
    Append,
    AppendItem,
    Attached,
    AttachSession,
    BlockAnnounced,
    ChannelJoined,
    ChannelLeft,
    ConfirmAttach,
    CountAnnounced,
    CountMembersOf,
    DetachSession,
    EndSession,
    JoinChannel,
    LeaveChannel,
    LeaveToDo,
    ListChannel,
    ListMembersOf,
    Order,
    OrdersWaiting,
    OrderToDo,
    PostOrder,
    ReadLog,
    ReadOrders,
    ReadPage,
    Refusal,
    StrikeToDos,
    TakeToDos,
    ToDosWaiting,
    WatchChannel,
)

WALL = 1_700_000_000.0


class Bench:
    """An engine and its clock."""

    def __init__(self, **settings: Any) -> None:
        self.now = 0.0
        self.engine = MemoryEngine(ServerConfig(**settings), entropy=random.Random(0).randbytes)
        self.engine.set_wall_clock(WALL, now=self.now)
        self.count = 0
        self.sent_at = 1000

    def __call__(self, operation: Any) -> Any:
        return self.engine.execute(operation, now=self.now)

    def tick(self, seconds: float = 0.0) -> None:
        self.now += seconds
        self.engine.handle_timeout(now=self.now)
        deadline = self.engine.next_deadline()
        assert deadline is None or deadline > self.now

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while (deadline := self.engine.next_deadline()) is not None and deadline <= end:
            self.now = max(self.now, deadline)
            self.tick()
        self.now = end

    def attach(self, uid: str = "alice", **quoted: Any) -> Any:
        self.count += 1
        fields: dict[str, Any] = {
            "node": "n1",
            "instance_id": b"i",
            "login_id": b"l%d" % self.count,
            "attempt": 0,
            "new_session_id": b"s%d" % self.count,
            "quoted_session_id": None,
            "quoted_epoch": None,
            "quoted_attach": None,
        }
        return self(AttachSession(uid=uid, **{**fields, **quoted}))

    def join(self, session: bytes, uid: str = "alice", number: int | None = None, **fields: Any) -> Any:
        values: dict[str, Any] = {"channel": "room", "attach": 1, "lowest_unanswered": 0, **fields}
        return self(
            JoinChannel(uid=uid, session_id=session, number=number, joined_entry=b"+", replaced_entry=b"-", **values)
        )

    def leave(self, session: bytes, uid: str = "alice", number: int | None = None, **fields: Any) -> Any:
        values: dict[str, Any] = {"channel": "room", "attach": 1, "lowest_unanswered": 0, "ended": False}
        values |= {"listed": True, **fields}
        return self(
            LeaveChannel(uid=uid, session_id=session, number=number, left_entry=b"-", resumed_entry=b"=", **values)
        )

    def append(
        self, *numbers: int, session: bytes = b"s", lowest: int = 0, size: int = 1, channel: str = "room"
    ) -> Any:
        items = tuple(AppendItem("alice", session, number, lowest, b"x" * size, self.sent_at) for number in numbers)
        return self(Append(channel=channel, items=items))

    def read(self, cursor: int = 0, channel: str = "room") -> Any:
        epoch = self(WatchChannel(channel=channel, node="reader", on=True)).epoch
        return self(ReadLog(log="c:" + channel, epoch=epoch, cursor=cursor, max_bytes=1 << 30))


class TestUsers:
    """The user home."""

    def test_expiry_is_decided_in_the_step_that_asks(self) -> None:
        """S24, E2, E6: a duration counts from the step that brings it; no tick is needed."""
        bench = Bench()
        first = bench.attach()
        bench(ListChannel(uid="alice", session_id=first.session_id, attach=1, channel="room", listed=True))
        bench.now = 10.0
        detach = DetachSession(uid="alice", session_id=first.session_id, attach=1, silent_seconds=10.0)
        bench(detach)
        bench(detach)  # again: void
        assert bench.engine.next_deadline() == 30.0
        bench.now = 29.999
        quoted = {"quoted_session_id": first.session_id, "quoted_epoch": first.login_epoch, "quoted_attach": 1}
        second = bench.attach(**quoted)
        assert (second.resumed, second.attach, second.channels) == (True, 2, ("room",))
        bench.tick(100.0)
        assert bench.attach(**quoted).resumed
        bench(DetachSession(uid="alice", session_id=first.session_id, attach=3, silent_seconds=0.0))
        bench.now += 30.0
        third = bench.attach(**quoted)
        assert not third.resumed
        assert [(todo.channel, todo.session_id, todo.cause) for todo in third.todos] == [
            ("room", first.session_id, LeaveCause.TIMED_OUT)
        ]

    def test_void_operations(self) -> None:
        """E8: of an older attachment, another session, or nobody."""
        bench = Bench()
        session = bench.attach().session_id
        bench.attach(quoted_session_id=session, quoted_epoch=0)
        for uid, session_id, attach in (("alice", b"other", 1), ("nobody", session, 1), ("alice", session, 9)):
            bench(DetachSession(uid=uid, session_id=session_id, attach=attach, silent_seconds=0.0))
            bench(ConfirmAttach(uid=uid, session_id=session_id, attach=attach))
        assert bench.engine.next_deadline() is None
        assert bench(ListChannel(uid="alice", session_id=b"other", attach=1, channel="r", listed=True)) == Refusal(
            Code.SESSION_ENDED, "the session has ended"
        )
        for attach, code in ((1, None), (2, Code.TRANSPORT_REPLACED)):
            for listed in (True, False):
                answer = bench(ListChannel(uid="alice", session_id=session, attach=attach, channel="r", listed=listed))
                assert (answer.code if answer else None) == code
        bench(StrikeToDos(uid="nobody", todo_ids=(1,)))
        bench(StrikeToDos(uid="alice", todo_ids=(1,)))

    def test_what_follows_is_kept_until_it_is_struck(self) -> None:
        """E2: announced after 2 s, and every 2 s; handed out to the first that asks."""
        bench = Bench()
        first = bench.attach()
        for channel in ("a", "b"):
            bench(ListChannel(uid="alice", session_id=first.session_id, attach=1, channel=channel, listed=True))
        second = bench.attach(instance_id=b"j", node="n2")
        assert [type(todo) for todo in second.todos] == [LeaveToDo, LeaveToDo, OrderToDo]
        assert second.todos[2].code == Code.REMOTE_LOGIN
        assert (second.todos[2].node, second.todos[2].attach) == ("n1", 1)
        bench.run(1.999)
        assert bench.engine.take_announcements() == []
        bench.run(0.001)
        assert bench.engine.take_announcements() == [("n1", ToDosWaiting()), ("n2", ToDosWaiting())]
        assert bench(TakeToDos(node="n1")) == second.todos
        assert bench(TakeToDos(node="n2")) == ()
        bench.run(2.0)
        assert len(bench.engine.take_announcements()) == 2
        ids = [todo.todo_id for todo in second.todos]
        bench(StrikeToDos(uid="alice", todo_ids=tuple(ids[:2])))
        bench(StrikeToDos(uid="alice", todo_ids=(ids[0],)))
        bench.run(2.0)
        assert bench(TakeToDos(node="n2")) == second.todos[2:]
        bench(StrikeToDos(uid="alice", todo_ids=(ids[2],)))
        bench.engine.take_announcements()
        bench.run(100.0)
        assert bench.engine.take_announcements() == []
        assert bench.engine.next_deadline() is None

    def test_ticks_never_spin(self) -> None:
        """Promise 5: however often it is ticked while something is overdue."""
        bench = Bench()
        session = bench.attach().session_id
        bench(ListChannel(uid="alice", session_id=session, attach=1, channel="a", listed=True))
        bench(DetachSession(uid="alice", session_id=session, attach=1, silent_seconds=0.0))
        bench.tick(30.0)
        for _ in range(20):
            bench.tick(0.01)
        assert bench.engine.take_announcements() == [("n1", ToDosWaiting())]

    def test_end_names_a_session_or_none(self) -> None:
        """S31: another session is not ended, but the epoch may be spoiled."""
        bench = Bench()
        end: dict[str, Any] = {"cause": LeaveCause.KICKED, "code": 4002, "message": "", "ban_seconds": None}
        assert not bench(EndSession(uid="alice", session_id=None, spoil_epoch=True, **end)).ended
        first = bench.attach()
        assert not bench(EndSession(uid="alice", session_id=b"other", spoil_epoch=False, **end)).ended
        assert bench(EndSession(uid="alice", session_id=first.session_id, spoil_epoch=False, **end)).ended
        assert bench.attach(quoted_epoch=first.login_epoch).login_epoch == first.login_epoch
        assert bench(EndSession(uid="alice", session_id=None, spoil_epoch=True, **end)).ended
        assert bench.attach(quoted_epoch=first.login_epoch).code == 4002

    def test_epochs_are_kept_for_seven_days(self) -> None:
        """S31: after the last contact; whoever quotes an older one then is unknown."""
        bench = Bench()
        old = bench.attach()
        new = bench.attach()
        end: dict[str, Any] = {"cause": LeaveCause.LOGGED_OUT, "code": 1, "message": "", "ban_seconds": None}
        bench(EndSession(uid="alice", session_id=new.session_id, spoil_epoch=False, **end))
        bench(StrikeToDos(uid="alice", todo_ids=tuple(bench.engine._users._homes["alice"].todos or ())))
        bench.tick(604_799.0)
        assert bench.attach(quoted_epoch=old.login_epoch).code == Code.REMOTE_LOGIN
        bench.tick(604_801.0)
        back = bench.attach(quoted_epoch=old.login_epoch)
        assert back.login_epoch > new.login_epoch

    def test_users_are_remembered_for_thirty_days(self) -> None:
        """S55: as long as messages are kept for them."""
        bench = Bench()
        session = bench.attach()
        end: dict[str, Any] = {"cause": LeaveCause.LOGGED_OUT, "code": 1, "message": "", "ban_seconds": None}
        bench(EndSession(uid="alice", session_id=session.session_id, spoil_epoch=False, **end))
        bench(StrikeToDos(uid="alice", todo_ids=tuple(bench.engine._users._homes["alice"].todos or ())))
        bench.tick(2_591_999.0)
        assert "alice" in bench.engine._users._homes
        bench.tick(2.0)
        assert "alice" not in bench.engine._users._homes

    def test_idle_users_are_bounded(self) -> None:
        """S31, S50: the longest idle go first; a ban and what is still due are not forgotten."""
        bench = Bench(max_idle_users=5)
        end: dict[str, Any] = {"cause": LeaveCause.BANNED, "code": 4001, "message": "", "spoil_epoch": True}
        bench(EndSession(uid="banned", session_id=None, ban_seconds=1e6, **end))
        for number in range(20):
            session = bench.attach(f"user{number}").session_id
            bench(DetachSession(uid=f"user{number}", session_id=session, attach=1, silent_seconds=30.0))
        for _ in range(5):
            bench.tick(1.0)
        assert len(bench.engine._users._homes) <= 6
        assert bench.attach("banned").code == Code.BANNED
        bench.tick(2e6)
        bench.tick(2e6)
        assert "banned" not in bench.engine._users._homes

    @pytest.mark.parametrize("silent", [0.0, 29.5])
    def test_a_user_forgotten_before_its_old_deadline(self, silent: float) -> None:
        """Stale places in the heaps do nothing: of silences (S39), of ends (S24), of things to do (E2)."""
        bench = Bench(max_idle_users=1)
        for uid in ("alice", "bob", "carol"):
            session = bench.attach(uid, instance_id=b"1").session_id
            bench(ListChannel(uid=uid, session_id=session, attach=1, channel="a", listed=True))
            second = bench.attach(uid, instance_id=b"2")
            bench(StrikeToDos(uid=uid, todo_ids=tuple(todo.todo_id for todo in second.todos)))
            bench(DetachSession(uid=uid, session_id=second.session_id, attach=1, silent_seconds=silent))
            end: dict[str, Any] = {"cause": LeaveCause.LOGGED_OUT, "code": 1, "message": "", "ban_seconds": None}
            bench(EndSession(uid=uid, session_id=None, spoil_epoch=False, **end))
        bench.tick(0.3)
        assert len(bench.engine._users._homes) == 1
        bench.run(40.0)
        assert bench.engine.next_deadline() is None

    def test_the_wall_clock_is_for_epochs_only(self) -> None:
        """S31: the first reading is the start of memory, 60 s ahead."""
        bench = Bench()
        first = bench.attach().login_epoch
        assert first == int((WALL + 60.0) * 1_000_000)
        bench.now = 100.0
        assert bench.attach().login_epoch == int((WALL + 100.0) * 1_000_000)
        bench.engine.set_wall_clock(0.0, now=50.0)
        assert bench.attach().login_epoch == int((WALL + 100.0) * 1_000_000) + 1

    @pytest.mark.parametrize("shift", [3600.0, -3600.0])
    def test_a_correction_of_the_wall_clock_does_not_move_the_start_of_memory(self, shift: float) -> None:
        """S31: which is that of the first reading plus 60 s. What was forgotten is told by it, and new logins follow
        the clock as it is now."""
        bench = Bench()
        start = int((WALL + 60.0) * 1_000_000)
        bench.now = 100.0
        bench.engine.set_wall_clock(WALL + 100.0 + shift, now=bench.now)
        assert bench.attach("bob", quoted_epoch=start - 1).login_epoch == start - 1
        later = max(start, int((WALL + 100.0 + shift) * 1_000_000))
        assert bench.attach("carol", quoted_epoch=start).login_epoch == later
        assert bench.attach("dave").login_epoch == later

    @pytest.mark.parametrize(("seconds", "refused"), [(59.999, True), (60.0, False)])
    def test_an_ended_login_is_remembered_for_sixty_seconds(self, seconds: float, refused: bool) -> None:
        """S18: an attempt of it that comes later than that is a login like any other."""
        bench = Bench()
        bench.attach(login_id=b"old")
        bench.attach(login_id=b"new", instance_id=b"j")
        bench.now = seconds
        answer = bench.attach(login_id=b"old", attempt=1)
        assert isinstance(answer, Refusal if refused else Attached)
        assert getattr(answer, "code", None) == (Code.REMOTE_LOGIN if refused else None)

    def test_a_user_with_a_session_is_never_idle(self) -> None:
        """S31: however long ago it was last without one."""
        bench = Bench()
        first = bench.attach()
        bench(DetachSession(uid="alice", session_id=first.session_id, attach=1, silent_seconds=0.0))
        bench.run(40.0)
        second = bench.attach()
        bench.tick(604_801.0)
        back = bench.attach(quoted_session_id=second.session_id, quoted_epoch=second.login_epoch, quoted_attach=1)
        assert (back.resumed, back.session_id) == (True, second.session_id)


class TestMembers:
    """The channel home: members and outcomes."""

    def test_a_join_over_an_older_session(self) -> None:
        """E2: one step appends both entries; the leave of the older does nothing any more."""
        bench = Bench()
        bench.join(b"old")
        joined = bench.join(b"new")
        assert joined.block.entries == (b"-", b"+")
        assert (joined.offset, joined.member_count) == (3, 1)
        assert bench.leave(b"old", ended=True).block is None
        assert bench.read().end == 3
        assert bench.leave(b"new").block.entries == (b"-",)

    def test_the_mark_of_an_ended_session(self) -> None:
        """E2: found a member or not; a late leave does not take it away; kept for the history time."""
        bench = Bench()
        bench.leave(b"s", ended=True, attach=0)
        bench.leave(b"s", number=3)
        assert bench.join(b"s", number=4, attach=9).code == Code.SESSION_ENDED
        bench.run(299.0)
        assert isinstance(bench.join(b"s"), Refusal)
        bench.run(302.0)
        assert isinstance(bench.join(b"s"), ChannelJoined)

    def test_older_attachments(self) -> None:
        """E8: what they join or leave late is refused."""
        bench = Bench()
        bench.join(b"s", attach=2)
        assert bench.leave(b"s", attach=1).code == Code.STALE_REQUEST
        assert bench.leave(b"s", attach=2) == ChannelLeft(block=bench.read().entries and bench_block(bench, 2))
        assert bench.join(b"s", attach=1).code == Code.STALE_REQUEST
        assert isinstance(bench.join(b"s", attach=3), ChannelJoined)
        assert bench.leave(b"s", attach=0, ended=True).block is not None

    def test_a_leave_of_nobody_leaves_nothing(self) -> None:
        """S50: unless the user's home lists the channel."""
        bench = Bench()
        assert bench.leave(b"s", number=1, listed=False) == ChannelLeft(block=None)
        assert bench.engine._channels._homes == {}
        bench.leave(b"s", attach=2)
        assert bench.join(b"s", attach=1).code == Code.STALE_REQUEST

    def test_outcomes(self) -> None:
        """S46: repeated, forgotten below the lowest, never carried out below it."""
        bench = Bench()
        joined = bench.join(b"s", number=1)
        assert bench.append(2, 3).results == (2, 3)
        bench.sent_at = 2000
        again = bench.append(2, 3, 4)
        assert (again.results, again.repeated) == ((2, 3, 4), {0: 1000, 1: 1000})
        assert bench.append(3, 4).repeated == {0: 1000, 1: 2000}
        assert bench.join(b"s", number=1).offset == joined.offset
        assert bench.append(5, lowest=4).results == (5,)
        assert bench.append(2, 3).results == (-Code.STALE_REQUEST,) * 2
        assert bench.append(4, 5).results == (4, 5)
        assert bench.append(6, session=b"other").results == (-Code.NOT_A_MEMBER,)
        assert bench.append(6, channel="nowhere").results == (-Code.NOT_A_MEMBER,)
        left = bench.leave(b"s", number=6)
        assert left.block is not None
        assert bench.leave(b"s", number=6) == ChannelLeft(block=None)
        assert bench.append(4, 7).results == (4, -Code.NOT_A_MEMBER)

    def test_the_last_256_outcomes(self) -> None:
        """S46: from both sides; what is no longer known is not carried out again."""
        bench = Bench()
        bench.join(b"s")
        bench.append(*range(1, 258))
        assert bench.append(2, 257).results == (3, 258)
        assert bench.append(1).results == (-Code.STALE_REQUEST,)

    def test_outcomes_are_forgotten_after_the_history_time(self) -> None:
        """S46: 300 s after the last of them was made."""
        bench = Bench()
        bench.join(b"s")
        bench.append(5)
        bench.now = 299.9
        assert bench.append(5).results == (2,)
        bench.now = 300.0
        assert bench.append(5).results == (3,)

    def test_a_session_that_left_is_known_for_the_history_time(self) -> None:
        """S46, S50: then nothing of it is kept."""
        bench = Bench()
        bench.join(b"other", "bob")
        bench.join(b"s", number=1)
        bench.leave(b"s", number=2)
        bench.run(299.0)
        assert bench.leave(b"s", number=2) == ChannelLeft(block=None)
        bench.run(3.0)
        assert list(bench.engine._channels._homes["room"].parts) == [b"other"]

    def test_an_ended_session_leaves_its_mark_and_no_outcomes(self) -> None:
        """S46, E2, S55: none of its numbers is carried out any more, so nobody asks what became of them."""
        bench = Bench()
        bench.join(b"s", number=1)
        bench.append(*range(2, 200))
        bench.leave(b"s", attach=0, ended=True)
        (part,) = bench.engine._channels._homes["room"].parts.values()
        assert (part.by_number, part.ended) == ({}, True)
        assert bench.append(2, 300).results == (-Code.NOT_A_MEMBER,) * 2
        assert bench.join(b"s", number=1).code == bench.join(b"s", number=301).code == Code.SESSION_ENDED
        assert bench.leave(b"s", number=302) == ChannelLeft(block=None)
        assert part.by_number == {}

    def test_a_refused_leave_leaves_nothing(self) -> None:
        """S46, S50: of a session that is not known here."""
        bench = Bench()
        assert bench.leave(b"s", number=3, lowest_unanswered=4).code == Code.STALE_REQUEST
        assert bench.engine._channels._homes["room"].parts == {}

    def test_outcomes_and_marks_are_counted_and_given_back(self) -> None:
        """S55, S46: whatever makes them, and whatever forgets them."""
        bench = Bench(max_outcomes=5)
        channels = bench.engine._channels

        def counted(outcomes: int, marks: int) -> None:
            home = channels._homes["room"]
            assert (home.outcomes, len(home.left)) == (outcomes, marks)
            assert channels._budget.byte_count == bytes_of(bench) == home.byte_count

        bench.join(b"s", number=1)
        counted(1, 0)
        bench.append(2, 3, 3, 4)
        counted(4, 0)
        bench.append(5, 6, 7)
        counted(5, 0)
        bench.append(8, lowest=6)
        counted(3, 0)
        bench.leave(b"s", number=9)
        counted(4, 1)
        assert bench.join(b"s", number=8, lowest_unanswered=8).code == Code.STALE_REQUEST
        counted(2, 1)
        bench.join(b"s", number=10, lowest_unanswered=8)
        counted(3, 0)
        bench.join(b"t", number=1)  # in its place
        counted(4, 1)
        bench.leave(b"s", attach=0, ended=True)
        counted(1, 1)
        bench.leave(b"t")
        bench.run(301.0)
        counted(0, 0)
        assert channels._budget.byte_count == 0

    @pytest.mark.parametrize("members", [0, 3])
    def test_outcomes_and_marks_within_the_bytes_of_all_homes(self, members: int) -> None:
        """S55: sessions without end, of uids that log in anew, leave no more than is bounded; the oldest go first."""
        bench = Bench(max_engine_bytes=300_000)
        channels = bench.engine._channels
        for index in range(members):
            bench.join(b"m%d" % index, f"member{index}")
        for count in range(300):
            bench.now += 0.01
            session = b"s%d" % count
            bench.join(session, channel=f"room{count % 7}")
            for number in range(30):
                bench.append(number, session=session, channel=f"room{count % 7}", size=1)
            bench.leave(session, ended=count % 3 > 0, channel=f"room{count % 7}")
            assert channels._budget.byte_count <= 300_000
            assert channels._budget.byte_count == bytes_of(bench)
        known = {session for home in channels._homes.values() for session in home.left}
        assert known == {b"s%d" % count for count in range(300 - len(known), 300)}
        assert 20 < len(known) < 200
        for index in range(members):
            assert bench.leave(b"m%d" % index, f"member{index}", channel="room").block is not None

    def test_the_outcomes_of_members_within_the_bytes_of_all_homes(self) -> None:
        """S55, S46: the oldest are forgotten, and what they were of is not done again."""
        bench = Bench(max_engine_bytes=60_000)
        channels = bench.engine._channels
        sessions = [b"s%d" % index for index in range(40)]
        for index, session in enumerate(sessions):
            bench.join(session, f"user{index}")
        for index, session in enumerate(sessions):
            bench.now += 1.0
            items = tuple(AppendItem(f"user{index}", session, number, 0, b"x", 0) for number in range(1, 51))
            assert min(bench(Append(channel="room", items=items)).results) > 0
            assert channels._budget.byte_count <= 60_000
        assert channels._budget.byte_count == bytes_of(bench)
        home = channels._homes["room"]
        assert home.log.end == 40 + 40 * 50
        assert not home.parts[sessions[0]].by_number
        assert len(home.parts[sessions[-1]].by_number) == 50
        for number, result in ((50, -Code.STALE_REQUEST), (51, 40 + 40 * 50 + 1)):
            items = (AppendItem("user0", sessions[0], number, 0, b"x", 0),)
            assert bench(Append(channel="room", items=items)).results == (result,)

    def test_what_became_of_a_session_since_its_age_was_noted(self) -> None:
        """S55: one that did something since is not the oldest any more, and one that is gone takes no place."""
        bench = Bench(max_engine_bytes=20_000, max_idle_logs=2)
        for index in range(4):
            bench.join(b"s%d" % index, f"user{index}", number=1)
            bench.now += 1.0
        channels = bench.engine._channels
        channels._budget._collect_ages()
        assert len(channels._budget._ages) == 5
        bench.join(b"s0", "user0", number=2)
        bench.now += 1.0
        bench.leave(b"s1", "user1")
        bench.leave(b"s2", "user2", ended=True)
        bench.now += 1.0
        while channels._budget.byte_count > MARK_BYTES:
            channels._budget._drop_oldest()
            assert channels._budget.byte_count == bytes_of(bench)
        home = channels._homes["room"]
        assert list(home.left) == [b"s2"]
        assert [len(home.parts[b"s%d" % index].by_number) for index in (0, 3)] == [0, 0]


class TestNumbersOfMembers:
    """S38: what the engine announces of channels that do not tell of joins and leaves."""

    def bench(self, **settings: Any) -> Bench:
        bench = Bench(**{"max_snapshot_members": 2, "unmute_members": 2, **settings})
        bench(WatchChannel(channel="room", node="n1", on=True))
        return bench

    def announced(self, bench: Bench) -> list[Any]:
        """The counts, and the last offset of each block."""
        return [
            announcement.member_count
            if isinstance(announcement, CountAnnounced)
            else f"@{announcement.block.last_offset}"
            for _, announcement in bench.engine.take_announcements()
        ]

    def test_the_step_that_mutes_and_the_one_that_ends_it(self) -> None:
        """S38, S47: the join that is one too many appends nothing; below the lower bound one entry, behind the news
        that there is no count any more."""
        bench = self.bench()
        for index in range(3):
            joined = bench.join(b"s%d" % index, f"user{index}")
        assert (joined.offset, joined.member_count, joined.members, joined.block) == (2, 3, None, None)
        assert bench(WatchChannel(channel="room", node="n2", on=True)).member_count == 3
        assert self.announced(bench) == ["@1", "@2", 3]
        bench.tick(1.0)
        assert bench.leave(b"s2", "user2") == ChannelLeft(block=None)
        assert self.announced(bench) == [2, 2]
        block = bench.leave(b"s1", "user1").block
        assert (block.first_offset, block.entries) == (3, (b"=",))
        assert self.announced(bench) == [None, None, "@3", "@3"]
        assert bench(WatchChannel(channel="room", node="n2", on=True)).member_count is None
        assert bench.join(b"s1", "user1").offset == 4

    def test_a_count_that_is_due_when_the_mute_ends(self) -> None:
        """S38: is not told; and one place for each channel is all that is kept of what is due."""
        bench = self.bench()
        for _ in range(50):
            for index in range(3):
                bench.join(b"s%d" % index, f"user{index}")
            for index in range(1, 3):
                bench.leave(b"s%d" % index, f"user{index}")
        told = [one for one in self.announced(bench) if type(one) is int]
        assert told == [3]
        assert len(bench.engine._channels._counts) == 1
        bench.tick(1.0)
        assert self.announced(bench) == []
        assert bench.engine._channels._counts == []

    def test_one_that_is_due_and_becomes_due_later(self) -> None:
        """S38: muted again meanwhile, and told since: once a second all the same."""
        bench = self.bench()
        for index in range(4):
            bench.join(b"s%d" % index, f"user{index}")
        self.announced(bench)
        home = bench.engine._channels._homes["room"]
        home.count_told_at = bench.now + 0.5  # as if it had been told in the meantime
        bench.tick(1.0)
        assert self.announced(bench) == []
        bench.tick(0.5)
        assert self.announced(bench) == [4]

    def test_channels_that_are_gone(self) -> None:
        """S38, S58: what was due of them is passed over, and does not gather."""
        bench = self.bench(
            max_idle_logs=10,
            channel_settings=(ChannelSettings(pattern="*", member_events=False),),
            member_count_interval_seconds=1000.0,
        )
        for number in range(3000):
            name = f"room{number}"
            bench.join(b"s", channel=name)
            bench.leave(b"s", channel=name)
            assert len(bench.engine._channels._counts) <= 2 * 12 + 1024 + 1
        bench.tick(1000.0)
        assert bench.engine._channels._counts == []

    def test_pages_are_made_anew_when_members_change(self) -> None:
        """S47: sorted once for all pages, and again behind each join and leave."""
        bench = self.bench()

        def uids(after: str = "", limit: int = 9) -> tuple[str, ...]:
            answer = bench(ListMembersOf(channel="room", uid="bob", session_id=b"b", after=after, limit=limit))
            return answer.uids  # type: ignore[no-any-return]

        bench.join(b"b", "bob")
        bench.join(b"a", "alice")
        assert uids() == ("alice", "bob")
        made = bench.engine._channels._homes["room"].sorted_members
        assert uids(after="alice") == ("bob",)
        assert bench.engine._channels._homes["room"].sorted_members is made
        bench.join(b"c", "carol")
        assert uids(after="alice") == ("bob", "carol")
        bench.leave(b"a", "alice")
        assert uids() == ("bob", "carol")
        assert uids(after="zoe") == ()

    def test_reads_make_no_channel(self) -> None:
        """S50, S58: asking for what is not there keeps nothing."""
        bench = Bench()
        assert bench(CountMembersOf(channel="room")) == 0
        who: dict[str, Any] = {"channel": "room", "uid": "alice", "session_id": b"s"}
        assert bench(ListMembersOf(after="", limit=1, **who)).code == Code.NOT_A_MEMBER
        page = ReadPage(before=None, after=None, limit=1, max_bytes=1, **who)
        assert bench(page).code == Code.NOT_A_MEMBER
        assert bench.engine._channels._homes == {}
        bench.join(b"t")
        assert bench(page).code == Code.NOT_A_MEMBER
        assert bench(ListMembersOf(after="", limit=1, **who)).code == Code.NOT_A_MEMBER


def bench_block(bench: Bench, offset: int) -> Any:
    from rtm_sansio.logs import Block

    reading = bench.read()
    return Block(reading.epoch, offset, (b"-",))


def bytes_of(bench: Bench) -> int:
    """What all homes have, counted from the beginning."""
    return sum(
        home.log.byte_count
        + OUTCOME_BYTES * sum(len(part.by_number) for part in home.parts.values())
        + MARK_BYTES * len(home.left)
        for home in bench.engine._channels._homes.values()
    )


class TestLogs:
    """The channel home: its log."""

    def test_one_block_for_each_call_announced_to_each_watcher(self) -> None:
        """E3, E5."""
        bench = Bench()
        for node in ("n1", "n2"):
            bench(WatchChannel(channel="room", node=node, on=True))
        bench.join(b"s")
        bench.engine.take_announcements()
        bench(WatchChannel(channel="room", node="n2", on=False))
        block = bench.append(1, 2, 3).block
        assert (block.first_offset, block.entries) == (2, (b"x",) * 3)
        assert bench.engine.take_announcements() == [("n1", BlockAnnounced(log="c:room", block=block))]
        assert bench.engine.take_announcements() == []
        assert bench.append(1, 2, 3).block is None
        assert bench.engine.take_announcements() == []

    def test_trimming_by_time(self) -> None:
        """S33: swept at 300 s; a busy log at most once a second."""
        bench = Bench()
        bench.join(b"s")
        bench.append(1)
        assert bench.engine.next_deadline() == 300.0
        for number in range(2, 12):
            bench.now += 0.1
            bench.append(number)
        bench.run(298.9)
        assert not bench.read().gap
        bench.run(0.2)
        assert bench.read().gap
        assert bench.engine.next_deadline() == pytest.approx(301.0)

    def test_a_log_of_16_mib(self) -> None:
        """S33, S55."""
        bench = Bench(max_log_bytes=200_000)
        bench.join(b"s")
        for number in range(1, 300):
            bench.append(number, size=680)
        reading = bench.read(1)
        assert reading.gap
        assert len(reading.entries) == 200
        assert bench.engine._channels._homes["room"].log.byte_count == 200_000

    def test_all_logs_together(self) -> None:
        """S55: the oldest entries of any log go first; gaps say so."""
        room = 200_000 + 3 * OUTCOME_BYTES
        bench = Bench(max_log_bytes=150_000, max_engine_bytes=room)
        for channel in ("a", "b", "c"):
            bench.join(b"s", channel=channel)
        for number in range(1, 400):
            bench.now += 0.001
            bench.append(number, lowest=number, size=680, channel="abc"[number % 3])
            assert bench.engine._channels._budget.byte_count <= room
        kept = {channel: len(bench.read(channel=channel).entries) for channel in "abc"}
        assert sum(kept.values()) == 200
        assert max(kept.values()) - min(kept.values()) <= 1
        for number in range(400, 600):
            bench.now += 0.001
            bench.append(number, lowest=number, size=680, channel="a")
        kept = {channel: len(bench.read(channel=channel).entries) for channel in "abc"}
        assert kept["a"] == 150
        assert kept["b"] + kept["c"] == 50

    @pytest.mark.parametrize("idle", [1, 100])
    def test_all_logs_together_while_channels_come_and_go(self, idle: int) -> None:
        """S55: logs that are gone, or new, are no obstacle."""
        bench = Bench(max_log_bytes=131_072, max_engine_bytes=5_000, max_idle_logs=idle)
        rng = random.Random(3)
        for number in range(1, 600):
            bench.now += rng.choice([0.001, 0.5, 40.0])
            channel = f"room{number // 20}"
            if number % 20 == 0 or number == 1:
                bench.join(b"s", channel=channel)
            bench.append(number, size=rng.randint(1, 900), channel=channel)
            if number % 20 == 19:
                bench.leave(b"s", channel=channel)
            bench.tick()
            assert bench.engine._channels._budget.byte_count <= 5_000
        assert bench.engine._channels._budget.byte_count == bytes_of(bench)

    def test_identity_outlives_entries_and_members(self) -> None:
        """S58: for 24 h after the last of them."""
        bench = Bench()
        epoch = bench.join(b"s").epoch
        bench.append(1)
        bench.leave(b"s")
        bench.run(600.0)
        assert bench.join(b"t").offset == 4
        bench.leave(b"t")
        bench.run(86_400.0 + 290.0)
        assert bench.join(b"u").epoch == epoch
        bench.leave(b"u")
        bench.run(400.0)
        bench.tick(86_401.0)
        assert bench.join(b"v").epoch != epoch

    @pytest.mark.parametrize(("seconds", "kept"), [(86_399.999, True), (86_400.0, False)])
    def test_identity_is_kept_for_24_hours(self, seconds: float, kept: bool) -> None:
        """S58: not less than 24 h after the last entry went, which was 300 s after the last member."""
        bench = Bench()
        epoch = bench.join(b"s").epoch
        bench.leave(b"s")
        bench.run(300.0)
        assert bench.engine._channels._budget.byte_count == 0
        bench.tick(seconds)
        again = bench.join(b"t")
        assert (again.epoch == epoch) is kept
        assert again.offset == (3 if kept else 1)

    @pytest.mark.parametrize(("seconds", "kept"), [(86_399.999, True), (86_400.0, False)])
    def test_identity_of_a_log_without_entries(self, seconds: float, kept: bool) -> None:
        """S58: 24 h after the last subscriber went."""
        bench = Bench()
        epoch = bench(WatchChannel(channel="room", node="n1", on=True)).epoch
        bench.tick(10.0)
        bench(WatchChannel(channel="room", node="n1", on=False))
        bench.tick(seconds)
        assert (bench.join(b"t").epoch == epoch) is kept

    @pytest.mark.parametrize("user", ["member", "subscriber", "subscriber of the deserted"])
    def test_a_log_in_use_is_never_idle(self, user: str) -> None:
        """S58: while it has a member, or a node that subscribes, its identity has no end."""
        bench = Bench()
        epoch = bench(WatchChannel(channel="room", node="n1", on=True)).epoch
        if user == "member":
            bench.join(b"s")
            bench(WatchChannel(channel="room", node="n1", on=False))
        if user != "subscriber":
            bench.join(b"t", "bob")
            bench.leave(b"t", "bob")
        for _ in range(3):
            bench.run(400.0)
            bench.tick(86_401.0)
        joined = bench.join(b"u", "carol")
        assert joined.epoch == epoch
        assert joined.member_count == (2 if user == "member" else 1)

    def test_idle_logs_are_bounded(self) -> None:
        """S58: the least recently used go first; those with members never."""
        bench = Bench(max_idle_logs=3)
        kept = bench.join(b"s", channel="kept").epoch
        for number in range(10):
            bench(WatchChannel(channel=f"room{number}", node="n", on=False))
            bench(ReadLog(log=f"c:room{number}", epoch=b"", cursor=0, max_bytes=1))
        assert sorted(bench.engine._channels._homes) == ["kept", "room7", "room8", "room9"]
        assert bench(WatchChannel(channel="kept", node="n", on=True)).epoch == kept

    def test_channels_left_behind_are_bounded(self) -> None:
        """S58, S50: with all that they still have, the longest deserted first; those with members never."""
        bench = Bench(max_idle_logs=100)
        bench.join(b"t", "bob", channel="kept")
        for number in range(5000):
            bench.join(b"s", channel=f"room{number}", number=2 * number)
            bench.leave(b"s", channel=f"room{number}", number=2 * number + 1)
            bench.now += 0.001
        homes = bench.engine._channels._homes
        assert sorted(homes) == sorted(["kept", *(f"room{number}" for number in range(4900, 5000))])
        assert bench.engine._channels._budget.byte_count == bytes_of(bench)
        assert len(bench.engine._channels._sweeps) < 1400
        assert bench.join(b"u", channel="room4950").offset == 3
        bench.join(b"v", "carol", channel="one more")
        bench.leave(b"v", "carol", channel="one more")
        assert "room4950" in homes
        bench.run(400.0)
        assert len(homes) == 102
        bench.tick(86_401.0)
        assert sorted(homes) == ["kept", "room4950"]

    def test_many_sweeps_at_one_instant(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """S33, S50: in parts, each as large as what it forgets; nothing is left out."""
        monkeypatch.setattr(_engine_channels, "_WORK_PER_TICK", 10)
        bench = Bench()
        names = [f"room{number}" for number in range(5)]
        for name in names:
            bench.join(b"s", channel=name)
            for number in range(1, 8):
                bench.append(number, channel=name)
        homes = bench.engine._channels._homes

        def entries() -> int:
            return sum(len(homes[name].log) for name in names)

        bench.run(299.9)
        assert entries() == 40
        bench.now = 300.0
        left = []
        for _ in range(3):
            bench.tick()
            left.append(entries())
            if entries():
                assert bench.engine.next_deadline() == bench.now + 0.001
            bench.now += 0.001
        assert left == [24, 8, 0]

    def test_a_sweep_of_a_channel_that_was_forgotten(self) -> None:
        """A stale place in the heap does nothing."""
        bench = Bench(max_idle_logs=1, max_log_bytes=131_072)
        bench.join(b"s")
        bench.leave(b"s", ended=True)
        home = bench.engine._channels._homes["room"]
        bench.run(310.0)
        assert "room" in bench.engine._channels._idle
        bench.engine._channels._sweeps.append((bench.now + 1.0, "room"))
        bench.engine._channels._sweeps.append((bench.now + 1.0, "never"))
        bench.tick(2.0)
        assert bench.engine._channels._homes["room"] is home


class TestNodes:
    """The node home."""

    def test_orders_are_read_with_a_cursor(self) -> None:
        """E9: and passed ones are forgotten."""
        bench = Bench()
        orders = [Order(session_id=b"s", attach=number, code=1, message="") for number in range(3)]
        assert bench(ReadOrders(node="n1", cursor=0)).orders == ()
        for order in orders[:2]:
            bench(PostOrder(node="n1", order=order))
        assert bench.engine.take_announcements() == [("n1", OrdersWaiting())] * 2
        first = bench(ReadOrders(node="n1", cursor=0))
        assert list(first.orders) == orders[:2]
        assert bench(ReadOrders(node="n1", cursor=0)) == first
        bench(PostOrder(node="n1", order=orders[2]))
        second = bench(ReadOrders(node="n1", cursor=first.cursor))
        assert second.orders == (orders[2],)
        assert bench(ReadOrders(node="n1", cursor=second.cursor)).orders == ()
        assert bench(ReadOrders(node="n2", cursor=0)).orders == ()

    def test_a_cursor_forgets_no_more_than_it_has_passed(self) -> None:
        """E9: an order behind the cursor is there until it is passed, one before it never comes again."""
        bench = Bench()
        orders = [Order(session_id=b"s", attach=number, code=1, message="") for number in range(3)]
        cursors = []
        for order in orders:
            bench(PostOrder(node="n1", order=order))
            cursors.append(bench(ReadOrders(node="n1", cursor=0)).cursor)
        assert cursors == sorted(set(cursors))
        for index, cursor in enumerate(cursors):
            left = bench(ReadOrders(node="n1", cursor=cursor))
            assert left.orders == tuple(orders[index + 1 :])
            assert left.cursor == cursors[-1]
        assert bench(ReadOrders(node="n1", cursor=0)).orders == ()

    def test_a_node_that_outlived_the_engine_misses_no_order(self) -> None:
        """E9, E10: numbers rise over a start without memory."""
        before, after = Bench(), Bench()
        order = Order(session_id=b"s", attach=1, code=1, message="")
        for _ in range(1000):
            before(PostOrder(node="n1", order=order))
        cursor = before(ReadOrders(node="n1", cursor=0)).cursor
        after.engine = MemoryEngine(ServerConfig(), entropy=bytes)
        after.engine.set_wall_clock(WALL + 1.0, now=0.0)
        after(PostOrder(node="n1", order=order))
        assert after(ReadOrders(node="n1", cursor=cursor)).orders == (order,)

    def test_a_node_that_reads_nothing_is_bounded(self) -> None:
        """S50."""
        bench = Bench()
        order = Order(session_id=b"s", attach=1, code=1, message="")
        for _ in range(100_010):
            bench(PostOrder(node="dead", order=order))
        assert len(bench(ReadOrders(node="dead", cursor=0)).orders) == 100_000


def test_the_list_of_what_is_idle() -> None:
    """S31, S58: bounded in number and time, the longest idle first."""
    idle = IdleList(3, 100.0)
    for number in range(5):
        idle.add(str(number), float(number))
    idle.add("0", 5.0)
    assert idle.take_expired(5.0) == ["1", "2"]
    assert idle.take_expired(5.0) == []
    assert "3" in idle
    assert idle.take_expired(103.0) == ["3"]
    idle.discard("4")
    idle.discard("4")
    assert idle.take_expired(1e9) == ["0"]


def test_a_new_engine_has_nothing_to_do() -> None:
    """Promise 5."""
    engine = MemoryEngine(ServerConfig(), entropy=bytes)
    assert engine.next_deadline() is None
    engine.handle_timeout(now=5.0)
    assert isinstance(engine.execute(attach_operation(), now=1.0), Attached)


def attach_operation() -> AttachSession:
    return AttachSession(
        uid="alice",
        node="n",
        instance_id=b"i",
        login_id=b"l",
        attempt=0,
        new_session_id=b"s",
        quoted_session_id=None,
        quoted_epoch=None,
        quoted_attach=None,
    )
