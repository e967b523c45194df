"""Peer messages and inboxes on a hub (S30, S36, S42, S45, S46, S48, S49, S52, S55, S56, S59, E3, E5)."""

from __future__ import annotations

from typing import Any

import pytest

from core.fake_client import Bench, FakeClient, channels_of
from rtm_sansio.codes import Code
from rtm_sansio.logs import Block
from rtm_sansio.messages import (
    Entries,
    Failed,
    Going,
    GoOn,
    Hold,
    PeerBytes,
    PeerBytesEntry,
    PeerSent,
    PeerText,
    PeerTextEntry,
    Progress,
    PublishText,
    Restored,
    Want,
    WantedInbox,
    Welcome,
)
from rtm_sansio.operations import (
    AppendToInbox,
    AttachSession,
    BlockAnnounced,
    ConfirmAttach,
    ConfirmInbox,
    PostOrder,
    ReadLog,
)


def texts(client: FakeClient) -> list[str]:
    """The texts of an inbox, in the order in which they came."""
    return [entry.text for _, entry in client.entries("") if isinstance(entry, PeerTextEntry)]


def peer(client: FakeClient, uid: str, text: str, *, offline: bool = False) -> Any:
    """Send a text to a user; the answer."""
    number = client.next_number()
    client.send(PeerText(number, uid, text, offline))
    return client.answer(number)


def come_back(bench: Bench, before: FakeClient, cursor: int, *, node: int = 0, again: bool = False) -> FakeClient:
    """Log in again, as a resume or automatically, with the inbox up to ``cursor``."""
    client = bench.open(node=node)
    client.login(before.uid, want=None, **({"again": before} if again else {"resume": before}))
    client.send(Want((), WantedInbox(before.welcome.inbox.epoch, cursor)))
    return client


