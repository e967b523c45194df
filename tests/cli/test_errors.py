"""Whatever is wrong, ``rtm`` says it in one line that tells what to do, and ends with status 2."""

from __future__ import annotations

import errno
import logging
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest

import rtm_async
import rtm_sync
from rtm_async.cli import app, main, talk
from rtm_sansio import JwtAuthenticator, LoginRequested, allow_any_uid
from rtm_sansio.config import ClientConfig

SECRET = "a-secret-that-is-long-enough-0123456789"


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    import os

    for name in list(os.environ):
        if name.startswith("RTM_"):
            monkeypatch.delenv(name)
    handlers = list(logging.root.handlers)
    interrupts = signal.getsignal(signal.SIGINT)
    yield
    signal.signal(signal.SIGINT, interrupts)
    logging.root.handlers[:] = handlers


def error_of(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line."""
    status = app.run(list(arguments))
    out, err = capsys.readouterr()
    assert status == 2, (out, err)
    assert err.startswith("rtm: ")
    assert err.count("\n") == 1, err
    assert "Traceback" not in err
    assert SECRET not in err
    return err


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["serv"], ["'serv'", "did you mean 'serve'"]),
        (["xyzzy"], ["'xyzzy'", "serve", "listen", "send", "token", "demo"]),
        (["--nonsense"], ["'--nonsense'; the options of a command stand behind it; see rtm --help"]),
        (["--verbos"], ["'--verbos'; did you mean --verbose"]),
        (["serve", "--prot", "1"], ["--prot", "--port", "rtm serve --help"]),
        (["serve", "--port", "http"], ["'http'", "--port"]),
        (["serve", "--port", "65536"], ["65536", "65535"]),
        (["serve"], ["--jwt-key", "--dev"]),
        (["serve", "--port", "-1"], ["'-1'", "--port", "from 1 to 65535"]),
        (["serve", "-v"], ["-v", "rtm -v serve"]),
        (["listen", "--verbose", "lobby"], ["rtm -v listen"]),
        (["listen", "lobby"], ["--uid"]),
        (["listen", "--uid", "bob"], ["CHANNEL"]),
        (["send", "--uid", "alice"], ["CHANNEL"]),
        (["token", "--uid", "alice"], ["--key FILE", "RTM_JWT_KEY"]),
        (
            ["token", "--uid", "alice", "--lifetime", "1e300"],
            ["--lifetime is 1e+300", "above 0 and at most 9e+15 seconds"],
        ),
        (["token", "--uid", "alice", "--lifetime", "0"], ["--lifetime is 0", "above 0"]),
        (["token", "--uid", "alice", "--lifetime", "nan"], ["--lifetime is nan", "above 0"]),
        (["demo", "--scale", "0"], ["--scale"]),
        (["demo", "--real-time", "--scale", "5"], ["--real-time", "--scale", "leave out one"]),
        (["listen", "--uid", "bob", "--url", "http://127.0.0.1", "lobby"], ["ws://"]),
        (["listen", "--uid", "bob", "--url", "nonsense", "lobby"], ["ws://"]),
        (["listen", "--uid", "bob", "--url", "ws://bob:pass@127.0.0.1", "lobby"], ["user name", "--token"]),
        (["listen", "--uid", "bob", "lobby", ""], ["the channel ''", "1 to 64 printable ASCII"]),
        (["send", "--uid", "bob", "", "hello"], ["the channel ''", "1 to 64 printable ASCII"]),
        (["send", "--uid", "bob", "büro", "hello"], ["the channel 'büro'", "1 to 64 printable ASCII"]),
        (["send", "--uid", "bob", "lobby", "\udcff"], ["the message is not text in UTF-8"]),
    ],
)
def test_wrong_options(capsys: pytest.CaptureFixture[str], arguments: list[str], parts: list[str]) -> None:
    error = error_of(capsys, *arguments)
    assert all(part in error for part in parts), error


def test_help_is_no_error(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in ([], ["--help"], ["-h"], ["serve", "--help"], ["listen", "-h"]):
        assert app.run(arguments) == 0
        out, err = capsys.readouterr()
        assert "rtm" in out
        assert err == ""


def test_help_tells_the_exit_statuses(capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run(["--help"]) == 0
    out = capsys.readouterr().out
    assert "Exit status: 0" in out
    assert "130: Ctrl-C" in out
    assert app.run(["send", "--help"]) == 0
    assert "empty lines are passed over" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize("uid", ["", "ü", "x" * 65, "a\nb"])
def test_a_token_is_for_a_uid_that_a_server_accepts(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, uid: str
) -> None:
    monkeypatch.setenv("RTM_JWT_KEY", SECRET)
    assert "1 to 64 printable ASCII" in error_of(capsys, "token", "--uid", uid)


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert app.run(["--version"]) == 0
    assert capsys.readouterr().out.strip()


# --- serve


@pytest.mark.parametrize(
    ("content", "part"),
    [
        ("port = ", "not TOML"),
        ("presence_grace_second = 60", "did you mean 'presence_grace_seconds'"),
        ("colour = 'red'", "no setting 'colour'"),
        ("presence_grace_seconds = 'long'", "must be a number"),
        ("presence_grace_seconds = true", "must be a number"),
        ("history_entries = 1.5", "must be a whole number"),
        ("enforce_token_expiry = 1", "must be true or false"),
        ("path = 7", "must be a text"),
        ("allowed_origins = 'https://example.org'", "must be a list of texts"),
        ("allowed_origins = [1]", "must be a list of texts"),
        ("port = true", "must be a whole number"),
        ("port = 70000", "65535"),
        ("host = 1", "must be a text"),
        ("dev = 'yes'", "must be true or false"),
        ("jwt_algorithms = [1]", "must be a list of texts"),
        ("presence_grace_seconds = -1", "above 0"),
        ("presence_grace_seconds = 50", "replay_seconds"),
        ("", "is empty"),
    ],
)
def test_a_bad_file(capsys: pytest.CaptureFixture[str], tmp_path: Path, content: str, part: str) -> None:
    file = tmp_path / "rtm.toml"
    file.write_text(content)
    assert part in error_of(capsys, "serve", "--dev", "--port", "0", "--config", str(file))


def test_a_range_is_blamed_on_where_it_came_from(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "rtm.toml"
    file.write_text("presence_grace_seconds = 50")
    assert f"rtm: {file}: presence_grace_seconds" in error_of(capsys, "serve", "--dev", "--config", str(file))
    monkeypatch.setenv("RTM_REPLAY_SECONDS", "45")
    assert f"rtm: RTM_REPLAY_SECONDS, {file}: " in error_of(capsys, "serve", "--dev", "--config", str(file))
    monkeypatch.setenv("RTM_PRESENCE_GRACE_SECONDS", "-1")
    assert "rtm: RTM_PRESENCE_GRACE_SECONDS: " in error_of(capsys, "serve", "--dev", "--config", str(file))


def test_a_file_that_is_no_text(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    file = tmp_path / "rtm.toml"
    file.write_bytes(b"\xff\xfe\x00")
    assert "not UTF-8" in error_of(capsys, "serve", "--dev", "--config", str(file))


@pytest.mark.parametrize(
    ("name", "value", "part"),
    [
        ("RTM_PORT", "many", "RTM_PORT is 'many'; it must be a whole number from 1 to 65535"),
        ("RTM_PORT", "65536", "RTM_PORT is '65536'"),
        ("RTM_HISTORY_ENTRIES", "0", "RTM_HISTORY_ENTRIES: history_entries is 0"),
        ("RTM_PRESENCE_GRACE_SECONDS", "long", "RTM_PRESENCE_GRACE_SECONDS"),
        ("RTM_HISTORY_ENTRIES", "1.5", "whole number"),
        ("RTM_ENFORCE_TOKEN_EXPIRY", "perhaps", "true or false"),
        ("RTM_PATH", "no-slash", "must begin with '/'"),
    ],
)
def test_a_bad_environment(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, name: str, value: str, part: str
) -> None:
    monkeypatch.setenv(name, value)
    assert part in error_of(capsys, "serve", "--dev")


@pytest.mark.parametrize("command", [["serve"], ["token", "--uid", "alice"]])
def test_a_key_that_cannot_be_used(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, command: list[str]
) -> None:
    missing = tmp_path / "missing"
    assert f"key file {missing}: No such file" in error_of(capsys, *command, "--jwt-key", str(missing))
    assert "Is a directory" in error_of(capsys, *command, "--jwt-key", str(tmp_path))
    key = tmp_path / "key"
    key.write_text("\n")
    assert "is empty" in error_of(capsys, *command, "--jwt-key", str(key))
    key.write_text("short")
    assert "at least 32" in error_of(capsys, *command, "--jwt-key", str(key))
    key.write_bytes(b"x" * 100_000)
    assert "larger than" in error_of(capsys, *command, "--jwt-key", str(key))
    key.write_text("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n")
    assert "RS256" in error_of(capsys, *command, "--jwt-key", str(key))
    key.write_text(SECRET)
    assert "not known" in error_of(capsys, *command, "--jwt-key", str(key), "--jwt-algorithm", "XS1")
    assert "RS256" in error_of(capsys, *command, "--jwt-key", str(key), "--jwt-algorithm", "RS256")
    monkeypatch.setenv("RTM_JWT_KEY", "short")
    assert "at least 32" in error_of(capsys, *command)
    monkeypatch.delenv("RTM_JWT_KEY")


def test_dev_with_a_key_makes_no_sense(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RTM_JWT_KEY", SECRET)
    assert "--dev" in error_of(capsys, "serve", "--dev", "--port", "0")


def test_dev_beyond_loopback_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert "loopback" in error_of(capsys, "serve", "--dev", "--host", "0.0.0.0", "--port", "0")


def test_a_port_in_use(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        error = error_of(capsys, "serve", "--dev", "--port", str(port))
    assert f"port {port} of 127.0.0.1 is in use" in error
    assert "--port" in error


def test_a_host_that_is_not_ours(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RTM_JWT_KEY", SECRET)
    assert "--host" in error_of(capsys, "serve", "--host", "192.0.2.1", "--port", "0")


def test_tls_files_that_cannot_be_used(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    serve = ("serve", "--dev", "--port", "0")
    missing, nonsense = str(tmp_path / "missing.pem"), tmp_path / "nonsense.pem"
    nonsense.write_text("nonsense")
    assert "--tls-cert" in error_of(capsys, *serve, "--tls-key", str(nonsense))
    assert "missing.pem" in error_of(capsys, *serve, "--tls-cert", missing)
    assert "PEM" in error_of(capsys, *serve, "--tls-cert", str(nonsense))
    assert "missing.pem" in error_of(capsys, *serve, "--tls-cert", str(nonsense), "--tls-key", missing)


# --- clients


def test_a_ca_that_cannot_be_used(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    missing, nonsense = tmp_path / "missing.pem", tmp_path / "nonsense.pem"
    nonsense.write_text("nonsense")
    talk_to = ("send", "--uid", "alice", "--url", "wss://127.0.0.1:1")
    assert "No such file" in error_of(capsys, *talk_to, "--ca", str(missing), "lobby", "hello")
    assert "PEM" in error_of(capsys, *talk_to, "--ca", str(nonsense), "lobby", "hello")
    plain = error_of(capsys, "listen", "--uid", "bob", "--ca", str(nonsense), "lobby")
    assert "wss://" in plain


def test_nobody_listens(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(talk, "_CONFIG", ClientConfig().scaled(0.05))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"ws://127.0.0.1:{taken.getsockname()[1]}"
    assert "refused" in error_of(capsys, "send", "--uid", "alice", "--url", url, "lobby", "hello")


def test_the_server_goes_away_before_a_message(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(talk, "_CONFIG", ClientConfig().scaled(0.05))
    server = rtm_sync.Server(authenticate=allow_any_uid)
    server.start()

    def lines() -> Iterator[bytes]:
        server.close()
        yield b"hello\n"

    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=lines(), encoding="utf-8"))
    assert error_of(capsys, "send", "--uid", "alice", "--url", server.url, "lobby") == (
        "rtm: the connection to the server was lost, and did not come back within 0.5 s; "
        "line 1 of the standard input was not sent\n"
    )


def test_a_standard_input_that_cannot_be_read(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken:
        encoding = "utf-8"

        @property
        def buffer(self) -> Iterator[bytes]:
            raise OSError(errno.EIO, "Input/output error")

    with rtm_sync.Server(authenticate=allow_any_uid) as server:
        send = ("send", "--uid", "alice", "--url", server.url, "lobby")
        monkeypatch.setattr(sys, "stdin", None)
        assert "the standard input is closed" in error_of(capsys, *send)
        monkeypatch.setattr(sys, "stdin", Broken())
        assert "cannot read the standard input: Input/output error" in error_of(capsys, *send)


def test_the_longest_token_is_one_that_a_server_accepts(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RTM_JWT_KEY", SECRET)
    assert app.run(["token", "--uid", "alice", "--lifetime", "9e15"]) == 0
    token = capsys.readouterr().out.strip()
    login = LoginRequested(transport_id=1, uid="alice", token=token, wall_clock=time.time())
    assert JwtAuthenticator(SECRET, algorithms=["HS256"])(login).expires_at is not None


def test_missing_packages(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("click", "rich"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, name, None)
            assert main() == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err == f"rtm: the command line needs {name}; run: pip install 'rtm-sansio[server]'\n"


def test_missing_packages_of_a_plain_install() -> None:
    code = (
        "import sys; sys.modules.update(click=None, rich=None, jwt=None); "
        "from rtm_async.cli import main; sys.exit(main())"
    )
    root = str(Path(rtm_async.__file__).parent.parent)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=root)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "pip install 'rtm-sansio[server]'" in done.stderr
