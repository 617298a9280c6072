"""URLs of stores that are servers: ``scheme://user:${PASSWORD}@host:port,host:port/name?option=value``.

Variables are expanded after the URL has been taken apart, so that a password may hold any character; one that is
``file:PATH`` stands for the file's content.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, TypeVar
from urllib.parse import unquote

import msgspec

from schemas.errors import ConfigurationError
from settings import convert, expand
from settings.substitution import secret

T = TypeVar("T", bound=msgspec.Struct)

_HOST: Final = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.%]+)\]|(?P<name>[^:\[\]]+))(?::(?P<port>[0-9]{1,5}))?")
_VARIABLE: Final = re.compile(r"\$\{[^}]*\}")


@dataclass(frozen=True, slots=True)
class Address:
    """A URL taken apart. Only `redacted` may be shown."""

    redacted: str
    #: Names and ports, at least one; port 0 where the URL names none.
    hosts: tuple[tuple[str, int], ...]
    user: str = ""
    password: str = field(default="", repr=False)
    #: What follows the hosts, without the slash.
    name: str = ""
    options: Mapping[str, str] = field(default_factory=dict, repr=False)

    def options_as(self, kind: type[T]) -> T:
        """The options as ``kind``. Raises `ConfigurationError`, with the nearest valid name."""
        return convert(dict(self.options), kind, origin=self.redacted)


def parse_address(url: str, environment: Mapping[str, str] | None = None) -> Address:
    """Raises `ConfigurationError` for a wrong form, a variable that is not set, or a file that cannot be read."""
    variables = os.environ if environment is None else environment
    address, _, query = url.partition("?")
    scheme, _, rest = address.partition("://")
    # The last @: a password in a file may have a path with slashes.
    login, at, place = rest.rpartition("@")
    user, colon, password = login.partition(":")
    shown = f"{scheme}://{user}{colon}{_masked(password)}{at}{place}" + (f"?{query}" if query else "")

    def filled(text: str) -> str:
        return str(expand(text, variables, origin=shown)) if _VARIABLE.search(text) else unquote(text)

    hosts, _, name = place.partition("/")
    return Address(
        shown,
        tuple(_host(host, shown) for host in filled(hosts).split(",")),
        filled(user),
        secret(filled(password), origin=shown),
        filled(name),
        {key: filled(value) for key, value in (_option(pair, shown) for pair in query.split("&") if pair)},
    )


def _masked(password: str) -> str:
    return password if not password or _VARIABLE.fullmatch(password) or password.startswith("file:") else "***"


def _option(pair: str, shown: str) -> tuple[str, str]:
    name, equals, value = pair.partition("=")
    if not equals:
        raise ConfigurationError(f"{shown}: the option {name!r} has no value", remedy="write options as ?name=value&name=value")
    return name, value


def _host(text: str, shown: str) -> tuple[str, int]:
    match = _HOST.fullmatch(text)
    if match is None or int(match["port"] or 0) > 65535:
        raise ConfigurationError(
            f"{shown}: {text!r} is not host:port", remedy="write it as scheme://user@host:port/name?option=value"
        )
    return match["v6"] or match["name"], int(match["port"] or 0)