class TestSending:
    """S36, S34, S45, S46."""

    def test_a_message_arrives(self) -> None:
        """S36: text and bytes, with description and time; the sender hears where it went; one answer for each."""
        bench = Bench()
        bob, alice = bench.login("bob"), bench.login("alice")
        bob.send(PeerText(1, "alice", "hi", False, "about"), PeerBytes(2, "alice", b"\x00", True))
        now = int(bench.wall * 1000)
        assert bob.answer(1) == PeerSent(1, True, False, now)
        assert bob.answer(2) == PeerSent(2, True, False, now)
        assert alice.entries("") == [
            (1, PeerTextEntry("bob", "hi", now, False, "about")),
            (2, PeerBytesEntry("bob", b"\x00", now, True, "")),
        ]
        assert bob.entries("") == []

    def test_to_oneself(self) -> None:
        """S36: one's own inbox is like any other."""
        bench = Bench()
        alice = bench.login("alice")
        assert peer(alice, "alice", "note to self") == PeerSent(1, True, False, int(bench.wall * 1000))
        assert texts(alice) == ["note to self"]

    def test_nowhere_and_kept(self) -> None:
        """S36."""
        bench = Bench()
        bob, alice = bench.login("bob"), bench.login("alice")
        assert not peer(bob, "nobody", "x", offline=True).kept
        alice.lose()
        bench.lively = [bob]
        bench.advance(7.0)
        sent = peer(bob, "alice", "y")
        assert (sent.received, sent.kept) == (False, True)
        bench.advance(30.0)
        sent = peer(bob, "alice", "z")
        assert (sent.received, sent.kept) == (False, False)

    def test_one_call_for_each_inbox_and_pass(self) -> None:
        """E3: and one frame for its reader."""
        bench = Bench(nodes=1)
        bob, alice, carol = bench.login("bob"), bench.login("alice"), bench.login("carol")
        bob.send(*(PeerText(number, uid, "x") for number, uid in enumerate(["alice", "carol", "alice"], 1)))
        calls = [call for call in bench.engine_calls if isinstance(call, AppendToInbox)]
        assert [(call.uid, len(call.items)) for call in calls] == [("alice", 2), ("carol", 1)]
        assert len(alice.of(Entries)) == len(carol.of(Entries)) == 1

    def test_repeated_over_a_new_transport(self) -> None:
        """S46: the outcome again; the message stands there once."""
        bench = Bench()
        bob, alice = bench.login("bob"), bench.login("alice")
        bob.send(PeerText(1, "alice", "once"))
        first = bob.answer(1)
        bob.lose()
        bench.advance(1.0)
        back = bench.login("bob", resume=bob)
        back.send(PeerText(1, "alice", "once"))
        assert back.answer(1) == first
        assert texts(alice) == ["once"]

    def test_requests_take_effect_in_their_order(self) -> None:
        """S46: a join waits for the messages before it."""
        bench = Bench(nodes=1)
        bob = bench.login("bob", "room")
        bench.held.add(0)
        bob.send(PeerText(5, "alice", "x"), PublishText(6, "room", "y"))
        assert bob.answers(5) == []
        bench.release()
        assert (bob.answer(5).received, bob.answer(6).offset) == (False, 2)

    def test_the_sender_goes_before_the_answer(self) -> None:
        """S34, F-36: its message is appended all the same, and its answer is nobody's."""
        bench = Bench(nodes=1)
        bob, alice = bench.login("bob"), bench.login("alice")
        bench.held.add(0)
        bob.send(PeerText(1, "alice", "x"))
        bob.lose()
        bench.release()
        assert texts(alice) == ["x"]
        assert bench.hub._requests._appends._outboxes == {}

    @pytest.mark.parametrize(
        ("message", "code"),
        [
            (PeerText(1, "", "x"), Code.INVALID_PEER),
            (PeerText(1, "a" * 65, "x"), Code.INVALID_PEER),
            (PeerBytes(1, "caf\u00e9", b"x"), Code.INVALID_PEER),
            (PeerBytes(1, "alice", bytes(32 * 1024 + 1)), Code.MESSAGE_TOO_LARGE),
            (PeerText(1, "alice", "x" * 32 * 1024, False, "y"), Code.MESSAGE_TOO_LARGE),
        ],
    )
    def test_what_no_request_may_have(self, message: Any, code: Code) -> None:
        """S37, S45: the description counts as well."""
        bench = Bench()
        bob = bench.login("bob")
        bob.send(message)
        assert bob.answer(1).code == code
        bob.send(PeerText(2, "a" * 64, "x" * (32 * 1024 - 1), False, "y"))
        assert isinstance(bob.answer(2), PeerSent)

    def test_what_may_wait_for_one_inbox(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """S55, S50: bounded while the engine hangs; a refusal of the asking."""
        monkeypatch.setattr("rtm_sansio._hub_appends._GATHERED_BYTES", 3000)
        bench = Bench(nodes=1)
        bob = bench.login("bob")
        bench.held.add(0)
        bob.send(*(PeerText(number, "alice", "x") for number in range(1, 10)))
        assert {failed.code for failed in bob.of(Failed)} == {Code.TOO_MANY_REQUESTS}
        refused = len(bob.of(Failed))
        bench.release()
        assert len(bob.of(PeerSent)) + refused == 9

    def test_refusals_say_the_limit(self) -> None:
        """S37, S55: and what to do."""
        bench = Bench(max_kept_messages=3, max_kept_of_sender=2)
        senders = [bench.login(uid) for uid in ("bob", "carol")]
        bench.login("alice").lose()
        bench.lively = senders
        bench.advance(40.0)
        for sender in senders:
            for _ in range(3):
                peer(sender, "alice", "x", offline=True)
        (share,) = senders[0].of(Failed)
        full = senders[1].of(Failed)[0]
        assert (share.code, full.code) == (Code.SENDER_SHARE, Code.INBOX_FULL)
        assert "2 messages for one user" in share.message
        assert "3 messages or 1048576 bytes" in full.message
        senders[0].send(Progress(senders[0].welcome.attach, 50), PeerText(9, "alice", "x"), PublishText(10, "r", "x"))
        assert "older than what the client called answered" in senders[0].answer(9).message
        assert "no member" in senders[0].answer(10).message


class TestReading:
    """S42, S48, S49, S52, S56, S59."""

    def test_kept_messages_come_first(self) -> None:
        """S56, S59: behind the answer to the statement of a new login, marked by where the welcome draws the line."""
        bench = Bench()
        bob = bench.login("bob").keep()
        bench.login("alice").lose()
        bench.advance(40.0)
        for text in ("a", "b"):
            assert peer(bob, "alice", text, offline=True).kept
        peer(bob, "alice", "nowhere")
        alice = bench.login("alice")
        assert [type(message) for message in alice.messages] == [Welcome, Restored, Entries]
        assert texts(alice) == ["a", "b"]
        assert (alice.welcome.inbox.cursor, alice.welcome.inbox.kept_until) == (0, 2)
        peer(bob, "alice", "live")
        assert [offset for offset, _ in alice.entries("")] == [1, 2, 3]

    @pytest.mark.parametrize("again", [False, True])
    def test_back_with_a_cursor(self, again: bool) -> None:
        """S23, S25, S56: a resume, and an automatic login after the session has expired."""
        bench = Bench()
        bob, alice = bench.login("bob").keep(), bench.login("alice")
        peer(bob, "alice", "seen")
        alice.lose()
        peer(bob, "alice", "missed")
        bench.advance(40.0 if again else 20.0)
        peer(bob, "alice", "kept", offline=True)
        back = come_back(bench, alice, 1, again=again)
        assert back.welcome.resumed != again
        assert texts(back) == ["missed", "kept"]
        assert back.gaps("") == []
        peer(bob, "alice", "live")
        assert texts(back)[2:] == ["live"]

    def test_a_cursor_of_another_log(self) -> None:
        """S48: of another epoch, or beyond the end: a gap of unknown size, and no harm done."""
        bench = Bench()
        bob, alice = bench.login("bob"), bench.login("alice")
        peer(bob, "alice", "x")
        alice.send(GoOn("", b"another", 0))
        (gap,) = alice.gaps("")
        assert (gap.cursor, gap.count) == (0, None)
        alice.send(GoOn("", alice.welcome.inbox.epoch, 77))
        assert (alice.gaps("")[1].cursor, alice.gaps("")[1].count) == (1, None)
        assert texts(alice) == ["x", "x"]

    def test_a_statement_with_an_endless_epoch(self) -> None:
        """S50."""
        bench = Bench()
        alice = bench.open()
        alice.login("alice", want=None)
        alice.send(Want((), WantedInbox(b"e" * 65, 0)))
        assert alice.close_code == 1002

    def test_hold_and_go_on(self) -> None:
        """S52: nothing while it is held, then all of it from the cursor; the transport lives on."""
        bench = Bench()
        bob, alice = bench.login("bob"), bench.login("alice")
        alice.send(Hold(""))
        for number in range(5):
            peer(bob, "alice", str(number))
        assert texts(alice) == []
        alice.send(GoOn("", alice.welcome.inbox.epoch, 0))
        assert alice.of(Going) == [Going("")]
        assert texts(alice) == list("01234")

    def test_a_reader_that_is_behind(self) -> None:
        """S49: its inbox is read from the log, in pieces, once."""
        bench = Bench(append_bytes_per_second=1 << 24, append_burst_bytes=1 << 24)
        bob, alice = bench.login("bob"), bench.login("alice")
        alice.reading = False
        for number in range(24):
            bob.send(PeerBytes(number + 1, "alice", bytes(32_000)))
        assert len(alice.entries("")) < 24
        alice.reading = True
        alice.drain()
        assert [offset for offset, _ in alice.entries("")] == list(range(1, 25))

    def test_a_lost_block(self) -> None:
        """E5: the next one shows the hole, and the log is read."""
        bench = Bench(nodes=1)
        bob, alice = bench.login("bob"), bench.login("alice")
        peer(bob, "alice", "a")
        announce, bench.announce = bench.announce, lambda: bench.engine.take_announcements()  # type: ignore
        peer(bob, "alice", "lost")
        bench.announce = announce  # type: ignore[method-assign]
        assert texts(alice) == ["a"]
        peer(bob, "alice", "c")
        assert texts(alice) == ["a", "lost", "c"]

    def test_a_block_announced_twice_or_too_late(self) -> None:
        """E5: known, and dropped; of nobody's inbox: passed over."""
        bench = Bench(nodes=1)
        bob, alice = bench.login("bob"), bench.login("alice")
        peer(bob, "alice", "a")
        entry = alice.entries("")[0]
        block = bench.engine._users._homes["alice"].inbox.log.oldest  # type: ignore[union-attr]
        assert block is not None
        for log in ("u:alice", "u:nobody"):
            bench.hub.engine_announced(BlockAnnounced(log=log, block=block), now=bench.now)
        bench.settle()
        assert alice.entries("") == [entry]

    def test_a_block_that_comes_before_the_answer_to_the_attach(self) -> None:
        """E5, S56: it is read with the rest, once."""
        bench = Bench(nodes=2)
        bob = bench.login("bob", node=1)
        bench.held.add(0)
        alice = bench.open()
        alice.login("alice")
        bench.answer()  # to the node's list of those it serves
        bench.settle()
        (attach,) = bench.calls[0]
        assert isinstance(attach.operation, AttachSession)
        bench.calls[0].clear()
        answer = bench.engine.execute(attach.operation, now=bench.now)
        assert peer(bob, "alice", "early").received
        bench.hub.engine_answered(attach.call_id, answer, now=bench.now)
        bench.settle()
        bench.release()
        peer(bob, "alice", "late")
        assert texts(alice) == ["early", "late"]

    def test_nothing_is_left_of_an_inbox(self) -> None:
        """S50: with its session a hub forgets it, and asks the engine for nothing."""
        bench = Bench(nodes=1)
        alice = bench.login("alice", "room")
        before = len(bench.engine_calls)
        alice.lose()
        assert bench.hub._channels._by_home == {}
        assert channels_of(bench.hub) == set()
        assert not any(isinstance(call, ReadLog) for call in bench.engine_calls[before:])


class TestConfirming:
    """S56: carried by ``progress``."""

    def confirmed(self, bench: Bench) -> list[int]:
        return [call.position for call in bench.engine_calls if isinstance(call, ConfirmInbox)]

    def test_once_for_each_position(self) -> None:
        """S56: a stale one, one beyond the end and one of another attachment say nothing."""
        bench = Bench(nodes=1)
        bob, alice = bench.login("bob"), bench.login("alice")
        for text in "abc":
            peer(bob, "alice", text)
        attach = alice.welcome.attach
        for progress in ((attach, 0, 2), (attach, 0, 2), (attach, 0, 1), (attach, 0, 4), (attach + 1, 0, 3)):
            alice.send(Progress(*progress))
        assert self.confirmed(bench) == [2]
        alice.send(Progress(attach, 0, 3))
        assert self.confirmed(bench) == [2, 3]
        assert len([call for call in bench.engine_calls if isinstance(call, ConfirmAttach)]) == 1

    def test_what_the_engine_knows_already(self) -> None:
        """S56: is not told again on the next transport."""
        bench = Bench(nodes=1)
        bob, alice = bench.login("bob"), bench.login("alice")
        peer(bob, "alice", "a")
        alice.send(Progress(1, 0, 1))
        alice.lose()
        back = come_back(bench, alice, 1)
        assert back.welcome.inbox.cursor == 1
        back.send(Progress(2, 0, 1))
        assert self.confirmed(bench) == [1]


class TestTakeover:
    """S30, S56: the old instance gets nothing of what the new one gets, and nothing that was kept is lost."""

    @pytest.mark.parametrize("nodes", [0, 1, 2])
    def test_what_each_of_them_gets(self, nodes: int) -> None:
        """S30, S56: what is not confirmed goes to the new one as well."""
        bench = Bench(nodes=nodes)
        bob, old = bench.login("bob"), bench.login("alice")
        peer(bob, "alice", "offline", offline=True)
        peer(bob, "alice", "to the old one")
        new = bench.login("alice", node=max(0, nodes - 1))
        peer(bob, "alice", "to the new one")
        assert texts(old) == ["offline", "to the old one"]
        assert texts(new) == ["offline", "to the new one"]
        assert old.close_code == Code.REMOTE_LOGIN

    @pytest.mark.parametrize("node", [0, 1])
    @pytest.mark.parametrize("held", [False, True])
    def test_before_the_old_hub_hears_of_it(self, node: int, held: bool) -> None:
        """S30, E8, E9: an order is on its way, and meanwhile the old instance asks for its log: it is given nothing
        of another session."""
        bench = Bench(nodes=2)
        bob, old = bench.login("bob", node=1), bench.login("alice", node=0)
        peer(bob, "alice", "a", offline=True)
        if held:
            old.send(Hold(""))
        real = bench.engine.execute
        postponed: list[Any] = []

        def execute(operation: Any, *, now: float) -> Any:
            if isinstance(operation, PostOrder):
                postponed.append(operation)
                return None
            return real(operation, now=now)

        bench.engine.execute = execute  # type: ignore[method-assign]
        new = bench.login("alice", node=node)
        peer(bob, "alice", "for the new one")
        old.send(GoOn("", old.welcome.inbox.epoch, 0))
        old.send(GoOn("", new.welcome.inbox.epoch, 0))
        peer(bob, "alice", "and another")
        block = Block(new.welcome.inbox.epoch, 1, (b"x",))
        bench.hubs[0].engine_announced(BlockAnnounced(log="u:alice", block=block), now=bench.now)
        bench.settle()
        assert old.close_code is None
        assert texts(old) == ["a"]
        assert texts(new) == ["a", "for the new one", "and another"]
        for operation in postponed:
            real(operation, now=bench.now)
        bench.announce()
        bench.settle()
        assert old.close_code == Code.REMOTE_LOGIN

    def test_a_block_of_the_new_log_before_its_welcome(self) -> None:
        """S30, E5: the old instance on the same hub is not given it, and the new one is."""
        bench = Bench(nodes=2)
        bob, old = bench.login("bob", node=1), bench.login("alice")
        bench.held.add(0)
        new = bench.open()
        new.login("alice")
        (attach,) = bench.calls[0]
        bench.calls[0].clear()
        answer = bench.engine.execute(attach.operation, now=bench.now)
        peer(bob, "alice", "for the new one")
        while bench.calls[0]:
            bench.answer()
            bench.settle()
        assert texts(old) == []
        bench.hub.engine_answered(attach.call_id, answer, now=bench.now)
        bench.settle()
        bench.release()
        assert (texts(old), texts(new)) == ([], ["for the new one"])
