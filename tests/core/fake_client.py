"""Hubs driven by hand: a clock, an engine, and clients that send whatever a test wants them to send."""

from __future__ import annotations

import random
from typing import Any

from rtm_sansio._encodings import MSGPACK, Encoding
from rtm_sansio._request_codes import REQUEST_CODES
from rtm_sansio._wire import ClientWire, Closed, Opened
from rtm_sansio.config import ServerConfig
from rtm_sansio.effects import CloseTransport, PauseReading, ResumeReading, Transmit
from rtm_sansio.engine import MemoryEngine
from rtm_sansio.events import LoginRequested, LoginWithdrawn, RenewalRequested
from rtm_sansio.hub import Hub
from rtm_sansio.messages import (
    Entries,
    Failed,
    Gap,
    Join,
    Joined,
    JoinedEntry,
    Leave,
    LeftEntry,
    Login,
    LoginRefused,
    Progress,
    PublishText,
    RenewToken,
    Restored,
    Sent,
    TextEntry,
    Want,
    WantedChannel,
    Welcome,
)
from rtm_sansio.operations import EngineCall

WALL = 1_700_000_000.0
"""Unix seconds minus virtual ones."""


def channels_of(hub: Hub) -> set[str]:
    """The channels that a hub has to do with."""
    return {log.name for log in hub._channels._by_home.values() if log.name}


