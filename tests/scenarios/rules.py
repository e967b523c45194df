"""The rules that hold on real sockets as in virtual time, each as one scenario.

A scenario waits for events and never sleeps. Everything that it does is in an order that its actors cannot change,
so that what they hear can be compared, event by event, between worlds.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from rtm_sansio import (
    ChannelSettings,
    InvalidArgument,
    LoginFailed,
    LoginTimeout,
    NotLoggedIn,
    Outcome,
    RequestAbandoned,
    RequestRefused,
)
from rtm_sansio.messages import LOGIN_BYTES, SUBPROTOCOL_MSGPACK, Login, encode_batch
from scenarios.adapter import CLIENT_HOME, INBOX, World

Script = Callable[[World], None]


class Scenario:
    """A script, and the settings of the server that it needs."""

    def __init__(self, script: Script, server: dict[str, Any]) -> None:
        self.script = script
        self.server = server
        self.name = script.__name__


SCENARIOS: list[Scenario] = []


def scenario(**server: Any) -> Callable[[Script], Script]:
    """Registers a script; ``server`` are fields of the ServerConfig that differ from the defaults."""

    def register(script: Script) -> Script:
        SCENARIOS.append(Scenario(script, server))
        return script

    return register


# Where the 30 s of a session without a transport are not what is shown, they need not be waited for.
SHORT_PRESENCE = {"presence_grace_seconds": 12.0}

CONNECTED = ("CONNECTED", "LOGIN_SUCCESS")
LOGGED_IN = [("CONNECTING", "LOGIN"), CONNECTED]
INTERRUPTED = ("RECONNECTING", "INTERRUPTED")


@scenario()
def s05_login_timeout(world: World) -> None:
    """S5: a server that accepts TCP and says nothing yields LOGIN_TIMEOUT 6 s after the call."""
    alice = world.actor("alice")
    alice.link.stall()
    begun = world.elapsed
    with pytest.raises(LoginTimeout) as failure:
        alice.login()
    assert isinstance(failure.value, TimeoutError)
    world.check_time(alice.wait_state("DISCONNECTED") - begun, 6.0)
    alice.check_changes(("CONNECTING", "LOGIN"), ("DISCONNECTED", "LOGIN_TIMEOUT"))
    alice.link.restore()
    alice.login()  # S3: it ended, and another one begins
    assert alice.state == "CONNECTED"


@scenario()
def s06_retries_and_verdicts(world: World) -> None:
    """S6: within 6 s passing trouble is retried, and the error carries its cause; a verdict ends the login at once."""
    # The default back-off may put the one attempt that matters right before the end of the 6 s.
    alice = world.actor("alice", backoff_cap_seconds=1.0)
    bob, mallory = world.actor("bob"), world.actor("mallory")
    alice.link.cut(2.0)
    bob.link.cut()
    begun = world.elapsed
    alices, bobs = alice.begin_login(), bob.begin_login()
    with pytest.raises(LoginFailed) as verdict:
        mallory.login("bad token")
    assert verdict.value.code == "bad_token"
    assert verdict.value.attempts == 1
    assert verdict.value.__cause__ is not None
    mallory.check_changes(("CONNECTING", "LOGIN"), ("DISCONNECTED", "LOGIN_FAILURE"))
    alices.result()
    alice.check_changes(*LOGGED_IN)
    with pytest.raises(LoginTimeout) as timeout:
        bobs.result()
    world.check_time(bob.wait_state("DISCONNECTED") - begun, 6.0)
    assert timeout.value.last_cause == "connection_refused"
    assert timeout.value.attempts >= 2
    assert timeout.value.__cause__ is not None
    mallory.login("good after all")


@scenario(**SHORT_PRESENCE)
def s07_logout(world: World) -> None:
    """S7: logout counts at once, whatever the network does; without a link the server finds out by S24."""
    watcher, alice, dave, erin, frank = (world.actor(name) for name in ("watcher", "alice", "dave", "erin", "frank"))
    watcher.login()
    for member, channel in ((alice, "lobby"), (dave, "den"), (erin, "attic")):
        watcher.join(channel)
        member.login()
        member.join(channel)
        watcher.wait(channel, "joined", member.uid)
    # With a link: confirmed.
    alice.logout()
    alice.check_changes(*LOGGED_IN, ("DISCONNECTED", "LOGOUT"))
    watcher.wait("lobby", "left", "alice", "LOGGED_OUT")
    with pytest.raises(NotLoggedIn):
        alice.logout()
    # A silent link: after 2 s without an answer.
    dave.link.stall()
    begun = world.elapsed
    pending = dave.begin_logout()
    world.check_time(dave.wait_state("DISCONNECTED") - begun, 0.0)
    pending.result()
    world.check_time(world.elapsed - begun, 2.0)
    # No link: at once.
    erin.link.cut()
    begun = world.elapsed
    erin.logout()
    world.check_time(world.elapsed - begun, 0.0)
    # While CONNECTING: the pending login ends with an error.
    frank.link.stall()
    login = frank.begin_login()
    frank.wait_state("CONNECTING")
    frank.logout()
    with pytest.raises(LoginFailed) as ended:
        login.result()
    assert ended.value.code == "logged_out"
    frank.check_changes(("CONNECTING", "LOGIN"), ("DISCONNECTED", "LOGOUT"))
    watcher.wait("den", "left", "dave", "TIMED_OUT")
    watcher.wait("attic", "left", "erin", "TIMED_OUT")


@scenario()
def s08_aborted_stays(world: World) -> None:
    """S8: after ABORTED there is no attempt to connect; logout, then login, work again."""
    alice, bob = world.actor("alice"), world.actor("bob")
    for actor in (alice, bob):
        actor.login()
    alice.join("lobby")
    world.kick("alice")
    alice.wait_state("ABORTED")
    connections = alice.link.connections
    # Long enough for many attempts: bob goes through an outage.
    bob.link.cut(5.0)
    bob.wait_state("CONNECTED", count=2)
    assert alice.link.connections == connections
    assert alice.state == "ABORTED"
    alice.logout()
    alice.login()
    alice.join("lobby")
    alice.check_changes(
        *LOGGED_IN,
        ("ABORTED", "KICKED_BY_SERVER"),
        ("DISCONNECTED", "LOGOUT"),
        *LOGGED_IN,
    )


@scenario()
def s11_silent_loss(world: World) -> None:
    """S11: a silent loss is shown 4 s after the last byte that arrived, and it ends without a loss."""
    alice, bob = world.actor("alice"), world.actor("bob")
    for actor in (alice, bob):
        actor.login()
        actor.join("lobby")
    alice.send("lobby", "the answer is the last byte")
    alice.link.stall()
    began = world.elapsed
    bob.send("lobby", "one")
    world.check_time(alice.wait_state("RECONNECTING") - began, 4.0, early=2.1)
    bob.send("lobby", "two")
    alice.link.restore()
    alice.wait_state("CONNECTED", count=2)
    bob.send("lobby", "three")
    alice.wait("lobby", "message", "bob", "three")
    assert alice.messages("lobby") == ["one", "two", "three"]
    alice.check_changes(*LOGGED_IN, INTERRUPTED, CONNECTED)
    assert bob.messages("lobby") == ["the answer is the last byte"]


@scenario()
def s11_standstill(world: World) -> None:
    """S11: a process that stood still for longer than 4 s is not interrupted, if its next heartbeat is answered."""
    alice = world.actor("alice")
    alice.login()
    alice.join("lobby")
    alice.send("lobby", "before")  # so that the server does not miss it while it stands still
    alice.freeze(6.0)
    alice.send("lobby", "behind")
    alice.check_changes(*LOGGED_IN)
    assert alice.link.connections == 1


@scenario()
def s12_loud_loss(world: World) -> None:
    """S12: a loud loss that is mended within 4 s is not shown, and nothing is lost, either way."""
    alice, bob = world.actor("alice"), world.actor("bob")
    for actor in (alice, bob):
        actor.login()
        actor.join("lobby")
    alice.wait("lobby", "joined", "bob")
    alice.link.cut(1.5)
    sent = alice.begin_send("lobby", "from the outage")
    bob.send("lobby", "one", "two")
    sent.result()
    bob.wait("lobby", "message", "alice", "from the outage")
    bob.send("lobby", "three")
    alice.wait("lobby", "message", "bob", "three")
    assert alice.messages("lobby") == ["one", "two", "three"]
    assert bob.messages("lobby") == ["from the outage"]
    alice.check_changes(*LOGGED_IN)
    assert alice.link.connections >= 2


@scenario()
def s17_session_gone(world: World) -> None:
    """S17: a server without memory of the session: the loss is shown at once, and the client logs in anew by itself."""
    alice = world.actor("alice")
    alice.login()
    alice.join("lobby")
    alice.send("lobby", "before")
    world.restart_server()
    alice.wait_state("CONNECTED", count=2)
    alice.wait("lobby", "lost", None)
    alice.check_changes(*LOGGED_IN, INTERRUPTED, CONNECTED)
    assert alice.briefs()[2][3] == "session_gone"
    bob = world.actor("bob")
    bob.login()
    bob.join("lobby")
    alice.wait("lobby", "joined", "bob")
    bob.send("lobby", "after")
    alice.wait("lobby", "message", "bob", "after")


@scenario()
def s23_back_within_presence(world: World) -> None:
    """S23: back within 30 s the session goes on: nobody saw anything, and all that was sent arrives once, in order."""
    alice, bob = world.actor("alice"), world.actor("bob")
    for actor in (alice, bob):
        actor.login()
        actor.join("lobby")
        actor.join("den")
    alice.wait("den", "joined", "bob")
    alice.link.cut()
    alice.wait_state("RECONNECTING")
    for number in range(20):
        bob.send("lobby", f"lobby {number}")
        bob.send("den", f"den {number}")
    alice.link.restore()
    alice.wait_state("CONNECTED", count=2)
    for channel in ("lobby", "den"):
        bob.send(channel, "the end")
        alice.wait(channel, "message", "bob", "the end")
        assert alice.messages(channel) == [*(f"{channel} {number}" for number in range(20)), "the end"]
        assert [brief for brief in bob.briefs(channel) if brief[0] != "message"] == []
    alice.send("lobby", "still a member")
    bob.wait("lobby", "message", "alice", "still a member")


@scenario()
def s24_presence_ends(world: World) -> None:
    """S24: 30 s after the interruption the session ends, and each remaining member gets one MemberLeft."""
    alice, bob, carol = world.actor("alice"), world.actor("bob"), world.actor("carol")
    for actor in (bob, carol, alice):
        actor.login()
        actor.join("lobby")
    for member in (bob, carol):
        member.wait("lobby", "joined", "alice")
    alice.link.cut()
    began = world.elapsed
    for member in (bob, carol):
        world.check_time(member.wait("lobby", "left", "alice", "TIMED_OUT") - began, 30.0)
    bob.send("lobby", "she is gone")
    carol.wait("lobby", "message", "bob", "she is gone")
    for member in (bob, carol):
        assert [brief[:2] for brief in member.briefs("lobby")].count(("left", "alice")) == 1


@scenario(**SHORT_PRESENCE)
def s25_back_after_presence(world: World) -> None:
    """S25: back after 30 s the client logs in anew by itself and rejoins; what the log still has is delivered."""
    alice, bob = world.actor("alice"), world.actor("bob")
    for actor in (bob, alice):
        actor.login()
        actor.join("lobby")
    bob.wait("lobby", "joined", "alice")
    alice.link.cut()
    alice.wait_state("RECONNECTING")
    bob.send("lobby", "one")
    bob.wait("lobby", "left", "alice", "TIMED_OUT")
    bob.send("lobby", "two")
    alice.link.restore()
    alice.wait_state("CONNECTED", count=2)
    bob.wait("lobby", "joined", "alice", count=2)
    bob.send("lobby", "three")
    alice.wait("lobby", "message", "bob", "three")
    assert alice.messages("lobby") == ["one", "two", "three"]
    alice.check_changes(*LOGGED_IN, INTERRUPTED, CONNECTED)
    assert [brief[:2] for brief in bob.briefs("lobby")] == [
        ("joined", "alice"),
        ("left", "alice"),
        ("joined", "alice"),
    ]


@scenario(**SHORT_PRESENCE)
def s30_second_login(world: World) -> None:
    """S30: a login ends the uid's other session at once, even if that is RECONNECTING, or has expired."""
    phone, laptop, tablet = (world.actor(name, uid="alice") for name in ("phone", "laptop", "tablet"))
    watcher = world.actor("watcher")
    watcher.login()
    watcher.join("lobby")
    phone.login()
    phone.join("lobby")
    laptop.login()
    phone.wait_state("ABORTED")
    phone.check_changes(*LOGGED_IN, ("ABORTED", "REMOTE_LOGIN"))
    watcher.wait("lobby", "left", "alice", "REPLACED")
    laptop.join("lobby")  # S32: a new session starts with no channels
    watcher.wait("lobby", "joined", "alice", count=2)
    # The other one is away, and its session expires; it learns of the new login at its next attempt.
    laptop.link.cut()
    laptop.wait_state("RECONNECTING")
    watcher.wait("lobby", "left", "alice", "TIMED_OUT")
    tablet.login()
    laptop.link.restore()
    laptop.wait_state("ABORTED")
    laptop.check_changes(*LOGGED_IN, INTERRUPTED, ("ABORTED", "REMOTE_LOGIN"))
    tablet.check_changes(*LOGGED_IN)


