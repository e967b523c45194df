"""Online status: asked for, watched, told once, through reconnects and restarts (S14, S22, S36, S39, S45, S55, S57,
S59, E6, E8), and what it costs."""

from __future__ import annotations

import random
from typing import Any

import pytest

from core.fake_client import Bench, FakeClient
from rtm_sansio import _hub_statuses, _hub_transports
from rtm_sansio._engine_shared import IdleList
from rtm_sansio._hubparts import AttachedSession, Subscriptions, WatchedUser
from rtm_sansio.codes import Code
from rtm_sansio.config import ServerConfig
from rtm_sansio.engine import MemoryEngine
from rtm_sansio.errors import ConfigError
from rtm_sansio.messages import (
    Done,
    Failed,
    Login,
    Logout,
    PeerSent,
    PeerText,
    ReadStatus,
    Restored,
    StatusChanged,
    Statuses,
    UnwatchStatus,
    UserStatus,
    Want,
    WantedStatus,
    WatchStatus,
)
from rtm_sansio.operations import (
    OFFLINE,
    ONLINE,
    UNREACHABLE,
    DetachSession,
    InboxStart,
    RenewLease,
    ReportSilence,
    StatusAnnounced,
    StatusOf,
)
from rtm_sansio.operations import WatchStatus as WatchOperation

START = 1_700_001_000_000
"""Unix milliseconds at which a bench begins."""


def at(seconds: float) -> int:
    return START + round(seconds * 1000)


def watch(client: FakeClient, *uids: str) -> list[tuple[int, int | None, int | None]]:
    """Subscribe, and what the answer says of each."""
    number = client.next_number()
    client.send(WatchStatus(number, uids))
    answer = client.answer(number)
    assert [status.uid for status in answer.statuses] == list(uids)
    return [(status.state, status.since, status.expires_at) for status in answer.statuses]


def ask(client: FakeClient, *uids: str) -> list[tuple[int, int | None, int | None]]:
    number = client.next_number()
    client.send(ReadStatus(number, uids))
    return [(status.state, status.since, status.expires_at) for status in client.answer(number).statuses]


def told(client: FakeClient, uid: str = "alice") -> list[tuple[int, int | None, int | None]]:
    """What was pushed of a user."""
    return [
        (status.state, status.since, status.expires_at)
        for changed in client.of(StatusChanged)
        for status in changed.statuses
        if status.uid == uid
    ]


def states(client: FakeClient, uid: str = "alice") -> list[int]:
    return [state for state, _, _ in told(client, uid)]


def engine_of(bench: Bench) -> MemoryEngine:
    embedded = bench.engine if bench.external else bench.hub._engine._embedded
    assert embedded is not None
    return embedded


def watched(bench: Bench, node: int = 0) -> dict[str, WatchedUser]:
    return bench.hubs[node]._requests.statuses._users


def check_books(bench: Bench) -> None:
    """Both sides of every subscription know their places, users in use are those that are watched, and the engine
    announces exactly these."""
    for node, hub in enumerate(bench.hubs):
        sessions: dict[AttachedSession, None] = {}
        for user in watched(bench, node).values():
            assert user.users == len(user.sessions) == len(user.places) > 0
            for place, session in enumerate(user.sessions):
                sessions[session] = None
                assert session.link is not None
                assert session.watching is not None
                assert session.watching.users[user.places[place]] is user
                assert session.watching.places[user.places[place]] == place
        for session in hub._sessions._by_id.values():
            assert (session.watching is not None) == (session in sessions)
            if session.watching is not None:
                assert len(set(session.watching.users)) == len(session.watching.users) > 0
        told_of = {uid for uid, nodes in engine_of(bench)._users._statuses._watchers.items() if f"node{node}" in nodes}
        assert told_of == set(watched(bench, node))


@pytest.fixture(params=[0, 1, 2], ids=["embedded", "external", "two nodes"])
def bench(request: pytest.FixtureRequest) -> Bench:
    return Bench(nodes=request.param)


def other_node(bench: Bench) -> int:
    return len(bench.hubs) - 1


