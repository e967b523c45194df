"""Leases: what the engine does with a node that dies, and a hub without its engine (E2, E5, E7, E8, E9; F-83, F-89,
F-90)."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from msgspec.structs import replace

from core.fake_client import Bench
from core.test_engine_operations import Bench as EngineBench
from rtm_sansio import _hub_channels
from rtm_sansio.codes import Code
from rtm_sansio.errors import InvalidArgument
from rtm_sansio.events import LeaveCause, LoginWithdrawn
from rtm_sansio.messages import Join, Leave, Logout, PublishText
from rtm_sansio.operations import (
    Append,
    Attached,
    AttachSession,
    ChannelJoined,
    DetachLost,
    DetachSession,
    Ended,
    EndSession,
    JoinChannel,
    LeaveChannel,
    ListChannel,
    LogEnd,
    LostToDo,
    Order,
    OrdersWaiting,
    PostOrder,
    ReadLog,
    ReadOrders,
    Refusal,
    Renewed,
    RenewLease,
    StrikeSessions,
    TakeToDos,
    ToDosWaiting,
    WatchChannel,
)
from rtm_sansio.testing import World


def renewal(step: int, *, node: str = "n1", lease: bytes = b"one", listed: Any = (), struck: Any = ()) -> RenewLease:
    return RenewLease(node=node, lease=lease, step=step, listed=tuple(listed), struck=tuple(struck))


def attachment(uid: str = "alice", *, lease: bytes | None = b"one", node: str = "n1", **changes: Any) -> AttachSession:
    values: dict[str, Any] = {
        "instance_id": b"i" * 16,
        "login_id": b"l" * 16,
        "attempt": 0,
        "new_session_id": b"s" * 16,
        "quoted_session_id": None,
        "quoted_epoch": None,
        "quoted_attach": None,
    }
    return AttachSession(uid=uid, node=node, lease=lease, **{**values, **changes})


class TestInTheEngine:
    """The node's home, and what it leaves to be done (E7)."""

    def test_a_lease_that_runs_out(self) -> None:
        """E7, E6, S24: interrupted one renewal after the last one; 30 s later the session is over, to the instant."""
        engine = EngineBench()
        engine(renewal(0, listed=["alice", "bob"]))
        engine(renewal(0, node="n2", lease=b"two"))
        engine(attachment())
        for step in range(1, 4):
            engine.now += 2.0
            assert engine(renewal(step)) == Renewed(last_order=0)
            engine(renewal(step, node="n2", lease=b"two"))
        renewed_at = engine.now
        engine.now += 5.9
        engine(renewal(9, node="n2", lease=b"two"))
        engine.tick()
        assert engine(TakeToDos(node="n2")) == ()
        engine.tick(0.1)
        assert ("n2", ToDosWaiting()) in engine.engine.take_announcements()
        engine.now += 0.5
        todos = engine(TakeToDos(node="n2"))
        assert todos == tuple(
            LostToDo(uid=uid, node="n1", lease=b"one", silent_seconds=4.5) for uid in ("alice", "bob")
        )
        for todo in todos:
            engine(DetachLost(uid=todo.uid, lease=todo.lease, silent_seconds=todo.silent_seconds))
        engine(StrikeSessions(node="n1", lease=b"one", uids=("alice", "bob")))
        engine(StrikeSessions(node="n1", lease=b"one", uids=("alice",)))
        assert not engine.engine._nodes.has_lost
        assert engine.engine._users._homes["alice"].session.expires_at == renewed_at + 2.0 + 30.0  # type: ignore[union-attr]

    def test_said_again_until_it_is_done(self) -> None:
        """E2: whoever took it may die as well."""
        engine = EngineBench()
        engine(renewal(0, listed=["alice", "bob"]))
        engine.now += 4.0
        engine(renewal(0, node="n2", lease=b"two"))
        engine.tick(2.0)
        assert len(engine(TakeToDos(node="n2"))) == 2
        assert engine(TakeToDos(node="n2")) == ()
        engine.engine.take_announcements()
        engine.tick(1.9)
        assert engine.engine.take_announcements() == []
        engine(StrikeSessions(node="n1", lease=b"one", uids=("bob",)))
        engine.tick(0.1)
        assert engine.engine.take_announcements() == [("n2", ToDosWaiting())]
        (todo,) = engine(TakeToDos(node="n2"))
        assert todo.silent_seconds == 6.0

    def test_many_at_once(self) -> None:
        """E2: what one call does not hand out is announced to everybody at once."""
        engine = EngineBench()
        engine(renewal(0, listed=[f"user{number}" for number in range(1500)]))
        engine.now += 1.0
        engine(renewal(0, node="n2", lease=b"two"))
        engine.tick(5.0)
        engine.engine.take_announcements()
        assert len(engine(TakeToDos(node="n2"))) == 1000
        assert engine.engine.take_announcements() == [("n2", ToDosWaiting())]
        assert len(engine(TakeToDos(node="n2"))) == 500
        assert engine.engine.take_announcements() == []

    def test_two_leases_that_ran_out(self) -> None:
        """E2: striking one leaves the other."""
        engine = EngineBench()
        engine(renewal(0, listed=["alice"]))
        engine(renewal(0, node="n2", lease=b"two", listed=["bob"]))
        engine.tick(6.0)
        assert len(engine(TakeToDos(node="n3"))) == 2
        engine(StrikeSessions(node="n1", lease=b"one", uids=("alice",)))
        assert engine.engine._nodes.has_lost
        engine(StrikeSessions(node="n2", lease=b"two", uids=("bob",)))
        assert engine.engine.next_deadline() is None or engine.engine.next_deadline() != engine.now

    def test_steps(self) -> None:
        """E8: twice is once; a strike that comes late strikes nobody who was listed again."""
        engine = EngineBench()
        engine(renewal(0, listed=["alice"]))
        strike = renewal(1, struck=["alice"])
        engine(strike)
        engine(strike)
        engine(renewal(2, listed=["alice"]))
        assert engine(strike).code == Code.STALE_REQUEST
        engine.tick(6.0)
        assert [todo.uid for todo in engine(TakeToDos(node="n2"))] == ["alice"]

    def test_a_lease_that_is_not_known(self) -> None:
        """E7, E10: it ran out, or the engine has lost its memory: only a beginning begins one."""
        engine = EngineBench()
        assert engine(renewal(3)).code == Code.UNAVAILABLE
        engine(renewal(0, listed=["alice"]))
        engine.tick(6.0)
        assert engine(renewal(1)).code == Code.UNAVAILABLE
        assert engine(renewal(0)).code == Code.UNAVAILABLE
        assert engine(renewal(0, lease=b"another")) == Renewed(last_order=0)

    def test_a_new_process_of_the_same_name(self) -> None:
        """E7: the old one is no more; it was there at its last renewal, and is not there now."""
        engine = EngineBench()
        engine(renewal(0, listed=["alice"]))
        engine.now += 0.5
        engine(renewal(0, lease=b"two"))
        assert engine.engine.next_deadline() == engine.now
        engine.tick()
        assert engine.engine.take_announcements() == [("n1", ToDosWaiting())]
        (todo,) = engine(TakeToDos(node="n1"))
        assert (todo.lease, todo.silent_seconds) == (b"one", 0.0)

    def test_whoever_is_attached_under_another_lease(self) -> None:
        """E8: is not concerned; and nobody is attached any more under the one that ran out."""
        engine = EngineBench()
        lost = DetachLost(uid="alice", lease=b"one", silent_seconds=4.0)
        first = engine(attachment())
        resume = attachment(
            lease=b"two",
            node="n2",
            attempt=1,
            new_session_id=b"t" * 16,
            quoted_session_id=b"s" * 16,
            quoted_epoch=first.login_epoch,
            quoted_attach=1,
        )
        assert engine(resume).resumed
        engine(lost)
        engine(lost)
        session = engine.engine._users._homes["alice"].session
        assert session is not None
        assert session.attached
        late = replace(resume, lease=b"one", attempt=2, new_session_id=b"u" * 16)
        assert engine(late).code == Code.UNAVAILABLE
        assert len(engine.engine._users._homes["alice"].past_leases) == 1
        engine.tick(301.0)
        assert engine(late).resumed  # it is not remembered for ever

    def test_a_login_that_never_came(self) -> None:
        """E7: listed, and the node died before it attached anybody; the mark goes like any user that is not seen."""
        engine = EngineBench()
        engine(DetachLost(uid="alice", lease=b"one", silent_seconds=4.0))
        since = dict(engine.engine._users._idle._since)
        engine.now += 5.0
        engine(DetachLost(uid="alice", lease=b"one", silent_seconds=4.0))
        assert engine.engine._users._idle._since == since
        assert engine(attachment()).code == Code.UNAVAILABLE
        engine.tick(2_592_010.0)
        assert "alice" not in engine.engine._users._homes

    def test_subscriptions_end_with_the_lease(self) -> None:
        """E7: and under one that ran out there is none."""
        engine = EngineBench()
        engine(renewal(0))
        watch = WatchChannel(channel="room", node="n1", on=True, lease=b"one")
        engine(watch)
        engine(WatchChannel(channel="other", node="n2", on=True))
        homes = engine.engine._channels._homes
        assert list(homes["room"].watchers) == ["n1"]
        engine.tick(6.0)
        assert list(homes["room"].watchers) == []
        assert list(homes["other"].watchers) == ["n2"]
        assert isinstance(engine(watch), LogEnd)
        assert list(homes["room"].watchers) == []
        assert engine(TakeToDos(node="n2")) == ()

    def test_orders(self) -> None:
        """E9: a renewal says how far they go; they end with the lease, and one without a lease gets none."""
        engine = EngineBench()
        order = Order(session_id=b"s", attach=1, code=4000, message="")
        engine(renewal(0))
        engine(PostOrder(node="n1", order=order))
        engine(PostOrder(node="gone", order=order))
        cursor = engine(renewal(1)).last_order
        assert engine(ReadOrders(node="n1", cursor=0)).cursor == cursor > 0
        assert engine(ReadOrders(node="gone", cursor=0)).orders == ()
        engine.tick(6.0)
        assert engine(ReadOrders(node="n1", cursor=0)).orders == ()


