"""A driver's small durable state, on the child's side."""

from __future__ import annotations

from collections.abc import Callable, Iterator, MutableMapping
from typing import Any, Final

import msgspec

from schemas.errors import IoTCloudError

MAX_BYTES: Final = 64 * 1024


class StateError(IoTCloudError):
    """A value is no JSON, or the state has grown too large."""


class DurableState(MutableMapping[str, Any]):
    """JSON values by name. Reading gives copies: a value is changed by storing it again."""

    def __init__(self, stored: bytes, changed: Callable[[], None]) -> None:
        self._values: dict[str, msgspec.Raw] = msgspec.json.decode(stored, type=dict[str, msgspec.Raw]) if stored else {}
        # Raw values are views of the message they came in; copies let go of it.
        self._values = {name: msgspec.Raw(bytes(value)) for name, value in self._values.items()}
        self._bytes = sum(len(name) + len(bytes(value)) for name, value in self._values.items())
        self._changed = changed

    def __getitem__(self, name: str) -> Any:
        return msgspec.json.decode(self._values[name])

    def __setitem__(self, name: str, value: Any) -> None:
        try:
            encoded = msgspec.json.encode(value)
        except (TypeError, ValueError, OverflowError) as error:
            raise StateError(
                f"state[{name!r}] = {value!r} is no JSON: {error}", remedy="store text, numbers, lists, dicts"
            ) from None
        before = self._values.get(name)
        size = self._bytes + len(encoded) - (len(bytes(before)) if before is not None else -len(name))
        if size > MAX_BYTES:
            raise StateError(f"state[{name!r}]: the state would take {size} bytes", remedy=f"it may have {MAX_BYTES}")
        self._values[name] = msgspec.Raw(encoded)
        self._bytes = size
        self._changed()

    def __delitem__(self, name: str) -> None:
        self._bytes -= len(name) + len(bytes(self._values.pop(name)))
        self._changed()

    def __iter__(self) -> Iterator[str]:
        return iter(list(self._values))

    def __len__(self) -> int:
        return len(self._values)

    def remember(self) -> object:
        """What `put_back` takes."""
        return dict(self._values), self._bytes

    def put_back(self, remembered: object) -> None:
        """Be again what it was. Tells nobody."""
        assert isinstance(remembered, tuple)
        self._values, self._bytes = remembered

    def encoded(self) -> bytes:
        return msgspec.json.encode(self._values)
