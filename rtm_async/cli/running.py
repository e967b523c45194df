"""What the commands share: the event loop with its signals, the console, and the error that ends a
command.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console

DEFAULT_PORT = 8765
DEFAULT_URL = f"ws://127.0.0.1:{DEFAULT_PORT}"

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


class CommandFailed(Exception):
    """Ends the command with one line on stderr, which says what to do, and exit status 2."""


def console() -> Console:
    """A console on the present stdout: coloured on a terminal, plain text in a pipe."""
    from rich.console import Console

    return Console(highlight=False, soft_wrap=True)


def say(*parts: str | tuple[str, str]) -> None:
    """Print one line, made of texts and of (text, style) pairs; nothing in a text is taken for markup."""
    from rich.text import Text

    console().print(Text.assemble(*parts))


def printable(text: str) -> str:
    """A stranger's text, with escapes in place of what could move the cursor or change colours."""
    return "".join(one if one.isprintable() else one.encode("unicode_escape").decode("ascii") for one in text)


def one_line(text: str) -> str:
    """The text of an error on one line."""
    return " ".join(text.split())


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """uvloop's, if it is installed; None for asyncio's own."""
    try:
        import uvloop
    except ImportError:
        return None
    factory: Callable[[], asyncio.AbstractEventLoop] = uvloop.new_event_loop
    return factory


def run_until_signal(work: Coroutine[Any, Any, int], *, fast: bool = False) -> tuple[int, int | None]:
    """Run ``work`` to its end, or cancel it at the first SIGINT or SIGTERM, which it may use to tidy up.

    Returns what it returned, or 0, and the number of the signal, or None. A second signal does not wait: it
    raises KeyboardInterrupt. With ``fast`` under uvloop, if that is installed.
    """
    with asyncio.Runner(loop_factory=loop_factory() if fast else None) as runner:
        return runner.run(_supervise(work))


async def _supervise(work: Coroutine[Any, Any, int]) -> tuple[int, int | None]:
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(work)
    stopped_by: list[int] = []

    def stop(number: int) -> None:
        # From here on the signals do again what they do by default.
        forget()
        stopped_by.append(number)
        task.cancel()

    def forget() -> None:
        for each in _SIGNALS:
            loop.remove_signal_handler(each)

    try:
        for each in _SIGNALS:
            loop.add_signal_handler(each, stop, each)
    except NotImplementedError:  # pragma: no cover  # Windows: KeyboardInterrupt is all there is
        signal.signal(signal.SIGINT, signal.default_int_handler)
        return await task, None
    try:
        result = await task
    except asyncio.CancelledError:
        if not stopped_by:
            raise
        result = 0
    finally:
        forget()
    return result, stopped_by[0] if stopped_by else None


def lacks_unicode() -> bool:
    """Whether stdout cannot show box and block characters."""
    encoding = (getattr(sys.stdout, "encoding", None) or "ascii").lower()
    return encoding.replace("-", "") not in ("utf8", "utf16", "utf32", "cp65001")
