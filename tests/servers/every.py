"""Which servers there are, by folder, and of which family their brokers are, without starting any."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

from brokers import connect


def names() -> list[str]:
    return sorted(module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)]) if module.ispkg)


def logs() -> list[str]:
    return [name for name in names() if _is_log(name)]


def queues() -> list[str]:
    return [name for name in names() if not _is_log(name)]


def _is_log(name: str) -> bool:
    """A server has the name of its broker."""
    scheme = importlib.import_module(f"brokers.{name}").SCHEMES[0]
    return connect(f"{scheme}://localhost").capabilities.log