def _two_instances_over_a_restart(world: World) -> tuple[Any, Any]:
    """An older and a newer instance of alice, both cut off when the server lost its memory."""
    older, newer = world.actor("older", uid="alice"), world.actor("newer", uid="alice")
    older.login()
    older.link.cut()
    older.wait_state("RECONNECTING")
    newer.login()
    newer.link.cut()
    newer.wait_state("RECONNECTING")
    world.restart_server()
    return older, newer


@scenario()
def s31_older_returns_first(world: World) -> None:
    """S31: after a restart the older instance comes back first, and yields to the newer one when that comes."""
    older, newer = _two_instances_over_a_restart(world)
    older.link.restore()
    older.wait_state("CONNECTED", count=2)
    newer.link.restore()
    newer.wait_state("CONNECTED", count=2)
    older.wait_state("ABORTED")
    older.check_changes(*LOGGED_IN, INTERRUPTED, CONNECTED, ("ABORTED", "REMOTE_LOGIN"))
    newer.check_changes(*LOGGED_IN, INTERRUPTED, CONNECTED)


@scenario()
def s31_newer_returns_first(world: World) -> None:
    """S31: the newer instance comes back first; the older one is ABORTED; a new login beats both."""
    older, newer = _two_instances_over_a_restart(world)
    newer.link.restore()
    newer.wait_state("CONNECTED", count=2)
    older.link.restore()
    older.wait_state("ABORTED")
    older.check_changes(*LOGGED_IN, INTERRUPTED, ("ABORTED", "REMOTE_LOGIN"))
    assert newer.state == "CONNECTED"
    newest = world.actor("newest", uid="alice")
    newest.login()
    newer.wait_state("ABORTED")
    newest.check_changes(*LOGGED_IN)