class TestCarriedOutTwice:
    """What a hub asks again when its connection is back may have been carried out, or may yet be (E8)."""

    def test_a_new_session(self) -> None:
        """S18: the same call, the same answer, one attachment."""
        engine = EngineBench()
        first = engine(attachment())
        assert engine(attachment()) == first
        assert not first.resumed
        engine(DetachSession(uid="alice", session_id=first.session_id, attach=1, silent_seconds=0.0))
        assert engine(attachment()) == first
        session = engine.engine._users._homes["alice"].session
        assert session is not None
        assert not session.attached  # late: the node has told its end already

    def test_a_resume(self) -> None:
        """S18: one attach number; the other node gets one order."""
        engine = EngineBench()
        first = engine(attachment(lease=None))
        resume = attachment(
            lease=None,
            node="n2",
            attempt=1,
            new_session_id=b"t" * 16,
            quoted_session_id=first.session_id,
            quoted_epoch=first.login_epoch,
            quoted_attach=1,
        )
        second = engine(resume)
        assert (second.resumed, second.attach) == (True, 2)
        assert engine(resume) == second

    def test_a_return_whose_session_has_ended(self) -> None:
        """S18, E8: no session is made for a node that waits for none; a call that is really new makes one."""
        engine = EngineBench()
        first = engine(attachment(lease=None))
        engine(DetachSession(uid="alice", session_id=first.session_id, attach=1, silent_seconds=0.0))
        engine.tick(30.0)
        returns = attachment(
            lease=None, attempt=1, new_session_id=b"t" * 16, quoted_epoch=first.login_epoch, quoted_attach=1
        )
        second = engine(returns)
        assert not second.resumed
        logout = EndSession(
            uid="alice",
            session_id=second.session_id,
            cause=LeaveCause.LOGGED_OUT,
            code=Code.TRANSPORT_REPLACED,
            message="",
            spoil_epoch=False,
            ban_seconds=None,
        )
        assert engine(logout).ended
        assert engine(returns).code == Code.UNAVAILABLE
        assert isinstance(engine(replace(returns, new_session_id=b"u" * 16)), Attached)

    def test_an_end_of_whichever_session(self) -> None:
        """S31: a kick that is asked again ends no session that began since, and spoils no later epoch."""
        engine = EngineBench()
        engine(attachment(lease=None))
        kick = EndSession(
            uid="alice",
            session_id=None,
            cause=LeaveCause.KICKED,
            code=Code.KICKED,
            message="",
            spoil_epoch=True,
            ban_seconds=None,
            end_id=b"kick",
        )
        first = engine(kick)
        assert first.ended
        new = engine(attachment(lease=None, login_id=b"m" * 16, new_session_id=b"t" * 16))
        assert isinstance(new, Attached)
        assert engine(kick) == Ended(ended=False, todos=first.todos)
        home = engine.engine._users._homes["alice"]
        assert home.session is not None
        assert home.spoiled is not None
        assert home.spoiled[0] < new.login_epoch

    def test_lists_joins_and_leaves_of_an_earlier_step(self) -> None:
        """E2: a late strike hides no membership, and a late join makes no ghost."""
        engine = EngineBench()
        attached = engine(attachment(lease=None))
        session: dict[str, Any] = {"uid": "alice", "session_id": attached.session_id, "attach": 1}
        listing = ListChannel(channel="room", listed=True, step=1, **session)
        request: dict[str, Any] = {"channel": "room", "number": None, "lowest_unanswered": 0, **session}
        join = JoinChannel(joined_entry=b"j", replaced_entry=b"r", step=2, **request)
        leave = LeaveChannel(left_entry=b"l", resumed_entry=b"", listed=True, ended=False, step=3, **request)
        strike = ListChannel(channel="room", listed=False, step=4, **session)
        assert engine(listing) is None
        assert engine(listing) is None
        assert isinstance(engine(join), ChannelJoined)
        assert engine(join).block is None
        engine(leave)
        assert engine(leave).block is None
        assert engine(join) == engine(replace(join, step=1))
        assert engine(join).code == Code.STALE_REQUEST
        assert engine(strike) is None
        assert engine(replace(listing, step=5)) is None
        engine(replace(join, step=6))
        assert engine(strike).code == engine(leave).code == Code.STALE_REQUEST
        assert list(engine.engine._channels._homes["room"].members) == ["alice"]
        assert list(engine.engine._users._homes["alice"].session.channels) == ["room"]  # type: ignore[union-attr]
        assert engine(replace(leave, ended=True)).block is not None  # the end of the session is never too late

    def test_a_statement_needs_no_list(self) -> None:
        """S47, S59: a join without a number is answered without the members."""
        engine = EngineBench()
        attached = engine(attachment(lease=None))
        joined = engine(
            JoinChannel(
                channel="room",
                uid="alice",
                session_id=attached.session_id,
                attach=1,
                number=None,
                lowest_unanswered=0,
                joined_entry=b"j",
                replaced_entry=b"r",
            )
        )
        assert (joined.members, joined.member_count) == (None, 1)


