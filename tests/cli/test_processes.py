"""``rtm`` as processes that talk to each other: the three commands of the help text, signals, kicks
(F-69).
"""

from __future__ import annotations

import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trustme

from cli.processes import Rtm

pytestmark = pytest.mark.slow

SECRET = "a-secret-that-is-long-enough-0123456789"


def serving(*arguments: str, environment: dict[str, str] | None = None) -> tuple[Rtm, str]:
    server = Rtm("serve", "--port", "0", *arguments, environment=environment)
    found = re.search(r"wss?://\S+", server.wait_for("serving on"))
    assert found
    return server, found[0]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    server, url = serving("--dev")
    with server:
        yield url
        server.interrupt()
        assert server.end() == (0, "")


def test_listen_prints_what_send_sends(url: str) -> None:
    with Rtm("listen", "--url", url, "--uid", "bob", "lobby") as listener:
        listener.wait_for("CONNECTED  login success")
        listener.wait_for("lobby  joined, nobody else is here")
        with Rtm("send", "--url", url, "--uid", "alice", "lobby", "hello [bold]there") as sender:
            assert re.search(r"hello \[bold\]there  offset \d+", sender.wait_for("✔"))
            assert sender.end() == (0, "")
        listener.wait_for("→ alice joined")
        listener.wait_for("alice: hello [bold]there")
        listener.wait_for("← alice left")
        started = time.monotonic()
        listener.interrupt()
        assert listener.end() == (130, "")
        assert time.monotonic() - started < 5


def test_send_takes_lines_from_stdin(url: str) -> None:
    environment = {"RTM_URL": url, "RTM_UID": "dora"}
    with Rtm("send", "many", "-", environment=environment, stdin=True) as sender:
        sender.tell("one")
        sender.wait_for("✔ one")
        sender.tell("two")
        sender.wait_for("✔ two")
        assert sender.end() == (0, "")
    with Rtm("send", "many", environment=environment, stdin=True) as sender:
        sender.tell("three")
        sender.wait_for("✔ three")
        sender.interrupt()
        assert sender.process.wait(10) == 130


def test_a_line_that_cannot_be_sent_is_named(url: str) -> None:
    environment = {"RTM_URL": url, "RTM_UID": "gina"}
    with Rtm("send", "many", environment=environment, stdin=True) as sender:
        sender.tell("one")
        sender.tell("")
        sender.tell("x" * 100_000)
        sender.wait_for("✔ one")
        errors = "rtm: line 3 of the standard input: the message has 100000 bytes; the limit is 32768\n"
        assert sender.end() == (2, errors)
    with Rtm("send", "many", environment=environment, stdin=True) as sender:
        sender.tell("one")
        assert sender.process.stdin is not None
        sender.process.stdin.buffer.write(b"caf\xe9\n")
        sender.wait_for("✔ one")
        assert sender.end() == (2, "rtm: line 2 of the standard input is not text in UTF-8\n")


def test_more_channels_than_the_server_allows(url: str) -> None:
    with Rtm("listen", "--url", url, "--uid", "hugo", *map(str, range(21)), "20") as listener:
        assert listener.end() == (2, "rtm: 21 channels are too many: this server allows 20 at a time\n")


def test_a_sender_whose_session_ends_says_why(url: str) -> None:
    with Rtm("send", "many", environment={"RTM_URL": url, "RTM_UID": "iris"}, stdin=True) as sender:
        sender.tell("one")
        sender.wait_for("✔ one")
        with Rtm("send", "--url", url, "--uid", "iris", "many", "two") as second:
            assert second.end() == (0, "")
        sender.tell("three")
        why = "iris has logged in elsewhere, which ends it here"
        assert sender.end() == (2, f"rtm: {why}; line 2 of the standard input was not sent\n")


def test_listen_to_several_channels_ends_at_a_term_signal(url: str) -> None:
    with Rtm("listen", "--url", url, "--uid", "eve", "one", "two", "one") as listener:
        listener.wait_for("one  joined")
        listener.wait_for("two  joined")
        listener.interrupt(signal.SIGTERM)
        assert listener.end() == (143, "")
        assert sum("joined" in line for line in listener.seen) == 2, "named twice, joined once"


