"""Logins, resumes, renewals and ends of sessions at the hub, with hand-made clients."""

from __future__ import annotations

import random
from typing import Any

import pytest

from core.fake_client import Bench, FakeClient
from rtm_sansio.codes import Code, CodeKind, code_kind
from rtm_sansio.config import ServerConfig
from rtm_sansio.errors import ConfigError, InvalidArgument, InvalidState
from rtm_sansio.events import LeaveCause, LoginRequested, LoginWithdrawn, RenewalRequested
from rtm_sansio.hub import Hub
from rtm_sansio.messages import (
    Failed,
    Join,
    JoinedEntry,
    Kicked,
    Leave,
    LeftEntry,
    Limits,
    Login,
    Logout,
    Progress,
    PublishText,
    Renewed,
    RenewToken,
    Want,
    Welcome,
    encode_batch,
)


def test_the_welcome_states_every_limit_that_is_applied() -> None:
    """S15, S45: what the hub checks by its config is in the welcome."""
    config = ServerConfig(
        heartbeat_interval_seconds=1.5,
        silence_timeout_seconds=9.0,
        presence_grace_seconds=29.0,
        max_name_length=32,
        max_message_bytes=1000,
        max_request_bytes=3000,
        max_frame_bytes=9000,
        max_channels=3,
        max_outcomes=17,
        requests_per_second=11,
        request_burst=13,
        append_bytes_per_second=7000,
        append_burst_bytes=8000,
        max_count_channels=5,
        max_history_entries=19,
        max_attribute_key_bytes=21,
        max_attribute_value_bytes=22,
        max_attribute_pairs=23,
        max_attributes=24,
        max_user_attribute_bytes=1025,
        max_channel_attribute_bytes=1026,
        max_status_query=27,
        max_status_subscriptions=28,
        unreachable_seconds=7.0,
    )
    alice = Bench(config).login("alice")
    assert alice.welcome.limits == Limits(
        heartbeat_interval=1.5,
        silence_timeout=9.0,
        presence_grace=29.0,
        max_name_length=32,
        max_message_bytes=1000,
        max_request_bytes=3000,
        max_frame_bytes=9000,
        max_channels=3,
        max_unanswered=17,
        requests_per_second=11,
        request_burst=13,
        append_bytes_per_second=7000,
        append_burst_bytes=8000,
        max_count_channels=5,
        max_history_entries=19,
        max_attribute_key_bytes=21,
        max_attribute_value_bytes=22,
        max_attribute_pairs=23,
        max_attributes=24,
        max_user_attribute_bytes=1025,
        max_channel_attribute_bytes=1026,
        max_status_query=27,
        max_status_subscriptions=28,
        unreachable=7.0,
    )


@pytest.mark.parametrize(
    "settings",
    [
        {"heartbeat_interval_seconds": 10.0},
        {"heartbeat_interval_seconds": 11.0},
        {"heartbeat_interval_seconds": 6.0},
        {"silence_timeout_seconds": 31.0},
        {"presence_grace_seconds": 40.0},
        {"replay_seconds": 301.0},
        {"unreachable_seconds": 31.0},
        {"max_message_bytes": 64 * 1024},
        {"max_frame_bytes": 32 * 1024},
        {"feed_below_bytes": 512 * 1024},
        {"slow_reader_bytes": 2 * 1024 * 1024},
        {"max_attributes": 1024},
        {"max_user_attribute_bytes": 128 * 1024},
        {"max_channel_attribute_bytes": 128 * 1024},
        {"max_channel_attribute_bytes": 63 * 1024},
        {"max_attribute_pairs": 800},
        {"max_attribute_key_bytes": 1000},
        {"attribute_seconds": 86_401.0},
    ],
)
def test_impossible_settings_are_refused_when_they_are_made(settings: dict[str, float]) -> None:
    """S15, F-04: a heartbeat slower than the timeout that it feeds, and its likes."""
    with pytest.raises(ConfigError):
        ServerConfig(**settings)  # type: ignore[arg-type]


