"""Coming back (S12, S17, S20, S21, S25, S42, S59)."""

from __future__ import annotations

from typing import Any

import pytest

from core.fake_server import OTHER_SESSION, FixedJitter, Rig, limits
from rtm_sansio.codes import Code
from rtm_sansio.config import ClientConfig
from rtm_sansio.errors import TransportFailure
from rtm_sansio.events import ConnectionStateChanged, ReconnectProblem
from rtm_sansio.messages import Kicked, LoginRefused, Progress, Restored
from rtm_sansio.states import ConnectionState


def connected(*channels: str, **options: Any) -> Rig:
    rig = Rig(**options)
    rig.connect(*channels)
    return rig


def reconnecting(**options: Any) -> Rig:
    """In RECONNECTING, with no attempt under way and one delay drawn."""
    rig = connected(**options)
    rig.lose()
    while rig.state is ConnectionState.CONNECTED:
        if rig.core.seen_transports:
            rig.refuse_transport()
        rig.advance(min(0.1, 4.0 - rig.elapsed))
    if rig.core.seen_transports:
        rig.refuse_transport()
    return rig


def test_first_attempt_after_a_loud_loss():
    """S21: uniform in [0, 0.5 s]."""
    delays = []
    for seed in range(200):
        rig = connected(seed=seed)
        rig.advance(10.0)
        rig.lose()
        rig.advance(0.5)
        delays.append(rig.opened_at[1] - 10.0)
    assert min(delays) < 0.02
    assert max(delays) > 0.48
    assert 0.2 < sum(delays) / len(delays) < 0.3


def test_cap_in_the_grace_time():
    """S21: while still CONNECTED the cap is 1 s, so that an outage of up to 3 s ends unnoticed."""
    for seed in range(50):
        rig = connected(seed=seed)
        rig.lose()
        while rig.elapsed < 3.0:
            if rig.core.seen_transports:
                rig.refuse_transport()
            rig.advance(min(0.01, 3.0 - rig.elapsed) or 0.01)
        if not rig.core.seen_transports:
            rig.advance(0.9999)
        rig.accept()
        assert len(rig.changes) == 2, seed


def test_delays_grow_up_to_the_cap():
    """S21: base * 2**n, up to 5 s."""
    rig = connected(jitter=1.0)
    rig.lose()
    for _ in range(12):
        rig.advance(5.0)
        rig.refuse_transport()
    jitter = rig.rng
    assert isinstance(jitter, FixedJitter)
    assert jitter.ceilings == [0.5, 1.0, 2.0, 4.0] + [5.0] * 9


def test_never_gives_up():
    """S20, F-15: no limit on attempts or time."""
    rig = reconnecting()
    for _ in range(500):
        rig.advance(5.0)
        rig.refuse_transport(TransportFailure("x", code="name_not_found"))
    assert rig.state is ConnectionState.RECONNECTING
    assert rig.core.attempts == len(rig.opened) > 500
    rig.advance(5.0)
    rig.accept()
    assert rig.state is ConnectionState.CONNECTED


@pytest.mark.parametrize(("seconds", "ended"), [(4.999, False), (5.0, True)])
@pytest.mark.parametrize("phase", ["opening", "handshake", "login"])
def test_one_attempt_takes_at_most_five_seconds(phase: str, seconds: float, ended: bool):
    """S21, F-12: up to the welcome, in whichever phase it hangs."""
    rig = reconnecting()
    rig.advance(5.0)
    number = rig.opened[-1].transport_id
    start = rig.opened_at[-1]
    if phase != "opening":
        rig.core.transport_opened(number, now=rig.now)
        if phase == "login":
            rig.take()
        else:
            rig.core.take_outputs()
    rig.advance(start + seconds - rig.elapsed)
    assert (rig.closed.get(number) == "abort") is ended


@pytest.mark.parametrize(("seconds", "ceiling"), [(9.999, 1.0), (10.0, 0.5)])
def test_count_starts_again_after_ten_seconds(seconds: float, ceiling: float):
    """S21, F-60: only a connection that lived 10 s starts the count again."""
    rig = Rig(jitter=0.0)
    rig.login()
    rig.refuse_transport()
    rig.tick()
    rig.accept()
    rig.advance(seconds)
    rig.lose()
    assert isinstance(rig.rng, FixedJitter)
    assert rig.rng.ceilings == [0.5, ceiling]


