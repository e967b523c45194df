"""Logging in and out (S1-S8), the codes (S41), the identity of a login (S18, S19)."""

from __future__ import annotations

import logging
import random
from typing import Any

import pytest

from core.checked_core import CheckedClientCore
from core.fake_server import OTHER_SESSION, SESSION, Rig, limits
from rtm_sansio.client import ClientCore, ClientTimer
from rtm_sansio.codes import CODE_RANGES, Code, CodeKind
from rtm_sansio.config import ClientConfig
from rtm_sansio.endpoints import parse_endpoints
from rtm_sansio.errors import (
    ConfigError,
    InvalidArgument,
    InvalidState,
    LoginFailed,
    LoginTimeout,
    NotConnected,
    NotLoggedIn,
    RtmError,
    TransportFailure,
)
from rtm_sansio.events import ConnectionStateChanged
from rtm_sansio.messages import HEARTBEAT, Done, Kicked, Login, LoginRefused, Logout, Want
from rtm_sansio.states import ConnectionState

CONNECTED = [("CONNECTING", "LOGIN"), ("CONNECTED", "LOGIN_SUCCESS")]


def test_login():
    """S1, S2, S3: DISCONNECTED before; CONNECTING at once; CONNECTED and the end of the call at the welcome."""
    rig = Rig()
    assert rig.state is ConnectionState.DISCONNECTED
    assert rig.core.uid is None
    assert rig.core.next_deadline() is None
    number = rig.login()
    assert rig.state is ConnectionState.CONNECTING
    rig.open()
    assert number not in rig.ends
    rig.say(rig.welcome())
    assert rig.result(number) is None
    assert rig.changes == CONNECTED
    assert rig.core.uid == "alice"


def test_state_event_comes_before_the_end_of_the_call():
    """S3: the app that waits for the call has the event already."""
    rig = Rig()
    rig.login()
    rig.open()
    rig.say(rig.welcome())
    kinds = [type(output).__name__ for output in rig.outputs]
    assert kinds.index("RequestCompleted") > kinds.index("ConnectionStateChanged", kinds.index("Transmit"))


def test_reconnect_never_completes_the_login_again():
    """S3: an automatic reconnect emits states and no end of the call (the rig checks that it ends once)."""
    rig = Rig()
    number = rig.login()
    rig.accept()
    rig.lose()
    rig.advance(4.5)
    rig.accept()
    assert rig.changes[2:] == [("RECONNECTING", "INTERRUPTED"), ("CONNECTED", "LOGIN_SUCCESS")]
    assert rig.result(number) is None


def test_cancelled_login_is_a_logout():
    """S3, F-71: cancelling it ends it without an end coming out, closes the transport and leaves nothing."""
    rig = Rig()
    number = rig.login()
    rig.call("cancel", number)
    assert rig.changes[-1] == ("DISCONNECTED", "LOGOUT")
    assert number not in rig.ends
    assert rig.closed == {1: "abort"}
    assert rig.core.next_deadline() is None


def test_cancel_after_the_login_changes_nothing():
    """S3: the id of a login that has ended is an id like any other that is gone."""
    rig = Rig()
    number = rig.login()
    rig.accept()
    rig.call("cancel", number)
    rig.call("cancel", 4711)
    assert rig.state is ConnectionState.CONNECTED


@pytest.mark.parametrize("state", ["CONNECTING", "CONNECTED", "RECONNECTING", "ABORTED"])
def test_login_in_another_state(state: str):
    """S4: raises with the state and what to call; nothing else changes."""
    rig = rig_in(state)
    with pytest.raises(InvalidState, match=f"{state}.*logout") as caught:
        rig.core.login("bob", "t", now=rig.now)
    assert caught.value.code == "invalid_state"
    assert rig.take() == []
    assert rig.state.value == state
    assert rig.core.uid == "alice"


def rig_in(state: str, **options: Any) -> Rig:
    """A rig in the state of this name."""
    rig = Rig(**options)
    if state == "DISCONNECTED":
        return rig
    rig.login()
    if state == "CONNECTING":
        return rig
    rig.accept()
    if state == "RECONNECTING":
        rig.lose()
        rig.advance(4.0)
    if state == "ABORTED":
        rig.say(Kicked(Code.KICKED, "out"))
    assert rig.state.value == state
    return rig