class TestOneLoginManyAttempts:
    """S18, S19."""

    def test_all_attempts_of_a_login_are_one_session(self) -> None:
        """S18: the first accepted makes the session, a later one resumes it; the attach number rises by one."""
        bench = Bench()
        first = bench.login("alice", "room", instance=b"i" * 16, login_id=b"l" * 16, attempt=1)
        second = bench.login("alice", instance=b"i" * 16, login_id=b"l" * 16, attempt=2)
        assert (first.welcome.resumed, second.welcome.resumed) == (False, True)
        assert first.welcome.session_id == second.welcome.session_id
        assert (first.welcome.attach, second.welcome.attach) == (1, 2)
        assert first.close_code == Code.TRANSPORT_REPLACED
        assert not first.of(Kicked)

    def test_an_attempt_overtaken_by_a_later_one_has_no_effect(self) -> None:
        """S18: one with a number lower than seen is closed without effect."""
        bench = Bench()
        later = bench.login("alice", instance=b"i" * 16, login_id=b"l" * 16, attempt=5)
        earlier = bench.login("alice", instance=b"i" * 16, login_id=b"l" * 16, attempt=4)
        assert not earlier.of(Welcome)
        assert code_kind(earlier.refusal.code) is CodeKind.RETRY
        assert later.gone is None
        assert later.join("room").member_count == 1

    def test_a_login_of_the_same_instance_replaces_without_a_kick(self) -> None:
        """S18: it replaces the session and is told as a replaced transport, not as a remote login."""
        bench = Bench()
        first = bench.login("alice", instance=b"i" * 16)
        second = bench.login("alice", instance=b"i" * 16)
        assert not second.welcome.resumed
        assert not first.of(Kicked)
        assert first.close_code == Code.TRANSPORT_REPLACED

    def test_a_copy_of_the_process_is_refused(self) -> None:
        """S18: a resume that quotes an older attach number than the client has confirmed."""
        bench = Bench()
        first = bench.login("alice")
        second = bench.login("alice", resume=first)
        second.confirm()
        copy = bench.login("alice", resume=first)
        assert copy.refusal.code == Code.REMOTE_LOGIN
        assert second.gone is None
        third = bench.login("alice", resume=second)
        assert third.welcome.attach == 3

    def test_nothing_but_progress_confirms_an_attach_number(self) -> None:
        """S18: without it, the welcome may have been lost, and the client quotes the number before."""
        bench = Bench()
        first = bench.login("alice")
        first.confirm()
        second = bench.login("alice", resume=first)  # its welcome never arrives
        second.send(Progress(first.welcome.attach, 0))  # an old one confirms nothing
        again = bench.login("alice", resume=first)
        assert again.welcome.resumed
        assert again.welcome.attach == 3

    def test_an_attempt_of_an_ended_login_is_refused(self) -> None:
        """S18: its session was ended meanwhile; known for 60 s."""
        bench = Bench()
        bench.login("alice", login_id=b"o" * 16)
        bench.login("alice")
        late = bench.login("alice", login_id=b"o" * 16, attempt=1)
        assert late.refusal.code == Code.REMOTE_LOGIN
        bench.advance(59.9)
        assert bench.login("alice", login_id=b"o" * 16, attempt=2).refusal.code == Code.REMOTE_LOGIN
        bench.advance(0.2)
        assert not bench.login("alice", login_id=b"o" * 16, attempt=3).welcome.resumed

    def test_the_last_sixteen_logins_are_remembered(self) -> None:
        """S18."""
        bench = Bench()
        ids = [bytes([number]) * 16 for number in range(18)]
        for login_id in ids:
            bench.login("alice", login_id=login_id)
        # The last is the session; of the 17 before, the first is forgotten.
        assert bench.login("alice", login_id=ids[1], attempt=1).of(Welcome) == []
        assert bench.login("alice", login_id=ids[0], attempt=1).welcome

    @pytest.mark.parametrize("wrong", ["random", "ended", "foreign"])
    def test_a_session_id_that_does_not_hold_gets_one_answer(self, wrong: str) -> None:
        """S17, S19: wrong, ended or foreign: "gone", which is a new session under the same epoch."""
        bench = Bench()
        alice = bench.login("alice")
        bob = bench.login("bob").keep()
        alice.lose()
        bench.advance(30.0)
        quoted = {"random": b"r" * 16, "ended": alice.welcome.session_id, "foreign": bob.welcome.session_id}[wrong]
        back = bench.open()
        back.instance, back.login_id = alice.instance, alice.login_id
        back.send(
            Login("alice", "token", alice.instance, alice.login_id, 9, quoted, alice.welcome.login_epoch, 1),
            Want(()),
        )
        assert not back.welcome.resumed
        assert back.welcome.session_id != alice.welcome.session_id
        assert back.welcome.login_epoch == alice.welcome.login_epoch
        assert bob.gone is None

    def test_a_wrong_session_id_while_the_session_is_there(self) -> None:
        """S19: the same answer, though another login id shows that it is not this client's attempt."""
        bench = Bench()
        alice = bench.login("alice")
        other = bench.open()
        epoch = alice.welcome.login_epoch
        other.send(Login("alice", "token", alice.instance, b"o" * 16, 3, b"r" * 16, epoch, 1), Want(()))
        assert not other.welcome.resumed
        assert other.welcome.login_epoch == epoch
        assert alice.close_code == Code.TRANSPORT_REPLACED

    def test_a_resume_by_login_id_before_any_welcome(self) -> None:
        """S19: the login id is as good as the session id."""
        bench = Bench()
        first = bench.login("alice", instance=b"i" * 16, login_id=b"l" * 16)
        first.lose()
        bench.advance(29.0)
        second = bench.login("alice", instance=b"i" * 16, login_id=b"l" * 16, attempt=1)
        assert second.welcome.resumed

    @pytest.mark.parametrize("nodes", [0, 2])
    @pytest.mark.parametrize("noticed", [True, False])
    @pytest.mark.parametrize("first", [True, False])
    def test_a_login_whose_welcome_was_lost_is_resumed_by_its_login_id(
        self, first: bool, noticed: bool, nodes: int
    ) -> None:
        """S17-S19: the ``login`` call's first attempt, or a re-login after the session had ended, whose next attempt
        quotes that ended session. Either way it gets the session that is its own already: nothing is ended."""
        bench = Bench(nodes=nodes)
        bob = bench.login("bob", "room").keep()
        if first:
            lost = bench.login("alice", instance=b"i" * 16, login_id=b"l" * 16)
            before = {"instance": b"i" * 16, "login_id": b"l" * 16, "attempt": 1}
        else:
            alice = bench.login("alice", "room")
            alice.lose()
            bench.advance(30.0)
            lost = bench.login("alice", resume=alice)
            alice.attempt = lost.attempt
            before = {"resume": alice}
        assert not lost.welcome.resumed
        lost.join("room")
        seen = len(bob.members("room"))
        if noticed:
            lost.lose()
        bench.advance(20.0 if noticed else 5.0)
        back = bench.login("alice", node=int(nodes > 1), **before, want=[lost.cursor("room")])
        assert back.welcome.resumed
        assert (back.welcome.session_id, back.welcome.attach) == (lost.welcome.session_id, 2)
        assert back.welcome.login_epoch == lost.welcome.login_epoch
        assert lost.of(Kicked) == []
        back.keep()
        bench.advance(60.0)
        assert back.gone is None
        assert len(bob.members("room")) == seen
        bob.publish("room", "hello")
        assert back.texts("room") == ["hello"]

    def test_a_login_whose_transport_is_gone_makes_no_session_and_ends_none(self) -> None:
        """S19: when the authenticator answers late."""
        bench = Bench()
        alice = bench.login("alice")
        bench.auto_login = ...
        ghost = bench.open()
        ghost.login("alice")
        ghost.lose()
        bench.hub.accept_login(ghost.id, now=bench.now)
        bench.hub.refuse_login(ghost.id, Code.BAD_TOKEN, "late", now=bench.now)
        bench.settle()
        assert alice.gone is None
        assert alice.join("room").member_count == 1

    def test_a_transport_lost_while_the_engine_decides_leaves_an_interrupted_session(self) -> None:
        """S19, S24: the engine has decided; the session begins interrupted and ends 30 s later."""
        bench = Bench(nodes=1)
        bob = bench.login("bob", "room").keep()
        alice = bench.login("alice", "room")
        bench.held.add(0)
        again = bench.login("alice", resume=alice)
        again.lose()
        bench.release()
        bench.advance(29.9)
        assert bob.members("room") == [JoinedEntry("alice")]
        bench.advance(0.2)
        assert bob.members("room") == [JoinedEntry("alice"), LeftEntry("alice", LeaveCause.TIMED_OUT)]

    def test_a_refusal_for_a_transport_that_is_gone_is_dropped(self) -> None:
        """S19: nobody is there to be told."""
        bench = Bench(nodes=1)
        bench.hub.ban("alice", 10.0, now=bench.now)
        bench.settle()
        bench.held.add(0)
        alice = bench.login("alice")
        alice.lose()
        bench.release()
        assert alice.messages == []


