"""``Rig``: a client core against a server that says only what the test tells it to say, on a clock that it moves."""

from __future__ import annotations

import random
from typing import Any

from core.checked_core import CheckedClientCore
from rtm_sansio._encodings import BY_NAME, Encoding
from rtm_sansio._wire import ServerWire
from rtm_sansio.config import ClientConfig
from rtm_sansio.effects import AskToken, CloseTransport, OpenTransport, Transmit
from rtm_sansio.endpoints import parse_endpoints
from rtm_sansio.errors import RtmError, TransportFailure
from rtm_sansio.events import ConnectionStateChanged, RequestCompleted, RequestErred
from rtm_sansio.messages import (
    Attributes,
    ChangeAttributes,
    Changed,
    ChannelResult,
    CountMembers,
    Done,
    Entries,
    Failed,
    Going,
    History,
    InboxPlace,
    Join,
    Joined,
    Leave,
    Limits,
    ListMembers,
    Login,
    LoginRefused,
    Logout,
    MemberCounts,
    Members,
    Progress,
    PublishBytes,
    PublishText,
    ReadChannelAttributes,
    ReadHistory,
    ReadUserAttributes,
    Renewed,
    RenewToken,
    Restored,
    Sent,
    TextEntry,
    Want,
    Welcome,
)
from rtm_sansio.states import ConnectionState

EPOCH = b"epoch--1"
OTHER_EPOCH = b"epoch--2"
INBOX_PLACE = InboxPlace(b"inbox--1", 0, 0)
SESSION = b"session-id-16-by"
OTHER_SESSION = b"another-session!"


def limits(**changes: Any) -> Limits:
    """The default limits of a server, with changes."""
    figures: dict[str, Any] = {
        "heartbeat_interval": 2.0,
        "silence_timeout": 10.0,
        "presence_grace": 30.0,
        "max_name_length": 64,
        "max_message_bytes": 32 * 1024,
        "max_request_bytes": 64 * 1024,
        "max_frame_bytes": 128 * 1024,
        "max_channels": 20,
        "max_unanswered": 256,
        "requests_per_second": 1000,
        "request_burst": 2000,
        "append_bytes_per_second": 1024 * 1024,
        "append_burst_bytes": 4 * 1024 * 1024,
        "max_count_channels": 32,
        "max_history_entries": 256,
        "max_attribute_key_bytes": 32,
        "max_attribute_value_bytes": 8 * 1024,
        "max_attribute_pairs": 32,
        "max_attributes": 256,
        "max_user_attribute_bytes": 16 * 1024,
        "max_channel_attribute_bytes": 32 * 1024,
        "max_status_query": 256,
        "max_status_subscriptions": 512,
        "unreachable": 6.0,
    }
    return Limits(**(figures | changes))


class FixedJitter(random.Random):
    """Draws the same share of each range, and notes the ranges."""

    def __init__(self, share: float) -> None:
        super().__init__(0)
        self.share = share
        self.ceilings: list[float] = []

    def uniform(self, a: float, b: float) -> float:
        self.ceilings.append(b)
        return a + (b - a) * self.share


class ServerEnd:
    """The server's end of one transport: what it received, and a mouth."""

    def __init__(self, transport_id: int, attempt: int, encoding: Encoding) -> None:
        self.transport_id = transport_id
        self.attempt = attempt
        self.encoding = encoding
        self.wire = ServerWire(subprotocols=(encoding.subprotocol,), max_message_bytes=1 << 20)
        self.received: list[Any] = []
        self.heartbeats: list[float] = []
        self.frames: list[int] = []
        self.closed_with: int | None = None

    def of_type(self, message_type: type[Any]) -> list[Any]:
        """The messages of one type that arrived."""
        return [message for message in self.received if isinstance(message, message_type)]


