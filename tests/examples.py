"""How many examples a property is tried with."""

from __future__ import annotations

from typing import Any

from hypothesis import settings


def examples(count: int, **more: Any) -> settings:
    """Settings for ``count`` examples in the whole suite, and proportionally fewer where the profile asks for fewer."""
    whole = settings.get_profile("iotcloud").max_examples
    return settings(max_examples=max(2, count * settings().max_examples // whole), **more)