class Bench:
    """One hub with its engine inside, or several on one engine outside; a clock that only ``advance`` moves.

    Every input is followed by what a driver does: outputs are carried out and, at the end of the pass, flushed.
    ``auto_login`` is what the authenticator says at once: an expiry in Unix seconds, None for "never", or ``...`` for
    nothing. With ``held`` the answers of the engine to a hub wait for ``release``.
    """

    def __init__(self, config: ServerConfig | None = None, *, nodes: int = 0, seed: int = 0, **settings: Any) -> None:
        self.config = config or ServerConfig(**settings)
        self.rng = random.Random(seed)
        self.now = 1000.0
        self.wall_offset = WALL
        self.auto_login: Any = None
        self.external = nodes > 0
        self.engine = MemoryEngine(self.config, entropy=self.rng.randbytes)
        self.engine.set_wall_clock(self.wall, now=self.now)
        self.hubs: list[Hub] = []
        self.clients: list[dict[int, FakeClient]] = []
        self.calls: list[list[EngineCall]] = []
        self.held: set[int] = set()
        self.events: list[Any] = []
        self.engine_calls: list[Any] = []
        self.lively: list[FakeClient] = []
        """Clients that send heartbeats while time passes."""
        for index in range(nodes or 1):
            self.hubs.append(self.make_hub(index))
            self.clients.append({})
            self.calls.append([])
        self.settle()  # hubs on an engine outside have their leases

    def make_hub(self, index: int) -> Hub:
        """A new hub for this place."""
        hub = Hub(
            self.config,
            entropy=self.rng.randbytes,
            rng=self.rng,
            node=f"node{index}",
            external_engine=self.external,
        )
        hub.set_wall_clock(self.wall, now=self.now)
        return hub

    @property
    def hub(self) -> Hub:
        """The first hub."""
        return self.hubs[0]

    @property
    def wall(self) -> float:
        """Unix seconds."""
        return self.now + self.wall_offset

    def new_engine(self) -> None:
        """The outside engine loses its memory."""
        self.engine = MemoryEngine(self.config, entropy=self.rng.randbytes)
        self.engine.set_wall_clock(self.wall, now=self.now)

    def restart(self, index: int = 0) -> None:
        """A hub is gone without a word, and another one starts; inside it the engine has no memory."""
        for client in list(self.clients[index].values()):
            client.gone = "restart"
        self.clients[index] = {}
        self.calls[index] = []
        self.hubs[index] = self.make_hub(index)

    # -- the driver

    def settle(self) -> None:
        """Carry out all outputs and flush, until nothing is left to do."""
        for _ in range(100_000):
            busy = False
            for index in range(len(self.hubs)):
                busy = self.pump(index) or busy
                if self.hubs[index].flush_wanted:
                    self.hubs[index].flush(now=self.now)
                    busy = True
            if not busy:
                return
        raise AssertionError("the hub is never done")

    def pump(self, index: int) -> bool:
        """Carry out the outputs of one hub."""
        hub = self.hubs[index]
        outputs = hub.take_outputs()
        assert hub.take_outputs() == []
        for output in outputs:
            if isinstance(output, EngineCall):
                self.engine_calls.append(output.operation)
                self.calls[index].append(output)
                if index not in self.held:
                    self.answer(index)
            elif isinstance(output, LoginRequested):
                self.events.append(output)
                if self.auto_login is not ...:
                    hub.accept_login(output.transport_id, expires_at=self.auto_login, now=self.now)
            elif isinstance(output, (RenewalRequested, LoginWithdrawn)):
                self.events.append(output)
            else:
                client = self.clients[index].get(output.transport_id)
                assert client is not None, f"{output} for a transport that is gone"
                client.take(output)
        return bool(outputs)

    def answer(self, index: int = 0) -> None:
        """Carry out and answer the oldest engine call of a hub that waits."""
        call = self.calls[index].pop(0)
        answer = self.engine.execute(call.operation, now=self.now)
        self.announce()
        self.hubs[index].engine_answered(call.call_id, answer, now=self.now)

    def release(self, index: int = 0) -> None:
        """Answer all calls that were held back, and hold no more."""
        self.held.discard(index)
        while self.calls[index]:
            self.answer(index)
            self.settle()

    def announce(self) -> None:
        """Pass on what the outside engine announces."""
        for node, announcement in self.engine.take_announcements():
            self.hubs[int(node.removeprefix("node"))].engine_announced(announcement, now=self.now)

    def advance(self, seconds: float) -> None:
        """Let time pass, with a tick at each deadline."""
        while self.lively and seconds > 2.0:
            self._advance(2.0)
            seconds -= 2.0
            self._beat()
        self._advance(seconds)
        self._beat()

    def _beat(self) -> None:
        for client in self.lively:
            if client.gone is None:
                client.heartbeat()

    def _advance(self, seconds: float) -> None:
        end = self.now + seconds
        for _ in range(100_000):
            self.settle()
            deadlines = [hub.next_deadline() for hub in self.hubs]
            if self.external:
                deadlines.append(self.engine.next_deadline())
            upcoming = min((deadline for deadline in deadlines if deadline is not None), default=None)
            if upcoming is None or upcoming > end:
                self.now = end
                self.tick()
                return
            self.now = max(self.now, upcoming)
            self.tick()
        raise AssertionError("deadlines never advance")

    def tick(self) -> None:
        """What a driver does when its timer fires."""
        for hub in self.hubs:
            hub.handle_timeout(now=self.now)
            deadline = hub.next_deadline()
            assert deadline is None or deadline > self.now
        if self.external:
            self.engine.handle_timeout(now=self.now)
            deadline = self.engine.next_deadline()
            assert deadline is None or deadline > self.now
            self.announce()
        self.settle()

    # -- clients

    def open(self, *, node: int = 0, handshake: bool = True, encoding: Encoding = MSGPACK) -> FakeClient:
        """A new transport, past its opening handshake."""
        client = FakeClient(self, node, encoding)
        if handshake:
            client.shake_hands()
        return client

    def login(self, uid: str, *channels: str, node: int = 0, encoding: Encoding = MSGPACK, **login: Any) -> FakeClient:
        """A client that is logged in and has joined ``channels``."""
        client = self.open(node=node, encoding=encoding)
        client.login(uid, **login)
        for channel in channels:
            client.join(channel)
        return client