@pytest.mark.parametrize(
    ("uid", "token"), [("", "t"), ("x" * 65, "t"), ("ä", "t"), (None, "t"), ("alice", "t\n"), ("alice", 5)]
)
def test_impossible_arguments_of_login(uid: Any, token: Any):
    """S37: refused at the call."""
    rig = Rig()
    with pytest.raises(InvalidArgument):
        rig.core.login(uid, token, now=rig.now)
    assert rig.take() == []


def test_no_endpoint():
    """F-13: a core needs one to try."""
    with pytest.raises(ConfigError):
        ClientCore(ClientConfig(), endpoints=(), rng=random.Random(), entropy=random.randbytes)


@pytest.mark.parametrize("phase", ["opening", "handshake", "login"])
def test_login_timeout(phase: str):
    """S5, F-12: at 6.0 s from the call, whatever phase hangs; 5.999 is too early; the transport is aborted."""
    rig = Rig(ClientConfig(attempt_timeout_seconds=60.0))
    number = rig.login()
    if phase == "handshake":
        rig.core.transport_opened(1, now=rig.now)
        rig.core.take_outputs()
    elif phase == "login":
        rig.open()
    rig.advance(5.999)
    assert rig.state is ConnectionState.CONNECTING
    rig.advance(0.001)
    assert rig.last_change == (6.0, "DISCONNECTED", "LOGIN_TIMEOUT")
    error = rig.error(number)
    assert isinstance(error, LoginTimeout)
    assert (error.code, error.attempts, error.last_cause) == ("login_timeout", 1, None)
    assert rig.closed == {1: "abort"}
    assert "6 s" in str(error)


def test_accepts_tcp_and_says_nothing():
    """S5, S21: one attempt takes at most 5 s; LOGIN_TIMEOUT comes at 6.0 s all the same."""
    rig = Rig(jitter=1.0)
    number = rig.login()
    rig.core.transport_opened(1, now=rig.now)
    rig.core.take_outputs()
    rig.advance(4.999)
    assert not rig.closed
    rig.advance(0.001)
    assert rig.closed == {1: "abort"}
    rig.advance(1.0)
    assert rig.last_change == (6.0, "DISCONNECTED", "LOGIN_TIMEOUT")
    assert rig.error(number).last_cause == "attempt_timeout"
    assert rig.error(number).attempts == 2


def test_welcome_late_in_one_pass_with_the_timeout():
    """S13, F-24: bytes that arrived are processed before the deadline fires, even if the app called late."""
    rig = Rig(ClientConfig(attempt_timeout_seconds=60.0))
    rig.login()
    rig.open()
    rig.now += 7.5
    rig.say(rig.welcome())
    rig.tick()
    assert rig.changes == CONNECTED


TRANSIENT = [
    TransportFailure("x", code=code)
    for code in (
        "connection_refused",
        "unreachable",
        "name_not_found",
        "connect_timeout",
        "connection_lost",
        "tls_failed",
        "http_strange",
    )
]
VERDICTS = [TransportFailure("x", code="certificate_not_trusted")]


@pytest.mark.parametrize(
    ("scheme", "what", "advice"),
    [
        ("ws", "nothing", "check the URL and that the server runs"),
        ("ws", "connection_refused", "check the URL and that the server runs"),
        ("ws", "connection_lost", "it begins with wss:// if the server speaks TLS"),
        ("wss", "connection_lost", "check the URL and that the server runs"),
        ("wss", "tls_failed", "its URL begins with ws://"),
        ("ws", "refusal", "look into its log"),
    ],
)
def test_the_error_says_what_to_look_at(scheme: str, what: str, advice: str):
    """S5: by the last cause; a server that answered is not to be looked for."""
    rig = Rig(urls=f"{scheme}://rtm.example")
    number = rig.login()
    while rig.state is ConnectionState.CONNECTING:
        if what == "refusal":
            rig.open()
            rig.say(LoginRefused(Code.AUTHENTICATOR_FAILED, "the login could not be checked"))
        elif what != "nothing":
            rig.refuse_transport(TransportFailure("x", code=what))
        rig.advance(rig.core.next_deadline() - rig.now)  # type: ignore[operator]
    assert isinstance(rig.error(number), LoginTimeout)
    assert advice in str(rig.error(number)).rpartition("; ")[2]


