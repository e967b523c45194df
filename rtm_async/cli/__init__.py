"""The command line ``rtm``: serve, token, listen, send, demo.

Only ``main`` is here, because it must work where the packages that the commands need are missing.
"""

from __future__ import annotations

import sys


def main() -> int:
    """Run the command line with ``sys.argv`` and return the exit status."""
    try:
        import click  # noqa: F401  # pyright: ignore[reportUnusedImport]
        import rich  # noqa: F401  # pyright: ignore[reportUnusedImport]
    except ImportError as missing:
        print(
            f"rtm: the command line needs {missing.name}; run: pip install 'rtm-sansio[server]'",
            file=sys.stderr,
        )
        return 2
    from .app import run

    return run(sys.argv[1:])