def renewals(bench: Bench) -> list[RenewLease]:
    return [operation for operation in bench.engine_calls if isinstance(operation, RenewLease)]


class TestTheHubsLease:
    """A hub that has its engine."""

    def test_it_is_renewed_every_two_seconds(self) -> None:
        """E7: counted from when the one before was sent."""
        bench = Bench(nodes=1)
        (begin,) = renewals(bench)
        assert (begin.step, begin.listed, begin.struck) == (0, (), ())
        bench.advance(1.9)
        assert len(renewals(bench)) == 1
        bench.advance(60.1)
        assert [one.step for one in renewals(bench)] == list(range(32))
        assert {one.lease for one in renewals(bench)} == {begin.lease}

    def test_an_embedded_engine_needs_none(self) -> None:
        """E7: no deadline, no list, no comparison, however long its process stands still."""
        bench = Bench()
        alice = bench.login("alice", "room")
        assert bench.hub._lease.is_held
        assert bench.hub._lease._listings == {}
        assert bench.hub._channels.next_deadline() is None
        bench.now += 9.9
        alice.heartbeat()
        assert alice.gone is None
        assert bench.hub._context.lease is None

    def test_listed_before_it_is_attached(self) -> None:
        """E7: and struck with a later renewal, when the engine knows that it is gone."""
        bench = Bench(nodes=1)
        alice = bench.login("alice")
        kinds = [type(operation) for operation in bench.engine_calls]
        assert kinds.index(AttachSession) == 2
        assert renewals(bench)[1].listed == ("alice",)
        alice.lose()
        bench.advance(2.0)
        assert renewals(bench)[-1].struck == ("alice",)
        assert bench.hub._lease._listings == {}
        again = bench.login("alice", resume=alice)
        assert renewals(bench)[-1].listed == ("alice",)
        assert again.welcome.resumed

    def test_many_logins_gather(self) -> None:
        """E3, E7: one call under way; what comes meanwhile goes with the next one."""
        bench = Bench(nodes=1)
        bench.held.add(0)
        for number in range(5):
            bench.open().login(f"user{number}")
        assert len(bench.calls[0]) == 1
        bench.release()
        assert [one.listed for one in renewals(bench)[1:]] == [
            ("user0",),
            ("user1", "user2", "user3", "user4"),
        ]
        assert len(bench.hub._sessions._by_id) == 5

    def test_listed_again_before_it_was_struck(self) -> None:
        """E7: it stays on the list, and nobody waits."""
        bench = Bench(nodes=1)
        alice = bench.login("alice")
        alice.lose()
        before = len(renewals(bench))
        bench.login("alice", resume=alice).keep()
        assert len(renewals(bench)) == before
        bench.advance(2.0)
        assert renewals(bench)[-1].struck == ()

    def test_two_logins_of_one_uid(self) -> None:
        """E7: the uid is on the list for as long as one of them is served."""
        bench = Bench(nodes=1)
        first = bench.login("alice")
        second = bench.login("alice").keep()
        assert first.close_code == Code.REMOTE_LOGIN
        bench.advance(4.0)
        assert [one.struck for one in renewals(bench)] == [()] * len(renewals(bench))
        second.send(Logout(1))
        bench.advance(2.0)
        assert renewals(bench)[-1].struck == ("alice",)

    @pytest.mark.parametrize("how", ["replaced here", "resumed elsewhere", "logged out", "refused", "gone"])
    def test_everybody_is_struck_in_the_end(self, how: str) -> None:
        """E7: the list is bounded by those who are served."""
        bench = Bench(nodes=2)
        alice = bench.login("alice", "room")
        if how == "replaced here":
            bench.login("alice", resume=alice).lose()
        elif how == "resumed elsewhere":
            bench.login("alice", node=1, resume=alice)
        elif how == "logged out":
            alice.send(PublishText(5, "room", "x"), Logout(6))
            alice.lose()
        elif how == "refused":
            bench.hub.ban("bob", 10.0, now=bench.now)
            assert bench.login("bob").refusal.code == Code.BANNED
            alice.lose()
        else:
            bench.auto_login = ...
            new = bench.open()
            new.login("bob")
            bench.held.add(0)
            bench.hub.accept_login(new.id, now=bench.now)
            bench.settle()
            new.lose()
            bench.release()
            assert not any(isinstance(one, AttachSession) and one.uid == "bob" for one in bench.engine_calls)
            alice.lose()
        bench.advance(4.0)
        assert bench.hub._lease._listings == {}

    def test_logged_out_and_gone_while_the_uid_is_listed(self) -> None:
        """S7: the session that it would have resumed ends all the same."""
        bench = Bench(nodes=2)
        alice = bench.login("alice", "room", node=1)
        alice.lose()
        bench.held.add(0)
        back = bench.open(node=0)
        back.login("alice", resume=alice, want=None)
        back.send(Logout(1))
        back.lose()
        bench.release(0)
        assert bench.engine._users._homes["alice"].session is None
        bench.advance(3.0)
        assert bench.hub._lease._listings == {}

    def test_refused_when_it_was_gone(self) -> None:
        """E7: nobody is told, and the list is right."""
        bench = Bench(nodes=1)
        bench.hub.ban("alice", 10.0, now=bench.now)
        bench.settle()
        bench.held.add(0)
        alice = bench.open()
        alice.login("alice")
        bench.answer()  # listed
        bench.settle()
        alice.lose()
        bench.release()
        bench.advance(4.0)
        assert bench.hub._lease._listings == {}

    def test_handed_out_again_while_it_is_being_done(self) -> None:
        """E2: a dead node's sessions are detached once, however often the engine asks for it."""
        bench = Bench(nodes=1)
        bench.held.add(0)
        todo = LostToDo(uid="alice", node="node9", lease=b"nine", silent_seconds=4.0)
        for _ in range(3):
            bench.hub._sessions.carry_out((todo,))
        bench.settle()
        assert [type(call.operation) for call in bench.calls[0]] == [DetachLost]
        bench.release()
        assert [type(operation) for operation in bench.engine_calls[-2:]] == [DetachLost, StrikeSessions]
        bench.hub._sessions.carry_out((todo,))
        bench.settle()
        assert [type(operation) for operation in bench.engine_calls[-2:]] == [DetachLost, StrikeSessions]

    def test_a_channel_of_a_statement_that_is_refused(self) -> None:
        """S44, S59: the session went on elsewhere meanwhile; whatever is answered, the others are not disturbed."""
        bench = Bench(nodes=2)
        alice = bench.login("alice", "room", node=0)
        alice.lose()
        bench.held.add(0)
        back = bench.open(node=0)
        back.login("alice", resume=alice, want=[alice.cursor("room")])
        while not isinstance(bench.calls[0][0].operation, JoinChannel):
            bench.answer(0)
            bench.settle()
        call = bench.calls[0].pop(0)
        refusal = Refusal(Code.STALE_REQUEST, "the session went on on another transport")
        bench.hub.engine_answered(call.call_id, refusal, now=bench.now)
        bench.settle()
        bench.release(0)
        ((channel, code),) = [(result.channel, result.code) for result in back.restored]
        assert (channel, code) == ("room", Code.STALE_REQUEST)

    def test_too_many_wait_to_be_listed(self) -> None:
        """E3: an engine that hangs is no reason to keep more and more of one uid."""
        bench = Bench(nodes=1)
        bench.held.add(0)
        for _ in range(64):
            bench.login("alice", want=None).lose()
        assert bench.login("alice").refusal.code == Code.UNAVAILABLE
        bench.release()
        assert AttachSession not in {type(operation) for operation in bench.engine_calls}

    def test_an_order_whose_announcement_was_lost(self) -> None:
        """E9: the next renewal tells of it."""
        bench = Bench(nodes=2)
        alice = bench.login("alice", node=1)
        bench.announce = bench.engine.take_announcements  # type: ignore[assignment, method-assign]
        bench.hubs[0].kick("alice", now=bench.now)
        bench.settle()
        assert alice.close_code is None
        bench.advance(2.0)
        assert alice.close_code == Code.KICKED


