"""``rtm listen`` and ``rtm send``: a client for the terminal."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import sys
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import rtm_async
from rtm_sansio.checks import check_name
from rtm_sansio.config import ClientConfig, ServerConfig
from rtm_sansio.errors import (
    ChannelUnavailable,
    InvalidArgument,
    InvalidState,
    LoginFailed,
    NotConnected,
    Outcome,
    RequestTimeout,
    RtmError,
    SessionEnded,
)
from rtm_sansio.events import (
    ChannelLost,
    ChannelMessageReceived,
    ConnectionStateChanged,
    EventsDropped,
    MemberCountChanged,
    MemberJoined,
    MemberLeft,
    MembersResumed,
    MessageReceived,
    MessagesLost,
    ReconnectProblem,
    TokenExpired,
    TokenWillExpire,
)
from rtm_sansio.states import ConnectionState

from .running import CommandFailed, printable, run_until_signal, say

Parts = tuple["str | tuple[str, str]", ...]

_CONFIG = ClientConfig(logout_timeout_seconds=1.0)
"""Somebody waits for the prompt: a server that does not answer the logout is not waited for as long as
usual.
"""
_LAST_NEWS_SECONDS = 0.5

STATE_STYLES = {
    ConnectionState.DISCONNECTED: "dim",
    ConnectionState.CONNECTING: "cyan",
    ConnectionState.CONNECTED: "green",
    ConnectionState.RECONNECTING: "yellow",
    ConnectionState.ABORTED: "red",
}


def listen(url: str, uid: str, token: str | None, channels: tuple[str, ...], *, ca_file: Path | None = None) -> int:
    """Print what happens in the channels until a signal; then the status is 128 and the number of the
    signal.
    """
    _check_channels(channels)
    status, signal_number = run_until_signal(_listen(_client(url, ca_file), uid, token, channels))
    return 128 + signal_number if signal_number is not None else status


def send(
    url: str, uid: str, token: str | None, channel: str, message: str | None, *, ca_file: Path | None = None
) -> int:
    """Send one message, or each line of stdin, and print the receipts."""
    _check_channels([channel])
    if message is not None:
        _check_text(message)
    status, signal_number = run_until_signal(_send(_client(url, ca_file), uid, token, channel, message))
    return 128 + signal_number if signal_number is not None else status


def _check_channels(names: Iterable[str]) -> None:
    """Raise InvalidArgument for names that no server takes, before one is asked."""
    for name in names:
        # How long a name may be is the server's to say.
        check_name(name, "channel", max(ServerConfig().max_name_length, len(name)))


def _check_text(message: str) -> None:
    try:
        message.encode()
    except UnicodeEncodeError as fault:  # the bytes of the command line were none
        raise CommandFailed("the message is not text in UTF-8") from fault


def _client(url: str, ca_file: Path | None) -> rtm_async.Client:
    if "@" in url.partition("://")[2].partition("/")[0]:
        raise CommandFailed("the URL must not hold a user name or password; give the token with --token")
    if ca_file is None:
        return rtm_async.Client(url, config=_CONFIG)
    if not url.lower().startswith("wss://"):
        raise CommandFailed(f"--ca is for a URL that begins with wss://, and this one is {printable(url)}")
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except (OSError, ValueError) as fault:
        raise CommandFailed(f"cannot use the CA file {ca_file}: {fault}; it must hold certificates in PEM") from fault
    return rtm_async.Client(url, config=_CONFIG, ssl=context)


# --- what goes wrong, in the terms of the command line


async def _login(client: rtm_async.Client, uid: str, token: str | None) -> None:
    try:
        await client.login(uid, token)
    except LoginFailed as fault:
        if fault.code != "certificate_not_trusted":
            raise
        first: BaseException = fault
        while first.__cause__ is not None:
            first = first.__cause__
        raise CommandFailed(
            f"the server's certificate is not trusted: {first}; for a CA of your own give --ca FILE"
        ) from fault


async def _join(client: rtm_async.Client, name: str) -> rtm_async.Channel:
    try:
        return await client.join(name)
    except RequestTimeout as fault:
        raise CommandFailed(f"cannot join {name}: {_what_was_late(client)}") from fault
    except NotConnected as fault:
        raise CommandFailed(f"cannot join {name}: the server has ended the session") from fault


def _what_was_late(client: rtm_async.Client) -> str:
    seconds = f"{_CONFIG.request_timeout_seconds:g} s"
    if client.state is ConnectionState.RECONNECTING:
        return f"the connection to the server was lost, and did not come back within {seconds}"
    return f"no answer from the server within {seconds}"


async def _why_ended(channel: rtm_async.Channel, uid: str) -> str:
    """Why nothing can be sent to a channel any more: its iterator knows."""
    try:
        async for _ in channel.events():
            pass
    except SessionEnded as ended:
        return _describe_end(ended, uid)
    except ChannelUnavailable as lost:
        return str(lost)
    return f"the channel {channel.name} has ended"


# --- what is printed


def describe(event: Any) -> Parts:
    """One event as the parts of a line."""
    match event:
        case ConnectionStateChanged():
            reason = event.reason.value.lower().replace("_", " ")
            why = f": {printable(event.message)}" if event.message else ""
            return (
                ("● ", STATE_STYLES[event.state]),
                (event.state.value, STATE_STYLES[event.state]),
                f"  {reason}{why}",
            )
        case ChannelMessageReceived():
            text = event.message if isinstance(event.message, str) else repr(event.message)
            return (*_in(event.channel), (f"{printable(event.uid)}: ", "bold"), printable(text))
        case MessageReceived():
            text = event.message if isinstance(event.message, str) else repr(event.message)
            about = f"[{printable(event.description)}] " if event.description else ""
            kept = (("  (kept)", "dim"),) if event.kept else ()
            return (*_in(""), (f"{printable(event.uid)}: ", "bold"), f"{about}{printable(text)}", *kept)
        case MemberJoined():
            return (*_in(event.channel), ("→ ", "green"), f"{printable(event.uid)} joined")
        case MemberLeft():
            cause = event.cause.name.lower().replace("_", " ")
            left = "left" if cause == "left" else f"left ({cause})"
            return (*_in(event.channel), ("← ", "yellow"), f"{printable(event.uid)} {left}")
        case MemberCountChanged():
            return (*_in(event.channel), (f"{event.member_count} members", "dim"))
        case MembersResumed():
            return (*_in(event.channel), ("joins and leaves are told again", "dim"))
        case MessagesLost():
            if event.count is None:
                return (*_in(event.channel), ("! the server restarted; messages from before may be missing", "yellow"))
            return (*_in(event.channel), (f"✘ {event.count} messages are lost", "red"))
        case ChannelLost():
            return (
                *_in(event.channel),
                (f"✘ the channel is lost: {printable(event.message)} ({event.code})", "red"),
            )
        case EventsDropped():
            return ((f"✘ {event.count} events were dropped", "red"),)
        case TokenWillExpire():
            return ((f"! the token expires in {event.expires_in:.0f} s", "yellow"),)
        case TokenExpired():
            return (("! the token has expired: start again with a new one", "yellow"),)
        case ReconnectProblem():
            return ((f"! reconnecting: {printable(event.message)} ({event.code})", "yellow"),)
        case _:
            return (printable(str(event)),)


def _in(channel: str) -> Parts:
    """Where an event happened: a channel, or (empty) one's own inbox."""
    return ((f"{printable(channel) or 'to you'}  ", "cyan"),)