class Rig:
    """One client core and its scripted server."""

    def __init__(
        self,
        config: ClientConfig | None = None,
        *,
        seed: int = 1,
        urls: Any = "ws://server.test:80/",
        answer_heartbeats: bool = True,
        chunk: int | None = None,
        jitter: float | None = None,
        core_type: Any = CheckedClientCore,
    ) -> None:
        self.now = 100.0
        self.start = self.now
        self.answer_heartbeats = answer_heartbeats
        self.chunk = chunk
        self.config = config or ClientConfig()
        entropy = random.Random(seed)
        self.rng = random.Random(seed + 1) if jitter is None else FixedJitter(jitter)
        self.core = core_type(
            self.config,
            endpoints=parse_endpoints(urls),
            rng=self.rng,
            entropy=entropy.randbytes,
        )
        self.events: list[Any] = []
        self.timeline: list[tuple[float, Any]] = []
        self.ends: dict[int, RequestCompleted | RequestErred] = {}
        self.outputs: list[Any] = []
        self.opened: list[OpenTransport] = []
        self.opened_at: list[float] = []
        self.closed: dict[int, str] = {}
        self.asked: list[int] = []
        self.servers: dict[int, ServerEnd] = {}
        self.attach = 0
        self.token = "t0"

    # -- outputs

    def take(self) -> list[Any]:
        """Carry out all outputs."""
        taken: list[Any] = []
        while outputs := self.core.take_outputs():
            taken += outputs
            for output in outputs:
                self._carry_out(output)
        self.outputs += taken
        return taken

    def _carry_out(self, output: Any) -> None:
        if isinstance(output, OpenTransport):
            self.opened.append(output)
            self.opened_at.append(self.now - self.start)
            self.servers[output.transport_id] = ServerEnd(
                output.transport_id, output.attempt, BY_NAME[self.config.encoding]
            )
        elif isinstance(output, Transmit):
            self._arrive(self.servers[output.transport_id], output.data)
        elif isinstance(output, CloseTransport):
            self.closed[output.transport_id] = output.how
        elif isinstance(output, (RequestCompleted, RequestErred)):
            self.ends[output.request_id] = output
        elif isinstance(output, AskToken):
            self.asked.append(output.ask_id)
        else:
            self.events.append(output)
            self.timeline.append((self.now - self.start, output))

    def _arrive(self, server: ServerEnd, data: bytes) -> None:
        for event in server.wire.receive(data):
            encoding = server.encoding
            if isinstance(event, encoding.message_type):
                server.frames.append(len(encoding.payload_of(event)))
                if event == encoding.heartbeat:
                    server.heartbeats.append(self.now - self.start)
                    if self.answer_heartbeats:
                        self.feed(server.wire.frame(encoding.heartbeat), server)
                else:
                    server.received += encoding.client_decoder.decode(event)[0]
            elif hasattr(event, "by_peer"):
                server.closed_with = event.code
        answer = server.wire.data_to_send()
        if answer:
            self.feed(answer, server)

    # -- time

    def advance(self, seconds: float) -> None:
        """Let time pass, ticking at each deadline."""
        end = self.now + seconds
        for _ in range(100_000):
            deadline = self.core.next_deadline()
            if deadline is None or deadline > end:
                break
            self.now = max(self.now, deadline)
            self.core.handle_timeout(now=self.now)
            self.take()
        else:
            raise AssertionError(f"{self.core.next_timer()} never rests")
        self.now = end
        self.tick()

    def tick(self) -> None:
        """One tick now, due or not."""
        self.core.handle_timeout(now=self.now)
        self.take()

    @property
    def elapsed(self) -> float:
        """Seconds since the start."""
        return self.now - self.start

    # -- the network

    @property
    def server(self) -> ServerEnd:
        """The end of the transport opened last."""
        return self.servers[self.opened[-1].transport_id]

    def open(self) -> None:
        """The transport opens, and the handshake is done."""
        self.core.transport_opened(self.server.transport_id, now=self.now)
        self.take()

    def refuse_transport(self, cause: TransportFailure | None = None) -> None:
        """The transport cannot be opened."""
        cause = cause or TransportFailure("connection refused", code="connection_refused")
        self.core.transport_failed(self.server.transport_id, cause, now=self.now)
        self.take()

    def lose(self, cause: TransportFailure | None = None) -> None:
        """The transport ends."""
        self.core.transport_lost(self.server.transport_id, cause, now=self.now)
        self.take()

    def feed(self, data: bytes, server: ServerEnd | None = None) -> None:
        """Bytes arrive at the client."""
        transport_id = (server or self.server).transport_id
        step = self.chunk or max(1, len(data))
        for start in range(0, len(data), step):
            self.core.receive_data(transport_id, data[start : start + step], now=self.now)
            self.take()

    def say(self, *messages: Any, server: ServerEnd | None = None) -> None:
        """The server sends a batch."""
        server = server or self.server
        self.feed(server.wire.frame(server.encoding.message_of(server.encoding.encode_batch(messages))), server)

    def say_close(self, code: int, reason: str = "") -> None:
        """The server sends a close frame."""
        self.server.wire.close(code, reason)
        self.feed(self.server.wire.data_to_send())

    # -- the script

    def welcome(self, **changes: Any) -> Welcome:
        """The next welcome of the same session, with changes."""
        self.attach += 1
        fields: dict[str, Any] = {
            "session_id": SESSION,
            "login_epoch": 7,
            "attach": self.attach,
            "resumed": self.attach > 1,
            "expires_in": None,
            "limits": limits(),
            "inbox": INBOX_PLACE,
        }
        return Welcome(**(fields | changes))

    def restored(self, codes: dict[str, int] | None = None) -> Restored:
        """The answer to the statement of the present transport."""
        want = self.server.of_type(Want)[-1]
        codes = codes or {}
        return Restored(
            tuple(ChannelResult(one.channel, codes.get(one.channel, 0), "no") for one in want.channels), False
        )

    def accept(self, *, codes: dict[str, int] | None = None, **changes: Any) -> None:
        """Open the transport, welcome, answer the statement."""
        self.open()
        self.say(self.welcome(**changes))
        self.say(self.restored(codes))

    def login(self, *, token: str | None = "t0", **options: Any) -> int:
        """Call ``login``."""
        number = self.core.login("alice", token, now=self.now, **options)
        self.take()
        return number

    def connect(self, *channels: str, token: str | None = "t0", **changes: Any) -> None:
        """Log in and join, until all is up."""
        number = self.login(token=token)
        self.accept(**changes)
        assert isinstance(self.ends[number], RequestCompleted)
        for channel in channels:
            self.join(channel)

    def join(self, channel: str, *, offset: int = 0, epoch: bytes = EPOCH, echo: bool = False) -> None:
        """Join and have it answered."""
        number = self.core.join(channel, echo=echo, now=self.now)
        self.take()
        self.say(Joined(number, epoch, offset, 1, ("alice",)))
        assert isinstance(self.ends[number], RequestCompleted)

    def publish(self, channel: str = "lobby", message: str | bytes = "hi", **options: Any) -> int:
        """Send without an answer."""
        number = self.core.publish(channel, message, now=self.now, **options)
        self.take()
        return number

    def call(self, name: str, *arguments: Any, **options: Any) -> Any:
        """Any command, and its outputs."""
        result = getattr(self.core, name)(*arguments, now=self.now, **options)
        self.take()
        return result

    def answer_all(self) -> None:
        """Answer every request that arrived on the present transport and is not answered."""
        for message in list(self.server.received):
            number = getattr(message, "number", None)
            if number is None or number in self.ends:
                continue
            if isinstance(message, (PublishText, PublishBytes)):
                self.say(Sent(number, EPOCH, number, 0))
            elif isinstance(message, Join):
                self.say(Joined(number, EPOCH, 0, 1, ("alice",)))
            elif isinstance(message, (Leave, Logout)):
                self.say(Done(number))
            elif isinstance(message, RenewToken):
                self.say(Renewed(number, None))
            elif isinstance(message, ListMembers):
                self.say(Members(number, EPOCH, 0, 1, ("alice",), False))
            elif isinstance(message, CountMembers):
                self.say(MemberCounts(number, tuple(1 for _ in message.channels)))
            elif isinstance(message, ReadHistory):
                self.say(History(number, EPOCH, 1, False, [TextEntry("bob", "x", 0)]))
            elif isinstance(message, ChangeAttributes):
                self.say(Changed(number, number))
            elif isinstance(message, (ReadUserAttributes, ReadChannelAttributes)):
                self.say(Attributes(number, number, ()))

    def entries(self, first: int, *texts: str, channel: str = "lobby", uid: str = "bob", epoch: bytes = EPOCH) -> None:
        """Text entries of a channel arrive."""
        self.say(Entries(channel, epoch, first, [TextEntry(uid, text, 1000) for text in texts]))

    # -- what a test asks

    @property
    def state(self) -> ConnectionState:
        """The public state."""
        return self.core.state

    @property
    def changes(self) -> list[tuple[str, str]]:
        """All switches of state, as pairs of state and reason."""
        return [(e.state.value, e.reason.value) for e in self.events if isinstance(e, ConnectionStateChanged)]

    @property
    def last_change(self) -> tuple[float, str, str]:
        """When the state switched last, to what, and why."""
        at, event = [(at, e) for at, e in self.timeline if isinstance(e, ConnectionStateChanged)][-1]
        return round(at, 6), event.state.value, event.reason.value

    def error(self, request_id: int) -> Any:
        """What a request failed with."""
        end = self.ends[request_id]
        assert isinstance(end, RequestErred), end
        return end.error

    def result(self, request_id: int) -> Any:
        """What a request completed with."""
        end = self.ends[request_id]
        assert isinstance(end, RequestCompleted), end
        return end.result

    def of_type(self, event_type: type[Any]) -> list[Any]:
        """The events of one type."""
        return [event for event in self.events if isinstance(event, event_type)]

    def messages(self, channel: str = "lobby") -> list[Any]:
        """The messages received in a channel."""
        return [e.message for e in self.events if type(e).__name__ == "ChannelMessageReceived" and e.channel == channel]


__all__ = [
    "EPOCH",
    "OTHER_EPOCH",
    "OTHER_SESSION",
    "SESSION",
    "Failed",
    "Going",
    "Login",
    "LoginRefused",
    "Progress",
    "Rig",
    "RtmError",
    "ServerEnd",
    "limits",
]
