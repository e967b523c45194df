"""Where ``serve`` and ``token`` get their key from, and which algorithm it is for."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from rtm_sansio.errors import ConfigError

from .running import CommandFailed

KEY_VARIABLE = "RTM_JWT_KEY"
_MAX_KEY_BYTES = 64 * 1024
_PEM_ALGORITHMS = ("RS256", "ES256", "ES384", "EdDSA")


def find_key(key_file: Path | None) -> str | bytes | None:
    """The key of the file, or of the environment; None if there is neither."""
    if key_file is None:
        return os.environ.get(KEY_VARIABLE) or None
    content = read_file(key_file, "key")
    # Editors and `openssl rand -hex 32 > key` end the line; it is no part of the secret.
    return content.removesuffix(b"\n").removesuffix(b"\r")


def read_file(path: Path, what: str) -> bytes:
    """The content of a small file of the user's, or a CommandFailed that names it."""
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_KEY_BYTES + 1)
    except OSError as fault:
        raise CommandFailed(
            f"cannot read the {what} file {path}: {fault.strerror}; check its name and rights"
        ) from fault
    if not content.strip():
        raise CommandFailed(f"the {what} file {path} is empty")
    if len(content) > _MAX_KEY_BYTES:
        raise CommandFailed(f"the {what} file {path} is larger than {_MAX_KEY_BYTES} bytes; is it the right one?")
    return content


def fitting_algorithm(key: str | bytes, accepts: Callable[[str], object]) -> str:
    """The algorithm that a key is for: HS256 for a secret, for a PEM text the first for which ``accepts``
    raises no ConfigError.

    It follows from the operator's key alone, never from a token.
    """
    pem_mark = "-----BEGIN " if isinstance(key, str) else b"-----BEGIN "
    if pem_mark not in key:  # type: ignore[operator]
        return "HS256"
    for algorithm in _PEM_ALGORITHMS:
        try:
            accepts(algorithm)
        except ConfigError:
            continue
        return algorithm
    raise CommandFailed(
        f"the key is none of {', '.join(_PEM_ALGORITHMS)}, too short, or the wrong half (a server takes the "
        "public one, "
        "`rtm token` the private one)"
    )