def test_dropped_at_once_again_and_again_backs_off():
    """F-60: connected and dropped at once: the delays grow all the same."""
    rig = connected(jitter=1.0)
    for _ in range(8):
        rig.lose()
        rig.advance(5.0)
        rig.accept()
    assert isinstance(rig.rng, FixedJitter)
    assert rig.rng.ceilings == [0.5] + [1.0] * 7, "the cap of the grace time"


@pytest.mark.parametrize(("retry_after", "delay"), [(7.0, 7.0), (1000.0, 300.0), (0.0, 0.5), (1e-300, 0.5)])
def test_retry_after(retry_after: float, delay: float):
    """S21, F-11, F-60: overrides the back-off, up to the cap of the config; one that says "at once" brings no hot
    loop."""
    rig = reconnecting(jitter=1.0)
    rig.advance(5.0)
    rig.open()
    at = rig.elapsed
    rig.say(LoginRefused(Code.DRAINING, "", retry_after))
    rig.advance(delay)
    assert rig.opened_at[-1] == pytest.approx(at + delay)


def test_retry_after_can_be_interrupted():
    """F-11: by the app."""
    rig = reconnecting()
    rig.advance(5.0)
    rig.open()
    rig.say(LoginRefused(Code.DRAINING, "", 200.0))
    count = len(rig.opened)
    rig.advance(10.0)
    assert len(rig.opened) == count
    rig.call("retry_now")
    assert len(rig.opened) == count + 1
    rig.call("logout")


def test_verdict_goes_on_at_the_cap():
    """S20, F-17: attempts go on at the cap; ReconnectProblem once per code."""
    rig = reconnecting(jitter=1.0)
    for _ in range(4):
        rig.advance(5.0)
        rig.refuse_transport(TransportFailure("self-signed", code="certificate_not_trusted"))
    rig.advance(5.0)
    rig.open()
    rig.say(LoginRefused(Code.LOGIN_LIMIT, "too many"))
    problems = rig.of_type(ReconnectProblem)
    assert [one.code for one in problems] == ["certificate_not_trusted", "login_limit"]
    assert "self-signed" in problems[0].message
    assert isinstance(rig.rng, FixedJitter)
    assert rig.rng.ceilings[-4:] == [5.0] * 4
    assert rig.state is ConnectionState.RECONNECTING


@pytest.mark.parametrize(
    ("code", "ceilings", "delay"),
    [("certificate_not_trusted", [0.5, 5.0, 5.0], 5.0), ("connection_refused", [0.5, 1.0, 2.0], 1.0)],
)
def test_a_verdict_is_at_the_cap_from_the_first_on(code: str, ceilings: list[float], delay: float):
    """S20: and only a verdict is: what passes by itself goes through the growing delays."""
    rig = connected(jitter=1.0, answer_heartbeats=False)
    rig.advance(4.0)
    assert rig.last_change == (4.0, "RECONNECTING", "INTERRUPTED")
    rig.advance(0.5)
    rig.refuse_transport(TransportFailure("x", code=code))
    rig.advance(delay - 0.001)
    assert rig.opened_at == [0.0, 4.5]
    rig.advance(0.001)
    assert rig.opened_at == pytest.approx([0.0, 4.5, 4.5 + delay])
    rig.refuse_transport(TransportFailure("x", code=code))
    assert isinstance(rig.rng, FixedJitter)
    assert rig.rng.ceilings == ceilings


def test_a_refused_login_is_at_the_cap_from_the_first_on():
    """S20, S21: unless the server says when."""
    rig = connected(jitter=1.0, answer_heartbeats=False)
    rig.advance(4.5)
    for retry_after, delay in ((None, 5.0), (2.0, 2.0), (None, 5.0)):
        rig.open()
        at = rig.elapsed
        rig.say(LoginRefused(Code.LOGIN_LIMIT, "too many", retry_after))
        rig.advance(delay)
        assert rig.opened_at[-1] == pytest.approx(at + delay)


