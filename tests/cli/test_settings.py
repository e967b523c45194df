"""Where ``rtm serve`` and ``rtm token`` get their settings from, and what the terminal client prints."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from rtm_async.cli import app
from rtm_async.cli.running import CommandFailed, one_line, printable
from rtm_async.cli.serve import Options, make_plan, misspelt_variables
from rtm_async.cli.talk import _describe_end, describe
from rtm_sansio.auth import Identity, JwtAuthenticator, allow_any_uid
from rtm_sansio.config import ChannelSettings, ServerConfig
from rtm_sansio.errors import SessionEnded
from rtm_sansio.events import (
    ChannelLost,
    ChannelMessageReceived,
    ConnectionStateChanged,
    EventsDropped,
    LeaveCause,
    LoginRequested,
    MemberCountChanged,
    MemberJoined,
    MemberLeft,
    MembersResumed,
    MessageReceived,
    MessagesLost,
    ReconnectProblem,
    TokenExpired,
    TokenReceipt,
    TokenWillExpire,
)
from rtm_sansio.states import ConnectionChangeReason, ConnectionState

SECRET = "a-secret-that-is-long-enough-0123456789"


@pytest.fixture(autouse=True)
def no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RTM_JWT_KEY", raising=False)
    monkeypatch.delenv("RTM_JWT_KEY_FILE", raising=False)


def write(path: Path, content: str) -> Path:
    path.write_text(content)
    return path


# --- serve


def test_the_defaults_are_those_of_the_server() -> None:
    plan = make_plan(Options(dev=True), {})
    assert (plan.host, plan.port, plan.tls) == ("127.0.0.1", 8765, None)
    assert plan.authenticate is allow_any_uid
    assert plan.config == ServerConfig()


def test_everything_can_stand_in_the_file(tmp_path: Path) -> None:
    write(tmp_path / "key", SECRET)
    file = write(
        tmp_path / "rtm.toml",
        """
        host = "::1"
        port = 0
        jwt_key_file = "key"
        jwt_algorithms = ["HS256"]
        presence_grace_seconds = 20
        history_entries = 50
        path = "/rtm"
        allowed_origins = ["https://example.org"]
        enforce_token_expiry = true
        """,
    )
    plan = make_plan(Options(config_file=file), {})
    assert (plan.host, plan.port) == ("::1", 0)
    assert isinstance(plan.authenticate, JwtAuthenticator)
    assert plan.config == ServerConfig(
        presence_grace_seconds=20.0,
        history_entries=50,
        path="/rtm",
        allowed_origins=("https://example.org",),
        enforce_token_expiry=True,
    )
    assert isinstance(plan.config.presence_grace_seconds, float)


def test_settings_by_channel_in_the_file(tmp_path: Path) -> None:
    """S33, S38: a table for each pattern, in their order."""
    file = write(
        tmp_path / "rtm.toml",
        """
        dev = true

        [[channel_settings]]
        pattern = "news-*"
        member_events = false

        [[channel_settings]]
        pattern = "log-?"
        history_entries = 5
        history_seconds = 3600
        """,
    )
    assert make_plan(Options(config_file=file), {}).config.channel_settings == (
        ChannelSettings(pattern="news-*", member_events=False),
        ChannelSettings(pattern="log-?", history_entries=5, history_seconds=3600),
    )


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("channel_settings = 7", "channel_settings is 7; it must be an array of tables"),
        ("channel_settings = []", "it must be an array of tables"),
        ('channel_settings = ["news-*"]', "it must be an array of tables"),
        ("[[channel_settings]]\nmember_events = false", "channel_settings, number 1 has no pattern"),
        (
            '[[channel_settings]]\npattern = "a"\n[[channel_settings]]\npattern = "b"\nhistory = 7',
            "channel_settings, number 2: there is no setting 'history'; there are pattern, history_entries",
        ),
        (
            '[[channel_settings]]\npattern = "a"\nhistory_entries = "7"',
            "channel_settings, number 1: history_entries of the channels 'a' is '7'; it must be a whole number",
        ),
        ('[[channel_settings]]\npattern = "a"\nhistory_seconds = 1', "rtm.toml: channel_settings: history_seconds of"),
    ],
)
def test_impossible_settings_by_channel(content: str, text: str, tmp_path: Path) -> None:
    """S15: the error names the file, the key and the table."""
    with pytest.raises(CommandFailed) as caught:
        make_plan(Options(dev=True, config_file=write(tmp_path / "rtm.toml", content)), {})
    assert text in str(caught.value)
    assert str(tmp_path / "rtm.toml") in str(caught.value)


def test_settings_by_channel_are_no_variable() -> None:
    with pytest.raises(CommandFailed, match="RTM_CHANNEL_SETTINGS: settings by channel"):
        make_plan(Options(dev=True), {"RTM_CHANNEL_SETTINGS": "news-*"})


def test_an_option_beats_the_environment_and_that_the_file(tmp_path: Path) -> None:
    file = write(tmp_path / "rtm.toml", 'dev = true\nport = 1\nhost = "::1"\nhistory_entries = 7\nmax_channels = 3')
    environment = {
        "RTM_HISTORY_ENTRIES": "8",
        "RTM_ALLOWED_ORIGINS": "a, b,",
        "RTM_ENFORCE_TOKEN_EXPIRY": "no",
    }
    plan = make_plan(Options(config_file=file, port=2), environment)
    assert (plan.host, plan.port) == ("::1", 2)
    assert (plan.config.history_entries, plan.config.max_channels) == (8, 3)
    assert plan.config.allowed_origins == ("a", "b")


def test_variables_that_look_like_settings_are_pointed_out() -> None:
    environment = {
        "RTM_PRESENCE_GRACE_SECOND": "60",
        "RTM_PRESENCE_GRACE_SECONDS": "60",
        "RTM_PROT": "1",
        "RTM_TOKEN": "secret",
        "RTM_BUILD_DIRECTORY": "/",
        "PATH": "/bin",
    }
    first, second = misspelt_variables(environment)
    assert "RTM_PRESENCE_GRACE_SECOND is not known" in first
    assert "did you mean RTM_PRESENCE_GRACE_SECONDS?" in first
    assert "did you mean RTM_PORT?" in second


@pytest.mark.parametrize(
    "key",
    [
        rsa.generate_private_key(public_exponent=65537, key_size=2048),
        ec.generate_private_key(ec.SECP256R1()),
        ec.generate_private_key(ec.SECP384R1()),
        ed25519.Ed25519PrivateKey.generate(),
    ],
    ids=["RSA", "P-256", "P-384", "Ed25519"],
)
def test_the_algorithm_follows_from_the_key(key: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    write(tmp_path / "private", private.decode())
    write(tmp_path / "public", public.decode())
    plan = make_plan(Options(key_file=tmp_path / "public"), {})
    assert app.run(["token", "--key", str(tmp_path / "private"), "--uid", "alice"]) == 0
    assert plan.authenticate(login(capsys.readouterr().out.strip()))
    assert app.run(["token", "--key", str(tmp_path / "public"), "--uid", "alice"]) == 2


# --- token


def login(token: str) -> LoginRequested:
    return LoginRequested(transport_id=1, uid="alice", token=token, wall_clock=time.time())


@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_token_of_the_same_key_is_accepted(
    end: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    key = tmp_path / "key"
    key.write_bytes((SECRET + end).encode())
    assert app.run(["token", "--key", str(key), "--uid", "alice", "--lifetime", "60"]) == 0
    out, err = capsys.readouterr()
    assert err == ""
    identity = JwtAuthenticator(SECRET, algorithms=["HS256"])(login(out.strip()))
    assert isinstance(identity, Identity)
    assert identity.expires_at == pytest.approx(time.time() + 60, abs=10)
    monkeypatch.setenv("RTM_JWT_KEY", SECRET)
    assert app.run(["token", "--uid", "alice", "--jwt-algorithm", "HS256", "--kid", "k1"]) == 0
    keyed = JwtAuthenticator({"k1": SECRET}, algorithms=["HS256"])
    assert keyed(login(capsys.readouterr().out.strip()))


# --- listen


def plain(event: Any) -> str:
    return "".join(part if isinstance(part, str) else part[0] for part in describe(event))


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (
            ConnectionStateChanged(
                state=ConnectionState.ABORTED,
                reason=ConnectionChangeReason.REMOTE_LOGIN,
                previous=ConnectionState.CONNECTED,
            ),
            "● ABORTED  remote login",
        ),
        (
            ConnectionStateChanged(
                state=ConnectionState.RECONNECTING,
                reason=ConnectionChangeReason.INTERRUPTED,
                previous=ConnectionState.CONNECTED,
                message="the link is\nsilent",
            ),
            "● RECONNECTING  interrupted: the link is\\nsilent",
        ),
        (
            ChannelMessageReceived(channel="lobby", uid="alice", message="hello", offset=1, sent_at=0),
            "lobby  alice: hello",
        ),
        (
            ChannelMessageReceived(channel="lobby", uid="alice", message=b"\x00", offset=1, sent_at=0),
            "lobby  alice: b'\\x00'",
        ),
        (
            ChannelMessageReceived(channel="lobby", uid="alice", message="\x1b[2J[red]boo", offset=1, sent_at=0),
            "lobby  alice: \\x1b[2J[red]boo",
        ),
        (
            MessageReceived(uid="alice", message="hi\n", description="", offset=1, sent_at=0, kept=False),
            "to you  alice: hi\\n",
        ),
        (
            MessageReceived(uid="alice", message=b"\x00", description="a\x1b", offset=1, sent_at=0, kept=True),
            "to you  alice: [a\\x1b] b'\\x00'  (kept)",
        ),
        (MessagesLost(channel="", count=3), "to you  ✘ 3 messages are lost"),
        (MemberJoined(channel="lobby", uid="carol", offset=1), "lobby  → carol joined"),
        (MemberLeft(channel="lobby", uid="carol", cause=LeaveCause.LEFT, offset=1), "lobby  ← carol left"),
        (
            MemberLeft(channel="lobby", uid="carol", cause=LeaveCause.TIMED_OUT, offset=1),
            "lobby  ← carol left (timed out)",
        ),
        (MemberCountChanged(channel="lobby", member_count=600), "lobby  600 members"),
        (MembersResumed(channel="lobby", offset=1), "lobby  joins and leaves are told again"),
        (MessagesLost(channel="lobby", count=3), "lobby  ✘ 3 messages are lost"),
        (
            MessagesLost(channel="lobby", count=None),
            "lobby  ! the server restarted; messages from before may be missing",
        ),
        (
            ChannelLost(channel="lobby", code="too_many_channels", message="no more"),
            "lobby  ✘ the channel is lost: no more (too_many_channels)",
        ),
        (EventsDropped(home="lobby", count=5), "✘ 5 events were dropped"),
        (TokenWillExpire(expires_in=29.7), "! the token expires in 30 s"),
        (TokenExpired(), "! the token has expired: start again with a new one"),
        (ReconnectProblem(code="tls_failed", message="no"), "! reconnecting: no (tls_failed)"),
    ],
)
def test_each_event_is_one_line(event: Any, text: str) -> None:
    assert plain(event) == text


def test_an_event_of_a_later_version_is_shown_as_it_is() -> None:
    assert "TokenReceipt" in plain(TokenReceipt(expires_in=1))


def test_texts_of_others_cannot_play_with_the_terminal() -> None:
    assert printable("héllo 👋\t\x1b]0;x\x07\u202e") == "héllo 👋\\t\\x1b]0;x\\x07\\u202e"
    assert one_line(" a\n  b ") == "a b"


def test_the_end_of_a_session_is_told_without_advice_for_programmers() -> None:
    assert _describe_end(SessionEnded("…; call logout(), then login()", code="kicked"), "bob") == (
        "the server has ended the session (kicked)"
    )
    assert "bob has logged in elsewhere" in _describe_end(SessionEnded("…", code="remote_login"), "bob")
