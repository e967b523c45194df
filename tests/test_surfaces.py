"""``rtm_sync`` and ``rtm_async`` look the same: name by name, parameter by parameter, and mistake by mistake."""

from __future__ import annotations

import asyncio
import inspect
import itertools
import ssl
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

import rtm_async
import rtm_sansio
import rtm_sync
from rtm_sansio import (
    ClientClosed,
    ConfigError,
    InvalidArgument,
    InvalidState,
    MemberJoined,
    NotConnected,
    NotJoined,
    NotLoggedIn,
    RtmError,
    allow_any_uid,
)

CLASSES = ["Client", "Channel", "Server"]
WAITING = [
    "login",
    "logout",
    "renew_token",
    "send_to_peer",
    "join",
    "member_counts",
    "send",
    "members",
    "history",
    "leave",
]
ATTRIBUTE_CALLS = [
    f"{verb}{of}_attributes" for verb in ("set", "merge", "delete", "clear", "get") for of in ("", "_channel")
]

# Names of the protocols of "with", "for" and iterators, in both worlds.
TWINS = {
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "__aiter__": "__iter__",
    "__anext__": "__next__",
    "aclose": "close",
}
COMPARED_DUNDERS = {*TWINS.values(), *TWINS}


def surface(cls: type[Any]) -> dict[str, Any]:
    """What users may rely on, by its name in ``rtm_sync``."""
    return {
        TWINS.get(name, name): member
        for name, member in inspect.getmembers(cls)
        if not name.startswith("_") or name in COMPARED_DUNDERS
    }


def parameters(member: Any) -> list[tuple[str, Any, Any]]:
    return [
        (parameter.name, parameter.kind, parameter.default)
        for parameter in inspect.signature(member).parameters.values()
    ]


def test_modules() -> None:
    assert sorted(rtm_sync.__all__) == sorted(rtm_async.__all__)
    for name in rtm_sync.__all__:
        twins = getattr(rtm_sync, name), getattr(rtm_async, name)
        if name not in CLASSES:
            assert twins[0] is twins[1] is getattr(rtm_sansio, name)


@pytest.mark.parametrize("name", CLASSES)
def test_names(name: str) -> None:
    assert surface(getattr(rtm_sync, name)).keys() == surface(getattr(rtm_async, name)).keys()


@pytest.mark.parametrize("name", CLASSES)
def test_constructors(name: str) -> None:
    if name != "Channel":  # made by join() only
        assert parameters(getattr(rtm_sync, name)) == parameters(getattr(rtm_async, name))


@pytest.mark.parametrize("name", CLASSES)
def test_members(name: str) -> None:
    blocking, waiting = surface(getattr(rtm_sync, name)), surface(getattr(rtm_async, name))
    for member in blocking.keys() & waiting.keys():
        if isinstance(blocking[member], property):
            assert isinstance(waiting[member], property), member
        elif member not in TWINS.values():
            assert parameters(blocking[member]) == parameters(waiting[member]), member


@pytest.mark.parametrize("name", CLASSES)
def test_every_call_has_a_timeout(name: str) -> None:
    """Whatever waits for a server can be bounded."""
    for package in (rtm_sync, rtm_async):
        for member in (*WAITING, *ATTRIBUTE_CALLS):
            function = getattr(getattr(package, name), member, None)
            if function is not None:
                timeout = inspect.signature(function).parameters["timeout"]
                assert timeout.default is None
                assert timeout.kind is inspect.Parameter.KEYWORD_ONLY


def test_calls_about_the_status_have_a_timeout() -> None:
    for package in (rtm_sync, rtm_async):
        for member in ("online_status", "subscribe_online_status", "unsubscribe_online_status"):
            timeout = inspect.signature(getattr(package.Client, member)).parameters["timeout"]
            assert timeout.default is None
            assert timeout.kind is inspect.Parameter.KEYWORD_ONLY


@pytest.mark.parametrize("name", CLASSES)
def test_everything_says_what_it_is(name: str) -> None:
    for package in (rtm_sync, rtm_async):
        cls = getattr(package, name)
        assert cls.__doc__
        for member, value in surface(cls).items():
            if not member.startswith("_"):
                assert inspect.getdoc(value), f"{package.__name__}.{name}.{member}"


def test_the_core_exports_what_it_names() -> None:
    assert len(set(rtm_sansio.__all__)) == len(rtm_sansio.__all__)
    for name in rtm_sansio.__all__:
        assert hasattr(rtm_sansio, name), name


# --- the same mistake is answered with the same class, code and text

URL = "ws://127.0.0.1:1"
Mistake = Callable[["Scene"], Any]


