"""Channels to the server, with the credentials and certificates that the URL names."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any, Final

import google.auth
import grpc
from google.api_core import grpc_helpers
from google.auth import exceptions
from google.oauth2 import service_account

from brokers.errors import BrokerRefused
from brokers.pubsub.options import Target
from schemas.errors import ConfigurationError

# Untyped.
_auth: Any = google.auth
_accounts: Any = service_account.Credentials
_SCOPES: Final = ("https://www.googleapis.com/auth/pubsub",)
#: Milliseconds that a server has to say that it is there.
_ANSWER: Final = 10_000
_OPTIONS: Final = (
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", 32 << 20),
    # A channel that is made anew makes a connection of its own at once, whatever the one before has met.
    ("grpc.use_local_subchannel_pool", 1),
)


class Channels:
    """Makes channels to ``target``. Credentials are found once, and shared with their token."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self._lock = threading.Lock()
        self._credentials: Any = None

    def open(self) -> grpc.Channel:
        """A channel, not connected yet. Raises `BrokerRefused` and `ConfigurationError` for what is wrong with credentials."""
        target = self.target
        silence = round(1_000 * target.options.keepalive)
        # A peer that vanished without a farewell is noticed after the first two.
        # Without the last the library waits for a minute.
        answer = min(silence, _ANSWER)
        keepalive = (
            ("grpc.keepalive_time_ms", silence),
            ("grpc.keepalive_timeout_ms", answer),
            ("grpc.http2.ping_timeout_ms", answer),
        )
        if target.emulated:
            return grpc.insecure_channel(target.address, options=(*_OPTIONS, *keepalive, ("grpc.enable_http_proxy", 0)))
        with self._lock:
            if self._credentials is None:
                self._credentials = self._find_credentials()
        return grpc_helpers.create_channel(
            target.address,
            credentials=self._credentials,
            ssl_credentials=grpc.ssl_channel_credentials(root_certificates=self._authorities()),
            default_scopes=_SCOPES,
            options=(*_OPTIONS, *keepalive),
        )

    def _authorities(self) -> bytes | None:
        path = self.target.options.ca
        if not path:
            return None
        try:
            return Path(path).expanduser().read_bytes()
        except OSError as error:
            raise ConfigurationError(f"{self.target.url}: ca: cannot read {path}: {error.strerror}") from error

    def _find_credentials(self) -> Any:
        text = self.target.options.credentials
        if not text:
            try:
                found, _ = _auth.default(scopes=_SCOPES)
            except exceptions.DefaultCredentialsError as error:
                raise BrokerRefused(
                    f"{self.target.url}: there are no credentials in the environment",
                    remedy="give a service account with ?credentials=file:PATH, or run 'gcloud auth application-default login'",
                ) from error
            return found
        try:
            # Tokens are signed here: no other server has to be reached to get one.
            return _accounts.from_service_account_info(json.loads(text), scopes=_SCOPES, always_use_jwt_access=True)
        except (ValueError, exceptions.GoogleAuthError):
            # Without its cause, which may quote the key.
            raise ConfigurationError(
                f"{self.target.url}: credentials: not the key file of a service account",
                remedy="write it as ?credentials=file:PATH; other kinds are found by GOOGLE_APPLICATION_CREDENTIALS",
            ) from None