@pytest.mark.parametrize("cause", TRANSIENT, ids=lambda cause: cause.code)
def test_transient_failures_are_retried(cause: TransportFailure):
    """S6, F-13, F-14: retried inside the 6 s with the back-off; the error carries the last cause and the attempts."""
    rig = Rig(jitter=1.0)
    number = rig.login()
    while rig.state is ConnectionState.CONNECTING:
        rig.refuse_transport(cause)
        rig.advance(rig.core.next_deadline() - rig.now)  # type: ignore[operator]
    assert rig.opened_at == [0.0, 0.5, 1.5, 3.5]
    assert rig.last_change == (6.0, "DISCONNECTED", "LOGIN_TIMEOUT")
    error = rig.error(number)
    assert (error.attempts, error.last_cause) == (4, cause.code)
    assert error.__cause__ is cause


def test_a_later_attempt_succeeds():
    """S6, S3: the call returns at the first success."""
    rig = Rig()
    number = rig.login()
    rig.refuse_transport()
    rig.advance(0.5)
    rig.accept()
    assert rig.result(number) is None
    rig.advance(6.0)
    assert rig.state is ConnectionState.CONNECTED


@pytest.mark.parametrize("cause", VERDICTS, ids=lambda cause: cause.code)
def test_verdicts_end_the_login(cause: TransportFailure):
    """S6, F-17: at once, with LOGIN_FAILURE."""
    rig = Rig()
    number = rig.login()
    rig.refuse_transport(cause)
    check_login_failed(rig, number, cause.code)
    assert rig.error(number).__cause__ is cause


def check_login_failed(rig: Rig, number: int, code: str) -> None:
    event = rig.of_type(ConnectionStateChanged)[-1]
    assert rig.changes[-1] == ("DISCONNECTED", "LOGIN_FAILURE")
    assert event.code == code
    error = rig.error(number)
    assert isinstance(error, LoginFailed)
    assert not isinstance(error, LoginTimeout)
    assert error.code == code
    assert error.attempts == 1
    assert error.__cause__ is not None
    assert rig.core.next_deadline() is None


def answer_http(rig: Rig, status: str, *headers: str, body: str = "") -> None:
    rig.core.transport_opened(rig.server.transport_id, now=rig.now)
    rig.core.take_outputs()
    lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}", "", body]
    rig.feed("\r\n".join(lines).encode())


@pytest.mark.parametrize("status", [200, 301, 302, 400, 401, 403, 404, 426, 451])
def test_http_verdicts(status: int):
    """S6, F-18: an HTTP answer that no repetition will mend, with a piece of its body."""
    rig = Rig()
    number = rig.login()
    answer_http(rig, f"{status} Nope", body="<html>\x1b[31m go away \n" + "y" * 5000)
    check_login_failed(rig, number, f"http_{status}")
    text = str(rig.error(number))
    assert "go away" in text
    assert "\x1b" not in text
    assert len(text) < 600


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504, 599])
def test_http_passing_trouble(status: int):
    """S6, F-18: retried."""
    rig = Rig()
    rig.login()
    answer_http(rig, f"{status} Later")
    assert rig.state is ConnectionState.CONNECTING
    rig.advance(0.5)
    assert len(rig.opened) == 2


@pytest.mark.parametrize(
    ("value", "delay"), [("3", 3.0), ("0", 0.5), ("soon", 0.5), ("1234567", 0.5), ("-1", 0.5), ("Fri, 31 Dec", 0.5)]
)
def test_retry_after(value: str, delay: float):
    """S21, F-11: a number of seconds overrides the back-off; anything else does not."""
    rig = Rig(jitter=1.0)
    rig.login()
    answer_http(rig, "503 Busy", "X-Other: 1", f"Retry-After: {value}")
    rig.advance(5.0)
    assert rig.opened_at[1] == delay


def test_answer_cut_off():
    """S6: an HTTP answer whose body never ends counts by its status; an end inside the head is passing trouble."""
    rig = Rig()
    number = rig.login()
    rig.core.transport_opened(1, now=rig.now)
    rig.core.take_outputs()
    rig.feed(b"HTTP/1.1 403 No\r\nContent-Length: 99\r\n\r\nhalf")
    rig.lose()
    check_login_failed(rig, number, "http_403")
    rig = Rig()
    rig.login()
    rig.core.transport_opened(1, now=rig.now)
    rig.core.take_outputs()
    rig.feed(b"HTTP/1.1 101 Swi")
    rig.lose()
    assert rig.state is ConnectionState.CONNECTING


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (b"SSH-2.0-OpenSSH\r\n", "not_a_websocket"),
        (b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n", "not_a_websocket"),
    ],
)
def test_not_a_websocket(answer: bytes, code: str):
    """S6, F-61: a verdict."""
    rig = Rig()
    number = rig.login()
    rig.core.transport_opened(1, now=rig.now)
    rig.core.take_outputs()
    rig.feed(answer)
    check_login_failed(rig, number, code)