def _say(*parts: str | tuple[str, str]) -> None:
    say((time.strftime("%H:%M:%S  "), "dim"), *parts)


# --- listen


async def _listen(client: rtm_async.Client, uid: str, token: str | None, names: tuple[str, ...]) -> int:
    async with client, _printing(client.events()) as states:
        await _login(client, uid, token)
        channels: list[rtm_async.Channel] = []
        for name in dict.fromkeys(names):
            try:
                channel = await _join(client, name)
            except InvalidArgument as fault:
                if fault.code != "too_many_channels":
                    raise
                count = len(dict.fromkeys(names))
                raise CommandFailed(
                    f"{count} channels are too many: this server allows {len(channels)} at a time"
                ) from fault
            channels.append(channel)
            _say(*_in(name), _describe_joined(channel, uid))
        try:
            ends = await asyncio.gather(*(_follow(channel) for channel in channels))
        except SessionEnded as ended:
            # The news of why the session ended has its own way to the screen.
            await asyncio.wait([states], timeout=_LAST_NEWS_SECONDS)
            raise CommandFailed(_describe_end(ended, uid)) from ended
    # All channels are lost: there is nothing to listen to any more.
    raise ends[0]


def _describe_end(ended: SessionEnded, uid: str) -> str:
    if ended.code == "remote_login":
        return f"{uid} has logged in elsewhere, which ends it here"
    return f"the server has ended the session ({ended.code})"


