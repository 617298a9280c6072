"""Kafka's programs."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.servers.packages import maven
from tests.servers.process import ServerFailed, ServerProcess

#: The id of a cluster, as its storage is made with.
CLUSTER: Final = "MkU3OEVBNTcwNTJENDM2Qg"
_HERE: Final = Path(__file__).parent


def java(memory: str) -> list[str]:
    """The command before the name of a class. Raises `ServerFailed`."""
    jars = maven("kafka", _HERE / "pom.xml")
    # C1 alone starts sooner, and a test's server does not live long enough for more.
    flags = [f"-Xmx{memory}", "-Xms64m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xshare:auto"]
    return ["java", *flags, "-cp", f"{jars}/*", f"-Dlog4j2.configurationFile={_HERE / 'log4j2.xml'}"]


class LoggedServer(ServerProcess):
    """Ready when its log says so: its ports are open earlier."""

    def __init__(self, name: str, command: Sequence[str], directory: Path) -> None:
        super().__init__(name, command, directory=directory, ready=self._started)
        self._said = 0

    def start(self) -> None:
        # Every start appends to the log.
        self._said = self.log.stat().st_size if self.log.exists() else 0
        super().start()

    def _started(self) -> bool:
        with self.log.open("rb") as log:
            log.seek(self._said)
            return b"Kafka Server started" in log.read()


def run(directory: Path, *arguments: str) -> None:
    """Run a program to its end. Raises `ServerFailed`."""
    done = subprocess.run([*java("256m"), *arguments], cwd=directory, capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        raise ServerFailed(f"{arguments[0]} failed: {(done.stderr or done.stdout)[-2000:]}")