class TestTransitions:
    """S39, S57: each change of state, with its times, announced once."""

    def test_from_login_to_expiry(self, bench: Bench) -> None:
        """S22, S24: silent for 6 s, dropped at 10 s, gone at 30 s; the drop is no change."""
        watcher = bench.login("watcher").keep()
        assert watch(watcher, "alice") == [(OFFLINE, None, None)]
        bench.advance(1.0)
        alice = bench.login("alice", node=other_node(bench))
        assert told(watcher) == [(ONLINE, at(1.0), None)]
        bench.advance(5.9)
        assert len(told(watcher)) == 1
        bench.advance(0.2)
        assert told(watcher)[1:] == [(UNREACHABLE, at(7.0), at(31.0))]
        assert ask(watcher, "alice", "alice", "watcher") == [(UNREACHABLE, at(7.0), at(31.0)), (ONLINE, at(0.0), None)]
        bench.advance(3.0)
        assert alice.gone is None
        bench.advance(1.0)
        assert alice.gone == "abort"
        bench.advance(19.8)
        assert len(told(watcher)) == 2
        bench.advance(0.2)
        assert told(watcher)[2:] == [(OFFLINE, at(31.0), None)]
        bench.advance(100.0)
        assert len(told(watcher)) == 3
        check_books(bench)

    def test_heard_again(self, bench: Bench) -> None:
        """S39: a byte is enough; and the next silence is noticed after 6 s again."""
        watcher = bench.login("watcher").keep()
        alice = bench.login("alice", node=other_node(bench))
        watch(watcher, "alice")
        bench.advance(7.0)
        alice.heartbeat()
        assert told(watcher) == [(UNREACHABLE, at(6.0), at(30.0)), (ONLINE, at(7.0), None)]
        bench.advance(5.9)
        assert len(told(watcher)) == 2
        bench.advance(0.1)
        assert told(watcher)[2:] == [(UNREACHABLE, at(13.0), at(37.0))]

    def test_heard_again_with_a_long_patience(self) -> None:
        """S39: also where a silent transport is dropped much later."""
        bench = Bench(silence_timeout_seconds=25.0)
        watcher, alice = bench.login("watcher").keep(), bench.login("alice")
        watch(watcher, "alice")
        bench.advance(6.5)
        alice.heartbeat()
        bench.advance(6.5)
        assert states(watcher) == [UNREACHABLE, ONLINE, UNREACHABLE]

    @pytest.mark.parametrize("start", [0.1, 0.3, 0.7, 1.1, 3.3, 1e6 + 0.1])
    def test_rounding_drops_nobody(self, start: float) -> None:
        """S14, S39: at 6 s, whatever the difference of two floats is."""
        for step in range(50):
            bench = Bench()
            bench.now = bench.hub._context.now = start + step * 0.123456789
            bench.hub._context.now = bench.now
            alice = bench.login("alice")
            bench._advance(6.0 + 1e-6)
            assert alice.gone is None
            status = engine_of(bench)._users._homes["alice"].status
            assert status.state == UNREACHABLE

    def test_lost_and_resumed(self, bench: Bench) -> None:
        """S14, S22: after an EOF the user is online for 6 s; a resume within them is no change."""
        watcher = bench.login("watcher").keep()
        first = bench.login("alice", node=other_node(bench))
        watch(watcher, "alice")
        first.lose()
        bench.advance(5.0)
        second = bench.open(node=0)
        second.login("alice", resume=first)
        assert second.welcome.resumed
        assert told(watcher) == []
        second.lose()
        bench.advance(6.0)
        third = bench.open(node=other_node(bench))
        third.login("alice", resume=second)
        assert told(watcher) == [(UNREACHABLE, at(11.0), at(35.0)), (ONLINE, at(11.0), None)]
        third.keep()
        bench.advance(60.0)
        assert len(told(watcher)) == 2

    def test_the_end_of_a_silent_transport(self, bench: Bench) -> None:
        """S14: the interruption is at the EOF, so the session ends later than was said; it stays unreachable."""
        watcher, alice = bench.login("watcher").keep(), bench.login("alice")
        watch(watcher, "alice")
        bench.advance(8.0)
        alice.lose()
        assert told(watcher) == [(UNREACHABLE, at(6.0), at(30.0)), (UNREACHABLE, at(6.0), at(38.0))]
        bench.advance(29.9)
        assert len(told(watcher)) == 2
        bench.advance(0.1)
        assert told(watcher)[2:] == [(OFFLINE, at(38.0), None)]

    def test_a_late_tick(self) -> None:
        """S24, S57: what is between is folded or told, the last is right, and its time is the one of the rule."""
        bench = Bench()  # a hub with an engine outside would have lost its lease
        watcher, alice = bench.login("watcher"), bench.login("alice")
        watch(watcher, "alice")
        alice.lose()
        bench.now += 50.0
        watcher.heartbeat()
        bench.tick()
        assert told(watcher)[-1] == (OFFLINE, at(30.0), None)
        assert ask(watcher, "alice") == [(OFFLINE, at(30.0), None)]

    @pytest.mark.parametrize("how", ["logout", "kick", "ban"])
    @pytest.mark.parametrize("silent", [False, True])
    def test_ends(self, bench: Bench, how: str, silent: bool) -> None:
        """S7, S30, S39: offline at once; one change."""
        watcher, alice = bench.login("watcher").keep(), bench.login("alice")
        bench.advance(0.5)
        watch(watcher, "alice")
        if silent:
            bench.advance(6.0)
        before = len(told(watcher))
        if how == "logout":
            alice.send(Logout(alice.next_number()))
        elif how == "kick":
            bench.hub.kick("alice", now=bench.now)
        else:
            bench.hub.ban("alice", 10.0, now=bench.now)
        bench.settle()
        assert [state for state, _, _ in told(watcher)[before:]] in ([OFFLINE], [ONLINE, OFFLINE])
        assert told(watcher)[-1] == (OFFLINE, at(bench.now - 1000.0), None)
        if how != "logout" or not silent:
            assert len(told(watcher)) == before + 1

    @pytest.mark.parametrize("interrupted", [False, True])
    def test_taken_over(self, bench: Bench, interrupted: bool) -> None:
        """S30: another instance takes the place: whoever is online stays so."""
        watcher, first = bench.login("watcher").keep(), bench.login("alice")
        watch(watcher, "alice")
        if interrupted:
            first.lose()
            bench.advance(7.0)
        bench.advance(1.0)
        second = bench.login("alice", node=other_node(bench)).keep()
        assert second.welcome.resumed is False
        expected = [(UNREACHABLE, at(6.0), at(30.0)), (ONLINE, at(8.0), None)] if interrupted else []
        assert told(watcher) == expected
        bench.advance(40.0)
        assert told(watcher) == expected

    def test_a_login_after_the_end_that_nobody_has_noticed(self) -> None:
        """S24, S57."""
        bench = Bench()
        watcher, first = bench.login("watcher"), bench.login("alice")
        watch(watcher, "alice")
        first.lose()
        bench.now += 30.0
        watcher.heartbeat()
        bench.login("alice")
        assert told(watcher)[-1] == (ONLINE, at(30.0), None)

    def test_late_reports_are_void(self, bench: Bench) -> None:
        """E8: of an older attachment, of an older session, of one that is detached."""
        first = bench.login("alice")
        second = bench.open()
        second.login("alice", resume=first)
        engine, welcome = engine_of(bench), second.welcome

        def report(attach: int, silent: float, session_id: bytes = welcome.session_id) -> None:
            operation = ReportSilence(uid="alice", session_id=session_id, attach=attach, silent_seconds=silent)
            engine.execute(operation, now=bench.now)

        report(1, 7.0)
        report(2, 7.0, b"x" * 16)
        assert ask(second, "alice") == [(ONLINE, at(0.0), None)]
        bench.now += 1.0
        operation = DetachSession(uid="alice", session_id=welcome.session_id, attach=1, silent_seconds=9.0)
        engine.execute(operation, now=bench.now)
        assert ask(second, "alice") == [(ONLINE, at(0.0), None)]
        second.lose()
        bench.advance(7.0)
        report(2, 0.0)
        watcher = bench.login("watcher")
        assert ask(watcher, "alice") == [(UNREACHABLE, at(7.0), at(31.0))]

    def test_a_paused_link_is_not_silent(self) -> None:
        """S14, S51: nobody reads it."""
        bench = Bench(write_stall_seconds=60.0)
        alice, watcher = bench.login("alice"), bench.login("watcher").keep()
        watch(watcher, "alice")
        alice.hub.unsent(alice.id, 300 * 1024, now=bench.now)
        bench.settle()
        assert alice.paused
        bench.advance(9.0)
        assert told(watcher) == []
        alice.hub.unsent(alice.id, 0, now=bench.now)
        bench.advance(6.0)
        assert states(watcher) == [UNREACHABLE]

    def test_a_stalled_link_is_dropped(self) -> None:
        """S51: and what was silent until then is unreachable from its last byte."""
        bench = Bench(write_stall_seconds=7.0)
        alice, watcher = bench.login("alice"), bench.login("watcher").keep()
        watch(watcher, "alice")
        alice.hub.unsent(alice.id, 10, now=bench.now)
        bench.advance(7.0)
        assert alice.gone == "abort"
        assert told(watcher) == [(UNREACHABLE, at(6.0), at(30.0))]

    def test_unreachable_only_once_it_is_dropped(self) -> None:
        """S39: where silence ends a transport before it counts."""
        bench = Bench(unreachable_seconds=12.0, silence_timeout_seconds=10.0)
        alice, watcher = bench.login("alice"), bench.login("watcher").keep()
        watch(watcher, "alice")
        bench.advance(11.0)
        assert alice.gone == "abort"
        assert told(watcher) == []
        bench.advance(1.0)
        assert told(watcher) == [(UNREACHABLE, at(12.0), at(30.0))]

    def test_messages_for_the_unreachable_are_kept(self, bench: Bench) -> None:
        """S36: ``received`` only if its session was heard within 6 s."""
        sender, alice = bench.login("sender").keep(), bench.login("alice")

        def send() -> tuple[bool, bool]:
            number = sender.next_number()
            sender.send(PeerText(number, "alice", "text"))
            answer = sender.answer(number)
            assert isinstance(answer, PeerSent)
            return answer.received, answer.kept

        assert send() == (True, False)
        bench.advance(6.0)
        assert send() == (False, True)
        alice.heartbeat()
        assert send() == (True, False)
        alice.lose()
        assert send() == (True, False)
        bench.advance(6.0)
        assert send() == (False, True)
        bench.advance(24.0)
        assert send() == (False, False)