def test_no_common_version():
    """S6, F-62: a server that chooses another subprotocol."""
    rig = Rig()
    number = rig.login()
    rig.core.transport_opened(1, now=rig.now)
    data = b"".join(output.data for output in rig.core.take_outputs())
    answer = []
    rig.server.wire.receive(data)
    answer = rig.server.wire.data_to_send().replace(b"rtm.v1.msgpack", b"rtm.v2.msgpack")
    rig.feed(answer)
    check_login_failed(rig, number, "no_common_protocol")


@pytest.mark.parametrize("way", ["refusal", "close frame"])
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("kind", list(CodeKind), ids=lambda kind: kind.name)
def test_codes_at_login(kind: CodeKind, known: bool, way: str):
    """S6, S41: terminal codes and verdicts end a login, others are retried; known or not, said either way."""
    codes = CODE_RANGES[kind]
    code = codes[0] if known else codes[-1]
    rig = Rig()
    number = rig.login()
    rig.open()
    if way == "refusal":
        rig.say(LoginRefused(code, "because"))
    else:
        rig.say_close(code, "because")
    if kind in (CodeKind.TERMINAL, CodeKind.VERDICT):
        check_login_failed(rig, number, Code(code).name.lower() if known else f"code_{code}")
        assert "because" in str(rig.error(number))
    else:
        assert rig.state is ConnectionState.CONNECTING
        rig.advance(0.5)
        assert len(rig.opened) == 2


def test_codes_outside_all_ranges_are_passing_trouble():
    """S41: a code of no range is no verdict."""
    for code in (0, -3, 5000, 2**62):
        rig = Rig()
        rig.login()
        rig.open()
        rig.say(LoginRefused(code, ""))
        assert rig.state is ConnectionState.CONNECTING


def test_ordinary_close_at_login():
    """S6: a close frame without a code of ours is an EOF."""
    rig = Rig(ClientConfig(attempt_timeout_seconds=60.0))
    rig.login()
    rig.open()
    rig.say_close(1001, "going away")
    assert rig.state is ConnectionState.CONNECTING
    assert rig.server.closed_with == 1001, "the close frame is echoed"
    rig.advance(6.0)
    assert rig.of_type(ConnectionStateChanged)[-1].code == "connection_lost"


@pytest.mark.parametrize(("retry_after", "at"), [(2.5, 2.5), (0.0, 0.5), (-7.0, 0.5)])
def test_retry_after_of_a_refusal(retry_after: float, at: float):
    """S21, F-60: overrides the back-off, but for the first jitter."""
    rig = Rig(jitter=1.0)
    rig.login()
    rig.open()
    rig.say(LoginRefused(Code.UNAVAILABLE, "", retry_after))
    rig.advance(5.9)
    assert rig.opened_at[1] == at


@pytest.mark.parametrize("retry_after", [float("nan"), float("inf"), float("-inf")])
def test_absurd_retry_after(retry_after: float):
    """S50, promise 5: a figure that is none leaves the back-off as it is."""
    rig = Rig(jitter=1.0)
    rig.login()
    rig.open()
    rig.say(LoginRefused(Code.UNAVAILABLE, "", retry_after))
    rig.advance(0.5)
    assert rig.opened_at == [0.0, 0.5]


def test_endpoints_by_turns():
    """F-13, F-16: each attempt takes the next URL."""
    rig = Rig(urls=["ws://one", "wss://two:9/x", "ws://[::1]:7"])
    rig.login()
    for _ in range(3):
        rig.refuse_transport()
        rig.advance(2.0)
    assert [one.endpoint.host for one in rig.opened] == ["one", "two", "::1", "one"]
    assert [one.attempt for one in rig.opened] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("ws://a.test", b"a.test"),
        ("ws://a.test:81", b"a.test:81"),
        ("wss://a.test:443", b"a.test"),
        ("ws://[::1]:80/", b"[::1]"),
        ("ws://[::1]:81/", b"[::1]:81"),
    ],
)
def test_host_header(url: str, host: bytes):
    """RFC 6455, 4.1: the Host header has the port unless it is the scheme's own."""
    core = ClientCore(ClientConfig(), endpoints=parse_endpoints(url), rng=random.Random(), entropy=random.randbytes)
    core.login("alice", "t", now=0.0)
    core.take_outputs()
    core.transport_opened(1, now=0.0)
    (transmit,) = core.take_outputs()
    assert b"Host: " + host + b"\r\n" in transmit.data


