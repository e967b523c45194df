"""The asyncio driver with a core that only takes notes, over real sockets on loopback."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import errno
import itertools
import logging
import socket
import ssl
import struct
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest
import trustme

from rtm_async import _driver
from rtm_async._driver import AcceptingDriver, ConnectingDriver
from rtm_sansio.effects import CloseTransport, OpenTransport, PauseReading, ResumeReading, Transmit
from rtm_sansio.endpoints import parse_endpoint

KIB = 1024


class NotingCore:
    """Takes notes of all that a driver reports, and puts out what a test tells it to."""

    def __init__(self) -> None:
        self.notes: list[tuple[Any, ...]] = []
        self.outputs: list[Any] = []
        self.deadline: float | None = None
        self.flush_wanted = False
        self.on_note: Callable[[tuple[Any, ...]], None] = lambda note: None
        self._changed: list[asyncio.Future[None]] = []
        self._last_id = 0

    def note(self, *note: Any) -> None:
        self.notes.append(note)
        self.on_note(note)
        for future in self._changed:
            if not future.done():
                future.set_result(None)
        self._changed.clear()

    async def until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            future = asyncio.get_running_loop().create_future()
            self._changed.append(future)
            await future

    async def until_noted(self, kind: str, count: int = 1) -> tuple[Any, ...]:
        await self.until(lambda: len(self.of(kind)) >= count)
        return self.of(kind)[count - 1]

    def of(self, kind: str) -> list[tuple[Any, ...]]:
        return [note for note in self.notes if note[0] == kind]

    @property
    def received(self) -> bytes:
        return b"".join(note[2] for note in self.of("data"))

    def next_deadline(self) -> float | None:
        return self.deadline

    def handle_timeout(self, *, now: float) -> None:
        self.deadline = None
        self.note("timeout", now)

    def receive_data(self, transport_id: int, data: bytes, *, now: float) -> None:
        self.note("data", transport_id, data)

    def transport_opened(self, transport_id: int, *, now: float) -> None:
        self.note("opened", transport_id)

    def transport_failed(self, transport_id: int, cause: Any, *, now: float) -> None:
        self.note("failed", transport_id, cause)

    def transport_lost(self, transport_id: int, cause: Any, *, now: float) -> None:
        self.note("lost", transport_id, cause)

    def transport_accepted(self, *, peer: str, now: float) -> int:
        self._last_id += 1
        self.note("accepted", self._last_id, peer)
        return self._last_id

    def unsent(self, transport_id: int, byte_count: int, *, now: float) -> None:
        self.note("unsent", transport_id, byte_count)

    def flush(self, *, now: float) -> None:
        self.flush_wanted = False
        self.note("flush")

    def set_wall_clock(self, unix_seconds: float, *, now: float) -> None:
        self.note("wall", unix_seconds)

    def take_outputs(self) -> list[Any]:
        outputs, self.outputs = self.outputs, []
        return outputs


class Rig:
    """A connecting driver around a noting core."""

    def __init__(self, *, tls: ssl.SSLContext | None = None) -> None:
        self.core = NotingCore()
        self.events: list[Any] = []
        self.driver = ConnectingDriver(
            self.core, loop=asyncio.get_running_loop(), on_output=self.events.append, tls=tls
        )

    def do(self, *outputs: Any) -> None:
        self.core.outputs.extend(outputs)
        self.driver.pump()

    def open(self, url: str, transport_id: int = 1) -> None:
        self.do(OpenTransport(transport_id=transport_id, endpoint=parse_endpoint(url), attempt=0))


@contextlib.asynccontextmanager
async def rigged(*, tls: ssl.SSLContext | None = None) -> AsyncIterator[Rig]:
    rig = Rig(tls=tls)
    try:
        yield rig
    finally:
        await rig.driver.finish(0.01)


@contextlib.contextmanager
def listening() -> Iterator[tuple[socket.socket, str]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        yield listener, f"ws://127.0.0.1:{listener.getsockname()[1]}"


async def accept(listener: socket.socket) -> socket.socket:
    accepted, _ = await asyncio.get_running_loop().sock_accept(listener)
    return accepted


async def read_to_end(peer: socket.socket) -> bytes:
    parts = []
    while part := await asyncio.get_running_loop().sock_recv(peer, 64 * KIB):
        parts.append(part)
    return b"".join(parts)


@contextlib.asynccontextmanager
async def connected(rig: Rig) -> AsyncIterator[socket.socket]:
    """An open transport with id 1; yields the peer's socket."""
    with listening() as (listener, url):
        rig.open(url)
        with await accept(listener) as peer:
            await rig.core.until_noted("opened")
            yield peer


