"""Heartbeats and interruptions of a client (S10-S13, S16, F-01, F-02, F-22, F-24)."""

from __future__ import annotations

import pytest

from core.fake_server import Rig, limits
from rtm_sansio.client import ClientTimer
from rtm_sansio.messages import HEARTBEAT, Gap, Going, Progress
from rtm_sansio.states import ConnectionState


def connected(**options: object) -> Rig:
    rig = Rig(**options)  # type: ignore[arg-type]
    rig.connect()
    return rig


def go_silent(rig: Rig) -> None:
    rig.answer_heartbeats = False


def test_heartbeat_after_two_seconds():
    """S10: when nothing arrived for 2 s, not earlier."""
    rig = connected()
    rig.advance(1.999)
    assert rig.server.heartbeats == []
    assert rig.core.next_timer() is ClientTimer.LIVENESS
    rig.advance(0.001)
    assert rig.server.heartbeats == [2.0]
    rig.advance(4.0)
    assert rig.server.heartbeats == [2.0, 4.0, 6.0]
    assert rig.state is ConnectionState.CONNECTED


def test_any_arriving_byte_counts():
    """S10: half a frame is a sign of life."""
    rig = connected()
    frame = rig.server.wire.frame(HEARTBEAT)
    rig.advance(1.5)
    rig.feed(frame[:1])
    rig.advance(1.999)
    assert rig.server.heartbeats == []
    rig.advance(0.001)
    assert rig.server.heartbeats == [3.5]


def test_three_seconds_however_much_arrives():
    """S10: the client sends at least one message every 3 s."""
    rig = connected()
    rig.join("lobby")
    for second in range(1, 9):
        rig.advance(1.0)
        rig.entries(second, "x")
    assert rig.server.of_type(Progress)
    assert rig.server.heartbeats == [4.0, 7.0], "3 s behind what the client told of its progress at 1 s"


def test_a_message_counts_as_sent():
    """S10: a heartbeat only if it has nothing else."""
    rig = connected()
    rig.join("lobby")
    for second in range(1, 12):
        rig.advance(1.0)
        rig.entries(second, "x")
        rig.publish(message=str(second))
    assert rig.server.heartbeats == []


@pytest.mark.parametrize(("seconds", "state"), [(3.999, "CONNECTED"), (4.0, "RECONNECTING"), (4.001, "RECONNECTING")])
def test_silent_loss(seconds: float, state: str):
    """S11, F-01: from the last byte on, RECONNECTING at +4 s exactly; the transport is aborted, not closed."""
    rig = connected()
    go_silent(rig)
    rig.advance(seconds)
    assert rig.state.value == state
    if state == "RECONNECTING":
        assert rig.last_change == (4.0, "RECONNECTING", "INTERRUPTED")
        assert rig.closed == {1: "abort"}
        rig.advance(0.5)
        assert len(rig.opened) == 2


def test_answer_just_in_time():
    """S11, S13: a byte before the deadline, read late in the same pass: no interruption."""
    rig = connected()
    go_silent(rig)
    rig.advance(3.999)
    rig.now += 0.5
    rig.feed(rig.server.wire.frame(HEARTBEAT))
    rig.tick()
    assert rig.state is ConnectionState.CONNECTED
    assert rig.core.next_deadline() is not None


def test_blocked_process_is_not_interrupted():
    """S11, F-24: blocked for 8 s before the heartbeat: it goes out late and its answer saves the link."""
    rig = connected()
    rig.now += 8.0
    rig.tick()
    assert rig.server.heartbeats == [8.0]
    assert rig.state is ConnectionState.CONNECTED
    rig.advance(10.0)
    assert rig.changes[-1] == ("CONNECTED", "LOGIN_SUCCESS")


def test_blocked_process_after_its_heartbeat():
    """S11, F-23: suspended for 8 s after the heartbeat left; one more heartbeat decides, within 2 s."""
    rig = connected()
    go_silent(rig)
    rig.advance(2.0)
    rig.now += 8.0
    rig.tick()
    assert rig.state is ConnectionState.CONNECTED
    assert rig.server.heartbeats == [2.0, 10.0]
    rig.advance(1.999)
    assert rig.state is ConnectionState.CONNECTED
    rig.advance(0.001)
    assert rig.last_change == (12.0, "RECONNECTING", "INTERRUPTED")