# --- identity


def test_identity_of_a_login():
    """S18: one instance id, one login id for all attempts, attempts that rise, also through reconnects."""
    rig = Rig()
    rig.login()
    rig.open()
    rig.lose()
    rig.advance(0.5)
    rig.accept()
    rig.lose()
    rig.advance(1.0)
    rig.accept()
    logins = [rig.servers[number].of_type(Login)[0] for number in (1, 2, 3)]
    assert [one.attempt for one in logins] == [0, 1, 2]
    assert len({one.instance_id for one in logins}) == 1
    assert len({one.login_id for one in logins}) == 1
    assert len(logins[0].instance_id) == len(logins[0].login_id) == 16
    assert logins[0].instance_id != logins[0].login_id


def test_each_client_object_is_another_instance():
    """S18: 128 random bits for each object, also of one process that logs in the same uid twice; the object keeps them
    through logouts."""
    shared = random.Random(5).randbytes

    def core(config: ClientConfig, *, entropy: Any, **options: Any) -> CheckedClientCore:
        return CheckedClientCore(config, entropy=shared, **options)

    instances, login_ids = [], []
    for _ in range(3):
        rig = Rig(core_type=core)
        for _ in range(2):
            rig.connect()
            login = rig.server.of_type(Login)[0]
            instances.append(login.instance_id)
            login_ids.append(login.login_id)
            rig.call("logout")
    assert instances[0::2] == instances[1::2]
    assert len(set(instances)) == 3
    assert len(set(login_ids)) == 6
    assert not set(instances) & set(login_ids)


def test_a_new_login_call_has_a_new_login_id():
    """S18: the instance stays the same; attempts begin anew."""
    rig = Rig()
    rig.connect()
    first = rig.server.of_type(Login)[0]
    rig.call("logout")
    rig.connect()
    second = rig.server.of_type(Login)[0]
    assert first.instance_id == second.instance_id
    assert first.login_id != second.login_id
    assert second.attempt == 0
    assert (second.session_id, second.login_epoch, second.attach) == (None, None, None)


def test_what_a_resume_quotes():
    """S18, S19: session id, login epoch and attach number of the last welcome; before any welcome nothing."""
    rig = Rig()
    rig.connect()
    first = rig.server.of_type(Login)[0]
    assert (first.session_id, first.login_epoch, first.attach) == (None, None, None)
    for attach in (1, 2):
        rig.lose()
        rig.advance(1.0)
        rig.accept()
        resume = rig.server.of_type(Login)[0]
        assert (resume.session_id, resume.login_epoch, resume.attach) == (SESSION, 7, attach)
        assert resume.token == "t0"


def test_ids_come_from_entropy_and_not_from_the_jitter():
    """S19: the ids are the operating system's randomness, whatever the jitter's generator is."""
    logins = []
    for jitter in (0.1, 0.9):
        rig = Rig(seed=5, jitter=jitter)
        rig.connect()
        logins.append(rig.server.of_type(Login)[0])
    assert logins[0] == logins[1]
    rig = Rig(seed=6, jitter=0.1)
    rig.connect()
    assert rig.server.of_type(Login)[0].login_id != logins[0].login_id


def test_nothing_secret_is_shown(caplog: pytest.LogCaptureFixture):
    """S19: neither token nor session id nor login id in a text form, an event, an error, or a log."""
    caplog.set_level(logging.DEBUG)
    rig = Rig()
    rig.connect(token="s3cret-token", session_id=b"s3cret-session-i")
    login = rig.server.of_type(Login)[0]
    rig.call("renew_token", "s3cret-second")
    rig.lose()
    rig.advance(10.0)
    rig.open()
    rig.say(LoginRefused(Code.BAD_TOKEN, "no"))
    rig.call("logout")
    shown = repr((rig.events, list(rig.ends.values()), login, rig.core, rig.core.__dict__)) + caplog.text
    shown += "".join(str(getattr(end, "error", "")) for end in rig.ends.values())
    assert "s3cret" not in shown
    assert repr(login.login_id)[2:-1] not in shown
    assert repr(rig.server.received).count("s3cret") == 0