class TestRequests:
    def test_the_first_answer_has_the_state_of_all(self, bench: Bench) -> None:
        """S39: three states, and a stranger; oneself too."""
        watcher = bench.login("watcher").keep()
        bench.login("online").keep()
        bench.login("silent")
        bench.login("gone").send(Logout(1))
        bench.advance(6.0)
        assert watch(watcher, "online", "silent", "gone", "stranger", "watcher") == [
            (ONLINE, at(0.0), None),
            (UNREACHABLE, at(6.0), at(30.0)),
            (OFFLINE, at(0.0), None),
            (OFFLINE, None, None),
            (ONLINE, at(0.0), None),
        ]
        check_books(bench)

    def test_strangers_get_no_home(self, bench: Bench) -> None:
        """S39: neither by a query nor by a subscription."""
        watcher = bench.login("watcher")
        watch(watcher, "stranger")
        ask(watcher, "stranger", "other")
        assert set(engine_of(bench)._users._homes) == {"watcher"}
        number = watcher.next_number()
        watcher.send(UnwatchStatus(number, ("stranger", "never")))
        assert watcher.answer(number) == Done(number)
        assert watched(bench) == {}
        check_books(bench)

    def test_two_nodes_watch_one_user(self) -> None:
        """S57: one announcement for each node that watches, and none for one that does no longer."""
        bench = Bench(nodes=3)
        watchers = [bench.login(f"watcher{node}", node=node) for node in range(2)]
        for watcher in watchers:
            watch(watcher, "alice")
        alice = bench.login("alice", node=2)
        assert [states(watcher) for watcher in watchers] == [[ONLINE], [ONLINE]]
        watchers[0].send(UnwatchStatus(9, ("alice",)))
        check_books(bench)
        alice.send(Logout(1))
        assert [states(watcher) for watcher in watchers] == [[ONLINE], [ONLINE, OFFLINE]]

    def test_a_user_who_is_forgotten(self) -> None:
        """S31, S39: a silence that was to be looked at is of no interest; the status is that of a stranger."""
        bench = Bench(max_idle_users=1)
        watcher, alice = bench.login("watcher").keep(), bench.login("alice")
        alice.lose()
        bench.hub.kick("alice", now=bench.now)
        for uid in ("bob", "carol"):
            bench.login(uid).send(Logout(1))
        bench.advance(7.0)
        assert "alice" not in engine_of(bench)._users._homes
        assert ask(watcher, "alice") == [(OFFLINE, None, None)]

    def test_subscribed_again_and_no_longer(self, bench: Bench) -> None:
        """S37, S39: harmless both."""
        watcher, alice = bench.login("watcher").keep(), bench.login("alice")
        watch(watcher, "alice", "bob")
        watch(watcher, "carol", "alice")
        check_books(bench)
        alice.send(Logout(1))
        assert states(watcher) == [OFFLINE]
        watcher.send(UnwatchStatus(9, ("alice", "nobody")))
        watcher.send(UnwatchStatus(10, ("alice",)))
        assert set(watched(bench)) == {"bob", "carol"}
        bench.login("alice")
        assert states(watcher) == [OFFLINE]
        bench.login("bob")
        assert states(watcher, "bob") == [ONLINE]
        check_books(bench)

    def test_limits(self, bench: Bench) -> None:
        """S45: 256 of a query, 512 subscriptions; nothing is half done."""
        watcher = bench.login("watcher")
        uids = tuple(f"user{number}" for number in range(513))
        for request, code in (
            (ReadStatus(1, uids[:257]), Code.TOO_MANY_NAMES),
            (ReadStatus(1, ()), Code.TOO_MANY_NAMES),
            (WatchStatus(1, uids), Code.TOO_MANY_NAMES),
            (WatchStatus(1, ("a", "")), Code.INVALID_PEER),
            (UnwatchStatus(1, uids), Code.TOO_MANY_NAMES),
        ):
            watcher.messages.clear()
            watcher.send(request)
            (answer,) = watcher.messages
            assert isinstance(answer, Failed)
            assert answer.code == code
        watcher.number = 10
        bench.advance(1.0)
        watcher.heartbeat()
        assert len(ask(watcher, *uids[:256])) == 256
        watch(watcher, *uids[:500])
        bench.advance(1.0)
        watcher.send(WatchStatus(100, uids[490:513]))
        assert watcher.answer(100).code == Code.TOO_MANY_SUBSCRIPTIONS
        assert len(watched(bench)) == 500
        watch(watcher, *uids[490:512])
        watch(watcher, *uids[300:310])
        assert len(watched(bench)) == 512
        check_books(bench)

    def test_units(self) -> None:
        """S45, S55: as many as there are uids."""
        for make in (ReadStatus, WatchStatus, UnwatchStatus):
            bench = Bench(requests_per_second=10, request_burst=50)
            watcher = bench.login("watcher")
            watcher.send(make(1, tuple(f"user{number}" for number in range(50))))
            assert not isinstance(watcher.answer(1), Failed)
            watcher.send(make(2, ("one",)))
            assert watcher.answer(2).code == Code.RATE_EXCEEDED

    def test_the_settings_fit(self) -> None:
        """S45: an answer fits into a message."""
        with pytest.raises(ConfigError, match="status of 5000 users"):
            ServerConfig(max_status_subscriptions=5000)
        with pytest.raises(ConfigError, match="status of 5000 users"):
            ServerConfig(max_status_query=5000)

    def test_a_session_that_goes_while_it_asks(self) -> None:
        """S57: nothing stays behind."""
        bench = Bench(nodes=1)
        alice, watcher = bench.login("alice"), bench.login("watcher")
        bench.held.add(0)
        watcher.send(ReadStatus(1, ("alice",)), WatchStatus(2, ("alice", "bob")))
        watcher.lose()
        bench.release()
        assert watched(bench) == {}
        again = bench.login("watcher")
        bench.held.add(0)
        again.send(WatchStatus(1, ("alice", "bob")))
        again.lose()
        assert set(watched(bench)) == {"alice", "bob"}
        bench.release()
        assert watched(bench) == {}
        check_books(bench)
        assert alice.gone is None

    @pytest.mark.parametrize("count", [1, 16, 17, 100])
    def test_each_is_compared_in_its_time_and_few_at_once(self, monkeypatch: pytest.MonkeyPatch, count: int) -> None:
        """E5, S51: of very many watched users there are more batches, not larger ones."""
        monkeypatch.setattr(_hub_statuses, "_COMPARED_AT_ONCE", 3)
        bench = Bench(nodes=1)
        watch(bench.login("bob").keep(), *(f"user {number}" for number in range(count)))
        bench.engine_calls.clear()
        compared: set[str] = set()
        end = bench.now + bench.config.compare_ends_seconds
        while bench.now < end:
            bench.advance(0.25)
            calls = [one for one in bench.engine_calls if isinstance(one, WatchOperation)]
            bench.engine_calls.clear()
            assert len(calls) <= 3
            compared.update(one.uid for one in calls)
        assert len(compared) == count

    def test_two_that_subscribe_while_the_engine_thinks(self) -> None:
        """S57, E5: one call; a change meanwhile is in the answer, and nobody hears it twice."""
        bench = Bench(nodes=1)
        one, two = bench.login("one"), bench.login("two")
        bench.held.add(0)
        bench.engine_calls.clear()
        one.send(WatchStatus(1, ("alice",)))
        two.send(WatchStatus(1, ("alice",)))
        assert [type(call) for call in bench.engine_calls] == [WatchOperation]
        newer = StatusOf(state=ONLINE, since=5, expires_at=None, revision=1 << 60)
        bench.hub.engine_announced(StatusAnnounced(uid="alice", status=newer), now=bench.now)
        assert not bench.hub.flush_wanted
        bench.release()
        for client in (one, two):
            assert client.answer(1) == Statuses(1, (UserStatus("alice", ONLINE, 5, None, 1 << 60),))
            assert told(client) == []
        bench.hub.engine_announced(StatusAnnounced(uid="alice", status=newer), now=bench.now)
        bench.hub.engine_announced(StatusAnnounced(uid="stranger", status=newer), now=bench.now)
        assert not bench.hub.flush_wanted

    def test_unsubscribed_right_behind(self) -> None:
        """S46: in the order of the numbers."""
        bench = Bench(nodes=1)
        watcher = bench.login("watcher")
        bench.held.add(0)
        watcher.send(WatchStatus(1, ("alice",)), UnwatchStatus(2, ("alice",)), WatchStatus(3, ("bob",)))
        bench.release()
        assert [type(watcher.answer(number)) for number in (1, 2, 3)] == [Statuses, Done, Statuses]
        assert set(watched(bench)) == {"bob"}
        check_books(bench)

    def test_an_answer_that_drops_the_transport(self) -> None:
        """S51: replies alone are too much; the subscriptions go with it."""
        bench = Bench(max_outbound_bytes=256 * 1024)
        watcher = bench.login("watcher")
        uids = tuple(f"user{number:060}" for number in range(512))
        watcher.hub.unsent(watcher.id, 250 * 1024, now=bench.now)
        bench.hub._transports.get(watcher.id).unsent = 60 * 1024  # type: ignore[union-attr]
        bench.hub._transports.get(watcher.id).reply_bytes = 0  # type: ignore[union-attr]
        object.__setattr__(bench.config, "max_outbound_bytes", 64 * 1024)
        watcher.send(WatchStatus(1, uids))
        assert watcher.gone == "abort"
        assert watched(bench) == {}

    def test_a_closed_hub(self, bench: Bench) -> None:
        """Whatever comes later is ignored."""
        watcher = bench.login("watcher")
        watch(watcher, "alice")
        bench.hub.close(now=bench.now)
        assert watched(bench) == {}
        newer = StatusOf(state=ONLINE, since=5, expires_at=None, revision=1 << 60)
        bench.hub.engine_announced(StatusAnnounced(uid="alice", status=newer), now=bench.now)
        assert not bench.hub._requests.statuses.flush_wanted