def test_blocked_process_and_dead_link():
    """S11: it has no more than that one heartbeat."""
    rig = connected()
    go_silent(rig)
    for _ in range(3):
        rig.now += 8.0
        rig.tick()
    assert rig.state is ConnectionState.RECONNECTING


@pytest.mark.parametrize(("seconds", "ended"), [(19.999, False), (20.0, True), (20.001, True)])
def test_one_dead_direction(seconds: float, ended: bool):
    """S10, S12, F-02: heartbeats unanswered for 20 s while data keeps flowing are an interruption that starts then."""
    rig = connected()
    rig.join("lobby")
    go_silent(rig)
    first = None
    for count in range(1, 400):
        rig.advance(0.25)
        if rig.closed:
            break
        rig.entries(count, "x")
        if first is None and rig.server.heartbeats:
            first = rig.server.heartbeats[0]
        if first is not None and rig.elapsed >= first + 19.6:
            break
    assert first == 4.0
    rig.advance(first + seconds - rig.elapsed)
    assert bool(rig.closed) is ended
    assert rig.state is ConnectionState.CONNECTED
    if ended:
        assert rig.closed == {1: "abort"}
        rig.advance(0.6)
        rig.accept()
        assert rig.changes[-1] == ("CONNECTED", "LOGIN_SUCCESS")
        assert len(rig.changes) == 2


def test_one_dead_direction_that_stays_dead():
    """S10, S12: without recovery RECONNECTING comes 4 s after that."""
    rig = connected()
    rig.join("lobby")
    go_silent(rig)
    for count in range(1, 200):
        if rig.closed:
            break
        rig.advance(0.25)
        if not rig.closed:
            rig.entries(count, "x")
    rig.advance(28.0 - rig.elapsed)
    assert rig.last_change == (28.0, "RECONNECTING", "INTERRUPTED")


@pytest.mark.parametrize(("seconds", "state"), [(3.999, "CONNECTED"), (4.0, "RECONNECTING"), (4.001, "RECONNECTING")])
def test_loud_loss(seconds: float, state: str):
    """S12: the interruption starts at the loss; RECONNECTING at +4 s exactly."""
    rig = connected()
    rig.advance(1.0)
    rig.lose()
    rig.advance(seconds)
    assert rig.state.value == state


@pytest.mark.parametrize(("seconds", "seen"), [(3.999, False), (4.0, True)])
def test_restored_in_time_is_unseen(seconds: float, seen: bool):
    """S12: restored within 4 s: no state change at all. What counts is the answer to the statement (S59)."""
    rig = connected()
    rig.lose()
    rig.advance(2.0)
    rig.open()
    rig.say(rig.welcome())
    rig.advance(seconds - 2.0)
    rig.say(rig.restored())
    assert (len(rig.changes) > 2) is seen
    assert rig.state is ConnectionState.CONNECTED
    rig.advance(10.0)
    assert rig.state is ConnectionState.CONNECTED


def test_several_losses_in_one_grace_time():
    """S12: the grace time counts from the first loss until all is restored."""
    rig = connected()
    for _ in range(3):
        rig.lose()
        rig.advance(1.25)
        rig.open()
    assert rig.state is ConnectionState.CONNECTED
    rig.lose()
    rig.advance(0.25)
    assert rig.last_change == (4.0, "RECONNECTING", "INTERRUPTED")


def test_grace_starts_anew_after_a_recovery():
    """S12: an interruption that was recovered is over."""
    rig = connected()
    for _ in range(3):
        rig.lose()
        rig.advance(2.0)
        rig.accept()
        rig.advance(3.0)
    assert len(rig.changes) == 2


def test_loss_between_the_welcome_and_the_first_answer():
    """S12: a link that goes before the very first statement is answered is a loss like any other."""
    rig = Rig()
    rig.login()
    rig.open()
    rig.say(rig.welcome())
    rig.lose()
    rig.advance(3.9)
    assert rig.state is ConnectionState.CONNECTED
    rig.advance(0.1)
    assert rig.state is ConnectionState.RECONNECTING


