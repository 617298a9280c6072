"""TLS with certificates from files, which may be renewed while a connection lives."""

from __future__ import annotations

import contextlib
import ssl
from pathlib import Path

from brokers.kafka.failures import Trouble
from brokers.kafka.options import KafkaOptions


class Encryption:
    """One context for all connections of a link. Raises `Trouble` when the files cannot be read."""

    def __init__(self, options: KafkaOptions) -> None:
        self._options = options
        self._files = [Path(name) for name in (options.ca, options.cert, options.key) if name]
        self._read_at = self._changed()
        try:
            self.context = ssl.create_default_context(cafile=options.ca or None)
            self._load_own()
        except (OSError, ssl.SSLError) as error:
            names = ", ".join(map(str, self._files))
            raise Trouble(error, f"cannot read the certificates {names}: {error}") from error

    def renew(self) -> None:
        """Read files that have changed, for the connections made from here on; while they cannot be read, nothing changes."""
        changed = self._changed()
        if changed == self._read_at:
            return
        with contextlib.suppress(OSError, ssl.SSLError):
            self._load_own()
            if self._options.ca:
                self.context.load_verify_locations(self._options.ca)
            self._read_at = changed

    def _load_own(self) -> None:
        if self._options.cert:
            self.context.load_cert_chain(self._options.cert, self._options.key)

    def _changed(self) -> list[int]:
        """When each was written, ns; 0 for one that is missing."""
        return [path.stat().st_mtime_ns if path.exists() else 0 for path in self._files]
