"""The inbox of a user in the engine, by its operations (S33, S36, S46, S55, S56, E2, E3, E8)."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rtm_sansio._engine_inbox import Inbox
from rtm_sansio._engine_outcomes import MARK_BYTES, OUTCOME_BYTES
from rtm_sansio.codes import Code
from rtm_sansio.config import ServerConfig
from rtm_sansio.engine import MemoryEngine
from rtm_sansio.events import LeaveCause
from rtm_sansio.logs import Log
from rtm_sansio.operations import (
    AppendToInbox,
    Attached,
    AttachSession,
    BlockAnnounced,
    ConfirmInbox,
    DetachSession,
    EndSession,
    InboxAppended,
    InboxItem,
    ReadLog,
    StrikeToDos,
)

NOWHERE, RECEIVED, KEPT = 0, 1, 2
FULL, SHARE, STALE = -int(Code.INBOX_FULL), -int(Code.SENDER_SHARE), -int(Code.STALE_REQUEST)
DAY = 86_400.0


class Bench:
    """An engine, its clock, and one receiver."""

    def __init__(self, **settings: Any) -> None:
        self.now = 0.0
        self.config = ServerConfig(**settings)
        self.engine = MemoryEngine(self.config, entropy=random.Random(0).randbytes)
        self.engine.set_wall_clock(1_700_000_000.0, now=self.now)
        self.count = 0
        self.number = 0
        self.session: Attached | None = None

    def __call__(self, operation: Any) -> Any:
        answer = self.engine.execute(operation, now=self.now)
        self.check()
        return answer

    def check(self) -> None:
        """S55: the bytes are counted exactly at all times, and so are the shares of senders."""
        users, shares = self.engine._users, {}
        inboxes = [home.inbox for home in users._homes.values() if home.inbox is not None]
        assert users._budget.byte_count == sum(inbox.byte_count for inbox in inboxes)
        assert all(inbox.counted == inbox.byte_count for inbox in inboxes)
        for inbox in inboxes:
            parts = inbox._parts or {}
            assert inbox._outcomes == sum(len(part.by_number) for part in parts.values())
            for one in inbox._kept or ():
                assert inbox.log.first_kept <= one.offset <= inbox.log.end
                assert one.offset > inbox.position
                shares[one.sender] = shares.get(one.sender, 0) + one.size
        assert users._shares._by_sender == shares

    def tick(self, seconds: float = 0.0) -> None:
        self.now += seconds
        self.engine.handle_timeout(now=self.now)
        deadline = self.engine.next_deadline()
        assert deadline is None or deadline > self.now
        self.check()

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while (deadline := self.engine.next_deadline()) is not None and deadline <= end:
            self.now = max(self.now, deadline)
            self.tick()
        self.now = end

    def login(self, uid: str = "alice", **quoted: Any) -> Attached:
        self.count += 1
        fields: dict[str, Any] = {
            "node": "n1",
            "instance_id": b"i%d" % self.count,
            "login_id": b"l%d" % self.count,
            "attempt": 0,
            "new_session_id": b"s%d" % self.count,
            "quoted_session_id": None,
            "quoted_epoch": None,
            "quoted_attach": None,
        }
        answer = self(AttachSession(uid=uid, **{**fields, **quoted}))
        assert isinstance(answer, Attached)
        self.session = answer
        home = self.engine._users._homes[uid]
        self(StrikeToDos(uid=uid, todo_ids=tuple(home.todos or ())))
        return answer

    def lose(self, silent_seconds: float = 0.0, uid: str = "alice") -> None:
        assert self.session is not None
        session = self.session
        self(
            DetachSession(uid=uid, session_id=session.session_id, attach=session.attach, silent_seconds=silent_seconds)
        )

    def logout(self, uid: str = "alice") -> None:
        end: dict[str, Any] = {"cause": LeaveCause.LOGGED_OUT, "code": 1, "message": "", "ban_seconds": None}
        self(EndSession(uid=uid, session_id=None, spoil_epoch=False, **end))
        self(StrikeToDos(uid=uid, todo_ids=tuple(self.engine._users._homes[uid].todos or ())))

    def send(
        self,
        *entries: bytes,
        offline: bool = False,
        sender: str = "bob",
        session: bytes = b"",
        uid: str = "alice",
        number: int | None = None,
        lowest: int = 0,
    ) -> list[int]:
        items = []
        for entry in entries:
            self.number += 1
            items.append(
                InboxItem(
                    sender,
                    session or b"of " + sender.encode(),
                    self.number if number is None else number,
                    lowest,
                    entry,
                    int(self.now * 1000),
                    offline,
                )
            )
        answer = self(AppendToInbox(uid=uid, items=tuple(items)))
        assert isinstance(answer, InboxAppended)
        self.appended = answer
        return list(answer.results)

    def keep(self, *entries: bytes, **options: Any) -> list[int]:
        return self.send(*entries, offline=True, **options)

    def confirm(self, position: int, session_id: bytes | None = None) -> None:
        assert self.session is not None
        self(ConfirmInbox(uid="alice", session_id=session_id or self.session.session_id, position=position))

    def read(self, epoch: bytes | None = None, cursor: int | None = None, uid: str = "alice") -> Any:
        assert self.session is not None
        start = self.session.inbox
        cursor = start.cursor if cursor is None else cursor
        return self(ReadLog(log="u:" + uid, epoch=epoch or start.epoch, cursor=cursor, max_bytes=1 << 30))

    @property
    def inbox(self) -> Inbox:
        inbox = self.engine._users._homes["alice"].inbox
        assert inbox is not None
        return inbox

    def blocks(self) -> list[Any]:
        return [one.block for _, one in self.engine.take_announcements() if isinstance(one, BlockAnnounced)]


class TestWhereItGoes:
    """S36: received, kept, or neither."""

    def test_the_three_answers(self) -> None:
        """S36, E6: received up to 6 s after the last word, kept until 30 s, then nowhere, or kept in store."""
        bench = Bench()
        bench.login()
        assert bench.send(b"a") == [RECEIVED]
        bench.lose(silent_seconds=1.0)
        bench.now = 4.9
        assert bench.send(b"b") == [RECEIVED]
        bench.now = 5.0
        assert bench.send(b"c") == bench.keep(b"d") == [KEPT]
        bench.now = 28.9
        assert bench.send(b"e") == [KEPT]
        bench.now = 29.0
        assert bench.send(b"f") == [NOWHERE]
        assert bench.keep(b"g") == [KEPT]
        assert bench.read().entries == (b"a", b"b", b"c", b"d", b"e", b"g")

    def test_a_user_nobody_knows(self) -> None:
        """S36, S55, S50: neither, and no home is made for it."""
        bench = Bench()
        assert bench.keep(b"x", b"y", uid="stranger") == [NOWHERE, NOWHERE]
        assert bench.engine._users._homes == {}

    def test_who_was_there_within_thirty_days(self) -> None:
        """S55: kept for those who were logged in within 30 days, and for nobody else."""
        bench = Bench()
        bench.login()
        bench.now = 100.0
        bench.logout()
        bench.now += 30 * DAY - 0.1
        assert bench.keep(b"in time") == [KEPT]
        bench.now += 0.1
        assert bench.keep(b"too late") == [NOWHERE]

    def test_a_user_known_for_something_else(self) -> None:
        """S55: one that was banned before it ever came has not been here."""
        bench = Bench()
        ban: dict[str, Any] = {"cause": LeaveCause.BANNED, "code": 4001, "message": "", "spoil_epoch": True}
        bench(EndSession(uid="alice", session_id=None, ban_seconds=1e6, **ban))
        assert bench.keep(b"x") == [NOWHERE]

    def test_it_is_announced_to_the_node_of_the_session(self) -> None:
        """E3, E5: one block a pass, of what was appended; to nobody while no transport serves the session."""
        bench = Bench()
        bench.login(node="n7")
        bench.send(b"a", b"b")
        ((node, announced),) = bench.engine.take_announcements()
        assert (node, announced.log, announced.block.first_offset) == ("n7", "u:alice", 1)
        assert announced.block.entries == (b"a", b"b")
        bench.lose()
        bench.send(b"c")
        assert bench.engine.take_announcements() == []

    def test_much_at_once_is_appended_in_small_blocks(self) -> None:
        """S33, S55: what leaves an inbox leaves it in whole blocks, so that little more goes than has to."""
        bench = Bench(max_inbox_bytes=256 * 1024)
        bench.login()
        bench.send(*(b"%02d" % number * 5000 for number in range(30)))
        blocks = bench.blocks()
        assert [block.first_offset for block in blocks] == [1, 7, 13, 19, 25]
        reading = bench.read()
        assert (reading.gap, reading.lost) == (True, 6)
        assert len(reading.entries) == 24


class TestOutcomes:
    """S46: a repeated number gets the outcome again and changes nothing."""

    def test_repeated(self) -> None:
        """S46, S36: also though the receiver is gone meanwhile; with the time of the first one."""
        bench = Bench()
        bench.login()
        assert bench.send(b"a", number=1) == [RECEIVED]
        bench.logout()
        bench.now = 299.9
        assert bench.send(b"a", number=1) == [RECEIVED]
        assert bench.appended.repeated == {0: 0}
        assert len(bench.inbox.log) == 1

    def test_within_one_call(self) -> None:
        """S46."""
        bench = Bench()
        bench.login()
        assert bench.send(b"a", b"a", number=1) == [RECEIVED, RECEIVED]
        assert bench.appended.repeated == {1: 0}
        assert bench.read().entries == (b"a",)

    def test_what_went_nowhere_is_asked_anew(self) -> None:
        """S36, S50: it has changed nothing, and leaves no trace; the next time it may find somebody."""
        bench = Bench()
        bench.login()
        bench.logout()
        assert bench.send(b"a", number=1) == [NOWHERE]
        assert bench.inbox.byte_count == 0
        bench.login()
        assert bench.send(b"a", number=1) == [RECEIVED]
        assert bench.appended.repeated is None

    def test_below_the_lowest_unanswered(self) -> None:
        """S46: never carried out, whether the sender's session is known here or not."""
        bench = Bench()
        bench.login()
        assert bench.send(b"a", number=4, lowest=5) == [STALE]
        assert bench.send(b"b", number=5, lowest=5) == [RECEIVED]
        assert bench.send(b"c", number=6, lowest=6) == [RECEIVED]
        assert bench.send(b"b", number=5) == [STALE]
        assert bench.read().entries == (b"b", b"c")

    def test_so_many_for_each_session(self) -> None:
        """S46: 256; older ones were answered, or there would not be so many newer ones."""
        bench = Bench(max_outcomes=3)
        bench.login()
        for number in range(1, 5):
            bench.send(b"x", number=number)
        assert [bench.send(b"x", number=number) for number in (1, 2)] == [[STALE], [RECEIVED]]
        assert bench.inbox._outcomes == 3
        assert bench.send(b"x", number=1, session=b"another") == [RECEIVED]

    def test_forgotten_after_the_history_time(self) -> None:
        """S46: 300 s after the last of a session, though messages are kept for longer; whoever sent last goes last."""
        bench = Bench()
        bench.login()
        bench.logout()
        bench.keep(b"a", sender="bob")
        bench.run(100.0)
        bench.keep(b"b", sender="carol")
        bench.run(100.0)
        bench.keep(b"c", sender="bob")
        assert bench.inbox._outcomes == 3
        bench.run(199.9)
        assert list(bench.inbox._parts or ()) == [b"of carol", b"of bob"]
        bench.run(0.2)
        assert list(bench.inbox._parts or ()) == [b"of bob"]
        bench.run(101.0)
        assert bench.inbox._parts is None
        assert len(bench.inbox.log) == 3

    def test_looked_up_before_it_is_swept(self) -> None:
        """S46: what has had its time is none any more, however late the sweep."""
        bench = Bench()
        bench.login()
        bench.send(b"a", number=1)
        bench.now = 300.0
        assert bench.send(b"a", number=1) == [RECEIVED]
        assert bench.appended.repeated is None