# --- logout


def test_logout():
    """S7: DISCONNECTED at once; returns when the server has confirmed; then the transport is closed."""
    rig = Rig()
    rig.connect()
    number = rig.call("logout")
    assert rig.changes[-1] == ("DISCONNECTED", "LOGOUT")
    assert number not in rig.ends
    assert rig.server.of_type(Logout)[0].number == number
    rig.say(Done(number))
    assert rig.result(number) is None
    assert rig.closed == {1: "flush"}
    assert rig.core.next_deadline() is None


def test_logout_without_confirmation():
    """S7, promise 6: after at most 2 s without; nothing is left."""
    rig = Rig()
    rig.connect()
    number = rig.call("logout")
    assert rig.core.next_timer() is ClientTimer.LOGOUT
    rig.advance(1.999)
    assert number not in rig.ends
    rig.advance(0.001)
    assert rig.result(number) is None
    assert rig.closed == {1: "abort"}


@pytest.mark.parametrize("end", ["eof", "reset", "close frame", "garbage", "violation"])
def test_logout_ends_with_its_transport(end: str):
    """S7: whatever ends the transport ends the call; it never raises."""
    rig = Rig()
    rig.connect()
    number = rig.call("logout")
    if end == "eof":
        rig.lose()
    elif end == "reset":
        rig.lose(TransportFailure("rst", code="connection_lost"))
    elif end == "close frame":
        rig.say_close(1000)
    elif end == "garbage":
        rig.feed(b"\xff\xff\xff\xff")
    else:
        rig.feed(rig.server.wire.frame(b"\xc1"))
    assert rig.result(number) is None
    assert not rig.core.seen_transports
    assert rig.core.next_deadline() is None


def test_other_messages_while_logging_out():
    """S7: what still arrives is passed over: no event comes after DISCONNECTED."""
    rig = Rig()
    rig.connect("lobby")
    number = rig.call("logout")
    count = len(rig.events)
    rig.entries(1, "late")
    rig.say(Kicked(Code.KICKED, "late"))
    rig.feed(rig.server.wire.frame(HEARTBEAT))
    rig.feed(rig.server.wire.frame("a text"))
    rig.say(Done(4711))
    assert len(rig.events) == count
    assert number not in rig.ends
    rig.say(Done(number), Done(number))
    assert rig.result(number) is None


@pytest.mark.parametrize("phase", ["opening", "handshake", "login", "restoring", "no link"])
def test_logout_in_each_phase(phase: str):
    """S7, F-75: allowed everywhere; without a welcomed link it returns at once; no attempt follows."""
    rig = Rig()
    login = rig.login()
    if phase == "handshake":
        rig.core.transport_opened(1, now=rig.now)
        rig.core.take_outputs()
    elif phase == "login":
        rig.open()
    elif phase == "restoring":
        rig.open()
        rig.say(rig.welcome())
    elif phase == "no link":
        rig.refuse_transport()
    number = rig.call("logout")
    assert rig.changes[-1] == ("DISCONNECTED", "LOGOUT")
    if phase == "restoring":
        assert rig.result(login) is None
        rig.say(Done(number))
    else:
        error = rig.error(login)
        assert isinstance(error, LoginFailed)
        assert error.code == "logged_out"
    assert rig.result(number) is None
    if phase == "login":
        assert rig.server.of_type(Logout), "the login may just be accepted: the server finds the logout behind it"
        assert rig.closed == {1: "flush"}
    rig.advance(60.0)
    assert len(rig.opened) == 1
    assert rig.core.next_deadline() is None


@pytest.mark.parametrize("link", [True, False])
def test_logout_in_reconnecting(link: bool):
    """S7, F-75: the attempts end."""
    rig = rig_in("RECONNECTING")
    if link:
        rig.advance(5.0)
        rig.open()
    else:
        rig.refuse_transport()
    number = rig.call("logout")
    assert rig.result(number) is None
    opened = len(rig.opened)
    rig.advance(120.0)
    assert len(rig.opened) == opened


