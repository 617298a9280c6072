"""STOMP frames as bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import stomp.utils  # type: ignore[import-untyped,import-not-found,unused-ignore]

#: STOMP 1.2, Value Encoding; stomp.py leaves it to its connections.
_ESCAPES: Final = str.maketrans({"\\": "\\\\", "\r": "\\r", "\n": "\\n", ":": "\\c"})


def frame(command: str, headers: Mapping[str, str], body: bytes = b"") -> bytes:
    """Headers are escaped in every frame: ActiveMQ undoes that also in CONNECT, where the specification knows no escapes."""
    escaped = {name: value.translate(_ESCAPES) for name, value in headers.items()}
    encoded: bytes = stomp.utils.pack(stomp.utils.convert_frame(stomp.utils.Frame(command, escaped, body)))
    return encoded