@scenario()
def s28_renewal(world: World) -> None:
    """S28: a renewal never drops the connection, whether the new token is accepted or not."""
    alice = world.actor("alice")
    alice.login()
    alice.join("lobby")
    alice.renew("another good one")
    with pytest.raises(RequestRefused) as refusal:
        alice.renew("bad")
    assert refusal.value.code == "bad_token"
    assert refusal.value.outcome is Outcome.REFUSED
    alice.send("lobby", "still here")
    alice.check_changes(*LOGGED_IN)
    assert alice.link.connections == 1


@scenario()
def s41_ban(world: World) -> None:
    """S41: a ban ends the session, and its user cannot come back for as long as it lasts."""
    alice, bob = world.actor("alice"), world.actor("bob")
    for actor in (bob, alice):
        actor.login()
        actor.join("lobby")
    bob.wait("lobby", "joined", "alice")
    world.ban("alice", 3600.0)
    alice.wait("lobby", "end", "banned")  # the iterator raises SessionEnded
    bob.wait("lobby", "left", "alice", "BANNED")
    alice.check_changes(*LOGGED_IN, ("ABORTED", "BANNED_BY_SERVER"))
    alice.logout()
    with pytest.raises(LoginFailed) as refusal:
        alice.login()
    assert refusal.value.code == "banned"


@scenario()
def s44_leave_without_a_link(world: World) -> None:
    """S44: a leave while there is no connection counts at once, and is never undone by the reconnect."""
    alice, bob = world.actor("alice"), world.actor("bob")
    for actor in (bob, alice):
        actor.login()
        actor.join("lobby")
        actor.join("side")
    bob.wait("side", "joined", "alice")
    alice.link.cut()
    alice.wait_state("RECONNECTING")
    alice.leave("lobby")
    bob.send("lobby", "not for her")
    alice.link.restore()
    bob.wait("lobby", "left", "alice", "LEFT")
    bob.send("side", "for her")
    alice.wait("side", "message", "bob", "for her")
    assert alice.messages("lobby") == []
    alice.join("lobby")
    bob.wait("lobby", "joined", "alice", count=2)