def test_logout_when_logged_out():
    """S7: not logged in."""
    rig = Rig()
    with pytest.raises(NotLoggedIn, match="login"):
        rig.core.logout(now=rig.now)
    rig.connect()
    rig.call("logout")
    with pytest.raises(NotLoggedIn):
        rig.core.logout(now=rig.now)


def test_cancelled_logout_has_no_end():
    """S7: who no longer waits gets no end; the logout goes on."""
    rig = Rig()
    rig.connect()
    number = rig.call("logout")
    rig.call("cancel", number)
    rig.advance(3.0)
    assert number not in rig.ends
    assert rig.closed == {1: "abort"}


def test_login_ends_a_closing_transport_at_once():
    """Promise 6: a login while the last logout is being confirmed ends that one, and goes on with a new transport."""
    rig = Rig()
    rig.connect()
    number = rig.call("logout")
    again = rig.login()
    assert rig.result(number) is None
    assert rig.closed == {1: "abort"}
    rig.accept()
    assert rig.result(again) is None
    assert [one.transport_id for one in rig.opened] == [1, 2]


def test_a_login_call_states_nothing_wanted():
    """S59, S32: after a logout and a new login no channel is left."""
    rig = Rig()
    rig.connect("lobby", "other")
    rig.call("logout")
    rig.connect()
    assert rig.server.of_type(Want) == [Want(())]
    rig.join("lobby")


# --- ABORTED


@pytest.mark.parametrize("during", ["up", "restoring", "reconnecting restoring"])
@pytest.mark.parametrize(
    ("code", "reason", "name"),
    [
        (Code.REMOTE_LOGIN, "REMOTE_LOGIN", "remote_login"),
        (Code.BANNED, "BANNED_BY_SERVER", "banned"),
        (Code.KICKED, "KICKED_BY_SERVER", "kicked"),
        (4055, "KICKED_BY_SERVER", "code_4055"),
        (4099, "KICKED_BY_SERVER", "code_4099"),
    ],
)
def test_kicked(code: int, reason: str, name: str, during: str):
    """S8, S30, S41, F-46: ABORTED with the code; the transport closed; no attempt of its own any more."""
    rig = Rig()
    if during == "up":
        rig.connect("lobby")
    elif during == "restoring":
        rig.login()
        rig.open()
        rig.say(rig.welcome())
    else:
        rig.connect()
        rig.lose()
        rig.advance(4.0)
        rig.open()
        rig.say(rig.welcome())
    rig.say(Kicked(code, "bye"))
    event = rig.of_type(ConnectionStateChanged)[-1]
    assert (event.state.value, event.reason.value, event.code, event.message) == ("ABORTED", reason, name, "bye")
    assert not rig.core.seen_transports
    opened = len(rig.opened)
    rig.advance(1000.0)
    assert len(rig.opened) == opened
    number = rig.call("logout")
    assert rig.result(number) is None
    rig.connect()
    assert rig.state is ConnectionState.CONNECTED


@pytest.mark.parametrize(("code", "aborted"), [(4000, True), (4001, True), (4099, True), (4200, False), (1001, False)])
def test_kicked_by_a_close_frame(code: int, aborted: bool):
    """S41, F-63: a close frame's code counts like a kick's."""
    rig = Rig()
    rig.connect()
    rig.say_close(code)
    assert (rig.state is ConnectionState.ABORTED) is aborted


@pytest.mark.parametrize("code", [4200, 4299, 4300, 4399, 77])
def test_a_kick_that_is_not_terminal_is_a_loss(code: int):
    """S41: a non-terminal one means reconnect."""
    rig = Rig()
    rig.connect()
    rig.say(Kicked(code, ""))
    assert rig.state is ConnectionState.CONNECTED
    rig.advance(0.5)
    rig.accept()
    assert rig.changes == CONNECTED


@pytest.mark.parametrize("code", [4150, Code.LOGIN_LIMIT])
def test_a_kick_with_a_verdict_is_a_problem(code: int):
    """S20, S41: not terminal: the attempts go on."""
    rig = Rig()
    rig.connect()
    rig.say(Kicked(code, ""))
    assert rig.state is ConnectionState.CONNECTED
    rig.advance(5.0)
    assert rig.state is ConnectionState.RECONNECTING