@pytest.mark.parametrize(
    ("login", "words"),
    [
        (Login("alice", "", b"i" * 15, b"l" * 16, 0), "instance_id has 16 bytes, not 15"),
        (Login("alice", "", b"i" * 16, b"l" * 17, 0), "login_id has 16 bytes, not 17"),
        (Login("alice", "", b"i" * 16, b"l" * 16, 0, b"s" * 10_000, 1, 1), "session_id has 16 bytes, not 10000"),
        (Login("alice", "", b"i" * 16, b"l" * 16, -1), "attempt is negative"),
        (Login("alice", "", b"i" * 16, b"l" * 16, 0, None, -1), "login_epoch is negative"),
        (Login("alice", "t" * 8193, b"i" * 16, b"l" * 16, 0), "at most 8192 bytes"),
        (Logout(1), "something else than a login"),
    ],
)
def test_a_bad_login_is_told_what_is_wrong(login: Any, words: str) -> None:
    """S50: without a secret in it."""
    ghost = Bench().open()
    ghost.send(login)
    assert ghost.close_code == 1002
    assert words in ghost.close_reason


class TestOneUidOneInstance:
    """S30, S31, S32."""

    def test_a_login_ends_the_other_session_at_once(self) -> None:
        """S30, S32: the other transport gets the reason and is closed; its channels see it leave."""
        bench = Bench()
        bob = bench.login("bob", "room")
        old = bench.login("alice", "room")
        new = bench.login("alice")
        assert [(kick.code, kick.message) for kick in old.of(Kicked)] == [
            (Code.REMOTE_LOGIN, "another instance of the uid logged in")
        ]
        assert old.close_code == Code.REMOTE_LOGIN
        new.join("room")
        assert bob.members("room") == [
            JoinedEntry("alice"),
            LeftEntry("alice", LeaveCause.REPLACED),
            JoinedEntry("alice"),
        ]
        assert new.welcome.login_epoch > old.welcome.login_epoch

    def test_an_overtaken_instance_is_told_so_and_never_gone(self) -> None:
        """S19, S30: on its next attempt, even after its session would have expired."""
        bench = Bench()
        old = bench.login("alice")
        old.lose()
        new = bench.login("alice")
        assert bench.login("alice", resume=old).refusal.code == Code.REMOTE_LOGIN
        assert bench.login("alice", again=old).refusal.code == Code.REMOTE_LOGIN
        new.send(Logout(1))
        bench.advance(100.0)
        assert bench.login("alice", resume=old).refusal.code == Code.REMOTE_LOGIN

    def test_the_holder_of_the_epoch_may_return(self) -> None:
        """S31: quoted = stored, though its session is gone."""
        bench = Bench()
        old = bench.login("alice")
        old.lose()
        bench.advance(31.0)
        back = bench.login("alice", resume=old)
        assert not back.welcome.resumed
        assert back.welcome.login_epoch == old.welcome.login_epoch

    @pytest.mark.parametrize("newer_first", [True, False])
    def test_after_a_restart_the_newer_login_wins(self, newer_first: bool) -> None:
        """S31: whichever comes back first, the newer ends up connected; a login after the restart beats both."""
        bench = Bench()
        older = bench.login("alice")
        newer = bench.login("alice")
        bench.advance(1.0)
        bench.restart()
        if newer_first:
            back = bench.login("alice", resume=newer)
            assert not back.welcome.resumed
            assert bench.login("alice", resume=older).refusal.code == Code.REMOTE_LOGIN
        else:
            early = bench.login("alice", resume=older)
            assert early.welcome.login_epoch == older.welcome.login_epoch
            back = bench.login("alice", resume=newer)
            assert [kick.code for kick in early.of(Kicked)] == [Code.REMOTE_LOGIN]
        assert back.gone is None
        assert back.welcome.login_epoch == newer.welcome.login_epoch
        third = bench.login("alice")
        assert third.welcome.login_epoch > newer.welcome.login_epoch
        assert [kick.code for kick in back.of(Kicked)] == [Code.REMOTE_LOGIN]
        assert bench.login("alice", resume=newer).refusal.code == Code.REMOTE_LOGIN

    def test_a_forged_epoch_wins_nothing(self) -> None:
        """S31: later than any given, and not from before this memory: it ends no attached session."""
        bench = Bench()
        alice = bench.login("alice", instance=b"i" * 16)
        forged = bench.open()
        forged.send(Login("alice", "token", b"x" * 16, b"y" * 16, 0, b"s" * 16, 2**62, 7), Want(()))
        assert forged.refusal.code == Code.ALREADY_LOGGED_IN
        assert alice.gone is None
        own = bench.open()
        own.send(Login("alice", "token", b"i" * 16, b"y" * 16, 0, b"s" * 16, 2**62, 7), Want(()))
        assert own.welcome.login_epoch < 2**62
        own.lose()
        later = bench.open()
        later.send(Login("alice", "token", b"x" * 16, b"z" * 16, 0, None, 2**62), Want(()))
        assert alice.welcome.login_epoch < later.welcome.login_epoch < 2**62

    def test_kick_marks_the_epoch(self) -> None:
        """S31: a resume or re-login that quotes it gets KICKED; a new login is free."""
        bench = Bench()
        alice = bench.login("alice")
        bench.hub.kick("alice", now=bench.now)
        bench.settle()
        assert [kick.code for kick in alice.of(Kicked)] == [Code.KICKED]
        assert alice.close_code == Code.KICKED
        assert bench.login("alice", resume=alice).refusal.code == Code.KICKED
        assert bench.login("alice", again=alice).refusal.code == Code.KICKED
        assert bench.login("alice").welcome

    def test_kick_while_the_instance_is_away(self) -> None:
        """F-48, F-50: told at its next contact."""
        bench = Bench()
        bob = bench.login("bob", "room")
        alice = bench.login("alice", "room")
        alice.lose()
        bench.hub.kick("alice", now=bench.now)
        bench.settle()
        assert bob.entries("room")[-1][1] == LeftEntry("alice", LeaveCause.KICKED)
        assert bench.login("alice", resume=alice).refusal.code == Code.KICKED

    def test_kick_of_nobody(self) -> None:
        """Neither an error nor of any effect."""
        bench = Bench()
        bench.hub.kick("nobody", now=bench.now)
        bench.settle()
        assert bench.login("nobody").welcome

    def test_ban_refuses_every_login_until_it_ends(self) -> None:
        """S6, S38: the cause is told to the members, the code to the banned."""
        bench = Bench()
        bob = bench.login("bob", "room")
        alice = bench.login("alice", "room")
        bench.hub.ban("alice", 60.0, now=bench.now)
        bench.settle()
        assert [kick.code for kick in alice.of(Kicked)] == [Code.BANNED]
        assert bob.entries("room")[-1][1] == LeftEntry("alice", LeaveCause.BANNED)
        refusal = bench.login("alice").refusal
        assert refusal.code == Code.BANNED
        assert refusal.retry_after == pytest.approx(60.0)
        assert bench.login("alice", resume=alice).refusal.code == Code.BANNED
        bench.advance(60.0)
        assert bench.login("alice", resume=alice).refusal.code == Code.BANNED  # that login stays ended
        assert bench.login("alice").welcome

    @pytest.mark.parametrize("seconds", [0.0, -1.0, float("nan"), float("inf"), 10**400, "60"])
    def test_a_ban_lasts(self, seconds: float) -> None:
        """A misuse raises at the call."""
        with pytest.raises(InvalidArgument):
            Bench().hub.ban("alice", seconds, now=1000.0)

    @pytest.mark.parametrize("uid", ["", "x" * 65, "ümlaut"])
    def test_a_kick_or_ban_of_what_is_no_uid(self, uid: str) -> None:
        """A misuse raises at the call."""
        hub = Bench().hub
        with pytest.raises(InvalidArgument, match="1 to 64 printable ASCII"):
            hub.kick(uid, now=1000.0)
        with pytest.raises(InvalidArgument, match="1 to 64 printable ASCII"):
            hub.ban(uid, 1.0, now=1000.0)

    @pytest.mark.parametrize("messages", [1, 3])
    def test_a_logout_behind_a_message_whose_transport_ends_in_the_same_pass(self, messages: int) -> None:
        """S7, S46: it was read before the end of the stream; what it waits for is only the append of the same pass."""
        bench = Bench()
        bob, alice = bench.login("bob", "room"), bench.login("alice", "room")
        texts = [PublishText(5 + number, "room", "last words") for number in range(messages)]
        batch = encode_batch([*texts, Logout(9)])
        bench.hub.receive_data(alice.id, alice.wire.frame(batch), now=bench.now)
        bench.pump(0)
        alice.lose()
        assert bob.texts("room") == ["last words"] * messages
        assert bob.members("room") == [JoinedEntry("alice"), LeftEntry("alice", LeaveCause.LOGGED_OUT)]

    def test_a_logout_behind_a_join_whose_transport_is_gone(self) -> None:
        """S7, E2: nothing of the session is left, however far the join had come."""
        bench = Bench(nodes=1)
        bob, alice = bench.login("bob", "room"), bench.login("alice")
        bench.held.add(0)
        alice.send(Join(5, "room"), Logout(6))
        alice.lose()
        bench.release(0)
        assert [type(entry) for entry in bob.members("room")] in ([], [JoinedEntry, LeftEntry])
        assert bench.login("witness").join("room").member_count == 2

    def test_a_logout_needs_no_statement(self) -> None:
        """S7, S59: a client that logs out before it could state its wishes leaves no session behind."""
        bench = Bench()
        alice = FakeClient(bench, 0)
        alice.shake_hands()
        alice.login("alice", want=None)
        alice.send(Logout(9))
        assert alice.answer(9).number == 9
        assert alice.close_code == 1000
        assert not bench.login("alice", resume=alice).welcome.resumed

    def test_a_logout_is_never_refused_for_the_rate(self) -> None:
        """S7, S45."""
        bench = Bench(ServerConfig(requests_per_second=1, request_burst=1))
        alice = bench.login("alice")
        for number in range(1, 4):
            alice.send(Leave(number, "room"))
        assert isinstance(alice.messages[-1], Failed)
        alice.send(Logout(9))
        assert alice.answer(9).number == 9

    def test_logout_ends_the_session_at_once(self) -> None:
        """S7, S38: confirmed, closed, and seen as a logout."""
        bench = Bench()
        bob = bench.login("bob", "room")
        alice = bench.login("alice", "room")
        alice.send(Logout(9))
        assert alice.answer(9).number == 9
        assert alice.close_code == 1000
        assert bob.entries("room")[-1][1] == LeftEntry("alice", LeaveCause.LOGGED_OUT)
        assert not bench.login("alice", resume=alice).welcome.resumed

    def test_a_logout_whose_transport_goes_before_its_answer(self) -> None:
        """S7: the session has ended all the same."""
        bench = Bench(nodes=1)
        bob = bench.login("bob", "room")
        alice = bench.login("alice", "room")
        bench.held.add(0)
        alice.send(Logout(9))
        alice.lose()
        bench.release()
        assert bob.members("room")[-1] == LeftEntry("alice", LeaveCause.LOGGED_OUT)