class TestStatements:
    """S57, S59: what a client watches stands in its statement."""

    def state_it(self, client: FakeClient, before: FakeClient | None, *wanted: WantedStatus) -> None:
        client.login("watcher", again=before, want=None)
        client.send(Want((), statuses=wanted))

    @pytest.mark.parametrize("node", [0, -1])
    def test_only_what_has_changed_is_told(self, bench: Bench, node: int) -> None:
        alice, _, watcher = bench.login("alice"), bench.login("bob").keep(), bench.login("watcher")
        watcher.send(WatchStatus(1, ("alice", "bob", "carol")))
        revisions = {status.uid: status.revision for status in watcher.answer(1).statuses}
        watcher.lose()
        bench.advance(1.0)
        assert watched(bench) == {}
        alice.send(Logout(1))
        back = bench.open(node=other_node(bench) if node else 0)
        back.login("watcher", resume=watcher, want=None)
        back.send(Want((), statuses=tuple(WantedStatus(*pair) for pair in revisions.items())))
        assert back.welcome.resumed
        assert [type(message) for message in back.messages[1:]] == [Restored, StatusChanged]
        assert told(back) == [(OFFLINE, at(1.0), None)]
        bench.login("carol")
        assert states(back, "carol") == [ONLINE]
        assert states(back, "bob") == []
        check_books(bench)

    def test_a_server_that_has_forgotten(self) -> None:
        """S17, S57: revision 0 says so, and a later state is newer than what was known before the restart."""
        bench = Bench()
        alice, watcher = bench.login("alice"), bench.login("watcher")
        watcher.send(WatchStatus(1, ("alice",)))
        (known,) = watcher.answer(1).statuses
        bench.restart()
        bench.now += 1.0
        again = bench.open()
        self.state_it(again, watcher, WantedStatus("alice", known.revision))
        assert not again.welcome.resumed
        assert again.of(StatusChanged) == [StatusChanged((UserStatus("alice", OFFLINE, None, None, 0),))]
        back = bench.open()
        back.login("alice", again=alice)
        (_, last) = again.of(StatusChanged)
        assert last.statuses[0].state == ONLINE
        assert last.statuses[0].revision > known.revision

    def test_smaller_limits_and_what_is_no_uid(self) -> None:
        """S45, S59: what cannot be watched is said."""
        bench = Bench(max_status_subscriptions=2)
        watcher = bench.open()
        wanted = [WantedStatus(uid, 0) for uid in ("a", "", "b", "a", "c", "d" * 65)]
        self.state_it(watcher, None, *wanted)
        (restored,) = watcher.of(Restored)
        assert restored.unwatched == ("", "c", "d" * 65)
        assert set(watched(bench)) == {"a", "b"}
        check_books(bench)
        nobody = bench.open()
        self.state_it(nobody, None, WantedStatus("", 0))
        assert nobody.of(Restored)[0].unwatched == ("",)

    def test_a_session_that_goes_before_its_answer(self) -> None:
        """S59: nobody stays in use."""
        bench = Bench(nodes=1)
        watcher = bench.open()
        bench.held.add(0)
        watcher.login("watcher", want=None)
        for _ in range(2):  # the node's list of those it serves, and the login
            bench.answer()
            bench.settle()
        watcher.send(Want((), statuses=(WantedStatus("alice", 0),)))
        assert set(watched(bench)) == {"alice"}
        watcher.lose()
        bench.release()
        assert watched(bench) == {}
        check_books(bench)

    def test_a_statement_that_drops_its_transport(self) -> None:
        """S51: its answer and what has changed are too much."""
        bench = Bench()
        watcher = bench.open()
        watcher.login("watcher", want=None)
        object.__setattr__(bench.config, "max_outbound_bytes", 1024)
        wanted = tuple(WantedStatus(f"user{number:060}", 7) for number in range(512))
        watcher.send(Want((), statuses=wanted))
        assert watcher.gone == "abort"
        assert watched(bench) == {}


