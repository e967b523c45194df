"""What only a process of its own can show: Ctrl-C, the interpreter's exit, fork (F-68, F-69, F-78, F-81)."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals and fork")

ROOT = Path(__file__).parent.parent.parent

PREAMBLE = """
import os, signal, socket, sys, threading, time
signal.signal(signal.SIGINT, signal.default_int_handler)
from rtm_sync import Client, Server, allow_any_uid
from rtm_sansio.errors import InvalidState
from rtm_sansio.states import ConnectionState

def say(text):
    print(text, flush=True)

def say_when(client, condition):
    '''Says "ready" once the main thread waits.'''
    def watch():
        while not client._runtime.driver.call(lambda now: condition()):
            pass
        say("ready")
    threading.Thread(target=watch, daemon=True).start()

def waits(client):
    return lambda: client._runtime._waiting or client._runtime._full

def frozen(server):
    driver = server._hosting.driver
    driver.call(lambda now: [driver._sockets.pause(one, True) for one in list(driver._sockets._transports)])
"""


def start(code: str, *options: str) -> subprocess.Popen[str]:
    """A Python process that runs ``code``, with warnings as errors and nothing buffered."""
    environment = dict(os.environ, PYTHONPATH=str(ROOT), PYTHONFAULTHANDLER="1")
    return subprocess.Popen(
        [sys.executable, "-W", "error", *options, "-c", PREAMBLE + textwrap.dedent(code)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def finish(process: subprocess.Popen[str], *, seconds: float = 30.0) -> list[str]:
    """The lines it printed; it must end in time, with 0, and without a word on stderr."""
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGABRT)
        out, err = process.communicate()
        raise AssertionError(f"it hangs:\n{out}\n{err}") from None
    assert (process.returncode, err) == (0, ""), f"{out}\n{err}"
    return out.splitlines()


BLOCKING = {
    "login": """
        with socket.create_server(("127.0.0.1", 0)) as silent:
            with Client(f"ws://127.0.0.1:{silent.getsockname()[1]}") as client:
                say_when(client, waits(client))
                try:
                    client.login("alice")
                except KeyboardInterrupt:
                    say("interrupted")
                while client._runtime.driver.call(lambda now: client.state) is not ConnectionState.DISCONNECTED:
                    pass
                with Server(authenticate=allow_any_uid) as server, Client(server.url) as other:
                    other.login("alice")
        """,
    "join": """
        with Server(authenticate=allow_any_uid) as server, Client(server.url) as client:
            client.login("alice")
            frozen(server)
            say_when(client, waits(client))
            try:
                client.join("lobby")
            except KeyboardInterrupt:
                say("interrupted")
            client._runtime.driver.call(lambda now: None)
            assert client.state is ConnectionState.CONNECTED
            assert not client._runtime._waiting
            driver = server._hosting.driver
            driver.call(lambda now: [driver._sockets.pause(one, False) for one in list(driver._sockets._transports)])
            assert client.join("lobby").send("x").offset
        """,
    "send": """
        with Server(authenticate=allow_any_uid) as server, Client(server.url) as client:
            client.login("alice")
            lobby = client.join("lobby")
            frozen(server)
            say_when(client, waits(client))
            try:
                lobby.send("x")
            except KeyboardInterrupt:
                say("interrupted")
            driver = server._hosting.driver
            driver.call(lambda now: [driver._sockets.pause(one, False) for one in list(driver._sockets._transports)])
            assert lobby.send("y").offset
        """,
    "iteration": """
        with Server(authenticate=allow_any_uid) as server, Client(server.url) as client, Client(server.url) as other:
            client.login("alice")
            other.login("bob")
            lobby = client.join("lobby")
            say_when(client, lambda: lobby._home.feed)
            try:
                for message in lobby:
                    pass
            except KeyboardInterrupt:
                say("interrupted")
            other.join("lobby").send("after")
            assert next(iter(lobby)).message == "after"
        """,
    "close": """
        with Server(authenticate=allow_any_uid) as server:
            client = Client(server.url)
            client.login("alice")
            frozen(server)
            say_when(client, lambda: client._runtime._closers)
            try:
                client.close()
            except KeyboardInterrupt:
                say("interrupted")
            client.close()
        """,
}


@pytest.mark.parametrize("call", BLOCKING)
def test_ctrl_c_ends_a_blocking_call_and_the_client_stays_usable(call: str) -> None:
    """S54, F-68, F-69."""
    process = start(BLOCKING[call])
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n", process.communicate()
    begin = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert process.stdout.readline() == "interrupted\n", process.communicate()
    assert time.monotonic() - begin < 2.0
    assert finish(process) == []


def test_ctrl_c_at_any_moment_leaves_a_client_that_works() -> None:
    """S54: signals rain on a main thread that sends and iterates; nothing is torn."""
    process = start(
        """
        with Server(authenticate=allow_any_uid) as server, Client(server.url) as client, Client(server.url) as other:
            client.login("alice")
            other.login("bob")
            lobby, of_bob = client.join("lobby", echo=True), other.join("lobby")
            interrupts = 0
            main = threading.main_thread().ident
            rain = threading.Event()
            def raining():
                rain.wait()
                for _ in range(300):
                    signal.pthread_kill(main, signal.SIGINT)
                    time.sleep(0.002)
                rain.clear()
            thread = threading.Thread(target=raining)
            thread.start()
            rain.set()
            while rain.is_set():
                try:
                    while rain.is_set():
                        lobby.send("x", timeout=5)
                        with lobby.events() as events:
                            next(events)
                except KeyboardInterrupt:
                    interrupts += 1
            while True:
                try:
                    thread.join()
                    break
                except KeyboardInterrupt:
                    pass
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            assert interrupts > 10, interrupts
            assert client.state is ConnectionState.CONNECTED
            last = lobby.send("last").offset
            for event in lobby.events():
                if getattr(event, "offset", None) == last:
                    break
            assert of_bob.send("still").offset > last
            say("fine")
        """
    )
    assert finish(process, seconds=50) == ["fine"]


EXITS = {
    "connected": "",
    "iterating in a thread": """
        threading.Thread(target=lambda: list(client.join("lobby")), daemon=True).start()
        while len(client._runtime._homes) < 2: pass
        """,
    "sending without a link": """
        server.close()
        threading.Thread(target=lambda: client.join("lobby"), daemon=True).start()
        while not client._runtime._waiting: pass
        """,
    "a handler that never returns": """
        from rtm_sansio.events import ConnectionStateChanged
        entered = threading.Event()
        client.on(ConnectionStateChanged, lambda event: (entered.set(), threading.Event().wait()))
        client.logout()
        client.login("alice")
        entered.wait()
        """,
    "a token provider that never returns": """
        entered = threading.Event()
        client.logout()
        threading.Thread(
            target=lambda: client.login("alice", lambda: (entered.set(), threading.Event().wait())), daemon=True
        ).start()
        entered.wait()
        """,
    "a frozen server": "frozen(server)",
    "reconnecting": "server.close()",
    "an exception": "client.leftover = 1",
}


@pytest.mark.parametrize("situation", EXITS)
def test_the_interpreter_exits_with_a_live_client(situation: str) -> None:
    """S9, F-81."""
    setup = textwrap.dedent(EXITS[situation])
    code = (
        textwrap.dedent(
            """
            # Not print(): a daemon thread that is in there when the interpreter ends holds stdout, which is fatal.
            sys.unraisablehook = threading.excepthook = lambda hook: os.write(1, f"{hook}\\n".encode())
            server = Server(authenticate=allow_any_uid)
            server.start()
            client = Client(server.url)
            client.login("alice")
            """
        )
        + setup
        + "\nsay('exits')\n"
    )
    process = start(code)
    begin = time.monotonic()
    lines = finish(process)
    assert lines[0] == "exits"
    # A daemon thread of the application may still be told that the client was closed.
    known = ("ClientClosed", "LoginFailed", "RequestAbandoned")
    assert all(any(name in line for name in known) for line in lines[1:])
    assert time.monotonic() - begin < 15.0


def test_an_authenticator_that_never_returns_does_not_hang_the_exit() -> None:
    process = start(
        """
        entered = threading.Event()
        server = Server(authenticate=lambda login: (entered.set(), threading.Event().wait()))
        server.start()
        client = Client(server.url)
        threading.Thread(target=lambda: client.login("alice"), daemon=True).start()
        threading.excepthook = lambda hook: None
        entered.wait()
        say("exits")
        """
    )
    assert finish(process) == ["exits"]


def test_an_import_does_nothing() -> None:
    process = start(
        """
        assert threading.active_count() == 1
        say("fine")
        """
    )
    assert finish(process) == ["fine"]


def test_a_forked_process_leaves_the_parents_client_alone() -> None:
    """F-78."""
    process = start(
        """
        import warnings
        warnings.filterwarnings("ignore", ".*multi-threaded, use of fork", DeprecationWarning)
        with Server(authenticate=allow_any_uid) as server, Client(server.url) as client:
            client.login("alice")
            lobby = client.join("lobby", echo=True)
            messages = iter(lobby)
            lobby.send("before")
            assert next(messages).message == "before"
            child = os.fork()
            if child == 0:
                for call in (
                    lambda: lobby.send("x"), lambda: client.login("bob"), client.logout, client.retry_now,
                    lambda: next(messages), lambda: next(client.events()), lambda: server.kick("alice"),
                    lambda: client.join("other"), lobby.leave,
                ):
                    try:
                        call()
                    except InvalidState as error:
                        assert "fork" in str(error), error
                    else:
                        say("no error")
                client.close()
                server.close()
                say("child")
                sys.exit(0)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            lobby.send("after")
            assert next(messages).message == "after"
            say("parent")
        """
    )
    assert finish(process) == ["child", "parent"]


def test_a_forked_process_can_make_its_own() -> None:
    process = start(
        """
        import warnings
        warnings.filterwarnings("ignore", ".*multi-threaded, use of fork", DeprecationWarning)
        with Server(authenticate=allow_any_uid) as server, Client(server.url) as client:
            client.login("alice")
            child = os.fork()
            if child == 0:
                own = Client(server.url)
                own.login("bob")
                own.join("lobby").send("hello")
                sys.exit(0)  # without a close
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            say("parent")
        """
    )
    assert finish(process) == ["parent"]