@pytest.mark.parametrize(
    "data",
    [
        b"\xff\xff",
        b"\x82\x01\xc1",
        b"\x82\x03\x91\x92\x01",
        b"\x81\x01x",
        b"\x82\x02\x91\xc0",
        b"\x83\x00",
        b"\x82\xff" + b"\x7f" * 8,
    ],
    ids=lambda data: data.hex(),
)
def test_protocol_error_is_a_loud_loss(data: bytes):
    """S12, S50, F-61: closed with a code that fits, an attempt at once, nothing seen if it works."""
    rig = connected()
    rig.feed(data)
    assert rig.closed == {1: "flush"}
    assert rig.server.closed_with in (1002, 1003, 1007, 1009)
    assert rig.state is ConnectionState.CONNECTED
    rig.advance(0.5)
    rig.accept()
    assert len(rig.changes) == 2


def test_close_behind_the_handshake():
    """S50, promise 1: a server that says 101 and closes in one segment."""
    rig = Rig()
    rig.login()
    rig.core.transport_opened(1, now=rig.now)
    data = b"".join(output.data for output in rig.core.take_outputs())
    rig.server.wire.receive(data)
    answer = rig.server.wire.data_to_send()
    rig.server.wire.close(1001)
    rig.feed(answer + rig.server.wire.data_to_send())
    assert rig.state is ConnectionState.CONNECTING
    rig.advance(0.5)
    assert len(rig.opened) == 2


def test_messages_before_the_welcome():
    """S50: nothing but the welcome and a refusal may come first."""
    for message in (Going("lobby"), Gap("lobby", b"e", 1, 1)):
        rig = Rig()
        rig.login()
        rig.open()
        rig.say(message)
        assert rig.server.closed_with == 1002
    rig = Rig()
    rig.login()
    rig.open()
    rig.feed(rig.server.wire.frame(HEARTBEAT))
    assert rig.server.closed_with == 1002


def test_unknown_optional_messages_are_skipped():
    """F-62: counted, and no answer to a heartbeat."""
    rig = connected()
    go_silent(rig)
    rig.join("lobby")
    rig.advance(3.0)
    for _ in range(100):
        if rig.closed:
            break
        rig.feed(rig.server.wire.frame(b"\x91\x92\xcc\xc8\x01"))
        rig.advance(0.25)
    assert rig.core.unknown_messages > 50
    assert rig.closed == {1: "abort"}
    assert rig.elapsed == 22.0, "only an empty batch is the answer"


# --- retry_now


def test_retry_now_with_a_link_is_a_heartbeat():
    """S16, F-20, F-22: probes at once; silence then counts as silence does."""
    rig = connected()
    go_silent(rig)
    rig.advance(0.5)
    rig.call("retry_now")
    assert rig.server.heartbeats == [0.5]
    rig.advance(3.5)
    assert rig.last_change == (4.0, "RECONNECTING", "INTERRUPTED")


def test_retry_now_again_and_again():
    """S16, promise 10: a probe that is under way is enough."""
    rig = connected()
    go_silent(rig)
    for _ in range(100):
        rig.call("retry_now")
    assert rig.server.heartbeats == [0.0]


def test_retry_now_does_not_prolong_a_silence():
    """S11, S16: probing all the time does not keep a dead link."""
    rig = connected()
    go_silent(rig)
    for _ in range(8):
        rig.advance(0.5)
        if rig.state is ConnectionState.CONNECTED:
            rig.call("retry_now")
    assert rig.last_change == (4.0, "RECONNECTING", "INTERRUPTED")


@pytest.mark.parametrize("state", ["CONNECTING", "CONNECTED", "RECONNECTING"])
def test_retry_now_makes_an_attempt_at_once(state: str):
    """S16: whatever the back-off says."""
    rig = Rig(jitter=1.0)
    rig.login()
    if state != "CONNECTING":
        rig.accept()
        rig.lose()
        rig.advance(4.0 if state == "RECONNECTING" else 0.1)
        if rig.core.seen_transports:
            rig.refuse_transport()
    else:
        rig.refuse_transport()
    assert rig.state.value == state
    count = len(rig.opened)
    rig.call("retry_now")
    assert len(rig.opened) == count + 1