class TestConfirmed:
    """S56: one position."""

    def test_what_is_confirmed_goes(self) -> None:
        """S56: in whole blocks."""
        bench = Bench()
        start = bench.login().inbox
        assert (start.cursor, start.kept_until, start.end) == (0, 0, 0)
        bench.send(b"a", b"b")
        bench.keep(b"c")
        bench.confirm(1)
        assert bench.inbox.log.first_kept == 1
        bench.confirm(2)
        assert bench.inbox.log.first_kept == 3
        bench.confirm(3)
        assert len(bench.inbox.log) == 0

    @pytest.mark.parametrize("position", [-1, 0, 1, 3, 1 << 63])
    def test_stale_or_impossible(self, position: int) -> None:
        """S48, S56, F-33: without effect."""
        bench = Bench()
        bench.login()
        bench.send(b"a")
        bench.send(b"b")
        bench.confirm(1)
        bench.confirm(position)
        assert bench.inbox.position == 1
        assert bench.read(cursor=1).entries == (b"b",)

    def test_of_a_session_that_has_ended(self) -> None:
        """E8: void, also before there was ever another."""
        bench = Bench()
        old = bench.login()
        bench.keep(b"a")
        bench.login()
        bench.confirm(1, old.session_id)
        bench(ConfirmInbox(uid="stranger", session_id=b"s", position=1))
        assert bench.inbox.position == 0
        assert bench.read().entries == (b"a",)

    def test_a_return_begins_there(self) -> None:
        """S56: with the same log."""
        bench = Bench()
        first = bench.login()
        bench.send(b"a", b"b")
        bench.confirm(2)
        bench.lose()
        again = bench.login(quoted_session_id=first.session_id, quoted_epoch=first.login_epoch, quoted_attach=1)
        assert again.resumed
        assert again.inbox.epoch == first.inbox.epoch
        assert (again.inbox.cursor, again.inbox.kept_until, again.inbox.end) == (2, 0, 2)