class Scene:
    """What the mistakes are made with; each frontend has its own."""

    def __init__(self, package: Any, server: Any, client: Any) -> None:
        self.package = package
        self.server = server
        self.client = client
        self.channel: Any = None

    def enter(self, manager: Any) -> Any:
        """Begin a ``with`` block."""
        return manager.__enter__() if hasattr(manager, "__enter__") else manager.__aenter__()

    def step(self, events: Any) -> Any:
        """Take the first event."""
        return next(iter(events)) if hasattr(events, "__iter__") else anext(aiter(events))


async def _coroutine() -> str:
    return "token"


class _CoroutineProvider:
    async def __call__(self) -> str:
        return "token"


def _server(scene: Scene, **options: Any) -> Any:
    return scene.package.Server(**{"authenticate": allow_any_uid, **options})


_TIMEOUTS = (0, -1, True, float("nan"), float("inf"), "1")
_CLIENT_TLS, _SERVER_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)

# Before a login.
AT_FIRST: dict[str, tuple[type[RtmError], str, Mistake]] = {
    "no url": (ConfigError, "invalid_config", lambda scene: scene.package.Client(None)),
    "bytes for a url": (ConfigError, "invalid_config", lambda scene: scene.package.Client(b"ws://127.0.0.1")),
    "a number for a url": (ConfigError, "invalid_config", lambda scene: scene.package.Client(8765)),
    "numbers for urls": (ConfigError, "invalid_config", lambda scene: scene.package.Client([8765])),
    "no urls": (ConfigError, "invalid_config", lambda scene: scene.package.Client([])),
    "client config": (ConfigError, "invalid_config", lambda scene: scene.package.Client(URL, config={})),
    "client ssl": (ConfigError, "invalid_config", lambda scene: scene.package.Client("wss://localhost", ssl=True)),
    "ssl without wss": (ConfigError, "invalid_config", lambda scene: scene.package.Client(URL, ssl=_CLIENT_TLS)),
    "a server's ssl": (
        ConfigError,
        "invalid_config",
        lambda scene: scene.package.Client("wss://localhost", ssl=_SERVER_TLS),
    ),
    "port": (ConfigError, "invalid_config", lambda scene: _server(scene, port="8765")),
    "port bool": (ConfigError, "invalid_config", lambda scene: _server(scene, port=True)),
    "port too high": (ConfigError, "invalid_config", lambda scene: _server(scene, port=65536)),
    "host": (ConfigError, "invalid_config", lambda scene: _server(scene, host=None)),
    "server config": (ConfigError, "invalid_config", lambda scene: _server(scene, config={})),
    "server ssl": (ConfigError, "invalid_config", lambda scene: _server(scene, ssl=True)),
    "a client's ssl": (ConfigError, "invalid_config", lambda scene: _server(scene, ssl=_CLIENT_TLS)),
    "sock": (ConfigError, "invalid_config", lambda scene: _server(scene, sock="8765")),
    "authenticate": (ConfigError, "invalid_config", lambda scene: _server(scene, authenticate=None)),
    "url before start": (InvalidState, "invalid_state", lambda scene: _server(scene).url),
    "kick before start": (InvalidState, "invalid_state", lambda scene: _server(scene).kick("alice")),
    "second start": (InvalidState, "invalid_state", lambda scene: scene.server.start()),
    "ban": (InvalidArgument, "invalid_ban", lambda scene: scene.server.ban("alice", float("inf"))),
    "ban of a text": (InvalidArgument, "invalid_ban", lambda scene: scene.server.ban("alice", "1")),
    "logout at first": (NotLoggedIn, "not_logged_in", lambda scene: scene.client.logout()),
    "counts at first": (NotConnected, "not_connected", lambda scene: scene.client.member_counts(["lobby"])),
    "join at first": (NotConnected, "not_connected", lambda scene: scene.client.join("lobby")),
    "message at first": (NotConnected, "not_connected", lambda scene: scene.client.send_to_peer("bob", "x")),
    "retry at first": (InvalidState, "invalid_state", lambda scene: scene.client.retry_now()),
    "uid": (InvalidArgument, "invalid_uid", lambda scene: scene.client.login("ü")),
    "token": (InvalidArgument, "invalid_token", lambda scene: scene.client.login("alice", 7)),
    "coroutine": (InvalidArgument, "invalid_token", lambda scene: scene.client.login("alice", _coroutine)),
    "coroutine object": (
        InvalidArgument,
        "invalid_token",
        lambda scene: scene.client.login("alice", _CoroutineProvider()),
    ),
}
# alice is logged in and has joined the lobby.
MEANWHILE: dict[str, tuple[type[RtmError], str, Mistake]] = {
    "second login": (InvalidState, "invalid_state", lambda scene: scene.client.login("alice")),
    "second join": (InvalidState, "already_joined", lambda scene: scene.client.join("lobby")),
    "peer": (InvalidArgument, "invalid_uid", lambda scene: scene.client.send_to_peer("ü", "x")),
    "message to a peer": (InvalidArgument, "invalid_message", lambda scene: scene.client.send_to_peer("bob", 7)),
    "description": (
        InvalidArgument,
        "invalid_description",
        lambda scene: scene.client.send_to_peer("bob", "x", description=b"x"),
    ),
    "timeout of a message to a peer": (
        InvalidArgument,
        "invalid_timeout",
        lambda scene: scene.client.send_to_peer("bob", "x", timeout=0),
    ),
    "channel": (InvalidArgument, "invalid_channel", lambda scene: scene.client.join("ü")),
    "body": (InvalidArgument, "invalid_message", lambda scene: scene.channel.send(7)),
    "large body": (InvalidArgument, "message_too_large", lambda scene: scene.channel.send(bytes(40_000))),
    "a text to count": (InvalidArgument, "invalid_channel", lambda scene: scene.client.member_counts("lobby")),
    "nothing to count": (InvalidArgument, "invalid_channel", lambda scene: scene.client.member_counts([])),
    "too much to count": (
        InvalidArgument,
        "too_many_names",
        lambda scene: scene.client.member_counts([f"room {number}" for number in range(33)]),
    ),
    "members behind no uid": (InvalidArgument, "invalid_uid", lambda scene: scene.channel.members(after="ü")),
    "history both ways": (InvalidArgument, "invalid_offset", lambda scene: scene.channel.history(before=1, after=1)),
    "history of no offset": (InvalidArgument, "invalid_offset", lambda scene: scene.channel.history(after=-1)),
    "too much history": (InvalidArgument, "invalid_limit", lambda scene: scene.channel.history(limit=257)),
    "no attributes": (InvalidArgument, "invalid_attribute", lambda scene: scene.client.set_attributes(None)),
    "attributes of bytes": (
        InvalidArgument,
        "invalid_attribute",
        lambda scene: scene.client.merge_attributes({"k": b"v"}),
    ),
    "large attribute": (
        InvalidArgument,
        "attribute_too_large",
        lambda scene: scene.client.set_attributes({"k": "v" * 8193}),
    ),
    "one key": (InvalidArgument, "invalid_attribute", lambda scene: scene.client.delete_attributes("key")),
    "no key": (InvalidArgument, "invalid_attribute", lambda scene: scene.client.delete_attributes(iter(()))),
    "keys without end": (
        InvalidArgument,
        "too_many_names",
        lambda scene: scene.client.get_attributes(keys=map(str, itertools.count())),
    ),
    "revision": (
        InvalidArgument,
        "invalid_revision",
        lambda scene: scene.client.clear_attributes(expected_revision=-1),
    ),
    "attributes of no channel": (
        InvalidArgument,
        "invalid_channel",
        lambda scene: scene.client.clear_channel_attributes(""),
    ),
    "attributes of no user": (InvalidArgument, "invalid_uid", lambda scene: scene.client.get_attributes("")),
    "no event": (InvalidArgument, "invalid_argument", lambda scene: scene.client.on(str, print)),
    "no class": (InvalidArgument, "invalid_argument", lambda scene: scene.client.on([MemberJoined], print)),
    "no handler": (InvalidArgument, "invalid_argument", lambda scene: scene.client.on(MemberJoined, "print")),
    **{
        f"timeout {timeout!r} of {name}": (InvalidArgument, "invalid_timeout", make(timeout))
        for timeout in _TIMEOUTS
        for name, make in {
            "login": lambda timeout: lambda scene: scene.client.login("alice", timeout=timeout),
            "logout": lambda timeout: lambda scene: scene.client.logout(timeout=timeout),
            "join": lambda timeout: lambda scene: scene.client.join("lobby 2", timeout=timeout),
            "renew_token": lambda timeout: lambda scene: scene.client.renew_token("token", timeout=timeout),
            "send": lambda timeout: lambda scene: scene.channel.send("x", timeout=timeout),
            "leave": lambda timeout: lambda scene: scene.channel.leave(timeout=timeout),
            "members": lambda timeout: lambda scene: scene.channel.members(timeout=timeout),
            "history": lambda timeout: lambda scene: scene.channel.history(timeout=timeout),
            "member_counts": lambda timeout: lambda scene: scene.client.member_counts(["lobby"], timeout=timeout),
            "get_attributes": lambda timeout: lambda scene: scene.client.get_attributes(timeout=timeout),
        }.items()
    },
}
# She has left the lobby.
LEFT: dict[str, tuple[type[RtmError], str, Mistake]] = {
    "send after leave": (NotJoined, "not_joined", lambda scene: scene.channel.send("x")),
    "second leave": (NotJoined, "not_joined", lambda scene: scene.channel.leave()),
    "members after leave": (NotJoined, "not_joined", lambda scene: scene.channel.members()),
    "history after leave": (NotJoined, "not_joined", lambda scene: scene.channel.history()),
}
# The client is closed, and the server after it.
CLOSED: dict[str, tuple[type[RtmError], str, Mistake]] = {
    name: (ClientClosed, "closed", mistake)
    for name, mistake in {
        "login of a closed client": lambda scene: scene.client.login("alice"),
        "logout of a closed client": lambda scene: scene.client.logout(),
        "join of a closed client": lambda scene: scene.client.join("lobby"),
        "send of a closed client": lambda scene: scene.channel.send("x"),
        "leave of a closed client": lambda scene: scene.channel.leave(),
        "members of a closed client": lambda scene: scene.channel.members(),
        "history of a closed client": lambda scene: scene.channel.history(),
        "member_counts of a closed client": lambda scene: scene.client.member_counts(["lobby"]),
        "get_attributes of a closed client": lambda scene: scene.client.get_attributes(),
        "renew_token of a closed client": lambda scene: scene.client.renew_token("token"),
        "retry_now of a closed client": lambda scene: scene.client.retry_now(),
        "on of a closed client": lambda scene: scene.client.on(MemberJoined, print),
        "with a closed client": lambda scene: scene.enter(scene.client),
        "its events": lambda scene: scene.step(scene.client.events()),
        "its messages": lambda scene: scene.step(scene.channel),
        "the events of its channel": lambda scene: scene.step(scene.channel.events()),
    }.items()
} | {
    "with a closed server": (InvalidState, "invalid_state", lambda scene: scene.enter(scene.server)),
    "kick of a closed server": (InvalidState, "closed", lambda scene: scene.server.kick("alice")),
}
for _name in ("online_status", "subscribe_online_status", "unsubscribe_online_status"):

    def _call(uids: Any, name: str = _name, **options: Any) -> Mistake:
        return lambda scene: getattr(scene.client, name)(uids, **options)

    AT_FIRST[f"{_name} at first"] = NotConnected, "not_connected", _call(["alice"])
    MEANWHILE |= {
        f"one uid of {_name}": (InvalidArgument, "invalid_uid", _call("alice")),
        f"no uids of {_name}": (InvalidArgument, "invalid_uid", _call([])),
        f"a number for uids of {_name}": (InvalidArgument, "invalid_uid", _call(5)),
        f"too many uids of {_name}": (InvalidArgument, "too_many_names", _call([str(uid) for uid in range(513)])),
        **{
            f"timeout {timeout!r} of {_name}": (InvalidArgument, "invalid_timeout", _call(["a"], timeout=timeout))
            for timeout in _TIMEOUTS
        },
    }
    CLOSED[f"{_name} of a closed client"] = ClientClosed, "closed", _call(["alice"])
