"""Broker URLs: ``local:DIR?option=value``, ``scheme://user:${PASSWORD}@host:port,host:port/path?option=value``.

Variables (``${VAR}``, as in `settings.substitution`) are expanded after the URL has been taken apart, so that a
password may hold any character. Options are checked by name against the Struct a broker declares.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, TypeVar, get_type_hints
from urllib.parse import unquote

import msgspec

from brokers.redaction import SECRET_NAME, VARIABLE, misplaced, redact
from schemas.errors import ConfigurationError
from schemas.topics import check_topic
from settings import convert, expand
from settings.substitution import secret

T = TypeVar("T", bound=msgspec.Struct)

_SCHEME: Final = re.compile(r"([a-z][a-z0-9+.-]*):")
_HELD: Final = re.compile("\0([0-9]+)\0")
_HOST: Final = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.%]+)\]|(?P<name>[^:\[\]]*))(?::(?P<port>[0-9]+))?")
_FORM: Final = "write it as local:DIR, or scheme://user@host:port/path?option=value"


@dataclass(frozen=True, slots=True)
class Host:
    """A server's address; ``port`` is None where the URL names none."""

    name: str
    port: int | None


@dataclass(frozen=True, slots=True)
class BrokerUrl:
    """A URL taken apart, with its variables expanded. Only `redacted` may be shown."""

    scheme: str
    #: Without anything secret: variables unexpanded, passwords as ``***``.
    redacted: str
    user: str = ""
    password: str = field(default="", repr=False)
    hosts: tuple[Host, ...] = ()
    #: Without the slash that ends the hosts; for ``local:`` all of the directory.
    path: str = ""
    options: Mapping[str, str] = field(default_factory=dict, repr=False)

    def options_as(self, kind: type[T]) -> T:
        """The options as ``kind``, whose defaults stand for those not given.

        Fields are text, numbers, ``bool``, `settings.Seconds` and `settings.Bytes`; one whose name says it is
        a secret (password, token …) may be ``file:PATH``. Raises `ConfigurationError`, with the nearest valid name.
        """
        hints = get_type_hints(kind)
        names = {spec.encode_name: hints[spec.name] for spec in msgspec.structs.fields(kind)}
        values = {name: self._value(name, text, names.get(name)) for name, text in self.options.items()}
        return convert(values, kind, origin=self.redacted)

    def _value(self, name: str, text: str, hint: Any) -> Any:
        if SECRET_NAME.search(name):
            return secret(text, origin=f"{self.redacted}: {name}")
        if hint in (int, float, bool):
            try:
                return msgspec.convert(text, hint, strict=False)
            except msgspec.ValidationError as error:
                raise ConfigurationError(f"{self.redacted}: {name}: {error}") from None
        return text


def parse_url(text: str, environment: Mapping[str, str] | None = None) -> BrokerUrl:
    """Take ``text`` apart. Raises `ConfigurationError` for a wrong form or a variable that is not set.

    No error shows a password, nor what may be a part of one.
    """
    variables = os.environ if environment is None else environment
    if text.startswith("${"):
        text = str(expand(text, variables, origin="broker URL"))
    held = VARIABLE.findall(text)
    numbers = iter(range(len(held)))
    plain = VARIABLE.sub(lambda _: f"\0{next(numbers)}\0", text)
    match = _SCHEME.match(plain)
    if match is None:
        raise ConfigurationError(f"{redact(text)!r} is not a broker URL", remedy=_FORM)
    shown = redact(text)
    _check_password(text)

    def filled(part: str) -> str:
        whole = _HELD.sub(lambda found: held[int(found[1])], part)
        return str(expand(unquote(whole) if whole == part else whole, variables, origin=shown))

    rest, _, query = plain[match.end() :].partition("?")
    options = dict(_option(pair, filled, shown) for pair in query.split("&") if pair)
    if not rest.startswith("//"):
        path = os.path.expanduser(filled(rest))  # noqa: PTH111  (the path may belong to a foreign broker)
        return BrokerUrl(match[1], shown, path=path, options=options)
    authority, _, path = rest[2:].partition("/")
    userinfo, _, hosts = authority.rpartition("@")
    user, _, password = userinfo.partition(":")
    return BrokerUrl(
        match[1],
        shown,
        user=filled(user),
        password=secret(filled(password), origin=shown),
        hosts=tuple(_host(part, shown) for part in filled(hosts).split(",") if part),
        path=filled(path),
        options=options,
    )


def split_topics(text: str) -> tuple[str, tuple[str, ...]]:
    """Split ``URL/TOPIC`` or ``URL/TOPIC,TOPIC`` into the URL, with its options, and the topics.

    Raises `ConfigurationError` when no topic is named.
    """
    _check_password(text)
    address, mark, query = text.partition("?")
    url, slash, names = address.rpartition("/")
    if not slash or not names or url.endswith(("/", ":")):
        raise ConfigurationError(f"{redact(text)!r} names no topic", remedy="end the URL with /TOPIC")
    return url + mark + query, tuple(check_topic(name) for name in names.split(","))


def directory_of(url: BrokerUrl) -> Path:
    """The directory of a URL of the form ``scheme:DIR``. Raises `ConfigurationError` when there is none."""
    if not url.path or url.hosts:
        raise ConfigurationError(f"{url.redacted}: names no directory", remedy=f"write it as {url.scheme}:DIR")
    return Path(url.path)


def _check_password(text: str) -> None:
    if misplaced(text):
        raise ConfigurationError(
            f"{redact(text)}: there is an '@' behind the first '/' or '?'",
            remedy="put a password with such characters into a variable, user:${PASSWORD}@host; elsewhere write '@' as %40",
        )


def _option(pair: str, filled: Any, shown: str) -> tuple[str, str]:
    name, equals, value = pair.partition("=")
    if not equals:
        raise ConfigurationError(f"{shown}: the option {name!r} has no value", remedy="write options as ?name=value&name=value")
    return name, filled(value)


def _host(text: str, shown: str) -> Host:
    match = _HOST.fullmatch(text)
    if match is None or (match["port"] and int(match["port"]) > 65535):
        # Its text may be a part of a password.
        raise ConfigurationError(f"{shown}: a host is not host:port", remedy=_FORM)
    return Host(match["v6"] or match["name"], int(match["port"]) if match["port"] else None)