class TestBehind:
    """S49, S57: whoever is behind gets the latest state, once it keeps up."""

    def test_folded(self, bench: Bench) -> None:
        watcher, alice = bench.login("watcher"), bench.login("alice")
        watch(watcher, "alice", "bob", "carol")
        hub = bench.hub
        hub.unsent(watcher.id, 300 * 1024, now=bench.now)
        alice.send(Logout(1))
        bench.login("bob")
        bench.advance(1.0)
        bench.login("alice")
        assert watcher.of(StatusChanged) == []
        watcher.send(UnwatchStatus(50, ("bob",)))
        hub.unsent(watcher.id, 100 * 1024, now=bench.now)
        bench.settle()
        bench.login("carol")  # though there would be room: the order of what was missed is kept
        assert watcher.of(StatusChanged) == []
        hub.unsent(watcher.id, 0, now=bench.now)
        bench.settle()
        (changed,) = watcher.of(StatusChanged)
        assert [(status.uid, status.state, status.since) for status in changed.statuses] == [
            ("alice", ONLINE, at(1.0)),
            ("carol", ONLINE, at(1.0)),
        ]
        check_books(bench)

    def test_behind_by_one_pass_only(self) -> None:
        """The socket takes all of it at once, and nobody reports anything: it is told in the next pass."""
        bench = Bench()
        watcher = bench.login("watcher")
        watch(watcher, "alice")
        link = bench.hub._transports.get(watcher.id)
        assert link is not None
        bench.hub._transports.give(link, bytes(300 * 1024))
        watcher._decode = lambda data: None  # type: ignore[method-assign]
        alice = bench.open()
        alice.login("alice")
        assert bench.hub._requests.statuses._catching_up == {}
        session = link.session
        assert session is not None
        assert session.stale is None

    def test_nothing_left_to_tell(self) -> None:
        """It unsubscribed meanwhile, or the buffer has risen again, or it parts."""
        bench = Bench()
        watcher, alice = bench.login("watcher"), bench.login("alice")
        watch(watcher, "alice")
        hub, statuses = bench.hub, bench.hub._requests.statuses
        hub.unsent(watcher.id, 300 * 1024, now=bench.now)
        alice.send(Logout(1))
        hub.unsent(watcher.id, 1, now=bench.now)
        assert statuses.flush_wanted
        hub.unsent(watcher.id, 100 * 1024, now=bench.now)
        bench.settle()
        assert watcher.of(StatusChanged) == []
        watcher.send(UnwatchStatus(5, ("alice",)))
        hub.unsent(watcher.id, 0, now=bench.now)
        bench.settle()
        assert watcher.of(StatusChanged) == []
        assert not statuses.flush_wanted
        watch(watcher, "bob")
        hub.unsent(watcher.id, 300 * 1024, now=bench.now)
        bench.login("bob")
        hub.unsent(watcher.id, 1, now=bench.now)
        bench.pump(0)
        watcher.lose()
        assert not statuses.flush_wanted
        check_books(bench)

    def test_a_user_whom_nobody_watches_any_more(self) -> None:
        """A change that waits for its turn is told to who watches then."""
        bench = Bench()
        watcher = bench.login("watcher")
        watch(watcher, "alice")
        user = watched(bench)["alice"]
        newer = StatusOf(state=ONLINE, since=5, expires_at=None, revision=1 << 60)
        bench.hub.engine_announced(StatusAnnounced(uid="alice", status=newer), now=bench.now)
        assert user.changed
        watcher.lose()
        assert not user.changed
        assert not bench.hub.flush_wanted


