"""Who may come in: one token, kept in a file that only its owner reads; none on loopback when asked for."""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from schemas.errors import ConfigurationError

_FILE: Final = "token"
_SHORTEST: Final = 16


@dataclass(frozen=True, slots=True)
class Credentials:
    """The token that opens the door; None when it stands open."""

    token: str | None

    def actor(self, authorization: str | None) -> str | None:
        """Who an ``Authorization`` header speaks for, as the audit log names them; None when it opens nothing."""
        if self.token is None:
            return "anonymous"
        scheme, _, given = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not hmac.compare_digest(given.strip().encode(), self.token.encode()):
            return None
        return "token:" + hashlib.sha256(self.token.encode()).hexdigest()[:8]


def token_in(directory: Path) -> tuple[str, Path]:
    """The token stored in ``directory``, made when there is none, and its file. Raises `ConfigurationError`."""
    path = directory / _FILE
    try:
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            found = path.read_text(encoding="utf-8").strip()
            if len(found) >= _SHORTEST:
                return found, path
            # Left by a process that died between making the file and writing it.
            path.unlink()
            return token_in(directory)
        with os.fdopen(descriptor, "w") as file:
            token = secrets.token_urlsafe(32)
            file.write(token + "\n")
            file.flush()
            os.fsync(file.fileno())
        return token, path
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}", remedy="give a --data directory that may be written") from error


def check_token(token: str) -> str:
    """Raises `ConfigurationError` for a token that could be guessed, or cannot stand in a header."""
    if len(token) < _SHORTEST or not token.isascii() or not token.isprintable() or " " in token:
        raise ConfigurationError(
            f"the token is shorter than {_SHORTEST} characters or not plain ASCII",
            remedy="python -c 'import secrets; print(secrets.token_urlsafe(32))' makes one",
        )
    return token


def is_loopback(host: str) -> bool:
    """Whether only programs of this machine reach ``host``."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False