class TestNewLogin:
    """S56: what a ``login`` gets, and what a return gets."""

    def test_what_was_sent_with_offline_and_nothing_else(self) -> None:
        """S56: in order, as the beginning of a new log; what was confirmed is not there."""
        bench = Bench()
        old = bench.login()
        bench.keep(b"confirmed")
        bench.send(b"a")
        bench.confirm(1)
        bench.keep(b"b", b"c")
        bench.logout()
        bench.send(b"d")
        bench.now = 5.0
        bench.keep(b"e")
        start = bench.login().inbox
        assert start.epoch != old.inbox.epoch
        assert (start.cursor, start.kept_until, start.end) == (0, 3, 3)
        assert bench.read().entries == (b"b", b"c", b"e")
        bench.send(b"live")
        assert bench.read(cursor=3).entries == (b"live",)
        reading = bench.read(old.inbox.epoch, 2)
        assert (reading.gap, reading.lost) == (True, None)

    def test_a_takeover_loses_nothing_of_it(self) -> None:
        """S30, S56: the old instance had it and did not confirm it: the new one gets it."""
        bench = Bench()
        bench.login()
        bench.keep(*(b"%d" % number for number in range(100)))
        bench.login()
        assert bench.read().entries == tuple(b"%d" % number for number in range(100))

    def test_their_time_goes_on(self) -> None:
        """S55: 7 days from when they were sent, however often their user logs in; both sides."""
        bench = Bench()
        bench.login()
        bench.logout()
        bench.keep(b"old")
        bench.run(DAY)
        bench.keep(b"young")
        bench.login()
        bench.logout()
        bench.run(6 * DAY - 1.0)
        assert bench.inbox.log.first_kept == 1
        bench.run(2.0)
        bench.login()
        assert bench.read().entries == (b"young",)

    def test_an_automatic_login_goes_on_with_the_same_log(self) -> None:
        """S25, S56: after the session has expired: everything behind the client's cursor."""
        bench = Bench()
        first = bench.login()
        bench.send(b"seen", b"missed")
        bench.lose()
        bench.now = 40.0
        bench.tick()
        bench.send(b"nowhere")
        bench.keep(b"kept")
        again = bench.login(quoted_session_id=first.session_id, quoted_epoch=first.login_epoch, quoted_attach=1)
        assert not again.resumed
        assert again.inbox.epoch == first.inbox.epoch
        assert (again.inbox.cursor, again.inbox.kept_until) == (0, 3)
        assert bench.read(cursor=1).entries == (b"missed", b"kept")

    def test_a_second_login_with_nothing_between(self) -> None:
        """S56: it is kept until it is confirmed."""
        bench = Bench()
        bench.login()
        bench.logout()
        bench.keep(b"a", b"b")
        for _ in range(3):
            bench.login()
            assert bench.read().entries == (b"a", b"b")
        bench.confirm(1)
        bench.login()
        assert bench.read().entries == (b"b",)