def _tick(bench: Bench, client: Any) -> None:
    bench.hub.handle_timeout(now=bench.now)


def _bytes(bench: Bench, client: Any) -> None:
    bench.hub.receive_data(client.id, client.wire.frame(b"\x90"), now=bench.now)


def _answer(bench: Bench, client: Any) -> None:
    call = bench.calls[0].pop(0)
    bench.hub.engine_answered(call.call_id, bench.engine.execute(call.operation, now=bench.now), now=bench.now)


INPUTS: list[Callable[[Bench, Any], None]] = [
    _tick,
    _bytes,
    _answer,
    lambda bench, client: bench.hub.engine_announced(OrdersWaiting(), now=bench.now),
    lambda bench, client: bench.hub.engine_lost(now=bench.now),
    lambda bench, client: bench.hub.engine_restored(now=bench.now),
    lambda bench, client: bench.hub.transport_lost(999, None, now=bench.now),
    lambda bench, client: bench.hub.unsent(client.id, 0, now=bench.now),
    lambda bench, client: bench.hub.flush(now=bench.now),
    lambda bench, client: bench.hub.set_wall_clock(bench.wall, now=bench.now),
    lambda bench, client: bench.hub.kick("nobody", now=bench.now),
    lambda bench, client: bench.hub.accept_login(999, now=bench.now),
]


