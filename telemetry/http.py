"""``/metrics`` (Prometheus), ``/live``, ``/ready`` and ``/api/v1/status`` on loopback."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from prometheus_client import CollectorRegistry, generate_latest

_TEXT = "text/plain; charset=utf-8"
_METRICS = "text/plain; version=0.0.4; charset=utf-8"


class StatusServer:
    """Serves a process's metrics and health until closed. Port 0 takes a free one; see `port`."""

    def __init__(
        self,
        registry: CollectorRegistry,
        *,
        ready: Callable[[], bool],
        status: Callable[[], Mapping[str, Any]],
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        def answer(path: str) -> tuple[int, str, bytes]:
            match path:
                case "/metrics":
                    return 200, _METRICS, generate_latest(registry)
                case "/live":
                    return 200, _TEXT, b"live\n"
                case "/ready":
                    return (200, _TEXT, b"ready\n") if ready() else (503, _TEXT, b"not ready\n")
                case "/api/v1/status":
                    return 200, "application/json", json.dumps(dict(status())).encode() + b"\n"
            return 404, _TEXT, b"one of /metrics /live /ready /api/v1/status\n"

        class Handler(BaseHTTPRequestHandler):
            timeout = 10

            def do_GET(self) -> None:
                code, kind, body = answer(self.path.partition("?")[0])
                self.send_response(code)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
                """Requests are not worth a line of log."""

        self._server = ThreadingHTTPServer((host, port), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="status-http", daemon=True)
        self._thread.start()

    @property
    def port(self) -> int:
        return int(self._server.server_address[1])

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=5)