def test_the_same_uid_elsewhere_ends_the_first(url: str) -> None:
    with Rtm("listen", "--url", url, "--uid", "frank", "lobby") as first:
        first.wait_for("joined")
        with Rtm("listen", "--url", url, "--uid", "frank", "lobby") as second:
            first.wait_for("ABORTED  remote login")
            status, errors = first.end()
            assert status == 2
            assert errors == "rtm: frank has logged in elsewhere, which ends it here\n"
            second.wait_for("joined")
            second.interrupt()
            assert second.end() == (130, "")


def test_a_misused_name_is_one_line(url: str) -> None:
    with Rtm("send", "--url", url, "--uid", "x" * 100, "lobby", "hello") as sender:
        status, errors = sender.end()
    assert status == 2
    assert errors.count("\n") == 1
    assert "64" in errors


def test_tokens_from_the_key_to_the_login(tmp_path: Path) -> None:
    key = tmp_path / "key"
    key.write_text(SECRET + "\n")
    with Rtm("token", "--key", str(key), "--uid", "alice", "--lifetime", "60") as issuer:
        token = issuer.wait_for(".")
        assert issuer.end() == (0, "")
    server, url = serving("--jwt-key", str(key))
    with server:
        with Rtm("send", "--url", url, "--uid", "alice", "lobby", "hi", environment={"RTM_TOKEN": token}) as sender:
            sender.wait_for("✔ hi")
            assert sender.end() == (0, "")
        for uid, given in (("bob", token), ("alice", "nonsense"), ("alice", "")):
            with Rtm("listen", "--url", url, "--uid", uid, "--token", given, "lobby") as listener:
                status, errors = listener.end()
            assert status == 2
            assert errors.startswith("rtm: ")
            assert errors.count("\n") == 1
            assert "token" in errors
            assert ("no token was given" in errors) is (given == "")
            assert token not in errors
        server.interrupt(signal.SIGTERM)
        status, errors = server.end()
        assert status == 0
        assert token not in errors


def test_tls_and_a_config_file(tmp_path: Path) -> None:
    authority = trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    certificate.cert_chain_pems[0].write_to_path(tmp_path / "cert.pem")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    file = tmp_path / "rtm.toml"
    file.write_text('dev = true\ntls_cert = "cert.pem"\ntls_key = "key.pem"\nmax_message_bytes = 10\n')
    server, url = serving("--config", str(file))
    with server:
        assert url.startswith("wss://")
        trusted = {"SSL_CERT_FILE": str(tmp_path / "ca.pem")}
        with Rtm("send", "--url", url, "--uid", "alice", "lobby", "hi", environment=trusted) as sender:
            sender.wait_for("✔ hi")
            assert sender.end() == (0, "")
        with Rtm("send", "--url", url, "--uid", "alice", "lobby", "far too long", environment=trusted) as sender:
            status, errors = sender.end()
            assert (status, errors.count("\n")) == (2, 1)
            assert "10" in errors
        with Rtm("send", "--url", url, "--uid", "alice", "lobby", "hi") as sender:
            status, errors = sender.end()
            assert (status, errors.count("\n")) == (2, 1)
            assert "certificate is not trusted" in errors
            assert "--ca FILE" in errors
            assert "ssl=" not in errors
        ca_file = str(tmp_path / "ca.pem")
        with Rtm("send", "--url", url, "--uid", "alice", "--ca", ca_file, "lobby", "hi") as sender:
            sender.wait_for("✔ hi")
            assert sender.end() == (0, "")
        server.interrupt()
        assert server.end() == (0, "")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_server_ends_quickly_while_clients_are_connected(number: signal.Signals) -> None:
    server, url = serving("--dev")
    with server, Rtm("listen", "--url", url, "--uid", "bob", "lobby") as listener:
        listener.wait_for("joined")
        started = time.monotonic()
        server.interrupt(number)
        assert server.end() == (0, "")
        assert time.monotonic() - started < 5
        listener.interrupt()
        assert listener.end() == (130, "")