class TestALeaseThatIsOver:
    """E7, E8: drops all its transports before anything else, and forgets what was under way."""

    @pytest.mark.parametrize("number", range(len(INPUTS)))
    def test_whatever_comes_first(self, number: int) -> None:
        """F-90: a process that stood still for longer than its lease, whichever input it gets first."""
        bench = Bench(nodes=2)
        witness = bench.login("witness", "room", node=1).keep()
        alice = bench.login("alice", "room", node=0)
        bench.held.add(0)
        alice.send(PublishText(9, "room", "under way"))
        alice.send(PublishText(10, "room", "gathered"))
        bench.hub.receive_data(
            alice.id, alice.wire.frame(b"\x91\x94\x10\x0b\xa4room\xa3raw"), now=bench.now
        )  # not even flushed
        bench.now += 6.0
        called = len(bench.engine_calls)
        INPUTS[number](bench, alice)
        bench.settle()
        assert alice.close_code == Code.UNAVAILABLE
        assert alice.answers(9) == alice.answers(10) == []
        new = bench.engine_calls[called:]
        assert {type(operation) for operation in new} <= {RenewLease, EndSession}
        assert Append not in {type(operation) for operation in new}
        bench.held.discard(0)
        bench.calls[0] = bench.calls[0][1:] if number != INPUTS.index(_answer) else bench.calls[0]
        while bench.calls[0]:
            bench.answer(0)
            bench.settle()
        bench.engine.handle_timeout(now=bench.now)
        assert bench.hub._lease.is_held
        assert "gathered" not in witness.texts("room")

    def test_before_it_and_at_it(self) -> None:
        """E7: counted from when the renewal was sent, to the instant."""
        bench = Bench(nodes=1)
        alice = bench.login("alice").keep()
        bench.advance(10.0)
        bench.held.add(0)
        sent_at = bench.hub._lease._sent_at
        bench.now = sent_at + 5.999
        bench.tick()
        assert alice.close_code is None
        bench.now = sent_at + 6.0
        assert bench.hub.next_deadline() == bench.now
        bench.tick()
        assert alice.close_code == Code.UNAVAILABLE

    def test_every_kind_of_transport(self) -> None:
        """E7: whoever is being judged is told to try elsewhere; whoever has not logged in may, and is refused until
        there is a lease again; nothing is asked of the engine for any of them."""
        bench = Bench(nodes=1)
        bench.login("alice", "room")
        bench.auto_login = ...
        judged, early, closing = bench.open(), bench.open(), bench.open()
        judged.login("bob")
        closing.raw(closing.wire.frame(b"no batch"))
        bench.held.add(0)
        bench.now += 6.0
        bench.tick()
        bench.held.discard(0)
        assert judged.refusal.code == Code.UNAVAILABLE
        assert any(isinstance(event, LoginWithdrawn) for event in bench.events)
        assert early.close_code is None
        bench.auto_login = None
        early.login("carol")
        assert early.refusal.code == Code.UNAVAILABLE
        while bench.calls[0]:
            bench.answer()
            bench.settle()
        assert bench.login("carol", "room").joined["room"].member_count >= 1

    def test_answers_of_before_are_not_heard(self) -> None:
        """E8: nothing that was asked under the old lease has any effect here."""
        bench = Bench(nodes=1)
        alice = bench.login("alice", "room")
        bench.held.add(0)
        alice.send(PublishText(9, "room", "x"))
        alice.send(Join(10, "den"))
        before = list(bench.calls[0])
        bench.now += 6.0
        bench.tick()
        for call in before:
            answer = bench.engine.execute(call.operation, now=bench.now)
            bench.hub.engine_answered(call.call_id, answer, now=bench.now)
            bench.settle()
        assert alice.answers(9) == alice.answers(10) == []
        assert bench.hub._channels._by_home == {}
        assert bench.hub._sessions._by_id == {}

    def test_calls_that_the_driver_has_not_taken(self) -> None:
        """E8: they are withdrawn."""
        bench = Bench(nodes=1)
        alice = bench.login("alice", "room")
        bench.hub.receive_data(alice.id, alice.wire.frame(b"\x90"), now=bench.now)
        bench.hub.kick("alice", now=bench.now)
        bench.now += 6.0
        bench.hub.handle_timeout(now=bench.now)
        bench.held.add(0)
        bench.settle()
        assert [type(call.operation) for call in bench.calls[0]] == [RenewLease]
        assert bench.calls[0][0].operation.step == 0  # type: ignore[union-attr]

    def test_an_engine_that_lost_its_memory(self) -> None:
        """E10, F-84: the renewal is refused: the sessions are gone, and their clients log in anew by themselves."""
        bench = Bench(nodes=1)
        alice = bench.login("alice", "room")
        bench.advance(1.0)
        bench.new_engine()
        bench.advance(1.0)
        assert alice.close_code == Code.UNAVAILABLE
        back = bench.login("alice", resume=alice, want=[alice.cursor("room")])
        assert not back.welcome.resumed
        assert bench.hub._lease.is_held

    def test_an_engine_that_refuses_a_beginning(self) -> None:
        """E7: asked again after the time of a renewal, not in a loop."""
        bench = Bench(nodes=1)
        bench.held.add(0)
        bench.now += 6.0
        bench.tick()
        refusal = Refusal(Code.INTERNAL_ERROR, "out of memory")
        bench.calls[0] = bench.calls[0][-1:]
        for _ in range(3):
            (call,) = bench.calls[0]
            bench.calls[0].clear()
            bench.hub.engine_answered(call.call_id, refusal, now=bench.now)
            bench.settle()
            assert bench.calls[0] == []
            bench.now += 2.0
            bench.tick()
        assert bench.login("alice").refusal.code == Code.UNAVAILABLE
        bench.release()
        assert bench.login("alice").welcome.attach == 1

    def test_an_answer_that_was_too_long_under_way(self) -> None:
        """E7: nothing may be built on it; asked again."""
        bench = Bench(nodes=1)
        bench.held.add(0)
        bench.now += 6.0
        bench.tick()
        bench.calls[0] = bench.calls[0][-1:]
        begin = bench.calls[0].pop(0)
        answer = bench.engine.execute(begin.operation, now=bench.now)
        bench.now += 6.0
        bench.hub.engine_answered(begin.call_id, answer, now=bench.now)
        bench.settle()
        assert not bench.hub._lease.is_held
        bench.release()
        assert bench.hub._lease.is_held

    def test_a_hub_that_was_closed(self) -> None:
        """E7: it renews nothing and loses nothing; what it hands over, it hands over."""
        bench = Bench(nodes=2)
        bench.login("alice", "room", node=0)
        bench.hub.close(now=bench.now)
        bench.settle()
        before = len(renewals(bench))
        bench.hubs.pop(0)  # its driver goes on for a moment, and has no timer
        assert bench.engine._users._homes["alice"].session.attached is False  # type: ignore[union-attr]
        assert len(renewals(bench)) == before