@scenario(
    max_log_bytes=64 * 1024,
    max_frame_bytes=64 * 1024,
    max_request_bytes=32 * 1024,
    max_message_bytes=16 * 1024,
    max_channel_attribute_bytes=16 * 1024,
)
def s33_gap(world: World) -> None:
    """S33: what is no longer there is reported, with its number, in its place; then comes what remains."""
    alice, bob = world.actor("alice"), world.actor("bob")
    for actor in (alice, bob):
        actor.login()
        actor.join("lobby")
    alice.wait("lobby", "joined", "bob")
    bob.send("lobby", "seen")
    alice.wait("lobby", "message", "bob", "seen")
    alice.link.cut()
    alice.wait_state("RECONNECTING")
    sent = [f"{number:02} " + "x" * 8000 for number in range(20)]
    bob.send("lobby", *sent)
    alice.link.restore()
    alice.wait("lobby", "message", "bob", sent[-1])
    events = alice.briefs("lobby")
    lost = events[2]
    assert events[1][:3] == ("message", "bob", "seen")
    assert lost[0] == "lost"
    assert 0 < lost[1] < 20
    assert alice.messages("lobby") == ["seen", *sent[lost[1] :]]
    assert events[3][3] == lost[1], "lost_before shows the gap in the message behind it"
    assert [brief[3] for brief in events[4:]] == [0] * (len(events) - 4)


@scenario()
def s34_answer_lost(world: World) -> None:
    """S34: the answer to a send is lost with the transport: the send returns, and the log has the message once."""
    alice, bob = world.actor("alice"), world.actor("bob")
    for actor in (alice, bob):
        actor.login()
        actor.join("lobby")
    alice.wait("lobby", "joined", "bob")
    alice.link.stall("down")
    sent = alice.begin_send("lobby", "once")
    bob.wait("lobby", "message", "alice", "once")
    alice.link.cut(1.0)
    receipt = sent.result()
    (behind,) = alice.send("lobby", "behind")
    bob.wait("lobby", "message", "alice", "behind")
    assert behind == receipt.offset + 1
    assert bob.messages("lobby") == ["once", "behind"]
    alice.check_changes(*LOGGED_IN)


@scenario()
def s34_session_lost(world: World) -> None:
    """S34: the session could not be resumed: the error says that it is unknown whether the message was sent."""
    alice, bob = world.actor("alice"), world.actor("bob")
    for actor in (alice, bob):
        actor.login()
        actor.join("lobby")
    alice.wait("lobby", "joined", "bob")
    alice.link.stall("down")
    sent = alice.begin_send("lobby", "perhaps")
    bob.wait("lobby", "message", "alice", "perhaps")
    alice.link.cut()
    bob.logout()
    world.restart_server()
    alice.link.restore()
    with pytest.raises(RequestAbandoned) as failure:
        sent.result()
    assert failure.value.outcome is Outcome.UNKNOWN
    alice.wait_state("CONNECTED", count=2)
    alice.wait("lobby", "lost", None)