def test_a_verdict_in_the_grace_time_is_no_reason_to_wait():
    """S20, S21: while still CONNECTED the cap is 1 s, whatever was said; it counts from RECONNECTING on."""
    rig = connected(jitter=1.0)
    rig.lose()
    for _ in range(4):
        rig.advance(1.0)
        rig.refuse_transport(TransportFailure("x", code="certificate_not_trusted"))
    assert rig.state is ConnectionState.RECONNECTING
    assert isinstance(rig.rng, FixedJitter)
    assert rig.rng.ceilings == [0.5, 1.0, 1.0, 1.0, 5.0]


@pytest.mark.parametrize("end", ["logout", "timeout", "verdict", "kick"])
def test_a_login_call_starts_the_count_again(end: str):
    """S21: whatever was before, and however it ended, the first delay of a new ``login`` is drawn from [0, 0.5 s]."""
    rig = Rig(jitter=1.0)
    rig.login()
    for delay in (0.5, 1.0, 2.0):
        rig.refuse_transport()
        rig.advance(delay)
    if end == "timeout":
        rig.advance(6.0)
    elif end == "verdict":
        rig.refuse_transport(TransportFailure("x", code="certificate_not_trusted"))
    elif end == "kick":
        rig.accept()
        rig.say(Kicked(Code.KICKED, ""))
    if rig.state is not ConnectionState.DISCONNECTED:
        rig.call("logout")
    before = rig.elapsed
    rig.login()
    assert rig.opened_at[-1] == before
    for _ in range(2):
        rig.refuse_transport()
        rig.advance(1.0)
    assert isinstance(rig.rng, FixedJitter)
    assert rig.rng.ceilings == [0.5, 1.0, 2.0, 0.5, 1.0]
    assert rig.opened_at[-2:] == pytest.approx([before + 0.5, before + 2.0])


def test_problem_of_the_grace_time_is_told_afterwards():
    """S20: told in RECONNECTING; an outage that ends unseen tells nothing."""
    for recovered in (True, False):
        rig = connected()
        rig.lose()
        rig.advance(0.5)
        rig.refuse_transport(TransportFailure("x", code="certificate_not_trusted"))
        assert rig.of_type(ReconnectProblem) == []
        if recovered:
            rig.advance(1.0)
            rig.accept()
            rig.advance(1.0)
            rig.lose()
        rig.advance(4.0)
        assert len(rig.of_type(ReconnectProblem)) == (0 if recovered else 1)


def test_problem_once_per_outage():
    """S20: a new outage tells it again."""
    rig = reconnecting()
    for _ in range(2):
        for _ in range(3):
            rig.advance(5.0)
            rig.refuse_transport(TransportFailure("x", code="http_404"))
        rig.advance(5.0)
        rig.accept()
        rig.lose()
        rig.advance(4.0)
        if rig.core.seen_transports:
            rig.refuse_transport()
    assert [one.code for one in rig.of_type(ReconnectProblem)] == ["http_404", "http_404"]


def test_transient_trouble_is_no_problem():
    """S20: only verdicts are reported."""
    rig = reconnecting()
    for _ in range(10):
        rig.advance(5.0)
        rig.refuse_transport()
    assert rig.of_type(ReconnectProblem) == []


def test_garbage_again_and_again_is_a_problem():
    """F-61: after three protocol errors in a row the app is told, once."""
    rig = reconnecting()
    for count in range(1, 6):
        rig.advance(5.0)
        rig.open()
        rig.feed(b"\xff\xff")
        assert len(rig.of_type(ReconnectProblem)) == (count >= 3)
    assert rig.of_type(ReconnectProblem)[0].code == "protocol_error"
    rig.advance(5.0)
    rig.accept()
    rig.feed(b"\xff\xff")
    rig.advance(4.0)
    assert len(rig.of_type(ReconnectProblem)) == 1


def test_protocol_errors_between_restored_sessions_are_told():
    """F-61: a loop in which each session is restored unseen is told as well, once."""
    rig = connected()
    for count in range(1, 6):
        rig.feed(b"\xff\xff")
        rig.advance(1.0)
        rig.accept()
        assert rig.state is ConnectionState.CONNECTED
        assert len(rig.of_type(ReconnectProblem)) == (count >= 3)
    for _ in range(10):
        rig.advance(1.0)
        rig.say()
    rig.lose()
    rig.advance(1.0)
    rig.accept()
    assert len(rig.of_type(ReconnectProblem)) == 1


