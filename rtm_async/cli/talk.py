"""``rtm listen`` and ``rtm send``: a client for the terminal."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import sys
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterable, AsyncIterator
from pathlib import Path
from typing import Any

import rtm_async
from rtm_sansio.config import ClientConfig
from rtm_sansio.errors import ChannelUnavailable, RtmError, SessionEnded
from rtm_sansio.events import (
    ChannelLost,
    ChannelMessageReceived,
    ConnectionStateChanged,
    EventsDropped,
    MemberJoined,
    MemberLeft,
    MessagesLost,
    ReconnectProblem,
    SendReceipt,
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
    status, signal_number = run_until_signal(_listen(_client(url, ca_file), uid, token, channels))
    return 128 + signal_number if signal_number is not None else status


def send(
    url: str, uid: str, token: str | None, channel: str, message: str | None, *, ca_file: Path | None = None
) -> int:
    """Send one message, or each line of stdin, and print the receipts."""
    status, signal_number = run_until_signal(_send(_client(url, ca_file), uid, token, channel, message))
    return 128 + signal_number if signal_number is not None else status


def _client(url: str, ca_file: Path | None) -> rtm_async.Client:
    if ca_file is None:
        return rtm_async.Client(url, config=_CONFIG)
    if not url.lower().startswith("wss://"):
        raise CommandFailed(f"--ca is for a URL that begins with wss://, and this one is {printable(url)}")
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except (OSError, ValueError) as fault:
        raise CommandFailed(f"cannot use the CA file {ca_file}: {fault}; it must hold certificates in PEM") from fault
    return rtm_async.Client(url, config=_CONFIG, ssl=context)


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
        case MemberJoined():
            return (*_in(event.channel), ("→ ", "green"), f"{printable(event.uid)} joined")
        case MemberLeft():
            cause = event.cause.name.lower().replace("_", " ")
            left = "left" if cause == "left" else f"left ({cause})"
            return (*_in(event.channel), ("← ", "yellow"), f"{printable(event.uid)} {left}")
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
    return ((f"{printable(channel)}  ", "cyan"),)


def _say(*parts: str | tuple[str, str]) -> None:
    say((time.strftime("%H:%M:%S  "), "dim"), *parts)


# --- listen


async def _listen(client: rtm_async.Client, uid: str, token: str | None, names: tuple[str, ...]) -> int:
    async with client, _printing(client.events()) as states:
        await client.login(uid, token)
        channels: list[rtm_async.Channel] = []
        for name in dict.fromkeys(names):
            channel = await client.join(name)
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


async def _send(client: rtm_async.Client, uid: str, token: str | None, name: str, message: str | None) -> int:
    async with client:
        await client.login(uid, token)
        channel = await client.join(name)
        if message is not None and message != "-":
            _tell_receipt(await channel.send(message), message)
        else:
            async for line in _lines_of_stdin():
                _tell_receipt(await channel.send(line), line)
        await client.logout()
    return 0


def _tell_receipt(receipt: SendReceipt, message: str) -> None:
    say(("✔ ", "green"), f"{printable(message)}  ", (f"offset {receipt.offset}", "dim"))


async def _lines_of_stdin() -> AsyncIterator[str]:
    """The lines of stdin, read in a daemon thread: a read of a terminal cannot be cancelled, and must not
    hold up the end.
    """
    loop = asyncio.get_running_loop()
    lines: asyncio.Queue[str | UnicodeDecodeError | None] = asyncio.Queue()
    room = threading.Semaphore(64)

    def read() -> None:
        last: UnicodeDecodeError | None = None
        try:
            for line in sys.stdin:
                room.acquire()
                loop.call_soon_threadsafe(lines.put_nowait, line.rstrip("\r\n"))
        except UnicodeDecodeError as fault:
            last = fault
        with contextlib.suppress(RuntimeError):  # the loop has ended first
            loop.call_soon_threadsafe(lines.put_nowait, last)

    threading.Thread(target=read, name="rtm-stdin", daemon=True).start()
    while (line := await lines.get()) is not None:
        if isinstance(line, UnicodeDecodeError):
            raise CommandFailed(f"the standard input is not text in {line.encoding}")
        room.release()
        if line:
            yield line
