"""Which servers of brokers there are, by folder, and of which family, without starting any."""

from __future__ import annotations

import importlib
import pkgutil
from pathlib import Path

import brokers


def names() -> list[str]:
    """A server has the name of its broker."""
    return sorted(_packages(Path(__file__).parent) & _packages(Path(brokers.__path__[0])))


def logs() -> list[str]:
    return [name for name in names() if _is_log(name)]


def queues() -> list[str]:
    return [name for name in names() if not _is_log(name)]


def _is_log(name: str) -> bool:
    scheme = importlib.import_module(f"brokers.{name}").SCHEMES[0]
    return brokers.connect(f"{scheme}://localhost").capabilities.log


def _packages(folder: Path) -> set[str]:
    return {module.name for module in pkgutil.iter_modules([str(folder)]) if module.ispkg}
