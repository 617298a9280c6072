"""The grid on one broker: its server, a gateway's agent, and the processing, each a process."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import msgspec

from benchmarks.round_trips.cells import Cell, Outcome
from benchmarks.round_trips.processing import BROKER
from benchmarks.servers import running

#: Seconds in which a next outcome has to come, beside those of a cell.
_PATIENCE: Final = 90.0

GATEWAY: Final = """\
[gateway]
id = "bench"
site = "bench"
data_dir = "{folder}/gateway"

[transports.main]
url = "${{{variable}}}"

[applications.grid]
driver = "benchmarks.round_trips.driver:GridDriver"

[applications.grid.settings]
seconds = {seconds}
out = "{folder}/outcomes"
cells = [{cells}]
"""


def run(broker: str, cells: Sequence[Cell], *, seconds: float, tell: Callable[[Outcome], None]) -> list[Outcome]:
    """Outcomes of all ``cells``, in their order; ``tell`` is given each when it is there.

    Raises `ServerFailed`, and `TimeoutError` with the end of the processes' log.
    """
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="iotcloud-grid-")))
        url = stack.enter_context(running(broker, folder))
        written = ", ".join(f"{{ size = {cell.size}, rate = {cell.rate}, clients = {cell.clients} }}" for cell in cells)
        text = GATEWAY.format(folder=folder, variable=BROKER, seconds=float(seconds), cells=written)
        (folder / "gateway.toml").write_text(text)
        log = folder / "log"
        topic = ("bench.grid.blob", "bench")
        processes = (
            stack.enter_context(_process(log, url, "benchmarks.round_trips.processing", *topic)),
            stack.enter_context(_process(log, url, "gateway_agent", "run", str(folder / "gateway.toml"))),
        )
        found: list[Outcome] = []
        until = time.monotonic() + _PATIENCE
        while len(found) < len(cells):
            for outcome in _outcomes(folder / "outcomes")[len(found) :]:
                found.append(outcome)
                tell(outcome)
                until = time.monotonic() + _PATIENCE + seconds
            if time.monotonic() > until or any(process.poll() is not None for process in processes):
                raise TimeoutError(f"{broker}: no outcome of a cell: {log.read_text(errors='replace')[-3000:]}")
            time.sleep(0.05)
        return found


def _outcomes(path: Path) -> list[Outcome]:
    """Those of the whole lines of a file."""
    lines = path.read_bytes().split(b"\n")[:-1] if path.exists() else []
    return [msgspec.json.decode(line, type=Outcome) for line in lines]


@contextmanager
def _process(log: Path, url: str, *module: str) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("ab") as file:
        process = subprocess.Popen([sys.executable, "-m", *module], stdout=file, stderr=file, env={**os.environ, BROKER: url})
    try:
        yield process
    finally:
        process.terminate()
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def as_row(broker: str, outcome: Outcome) -> dict[str, object]:
    """For the results."""
    fields: dict[str, object] = msgspec.to_builtins(outcome)
    cell = fields.pop("cell")
    assert isinstance(cell, dict)
    return {"broker": broker, **cell, **fields}