class TestCosts:
    def test_one_change_for_ten_thousand(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """S57: one announcement a node, one frame, one write for each watcher; nothing is appended anywhere."""
        count = 10_000
        bench = Bench(nodes=2, unreachable_seconds=5.0)
        config, hub = bench.config, bench.hub
        star = bench.login("star")
        reader = bench.open(handshake=False)  # stands for all, and looks at nothing
        reader._decode = lambda data: None  # type: ignore[method-assign]
        links = []
        for number in range(count):
            transport_id = hub.transport_accepted(now=bench.now)
            bench.clients[0][transport_id] = reader
            link = hub._transports.get(transport_id)
            assert link is not None
            session = AttachedSession(
                link,
                uid=f"user{number}",
                session_id=number.to_bytes(16, "big"),
                login_epoch=1,
                attach=1,
                expires_at=None,
                rate=hub._flood_gate.rate_of(number.to_bytes(16, "big")),
                inbox_start=InboxStart(epoch=b"", cursor=0, kept_until=0, end=0),
            )
            session.stated = True
            link.session = session
            links.append(link)
            hub._requests.statuses._watch(link, session, WatchStatus(1, ("star",)))
        bench.settle()
        frames: dict[int, bytes] = {}
        give = hub._transports.give

        def note(link: Any, frame: bytes) -> None:
            frames[id(frame)] = frame
            give(link, frame)

        monkeypatch.setattr(hub._transports, "give", note)
        announced: list[Any] = []
        take = bench.engine.take_announcements
        monkeypatch.setattr(bench.engine, "take_announcements", lambda: announced.extend(some := take()) or some)
        bench.engine_calls.clear()
        sent = [link.transmitted for link in links]
        bench.now += 5.0
        for link in links:
            link.last_received = bench.now
        bench.tick()
        assert [node for node, _ in announced] == ["node0"]
        calls = [type(call) for call in bench.engine_calls if not isinstance(call, (RenewLease, WatchOperation))]
        assert calls == [ReportSilence]
        (frame,) = frames.values()
        assert {link.transmitted - before for link, before in zip(links, sent, strict=True)} == {len(frame)}
        assert config.max_status_subscriptions == 512
        assert star.gone is None

    def test_ends_need_no_search(self) -> None:
        """A subscription is two places, which both sides know: an end touches no other watcher's but the last."""
        rng = random.Random(7)
        users = [WatchedUser(f"user{number}") for number in range(20)]
        sessions: list[Any] = []
        for _ in range(20):
            session = type("Session", (), {})()
            session.watching = Subscriptions(session)
            sessions.append(session)
        pairs: set[tuple[int, int]] = set()
        for _ in range(5000):
            one, other = rng.randrange(20), rng.randrange(20)
            session, user = sessions[one], users[other]
            if (one, other) in pairs:
                pairs.discard((one, other))
                assert session.watching.remove(session.watching.users.index(user)) is user
            else:
                pairs.add((one, other))
                session.watching.add(user)
        found = {(sessions.index(session), number) for number, user in enumerate(users) for session in user.sessions}
        assert found == pairs
        for session in sessions:
            for index, user in enumerate(session.watching.users):
                assert user.sessions[session.watching.places[index]] is session
                assert user.places[session.watching.places[index]] == index

    def test_much_that_has_changed_is_told_in_parts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """So many tellings a pass, and the rest in the next one."""
        monkeypatch.setattr(_hub_statuses, "_TOLD_PER_PASS", 3)
        bench = Bench()
        uids = tuple(f"user{number}" for number in range(10))
        watchers = [bench.login(f"watcher{number}") for number in range(2)]
        for watcher in watchers:
            watch(watcher, *uids)
        for uid in uids:
            bench.hub._requests.statuses.announced(
                StatusAnnounced(uid=uid, status=StatusOf(state=ONLINE, since=1, expires_at=None, revision=1 << 60))
            )
        passes = 0
        while bench.hub.flush_wanted:
            passes += 1
            bench.hub.flush(now=bench.now)
        bench.settle()
        assert passes == 5
        for watcher in watchers:
            assert [changed.statuses[0].uid for changed in watcher.of(StatusChanged)] == list(uids)

    def test_many_deadlines_at_one_instant(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """S14, S24: in parts, each as large as the work that it is; nothing is left out."""
        monkeypatch.setattr(_hub_transports, "_WORK_PER_TICK", 8)
        monkeypatch.setattr(_hub_transports, "_ENTRIES_PER_TICK", 10)
        bench = Bench()
        clients = [bench.login(f"user{number}") for number in range(40)]
        for client in clients[:20]:
            watch(client, *[f"user{number}" for number in range(40)])
        bench.now += 5.0
        for client in clients:
            client.heartbeat()
        bench.now += 1.0
        bench.hub.handle_timeout(now=bench.now)  # entries that have moved away count as well
        assert bench.hub.next_deadline() == bench.now + 0.001
        bench.advance(5.0)
        dropped: list[int] = []
        bench.now += 4.0 - 0.5
        while (deadline := bench.hub.next_deadline()) is not None and deadline < 1020.0:
            bench.now = max(bench.now, deadline)
            before = len(bench.clients[0])
            bench.tick()
            dropped.append(before - len(bench.clients[0]))
        assert max(dropped) <= 8
        assert sum(dropped) == 40
        check_books(bench)

    def test_many_ends_at_one_instant(self) -> None:
        """S24: users and the channels of their sessions count."""
        from rtm_sansio import _engine_users

        bench = Bench(max_channels=50)
        channels = [f"room{number}" for number in range(50)]
        clients = [bench.login(f"user{number}", *channels) for number in range(30)]
        for client in clients:
            client.lose()
        engine = engine_of(bench)
        bench.now += 30.0
        ended: list[int] = []
        while any(home.session is not None for home in engine._users._homes.values()):
            before = sum(home.session is not None for home in engine._users._homes.values())
            engine.handle_timeout(now=bench.now)
            ended.append(before - sum(home.session is not None for home in engine._users._homes.values()))
            deadline = engine.next_deadline()
            assert deadline is not None
            assert deadline > bench.now
            bench.now = deadline
        assert max(ended) * 50 <= _engine_users._WORK_PER_TICK + 50
        todos = bench.hub
        todos.handle_timeout(now=bench.now)
        bench.settle()
        bench.advance(5.0)
        assert all(not home.todos for home in engine._users._homes.values())

    def test_many_logs_swept_at_one_instant(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """S33: a sweep counts with what it drops."""
        from rtm_sansio import _engine_channels

        monkeypatch.setattr(_engine_channels, "_WORK_PER_TICK", 10)
        bench = Bench()
        for number in range(30):
            bench.login(f"user{number}", f"room{number}").send(Logout(9))
        engine = engine_of(bench)
        homes = engine._channels._homes
        assert len(homes) == 30
        bench.now += 400.0
        swept: list[int] = []
        while any(len(home.log) for home in homes.values()):
            before = sum(len(home.log) > 0 for home in homes.values())
            engine.handle_timeout(now=bench.now)
            swept.append(before - sum(len(home.log) > 0 for home in homes.values()))
            deadline = engine.next_deadline()
            assert deadline is None or deadline > bench.now
            bench.now += 0.001
        assert max(swept) <= 4
        assert sum(swept) == 30

    def test_many_names_forgotten_at_one_instant(self) -> None:
        """S31, S58: so many at a time, the longest idle first."""
        idle = IdleList(5000, 10.0)
        for number in range(3000):
            idle.add(f"name{number}", 0.0)
        assert idle.take_expired(9.9) == []
        taken = [idle.take_expired(10.0) for _ in range(4)]
        assert [len(some) for some in taken] == [1024, 1024, 952, 0]
        assert taken[0][0] == "name0"

    def test_subscriptions_take_little_room(self) -> None:
        """Four numbers each: a full list of users whom others watch too stays far under 40 KiB (see benchmarks/hub.py
        for the whole session)."""
        import gc
        import tracemalloc

        class Session:
            watching: Any = None

        users = [WatchedUser(f"user{number}") for number in range(512)]
        gc.collect()
        tracemalloc.start()
        sessions = [Session() for _ in range(200)]
        for session in sessions:
            session.watching = Subscriptions(session)  # type: ignore[arg-type]
            for user in users:
                session.watching.add(user)
        current, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert current / len(sessions) < 16 * 1024


class TestSoak:
    @pytest.mark.parametrize("seed", range(6))
    @pytest.mark.parametrize("nodes", [0, 2])
    def test_the_books_are_kept(self, seed: int, nodes: int) -> None:
        """S57: whatever happens, what a client knows at the end is what the engine knows."""
        rng = random.Random(seed)
        bench = Bench(nodes=nodes, seed=seed)
        uids = [f"user{number}" for number in range(6)]
        clients: dict[str, FakeClient] = {}
        knows: dict[FakeClient, set[str]] = {}

        def up(uid: str) -> bool:
            return uid in clients and clients[uid].gone is None and clients[uid].close_code is None

        for _ in range(250):
            uid, client = rng.choice(uids), None
            client = clients.get(uid)
            chance = rng.random()
            if not up(uid):
                new = bench.open(node=rng.randrange(len(bench.hubs)))
                wanted: tuple[WantedStatus, ...] = ()
                if client is not None:
                    wanted = tuple(WantedStatus(one, revision) for one, revision in known_revisions(client).items())
                    wanted = tuple(one for one in wanted if one.uid in knows[client])
                new.login(uid, resume=client if client is not None and rng.random() < 0.7 else None, want=None)
                new.before = client if wanted else None  # type: ignore[attr-defined]
                if new.close_code is None:
                    new.send(Want((), statuses=wanted))
                if new.of(Restored):
                    clients[uid] = new
                    knows[new] = {one.uid for one in wanted}
                else:
                    clients.pop(uid, None)
            elif chance < 0.25:
                some = rng.sample(uids, 2)
                assert client is not None
                watch(client, *some)
                knows[client].update(some)
            elif chance < 0.35:
                some = rng.sample(uids, 2)
                assert client is not None
                client.send(UnwatchStatus(client.next_number(), tuple(some)))
                knows[client].difference_update(some)
            elif chance < 0.45:
                assert client is not None
                client.lose()
            elif chance < 0.5:
                bench.hub.kick(uid, now=bench.now)
                bench.settle()
            elif chance < 0.55:
                assert client is not None
                client.send(Logout(client.next_number()))
            elif chance < 0.8:
                assert client is not None
                client.heartbeat()
            else:
                bench.advance(rng.choice((0.5, 3.0, 7.0, 12.0)))
            check_books(bench)
        bench.advance(0.5)
        for uid in uids:
            if up(uid):
                client = clients[uid]
                for other in knows[client]:
                    home = engine_of(bench)._users._homes.get(other)
                    status = None if home is None else home.status
                    seen = known_of(client, other)
                    assert status is None or seen == status.revision, (uid, other)


def known_revisions(client: FakeClient) -> dict[str, int]:
    """The last revision of each user that the client was told, on this transport or those before it."""
    before = getattr(client, "before", None)
    known = {} if before is None else known_revisions(before)
    for message in client.messages:
        if isinstance(message, (Statuses, StatusChanged)):
            for status in message.statuses:
                known[status.uid] = max(known.get(status.uid, 0), status.revision)
    return known


def known_of(client: FakeClient, uid: str) -> int:
    return known_revisions(client).get(uid, 0)


def test_a_login_states_nothing() -> None:
    """S59: a statement before the login is accepted counts all the same."""
    bench = Bench()
    client = bench.open()
    client.uid = "watcher"
    login = Login("watcher", "token", b"i" * 16, b"l" * 16, 0)
    client.send(login, Want((), statuses=(WantedStatus("watcher", 0),)))
    assert states(client, "watcher") == [ONLINE]
