"""The threaded driver alone, with a fake core, over real sockets."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
import ssl
import threading
import time
from typing import Any

import pytest

from rtm_sansio.effects import CloseTransport, Transmit
from rtm_sansio.errors import InvalidState
from rtm_sync import _connect, _driver, _listening, _sockets
from sync.fakes import (
    PATIENCE_SECONDS,
    FakeAcceptingCore,
    FakeCore,
    accept,
    in_thread,
    listening,
    receive_all,
    receive_exactly,
    reset,
    resolving,
    running,
    unresponsive,
    unused_port,
    url_of,
)

# --- opening


def test_it_opens_a_transport_and_carries_bytes_both_ways() -> None:
    with listening() as listener, running(FakeCore()) as run:
        run.open(url_of(listener))
        with accept(listener) as peer:
            assert run.core.expect("opened") == ("opened", 1)
            run.transmit(b"hello")
            assert receive_exactly(peer, 5) == b"hello"
            peer.sendall(b"good day")
            assert run.core.expect_data(1, 8) == b"good day"


def test_no_delay_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    with listening() as listener, running(FakeCore()) as run:
        run.open(url_of(listener))
        run.core.expect("opened")
        transports = run.driver._sockets._transports
        sock = run.driver.call(lambda now: transports[1].sock)
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_a_refused_connection_is_reported_once() -> None:
    """F-13."""
    with running(FakeCore()) as run:
        run.open(f"ws://127.0.0.1:{unused_port()}/")
        _, transport_id, cause = run.core.expect_end()
        assert (transport_id, cause.code) == (1, "connection_refused")
        assert isinstance(cause.__cause__, ConnectionRefusedError)
        run.put()
        assert run.core.inputs.empty()


def test_a_name_that_is_not_found() -> None:
    """F-14."""

    def resolver(host: str, port: int) -> Any:
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    with running(FakeCore(), resolver=resolver) as run:
        run.open("ws://nowhere.invalid/")
        assert run.core.expect_end()[2].code == "name_not_found"


def test_a_name_without_addresses() -> None:
    with running(FakeCore(), resolver=resolving()) as run:
        run.open("ws://nowhere.invalid/")
        assert run.core.expect_end()[2].code == "name_not_found"


def test_each_attempt_resolves_anew() -> None:
    """F-15, F-16."""
    with listening() as listener:
        good = listener.getsockname()
        answers = [OSError("broken"), [(socket.AF_INET, socket.SOCK_STREAM, 0, "", good)]]

        def resolver(host: str, port: int) -> Any:
            answer = answers.pop(0)
            if isinstance(answer, OSError):
                raise answer
            return answer

        with running(FakeCore(), resolver=resolver) as run:
            run.open("ws://name.test/", 1)
            assert run.core.expect_end()[0] == "failed"
            run.open("ws://name.test/", 2)
            assert run.core.expect("opened") == ("opened", 2)


def test_a_dead_first_address_does_not_stop_the_second() -> None:
    """F-12, F-13."""
    with listening() as listener:
        dead = ("127.0.0.1", unused_port())
        with running(FakeCore(), resolver=resolving(dead, listener.getsockname())) as run:
            run.open("ws://name.test/")
            run.core.expect("opened")


def test_an_address_that_never_answers_delays_the_second_by_the_stagger_only() -> None:
    """F-12."""
    with (
        unresponsive() as port,
        listening() as listener,
        running(FakeCore(), resolver=resolving(("127.0.0.1", port), listener.getsockname())) as run,
    ):
        begin = time.monotonic()
        run.open("ws://name.test/")
        run.core.expect("opened")
        assert 0.2 < time.monotonic() - begin < 3.0


def test_of_several_failures_refused_says_most(monkeypatch: pytest.MonkeyPatch) -> None:
    addresses = resolving(("203.0.113.1", 1), ("127.0.0.1", unused_port()))

    def connect_ex(self: socket.socket, address: Any) -> int:
        return errno.ENETUNREACH if address[0].startswith("203.") else real(self, address)

    class Socket(socket.socket):
        pass

    real = socket.socket.connect_ex
    monkeypatch.setattr(Socket, "connect_ex", connect_ex, raising=False)
    monkeypatch.setattr(_connect.socket, "socket", Socket)
    with running(FakeCore(), resolver=addresses) as run:
        run.open("ws://name.test/")
        cause = run.core.expect_end()[2]
        assert cause.code == "connection_refused"
        assert "unreachable" in cause.__cause__.__notes__[0]


def test_families_are_interleaved() -> None:
    def address(family: int, number: int) -> tuple[Any, ...]:
        return (family, socket.SOCK_STREAM, 0, "", (str(number), number))

    six, four = socket.AF_INET6, socket.AF_INET
    found = [address(six, 1), address(six, 2), address(six, 3), address(four, 4), address(four, 5)]
    assert [one[4][1] for one in _connect.interleave(found)] == [1, 4, 2, 5, 3]


def test_a_close_cancels_a_name_look_up() -> None:
    """F-75: the late result is thrown away."""
    looking, go_on = threading.Event(), threading.Event()
    with listening() as listener:

        def resolver(host: str, port: int) -> Any:
            looking.set()
            assert go_on.wait(PATIENCE_SECONDS)
            return resolving(listener.getsockname())(host, port)

        with running(FakeCore(), resolver=resolver) as run:
            run.open("ws://name.test/")
            assert looking.wait(PATIENCE_SECONDS)
            run.close("abort")
            go_on.set()
            run.open(url_of(listener), 2)
            assert run.core.expect("opened") == ("opened", 2)
            assert run.driver.call(lambda now: list(run.driver._opening)) == []


def test_a_close_cancels_a_connect() -> None:
    with unresponsive() as port, running(FakeCore()) as run:
        run.open(f"ws://127.0.0.1:{port}/")
        helper = next(thread for thread in threading.enumerate() if "connect-1" in thread.name)
        run.close("abort")
        helper.join(PATIENCE_SECONDS)
        assert not helper.is_alive()
        run.put()
        assert run.core.inputs.empty()


def test_stop_cancels_a_connect() -> None:
    with unresponsive() as port:
        with running(FakeCore()) as run:
            run.open(f"ws://127.0.0.1:{port}/")
            helper = next(thread for thread in threading.enumerate() if "connect-1" in thread.name)
        helper.join(PATIENCE_SECONDS)
        assert not helper.is_alive()


def test_too_many_look_ups_at_a_time_fail_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_driver, "MAX_OPENING", 1)
    go_on = threading.Event()

    def resolver(host: str, port: int) -> Any:
        go_on.wait(PATIENCE_SECONDS)
        raise OSError("never")

    with running(FakeCore(), resolver=resolver) as run:
        run.open("ws://name.test/", 1)
        run.open("ws://name.test/", 2)
        kind, transport_id, cause = run.core.expect_end()
        assert (kind, transport_id, cause.code) == ("failed", 2, "connect_timeout")
        go_on.set()
        assert run.core.expect_end()[1] == 1


def test_without_a_thread_the_transport_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """F-81: as at interpreter exit."""

    def start_daemon(target: Any, name: str) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(_driver, "start_daemon", start_daemon)
    with running(FakeCore()) as run:
        run.open("ws://127.0.0.1:9/")
        assert run.core.expect_end()[0] == "failed"


# --- ends


def test_the_end_of_the_stream() -> None:
    """F-05."""
    with listening() as listener, running(FakeCore()) as run:
        run.open(url_of(listener))
        with accept(listener) as peer:
            peer.sendall(b"last words")
        run.core.expect_data(1, 10)
        assert run.core.expect_end() == ("lost", 1, None)


def test_a_reset() -> None:
    """F-06."""
    with listening() as listener, running(FakeCore()) as run:
        run.open(url_of(listener))
        peer = accept(listener)
        run.core.expect("opened")
        reset(peer)
        kind, _, cause = run.core.expect_end()
        assert kind == "lost"
        assert cause.code == "connection_lost"
        assert isinstance(cause.__cause__, ConnectionResetError)


def test_after_a_loss_outputs_for_the_id_are_dropped() -> None:
    with listening() as listener, running(FakeCore()) as run:
        run.open(url_of(listener))
        accept(listener).close()
        run.core.expect_end()
        run.transmit(b"too late")
        run.pause()
        run.close("abort")
        run.put()
        assert run.core.inputs.empty()


def test_what_the_peer_said_last_is_heard_although_writing_fails() -> None:
    with listening() as listener, running(FakeCore()) as run:
        run.open(url_of(listener))
        peer = accept(listener)
        run.core.expect("opened")

        def wait(now: float) -> None:
            """The I/O thread does not look while the peer speaks and goes."""
            peer.sendall(b"kicked")
            peer.close()

        run.driver.call(wait)
        run.transmit(b"x" * 100)
        run.transmit(b"y" * 100)
        assert run.core.expect_data(1, 6) == b"kicked"


def test_a_flush_close_writes_everything_first() -> None:
    with listening() as listener, running(FakeCore()) as run:
        run.open(url_of(listener))
        with accept(listener) as peer:
            run.core.expect("opened")
            blob = os.urandom(3_000_000)
            run.transmit(blob)
            run.close("flush")
            assert receive_all(peer) == blob
        run.put()
        assert not [one for one in iter_inputs(run.core) if one[0] == "lost"]


def test_a_flush_close_does_not_reset_over_unread_bytes() -> None:
    """The peer still sends while we close: it must get our last words all the same."""
    with listening() as listener, running(FakeCore()) as run:
        run.open(url_of(listener))
        with accept(listener) as peer:
            run.core.expect("opened")
            run.pause()
            peer.sendall(b"x" * 100_000)
            run.put()
            run.transmit(b"goodbye")
            run.close("flush")
            assert receive_all(peer) == b"goodbye"
            peer.sendall(b"x" * 100_000)
        assert "data" not in [one[0] for one in iter_inputs(run.core)]


def test_a_flush_close_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_sockets, "CLOSE_SECONDS", 0.2)
    with listening() as listener, running(FakeCore()) as run:
        run.open(url_of(listener))
        with accept(listener) as peer:
            run.core.expect("opened")
            run.transmit(b"x" * 30_000_000)  # more than the buffers of both sides take
            run.close("flush")
            run.driver.stop(within=10.0)  # which waits for what is being closed
            assert run.driver.join(PATIENCE_SECONDS)
            received = 0
            with contextlib.suppress(ConnectionResetError):
                while piece := peer.recv(65536):
                    received += len(piece)
            assert received < 30_000_000


def test_an_abort_is_immediate() -> None:
    with listening() as listener, running(FakeCore()) as run:
        run.open(url_of(listener))
        with accept(listener) as peer:
            run.core.expect("opened")
            run.transmit(b"x" * 30_000_000)
            run.close("abort")
            received = 0
            with contextlib.suppress(ConnectionResetError):
                while piece := peer.recv(65536):
                    received += len(piece)
            assert received < 30_000_000


def test_stop_aborts_what_is_open() -> None:
    with listening() as listener:
        with running(FakeCore()) as run:
            run.open(url_of(listener))
            peer = accept(listener)
            run.core.expect("opened")
        with peer:
            assert receive_all(peer) == b""


def test_stop_gives_a_flush_close_its_time() -> None:
    with listening() as listener:
        with running(FakeCore()) as run:
            run.open(url_of(listener))
            peer = accept(listener)
            run.core.expect("opened")
            run.transmit(b"goodbye")
            run.close("flush")
            read = in_thread(lambda: (receive_all(peer), peer.close()))
        assert read()[0] == b"goodbye"


# --- accepting, writing, reading


def test_partial_writes_keep_every_byte_in_order_and_are_reported() -> None:
    """F-07, F-58."""
    core = FakeAcceptingCore()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        with running(core, listeners=[listener]) as run, socket.socket() as peer:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            peer.settimeout(PATIENCE_SECONDS)
            run.driver.start()
            peer.connect(listener.getsockname())
            assert core.expect("accepted")[1] == 1
            blob = os.urandom(1_000_000)
            run.put(*transmits([blob[i : i + 1000] for i in range(0, len(blob), 1000)]))
            assert core.expect("unsent")[2] > 900_000
            assert receive_exactly(peer, len(blob)) == blob
            while core.expect("unsent")[2]:
                pass
    marks = core.unsent_reports
    assert marks[-1] == 0
    assert marks == sorted(marks, reverse=True)
    # One report for each halving down to 64 KiB, one below it, one at zero.
    assert 6 <= len(marks) <= 8


def transmits(pieces: list[bytes], transport_id: int = 1) -> list[Any]:
    return [Transmit(transport_id=transport_id, data=piece) for piece in pieces]


def test_unsent_is_reported_before_a_timeout() -> None:
    with listening() as listener, running(FakeCore()) as run:
        run.open(url_of(listener))
        with accept(listener) as peer:
            run.core.expect("opened")
            run.transmit(b"x" * 30_000_000)
            run.core.expect("unsent")
            assert peer.recv(100)
            run.driver.call(lambda now: setattr(run.core, "deadline", now))
            kinds = []
            while not kinds or kinds[-1] != "timeout":
                kinds.append(run.core.inputs.get(timeout=PATIENCE_SECONDS)[0])
            assert "unsent" in kinds


def test_what_is_readable_is_read_before_a_timeout() -> None:
    """S13, F-24."""
    with listening() as listener, running(FakeCore()) as run:
        run.open(url_of(listener))
        with accept(listener) as peer:
            run.core.expect("opened")

            def busy(now: float) -> None:
                peer.sendall(b"x" * 200_000)
                run.core.deadline = now - 5.0

            # The core itself notes what it had when its time came: later it gets the rest in any case.
            read_before: list[int] = []
            handle_timeout = run.core.handle_timeout

            def note(*, now: float) -> None:
                read_before.append(len(run.core.data.get(1, b"")))
                handle_timeout(now=now)

            run.core.handle_timeout = note  # type: ignore[method-assign]
            run.driver.call(busy)
            kinds = []
            while not kinds or kinds[-1] != "timeout":
                kinds.append(run.core.inputs.get(timeout=PATIENCE_SECONDS)[0])
            assert kinds.count("data") >= 3, "in reads of 64 KiB"
            assert read_before == [200_000]


@pytest.mark.parametrize(("took", "rounds"), [(0.03, 2), (0.06, 1)])
def test_a_flood_delays_neither_a_timeout_nor_a_write(took: float, rounds: int) -> None:
    """F-64, S51: the catching up takes 50 ms at most, and answers go out in the middle of it."""
    time_now = [100.0]
    core = FakeCore()
    with listening() as listener, running(core, clock=lambda: time_now[0]) as run:
        run.open(url_of(listener))
        with accept(listener) as peer:
            core.expect("opened")
            heard: list[bytes] = []

            def on_data(transport_id: int, data: bytes) -> None:
                time_now[0] += took
                if core.data:
                    heard.append(peer.recv(100))
                core.outputs.append(Transmit(transport_id=1, data=b"answer"))

            def busy(now: float) -> None:
                peer.sendall(b"x" * 200_000)
                core.on_data = on_data
                core.deadline = now

            run.driver.call(busy)
            kinds: list[str] = []
            while not kinds or kinds[-1] != "timeout":
                kinds.append(core.inputs.get(timeout=PATIENCE_SECONDS)[0])
            assert kinds == ["data"] * rounds + ["timeout"]
            core.expect_data(1, 200_000)
            assert set(heard) == {b"answer"}


def test_the_timer_fires_and_wakes_the_thread() -> None:
    with running(FakeCore()) as run:
        set_at = run.driver.call(lambda now: setattr(run.core, "deadline", now + 0.05) or now)
        assert run.core.expect("timeout")[1] >= set_at + 0.05


def test_reading_pauses_and_goes_on() -> None:
    with listening() as listener, running(FakeCore()) as run:
        run.open(url_of(listener))
        with accept(listener) as peer:
            run.core.expect("opened")
            run.pause()
            peer.sendall(b"later")
            run.put()
            run.put()
            assert run.core.inputs.empty()
            run.resume()
            assert run.core.expect_data(1, 5) == b"later"


def test_a_paused_transport_still_writes() -> None:
    with listening() as listener, running(FakeCore()) as run:
        run.open(url_of(listener))
        with accept(listener) as peer:
            run.core.expect("opened")
            run.pause()
            blob = os.urandom(5_000_000)
            run.transmit(blob)
            assert receive_exactly(peer, len(blob)) == blob


def test_a_flush_comes_at_the_end_of_the_pass_and_the_wall_clock_is_set() -> None:
    core = FakeAcceptingCore()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        with running(core, listeners=[listener], wall_clock=lambda: 1234.0) as run:
            run.driver.call(lambda now: setattr(core, "flush_wanted", True))
            core.expect("flush")
            run.driver.call(lambda now: setattr(core, "deadline", now))
            core.expect("timeout")
            assert (core.flushes, core.wall_clocks) == (1, [1234.0, 1234.0])


def test_a_transport_that_the_core_does_not_want_is_closed() -> None:
    core = FakeAcceptingCore()

    def refuse(*, peer: str, now: float) -> int:
        core.outputs.append(CloseTransport(transport_id=7, how="abort"))
        return 7

    core.transport_accepted = refuse  # type: ignore[method-assign]
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        with running(core, listeners=[listener]) as run:
            run.driver.start()
            with socket.create_connection(listener.getsockname(), timeout=PATIENCE_SECONDS) as peer:
                assert receive_all(peer) == b""


class Exhausted(socket.socket):
    """A listening socket in a process that is out of descriptors for a while."""

    failures = 3

    def accept(self) -> Any:
        if self.failures:
            self.failures -= 1
            raise OSError(errno.EMFILE, "Too many open files")
        return super().accept()


def test_out_of_descriptors_accepting_pauses_and_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """F-66."""
    monkeypatch.setattr(_listening, "PAUSE_SECONDS", 0.05)
    core = FakeAcceptingCore()
    with Exhausted() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.setblocking(False)
        with running(core, listeners=[listener]) as run:
            run.driver.start()
            with socket.create_connection(listener.getsockname(), timeout=PATIENCE_SECONDS) as peer:
                core.expect("accepted")
                peer.sendall(b"hi")
                core.expect_data(1, 2)
    assert len([record for record in caplog.records if "accepting pauses" in record.message]) == 1, "not each time"
    assert Exhausted.failures == 3
    assert listener.failures == 0


def test_it_can_be_stopped_while_accepting_pauses() -> None:
    core = FakeAcceptingCore()
    with Exhausted() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        listener.setblocking(False)
        with running(core, listeners=[listener]) as run:
            run.driver.start()
            with socket.create_connection(listener.getsockname(), timeout=PATIENCE_SECONDS):
                while run.driver.call(lambda now: run.driver._listening.again_at) is None:
                    pass
        assert listener.fileno() == -1


# --- the thread


def test_a_call_returns_or_raises_what_the_function_does() -> None:
    with running(FakeCore()) as run:
        assert run.driver.call(lambda now: now) <= time.monotonic()
        with pytest.raises(ZeroDivisionError):
            run.driver.call(lambda now: 1 / 0)
        assert run.driver.call(lambda now: run.driver.call(lambda now: "inside")) == "inside"


def test_outputs_that_follow_from_outputs_come_behind_them() -> None:
    """Whoever takes an output may call the core; what comes out then waits for what came out before."""
    with running(FakeCore()) as run:
        taken: list[Any] = []

        def take(output: Any) -> None:
            taken.append(output)
            if output == "a":
                # As a call of the frontend from this thread does, and as a report of a socket does.
                run.driver.call(lambda now: run.core.outputs.append("c"))
                run.core.outputs.append("d")
                run.driver.received(1, b"x")
                taken.append("behind a")

        run.driver._on_output = take
        run.driver.call(lambda now: run.core.outputs.extend(["a", "b"]))
        assert taken == ["a", "behind a", "b", "c", "d"]


def test_events_come_in_order() -> None:
    with running(FakeCore()) as run:
        run.put("one", "two")
        run.put("three")
        assert [run.events.get(timeout=PATIENCE_SECONDS) for _ in range(3)] == ["one", "two", "three"]


def test_many_threads_call_at_once() -> None:
    """S54."""
    with running(FakeCore()) as run:
        waits = [in_thread(lambda: [run.driver.call(lambda now: 1) for _ in range(200)]) for _ in range(8)]
        assert sum(sum(wait()) for wait in waits) == 1600


def test_an_ended_driver_refuses() -> None:
    with running(FakeCore()) as run:
        run.driver.start()
    with pytest.raises(InvalidState):
        run.driver.call(lambda now: None)
    run.driver.stop(within=0.0)


def test_a_driver_that_was_never_started_can_be_stopped() -> None:
    ended: list[Any] = []
    with listening() as listener:
        with running(FakeCore(), listeners=[listener], on_ended=ended.append) as run:
            pass
        assert listener.fileno() == -1
    assert ended == [None]
    assert run.driver.ended
    with pytest.raises(InvalidState):
        run.driver.call(lambda now: None)


def test_an_internal_error_ends_everything_loudly(caplog: pytest.LogCaptureFixture) -> None:
    """F-82."""
    core = FakeCore()

    def fail(transport_id: int, data: bytes) -> None:
        entered.set()
        assert go_on.wait(PATIENCE_SECONDS)
        raise RuntimeError("a bug in the core")

    entered, go_on = threading.Event(), threading.Event()
    core.on_data = fail
    ended: list[Any] = []
    with listening() as listener, running(core, on_ended=ended.append) as run:
        run.open(url_of(listener))
        with accept(listener) as peer:
            core.expect("opened")
            peer.sendall(b"x")
            assert entered.wait(PATIENCE_SECONDS)
            waiting = in_thread(lambda: run.driver.call(lambda now: None))
            while not run.driver._work:
                pass
            go_on.set()
            with pytest.raises(InvalidState, match="internal error"):
                waiting()
            assert receive_all(peer) == b""
        assert run.driver.join(PATIENCE_SECONDS)
    assert [str(fault) for fault in ended] == ["a bug in the core"]
    assert [record.levelname for record in caplog.records] == ["CRITICAL"]
    with pytest.raises(InvalidState, match="internal error"):
        run.driver.call(lambda now: None)


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_forked_process_is_refused() -> None:
    """F-78."""
    with listening() as listener, running(FakeCore()) as run:
        run.open(url_of(listener))
        with accept(listener) as peer:
            run.core.expect("opened")
            child = os.fork()
            if child == 0:
                code = 1
                try:
                    run.driver.call(lambda now: None)
                except InvalidState:
                    code = 0
                finally:
                    os._exit(code)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            run.transmit(b"still here")
            assert receive_exactly(peer, 10) == b"still here"


@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_a_close_ends_the_connection_although_a_forked_process_has_a_copy() -> None:
    """F-78."""
    reading, writing = os.pipe()
    with listening() as listener, running(FakeCore()) as run:
        run.open(url_of(listener))
        with accept(listener) as peer:
            run.core.expect("opened")
            child = os.fork()
            if child == 0:
                os.close(writing)
                os.read(reading, 1)
                os._exit(0)
            try:
                run.close("abort")
                assert receive_all(peer) == b""
            finally:
                os.close(writing)
                os.close(reading)
                os.waitpid(child, 0)


def iter_inputs(core: FakeCore) -> list[tuple[Any, ...]]:
    found = []
    while not core.inputs.empty():
        found.append(core.inputs.get())
    return found


def test_a_failed_write_reads_what_the_peer_said_last() -> None:
    with listening() as listener, running(FakeCore()) as run:
        run.open(url_of(listener))
        peer = accept(listener)
        run.core.expect("opened")

        def speak_and_go(now: float) -> None:
            """All of it before the driver looks again; its next step is a write."""
            peer.sendall(b"kicked")
            reset(peer)
            run.core.outputs.append(Transmit(transport_id=1, data=b"too late"))

        run.driver.call(speak_and_go)
        assert run.core.expect("data")[2] == b"kicked"
        assert run.core.expect_end()[:2] == ("lost", 1)


def test_a_failed_write_of_a_paused_transport_is_a_loss() -> None:
    with listening() as listener, running(FakeCore()) as run:
        run.open(url_of(listener))
        peer = accept(listener)
        run.core.expect("opened")
        run.pause()
        reset(peer)
        run.transmit(b"one")
        kind, _, cause = run.core.expect_end()
        assert (kind, cause.code) == ("lost", "connection_lost")


def test_a_flush_close_of_a_broken_transport_is_the_end_of_it() -> None:
    with listening() as listener, running(FakeCore()) as run:
        run.open(url_of(listener))
        peer = accept(listener)
        run.core.expect("opened")
        reset(peer)
        run.put(Transmit(transport_id=1, data=b"too late"), CloseTransport(transport_id=1, how="flush"))
        run.put()
        assert not run.driver.call(lambda now: run.driver._sockets.closing)


def test_without_a_thread_the_call_fails_and_a_later_one_works(monkeypatch: pytest.MonkeyPatch) -> None:
    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with running(FakeCore()) as run:
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", start)
            with pytest.raises(RuntimeError, match="new thread"):
                run.driver.call(lambda now: None)
        assert run.driver.call(lambda now: "fine") == "fine"


def test_an_error_while_ending_is_loud_too(caplog: pytest.LogCaptureFixture) -> None:
    """F-82."""

    def fail(fault: BaseException | None) -> None:
        raise RuntimeError("a bug of the frontend")

    with running(FakeCore(), on_ended=fail) as run:
        run.driver.start()
    assert "a bug of the frontend" in caplog.text
    with pytest.raises(InvalidState, match="internal error"):
        run.driver.call(lambda now: None)


def test_a_server_with_a_broken_tls_context_says_so(caplog: pytest.LogCaptureFixture) -> None:
    core = FakeAcceptingCore()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        client_context = ssl.create_default_context()  # of the wrong kind
        with running(core, listeners=[listener], tls=client_context) as run:
            run.driver.start()
            for _ in range(3):
                with socket.create_connection(listener.getsockname(), timeout=PATIENCE_SECONDS) as peer:
                    assert receive_all(peer) == b""
            assert run.driver.started
    assert caplog.text.count("the TLS context fails") == 1, "not once for each connection"