class TestTheConnection:
    """The connection of a hub to its engine breaks and comes back (E5, E9, F-83)."""

    def test_unanswered_calls_are_asked_again(self) -> None:
        """The same ids; what comes meanwhile waits; silences have gone on."""
        bench = Bench(nodes=2)
        witness = bench.login("witness", "room", node=1).keep()
        alice, bob = bench.login("alice", "room", node=0), bench.login("bob", "room", node=0)
        bench.held.add(0)
        alice.send(PublishText(9, "room", "under way"))
        (under_way,) = bench.calls[0]
        bench.engine.execute(under_way.operation, now=bench.now)  # carried out, and the answer is lost
        bench.calls[0].clear()
        bench.engine.take_announcements()
        bench.hub.engine_lost(now=bench.now)
        bob.lose()
        alice.send(PublishText(10, "room", "meanwhile"))
        assert bench.calls[0] == []
        bench.now += 1.5
        bench.hub.engine_restored(now=bench.now)
        bench.hub.engine_restored(now=bench.now)
        bench.settle()
        again = {type(call.operation): call for call in bench.calls[0]}
        assert again[Append].call_id == under_way.call_id
        assert again[DetachSession].operation.silent_seconds == pytest.approx(1.5)  # type: ignore[union-attr]
        bench.release(0)
        assert (alice.answer(9).offset, alice.answer(10).offset) == (4, 5)
        assert witness.texts("room") == ["under way", "meanwhile"]

    def test_whatever_was_announced_meanwhile(self) -> None:
        """E5, E9: blocks, orders and things to do."""
        bench = Bench(nodes=2)
        alice, bob = bench.login("alice", "room", node=0), bench.login("bob", "room", node=1).keep()
        carol = bench.login("carol", node=0)
        bench.hub.engine_lost(now=bench.now)
        announce = bench.announce
        bench.announce = bench.engine.take_announcements  # type: ignore[assignment, method-assign]
        bob.publish("room", "unheard")
        bench.hubs[1].kick("carol", now=bench.now)
        bench.settle()
        bench.announce = announce  # type: ignore[method-assign]
        assert (alice.texts("room"), carol.close_code) == ([], None)
        bench.hub.engine_restored(now=bench.now)
        bench.settle()
        assert (alice.texts("room"), carol.close_code) == (["unheard"], Code.KICKED)
        assert TakeToDos in {type(operation) for operation in bench.engine_calls}

    def test_a_channel_that_is_not_subscribed_yet(self) -> None:
        """E5: its subscription is among what is asked again."""
        bench = Bench(nodes=1)
        alice = bench.login("alice")
        bench.held.add(0)
        alice.send(Join(1, "room"))
        bench.answer()
        bench.settle()
        assert isinstance(bench.calls[0][0].operation, WatchChannel)
        bench.calls[0].clear()
        bench.hub.engine_lost(now=bench.now)
        bench.hub.engine_restored(now=bench.now)
        bench.settle()
        assert [type(call.operation) for call in bench.calls[0]] == [WatchChannel, ReadLog, ReadOrders]  # of the inbox
        bench.release()
        assert alice.answer(1).offset == 1

    def test_a_hub_that_was_closed(self) -> None:
        """Its last words are said again; nothing else."""
        bench = Bench(nodes=1)
        bench.login("alice", "room")
        bench.hub.engine_lost(now=bench.now)
        bench.hub.close(now=bench.now)
        bench.settle()
        bench.held.add(0)
        bench.hub.engine_restored(now=bench.now)
        bench.settle()
        assert {type(call.operation) for call in bench.calls[0]} == {DetachSession, WatchChannel}

    def test_an_embedded_engine(self) -> None:
        """It has no connection that could break: both reports do nothing."""
        bench = Bench()
        alice = bench.login("alice", "room")
        bench.hub.engine_lost(now=bench.now)
        assert alice.publish("room", "x").offset == 2
        bench.hub.engine_restored(now=bench.now)
        assert alice.publish("room", "y").offset == 3


