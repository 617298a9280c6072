"""Listening: the socket, uvicorn on it, and telling scripts where it is."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import os
import signal
import socket
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Final

import uvicorn

from master.app import make_app
from master.config import Config, credentials
from master.gate import Gate
from master.protocol import DeadlineProtocol
from master.store.database import Database
from schemas import rpc
from schemas.errors import ConfigurationError
from telemetry.logs import logger

#: Connections at once; more are answered 503.
MAX_CONNECTIONS: Final = 10_000
_DRAIN_SECONDS: Final = 5


class _Server(uvicorn.Server):
    """Tells when it listens and when it is asked to stop, and ends by returning, not by the signal."""

    def __init__(self, config: uvicorn.Config, *, started: Callable[[], None], stopping: Callable[[], None]) -> None:
        super().__init__(config)
        self._started = started
        self._stopping = stopping

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._started()

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        super().handle_exit(sig, frame)
        self._stopping()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def serve(config: Config) -> None:
    """Run a master until SIGTERM or SIGINT. Raises `ConfigurationError` and `master.store.database.StoreError`."""
    terms, kept = config.terms, config.commands_kept
    with _owned(config.directory), contextlib.closing(_listen(config)) as listening:
        let_in = credentials(config)
        url = _url(config, listening)
        database = Database(config.database_url)
        try:
            app = make_app(database, terms, let_in, keep_commands=kept)
            server = _Server(
                _uvicorn(app, config),
                started=lambda: _tell(url, config.url_file),
                stopping=app.stop,
            )
            asyncio.run(server.serve(sockets=[listening]))
        finally:
            database.close()
    logger("master").info("stopped")


def _uvicorn(app: Gate, config: Config) -> uvicorn.Config:
    tls = {"ssl_certfile": config.tls.certificate, "ssl_keyfile": config.tls.key} if config.tls else {}
    made = uvicorn.Config(
        app,
        http=DeadlineProtocol,
        ws="websockets-sansio",
        ws_max_size=rpc.MAX_MESSAGE_BYTES,
        ws_ping_interval=20.0,
        ws_ping_timeout=20.0,
        lifespan="on",
        log_config=None,
        access_log=False,
        proxy_headers=False,
        server_header=False,
        limit_concurrency=MAX_CONNECTIONS,
        timeout_graceful_shutdown=_DRAIN_SECONDS,
        h11_max_incomplete_event_size=64 * 1024,
        **tls,  # type: ignore[arg-type]
    )
    try:
        made.load()
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(f"TLS: {error}", remedy="give a certificate and its key in PEM form") from error
    return made


def _listen(config: Config) -> socket.socket:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM)[0]
        listening = socket.socket(family, kind, protocol)
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
    except OSError as error:
        raise ConfigurationError(
            f"cannot listen on {config.host}:{config.port}: {error.strerror}", remedy="--port 0 takes a free one"
        ) from error
    return listening


def _url(config: Config, listening: socket.socket) -> str:
    host = f"[{config.host}]" if ":" in config.host else config.host
    return f"{'https' if config.tls else 'http'}://{host}:{listening.getsockname()[1]}"


def _tell(url: str, file: str) -> None:
    logger("master").info("listening", url=url)
    if file:
        path = Path(file)
        draft = path.with_name(path.name + ".draft")
        draft.write_text(url + "\n", encoding="utf-8")
        draft.replace(path)


@contextlib.contextmanager
def _owned(directory: Path) -> Iterator[None]:
    """The data directory for this process alone: two masters would judge leases against each other."""
    try:
        directory.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(directory / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigurationError(
            f"--data {directory}: {error.strerror}", remedy="give a directory that may be written"
        ) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise ConfigurationError(
                f"--data {directory}: another master runs on it", remedy="stop it, or give this one a directory of its own"
            ) from error
        yield
    finally:
        os.close(descriptor)