class TestBounds:
    """S55: both sides of each limit."""

    def test_the_share_of_a_sender(self) -> None:
        """S55: the newest of one sender is refused, nobody else's dropped; until some are confirmed."""
        bench = Bench()
        bench.login()
        bench.logout()
        assert bench.keep(*(b"x" for _ in range(21))) == [KEPT] * 20 + [SHARE]
        assert bench.keep(b"y", sender="carol") == [KEPT]
        bench.login()
        bench.confirm(1)
        bench.logout()
        assert bench.keep(b"x", b"x") == [KEPT, SHARE]

    def test_a_share_is_free_again_when_it_is_read(self) -> None:
        """S55, S56."""
        bench = Bench(max_kept_of_sender=2)
        bench.login()
        bench.logout()
        assert bench.keep(b"x", b"x", b"x") == [KEPT, KEPT, SHARE]
        bench.login()
        bench.confirm(2)
        bench.logout()
        assert bench.keep(b"x", b"x", b"x") == [KEPT, KEPT, SHARE]

    def test_messages_for_one_user(self) -> None:
        """S55: 200 in all."""
        bench = Bench()
        bench.login()
        bench.logout()
        for number in range(10):
            assert bench.keep(*(b"x" for _ in range(20)), sender=f"sender {number}") == [KEPT] * 20
        assert bench.keep(b"x", sender="one more") == [FULL]

    def test_an_unreachable_session_has_the_same_bounds(self) -> None:
        """S36, S55: what it does not come back for is kept as long as the rest."""
        bench = Bench()
        bench.login()
        bench.lose(silent_seconds=6.0)
        assert bench.keep(*(b"x" for _ in range(21))) == [KEPT] * 20 + [SHARE]
        assert bench.send(*(b"x" for _ in range(40))) == [KEPT] * 40

    def test_bytes_of_an_inbox(self) -> None:
        """S55: while nobody is heard nothing that is kept gives way, whoever sends what."""
        bench = Bench(max_inbox_bytes=128 * 1024)
        bench.login()
        bench.lose(silent_seconds=6.0)
        cost = Log.cost_of(bytes(30_000))
        room = 128 * 1024 // cost
        assert bench.keep(*(bytes(30_000) for _ in range(room + 1))) == [KEPT] * room + [FULL]
        assert bench.send(bytes(30_000), sender="mallory") == [FULL]
        assert bench.send(b"small", sender="mallory") == [KEPT]
        assert bench.inbox.log.first_kept == 1

    def test_what_is_not_kept_makes_room(self) -> None:
        """S55: the oldest first, and the gap is told to whoever comes back for it."""
        bench = Bench(max_inbox_bytes=128 * 1024)
        bench.login()
        bench.lose(silent_seconds=6.0)
        for _ in range(10):
            assert bench.send(bytes(30_000)) == [KEPT]
        bench.keep(b"kept")
        reading = bench.read()
        assert (reading.lost, len(reading.entries)) == (6, 5)
        assert bench.send(*(bytes(30_000) for _ in range(6))) == [KEPT] * 4 + [FULL] * 2

    def test_who_is_heard_is_given_everything(self) -> None:
        """S55: what is too much is a gap in what is older, for one that is behind; and at the next login as well."""
        bench = Bench(max_inbox_bytes=128 * 1024)
        bench.login()
        for number in range(10):
            assert bench.keep(b"%d" % number * 30_000, sender=f"s{number}") == [RECEIVED]
        reading = bench.read()
        assert (reading.lost, len(reading.entries)) == (6, 4)
        bench.login()
        reading = bench.read()
        assert (reading.gap, reading.lost, len(reading.entries)) == (True, 6, 4)
        bench.confirm(3)
        bench.login()
        assert bench.read().lost == 6
        bench.confirm(6)
        bench.login()
        assert (bench.read().gap, len(bench.read().entries)) == (False, 4)

    def test_very_much_that_was_kept_while_the_user_was_heard(self) -> None:
        """S55, S51: there is no bound on its number then; whoever sends more once the user is not heard is refused
        without a look at all of it."""
        bench = Bench()
        bench.login()
        for number in range(12):
            bench.keep(*(b"x" for _ in range(20)), sender=f"s{number}")
        bench.lose(silent_seconds=6.0)
        assert bench.keep(b"x", sender="s0") == [FULL]
        bench.confirm(41)
        assert bench.keep(b"x", sender="s0") == [KEPT]
        assert bench.keep(b"x", sender="s0") == [FULL]
        assert bench.keep(b"x", sender="s5") == [SHARE]

    def test_many_blocks_that_go_at_once_are_counted_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """S51: what makes room for a large message takes time by their number, not by its square."""
        looked = 0

        def counting(predicate: Any, entries: Any) -> Any:
            nonlocal looked
            for one in entries:
                looked += 1
                if not predicate(one):
                    return
                yield one

        bench = Bench(max_inbox_bytes=512 * 1024)
        bench.login()
        for _ in range(1_000):
            bench.keep(b"x")
        monkeypatch.setattr("rtm_sansio._engine_inbox.takewhile", counting)
        bench.send(*(bytes(30_000) for _ in range(17)))
        assert bench.inbox.log.first_kept > 900
        assert looked < 10_000

    def test_a_new_log_has_small_blocks(self) -> None:
        """S55, S56: what came in one pass does not go as one, when a session that is heard is given more."""
        bench = Bench(max_inbox_bytes=512 * 1024)
        bench.login()
        bench.logout()
        assert bench.keep(*(bytes(30_000) for _ in range(17))) == [KEPT] * 17
        bench.login()
        bench.send(bytes(30_000))
        assert bench.read().lost == 2

    def test_a_gap_that_was_told_of_is_not_told_again(self) -> None:
        """S33, S56: the position has passed it."""
        bench = Bench(max_inbox_bytes=128 * 1024)
        bench.login()
        for _ in range(10):
            bench.keep(bytes(30_000))
        bench.confirm(7)
        bench.login()
        reading = bench.read()
        assert (reading.gap, len(reading.entries)) == (False, 3)

    def test_bytes_of_a_sender_over_all_inboxes(self) -> None:
        """S55, S50: whoever writes to many users does not fill the memory, and pushes out nothing of others."""
        bench = Bench(max_kept_bytes_of_sender=100_000)
        uids = [f"user {number}" for number in range(10)]
        for uid in uids:
            bench.login(uid)
            bench.logout(uid)
        results = [bench.keep(bytes(30_000), uid=uid)[0] for uid in uids]
        assert results == [KEPT] * 3 + [SHARE] * 7
        assert bench.keep(bytes(30_000), uid=uids[9], sender="carol") == [KEPT]
        bench.login(uids[0])
        bench(ConfirmInbox(uid=uids[0], session_id=bench.session.session_id, position=1))  # type: ignore[union-attr]
        assert bench.keep(bytes(30_000), uid=uids[9]) == [KEPT]

    def test_what_is_forgotten_with_its_user_is_no_ones_share(self) -> None:
        """S31, S55: at most so many users are remembered; the longest idle goes first, whoever was written to."""
        bench = Bench(max_idle_users=2)
        for number in range(3):
            bench.login(f"user {number}")
            bench.logout(f"user {number}")
            assert bench.keep(b"x", uid="user 0") == [KEPT]
        bench.tick()
        assert list(bench.engine._users._homes) == ["user 1", "user 2"]
        assert bench.engine._users._shares._by_sender == {}
        assert bench.engine._users._budget.byte_count == 0

    def test_history_of_what_is_not_kept(self) -> None:
        """S33: 40 s whatever their number, then 1,000 and 300 s, for a client that comes back."""
        bench = Bench(history_entries=3)
        bench.login()
        for _ in range(5):
            bench.send(b"x")
        assert len(bench.inbox.log) == 5
        bench.now = 40.0
        bench.send(b"y")
        assert len(bench.inbox.log) == 6
        bench.now = 40.1
        bench.send(b"y")
        assert len(bench.inbox.log) == 3
        bench.run(299.8)
        assert len(bench.inbox.log) >= 1
        bench.run(2.0)
        assert len(bench.inbox.log) == 0

    def test_what_stands_behind_a_kept_one_waits_for_it(self) -> None:
        """S33: trimming may be late, never early."""
        bench = Bench()
        bench.login()
        bench.lose()
        bench.keep(b"kept")
        bench.send(b"x")
        bench.run(1000.0)
        assert len(bench.inbox.log) == 2
        bench.run(7 * DAY)
        assert len(bench.inbox.log) == 0

    def test_stale_sweeps_do_not_pile_up(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """S50: each inbox has one place in the sweep that counts."""
        monkeypatch.setattr("rtm_sansio._engine_users._STALE_SWEEPS", 3)
        bench = Bench()
        for uid in ("alice", "never written to"):
            bench.login(uid)
            bench.logout(uid)
        for number in range(30):
            bench.keep(b"x", sender=f"s{number}")
            bench.run(400.0)
        assert len(bench.engine._users._sweeps) <= 2 * 2 + 3

    def test_reading_what_nobody_knows(self) -> None:
        """S50, S48: an empty log, and no home is made for it."""
        bench = Bench()
        bench.login()
        assert bench.read(b"e", 3, "stranger").entries == ()
        assert list(bench.engine._users._homes) == ["alice"]


class TestAllBytes:
    """S55: the bound of all homes of an engine together."""

    def test_blocks_and_sessions_go_by_age(self) -> None:
        """S55: the oldest first; what is dropped of kept messages is a gap at the next login."""
        cost = Log.cost_of(bytes(50_000))
        bench = Bench(max_engine_bytes=3 * cost + 5 * (MARK_BYTES + OUTCOME_BYTES))
        bench.login()
        bench.logout()
        for number in range(5):
            bench.now += 1.0
            assert bench.keep(bytes(50_000), sender=f"s{number}") == [KEPT]
        start = bench.login().inbox
        assert start.end == 5
        reading = bench.read()
        assert (reading.lost, len(reading.entries)) == (2, 3)

    def test_a_session_that_was_dropped_is_known_no_more(self) -> None:
        """S55, S46: only under this bound."""
        bench = Bench(max_engine_bytes=4 * (MARK_BYTES + OUTCOME_BYTES) + 100_000)
        bench.login()
        for number in range(200):
            bench.now += 0.1
            bench.send(b"x", sender=f"s{number}", number=number)
            bench.confirm(number + 1)
        assert bench.engine._users._budget.byte_count <= bench.config.max_engine_bytes
        for number in range(200, 400):
            bench.now += 0.1
            bench.send(bytes(400), sender=f"s{number}", number=number)
        assert bench.engine._users._budget.byte_count <= bench.config.max_engine_bytes
        assert len(bench.inbox._parts or ()) < 400
        assert b"of s0" not in (bench.inbox._parts or ())

    def test_ages(self) -> None:
        """S55: nothing is known of what is not there."""
        bench = Bench()
        bench.login()
        assert list(bench.inbox.ages()) == []
        assert bench.inbox.age_of(b"nobody") is None
        bench.now = 5.0
        bench.send(b"x")
        assert list(bench.inbox.ages()) == [(5.0, b""), (5.0, b"of bob")]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1 << 32))
