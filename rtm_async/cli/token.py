"""``rtm token``: print a token."""

from __future__ import annotations

import time
from pathlib import Path

import click

from rtm_sansio.auth import issue_token
from rtm_sansio.checks import check_name
from rtm_sansio.config import ServerConfig

from .keys import find_key, fitting_algorithm
from .running import CommandFailed


def print_token(
    key_file: Path | None, *, uid: str, lifetime_seconds: float, algorithm: str | None, key_id: str | None
) -> int:
    """Print a token for ``uid`` that is valid from now on."""
    check_name(uid, "uid", ServerConfig().max_name_length)  # else the server would refuse it at the login
    key = find_key(key_file)
    if key is None:
        raise CommandFailed("no key: give --key FILE, or put the key itself into RTM_JWT_KEY")

    def issue(algorithm: str) -> str:
        return issue_token(
            key,
            uid,
            algorithm=algorithm,
            lifetime_seconds=lifetime_seconds,
            wall_clock=time.time(),
            key_id=key_id,
        )

    click.echo(issue(algorithm or fitting_algorithm(key, issue)))
    return 0
