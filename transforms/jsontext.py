"""JSON text of values as events hold them. Infinity and not-a-number, which JSON cannot write, become null."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from typing import Any


def json_text(
    value: object,
    *,
    default: Callable[[Any], object] | None = None,
    sort_keys: bool = False,
    ensure_ascii: bool = True,
) -> str:
    """``value`` as strict JSON. ``default`` gives a form to what has none, as for `json.dumps`."""
    return json.dumps(finite(value), default=default, sort_keys=sort_keys, ensure_ascii=ensure_ascii, allow_nan=False)


def finite(value: Any) -> Any:
    """``value`` with null in the place of every number that is infinite or none, at any depth."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return value