@pytest.mark.parametrize("phase", ["opening", "login"])
def test_retry_now_gives_up_an_attempt_under_way(phase: str):
    """S16, F-20: it may hang on the old network."""
    rig = Rig()
    rig.login()
    if phase == "login":
        rig.open()
    rig.call("retry_now")
    assert rig.closed == {1: "abort"}
    assert [one.transport_id for one in rig.opened] == [1, 2]
    rig.accept()
    assert rig.state is ConnectionState.CONNECTED


def test_silence_behind_a_heartbeat_that_was_answered_at_once():
    """S10, S11: the heartbeat at 4.0 was due because nothing was sent since the progress at 1.0; the last byte comes at
    4.1."""
    rig = Rig()
    rig.connect("lobby")
    for count in range(1, 42):
        rig.advance(0.1)
        rig.entries(count, "x")
    assert rig.server.heartbeats == [pytest.approx(4.0)]
    rig.answer_heartbeats = False
    rig.advance(2.0)
    assert rig.server.heartbeats == pytest.approx([4.0, 6.1])
    rig.advance(10.0)
    assert rig.last_change == (8.1, "RECONNECTING", "INTERRUPTED")


def test_silence_behind_retry_now():
    """S10, S11, S16: the probe at 0.1 is answered at once, then nothing comes any more."""
    rig = Rig()
    rig.connect()
    rig.advance(0.1)
    rig.call("retry_now")
    rig.answer_heartbeats = False
    rig.advance(3.999)
    assert rig.server.heartbeats == pytest.approx([0.1, 2.1])
    rig.advance(0.002)
    assert rig.last_change == (4.1, "RECONNECTING", "INTERRUPTED")


@pytest.mark.parametrize(("interval", "count"), [(0.5, 4), (1.0, 4), (2.2, 4), (2.9, 4)])
def test_server_intervals_are_followed(interval: float, count: int):
    """S15: the heartbeat interval is the last welcome's, quicker or slower than the default."""
    rig = Rig()
    rig.connect(limits=limits(heartbeat_interval=3.4 - interval, silence_timeout=30.0))
    rig.lose()
    rig.advance(0.5)
    rig.accept(limits=limits(heartbeat_interval=interval, silence_timeout=30.0))
    start = rig.elapsed
    rig.advance(interval - 0.001)
    assert rig.server.heartbeats == []
    rig.advance(0.002 + (count - 1) * interval)
    assert rig.server.heartbeats == pytest.approx([start + number * interval for number in range(1, count + 1)])


@pytest.mark.parametrize(
    ("interval", "silence", "quiet"),
    [(1.0, 4.5, 1.5), (1.0, 8.7, 2.9), (2.0, 10.0, 3.0), (1.0, 30.0, 3.0), (2.0, 3.0, 2.0), (2.9, 3.0, 2.9)],
)
def test_quiet_for_a_third_of_the_servers_patience(interval: float, silence: float, quiet: float):
    """S10, S15: however much arrives, something is sent in a third of the silence after which the server drops a
    transport; never later than after 3 s, and no oftener than when nothing arrives."""
    rig = Rig()
    rig.connect("lobby", limits=limits(heartbeat_interval=interval, silence_timeout=silence))
    for count in range(1, 131):
        rig.advance(0.1)
        rig.entries(count, "x")
    assert len(rig.server.of_type(Progress)) == 2  # at once, and at 1.0: from there it is quiet
    expected = [1.0 + count * quiet for count in range(1, 20) if count * quiet < 12.0 - 1e-6]
    assert [at for at in rig.server.heartbeats if at < 13.0 - 1e-6] == pytest.approx(expected)
    assert rig.changes[-1] == ("CONNECTED", "LOGIN_SUCCESS")


def test_pings_are_answered():
    """RFC 6455, 5.5.2: by the core, at once."""
    rig = connected()
    rig.feed(b"\x89\x02hi")
    rig.now += 0.001
    assert rig.state is ConnectionState.CONNECTED
    assert type(rig.outputs[-1]).__name__ == "Transmit"