def test_larger_messages_of_a_server_are_taken():
    """S15, S45: the welcome's figure counts, not that of the config."""
    rig = Rig()
    rig.connect("lobby", limits=limits(max_frame_bytes=1 << 20))
    rig.entries(1, *["x" * 30_000] * 10)
    assert len(rig.messages()) == 10


@pytest.mark.parametrize("code", [Code.REMOTE_LOGIN, Code.BANNED, Code.KICKED, 4077])
@pytest.mark.parametrize("state", ["grace", "reconnecting"])
def test_terminal_refusal_of_a_resume(code: int, state: str):
    """S30, S31, S41, F-48, F-50: learned on the next attempt, even inside the grace time; no attempt follows."""
    rig = connected() if state == "grace" else reconnecting()
    if state == "grace":
        rig.lose()
    rig.advance(5.0 if state == "reconnecting" else 0.5)
    rig.open()
    rig.say(LoginRefused(code, "x"))
    assert rig.state is ConnectionState.ABORTED
    count = len(rig.opened)
    rig.advance(500.0)
    assert len(rig.opened) == count


# --- the session is gone


@pytest.mark.parametrize(
    "welcome", [{"resumed": False}, {"session_id": OTHER_SESSION}, {"session_id": OTHER_SESSION, "resumed": False}]
)
def test_session_gone_within_the_grace_time(welcome: dict[str, Any]):
    """S17, F-26: RECONNECTING at once, then CONNECTED at the answer: the app sees both events."""
    rig = connected("lobby")
    rig.lose()
    rig.advance(0.5)
    rig.open()
    frames = rig.server.wire
    rig.say(rig.welcome(**welcome))
    assert rig.changes[2:] == [("RECONNECTING", "INTERRUPTED")]
    assert rig.of_type(ConnectionStateChanged)[-1].code == "session_gone"
    rig.say(rig.restored())
    assert rig.changes[3:] == [("CONNECTED", "LOGIN_SUCCESS")]
    assert frames is rig.server.wire


def test_session_gone_in_one_answer():
    """S17: both events even if the renewal comes in the same batch."""
    rig = connected("lobby")
    rig.lose()
    rig.advance(0.5)
    rig.open()
    rig.say(rig.welcome(resumed=False), rig.restored())
    assert rig.changes[2:] == [("RECONNECTING", "INTERRUPTED"), ("CONNECTED", "LOGIN_SUCCESS")]


def test_session_gone_in_reconnecting():
    """S25: logged in anew without the app; one event."""
    rig = reconnecting()
    rig.advance(5.0)
    rig.accept(resumed=False, session_id=OTHER_SESSION)
    assert rig.changes[2:] == [("RECONNECTING", "INTERRUPTED"), ("CONNECTED", "LOGIN_SUCCESS")]


def test_grace_timer_of_a_gone_session_is_over():
    """S17: the state was switched already; nothing is switched twice."""
    rig = connected()
    rig.lose()
    rig.advance(0.5)
    rig.open()
    rig.say(rig.welcome(resumed=False))
    rig.advance(9.0)
    assert len(rig.changes) == 3


# --- the answer to the statement


@pytest.mark.parametrize(("seconds", "lost"), [(9.999, False), (10.0, True)])
def test_answer_missing(seconds: float, lost: bool):
    """S59: ten seconds after the welcome its absence is a loud loss."""
    rig = connected("lobby")
    rig.lose()
    rig.advance(0.5)
    rig.open()
    rig.say(rig.welcome())
    start = rig.elapsed
    rig.advance(start + seconds - rig.elapsed)
    assert (rig.closed.get(2) == "abort") is lost


