"""The command line ``rtm``: serve, token, listen, send, demo.

Here is what comes before its commands can be imported, which is most of its start: a Ctrl-C in that time ends it
without a word as well, and a package that is missing is named.
"""

from __future__ import annotations

import os
import sys
from types import FrameType

_EXIT_FAILURE = 2
_EXIT_INTERRUPTED = 130


def main() -> int:
    """Run the command line with ``sys.argv`` and return the exit status.

    It is for a process of its own: it changes what SIGINT does.
    """
    try:
        _leave_at_interrupts()
        try:
            import click  # noqa: F401  # pyright: ignore[reportUnusedImport]
            import rich  # noqa: F401  # pyright: ignore[reportUnusedImport]
        except ImportError as missing:
            print(
                f"rtm: the command line needs {missing.name}; run: pip install 'rtm-sansio[server]'",
                file=sys.stderr,
            )
            return _EXIT_FAILURE
        from .app import run

        return run(sys.argv[1:])
    except KeyboardInterrupt:
        return _EXIT_INTERRUPTED


def _leave_at_interrupts() -> None:
    """End the process at a SIGINT, until the event loop of a command takes the signal over.

    A KeyboardInterrupt would not do: an import can lose it, or print it, in a callback of its own. There is nothing
    to tidy up yet.
    """
    import signal

    # Whoever started us may have told us to ignore it.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _leave)


def _leave(number: int, frame: FrameType | None) -> None:
    os._exit(_EXIT_INTERRUPTED)