# --- opening


def test_a_transport_opens_carries_bytes_and_ends(run: Any) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        async with rigged() as rig, connected(rig) as peer:
            rig.do(Transmit(transport_id=1, data=b"to "), Transmit(transport_id=1, data=b"peer"))
            assert await loop.sock_recv(peer, 100) in (b"to peer", b"to ")
            await loop.sock_sendall(peer, b"from peer")
            await rig.core.until(lambda: rig.core.received == b"from peer")
            peer.shutdown(socket.SHUT_WR)
            assert await rig.core.until_noted("lost") == ("lost", 1, None)
            assert rig.core.of("opened") == [("opened", 1)]

    run(scenario())


def test_refused(run: Any) -> None:
    """F-13"""

    async def scenario() -> None:
        with listening() as (_, url):
            pass
        async with rigged() as rig:
            rig.open(url)
            _, transport_id, cause = await rig.core.until_noted("failed")
            assert (transport_id, cause.code) == (1, "connection_refused")
            assert isinstance(cause.__cause__, ConnectionRefusedError)

    run(scenario())


def test_a_name_that_is_not_found(run_plain: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """F-14, F-15: asked anew each time."""
    asked = []

    def getaddrinfo(host: str, *arguments: Any, **options: Any) -> Any:
        asked.append(host)
        raise socket.gaierror(socket.EAI_NONAME, "no such name")

    async def scenario() -> None:
        async with rigged() as rig:
            for attempt in (1, 2):
                rig.open("ws://nowhere.invalid", attempt)
                cause = (await rig.core.until_noted("failed", attempt))[2]
                assert cause.code == "name_not_found"

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    run_plain(scenario())
    assert asked == ["nowhere.invalid"] * 4  # as an address, then as a name


def test_an_attempt_is_cancelled(run: Any) -> None:
    """F-75: no answer comes for it, and its socket is closed."""

    async def scenario() -> None:
        with listening() as (listener, url):
            async with rigged() as rig:
                rig.open(url.replace("ws:", "wss:"))  # the TLS handshake is never answered
                with await accept(listener) as peer:
                    assert await asyncio.get_running_loop().sock_recv(peer, 1)  # it has begun
                    rig.do(CloseTransport(transport_id=1, how="abort"))
                    with contextlib.suppress(ConnectionResetError):
                        await read_to_end(peer)
                await rig.driver.finish(1)
                assert rig.core.notes == []

    run(scenario())


def test_an_attempt_is_cancelled_before_it_began(run: Any) -> None:
    async def scenario() -> None:
        with listening() as (_, url):
            async with rigged() as rig:
                rig.open(url)
                rig.do(CloseTransport(transport_id=1, how="abort"))
            assert rig.core.notes == []
            assert rig.driver.idle

    run(scenario())


def test_an_attempt_cancelled_by_a_stranger_is_answered(run: Any) -> None:
    """F-70, F-72: such as the end of asyncio.run()."""

    async def scenario() -> None:
        with listening() as (listener, url):
            async with rigged() as rig:
                rig.open(url.replace("ws:", "wss:"))
                with await accept(listener):
                    for task in asyncio.all_tasks() - {asyncio.current_task()}:
                        task.cancel()
                    assert (await rig.core.until_noted("failed"))[2].code == "unreachable"

    run(scenario())


def test_a_dead_address_costs_a_moment(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """F-12: the addresses are raced (RFC 8305), and the losers are closed."""

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        dead = (socket.AF_INET, ("dead", 0))
        dial = _driver._dial
        cancelled = []

        async def dial_or_hang(a_loop: Any, address: Any) -> socket.socket:
            if address is dead:
                try:
                    await asyncio.Event().wait()
                finally:
                    cancelled.append(address)
            return await dial(a_loop, address)

        monkeypatch.setattr(_driver, "_dial", dial_or_hang)
        with listening() as (listener, _):
            alive = (socket.AF_INET, listener.getsockname())
            with await _driver._race(loop, [dead, alive]) as won, await accept(listener) as peer:
                assert won.getpeername() == peer.getsockname()
        await asyncio.sleep(0)
        assert cancelled == [dead]
        with pytest.raises(ConnectionRefusedError):
            await _driver._race(loop, [alive, alive])

    run(scenario())


# --- the end of a transport


def test_a_reset(run: Any) -> None:
    """F-06"""

    async def scenario() -> None:
        async with rigged() as rig, connected(rig) as peer:
            peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            peer.close()
            _, transport_id, cause = await rig.core.until_noted("lost")
            assert (transport_id, cause.code) == (1, "connection_lost")

    run(scenario())


def test_an_end_is_told_although_bytes_wait(run: Any) -> None:
    """The peer sends its last, and takes nothing any more."""

    async def scenario() -> None:
        async with rigged() as rig, connected(rig) as peer:
            rig.do(Transmit(transport_id=1, data=bytes(8 * 1024 * KIB)))
            await rig.core.until_noted("unsent")
            peer.shutdown(socket.SHUT_WR)
            assert await rig.core.until_noted("lost") == ("lost", 1, None)
            assert len(rig.core.of("lost")) == 1

    run(scenario())


def test_closing_with_flush_delivers_everything_first(run: Any) -> None:
    """And is not undone by what the peer sends meanwhile, which would reset a socket that is simply closed."""

    async def scenario() -> None:
        body = bytes(range(256)) * (8 * KIB)
        async with rigged() as rig, connected(rig) as peer:
            rig.do(Transmit(transport_id=1, data=body), CloseTransport(transport_id=1, how="flush"))
            await asyncio.get_running_loop().sock_sendall(peer, b"late")
            assert await read_to_end(peer) == body
            peer.close()
            await rig.driver.finish(5)
            assert rig.core.of("data") == rig.core.of("lost") == []

    run(scenario())


def test_closing_with_flush_takes_no_longer_than_its_time(run: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def scenario() -> None:
        async with rigged() as rig, connected(rig):
            rig.do(Transmit(transport_id=1, data=bytes(8 * 1024 * KIB)), CloseTransport(transport_id=1, how="flush"))
            started = time.monotonic()
            await rig.driver.finish(20)  # the peer reads nothing
            assert 0.2 <= time.monotonic() - started < 10

    monkeypatch.setattr(_driver, "LINGER_SECONDS", 0.25)
    run(scenario())


def test_closing_at_once(run: Any) -> None:
    async def scenario() -> None:
        async with rigged() as rig, connected(rig) as peer:
            rig.do(Transmit(transport_id=1, data=bytes(8 * 1024 * KIB)), CloseTransport(transport_id=1, how="abort"))
            with contextlib.suppress(ConnectionResetError):
                assert len(await read_to_end(peer)) < 8 * 1024 * KIB
            rig.do(Transmit(transport_id=1, data=b"x"), CloseTransport(transport_id=1, how="flush"))  # no such id
            assert rig.core.of("lost") == []

    run(scenario())


def test_a_paused_transport_is_not_read(run: Any) -> None:
    """S51"""

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        async with rigged() as rig, connected(rig) as peer:
            await loop.sock_sendall(peer, b"1")
            await rig.core.until(lambda: rig.core.received == b"1")
            rig.do(PauseReading(transport_id=1), PauseReading(transport_id=1), PauseReading(transport_id=9))
            await loop.sock_sendall(peer, b"2")
            for _ in range(20):
                await asyncio.sleep(0)
            assert rig.core.received == b"1"
            rig.do(ResumeReading(transport_id=1), ResumeReading(transport_id=1), ResumeReading(transport_id=9))
            await rig.core.until(lambda: rig.core.received == b"12")

    run(scenario())


# --- unsent


def test_unsent_is_reported_at_each_step_up_and_down(run: Any) -> None:
    """S49, F-58: non-zero, 64 KiB and its doublings, zero."""

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        async with rigged() as rig, connected(rig) as peer:
            core = rig.core
            while not core.of("unsent"):
                rig.do(Transmit(transport_id=1, data=bytes(16 * KIB)))
            while core.of("unsent")[-1][2] <= 600 * KIB:
                rig.do(Transmit(transport_id=1, data=bytes(16 * KIB)))
            up = [note[2] for note in core.of("unsent")]
            assert 0 < up[0] <= 16 * KIB
            assert [size // (64 * KIB) for size in up[1:]] == [1, 2, 4, 8, 16]
            core.notes.clear()
            while core.of("unsent")[-1:] != [("unsent", 1, 0)]:
                if not await asyncio.wait_for(loop.sock_recv(peer, 4 * KIB), 10):
                    break
            down = [note[2] for note in core.of("unsent")]
            assert down == sorted(down, reverse=True)
            assert down[-1] == 0
            assert down[0] < 1024 * KIB
            # The socket takes the rest in leaps, so a step may be passed together with the next one.
            assert all(later < size for size, later in itertools.pairwise(down))
            core.notes.clear()
            rig.do(Transmit(transport_id=1, data=bytes(8 * 1024 * KIB)))
            assert core.of("unsent")[0][2] > 0, "the next time begins anew"

    run(scenario())


def test_unsent_is_reported_before_a_tick(run: Any) -> None:
    """S51: so that a stalled peer can be told from a slow one."""

    async def scenario() -> None:
        async with rigged() as rig, connected(rig):
            rig.do(Transmit(transport_id=1, data=bytes(8 * 1024 * KIB)))
            rig.core.notes.clear()
            rig.core.deadline = asyncio.get_running_loop().time() + 0.01
            rig.driver.pump()
            await rig.core.until_noted("timeout")
            assert [note[0] for note in rig.core.notes] == ["unsent", "timeout"]

    run(scenario())


# --- the clock


def test_one_timer_moved_only_when_it_is_needed_earlier(run: Any) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        async with rigged() as rig:
            core = rig.core
            begin = loop.time()
            core.deadline = begin + 0.05
            rig.driver.pump()
            core.deadline = begin + 0.15  # later: the timer stays, and is armed anew when it fires
            rig.driver.pump()
            _, now = await core.until_noted("timeout")
            assert now >= begin + 0.15
            core.deadline = loop.time() + 60
            rig.driver.pump()
            core.deadline = earlier = loop.time() + 0.02
            rig.driver.pump()
            _, now = await core.until_noted("timeout", 2)
            assert earlier <= now < earlier + 30

    run(scenario())


def test_what_is_readable_is_read_before_a_tick(run: Any) -> None:
    """S13, F-24: the loop was blocked while bytes came in and the deadline passed."""

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        async with rigged() as rig, connected(rig) as peer:
            rig.core.deadline = loop.time() + 0.02
            rig.driver.pump()
            peer.setblocking(True)
            peer.sendall(bytes(100 * KIB))
            time.sleep(0.05)  # the loop is what sleeps here
            await rig.core.until_noted("timeout")
            kinds = [note[0] for note in rig.core.notes]
            assert len(rig.core.received) == 100 * KIB
            assert kinds[-1] == "timeout"

    run(scenario())


def test_a_fault_in_a_timer_is_logged_and_the_clock_goes_on(run: Any, caplog: pytest.LogCaptureFixture) -> None:
    """F-82"""

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        async with rigged() as rig:

            def fail_once(note: tuple[Any, ...]) -> None:
                if len(rig.core.of("timeout")) == 1:
                    rig.core.deadline = loop.time()
                    raise ZeroDivisionError

            rig.core.on_note = fail_once
            rig.core.deadline = loop.time()
            rig.driver.pump()
            first = (await rig.core.until_noted("timeout"))[1]
            second = (await rig.core.until_noted("timeout", 2))[1]
            assert second - first >= 0.9, "not in a hot loop"

    run(scenario())
    assert [record.levelname for record in caplog.records if "internal error" in record.message] == ["ERROR"]


# --- outputs


def test_outputs_that_follow_from_outputs_come_behind_them(run: Any) -> None:
    async def scenario() -> None:
        async with rigged() as rig:
            rig.driver._on_output = lambda event: (rig.events.append(event), follow(event))

            def follow(event: str) -> None:
                if event == "a":
                    rig.do("c")

            rig.do("a", "b")
            assert rig.events == ["a", "b", "c"]

    run(scenario())


def test_pump_soon_once_in_a_pass(run: Any) -> None:
    async def scenario() -> None:
        async with rigged() as rig:
            for number in range(3):
                rig.core.outputs.append(number)
                rig.driver.pump_soon()
            assert rig.events == []
            await asyncio.sleep(0)
            assert rig.events == [0, 1, 2]

    run(scenario())


def test_after_stop_nothing_is_told_or_done(run: Any) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        async with rigged() as rig, connected(rig) as peer:
            rig.core.notes.clear()
            rig.core.deadline = loop.time()
            rig.driver.pump()
            rig.driver.stop()
            rig.do("event")
            with contextlib.suppress(ConnectionResetError):
                await read_to_end(peer)
            await rig.driver.finish()
            assert rig.core.notes == []
            assert rig.events == []

    run(scenario())


# --- accepting


@contextlib.asynccontextmanager
async def serving(
    tls: ssl.SSLContext | None = None, core: NotingCore | None = None
) -> AsyncIterator[tuple[NotingCore, AcceptingDriver, Any]]:
    core = core or NotingCore()
    driver = AcceptingDriver(core, loop=asyncio.get_running_loop(), on_output=lambda output: None)
    listener = socket.create_server(("127.0.0.1", 0))
    listener.setblocking(False)
    address = listener.getsockname()
    driver.listen([listener], tls=tls)
    try:
        yield core, driver, address
    finally:
        await driver.stop_listening()
        await driver.finish(0.01)


def test_accepted_transports_are_flushed_once_in_a_pass(run: Any) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        async with serving() as (core, driver, address):
            assert abs(core.notes[0][1] - time.time()) < 10, "the wall clock comes first"
            with contextlib.ExitStack() as stack:
                peers = [stack.enter_context(socket.create_connection(address)) for _ in range(8)]
                await core.until_noted("accepted", 8)
                assert core.of("accepted")[0][2].startswith("127.0.0.1:")

                def want_flush(note: tuple[Any, ...]) -> None:
                    if note[0] == "data":
                        core.flush_wanted = True

                core.on_note = want_flush
                for peer in peers:
                    peer.sendall(b"x")
                await core.until(lambda: len(core.received) == 8)
                await core.until(lambda: not core.flush_wanted)
                kinds = [note[0] for note in core.notes if note[0] in ("data", "flush")]
                assert kinds[-1] == "flush"
                assert kinds.count("flush") <= 2, "whatever is readable at once is flushed together"
                core.deadline = loop.time()
                driver.pump()
                await core.until_noted("timeout")
                assert [note[0] for note in core.notes[-2:]] == ["wall", "timeout"]

    run(scenario())


def test_an_accepted_transport_answers(run: Any) -> None:
    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        async with serving() as (core, _, address):

            def echo(note: tuple[Any, ...]) -> None:
                if note[0] == "data":
                    core.outputs += [
                        Transmit(transport_id=note[1], data=note[2]),
                        CloseTransport(transport_id=note[1], how="flush"),
                    ]

            core.on_note = echo
            with socket.create_connection(address) as peer:
                peer.setblocking(False)
                await loop.sock_sendall(peer, b"hello")
                assert await read_to_end(peer) == b"hello"

    run(scenario())


def test_without_descriptors_accepting_pauses_and_says_so_once(
    run_plain: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """F-66"""

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        real = loop.sock_accept
        faults = [OSError(errno.EMFILE, "Too many open files"), ConnectionAbortedError()]

        async def sock_accept(listener: socket.socket) -> Any:
            if faults:
                raise faults.pop()
            return await real(listener)

        monkeypatch.setattr(loop, "sock_accept", sock_accept)
        async with serving() as (core, _, address):
            with socket.create_connection(address):
                await core.until_noted("accepted")

    monkeypatch.setattr(_driver, "ACCEPT_PAUSE_SECONDS", 0.05)
    run_plain(scenario())
    warnings = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(warnings) == 1
    assert "Too many open files" in warnings[0].getMessage()


def test_a_process_that_is_really_out_of_descriptors(
    run: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """F-66: one line of our own for all the pauses, and none of the event loop's."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        refused = 0
        enough = asyncio.Event()
        real_sleep = asyncio.sleep

        async def sleep(seconds: float) -> None:
            nonlocal refused
            if seconds == _driver.ACCEPT_PAUSE_SECONDS:
                refused += 1
                if refused == 3:
                    enough.set()
            await real_sleep(seconds)

        async with serving() as (core, _, address):
            with socket.socket() as peer:
                peer.setblocking(False)
                with monkeypatch.context() as patch:
                    patch.setattr(asyncio, "sleep", sleep)
                    resource.setrlimit(resource.RLIMIT_NOFILE, (peer.fileno(), hard))
                    try:
                        await loop.sock_connect(peer, address)
                        await enough.wait()
                    finally:
                        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
                assert core.of("accepted") == []
                await core.until_noted("accepted")

    monkeypatch.setattr(_driver, "ACCEPT_PAUSE_SECONDS", 0.01)
    run(scenario())
    assert len([record for record in caplog.records if "accepting pauses" in record.getMessage()]) == 1
    assert not [record for record in caplog.records if record.name == "asyncio" and record.levelno >= logging.WARNING]


def test_a_transport_that_the_core_does_not_want_is_closed(run: Any) -> None:
    """S51: one too many."""

    class FullCore(NotingCore):
        def transport_accepted(self, *, peer: str, now: float) -> int:
            transport_id = super().transport_accepted(peer=peer, now=now)
            self.outputs.append(CloseTransport(transport_id=transport_id, how="abort"))
            return transport_id

    async def scenario() -> None:
        async with serving(core=FullCore()) as (core, driver, address):
            with socket.create_connection(address) as peer:
                peer.setblocking(False)
                assert await read_to_end(peer) == b""
            assert len(core.of("accepted")) == 1
            assert core.of("lost") == []
            assert not driver._links

    run(scenario())


def test_a_fault_while_accepting_is_logged_and_others_are_accepted(run: Any, caplog: pytest.LogCaptureFixture) -> None:
    """F-82"""

    async def scenario() -> None:
        async with serving() as (core, driver, address):

            def fail_once(note: tuple[Any, ...]) -> None:
                if note[0] == "accepted":
                    core.on_note = lambda note: None
                    raise ZeroDivisionError

            core.on_note = fail_once
            with socket.create_connection(address) as first, socket.create_connection(address):
                first.setblocking(False)
                assert await read_to_end(first) == b""
                await core.until_noted("accepted", 2)
            assert len(driver._links) <= 1

    run(scenario())
    assert [record.levelname for record in caplog.records if "internal error" in record.message] == ["ERROR"]


def test_ends_of_accepted_transports_fill_no_log(run: Any, caplog: pytest.LogCaptureFixture) -> None:
    """Strangers can cause any number of them."""
    caplog.set_level(logging.DEBUG, "rtm")

    async def scenario() -> None:
        async with serving() as (core, _, address):
            for count in range(1, 4):
                socket.create_connection(address).close()
                await core.until_noted("lost", count)

    run(scenario())
    assert {record.levelno for record in caplog.records if record.name == "rtm"} == {logging.DEBUG}


# --- TLS


def server_context(certificate: trustme.LeafCert) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    certificate.configure_cert(context)
    return context


def client_context(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


def test_tls_carries_bytes_both_ways(run: Any, authority: trustme.CA) -> None:
    body = bytes(300 * KIB)

    async def scenario() -> None:
        async with serving(server_context(authority.issue_cert("localhost"))) as (core, _, address):

            def echo(note: tuple[Any, ...]) -> None:
                if note[0] == "data":
                    core.outputs.append(Transmit(transport_id=note[1], data=note[2]))
                    if len(core.received) == len(body):
                        core.outputs.append(CloseTransport(transport_id=note[1], how="flush"))

            core.on_note = echo
            async with rigged(tls=client_context(authority)) as rig:
                rig.open(f"wss://localhost:{address[1]}")
                await rig.core.until_noted("opened")
                rig.do(Transmit(transport_id=1, data=body))
                assert await rig.core.until_noted("lost") == ("lost", 1, None)
                assert rig.core.received == body

    run(scenario())


def test_tls_reports_what_is_unsent(run: Any, authority: trustme.CA) -> None:
    """Beyond what the transport under TLS keeps to itself."""

    async def scenario() -> None:
        async with (
            serving(server_context(authority.issue_cert("localhost"))) as (core, driver, address),
            rigged(tls=client_context(authority)) as rig,
        ):
            rig.open(f"wss://localhost:{address[1]}")
            await rig.core.until_noted("opened")
            await core.until_noted("accepted")
            core.outputs.append(PauseReading(transport_id=1))
            driver.pump()
            for _ in range(600):
                rig.do(Transmit(transport_id=1, data=bytes(64 * KIB)))
            assert rig.core.of("unsent")
            core.outputs.append(ResumeReading(transport_id=1))
            driver.pump()
            await rig.core.until(lambda: rig.core.of("unsent")[-1][2] == 0)

    run(scenario())


def test_a_transport_is_known_before_its_tls_handshake(run: Any, authority: trustme.CA) -> None:
    """S51: the bounds of the core are for those who never finish it, too; what is sent meanwhile waits."""

    async def scenario() -> None:
        async with serving(server_context(authority.issue_cert("localhost"))) as (core, driver, address):
            with socket.create_connection(address) as peer:
                peer.setblocking(False)
                await core.until_noted("accepted")
                core.outputs += [
                    PauseReading(transport_id=1),
                    Transmit(transport_id=1, data=b"held "),
                    ResumeReading(transport_id=1),
                    Transmit(transport_id=1, data=b"back"),
                    PauseReading(transport_id=1),
                ]
                driver.pump()
                reader, writer = await asyncio.open_connection(
                    sock=peer, ssl=client_context(authority), server_hostname="localhost"
                )
                assert await reader.readexactly(9) == b"held back"
                writer.write(b"waits")
                for _ in range(20):
                    await asyncio.sleep(0)
                assert core.received == b""
                core.outputs.append(ResumeReading(transport_id=1))
                driver.pump()
                await core.until(lambda: core.received == b"waits")
                assert len(core.of("accepted")) == 1
                writer.close()
                await core.until_noted("lost")
                await writer.wait_closed()

    run(scenario())


@pytest.mark.parametrize("how", ["flush", "abort"])
@pytest.mark.parametrize("begun", [False, True])
def test_a_close_ends_a_tls_handshake(run: Any, authority: trustme.CA, how: Any, begun: bool) -> None:
    """S51, F-65."""

    async def scenario() -> None:
        loop = asyncio.get_running_loop()
        async with serving(server_context(authority.issue_cert("localhost"))) as (core, driver, address):
            with socket.create_connection(address) as peer:
                peer.setblocking(False)
                await core.until_noted("accepted")
                if begun:
                    await loop.sock_sendall(peer, b"\x16\x03\x01\x02\x00\x01")
                    for _ in range(20):
                        await asyncio.sleep(0)
                core.outputs += [
                    Transmit(transport_id=1, data=b"nobody gets this"),
                    CloseTransport(transport_id=1, how=how),
                ]
                driver.pump()
                with contextlib.suppress(ConnectionResetError):
                    assert await read_to_end(peer) == b""
            await driver.stop_listening()
            await driver.finish(1)
            assert driver.idle
            assert core.of("lost") == []

    run(scenario())


@pytest.mark.parametrize(
    ("words", "code"),
    [(b"GET / HTTP/1.1\r\n\r\n", "tls_failed"), (b"", "connection_lost"), (b"\x16\x03\x01", "connection_lost")],
    ids=["no TLS", "nothing", "a beginning"],
)
def test_a_tls_handshake_that_fails_is_a_loss(run: Any, authority: trustme.CA, words: bytes, code: str) -> None:
    async def scenario() -> None:
        async with serving(server_context(authority.issue_cert("localhost"))) as (core, driver, address):
            with socket.create_connection(address) as peer:
                peer.sendall(words)
                peer.shutdown(socket.SHUT_WR)
                _, transport_id, cause = await core.until_noted("lost")
                assert (transport_id, cause.code) == (1, code)
                core.outputs.append(Transmit(transport_id=1, data=b"too late"))
                driver.pump()
            assert core.of("data") == []

    run(scenario())


@pytest.mark.parametrize("fault", ["wrong host", "expired", "stranger"])
def test_a_certificate_that_is_not_trusted(run: Any, authority: trustme.CA, fault: str) -> None:
    """F-17"""
    if fault == "wrong host":
        certificate = authority.issue_cert("elsewhere.example")
    elif fault == "expired":
        past = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
        certificate = authority.issue_cert("localhost", not_before=past, not_after=past + datetime.timedelta(days=1))
    else:
        certificate = trustme.CA().issue_cert("localhost")

    async def scenario() -> None:
        async with (
            serving(server_context(certificate)) as (core, _, address),
            rigged(tls=client_context(authority)) as rig,
        ):
            rig.open(f"wss://localhost:{address[1]}")
            cause = (await rig.core.until_noted("failed"))[2]
            assert cause.code == "certificate_not_trusted"
            assert isinstance(cause.__cause__, ssl.SSLCertVerificationError)
            assert core.of("data") == []

    run(scenario())


def test_without_a_context_the_systems_certificates_count(run: Any, authority: trustme.CA) -> None:
    async def scenario() -> None:
        async with serving(server_context(authority.issue_cert("localhost"))) as (_, _, address), rigged() as rig:
            rig.open(f"wss://localhost:{address[1]}")
            assert (await rig.core.until_noted("failed"))[2].code == "certificate_not_trusted"

    run(scenario())


def test_a_server_that_speaks_no_tls(run: Any, authority: trustme.CA) -> None:
    async def scenario() -> None:
        async with serving() as (core, _, address), rigged(tls=client_context(authority)) as rig:

            def answer(note: tuple[Any, ...]) -> None:
                if note[0] == "data":
                    core.outputs.append(Transmit(transport_id=note[1], data=b"HTTP/1.1 400 Bad Request\r\n\r\n"))

            core.on_note = answer
            rig.open(f"wss://localhost:{address[1]}")
            assert (await rig.core.until_noted("failed"))[2].code == "tls_failed"

    run(scenario())
