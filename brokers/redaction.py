"""What may be shown of a URL: passwords as ``***``, also where a slip of the pen has put one in another place.

A password holds any character as a variable. Written out, one with ``/``, ``?`` or ``@`` ends up among hosts, paths and
options, so what lies between the first colon and the last ``@`` of the whole text counts as one.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

SECRET_NAME: Final = re.compile(r"password|passphrase|secret|token|credential", re.IGNORECASE)
VARIABLE: Final = re.compile(r"\$\{[^}]*\}")
_PATH: Final = ("/", ".", "~")
#: A port that is no number: perhaps a password whose host was forgotten.
_NO_PORT: Final = re.compile(r":([^0-9:,/?\[\]][^,/?\[\]]*)")


class _Password(NamedTuple):
    begin: int
    end: int
    #: Whether it is not where a URL has its password.
    misplaced: bool


def redact(text: str) -> str:
    """``text`` with every password that is not a variable replaced by ``***``."""
    if found := _password(text):
        text = text[: found.begin] + _mask(text[found.begin : found.end]) + text[found.end :]
    elif "@" not in text:
        scheme, slashes, rest = text.partition("://")
        end = min((at for mark in "/?" if (at := rest.find(mark)) >= 0), default=len(rest))
        text = scheme + slashes + _NO_PORT.sub(lambda port: ":" + _mask(port[1]), rest[:end]) + rest[end:] if slashes else text
    address, mark, query = text.partition("?")
    pairs = [pair.partition("=") for pair in query.split("&")]
    query = "&".join(name + equals + (_mask(value) if SECRET_NAME.search(name) else value) for name, equals, value in pairs)
    return address + mark + query


def misplaced(text: str) -> bool:
    """Whether ``text`` seems to hold a password with a character that ends it too early."""
    found = _password(text)
    return found is not None and found.misplaced


def _password(text: str) -> _Password | None:
    plain = VARIABLE.sub(lambda variable: "\0" * len(variable[0]), text)
    last = plain.rfind("@")
    if last < 0:
        return None
    begin = plain.find(":") + 1
    if not plain.startswith("//", begin):
        colon = plain.find(":", begin, last)
        if colon < 0 and (begin == 0 or begin > last or plain.startswith(_PATH, begin)):
            return None
        return _Password(max(colon + 1, begin), last, misplaced=False)
    begin += 2
    end = min((at for mark in "/?" if (at := plain.find(mark, begin)) >= 0), default=len(plain))
    meant = plain.rfind("@", begin, end)
    colon = plain.find(":", begin, last)
    if colon < 0:
        return None
    if last > meant >= 0 and VARIABLE.fullmatch(text, colon + 1, meant):
        return _Password(colon + 1, meant, misplaced=False)
    return _Password(colon + 1, last, misplaced=last != meant)


def _mask(value: str) -> str:
    return value if not value or VARIABLE.fullmatch(value) or value.startswith("file:") else "***"
