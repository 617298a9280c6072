"""Finding and starting Prism, the embedded streaming runner, so that it never outlives its job."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from apache_beam.version import __version__ as beam_version

from pipelines.runners import tether
from schemas.errors import ConfigurationError, IoTCloudError
from telemetry.logs import logger

#: Without it Prism splits slow bundles in the middle of a key and loses state updates.
EXPERIMENTS: Final = ("prism_disable_sdf_split",)
#: Names a Prism binary of one's own.
VARIABLE: Final = "IOTCLOUD_PRISM"
#: Changes with the way in which ``./dev`` makes it; the same stands there.
_BUILD: Final = 2
_START_SECONDS: Final = 20.0
_STOP_SECONDS: Final = 3.0


class PrismFailed(IoTCloudError):
    """Prism did not start, or ended before its time."""


def find_prism(given: str | None = None, environment: Mapping[str, str] | None = None) -> Path:
    """The Prism binary: ``given``, that of the variable `VARIABLE`, in the cache, or on PATH.

    Raises `ConfigurationError` that says how to get one.
    """
    environment = os.environ if environment is None else environment
    for said, named in (("--prism_location", given), (VARIABLE, environment.get(VARIABLE))):
        if named:
            path = Path(named).expanduser()
            if not (path.is_file() and os.access(path, os.X_OK)):
                raise ConfigurationError(f"{said} {named}: no program is there", remedy="give the path of the Prism binary")
            return path.resolve()
    on_path = shutil.which("prism", path=environment.get("PATH"))
    candidates = [cached_prism(environment), *([Path(on_path)] if on_path else [])]
    for path in candidates:
        if path.is_file() and os.access(path, os.X_OK):
            return path.resolve()
    raise ConfigurationError(
        f"Prism {beam_version}, the embedded streaming runner, was not found: not on PATH, not at {candidates[0]}",
        remedy="run './dev demo' once, which gets or builds it, or"
        f" 'go install github.com/apache/beam/sdks/v2/go/cmd/prism@v{beam_version}', and pass --prism_location PATH",
    )


def cached_prism(environment: Mapping[str, str]) -> Path:
    """Where the binary of this Beam's version is kept."""
    cache = environment.get("XDG_CACHE_HOME") or str(Path(environment.get("HOME", "~")).expanduser() / ".cache")
    return Path(cache) / "iotcloud" / f"prism-{beam_version}-{_BUILD}" / "prism"


@contextmanager
def running_prism(binary: Path, *, log_level: str = "warn") -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Run Prism; gives its job endpoint and its process. It is killed when this process dies, however it dies.

    Must be entered from the main thread: the kernel's death signal follows the thread. Raises `PrismFailed`.
    """
    port = _free_port()
    command = [str(binary), "--job_port", str(port), "--serve_http=false", "--log_level", log_level, "--log_kind", "json"]
    tethered = [sys.executable, tether.__file__, str(os.getpid()), *command]
    # In a group of its own: Ctrl-C is the job's to answer, and Prism must live until the job has drained.
    process = subprocess.Popen(tethered, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, process_group=0)
    assert process.stdout is not None
    last = _Tail(process.stdout)
    try:
        _wait_for(process, port, last)
        yield f"localhost:{port}", process
    finally:
        _stop(process)
        last.join()


class _Tail:
    """Reads what Prism writes, so that it never blocks, logs warnings and keeps the last lines for an error."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.lines: list[str] = []
        self._thread = threading.Thread(target=self._read, name="prism-log", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        log = logger("prism")
        for raw in self._stream:
            line = raw.decode(errors="replace").rstrip()
            self.lines = [*self.lines[-9:], line]
            log.debug("prism", line=line)

    def join(self) -> None:
        self._thread.join(timeout=1)


def _wait_for(process: subprocess.Popen[bytes], port: int, tail: _Tail) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while time.monotonic() < deadline:
        if process.poll() is not None:
            tail.join()
            raise PrismFailed(f"Prism ended at once with {process.returncode}: " + " | ".join(tail.lines))
        try:
            with socket.create_connection(("localhost", port), timeout=1):
                return
        except OSError:
            time.sleep(0.02)
    raise PrismFailed(f"Prism did not answer on port {port} within {_START_SECONDS:g} s")


def _stop(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
    process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        return int(probe.getsockname()[1])