class TestTokens:
    """S6, S28."""

    def test_the_authenticator_is_asked_with_the_wall_clock(self) -> None:
        """S28: the server's clock decides; the token is not in the event's text."""
        bench = Bench()
        bench.login("alice", token="secret")
        (event,) = bench.events
        assert isinstance(event, LoginRequested)
        assert (event.uid, event.token, event.wall_clock) == ("alice", "secret", bench.wall)
        assert "secret" not in repr(event)

    def test_a_refused_login(self) -> None:
        """S6, S41: the code and how long to wait reach the client; the transport is closed with the code."""
        bench = Bench()
        bench.auto_login = ...
        alice = bench.login("alice")
        bench.hub.refuse_login(alice.id, Code.BAD_TOKEN, "no", retry_after_seconds=7.0, now=bench.now)
        bench.settle()
        assert (alice.refusal.code, alice.refusal.message, alice.refusal.retry_after) == (Code.BAD_TOKEN, "no", 7.0)
        assert alice.close_code == Code.BAD_TOKEN
        bench.hub.accept_login(alice.id, now=bench.now)  # too late
        bench.settle()
        assert not alice.of(Welcome)

    def test_an_expired_token_makes_no_session(self) -> None:
        """S6: whatever the authenticator says."""
        bench = Bench()
        bench.auto_login = bench.wall
        assert bench.login("alice").refusal.code == Code.TOKEN_EXPIRED

    def test_the_welcome_states_what_is_left(self) -> None:
        """S28."""
        bench = Bench()
        bench.auto_login = bench.wall + 100.0
        assert bench.login("alice").welcome.expires_in == pytest.approx(100.0)
        bench.auto_login = None
        assert bench.login("bob").welcome.expires_in is None

    @pytest.mark.parametrize("uid", ["", "x" * 65, "ümlaut", "a\nb"])
    def test_a_uid_that_cannot_be(self, uid: str) -> None:
        """S45: refused with the limit in the message."""
        refusal = Bench().login(uid).refusal
        assert refusal.code == Code.INVALID_UID
        assert "64" in refusal.message

    def test_an_expired_token_does_not_cut_a_connection(self) -> None:
        """S28: unless the server enforces it."""
        bench = Bench()
        bench.auto_login = bench.wall + 5.0
        alice = bench.login("alice")
        bench.advance(9.0)
        assert alice.gone is None
        assert alice.join("room").member_count == 1

    def test_enforced_expiry_ends_the_session_in_time(self) -> None:
        """S28: at the end of the token, even one shorter than any other deadline."""
        bench = Bench(enforce_token_expiry=True)
        bob = bench.login("bob", "room")
        bench.auto_login = bench.wall + 3.0
        alice = bench.login("alice", "room")
        bench.advance(2.999)
        assert not alice.of(Kicked)
        bench.advance(0.001)
        assert [kick.code for kick in alice.of(Kicked)] == [Code.TOKEN_EXPIRY_ENFORCED]
        assert bob.entries("room")[-1][1] == LeftEntry("alice", LeaveCause.KICKED)

    def test_renewal_moves_the_enforced_end(self) -> None:
        """S28: renewing never drops the connection; a shift of the wall clock moves no timer (F-21)."""
        bench = Bench(enforce_token_expiry=True)
        bench.auto_login = bench.wall + 3.0
        alice = bench.login("alice")
        alice.send(RenewToken(1, "new"))
        event = bench.events[-1]
        assert isinstance(event, RenewalRequested)
        assert (event.uid, event.token, event.number) == ("alice", "new", 1)
        assert "new" not in repr(event).replace("RenewalRequested", "")
        bench.hub.accept_renewal(alice.id, 1, expires_at=bench.wall + 8.0, now=bench.now)
        bench.settle()
        assert alice.answer(1).expires_in == pytest.approx(8.0)
        bench.wall_offset += 3600.0
        bench.hub.set_wall_clock(bench.wall, now=bench.now)
        bench.advance(7.9)
        assert not alice.of(Kicked)
        bench.advance(0.1)
        assert alice.of(Kicked)

    def test_renewals_are_judged_one_by_one_and_hold_nothing_up(self) -> None:
        """S28, S46: a slow authenticator does not stop other requests; at most 8 wait."""
        bench = Bench()
        alice = bench.login("alice", "room")
        alice.send(*(RenewToken(number, f"token{number}") for number in range(10, 20)))
        assert [failed.number for failed in alice.of(Failed)] == [18, 19]
        assert alice.publish("room", "meanwhile").offset == 2
        assert [event.token for event in bench.events[1:]] == ["token10"]
        bench.hub.refuse_renewal(alice.id, 10, Code.BAD_TOKEN, "no", now=bench.now)
        bench.settle()
        assert alice.answer(10).code == Code.BAD_TOKEN
        assert [event.token for event in bench.events[1:]] == ["token10", "token11"]
        bench.hub.accept_renewal(alice.id, 11, expires_at=bench.wall - 1.0, now=bench.now)
        bench.settle()
        assert alice.answer(11).code == Code.TOKEN_EXPIRED
        for number in range(12, 18):
            bench.hub.accept_renewal(alice.id, number, now=bench.now)
            bench.settle()
        assert [renewed.number for renewed in alice.of(Renewed)] == [12, 13, 14, 15, 16, 17]
        bench.hub.accept_renewal(alice.id, 17, now=bench.now)  # nothing is judged any more
        bench.hub.refuse_renewal(alice.id, 17, Code.BAD_TOKEN, "no", now=bench.now)
        bench.settle()
        assert len(alice.of(Renewed)) == 6

    @pytest.mark.parametrize("end", ["lost", "closed", "violation", "deadline", "hub closed"])
    @pytest.mark.parametrize("what", ["login", "renewal"])
    def test_a_verdict_that_nobody_waits_for_is_withdrawn(self, what: str, end: str) -> None:
        """S51: logins that were given up do not shut out others; once for each transport, and not after a verdict."""
        bench = Bench()
        if what == "login":
            bench.auto_login = ...
            alice = bench.open()
            alice.login("alice", want=None)
        else:
            alice = bench.login("alice")
            alice.send(RenewToken(1, "new"), RenewToken(2, "newer"))
        asked = len(bench.events)
        if end == "lost":
            alice.lose()
        elif end == "closed":
            alice.wire.close(1000, "")
            alice.raw(alice.wire.data_to_send())
        elif end == "violation":
            alice.raw(alice.wire.frame(b"\xc1"))
        elif end == "deadline":
            bench.advance(11.0)
        else:
            bench.hub.close(now=bench.now)
            bench.settle()
        bench.advance(20.0)
        assert bench.events[asked:] == [LoginWithdrawn(transport_id=alice.id)]

    @pytest.mark.parametrize("accepted", [True, False])
    def test_a_verdict_that_was_given_is_not_withdrawn(self, accepted: bool) -> None:
        bench = Bench()
        bench.auto_login = ...
        alice = bench.open()
        alice.login("alice")
        if accepted:
            bench.hub.accept_login(alice.id, now=bench.now)
        else:
            bench.hub.refuse_login(alice.id, Code.BAD_TOKEN, "no", now=bench.now)
        bench.settle()
        alice.lose()
        assert [type(event) for event in bench.events] == [LoginRequested]

    def test_a_verdict_given_twice_is_no_verdict_on_the_next_token(self) -> None:
        """S28: only the renewal that was judged is answered; the one behind it waits for its own verdict."""
        bench = Bench()
        alice = bench.login("alice")
        alice.send(RenewToken(1, "good"), RenewToken(2, "bad"))
        for _ in range(3):
            bench.hub.accept_renewal(alice.id, 1, now=bench.now)
            bench.settle()
        assert [renewed.number for renewed in alice.of(Renewed)] == [1]
        bench.hub.refuse_renewal(alice.id, 1, Code.BAD_TOKEN, "no", now=bench.now)
        bench.settle()
        assert not alice.of(Failed)
        bench.hub.refuse_renewal(alice.id, 2, Code.BAD_TOKEN, "no", now=bench.now)
        bench.settle()
        assert [failed.number for failed in alice.of(Failed)] == [2]

    def test_a_token_that_ends_needs_a_wall_clock(self) -> None:
        """S28: without one nobody could tell when it ends, and it would be good for ever."""
        hub = Hub(ServerConfig(), entropy=bytes, rng=random.Random(0))
        transport_id = hub.transport_accepted(now=0.0)
        with pytest.raises(InvalidState, match="set_wall_clock"):
            hub.accept_login(transport_id, expires_at=1.0, now=0.0)
        with pytest.raises(InvalidState, match="set_wall_clock"):
            hub.accept_renewal(transport_id, 1, expires_at=1.0, now=0.0)

    def test_a_token_too_long(self) -> None:
        """S45: refused as a request; in a login it is a protocol error."""
        bench = Bench()
        alice = bench.login("alice")
        alice.send(RenewToken(1, "x" * 9000))
        assert alice.answer(1).code == Code.BAD_TOKEN
        bob = bench.login("bob", token="x" * 9000)
        assert bob.close_code == 1002

    def test_without_a_wall_clock_only_a_token_without_an_end_will_do(self) -> None:
        """S28: nothing is guessed."""
        bench = Bench()
        bench.hub._context.wall_offset = None
        alice = bench.login("alice", "room")
        assert alice.welcome.expires_in is None
        assert bench.events[0].wall_clock is None
        assert alice.publish("room", "x").offset == 2