def test_once_in_order_or_a_gap(seed: int) -> None:
    """S33, S46, S55, S56: whatever is sent, repeated, confirmed, lost and renewed, a reader has each entry once and in
    order, or is told how many are gone; and the accounts are right at each step."""
    rng = random.Random(seed)
    bench = Bench(max_inbox_bytes=128 * 1024, max_engine_bytes=rng.choice([300_000, 1 << 30]), max_kept_of_sender=5)
    first = bench.login()
    epoch, cursor, last_seen, sent = first.inbox.epoch, 0, 0, 0
    for _ in range(60):
        kind = rng.random()
        bench.now += rng.choice([0.0, 0.1, 2.0, 20.0])
        if kind < 0.5:
            count = rng.randrange(1, 4)
            payloads = [b"%08d" % (sent + step) + bytes(rng.choice([0, 100, 20_000])) for step in range(1, count + 1)]
            sent += count
            bench.send(*payloads, offline=rng.random() < 0.5, sender=rng.choice(["bob", "carol"]))
        elif kind < 0.6:
            bench.confirm(rng.choice([cursor, cursor, 0, cursor + 1000]))
        elif kind < 0.7:
            bench.lose(rng.choice([0.0, 6.0]))
        elif kind < 0.8:
            assert bench.session is not None
            quoted = bench.session
            again = bench.login(
                quoted_session_id=quoted.session_id, quoted_epoch=quoted.login_epoch, quoted_attach=quoted.attach
            )
            assert again.inbox.epoch == epoch
        elif kind < 0.85:
            start = bench.login().inbox
            epoch, cursor, last_seen = start.epoch, start.cursor, 0
        elif kind < 0.9:
            bench.tick()
        reading = bench.read(epoch, cursor)
        if rng.random() < 0.6:
            if reading.gap:
                assert reading.lost is not None
                assert reading.lost > 0
                assert reading.cursor == cursor + reading.lost
            else:
                assert reading.cursor == cursor
            for entry in reading.entries:
                assert int(entry[:8]) > last_seen
                last_seen = int(entry[:8])
            cursor = reading.cursor + len(reading.entries)
            assert cursor == reading.end