def _describe_joined(channel: rtm_async.Channel, uid: str) -> str:
    receipt = channel.receipt
    others = [printable(member) for member in receipt.members or () if member != uid]
    if receipt.members is None:
        return f"joined, with {receipt.member_count - 1} others"
    return f"joined, with {', '.join(others)}" if others else "joined, nobody else is here"


async def _follow(channel: rtm_async.Channel) -> RtmError:
    """Print the events of one channel to its end; its loss ends this one alone, the end of the session all of
    them.
    """
    try:
        await _print_all(channel.events())
    except ChannelUnavailable as lost:
        return lost
    return ChannelUnavailable(f"channel {channel.name!r} has ended")


async def _print_all(events: AsyncIterable[Any]) -> None:
    async for event in events:
        _say(*describe(event))


@contextlib.asynccontextmanager
async def _printing(events: AsyncIterable[Any]) -> AsyncGenerator[asyncio.Task[None], None]:
    """Print these events for as long as the block runs; what ends them is not this task's to tell."""
    task = asyncio.ensure_future(_print_all(events))
    try:
        yield task
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


# --- send


_FATES = {Outcome.NOT_SENT: "was not sent", Outcome.REFUSED: "was refused", Outcome.UNKNOWN: "may have been sent"}


async def _send(client: rtm_async.Client, uid: str, token: str | None, name: str, message: str | None) -> int:
    async with client:
        await _login(client, uid, token)
        channel = await _join(client, name)
        if message is not None and message != "-":
            await _send_one(client, channel, message)
        else:
            async for number, line in _lines_of_stdin():
                await _send_one(client, channel, line, line_number=number)
        await client.logout()
    return 0


async def _send_one(
    client: rtm_async.Client, channel: rtm_async.Channel, message: str, *, line_number: int | None = None
) -> None:
    what = "the message" if line_number is None else _line(line_number)
    try:
        receipt = await channel.send(message)
    except RequestTimeout as fault:
        raise CommandFailed(f"{_what_was_late(client)}; {what} {_FATES[fault.outcome]}") from fault
    except (NotConnected, InvalidState) as fault:
        why = await _why_ended(channel, client.uid or "")
        raise CommandFailed(f"{why}; {what} was not sent") from fault
    except RtmError as fault:
        raise CommandFailed(str(fault) if line_number is None else f"{what}: {fault}") from fault
    say(("✔ ", "green"), f"{printable(message)}  ", (f"offset {receipt.offset}", "dim"))


def _line(number: int) -> str:
    return f"line {number} of the standard input"


async def _lines_of_stdin() -> AsyncIterator[tuple[int, str]]:
    """The lines of stdin that are not empty, with their numbers, read in a daemon thread: a read of a terminal cannot
    be cancelled, and must not hold up the end.

    They are read as bytes: as texts they may come with surrogates in place of what is no text.
    """
    if sys.stdin is None:  # pyright: ignore[reportUnnecessaryComparison]  # a closed one
        raise CommandFailed("the standard input is closed; give a MESSAGE")
    stdin = sys.stdin
    loop = asyncio.get_running_loop()
    lines: asyncio.Queue[tuple[int, str] | CommandFailed | None] = asyncio.Queue()
    room = threading.Semaphore(64)

    def read() -> None:
        number = 0
        last: CommandFailed | None = None
        try:
            for raw in stdin.buffer:
                number += 1
                line = raw.decode(stdin.encoding).rstrip("\r\n")
                room.acquire()
                loop.call_soon_threadsafe(lines.put_nowait, (number, line))
        except UnicodeDecodeError:
            last = CommandFailed(f"{_line(number)} is not text in {stdin.encoding.upper()}")
        except OSError as fault:
            last = CommandFailed(f"cannot read the standard input: {fault.strerror}")
        with contextlib.suppress(RuntimeError):  # the loop has ended first
            loop.call_soon_threadsafe(lines.put_nowait, last)

    threading.Thread(target=read, name="rtm-stdin", daemon=True).start()
    while (found := await lines.get()) is not None:
        if isinstance(found, CommandFailed):
            raise found
        room.release()
        if found[1]:
            yield found