class FakeClient:
    """One transport from the client's end, and all that came over it."""

    def __init__(self, bench: Bench, node: int, encoding: Encoding = MSGPACK) -> None:
        self.bench = bench
        self.node = node
        self.encoding = encoding
        self.wire = ClientWire(
            host="server.test",
            target="/",
            subprotocols=(encoding.subprotocol,),
            max_message_bytes=1 << 24,
            entropy=bench.rng.randbytes,
        )
        self.messages: list[Any] = []
        self.heartbeats = 0
        self.close_code: int | None = None
        self.close_reason = ""
        self.gone: str | None = None
        """How the hub closed the transport."""
        self.paused = False
        self.received: list[bytes] = []
        self.sizes: list[int] = []
        """Bytes of each Transmit."""
        self.payload_sizes: list[int] = []
        """Bytes of each WebSocket message with a batch in it."""
        self.joined: dict[str, Any] = {}
        """The last answer to ``join`` for each channel."""
        self.number = 0
        self.asked: dict[int, type[Any]] = {}
        """What was asked for, by its number."""
        self.reading = True
        self.unsent = 0
        self.id = bench.hubs[node].transport_accepted(peer="test", now=bench.now)
        bench.clients[node][self.id] = self
        bench.settle()

    @property
    def hub(self) -> Hub:
        return self.bench.hubs[self.node]

    def keep(self) -> FakeClient:
        """Send heartbeats from now on."""
        self.bench.lively.append(self)
        return self

    # -- what the hub does

    def take(self, output: Any) -> None:
        if isinstance(output, Transmit):
            assert output.data
            self.sizes.append(len(output.data))
            self.received.append(output.data)
            if not self.reading:
                self.unsent += len(output.data)
                self.hub.unsent(self.id, self.unsent, now=self.bench.now)
            self._decode(output.data)
        elif isinstance(output, CloseTransport):
            self.gone = output.how
            del self.bench.clients[self.node][self.id]
        elif isinstance(output, PauseReading):
            assert not self.paused
            self.paused = True
        else:
            assert isinstance(output, ResumeReading)
            assert self.paused
            self.paused = False

    def _decode(self, data: bytes) -> None:
        encoding = self.encoding
        for event in self.wire.receive(data):
            if event == encoding.heartbeat:
                self.heartbeats += 1
            elif isinstance(event, encoding.message_type):
                self.payload_sizes.append(len(encoding.payload_of(event)))
                messages, skipped = encoding.server_decoder.decode(event)
                assert skipped == 0
                self._check_codes(messages)
                self.messages += messages
            elif isinstance(event, Closed):
                self.close_code, self.close_reason = event.code, event.reason
            else:
                assert isinstance(event, Opened)

    def _check_codes(self, messages: list[Any]) -> None:
        """A request fails with its own codes only (S45)."""
        for message in messages:
            kind = self.asked.get(message.number) if isinstance(message, Failed) else None
            if kind is not None and kind is not RenewToken:  # which an authenticator refuses as it likes
                assert message.code in REQUEST_CODES[kind], f"{kind.__name__} failed with {message.code}"

    def drain(self, byte_count: int | None = None) -> None:
        """The socket takes so many of the bytes that wait (all, if None)."""
        self.unsent = 0 if byte_count is None else max(0, self.unsent - byte_count)
        self.hub.unsent(self.id, self.unsent, now=self.bench.now)
        self.bench.settle()

    # -- what the client does

    def shake_hands(self) -> None:
        self.wire.start()
        self.raw(self.wire.data_to_send())
        assert self.wire.is_open

    def raw(self, data: bytes) -> None:
        """Send bytes."""
        self.hub.receive_data(self.id, data, now=self.bench.now)
        self.bench.settle()

    def send(self, *messages: Any) -> None:
        """Send one batch."""
        self.asked.update({message.number: type(message) for message in messages if hasattr(message, "number")})
        self.raw(self.wire.frame(self.encoding.message_of(self.encoding.encode_batch(messages))))

    def heartbeat(self) -> None:
        self.raw(self.wire.frame(self.encoding.heartbeat))

    def lose(self) -> None:
        """The transport is reset."""
        del self.bench.clients[self.node][self.id]
        self.gone = "lost"
        self.hub.transport_lost(self.id, None, now=self.bench.now)
        self.bench.settle()

    def login(
        self,
        uid: str = "alice",
        *,
        token: str = "token",
        instance: bytes = b"",
        login_id: bytes = b"",
        attempt: int = 0,
        resume: FakeClient | None = None,
        again: FakeClient | None = None,
        attach: int | None = None,
        want: Any = (),
    ) -> None:
        """Log in; ``resume`` quotes the session of another transport of the same instance, ``again`` only its login."""
        self.uid = uid
        self.instance = instance or self.bench.rng.randbytes(16)
        self.login_id = login_id or self.bench.rng.randbytes(16)
        self.attempt = attempt
        session_id = login_epoch = None
        before = resume or again
        if before is not None:
            self.instance, self.login_id, self.attempt = before.instance, before.login_id, before.attempt + 1
            login_epoch = before.welcome.login_epoch
            self.number = before.number
        if resume is not None:
            session_id = resume.welcome.session_id
            attach = resume.welcome.attach if attach is None else attach
        login = Login(uid, token, self.instance, self.login_id, self.attempt, session_id, login_epoch, attach)
        if want is None:
            self.send(login)
        else:
            wanted = tuple(one if isinstance(one, WantedChannel) else WantedChannel(*one) for one in want)
            self.send(login, Want(wanted))

    def next_number(self) -> int:
        self.number += 1
        return self.number

    def join(self, channel: str) -> Joined:
        number = self.next_number()
        self.send(Join(number, channel))
        self.joined[channel] = self.answer(number)
        return self.joined[channel]  # type: ignore[no-any-return]

    def leave(self, channel: str) -> Any:
        number = self.next_number()
        self.send(Leave(number, channel))
        return self.answer(number)

    def publish(self, channel: str, text: str) -> Sent:
        number = self.next_number()
        self.send(PublishText(number, channel, text))
        return self.answer(number)  # type: ignore[no-any-return]

    def confirm(self) -> None:
        """Send the progress behind a welcome."""
        self.send(Progress(self.welcome.attach, 0))

    # -- what came

    def of(self, message_type: type[Any]) -> list[Any]:
        return [message for message in self.messages if isinstance(message, message_type)]

    def answers(self, number: int) -> list[Any]:
        """Everything that answers the request of this number."""
        return [message for message in self.messages if getattr(message, "number", None) == number]

    def answer(self, number: int) -> Any:
        (answer,) = self.answers(number)
        return answer

    @property
    def welcome(self) -> Welcome:
        (welcome,) = self.of(Welcome)
        return welcome  # type: ignore[no-any-return]

    @property
    def refusal(self) -> LoginRefused:
        (refusal,) = self.of(LoginRefused)
        return refusal  # type: ignore[no-any-return]

    @property
    def restored(self) -> list[Any]:
        """The results of the statement."""
        return [result for restored in self.of(Restored) for result in restored.channels]

    def entries(self, channel: str) -> list[tuple[int, Any]]:
        """Offsets and entries of a log, in the order in which they came."""
        return [
            (block.first_offset + index, entry)
            for block in self.of(Entries)
            if block.log == channel
            for index, entry in enumerate(block.entries)
        ]

    def members(self, channel: str) -> list[Any]:
        """What came of joins and leaves of others, without offsets."""
        entries = [entry for _, entry in self.entries(channel)]
        return [entry for entry in entries if isinstance(entry, (JoinedEntry, LeftEntry)) and entry.uid != self.uid]

    def texts(self, channel: str) -> list[str]:
        """The text messages of a log, in the order in which they came."""
        return [entry.text for _, entry in self.entries(channel) if isinstance(entry, TextEntry)]

    def gaps(self, channel: str) -> list[Gap]:
        return [gap for gap in self.of(Gap) if gap.log == channel]

    def cursor(self, channel: str) -> tuple[str, bytes, int]:
        """What a statement says of the channel."""
        last: tuple[bytes, int] | None = None
        for message in self.messages:
            if message is self.joined.get(channel):
                last = (message.epoch, message.offset)
            elif isinstance(message, Entries) and message.log == channel:
                last = (message.epoch, message.first_offset + len(message.entries) - 1)
            elif isinstance(message, Gap) and message.log == channel:
                last = (message.epoch, message.cursor)
        assert last is not None
        return (channel, *last)
