"""What a hub was not told is found within ``compare_ends_seconds``: states of users, inboxes, numbers of members; and
what comes too late for a home is void there (S36, S38, S39, S56, S57, E5, E8; F-36, F-83, F-86)."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from msgspec.structs import replace

from core.fake_client import Bench
from core.test_hub_inbox import peer
from core.test_hub_inbox import texts as inbox_texts
from core.test_hub_reads import counts
from core.test_statuses import ask, check_books, engine_of, states, watch, watched
from rtm_sansio.messages import Logout, UnwatchStatus
from rtm_sansio.operations import (
    OFFLINE,
    ONLINE,
    UNREACHABLE,
    BlockAnnounced,
    CountAnnounced,
    ReadLog,
    RenewLease,
    ReportSilence,
    StatusAnnounced,
    WatchStatus,
)


def lose(bench: Bench, monkeypatch: pytest.MonkeyPatch, announcement: type[Any]) -> list[Any]:
    """From now on no announcement of this type reaches the first hub. What was lost."""
    lost: list[Any] = []
    hub, tell = bench.hub, bench.hub.engine_announced

    def engine_announced(one: Any, *, now: float) -> None:
        if isinstance(one, announcement):
            lost.append(one)
        else:
            tell(one, now=now)

    monkeypatch.setattr(hub, "engine_announced", engine_announced)
    return lost


def subscriptions(bench: Bench, since: int = 0) -> list[WatchStatus]:
    """What the hubs have asked for of the engine."""
    return [one for one in bench.engine_calls[since:] if isinstance(one, WatchStatus)]


class TestStatuses:
    """E5, S57."""

    def test_a_lost_change_is_found(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """E5, F-86: nobody says anything more; within 30 s, told once; and what comes late besides is nothing new."""
        bench = Bench(nodes=2)
        watcher, alice = bench.login("watcher").keep(), bench.login("alice", node=1).keep()
        watch(watcher, "alice", "stranger")
        with monkeypatch.context() as patch:
            lost = lose(bench, patch, StatusAnnounced)
            alice.send(Logout(1))
        assert [one.status.state for one in lost] == [OFFLINE]
        assert states(watcher) == []
        bench.advance(30.0)
        assert states(watcher) == [OFFLINE]
        bench.hub.engine_announced(lost[0], now=bench.now)
        bench.advance(60.0)
        assert states(watcher) == [OFFLINE]
        assert states(watcher, "stranger") == []
        check_books(bench)

    def test_the_setting_counts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """E5."""
        bench = Bench(nodes=1, compare_ends_seconds=1.0)
        watcher = bench.login("watcher").keep()
        watch(watcher, "alice")
        lose(bench, monkeypatch, StatusAnnounced)
        bench.login("alice").keep()
        assert states(watcher) == []
        bench.advance(1.0)
        assert states(watcher) == [ONLINE]

    def test_others_that_are_watched_meanwhile_put_nothing_off(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """E5: however often somebody subscribes."""
        bench = Bench(nodes=1)
        watcher = bench.login("watcher").keep()
        watch(watcher, "alice")
        lose(bench, monkeypatch, StatusAnnounced)
        bench.login("alice").keep()
        for number in range(31):
            watch(watcher, f"user{number}")
            bench.advance(1.0)
        assert states(watcher) == [ONLINE]

    @pytest.mark.parametrize("count", [1, 15, 16, 17, 200])
    def test_each_in_time_and_not_all_at_one_instant(self, count: int) -> None:
        """E5: each at least every 30 s; many users in many small batches, one user no more often than it must be."""
        bench = Bench(nodes=1)
        watcher = bench.login("watcher").keep()
        uids = [f"user{number}" for number in range(count)]
        watch(watcher, *uids)
        before = len(bench.engine_calls)
        times: dict[str, list[float]] = {uid: [bench.now] for uid in uids}
        most = 0
        for _ in range(200):
            bench.advance(0.5)
            new = subscriptions(bench, before)
            before = len(bench.engine_calls)
            assert all(one.on for one in new)
            most = max(most, len(new))
            for one in new:
                times[one.uid].append(bench.now)
        assert most == -(-count // 16)
        for series in times.values():
            assert len(series) > 3
            assert all(later - earlier <= 30.5 for earlier, later in itertools.pairwise(series))
        check_books(bench)

    def test_a_subscription_that_was_undone(self) -> None:
        """E5, F-36: an end of it that was on its way for long comes behind the next one; it is undone, and after that
        changes are announced again."""
        bench = Bench(nodes=2)
        watcher, alice = bench.login("watcher").keep(), bench.login("alice", node=1).keep()
        watch(watcher, "alice")
        watcher.send(UnwatchStatus(50, ("alice",)))
        straggler = bench.engine_calls[-1]
        assert isinstance(straggler, WatchStatus)
        assert not straggler.on
        watch(watcher, "alice")
        bench.engine.execute(straggler, now=bench.now)
        alice.send(Logout(1))
        assert states(watcher) == []
        bench.advance(30.0)
        assert states(watcher) == [OFFLINE]
        check_books(bench)
        bench.login("alice", node=1)
        assert states(watcher) == [OFFLINE, ONLINE]

    def test_nothing_is_asked_while_nobody_is_watched(self) -> None:
        """E5: it ends with the last of them, and begins again with the next."""
        bench = Bench(nodes=1)
        watcher = bench.login("watcher").keep()
        before = len(bench.engine_calls)
        bench.advance(100.0)
        assert subscriptions(bench, before) == []
        watch(watcher, "alice")
        watcher.send(UnwatchStatus(50, ("alice",)))
        before = len(bench.engine_calls)
        bench.advance(100.0)
        assert subscriptions(bench, before) == []
        watch(watcher, "alice")
        before = len(bench.engine_calls)
        bench.advance(30.0)
        assert {one.uid for one in subscriptions(bench, before)} == {"alice"}

    def test_an_embedded_engine_is_not_asked(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """E5: its announcements are never lost, so that its hub need not wake for that."""
        bench = Bench()
        watcher = bench.login("watcher").keep()
        watch(watcher, "alice")
        engine, asked = engine_of(bench), list[Any]()
        execute = engine.execute

        def note(operation: Any, *, now: float) -> Any:
            asked.append(operation)
            return execute(operation, now=now)

        monkeypatch.setattr(engine, "execute", note)
        bench.advance(100.0)
        bench.hub.engine_restored(now=bench.now)
        assert not any(isinstance(operation, WatchStatus) for operation in asked)

    def test_an_answer_for_nobody(self) -> None:
        """F-36: what was unsubscribed before the comparison was answered stays so, on both sides."""
        bench = Bench(nodes=1)
        watcher = bench.login("watcher").keep()
        watch(watcher, "alice")
        bench.held.add(0)
        bench.lively.clear()
        bench.advance(2.0)
        assert [call.operation.uid for call in bench.calls[0] if isinstance(call.operation, WatchStatus)] == ["alice"]
        bench.login("alice", node=0)
        watcher.send(UnwatchStatus(50, ("alice",)))
        bench.release()
        assert watched(bench) == {}
        assert states(watcher) == []
        check_books(bench)

    def test_a_connection_that_was_gone(self) -> None:
        """E5, F-83: changes meanwhile are told as soon as it is back, without any waiting."""
        bench = Bench(nodes=2)
        watcher, alice = bench.login("watcher").keep(), bench.login("alice", node=1)
        watch(watcher, "alice", "bob")
        bench.hub.engine_lost(now=bench.now)
        announce = bench.announce
        bench.announce = bench.engine.take_announcements  # type: ignore[assignment, method-assign]
        alice.send(Logout(1))
        bench.announce = announce  # type: ignore[method-assign]
        assert states(watcher) == []
        bench.hub.engine_restored(now=bench.now)
        bench.settle()
        assert states(watcher) == [OFFLINE]
        assert states(watcher, "bob") == []


class TestLogs:
    """E5: ends of inboxes, and numbers of members, which stand in no log."""

    def test_a_lost_message_in_an_inbox(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """S56: found within 30 s, given once, in order."""
        bench = Bench(nodes=2)
        alice, bob = bench.login("alice").keep(), bench.login("bob", node=1).keep()
        peer(bob, "alice", "heard")
        with monkeypatch.context() as patch:
            lost = lose(bench, patch, BlockAnnounced)
            peer(bob, "alice", "lost")
        assert len(lost) == 1
        assert inbox_texts(alice) == ["heard"]
        bench.advance(30.0)
        assert inbox_texts(alice) == ["heard", "lost"]
        bench.hub.engine_announced(lost[0], now=bench.now)
        peer(bob, "alice", "later")
        assert inbox_texts(alice) == ["heard", "lost", "later"]

    def test_an_inbox_is_subscribed_by_its_session(self) -> None:
        """E5, S56: comparing it is one read, and nothing else is asked."""
        bench = Bench(nodes=1)
        bench.login("alice").keep()
        before = len(bench.engine_calls)
        bench.advance(100.0)
        asked = [one for one in bench.engine_calls[before:] if not isinstance(one, RenewLease)]
        assert {type(one) for one in asked} == {ReadLog}
        assert {one.log for one in asked} == {"u:alice"}
        assert len(asked) <= 7  # each after half of the time at the earliest

    def test_a_lost_number_of_members(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """S38: the log has nothing new, and yet the number is another one; told once."""
        bench = Bench(nodes=2, max_snapshot_members=1, unmute_members=1)
        alice = bench.login("alice", "room").keep()
        bench.login("bob", "room", node=1).keep()
        bench.advance(2.0)
        assert counts(alice)[-1] == 2
        told = len(counts(alice))
        with monkeypatch.context() as patch:
            lost = lose(bench, patch, CountAnnounced)
            bench.login("carol", "room", node=1).keep()
            bench.advance(2.0)
        assert [one.member_count for one in lost] == [3]
        bench.advance(30.0)
        assert counts(alice)[told:] == [3]
        bench.advance(60.0)
        assert counts(alice)[told:] == [3]


class TestFences:
    """E8: what a node wrote long ago does no harm when it comes."""

    def test_an_older_report_of_silence(self) -> None:
        """S39: the hub numbers them; one that comes behind a later one is void, the same again harmless, and a new
        attachment counts anew."""
        bench = Bench(nodes=1)
        watcher, alice = bench.login("watcher").keep(), bench.login("alice")
        watch(watcher, "alice")
        bench.advance(6.5)
        alice.heartbeat()
        reports = [one for one in bench.engine_calls if isinstance(one, ReportSilence) and one.uid == "alice"]
        assert [(one.step, one.silent_seconds > 0) for one in reports] == [(1, True), (2, False)]
        assert states(watcher) == [UNREACHABLE, ONLINE]
        for report in (reports[0], reports[1]):
            bench.engine.execute(report, now=bench.now)
            assert ask(watcher, "alice")[0][0] == ONLINE
        back = bench.open()
        back.login("alice", resume=alice)
        assert back.welcome.resumed
        bench.advance(6.5)
        assert states(watcher) == [UNREACHABLE, ONLINE, UNREACHABLE]
        (report,) = [one for one in bench.engine_calls if isinstance(one, ReportSilence) and one.attach == 2]
        assert report.step == 1

    def test_a_subscription_of_a_lease_that_ran_out(self) -> None:
        """S57: it is answered, and nothing is announced under it; its end is carried out all the same."""
        bench = Bench(nodes=1)
        watcher = bench.login("watcher").keep()
        watch(watcher, "alice")
        (old,) = subscriptions(bench)
        bench.restart()
        bench.settle()
        bench.advance(10.0)  # the old lease is over with the new one
        watchers = engine_of(bench)._users._statuses._watchers
        assert watchers == {}
        status = bench.engine.execute(old, now=bench.now)
        assert status.state == OFFLINE  # type: ignore[union-attr]
        assert watchers == {}
        again = bench.login("watcher").keep()
        watch(again, "alice")
        (new,) = subscriptions(bench)[1:]
        assert new.lease != old.lease
        bench.engine.execute(old, now=bench.now)
        check_books(bench)
        bench.engine.execute(replace(old, on=False), now=bench.now)
        assert "alice" not in watchers

    def test_heard_after_its_end(self) -> None:
        """F-36: a transport that was silent, and is being closed, has no session any more that could be heard."""
        bench = Bench(nodes=1)
        alice = bench.login("alice")
        bench.advance(6.5)
        heartbeat = alice.wire.frame(alice.encoding.heartbeat)  # on its way before the close is there
        bench.hub.kick("alice", now=bench.now)
        bench.settle()
        before = len(bench.engine_calls)
        assert alice.gone is None
        alice.raw(heartbeat)
        assert not any(isinstance(one, ReportSilence) for one in bench.engine_calls[before:])
        watcher = bench.login("watcher").keep()
        assert ask(watcher, "alice")[0][0] == OFFLINE