@scenario(requests_per_second=100_000, request_burst=100_000)
def s33_ten_cuts(world: World) -> None:
    """S33: two users talk through ten cuts, seen and unseen, until one is replaced and the other logs out: all that
    each of them sent arrives once and in order."""
    # Alice's interruptions stay within her patience, Bob's do not; the sends of both wait for as long as it takes.
    alice = world.actor("alice", interruption_grace_seconds=20.0, request_timeout_seconds=60.0)
    bob = world.actor("bob", request_timeout_seconds=60.0)
    for actor in (alice, bob):
        actor.login()
        actor.join("from alice")
        actor.join("from bob")
    alice.wait("from bob", "joined", "bob")
    for number in range(1000):
        # One is under way from each side when the link is cut, somewhere: nobody knows how far it came.
        pending = [alice.begin_send("from alice", f"a {number}"), bob.begin_send("from bob", f"b {number}")]
        if number % 200 == 50:
            alice.link.cut(1.0)
        elif number % 200 == 150:
            bob.link.cut()
            bob.wait_state("RECONNECTING", count=number // 200 + 1)
            bob.link.restore()
        for send in pending:
            send.result()
    bob.wait("from alice", "message", "alice", "a 999")
    alice.wait("from bob", "message", "bob", "b 999")
    assert bob.messages("from alice") == [f"a {number}" for number in range(1000)]
    assert alice.messages("from bob") == [f"b {number}" for number in range(1000)]
    assert alice.link.connections >= 6
    second = world.actor("second", uid="alice")
    second.login()
    alice.wait_state("ABORTED")
    for channel in ("from alice", "from bob"):
        alice.wait(channel, "end", "remote_login")
        bob.wait(channel, "left", "alice", "REPLACED")
    bob.logout()
    for channel in ("from alice", "from bob"):
        bob.wait(channel, "end", None)
    alice.check_changes(*LOGGED_IN, ("ABORTED", "REMOTE_LOGIN"))
    bob.check_changes(*LOGGED_IN, *[INTERRUPTED, CONNECTED] * 5, ("DISCONNECTED", "LOGOUT"))
    second.check_changes(*LOGGED_IN)


@scenario()
def s36_peer_messages(world: World) -> None:
    """S36: a message to a user is received if the user is there, kept if that was asked for, and else nowhere."""
    alice, bob = world.actor("alice"), world.actor("bob")
    for actor in (alice, bob):
        actor.login()
    (first,) = bob.send_to_peer("alice", "hi", description="a greeting")
    (second,) = bob.send_to_peer("alice", b"\x00\xff")
    (own,) = bob.send_to_peer("bob", "note to self")
    assert all((one.received, one.kept) == (True, False) for one in (first, second, own))
    alice.wait("", "peer", "bob", b"\x00\xff")
    alice.logout()
    for offline, uid in ((False, "alice"), (True, "nobody")):
        (nowhere,) = bob.send_to_peer(uid, "x", offline=offline)
        assert (nowhere.received, nowhere.kept) == (False, False)
    (kept,) = bob.send_to_peer("alice", "kept", offline=True)
    assert (kept.received, kept.kept) == (False, True)
    assert alice.peer_messages() == ["hi", b"\x00\xff"]
    assert alice.briefs()[2] == ("peer", "bob", "hi", False, 0, 1, "a greeting")
    bob.wait("", "peer", "bob", "note to self")


@scenario()
def s56_kept_for_the_next_login(world: World) -> None:
    """S56: what was kept comes first at the next login, in order and marked, and then what comes; once."""
    alice, bob = world.actor("alice"), world.actor("bob")
    for actor in (alice, bob):
        actor.login()
    alice.logout()
    bob.send_to_peer("alice", "one", "two", "three", offline=True)
    alice.login()
    bob.send_to_peer("alice", "live", offline=True)
    alice.wait("", "peer", "bob", "live")
    assert [brief[:4] for brief in alice.briefs()[3:]] == [
        ("state", "CONNECTING", "LOGIN", None),
        ("state", "CONNECTED", "LOGIN_SUCCESS", None),
        ("peer", "bob", "one", True),
        ("peer", "bob", "two", True),
        ("peer", "bob", "three", True),
        ("peer", "bob", "live", False),
    ]
    alice.logout()
    with pytest.raises(RequestRefused) as refusal:
        bob.send_to_peer("alice", *(str(number) for number in range(21)), offline=True)
    assert refusal.value.code == "sender_share"
    alice.login()
    alice.wait("", "peer", "bob", "19", True)
    assert alice.peer_messages()[-20:] == [str(number) for number in range(20)]


@scenario()
def s36_interruption(world: World) -> None:
    """S36: what is sent during an interruption, seen or unseen, arrives once and in order, and is not marked."""
    alice, bob = world.actor("alice"), world.actor("bob")
    for actor in (alice, bob):
        actor.login()
    bob.send_to_peer("alice", "before")
    alice.wait("", "peer", "bob", "before")
    alice.link.cut(1.0)
    bob.send_to_peer("alice", "unseen")
    alice.wait("", "peer", "bob", "unseen")
    alice.link.cut()
    bob.send_to_peer("alice", "during", offline=True)
    alice.wait_state("RECONNECTING")
    bob.send_to_peer("alice", "during too")
    alice.link.restore()
    alice.wait("", "peer", "bob", "during too")
    bob.send_to_peer("alice", "after")
    alice.wait("", "peer", "bob", "after")
    assert alice.peer_messages() == ["before", "unseen", "during", "during too", "after"]
    assert not any(brief[3] for brief in alice.briefs() if brief[0] == "peer")
    alice.check_changes(*LOGGED_IN, INTERRUPTED, CONNECTED)


@scenario(**SHORT_PRESENCE)
def s56_expired_session(world: World) -> None:
    """S56: after the end of its session a client gets what was kept for that, and what was kept for the next one."""
    alice, bob = world.actor("alice"), world.actor("bob")
    for actor in (bob, alice):
        actor.login()
        actor.join("lobby")
    bob.wait("lobby", "joined", "alice")
    alice.link.cut()
    bob.send_to_peer("alice", "to the session")
    bob.wait("lobby", "left", "alice", "TIMED_OUT")
    (nowhere,) = bob.send_to_peer("alice", "to nobody")
    (kept,) = bob.send_to_peer("alice", "in store", offline=True)
    assert (nowhere.received, nowhere.kept, kept.kept) == (False, False, True)
    alice.link.restore()
    alice.wait("", "peer", "bob", "in store", True, 0)
    assert alice.peer_messages() == ["to the session", "in store"]


@scenario()
def s56_takeover(world: World) -> None:
    """S56: another instance gets what the old one had not confirmed, and the old one nothing of what the new one
    gets."""
    old, bob = world.actor("old", uid="alice"), world.actor("bob")
    for actor in (old, bob):
        actor.login()
    old.link.cut()
    bob.send_to_peer("alice", "with offline", offline=True)
    bob.send_to_peer("alice", "without")
    new = world.actor("new", uid="alice")
    new.login()
    bob.send_to_peer("alice", "to the new one")
    new.wait("", "peer", "bob", "to the new one")
    old.link.restore()
    old.wait_state("ABORTED")
    assert new.peer_messages() == ["with offline", "to the new one"]
    assert old.peer_messages() == []


@scenario(requests_per_second=100_000, request_burst=100_000)
def s36_ten_cuts(world: World) -> None:
    """S36: two users write to each other through ten cuts: all arrives once and in order."""
    patient = {"interruption_grace_seconds": 20.0, "request_timeout_seconds": 60.0}
    alice, bob = world.actor("alice", **patient), world.actor("bob", **patient)
    for actor in (alice, bob):
        actor.login()
    for number in range(500):
        pending = [alice.begin_send_to_peer("bob", f"a {number}"), bob.begin_send_to_peer("alice", f"b {number}")]
        if number % 50 == 25:
            (alice if number % 100 == 25 else bob).link.cut(1.0)
        for send in pending:
            send.result()
    bob.wait("", "peer", "alice", "a 499")
    alice.wait("", "peer", "bob", "b 499")
    assert bob.peer_messages() == [f"a {number}" for number in range(500)]
    assert alice.peer_messages() == [f"b {number}" for number in range(500)]
    for actor in (alice, bob):
        actor.check_changes(*LOGGED_IN)


@scenario()
def s52_slow_reader_of_an_inbox(world: World) -> None:
    """S52: the client's own events are iterated slowly: nothing of the inbox is lost, and nothing else held up."""
    alice, bob = world.actor("alice", max_queued_events=10), world.actor("bob")
    alice.iterate("")
    for actor in (alice, bob):
        actor.login()
        actor.join("side")
    alice.wait("side", "joined", "bob")
    alice.pause("")
    bob.send_to_peer("alice", *(f"{number}" for number in range(60)))
    bob.send("side", "not held up")
    alice.wait("side", "message", "bob", "not held up")
    assert alice.peer_messages(INBOX) == []
    assert len(alice.peer_messages()) < 20, "the server holds the rest"
    alice.resume("")
    alice.wait(INBOX, "peer", "bob", "59")
    bob.send_to_peer("alice", "live again")
    alice.wait(INBOX, "peer", "bob", "live again")
    assert alice.peer_messages(INBOX) == [*(f"{number}" for number in range(60)), "live again"]
    alice.logout()
    alice.wait(INBOX, "end", None)


def _masked(first_byte: int, payload: bytes) -> bytes:
    """A client's frame with a mask of zeros."""
    size = len(payload)
    if size < 126:
        head = bytes([first_byte, 0x80 | size])
    elif size < 65536:
        head = bytes([first_byte, 0xFE]) + size.to_bytes(2, "big")
    else:
        head = bytes([first_byte, 0xFF]) + size.to_bytes(8, "big")
    return head + bytes(4) + payload


def _upgrade(*headers: str) -> bytes:
    lines = [
        "GET / HTTP/1.1",
        "Host: 127.0.0.1",
        "Upgrade: websocket",
        "Connection: Upgrade",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        f"Sec-WebSocket-Protocol: {SUBPROTOCOL_MSGPACK}",
        *headers,
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def _close_code(received: bytes) -> int:
    """The code of the close frame, the last that a server sends."""
    at = received.rfind(b"\x88")
    return int.from_bytes(received[at + 2 : at + 4], "big")


@scenario()
def s51_hostile_peers(world: World) -> None:
    """S51: who is silent, too large, or from elsewhere is dropped; nobody else is disturbed."""
    alice, bob = world.actor("alice"), world.actor("bob")
    for actor in (alice, bob):
        actor.login()
        actor.join("lobby")
    alice.wait("lobby", "joined", "bob")
    login = encode_batch([Login("eve", "good", bytes(16), bytes(range(16)), 0)])
    # What is no HTTP, and an Origin that is not allowed.
    assert b"400 " in world.intrude(b"\x16\x03\x01 this is not HTTP\r\n\r\n")
    assert b"403 " in world.intrude(_upgrade("Origin: https://elsewhere.example"))
    # A message over the limit before the login, and one over the other limit behind it.
    assert _close_code(world.intrude(_upgrade() + _masked(0x82, bytes(LOGIN_BYTES + 1)))) == 1009
    assert _close_code(world.intrude(_upgrade() + _masked(0x82, b"no batch"))) == 1002
    assert _close_code(world.intrude(_upgrade() + _masked(0x81, b"text"))) == 1003
    bob.send("lobby", "undisturbed")
    # Nothing at all; no login behind the handshake; a login, and then silence: 10 s each.
    began = world.elapsed
    silent = [world.begin_intrusion(data) for data in (b"", _upgrade(), _upgrade() + _masked(0x82, login))]
    for stranger in silent:
        stranger.result()
        assert world.elapsed - began >= 9.9
    bob.send("lobby", "still undisturbed")
    alice.wait("lobby", "message", "bob", "still undisturbed")
    assert alice.messages("lobby") == ["undisturbed", "still undisturbed"]
    for actor in (alice, bob):
        actor.check_changes(*LOGGED_IN)
        assert actor.link.connections == 1


@scenario()
def s52_slow_iterator(world: World) -> None:
    """S52: a queue that someone iterates is lossless, however slowly, and holds up nothing else."""
    alice, bob = world.actor("alice", max_queued_events=10), world.actor("bob")
    for actor in (alice, bob):
        actor.login()
        actor.join("lobby")
        actor.join("side")
    alice.wait("side", "joined", "bob")
    alice.pause("lobby")
    bob.send("lobby", *(f"{number}" for number in range(60)))
    bob.send("side", "not held up")
    alice.wait("side", "message", "bob", "not held up")
    assert len(alice.messages("lobby")) == 0
    alice.resume("lobby")
    alice.wait("lobby", "message", "bob", "59")
    bob.send("lobby", "live again")
    alice.wait("lobby", "message", "bob", "live again")
    assert alice.messages("lobby") == [*(f"{number}" for number in range(60)), "live again"]


@scenario()
def s52_nobody_iterates(world: World) -> None:
    """S52: a queue that nobody iterates keeps the newest events and says how many it dropped; nobody is stalled."""
    alice, bob = world.actor("alice", max_uniterated_events=10), world.actor("bob")
    for actor in (alice, bob):
        actor.login()
        actor.join("side")
    alice.join("lobby", iterate=False)
    bob.join("lobby")
    bob.send("lobby", *(f"{number}" for number in range(60)))
    bob.send("side", "all are there")
    alice.wait("side", "message", "bob", "all are there")
    alice.iterate("lobby")
    alice.wait("lobby", "message", "bob", "59")
    assert alice.briefs("lobby")[0] == ("dropped", "lobby", 51)  # with bob's join
    assert alice.messages("lobby") == [f"{number}" for number in range(50, 60)]


@scenario(max_snapshot_members=3, unmute_members=2)
def s38_mute(world: World) -> None:
    """S38: above the bound members are told how many there are, not who; below the lower one, who again."""
    alice, bob, carol, dave = (world.actor(name) for name in ("alice", "bob", "carol", "dave"))
    for actor in (alice, bob, carol):
        actor.login()
        actor.join("lobby")
        alice.wait_count("lobby", len(world.actors[: world.actors.index(actor)]))
    dave.login()
    dave.join("lobby")
    alice.wait("lobby", "members", 4)
    alice.send("lobby", "the offsets have no holes")
    for actor in (bob, carol, dave):
        actor.wait("lobby", "message", "alice")
    assert dave.briefs("lobby") == [("message", "alice", "the offsets have no holes", 0, 4)]
    for actor, count, others in ((dave, 3, (alice, bob, carol)), (carol, 2, (alice, bob))):
        actor.leave("lobby")
        for other in others:
            other.wait("lobby", "members", count)
    bob.leave("lobby")
    alice.wait("lobby", "members resumed", 5)
    bob.join("lobby")
    alice.wait("lobby", "joined", "bob", 6)
    assert alice.members("lobby").uids == ("alice", "bob")
    bob.leave("lobby")
    alice.wait("lobby", "left", "bob", "LEFT", 7)


@scenario(max_snapshot_members=2, unmute_members=2)
def s47_members(world: World) -> None:
    """S47: members in pages, in the order of their uids, each as of an offset; the next one begins behind the last."""
    actors = [world.actor(name) for name in ("carol", "bob", "eve", "alice", "dave")]
    for actor in actors:
        actor.login()
        actor.join("lobby", iterate=False)
    alice = actors[3]
    first = alice.members("lobby")
    assert (first.uids, first.member_count, first.more) == (("alice", "bob"), 5, True)
    actors[2].leave("lobby")
    second = alice.members("lobby", after="bob")
    assert (second.uids, second.member_count, second.more) == (("carol", "dave"), 4, False)
    assert (second.epoch, second.offset) == (first.epoch, first.offset)


@scenario()
def s45_member_counts(world: World) -> None:
    """S45: the numbers of members of up to 32 channels, joined or not."""
    alice, bob = world.actor("alice"), world.actor("bob")
    for actor in (alice, bob):
        actor.login()
        actor.join("lobby", iterate=False)
    bob.join("den", iterate=False)
    assert alice.member_counts("lobby", "den", "attic") == {"lobby": 2, "den": 1, "attic": 0}
    rooms = [f"room {number}" for number in range(32)]
    assert alice.member_counts(*rooms) == dict.fromkeys(rooms, 0)
    with pytest.raises(InvalidArgument, match="more than 32 channels"):
        alice.member_counts("lobby", *rooms)


@scenario()
def s33_history(world: World) -> None:
    """S33: what the log still has, in pages, in either direction, through a reconnect and without effect on what is
    delivered."""
    alice, bob = world.actor("alice"), world.actor("bob")
    for actor in (alice, bob):
        actor.login()
        actor.join("lobby")
    alice.send("lobby", *(f"{number}" for number in range(10)))  # at 3 to 12, behind the joins
    newest = bob.history("lobby", limit=4)
    assert [message.message for message in newest.messages] == ["6", "7", "8", "9"]
    assert (newest.first_offset, newest.last_offset, newest.more) == (9, 12, True)
    bob.link.cut(2.0)  # unseen: the call waits for the connection
    page = bob.begin_history("lobby", before=newest.first_offset, limit=256)
    older = page.result()
    assert [type(event).__name__ for event in older.events[:2]] == ["MemberJoined", "MemberJoined"]
    assert [message.message for message in older.messages] == ["0", "1", "2", "3", "4", "5"]
    assert (older.epoch, older.first_offset, older.more) == (newest.epoch, 1, False)
    again = bob.history("lobby", after=10)
    assert [message.offset for message in again.messages] == [11, 12]
    assert not again.more
    alice.send("lobby", "live")
    bob.wait("lobby", "message", "alice", "live")
    assert bob.messages("lobby") == [*(f"{number}" for number in range(10)), "live"]
    bob.check_changes(*LOGGED_IN)


@scenario(
    channel_settings=(ChannelSettings(pattern="news-*", member_events=False),),
    member_count_interval_seconds=0.5,
)
def s38_no_member_events(world: World) -> None:
    """S38: channels of a pattern tell how many members there are, and never who."""
    alice, bob = world.actor("alice"), world.actor("bob")
    for actor in (alice, bob):
        actor.login()
        actor.join("news-1")
    alice.wait("news-1", "members", 2)
    bob.join("lobby")
    bob.leave("news-1")
    alice.wait("news-1", "members", 1)
    assert alice.history("news-1").events == ()
    assert bob.history("lobby").first_offset == 1


@scenario()
def s39_attributes_of_users(world: World) -> None:
    """S39: set, merged, deleted, cleared and read by their owner, and read by others."""
    alice, bob = world.actor("alice"), world.actor("bob")
    for actor in (alice, bob):
        actor.login()
    assert bob.attributes("get_attributes", "alice").revision == 0
    revisions = [alice.attributes("set_attributes", {"mood": "fine", "place": "at home"}).revision]
    revisions += [alice.attributes("merge_attributes", {"mood": "tired", "task": ""}).revision]
    seen = bob.attributes("get_attributes", "alice")
    assert seen.values == {"mood": "tired", "place": "at home", "task": ""}
    assert seen.revision == revisions[1]
    assert {one.uid for one in seen.attributes.values()} == {"alice"}
    assert [seen.attributes[key].revision for key in ("place", "mood")] == revisions
    assert alice.attributes("get_attributes", keys=["mood", "unknown"]).values == {"mood": "tired"}
    revisions += [alice.attributes("delete_attributes", ["mood", "unknown"]).revision]
    assert bob.attributes("get_attributes", "alice").values == {"place": "at home", "task": ""}
    revisions += [alice.attributes("clear_attributes").revision]
    assert bob.attributes("get_attributes", "alice").values == {}
    assert revisions == sorted(set(revisions))
    alice.attributes("set_attributes", {"mood": "back"})
    alice.logout()
    assert bob.attributes("get_attributes", "alice").values == {}


@scenario(**SHORT_PRESENCE)
def s25_attributes_renewed(world: World) -> None:
    """S25: back after its session has expired, a client sets its attributes again; others see the ones confirmed."""
    alice, bob = world.actor("alice"), world.actor("bob")
    for actor in (bob, alice):
        actor.login()
        actor.join("lobby")
    bob.wait("lobby", "joined", "alice")
    alice.attributes("set_attributes", {"mood": "fine", "task": "none"})
    before = alice.attributes("delete_attributes", ["task"]).revision
    alice.link.cut()
    alice.wait_state("RECONNECTING")
    assert bob.attributes("get_attributes", "alice").values == {"mood": "fine"}
    bob.wait("lobby", "left", "alice", "TIMED_OUT")
    assert bob.attributes("get_attributes", "alice").values == {}
    alice.link.restore()
    bob.wait("lobby", "joined", "alice", count=2)
    alice.wait_state("CONNECTED", count=2)
    seen = bob.attributes("get_attributes", "alice")
    assert seen.values == {"mood": "fine"}
    assert seen.revision > before
    alice.check_changes(*LOGGED_IN, INTERRUPTED, CONNECTED)


@scenario()
def s39_attributes_of_channels(world: World) -> None:
    """S39: one who is no member sets a channel's attributes; the members are told if it asks for that."""
    alice, bob, carol = world.actor("alice"), world.actor("bob"), world.actor("carol")
    for actor in (bob, carol, alice):
        actor.login()
    for actor in (bob, carol):
        actor.join("lobby")
    bob.wait("lobby", "joined", "carol")
    alice.attributes("set_channel_attributes", "lobby", {"topic": "tea", "owner": "alice"}, notify=True)
    bob.send("lobby", "so be it")
    alice.attributes("merge_channel_attributes", "lobby", {"topic": "coffee"})
    bob.attributes("delete_channel_attributes", "lobby", ["owner"], notify=True)
    seen = carol.attributes("get_channel_attributes", "lobby")
    assert seen.values == {"topic": "coffee"}
    assert seen.attributes["topic"].uid == "alice"
    alice.attributes("clear_channel_attributes", "lobby", notify=True)
    assert carol.attributes("get_channel_attributes", "lobby", ["topic"]).values == {}
    carol.wait("lobby", "attributes", count=3)
    assert [brief[1:5] for brief in carol.briefs("lobby") if brief[0] == "attributes"] == [
        ("alice", True, {"topic": "tea", "owner": "alice"}, ()),
        ("bob", False, {}, ("owner",)),
        ("alice", True, {}, ()),
    ]
    bob.wait("lobby", "attributes", count=2)  # not of his own (S43)


@scenario()
def s39_compare_and_set(world: World) -> None:
    """S39: of two that have read the same revision one is refused, and nothing of what it asked for is done."""
    alice, bob = world.actor("alice"), world.actor("bob")
    for actor in (alice, bob):
        actor.login()
    bob.join("lobby")
    revision = alice.attributes("get_channel_attributes", "lobby").revision
    alice.attributes("merge_channel_attributes", "lobby", {"owner": "alice"}, expected_revision=revision, notify=True)
    with pytest.raises(RequestRefused) as conflict:
        bob.attributes("set_channel_attributes", "lobby", {"owner": "bob"}, expected_revision=revision, notify=True)
    assert conflict.value.code == "revision_conflict"
    assert conflict.value.outcome is Outcome.REFUSED
    seen = bob.attributes("get_channel_attributes", "lobby")
    assert seen.values == {"owner": "alice"}
    bob.attributes("merge_channel_attributes", "lobby", {"owner": "bob"}, expected_revision=seen.revision)
    mine = alice.attributes("merge_attributes", {"a": "1"}, expected_revision=0).revision
    with pytest.raises(RequestRefused):
        alice.attributes("clear_attributes", expected_revision=0)
    alice.attributes("clear_attributes", expected_revision=mine)
    bob.wait("lobby", "attributes", "alice")


@scenario(**SHORT_PRESENCE)
def s39_three_states_over_an_interruption(world: World) -> None:
    """S22, S24, S39: online for 6 s, then unreachable until its session ends, then offline; and back again."""
    alice, bob = world.actor("alice"), world.actor("bob")
    bob.login()
    assert bob.watch("alice", "nobody")["alice"].state.name == "OFFLINE"
    alice.login()
    bob.wait(CLIENT_HOME, "status", "alice", "ONLINE")
    assert bob.online_status("alice", "bob")["bob"].state.name == "ONLINE"
    begun = world.elapsed
    alice.link.cut()
    at = bob.wait(CLIENT_HOME, "status", "alice", "UNREACHABLE")
    world.check_time(at - begun, 6.0)
    status = bob.online_status("alice")["alice"]
    assert status.since is not None
    assert status.expires_at is not None
    assert bob.watch("alice")["alice"] == status
    bob.wait(CLIENT_HOME, "status", "alice", "OFFLINE")
    alice.link.restore()
    bob.wait(CLIENT_HOME, "status", "alice", "ONLINE", count=2)
    bob.unwatch("alice")
    alice.logout()
    assert bob.online_status("alice")["alice"].state.name == "OFFLINE"
    assert [brief for brief in bob.briefs() if brief[0] == "status"] == [
        ("status", "alice", state) for state in ("ONLINE", "UNREACHABLE", "OFFLINE", "ONLINE")
    ]


@scenario(**SHORT_PRESENCE)
def s57_subscriptions_survive(world: World) -> None:
    """S23, S25, S57: a resumed session and a new one go on with them; what has changed meanwhile is told once."""
    alice, bob, carol, dave = (world.actor(name) for name in ("alice", "bob", "carol", "dave"))
    for actor in (alice, bob, carol, dave):
        actor.login()
    bob.watch("alice", "carol", "dave")
    bob.link.cut()
    bob.wait_state("RECONNECTING")
    alice.logout()
    bob.link.restore()
    bob.wait_state("CONNECTED", count=2)
    bob.wait(CLIENT_HOME, "status", "alice", "OFFLINE")
    dave.watch("bob")
    bob.link.cut()
    dave.wait(CLIENT_HOME, "status", "bob", "OFFLINE")
    carol.logout()
    bob.link.restore()
    bob.wait_state("CONNECTED", count=3)
    bob.wait(CLIENT_HOME, "status", "carol", "OFFLINE")
    carol.login()
    bob.wait(CLIENT_HOME, "status", "carol", "ONLINE")
    dave.logout()
    bob.wait(CLIENT_HOME, "status", "dave", "OFFLINE")
    assert [brief[1:] for brief in bob.briefs() if brief[0] == "status"] == [
        ("alice", "OFFLINE"),
        ("carol", "OFFLINE"),
        ("carol", "ONLINE"),
        ("dave", "OFFLINE"),
    ]