class TestEnds:
    """E5: the ends of all logs are compared in time."""

    def test_in_time_and_not_at_one_instant(self) -> None:
        """Each at least every 30 s; many channels in many small batches."""
        bench = Bench(nodes=1, max_channels=200)
        bench.login("alice", *(f"room{number}" for number in range(200))).keep()
        before = len(bench.engine_calls)
        compared: dict[str, list[float]] = {}
        most = 0
        for _ in range(1000):
            bench.advance(0.1)
            new = [one.channel for one in bench.engine_calls[before:] if isinstance(one, WatchChannel)]
            before = len(bench.engine_calls)
            most = max(most, len(new))
            for channel in new:
                compared.setdefault(channel, []).append(bench.now)
        assert most < 20
        assert len(compared) == 200
        for times in compared.values():
            assert times[0] <= 1000.0 + 30.5
            assert all(0.0 < later - earlier <= 30.1 for earlier, later in itertools.pairwise(times))

    def test_an_end_that_is_behind_what_is_known(self) -> None:
        """E10: the engine has lost the tail of a log: a gap for its readers, and then it goes on. An end that a block
        has overtaken is nothing."""
        bench = Bench(nodes=1)
        alice, bob = bench.login("alice", "room"), bench.login("bob", "room")
        bob.publish("room", "one")
        channel = bench.hub._channels._by_home["c:room"]
        bench.held.add(0)
        bench.hub._channels._compare(channel)
        bench.settle()
        compare = bench.calls[0].pop(0)
        end = bench.engine.execute(compare.operation, now=bench.now)
        channel.end += 1
        bench.hub.engine_answered(compare.call_id, end, now=bench.now)
        bench.settle()
        assert bench.calls[0] == []
        channel.end -= 1
        bench.hub._channels._compare(channel)
        bench.settle()
        compare = bench.calls[0].pop(0)
        bench.hub.engine_answered(compare.call_id, replace(end, end=end.end - 1), now=bench.now)
        bench.settle()
        assert [type(call.operation) for call in bench.calls[0]] == [ReadLog]
        bench.release()
        assert alice.texts("room") == ["one"]

    def test_another_epoch(self) -> None:
        """E5: found by comparison, without any block."""
        bench = Bench(nodes=1)
        alice = bench.login("alice", "room").keep()
        del bench.engine._channels._homes["room"]
        bench.advance(30.1)
        (gap,) = alice.gaps("room")
        assert gap.count is None

    def test_a_channel_that_was_left_meanwhile(self) -> None:
        """F-36: its answer is for nobody, and it is not compared again."""
        bench = Bench(nodes=1)
        alice = bench.login("alice", "room").keep()
        bench.held.add(0)
        bench.hub._channels._compare(bench.hub._channels._by_home["c:room"])
        bench.settle()
        alice.send(Leave(5, "room"))
        bench.release()
        before = len(bench.engine_calls)
        bench.advance(40.0)
        assert WatchChannel not in {type(operation) for operation in bench.engine_calls[before:]}
        assert {entry[2].name for entry in bench.hub._channels._comparisons} == {""}  # the inbox alone

    def test_left_before_the_comparison_is_answered(self) -> None:
        """F-36: on the channel's lane the end of the subscription comes behind it."""
        bench = Bench(nodes=1)
        alice = bench.login("alice", "room")
        bench.held.add(0)
        bench.hub._channels._compare(bench.hub._channels._by_home["c:room"])
        bench.settle()
        alice.lose()
        bench.release()
        assert bench.hub._channels._by_home == {}

    def test_channels_that_come_and_go(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """What is kept for the comparison is bounded by the channels that there are."""
        monkeypatch.setattr(_hub_channels, "_STALE_COMPARISONS", 24)
        bench = Bench(nodes=1)
        for number in range(100):
            bench.login(f"user{number}", f"room{number}").lose()
        assert len(bench.hub._channels._comparisons) <= 25


class TestTheWorld:
    """The virtual connection to the engine says what it cannot do."""

    def test_an_engine_inside(self) -> None:
        link = World().nodes[0].engine
        for fault in (link.cut, link.stall, lambda: link.die_after(1)):
            with pytest.raises(InvalidArgument, match="external_engine=True"):
                fault()
        world = World(nodes=2)
        with pytest.raises(InvalidArgument, match="0 or more"):
            world.nodes[0].engine.cut(-1.0)

    def test_a_node_that_does_not_stand_still(self) -> None:
        world = World(nodes=2)
        alice = world.login("alice", "room")
        world.wake_node(0)
        world.pause_node(0, 1.0)
        world.wake_node(0)
        world.run(5.0)
        assert alice.changes == [("CONNECTING", "LOGIN"), ("CONNECTED", "LOGIN_SUCCESS")]