MISTAKES = AT_FIRST | MEANWHILE | LEFT | CLOSED


async def _settled(value: Any) -> Any:
    return await value if isinstance(value, Awaitable) else value


async def _make_mistakes(package: Any) -> dict[str, Any]:
    answers: dict[str, Any] = {}

    async def make(mistakes: dict[str, tuple[type[RtmError], str, Mistake]]) -> None:
        for name, (_, _, mistake) in mistakes.items():
            try:
                await _settled(mistake(scene))
            except Exception as error:
                hidden = error.__suppress_context__ or error.__context__ is None
                answers[name] = type(error), getattr(error, "code", None), str(error), hidden
            else:
                answers[name] = None

    server = package.Server(authenticate=allow_any_uid)
    await _settled(server.start())
    scene = Scene(package, server, package.Client(server.url))
    try:
        await make(AT_FIRST)
        await _settled(scene.client.login("alice"))
        scene.channel = await _settled(scene.client.join("lobby"))
        await make(MEANWHILE)
        await _settled(scene.channel.leave())
        await make(LEFT)
    finally:
        await _settled(scene.client.close())
        await _settled(server.close())
    await make(CLOSED)
    return answers


@pytest.fixture(scope="module")
def answers() -> list[dict[str, Any]]:
    # The blocking calls may be made on a loop: their I/O has a thread of its own.
    return [asyncio.run(_make_mistakes(package)) for package in (rtm_sync, rtm_async)]


@pytest.mark.parametrize("name", MISTAKES)
def test_the_same_mistake_has_the_same_answer(name: str, answers: list[dict[str, Any]]) -> None:
    """S37, S54: same class, same code, same words."""
    cls, code, _ = MISTAKES[name]
    blocking, waiting = (answer[name] for answer in answers)
    assert blocking == waiting
    assert blocking[:2] == (cls, code)
    assert blocking[2]
    assert blocking[3], "nothing that came before is shown in the traceback"