def test_token_expiry_enforced():
    """S28: ABORTED/TOKEN_EXPIRED from CONNECTED; in RECONNECTING it is an expired token like any other (table)."""
    rig = Rig()
    rig.connect()
    rig.say(Kicked(Code.TOKEN_EXPIRY_ENFORCED, "over"))
    assert rig.changes[-1] == ("ABORTED", "TOKEN_EXPIRED")
    rig = rig_in("RECONNECTING")
    rig.advance(5.0)
    rig.open()
    rig.say(LoginRefused(Code.TOKEN_EXPIRY_ENFORCED, "over"))
    assert rig.state is ConnectionState.RECONNECTING
    assert type(rig.events[-1]).__name__ == "TokenExpired"


@pytest.mark.parametrize("state", ["DISCONNECTED", "CONNECTING", "ABORTED"])
@pytest.mark.parametrize("call", ["join", "leave", "publish", "renew_token"])
def test_requests_need_a_session(state: str, call: str):
    """S35: in DISCONNECTED, CONNECTING and ABORTED they raise at the call, with the state and what to do."""
    rig = rig_in(state)
    arguments = ("lobby", "x") if call == "publish" else ("lobby",)
    with pytest.raises(NotConnected, match=state):
        getattr(rig.core, call)(*arguments, now=rig.now)


@pytest.mark.parametrize("state", ["DISCONNECTED", "ABORTED"])
def test_nothing_to_retry(state: str):
    """S16, S8: retry_now needs something under way."""
    rig = rig_in(state)
    with pytest.raises(InvalidState, match=state):
        rig.core.retry_now(now=rig.now)


# --- a welcome that does not fit


@pytest.mark.parametrize(
    "changes",
    [
        {"session_id": b"short"},
        {"attach": 0},
        {"login_epoch": -1},
        {"limits": limits(heartbeat_interval=0.0)},
        {"limits": limits(heartbeat_interval=float("nan"))},
        {"limits": limits(heartbeat_interval=10.0)},
        {"limits": limits(silence_timeout=float("inf"))},
        {"limits": limits(presence_grace=-1.0)},
        {"limits": limits(heartbeat_interval=1e-300, silence_timeout=2e-300)},
        {"limits": limits(heartbeat_interval=0.009)},
        {"limits": limits(silence_timeout=1e308)},
        {"limits": limits(max_frame_bytes=1 << 25)},
        {"limits": limits(max_name_length=0)},
        {"limits": limits(max_channels=0)},
        {"limits": limits(requests_per_second=0)},
        {"limits": limits(request_burst=0)},
        {"limits": limits(max_unanswered=-1)},
        {"limits": limits(max_frame_bytes=16 * 1024 - 1)},
        {"limits": limits(max_message_bytes=70 * 1024)},
        {"limits": limits(max_request_bytes=200 * 1024)},
    ],
    ids=str,
)
def test_impossible_welcome(changes: dict[str, Any]):
    """S15, F-42: figures that cannot be followed are a protocol error: closed with 1002, tried again with back-off."""
    rig = Rig()
    rig.login()
    rig.open()
    rig.say(rig.welcome(**changes))
    assert rig.state is ConnectionState.CONNECTING
    assert rig.server.closed_with == 1002
    rig.advance(0.5)
    assert len(rig.opened) == 2


def test_follows_the_welcome():
    """S15, S45: names, bodies, channels and the heartbeat follow the server's figures."""
    rig = Rig(answer_heartbeats=True)
    rig.connect(limits=limits(max_name_length=3, max_message_bytes=5, max_channels=1, heartbeat_interval=1.0))
    with pytest.raises(InvalidArgument, match="3"):
        rig.core.join("four", now=rig.now)
    rig.join("abc")
    with pytest.raises(InvalidArgument, match="1 channels"):
        rig.core.join("b", now=rig.now)
    with pytest.raises(InvalidArgument, match="5"):
        rig.core.publish("abc", "123456", now=rig.now)
    rig.advance(1.0)
    assert rig.server.heartbeats == [1.0]


def test_errors_of_the_library_have_one_root():
    """S6: one root."""
    assert issubclass(LoginTimeout, RtmError)


def test_session_of_another_login_is_not_quoted():
    """S59: a login call begins without a session."""
    rig = Rig()
    rig.connect(session_id=OTHER_SESSION)
    rig.say(Kicked(Code.KICKED, ""))
    rig.call("logout")
    rig.login()
    rig.open()
    assert rig.server.of_type(Login)[0].session_id is None