@pytest.mark.parametrize(
    "answer",
    [Restored(()), Restored((), True)],
)
def test_answer_without_a_channel(answer: Restored):
    """S44, S59: each wanted channel has its result; one without would stay silent for ever."""
    rig = connected("lobby")
    rig.lose()
    rig.advance(0.5)
    rig.open()
    rig.say(rig.welcome())
    rig.say(answer)
    if answer.more:
        assert rig.server.closed_with is None
        rig.say(Restored(()))
    assert rig.server.closed_with == 1002


def test_answer_in_pieces():
    """S59, S45: in as many messages as needed."""
    rig = connected("a", "b", "c")
    rig.lose()
    rig.advance(0.5)
    rig.open()
    whole = rig.restored().channels
    rig.say(rig.welcome())
    for index, one in enumerate(whole):
        rig.say(Restored((one,), more=index < 2))
        assert rig.server.closed_with is None
    rig.advance(10.0)
    assert len(rig.changes) == 2


@pytest.mark.parametrize("kind", ["too many", "twice", "unknown", "second answer", "before the welcome"])
def test_answers_that_do_not_fit(kind: str):
    """S50: to wishes that were not stated."""
    rig = connected("a")
    rig.lose()
    rig.advance(0.5)
    rig.open()
    (one,) = rig.restored().channels
    if kind == "before the welcome":
        rig.say(Restored((one,)))
    else:
        rig.say(rig.welcome())
        other = type(one)("z")
        answers = {
            "too many": [Restored((one, other))],
            "twice": [Restored((one, one))],
            "unknown": [Restored((other,))],
            "second answer": [Restored((one,)), Restored((one,))],
        }
        rig.say(*answers[kind])
    assert rig.server.closed_with == 1002


def test_state_change_before_the_logs():
    """S42: CONNECTED comes before anything that was missed."""
    rig = connected("lobby")
    rig.lose()
    rig.advance(4.0)
    if rig.core.seen_transports:
        rig.refuse_transport()
    rig.advance(5.0)
    rig.accept()
    rig.entries(1, "missed", "live")
    kinds = [type(event).__name__ for event in rig.events[-3:]]
    assert kinds == ["ConnectionStateChanged", "ChannelMessageReceived", "ChannelMessageReceived"]


def test_kick_right_behind_the_welcome():
    """S30: while RESTORING, in one batch."""
    rig = connected()
    rig.lose()
    rig.advance(0.5)
    rig.open()
    rig.say(rig.welcome(), Kicked(Code.REMOTE_LOGIN, ""), rig.restored())
    assert rig.changes[2:] == [("ABORTED", "REMOTE_LOGIN")]


def test_second_welcome():
    """S50: one welcome a transport."""
    rig = connected()
    rig.say(rig.welcome())
    assert rig.server.closed_with == 1002
    rig = connected()
    rig.say(LoginRefused(Code.BANNED, ""))
    assert rig.server.closed_with == 1002
    assert rig.state is ConnectionState.CONNECTED


def test_progress_confirms_the_attach():
    """S18, S46: alone within 1 s, in front of the next batch otherwise; again after each welcome."""
    rig = connected()
    assert rig.server.of_type(Progress) == []
    rig.advance(1.0)
    assert rig.server.of_type(Progress) == [Progress(1, 2)]
    rig.advance(30.0)
    assert len(rig.server.of_type(Progress)) == 1
    rig.lose()
    rig.advance(0.5)
    rig.accept()
    rig.call("join", "lobby")
    assert [type(one).__name__ for one in rig.server.received[-2:]] == ["Progress", "Join"]
    assert rig.server.of_type(Progress) == [Progress(2, 2)]


def test_settings_of_the_config_are_used():
    """S15: every interval is a setting."""
    rig = Rig(ClientConfig().scaled(0.1), answer_heartbeats=False)
    rig.connect(limits=limits(heartbeat_interval=0.2, silence_timeout=1.0))
    rig.advance(0.4)
    assert rig.last_change == (0.4, "RECONNECTING", "INTERRUPTED")


def test_same_seed_same_attempts():
    """Promise 8: the jitter is the generator's that was passed in."""
    runs = []
    for _ in range(2):
        rig = connected(seed=3)
        rig.lose()
        for _ in range(5):
            rig.advance(5.0)
            rig.refuse_transport()
        runs.append(rig.opened_at)
    assert runs[0] == runs[1]
